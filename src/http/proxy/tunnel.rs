//! CONNECT: a tunnel through the proxy, for what it does not look into (TLS,
//! that is https). RFC 9110 §9.3.6
//!
//! One thread moves what comes, both ways, by splice(2): the bytes stay in
//! the kernel. An idle tunnel holds no pipe and no buffer.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::answer::explain_no_way;
use super::counts::{Dealt, Whence};
use super::relay::Pipe;
use super::session::{Next, Session};
use crate::error::is_timeout;
use crate::http::body::Framing;
use crate::http::explain;
use crate::http::url::Url;
use crate::net;
use crate::trace::Party;
use crate::wire::Wire;

/// After so long without a byte the pipes are given back.
const QUIET: Duration = Duration::from_secs(1);

impl Session<'_> {
    /// Opens the tunnel and serves it to its end.
    pub fn tunnel(&mut self, url: &Url, dealt: &mut Dealt) -> Next {
        let proxy = self.proxy;
        dealt.uri = Some(format!("{}:{}", url.host, url.port).into());
        // refused, the connection ends: what follows may be no request
        let no_body = Framing::ToClose;
        if !proxy.access.may_connect(url.port) {
            let text = "Tunnels do not go to this port: see --connect-port.";
            return self.say(403, text, no_body, dealt);
        }
        let started = Instant::now();
        let inside = self.inside;
        let origin = match proxy.origins.connect(url, inside, &proxy.trace) {
            Ok(wire) => wire,
            Err(no_way) => {
                let authority = format!("{}:{}", url.host, url.port);
                let (status, text) = explain_no_way(&authority, &no_way);
                return self.say(status, &text, no_body, dealt);
            }
        };
        dealt.delay = started.elapsed();
        (dealt.status, dealt.from) = (200, Whence::Tunnel);
        let head = b"HTTP/1.1 200 Connection established\r\n\r\n";
        let number = self.connection.number;
        explain::head(&proxy.trace, Party::AsServer, number, head, 0);
        // a stop ends it in its first quiet second
        self.connection.set_idle(true);
        let opened = self.wire.send(head, b"");
        let moved = opened.and_then(|()| self.pass(&origin));
        let (up, down) = moved.unwrap_or_default();
        dealt.sent = down;
        proxy.trace.fact(|| {
            format!("the tunnel ends: {up} octets up, {down} octets down")
        });
        self.done(dealt);
        Next::Close
    }

    /// Moves bytes both ways until both ends are done, or it is idle for too
    /// long. What came with the CONNECT goes first.
    fn pass(&mut self, origin: &Wire) -> io::Result<(u64, u64)> {
        let early = self.wire.buffered();
        let length = early.len() as u64;
        origin.send(early, b"")?;
        let (client, origin) = (&*self.wire.socket, &*origin.socket);
        client.set_nonblocking(true)?;
        origin.set_nonblocking(true)?;
        let mut up = Direction::new(client, origin);
        let mut down = Direction::new(origin, client);
        let mut last = Instant::now();
        while !(up.ended && down.ended) {
            let idle = self.proxy.limits.idle;
            let mut waits = [
                wait_for(client, up.wants_in(), down.wants_out()),
                wait_for(origin, down.wants_in(), up.wants_out()),
            ];
            match net::poll(&mut waits, QUIET.min(idle)) {
                Ok(()) => last = Instant::now(),
                Err(_) if self.connection.is_stopping() => break,
                Err(e) if is_timeout(&e) && last.elapsed() < idle => {
                    up.rest();
                    down.rest();
                    continue;
                }
                Err(_) => break, // idle for too long
            }
            // who cannot be read any longer cannot be written to, either
            if up.step().is_err() || down.step().is_err() {
                let _ = net::reset_at_close(client);
                let _ = net::reset_at_close(origin);
                break;
            }
        }
        Ok((up.moved + length, down.moved))
    }
}

fn wait_for(socket: &TcpStream, input: bool, output: bool) -> libc::pollfd {
    let input = if input { libc::POLLIN } else { 0 };
    let output = if output { libc::POLLOUT } else { 0 };
    let events = input | output;
    // poll(2) leaves a negative one out: no news of its end is wanted now
    let fd = if events == 0 { -1 } else { socket.as_raw_fd() };
    libc::pollfd { fd, events, revents: 0 }
}

/// One way of a tunnel.
struct Direction<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    pipe: Option<Pipe>,
    moved: u64,
    ended: bool,
}

impl<'a> Direction<'a> {
    fn new(from: &'a TcpStream, to: &'a TcpStream) -> Direction<'a> {
        Direction { from, to, pipe: None, moved: 0, ended: false }
    }

    fn held(&self) -> usize {
        self.pipe.as_ref().map_or(0, |pipe| pipe.held)
    }

    fn wants_in(&self) -> bool {
        !self.ended && self.held() == 0
    }

    fn wants_out(&self) -> bool {
        self.held() > 0
    }

    /// Moves what can be moved at once. The end of one way is passed on, and
    /// the other way goes on: half-close (KR 3.5.6). So it does when one side
    /// takes no more: it may have said something before. An error is that
    /// one side is gone.
    fn step(&mut self) -> io::Result<()> {
        if self.ended {
            return Ok(());
        }
        let pipe = match &mut self.pipe {
            Some(pipe) => pipe,
            empty => empty.insert(Pipe::new()?),
        };
        let flags = libc::SPLICE_F_NONBLOCK;
        let would_block = |result: io::Result<usize>| match result {
            Err(e) if is_timeout(&e) => Ok(None),
            other => other.map(Some),
        };
        if pipe.held == 0 {
            match would_block(pipe.fill(self.from, usize::MAX, flags))? {
                None => return Ok(()),
                Some(0) => {
                    self.ended = true;
                    self.pipe = None;
                    let _ = self.to.shutdown(Shutdown::Write);
                    return Ok(());
                }
                Some(count) => self.moved += count as u64,
            }
        }
        match pipe.drain(self.to, flags) {
            Err(e) if !is_timeout(&e) => {
                self.ended = true;
                self.pipe = None;
            }
            _ => {}
        }
        Ok(())
    }

    /// Gives the pipe back.
    fn rest(&mut self) {
        if self.held() == 0 {
            self.pipe = None;
        }
    }
}
