//! Bodies on their way through: how the end is marked for whoever receives
//! them, and the copying, which is left to the kernel where that pays.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use crate::error::is_timeout;
use crate::http::body::{Body, Framing};
use crate::http::fields::Fields;
use crate::http::hop::trailers;
use crate::http::message::Version;
use crate::net::check;
use crate::wire::Wire;

/// What is copied at a time.
pub const PIECE: usize = 64 * 1024;

/// What is left of a body from which on the kernel copies it.
const SPLICED: u64 = 256 * 1024;

/// What a pipe is made to hold: as much as anyone may ask for.
const PIPE: i32 = 1 << 20;

/// How the receiver will know the end of a body. That is made anew: what the
/// sender said of it goes no further. RFC 9112 §6.3
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    /// There is no body; a Content-Length may tell of one (HEAD).
    Nothing(Option<u64>),
    Length(u64),
    Chunked,
    /// HTTP/1.0 knows no chunks: the connection's end.
    ToClose,
}

impl Marked {
    /// For a receiver of this version.
    pub fn anew(framing: Framing, version: Version) -> Marked {
        match (framing, version) {
            (Framing::Empty, _) => Marked::Nothing(None),
            (Framing::Length(length), _) => Marked::Length(length),
            (_, Version::Http11) => Marked::Chunked,
            (_, Version::Http10) => Marked::ToClose,
        }
    }

    /// The field that says so.
    pub fn field(self) -> String {
        match self {
            Marked::Nothing(Some(length)) | Marked::Length(length) => {
                format!("Content-Length: {length}\r\n")
            }
            Marked::Chunked => "Transfer-Encoding: chunked\r\n".into(),
            Marked::Nothing(None) | Marked::ToClose => String::new(),
        }
    }
}

/// Where a body goes: marks its end, and keeps what the socket has not taken.
pub struct Sender {
    pub socket: Arc<TcpStream>,
    marked: Marked,
    pending: Vec<u8>,
    /// How much of `pending` is gone.
    at: usize,
    /// Octets of content.
    pub sent: u64,
    /// Something has left.
    pub begun: bool,
}

impl Sender {
    pub fn new(socket: Arc<TcpStream>, marked: Marked) -> Sender {
        Sender {
            socket,
            marked,
            pending: Vec::new(),
            at: 0,
            sent: 0,
            begun: false,
        }
    }

    /// Nothing is waiting to be sent.
    pub fn is_empty(&self) -> bool {
        self.at == self.pending.len()
    }

    /// Octets that wait to be sent.
    pub fn waiting(&self) -> usize {
        self.pending.len() - self.at
    }

    /// Takes the head, which leaves with the first of the content.
    pub fn put_head(&mut self, head: &[u8]) {
        self.pending.extend_from_slice(head);
    }

    /// Takes a piece of content, to be sent by `flush`.
    pub fn put(&mut self, piece: &[u8]) {
        if piece.is_empty() {
            return;
        }
        self.sent += piece.len() as u64;
        if self.is_empty() {
            self.pending.clear();
            self.at = 0;
        }
        if self.marked == Marked::Chunked {
            let size = format!("{:x}\r\n", piece.len());
            self.pending.extend_from_slice(size.as_bytes());
        }
        self.pending.extend_from_slice(piece);
        if self.marked == Marked::Chunked {
            self.pending.extend_from_slice(b"\r\n");
        }
    }

    /// The last chunk, and the trailer section. RFC 9112 §7.1
    pub fn put_end(&mut self, trailers: &[u8]) {
        if self.marked == Marked::Chunked {
            self.pending.extend_from_slice(b"0\r\n");
            self.pending.extend_from_slice(trailers);
            self.pending.extend_from_slice(b"\r\n");
        }
    }

    /// Sends what is waiting when some was sent before: else the beginning
    /// can still be another.
    pub fn flush_begun(&mut self) -> io::Result<()> {
        if self.begun { self.flush() } else { Ok(()) }
    }

    /// Sends all that is waiting.
    pub fn flush(&mut self) -> io::Result<()> {
        self.begun |= !self.is_empty();
        (&*self.socket).write_all(&self.pending[self.at..])?;
        self.at = self.pending.len();
        Ok(())
    }

    /// Sends what the socket takes at once.
    pub fn flush_some(&mut self) -> io::Result<()> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        self.begun |= !self.is_empty();
        while !self.is_empty() {
            let rest = &self.pending[self.at..];
            let fd = self.socket.as_raw_fd();
            // SAFETY: the pointer and the length are those of a live slice.
            let sent = unsafe {
                libc::send(fd, rest.as_ptr().cast(), rest.len(), flags)
            };
            match usize::try_from(sent) {
                Ok(sent) => self.at += sent,
                Err(_) => match io::Error::last_os_error() {
                    e if is_timeout(&e) => return Ok(()),
                    e if e.kind() == ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
        Ok(())
    }
}

/// Which side a copy failed on.
#[derive(Debug)]
pub enum Broken {
    Source(io::Error),
    Receiver(io::Error),
}

/// Copies a body to its end, each piece as it comes.
pub fn copy(
    body: &mut Body<Wire>,
    sender: &mut Sender,
    fields: &Fields,
) -> Result<(), Broken> {
    let long = body.passes().is_some_and(|left| left >= SPLICED);
    if sender.marked != Marked::Chunked && long {
        // what was read ahead goes first, so that the rest is in the kernel
        let ahead = body.source().buffered().len() as u64;
        copy_pieces(body, sender, ahead)?;
        sender.flush().map_err(Broken::Receiver)?;
        splice(body, sender)?;
    }
    copy_pieces(body, sender, u64::MAX)?;
    sender.put_end(&trailers(&body.trailers, fields));
    sender.flush().map_err(Broken::Receiver)
}

/// What is there already leaves in one write; nothing waits for what is not.
fn copy_pieces(
    body: &mut Body<Wire>,
    sender: &mut Sender,
    mut most: u64,
) -> Result<(), Broken> {
    let piece = body.passes().unwrap_or(u64::MAX).min(PIECE as u64);
    let mut piece = vec![0; piece as usize];
    while most > 0 && !body.is_at_end() {
        if !body.is_more_here() || sender.waiting() >= PIECE {
            sender.flush().map_err(Broken::Receiver)?;
        }
        let room = piece.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let count = match body.read(&mut piece[..room]) {
            Ok(count) => count,
            Err(error) => {
                sender.flush_begun().map_err(Broken::Receiver)?;
                return Err(Broken::Source(error));
            }
        };
        sender.put(&piece[..count]);
        most -= count as u64;
    }
    Ok(())
}

/// From socket to socket inside the kernel: splice(2). It ends at the body's
/// end, by its length or the connection's close.
fn splice(body: &mut Body<Wire>, sender: &mut Sender) -> Result<(), Broken> {
    let mut pipe = Pipe::new().map_err(Broken::Receiver)?;
    while let Some(left) = body.passes() {
        let from = &*body.source().socket;
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let count = pipe.fill(from, most, 0).map_err(Broken::Source)?;
        body.passed(count as u64).map_err(Broken::Source)?;
        while pipe.held > 0 {
            pipe.drain(&sender.socket, 0).map_err(Broken::Receiver)?;
        }
        sender.sent += count as u64;
    }
    Ok(())
}

/// A pipe: what splice(2) wants between two sockets.
pub struct Pipe {
    into: OwnedFd,
    out_of: OwnedFd,
    /// Octets in it.
    pub held: usize,
}

impl Pipe {
    pub fn new() -> io::Result<Pipe> {
        let mut ends = [0; 2];
        // SAFETY: the call fills in two descriptors, which nobody else has.
        let (out_of, into) = unsafe {
            check(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC))?;
            (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
        };
        // SAFETY: an open pipe and a number. A smaller pipe is slower only.
        unsafe { libc::fcntl(into.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE) };
        Ok(Pipe { into, out_of, held: 0 })
    }

    /// Moves what a socket has, at most so much; 0 at its end. Whether this
    /// waits is the flags' matter, here and in `drain`.
    pub fn fill(
        &mut self,
        from: &TcpStream,
        most: usize,
        flags: u32,
    ) -> io::Result<usize> {
        let most = most.min(PIPE as usize);
        let count = move_bytes(from, &self.into, most, flags)?;
        self.held += count;
        Ok(count)
    }

    /// Moves what the pipe holds on to a socket.
    pub fn drain(&mut self, to: &TcpStream, flags: u32) -> io::Result<()> {
        self.held -= move_bytes(&self.out_of, to, self.held, flags)?;
        Ok(())
    }
}

fn move_bytes(
    from: &impl AsRawFd,
    to: &impl AsRawFd,
    most: usize,
    flags: u32,
) -> io::Result<usize> {
    let none = std::ptr::null_mut();
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    loop {
        // SAFETY: two open descriptors, one a pipe's, and no offsets.
        let count = unsafe { libc::splice(from, none, to, none, most, flags) };
        match usize::try_from(count) {
            Ok(count) => return Ok(count),
            Err(_) => match io::Error::last_os_error() {
                e if e.kind() == ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}
