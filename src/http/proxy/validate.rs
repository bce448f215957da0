//! Is what is stored still good? The conditional GET of KR 2.2.5, what its
//! 304 does (RFC 9111 §4.3.4), and validation while the client is served
//! already (RFC 5861 §3).

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Instant;

use super::Proxy;
use super::collapse::Role;
use super::forward::{request_head, status_line};
use super::session::{Asked, Session};
use crate::connections::{STACK, contain};
use crate::http::body::{Body, Framing};
use crate::http::cache::store::Store;
use crate::http::cache::stored::Stored;
use crate::http::message::{Request, Response};

/// Threads at a time that validate with nobody waiting.
const MAX_VALIDATING: usize = 32;

impl Session<'_> {
    /// Serves what is stale, and asks the origin at leisure. RFC 5861 §3
    pub fn validate_meanwhile(&self, asked: &Asked, stored: &Arc<Stored>) {
        let proxy = self.proxy;
        if proxy.validating.fetch_add(1, SeqCst) >= MAX_VALIDATING {
            proxy.validating.fetch_sub(1, SeqCst);
            return;
        }
        let (head, url) = (asked.head.to_vec(), asked.url.clone());
        let (uri, stored) = (asked.uri.clone(), stored.clone());
        let (inside, lab) = (asked.inside, asked.lab);
        let (number, own) = (asked.number, proxy.clone());
        let run = move || {
            let mut spans = Vec::new();
            if let Ok(request) = Request::parse(&head, &mut spans) {
                // what is stored is an answer to GET
                let request = Request { method: "GET", ..request };
                let stamp = own.store.as_ref().map_or(0, Store::stamp);
                let asked = Asked {
                    request: &request,
                    url,
                    uri,
                    lab,
                    framing: Framing::Empty,
                    body: Vec::new(),
                    head: &head,
                    inside,
                    number,
                    stamp,
                    started: Instant::now(),
                };
                contain(|| own.validate(&asked, &stored));
            }
            own.validating.fetch_sub(1, SeqCst);
        };
        let thread = thread::Builder::new().stack_size(STACK);
        if thread.spawn(run).is_err() {
            proxy.validating.fetch_sub(1, SeqCst);
        }
    }
}

impl Proxy {
    /// Asks the origin whether what is stored is still good, with no client
    /// waiting; stores what comes instead.
    fn validate(&self, asked: &Asked, stored: &Arc<Stored>) -> Option<()> {
        let Role::Lead(lead) = self.fetches.join(&asked.uri) else {
            return None; // somebody is at it already
        };
        let found =
            self.store.as_ref()?.find(&asked.uri, &asked.request.fields);
        if !found.is_ok_and(|found| Arc::ptr_eq(&found, stored)) {
            return None; // somebody has just done it
        }
        self.trace.why(|| {
            "meanwhile the origin is asked, in the background. RFC 5861 §3"
                .into()
        });
        let condition = stored.condition();
        let condition = condition.as_deref();
        let head = request_head(asked, &self.pseudonym, condition, true);
        let mut answer = self.ask(asked, &head, |_| ()).ok()?;
        let line = status_line(&answer.head);
        let mut spans = Vec::new();
        let response = Response::parse(&mut answer.head, &mut spans).ok()?;
        let mut at_end = true;
        let (follows, times) = (answer.follows, answer.times);
        if response.status == 304 {
            self.freshen(asked, stored, &response, times)?;
        } else {
            let new = self.storable(asked, &line, &response, follows, times);
            if new.is_err() {
                self.supersede(asked, stored, &response);
            }
            let (new, fields) = (new.ok()?, &response.fields);
            let mut body = Body::new(&mut answer.wire, follows.framing);
            let fetch = &lead.fetch;
            self.share(asked, fields, new, fetch, &mut body, None).ok()?;
            at_end = body.is_at_end();
        }
        let stays = answer.follows.stays_open && at_end;
        self.origins.keep_if(stays, asked, answer.wire);
        Some(())
    }

    /// Makes what is stored fresh by a 304, and its siblings of the same
    /// strong tag. `None`: it speaks of another version, or what is stored
    /// was overtaken or spoiled. RFC 9111 §4.3.4
    pub fn freshen(
        &self,
        asked: &Asked,
        stale: &Arc<Stored>,
        response: &Response,
        times: (i64, i64),
    ) -> Option<Arc<Stored>> {
        let store = self.store.as_ref()?;
        if !stale.is_meant_by(response) {
            store.discard(stale);
            return None;
        }
        self.trace.why(|| {
            "304: the copy is still good, and has its new fields. RFC 9111 \
             §4.3.4, KR 2.2.5"
                .into()
        });
        let (request, stamp) = (&asked.request.fields, asked.stamp);
        let tag = response.fields.text("etag").unwrap_or_default();
        for other in store.variants(&stale.uri) {
            let same = other.etag == tag && tag.starts_with('"');
            if !same || other.varies == stale.varies {
                continue;
            }
            match other.freshened(request, response, times) {
                Some((fresh, Ok(())))
                    if response.fields.get("vary").is_none() =>
                {
                    let varies = other.varies.clone();
                    let fresh = Stored { varies, ..fresh };
                    store.replace(&other, fresh, stamp);
                }
                _ => store.discard(&other),
            }
        }
        let (fresh, may_keep) = stale.freshened(request, response, times)?;
        match may_keep {
            Ok(()) => store.replace(stale, fresh, stamp),
            Err(why) => {
                self.trace.why(|| format!("no longer stored: {why}"));
                fresh.bytes().ok()?;
                store.discard(stale);
                Some(Arc::new(fresh)) // for this client, once
            }
        }
    }
}
