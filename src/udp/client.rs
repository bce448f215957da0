//! `udp-client`: the upper-case client over UDP. KR 2.7.1
//!
//! The book's application in four steps: (1) the client reads a line from
//! its keyboard and sends it to the server, (2) the server converts it to
//! upper case and (3) sends it back, (4) the client receives and displays
//! it. Here are (1) and (4), as in the book's `UDPClient.py`.
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

use super::{MAX_PAYLOAD, PORT, draw_header};
use crate::Tool;
use crate::args::{self, Args};
use crate::error::{Doing, Error, Outcome, is_timeout, reason};
use crate::input::Input;
use crate::net::{self, Family};
use crate::output::{Output, say};
use crate::trace::{Party, Trace};

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
    let timeout = args.value("--timeout", args::seconds)?;
    let local_port = args.value("--local-port", net::port)?.unwrap_or(0);
    let family = Family::from_args(&mut args)?;
    let trace = Trace::from_args(&mut args, Party::Client)?;
    let host = args.operand("HOST")?;
    let port = args.optional_operand().unwrap_or_else(|| PORT.to_string());
    let port = net::port(&port).map_err(Error::Usage)?;
    args.finish()?;
    let timeout = timeout.unwrap_or(Duration::from_secs(1));

    let servers = net::resolve(&host, port, family, timeout * 5)?;
    let mut client_sockets = open(&servers, local_port, timeout)?;
    let mut input = Input::new(MAX_PAYLOAD);
    let mut output = Output::new();
    let mut outcome = Outcome::Yes;
    // (1) a line from the keyboard …
    while let Some(sentence) = input.line()? {
        match exchange(&mut client_sockets, &sentence, &trace) {
            // (4) display what came back
            Some(modified_sentence) => {
                let line = [b"From Server: ", &modified_sentence[..], b"\n"];
                output.write(&line.concat())?;
            }
            None => outcome = Outcome::No,
        }
    }
    trace.finish("udp-client")?;
    Ok(outcome) // close: the sockets go with this function
}

/// A socket for each of the server's addresses: which of them answers shows
/// only when a datagram was sent.
fn open(
    servers: &[SocketAddr],
    local_port: u16,
    timeout: Duration,
) -> Result<Vec<UdpSocket>, Error> {
    let mut client_sockets = Vec::new();
    let mut fault = None;
    for server in servers {
        // socket, bind: a port of our own, by which the answer finds us
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let open = || -> io::Result<UdpSocket> {
            let client_socket = UdpSocket::bind((any, local_port))?;
            // connect sends nothing: it only fixes the peer, so that
            // strangers' datagrams do not reach us and ICMP's errors do
            client_socket.connect(server)?;
            client_socket.set_read_timeout(Some(timeout))?;
            Ok(client_socket)
        };
        match open().doing(|| format!("open a socket for {server}")) {
            Ok(client_socket) => client_sockets.push(client_socket),
            Err(error) => fault = Some(error),
        }
    }
    match fault {
        Some(error) if client_sockets.is_empty() => Err(error),
        _ => Ok(client_sockets),
    }
}

/// One line there and back, by the first socket that gets an answer; from
/// then on by this one alone. `None`: no answer, as was said.
fn exchange(
    client_sockets: &mut Vec<UdpSocket>,
    sentence: &[u8],
    trace: &Trace,
) -> Option<Vec<u8>> {
    let mut faults = Vec::new();
    for at in 0..client_sockets.len() {
        match ask(&client_sockets[at], sentence, trace) {
            Ok(modified_sentence) => {
                client_sockets.swap(0, at);
                client_sockets.truncate(1);
                return Some(modified_sentence);
            }
            Err(error) => faults.push(explain(&client_sockets[at], &error)),
        }
    }
    faults.iter().for_each(say);
    None
}

/// Why there is no answer.
fn explain(client_socket: &UdpSocket, error: &io::Error) -> String {
    let why = match error.kind() {
        ErrorKind::ConnectionRefused => {
            "Connection refused: an ICMP \"port unreachable\" came back. UDP \
             has no handshake that could have told before a datagram was \
             sent (KR 2.7.1, 3.3)"
                .into()
        }
        _ if is_timeout(error) => "no answer in time".into(),
        _ => reason(error),
    };
    match client_socket.peer_addr() {
        Ok(server) => format!("topdown udp-client: {server}: {why}"),
        Err(_) => format!("topdown udp-client: {why}"),
    }
}

/// Sends one datagram and waits for one from the same server.
fn ask(
    client_socket: &UdpSocket,
    sentence: &[u8],
    trace: &Trace,
) -> io::Result<Vec<u8>> {
    let client = client_socket.local_addr()?;
    let server = client_socket.peer_addr()?;
    let mut modified_sentence = vec![0; MAX_PAYLOAD];

    // What is already there answers an earlier line, too late: UDP numbers
    // nothing, so only its time of arrival tells.
    client_socket.set_nonblocking(true)?;
    while let Ok(length) = client_socket.recv(&mut modified_sentence) {
        trace.fact(|| format!("{length} bytes came too late: thrown away"));
    }
    client_socket.set_nonblocking(false)?;

    // (1) … is sent to the server
    trace.text(Party::Client, sentence, || {
        format!("one datagram to {server}: no connection first. KR 2.7.1")
    });
    trace.drawing(|| draw_header(client, server, sentence));
    let sent = Instant::now();
    client_socket.send(sentence)?;

    // (4) receive the answer, or nothing
    let received = client_socket.recv(&mut modified_sentence);
    let length = received.inspect_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused => {
            trace.message(Party::Server, || "ICMP port unreachable".into());
        }
        _ => trace.timed_out(sent.elapsed()),
    })?;
    modified_sentence.truncate(length);
    let rtt = sent.elapsed().as_secs_f64() * 1e3;
    trace.text(Party::Server, &modified_sentence, || {
        format!("the answer, {rtt:.3} ms later: one round-trip time")
    });
    trace.drawing(|| draw_header(server, client, &modified_sentence));
    Ok(modified_sentence)
}
