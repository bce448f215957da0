//! `heartbeat`: says that it is still there. Lab "UDP Pinger", optional
//! exercise 2.
//!
//! ```text
//! $ topdown heartbeat -c 2 localhost
//! heartbeat to 127.0.0.1:12001 every 1000 ms, session 0x9a1c2f4ee07b3d55
//! goodbye after 2
//! ```
//!
//! Nothing comes back: that is what tells a heartbeat from a ping. Whoever
//! is killed says no more; who ends of its own will says goodbye.
//!
//! Read `run` and `beat`.

use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::PORT;
use super::message::Heartbeat;
use crate::Tool;
use crate::args::{self, Args};
use crate::datagram::{is_from_icmp, wall_clock};
use crate::error::{Doing, Error, Outcome, reason};
use crate::net::{self, Destination};
use crate::output::{say, wrote};
use crate::signal::Signals;
use crate::trace::{Party, Trace};
use crate::udp::draw_header;

pub static TOOL: Tool = Tool {
    name: "heartbeat",
    section: "KR 2.7.1",
    summary: "say every second that one is still there",
    help: "\
usage: topdown heartbeat [-46evq] [-c N] [-i SECONDS] [OPTION]... HOST [PORT]

Sends heartbeats to HOST, port 12001 by default, until Ctrl-C; then a goodbye.

  -c, --count N             so many, then a goodbye (default: until Ctrl-C)
  -i, --interval SECONDS    so far apart at most (default: 1)
      --local-port PORT     our own port (default: the first free one of
                            12002 to 12017, else any)
  -4, --ipv4                IPv4 only
  -6, --ipv6                IPv6 only
  -q, --quiet               print nothing
  -v, --verbose             print the dialogue on standard error
  -e, --explain             the same, with each datagram drawn
      --diagram FILE.svg    draw the run as a space-time diagram
  -h, --help                print this
",
    run,
};

/// Our own port, the first that is free: so a client that is started again
/// has the same address, and the server can tell that it was restarted.
const LOCAL_PORTS: std::ops::RangeInclusive<u16> = 12_002..=12_017;

/// A lost goodbye would look like a crash.
const GOODBYES: u32 = 3;

struct Heart {
    socket: UdpSocket,
    local: SocketAddr,
    server: SocketAddr,
    session: u64,
    interval: Duration,
    sequence: u32,
    refused: bool,
    trace: Trace,
}

fn run(mut args: Args) -> Result<Outcome, Error> {
    let count = args.value("--count", args::number("count", 1..=u32::MAX))?;
    let interval = args.value("--interval", args::seconds)?;
    let quiet = args.flag("--quiet");
    let limit = Duration::from_secs(5);
    let to = Destination::from_args(&mut args, PORT, limit)?;
    let trace = Trace::from_args(&mut args, Party::Client)?;
    args.finish()?;
    let server = to.resolve()?[0];
    let socket = open(server, to.local_port)?;
    net::wake_exactly();
    let signals = Signals::new(&[libc::SIGINT, libc::SIGTERM, libc::SIGQUIT])?;
    let mut heart = Heart {
        local: socket.local_addr().doing(|| "open a socket")?,
        socket,
        server,
        session: random()?,
        interval: interval.unwrap_or(Duration::from_secs(1)),
        sequence: 0,
        refused: false,
        trace,
    };
    let print = |line: String| match quiet {
        true => Ok(()),
        false => wrote(io::stdout().write_all(line.as_bytes())),
    };
    print(format!(
        "heartbeat to {server} every {} ms, session 0x{:016x}\n",
        heart.interval.as_millis(),
        heart.session
    ))?;
    heart.beat(count.unwrap_or(u32::MAX), &signals)?;
    heart.send(true)?;
    // (what is said of the goodbyes is not of the heartbeats)
    let refused = heart.refused;
    for _ in 1..GOODBYES {
        heart.send(true)?;
    }
    print(format!("goodbye after {}\n", heart.sequence))?;
    Ok(if refused { Outcome::No } else { Outcome::Yes })
}

/// A socket towards the server.
fn open(server: SocketAddr, port: u16) -> Result<UdpSocket, Error> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = match port {
        0 => LOCAL_PORTS
            .chain([0])
            .map(|port| UdpSocket::bind((any, port)))
            .find(|socket| socket.is_ok())
            .unwrap_or_else(|| UdpSocket::bind((any, 0))),
        port => UdpSocket::bind((any, port)),
    };
    let socket = socket.doing(|| format!("bind to port {port}"))?;
    socket.connect(server).doing(|| format!("connect to {server}"))?;
    Ok(socket)
}

fn random() -> Result<u64, Error> {
    getrandom::u64().map_err(|e| Error::protocol("draw a number", e))
}

impl Heart {
    /// "The periodic transmission of BFD Control packets MUST be jittered on
    /// a per-packet basis by up to 25%, that is, the interval MUST be
    /// reduced by a random value of 0 to 25%, in order to avoid
    /// self-synchronization with other systems on the same subnetwork."
    /// RFC 5880 §6.8.7
    fn beat(&mut self, count: u32, signals: &Signals) -> Result<(), Error> {
        let mut due = Instant::now();
        while self.sequence < count {
            self.send(false)?;
            let fraction = (random()? >> 11) as f64 / (1u64 << 53) as f64;
            due += self.interval.mul_f64(0.75 + 0.25 * fraction);
            // who stood still for long does not make up for it
            if due + self.interval < Instant::now() {
                due = Instant::now();
            }
            let limit = due.saturating_duration_since(Instant::now());
            if signals.wait(&[], limit)?.is_some() {
                break;
            }
        }
        Ok(())
    }

    fn send(&mut self, goodbye: bool) -> Result<(), Error> {
        self.sequence = self.sequence.wrapping_add(u32::from(!goodbye));
        let heartbeat = Heartbeat {
            goodbye,
            session: self.session,
            sequence: self.sequence,
            interval: self.interval,
            stamp: wall_clock(),
        };
        let bytes = heartbeat.emit();
        let word = if goodbye { "goodbye" } else { "heartbeat" };
        let line = format!("{word} {}", self.sequence);
        self.trace.line(Party::Client, 0, &line, || {
            "one datagram; nobody answers. The interval says how long \
             silence may last. RFC 5880 §6.8.4"
                .into()
        });
        self.trace.message(Party::Client, || line.clone());
        let (local, server) = (self.local, self.server);
        self.trace.drawing(|| draw_header(local, server, &bytes));
        self.trace.drawing(|| heartbeat.draw());
        match self.socket.send(&bytes) {
            // ICMP has said so of an earlier one; this one has not left
            Err(e) if is_from_icmp(&e) => {
                if !self.refused {
                    let why = match e.kind() {
                        ErrorKind::ConnectionRefused => {
                            "nobody listens there (ICMP)".into()
                        }
                        _ => reason(&e),
                    };
                    say(format!("topdown heartbeat: to {server}: {why}"));
                }
                self.refused = true;
                let _ = self.socket.send(&bytes);
                Ok(())
            }
            // the network may come back: that is what heartbeats are for
            Err(error) => {
                self.trace.fact(|| format!("not sent: {error}"));
                Ok(())
            }
            Ok(_) => {
                // (a goodbye that leaves says nothing of who listened)
                self.refused &= goodbye;
                Ok(())
            }
        }
    }
}
