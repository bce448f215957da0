//! What is sent, and what comes back: UDP datagrams to a port that nobody
//! has, or echo requests.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant;

use super::super::message::{HEADER, Message, Version, emit, payload};
use super::super::names::{Meaning, is_time_exceeded, meaning, rest_of};
use super::super::quote::{Quote, split_extension};
use super::super::socket::{Fragments, IcmpSocket, Travel, set_travel};
use crate::args;
use crate::datagram::{Received, hear_all, is_from_icmp, receive, wall_clock};
use crate::error::{Doing, Error};
use crate::udp::internet_checksum;

/// The first of the ports that traceroute has always used, in the hope that
/// nobody listens there.
pub const PORT: u16 = 33434;

/// The longest packet that comes back.
const MAX_PACKET: usize = 65_536;

/// An error of an earlier probe may be in the way of a send, each once.
const TRIES: usize = 20;

pub struct Options {
    pub source: Option<IpAddr>,
    /// Not to be fragmented.
    pub whole: bool,
    /// Of a probe, its headers included.
    pub size: usize,
}

/// The size of a packet: as given, or traceroute(8)'s own. There must be room
/// for the headers and a sequence number.
pub fn size(text: Option<&str>, target: SocketAddr) -> Result<usize, Error> {
    let headers = Version::of(&target.ip()).header() + HEADER;
    let wanted = args::number("bytes", headers + 4..=65_000);
    match text {
        Some(text) => wanted(text).map_err(Error::Usage),
        None => Ok(headers + 32),
    }
}

/// The way out for all probes of a run.
pub struct Probes {
    kind: Kind,
    version: Version,
    pub target: SocketAddr,
    /// Octets of data.
    data: usize,
    buffer: Vec<u8>,
    options: Options,
}

enum Kind {
    Udp(UdpSocket),
    Icmp(IcmpSocket),
}

/// An echo socket for `-I`.
pub fn icmp_socket(
    version: Version,
    own: Option<IpAddr>,
) -> Result<IcmpSocket, Error> {
    let mut random = [0; 2];
    getrandom::fill(&mut random)
        .map_err(|e| Error::protocol("draw an identifier", e))?;
    let own = own.filter(|own| Version::of(own) == version);
    IcmpSocket::open(version, false, u16::from_be_bytes(random), own)
}

/// A socket that hears what ICMP says of its datagrams.
fn udp_socket(
    options: &Options,
    target: SocketAddr,
) -> Result<UdpSocket, Error> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let own = options.source.unwrap_or(any);
    let socket = UdpSocket::bind((own, 0));
    let socket = socket.doing(|| format!("send from {own}"))?;
    let doing = || format!("send to {target}");
    hear_all(&socket, target.is_ipv6(), true).doing(doing)?;
    socket.connect(target).doing(doing)?;
    socket.set_nonblocking(true).doing(doing)?;
    Ok(socket)
}

/// Something that came back.
pub struct Answer {
    /// Of the probe; `None` when too little of it is quoted.
    pub sequence: Option<u16>,
    pub from: IpAddr,
    /// When, by the kernel: nanoseconds since 1970.
    pub at: Option<u64>,
    pub said: Said,
}

/// What a look at the socket found.
pub enum Heard {
    Nothing,
    /// Something that says nothing of a probe.
    NotOurs,
    Answer(Answer),
}

pub enum Said {
    /// The host itself: an echo reply, or a datagram.
    Reply,
    Error {
        kind: u8,
        code: u8,
        meaning: Meaning,
        quote: Option<Quote>,
    },
}

impl Answer {
    /// Does the path end here? Only "time exceeded" means that it goes on.
    pub fn is_last(&self) -> bool {
        match &self.said {
            Said::Reply => true,
            Said::Error { kind, code, .. } => {
                !is_time_exceeded(&self.from, *kind, *code)
            }
        }
    }

    /// What happened, and what that means.
    pub fn story(&self, ttl: u8) -> (String, String) {
        let from = self.from;
        match &self.said {
            Said::Reply => (
                format!("{from} answers"),
                "the host itself: the path is known".into(),
            ),
            Said::Error { kind, code, meaning, quote } => {
                let words = &meaning.words;
                let line = format!("{from} says: {words}");
                let mut why = format!("type {kind}, code {code}");
                why.push_str(&match (self.is_last(), meaning.mark.as_str()) {
                    (false, _) => format!(
                        ": hop {ttl} took the last of the TTL and threw the \
                         probe away"
                    ),
                    (true, "") => ": the host itself, where no socket has the \
                                   port: the path is known"
                        .into(),
                    (true, _) => format!(": {}", meaning.why),
                });
                if let Some(quote) = quote {
                    why.push_str(&format!("; it quotes your {quote}"));
                }
                (line, why)
            }
        }
    }
}

impl Probes {
    pub fn open(
        options: Options,
        mut target: SocketAddr,
        socket: Option<IcmpSocket>,
    ) -> Result<Probes, Error> {
        let version = Version::of(&target.ip());
        let kind = match socket {
            Some(socket) => {
                // (a raw socket of IPv6 would take a port for a protocol)
                target.set_port(0);
                Kind::Icmp(socket)
            }
            None => Kind::Udp(udp_socket(&options, target)?),
        };
        let data = options.size - version.header() - HEADER;
        let buffer = vec![0; MAX_PACKET];
        let probes = Probes { kind, version, target, data, buffer, options };
        probes.set_fragments().doing(|| "set the socket's options")?;
        Ok(probes)
    }

    fn set_fragments(&self) -> io::Result<()> {
        let fragments = match self.options.whole {
            true => Fragments::NeverAtAll,
            false => Fragments::Allowed,
        };
        let travel = Travel { ttl: None, fragments: Some(fragments) };
        set_travel(&self.fd(), self.version, travel)
    }

    /// Another flow, from another port: what still comes to the one before
    /// is heard no more.
    pub fn begin_anew(&mut self) -> Result<(), Error> {
        if let Kind::Udp(socket) = &mut self.kind {
            *socket = udp_socket(&self.options, self.target)?;
            self.set_fragments().doing(|| "set the socket's options")?;
        }
        Ok(())
    }

    /// Of a probe, its headers included.
    pub fn size(&self) -> usize {
        self.options.size
    }

    pub fn fd(&self) -> RawFd {
        match &self.kind {
            Kind::Udp(socket) => socket.as_raw_fd(),
            Kind::Icmp(socket) => socket.as_raw_fd(),
        }
    }

    /// A probe in words.
    pub fn what(&self) -> String {
        match &self.kind {
            Kind::Udp(socket) => {
                let port =
                    |a: io::Result<SocketAddr>| a.map_or(0, |a| a.port());
                let (from, to) = (socket.local_addr(), socket.peer_addr());
                format!("UDP, port {} to {}", port(from), port(to))
            }
            Kind::Icmp(socket) => {
                format!("echo request, identifier 0x{:04x}", socket.identifier)
            }
        }
    }

    /// Sends a probe; when, by both clocks.
    pub fn send(&self, ttl: u8, sequence: u16) -> io::Result<(Instant, u64)> {
        let travel = Travel { ttl: Some(ttl), fragments: None };
        set_travel(&self.fd(), self.version, travel)?;
        // The first word of the data: UDP's probes are told apart by it. To
        // ICMP's it gives the same checksum, as it takes away what the
        // sequence number adds.
        let word = match &self.kind {
            Kind::Udp(_) => sequence,
            Kind::Icmp(_) => !sequence,
        };
        let mut data = payload(self.data);
        data[..2].copy_from_slice(&word.to_be_bytes());
        let kind = self.version.echo().0;
        let message = match &self.kind {
            Kind::Udp(_) => data,
            Kind::Icmp(own) => emit(kind, own.identifier, sequence, &data),
        };
        let send = || match &self.kind {
            Kind::Udp(socket) => socket.send(&message).map(|_| ()),
            Kind::Icmp(socket) => socket.send(&message, &self.target),
        };
        let times = (Instant::now(), wall_clock());
        let mut outcome = send();
        for _ in 1..TRIES {
            // (not of this one: it has not left yet)
            match &outcome {
                Err(e) if is_from_icmp(e) => outcome = send(),
                _ => break,
            }
        }
        outcome.map(|()| times)
    }

    /// The next packet, or with `queue` the next error.
    pub fn receive(&mut self, queue: bool) -> Result<Heard, Error> {
        if queue && matches!(&self.kind, Kind::Icmp(s) if s.raw) {
            return Ok(Heard::Nothing);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let heard = match receive(&self.fd(), &mut buffer, queue) {
            Ok(None) => Ok(Heard::Nothing),
            Ok(Some(received)) => {
                let bytes = &buffer[..received.length];
                let answer = self.answer(&received, bytes);
                Ok(answer.map_or(Heard::NotOurs, Heard::Answer))
            }
            // (the queue tells of it as well)
            Err(e) if is_from_icmp(&e) => Ok(Heard::NotOurs),
            Err(error) => Err(error).doing(|| "receive"),
        };
        self.buffer = buffer;
        heard
    }

    /// What a packet or an error says about a probe; `None`: nothing.
    fn answer(&self, received: &Received, bytes: &[u8]) -> Option<Answer> {
        let at = received.at;
        if let Some(fault) = received.fault.filter(|f| f.is_icmp) {
            let (kind, code) = (fault.kind, fault.code);
            let rest = rest_of(self.version, kind, fault.info);
            let message = Message { kind, code, checksum: 0, rest, data: &[] };
            let meaning = meaning(self.version, &message);
            let from = fault.offender?;
            let sequence = match &self.kind {
                Kind::Udp(_) => bytes.first_chunk::<2>().copied(),
                Kind::Icmp(_) => bytes.get(6..8)?.first_chunk::<2>().copied(),
            };
            let sequence = sequence.map(u16::from_be_bytes);
            let said = Said::Error { kind, code, meaning, quote: None };
            return Some(Answer { sequence, from, at, said });
        }
        if received.fault.is_some() {
            return None;
        }
        let from = received.from?.ip();
        let Kind::Icmp(socket) = &self.kind else {
            // somebody listens on that port
            let sequence = bytes.first_chunk::<2>();
            let sequence = sequence.map(|bytes| u16::from_be_bytes(*bytes));
            return Some(Answer { sequence, from, at, said: Said::Reply });
        };
        let (_, bytes) = socket.split_header(bytes);
        let message = Message::parse(bytes)?;
        let good = self.version == Version::V6 || internet_checksum(bytes) == 0;
        let (request, reply) = self.version.echo();
        if message.kind == reply {
            let ours = good
                && message.identifier() == socket.identifier
                && from == self.target.ip();
            let sequence = Some(message.sequence());
            let said = Said::Reply;
            return ours.then_some(Answer { sequence, from, at, said });
        }
        let meaning = meaning(self.version, &message);
        let quoted = split_extension(self.version, &message).0;
        let quote = Quote::parse(self.version, quoted)?;
        let (identifier, sequence) = quote.echo(request)?;
        let ours = good
            && meaning.is_final
            && identifier == socket.identifier
            && quote.target == self.target.ip();
        let (kind, code) = (message.kind, message.code);
        let said = Said::Error { kind, code, meaning, quote: Some(quote) };
        let sequence = Some(sequence);
        ours.then_some(Answer { sequence, from, at, said })
    }
}
