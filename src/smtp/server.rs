//! `mail-server`: takes mail, prints the dialogue, keeps the messages in a
//! Maildir. KR 2.3.1, lab "Mail Server".
//!
//! It is the receiving side of the lab: what the client says and what the
//! server answers appear as the book prints them, with the state beside
//! each line, and what the client does wrong is noted with its section.
//!
//! ```text
//! $ topdown mail-server --domain hamburger.edu
//! topdown mail-server: listening on 127.0.0.1:2525
//! S: 220 hamburger.edu                         | [connected]
//! C: HELO crepes.fr                            | [connected]
//! S: 250 Hello crepes.fr, pleased to meet you  | [greeted]
//! ```
//!
//! Read `run`, then `Session::converse` and the functions of its commands in
//! `session.rs`, `receive.rs` for the message, `maildir.rs` for the disk.
//!
//! Not here: relaying. It is where mail ends. And no spam filter.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use super::address::{Address, is_domain};
use super::maildir::Maildir;
use super::session::{Session, hello_name};
use super::stuffing::SHOWN_LINES;
use super::users::Users;
use crate::Tool;
use crate::args::{self, Args, text};
use crate::connections::{Connection, Connections, MAX_CONNECTIONS};
use crate::error::{Doing, Error, Outcome};
use crate::net;
use crate::output::say;
use crate::tls::Identity;
use crate::trace::{Party, Trace};

pub static TOOL: Tool = Tool {
    name: "mail-server",
    section: "KR 2.3.1",
    summary: "take mail, print the dialogue, keep the messages",
    help: "\
usage: topdown mail-server [-eq] [-l [ADDR:]PORT] [--maildir DIR | --discard]
                           [OPTION]...

Takes mail over SMTP, prints both sides of the dialogue, and keeps each
message in a Maildir before it is acknowledged. It relays nothing.

  -l, --listen [ADDR:]PORT   where to listen (default: 127.0.0.1:2525)
      --once                 serve one conversation, then exit (the lab)
      --maildir DIR          keep the messages there (default: Maildir)
      --discard              print the dialogue, keep no message
      --domain NAME          take mail for this domain alone; may be repeated;
                             the first is the server's name
      --refuse ADDRESS=CODE  say no, by a 4xx or 5xx, to this sender or
                             recipient; may be repeated
      --max-size SIZE        refuse a longer message (default: 32M)
      --max-recipients N     of one message (default: 1000)
      --max-connections N    answer 421 to more (default: 4096)
      --idle SECONDS         end a silent conversation (default: 300)
      --accept-bare          take CR and LF alone for data, not for a fault
      --user-file FILE       lines user:password; then one must log in
      --tls-cert FILE        offer STARTTLS: the certificate chain (PEM)
      --tls-key FILE         its private key, if not in the same file
      --implicit-tls         TLS from the first octet on (as on port 465)
      --show-lines N         print so many lines of a message (default: 100)
  -q, --quiet                do not print the dialogue
  -v, --verbose              print it (as without -q)
  -e, --explain              print it, each line with its reason
      --diagram FILE.svg     draw the run as a space-time diagram
  -h, --help                 print this
",
    run,
};

/// The lab's server cannot have 25, which is for the system's.
const PORT: u16 = 2525;

/// "The maximum total length of a message content […] MUST BE at least 64K
/// octets." RFC 5321 §4.5.3.1.7
const MIN_SIZE: u64 = 64 * 1024;
const MAX_SIZE: u64 = 32 << 20;

/// "The minimum total number of recipients that MUST be buffered is 100
/// recipients." RFC 5321 §4.5.3.1.8; a lab may want to see fewer.
const MAX_RECIPIENTS: usize = 1000;

/// "An SMTP server SHOULD have a timeout of at least 5 minutes while it is
/// awaiting the next command from the sender." RFC 5321 §4.5.3.2.7
const IDLE: Duration = Duration::from_secs(5 * 60);

/// A client that does not read its replies.
const SEND: Duration = Duration::from_secs(60);

/// All that the threads share.
pub struct Server {
    pub name: String,
    /// Empty: all.
    pub domains: Vec<String>,
    pub refused: Vec<(Address, u16)>,
    pub users: Option<Users>,
    pub identity: Option<Identity>,
    pub implicit_tls: bool,
    /// `None`: `--discard`.
    pub maildir: Option<Maildir>,
    pub max_size: u64,
    pub max_recipients: usize,
    pub idle: Duration,
    pub accept_bare: bool,
    pub show_lines: usize,
    pub trace: Trace,
}

fn run(mut args: Args) -> Result<Outcome, Error> {
    let listen = args.value("--listen", net::listen_address)?;
    let address = listen.unwrap_or(([127, 0, 0, 1], PORT).into());
    let limit = args::number("connections", 1..=1_000_000);
    let limit = args.value("--max-connections", limit)?;
    let once = args.flag("--once");
    let server = Arc::new(Server::from_args(args)?);

    let server_socket = net::listen(address)?;
    let (nodelay, tcp) = (libc::TCP_NODELAY, libc::IPPROTO_TCP);
    let doing = || "prepare the socket";
    net::set_option(&server_socket, tcp, nodelay, 1).doing(doing)?;
    net::set_time_limits(&server_socket, server.idle, SEND).doing(doing)?;
    let address = server_socket.local_addr().doing(|| "listen")?;
    let limit = limit.unwrap_or(MAX_CONNECTIONS);
    // a socket, and the message's file
    let connections = Connections::new(limit, 2, &server_socket)?;
    say(format!("topdown mail-server: listening on {address}"));
    if once {
        connections.serve_in_turn(&server_socket, true, |c| serve(&server, c));
        return Ok(Outcome::Yes);
    }
    let name = server.name.clone();
    let in_clear = !server.implicit_tls;
    connections.serve_all(
        Arc::new(server_socket),
        move |connection| _ = serve(&server, connection),
        move |socket| match in_clear {
            true => refuse(socket, &name),
            false => drop(socket),
        },
    )?;
    Ok(Outcome::Yes)
}

fn serve(server: &Server, connection: Connection) -> bool {
    Session::new(server, connection).converse()
}

/// All places are taken. RFC 5321 §3.1 lets a server say 554; 421 says that
/// it will pass.
fn refuse(mut socket: TcpStream, name: &str) {
    let text = format!("421 {name} too many connections, try again later\r\n");
    let _ = socket.write_all(text.as_bytes());
}

impl Server {
    /// Reads the options; `args` is at its end then.
    fn from_args(mut args: Args) -> Result<Server, Error> {
        let domains = args.values("--domain", domain)?;
        let name = domains.first().cloned().unwrap_or_else(hello_name);
        let directory = args.value("--maildir", text)?;
        let maildir = match (args.flag("--discard"), directory) {
            (true, Some(_)) => {
                let fault = "--maildir and --discard exclude each other";
                return Err(Error::Usage(fault.into()));
            }
            (true, None) => None,
            (false, path) => Some(path.unwrap_or_else(|| "Maildir".into())),
        };
        let users = args.value("--user-file", text)?;
        let users = users.map(|path| Users::from_file(&path)).transpose()?;
        let identity = Identity::from_args(&mut args)?;
        let implicit_tls = args.flag("--implicit-tls");
        if identity.is_none() && (implicit_tls || users.is_some()) {
            let option =
                if implicit_tls { "--implicit-tls" } else { "--user-file" };
            let fault = format!("{option} goes with --tls-cert");
            return Err(Error::Usage(fault));
        }
        let recipients = args::number("recipients", 1..=1_000_000);
        let lines = args::number("lines", 0..=1_000_000_000);
        let max_size = args.value("--max-size", max_size)?;
        let max_recipients = args.value("--max-recipients", recipients)?;
        let idle = args.value("--idle", args::seconds)?;
        let server = Server {
            refused: args.values("--refuse", refusal)?,
            users,
            identity,
            implicit_tls,
            max_size: max_size.unwrap_or(MAX_SIZE),
            max_recipients: max_recipients.unwrap_or(MAX_RECIPIENTS),
            idle: idle.unwrap_or(IDLE),
            accept_bare: args.flag("--accept-bare"),
            show_lines: args
                .value("--show-lines", lines)?
                .unwrap_or(SHOWN_LINES),
            trace: Trace::of_result(&mut args, Party::Server)?,
            maildir: None,
            domains,
            name,
        };
        args.finish()?;
        // the options are all right: now something may be made
        let maildir = maildir.map(|path| Maildir::open(&path, &server.name));
        Ok(Server { maildir: maildir.transpose()?, ..server })
    }

    /// Does mail for this address end here?
    pub fn is_ours(&self, address: &Address) -> bool {
        self.domains.is_empty()
            || address.domain.is_empty()
            || self
                .domains
                .iter()
                .any(|d| d.eq_ignore_ascii_case(&address.domain))
    }

    /// The code that `--refuse` has for this address.
    pub fn refusal(&self, address: &Address) -> Option<u16> {
        let same = |refused: &&(Address, u16)| refused.0 == *address;
        self.refused.iter().find(same).map(|refused| refused.1)
    }
}

fn domain(text: &str) -> Result<String, String> {
    match is_domain(text) {
        true => Ok(text.to_string()),
        false => Err(format!("a domain is wanted, not '{text}'")),
    }
}

fn max_size(text: &str) -> Result<u64, String> {
    match args::size(text)? {
        size if size >= MIN_SIZE => Ok(size),
        _ => Err("64k at least (RFC 5321 §4.5.3.1.7)".into()),
    }
}

/// `ADDRESS=CODE`
fn refusal(text: &str) -> Result<(Address, u16), String> {
    let wanted = || format!("ADDRESS=CODE is wanted, not '{text}'");
    let (address, code) = text.rsplit_once('=').ok_or_else(wanted)?;
    let code = args::number("a refusal's code", 400..=559)(code)?;
    if (460..500).contains(&code) {
        return Err(format!("{code} is no reply code (RFC 5321 §4.2)"));
    }
    Ok((Address::parse(address)?, code))
}
