//! Who may send: the users and passwords of `--user-file`.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::auth::Login;
use crate::error::{Doing, Error};

/// `user:password`, a line each.
pub struct Users(Vec<Login>);

impl Users {
    /// Reads the file, which nobody else may be able to read.
    pub fn from_file(path: &str) -> Result<Users, Error> {
        let doing = || format!("read {path}");
        let metadata = fs::metadata(path).doing(doing)?;
        if metadata.mode() & 0o077 != 0 {
            return Err(Error::Usage(format!(
                "{path} holds passwords, and others may read or write it: \
                 chmod 600 {path}"
            )));
        }
        let text = fs::read_to_string(path).doing(doing)?;
        let mut users = Vec::new();
        for (i, line) in text.lines().enumerate() {
            match line.split_once(':') {
                _ if line.is_empty() || line.starts_with('#') => {}
                Some((user, password)) if !user.is_empty() => {
                    users.push(Login {
                        user: user.into(),
                        password: password.into(),
                    });
                }
                _ => {
                    let fault = format!("{path}: line {}: no user:", i + 1);
                    return Err(Error::Usage(fault));
                }
            }
        }
        Ok(Users(users))
    }

    /// Is that the user's password? How long this takes says nothing of how
    /// much of it was right, nor whether there is such a user.
    pub fn accept(&self, login: &Login) -> bool {
        let mut accepted = false;
        for known in &self.0 {
            let user = same(&known.user, &login.user);
            let password = same(&known.password, &login.password);
            accepted |= user & password;
        }
        accepted
    }
}

/// Looks at every octet of what was given, whatever the first ones say.
fn same(known: &str, given: &str) -> bool {
    let known = known.as_bytes();
    let mut difference = known.len() ^ given.len();
    for (i, byte) in given.bytes().enumerate() {
        let other = known.get(i).copied().unwrap_or(!byte);
        difference |= usize::from(std::hint::black_box(byte ^ other));
    }
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_must_be_the_users_own() {
        let login = |user: &str, password: &str| Login {
            user: user.into(),
            password: password.into(),
        };
        let users = Users(vec![login("alice", "a:1"), login("bob", "")]);
        assert!(users.accept(&login("alice", "a:1")));
        assert!(users.accept(&login("bob", "")));
        for (user, password) in [
            ("alice", ""),
            ("alice", "a:"),
            ("alice", "a:12"),
            ("bob", "a:1"),
            ("eve", "a:1"),
            ("", ""),
        ] {
            assert!(!users.accept(&login(user, password)));
        }
    }
}
