//! The origin's answer on its way: (iv) to the client as it comes, and (v)
//! into the store, if it may; and what it means for what is stored.

use std::io::Write;
use std::sync::Arc;

use super::Proxy;
use super::answer::{Plan, because};
use super::collapse::{Fetch, Lead};
use super::counts::{Dealt, Whence};
use super::forward::{Answer, response_lines, via, with_lab_location};
use super::origins::Origins;
use super::relay::{self, Broken, Marked, Sender};
use super::session::{Asked, Next, Session};
use crate::http::body::{Body, Framing, decimal};
use crate::http::cache::may_store;
use crate::http::cache::stored::Stored;
use crate::http::cache::why::WhyNot;
use crate::http::explain;
use crate::http::fields::Fields;
use crate::http::message::Response;
use crate::http::origin::Follows;
use crate::net;
use crate::trace::Party;
use crate::wire::Wire;

impl Origins {
    /// Keeps the connection after an answer that was read to its end.
    pub fn keep_if(&self, stays: bool, asked: &Asked, wire: Wire) {
        if stays {
            self.keep(&asked.url, asked.inside, wire);
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
        let Some(store) = &self.store else { return Err(WhyNot::NoDisk) };
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
            // a non-error response "is one with a 2xx (Successful) or 3xx
            // (Redirection) status code"
            if !(200..400).contains(&status) {
                return;
            }
            let named = ["location", "content-location"]
                .into_iter()
                .filter_map(|name| asked.url.join(fields.text(name)?).ok());
            // not of another origin, "This helps prevent denial-of-service
            // attacks."
            let named = named.filter(|url| url.same_origin(&asked.url));
            let named = named.map(|url| url.to_string());
            for uri in named.chain([asked.uri.to_string()]) {
                self.fetches.overtake(&uri);
                if store.invalidate(&uri) {
                    self.trace.why(|| {
                        let method = asked.request.method;
                        format!(
                            "{uri} is no longer stored, after {method}. \
                             RFC 9111 §4.4"
                        )
                    });
                }
            }
        } else if asked.request.method == "HEAD" && status == 200 {
            let length = fields.get("content-length").and_then(decimal);
            let request = &asked.request.fields;
            for stored in store.variants(&asked.uri) {
                if !stored.matches(request) {
                    continue;
                }
                let same = stored.status == 200
                    && stored.is_meant_by(response)
                    && (length.is_none() || length == stored.length);
                let fresh = stored.freshened(request, response, times);
                match fresh.filter(|(_, may_keep)| same && may_keep.is_ok()) {
                    Some((fresh, _)) => {
                        store.replace(&stored, fresh, asked.stamp);
                    }
                    None => store.discard(&stored),
                }
            }
        }
    }

    /// What an answer supersedes is not used again, even if the answer is
    /// not stored itself.
    pub fn supersede(
        &self,
        asked: &Asked,
        stale: &Arc<Stored>,
        response: &Response,
    ) {
        let get = asked.request.method == "GET";
        if let Some(store) = self.store.as_ref().filter(|_| get) {
            if response.status < 500 {
                store.discard(stale);
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
        if let (Some(stale), Err(_)) = (&plan.stale, &storable) {
            proxy.supersede(asked, stale, response);
        }
        self.decided(&plan, storable.as_ref().err(), dealt);

        let mut marked = Marked::anew(follows.framing, request.version);
        if request.method == "HEAD" && !matches!(response.status, 204 | 304) {
            let length = response.fields.get("content-length");
            marked = Marked::Nothing(length.and_then(decimal));
        }
        let name = &proxy.pseudonym;
        let lines = response_lines(line, response, name, times.1);
        let head = self.head(asked, lines, marked, dealt);
        let mut sender = Sender::new(self.wire.socket.clone(), marked);
        sender.put_head(&head);
        (dealt.status, dealt.delay) =
            (response.status, asked.started.elapsed());
        let stays = self.stays(request) && marked != Marked::ToClose;

        let mut body = Body::new(&mut wire, follows.framing);
        let (body, to) = (&mut body, &mut sender);
        let fields = &response.fields;
        let ended = match storable {
            Ok(stored) => {
                let lead = plan.lead;
                let (ended, kept) =
                    self.send_and_store(asked, stored, lead, fields, body, to);
                if let Err(why) = kept {
                    self.not_stored(why, dealt);
                }
                ended
            }
            Err(_) => {
                if let Some(mut lead) = plan.lead {
                    // the others ask for themselves, and at once
                    lead.alone = true;
                }
                match relay::copy(body, to, fields) {
                    Ok(()) => true,
                    Err(Broken::Source(e) | Broken::Receiver(e)) => {
                        proxy.trace.fact(|| format!("broken off: {e}"));
                        false
                    }
                }
            }
        };
        let at_end = body.is_at_end();
        if !ended && !sender.begun {
            // nothing has left yet: the truth can still be told
            let text = "The server's answer broke off, or makes no sense.";
            (dealt.from, dealt.why) = (Whence::Here, text.into());
            dealt.cache_status.clear();
            return self.say(502, text, asked.framing, dealt);
        }
        dealt.sent = sender.sent;
        if self.upload.is_none() {
            let stays = follows.stays_open && at_end;
            proxy.origins.keep_if(stays, asked, wire);
        }
        self.end(asked, marked, ended, stays, dealt)
    }

    /// What Cache-Status says of an answer from the origin (RFC 9211 §2),
    /// and why.
    fn decided(&self, plan: &Plan, not: Option<&WhyNot>, dealt: &mut Dealt) {
        dealt.from = Whence::Origin;
        if self.proxy.store.is_none() {
            return; // there are no decisions
        }
        let outcome = match not {
            None => "stored".into(),
            Some(why) => format!("detail={}", why.word()),
        };
        let word = plan.why.word();
        dealt.cache_status = format!("topdown; fwd={word}; {outcome}");
        dealt.why = because(plan.why, plan.stale.as_deref());
        if let Some(why) = not {
            self.not_stored(*why, dealt);
        }
    }

    fn not_stored(&self, why: WhyNot, dealt: &mut Dealt) {
        dealt.why.push_str(&format!("; not stored: {why}"));
        self.proxy.trace.why(|| format!("not stored: {why}"));
    }

    /// The body to the client, to all who wait for it, and into the store.
    /// True: the client has all of it; and is it stored?
    fn send_and_store(
        &self,
        asked: &Asked,
        stored: Stored,
        lead: Option<Lead>,
        fields: &Fields,
        body: &mut Body<Wire>,
        sender: &mut Sender,
    ) -> (bool, Result<(), WhyNot>) {
        let proxy = self.proxy;
        let own = Arc::<Fetch>::default();
        let fetch = lead.as_ref().map_or(&own, |lead| &lead.fetch);
        let to = Some(sender);
        match proxy.share(asked, fields, stored, fetch, body, to) {
            Ok(shared) => {
                if shared.kept.is_ok() {
                    proxy.trace.why(|| "stored. RFC 9111 §3".into());
                }
                (shared.delivered, shared.kept)
            }
            Err(error) => {
                proxy.trace.fact(|| format!("broken off: {error}"));
                (false, Err(WhyNot::Incomplete))
            }
        }
    }

    /// The last of an answer has gone out, or has not.
    pub fn end<'a>(
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
    pub fn head(
        &self,
        asked: &Asked,
        mut lines: Vec<u8>,
        marked: Marked,
        dealt: &Dealt,
    ) -> Vec<u8> {
        if asked.lab {
            lines = with_lab_location(lines, &asked.url);
        }
        if !dealt.cache_status.is_empty() {
            let _ = write!(lines, "Cache-Status: {}\r\n", dealt.cache_status);
        }
        lines.extend_from_slice(marked.field().as_bytes());
        let stays = self.stays(asked.request) && marked != Marked::ToClose;
        if !stays {
            lines.extend_from_slice(b"Connection: close\r\n");
        }
        lines.extend_from_slice(b"\r\n");
        let trace = &self.proxy.trace;
        explain::head(trace, Party::AsServer, asked.number, &lines, 0);
        lines
    }
}
