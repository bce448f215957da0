//! TLS in `web-client` and `web-server`, against each other, openssl, curl
//! and nginx. The certificates are made when they are first needed.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use crate::harness::{
    BINARY, Folder, LIMIT, Ran, Script, Server, answer, connect, have,
    read_all, run, run_command, skip,
};
use crate::mail_disk::may_unshare;

/// An authority, and certificates with their keys in one file each.
pub struct Certificates(Folder);

static MADE: OnceLock<Certificates> = OnceLock::new();

/// No key is left behind.
extern "C" fn remove() {
    if let Some(made) = MADE.get() {
        let _ = fs::remove_dir_all(&made.0.0);
    }
}

impl Certificates {
    /// Made once for all tests; `None`: there is no openssl to make them.
    pub fn get() -> Option<&'static Certificates> {
        have("openssl").then(|| MADE.get_or_init(Certificates::make))
    }

    fn make() -> Certificates {
        let made = Certificates(Folder::new());
        // SAFETY: a function that takes nothing, to be called at the end.
        unsafe { libc::atexit(remove) };
        made.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
             -days 2 -subj /CN=authority -keyout ca-key.pem -out ca.pem",
        );
        let names = "DNS:localhost,IP:127.0.0.1";
        made.sign("good", names, 2);
        made.sign("expired", names, -1);
        made.sign("partial", "DNS:loc*host", 2);
        made.sign("other", "DNS:www.other.example,IP:192.0.2.1", 2);
        made.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
             -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
             -keyout self-key.pem -out self.pem",
        );
        made.join("self");
        // the name in the subject alone, as it was done long ago
        made.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
             -days 2 -subj /CN=localhost -keyout cn-key.pem -out cn.pem",
        );
        made.join("cn");
        made
    }

    fn sign(&self, name: &str, names: &str, days: i32) {
        self.0.file("ext", format!("subjectAltName={names}\n"));
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
             -subj /CN={name} -keyout {name}-key.pem -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca-key.pem \
             -CAcreateserial -days {days} -extfile ext -out {name}.pem"
        ));
        self.join(name);
    }

    /// Certificate and key in one file.
    fn join(&self, name: &str) {
        let read = |end: &str| fs::read(self.0.path(&format!("{name}{end}")));
        let both = [read(".pem").unwrap(), read("-key.pem").unwrap()].concat();
        self.0.file(&format!("{name}.pem"), both);
    }

    fn openssl(&self, words: &str) {
        let mut command = Command::new("openssl");
        command.args(words.split_whitespace()).current_dir(&self.0.0);
        let ran = run_command(command, "");
        assert_eq!(ran.status, 0, "openssl {words}: {}", ran.stderr);
    }

    /// The path of `good`, `expired`, `other`, `self` or `ca`.
    pub fn path(&self, name: &str) -> String {
        self.0.path(&format!("{name}.pem"))
    }
}

fn serve(certificate: &str, site: &Folder) -> Server {
    Server::start("web-server", &["--tls-cert", certificate, site.text()])
}

fn get(server: SocketAddr, host: &str, more: &[&str]) -> Ran {
    let url = format!("https://{host}:{}/x", server.port());
    let mut words = vec!["web-client", "-W", "5"];
    words.extend_from_slice(more);
    words.push(&url);
    run(&words, "")
}

#[test]
fn a_page_over_tls() {
    let Some(made) = Certificates::get() else { return };
    let site = Folder::new();
    let content = "0123456789".repeat(100_000);
    site.file("x", &content);
    let server = serve(&made.path("good"), &site);
    for host in ["localhost", "127.0.0.1"] {
        let ran = get(server.address, host, &["--ca-file", &made.path("ca")]);
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
        assert_eq!(ran.stdout, content);
    }
    // twice over one connection, and parts
    let url = format!("https://localhost:{}/x", server.port());
    let ca = made.path("ca");
    let ran = run(
        &["web-client", "-v", "-r", "1-3,8-9", "--ca-file", &ca, &url, &url],
        "",
    );
    assert_eq!(ran.stdout.matches("123\r\n").count(), 2, "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("-- connected").count(), 1);
    assert_eq!(ran.stderr.matches("206 Partial").count(), 2);
}

#[test]
fn what_an_observer_sees_is_told() {
    let Some(made) = Certificates::get() else { return };
    let site = Folder::new();
    site.file("x", "x");
    let server = serve(&made.path("good"), &site);
    let ca = made.path("ca");
    let ran = get(server.address, "localhost", &["-e", "--ca-file", &ca]);
    assert!(ran.stderr.contains("-- TLSv1.3, "), "{}", ran.stderr);
    assert!(ran.stderr.contains("an observer sees"));
}

#[test]
fn whoever_is_not_verified_gets_no_request() {
    let Some(made) = Certificates::get() else { return };
    let site = Folder::new();
    site.file("x", "secret");
    let ca = made.path("ca");
    for (name, ca_file, host, why) in [
        ("good", "", "localhost", "unknown authority"),
        ("expired", ca.as_str(), "localhost", "has expired"),
        ("other", &ca, "localhost", "for www.other.example, 192.0.2.1"),
        ("other", &ca, "127.0.0.1", "for www.other.example, 192.0.2.1"),
        ("self", "", "localhost", "self-signed"),
        ("partial", &ca, "localhost", "is for loc*host"),
        ("cn", &made.path("cn"), "localhost", "for another name"),
    ] {
        let server = serve(&made.path(name), &site);
        let more: &[&str] = match ca_file {
            "" => &[],
            file => &["--ca-file", file],
        };
        let ran = get(server.address, host, more);
        assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{name}");
        let start = format!("topdown web-client: TLS with {host}: ");
        assert!(ran.stderr.starts_with(&start), "{}", ran.stderr);
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
        // … unless the user wants it so
        let ran = get(server.address, host, &["--insecure"]);
        assert_eq!((ran.status, ran.stdout.as_str()), (0, "secret"));
        assert!(ran.stderr.contains("may be anybody"), "{}", ran.stderr);
    }
    let own = made.path("self");
    let server = serve(&own, &site);
    let ran = get(server.address, "localhost", &["--ca-file", &own]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "secret"));
}

#[test]
fn curl_and_our_server() {
    let Some(made) = Certificates::get() else { return };
    if !have("curl") {
        return;
    }
    let site = Folder::new();
    let content = "abcdefgh".repeat(200_000);
    site.file("x", &content);
    let server = serve(&made.path("good"), &site);
    let url = format!("https://localhost:{}/x", server.port());
    for version in ["--tlsv1.2", "--tlsv1.3"] {
        let mut command = Command::new("curl");
        let ca = made.path("ca");
        command.args(["-sS", "--http1.1", version, "--tls-max"]);
        command.args([&version[6..], "--cacert", &ca, &url, &url]);
        let ran = run_command(command, "");
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        assert_eq!(ran.stdout, content.repeat(2));
    }
}

#[test]
fn our_client_and_nginx() {
    let Some(made) = Certificates::get() else { return };
    if !have("nginx") {
        return;
    }
    let site = Folder::new();
    let content = "abcdefgh".repeat(200_000);
    site.file("x", &content);
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    let (folder, pem) = (site.text(), made.path("good"));
    site.file(
        "nginx.conf",
        format!(
            "daemon off; master_process off; pid {folder}/pid;\n\
             error_log {folder}/error;\n\
             events {{}}\n\
             http {{ access_log off; client_body_temp_path {folder}/t;\n\
             server {{ listen {port} ssl; root {folder};\n\
             ssl_certificate {pem}; ssl_certificate_key {pem}; }} }}\n"
        ),
    );
    let mut nginx = Command::new("nginx");
    nginx.args(["-c", &site.path("nginx.conf"), "-e", &site.path("error")]);
    let mut nginx = nginx.spawn().unwrap();
    until_it_listens(port);
    let ran = get(port, "localhost", &["--ca-file", &made.path("ca")]);
    let _ = nginx.kill();
    let _ = nginx.wait();
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(ran.stdout, content);
}

/// Waits for a peer that says nothing when it is ready.
pub fn until_it_listens(address: SocketAddr) {
    let start = std::time::Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        assert!(start.elapsed() < LIMIT, "{address} does not listen");
        thread::yield_now();
    }
}

/// `openssl s_server` with these words, its input open.
fn s_server(words: &[&str]) -> Option<(Child, SocketAddr)> {
    have("openssl").then(|| {
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0"])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        let mut byte = [0];
        while !line.ends_with('\n') || !line.starts_with("ACCEPT 127") {
            if line.ends_with('\n') {
                line.clear();
            }
            stdout.read_exact(&mut byte).unwrap();
            line.push(char::from(byte[0]));
        }
        let address = line["ACCEPT ".len()..].trim().parse().unwrap();
        (child, address)
    })
}

#[test]
fn the_server_is_told_which_name_is_wanted() {
    let Some(made) = Certificates::get() else { return };
    // another name's certificate is shown to those who name none
    let (other, good) = (made.path("other"), made.path("good"));
    let words = ["-cert", &other, "-servername", "localhost", "-cert2", &good];
    let words = [&words[..], &["-key2", &good, "-www"]].concat();
    let Some((mut child, address)) = s_server(&words) else { return };
    let ran = get(address, "localhost", &["--ca-file", &made.path("ca")]);
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(ran.status, 0, "{}", ran.stderr);
}

#[test]
fn an_old_version_is_refused() {
    let Some(made) = Certificates::get() else { return };
    let pem = made.path("good");
    let Some((mut child, address)) = s_server(&[
        "-cert",
        &pem,
        "-tls1",
        "-www",
        "-cipher",
        "ALL:@SECLEVEL=0",
    ]) else {
        return;
    };
    let ran = get(address, "localhost", &["--ca-file", &made.path("ca")]);
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("no TLS 1.2 or newer"), "{}", ran.stderr);
    // and as a server
    let site = Folder::new();
    let server = serve(&pem, &site);
    let ran = s_client(&server, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    assert!(ran.stdout.contains("Cipher is (NONE)"), "{}", ran.stdout);
    let ran = s_client(&server, &["-tls1_2"]);
    assert!(ran.stdout.contains("HTTP/1.1 404 Not Found"), "{}", ran.stdout);
}

/// `openssl s_client` with one request.
fn s_client(server: &Server, words: &[&str]) -> Ran {
    let mut command = Command::new("openssl");
    let to = server.address.to_string();
    command.args(["s_client", "-ign_eof", "-connect", &to]).args(words);
    run_command(command, "GET /none HTTP/1.0\r\n\r\n")
}

#[test]
fn no_client_renegotiates() {
    let Some(made) = Certificates::get() else { return };
    let site = Folder::new();
    let server = serve(&made.path("good"), &site);
    let mut command = Command::new("openssl");
    let to = server.address.to_string();
    command.args(["s_client", "-tls1_2", "-connect", &to]);
    // (R alone on a line asks for it)
    let ran = run_command(command, "R\nGET / HTTP/1.0\r\n\r\n");
    assert!(ran.stderr.contains("RENEGOTIATING"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("no renegotiation")
            || ran.stderr.contains("unexpected eof"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stdout.contains("HTTP/1.1"), "{}", ran.stdout);
    // and the server lives
    let ran = s_client(&server, &[]);
    assert!(ran.stdout.contains("HTTP/1.1 404"), "{}", ran.stdout);
}

/// Speaks TLS by `openssl s_server`, and is cut off by this proxy after so
/// many bytes of the server's.
fn cut_after(to: SocketAddr, most: usize) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let (mut client, _) = socket.accept().unwrap();
        let mut server = connect(to);
        let (mut there, mut back) =
            (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut there, &mut back));
        let mut left = most;
        let mut bytes = [0; 1024];
        while left > 0 {
            let room = left.min(bytes.len());
            match server.read(&mut bytes[..room]) {
                Ok(count @ 1..) => {
                    let _ = client.write_all(&bytes[..count]);
                    left -= count;
                }
                _ => break,
            }
        }
        let _ = client.shutdown(std::net::Shutdown::Both);
    });
    address
}

#[test]
fn a_cut_off_stream_is_not_taken_for_whole() {
    let Some(made) = Certificates::get() else { return };
    let site = Folder::new();
    site.file("x", "y".repeat(100_000));
    let server = serve(&made.path("good"), &site);
    let ca = made.path("ca");
    for most in [10, 500, 5_000, 60_000] {
        let cut = cut_after(server.address, most);
        let ran = get(cut, "localhost", &["--ca-file", &ca]);
        assert_eq!(ran.status, 2, "after {most}: {}", ran.stderr);
    }
    // a body up to the close of the connection: only close_notify ends it
    let text = "HTTP/1.0 200 OK\r\n\r\nhello";
    let Some((mut child, address)) =
        s_server(&["-cert", &made.path("good"), "-naccept", "2"])
    else {
        return;
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    let asked =
        thread::spawn(move || get(address, "localhost", &["--insecure"]));
    // it is killed once it has had the request
    let mut seen = Vec::new();
    let stdout = child.stdout.as_mut().unwrap();
    let mut byte = [0];
    while !seen.ends_with(b"\r\n\r\n") {
        stdout.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    let _ = child.kill();
    let _ = child.wait();
    let ran = asked.join().unwrap();
    assert_eq!(ran.status, 2, "{}", ran.stdout);
    assert!(
        ran.stderr.contains("closed the connection")
            || ran.stderr.contains("ended before"),
        "{}",
        ran.stderr
    );
}

#[test]
fn junk_in_the_handshake() {
    let Some(made) = Certificates::get() else { return };
    let junk: Vec<&[u8]> = vec![
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\x16\x03\x03\xff\xff",
        b"\x16\x03\x03\x00\x04\x02\x00\x00\x00",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"",
    ];
    for bytes in &junk {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let bytes = bytes.to_vec();
        let peer = thread::spawn(move || {
            let (mut client, _) = socket.accept().unwrap();
            let _ = client.write_all(&bytes);
            let _ = client.shutdown(std::net::Shutdown::Write);
            let _ = client.read_to_end(&mut Vec::new());
        });
        let ran = get(address, "localhost", &[]);
        assert_eq!((ran.status, ran.stdout.as_str()), (2, ""));
        assert!(ran.stderr.contains("TLS with localhost: "), "{}", ran.stderr);
        peer.join().unwrap();
    }
    // a server has seen worse
    let site = Folder::new();
    let server = serve(&made.path("good"), &site);
    for bytes in junk {
        let mut socket = connect(server.address);
        socket.write_all(bytes).unwrap();
        let _ = socket.shutdown(std::net::Shutdown::Write);
        assert!(!read_all(&mut socket).contains("HTTP"));
    }
    let ran = s_client(&server, &[]);
    assert!(ran.stdout.contains("HTTP/1.1 404"), "{}", ran.stdout);
}

#[test]
fn a_silent_handshake_ends() {
    let Some(made) = Certificates::get() else { return };
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    let url = format!("https://localhost:{port}/");
    let ran = run(&["web-client", "-W", "0.2", &url], "");
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("did not end in time"), "{}", ran.stderr);
    let (pem, site) = (made.path("good"), Folder::new());
    let words = ["--tls-cert", &pem, "--header-timeout", "0.2", site.text()];
    let server = Server::start("web-server", &words);
    let mut socket = connect(server.address);
    socket.write_all(b"\x16\x03\x01").unwrap();
    assert_eq!(read_all(&mut socket), "");
}

#[test]
fn https_goes_through_a_proxys_tunnel() {
    let Some(made) = Certificates::get() else { return };
    let site = Folder::new();
    site.file("x", "through");
    let origin = serve(&made.path("good"), &site);
    let port = origin.port();
    let proxy = Server::start("web-proxy", &["--connect-port", &port]);
    let (ca, via) = (made.path("ca"), proxy.address.to_string());
    let more = ["-v", "-x", &via, "--ca-file", &ca];
    let ran = get(origin.address, "localhost", &more);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "through"));
    let connect = format!("C: CONNECT localhost:{port} HTTP/1.1");
    assert!(ran.stderr.contains(&connect), "{}", ran.stderr);
    // a proxy that says no, and one that answers too much
    let refusing = Script::new(vec![answer("403 Forbidden", "", "")]);
    let via = refusing.address.to_string();
    let ran = get(origin.address, "localhost", &["-x", &via]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("403 Forbidden"), "{}", ran.stderr);
    assert!(refusing.request().starts_with("CONNECT localhost:"));
}

#[test]
fn no_host_is_no_name() {
    // (to OpenSSL it would be every name)
    let ran = run(&["web-client", "https://./"], "");
    assert_eq!(ran.status, 2);
    let Some(made) = Certificates::get() else { return };
    let site = Folder::new();
    site.file("x", "x");
    let origin = serve(&made.path("other"), &site);
    let (port, ca) = (origin.port(), made.path("ca"));
    let address = origin.address;
    let tunnel = Script::with(1, move |_, socket| {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        let mut there = connect(address);
        let (mut a, mut b) =
            (there.try_clone().unwrap(), socket.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut a, &mut b));
        let _ = std::io::copy(socket, &mut there);
    });
    let (url, via) =
        (format!("https://.:{port}/x"), tunnel.address.to_string());
    let ran = run(&["web-client", "-x", &via, "--ca-file", &ca, &url], "");
    assert_eq!((ran.status, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.contains("is no host's name"), "{}", ran.stderr);
}

#[test]
fn without_openssl_it_says_what_to_install() {
    let libraries = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    let there = libraries
        .iter()
        .flat_map(|l| ["3", "1.1"].map(|v| format!("{l}/libssl.so.{v}")))
        .find(|path| Path::new(path).exists());
    let Some(library) = there else {
        return skip("no libssl where Debian has it");
    };
    if !may_unshare() {
        return;
    }
    let script = format!(
        "mount --bind /dev/null {library} && exec {BINARY} web-client \
         https://127.0.0.1:9/"
    );
    let mut command = Command::new("unshare");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let script = script.replace(":9/", &format!(":{port}/"));
    command.args(["-Urm", "sh", "-c", &script]);
    let ran = run_command(command, "");
    assert_eq!(ran.status, 2, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("install the package libssl3"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_server_says_what_is_wrong_with_its_files() {
    let Some(made) = Certificates::get() else { return };
    let (good, other) = (made.path("good"), made.path("other"));
    let server = |words: &[&str]| {
        let ran = run(&[&["web-server", "-l", "0"], words].concat(), "");
        assert_eq!(ran.status, 2);
        ran.stderr
    };
    let text = server(&["--tls-cert", "/nowhere"]);
    assert!(text.contains("--tls-cert /nowhere: No such file"), "{text}");
    let text = server(&["--tls-cert", &good, "--tls-key", &other]);
    assert!(text.contains("key values mismatch"), "{text}");
    let text = server(&["--tls-key", &good]);
    assert!(text.contains("--tls-key goes with --tls-cert"), "{text}");
    let text = server(&["--tls-cert", "/etc/hostname"]);
    assert!(text.contains("what is wanted is not in it"), "{text}");
}
