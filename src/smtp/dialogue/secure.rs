//! Before the envelope: TLS, and then who we are. RFC 3207, RFC 4954

use super::{COMMAND, Dialogue, Mode, Stop};
use crate::base64;
use crate::error::{Doing, Error};
use crate::output::say;
use crate::smtp::auth::{Login, MAX_INITIAL};
use crate::tls::{self, Tls};
use crate::trace::Party;

impl Dialogue<'_> {
    pub(super) fn start_tls(&mut self) -> Result<(), Stop> {
        let opportunistic = self.manner.opportunistic;
        match self.mode {
            Mode::Off | Mode::Implicit => return self.may_authenticate(),
            Mode::StartTls if !self.offers.start_tls => {
                let why = "the server offers no STARTTLS: nothing was sent";
                return Err(self.unwilling(why));
            }
            Mode::Auto if !self.offers.start_tls => {
                return self.may_authenticate();
            }
            Mode::Auto | Mode::StartTls => {}
        }
        let reply = self.command("STARTTLS")?;
        if opportunistic && reply.code != 220 {
            self.trace.why(|| "in clear, then. RFC 7435".into());
            return Ok(());
        }
        self.expect("STARTTLS", 220, reply)?;
        // Whoever sits between could put replies in here, in clear, for us
        // to take for the server's own under TLS.
        if !self.wire.buffered().is_empty() {
            let why = "something was injected behind the reply to STARTTLS";
            return Err(Error::protocol(self.host, why).into());
        }
        match self.secure() {
            Err(error) if opportunistic => return Err(Stop::NoTls(error)),
            other => other?,
        }
        // "The client MUST discard any knowledge obtained from the server,
        // such as the list of SMTP service extensions, which was not
        // obtained from the TLS negotiation itself." RFC 3207 §4.2
        self.hello()
    }

    /// A password goes out in TLS only.
    fn may_authenticate(&self) -> Result<(), Stop> {
        let exposed = self.manner.login.is_some() && self.wire.tls().is_none();
        if exposed && !self.manner.insecure_auth {
            let why = "without TLS the password would be for all to read: it \
                       was not sent (--insecure-auth would)";
            return Err(self.unwilling(why));
        }
        Ok(())
    }

    pub(super) fn secure(&mut self) -> Result<(), Error> {
        let (manner, host, trace) = (self.manner, self.host, self.trace);
        let limit = manner.timeout.unwrap_or(COMMAND);
        self.wire.limit_read_to(limit).doing(|| "prepare the socket")?;
        let trust = match manner.opportunistic {
            true => &manner.trust.anybody(),
            false => &manner.trust,
        };
        trace.message(Party::Client, || "TLS: client hello".into());
        self.wire.start_tls(trust, host)?;
        trace.message(Party::Server, || "TLS: server hello".into());
        if manner.opportunistic {
            let tls = self.wire.tls();
            let why = tls.and_then(Tls::unverified);
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            say(format!(
                "topdown mail-client: encrypted, but nobody was \
                 authenticated as {host} (RFC 7435){why}"
            ));
        } else {
            manner.trust.warn(&self.wire, host);
        }
        if let Some(tls) = self.wire.tls() {
            trace.fact(|| tls.with(host));
            trace.why(|| tls::observer("the mail and its envelope"));
        }
        Ok(())
    }

    /// AUTH PLAIN, else LOGIN. RFC 4954 §4
    pub(super) fn authenticate(&mut self, login: &Login) -> Result<(), Stop> {
        let offered = |name: &str| {
            self.offers.mechanisms.iter().any(|mechanism| mechanism == name)
        };
        let reply = if offered("PLAIN") {
            let plain = login.plain();
            let whole = format!("AUTH PLAIN {plain}");
            if whole.len() + 2 <= MAX_INITIAL {
                self.secret(&whole, "AUTH PLAIN ")?
            } else {
                self.challenge("AUTH PLAIN")?;
                self.secret(&plain, "")?
            }
        } else if offered("LOGIN") {
            self.challenge("AUTH LOGIN")?;
            let user = base64::encode(login.user.as_bytes());
            let reply = self.secret(&user, "")?;
            self.expect("AUTH", 334, reply)?;
            let password = base64::encode(login.password.as_bytes());
            self.secret(&password, "")?
        } else {
            let why = match self.offers.mechanisms.as_slice() {
                [] => "the server offers no AUTH here".to_string(),
                some => format!(
                    "the server offers AUTH by {} only; PLAIN and LOGIN are \
                     spoken here",
                    some.join(", ")
                ),
            };
            return Err(self.unwilling(&why));
        };
        self.expect("AUTH", 235, reply)
    }

    fn unwilling(&self, why: &str) -> Stop {
        Stop::Unwilling(Error::protocol(self.host, why))
    }

    fn challenge(&mut self, command: &str) -> Result<(), Stop> {
        let reply = self.command(command)?;
        self.expect("AUTH", 334, reply)
    }
}
