//! How a message travels behind DATA: a line that begins with a dot gets a
//! second one, so that a line of a dot alone can be the end. RFC 5321 §4.5.2

use std::io::{self, Write};

use super::explain;
use crate::trace::{Party, Trace};
use crate::wire::Wire;

/// Of a message so many lines are shown in the dialogue.
pub const SHOWN_LINES: usize = 100;

/// Sent at a time.
const BUFFER: usize = 64 * 1024;

/// Of a line so much is shown.
const MAX_SHOWN: usize = 1000;

/// Sends what is written to it, dots doubled. The lines must end in CRLF.
pub struct Stuffer<'a> {
    wire: &'a Wire,
    buffer: Vec<u8>,
    at_line_start: bool,
    shown: FirstLines,
    in_header: bool,
    octets: u64,
    trace: &'a Trace,
}

impl<'a> Stuffer<'a> {
    pub fn new(wire: &'a Wire, trace: &'a Trace) -> Stuffer<'a> {
        let shown =
            FirstLines::new(if trace.is_on() { SHOWN_LINES } else { 0 });
        Stuffer {
            wire,
            buffer: Vec::with_capacity(BUFFER),
            at_line_start: true,
            shown,
            in_header: true,
            octets: 0,
            trace,
        }
    }

    /// Sends the rest, and `<CRLF>.<CRLF>`, whose first half is there.
    pub fn end(mut self) -> io::Result<()> {
        self.shown.end(|line| show(self.trace, line, &mut self.in_header));
        let hidden = self.shown.hidden;
        if hidden > 0 {
            self.trace.fact(|| format!("({hidden} more lines)"));
        }
        let note = || explain::message_line(b".", false);
        self.trace.line(Party::Client, 0, b".", note);
        let octets = self.octets;
        self.trace.message(Party::Client, || {
            format!("the message, {octets} octets, and a dot")
        });
        if !self.at_line_start {
            self.buffer.extend_from_slice(b"\r\n");
        }
        self.buffer.extend_from_slice(b".\r\n");
        self.wire.send_all(&self.buffer)
    }
}

impl Write for Stuffer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.octets += bytes.len() as u64;
        let in_header = &mut self.in_header;
        self.shown.pass(bytes, |line| show(self.trace, line, in_header));
        stuff(bytes, &mut self.at_line_start, &mut self.buffer);
        if self.buffer.len() >= BUFFER {
            self.wire.send_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn show(trace: &Trace, line: &[u8], in_header: &mut bool) {
    let dot = if line.starts_with(b".") { &b"."[..] } else { b"" };
    let stuffed = [dot, line].concat();
    let note = || explain::message_line(&stuffed, *in_header);
    trace.line(Party::Client, 0, &stuffed, note);
    *in_header &= !line.is_empty();
}

/// Appends `bytes` to `out` with a dot before each dot that begins a line.
pub fn stuff(bytes: &[u8], at_line_start: &mut bool, out: &mut Vec<u8>) {
    let Some(last) = bytes.last() else { return };
    let mut rest = bytes;
    // (base64 has no dots: then this is one copy)
    while let Some(dot) = rest.iter().position(|b| *b == b'.') {
        let begins_line = match dot {
            0 => *at_line_start,
            at => rest[at - 1] == b'\n',
        };
        out.extend_from_slice(&rest[..dot]);
        out.extend_from_slice(if begins_line { b".." } else { b"." });
        *at_line_start = false;
        rest = &rest[dot + 1..];
    }
    out.extend_from_slice(rest);
    *at_line_start = *last == b'\n';
}

/// Cuts the beginning of a message into lines, for the dialogue.
pub struct FirstLines {
    left: usize,
    partial: Vec<u8>,
    /// Lines that were not shown.
    pub hidden: u64,
}

impl FirstLines {
    pub fn new(most: usize) -> FirstLines {
        FirstLines { left: most, partial: Vec::new(), hidden: 0 }
    }

    /// Takes the message's next octets, whose lines end in LF or CRLF.
    pub fn pass(&mut self, bytes: &[u8], mut show: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while self.left > 0 {
            let end = rest.iter().position(|b| *b == b'\n');
            let piece = &rest[..end.unwrap_or(rest.len())];
            let room = MAX_SHOWN.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&piece[..piece.len().min(room)]);
            let Some(end) = end else { return };
            let line = self.partial.strip_suffix(b"\r");
            show(line.unwrap_or(&self.partial));
            self.partial.clear();
            self.left -= 1;
            rest = &rest[end + 1..];
        }
        let ends = rest.iter().filter(|b| **b == b'\n').count();
        self.hidden += ends as u64;
    }

    /// The message has ended: what there is of a last line.
    pub fn end(&mut self, mut show: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            show(&std::mem::take(&mut self.partial));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_doubled_where_a_line_begins() {
        for (pieces, expected) in [
            (vec!["a.b\r\n.\r\n..c\r\n"], "a.b\r\n..\r\n...c\r\n"),
            (vec![".a", ".b\r\n", ".", "c"], "..a.b\r\n..c"),
            (vec!["a\r\n", "", "."], "a\r\n.."),
        ] {
            let (mut start, mut out) = (true, Vec::new());
            for piece in pieces {
                stuff(piece.as_bytes(), &mut start, &mut out);
            }
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn the_first_lines_are_shown() {
        let mut shown = Vec::new();
        let mut lines = FirstLines::new(2);
        for piece in ["a\r", "\nb", "c\r\nd\r\ne\r\n"] {
            let show = |line: &[u8]| shown.push(line.to_vec());
            lines.pass(piece.as_bytes(), show);
        }
        assert_eq!(shown, [b"a".to_vec(), b"bc".to_vec()]);
        assert_eq!(lines.hidden, 2);
    }
}
