//! What comes back: the lab's step (v). A packet is taken apart, and is a
//! reply of a host, an ICMP error about a request, or none of our business.

use std::net::IpAddr;
use std::time::Instant;

use super::super::message::{Message, TIMESTAMP, Version};
use super::super::names::{meaning, rest_of};
use super::super::quote::{Quote, split_extension};
use super::Pinger;
use super::host::{Host, Verdict};
use super::report::{Code, Event, Packet, Times};
use crate::datagram::{Fault, Received, receive, wall_clock};
use crate::error::{Doing, Error};
use crate::udp::internet_checksum;

/// Packets that are taken before the schedule is looked at.
const BATCH: usize = 1000;

/// Milliseconds of a day, after which RFC 792's timestamps begin anew.
const DAY: i64 = 24 * 60 * 60 * 1000;

impl Pinger {
    /// All that has come; in a flood, until nothing is waited for.
    pub fn receive_all(&mut self, flood: bool) -> Result<(), Error> {
        for which in 0..self.sockets.len() {
            for _ in 0..BATCH {
                let enough = flood && !self.hosts[0].record.is_waiting();
                if enough || !self.receive(which, false)? {
                    break;
                }
            }
            for _ in 0..BATCH {
                let raw = self.sockets[which].raw;
                if raw || !self.receive(which, true)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The next packet, or error. False: there is none.
    fn receive(&mut self, which: usize, queue: bool) -> Result<bool, Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let socket = &self.sockets[which];
        let received = match receive(socket, &mut buffer, queue) {
            Ok(received) => received,
            // an error of a request, which the queue tells of as well
            Err(_) if !socket.raw => Some(Received::default()),
            Err(error) => return Err(error).doing(|| "receive"),
        };
        let taken = match &received {
            Some(received) => {
                self.take(which, received, &buffer[..received.length])
            }
            None => Ok(()),
        };
        self.buffer = buffer;
        taken.map(|()| received.is_some())
    }

    /// The lab's step (v): takes a packet apart.
    fn take(
        &mut self,
        which: usize,
        received: &Received,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let arrived = Instant::now();
        let Some(from) = received.from.map(|from| from.ip()) else {
            return Ok(());
        };
        let socket = &self.sockets[which];
        let version = socket.version;
        if let Some(fault) = received.fault {
            return self.take_fault(version, from, fault, bytes);
        }
        let (header, bytes) = socket.split_header(bytes);
        let ttl = received.ttl.or_else(|| header.get(8).copied());
        self.keep(received, from, header, bytes)?;
        let Some(message) = Message::parse(bytes) else {
            self.trace.fact(|| format!("from {from}: no whole message"));
            return Ok(());
        };
        let reply = match self.options.timestamp {
            true => TIMESTAMP.1,
            false => version.echo().1,
        };
        let packet = Packet { octets: bytes.len(), ttl, from };
        if message.kind != reply {
            return self.take_error(which, packet, bytes, &message);
        }
        let identifier = message.identifier();
        let ours = |host: &Host| host.identifier == identifier;
        if !self.hosts.iter().any(ours) {
            self.trace.fact(|| {
                format!("from {from}: a reply to identifier 0x{identifier:04x}")
            });
            return Ok(());
        }
        // (two names may have one address: identifier or data tell which)
        let answers = |host: &Host| ours(host) && host.answers_from(&from);
        let asked = |host: &Host| answers(host) && host.asked(&message);
        let known = self.hosts.iter().position(asked);
        let known = known.or_else(|| self.hosts.iter().position(answers));
        if known.is_none() && self.hosts.len() > 1 {
            self.trace.fact(|| {
                format!("from {from}: a reply from a host that was not asked")
            });
            return Ok(());
        }
        self.show_reply(known.unwrap_or(0), header, bytes);
        self.take_reply(known, packet, bytes, received.at, arrived)
    }

    /// A reply with our identifier, of a known host or of none.
    fn take_reply(
        &mut self,
        known: Option<usize>,
        packet: Packet,
        bytes: &[u8],
        at: Option<u64>,
        arrived: Instant,
    ) -> Result<(), Error> {
        let Some(message) = Message::parse(bytes) else { return Ok(()) };
        let index = known.unwrap_or(0);
        let (timestamp, host) =
            (self.options.timestamp, &mut self.hosts[index]);
        // (over IPv6 the kernel has looked at it)
        let is_v4 = packet.from.is_ipv4();
        let wrong_checksum = is_v4 && internet_checksum(bytes) != 0;
        let verdict = match known {
            None => host.refuse("from a host that was not asked"),
            Some(_) if wrong_checksum => host.refuse("BAD CHECKSUM"),
            Some(_) if timestamp => host.judge_timestamp(&message, arrived),
            Some(_) => host.judge(&message, at, arrived),
        };
        match verdict {
            Verdict::Good(heard) => {
                let times = self.times(&message, at.unwrap_or_else(wall_clock));
                let event = Event::Reply { heard, packet, times };
                self.tell(index, &event)
            }
            Verdict::Bad(why) => {
                let sequence = match host.sequence(message.sequence()) {
                    0 => u64::from(message.sequence()),
                    sequence => sequence,
                };
                let event = Event::Bad { sequence, packet, why: &why };
                self.tell(index, &event)
            }
        }
    }

    /// Not a reply: an error, and if it quotes a request of ours, whose.
    fn take_error(
        &mut self,
        which: usize,
        packet: Packet,
        bytes: &[u8],
        message: &Message,
    ) -> Result<(), Error> {
        let version = self.sockets[which].version;
        let meaning = meaning(version, message);
        let from = packet.from;
        let words = &meaning.words;
        if !meaning.is_error {
            self.trace.fact(|| format!("from {from}: {words}"));
            return Ok(());
        }
        // (over IPv6 the kernel has looked at the checksum)
        if version == Version::V4 && internet_checksum(bytes) != 0 {
            self.trace.fact(|| format!("from {from}: {words}: BAD CHECKSUM"));
            return Ok(());
        }
        let (quoted, extension) = split_extension(version, message);
        let quote = Quote::parse(version, quoted);
        let ours = quote.as_ref().and_then(|quote| {
            let (id, sequence) = quote.echo(self.kind(version))?;
            let to =
                |h: &Host| h.identifier == id && h.address.ip() == quote.target;
            Some((self.hosts.iter().position(to)?, sequence))
        });
        let Some((index, sequence)) = ours else {
            self.trace.fact(|| match &quote {
                Some(quote) => format!("from {from}: {words}: {quote}"),
                None => format!("from {from}: {words}, quoting no datagram"),
            });
            return Ok(());
        };
        self.show_error(packet, bytes, &meaning, quote.as_ref(), extension);
        let (kind, code, quote) = (message.kind, message.code, quote.as_ref());
        let code = Code { kind, code, meaning: &meaning, quote };
        self.request_failed(index, sequence, from, code)
    }

    /// The same from the error queue of a socket that is not raw. The packet
    /// is then ours for certain: the kernel has looked for its socket.
    fn take_fault(
        &mut self,
        version: Version,
        target: IpAddr,
        fault: Fault,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let request = Message::parse(bytes);
        let asked = |h: &Host| {
            h.address.ip() == target
                && request.as_ref().is_some_and(|request| h.asked(request))
        };
        let to = |h: &Host| h.address.ip() == target;
        let index = self.hosts.iter().position(asked);
        let index = index.or_else(|| self.hosts.iter().position(to));
        let known = index.zip(request).zip(fault.offender);
        let Some(((index, request), from)) = known.filter(|_| fault.is_icmp)
        else {
            return Ok(());
        };
        let Fault { kind, code, info, .. } = fault;
        let rest = rest_of(version, kind, info);
        let message = Message { kind, code, checksum: 0, rest, data: &[] };
        let meaning = meaning(version, &message);
        self.show_fault(from, &meaning, request.sequence());
        let code = Code { kind, code, meaning: &meaning, quote: None };
        self.request_failed(index, request.sequence(), from, code)
    }

    fn request_failed(
        &mut self,
        index: usize,
        on_the_wire: u16,
        from: IpAddr,
        code: Code,
    ) -> Result<(), Error> {
        let host = &mut self.hosts[index];
        let sequence = host.sequence(on_the_wire);
        if host.record.ping(sequence).is_none() {
            self.trace.fact(|| {
                format!("from {from}: about a request that was never sent")
            });
            return Ok(());
        }
        if code.meaning.is_final {
            host.errors += 1;
            host.record.give_up(sequence);
        }
        self.tell(index, &Event::Error { sequence, from, code })
    }

    /// The type of what we send.
    pub fn kind(&self, version: Version) -> u8 {
        match self.options.timestamp {
            true => TIMESTAMP.0,
            false => version.echo().0,
        }
    }

    /// The three times of a reply to a timestamp query.
    fn times(&self, message: &Message, at: u64) -> Option<Times> {
        if !self.options.timestamp {
            return None;
        }
        let number = |at: usize| -> Option<i64> {
            let octets = message.data.get(at..at + 4)?.first_chunk::<4>()?;
            Some(i64::from(u32::from_be_bytes(*octets)))
        };
        let at = i64::from(milliseconds_since_midnight(at));
        Some(compare(number(0)?, number(4)?, number(8)?, at))
    }
}

/// What a timestamp says: when it was asked (otime), when that came (rtime)
/// and when it was answered (ttime), in milliseconds since midnight UT; and
/// what follows when `at` is the time of its coming:
///
/// offset = ((rtime - otime) + (ttime - at)) / 2, and
/// delay = (at - otime) - (ttime - rtime). RFC 5905 §8
fn compare(otime: i64, rtime: i64, ttime: i64, at: i64) -> Times {
    // midnight may lie in between: the nearer way round
    let minus = |a: i64, b: i64| (a - b + DAY / 2).rem_euclid(DAY) - DAY / 2;
    let there = minus(rtime, otime) + minus(ttime, at);
    let delay = minus(at, otime) - minus(ttime, rtime);
    // "the high order bit of the timestamp is also set to indicate this
    // non-standard value" RFC 792
    let standard = rtime >> 31 == 0 && ttime >> 31 == 0;
    let clocks = standard.then_some((there as f64 / 2.0, delay));
    Times { otime, rtime, ttime, clocks }
}

/// The time as RFC 792 wants it: "milliseconds since midnight UT".
fn milliseconds_since_midnight(at: u64) -> u32 {
    (at / 1_000_000 % DAY as u64) as u32
}

/// The mark of a timestamp query: otime.
pub fn originate_timestamp(at: u64) -> Vec<u8> {
    milliseconds_since_midnight(at).to_be_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_and_delay_by_the_two_equations() {
        // asked at 1000, there 500 ahead; 20 there, 3 to answer, 30 back
        let clocks = |o, r, t, at| compare(o, r, t, at).clocks;
        assert_eq!(clocks(1000, 1520, 1523, 1053), Some((495.0, 50)));
        // a clock that is behind
        assert_eq!(clocks(1000, 510, 510, 1020), Some((-500.0, 20)));
        // midnight in between
        assert_eq!(clocks(DAY - 10, 5, 6, 21), Some((0.0, 30)));
        assert_eq!(clocks(5, DAY - 10, DAY - 10, 25), Some((-25.0, 20)));
        // either time not of UT
        assert_eq!(clocks(1000, 1 << 31, 0, 1020), None);
        assert_eq!(clocks(1000, 0, 1 << 31, 1020), None);
        let midnight = milliseconds_since_midnight(86_400_000_000_000 * 3);
        assert_eq!(midnight, 0);
        assert_eq!(originate_timestamp(0x0102_0304 * 1_000_000), [1, 2, 3, 4]);
    }
}
