//! `traceroute`: which routers a packet passes. Lab "Traceroute"; KR 1.4.3
//! and 5.6, RFC 792.
//!
//! Each router takes one from a packet's time to live; the one that takes
//! the last throws it away and says so to the sender: "time exceeded". So
//! probes with a TTL of 1, 2, 3 … make one router after the other say who it
//! is. The last one reaches the host, which has no such UDP port and says
//! that (KR's way), or answers the echo request (`-I`, the lab's way).
//!
//! ```text
//! $ topdown traceroute h2
//! traceroute to h2 (203.0.113.10), 30 hops max, 60 byte packets
//!  1  r1 (192.0.2.1)  0.021 ms  0.006 ms  0.006 ms
//!  2  r2 (198.51.100.2)  0.009 ms  0.008 ms  0.008 ms
//!  3  h2 (203.0.113.10)  0.012 ms  0.009 ms  0.009 ms
//! ```
//!
//! Routers that share load among paths look at addresses, protocol and
//! ports (of ICMP at the checksum), so all probes have the same ones: they
//! are one flow and take one path, as Augustin and others proposed ("Paris
//! traceroute"). What tells them apart is the beginning of their data.
//!
//! Read `run`, `Tracer::trace`, then `probe` for what is sent and heard,
//! `table` for what is printed. UDP's probes want no privileges: ICMP errors
//! about a UDP socket wait in its error queue.
//!
//! Not here: TCP probes, which would need raw sockets and a listener's
//! goodwill.

mod drawing;
mod probe;
mod table;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::message::Version;
use super::socket::give_up_privileges;
use crate::Tool;
use crate::args::{self, Args};
use crate::error::{Doing, Error, Outcome};
use crate::net::{self, Family};
use crate::signal::Signals;
use crate::stats::ms;
use crate::trace::{Party, Trace};
use probe::{Answer, Heard, Probes, Said, icmp_socket};
use table::{Cell, Table};

pub static TOOL: Tool = Tool {
    name: "traceroute",
    section: "KR 1.4.3",
    summary: "the routers on the way to a host",
    help: "\
usage: topdown traceroute [-46eFInv] [-q N] [-f TTL] [-m TTL] [-w SECONDS]
                          [-p PORT] [-s ADDRESS] [OPTION]... HOST [BYTES]

Sends packets of BYTES (60, over IPv6 80) whose time to live runs out at the
first router, the second, and so on, until HOST itself answers.

  -I, --icmp                echo requests, not UDP datagrams (the lab)
  -q, --queries N           so many probes a hop (default: 3)
  -f, --first TTL           begin with this TTL (default: 1)
  -m, --max-hops TTL        end with this one (default: 30)
  -w, --timeout SECONDS     wait that long for each answer (default: 5)
  -p, --port PORT           the UDP port that nobody has (default: 33434)
  -s, --source ADDRESS      send from this address of ours
  -F, --dont-fragment       forbid routers to fragment
  -n, --numeric             print addresses alone
  -4, --ipv4                IPv4 only
  -6, --ipv6                IPv6 only
      --json                print JSON, an object a hop
  -v, --verbose             print the dialogue on standard error
  -e, --explain             the same, and tell the story of each probe
      --diagram FILE.svg    draw where each TTL ran out
  -h, --help                print this
",
    run,
};

/// Probes that are waited for at once: traceroute(8)'s.
const IN_FLIGHT: usize = 16;

/// A name server may take its time.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Answers that are taken before time-outs and signals are looked at.
const BATCH: usize = 1000;

/// While a line waits for nothing but a name, it is looked for so often.
const NAME_TURN: Duration = Duration::from_millis(5);

/// No probe is given up sooner, however quick its neighbours were.
const LEAST_PATIENCE: Duration = Duration::from_millis(300);

/// One that was sent.
struct Sent {
    at: Instant,
    /// The same by the system's clock, which the kernel's time stamps have.
    stamp: u64,
    cell: usize,
}

struct Tracer {
    probes: Probes,
    table: Table,
    patience: Duration,
    /// Those that are waited for, by sequence number.
    waiting: BTreeMap<u16, Sent>,
    /// Of the next probe on the wire.
    sequence: u16,
    /// Cells of the table in the order in which they are to be sent.
    queue: Vec<usize>,
    /// A router quotes so little that nobody knows which probe it means:
    /// from then on there is only one.
    in_flight: usize,
    trace: Trace,
}

/// What the options want.
struct Plan {
    host: String,
    /// Of a packet, as it was typed.
    bytes: Option<String>,
    icmp: bool,
    port: u16,
    family: Family,
    source: Option<IpAddr>,
    whole: bool,
    queries: usize,
    ttls: RangeInclusive<u8>,
    patience: Duration,
    numeric: bool,
    json: bool,
    diagram: Option<String>,
}

impl Plan {
    fn from_args(args: &mut Args) -> Result<Plan, Error> {
        let ttl = |what| args::number(what, 1..=255);
        let queries = args::number("queries", 1..=10);
        let first = args.value("--first", ttl("the first TTL"))?.unwrap_or(1);
        let last = args.value("--max-hops", ttl("the greatest TTL"))?;
        let last = last.unwrap_or(first.max(30));
        if last < first {
            return Err(Error::Usage("-m is less than -f".into()));
        }
        let patience = args.value("--timeout", args::seconds)?;
        let source = args.value("--source", source)?;
        let family = match (Family::from_args(args)?, source) {
            (Family::Any, Some(IpAddr::V4(_))) => Family::V4,
            (Family::Any, Some(IpAddr::V6(_))) => Family::V6,
            (family, _) => family,
        };
        Ok(Plan {
            icmp: args.flag("--icmp"),
            port: args.value("--port", net::port)?.unwrap_or(probe::PORT),
            family,
            source,
            whole: args.flag("--dont-fragment"),
            queries: args.value("--queries", queries)?.unwrap_or(3),
            ttls: first..=last,
            patience: patience.unwrap_or(Duration::from_secs(5)),
            numeric: args.flag("--numeric"),
            json: args.flag("--json"),
            diagram: args.value("--diagram", args::text)?,
            host: args.operand("HOST")?,
            bytes: args.optional_operand(),
        })
    }

    /// The way out. Privileges are for -I's socket, and are given up before
    /// anything else is done.
    fn probes(&self) -> Result<Probes, Error> {
        let versions = match self.icmp {
            true => &[Version::V4, Version::V6][..],
            false => &[],
        };
        let open = |v: &Version| (*v, icmp_socket(*v, self.source));
        let opened: Vec<_> = versions.iter().map(open).collect();
        give_up_privileges(false)?;
        let all = net::resolve(&self.host, self.port, self.family, LOOK_UP)?;
        let target = all[0];
        let version = Version::of(&target.ip());
        let socket = opened.into_iter().find(|(v, _)| *v == version);
        let socket = socket.map(|(_, socket)| socket).transpose()?;
        let size = probe::size(self.bytes.as_deref(), target)?;
        let (source, whole) = (self.source, self.whole);
        let options = probe::Options { source, whole, size };
        Probes::open(options, target, socket)
    }
}

fn run(mut args: Args) -> Result<Outcome, Error> {
    let plan = Plan::from_args(&mut args)?;
    let probes = plan.probes()?;
    let trace = Trace::from_args(&mut args, Party::Client)?;
    let title = args.command_line();
    args.finish()?;
    let drawing = match &plan.diagram {
        Some(file) => {
            let doing = || format!("write {file}");
            Some((file, File::create(file).doing(doing)?))
        }
        None => None,
    };
    give_up_privileges(true)?;
    let target = probes.target.ip();
    let table = Table::new(&plan.ttls, plan.queries, plan.numeric, plan.json);
    table.begin(&plan.host, target, probes.size())?;
    let signals = Signals::new(&[libc::SIGINT, libc::SIGTERM])?;
    let mut tracer = Tracer {
        probes,
        queue: (0..table.cells.len()).rev().collect(),
        table,
        patience: plan.patience,
        waiting: BTreeMap::new(),
        sequence: 0,
        in_flight: IN_FLIGHT,
        trace,
    };
    tracer.trace(&signals)?;
    tracer.table.end(target)?;
    if let Some((file, mut out)) = drawing {
        let drawing = drawing::draw(&title, &tracer.table, target);
        out.write_all(drawing.as_bytes()).doing(|| format!("write {file}"))?;
    }
    Ok(match tracer.table.reached(target) {
        true => Outcome::Yes,
        false => Outcome::No,
    })
}

fn source(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("no address '{text}'"))
}

impl Tracer {
    fn trace(&mut self, signals: &Signals) -> Result<(), Error> {
        loop {
            self.expire(Instant::now());
            if !self.table.print()? {
                return Ok(());
            }
            while self.waiting.len() < self.in_flight && self.may_send() {
                self.send()?;
                // (on a short path the answer is here already)
                self.receive()?;
            }
            let names = self.table.waits_for_name();
            if self.waiting.is_empty() && !names {
                continue; // all that was to come is here
            }
            let now = Instant::now();
            let expiries = self.waiting.values().map(|sent| {
                let due = sent.at + self.patience_for(sent.cell);
                due.saturating_duration_since(now)
            });
            let limit = expiries.min().unwrap_or(NAME_TURN);
            let limit = if names { limit.min(NAME_TURN) } else { limit };
            if signals.wait(&[self.probes.fd()], limit)?.is_some() {
                return Ok(());
            }
            self.receive()?;
        }
    }

    /// Takes all that has come: errors first, then datagrams and replies.
    fn receive(&mut self) -> Result<(), Error> {
        for queue in [true, false] {
            for _ in 0..BATCH {
                match self.probes.receive(queue)? {
                    Heard::Nothing => break,
                    Heard::NotOurs => {}
                    Heard::Answer(answer) => self.take(&answer)?,
                }
            }
        }
        Ok(())
    }

    /// Is there a probe to be sent, short of where the path ends?
    fn may_send(&mut self) -> bool {
        let end = self.table.end_of_path();
        while let Some(cell) = self.queue.last() {
            if self.table.ttl(*cell) <= end {
                return true;
            }
            self.queue.pop();
        }
        false
    }

    fn send(&mut self) -> Result<(), Error> {
        let Some(cell) = self.queue.pop() else { return Ok(()) };
        let ttl = self.table.ttl(cell);
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.trace.line(
            Party::Client,
            0,
            format!("probe {sequence}, TTL {ttl}: {}", self.probes.what()),
            || match ttl {
                1 => "the first router throws it away. KR 5.6".into(),
                2 => "may pass a router; the next throws it away".into(),
                _ => format!(
                    "may pass {} routers; the next throws it away",
                    ttl - 1
                ),
            },
        );
        match self.probes.send(ttl, sequence) {
            Ok((at, stamp)) => {
                let sent = Sent { at, stamp, cell };
                self.waiting.insert(sequence, sent);
                Ok(())
            }
            Err(error) => {
                let target = self.probes.target;
                Err(error).doing(|| format!("send to {target}"))
            }
        }
    }

    fn patience_for(&self, cell: usize) -> Duration {
        let ttl = self.table.ttl(cell);
        let here = self.table.slowest(ttl);
        let behind = self.table.slowest(ttl.saturating_add(1));
        patience(self.patience, here, behind)
    }

    fn expire(&mut self, now: Instant) {
        let expired = |sent: &Sent| {
            let waited = now.saturating_duration_since(sent.at);
            waited >= self.patience_for(sent.cell)
        };
        let gone: Vec<u16> = self
            .waiting
            .iter()
            .filter(|(_, sent)| expired(sent))
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in gone {
            if let Some(sent) = self.waiting.remove(&sequence) {
                self.table.cells[sent.cell] = Some(Cell::Silent);
                let ttl = self.table.ttl(sent.cell);
                self.trace.fact(|| {
                    format!("probe {sequence}, TTL {ttl}: no answer in time")
                });
            }
        }
    }

    fn take(&mut self, answer: &Answer) -> Result<(), Error> {
        let arrived = Instant::now();
        // (who listens on the port may answer with anything)
        let is_reply = matches!(answer.said, Said::Reply);
        let is_known = |s: &u16| !is_reply || self.waiting.contains_key(s);
        let known = match answer.sequence.filter(is_known) {
            Some(sequence) => Some(sequence),
            None if self.waiting.len() == 1 => {
                self.waiting.keys().next().copied()
            }
            None => return self.one_at_a_time(answer.from),
        };
        let sent = known.and_then(|s| Some((s, self.waiting.remove(&s)?)));
        let Some((sequence, sent)) = sent else {
            let from = answer.from;
            self.trace.fact(|| format!("from {from}: an answer, too late"));
            return Ok(());
        };
        // by the kernel's clock, unless that was set in between
        let most = arrived.saturating_duration_since(sent.at);
        let stamped = answer.at.and_then(|at| at.checked_sub(sent.stamp));
        let rtt = stamped.map(Duration::from_nanos).filter(|t| *t <= most);
        let rtt = ms(rtt.unwrap_or(most));
        let ttl = self.table.ttl(sent.cell);
        let (line, why) = answer.story(ttl);
        self.trace.line(
            Party::Server,
            0,
            format!("probe {sequence}, TTL {ttl}: {line}, {rtt:.3} ms"),
            || why,
        );
        let is_last = answer.is_last();
        let mark = match &answer.said {
            Said::Reply => String::new(),
            Said::Error { meaning, .. } => meaning.mark.clone(),
        };
        let from = answer.from;
        self.table.set(sent.cell, Cell::Answer { from, rtt, mark, is_last });
        Ok(())
    }

    /// Those that are in flight are sent again, one by one, and as another
    /// flow, so that no answer to the first time is taken for one to the
    /// second.
    fn one_at_a_time(&mut self, from: IpAddr) -> Result<(), Error> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.trace.fact(|| {
            format!(
                "from {from}: an answer that quotes too little to know to \
                 which probe; from now on there is only one at a time"
            )
        });
        self.in_flight = 1;
        let again = std::mem::take(&mut self.waiting);
        self.queue.extend(again.into_values().rev().map(|sent| sent.cell));
        self.probes.begin_anew()
    }
}

/// How long a probe is waited for: `-w`, but less where its neighbours have
/// answered. Three times as long as the slowest of its hop took, or ten times
/// as long as that of the hop behind, in milliseconds: traceroute(8)'s
/// factors.
fn patience(
    most: Duration,
    here: Option<f64>,
    behind: Option<f64>,
) -> Duration {
    let here = here.map(|ms| ms * 3.0);
    let behind = behind.map(|ms| ms * 10.0);
    let Some(ms) = here.or(behind) else { return most };
    let limit = Duration::from_secs_f64(ms / 1e3).max(LEAST_PATIENCE);
    limit.min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_probe_is_waited_for() {
        let ms = |here, behind| {
            patience(Duration::from_secs(5), here, behind).as_millis()
        };
        assert_eq!(ms(None, None), 5000);
        assert_eq!(ms(Some(200.0), None), 600);
        assert_eq!(ms(None, Some(90.0)), 900);
        assert_eq!(ms(Some(200.0), Some(1.0)), 600, "its own hop's count");
        assert_eq!(ms(Some(0.1), None), LEAST_PATIENCE.as_millis());
        assert_eq!(ms(Some(4000.0), None), 5000, "never longer than -w");
        let little = Duration::from_millis(50);
        assert_eq!(patience(little, Some(0.1), None), little);
    }
}
