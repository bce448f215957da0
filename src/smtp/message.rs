//! The message: a header, an empty line, a body. RFC 5322; with MIME's
//! parts, RFC 2045 and 2046; KR 2.3.2
//!
//! A `Message` is a list of pieces that can be written again and again: to
//! one server after the other, and into `dead.letter`. Attachments stay in
//! their files until then, so memory stays flat.

use std::io::{self, Write};

use super::address::Mailbox;
use super::content::{Attachment, Content, PIECE, RawFile};
use super::text;
use crate::error::{Doing, Error};
use crate::http::{date, media_type};
use crate::output::{printable, say};
use crate::trace::Trace;

/// Lines whose coding `-e` shows.
const MAX_SHOWN: usize = 20;

/// What the user wants to say.
pub struct Draft {
    pub from: Mailbox,
    pub to: Vec<Mailbox>,
    pub cc: Vec<Mailbox>,
    pub subject: String,
    pub text: String,
    pub attachments: Vec<Attachment>,
}

enum Piece {
    Bytes(Vec<u8>),
    /// To be coded in base64 as it is read.
    Coded(Content),
    /// A message as it is, from this octet on; its lines get CRLF.
    Raw(Content, u64),
}

/// A message, ready to be sent any number of times.
pub struct Message {
    pieces: Vec<Piece>,
    /// In octets, with CRLF, before dot-stuffing. RFC 1870 §5
    pub size: u64,
    /// There are octets over 127 in it: 8BITMIME is needed. RFC 6152
    pub eight_bit: bool,
    /// There are some in its header: SMTPUTF8 is, too. RFC 6532
    pub utf8_header: bool,
}

impl Draft {
    /// Makes the message. `-e` shows what had to be coded, and why.
    pub fn compose(self, trace: &Trace) -> Result<Message, Error> {
        let body = text::encode_body(&self.text);
        explain_coding(trace, &self.text, &body);
        let mut head = self.header(trace)?;
        let text_part = format!(
            "Content-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: {}\r\n\r\n",
            body.encoding
        );
        let mut pieces = Vec::new();
        if self.attachments.is_empty() {
            head.push_str(&text_part);
            pieces.push(Piece::Bytes([head.into_bytes(), body.bytes].concat()));
            return Ok(Message::of(pieces));
        }
        // "=_" occurs in neither coding. RFC 2045 §6.7
        let boundary = format!("=_{}", random_hex()?);
        head.push_str(&format!(
            "Content-Type: multipart/mixed;\r\n boundary=\"{boundary}\"\r\n\r\n\
             This is a message in several parts (RFC 2046).\r\n\r\n\
             --{boundary}\r\n{text_part}",
        ));
        pieces.push(Piece::Bytes([head.into_bytes(), body.bytes].concat()));
        for attachment in self.attachments {
            let name = &attachment.name;
            let known = media_type::of(name.as_bytes());
            let media_type = known.split(';').next().unwrap_or(known);
            let mut words = vec!["attachment;".to_string()];
            words.extend(text::parameter("filename", name));
            let last = words.len() - 1;
            words[1..last].iter_mut().for_each(|word| word.push(';'));
            let disposition = text::fold("Content-Disposition", &words);
            explain_header(trace, name, &words[1..].join(" "));
            let part = format!(
                "\r\n--{boundary}\r\nContent-Type: {media_type}\r\n\
                 {disposition}Content-Transfer-Encoding: base64\r\n\r\n"
            );
            trace.why(|| {
                let size = attachment.content.size();
                format!(
                    "{}: {size} octets become {} in base64, since mail \
                     carries lines of 7-bit ASCII. RFC 2045 §6.8, KR 2.3.1",
                    printable(name),
                    text::base64_length(size)
                )
            });
            pieces.push(Piece::Bytes(part.into_bytes()));
            pieces.push(Piece::Coded(attachment.content));
        }
        let end = format!("\r\n--{boundary}--\r\n");
        pieces.push(Piece::Bytes(end.into_bytes()));
        Ok(Message::of(pieces))
    }

    fn header(&self, trace: &Trace) -> Result<String, Error> {
        let mut head = format!("Date: {}\r\n", local_date(date::now()));
        let from = std::slice::from_ref(&self.from);
        for mailbox in from.iter().chain(&self.to).chain(&self.cc) {
            let coded = text::phrase(&mailbox.name).join(" ");
            explain_header(trace, &mailbox.name, &coded);
        }
        head.push_str(&mailboxes("From", from));
        match self.to.is_empty() && self.cc.is_empty() {
            // "Bcc" is in the envelope only, and this says so: RFC 5322 §3.4
            true => head.push_str("To: undisclosed-recipients:;\r\n"),
            false => head.push_str(&mailboxes("To", &self.to)),
        }
        head.push_str(&mailboxes("Cc", &self.cc));
        let subject = text::unstructured("Subject", &self.subject);
        let coded = subject.trim_start_matches("Subject: ").trim_end();
        explain_header(trace, &self.subject, coded);
        if !self.subject.is_empty() {
            head.push_str(&subject);
        }
        let domain = match self.from.address.domain.as_str() {
            "" => "localhost",
            domain => domain,
        };
        let id = random_hex()?;
        head.push_str(&format!("Message-ID: <{id}@{domain}>\r\n"));
        head.push_str("MIME-Version: 1.0\r\n");
        Ok(head)
    }
}

/// A field of addresses; nothing where there are none. RFC 5322 §3.6.2
fn mailboxes(name: &str, all: &[Mailbox]) -> String {
    let mut words = Vec::new();
    for (i, mailbox) in all.iter().enumerate() {
        let comma = if i + 1 < all.len() { "," } else { "" };
        let address = &mailbox.address;
        match mailbox.name.as_str() {
            "" => words.push(format!("{address}{comma}")),
            name => {
                words.extend(text::phrase(name));
                words.push(format!("<{address}>{comma}"));
            }
        }
    }
    match words.is_empty() {
        true => String::new(),
        false => text::fold(name, &words),
    }
}

fn random_hex() -> Result<String, Error> {
    let number = getrandom::u64().map_err(|e| io::Error::other(e.to_string()));
    let number = number.doing(|| "get random numbers")?;
    Ok(format!("{:x}.{number:016x}", date::now()))
}

/// `Sat, 21 Nov 2026 16:30:00 +0100`: "The date and time-of-day SHOULD
/// express local time." RFC 5322 §3.3
pub fn local_date(seconds: i64) -> String {
    let time = seconds as libc::time_t;
    // SAFETY: all zeros is a valid tm, which the call fills in.
    let offset = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        libc::localtime_r(&time, &mut tm);
        tm.tm_gmtoff / 60
    };
    let sign = if offset < 0 { '-' } else { '+' };
    let (hours, minutes) = (offset.abs() / 60, offset.abs() % 60);
    let zone = format!("{sign}{hours:02}{minutes:02}");
    date::format(seconds + offset * 60).replace("GMT", &zone)
}

/// What is not ASCII in a header, before and after.
fn explain_header(trace: &Trace, text: &str, coded: &str) {
    if !text.is_ascii() {
        trace.why(|| {
            format!(
                "'{text}', {} octets in UTF-8, becomes '{coded}', {}: headers \
                 are 7-bit ASCII. RFC 2047, RFC 2231, KR 2.3.1",
                text.len(),
                coded.len()
            )
        });
    }
}

fn explain_coding(trace: &Trace, text: &str, body: &text::Encoded) {
    trace.why(|| {
        format!(
            "the text's {} octets become {} as {}{}. RFC 2045 §6",
            text.len(),
            body.bytes.len(),
            body.encoding,
            match body.encoding {
                "base64" => ": every 57 are a line of 76 characters",
                "7bit" => ", as they are: a line ends with CRLF now",
                _ => "",
            }
        )
    });
    if body.encoding != "quoted-printable" {
        return;
    }
    let odd = text::lines(text).filter(|line| !line.is_ascii());
    for line in odd.take(MAX_SHOWN) {
        trace.why(|| {
            let mut coded = Vec::new();
            text::quoted_printable(line.as_bytes(), &mut coded);
            let count = coded.len() - 2;
            format!(
                "'{}', {} octets, becomes '{}', {count}. RFC 2045 §6.7",
                printable(line),
                line.len(),
                printable(&coded[..count]),
            )
        });
    }
}

impl Message {
    fn of(pieces: Vec<Piece>) -> Message {
        let size = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Coded(content) => text::base64_length(content.size()),
            Piece::Raw(..) => 0,
        };
        let size = pieces.iter().map(size).sum();
        // only SMTPUTF8's addresses may be there uncoded
        let eight_bit = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => !bytes.is_ascii(),
            _ => false,
        };
        let eight_bit = pieces.iter().any(eight_bit);
        Message { pieces, size, eight_bit, utf8_header: eight_bit }
    }

    /// A message that is complete already, in a file or (`-`) on standard
    /// input, from the octet `start` on.
    pub fn raw(raw: RawFile, start: u64) -> Result<Message, Error> {
        let mut message = Message::of(vec![Piece::Raw(raw.0, start)]);
        let mut measure = Measure::default();
        message.write_to(&mut measure).doing(|| "read the message")?;
        if measure.longest_line > text::MAX_LINE {
            say(format!(
                "topdown mail-client: a line of {} octets in the message: \
                 998 are the most (RFC 5322 §2.1.1)",
                measure.longest_line
            ));
        }
        message.size = measure.size;
        message.eight_bit = measure.eight_bit;
        message.utf8_header = measure.utf8_header;
        Ok(message)
    }

    /// Writes the message, every line with CRLF.
    pub fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(bytes) => out.write_all(bytes)?,
                Piece::Coded(content) => {
                    let mut coded = Vec::with_capacity(PIECE * 3 / 2);
                    content.each_piece(0, |bytes| {
                        coded.clear();
                        text::base64_lines(bytes, &mut coded);
                        out.write_all(&coded)
                    })?;
                }
                Piece::Raw(content, start) => raw(content, *start, out)?,
            }
        }
        Ok(())
    }
}

/// LF and CRLF become CRLF; a CR alone is no end of a line and may not be
/// sent: RFC 5321 §2.3.8.
fn raw(content: &Content, start: u64, out: &mut dyn Write) -> io::Result<()> {
    let bare = || io::Error::other("a bare CR in the message");
    let mut lines = Vec::new();
    let mut last = None;
    content.each_piece(start, |bytes| {
        lines.clear();
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            let first = line.first().copied().unwrap_or_default();
            if last == Some(b'\r') && first != b'\n' {
                return Err(bare());
            }
            let (text, ends) = match line.strip_suffix(b"\n") {
                Some(text) => (text.strip_suffix(b"\r").unwrap_or(text), true),
                // (its CR may belong to an LF in the next piece)
                None => (line.strip_suffix(b"\r").unwrap_or(line), false),
            };
            if text.contains(&b'\r') {
                return Err(bare());
            }
            lines.extend_from_slice(text);
            if ends {
                lines.extend_from_slice(b"\r\n");
            }
            last = line.last().copied();
        }
        out.write_all(&lines)
    })?;
    match last {
        Some(b'\n') | None => Ok(()),
        Some(b'\r') => Err(bare()),
        Some(_) => out.write_all(b"\r\n"),
    }
}

/// Takes a message's measure.
#[derive(Default)]
struct Measure {
    size: u64,
    eight_bit: bool,
    utf8_header: bool,
    header_ended: bool,
    column: usize,
    longest_line: usize,
}

impl Write for Measure {
    /// The lines end in CRLF.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.size += bytes.len() as u64;
        self.eight_bit |= !bytes.is_ascii();
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            let ends = line.ends_with(b"\n");
            self.column += line.len() - 2 * usize::from(ends);
            self.utf8_header |= !self.header_ended && !line.is_ascii();
            self.longest_line = self.longest_line.max(self.column);
            if ends {
                self.header_ended |= self.column == 0;
                self.column = 0;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(message: &Message) -> String {
        let mut bytes = Vec::new();
        message.write_to(&mut bytes).expect("memory");
        assert_eq!(bytes.len() as u64, message.size);
        String::from_utf8(bytes).expect("UTF-8")
    }

    fn draft() -> Draft {
        let mailbox = |text| Mailbox::parse(text).expect("good");
        Draft {
            from: mailbox("Alice <alice@crepes.fr>"),
            to: vec![mailbox("bob@hamburger.edu"), mailbox("Ü <u@x>")],
            cc: Vec::new(),
            subject: "Searching for the meaning of life.".into(),
            text: "Do you like ketchup?\n".into(),
            attachments: Vec::new(),
        }
    }

    #[test]
    fn a_plain_message() {
        let text = written(&draft().compose(&Trace::default()).unwrap());
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("From: Alice <alice@crepes.fr>\r\n"));
        assert!(
            head.contains("To: bob@hamburger.edu, =?utf-8?B?w5w=?= <u@x>\r\n")
        );
        assert!(head.contains("\r\nMIME-Version: 1.0\r\n"));
        assert!(!head.contains("Cc:"));
        assert_eq!(body, "Do you like ketchup?\r\n");
    }

    #[test]
    fn attachments_are_parts() {
        let mut draft = draft();
        draft.attachments.push(Attachment {
            name: "kiwi.gif".into(),
            content: Content::Memory(vec![0; 100]),
        });
        let text = written(&draft.compose(&Trace::default()).unwrap());
        assert!(text.contains("Content-Type: image/gif\r\n"));
        assert!(text.contains("attachment; filename=kiwi.gif\r\n"));
        let coded = format!("\r\n\r\n{}\r\nAAAA", "A".repeat(76));
        assert!(text.contains(&coded));
        assert!(text.ends_with("--\r\n"));
    }

    #[test]
    fn a_raw_message_gets_its_line_ends() {
        let of = |text: &str| {
            let content = Content::Memory(text.as_bytes().to_vec());
            Message::raw(RawFile(content), 0).map(|m| written(&m))
        };
        assert_eq!(of("a\nb\r\nc").unwrap(), "a\r\nb\r\nc\r\n");
        assert_eq!(of("").unwrap(), "");
        assert!(of("a\rb\n").is_err() && of("a\r").is_err());
    }
}
