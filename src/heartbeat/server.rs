//! `heartbeat-server`: who is there, who was, and how their heartbeats come.
//!
//! ```text
//! $ topdown heartbeat-server
//! topdown heartbeat-server: listening on 127.0.0.1:12001
//! 18:40:01.250 127.0.0.1:12002 up: session 0x9a1c2f4ee07b3d55, every 1000 ms
//! 18:40:17.911 127.0.0.1:12002 down: silent for 3.000 s
//! 18:40:30.004 127.0.0.1:12002 restarted: after 15.093 s of silence, …
//! 18:40:44.127 127.0.0.1:12002 goodbye: after 14 heartbeats
//! ```
//!
//! Silence of three intervals is a crash, or a network that has failed:
//! nobody can tell from here. Silence of everybody at once may be our own,
//! though: a machine that slept, a process that was stopped. That is looked
//! for, and nobody is blamed for it.
//!
//! Read `run`, `Watcher::watch`, `Watcher::take`, `Watcher::stood_still`;
//! `report` prints.
//!
//! Not here: authentication. Whoever can send from a client's address can
//! speak for it.

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::PORT;
use super::message::{Heartbeat, LENGTH};
use super::watch::{Arrival, Client, State};
use crate::Tool;
use crate::args::{self, Args};
use crate::datagram::{receive, wall_clock};
use crate::error::{Doing, Error, Outcome};
use crate::net;
use crate::output::say;
use crate::signal::Signals;
use crate::trace::{Party, Trace};

pub static TOOL: Tool = Tool {
    name: "heartbeat-server",
    section: "KR 2.7.1",
    summary: "watch heartbeats: who is up, down, restarted, gone",
    help: "\
usage: topdown heartbeat-server [-ev] [-l [ADDR:]PORT] [OPTION]...

Prints a line when a client is up, down, restarted or says goodbye, and each
minute or so how its heartbeats came:
  . in time   x lost   < late   ! out of order   2 twice

  -l, --listen [ADDR:]PORT  where to listen (default: 127.0.0.1:12001)
      --once                exit when the first client has gone
      --multiplier N        down after so many intervals of silence
                            (default: 3)
      --max-clients N       know so many at most (default: 10000)
      --json                print JSON, an object a line
  -v, --verbose             print the dialogue on standard error
  -e, --explain             the same, with each datagram drawn
      --diagram FILE.svg    draw the run as a space-time diagram
  -h, --help                print this
",
    run,
};

/// Datagrams that are taken before deadlines are looked at.
const BATCH: usize = 4096;

/// Room for those that come while we are busy.
const RECEIVE_BUFFER: i32 = 4 << 20;

/// We look at the clock so often while somebody may go down soon: what we
/// are later than that, we stood still.
const TICK: Duration = Duration::from_millis(20);
const SOON: Duration = Duration::from_secs(1);

/// To stand still for so long is worth a line, and losses may be our own.
const LONG: Duration = Duration::from_millis(300);

struct Watcher {
    socket: UdpSocket,
    clients: BTreeMap<SocketAddr, Client>,
    /// When each client that is up will have been silent for too long.
    deadlines: BTreeSet<(Instant, SocketAddr)>,
    multiplier: u32,
    max_clients: usize,
    json: bool,
    once: bool,
    /// The start, by both clocks.
    start: Arrival,
    /// How much longer the machine had run than it was awake, at the start;
    /// and how long it has slept since.
    asleep: Duration,
    slept: Duration,
    /// When nothing waited to be received.
    emptied: Instant,
    /// Clients beyond the bound: said once.
    full: bool,
    trace: Trace,
}

fn run(mut args: Args) -> Result<Outcome, Error> {
    let listen = args.value("--listen", net::listen_address)?;
    let once = args.flag("--once");
    let multiplier =
        args.value("--multiplier", args::number("multiplier", 1..=100))?;
    let max_clients =
        args.value("--max-clients", args::number("clients", 1..=1_000_000))?;
    let json = args.flag("--json");
    let trace = Trace::from_args(&mut args, Party::Server)?;
    args.finish()?;
    let address = listen.unwrap_or(([127, 0, 0, 1], PORT).into());
    let doing = || format!("listen on {address}");
    let socket = UdpSocket::bind(address).doing(doing)?;
    let level = libc::SOL_SOCKET;
    net::set_option(&socket, level, libc::SO_TIMESTAMPNS, 1).doing(doing)?;
    net::set_option(&socket, level, libc::SO_RCVBUF, RECEIVE_BUFFER)
        .doing(doing)?;
    let address = socket.local_addr().doing(doing)?;
    let signals = Signals::new(&[libc::SIGINT, libc::SIGTERM, libc::SIGQUIT])?;
    net::wake_exactly();
    say(format!("topdown heartbeat-server: listening on {address}"));
    let mut watcher = Watcher {
        socket,
        clients: BTreeMap::new(),
        deadlines: BTreeSet::new(),
        multiplier: multiplier.unwrap_or(3),
        max_clients: max_clients.unwrap_or(10_000),
        json,
        once,
        start: Arrival { at: Instant::now(), wall: wall_clock() },
        asleep: time_asleep(),
        slept: Duration::ZERO,
        emptied: Instant::now(),
        full: false,
        trace,
    };
    watcher.watch(&signals)?;
    watcher.table()?;
    Ok(Outcome::Yes)
}

/// CLOCK_BOOTTIME goes on while the machine sleeps, CLOCK_MONOTONIC does not.
fn time_asleep() -> Duration {
    let read = |clock| {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call fills in the struct, which is alive.
        unsafe { libc::clock_gettime(clock, &mut time) };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    read(libc::CLOCK_BOOTTIME).saturating_sub(read(libc::CLOCK_MONOTONIC))
}

impl Watcher {
    /// Until a signal comes; with `once` until the first client has gone.
    fn watch(&mut self, signals: &Signals) -> Result<(), Error> {
        let mut turn = Instant::now();
        loop {
            let began = Instant::now();
            let next = self.deadlines.first();
            let limit = match next {
                Some((due, _)) if *due < began + SOON => {
                    due.saturating_duration_since(began).min(TICK)
                }
                _ => SOON,
            };
            let signal = signals.wait(&[self.socket.as_raw_fd()], limit)?;
            let woke = Instant::now();
            match signal {
                Some(libc::SIGQUIT) => self.table()?,
                Some(_) => return Ok(()),
                None => {}
            }
            let known = self.take_all()?;
            // we stood still when the wait was longer than it should be, or
            // our own work was long
            let now = Instant::now();
            let waited = woke.saturating_duration_since(began + limit);
            self.stood_still(waited + (began - turn) + (now - woke));
            self.judge(known)?;
            let gone = |c: &Client| c.state != State::Up;
            if self.once && self.clients.values().any(gone) {
                return Ok(());
            }
            turn = now;
        }
    }

    /// Takes what has come. Until the time that comes back, all is known.
    fn take_all(&mut self) -> Result<Instant, Error> {
        // one octet more, so that what is too long is seen to be
        let mut buffer = [0; LENGTH + 1];
        let mut known = Instant::now();
        for _ in 0..BATCH {
            let now = Instant::now();
            let received = receive(&self.socket, &mut buffer, false);
            let Some(received) = received.doing(|| "receive")? else {
                self.emptied = now;
                return Ok(now);
            };
            let Some(from) = received.from else { continue };
            let arrival = self.arrival(received.at, now);
            known = arrival.at;
            match Heartbeat::parse(&buffer[..received.length]) {
                Some(heartbeat) => self.take(from, &heartbeat, arrival)?,
                None => self.trace.fact(|| format!("{from}: no heartbeat")),
            }
        }
        Ok(known)
    }

    /// When a datagram came: it may have waited for us, of which the kernel
    /// knows; but not since before we last found nothing.
    fn arrival(&self, at: Option<u64>, now: Instant) -> Arrival {
        let waited = at.and_then(|at| wall_clock().checked_sub(at));
        let waited = Duration::from_nanos(waited.unwrap_or(0));
        let most = now.saturating_duration_since(self.emptied);
        let at = now.checked_sub(waited.min(most)).unwrap_or(now);
        // by the wall clock of the start, and what has passed since: that the
        // clock is set meanwhile is nobody's delay
        let since = at.saturating_duration_since(self.start.at) + self.slept;
        let wall = self.start.wall + since.as_nanos() as u64;
        Arrival { at, wall }
    }

    fn take(
        &mut self,
        from: SocketAddr,
        heartbeat: &Heartbeat,
        arrival: Arrival,
    ) -> Result<(), Error> {
        let Some(client) = self.clients.get_mut(&from) else {
            return self.welcome(from, heartbeat, arrival);
        };
        let before = client.deadline(self.multiplier);
        let events = client.take(heartbeat, arrival);
        let after = client.deadline(self.multiplier);
        let full = client.full_line();
        if before != after {
            self.deadlines.extend(after.map(|due| (due, from)));
            if let Some(due) = before {
                self.deadlines.remove(&(due, from));
            }
        }
        self.show(from, heartbeat);
        for event in &events {
            self.tell(from, event)?;
        }
        match full {
            Some(line) => self.line(from, &line),
            None => Ok(()),
        }
    }

    /// A client that is heard for the first time.
    fn welcome(
        &mut self,
        from: SocketAddr,
        heartbeat: &Heartbeat,
        arrival: Arrival,
    ) -> Result<(), Error> {
        if heartbeat.goodbye {
            return Ok(());
        }
        if self.clients.len() >= self.max_clients && !self.make_room() {
            if !self.full {
                say(format!(
                    "topdown heartbeat-server: {} clients: no room for {from}",
                    self.clients.len()
                ));
            }
            self.full = true;
            return Ok(());
        }
        let client = Client::new(heartbeat, arrival);
        let deadline = client.deadline(self.multiplier);
        self.deadlines.extend(deadline.map(|due| (due, from)));
        self.clients.insert(from, client);
        self.show(from, heartbeat);
        let session = format!("0x{:016x}", heartbeat.session);
        let interval = heartbeat.interval.as_millis();
        let text = format!("session {session}, every {interval} ms");
        let more =
            format!(",\"session\":\"{session}\",\"interval_ms\":{interval}");
        self.event(from, "up", &text, &more)
    }

    /// Forgets one that has gone, or is down. False: all are there.
    fn make_room(&mut self) -> bool {
        let gone =
            |(_, client): &(&SocketAddr, &Client)| client.state != State::Up;
        let found = self.clients.iter().find(gone).map(|(from, _)| *from);
        found.is_some_and(|from| self.clients.remove(&from).is_some())
    }

    /// Who was silent for too long, up to a time until which all is known?
    fn judge(&mut self, known: Instant) -> Result<(), Error> {
        while let Some((due, from)) = self.deadlines.first().copied() {
            if due > known {
                break;
            }
            self.deadlines.pop_first();
            let Some(client) = self.clients.get_mut(&from) else { continue };
            let event = client.goes_down(known);
            self.tell(from, &event)?;
        }
        Ok(())
    }

    /// Were we ourselves not there? Stopped, held up by whoever reads our
    /// output, or asleep with the machine.
    fn stood_still(&mut self, late: Duration) {
        let slept = time_asleep().saturating_sub(self.asleep);
        let asleep = slept.saturating_sub(self.slept);
        self.slept = slept;
        let stood = late.max(asleep);
        if stood < TICK {
            return;
        }
        self.deadlines.clear();
        for (from, client) in &mut self.clients {
            client.excuse(late, stood >= LONG);
            let deadline = client.deadline(self.multiplier);
            self.deadlines.extend(deadline.map(|due| (due, *from)));
        }
        if stood >= LONG {
            say(format!(
                "topdown heartbeat-server: stood still for {:.3} s: nobody is \
                 blamed for it",
                stood.as_secs_f64()
            ));
        }
    }
}
