//! Lines as SMTP has them: up to CRLF, bounded in length and time. Commands
//! and replies are such lines.

use std::io::{self, BufRead, ErrorKind};
use std::time::Duration;

use crate::wire::Wire;

/// A line, or which rule it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Good,
    /// Longer than it may be, and not yet at its end: what comes next is no
    /// line, either.
    TooLong,
    /// "Conforming implementations MUST NOT recognize or generate any other
    /// character or character sequence as a line terminator." RFC 5321 §2.3.8
    BareLineFeed,
    /// A CR within, or a NUL.
    Control,
}

/// Reads a line without its end into `line`, of at most `most` octets.
/// `limit` is the time for the whole line from its first octet on, unless
/// the wire has a deadline; before that the wire's own patience counts.
/// `None`: the connection has ended before a first octet.
pub fn read(
    wire: &mut Wire,
    line: &mut Vec<u8>,
    most: usize,
    limit: Duration,
) -> io::Result<Option<Line>> {
    line.clear();
    let before = wire.deadline;
    loop {
        let here = wire.buffered();
        let end = here.iter().position(|b| *b == b'\n');
        let piece = &here[..end.map_or(here.len(), |end| end + 1)];
        let count = piece.len();
        line.extend_from_slice(piece);
        wire.consume(count);
        if line.len() > most + 2 || end.is_some() {
            wire.deadline = before;
            let too_long = line.len() > most + 2;
            line.truncate(most + 2);
            return Ok(Some(if too_long {
                Line::TooLong
            } else {
                judge(line)
            }));
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
fn judge(line: &mut Vec<u8>) -> Line {
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
