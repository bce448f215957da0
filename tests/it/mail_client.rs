//! `mail-client` against servers that a test has scripted, good and bad.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::harness::{BINARY, Folder, LIMIT, Ran, random, run, run_command};
use crate::tls::Certificates;

type Answer = dyn Fn(&str) -> String + Send + Sync;

/// A mail server that answers each command as told, on one connection after
/// the other. `CLOSE` as an answer closes; "" is none; a message is the
/// command ".".
struct MailServer {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl MailServer {
    fn new(
        answer: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> MailServer {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let (answer, all): (Arc<Answer>, _) = (Arc::new(answer), heard.clone());
        thread::spawn(move || {
            for socket in socket.incoming().map_while(Result::ok) {
                let (answer, all) = (answer.clone(), all.clone());
                thread::spawn(move || converse(socket, &*answer, &all));
            }
        });
        MailServer { address, heard }
    }

    /// As a good server would, but for some commands.
    fn but(answers: &[(&'static str, &'static str)]) -> MailServer {
        let answers = answers.to_vec();
        MailServer::new(move |line| {
            let own = answers.iter().find(|(start, _)| line.starts_with(start));
            own.map_or_else(|| usual(line), |(_, answer)| answer.to_string())
        })
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    fn heard_any(&self, start: &str) -> bool {
        self.heard().iter().any(|line| line.starts_with(start))
    }

    /// Sends a short mail there.
    fn send(&self, folder: &Folder, more: &[&str]) -> Ran {
        let mut words =
            vec!["-f", "alice@crepes.fr", "-t", "bob@hamburger.edu"];
        words.extend_from_slice(more);
        self.run(folder, &words, "Do you like ketchup?\n")
    }

    fn run(&self, folder: &Folder, words: &[&str], text: &str) -> Ran {
        let mut command = Command::new(BINARY);
        command.current_dir(&folder.0).env_remove("TOPDOWN_PASSWORD");
        command.args(["mail-client", "--server", &self.address.to_string()]);
        run_command_of(command, words, text)
    }
}

fn run_command_of(mut command: Command, words: &[&str], text: &str) -> Ran {
    command.args(words);
    run_command(command, text)
}

/// What a good server answers.
fn usual(line: &str) -> String {
    let verb = line.split([' ', ':']).next().unwrap_or_default();
    match verb {
        "" => "220 hamburger.edu\r\n",
        "EHLO" => "250-hamburger.edu\r\n250 HELP\r\n",
        "DATA" => "354 go on\r\n",
        "QUIT" => "221 bye\r\n",
        _ => "250 ok\r\n",
    }
    .into()
}

fn converse(socket: TcpStream, answer: &Answer, all: &Mutex<Vec<String>>) {
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut writer = socket;
    let mut line = String::new();
    loop {
        let text = answer(&line);
        let (text, closes) = match text.strip_suffix("CLOSE") {
            Some(text) => (text, true),
            None => (text.as_str(), false),
        };
        if writer.write_all(text.as_bytes()).is_err() || closes {
            return;
        }
        let message = text.starts_with("354");
        line.clear();
        loop {
            let mut next = String::new();
            match reader.read_line(&mut next) {
                Ok(count) if count > 0 => line.push_str(&next),
                _ => return,
            }
            if !message || line == ".\r\n" || line.ends_with("\r\n.\r\n") {
                break;
            }
        }
        all.lock().unwrap().push(line.trim_end().to_string());
        line = match message {
            true => ".".into(),
            false => line.trim_end().to_string(),
        };
    }
}

fn letters(folder: &Folder) -> usize {
    fs::read_dir(&folder.0).unwrap().count()
}

/// It was not sent: the letter is kept, for its owner alone.
fn kept(folder: &Folder, ran: &Ran) -> String {
    assert!(ran.stderr.contains("kept in dead.letter"), "{}", ran.stderr);
    let path = folder.path("dead.letter");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains("Do you like ketchup?\r\n"), "{text}");
    text
}

#[test]
fn the_dialogue_of_a_mail() {
    let (server, folder) = (MailServer::but(&[]), Folder::new());
    let ran = server.send(&folder, &["--helo", "crepes.fr", "-s", "Hi"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(ran.stdout, "bob@hamburger.edu: 250 ok\n");
    assert_eq!(letters(&folder), 0);
    let heard = server.heard();
    assert_eq!(heard[0], "EHLO crepes.fr");
    assert_eq!(heard[1], "MAIL FROM:<alice@crepes.fr>");
    assert_eq!(heard[2], "RCPT TO:<bob@hamburger.edu>");
    assert_eq!(heard[3], "DATA");
    assert!(heard[4].contains("\r\nSubject: Hi\r\n"), "{}", heard[4]);
    assert!(heard[4].ends_with("\r\n\r\nDo you like ketchup?\r\n."));
    assert_eq!(heard[5], "QUIT");
}

#[test]
fn replies_in_every_legal_form() {
    let server = MailServer::but(&[("", "220-one\r\n220-two\r\n220\r\n")]);
    let folder = Folder::new();
    // (all commands begin with "": so the greeting answers everything but
    // what is expected, which is a refusal)
    let ran = server.send(&folder, &[]);
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("refused at EHLO: 220 one / two"));
    let server = MailServer::but(&[
        ("MAIL", "250-2.1.0 one\r\n250-two\r\n250\r\n"),
        ("RCPT", "251 will forward\r\n"),
        (".", "250\r\n"),
    ]);
    let ran = server.send(&folder, &[]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
}

#[test]
fn bad_greetings() {
    for (greeting, status, why) in [
        ("421 later\r\nCLOSE", 1, "421 later (try again later)"),
        ("554 no\r\n", 1, "554 no (no, and asking again will not help)"),
        ("HTTP/1.1 400 Bad Request\r\n", 2, "no reply code"),
        ("CLOSE", 2, "the server closed the connection"),
        ("", 2, "none came in 300ms"),
        ("220 half a li", 2, "none came in 300ms"),
        ("220 bare\n", 2, "does not end with CRLF"),
        ("220-a\r\n250 b\r\n", 2, "different codes"),
        ("220_\r\n", 2, "no space or hyphen"),
    ] {
        let folder = Folder::new();
        let server = MailServer::new(move |_| greeting.into());
        let ran = server.send(&folder, &["-W", "0.3"]);
        assert_eq!(ran.status, status, "{greeting}: {}", ran.stderr);
        assert!(ran.stderr.contains(why), "{greeting}: {}", ran.stderr);
        kept(&folder, &ran);
    }
    // a greeting without end, in lines and in one
    for piece in ["220-again\r\n", "220 x"] {
        let folder = Folder::new();
        let server = MailServer::new(move |_| piece.repeat(100_000));
        let ran = server.send(&folder, &[]);
        assert_eq!(ran.status, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains("a reply"), "{}", ran.stderr);
        kept(&folder, &ran);
    }
}

#[test]
fn a_reply_that_drips_is_not_waited_for() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // a line now and then, each in time, and never the last
    thread::spawn(move || {
        let (mut socket, _) = socket.accept().unwrap();
        while socket.write_all(b"220-go on\r\n").is_ok() {
            thread::sleep(std::time::Duration::from_millis(200));
        }
    });
    let (folder, heard) = (Folder::new(), Arc::default());
    let ran = MailServer { address, heard }.send(&folder, &["-W", "1"]);
    assert_eq!(ran.status, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("none came in 1s"), "{}", ran.stderr);
}

#[test]
fn certificates_are_verified() {
    let Some(made) = Certificates::get() else { return };
    let (folder, ca) = (Folder::new(), made.path("ca"));
    for (name, why) in [
        ("expired", "has expired"),
        ("other", "for www.other.example"),
        ("self", "self-signed"),
    ] {
        for (mode, implicit) in
            [("starttls", false), ("tls", true), ("auto", false)]
        {
            let mut words = vec!["--tls-cert".to_string(), made.path(name)];
            if implicit {
                words.push("--implicit-tls".into());
            }
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mail = crate::mail_server::MailServer::start(&words);
            let server = format!("localhost:{}", mail.server.port());
            let mut command = Command::new(BINARY);
            command.current_dir(&folder.0).args(["mail-client", "--body", "x"]);
            command.args(["-f", "a@b", "-t", "c@d", "--tls", mode]);
            command.args(["--server", &server, "--ca-file", &ca]);
            let ran = run_command(command, "");
            assert_eq!(ran.status, 2, "{name} {mode}: {}", ran.stderr);
            assert!(ran.stderr.contains(why), "{name} {mode}: {}", ran.stderr);
            assert!(mail.messages().is_empty());
        }
    }
}

#[test]
fn a_signal_in_mid_dialogue_keeps_the_letter() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let folder = Folder::new();
        let server = MailServer::but(&[("DATA", "")]);
        let mut child = Command::new(BINARY)
            .current_dir(&folder.0)
            .args(["mail-client", "-f", "a@b", "-t", "c@d", "--server"])
            .arg(server.address.to_string())
            .args(["--body", "Do you like ketchup?"])
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let start = std::time::Instant::now();
        while !server.heard_any("DATA") {
            assert!(start.elapsed() < LIMIT, "no DATA came");
        }
        crate::harness::kill(child.id(), signal);
        assert_eq!(child.wait().unwrap().code(), Some(2));
        let kept = fs::read_to_string(folder.path("dead.letter")).unwrap();
        assert!(kept.contains("Do you like ketchup?"), "{kept}");
    }
}

#[test]
fn nobody_reads_its_output_and_nothing_is_lost() {
    let folder = Folder::new();
    let server = MailServer::but(&[("RCPT TO:<eve", "550 no\r\n")]);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let ran = Command::new(BINARY)
        .current_dir(&folder.0)
        .args(["mail-client", "-f", "a@b", "-t", "c@d", "-t", "eve@x"])
        .args(["--server", &server.address.to_string(), "--body", "hi"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert!(stderr.contains("eve@x: refused at RCPT"), "{stderr}");
    assert!(folder.0.join("dead.letter").exists());
}

#[test]
fn what_was_known_before_the_connection_went_stays_so() {
    let server = MailServer::but(&[
        ("RCPT TO:<eve", "550 no eve\r\n"),
        ("DATA", "CLOSE"),
    ]);
    let ran = server.send(&Folder::new(), &["-t", "eve@x"]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("eve@x: refused at RCPT: 550 no eve"));
    assert!(ran.stderr.contains("bob@hamburger.edu: not sent: "));
    // 421 in between: what was refused is refused, the rest is for later
    let server = MailServer::but(&[
        ("RCPT TO:<bob", "550 no bob\r\n"),
        ("RCPT TO:<late", "421 closing\r\nCLOSE"),
    ]);
    let words = ["-t", "good@x", "-t", "late@x", "-t", "never@x"];
    let ran = server.send(&Folder::new(), &words);
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("bob@hamburger.edu: refused at RCPT: 550"));
    for later in ["good@x", "late@x", "never@x"] {
        let text = format!("{later}: refused at RCPT: 421");
        assert!(ran.stderr.contains(&text), "{}", ran.stderr);
    }
    let server = MailServer::but(&[("MAIL", "421 closing\r\nCLOSE")]);
    let ran = server.send(&Folder::new(), &[]);
    assert!(ran.stderr.contains("refused at MAIL: 421"), "{}", ran.stderr);
}

#[test]
fn one_recipient_is_asked_for_once() {
    let (server, folder) = (MailServer::but(&[]), Folder::new());
    let more = ["-c", "bob@HAMBURGER.edu", "-b", "bob@hamburger.edu"];
    assert_eq!(server.send(&folder, &more).status, 0);
    let heard = server.heard();
    let rcpt = heard.iter().filter(|line| line.starts_with("RCPT"));
    assert_eq!(rcpt.count(), 1);
    // a header beyond ASCII needs SMTPUTF8
    let all = "250-h\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n";
    let server = MailServer::but(&[("EHLO", all)]);
    let raw = folder.file("raw", "Subject: caf\u{e9}\n\nhi\n");
    let raw = ["-f", "a@b", "-t", "c@d", "--raw", raw.to_str().unwrap()];
    assert_eq!(server.run(&folder, &raw, "").status, 0);
    assert_eq!(server.heard()[1], "MAIL FROM:<a@b> BODY=8BITMIME SMTPUTF8");
}

#[test]
fn a_long_password_comes_behind_the_command() {
    let folder = Folder::new();
    let offers = ("EHLO", "250-h\r\n250 AUTH PLAIN\r\n");
    let secret = folder.file("secret", "x".repeat(600));
    let server = MailServer::but(&[
        offers,
        ("AUTH", "334 \r\n"),
        ("AHRpbQB4", "235 in\r\n"),
    ]);
    let words = ["-u", "tim", "--password-file", secret.to_str().unwrap()];
    let ran =
        server.send(&folder, &[&words[..], &["--insecure-auth"]].concat());
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert_eq!(server.heard()[1], "AUTH PLAIN");
}

#[test]
fn helo_where_ehlo_is_unknown() {
    let (folder, no) = (Folder::new(), "500 what?\r\n");
    let server = MailServer::but(&[("EHLO", no)]);
    let ran = server.send(&folder, &[]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert!(server.heard()[1].starts_with("HELO ["));
    let server = MailServer::but(&[("EHLO", no), ("HELO", "502 no\r\n")]);
    let ran = server.send(&folder, &[]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("refused at HELO: 502"), "{}", ran.stderr);
    let server = MailServer::but(&[("EHLO", "421 later\r\n")]);
    let ran = server.send(&Folder::new(), &[]);
    assert!(ran.stderr.contains("refused at EHLO: 421"), "{}", ran.stderr);
}

#[test]
fn a_no_at_each_step() {
    for (command, step) in [
        ("MAIL", "MAIL"),
        ("RCPT", "RCPT"),
        ("DATA", "DATA"),
        (".", "the message"),
    ] {
        for (answer, advice) in [
            ("451 4.3.0 later\r\n", "try again later"),
            ("550-5.7.1 no\r\n550 5.7.1 never\r\n", "will not help"),
        ] {
            let folder = Folder::new();
            let server = MailServer::but(&[(command, answer)]);
            let ran = server.send(&folder, &[]);
            assert_eq!(ran.status, 1, "{}", ran.stderr);
            let why = format!("bob@hamburger.edu: refused at {step}: ");
            assert!(ran.stderr.contains(&why), "{}", ran.stderr);
            assert!(ran.stderr.contains(advice), "{}", ran.stderr);
            kept(&folder, &ran);
            assert_eq!(server.heard().last().unwrap(), "QUIT");
            let data = matches!(command, "DATA" | ".");
            assert_eq!(server.heard_any("DATA"), data);
        }
    }
}

#[test]
fn some_recipients_are_refused() {
    let folder = Folder::new();
    let server = MailServer::but(&[("RCPT TO:<eve", "550 no eve\r\n")]);
    let ran = server.send(&folder, &["-t", "eve@x", "-b", "carol@x"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stdout.contains("bob@hamburger.edu: 250 ok"));
    assert!(ran.stdout.contains("carol@x: 250 ok"));
    assert!(ran.stderr.contains("eve@x: refused at RCPT: 550 no eve"));
    let text = kept(&folder, &ran);
    assert!(text.contains("X-Envelope-To: <eve@x>\r\nDate:"), "{text}");
    // and what was kept can be sent, to her alone
    let server = MailServer::but(&[]);
    let ran = server.run(&folder, &["--raw", "dead.letter"], "");
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert_eq!(ran.stdout, "eve@x: 250 ok\n");
    let heard = server.heard();
    assert_eq!(heard[1], "MAIL FROM:<alice@crepes.fr>");
    assert!(heard[4].starts_with("Date: "), "{}", heard[4]);
    // what fails again stays, and is not kept twice
    let server = MailServer::but(&[("RCPT", "450 later\r\n")]);
    let ran = server.run(&folder, &["--raw", "dead.letter"], "");
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("it stays in dead.letter"), "{}", ran.stderr);
    assert_eq!(letters(&folder), 1);
    // but an envelope of the options is in no file yet
    folder.file("mail.eml", "Subject: x\r\n\r\nhi\r\n");
    let words = ["--raw", "mail.eml", "-f", "a@b", "-t", "c@d"];
    let ran = server.run(&folder, &words, "");
    assert!(ran.stderr.contains("kept in dead.letter.1"), "{}", ran.stderr);
    let text = fs::read_to_string(folder.path("dead.letter.1")).unwrap();
    assert!(text.contains("X-Envelope-To: <c@d>\r\nSubject: x"), "{text}");
    fs::remove_file(folder.path("dead.letter.1")).unwrap();
    fs::remove_file(folder.path("mail.eml")).unwrap();
    // a second letter does not replace the first
    let server = MailServer::but(&[("RCPT", "550 no\r\n")]);
    let ran = server.send(&folder, &[]);
    assert!(ran.stderr.contains("kept in dead.letter.1"), "{}", ran.stderr);
    assert_eq!(letters(&folder), 2);
}

#[test]
fn a_connection_lost() {
    // before the dot: certainly not sent
    let folder = Folder::new();
    let server = MailServer::but(&[("DATA", "CLOSE")]);
    let ran = server.send(&folder, &[]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("not sent: "), "{}", ran.stderr);
    kept(&folder, &ran);
    // behind it: nobody knows
    let folder = Folder::new();
    let server = MailServer::but(&[(".", "CLOSE")]);
    let ran = server.send(&folder, &[]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("unknown whether sent"), "{}", ran.stderr);
    kept(&folder, &ran);
    // and with no answer at all
    let folder = Folder::new();
    let server = MailServer::but(&[(".", "")]);
    let ran = server.send(&folder, &["-W", "0.3"]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("unknown whether sent"), "{}", ran.stderr);
    // after the reply nothing matters
    for answer in ["CLOSE", "junk\r\n"] {
        let folder = Folder::new();
        let server = MailServer::but(&[("QUIT", answer)]);
        let ran = server.send(&folder, &[]);
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    }
    let folder = Folder::new();
    let server = MailServer::but(&[("QUIT", "")]);
    let ran = server.send(&folder, &["-W", "0.3"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
}

#[test]
fn a_server_that_goes_away_in_mid_message_may_say_why() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let peer = thread::spawn(move || {
        let (mut socket, _) = socket.accept().unwrap();
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        let mut line = String::new();
        let _ = socket.write_all(b"220 h\r\n");
        while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
            let data = line.starts_with("DATA");
            let _ = socket.write_all(match data {
                true => b"354 go\r\n552 5.3.4 too much\r\n",
                false => &b"250 ok\r\n"[..],
            });
            if data {
                break;
            }
            line.clear();
        }
        let mut lines = 0;
        while lines < 10 && reader.read_line(&mut line).is_ok_and(|n| n > 0) {
            lines += 1;
        }
    });
    let folder = Folder::new();
    let big = folder.file("big", vec![7; 20 << 20]);
    let server = MailServer { address, heard: Arc::default() };
    let ran = server.send(&folder, &["-a", big.to_str().unwrap()]);
    peer.join().unwrap();
    // the reply, or (when the reset overtook it) that it was not sent
    assert!(matches!(ran.status, 1 | 2), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("552 5.3.4") || ran.stderr.contains("not sent"),
        "{}",
        ran.stderr
    );
    kept(&folder, &ran);
}

#[test]
fn no_tls_where_tls_is_wanted() {
    let folder = Folder::new();
    let server = MailServer::but(&[]);
    let ran = server.send(&folder, &["--tls", "starttls"]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("offers no STARTTLS"), "{}", ran.stderr);
    assert!(!server.heard_any("MAIL"));
    let offers = ("EHLO", "250-h\r\n250 STARTTLS\r\n");
    let server = MailServer::but(&[offers, ("STARTTLS", "454 not now\r\n")]);
    let ran = server.send(&Folder::new(), &[]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("refused at STARTTLS: 454"));
    let injected = "220 go\r\n250 injected\r\n";
    let server = MailServer::but(&[offers, ("STARTTLS", injected)]);
    let ran = server.send(&Folder::new(), &["--insecure"]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("was injected"), "{}", ran.stderr);
    assert!(!server.heard_any("MAIL"));
    let server = MailServer::but(&[offers, ("STARTTLS", "220 go\r\njunk")]);
    let ran = server.send(&Folder::new(), &["--insecure", "-W", "2"]);
    assert_eq!(ran.status, 2, "{}", ran.stderr);
    let server = MailServer::but(&[offers]);
    let ran = server.send(&folder, &["--tls", "off"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
}

#[test]
fn a_password_stays_at_home_without_tls() {
    let folder = Folder::new();
    let offers = ("EHLO", "250-h\r\n250 AUTH LOGIN PLAIN\r\n");
    let secret = folder.file("secret", "tanstaaftanstaaf\nsecond line\n");
    let secret = secret.to_str().unwrap();
    let login = ["--user", "tim", "--password-file", secret];
    let server = MailServer::but(&[offers]);
    let ran = server.send(&folder, &login);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("was not sent"), "{}", ran.stderr);
    assert!(!server.heard_any("AUTH"));
    // unless the user says so; and no transcript has it
    let words = [&login[..], &["--insecure-auth", "-e"]].concat();
    let server = MailServer::but(&[offers, ("AUTH", "235 2.7.0 in\r\n")]);
    let ran = server.send(&folder, &words);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let coded = "AHRpbQB0YW5zdGFhZnRhbnN0YWFm"; // RFC 4616 §4
    assert_eq!(server.heard()[1], format!("AUTH PLAIN {coded}"));
    assert!(ran.stderr.contains("C: AUTH PLAIN ********"));
    assert!(!ran.stderr.contains(coded) && !ran.stderr.contains("tanstaaf"));
    // LOGIN, where PLAIN is not offered
    let offers = ("EHLO", "250-h\r\n250 AUTH=LOGIN\r\n");
    let server = MailServer::but(&[
        offers,
        ("AUTH", "334 VXNlcm5hbWU6\r\n"),
        ("dGlt", "334 UGFzc3dvcmQ6\r\n"),
        ("dGFuc3RhYWZ0YW5zdGFhZg==", "235 in\r\n"),
    ]);
    let ran = server.send(&folder, &words);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert!(!ran.stderr.contains("dGlt") && !ran.stderr.contains("dGFuc3"));
    // refused, and not offered
    let offers = ("EHLO", "250-h\r\n250 AUTH PLAIN\r\n");
    let server = MailServer::but(&[offers, ("AUTH", "535 5.7.8 no\r\n")]);
    let ran = server.send(&folder, &words);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("refused at AUTH: 535"), "{}", ran.stderr);
    assert!(!server.heard_any("MAIL"));
    let server = MailServer::but(&[("EHLO", "250-h\r\n250 AUTH GSSAPI\r\n")]);
    let ran = server.send(&folder, &words);
    assert!(ran.stderr.contains("AUTH by GSSAPI only"), "{}", ran.stderr);
}

#[test]
fn extensions_are_used_where_they_are_offered() {
    let folder = Folder::new();
    let all = "250-h\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-PIPELINING\r\n\
               250 SMTPUTF8\r\n";
    let server = MailServer::but(&[("EHLO", all)]);
    let ran = server.send(&folder, &["-t", "дядя@почта.example"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let heard = server.heard();
    let size = heard[5].len() - 1; // without the dot
    assert_eq!(
        heard[1],
        format!(
            "MAIL FROM:<alice@crepes.fr> SIZE={size} BODY=8BITMIME SMTPUTF8"
        )
    );
    assert_eq!(heard[3], "RCPT TO:<дядя@почта.example>");
    // not offered
    let server = MailServer::but(&[]);
    let ran = server.send(&folder, &["-t", "дядя@почта.example"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("(RFC 6"), "{}", ran.stderr);
    assert!(!server.heard_any("MAIL"));
    let raw = folder.file("raw", "Subject: a\n\ncaf\u{e9}\n");
    let raw = ["-f", "a@b", "-t", "c@d", "--raw", raw.to_str().unwrap()];
    let ran = server.run(&folder, &raw, "");
    assert!(ran.stderr.contains("8BITMIME"), "{}", ran.stderr);
    // too big
    let server = MailServer::but(&[("EHLO", all)]);
    let long = "x".repeat(900);
    let ran = server.send(&folder, &["--body", &long]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("takes 1000 at most"), "{}", ran.stderr);
    assert!(!server.heard_any("MAIL"));
}

#[test]
fn many_recipients_in_groups() {
    let folder = Folder::new();
    let all = "250-h\r\n250 PIPELINING\r\n";
    let server =
        MailServer::but(&[("EHLO", all), ("RCPT TO:<u7@", "550 no\r\n")]);
    let to: Vec<String> = (0..3000).map(|i| format!("u{i}@x")).collect();
    let mut words = vec!["-f", "a@b", "--body", "x", "-q"];
    for address in &to {
        words.extend(["-b", address]);
    }
    let ran = server.run(&folder, &words, "");
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("u7@x: refused"), "{}", ran.stderr);
    let heard = server.heard();
    let rcpt = heard.iter().filter(|line| line.starts_with("RCPT"));
    assert_eq!(rcpt.count(), 3000);
    assert!(heard.iter().any(|l| l.contains("undisclosed-recipients:;")));
    assert!(!heard.iter().any(|l| l.contains("Bcc")));
}

#[test]
fn what_makes_no_message() {
    let usage = |words: &[&str], why: &str| {
        let ran = run(&[&["mail-client"], words].concat(), "text\n");
        assert_eq!(ran.status, 2, "{words:?}");
        assert!(ran.stderr.contains(why), "{words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("usage: "), "{}", ran.stderr);
    };
    let to = ["-f", "a@b", "-t", "c@d"];
    usage(&["-f", "a@b"], "--to is missing");
    usage(&["-t", "a@b"], "--from is missing");
    for bad in ["a", "a@b\r\nRCPT TO:<x@y>", "a b@c", "a@b,c@d"] {
        usage(&["-f", "a@b", "-t", bad], "--to");
    }
    usage(&[&to[..], &["-s", "a\r\nBcc: x@y"]].concat(), "--subject");
    usage(&[&to[..], &["-s", "a\u{85}b"]].concat(), "--subject");
    usage(&["-f", "A\nB <a@b>", "-t", "c@d"], "control character");
    usage(&[&to[..], &["--helo", "a b"]].concat(), "--helo");
    usage(&[&to[..], &["--tls", "on"]].concat(), "off, auto, starttls or tls");
    usage(&[&to[..], &["--server", "h:0"]].concat(), "port must be");
    usage(&[&to[..], &["--user", "u"]].concat(), "--user goes with --server");
    usage(&[&to[..], &["--gmail", "--yahoo"]].concat(), "exclude each other");
    usage(&["--raw", "-", "-s", "x"], "--raw has subject");
    let name = Folder::new();
    let path = name.file("a\nb", "x");
    usage(
        &[&to[..], &["-a", path.to_str().unwrap()]].concat(),
        "control character",
    );
    let text = name.file("latin", b"caf\xe9\n");
    usage(&[&to[..], &[text.to_str().unwrap()]].concat(), "no text in UTF-8");
    let raw = name.file("raw", "a\rb\n");
    let raw = raw.to_str().unwrap();
    let ran = run(&["mail-client", "-f", "a@b", "-t", "c@d", "--raw", raw], "");
    assert!(ran.stderr.contains("a bare CR in the message"), "{}", ran.stderr);
}

#[test]
fn a_dry_run_says_all_and_sends_nothing() {
    let ran = run(
        &[
            "mail-client",
            "--dry-run",
            "-f",
            "Alice <alice@crepes.fr>",
            "-t",
            "bob@hamburger.edu",
            "-b",
            "eve@x",
            "-s",
            "Grüße",
            "--body",
            ".dot\n",
            "--gmail",
        ],
        "",
    );
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("smtp.gmail.com, port 587"));
    let lines: Vec<&str> = ran.stdout.split("\r\n").collect();
    assert_eq!(
        lines[..4],
        [
            "EHLO [127.0.0.1]",
            "STARTTLS",
            "EHLO [127.0.0.1]",
            "AUTH PLAIN ********"
        ]
    );
    assert!(lines[4].starts_with("MAIL FROM:<alice@crepes.fr> SIZE="));
    assert_eq!(
        lines[5..8],
        ["RCPT TO:<bob@hamburger.edu>", "RCPT TO:<eve@x>", "DATA"]
    );
    assert!(lines.contains(&"Subject: =?utf-8?B?R3LDvMOfZQ==?="));
    assert_eq!(lines[lines.len() - 4..], ["..dot", ".", "QUIT", ""]);
    assert!(!ran.stdout.contains("Bcc"));
}

#[test]
fn a_verdict_as_json() {
    let folder = Folder::new();
    let server = MailServer::but(&[
        ("RCPT TO:<eve", "550 no \"eve\"\r\n"),
        ("RCPT TO:<late", "450 later\r\n"),
    ]);
    let words = ["--json", "-t", "eve@x", "-t", "late@x"];
    let ran = server.send(&folder, &words);
    assert_eq!(ran.status, 1);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            "{\"recipient\":\"bob@hamburger.edu\",\"verdict\":\"accepted\",\
             \"code\":250,\"text\":\"250 ok\"}",
            "{\"recipient\":\"eve@x\",\"verdict\":\"refused\",\"code\":550,\
             \"text\":\"550 no \\\"eve\\\"\"}",
            "{\"recipient\":\"late@x\",\"verdict\":\"later\",\"code\":450,\
             \"text\":\"450 later\"}",
        ]
    );
}

#[test]
fn it_quits_after_a_step() {
    for (step, heard) in [
        ("greeting", 1),
        ("ehlo", 2),
        ("starttls", 2),
        ("auth", 2),
        ("mail", 3),
        ("rcpt", 4),
    ] {
        let (server, folder) = (MailServer::but(&[]), Folder::new());
        let ran = server.send(&folder, &["--quit-after", step]);
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
        assert_eq!(server.heard().len(), heard, "{step}: {:?}", server.heard());
        assert_eq!(server.heard().last().unwrap(), "QUIT");
        assert_eq!(letters(&folder), 0);
    }
}

#[test]
fn explanations_and_a_diagram() {
    let (server, folder) = (MailServer::but(&[]), Folder::new());
    let drawing = folder.path("run.svg");
    let ran = server.send(
        &folder,
        &["-e", "--diagram", &drawing, "--body", ".x\nGrüße, wie geht es?\n"],
    );
    assert_eq!(ran.status, 0);
    for text in [
        "S: 220 hamburger.edu",
        "2: done; 2: about the connection",
        "C: ..x",
        "'.x' began with a dot and got a second one: 2 octets became 3",
        "an empty line: the header ends",
        "becomes 'Gr=C3=BC=C3=9Fe, wie geht es?'",
        "The From in the header is for people",
    ] {
        let flat = ran.stderr.replace('\n', " ");
        let words: Vec<&str> =
            flat.split(['|', ' ']).filter(|w| !w.is_empty()).collect();
        assert!(words.join(" ").contains(text), "{text}: {}", ran.stderr);
    }
    let svg = fs::read_to_string(drawing).unwrap();
    assert!(svg.contains("MAIL FROM:&lt;alice@crepes.fr&gt;"), "{svg}");
}

#[test]
fn no_reply_makes_it_stumble() {
    // what a server may say, mutated: it ends, within its limits, by one of
    // its three exits
    let good = "220 h\r\n250-h\r\n250 SIZE 100000\r\n250 ok\r\n250 ok\r\n\
                354 go\r\n250 ok\r\n221 bye\r\n";
    let mut below = random(99);
    for _ in 0..150 {
        let mut bytes = good.as_bytes().to_vec();
        for _ in 0..=below(3) {
            let at = below(bytes.len());
            match below(3) {
                0 => bytes[at] = b"\r\n\0 -059\xff"[below(9)],
                1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let said = bytes.clone();
        let peer = thread::spawn(move || {
            let (mut socket, _) = socket.accept().unwrap();
            let _ = socket.write_all(&said);
            let _ = socket.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(&mut socket, &mut std::io::sink());
        });
        let folder = Folder::new();
        let server = MailServer { address, heard: Arc::default() };
        let ran = server.send(&folder, &["-W", "2"]);
        peer.join().unwrap();
        assert!((0..=2).contains(&ran.status), "{bytes:?}: {}", ran.stderr);
        assert!(!ran.stderr.contains("bug"), "{}", ran.stderr);
        assert!(ran.status == 0 || letters(&folder) == 1, "{}", ran.stderr);
    }
}
