//! One TCP connection: its socket, TLS if it has that, and the one buffered
//! reader that it has for its whole life (a second one would swallow bytes
//! of the next message). HTTP's and SMTP's servers and clients share it.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::tls::{self, Identity, Tls, Trust};

/// The buffer while nothing goes on: 10,000 connections may be idle.
const SMALL: usize = 2 * 1024;
/// The buffer while a body is read.
const LARGE: usize = 64 * 1024;

/// How long, and how much, an ending connection is read for nothing.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// A connection and what was read from it ahead of need.
pub struct Wire {
    pub socket: Arc<TcpStream>,
    tls: Option<Tls>,
    /// A handshake was begun: the socket does not block.
    secured: bool,
    buffer: Vec<u8>,
    /// The unread bytes are `buffer[start..end]`.
    start: usize,
    end: usize,
    /// The limit of each wait without a deadline, and what the socket has.
    patience: Option<Duration>,
    set: Option<Duration>,
    pub deadline: Option<Instant>,
}

impl Wire {
    /// `patience` is the read time limit that the socket already has.
    pub fn new(socket: Arc<TcpStream>, patience: Option<Duration>) -> Wire {
        Wire {
            socket,
            tls: None,
            secured: false,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            patience,
            set: patience,
            deadline: None,
        }
    }

    /// A client's TLS handshake with the host of this name. What came in
    /// clear is forgotten: nobody vouches for it.
    pub fn start_tls(
        &mut self,
        trust: &Trust,
        host: &str,
    ) -> Result<(), Error> {
        self.forget();
        self.secured = true;
        self.tls = Some(tls::connect(trust, &self.socket, host)?);
        Ok(())
    }

    /// A server's TLS handshake, the same way.
    pub fn accept_tls(&mut self, identity: &Identity) -> Result<(), Error> {
        self.forget();
        self.secured = true;
        self.tls = Some(identity.accept(&self.socket)?);
        Ok(())
    }

    /// The connection's TLS, if it has that.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Throws away what has been read and not been used.
    pub fn forget(&mut self) {
        self.start = self.end;
    }

    /// From now on all reads together have this long; `None`: each read has
    /// its usual limit again.
    pub fn set_deadline(&mut self, limit: Option<Duration>) {
        self.deadline = limit.map(|limit| Instant::now() + limit);
    }

    /// Each read without a deadline, and each handshake, has this long from
    /// now on.
    pub fn limit_read_to(&mut self, patience: Duration) -> io::Result<()> {
        self.patience = Some(patience);
        self.limit_read()
    }

    /// What has been read and not been used.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Has nothing ever been read?
    pub fn is_new(&self) -> bool {
        self.buffer.is_empty()
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
        if let Some(tls) = &self.tls {
            return tls.peek();
        }
        let mut byte = 0u8;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let fd = self.socket.as_raw_fd();
        // SAFETY: the call writes at most one byte to a byte that is alive.
        unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, flags) }
    }

    /// Reads more behind what is there; 0 at the end of the connection.
    pub fn fill(&mut self) -> io::Result<usize> {
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
        let room = &mut self.buffer[self.end..];
        let count = loop {
            let read = match &self.tls {
                None => (&*self.socket).read(room),
                Some(tls) => tls.read(room),
            };
            match read {
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
    pub fn shrink(&mut self) {
        if self.start == self.end && self.buffer.len() > SMALL {
            self.buffer = Vec::new();
            (self.start, self.end) = (0, 0);
        }
    }

    /// A head and what follows it.
    pub fn send(&self, head: &[u8], body: &[u8]) -> io::Result<()> {
        if !body.is_empty() {
            self.send_more(head)?;
            return self.send_all(body);
        }
        self.send_all(head)
    }

    /// Sends all of it.
    pub fn send_all(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.tls {
            None => (&*self.socket).write_all(bytes),
            Some(tls) => tls.write_all(bytes),
        }
    }

    /// A write to which more follows at once: the kernel waits with a short
    /// segment until then.
    pub fn send_more(&self, mut bytes: &[u8]) -> io::Result<()> {
        if self.tls.is_some() {
            return self.send_all(bytes);
        }
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
        if let Some(tls) = self.tls.take() {
            tls.close();
        }
        if self.secured && self.socket.set_nonblocking(false).is_err() {
            return;
        }
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
            return match &self.tls {
                None => (&*self.socket).read(out),
                Some(tls) => tls.read(out),
            };
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

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Before it waits for a message the thread gives way to those that have
/// something to do. Under load the message is often there when its turn
/// comes again: then it need not sleep and be woken, which costs more than a
/// small answer (a quarter more requests a second, measured).
pub fn let_others_work() {
    // SAFETY: the call takes nothing, and does not fail on Linux.
    unsafe { libc::sched_yield() };
}
