//! `web-proxy`: stands between browsers and servers, and keeps copies.
//! KR 2.2.5; lab "Multi-threaded Web Proxy", with its optional exercises.
//!
//! As the lab has it: the proxy (i) waits for a browser's request, (ii) looks
//! whether it has a copy of the object that may be used, and if so sends
//! that; else it (iii) asks the origin server, as a client, (iv) sends the
//! answer on as it comes, and (v) keeps a copy, if it may. A thread serves
//! each connection.
//!
//! ```text
//! $ topdown web-proxy &
//! topdown web-proxy: listening on 127.0.0.1:8888
//! $ curl http://localhost:8888/www.example.com/
//! $ curl -x localhost:8888 http://www.example.com/
//! ```
//!
//! Read `run`, `Session::request`, then `proxy/answer.rs` (from the store or
//! from the origin?), `proxy/forward.rs` (there and back), `cache.rs` (the
//! rules). `proxy/tunnel.rs` is CONNECT.
//!
//! Not here: HTTP/2, which nobody speaks to a proxy in clear; looking into
//! TLS; X-Forwarded-For, since who asks is nobody's business.

mod access;
mod answer;
mod collapse;
mod counts;
mod deliver;
mod forward;
mod origins;
mod page;
mod relay;
mod share;
mod target;
mod tunnel;

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::bad::Bad;
use super::body::{Body, Framing, keeps_open};
use super::cache::store::Store;
use super::explain;
use super::fields::Span;
use super::limits::Limits;
use super::log;
use super::message::{Request, Version};
use super::reply::Reply;
use super::url::Url;
use super::wire::{NoHead, Wire};
use crate::Tool;
use crate::args::{self, Args, text};
use crate::connections::{Connection, Connections, MAX_CONNECTIONS, contain};
use crate::error::{Doing, Error, Outcome};
use crate::net::{self, Family};
use crate::output::say;
use crate::trace::{Party, Trace};
use access::{Access, Denied};
use collapse::Fetches;
use counts::{Counts, Dealt};
use origins::Origins;
use target::{Goal, Referred, goal};

pub static TOOL: Tool = Tool {
    name: "web-proxy",
    section: "KR 2.2.5",
    summary: "stand between browsers and servers, and keep copies",
    help: "\
usage: topdown web-proxy [-46evq] [-l [ADDR:]PORT] [OPTION]...

Passes requests on to the servers that they are for, and keeps the answers
that may be used again. A browser is given it as its proxy, or asks for
http://localhost:8888/www.example.com/path. http://localhost:8888/ tells
what it did, and why.

  -l, --listen [ADDR:]PORT   listen there (default: 127.0.0.1:8888)
      --allow NET            let clients of this network in (192.0.2.0/24)
      --auth FILE            ask for a user of FILE: lines user:password
      --connect-port PORT    let tunnels go to this port, besides 443
      --cache-size SIZE      keep so much at most (default: 64M)
      --cache-dir DIR        keep it in files there, for the next run too
      --no-cache             keep nothing
  -W, --timeout SECONDS      of every wait for a server (default: 60)
  -4, --ipv4                 ask servers over IPv4 only
  -6, --ipv6                 ask servers over IPv6 only
      --once                 serve one connection and exit
      --max-connections N    more get 503 (default: 4096)
      --idle SECONDS         an idle connection or tunnel ends (default: 60)
      --header-timeout SECONDS
                             for a client's whole header (default: 10)
      --send-timeout SECONDS
                             for a client that does not read (default: 30)
  -q, --quiet                no access log on standard output
  -v, --verbose              print the dialogues on standard error
  -e, --explain              the same, each line with its reason
      --diagram FILE.svg     draw the run as a space-time diagram
  -h, --help                 print this
",
    run,
};

/// The lab's port.
const PORT: u16 = 8888;
const CACHE_SIZE: u64 = 64 << 20;
/// For a server: as long as nginx waits as a proxy.
const PATIENCE: Duration = Duration::from_secs(60);

/// All that the threads share.
pub struct Proxy {
    store: Option<Store>,
    fetches: Fetches,
    origins: Arc<Origins>,
    access: Access,
    referred: Referred,
    counts: Counts,
    /// This process's own name in Via: "a pseudonym". RFC 9110 §7.6.3
    pseudonym: String,
    limits: Limits,
    once: bool,
    quiet: bool,
    trace: Trace,
    /// Threads that validate in the background.
    validating: AtomicUsize,
}

fn run(mut args: Args) -> Result<Outcome, Error> {
    let listen = args.value("--listen", net::listen_address)?;
    let limit = args::number("connections", 1..=1_000_000);
    let limit = args.value("--max-connections", limit)?;
    let address = listen.unwrap_or(([127, 0, 0, 1], PORT).into());
    let options = Options::from_args(args, address)?;

    let server_socket = net::listen(address)?;
    let prepared = options.limits.apply(&server_socket, false);
    prepared.doing(|| "prepare the socket")?;
    let address = server_socket.local_addr().doing(|| "listen")?;
    let limit = limit.unwrap_or(MAX_CONNECTIONS);
    let connections = Connections::new(limit, &server_socket)?;
    let proxy = Arc::new(options.proxy(address)?);
    say(format!("topdown web-proxy: listening on {address}"));
    proxy.trace.fact(|| format!("the welcoming socket is {address}"));

    if proxy.once {
        while let Some((socket, client)) = connections.accept(&server_socket) {
            let entered = connections.enter(socket, client);
            let serve = |c| contain(|| serve(&proxy, c));
            if entered.ok().and_then(serve) == Some(true) {
                break;
            }
        }
    } else {
        let refusing = proxy.clone();
        connections.serve_all(
            Arc::new(server_socket),
            move |connection| _ = serve(&proxy, connection),
            move |socket| refuse(&refusing, socket),
        )?;
    }
    Ok(Outcome::Yes)
}

/// The command line, before there is a socket.
struct Options {
    access: Access,
    store: Option<Store>,
    limits: Limits,
    patience: Duration,
    family: Family,
    trace: Trace,
    once: bool,
    quiet: bool,
}

impl Options {
    fn from_args(
        mut args: Args,
        listen: std::net::SocketAddr,
    ) -> Result<Options, Error> {
        let access = Access::from_args(&mut args, listen)?;
        let size = args.value("--cache-size", args::size)?;
        let directory = args.value("--cache-dir", text)?;
        let no_cache = args.flag("--no-cache");
        if no_cache && (size.is_some() || directory.is_some()) {
            let fault = "--no-cache and a cache exclude each other";
            return Err(Error::Usage(fault.into()));
        }
        let limits = Limits::from_args(&mut args)?;
        let patience = args.value("--timeout", args::seconds)?;
        let family = Family::from_args(&mut args)?;
        let trace = Trace::from_args(&mut args, Party::AsServer)?;
        let (once, quiet) = (args.flag("--once"), args.flag("--quiet"));
        args.finish()?;
        let size = size.unwrap_or(CACHE_SIZE);
        let open = || Store::open(size, directory.as_deref());
        Ok(Options {
            access,
            store: (!no_cache).then(open).transpose()?,
            limits,
            patience: patience.unwrap_or(PATIENCE),
            family,
            trace,
            once,
            quiet,
        })
    }

    fn proxy(self, own: std::net::SocketAddr) -> Result<Proxy, Error> {
        let number = getrandom::u32().unwrap_or(std::process::id());
        Ok(Proxy {
            store: self.store,
            fetches: Fetches::default(),
            origins: Origins::new(self.patience, self.family, own)?,
            access: self.access,
            referred: Referred::default(),
            counts: Counts::default(),
            pseudonym: format!("topdown-{number:08x}"),
            limits: self.limits,
            once: self.once,
            quiet: self.quiet,
            trace: self.trace,
            validating: AtomicUsize::new(0),
        })
    }
}

/// 503, since all places are taken. RFC 9110 §15.6.4
fn refuse(proxy: &Proxy, socket: TcpStream) {
    let client = socket.peer_addr();
    let mut reply = Reply::new();
    reply.page(503, "The proxy has all the connections that it takes.");
    reply.field("Retry-After", 1);
    reply.close = true;
    reply.end_head(false);
    let wire = Wire::new(Arc::new(socket), None);
    let sent = reply.send(&wire, false);
    if let (Ok(client), false) = (client, proxy.quiet) {
        log::access(client.ip(), b"", None, reply.status, reply.sent, "");
    }
    if sent.is_ok() {
        wire.close_gently();
    }
}

/// One connection, from its first request to its end. False when not even
/// one request came.
fn serve(proxy: &Arc<Proxy>, connection: Connection) -> bool {
    let client = connection.client;
    proxy.trace.fact(|| format!("a connection socket for {client}"));
    let socket = connection.socket.clone();
    let wire = Wire::new(socket, Some(proxy.limits.idle));
    let mut session = Session {
        proxy,
        inside: client.ip().to_canonical().is_loopback(),
        connection,
        wire,
        reply: Reply::new(),
        upload: None,
        served: 0,
    };
    let (mut head, mut spans) = (Vec::new(), Vec::new());
    let next = loop {
        match session.request(&mut head, &mut spans) {
            Next::Request if !proxy.once => {}
            next => break next,
        }
    };
    let served = session.served > 0;
    proxy.trace.fact(|| format!("the connection with {client} ends"));
    if matches!(next, Next::CloseGently) {
        session.wire.close_gently();
    }
    served
}

/// What one connection's thread works with.
pub struct Session<'a> {
    proxy: &'a Arc<Proxy>,
    connection: Connection,
    wire: Wire,
    /// The client is on this machine.
    inside: bool,
    /// For the proxy's own words.
    reply: Reply,
    /// The request's body that is just being passed on.
    upload: Option<Arc<Upload>>,
    served: u64,
}

/// How far a request's body has come on its way through.
#[derive(Default)]
pub struct Upload {
    /// The last octet was read from the client.
    all_read: AtomicBool,
    /// The rule that the client broke in it.
    fault: OnceLock<Bad>,
}

/// How a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Request,
    Close,
    /// The client may still be sending: let it see our answer.
    CloseGently,
}

/// A request for an origin server.
pub struct Asked<'a> {
    request: &'a Request<'a>,
    url: &'a Url,
    /// The key of the cache.
    uri: Arc<str>,
    /// It was asked for in the lab's form.
    lab: bool,
    framing: Framing,
    /// The body, as far as it is short and here already.
    body: Vec<u8>,
    /// The head as the client sent it.
    head: &'a [u8],
    /// The client is on this machine.
    inside: bool,
    /// Tells conversations apart.
    number: u64,
    started: Instant,
}

impl Session<'_> {
    /// One request, one answer. `head` and `spans` are room for the
    /// request's head and for where its fields stand.
    fn request(&mut self, head: &mut Vec<u8>, spans: &mut Vec<Span>) -> Next {
        let proxy = self.proxy;
        let may_wait = self.connection.set_idle(true);
        if !may_wait && self.wire.buffered().is_empty() {
            return Next::Close;
        }
        // (i) wait for a request
        let received = self.wire.read_head(head, proxy.limits.header, true);
        self.connection.set_idle(false);
        let mut dealt = Dealt::new(head);
        match received {
            Ok(()) => {}
            Err(NoHead::Closed | NoHead::Idle | NoHead::Broken(_)) => {
                return Next::Close;
            }
            Err(NoHead::Slow) => return self.bad(Bad::TooSlow, &mut dealt),
            Err(NoHead::Bad(bad)) => return self.bad(bad, &mut dealt),
        }
        let number = self.connection.number;
        explain::head(&proxy.trace, Party::Client, number, head, 0);
        let request = match Request::parse(head, spans) {
            Ok(request) => request,
            Err(bad) => return self.bad(bad, &mut dealt),
        };
        dealt.request = Some(&request);
        let framing = match Framing::of_request(&request) {
            Ok(framing) => framing,
            Err(bad) => return self.bad(bad, &mut dealt),
        };
        let fields = &request.fields;
        match proxy.access.admit(self.connection.client.ip(), fields) {
            Ok(()) => {}
            Err(denied) => return self.deny(&denied, framing, &mut dealt),
        }
        let expects = fields.get("expect").filter(|e| {
            request.version == Version::Http11
                && !e.eq_ignore_ascii_case(b"100-continue")
        });
        if expects.is_some() {
            return self.bad(Bad::Expectation, &mut dealt);
        }
        let started = Instant::now();
        match goal(&request, &proxy.referred) {
            Goal::Tunnel(url) => self.tunnel(&url, &mut dealt),
            Goal::Own => self.own_page(framing, &mut dealt),
            Goal::Nowhere(status, why) => {
                self.say(status, why, framing, &mut dealt)
            }
            Goal::Origin { url, lab } => {
                let uri = url.to_string().into();
                let asked = Asked {
                    request: &request,
                    url: &url,
                    uri,
                    lab,
                    framing,
                    body: self.short_body(framing),
                    head,
                    inside: self.inside,
                    number,
                    started,
                };
                self.answer(&asked, &mut dealt)
            }
        }
    }

    /// A body that is here as a whole goes on with its head. What is longer
    /// goes through a thread of its own.
    fn short_body(&mut self, framing: Framing) -> Vec<u8> {
        let here = self.wire.buffered().len() as u64;
        let mut body = Vec::new();
        if let Framing::Length(length) = framing {
            if length <= here {
                let read = &mut Body::new(&mut self.wire, framing);
                let _ = std::io::Read::read_to_end(read, &mut body);
            }
        }
        body
    }

    /// Answers a request that breaks a rule, and ends the connection: what
    /// comes next on it could be anything.
    fn bad(&mut self, bad: Bad, dealt: &mut Dealt) -> Next {
        self.proxy.trace.why(|| format!("{}: {bad}", bad.status()));
        self.reply.page(bad.status(), &format!("{bad}."));
        self.send_reply(true, dealt)
    }

    /// 403, or 407 with the way to say who one is. RFC 9110 §11.7.1
    fn deny(
        &mut self,
        denied: &Denied,
        framing: Framing,
        dealt: &mut Dealt,
    ) -> Next {
        match denied {
            Denied::Address => {
                self.reply.page(403, "This proxy is not for your network.");
            }
            Denied::Unknown => {
                self.reply.page(407, "This proxy is for users that it knows.");
                let realm = "Basic realm=\"topdown\", charset=\"UTF-8\"";
                self.reply.field("Proxy-Authenticate", realm);
            }
        }
        self.send_reply(framing != Framing::Empty, dealt)
    }

    /// A page of our own that says why there is nothing else.
    fn say(
        &mut self,
        status: u16,
        why: &str,
        framing: Framing,
        dealt: &mut Dealt,
    ) -> Next {
        self.proxy.trace.why(|| format!("{status}: {why}"));
        self.reply.page(status, why);
        self.send_reply(framing != Framing::Empty, dealt)
    }

    /// Sends what stands in `reply`. `rest`: of the request some may be
    /// unread, so that nothing can follow it.
    fn send_reply(&mut self, rest: bool, dealt: &mut Dealt) -> Next {
        let (mut old, mut head_only, mut stays) = (false, false, false);
        if let Some(request) = dealt.request {
            old = request.version == Version::Http10;
            head_only = request.method == "HEAD";
            stays = keeps_open(request.version, &request.fields);
        }
        let reply = &mut self.reply;
        reply.close =
            !stays || rest || self.connection.is_stopping() || self.proxy.once;
        reply.end_head(old);
        let content = if head_only { 0 } else { reply.content.length() };
        let (trace, number) = (&self.proxy.trace, self.connection.number);
        explain::head(trace, Party::AsServer, number, &reply.head, content);
        let sent = reply.send(&self.wire, head_only);
        (dealt.status, dealt.sent) = (reply.status, reply.sent);
        let close = reply.close;
        self.done(dealt);
        match (sent, close) {
            (Err(_), _) => Next::Close,
            (Ok(()), false) => Next::Request,
            (Ok(()), true) => Next::CloseGently,
        }
    }

    /// One line in the log, and the numbers.
    fn done(&mut self, dealt: &Dealt) {
        self.served += 1;
        self.proxy.counts.add(dealt);
        if !self.proxy.quiet {
            let fields = dealt.request.map(|r| &r.fields);
            let client = self.connection.client.ip();
            let (status, sent) = (dealt.status, dealt.sent);
            let more = dealt.more();
            log::access(client, dealt.line, fields, status, sent, &more);
        }
    }

    /// May the next request come on this connection after an answer whose
    /// end is marked?
    fn stays(&self, request: &Request) -> bool {
        let all_read = |upload: &Arc<Upload>| {
            upload.all_read.load(std::sync::atomic::Ordering::SeqCst)
        };
        keeps_open(request.version, &request.fields)
            && self.upload.as_ref().is_none_or(all_read)
            && !self.connection.is_stopping()
            && !self.proxy.once
    }
}
