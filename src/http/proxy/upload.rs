//! A request's body on its way to the origin, when it does not come at once:
//! in a thread of its own, so that the answer can come before its end.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use super::forward::{Answer, pass_on};
use super::origins::NoWay;
use super::relay::{Marked, PIECE, Sender};
use super::session::{Asked, Session};
use crate::connections::STACK;
use crate::error::{Error, is_timeout};
use crate::http::bad::Bad;
use crate::http::body::{Body, Framing};
use crate::http::date;
use crate::http::fields::Fields;
use crate::http::hop::trailers;
use crate::http::message::{Response, Version};
use crate::http::origin;
use crate::net;
use crate::wire::Wire;

/// How far a request's body has come on its way through.
#[derive(Default)]
pub struct Upload {
    /// The last octet was read from the client.
    pub all_read: AtomicBool,
    /// Octets so far.
    pub moved: AtomicU64,
    /// The rule that the client broke in it.
    pub fault: OnceLock<Bad>,
}

impl Session<'_> {
    /// Sends a request whose body is still coming: that passes through a
    /// thread of its own, so that an early answer is heard. `with` gets the
    /// answer; what it returns is the end of the request.
    pub fn ask_with_upload<T>(
        &mut self,
        asked: &Asked,
        head: &[u8],
        with: impl FnOnce(&mut Self, Result<Answer, NoWay>) -> T,
    ) -> T {
        let proxy = self.proxy;
        let trace = &proxy.trace;
        let upload = Arc::new(Upload::default());
        self.upload = Some(upload.clone());
        let inside = asked.inside;
        let wire = match proxy.origins.connect(&asked.url, inside, trace) {
            Ok(wire) => wire,
            Err(no_way) => return with(self, Err(no_way)),
        };
        // the thread gets the reader; here remains what answers
        let writer = Wire::new(self.wire.socket.clone(), None);
        let mut reader = std::mem::replace(&mut self.wire, writer);
        let (origin, number) = (wire.socket.clone(), asked.number);
        let (limit, now) = (proxy.limits.idle, date::now());
        let outcome = thread::scope(|scope| {
            let sent = origin::send(&wire, head, b"", trace, number);
            let to = origin.clone();
            let (framing, state) = (asked.framing, upload.clone());
            let reader = &mut reader;
            let fields = &asked.request.fields;
            let run =
                move || pass_upload(reader, framing, to, &state, limit, fields);
            let thread = thread::Builder::new().stack_size(STACK);
            let started = thread.spawn_scoped(scope, run);
            let answer = match (sent, started) {
                (Err(error), _) => Err(NoWay::Fault(error)),
                (_, Err(source)) => {
                    let doing = "start a thread".into();
                    Err(NoWay::Fault(Error::Io { doing, source }))
                }
                _ => {
                    let patience = proxy.origins.patience;
                    if !upload.wait_for(&origin, patience) {
                        return with(self, Err(silence(&origin)));
                    }
                    let to = |r: &Response| {
                        pass_on(asked, proxy, &self.wire, r);
                        upload.wait_for(&origin, patience);
                    };
                    let answer = proxy.await_answer(wire, asked, now, to);
                    answer.map_err(|e| NoWay::Fault(e.into()))
                }
            };
            let outcome = with(self, answer);
            // whoever still sends is told that nobody listens
            let _ = origin.shutdown(Shutdown::Both);
            outcome
        });
        self.wire = reader;
        outcome
    }
}

/// Passes a request's body on to the origin. A fault of the client's ends
/// the connection there, so that the origin never takes a part for the whole.
fn pass_upload(
    client: &mut Wire,
    framing: Framing,
    origin: Arc<TcpStream>,
    upload: &Upload,
    limit: Duration,
    fields: &Fields,
) {
    let marked = Marked::anew(framing, Version::Http11);
    let mut sender = Sender::new(origin.clone(), marked);
    let mut body = Body::new(client, framing);
    let mut piece = vec![0; PIECE];
    loop {
        if !body.is_more_here() {
            // an answer may have come already: then there is nobody to send to
            if sender.flush().is_err() {
                return;
            }
            match wait_for_client(&body.source().socket, &origin, limit) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    let bad = is_timeout(&error).then_some(Bad::TooSlow);
                    return give_up(upload, bad, &origin);
                }
            }
        }
        match body.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => {
                sender.put(&piece[..count]);
                upload.moved.fetch_add(count as u64, SeqCst);
            }
            Err(error) => {
                return give_up(upload, Bad::from_io(&error), &origin);
            }
        }
        upload.all_read.store(body.is_at_end(), SeqCst);
    }
    upload.all_read.store(true, SeqCst);
    sender.put_end(&trailers(&body.trailers, fields));
    let _ = sender.flush();
}

impl Upload {
    /// Waits for the origin to say something. The limit counts from the last
    /// that went up: a long upload is no silence. False: silence.
    fn wait_for(&self, origin: &TcpStream, limit: Duration) -> bool {
        loop {
            let before = self.moved.load(SeqCst);
            let fd = origin.as_raw_fd();
            let mut wait =
                [libc::pollfd { fd, events: libc::POLLIN, revents: 0 }];
            let silent = net::poll(&mut wait, limit).is_err();
            if !silent || self.moved.load(SeqCst) == before {
                return !silent;
            }
        }
    }
}

/// 504; and whoever still sends is told that nobody listens.
fn silence(origin: &TcpStream) -> NoWay {
    let _ = origin.shutdown(Shutdown::Both);
    let source = io::ErrorKind::TimedOut.into();
    NoWay::Fault(Error::Io { doing: "read the response".into(), source })
}

fn give_up(upload: &Upload, bad: Option<Bad>, origin: &TcpStream) {
    if let Some(bad) = bad {
        let _ = upload.fault.set(bad);
    }
    let _ = origin.shutdown(Shutdown::Both);
}

/// False: the origin's side was closed meanwhile.
fn wait_for_client(
    client: &TcpStream,
    origin: &TcpStream,
    limit: Duration,
) -> io::Result<bool> {
    let wait = |socket: &TcpStream, events| libc::pollfd {
        fd: socket.as_raw_fd(),
        events,
        revents: 0,
    };
    let mut waits = [wait(client, libc::POLLIN), wait(origin, 0)];
    net::poll(&mut waits, limit)?;
    Ok(waits[1].revents == 0)
}
