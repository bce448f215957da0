//! The web server under clients that are slow, silent, many, or gone; and
//! how it stops.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::thread;

use crate::harness::{
    BINARY, Folder, LIMIT, Server, connect, read_all, read_response,
};

const REQUEST: &[u8] = b"GET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n";

fn serve(more: &[&str]) -> (Folder, Server) {
    let folder = Folder::new();
    folder.file("a.txt", "0123456789");
    folder.file("big.bin", vec![b'x'; 64 << 20]);
    let args = [&["-q", folder.text()][..], more].concat();
    let server = Server::start("web-server", &args);
    (folder, server)
}

#[test]
fn a_silent_client_is_let_go() {
    let (_folder, server) = serve(&["--idle", "0.2"]);
    assert_eq!(read_all(&mut server.connect()), "");
    let mut socket = server.connect();
    socket.write_all(REQUEST).unwrap();
    let response = read_all(&mut socket); // one answer, then the idle end
    assert!(response.starts_with("HTTP/1.1 200 "));
    assert_eq!(response.matches("HTTP/1.1").count(), 1);
}

#[test]
fn a_head_has_its_time_in_all_however_its_bytes_drip() {
    let (_folder, server) = serve(&["--header-timeout", "0.3"]);
    let mut socket = server.connect();
    let mut writer = socket.try_clone().unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let drip = thread::spawn(move || {
        // a byte now and then: no single wait is ever long
        let pause = std::time::Duration::from_millis(20);
        let bytes = REQUEST.iter().chain([b'x'].iter().cycle());
        for byte in bytes.take(10_000) {
            if writer.write_all(&[*byte]).is_err()
                || stopped.recv_timeout(pause)
                    != Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                return;
            }
        }
    });
    let mut socket_without_end = server.connect();
    socket_without_end.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
    let response = read_all(&mut socket_without_end);
    assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
    let response = read_all(&mut socket);
    assert!(response.contains("HTTP/1.1 408 "), "{response}");
    drop(stop);
    drip.join().unwrap();
}

#[test]
fn a_body_has_its_time_too() {
    let (_folder, server) = serve(&["--body-timeout", "0.2"]);
    let mut socket = server.connect();
    let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nab";
    socket.write_all(head).unwrap();
    assert!(read_all(&mut socket).starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_client_that_does_not_read_is_let_go() {
    let (_folder, server) = serve(&["--send-timeout", "0.2", "-v"]);
    let mut socket = server.connect();
    socket.write_all(b"GET /big.bin HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    server.wait_for("the connection with"); // … ends, though unread
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let (_folder, server) = serve(&[]);
    let descriptors = || {
        let path = format!("/proc/{}/fd", server.child.id());
        std::fs::read_dir(path).unwrap().count()
    };
    let ask = || {
        let mut socket = server.connect();
        socket.write_all(REQUEST).unwrap();
        read_response(&mut BufReader::new(&socket))
    };
    ask();
    let before = descriptors();
    for round in 0..300 {
        let mut socket = server.connect();
        match round % 4 {
            0 => socket.write_all(b"GET / HT").unwrap(),
            1 => {
                let big = b"GET /big.bin HTTP/1.1\r\nHost: h\r\n\r\n";
                socket.write_all(big).unwrap();
                let _ = socket.read(&mut [0; 1000]);
            }
            2 => {
                socket.write_all(REQUEST).unwrap();
                socket.shutdown(Shutdown::Both).unwrap();
            }
            _ => {}
        }
    }
    // each request makes way for another look; none must wait for a limit
    for _ in 0..10_000 {
        ask();
        if descriptors() <= before + 1 {
            return;
        }
    }
    panic!("{} descriptors, {before} before", descriptors());
}

#[test]
fn a_half_closed_client_gets_its_answers() {
    let (_folder, server) = serve(&[]);
    let response = server.dialogue([REQUEST, REQUEST].concat());
    assert_eq!(response.matches("0123456789").count(), 2);
}

#[test]
fn a_thousand_connections_at_once() {
    let (_folder, server) = serve(&[]);
    let mut sockets: Vec<TcpStream> =
        (0..1000).map(|_| server.connect()).collect();
    for _ in 0..2 {
        for socket in &mut sockets {
            socket.write_all(REQUEST).unwrap();
        }
        for socket in &mut sockets {
            let (head, body) = read_response(&mut BufReader::new(socket));
            assert!(head.starts_with("HTTP/1.1 200 "));
            assert_eq!(body, b"0123456789");
        }
    }
}

#[test]
fn over_the_bound_the_answer_is_503() {
    let (_folder, server) = serve(&["--max-connections", "2"]);
    let mut held: Vec<TcpStream> = (0..2).map(|_| server.connect()).collect();
    for socket in &mut held {
        socket.write_all(REQUEST).unwrap();
        read_response(&mut BufReader::new(socket));
    }
    let mut third = server.connect();
    third.write_all(REQUEST).unwrap();
    let response = read_all(&mut third);
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(response.contains("\r\nRetry-After: 1\r\n"));
    drop(held);
    // places become free again
    for _ in 0..1000 {
        let mut socket = server.connect();
        socket.write_all(REQUEST).unwrap();
        if read_response(&mut BufReader::new(&socket)).0.contains(" 200 ") {
            return;
        }
    }
    panic!("no place became free");
}

#[test]
fn running_out_of_descriptors_is_survived() {
    let (_folder, server) = serve(&[]);
    let limit_to = |descriptors: u64| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        let (pid, what) = (server.child.id() as i32, libc::RLIMIT_NOFILE);
        let none = std::ptr::null_mut();
        // SAFETY: the structs are alive, the process is our own child.
        unsafe {
            libc::prlimit(pid, what, std::ptr::null(), &mut limit);
            limit.rlim_cur = descriptors.min(limit.rlim_max);
            assert_eq!(libc::prlimit(pid, what, &limit, none), 0);
        }
    };
    limit_to(3); // fewer than are open
    // a thread that waits in accept may have its descriptor already: so one
    // connection for that, whatever becomes of it
    let mut first = server.connect();
    first.write_all(REQUEST).unwrap();
    server.wait_for("accept: Too many open files");
    limit_to(1024);
    let mut second = server.connect();
    second.write_all(REQUEST).unwrap();
    let (head, _) = read_response(&mut BufReader::new(&second));
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_breaks_off_visibly() {
    let (folder, server) = serve(&[]);
    let mut socket = server.connect();
    socket.write_all(b"GET /big.bin HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    socket.read_exact(&mut [0; 1000]).unwrap();
    let file =
        std::fs::File::options().write(true).open(folder.path("big.bin"));
    file.unwrap().set_len(10).unwrap();
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).unwrap(); // it ends, and short
    assert!(rest.len() < 64 << 20);
}

#[test]
fn a_stop_finishes_the_download_in_flight() {
    let (_folder, mut server) = serve(&[]);
    let mut download = server.connect();
    let mut idle = server.connect();
    idle.write_all(REQUEST).unwrap();
    read_response(&mut BufReader::new(&idle));
    download.write_all(b"GET /big.bin HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut reader = BufReader::new(download.try_clone().unwrap());
    reader.read_exact(&mut [0; 1000]).unwrap();
    server.signal(libc::SIGTERM);
    assert_eq!(read_all(&mut idle), ""); // let go at once
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!(rest.len() + 1000 > 64 << 20, "cut at {}", rest.len());
    assert_eq!(server.wait(), 0);
}

#[test]
fn a_stop_waits_for_nobody_for_ever() {
    let (folder, _server) = serve(&[]);
    let stop_while_stuck = &|mode: &str| {
        let args = ["-v", mode, folder.text()];
        let mut server = Server::start("web-server", &args);
        let mut stuck = server.connect(); // asks, and never reads
        let request = b"GET /big.bin HTTP/1.1\r\nHost: h\r\n\r\n";
        stuck.write_all(request).unwrap();
        server.wait_for("S: HTTP/1.1 200 OK");
        server.signal(libc::SIGTERM);
        assert_eq!(server.wait(), 0, "{mode}");
    };
    thread::scope(|scope| {
        for mode in ["--once", "--sequential", "-q"] {
            scope.spawn(move || stop_while_stuck(mode));
        }
    });
}

#[test]
fn a_second_signal_ends_at_once() {
    let (_folder, mut server) = serve(&[]);
    let mut download = server.connect();
    download.write_all(b"GET /big.bin HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    download.read_exact(&mut [0; 1000]).unwrap();
    server.signal(libc::SIGINT);
    // the listening socket is closed, so the first signal has arrived
    while TcpStream::connect_timeout(&server.address, LIMIT).is_ok() {}
    server.signal(libc::SIGINT);
    assert_eq!(server.wait(), 130);
}

#[test]
fn mutated_requests_never_stop_the_server() {
    let (_folder, mut server) = serve(&["--header-timeout", "0.2"]);
    let mut state: u64 = 88_172_645_463_325_252;
    let mut random = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    for _ in 0..2000 {
        let mut bytes =
            b"POST /a.txt HTTP/1.1\r\nHost: h\r\nRange: bytes=0-4,6-\r\n\
              Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                .to_vec();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            bytes[at] = b"\r\n\0 :;,-09aG\xff"[random(13)];
        }
        let mut socket = connect(server.address);
        let _ = socket.write_all(&bytes);
        let _ = socket.shutdown(Shutdown::Write);
        let response = read_all(&mut socket);
        assert!(
            response.is_empty() || response.starts_with("HTTP/1.1 "),
            "{response}"
        );
    }
    assert!(server.dialogue(REQUEST).contains("0123456789"));
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait(), 0);
    let said = server.rest().join("\n");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn the_log_tells_what_was_sent_and_whom_it_refused() {
    let folder = Folder::new();
    folder.file("big.bin", vec![b'x'; 64 << 20]);
    let log = folder.path("log");
    let mut command = Command::new("sh");
    let script =
        "exec \"$0\" web-server -l 0 --max-connections 1 \"$1\" >\"$2\"";
    command.args(["-c", script, BINARY, folder.text(), &log]);
    let mut server = Server::spawn(command);
    let mut first = server.connect();
    first.write_all(b"GET /big.bin HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    first.read_exact(&mut [0; 1000]).unwrap();
    let mut second = server.connect();
    second.write_all(REQUEST).unwrap();
    assert!(read_all(&mut second).starts_with("HTTP/1.1 503 "));
    drop(first); // in mid-download
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait(), 0);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("] \"-\" 503 "), "{log}");
    let line = log.lines().find(|l| l.contains("big.bin")).unwrap();
    let sent = line.split("\" 200 ").nth(1).unwrap();
    let sent: u64 = sent.split(' ').next().unwrap().parse().unwrap();
    assert!((1000..64 << 20).contains(&sent), "{log}");
}

#[test]
fn the_soft_descriptor_limit_is_raised_to_the_hard_one() {
    let folder = Folder::new();
    folder.file("a.txt", "0123456789");
    let mut command = Command::new("sh");
    let script = "ulimit -Sn 64; exec \"$0\" web-server -q -l 0 \"$1\"";
    command.args(["-c", script, BINARY, folder.text()]);
    let server = Server::spawn(command);
    let mut held: Vec<TcpStream> = (0..200).map(|_| server.connect()).collect();
    for socket in &mut held {
        socket.write_all(REQUEST).unwrap();
        let (head, _) = read_response(&mut BufReader::new(socket));
        assert!(head.starts_with("HTTP/1.1 200 "));
    }
}

#[test]
fn an_idle_connection_keeps_no_body() {
    let (_folder, server) = serve(&[]);
    let body = vec![b'x'; 1 << 20];
    let held: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut socket = server.connect();
            let head = format!(
                "POST /a.txt HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            socket.write_all(head.as_bytes()).unwrap();
            socket.write_all(&body).unwrap();
            read_response(&mut BufReader::new(&socket));
            socket
        })
        .collect();
    let status = format!("/proc/{}/status", server.child.id());
    let status = std::fs::read_to_string(status).unwrap();
    let resident = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    let kib: u64 = resident.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 20 * 1024, "{} connections: {kib} KiB", held.len());
}

#[test]
fn an_answer_is_not_lost_to_what_the_client_says_too_much() {
    let (_folder, server) = serve(&[]);
    // more than was asked is already there when the server closes
    for _ in 0..200 {
        let mut socket = server.connect();
        let mut request = b"GET /a.txt HTTP/1.0\r\n\r\n".to_vec();
        request.resize(5000, b'x');
        socket.write_all(&request).unwrap();
        assert!(read_all(&mut socket).ends_with("\r\n\r\n0123456789"));
    }
    // a large one, and a late word while it is under way
    let mut socket = server.connect();
    socket.write_all(b"GET /big.bin HTTP/1.0\r\n\r\n").unwrap();
    socket.read_exact(&mut [0; 1000]).unwrap();
    socket.write_all(b"\r\n").unwrap();
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).unwrap();
    assert!(rest.len() + 1000 > 64 << 20, "cut at {}", rest.len());
}
