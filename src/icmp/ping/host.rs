//! One host that is pinged: what was sent to it, and what a reply must be
//! like to count as one.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::super::message::{Message, stamped_at};
use crate::ping::record::{Heard, Ping, Record};
use crate::stats::ms;

pub struct Host {
    /// As the user wrote it.
    pub name: String,
    pub address: SocketAddr,
    /// Our own address towards it.
    pub local: IpAddr,
    /// Of our requests to it; 0 until the socket is open.
    pub identifier: u16,
    /// The data of a request, but for its beginning, the mark.
    blank: Vec<u8>,
    pub record: Record,
    /// Times that ICMP said what became of a request.
    pub errors: u64,
    /// Replies that were none: a wrong checksum, other data, …
    pub bad: u64,
}

/// What a message that looks like a reply of this host is.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// A reply, to be counted as the record says.
    Good(Heard),
    /// None, and why.
    Bad(String),
}

impl Host {
    /// `blank` is the data of its requests, without the time.
    pub fn new(
        name: String,
        address: SocketAddr,
        local: IpAddr,
        blank: Vec<u8>,
    ) -> Host {
        Host {
            name,
            address,
            local,
            identifier: 0,
            blank,
            record: Record::default(),
            errors: 0,
            bad: 0,
        }
    }

    /// The data of a request, which begin with this mark.
    pub fn data(&self, mark: &[u8]) -> Vec<u8> {
        let mut data = self.blank.clone();
        let room = mark.len().min(data.len());
        data[..room].copy_from_slice(&mark[..room]);
        data
    }

    /// Does a message from there come from this host? A group's members
    /// answer each from its own address.
    pub fn answers_from(&self, from: &IpAddr) -> bool {
        let own = self.address.ip();
        own == *from || own.is_multicast()
    }

    /// The number of the ping that the 16 bits on the wire stand for: the
    /// last one that ends in them.
    pub fn sequence(&self, on_the_wire: u16) -> u64 {
        let last = self.record.sent;
        let behind = (last as u16).wrapping_sub(on_the_wire);
        last.saturating_sub(u64::from(behind))
    }

    /// Was this sent to this host, by sequence number and data?
    pub fn asked(&self, message: &Message) -> bool {
        let ping = self.record.ping(self.sequence(message.sequence()));
        ping.is_some_and(|ping| {
            message.data.starts_with(&ping.mark)
                && message.data.len() == self.blank.len()
        })
    }

    /// It is no reply, and why.
    pub fn refuse(&mut self, why: &str) -> Verdict {
        self.bad += 1;
        Verdict::Bad(why.into())
    }

    /// Sequence number and data must be those of a request. `at` is when
    /// the kernel had it.
    pub fn judge(
        &mut self,
        message: &Message,
        at: Option<u64>,
        now: Instant,
    ) -> Verdict {
        let sequence = self.sequence(message.sequence());
        let Some(ping) = self.record.ping(sequence) else {
            return self.refuse("this was never sent");
        };
        if let Some(fault) = wrong_data(&self.data(&ping.mark), message.data) {
            return self.refuse(&fault);
        }
        let rtt = ms(round_trip(ping, at, now));
        Verdict::Good(self.record.answer(sequence, rtt))
    }

    /// The same for a reply to a timestamp query, whose data are otime,
    /// rtime and ttime: the first, the mark, must be ours.
    pub fn judge_timestamp(
        &mut self,
        message: &Message,
        now: Instant,
    ) -> Verdict {
        let sequence = self.sequence(message.sequence());
        let asked = self.record.ping(sequence);
        let same = |p: &&Ping| message.data.starts_with(&p.mark);
        let Some(ping) = asked.filter(same) else {
            return self.refuse("this was never asked");
        };
        if message.data.len() < self.blank.len() {
            return self.refuse("truncated");
        }
        let rtt = ms(now.saturating_duration_since(ping.sent));
        Verdict::Good(self.record.answer(sequence, rtt))
    }
}

/// From the time stamp in the data to the kernel's. Both are of the system's
/// clock, which may have been set in between: what does not lie between 0
/// and the time by the monotonic clock is not believed.
fn round_trip(ping: &Ping, at: Option<u64>, now: Instant) -> Duration {
    let most = now.saturating_duration_since(ping.sent);
    at.zip(stamped_at(&ping.mark))
        .and_then(|(at, sent)| at.checked_sub(sent))
        .map(Duration::from_nanos)
        .filter(|time| *time <= most)
        .unwrap_or(most)
}

/// How the data that came differ from those that were sent.
fn wrong_data(sent: &[u8], came: &[u8]) -> Option<String> {
    if came.len() < sent.len() {
        let (came, sent) = (came.len(), sent.len());
        return Some(format!("truncated: {came} of {sent} octets of data"));
    }
    let at = sent.iter().zip(came).position(|(a, b)| a != b);
    if let Some(at) = at {
        let (was, should) = (came[at], sent[at]);
        return Some(format!(
            "wrong data byte #{at} should be 0x{should:x} but was 0x{was:x}"
        ));
    }
    let more = came.len() - sent.len();
    (more > 0).then(|| format!("{more} octets more than were sent"))
}

#[cfg(test)]
mod tests {
    use super::super::super::message::{payload, time_stamp};
    use super::*;

    fn stamped() -> Vec<u8> {
        let mut data = payload(16);
        data[..8].copy_from_slice(&time_stamp(1_000, 16));
        data
    }

    fn host(data: Vec<u8>, sent: Instant) -> Host {
        let address = "192.0.2.1:0".parse().unwrap();
        let local = "192.0.2.2".parse().unwrap();
        let mark = data[..data.len().min(8)].to_vec();
        let mut host = Host::new("h".into(), address, local, data);
        host.record.sent(1, mark, sent);
        host
    }

    fn reply(sequence: u16, data: &[u8]) -> Message<'_> {
        let [a, b] = sequence.to_be_bytes();
        let rest = [0, 0, a, b];
        Message { kind: 0, code: 0, checksum: 0, rest, data }
    }

    #[test]
    fn what_counts_as_a_reply() {
        let sent = Instant::now();
        let data = stamped();
        let mut host = host(data.clone(), sent);
        let now = sent + Duration::from_millis(5);
        let mut bad = |sequence, data: &[u8]| match host.judge(
            &reply(sequence, data),
            Some(2_000),
            now,
        ) {
            Verdict::Bad(fault) => fault,
            Verdict::Good(heard) => panic!("{heard:?}"),
        };
        assert_eq!(bad(2, &data), "this was never sent");
        assert_eq!(bad(1, &data[..8]), "truncated: 8 of 16 octets of data");
        let long = [&data[..], b"xx"].concat();
        assert_eq!(bad(1, &long), "2 octets more than were sent");
        let mut other = data.clone();
        other[15] = 0;
        let fault = "wrong data byte #15 should be 0xf but was 0x0";
        assert_eq!(bad(1, &other), fault);
        assert_eq!((host.bad, host.record.answered), (4, 0));
        let good = host.judge(&reply(1, &data), Some(2_000), now);
        let expected = Heard::Answer { sequence: 1, rtt: 0.001, behind: false };
        assert_eq!(good, Verdict::Good(expected));
    }

    #[test]
    fn a_clock_that_was_set_gives_no_nonsense() {
        let sent = Instant::now();
        let now = sent + Duration::from_millis(5);
        // back before the sending; and an hour ahead; no stamp at all
        for at in [Some(10), Some(3_600_000_000_000), None] {
            let mut host = host(stamped(), sent);
            let data = stamped();
            let heard = host.judge(&reply(1, &data), at, now);
            let rtt = match heard {
                Verdict::Good(Heard::Answer { rtt, .. }) => rtt,
                other => panic!("{other:?}"),
            };
            assert!((rtt - 5.0).abs() < 1e-9, "{at:?}: {rtt}");
        }
    }

    #[test]
    fn sequence_numbers_wrap_around() {
        let mut host = host(Vec::new(), Instant::now());
        host.record.sent = 65_540;
        assert_eq!(host.sequence(4), 65_540);
        assert_eq!(host.sequence(65_535), 65_535);
        host.record.sent = 3;
        assert_eq!(host.sequence(9), 0, "none of ours");
    }
}
