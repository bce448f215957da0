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
//! Read `run`, `Session::request` in `proxy/session.rs`, then
//! `proxy/answer.rs` (from the store or from the origin?), `proxy/forward.rs`
//! (there and back), `cache.rs` (the rules). `proxy/tunnel.rs` is CONNECT.
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
mod reuse;
mod session;
mod share;
mod target;
mod tunnel;
mod upload;
mod validate;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::cache::store::Store;
use super::limits::Limits;
use super::reply::refuse;
use crate::Tool;
use crate::args::{self, Args, text};
use crate::connections::{Connection, Connections, MAX_CONNECTIONS};
use crate::error::{Doing, Error, Outcome};
use crate::net::{self, Family};
use crate::output::say;
use crate::trace::{Party, Trace};
use access::Access;
use collapse::Fetches;
use counts::Counts;
use origins::Origins;
use session::{Next, Session};
use target::Referred;

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
/// A tunnel has two sockets, and while bytes go both ways two pipes.
const DESCRIPTORS: usize = 6;
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
    let connections = Connections::new(limit, DESCRIPTORS, &server_socket)?;
    let proxy = Arc::new(options.proxy(address)?);
    say(format!("topdown web-proxy: listening on {address}"));
    proxy.trace.fact(|| format!("the welcoming socket is {address}"));

    if proxy.once {
        connections.serve_in_turn(&server_socket, true, |c| serve(&proxy, c));
    } else {
        let quiet = proxy.quiet;
        connections.serve_all(
            Arc::new(server_socket),
            move |connection| _ = serve(&proxy, connection),
            move |socket| refuse(socket, quiet),
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
    fn from_args(mut args: Args, listen: SocketAddr) -> Result<Options, Error> {
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

    fn proxy(self, own: SocketAddr) -> Result<Proxy, Error> {
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

/// One connection, from its first request to its end. False when not even
/// one request came.
fn serve(proxy: &Arc<Proxy>, connection: Connection) -> bool {
    let client = connection.client;
    proxy.trace.fact(|| format!("a connection socket for {client}"));
    let mut session = Session::new(proxy, connection);
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
