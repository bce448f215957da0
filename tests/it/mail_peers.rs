//! The mail tools and real programs: our client to postfix, smtp-sink and
//! our server; curl, swaks, msmtp, s-nail and Python to our server; messages
//! read by Python's `email` and `mailbox` and by ripmime.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::harness::{BINARY, Folder, Ran, have, kill, run_command, skip};
use crate::mail_disk::may_unshare;
use crate::mail_server::{MailServer, messages};
use crate::tls::{Certificates, until_it_listens};

fn free_address() -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap()
}

fn client(folder: &Folder, words: &[&str], text: &str) -> Ran {
    let mut command = Command::new(BINARY);
    command.current_dir(&folder.0).arg("mail-client").args(words);
    command.env("TOPDOWN_PASSWORD", "tanstaaftanstaaf");
    run_command(command, text)
}

/// Answers what Python's standard library finds: `script` has its arguments
/// in `sys.argv[1:]`.
fn python(script: &str, words: &[&str]) -> Ran {
    let mut command = Command::new("python3");
    command.arg("-c").arg(script).args(words);
    run_command(command, "")
}

const MAIN_CF: &str = "\
compatibility_level = 3.6
maillog_file = /dev/stdout
queue_directory = HERE/queue
data_directory = HERE/data
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = hamburger.edu
mydestination =
mynetworks =
virtual_mailbox_domains = hamburger.edu
virtual_mailbox_base = HERE/mail
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
alias_maps =
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_tls_security_level = may
smtpd_tls_cert_file = HERE/pem
smtpd_tls_key_file = HERE/pem
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
";

const MASTER_CF: &str = "\
127.0.0.1:PORT inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
tlsmgr unix - - n 1000? 1 tlsmgr
proxymap unix - - n - - proxymap
";

/// A postfix of the test's own, with STARTTLS, SASL and a Maildir.
struct Postfix {
    child: Child,
    address: SocketAddr,
    folder: Folder,
}

impl Postfix {
    /// Only root can have one.
    fn start(certificate: &str) -> Option<Postfix> {
        // SAFETY: the call takes nothing and cannot fail.
        let root = unsafe { libc::geteuid() } == 0;
        if !have("postfix") || !have("saslpasswd2") {
            return None;
        }
        if !root {
            skip("postfix is for root");
            return None;
        }
        let (folder, address) = (Folder::new(), free_address());
        let here = folder.text();
        let fill = |text: &str| {
            text.replace("HERE", here)
                .replace("PORT", &address.port().to_string())
        };
        folder.file("pem", fs::read(certificate).unwrap());
        folder.file("conf/main.cf", fill(MAIN_CF));
        folder.file("conf/master.cf", fill(MASTER_CF));
        // name spaces of its own: its users, its processes, none left over
        let script = format!(
            "cd {here} && mkdir queue data mail && chmod 755 . && \
             chown postfix queue data && chown nobody mail && \
             printf tanstaaftanstaaf | \
             saslpasswd2 -p -c -f db -u hamburger.edu tim && chmod 644 db && \
             mount --bind db /etc/sasldb2 && mount -t proc proc /proc && \
             exec postfix -c {here}/conf start-fg"
        );
        let mut child = Command::new("unshare")
            .args(["-mpf", "--kill-child", "sh", "-c", &script])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("daemon started") {
            line.clear();
            let count = log.read_line(&mut line).unwrap();
            assert!(count > 0, "postfix does not start");
        }
        std::thread::spawn(move || {
            std::io::copy(&mut log, &mut std::io::sink())
        });
        until_it_listens(address);
        Some(Postfix { child, address, folder })
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // the first process of its name space takes all others with it
        let pid = self.child.id();
        let children = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(children).unwrap_or_default();
        for child in children.split_whitespace() {
            kill(child.parse().unwrap(), libc::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn our_client_and_postfix() {
    let Some(made) = Certificates::get() else { return };
    let Some(postfix) = Postfix::start(&made.path("good")) else { return };
    let folder = Folder::new();
    let server = format!("localhost:{}", postfix.address.port());
    let ca = made.path("ca");
    let mail = [
        "-v",
        "--server",
        &server,
        "-f",
        "alice@crepes.fr",
        "-t",
        "bob@hamburger.edu",
        "--ca-file",
        &ca,
    ];
    // who does not log in is refused
    let ran = client(&folder, &mail, "no\n");
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("refused at RCPT: 554"), "{}", ran.stderr);
    let login = ["--user", "tim@hamburger.edu"];
    let ran = client(&folder, &[&mail[..], &login].concat(), ".dots\n..\n.\n");
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("C: STARTTLS"), "{}", ran.stderr);
    assert!(ran.stderr.contains("S: 235 2.7.0"), "{}", ran.stderr);
    let wrong = [&mail[..], &["--user", "eve@hamburger.edu"]].concat();
    let ran = client(&folder, &wrong, "no\n");
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("refused at AUTH: 535"), "{}", ran.stderr);
    // postfix delivers in its own time
    let inbox = postfix.folder.0.join("mail/box/new");
    let start = std::time::Instant::now();
    let delivered = loop {
        assert!(start.elapsed() < crate::harness::LIMIT, "not delivered");
        let entries = fs::read_dir(&inbox).ok();
        if let Some(entry) = entries.and_then(|mut all| all.next()) {
            break fs::read_to_string(entry.unwrap().path()).unwrap();
        }
        std::thread::yield_now();
    };
    assert!(delivered.contains("with ESMTPSA"), "{delivered}");
    assert!(delivered.ends_with("\n\n.dots\n..\n.\n"), "{delivered}");
}

#[test]
fn our_client_and_smtp_sink() {
    if !have("smtp-sink") {
        return;
    }
    let (folder, address) = (Folder::new(), free_address());
    let mut command = Command::new("smtp-sink");
    // SAFETY: the call takes nothing and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        command.args(["-u", "nobody"]);
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(&folder.0, open).unwrap();
    }
    let server = address.to_string();
    let dump = folder.path("%M.");
    command.args(["-d", &dump, &server, "10"]).stdout(Stdio::null());
    let mut sink = command.stderr(Stdio::null()).spawn().unwrap();
    until_it_listens(address);
    let attached = folder
        .file("big", (0..=255).cycle().take(3_000_000).collect::<Vec<u8>>());
    let attached = attached.to_str().unwrap();
    let ran = client(
        &folder,
        &["--server", &server, "-f", "a@b", "-t", "c@d", "-a", attached],
        ".\n..a\n",
    );
    let _ = sink.kill();
    let _ = sink.wait();
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let entries = fs::read_dir(&folder.0).unwrap().map(|e| e.unwrap().path());
    let dumped = entries.filter(|p| !p.ends_with("big"));
    let sizes: Vec<u64> =
        dumped.map(|p| fs::metadata(p).unwrap().len()).collect();
    assert!(sizes.iter().any(|size| *size > 4_000_000), "{sizes:?}");
}

/// Text, and attachments with names in four scripts.
const NAMES: [&str; 4] =
    ["Grüße aus Köln.txt", "привет мир.gif", "你好世界.pdf", "مرحبا.bin"];

fn many_parts(folder: &Folder, server: &str) -> Ran {
    let mut words = vec![
        "--server",
        server,
        "-f",
        "Алиса <alice@crepes.fr>",
        "-t",
        "Βασίλης <bob@hamburger.edu>",
        "-c",
        "王 <wang@hamburger.edu>",
        "-s",
        "Ünïcödé — こんにちは, and a long subject that has to be folded somewhere",
    ];
    let paths: Vec<String> = NAMES.iter().map(|n| folder.path(n)).collect();
    for (i, path) in paths.iter().enumerate() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1000 * i).collect();
        fs::write(path, bytes).unwrap();
        words.extend(["-a", path]);
    }
    client(folder, &words, "Grüße\n.\n\u{1f30d} trailing \n=3D\n")
}

#[test]
fn messages_are_whole_in_python_and_ripmime() {
    let mail = MailServer::start(&[]);
    let (folder, server) = (Folder::new(), mail.server.address.to_string());
    let ran = many_parts(&folder, &server);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let maildir = mail.folder.path("Maildir");
    if have("python3") {
        let script = r#"
import sys, mailbox, email, email.policy
box = mailbox.Maildir(sys.argv[1], create=False, factory=lambda f:
    email.message_from_binary_file(f, policy=email.policy.default))
[message] = list(box)
print(message['subject'])
for name in ('from', 'to', 'cc'):
    for a in message[name].addresses: print(name, a.display_name, a.addr_spec)
print(repr(message.get_body().get_content().replace('\r\n', '\n')))
for part in message.iter_attachments():
    content = part.get_payload(decode=True)
    good = content == (bytes(range(256)) * 20)[:len(content)]
    print(part.get_content_type(), part.get_filename(), len(content), good)
for line in message.as_bytes().split(b'\n'): assert len(line) <= 998
print([d for p in message.walk() for d in p.defects])
"#;
        let ran = python(script, &[&maildir]);
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        let expected = "\
Ünïcödé — こんにちは, and a long subject that has to be folded somewhere
from Алиса alice@crepes.fr
to Βασίλης bob@hamburger.edu
cc 王 wang@hamburger.edu
'Grüße\\n.\\n\u{1f30d} trailing \\n=3D\\n'
text/plain Grüße aus Köln.txt 0 True
image/gif привет мир.gif 1000 True
application/pdf 你好世界.pdf 2000 True
application/octet-stream مرحبا.bin 3000 True
[]
";
        assert_eq!(ran.stdout, expected);
    }
    if have("ripmime") {
        let new = Path::new(&maildir).join("new");
        let file = fs::read_dir(new).unwrap().next().unwrap().unwrap();
        let out = Folder::new();
        let mut command = Command::new("ripmime");
        command.arg("-i").arg(file.path()).args(["-d", out.text()]);
        assert_eq!(run_command(command, "").status, 0);
        let all = fs::read_dir(&out.0).unwrap();
        let whole = all.filter(|e| {
            let bytes = fs::read(e.as_ref().unwrap().path()).unwrap();
            bytes.len() % 1000 == 0
                && bytes.iter().enumerate().all(|(i, b)| *b == i as u8)
                && !bytes.is_empty()
        });
        assert_eq!(whole.count(), 3);
    }
}

/// How a peer sends one message: program, words, and what it reads.
struct Peer {
    program: &'static str,
    words: Vec<String>,
    text: &'static str,
}

const LETTER: &str = "From: alice@crepes.fr\r\nSubject: a letter\r\n\r\n\
                      .hi\r\nbye\r\n";

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Clear,
    StartTls,
    Tls,
}

fn smtplib(mode: Mode, port: u16, ca: &str, letter: &str) -> String {
    let connect = match mode {
        Mode::Clear => "smtplib.SMTP(h, p)",
        Mode::StartTls => "smtplib.SMTP(h, p); s.starttls(context=c)",
        Mode::Tls => "smtplib.SMTP_SSL(h, p, context=c)",
    };
    format!(
        "import smtplib, ssl\nh, p = 'localhost', {port}\n\
         c = ssl.create_default_context(cafile='{ca}')\n\
         s = {connect}\n\
         letter = open('{letter}', 'rb').read()\n\
         s.sendmail('alice@crepes.fr', ['bob@hamburger.edu'], letter)\n\
         s.quit()\n"
    )
}

/// The words of each program, with MODE's in their place.
fn peers(mode: Mode, port: u16, ca: &str, letter: &str) -> Vec<Peer> {
    let peer = |program, words: String, text| {
        let fill = |word: &str| {
            word.replace("PORT", &port.to_string())
                .replace("CA", ca)
                .replace("LETTER", letter)
        };
        let words = words.split_whitespace().map(fill).collect();
        Peer { program, words, text }
    };
    let by = |clear, start_tls, tls| match mode {
        Mode::Clear => clear,
        Mode::StartTls => start_tls,
        Mode::Tls => tls,
    };
    let curl = by("smtp", "smtp --ssl-reqd", "smtps");
    let (scheme, required) = curl.split_once(' ').unwrap_or((curl, ""));
    let curl = format!(
        "-sS {required} --cacert CA --url {scheme}://localhost:PORT \
         --mail-from alice@crepes.fr --mail-rcpt bob@hamburger.edu -T LETTER"
    );
    let swaks = format!(
        "--server localhost --port PORT --from alice@crepes.fr \
         --to bob@hamburger.edu --data LETTER {}",
        by(
            "",
            "--tls --tls-verify --tls-ca-path CA",
            "--tls-on-connect --tls-verify --tls-ca-path CA",
        )
    );
    let msmtp = format!(
        "--host=localhost --port=PORT --from=alice@crepes.fr {} \
         bob@hamburger.edu",
        by(
            "--tls=off",
            "--tls=on --tls-starttls=on --tls-trust-file=CA",
            "--tls=on --tls-starttls=off --tls-trust-file=CA",
        )
    );
    let nail = format!(
        "-:/ -Sv15-compat -Ssendwait -Ssmtp-auth=none {} \
         -Sfrom=alice@crepes.fr -s letter bob@hamburger.edu",
        by(
            "-Smta=smtp://localhost:PORT",
            "-Smta=smtp://localhost:PORT -Stls-ca-file=CA -Ssmtp-use-starttls",
            "-Smta=smtps://localhost:PORT -Stls-ca-file=CA",
        )
    );
    let words = vec!["-c".into(), smtplib(mode, port, ca, letter)];
    vec![
        peer("curl", curl, ""),
        peer("swaks", swaks, ""),
        peer("msmtp", msmtp, LETTER),
        peer("s-nail", nail, ".hi\nbye\n"),
        Peer { program: "python3", words, text: "" },
    ]
}

#[test]
fn real_clients_and_our_server() {
    let Some(made) = Certificates::get() else { return };
    let (pem, ca, folder) = (made.path("good"), made.path("ca"), Folder::new());
    let letter = folder.file("letter", LETTER);
    for mode in [Mode::Clear, Mode::StartTls, Mode::Tls] {
        let mut words = vec!["--tls-cert", &pem];
        if mode == Mode::Tls {
            words.push("--implicit-tls");
        }
        let mut mail = MailServer::start(&words);
        let port = mail.server.address.port();
        let mut sent = 0;
        for peer in peers(mode, port, &ca, letter.to_str().unwrap()) {
            if !have(peer.program) {
                continue;
            }
            let mut command = Command::new(peer.program);
            command.args(&peer.words).env("HOME", folder.text());
            let ran = run_command(command, peer.text);
            let (name, all) = (peer.program, mail.messages());
            assert_eq!(ran.status, 0, "{name}: {}{}", ran.stdout, ran.stderr);
            sent += 1;
            assert_eq!(all.len(), sent, "{name}: {}", ran.stderr);
            let last = all.last().unwrap();
            let with = match (mode, name) {
                (_, "s-nail") => "SMTP", // it says HELO
                (Mode::Clear, _) => "ESMTP",
                _ => "ESMTPS",
            };
            let with = format!("with {with} id ");
            assert!(last.contains(&with), "{name}: {last}");
            // swaks appends a line of its own
            assert!(last.contains("\n\n.hi\nbye\n"), "{name}: {last}");
        }
        let transcript = mail.transcript();
        let tls = transcript.matches("TLSv1.3, ").count();
        assert_eq!(tls, if mode == Mode::Clear { 0 } else { sent });
    }
}

/// What makes a peer log in by this mechanism, behind or among its words.
fn log_in(peer: &mut Peer, mechanism: &str) -> Option<String> {
    match peer.program {
        "curl" => Some(format!(
            "--user tim:tanstaaftanstaaf --login-options AUTH={mechanism}"
        )),
        "swaks" => Some(format!(
            "--auth {mechanism} --auth-user tim --auth-password \
             tanstaaftanstaaf"
        )),
        "msmtp" => {
            // (options come before the recipient)
            let auth = format!("--auth={}", mechanism.to_lowercase());
            let password = "--passwordeval=echo tanstaaftanstaaf";
            let words = [password.into(), "--user=tim".into(), auth];
            peer.words.splice(0..0, words);
            Some(String::new())
        }
        _ => None,
    }
}

#[test]
fn real_clients_log_in() {
    let Some(made) = Certificates::get() else { return };
    let (pem, ca, folder) = (made.path("good"), made.path("ca"), Folder::new());
    let letter = folder.file("letter", LETTER);
    let users = folder.file("users", "tim:tanstaaftanstaaf\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&users, mode).unwrap();
    let users = users.to_str().unwrap();
    let mail = MailServer::start(&["--tls-cert", &pem, "--user-file", users]);
    let port = mail.server.address.port();
    let mut sent = 0;
    for mechanism in ["PLAIN", "LOGIN"] {
        for mut peer in
            peers(Mode::StartTls, port, &ca, letter.to_str().unwrap())
        {
            let Some(more) = log_in(&mut peer, mechanism) else { continue };
            if !have(peer.program) {
                continue;
            }
            let mut command = Command::new(peer.program);
            command.args(&peer.words).args(more.split_whitespace());
            let ran = run_command(command, peer.text);
            let name = peer.program;
            assert_eq!(ran.status, 0, "{name}: {}{}", ran.stdout, ran.stderr);
            sent += 1;
            assert_eq!(messages(&mail.folder.0.join("Maildir")).len(), sent);
        }
    }
    assert!(mail.messages().iter().all(|m| m.contains("with ESMTPSA id ")));
    // ours, by both
    let server = format!("localhost:{port}");
    let ran = client(
        &folder,
        &[
            "--server",
            &server,
            "-f",
            "alice@crepes.fr",
            "-t",
            "b@c",
            "-u",
            "tim",
            "--ca-file",
            &ca,
        ],
        "hi\n",
    );
    assert_eq!(ran.status, 0, "{}", ran.stderr);
}

/// Two servers and a name server, in a network of their own, where 53 and
/// 25 are free.
const EXCHANGERS: &str = "\
set -e; cd HERE; ip link set lo up
mount --bind resolv.conf /etc/resolv.conf
dnsmasq --no-daemon --no-hosts --no-resolv --pid-file \\
  --listen-address=127.0.0.1 --bind-interfaces --local=/edu/example/ \\
  --mx-host=hamburger.edu,mx1.hamburger.edu,10 \\
  --mx-host=hamburger.edu,mx2.hamburger.edu,20 \\
  --address=/mx1.hamburger.edu/127.0.0.2 \\
  --address=/mx2.hamburger.edu/127.0.0.3 \\
  --mx-host=odd.example,mx.odd.example,10 \\
  --host-record=mx.odd.example,127.0.0.5 \\
  --host-record=plain.example,127.0.0.4 --dns-rr=null.example,15,000000 \\
  2>/dev/null &
until TOPDOWN dns-lookup hamburger.edu MX @127.0.0.1 >/dev/null 2>&1; do \\
  :; done
start() { TOPDOWN mail-server -l $1:25 --maildir $2 $3 $4 >$2.out \\
  2>$2.err & until grep -q listening $2.err; do :; done; }
: >two.err; : >four.err
python3 odd.py >odd.out & until grep -q ready odd.out; do :; done
start 127.0.0.3 two --tls-cert PEM; start 127.0.0.4 four
send() { status=0; TOPDOWN mail-client -v -f a@crepes.fr \"$@\" --body hi \\
  || status=$?; echo exit $status >&2; }
send -t bob@hamburger.edu -t c@plain.example -t d@HAMBURGER.edu
send -t x@null.example; send -t y@none.example
send -t z@[127.0.0.4]
send -t bob@hamburger.edu --tls starttls
send -t x@odd.example
";

/// Offers STARTTLS, and knows nothing of TLS; takes mail in clear.
const ODD: &str = r#"
import socket
s = socket.create_server(('127.0.0.5', 25))
print('ready', flush=True)
for turn in range(2):
    c, _ = s.accept()
    c.sendall(b'220 odd\r\n')
    f = c.makefile('rb')
    for line in f:
        verb = line[:4].upper()
        if verb == b'STAR':
            c.sendall(b'220 go\r\n')
            f.read(5)
            c.sendall(b'what?\r\n')
            break
        if verb == b'DATA':
            c.sendall(b'354 go\r\n')
            while f.readline() != b'.\r\n': pass
            print('taken', flush=True)
        c.sendall(b'250-odd\r\n250 STARTTLS\r\n' if verb == b'EHLO'
                  else b'250 ok\r\n')
        if verb == b'QUIT': break
    c.close(); f.close()
"#;

#[test]
fn mail_finds_its_exchangers() {
    let Some(made) = Certificates::get() else { return };
    let programs = ["dnsmasq", "ip", "unshare", "python3"];
    if !programs.iter().all(|program| have(program)) || !may_unshare() {
        return;
    }
    let folder = Folder::new();
    let (here, pem) = (folder.text(), made.path("self"));
    folder.file("resolv.conf", "nameserver 127.0.0.1\n");
    folder.file("odd.py", ODD);
    folder.file(
        "run",
        EXCHANGERS
            .replace("HERE", here)
            .replace("PEM", &pem)
            .replace("TOPDOWN", BINARY),
    );
    let mut command = Command::new("unshare");
    command.args(["-Urnmpf", "--kill-child", "timeout", "15", "sh"]);
    command.arg(folder.path("run"));
    let ran = run_command(command, "");
    let runs: Vec<&str> = ran.stderr.split("exit ").collect();
    let [first, null, none, literal, verified, odd, _] = runs.as_slice() else {
        panic!("{}", ran.stderr)
    };
    assert!(first.contains("mx1.hamburger.edu (preference 10), then mx2"));
    assert!(first.contains("nobody was authenticated as mx2.hamburger.edu"));
    assert!(null.starts_with('0'), "{first}");
    assert!(null.contains("takes no mail: null MX"), "{null}");
    assert!(none.starts_with('1'), "{null}");
    assert!(none.contains("there is no domain none.example"), "{none}");
    assert!(literal.starts_with('1'), "{none}");
    assert!(verified.starts_with('0'), "{literal}");
    // who asks for TLS gets it verified
    assert!(verified.contains("self-signed"), "{verified}");
    assert!(odd.starts_with('2'), "{}", ran.stderr);
    // where there is no TLS after all, mail by MX goes in clear
    assert!(odd.contains("in clear, then (RFC 7435)"), "{odd}");
    assert!(runs[6].starts_with('0'), "{}", ran.stderr);
    let odd = fs::read_to_string(folder.path("odd.out")).unwrap();
    assert_eq!(odd, "ready\ntaken\n");
    let to = |name: &str, address: &str| {
        let text = format!("X-Envelope-To: <{address}>\n");
        let all = messages(&folder.0.join(name));
        all.iter().filter(|message| message.contains(&text)).count()
    };
    assert_eq!(to("two", "bob@hamburger.edu"), 1);
    assert_eq!(to("two", "d@HAMBURGER.edu"), 1);
    assert_eq!(to("two", "c@plain.example"), 0);
    assert_eq!(to("four", "c@plain.example"), 1);
    assert_eq!(to("four", "z@[127.0.0.4]"), 1);
    assert!(messages(&folder.0.join("two"))[0].contains("with ESMTPS id "));
}
