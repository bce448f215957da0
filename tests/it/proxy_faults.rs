//! The proxy when things break: origins and clients that go, a kill in the
//! middle, a full disk, a crowd, and answers that make no sense.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::harness::{
    BINARY, Folder, LIMIT, Origin, Server, answer, have, read_all,
    read_response, run_command,
};

fn proxy(more: &[&str]) -> Server {
    Server::start("web-proxy", &[&["-q"], more].concat())
}

fn request(origin: &Origin, path: &str) -> String {
    let url = origin.url(path);
    format!("GET {url} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
}

fn get(proxy: &Server, origin: &Origin, path: &str) -> String {
    proxy.dialogue(request(origin, path))
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// A number from /proc/PID/status.
fn status(server: &Server, name: &str) -> u64 {
    let file = format!("/proc/{}/status", server.child.id());
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find(|l| l.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn descriptors(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap().count()
}

#[test]
fn an_origin_that_dies_in_mid_body_breaks_it_for_all_who_wait() {
    for cut in [
        "Content-Length: 500000\r\n\r\nfirst",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
    ] {
        let (die, wait) = channel::<()>();
        let wait = Mutex::new(wait);
        let origin = Origin::new(move |_, socket| {
            let text = format!(
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{cut}"
            );
            socket.write_all(text.as_bytes()).unwrap();
            let _ = wait.lock().unwrap().recv_timeout(LIMIT);
            false
        });
        let proxy = proxy(&[]);
        let clients: Vec<TcpStream> = (0..10)
            .map(|_| {
                let mut client = proxy.connect();
                client.write_all(request(&origin, "/").as_bytes()).unwrap();
                let mut reader = BufReader::new(client.try_clone().unwrap());
                let mut byte = [0];
                let mut got = Vec::new();
                while !got.ends_with(b"first") {
                    reader.read_exact(&mut byte).unwrap();
                    got.push(byte[0]);
                }
                client
            })
            .collect();
        for _ in 0..10 {
            let _ = die.send(());
        }
        for mut client in clients {
            let rest = read_all(&mut client);
            assert!(!rest.contains("0\r\n\r\n"), "{rest}");
        }
        assert_eq!(origin.count(), 1);
    }
}

#[test]
fn a_reader_of_a_byte_at_a_time_holds_up_nobody() {
    let large = "x".repeat(3_000_000);
    let text = answer("200 OK", "Cache-Control: max-age=60\r\n", &large);
    let origin = Origin::same(text);
    let proxy = proxy(&[]);
    // the leader reads a byte, and then nothing
    let mut slow = proxy.connect();
    slow.write_all(request(&origin, "/").as_bytes()).unwrap();
    slow.read_exact(&mut [0]).unwrap();
    for _ in 0..3 {
        assert_eq!(body(&get(&proxy, &origin, "/")).len(), large.len());
    }
    assert_eq!(origin.count(), 1);
    // and gets all of it in the end
    assert!(read_all(&mut slow).len() > large.len());
}

#[test]
fn too_long_for_the_store_it_streams_to_all_in_bounded_memory() {
    // 40 MB in chunks, with room for 1 MB in the store
    let piece = "y".repeat(0x10000);
    let origin = Origin::new(move |_, socket| {
        let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\
            Transfer-Encoding: chunked\r\n\r\n";
        socket.write_all(head.as_bytes()).unwrap();
        let chunk = format!("10000\r\n{piece}\r\n");
        for _ in 0..640 {
            if socket.write_all(chunk.as_bytes()).is_err() {
                return false;
            }
        }
        socket.write_all(b"0\r\n\r\n").is_ok()
    });
    let proxy = proxy(&["--cache-size", "8M"]);
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let mut client = proxy.connect();
            client.write_all(request(&origin, "/").as_bytes()).unwrap();
            thread::spawn(move || {
                let text = read_all(&mut client);
                assert!(text.ends_with("\r\n0\r\n\r\n"));
                text.matches('y').count()
            })
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), 640 * 0x10000);
    }
    let peak = status(&proxy, "VmHWM:");
    assert!(peak < 60_000, "{peak} KiB");
}

#[test]
fn who_stalls_is_cut_off_when_others_wait_for_it() {
    let piece = "y".repeat(0x10000);
    let origin = Origin::new(move |_, socket| {
        let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\r\n";
        socket.write_all(head.as_bytes()).unwrap();
        for _ in 0..200 {
            if socket.write_all(piece.as_bytes()).is_err() {
                return false;
            }
        }
        false
    });
    let proxy = proxy(&["--cache-size", "1M"]);
    let mut stalled = proxy.connect();
    stalled.write_all(request(&origin, "/").as_bytes()).unwrap();
    stalled.read_exact(&mut [0]).unwrap();
    let mut other = proxy.connect();
    other.write_all(request(&origin, "/").as_bytes()).unwrap();
    let text = read_all(&mut other);
    assert_eq!(text.matches('y').count(), 200 * 0x10000);
    let cut = read_all(&mut stalled);
    assert!(origin.count() > 1 || !cut.ends_with("\r\n0\r\n\r\n"));
}

#[test]
fn five_hundred_clients_at_once() {
    let origin = Origin::new(|asked, socket| {
        let fields = match asked.contains("/stored") {
            true => "Cache-Control: max-age=60\r\n",
            false => "Cache-Control: no-store\r\n",
        };
        socket.write_all(answer("200 OK", fields, "hello").as_bytes()).is_ok()
    });
    let proxy = proxy(&[]);
    let clients: Vec<TcpStream> = (0..500)
        .map(|i| {
            let mut client = proxy.connect();
            let path = if i % 2 == 0 { "/stored" } else { "/own" };
            client.write_all(request(&origin, path).as_bytes()).unwrap();
            client
        })
        .collect();
    for mut client in clients {
        assert_eq!(body(&read_all(&mut client)), "hello");
    }
    let stored =
        origin.asked().iter().filter(|a| a.contains("/stored")).count();
    assert_eq!(stored, 1);
}

#[test]
fn killed_under_load_it_finds_whole_objects_again() {
    let origin = Origin::new(|asked, socket| {
        let path = asked.split(' ').nth(1).unwrap().repeat(2000);
        let fields = "Cache-Control: max-age=600\r\n";
        socket.write_all(answer("200 OK", fields, &path).as_bytes()).is_ok()
    });
    let folder = Folder::new();
    let directory = folder.path("cache");
    for round in 0..3 {
        let mut proxy = proxy(&["--cache-dir", &directory]);
        let stop = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicU32::new(0));
        let address = proxy.address;
        let loads: Vec<_> = (0..8)
            .map(|i| {
                let (stop, served) = (stop.clone(), served.clone());
                let host = origin.address;
                thread::spawn(move || {
                    for j in 0.. {
                        if stop.load(SeqCst) {
                            return;
                        }
                        let Ok(mut client) = TcpStream::connect(address) else {
                            return;
                        };
                        let path = format!("/r{round}-{i}-{}", j % 50);
                        let request =
                            format!("GET http://{host}{path} HTTP/1.0\r\n\r\n");
                        let _ = client.write_all(request.as_bytes());
                        let text = read_all(&mut client);
                        if text.len() > 2000 * path.len() {
                            assert!(text.ends_with(&path.repeat(2000)));
                            served.fetch_add(1, SeqCst);
                        }
                    }
                })
            })
            .collect();
        while served.load(SeqCst) < 300 {
            thread::yield_now();
        }
        proxy.child.kill().unwrap();
        proxy.child.wait().unwrap();
        stop.store(true, SeqCst);
        for load in loads {
            load.join().unwrap();
        }
        // whatever is served now is whole; and some of it is from the disk
        let again =
            Server::start("web-proxy", &["-q", "--cache-dir", &directory]);
        let asked = origin.count();
        for i in 0..8 {
            for j in 0..50 {
                let path = format!("/r{round}-{i}-{j}");
                let response = get(&again, &origin, &path);
                assert_eq!(body(&response), path.repeat(2000));
            }
        }
        assert!(origin.count() - asked < 400, "nothing was found again");
    }
}

/// Can name spaces be made here? If not, the test is skipped, and says so.
fn may_unshare(words: &[&str]) -> bool {
    let mut command = Command::new("unshare");
    command.args(words);
    let possible = run_command(command, "").status == 0;
    if !possible {
        let line = "skipped: no name spaces of one's own here\n";
        let _ = fs::File::options()
            .append(true)
            .open("/dev/stderr")
            .and_then(|mut stderr| stderr.write_all(line.as_bytes()));
    }
    possible
}

#[test]
fn clients_of_other_machines_are_not_led_inside() {
    // processes of their own, too: whatever happens, they end with the shell
    let unshare = ["-Urnpf", "--kill-child"];
    let first = ["ip", "link", "set", "lo", "up"];
    if !have("ip") || !may_unshare(&[&unshare[..], &first].concat()) {
        return;
    }
    // a network with one more address, from which a client is no local one
    let script = r#"
        ip link set lo up; ip addr add 192.0.2.1/32 dev lo; B=$0
        start() { "$B" "$@" >/dev/null 2>&1 & }
        start web-server -q -l 127.0.0.1:6789 www
        start web-server -q -l 192.0.2.1:6790 www
        start web-proxy -q -l 192.0.2.1:8888 --allow 192.0.2.0/24
        start web-proxy -q -l 192.0.2.1:8889 --allow 198.51.100.0/24
        start web-proxy -q -l '[::]:8890' --allow 192.0.2.1
        for a in 127.0.0.1:6789 192.0.2.1:6790 192.0.2.1:8888 \
            192.0.2.1:8889 192.0.2.1:8890; do
          for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
            "$B" web-client -I http://$a/ >/dev/null 2>&1
            [ $? = 2 ] || break
            sleep 0.1
          done
        done
        ask() { "$B" web-client -W 5 -i -x "$@" 2>&1 | head -1; }
        ask http://192.0.2.1:8888 http://192.0.2.1:6790/
        ask http://192.0.2.1:8888 http://127.0.0.1:6789/
        ask http://192.0.2.1:8888 http://0.0.0.0:6789/
        ask http://192.0.2.1:8889 http://192.0.2.1:6790/
        ask http://192.0.2.1:8890 'http://[::1]:8890/'
        ask 'http://[::1]:8890' 'http://[::ffff:192.0.2.1]:8890/'"#;
    let mut command = Command::new("unshare");
    command.args(unshare).args(["sh", "-c", script, BINARY]);
    command.env_remove("http_proxy");
    let ran = run_command(command, "");
    let statuses: Vec<&str> =
        ran.stdout.lines().filter_map(|l| l.get(9..12)).collect();
    let expected = ["200", "403", "403", "403", "508", "508"];
    assert_eq!(statuses, expected, "{ran:?}");
}

#[test]
fn a_full_disk_is_said_once_and_serving_goes_on() {
    // a small file system of the test's own, in name spaces of its own
    let folder = Folder::new();
    let mount = folder.path("small");
    fs::create_dir(&mount).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=64k none {mount} && exec {BINARY} web-proxy \
         -q -l 0 --cache-dir {mount}"
    );
    if !may_unshare(&["-Urm", "mount", "-t", "tmpfs", "none", &mount]) {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", &script]);
    let proxy = Server::spawn(command);
    let large = "x".repeat(20_000);
    let fields = "Cache-Control: max-age=60\r\n";
    let origin = Origin::same(answer("200 OK", fields, &large));
    for i in 0..10 {
        assert_eq!(body(&get(&proxy, &origin, &format!("/{i}"))), large);
    }
    let said = proxy.wait_for("write to the cache");
    assert!(said.contains("No space left on device"), "{said}");
    // the first fitted, and are still there
    let asked = origin.count();
    assert_eq!(body(&get(&proxy, &origin, "/0")), large);
    assert_eq!(origin.count(), asked);
    proxy.signal(libc::SIGTERM);
    assert!(!proxy.rest().iter().any(|l| l.contains("write to the cache")));
}

#[test]
fn nonsense_from_an_origin_is_never_passed_on_as_sense() {
    let good: [&[u8]; 3] = [
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"x\"\r\n\
          Content-Length: 10\r\n\r\n0123456789",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
          5\r\n01234\r\n5;x=\"y\"\r\n56789\r\n0\r\nX-T: 1\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nVary: a\r\nAge: 5\r\nExpires: 0\r\n\r\n0123456789",
    ];
    let seed = AtomicU32::new(1);
    let origin = Origin::new(move |_, socket| {
        let number = seed.fetch_add(1, SeqCst);
        let mut random = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut below = |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % bound as u64) as usize
        };
        let mut bytes = good[below(3)].to_vec();
        for _ in 0..=below(3) {
            let at = below(bytes.len());
            match below(4) {
                0 => bytes[at] = b"\r\n\0 \t:;,-0aF\x7f\xff\""[below(15)],
                1 => _ = bytes.remove(at),
                2 => bytes.insert(at, b"\r\n :0"[below(5)]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let _ = socket.write_all(&bytes);
        false
    });
    let proxy = proxy(&["-W", "5"]);
    let threads: Vec<_> = (0..4)
        .map(|thread_number| {
            let (address, host) = (proxy.address, origin.address);
            thread::spawn(move || {
                for i in 0..1000 {
                    let mut client = crate::harness::connect(address);
                    let request = format!(
                        "GET http://{host}/{thread_number}-{} HTTP/1.1\r\n\
                         Host: h\r\nConnection: close\r\n\r\n",
                        i % 97
                    );
                    client.write_all(request.as_bytes()).unwrap();
                    check_framing(&read_all(&mut client));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(descriptors(&proxy) < 60, "{}", descriptors(&proxy));
    proxy.signal(libc::SIGTERM);
    let said = proxy.rest();
    assert!(said.is_empty(), "{said:?}");
}

/// A response is whole and framed one way, or visibly cut.
fn check_framing(response: &str) {
    assert!(response.starts_with("HTTP/1.1 "), "{response}");
    let (head, body) = response.split_once("\r\n\r\n").expect(response);
    let count = |name: &str| {
        let lower = head.to_ascii_lowercase();
        lower.matches(&format!("\r\n{name}:")).count()
    };
    let (lengths, codings) =
        (count("content-length"), count("transfer-encoding"));
    assert!(lengths + codings <= 1, "{response}");
    if lengths == 1 {
        let length = head
            .lines()
            .find_map(|l| l.strip_prefix("Content-Length: "))
            .expect(response);
        // (bytes that are no UTF-8 were replaced by longer ones)
        let longer = body.matches('\u{fffd}').count() * 2;
        let length: usize = length.parse().expect(response);
        assert!(body.len() <= length + longer, "{response}");
    }
}

#[test]
fn memory_and_descriptors_stay_flat_over_many_dialogues() {
    let origin = Origin::new(|asked, socket| {
        let fields = match asked.contains("/s") {
            true => "Cache-Control: max-age=60\r\n",
            false => "",
        };
        socket.write_all(answer("200 OK", fields, "hello").as_bytes()).is_ok()
    });
    let proxy = proxy(&["--cache-size", "1M"]);
    let dialogues = |count: u32| {
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let (address, host) = (proxy.address, origin.address);
                thread::spawn(move || {
                    let client = crate::harness::connect(address);
                    let mut client = BufReader::new(client);
                    for i in 0..count / 4 {
                        let kind = ["s", "o"][i as usize % 2];
                        let request = format!(
                            "GET http://{host}/{kind}{number}-{i} HTTP/1.1\r\n\
                             Host: h\r\n\r\n"
                        );
                        client.get_mut().write_all(request.as_bytes()).unwrap();
                        assert_eq!(read_response(&mut client).1, b"hello");
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    };
    dialogues(4_000);
    let (memory, open) = (status(&proxy, "VmRSS:"), descriptors(&proxy));
    dialogues(20_000);
    let (after, open_after) = (status(&proxy, "VmRSS:"), descriptors(&proxy));
    assert!(after < memory + 2_000, "{memory} KiB became {after} KiB");
    assert!(open_after <= open + 8, "{open} descriptors became {open_after}");
}

#[test]
fn a_stop_lets_what_is_in_flight_finish() {
    let (go_on, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::new(move |_, socket| {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nfirst";
        socket.write_all(head.as_bytes()).unwrap();
        let _ = wait.lock().unwrap().recv_timeout(LIMIT);
        socket.write_all(b"second").is_ok()
    });
    let mut proxy = proxy(&[]);
    let mut client = proxy.connect();
    client.write_all(request(&origin, "/").as_bytes()).unwrap();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut got = Vec::new();
    while !got.ends_with(b"first") {
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        got.push(byte[0]);
    }
    proxy.signal(libc::SIGTERM);
    go_on.send(()).unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "second");
    assert_eq!(proxy.wait(), 0);
}
