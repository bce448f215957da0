//! `tcp-server`: the upper-case server over TCP. KR 2.7.2
//!
//! The book's application in four steps: (1) the client reads a line from
//! its keyboard and sends it to the server, (2) the server receives the data
//! and converts the characters to upper case, (3) it sends the modified data
//! to the client, (4) the client receives and displays it. Here are (2) and
//! (3), as in the book's `TCPServer.py`, but for each client a thread, and to
//! the end of what it sends; the book's server answers once and closes.
//!
//! ```text
//! $ topdown tcp-server -v
//! topdown tcp-server: listening on 127.0.0.1:12000
//! -- welcoming socket 127.0.0.1:12000: it only accepts (KR 2.7.2)
//! -- #1 connection socket 127.0.0.1:12000 with 127.0.0.1:40152
//! C: hello\n
//! S: HELLO\n
//! ```
//!
//! Not here: lines. TCP carries a stream of bytes, and two sends may arrive
//! as one read; this server answers what it has at once.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread;
use std::time::Duration;

use super::PIECE;
use crate::Tool;
use crate::args::{self, Args};
use crate::connections::{Connection, Connections, MAX_CONNECTIONS, STACK};
use crate::error::{Doing, Error, Outcome, reason};
use crate::net;
use crate::output::say;
use crate::trace::{Party, Trace};
use crate::upper_case::{PORT, UpperCase};

pub static TOOL: Tool = Tool {
    name: "tcp-server",
    section: "KR 2.7.2",
    summary: "answer each client's bytes with the same in upper case",
    help: "\
usage: topdown tcp-server [-ev] [-l [ADDR:]PORT] [--once] [--idle SECONDS]
                          [--max-connections N] [--diagram FILE.svg]

Sends back what TCP clients send, in upper case, a thread for each client.

  -l, --listen [ADDR:]PORT  where to listen (default: 127.0.0.1:12000)
      --once                serve one connection, then exit
      --max-connections N   turn more away (default: 4096)
      --idle SECONDS        end a connection idle for so long (default: 300)
  -v, --verbose             print sockets and dialogue on standard error
  -e, --explain             the same, each with its reason
      --diagram FILE.svg    draw the run as a space-time diagram
  -h, --help                print this
",
    run,
};

/// A client that does not read what we send is not waited for longer.
const SEND_LIMIT: Duration = Duration::from_secs(30);

fn run(mut args: Args) -> Result<Outcome, Error> {
    let listen = args.value("--listen", net::listen_address)?;
    let limit = args::number("connections", 1..=1_000_000);
    let limit = args.value("--max-connections", limit)?;
    let idle = args.value("--idle", args::seconds)?;
    let trace = Trace::from_args(&mut args, Party::Server)?;
    let once = args.flag("--once");
    args.finish()?;
    let address = listen.unwrap_or(([127, 0, 0, 1], PORT).into());
    let idle = idle.unwrap_or(Duration::from_secs(300));

    // socket, bind, listen: the welcoming socket
    let server_socket = net::listen(address)?;
    prepare(&server_socket, idle).doing(|| "prepare the socket")?;
    let address = server_socket.local_addr().doing(|| "listen")?;
    let limit = limit.unwrap_or(MAX_CONNECTIONS);
    let connections = Connections::new(limit, 1, &server_socket)?;
    say(format!("topdown tcp-server: listening on {address}"));
    trace.fact(|| {
        format!("welcoming socket {address}: it only accepts (KR 2.7.2)")
    });

    // accept: a new socket for each client, until a signal stops the server
    while let Some((connection_socket, client)) =
        connections.accept(&server_socket)
    {
        let Ok(connection) = connections.enter(connection_socket, client)
        else {
            say(format!("topdown tcp-server: {client}: too many connections"));
            continue; // close: the socket was dropped
        };
        let number = connection.number;
        trace.fact(|| {
            format!("#{number} connection socket {address} with {client}")
        });
        trace.why(|| {
            "the same port as the welcoming socket's: the kernel tells \
             connections apart by all four, both addresses and both ports. \
             KR 3.2"
                .into()
        });
        if once {
            serve(connection, &trace);
            return Ok(Outcome::Yes);
        }
        let thread_trace = trace.clone();
        let work = move || serve(connection, &thread_trace);
        let started = thread::Builder::new().stack_size(STACK).spawn(work);
        if let Err(error) = started {
            say(format!("topdown tcp-server: thread: {}", reason(&error)));
        }
    }
    connections.drain(); // what is in flight
    Ok(Outcome::Yes)
}

/// Connection sockets inherit these from the welcoming socket (on Linux).
fn prepare(server_socket: &TcpListener, idle: Duration) -> std::io::Result<()> {
    // small answers leave at once: no waiting for more to send (Nagle)
    let (tcp, nodelay) = (libc::IPPROTO_TCP, libc::TCP_NODELAY);
    net::set_option(server_socket, tcp, nodelay, 1)?;
    net::set_time_limits(server_socket, idle, SEND_LIMIT)
}

/// One client, to the end of what it sends.
fn serve(connection: Connection, trace: &Trace) {
    let mut connection_socket = connection.socket.as_ref();
    let mut sentence = vec![0; PIECE];
    let mut modified_sentence = Vec::with_capacity(PIECE);
    let mut converter = UpperCase::default();
    let why = loop {
        // (2) receive, and convert to upper case; a stop ends the wait, but
        // not before what has arrived is answered
        if !connection.set_idle(true) {
            let _ = connection_socket.shutdown(Shutdown::Read);
        }
        let received = connection_socket.read(&mut sentence);
        connection.set_idle(false);
        let length = match received {
            Ok(0) if connection.is_stopping() => {
                break "the server stops".into();
            }
            Ok(0) => break "the client has sent all".into(),
            Ok(length) => length,
            Err(error) => break reason(&error),
        };
        show(trace, Party::Client, &connection, &sentence[..length]);
        modified_sentence.clear();
        converter.convert(&sentence[..length], &mut modified_sentence);

        // (3) send what there is of it
        show(trace, Party::Server, &connection, &modified_sentence);
        if let Err(error) = connection_socket.write_all(&modified_sentence) {
            break reason(&error);
        }
    };
    modified_sentence.clear();
    converter.finish(&mut modified_sentence);
    let _ = connection_socket.write_all(&modified_sentence);
    trace.fact(|| format!("#{} is done: {why}", connection.number));
    // close: the socket goes with the connection
}

/// Records what came of the stream, or went.
fn show(trace: &Trace, from: Party, connection: &Connection, data: &[u8]) {
    trace.text_of(from, connection.number, data, || match from {
        Party::Client => format!(
            "{} bytes of the stream: what had arrived, be it one send of the \
             client's or several. KR 2.7.2",
            data.len()
        ),
        _ => format!("{} bytes back", data.len()),
    });
}
