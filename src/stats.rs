//! Round-trip times, summed up: what ping prints, what TCP would make of
//! them, and how they are spread. KR 3.5.3, RFC 6298; jitter of RFC 3550.
//!
//! Times are in milliseconds throughout.

use std::fmt;
use std::time::Duration;

/// A duration in milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What TCP estimates of the round-trip time, from one sample after the
/// other. RFC 6298 §2
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimator {
    /// SRTT; EstimatedRTT in KR 3.5.3.
    pub srtt: f64,
    /// RTTVAR; DevRTT in KR 3.5.3.
    pub rttvar: f64,
    samples: u64,
}

impl Estimator {
    /// Takes a sample. The first is the estimate, and half of it the
    /// deviation: RFC 6298 §2 (2.2); then (2.3).
    pub fn take(&mut self, rtt: f64) {
        const ALPHA: f64 = 1.0 / 8.0;
        const BETA: f64 = 1.0 / 4.0;
        match self.samples {
            0 => (self.srtt, self.rttvar) = (rtt, rtt / 2.0),
            _ => {
                let deviation = (self.srtt - rtt).abs();
                self.rttvar = (1.0 - BETA) * self.rttvar + BETA * deviation;
                self.srtt = (1.0 - ALPHA) * self.srtt + ALPHA * rtt;
            }
        }
        self.samples += 1;
    }

    /// TimeoutInterval = EstimatedRTT + 4 · DevRTT. KR 3.5.3 (RFC 6298 adds
    /// a least of one second, which would hide it here)
    pub fn timeout(&self) -> f64 {
        self.srtt + 4.0 * self.rttvar
    }
}

impl fmt::Display for Estimator {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "EstimatedRTT {:.3}, DevRTT {:.3}, TimeoutInterval {:.3} ms",
            self.srtt,
            self.rttvar,
            self.timeout()
        )
    }
}

/// The round-trip times of a run, in the order in which the replies came.
#[derive(Clone, Debug, Default)]
pub struct Rtts {
    times: Vec<f64>,
    /// The mean deviation of neighbours. RFC 3550 §6.4.1, §A.8
    jitter: f64,
}

/// What there is to be said of one or more times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub min: f64,
    pub avg: f64,
    pub max: f64,
    /// The standard deviation, which ping(8) calls mdev.
    pub mdev: f64,
    pub median: f64,
    /// The 95th percentile.
    pub p95: f64,
    pub jitter: f64,
}

impl Rtts {
    pub fn take(&mut self, rtt: f64) {
        if let Some(before) = self.times.last() {
            self.jitter += ((rtt - before).abs() - self.jitter) / 16.0;
        }
        self.times.push(rtt);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut times = self.times.clone();
        times.sort_by(f64::total_cmp);
        times
    }

    /// `None` when there is no time at all: then there is no least one.
    pub fn summary(&self) -> Option<Summary> {
        let times = self.sorted();
        let (min, max) = (*times.first()?, *times.last()?);
        let count = times.len() as f64;
        let avg = times.iter().sum::<f64>() / count;
        let squares = times.iter().map(|t| (t - avg).powi(2)).sum::<f64>();
        let middle = times.len() / 2;
        let median = match times.len() % 2 {
            0 => (times[middle - 1] + times[middle]) / 2.0,
            _ => times[middle],
        };
        // the smallest that 95 of 100 do not exceed
        let rank = (0.95 * count).ceil() as usize;
        Some(Summary {
            min,
            avg,
            max,
            mdev: (squares / count).sqrt(),
            median,
            p95: times[rank.clamp(1, times.len()) - 1],
            jitter: self.jitter,
        })
    }

    /// A small histogram: a line for each of some equal steps between the
    /// least and the greatest. Nothing where there are few times, or equal
    /// ones.
    pub fn histogram(&self) -> String {
        const STEPS: usize = 8;
        const WIDTH: usize = 40;
        let times = self.sorted();
        let (Some(min), Some(max)) = (times.first(), times.last()) else {
            return String::new();
        };
        let step = (max - min) / STEPS as f64;
        if times.len() < STEPS || step <= 0.0 {
            return String::new();
        }
        let mut counts = [0; STEPS];
        for time in &times {
            let at = ((time - min) / step) as usize;
            counts[at.min(STEPS - 1)] += 1;
        }
        let most = counts.iter().copied().max().unwrap_or(1);
        let line = |(i, count): (usize, &usize)| {
            let from = min + step * i as f64;
            let bar = "#".repeat((count * WIDTH).div_ceil(most));
            format!("{from:10.3} ms {count:6} {bar}\n")
        };
        counts.iter().enumerate().map(line).collect()
    }
}

impl Summary {
    /// In ping's own words, so that what reads ping's lines reads ours.
    pub fn ping_line(&self) -> String {
        format!(
            "rtt min/avg/max/mdev = {:.3}/{:.3}/{:.3}/{:.3} ms",
            self.min, self.avg, self.max, self.mdev
        )
    }

    /// As an object of JSON.
    pub fn json(&self) -> String {
        format!(
            "{{\"min\":{:.3},\"avg\":{:.3},\"max\":{:.3},\"mdev\":{:.3},\
             \"median\":{:.3},\"p95\":{:.3},\"jitter\":{:.3}}}",
            self.min,
            self.avg,
            self.max,
            self.mdev,
            self.median,
            self.p95,
            self.jitter
        )
    }
}

/// `30% packet loss`, as ping writes it.
pub fn loss(sent: u64, received: u64) -> String {
    let lost = sent.saturating_sub(received) as f64;
    let percent = if sent == 0 { 0.0 } else { 100.0 * lost / sent as f64 };
    let text = format!("{percent:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}% packet loss")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_of_kr_3_5_3() {
        let mut estimator = Estimator::default();
        estimator.take(100.0);
        assert_eq!((estimator.srtt, estimator.rttvar), (100.0, 50.0));
        assert_eq!(estimator.timeout(), 300.0);
        estimator.take(200.0);
        // 0.75 · 50 + 0.25 · |100 − 200|, 0.875 · 100 + 0.125 · 200
        assert_eq!((estimator.srtt, estimator.rttvar), (112.5, 62.5));
        assert_eq!(estimator.timeout(), 362.5);
    }

    #[test]
    fn a_summary_of_known_times() {
        assert_eq!(Rtts::default().summary(), None);
        let mut rtts = Rtts::default();
        for time in [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0] {
            rtts.take(time);
        }
        let all = rtts.summary().unwrap();
        assert_eq!((all.min, all.avg, all.max), (2.0, 5.0, 9.0));
        assert_eq!((all.mdev, all.median, all.p95), (2.0, 4.5, 9.0));
        assert_eq!(
            all.ping_line(),
            "rtt min/avg/max/mdev = 2.000/5.000/9.000/2.000 ms"
        );
        assert_eq!(rtts.histogram().lines().count(), 8);
        let mut one = Rtts::default();
        one.take(3.0);
        let one = one.summary().unwrap();
        assert_eq!((one.min, one.p95), (3.0, 3.0));
        assert_eq!((one.mdev, one.jitter), (0.0, 0.0));
    }

    #[test]
    fn loss_as_ping_writes_it() {
        assert_eq!(loss(10, 7), "30% packet loss");
        assert_eq!(loss(3, 2), "33.3333% packet loss");
        assert_eq!(loss(0, 0), "0% packet loss");
        assert_eq!(loss(5, 0), "100% packet loss");
    }
}
