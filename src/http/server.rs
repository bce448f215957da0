//! `web-server`: serves the files of a directory. KR 2.2, lab "Web Server".
//!
//! The lab's steps: (i) create a connection socket when contacted by a
//! client, (ii) receive the HTTP request from it, (iii) parse the request to
//! find the file, (iv) get the file, (v) create a response of the file
//! preceded by header lines, (vi) send it over the connection. A file that
//! is not there is answered with "404 Not Found".
//!
//! ```text
//! $ topdown web-server
//! topdown web-server: listening on 127.0.0.1:6789
//! 127.0.0.1 - - [21/Nov/2026:09:30:00 +0000] "GET /HelloWorld.html HTTP/1.1" 200 498 "-" "curl/8.14"
//! ```
//!
//! Read `run`, `serve`, `Session::request`; then `answer.rs` for (iii) to
//! (v), `reply.rs` for (vi).
//!
//! Not here: content that programs make (CGI), compression, virtual hosts,
//! HTTP/2. Each is a subject of its own and none is the book's.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;

use super::answer::{Asked, Site};
use super::bad::Bad;
use super::body::{Body, Framing, keeps_open};
use super::explain;
use super::fetch::Fetch;
use super::fields::Span;
use super::files::Root;
use super::head::NoHead;
use super::limits::Limits;
use super::log;
use super::message::{Request, Version};
use super::reply::{Content, Reply, refuse};
use super::store::Store;
use crate::Tool;
use crate::args::{self, Args};
use crate::connections::{Connection, Connections, MAX_CONNECTIONS};
use crate::error::{Doing, Error, Outcome, is_timeout};
use crate::net;
use crate::output::say;
use crate::tls::{self, Identity};
use crate::trace::{Party, Trace};
use crate::wire::Wire;

pub static TOOL: Tool = Tool {
    name: "web-server",
    section: "KR 2.2",
    summary: "serve the files of a directory over HTTP",
    help: "\
usage: topdown web-server [-evq] [-l [ADDR:]PORT] [--once | --sequential]
                          [OPTION]... [ROOT]

Serves the files beneath ROOT (default: www) over HTTP/1.1.

  -l, --listen [ADDR:]PORT   where to listen (default: 127.0.0.1:6789)
      --once                 answer one request, then exit (the lab)
      --sequential           serve one connection at a time
      --no-listing           no page for a directory without index.html
      --dotfiles             serve files whose names begin with a dot
      --echo                 /echo answers with the request as received
      --fetch                /fetch?url=URL gets a page, saves and sends it
      --max-connections N    answer 503 to more (default: 4096)
      --idle SECONDS         end a connection idle for so long (default: 60)
      --header-timeout SECONDS
                             for the whole header (default: 10)
      --body-timeout SECONDS
                             for the whole request body (default: 60)
      --send-timeout SECONDS
                             for a client that does not read (default: 30)
      --tls-cert FILE        serve https: the certificate chain (PEM)
      --tls-key FILE         its private key, if not in the same file
  -q, --quiet                no access log on standard output
  -v, --verbose              print the dialogue on standard error
  -e, --explain              the same, each line with its reason
      --diagram FILE.svg     draw the run as a space-time diagram
  -h, --help                 print this
",
    run,
};

/// The lab's port.
const PORT: u16 = 6789;

/// A request's body, where one is taken at all.
const MAX_BODY: u64 = 1 << 20;

/// A response up to here fits the socket's buffers.
const AT_ONCE: u64 = 16 * 1024;

/// All that the threads share.
struct Server {
    site: Site,
    limits: Limits,
    once: bool,
    sequential: bool,
    quiet: bool,
    /// For `https`.
    identity: Option<Identity>,
    trace: Trace,
}

fn run(mut args: Args) -> Result<Outcome, Error> {
    let listen = args.value("--listen", net::listen_address)?;
    let limit = args::number("connections", 1..=1_000_000);
    let limit = args.value("--max-connections", limit)?;
    let address = listen.unwrap_or(([127, 0, 0, 1], PORT).into());
    let server = Arc::new(Server::from_args(args, address)?);

    let server_socket = net::listen(address)?;
    let prepared = server.limits.apply(&server_socket, server.sequential);
    prepared.doing(|| "prepare the socket")?;
    let address = server_socket.local_addr().doing(|| "listen")?;
    let limit = limit.unwrap_or(MAX_CONNECTIONS);
    let connections = Connections::new(limit, 1, &server_socket)?;
    say(format!("topdown web-server: listening on {address}"));
    server.trace.fact(|| format!("the welcoming socket is {address}"));

    if server.once || server.sequential {
        let once = server.once;
        connections.serve_in_turn(&server_socket, once, |c| serve(&server, c));
    } else {
        let (quiet, in_clear) = (server.quiet, server.identity.is_none());
        connections.serve_all(
            Arc::new(server_socket),
            move |connection| _ = serve(&server, connection),
            move |socket| match in_clear {
                true => refuse(socket, quiet),
                false => drop(socket),
            },
        )?;
    }
    Ok(Outcome::Yes)
}

impl Server {
    fn from_args(mut args: Args, address: SocketAddr) -> Result<Server, Error> {
        let limits = Limits::from_args(&mut args)?;
        let trace = Trace::from_args(&mut args, Party::Server)?;
        let (once, quiet) = (args.flag("--once"), args.flag("--quiet"));
        let sequential = args.flag("--sequential");
        if once && sequential {
            let fault = "--once and --sequential exclude each other";
            return Err(Error::Usage(fault.into()));
        }
        let dotfiles = args.flag("--dotfiles");
        let (echo, fetch) = (args.flag("--echo"), args.flag("--fetch"));
        let identity = Identity::from_args(&mut args)?;
        let listing = !args.flag("--no-listing");
        let path = args.optional_operand().unwrap_or_else(|| "www".into());
        args.finish()?;
        let public_only = !address.ip().is_loopback();
        let site = Site {
            root: Root::open(&path, dotfiles)?,
            store: Store::default(),
            dotfiles,
            listing,
            echo,
            fetch: fetch.then(|| Fetch::new(&path, public_only)),
        };
        let server =
            Server { site, limits, once, sequential, quiet, identity, trace };
        Ok(server)
    }
}

/// (i) has happened: one connection, from its first request to its end.
/// False when not even one request came.
fn serve(server: &Server, connection: Connection) -> bool {
    let client = connection.client;
    server.trace.fact(|| format!("a connection socket for {client}"));
    let socket = connection.socket.clone();
    let mut wire = Wire::new(socket, Some(server.limits.idle));
    if let Some(identity) = &server.identity {
        if let Err(error) = handshake(server, identity, &mut wire) {
            server.trace.fact(|| format!("{client}: {error}"));
            wire.close_gently();
            return false;
        }
    }
    let mut session = Session {
        server,
        connection,
        wire,
        path: Vec::new(),
        body: Vec::new(),
        reply: Reply::new(),
        served: 0,
    };
    let (mut head, mut spans) = (Vec::new(), Vec::new());
    let next = loop {
        match session.request(&mut head, &mut spans) {
            Next::Request if !server.once => {}
            next => break next,
        }
    };
    let served = session.served > 0;
    server.trace.fact(|| format!("the connection with {client} ends"));
    if matches!(next, Next::CloseGently) {
        session.wire.close_gently();
    }
    served
}

/// TLS comes before the first request. It has a header's time.
fn handshake(
    server: &Server,
    identity: &Identity,
    wire: &mut Wire,
) -> Result<(), Error> {
    let limits = &server.limits;
    wire.limit_read_to(limits.header).doing(|| "prepare the socket")?;
    wire.accept_tls(identity)?;
    wire.limit_read_to(limits.idle).doing(|| "prepare the socket")?;
    if let Some(tls) = wire.tls() {
        server.trace.fact(|| tls.describe());
        server.trace.why(|| tls::observer("requests and responses"));
    }
    Ok(())
}

/// What one connection's thread works with.
struct Session<'a> {
    server: &'a Server,
    connection: Connection,
    wire: Wire,
    path: Vec<u8>,
    body: Vec<u8>,
    reply: Reply,
    served: u64,
}

/// How a connection goes on.
enum Next {
    Request,
    Close,
    /// The client may still be sending: let it see our answer.
    CloseGently,
}

impl Session<'_> {
    /// (ii) to (vi): one request, one response. `head` and `spans` are room
    /// for the request's head and for where its fields stand.
    fn request(&mut self, head: &mut Vec<u8>, spans: &mut Vec<Span>) -> Next {
        let server = self.server;
        let may_wait = self.connection.set_idle(true);
        if !may_wait && self.wire.buffered().is_empty() {
            return Next::Close;
        }
        // (ii) receive the HTTP request
        let limit = server.limits.header;
        let received = self.wire.read_head(head, limit, true);
        self.connection.set_idle(false);
        match received {
            Ok(()) => {}
            Err(NoHead::Closed | NoHead::Idle | NoHead::Broken(_)) => {
                return Next::Close;
            }
            Err(NoHead::Slow) => return self.refuse(head, Bad::TooSlow, false),
            Err(NoHead::Bad(bad)) => return self.refuse(head, bad, false),
        }
        let number = self.connection.number;
        explain::head(&server.trace, Party::Client, number, head, 0);
        // (iii) parse the request
        let request = match Request::parse(head, spans) {
            Ok(request) => request,
            Err(bad) => return self.refuse(head, bad, false),
        };
        let head_only = request.method == "HEAD";
        match self.receive_body(&request) {
            Ok(rest) => self.respond(&request, head, rest),
            Err(Some(bad)) => self.refuse(head, bad, head_only),
            Err(None) => Next::Close,
        }
    }

    /// Reads the body, to its end: the next request begins behind it. One
    /// that nobody wants is not even asked for when the client waits for
    /// "100 Continue". Says whether some of the body may still come; `None`:
    /// the connection is gone.
    fn receive_body(&mut self, request: &Request) -> Result<bool, Option<Bad>> {
        self.body.clear();
        let framing = Framing::of_request(request)?;
        let expects = request.fields.get("expect");
        let wanted = self.server.site.wants_body(request);
        match framing {
            Framing::Empty => return Ok(false),
            Framing::Length(length) if length > MAX_BODY => {
                return Err(Some(Bad::TooLarge));
            }
            _ => {}
        }
        match expects {
            // "A server that receives a 100-continue expectation in an
            // HTTP/1.0 request MUST ignore that expectation." RFC 9110
            // §10.1.1
            Some(_) if request.version == Version::Http10 => {}
            Some(e) if !e.eq_ignore_ascii_case(b"100-continue") => {
                return Err(Some(Bad::Expectation));
            }
            Some(_) if !wanted => return Ok(true),
            Some(_) if self.wire.buffered().is_empty() => {
                let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
                let number = self.connection.number;
                let trace = &self.server.trace;
                explain::head(trace, Party::Server, number, interim, 0);
                self.wire.send(interim, b"").map_err(|_| None)?;
            }
            _ => {}
        }
        self.wire.set_deadline(Some(self.server.limits.body));
        let mut body = Body::new(&mut self.wire, framing).take(MAX_BODY + 1);
        let read = match wanted {
            true => body.read_to_end(&mut self.body).map(|n| n as u64),
            false => discard(&mut body),
        };
        self.wire.set_deadline(None);
        match read {
            Ok(length) if length > MAX_BODY => Err(Some(Bad::TooLarge)),
            Ok(_) => Ok(false),
            Err(e) if is_timeout(&e) => Err(Some(Bad::TooSlow)),
            Err(e) => Err(Bad::from_io(&e)),
        }
    }

    /// (iv) get the file, (v) make the response, (vi) send it.
    fn respond(&mut self, request: &Request, head: &[u8], rest: bool) -> Next {
        let server = self.server;
        let trace = &server.trace;
        let asked = Asked { request, head, body: &self.body, trace };
        server.site.answer(&asked, &mut self.path, &mut self.reply);
        let stays = keeps_open(request.version, &request.fields);
        let stopping = !self.connection.set_idle(false);
        self.reply.close = !stays || rest || stopping || server.once;
        self.reply.end_head(request.version == Version::Http10);
        trace.why(|| explain::connection(request, !self.reply.close).into());
        let head_only = request.method == "HEAD";
        match self.send(head, Some(request), head_only) {
            Next::Close if rest => Next::CloseGently,
            next => next,
        }
    }

    /// Answers a request that breaks a rule, and ends the connection: what
    /// comes next on it could be anything.
    fn refuse(&mut self, head: &[u8], bad: Bad, head_only: bool) -> Next {
        let status = bad.status();
        self.server.trace.why(|| format!("{status}: {bad}"));
        self.reply.page(status, &format!("{bad}."));
        self.reply.close = true;
        self.reply.end_head(false);
        self.send(head, None, head_only)
    }

    fn send(
        &mut self,
        head: &[u8],
        request: Option<&Request>,
        head_only: bool,
    ) -> Next {
        let server = self.server;
        let number = self.connection.number;
        let reply = &mut self.reply;
        let content = if head_only { 0 } else { reply.content.length() };
        let (trace, party) = (&server.trace, Party::Server);
        explain::head(trace, party, number, &reply.head, content);
        let sent = reply.send(&self.wire, head_only);
        self.served += 1;
        if !server.quiet {
            let line = head.split(|b| matches!(b, b'\r' | b'\n')).next();
            let line = line.unwrap_or_default();
            let fields = request.map(|r| &r.fields);
            let client = self.connection.client.ip();
            log::access(client, line, fields, reply.status, reply.sent, "");
        }
        let (close, octets) = (reply.close, reply.sent);
        // what the reply holds, such as an open file, is not kept waiting
        reply.content = Content::Empty;
        if self.body.capacity() > 0 {
            self.body = Vec::new();
        }
        match sent {
            Err(_) => Next::Close,
            Ok(()) if !close => Next::Request,
            // a small answer is with the client before it could say more
            Ok(()) if request.is_some() && octets < AT_ONCE => {
                match self.wire.has_unread() {
                    true => Next::CloseGently,
                    false => Next::Close,
                }
            }
            Ok(()) => Next::CloseGently,
        }
    }
}

/// Reads to the end for nothing; answers how much that was. In a frame of its
/// own, whose buffer an idle connection's stack does without.
#[inline(never)]
fn discard(body: &mut impl Read) -> io::Result<u64> {
    let mut buffer = [0; 4096];
    let mut length = 0;
    loop {
        match body.read(&mut buffer)? {
            0 => return Ok(length),
            count => length += count as u64,
        }
    }
}
