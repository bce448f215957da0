//! An acknowledged message is on the disk: `kill -9` under load, a full
//! disk, and what many odd conversations leave behind.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::harness::{
    BINARY, Folder, LIMIT, Server, have, random, read_all, skip,
};
use crate::mail_server::messages;

/// A client in lockstep: a command, its reply.
struct Client {
    socket: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: SocketAddr) -> Option<Client> {
        let socket = TcpStream::connect(address).ok()?;
        socket.set_read_timeout(Some(LIMIT)).ok()?;
        socket.set_nodelay(true).ok()?;
        let reader = BufReader::new(socket.try_clone().ok()?);
        let mut client = Client { socket, reader };
        client.reply().filter(|line| line.starts_with("220"))?;
        client.ask("HELO crepes.fr\r\n")?;
        Some(client)
    }

    fn reply(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.reader.read_line(&mut line).ok()?;
        (count > 0 && line.ends_with("\r\n")).then_some(line)
    }

    fn ask(&mut self, text: &str) -> Option<String> {
        self.socket.write_all(text.as_bytes()).ok()?;
        self.reply()
    }

    /// One message; its reply.
    fn send(&mut self, text: &str) -> Option<String> {
        self.ask("MAIL FROM:<a@b>\r\n")?;
        self.ask("RCPT TO:<c@d>\r\n")?;
        self.ask("DATA\r\n").filter(|line| line.starts_with("354"))?;
        self.ask(&format!("{text}.\r\n"))
    }
}

/// A message with its name at its start and at its end.
fn named(name: &str, lines: usize) -> String {
    let text = "x".repeat(70) + "\r\n";
    format!("begin {name}\r\n{}end {name}\r\n", text.repeat(lines))
}

/// The name of a whole message; anything else is a fault.
fn name_of(message: &str) -> String {
    let start = message.find("begin ").unwrap() + 6;
    let name = message[start..].lines().next().unwrap();
    let number: usize = name.rsplit('-').next().unwrap().parse().unwrap();
    let whole = named(name, number % 100).replace("\r\n", "\n");
    assert_eq!(&message[start - 6..], whole);
    name.to_string()
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    const ROUNDS: usize = 50;
    const CLIENTS: usize = 8;
    let folder = Folder::new();
    let acknowledged = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
    for round in 0..ROUNDS {
        let server = Server::start_in(&folder.0, "mail-server", &["-q"]);
        let address = server.address;
        let before = acknowledged.0.lock().unwrap().len();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let acknowledged = acknowledged.clone();
                thread::spawn(move || {
                    let Some(mut connection) = Client::connect(address) else {
                        return;
                    };
                    for number in 0.. {
                        let name = format!("{round}-{client}-{number}");
                        let text = named(&name, number % 100);
                        match connection.send(&text) {
                            Some(reply) if reply.starts_with("250 ") => {}
                            _ => return,
                        }
                        acknowledged.0.lock().unwrap().push(name);
                        acknowledged.1.notify_all();
                    }
                })
            })
            .collect();
        // sooner or later
        let enough = before + 10 + round * 3;
        let mut lock = acknowledged.0.lock().unwrap();
        while lock.len() < enough {
            let (next, waited) =
                acknowledged.1.wait_timeout(lock, LIMIT).unwrap();
            assert!(!waited.timed_out(), "no mail is taken");
            lock = next;
        }
        drop(lock);
        server.signal(libc::SIGKILL);
        for client in clients {
            client.join().unwrap();
        }
    }
    let mut found = HashMap::new();
    for message in messages(&folder.0.join("Maildir")) {
        *found.entry(name_of(&message)).or_insert(0) += 1;
    }
    let acknowledged = acknowledged.0.lock().unwrap();
    assert!(acknowledged.len() >= ROUNDS * 10);
    for name in acknowledged.iter() {
        assert_eq!(found.get(name), Some(&1), "{name}");
    }
    assert!(found.values().all(|count| *count == 1), "none is there twice");
}

#[test]
fn a_message_is_synced_before_it_is_acknowledged() {
    if !have("strace") {
        return;
    }
    let folder = Folder::new();
    let log = folder.path("log");
    let mut command = Command::new("strace");
    let calls = "trace=openat,write,fsync,rename,sendto";
    command.args(["-f", "-qq", "-s", "60", "-e", calls, "-o", &log, BINARY]);
    command.args(["mail-server", "-q", "--once", "-l", "0"]);
    command.current_dir(&folder.0);
    let mut server = Server::spawn(command);
    let mut client = Client::connect(server.address).unwrap();
    assert!(client.send("hi\r\n").unwrap().starts_with("250 "));
    client.ask("QUIT\r\n").unwrap();
    assert_eq!(server.wait(), 0);
    let log = fs::read_to_string(log).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    let at = |start: usize, wanted: &str| {
        let found = lines.iter().skip(start).position(|l| l.contains(wanted));
        start + found.unwrap_or_else(|| panic!("no {wanted}: {log}"))
    };
    let descriptor =
        |line: &str| line.rsplit(" = ").next().unwrap().to_string();
    let directory = descriptor(lines[at(0, "Maildir/new\"")]);
    let opened = at(0, "Maildir/tmp/");
    let file = descriptor(lines[opened]);
    let written = at(opened, &format!("write({file}, \"Return-Path"));
    let synced = at(written, &format!("fsync({file}"));
    let renamed = at(synced, "rename(");
    let committed = at(renamed, &format!("fsync({directory}"));
    at(committed, "250 Message accepted");
}

/// May this user have a name space of her own?
pub fn may_unshare() -> bool {
    if !have("unshare") {
        return false;
    }
    let tried = Command::new("unshare")
        .args(["-Urm", "mount", "-t", "tmpfs", "none", "/mnt"])
        .stderr(Stdio::null())
        .status();
    let may = tried.is_ok_and(|status| status.success());
    if !may {
        skip("user name spaces are not allowed");
    }
    may
}

/// A server whose Maildir lies on a small file system of its own, and where
/// that is seen from outside.
fn on_a_small_disk(
    folder: &Folder,
    size: &str,
    more: &str,
) -> (Server, PathBuf) {
    let disk = folder.path("disk");
    fs::create_dir(&disk).unwrap();
    let script = format!(
        "mount -t tmpfs -o size={size} none {disk} && \
         exec {BINARY} mail-server -q -l 0 --maildir {disk}/m {more}"
    );
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", &script]);
    let server = Server::spawn(command);
    let root = format!("/proc/{}/root{disk}/m", server.child.id());
    (server, root.into())
}

/// Sends more than there is room for, by several clients at once: the names
/// that were acknowledged, and how many were refused for want of room.
fn fill(address: SocketAddr) -> (Vec<String>, usize) {
    let clients: Vec<_> = (0..6)
        .map(|who| {
            thread::spawn(move || {
                let mut client = Client::connect(address).unwrap();
                let (mut acknowledged, mut refused) = (Vec::new(), 0);
                // small ones, and some longer than what is held in memory
                for number in 0..20 {
                    let name = format!("full-{who}-{number}");
                    let mut text = named(&name, number % 100);
                    if number % 10 == 9 {
                        let long = ("y".repeat(70) + "\r\n").repeat(3000);
                        text.insert_str(0, &long);
                    }
                    let reply = client.send(&text).unwrap();
                    match &reply[..4] {
                        "250 " => acknowledged.push(name),
                        "452 " => refused += 1,
                        _ => panic!("{reply}"),
                    }
                }
                (acknowledged, refused)
            })
        })
        .collect();
    let all = clients.into_iter().map(|client| client.join().unwrap());
    all.fold((Vec::new(), 0), |(mut names, count), (more, refused)| {
        names.extend(more);
        (names, count + refused)
    })
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing_behind() {
    if !may_unshare() {
        return;
    }
    let folder = Folder::new();
    let (server, maildir) = on_a_small_disk(&folder, "400k", "");
    let (acknowledged, refused) = fill(server.address);
    assert!(refused > 5 && acknowledged.len() > 5, "{refused} refused");
    let kept = messages(&maildir);
    assert_eq!(kept.len(), acknowledged.len());
    for name in &acknowledged {
        let here = kept.iter().filter(|m| m.contains(&format!("end {name}\n")));
        assert_eq!(here.count(), 1, "{name}");
    }
    assert_eq!(fs::read_dir(maildir.join("tmp")).unwrap().count(), 0);
    // and the server goes on, when there is room again
    for file in fs::read_dir(maildir.join("new")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    let mut client = Client::connect(server.address).unwrap();
    assert!(client.send("hi\r\n").unwrap().starts_with("250 "));
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind() {
    let folder = Folder::new();
    let server = Server::start_in(&folder.0, "mail-server", &["-q"]);
    for lines in [1, 5000] {
        let mut client = Client::connect(server.address).unwrap();
        client.ask("MAIL FROM:<a@b>\r\n").unwrap();
        client.ask("RCPT TO:<c@d>\r\n").unwrap();
        client.ask("DATA\r\n").unwrap();
        let text = named("gone-0", lines);
        client.socket.write_all(text.as_bytes()).unwrap();
        let _ = client.socket.shutdown(std::net::Shutdown::Write);
        read_all(&mut client.socket);
    }
    let count = |part| {
        fs::read_dir(folder.0.join("Maildir").join(part)).unwrap().count()
    };
    assert_eq!((count("tmp"), count("new")), (0, 0));
}

/// Resident memory in KiB, and open descriptors.
fn footprint(server: &Server) -> (usize, usize) {
    let pid = server.child.id();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    let memory = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    (memory, fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count())
}

#[test]
fn odd_conversations_cost_nothing_for_good() {
    let good = "EHLO crepes.fr\r\nMAIL FROM:<a@b> SIZE=10 BODY=8BITMIME\r\n\
                RCPT TO:<\"c d\"@[127.0.0.1]>\r\nDATA\r\nSubject: x\r\n\r\n\
                ..hi\r\n.\r\nRSET\r\nVRFY x\r\nQUIT\r\n";
    let folder = Folder::new();
    let server = Server::start_in(&folder.0, "mail-server", &["--discard"]);
    let mut below = random(4711);
    let mut round = |count: usize| {
        for _ in 0..count {
            let mut bytes = good.as_bytes().to_vec();
            for _ in 0..=below(4) {
                let at = below(bytes.len());
                let spice = b"\r\n\0 .<>@:\"\xff"[below(11)];
                match below(4) {
                    0 => bytes[at] = spice,
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, spice),
                    _ => bytes.truncate(at.max(20)),
                }
            }
            let text = server.dialogue(&bytes);
            for line in text.split_terminator("\r\n") {
                let code = line.as_bytes();
                let legal = code.len() > 3
                    && matches!(code[0], b'2'..=b'5')
                    && code[..3].iter().all(u8::is_ascii_digit)
                    && matches!(code[3], b' ' | b'-');
                assert!(legal, "{text}: {bytes:?}");
            }
        }
    };
    round(300);
    let (memory, descriptors) = footprint(&server);
    round(1500);
    // (the last connections' threads may still be closing)
    let start = std::time::Instant::now();
    let (mut later, mut now) = footprint(&server);
    while now > descriptors && start.elapsed() < LIMIT {
        (later, now) = footprint(&server);
    }
    assert!(later < memory + 2048, "{memory} KiB became {later}");
    assert!(now <= descriptors, "{descriptors} became {now}");
}
