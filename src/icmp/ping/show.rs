//! The dialogue for `-v`, the drawings and reasons for `-e`, the packets for
//! `--pcap`.

use std::net::IpAddr;

use super::super::capture::with_ip_header;
use super::super::draw::{draw_ip, draw_message, work_checksum};
use super::super::message::{
    Message, Version, emit, pseudo_header, with_pseudo_header,
};
use super::super::names::{Meaning, meaning};
use super::super::quote::{Quote, mpls_labels};
use super::Pinger;
use super::report::Packet;
use crate::datagram::{Received, wall_clock};
use crate::error::{Doing, Error};
use crate::trace::Party;

/// The TTL in our headers when the options say none: the system's default.
const USUAL_TTL: u8 = 64;

/// Where echoes are specified.
fn source(version: Version) -> &'static str {
    match version {
        Version::V4 => "RFC 792",
        Version::V6 => "RFC 4443 §4",
    }
}

impl Pinger {
    /// A request that left at that time.
    pub fn show_request(
        &mut self,
        index: usize,
        at: u64,
        message: Vec<u8>,
    ) -> Result<(), Error> {
        if !self.trace.is_on() && self.capture.is_none() {
            return Ok(());
        }
        let host = &self.hosts[index];
        let (local, to) = (host.local, host.address.ip());
        let pseudo = pseudo_header(local, to, message.len());
        let message = with_pseudo_header(&pseudo, message);
        let version = Version::of(&to);
        self.show(Party::Client, index, &message, || {
            let source = source(version);
            format!(
                "type and code say what it is; identifier and sequence \
                 number come back in the reply. {source}, KR 5.6"
            )
        });
        self.trace.drawing(|| draw_message(version, &message, None));
        if host.record.sent == 1 && index == 0 {
            self.trace.drawing(|| work_checksum(&pseudo, &message));
        }
        let ttl = self.options.ttl.unwrap_or(USUAL_TTL);
        self.capture(at, || with_ip_header(local, to, ttl, &message))
    }

    /// A packet that came, as it was or with a header built anew.
    pub fn keep(
        &mut self,
        received: &Received,
        from: IpAddr,
        header: &[u8],
        bytes: &[u8],
    ) -> Result<(), Error> {
        let at = received.at.unwrap_or_else(wall_clock);
        let ttl = received.ttl.unwrap_or(USUAL_TTL);
        self.capture(at, || match (header, received.to) {
            ([], Some(to)) => with_ip_header(from, to, ttl, bytes),
            _ => [header, bytes].concat(),
        })
    }

    fn capture(
        &mut self,
        at: u64,
        packet: impl FnOnce() -> Vec<u8>,
    ) -> Result<(), Error> {
        match &mut self.capture {
            Some(capture) => capture
                .packet(at, &packet())
                .doing(|| "write the captured packets"),
            None => Ok(()),
        }
    }

    /// A line of the dialogue, and an arrow of the diagram.
    fn show(
        &self,
        party: Party,
        index: usize,
        bytes: &[u8],
        note: impl FnOnce() -> String,
    ) {
        if !self.trace.is_on() {
            return;
        }
        let host = &self.hosts[index];
        let Some(message) = Message::parse(bytes) else { return };
        let words = meaning(Version::of(&host.address.ip()), &message).words;
        let Message { kind, code, data, .. } = message;
        let (id, sequence) = (message.identifier(), message.sequence());
        let line = format!(
            "{words} (type {kind}, code {code}), identifier 0x{id:04x}, \
             sequence {sequence}, {} octets of data",
            data.len()
        );
        let several = self.hosts.len() > 1;
        let number = if several { index as u64 + 1 } else { 0 };
        self.trace.line(party, number, line, note);
        self.trace.message(party, || match several {
            true => format!("{words} {sequence}: {}", host.name),
            false => format!("{words}, sequence {sequence}"),
        });
    }

    /// Something that may be a reply.
    pub fn show_reply(&self, index: usize, header: &[u8], bytes: &[u8]) {
        if !self.trace.is_on() {
            return;
        }
        let host = &self.hosts[index];
        let version = Version::of(&host.address.ip());
        self.show(Party::Server, index, bytes, || {
            let source = source(version);
            format!(
                "believed when type, identifier, checksum, source, sequence \
                 number and data are right; * marks what has changed. {source}"
            )
        });
        if !header.is_empty() {
            self.trace.drawing(|| draw_ip(header));
        }
        let request = Message::parse(bytes).and_then(|reply| {
            let sequence = host.sequence(reply.sequence());
            let data = host.data(&host.record.ping(sequence)?.mark);
            let (kind, id) = (self.kind(version), reply.identifier());
            let bytes = emit(kind, id, reply.sequence(), &data);
            let (from, to) = (host.local, host.address.ip());
            let pseudo = pseudo_header(from, to, bytes.len());
            Some(with_pseudo_header(&pseudo, bytes))
        });
        self.trace.drawing(|| draw_message(version, bytes, request.as_deref()));
    }

    /// An error about a request, with what it quotes.
    pub fn show_error(
        &self,
        packet: Packet,
        bytes: &[u8],
        meaning: &Meaning,
        quote: Option<&Quote>,
        extension: &[u8],
    ) {
        let (from, words) = (packet.from, &meaning.words);
        let version = Version::of(&from);
        let line = format!("{from}: {words}");
        self.trace.line(Party::Server, 0, &line, || meaning.why.clone());
        self.trace.message(Party::Server, || line.clone());
        self.trace.drawing(|| draw_message(version, bytes, None));
        if let Some(quote) = quote {
            self.trace.why(|| format!("it quotes your {quote}"));
        }
        let labels = mpls_labels(extension);
        if !labels.is_empty() {
            self.trace.why(|| {
                format!(
                    "and says behind it under which MPLS labels it came: \
                     {labels:?}. RFC 4950, KR 6.5"
                )
            });
        }
    }

    /// The same from an error queue, where the quote is our own request.
    pub fn show_fault(&self, from: IpAddr, meaning: &Meaning, sequence: u16) {
        let line = format!("{from}: {}", meaning.words);
        self.trace.line(Party::Server, 0, &line, || meaning.why.clone());
        self.trace.message(Party::Server, || line.clone());
        self.trace.why(|| {
            format!(
                "it quotes your request, sequence {sequence}; without a raw \
                 socket the kernel keeps the quoted header to itself"
            )
        });
    }
}
