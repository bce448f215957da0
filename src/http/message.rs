//! The head of an HTTP/1.1 message, parsed by hand: start line and fields.
//!
//! ```text
//! GET /somedir/page.html HTTP/1.1      request-line   RFC 9112 §3
//! Host: www.someschool.edu             field lines    RFC 9112 §5
//! Connection: close
//!                                      an empty line ends the head
//! ```
//!
//! The fields have a file of their own, `fields.rs`.
//! `Request::parse` is strict, since what two parsers read differently is a
//! way in for smugglers; `Response::parse` takes from a server what RFC 9112
//! lets a client take. Neither copies: everything found is a slice of the
//! bytes given.

use super::bad::Bad;
use super::fields::{Fields, Span, is_field_value, is_token};

/// "It is RECOMMENDED that all HTTP senders and recipients support, at a
/// minimum, request-line lengths of 8000 octets." RFC 9112 §3
pub const MAX_REQUEST_LINE: usize = 8_000;

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

#[cfg(test)]
pub mod tests {
    use super::super::body::{Framing, keeps_open};
    use super::*;

    /// The request of KR 2.2.3.
    pub const SOMEDIR: &str = "GET /somedir/page.html HTTP/1.1\r\n\
        Host: www.someschool.edu\r\n\
        Connection: close\r\n\
        User-agent: Mozilla/5.0\r\n\
        Accept-language: fr\r\n\r\n";

    /// The conditional GET of KR 2.2.5.
    pub const KIWI: &str = "GET /fruit/kiwi.gif HTTP/1.1\r\n\
        Host: www.exotiquecuisine.com\r\n\
        If-modified-since: Wed, 9 Sep 2015 09:23:24 GMT\r\n\r\n";

    /// The response of KR 2.2.3.
    pub const RESPONSE: &str = "HTTP/1.1 200 OK\r\n\
        Connection: close\r\n\
        Date: Tue, 18 Aug 2015 15:44:04 GMT\r\n\
        Server: Apache/2.2.3 (CentOS)\r\n\
        Last-Modified: Tue, 18 Aug 2015 15:11:03 GMT\r\n\
        Content-Length: 6821\r\n\
        Content-Type: text/html\r\n\r\n";

    pub fn request<T>(
        head: &str,
        test: impl Fn(&Request) -> T,
    ) -> Result<T, Bad> {
        Request::parse(head.as_bytes(), &mut Vec::new()).map(|r| test(&r))
    }

    pub fn response<T>(
        head: &str,
        test: impl Fn(&Response) -> T,
    ) -> Result<T, Bad> {
        let mut head = head.as_bytes().to_vec();
        Response::parse(&mut head, &mut Vec::new()).map(|r| test(&r))
    }

    pub fn line_fault(line: &str) -> Option<Bad> {
        request(&format!("{line}\r\nHost: h\r\n\r\n"), |_| ()).err()
    }

    /// A small generator of numbers, so that a run can be repeated.
    pub struct Random(pub u64);

    impl Random {
        pub fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % bound as u64) as usize
        }

        /// Changes, removes, doubles or inserts a few bytes.
        pub fn mutate(&mut self, bytes: &mut Vec<u8>) {
            const SPICE: &[u8] = b"\r\n\0 \t:;,-0aF\x7f\xff\"";
            for _ in 0..=self.below(4) {
                let at = self.below(bytes.len().max(1));
                let spice = SPICE[self.below(SPICE.len())];
                match self.below(4) {
                    0 if at < bytes.len() => bytes[at] = spice,
                    1 if at < bytes.len() => drop(bytes.remove(at)),
                    2 => bytes.truncate(at),
                    _ => bytes.insert(at.min(bytes.len()), spice),
                }
            }
        }
    }

    #[test]
    fn the_request_of_kr_2_2_3() {
        request(SOMEDIR, |r| {
            assert_eq!(r.method, "GET");
            assert_eq!(r.target, Target::Origin("/somedir/page.html"));
            assert_eq!(r.version, Version::Http11);
            assert_eq!(r.fields.text("host"), Some("www.someschool.edu"));
            assert_eq!(r.fields.text("ACCEPT-LANGUAGE"), Some("fr"));
            assert!(!keeps_open(r.version, &r.fields));
            assert_eq!(Framing::of_request(r), Ok(Framing::Empty));
        })
        .unwrap();
        assert_eq!(head_length(SOMEDIR.as_bytes()), Some(SOMEDIR.len()));
        assert_eq!(head_length(&SOMEDIR.as_bytes()[..SOMEDIR.len() - 1]), None);
    }

    #[test]
    fn the_conditional_get_of_kr_2_2_5() {
        request(KIWI, |r| {
            assert_eq!(r.target.path(), "/fruit/kiwi.gif");
            assert!(r.fields.get("if-modified-since").is_some());
            assert!(keeps_open(r.version, &r.fields));
        })
        .unwrap();
    }

    #[test]
    fn the_response_of_kr_2_2_3() {
        response(RESPONSE, |r| {
            assert_eq!(r.status, 200);
            assert_eq!(r.fields.text("server"), Some("Apache/2.2.3 (CentOS)"));
            let framing = Framing::of_response("GET", r);
            assert_eq!(framing, Ok(Framing::Length(6821)));
        })
        .unwrap();
    }

    #[test]
    fn a_request_line_has_three_parts_rfc_9112_3() {
        for line in ["GET /", "GET  / HTTP/1.1", "GET / HTTP/1.1 ", "", "GET"] {
            assert_eq!(line_fault(line), Some(Bad::RequestLine), "{line}");
        }
    }

    #[test]
    fn a_method_is_a_token_and_case_matters_rfc_9110_9_1() {
        assert_eq!(line_fault("G(T / HTTP/1.1"), Some(Bad::Method));
        assert_eq!(line_fault("G\tT / HTTP/1.1"), Some(Bad::Method));
        let head = "get / HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(request(head, |r| r.method.to_string()).unwrap(), "get");
    }

    #[test]
    fn a_target_is_visible_ascii_rfc_9112_3_2() {
        for line in
            ["GET /\x07 HTTP/1.1", "GET /é HTTP/1.1", "GET /a#b HTTP/1.1"]
        {
            assert_eq!(line_fault(line), Some(Bad::Target), "{line}");
        }
        let head = b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n";
        let bad = Request::parse(head, &mut Vec::new()).unwrap_err();
        assert_eq!(bad, Bad::Target);
    }

    #[test]
    fn the_four_forms_of_a_target_rfc_9112_3_2() {
        let target = |line: &str| {
            let head = format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n");
            request(&head, |r| format!("{:?}", r.target))
        };
        assert!(target("GET /a?b").unwrap().starts_with("Origin(\"/a?b\""));
        assert!(target("GET http://h:80/a").unwrap().contains("path: \"/a\""));
        assert!(target("GET HTTP://h").unwrap().starts_with("Absolute"));
        assert_eq!(target("OPTIONS *").unwrap(), "Asterisk");
        assert_eq!(target("CONNECT h:443").unwrap(), "Authority(\"h:443\")");
        assert!(target("CONNECT [::1]:443").is_ok());
        for line in [
            "GET *",
            "GET h:443",
            "CONNECT /",
            "CONNECT h",
            "CONNECT h:x",
            "CONNECT h:99999",
            "GET a",
            "GET ftp://h/",
            "GET http:///a",
            "CONNECT http://h/",
        ] {
            assert_eq!(target(line), Err(Bad::TargetForm), "{line}");
        }
        assert_eq!(target("GET http://u@h/"), Err(Bad::Host));
    }

    #[test]
    fn versions_rfc_9112_2_3() {
        let version = |v: &str| {
            let head = format!("GET / {v}\r\nHost: h\r\n\r\n");
            request(&head, |r| r.version)
        };
        assert_eq!(version("HTTP/1.0"), Ok(Version::Http10));
        assert_eq!(version("HTTP/1.1"), Ok(Version::Http11));
        assert_eq!(version("HTTP/1.9"), Ok(Version::Http11));
        assert_eq!(version("HTTP/2.0"), Err(Bad::Version));
        assert_eq!(version("HTTP/0.9"), Err(Bad::Version));
        for form in ["http/1.1", "HTTP/1", "HTTP/1.10", "HTTP/a.b", "HTTPS/1.1"]
        {
            assert_eq!(version(form), Err(Bad::VersionForm), "{form}");
        }
    }

    #[test]
    fn lines_end_in_crlf_rfc_9112_2_2() {
        for head in [
            "GET / HTTP/1.1\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\n",
        ] {
            assert_eq!(request(head, |_| ()), Err(Bad::BareLineFeed));
        }
        for head in [
            "GET /\r HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\r\n\r\n",
        ] {
            assert_eq!(request(head, |_| ()), Err(Bad::BareCarriageReturn));
        }
    }

    #[test]
    fn one_valid_host_rfc_9112_3_2() {
        let host = |fields: &str| {
            let head = format!("GET / HTTP/1.1\r\n{fields}\r\n");
            request(&head, |_| ()).err()
        };
        assert_eq!(host(""), Some(Bad::HostMissing));
        assert_eq!(host("Host: a\r\nHost: a\r\n"), Some(Bad::HostRepeated));
        for bad in
            ["a b", "a/b", "u@a", "a:b", "[::1", "[x]:80", "a:999999", "a,b"]
        {
            let expected = if bad == "a,b" { None } else { Some(Bad::Host) };
            assert_eq!(host(&format!("Host: {bad}\r\n")), expected, "{bad}");
        }
        for good in ["", "a", "a:80", "127.0.0.1:1", "[::1]", "[::1]:80", "a:"]
        {
            assert_eq!(host(&format!("Host: {good}\r\n")), None, "{good}");
        }
        assert!(request("GET / HTTP/1.0\r\n\r\n", |_| ()).is_ok());
    }

    #[test]
    fn responses_are_taken_as_servers_send_them() {
        let status = |head: &str| response(head, |r| r.status);
        assert_eq!(status("HTTP/1.1 200\r\n\r\n"), Ok(200));
        assert_eq!(status("HTTP/1.1 999 \r\n\r\n"), Ok(999));
        assert_eq!(status("HTTP/1.0 404 Not Found\nX: y\n\n"), Ok(404));
        let folded = "HTTP/1.1 200 OK\r\nX: a\r\n  b\r\nY : c\r\n\r\n";
        response(folded, |r| {
            assert_eq!(r.fields.text("x"), Some("a    b"));
            assert_eq!(r.fields.text("y"), Some("c"));
        })
        .unwrap();
        for bad in [
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2000\r\n\r\n",
            "HTTP/1.1 099 x\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "HTTP/1.1 200 O\0K\r\n\r\n",
            "\r\n\r\n",
            "<html>\n\n",
        ] {
            assert_eq!(status(bad), Err(Bad::StatusLine), "{bad:?}");
        }
        let nul = "HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n";
        assert_eq!(status(nul), Err(Bad::FieldValue));
    }

    #[test]
    fn mutated_requests_never_panic_and_what_is_taken_is_clean() {
        let mut random = Random(20_260_101);
        let mut taken = 0;
        for round in 0..60_000 {
            let seed = [SOMEDIR, KIWI][round % 2];
            let mut bytes = seed.as_bytes().to_vec();
            random.mutate(&mut bytes);
            let Some(length) = head_length(&bytes) else { continue };
            let mut spans = Vec::new();
            let Ok(request) = Request::parse(&bytes[..length], &mut spans)
            else {
                continue;
            };
            taken += 1;
            let _ = Framing::of_request(&request);
            for (name, value) in request.fields.iter() {
                let dirty = |b: &u8| matches!(b, b'\r' | b'\n' | 0);
                assert!(!name.is_empty() && !name.iter().any(dirty));
                assert!(!value.iter().any(dirty));
            }
        }
        assert!(taken > 1000, "only {taken}: the mutations are too wild");
    }
}
