//! The parser and the bodies: known bytes, one test for each rule that a
//! message can break, and mutations of both.

use std::io::Read;

use super::bad::Bad;
use super::body::{Body, Framing, keeps_open};
use super::message::{
    MAX_HEAD, Request, Response, Target, Version, head_length,
};

/// The request of KR 2.2.3.
const SOMEDIR: &str = "GET /somedir/page.html HTTP/1.1\r\n\
    Host: www.someschool.edu\r\n\
    Connection: close\r\n\
    User-agent: Mozilla/5.0\r\n\
    Accept-language: fr\r\n\r\n";

/// The conditional GET of KR 2.2.5.
const KIWI: &str = "GET /fruit/kiwi.gif HTTP/1.1\r\n\
    Host: www.exotiquecuisine.com\r\n\
    If-modified-since: Wed, 9 Sep 2015 09:23:24 GMT\r\n\r\n";

/// The response of KR 2.2.3.
const RESPONSE: &str = "HTTP/1.1 200 OK\r\n\
    Connection: close\r\n\
    Date: Tue, 18 Aug 2015 15:44:04 GMT\r\n\
    Server: Apache/2.2.3 (CentOS)\r\n\
    Last-Modified: Tue, 18 Aug 2015 15:11:03 GMT\r\n\
    Content-Length: 6821\r\n\
    Content-Type: text/html\r\n\r\n";

fn request<T>(head: &str, test: impl Fn(&Request) -> T) -> Result<T, Bad> {
    Request::parse(head.as_bytes(), &mut Vec::new()).map(|r| test(&r))
}

fn response<T>(head: &str, test: impl Fn(&Response) -> T) -> Result<T, Bad> {
    let mut head = head.as_bytes().to_vec();
    Response::parse(&mut head, &mut Vec::new()).map(|r| test(&r))
}

/// The rule that a request with these field lines breaks.
fn fault(fields: &str) -> Option<Bad> {
    let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    match request(&head, Framing::of_request) {
        Err(bad) | Ok(Err(bad)) => Some(bad),
        Ok(Ok(_)) => None,
    }
}

fn line_fault(line: &str) -> Option<Bad> {
    request(&format!("{line}\r\nHost: h\r\n\r\n"), |_| ()).err()
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
    for line in ["GET /\x07 HTTP/1.1", "GET /é HTTP/1.1", "GET /a#b HTTP/1.1"]
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
    for form in ["http/1.1", "HTTP/1", "HTTP/1.10", "HTTP/a.b", "HTTPS/1.1"] {
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

#[test]
fn one_valid_host_rfc_9112_3_2() {
    let host = |fields: &str| {
        let head = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        request(&head, |_| ()).err()
    };
    assert_eq!(host(""), Some(Bad::HostMissing));
    assert_eq!(host("Host: a\r\nHost: a\r\n"), Some(Bad::HostRepeated));
    for bad in ["a b", "a/b", "u@a", "a:b", "[::1", "[x]:80", "a:999999", "a,b"]
    {
        let expected = if bad == "a,b" { None } else { Some(Bad::Host) };
        assert_eq!(host(&format!("Host: {bad}\r\n")), expected, "{bad}");
    }
    for good in ["", "a", "a:80", "127.0.0.1:1", "[::1]", "[::1]:80", "a:"] {
        assert_eq!(host(&format!("Host: {good}\r\n")), None, "{good}");
    }
    assert!(request("GET / HTTP/1.0\r\n\r\n", |_| ()).is_ok());
}

#[test]
fn framing_of_requests_rfc_9112_6_3() {
    let framing = |fields: &str| {
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        request(&head, Framing::of_request).unwrap()
    };
    assert_eq!(framing(""), Ok(Framing::Empty));
    assert_eq!(framing("Content-Length: 0\r\n"), Ok(Framing::Length(0)));
    assert_eq!(framing("Content-Length: 5\r\n"), Ok(Framing::Length(5)));
    let twice = "Content-Length: 5\r\nContent-Length: 5\r\n";
    assert_eq!(framing(twice), Ok(Framing::Length(5)));
    assert_eq!(framing("Content-Length: 5, 5\r\n"), Ok(Framing::Length(5)));
    assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
    for bad in ["-1", "+1", "0x1", "1 1", "", "a", "18446744073709551616", "1,"]
    {
        let field = format!("Content-Length: {bad}\r\n");
        assert_eq!(framing(&field), Err(Bad::ContentLength), "{bad}");
    }
    let differ = "Content-Length: 5\r\nContent-Length: 6\r\n";
    assert_eq!(framing(differ), Err(Bad::ContentLengthsDiffer));
    let differ = "Content-Length: 5, 6\r\n";
    assert_eq!(framing(differ), Err(Bad::ContentLengthsDiffer));
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(framing(both), Err(Bad::LengthAndEncoding));
    let both = "Content-Length: x\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(framing(both), Err(Bad::LengthAndEncoding));
    for (codings, expected) in [
        ("chunked, gzip", Bad::ChunkedNotFinal),
        ("chunked, chunked", Bad::ChunkedNotFinal),
        ("gzip", Bad::ChunkedNotFinal),
        ("identity", Bad::ChunkedNotFinal),
        ("", Bad::ChunkedNotFinal),
        ("xchunked", Bad::ChunkedNotFinal),
        ("chunked;q=1", Bad::ChunkedNotFinal),
        ("gzip, chunked", Bad::UnknownEncoding),
    ] {
        let field = format!("Transfer-Encoding: {codings}\r\n");
        assert_eq!(framing(&field), Err(expected), "{codings}");
    }
    let two = "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n";
    assert_eq!(framing(two), Err(Bad::ChunkedNotFinal));
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    let old = request(old, Framing::of_request).unwrap();
    assert_eq!(old, Err(Bad::EncodingInOldVersion));
}

#[test]
fn framing_of_responses_rfc_9112_6_3() {
    let framing = |method: &str, head: &str| {
        let head = format!("HTTP/1.1 {head}\r\n\r\n");
        response(&head, |r| Framing::of_response(method, r)).unwrap()
    };
    let length = "200 OK\r\nContent-Length: 5";
    assert_eq!(framing("GET", length), Ok(Framing::Length(5)));
    assert_eq!(framing("HEAD", length), Ok(Framing::Empty));
    assert_eq!(framing("CONNECT", length), Ok(Framing::Empty));
    assert_eq!(framing("GET", "200 OK"), Ok(Framing::ToClose));
    for status in ["100 x", "204 x", "304 x"] {
        let head = format!("{status}\r\nContent-Length: 5");
        assert_eq!(framing("GET", &head), Ok(Framing::Empty));
    }
    let chunked = "200 OK\r\nTransfer-Encoding: chunked";
    assert_eq!(framing("GET", chunked), Ok(Framing::Chunked));
    let both = format!("{chunked}\r\nContent-Length: 5");
    assert_eq!(framing("GET", &both), Err(Bad::LengthAndEncoding));
}

#[test]
fn connections_persist_by_version_rfc_9112_9_3() {
    let open = |version: &str, field: &str| {
        let head = format!("GET / {version}\r\nHost: h\r\n{field}\r\n");
        request(&head, |r| keeps_open(r.version, &r.fields)).unwrap()
    };
    assert!(open("HTTP/1.1", ""));
    assert!(!open("HTTP/1.1", "Connection: foo, Close\r\n"));
    assert!(!open("HTTP/1.0", ""));
    assert!(open("HTTP/1.0", "Connection: Keep-Alive\r\n"));
    assert!(!open("HTTP/1.0", "Connection: keep-alive, close\r\n"));
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

/// What a chunked body decodes to, and what is left behind it.
fn unchunk(bytes: &str) -> Result<(String, String), Option<Bad>> {
    let mut source = bytes.as_bytes();
    let mut body = Body::new(&mut source, Framing::Chunked);
    let mut text = String::new();
    match body.read_to_string(&mut text) {
        Ok(_) => Ok((text, String::from_utf8(source.to_vec()).unwrap())),
        Err(error) => Err(Bad::from_io(&error)),
    }
}

#[test]
fn chunks_rfc_9112_7_1() {
    let good = |bytes, text: &str| {
        let (body, rest) = unchunk(bytes).unwrap();
        assert_eq!((body.as_str(), rest.as_str()), (text, "next"));
    };
    good("0\r\n\r\nnext", "");
    good("3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nnext", "abc0123456789");
    good("3;a=b;c=\"d\"\r\nabc\r\n000\r\nX: y\r\nZ: a\r\n\r\nnext", "abc");
    good("3 ;a\r\nabc\r\n0\r\n\r\nnext", "abc");
    for (bytes, bad) in [
        ("\r\n", Bad::ChunkSize),
        ("g\r\n", Bad::ChunkSize),
        ("-1\r\n", Bad::ChunkSize),
        ("0x3\r\nabc\r\n", Bad::ChunkSize),
        ("3 x\r\nabc\r\n", Bad::ChunkSize),
        ("3;\0\r\nabc\r\n", Bad::ChunkSize),
        ("3\nabc\r\n", Bad::BareLineFeed),
        ("10000000000000000\r\n", Bad::ChunkSize),
        ("3\r\nabcd\r\n", Bad::ChunkEnd),
        ("3\r\nabc\n0\r\n\r\n", Bad::BareLineFeed),
        ("0\r\nX\r\n\r\n", Bad::NoColon),
        ("0\r\nX: \0\r\n\r\n", Bad::FieldValue),
    ] {
        assert_eq!(unchunk(bytes), Err(Some(bad)), "{bytes:?}");
    }
    let long = format!("3;{}\r\n", "a".repeat(2000));
    assert_eq!(unchunk(&long), Err(Some(Bad::ChunkLineTooLong)));
    let long = format!("0\r\n{}", "X: y\r\n".repeat(2000));
    assert_eq!(unchunk(&long), Err(Some(Bad::TrailersTooLong)));
    for short in ["", "3", "3\r\nab", "3\r\nabc", "0\r\n", "0\r\nX: y\r\n"] {
        assert_eq!(unchunk(short), Err(None), "{short:?}");
    }
}

#[test]
fn a_body_ends_where_it_ends() {
    let mut source = &b"abcnext"[..];
    let mut body = Body::new(&mut source, Framing::Length(3));
    let mut text = String::new();
    body.read_to_string(&mut text).unwrap();
    assert!(body.is_at_end() && text == "abc" && source == b"next");
    let mut short = &b"ab"[..];
    let mut body = Body::new(&mut short, Framing::Length(3));
    let error = body.read_to_string(&mut text).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    assert!(!body.is_at_end());
}

/// A small generator of numbers, so that a run can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    /// Changes, removes, doubles or inserts a few bytes.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
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
fn mutated_requests_never_panic_and_what_is_taken_is_clean() {
    let mut random = Random(20_260_101);
    let mut taken = 0;
    for round in 0..60_000 {
        let seed = [SOMEDIR, KIWI][round % 2];
        let mut bytes = seed.as_bytes().to_vec();
        random.mutate(&mut bytes);
        let Some(length) = head_length(&bytes) else { continue };
        let mut spans = Vec::new();
        let Ok(request) = Request::parse(&bytes[..length], &mut spans) else {
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

#[test]
fn mutated_responses_and_bodies_never_panic_and_end() {
    let mut random = Random(42);
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                  5;x=y\r\nabcde\r\n3\r\nfgh\r\n0\r\nT: u\r\n\r\n";
    let mut whole = 0;
    for round in 0..60_000 {
        let seed = [RESPONSE, chunks][round % 2];
        let mut bytes = seed.as_bytes().to_vec();
        random.mutate(&mut bytes);
        let Some(length) = head_length(&bytes) else { continue };
        let mut body = bytes.split_off(length);
        let mut spans = Vec::new();
        let Ok(response) = Response::parse(&mut bytes, &mut spans) else {
            continue;
        };
        let Ok(framing) = Framing::of_response("GET", &response) else {
            continue;
        };
        body.extend(b"HTTP/1.1 200 OK\r\n\r\n");
        let mut source = body.as_slice();
        let mut out = Vec::new();
        let mut reader = Body::new(&mut source, framing);
        if reader.read_to_end(&mut out).is_ok() {
            whole += 1;
        }
        assert!(out.len() <= body.len());
    }
    assert!(whole > 1000, "only {whole}: the mutations are too wild");
}
