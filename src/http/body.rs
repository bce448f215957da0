//! The body: where it ends, and a reader that ends there.
//!
//! `Framing` is the decision (RFC 9112 §6.3), `Body` the reader. Since the
//! reader stops at the body's last octet, the next message on a persistent
//! connection begins where it should, by construction.

use std::io::{self, BufRead, ErrorKind, Read};

use super::bad::Bad;
use super::message::{Fields, Request, Response, Version, is_field_value};

/// A chunk-size line with its extensions. RFC 9112 §7.1.1 asks for a limit.
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
    /// 3. both fields: "regarded as an error"
    /// 4. chunked when that is the final coding, else 400
    /// 5. an invalid Content-Length: 400
    /// 6. a valid one: so long it is
    /// 7. neither: no body
    /// 8. (does not apply: it is of responses)
    pub fn of_request(request: &Request) -> Result<Framing, Bad> {
        let length = content_length(&request.fields);
        match transfer_encoding(request.version, &request.fields)? {
            Some(Coding::ChunkedLast) if length != Ok(None) => {
                Err(Bad::LengthAndEncoding)
            }
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
            // 4. chunked, or else to the close
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
    pub fn new(source: &'a mut R, framing: Framing) -> Body<'a, R> {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::End,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkStart,
            Framing::ToClose => State::ToClose,
        };
        Body { source, state, trailers: Vec::new() }
    }

    /// Has the last octet been read?
    pub fn is_at_end(&self) -> bool {
        self.state == State::End
    }

    /// `chunk-size [ chunk-ext ] CRLF`. RFC 9112 §7.1
    fn chunk_start(&mut self) -> io::Result<State> {
        let line = self.line(MAX_CHUNK_LINE, Bad::ChunkLineTooLong)?;
        let end = line.iter().position(|b| matches!(b, b';' | b' ' | b'\t'));
        let (digits, extension) = line.split_at(end.unwrap_or(line.len()));
        let good_digits = (1..=16).contains(&digits.len())
            && digits.iter().all(u8::is_ascii_hexdigit);
        let extension = extension.trim_ascii_start();
        let good_extension =
            extension.is_empty() || extension.starts_with(b";");
        if !good_digits || !good_extension || !is_field_value(extension) {
            return Err(Bad::ChunkSize.into());
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
            if !line.contains(&b':') {
                return Err(Bad::NoColon.into());
            }
            if !is_field_value(&line) {
                return Err(Bad::FieldValue.into());
            }
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
