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
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::PIECE;
use crate::Tool;
use crate::args::Args;
use crate::error::{Doing, Error, Outcome, is_gone};
use crate::input::Input;
use crate::net::{self, Destination};
use crate::output::{Output, say};
use crate::trace::{Party, Trace};
use crate::upper_case::PORT;

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
    let five_seconds = Duration::from_secs(5);
    let to = Destination::from_args(&mut args, PORT, five_seconds)?;
    let trace = Trace::from_args(&mut args, Party::Client)?;
    args.finish()?;

    // socket, connect: the three-way handshake of KR 3.5.6, as the kernel
    // does it for us
    let servers = to.resolve()?;
    trace.message(Party::Client, || "SYN: connection request".into());
    let client_socket = net::connect(&servers, to.local_port, to.timeout)?;
    trace.message(Party::Server, || "SYN, ACK: connection granted".into());
    let doing = || "prepare the socket";
    client_socket.set_nodelay(true).doing(doing)?;
    client_socket.set_write_timeout(Some(to.timeout)).doing(doing)?;
    let ends = (client_socket.local_addr(), client_socket.peer_addr());
    if let (Ok(local), Ok(peer)) = ends {
        trace.fact(|| format!("client socket {local} with {peer} (KR 3.2)"));
    }

    // the receiver says when a line of answer has come, and when all have
    let (answer, answers) = channel();
    let receiver = {
        let socket = client_socket.try_clone().doing(doing)?;
        let trace = trace.clone();
        let receive = move || receive(socket, &answer, &trace);
        thread::Builder::new().spawn(receive).doing(doing)?
    };
    let mut unanswered = send(&client_socket, &answers, to.timeout, &trace)?;

    // half-close: we have sent all, and read on
    let _ = client_socket.shutdown(Shutdown::Write);
    let late = loop {
        match answers.recv_timeout(to.timeout) {
            Ok(()) => unanswered -= 1,
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => break true,
        }
    };
    let _ = client_socket.shutdown(Shutdown::Both); // close
    receiver.join().unwrap_or(Ok(()))?;
    if unanswered <= 0 && !late {
        return Ok(Outcome::Yes);
    }
    say(match late {
        true => "topdown tcp-client: the server neither answers nor closes",
        false => {
            "topdown tcp-client: the server closed the connection before all \
             lines were answered (the book's does after one: KR 2.7.2)"
        }
    });
    Ok(Outcome::No)
}

/// (1) Reads lines from the keyboard and sends them, each once the one
/// before was answered; says how many were not answered.
fn send(
    mut client_socket: &TcpStream,
    answers: &Receiver<()>,
    timeout: Duration,
    trace: &Trace,
) -> Result<i64, Error> {
    let mut input = Input::new(PIECE);
    let mut unanswered = 0;
    let mut in_mid_line = false;
    while let Some(sentence) = input.piece()? {
        if !in_mid_line {
            unanswered += 1;
        }
        in_mid_line = !sentence.ends_with(b"\n");
        trace.text(Party::Client, &sentence, || {
            format!("{} bytes into the stream. KR 2.7.2", sentence.len())
        });
        match client_socket.write_all(&sentence) {
            Ok(()) => {}
            Err(e) if is_gone(&e) => break,
            Err(error) => return Err(error).doing(|| "send"),
        }
        if in_mid_line {
            continue;
        }
        match answers.recv_timeout(timeout) {
            Ok(()) => unanswered -= 1,
            Err(RecvTimeoutError::Timeout) => {
                say("topdown tcp-client: no answer in time: sending on");
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(unanswered)
}

/// (4) Receives, and displays line by line, however the stream was cut.
fn receive(
    mut client_socket: TcpStream,
    answer: &Sender<()>,
    trace: &Trace,
) -> Result<(), Error> {
    let mut output = Output::new();
    let mut buffer = vec![0; PIECE];
    let mut at_line_start = true;
    loop {
        let length = match client_socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
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
                let _ = answer.send(());
            }
        }
    }
    if !at_line_start {
        output.write(b"\n")?;
        let _ = answer.send(());
    }
    Ok(()) // the sender sees the end of answers: `answer` goes
}
