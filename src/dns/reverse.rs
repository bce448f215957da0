//! From an address to its name: a PTR record, asked for in the background,
//! since a router's name is not worth waiting for.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::message::Name;
use super::record::PTR;
use super::resolver::Resolver;
use super::{HOSTS, RESOLV_CONF};
use crate::net::Family;
use crate::output::printable;
use crate::trace::Trace;

/// Look-ups at once.
const MAX_ASKED: usize = 32;

/// No name is waited for longer.
const LIMIT: Duration = Duration::from_secs(1);

/// `4.3.2.1.in-addr.arpa` for 1.2.3.4 (RFC 1035 §3.5); for IPv6 the nibbles
/// under `ip6.arpa` (RFC 3596 §2.5).
pub fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let nibbles = address.octets().into_iter().rev();
            let labels = nibbles.map(|o| format!("{:x}.{:x}.", o & 15, o >> 4));
            format!("{}ip6.arpa", labels.collect::<String>())
        }
    }
}

/// Addresses whose names were asked for, and those that are known.
pub struct Names {
    found: HashMap<IpAddr, String>,
    asked: HashMap<IpAddr, Instant>,
    answers: Receiver<(IpAddr, Option<String>)>,
    answer: Sender<(IpAddr, Option<String>)>,
}

impl Names {
    pub fn new() -> Names {
        let (answer, answers) = channel();
        let (found, asked) = Default::default();
        Names { found, asked, answers, answer }
    }

    /// Asks for the name of an address, once.
    pub fn ask(&mut self, address: IpAddr) {
        if self.asked.insert(address, Instant::now()).is_some() {
            return;
        }
        if self.asked.len() - self.found.len() > MAX_ASKED {
            self.found.insert(address, address.to_string());
            return;
        }
        let answer = self.answer.clone();
        let look_up = move || drop(answer.send((address, name_of(address))));
        // (without a thread there is no name)
        let _ = thread::Builder::new().spawn(look_up);
    }

    /// Is the name known, or no longer waited for?
    pub fn is_settled(&mut self, address: IpAddr) -> bool {
        while let Ok((address, name)) = self.answers.try_recv() {
            let text = name.unwrap_or_else(|| address.to_string());
            self.found.insert(address, text);
        }
        let asked = self.asked.get(&address);
        self.found.contains_key(&address)
            || asked.is_none_or(|asked| asked.elapsed() > LIMIT)
    }

    /// The name, or the address in its place.
    pub fn name(&self, address: IpAddr) -> String {
        let found = self.found.get(&address).cloned();
        found.unwrap_or_else(|| address.to_string())
    }
}

fn name_of(address: IpAddr) -> Option<String> {
    if let Some(name) = in_hosts(address) {
        return Some(name);
    }
    let mut resolver = Resolver::from_file(RESOLV_CONF, Family::Any).ok()?;
    resolver.timeout = LIMIT;
    resolver.attempts = 1;
    let name = Name::from_text(&reverse_name(address)).ok()?;
    let (_, message) = resolver.ask(&name, PTR, &Trace::default()).ok()?;
    let record = message.answers.iter().find(|r| r.kind == PTR)?;
    Some(printable(record.data.trim_end_matches('.')))
}

/// What hosts(5) says, before any server is asked.
fn in_hosts(address: IpAddr) -> Option<String> {
    let text = fs::read_to_string(HOSTS).ok()?;
    text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let listed: IpAddr = words.next()?.parse().ok()?;
        (listed == address).then(|| words.next().map(printable)).flatten()
    })
}
