//! The proxy between real programs: curl, wget and Chromium on one side,
//! nginx, ncat and openssl on the other.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use crate::harness::{Folder, Ran, Server, chromium, have, run_command};

fn program(words: &[&str], stdin: &str) -> Ran {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command.env_remove("http_proxy").env_remove("no_proxy");
    run_command(command, stdin)
}

fn proxy(more: &[&str]) -> Server {
    Server::start("web-proxy", &[&["-q"], more].concat())
}

fn site(more: &[&str]) -> (Folder, Server) {
    let folder = Folder::new();
    folder.file("a.txt", "0123456789");
    folder.file("big.bin", vec![b'x'; 20 << 20]);
    let args = [&["-q", "--echo", folder.text()][..], more].concat();
    let server = Server::start("web-server", &args);
    (folder, server)
}

/// A program that ends with its test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

/// Starts a program that listens on this port, and waits until it does.
fn daemon(port: u16, words: &[&str]) -> Daemon {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let daemon = Daemon(command.spawn().unwrap());
    let address: std::net::SocketAddr = ([127, 0, 0, 1], port).into();
    for _ in 0..2_000_000 {
        if std::net::TcpStream::connect(address).is_ok() {
            return daemon;
        }
        std::thread::yield_now();
    }
    panic!("{words:?} does not come up");
}

#[test]
fn curl_through_the_proxy() {
    if !have("curl") {
        return;
    }
    let (folder, server) = site(&[]);
    let proxy = proxy(&[]);
    let via = proxy.address.to_string();
    let curl = |words: &[&str], url: &str, stdin: &str| {
        let start = ["curl", "-sf", "-x", &via];
        program(&[&start, words, &[url]].concat(), stdin)
    };
    let (a, echo) = (server.url("/a.txt"), server.url("/echo"));
    for _ in 0..2 {
        assert_eq!(curl(&[], &a, "").stdout, "0123456789");
        assert_eq!(curl(&["-r", "2-4"], &a, "").stdout, "234");
    }
    let head = curl(&["-I"], &a, "").stdout;
    assert!(head.contains("Cache-Status: topdown; hit;"), "{head}");
    assert_eq!(curl(&[], &server.url("/no"), "").status, 22);
    // a form, a long body with Expect, one in chunks
    let form = curl(&["-d", "name=Alice"], &echo, "").stdout;
    assert!(form.ends_with("\r\n\r\nname=Alice") && form.contains("\r\nVia: "));
    let long = "x".repeat(1 << 20);
    let posted = curl(&["--data-binary", "@-"], &echo, &long);
    assert!(posted.status == 0 && posted.stdout.ends_with(&long));
    let chunks = ["-H", "Transfer-Encoding: chunked", "-d", "chunks"];
    let posted = curl(&chunks, &echo, "").stdout;
    assert!(posted.ends_with("\r\n\r\nchunks"), "{posted}");
    // long, and byte for byte; then over HTTP/1.0
    let big = folder.path("out");
    for version in ["--http1.1", "--http1.0"] {
        let words = ["-o", &big, version];
        assert_eq!(curl(&words, &server.url("/big.bin"), "").status, 0);
        let same = fs::read(&big).unwrap() == vec![b'x'; 20 << 20];
        assert!(same, "{version}");
    }
    // the lab's form, and a redirect in it
    let lab = format!("http://{via}/{}/a.txt", server.address);
    assert_eq!(program(&["curl", "-sf", &lab], "").stdout, "0123456789");
    folder.file("dir/index.html", "<p>dir");
    let lab = format!("http://{via}/{}/dir", server.address);
    assert_eq!(program(&["curl", "-sfL", &lab], "").stdout, "<p>dir");
}

#[test]
fn wget_through_the_proxy() {
    if !have("wget") {
        return;
    }
    let (_folder, server) = site(&[]);
    let proxy = proxy(&[]);
    let mut command = Command::new("wget");
    command.args(["-q", "-O", "-", &server.url("/a.txt")]);
    command.env("http_proxy", format!("http://{}", proxy.address));
    command.env_remove("no_proxy");
    assert_eq!(run_command(command, "").stdout, "0123456789");
}

#[test]
fn nginx_behind_the_proxy() {
    if !have("nginx") || !have("curl") {
        return;
    }
    let folder = Folder::new();
    folder.file("site/a.txt", "0123456789");
    let port = free_port();
    let own = folder.text();
    let conf = format!(
        "pid {own}/pid; error_log {own}/error; events {{}} http {{ \
         access_log off; client_body_temp_path {own}/t; \
         server {{ listen 127.0.0.1:{port}; root {own}/site; \
         location /short/ {{ alias {own}/site/; expires -1; }} \
         location /long/ {{ alias {own}/site/; expires 1h; }} }} }}"
    );
    let conf = folder.file("conf", conf);
    let conf = conf.to_str().unwrap();
    let words = [
        "nginx",
        "-p",
        own,
        "-c",
        conf,
        "-g",
        "daemon off; master_process off;",
    ];
    let _nginx = daemon(port, &words);
    let proxy = proxy(&[]);
    let via = proxy.address.to_string();
    let said = |path: &str| {
        let url = format!("http://127.0.0.1:{port}{path}");
        let words = ["curl", "-sf", "-i", "-x", &via, &url];
        let text = program(&words, "").stdout;
        assert!(text.ends_with("\r\n\r\n0123456789"), "{text}");
        let line = text.lines().find(|l| l.starts_with("Cache-Status: "));
        line.unwrap().to_string()
    };
    assert!(said("/long/a.txt").contains("fwd=uri-miss; stored"));
    assert!(said("/long/a.txt").contains("hit; ttl=3"));
    // "expires -1": in the past, with no-cache, and validated each time
    assert!(said("/short/a.txt").contains("fwd=uri-miss; stored"));
    assert!(said("/short/a.txt").contains("fwd=stale; fwd-status=304"));
    // neither: a tenth of its age (an hour)
    assert!(said("/a.txt").contains("fwd=uri-miss; stored"));
    assert!(said("/a.txt").contains("hit; ttl=3"));
}

#[test]
fn ncat_as_a_broken_origin() {
    if !have("ncat") || !have("curl") {
        return;
    }
    let proxy = proxy(&["-W", "1"]);
    let via = proxy.address.to_string();
    for (answer, status) in [
        ("HTTP/1.1 200 OK\\r\\nContent-Length: 9\\r\\n\\r\\nabc", 18),
        (
            "HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n3\\r\\nabc\\r\\n",
            18,
        ),
        ("no HTTP at all\\r\\n\\r\\n", 22),
        ("", 22),
    ] {
        let port = free_port();
        let command = format!("printf '{answer}'; exec >&-; cat >/dev/null");
        let listen = port.to_string();
        let words = ["ncat", "-l", "-k", "127.0.0.1", &listen, "-c", &command];
        let _ncat = daemon(port, &words);
        let url = format!("http://127.0.0.1:{port}/");
        let words = ["curl", "-sf", "--max-time", "15", "-x", &via, &url];
        assert_eq!(program(&words, "").status, status, "{answer}");
    }
}

#[test]
fn https_passes_through_a_tunnel() {
    if !have("openssl") || !have("curl") {
        return;
    }
    let folder = Folder::new();
    let (key, certificate) = (folder.path("key"), folder.path("cert"));
    let ran = program(
        &[
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &certificate,
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ],
        "",
    );
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let port = free_port();
    let accept = format!("127.0.0.1:{port}");
    let words = [
        "openssl",
        "s_server",
        "-accept",
        &accept,
        "-key",
        &key,
        "-cert",
        &certificate,
        "-www",
        "-quiet",
    ];
    let _server = daemon(port, &words);
    let open = port.to_string();
    let proxy = proxy(&["--connect-port", &open]);
    let via = proxy.address.to_string();
    let url = format!("https://localhost:{port}/");
    let words = ["curl", "-sf", "--cacert", &certificate, "-x", &via, &url];
    let ran = program(&words, "");
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("s_server"), "{}", ran.stdout);
    if have("chromium") {
        let page = through(&proxy, &["--ignore-certificate-errors"], &url);
        assert!(page.contains("s_server"), "{page}");
    }
}

/// A page that comes through the proxy, as everything does.
fn through(proxy: &Server, more: &[&str], url: &str) -> String {
    let server = format!("--proxy-server={}", proxy.address);
    let own = ["--proxy-bypass-list=<-loopback>", &server];
    chromium(&[&own, more].concat(), url).stdout
}

#[test]
fn chromium_shows_a_page_and_sends_a_form() {
    if !have("chromium") {
        return;
    }
    let server = Server::start("web-server", &["-q", "-v"]);
    let browsers = proxy(&[]);
    let page = through(&browsers, &[], &server.url("/eight/"));
    assert!(page.contains("A page with eight small images"));
    let images = ["host", "server", "router", "switch", "link"];
    let mut left = images.map(|i| format!("/eight/{i}.svg")).to_vec();
    while !left.is_empty() {
        let line = server.wait_for("C: GET ");
        left.retain(|path| !line.contains(path.as_str()));
    }
    // in the lab's form the same page finds its images by the Referer
    let own = proxy(&[]);
    let lab = format!("http://{}/{}/eight/", own.address, server.address);
    let page = chromium(&[], &lab).stdout;
    assert!(page.contains("A page with eight small images"));
    let mut left = vec!["/style.css", "/eight/host.svg", "/eight/packet.svg"];
    while !left.is_empty() {
        let line = server.wait_for("C: GET ");
        left.retain(|path| !line.contains(path));
    }
    // a form that sends itself
    let (folder, echo) = site(&[]);
    let form = format!(
        "<form method=post action=\"{}\"><input name=who value=Alice></form>\
         <script>document.forms[0].submit()</script>",
        echo.url("/echo")
    );
    folder.file("form.html", form);
    let page = through(&browsers, &[], &echo.url("/form.html"));
    assert!(page.contains("who=Alice"), "{page}");
    assert!(page.contains("Via: 1.1 topdown-"), "{page}");
}
