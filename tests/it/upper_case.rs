//! The upper-case tools against each other and against the book's programs.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;

use crate::harness::{Folder, LIMIT, Server, have, read_all, run};

fn free_port() -> String {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port().to_string()
}

#[test]
fn tcp_lines_come_back_in_upper_case() {
    let server = Server::start("tcp-server", &[]);
    let port = server.port();
    let ran = run(&["tcp-client", "localhost", &port], "hello\nstraße\n\nend");
    assert_eq!(ran.status, 0);
    assert_eq!(
        ran.stdout,
        "From Server: HELLO\nFrom Server: STRASSE\nFrom Server: \n\
         From Server: END\n"
    );
    assert_eq!(ran.stderr, "");
}

#[test]
fn the_tcp_server_answers_what_it_has_at_once() {
    let server = Server::start("tcp-server", &[]);
    let mut socket = server.connect();
    let mut answer = [0; 3];
    socket.write_all(b"abc").unwrap(); // no line end
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ABC");
    // half a character waits for the other half
    socket.write_all(b"x\xc3").unwrap();
    socket.read_exact(&mut answer[..1]).unwrap();
    assert_eq!(answer[0], b'X');
    socket.write_all(b"\xa9").unwrap();
    socket.read_exact(&mut answer[..2]).unwrap();
    assert_eq!(&answer[..2], "É".as_bytes());
    // at the end even half a character is answered
    socket.write_all(b"\xff\xc3").unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"\xff\xc3");
}

#[test]
fn megabytes_pass_without_a_deadlock() {
    let server = Server::start("tcp-server", &[]);
    let text = "straße ".repeat(1 << 20);
    let expected = format!("From Server: {}\n", text.to_uppercase());
    let ran = run(&["tcp-client", "127.0.0.1", &server.port()], &text);
    assert!(ran.status == 0 && ran.stdout == expected);
    let status = format!("/proc/{}/status", server.child.id());
    let status = std::fs::read_to_string(status).unwrap();
    let peak = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    let kib: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 16 * 1024, "the server used {kib} KiB");
}

#[test]
fn a_thousand_clients_at_once() {
    let server = Server::start("tcp-server", &[]);
    let mut sockets: Vec<TcpStream> =
        (0..1000).map(|_| server.connect()).collect();
    for socket in &mut sockets {
        socket.write_all(b"a").unwrap();
    }
    for socket in &mut sockets {
        let mut answer = [0];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"A");
    }
}

#[test]
fn over_the_bound_a_client_is_turned_away() {
    let server = Server::start("tcp-server", &["--max-connections", "1"]);
    let mut first = server.connect();
    first.write_all(b"a").unwrap();
    first.read_exact(&mut [0]).unwrap();
    assert_eq!(read_all(&mut server.connect()), "");
    server.wait_for("too many connections");
    drop(first);
}

#[test]
fn a_silent_client_is_let_go() {
    let server = Server::start("tcp-server", &["--idle", "0.2"]);
    assert_eq!(read_all(&mut server.connect()), "");
}

#[test]
fn verbose_names_the_sockets() {
    let server = Server::start("tcp-server", &["-v"]);
    let address = server.address;
    server.wait_for(&format!("welcoming socket {address}"));
    let mut socket = server.connect();
    let client = socket.local_addr().unwrap();
    server.wait_for(&format!("#1 connection socket {address} with {client}"));
    socket.write_all(b"hi\x1b\n").unwrap();
    server.wait_for("C: hi\\u{1b}\\n"); // and no escape reaches the terminal
    server.wait_for("S: HI");
}

#[test]
fn a_stop_ends_idle_connections_at_once() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut server = Server::start("tcp-server", &["-v"]);
        let mut socket = server.connect();
        server.wait_for("connection socket");
        server.signal(signal);
        assert_eq!(read_all(&mut socket), "");
        assert_eq!(server.wait(), 0);
        for lines in ["", "a\n"] {
            let folder = Folder::new();
            let file = folder.path("run.svg");
            let mut server = Server::start("udp-server", &["--diagram", &file]);
            run(&["udp-client", "127.0.0.1", &server.port()], lines);
            server.signal(signal);
            assert_eq!(server.wait(), 0);
            let svg = std::fs::read_to_string(file).unwrap();
            assert_eq!(svg.contains(">a<"), !lines.is_empty());
        }
    }
}

#[test]
fn a_stop_in_mid_stream_is_an_end_in_time() {
    let mut server = Server::start("tcp-server", &["-v"]);
    let mut socket = server.connect();
    let mut reader = socket.try_clone().unwrap();
    let sender =
        thread::spawn(move || while socket.write_all(&[b'a'; 1000]).is_ok() {});
    server.wait_for("S: AAA"); // it is in the midst of it
    server.signal(libc::SIGTERM);
    assert!(read_all(&mut reader).bytes().all(|b| b == b'A'));
    assert_eq!(server.wait(), 0);
    sender.join().unwrap();
}

#[test]
fn once_is_once() {
    let mut server = Server::start("tcp-server", &["--once"]);
    assert_eq!(server.dialogue("a"), "A");
    assert_eq!(server.wait(), 0);
    let mut server = Server::start("udp-server", &["--once"]);
    let ran = run(&["udp-client", "127.0.0.1", &server.port()], "a\n");
    assert_eq!(ran.stdout, "From Server: A\n");
    assert_eq!(server.wait(), 0);
}

#[test]
fn datagrams_come_back_the_empty_one_too() {
    let server = Server::start("udp-server", &[]);
    let ran =
        run(&["udp-client", "localhost", &server.port()], "hello\n\nß\nlast");
    assert_eq!(ran.status, 0);
    assert_eq!(
        ran.stdout,
        "From Server: HELLO\nFrom Server: \nFrom Server: SS\n\
         From Server: LAST\n"
    );
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.send_to(b"a\xff", server.address).unwrap();
    let mut answer = [0; 9];
    let (length, from) = socket.recv_from(&mut answer).unwrap();
    assert_eq!((&answer[..length], from), (&b"A\xff"[..], server.address));
}

#[test]
fn two_sends_are_two_datagrams_but_one_stream() {
    let server = Server::start("udp-server", &[]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.send_to(b"ab", server.address).unwrap();
    socket.send_to(b"cd", server.address).unwrap();
    let mut answer = [0; 9];
    assert_eq!(socket.recv(&mut answer).unwrap(), 2);
    assert_eq!(socket.recv(&mut answer).unwrap(), 2);
    let server = Server::start("tcp-server", &[]);
    let mut socket = server.connect();
    socket.write_all(b"ab").unwrap();
    socket.write_all(b"cd").unwrap();
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ABCD");
}

#[test]
fn udp_tells_of_no_server_and_of_no_answer() {
    let port = free_port();
    let ran = run(&["udp-client", "127.0.0.1", &port], "hello\n");
    assert_eq!((ran.status, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("Connection refused: an ICMP"));
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let ran = run(&["udp-client", "-W", "0.1", "127.0.0.1", &port], "a\nb\n");
    assert_eq!(ran.status, 1);
    assert_eq!(ran.stderr.matches("no answer in time").count(), 2);
    let ran = run(&["tcp-client", "127.0.0.1", &free_port()], "");
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.ends_with(": Connection refused\n"));
}

#[test]
fn a_late_answer_is_not_taken_for_the_next() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(LIMIT)).unwrap();
    let port = server.local_addr().unwrap().port().to_string();
    let client = thread::spawn(move || {
        let args = ["udp-client", "-W", "0.2", "127.0.0.1", &port];
        run(&args, "one\ntwo\n")
    });
    let mut buffer = [0; 9];
    let (_, first) = server.recv_from(&mut buffer).unwrap();
    let (_, second) = server.recv_from(&mut buffer).unwrap();
    assert_ne!(first, second, "a new socket after a time-out");
    server.send_to(b"LATE", first).unwrap();
    server.send_to(b"TWO", second).unwrap();
    let ran = client.join().unwrap();
    assert_eq!((ran.status, &*ran.stdout), (1, "From Server: TWO\n"));
}

#[test]
fn what_does_not_fit_a_datagram_is_told_and_the_rest_goes_on() {
    let server = Server::start("udp-server", &["-e"]);
    let port = server.port();
    for length in [65_508, 65_536, 200_000] {
        let lines = format!("ok\n{}\nafter\n", "a".repeat(length));
        let ran = run(&["udp-client", "127.0.0.1", &port], lines);
        assert_eq!(ran.status, 1);
        assert!(ran.stderr.ends_with(": Message too long\n"));
        assert_eq!(ran.stdout, "From Server: OK\nFrom Server: AFTER\n");
    }
    let ran = run(&["udp-client", "127.0.0.1", &port], "a".repeat(65_507));
    assert_eq!(ran.status, 0);
    // the answer would be longer than a datagram: the server goes on
    let ran = run(
        &["udp-client", "-W", "0.1", "127.0.0.1", &port],
        format!("{}\na\n", "ŉ".repeat(32_000)),
    );
    assert_eq!(ran.stdout, "From Server: A\n");
    server.wait_for("Message too long");
}

#[test]
fn the_client_may_choose_its_port() {
    let server = Server::start("tcp-server", &["-v"]);
    let port = free_port();
    let local = ["--local-port", &port, "127.0.0.1", &server.port()];
    let tcp = [&["tcp-client"][..], &local].concat();
    assert_eq!(run(&tcp, "a\n").stdout, "From Server: A\n");
    server.wait_for(&format!("with 127.0.0.1:{port}"));
    let server = Server::start("udp-server", &["-v"]);
    let local = ["--local-port", &port, "127.0.0.1", &server.port()];
    let udp = [&["udp-client"][..], &local].concat();
    assert_eq!(run(&udp, "a\n").stdout, "From Server: A\n");
    server.wait_for(&format!("127.0.0.1:{port} sent 1 byte(s)"));
}

#[test]
fn ipv6_by_address() {
    if TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: no IPv6 on this machine");
        return;
    }
    for (server, client) in
        [("tcp-server", "tcp-client"), ("udp-server", "udp-client")]
    {
        let server = Server::start(server, &["-l", "[::1]:0"]);
        let port = server.port();
        for host in ["::1", "[::1]"] {
            let ran = run(&[client, host, &port], "a\n");
            assert_eq!(ran.stdout, "From Server: A\n", "{client} {host}");
        }
        let ran = run(&[client, "-4", "::1", &port], "a\n");
        assert_eq!(ran.status, 2);
    }
}

#[test]
fn a_server_that_answers_once_is_told_of() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    let once = thread::spawn(move || {
        let (mut socket, _) = socket.accept().unwrap();
        let mut sentence = [0; 1024];
        let length = socket.read(&mut sentence).unwrap();
        let upper = sentence[..length].to_ascii_uppercase();
        socket.write_all(&upper).unwrap();
    });
    let ran = run(&["tcp-client", "127.0.0.1", &port], "one\ntwo\n");
    once.join().unwrap();
    assert_eq!((ran.status, ran.stdout.as_str()), (1, "From Server: ONE\n"));
    assert!(ran.stderr.contains("closed the connection before all lines"));
    // and one that says nothing at all, with or without the line's end
    for sentence in ["one", "one\n"] {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port().to_string();
        let mute = thread::spawn(move || drop(socket.accept().unwrap()));
        let ran = run(&["tcp-client", "127.0.0.1", &port], sentence);
        mute.join().unwrap();
        assert_eq!(ran.status, 1, "{sentence:?}");
    }
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    let args = ["tcp-client", "-W", "0.1", "127.0.0.1", &port];
    let ran = run(&args, "one\n");
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("neither answers nor closes"));
}

#[test]
fn explain_draws_the_udp_header() {
    let server = Server::start("udp-server", &[]);
    let port = server.port();
    let ran = run(&["udp-client", "-e", "127.0.0.1", &port], "hello\n");
    let row = format!("    destination port {port}     |");
    assert!(ran.stderr.contains(&row), "{}", ran.stderr);
    assert!(ran.stderr.contains("|           length 13           |"));
    assert!(ran.stderr.contains("RFC 768") || ran.stderr.contains("KR 2.7.1"));
}

#[test]
fn a_diagram_is_written() {
    let folder = Folder::new();
    let server = Server::start("tcp-server", &[]);
    let file = folder.path("run.svg");
    let port = server.port();
    let args = ["tcp-client", "--diagram", &file, "127.0.0.1", &port];
    run(&args, "a<b\n");
    let svg = std::fs::read_to_string(file).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("SYN: connection request"));
    assert!(svg.contains("a&lt;b") && svg.contains("A&lt;B"));
    let args = ["tcp-client", "--diagram", "/no/x.svg", "127.0.0.1", &port];
    assert_eq!(run(&args, "").status, 2);
    // a usage error leaves an old one alone; a failed run is drawn, too
    let file = folder.path("old.svg");
    std::fs::write(&file, "old").unwrap();
    run(&["tcp-client", "--diagram", &file], "");
    run(&["tcp-client", "--diagram", &file, "h", "1", "surplus"], "");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
    run(&["tcp-client", "--diagram", &file, "127.0.0.1", &free_port()], "");
    assert!(std::fs::read_to_string(&file).unwrap().contains("SYN"));
}

/// The book's programs, as printed (KR 2.7), but for the port.
const BOOKS_UDP_SERVER: &str = "
from socket import *
import sys
serverSocket = socket(AF_INET, SOCK_DGRAM)
serverSocket.bind(('127.0.0.1', 0))
print('listening on 127.0.0.1:%d' % serverSocket.getsockname()[1], file=sys.stderr, flush=True)
while True:
    message, clientAddress = serverSocket.recvfrom(2048)
    modifiedMessage = message.decode().upper()
    serverSocket.sendto(modifiedMessage.encode(), clientAddress)
";
const BOOKS_TCP_SERVER: &str = "
from socket import *
import sys
serverSocket = socket(AF_INET, SOCK_STREAM)
serverSocket.bind(('127.0.0.1', 0))
serverSocket.listen(1)
print('listening on 127.0.0.1:%d' % serverSocket.getsockname()[1], file=sys.stderr, flush=True)
while True:
    connectionSocket, addr = serverSocket.accept()
    sentence = connectionSocket.recv(1024).decode()
    capitalizedSentence = sentence.upper()
    connectionSocket.send(capitalizedSentence.encode())
    connectionSocket.close()
";
const BOOKS_UDP_CLIENT: &str = "
from socket import *
import sys
serverName, serverPort = '127.0.0.1', int(sys.argv[1])
clientSocket = socket(AF_INET, SOCK_DGRAM)
message = input('Input lowercase sentence:')
clientSocket.sendto(message.encode(), (serverName, serverPort))
modifiedMessage, serverAddress = clientSocket.recvfrom(2048)
print(modifiedMessage.decode())
clientSocket.close()
";
const BOOKS_TCP_CLIENT: &str = "
from socket import *
import sys
serverName, serverPort = '127.0.0.1', int(sys.argv[1])
clientSocket = socket(AF_INET, SOCK_STREAM)
clientSocket.connect((serverName, serverPort))
sentence = input('Input lowercase sentence:')
clientSocket.send(sentence.encode())
modifiedSentence = clientSocket.recv(1024)
print('From Server: ', modifiedSentence.decode())
clientSocket.close()
";

fn python(program: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", program]);
    command
}

#[test]
fn our_clients_with_the_books_servers() {
    if !have("python3") {
        return;
    }
    let server = Server::spawn(python(BOOKS_UDP_SERVER));
    let port = server.port();
    let ran = run(&["udp-client", "localhost", &port], "hello\nworld\n");
    assert_eq!(ran.stdout, "From Server: HELLO\nFrom Server: WORLD\n");
    let server = Server::spawn(python(BOOKS_TCP_SERVER));
    let port = server.port();
    let ran = run(&["tcp-client", "localhost", &port], "hello\n");
    assert_eq!((ran.status, &*ran.stdout), (0, "From Server: HELLO\n"));
    let ran = run(&["tcp-client", "localhost", &port], "hello\nworld\n");
    assert_eq!((ran.status, &*ran.stdout), (1, "From Server: HELLO\n"));
}

#[test]
fn the_books_clients_with_our_servers() {
    if !have("python3") {
        return;
    }
    for (server, client) in
        [("udp-server", BOOKS_UDP_CLIENT), ("tcp-server", BOOKS_TCP_CLIENT)]
    {
        let server = Server::start(server, &[]);
        let mut command = python(client);
        command.arg(server.port());
        let ran = crate::harness::run_command(command, "hello\n");
        assert!(ran.stdout.ends_with("HELLO\n"), "{ran:?}");
    }
}
