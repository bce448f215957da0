//! What is printed: results on standard output, remarks on standard error,
//! and nothing from outside that could drive the terminal.

use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};

use crate::error::Error;

/// One line on standard error. Unlike `eprintln!` it survives its closing.
pub fn say(line: impl fmt::Display) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// The result of a write to standard output, where a closed pipe
/// (`… | head -1`) is no fault.
pub fn wrote<T>(result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|source| match source.kind() {
        ErrorKind::BrokenPipe => Error::OutputClosed,
        _ => Error::Io { doing: "write to standard output".into(), source },
    })
}

/// Text from outside, made safe for a terminal: control characters, the
/// ones that change the direction of writing, and bytes that are not UTF-8
/// appear as escapes, everything else as it is.
pub fn printable(text: impl AsRef<[u8]>) -> String {
    let mut safe = String::with_capacity(text.as_ref().len());
    for chunk in text.as_ref().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\u{61c}'
                | '\u{200e}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}' => safe.extend(c.escape_unicode()),
                c if c.is_control() => safe.extend(c.escape_default()),
                c => safe.push(c),
            }
        }
        for byte in chunk.invalid() {
            safe.push_str(&format!("\\x{byte:02x}"));
        }
    }
    safe
}

/// A text as JSON has it, in quotes. RFC 8259 §7
pub fn json_string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Standard output for what came from outside: byte for byte into a file
/// or a pipe; lines of printable text on a terminal.
pub struct Output {
    terminal: bool,
    /// The beginning of a character whose end is still to come.
    pending: Vec<u8>,
}

impl Output {
    pub fn new() -> Output {
        let terminal = io::stdout().is_terminal();
        Output { terminal, pending: Vec::new() }
    }

    /// Writes and flushes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        if !self.terminal {
            return wrote(out.write_all(bytes).and_then(|()| out.flush()));
        }
        self.pending.extend_from_slice(bytes);
        let end = whole_characters(&self.pending);
        let rest = self.pending.split_off(end);
        let whole = std::mem::replace(&mut self.pending, rest);
        let text = on_terminal(&whole);
        wrote(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
    }
}

/// How many of the bytes are not the beginning of an unfinished character.
pub fn whole_characters(bytes: &[u8]) -> usize {
    let start = bytes.len().saturating_sub(3);
    for at in start..bytes.len() {
        let unfinished = std::str::from_utf8(&bytes[at..])
            .is_err_and(|e| e.error_len().is_none() && e.valid_up_to() == 0);
        if unfinished {
            return at;
        }
    }
    bytes.len()
}

/// Printable text that keeps its lines and tabs.
fn on_terminal(bytes: &[u8]) -> String {
    let lines: Vec<String> = bytes
        .split(|b| *b == b'\n')
        .map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let cells = line.split(|b| *b == b'\t').map(printable);
            cells.collect::<Vec<_>>().join("\t")
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_text_cannot_drive_the_terminal() {
        assert_eq!(printable("caf\u{e9} \u{1b}[2J"), "caf\u{e9} \\u{1b}[2J");
        assert_eq!(printable(b"a\xff\r\n"), "a\\xff\\r\\n");
        assert_eq!(printable("a\u{9b}b\u{202e}c"), "a\\u{9b}b\\u{202e}c");
        assert_eq!(on_terminal(b"a\tb\r\n\x07\n"), "a\tb\n\\u{7}\n");
    }

    #[test]
    fn an_unfinished_character_waits() {
        assert_eq!(whole_characters("aé".as_bytes()), 3);
        assert_eq!(whole_characters(b"a\xc3"), 1);
        assert_eq!(whole_characters(b"a\xf0\x9f\x98"), 1);
        assert_eq!(whole_characters(b"a\xff"), 2);
        assert_eq!(whole_characters(b"\xf0\x9f\x98\x80"), 4);
    }
}
