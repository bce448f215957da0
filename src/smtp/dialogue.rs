//! The client's half of the conversation with one server, from its greeting
//! to QUIT. RFC 5321 §3, KR 2.3.1
//!
//! Read `converse`, whose steps are those of the dialogue in the book;
//! STARTTLS (RFC 3207) and AUTH (RFC 4954), which come between, are in
//! `secure.rs`, MAIL and RCPT in `envelope.rs`.

mod envelope;
mod offers;
mod secure;
mod verdict;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::address::Address;
use super::auth::{BLOT, Login};
use super::explain;
use super::message::Message;
use super::reply::Reply;
use super::stuffing::Stuffer;
use crate::error::{Doing, Error, is_gone};
use crate::net;
use crate::output::say;
use crate::tls::Trust;
use crate::trace::{Party, Trace};
use crate::wire::Wire;
pub use envelope::commands;
pub use offers::Offers;
pub use verdict::Verdict;

// "An SMTP client MUST provide a timeout mechanism. It MUST use per-command
// timeouts" RFC 5321 §4.5.3.2, where these are the minima.
const CONNECT: Duration = Duration::from_secs(30);
const GREETING: Duration = Duration::from_secs(5 * 60);
const COMMAND: Duration = Duration::from_secs(5 * 60);
const DATA: Duration = Duration::from_secs(2 * 60);
const DATA_BLOCK: Duration = Duration::from_secs(3 * 60);
const AFTER_DOT: Duration = Duration::from_secs(10 * 60);
/// What is said after QUIT changes nothing.
const QUIT: Duration = Duration::from_secs(5);

/// `--tls`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Off,
    /// STARTTLS where it is offered.
    Auto,
    /// STARTTLS or nothing.
    StartTls,
    /// TLS from the first octet on. RFC 8314 §3.3
    Implicit,
}

/// `--quit-after`, in the order of the dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Step {
    Greeting,
    Ehlo,
    StartTls,
    Auth,
    Mail,
    Rcpt,
}

/// How to talk, whoever the server is.
pub struct Manner {
    /// What we call ourselves; else our address.
    pub helo: Option<String>,
    pub mode: Mode,
    pub login: Option<Login>,
    pub trust: Trust,
    pub insecure_auth: bool,
    /// The server was found by MX: nothing says that its name is right, and
    /// the alternative would be clear text.
    pub opportunistic: bool,
    /// `--timeout`, in place of the RFC's.
    pub timeout: Option<Duration>,
    pub quit_after: Option<Step>,
    /// As the book's example: HELO, and a space behind the colon.
    pub book: bool,
}

/// What is to be delivered, and to whom.
pub struct Mail<'a> {
    /// `None`: the null reverse-path.
    pub from: Option<&'a Address>,
    pub to: Vec<&'a Address>,
    pub message: &'a Message,
}

/// Why a conversation ends early, for all recipients at once.
enum Stop {
    Verdict(Verdict),
    /// We do not want to go on: the server has done nothing wrong.
    Unwilling(Error),
    /// There is no TLS to be had, and clear text would do.
    NoTls(Error),
    Fault(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Fault(error)
    }
}

/// One conversation.
struct Dialogue<'a> {
    wire: Wire,
    host: &'a str,
    manner: &'a Manner,
    trace: &'a Trace,
    /// The manner's, or `Off` at a second try.
    mode: Mode,
    offers: Offers,
    helo: String,
}

/// Delivers to one server; a verdict for each recipient, in their order.
/// `Err`: it failed before any was known, so another server may be tried.
pub fn deliver(
    host: &str,
    addresses: &[SocketAddr],
    manner: &Manner,
    mail: &Mail,
    trace: &Trace,
) -> Result<Vec<Verdict>, Error> {
    let mut dialogue = Dialogue::connect(host, addresses, manner, trace)?;
    let mut outcome = dialogue.converse(mail);
    if let Err(Stop::NoTls(error)) = outcome {
        say(format!("topdown mail-client: {error}: in clear, then (RFC 7435)"));
        dialogue = Dialogue::connect(host, addresses, manner, trace)?;
        dialogue.mode = Mode::Off;
        outcome = dialogue.converse(mail);
    }
    match outcome {
        Ok(verdicts) => Ok(verdicts),
        Err(Stop::Verdict(verdict)) => {
            dialogue.quit();
            Ok(vec![verdict; mail.to.len()])
        }
        Err(Stop::Unwilling(error)) => {
            dialogue.quit();
            Err(error)
        }
        Err(Stop::Fault(error) | Stop::NoTls(error)) => Err(error),
    }
}

impl<'a> Dialogue<'a> {
    fn connect(
        host: &'a str,
        addresses: &[SocketAddr],
        manner: &'a Manner,
        trace: &'a Trace,
    ) -> Result<Dialogue<'a>, Error> {
        trace.message(Party::Client, || "SYN: connection request".into());
        let limit = manner.timeout.unwrap_or(CONNECT);
        let socket = net::connect(addresses, 0, limit)?;
        trace.message(Party::Server, || "SYN, ACK: granted".into());
        let doing = || "prepare the socket";
        let peer = socket.peer_addr().doing(doing)?;
        trace.fact(|| format!("connected to {host}, {peer}"));
        socket.set_nodelay(true).doing(doing)?;
        let block = manner.timeout.unwrap_or(DATA_BLOCK);
        socket.set_write_timeout(Some(block)).doing(doing)?;
        let own = socket.local_addr().doing(doing)?.ip().to_canonical();
        // who has no name says its address: RFC 5321 §4.1.1.1, §4.1.3
        let helo = manner.helo.clone().unwrap_or_else(|| match own.is_ipv4() {
            true => format!("[{own}]"),
            false => format!("[IPv6:{own}]"),
        });
        let wire = Wire::new(Arc::new(socket), None);
        let offers = Offers::default();
        let mode = manner.mode;
        Ok(Dialogue { wire, host, manner, trace, mode, offers, helo })
    }

    /// The whole of it.
    fn converse(&mut self, mail: &Mail) -> Result<Vec<Verdict>, Stop> {
        if self.mode == Mode::Implicit {
            self.secure()?;
        }
        let greeting = self.reply(GREETING)?;
        self.expect("the greeting", 220, greeting)?;
        self.quit_after(Step::Greeting)?;
        self.hello()?;
        self.quit_after(Step::Ehlo)?;
        self.start_tls()?;
        self.quit_after(Step::StartTls)?;
        if let Some(login) = &self.manner.login {
            self.authenticate(login)?;
        }
        self.quit_after(Step::Auth)?;
        let mut verdicts = self.envelope(mail)?;
        let accepted = |v: &Verdict| matches!(v, Verdict::Accepted(_));
        if self.manner.quit_after == Some(Step::Rcpt) {
            for v in &mut verdicts {
                if let Verdict::Accepted(reply) = v {
                    *v = Verdict::NotSent(Some(reply.clone()));
                }
            }
        }
        if verdicts.iter().any(accepted) {
            let whole = verdicts.iter().all(accepted);
            let verdict = match self.data(mail.message) {
                Ok(verdict) | Err(Stop::Verdict(verdict)) => verdict,
                // the others' answers are known already
                Err(Stop::Fault(error)) if !whole => {
                    Verdict::Failed(error.to_string())
                }
                Err(other) => return Err(other),
            };
            for v in verdicts.iter_mut().filter(|v| accepted(v)) {
                *v = verdict.clone();
            }
        }
        self.quit();
        Ok(verdicts)
    }

    /// EHLO; HELO where that is unknown: "If the EHLO command is not
    /// acceptable to the SMTP server, 501, 500, 502, or 550 failure replies
    /// MUST be returned as appropriate." RFC 5321 §4.1.4
    fn hello(&mut self) -> Result<(), Stop> {
        self.offers = Offers::default();
        if !self.manner.book {
            if self.wire.tls().is_some() && self.mode != Mode::Implicit {
                self.trace.why(|| {
                    "once more: whoever sits between could have changed the \
                     first answer. RFC 3207 §4.2"
                        .into()
                });
            }
            let reply = self.command(&format!("EHLO {}", self.helo))?;
            if reply.code == 250 {
                self.offers = Offers::parse(&reply);
                return Ok(());
            }
            if !reply.is_permanent() {
                return self.expect("EHLO", 250, reply);
            }
            self.trace.why(|| "then as in RFC 821: HELO".into());
        }
        let reply = self.command(&format!("HELO {}", self.helo))?;
        self.expect("HELO", 250, reply)
    }

    /// DATA, the message, the dot.
    fn data(&mut self, message: &Message) -> Result<Verdict, Stop> {
        self.show("DATA", explain::command(b"DATA"));
        self.send(b"DATA\r\n")?;
        let reply = self.reply(DATA)?;
        if reply.code != 354 {
            return Err(refused("DATA", reply));
        }
        let mut stuffer = Stuffer::new(&self.wire, self.trace);
        let written = message.write_to(&mut stuffer);
        let sent = written.and_then(|()| stuffer.end());
        match sent {
            Ok(()) => {}
            // it may have said why before it closed
            Err(e) if is_gone(&e) => match self.last_reply() {
                Ok(reply) => return Err(refused("DATA", reply)),
                Err(_) => return Err(failed(e).into()),
            },
            Err(error) => return Err(failed(error).into()),
        }
        Ok(match self.reply(AFTER_DOT) {
            Ok(reply) if reply.is_done() => Verdict::Accepted(reply),
            Ok(reply) => Verdict::Refused("the message", reply),
            Err(error) => Verdict::Unknown(error.to_string()),
        })
    }

    /// "The sender MUST NOT intentionally close the transmission channel
    /// until it sends a QUIT command" RFC 5321 §4.1.1.10; but whatever comes
    /// of it, the message is where it is.
    fn quit(&mut self) {
        self.show("QUIT", explain::command(b"QUIT"));
        let sent = self.send(b"QUIT\r\n");
        let _ = sent.and_then(|()| self.last_reply());
    }

    fn quit_after(&self, step: Step) -> Result<(), Stop> {
        match self.manner.quit_after {
            Some(last) if last <= step => {
                Err(Stop::Verdict(Verdict::NotSent(None)))
            }
            _ => Ok(()),
        }
    }

    fn command(&mut self, line: &str) -> Result<Reply, Error> {
        self.show(line, explain::command(line.as_bytes()));
        self.send(format!("{line}\r\n").as_bytes())?;
        self.reply(COMMAND)
    }

    /// A line whose rest behind `shown` nobody is to see.
    fn secret(&mut self, line: &str, shown: &str) -> Result<Reply, Error> {
        let note = "the user and the password, in base64: no secret without \
                    TLS. RFC 4954 §4";
        self.show(&format!("{shown}{BLOT}"), note.into());
        self.send(format!("{line}\r\n").as_bytes())?;
        self.reply(COMMAND)
    }

    fn show(&self, line: &str, note: String) {
        self.trace.text(Party::Client, line.as_bytes(), || note);
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        self.wire.send_all(bytes).doing(|| format!("send to {}", self.host))
    }

    fn reply(&mut self, limit: Duration) -> Result<Reply, Error> {
        self.reply_within(self.manner.timeout.unwrap_or(limit))
    }

    /// One that is not waited for long.
    fn last_reply(&mut self) -> Result<Reply, Error> {
        self.reply_within(self.manner.timeout.unwrap_or(QUIT).min(QUIT))
    }

    fn reply_within(&mut self, limit: Duration) -> Result<Reply, Error> {
        let trace = self.trace;
        let reply = Reply::read(&mut self.wire, limit, |line| {
            trace.line(Party::Server, 0, line, || explain::reply(line));
        })?;
        trace.message(Party::Server, || reply.label());
        Ok(reply)
    }

    fn expect(
        &self,
        step: &'static str,
        code: u16,
        reply: Reply,
    ) -> Result<(), Stop> {
        match reply.code == code {
            true => Ok(()),
            false => Err(refused(step, reply)),
        }
    }
}

fn refused(step: &'static str, reply: Reply) -> Stop {
    Stop::Verdict(Verdict::Refused(step, reply))
}

fn failed(source: std::io::Error) -> Error {
    Error::Io { doing: "send the message".into(), source }
}
