//! UDP, the connectionless transport: KR 2.7.1 and 3.3, RFC 768.
//!
//! Read `server.rs` and `client.rs` first. They leave the header to the
//! kernel; this file draws it, for `-e`.

pub mod client;
pub mod server;

use std::net::{IpAddr, SocketAddr};

use crate::trace::header_drawing;

/// The longest datagram that there can be: a 16-bit length. Over IPv4 its
/// data have at most 65,507 octets, over IPv6 65,527.
pub const MAX_DATAGRAM: usize = 65_535;

/// The header that a datagram travels with. RFC 768 draws
///
/// ```text
///  0      7 8     15 16    23 24    31
/// +--------+--------+--------+--------+
/// |     Source      |   Destination   |
/// |      Port       |      Port       |
/// +--------+--------+--------+--------+
/// |     Length      |    Checksum     |
/// +--------+--------+--------+--------+
/// ```
pub fn draw_header(from: SocketAddr, to: SocketAddr, data: &[u8]) -> String {
    let length = 8 + data.len();
    let checksum = match checksum(from, to, data) {
        Some(checksum) => format!("checksum 0x{checksum:04x}"),
        None => "checksum (own address open)".into(),
    };
    header_drawing(&[
        (format!("source port {}", from.port()), 16),
        (format!("destination port {}", to.port()), 16),
        (format!("length {length}"), 16),
        (checksum, 16),
    ])
}

/// "Checksum is the 16-bit one's complement of the one's complement sum of a
/// pseudo header of information from the IP header, the UDP header, and the
/// data, padded with zero octets at the end (if necessary) to make a
/// multiple of two octets." RFC 768; KR 3.3.2. IPv6's pseudo header (RFC
/// 8200 §8.1) has longer fields, but the same sum. `None` when an end is
/// bound to no particular address.
fn checksum(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Option<u16> {
    const PROTOCOL: u8 = 17;
    let length = u16::try_from(8 + data.len()).ok()?;
    let mut bytes = match (from.ip(), to.ip()) {
        (a, b) if a.is_unspecified() || b.is_unspecified() => return None,
        (IpAddr::V4(a), IpAddr::V4(b)) => [a.octets(), b.octets()].concat(),
        (IpAddr::V6(a), IpAddr::V6(b)) => [a.octets(), b.octets()].concat(),
        _ => return None,
    };
    // the rest of the pseudo header
    bytes.extend([0, PROTOCOL]);
    bytes.extend(length.to_be_bytes());
    // the header, its checksum as zero
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(data);
    // "If the computed checksum is zero, it is transmitted as all ones"
    Some(match internet_checksum(&bytes) {
        0 => 0xffff,
        sum => sum,
    })
}

/// The one's complement of the one's complement sum of 16-bit words.
/// RFC 1071, KR 3.3.2
pub fn internet_checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2);
    let odd = words.remainder().first().map_or(0, |b| u64::from(*b) << 8);
    let word = |w: &[u8]| u64::from(u16::from_be_bytes([w[0], w[1]]));
    let mut sum = words.map(word).sum::<u64>() + odd; // padded with zero
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16); // the carries, wrapped around
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_rfc_1071_section_3() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(!internet_checksum(&bytes), 0xddf2);
        assert_eq!(internet_checksum(&[]), 0xffff);
        assert_eq!(internet_checksum(&[1]), !0x0100);
    }

    #[test]
    fn a_header_with_its_checksum_sums_to_all_ones() {
        let from = "192.0.2.1:1234".parse().unwrap();
        let to = "192.0.2.2:53".parse().unwrap();
        let sum = checksum(from, to, b"hello").unwrap();
        let mut packet = vec![192, 0, 2, 1, 192, 0, 2, 2, 0, 17, 0, 13];
        packet.extend([0x04, 0xd2, 0, 53, 0, 13]);
        packet.extend(sum.to_be_bytes());
        packet.extend(b"hello");
        assert_eq!(internet_checksum(&packet), 0);
        let any = "0.0.0.0:53".parse().unwrap();
        assert_eq!(checksum(from, any, b""), None);
        assert!(draw_header(from, to, b"hello").contains("length 13"));
    }
}
