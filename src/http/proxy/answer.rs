//! What a request is answered with: a copy from the store, what another
//! request is just fetching, or what the origin says. Steps (ii) and (iii)
//! of `proxy.rs`; the rules are in `cache.rs`.

use std::sync::Arc;

use super::collapse::{Lead, Role};
use super::counts::{Dealt, Whence};
use super::forward::{
    Answer, came_by, is_counted, max_forwards, request_head, status_line,
};
use super::origins::NoWay;
use super::session::{Asked, Next, Session};
use crate::error::{Error, is_timeout};
use crate::http::body::Framing;
use crate::http::cache::store::Store;
use crate::http::cache::stored::Stored;
use crate::http::cache::why::WhyNot;
use crate::http::cache::{Reuse, Wants, may_reuse, may_stand_in};
use crate::http::date;
use crate::http::message::{Request, Response};
use crate::http::reply::Content;

/// Why and how a request goes on to the origin.
pub struct Plan<'a> {
    pub why: WhyNot,
    /// What is stored for it, but may not be used as it is.
    pub stale: Option<Arc<Stored>>,
    /// Others wait for the answer, too.
    pub lead: Option<Lead<'a>>,
}

/// What is stored, if it may be used; else why not, and what it is.
type Found = Result<(Arc<Stored>, Reuse), (WhyNot, Option<Arc<Stored>>)>;

impl<'p> Session<'p> {
    /// A request for an origin.
    pub fn answer<'a>(
        &mut self,
        asked: &Asked<'a>,
        dealt: &mut Dealt<'a>,
    ) -> Next {
        let (request, proxy) = (asked.request, self.proxy);
        let fields = &request.fields;
        dealt.uri = Some(asked.uri.clone());
        if came_by(fields, &proxy.pseudonym) {
            return self.no_way(asked, &NoWay::Loop, dealt);
        }
        if is_counted(request.method) && max_forwards(fields) == Some(0) {
            return self.last_recipient(asked, dealt);
        }
        // who asks from outside is not shown what only the inside may see
        if !asked.inside {
            if let Err(no_way) = proxy.origins.addresses(&asked.url, false) {
                return self.no_way(asked, &no_way, dealt);
            }
        }
        let plain = matches!(request.method, "GET" | "HEAD")
            && asked.framing == Framing::Empty;
        // "If-Match and If-Unmodified-Since conditional header fields are
        // not applicable to a cache" RFC 9111 §4.3.2
        let conditional = ["if-match", "if-unmodified-since"]
            .iter()
            .any(|name| fields.get(name).is_some());
        let why = match (plain, conditional) {
            (false, _) => WhyNot::OtherMethod,
            (true, true) => WhyNot::Precondition,
            (true, false) => match &proxy.store {
                Some(store) => return self.look_up(asked, store, dealt),
                None => WhyNot::UriMiss,
            },
        };
        if Wants::of(fields).only_if_cached {
            return self.only_if_cached(asked, why, None, dealt);
        }
        self.fetch(asked, Plan { why, stale: None, lead: None }, dealt)
    }

    /// 504: nothing that may be used, and more was not asked for. RFC 9111
    /// §5.2.1.7
    fn only_if_cached<'a>(
        &mut self,
        asked: &Asked<'a>,
        why: WhyNot,
        stale: Option<&Stored>,
        dealt: &mut Dealt<'a>,
    ) -> Next {
        dealt.cache_status = format!("topdown; detail={}", why.word());
        dealt.why = because(why, stale);
        let text = "Nothing is stored that may be used, and more was not \
                    asked for (only-if-cached).";
        self.say(504, text, asked.framing, dealt)
    }

    /// (ii) Is there a copy that may be used?
    fn look_up<'a>(
        &mut self,
        asked: &Asked<'a>,
        store: &'p Store,
        dealt: &mut Dealt<'a>,
    ) -> Next {
        let proxy = self.proxy;
        let wants = Wants::of(&asked.request.fields);
        // `lead`: others wait for this one; `waited`: this one did, in vain;
        // `spoiled`: what was stored is not what it was
        let (mut lead, mut waited, mut spoiled) = (None, false, false);
        loop {
            let (why, stale) = match find(asked, store, &wants) {
                Ok((stored, reuse)) => {
                    drop(lead.take());
                    if reuse == Reuse::StaleMeanwhile {
                        self.validate_meanwhile(asked, &stored);
                    }
                    let from = Whence::Store;
                    match self.reuse(asked, &stored, reuse, from, dealt) {
                        Some(next) => return next,
                        None => store.discard(&stored),
                    }
                    spoiled = true;
                    continue;
                }
                Err((_, stale)) if spoiled => (WhyNot::Changed, stale),
                Err(miss) => miss,
            };
            if lead.is_none() {
                proxy.trace.why(|| because(why, stale.as_deref()));
            }
            if wants.only_if_cached {
                let stale = stale.as_deref();
                return self.only_if_cached(asked, why, stale, dealt);
            }
            let decided = lead.is_some() || waited;
            if decided || is_for_one(asked.request, stale.is_some()) {
                return self.fetch(asked, Plan { why, stale, lead }, dealt);
            }
            match proxy.fetches.join(&asked.uri) {
                Role::Alone => {
                    return self.fetch(asked, Plan { why, stale, lead }, dealt);
                }
                // and look again: it may have come a moment ago
                Role::Lead(new) => lead = Some(new),
                Role::Follow(place) => {
                    proxy.trace.why(|| {
                        "another request is fetching it: this one waits for \
                         that. RFC 9111 §4"
                            .into()
                    });
                    let sent = self.follow(asked, &place, why, dealt);
                    if let Some(next) = sent {
                        return next;
                    }
                    waited = true;
                }
            }
        }
    }

    /// (iii) Asks the origin: for this, or whether a stale copy is still
    /// good (the conditional GET of KR 2.2.5).
    fn fetch<'a>(
        &mut self,
        asked: &Asked<'a>,
        plan: Plan<'p>,
        dealt: &mut Dealt<'a>,
    ) -> Next {
        let is_get = asked.request.method == "GET";
        let stale = plan.stale.as_ref().filter(|_| is_get);
        let condition = stale.and_then(|stored| stored.condition());
        let whole = plan.lead.is_some() || condition.is_some();
        let (name, condition) = (&self.proxy.pseudonym, condition.as_deref());
        let head = request_head(asked, name, condition, whole);
        let validates = condition.is_some();
        let streams = !matches!(asked.framing, Framing::Empty)
            && asked.framing != Framing::Length(asked.body.len() as u64);
        if streams {
            self.ask_with_upload(asked, &head, |session, answer| {
                session.received(asked, plan, validates, answer, dealt)
            })
        } else {
            let answer = self.ask(asked, &head);
            self.received(asked, plan, validates, answer, dealt)
        }
    }

    /// The origin has answered, or has not.
    fn received<'a>(
        &mut self,
        asked: &Asked<'a>,
        plan: Plan<'p>,
        validates: bool,
        answer: Result<Answer, NoWay>,
        dealt: &mut Dealt<'a>,
    ) -> Next {
        let proxy = self.proxy;
        let wants = Wants::of(&asked.request.fields);
        let may_stand_in =
            |s: &&Arc<Stored>| may_stand_in(&wants, &s.policy, date::now());
        let stand_in = plan.stale.as_ref().filter(may_stand_in).cloned();
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(no_way) => {
                let fault = self.upload.as_ref().and_then(|u| u.fault.get());
                if let Some(bad) = fault.copied() {
                    return self.bad(bad, dealt);
                }
                let sent = stand_in
                    .and_then(|stored| self.stand_in(asked, &stored, dealt));
                return match sent {
                    Some(next) => next,
                    None => self.no_way(asked, &no_way, dealt),
                };
            }
        };
        let line = status_line(&answer.head);
        let (mut head, mut spans) =
            (std::mem::take(&mut answer.head), Vec::new());
        let Ok(response) = Response::parse(&mut head, &mut spans) else {
            return Next::Close; // it was parsed before
        };
        let status = response.status;
        let failed = matches!(status, 500 | 502 | 503 | 504);
        if let Some(stored) = stand_in.filter(|_| failed) {
            if let Some(next) = self.stand_in(asked, &stored, dealt) {
                return next;
            }
        }
        let validated = plan.stale.as_ref().filter(|_| validates);
        if let (304, Some(stale)) = (status, validated) {
            let times = answer.times;
            let fresh = proxy.freshen(asked, stale, &response, times);
            let stays = answer.follows.stays_open;
            proxy.origins.keep_if(stays, asked, answer.wire);
            let why = plan.why;
            drop(plan); // those who wait look into the store again
            if let Some(stored) = fresh {
                dealt.why = format!("{why}; then 304. RFC 9111 §4.3.4");
                let word = why.word();
                dealt.cache_status =
                    format!("topdown; fwd={word}; fwd-status=304");
                let (reuse, from) = (Reuse::Validated, Whence::Validated);
                let sent = self.reuse(asked, &stored, reuse, from, dealt);
                if let Some(next) = sent {
                    return next;
                }
            }
            // the copy is not what the 304 speaks of: anew, as a whole
            let plan =
                Plan { why: WhyNot::OtherVersion, stale: None, lead: None };
            return self.fetch(asked, plan, dealt);
        }
        self.deliver(asked, plan, &line, &response, answer, dealt)
    }

    /// A stale copy is better than an error, where its origin says so.
    fn stand_in<'a>(
        &mut self,
        asked: &Asked<'a>,
        stored: &Arc<Stored>,
        dealt: &mut Dealt<'a>,
    ) -> Option<Next> {
        let reuse = Reuse::StaleOnError;
        let sent = self.reuse(asked, stored, reuse, Whence::Store, dealt);
        if let (None, Some(store)) = (&sent, &self.proxy.store) {
            store.discard(stored);
        }
        sent
    }

    /// TRACE and OPTIONS that go no further than here. RFC 9110 §7.6.2
    fn last_recipient<'a>(
        &mut self,
        asked: &Asked<'a>,
        dealt: &mut Dealt<'a>,
    ) -> Next {
        let reply = &mut self.reply;
        if asked.request.method == "TRACE" {
            reply.begin(200);
            reply.field("Content-Type", "message/http");
            // "SHOULD exclude any request fields that are likely to contain
            // sensitive data" RFC 9110 §9.3.8
            let secret = ["authorization", "cookie", "proxy-authorization"];
            let tells = |line: &&[u8]| {
                let name = line.split(|b| *b == b':').next();
                let name = name.unwrap_or_default().to_ascii_lowercase();
                !secret.iter().any(|s| s.as_bytes() == name)
            };
            let lines = asked.head.split_inclusive(|b| *b == b'\n');
            let text = lines.filter(tells).flatten().copied().collect();
            reply.content = Content::Bytes(text);
        } else {
            reply.begin(204);
            let allow = "GET, HEAD, POST, PUT, DELETE, OPTIONS, TRACE, CONNECT";
            reply.field("Allow", allow);
        }
        self.send_reply(asked.framing != Framing::Empty, dealt)
    }

    /// The page for a request that reaches no origin, or no answer: in plain
    /// words, as the lab's first optional exercise asks.
    pub fn no_way<'a>(
        &mut self,
        asked: &Asked<'a>,
        no_way: &NoWay,
        dealt: &mut Dealt<'a>,
    ) -> Next {
        let authority = asked.url.authority();
        let (status, text) = explain_no_way(&authority, no_way);
        dealt.delay = asked.started.elapsed();
        self.say(status, &text, asked.framing, dealt)
    }
}

fn find(asked: &Asked, store: &Store, wants: &Wants) -> Found {
    let found = store.find(&asked.uri, &asked.request.fields);
    let stored = found.map_err(|why| (why, None))?;
    match may_reuse(wants, &stored.policy, date::now()) {
        Ok(reuse) => Ok((stored, reuse)),
        Err(why) => Err((why, Some(stored))),
    }
}

/// Would the answer be of no use to others? HEAD, and what asks for a part
/// or by the client's own copy, as long as nothing is stored to ask about.
fn is_for_one(request: &Request, stored: bool) -> bool {
    let own = ["range", "if-none-match", "if-modified-since"];
    let own = own.iter().any(|name| request.fields.get(name).is_some());
    request.method == "HEAD" || own && !stored
}

/// Why what is stored was not used, with its numbers.
pub fn because(why: WhyNot, stale: Option<&Stored>) -> String {
    match stale {
        Some(s) => format!("{why} ({})", s.policy.arithmetic(date::now())),
        None => why.to_string(),
    }
}

/// Status and words for what went wrong.
pub fn explain_no_way(authority: &str, no_way: &NoWay) -> (u16, String) {
    let error = match no_way {
        NoWay::Loop => {
            let text = "This request leads back to the proxy itself: a loop. \
                        The proxy's own page is http://topdown.proxy/.";
            return (508, text.into());
        }
        NoWay::Inside => {
            let text = "From outside, nobody is led to this machine itself.";
            return (403, text.into());
        }
        NoWay::Fault(error) => error,
    };
    let (slow, looks_up, connects) = match error {
        Error::Io { doing, source } => (
            is_timeout(source),
            doing.starts_with("look up"),
            doing.starts_with("connect"),
        ),
        _ => (false, false, false),
    };
    let words = match (slow, looks_up, connects) {
        (true, true, _) => "The name servers did not answer in time.",
        (true, _, true) => "The server could not be reached in time.",
        (true, _, _) => "The server did not answer in time.",
        (_, true, _) => "There is no server by that name.",
        (_, _, true) => "The server could not be reached.",
        _ => "The server's answer cannot be understood.",
    };
    let status = if slow { 504 } else { 502 };
    let of = match looks_up || connects {
        true => String::new(), // the error names it
        false => format!("{authority}: "),
    };
    (status, format!("{words} {of}{error}."))
}
