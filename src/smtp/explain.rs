//! The margin notes on SMTP: what each command asks, and what each digit of
//! a reply says. `-v` prints the lines, `-e` the notes beside them.

use crate::output::printable;

/// What a command is for.
pub fn command(line: &[u8]) -> String {
    let verb = line.split(|b| matches!(b, b' ' | b':')).next();
    let verb = verb.unwrap_or_default().to_ascii_uppercase();
    match verb.as_slice() {
        b"HELO" => "the client names itself. RFC 5321 §4.1.1.1, KR 2.3.1",
        b"EHLO" => {
            "the client names itself, and asks what the server can do beyond \
             RFC 821. RFC 5321 §4.1.1.1"
        }
        b"MAIL" if line.windows(2).any(|w| w == b"<>") => {
            "the null reverse-path: of this mail no failure is told, since \
             it tells of one itself. RFC 5321 §4.5.5"
        }
        b"MAIL" => {
            "a new envelope: to whom failures are told (the reverse-path). \
             The From in the header is for people, and may differ. \
             RFC 5321 §4.1.1.2 (SIZE: RFC 1870), KR 2.3.1"
        }
        b"RCPT" => {
            "one recipient of the envelope, whatever To and Cc will say. \
             RFC 5321 §4.1.1.3, KR 2.3.1"
        }
        b"DATA" => "now the message itself. RFC 5321 §4.1.1.4, KR 2.3.1",
        b"RSET" => "forget the envelope. RFC 5321 §4.1.1.5",
        b"NOOP" => "nothing, but answer. RFC 5321 §4.1.1.9",
        b"QUIT" => {
            "the conversation is over; several messages could have gone over \
             the one connection. RFC 5321 §4.1.1.10, KR 2.3.1"
        }
        b"VRFY" => "is there such a user? RFC 5321 §4.1.1.6",
        b"EXPN" => "who is on this list? RFC 5321 §4.1.1.7",
        b"HELP" => "RFC 5321 §4.1.1.8",
        b"STARTTLS" => "from the next octet on, TLS. RFC 3207 §4",
        b"AUTH" => "who is it that sends? RFC 4954 §4",
        _ => "an unknown command",
    }
    .into()
}

/// The code, digit by digit. RFC 5321 §4.2.1
pub fn reply(line: &[u8]) -> String {
    let digit = |i: usize| line.get(i).copied().unwrap_or_default();
    let first = match digit(0) {
        b'2' => "2: done",
        b'3' => "3: go on, more is wanted",
        b'4' => "4: not now, try again later",
        b'5' => "5: no",
        _ => return "no reply. RFC 5321 §4.2".into(),
    };
    let second = match digit(1) {
        b'0' => "0: about syntax",
        b'1' => "1: information",
        b'2' => "2: about the connection",
        b'3' => "3: about authentication (RFC 4954)",
        b'5' => "5: about mail",
        _ => "unspecified",
    };
    let more = match digit(3) {
        b'-' => "; the hyphen: more lines follow",
        _ => "",
    };
    let enhanced = match is_enhanced(line.get(4..).unwrap_or_default()) {
        true => "; then the enhanced code (RFC 3463)",
        false => "",
    };
    let extension = extension(line.get(4..).unwrap_or_default());
    match digit(0) == b'2' && digit(1) == b'5' && !extension.is_empty() {
        true => format!("an extension that is offered: {extension}"),
        false => format!("{first}; {second}{more}{enhanced}. RFC 5321 §4.2.1"),
    }
}

/// What a line behind EHLO offers; "" when it is none that is known.
fn extension(text: &[u8]) -> &'static str {
    let word = text.split(|b| matches!(b, b' ' | b'=')).next();
    match word.unwrap_or_default() {
        b"PIPELINING" => "commands without waiting for replies. RFC 2920",
        b"8BITMIME" => "octets over 127 in the message. RFC 6152",
        b"SIZE" => "how big a message may be. RFC 1870",
        b"SMTPUTF8" => "addresses beyond ASCII. RFC 6531",
        b"ENHANCEDSTATUSCODES" => "replies with x.y.z. RFC 2034, 3463",
        b"STARTTLS" => "TLS over this connection. RFC 3207",
        b"AUTH" => "to log in, by these mechanisms. RFC 4954",
        b"HELP" => "RFC 5321 §4.1.1.8",
        b"CHUNKING" => "BDAT in place of DATA. RFC 3030",
        b"DSN" => "reports on delivery. RFC 3461",
        b"VRFY" | b"ETRN" | b"LIMITS" => "not used here",
        _ => "",
    }
}

/// Does a reply's text begin with `5.1.1 `? RFC 2034 §4
pub fn is_enhanced(text: &[u8]) -> bool {
    let code = text.split(|b| *b == b' ').next().unwrap_or_default();
    let numbers: Vec<&[u8]> = code.split(|b| *b == b'.').collect();
    let number = |n: &&[u8]| {
        (1..=3).contains(&n.len()) && n.iter().all(u8::is_ascii_digit)
    };
    numbers.len() == 3
        && matches!(numbers[0], b"2" | b"4" | b"5")
        && numbers.iter().all(number)
}

/// A line of the message, as it leaves or arrives.
pub fn message_line(line: &[u8], in_header: bool) -> String {
    if let (Some(before), true) = (line.strip_prefix(b"."), line != b".") {
        return format!(
            "'{}' began with a dot and got a second one: {} octets became \
             {}. RFC 5321 §4.5.2",
            printable(before),
            before.len(),
            line.len()
        );
    }
    match line {
        b"." => {
            "the end of the message: a dot alone. RFC 5321 §4.1.1.4, KR 2.3.1"
        }
        b"" if in_header => {
            "an empty line: the header ends, the body begins. \
             RFC 5322 §2.1, KR 2.3.2"
        }
        [b' ' | b'\t', ..] if in_header => {
            "(the line before goes on: folding. RFC 5322 §2.2.3)"
        }
        _ if in_header => header_line(line),
        _ => "",
    }
    .into()
}

fn header_line(line: &[u8]) -> &'static str {
    let name = line.split(|b| *b == b':').next().unwrap_or_default();
    match name.to_ascii_lowercase().as_slice() {
        b"from" => {
            "the author, for people; the envelope said MAIL FROM. \
             RFC 5322 §3.6.2, KR 2.3.2"
        }
        b"to" | b"cc" => {
            "for people; the envelope said RCPT TO. RFC 5322 §3.6.3, KR 2.3.2"
        }
        b"date" => "when it was written. RFC 5322 §3.6.1",
        b"subject" => "RFC 5322 §3.6.5, KR 2.3.2",
        b"message-id" => "this message's own name. RFC 5322 §3.6.4",
        b"mime-version" => "what follows is MIME. RFC 2045 §4",
        b"content-type" => "what the body is. RFC 2045 §5",
        b"content-transfer-encoding" => {
            "how the body became lines of ASCII. RFC 2045 §6, KR 2.3.1"
        }
        b"content-disposition" => "to be shown or to be kept. RFC 2183",
        b"received" => "a server's stamp on the way. RFC 5321 §4.4",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_digit_by_digit() {
        let text = reply(b"250-2.1.0 ok");
        assert!(text.starts_with("2: done; 5: about mail; the hyphen"));
        assert!(text.contains("RFC 3463"));
        assert!(!reply(b"250 2.x.0").contains("3463"));
        assert!(reply(b"354 go").starts_with("3: go on"));
    }
}
