//! What could not be sent is kept: the message whole, and before its header
//! the envelope that it had, so that `--raw dead.letter` can send it later.
//!
//! ```text
//! X-Envelope-From: <alice@crepes.fr>
//! X-Envelope-To: <bob@hamburger.edu>
//! Date: Sat, 21 Nov 2026 16:30:00 +0100
//! …
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::address::Address;
use super::content::RawFile;
use super::message::Message;
use crate::error::{Doing, Error, reason};
use crate::output::say;
use crate::signal;
use crate::trace;

const FROM: &str = "X-Envelope-From:";
const TO: &str = "X-Envelope-To:";

/// Of a file so much is read to find the end of its envelope, at first, and
/// at most.
const FIRST_LOOK: usize = 64 << 10;
const MAX_ENVELOPE: usize = 16 << 20;

/// No more letters than this beside each other.
const MAX_LETTERS: u32 = 10_000;

/// A message on its way, and those who have not got it yet.
pub struct Outbox {
    pub from: Option<Address>,
    pub message: Message,
    /// Where to keep it; `None`: nowhere.
    path: Option<String>,
    /// The file that it is in already, envelope and all.
    raw: Option<String>,
    count: usize,
    /// `None`: this is settled.
    unsent: Mutex<Option<Vec<Address>>>,
}

impl Outbox {
    /// From now on SIGINT and SIGTERM keep what is unsent, and end the tool.
    pub fn new(
        from: Option<Address>,
        to: &[Address],
        message: Message,
        path: Option<&str>,
        raw: Option<String>,
    ) -> Result<Arc<Outbox>, Error> {
        let (unsent, count) = (Mutex::new(Some(to.to_vec())), to.len());
        let path = path.map(String::from);
        let outbox = Outbox { from, message, path, raw, count, unsent };
        let outbox = Arc::new(outbox);
        let stopped = outbox.clone();
        signal::on_stop(move || {
            if let Err(error) = stopped.settle() {
                say(format!("topdown mail-client: {error}"));
            }
            let _ = trace::finish();
            process::exit(2);
        })?;
        Ok(outbox)
    }

    /// These have got it, or will not be asked again.
    pub fn has_got(&self, address: &Address) {
        let mut unsent = self.lock();
        if let Some(unsent) = unsent.as_mut() {
            unsent.retain(|other| other != address);
        }
    }

    /// Keeps the message for those who have not got it. Only the first call
    /// does.
    pub fn settle(&self) -> Result<(), Error> {
        let Some(unsent) = self.lock().take() else { return Ok(()) };
        match &self.raw {
            _ if unsent.is_empty() => Ok(()),
            Some(file) if unsent.len() == self.count => {
                say(format!("topdown mail-client: it stays in {file}"));
                Ok(())
            }
            _ => match &self.path {
                Some(path) => self.keep(path, &unsent),
                None => Ok(()),
            },
        }
    }

    /// A letter that is there already stays, and the next gets a number.
    fn keep(&self, path: &str, to: &[Address]) -> Result<(), Error> {
        let (name, file) = create(path).doing(|| format!("write {path}"))?;
        let written = write(file, self.from.as_ref(), to, &self.message);
        say(match written {
            Ok(()) => format!(
                "topdown mail-client: kept in {name}: send it later with \
                 --raw {name}, to the same server"
            ),
            Err(error) => format!(
                "topdown mail-client: kept in {name}, but not whole: {}",
                reason(&error)
            ),
        });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Address>>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    to: &[Address],
    message: &Message,
) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    let from = from.map_or(String::new(), Address::to_string);
    write!(out, "{FROM} <{from}>\r\n")?;
    for address in to {
        write!(out, "{TO} <{address}>\r\n")?;
    }
    let written = message.write_to(&mut out);
    let file = out.into_inner()?;
    written.and(file.sync_all())
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
    let mut most = FIRST_LOOK;
    loop {
        let bytes = raw.beginning(most)?;
        let envelope =
            parse(&bytes).map_err(|why| Error::protocol(path, why))?;
        let rest = &bytes[envelope.length as usize..];
        // its end is seen, or there is no more
        if rest.contains(&b'\n') || bytes.len() < most {
            return Ok(envelope);
        }
        most *= 4;
        if most > MAX_ENVELOPE {
            return Err(Error::protocol(path, "an endless envelope"));
        }
    }
}

/// The whole lines of an envelope that `bytes` begin with.
fn parse(bytes: &[u8]) -> Result<Envelope, String> {
    let mut envelope = Envelope::default();
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let text = String::from_utf8_lossy(line);
        let (from, to) = (text.strip_prefix(FROM), text.strip_prefix(TO));
        let Some(path) = from.or(to) else { break };
        if !line.ends_with(b"\n") {
            break;
        }
        let path = path.trim();
        let inside = path.strip_prefix('<').and_then(|p| p.strip_suffix('>'));
        let address = match inside.unwrap_or(path) {
            "" => None,
            text => Some(Address::parse(text)?),
        };
        match (from.is_some(), address) {
            (true, address) => envelope.from = address,
            (false, Some(address)) if envelope.to.contains(&address) => {}
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
