//! What `heartbeat-server` prints: a line for each event, a line of text for
//! how heartbeats came, a table at the end.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use super::super::message::Heartbeat;
use super::super::watch::{Client, Event, State};
use super::Watcher;
use crate::datagram::wall_clock;
use crate::error::Error;
use crate::output::wrote;
use crate::stats::ms;
use crate::trace::Party;

/// The time of day in UT.
fn time_of_day(wall: u64) -> String {
    let millis = wall / 1_000_000;
    let seconds = millis / 1000;
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hour:02}:{minute:02}:{:02}.{:03}", seconds % 60, millis % 1000)
}

impl Watcher {
    pub fn tell(&self, from: SocketAddr, event: &Event) -> Result<(), Error> {
        let Some(client) = self.clients.get(&from) else { return Ok(()) };
        let seconds = |time: &Duration| time.as_secs_f64();
        let json = |name: &str, time: &Duration| {
            format!(",\"{name}_ms\":{:.3}", ms(*time))
        };
        let (word, text, more) = match event {
            Event::Up { outage } => (
                "up",
                format!("again, after {:.3} s", seconds(outage)),
                json("outage", outage),
            ),
            Event::Down { silence } => (
                "down",
                format!("silent for {:.3} s", seconds(silence)),
                json("silence", silence),
            ),
            Event::Restarted { silence } => (
                "restarted",
                format!(
                    "after {:.3} s of silence, session 0x{:016x}",
                    seconds(silence),
                    client.session
                ),
                json("silence", silence),
            ),
            Event::Goodbye => (
                "goodbye",
                format!("after {} heartbeats", client.session_heard),
                String::new(),
            ),
            Event::ClockSet { by } => (
                "clock set",
                format!("by {by:.0} ms"),
                format!(",\"by_ms\":{by:.3}"),
            ),
        };
        self.event(from, word, &text, &more)
    }

    pub fn event(
        &self,
        from: SocketAddr,
        word: &str,
        text: &str,
        more: &str,
    ) -> Result<(), Error> {
        let wall = wall_clock();
        let line = match self.json {
            true => format!(
                "{{\"event\":\"{word}\",\"client\":\"{from}\",\
                 \"time_ms\":{}{more}}}\n",
                wall / 1_000_000
            ),
            false => format!("{} {from} {word}: {text}\n", time_of_day(wall)),
        };
        wrote(io::stdout().write_all(line.as_bytes()))
    }

    /// How a client's heartbeats came.
    pub fn line(&self, from: SocketAddr, symbols: &str) -> Result<(), Error> {
        if self.json || symbols.is_empty() {
            return Ok(());
        }
        wrote(io::stdout().write_all(format!("{from} {symbols}\n").as_bytes()))
    }

    pub fn show(&self, from: SocketAddr, heartbeat: &Heartbeat) {
        if !self.trace.is_on() {
            return;
        }
        let word = if heartbeat.goodbye { "goodbye" } else { "heartbeat" };
        let line = format!("{from} {word} {}", heartbeat.sequence);
        self.trace.line(Party::Client, 0, &line, || {
            let client = self.clients.get(&from);
            let (difference, variation) =
                client.map_or((0.0, 0.0), |c| (c.difference, c.variation()));
            format!(
                "arrival - time stamp = {difference:.3} ms: delay and the \
                 clocks' offset together, which cannot be told apart from \
                 here; {variation:.3} ms over the least, which is delay alone"
            )
        });
        self.trace.message(Party::Client, || line.clone());
        self.trace.drawing(|| heartbeat.draw());
    }

    /// All clients, at the end and when SIGQUIT asks.
    pub fn table(&mut self) -> Result<(), Error> {
        let rows = self.clients.iter().map(|(from, client)| {
            let state = match client.state {
                State::Up => "up",
                State::Down => "down",
                State::Gone => "goodbye",
            };
            row(self.json, *from, client, state)
        });
        let mut text = rows.collect::<String>();
        if !self.json && !text.is_empty() {
            for (from, client) in &self.clients {
                let line = client.line.as_str();
                if !line.is_empty() {
                    text.push_str(&format!("{from} {line}\n"));
                }
            }
            let head = format!(
                "{:21} {:8} {:>6} {:>5} {:>5} {:>5} {:>5}  {}\n",
                "client",
                "state",
                "heard",
                "lost",
                "twice",
                "order",
                "late",
                "diff, over least"
            );
            text.insert_str(0, &head);
        }
        wrote(io::stdout().write_all(text.as_bytes()))
    }
}

fn row(json: bool, from: SocketAddr, client: &Client, state: &str) -> String {
    let counts = client.counts;
    let (difference, over) = (client.difference, client.variation());
    match json {
        true => format!(
            "{{\"event\":\"client\",\"client\":\"{from}\",\
             \"state\":\"{state}\",\"session\":\"0x{:016x}\",\"heard\":{},\
             \"lost\":{},\"duplicates\":{},\"reordered\":{},\"late\":{},\
             \"difference_ms\":{difference:.3},\
             \"over_least_ms\":{over:.3}}}\n",
            client.session,
            counts.heard,
            counts.lost,
            counts.duplicates,
            counts.reordered,
            counts.late,
        ),
        false => format!(
            "{:21} {state:8} {:>6} {:>5} {:>5} {:>5} {:>5}  {difference:.3}, \
             {over:.3}\n",
            from.to_string(),
            counts.heard,
            counts.lost,
            counts.duplicates,
            counts.reordered,
            counts.late,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day() {
        assert_eq!(time_of_day(0), "00:00:00.000");
        assert_eq!(time_of_day(86_399_999_000_000), "23:59:59.999");
        assert_eq!(time_of_day(86_400_000_000_000), "00:00:00.000");
    }
}
