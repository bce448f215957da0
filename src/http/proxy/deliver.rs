//! The answer on its way to the client: (iv) as it comes from the origin,
//! (v) into the store, if it may; or from the store; or from another
//! request's fetch.

use std::io::Write;
use std::sync::Arc;

use super::answer::{Plan, because};
use super::collapse::{Fetch, Piece};
use super::counts::{Dealt, From};
use super::forward::{Answer, response_lines, via, with_lab_location};
use super::origins::Origins;
use super::relay::{self, Broken, Marked, Sender};
use super::{Asked, Next, Proxy, Session};
use crate::http::answer::multipart;
use crate::http::body::{Body, Framing, decimal};
use crate::http::cache::stored::Stored;
use crate::http::cache::why::WhyNot;
use crate::http::cache::{Reuse, Wants, may_reuse, may_store};
use crate::http::condition::{self, Ranges, Verdict};
use crate::http::date;
use crate::http::explain;
use crate::http::message::{Response, Version};
use crate::http::origin::Follows;
use crate::http::reply::{reason_phrase, send_bytes};
use crate::http::wire::Wire;
use crate::net;
use crate::trace::Party;

impl Origins {
    /// Keeps the connection after an answer that was read to its end.
    pub fn keep_if(&self, stays: bool, asked: &Asked, wire: Wire) {
        if stays {
            self.keep(asked.url, asked.inside, wire);
        }
    }
}

impl Proxy {
    /// May the response be stored? Then as what.
    pub fn storable(
        &self,
        asked: &Asked,
        line: &[u8],
        response: &Response,
        follows: Follows,
        times: (i64, i64),
    ) -> Result<Stored, WhyNot> {
        may_store(asked.request, response)?;
        let Some(store) = &self.store else { return Err(WhyNot::NoRoom) };
        let fields = &asked.request.fields;
        let via = via(response.version, &self.pseudonym);
        let stored =
            Stored::new(&asked.uri, fields, line, response, &via, times);
        let length = match follows.framing {
            Framing::Length(length) => Some(length),
            Framing::Empty => Some(0),
            Framing::Chunked | Framing::ToClose => None,
        };
        let stored = Stored { length, ..stored };
        match stored.size() > store.greatest() {
            true => Err(WhyNot::TooLarge),
            false => Ok(stored),
        }
    }

    /// What an answer means for what is stored already: RFC 9111 §4.4 for
    /// unsafe methods, §4.3.5 for HEAD.
    fn update(&self, asked: &Asked, response: &Response, times: (i64, i64)) {
        let Some(store) = &self.store else { return };
        let (status, fields) = (response.status, &response.fields);
        let safe = ["GET", "HEAD", "OPTIONS", "TRACE"];
        if !safe.contains(&asked.request.method) {
            // "A non-error response is one with a 2xx (Successful) or 3xx
            // (Redirection) status code."
            if !(200..400).contains(&status) {
                return;
            }
            let named = ["location", "content-location"]
                .into_iter()
                .filter_map(|name| asked.url.join(fields.text(name)?).ok());
            // "A cache MUST NOT invalidate URIs [...] if their origin
            // differs from that of the target URI"
            let named = named.filter(|url| url.same_origin(asked.url));
            let named = named.map(|url| url.to_string());
            for uri in named.chain([asked.uri.to_string()]) {
                self.fetches.overtake(&uri);
                if store.invalidate(&uri) {
                    self.trace.why(|| {
                        let method = asked.request.method;
                        format!("{uri} is no longer stored, after {method}. RFC 9111 §4.4")
                    });
                }
            }
        } else if asked.request.method == "HEAD" && status == 200 {
            let length = fields.get("content-length").and_then(decimal);
            for stored in store.variants(&asked.uri) {
                if !stored.matches(&asked.request.fields) {
                    continue;
                }
                let same = stored.is_meant_by(response)
                    && (length.is_none() || length == stored.length);
                match stored.freshened(response, times).filter(|_| same) {
                    Some(fresh) => _ = store.replace(fresh),
                    None => store.discard(&stored),
                }
            }
        }
    }
}

impl<'p> Session<'p> {
    /// Sends the origin's answer on, and stores it if it may be.
    pub fn deliver<'a>(
        &mut self,
        asked: &Asked<'a>,
        plan: Plan<'p>,
        line: &[u8],
        response: &Response,
        answer: Answer,
        dealt: &mut Dealt<'a>,
    ) -> Next {
        let (proxy, request) = (self.proxy, asked.request);
        let Answer { mut wire, follows, times, .. } = answer;
        proxy.update(asked, response, times);
        let storable = proxy.storable(asked, line, response, follows, times);
        if let (Some(store), Some(stale), Err(_)) =
            (&proxy.store, &plan.stale, &storable)
        {
            // what supersedes it is not stored: neither is it, any longer
            if response.status < 500 && request.method == "GET" {
                store.discard(stale);
            }
        }
        let mut lead = plan.lead;
        if let Some(lead) = lead.as_mut().filter(|_| storable.is_err()) {
            lead.alone = true;
        }
        let word = plan.why.word();
        let outcome = match &storable {
            Ok(_) => "stored".into(),
            Err(why) => format!("detail={}", why.word()),
        };
        dealt.from = From::Origin;
        dealt.cache_status = format!("topdown; fwd={word}; {outcome}");
        dealt.why = because(plan.why, plan.stale.as_deref());
        if let Err(why) = &storable {
            dealt.why.push_str(&format!("; not stored: {why}"));
            proxy.trace.why(|| format!("not stored: {why}"));
        }

        let mut marked = Marked::anew(follows.framing, request.version);
        if let (Marked::Nothing(_), "HEAD") = (marked, request.method) {
            let length = response.fields.get("content-length");
            marked = Marked::Nothing(length.and_then(decimal));
        }
        let lines = response_lines(line, response, &proxy.pseudonym);
        let head = self.head(asked, lines, marked, dealt);
        let mut sender = Sender::new(self.wire.socket.clone(), marked);
        sender.put_head(&head);
        (dealt.status, dealt.delay) =
            (response.status, asked.started.elapsed());
        let stays = self.stays(request) && marked != Marked::ToClose;

        let mut body = Body::new(&mut wire, follows.framing);
        let ended = match (storable, &proxy.store) {
            (Ok(stored), Some(store)) => {
                let own = Arc::<Fetch>::default();
                let fetch = lead.as_ref().map_or(&own, |lead| &lead.fetch);
                let to = Some(&mut sender);
                match proxy.share(store, stored, fetch, &mut body, to, false) {
                    Ok(shared) => {
                        let kept = shared.kept;
                        proxy.trace.why(|| match kept {
                            Ok(()) => "stored. RFC 9111 §3".into(),
                            Err(why) => format!("not stored: {why}"),
                        });
                        if let Err(why) = kept {
                            dealt.why.push_str(&format!("; not stored: {why}"));
                        }
                        shared.delivered
                    }
                    Err(error) => {
                        proxy.trace.why(|| WhyNot::Incomplete.to_string());
                        proxy.trace.fact(|| format!("broken off: {error}"));
                        false
                    }
                }
            }
            _ => {
                drop(lead); // others need not wait for the end of this
                match relay::copy(&mut body, &mut sender) {
                    Ok(()) => true,
                    Err(Broken::Source(e) | Broken::Receiver(e)) => {
                        proxy.trace.fact(|| format!("broken off: {e}"));
                        false
                    }
                }
            }
        };
        let at_end = body.is_at_end();
        dealt.sent = sender.sent;
        if asked.framing == Framing::Empty || self.upload.is_none() {
            let stays = follows.stays_open && at_end;
            proxy.origins.keep_if(stays, asked, wire);
        }
        self.end(asked, marked, ended, stays, dealt)
    }

    /// The last of an answer has gone out, or has not.
    fn end<'a>(
        &mut self,
        asked: &Asked<'a>,
        marked: Marked,
        ended: bool,
        stays: bool,
        dealt: &mut Dealt<'a>,
    ) -> Next {
        let sent = dealt.sent;
        if sent > 0 {
            let number = asked.number;
            self.proxy.trace.message(Party::AsServer, || match number {
                0 | 1 => format!("the last of {sent} octets of body"),
                _ => format!("#{number} the last of {sent} octets of body"),
            });
        }
        self.done(dealt);
        match (ended, stays) {
            (true, true) => Next::Request,
            (true, false) => Next::CloseGently,
            (false, _) => {
                // what ends with the connection must not seem to have ended
                // well: a reset is the only sign that is left
                if marked == Marked::ToClose {
                    let _ = net::reset_at_close(&*self.wire.socket);
                }
                Next::Close
            }
        }
    }

    /// Status line and fields, with what is of this hop, and the end.
    fn head(
        &self,
        asked: &Asked,
        mut lines: Vec<u8>,
        marked: Marked,
        dealt: &Dealt,
    ) -> Vec<u8> {
        if asked.lab {
            lines = with_lab_location(lines, asked.url);
        }
        if !dealt.cache_status.is_empty() && self.proxy.store.is_some() {
            let _ = write!(lines, "Cache-Status: {}\r\n", dealt.cache_status);
        }
        lines.extend_from_slice(marked.field().as_bytes());
        let stays = self.stays(asked.request) && marked != Marked::ToClose;
        match (stays, asked.request.version) {
            (false, _) => lines.extend_from_slice(b"Connection: close\r\n"),
            (true, Version::Http10) => {
                lines.extend_from_slice(b"Connection: keep-alive\r\n");
            }
            (true, Version::Http11) => {}
        }
        lines.extend_from_slice(b"\r\n");
        let trace = &self.proxy.trace;
        explain::head(trace, Party::AsServer, asked.number, &lines, 0);
        lines
    }

    /// Sends what is stored: the whole, a part of it, or that the client's
    /// own copy is current. `None`: the content is not what was stored.
    pub fn from_store<'a>(
        &mut self,
        asked: &Asked<'a>,
        stored: &Arc<Stored>,
        reuse: Reuse,
        from: From,
        dealt: &mut Dealt<'a>,
    ) -> Option<Next> {
        let (proxy, request) = (self.proxy, asked.request);
        let now = date::now();
        let content = stored.bytes().ok()?;
        let arithmetic = stored.policy.arithmetic(now);
        let ttl = stored.policy.ttl(now);
        let used = match reuse {
            Reuse::Fresh => format!("{arithmetic}. RFC 9111 §4.2, KR 2.2.5"),
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
            From::Validated => {
                format!("topdown; fwd=stale; fwd-status=304; ttl={ttl}")
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
    fn choose<'c>(
        &self,
        asked: &Asked,
        stored: &Stored,
        content: &[u8],
        now: i64,
    ) -> Chosen {
        let trace = &self.proxy.trace;
        let whole = Chosen { status: stored.status, ..Chosen::default() };
        // "MUST ignore" them for any other status. RFC 9111 §4.3.2
        if stored.status != 200 {
            return whole;
        }
        let (fields, validators) = (&asked.request.fields, stored.validators());
        match condition::evaluate(fields, &validators, now) {
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
        match condition::ranges(fields, &validators, length, now) {
            Ranges::Whole(why) => {
                trace.why(|| why.into());
                whole
            }
            Ranges::Unsatisfiable => Chosen {
                status: 416,
                fields: format!("Content-Range: bytes */{length}\r\n"),
                part: Some(Vec::new()),
            },
            Ranges::Parts(spans) => {
                let (fields, part) = parts(stored, content, &spans);
                Chosen { status: 206, fields, part: Some(part) }
            }
        }
    }

    /// Sends what another request is fetching. `None`: it is no answer to
    /// this one.
    pub fn follow<'a>(
        &mut self,
        asked: &Asked<'a>,
        fetch: &Fetch,
        place: usize,
        why: WhyNot,
        dealt: &mut Dealt<'a>,
    ) -> Option<Next> {
        let request = asked.request;
        let stored = fetch.answer(place, &request.fields)?;
        let now = date::now();
        // "provided that it is allowed to reuse that response for the
        // requests in question" RFC 9111 §4
        let wants = Wants::of(&request.fields);
        if may_reuse(&wants, &stored.policy, now).is_err() {
            fetch.leave(place);
            return None;
        }
        let framing = stored.length.map_or(Framing::Chunked, Framing::Length);
        let marked = Marked::anew(framing, request.version);
        let word = why.word();
        dealt.cache_status = format!("topdown; fwd={word}; collapsed");
        dealt.why = "another request was fetching it. RFC 9111 §4".into();
        dealt.from = From::Collapsed;
        let mut lines = stored.head.clone();
        let age = stored.policy.age(now);
        let _ = write!(lines, "Age: {age}\r\n");
        let head = self.head(asked, lines, marked, dealt);
        let mut sender = Sender::new(self.wire.socket.clone(), marked);
        sender.put_head(&head);
        (dealt.status, dealt.delay) = (stored.status, asked.started.elapsed());
        let ended = loop {
            let (last, fine) = match fetch.next(place) {
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
        fetch.leave(place);
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
    /// `None`: the whole content.
    part: Option<Vec<u8>>,
}

impl Chosen {
    fn bytes<'c>(&'c self, content: &'c [u8]) -> &'c [u8] {
        self.part.as_deref().unwrap_or(content)
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

/// The fields and the content of a 206. RFC 9110 §15.3.7
fn parts(
    stored: &Stored,
    content: &[u8],
    spans: &[condition::ByteRange],
) -> (String, Vec<u8>) {
    let length = content.len() as u64;
    let of = |(first, last): (u64, u64)| {
        content[first as usize..=last as usize].to_vec()
    };
    if let [span @ (first, last)] = *spans {
        let range = format!("Content-Range: bytes {first}-{last}/{length}\r\n");
        let _ = span;
        return (range, of((first, last)));
    }
    let head = String::from_utf8_lossy(&stored.head).into_owned();
    let named = |l: &&str| l.to_ascii_lowercase().starts_with("content-type:");
    let media_type = head.lines().find(named).map_or("", |l| l[13..].trim());
    let (kind, parts, after) = multipart(media_type, length, spans);
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&part.before);
        bytes.extend_from_slice(&of(part.span));
    }
    bytes.extend_from_slice(&after);
    (format!("Content-Type: {kind}\r\n"), bytes)
}
