//! One HTTP connection: its socket, and the one buffered reader that it has
//! for its whole life (a second one would swallow bytes of the next
//! message). Server, client and whoever stands between share it.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bad::Bad;
use super::fields::{MAX_HEAD, is_token};
use super::message::{MAX_REQUEST_LINE, head_length};
use crate::error::is_timeout;

/// The buffer while nothing goes on: 10,000 connections may be idle.
const SMALL: usize = 2 * 1024;
/// The buffer while a body is read.
const LARGE: usize = 64 * 1024;

/// How long, and how much, an ending connection is read for nothing.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// Why there is no head to parse.
#[derive(Debug)]
pub enum NoHead {
    /// The peer closed before a first byte: nothing is wrong.
    Closed,
    /// No first byte came within the idle limit.
    Idle,
    /// A head began and did not end in time.
    Slow,
    /// The peer closed, or the connection broke, in mid-head.
    Broken(io::Error),
    /// It breaks a rule before it could end.
    Bad(Bad),
}

/// A connection and what was read from it ahead of need.
pub struct Wire {
    pub socket: Arc<TcpStream>,
    buffer: Vec<u8>,
    /// The unread bytes are `buffer[start..end]`.
    start: usize,
    end: usize,
    /// The limit of each wait without a deadline, and what the socket has.
    patience: Option<Duration>,
    set: Option<Duration>,
    deadline: Option<Instant>,
}

impl Wire {
    /// `patience` is the read time limit that the socket already has.
    pub fn new(socket: Arc<TcpStream>, patience: Option<Duration>) -> Wire {
        Wire {
            socket,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            patience,
            set: patience,
            deadline: None,
        }
    }

    /// From now on all reads together have this long; `None`: each read has
    /// its usual limit again.
    pub fn set_deadline(&mut self, limit: Option<Duration>) {
        self.deadline = limit.map(|limit| Instant::now() + limit);
    }

    /// What has been read and not been used.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Has the peer said more than was read, here or in the kernel?
    pub fn has_unread(&self) -> bool {
        !self.buffered().is_empty() || self.peek() > 0
    }

    /// Is the connection open, with nothing said on it? Then the next
    /// request may go there: what is there unasked is no answer to it.
    pub fn is_quiet(&self) -> bool {
        self.buffered().is_empty() && self.peek() == -1
    }

    /// 1: there are bytes; 0: the end; -1: neither, or a fault that the next
    /// read will tell.
    fn peek(&self) -> isize {
        let mut byte = 0u8;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let fd = self.socket.as_raw_fd();
        // SAFETY: the call writes at most one byte to a byte that is alive.
        unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, flags) }
    }

    /// Takes the next message's head, the empty line included, into `head`.
    /// `limit` is the time for the whole head, from its first byte on, unless
    /// there is a deadline already.
    pub fn read_head(
        &mut self,
        head: &mut Vec<u8>,
        limit: Duration,
        request: bool,
    ) -> Result<(), NoHead> {
        head.clear();
        self.shrink();
        let deadline = self.deadline;
        let mut skipped_empty_line = false;
        loop {
            if request && !skipped_empty_line {
                if self.buffered().starts_with(b"\r\n") {
                    self.consume(2);
                    skipped_empty_line = true;
                } else if self.buffered().len() > 1 {
                    skipped_empty_line = true;
                }
            }
            if let Some(length) = head_length(self.buffered()) {
                if length > MAX_HEAD {
                    return Err(NoHead::Bad(too_long(self.buffered())));
                }
                head.extend_from_slice(&self.buffered()[..length]);
                self.consume(length);
                self.deadline = deadline;
                return Ok(());
            }
            if request {
                check_beginning(self.buffered()).map_err(NoHead::Bad)?;
            }
            if self.buffered().len() > MAX_HEAD {
                return Err(NoHead::Bad(too_long(self.buffered())));
            }
            let began = !self.buffered().is_empty();
            // (a connection's first request is there when it is accepted)
            let first = request && self.buffer.is_empty();
            if !began && !first {
                let_others_work();
            }
            if began && self.deadline.is_none() {
                self.set_deadline(Some(limit));
            }
            match self.fill() {
                Ok(0) if !began => return Err(NoHead::Closed),
                Ok(0) => {
                    let eof = ErrorKind::UnexpectedEof.into();
                    return Err(NoHead::Broken(eof));
                }
                Ok(_) => {}
                Err(e) if is_timeout(&e) && began => return Err(NoHead::Slow),
                Err(e) if is_timeout(&e) => return Err(NoHead::Idle),
                Err(e) => return Err(NoHead::Broken(e)),
            }
        }
    }

    /// Reads more behind what is there; 0 at the end of the connection.
    fn fill(&mut self) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else {
                let size = (self.buffer.len() * 2).max(SMALL);
                self.buffer.resize(size, 0);
            }
        }
        self.limit_read()?;
        let count = loop {
            match (&*self.socket).read(&mut self.buffer[self.end..]) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.end += count;
        Ok(count)
    }

    /// Gives the socket the time limit of the next read.
    fn limit_read(&mut self) -> io::Result<()> {
        let limit = match self.deadline {
            None => self.patience,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(ErrorKind::TimedOut.into());
                }
                Some(left)
            }
        };
        if limit != self.set {
            self.socket.set_read_timeout(limit)?;
            self.set = limit;
        }
        Ok(())
    }

    /// Gives back what a large message took, when nothing is left in it.
    fn shrink(&mut self) {
        if self.start == self.end && self.buffer.len() > SMALL {
            self.buffer = Vec::new();
            (self.start, self.end) = (0, 0);
        }
    }

    /// A head and what follows it.
    pub fn send(&self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let mut socket = &*self.socket;
        if body.is_empty() {
            return socket.write_all(head);
        }
        self.send_more(head)?;
        socket.write_all(body)
    }

    /// A write to which more follows at once: the kernel waits with a short
    /// segment until then.
    pub fn send_more(&self, mut bytes: &[u8]) -> io::Result<()> {
        let flags = libc::MSG_MORE | libc::MSG_NOSIGNAL;
        while !bytes.is_empty() {
            // SAFETY: the pointer and the length are those of a live slice.
            let sent = unsafe {
                let fd = self.socket.as_raw_fd();
                libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags)
            };
            match usize::try_from(sent) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(_) => match io::Error::last_os_error() {
                    e if e.kind() == ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Ends a connection whose peer may still be sending. To close with
    /// bytes unread would reset it, and the peer might lose our last
    /// answer: so our side is closed, and the rest is read for nothing,
    /// within limits. RFC 9112 §9.6
    pub fn close_gently(mut self) {
        if self.socket.shutdown(Shutdown::Write).is_err() {
            return;
        }
        self.set_deadline(Some(LINGER));
        let mut left = LINGER_BYTES;
        while left > 0 {
            self.start = self.end;
            match self.fill() {
                Ok(count) if count > 0 => left = left.saturating_sub(count),
                _ => return,
            }
        }
    }
}

impl Read for Wire {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end && out.len() >= LARGE {
            // nothing to look ahead for: straight through
            self.limit_read()?;
            return (&*self.socket).read(out);
        }
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Wire {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            if self.buffer.len() < LARGE {
                self.buffer.resize(LARGE, 0);
            }
            self.fill()?;
        }
        Ok(self.buffered())
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
    }
}

/// Before it waits for a message the thread gives way to those that have
/// something to do. Under load the message is often there when its turn
/// comes again: then it need not sleep and be woken, which costs more than a
/// small answer (a quarter more requests a second, measured).
fn let_others_work() {
    // SAFETY: the call takes nothing, and does not fail on Linux.
    unsafe { libc::sched_yield() };
}

/// What can be seen at once need not wait for the end of the head: a TLS
/// handshake is no request, and an endless line is too long.
fn check_beginning(bytes: &[u8]) -> Result<(), Bad> {
    match bytes.first() {
        Some(b'\r') if bytes.len() == 1 => return Ok(()),
        Some(first) if !is_token(&[*first]) => return Err(Bad::Method),
        _ => {}
    }
    match bytes.len() > MAX_REQUEST_LINE {
        true => match too_long(bytes) {
            Bad::RequestLineTooLong => Err(Bad::RequestLineTooLong),
            _ => Ok(()),
        },
        false => Ok(()),
    }
}

/// Which of the two: no line end within the limit of the first line?
fn too_long(bytes: &[u8]) -> Bad {
    let line = &bytes[..bytes.len().min(MAX_REQUEST_LINE + 2)];
    match line.contains(&b'\n') {
        true => Bad::HeadTooLong,
        false => Bad::RequestLineTooLong,
    }
}
