//! What a client, or the message that it sends, does that a standard
//! forbids or advises against: notes for its author, each with its section.

use super::receive::Receiver;
use super::text::MAX_LINE;

/// Of a message's beginning so much is looked at.
pub const LOOKED_AT: usize = 16 * 1024;

/// Notes on a whole message. `beginning` is its first octets, with LF;
/// `eight_bit`: the client declared octets over 127 (BODY=8BITMIME).
pub fn message(
    beginning: &[u8],
    received: &Receiver,
    has_eight_bit: bool,
    eight_bit: bool,
) -> Vec<String> {
    let mut notes = Vec::new();
    if received.bare_lf {
        notes.push("a bare LF: lines end with CRLF. RFC 5321 §2.3.8".into());
    }
    if received.bare_cr {
        notes.push("a bare CR: lines end with CRLF. RFC 5321 §2.3.8".into());
    }
    if has_eight_bit && !eight_bit {
        notes.push(
            "octets over 127, though the client did not say BODY=8BITMIME. \
             RFC 6152 §3"
                .into(),
        );
    }
    if received.longest_line > MAX_LINE {
        notes.push(format!(
            "a line of {} octets: 998 are the most. RFC 5322 §2.1.1",
            received.longest_line
        ));
    }
    notes.extend(header(beginning));
    notes
}

/// Notes on the header that a message begins with.
fn header(beginning: &[u8]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut body_follows = false;
    for line in beginning.split(|b| *b == b'\n') {
        let name = line.split(|b| *b == b':').next().unwrap_or_default();
        match line {
            b"" => break,
            [b' ' | b'\t', ..] if !names.is_empty() => {}
            _ if line.contains(&b':') && is_name(name) => {
                names.push(name.to_ascii_lowercase());
            }
            _ => {
                body_follows = true;
                break;
            }
        }
    }
    // (a header may be longer than what is looked at)
    if body_follows && beginning.len() < LOOKED_AT {
        notes
            .push("no empty line after the header. RFC 5322 §2.1, §3.5".into());
    }
    let count = |name: &[u8]| names.iter().filter(|n| *n == name).count();
    for (name, section) in [
        ("Date", "RFC 5322 §3.6: it MUST be there"),
        ("From", "RFC 5322 §3.6: it MUST be there"),
        ("Message-ID", "RFC 5322 §3.6.4: it SHOULD be there"),
    ] {
        match count(name.to_ascii_lowercase().as_bytes()) {
            0 => notes.push(format!("no {name} in the header. {section}")),
            1 => {}
            n => notes.push(format!("{name} {n} times. RFC 5322 §3.6")),
        }
    }
    notes
}

/// `ftext`: printable ASCII without the colon. RFC 5322 §3.6.8
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(text: &str) -> String {
        message(text.as_bytes(), &Receiver::new(), false, false).join("\n")
    }

    #[test]
    fn a_good_message_has_no_notes() {
        let good = "Date: x\nFrom: a\n b\nMessage-ID: <x>\n\nhi\n";
        assert_eq!(notes(good), "");
        // "followed, optionally, by a body" RFC 5322 §2.1
        assert_eq!(notes(&good[..good.len() - 4]), "");
    }

    #[test]
    fn each_fault_has_its_note() {
        assert!(notes("\nhi\n").contains("no Date"));
        assert!(notes("\nhi\n").contains("no Message-ID"));
        assert!(notes("Do you like ketchup?\n").contains("no empty line"));
        assert!(notes("From: a\nFrom: b\n\n").contains("From 2 times"));
        let mut received = Receiver::new();
        received.bare_lf = true;
        received.longest_line = 999;
        let all = message(b"\n", &received, true, false).join("\n");
        assert!(all.contains("bare LF") && all.contains("999"));
        assert!(all.contains("8BITMIME"));
        let declared = message(b"\n", &received, true, true).join("\n");
        assert!(!declared.contains("8BITMIME"));
    }
}
