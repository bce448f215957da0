//! `tcp-client`: the upper-case client over TCP. KR 2.7.2
//!
//! The book's application in four steps: (1) the client reads a line from
//! its keyboard and sends it to the server, (2) the server converts it to
//! upper case and (3) sends it back, (4) the client receives and displays
//! it. Here are (1) and (4), as in the book's `TCPClient.py`.
//!
//! ```text
//! $ topdown tcp-client localhost
//! Input lowercase sentence: hello
//! From Server: HELLO
//! ```
//!
//! (1) and (4) are two threads: a line may be megabytes long, and a client
//! that sent all of it before it read would stop a server that answers as it
//! reads, and with it itself. After each line the first waits for the
//! second, as the book's client does. At the end of input our half of the
//! connection is closed, and the rest is read: KR 3.5.6.
//!
//! Not here: messages. The stream has no borders but those that the
//! application sets; these two set it at the end of a line.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::PIECE;
use crate::Tool;
use crate::args::{self, Args};
use crate::error::{Doing, Error, Outcome, is_gone, is_timeout};
use crate::input::Input;
use crate::net::{self, Family};
use crate::output::{Output, say};
use crate::trace::{Party, Trace};
use crate::udp::PORT;

pub static TOOL: Tool = Tool {
    name: "tcp-client",
    section: "KR 2.7.2",
    summary: "send lines over a connection, print what comes back",
    help: "\
usage: topdown tcp-client [-46ev] [-W SECONDS] [--local-port PORT]
                          [--diagram FILE.svg] HOST [PORT]

Opens a TCP connection to HOST, sends the lines of standard input and prints
the answers. PORT is 12000 by default.

  -W, --timeout SECONDS     wait that long to connect, and for each answer
                            before the next line is sent (default: 5)
      --local-port PORT     our own port (default: any free one)
  -4, --ipv4                IPv4 only
  -6, --ipv6                IPv6 only
  -v, --verbose             print sockets and dialogue on standard error
  -e, --explain             the same, each with its reason
      --diagram FILE.svg    draw the run as a space-time diagram
  -h, --help                print this
",
    run,
};

fn run(mut args: Args) -> Result<Outcome, Error> {
    let timeout = args.value("--timeout", args::seconds)?;
    let local_port = args.value("--local-port", net::port)?.unwrap_or(0);
    let family = Family::from_args(&mut args)?;
    let trace = Trace::from_args(&mut args, Party::Client)?;
    let host = args.operand("HOST")?;
    let port = args.optional_operand().unwrap_or_else(|| PORT.to_string());
    let port = net::port(&port).map_err(Error::Usage)?;
    args.finish()?;
    let timeout = timeout.unwrap_or(Duration::from_secs(5));

    // socket, connect: the three-way handshake of KR 3.5.6
    let servers = net::resolve(&host, port, family, timeout)?;
    trace.message(Party::Client, || "SYN: connection request".into());
    let client_socket = net::connect(&servers, local_port, timeout)?;
    trace.message(Party::Server, || "SYN, ACK: connection granted".into());
    let doing = || "prepare the socket";
    client_socket.set_nodelay(true).doing(doing)?;
    client_socket.set_read_timeout(Some(timeout)).doing(doing)?;
    client_socket.set_write_timeout(Some(timeout)).doing(doing)?;
    let ends = (client_socket.local_addr(), client_socket.peer_addr());
    if let (Ok(local), Ok(peer)) = ends {
        trace.fact(|| format!("client socket {local} with {peer} (KR 3.2)"));
    }

    let progress = Arc::new(Progress::default());
    let receiver = {
        let socket = client_socket.try_clone().doing(doing)?;
        let (progress, trace) = (progress.clone(), trace.clone());
        let receive = move || receive(socket, &progress, &trace);
        thread::Builder::new().spawn(receive).doing(doing)?
    };
    let sent = send(&client_socket, &progress, timeout, &trace)?;
    // half-close: we have sent all, and read on
    progress.update(|state| state.half_closed = true);
    let _ = client_socket.shutdown(Shutdown::Write);
    match receiver.join() {
        Ok(received) => received?,
        Err(_) => return Err(Error::protocol("receive", "a bug of ours")),
    }
    trace.finish("tcp-client")?;
    // close: the sockets go with this function
    if sent <= progress.lock().lines {
        return Ok(Outcome::Yes);
    }
    say(
        "topdown tcp-client: the server closed the connection before all lines \
         were answered (the book's server answers once: KR 2.7.2)",
    );
    Ok(Outcome::No)
}

/// How far the receiver is, for the sender to wait for.
#[derive(Default)]
struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Lines of answers so far.
    lines: u64,
    /// By us, after the end of input.
    half_closed: bool,
    /// By the server.
    closed: bool,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits for so many lines of answers, or for the server's close.
    fn wait_for(&self, lines: u64, limit: Duration) {
        let waiting = |s: &mut State| s.lines < lines && !s.closed;
        let _ = self.changed.wait_timeout_while(self.lock(), limit, waiting);
    }
}

/// (1) Reads lines from the keyboard and sends them; answers how many there
/// were.
fn send(
    mut client_socket: &TcpStream,
    progress: &Progress,
    timeout: Duration,
    trace: &Trace,
) -> Result<u64, Error> {
    let mut input = Input::new(PIECE);
    let mut lines = 0;
    while let Some(sentence) = input.piece()? {
        let ends_line = sentence.ends_with(b"\n");
        if ends_line {
            lines += 1;
        }
        if progress.lock().closed {
            return Ok(lines.max(1));
        }
        trace.text(Party::Client, &sentence, || {
            format!("{} bytes into the stream. KR 2.7.2", sentence.len())
        });
        match client_socket.write_all(&sentence) {
            Ok(()) => {}
            // the receiver will see the end, too
            Err(e) if is_gone(&e) => return Ok(lines.max(1)),
            Err(error) => return Err(error).doing(|| "send"),
        }
        if ends_line {
            progress.wait_for(lines, timeout);
        }
    }
    Ok(lines)
}

/// (4) Receives, and displays line by line, however the stream was cut.
fn receive(
    client_socket: TcpStream,
    progress: &Progress,
    trace: &Trace,
) -> Result<(), Error> {
    let received = display(client_socket, progress, trace);
    progress.update(|state| state.closed = true);
    received
}

fn display(
    mut client_socket: TcpStream,
    progress: &Progress,
    trace: &Trace,
) -> Result<(), Error> {
    let mut output = Output::new();
    let mut buffer = vec![0; PIECE];
    let mut at_line_start = true;
    loop {
        let length = match client_socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            // silence is a fault only once all was sent
            Err(e) if is_timeout(&e) && !progress.lock().half_closed => {
                continue;
            }
            // it closed with something of ours unread: an end all the same
            Err(e) if e.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error).doing(|| "receive"),
        };
        let modified_sentence = &buffer[..length];
        trace.text(Party::Server, modified_sentence, || {
            format!("{length} bytes out of the stream. KR 2.7.2")
        });
        for piece in modified_sentence.split_inclusive(|b| *b == b'\n') {
            if at_line_start {
                output.write(b"From Server: ")?;
            }
            output.write(piece)?;
            at_line_start = piece.ends_with(b"\n");
            if at_line_start {
                progress.update(|state| state.lines += 1);
            }
        }
    }
    if !at_line_start {
        output.write(b"\n")?;
        progress.update(|state| state.lines += 1);
    }
    Ok(())
}
