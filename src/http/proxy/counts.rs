//! What the proxy has done so far: numbers for its own page, and the last
//! requests with their reasons.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::http::message::Request;
use crate::output::printable;

/// Requests that the page shows.
const RECENT: usize = 30;

/// What became of one request.
pub struct Dealt<'a> {
    /// The request line, for the log.
    pub line: &'a [u8],
    pub request: Option<&'a Request<'a>>,
    pub status: u16,
    /// Octets of content.
    pub sent: u64,
    /// The value of Cache-Status; empty: no matter of the cache.
    pub cache_status: String,
    /// The reasons, in words.
    pub why: String,
    pub from: Whence,
    /// Until the answer began.
    pub delay: Duration,
    pub uri: Option<Arc<str>>,
}

/// Where an answer is from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whence {
    /// The proxy itself: its page, an error.
    #[default]
    Here,
    Store,
    /// The store, after the origin said 304.
    Validated,
    /// Another request's fetch.
    Collapsed,
    Origin,
    Tunnel,
}

impl<'a> Dealt<'a> {
    pub fn new(head: &'a [u8]) -> Dealt<'a> {
        let line = head.split(|b| matches!(b, b'\r' | b'\n')).next();
        Dealt {
            line: line.unwrap_or_default(),
            request: None,
            status: 0,
            sent: 0,
            cache_status: String::new(),
            why: String::new(),
            from: Whence::Here,
            delay: Duration::ZERO,
            uri: None,
        }
    }

    /// For the log: `"topdown; hit; ttl=48" "reused: age …"`.
    pub fn more(&self) -> String {
        let cache_status = match self.cache_status.as_str() {
            "" => "-",
            said => said,
        };
        match self.why.is_empty() {
            true => String::new(),
            false => {
                let why = printable(&self.why).replace('"', "'");
                format!(" \"{cache_status}\" \"{why}\"")
            }
        }
    }
}

/// The numbers.
#[derive(Default)]
pub struct Counts(Mutex<Numbers>);

/// Requests by where their answers were from, with the sum of the delays.
#[derive(Clone, Default)]
pub struct Numbers {
    pub store: (u64, Duration),
    pub validated: (u64, Duration),
    pub collapsed: (u64, Duration),
    pub origin: (u64, Duration),
    pub tunnels: u64,
    pub here: u64,
    pub recent: VecDeque<Recent>,
}

/// One of the last requests.
#[derive(Clone)]
pub struct Recent {
    pub method: String,
    pub uri: Arc<str>,
    pub status: u16,
    pub cache_status: String,
    pub why: String,
    pub delay: Duration,
}

impl Counts {
    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the words of it.
    pub fn add(&self, dealt: &mut Dealt) {
        let recent = dealt.uri.take().map(|uri| Recent {
            method: dealt.request.map_or("", |r| r.method).to_string(),
            uri,
            status: dealt.status,
            cache_status: std::mem::take(&mut dealt.cache_status),
            why: std::mem::take(&mut dealt.why),
            delay: dealt.delay,
        });
        let mut numbers = self.lock();
        let numbers = &mut *numbers;
        if let Some(recent) = recent {
            numbers.recent.truncate(RECENT - 1);
            numbers.recent.push_front(recent);
        }
        let sum = match dealt.from {
            Whence::Store => &mut numbers.store,
            Whence::Validated => &mut numbers.validated,
            Whence::Collapsed => &mut numbers.collapsed,
            Whence::Origin => &mut numbers.origin,
            Whence::Tunnel => return numbers.tunnels += 1,
            Whence::Here => return numbers.here += 1,
        };
        sum.0 += 1;
        sum.1 += dealt.delay;
    }

    pub fn so_far(&self) -> Numbers {
        self.lock().clone()
    }
}
