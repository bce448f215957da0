//! What the server knows of one client: whether it is there, and how its
//! heartbeats came.
//!
//! No clock is read and nothing printed here: times come in, events go out.

use std::time::{Duration, Instant};

use super::message::Heartbeat;
use crate::stats::ms;

/// Sequence numbers behind the highest that are remembered: 64 bits.
const WINDOW: u32 = 64;

/// Symbols of a line of text.
pub const LINE: usize = 60;

/// For so long, and up to twice that, a least difference counts.
const PERIOD: Duration = Duration::from_secs(300);

/// More losses in a row are not drawn one by one.
const MAX_DRAWN: u32 = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Up,
    /// Silent for too long.
    Down,
    /// It said goodbye.
    Gone,
}

/// What is worth a line of output.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It is there again, after so long.
    Up {
        outage: Duration,
    },
    Down {
        silence: Duration,
    },
    /// Another session number: it was started again.
    Restarted {
        silence: Duration,
    },
    Goodbye,
    /// Its clock was set, by so many milliseconds.
    ClockSet {
        by: f64,
    },
}

/// How heartbeats came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub heard: u64,
    pub lost: u64,
    pub duplicates: u64,
    pub reordered: u64,
    pub late: u64,
}

/// When something arrived: by a clock that nobody sets, and as nanoseconds
/// since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub at: Instant,
    pub wall: u64,
}

pub struct Client {
    pub state: State,
    pub session: u64,
    /// Of the run before: what is still on its way does not count.
    earlier: Option<u64>,
    pub interval: Duration,
    /// The last arrival, and the time stamp that came with it.
    last: Arrival,
    stamp: u64,
    highest: u32,
    /// Which of the numbers below the highest have come; bit 0 is itself.
    seen: u64,
    /// What is missing now is our own fault.
    excused: bool,
    pub counts: Counts,
    /// Heartbeats of this session.
    pub session_heard: u64,
    /// Arrival minus time stamp, in milliseconds: the delay and the offset of
    /// the clocks together, which no one-way datagram can tell apart.
    pub difference: f64,
    /// The least of this period, and of the one before: clocks drift, so no
    /// least is good for ever.
    least: f64,
    least_before: f64,
    period: Instant,
    /// A line of text that is not full yet.
    pub line: String,
}

fn difference(arrival: Arrival, stamp: u64) -> f64 {
    (i128::from(arrival.wall) - i128::from(stamp)) as f64 / 1e6
}

impl Client {
    /// One that is heard for the first time.
    pub fn new(heartbeat: &Heartbeat, arrival: Arrival) -> Client {
        let difference = difference(arrival, heartbeat.stamp);
        Client {
            state: State::Up,
            session: heartbeat.session,
            earlier: None,
            interval: heartbeat.interval,
            last: arrival,
            stamp: heartbeat.stamp,
            highest: heartbeat.sequence,
            seen: 1,
            excused: false,
            counts: Counts { heard: 1, ..Counts::default() },
            session_heard: 1,
            difference,
            least: difference,
            least_before: difference,
            period: arrival.at,
            line: ".".into(),
        }
    }

    /// What the difference is over the least that was seen. The offset of
    /// the clocks is in both, so this is delay alone, as long as nobody sets
    /// a clock.
    pub fn variation(&self) -> f64 {
        self.difference - self.least.min(self.least_before)
    }

    /// When its silence will have lasted too long: after the "agreed
    /// transmit interval", multiplied. RFC 5880 §6.8.4
    pub fn deadline(&self, multiplier: u32) -> Option<Instant> {
        let up = self.state == State::Up;
        up.then(|| self.last.at + self.interval * multiplier)
    }

    /// How long nothing was heard of it.
    pub fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last.at)
    }

    /// Its silence has lasted too long.
    pub fn goes_down(&mut self, now: Instant) -> Event {
        self.state = State::Down;
        Event::Down { silence: self.silence(now) }
    }

    /// We ourselves stood still for so long: that is not its silence, and
    /// what was missed meanwhile, if it was much, is not its loss.
    pub fn excuse(&mut self, stood: Duration, much: bool) {
        if self.state == State::Up {
            self.last.at += stood;
            self.excused |= much;
        }
    }

    /// Takes a heartbeat.
    pub fn take(
        &mut self,
        heartbeat: &Heartbeat,
        arrival: Arrival,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        if self.earlier == Some(heartbeat.session) {
            return events;
        }
        let silence = self.silence(arrival.at);
        if heartbeat.session != self.session {
            self.restart(heartbeat, arrival);
            events.push(Event::Restarted { silence });
            if !heartbeat.goodbye {
                return events;
            }
        }
        if heartbeat.goodbye {
            if self.state != State::Gone {
                // its number is that of the last heartbeat
                let missing = heartbeat.sequence.saturating_sub(self.highest);
                self.lose(missing);
                events.push(Event::Goodbye);
            }
            self.state = State::Gone;
            return events;
        }
        if self.state == State::Gone {
            return events; // overtaken by its goodbye
        }
        if self.state == State::Down {
            self.state = State::Up;
            events.push(Event::Up { outage: silence });
        }
        events.extend(self.clock_set(heartbeat, arrival));
        self.count(heartbeat, arrival);
        self.last.at = self.last.at.max(arrival.at);
        self.interval = heartbeat.interval;
        events
    }

    fn restart(&mut self, heartbeat: &Heartbeat, arrival: Arrival) {
        let (mut counts, line) = (self.counts, std::mem::take(&mut self.line));
        let earlier = Some(self.session);
        *self = Client::new(heartbeat, arrival);
        if heartbeat.goodbye {
            (self.session_heard, self.line) = (0, line);
        } else {
            counts.heard += 1;
            self.line = line + ".";
        }
        (self.counts, self.earlier) = (counts, earlier);
    }

    fn lose(&mut self, missing: u32) {
        let missing = if self.excused { 0 } else { missing };
        self.excused = false;
        self.counts.lost += u64::from(missing);
        self.draw('x', missing.min(MAX_DRAWN));
    }

    /// Was the client's clock set? Then its time stamps jump while its
    /// heartbeats come as before. The least difference is learnt anew.
    fn clock_set(
        &mut self,
        heartbeat: &Heartbeat,
        arrival: Arrival,
    ) -> Option<Event> {
        let steps = heartbeat.sequence.checked_sub(self.highest)?;
        if steps == 0 {
            return None;
        }
        let between = |a: u64, b: u64| (i128::from(a) - i128::from(b)) as f64;
        let stamps = between(heartbeat.stamp, self.stamp) / 1e6;
        let arrivals = between(arrival.wall, self.last.wall) / 1e6;
        let interval = ms(self.interval);
        // (as slow as it may be, and another half of that)
        let plausible = 0.0..=interval * (f64::from(steps) + 0.5);
        let by = stamps - arrivals;
        if plausible.contains(&stamps) || by.abs() <= interval {
            return None;
        }
        self.least = difference(arrival, heartbeat.stamp);
        self.least_before = self.least;
        Some(Event::ClockSet { by })
    }

    /// In time, late, lost before it, out of order, or twice.
    fn count(&mut self, heartbeat: &Heartbeat, arrival: Arrival) {
        let sequence = heartbeat.sequence;
        let Some(steps) = sequence.checked_sub(self.highest) else {
            return self.count_behind(sequence);
        };
        if steps == 0 {
            self.counts.duplicates += 1;
            return self.draw('2', 1);
        }
        self.lose(steps - 1);
        self.seen = self.seen.checked_shl(steps).unwrap_or(0) | 1;
        self.highest = sequence;
        self.stamp = heartbeat.stamp;
        self.last.wall = arrival.wall;
        self.difference = difference(arrival, heartbeat.stamp);
        if arrival.at.saturating_duration_since(self.period) > PERIOD {
            self.least_before = self.least;
            self.least = self.difference;
            self.period = arrival.at;
        }
        self.least = self.least.min(self.difference);
        self.counts.heard += 1;
        self.session_heard += 1;
        if self.variation() > ms(self.interval) {
            self.counts.late += 1;
            self.draw('<', 1);
        } else {
            self.draw('.', 1);
        }
    }

    /// A number below the highest: it was overtaken, or is a copy.
    fn count_behind(&mut self, sequence: u32) {
        let behind = self.highest - sequence;
        let bit = 1u64.checked_shl(behind).unwrap_or(0);
        if behind >= WINDOW || self.seen & bit != 0 {
            self.counts.duplicates += 1;
            return self.draw('2', 1);
        }
        self.seen |= bit;
        self.counts.heard += 1;
        self.session_heard += 1;
        self.counts.reordered += 1;
        self.counts.lost = self.counts.lost.saturating_sub(1);
        self.draw('!', 1);
    }

    fn draw(&mut self, symbol: char, times: u32) {
        self.line.extend((0..times).map(|_| symbol));
    }

    /// The symbols of a full line, if there are so many.
    pub fn full_line(&mut self) -> Option<String> {
        if self.line.len() < LINE {
            return None;
        }
        let rest = self.line.split_off(LINE);
        Some(std::mem::replace(&mut self.line, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A client that beats once a second, whose clock is an hour behind and
    /// whose datagrams take 10 ms.
    struct Run {
        start: Instant,
        client: Client,
        session: u64,
        offset: i64,
    }

    impl Run {
        fn new() -> Run {
            let start = Instant::now();
            let (session, offset) = (7, -3_600_000);
            let first = heartbeat(session, 1, 0, offset);
            let client = Client::new(&first, arrival(start, 10));
            Run { start, client, session, offset }
        }

        /// Number `n` arrives so many milliseconds after the first was sent;
        /// it was sent at its own second.
        fn hear(&mut self, n: u32, at: u64) -> Vec<Event> {
            let sent = u64::from(n - 1) * 1000;
            let heartbeat = heartbeat(self.session, n, sent, self.offset);
            self.client.take(&heartbeat, arrival(self.start, at))
        }
    }

    fn heartbeat(session: u64, n: u32, sent: u64, offset: i64) -> Heartbeat {
        let stamp =
            100_000 * SECOND as i64 + (sent as i64 + offset) * 1_000_000;
        Heartbeat {
            goodbye: false,
            session,
            sequence: n,
            interval: Duration::from_secs(1),
            stamp: stamp as u64,
        }
    }

    fn arrival(start: Instant, at: u64) -> Arrival {
        let wall = 100_000 * SECOND + at * 1_000_000;
        Arrival { at: start + Duration::from_millis(at), wall }
    }

    #[test]
    fn symbols_and_counts() {
        let mut run = Run::new();
        for (n, at) in [(2, 1010), (4, 3010), (3, 3020), (4, 3030)] {
            assert_eq!(run.hear(n, at), [], "number {n}");
        }
        run.hear(7, 7500); // 5 and 6 are lost; 7 is 1490 ms over the least
        run.hear(8, 7990);
        assert_eq!(run.client.line, "..x.!2xx<.");
        let expected =
            Counts { heard: 6, lost: 2, duplicates: 1, reordered: 1, late: 1 };
        assert_eq!(run.client.counts, expected);
        // an hour of offset and 10 ms of delay, at least
        assert_eq!(run.client.least_before, 3_600_010.0);
        assert_eq!(run.client.variation(), 980.0);
    }

    #[test]
    fn the_window_of_numbers() {
        let mut run = Run::new();
        for n in [2, 3, 2, 1] {
            run.hear(n, u64::from(n) * 1000);
        }
        let counts = run.client.counts;
        assert_eq!((counts.heard, counts.duplicates), (3, 2));
        // 63 behind is remembered as missing, 64 behind is too long ago
        run.hear(100, 99_010);
        run.hear(37, 99_020);
        run.hear(36, 99_030);
        let counts = run.client.counts;
        assert_eq!((counts.reordered, counts.duplicates), (1, 3));
    }

    #[test]
    fn what_comes_behind_a_goodbye_is_nothing() {
        let mut run = Run::new();
        let mut last = heartbeat(7, 1, 0, run.offset);
        last.goodbye = true;
        let came = arrival(run.start, 500);
        assert_eq!(run.client.take(&last, came), [Event::Goodbye]);
        assert_eq!(run.hear(2, 1010), []);
        assert_eq!(
            (run.client.state, run.client.counts.heard),
            (State::Gone, 1)
        );
        // a new session brings it back, and is counted
        run.session = 8;
        run.hear(1, 2000);
        assert_eq!((run.client.state, run.client.counts.heard), (State::Up, 2));
        // another interval counts at once, and time does not go back
        let mut quick = heartbeat(8, 2, 1000, run.offset);
        quick.interval = Duration::from_millis(100);
        run.client.take(&quick, arrival(run.start, 2500));
        run.hear(2, 2200);
        let due = arrival(run.start, 2500 + 3 * 1000).at;
        assert_eq!(run.client.deadline(3), Some(due));
    }

    #[test]
    fn down_up_goodbye_and_restart() {
        let mut run = Run::new();
        let at = |ms| arrival(run.start, ms).at;
        assert_eq!(run.client.deadline(3), Some(at(3010)));
        let down = run.client.goes_down(at(3010));
        assert_eq!(down, Event::Down { silence: Duration::from_secs(3) });
        assert_eq!(run.client.deadline(3), None);
        let outage = Duration::from_millis(9_000);
        assert_eq!(run.hear(10, 9010), [Event::Up { outage }]);
        assert_eq!(run.client.counts.lost, 8);
        run.session = 8;
        let silence = Duration::from_millis(990);
        assert_eq!(run.hear(1, 10_000), [Event::Restarted { silence }]);
        run.session = 7;
        assert_eq!(run.hear(11, 10_010), [], "of the run before");
        let mut last = heartbeat(8, 4, 0, 0);
        last.goodbye = true;
        let lost = run.client.counts.lost;
        let came = arrival(run.start, 11_000);
        assert_eq!(run.client.take(&last, came), [Event::Goodbye]);
        assert_eq!(run.client.take(&last, came), [], "said three times");
        assert_eq!(run.client.counts.lost, lost + 3, "2 to 4 never came");
        assert_eq!(run.client.deadline(3), None, "who said so is not down");
        // a goodbye is all that is heard of a third run
        last.session = 9;
        let events = run.client.take(&last, came);
        assert!(matches!(events[0], Event::Restarted { .. }));
        assert_eq!(events[1..], [Event::Goodbye]);
        assert_eq!(run.client.session_heard, 0);
    }

    #[test]
    fn a_clock_that_is_set_is_no_delay() {
        for by in [-50_000, 50_000, -7_200_000] {
            let mut run = Run::new();
            run.hear(2, 1010);
            run.offset += by;
            let events = run.hear(3, 2010);
            let set = Event::ClockSet { by: by as f64 };
            assert_eq!(events, [set]);
            assert_eq!(run.hear(4, 3015), []);
            assert_eq!(run.client.line, "....", "set by {by}");
            assert!((run.client.variation() - 5.0).abs() < 1e-6);
        }
        // what is late is not mistaken for it, nor a client that slept
        let mut run = Run::new();
        assert_eq!(run.hear(2, 9010), []);
        assert_eq!(run.hear(3, 9011), []);
        assert_eq!(run.client.line, ".<<");
        let mut run = Run::new();
        let late = heartbeat(7, 2, 60_000, run.offset);
        let came = arrival(run.start, 60_010);
        assert_eq!(run.client.take(&late, came), []);
        assert_eq!(run.client.line, "..");
    }

    /// A clock that drifts by 200 ppm: after hours that is seconds.
    #[test]
    fn a_drift_is_no_delay() {
        let mut run = Run::new();
        for n in 2..20_000u32 {
            run.offset -= i64::from(n % 5 == 0);
            run.hear(n, u64::from(n - 1) * 1000 + 10);
        }
        assert_eq!((run.client.counts.late, run.client.counts.lost), (0, 0));
        assert!(run.client.variation() < 150.0);
    }

    #[test]
    fn what_we_missed_ourselves_is_not_its_loss() {
        let mut run = Run::new();
        run.client.excuse(Duration::from_secs(60), true);
        let later = arrival(run.start, 63_010).at;
        assert_eq!(run.client.deadline(3), Some(later));
        assert_eq!(run.hear(61, 60_010), []);
        assert_eq!(run.client.counts.lost, 0);
        run.hear(63, 62_010);
        assert_eq!(run.client.counts.lost, 1, "excused once");
        // who was down already has no excuse
        run.client.goes_down(later);
        let before = run.client.silence(later);
        run.client.excuse(Duration::from_secs(60), true);
        assert_eq!(run.client.silence(later), before);
    }

    #[test]
    fn far_jumps_and_far_copies() {
        let mut run = Run::new();
        run.hear(u32::MAX, 2000);
        assert_eq!(run.client.counts.lost, u64::from(u32::MAX) - 2);
        assert!(run.client.line.len() < 100);
        run.hear(5, 2001);
        assert_eq!(run.client.counts.duplicates, 1);
        assert!(run.client.full_line().is_some_and(|l| l.len() == LINE));
    }
}
