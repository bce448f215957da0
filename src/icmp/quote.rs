//! The datagram that an ICMP error quotes: "The internet header plus the
//! first 64 bits of the original datagram's data. This data is used by the
//! host to match the message to the appropriate process." RFC 792
//!
//! Routers quote more today (RFC 1812 §4.3.2.3: as much as an ICMP datagram
//! of 576 octets holds), IPv6's as much as fits (RFC 4443 §3), and some append a structure of their own
//! behind it (RFC 4884). All of it comes from outside: nothing here trusts a
//! length.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{Message, TIMESTAMP, Version};
use crate::udp::internet_checksum;

/// What a router quotes of a packet of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    pub source: IpAddr,
    pub target: IpAddr,
    /// Time to live or hop limit, as it arrived there.
    pub ttl: u8,
    pub protocol: u8,
    /// The transport layer's first octets, as many as are quoted.
    pub transport: Vec<u8>,
}

impl Quote {
    /// The quoted datagram within an error message's data. `None`: there is
    /// no whole header.
    pub fn parse(version: Version, bytes: &[u8]) -> Option<Quote> {
        match version {
            Version::V4 => Quote::parse_v4(bytes),
            Version::V6 => Quote::parse_v6(bytes),
        }
    }

    fn parse_v4(bytes: &[u8]) -> Option<Quote> {
        let fixed = bytes.first_chunk::<20>()?;
        // Internet Header Length, in 32-bit words
        let header = usize::from(fixed[0] & 0x0f) * 4;
        if fixed[0] >> 4 != 4 || header < 20 {
            return None;
        }
        let address = |at: usize| -> Option<IpAddr> {
            let octets = fixed.get(at..at + 4)?.first_chunk::<4>()?;
            Some(Ipv4Addr::from(*octets).into())
        };
        Some(Quote {
            source: address(12)?,
            target: address(16)?,
            ttl: fixed[8],
            protocol: fixed[9],
            transport: bytes.get(header..)?.to_vec(),
        })
    }

    fn parse_v6(bytes: &[u8]) -> Option<Quote> {
        let (fixed, mut rest) = bytes.split_first_chunk::<40>()?;
        if fixed[0] >> 4 != 6 {
            return None;
        }
        let address = |at: usize| -> Option<IpAddr> {
            let octets = fixed.get(at..at + 16)?.first_chunk::<16>()?;
            Some(Ipv6Addr::from(*octets).into())
        };
        // hop-by-hop options, routing, fragment, destination options: each
        // says what comes next, and how long it is. RFC 8200 §4
        let mut protocol = fixed[6];
        while let 0 | 43 | 44 | 60 = protocol {
            let [next, units] = *rest.first_chunk::<2>()?;
            let length = if protocol == 44 { 0 } else { units };
            rest = rest.get((usize::from(length) + 1) * 8..)?;
            protocol = next;
        }
        Some(Quote {
            source: address(8)?,
            target: address(24)?,
            ttl: fixed[7],
            protocol,
            transport: rest.to_vec(),
        })
    }

    /// Identifier and sequence number, if it quotes an echo request (or a
    /// query) of this version's ICMP.
    pub fn echo(&self, kind: u8) -> Option<(u16, u16)> {
        let version = Version::of(&self.target);
        let message = Message::parse(&self.transport)?;
        let ours = self.protocol == version.protocol() && message.kind == kind;
        ours.then(|| (message.identifier(), message.sequence()))
    }
}

impl fmt::Display for Quote {
    /// "echo request, sequence 3, from 192.0.2.10 to 203.0.113.10, which
    /// came with a TTL of 1"
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let kind = Version::of(&self.target).echo().0;
        let query = self.echo(TIMESTAMP.0).filter(|_| kind == 8);
        match (self.echo(kind), self.protocol, &self.transport[..]) {
            (Some((_, sequence)), ..) => {
                write!(f, "echo request, sequence {sequence}")?;
            }
            _ if query.is_some() => write!(f, "timestamp query")?,
            (_, 17, [s0, s1, d0, d1, ..]) => write!(
                f,
                "UDP datagram, port {} to {}",
                u16::from_be_bytes([*s0, *s1]),
                u16::from_be_bytes([*d0, *d1])
            )?,
            (_, protocol, _) => write!(f, "datagram, protocol {protocol}")?,
        }
        let Quote { source, target, ttl, .. } = self;
        write!(f, ", from {source} to {target}, which came with a TTL of {ttl}")
    }
}

/// Where in an error message the quote, padded with zeros, ends and an
/// extension begins: an octet of the header has the length, in words of 32
/// or 64 bits. RFC 4884 §4. Without a length, all of the data is the quote.
pub fn split_extension<'a>(
    version: Version,
    message: &Message<'a>,
) -> (&'a [u8], &'a [u8]) {
    let length = match (version, message.kind) {
        // unreachable, time exceeded, parameter problem
        (Version::V4, 3 | 11 | 12) => usize::from(message.rest[1]) * 4,
        (Version::V6, 1 | 3) => usize::from(message.rest[0]) * 8,
        _ => 0,
    };
    match length {
        LEAST_QUOTE.. if length <= message.data.len() => {
            message.data.split_at(length)
        }
        _ if (version, message.kind) == (Version::V6, 137) => {
            (redirected(message.data).unwrap_or_default(), &[])
        }
        _ => (message.data, &[]),
    }
}

/// "the "original datagram" field MUST contain at least 128 octets" when a
/// structure follows it. RFC 4884 §4
const LEAST_QUOTE: usize = 128;

/// The packet that a redirect of IPv6 quotes: in an option, behind target and
/// destination. RFC 4861 §4.5, §4.6.3
fn redirected(data: &[u8]) -> Option<&[u8]> {
    let mut options = data.get(32..)?;
    loop {
        let [kind, units] = *options.first_chunk::<2>()?;
        let length = usize::from(units) * 8;
        let option = options.get(..length).filter(|o| !o.is_empty())?;
        if kind == 4 {
            return option.get(8..);
        }
        options = &options[length..];
    }
}

/// The labels under which a packet went through a router of MPLS, which the
/// extension may tell (RFC 4950): KR 6.5.
pub fn mpls_labels(extension: &[u8]) -> Vec<u32> {
    let mut labels = Vec::new();
    // version 2 and a checksum, and then objects: length, class, type
    let Some((header, mut objects)) = extension.split_first_chunk::<4>() else {
        return labels;
    };
    let has_checksum = header[2..] != [0, 0];
    let is_wrong = has_checksum && internet_checksum(extension) != 0;
    if is_wrong || header[0] >> 4 != 2 {
        return labels;
    }
    while let Some([high, low, class, kind]) = objects.first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length < 4 || length > objects.len() {
            break;
        }
        let (object, rest) = objects.split_at(length);
        if (*class, *kind) == (1, 1) {
            let entries = object[4..].chunks_exact(4);
            labels.extend(entries.map(|e| {
                u32::from(e[0]) << 12
                    | u32::from(e[1]) << 4
                    | u32::from(e[2] >> 4)
            }));
        }
        objects = rest;
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::super::message::emit;
    use super::*;

    /// An IPv4 header of so many words, and an echo request.
    fn datagram(words: u8) -> Vec<u8> {
        let mut bytes = vec![0x40 | words, 0, 0, 84, 0, 0, 0, 0, 1, 1, 0, 0];
        bytes.extend([192, 0, 2, 10, 203, 0, 113, 10]);
        bytes.resize(usize::from(words) * 4, 1);
        bytes.extend(emit(8, 0x1234, 3, &[0; 8]));
        bytes
    }

    #[test]
    fn an_echo_request_quoted() {
        for words in [5, 6, 15] {
            let quote = Quote::parse(Version::V4, &datagram(words)).unwrap();
            assert_eq!(quote.echo(8), Some((0x1234, 3)), "{words} words");
            assert_eq!(quote.echo(13), None, "it is no other query");
            let other = Quote { protocol: 17, ..quote.clone() };
            assert_eq!(other.echo(8), None, "nor of another protocol");
            assert_eq!(quote.ttl, 1);
            assert_eq!(
                quote.to_string(),
                "echo request, sequence 3, from 192.0.2.10 to 203.0.113.10, \
                 which came with a TTL of 1"
            );
        }
    }

    #[test]
    fn ipv6_with_a_hop_by_hop_header() {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 40, 0, 1];
        bytes.extend([0xfe; 32]);
        bytes.extend([58, 0, 1, 4, 0, 0, 0, 0]);
        bytes.extend(emit(128, 7, 9, b""));
        let quote = Quote::parse(Version::V6, &bytes).unwrap();
        assert_eq!((quote.echo(128), quote.ttl), (Some((7, 9)), 1));
        bytes[41] = 200; // longer than there is
        assert_eq!(Quote::parse(Version::V6, &bytes), None);
        bytes[6] = 44; // but a fragment header has one length
        let quote = Quote::parse(Version::V6, &bytes).unwrap();
        assert_eq!(quote.echo(128), Some((7, 9)));
    }

    #[test]
    fn quotes_cut_or_garbled_are_none_and_no_panic() {
        let whole = datagram(5);
        for end in 0..whole.len() {
            let quote = Quote::parse(Version::V4, &whole[..end]);
            assert_eq!(quote.is_some(), end >= 20, "{end}");
            assert!(quote.is_none_or(|q| (q.echo(8).is_some()) == (end >= 28)));
        }
        let mut wrong = whole.clone();
        wrong[0] = 0x44; // a header of 16 octets
        assert_eq!(Quote::parse(Version::V4, &wrong), None);
        assert_eq!(Quote::parse(Version::V6, &whole), None);
        wrong[0] = 0x4f; // one of 60, of which 40 are not there
        wrong.truncate(36);
        assert_eq!(Quote::parse(Version::V4, &wrong), None);
    }

    #[test]
    fn what_a_redirect_of_ipv6_quotes() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 8, 58, 64];
        packet.extend([0x20; 32]);
        packet.extend(emit(128, 7, 9, b""));
        // target, destination; an option of 8 octets, and the header's
        let mut data = vec![0xfe; 32];
        data.extend([2, 1, 0, 0, 0, 0, 0, 0]);
        data.extend([4, 7, 0, 0, 0, 0, 0, 0]);
        data.extend(&packet);
        let bytes = emit(137, 0, 0, &data);
        let message = Message::parse(&bytes).unwrap();
        let (quoted, _) = split_extension(Version::V6, &message);
        assert_eq!(quoted, packet);
        // cut, or with an option of no length
        for end in 0..data.len() {
            assert_eq!(redirected(&data[..end]), None, "{end}");
        }
        data[33] = 0;
        assert_eq!(redirected(&data), None);
    }

    #[test]
    fn an_extension_is_no_part_of_the_quote() {
        let mut data = vec![0; 128];
        // version 2; an object of 8: class 1, type 1; label 16001
        data.extend([0x20, 0, 0, 0, 0, 8, 1, 1, 0x03, 0xe8, 0x11, 1]);
        let bytes = emit(11, 0, 0, &data);
        let mut message = Message::parse(&bytes).unwrap();
        message.rest[1] = 32;
        let (quote, extension) = split_extension(Version::V4, &message);
        assert_eq!((quote.len(), extension.len()), (128, 12));
        assert_eq!(mpls_labels(extension), [16001]);
        message.rest[1] = 255; // longer than the message
        let (quote, extension) = split_extension(Version::V4, &message);
        assert_eq!((quote.len(), extension.len()), (140, 0));
        for bytes in [&[0x20, 0, 0, 0, 0, 0, 1, 1][..], &[0x20; 7], &[]] {
            assert_eq!(mpls_labels(bytes), [0; 0]);
        }
        message.rest[1] = 5; // fewer than may be followed by anything
        assert_eq!(split_extension(Version::V4, &message).0.len(), 140);
        // a checksum that is there, and wrong; or right
        let mut checked = data[128..].to_vec();
        checked[2..4].copy_from_slice(&[1, 2]);
        assert_eq!(mpls_labels(&checked), [0; 0]);
        checked[2..4].fill(0);
        let sum = internet_checksum(&checked).to_be_bytes();
        checked[2..4].copy_from_slice(&sum);
        assert_eq!(mpls_labels(&checked), [16001]);
        message.kind = 12;
        message.rest[1] = 32;
        assert_eq!(split_extension(Version::V4, &message).0.len(), 128);
        message.kind = 5; // a redirect's gateway is no length
        assert_eq!(split_extension(Version::V4, &message).0.len(), 140);
    }
}
