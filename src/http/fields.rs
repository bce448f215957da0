//! The header fields of an HTTP/1.1 message: lines of name and value.
//! RFC 9112 §5
//!
//! ```text
//! field-line = field-name ":" OWS field-value OWS
//! ```
//!
//! Nothing is copied: `Fields` remembers where names and values stand in the
//! bytes that were received.

use super::bad::Bad;

/// Start line and fields together. Spans below count in 16 bits.
pub const MAX_HEAD: usize = 32 * 1024;
/// A hundred lines are more than any client sends.
pub const MAX_FIELDS: usize = 100;

/// The field lines of one head, in their order.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    head: &'a [u8],
    spans: &'a [Span],
}

/// Where one field stands in the head: name and value, each from and to.
/// Whoever parses lends a vector of them, to be used again and again.
#[derive(Clone, Copy)]
pub struct Span {
    name: (u16, u16),
    value: (u16, u16),
}

impl<'a> Fields<'a> {
    /// The field lines of a head from `start` to its empty line.
    pub fn parse(
        head: &'a [u8],
        start: usize,
        strict: bool,
        spans: &'a mut Vec<Span>,
    ) -> Result<Fields<'a>, Bad> {
        if head.len() > MAX_HEAD {
            return Err(Bad::HeadTooLong);
        }
        spans.clear();
        let mut at = start;
        loop {
            let rest = &head[at..];
            let length = match rest.iter().position(|b| *b == b'\n') {
                Some(0) if strict => return Err(Bad::BareLineFeed),
                Some(end) if end > 0 && rest[end - 1] == b'\r' => end - 1,
                Some(_) if strict => return Err(Bad::BareLineFeed),
                Some(end) => end,
                None => return Err(Bad::NoColon),
            };
            if length == 0 {
                return Ok(Fields { head, spans });
            }
            if spans.len() == MAX_FIELDS {
                return Err(Bad::TooManyFields);
            }
            spans.push(Span::parse(&rest[..length], at, strict)?);
            at += length + if rest[length] == b'\r' { 2 } else { 1 };
        }
    }

    /// All fields: name and value.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let head = self.head;
        let part = move |(from, to): (u16, u16)| {
            &head[usize::from(from)..usize::from(to)]
        };
        self.spans.iter().map(move |span| (part(span.name), part(span.value)))
    }

    /// The values of a field, a line each. Case does not matter in names.
    pub fn all(self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// The first value of a field.
    pub fn get(&self, name: &'static str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The first value as text, when it is text.
    pub fn text(&self, name: &'static str) -> Option<&'a str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// The members of a list field: "a, b" and two lines are the same.
    /// RFC 9110 §5.6.1
    pub fn list(self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name)
            .flat_map(|value| value.split(|b| *b == b','))
            .map(|member| member.trim_ascii())
            .filter(|member| !member.is_empty())
    }

    /// Is the word among the members of a list field?
    pub fn lists(&self, name: &'static str, word: &str) -> bool {
        self.list(name).any(|m| m.eq_ignore_ascii_case(word.as_bytes()))
    }
}

impl std::fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let text = |b: &[u8]| crate::output::printable(b);
        f.debug_map()
            .entries(self.iter().map(|(n, v)| (text(n), text(v))))
            .finish()
    }
}

impl Span {
    /// `field-name ":" OWS field-value OWS`, which begins at `at`.
    fn parse(line: &[u8], at: usize, strict: bool) -> Result<Span, Bad> {
        if matches!(line[0], b' ' | b'\t') {
            return Err(Bad::LineFolding);
        }
        let colon = line.iter().position(|b| *b == b':');
        let colon = colon.ok_or(Bad::NoColon)?;
        let mut name = &line[..colon];
        if matches!(name.last(), Some(b' ' | b'\t')) {
            // "A server MUST reject, with a response status code of 400 (Bad
            // Request), any received request message that contains
            // whitespace between a header field name and colon." RFC 9112
            // §5.1. From a response it is to be removed.
            if strict {
                return Err(Bad::SpaceBeforeColon);
            }
            name = name.trim_ascii_end();
        }
        if !is_token(name) {
            return Err(Bad::FieldName);
        }
        let raw = &line[colon + 1..];
        let value = raw.trim_ascii();
        if !is_field_value(raw) {
            return Err(match raw.contains(&b'\r') {
                true => Bad::BareCarriageReturn,
                false => Bad::FieldValue,
            });
        }
        let value_at =
            at + colon + 1 + (raw.len() - raw.trim_ascii_start().len());
        // a head is at most MAX_HEAD long: all of this fits in 16 bits
        let span =
            |from: usize, length: usize| (from as u16, (from + length) as u16);
        Ok(Span {
            name: span(at, name.len()),
            value: span(value_at.min(at + line.len()), value.len()),
        })
    }
}

/// Is this a field line, as in a trailer section?
pub fn check_line(line: &[u8]) -> Result<(), Bad> {
    Span::parse(line, 0, true).map(|_| ())
}

/// `1*tchar`. RFC 9110 §5.6.2
pub fn is_token(text: &[u8]) -> bool {
    let tchar =
        |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !text.is_empty() && text.iter().all(tchar)
}

/// VCHAR, obs-text, space and tab. RFC 9110 §5.5
pub fn is_field_value(text: &[u8]) -> bool {
    text.iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f))
}

#[cfg(test)]
mod tests {
    use super::super::body::Framing;
    use super::super::message::tests::{line_fault, request};
    use super::*;

    /// The rule that a request with these field lines breaks.
    fn fault(fields: &str) -> Option<Bad> {
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        match request(&head, Framing::of_request) {
            Err(bad) | Ok(Err(bad)) => Some(bad),
            Ok(Ok(_)) => None,
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let long = format!("GET /{} HTTP/1.1", "a".repeat(8_000));
        assert_eq!(line_fault(&long), Some(Bad::RequestLineTooLong));
        let long = format!("GET /{} HTTP/1.1", "a".repeat(7_900));
        assert_eq!(line_fault(&long), None);
        assert_eq!(fault(&"X: y\r\n".repeat(100)), Some(Bad::TooManyFields));
        assert_eq!(fault(&"X: y\r\n".repeat(99)), None);
        let long = format!("X: {}\r\n", "y".repeat(MAX_HEAD));
        assert_eq!(fault(&long), Some(Bad::HeadTooLong));
    }

    #[test]
    fn field_lines_rfc_9112_5() {
        assert_eq!(fault("X\r\n"), Some(Bad::NoColon));
        assert_eq!(fault(": y\r\n"), Some(Bad::FieldName));
        assert_eq!(fault("X y: z\r\n"), Some(Bad::FieldName));
        assert_eq!(fault("X\0: z\r\n"), Some(Bad::FieldName));
        assert_eq!(fault("X : y\r\n"), Some(Bad::SpaceBeforeColon));
        assert_eq!(fault("X\t: y\r\n"), Some(Bad::SpaceBeforeColon));
        assert_eq!(fault("X: y\r\n z\r\n"), Some(Bad::LineFolding));
        assert_eq!(fault("X: y\r\n\tz: a\r\n"), Some(Bad::LineFolding));
        assert_eq!(fault("X: a\0b\r\n"), Some(Bad::FieldValue));
        assert_eq!(fault("X: a\x0bb\r\n"), Some(Bad::FieldValue));
        assert_eq!(fault("X: a\x7fb\r\n"), Some(Bad::FieldValue));
        assert_eq!(
            fault("X:\r\nY: \t \r\nZ:a\tb\r\nÄ: b\r\n"),
            Some(Bad::FieldName)
        );
        assert_eq!(fault("X:\r\nY: \t \r\nZ:a\tb ü\r\n"), None);
        let head = "GET / HTTP/1.1\r\nHost:  h \t\r\nX:\r\n\r\n";
        request(head, |r| {
            assert_eq!(r.fields.text("host"), Some("h"));
            assert_eq!(r.fields.text("x"), Some(""));
        })
        .unwrap();
    }
}
