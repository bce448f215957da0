//! `--timing`: where the time of one download went, drawn on one line and
//! counted in round trips. KR 2.2.2 estimates 2 RTT plus the transmission
//! time for an object on a new connection.

use std::time::{Duration, Instant};

/// The moments of one exchange. Nothing is recorded unless it is asked for.
#[derive(Default)]
pub struct Timing {
    moments: Option<Vec<(&'static str, Instant)>>,
    /// What the connection took to open: one round trip.
    rtt: Option<Duration>,
}

/// Columns of the drawn line.
const WIDTH: f64 = 60.0;

impl Timing {
    /// Begins a new exchange, if times are wanted at all.
    pub fn start(&mut self, wanted: bool) {
        self.moments = wanted.then(|| vec![("start", Instant::now())]);
    }

    /// The step of that name ends now.
    pub fn done(&mut self, step: &'static str) {
        let Some(moments) = &mut self.moments else { return };
        let now = Instant::now();
        if let ("connect", Some((_, before))) = (step, moments.last()) {
            self.rtt = Some(now.duration_since(*before));
        }
        moments.push((step, now));
    }

    /// The drawing; `None` when times were not wanted.
    pub fn draw(&self, octets: u64) -> Option<String> {
        let moments = self.moments.as_ref()?;
        let steps: Vec<(&str, Duration)> = moments
            .windows(2)
            .map(|m| (m[1].0, m[1].1.duration_since(m[0].1)))
            .collect();
        Some(draw(&steps, self.rtt, octets))
    }
}

/// Each step by its first letter, as long as its share of the time.
fn draw(
    steps: &[(&str, Duration)],
    rtt: Option<Duration>,
    octets: u64,
) -> String {
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    let total: Duration = steps.iter().map(|s| s.1).sum();
    let in_rtt = |d: Duration| match rtt.map(ms) {
        Some(rtt) if rtt > 0.0 => format!("{:8.1} RTT", ms(d) / rtt),
        _ => String::new(),
    };
    let mut line = String::from("|");
    for (name, time) in steps {
        let share = ms(*time) / ms(total).max(1e-6) * WIDTH;
        line.push_str(&name[..1].repeat(share.round() as usize));
        line.push('|');
    }
    let mut out = format!("{line}\n");
    for (name, time) in steps {
        let time = (ms(*time), in_rtt(*time));
        out.push_str(&format!("  {name:12}{:10.3} ms{}\n", time.0, time.1));
    }
    out.push_str(&format!(
        "  {:12}{:10.3} ms{}  {octets} bytes\n",
        "total",
        ms(total),
        in_rtt(total)
    ));
    out.push_str(match steps.first() {
        Some(("resolve", _)) => {
            "  1 RTT is what connect took: SYN there, SYN and ACK back. \
             KR 2.2.2\n"
        }
        _ => {
            "  on the connection that was open already: no connect. KR 2.2.2\n"
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_drawn_in_proportion() {
        let ms = Duration::from_millis;
        let steps =
            [("resolve", ms(10)), ("connect", ms(10)), ("first byte", ms(40))];
        let drawing = draw(&steps, Some(ms(10)), 7);
        let line = drawing.lines().next().unwrap();
        assert_eq!(line.matches('r').count(), 10);
        assert_eq!(line.matches('f').count(), 40);
        assert!(drawing.contains("60.000 ms     6.0 RTT  7 bytes"));
        let again = draw(&steps[2..], Some(ms(10)), 0);
        assert!(again.contains("open already") && again.contains("4.0 RTT"));
        assert!(Timing::default().draw(0).is_none());
    }
}
