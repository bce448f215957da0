//! The web client against scripted servers, and against ours.

use std::fs;
use std::io::{Read, Write};

use crate::harness::{Folder, Ran, Script, Server, run};

fn get(script: &Script, more: &[&str]) -> Ran {
    let url = script.url("/x");
    run(&[&["web-client"][..], more, &[&url]].concat(), "")
}

fn one(answer: &str, more: &[&str]) -> Ran {
    get(&Script::new(vec![answer]), more)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn the_labs_form_shows_the_whole_response() {
    let script = Script::new(vec![OK]);
    let (host, port) = ("127.0.0.1", script.address.port().to_string());
    let ran = run(&["web-client", host, &port, "HelloWorld.html"], "");
    assert_eq!((ran.status, ran.stdout.as_str()), (0, OK));
    assert_eq!(
        script.request(),
        format!(
            "GET /HelloWorld.html HTTP/1.1\r\nHost: {host}:{port}\r\n\
             Connection: close\r\nUser-Agent: topdown/{}\r\n\
             Accept: */*\r\n\r\n",
            env!("CARGO_PKG_VERSION")
        )
    );
}

#[test]
fn urls_show_bodies_alone() {
    assert_eq!(one(OK, &[]).stdout, "hello");
    assert_eq!(one(OK, &["-i"]).stdout, OK);
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(one(head, &["-I"]).stdout, head);
}

#[test]
fn bodies_by_length_chunks_and_close() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                   2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nT: u\r\n\r\n";
    let ran = one(chunked, &["-v"]);
    assert_eq!(ran.stdout, "hello");
    assert!(ran.stderr.contains("S: T: u"));
    assert_eq!(one("HTTP/1.0 200 OK\r\n\r\nhello", &[]).stdout, "hello");
    assert_eq!(one("HTTP/1.1 200\nX: y\n\nhello", &[]).stdout, "hello");
    let interim = format!("HTTP/1.1 103 x\r\nLink: y\r\n\r\n{OK}");
    assert_eq!(one(&interim, &[]).stdout, "hello");
    let none = "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n";
    let ran = one(none, &[]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, ""));
}

#[test]
fn faults_of_the_server_are_told_and_exit_with_2() {
    for (answer, text) in [
        ("", "closed the connection without an answer"),
        ("HTTP/1.1 200 OK\r\n", "closed the connection in mid-header"),
        ("garbage\r\n\r\n", "no status line"),
        ("HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", "a control character"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\
             Content-Length: 6\r\n\r\nhello",
            "two Content-Lengths that differ",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
            "the connection ended before the body did",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello",
            "the connection ended before the body did",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "no chunk size",
        ),
        ("HTTP/1.1 101 x\r\n\r\n", "switched protocols unasked"),
    ] {
        let ran = one(answer, &[]);
        assert_eq!(ran.status, 2, "{answer:?}");
        assert!(ran.stderr.contains(text), "{answer:?}: {}", ran.stderr);
    }
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(40_000));
    let ran = one(&long, &[]);
    assert!(ran.status == 2 && ran.stderr.contains("over 32 KiB"));
    let endless = "HTTP/1.1 100 x\r\n\r\n".repeat(100);
    let ran = one(&endless, &[]);
    assert!(ran.stderr.contains("interim responses without end"));
}

#[test]
fn a_silent_server_is_given_up() {
    let script = Script::with(1, |_, socket| {
        let _ = socket.read(&mut [0]); // until the client goes
    });
    let ran = get(&script, &["-W", "0.2"]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("read the response: timed out"));
}

#[test]
fn errors_exit_with_1_and_the_body_is_still_printed() {
    let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone";
    let ran = one(answer, &[]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, "gone"));
    let folder = Folder::new();
    let file = folder.path("x");
    let ran = one(answer, &["-o", &file]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, "gone"));
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
}

#[test]
fn options_make_the_request() {
    let script = Script::new(vec![OK; 6]);
    get(&script, &["-u", "a:b", "-r", "0-4", "-H", "X: y", "-H", "Accept:"]);
    let request = script.request();
    assert!(request.contains("\r\nAuthorization: Basic YTpi\r\n"));
    assert!(request.contains("\r\nRange: bytes=0-4\r\n"));
    assert!(request.contains("\r\nX: y\r\n") && !request.contains("Accept"));
    get(&script, &["-d", "a=1", "-d", "b=2"]);
    let request = script.request();
    assert!(request.starts_with("POST /x HTTP/1.1\r\n"));
    assert!(request.contains("\r\nContent-Length: 7\r\n"));
    assert!(request.contains("application/x-www-form-urlencoded"));
    get(&script, &["-X", "PURGE", "--http1.0"]);
    assert!(script.request().starts_with("PURGE /x HTTP/1.0\r\n"));
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    get(&script, &["-z", date]);
    assert!(script.request().contains(&format!("-Since: {date}\r\n")));
    let url = script.url("/a b").replace("//", "//u:p@");
    run(&["web-client", &url], "");
    let request = script.request();
    assert!(request.starts_with("GET /a%20b HTTP/1.1\r\n"));
    assert!(request.contains("\r\nAuthorization: Basic dTpw\r\n"));
}

#[test]
fn posted_data_arrives() {
    let folder = Folder::new();
    let server = Server::start("web-server", &["-q", "--echo", folder.text()]);
    let file = folder.file("data", "from a file");
    let at = format!("@{}", file.display());
    let url = server.url("/echo");
    let ran = run(&["web-client", "-d", &at, &url], "");
    assert!(ran.stdout.ends_with("\r\n\r\nfrom a file"));
    let ran = run(&["web-client", "-d", "@-", &url], "from stdin");
    assert!(ran.stdout.ends_with("\r\n\r\nfrom stdin"));
    let big = "x".repeat(1 << 20);
    let ran = run(&["web-client", "-d", "@-", &url], &big);
    assert!(ran.stdout.ends_with(&big));
}

#[test]
fn urls_of_one_host_share_a_connection() {
    let folder = Folder::new();
    folder.file("a", "1");
    folder.file("b", "2");
    let server = Server::start("web-server", &["-q", folder.text()]);
    let (a, b) = (server.url("/a"), server.url("/b"));
    let ran = run(&["web-client", "-v", &a, &b, &a], "");
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "121"));
    assert_eq!(ran.stderr.matches("-- connected: ").count(), 1);
    assert_eq!(ran.stderr.matches("C: GET ").count(), 3);
}

#[test]
fn a_kept_connection_that_is_closed_is_tried_anew_once() {
    // it promises to stay open, and closes
    let script = Script::new(vec![OK, OK]);
    let url = script.url("/x");
    let ran = run(&["web-client", &url, &url], "");
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "hellohello"));
    let script = Script::new(vec![OK, OK]);
    let url = script.url("/x");
    let ran = run(&["web-client", "-d", "x", &url, &url], "");
    assert_eq!(ran.status, 2, "a POST is not sent twice");
}

#[test]
fn a_file_gets_its_name_when_it_is_whole() {
    let folder = Folder::new();
    let file = folder.path("x");
    let part = folder.path("x.part");
    assert_eq!(one(OK, &["-o", &file]).status, 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "hello");
    assert!(!fs::exists(&part).unwrap());
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc";
    let ran = one(short, &["-o", &file]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains(&format!("what came is in {part}")));
    assert_eq!(fs::read_to_string(&file).unwrap(), "hello");
    assert_eq!(fs::read_to_string(&part).unwrap(), "abc");
    // what is no regular file is written to as it is, never replaced
    let fifo = folder.path("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let reader = {
        let fifo = fifo.clone();
        std::thread::spawn(move || fs::read_to_string(fifo))
    };
    assert_eq!(one(OK, &["-o", &fifo]).status, 0);
    assert_eq!(reader.join().unwrap().unwrap(), "hello");
    assert!(!fs::metadata(&fifo).unwrap().is_file());
}

#[test]
fn a_broken_download_is_resumed() {
    let folder = Folder::new();
    let file = folder.path("x");
    let part = folder.file("x.part", "abc");
    let rest = "HTTP/1.1 206 x\r\nContent-Range: bytes 3-5/6\r\n\
                Content-Length: 3\r\n\r\ndef";
    let script = Script::new(vec![rest]);
    assert_eq!(get(&script, &["-C", "-o", &file]).status, 0);
    assert!(script.request().contains("\r\nRange: bytes=3-\r\n"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "abcdef");
    // the server sends the whole: it starts over
    folder.file("x.part", "old");
    let ran = one(OK, &["-C", "-o", &file]);
    assert!(ran.stderr.contains("the server sent the whole file"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "hello");
    // another part: an error, and nothing is lost
    folder.file("x.part", "abc");
    let other = rest.replace("3-5", "2-4");
    let ran = one(&other, &["-C", "-o", &file]);
    assert!(ran.status == 2 && ran.stderr.contains("does not continue"));
    assert_eq!(fs::read_to_string(&part).unwrap(), "abc");
    // a redirect that is not followed is no part of it
    let moved = "HTTP/1.1 301 x\r\nLocation: /y\r\nContent-Length: 2\r\n\r\nno";
    let ran = one(moved, &["-C", "-o", &file]);
    assert!(ran.status == 2 && ran.stderr.contains("the answer is no part"));
    assert_eq!(fs::read_to_string(&part).unwrap(), "abc");
    // not up to the end, or not what was announced: no whole either
    for (range, content) in
        [("3-5/100", "def"), ("3-9/10", "def"), ("3-4/6", "def"), ("5-3/6", "")]
    {
        folder.file("x.part", "abc");
        let length = content.len();
        let answer = format!(
            "HTTP/1.1 206 x\r\nContent-Range: bytes {range}\r\n\
             Content-Length: {length}\r\n\r\n{content}"
        );
        let ran = one(&answer, &["-C", "-o", &file]);
        assert_eq!(ran.status, 2, "{range}: {}", ran.stderr);
        assert!(fs::exists(&part).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "hello", "{range}");
    }
    folder.file("x.part", "abc");
    // it was whole already
    let all = "HTTP/1.1 416 x\r\nContent-Range: bytes */3\r\n\
               Content-Length: 0\r\n\r\n";
    assert_eq!(one(all, &["-C", "-o", &file]).status, 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "abc");
    // nothing there yet: an ordinary download
    assert_eq!(one(OK, &["-C", "-o", &file]).status, 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "hello");
}

#[test]
fn a_giant_is_refused() {
    let ran = one(OK, &["--max-size", "4"]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("larger than --max-size 4"));
    assert_eq!(one(OK, &["--max-size", "5"]).status, 0);
}

#[test]
fn redirects_are_followed_when_asked() {
    let to = |status: u16, place: &str| {
        format!(
            "HTTP/1.1 {status} x\r\nLocation: {place}\r\n\
             Content-Length: 2\r\n\r\nno"
        )
    };
    let script = Script::new(vec![to(301, "/y")]);
    let ran = get(&script, &[]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "no"));
    let script =
        Script::new(vec![to(302, "y?z"), to(307, "../w"), OK.to_string()]);
    let ran = get(&script, &["-L"]);
    assert_eq!(ran.stdout, "hello");
    assert!(script.request().starts_with("GET /x "));
    assert!(script.request().starts_with("GET /y?z "));
    assert!(script.request().starts_with("GET /w "));
    let script = Script::new(vec![to(303, "/y"), OK.to_string()]);
    get(&script, &["-L", "-d", "a"]);
    assert!(script.request().starts_with("POST /x "));
    assert!(script.request().starts_with("GET /y "));
    let script = Script::new(vec![to(301, "/x"); 4]);
    let ran = get(&script, &["-L", "--max-redirects", "3"]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("there are more than 3"));
    let script = Script::new(vec![to(301, "ftp://h/")]);
    let ran = get(&script, &["-L"]);
    assert!(ran.status == 2 && ran.stderr.contains("'ftp:' is not spoken"));
}

#[test]
fn a_url_that_cannot_be_had_does_not_end_the_others() {
    let script = Script::new(vec![OK]);
    let url = script.url("/");
    let none = "http://127.0.0.1:1/";
    let ran = run(&["web-client", none, &url, "http://127.0.0.1:2/"], "");
    assert_eq!((ran.status, ran.stdout.as_str()), (2, "hello"));
    assert_eq!(ran.stderr.matches("Connection refused").count(), 2);
    let ran = run(&["web-client", "localhost", "6789"], "");
    assert!(ran.stderr.contains("FILE is missing after HOST PORT"));
}

#[test]
fn credentials_never_go_to_another_origin() {
    let other = Script::new(vec![OK]);
    let to = format!(
        "HTTP/1.1 302 x\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
        other.url("/")
    );
    let script = Script::new(vec![to]);
    let secrets = [
        "-L",
        "-u",
        "a:b",
        "-H",
        "Cookie: c",
        "-H",
        "authorization: d",
        "-H",
        "Host: example.org",
    ];
    assert_eq!(get(&script, &secrets).stdout, "hello");
    let first = script.request();
    assert!(first.contains("Cookie: c") && first.contains("authorization: d"));
    let second = other.request().to_lowercase();
    assert!(!second.contains("cookie") && !second.contains("authorization"));
    assert!(second.contains(&format!("host: {}\r\n", other.address)));
}

#[test]
fn timing_is_drawn_in_round_trips() {
    let ran = one(OK, &["--timing"]);
    for step in ["resolve", "connect", "first byte", "download", "total"] {
        let line = ran.stderr.lines().find(|l| l.contains(step));
        assert!(line.is_some_and(|l| l.contains(" ms")), "{}", ran.stderr);
    }
    assert!(ran.stderr.contains(" 1.0 RTT\n"));
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let script = Script::with(1, move |_, socket| {
        socket.write_all(head.as_bytes()).unwrap();
        let _ = socket.read(&mut [0; 500]);
        socket.write_all(head.as_bytes()).unwrap();
    });
    let url = script.url("/");
    let twice = run(&["web-client", "--timing", &url, &url], "").stderr;
    assert_eq!(twice.matches(" connect ").count(), 1 + 1, "{twice}");
    assert!(twice.contains("open already"));
    assert_eq!(twice.lines().filter(|l| l.contains(" total ")).count(), 2);
    assert_eq!(ran.stdout, "hello");
}

#[test]
fn the_books_conditional_get() {
    let folder = Folder::new();
    folder.file("fruit/kiwi.gif", "GIF");
    let server = Server::start("web-server", &["-q", folder.text()]);
    let copy = folder.path("copy.gif");
    let url = server.url("/fruit/kiwi.gif");
    assert_eq!(run(&["web-client", "-o", &copy, &url], "").status, 0);
    let ran = run(&["web-client", "-e", "-z", &copy, &url], "");
    assert_eq!((ran.status, ran.stdout.as_str()), (0, ""));
    assert!(ran.stderr.contains("S: HTTP/1.1 304 Not Modified"));
    assert!(ran.stderr.contains("KR 2.2.5"));
}

#[test]
fn a_closed_pipe_ends_the_download_quietly() {
    let folder = Folder::new();
    folder.file("big", vec![b'x'; 8 << 20]);
    let server = Server::start("web-server", &["-q", folder.text()]);
    let mut child = std::process::Command::new(crate::harness::BINARY)
        .args(["web-client", &server.url("/big")])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
}

#[test]
fn mutated_responses_never_hang_or_panic() {
    let mut state: u64 = 2_463_534_242;
    let mut random = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    let answers: Vec<Vec<u8>> = (0..300)
        .map(|_| {
            let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\
                \r\nX: y\r\n\r\n5;a\r\nhello\r\n0\r\nT: u\r\n\r\n"
                .to_vec();
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                bytes[at] = b"\r\n\0 :;,-09aG\xff"[random(13)];
            }
            bytes
        })
        .collect();
    let script = Script::new(answers);
    for _ in 0..300 {
        let ran = get(&script, &["-W", "2"]);
        assert!((0..=2).contains(&ran.status), "{ran:?}");
        assert!(!ran.stderr.contains("panicked"), "{ran:?}");
    }
}

#[test]
fn a_server_that_answers_before_it_has_read_is_heard() {
    let script = Script::with(1, |_, socket| {
        let no = b"HTTP/1.1 413 x\r\nContent-Length: 2\r\n\r\nno";
        socket.write_all(no).unwrap();
    });
    let ran = get(&script, &["-d", &"x".repeat(100_000)]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, "no"));
}

#[test]
fn an_old_part_is_safe_until_there_is_something_to_write() {
    let folder = Folder::new();
    let (file, part) = (folder.path("x"), folder.file("x.part", "old"));
    let none = ["web-client", "-o", &file, "http://127.0.0.1:1/"];
    assert_eq!(run(&none, "").status, 2);
    let gone = "HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(one(gone, &["-o", &file]).status, 1);
    assert_eq!(fs::read_to_string(&part).unwrap(), "old");
    // a link is not written through
    fs::remove_file(&part).unwrap();
    let victim = folder.file("victim", "victim");
    std::os::unix::fs::symlink(&victim, &part).unwrap();
    let ran = one(OK, &["-o", &file]);
    assert_eq!(ran.status, 2, "{}", ran.stderr);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "victim");
    // nor the part of another download that is still at it
    fs::remove_file(&part).unwrap();
    let (began, begun) = std::sync::mpsc::channel();
    let (more, wanted) = std::sync::mpsc::channel::<()>();
    let slow = Script::with(1, move |_, socket| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsl";
        socket.write_all(head).unwrap();
        began.send(()).unwrap();
        let _ = wanted.recv();
        socket.write_all(b"ow!!").unwrap();
    });
    let url = slow.url("/");
    let first = {
        let file = file.clone();
        std::thread::spawn(move || run(&["web-client", "-o", &file, &url], ""))
    };
    begun.recv().unwrap();
    while fs::metadata(&part).map_or(0, |m| m.len()) < 2 {}
    let ran = one(OK, &["-o", &file]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("is it downloaded already?"));
    more.send(()).unwrap();
    assert_eq!(first.join().unwrap().status, 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "slow!!");
}

#[test]
fn bytes_behind_a_body_are_no_answer_to_the_next_request() {
    let poison =
        format!("HTTP/1.1 204 x\r\n\r\n{}", OK.replace("hello", "POISN"));
    let script = Script::new(vec![poison, OK.to_string()]);
    let url = script.url("/x");
    let ran = run(&["web-client", &url, &url], "");
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "hello"));
}
