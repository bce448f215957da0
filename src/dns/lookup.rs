//! `dns-lookup`: asks the Internet's directory service. KR 2.4
//!
//! ```text
//! $ topdown dns-lookup gaia.cs.umass.edu
//! gaia.cs.umass.edu. 21600 IN A 128.119.245.12
//! ```
//!
//! Read `run`; `dns/resolver.rs` asks the servers, `dns/message.rs` is what
//! passes.
//!
//! Not here: DNSSEC, a cache, the walk from the root (`+trace` of dig).

use std::fs;
use std::net::{IpAddr, SocketAddr};

use super::HOSTS;
use super::message::{Name, Record};
use super::record::{self, kind_name, kind_note};
use super::resolver::{PORT, Resolver, rcode_name};
use super::reverse::reverse_name;
use crate::Tool;
use crate::args::{self, Args, text};
use crate::error::{Error, Outcome};
use crate::net::{self, Family};
use crate::output::{Output, say};
use crate::trace::{Party, Trace};

pub static TOOL: Tool = Tool {
    name: "dns-lookup",
    section: "KR 2.4",
    summary: "ask the directory service for a name",
    help: "\
usage: topdown dns-lookup [-46ev] [OPTION]... NAME [TYPE] [@SERVER]
       topdown dns-lookup -x [OPTION]... ADDRESS [@SERVER]

Prints the resource records of NAME: A (the default), AAAA, CNAME, MX, NS,
PTR, SOA, SRV, TXT, or TYPE65.

  -x, --reverse              the name of an address
  -p, --port PORT            the server's port (default: 53)
  -W, --timeout SECONDS      of each question (default: 5)
      --tries N              rounds through all servers (default: 2)
      --tcp                  over TCP from the start
      --resolv-conf FILE     read the servers there
  -4, --ipv4                 ask servers over IPv4 only
  -6, --ipv6                 ask servers over IPv6 only
  -v, --verbose              print the dialogue on standard error
  -e, --explain              the same, drawn and with reasons
      --diagram FILE.svg     draw the run as a space-time diagram
  -h, --help                 print this
",
    run,
};

fn run(mut args: Args) -> Result<Outcome, Error> {
    let reverse = args.flag("--reverse");
    let port = args.value("--port", net::port)?.unwrap_or(PORT);
    let timeout = args.value("--timeout", args::seconds)?;
    let tries = args.value("--tries", args::number("tries", 1..=10))?;
    let tcp = args.flag("--tcp");
    let file = args.value("--resolv-conf", text)?;
    let family = Family::from_args(&mut args)?;
    let trace = Trace::from_args(&mut args, Party::Client)?;
    let words = args.rest();
    args.finish()?;
    let question = Question::from_words(&words, reverse)?;

    let file = file.unwrap_or_else(|| super::RESOLV_CONF.into());
    let mut resolver = Resolver::from_file(&file, family)?;
    if let Some(server) = &question.server {
        let limit = resolver.timeout;
        resolver.servers = net::resolve(server, port, family, limit)?;
    } else {
        if let Some(found) = question.in_hosts() {
            trace.why(|| format!("{HOSTS} has it: no server is asked"));
            return print(&found);
        }
        resolver.servers.iter_mut().for_each(|s| s.set_port(port));
    }
    resolver.timeout = timeout.unwrap_or(resolver.timeout);
    resolver.attempts = tries.unwrap_or(resolver.attempts);
    resolver.tcp = tcp;

    let (name, kind) = (&question.name, question.kind);
    let (server, message) = resolver.ask(name, kind, &trace)?;
    let sections = [&message.answers, &message.authority, &message.additional];
    for record in sections.into_iter().flatten() {
        let note = || kind_note(record.kind).into();
        trace.line(Party::Server, 0, line(record), note);
    }
    judge(&question, server, message.header.rcode(), &message.answers)
}

/// Yes: print it. No such name, no such record, and a server that fails are
/// three things.
fn judge(
    question: &Question,
    server: SocketAddr,
    rcode: u16,
    answers: &[Record],
) -> Result<Outcome, Error> {
    let (name, kind) = (&question.name, question.kind);
    match rcode {
        0 if !answers.is_empty() => {
            let lines: Vec<String> = answers.iter().map(line).collect();
            print(&lines)
        }
        0 => {
            let kind = kind_name(kind);
            say(format!(
                "topdown dns-lookup: {name} exists, but has no {kind}"
            ));
            Ok(Outcome::No)
        }
        3 => {
            say(format!(
                "topdown dns-lookup: there is no name {name} (NXDOMAIN)"
            ));
            Ok(Outcome::No)
        }
        other => {
            let doing = format!("look up {name}");
            let words = match other {
                2 => "the server could not find out",
                5 => "the server does not want to say",
                _ => "the server does not answer that",
            };
            let fault = format!("{server}: {words} ({})", rcode_name(other));
            Err(Error::protocol(doing, fault))
        }
    }
}

fn print(lines: &[String]) -> Result<Outcome, Error> {
    let mut text = lines.join("\n");
    text.push('\n');
    Output::new().write(text.as_bytes())?;
    Ok(Outcome::Yes)
}

/// A record as master files have it. RFC 1035 §5.1
fn line(record: &Record) -> String {
    let kind = kind_name(record.kind);
    format!("{} {} IN {kind} {}", record.owner, record.ttl, record.data)
}

/// What is asked, and whom.
struct Question {
    name: Name,
    kind: u16,
    server: Option<String>,
}

impl Question {
    /// `NAME [TYPE] [@SERVER]`, the last two in either order.
    fn from_words(words: &[String], reverse: bool) -> Result<Question, Error> {
        let usage = |text: String| Err(Error::Usage(text));
        let mut name = None;
        let (mut kind, mut server) = (None, None);
        for word in words {
            match word.strip_prefix('@') {
                Some("") => return usage("@SERVER: whom?".into()),
                Some(host) if server.is_none() => {
                    server = Some(host.to_string());
                }
                Some(_) => return usage("one server is enough".into()),
                None if name.is_none() => name = Some(word),
                None if kind.is_none() && !reverse => {
                    match record::kind(word) {
                        Some(number) => kind = Some(number),
                        None => return usage(format!("no type '{word}'")),
                    }
                }
                None => return usage(format!("surplus operand '{word}'")),
            }
        }
        let Some(name) = name else {
            return usage("NAME is missing".into());
        };
        let (name, kind) = match reverse {
            true => {
                let address = name.parse().map_err(|_| {
                    Error::Usage(format!("-x: no address '{name}'"))
                })?;
                (reverse_name(address), record::PTR)
            }
            false => (name.clone(), kind.unwrap_or(record::A)),
        };
        let name = Name::from_text(&name).map_err(Error::Usage)?;
        Ok(Question { name, kind, server })
    }

    /// What hosts(5) says of addresses, before any server is asked.
    fn in_hosts(&self) -> Option<Vec<String>> {
        if !matches!(self.kind, record::A | record::AAAA) {
            return None;
        }
        let text = fs::read_to_string(HOSTS).ok()?;
        let own = |line: &str| -> Option<String> {
            let line = line.split('#').next()?;
            let mut words = line.split_whitespace();
            let address: IpAddr = words.next()?.parse().ok()?;
            let wanted = address.is_ipv4() == (self.kind == record::A);
            let is_name = |w: &str| {
                Name::from_text(w).is_ok_and(|name| name == self.name)
            };
            let named = words.any(is_name);
            let kind = kind_name(self.kind);
            (wanted && named)
                .then(|| format!("{} 0 IN {kind} {address}", self.name))
        };
        let found: Vec<String> = text.lines().filter_map(own).collect();
        (!found.is_empty()).then_some(found)
    }
}
