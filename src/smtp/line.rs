//! Lines as SMTP has them: up to CRLF, bounded in length and time. Commands
//! and replies are such lines.

use std::io::{self, BufRead, ErrorKind};
use std::time::Duration;

use crate::wire::Wire;

/// A line, or which rule it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Good,
    /// Longer than it may be; its beginning is there.
    TooLong,
    /// "Conforming implementations MUST NOT recognize or generate any other
    /// character or character sequence as a line terminator." RFC 5321 §2.3.8
    BareLineFeed,
    /// A CR within, or a NUL.
    Control,
}

/// Reads a line without its end into `line`. At most `most` octets are
/// kept, and `limit` is the time for the whole line from its first octet on;
/// before that the wire's own patience counts. `None`: the connection has
/// ended before a first octet.
pub fn read(
    wire: &mut Wire,
    line: &mut Vec<u8>,
    most: usize,
    limit: Duration,
) -> io::Result<Option<Line>> {
    line.clear();
    let mut too_long = false;
    loop {
        let here = wire.buffered();
        let end = here.iter().position(|b| *b == b'\n');
        let piece = &here[..end.map_or(here.len(), |end| end + 1)];
        let room = (most + 2).saturating_sub(line.len());
        too_long |= piece.len() > room;
        line.extend_from_slice(&piece[..piece.len().min(room)]);
        let count = piece.len();
        wire.consume(count);
        if end.is_some() {
            wire.deadline = None;
            return Ok(Some(judge(line, too_long)));
        }
        if !line.is_empty() && wire.deadline.is_none() {
            wire.set_deadline(Some(limit));
        }
        if wire.fill()? == 0 {
            return match line.is_empty() {
                true => Ok(None),
                false => Err(ErrorKind::UnexpectedEof.into()),
            };
        }
    }
}

/// Takes the end off.
fn judge(line: &mut Vec<u8>, too_long: bool) -> Line {
    if too_long {
        return Line::TooLong;
    }
    line.pop();
    if line.last() != Some(&b'\r') {
        return Line::BareLineFeed;
    }
    line.pop();
    match line.iter().any(|b| matches!(b, b'\r' | b'\0')) {
        true => Line::Control,
        false => Line::Good,
    }
}
