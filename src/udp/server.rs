//! `udp-server`: the upper-case server over UDP. KR 2.7.1
//!
//! The book's application in four steps: (1) the client reads a line from
//! its keyboard and sends it to the server, (2) the server receives the data
//! and converts the characters to upper case, (3) it sends the modified data
//! to the client, (4) the client receives and displays it. Here are (2) and
//! (3). The book's `UDPServer.py` has this very loop.
//!
//! ```text
//! $ topdown udp-server -v
//! topdown udp-server: listening on 127.0.0.1:12000
//! -- one socket for all clients: 127.0.0.1:12000
//! -- 127.0.0.1:52817 sent 5 bytes
//! C: hello
//! S: HELLO
//! ```
//!
//! Not here: threads. Each datagram is answered before the next is read, and
//! nothing of a client is remembered, so one socket and one loop do.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::{MAX_DATAGRAM, draw_header};
use crate::Tool;
use crate::args::Args;
use crate::error::{Doing, Error, Outcome, reason};
use crate::net;
use crate::output::say;
use crate::signal;
use crate::trace::{Party, Trace};
use crate::upper_case::{PORT, upper_case};

pub static TOOL: Tool = Tool {
    name: "udp-server",
    section: "KR 2.7.1",
    summary: "answer each datagram with the same in upper case",
    help: "\
usage: topdown udp-server [-ev] [-l [ADDR:]PORT] [--once]
                          [--diagram FILE.svg]

Answers each UDP datagram with the same text in upper case.

  -l, --listen [ADDR:]PORT  where to listen (default: 127.0.0.1:12000)
      --once                answer one datagram, then exit
  -v, --verbose             print the dialogue on standard error
  -e, --explain             the same, with each datagram's header drawn
      --diagram FILE.svg    draw the run as a space-time diagram
  -h, --help                print this
",
    run,
};

fn run(mut args: Args) -> Result<Outcome, Error> {
    let listen = args.value("--listen", net::listen_address)?;
    let trace = Trace::from_args(&mut args, Party::Server)?;
    let once = args.flag("--once");
    args.finish()?;
    // the book binds to '', every address of the host; we to loopback's
    // alone, unless told otherwise
    let address = listen.unwrap_or(([127, 0, 0, 1], PORT).into());

    // socket, bind: from now on the kernel queues what arrives
    let doing = || format!("listen on {address}");
    let server_socket = UdpSocket::bind(address).doing(doing)?;
    let address = server_socket.local_addr().doing(doing)?;
    let stopping = stop_by_datagram(address)?;
    say(format!("topdown udp-server: listening on {address}"));
    trace.fact(|| format!("one socket for all clients: {address}"));

    let mut message = vec![0; MAX_DATAGRAM];
    loop {
        // (2) receive, and convert to upper case
        let received = server_socket.recv_from(&mut message);
        if stopping.load(SeqCst) {
            return Ok(Outcome::Yes); // close: the socket goes
        }
        let (length, client) = match received {
            Ok(received) => received,
            Err(error) => {
                say(format!("topdown udp-server: {}", reason(&error)));
                continue;
            }
        };
        let message = &message[..length];
        trace.fact(|| format!("{client} sent {length} byte(s)"));
        show(&trace, Party::Client, client, address, message);
        let modified_message = upper_case(message);

        // (3) send it back to where it came from
        match server_socket.send_to(&modified_message, client) {
            Ok(_) => {
                show(&trace, Party::Server, client, address, &modified_message);
            }
            // one client's trouble, such as an answer that has become too
            // long for a datagram: the others go on
            Err(error) => {
                let why = reason(&error);
                say(format!("topdown udp-server: send to {client}: {why}"));
            }
        }
        if once {
            return Ok(Outcome::Yes);
        }
    }
}

/// Makes SIGINT and SIGTERM set a flag, and end the wait in `recv_from` by
/// the one thing that ends it: a datagram, from ourselves.
fn stop_by_datagram(address: SocketAddr) -> Result<Arc<AtomicBool>, Error> {
    let stopping = Arc::new(AtomicBool::new(false));
    let flag = stopping.clone();
    signal::on_stop(move || {
        flag.store(true, SeqCst);
        let _ = UdpSocket::bind((address.ip(), 0))
            .and_then(|socket| socket.send_to(b"", address));
    })?;
    Ok(stopping)
}

/// Records one datagram, from the client or to it.
fn show(
    trace: &Trace,
    from: Party,
    client: SocketAddr,
    server: SocketAddr,
    data: &[u8],
) {
    let (source, target, note) = match from {
        Party::Client => (
            client,
            server,
            "one datagram, whole: the socket says who sent it. KR 2.7.1",
        ),
        _ => (
            server,
            client,
            "one datagram back: its address goes with it, as there is no \
             connection. KR 2.7.1",
        ),
    };
    trace.text(from, data, || note.into());
    trace.drawing(|| draw_header(source, target, data));
}
