//! The body: where it ends, and a reader that ends there.
//!
//! `Framing` is the decision (RFC 9112 §6.3), `Body` the reader. Since the
//! reader stops at the body's last octet, the next message on a persistent
//! connection begins where it should, by construction.

use std::io::{self, BufRead, ErrorKind, Read};

use super::bad::Bad;
use super::fields::{Fields, check_line, is_field_value, is_token};
use super::message::{Request, Response, Version};
use crate::wire::Wire;

/// "A server ought to limit the total length of chunk extensions received in
/// a request to an amount reasonable for the services provided"
/// RFC 9112 §7.1.1
const MAX_EXTENSIONS: usize = 4 * 1024;
/// One chunk-size line.
const MAX_CHUNK_LINE: u64 = 1024;
/// All trailer fields of a body together.
const MAX_TRAILERS: usize = 8 * 1024;

/// How the length of a message's body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// So many octets.
    Length(u64),
    /// In chunks, the last of size 0. RFC 9112 §7.1
    Chunked,
    /// Up to the end of the connection: responses alone.
    ToClose,
}

impl Framing {
    /// RFC 9112 §6.3, for requests. Its numbers:
    /// 1. and 2. (do not apply: they are of responses)
    /// 3. both fields: an error
    /// 4. chunked when that is the final coding, else 400
    /// 5. an invalid Content-Length: 400
    /// 6. a valid one: so long it is
    /// 7. neither: no body
    /// 8. (does not apply: it is of responses)
    pub fn of_request(request: &Request) -> Result<Framing, Bad> {
        let length = content_length(&request.fields);
        match transfer_encoding(request.version, &request.fields)? {
            Some(_) if length != Ok(None) => Err(Bad::LengthAndEncoding),
            Some(Coding::ChunkedLast) => Ok(Framing::Chunked),
            Some(Coding::Other) => Err(Bad::UnknownEncoding),
            None => Ok(length?.map_or(Framing::Empty, Framing::Length)),
        }
    }

    /// RFC 9112 §6.3, for responses to a request of this method.
    pub fn of_response(
        method: &str,
        response: &Response,
    ) -> Result<Framing, Bad> {
        // 1. HEAD, 1xx, 204, 304: none, whatever the fields say
        if method == "HEAD" || matches!(response.status, 100..200 | 204 | 304) {
            return Ok(Framing::Empty);
        }
        // 2. 2xx to CONNECT: a tunnel begins
        if method == "CONNECT" && (200..300).contains(&response.status) {
            return Ok(Framing::Empty);
        }
        let length = content_length(&response.fields);
        match transfer_encoding(response.version, &response.fields)? {
            // 3. both: to be treated as an error
            Some(_) if length != Ok(None) => Err(Bad::LengthAndEncoding),
            // 4. chunked; what else there may be is not known here
            Some(Coding::ChunkedLast) => Ok(Framing::Chunked),
            Some(Coding::Other) => Err(Bad::UnknownEncoding),
            // 5. and 6.; 7. does not apply; 8. to the close
            None => Ok(length?.map_or(Framing::ToClose, Framing::Length)),
        }
    }
}

enum Coding {
    ChunkedLast,
    Other,
}

/// What Transfer-Encoding says. RFC 9112 §6.1
fn transfer_encoding(
    version: Version,
    fields: &Fields,
) -> Result<Option<Coding>, Bad> {
    if fields.get("transfer-encoding").is_none() {
        return Ok(None);
    }
    // "A server or client that receives an HTTP/1.0 message containing a
    // Transfer-Encoding header field MUST treat the message as if the
    // framing is faulty" RFC 9112 §6.1
    if version == Version::Http10 {
        return Err(Bad::EncodingInOldVersion);
    }
    let chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let mut codings = fields.list("transfer-encoding").peekable();
    let (mut others, mut last) = (false, false);
    while let Some(coding) = codings.next() {
        let is_last = codings.peek().is_none();
        match (chunked(coding), is_last) {
            (true, true) => last = true,
            (true, false) => return Err(Bad::ChunkedNotFinal),
            (false, _) => others = true,
        }
    }
    match (last, others) {
        (true, false) => Ok(Some(Coding::ChunkedLast)),
        (true, true) => Ok(Some(Coding::Other)),
        (false, _) => Err(Bad::ChunkedNotFinal),
    }
}

/// The one value of Content-Length, if any. RFC 9110 §8.6
fn content_length(fields: &Fields) -> Result<Option<u64>, Bad> {
    let mut length = None;
    for value in
        fields.all("content-length").flat_map(|v| v.split(|b| *b == b','))
    {
        let value = decimal(value.trim_ascii()).ok_or(Bad::ContentLength)?;
        match length {
            Some(other) if other != value => {
                return Err(Bad::ContentLengthsDiffer);
            }
            _ => length = Some(value),
        }
    }
    Ok(length)
}

/// `1*DIGIT` that fits; no sign, no space.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Is the connection to stay open after this message? RFC 9112 §9.3
pub fn keeps_open(version: Version, fields: &Fields) -> bool {
    match version {
        _ if fields.lists("connection", "close") => false,
        Version::Http11 => true,
        Version::Http10 => fields.lists("connection", "keep-alive"),
    }
}

/// Reads a body and ends with it. Faults are `io::Error`s that carry a
/// `Bad`; a body shorter than promised is `UnexpectedEof`.
pub struct Body<'a, R: BufRead> {
    source: &'a mut R,
    state: State,
    /// The trailer section as it came, once the body has ended.
    pub trailers: Vec<u8>,
    /// Octets of chunk extensions so far.
    extensions: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many octets of content to come.
    Length(u64),
    /// At a chunk-size line.
    ChunkStart,
    /// So many octets of this chunk to come, then its CRLF.
    Chunk(u64),
    ToClose,
    End,
}

impl<'a, R: BufRead> Body<'a, R> {
    /// A reader of the body that begins where `source` stands.
    pub fn new(source: &'a mut R, framing: Framing) -> Body<'a, R> {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::End,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkStart,
            Framing::ToClose => State::ToClose,
        };
        Body { source, state, trailers: Vec::new(), extensions: 0 }
    }

    /// Has the last octet been read?
    pub fn is_at_end(&self) -> bool {
        self.state == State::End
    }

    /// Where it is read from.
    pub fn source(&self) -> &R {
        self.source
    }

    /// How many octets may be taken past this reader, since nothing is to be
    /// understood in them; `None` where that is not so, or at the end.
    pub fn passes(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::ToClose => Some(u64::MAX),
            _ => None,
        }
    }

    /// So many were taken; 0: the connection has ended.
    pub fn passed(&mut self, count: u64) -> io::Result<()> {
        self.state = match self.state {
            State::ToClose if count == 0 => State::End,
            State::Length(_) if count == 0 => {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            State::Length(left) if left == count => State::End,
            State::Length(left) => State::Length(left - count),
            other => other,
        };
        Ok(())
    }

    /// `chunk-size [ chunk-ext ] CRLF`. RFC 9112 §7.1
    fn chunk_start(&mut self) -> io::Result<State> {
        let line = self.line(MAX_CHUNK_LINE, Bad::ChunkLineTooLong)?;
        let end = line.iter().position(|b| matches!(b, b';' | b' ' | b'\t'));
        let (digits, extension) = line.split_at(end.unwrap_or(line.len()));
        let good_digits = (1..=16).contains(&digits.len())
            && digits.iter().all(u8::is_ascii_hexdigit);
        if !good_digits || !are_extensions(extension) {
            return Err(Bad::ChunkSize.into());
        }
        self.extensions += extension.len();
        if self.extensions > MAX_EXTENSIONS {
            return Err(Bad::ChunkLineTooLong.into());
        }
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        match u64::from_str_radix(digits, 16) {
            Ok(0) => self.trailer_section(),
            Ok(size) => Ok(State::Chunk(size)),
            Err(_) => Err(Bad::ChunkSize.into()),
        }
    }

    /// `trailer-section CRLF`. RFC 9112 §7.1.2
    fn trailer_section(&mut self) -> io::Result<State> {
        loop {
            let left = (MAX_TRAILERS - self.trailers.len()) as u64;
            let line = self.line(left, Bad::TrailersTooLong)?;
            if line.is_empty() {
                return Ok(State::End);
            }
            check_line(&line)?;
            self.trailers.extend(line);
            self.trailers.extend(b"\r\n");
        }
    }

    /// A line without its CRLF.
    fn line(&mut self, limit: u64, too_long: Bad) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.source.by_ref().take(limit).read_until(b'\n', &mut line)?;
        match line.as_slice() {
            [start @ .., b'\r', b'\n'] => Ok(start.to_vec()),
            [.., b'\n'] => Err(Bad::BareLineFeed.into()),
            _ if line.len() as u64 >= limit => Err(too_long.into()),
            _ => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// At most `most` octets, straight through.
    fn pass(&mut self, out: &mut [u8], most: u64) -> io::Result<usize> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(out.len());
        let count = self.source.read(&mut out[..most])?;
        match count {
            0 if most > 0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(count),
        }
    }
}

impl Body<'_, Wire> {
    /// Could the next read answer from what is buffered? If not, whoever
    /// passes the body on had better pass on first what there is.
    pub fn is_more_here(&self) -> bool {
        let here = self.source.buffered();
        let chunk = match self.state {
            State::End => return true,
            State::Chunk(0) => match here.strip_prefix(b"\r\n") {
                Some(rest) => rest,
                None => return here.len() > 1, // a fault, to be told
            },
            State::ChunkStart => here,
            _ => return !here.is_empty(),
        };
        let Some(end) = chunk.iter().position(|b| *b == b'\n') else {
            return false;
        };
        let size = chunk.iter().take_while(|b| b.is_ascii_hexdigit());
        let size: Vec<u8> = size.copied().collect();
        match size.iter().all(|b| *b == b'0') {
            // the last, or a fault: to its trailer section's end
            true if !size.is_empty() => {
                chunk.windows(4).any(|w| w == b"\r\n\r\n")
            }
            true => true,
            false => chunk.len() > end + 1,
        }
    }
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`
/// RFC 9112 §7.1.1
fn are_extensions(mut text: &[u8]) -> bool {
    let token =
        |text: &[u8]| text.iter().take_while(|b| is_token(&[**b])).count();
    if !is_field_value(text) {
        return false; // no CR in it that trimming would overlook
    }
    while !text.is_empty() {
        let Some(rest) = text.trim_ascii_start().strip_prefix(b";") else {
            return false;
        };
        let rest = rest.trim_ascii_start();
        let (name, rest) = rest.split_at(token(rest));
        if name.is_empty() {
            return false;
        }
        text = rest;
        if let Some(value) = rest.trim_ascii_start().strip_prefix(b"=") {
            let value = value.trim_ascii_start();
            let length = match value.first() {
                Some(b'"') => quoted_string(value),
                _ => token(value),
            };
            if length == 0 {
                return false;
            }
            text = &value[length..];
        }
    }
    true
}

/// The length of a quoted string at the start; 0 if it is none.
/// RFC 9110 §5.6.4
pub fn quoted_string(text: &[u8]) -> usize {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if !is_field_value(&[*byte]) => return 0,
            b'"' if !escaped => return at + 1,
            _ => escaped = *byte == b'\\' && !escaped,
        }
    }
    0
}

impl<R: BufRead> Read for Body<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state {
                State::End => return Ok(0),
                State::Length(left) => {
                    let count = self.pass(out, left)?;
                    self.state = match left - count as u64 {
                        0 => State::End,
                        left => State::Length(left),
                    };
                    return Ok(count);
                }
                State::ChunkStart => self.state = self.chunk_start()?,
                State::Chunk(0) => {
                    if !self.line(2, Bad::ChunkEnd)?.is_empty() {
                        return Err(Bad::ChunkEnd.into());
                    }
                    self.state = State::ChunkStart;
                }
                State::Chunk(left) => {
                    let count = self.pass(out, left)?;
                    self.state = State::Chunk(left - count as u64);
                    return Ok(count);
                }
                State::ToClose => {
                    let count = self.source.read(out)?;
                    if count == 0 {
                        self.state = State::End;
                    }
                    return Ok(count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::head_length;
    use super::super::message::tests::{RESPONSE, Random, request, response};
    use super::*;

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
        assert_eq!(
            framing("Transfer-Encoding: Chunked\r\n"),
            Ok(Framing::Chunked)
        );
        for bad in
            ["-1", "+1", "0x1", "1 1", "", "a", "18446744073709551616", "1,"]
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
        let both = "Content-Length: 5\r\nTransfer-Encoding: gzip, chunked\r\n";
        assert_eq!(framing(both), Err(Bad::LengthAndEncoding));
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
        good("3 ; a = \"\\\";\" ;b\r\nabc\r\n0\r\n\r\nnext", "abc");
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
            ("3;\r\nabc\r\n", Bad::ChunkSize),
            ("3 \r;x\r\nabc\r\n", Bad::ChunkSize),
            ("3 \r\nabc\r\n", Bad::ChunkSize),
            ("3;=;\"\r\nabc\r\n", Bad::ChunkSize),
            ("3;a=\r\nabc\r\n", Bad::ChunkSize),
            ("3;a=\"b\r\nabc\r\n", Bad::ChunkSize),
            ("0\r\nX\r\n\r\n", Bad::NoColon),
            ("0\r\nX : y\r\n\r\n", Bad::SpaceBeforeColon),
            ("0\r\nX: y\r\n z\r\n\r\n", Bad::LineFolding),
            ("0\r\n@(: y\r\n\r\n", Bad::FieldName),
            ("0\r\nX: \0\r\n\r\n", Bad::FieldValue),
        ] {
            assert_eq!(unchunk(bytes), Err(Some(bad)), "{bytes:?}");
        }
        let long = format!("3;{}\r\n", "a".repeat(2000));
        assert_eq!(unchunk(&long), Err(Some(Bad::ChunkLineTooLong)));
        let many = format!("1;{}\r\na\r\n", "a".repeat(900)).repeat(5);
        assert_eq!(unchunk(&many), Err(Some(Bad::ChunkLineTooLong)));
        let long = format!("0\r\n{}", "X: y\r\n".repeat(2000));
        assert_eq!(unchunk(&long), Err(Some(Bad::TrailersTooLong)));
        for short in ["", "3", "3\r\nab", "3\r\nabc", "0\r\n", "0\r\nX: y\r\n"]
        {
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
}
