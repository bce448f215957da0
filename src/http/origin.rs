//! The client's side of a connection to an origin server: open it, through a
//! proxy's tunnel and with TLS where the URL says `https`, send a request,
//! read up to the end of the response's head. The web client, the proxy and
//! the web server's `/fetch` share it.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::bad::Bad;
use super::body::{Framing, keeps_open};
use super::explain;
use super::head::NoHead;
use super::message::Response;
use super::reply::reason_phrase;
use super::url::Url;
use crate::base64;
use crate::error::{Doing, Error, is_gone};
use crate::net;
use crate::tls::{self, Trust};
use crate::trace::{Party, Trace};
use crate::wire::Wire;

/// More interim answers than this to one request are a fault.
const MAX_INTERIM: usize = 32;

/// Opens a connection: the three-way handshake of KR 3.5.6. `patience` is
/// the limit of this and of every later wait.
pub fn connect(
    addresses: &[SocketAddr],
    patience: Duration,
    trace: &Trace,
) -> Result<Wire, Error> {
    trace.message(trace.asker(), || "SYN: connection request".into());
    let socket = net::connect(addresses, 0, patience)?;
    trace.message(Party::Server, || "SYN, ACK: connection granted".into());
    trace.fact(|| sockets(&socket));
    let patience = Some(patience);
    let prepare = || -> io::Result<()> {
        socket.set_read_timeout(patience)?;
        socket.set_write_timeout(patience)?;
        // A request is one write: nothing to wait for. RFC 9293 §3.7.4
        socket.set_nodelay(true)
    };
    prepare().doing(|| "prepare the socket")?;
    Ok(Wire::new(Arc::new(socket), patience))
}

fn sockets(socket: &TcpStream) -> String {
    match (socket.local_addr(), socket.peer_addr()) {
        (Ok(local), Ok(peer)) => {
            format!("connected: {local} to {peer} (the 4-tuple of KR 3.2)")
        }
        _ => "connected".into(),
    }
}

/// TLS over a connection that leads to the host of `url`. Who watches the
/// wire now sees who speaks to whom, when and how much, and no more.
pub fn secure(
    wire: &mut Wire,
    url: &Url,
    trust: &Trust,
    trace: &Trace,
) -> Result<(), Error> {
    trace.message(trace.asker(), || "TLS: client hello".into());
    wire.start_tls(trust, &url.host)?;
    trust.warn(wire, &url.host);
    trace.message(Party::Server, || "TLS: server hello, finished".into());
    if let Some(tls) = wire.tls() {
        trace.fact(|| tls.with(&url.host));
        trace.why(|| tls::observer("request and response"));
    }
    Ok(())
}

/// Asks a proxy for a tunnel to the host of `url`. RFC 9110 §9.3.6
pub fn tunnel(
    wire: &mut Wire,
    url: &Url,
    proxy: &Url,
    patience: Duration,
    trace: &Trace,
) -> Result<(), Error> {
    let to = format!("{}:{}", url.host, url.port);
    let mut head = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
    if let Some(user) = &proxy.userinfo {
        let user = base64::encode(user.as_bytes());
        head.push_str(&format!("Proxy-Authorization: Basic {user}\r\n"));
    }
    head.push_str("\r\n");
    send(wire, head.as_bytes(), b"", trace, 0)?;
    let mut head = Vec::new();
    read_head(wire, "CONNECT", &mut head, patience, (trace, 0), |_| ())?;
    let mut spans = Vec::new();
    let response = Response::parse(&mut head, &mut spans);
    match response.map(|response| response.status) {
        Ok(200..=299) => Ok(()),
        Ok(status) => Err(Error::protocol(
            format!("ask the proxy for a tunnel to {to}"),
            format!("{status} {}", reason_phrase(status)),
        )),
        Err(bad) => Err(Error::protocol("read the response", bad)),
    }
}

/// Sends a request: its head and its body. `number` tells conversations
/// apart.
pub fn send(
    wire: &Wire,
    head: &[u8],
    body: &[u8],
    trace: &Trace,
    number: u64,
) -> Result<(), Error> {
    let content = body.len() as u64;
    explain::head(trace, trace.asker(), number, head, content);
    match wire.send(head, body) {
        // A server that answers early may stop reading: its answer counts.
        Err(e) if is_gone(&e) && !body.is_empty() => Ok(()),
        other => other.doing(|| "send the request"),
    }
}

/// What the head of a response says of what follows.
#[derive(Clone, Copy, Debug)]
pub struct Follows {
    pub framing: Framing,
    /// The connection may be used again after the body.
    pub stays_open: bool,
}

/// Why no response was had, when the connection may be to blame: a kept one
/// that the server closed meanwhile deserves a second try.
pub enum NoResponse {
    /// Not a byte came.
    Silence(Error),
    Fault(Error),
}

impl From<NoResponse> for Error {
    fn from(no_response: NoResponse) -> Error {
        match no_response {
            NoResponse::Silence(error) | NoResponse::Fault(error) => error,
        }
    }
}

/// Reads heads into `head` until one is final: 1xx are only interim, and
/// handed to `interim`. RFC 9110 §15.2
pub fn read_head(
    wire: &mut Wire,
    method: &str,
    head: &mut Vec<u8>,
    patience: Duration,
    (trace, number): (&Trace, u64),
    mut interim: impl FnMut(&Response),
) -> Result<Follows, NoResponse> {
    let fault = |what: &dyn std::fmt::Display| {
        NoResponse::Fault(Error::protocol("read the response", what))
    };
    let mut spans = Vec::new();
    for _ in 0..MAX_INTERIM {
        wire.read_head(head, patience, false).map_err(no_head)?;
        let copy = if trace.is_on() { head.clone() } else { Vec::new() };
        let response =
            Response::parse(head, &mut spans).map_err(|bad| fault(&bad))?;
        let framing = Framing::of_response(method, &response)
            .map_err(|bad| fault(&bad))?;
        explain::head(trace, Party::Server, number, &copy, 0);
        if (100..200).contains(&response.status) {
            if response.status == 101 {
                return Err(fault(&"the server switched protocols unasked"));
            }
            interim(&response);
            continue;
        }
        trace.why(|| explain::framing(&response, framing));
        let stays_open = keeps_open(response.version, &response.fields)
            && framing != Framing::ToClose;
        return Ok(Follows { framing, stays_open });
    }
    Err(fault(&"interim responses without end"))
}

fn no_head(no_head: NoHead) -> NoResponse {
    let doing = "read the response";
    let io = |source: io::Error| Error::Io { doing: doing.into(), source };
    match no_head {
        NoHead::Closed => NoResponse::Silence(Error::protocol(
            doing,
            "the server closed the connection without an answer",
        )),
        NoHead::Broken(e) if e.kind() == ErrorKind::UnexpectedEof => {
            NoResponse::Fault(Error::protocol(
                doing,
                "the server closed the connection in mid-header",
            ))
        }
        NoHead::Broken(e) if e.kind() == ErrorKind::ConnectionReset => {
            NoResponse::Silence(io(e))
        }
        NoHead::Broken(e) => NoResponse::Fault(io(e)),
        NoHead::Idle | NoHead::Slow => {
            NoResponse::Fault(io(ErrorKind::TimedOut.into()))
        }
        NoHead::Bad(bad) => NoResponse::Fault(Error::protocol(doing, bad)),
    }
}

/// A fault while reading a body, told as what it is.
pub fn body_fault(error: io::Error) -> Error {
    let doing = "read the body";
    match Bad::from_io(&error) {
        Some(bad) => Error::protocol(doing, bad),
        None if error.kind() == ErrorKind::UnexpectedEof => {
            Error::protocol(doing, "the connection ended before the body did")
        }
        None => Error::Io { doing: doing.into(), source: error },
    }
}
