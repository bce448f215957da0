//! Who is at the ends: whom a client trusts, what a server shows, and the
//! handshakes of both.

use std::ffi::c_void;
use std::net::{IpAddr, TcpStream};
use std::ptr::null;
use std::sync::Arc;

use super::openssl;
use super::{Context, Tls, c_string, told, unreadable};
use crate::args::{Args, text};
use crate::error::Error;
use crate::output::say;
use crate::wire::Wire;

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
        // SAFETY: the context is alive.
        unsafe { (library.SSL_CTX_set_default_verify_paths)(raw) };
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
    let tls = Tls::new(&context, socket, false)?;
    let host = host.trim_matches(['[', ']']).trim_end_matches('.');
    // (OpenSSL takes no name for any, and .name for any below it)
    if host.is_empty() || host.starts_with('.') {
        return Err(Error::Usage(format!("'{host}' is no host's name")));
    }
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
                (library.SSL_set_hostflags)(ssl, openssl::HOST_FLAGS);
                (library.SSL_set1_host)(ssl, name.as_ptr())
            }
        }
    };
    if set != 1 {
        return Err(Error::Usage(format!("'{host}' cannot be verified")));
    }
    let limit = socket.read_timeout().ok().flatten();
    // SAFETY: the connection is alive.
    let shaken = tls.run(limit, || unsafe { (library.SSL_connect)(ssl) });
    let doing = || format!("TLS with {host}");
    shaken.map_err(|source| told(doing(), source))?;
    // OpenSSL has verified chain and name, and goes on whatever came of it,
    // so that the certificate's names can be told. Nothing was sent yet.
    match tls.unverified() {
        Some(why) if !trust.insecure => Err(Error::protocol(doing(), why)),
        _ => Ok(tls),
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
            let fault = unreadable("--tls-key", &key, library);
            return Err(match key == certificate {
                true => Error::protocol(
                    format!("--tls-cert {certificate}"),
                    "there is no private key in it: --tls-key names its file",
                ),
                false => fault,
            });
        }
        Ok(Some(Identity(context)))
    }

    /// A server's handshake. The socket's own read time limit is its limit.
    pub fn accept(&self, socket: &Arc<TcpStream>) -> Result<Tls, Error> {
        let tls = Tls::new(&self.0, socket, true)?;
        let limit = socket.read_timeout().ok().flatten();
        let (library, ssl) = (tls.library, tls.ssl.as_ptr());
        // SAFETY: the connection is alive.
        match tls.run(limit, || unsafe { (library.SSL_accept)(ssl) }) {
            Ok(_) => Ok(tls),
            Err(source) => Err(told("TLS handshake".into(), source)),
        }
    }
}
