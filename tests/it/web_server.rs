//! The web server: methods, files, conditions, ranges, connections.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::harness::{
    Folder, Server, read_all, read_response, run, run_command,
};

/// A site of one test's own.
fn site() -> Folder {
    let folder = Folder::new();
    folder.file("index.html", "<p>home");
    folder.file("a.txt", "0123456789");
    folder.file("dir/index.html", "<p>dir");
    folder.file("plain/b c.txt", "b");
    folder.file("plain/<i>&.txt", "i");
    folder.file(".hidden", "h");
    folder.file(".well-known/x", "w");
    folder.file("big.bin", vec![b'x'; 300_000]);
    folder
}

fn serve(folder: &Folder, more: &[&str]) -> Server {
    let args = [&["-q", folder.text()][..], more].concat();
    Server::start("web-server", &args)
}

/// One request on a connection of its own: the whole response.
fn ask(server: &Server, line: &str, fields: &str) -> String {
    server.dialogue(format!(
        "{line} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\n"
    ))
}

fn status(response: &str) -> u16 {
    let code = response.get(9..12).unwrap_or_default();
    code.parse().unwrap_or_else(|_| panic!("no status: {response}"))
}

fn field<'a>(response: &'a str, name: &str) -> Option<&'a str> {
    let head = response.split("\r\n\r\n").next()?;
    let value = |l: &'a str| l.strip_prefix(name)?.strip_prefix(": ");
    head.lines().find_map(value)
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[test]
fn a_file_and_its_fields() {
    let folder = site();
    let server = serve(&folder, &[]);
    let response = ask(&server, "GET /a.txt", "");
    assert_eq!(status(&response), 200);
    assert_eq!(body(&response), "0123456789");
    assert_eq!(field(&response, "Content-Length"), Some("10"));
    let kind = field(&response, "Content-Type");
    assert_eq!(kind, Some("text/plain; charset=utf-8"));
    assert_eq!(field(&response, "X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(field(&response, "Connection"), Some("close"));
    assert!(field(&response, "Date").unwrap().ends_with(" GMT"));
    assert!(field(&response, "ETag").unwrap().starts_with('"'));
    let response = ask(&server, "HEAD /a.txt?query", "");
    assert_eq!(field(&response, "Content-Length"), Some("10"));
    assert_eq!(body(&response), "");
    let response = ask(&server, "GET http://h/a.txt", "");
    assert_eq!(status(&response), 200);
    // not in clear what was asked for over TLS
    let response = ask(&server, "GET https://h/a.txt", "");
    assert_eq!(status(&response), 421);
}

#[test]
fn an_edit_shows_at_once() {
    let folder = site();
    let server = serve(&folder, &[]);
    for round in 0..50 {
        let text = format!("round {round}");
        fs::write(folder.path("a.txt"), &text).unwrap();
        assert_eq!(body(&ask(&server, "GET /a.txt", "")), text);
        folder.file("a.txt", "settled"); // an hour old: it is kept in memory
        for _ in 0..2 {
            assert_eq!(body(&ask(&server, "GET /a.txt", "")), "settled");
        }
        // another file of the same size and time by the same name
        folder.file("new", "replace");
        fs::rename(folder.path("new"), folder.path("a.txt")).unwrap();
        assert_eq!(body(&ask(&server, "GET /a.txt", "")), "replace");
    }
    fs::remove_file(folder.path("a.txt")).unwrap();
    assert_eq!(status(&ask(&server, "GET /a.txt", "")), 404);
}

#[test]
fn methods() {
    let folder = site();
    let server = serve(&folder, &[]);
    for line in ["OPTIONS /a.txt", "OPTIONS *"] {
        let response = ask(&server, line, "");
        assert_eq!(status(&response), 204);
        assert_eq!(field(&response, "Allow"), Some("GET, HEAD, OPTIONS"));
        assert_eq!(field(&response, "Content-Length"), None);
    }
    for line in [
        "POST /a.txt",
        "PUT /a.txt",
        "DELETE /a.txt",
        "TRACE /a.txt",
        "PATCH /a.txt",
        "CONNECT h:443",
    ] {
        let response = ask(&server, line, "");
        assert_eq!(status(&response), 405, "{line}");
        assert_eq!(field(&response, "Allow"), Some("GET, HEAD, OPTIONS"));
    }
    assert_eq!(status(&ask(&server, "BREW /a.txt", "")), 501);
    assert_eq!(status(&ask(&server, "get /a.txt", "")), 501);
}

#[test]
fn framing_is_judged_before_the_method() {
    let folder = site();
    let server = serve(&folder, &[]);
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    for line in ["GET /a.txt", "BREW /", "DELETE /", "GET /none"] {
        let response = server.dialogue(format!(
            "{line} HTTP/1.1\r\nHost: h\r\n{both}\r\n0\r\n\r\n\
             GET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n"
        ));
        assert_eq!(status(&response), 400, "{line}");
        assert_eq!(response.matches("HTTP/1.1 ").count(), 1, "{line}");
        assert_eq!(field(&response, "Connection"), Some("close"));
    }
}

#[test]
fn broken_rules_become_statuses_on_the_wire() {
    let folder = site();
    let server = serve(&folder, &[]);
    let long = "a".repeat(9_000);
    let fields = "X: y\r\n".repeat(101);
    for (request, expected) in [
        ("GET / HTTP/1.1\r\n\r\n".to_string(), 400),
        ("GET / HTTP/1.1\nHost: h\n\n".into(), 400),
        ("GET / HTTP/3.0\r\nHost: h\r\n\r\n".into(), 505),
        (format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"), 414),
        (format!("GET /{long}"), 414),
        (format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nX: {}", long.repeat(4)), 431),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999\r\n\r\n".into(), 413),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".into(), 501),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: x\r\n\r\na".into(), 417),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n".into(), 400),
        ("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03".into(), 400),
    ] {
        let response = server.dialogue(&request);
        let begin = &request[..request.len().min(60)];
        assert_eq!(status(&response), expected, "{begin:?}");
        assert!(body(&response).starts_with("<!DOCTYPE html>"));
        assert_eq!(field(&response, "Connection"), Some("close"));
        assert!(field(&response, "Date").is_some(), "on every answer");
    }
    // the client is still sending: it sees the answer, and no reset
    let mut socket = server.connect();
    let endless = vec![b'a'; 200_000];
    let _ = socket.write_all(&endless);
    assert_eq!(status(&read_all(&mut socket)), 414);
}

#[test]
fn an_empty_line_before_a_request_is_skipped() {
    let folder = site();
    let server = serve(&folder, &[]);
    let response =
        server.dialogue("\r\nGET /a.txt HTTP/1.0\r\nHost: h\r\n\r\n");
    assert_eq!(status(&response), 200);
}

#[test]
fn requests_in_a_row_stay_in_step() {
    let folder = site();
    let server = serve(&folder, &[]);
    let response = server.dialogue(
        "GET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n\
         POST /a.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n\
         GET /none HTTP/1.1\r\n\
         PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
         4;x\r\nGET \r\n0\r\nTrailer: x\r\n\r\n\
         HEAD /big.bin HTTP/1.1\r\nHost: h\r\n\r\n\
         GET /dir/ HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab\
         GET /a.txt HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n\
         GET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n",
    );
    let statuses: Vec<&str> =
        response.split("HTTP/1.1 ").skip(1).map(|r| &r[..3]).collect();
    assert_eq!(statuses, ["200", "405", "405", "200", "200", "200"]);
    assert!(response.ends_with("0123456789"));
}

#[test]
fn persistence_by_version() {
    let folder = site();
    let server = serve(&folder, &[]);
    let mut socket = server.connect();
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    for (request, stays) in [
        ("GET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n", ""),
        (
            "GET /a.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "Connection: keep-alive\r\n",
        ),
        ("GET /a.txt HTTP/1.0\r\n\r\n", "Connection: close\r\n"),
    ] {
        socket.write_all(request.as_bytes()).unwrap();
        let (head, body) = read_response(&mut reader);
        assert_eq!(body, b"0123456789");
        assert!(head.contains(stays), "{head}");
    }
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn paths_do_not_leave_the_root() {
    let outer = Folder::new();
    outer.file("secret", "s");
    outer.file("root/a", "a");
    symlink("../secret", outer.path("root/outside")).unwrap();
    symlink("/etc/passwd", outer.path("root/absolute")).unwrap();
    symlink("a", outer.path("root/inside")).unwrap();
    outer.file("root/.hidden", "h");
    let root = outer.path("root");
    let server = Server::start("web-server", &["-q", "--dotfiles", &root]);
    let code = |path: &str| status(&ask(&server, &format!("GET {path}"), ""));
    assert_eq!(code("/inside"), 200);
    assert_eq!(code("/.hidden"), 200);
    for path in [
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/outside",
        "/absolute",
        "/x/../../secret",
        "//../secret",
        "/a/../../secret",
    ] {
        assert_eq!(code(path), 404, "{path}");
    }
    assert_eq!(code("/%00"), 400);
    assert_eq!(code("/a%00"), 400);
    assert_eq!(code("/%zz"), 400);
    assert_eq!(code("/a%2fb"), 404);
    assert_eq!(code("/a/"), 404);
    assert_eq!(code("/%ff%fe"), 404);
    assert_eq!(code(&format!("/{}", "b".repeat(300))), 404);
}

#[test]
fn names_are_decoded_once() {
    let folder = site();
    folder.file("a%20b", "encoded");
    folder.file("a b", "space");
    folder.file("ü", "umlaut");
    let server = serve(&folder, &[]);
    let text = |path: &str| {
        body(&ask(&server, &format!("GET {path}"), "")).to_string()
    };
    assert_eq!(text("/a%20b"), "space");
    assert_eq!(text("/a%2520b"), "encoded");
    assert_eq!(text("/%C3%BC"), "umlaut");
    assert_eq!(status(&ask(&server, "GET /.hidden", "")), 404);
    assert_eq!(text("/.well-known/x"), "w");
}

#[test]
fn special_files_are_refused_without_blocking() {
    let folder = site();
    let fifo = folder.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let socket = folder.path("socket");
    let _socket = std::os::unix::net::UnixListener::bind(socket).unwrap();
    fs::create_dir(folder.path("locked")).unwrap();
    let server = serve(&folder, &[]);
    assert_eq!(status(&ask(&server, "GET /fifo", "")), 403);
    symlink("/etc/passwd", folder.path("locked/index.html")).unwrap();
    assert_eq!(status(&ask(&server, "GET /locked/", "")), 404);
    assert_eq!(status(&ask(&server, "GET /socket", "")), 404);
}

#[test]
fn directories() {
    let folder = site();
    let server = serve(&folder, &[]);
    assert_eq!(body(&ask(&server, "GET /", "")), "<p>home");
    assert_eq!(body(&ask(&server, "GET /dir/", "")), "<p>dir");
    let response = ask(&server, "GET /dir?q=1", "");
    assert_eq!(status(&response), 301);
    assert_eq!(field(&response, "Location"), Some("/dir/?q=1"));
    let response = ask(&server, "GET /plain/", "");
    let page = body(&response);
    assert!(page.contains("<a href=\"./b%20c.txt\">b c.txt</a>"));
    assert!(page.contains("<a href=\"./%3Ci%3E%26.txt\">&lt;i&gt;&amp;.txt"));
    assert!(page.contains("<a href=\"../\">"));
    folder.file("plain/z/x", "");
    let response = ask(&server, "GET /plain/", "");
    let at = |name: &str| body(&response).find(name).unwrap();
    assert!(at("z/</a>") < at("&lt;i&gt;") && at("&lt;i&gt;") < at("b c.txt"));
    if Command::new("id").arg("-u").output().unwrap().stdout != b"0\n" {
        let locked = std::os::unix::fs::PermissionsExt::from_mode(0o000);
        fs::set_permissions(folder.path("dir/index.html"), locked).unwrap();
        assert_eq!(status(&ask(&server, "GET /dir/", "")), 403);
    }
    let server = serve(&folder, &["--no-listing"]);
    assert_eq!(status(&ask(&server, "GET /plain/", "")), 403);
}

#[test]
fn a_redirect_never_leads_to_another_host() {
    let folder = site();
    fs::create_dir_all(folder.path("evil.example")).unwrap();
    fs::create_dir_all(folder.path("\\evil")).unwrap();
    fs::create_dir_all(folder.path("a\r\nSet-Cookie: b")).unwrap();
    let server = serve(&folder, &[]);
    for (path, location) in [
        ("//evil.example", "/evil.example/"),
        ("///evil.example", "/evil.example/"),
        ("/%5Cevil", "/%5Cevil/"),
        ("/a%0d%0aSet-Cookie:%20b", "/a%0D%0ASet-Cookie%3A%20b/"),
    ] {
        let response = ask(&server, &format!("GET {path}"), "");
        assert_eq!(status(&response), 301, "{path}");
        assert_eq!(field(&response, "Location"), Some(location));
        assert_eq!(field(&response, "Set-Cookie"), None);
    }
}

#[test]
fn the_sites_own_404_page() {
    let folder = site();
    let server = serve(&folder, &[]);
    let response = ask(&server, "GET /none", "");
    assert!(body(&response).contains("<h1>404 Not Found</h1>"));
    folder.file("404.html", "<p>own");
    let response = ask(&server, "GET /none", "");
    assert_eq!((status(&response), body(&response)), (404, "<p>own"));
    assert_eq!(field(&response, "ETag"), None);
}

#[test]
fn conditional_requests_end_to_end() {
    let folder = site();
    let server = serve(&folder, &[]);
    let response = ask(&server, "GET /a.txt", "");
    let etag = field(&response, "ETag").unwrap();
    let date = field(&response, "Last-Modified").unwrap();
    for (fields, expected) in [
        (format!("If-None-Match: {etag}\r\n"), 304),
        (format!("If-Modified-Since: {date}\r\n"), 304),
        (format!("If-Match: {etag}\r\n"), 200),
        ("If-Match: \"x\"\r\n".to_string(), 412),
        (format!("If-Unmodified-Since: {date}\r\n"), 200),
    ] {
        for method in ["GET", "HEAD"] {
            let line = format!("{method} /a.txt");
            let response = ask(&server, &line, &fields);
            assert_eq!(status(&response), expected, "{fields}");
            if expected == 304 {
                assert_eq!(body(&response), "");
                assert_eq!(field(&response, "Content-Length"), None);
                assert_eq!(field(&response, "ETag"), Some(etag));
            }
        }
    }
    folder.file("a.txt", "changed");
    let fields = format!("If-None-Match: {etag}\r\n");
    assert_eq!(body(&ask(&server, "GET /a.txt", &fields)), "changed");
}

#[test]
fn ranges_end_to_end() {
    let folder = site();
    let server = serve(&folder, &[]);
    let get = |range: &str| {
        ask(&server, "GET /a.txt", &format!("Range: bytes={range}\r\n"))
    };
    let response = get("2-4");
    assert_eq!((status(&response), body(&response)), (206, "234"));
    assert_eq!(field(&response, "Content-Range"), Some("bytes 2-4/10"));
    assert_eq!(body(&get("-3")), "789");
    assert_eq!(body(&get("7-")), "789");
    let response = get("10-");
    assert_eq!(status(&response), 416);
    assert_eq!(field(&response, "Content-Range"), Some("bytes */10"));
    let response = get("0-1,8-");
    let kind = field(&response, "Content-Type").unwrap();
    let boundary =
        kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let plain = "Content-Type: text/plain; charset=utf-8";
    let expected = format!(
        "--{boundary}\r\n{plain}\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n\
         --{boundary}\r\n{plain}\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n\
         --{boundary}--\r\n"
    );
    assert_eq!(body(&response), expected);
    let length = expected.len().to_string();
    assert_eq!(field(&response, "Content-Length"), Some(length.as_str()));
    let response = ask(&server, "HEAD /a.txt", "Range: bytes=2-4\r\n");
    assert_eq!(status(&response), 200);
    // of a file that goes by sendfile
    let response = ask(&server, "GET /big.bin", "Range: bytes=0-0,299999-\r\n");
    assert_eq!(response.matches("\r\n\r\nx\r\n").count(), 2);
}

#[test]
fn an_empty_file_is_sent_at_once_and_whole() {
    let folder = site();
    fs::write(folder.path("empty"), "").unwrap(); // fresh: not in memory
    let server = serve(&folder, &[]);
    let mut socket = server.connect();
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    for _ in 0..50 {
        let request = b"GET /empty HTTP/1.1\r\nHost: h\r\n\r\n";
        socket.write_all(request).unwrap();
        let (head, body) = read_response(&mut reader);
        assert!(head.contains("Content-Length: 0\r\n") && body.is_empty());
    }
}

#[test]
fn expect_100_continue() {
    let folder = site();
    let server = serve(&folder, &["--echo"]);
    let mut socket = server.connect();
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    socket
        .write_all(
            b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\
              Expect: 100-continue\r\n\r\n",
        )
        .unwrap();
    let (interim, _) = read_response(&mut reader);
    assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"ab").unwrap();
    let (head, body) = read_response(&mut reader);
    assert!(head.starts_with("HTTP/1.1 200 "));
    assert!(body.ends_with(b"\r\n\r\nab"));
    // what is refused anyway is not asked for; whether it comes all the same
    // nobody knows, so nothing behind it is taken for a request
    let response = server.dialogue(
        "POST /a.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\
         Expect: 100-continue\r\n\r\nGET /a.txt HTTP/1.0\r\n\r\n",
    );
    assert_eq!(status(&response), 405);
    assert_eq!(response.matches("HTTP/1.1 ").count(), 1);
    // HTTP/1.0 knows no interim answers
    let response = server.dialogue(
        "POST /echo HTTP/1.0\r\nContent-Length: 2\r\n\
         Expect: 100-continue\r\n\r\nab",
    );
    assert_eq!(status(&response), 200);
    // HEAD has no body, whatever the answer
    let head = "HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999\r\n\r\n";
    let response = server.dialogue(head);
    assert_eq!(
        (status(&response), crate::web_server::body(&response)),
        (413, "")
    );
}

#[test]
fn echo_sends_the_request_back() {
    let folder = site();
    let request = "WEIRD /echo?x HTTP/1.1\r\nHost: h\r\nX:  y \r\n\
                   Content-Length: 3\r\nConnection: close\r\n\r\nabc";
    let server = serve(&folder, &["--echo"]);
    assert_eq!(body(&server.dialogue(request)), request);
    let response = server.dialogue(request);
    assert_eq!(body(&response), request);
    let server = serve(&folder, &[]);
    assert_eq!(status(&server.dialogue(request)), 501);
}

#[test]
fn the_access_log_is_in_combined_format() {
    let folder = site();
    let mut command = Command::new(crate::harness::BINARY);
    command.args(["web-server", "-l", "0", "--once", folder.text()]);
    command.stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    let stderr = child.stderr.take().unwrap();
    std::io::BufRead::read_line(&mut BufReader::new(stderr), &mut line)
        .unwrap();
    let address = line.trim().rsplit(' ').next().unwrap();
    let mut socket = crate::harness::connect(address.parse().unwrap());
    socket
        .write_all(
            b"GET /a.txt?\"x HTTP/1.1\r\nHost: h\r\n\
              User-Agent: a\"b\xff\r\nReferer: r\r\n\r\n",
        )
        .unwrap();
    read_all(&mut socket);
    let log = child.wait_with_output().unwrap().stdout;
    let log = String::from_utf8(log).unwrap();
    assert!(log.starts_with("127.0.0.1 - - ["), "{log}");
    let end = " +0000] \"GET /a.txt?\\\"x HTTP/1.1\" 200 10 \"r\" \
               \"a\\\"b\\xff\"\n";
    assert!(log.ends_with(end), "{log}");
}

#[test]
fn once_answers_one_request() {
    let folder = site();
    let mut server = serve(&folder, &["--once"]);
    let response = server.dialogue("GET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(body(&response), "0123456789");
    assert_eq!(field(&response, "Connection"), Some("close"));
    assert_eq!(server.wait(), 0);
}

#[test]
fn sequential_serves_one_connection_at_a_time() {
    let folder = site();
    let server = serve(&folder, &["--sequential", "-v"]);
    let mut first = server.connect();
    server.wait_for("a connection socket for");
    let mut second = server.connect();
    let request = b"GET /a.txt HTTP/1.0\r\nHost: h\r\n\r\n";
    second.write_all(request).unwrap();
    // the second has asked, and waits: only the first is answered
    first.write_all(request).unwrap();
    assert_eq!(body(&read_all(&mut first)), "0123456789");
    assert_eq!(body(&read_all(&mut second)), "0123456789");
    let line = server.wait_for("C: GET");
    assert!(line.starts_with("C: "), "the first connection: {line}");
    server.wait_for("#2 C: GET");
}

#[test]
fn explain_gives_reasons() {
    let folder = site();
    let server = serve(&folder, &["-e"]);
    ask(
        &server,
        "GET /a.txt",
        "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n",
    );
    server.wait_for("C: GET /a.txt HTTP/1.1");
    server.wait_for("304: the copy is current");
    server.wait_for("KR 2.2.5");
    server.wait_for("the connection ends: 'close' was said");
    ask(&server, "GET /a.txt", "If-Match: *\r\n");
    server.wait_for("no condition fails");
    server.dialogue("GET /a.txt HTTP/1.0\r\n\r\n");
    server.wait_for("the connection ends: that is the rule in HTTP/1.0");
}

#[test]
fn fetch_gets_saves_and_sends() {
    let folder = site();
    let origin = serve(&folder, &[]);
    let copy = Folder::new();
    let server = serve(&copy, &["--fetch"]);
    let fetch = |url: &str| ask(&server, &format!("GET /fetch?url={url}"), "");
    let host = origin.address.to_string().replace(':', "_");
    let url = origin.url("/dir").replace(':', "%3A").replace('/', "%2F");
    let response = fetch(&url); // a redirect to /dir/
    assert_eq!((status(&response), body(&response)), (200, "<p>dir"));
    let saved = copy.path(&format!("fetched/{host}/dir/index.html"));
    assert_eq!(fs::read_to_string(saved).unwrap(), "<p>dir");
    let sandbox =
        |r: &str| field(r, "Content-Security-Policy") == Some("sandbox");
    assert!(sandbox(&response));
    let path = format!("GET /fetched/{host}/dir/index.html");
    assert!(sandbox(&ask(&server, &path, "")));
    let line = format!("GET /fetch?url={url}");
    let response = ask(&server, &line, "Sec-Fetch-Site: cross-site\r\n");
    assert_eq!(status(&response), 403);
    for (url, expected) in [
        ("", 400),
        ("ftp://h/", 400),
        (&*origin.url("/none"), 502),
        ("http://127.0.0.1:1/", 502),
        ("http://no-such-host.invalid/", 502),
        (&*server.url("/fetch?url=http://127.0.0.1:1/"), 502),
    ] {
        assert_eq!(status(&fetch(url)), expected, "{url}");
    }
    let server = serve(&copy, &[]);
    assert_eq!(status(&ask(&server, "GET /fetch?url=x", "")), 404);
}

#[test]
fn fetch_keeps_no_fragment_and_no_giant() {
    let copy = Folder::new();
    let server = serve(&copy, &["--fetch"]);
    let script = crate::harness::Script::new(vec![
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort".to_vec(),
        [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; (16 << 20) + 1]]
            .concat(),
        b"HTTP/1.1 302 x\r\nLocation: /again\r\n\r\n".to_vec(),
        b"HTTP/1.1 302 x\r\nLocation: http://127.0.0.1:1/\r\n\r\n".to_vec(),
    ]);
    let url = script.url("/file");
    for _ in 0..2 {
        let response = ask(&server, &format!("GET /fetch?url={url}"), "");
        assert_eq!(status(&response), 502);
        assert!(script.request().contains("Via: 1.1 topdown-fetch"));
    }
    let host = script.address.to_string().replace(':', "_");
    let directory = copy.path(&format!("fetched/{host}"));
    assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
    let response = ask(&server, &format!("GET /fetch?url={url}"), "");
    assert_eq!(status(&response), 502);
}

#[test]
fn fetch_goes_in_no_circles() {
    let copy = Folder::new();
    let server = serve(&copy, &["--fetch"]);
    let again = b"HTTP/1.1 302 x\r\nLocation: /again\r\n\r\n".to_vec();
    let script = crate::harness::Script::new(vec![again; 20]);
    let line = format!("GET /fetch?url={}", script.url("/"));
    let response = ask(&server, &line, "");
    assert_eq!(status(&response), 502);
    assert!(response.contains("there are too many"));
    assert_eq!(script.requests.try_iter().count(), 6);
    let response = ask(&server, &line, "Via: 1.1 topdown-fetch\r\n");
    assert_eq!(status(&response), 508);
}

#[test]
fn a_server_open_to_others_fetches_from_public_addresses_only() {
    let copy = Folder::new();
    let origin = serve(&copy, &[]);
    let server = serve(&copy, &["--fetch", "-l", "0.0.0.0:0"]);
    let port = server.address.port();
    let mut socket = crate::harness::connect(([127, 0, 0, 1], port).into());
    let line = format!("GET /fetch?url={}", origin.url("/"));
    let request = format!("{line} HTTP/1.0\r\nHost: h\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let response = read_all(&mut socket);
    assert_eq!(status(&response), 502);
    assert!(response.contains("this address is not fetched from"));
}

#[test]
fn the_site_out_of_the_box_is_whole() {
    let server = Server::start("web-server", &["-q"]);
    let mut to_visit = vec!["/".to_string()];
    let mut seen = Vec::new();
    while let Some(path) = to_visit.pop() {
        if seen.contains(&path) || path.contains("no/such") || path == "/fetch"
        {
            continue;
        }
        let ran = run(&["web-client", &server.url(&path)], "");
        assert_eq!(ran.status, 0, "{path}");
        let base = path.rsplit_once('/').unwrap().0;
        for link in ran.stdout.split(['"']).skip(1).step_by(2) {
            let local = link.starts_with('/')
                || link.ends_with(".html")
                || link.ends_with(".svg")
                || link.ends_with(".gif")
                || link.ends_with('/') && !link.contains(':');
            if local && !link.contains(' ') && !link.contains("://") {
                to_visit.push(match link.strip_prefix('/') {
                    Some(rest) => format!("/{rest}"),
                    None => format!("{base}/{link}"),
                });
            }
        }
        seen.push(path);
    }
    assert!(seen.len() >= 15, "{seen:?}");
    let mut file = Command::new("file");
    file.args(["-b", "www/fruit/kiwi.gif"]);
    if crate::harness::have("file") {
        assert!(run_command(file, "").stdout.contains("GIF image data"));
    }
}
