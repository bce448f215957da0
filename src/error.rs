//! Who is at fault: the caller (usage), the system (I/O), or the peer
//! (protocol).
//!
//! A message has the shape of err(3): program, operation, reason:
//!
//! ```text
//! topdown web-client: connect to 127.0.0.1:81: Connection refused
//! ```
//!
//! The exit status follows from it: 0 it worked, 1 the network said no
//! (`Outcome::No`), 2 there was no answer to speak of (`Error`).

use std::fmt;
use std::io::{self, ErrorKind};

use crate::output::printable;

/// How a tool that ran to its end fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It worked: exit status 0.
    Yes,
    /// The network said no (no reply, a 4xx or 5xx, a refused recipient):
    /// exit status 1. The tool has said so itself.
    No,
}

/// Why a tool could not do its work: exit status 2.
#[derive(Debug)]
pub enum Error {
    /// The caller: an option or operand that is missing, unknown or wrong.
    Usage(String),
    /// The system: what we were doing, on what, and what it answered.
    Io { doing: String, source: io::Error },
    /// The peer broke the protocol: what we were doing, and the rule broken.
    Protocol { doing: String, fault: String },
    /// The reader of our standard output has gone: nobody is to be told.
    OutputClosed,
    /// Any of them, of which the tool has told itself.
    Told,
}

impl Error {
    /// Nobody is left to be told of a closed output: 0.
    pub fn exit_status(&self) -> u8 {
        match self {
            Error::OutputClosed => 0,
            _ => 2,
        }
    }

    /// The peer broke this rule while we were doing that.
    pub fn protocol(doing: impl Into<String>, fault: impl ToString) -> Error {
        Error::Protocol { doing: doing.into(), fault: fault.to_string() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Usage(fault) => write!(f, "{}", printable(fault)),
            Error::Io { doing, source } => {
                write!(f, "{}: {}", printable(doing), reason(source))
            }
            Error::Protocol { doing, fault } => {
                write!(f, "{}: {}", printable(doing), printable(fault))
            }
            Error::OutputClosed => write!(f, "standard output is closed"),
            Error::Told => Ok(()),
        }
    }
}

/// The system's reason in its own words. A socket's time limit surfaces as
/// "would block" (EAGAIN), which says nothing to a reader.
pub fn reason(error: &io::Error) -> String {
    match error.kind() {
        _ if is_timeout(error) => "timed out".into(),
        ErrorKind::UnexpectedEof => "the peer closed the connection".into(),
        _ => {
            let text = error.to_string();
            match text.find(" (os error") {
                Some(end) => text[..end].to_string(),
                None => text,
            }
        }
    }
}

/// A time limit of a socket, under either of its names.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// The peer reads no more of what we send.
pub fn is_gone(error: &io::Error) -> bool {
    let kind = error.kind();
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// `result.doing(|| format!("connect to {address}"))?`
pub trait Doing<T> {
    fn doing<S: Into<String>>(
        self,
        what: impl FnOnce() -> S,
    ) -> Result<T, Error>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing<S: Into<String>>(
        self,
        what: impl FnOnce() -> S,
    ) -> Result<T, Error> {
        self.map_err(|source| Error::Io { doing: what().into(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_on_what_and_why() {
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let error = Err::<(), _>(refused).doing(|| "connect to h:81");
        assert_eq!(
            error.unwrap_err().to_string(),
            "connect to h:81: Connection refused"
        );
        let late = io::Error::from(ErrorKind::WouldBlock);
        assert_eq!(reason(&late), "timed out");
    }
}
