//! AUTH, RFC 4954, with the mechanisms that are spoken everywhere: PLAIN
//! (RFC 4616) and LOGIN. Both send the password as it is, in base64, which
//! hides nothing: so TLS comes first.

use std::fs;

use crate::args::{Args, text};
use crate::base64;
use crate::error::{Doing, Error};
use crate::password;

/// A longer command line than this has its first response in the next.
/// RFC 4954 §4, RFC 5321 §4.5.3.1.4
pub const MAX_INITIAL: usize = 512;

/// What stands in a transcript in a password's place.
pub const BLOT: &str = "********";

/// A user and the password.
#[derive(Clone)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl Login {
    /// Reads `--password-file`. The password comes from there, from
    /// `TOPDOWN_PASSWORD` or from the terminal, never from the command line,
    /// which everybody on the machine can see.
    pub fn from_args(
        args: &mut Args,
        user: Option<String>,
        ask: bool,
    ) -> Result<Option<Login>, Error> {
        let file = args.value("--password-file", text)?;
        let Some(user) = user else { return Ok(None) };
        let password = match (file, std::env::var("TOPDOWN_PASSWORD")) {
            (Some(file), _) => {
                let all = fs::read_to_string(&file);
                let all = all.doing(|| format!("read {file}"))?;
                all.lines().next().unwrap_or_default().to_string()
            }
            (None, Ok(password)) => password,
            (None, Err(_)) if !ask => String::new(),
            (None, Err(_)) => {
                let asked = password::ask(&format!("password for {user}: "));
                asked.map_err(|error| {
                    let why = "TOPDOWN_PASSWORD or --password-file gives it";
                    Error::protocol(error.to_string(), why)
                })?
            }
        };
        if user.contains('\0') || password.contains('\0') {
            return Err(Error::Usage("a NUL in a user or password".into()));
        }
        Ok(Some(Login { user, password }))
    }

    /// `[authzid] NUL authcid NUL passwd`. RFC 4616 §2
    pub fn plain(&self) -> String {
        let message = format!("\0{}\0{}", self.user, self.password);
        base64::encode(message.as_bytes())
    }
}

/// What a client's PLAIN message says, decoded: user and password.
pub fn parse_plain(text: &[u8]) -> Option<Login> {
    let message = String::from_utf8(base64::decode(text)?).ok()?;
    let mut parts = message.split('\0');
    let login = |authzid: &str, user: &str, password: &str| {
        // to act as another is not offered
        (authzid.is_empty() || authzid == user)
            .then(|| Login { user: user.into(), password: password.into() })
    };
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(a), Some(u), Some(p), None) if !u.is_empty() => login(a, u, p),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_of_rfc_4616_4() {
        let login =
            Login { user: "tim".into(), password: "tanstaaftanstaaf".into() };
        let text = "AHRpbQB0YW5zdGFhZnRhbnN0YWFm";
        assert_eq!(login.plain(), text);
        let parsed = parse_plain(text.as_bytes()).unwrap();
        assert_eq!(
            (parsed.user, parsed.password),
            (login.user, login.password)
        );
        for bad in ["", "dGlt", "AAA=", "AHRpbQ==", "=", "eAB0aW0AeA=="] {
            assert!(parse_plain(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
