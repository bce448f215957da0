//! `udp-client`: the upper-case client over UDP. KR 2.7.1
//!
//! The book's application in four steps: (1) the client reads a line from
//! its keyboard and sends it to the server, (2) the server converts it to
//! upper case and (3) sends it back, (4) the client receives and displays
//! it. Here are (1) and (4), as in the book's `UDPClient.py`, line by line
//! until the end of input.
//!
//! ```text
//! $ topdown udp-client localhost
//! Input lowercase sentence: hello
//! From Server: HELLO
//! ```
//!
//! A datagram may be lost, and nobody tells: so there is a limit to the
//! waiting. Where there is no server, ICMP may tell (KR 5.6), but only once
//! a datagram was sent: that is why a TCP client fails in `connect` and this
//! one later.
//!
//! Not here: sending again what was lost. That takes sequence numbers and
//! timers (KR 3.4), which is to say another protocol.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::{MAX_DATAGRAM, draw_header};
use crate::Tool;
use crate::args::Args;
use crate::error::{Error, Outcome, is_timeout, reason};
use crate::input::Input;
use crate::net::Destination;
use crate::output::{Output, say};
use crate::trace::{Party, Trace};
use crate::upper_case::PORT;

pub static TOOL: Tool = Tool {
    name: "udp-client",
    section: "KR 2.7.1",
    summary: "send lines as datagrams, print what comes back",
    help: "\
usage: topdown udp-client [-46ev] [-W SECONDS] [--local-port PORT]
                          [--diagram FILE.svg] HOST [PORT]

Sends each line of standard input to HOST as one UDP datagram and prints the
answer. PORT is 12000 by default.

  -W, --timeout SECONDS     wait that long for each answer (default: 1)
      --local-port PORT     our own port (default: any free one)
  -4, --ipv4                IPv4 only
  -6, --ipv6                IPv6 only
  -v, --verbose             print the dialogue on standard error
  -e, --explain             the same, with each datagram's header drawn
      --diagram FILE.svg    draw the run as a space-time diagram
  -h, --help                print this
",
    run,
};

fn run(mut args: Args) -> Result<Outcome, Error> {
    let second = Duration::from_secs(1);
    let to = Destination::from_args(&mut args, PORT, second)?;
    let trace = Trace::from_args(&mut args, Party::Client)?;
    args.finish()?;

    let mut servers = to.resolve()?;
    let mut client_socket = None;
    let mut input = Input::new(MAX_DATAGRAM);
    let mut output = Output::new();
    let mut outcome = Outcome::Yes;
    // (1) a line from the keyboard …
    while let Some(message) = input.line()? {
        let answer =
            exchange(&mut servers, &mut client_socket, &to, &message, &trace);
        match answer {
            // (4) display what came back
            Some(modified_message) => {
                let line = [b"From Server: ", &modified_message[..], b"\n"];
                output.write(&line.concat())?;
            }
            None => outcome = Outcome::No,
        }
    }
    Ok(outcome) // close: the socket goes with this function
}

/// One line there and back. A name may have several addresses, and which of
/// them answers shows only when a datagram was sent: the first that does is
/// kept. `None`: no answer, and the reason was printed.
fn exchange(
    servers: &mut Vec<SocketAddr>,
    client_socket: &mut Option<UdpSocket>,
    to: &Destination,
    message: &[u8],
    trace: &Trace,
) -> Option<Vec<u8>> {
    let mut faults = Vec::new();
    for server in servers.clone() {
        // After a time-out a new socket, and with it a new port: an answer
        // that comes too late finds nobody, instead of the wrong line.
        let socket = match client_socket.take() {
            Some(socket) => Ok(socket),
            None => open(server, to),
        };
        let answer = socket.and_then(|s| Ok((ask(&s, message, trace)?, s)));
        match answer {
            Ok((modified_message, socket)) => {
                *client_socket = Some(socket);
                *servers = vec![server];
                return Some(modified_message);
            }
            Err(error) => faults.push((server, error)),
        }
    }
    for (server, error) in faults {
        say(format!("topdown udp-client: {server}: {}", explain(&error)));
    }
    None
}

/// A socket for one of the server's addresses.
fn open(server: SocketAddr, to: &Destination) -> io::Result<UdpSocket> {
    // socket, bind: a port of our own, by which the answer finds us
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let client_socket = UdpSocket::bind((any, to.local_port))?;
    // The book's client names the server in every sendto. connect, which
    // sends nothing, names it once: then strangers' datagrams do not reach
    // us, and ICMP's errors do.
    client_socket.connect(server)?;
    client_socket.set_read_timeout(Some(to.timeout))?;
    Ok(client_socket)
}

/// Sends one datagram and waits for one from the same server.
fn ask(
    client_socket: &UdpSocket,
    message: &[u8],
    trace: &Trace,
) -> io::Result<Vec<u8>> {
    let client = client_socket.local_addr()?;
    let server = client_socket.peer_addr()?;

    // (1) … is sent to the server
    let sent = trace.is_on().then(Instant::now); // the trace's alone
    client_socket.send(message)?;
    trace.text(Party::Client, message, || {
        format!("one datagram to {server}: no connection first. KR 2.7.1")
    });
    trace.drawing(|| draw_header(client, server, message));

    // (4) receive the answer, or nothing
    let mut modified_message = vec![0; MAX_DATAGRAM];
    let received = client_socket.recv(&mut modified_message);
    let rtt = sent.map_or(Duration::ZERO, |sent| sent.elapsed());
    let length = received.inspect_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused => {
            trace.message(Party::Server, || "ICMP port unreachable".into());
        }
        _ => trace.timed_out(rtt),
    })?;
    modified_message.truncate(length);
    let ms = rtt.as_secs_f64() * 1e3;
    trace.text(Party::Server, &modified_message, || {
        format!("an answer, {ms:.3} ms later: one round-trip time")
    });
    trace.drawing(|| draw_header(server, client, &modified_message));
    Ok(modified_message)
}

/// Why there is no answer.
fn explain(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            "Connection refused: an ICMP \"port unreachable\" came back. UDP \
             has no handshake that could have told before a datagram was \
             sent (KR 2.7.1, 3.3)"
                .into()
        }
        _ if is_timeout(error) => "no answer in time".into(),
        _ => reason(error),
    }
}
