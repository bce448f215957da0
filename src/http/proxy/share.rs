//! The leader of a fetch: it reads the body once, for the store, for its own
//! client and for all that follow; and each goes at its own pace.

use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Proxy;
use super::collapse::{Fetch, Stage};
use super::relay::{PIECE, Sender};
use super::session::Asked;
use crate::error::is_timeout;
use crate::http::body::Body;
use crate::http::cache::store::Store;
use crate::http::cache::stored::{Content, Stored};
use crate::http::cache::why::WhyNot;
use crate::http::fields::Fields;
use crate::http::hop::trailers;
use crate::net;
use crate::wire::Wire;

/// A look at the followers, when nothing else can be done.
const MOMENT: Duration = Duration::from_millis(100);

/// So long may one who reads hold up the others.
const PACE: Duration = Duration::from_secs(2);

/// Room that is asked for at a time, while the length is unknown.
const STEP: u64 = 64 * 1024;

/// What was reserved of the cache, until it is given back.
struct Room<'a> {
    store: &'a Store,
    reserved: u64,
    /// So much is asked for at a time.
    step: u64,
    /// What has come.
    length: u64,
    /// Is there room so far?
    kept: Result<(), WhyNot>,
}

impl Room<'_> {
    /// For an object of so many octets, so far.
    fn has(&mut self, length: u64) -> Result<(), WhyNot> {
        if length > self.store.greatest() {
            return Err(WhyNot::TooLarge);
        }
        if length > self.reserved {
            let most = self.store.greatest() - self.reserved;
            let more = (length - self.reserved).max(self.step).min(most);
            if !self.store.reserve(more) {
                return Err(WhyNot::NoRoom);
            }
            self.reserved += more;
        }
        Ok(())
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.store.release(self.reserved);
    }
}

/// How a fetch that came to its end fared.
pub struct Shared {
    /// Was it stored?
    pub kept: Result<(), WhyNot>,
    /// The client has all of it.
    pub delivered: bool,
}

impl Proxy {
    /// Reads the body to its end, into the fetch and to the client; then
    /// stores it. An error says that the body did not come to its end. A
    /// client that leaves ends a fetch that nobody else waits for, unless it
    /// is for the store's sake.
    pub fn share(
        &self,
        asked: &Asked,
        fields: &Fields,
        stored: Stored,
        fetch: &Fetch,
        body: &mut Body<Wire>,
        mut client: Option<&mut Sender>,
    ) -> io::Result<Shared> {
        let Some(store) = &self.store else {
            return Err(ErrorKind::Unsupported.into());
        };
        let for_store = client.is_none();
        let step = if stored.length.is_some() { 0 } else { STEP };
        let mut room =
            Room { store, reserved: 0, step, length: 0, kept: Ok(()) };
        room.kept = room.has(stored.length.unwrap_or(0));
        fetch.begin(Arc::new(stored.clone()));
        let mut own = client.as_deref().map(|_| 0);
        let to = client.as_deref_mut();
        let read =
            self.read_all(&mut room, fetch, body, to, &mut own, for_store);
        if let Err(error) = read {
            fetch.end(Stage::Broken);
            return Err(error);
        }
        let trailers = trailers(&body.trailers, fields);
        let whole = fetch.whole(&trailers);
        let kept = room.kept.and_then(|()| {
            let bytes = whole.ok_or(WhyNot::TooLarge)?;
            let length = Some(bytes.len() as u64);
            let content = Content::Memory(bytes);
            store.keep(Stored { length, content, ..stored }, asked.stamp)
        });
        fetch.end(Stage::Whole);
        let delivered = match (client, own) {
            (Some(client), Some(position)) => {
                finish(client, fetch, position, &trailers).is_ok()
            }
            _ => false,
        };
        Ok(Shared { kept, delivered })
    }

    /// The loop of `share`. `own` is how far the own client has read; `None`: it
    /// has gone. `room` knows in the end whether all of it can be stored.
    fn read_all(
        &self,
        room: &mut Room,
        fetch: &Fetch,
        body: &mut Body<Wire>,
        mut client: Option<&mut Sender>,
        own: &mut Option<u64>,
        for_store: bool,
    ) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        let mut full = None;
        loop {
            if room.kept.is_err() {
                fetch.let_go();
            }
            // what is there already leaves together
            let must_feed = !body.is_more_here() || body.is_at_end();
            if (must_feed || !fetch.has_room(*own))
                && !feed(client.as_deref_mut(), fetch, own)
            {
                *own = None;
            }
            if body.is_at_end() {
                return Ok(());
            }
            if own.is_none() && !for_store && !fetch.is_followed() {
                return Err(ErrorKind::BrokenPipe.into());
            }
            let to = client.as_deref().filter(|_| own.is_some());
            let pending = to.is_some_and(|client| !client.is_empty());
            let has_room = fetch.has_room(*own);
            let since = *full.get_or_insert_with(Instant::now);
            if has_room {
                full = None;
            } else if since.elapsed() > PACE && fetch.is_followed() {
                // who takes so long goes, and sees that it was cut
                if fetch.drop_slowest(*own) {
                    *own = None;
                }
                full = None;
                continue;
            } else if !pending {
                fetch.wait_for_followers(MOMENT);
                continue;
            }
            let socket = to.map(|client| &*client.socket);
            match self.wait(body, has_room, socket, pending)? {
                Ready::Client => {}
                Ready::ClientGone => *own = None,
                Ready::Origin => {
                    let count = body.read(&mut piece).inspect_err(|_| {
                        // what came is passed on all the same, if the answer
                        // has begun
                        if client.as_deref().is_some_and(|c| c.begun) {
                            feed(client.as_deref_mut(), fetch, own);
                        }
                    })?;
                    room.length += count as u64;
                    let length = room.length;
                    room.kept = room.kept.and_then(|()| room.has(length));
                    fetch.push(&piece[..count]);
                }
            }
        }
    }

    /// Waits for the origin to say more, or the client to take more.
    fn wait(
        &self,
        body: &Body<Wire>,
        has_room: bool,
        client: Option<&TcpStream>,
        pending: bool,
    ) -> io::Result<Ready> {
        if has_room && body.is_more_here() {
            return Ok(Ready::Origin);
        }
        let fd = |socket: &TcpStream| socket.as_raw_fd();
        let mut waits = [
            libc::pollfd {
                fd: if has_room { fd(&body.source().socket) } else { -1 },
                events: libc::POLLIN,
                revents: 0,
            },
            libc::pollfd {
                fd: client.map_or(-1, fd),
                events: if pending { libc::POLLOUT } else { 0 },
                revents: 0,
            },
        ];
        let limit = match has_room {
            true => self.origins.patience,
            false => PACE.min(self.limits.send),
        };
        match net::poll(&mut waits, limit) {
            // the kernel ends a connection that takes nothing at all
            Err(e) if is_timeout(&e) && !has_room => Ok(Ready::Client),
            Err(error) => Err(error),
            Ok(()) if waits[0].revents != 0 => Ok(Ready::Origin),
            Ok(()) if waits[1].revents == libc::POLLOUT => Ok(Ready::Client),
            Ok(()) => Ok(Ready::ClientGone),
        }
    }
}

/// The rest, at the client's own pace.
fn finish(
    client: &mut Sender,
    fetch: &Fetch,
    mut position: u64,
    trailers: &[u8],
) -> io::Result<()> {
    loop {
        let piece = fetch.piece(position);
        position += piece.len() as u64;
        client.put(&piece);
        if piece.is_empty() {
            client.put_end(trailers);
            return client.flush();
        }
        client.flush()?;
    }
}

enum Ready {
    Origin,
    Client,
    ClientGone,
}

/// Gives the client what it takes at once. False: it has gone.
fn feed(
    client: Option<&mut Sender>,
    fetch: &Fetch,
    own: &mut Option<u64>,
) -> bool {
    let (Some(client), Some(position)) = (client, own) else { return false };
    loop {
        let piece = match client.waiting() < PIECE {
            true => fetch.piece(*position),
            false => Vec::new(),
        };
        *position += piece.len() as u64;
        client.put(&piece);
        if client.flush_some().is_err() {
            return false;
        }
        if piece.is_empty() || !client.is_empty() {
            return true;
        }
    }
}
