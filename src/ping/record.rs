//! What became of each ping: answered in time, late, twice, or not at all.
//! `icmp-ping` keeps its books here, too.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::stats::{Estimator, Rtts};

/// Answers to pings older than this many are strangers' for all we know.
const REMEMBERED: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Waiting,
    Answered,
    TimedOut,
}

pub struct Ping {
    pub sent: Instant,
    /// What tells its answers from others; not all of what was sent, which
    /// may be long.
    pub mark: Vec<u8>,
    fate: Fate,
    answers: u32,
}

/// What a datagram is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Heard {
    /// The answer to a ping, so many milliseconds after it; `behind`: to an
    /// earlier ping than an answer before it.
    Answer { sequence: u64, rtt: f64, behind: bool },
    /// The answer to one that had been given up.
    Late { sequence: u64, rtt: f64 },
    /// One more answer.
    Duplicate { sequence: u64, rtt: f64 },
    /// No answer to anything that was asked.
    Stranger,
}

/// All pings of a run. They are numbered one after the other.
#[derive(Default)]
pub struct Record {
    pings: VecDeque<Ping>,
    /// The number of the first of them.
    first: u64,
    /// No earlier one is waited for.
    oldest: u64,
    waiting: u64,
    highest: u64,
    pub sent: u64,
    /// In time.
    pub answered: u64,
    pub late: u64,
    pub duplicates: u64,
    pub reordered: u64,
    pub strangers: u64,
    pub rtts: Rtts,
    pub estimator: Estimator,
}

impl Record {
    pub fn sent(&mut self, sequence: u64, mark: Vec<u8>, now: Instant) {
        let fate = Fate::Waiting;
        let ping = Ping { sent: now, mark, fate, answers: 0 };
        if self.pings.is_empty() {
            (self.first, self.oldest) = (sequence, sequence);
        }
        self.pings.push_back(ping);
        self.waiting += 1;
        self.sent += 1;
        let oldest = self.oldest().unwrap_or(sequence);
        while self.pings.len() > REMEMBERED && self.first < oldest {
            self.pings.pop_front();
            self.first += 1;
        }
    }

    /// One that was sent, unless that is long ago.
    pub fn ping(&self, sequence: u64) -> Option<&Ping> {
        let place = sequence.checked_sub(self.first)?;
        self.pings.get(place as usize)
    }

    fn ping_mut(&mut self, sequence: u64) -> Option<&mut Ping> {
        let place = sequence.checked_sub(self.first)?;
        self.pings.get_mut(place as usize)
    }

    /// The number of the oldest that is waited for.
    fn oldest(&mut self) -> Option<u64> {
        while self.ping(self.oldest)?.fate != Fate::Waiting {
            self.oldest += 1;
        }
        Some(self.oldest)
    }

    /// The pings that have waited as long as they may, given up now.
    pub fn expire(&mut self, now: Instant, patience: Duration) -> Vec<u64> {
        let mut expired = Vec::new();
        while self.next_expiry(patience).is_some_and(|due| due <= now) {
            expired.extend(self.refuse());
        }
        expired
    }

    /// ICMP says that nobody takes our pings: the oldest that is waited for
    /// need not wait longer.
    pub fn refuse(&mut self) -> Option<u64> {
        let sequence = self.oldest()?;
        self.give_up(sequence).then_some(sequence)
    }

    /// Nothing more is expected of this one. True: it was waited for.
    pub fn give_up(&mut self, sequence: u64) -> bool {
        match self.ping_mut(sequence) {
            Some(ping) if ping.fate == Fate::Waiting => {
                ping.fate = Fate::TimedOut;
                self.waiting -= 1;
                true
            }
            _ => false,
        }
    }

    /// When the next one is to be given up.
    pub fn next_expiry(&mut self, patience: Duration) -> Option<Instant> {
        let oldest = self.oldest()?;
        self.ping(oldest).map(|ping| ping.sent + patience)
    }

    /// Is a ping neither answered nor given up?
    pub fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// A good answer to this ping, so many milliseconds after it.
    pub fn answer(&mut self, sequence: u64, rtt: f64) -> Heard {
        let Some(ping) = self.ping_mut(sequence) else {
            self.strangers += 1;
            return Heard::Stranger;
        };
        ping.answers += 1;
        match (ping.answers, ping.fate) {
            (2.., _) => {
                self.duplicates += 1;
                Heard::Duplicate { sequence, rtt }
            }
            (_, Fate::TimedOut) => {
                self.late += 1;
                Heard::Late { sequence, rtt }
            }
            _ => {
                ping.fate = Fate::Answered;
                let behind = sequence < self.highest;
                self.highest = self.highest.max(sequence);
                self.waiting -= 1;
                self.answered += 1;
                self.reordered += u64::from(behind);
                self.rtts.take(rtt);
                self.estimator.take(rtt);
                Heard::Answer { sequence, rtt, behind }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_becomes_of_pings() {
        let (mut record, start) = (Record::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for i in 0..4 {
            record.sent(i, Vec::new(), start);
        }
        let answer =
            |sequence, rtt, behind| Heard::Answer { sequence, rtt, behind };
        assert_eq!(record.answer(2, 10.0), answer(2, 10.0, false));
        assert_eq!(record.answer(1, 20.0), answer(1, 20.0, true));
        let twice = Heard::Duplicate { sequence: 1, rtt: 30.0 };
        assert_eq!(record.answer(1, 30.0), twice);
        assert_eq!(record.next_expiry(SECOND), Some(start + SECOND));
        assert_eq!(record.expire(at(999), SECOND), [0; 0]);
        assert_eq!(record.expire(at(1000), SECOND), [0, 3]);
        assert!(!record.is_waiting());
        let late = Heard::Late { sequence: 0, rtt: 1500.0 };
        assert_eq!(record.answer(0, 1500.0), late);
        let twice = Heard::Duplicate { sequence: 0, rtt: 1600.0 };
        assert_eq!(record.answer(0, 1600.0), twice);
        assert_eq!(record.answer(9, 1.0), Heard::Stranger);
        assert_eq!((record.answered, record.late), (2, 1));
        assert_eq!((record.duplicates, record.strangers), (2, 1));
        assert_eq!(record.reordered, 1);
        assert_eq!(record.rtts.summary().map(|s| s.max), Some(20.0));
    }

    #[test]
    fn long_runs_forget_what_is_decided_and_nothing_else() {
        let mut record = Record::default();
        let start = Instant::now();
        record.sent(1, Vec::new(), start);
        for n in 2..=20_000 {
            record.sent(n, Vec::new(), start);
            let answer = record.answer(n, 1.0);
            assert!(matches!(answer, Heard::Answer { .. }), "number {n}");
        }
        assert_eq!(record.expire(start + SECOND, SECOND), [1]);
        for n in 20_001..=40_000 {
            record.sent(n, Vec::new(), start);
            record.answer(n, 1.0);
        }
        assert_eq!(record.pings.len(), REMEMBERED);
        record.sent(40_001, Vec::new(), start);
        assert!(record.ping(40_001).is_some() && record.is_waiting());
    }

    #[test]
    fn what_is_given_up_is_late_when_it_comes() {
        let mut record = Record::default();
        record.sent(1, Vec::new(), Instant::now());
        record.sent(2, Vec::new(), Instant::now());
        assert!(record.give_up(2) && !record.give_up(2));
        assert_eq!(record.refuse(), Some(1));
        assert_eq!(record.refuse(), None);
        let late = Heard::Late { sequence: 2, rtt: 1.0 };
        assert_eq!(record.answer(2, 1.0), late);
        assert_eq!(record.rtts.summary(), None);
    }
}
