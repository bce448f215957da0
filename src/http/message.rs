//! The head of an HTTP/1.1 message, parsed by hand: start line and fields.
//!
//! ```text
//! GET /somedir/page.html HTTP/1.1      request-line   RFC 9112 §3
//! Host: www.someschool.edu             field lines    RFC 9112 §5
//! Connection: close
//!                                      an empty line ends the head
//! ```
//!
//! `Request::parse` is strict, since what two parsers read differently is a
//! way in for smugglers; `Response::parse` takes from a server what RFC 9112
//! lets a client take. Neither copies: everything found is a slice of the
//! bytes given.

use super::bad::Bad;

/// "It is RECOMMENDED that all HTTP senders and recipients support, at a
/// minimum, request-line lengths of 8000 octets." RFC 9112 §3
pub const MAX_REQUEST_LINE: usize = 8_000;
/// Start line and fields together. Spans below count in 16 bits.
pub const MAX_HEAD: usize = 32 * 1024;
pub const MAX_FIELDS: usize = 100;

/// The protocol version: of HTTP/1.x only the step from 0 to 1 matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// A request's head.
#[derive(Debug)]
pub struct Request<'a> {
    /// Case matters: `get` is not GET. RFC 9110 §9.1
    pub method: &'a str,
    pub target: Target<'a>,
    pub version: Version,
    pub fields: Fields<'a>,
}

/// The four forms of a request target. RFC 9112 §3.2
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// `/path?query`: to the server itself.
    Origin(&'a str),
    /// `http://authority/path?query`: to a proxy, but servers take it too.
    Absolute { scheme: &'a str, authority: &'a str, path: &'a str },
    /// `host:port`: CONNECT.
    Authority(&'a str),
    /// `*`: OPTIONS for the server as a whole.
    Asterisk,
}

/// A response's head.
#[derive(Debug)]
pub struct Response<'a> {
    pub version: Version,
    pub status: u16,
    pub fields: Fields<'a>,
}

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

/// The length of the head at the start of `bytes`, the empty line included;
/// `None` while it is incomplete.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|b| *b == b'\n') {
        let next = from + at + 1;
        match bytes.get(next..) {
            Some([b'\n', ..]) => return Some(next + 1),
            Some([b'\r', b'\n', ..]) => return Some(next + 2),
            _ => from = next,
        }
    }
    None
}

impl<'a> Request<'a> {
    /// Parses a whole head, as measured by `head_length`.
    pub fn parse(
        head: &'a [u8],
        spans: &'a mut Vec<Span>,
    ) -> Result<Request<'a>, Bad> {
        // "a server that is expecting to receive and parse a request-line
        // SHOULD ignore at least one empty line (CRLF) received prior to the
        // request-line" RFC 9112 §2.2: the reader of heads has done it.
        let (line, rest) = strict_line(head)?;
        if line.len() > MAX_REQUEST_LINE {
            return Err(Bad::RequestLineTooLong);
        }
        let line = std::str::from_utf8(line).map_err(|_| Bad::Target)?;
        let mut words = line.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Bad::RequestLine);
        };
        if !is_token(method.as_bytes()) {
            return Err(Bad::Method);
        }
        let version = Version::parse(version.as_bytes())?;
        let target = Target::parse(method, target)?;
        let start = head.len() - rest.len();
        let fields = Fields::parse(head, start, true, spans)?;
        check_host(version, &fields)?;
        Ok(Request { method, target, version, fields })
    }
}

/// "A server MUST respond with a 400 (Bad Request) status code to any
/// HTTP/1.1 request message that lacks a Host header field and to any
/// request message that contains more than one Host header field line or a
/// Host header field with an invalid field value." RFC 9112 §3.2
fn check_host(version: Version, fields: &Fields) -> Result<(), Bad> {
    let mut hosts = fields.all("host");
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::Http11 => Err(Bad::HostMissing),
        (None, _) => Ok(()),
        (Some(_), Some(_)) => Err(Bad::HostRepeated),
        (Some(host), None) if is_host_and_port(host) => Ok(()),
        (Some(_), None) => Err(Bad::Host),
    }
}

impl<'a> Target<'a> {
    fn parse(method: &str, target: &'a str) -> Result<Target<'a>, Bad> {
        let legal = |b: &u8| matches!(b, 0x21..=0x7e) && *b != b'#';
        if target.is_empty() || !target.as_bytes().iter().all(legal) {
            return Err(Bad::Target);
        }
        if method == "CONNECT" {
            let port = target.rsplit_once(':').map(|(_, port)| port);
            let good = is_host_and_port(target.as_bytes())
                && port.is_some_and(|p| p.parse::<u16>().is_ok());
            return match good {
                true => Ok(Target::Authority(target)),
                false => Err(Bad::TargetForm),
            };
        }
        if target.starts_with('/') {
            return Ok(Target::Origin(target));
        }
        if target == "*" && method == "OPTIONS" {
            return Ok(Target::Asterisk);
        }
        let Some((scheme, rest)) = target.split_once("://") else {
            return Err(Bad::TargetForm);
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let known = scheme.eq_ignore_ascii_case("http")
            || scheme.eq_ignore_ascii_case("https");
        if !known || authority.is_empty() {
            return Err(Bad::TargetForm);
        }
        if !is_host_and_port(authority.as_bytes()) {
            return Err(Bad::Host);
        }
        Ok(Target::Absolute { scheme, authority, path })
    }

    /// The path and query for a server to look up: never empty.
    pub fn path(&self) -> &'a str {
        match self {
            Target::Origin(path) => path,
            Target::Absolute { path, .. } if !path.is_empty() => path,
            _ => "/",
        }
    }
}

impl Version {
    fn parse(text: &[u8]) -> Result<Version, Bad> {
        match text {
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                match (major, minor) {
                    (b'1', b'0') => Ok(Version::Http10),
                    (b'1', _) => Ok(Version::Http11),
                    _ => Err(Bad::Version),
                }
            }
            _ => Err(Bad::VersionForm),
        }
    }
}

impl<'a> Response<'a> {
    /// Parses a whole head. Lines may end in LF alone, the reason phrase may
    /// be missing, folded lines are joined: `head` is changed for that.
    pub fn parse(
        head: &'a mut [u8],
        spans: &'a mut Vec<Span>,
    ) -> Result<Response<'a>, Bad> {
        unfold(head);
        let head: &[u8] = head;
        let end = head.iter().position(|b| *b == b'\n');
        let end = end.ok_or(Bad::StatusLine)?;
        let line = head[..end].strip_suffix(b"\r").unwrap_or(&head[..end]);
        // version SP 3DIGIT [ SP [ reason-phrase ] ]
        let (Some(version), Some(rest)) = (line.get(..8), line.get(8..)) else {
            return Err(Bad::StatusLine);
        };
        let version = Version::parse(version).map_err(|_| Bad::StatusLine)?;
        let status = match rest {
            [b' ', a @ b'1'..=b'9', b, c]
            | [b' ', a @ b'1'..=b'9', b, c, b' ', ..]
                if b.is_ascii_digit() && c.is_ascii_digit() =>
            {
                [a, b, c].iter().fold(0, |n, d| n * 10 + u16::from(**d - b'0'))
            }
            _ => return Err(Bad::StatusLine),
        };
        if !is_field_value(&rest[4..]) {
            return Err(Bad::StatusLine);
        }
        let fields = Fields::parse(head, end + 1, false, spans)?;
        Ok(Response { version, status, fields })
    }
}

/// "A user agent that receives an obs-fold in a response message [...] MUST
/// replace each received obs-fold with one or more SP octets prior to
/// interpreting the field value." RFC 9112 §5.2
fn unfold(head: &mut [u8]) {
    for i in 0..head.len().saturating_sub(1) {
        if head[i] == b'\n' && matches!(head[i + 1], b' ' | b'\t') {
            head[i] = b' ';
            if i > 0 && head[i - 1] == b'\r' {
                head[i - 1] = b' ';
            }
        }
    }
}

impl<'a> Fields<'a> {
    /// The field lines of a head from `start` to its empty line.
    fn parse(
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
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let head = self.head;
        let part = move |(from, to): (u16, u16)| {
            &head[usize::from(from)..usize::from(to)]
        };
        self.spans.iter().map(move |span| (part(span.name), part(span.value)))
    }

    /// The values of a field, a line each. Case does not matter in names.
    pub fn all(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
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
    pub fn list(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
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

/// The first line without its CRLF, and what follows.
fn strict_line(bytes: &[u8]) -> Result<(&[u8], &[u8]), Bad> {
    let end = bytes.iter().position(|b| *b == b'\n');
    let end = end.ok_or(Bad::RequestLine)?;
    let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
    let line = line.strip_suffix(b"\r").ok_or(Bad::BareLineFeed)?;
    match line.contains(&b'\r') {
        true => Err(Bad::BareCarriageReturn),
        false => Ok((line, rest)),
    }
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

/// `uri-host [ ":" port ]`; an empty one is the RFC's own exception for
/// targets without an authority. RFC 9110 §7.2, RFC 3986 §3.2.2
pub fn is_host_and_port(text: &[u8]) -> bool {
    let literal_end = match text.first() {
        Some(b'[') => text.iter().position(|b| *b == b']').unwrap_or(0),
        _ => 0,
    };
    let colon = text[literal_end..].iter().position(|b| *b == b':');
    let (host, port) = match colon {
        Some(at) => text.split_at(literal_end + at),
        None => (text, &b":"[..]),
    };
    let reg_name =
        |b: &u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(b);
    let good_host = match host.strip_prefix(b"[") {
        Some(rest) => rest
            .strip_suffix(b"]")
            .and_then(|literal| std::str::from_utf8(literal).ok())
            .is_some_and(|l| l.parse::<std::net::Ipv6Addr>().is_ok()),
        None => host.iter().all(reg_name),
    };
    let digits = &port[1..];
    good_host && digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit)
}
