//! What could not be sent is kept: the message whole, and before its header
//! the envelope that it had, so that `--raw dead.letter` can send it later.
//!
//! ```text
//! X-Envelope-From: <alice@crepes.fr>
//! X-Envelope-To: <bob@hamburger.edu>
//! Date: Sat, 21 Nov 2026 16:30:00 +0100
//! …
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::address::Address;
use super::content::RawFile;
use super::message::Message;
use crate::error::{Doing, Error};

const FROM: &str = "X-Envelope-From:";
const TO: &str = "X-Envelope-To:";

/// An envelope in a file is at most so long.
const MAX_ENVELOPE: usize = 1 << 20;

/// No more letters than this beside each other.
const MAX_LETTERS: u32 = 10_000;

/// Keeps a message for these recipients; answers where. A letter that is
/// there already stays, and the next gets a number.
pub fn keep(
    path: &str,
    from: Option<&Address>,
    to: &[&Address],
    message: &Message,
) -> Result<String, Error> {
    let (name, file) = create(path).doing(|| format!("write {path}"))?;
    let result = write(file, from, to, message);
    if result.is_err() {
        let _ = fs::remove_file(&name);
    }
    result.doing(|| format!("write {name}"))?;
    Ok(name)
}

/// A new file of that name, or `name.1`, `name.2`, …, for its owner alone.
fn create(path: &str) -> io::Result<(String, File)> {
    for number in 0..MAX_LETTERS {
        let name = match number {
            0 => path.to_string(),
            number => format!("{path}.{number}"),
        };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        match options.open(&name) {
            Ok(file) => return Ok((name, file)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

fn write(
    file: File,
    from: Option<&Address>,
    to: &[&Address],
    message: &Message,
) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    let from = from.map_or(String::new(), Address::to_string);
    write!(out, "{FROM} <{from}>\r\n")?;
    for address in to {
        write!(out, "{TO} <{address}>\r\n")?;
    }
    message.write_to(&mut out)?;
    let file = out.into_inner()?;
    file.sync_all()
}

/// The envelope that a file begins with, if it does.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    pub from: Option<Address>,
    pub to: Vec<Address>,
    /// Where the message begins.
    pub length: u64,
}

/// Reads the envelope of a kept message.
pub fn envelope(raw: &RawFile, path: &str) -> Result<Envelope, Error> {
    let bytes = raw.beginning(MAX_ENVELOPE)?;
    parse(&bytes).map_err(|why| {
        Error::protocol(Path::new(path).display().to_string(), why)
    })
}

fn parse(bytes: &[u8]) -> Result<Envelope, String> {
    let mut envelope = Envelope::default();
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let text = String::from_utf8_lossy(line);
        let (from, to) = (text.strip_prefix(FROM), text.strip_prefix(TO));
        let Some(path) = from.or(to) else { break };
        let path = path.trim();
        let inside = path.strip_prefix('<').and_then(|p| p.strip_suffix('>'));
        let address = match inside.unwrap_or(path) {
            "" => None,
            text => Some(Address::parse(text)?),
        };
        match (from.is_some(), address) {
            (true, address) => envelope.from = address,
            (false, Some(address)) => envelope.to.push(address),
            (false, None) => return Err(format!("{TO} without an address")),
        }
        envelope.length += line.len() as u64;
    }
    Ok(envelope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_before_the_header() {
        let kept = "X-Envelope-From: <a@x>\r\nX-Envelope-To: <b@y>\r\n\
                    X-Envelope-To: <\"c d\"@z>\r\nFrom: a\r\n";
        let envelope = parse(kept.as_bytes()).unwrap();
        assert_eq!(envelope.from, Address::parse("a@x").ok());
        assert_eq!(envelope.to.len(), 2);
        assert!(kept[envelope.length as usize..].starts_with("From: a"));
        assert_eq!(parse(b"From: a\n\nhi").unwrap(), Envelope::default());
        let null = parse(b"X-Envelope-From: <>\nX-Envelope-To: <b@y>\n");
        assert_eq!(null.unwrap().from, None);
        assert!(parse(b"X-Envelope-To: <b>\n").is_err());
    }
}
