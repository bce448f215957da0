//! Loss, delay and the rest as chance has them, so that nobody needs a bad
//! network to see one. A seed repeats a run.

use std::time::Duration;

/// Chances as options give them: `0.3`, `30%`, or `4/11`.
pub fn probability(text: &str) -> Result<f64, String> {
    let wanted = || format!("0.3, 30% or 4/11 is wanted, not '{text}'");
    let number = |t: &str| t.trim().parse::<f64>().map_err(|_| wanted());
    let value = match (text.split_once('/'), text.strip_suffix('%')) {
        (Some((a, b)), _) => number(a)? / number(b)?,
        (None, Some(percent)) => number(percent)? / 100.0,
        (None, None) => number(text)?,
    };
    match (0.0..=1.0).contains(&value) {
        true => Ok(value),
        false => Err(wanted()),
    }
}

/// Milliseconds, from 0 to ten seconds.
pub fn milliseconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(ms) if (0.0..=10_000.0).contains(&ms) => {
            Ok(Duration::from_secs_f64(ms / 1e3))
        }
        _ => Err(format!("0 to 10000 milliseconds, not '{text}'")),
    }
}

/// A generator of numbers without a pattern that these uses would notice:
/// SplitMix64, by Steele, Lea and Flood.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to, not including, 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with this probability.
    pub fn falls(&mut self, probability: f64) -> bool {
        self.fraction() < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities() {
        assert_eq!(probability("0.3"), Ok(0.3));
        assert_eq!(probability("30%"), Ok(0.3));
        assert_eq!(probability("4/11"), Ok(4.0 / 11.0));
        for bad in ["", "2", "-1", "1/0", "0/0", "x", "101%", "nan"] {
            assert!(probability(bad).is_err(), "{bad}");
        }
        assert!(milliseconds("-1").is_err() && milliseconds("x").is_err());
    }

    #[test]
    fn a_seed_repeats_a_run() {
        let draw = |seed| {
            let mut dice = Dice::new(seed);
            (0..100).map(|_| dice.falls(0.3)).collect::<Vec<bool>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    /// The lab's 4/11, drawn 100,000 times: within five standard deviations.
    #[test]
    fn the_losses_are_as_frequent_as_they_should_be() {
        let (p, n) = (4.0 / 11.0, 100_000.0_f64);
        let mut dice = Dice::new(42);
        let lost = (0..n as u64).filter(|_| dice.falls(p)).count() as f64;
        let deviation = (n * p * (1.0 - p)).sqrt();
        assert!((lost - n * p).abs() < 5.0 * deviation, "{lost}");
    }
}
