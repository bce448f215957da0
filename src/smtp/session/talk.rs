//! How a server's session speaks: replies on the wire, and both sides'
//! lines in the transcript.

use std::io;

use super::Session;
use crate::output::printable;
use crate::smtp::auth::BLOT;
use crate::smtp::command::Verb;
use crate::smtp::explain;
use crate::smtp::reply::Reply;
use crate::trace::Party;

/// What may be shown behind AUTH.
const MECHANISMS: [&str; 4] = ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"];

impl Session<'_> {
    /// A reply, with the enhanced code where EHLO announced them: RFC 2034.
    pub(super) fn reply(&mut self, code: u16, enhanced: &str, text: &str) {
        match self.extended {
            true => self.say(code, &[format!("{enhanced} {text}")]),
            false => self.say(code, &[text.to_string()]),
        }
    }

    /// 421, with the server's name: RFC 5321 §4.2.3.
    pub(super) fn leave(&mut self, enhanced: &str, why: &str) {
        let text = format!("{} {why}", self.server.name);
        self.reply(421, enhanced, &text);
    }

    /// A reply of one or more lines. RFC 5321 §4.2
    pub(super) fn say(&mut self, code: u16, lines: &[String]) {
        for (i, text) in lines.iter().enumerate() {
            let hyphen = if i + 1 < lines.len() { '-' } else { ' ' };
            let line = format!("{code}{hyphen}{text}");
            self.show(Party::Server, line.as_bytes(), explain::reply);
            self.pending.extend_from_slice(line.as_bytes());
            self.pending.extend_from_slice(b"\r\n");
        }
        if self.server.trace.is_on() {
            let reply = Reply { code, lines: lines.to_vec() };
            self.arrow(Party::Server, reply.label().as_bytes());
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        let sent = self.wire.send_all(&self.pending);
        self.pending.clear();
        sent
    }

    /// A line of the transcript, the state beside it.
    pub(super) fn show(
        &self,
        party: Party,
        line: &[u8],
        note: fn(&[u8]) -> String,
    ) {
        let (trace, number) = (&self.server.trace, self.connection.number);
        trace.line(party, number, line, || {
            let state = self.state.name();
            match trace.explains() {
                true => format!("[{state}] {}", note(line)),
                false => format!("[{state}]"),
            }
        });
    }

    /// A message for the diagram.
    pub(super) fn arrow(&self, party: Party, label: &[u8]) {
        let number = self.connection.number;
        let trace = &self.server.trace;
        trace.message(party, || numbered(number, &printable(label)));
    }

    /// What a standard has to say about the client.
    pub(super) fn note(&self, text: &str) {
        self.fact(&format!("note: {text}"));
    }

    /// What is no line of the dialogue.
    pub(super) fn fact(&self, text: &str) {
        let number = self.connection.number;
        self.server.trace.fact(|| numbered(number, text));
    }
}

/// A text with its conversation's number, where there are several.
pub fn numbered(number: u64, text: &str) -> String {
    match number {
        1 => text.to_string(),
        number => format!("#{number} {text}"),
    }
}

/// Does the line begin with a verb that is known?
pub fn is_command(line: &[u8]) -> bool {
    let name = line.split(|b| *b == b' ').next().unwrap_or_default();
    std::str::from_utf8(name).is_ok_and(|name| Verb::find(name).is_some())
}

/// `AUTH PLAIN ********`: of what may hold a password the mechanism alone.
pub fn blotted(line: &[u8]) -> Vec<u8> {
    let words: Vec<&[u8]> = line
        .split(|b| b.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
        .collect();
    let known = |word: &&[u8]| {
        MECHANISMS.iter().any(|m| word.eq_ignore_ascii_case(m.as_bytes()))
    };
    match words.as_slice() {
        [verb] => verb.to_vec(),
        [verb, mechanism] if known(mechanism) => [*verb, mechanism].join(&b' '),
        [verb, mechanism, ..] if known(mechanism) => {
            [*verb, mechanism, BLOT.as_bytes()].join(&b' ')
        }
        _ => [b"AUTH", BLOT.as_bytes()].join(&b' '),
    }
}
