//! A file of packets for Wireshark and tcpdump, in their oldest format
//! (pcap; draft-ietf-opsawg-pcap): a header, and then each packet behind its
//! time and its lengths.
//!
//! What is captured begins with IP. Where the kernel keeps that header to
//! itself it is built anew from what is known: identification 0.

use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use super::message::Version;
use crate::udp::internet_checksum;

/// Nanoseconds, in the order of the machine that writes.
const MAGIC: u32 = 0xa1b2_3c4d;
/// LINKTYPE_RAW: IPv4 or IPv6, as the packet's first octet says.
const LINK_TYPE: u32 = 101;
const MAX_LENGTH: u32 = 65_575;

pub struct Capture(File);

impl Capture {
    pub fn create(path: &Path) -> io::Result<Capture> {
        let mut file = File::create(path)?;
        let mut header = MAGIC.to_ne_bytes().to_vec();
        header.extend([2u16, 4].map(u16::to_ne_bytes).concat());
        let rest = [0, 0, MAX_LENGTH, LINK_TYPE];
        header.extend(rest.map(u32::to_ne_bytes).concat());
        file.write_all(&header)?;
        Ok(Capture(file))
    }

    /// A packet, at so many nanoseconds since 1970.
    pub fn packet(&mut self, at: u64, packet: &[u8]) -> io::Result<()> {
        let second = 1_000_000_000;
        let length = packet.len() as u32;
        let fields =
            [(at / second) as u32, (at % second) as u32, length, length];
        let mut record = fields.map(u32::to_ne_bytes).concat();
        record.extend(packet);
        self.0.write_all(&record)
    }
}

/// An ICMP message with an IP header before it.
pub fn with_ip_header(
    from: IpAddr,
    to: IpAddr,
    ttl: u8,
    message: &[u8],
) -> Vec<u8> {
    let length = message.len() as u16;
    let mut packet = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0];
            header.extend((length + 20).to_be_bytes());
            header.extend([0, 0, 0, 0, ttl, Version::V4.protocol(), 0, 0]);
            header.extend([from.octets(), to.octets()].concat());
            let checksum = internet_checksum(&header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(length.to_be_bytes());
            header.extend([Version::V6.protocol(), ttl]);
            header.extend([from.octets(), to.octets()].concat());
            header
        }
        _ => Vec::new(),
    };
    packet.extend(message);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_octet_by_octet() {
        let path = std::env::temp_dir()
            .join(format!("topdown-pcap-{}", std::process::id()));
        let mut capture = Capture::create(&path).unwrap();
        capture.packet(7_000_000_009, &[0x45, 1, 2]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let number = |at: usize| {
            u32::from_ne_bytes(*bytes[at..].first_chunk::<4>().unwrap())
        };
        assert_eq!(
            (number(0), number(16), number(20)),
            (0xa1b2_3c4d, 65_575, 101)
        );
        // seconds, nanoseconds, kept, of so many
        let record = [number(24), number(28), number(32), number(36)];
        assert_eq!(record, [7, 9, 3, 3]);
        assert_eq!(bytes[40..], [0x45, 1, 2]);
    }

    #[test]
    fn a_header_with_a_good_checksum() {
        let from = "192.0.2.1".parse().unwrap();
        let to = "192.0.2.2".parse().unwrap();
        let packet = with_ip_header(from, to, 64, b"12345678");
        assert_eq!(packet[..4], [0x45, 0, 0, 28]);
        assert_eq!(internet_checksum(&packet[..20]), 0);
        assert_eq!(packet[20..], *b"12345678");
        let from = "2001:db8::1".parse().unwrap();
        let to = "2001:db8::2".parse().unwrap();
        let packet = with_ip_header(from, to, 7, b"12345678");
        assert_eq!(packet[..8], [0x60, 0, 0, 0, 0, 8, 58, 7]);
        assert_eq!(packet.len(), 48);
    }
}
