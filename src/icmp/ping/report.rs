//! What `icmp-ping` prints: lines as ping(8) has them for one host, columns
//! for several. (`json` is for programs.)

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::net::IpAddr;
use std::time::Duration;

use super::super::names::Meaning;
use super::super::quote::Quote;
use super::host::Host;
use super::json;
use super::options::Options;
use crate::error::Error;
use crate::output::wrote;
use crate::ping::record::Heard;
use crate::stats::{loss, ms};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Lines,
    Columns,
    Json,
    /// The summary alone.
    Quiet,
    /// A dot for each request, taken back by the reply: ping -f.
    Dots,
}

/// Something that happened to a request of one host.
pub enum Event<'a> {
    /// A good reply, and what it says when it is a timestamp's.
    Reply {
        heard: Heard,
        packet: Packet,
        times: Option<Times>,
    },
    /// A reply that is none.
    Bad {
        sequence: u64,
        packet: Packet,
        why: &'a str,
    },
    /// ICMP says what became of it.
    Error {
        sequence: u64,
        from: IpAddr,
        code: Code<'a>,
    },
    TimedOut {
        sequence: u64,
    },
    /// Our own system would not send it.
    Local {
        sequence: u64,
        why: String,
    },
}

/// What is known of a packet that came.
#[derive(Clone, Copy)]
pub struct Packet {
    pub octets: usize,
    pub ttl: Option<u8>,
    pub from: IpAddr,
}

/// An error's type and code, what they mean, and of what.
pub struct Code<'a> {
    pub kind: u8,
    pub code: u8,
    pub meaning: &'a Meaning,
    pub quote: Option<&'a Quote>,
}

/// The three times of a timestamp, and the offset of the other clock and the
/// delay, in milliseconds, where they are times of UT.
#[derive(Clone, Copy)]
pub struct Times {
    pub otime: i64,
    pub rtime: i64,
    pub ttime: i64,
    pub clocks: Option<(f64, i64)>,
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Times { otime, rtime, ttime, clocks } = self;
        write!(f, "otime={otime} rtime={rtime} ttime={ttime}")?;
        match clocks {
            Some((offset, delay)) => {
                write!(f, " offset={offset} ms delay={delay} ms")
            }
            None => write!(f, " (not of UT)"),
        }
    }
}

pub struct Report {
    pub style: Style,
    /// No name beside an address.
    pub numeric: bool,
    /// Cells of rounds that are not complete yet, by sequence number.
    rows: BTreeMap<u64, Vec<Option<String>>>,
    /// The last round that is printed.
    printed: u64,
}

/// As ping(8) writes times: three digits that matter.
fn time(ms: f64) -> String {
    match ms {
        100.0.. => format!("{ms:.0} ms"),
        10.0.. => format!("{ms:.1} ms"),
        1.0.. => format!("{ms:.2} ms"),
        _ => format!("{ms:.3} ms"),
    }
}

fn print(text: &str) -> Result<(), Error> {
    wrote(io::stdout().write_all(text.as_bytes()))
}

/// The columns' width: room for the names, within reason.
fn width(hosts: &[Host]) -> usize {
    let longest = hosts.iter().map(|h| h.name.chars().count()).max();
    longest.unwrap_or(0).clamp(10, 30) + 2
}

impl Report {
    pub fn new(style: Style, numeric: bool) -> Report {
        Report { style, numeric, rows: BTreeMap::new(), printed: 0 }
    }

    pub fn begin(
        &self,
        hosts: &[Host],
        options: &Options,
    ) -> Result<(), Error> {
        let size = options.size;
        match (self.style, hosts) {
            (Style::Json, _) => Ok(()),
            (Style::Columns, _) => {
                let width = width(hosts);
                let names: String =
                    hosts.iter().map(|h| cell(&h.name, width)).collect();
                let count = hosts.len();
                let address = |host: &Host| {
                    let address = host.address.ip().to_string();
                    match address == host.name {
                        true => address,
                        false => format!("{} ({address})", host.name),
                    }
                };
                let all: Vec<String> = hosts.iter().map(address).collect();
                let line = format!("  seq{names}");
                print(&format!(
                    "PING {count} hosts: {size} bytes of data.\n{}\n{}\n",
                    all.join(", "),
                    line.trim_end()
                ))
            }
            (_, hosts) => hosts.iter().try_for_each(|host| {
                let (name, address) = (&host.name, host.address.ip());
                let from = options.sends_from(host.local);
                let is_name = name.parse::<IpAddr>().is_err();
                print(&match address {
                    IpAddr::V4(_) => {
                        let whole = size + 28;
                        format!(
                            "PING {name} ({address}){from} {size}({whole}) \
                             bytes of data.\n"
                        )
                    }
                    IpAddr::V6(_) if is_name && !self.numeric => format!(
                        "PING {name}({name} ({address})){from} {size} data \
                         bytes\n"
                    ),
                    IpAddr::V6(_) => format!(
                        "PING {name}({address}){from} {size} data bytes\n"
                    ),
                })
            }),
        }
    }

    /// Tells of an event of the host with that index.
    pub fn tell(
        &mut self,
        hosts: &[Host],
        index: usize,
        event: &Event,
    ) -> Result<(), Error> {
        match self.style {
            Style::Quiet => Ok(()),
            Style::Lines => print(&self.line(&hosts[index], event)),
            Style::Json => print(&json::event(&hosts[index], event)),
            Style::Columns => {
                let Some((sequence, text)) = column(event) else {
                    return Ok(());
                };
                // (an error about a request that has timed out already)
                if sequence <= self.printed {
                    return Ok(());
                }
                let empty = || vec![None; hosts.len()];
                let row = self.rows.entry(sequence).or_insert_with(empty);
                row[index].get_or_insert(text);
                self.print_rows(width(hosts), false)
            }
            Style::Dots => match event {
                Event::Reply { heard: Heard::Answer { .. }, .. } => {
                    print("\u{8} \u{8}")
                }
                Event::TimedOut { .. } => Ok(()),
                _ => print("E"),
            },
        }
    }

    /// In a flood: a request has left.
    pub fn dot(&self) -> Result<(), Error> {
        if self.style == Style::Dots { print(".") } else { Ok(()) }
    }

    fn line(&self, host: &Host, event: &Event) -> String {
        let from = |packet: &Packet| {
            let Packet { octets, ttl, from } = packet;
            let ttl = ttl.map_or(String::new(), |ttl| format!(" ttl={ttl}"));
            let name = &host.name;
            let named = !self.numeric
                && *from == host.address.ip()
                && name.parse::<IpAddr>().is_err();
            let from = match named {
                true => format!("{name} ({from})"),
                false => from.to_string(),
            };
            (format!("{octets} bytes from {from}: icmp_seq"), ttl)
        };
        match event {
            Event::Reply { heard, packet, times } => {
                let (start, ttl) = from(packet);
                let times = times.map(|t| format!("    {t}\n"));
                let times = times.unwrap_or_default();
                match heard {
                    Heard::Answer { sequence, rtt, behind } => {
                        let time = time(*rtt);
                        let behind = if *behind { " (reordered)" } else { "" };
                        format!(
                            "{start}={sequence}{ttl} time={time}{behind}\n{times}"
                        )
                    }
                    Heard::Late { sequence, rtt } => {
                        let time = time(*rtt);
                        format!("{start}={sequence}{ttl} (late: {time})\n")
                    }
                    Heard::Duplicate { sequence, rtt } => {
                        let time = time(*rtt);
                        format!("{start}={sequence}{ttl} time={time} (DUP!)\n")
                    }
                    Heard::Stranger => String::new(),
                }
            }
            Event::Bad { sequence, packet, why } => {
                let (start, ttl) = from(packet);
                format!("{start}={sequence}{ttl} ({why})\n")
            }
            Event::Error { sequence, from, code } => {
                let words = &code.meaning.words;
                let colon = if code.meaning.is_final { "" } else { ":" };
                format!("From {from}{colon} icmp_seq={sequence} {words}\n")
            }
            Event::TimedOut { sequence } => {
                format!("icmp_seq={sequence}: Request timed out\n")
            }
            Event::Local { sequence, why } => {
                format!("icmp_seq={sequence}: not sent: {why}\n")
            }
        }
    }

    /// All rows that are complete, in order; with `all` the others as well.
    pub fn print_rows(&mut self, width: usize, all: bool) -> Result<(), Error> {
        while let Some(row) = self.rows.first_entry() {
            if !all && row.get().iter().any(Option::is_none) {
                break;
            }
            let (sequence, cells) = row.remove_entry();
            self.printed = sequence;
            let cells: String = cells
                .iter()
                .map(|text| cell(text.as_deref().unwrap_or("-"), width))
                .collect();
            let line = format!("{sequence:5}{cells}");
            print(&format!("{}\n", line.trim_end()))?;
        }
        Ok(())
    }

    pub fn summary(
        &mut self,
        hosts: &[Host],
        elapsed: Duration,
        last: bool,
    ) -> Result<(), Error> {
        match self.style {
            Style::Json => {
                hosts.iter().try_for_each(|host| print(&json::summary(host)))
            }
            Style::Columns => {
                self.print_rows(width(hosts), last)?;
                print(&table(hosts))
            }
            _ => hosts
                .iter()
                .try_for_each(|host| print(&statistics(host, elapsed))),
        }
    }
}

fn cell(text: &str, width: usize) -> String {
    let text: String = text.chars().take(width - 2).collect();
    format!("  {text:>0$}", width - 2)
}

/// What stands in a column, and in which row.
fn column(event: &Event) -> Option<(u64, String)> {
    Some(match event {
        Event::Reply { heard: Heard::Answer { sequence, rtt, .. }, .. } => {
            (*sequence, time(*rtt))
        }
        Event::Reply { .. } | Event::Bad { .. } => return None,
        Event::Error { sequence, code, .. } => {
            if !code.meaning.is_final {
                return None;
            }
            let text = match code.meaning.mark.as_str() {
                "" => format!("!{}/{}", code.kind, code.code),
                mark => format!("!{mark}"),
            };
            (*sequence, text)
        }
        Event::TimedOut { sequence } => (*sequence, "lost".into()),
        Event::Local { sequence, .. } => (*sequence, "not sent".into()),
    })
}

/// In ping's own form, and then what ping does not say.
fn statistics(host: &Host, elapsed: Duration) -> String {
    let record = &host.record;
    let plus = |count: u64, what: &str| match count {
        0 => String::new(),
        count => format!("+{count} {what}, "),
    };
    let mut out = format!(
        "\n--- {} ping statistics ---\n{} packets transmitted, {} received, \
         {}{}{}{}, time {:.0}ms\n",
        host.name,
        record.sent,
        record.answered,
        plus(record.duplicates, "duplicates"),
        plus(host.bad, "corrupted"),
        plus(host.errors, "errors"),
        loss(record.sent, record.answered),
        ms(elapsed)
    );
    let Some(all) = record.rtts.summary() else { return out + "\n" };
    out.push_str(&format!(
        "median {:.3}, 95th percentile {:.3}, jitter {:.3} ms; {} late, \
         {} reordered\n",
        all.median, all.p95, all.jitter, record.late, record.reordered
    ));
    if io::stdout().is_terminal() {
        out.push_str(&record.rtts.histogram());
    }
    // last of all, where scripts look for it
    out + &all.ping_line() + "\n"
}

/// The summary of several hosts: a line each.
fn table(hosts: &[Host]) -> String {
    let wide = width(hosts) - 2;
    let mut out = format!(
        "\n{:wide$}  {:>5} {:>5} {:>6} {:>4} {:>4} {:>4} {:>4}  \
         min/avg/max/mdev ms\n",
        "host", "sent", "rcvd", "loss", "late", "dup", "bad", "err"
    );
    for host in hosts {
        let record = &host.record;
        let times = match record.rtts.summary() {
            Some(s) => {
                format!("{:.3}/{:.3}/{:.3}/{:.3}", s.min, s.avg, s.max, s.mdev)
            }
            None => "-".into(),
        };
        let name: String = host.name.chars().take(wide).collect();
        let (sent, received) = (record.sent, record.answered);
        let lost = loss(sent, received).replace(" packet loss", "");
        out.push_str(&format!(
            "{name:wide$}  {sent:>5} {received:>5} {lost:>6} {:>4} {:>4} \
             {:>4} {:>4}  {times}\n",
            record.late, record.duplicates, host.bad, host.errors
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_ping_writes_them() {
        for (ms, text) in [
            (0.0304, "0.030 ms"),
            (1.234, "1.23 ms"),
            (12.34, "12.3 ms"),
            (123.4, "123 ms"),
        ] {
            assert_eq!(time(ms), text);
        }
    }
}
