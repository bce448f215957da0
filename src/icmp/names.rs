//! Every type and code by name: RFC 792, with RFC 1122 §3.2.2.1 for codes 6
//! to 12 and RFC 1812 §5.2.7.1 for 13 to 15; RFC 4443 for IPv6.
//!
//! `words` are the ones that ping(8) prints, so that what reads its lines
//! reads ours; `why` is for `-e`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{Message, Version};

/// What an ICMP message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    pub words: String,
    /// What it means, and where that is written.
    pub why: String,
    /// What traceroute(8) writes behind the time, without the `!`.
    pub mark: String,
    /// Is it an error about a datagram that it quotes?
    pub is_error: bool,
    /// Is the datagram lost? (Not by a redirect or a source quench.)
    pub is_final: bool,
}

/// Codes of destination unreachable: words, mark, reason.
const UNREACHABLE: [(&str, &str, &str); 16] = [
    ("Destination Net Unreachable", "N", "no route to the network"),
    (
        "Destination Host Unreachable",
        "H",
        "the last router cannot reach the host, often as nobody answers ARP",
    ),
    (
        "Destination Protocol Unreachable",
        "P",
        "the host does not speak the protocol above IP",
    ),
    ("Destination Port Unreachable", "", "no socket has the port"),
    (
        "Frag needed and DF set",
        "F",
        "larger than the next link takes, and not to be fragmented: so the \
         path's MTU is found. RFC 1191",
    ),
    ("Source Route Failed", "S", "the route that the sender wanted is none"),
    ("Destination Net Unknown", "N", "the network is unknown"),
    ("Destination Host Unknown", "H", "the host is unknown"),
    ("Source Host Isolated", "N", "the sender is isolated"),
    ("Destination Net Prohibited", "X", "forbidden by an administrator"),
    ("Destination Host Prohibited", "X", "forbidden by an administrator"),
    (
        "Destination Net Unreachable for Type of Service",
        "N",
        "no route for this type of service",
    ),
    (
        "Destination Host Unreachable for Type of Service",
        "H",
        "no way to the host for this type of service",
    ),
    ("Packet filtered", "X", "a filter forbids it"),
    ("Precedence Violation", "V", "such a precedence is not permitted"),
    ("Precedence Cutoff", "C", "the precedence is below the least"),
];

const UNREACHABLE_V6: [(&str, &str, &str); 7] = [
    ("No route", "N", "no route to the destination"),
    ("Administratively prohibited", "X", "forbidden by an administrator"),
    (
        "Beyond scope of source address",
        "H",
        "the sender's address is not good that far, such as a link-local one",
    ),
    (
        "Address unreachable",
        "H",
        "the last router cannot reach the host, often as nobody answers \
         neighbour discovery",
    ),
    ("Port unreachable", "", "no socket has the port"),
    (
        "Source address failed ingress/egress policy",
        "<5>",
        "the sender's address is not allowed here",
    ),
    ("Reject route to destination", "<6>", "the route says: refuse"),
];

const REDIRECTS: [&str; 4] = [
    "Redirect Network",
    "Redirect Host",
    "Redirect Type of Service and Network",
    "Redirect Type of Service and Host",
];

/// The other types of RFC 792 and those after it.
const TYPES: [(u8, &str); 12] = [
    (0, "Echo Reply"),
    (8, "Echo Request"),
    (9, "Router Advertisement"),
    (10, "Router Solicitation"),
    (13, "Timestamp"),
    (14, "Timestamp Reply"),
    (15, "Information Request (obsolete: RFC 6918)"),
    (16, "Information Reply (obsolete: RFC 6918)"),
    (17, "Address Mask Request (obsolete: RFC 6918)"),
    (18, "Address Mask Reply (obsolete: RFC 6918)"),
    (42, "Extended Echo Request"),
    (43, "Extended Echo Reply"),
];

const TYPES_V6: [(u8, &str); 10] = [
    (128, "Echo request"),
    (129, "Echo reply"),
    (130, "Multicast listener query"),
    (131, "Multicast listener report"),
    (132, "Multicast listener done"),
    (133, "Router solicitation"),
    (134, "Router advertisement"),
    (135, "Neighbour solicitation"),
    (136, "Neighbour advertisement"),
    (143, "Multicast listener report, version 2"),
];

/// The meaning of a message by type, code, and the four octets behind the
/// checksum.
pub fn meaning(version: Version, message: &Message) -> Meaning {
    match version {
        Version::V4 => of_v4(message),
        Version::V6 => of_v6(message),
    }
}

fn error(words: String, mark: &str, why: &str, source: &str) -> Meaning {
    Meaning {
        words,
        why: format!("{why}. {source}"),
        mark: mark.to_string(),
        is_error: true,
        is_final: true,
    }
}

fn other(words: String) -> Meaning {
    Meaning {
        why: format!("{words}: no error about a datagram"),
        words,
        mark: String::new(),
        is_error: false,
        is_final: false,
    }
}

/// The octet at fault that a parameter problem points to: its number in
/// IPv4's header has a name.
fn pointed_at(pointer: u8) -> &'static str {
    match pointer {
        0 => "version and header length",
        1 => "type of service",
        2 | 3 => "total length",
        4 | 5 => "identification",
        6 | 7 => "flags and fragment offset",
        8 => "time to live",
        9 => "protocol",
        10 | 11 => "header checksum",
        12..16 => "source address",
        16..20 => "destination address",
        20..60 => "options",
        _ => "data",
    }
}

fn of_v4(message: &Message) -> Meaning {
    let (code, rest) = (message.code, message.rest);
    let rfc_792 = "RFC 792, KR 5.6";
    match message.kind {
        3 => unreachable_v4(code, rest),
        4 => Meaning {
            is_final: false,
            ..error(
                "Source Quench".into(),
                "",
                "send more slowly; nobody says so today",
                "RFC 792, obsolete since RFC 6633",
            )
        },
        5 => {
            let gateway = Ipv4Addr::from(rest);
            let name = REDIRECTS.get(usize::from(code));
            let words = match name {
                Some(name) => format!("{name}(New nexthop: {gateway})"),
                None => format!("Redirect, Bad Code: {code}"),
            };
            Meaning { is_final: false, ..error(words, "", REDIRECT, rfc_792) }
        }
        11 => {
            let words = match code {
                0 => "Time to live exceeded".into(),
                1 => "Frag reassembly time exceeded".into(),
                _ => format!("Time exceeded, Bad Code: {code}"),
            };
            error(words, &exceeded_mark(11, code), exceeded(code), rfc_792)
        }
        12 => {
            let pointer = rest[0];
            let words = format!("Parameter problem: pointer = {pointer}");
            let why = match code {
                0 => format!("the fault is in the {}", pointed_at(pointer)),
                1 => "an option that is needed is missing".into(),
                _ => "a length is wrong".into(),
            };
            error(words, &format!("<12-{code}>"), &why, rfc_792)
        }
        kind => by_name(&TYPES, kind),
    }
}

const REDIRECT: &str = "a better first router; the datagram was passed on";

fn unreachable_v4(code: u8, rest: [u8; 4]) -> Meaning {
    let source = match code {
        6..=12 => "RFC 1122 §3.2.2.1, KR 5.6",
        13..=15 => "RFC 1812 §5.2.7.1, KR 5.6",
        _ => "RFC 792, KR 5.6",
    };
    match UNREACHABLE.get(usize::from(code)) {
        Some((words, _, why)) if code == 4 => {
            let mtu = u16::from_be_bytes([rest[2], rest[3]]);
            let words = format!("{words} (mtu = {mtu})");
            error(words, &format!("F-{mtu}"), why, source)
        }
        Some((words, mark, why)) => error((*words).into(), mark, why, source),
        None => {
            let words = format!("Dest Unreachable, Bad Code: {code}");
            error(words, &format!("<{code}>"), "no known code", source)
        }
    }
}

/// The two codes of time exceeded, in transit and at the host.
fn exceeded(code: u8) -> &'static str {
    match code {
        0 => {
            "each router takes one from the TTL (the hop limit), and this one \
             took the last"
        }
        1 => "not all fragments came to the host in time",
        _ => "no known code",
    }
}

/// In transit is what traceroute waits for, and has no mark.
fn exceeded_mark(kind: u8, code: u8) -> String {
    match code {
        0 => String::new(),
        code => format!("<{kind}-{code}>"),
    }
}

/// A type that is no error about a datagram.
fn by_name(types: &[(u8, &str)], kind: u8) -> Meaning {
    let known = types.iter().find(|(k, _)| *k == kind);
    let words = known.map(|(_, name)| (*name).to_string());
    other(words.unwrap_or_else(|| format!("Bad ICMP type: {kind}")))
}

fn of_v6(message: &Message) -> Meaning {
    let (code, rest) = (message.code, message.rest);
    let number = u32::from_be_bytes(rest);
    let rfc_4443 = |section| format!("RFC 4443 §3.{section}, KR 5.6");
    match message.kind {
        1 => {
            let known = UNREACHABLE_V6.get(usize::from(code)).copied();
            let unknown = ("Unknown code", "", "no known code");
            let (words, mark, why) = known.unwrap_or(unknown);
            let words = format!("Destination unreachable: {words}");
            match known {
                Some(_) => error(words, mark, why, &rfc_4443(1)),
                None => error(
                    format!("{words} {code}"),
                    &format!("<{code}>"),
                    why,
                    &rfc_4443(1),
                ),
            }
        }
        2 => error(
            format!("Packet too big: mtu={number}"),
            &format!("F-{number}"),
            "larger than the next link takes; routers of IPv6 do not fragment",
            &rfc_4443(2),
        ),
        3 => {
            let words = match code {
                0 => "Time exceeded: Hop limit",
                1 => "Time exceeded: Defragmentation failure",
                _ => "Time exceeded: Unknown code",
            };
            let mark = exceeded_mark(3, code);
            error(words.into(), &mark, exceeded(code), &rfc_4443(3))
        }
        4 => {
            let (words, why) = match code {
                0 => ("Wrong header field", "a field has a wrong value"),
                1 => ("Unknown header", "no such protocol there"),
                2 => ("Unknown option", "an option is not known there"),
                _ => ("Unknown code", "no known code"),
            };
            let mark = format!("<4-{code}>");
            let words = format!("Parameter problem: {words} at {number}");
            error(words, &mark, why, &rfc_4443(4))
        }
        // of neighbour discovery: RFC 4861 §4.5
        137 => {
            let target = message.data.first_chunk::<16>();
            let words = match target.map(|octets| Ipv6Addr::from(*octets)) {
                Some(target) => format!("Redirect(New nexthop: {target})"),
                None => "Redirect".into(),
            };
            let source = "RFC 4861 §4.5";
            Meaning { is_final: false, ..error(words, "", REDIRECT, source) }
        }
        kind => by_name(&TYPES_V6, kind),
    }
}

/// The four octets behind the checksum, as far as an error queue tells them:
/// one number, which is a pointer, a gateway or an MTU.
pub fn rest_of(version: Version, kind: u8, number: u32) -> [u8; 4] {
    match (version, kind) {
        (Version::V4, 12) => [number as u8, 0, 0, 0],
        _ => number.to_be_bytes(),
    }
}

/// Did the TTL run out on the way?
pub fn is_time_exceeded(at: &IpAddr, kind: u8, code: u8) -> bool {
    match at {
        IpAddr::V4(_) => (kind, code) == (11, 0),
        IpAddr::V6(_) => (kind, code) == (3, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(version: Version, kind: u8, code: u8, rest: [u8; 4]) -> Meaning {
        let message = Message { kind, code, checksum: 0, rest, data: &[] };
        meaning(version, &message)
    }

    #[test]
    fn every_code_of_destination_unreachable_has_a_name() {
        let mut names: Vec<String> =
            (0..16).map(|c| of(Version::V4, 3, c, [0; 4]).words).collect();
        assert_eq!(names[0], "Destination Net Unreachable");
        assert_eq!(names[13], "Packet filtered");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 16, "all different");
        let marks: Vec<String> = (0..17)
            .map(|c| of(Version::V4, 3, c, [0, 0, 3, 232]).mark)
            .collect();
        assert_eq!(marks.join(" "), "N H P  F-1000 S N H N X X N H X V C <16>");
    }

    #[test]
    fn the_fields_behind_the_checksum_are_read() {
        let v4 = |kind, code, rest| of(Version::V4, kind, code, rest).words;
        let v6 = |kind, code, rest| of(Version::V6, kind, code, rest).words;
        assert_eq!(
            v4(3, 4, [0, 0, 3, 232]),
            "Frag needed and DF set (mtu = 1000)"
        );
        assert_eq!(
            v4(5, 1, [192, 0, 2, 2]),
            "Redirect Host(New nexthop: 192.0.2.2)"
        );
        assert_eq!(v4(12, 0, [20, 0, 0, 0]), "Parameter problem: pointer = 20");
        assert_eq!(
            v4(17, 0, [0; 4]),
            "Address Mask Request (obsolete: RFC 6918)"
        );
        assert_eq!(v6(2, 0, [0, 0, 5, 0]), "Packet too big: mtu=1280");
        assert_eq!(
            v6(4, 1, [0, 0, 0, 40]),
            "Parameter problem: Unknown header at 40"
        );
    }

    #[test]
    fn all_types_and_codes_mean_something() {
        for version in [Version::V4, Version::V6] {
            for kind in 0..=255 {
                for code in 0..=255 {
                    let meaning = of(version, kind, code, [255; 4]);
                    assert!(!meaning.words.is_empty());
                }
            }
        }
        assert!(!of(Version::V4, 5, 1, [0; 4]).is_final, "it was passed on");
        assert!(!of(Version::V4, 4, 0, [0; 4]).is_final);
        assert!(of(Version::V4, 11, 0, [0; 4]).is_final);
        assert!(!of(Version::V6, 135, 0, [0; 4]).is_error);
        let [v4, v6] = [IpAddr::from([0; 4]), IpAddr::from([0u16; 8])];
        assert!(is_time_exceeded(&v4, 11, 0) && is_time_exceeded(&v6, 3, 0));
        assert!(!is_time_exceeded(&v4, 11, 1) && !is_time_exceeded(&v6, 3, 1));
        assert!(!is_time_exceeded(&v4, 3, 0) && !is_time_exceeded(&v6, 11, 0));
        assert_eq!(rest_of(Version::V4, 12, 20), [20, 0, 0, 0]);
        assert_eq!(rest_of(Version::V6, 4, 40), [0, 0, 0, 40]);
    }
}
