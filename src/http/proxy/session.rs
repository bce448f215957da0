//! One connection's requests, one after the other: what breaks a rule is
//! refused, who may not ask is turned away, the others are led on.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use super::Proxy;
use super::access::Denied;
use super::counts::Dealt;
use super::target::{Goal, goal};
use super::upload::Upload;
use crate::connections::Connection;
use crate::http::bad::Bad;
use crate::http::body::{Body, Framing, keeps_open};
use crate::http::cache::store::Store;
use crate::http::explain;
use crate::http::fields::Span;
use crate::http::head::NoHead;
use crate::http::log;
use crate::http::message::{Request, Version};
use crate::http::reply::Reply;
use crate::http::url::Url;
use crate::trace::Party;
use crate::wire::Wire;

/// What one connection's thread works with.
pub struct Session<'a> {
    pub proxy: &'a Arc<Proxy>,
    pub connection: Connection,
    pub wire: Wire,
    /// The client is on this machine.
    pub inside: bool,
    /// For the proxy's own words.
    pub reply: Reply,
    /// The request's body that is just being passed on.
    pub upload: Option<Arc<Upload>>,
    pub served: u64,
}

/// How a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Request,
    Close,
    /// The client may still be sending: let it see our answer.
    CloseGently,
}

/// A request for an origin server.
pub struct Asked<'a> {
    pub request: &'a Request<'a>,
    pub url: Url,
    /// The key of the cache.
    pub uri: Arc<str>,
    /// It was asked for in the lab's form.
    pub lab: bool,
    pub framing: Framing,
    /// The body, as far as it is short and here already.
    pub body: Vec<u8>,
    /// The head as the client sent it.
    pub head: &'a [u8],
    /// The client is on this machine.
    pub inside: bool,
    /// Tells conversations apart.
    pub number: u64,
    /// How many invalidations there had been: a later one wins.
    pub stamp: u64,
    pub started: Instant,
}

impl<'p> Session<'p> {
    pub fn new(proxy: &'p Arc<Proxy>, connection: Connection) -> Session<'p> {
        let socket = connection.socket.clone();
        let inside = connection.client.ip().to_canonical().is_loopback();
        Session {
            proxy,
            inside,
            connection,
            wire: Wire::new(socket, Some(proxy.limits.idle)),
            reply: Reply::new(),
            upload: None,
            served: 0,
        }
    }

    /// One request, one answer. `head` and `spans` are room for the
    /// request's head and for where its fields stand.
    pub fn request(
        &mut self,
        head: &mut Vec<u8>,
        spans: &mut Vec<Span>,
    ) -> Next {
        let proxy = self.proxy;
        let may_wait = self.connection.set_idle(true);
        if !may_wait && self.wire.buffered().is_empty() {
            return Next::Close;
        }
        // (i) wait for a request
        let received = self.wire.read_head(head, proxy.limits.header, true);
        self.connection.set_idle(false);
        let mut dealt = Dealt::new(head);
        match received {
            Ok(()) => {}
            Err(NoHead::Closed | NoHead::Idle | NoHead::Broken(_)) => {
                return Next::Close;
            }
            Err(NoHead::Slow) => return self.bad(Bad::TooSlow, &mut dealt),
            Err(NoHead::Bad(bad)) => return self.bad(bad, &mut dealt),
        }
        let number = self.connection.number;
        explain::head(&proxy.trace, Party::Client, number, head, 0);
        let request = match Request::parse(head, spans) {
            Ok(request) => request,
            Err(bad) => return self.bad(bad, &mut dealt),
        };
        dealt.request = Some(&request);
        self.upload = None;
        match self.check(&request) {
            Ok(framing) => self.lead_on(&request, framing, head, &mut dealt),
            Err(bad) => self.bad(bad, &mut dealt),
        }
    }

    /// How the body's end is marked, if the request can be passed on at all.
    fn check(&self, request: &Request) -> Result<Framing, Bad> {
        let expects = request.fields.get("expect");
        let unknown = expects.is_some_and(|expects| {
            request.version == Version::Http11
                && !expects.eq_ignore_ascii_case(b"100-continue")
        });
        match unknown {
            true => Err(Bad::Expectation),
            false => Framing::of_request(request),
        }
    }

    /// Lets the client in, and the request go where it leads.
    fn lead_on<'a>(
        &mut self,
        request: &'a Request<'a>,
        framing: Framing,
        head: &'a [u8],
        dealt: &mut Dealt<'a>,
    ) -> Next {
        let (proxy, client) = (self.proxy, self.connection.client.ip());
        if let Err(denied) = proxy.access.admit(client, &request.fields) {
            return self.deny(&denied, framing, dealt);
        }
        let started = Instant::now();
        match goal(request, client.to_canonical(), &proxy.referred) {
            Goal::Tunnel(url) => self.tunnel(&url, dealt),
            Goal::Own => self.own_page(framing, dealt),
            Goal::Nowhere(status, why) => self.say(status, why, framing, dealt),
            Goal::Origin { url, lab } => {
                let asked = Asked {
                    request,
                    uri: url.to_string().into(),
                    url,
                    lab,
                    framing,
                    body: self.short_body(framing),
                    head,
                    inside: self.inside,
                    number: self.connection.number,
                    stamp: proxy.store.as_ref().map_or(0, Store::stamp),
                    started,
                };
                self.answer(&asked, dealt)
            }
        }
    }

    /// A body that is here as a whole goes on with its head. What is longer
    /// goes through a thread of its own.
    fn short_body(&mut self, framing: Framing) -> Vec<u8> {
        let here = self.wire.buffered().len() as u64;
        let mut body = Vec::new();
        if let Framing::Length(length) = framing {
            if length <= here {
                let read = &mut Body::new(&mut self.wire, framing);
                let _ = std::io::Read::read_to_end(read, &mut body);
            }
        }
        body
    }

    /// Answers a request that breaks a rule, and ends the connection: what
    /// comes next on it could be anything.
    pub fn bad(&mut self, bad: Bad, dealt: &mut Dealt) -> Next {
        self.proxy.trace.why(|| format!("{}: {bad}", bad.status()));
        self.reply.page(bad.status(), &format!("{bad}."));
        dealt.why = bad.to_string();
        self.send_reply(true, dealt)
    }

    /// 403, or 407 with the way to say who one is. RFC 9110 §11.7.1
    fn deny(
        &mut self,
        denied: &Denied,
        framing: Framing,
        dealt: &mut Dealt,
    ) -> Next {
        match denied {
            Denied::Address => {
                self.reply.page(403, "This proxy is not for your network.");
            }
            Denied::Unknown => {
                self.reply.page(407, "This proxy is for users that it knows.");
                let realm = "Basic realm=\"topdown\", charset=\"UTF-8\"";
                self.reply.field("Proxy-Authenticate", realm);
            }
        }
        dealt.why = "not let in: --allow, --auth".into();
        self.send_reply(framing != Framing::Empty, dealt)
    }

    /// A page of our own that says why there is nothing else.
    pub fn say(
        &mut self,
        status: u16,
        why: &str,
        framing: Framing,
        dealt: &mut Dealt,
    ) -> Next {
        self.proxy.trace.why(|| format!("{status}: {why}"));
        self.reply.page(status, why);
        if dealt.why.is_empty() {
            dealt.why = why.into();
        }
        self.send_reply(framing != Framing::Empty, dealt)
    }

    /// Sends what stands in `reply`. `rest`: of the request some may be
    /// unread, so that nothing can follow it.
    pub fn send_reply(&mut self, rest: bool, dealt: &mut Dealt) -> Next {
        let (mut head_only, mut stays) = (false, false);
        if let Some(request) = dealt.request {
            head_only = request.method == "HEAD";
            stays = self.stays(request);
        }
        let reply = &mut self.reply;
        if !dealt.cache_status.is_empty() {
            reply.field("Cache-Status", &dealt.cache_status);
        }
        reply.close = !stays || rest;
        reply.end_head(false);
        let content = if head_only { 0 } else { reply.content.length() };
        let (trace, number) = (&self.proxy.trace, self.connection.number);
        explain::head(trace, Party::AsServer, number, &reply.head, content);
        let sent = reply.send(&self.wire, head_only);
        (dealt.status, dealt.sent) = (reply.status, reply.sent);
        let close = reply.close;
        self.done(dealt);
        match (sent, close) {
            (Err(_), _) => Next::Close,
            (Ok(()), false) => Next::Request,
            (Ok(()), true) => Next::CloseGently,
        }
    }

    /// One line in the log, and the numbers.
    pub fn done(&mut self, dealt: &mut Dealt) {
        self.served += 1;
        if !self.proxy.quiet {
            let fields = dealt.request.map(|r| &r.fields);
            let client = self.connection.client.ip().to_canonical();
            let (status, sent) = (dealt.status, dealt.sent);
            let more = dealt.more();
            log::access(client, dealt.line, fields, status, sent, &more);
        }
        self.proxy.counts.add(dealt);
    }

    /// May the next request come on this connection after an answer whose
    /// end is marked? Not in HTTP/1.0: its keep-alive is not for proxies.
    /// RFC 9112 §9.3
    pub fn stays(&self, request: &Request) -> bool {
        let all_read = |upload: &Arc<Upload>| upload.all_read.load(SeqCst);
        request.version == Version::Http11
            && keeps_open(request.version, &request.fields)
            && self.upload.as_ref().is_none_or(all_read)
            && !self.connection.is_stopping()
            && !self.proxy.once
    }
}
