//! The connections that a server holds: a thread for each, a bound on their
//! number, and an end that loses nothing.
//!
//! A graceful stop (SIGINT or SIGTERM) has to wake threads that wait in
//! `accept` or `read`, without a poll interval. Two facts of Linux do it:
//! `shutdown` on a welcoming socket makes every `accept` on it return, and
//! on a connection socket it makes `read` return 0. So the list below knows
//! each connection's socket and whether it is idle: idle ones are shut down,
//! the others finish what they are at.
//!
//! Read `Connections::accept` and `enter` first (the book's loop in
//! `tcp/server.rs` uses just these), then `serve_all`.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::{Doing, Error, reason};
use crate::net;
use crate::output::say;
use crate::signal;

/// Connections at once, unless `--max-connections` says otherwise.
pub const MAX_CONNECTIONS: usize = 4096;

/// A thread's stack: what OpenSSL's handshake may take. Only pages that are
/// used cost memory, and without TLS that is a few.
pub const STACK: usize = 256 * 1024;

/// Descriptors kept back from connections: files, standard streams.
const SPARE_DESCRIPTORS: usize = 32;

/// Wait after an accept that failed for want of descriptors or memory.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Threads that wait in `accept` at a time when nothing goes on: a few, so
/// that under load a connection goes to a thread that is awake.
const WAITING_THREADS: usize = 4;

/// Threads beyond the bound that may be busy saying "503".
const REFUSING_THREADS: usize = 64;

/// All connections of one server.
pub struct Connections {
    limit: usize,
    stopping: AtomicBool,
    open: Mutex<Open>,
    changed: Condvar,
    waiting: AtomicUsize,
    refusing: AtomicUsize,
}

#[derive(Default)]
struct Open {
    /// A slot for each connection: its socket, and whether it is idle.
    slots: Vec<Option<(Arc<TcpStream>, Arc<AtomicBool>)>>,
    free: Vec<usize>,
    accepted: u64,
}

/// One connection. Its place becomes free when it is dropped.
pub struct Connection {
    pub socket: Arc<TcpStream>,
    pub client: SocketAddr,
    /// Counts from 1, to tell conversations apart.
    pub number: u64,
    idle: Arc<AtomicBool>,
    slot: usize,
    connections: Arc<Connections>,
}

impl Connections {
    /// Raises the descriptor limit, and makes SIGINT and SIGTERM stop the
    /// server. To be called before any other thread is started.
    /// Each connection takes `each` descriptors at most.
    pub fn new(
        limit: usize,
        each: usize,
        server_socket: &TcpListener,
    ) -> Result<Arc<Connections>, Error> {
        let descriptors = net::raise_descriptor_limit();
        let connections = Arc::new(Connections {
            limit: limit
                .min(descriptors.saturating_sub(SPARE_DESCRIPTORS) / each),
            stopping: AtomicBool::new(false),
            open: Mutex::default(),
            changed: Condvar::new(),
            waiting: AtomicUsize::new(0),
            refusing: AtomicUsize::new(0),
        });
        let stopped = connections.clone();
        let server_socket =
            server_socket.try_clone().doing(|| "copy the socket")?;
        signal::on_stop(move || stopped.stop(&server_socket))?;
        Ok(connections)
    }

    /// The next connection, as the book's `accept()`; `None` once the server
    /// is to stop. No fault of a single connection ends the server.
    pub fn accept(
        &self,
        server_socket: &TcpListener,
    ) -> Option<(TcpStream, SocketAddr)> {
        let mut told = false;
        while !self.is_stopping() {
            match server_socket.accept() {
                Ok(accepted) => return Some(accepted),
                Err(e) if is_passing(&e) => {}
                Err(_) if self.is_stopping() => {}
                Err(error) => {
                    if !told {
                        say(format!("topdown: accept: {}", reason(&error)));
                        told = true;
                    }
                    thread::sleep(ACCEPT_BACKOFF);
                }
            }
        }
        None
    }

    /// Gives a connection its place. The socket comes back when all places
    /// are taken.
    pub fn enter(
        self: &Arc<Self>,
        socket: TcpStream,
        client: SocketAddr,
    ) -> Result<Connection, TcpStream> {
        let mut open = self.lock();
        if open.slots.len() - open.free.len() >= self.limit {
            return Err(socket);
        }
        let slot = open.free.pop().unwrap_or(open.slots.len());
        if slot == open.slots.len() {
            open.slots.push(None);
        }
        let idle = Arc::new(AtomicBool::new(false));
        let socket = Arc::new(socket);
        open.slots[slot] = Some((socket.clone(), idle.clone()));
        open.accepted += 1;
        let number = open.accepted;
        let connections = self.clone();
        Ok(Connection { socket, client, number, idle, slot, connections })
    }

    /// Serves one connection after the other: the rest wait in the kernel's
    /// queue. `serve` says whether there was anything to serve; with `once`
    /// the first time ends it.
    pub fn serve_in_turn(
        self: &Arc<Self>,
        server_socket: &TcpListener,
        once: bool,
        serve: impl Fn(Connection) -> bool,
    ) {
        while let Some((socket, client)) = self.accept(server_socket) {
            let entered = self.enter(socket, client).ok();
            let served = entered.and_then(|c| contain(|| serve(c)));
            if once && served == Some(true) {
                break;
            }
        }
    }

    /// Serves every connection in a thread of its own until the stop.
    ///
    /// Each thread accepts for itself and sees to it that another waits at
    /// the door meanwhile; when its connection ends it goes back there, or
    /// away if enough are waiting. So a short connection costs no thread's
    /// creation.
    pub fn serve_all(
        self: &Arc<Self>,
        server_socket: Arc<TcpListener>,
        serve: impl Fn(Connection) + Send + Sync + 'static,
        refuse: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let work = Arc::new(Work { server_socket, serve, refuse });
        self.wait_at_the_door(&work).doing(|| "start a thread")?;
        self.drain();
        Ok(())
    }

    /// Starts one more thread that waits in `accept`.
    fn wait_at_the_door<S, R>(
        self: &Arc<Self>,
        work: &Arc<Work<S, R>>,
    ) -> io::Result<()>
    where
        S: Fn(Connection) + Send + Sync + 'static,
        R: Fn(TcpStream) + Send + Sync + 'static,
    {
        let connections = self.clone();
        let work = work.clone();
        self.waiting.fetch_add(1, SeqCst);
        let run = move || connections.take_turns(&work);
        let started = thread::Builder::new().stack_size(STACK).spawn(run);
        if started.is_err() {
            self.waiting.fetch_sub(1, SeqCst);
        }
        started.map(|_| ())
    }

    /// A thread's life: accept, serve, accept, …
    fn take_turns<S, R>(self: &Arc<Self>, work: &Arc<Work<S, R>>)
    where
        S: Fn(Connection) + Send + Sync + 'static,
        R: Fn(TcpStream) + Send + Sync + 'static,
    {
        while let Some((socket, client)) = self.accept(&work.server_socket) {
            if self.waiting.fetch_sub(1, SeqCst) == 1 {
                // Without a thread this one is served, then we are back.
                if let Err(error) = self.wait_at_the_door(work) {
                    let why = reason(&error);
                    say(format!("topdown: start a thread: {why}"));
                }
            }
            match self.enter(socket, client) {
                Ok(connection) => drop(contain(|| (work.serve)(connection))),
                Err(socket) => self.turn_away(work, socket),
            }
            let before = self.waiting.fetch_add(1, SeqCst);
            if before >= WAITING_THREADS {
                break;
            }
        }
        self.waiting.fetch_sub(1, SeqCst);
    }

    /// Says no, unless even those who say no are too many.
    fn turn_away<S, R: Fn(TcpStream)>(
        &self,
        work: &Work<S, R>,
        socket: TcpStream,
    ) {
        if self.refusing.fetch_add(1, SeqCst) < REFUSING_THREADS {
            contain(|| (work.refuse)(socket));
        }
        self.refusing.fetch_sub(1, SeqCst);
    }

    /// From the signal: nobody new, and the idle ones go.
    fn stop(&self, server_socket: &TcpListener) {
        let open = self.lock();
        self.stopping.store(true, SeqCst);
        stop_receiving(server_socket);
        for (socket, idle) in open.slots.iter().flatten() {
            if idle.load(SeqCst) {
                stop_receiving(socket.as_ref());
            }
        }
        self.changed.notify_all();
    }

    /// Waits for the stop, and then for the connections; `signal` sees to it
    /// that this does not take for ever.
    pub fn drain(&self) {
        let mut open = self.lock();
        while !self.is_stopping() || open.slots.len() > open.free.len() {
            open = unpoisoned(self.changed.wait(open));
        }
    }

    /// Has a signal come?
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        unpoisoned(self.open.lock())
    }
}

/// What `serve_all` does with those who come.
struct Work<S, R> {
    server_socket: Arc<TcpListener>,
    serve: S,
    refuse: R,
}

impl Connection {
    /// Marks the connection as idle, that is, a stop may end it here and
    /// now. False: the stop has come, do not wait for more.
    pub fn set_idle(&self, idle: bool) -> bool {
        self.idle.store(idle, SeqCst);
        !self.is_stopping()
    }

    /// Has the server been stopped?
    pub fn is_stopping(&self) -> bool {
        self.connections.is_stopping()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.slots[self.slot] = None;
        open.free.push(self.slot);
        if self.connections.is_stopping() {
            self.connections.changed.notify_all();
        }
    }
}

/// Runs one connection's work so that a bug in it ends it alone: `None`, and
/// the hook has printed the panic, and the Connection was dropped.
pub fn contain<T>(work: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).ok()
}

/// Faults of accept that concern one connection, or nobody.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
            | ErrorKind::WouldBlock
    )
}

/// Ends the receiving side of a socket: threads that wait in accept or read
/// on it return.
fn stop_receiving(socket: &impl AsRawFd) {
    // SAFETY: an open descriptor and a number. A socket that its peer has
    // left is an error, and needs no waking.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RD) };
}

/// No state behind our locks is ever left half changed by a panic.
fn unpoisoned<T>(result: Result<T, PoisonError<T>>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_ends_its_connection_alone() {
        let server_socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let connections = Connections::new(1, 1, &server_socket).unwrap();
        let address = server_socket.local_addr().unwrap();
        for _ in 0..3 {
            let _client = TcpStream::connect(address).unwrap();
            let (socket, client) = connections.accept(&server_socket).unwrap();
            let entered = connections.enter(socket, client);
            let connection = entered.expect("the place is free again");
            let outcome = contain(|| {
                assert_eq!(connection.client.port(), 0, "a bug");
                drop(connection);
            });
            assert_eq!(outcome, None);
        }
    }
}
