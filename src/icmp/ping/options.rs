//! The options of `icmp-ping`, and its operands: which hosts.

use std::io::{self, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::super::message::payload;
use super::super::socket::{
    Fragments, bind_to_interface, interface_number, is_root,
};
use super::host::Host;
use super::report::Style;
use crate::args::{self, Args};
use crate::error::{Doing, Error};
use crate::net::{self, Family};
use crate::output::say;

/// A name server may take its time.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Who is not root sends no faster: ping(8)'s bound.
const LEAST_INTERVAL: Duration = Duration::from_millis(2);

/// Decades, at one a second.
const MAX_COUNT: u64 = 1_000_000_000;

/// A flood has an end.
const FLOOD_COUNT: u64 = 10_000;

/// The most data that fit: over IPv4 beside a header of 20 and ICMP's 8.
const MAX_SIZE: usize = 65_507;

pub struct Options {
    pub count: Option<u64>,
    pub interval: Duration,
    /// For each reply.
    pub patience: Duration,
    pub deadline: Option<Duration>,
    pub size: usize,
    pub ttl: Option<u8>,
    pub fragments: Option<Fragments>,
    /// The name of an interface, or an address of ours.
    interface: Option<String>,
    pub numeric: bool,
    pub flood: bool,
    pub timestamp: bool,
    pub pcap: Option<String>,
    json: bool,
    quiet: bool,
    family: Family,
}

impl Options {
    pub fn from_args(args: &mut Args) -> Result<Options, Error> {
        let second = Duration::from_secs(1);
        let deadline = args.value("--deadline", args::seconds)?;
        let flood = args.flag("--flood");
        let count =
            args.value("--count", args::number("count", 1..=MAX_COUNT))?;
        let bound = (flood && deadline.is_none()).then_some(FLOOD_COUNT);
        let timestamp = args.flag("--timestamp");
        let size = args.value("--size", args::number("size", 0..=MAX_SIZE))?;
        if timestamp && size.is_some() {
            return usage("--timestamp: its size is 12, and -s not for it");
        }
        let family = Family::from_args(args)?;
        let options = Options {
            count: count.or(bound),
            interval: args
                .value("--interval", args::seconds)?
                .unwrap_or(second),
            patience: args.value("--timeout", args::seconds)?.unwrap_or(second),
            deadline,
            size: if timestamp { 12 } else { size.unwrap_or(56) },
            ttl: args.value("--ttl", args::number("ttl", 1..=255))?,
            fragments: args.value("--fragment", fragments)?,
            interface: args.value("--interface", args::text)?,
            numeric: args.flag("--numeric"),
            flood,
            timestamp,
            pcap: args.value("--pcap", args::text)?,
            json: args.flag("--json"),
            quiet: args.flag("--quiet"),
            family,
        };
        if flood && !is_root() {
            return usage("-f: only root may flood");
        }
        if !is_root() && options.interval < LEAST_INTERVAL {
            return usage("-i: less than 0.002 seconds is for root");
        }
        options.consistent()
    }

    /// An address of ours, and a timestamp, want their version of IP.
    fn consistent(mut self) -> Result<Options, Error> {
        let own = self.own_address().map(|own| match own {
            IpAddr::V4(_) => ("-I", Family::V4),
            IpAddr::V6(_) => ("-I", Family::V6),
        });
        let stamps = self.timestamp.then_some(("--timestamp", Family::V4));
        for (option, wanted) in own.into_iter().chain(stamps) {
            if self.family != Family::Any && self.family != wanted {
                return usage(&format!("{option}: of the other version of IP"));
            }
            self.family = wanted;
        }
        Ok(self)
    }

    /// From which address of ours, if one is given.
    pub fn own_address(&self) -> Option<IpAddr> {
        self.interface.as_ref()?.parse().ok()
    }

    /// By which interface, if one is given.
    pub fn interface_name(&self) -> Option<&str> {
        let name = self.interface.as_deref()?;
        self.own_address().is_none().then_some(name)
    }

    /// How a run with so many hosts is told.
    pub fn style(&self, hosts: usize) -> Style {
        match (self.json, self.quiet, hosts) {
            (true, ..) => Style::Json,
            (_, true, _) => Style::Quiet,
            (_, _, 1) if self.flood => match io::stdout().is_terminal() {
                true => Style::Dots,
                false => Style::Quiet,
            },
            (_, _, 1) => Style::Lines,
            _ => Style::Columns,
        }
    }

    /// The hosts, by names or addresses. Of several, those that cannot be
    /// asked are named and left out.
    pub fn hosts(&self, names: Vec<String>) -> Result<Vec<Host>, Error> {
        let (mut hosts, count) = (Vec::new(), names.len());
        for name in names {
            match self.host(name) {
                Err(error) if count > 1 => {
                    say(format!("topdown icmp-ping: {error}"));
                }
                other => hosts.push(other?),
            }
        }
        match (hosts.is_empty(), count) {
            (true, 0) => usage("HOST is missing"),
            (true, _) => Err(Error::Told),
            (false, _) => Ok(hosts),
        }
    }

    fn host(&self, name: String) -> Result<Host, Error> {
        let all = net::resolve(&name, 0, self.family, LOOK_UP)?;
        let mut address = all[0];
        // a link-local address is good on one link: -I says on which
        if let (SocketAddr::V6(v6), Some(interface)) =
            (&mut address, self.interface_name())
        {
            let local =
                v6.ip().is_unicast_link_local() || v6.ip().is_multicast();
            if local && v6.scope_id() == 0 {
                v6.set_scope_id(interface_number(interface).unwrap_or(0));
            }
        }
        let local = self.local_address(address)?;
        let blank = match self.timestamp {
            true => vec![0; self.size],
            false => payload(self.size),
        };
        Ok(Host::new(name, address, local, blank))
    }

    /// The address that the system would send from: a datagram socket knows
    /// without sending anything.
    fn local_address(&self, to: SocketAddr) -> Result<IpAddr, Error> {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let own = self.own_address().unwrap_or(any);
        let doing = || format!("send to {}", to.ip());
        let socket = UdpSocket::bind((own, 0)).doing(doing)?;
        if let Some(name) = self.interface_name() {
            bind_to_interface(&socket, name)
                .doing(|| format!("send by {name}"))?;
        }
        let mut discard = to;
        discard.set_port(9);
        socket.connect(discard).doing(doing)?;
        Ok(socket.local_addr().doing(doing)?.ip())
    }

    /// ` from ADDRESS INTERFACE:`, as ping(8) has it with -I.
    pub fn sends_from(&self, local: IpAddr) -> String {
        match (&self.interface, self.interface_name()) {
            (Some(_), Some(name)) => format!(" from {local} {name}:"),
            (Some(_), None) => format!(" from {local} :"),
            (None, _) => String::new(),
        }
    }
}

fn usage<T>(text: &str) -> Result<T, Error> {
    Err(Error::Usage(text.into()))
}

/// `do` not fragment, or `dont` mind: ping(8)'s words.
fn fragments(text: &str) -> Result<Fragments, String> {
    match text {
        "do" => Ok(Fragments::Never),
        "dont" => Ok(Fragments::Allowed),
        other => Err(format!("do or dont is wanted, not '{other}'")),
    }
}
