//! The proxy between a client and an origin of the test's own: what goes on,
//! what stays behind, and how each side sees it end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;

use crate::harness::{
    BINARY, Folder, LIMIT, Origin, Server, answer, connect, read_all,
    read_response, run, run_command,
};

/// A proxy that keeps nothing, to see the forwarding alone.
fn proxy(more: &[&str]) -> Server {
    Server::start("web-proxy", &[&["-q", "--no-cache"], more].concat())
}

/// One request, in the browser's form, on a connection of its own.
fn ask(proxy: &Server, line: &str, fields: &str) -> String {
    proxy.dialogue(format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n"
    ))
}

fn get(proxy: &Server, origin: &Origin, path: &str) -> String {
    ask(proxy, &format!("GET {}", origin.url(path)), "")
}

fn status(response: &str) -> &str {
    response.get(9..12).unwrap_or("none")
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let head = head.split("\r\n\r\n").next()?;
    let value = |l: &'a str| {
        let (n, value) = l.split_once(": ")?;
        n.eq_ignore_ascii_case(name).then_some(value)
    };
    head.lines().find_map(value)
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[test]
fn the_labs_form_and_the_browsers_form() {
    let origin = Origin::same(answer("200 OK", "", "hello"));
    let proxy = proxy(&[]);
    let address = origin.address;
    for line in [
        format!("GET http://{address}/a?b"),
        format!("GET /{address}/a?b"),
        format!("GET /http://{address}/a?b"),
    ] {
        let response = ask(&proxy, &line, "");
        assert_eq!((status(&response), body(&response)), ("200", "hello"));
        let asked = origin.asked().pop().unwrap();
        assert!(asked.starts_with("GET /a?b HTTP/1.1\r\n"), "{asked}");
        // made from the target, whatever the client said
        assert_eq!(field(&asked, "host"), Some(&*address.to_string()));
    }
    // a host without a path is asked for its root
    ask(&proxy, &format!("GET /{address}"), "");
    assert!(origin.asked().pop().unwrap().starts_with("GET / HTTP/1.1"));
}

#[test]
fn pages_in_the_labs_form_link_on() {
    let origin = Origin::new(|asked, socket| {
        let redirect = asked.contains("GET /old ");
        let answer = match redirect {
            true => answer("302 Found", "Location: /new?x\r\n", ""),
            false => answer("200 OK", "", "hello"),
        };
        socket.write_all(answer.as_bytes()).is_ok()
    });
    let proxy = proxy(&[]);
    let address = origin.address;
    let own = format!("http://{}", proxy.address);
    let relative = |path: &str, page: &str| {
        proxy.dialogue(format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Referer: {own}/{page}\r\n\r\n",
            proxy.address
        ))
    };
    let page = format!("{address}/dir/page.html");
    assert_eq!(body(&relative("/style.css", &page)), "hello");
    assert!(origin.asked().pop().unwrap().starts_with("GET /style.css "));
    // what the style sheet wants
    assert_eq!(body(&relative("/pic.png", "style.css")), "hello");
    // a redirect comes back here in this form, and only in this form
    let response = ask(&proxy, &format!("GET /{address}/old"), "");
    let expected = format!("/{address}/new?x");
    assert_eq!(field(&response, "location"), Some(&*expected));
    let response = get(&proxy, &origin, "/old");
    assert_eq!(field(&response, "location"), Some("/new?x"));
}

#[test]
fn what_is_of_one_hop_stays_behind() {
    let origin = Origin::same(answer(
        "200 OK",
        "Connection: X-Origin-Own\r\nX-Origin-Own: 1\r\nX-Other: 2\r\n\
         Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic realm=x\r\n\
         Upgrade: h2c\r\nVia: 1.1 first\r\n",
        "hello",
    ));
    let proxy = proxy(&[]);
    let response = ask(
        &proxy,
        &format!("GET {}", origin.url("/")),
        "Connection: X-Client-Own\r\nX-Client-Own: 1\r\nX-Unknown: 2\r\n\
         Proxy-Authorization: Basic c2VjcmV0\r\nProxy-Connection: x\r\n\
         Upgrade: websocket\r\nTE: trailers, deflate\r\nVia: 1.0 before\r\n",
    );
    let asked = origin.asked().pop().unwrap();
    for gone in ["x-client-own", "proxy-", "upgrade", "localhost", "forwarded"]
    {
        assert!(!asked.to_lowercase().contains(gone), "{gone}: {asked}");
    }
    assert_eq!(field(&asked, "x-unknown"), Some("2"));
    assert_eq!(field(&asked, "te"), Some("trailers"));
    assert_eq!(field(&asked, "connection"), Some("TE"));
    assert!(asked.contains("Via: 1.0 before\r\n"));
    assert!(asked.contains("Via: 1.1 topdown-"), "{asked}");
    for gone in ["x-origin-own", "keep-alive", "proxy-auth", "upgrade"] {
        assert!(!response.to_lowercase().contains(gone), "{gone}");
    }
    assert_eq!(field(&response, "x-other"), Some("2"));
    assert!(response.contains("Via: 1.1 first\r\n"));
    assert_eq!(response.matches("\r\nVia: 1.1 topdown-").count(), 1);
    // it had none
    assert!(field(&response, "date").unwrap().ends_with(" GMT"));
}

#[test]
fn unknown_methods_statuses_and_fields_pass() {
    let origin = Origin::new(|asked, socket| {
        let length = field(asked, "content-length");
        let mut sent = vec![0; length.map_or(0, |l| l.parse().unwrap())];
        socket.read_exact(&mut sent).unwrap();
        let answer = answer("999 Strange Thing", "X-Very-Own: y\r\n", "done");
        socket.write_all(answer.as_bytes()).is_ok()
    });
    let proxy = proxy(&[]);
    let line = format!("BREW {}", origin.url("/pot"));
    let response =
        ask(&proxy, &line, "Content-Length: 3\r\nX-Own: z\r\n\r\nabc");
    assert!(response.starts_with("HTTP/1.1 999 Strange Thing\r\n"));
    assert_eq!(field(&response, "x-very-own"), Some("y"));
    let asked = origin.asked().pop().unwrap();
    assert!(asked.starts_with("BREW /pot HTTP/1.1\r\n"));
    assert_eq!(field(&asked, "content-length"), Some("3"));
    assert_eq!(field(&asked, "x-own"), Some("z"));
}

/// Reads a chunked body as it stands on the wire.
fn chunked(socket: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn chunked_bodies_pass_with_their_trailers() {
    let origin = Origin::new(|_, socket| {
        let sent = chunked(socket);
        assert!(sent.ends_with("0\r\nX-Sum: 9\r\n\r\n"), "{sent}");
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            3;x=y\r\nabc\r\n0\r\nX-After: 1\r\n\r\n";
        socket.write_all(answer.as_bytes()).is_ok()
    });
    let proxy = proxy(&[]);
    let line = format!("POST {}", origin.url("/"));
    let response = ask(
        &proxy,
        &line,
        "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Sum: 9\r\n",
    );
    assert_eq!(field(&response, "transfer-encoding"), Some("chunked"));
    // made anew: without the extension
    assert_eq!(body(&response), "3\r\nabc\r\n0\r\nX-After: 1\r\n\r\n");
    let asked = origin.asked().pop().unwrap();
    assert_eq!(field(&asked, "transfer-encoding"), Some("chunked"));
}

#[test]
fn an_events_first_line_does_not_wait_for_the_second() {
    for head in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nfirst\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 600000\r\n\r\nfirst\n",
        "HTTP/1.1 200 OK\r\n\r\nfirst\n",
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=9\r\n\r\nfirst\n",
    ] {
        for more in [&["-q"][..], &["-q", "--no-cache"]] {
            let (go_on, wait) = channel::<()>();
            let wait = Mutex::new(wait);
            let origin = Origin::new(move |_, socket| {
                socket.write_all(head.as_bytes()).unwrap();
                // only when the first line is there
                let _ = wait.lock().unwrap().recv_timeout(LIMIT);
                false
            });
            let proxy = Server::start("web-proxy", more);
            let mut client = proxy.connect();
            let request =
                format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", origin.url("/"));
            client.write_all(request.as_bytes()).unwrap();
            let mut reader = BufReader::new(client);
            let mut line = String::new();
            while !line.contains("first") {
                line.clear();
                assert!(reader.read_line(&mut line).unwrap() > 0);
            }
            go_on.send(()).unwrap();
        }
    }
}

#[test]
fn framing_is_made_anew_for_each_side() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
    for (from_origin, new, old) in [
        (chunked, "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "abc"),
        ("HTTP/1.1 200 OK\r\n\r\nabc", "3\r\nabc\r\n0\r\n\r\n", "abc"),
        ("HTTP/1.0 200 OK\r\n\r\nabc", "3\r\nabc\r\n0\r\n\r\n", "abc"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", "abc", "abc"),
    ] {
        let answer = from_origin.as_bytes().to_vec();
        let origin = Origin::new(move |_, socket| {
            socket.write_all(&answer).unwrap();
            false
        });
        let proxy = proxy(&[]);
        let response = get(&proxy, &origin, "/");
        assert_eq!(body(&response), new, "{from_origin}");
        let request = format!("GET {} HTTP/1.0\r\n\r\n", origin.url("/"));
        let response = proxy.dialogue(request);
        assert_eq!(body(&response), old, "{from_origin}");
        assert_eq!(field(&response, "transfer-encoding"), None);
        let asked = origin.asked();
        assert!(asked[0].contains("Via: 1.1 "));
        assert!(asked[1].contains("Via: 1.0 "));
    }
    // HEAD, 204 and 304 have no body, whatever they say of one
    let origin = Origin::new(|asked, socket| {
        let status = asked.split(['/', ' ']).nth(2).unwrap();
        let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n");
        socket.write_all(text.as_bytes()).is_ok()
    });
    let proxy = proxy(&[]);
    let mut client = BufReader::new(proxy.connect());
    for (method, status, length) in
        [("HEAD", "200", Some("5")), ("GET", "204", None), ("GET", "304", None)]
    {
        let url = origin.url(&format!("/{status}"));
        let request = format!("{method} {url} HTTP/1.1\r\nHost: h\r\n\r\n");
        client.get_mut().write_all(request.as_bytes()).unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(client.read_line(&mut head).unwrap() > 0);
        }
        assert_eq!(head.get(9..12), Some(status));
        assert_eq!(field(&head, "content-length"), length, "{method} {status}");
    }
}

#[test]
fn a_connection_serves_many_requests_and_so_does_one_to_the_origin() {
    let origin = Origin::same(answer("200 OK", "", "hello"));
    let proxy = proxy(&[]);
    let mut client = BufReader::new(proxy.connect());
    for path in ["/a", "/b", "/c"] {
        let url = origin.url(path);
        let request = format!("GET {url} HTTP/1.1\r\nHost: h\r\n\r\n");
        client.get_mut().write_all(request.as_bytes()).unwrap();
        assert_eq!(read_response(&mut client).1, b"hello");
    }
    assert_eq!((origin.count(), origin.connections()), (3, 1));
    // and another client's, once the connection is kept: that is after the
    // answer has left
    for _ in 0..100 {
        get(&proxy, &origin, "/d");
    }
    assert!(origin.connections() < 50, "{}", origin.connections());
    // HTTP/1.0's keep-alive is not for proxies
    let request = format!(
        "GET {} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        origin.url("/")
    );
    let mut client = BufReader::new(proxy.connect());
    client.get_mut().write_all(request.as_bytes()).unwrap();
    let (head, _) = read_response(&mut client);
    assert_eq!(field(&head, "connection"), Some("close"));
}

#[test]
fn trailers_of_one_hop_stay_behind() {
    let origin = Origin::new(|_, socket| {
        let sent = chunked(socket);
        let text = answer("200 OK", "", sent.split("0\r\n").nth(1).unwrap());
        let split = text.replace("Content-Length", "X-Length");
        let (head, body) = split.split_once("\r\n\r\n").unwrap();
        let text = format!(
            "{head}\r\nConnection: X-Own\r\nTransfer-Encoding: chunked\r\n\
             \r\n{:x}\r\n{body}\r\n0\r\nX-Own: 1\r\nContent-Length: 5\r\n\
             X-Sum: 1\r\n\r\n",
            body.len()
        );
        socket.write_all(text.as_bytes()).is_ok()
    });
    let proxy = proxy(&[]);
    let response = ask(
        &proxy,
        &format!("POST {}", origin.url("/")),
        "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\
         Proxy-Authorization: secret\r\nX-Up: 1\r\n",
    );
    assert!(response.contains("X-Up: 1"), "{response}");
    assert!(!response.contains("secret"), "{response}");
    assert!(response.ends_with("0\r\nX-Sum: 1\r\n\r\n"), "{response}");
}

#[test]
fn a_slow_upload_is_no_silence() {
    let origin = Origin::new(|_, socket| {
        socket.read_exact(&mut [0; 6]).unwrap();
        socket.write_all(answer("200 OK", "", "got it").as_bytes()).is_ok()
    });
    let proxy = proxy(&["-W", "0.4"]);
    let mut client = proxy.connect();
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\n",
        origin.url("/")
    );
    client.write_all(head.as_bytes()).unwrap();
    for _ in 0..6 {
        // longer in all than the limit, though no single wait is
        thread::park_timeout(std::time::Duration::from_millis(150));
        client.write_all(b"x").unwrap();
    }
    let (head, body) = read_response(&mut BufReader::new(client));
    assert!(head.starts_with("HTTP/1.1 200") && body == b"got it", "{head}");
}

#[test]
fn only_what_is_idempotent_is_tried_once_more() {
    // each connection takes one request, and closes at the second without
    // an answer: the proxy cannot know before
    let origin = Origin::new(|asked, socket| {
        let again = asked.contains("X-Second: 1");
        if again && asked.contains("/lost") {
            return false;
        }
        let answer = answer("200 OK", "", "hello");
        socket.write_all(answer.as_bytes()).unwrap();
        true
    });
    let proxy = proxy(&[]);
    let second = "X-Second: 1\r\n";
    get(&proxy, &origin, "/");
    let lost = origin.url("/lost");
    let response = ask(&proxy, &format!("GET {lost}"), second);
    assert_eq!(status(&response), "502");
    assert_eq!(origin.count(), 3, "once more, over a new connection");
    assert_eq!(origin.connections(), 2);
    get(&proxy, &origin, "/");
    let asked = origin.count();
    let response = ask(
        &proxy,
        &format!("POST {lost}"),
        "X-Second: 1\r\nContent-Length: 0\r\n",
    );
    assert_eq!(status(&response), "502");
    assert_eq!(origin.count(), asked + 1, "never again");
}

#[test]
fn interim_answers_pass_and_100_is_the_origins_to_give() {
    let origin = Origin::new(|asked, socket| {
        if asked.contains("Expect: 100-continue") {
            socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        } else {
            let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </s>\r\n\r\n";
            socket.write_all(hints).unwrap();
        }
        let mut sent = [0; 5];
        socket.read_exact(&mut sent).unwrap();
        let text = answer("200 OK", "", std::str::from_utf8(&sent).unwrap());
        socket.write_all(text.as_bytes()).is_ok()
    });
    let proxy = proxy(&[]);
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n",
        origin.url("/")
    );
    let mut client = BufReader::new(proxy.connect());
    let expecting = format!("{head}Expect: 100-continue\r\n\r\n");
    client.get_mut().write_all(expecting.as_bytes()).unwrap();
    let (interim, _) = read_response(&mut client);
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    client.get_mut().write_all(b"hello").unwrap();
    assert_eq!(read_response(&mut client).1, b"hello");
    // the connection is good for more
    client.get_mut().write_all(format!("{head}\r\nagain").as_bytes()).unwrap();
    let (interim, _) = read_response(&mut client);
    assert!(interim.starts_with("HTTP/1.1 103 "));
    assert_eq!(field(&interim, "link"), Some("</s>"));
    assert_eq!(read_response(&mut client).1, b"again");
    // HTTP/1.0 knows of no interim answers
    let old = head.replace("HTTP/1.1", "HTTP/1.0");
    let response = proxy.dialogue(format!("{old}\r\nolder"));
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    let response =
        ask(&proxy, &format!("GET {}", origin.url("/")), "Expect: x\r\n");
    assert_eq!(status(&response), "417");
}

#[test]
fn an_early_answer_is_heard_and_ends_the_upload() {
    let origin = Origin::new(|_, socket| {
        let text = answer("413 Content Too Large", "", "no");
        socket.write_all(text.as_bytes()).unwrap();
        // and reads no more
        let _ = socket.shutdown(Shutdown::Write);
        thread::park_timeout(LIMIT);
        false
    });
    let proxy = proxy(&[]);
    let mut client = proxy.connect();
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\nabc",
        origin.url("/")
    );
    client.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let (head, body) = read_response(&mut reader);
    assert!(head.starts_with("HTTP/1.1 413 ") && body == b"no", "{head}");
    assert_eq!(field(&head, "connection"), Some("close"));
    drop(client);
}

#[test]
fn a_part_of_an_upload_is_never_taken_for_the_whole() {
    for (framing, part) in [
        ("Content-Length: 10", "abc"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\nzz\r\n"),
    ] {
        let (ended, how) = channel();
        let ended = Mutex::new(ended);
        let origin = Origin::new(move |_, socket| {
            let mut all = Vec::new();
            let read = socket.read_to_end(&mut all);
            let text = String::from_utf8_lossy(&all).into_owned();
            ended.lock().unwrap().send((read.is_ok(), text)).unwrap();
            false
        });
        let proxy = proxy(&[]);
        let url = origin.url("/");
        let response = proxy.dialogue(format!(
            "POST {url} HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n{part}"
        ));
        let (_, got) = how.recv_timeout(LIMIT).unwrap();
        assert!(!got.ends_with("0\r\n\r\n") && got.len() < 10, "{got}");
        if part.contains("zz") {
            assert_eq!(status(&response), "400");
        }
    }
}

#[test]
fn max_forwards_counts_for_trace_and_options() {
    let origin = Origin::same(answer("200 OK", "", "hello"));
    let proxy = proxy(&[]);
    let forwards = |method: &str, count: &str| {
        let line = format!("{method} {}", origin.url("/x"));
        ask(&proxy, &line, &format!("Max-Forwards: {count}\r\nCookie: c\r\n"))
    };
    forwards("TRACE", "3");
    let asked = origin.asked().pop().unwrap();
    assert_eq!(field(&asked, "max-forwards"), Some("2"));
    forwards("GET", "3");
    let asked = origin.asked().pop().unwrap();
    assert_eq!(field(&asked, "max-forwards"), Some("3"));
    let count = origin.count();
    let response = forwards("TRACE", "0");
    assert_eq!(field(&response, "content-type"), Some("message/http"));
    assert!(body(&response).starts_with("TRACE http://"));
    assert!(!response.contains("Cookie"), "{response}");
    let response = forwards("OPTIONS", "0");
    assert!(field(&response, "allow").unwrap().contains("GET"));
    assert_eq!(origin.count(), count, "no further than here");
    // the origin as a whole
    let line = format!("OPTIONS http://{}", origin.address);
    ask(&proxy, &line, "");
    assert!(origin.asked().pop().unwrap().starts_with("OPTIONS * HTTP"));
}

#[test]
fn what_is_ambiguous_is_refused_on_both_sides() {
    let origin = Origin::same(answer("200 OK", "", "hello"));
    let proxy = proxy(&[]);
    let line = format!("POST {}", origin.url("/"));
    for fields in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "Content-Length: +3\r\n\r\nabc",
        "Transfer-Encoding: chunked, x\r\n",
        "X : y\r\n",
        "Host: twice\r\n",
    ] {
        let response = ask(&proxy, &line, fields);
        assert_eq!(status(&response), "400", "{fields}");
    }
    assert_eq!(origin.count(), 0);
    for wrong in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabc",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA\0: b\r\n\r\n",
        "HTTP/1.1 OK\r\n\r\n",
        "HTTP/1.1 101 Switching\r\n\r\n",
        "220 mail.example.com ESMTP\r\n",
        "\x16\x03\x01\r\n\r\n",
        "",
    ] {
        let bytes = wrong.as_bytes().to_vec();
        let origin = Origin::new(move |_, socket| {
            let _ = socket.write_all(&bytes);
            false
        });
        let response = get(&proxy, &origin, "/");
        assert_eq!(status(&response), "502", "{wrong}");
    }
}

#[test]
fn errors_are_told_in_plain_words() {
    let proxy = proxy(&["-W", "0.3"]);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let response = ask(&proxy, &format!("GET http://{address}/"), "");
    assert_eq!(status(&response), "502");
    assert!(response.contains("The server could not be reached."));
    assert!(response.contains("Connection refused"));
    let response = ask(&proxy, "GET http://no-such-host.invalid/", "");
    let expected = ["502", "504"]; // no name server answers in time, perhaps
    assert!(expected.contains(&status(&response)), "{response}");
    assert!(response.contains("no-such-host.invalid"));
    let silent = Origin::new(|_, _| {
        thread::park_timeout(LIMIT);
        false
    });
    let response = get(&proxy, &silent, "/");
    assert_eq!(status(&response), "504");
    assert!(response.contains("The server did not answer in time."));
    let late = ask(
        &proxy,
        &format!("POST {}", silent.url("/")),
        "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
    );
    assert_eq!(status(&late), "504");
    // the origin's own errors are left alone
    let origin = Origin::same(answer("404 Not Found", "", "<p>my own"));
    let response = get(&proxy, &origin, "/");
    assert_eq!((status(&response), body(&response)), ("404", "<p>my own"));
    let response = ask(&proxy, "GET https://h/", "");
    assert_eq!(status(&response), "501");
}

#[test]
fn what_breaks_off_is_visibly_broken() {
    for broken in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nxyz",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\nxyz",
    ] {
        for cache in ["", "Cache-Control: max-age=60\r\n"] {
            for version in ["HTTP/1.1", "HTTP/1.0"] {
                let text = broken.replace("OK\r\n", &format!("OK\r\n{cache}"));
                let (go_on, wait) = channel::<()>();
                let wait = Mutex::new(wait);
                let origin = Origin::new(move |_, socket| {
                    socket.write_all(text.as_bytes()).unwrap();
                    let _ = wait.lock().unwrap().recv_timeout(LIMIT);
                    let _ = socket.write_all(b"zz"); // no chunk size
                    false
                });
                let proxy = Server::start("web-proxy", &["-q"]);
                let mut client = proxy.connect();
                let url = origin.url("/");
                let request = format!("GET {url} {version}\r\nHost: h\r\n\r\n");
                client.write_all(request.as_bytes()).unwrap();
                let (mut got, mut byte) = (Vec::new(), [0]);
                while !got.ends_with(b"xyz") {
                    client.read_exact(&mut byte).unwrap();
                    got.push(byte[0]);
                }
                go_on.send(()).unwrap();
                let head = String::from_utf8(got).unwrap();
                let mut rest = Vec::new();
                let ended = client.read_to_end(&mut rest);
                let rest = String::from_utf8_lossy(&rest).into_owned();
                assert!(!rest.contains("0\r\n\r\n"), "{rest}");
                if field(&head, "content-length").is_some() {
                    assert!(rest.len() < 7, "{rest}");
                } else if version == "HTTP/1.0" {
                    // a reset is the only sign
                    assert!(ended.is_err(), "it seemed to end well");
                } else {
                    assert!(head.contains("chunked"), "{head}");
                }
            }
        }
    }
    // before anything has left, the truth can be told
    let origin = Origin::new(|_, socket| {
        let text =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
        socket.write_all(text.as_bytes()).unwrap();
        false
    });
    for more in [&["-q"][..], &["-q", "--no-cache"]] {
        let proxy = Server::start("web-proxy", more);
        assert_eq!(status(&get(&proxy, &origin, "/")), "502");
    }
}

#[test]
fn a_way_back_to_the_proxy_is_a_loop() {
    let proxy = proxy(&[]);
    let own = proxy.address;
    let response = ask(&proxy, &format!("GET http://{own}/x"), "");
    assert_eq!(status(&response), "508");
    let line = format!("GET /{own}/{own}/x");
    assert_eq!(status(&ask(&proxy, &line, "")), "508");
    let name = format!("GET http://localhost:{}/", proxy.port());
    assert_eq!(status(&ask(&proxy, &name, "")), "508");
    // by its Via, as it would come through another
    let origin = Origin::same(answer("200 OK", "", "hello"));
    get(&proxy, &origin, "/");
    let asked = origin.asked().pop().unwrap();
    let via = field(&asked, "via").unwrap();
    let line = format!("GET {}", origin.url("/"));
    let response = ask(&proxy, &line, &format!("Via: 1.1 a, {via}, 1.1 b\r\n"));
    assert_eq!(status(&response), "508");
    assert_eq!(origin.count(), 1);
    // on all addresses, by any of them
    let wide = Server::start(
        "web-proxy",
        &["-q", "-l", "0.0.0.0:0", "--allow", "127.0.0.1"],
    );
    let port = wide.port();
    let client = || connect(([127, 0, 0, 1], wide.address.port()).into());
    for host in ["127.0.0.2", "0.0.0.0", "localhost"] {
        let mut client = client();
        let request = format!("GET http://{host}:{port}/ HTTP/1.0\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
        assert_eq!(status(&read_all(&mut client)), "508", "{host}");
    }
    let tunnel = format!("CONNECT {own} HTTP/1.1\r\nHost: h\r\n\r\n");
    let open = ["--connect-port", &proxy.port()];
    let twice = Server::start("web-proxy", &[&["-q"], &open[..]].concat());
    assert_eq!(status(&twice.dialogue(&tunnel)), "200");
    let own = twice.address;
    let tunnel = format!("CONNECT {own} HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(status(&twice.dialogue(tunnel)), "403");
}

#[test]
fn nobody_uses_it_by_accident() {
    let ran = run(&["web-proxy", "-l", "0.0.0.0:0"], "");
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("say who may use the proxy"));
    let folder = Folder::new();
    let users = folder.file("users", "# friends\nalice:secret\nbob:x\n");
    let users = users.to_str().unwrap();
    let proxy = proxy(&["--auth", users]);
    let origin = Origin::same(answer("200 OK", "", "hello"));
    let line = format!("GET {}", origin.url("/"));
    let response = ask(&proxy, &line, "");
    assert_eq!(status(&response), "407");
    assert!(field(&response, "proxy-authenticate").unwrap().contains("Basic"));
    let tunnel = "CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(status(&proxy.dialogue(tunnel)), "407");
    let own = format!("GET http://{}/", proxy.address);
    assert_eq!(status(&ask(&proxy, &own, "")), "407");
    assert_eq!(origin.count(), 0);
    // "alice:secret"
    let known = "Proxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n";
    assert_eq!(body(&ask(&proxy, &line, known)), "hello");
    assert!(!origin.asked()[0].contains("YWxpY2U6c2VjcmV0"));
    let url = origin.url("/");
    let proxy_url = format!("http://alice:secret@{}", proxy.address);
    let ran = run(&["web-client", "-x", &proxy_url, &url], "");
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "hello"));
    let empty = folder.file("empty", "\n");
    let ran = run(&["web-proxy", "--auth", empty.to_str().unwrap()], "");
    assert!(ran.status == 2 && ran.stderr.contains("no line user:password"));
    let ran = run(&["web-proxy", "--allow", "10.0.0.0/33"], "");
    assert!(ran.status == 2 && ran.stderr.contains("--allow: "));
}

#[test]
fn the_client_asks_its_proxy() {
    let origin = Origin::same(answer("200 OK", "", "hello"));
    let proxy = proxy(&[]);
    let url = origin.url("/x");
    let own = format!("http://{}", proxy.address);
    let env = |args: &[&str], no_proxy: &str| {
        let mut command = Command::new(BINARY);
        command.arg("web-client").args(args);
        command.env("http_proxy", &own).env("no_proxy", no_proxy);
        run_command(command, "").stdout
    };
    let via = || origin.asked().pop().unwrap().contains("\r\nVia: ");
    assert_eq!(run(&["web-client", "-x", &own, &url], "").stdout, "hello");
    assert!(via());
    assert_eq!(env(&[&url], "other.example"), "hello");
    assert!(via());
    for (args, no_proxy) in [
        (&[url.as_str()][..], "a, 127.0.0.1"),
        (&[&url], "*"),
        (&[&url], ".0.1"),
        (&["-x", "", &url], ""),
    ] {
        assert_eq!(env(args, no_proxy), "hello");
        assert!(!via(), "{args:?} {no_proxy}");
    }
    // several at one proxy share the connection to it
    let ran = run(&["web-client", "-v", "-x", &own, &url, &url], "");
    assert_eq!(ran.stderr.matches("-- connected").count(), 1);
    assert!(ran.stderr.contains(&format!("C: GET {url} HTTP/1.1")));
}

/// A server that sends back what it gets, and ends when its client does.
fn echo() -> std::net::SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        for socket in socket.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let (mut from, mut to) = (&socket, &socket);
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.write_all(b"bye");
                let _ = socket.shutdown(Shutdown::Write);
            });
        }
    });
    address
}

#[test]
fn a_tunnel_carries_bytes_both_ways_and_keeps_half_closes() {
    let echo = echo();
    let port = echo.port().to_string();
    let proxy = proxy(&["--connect-port", &port]);
    let mut client = proxy.connect();
    // bytes that come early go on, too
    let head = format!("CONNECT {echo} HTTP/1.1\r\nHost: h\r\n\r\nearly ");
    client.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let (head, _) = read_response(&mut reader);
    assert!(head.starts_with("HTTP/1.1 200 "));
    assert_eq!(field(&head, "content-length"), None);
    let mut six = [0; 6];
    reader.read_exact(&mut six).unwrap();
    assert_eq!(&six, b"early ");
    let sent = vec![7u8; 3_000_000];
    let mut writer = client.try_clone().unwrap();
    let to_send = sent.clone();
    let sending = thread::spawn(move || {
        writer.write_all(&to_send).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    // our end is closed, and still all comes back, and the other's word
    let mut got = Vec::new();
    reader.read_to_end(&mut got).unwrap();
    sending.join().unwrap();
    assert!(got.len() == sent.len() + 3 && got.ends_with(b"bye"));
    assert_eq!(got[..sent.len()], sent[..]);
}

#[test]
fn tunnels_go_to_443_or_where_it_is_allowed() {
    let echo = echo();
    let proxy = proxy(&[]);
    let to = |target: &str| {
        proxy.dialogue(format!("CONNECT {target} HTTP/1.1\r\nHost: h\r\n\r\n"))
    };
    assert_eq!(status(&to(&echo.to_string())), "403");
    // allowed, and nobody there: not forbidden
    let response = to("127.0.0.1:443");
    assert!(["502", "200"].contains(&status(&response)), "{response}");
    assert_eq!(status(&to("h")), "400");
}

#[test]
fn an_idle_tunnel_ends() {
    let echo = echo();
    let port = echo.port().to_string();
    let proxy = proxy(&["--connect-port", &port, "--idle", "0.2"]);
    let mut client = proxy.connect();
    let head = format!("CONNECT {echo} HTTP/1.1\r\nHost: h\r\n\r\n");
    client.write_all(head.as_bytes()).unwrap();
    assert_eq!(status(&read_all(&mut client)), "200");
    // and a stop ends one that is not
    let mut proxy = proxy_with_tunnel(&port);
    let mut client = proxy.connect();
    client.write_all(head.as_bytes()).unwrap();
    read_response(&mut BufReader::new(client.try_clone().unwrap()));
    proxy.signal(libc::SIGTERM);
    assert_eq!(proxy.wait(), 0);
}

fn proxy_with_tunnel(port: &str) -> Server {
    proxy(&["--connect-port", port])
}

#[test]
fn its_own_page_tells_what_it_did() {
    let origin = Origin::same(answer(
        "200 OK",
        "Cache-Control: max-age=60\r\n",
        "hello",
    ));
    let proxy = Server::start("web-proxy", &["-q"]);
    let path = "/<i>&\"";
    for _ in 0..3 {
        get(&proxy, &origin, path);
    }
    for line in ["GET http://topdown.proxy/", "GET /"] {
        let page = ask(&proxy, line, "");
        assert_eq!(status(&page), "200");
        assert_eq!(field(&page, "cache-control"), Some("no-store"));
        assert!(page.contains("&lt;i&gt;&amp;&quot;"), "escaped");
        assert!(!page.contains("<i>") && !page.contains("<script"));
        assert!(page.contains("0.667 × "), "the hit rate: {page}");
        assert!(page.contains("topdown; fwd=uri-miss; stored"));
        assert!(page.contains("<meter max=\"60\""));
    }
    // nothing on it changes anything
    assert_eq!(status(&ask(&proxy, "POST /", "Content-Length: 0\r\n")), "405");
}

#[test]
fn the_dialogue_has_three_parties() {
    let origin = Origin::same(answer("200 OK", "", "hello"));
    let folder = Folder::new();
    let file = folder.path("run.svg");
    let mut proxy =
        Server::start("web-proxy", &["-q", "-e", "--diagram", &file, "--once"]);
    get(&proxy, &origin, "/x");
    assert_eq!(proxy.wait(), 0);
    let told = proxy.rest().join("\n");
    for line in
        ["C>P: GET http://", "P>S: GET /x", "S>P: HTTP/1.1 200", "P>C: "]
    {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(told.contains("not stored: stale at once"), "{told}");
    let drawing = std::fs::read_to_string(&file).unwrap();
    for party in [">client<", ">proxy<", ">server<"] {
        assert!(drawing.contains(party), "{party}");
    }
}

#[test]
fn places_and_patience_have_their_limits() {
    let proxy = proxy(&["--max-connections", "1", "--header-timeout", "0.3"]);
    let mut first = proxy.connect();
    first.write_all(b"GET ").unwrap();
    let refused = proxy.dialogue("");
    assert_eq!(status(&refused), "503");
    assert_eq!(field(&refused, "retry-after"), Some("1"));
    assert_eq!(status(&read_all(&mut first)), "408");
    let ran = run(&["web-proxy", "--no-cache", "--cache-size", "1M"], "");
    assert!(ran.status == 2 && ran.stderr.contains("exclude each other"));
}
