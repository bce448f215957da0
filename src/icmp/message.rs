//! An ICMP message. RFC 792 and RFC 4443 §2.1 draw the same first words:
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     Type      |     Code      |          Checksum             |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |           Identifier          |        Sequence Number        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     Data ...
//! +-+-+-+-+-
//! ```
//!
//! All fields are in network order, which the lab's skeleton forgets: there,
//! sequence 1 goes out as 256.

use std::net::IpAddr;

use crate::udp::internet_checksum;

/// Which Internet Protocol carries it: the types differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V4,
    V6,
}

impl Version {
    pub fn of(address: &IpAddr) -> Version {
        match address {
            IpAddr::V4(_) => Version::V4,
            IpAddr::V6(_) => Version::V6,
        }
    }

    /// The types of echo request and reply: 8 and 0 (RFC 792, p. 14), 128
    /// and 129 (RFC 4443 §4).
    pub fn echo(self) -> (u8, u8) {
        match self {
            Version::V4 => (8, 0),
            Version::V6 => (128, 129),
        }
    }

    /// ICMP's number as the payload of IP: 1, or 58 in a next header.
    pub fn protocol(self) -> u8 {
        match self {
            Version::V4 => 1,
            Version::V6 => 58,
        }
    }

    /// The length of IP's header when it has no options.
    pub fn header(self) -> usize {
        match self {
            Version::V4 => 20,
            Version::V6 => 40,
        }
    }
}

/// The types of the timestamp query and its answer. RFC 792, p. 16
pub const TIMESTAMP: (u8, u8) = (13, 14);

/// Octets before the data.
pub const HEADER: usize = 8;

/// The time stamp at the beginning of an echo's data.
const STAMP: usize = 8;

/// A message's fields, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub kind: u8,
    pub code: u8,
    pub checksum: u16,
    /// Identifier and sequence number, or what the type makes of them.
    pub rest: [u8; 4],
    pub data: &'a [u8],
}

impl<'a> Message<'a> {
    /// `None`: it ends before its header does.
    pub fn parse(bytes: &'a [u8]) -> Option<Message<'a>> {
        let (header, data) = bytes.split_first_chunk::<HEADER>()?;
        let [kind, code, c, d, r0, r1, r2, r3] = *header;
        let checksum = u16::from_be_bytes([c, d]);
        Some(Message { kind, code, checksum, rest: [r0, r1, r2, r3], data })
    }

    pub fn identifier(&self) -> u16 {
        u16::from_be_bytes([self.rest[0], self.rest[1]])
    }

    pub fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.rest[2], self.rest[3]])
    }
}

/// An echo request or a query, with its checksum: "the 16-bit ones's
/// complement of the one's complement sum of the ICMP message starting with
/// the ICMP Type. For computing the checksum, the checksum field should be
/// zero." RFC 792. (Over IPv6 the kernel puts another in its place, which
/// covers a pseudo header as well: RFC 4443 §2.3.)
pub fn emit(kind: u8, identifier: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + data.len());
    bytes.extend([kind, 0, 0, 0]);
    bytes.extend(identifier.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(data);
    begin_data(&mut bytes, &[]);
    bytes
}

/// Writes the beginning of a message's data, and the checksum that it then
/// has.
pub fn begin_data(bytes: &mut [u8], beginning: &[u8]) {
    bytes[HEADER..HEADER + beginning.len()].copy_from_slice(beginning);
    bytes[2..4].fill(0);
    let checksum = internet_checksum(bytes);
    bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
}

/// What the checksum over IPv6 covers besides the message. RFC 8200 §8.1
pub fn pseudo_header(from: IpAddr, to: IpAddr, length: usize) -> Vec<u8> {
    let (IpAddr::V6(from), IpAddr::V6(to)) = (from, to) else {
        return Vec::new();
    };
    let mut bytes = [from.octets(), to.octets()].concat();
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend([0, 0, 0, Version::V6.protocol()]);
    bytes
}

/// The same message with the checksum that the kernel gives it over IPv6.
pub fn with_pseudo_header(pseudo: &[u8], mut message: Vec<u8>) -> Vec<u8> {
    if !pseudo.is_empty() {
        message[2..4].fill(0);
        let checksum = internet_checksum(&[pseudo, &message].concat());
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    message
}

/// An echo's data: room for the time of sending, and then each octet its own
/// place, as ping has it.
pub fn payload(size: usize) -> Vec<u8> {
    (0..size).map(|at| at as u8).collect()
}

/// The time of sending, nanoseconds since 1970, with which the data begin;
/// none where there is no room for it.
pub fn time_stamp(time: u64, room: usize) -> Vec<u8> {
    let octets = time.to_be_bytes();
    if room < STAMP { Vec::new() } else { octets.to_vec() }
}

/// The time that a mark is, if it is one.
pub fn stamped_at(mark: &[u8]) -> Option<u64> {
    mark.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_request_octet_by_octet() {
        let bytes = emit(8, 0x1234, 1, b"ping");
        assert_eq!(
            bytes,
            [8, 0, 0x06, 0xfa, 0x12, 0x34, 0, 1, b'p', b'i', b'n', b'g']
        );
        assert_eq!(internet_checksum(&bytes), 0);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.kind, message.code), (8, 0));
        assert_eq!((message.identifier(), message.sequence()), (0x1234, 1));
        assert_eq!((message.checksum, message.data), (0x06fa, &b"ping"[..]));
        assert_eq!(Message::parse(&bytes[..7]), None);
        let mut other = emit(8, 0x1234, 1, b"....");
        begin_data(&mut other, b"ping");
        assert_eq!(other, bytes);
        // of odd length
        assert_eq!(internet_checksum(&emit(8, 1, 1, b"odd")), 0);
    }

    #[test]
    fn the_data_of_an_echo() {
        assert_eq!(payload(4), [0, 1, 2, 3]);
        let stamp = time_stamp(0x0102_0304_0506_0708, 8);
        assert_eq!(stamp, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(stamped_at(&stamp), Some(0x0102_0304_0506_0708));
        assert_eq!(time_stamp(7, 7), [0; 0], "no room for a time");
        assert_eq!(stamped_at(&[]), None);
    }

    /// What the lab's skeleton computes its checksum over, in Python 3.
    #[test]
    fn the_skeletons_checksum_is_of_another_text() {
        let packet = b"\x08\x00\x00\x00\x34\x12\x01\x00";
        let text = br"b'\x08\x00\x00\x00\x34\x12\x01\x00'";
        assert_ne!(internet_checksum(packet), internet_checksum(text));
        let sequence = Message::parse(packet).unwrap().sequence();
        assert_eq!(sequence, 256, "1, in the order of the machine");
    }

    #[test]
    fn the_pseudo_header_of_ipv6() {
        let (from, to) = ("fe80::1".parse(), "fe80::2".parse());
        let bytes = pseudo_header(from.unwrap(), to.unwrap(), 64);
        assert_eq!(bytes.len(), 40);
        assert_eq!(bytes[32..], [0, 0, 0, 64, 0, 0, 0, 58]);
    }
}
