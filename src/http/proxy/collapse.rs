//! One fetch for many: requests for the same URI that come while the first
//! is on its way to the origin wait for its answer, and its body streams to
//! all of them. "A cache can use a response that is stored or storable to
//! satisfy multiple requests, provided that it is allowed to reuse that
//! response for the requests in question. This enables a cache to "collapse
//! requests"". RFC 9111 §4
//!
//! The leader, whose request it was, reads from the origin into a window;
//! each follower reads there at its own pace. What is to be stored stays in
//! the window as a whole. What turns out too long for that is let go of as
//! soon as all have it; then the slowest sets the pace, until it stalls
//! (`proxy/share.rs`).

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::relay::PIECE;
use crate::http::cache::stored::Stored;
use crate::http::fields::Fields;

/// For so long nobody waits for an answer whose like was not to be stored.
const ALONE_FOR: Duration = Duration::from_secs(30);
const MAX_ALONE: usize = 4096;

/// The fetches that are on their way.
#[derive(Default)]
pub struct Fetches(Mutex<State>);

#[derive(Default)]
struct State {
    running: HashMap<Arc<str>, Arc<Fetch>>,
    alone: HashMap<Arc<str>, Instant>,
}

/// What somebody who asks for a URI is to do.
pub enum Role<'a> {
    /// Ask the origin, for others too.
    Lead(Lead<'a>),
    /// Read what the leader gets.
    Follow(Place),
    /// Ask the origin for oneself.
    Alone,
}

/// A follower's place. However it ends, nobody waits for it.
pub struct Place {
    fetch: Arc<Fetch>,
    number: usize,
}

/// The leader's part. However it ends, those who wait are told.
pub struct Lead<'a> {
    fetches: &'a Fetches,
    uri: Arc<str>,
    pub fetch: Arc<Fetch>,
    /// There was nothing to share: the next do not wait for each other.
    pub alone: bool,
}

impl Fetches {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn join(&self, uri: &Arc<str>) -> Role<'_> {
        let mut state = self.lock();
        if let Some(fetch) = state.running.get(uri) {
            return match fetch.follow() {
                Some(number) => {
                    Role::Follow(Place { fetch: fetch.clone(), number })
                }
                None => Role::Alone,
            };
        }
        match state.alone.get(uri) {
            Some(since) if since.elapsed() < ALONE_FOR => Role::Alone,
            _ => {
                let fetch = Arc::new(Fetch::default());
                state.running.insert(uri.clone(), fetch.clone());
                let (uri, alone) = (uri.clone(), false);
                Role::Lead(Lead { fetches: self, uri, fetch, alone })
            }
        }
    }

    /// An unsafe request went to the URI: what is on its way is old.
    pub fn overtake(&self, uri: &str) {
        if let Some(fetch) = self.lock().running.get(uri) {
            fetch.lock().overtaken = true;
        }
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut state = self.fetches.lock();
        state.running.remove(&self.uri);
        if state.alone.len() >= MAX_ALONE {
            state.alone.clear();
        }
        match self.alone {
            true => _ = state.alone.insert(self.uri.clone(), Instant::now()),
            false => _ = state.alone.remove(&self.uri),
        }
        drop(state);
        self.fetch.end(Stage::Over);
    }
}

/// How far a fetch has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    #[default]
    Asking,
    Coming,
    /// The body has ended as it should.
    Whole,
    /// It has not.
    Broken,
    /// There is nothing to share.
    Over,
}

/// One fetch.
#[derive(Default)]
pub struct Fetch {
    window: Mutex<Window>,
    changed: Condvar,
}

#[derive(Default)]
struct Window {
    stage: Stage,
    answer: Option<Arc<Stored>>,
    /// Where in the body the window begins.
    base: u64,
    bytes: Arc<Vec<u8>>,
    trailers: Vec<u8>,
    /// How far each follower has read; `None`: it has left.
    followers: Vec<Option<u64>>,
    /// Nothing may leave the window: it is to be stored.
    whole: bool,
    overtaken: bool,
}

/// What a follower gets.
pub enum Piece {
    Bytes(Vec<u8>),
    /// The end, and the trailer section.
    End(Vec<u8>),
    Broken,
}

impl Fetch {
    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A follower's place; `None` when the beginning is gone already.
    fn follow(&self) -> Option<usize> {
        let mut window = self.lock();
        let possible = match window.stage {
            Stage::Asking | Stage::Whole => window.base == 0,
            Stage::Coming => window.whole,
            Stage::Broken | Stage::Over => false,
        };
        let possible = possible && !window.overtaken;
        possible.then(|| {
            window.followers.push(Some(0));
            window.followers.len() - 1
        })
    }

    fn wait<'a>(
        &self,
        window: MutexGuard<'a, Window>,
    ) -> MutexGuard<'a, Window> {
        self.changed.wait(window).unwrap_or_else(PoisonError::into_inner)
    }

    /// For the leader: the answer is there, and may be shared.
    pub fn begin(&self, answer: Arc<Stored>) {
        let mut window = self.lock();
        window.stage = Stage::Coming;
        window.answer = Some(answer);
        window.whole = true;
        self.changed.notify_all();
    }

    /// For the leader: more of the body.
    pub fn push(&self, bytes: &[u8]) {
        let mut window = self.lock();
        Arc::make_mut(&mut window.bytes).extend_from_slice(bytes);
        drop(window);
        self.changed.notify_all();
    }

    /// For the leader: the piece for its own client, from there on.
    pub fn piece(&self, position: u64) -> Vec<u8> {
        self.lock().piece(position)
    }

    /// It is too long to be stored: from now on the window is let go of.
    pub fn let_go(&self) {
        self.lock().whole = false;
    }

    /// For the leader, which has read so far for its own client: is there
    /// room for more? Lets go of what everybody has.
    pub fn has_room(&self, own: Option<u64>) -> bool {
        let mut window = self.lock();
        if window.whole {
            return true;
        }
        let end = window.base + window.bytes.len() as u64;
        let followers = window.followers.iter().flatten().copied();
        let slowest = followers.chain(own).min().unwrap_or(end);
        let passed = (slowest - window.base) as usize;
        Arc::make_mut(&mut window.bytes).drain(..passed);
        window.base = slowest;
        window.bytes.len() < PIECE
    }

    /// Waits a moment for a follower to read on.
    pub fn wait_for_followers(&self, limit: Duration) {
        drop(self.changed.wait_timeout(self.lock(), limit));
    }

    /// Breaks it off for the slowest, which holds up the others. True: that
    /// is the leader's own client, and the leader's to do.
    pub fn drop_slowest(&self, own: Option<u64>) -> bool {
        let mut window = self.lock();
        let slowest = window.followers.iter().flatten().min().copied();
        if own.is_some_and(|own| slowest.is_none_or(|other| own <= other)) {
            return true;
        }
        for follower in &mut window.followers {
            if *follower == slowest {
                *follower = None;
            }
        }
        self.changed.notify_all();
        false
    }

    /// Does anybody read what the leader gets?
    pub fn is_followed(&self) -> bool {
        self.lock().followers.iter().any(Option::is_some)
    }

    /// The body's end is there; answers the whole of it, if it still is.
    pub fn whole(&self, trailers: &[u8]) -> Option<Arc<Vec<u8>>> {
        let mut window = self.lock();
        window.trailers = trailers.to_vec();
        window.whole.then(|| window.bytes.clone())
    }

    /// The last stage stays: what ended does not end again.
    pub fn end(&self, stage: Stage) {
        let mut window = self.lock();
        if matches!(window.stage, Stage::Asking | Stage::Coming) {
            window.stage = stage;
        }
        self.changed.notify_all();
    }
}

impl Place {
    /// The answer's head, once it is there. `None`: it is no answer to these
    /// fields, or to nobody but the leader.
    pub fn answer(&self, fields: &Fields) -> Option<Arc<Stored>> {
        let mut window = self.fetch.lock();
        while window.stage == Stage::Asking {
            window = self.fetch.wait(window);
        }
        let shared = matches!(window.stage, Stage::Coming | Stage::Whole);
        let answer = window.answer.clone().filter(|_| shared);
        answer.filter(|answer| answer.matches(fields))
    }

    /// What comes next.
    pub fn next(&self) -> Piece {
        let mut window = self.fetch.lock();
        loop {
            let Some(position) = window.followers[self.number] else {
                return Piece::Broken;
            };
            let piece = window.piece(position);
            if !piece.is_empty() {
                let position = position + piece.len() as u64;
                window.followers[self.number] = Some(position);
                self.fetch.changed.notify_all();
                return Piece::Bytes(piece);
            }
            match window.stage {
                Stage::Whole => return Piece::End(window.trailers.clone()),
                Stage::Broken | Stage::Over => return Piece::Broken,
                Stage::Asking | Stage::Coming => {
                    window = self.fetch.wait(window);
                }
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.fetch.lock().followers[self.number] = None;
        self.fetch.changed.notify_all();
    }
}

impl Window {
    /// Some of what stands from a position on.
    fn piece(&self, position: u64) -> Vec<u8> {
        let from = (position - self.base) as usize;
        let to = (from + PIECE).min(self.bytes.len());
        self.bytes[from..to].to_vec()
    }
}
