//! Answers from the store: the whole, a part, or that the client's own copy
//! is current; and what another request is just fetching. RFC 9111 §4

use std::io::Write;
use std::sync::Arc;

use super::collapse::{Piece, Place};
use super::counts::{Dealt, Whence};
use super::relay::{Marked, Sender};
use super::session::{Asked, Next, Session};
use crate::http::answer::multipart;
use crate::http::body::Framing;
use crate::http::cache::stored::Stored;
use crate::http::cache::why::WhyNot;
use crate::http::cache::{Reuse, Wants, may_reuse};
use crate::http::condition::{self, ByteRange, Ranges, Verdict};
use crate::http::date;
use crate::http::reply::{reason_phrase, send_bytes};

impl Session<'_> {
    /// Sends what is stored: the whole, a part of it, or that the client's
    /// own copy is current. `None`: the content is not what was stored.
    pub fn reuse<'a>(
        &mut self,
        asked: &Asked<'a>,
        stored: &Arc<Stored>,
        reuse: Reuse,
        from: Whence,
        dealt: &mut Dealt<'a>,
    ) -> Option<Next> {
        let (proxy, request) = (self.proxy, asked.request);
        let now = date::now();
        let content = stored.bytes().ok()?;
        let arithmetic = stored.policy.arithmetic(now);
        let ttl = stored.policy.ttl(now);
        let used = match reuse {
            Reuse::Fresh => format!("{arithmetic}. RFC 9111 §4.2, KR 2.2.5"),
            Reuse::Validated => format!("{arithmetic}. RFC 9111 §4.3"),
            Reuse::StaleAsked => {
                format!("{arithmetic}, but within max-stale. RFC 9111 §5.2.1.2")
            }
            Reuse::StaleMeanwhile => format!(
                "{arithmetic}, but within stale-while-revalidate. RFC 5861 §3"
            ),
            Reuse::StaleOnError => format!(
                "{arithmetic}, but the origin failed: stale-if-error. \
                 RFC 5861 §4"
            ),
        };
        dealt.cache_status = match from {
            Whence::Validated => format!("{}; ttl={ttl}", dealt.cache_status),
            _ if reuse == Reuse::StaleOnError => {
                format!("topdown; fwd=stale; ttl={ttl}; detail=stale-if-error")
            }
            _ => format!("topdown; hit; ttl={ttl}"),
        };
        let before = std::mem::take(&mut dealt.why);
        dealt.why = match before.is_empty() {
            true => format!("reused: {used}"),
            false => format!("{before}; reused: {used}"),
        };
        proxy.trace.why(|| format!("reused: {used}"));
        dealt.from = from;

        let chosen = self.choose(asked, stored, &content, now);
        let head_only = request.method == "HEAD";
        let length = chosen.bytes(&content).len() as u64;
        let marked = match (chosen.status, head_only) {
            (204 | 304, _) => Marked::Nothing(None),
            (_, true) => Marked::Nothing(Some(length)),
            (_, false) => Marked::Length(length),
        };
        let mut lines = chosen.lines(stored);
        let age = stored.policy.age(now);
        let _ = write!(lines, "Age: {age}\r\n");
        let mut head = self.head(asked, lines, marked, dealt);
        (dealt.status, dealt.delay) = (chosen.status, asked.started.elapsed());
        let body: &[u8] = match marked {
            Marked::Length(_) => chosen.bytes(&content),
            _ => b"",
        };
        dealt.sent = body.len() as u64;
        let sent = send_bytes(&self.wire, &mut head, body);
        let stays = self.stays(request);
        Some(self.end(asked, marked, sent.is_ok(), stays, dealt))
    }

    /// The client's conditions and ranges, on what is stored. RFC 9111
    /// §4.3.2, RFC 9110 §14.2
    fn choose(
        &self,
        asked: &Asked,
        stored: &Stored,
        content: &[u8],
        now: i64,
    ) -> Chosen {
        let trace = &self.proxy.trace;
        let whole = Chosen { status: stored.status, ..Chosen::default() };
        // others are as they are. RFC 9110 §13.2.1
        if stored.status != 200 {
            return whole;
        }
        let (fields, validators) = (&asked.request.fields, stored.validators());
        match condition::evaluate(fields, &validators, now) {
            // (those that can fail are the origin's: see `answer`)
            Verdict::NotModified(why) | Verdict::Failed(why) => {
                trace.why(|| why.into());
                return Chosen { status: 304, ..Chosen::default() };
            }
            Verdict::Proceed(_) => {}
        }
        if asked.request.method != "GET" || fields.get("range").is_none() {
            return whole;
        }
        let length = content.len() as u64;
        // a Last-Modified is strong by the Date beside it: RFC 9110 §8.8.2.2
        let strong = stored.strong_validators();
        match condition::ranges(fields, &strong, length, stored.made) {
            Ranges::Whole(why) => {
                trace.why(|| why.into());
                whole
            }
            Ranges::Unsatisfiable => Chosen {
                status: 416,
                fields: format!("Content-Range: bytes */{length}\r\n"),
                part: Part::Made(Vec::new()),
            },
            Ranges::Parts(spans) => parts(stored, content, &spans),
        }
    }

    /// Sends what another request is fetching. `None`: it is no answer to
    /// this one.
    pub fn follow<'a>(
        &mut self,
        asked: &Asked<'a>,
        place: &Place,
        why: WhyNot,
        dealt: &mut Dealt<'a>,
    ) -> Option<Next> {
        let request = asked.request;
        let stored = place.answer(&request.fields)?;
        let now = date::now();
        // "provided that it is allowed to reuse that response for the
        // requests in question" RFC 9111 §4
        let wants = Wants::of(&request.fields);
        may_reuse(&wants, &stored.policy, now).ok()?;
        let framing = match (stored.status, stored.length) {
            (204, _) => Framing::Empty,
            (_, Some(length)) => Framing::Length(length),
            (_, None) => Framing::Chunked,
        };
        let marked = Marked::anew(framing, request.version);
        let word = why.word();
        dealt.cache_status = format!("topdown; fwd={word}; collapsed");
        dealt.why = "another request was fetching it. RFC 9111 §4".into();
        dealt.from = Whence::Collapsed;
        let mut lines = stored.head.clone();
        let age = stored.policy.age(now);
        let _ = write!(lines, "Age: {age}\r\n");
        let head = self.head(asked, lines, marked, dealt);
        let mut sender = Sender::new(self.wire.socket.clone(), marked);
        sender.put_head(&head);
        (dealt.status, dealt.delay) = (stored.status, asked.started.elapsed());
        let ended = loop {
            let (last, fine) = match place.next() {
                Piece::Bytes(piece) => {
                    sender.put(&piece);
                    (false, true)
                }
                Piece::End(trailers) => {
                    sender.put_end(&trailers);
                    (true, true)
                }
                Piece::Broken => (true, false),
            };
            let sent = sender.flush();
            if last || sent.is_err() {
                break fine && sent.is_ok();
            }
        };
        dealt.sent = sender.sent;
        let stays = self.stays(request) && marked != Marked::ToClose;
        Some(self.end(asked, marked, ended, stays, dealt))
    }
}

/// What of a stored response is sent.
#[derive(Default)]
struct Chosen {
    status: u16,
    /// Field lines in place of those of the content.
    fields: String,
    part: Part,
}

#[derive(Default)]
enum Part {
    #[default]
    Whole,
    /// First and last octet.
    Span(ByteRange),
    Made(Vec<u8>),
}

impl Chosen {
    fn bytes<'c>(&'c self, content: &'c [u8]) -> &'c [u8] {
        match &self.part {
            Part::Whole => content,
            Part::Span((first, last)) => {
                &content[*first as usize..=*last as usize]
            }
            Part::Made(bytes) => bytes,
        }
    }

    /// Status line and fields. Of a 304 none that describe content, which
    /// would say nothing new. RFC 9110 §15.4.5
    fn lines(&self, stored: &Stored) -> Vec<u8> {
        if self.status == stored.status {
            return stored.head.clone();
        }
        let reason = reason_phrase(self.status);
        let line = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        let replaced: &[&str] = match self.status {
            206 if !self.fields.contains("Content-Type") => &["content-range"],
            206 => &["content-type", "content-range"],
            _ => &["content-type", "content-range", "content-encoding"],
        };
        let mut lines = line.into_bytes();
        for line in stored.head.split_inclusive(|b| *b == b'\n').skip(1) {
            let is = |name: &&str| {
                line.get(..name.len())
                    .is_some_and(|n| n.eq_ignore_ascii_case(name.as_bytes()))
            };
            if !replaced.iter().any(is) {
                lines.extend_from_slice(line);
            }
        }
        lines.extend_from_slice(self.fields.as_bytes());
        lines
    }
}

/// 206: one part as it is, several as multipart. RFC 9110 §15.3.7
fn parts(stored: &Stored, content: &[u8], spans: &[ByteRange]) -> Chosen {
    let length = content.len() as u64;
    if let [(first, last)] = *spans {
        let range = format!("Content-Range: bytes {first}-{last}/{length}\r\n");
        let part = Part::Span((first, last));
        return Chosen { status: 206, fields: range, part };
    }
    let head = String::from_utf8_lossy(&stored.head).into_owned();
    let named = |l: &&str| l.to_ascii_lowercase().starts_with("content-type:");
    let media_type = head.lines().find(named).map_or("", |l| l[13..].trim());
    let (kind, parts, after) = multipart(media_type, length, spans);
    let mut bytes = Vec::new();
    for part in parts {
        let (first, last) = part.span;
        bytes.extend_from_slice(&part.before);
        bytes.extend_from_slice(&content[first as usize..=last as usize]);
    }
    bytes.extend_from_slice(&after);
    let fields = format!("Content-Type: {kind}\r\n");
    Chosen { status: 206, fields, part: Part::Made(bytes) }
}
