//! `udp-ping-server`: answers pings, and loses some of them. Lab "UDP
//! Pinger"; KR 2.7.1.
//!
//! The lab's server draws a number for each datagram and answers it in upper
//! case, or, in three or four cases of ten, not at all: so the client meets
//! loss on a network that has none. Here delay, duplicates and reordering
//! are to be had as well, and `--seed` repeats a run.
//!
//! ```text
//! $ topdown udp-ping-server -v --loss 4/11
//! topdown udp-ping-server: listening on 127.0.0.1:12000
//! -- 127.0.0.1:40112: Ping 1: answered
//! -- 127.0.0.1:40112: Ping 2: lost
//! ```
//!
//! Read `run`, `Echo::receive`, `Fate::draw`.
//!
//! Not here: an amplifier. An answer is no longer than its question, and one
//! source gets so many in a second and no more.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::PORT;
use super::dice::{Dice, milliseconds, probability};
use super::payload::sequence;
use crate::Tool;
use crate::args::{self, Args};
use crate::error::{Doing, Error, Outcome};
use crate::net;
use crate::output::say;
use crate::signal::Signals;
use crate::trace::{Party, Trace};
use crate::udp::{MAX_DATAGRAM, draw_header};

pub static TOOL: Tool = Tool {
    name: "udp-ping-server",
    section: "KR 2.7.1",
    summary: "answer pings over UDP, and lose some of them",
    help: "\
usage: topdown udp-ping-server [-ev] [-l [ADDR:]PORT] [--loss P] [OPTION]...

Answers each UDP datagram with the same in upper case, unless chance wills
otherwise. A probability P is written 0.3, 30% or 4/11.

  -l, --listen [ADDR:]PORT  where to listen (default: 127.0.0.1:12000)
      --once                answer one datagram, then exit
      --loss P              lose it (default: 0.3)
      --delay MS            answer so many milliseconds later
      --jitter MS           and up to so many more
      --duplicate P         answer twice
      --reorder P           hold the answer until after the next one
      --seed N              the same chances in the same order
      --rate N              answers a second to one source that is not this
                            machine (default: 1000)
  -v, --verbose             print the dialogue on standard error
  -e, --explain             the same, with each datagram's header drawn
      --diagram FILE.svg    draw the run as a space-time diagram
  -h, --help                print this
",
    run,
};

/// Answers that wait for their time; more are lost.
const MAX_DELAYED: usize = 10_000;
/// Datagrams that are taken before time and signals are looked at.
const BATCH: usize = 1000;
/// Sources whose rates are watched; with more, all are forgotten.
const MAX_SOURCES: usize = 10_000;
/// An answer that is held for the next one waits no longer.
const MAX_HELD: Duration = Duration::from_secs(3);

/// What chance does to answers.
struct Chances {
    loss: f64,
    delay: Duration,
    jitter: Duration,
    duplicate: f64,
    reorder: f64,
}

/// What it does to one.
struct Fate {
    lost: bool,
    delay: Duration,
    twice: bool,
    held: bool,
}

impl Fate {
    /// As many draws for each datagram, whatever becomes of it: so the same
    /// seed gives the n-th ping the same fate.
    fn draw(dice: &mut Dice, chances: &Chances) -> Fate {
        let (lost, twice) =
            (dice.falls(chances.loss), dice.falls(chances.duplicate));
        let held = dice.falls(chances.reorder);
        let delay = chances.delay + chances.jitter.mul_f64(dice.fraction());
        Fate { lost, delay, twice, held }
    }

    fn name(&self) -> &'static str {
        match self {
            Fate { lost: true, .. } => "lost",
            Fate { held: true, .. } => "held until after the next",
            Fate { twice: true, .. } => "answered twice",
            Fate { .. } => "answered",
        }
    }
}

/// An answer, and to whom.
type Answer = (Vec<u8>, SocketAddr);

struct Echo {
    socket: UdpSocket,
    address: SocketAddr,
    chances: Chances,
    dice: Dice,
    rate: f64,
    /// What each source may still be sent, and when that was counted.
    budgets: HashMap<IpAddr, (f64, Instant)>,
    /// By their time, and a number that keeps equal ones apart.
    delayed: BTreeMap<(Instant, u64), Answer>,
    number: u64,
    /// Held for reordering: until when at most, and when it was due.
    held: Option<(Instant, Instant, Answer)>,
    trace: Trace,
}

fn run(mut args: Args) -> Result<Outcome, Error> {
    let listen = args.value("--listen", net::listen_address)?;
    let once = args.flag("--once");
    let chances = Chances {
        loss: args.value("--loss", probability)?.unwrap_or(0.3),
        delay: args.value("--delay", milliseconds)?.unwrap_or_default(),
        jitter: args.value("--jitter", milliseconds)?.unwrap_or_default(),
        duplicate: args.value("--duplicate", probability)?.unwrap_or(0.0),
        reorder: args.value("--reorder", probability)?.unwrap_or(0.0),
    };
    let seed = args.value("--seed", args::number("seed", 0..=u64::MAX))?;
    let rate = args.value("--rate", args::number("rate", 1..=1_000_000))?;
    let trace = Trace::from_args(&mut args, Party::Server)?;
    args.finish()?;
    let address = listen.unwrap_or(([127, 0, 0, 1], PORT).into());
    let doing = || format!("listen on {address}");
    let socket = UdpSocket::bind(address).doing(doing)?;
    socket.set_nonblocking(true).doing(doing)?;
    let address = socket.local_addr().doing(doing)?;
    let signals = Signals::new(&[libc::SIGINT, libc::SIGTERM, libc::SIGQUIT])?;
    say(format!("topdown udp-ping-server: listening on {address}"));
    let random = getrandom::u64().unwrap_or_default();
    let dice = Dice::new(seed.unwrap_or(random));
    let rate = f64::from(rate.unwrap_or(1000));
    let mut echo = Echo::new(socket, address, chances, dice, rate, trace);
    echo.serve(&signals, once)?;
    Ok(Outcome::Yes)
}

impl Echo {
    fn new(
        socket: UdpSocket,
        address: SocketAddr,
        chances: Chances,
        dice: Dice,
        rate: f64,
        trace: Trace,
    ) -> Echo {
        Echo {
            socket,
            address,
            chances,
            dice,
            rate,
            budgets: HashMap::new(),
            delayed: BTreeMap::new(),
            number: 0,
            held: None,
            trace,
        }
    }

    /// Until a signal comes; with `once` until something was answered.
    fn serve(&mut self, signals: &Signals, once: bool) -> Result<(), Error> {
        let mut message = vec![0; MAX_DATAGRAM];
        loop {
            let answered = self.receive(&mut message) | self.send_due();
            if once && answered {
                return Ok(());
            }
            let limit = self.next_due().map_or(Duration::MAX, |due| {
                due.saturating_duration_since(Instant::now())
            });
            let fd = self.socket.as_raw_fd();
            if signals.wait(&[fd], limit)?.is_some() {
                return Ok(());
            }
        }
    }

    /// Takes all that has come. True: something was answered at once.
    fn receive(&mut self, message: &mut [u8]) -> bool {
        let mut answered = false;
        // (an error is of a datagram that nobody took: nothing to be done)
        for _ in 0..BATCH {
            let Ok((length, client)) = self.socket.recv_from(message) else {
                break;
            };
            // (a forged source: we would talk to ourselves for ever)
            if client != self.address {
                answered |= self.answer(&message[..length], client);
            }
        }
        answered
    }

    fn answer(&mut self, message: &[u8], client: SocketAddr) -> bool {
        let now = Instant::now();
        self.show(Party::Client, client, message);
        let fate = Fate::draw(&mut self.dice, &self.chances);
        let copies = if fate.twice { 2 } else { 1 };
        let allowed = self.may_answer(client.ip(), now, copies);
        self.trace.fact(|| {
            let ping = sequence(message).map(|n| format!("Ping {n}"));
            let ping = ping.unwrap_or_else(|| "a datagram".into());
            let became = if allowed { fate.name() } else { "over the rate" };
            format!("{client}: {ping}: {became}")
        });
        if fate.lost || !allowed {
            return false;
        }
        let answer = (message.to_ascii_uppercase(), client);
        let due = now + fate.delay;
        if fate.held && self.held.is_none() {
            self.held = Some((now + MAX_HELD, due, answer));
            return false;
        }
        for _ in 0..copies {
            self.send_at(due, now, &answer);
        }
        // the one that was held comes behind this one, however late
        if let Some((_, own, held)) = self.held.take() {
            let behind = due + Duration::from_micros(1);
            let at_once = fate.delay.is_zero() && own <= now;
            let due = if at_once { now } else { own.max(behind) };
            self.send_at(due, now, &held);
        }
        fate.delay.is_zero()
    }

    fn send_at(&mut self, due: Instant, now: Instant, answer: &Answer) {
        if due <= now {
            self.send(answer);
        } else if self.delayed.len() < MAX_DELAYED {
            self.number += 1;
            self.delayed.insert((due, self.number), answer.clone());
        }
    }

    /// A source that is not this machine has a budget, which grows with time
    /// up to what a second gives.
    fn may_answer(
        &mut self,
        source: IpAddr,
        now: Instant,
        copies: u32,
    ) -> bool {
        if source.to_canonical().is_loopback() {
            return true;
        }
        if self.budgets.len() >= MAX_SOURCES {
            self.budgets.clear();
        }
        let rate = self.rate;
        let (budget, counted) =
            self.budgets.entry(source).or_insert((rate, now));
        let passed = now.saturating_duration_since(*counted).as_secs_f64();
        *budget = (*budget + passed * rate).min(rate);
        *counted = now;
        let allowed = *budget >= f64::from(copies);
        if allowed {
            *budget -= f64::from(copies);
        }
        allowed
    }

    fn next_due(&self) -> Option<Instant> {
        let delayed = self.delayed.first_key_value().map(|(due, _)| due.0);
        let held = self.held.as_ref().map(|held| held.0);
        delayed.into_iter().chain(held).min()
    }

    /// Sends what has waited long enough.
    fn send_due(&mut self) -> bool {
        let (now, mut sent) = (Instant::now(), false);
        while let Some(first) = self.delayed.first_entry() {
            if first.key().0 > now {
                break;
            }
            let answer = first.remove();
            self.send(&answer);
            sent = true;
        }
        if let Some((_, _, held)) = self.held.take_if(|held| held.0 <= now) {
            self.send(&held);
            sent = true;
        }
        sent
    }

    fn send(&self, (data, client): &Answer) {
        self.show(Party::Server, *client, data);
        // (what cannot be sent is lost, which is what UDP is like)
        let _ = self.socket.send_to(data, client);
    }

    fn show(&self, from: Party, client: SocketAddr, data: &[u8]) {
        let (source, target) = match from {
            Party::Client => (client, self.address),
            _ => (self.address, client),
        };
        let note = || "one datagram: lost, or whole. KR 2.7.1, 3.3".into();
        self.trace.text(from, data, note);
        self.trace.drawing(|| draw_header(source, target, data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chances(duplicate: f64, reorder: f64) -> Chances {
        let (delay, jitter) = (Duration::ZERO, Duration::ZERO);
        Chances { loss: 0.0, delay, jitter, duplicate, reorder }
    }

    fn echo(chances: Chances) -> Echo {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let trace = Trace::default();
        Echo::new(socket, address, chances, Dice::new(1), 10.0, trace)
    }

    #[test]
    fn a_source_has_a_budget_that_grows_back() {
        let mut echo = echo(chances(0.0, 0.0));
        let start = Instant::now();
        let source = IpAddr::from([192, 0, 2, 1]);
        let mut may = |after: f64, copies| {
            let now = start + Duration::from_secs_f64(after);
            let mut count = 0;
            while echo.may_answer(source, now, copies) {
                count += 1;
            }
            count
        };
        assert_eq!(may(0.0, 1), 10);
        assert_eq!(may(0.5, 1), 5);
        assert_eq!(may(3600.0, 1), 10, "no more than a second gives");
        assert_eq!(may(3601.0, 2), 5, "two copies are two answers");
        let own = IpAddr::from([127, 0, 0, 1]);
        assert!((0..100).all(|_| echo.may_answer(own, start, 1)));
        let other = IpAddr::from([192, 0, 2, 2]);
        assert!(echo.may_answer(other, start, 1), "each has its own");
    }

    #[test]
    fn what_is_held_comes_behind_the_next_one() {
        let mut echo = echo(chances(0.0, 1.0));
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_nonblocking(true).unwrap();
        let from = client.local_addr().unwrap();
        let heard = || {
            let mut bytes = [0; 9];
            let count = client.recv(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
        };
        echo.answer(b"one", from);
        assert_eq!(heard(), None);
        echo.answer(b"two", from);
        assert_eq!(
            (heard(), heard()),
            (Some("TWO".into()), Some("ONE".into()))
        );
        // with a delay, which both keep
        echo.chances.delay = Duration::from_secs(9);
        echo.answer(b"three", from);
        echo.answer(b"four", from);
        assert_eq!((heard(), echo.held.is_none()), (None, true));
        let order: Vec<&[u8]> =
            echo.delayed.values().map(|(data, _)| &data[..]).collect();
        assert_eq!(order, [&b"FOUR"[..], b"THREE"]);
        // the last one is not held for ever
        echo.answer(b"five", from);
        let until = echo.held.as_ref().map(|held| held.0).unwrap();
        assert!(echo.next_due().unwrap() <= until);
    }

    #[test]
    fn the_nth_ping_has_the_same_fate() {
        let fates = |duplicate| -> Vec<bool> {
            let chances = Chances { loss: 0.3, ..chances(duplicate, 0.0) };
            let mut dice = Dice::new(7);
            (0..50).map(|_| Fate::draw(&mut dice, &chances).lost).collect()
        };
        assert_eq!(fates(0.0), fates(1.0));
    }
}
