//! `udp-ping`: ten pings over UDP. Lab "UDP Pinger"; KR 2.7.1, 3.5.3.
//!
//! The lab's client sends ten pings to a server that loses some of them; it
//! waits up to a second for each answer and prints the round-trip time, or
//! "Request timed out"; at the end the least, the greatest and the average
//! time, and the loss in per cent.
//!
//! ```text
//! $ topdown udp-ping localhost
//! PING localhost (127.0.0.1) port 12000: 56 bytes of UDP data
//! 56 bytes from 127.0.0.1:12000: seq=1 time=0.123 ms
//! seq=2: Request timed out
//! ```
//!
//! Pings leave on schedule, whatever becomes of the ones before: several may
//! be in flight. With `--stop-and-wait` the next one waits for the answer or
//! the time-out, as in the lab's loop.
//!
//! Read `run`, `Pinger::ping`, `Pinger::receive`; `record.rs` keeps the
//! books.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::PORT;
use super::payload::{emit, sequence, text};
use super::record::{Heard, Ping, Record};
use crate::Tool;
use crate::args::{self, Args};
use crate::datagram::is_from_icmp;
use crate::error::{Doing, Error, Outcome, is_timeout, reason};
use crate::net::{self, Destination};
use crate::output::wrote;
use crate::signal::Signals;
use crate::stats::{loss, ms};
use crate::trace::{Party, Trace};
use crate::udp::{MAX_DATAGRAM, draw_header};

pub static TOOL: Tool = Tool {
    name: "udp-ping",
    section: "KR 2.7.1",
    summary: "ping a server over UDP: times and loss",
    help: "\
usage: topdown udp-ping [-46evq] [-c N] [-i SECONDS] [-W SECONDS] [-s BYTES]
                        [OPTION]... HOST [PORT]

Sends pings as UDP datagrams to HOST, port 12000 by default, and measures how
long each takes to come back.

  -c, --count N             send so many (default: 10)
  -i, --interval SECONDS    so far apart (default: 1)
  -W, --timeout SECONDS     wait that long for each answer (default: 1)
  -s, --size BYTES          of so many bytes of data (default: 56)
      --stop-and-wait       the next after the answer or time-out (the lab)
      --local-port PORT     our own port (default: any free one)
  -4, --ipv4                IPv4 only
  -6, --ipv6                IPv6 only
      --json                print JSON, an object a line
  -q, --quiet               print the summary alone
  -v, --verbose             print the dialogue on standard error
  -e, --explain             the same, with TCP's estimates and headers drawn
      --diagram FILE.svg    draw the run as a space-time diagram
  -h, --help                print this
",
    run,
};

const COUNT: u64 = 10;
const SIZE: usize = 56;

/// Datagrams that are taken before the schedule is looked at.
const BATCH: usize = 1000;

struct Pinger {
    socket: UdpSocket,
    server: SocketAddr,
    local: SocketAddr,
    count: u64,
    interval: Duration,
    patience: Duration,
    size: usize,
    stop_and_wait: bool,
    json: bool,
    quiet: bool,
    trace: Trace,
    record: Record,
    /// Times that ICMP said that nobody listens.
    refused: u64,
    started: Instant,
}

fn run(mut args: Args) -> Result<Outcome, Error> {
    let count = args.value("--count", args::number("count", 1..=1_000_000))?;
    let interval = args.value("--interval", args::seconds)?;
    let size = args.value("--size", args::number("size", 0..=65_507))?;
    let stop_and_wait = args.flag("--stop-and-wait");
    let (json, quiet) = (args.flag("--json"), args.flag("--quiet"));
    let second = Duration::from_secs(1);
    let to = Destination::from_args(&mut args, PORT, second)?;
    let trace = Trace::from_args(&mut args, Party::Client)?;
    args.finish()?;
    let server = to.resolve()?[0];
    let socket = open(server, to.local_port)?;
    let local = socket.local_addr().doing(|| "open a socket")?;
    net::wake_exactly();
    let signals = Signals::new(&[libc::SIGINT, libc::SIGTERM, libc::SIGQUIT])?;
    let mut pinger = Pinger {
        socket,
        server,
        local,
        count: count.unwrap_or(COUNT),
        interval: interval.unwrap_or(second),
        patience: to.timeout,
        size: size.unwrap_or(SIZE),
        stop_and_wait,
        json,
        quiet,
        trace,
        record: Record::default(),
        refused: 0,
        started: Instant::now(),
    };
    if !json {
        let size = emit(&text(1), pinger.size).len();
        let (host, ip, port) = (&to.host, server.ip(), server.port());
        print(&format!(
            "PING {host} ({ip}) port {port}: {size} bytes of UDP data"
        ))?;
    }
    pinger.ping(&signals)?;
    pinger.summary()?;
    let any = pinger.record.answered + pinger.record.late > 0;
    Ok(if any { Outcome::Yes } else { Outcome::No })
}

/// A socket that hears the server alone, and ICMP's errors about it.
fn open(server: SocketAddr, local_port: u16) -> Result<UdpSocket, Error> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, local_port));
    let socket = socket.doing(|| format!("bind to port {local_port}"))?;
    socket.connect(server).doing(|| format!("connect to {server}"))?;
    socket.set_nonblocking(true).doing(|| "prepare the socket")?;
    Ok(socket)
}

fn print(line: &str) -> Result<(), Error> {
    wrote(io::stdout().write_all(format!("{line}\n").as_bytes()))
}

impl Pinger {
    /// Sends on schedule and takes what comes, until all is decided.
    fn ping(&mut self, signals: &Signals) -> Result<(), Error> {
        let (mut next, mut due) = (1, Instant::now());
        loop {
            let now = Instant::now();
            for sequence in self.record.expire(now, self.patience) {
                self.timed_out(sequence)?;
            }
            let waiting = self.record.is_waiting();
            let more = next <= self.count;
            let ready = more && !(self.stop_and_wait && waiting);
            if !more && !waiting {
                return Ok(());
            }
            if ready && now >= due {
                self.send(next)?;
                next += 1;
                // by the schedule, not the moment: it does not drift
                let interval = self.interval;
                due = if self.stop_and_wait { now } else { due + interval };
                // who stood still for long does not make up for it
                if due + interval < now {
                    due = now;
                }
                continue;
            }
            let sends = ready.then_some(due);
            let expires = self.record.next_expiry(self.patience);
            let wake = sends.into_iter().chain(expires).min().unwrap_or(now);
            let limit = wake.saturating_duration_since(now);
            match signals.wait(&[self.socket.as_raw_fd()], limit)? {
                Some(libc::SIGQUIT) => self.summary()?,
                Some(_) => return Ok(()),
                None => self.receive()?,
            }
        }
    }

    fn send(&mut self, sequence: u64) -> Result<(), Error> {
        let text = text(sequence);
        let ping = emit(&text, self.size);
        self.trace.text(Party::Client, &ping, || {
            "one datagram: sequence number and time stamp. KR 2.7.1".into()
        });
        let (local, server) = (self.local, self.server);
        self.trace.drawing(|| draw_header(local, server, &ping));
        let now = Instant::now();
        let sent = match self.socket.send(&ping) {
            // (of an earlier ping: this one has not left yet)
            Err(e) if is_from_icmp(&e) => {
                self.refused(&e)?;
                self.socket.send(&ping)
            }
            other => other,
        };
        self.record.sent(sequence, text, now);
        match sent {
            Err(e) if is_from_icmp(&e) => self.refused(&e),
            other => other.map(|_| ()).doing(|| format!("send to {server}")),
        }
    }

    /// All that has come.
    fn receive(&mut self) -> Result<(), Error> {
        let mut datagram = vec![0; MAX_DATAGRAM];
        for _ in 0..BATCH {
            let length = match self.socket.recv(&mut datagram) {
                Ok(length) => length,
                Err(e) if is_timeout(&e) => return Ok(()),
                Err(e) if is_from_icmp(&e) => {
                    self.refused(&e)?;
                    continue;
                }
                Err(error) => return Err(error).doing(|| "receive"),
            };
            let heard = self.judge(&datagram[..length], Instant::now());
            self.tell(heard, &datagram[..length])?;
        }
        Ok(())
    }

    /// An answer is what was sent, in whatever case.
    fn judge(&mut self, datagram: &[u8], now: Instant) -> Heard {
        let same =
            |p: &Ping| datagram.eq_ignore_ascii_case(&emit(&p.mark, self.size));
        let found = sequence(datagram)
            .and_then(|number| Some((number, self.record.ping(number)?)))
            .filter(|(_, ping)| same(ping));
        match found {
            Some((sequence, ping)) => {
                let rtt = ms(now.saturating_duration_since(ping.sent));
                self.record.answer(sequence, rtt)
            }
            None => {
                self.record.strangers += 1;
                Heard::Stranger
            }
        }
    }

    /// What a datagram was.
    fn tell(&mut self, heard: Heard, datagram: &[u8]) -> Result<(), Error> {
        let (trace, server) = (&self.trace, self.server);
        trace.text(Party::Server, datagram, || match heard {
            Heard::Answer { .. } => {
                format!("{}. KR 3.5.3, RFC 6298", self.record.estimator)
            }
            _ => "no answer that is waited for".into(),
        });
        trace.drawing(|| draw_header(server, self.local, datagram));
        let from = format!("{} bytes from {server}:", datagram.len());
        match heard {
            Heard::Answer { sequence, rtt, behind } => {
                let behind = if behind { " (reordered)" } else { "" };
                let text =
                    format!("{from} seq={sequence} time={rtt:.3} ms{behind}");
                self.line(&text, "reply", sequence, Some(rtt))
            }
            Heard::Late { sequence, rtt } => {
                let text =
                    format!("{from} seq={sequence} time={rtt:.3} ms (late)");
                self.line(&text, "late", sequence, Some(rtt))
            }
            Heard::Duplicate { sequence, .. } => {
                let text = format!("{from} seq={sequence} (DUP!)");
                self.line(&text, "duplicate", sequence, None)
            }
            Heard::Stranger => {
                let text = format!("{from} no answer to any ping");
                self.line(&text, "stranger", 0, None)
            }
        }
    }

    fn timed_out(&mut self, sequence: u64) -> Result<(), Error> {
        self.trace.timed_out(self.patience);
        let text = format!("seq={sequence}: Request timed out");
        self.line(&text, "timeout", sequence, None)
    }

    /// ICMP says what became of a ping, and the system hands it on as an
    /// error, without saying of which.
    fn refused(&mut self, error: &io::Error) -> Result<(), Error> {
        self.refused += 1;
        let what = match error.kind() {
            ErrorKind::ConnectionRefused => {
                "port unreachable (ICMP): nobody listens there".to_string()
            }
            _ => format!("{} (ICMP)", reason(error)),
        };
        self.trace.message(Party::Server, || what.clone());
        let sequence = self.record.refuse().unwrap_or_default();
        let text = format!("from {}: seq={sequence} {what}", self.server.ip());
        self.line(&text, "unreachable", sequence, None)
    }

    fn line(
        &self,
        text: &str,
        event: &str,
        sequence: u64,
        rtt: Option<f64>,
    ) -> Result<(), Error> {
        if !self.json {
            return if self.quiet { Ok(()) } else { print(text) };
        }
        let rtt = rtt.map_or("null".into(), |rtt| format!("{rtt:.3}"));
        print(&format!(
            "{{\"event\":\"{event}\",\"seq\":{sequence},\"rtt_ms\":{rtt}}}"
        ))
    }

    /// In ping's own form, and then what ping does not say.
    fn summary(&self) -> Result<(), Error> {
        if self.json {
            return self.json_summary();
        }
        let record = &self.record;
        let (sent, received) = (record.sent, record.answered);
        print(&format!(
            "\n--- {} UDP ping statistics ---\n\
             {sent} packets transmitted, {received} received, {}, time {:.0}ms",
            self.server,
            loss(sent, received),
            ms(self.started.elapsed())
        ))?;
        let refused = match self.refused {
            0 => String::new(),
            count => format!(", {count} unreachable"),
        };
        print(&format!(
            "{} late, {} duplicates, {} reordered, {} from strangers{refused}",
            record.late, record.duplicates, record.reordered, record.strangers
        ))?;
        let Some(all) = record.rtts.summary() else { return Ok(()) };
        print(&format!(
            "median {:.3}, 95th percentile {:.3}, jitter {:.3} ms",
            all.median, all.p95, all.jitter
        ))?;
        print(&all.ping_line())?;
        self.trace.why(|| {
            format!(
                "{}: so long would TCP wait before it sends again, where \
                 this waits {:.0} ms. KR 3.5.3",
                record.estimator,
                ms(self.patience)
            )
        });
        if io::stdout().is_terminal() {
            let histogram = record.rtts.histogram();
            wrote(io::stdout().write_all(histogram.as_bytes()))?;
        }
        Ok(())
    }

    fn json_summary(&self) -> Result<(), Error> {
        let record = &self.record;
        let times = record.rtts.summary().map_or("null".into(), |s| s.json());
        print(&format!(
            "{{\"event\":\"summary\",\"sent\":{},\"received\":{},\"late\":{},\
             \"duplicates\":{},\"reordered\":{},\"strangers\":{},\
             \"unreachable\":{},\"rtt_ms\":{times}}}",
            record.sent,
            record.answered,
            record.late,
            record.duplicates,
            record.reordered,
            record.strangers,
            self.refused
        ))
    }
}
