//! A response on its way out: its head, what follows, and how both are
//! handed to the kernel.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::condition::ByteRange;
use super::date;
use super::log;
use super::store::{Representation, Source};
use crate::wire::Wire;

/// What the kernel moves in one call at the most. sendfile(2)
const SENDFILE_MOST: u64 = 0x7fff_f000;

/// A piece of a file on its way through TLS: four of its records.
const ENCRYPTED: usize = 64 * 1024;

/// Content up to here is copied behind the head for one write.
const COPIED: usize = 2 * 1024;

/// What follows the head.
pub enum Content {
    Empty,
    Bytes(Vec<u8>),
    Whole(Arc<Representation>),
    /// Parts of a file, the last followed by `after`.
    Parts {
        of: Arc<Representation>,
        parts: Vec<Part>,
        after: Vec<u8>,
    },
}

/// One range, and the text before it (of multipart/byteranges).
pub struct Part {
    pub before: Vec<u8>,
    pub span: ByteRange,
}

impl Content {
    /// In octets.
    pub fn length(&self) -> u64 {
        match self {
            Content::Empty => 0,
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Whole(file) => file.stamp.size,
            Content::Parts { parts, after, .. } => {
                let length = |part: &Part| {
                    part.before.len() as u64 + part.span.1 - part.span.0 + 1
                };
                parts.iter().map(length).sum::<u64>() + after.len() as u64
            }
        }
    }
}

/// A response. One per connection, used again for each request, so that a
/// usual request allocates nothing.
pub struct Reply {
    pub status: u16,
    pub head: Vec<u8>,
    pub content: Content,
    /// The connection ends after this.
    pub close: bool,
    /// How much of the content the kernel has taken.
    pub sent: u64,
    /// The `Date` line, made once a second.
    date: (i64, String),
}

impl Reply {
    /// To be begun with `begin` or `page`.
    pub fn new() -> Reply {
        Reply {
            status: 0,
            head: Vec::with_capacity(512),
            content: Content::Empty,
            close: false,
            sent: 0,
            date: (0, String::new()),
        }
    }

    /// The status line, and the fields that every response has.
    pub fn begin(&mut self, status: u16) {
        let now = date::now();
        if self.date.0 != now {
            let text = format!(
                "Date: {}\r\nServer: topdown/{}\r\n",
                date::format(now),
                env!("CARGO_PKG_VERSION")
            );
            self.date = (now, text);
        }
        self.status = status;
        self.content = Content::Empty;
        self.sent = 0;
        self.head.clear();
        match status {
            200 => self.head.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
            _ => {
                let reason = reason_phrase(status);
                let line = format!("HTTP/1.1 {status} {reason}\r\n");
                self.head.extend_from_slice(line.as_bytes());
            }
        }
        self.head.extend_from_slice(self.date.1.as_bytes());
    }

    /// One field line.
    pub fn field(&mut self, name: &str, value: impl Display) {
        let _ = write!(self.head, "{name}: {value}\r\n");
    }

    /// Field lines that are ready.
    pub fn fields(&mut self, lines: &[u8]) {
        self.head.extend_from_slice(lines);
    }

    /// A short page that says what the status means.
    pub fn page(&mut self, status: u16, why: &str) {
        self.begin(status);
        self.field("Content-Type", "text/html; charset=utf-8");
        self.field("X-Content-Type-Options", "nosniff");
        let reason = reason_phrase(status);
        let why = escape_html(why);
        self.content = Content::Bytes(
            format!(
                "<!DOCTYPE html>\n<html lang=\"en\">\n\
                 <meta charset=\"utf-8\">\n\
                 <meta name=\"viewport\" content=\"width=device-width\">\n\
                 <meta name=\"color-scheme\" content=\"light dark\">\n\
                 <title>{status} {reason}</title>\n\
                 <h1>{status} {reason}</h1>\n<p>{why}\n"
            )
            .into_bytes(),
        );
    }

    /// Ends the head. `old_client`: HTTP/1.0 must be told when the
    /// connection stays, newer clients when it does not. RFC 9112 §9.3
    pub fn end_head(&mut self, old_client: bool) {
        // "A server MUST NOT send a Content-Length header field in any
        // response with a status code of 1xx (Informational) or 204 (No
        // Content)." RFC 9110 §8.6; in a 304 it may be left out.
        if !matches!(self.status, 204 | 304) {
            self.field("Content-Length", self.content.length());
        }
        match (self.close, old_client) {
            (true, _) => self.fields(b"Connection: close\r\n"),
            (false, true) => self.fields(b"Connection: keep-alive\r\n"),
            (false, false) => {}
        }
        self.fields(b"\r\n");
    }

    /// Sends head and content, and counts in `sent`.
    pub fn send(&mut self, wire: &Wire, head_only: bool) -> io::Result<()> {
        if head_only {
            return wire.send(&self.head, b"");
        }
        let length = self.content.length();
        match &self.content {
            Content::Empty => wire.send(&self.head, b"")?,
            Content::Bytes(bytes) => send_bytes(wire, &mut self.head, bytes)?,
            Content::Whole(of) => match &of.source {
                Source::Memory(bytes) => {
                    send_bytes(wire, &mut self.head, bytes)?;
                }
                Source::Disk(_) if length == 0 => wire.send(&self.head, b"")?,
                Source::Disk(file) => {
                    wire.send_more(&self.head)?;
                    let size = of.stamp.size;
                    send_file(wire, file, 0, size, &mut self.sent)?;
                }
            },
            Content::Parts { of, parts, after } => {
                wire.send_more(&self.head)?;
                for part in parts {
                    send_part(wire, of, part, &mut self.sent)?;
                }
                wire.send_all(after)?;
            }
        }
        self.sent = length;
        Ok(())
    }
}

/// 503, since all places are taken. RFC 9110 §15.6.4
pub fn refuse(socket: TcpStream, quiet: bool) {
    let client = socket.peer_addr();
    let mut reply = Reply::new();
    reply.page(503, "All the connections that there may be are taken.");
    reply.field("Retry-After", 1);
    reply.close = true;
    reply.end_head(false);
    let wire = Wire::new(Arc::new(socket), None);
    let sent = reply.send(&wire, false);
    if let (Ok(client), false) = (client, quiet) {
        log::access(client.ip(), b"", None, reply.status, reply.sent, "");
    }
    if sent.is_ok() {
        wire.close_gently();
    }
}

/// What is small leaves in one write, and so in one segment; to copy it
/// together costs less than to hand over two pieces.
pub fn send_bytes(
    wire: &Wire,
    head: &mut Vec<u8>,
    bytes: &[u8],
) -> io::Result<()> {
    if bytes.len() > COPIED {
        return wire.send(head, bytes);
    }
    head.extend_from_slice(bytes);
    wire.send(head, b"")
}

fn send_part(
    wire: &Wire,
    of: &Representation,
    part: &Part,
    sent: &mut u64,
) -> io::Result<()> {
    if !part.before.is_empty() {
        wire.send_more(&part.before)?;
    }
    let (first, last) = part.span;
    match &of.source {
        Source::Memory(bytes) => {
            wire.send_all(&bytes[first as usize..=last as usize])
        }
        Source::Disk(file) => {
            send_file(wire, file, first, last - first + 1, sent)
        }
    }
}

/// From the file to the socket inside the kernel, without a copy of ours;
/// through TLS piece by piece.
fn send_file(
    wire: &Wire,
    file: &File,
    from: u64,
    length: u64,
    sent: &mut u64,
) -> io::Result<()> {
    let end = from + length;
    let mut offset = from as libc::off_t;
    let mut piece = match wire.tls() {
        Some(_) => vec![0; ENCRYPTED.min(length as usize)],
        None => Vec::new(),
    };
    while (offset as u64) < end {
        let left = end - offset as u64;
        let count = if piece.is_empty() {
            let most = left.min(SENDFILE_MOST) as usize;
            let (to, of) = (wire.socket.as_raw_fd(), file.as_raw_fd());
            // SAFETY: two open descriptors, and a pointer to a live number.
            match unsafe { libc::sendfile(to, of, &mut offset, most) } {
                -1 => match io::Error::last_os_error() {
                    e if e.kind() == ErrorKind::Interrupted => continue,
                    error => return Err(error),
                },
                count => count as u64,
            }
        } else {
            let most = left.min(piece.len() as u64) as usize;
            let count = file.read_at(&mut piece[..most], offset as u64)?;
            wire.send_all(&piece[..count])?;
            offset += count as libc::off_t;
            count as u64
        };
        if count == 0 {
            // The file has become shorter: the length was promised, so the
            // connection must break off for the client to see it.
            return Err(ErrorKind::UnexpectedEof.into());
        }
        *sent += count;
    }
    Ok(())
}

/// The reason phrases of RFC 9110 §15 (and 6585) that are sent here.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "",
    }
}

/// Text for a page.
pub fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
