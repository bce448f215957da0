//! TLS, by the system's OpenSSL: confidentiality, integrity and end-point
//! authentication for a TCP connection. RFC 8446, RFC 5246; KR 8.6
//!
//! Cryptography is a well-kept library's business, so this file only holds
//! its objects (one owner each), waits for the socket, and says in words
//! what was wrong. The socket under a `Tls` does not block: each read,
//! write and handshake waits in poll(2) as long as the socket's own time
//! limit allows *in all*, however slowly the other side's bytes drip.
//!
//! Read `Tls::run`, then `peer.rs` for both sides' handshakes and `verify.rs`
//! for what was wrong with a certificate; `openssl.rs` lists the functions.

mod openssl;
mod peer;
mod verify;

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, is_timeout};
use crate::net;
use openssl::{OpenSsl, Ssl, SslCtx, openssl};
pub use peer::{Identity, Trust, connect};

/// What is taken from the socket at a time: several records.
const READ_AHEAD: usize = 64 * 1024;

/// The owner of an SSL_CTX: what connections have in common.
struct Context {
    library: &'static OpenSsl,
    context: NonNull<SslCtx>,
}

// SAFETY: OpenSSL counts references to an SSL_CTX and locks what changes in
// it; after it is set up, any thread may make connections of it.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    fn new(server: bool) -> Result<Context, Error> {
        let library = openssl().map_err(|why| Error::protocol("TLS", why))?;
        // SAFETY: the calls take no pointers but each other's; the new
        // context is null or ours alone.
        let context = unsafe {
            let method = match server {
                true => (library.TLS_server_method)(),
                false => (library.TLS_client_method)(),
            };
            (library.SSL_CTX_new)(method)
        };
        let Some(context) = NonNull::new(context) else {
            return Err(Error::protocol("TLS", reason(library)));
        };
        let min = openssl::TLS1_2_VERSION;
        // SAFETY: the context is alive; the rest are numbers.
        unsafe {
            let (ctrl, raw) = (library.SSL_CTX_ctrl, context.as_ptr());
            ctrl(raw, openssl::CTRL_SET_MIN_PROTO_VERSION, min, null_mut());
            ctrl(raw, openssl::CTRL_MODE, openssl::MODES, null_mut());
            ctrl(raw, openssl::CTRL_SET_READ_AHEAD, 1, null_mut());
            let set = library.SSL_CTX_set_default_read_buffer_len;
            set(raw, READ_AHEAD);
            let options = openssl::OP_NO_RENEGOTIATION;
            (library.SSL_CTX_set_options)(raw, options);
        }
        Ok(Context { library, context })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context is ours, and nobody has it after this.
        unsafe { (self.library.SSL_CTX_free)(self.context.as_ptr()) };
    }
}

/// A connection through TLS: bytes in, bytes out. It reads 0 only after the
/// other side's close_notify; a stream that just ends is `UnexpectedEof`,
/// since whoever can cut a wire could have cut it. RFC 8446 §6.1
pub struct Tls {
    library: &'static OpenSsl,
    ssl: NonNull<Ssl>,
    socket: Arc<TcpStream>,
    serves: bool,
    /// After a fault OpenSSL must not be asked again: neither way, or (when
    /// the system could not send) to write.
    no_reads: Cell<bool>,
    no_writes: Cell<bool>,
}

// SAFETY: one thread at a time may use an SSL, whichever it is. (The raw
// pointer keeps `Tls` from being shared: it is not Sync.)
unsafe impl Send for Tls {}

impl Tls {
    fn new(
        context: &Context,
        socket: &Arc<TcpStream>,
        serves: bool,
    ) -> Result<Tls, Error> {
        let library = context.library;
        // SAFETY: the context is alive; the new SSL is null or ours alone,
        // and holds a reference to the context.
        let ssl = unsafe { (library.SSL_new)(context.context.as_ptr()) };
        let Some(ssl) = NonNull::new(ssl) else {
            return Err(Error::protocol("TLS", reason(library)));
        };
        let (no_reads, no_writes) = (Cell::new(false), Cell::new(false));
        let socket = socket.clone();
        let tls = Tls { library, ssl, socket, serves, no_reads, no_writes };
        let doing = |source| Error::Io { doing: "TLS".into(), source };
        tls.socket.set_nonblocking(true).map_err(doing)?;
        // SAFETY: the SSL is alive, and so is the descriptor as long as it:
        // `tls` owns both. OpenSSL does not close it.
        unsafe { (library.SSL_set_fd)(ssl.as_ptr(), tls.socket.as_raw_fd()) };
        Ok(tls)
    }

    /// Runs one call of OpenSSL's to its end, waiting for the socket as long
    /// as it takes, at most `limit`. 0: the other side has closed.
    fn run(
        &self,
        limit: Option<Duration>,
        mut call: impl FnMut() -> c_int,
    ) -> io::Result<usize> {
        let mut deadline = None;
        loop {
            // SAFETY: it takes nothing, and empties this thread's queue.
            unsafe { (self.library.ERR_clear_error)() };
            let result = call();
            if let Ok(count @ 1..) = usize::try_from(result) {
                return Ok(count);
            }
            let system = io::Error::last_os_error();
            let ssl = self.ssl.as_ptr();
            // SAFETY: the SSL is alive, and this is the thread of the call.
            let events =
                match unsafe { (self.library.SSL_get_error)(ssl, result) } {
                    openssl::ERROR_ZERO_RETURN => return Ok(0),
                    openssl::ERROR_WANT_READ => libc::POLLIN,
                    openssl::ERROR_WANT_WRITE => libc::POLLOUT,
                    error => return Err(self.fault(error, system)),
                };
            let limit = limit.unwrap_or(Duration::MAX);
            let now = Instant::now();
            let end = *deadline.get_or_insert(now.checked_add(limit));
            let left = end.map_or(limit, |end| end.duration_since(now));
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            let fd = self.socket.as_raw_fd();
            net::poll(&mut [libc::pollfd { fd, events, revents: 0 }], left)?;
            if events == libc::POLLIN && self.is_at_end() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Is this a server's side, and has its socket nothing more to give? A
    /// stop of the server looks so: it is to be noticed before OpenSSL does,
    /// which would take the connection for lost, and the last word with it.
    fn is_at_end(&self) -> bool {
        if !self.serves || self.holds_some() {
            return false;
        }
        let mut byte = 0u8;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let fd = self.socket.as_raw_fd();
        // SAFETY: the call writes at most one byte to a byte that is alive.
        unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, flags) == 0 }
    }

    fn fault(&self, error: c_int, system: io::Error) -> io::Error {
        self.no_writes.set(true);
        self.no_reads.set(error == openssl::ERROR_SSL);
        if error != openssl::ERROR_SSL {
            return match system.raw_os_error() {
                None | Some(0) => ErrorKind::UnexpectedEof.into(),
                _ => system,
            };
        }
        match reason(self.library) {
            cut if cut.starts_with("unexpected eof") => {
                ErrorKind::UnexpectedEof.into()
            }
            why => io::Error::new(ErrorKind::InvalidData, in_words(why)),
        }
    }

    /// Reads what there is, once there is something: as many records as have
    /// come, and there is room for.
    pub fn read(&self, out: &mut [u8]) -> io::Result<usize> {
        if self.no_reads.get() || self.is_at_end() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let limit = self.socket.read_timeout()?;
        let mut count = self.run(limit, || self.read_record(out))?;
        while count > 0 && count < out.len() && self.holds_some() {
            match usize::try_from(self.read_record(&mut out[count..])) {
                Ok(more @ 1..) => count += more,
                // whatever it is, the next read will tell
                _ => break,
            }
        }
        Ok(count)
    }

    /// SSL_read, once.
    fn read_record(&self, out: &mut [u8]) -> c_int {
        let most = c_int::try_from(out.len()).unwrap_or(c_int::MAX);
        let (start, ssl) = (out.as_mut_ptr().cast(), self.ssl.as_ptr());
        // SAFETY: `most` bytes at `start` are the live slice's.
        unsafe { (self.library.SSL_read)(ssl, start, most) }
    }

    /// Has OpenSSL taken more from the socket than it has given us?
    fn holds_some(&self) -> bool {
        // SAFETY: the SSL is alive.
        unsafe { (self.library.SSL_has_pending)(self.ssl.as_ptr()) != 0 }
    }

    /// Sends all of it.
    pub fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        let (write, ssl) = (self.library.SSL_write, self.ssl.as_ptr());
        let limit = self.socket.write_timeout()?;
        while !bytes.is_empty() {
            if self.no_writes.get() {
                return Err(ErrorKind::BrokenPipe.into());
            }
            let most = c_int::try_from(bytes.len()).unwrap_or(c_int::MAX);
            let start = bytes.as_ptr().cast();
            // SAFETY: `most` bytes at `start` are the live slice's.
            match self.run(limit, || unsafe { write(ssl, start, most) })? {
                0 => return Err(ErrorKind::BrokenPipe.into()),
                count => bytes = &bytes[count..],
            }
        }
        Ok(())
    }

    /// More than 0: there is something to read; 0: the other side has
    /// closed; -1: neither. Does not wait.
    pub fn peek(&self) -> isize {
        let mut byte = 0u8;
        let (library, ssl) = (self.library, self.ssl.as_ptr());
        // SAFETY: the queue is this thread's; one byte goes to one that is
        // alive; and the error is asked for by the thread of the call.
        unsafe {
            (library.ERR_clear_error)();
            let result = (library.SSL_peek)(ssl, (&raw mut byte).cast(), 1);
            match (library.SSL_get_error)(ssl, result) {
                0 => 1,
                openssl::ERROR_WANT_READ | openssl::ERROR_WANT_WRITE => -1,
                _ => 0,
            }
        }
    }

    /// Says that we send no more: close_notify. RFC 8446 §6.1
    pub fn close(&self) {
        if !self.no_writes.replace(true) {
            // SAFETY: the SSL is alive and has had no fatal error.
            unsafe { (self.library.SSL_shutdown)(self.ssl.as_ptr()) };
        }
    }

    /// `TLSv1.3, TLS_AES_256_GCM_SHA384`
    pub fn describe(&self) -> String {
        let (library, ssl) = (self.library, self.ssl.as_ptr());
        // SAFETY: the SSL is alive, and the names are constants of OpenSSL.
        let (version, cipher) = unsafe {
            let cipher = (library.SSL_get_current_cipher)(ssl);
            let cipher = (library.SSL_CIPHER_get_name)(cipher);
            (owned((library.SSL_get_version)(ssl)), owned(cipher))
        };
        format!("{version}, {cipher}")
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        self.close();
        // SAFETY: the SSL is ours, and nobody has it after this.
        unsafe { (self.library.SSL_free)(self.ssl.as_ptr()) };
    }
}

/// The margin note on what TLS hides. KR 8.6
pub fn observer(of: &str) -> String {
    format!(
        "from here on an observer sees addresses, ports, the server's name \
         (SNI), the sizes and the times, but nothing of {of}, and cannot \
         change a byte unnoticed. KR 8.6, RFC 8446 §1"
    )
}

/// What OpenSSL says of the last fault of this thread.
fn reason(library: &OpenSsl) -> String {
    // SAFETY: the first takes nothing; the second answers with a constant
    // string or null for any number.
    unsafe {
        let code = (library.ERR_get_error)();
        owned((library.ERR_reason_error_string)(code))
    }
}

/// The commonest of OpenSSL's reasons, as a reader would put them.
fn in_words(reason: String) -> String {
    match reason.as_str() {
        "wrong version number" | "packet length too long" => {
            "the other side speaks no TLS".into()
        }
        "unsupported protocol" | "tlsv1 alert protocol version" => {
            "the other side speaks no TLS 1.2 or newer".into()
        }
        "http request" => "a request in clear came, where TLS is spoken".into(),
        "" => "a fault without a name".into(),
        _ => reason,
    }
}

/// # Safety
/// `text` is null or a C string that lives as long as this call.
unsafe fn owned(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn c_string(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Usage(format!("a NUL in {text:?}")))
}

fn unreadable(option: &str, file: &str, library: &OpenSsl) -> Error {
    let why = match std::fs::File::open(file) {
        Err(error) => crate::error::reason(&error),
        Ok(_) => match reason(library).as_str() {
            "" | "no start line" | "unsupported" => {
                "what is wanted is not in it (in PEM form)".into()
            }
            why => why.to_string(),
        },
    };
    Error::protocol(format!("{option} {file}"), why)
}

/// A failed handshake: whose fault was it?
fn told(doing: String, source: io::Error) -> Error {
    match source.kind() {
        ErrorKind::InvalidData => Error::protocol(doing, source),
        ErrorKind::UnexpectedEof => {
            Error::protocol(doing, "the peer broke off the handshake")
        }
        _ if is_timeout(&source) => {
            Error::protocol(doing, "the handshake did not end in time")
        }
        _ => Error::Io { doing, source },
    }
}
