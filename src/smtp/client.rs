//! `mail-client`: writes a message and hands it to a mail server. KR 2.3.1,
//! lab "Mail Client".
//!
//! The lab's client makes a TCP connection to a mail server, holds the SMTP
//! dialogue over it, and so sends a message to a recipient. Its optional
//! exercises are TLS and AUTH, as Gmail asks for them, and messages with
//! pictures.
//!
//! ```text
//! $ echo Do you like ketchup? | topdown mail-client --from alice@crepes.fr \
//!     --to bob@hamburger.edu --server localhost:2525
//! bob@hamburger.edu: 250 2.0.0 Message accepted for delivery
//! ```
//!
//! Read `run`, `Task::deliver_all`; `options.rs` reads what is wanted,
//! `message.rs` makes the message, `route.rs` finds the servers, `dialogue.rs`
//! talks to them.
//!
//! Not here: signatures and encryption of messages (DKIM, OpenPGP, S/MIME),
//! a queue that tries again by itself: a mail server's business.

use std::io::{self, Write};
use std::time::Duration;

use super::address::{Address, Mailbox};
use super::auth::{BLOT, Login};
use super::dead_letter::Outbox;
use super::dialogue::{self, Mail, Manner, Mode, Offers, Verdict};
use super::message::Message;
use super::options::{Envelope, Header, destination, helo, step};
use super::reply::Reply;
use super::route::{self, PORT, Route};
use super::stuffing::stuff;
use crate::Tool;
use crate::args::{self, Args, text};
use crate::error::{Doing, Error, Outcome};
use crate::net::{self, Family};
use crate::output::{Output, json_string, printable, say, wrote};
use crate::tls::Trust;
use crate::trace::{Party, Trace};

pub static TOOL: Tool = Tool {
    name: "mail-client",
    section: "KR 2.3.1",
    summary: "write a message and hand it to a mail server",
    help: "\
usage: topdown mail-client --from MAILBOX --to MAILBOX... [OPTION]... [FILE]
       topdown mail-client --raw FILE [OPTION]...

Sends the text of FILE, or standard input, over SMTP: to the server given, or
to the ones that take mail for the recipients' domains (MX).

  -f, --from MAILBOX         the author: alice@crepes.fr, or 'Alice <…>'
  -t, --to MAILBOX           a recipient; may be repeated, as the next two
  -c, --cc MAILBOX           gets a copy
  -b, --bcc MAILBOX          gets a copy that the others do not see
  -s, --subject TEXT         what it is about
      --body TEXT            the text itself
  -a, --attach FILE          goes along, of any type; may be repeated
      --raw FILE             a complete message (- for standard input), such
                             as dead.letter: its envelope may stand in it
      --server HOST[:PORT]   the server (port 25; 587 with --user)
      --gmail                smtp.gmail.com:587 with STARTTLS, as --from
      --yahoo                smtp.mail.yahoo.com:465 with TLS, as --from
      --tls MODE             off, auto, starttls, tls (default: auto, that is
                             whenever it is offered; tls on port 465)
  -u, --user NAME            log in, with $TOPDOWN_PASSWORD or after a prompt
      --password-file FILE   the password is its first line
      --insecure-auth        send the password even without TLS
      --ca-file FILE         trust these authorities (PEM), too
      --insecure             trust anybody: not for secrets
      --helo NAME            what to call ourselves (default: our address)
      --dead-letter FILE     keep there what could not be sent (dead.letter)
      --dry-run              print what would be sent, send nothing
      --quit-after STEP      greeting, ehlo, starttls, auth, mail or rcpt;
                             nothing is sent, nothing kept
      --book                 speak as the book's example: HELO, 'MAIL FROM: <>'
  -W, --timeout SECONDS      the limit of every wait (default: RFC 5321's)
  -4, --ipv4                 IPv4 only
  -6, --ipv6                 IPv6 only
      --json                 print each recipient's verdict as JSON
  -q, --quiet                say nothing of what went well
  -v, --verbose              print the dialogue on standard error
  -e, --explain              the same, each line with its reason
      --diagram FILE.svg     draw the run as a space-time diagram
  -h, --help                 print this
",
    run,
};

/// How long a name may take to look up.
const LOOK_UP: Duration = Duration::from_secs(10);

/// All that the options say.
struct Task {
    /// `None`: by MX.
    server: Option<(String, u16)>,
    manner: Manner,
    family: Family,
    dead_letter: String,
    json: bool,
    quiet: bool,
    trace: Trace,
}

fn run(mut args: Args) -> Result<Outcome, Error> {
    let dry_run = args.flag("--dry-run");
    let mut header = Header::from_args(&mut args)?;
    let task = Task::from_args(&mut args, header.from.as_ref(), !dry_run)?;
    let file = args.optional_operand();
    args.finish()?;
    let envelope = header.envelope();
    let raw = header.raw.take();
    let (envelope, message, kept) = match &raw {
        Some(path) if file.is_none() => header.raw_message(path, envelope)?,
        Some(_) => return Err(Error::Usage("--raw is the message".into())),
        None => {
            let message = header.message(file.as_deref(), &task.trace)?;
            (envelope, message, false)
        }
    };
    if envelope.to.is_empty() {
        return Err(Error::Usage("--to is missing".into()));
    }
    if dry_run {
        return task.print(&envelope, &message);
    }
    let Envelope { from, to } = envelope;
    let keeps = task.manner.quit_after.is_none();
    let path = keeps.then_some(task.dead_letter.as_str());
    // (what lies in a file with its envelope need not be kept again)
    let raw = raw.filter(|raw| kept && raw != "-");
    let outbox = Outbox::new(from, &to, message, path, raw)?;
    let verdicts = task.deliver_all(&outbox, &to);
    task.report(&outbox, &to, verdicts)
}

impl Task {
    fn from_args(
        args: &mut Args,
        from: Option<&Mailbox>,
        ask: bool,
    ) -> Result<Task, Error> {
        let (server, mode, user) = destination(args, from)?;
        let opportunistic = server.is_none() && mode == Mode::Auto;
        let manner = Manner {
            helo: args.value("--helo", helo)?,
            mode,
            login: Login::from_args(args, user, ask)?,
            trust: Trust::from_args(args)?,
            insecure_auth: args.flag("--insecure-auth"),
            opportunistic,
            timeout: args.value("--timeout", args::seconds)?,
            quit_after: args.value("--quit-after", step)?,
            book: args.flag("--book"),
        };
        let dead_letter = args.value("--dead-letter", text)?;
        Ok(Task {
            server,
            manner,
            family: Family::from_args(args)?,
            dead_letter: dead_letter.unwrap_or_else(|| "dead.letter".into()),
            json: args.flag("--json"),
            quiet: args.flag("--quiet"),
            trace: Trace::from_args(args, Party::Client)?,
        })
    }

    /// A verdict for each recipient, in the envelope's order.
    fn deliver_all(&self, outbox: &Outbox, all: &[Address]) -> Vec<Verdict> {
        let (from, message) = (outbox.from.as_ref(), &outbox.message);
        if let Some((host, port)) = &self.server {
            let mail = Mail { from, to: all.iter().collect(), message };
            return self.deliver(std::slice::from_ref(host), *port, &mail);
        }
        let mut verdicts = vec![Verdict::NotSent(None); all.len()];
        for (domain, to) in route::by_domain(all) {
            let group = match route::find(&domain, self.family, &self.trace) {
                Ok(Route::Hosts(hosts)) => {
                    let mail = Mail { from, to: to.clone(), message };
                    self.deliver(&hosts, PORT, &mail)
                }
                Ok(Route::None(why)) => {
                    vec![Verdict::Impossible(why); to.len()]
                }
                Err(error) => {
                    vec![Verdict::Failed(error.to_string()); to.len()]
                }
            };
            for (address, verdict) in to.into_iter().zip(group) {
                if matches!(verdict, Verdict::Accepted(_)) {
                    outbox.has_got(address);
                }
                let at = all.iter().position(|a| a == address);
                verdicts[at.unwrap_or_default()] = verdict;
            }
        }
        verdicts
    }

    /// Tries one host after the other, until one talks to us.
    fn deliver(
        &self,
        hosts: &[String],
        port: u16,
        mail: &Mail,
    ) -> Vec<Verdict> {
        let mut last = Verdict::NotSent(None);
        for (i, host) in hosts.iter().enumerate() {
            let limit = self.manner.timeout.unwrap_or(LOOK_UP);
            let outcome = net::resolve(host, port, self.family, limit)
                .and_then(|addresses| {
                    let (manner, trace) = (&self.manner, &self.trace);
                    dialogue::deliver(host, &addresses, manner, mail, trace)
                });
            let more = i + 1 < hosts.len();
            match outcome {
                Ok(verdicts) => match verdicts.first() {
                    // one that takes no mail now is like one that is away
                    Some(Verdict::Refused(
                        "the greeting" | "EHLO" | "HELO",
                        _,
                    )) if more => {
                        last = verdicts[0].clone();
                    }
                    _ => return verdicts,
                },
                Err(error) => last = Verdict::Failed(with_remedy(&error)),
            }
            if more {
                self.trace.why(|| {
                    format!(
                        "{host} takes no mail now: the next one. \
                         RFC 5321 §5.1"
                    )
                });
            }
        }
        vec![last; mail.to.len()]
    }

    /// Tells what became of it, keeps what was not sent.
    fn report(
        &self,
        outbox: &Outbox,
        all: &[Address],
        verdicts: Vec<Verdict>,
    ) -> Result<Outcome, Error> {
        let mut outcome = Outcome::Yes;
        let (mut failed, mut unprinted) = (false, None);
        // (that nobody reads it must not keep the rest from being done)
        let mut print = |line: String| {
            if unprinted.is_none() {
                let line = format!("{}\n", printable(line));
                unprinted =
                    wrote(io::stdout().write_all(line.as_bytes())).err();
            }
        };
        for (address, verdict) in all.iter().zip(&verdicts) {
            if self.json {
                print(json(address, verdict));
            }
            let quiet = self.quiet || self.json;
            let text = match verdict {
                Verdict::Accepted(reply) => {
                    outbox.has_got(address);
                    if !quiet {
                        print(format!("{address}: {reply}"));
                    }
                    continue;
                }
                Verdict::NotSent(reply) => {
                    outbox.has_got(address);
                    let told = reply.as_ref().map(|r| format!("{r}; "));
                    let told = told.unwrap_or_default();
                    if !quiet {
                        let why = "not sent (--quit-after)";
                        print(format!("{address}: {told}{why}"));
                    }
                    continue;
                }
                unsent => unsent.why(),
            };
            match verdict {
                Verdict::Unknown(_) | Verdict::Failed(_) => failed = true,
                _ => outcome = Outcome::No,
            }
            let told = Error::protocol(address.to_string(), text);
            say(format!("topdown mail-client: {told}"));
        }
        if let Err(error) = outbox.settle() {
            say(format!("topdown mail-client: {error}"));
            failed = true;
        }
        match unprinted {
            _ if failed => Err(Error::Told),
            Some(error) if outcome == Outcome::Yes => Err(error),
            _ => Ok(outcome),
        }
    }

    /// `--dry-run`: the client's half of the dialogue, as far as it can be
    /// known without a server.
    fn print(
        &self,
        envelope: &Envelope,
        message: &Message,
    ) -> Result<Outcome, Error> {
        let manner = &self.manner;
        let helo = manner.helo.as_deref().unwrap_or("[127.0.0.1]");
        let to = match &self.server {
            Some((host, port)) => format!("to {host}, port {port}"),
            None => "to the mail exchangers of each domain".into(),
        };
        say(format!("topdown mail-client: {to}, this would be said:"));
        let hello = if manner.book { "HELO" } else { "EHLO" };
        let mut text = format!("{hello} {helo}\r\n");
        let login = manner.login.is_some();
        if manner.mode == Mode::StartTls || manner.mode == Mode::Auto && login {
            text.push_str(&format!("STARTTLS\r\nEHLO {helo}\r\n"));
        }
        if login {
            text.push_str(&format!("AUTH PLAIN {BLOT}\r\n"));
        }
        let offers = match manner.book {
            true => Offers::default(),
            false => Offers::all(),
        };
        let (from, to) = (envelope.from.as_ref(), envelope.to.iter().collect());
        let mail = Mail { from, to, message };
        let commands = dialogue::commands(&offers, &mail, manner.book);
        text.push_str(&commands.map_err(Error::Usage)?.join("\r\n"));
        text.push_str("\r\nDATA\r\n");
        let mut printer = Printer { out: Output::new(), at_line_start: true };
        printer.out.write(text.as_bytes())?;
        message.write_to(&mut printer).doing(|| "print the message")?;
        printer.out.write(b".\r\nQUIT\r\n")?;
        Ok(Outcome::Yes)
    }
}

/// A fault, and what is often the cause.
fn with_remedy(error: &Error) -> String {
    let refused = |e: &io::Error| e.kind() == io::ErrorKind::ConnectionRefused;
    match error {
        Error::Io { source, .. } if refused(source) => format!(
            "{error}: no mail server listens there ('topdown mail-server' \
             listens on 2525)"
        ),
        _ => error.to_string(),
    }
}

/// Prints what is written to it, dots doubled.
struct Printer {
    out: Output,
    at_line_start: bool,
}

impl Write for Printer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stuffed = Vec::with_capacity(bytes.len());
        stuff(bytes, &mut self.at_line_start, &mut stuffed);
        let written = self.out.write(&stuffed);
        written.map_err(|error| io::Error::other(error.to_string()))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One object, on one line.
fn json(address: &Address, verdict: &Verdict) -> String {
    let (word, code, text) = match verdict {
        Verdict::Accepted(reply) => ("accepted", reply.code, reply.to_string()),
        Verdict::Refused(_, reply) if reply.is_permanent() => {
            ("refused", reply.code, reply.to_string())
        }
        Verdict::Refused(_, reply) => ("later", reply.code, reply.to_string()),
        Verdict::Impossible(why) => ("impossible", 0, why.clone()),
        Verdict::NotSent(reply) => {
            let text = reply.as_ref().map_or(String::new(), Reply::to_string);
            ("not sent", reply.as_ref().map_or(0, |r| r.code), text)
        }
        Verdict::Unknown(why) => ("unknown", 0, why.clone()),
        Verdict::Failed(why) => ("failed", 0, why.clone()),
    };
    format!(
        "{{\"recipient\":{},\"verdict\":\"{word}\",\"code\":{code},\
         \"text\":{}}}",
        json_string(&address.to_string()),
        json_string(&text)
    )
}
