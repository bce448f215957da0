//! The envelope on the server: MAIL and RCPT, their parameters, and who is
//! refused. RFC 5321 §4.1.1.2, §4.1.1.3

use super::{Next, Session};
use crate::smtp::address::Address;
use crate::smtp::command::{Path, State, path};

/// What MAIL and RCPT have told.
#[derive(Default)]
pub struct Envelope {
    /// `None`: the null reverse-path.
    pub from: Option<Address>,
    pub to: Vec<Address>,
    /// BODY=8BITMIME
    pub eight_bit: bool,
    /// SMTPUTF8
    pub utf8: bool,
}

impl Session<'_> {
    /// MAIL FROM. RFC 5321 §4.1.1.2
    pub(super) fn mail(&mut self, argument: &str) -> Next {
        let server = self.server;
        if server.users.is_some() && self.user.is_none() {
            return self.mistake(530, "5.7.0", "authentication required");
        }
        let path = match path(argument, "FROM:") {
            Ok(path) => path,
            Err(why) => return self.mistake(501, "5.1.7", &why),
        };
        let mut envelope = Envelope::default();
        for (key, value) in &path.parameters {
            let key = key.to_ascii_uppercase();
            match (key.as_str(), value.to_ascii_uppercase().as_str()) {
                ("BODY", "8BITMIME") => envelope.eight_bit = true,
                ("BODY", "7BIT") => {}
                ("SMTPUTF8", "") => envelope.utf8 = true,
                ("AUTH", _) if server.users.is_some() => {} // RFC 4954 §5
                ("SIZE", size) => match size.parse::<u64>() {
                    Ok(size) if size > server.max_size => {
                        let why = "the message would be too big";
                        self.reply(552, "5.3.4", why);
                        return Next::Command;
                    }
                    Ok(_) => {}
                    Err(_) => {
                        return self.mistake(501, "5.5.4", "SIZE is a number");
                    }
                },
                ("BODY", _) => {
                    return self.mistake(501, "5.5.4", "7BIT or 8BITMIME");
                }
                _ => {
                    let why = format!("{key} is not known here");
                    return self.mistake(555, "5.5.4", &why);
                }
            }
        }
        if let Some(next) = self.refused(&path, envelope.utf8) {
            return next;
        }
        let shown =
            path.address.as_ref().map_or("<>".into(), Address::to_string);
        envelope.from = path.address;
        self.envelope = envelope;
        self.state = State::Mail;
        self.reply(250, "2.1.0", &format!("{shown} ... Sender ok"));
        Next::Command
    }

    /// RCPT TO. RFC 5321 §4.1.1.3
    pub(super) fn rcpt(&mut self, argument: &str) -> Next {
        let server = self.server;
        let path = match path(argument, "TO:") {
            Ok(path) => path,
            Err(why) => return self.mistake(501, "5.1.3", &why),
        };
        if let Some((key, _)) = path.parameters.first() {
            let why = format!("{key} is not known here");
            return self.mistake(555, "5.5.4", &why);
        }
        if self.envelope.to.len() >= server.max_recipients {
            self.reply(452, "4.5.3", "too many recipients");
            return Next::Command;
        }
        if let Some(next) = self.refused(&path, self.envelope.utf8) {
            return next;
        }
        let Some(address) = path.address else {
            return self.mistake(501, "5.1.3", "a recipient has an address");
        };
        if !server.is_ours(&address) {
            let why = format!("{address} ... we do not relay");
            self.reply(550, "5.7.1", &why);
            return Next::Command;
        }
        self.state = State::Rcpt;
        self.reply(250, "2.1.5", &format!("{address} ... Recipient ok"));
        self.envelope.to.push(address);
        Next::Command
    }

    /// What is the same for both paths: it may be answered with a no.
    fn refused(&mut self, path: &Path, utf8: bool) -> Option<Next> {
        for note in &path.notes {
            self.note(note);
        }
        let address = path.address.as_ref()?;
        if !address.is_ascii() && !utf8 {
            let why = format!("{address} ... SMTPUTF8 was not asked for");
            self.reply(553, "5.6.7", &why); // RFC 6531 §3.5
            return Some(Next::Command);
        }
        if let Some(code) = self.server.refusal(address) {
            let enhanced = format!("{}.2.0", code / 100);
            let why = format!("{address} ... refused, as --refuse says");
            self.reply(code, &enhanced, &why);
            return Some(match code {
                421 => Next::End, // "closing transmission channel"
                _ => Next::Command,
            });
        }
        None
    }
}
