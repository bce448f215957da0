//! topdown: the socket-programming labs of Kurose & Ross, *Computer
//! Networking: A Top-Down Approach* (8th edition, "KR"), as real tools.
//!
//! This file is the table of contents: the protocols in the book's order,
//! the table of tools, and the way from a name to its tool.

mod args;
mod base64;
mod connections;
mod datagram;
mod diagram;
mod error;
mod input;
mod net;
mod output;
mod password;
mod signal;
mod stats; // KR 3.5.3
mod tls; // KR 8.6    RFC 8446
mod trace;
mod wire;

mod dns; // KR 2.4    RFC 1035
mod heartbeat; // KR 2.7.1  RFC 5880
mod http; // KR 2.2    RFC 9110, 9111, 9112
mod icmp; // KR 5.6    RFC 792, 4443
mod ping; // KR 2.7.1
mod smtp; // KR 2.3    RFC 5321, 5322
mod tcp; // KR 2.7.2  RFC 9293
mod udp; // KR 2.7.1  RFC 768
mod upper_case; // KR 2.7

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use args::Args;
use error::{Error, Outcome};
use output::{say, wrote};

/// One tool: a row in the table, and all that the dispatch knows of it.
pub struct Tool {
    pub name: &'static str,
    /// Where the book treats it.
    pub section: &'static str,
    pub summary: &'static str,
    /// Synopsis and options; `args.rs` parses by it.
    pub help: &'static str,
    pub run: fn(Args) -> Result<Outcome, Error>,
}

/// In the book's order.
static TOOLS: [&Tool; 16] = [
    &icmp::traceroute::TOOL, // 1.4.3
    &http::server::TOOL,     // 2.2
    &http::client::TOOL,     // 2.2.3
    &http::proxy::TOOL,      // 2.2.5
    &smtp::client::TOOL,     // 2.3.1
    &smtp::server::TOOL,
    &dns::lookup::TOOL, // 2.4
    &udp::server::TOOL, // 2.7.1
    &udp::client::TOOL,
    &ping::server::TOOL,
    &ping::client::TOOL,
    &heartbeat::server::TOOL,
    &heartbeat::client::TOOL,
    &tcp::server::TOOL, // 2.7.2
    &tcp::client::TOOL,
    &icmp::ping::TOOL, // 5.6
];

fn main() -> ExitCode {
    // A connection's thread has a small stack: no backtrace on it. The
    // connection ends, the server goes on.
    std::panic::set_hook(Box::new(|bug| say(format!("topdown: bug: {bug}"))));
    let mut words = Vec::new();
    for word in std::env::args_os() {
        match word.into_string() {
            Ok(word) => words.push(word),
            Err(word) => {
                say(format!("topdown: not UTF-8: {word:?}"));
                return ExitCode::from(2);
            }
        }
    }
    // A symbolic link named after a tool runs it.
    let own_name = words.first().and_then(|w| Path::new(w).file_name());
    let linked = own_name.and_then(|n| n.to_str()).and_then(find);
    let (name, outcome) = match linked {
        Some(tool) => (tool.name, run(tool, &words[1..])),
        None => match words.get(1) {
            Some(name) => (name.as_str(), dispatch(name, &words[2..])),
            None => ("help", list()),
        },
    };
    match outcome {
        Ok(Outcome::Yes) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Err(Error::OutputClosed) => ExitCode::SUCCESS,
        Err(error @ Error::Told) => ExitCode::from(error.exit_status()),
        Err(error) => {
            match find(name) {
                Some(tool) => say(format!("topdown {}: {error}", tool.name)),
                None => say(format!("topdown: {error}")),
            }
            if let (Error::Usage(_), Some(tool)) = (&error, find(name)) {
                say(synopsis(tool));
            }
            ExitCode::from(error.exit_status())
        }
    }
}

/// The first word is a tool's name, or one of the few others.
fn dispatch(name: &str, rest: &[String]) -> Result<Outcome, Error> {
    match name {
        "help" | "-h" | "--help" => match rest.first() {
            Some(tool) => print(known(tool)?.help),
            None => list(),
        },
        "-V" | "--version" => {
            print(concat!("topdown ", env!("CARGO_PKG_VERSION"), "\n"))
        }
        _ => run(known(name)?, rest),
    }
}

fn run(tool: &'static Tool, words: &[String]) -> Result<Outcome, Error> {
    let mut args = Args::new(tool, words)?;
    if args.flag("--help") {
        return print(tool.help);
    }
    match (tool.run)(args) {
        Err(Error::Usage(fault)) => Err(Error::Usage(fault)),
        outcome => trace::finish().and(outcome),
    }
}

fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.into_iter().find(|tool| tool.name == name)
}

/// The tool of that name; else the error names the nearest.
fn known(name: &str) -> Result<&'static Tool, Error> {
    find(name).ok_or_else(|| {
        let near = TOOLS.iter().min_by_key(|t| distance(t.name, name));
        let near = near.filter(|t| distance(t.name, name) <= 4);
        let hint = match near {
            Some(tool) => format!("did you mean '{}'?", tool.name),
            None => "'topdown' alone lists the tools".into(),
        };
        Error::Usage(format!("there is no tool '{name}': {hint}"))
    })
}

/// How many characters to insert, delete or replace to get from one name to
/// the other: the distance-vector's own cousin, a minimum over neighbours.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

/// `topdown` alone.
fn list() -> Result<Outcome, Error> {
    let mut text = String::from(
        "usage: topdown TOOL [OPTION]... [OPERAND]...\n\
         \x20      topdown TOOL --help, topdown help TOOL, topdown --version\n\n\
         The labs of Kurose & Ross, \"Computer Networking: A Top-Down \
         Approach\".\n\n",
    );
    for tool in TOOLS {
        let (name, section) = (tool.name, tool.section);
        text.push_str(&format!("  {name:12}  {section:9}  {}\n", tool.summary));
    }
    print(&text)
}

/// The usage lines of a tool's help.
fn synopsis(tool: &Tool) -> &str {
    tool.help.split("\n\n").next().unwrap_or_default()
}

fn print(text: &str) -> Result<Outcome, Error> {
    wrote(io::stdout().write_all(text.as_bytes()))?;
    Ok(Outcome::Yes)
}
