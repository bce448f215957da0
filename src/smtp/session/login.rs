//! AUTH on the server: RFC 4954 §4. Only in TLS, only with `--user-file`.

use std::io;

use super::{MAX_AUTH, Next, Session};
use crate::base64;
use crate::smtp::auth::{BLOT, Login, parse_plain};
use crate::smtp::line::Line;
use crate::trace::Party;

impl Session<'_> {
    /// `AUTH mechanism [initial-response]`
    pub(super) fn auth(&mut self, argument: &str) -> io::Result<Next> {
        let server = self.server;
        let Some(users) = &server.users else {
            return Ok(self.mistake(502, "5.5.1", "nobody logs in here"));
        };
        if self.wire.tls().is_none() {
            let why = "STARTTLS first: the password would be for all to read";
            return Ok(self.mistake(538, "5.7.11", why));
        }
        if self.user.is_some() {
            let why = "once is enough";
            return Ok(self.mistake(503, "5.5.1", why));
        }
        let (mechanism, initial) =
            argument.split_once(' ').unwrap_or((argument, ""));
        let initial = Some(initial.trim().as_bytes()).filter(|i| !i.is_empty());
        let login = if mechanism.eq_ignore_ascii_case("PLAIN") {
            let response = match initial {
                // "a single equals sign" stands for an empty response
                Some(b"=") => Some(Vec::new()),
                Some(initial) => Some(initial.to_vec()),
                None => self.challenge("")?,
            };
            response.map(|response| parse_plain(&response))
        } else if mechanism.eq_ignore_ascii_case("LOGIN") {
            let user = match initial {
                Some(initial) => Some(initial.to_vec()),
                None => self.challenge("Username:")?,
            };
            match user {
                None => None,
                Some(user) => self.challenge("Password:")?.map(|password| {
                    let text =
                        |b: &[u8]| String::from_utf8(base64::decode(b)?).ok();
                    let (user, password) = (text(&user)?, text(&password)?);
                    Some(Login { user, password })
                }),
            }
        } else {
            let why = "PLAIN and LOGIN are known here";
            return Ok(self.mistake(504, "5.5.4", why));
        };
        Ok(match login {
            None => self.mistake(501, "5.7.0", "authentication cancelled"),
            Some(None) => self.mistake(501, "5.5.2", "this is no response"),
            Some(Some(login)) if users.accept(&login) => {
                self.user = Some(login.user);
                self.reply(235, "2.7.0", "authentication successful");
                Next::Command
            }
            Some(Some(_)) => {
                let why = "authentication credentials invalid";
                self.mistake(535, "5.7.8", why)
            }
        })
    }

    /// 334, and the client's answer; `None` when it cancels.
    fn challenge(&mut self, text: &str) -> io::Result<Option<Vec<u8>>> {
        self.say(334, &[base64::encode(text.as_bytes())]);
        let mut line = Vec::new();
        let read = self.read(&mut line, MAX_AUTH)?;
        self.show(Party::Client, BLOT.as_bytes(), |_| {
            "the answer, in base64. RFC 4954 §4".into()
        });
        match read {
            Some(Line::Good) if line != b"*" => Ok(Some(line)),
            Some(_) => Ok(None),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
