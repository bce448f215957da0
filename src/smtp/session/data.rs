//! DATA on the server: the message off the wire and onto the disk, and only
//! then the 250. RFC 5321 §4.1.1.4, §6.1

use std::io::{self, BufRead, ErrorKind};
use std::time::{Duration, Instant};

use super::{Next, Session, numbered};
use crate::error::reason;
use crate::http::date;
use crate::output::{printable, say};
use crate::smtp::address::Address;
use crate::smtp::command::State;
use crate::smtp::explain;
use crate::smtp::lint;
use crate::smtp::maildir::{Delivery, is_full};
use crate::smtp::message::local_date;
use crate::smtp::receive::Receiver;
use crate::smtp::stuffing::FirstLines;
use crate::trace::{Party, Trace};
use crate::wire::let_others_work;

/// All of a message: who sends an octet a minute is not waited for.
const MESSAGE: Duration = Duration::from_secs(60 * 60);

/// A message over the size that is allowed is read to its end for nothing,
/// up to so many times that size.
const PATIENCE: u64 = 4;

/// What was noticed while a message came.
struct Arrived {
    receiver: Receiver,
    /// For `lint.rs`.
    beginning: Vec<u8>,
    has_eight_bit: bool,
}

impl Session<'_> {
    pub(super) fn data(&mut self) -> io::Result<Next> {
        let server = self.server;
        self.state = State::Data;
        let text = "Enter mail, end with \".\" on a line by itself";
        self.say(354, &[text.into()]);
        if !self.wire.buffered().is_empty() {
            self.note("the message before 354. RFC 2920 §3.1");
        }
        self.flush()?;
        let mut delivery = Delivery::new(server.maildir.as_ref());
        let stamp = self.stamp(&delivery.name);
        delivery.buffer().extend_from_slice(stamp.as_bytes());
        let arrived = self.receive(&mut delivery);
        if arrived.is_err() {
            self.fact("no final dot came: nothing is kept");
        }
        let Some(arrived) = arrived? else {
            self.reply(552, "5.3.4", "the message is far too big, closing");
            return Ok(Next::End);
        };
        if server.trace.is_on() {
            for note in lint::message(
                &arrived.beginning,
                &arrived.receiver,
                arrived.has_eight_bit,
                self.envelope.eight_bit,
            ) {
                self.note(&note);
            }
        }
        let receiver = &arrived.receiver;
        let bare = receiver.bare_cr || receiver.bare_lf;
        self.reset();
        if receiver.size() > server.max_size {
            self.reply(552, "5.3.4", "the message is too big");
        } else if bare && !server.accept_bare {
            let why = "a CR or LF alone in the message: lines end with CRLF";
            self.reply(554, "5.6.0", why);
        } else {
            self.deliver(delivery);
        }
        Ok(Next::Command)
    }

    /// The message, up to its end, into `delivery`. `None`: no end of it is
    /// to be expected.
    fn receive(
        &mut self,
        delivery: &mut Delivery,
    ) -> io::Result<Option<Arrived>> {
        let (server, number) = (self.server, self.connection.number);
        let trace = &server.trace;
        let until = Instant::now() + MESSAGE;
        let shown = if trace.is_on() { server.show_lines } else { 0 };
        let mut lines = FirstLines::new(shown);
        let mut in_header = true;
        let mut show = |line: &[u8]| show(trace, number, line, &mut in_header);
        let (receiver, beginning) = (Receiver::new(), Vec::new());
        let mut arrived = Arrived { receiver, beginning, has_eight_bit: false };
        loop {
            let endless = server.max_size.saturating_mul(PATIENCE);
            if arrived.receiver.size() > endless {
                return Ok(None);
            }
            if Instant::now() > until {
                return Err(ErrorKind::TimedOut.into());
            }
            if self.wire.buffered().is_empty() {
                let_others_work();
            }
            let here = self.wire.fill_buf()?;
            if here.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let out = delivery.buffer();
            let before = out.len();
            let end = arrived.receiver.take(here, out);
            let new = &out[before..];
            arrived.has_eight_bit |= !new.is_ascii();
            let room = lint::LOOKED_AT - arrived.beginning.len();
            let looked_at = &new[..new.len().min(room)];
            if trace.is_on() {
                arrived.beginning.extend_from_slice(looked_at);
            }
            let count = end.unwrap_or(here.len());
            lines.pass(&here[..count], &mut show);
            if arrived.receiver.size() > server.max_size {
                out.truncate(before);
            }
            delivery.written();
            self.wire.consume(count);
            if end.is_some() {
                break;
            }
        }
        if lines.hidden > 1 {
            let more = format!("({} more lines)", lines.hidden - 1);
            trace.fact(|| numbered(number, &more));
        }
        if lines.hidden > 0 {
            show(b".");
        }
        let size = arrived.receiver.size();
        let label = format!("the message, {size} octets, and a dot");
        self.arrow(Party::Client, label.as_bytes());
        Ok(Some(arrived))
    }

    /// The message to the disk, and the answer.
    fn deliver(&mut self, delivery: Delivery) {
        let name = delivery.name.clone();
        match delivery.commit() {
            Ok(()) => {
                let (server, text) =
                    (self.server, "Message accepted for delivery");
                if server.maildir.is_some() {
                    self.fact(&format!("kept as new/{name}"));
                }
                self.reply(250, "2.0.0", text);
            }
            Err(error) => {
                say(format!(
                    "topdown mail-server: keep {name}: {}",
                    reason(&error)
                ));
                match is_full(&error) {
                    true => {
                        let why = "insufficient system storage";
                        self.reply(452, "4.3.1", why);
                    }
                    false => {
                        let why = "the message could not be kept";
                        self.reply(451, "4.3.0", why);
                    }
                }
            }
        }
    }

    /// What is put before the header: the trace record of RFC 5321 §4.4, where
    /// the word behind `with` is RFC 3848's or RFC 6531's.
    fn stamp(&self, name: &str) -> String {
        let (server, envelope) = (self.server, &self.envelope);
        let from =
            envelope.from.as_ref().map_or(String::new(), Address::to_string);
        let client = self.connection.client.ip().to_canonical();
        let literal = match client.is_ipv4() {
            true => format!("[{client}]"),
            false => format!("[IPv6:{client}]"),
        };
        let secure = if self.wire.tls().is_some() { "S" } else { "" };
        let known = if self.user.is_some() { "A" } else { "" };
        let with = match (self.extended, envelope.utf8) {
            (false, _) => "SMTP".to_string(),
            (true, false) => format!("ESMTP{secure}{known}"),
            (true, true) => format!("UTF8SMTP{secure}{known}"),
        };
        // one at most; X-Envelope-To names them all
        let for_whom = match envelope.to.as_slice() {
            [only] => format!("\n\tfor <{only}>"),
            _ => String::new(),
        };
        let id: String = name.split('.').take(2).collect();
        let mut stamp = format!(
            "Return-Path: <{from}>\n\
             Received: from {} ({literal})\n\
             \tby {} with {with} id {id}{for_whom};\n\
             \t{}\n",
            printable(&self.helo),
            server.name,
            local_date(date::now())
        );
        for address in &envelope.to {
            stamp.push_str(&format!("X-Envelope-To: <{address}>\n"));
        }
        stamp
    }
}

/// A line of the message in the transcript.
fn show(trace: &Trace, number: u64, line: &[u8], in_header: &mut bool) {
    trace.line(Party::Client, number, line, || match trace.explains() {
        true => format!("[data] {}", explain::message_line(line, *in_header)),
        // (beside a long line there is no room)
        false if line.len() > 60 => String::new(),
        false => "[data]".into(),
    });
    *in_header &= !line.is_empty();
}
