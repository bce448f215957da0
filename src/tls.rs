//! TLS, by the system's OpenSSL: confidentiality, integrity and end-point
//! authentication for a TCP connection. RFC 8446, RFC 5246; KR 8.6
//!
//! Cryptography is a well-kept library's business, so this file only holds
//! its objects (one owner each), waits for the socket, and says in words
//! what was wrong. The socket under a `Tls` does not block: each read,
//! write and handshake waits in poll(2) as long as the socket's own time
//! limit allows *in all*, however slowly the other side's bytes drip.
//!
//! Read `Trust`, `connect`, `Tls::run`; `openssl.rs` lists the functions.

mod openssl;

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::os::fd::AsRawFd;
use std::ptr::{NonNull, null, null_mut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::args::{Args, text};
use crate::error::{Error, is_timeout};
use crate::net;
use crate::output::say;
use crate::wire::Wire;
use openssl::{OpenSsl, Ssl, SslCtx, openssl};

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

/// Whom a client believes: the authorities of the system's store and of
/// `--ca-file`; with `--insecure` anybody.
#[derive(Clone, Default)]
pub struct Trust {
    ca_file: Option<String>,
    pub insecure: bool,
}

impl Trust {
    /// Reads `--ca-file` and `--insecure`.
    pub fn from_args(args: &mut Args) -> Result<Trust, Error> {
        let ca_file = args.value("--ca-file", text)?;
        Ok(Trust { ca_file, insecure: args.flag("--insecure") })
    }

    /// The same, but whoever answers will do.
    pub fn anybody(&self) -> Trust {
        Trust { ca_file: self.ca_file.clone(), insecure: true }
    }

    /// Says loudly that nobody was asked to prove who he is.
    pub fn warn(&self, wire: &Wire, host: &str) {
        if self.insecure {
            let why = wire.tls().and_then(Tls::unverified);
            let why = why.unwrap_or_else(|| "nothing was verified".into());
            say(format!(
                "topdown: --insecure: whoever answers as {host} may be \
                 anybody: {why}"
            ));
        }
    }

    fn context(&self) -> Result<Context, Error> {
        let context = Context::new(false)?;
        let (library, raw) = (context.library, context.context.as_ptr());
        let mode = match self.insecure {
            true => openssl::VERIFY_NONE,
            false => openssl::VERIFY_PEER,
        };
        // SAFETY: the context is alive; no callback is given.
        unsafe {
            (library.SSL_CTX_set_default_verify_paths)(raw);
            (library.SSL_CTX_set_verify)(raw, mode, null());
        }
        if let Some(file) = &self.ca_file {
            let name = c_string(file)?;
            let load = library.SSL_CTX_load_verify_locations;
            // SAFETY: the context and the C string are alive.
            if unsafe { load(raw, name.as_ptr(), null()) } != 1 {
                return Err(unreadable("--ca-file", file, library));
            }
        }
        Ok(context)
    }
}

/// A client's handshake over a connection: `host` is sent as the name that
/// is wanted (SNI), and the certificate must be for it. The socket's own
/// read time limit is the handshake's.
pub fn connect(
    trust: &Trust,
    socket: &Arc<TcpStream>,
    host: &str,
) -> Result<Tls, Error> {
    let context = trust.context()?;
    let tls = Tls::new(&context, socket)?;
    let host = host.trim_matches(['[', ']']).trim_end_matches('.');
    let name = c_string(host)?;
    let (library, ssl) = (tls.library, tls.ssl.as_ptr());
    // SAFETY: all pointers are to what is alive; OpenSSL copies the name,
    // though SSL_ctrl's type does not say so.
    let set = unsafe {
        match host.parse::<IpAddr>() {
            Ok(_) => {
                let param = (library.SSL_get0_param)(ssl);
                let set = library.X509_VERIFY_PARAM_set1_ip_asc;
                set(param, name.as_ptr())
            }
            Err(_) => {
                let pointer = name.as_ptr().cast_mut().cast::<c_void>();
                let sni = openssl::CTRL_SET_TLSEXT_HOSTNAME;
                (library.SSL_ctrl)(ssl, sni, 0, pointer);
                (library.SSL_set1_host)(ssl, name.as_ptr())
            }
        }
    };
    if set != 1 {
        return Err(Error::Usage(format!("'{host}' cannot be verified")));
    }
    let limit = socket.read_timeout().ok().flatten();
    // SAFETY: the connection is alive.
    match tls.run(limit, || unsafe { (library.SSL_connect)(ssl) }) {
        Ok(_) => Ok(tls),
        Err(source) => {
            let doing = format!("TLS with {host}");
            Err(match tls.unverified() {
                Some(why) => Error::protocol(doing, why),
                None => told(doing, source),
            })
        }
    }
}

/// A server's certificate and key.
pub struct Identity(Context);

impl Identity {
    /// Reads `--tls-cert` and `--tls-key`, PEM files both; the first may
    /// hold the chain, and the key, too.
    pub fn from_args(args: &mut Args) -> Result<Option<Identity>, Error> {
        let certificate = args.value("--tls-cert", text)?;
        let key = args.value("--tls-key", text)?;
        let Some(certificate) = certificate else {
            return match key {
                Some(_) => {
                    Err(Error::Usage("--tls-key goes with --tls-cert".into()))
                }
                None => Ok(None),
            };
        };
        let key = key.unwrap_or_else(|| certificate.clone());
        let context = Context::new(true)?;
        let (library, raw) = (context.library, context.context.as_ptr());
        let (file, name) = (c_string(&certificate)?, c_string(&key)?);
        let load = library.SSL_CTX_use_certificate_chain_file;
        // SAFETY: the context and the C string are alive.
        if unsafe { load(raw, file.as_ptr()) } != 1 {
            return Err(unreadable("--tls-cert", &certificate, library));
        }
        let load = library.SSL_CTX_use_PrivateKey_file;
        let pem = openssl::FILETYPE_PEM;
        // SAFETY: as above. (It also checks that the two belong together.)
        if unsafe { load(raw, name.as_ptr(), pem) } != 1 {
            return Err(unreadable("--tls-key", &key, library));
        }
        Ok(Some(Identity(context)))
    }

    /// A server's handshake. The socket's own read time limit is its limit.
    pub fn accept(&self, socket: &Arc<TcpStream>) -> Result<Tls, Error> {
        let tls = Tls::new(&self.0, socket)?;
        let limit = socket.read_timeout().ok().flatten();
        let (library, ssl) = (tls.library, tls.ssl.as_ptr());
        // SAFETY: the connection is alive.
        match tls.run(limit, || unsafe { (library.SSL_accept)(ssl) }) {
            Ok(_) => Ok(tls),
            Err(source) => Err(told("TLS handshake".into(), source)),
        }
    }
}

/// A connection through TLS: bytes in, bytes out. It reads 0 only after the
/// other side's close_notify; a stream that just ends is `UnexpectedEof`,
/// since whoever can cut a wire could have cut it. RFC 8446 §6.1
pub struct Tls {
    library: &'static OpenSsl,
    ssl: NonNull<Ssl>,
    socket: Arc<TcpStream>,
    broken: Cell<bool>,
}

// SAFETY: one thread at a time may use an SSL, whichever it is. (The raw
// pointer keeps `Tls` from being shared: it is not Sync.)
unsafe impl Send for Tls {}

impl Tls {
    fn new(context: &Context, socket: &Arc<TcpStream>) -> Result<Tls, Error> {
        let library = context.library;
        // SAFETY: the context is alive; the new SSL is null or ours alone,
        // and holds a reference to the context.
        let ssl = unsafe { (library.SSL_new)(context.context.as_ptr()) };
        let Some(ssl) = NonNull::new(ssl) else {
            return Err(Error::protocol("TLS", reason(library)));
        };
        let (socket, broken) = (socket.clone(), Cell::new(false));
        let tls = Tls { library, ssl, socket, broken };
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
        }
    }

    fn fault(&self, error: c_int, system: io::Error) -> io::Error {
        self.broken.set(true);
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

    /// Reads what there is, once there is something.
    pub fn read(&self, out: &mut [u8]) -> io::Result<usize> {
        if self.broken.get() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let most = c_int::try_from(out.len()).unwrap_or(c_int::MAX);
        let (start, ssl) = (out.as_mut_ptr().cast(), self.ssl.as_ptr());
        let read = self.library.SSL_read;
        let limit = self.socket.read_timeout()?;
        // SAFETY: `most` bytes at `start` are the live slice's.
        self.run(limit, || unsafe { read(ssl, start, most) })
    }

    /// Sends all of it.
    pub fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        let (write, ssl) = (self.library.SSL_write, self.ssl.as_ptr());
        let limit = self.socket.write_timeout()?;
        while !bytes.is_empty() {
            if self.broken.get() {
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
        if !self.broken.replace(true) {
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

    /// Why the other side's certificate is not to be believed, in words;
    /// `None` when it is.
    pub fn unverified(&self) -> Option<String> {
        let (library, ssl) = (self.library, self.ssl.as_ptr());
        // SAFETY: the SSL is alive.
        let result = unsafe { (library.SSL_get_verify_result)(ssl) };
        // the codes of x509_vfy.h
        Some(match result {
            0 => return None,
            9 => "the certificate is not valid yet".into(),
            10 => "the certificate has expired".into(),
            18 => "the certificate is self-signed (--ca-file would trust it)"
                .into(),
            19..=21 => "the certificate is of an unknown authority \
                (--ca-file names one to trust)"
                .into(),
            62 | 64 => match self.certificate_names().join(", ") {
                none if none.is_empty() => {
                    "the certificate is for another name".into()
                }
                names => format!("the certificate is for {names}"),
            },
            code => {
                // SAFETY: it answers with a constant string for any number.
                let text = unsafe {
                    owned((library.X509_verify_cert_error_string)(code))
                };
                format!("the certificate cannot be verified: {text}")
            }
        })
    }

    /// The names and addresses that the other side's certificate is for: its
    /// subjectAltName. RFC 5280 §4.2.1.6
    fn certificate_names(&self) -> Vec<String> {
        let library = self.library;
        let mut found = Vec::new();
        // SAFETY: each object is asked of the one before, checked for null,
        // and freed once; what is copied lies within it.
        unsafe {
            let get = library.SSL_get1_peer_certificate;
            let certificate = get(self.ssl.as_ptr());
            if certificate.is_null() {
                return found;
            }
            let nid = openssl::NID_SUBJECT_ALT_NAME;
            let get = library.X509_get_ext_d2i;
            let names = get(certificate, nid, null_mut(), null_mut());
            (library.X509_free)(certificate);
            if names.is_null() {
                return found;
            }
            for i in 0..(library.OPENSSL_sk_num)(names) {
                let name = (library.OPENSSL_sk_value)(names, i);
                let mut kind = 0;
                let get = library.GENERAL_NAME_get0_value;
                let value = get(name, &raw mut kind);
                if !matches!(kind, openssl::GEN_DNS | openssl::GEN_IPADD) {
                    continue;
                }
                let start = (library.ASN1_STRING_get0_data)(value);
                let length = (library.ASN1_STRING_length)(value);
                let bytes = std::slice::from_raw_parts(start, length as usize);
                found.push(name_or_address(kind, bytes));
            }
            (library.GENERAL_NAMES_free)(names);
        }
        found
    }
}

fn name_or_address(kind: c_int, bytes: &[u8]) -> String {
    if kind == openssl::GEN_IPADD {
        if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
            return Ipv4Addr::from(v4).to_string();
        }
        if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
            return Ipv6Addr::from(v6).to_string();
        }
    }
    String::from_utf8_lossy(bytes).into_owned()
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
            "what answers speaks no TLS there".into()
        }
        "unsupported protocol" | "tlsv1 alert protocol version" => {
            "no TLS 1.2 or newer is spoken there".into()
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
        Ok(_) => match reason(library) {
            none if none.is_empty() => "not a PEM file".into(),
            why => why,
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
