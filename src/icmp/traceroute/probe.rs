//! What is sent, and what comes back: UDP datagrams to a port that nobody
//! has, or echo requests.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use super::super::message::{HEADER, Message, Version, emit};
use super::super::names::{Meaning, is_time_exceeded, meaning};
use super::super::quote::{Quote, split_extension};
use super::super::socket::{Fragments, IcmpSocket, Travel, set_travel};
use super::destination;
use crate::args;
use crate::datagram::{Received, hear_all, receive};
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
    pub icmp: bool,
    pub port: u16,
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
}

enum Kind {
    Udp(UdpSocket),
    Icmp(IcmpSocket),
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
        options: &Options,
        mut target: SocketAddr,
    ) -> Result<Probes, Error> {
        let version = Version::of(&target.ip());
        let any: IpAddr = match version {
            Version::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Version::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        let own = SocketAddr::new(options.source.unwrap_or(any), 0);
        let doing = || format!("send from {}", own.ip());
        let kind = if options.icmp {
            let mut random = [0; 2];
            getrandom::fill(&mut random)
                .map_err(|e| Error::protocol("draw an identifier", e))?;
            let identifier = u16::from_be_bytes(random);
            // (a raw socket of IPv6 would take a port for a protocol)
            target.set_port(0);
            let mut socket = IcmpSocket::open(version, false, identifier)?;
            if options.source.is_some() {
                socket.bind(own).doing(doing)?;
            }
            Kind::Icmp(socket)
        } else {
            let socket = UdpSocket::bind(own).doing(doing)?;
            let to = destination(target, options.port);
            let doing = || format!("send to {to}");
            hear_all(&socket, version == Version::V6, true).doing(doing)?;
            socket.connect(to).doing(doing)?;
            socket.set_nonblocking(true).doing(doing)?;
            Kind::Udp(socket)
        };
        let data = options.size - version.header() - HEADER;
        let buffer = vec![0; MAX_PACKET];
        let probes = Probes { kind, version, target, data, buffer };
        let fragments = match options.whole {
            true => Fragments::NeverProbing,
            false => Fragments::Allowed,
        };
        let travel = Travel { ttl: None, fragments: Some(fragments) };
        set_travel(&probes.fd(), version, travel).doing(doing)?;
        Ok(probes)
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

    pub fn send(&self, ttl: u8, sequence: u16) -> io::Result<()> {
        let travel = Travel { ttl: Some(ttl), fragments: None };
        set_travel(&self.fd(), self.version, travel)?;
        let mut data: Vec<u8> = (0..self.data).map(|at| at as u8).collect();
        let send = |data: &[u8]| match &self.kind {
            Kind::Udp(socket) => socket.send(data).map(|_| ()),
            Kind::Icmp(socket) => {
                let kind = self.version.echo().0;
                let message = emit(kind, socket.identifier, sequence, data);
                socket.send(&message, &self.target)
            }
        };
        // The first word of the data: UDP's probes are told apart by it. To
        // ICMP's it gives the same checksum, as it takes away what the
        // sequence number adds.
        let word = match &self.kind {
            Kind::Udp(_) => sequence,
            Kind::Icmp(_) => !sequence,
        };
        data[..2].copy_from_slice(&word.to_be_bytes());
        let mut outcome = send(&data);
        for _ in 1..TRIES {
            // (not of this one: it has not left yet)
            match &outcome {
                Err(e) if is_about_earlier(e) => outcome = send(&data),
                _ => break,
            }
        }
        outcome
    }

    /// The next answer, if there is one.
    pub fn receive(&mut self) -> Result<Option<Answer>, Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut answer = Ok(None);
        // errors first, then datagrams and echo replies
        for queue in [true, false] {
            if queue && matches!(&self.kind, Kind::Icmp(s) if s.raw) {
                continue;
            }
            while let Ok(Some(None)) | Ok(None) = answer {
                answer = match receive(&self.fd(), &mut buffer, queue) {
                    Ok(Some(received)) => {
                        let bytes = &buffer[..received.length];
                        Ok(Some(self.answer(&received, bytes)))
                    }
                    Ok(None) => break,
                    Err(e) if is_about_earlier(&e) => Ok(Some(None)),
                    Err(error) => Err(error).doing(|| "receive"),
                };
            }
        }
        self.buffer = buffer;
        answer.map(Option::flatten)
    }

    /// What a packet or an error says about a probe; `None`: nothing.
    fn answer(&self, received: &Received, bytes: &[u8]) -> Option<Answer> {
        let at = received.at;
        if let Some(fault) = received.fault.filter(|f| f.is_icmp) {
            let (kind, code) = (fault.kind, fault.code);
            let rest = fault.info.to_be_bytes();
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

/// ICMP's errors about earlier probes surface in any call.
fn is_about_earlier(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::PermissionDenied
    ) || matches!(
        error.raw_os_error(),
        Some(
            libc::EMSGSIZE
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::ENONET
                | libc::EHOSTDOWN
        )
    )
}
