//! The server's half of one conversation: reads commands, keeps the state
//! and the envelope, answers in the book's words. RFC 5321 §4; KR 2.3.1
//!
//! Read `converse`, `command`, then the commands in the order of a dialogue;
//! `envelope.rs` has MAIL and RCPT, `login.rs` AUTH, `data.rs` the message.

mod data;
mod envelope;
mod login;
mod talk;

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::address::is_domain;
use super::auth::BLOT;
use super::command::{State, Verb};
use super::explain;
use super::line::{self, Line};
use super::server::Server;
use crate::connections::Connection;
use crate::error::is_timeout;
use crate::tls;
use crate::trace::Party;
use crate::wire::{Wire, let_others_work};
use envelope::Envelope;
use talk::{blotted, is_command, numbered};

/// "The maximum total length of a command line including the command word
/// and the <CRLF> is 512 octets." RFC 5321 §4.5.3.1.4; extensions add to it,
/// AUTH the most: 12,288 octets, RFC 4954 §4.
const MAX_COMMAND: usize = 2048;
const MAX_AUTH: usize = 12_288;

/// A whole command line, from its first octet on. RFC 5321 §4.5.3.2.7
const COMMAND: Duration = Duration::from_secs(5 * 60);

/// A TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// What a browser says first.
const HTTP_METHODS: [&str; 5] = ["GET", "POST", "PUT", "OPTIONS", "CONNECT"];

/// A client that makes so many mistakes does not know SMTP.
const MAX_MISTAKES: u32 = 20;

/// The machine's name, for the greeting.
pub fn hello_name() -> String {
    let mut name = [0u8; 256];
    // SAFETY: pointer and length are those of a live array; one is spared
    // for the NUL at the end.
    unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let name = name.split(|b| *b == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).into_owned();
    if is_domain(&name) { name } else { "localhost".into() }
}

/// One conversation.
pub struct Session<'a> {
    server: &'a Server,
    connection: Connection,
    wire: Wire,
    state: State,
    /// What the client calls itself.
    helo: String,
    /// It said EHLO.
    extended: bool,
    /// The user who logged in.
    user: Option<String>,
    envelope: Envelope,
    mistakes: u32,
    /// QUIT was said.
    quitted: bool,
    /// AUTH has failed: what follows may be a password all the same.
    auth_failed: bool,
    /// Replies that wait until all that came at once is answered: RFC 2920
    /// §3.2.
    pending: Vec<u8>,
}

/// How the conversation goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Command,
    End,
}

impl<'a> Session<'a> {
    pub fn new(server: &'a Server, connection: Connection) -> Session<'a> {
        let socket = connection.socket.clone();
        Session {
            server,
            connection,
            wire: Wire::new(socket, Some(server.idle)),
            state: State::Connected,
            helo: String::new(),
            extended: false,
            user: None,
            envelope: Envelope::default(),
            mistakes: 0,
            quitted: false,
            auth_failed: false,
            pending: Vec::new(),
        }
    }

    /// From the greeting to QUIT. False when the client never spoke.
    pub fn converse(mut self) -> bool {
        let client = self.connection.client;
        self.fact(&format!("a connection from {client}"));
        if self.server.implicit_tls && self.secure().is_err() {
            self.wire.close_gently();
            return false;
        }
        if self.server.trace.is_on() && self.wire.has_unread() {
            self.note("the client speaks first. RFC 5321 §3.1, §4.3.1");
        }
        self.say(220, &[self.server.name.clone()]);
        let mut line = Vec::new();
        let mut spoke = false;
        let outcome = loop {
            match self.next_command(&mut line) {
                Ok(Next::Command) => spoke = true,
                other => break other,
            }
        };
        match outcome {
            Err(e) if is_timeout(&e) => {
                self.leave("4.4.2", "timeout, closing");
                let _ = self.flush();
            }
            _ => _ = self.flush(),
        }
        self.fact(&format!("the connection with {client} ends"));
        // (after QUIT there is mostly nothing more to come)
        if self.wire.has_unread() || !self.quitted {
            self.wire.close_gently();
        }
        spoke
    }

    /// Reads a command and carries it out.
    fn next_command(&mut self, line: &mut Vec<u8>) -> io::Result<Next> {
        let stopping = |e: &io::Error| e.kind() == ErrorKind::UnexpectedEof;
        let read = match self.read(line, MAX_COMMAND.max(MAX_AUTH)) {
            // so a stop looks like under TLS
            Err(e) if stopping(&e) => None,
            other => other?,
        };
        let Some(kind) = read else {
            if self.connection.is_stopping() {
                self.leave("4.3.2", "the server stops");
            }
            return Ok(Next::End);
        };
        if line.starts_with(b"\x16\x03") && self.wire.tls().is_none() {
            self.note("a TLS handshake: here it comes behind STARTTLS");
            return Ok(Next::End);
        }
        // the password is not for all
        let word = line.trim_ascii_start().get(..4);
        let is_auth = word.is_some_and(|w| w.eq_ignore_ascii_case(b"AUTH"));
        let shown = match is_auth {
            true => blotted(line),
            false if self.auth_failed && !is_command(line) => BLOT.into(),
            false => line.clone(),
        };
        // until it has succeeded
        self.auth_failed = is_auth || self.auth_failed && !is_command(line);
        self.show(Party::Client, &shown, explain::command);
        self.arrow(Party::Client, &shown);
        match kind {
            Line::Good if line.len() <= MAX_COMMAND || is_auth => {}
            Line::Good => {
                return Ok(self.mistake(500, "5.5.2", "the line is too long"));
            }
            Line::TooLong => {
                self.reply(500, "5.5.2", "the line is too long, closing");
                return Ok(Next::End);
            }
            Line::BareLineFeed if self.server.accept_bare => {
                self.note(
                    "a bare LF ends the line: CRLF does. RFC 5321 §2.3.8",
                );
            }
            Line::BareLineFeed => {
                self.note("a bare LF ends the line. RFC 5321 §2.3.8");
                let why = "a line ends with CRLF, not with LF (nc -C)";
                return Ok(self.mistake(500, "5.5.2", why));
            }
            Line::Control => {
                let why = "a CR or NUL within the line";
                return Ok(self.mistake(500, "5.5.2", why));
            }
        }
        let Ok(text) = std::str::from_utf8(line) else {
            return Ok(self.mistake(500, "5.5.2", "the line is not UTF-8"));
        };
        let text = text.to_string();
        self.command(&text)
    }

    /// The next line, once what was answered is sent.
    fn read(
        &mut self,
        line: &mut Vec<u8>,
        most: usize,
    ) -> io::Result<Option<Line>> {
        if !self.wire.buffered().contains(&b'\n') {
            self.flush()?;
            if self.wire.buffered().is_empty() {
                self.wire.shrink();
            }
            if !self.connection.set_idle(true) {
                return Ok(None);
            }
            let_others_work();
        }
        let read = line::read(&mut self.wire, line, most, COMMAND);
        self.connection.set_idle(false);
        read
    }

    fn command(&mut self, line: &str) -> io::Result<Next> {
        let end = line.find(' ').unwrap_or(line.len());
        let (name, argument) = line.split_at(end);
        let argument = argument.trim_matches(' ');
        if HTTP_METHODS.contains(&name) {
            // a browser that some page has sent here
            self.note("this is HTTP");
            self.reply(500, "5.5.2", "command unrecognized, closing");
            return Ok(Next::End);
        }
        let Some((verb, allowed)) = Verb::find(name) else {
            return Ok(self.mistake(500, "5.5.2", "command unrecognized"));
        };
        if let Some(next) = self.out_of_turn(verb, allowed, name) {
            return Ok(next);
        }
        let bare = [Verb::Data, Verb::Rset, Verb::Quit, Verb::StartTls];
        if bare.contains(&verb) && !argument.is_empty() {
            let why = format!("{name} takes no argument");
            return Ok(self.mistake(501, "5.5.4", &why));
        }
        match verb {
            Verb::Helo | Verb::Ehlo => {
                return Ok(self.hello(argument, verb == Verb::Ehlo));
            }
            Verb::Mail => return Ok(self.mail(argument)),
            Verb::Rcpt => return Ok(self.rcpt(argument)),
            Verb::Data => return self.data(),
            Verb::StartTls => return self.start_tls(),
            Verb::Auth => {
                let next = self.auth(argument);
                self.auth_failed = self.user.is_none();
                return next;
            }
            Verb::Rset => {
                self.reset();
                self.reply(250, "2.0.0", "Reset state");
            }
            Verb::Noop => self.reply(250, "2.0.0", "OK"),
            Verb::Quit => {
                let text = format!("{} closing connection", self.server.name);
                self.reply(221, "2.0.0", &text);
                self.quitted = true;
                return Ok(Next::End);
            }
            // who is there is not told: RFC 5321 §7.3
            Verb::Vrfy if argument.is_empty() => {
                return Ok(self.mistake(501, "5.5.4", "VRFY whom?"));
            }
            Verb::Vrfy => {
                let text = "cannot VRFY the user, but will take the message";
                self.reply(252, "2.5.2", text);
            }
            Verb::Expn => {
                self.reply(502, "5.7.0", "lists are not expanded here");
            }
            Verb::Help => self.help(),
            Verb::NotImplemented => {
                let text = format!("{name} is not implemented");
                return Ok(self.mistake(502, "5.5.1", &text));
            }
        }
        Ok(Next::Command)
    }

    /// 503, where a command is not allowed.
    fn out_of_turn(
        &mut self,
        verb: Verb,
        allowed: &[State],
        name: &str,
    ) -> Option<Next> {
        if allowed.contains(&self.state) {
            return None;
        }
        let why = verb.wants(self.state);
        self.note(&format!("{name} before its turn. RFC 5321 §4.1.4"));
        if matches!(verb, Verb::Rcpt | Verb::Data) {
            // sent ahead, behind a MAIL that was refused: no new mistake
            self.reply(503, "5.5.1", why);
            return Some(Next::Command);
        }
        Some(self.mistake(503, "5.5.1", why))
    }

    /// HELO and EHLO. RFC 5321 §4.1.1.1
    fn hello(&mut self, name: &str, extended: bool) -> Next {
        if name.is_empty() {
            let why = "a domain or [address] is wanted";
            return self.mistake(501, "5.5.4", why);
        }
        if !is_domain(name) {
            self.note(&format!(
                "'{name}' is no domain and no [address]. RFC 5321 §4.1.1.1"
            ));
        }
        self.reset();
        self.state = State::Greeted;
        self.helo = name.to_string();
        self.extended = extended;
        let pleased = format!("Hello {name}, pleased to meet you");
        if !self.wire.buffered().is_empty() {
            self.note("commands before EHLO is answered. RFC 2920 §3.1");
        }
        if !extended {
            self.say(250, &[pleased]);
            return Next::Command;
        }
        let server = self.server;
        let mut lines = vec![format!("{} {pleased}", server.name)];
        lines.push("PIPELINING".into());
        lines.push("8BITMIME".into());
        lines.push(format!("SIZE {}", server.max_size));
        lines.push("SMTPUTF8".into());
        lines.push("ENHANCEDSTATUSCODES".into());
        if server.identity.is_some() && self.wire.tls().is_none() {
            lines.push("STARTTLS".into());
        }
        if server.users.is_some() && self.wire.tls().is_some() {
            lines.push("AUTH PLAIN LOGIN".into());
        }
        lines.push("HELP".into());
        self.say(250, &lines);
        Next::Command
    }

    fn help(&mut self) {
        let (server, tls) = (self.server, self.wire.tls().is_some());
        let start_tls = server.identity.is_some() && !tls;
        let auth = server.users.is_some() && tls;
        let text = format!(
            "HELO EHLO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP{}{}",
            if start_tls { " STARTTLS" } else { "" },
            if auth { " AUTH" } else { "" }
        );
        self.reply(214, "2.0.0", &text);
    }

    /// STARTTLS. RFC 3207 §4
    fn start_tls(&mut self) -> io::Result<Next> {
        if self.server.identity.is_none() {
            return Ok(self.mistake(502, "5.5.1", "there is no TLS here"));
        }
        if self.wire.tls().is_some() {
            return Ok(self.mistake(503, "5.5.1", "TLS is there already"));
        }
        if !self.wire.buffered().is_empty() {
            self.note(
                "commands in clear behind STARTTLS are thrown away: anybody \
                 could have put them in. RFC 3207 §4.2",
            );
            self.wire.forget();
        }
        self.reply(220, "2.0.0", "Ready to start TLS");
        self.flush()?;
        self.secure()?;
        // "the server MUST discard any knowledge obtained from the client"
        self.reset();
        self.state = State::Connected;
        self.extended = false;
        self.helo.clear();
        self.user = None;
        Ok(Next::Command)
    }

    /// The TLS handshake.
    fn secure(&mut self) -> io::Result<()> {
        let server = self.server;
        let Some(identity) = &server.identity else { return Ok(()) };
        self.wire.limit_read_to(HANDSHAKE)?;
        if let Err(error) = self.wire.accept_tls(identity) {
            self.fact(&error.to_string());
            return Err(io::Error::other("no TLS"));
        }
        self.wire.limit_read_to(server.idle)?;
        if let Some(tls) = self.wire.tls() {
            self.fact(&tls.describe());
            server.trace.why(|| tls::observer("the mail and its envelope"));
        }
        Ok(())
    }

    /// RSET's work.
    fn reset(&mut self) {
        self.envelope = Envelope::default();
        if self.state != State::Connected {
            self.state = State::Greeted;
        }
    }

    /// A reply to what should not have been said; too many end it.
    fn mistake(&mut self, code: u16, enhanced: &str, text: &str) -> Next {
        self.reply(code, enhanced, text);
        self.mistakes += 1;
        if self.mistakes < MAX_MISTAKES {
            return Next::Command;
        }
        self.leave("4.7.0", "too many mistakes, closing");
        Next::End
    }
}
