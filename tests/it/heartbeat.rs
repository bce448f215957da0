//! `heartbeat` and `heartbeat-server`: crash, stop, restart, loss, order,
//! clocks, many clients, and a server that stands still itself.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Instant, SystemTime};

use crate::harness::{BINARY, LIMIT, Server, kill, run};

/// A server, and the lines of its standard output.
struct Watch {
    server: Server,
    lines: Receiver<String>,
}

impl Watch {
    fn start(more: &[&str]) -> Watch {
        let mut command = Command::new(BINARY);
        command.args(["heartbeat-server", "-l", "0"]).args(more);
        command.stdout(Stdio::piped());
        let mut server = Server::spawn_keeping_stdout(command);
        let stdout = BufReader::new(server.child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Watch { server, lines }
    }

    /// The next line that has this text; those before it are no "down".
    fn wait_for(&self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(LIMIT);
            let line = line.unwrap_or_else(|_| panic!("'{text}' never came"));
            if line.contains(text) {
                return line;
            }
            assert!(!line.contains(" down: "), "{line}");
        }
    }

    /// Ends the server; all that it still printed.
    fn end(mut self) -> String {
        self.server.signal(libc::SIGTERM);
        assert_eq!(self.server.wait(), 0);
        self.lines.iter().collect::<Vec<_>>().join("\n")
    }

    fn client(&self, more: &[&str]) -> Child {
        let port = self.server.port();
        Command::new(BINARY)
            .args(["heartbeat", "-q", "127.0.0.1", &port])
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }
}

/// A client as tests want it: octets as the man page's drawing has them.
struct Sender {
    socket: UdpSocket,
    session: u64,
    interval: u32,
}

impl Sender {
    fn to(server: SocketAddr, session: u64, interval: u32) -> Sender {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        Sender { socket, session, interval }
    }

    fn send(&self, sequence: u32, stamp: u64, goodbye: bool) {
        let mut bytes = b"tdHB\x01".to_vec();
        bytes.extend([u8::from(goodbye), 0, 0]);
        bytes.extend(self.session.to_be_bytes());
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(self.interval.to_be_bytes());
        bytes.extend(stamp.to_be_bytes());
        self.socket.send(&bytes).unwrap();
    }

    fn name(&self) -> String {
        self.socket.local_addr().unwrap().to_string()
    }
}

const SECOND: u64 = 1_000_000_000;

#[test]
fn a_crash_a_restart_and_a_goodbye() {
    let watch = Watch::start(&[]);
    let words = ["-i", "0.05", "--local-port", &free_port()];
    let mut client = watch.client(&words);
    let first = watch.wait_for(" up: session 0x");
    assert!(first.ends_with(", every 50 ms"), "{first}");
    client.kill().unwrap();
    client.wait().unwrap();
    let down = watch.lines.recv_timeout(LIMIT).unwrap();
    assert!(down.contains(" down: silent for 0."), "{down}");
    let mut client = watch.client(&words);
    let again = watch.wait_for(" restarted: after ");
    let session =
        |line: &str| line.split("0x").nth(1).unwrap()[..16].to_string();
    assert_ne!(session(&first), session(&again));
    kill(client.id(), libc::SIGINT);
    assert_eq!(client.wait().unwrap().code(), Some(0));
    let goodbye = watch.wait_for(" goodbye: after ");
    // the same client in all of them, and the time before it
    let who = |line: &str| line.split(' ').nth(1).unwrap().to_string();
    assert_eq!(who(&first), who(&goodbye));
    assert_eq!(first.find(' '), Some("18:40:01.250".len()));
    let table = watch.end();
    let row = format!("{:21} goodbye ", who(&first));
    assert!(table.contains(&row), "{table}");
    assert!(!table.contains(" down:"), "who said goodbye is not down");
}

/// A port that was free a moment ago.
fn free_port() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.local_addr().unwrap().port().to_string()
}

#[test]
fn a_client_that_comes_back_is_up_again() {
    let watch = Watch::start(&["--multiplier", "2"]);
    let client = Sender::to(watch.server.address, 7, 100);
    client.send(1, SECOND, false);
    watch.wait_for(" up: session 0x0000000000000007, every 100 ms");
    let down = watch.lines.recv_timeout(LIMIT).unwrap();
    assert!(down.contains(" down: silent for 0.2"), "{down}");
    client.send(9, SECOND + 1, false);
    watch.wait_for(" up: again, after 0.");
    client.send(9, SECOND + 1, true);
    watch.wait_for("goodbye: after 2 heartbeats");
    let table = watch.end();
    assert!(table.contains(&format!("{} .xxxxxxx", client.name())), "{table}");
}

#[test]
fn loss_order_copies_and_clocks_are_told_apart() {
    let watch = Watch::start(&["-v"]);
    let client = Sender::to(watch.server.address, 7, 60_000);
    let stamp = |n: u32| 5_000_000 * SECOND + u64::from(n);
    for n in [1, 2, 4, 3, 3, 4, 7] {
        client.send(n, stamp(n), false);
    }
    // its clock is set, two hours back; and garbage of all sorts
    client.send(8, stamp(8) - 7200 * SECOND, false);
    client.send(9, stamp(9) - 7200 * SECOND, false);
    for garbage in [&b""[..], b"tdHB", &[0; 32], &[0xff; 33], &[0; 2000]] {
        client.socket.send(garbage).unwrap();
    }
    client.send(10, stamp(10) - 7200 * SECOND, false);
    let set = watch.wait_for(" clock set: ");
    assert!(set.ends_with("by -7200000 ms"), "{set}");
    watch.server.wait_for("heartbeat 10");
    let table = watch.end();
    let line = format!("{} ..x.!22xx....", client.name());
    assert!(table.contains(&line), "{line}: {table}");
    let row: Vec<&str> = table
        .lines()
        .find(|l| l.starts_with(&client.name()))
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(row[1..7], ["up", "8", "2", "2", "1", "0"], "{table}");
}

/// Forty in a hundred are lost, never three in a row.
#[test]
fn who_loses_much_is_not_down() {
    let watch = Watch::start(&["--json"]);
    let client = Sender::to(watch.server.address, 7, 400);
    let (mut sent, mut last) = (0, 0);
    for n in 1..=100u32 {
        if matches!(n % 5, 1 | 3 | 4) {
            client.send(n, SECOND, false);
            (sent, last) = (sent + 1, n);
        }
    }
    client.send(100, SECOND, true);
    watch.wait_for("\"goodbye\"");
    let table = watch.end();
    let lost = last - sent + (100 - last);
    assert!(
        table.contains(&format!("\"heard\":{sent},\"lost\":{lost},")),
        "{table}"
    );
    assert!(!table.contains("\"down\""), "{table}");
}

#[test]
fn a_thousand_clients_and_one_too_many() {
    let watch = Watch::start(&["--max-clients", "1000"]);
    let clients: Vec<Sender> =
        (0..=1000).map(|i| Sender::to(watch.server.address, i, 3000)).collect();
    // a hundred at a time, so that none is lost for want of room
    for some in clients[..1000].chunks(100) {
        for client in some {
            client.send(1, SECOND, false);
        }
        for _ in some {
            watch.wait_for(" up: session ");
        }
    }
    for n in 2..=20 {
        for client in &clients[..1000] {
            client.send(n, SECOND, false);
        }
    }
    clients[1000].send(1, SECOND, false);
    watch.server.wait_for("1000 clients: no room for");
    for some in clients[..1000].chunks(100) {
        for client in some {
            client.send(20, SECOND, true);
        }
        for _ in some {
            watch.wait_for(" goodbye: after ");
        }
    }
    // those that have gone make room
    clients[1000].send(2, SECOND, false);
    watch.wait_for(&format!("{} up: ", clients[1000].name()));
    let table = watch.end();
    assert_eq!(table.matches(" goodbye ").count(), 999, "one was forgotten");
    assert!(!table.contains("down"), "{table}");
}

/// A real client, which beats often: no deadline of before is left over.
#[test]
fn who_beats_is_not_down() {
    let watch = Watch::start(&["--multiplier", "4"]);
    let words = ["-i", "0.05", "-c", "25", "--local-port", &free_port()];
    let mut client = watch.client(&words);
    watch.wait_for(" goodbye: after 25 heartbeats");
    assert_eq!(client.wait().unwrap().code(), Some(0));
    let table = watch.end();
    assert!(table.contains(" ........................."), "{table}");
}

/// What waited for us while we were stopped came in time, and what was lost
/// meanwhile is our own loss.
#[test]
fn what_waited_for_us_is_not_late() {
    let watch = Watch::start(&["-v"]);
    let client = Sender::to(watch.server.address, 7, 200);
    let now = || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap().as_nanos() as u64
    };
    client.send(1, now(), false);
    watch.server.wait_for("heartbeat 1");
    watch.server.signal(libc::SIGSTOP);
    client.send(2, now(), false);
    let slept = Command::new("sleep").arg("1").status().unwrap();
    assert!(slept.success());
    watch.server.signal(libc::SIGCONT);
    watch.server.wait_for("nobody is blamed");
    client.send(9, now(), false);
    watch.server.wait_for("heartbeat 9");
    // one octet more is none of them
    client.socket.send(&[b"tdHB\x01".as_slice(), &[1; 28]].concat()).unwrap();
    watch.server.wait_for("no heartbeat");
    client.send(9, now(), true);
    watch.wait_for("goodbye: after 3 heartbeats");
    let table = watch.end();
    assert!(table.contains(&format!("{} ...", client.name())), "{table}");
    let row = table.lines().find(|l| l.contains(" goodbye ")).unwrap();
    let counts: Vec<&str> = row.split_whitespace().skip(2).take(5).collect();
    assert_eq!(counts, ["3", "0", "0", "0", "0"], "{table}");
}

/// A goodbye is said three times; a heartbeat has 32 octets.
#[test]
fn what_a_client_sends() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(LIMIT)).unwrap();
    let port = server.local_addr().unwrap().port().to_string();
    let words =
        ["heartbeat", "-q", "-c", "4", "-i", "0.01", "127.0.0.1", &port];
    let ran = run(&words, "");
    assert_eq!((ran.status, ran.stdout.as_str()), (0, ""));
    let mut all = Vec::new();
    for _ in 0..7 {
        let mut bytes = [0; 64];
        let count = server.recv(&mut bytes).unwrap();
        assert_eq!(count, 32);
        all.push(bytes);
    }
    let numbers: Vec<u8> = all.iter().map(|b| b[19]).collect();
    let goodbyes: Vec<u8> = all.iter().map(|b| b[5]).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 4, 4, 4]);
    assert_eq!(goodbyes, [0, 0, 0, 0, 1, 1, 1]);
    assert!(all.iter().all(|b| b[8..16] == all[0][8..16]), "one session");
}

/// A tool that is held up by whoever does not read its output ends at a
/// second signal.
#[test]
fn who_is_held_up_ends_at_a_second_signal() {
    let server = Server::start("udp-ping-server", &["--loss", "0"]);
    let mut child = Command::new(BINARY)
        .args(["udp-ping", "-c", "100000", "-i", "0.001", "127.0.0.1"])
        .arg(server.port())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let place = format!("/proc/{}/wchan", child.id());
    let began = Instant::now();
    loop {
        let wchan = std::fs::read_to_string(&place).unwrap_or_default();
        if wchan.contains("pipe") || began.elapsed() > LIMIT {
            break;
        }
        thread::yield_now();
    }
    kill(child.id(), libc::SIGINT);
    kill(child.id(), libc::SIGTERM);
    assert!(matches!(child.wait().unwrap().code(), Some(130 | 143)));
}

/// Server and client are stopped for longer than it takes to be down: the
/// machine stood still, and nobody is blamed.
#[test]
fn our_own_standstill_is_nobodys_fault() {
    let watch = Watch::start(&["-v"]);
    let mut client = watch.client(&["-i", "0.1", "--local-port", &free_port()]);
    watch.server.wait_for("heartbeat 3");
    kill(client.id(), libc::SIGSTOP);
    watch.server.signal(libc::SIGSTOP);
    // (a second passes by another process's clock)
    let slept = Command::new("sleep").arg("1").status().unwrap();
    assert!(slept.success());
    watch.server.signal(libc::SIGCONT);
    kill(client.id(), libc::SIGCONT);
    watch.server.wait_for("nobody is blamed");
    watch.server.wait_for("heartbeat 6");
    kill(client.id(), libc::SIGINT);
    client.wait().unwrap();
    watch.wait_for("goodbye: after ");
}

#[test]
fn who_is_not_there_and_who_comes_once() {
    let port = free_port();
    let words = ["heartbeat", "-c", "3", "-i", "0.01", "127.0.0.1", &port];
    let ran = run(&words, "");
    assert_eq!(ran.status, 1, "{}", ran.stdout);
    assert!(ran.stderr.contains("nobody listens there"), "{}", ran.stderr);
    assert!(ran.stdout.ends_with("goodbye after 3\n"), "{}", ran.stdout);
    let mut server = Server::start("heartbeat-server", &["--once"]);
    let port = server.port();
    let words =
        ["heartbeat", "-e", "-c", "2", "-i", "0.01", "127.0.0.1", &port];
    let ran = run(&words, "");
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    for text in ["session number 0x", "time stamp: ", "C: heartbeat 2"] {
        assert!(ran.stderr.contains(text), "{text}: {}", ran.stderr);
    }
    assert_eq!(server.wait(), 0);
}

#[test]
fn json_of_every_event() {
    let watch = Watch::start(&["--json", "--multiplier", "1"]);
    let client = Sender::to(watch.server.address, 7, 50);
    client.send(1, SECOND, false);
    let up = watch.wait_for("\"up\"");
    assert!(up.starts_with("{\"event\":\"up\",\"client\":\"127.0.0.1:"));
    assert!(up.contains("\"interval_ms\":50}"), "{up}");
    let down = watch.wait_for("\"down\"");
    assert!(down.contains(",\"silence_ms\":"), "{down}");
    client.send(2, SECOND, true);
    watch.wait_for("\"goodbye\"");
    let table = watch.end();
    assert!(table.contains("\"state\":\"goodbye\""), "{table}");
}
