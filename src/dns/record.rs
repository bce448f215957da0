//! The types of resource records, and their data as text: the form of master
//! files. RFC 1035 §3.3, §5.1; KR 2.4.3

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::message::{Bad, Name, Reader};

/// Types by name: RFC 1035 §3.2.2, AAAA of RFC 3596, SRV of RFC 2782.
const KINDS: [(&str, u16); 10] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("SRV", 33),
    ("ANY", 255),
];

pub const A: u16 = 1;
pub const PTR: u16 = 12;
pub const MX: u16 = 15;
pub const AAAA: u16 = 28;

/// The number of a type by its name, in either case; `TYPE65` is one, too
/// (RFC 3597 §5).
pub fn kind(text: &str) -> Option<u16> {
    let upper = text.to_ascii_uppercase();
    let known = KINDS.iter().find(|(name, _)| *name == upper);
    known
        .map(|(_, kind)| *kind)
        .or_else(|| upper.strip_prefix("TYPE")?.parse().ok())
}

/// The name of a type.
pub fn kind_name(kind: u16) -> String {
    match KINDS.iter().find(|(_, k)| *k == kind) {
        Some((name, _)) => (*name).to_string(),
        None => format!("TYPE{kind}"),
    }
}

/// What a type is for.
pub fn kind_note(kind: u16) -> &'static str {
    match kind {
        1 => "an IPv4 address. RFC 1035 §3.4.1, KR 2.4.3",
        2 => "a name server of the zone. RFC 1035 §3.3.11, KR 2.4.3",
        5 => "the canonical name of an alias. RFC 1035 §3.3.1, KR 2.4.3",
        6 => "the start of a zone of authority. RFC 1035 §3.3.13",
        12 => "a name for an address. RFC 1035 §3.3.12",
        15 => "a mail server, and its preference. RFC 1035 §3.3.9, KR 2.4.3",
        16 => "text. RFC 1035 §3.3.14",
        28 => "an IPv6 address. RFC 3596 §2.2",
        33 => "where a service is. RFC 2782",
        _ => "an extension type. RFC 3597",
    }
}

/// The data of a record of `length` octets, as text.
pub fn data(
    kind: u16,
    reader: &mut Reader,
    length: usize,
) -> Result<String, Bad> {
    Ok(match kind {
        A => {
            let address: Result<[u8; 4], _> = reader.take(4)?.try_into();
            Ipv4Addr::from(address.map_err(|_| Bad::Data)?).to_string()
        }
        AAAA => {
            let address: Result<[u8; 16], _> = reader.take(16)?.try_into();
            Ipv6Addr::from(address.map_err(|_| Bad::Data)?).to_string()
        }
        // one name
        2 | 5 | PTR => reader.name()?.to_string(),
        // PREFERENCE EXCHANGE
        15 => format!("{} {}", reader.u16()?, reader.name()?),
        // MNAME RNAME SERIAL REFRESH RETRY EXPIRE MINIMUM
        6 => {
            let mut text = format!("{} {}", reader.name()?, reader.name()?);
            for _ in 0..5 {
                let _ = write!(text, " {}", reader.u32()?);
            }
            text
        }
        // one or more strings
        16 => {
            let end = reader.at + length;
            let mut strings = Vec::new();
            while reader.at < end {
                let count = usize::from(reader.u8()?);
                strings.push(quoted(reader.take(count)?));
            }
            strings.join(" ")
        }
        // PRIORITY WEIGHT PORT TARGET
        33 => {
            let numbers = [reader.u16()?, reader.u16()?, reader.u16()?];
            let target: Name = reader.name()?;
            let [priority, weight, port] = numbers;
            format!("{priority} {weight} {port} {target}")
        }
        // "\# length hex": RFC 3597 §5
        _ => {
            let mut text = format!("\\# {length}");
            for (i, byte) in reader.take(length)?.iter().enumerate() {
                let space = if i % 32 == 0 { " " } else { "" };
                let _ = write!(text, "{space}{byte:02x}");
            }
            text
        }
    })
}

/// A string in quotes; what could leave them, or drive a terminal, as `\DDD`.
fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from('"');
    for byte in bytes {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => _ = write!(text, "\\{byte:03}"),
        }
    }
    text.push('"');
    text
}
