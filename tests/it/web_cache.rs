//! The proxy's cache, from outside: what is stored, used, asked again,
//! shared and forgotten, and what it says of it.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use crate::harness::{
    BINARY, Folder, LIMIT, Origin, Server, answer, read_all, read_response,
};

fn proxy(more: &[&str]) -> Server {
    Server::start("web-proxy", &[&["-q"], more].concat())
}

fn ask(proxy: &Server, method: &str, url: &str, fields: &str) -> String {
    proxy.dialogue(format!(
        "{method} {url} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         {fields}\r\n"
    ))
}

fn get(proxy: &Server, origin: &Origin, path: &str) -> String {
    ask(proxy, "GET", &origin.url(path), "")
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let head = head.split("\r\n\r\n").next()?;
    let value = |l: &'a str| {
        let (n, value) = l.split_once(": ")?;
        n.eq_ignore_ascii_case(name).then_some(value)
    };
    head.lines().filter_map(value).next_back()
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// What Cache-Status says, without our name.
fn said(response: &str) -> &str {
    let status = field(response, "cache-status").unwrap_or("nothing");
    status.strip_prefix("topdown; ").unwrap_or(status)
}

/// Answers with these fields, and a body that counts the requests.
fn counting(fields: &str) -> Origin {
    let fields = fields.to_string();
    let count = AtomicU32::new(0);
    Origin::new(move |_, socket| {
        let number = count.fetch_add(1, SeqCst) + 1;
        let text = answer("200 OK", &fields, &format!("body {number}"));
        socket.write_all(text.as_bytes()).is_ok()
    })
}

#[test]
fn a_miss_and_then_hits() {
    let origin = counting("Cache-Control: max-age=60\r\nSet-Cookie: a=b\r\n");
    let proxy = proxy(&[]);
    let miss = get(&proxy, &origin, "/a");
    assert_eq!(said(&miss), "fwd=uri-miss; stored");
    assert_eq!(field(&miss, "age"), None);
    let hit = get(&proxy, &origin, "/a");
    assert_eq!(body(&hit), "body 1");
    assert!(said(&hit).starts_with("hit; ttl="), "{hit}");
    assert!(field(&hit, "age").unwrap().parse::<u32>().unwrap() < 20);
    assert_eq!(field(&hit, "set-cookie"), Some("a=b"));
    // the same URI in the lab's form; another query is another URI
    let lab = format!("/{}/a", origin.address);
    assert!(said(&ask(&proxy, "GET", &lab, "")).starts_with("hit"));
    assert_eq!(said(&get(&proxy, &origin, "/a?")), "fwd=uri-miss; stored");
    assert_eq!(origin.count(), 2);
    // HEAD from a stored GET
    let head = ask(&proxy, "HEAD", &origin.url("/a"), "");
    assert!(said(&head).starts_with("hit"));
    assert_eq!((field(&head, "content-length"), body(&head)), (Some("6"), ""));
}

#[test]
fn what_may_not_be_stored_is_not_and_why_is_said() {
    let proxy = proxy(&[]);
    for (fields, request, detail) in [
        ("Cache-Control: no-store\r\n", "", "no-store"),
        ("Cache-Control: private\r\n", "", "private"),
        ("", "", "no-validator"),
        ("Vary: *\r\nCache-Control: max-age=9\r\n", "", "vary"),
        (
            "Cache-Control: max-age=9\r\n",
            "Authorization: x\r\n",
            "authorization",
        ),
        (
            "Cache-Control: max-age=9\r\n",
            "Cache-Control: no-store\r\n",
            "request-no-store",
        ),
    ] {
        let origin = counting(fields);
        for number in 1..=2 {
            let response = ask(&proxy, "GET", &origin.url("/"), request);
            let expected = format!("fwd=uri-miss; detail={detail}");
            assert_eq!(said(&response), expected, "{fields}");
            assert_eq!(body(&response), format!("body {number}"));
        }
    }
    let origin = counting("Cache-Control: max-age=9\r\n");
    let post = ask(&proxy, "POST", &origin.url("/"), "Content-Length: 0\r\n");
    assert_eq!(said(&post), "fwd=method; detail=method");
}

#[test]
fn private_names_of_fields_are_left_out_for_others() {
    let origin = counting(
        "Cache-Control: max-age=60, private=\"X-Own, set-cookie\"\r\n\
         X-Own: 1\r\nSet-Cookie: a=b\r\nX-All: 2\r\n",
    );
    let proxy = proxy(&[]);
    let first = get(&proxy, &origin, "/");
    assert_eq!(field(&first, "x-own"), Some("1"));
    let second = get(&proxy, &origin, "/");
    assert!(said(&second).starts_with("hit"));
    assert_eq!(field(&second, "x-own"), None);
    assert_eq!(field(&second, "set-cookie"), None);
    assert_eq!(field(&second, "x-all"), Some("2"));
}

#[test]
fn variants_by_what_vary_names() {
    let origin = Origin::new(|asked, socket| {
        let language = field(asked, "accept-language").unwrap_or("none");
        let text = answer(
            "200 OK",
            "Vary: Accept-Language\r\nCache-Control: max-age=60\r\n",
            language,
        );
        socket.write_all(text.as_bytes()).is_ok()
    });
    let proxy = proxy(&[]);
    let url = origin.url("/");
    let with = |line: &str| ask(&proxy, "GET", &url, line);
    assert_eq!(said(&with("Accept-Language: de\r\n")), "fwd=uri-miss; stored");
    assert_eq!(said(&with("Accept-Language: fr\r\n")), "fwd=vary-miss; stored");
    assert_eq!(said(&with("")), "fwd=vary-miss; stored");
    // absent is not empty
    assert_eq!(said(&with("Accept-Language:\r\n")), "fwd=vary-miss; stored");
    for (line, expected) in [
        ("Accept-Language: de\r\n", "de"),
        ("accept-language:   fr  \r\n", "fr"),
        ("", "none"),
    ] {
        let hit = with(line);
        assert!(said(&hit).starts_with("hit"), "{line}");
        assert_eq!(body(&hit), expected);
    }
    // lists are compared as lists, over several lines
    with("Accept-Language: de, en\r\n");
    let hit = with("Accept-Language: de\r\nAccept-Language: en\r\n");
    assert!(said(&hit).starts_with("hit"), "{hit}");
}

/// A resource that is stale at once and can be validated.
fn stale(etag: &str, more: &str) -> Origin {
    let (etag, more) = (etag.to_string(), more.to_string());
    Origin::new(move |asked, socket| {
        let fields = format!("ETag: {etag}\r\n{more}");
        let current = field(asked, "if-none-match") == Some(&etag);
        let text = match current {
            true => format!(
                "HTTP/1.1 304 Not Modified\r\n{fields}X-New: 2\r\n\
                 Cache-Control: max-age=60\r\nContent-Length: 99\r\n\r\n"
            ),
            false => {
                let fields =
                    format!("{fields}X-New: 1\r\nCache-Control: max-age=0\r\n");
                answer("200 OK", &fields, "content")
            }
        };
        socket.write_all(text.as_bytes()).is_ok()
    })
}

#[test]
fn a_304_makes_fresh_and_brings_its_fields() {
    let origin = stale("\"v1\"", "");
    let proxy = proxy(&[]);
    assert_eq!(said(&get(&proxy, &origin, "/")), "fwd=uri-miss; stored");
    let validated = get(&proxy, &origin, "/");
    assert!(said(&validated).starts_with("fwd=stale; fwd-status=304; ttl=60"));
    assert_eq!(body(&validated), "content");
    assert_eq!(field(&validated, "x-new"), Some("2"));
    assert_eq!(field(&validated, "content-length"), Some("7"));
    let hit = get(&proxy, &origin, "/");
    assert!(said(&hit).starts_with("hit; ttl="), "fresh by the 304's max-age");
    assert_eq!(field(&hit, "x-new"), Some("2"));
    assert_eq!(origin.count(), 2);
    // a client's own condition is answered here, 304 or the whole
    let condition = "If-None-Match: \"v1\"\r\n";
    let own = ask(&proxy, "GET", &origin.url("/"), condition);
    assert!(own.starts_with("HTTP/1.1 304 ") && body(&own).is_empty());
    assert_eq!(field(&own, "etag"), Some("\"v1\""));
    let other =
        ask(&proxy, "GET", &origin.url("/"), "If-None-Match: \"v0\"\r\n");
    assert_eq!(body(&other), "content");
    assert_eq!(origin.count(), 2);
}

#[test]
fn a_304_of_another_version_is_not_believed() {
    let origin = Origin::new(|asked, socket| {
        let text = match field(asked, "if-none-match") {
            Some(_) => {
                "HTTP/1.1 304 Not Modified\r\nETag: \"v9\"\r\n\r\n".into()
            }
            None => answer(
                "200 OK",
                "ETag: \"v1\"\r\nCache-Control: max-age=0\r\n",
                "content",
            ),
        };
        socket.write_all(text.as_bytes()).is_ok()
    });
    let proxy = proxy(&[]);
    get(&proxy, &origin, "/");
    let again = get(&proxy, &origin, "/");
    assert_eq!((body(&again), origin.count()), ("content", 3));
}

#[test]
fn last_modified_validates_as_the_book_has_it() {
    let modified = "Wed, 09 Sep 2015 09:23:24 GMT";
    let origin = Origin::new(move |asked, socket| {
        let current = field(asked, "if-modified-since") == Some(modified);
        let fields =
            format!("Last-Modified: {modified}\r\nCache-Control: no-cache\r\n");
        let text = match current {
            true => format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n"),
            false => answer("200 OK", &fields, "kiwi"),
        };
        socket.write_all(text.as_bytes()).is_ok()
    });
    let proxy = proxy(&[]);
    get(&proxy, &origin, "/fruit/kiwi.gif");
    for _ in 0..2 {
        // no-cache: every time anew
        let validated = get(&proxy, &origin, "/fruit/kiwi.gif");
        assert!(said(&validated).starts_with("fwd=stale; fwd-status=304"));
        assert_eq!(body(&validated), "kiwi");
    }
    assert_eq!(origin.count(), 3);
}

#[test]
fn requests_say_what_they_take() {
    let origin = counting("Cache-Control: max-age=60\r\nAge: 30\r\n");
    let proxy = proxy(&[]);
    let url = origin.url("/");
    let with = |line: &str| {
        let line = format!("Cache-Control: {line}\r\n");
        let response = ask(&proxy, "GET", &url, &line);
        said(&response).to_string()
    };
    let none = ask(&proxy, "GET", &url, "Cache-Control: only-if-cached\r\n");
    assert!(none.starts_with("HTTP/1.1 504 "));
    assert_eq!(origin.count(), 0);
    with("x");
    assert!(with("only-if-cached").starts_with("hit"));
    assert!(with("max-age=50").starts_with("hit"));
    assert_eq!(with("max-age=5"), "fwd=request; stored");
    assert_eq!(with("min-fresh=50"), "fwd=request; stored");
    assert_eq!(with("no-cache"), "fwd=request; stored");
    let pragma = ask(&proxy, "GET", &url, "Pragma: no-cache\r\n");
    assert_eq!(said(&pragma), "fwd=request; stored");
    let stale = counting("Cache-Control: max-age=60\r\nAge: 70\r\n");
    let url = stale.url("/");
    ask(&proxy, "GET", &url, "");
    let taken = ask(&proxy, "GET", &url, "Cache-Control: max-stale=60\r\n");
    assert!(said(&taken).starts_with("hit; ttl=-1"), "{taken}");
    let late = ask(&proxy, "GET", &url, "Cache-Control: max-stale=5\r\n");
    assert_eq!(said(&late), "fwd=stale; stored");
}

#[test]
fn parts_from_the_store() {
    let origin = Origin::same(answer(
        "200 OK",
        "Cache-Control: max-age=60\r\nETag: \"v\"\r\nContent-Type: text/x\r\n",
        "0123456789",
    ));
    let proxy = proxy(&[]);
    let url = origin.url("/");
    let range = |line: &str| ask(&proxy, "GET", &url, line);
    // nothing is stored: the request goes on as it is
    range("Range: bytes=1-2\r\n");
    assert_eq!(field(&origin.asked()[0], "range"), Some("bytes=1-2"));
    let part = range("Range: bytes=1-2\r\n");
    assert!(part.starts_with("HTTP/1.1 206 "), "{part}");
    assert_eq!(field(&part, "content-range"), Some("bytes 1-2/10"));
    assert_eq!(
        (field(&part, "content-length"), body(&part)),
        (Some("2"), "12")
    );
    assert_eq!(body(&range("Range: bytes=-3\r\nIf-Range: \"v\"\r\n")), "789");
    let other = range("Range: bytes=-3\r\nIf-Range: \"w\"\r\n");
    assert_eq!(body(&other), "0123456789");
    let several = range("Range: bytes=0-0,5-6\r\n");
    let kind = field(&several, "content-type").unwrap();
    let boundary =
        kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    assert_eq!(
        body(&several),
        format!(
            "--{boundary}\r\nContent-Type: text/x\r\n\
             Content-Range: bytes 0-0/10\r\n\r\n0\r\n--{boundary}\r\n\
             Content-Type: text/x\r\nContent-Range: bytes 5-6/10\r\n\r\n\
             56\r\n--{boundary}--\r\n"
        )
    );
    let behind = range("Range: bytes=10-\r\n");
    assert!(behind.starts_with("HTTP/1.1 416 "));
    assert_eq!(field(&behind, "content-range"), Some("bytes */10"));
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_206_is_not_stored() {
    let origin = Origin::same(
        "HTTP/1.1 206 Partial Content\r\nCache-Control: max-age=60\r\n\
         Content-Range: bytes 0-0/9\r\nContent-Length: 1\r\n\r\n0",
    );
    let proxy = proxy(&[]);
    for _ in 0..2 {
        let part = get(&proxy, &origin, "/");
        assert_eq!(said(&part), "fwd=uri-miss; detail=partial");
    }
}

#[test]
fn head_makes_fresh_or_forgets() {
    let origin = Origin::new(|asked, socket| {
        let head = asked.starts_with("HEAD ");
        let changed = asked.contains("/changed");
        let tag = if head && changed { "\"v2\"" } else { "\"v1\"" };
        let fields = format!(
            "ETag: {tag}\r\nCache-Control: max-age=60\r\n{}",
            if head { "X-New: 2\r\n" } else { "Age: 61\r\n" }
        );
        let text = answer("200 OK", &fields, "content");
        let end = if head { text.len() - 7 } else { text.len() };
        socket.write_all(&text.as_bytes()[..end]).is_ok()
    });
    let proxy = proxy(&[]);
    get(&proxy, &origin, "/same");
    ask(&proxy, "HEAD", &origin.url("/same"), "");
    let hit = get(&proxy, &origin, "/same");
    assert!(said(&hit).starts_with("hit"), "{hit}");
    assert_eq!(field(&hit, "x-new"), Some("2"));
    get(&proxy, &origin, "/changed");
    ask(&proxy, "HEAD", &origin.url("/changed"), "");
    let miss = get(&proxy, &origin, "/changed");
    assert_eq!(said(&miss), "fwd=uri-miss; stored");
}

#[test]
fn unsafe_methods_forget_what_they_change() {
    let origin = Origin::new(|asked, socket| {
        let unsafe_method = !asked.starts_with("GET ");
        let host = field(asked, "host").unwrap();
        let fields = match unsafe_method {
            true => format!(
                "Location: http://{host}/made\r\nContent-Location: /here\r\n"
            ),
            false => "Cache-Control: max-age=60\r\n".into(),
        };
        let failed = asked.contains("X-Fail: 1");
        let status = if failed { "500 Failed" } else { "201 Created" };
        let status = if unsafe_method { status } else { "200 OK" };
        let text = answer(status, &fields, "x");
        socket.write_all(text.as_bytes()).is_ok()
    });
    let proxy = proxy(&[]);
    let paths = ["/", "/made", "/here", "/other"];
    let fill = || paths.map(|path| get(&proxy, &origin, path));
    for method in ["POST", "PUT", "DELETE", "PATCH", "BREW"] {
        fill();
        let post = |more: &str| {
            let fields = format!("Content-Length: 0\r\n{more}");
            ask(&proxy, method, &origin.url("/"), &fields)
        };
        post("X-Fail: 1\r\n");
        assert!(fill().iter().all(|r| said(r).starts_with("hit")));
        post("");
        let known = fill().map(|r| said(&r).starts_with("hit"));
        assert_eq!(known, [false, false, false, true], "{method}");
    }
}

#[test]
fn stale_while_it_is_revalidated() {
    let (asked_twice, second): (Sender<()>, Receiver<()>) = channel();
    let asked_twice = Mutex::new(asked_twice);
    let count = AtomicU32::new(0);
    let origin = Origin::new(move |_, socket| {
        let number = count.fetch_add(1, SeqCst) + 1;
        let fields = match number {
            1 => {
                "Age: 61\r\nCache-Control: max-age=60, stale-while-revalidate=600\r\n"
            }
            _ => "Cache-Control: max-age=60\r\n",
        };
        let text = answer("200 OK", fields, &format!("body {number}"));
        let sent = socket.write_all(text.as_bytes()).is_ok();
        if number == 2 {
            asked_twice.lock().unwrap().send(()).unwrap();
        }
        sent
    });
    let proxy = proxy(&[]);
    get(&proxy, &origin, "/");
    let stale = get(&proxy, &origin, "/");
    assert_eq!(body(&stale), "body 1");
    assert!(said(&stale).starts_with("hit; ttl=-"), "{stale}");
    second.recv_timeout(LIMIT).unwrap();
    // the answer is on its way into the store: each look either finds the
    // old one, or the new one, and asks the origin no more
    let mut now = String::new();
    for _ in 0..10_000 {
        now = get(&proxy, &origin, "/");
        if body(&now) != "body 1" {
            break;
        }
    }
    assert_eq!((body(&now), origin.count()), ("body 2", 2));
}

#[test]
fn stale_if_the_origin_fails() {
    for directive in ["stale-if-error=600", "max-age=60"] {
        let count = AtomicU32::new(0);
        let fields =
            format!("Age: 61\r\nCache-Control: max-age=60, {directive}\r\n");
        let origin = Origin::new(move |_, socket| {
            let text = match count.fetch_add(1, SeqCst) {
                0 => answer("200 OK", &fields, "good"),
                1 => answer("503 No", "", "bad"),
                _ => return false, // not even an answer
            };
            socket.write_all(text.as_bytes()).is_ok()
        });
        let proxy = proxy(&[]);
        get(&proxy, &origin, "/");
        let allowed = directive.starts_with("stale");
        for expected in ["503", "502"] {
            let response = get(&proxy, &origin, "/");
            match allowed {
                true => assert_eq!(body(&response), "good"),
                false => assert_eq!(&response[9..12], expected),
            }
        }
    }
}

/// Sends its first half, and the second when told.
fn slow(fields: &str) -> (Origin, Sender<()>) {
    let (go_on, wait) = channel();
    let wait = Mutex::new(wait);
    let fields = fields.to_string();
    let origin = Origin::new(move |_, socket| {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let chunked = fields.contains("chunked");
        let (first, last) = match chunked {
            true => ("5\r\nfirst\r\n", "6\r\nsecond\r\n0\r\n\r\n"),
            false => ("first", "second"),
        };
        socket.write_all(format!("{text}{first}").as_bytes()).unwrap();
        let told = wait.lock().unwrap().recv_timeout(LIMIT).is_ok();
        told && socket.write_all(last.as_bytes()).is_ok() && !chunked
    });
    (origin, go_on)
}

fn send_get(proxy: &Server, origin: &Origin) -> TcpStream {
    let mut client = proxy.connect();
    let url = origin.url("/");
    let request =
        format!("GET {url} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    client
}

/// Reads until this text has come.
fn read_until(client: &mut TcpStream, text: &str) -> String {
    let mut got = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&got).contains(text) {
        assert_eq!(client.read(&mut byte).unwrap(), 1, "it ended");
        got.push(byte[0]);
    }
    String::from_utf8_lossy(&got).into_owned()
}

#[test]
fn many_misses_are_one_fetch_that_streams_to_all() {
    for fields in [
        "Cache-Control: max-age=60\r\nContent-Length: 11\r\n",
        "Cache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let (origin, go_on) = slow(fields);
        let proxy = proxy(&[]);
        let mut clients: Vec<TcpStream> =
            (0..20).map(|_| send_get(&proxy, &origin)).collect();
        // all have the first half while the second is not even sent
        let heads: Vec<String> =
            clients.iter_mut().map(|c| read_until(c, "first")).collect();
        assert_eq!(origin.count(), 1);
        let collapsed = heads.iter().filter(|h| h.contains("; collapsed"));
        assert_eq!(collapsed.count(), 19);
        go_on.send(()).unwrap();
        for client in &mut clients {
            assert!(read_all(client).contains("second"));
        }
        assert!(said(&get(&proxy, &origin, "/")).starts_with("hit"));
        assert_eq!(origin.count(), 1);
    }
}

#[test]
fn who_waited_in_vain_asks_for_itself() {
    let (go_on, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let first = AtomicU32::new(0);
    let origin = Origin::new(move |_, socket| {
        if first.fetch_add(1, SeqCst) == 0 {
            let _ = wait.lock().unwrap().recv_timeout(LIMIT);
        }
        let text = answer("200 OK", "Cache-Control: no-store\r\n", "own");
        socket.write_all(text.as_bytes()).is_ok()
    });
    let proxy = Server::start("web-proxy", &["-q", "-e"]);
    let clients: Vec<TcpStream> =
        (0..5).map(|_| send_get(&proxy, &origin)).collect();
    for _ in 0..4 {
        proxy.wait_for("another request is fetching it");
    }
    assert!(origin.count() <= 1);
    go_on.send(()).unwrap();
    for client in clients {
        let (head, body) = read_response(&mut BufReader::new(client));
        assert!(head.contains("detail=no-store") && body == b"own");
    }
    assert_eq!(origin.count(), 5);
}

#[test]
fn a_client_that_leaves_ends_only_a_fetch_that_nobody_waits_for() {
    let fields = "Cache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n";
    // two are there: the leader goes, the other gets all
    let (origin, go_on) = slow(fields);
    let server = proxy(&[]);
    let mut leader = send_get(&server, &origin);
    read_until(&mut leader, "first");
    let mut other = send_get(&server, &origin);
    read_until(&mut other, "first");
    reset(leader);
    go_on.send(()).unwrap();
    assert!(read_all(&mut other).contains("second"));
    assert!(said(&get(&server, &origin, "/")).starts_with("hit"));
    assert_eq!(origin.count(), 1);

    // nobody is left: the connection to the origin is closed
    let (closed, seen) = channel();
    let closed = Mutex::new(closed);
    let origin = Origin::new(move |_, socket| {
        let text = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\
            Content-Length: 9\r\n\r\nxyz";
        socket.write_all(text.as_bytes()).unwrap();
        let ended = socket.read(&mut [0]);
        closed.lock().unwrap().send(ended.is_ok_and(|n| n == 0)).unwrap();
        false
    });
    let mut alone = send_get(&server, &origin);
    read_until(&mut alone, "xyz");
    reset(alone);
    assert!(seen.recv_timeout(LIMIT).unwrap());
}

/// Ends a connection so that the peer knows at once.
fn reset(client: TcpStream) {
    use std::os::fd::AsRawFd;
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: an open socket and a live linger of that length.
    let set = unsafe {
        libc::setsockopt(
            client.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
    assert_eq!(set, 0);
}

#[test]
fn what_broke_off_is_not_stored() {
    let count = Arc::new(AtomicU32::new(0));
    let counted = count.clone();
    let origin = Origin::new(move |_, socket| {
        let whole = counted.fetch_add(1, SeqCst) > 0;
        let text = format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\
             Content-Length: 6\r\n\r\nabc{}",
            if whole { "def" } else { "" }
        );
        socket.write_all(text.as_bytes()).is_ok() && whole
    });
    let proxy = proxy(&[]);
    assert_eq!(body(&get(&proxy, &origin, "/")), "abc");
    let second = get(&proxy, &origin, "/");
    assert_eq!(
        (said(&second), body(&second)),
        ("fwd=uri-miss; stored", "abcdef")
    );
}

#[test]
fn the_least_recently_used_goes_first() {
    let body_of = "x".repeat(1000);
    let origin = Origin::same(answer(
        "200 OK",
        "Cache-Control: max-age=60\r\n",
        &body_of,
    ));
    // an object takes some 1,700 octets: room for eight or nine
    let proxy = proxy(&["--cache-size", "16k"]);
    let is_hit =
        |path: &str| said(&get(&proxy, &origin, path)).starts_with("hit");
    for i in 0..8 {
        assert!(!is_hit(&format!("/{i}")));
    }
    assert!(is_hit("/0"), "room for all so far");
    for i in 8..12 {
        is_hit(&format!("/{i}"));
    }
    assert!(is_hit("/0"), "it was used");
    assert!(!is_hit("/1"), "it was not");
    // one object takes an eighth at most
    let large = Origin::same(answer(
        "200 OK",
        "Cache-Control: max-age=60\r\n",
        &"x".repeat(3000),
    ));
    let response = get(&proxy, &large, "/");
    assert_eq!(said(&response), "fwd=uri-miss; detail=too-large");
    // and so does one whose length is not known before
    let chunked = Origin::same(format!(
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\
         Transfer-Encoding: chunked\r\n\r\nbb8\r\n{}\r\n0\r\n\r\n",
        "x".repeat(3000)
    ));
    for _ in 0..2 {
        let response = get(&proxy, &chunked, "/");
        assert!(!said(&response).starts_with("hit"));
        assert!(response.ends_with("\r\n0\r\n\r\n"));
    }
}

#[test]
fn on_the_disk_it_is_found_again_and_only_if_it_is_whole() {
    let folder = Folder::new();
    let directory = folder.path("cache");
    let fields = "Cache-Control: max-age=600\r\nVary: Accept\r\nAge: 5\r\n";
    let origin = counting(fields);
    let mut first = proxy(&["--cache-dir", &directory]);
    let accept = "Accept: text/html, x\r\n";
    let paths = ["/a", "/b", "/c", "/d", "/e"];
    for path in paths {
        let miss = ask(&first, "GET", &origin.url(path), accept);
        assert_eq!(said(&miss), "fwd=uri-miss; stored");
        let hit = ask(&first, "GET", &origin.url(path), accept);
        assert!(said(&hit).starts_with("hit"), "{hit}");
    }
    // no time to tidy up
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let file_of = |path: &str| {
        let has = |file: &PathBuf| {
            let text =
                String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
            text.contains(&format!("GET {}\n", origin.url(path)))
        };
        let files = fs::read_dir(&directory).unwrap();
        files.map(|f| f.unwrap().path()).find(has).unwrap()
    };
    // to be read with less: what was asked, when, and what came
    let text = fs::read_to_string(file_of("/a")).unwrap();
    for part in [
        "topdown cache, checksum ",
        "\nasked: ",
        "\nreceived: ",
        "\naccept: text/html,x\n\nHTTP/1.1 200 OK\r\n",
        "\r\nAge: 5\r\n\r\nbody 1",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let change = |path: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(file_of(path)).unwrap();
        change(&mut bytes);
        fs::write(file_of(path), bytes).unwrap();
    };
    change("/b", &|bytes| bytes.truncate(bytes.len() - 1));
    change("/c", &|bytes| *bytes.last_mut().unwrap() ^= 1);
    fs::write(format!("{directory}/0123456789abcdef.http"), "foreign").unwrap();
    fs::write(format!("{directory}/README"), "mine").unwrap();
    fs::write(format!("{directory}/0000000000000000.part"), "half").unwrap();
    let second = proxy(&["--cache-dir", &directory]);
    for (path, known) in paths.iter().zip([true, false, false, true, true]) {
        let response = ask(&second, "GET", &origin.url(path), accept);
        assert_eq!(said(&response).starts_with("hit"), known, "{path}");
        if known {
            let age: u32 = field(&response, "age").unwrap().parse().unwrap();
            assert!((5..60).contains(&age), "{age}");
        }
    }
    assert!(fs::exists(format!("{directory}/README")).unwrap());
    assert!(!fs::exists(format!("{directory}/0000000000000000.part")).unwrap());
}

#[test]
fn a_file_that_is_changed_meanwhile_is_not_served() {
    let folder = Folder::new();
    let directory = folder.path("cache");
    let origin = counting("Cache-Control: max-age=600\r\n");
    let proxy = proxy(&["--cache-dir", &directory]);
    let change: [fn(&Path); 3] = [
        |file| {
            let mut bytes = fs::read(file).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(file, bytes).unwrap();
        },
        |file| fs::remove_file(file).unwrap(),
        |file| fs::write(file, "").unwrap(),
    ];
    for (i, change) in change.iter().enumerate() {
        get(&proxy, &origin, "/");
        assert!(said(&get(&proxy, &origin, "/")).starts_with("hit"));
        let files = fs::read_dir(&directory).unwrap();
        files.for_each(|file| change(&file.unwrap().path()));
        let response = get(&proxy, &origin, "/");
        assert!(!said(&response).starts_with("hit"), "{i}: {response}");
        assert!(body(&response).starts_with("body "), "{i}: {response}");
    }
    // nor is a stale one, after a 304
    let origin = stale("\"v1\"", "");
    get(&proxy, &origin, "/stale");
    let files = fs::read_dir(&directory).unwrap();
    files.for_each(|file| change[0](&file.unwrap().path()));
    let response = get(&proxy, &origin, "/stale");
    assert_eq!(body(&response), "content", "{response}");
}

#[test]
fn the_disk_is_bounded_too() {
    let folder = Folder::new();
    let directory = folder.path("cache");
    let origin = Origin::same(answer(
        "200 OK",
        "Cache-Control: max-age=60\r\n",
        &"x".repeat(1000),
    ));
    let options = ["--cache-dir", &directory, "--cache-size", "16k"];
    let proxy = proxy(&options);
    for i in 0..50 {
        get(&proxy, &origin, &format!("/{i}"));
    }
    let files: Vec<_> =
        fs::read_dir(&directory).unwrap().map(Result::unwrap).collect();
    let size: u64 = files.iter().map(|f| f.metadata().unwrap().len()).sum();
    assert!(size <= 16 * 1024 && files.len() > 5, "{size}");
    // what is forgotten is gone there, too
    let url = origin.url("/49");
    ask(&proxy, "DELETE", &url, "");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), files.len() - 1);
}

#[test]
fn the_log_and_the_margin_say_why() {
    let origin = counting("Cache-Control: max-age=60\r\n");
    let folder = Folder::new();
    let log = folder.path("log");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "exec \"$0\" web-proxy -e -l 0 >\"$1\"", BINARY, &log]);
    let proxy = Server::spawn_keeping_stdout(command);
    get(&proxy, &origin, "/");
    get(&proxy, &origin, "/");
    proxy.wait_for("nothing is stored for this URI");
    proxy.wait_for("stored. RFC 9111 §3");
    proxy.wait_for("reused: age 0 s < lifetime 60 s");
    let log = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines[0].contains(
        "\"topdown; fwd=uri-miss; stored\" \"nothing is stored for this URI. \
         RFC 9111 §4\""
    ));
    assert!(lines[1].contains("\"topdown; hit; ttl="), "{}", lines[1]);
    assert!(lines[1].contains("\"reused: age "));
}

#[test]
fn a_304_may_forbid_to_keep_it() {
    for directive in ["private", "no-store"] {
        let origin = Origin::new(move |asked, socket| {
            let text = match field(asked, "if-none-match") {
                Some(_) => format!(
                    "HTTP/1.1 304 Not Modified\r\nETag: \"v\"\r\n\
                     Cache-Control: {directive}\r\nSet-Cookie: own\r\n\r\n"
                ),
                None => answer(
                    "200 OK",
                    "ETag: \"v\"\r\nCache-Control: max-age=0\r\n",
                    "content",
                ),
            };
            socket.write_all(text.as_bytes()).is_ok()
        });
        let proxy = proxy(&[]);
        get(&proxy, &origin, "/");
        let own = get(&proxy, &origin, "/");
        assert_eq!(
            (field(&own, "set-cookie"), body(&own)),
            (Some("own"), "content")
        );
        let other = get(&proxy, &origin, "/");
        assert_eq!(field(&other, "set-cookie"), None, "{directive}");
    }
}

#[test]
fn an_answer_older_than_an_unsafe_request_is_not_kept() {
    for validates in [false, true] {
        let (asked_origin, asked) = channel();
        let (go_on, wait) = channel::<()>();
        let pair = Mutex::new((asked_origin, wait));
        let gets = AtomicU32::new(0);
        let origin = Origin::new(move |request, socket| {
            if request.starts_with("POST") {
                let text = answer("200 OK", "", "changed");
                return socket.write_all(text.as_bytes()).is_ok();
            }
            let number = gets.fetch_add(1, SeqCst);
            let slow = number == u32::from(validates);
            if slow {
                let pair = pair.lock().unwrap();
                pair.0.send(()).unwrap();
                let _ = pair.1.recv_timeout(LIMIT);
            }
            let lifetime = if validates && number == 0 { 0 } else { 60 };
            let fields =
                format!("ETag: \"v\"\r\nCache-Control: max-age={lifetime}\r\n");
            let text = match slow && validates {
                true => format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n"),
                false => answer("200 OK", &fields, &format!("body {number}")),
            };
            socket.write_all(text.as_bytes()).is_ok()
        });
        let proxy = proxy(&[]);
        if validates {
            get(&proxy, &origin, "/");
        }
        let mut early = send_get(&proxy, &origin);
        asked.recv_timeout(LIMIT).unwrap();
        ask(&proxy, "POST", &origin.url("/"), "Content-Length: 0\r\n");
        // who asks now gets nothing of what is on its way
        let late = get(&proxy, &origin, "/");
        assert!(!said(&late).contains("collapsed"), "{late}");
        go_on.send(()).unwrap();
        let early = read_all(&mut early);
        assert!(early.contains("body "), "{early}");
        let now = get(&proxy, &origin, "/");
        assert_ne!(body(&now), if validates { "body 0" } else { body(&early) });
    }
}

#[test]
fn a_get_with_content_stores_nothing_and_neither_do_412_and_416() {
    let origin = Origin::new(|asked, socket| {
        let length = field(asked, "content-length");
        let mut sent = vec![0; length.map_or(0, |l| l.parse().unwrap())];
        socket.read_exact(&mut sent).unwrap();
        let status = match asked {
            a if a.contains("If-Match") => "412 Precondition Failed",
            a if a.contains("Range") => "416 Range Not Satisfiable",
            _ => "200 OK",
        };
        let text = String::from_utf8(sent).unwrap();
        let text = answer(status, "Cache-Control: max-age=60\r\n", &text);
        socket.write_all(text.as_bytes()).is_ok()
    });
    let proxy = proxy(&[]);
    for fields in [
        "Content-Length: 4\r\n\r\nevil",
        "If-Match: \"x\"\r\n",
        "Range: bytes=99-\r\n",
    ] {
        ask(&proxy, "GET", &origin.url("/"), fields);
        let count = origin.count();
        let plain = get(&proxy, &origin, "/");
        assert_eq!((body(&plain), &plain[9..12]), ("", "200"), "{fields}");
        assert_eq!(origin.count(), count + 1);
        ask(&proxy, "DELETE", &origin.url("/"), "");
    }
}

#[test]
fn vary_by_a_304_counts() {
    let origin = Origin::new(|asked, socket| {
        let language = field(asked, "accept-language").unwrap_or("none");
        let text = match field(asked, "if-none-match") {
            Some(_) => "HTTP/1.1 304 Not Modified\r\nETag: \"v\"\r\n\
                Vary: Accept-Language\r\nCache-Control: max-age=60\r\n\r\n"
                .into(),
            None => answer(
                "200 OK",
                "ETag: \"v\"\r\nCache-Control: max-age=0\r\n",
                language,
            ),
        };
        socket.write_all(text.as_bytes()).is_ok()
    });
    let proxy = proxy(&[]);
    let with = |language: &str| {
        let line = format!("Accept-Language: {language}\r\n");
        ask(&proxy, "GET", &origin.url("/"), &line)
    };
    with("de");
    assert_eq!(body(&with("de")), "de");
    assert_eq!(body(&with("en")), "en", "another variant");
}

#[test]
fn what_another_origin_has_is_not_forgotten() {
    let victim = counting("Cache-Control: max-age=60\r\n");
    let target = victim.url("/");
    let foreign = format!("Location: {target}\r\n");
    let attacker = Origin::same(answer("201 Created", &foreign, ""));
    let proxy = proxy(&[]);
    get(&proxy, &victim, "/");
    ask(&proxy, "POST", &attacker.url("/"), "Content-Length: 0\r\n");
    assert!(said(&get(&proxy, &victim, "/")).starts_with("hit"));
}

#[test]
fn a_304_by_date_must_be_of_the_copys_date() {
    let count = AtomicU32::new(0);
    let origin = Origin::new(move |asked, socket| {
        let first = "Last-Modified: Wed, 09 Sep 2015 09:23:24 GMT\r\n";
        let other = "Last-Modified: Wed, 09 Sep 2015 09:23:25 GMT\r\n";
        let number = count.fetch_add(1, SeqCst);
        let text = match asked.contains("If-Modified-Since") {
            true => format!("HTTP/1.1 304 Not Modified\r\n{other}\r\n"),
            false => {
                let fields = format!("{first}Cache-Control: max-age=0\r\n");
                answer("200 OK", &fields, &format!("body {number}"))
            }
        };
        socket.write_all(text.as_bytes()).is_ok()
    });
    let proxy = proxy(&[]);
    get(&proxy, &origin, "/");
    assert_eq!(body(&get(&proxy, &origin, "/")), "body 2");
}

#[test]
fn a_304_makes_all_variants_of_its_strong_tag_fresh() {
    for (tag, both) in [("\"v\"", true), ("W/\"v\"", false)] {
        let origin = Origin::new(move |asked, socket| {
            let language = field(asked, "accept-language").unwrap_or("none");
            let text = match field(asked, "if-none-match") {
                Some(_) => format!(
                    "HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n\
                     Cache-Control: max-age=60\r\n\r\n"
                ),
                None => answer(
                    "200 OK",
                    &format!(
                        "ETag: {tag}\r\nVary: Accept-Language\r\n\
                         Cache-Control: max-age=0\r\n"
                    ),
                    language,
                ),
            };
            socket.write_all(text.as_bytes()).is_ok()
        });
        let proxy = proxy(&[]);
        let with = |language: &str| {
            let line = format!("Accept-Language: {language}\r\n");
            ask(&proxy, "GET", &origin.url("/"), &line)
        };
        with("de");
        with("fr");
        assert!(said(&with("de")).starts_with("fwd=stale; fwd-status=304"));
        let other = with("fr");
        assert_eq!(said(&other).starts_with("hit"), both, "{other}");
        assert_eq!(body(&other), "fr");
    }
}

#[test]
fn head_makes_no_stored_error_fresh() {
    let origin = Origin::new(|asked, socket| {
        let text = match asked.starts_with("HEAD ") {
            true => {
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\r\n".into()
            }
            false => answer(
                "404 Not Found",
                "Cache-Control: max-age=60\r\nAge: 61\r\n",
                "",
            ),
        };
        socket.write_all(text.as_bytes()).is_ok()
    });
    let proxy = proxy(&[]);
    get(&proxy, &origin, "/");
    ask(&proxy, "HEAD", &origin.url("/"), "");
    assert_eq!(said(&get(&proxy, &origin, "/")), "fwd=uri-miss; stored");
}

#[test]
fn who_waits_gets_only_what_it_may_use() {
    let (arrived, asked) = channel();
    let (go_on, wait) = channel::<()>();
    let pair = Mutex::new((arrived, wait));
    let first = AtomicU32::new(0);
    let origin = Origin::new(move |_, socket| {
        if first.fetch_add(1, SeqCst) == 0 {
            let pair = pair.lock().unwrap();
            pair.0.send(()).unwrap();
            let _ = pair.1.recv_timeout(LIMIT);
        }
        let fields = "Cache-Control: no-cache\r\nETag: \"v\"\r\n";
        socket.write_all(answer("200 OK", fields, "x").as_bytes()).is_ok()
    });
    let proxy = Server::start("web-proxy", &["-q", "-e"]);
    let mut leader = send_get(&proxy, &origin);
    asked.recv_timeout(LIMIT).unwrap();
    let mut other = send_get(&proxy, &origin);
    proxy.wait_for("another request is fetching it");
    go_on.send(()).unwrap();
    assert!(read_all(&mut leader).ends_with("x"));
    let other = read_all(&mut other);
    assert!(!said(&other).contains("collapsed"), "{other}");
    assert_eq!(origin.count(), 2);
}
