//! What the mail client's options say: the message, the envelope, and where
//! they go.

use std::io::{self, IsTerminal, Read};

use super::address::{Address, Mailbox, is_domain};
use super::content::{Attachment, RawFile};
use super::dead_letter;
use super::dialogue::{Mode, Step};
use super::message::{Draft, Message};
use super::route::{PORT, SUBMISSION, SUBMISSIONS};
use crate::args::{Args, text};
use crate::error::{Doing, Error};
use crate::net;
use crate::output::say;
use crate::trace::Trace;

/// A text is held in memory.
const MAX_TEXT: u64 = 16 << 20;

/// The envelope, which is what the servers go by.
pub struct Envelope {
    pub from: Option<Address>,
    pub to: Vec<Address>,
}

/// The options that make the message.
pub struct Header {
    pub from: Option<Mailbox>,
    to: Vec<Mailbox>,
    cc: Vec<Mailbox>,
    bcc: Vec<Mailbox>,
    subject: String,
    body: Option<String>,
    attachments: Vec<String>,
    pub raw: Option<String>,
}

impl Header {
    pub fn from_args(args: &mut Args) -> Result<Header, Error> {
        let subject = args.value("--subject", |subject| {
            match subject.chars().any(char::is_control) {
                true => Err("a subject has no control characters".into()),
                false => Ok(subject.to_string()),
            }
        })?;
        let header = Header {
            from: args.value("--from", Mailbox::parse)?,
            to: args.values("--to", Mailbox::parse)?,
            cc: args.values("--cc", Mailbox::parse)?,
            bcc: args.values("--bcc", Mailbox::parse)?,
            subject: subject.unwrap_or_default(),
            body: args.value("--body", text)?,
            attachments: args.values("--attach", text)?,
            raw: args.value("--raw", text)?,
        };
        let parts = header.body.is_some()
            || !header.attachments.is_empty()
            || !header.subject.is_empty();
        if header.raw.is_some() && parts {
            let fault = "--raw has subject, body and attachments in it";
            return Err(Error::Usage(fault.into()));
        }
        if header.raw.is_none() && header.from.is_none() {
            return Err(Error::Usage("--from is missing".into()));
        }
        Ok(header)
    }

    /// Everybody once, whether To, Cc or Bcc.
    pub fn envelope(&self) -> Envelope {
        let mut to: Vec<Address> = Vec::new();
        for all in [&self.to, &self.cc, &self.bcc] {
            for mailbox in all {
                if !to.contains(&mailbox.address) {
                    to.push(mailbox.address.clone());
                }
            }
        }
        Envelope { from: self.from.as_ref().map(|f| f.address.clone()), to }
    }

    /// `--raw`: what the options do not say, the file may. True: it says the
    /// whole envelope.
    pub fn raw_message(
        &self,
        path: &str,
        mut envelope: Envelope,
    ) -> Result<(Envelope, Message, bool), Error> {
        let raw = RawFile::open(path)?;
        let kept = dead_letter::envelope(&raw, path)?;
        let own = envelope.to.is_empty() && envelope.from.is_none();
        if envelope.to.is_empty() {
            envelope.to = kept.to;
        }
        if kept.length == 0 && envelope.from.is_none() {
            return Err(Error::Usage("--from is missing".into()));
        }
        envelope.from = envelope.from.or(kept.from);
        Ok((envelope, Message::raw(raw, kept.length)?, own))
    }

    pub fn message(
        self,
        file: Option<&str>,
        trace: &Trace,
    ) -> Result<Message, Error> {
        let opened = self.attachments.iter().map(|path| Attachment::open(path));
        let attachments = opened.collect::<Result<Vec<_>, Error>>()?;
        let Some(from) = self.from else {
            return Err(Error::Usage("--from is missing".into()));
        };
        let text = match (self.body, file) {
            (Some(_), Some(_)) => {
                let fault = "--body and FILE exclude each other";
                return Err(Error::Usage(fault.into()));
            }
            (Some(text), None) => text,
            (None, Some(path)) if path != "-" => {
                let file = std::fs::File::open(path);
                read_text(file.doing(|| format!("read {path}"))?, path)?
            }
            _ => {
                if io::stdin().is_terminal() {
                    say("Type the text, and end it with Ctrl-D:");
                }
                read_text(io::stdin().lock(), "standard input")?
            }
        };
        Draft {
            from,
            to: self.to,
            cc: self.cc,
            subject: self.subject,
            text,
            attachments,
        }
        .compose(trace)
    }
}

fn read_text(stream: impl Read, path: &str) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let read = stream.take(MAX_TEXT + 1).read_to_end(&mut bytes);
    read.doing(|| format!("read {path}"))?;
    if bytes.len() as u64 > MAX_TEXT {
        let fault = format!("{path}: more than 16 MiB of text: use --attach");
        return Err(Error::Usage(fault));
    }
    String::from_utf8(bytes).map_err(|_| {
        Error::Usage(format!("{path}: no text in UTF-8: use --attach"))
    })
}

/// Where to, in which mode, and as whom.
pub type Destination = (Option<(String, u16)>, Mode, Option<String>);

/// Reads the options that say so.
pub fn destination(
    args: &mut Args,
    from: Option<&Mailbox>,
) -> Result<Destination, Error> {
    let given = args.value("--tls", mode)?;
    let server = args.value("--server", host_and_port)?;
    let user = args.value("--user", text)?;
    let (gmail, yahoo) = (args.flag("--gmail"), args.flag("--yahoo"));
    let preset = match (gmail, yahoo, &server) {
        (false, false, _) => None,
        (true, false, None) => {
            Some(("smtp.gmail.com", SUBMISSION, Mode::StartTls))
        }
        (false, true, None) => {
            Some(("smtp.mail.yahoo.com", SUBMISSIONS, Mode::Implicit))
        }
        _ => {
            let fault = "--gmail, --yahoo and --server exclude each other";
            return Err(Error::Usage(fault.into()));
        }
    };
    // there one logs in with the address
    let own = from.filter(|_| preset.is_some());
    let user = user.or(own.map(|from| from.address.to_string()));
    let mut mode = given.unwrap_or(Mode::Auto);
    let server = match (preset, server) {
        (Some((host, port, preset)), _) => {
            mode = given.unwrap_or(preset);
            Some((host.to_string(), port))
        }
        (None, Some((host, port))) => {
            if port == Some(SUBMISSIONS) && mode == Mode::Auto {
                mode = Mode::Implicit;
            }
            let usual = match (mode, &user) {
                (Mode::Implicit, _) => SUBMISSIONS,
                (_, Some(_)) => SUBMISSION,
                (_, None) => PORT,
            };
            Some((host, port.unwrap_or(usual)))
        }
        (None, None) => None,
    };
    if server.is_none() && user.is_some() {
        return Err(Error::Usage("--user goes with --server".into()));
    }
    Ok((server, mode, user))
}

/// `--tls`
fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "off" => Ok(Mode::Off),
        "auto" => Ok(Mode::Auto),
        "starttls" => Ok(Mode::StartTls),
        "tls" => Ok(Mode::Implicit),
        _ => Err(format!("off, auto, starttls or tls, not '{text}'")),
    }
}

/// `--quit-after`
pub fn step(text: &str) -> Result<Step, String> {
    match text {
        "greeting" => Ok(Step::Greeting),
        "ehlo" | "helo" => Ok(Step::Ehlo),
        "starttls" => Ok(Step::StartTls),
        "auth" => Ok(Step::Auth),
        "mail" => Ok(Step::Mail),
        "rcpt" => Ok(Step::Rcpt),
        _ => Err(format!(
            "greeting, ehlo, starttls, auth, mail or rcpt, not '{text}'"
        )),
    }
}

/// `--helo`
pub fn helo(text: &str) -> Result<String, String> {
    match is_domain(text) {
        true => Ok(text.to_string()),
        false => Err(format!("a domain or [address], not '{text}'")),
    }
}

/// `--server HOST[:PORT]`, an IPv6 address in brackets.
fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    if text.contains("://") {
        return Err(format!("HOST[:PORT] is wanted, not '{text}'"));
    }
    let after_literal = text.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match text[after_literal..].find(':') {
        Some(at) => {
            let (host, port) = text.split_at(after_literal + at);
            (host, Some(net::port(&port[1..])?))
        }
        None => (text, None),
    };
    let host = host.trim_matches(['[', ']']);
    let legal = |c: char| !c.is_control() && !c.is_whitespace();
    match host.is_empty() || !host.chars().all(legal) {
        true => Err(format!("HOST[:PORT] is wanted, not '{text}'")),
        false => Ok((host.to_string(), port)),
    }
}
