//! `icmp-ping`: echo requests and what comes back. Lab "ICMP Pinger"; KR
//! 5.6, RFC 792.
//!
//! The lab's steps: (i) build an echo request, its data the time of sending;
//! (ii) compute the checksum; (iii) send it on a raw socket; (iv) wait up to
//! a second; (v) take the reply apart, and believe it only when it is one;
//! (vi) print the round-trip time, at the end the least, the average and the
//! greatest, and the loss.
//!
//! ```text
//! $ topdown icmp-ping -c 2 localhost
//! PING localhost (127.0.0.1) 56(84) bytes of data.
//! 64 bytes from localhost (127.0.0.1): icmp_seq=1 ttl=64 time=0.031 ms
//! 64 bytes from localhost (127.0.0.1): icmp_seq=2 ttl=64 time=0.054 ms
//! ```
//!
//! The lab's skeleton takes any packet with its identifier for a reply, so
//! on localhost it hears its own request. Here type, identifier, checksum,
//! source, sequence number and data must all be right.
//!
//! Read `run`, `Pinger::ping` and `Pinger::send`, then `hear` for what
//! comes; `host` judges replies, `report` prints, `show` is for `-e`.

mod hear;
mod host;
mod json;
mod options;
mod report;
mod show;

use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use super::capture::Capture;
use super::message::{Version, begin_data, emit, time_stamp};
use super::socket::{
    IcmpSocket, Travel, bind_to_interface, give_up_privileges, path_mtu,
};
use crate::Tool;
use crate::args::Args;
use crate::datagram::{is_from_icmp, wall_clock};
use crate::error::{Doing, Error, Outcome, reason};
use crate::net;
use crate::signal::Signals;
use crate::trace::{Party, Trace};
use hear::originate_timestamp;
use host::Host;
use options::Options;
use report::{Event, Report};

pub static TOOL: Tool = Tool {
    name: "icmp-ping",
    section: "KR 5.6",
    summary: "ping hosts over ICMP: times, loss, and what routers say",
    help: "\
usage: topdown icmp-ping [-46efnqv] [-c N] [-i SECONDS] [-W SECONDS]
                         [-w SECONDS] [-s BYTES] [-t TTL] [-I WHERE]
                         [-M do|dont] [OPTION]... HOST...

Sends ICMP echo requests and measures how long the replies take. Several hosts
are pinged side by side, in columns. Ctrl-C ends it.

  -c, --count N             send so many (default: until Ctrl-C)
  -i, --interval SECONDS    so far apart (default: 1)
  -W, --timeout SECONDS     wait that long for each reply (default: 1)
  -w, --deadline SECONDS    end after so long
  -s, --size BYTES          of so many bytes of data (default: 56)
  -t, --ttl TTL             may pass so many routers (default: the system's)
  -M, --fragment do|dont    do: never fragment; dont: let routers fragment
  -I, --interface WHERE     leave by this interface, or from this address
  -n, --numeric             print addresses alone
  -f, --flood               the next as soon as a reply is there (root alone;
                            without -c and -w, 10000)
      --timestamp           ask for the time instead: RFC 792's timestamp
  -4, --ipv4                IPv4 only
  -6, --ipv6                IPv6 only
      --json                print JSON, an object a line
  -q, --quiet               print the summary alone
      --pcap FILE           keep all packets, for Wireshark
  -v, --verbose             print the dialogue on standard error
  -e, --explain             the same, packets drawn and errors explained
      --diagram FILE.svg    draw the run as a space-time diagram
  -h, --help                print this
",
    run,
};

/// In a flood a request leaves after this long, reply or not: ping(8)'s.
const FLOOD_INTERVAL: Duration = Duration::from_millis(10);

/// Requests to several hosts leave one after the other, so far apart.
const GAP: Duration = Duration::from_micros(200);

/// The longest IP packet.
const MAX_PACKET: usize = 65_536;

/// An error of an earlier request may be in the way of a send, each once.
const TRIES: usize = 20;

/// Shorter intervals are not slept through.
const SHORT: Duration = Duration::from_micros(2500);

/// Signals are looked for after so many packets of a flood.
const FLOOD_TURN: u64 = 256;

struct Pinger {
    sockets: Vec<IcmpSocket>,
    hosts: Vec<Host>,
    options: Options,
    trace: Trace,
    capture: Option<Capture>,
    report: Report,
    started: Instant,
    /// When the next request is to leave.
    due: Instant,
    buffer: Vec<u8>,
}

fn run(mut args: Args) -> Result<Outcome, Error> {
    let options = Options::from_args(&mut args)?;
    let names = args.rest();
    if options.flood && names.len() > 1 {
        return Err(Error::Usage("-f: one host alone is flooded".into()));
    }
    // privileges are for the sockets, and for nothing that comes after
    let opened = [Version::V4, Version::V6].map(|v| (v, open(v, &options)));
    give_up_privileges(false)?;
    let trace = Trace::from_args(&mut args, Party::Client)?;
    args.finish()?;
    let mut hosts = options.hosts(names)?;
    let mut sockets = Vec::new();
    for (version, socket) in opened {
        let is_of = |h: &Host| Version::of(&h.address.ip()) == version;
        if hosts.iter().any(is_of) {
            sockets.push(socket?);
        }
    }
    for (i, host) in hosts.iter_mut().enumerate() {
        let version = Version::of(&host.address.ip());
        let socket = sockets.iter().find(|s| s.version == version);
        // a socket that is not raw has one from the kernel
        host.identifier = socket.map_or(0, |socket| match socket.raw {
            true => socket.identifier.wrapping_add(i as u16),
            false => socket.identifier,
        });
    }
    let capture = match &options.pcap {
        Some(file) => {
            let capture = Capture::create(Path::new(file));
            Some(capture.doing(|| format!("write {file}"))?)
        }
        None => None,
    };
    give_up_privileges(true)?;
    net::wake_exactly();
    let signals = Signals::new(&[libc::SIGINT, libc::SIGTERM, libc::SIGQUIT])?;
    let mut pinger = Pinger {
        sockets,
        report: Report::new(options.style(hosts.len()), options.numeric),
        hosts,
        options,
        trace,
        capture,
        started: Instant::now(),
        due: Instant::now(),
        buffer: vec![0; MAX_PACKET],
    };
    pinger.report.begin(&pinger.hosts, &pinger.options)?;
    pinger.ping(&signals)?;
    pinger.summary(true)?;
    let came = |h: &Host| h.record.answered + h.record.late > 0;
    let any = pinger.hosts.iter().any(came);
    Ok(if any { Outcome::Yes } else { Outcome::No })
}

/// A socket for one version of IP, as the options want it.
fn open(version: Version, options: &Options) -> Result<IcmpSocket, Error> {
    let mut random = [0; 2];
    getrandom::fill(&mut random)
        .map_err(|e| Error::protocol("draw an identifier", e))?;
    let identifier = u16::from_be_bytes(random);
    let own = options.own_address();
    let own = own.filter(|own| Version::of(own) == version);
    let raw = options.timestamp;
    let socket = IcmpSocket::open(version, raw, identifier, own)?;
    let doing = || "set the socket's options";
    let (ttl, fragments) = (options.ttl, options.fragments);
    socket.set_travel(Travel { ttl, fragments }).doing(doing)?;
    if let Some(name) = options.interface_name() {
        let doing = || format!("send by {name}");
        bind_to_interface(&socket, name).doing(doing)?;
    }
    Ok(socket)
}

impl Pinger {
    /// Sends on schedule and takes what comes, until all is decided.
    fn ping(&mut self, signals: &Signals) -> Result<(), Error> {
        let mut turn: u64 = 0;
        let rounds = self.options.count;
        let deadline = self.options.deadline.map(|limit| self.started + limit);
        loop {
            let now = Instant::now();
            self.expire(now)?;
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(());
            }
            let round = turn / self.hosts.len() as u64;
            let more = rounds.is_none_or(|rounds| round < rounds);
            let waiting = self.hosts.iter().any(|h| h.record.is_waiting());
            if !more && !waiting {
                return Ok(());
            }
            if more && now >= self.due {
                let index = (turn % self.hosts.len() as u64) as usize;
                self.send(index, round + 1)?;
                turn += 1;
                self.due = self.next_due(turn, now);
                if !self.options.flood {
                    continue;
                }
                // in a flood the reply may be here already
                self.receive_all(true)?;
                if !self.hosts[0].record.is_waiting() {
                    self.due = now;
                }
                if turn % FLOOD_TURN != 0 {
                    continue;
                }
            }
            let patience = self.options.patience;
            let expiry = self
                .hosts
                .iter_mut()
                .filter_map(|host| host.record.next_expiry(patience));
            let wake = more.then_some(self.due).into_iter().chain(deadline);
            let wake = wake.chain(expiry).min().unwrap_or(now);
            // Who has slept wakes in a cold processor and measures that as
            // well. For so short a time it is not worth it, as ping(8) has it.
            let awake = self.options.interval < SHORT && !waiting;
            let limit = match awake {
                true => Duration::ZERO,
                false => wake.saturating_duration_since(now),
            };
            let fds: Vec<i32> =
                self.sockets.iter().map(AsRawFd::as_raw_fd).collect();
            match signals.wait(&fds, limit)? {
                Some(libc::SIGQUIT) => self.summary(false)?,
                Some(_) => return Ok(()),
                None => self.receive_all(false)?,
            }
            if self.options.flood && !self.hosts[0].record.is_waiting() {
                self.due = self.due.min(Instant::now());
            }
        }
    }

    /// By the schedule, not the moment: it does not drift. But who stood
    /// still for long does not make up for it.
    fn next_due(&self, turn: u64, now: Instant) -> Instant {
        if self.options.flood {
            return now + FLOOD_INTERVAL;
        }
        // the hosts of a round one after the other, then a pause
        let count = self.hosts.len() as u64;
        let interval = self.options.interval;
        let gap = GAP.min(interval / self.hosts.len() as u32);
        let due = self.due
            + match turn % count {
                0 => interval - gap * (count - 1) as u32,
                _ => gap,
            };
        if due + interval < now { now } else { due }
    }

    /// What has waited as long as it may is given up.
    fn expire(&mut self, now: Instant) -> Result<(), Error> {
        for index in 0..self.hosts.len() {
            let patience = self.options.patience;
            let expired = self.hosts[index].record.expire(now, patience);
            for sequence in expired {
                self.trace.timed_out(patience);
                self.tell(index, &Event::TimedOut { sequence })?;
            }
        }
        Ok(())
    }

    /// `last`: nothing comes after it.
    fn summary(&mut self, last: bool) -> Result<(), Error> {
        let elapsed = self.started.elapsed();
        self.report.summary(&self.hosts, elapsed, last)
    }

    fn tell(&mut self, index: usize, event: &Event) -> Result<(), Error> {
        self.report.tell(&self.hosts, index, event)
    }

    /// The socket of a host's version of IP.
    fn socket(&self, index: usize) -> &IcmpSocket {
        let version = Version::of(&self.hosts[index].address.ip());
        let found = self.sockets.iter().find(|s| s.version == version);
        found.expect("a socket was opened for each version")
    }

    /// The lab's steps (i) to (iii).
    fn send(&mut self, index: usize, sequence: u64) -> Result<(), Error> {
        let socket = self.socket(index);
        let host = &self.hosts[index];
        let (to, identifier) = (host.address, host.identifier);
        let kind = self.kind(socket.version);
        let data = host.data(&[]);
        let mut message = emit(kind, identifier, sequence as u16, &data);
        // last of all the time, by both clocks
        let sent = Instant::now();
        let at = wall_clock();
        let mark = match self.options.timestamp {
            true => originate_timestamp(at),
            false => time_stamp(at, data.len()),
        };
        begin_data(&mut message, &mark);
        let mut outcome = socket.send(&message, &to);
        for _ in 0..TRIES {
            // (not of this one: an error of an earlier one was in its way)
            match &outcome {
                Err(e) if !socket.raw && is_from_icmp(e) => {
                    outcome = socket.send(&message, &to);
                }
                _ => break,
            }
        }
        self.hosts[index].record.sent(sequence, mark, sent);
        if outcome.is_ok() {
            self.show_request(index, at, message)?;
        }
        self.report.dot()?;
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => {
                let host = &mut self.hosts[index];
                host.record.give_up(sequence);
                host.errors += 1;
                let mtu = match error.raw_os_error() {
                    Some(libc::EMSGSIZE) => path_mtu(&to),
                    _ => None,
                };
                let mtu = mtu.map_or(String::new(), |m| format!(", mtu={m}"));
                let why = format!("{}{mtu}", reason(&error));
                self.tell(index, &Event::Local { sequence, why })
            }
        }
    }
}
