//! `udp-ping` and `udp-ping-server`, against each other, the book's Python
//! server and client, and scripted servers.

use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::thread;

use crate::harness::{
    BINARY, LIMIT, Ran, Server, have, kill, run, run_command,
};
use crate::lab::lab;

/// A few quick pings to a port of this machine.
fn ping(port: u16, more: &[&str]) -> Ran {
    let port = port.to_string();
    let mut words = vec!["udp-ping"];
    for usual in [["-i", "0.02"], ["-W", "0.5"], ["-c", "5"]] {
        if !more.contains(&usual[0]) {
            words.extend(usual);
        }
    }
    words.extend(more);
    words.extend(["127.0.0.1", &port]);
    run(&words, "")
}

/// A server that does with each datagram what the test wants.
fn scripted(
    answer: impl Fn(&UdpSocket, &[u8], std::net::SocketAddr) + Send + 'static,
) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((count, from)) = socket.recv_from(&mut bytes) {
            answer(&socket, &bytes[..count], from);
        }
    });
    port
}

#[test]
fn five_pings_and_their_summary() {
    let server = Server::start("udp-ping-server", &["--loss", "0"]);
    let ran = ping(server.address.port(), &[]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("PING 127.0.0.1 (127.0.0.1) port "));
    assert!(lines[0].ends_with(": 56 bytes of UDP data"));
    for (i, line) in lines[1..6].iter().enumerate() {
        let start =
            format!("56 bytes from {}: seq={} time=", server.address, i + 1);
        assert!(line.starts_with(&start) && line.ends_with(" ms"), "{line}");
    }
    assert!(lines[8].starts_with(
        "5 packets transmitted, 5 received, 0% packet loss, time "
    ));
    assert_eq!(lines[9], "0 late, 0 duplicates, 0 reordered, 0 from strangers");
    assert!(lines[10].starts_with("median "), "{}", lines[10]);
    // last of all, where scripts look for it
    assert!(lines[11].starts_with("rtt min/avg/max/mdev = "), "{}", lines[11]);
}

#[test]
fn what_is_lost_times_out() {
    let server = Server::start("udp-ping-server", &["--loss", "1"]);
    let ran = ping(server.address.port(), &["-W", "0.05"]);
    assert_eq!(ran.status, 1);
    assert_eq!(ran.stdout.matches(": Request timed out").count(), 5);
    assert!(
        ran.stdout
            .contains("5 packets transmitted, 0 received, 100% packet loss")
    );
    // all lost: there is no least time
    assert!(!ran.stdout.contains("rtt min") && !ran.stdout.contains("NaN"));
}

#[test]
fn a_seed_repeats_the_losses() {
    let lost = |seed: &str| {
        let words = ["--loss", "4/11", "--seed", seed];
        let server = Server::start("udp-ping-server", &words);
        let words = ["-c", "30", "-i", "0.002", "-W", "0.3", "--json"];
        let ran = run(
            &[&["udp-ping"], &words[..], &["127.0.0.1", &server.port()]]
                .concat(),
            "",
        );
        let mut lost: Vec<String> = ran
            .stdout
            .lines()
            .filter(|line| line.contains("\"timeout\""))
            .map(String::from)
            .collect();
        lost.sort();
        lost
    };
    let first = lost("7");
    assert!((3..=25).contains(&first.len()), "{first:?}");
    assert_eq!(first, lost("7"));
    assert_ne!(first, lost("8"));
}

#[test]
fn late_twice_reordered_and_strange_answers_are_told_apart() {
    let port = scripted(|socket, ping, from| {
        let number = ping[5] - b'0';
        let send = |bytes: &[u8]| drop(socket.send_to(bytes, from));
        match number {
            1 => {} // answered behind 2
            2 => {
                send(ping);
                let mut first = ping.to_vec();
                first[5] = b'1';
                send(&first); // (its time is another: a stranger's)
            }
            3 => (0..3).for_each(|_| send(&ping.to_ascii_uppercase())),
            4 => [&b"Ping 99 1"[..], b"junk", b"", b"\x1b[2J"]
                .iter()
                .for_each(|b| send(b)),
            _ => send(ping),
        }
    });
    let ran = ping(port, &["-W", "0.3"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let out = &ran.stdout;
    assert_eq!(out.matches("seq=3 (DUP!)").count(), 2, "{out}");
    assert_eq!(out.matches("no answer to any ping").count(), 5, "{out}");
    assert_eq!(out.matches("Request timed out").count(), 2, "{out}");
    assert!(out.contains("5 packets transmitted, 3 received, 40% packet loss"));
    assert!(
        out.contains("0 late, 2 duplicates, 0 reordered, 5 from strangers")
    );
    assert!(!out.contains('\x1b'), "{out}");
    // late: behind the time-out, while others are waited for
    let server =
        Server::start("udp-ping-server", &["--loss", "0", "--delay", "200"]);
    let words = ["-i", "0.15", "-W", "0.1"];
    let ran = ping(server.address.port(), &words);
    assert_eq!(ran.status, 0, "{}", ran.stdout);
    assert!(ran.stdout.contains(" ms (late)"), "{}", ran.stdout);
    assert!(ran.stdout.contains("5 packets transmitted, 0 received"));
    // reordered and doubled by our own server
    let words =
        ["--loss", "0", "--reorder", "0.5", "--duplicate", "1", "--seed", "1"];
    let server = Server::start("udp-ping-server", &words);
    let ran = ping(server.address.port(), &["-c", "20"]);
    assert!(ran.stdout.contains(" ms (reordered)"), "{}", ran.stdout);
    assert!(ran.stdout.contains("(DUP!)"), "{}", ran.stdout);
}

#[test]
fn nobody_listens_is_said_at_once() {
    let port = {
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap();
        gone.local_addr().unwrap().port()
    };
    let ran = ping(port, &["-c", "2", "-W", "10"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stdout.contains("seq=1 port unreachable"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("timed out"), "{}", ran.stdout);
}

#[test]
fn several_are_in_flight_unless_the_lab_wants_it_otherwise() {
    let server =
        Server::start("udp-ping-server", &["--loss", "0", "--delay", "100"]);
    let order = |more: &[&str]| {
        let words = [&["-v", "-c", "3"], more].concat();
        let ran = ping(server.address.port(), &words);
        let who = ran.stderr.lines().filter_map(|l| l.get(..2));
        who.filter(|w| w.ends_with(':')).collect::<String>()
    };
    assert_eq!(order(&[]), "C:C:C:S:S:S:");
    assert_eq!(order(&["--stop-and-wait"]), "C:S:C:S:C:S:");
}

#[test]
fn signals_print_the_summary() {
    let server = Server::start("udp-ping-server", &["--loss", "0"]);
    let child = Command::new(BINARY)
        .args(["udp-ping", "-c", "1000", "-i", "0.01", "127.0.0.1"])
        .arg(server.port())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = child;
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut until = |text: &str| {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            let count = std::io::BufRead::read_line(&mut out, &mut line);
            assert!(count.unwrap() > 0, "'{text}' never came");
        }
    };
    until("seq=3 ");
    kill(child.id(), libc::SIGQUIT);
    until("packets transmitted");
    until("seq="); // it goes on
    kill(child.id(), libc::SIGINT);
    until("packets transmitted");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The book's own: `UDPPingerServer.py` of the lab, but for the port.
const BOOK_SERVER: &str = "
import random
from socket import *
serverSocket = socket(AF_INET, SOCK_DGRAM)
serverSocket.bind(('', 0))
print(serverSocket.getsockname()[1], flush=True)
while True:
    rand = random.randint(0, 10)
    message, address = serverSocket.recvfrom(1024)
    message = message.upper()
    if rand < 4:
        continue
    serverSocket.sendto(message, address)
";

const BOOK_CLIENT: &str = "
import sys, time
from socket import *
clientSocket = socket(AF_INET, SOCK_DGRAM)
clientSocket.settimeout(1)
for i in range(1, 11):
    start = time.time()
    clientSocket.sendto(f'Ping {i} {start}'.encode(), ('127.0.0.1', int(sys.argv[1])))
    try:
        data, server = clientSocket.recvfrom(1024)
        print(data.decode(), time.time() - start)
    except timeout:
        print('Request timed out')
";

#[test]
fn the_books_server_and_client_in_python() {
    if !have("python3") {
        return;
    }
    let mut child = Command::new("python3")
        .args(["-c", BOOK_SERVER])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    let stdout = child.stdout.take().unwrap();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(stdout),
        &mut port,
    )
    .unwrap();
    // (to lose all forty happens once in 10^17)
    let ran = ping(port.trim().parse().unwrap(), &["-c", "40", "-i", "0.005"]);
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(ran.status, 0, "{}", ran.stdout);
    assert!(ran.stdout.contains("40 packets transmitted, "), "{}", ran.stdout);
    assert!(ran.stdout.contains(" 0 from strangers"), "{}", ran.stdout);
    let server = Server::start("udp-ping-server", &["--loss", "0"]);
    let mut command = Command::new("python3");
    command.args(["-c", BOOK_CLIENT, &server.port()]);
    let ran = run_command(command, "");
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert_eq!(ran.stdout.matches("PING ").count(), 10, "{}", ran.stdout);
}

#[test]
fn estimates_and_headers_are_explained() {
    let server = Server::start("udp-ping-server", &["--loss", "0"]);
    let ran = ping(server.address.port(), &["-e", "-c", "2"]);
    for text in ["EstimatedRTT ", "DevRTT ", "TimeoutInterval", "source port"] {
        assert!(ran.stderr.contains(text), "{text}: {}", ran.stderr);
    }
}

/// A source that is not this machine gets so many answers in a second; and
/// other errors of ICMP than "port unreachable" end nothing.
#[test]
fn rates_and_errors_in_the_lab() {
    let Some(all) = lab(&[
        "ip netns exec h2 topdown udp-ping-server --loss 0 --rate 5 -l \
         203.0.113.10:12000 2>err &\n\
         until grep -q listening err; do sleep 0.02; done\n\
         topdown udp-ping -c 100 -i 0.002 -W 0.3 203.0.113.10 | grep received\n\
         kill %1",
        "topdown udp-ping -c 2 -i 0.1 -W 0.3 203.0.113.194",
        "topdown udp-ping -c 1 -W 0.3 203.0.113.205",
    ]) else {
        return;
    };
    let words: Vec<&str> = all[0].stdout.split_whitespace().collect();
    let received: u32 = words[3].parse().unwrap();
    // (what a second gives, and a little while the pings last)
    assert!((5..=20).contains(&received), "{}", all[0].stdout);
    assert_eq!(all[1].status, 1);
    assert!(all[1].stdout.contains("seq=1 Protocol not available (ICMP)"));
    assert!(all[1].stdout.contains("2 packets transmitted, 0 received"));
    assert!(all[2].stdout.contains(" (ICMP)"), "{}", all[2].stdout);
}

/// On a terminal a histogram stands under the summary.
#[test]
fn a_histogram_on_a_terminal() {
    if !have("script") {
        return;
    }
    let server =
        Server::start("udp-ping-server", &["--loss", "0", "--jitter", "5"]);
    let port = server.port();
    let line = format!("{BINARY} udp-ping -q -c 20 -i 0.01 127.0.0.1 {port}");
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]);
    let ran = run_command(command, "");
    let bars = ran.stdout.lines().filter(|l| l.trim_end().ends_with('#'));
    assert!(bars.count() >= 2, "{}", ran.stdout);
}

/// A datagram with the server's own address as its source is not answered:
/// it would be for ever.
#[test]
fn the_server_does_not_talk_to_itself() {
    let Some(all) =
        lab(&["topdown udp-ping-server -v --loss 0 -l 127.0.0.1:12000 2>err &
until grep -q listening err; do sleep 0.02; done
python3 - <<'EOF'
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
data = b'Ping 1 0'
udp = struct.pack('!HHHH', 12000, 12000, 8 + len(data), 0) + data
ip = struct.pack('!BBHHHBBH4s4s', 69, 0, 20 + len(udp), 0, 0, 64, 17, 0,
                 b'\\x7f\\0\\0\\1', b'\\x7f\\0\\0\\1')
s.sendto(ip + udp, ('127.0.0.1', 0))
EOF
topdown udp-ping -c 1 127.0.0.1
kill -TERM %1; wait %1; grep -c 'Ping 1' err"])
    else {
        return;
    };
    assert!(all[0].stdout.contains("1 received"), "{}", all[0].stdout);
    // asked once, by the ping: its line and its fate
    assert!(all[0].stdout.trim_end().ends_with("\n2"), "{}", all[0].stdout);
}
