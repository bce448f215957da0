//! `dns-lookup` against name servers of the test's own, and dnsmasq.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::harness::{Folder, LIMIT, Ran, have, run};

/// A name server on a free port of UDP and TCP: `answer` makes from a query
/// the datagrams to send back; over TCP the first of them.
struct NameServer {
    port: String,
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
}

type Answer = dyn Fn(&[u8], bool) -> Vec<Vec<u8>> + Send + Sync;

impl NameServer {
    fn new(
        answer: impl Fn(&[u8], bool) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> NameServer {
        let answer: Arc<Answer> = Arc::new(answer);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let socket = UdpSocket::bind(address).unwrap();
        let asked = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let (seen, over_udp) = (asked.clone(), answer.clone());
        thread::spawn(move || {
            let mut bytes = [0; 1500];
            while let Ok((count, from)) = socket.recv_from(&mut bytes) {
                seen.lock().unwrap().push(bytes[..count].to_vec());
                for datagram in over_udp(&bytes[..count], false) {
                    let _ = socket.send_to(&datagram, from);
                }
            }
        });
        thread::spawn(move || {
            for mut socket in listener.incoming().map_while(Result::ok) {
                let _ = socket.set_read_timeout(Some(LIMIT));
                let mut length = [0; 2];
                socket.read_exact(&mut length).unwrap();
                let mut query = vec![0; u16::from_be_bytes(length).into()];
                socket.read_exact(&mut query).unwrap();
                if let Some(reply) = answer(&query, true).first() {
                    let length = (reply.len() as u16).to_be_bytes();
                    // in two pieces
                    let _ = socket.write_all(&length);
                    let _ = socket.write_all(reply);
                }
            }
        });
        NameServer { port: address.port().to_string(), asked }
    }

    fn look_up(&self, words: &[&str]) -> Ran {
        let start = ["dns-lookup", "-p", &self.port, "-W", "2", "--tries", "1"];
        run(&[&start, words, &["@127.0.0.1"]].concat(), "")
    }
}

/// The answer to a query: its flags, and records (type, TTL 60, data) of the
/// name that was asked for.
fn reply(query: &[u8], flags: u16, records: &[(u16, &[u8])]) -> Vec<u8> {
    let question = 12 + query[12..].iter().position(|b| *b == 0).unwrap() + 5;
    let mut bytes = query[..2].to_vec();
    for field in [0x8180 | flags, 1, records.len() as u16, 0, 0] {
        bytes.extend(field.to_be_bytes());
    }
    bytes.extend(&query[12..question]);
    for (kind, data) in records {
        bytes.extend(0xc00c_u16.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1, 0, 0, 0, 60]);
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(*data);
    }
    bytes
}

#[test]
fn every_type_as_master_files_have_it() {
    let server = NameServer::new(|query, _| {
        let end = 12 + query[12..].iter().position(|b| *b == 0).unwrap();
        let kind = u16::from_be_bytes([query[end + 1], query[end + 2]]);
        let data: &[u8] = match kind {
            1 => &[192, 0, 2, 1],
            28 => &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            15 => b"\0\x0a\x04mail\xc0\x0c",
            2 | 5 | 12 => b"\x02ns\xc0\x0c",
            6 => {
                b"\x02ns\xc0\x0c\x01h\xc0\x0c\0\0\0\x01\0\0\0\x02\0\0\0\x03\
                \0\0\0\x04\0\0\0\x05"
            }
            16 => b"\x05a \"b\x1b\x02cd",
            33 => b"\0\x01\0\x02\x01\xbb\x01s\xc0\x0c",
            _ => &[1, 2, 255],
        };
        vec![reply(query, 0, &[(kind, data)])]
    });
    for (kind, data) in [
        ("A", "192.0.2.1"),
        ("AAAA", "2001:db8::1"),
        ("mx", "10 mail.example.com."),
        ("NS", "ns.example.com."),
        ("CNAME", "ns.example.com."),
        ("SOA", "ns.example.com. h.example.com. 1 2 3 4 5"),
        ("TXT", "\"a \\\"b\\027\" \"cd\""),
        ("SRV", "1 2 443 s.example.com."),
        ("TYPE65", "\\# 3 0102ff"),
    ] {
        let ran = server.look_up(&["example.com", kind]);
        let name = kind.to_ascii_uppercase();
        let expected = format!("example.com. 60 IN {name} {data}\n");
        assert_eq!((ran.status, ran.stdout), (0, expected), "{}", ran.stderr);
    }
    let ran = server.look_up(&["-x", "192.0.2.7"]);
    let start = "7.2.0.192.in-addr.arpa. 60 IN PTR ns.";
    assert!(ran.stdout.starts_with(start), "{}", ran.stdout);
    let ran = server.look_up(&["-x", "2001:db8::1"]);
    assert!(ran.stdout.starts_with("1.0.0.0.0.0.0.0.0.0.0.0."));
    assert!(ran.stdout.contains(".8.b.d.0.1.0.0.2.ip6.arpa. 60 IN PTR"));
    // recursion desired, EDNS, a number of its own each time
    let asked = server.asked.lock().unwrap();
    assert!(asked.iter().all(|q| q[2..6] == [1, 0, 0, 1] && q[11] == 1));
    let mut ids: Vec<&[u8]> = asked.iter().map(|q| &q[..2]).collect();
    ids.sort();
    ids.dedup();
    assert!(ids.len() >= asked.len() - 1, "{ids:?}");
}

#[test]
fn no_such_name_no_such_record_and_failure_are_three_things() {
    for (flags, status, words) in [
        (3, 1, "there is no name x.example. (NXDOMAIN)"),
        (0, 1, "x.example. exists, but has no MX"),
        (2, 2, "the server could not find out (SERVFAIL)"),
        (5, 2, "the server does not want to say (REFUSED)"),
    ] {
        let server =
            NameServer::new(move |query, _| vec![reply(query, flags, &[])]);
        let ran = server.look_up(&["x.example", "MX"]);
        assert_eq!(ran.status, status);
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn only_the_answer_to_the_question_counts() {
    let server = NameServer::new(|query, _| {
        let good = reply(query, 0, &[(1, &[192, 0, 2, 1])]);
        let evil = reply(query, 0, &[(1, &[203, 0, 113, 66])]);
        let changed = |at: usize, to: u8| {
            let mut bytes = evil.clone();
            bytes[at] = to;
            bytes
        };
        vec![
            changed(0, !query[0]), // another number
            changed(2, 0x01),      // a query
            changed(13, b'y'),     // another name
            changed(26, 28),       // another type
            changed(2, 0x91),      // another opcode
            b"junk".to_vec(),
            good,
        ]
    });
    let ran = server.look_up(&["example.com"]);
    assert_eq!(ran.stdout, "example.com. 60 IN A 192.0.2.1\n");
}

#[test]
fn what_does_not_fit_comes_over_tcp() {
    let server = NameServer::new(|query, tcp| match tcp {
        false => vec![reply(query, 0x0200, &[])[..20].to_vec()],
        true => {
            let data = [1, 2, 3, 4];
            vec![reply(query, 0, &[(1, &data[..]); 200])]
        }
    });
    let ran = server.look_up(&["-e", "example.com"]);
    assert_eq!(ran.stdout.lines().count(), 200, "{}", ran.stderr);
    assert!(ran.stderr.contains("TC is set"));
    assert!(
        ran.stderr.contains("| answer RRs 200")
            || ran.stderr.contains("answer RRs 200")
    );
    // and so it does when that is asked for
    let ran = server.look_up(&["--tcp", "example.com"]);
    assert_eq!(ran.stdout.lines().count(), 200);
}

#[test]
fn a_server_without_edns_is_asked_without() {
    let server = NameServer::new(|query, _| match query[11] {
        1 => vec![reply(query, 1, &[])],
        _ => vec![reply(query, 0, &[(1, &[192, 0, 2, 1])])],
    });
    let ran = server.look_up(&["example.com"]);
    assert_eq!(ran.stdout, "example.com. 60 IN A 192.0.2.1\n");
}

#[test]
fn silence_and_pointers_in_circles_end() {
    let silent = NameServer::new(|_, _| Vec::new());
    let ran = run(
        &[
            "dns-lookup",
            "-p",
            &silent.port,
            "-W",
            "0.2",
            "--tries",
            "2",
            "x.example",
            "@127.0.0.1",
        ],
        "",
    );
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("no answer in time"), "{}", ran.stderr);
    assert_eq!(silent.asked.lock().unwrap().len(), 2);
    let circle = NameServer::new(|query, _| {
        let mut bytes = reply(query, 0, &[(5, &[0xc0, 0])]);
        let at = bytes.len() - 1;
        bytes[at] = (at - 1) as u8;
        vec![bytes]
    });
    let start = ["dns-lookup", "-p", &circle.port, "-W", "0.3", "--tries", "1"];
    let ran = run(&[&start[..], &["x.example", "@127.0.0.1"]].concat(), "");
    assert_eq!(ran.status, 2, "{ran:?}");
}

#[test]
fn the_files_of_the_system_are_read() {
    let good = NameServer::new(|query, _| {
        vec![reply(query, 0, &[(1, &[192, 0, 2, 1])])]
    });
    let folder = Folder::new();
    // the first server fails, the second answers
    let text = "# mine\nnameserver 127.0.0.9\nnameserver 127.0.0.1\n\
        options timeout:1 attempts:1\n";
    let file = folder.file("resolv.conf", text);
    let file = file.to_str().unwrap();
    let words = ["dns-lookup", "--resolv-conf", file, "-p", &good.port];
    let ran = run(&[&words[..], &["example.com"]].concat(), "");
    assert_eq!(
        ran.stdout, "example.com. 60 IN A 192.0.2.1\n",
        "{}",
        ran.stderr
    );
    // /etc/hosts knows this one, unless a server is named
    let ran = run(&[&words[..], &["localhost"]].concat(), "");
    assert_eq!(ran.stdout, "localhost. 0 IN A 127.0.0.1\n");
    let ran = good.look_up(&["localhost"]);
    assert_eq!(ran.stdout, "localhost. 60 IN A 192.0.2.1\n");
}

fn ask_dnsmasq(port: &str, words: &[&str]) -> Ran {
    let start = ["dns-lookup", "-p", port, "-W", "1", "--tries", "5"];
    run(&[&start, words, &["@127.0.0.1"]].concat(), "")
}

/// Its port, and the process, once it answers.
fn start_dnsmasq() -> Option<(String, Child)> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    drop(socket);
    let mut command = Command::new("dnsmasq");
    command.args(["-k", "-C", "/dev/null", "--no-resolv", "--no-hosts"]);
    command.args(["--user=root", "--listen-address=127.0.0.1"]);
    command.args(["--bind-interfaces", "--pid-file=", "-p", &port]);
    command.args([
        "--host-record=www.example.test,192.0.2.1,2001:db8::1",
        "--cname=alias.example.test,www.example.test",
        "--mx-host=example.test,mail.example.test,10",
        "--mx-host=example.test,backup.example.test,20",
        "--txt-record=example.test,hello,wörld",
        "--local=/example.test/",
    ]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut dnsmasq = command.spawn().unwrap();
    while dnsmasq.try_wait().unwrap().is_none() {
        if ask_dnsmasq(&port, &["www.example.test"]).status == 0 {
            return Some((port, dnsmasq));
        }
    }
    None
}

#[test]
fn dnsmasq_answers() {
    if !have("dnsmasq") {
        return;
    }
    // a free port may be another's by the time that dnsmasq takes it
    let started = (0..5).find_map(|_| start_dnsmasq());
    let (port, mut dnsmasq) = started.expect("dnsmasq does not come up");
    let look_up = |words: &[&str]| ask_dnsmasq(&port, words);
    let alias = look_up(&["alias.example.test"]);
    let mail = look_up(&["example.test", "MX"]);
    let text = look_up(&["example.test", "TXT"]);
    let six = look_up(&["--tcp", "www.example.test", "AAAA"]);
    let nobody = look_up(&["nobody.example.test"]);
    let _ = dnsmasq.kill();
    let _ = dnsmasq.wait();
    let lines: Vec<&str> = alias.stdout.lines().collect();
    assert!(lines[0].contains(" IN CNAME www.example.test."), "{alias:?}");
    assert!(lines[1].ends_with(" IN A 192.0.2.1"), "{alias:?}");
    assert!(mail.stdout.contains(" IN MX 10 mail.example.test.\n"));
    assert!(mail.stdout.contains(" IN MX 20 backup.example.test.\n"));
    assert!(text.stdout.contains("\"hello\" \"w\\195\\182rld\""), "{text:?}");
    assert!(six.stdout.ends_with(" IN AAAA 2001:db8::1\n"), "{six:?}");
    assert_eq!(nobody.status, 1, "{nobody:?}");
}

#[test]
fn questions_that_cannot_be_asked() {
    for (words, text) in [
        (&["dns-lookup"][..], "NAME is missing"),
        (&["dns-lookup", "a", "NOTYPE"], "no type 'NOTYPE'"),
        (&["dns-lookup", "a", "MX", "b"], "surplus operand 'b'"),
        (&["dns-lookup", "a..b"], "a label is empty"),
        (&["dns-lookup", "ä.de"], "A-label"),
        (&["dns-lookup", "-x", "a"], "no address 'a'"),
        (&["dns-lookup", "a", "@"], "@SERVER: whom?"),
    ] {
        let ran = run(words, "");
        assert_eq!(ran.status, 2);
        assert!(ran.stderr.contains(text), "{}", ran.stderr);
    }
}
