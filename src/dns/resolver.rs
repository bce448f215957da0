//! Asking name servers: over UDP first, over TCP when the answer does not
//! fit, the next server when one fails. RFC 1035 §4.2, §7; KR 2.4.2
//!
//! An answer counts only when it comes from the server's address and port to
//! ours, and repeats our random number and our question: whoever does not
//! see the query would have to guess them all. RFC 5452 §9.1

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::message::{HEADER, Header, Message, Name, UDP_SIZE, query};
use super::record::kind_name;
use crate::error::{Doing, Error, is_timeout, reason};
use crate::net::Family;
use crate::trace::{Party, Trace, header_drawing};
use crate::udp::draw_header;

pub const PORT: u16 = 53;

/// resolv.conf(5): "Up to MAXNS (currently 3, see <resolv.h>) name servers
/// may be listed".
const MAX_SERVERS: usize = 3;

/// Whom to ask, and how.
#[derive(Clone, Debug)]
pub struct Resolver {
    pub servers: Vec<SocketAddr>,
    /// For each single question.
    pub timeout: Duration,
    /// Rounds through all the servers.
    pub attempts: u32,
    /// Over TCP from the start.
    pub tcp: bool,
}

impl Resolver {
    /// As resolv.conf(5) says: `nameserver`, `options timeout:N attempts:N`.
    /// Without any server, this machine's own.
    pub fn from_file(path: &str, family: Family) -> Result<Resolver, Error> {
        let text = match fs::read_to_string(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            other => other.doing(|| format!("read {path}"))?,
        };
        let mut resolver = Resolver {
            servers: Vec::new(),
            timeout: Duration::from_secs(5),
            attempts: 2,
            tcp: false,
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|w| w.parse().ok());
                    let server: Option<IpAddr> = server;
                    let server = server.map(|ip| SocketAddr::new(ip, PORT));
                    resolver.servers.extend(server);
                }
                Some("options") => words.for_each(|w| resolver.option(w)),
                _ => {}
            }
        }
        resolver.servers.truncate(MAX_SERVERS);
        if resolver.servers.is_empty() {
            resolver.servers.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
        resolver.servers.retain(|s| match family {
            Family::Any => true,
            Family::V4 => s.is_ipv4(),
            Family::V6 => s.is_ipv6(),
        });
        match resolver.servers.is_empty() {
            true => Err(Error::Usage(format!(
                "{path} names no server of the wanted family"
            ))),
            false => Ok(resolver),
        }
    }

    fn option(&mut self, word: &str) {
        let number = |text: &str| text.parse::<u32>().ok();
        if let Some(seconds) = word.strip_prefix("timeout:").and_then(number) {
            self.timeout = Duration::from_secs(seconds.clamp(1, 30).into());
        }
        if let Some(count) = word.strip_prefix("attempts:").and_then(number) {
            self.attempts = count.clamp(1, 5);
        }
    }

    /// Asks one server after the other, and all again. An answer is one that
    /// says yes or no (NOERROR, NXDOMAIN); a server that fails otherwise is
    /// passed over, unless all do: then its answer comes back.
    pub fn ask(
        &self,
        name: &Name,
        kind: u16,
        trace: &Trace,
    ) -> Result<(SocketAddr, Message), Error> {
        let mut faults: Vec<String> = Vec::new();
        let mut failed = None;
        for _ in 0..self.attempts {
            for server in &self.servers {
                match self.ask_one(*server, name, kind, trace) {
                    Ok(message) if matches!(message.header.rcode(), 0 | 3) => {
                        return Ok((*server, message));
                    }
                    Ok(message) => failed = Some((*server, message)),
                    Err(fault) => {
                        let fault = format!("{server}: {fault}");
                        if !faults.contains(&fault) {
                            faults.push(fault);
                        }
                    }
                }
            }
            if failed.is_some() {
                break; // they answer; to repeat it changes nothing
            }
        }
        match failed {
            Some(answer) => Ok(answer),
            None => Err(Error::protocol(
                format!("look up {name}"),
                faults.join("; "),
            )),
        }
    }

    fn ask_one(
        &self,
        server: SocketAddr,
        name: &Name,
        kind: u16,
        trace: &Trace,
    ) -> Result<Message, String> {
        let told = |error: io::Error| match error.kind() {
            _ if is_timeout(&error) => "no answer in time".to_string(),
            _ => reason(&error),
        };
        let id = (getrandom::u32().unwrap_or(0) >> 8) as u16;
        let limit = self.timeout;
        let mut asked = query(id, name, kind, true);
        show_query(trace, server, &asked, name, kind);
        let mut answer = match self.tcp {
            true => over_tcp(server, &asked, limit, trace),
            false => over_udp(server, &asked, name, kind, limit, trace),
        }
        .map_err(told)?;
        let header = |bytes: &[u8]| Header {
            id,
            flags: u16::from_be_bytes([bytes[2], bytes[3]]),
        };
        if answer.len() >= HEADER && header(&answer).rcode() == 1 {
            // an old server that knows nothing of EDNS: RFC 6891 §7
            trace.why(|| "once more without EDNS. RFC 6891 §7".into());
            asked = query(id, name, kind, false);
            answer = over_udp(server, &asked, name, kind, limit, trace)
                .map_err(told)?;
        }
        // (what was cut need not parse)
        if answer.len() >= HEADER && header(&answer).is_truncated() {
            trace.why(|| {
                "TC is set: it did not fit a datagram; over TCP, then. \
                 RFC 1035 §4.2.1"
                    .into()
            });
            answer = over_tcp(server, &asked, limit, trace).map_err(told)?;
        }
        let message = Message::parse(&answer).map_err(|bad| bad.to_string())?;
        match is_answer(&message, id, name, kind) {
            true => Ok(message),
            false => Err("the answer is to another question".into()),
        }
    }
}

/// Is this the answer to our question?
fn is_answer(message: &Message, id: u16, name: &Name, kind: u16) -> bool {
    let header = message.header;
    // some servers leave the question out when they refuse
    let same = match &message.question {
        Some((asked, of)) => asked == name && *of == kind,
        None => header.rcode() != 0 && header.rcode() != 3,
    };
    header.id == id && header.is_response() && header.opcode() == 0 && same
}

/// One datagram there; back the first that answers it. A new socket each
/// time: its port is as random as the kernel makes it.
fn over_udp(
    server: SocketAddr,
    asked: &[u8],
    name: &Name,
    kind: u16,
    limit: Duration,
    trace: &Trace,
) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    let (start, deadline) = (Instant::now(), Instant::now() + limit);
    socket.send(asked)?;
    let local = socket.local_addr()?;
    trace.drawing(|| draw_header(local, server, asked));
    trace.drawing(|| draw(asked));
    let id = u16::from_be_bytes([asked[0], asked[1]]);
    let mut bytes = vec![0; usize::from(UDP_SIZE).max(4096)];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            trace.timed_out(limit);
            return Err(ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let count = match socket.recv(&mut bytes) {
            Err(e) if is_timeout(&e) => continue,
            other => other?,
        };
        let datagram = &bytes[..count];
        let ours = Message::parse(datagram)
            .is_ok_and(|m| is_answer(&m, id, name, kind));
        // what was cut need not parse to its end
        let cut = count >= HEADER
            && datagram[..2] == asked[..2]
            && datagram[2] & 0x82 == 0x82;
        if ours || cut {
            show_answer(trace, datagram, start.elapsed());
            return Ok(datagram.to_vec());
        }
        trace.fact(|| "a datagram that answers nothing was asked".into());
    }
}

/// "The message is prefixed with a two byte length field". RFC 1035 §4.2.2
fn over_tcp(
    server: SocketAddr,
    asked: &[u8],
    limit: Duration,
    trace: &Trace,
) -> io::Result<Vec<u8>> {
    let start = Instant::now();
    let mut socket = TcpStream::connect_timeout(&server, limit)?;
    socket.set_read_timeout(Some(limit))?;
    socket.set_write_timeout(Some(limit))?;
    trace.drawing(|| draw(asked));
    let length = (asked.len() as u16).to_be_bytes();
    socket.write_all(&[&length[..], asked].concat())?;
    let mut length = [0; 2];
    socket.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    let mut at = 0;
    while at < answer.len() {
        if start.elapsed() > limit {
            return Err(ErrorKind::TimedOut.into());
        }
        match socket.read(&mut answer[at..])? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => at += count,
        }
    }
    show_answer(trace, &answer, start.elapsed());
    Ok(answer)
}

fn show_query(
    trace: &Trace,
    server: SocketAddr,
    asked: &[u8],
    name: &Name,
    kind: u16,
) {
    let text = format!("query {} {}", name, kind_name(kind));
    trace.text(Party::Client, text.as_bytes(), || {
        format!(
            "to {server}: {} octets. \"Recursion desired\" \
             asks the server to do the walking. RFC 1035 §4.1.1, KR 2.4.3",
            asked.len()
        )
    });
}

fn show_answer(trace: &Trace, answer: &[u8], rtt: Duration) {
    let Ok(message) = Message::parse(answer) else { return };
    let header = message.header;
    let text = format!(
        "response {}: {} answers, {} authority, {} additional",
        rcode_name(header.rcode()),
        message.answers.len(),
        message.authority.len(),
        message.additional.len()
    );
    let ms = rtt.as_secs_f64() * 1e3;
    trace.text(Party::Server, text.as_bytes(), || {
        let from = match header.is_authoritative() {
            true => "from a server with authority for the name",
            false => "from a server that asked, or remembered",
        };
        format!("{ms:.3} ms later, {} octets, {from}. KR 2.4.2", answer.len())
    });
    trace.drawing(|| draw(answer));
}

/// The header as KR 2.4.3 draws it.
fn draw(message: &[u8]) -> String {
    let field = |i: usize| match message.get(2 * i..2 * i + 2) {
        Some(field) => u16::from_be_bytes([field[0], field[1]]),
        None => 0,
    };
    header_drawing(&[
        (format!("identification 0x{:04x}", field(0)), 16),
        (format!("flags 0x{:04x}", field(1)), 16),
        (format!("questions {}", field(2)), 16),
        (format!("answer RRs {}", field(3)), 16),
        (format!("authority RRs {}", field(4)), 16),
        (format!("additional RRs {}", field(5)), 16),
    ])
}

/// RFC 1035 §4.1.1
pub fn rcode_name(rcode: u16) -> String {
    match rcode {
        0 => "NOERROR".into(),
        1 => "FORMERR".into(),
        2 => "SERVFAIL".into(),
        3 => "NXDOMAIN".into(),
        4 => "NOTIMP".into(),
        5 => "REFUSED".into(),
        other => format!("RCODE{other}"),
    }
}
