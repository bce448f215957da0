//! Real programs on the other side: curl, wget, busybox, ncat, nginx and
//! Chromium. One that is not installed is a skip that is printed.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::harness::{Folder, LIMIT, Server, chromium, have, run, run_command};

fn program(words: &[&str], stdin: &str) -> crate::harness::Ran {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    run_command(command, stdin)
}

fn site() -> (Folder, Server) {
    let folder = Folder::new();
    folder.file("a.txt", "0123456789");
    folder.file("dir/index.html", "<p>dir");
    folder.file("big.bin", vec![b'x'; 3 << 20]);
    let args = ["-q", "--echo", folder.text()];
    let server = Server::start("web-server", &args);
    (folder, server)
}

#[test]
fn curl_gets_posts_resumes_and_revalidates() {
    if !have("curl") {
        return;
    }
    let (folder, server) = site();
    let a = server.url("/a.txt");
    assert_eq!(program(&["curl", "-sf", &a], "").stdout, "0123456789");
    let ran = program(&["curl", "-sf", "-r", "2-4,8-", &a], "");
    assert!(ran.stdout.contains("\r\n\r\n234\r\n"));
    let ran = program(&["curl", "-sf", "-L", &server.url("/dir")], "");
    assert_eq!(ran.stdout, "<p>dir");
    assert_eq!(program(&["curl", "-sf", &server.url("/no")], "").status, 22);
    let big = "x".repeat(1 << 20); // with Expect: 100-continue
    let words = ["curl", "-sf", "--data-binary", "@-", &server.url("/echo")];
    let ran = program(&words, &big);
    assert!(ran.stdout.ends_with(&big) && ran.status == 0);
    let words = [
        "curl",
        "-sf",
        "-H",
        "Transfer-Encoding: chunked",
        "-d",
        "chunks",
        &server.url("/echo"),
    ];
    assert!(program(&words, "").stdout.ends_with("\r\n\r\nchunks"));
    let part = folder.file("part", vec![b'x'; 1 << 20]);
    let part = part.to_str().unwrap();
    let words = ["curl", "-sf", "-C", "-", "-o", part, &server.url("/big.bin")];
    assert_eq!(program(&words, "").status, 0);
    assert_eq!(fs::metadata(part).unwrap().len(), 3 << 20);
    let etag = folder.path("etag");
    let save = ["curl", "-sf", "--etag-save", &etag, &a];
    assert_eq!(program(&save, "").status, 0);
    let words =
        ["curl", "-s", "-w", "%{http_code}", "--etag-compare", &etag, &a];
    assert_eq!(program(&words, "").stdout, "304");
    let words = ["curl", "-sf", "--http1.0", &a, &a];
    assert_eq!(program(&words, "").stdout, "01234567890123456789");
}

#[test]
fn wget_and_busybox_mirror_a_listing() {
    let (folder, server) = site();
    folder.file("list/one.txt", "1");
    folder.file("list/two & three.txt", "2");
    let url = server.url("/list/");
    if have("wget") {
        let out = folder.path("wget");
        let words = ["wget", "-q", "-r", "-np", "-nH", "-P", &out, &url];
        program(&words, "");
        let copy = folder.path("wget/list/two & three.txt");
        assert_eq!(fs::read_to_string(copy).unwrap(), "2");
    }
    if have("busybox") {
        let a = server.url("/a.txt");
        let words = ["busybox", "wget", "-q", "-O", "-", &a];
        assert_eq!(program(&words, "").stdout, "0123456789");
    }
}

#[test]
fn ncat_speaks_by_hand() {
    if !have("ncat") {
        return;
    }
    let (_folder, server) = site();
    let port = server.port();
    let request = "GET /a.txt HTTP/1.1\r\nHost: www.someschool.edu\r\n\
                   Connection: close\r\n\r\n";
    let ran = program(&["ncat", "127.0.0.1", &port], request);
    assert!(ran.stdout.ends_with("\r\n\r\n0123456789"));
    let server = Server::start("tcp-server", &[]);
    let ran = program(&["ncat", "127.0.0.1", &server.port()], "straße\n");
    assert_eq!(ran.stdout, "STRASSE\n");
    let server = Server::start("udp-server", &[]);
    let mut ncat = Command::new("ncat")
        .args(["-u", "127.0.0.1", &server.port()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    ncat.stdin.as_mut().unwrap().write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    ncat.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HELLO");
    ncat.kill().unwrap();
    ncat.wait().unwrap();
}

/// Debian keeps nginx where an ordinary user's PATH does not lead.
const NGINX: &str = "/usr/sbin/nginx";

fn have_nginx() -> bool {
    std::path::Path::new(NGINX).is_file() || have("nginx")
}

/// An nginx of our own, on a port of our own.
struct Nginx(Child, String);

impl Nginx {
    fn start(folder: &Folder) -> Nginx {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let path = folder.text();
        let config = format!(
            "daemon off; pid {path}/pid; error_log {path}/error;\n\
             events {{}}\nhttp {{ access_log off;\n\
             client_body_temp_path {path}/t1; proxy_temp_path {path}/t2;\n\
             fastcgi_temp_path {path}/t3; uwsgi_temp_path {path}/t4;\n\
             scgi_temp_path {path}/t5; gzip on; gzip_min_length 1;\n\
             server {{ listen {address}; root {path}/www;\n\
             location /moved {{ return 301 /a.txt; }}\n\
             location /auth {{ auth_basic x; \
             auth_basic_user_file {path}/users; alias {path}/www; }} }} }}\n"
        );
        let config = folder.file("nginx.conf", config);
        folder.file("users", "alice:{PLAIN}secret\n");
        folder.file("www/a.txt", "0123456789");
        folder.file("www/big.bin", vec![b'x'; 3 << 20]);
        let known = std::path::Path::new(NGINX).is_file();
        let mut command = Command::new(if known { NGINX } else { "nginx" });
        let errors = folder.path("start");
        command.args(["-e", &errors, "-c", config.to_str().unwrap()]);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        // nginx drops root for its workers: they must get to the files
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&folder.0, open).unwrap();
        let child = command.spawn().unwrap();
        let start = std::time::Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(start.elapsed() < LIMIT, "nginx does not come up");
            std::thread::yield_now();
        }
        Nginx(child, format!("http://{address}"))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        crate::harness::kill(self.0.id(), libc::SIGTERM);
        let _ = self.0.wait();
    }
}

#[test]
fn our_client_gets_from_nginx() {
    if !have_nginx() {
        return;
    }
    let folder = Folder::new();
    let nginx = Nginx::start(&folder);
    let url = |path: &str| format!("{}{path}", nginx.1);
    let ran = run(&["web-client", &url("/a.txt"), &url("/a.txt")], "");
    assert_eq!(ran.stdout, "01234567890123456789");
    let ran = run(&["web-client", "-L", &url("/moved")], "");
    assert_eq!(ran.stdout, "0123456789");
    assert_eq!(run(&["web-client", &url("/no")], "").status, 1);
    let ran = run(&["web-client", "-r", "2-4", &url("/a.txt")], "");
    assert_eq!(ran.stdout, "234");
    let auth = url("/auth/a.txt");
    assert_eq!(run(&["web-client", &auth], "").status, 1);
    let ran = run(&["web-client", "-u", "alice:secret", &auth], "");
    assert_eq!(ran.stdout, "0123456789");
    let file = folder.path("big");
    folder.file("big.part", vec![b'x'; 1 << 20]);
    let words = ["web-client", "-C", "-o", &file, &url("/big.bin")];
    assert_eq!(run(&words, "").status, 0);
    assert_eq!(fs::read(&file).unwrap(), vec![b'x'; 3 << 20]);
    // nginx compares the date exactly: the file must have the server's
    let ran = run(&["web-client", "-z", &file, &url("/big.bin")], "");
    assert_eq!((ran.status, ran.stdout.as_str()), (0, ""));
    let ran = run(&["web-client", "--http1.0", &url("/a.txt")], "");
    assert_eq!(ran.stdout, "0123456789");
}

#[test]
fn our_server_fetches_from_nginx() {
    if !have_nginx() {
        return;
    }
    let folder = Folder::new();
    let nginx = Nginx::start(&folder);
    let root = Folder::new();
    let server = Server::start("web-server", &["-q", "--fetch", root.text()]);
    let url = server.url(&format!("/fetch?url={}/a.txt", nginx.1));
    assert_eq!(run(&["web-client", &url], "").stdout, "0123456789");
}

#[test]
fn chromium_shows_the_site() {
    if !have("chromium") {
        return;
    }
    let server = Server::start("web-server", &["-q", "-v"]);
    let ran = chromium(&[], &server.url("/eight/"));
    assert!(ran.stdout.contains("A page with eight small images"));
    // it asked for all of it: the sheet and the eight images
    let mut left = vec!["/style.css"];
    left.extend([
        "/eight/host.svg",
        "/eight/server.svg",
        "/eight/router.svg",
        "/eight/switch.svg",
        "/eight/link.svg",
        "/eight/access-point.svg",
        "/eight/packet.svg",
        "/eight/phone.svg",
    ]);
    while !left.is_empty() {
        let line = server.wait_for("C: GET ");
        left.retain(|path| !line.contains(&format!("GET {path} ")));
    }
}

#[test]
fn the_makefiles_clients_bring_their_own_server() {
    if !have("make") || !have("sh") {
        return;
    }
    let mut command = Command::new("sh");
    command.env("BIN", crate::harness::BINARY).env_remove("HOST");
    command.args([
        "tests/run-client",
        "tcp-server",
        "12000",
        "tcp-client",
        "%h",
        "%p",
    ]);
    let ran = run_command(command, "hello\n");
    assert!(ran.stdout.ends_with("From Server: HELLO\n"), "{ran:?}");
    assert_eq!(ran.status, 0);
    let mut command = Command::new("sh");
    command.env("BIN", crate::harness::BINARY).env("HOST", "127.0.0.1");
    command.env("PORT", "1");
    command.args([
        "tests/run-client",
        "web-server",
        "6789",
        "web-client",
        "%h",
        "%p",
        "HelloWorld.html",
    ]);
    let ran = run_command(command, "");
    assert_eq!(ran.status, 2);
}

/// Runs a command on a terminal of its own, types, and prints what it shows.
const ON_A_TERMINAL: &str = "
import os, pty, sys
typed = sys.argv[1].encode().decode('unicode_escape').encode()
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
os.write(terminal, typed)
shown = b''
while True:
    try:
        piece = os.read(terminal, 4096)
    except OSError:
        break
    if not piece:
        break
    shown += piece
os.waitpid(pid, 0)
sys.stdout.buffer.write(shown.replace(b'\\r\\n', b'\\n'))
";

fn on_a_terminal(typed: &str, args: &[&str]) -> String {
    let binary = crate::harness::BINARY;
    let words = [&["python3", "-c", ON_A_TERMINAL, typed, binary][..], args];
    program(&words.concat(), "").stdout
}

#[test]
fn on_a_terminal_there_is_a_prompt_and_nothing_that_drives_it() {
    if !have("python3") {
        return;
    }
    let server = Server::start("tcp-server", &[]);
    let args = ["tcp-client", "127.0.0.1", &server.port()];
    let shown = on_a_terminal("hi\\n\\x04", &args);
    assert!(shown.contains("Input lowercase sentence: "), "{shown:?}");
    assert!(shown.contains("From Server: HI\n"), "{shown:?}");
    let folder = Folder::new();
    folder.file("x.txt", "\x1b[31mred\n");
    let server = Server::start("web-server", &["-q", folder.text()]);
    let url = server.url("/x.txt");
    let shown = on_a_terminal("", &["web-client", &url]);
    assert_eq!(shown, "\\u{1b}[31mred\n");
    assert_eq!(run(&["web-client", &url], "").stdout, "\x1b[31mred\n");
    let shown = on_a_terminal("", &["web-client", "-e", &url]);
    assert!(shown.contains("\x1b[2m| "), "notes are dim: {shown:?}");
}
