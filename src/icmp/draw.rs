//! An ICMP message drawn as RFC 792 draws it, with this packet's values, and
//! its checksum worked as KR 3.3.2 does, for `-e`.

use super::message::{HEADER, Message, Version};
use crate::trace::header_drawing;

/// Words of data in a line of the checksum's addition.
const WORDS: usize = 8;

/// The message; beside a request, what has changed since is marked `*`.
pub fn draw_message(
    version: Version,
    bytes: &[u8],
    request: Option<&[u8]>,
) -> String {
    let Some(message) = Message::parse(bytes) else { return String::new() };
    let before = request.and_then(Message::parse);
    let mark = |same: fn(&Message, &Message) -> bool| match &before {
        Some(before) if !same(before, &message) => " *",
        _ => "",
    };
    let Message { kind, code, checksum, data, .. } = message;
    let mut fields = vec![
        (format!("type {kind}{}", mark(|a, b| a.kind == b.kind)), 8),
        (format!("code {code}{}", mark(|a, b| a.code == b.code)), 8),
        (
            format!(
                "checksum 0x{checksum:04x}{}",
                mark(|a, b| a.checksum == b.checksum)
            ),
            16,
        ),
    ];
    let same = mark(|a, b| a.rest == b.rest);
    fields.extend(rest_fields(version, &message, same));
    let is_error = is_error(version, kind);
    if let (Version::V4, 13 | 14, Some(times)) =
        (version, kind, data.first_chunk::<12>())
    {
        let names = ["originate", "receive", "transmit"];
        for (name, octets) in names.iter().zip(times.chunks(4)) {
            let number = octets.iter().fold(0, |n, o| n << 8 | u32::from(*o));
            fields.push((format!("{name} timestamp {number}"), 32));
        }
        return header_drawing(&fields);
    }
    let what = if is_error { "the quoted datagram" } else { "data" };
    let same = mark(|a, b| a.data == b.data);
    fields.push((format!("{what}: {} octets{same}", data.len()), 32));
    header_drawing(&fields)
}

fn is_error(version: Version, kind: u8) -> bool {
    match version {
        Version::V4 => matches!(kind, 3..=5 | 11 | 12),
        Version::V6 => kind < 128,
    }
}

/// The second row: what the type makes of the four octets behind the
/// checksum.
fn rest_fields(
    version: Version,
    message: &Message,
    same: &str,
) -> Vec<(String, usize)> {
    let [a, b, c, d] = message.rest;
    let number = u32::from_be_bytes(message.rest);
    let unused = |width| ("unused".to_string(), width);
    match (version, message.kind) {
        (Version::V4, 5) => vec![(format!("gateway {a}.{b}.{c}.{d}"), 32)],
        (Version::V4, 12) => vec![
            (format!("pointer {a}"), 8),
            (format!("length {b}"), 8),
            unused(16),
        ],
        (Version::V4, 3) if message.code == 4 => {
            let mtu = u16::from_be_bytes([c, d]);
            let length = (format!("length {b}"), 8);
            vec![unused(8), length, (format!("next-hop MTU {mtu}"), 16)]
        }
        (Version::V4, 3 | 11) => {
            vec![unused(8), (format!("length {b}"), 8), unused(16)]
        }
        (Version::V6, 2) => vec![(format!("MTU {number}"), 32)],
        (Version::V6, 4) => vec![(format!("pointer {number}"), 32)],
        (Version::V6, 1 | 3) => vec![(format!("length {a}"), 8), unused(24)],
        (version, kind) if is_error(version, kind) => vec![unused(32)],
        _ => {
            let (id, seq) = (message.identifier(), message.sequence());
            vec![
                (format!("identifier 0x{id:04x}{same}"), 16),
                (format!("sequence number {seq}{same}"), 16),
            ]
        }
    }
}

/// The header of IP version 4, as RFC 791 §3.1 draws it.
pub fn draw_ip(header: &[u8]) -> String {
    let Some(h) = header.first_chunk::<20>() else { return String::new() };
    let word = |at: usize| u16::from_be_bytes([h[at], h[at + 1]]);
    let (version, words) = (h[0] >> 4, h[0] & 15);
    let flags = match word(6) >> 13 {
        0 => "-",
        1 => "MF",
        2 => "DF",
        _ => "?",
    };
    let address = |at: usize| {
        let [a, b, c, d] = [h[at], h[at + 1], h[at + 2], h[at + 3]];
        format!("{a}.{b}.{c}.{d}")
    };
    header_drawing(&[
        (format!("ver {version}"), 4),
        (format!("IHL {words}"), 4),
        (format!("TOS 0x{:02x}", h[1]), 8),
        (format!("total length {}", word(2)), 16),
        (format!("identification 0x{:04x}", word(4)), 16),
        (flags.into(), 3),
        (format!("fragment offset {}", word(6) & 0x1fff), 13),
        (format!("TTL {}", h[8]), 8),
        (format!("protocol {}", h[9]), 8),
        (format!("header checksum 0x{:04x}", word(10)), 16),
        (format!("source {}", address(12)), 32),
        (format!("destination {}", address(16)), 32),
    ])
}

/// The checksum of a message, word by word: the sum of all 16-bit words, the
/// carries wrapped around, and the complement. `pseudo` is IPv6's pseudo
/// header, or empty.
pub fn work_checksum(pseudo: &[u8], bytes: &[u8]) -> String {
    let mut out = String::from("  the checksum, in 16-bit words. KR 3.3.2\n");
    let mut sum: u32 = 0;
    let mut add = |what: &str, octets: &[u8]| {
        let mut shown = String::new();
        for word in octets.chunks(2) {
            let low = word.get(1).copied().unwrap_or(0);
            let word = u16::from_be_bytes([word[0], low]);
            sum += u32::from(word);
            shown.push_str(&format!("{word:04x} "));
        }
        let width = WORDS * 5;
        out.push_str(&format!("    {shown:width$} {what:24} {sum:6x}\n"));
    };
    for piece in pseudo.chunks(2 * WORDS) {
        add("pseudo header", piece);
    }
    let Some((header, data)) = bytes.split_first_chunk::<HEADER>() else {
        return String::new();
    };
    add("type, code", &header[..2]);
    add("checksum, as zero", &[0, 0]);
    add("identifier", &header[4..6]);
    add("sequence number", &header[6..]);
    for piece in data.chunks(2 * WORDS) {
        add("data", piece);
    }
    let mut wrapped = sum;
    while wrapped > 0xffff {
        wrapped = (wrapped & 0xffff) + (wrapped >> 16);
    }
    let (high, low) = (sum >> 16, sum & 0xffff);
    let end = !(wrapped as u16);
    out.push_str(&format!(
        "    carries wrapped around: {high:x} + {low:04x} = {wrapped:04x}; \
         one's complement: {end:04x}\n"
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::super::message::emit;
    use super::*;

    #[test]
    fn a_reply_marks_what_has_changed() {
        let request = emit(8, 0x1234, 1, b"ping");
        let drawing = draw_message(Version::V4, &request, None);
        assert!(drawing.contains("|    type 8     |    code 0     |"));
        assert!(
            drawing.contains("identifier 0x1234") && !drawing.contains('*')
        );
        let reply = emit(0, 0x1234, 1, b"ping");
        let drawing = draw_message(Version::V4, &reply, Some(&request));
        assert!(drawing.contains("type 0 *") && drawing.contains("0x0efa *"));
        assert_eq!(drawing.matches('*').count(), 2, "{drawing}");
    }

    #[test]
    fn the_checksum_worked_is_the_checksum() {
        for data in [&b"ping"[..], &[0xff; 56], b"odd", b""] {
            let bytes = emit(8, 0x1234, 1, data);
            let worked = work_checksum(&[], &bytes);
            let end =
                format!("one's complement: {:02x}{:02x}\n", bytes[2], bytes[3]);
            assert!(worked.ends_with(&end), "{worked}{end}");
        }
        let worked = work_checksum(&[], &emit(8, 0x1234, 1, b"ping"));
        assert!(worked.contains("1234 "), "{worked}");
        assert!(worked.contains("= f905;"), "{worked}");
    }

    #[test]
    fn an_ip_header_and_errors_are_drawn() {
        let header = [
            0x45, 0, 0, 84, 0xab, 0xcd, 0x40, 0, 64, 1, 1, 2, 192, 0, 2, 1,
            203, 0, 113, 10,
        ];
        let drawing = draw_ip(&header);
        for text in ["TTL 64", "| DF  |", "0xabcd", "destination 203.0.113.10"]
        {
            assert!(drawing.contains(text), "{text}: {drawing}");
        }
        let mut redirect = emit(5, 0, 0, &[0; 28]);
        redirect[4..8].copy_from_slice(&[192, 0, 2, 2]);
        let drawing = draw_message(Version::V4, &redirect, None);
        assert!(drawing.contains("gateway 192.0.2.2"), "{drawing}");
        assert!(drawing.contains("the quoted datagram: 28 octets"));
        assert_eq!(draw_ip(&header[..19]), "");
    }
}
