//! `mail-server` against clients that a test has scripted, good and bad.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{BINARY, Folder, Server, connect, have, read_all, run};
use crate::tls::Certificates;

/// The server with a Maildir and a transcript in a folder.
pub struct MailServer {
    pub server: Server,
    pub folder: Folder,
}

impl MailServer {
    pub fn start(more: &[&str]) -> MailServer {
        let folder = Folder::new();
        let transcript = fs::File::create(folder.path("transcript")).unwrap();
        let mut command = Command::new(BINARY);
        command.args(["mail-server", "-l", "0"]).args(more);
        command.current_dir(&folder.0).stdout(Stdio::from(transcript));
        MailServer { server: Server::spawn_keeping_stdout(command), folder }
    }

    /// What was printed until the server has been stopped.
    pub fn transcript(&mut self) -> String {
        self.server.signal(libc::SIGTERM);
        assert_eq!(self.server.wait(), 0);
        fs::read_to_string(self.folder.path("transcript")).unwrap()
    }

    /// Sends lines as they are given, waits for the last reply and for the
    /// end; answers the replies after the greeting, line by line.
    fn talk(&self, lines: &[&str]) -> Vec<String> {
        let all = self.server.dialogue(lines.concat());
        let mut replies: Vec<String> =
            all.split_terminator("\r\n").map(String::from).collect();
        assert!(replies[0].starts_with("220 "), "{all}");
        replies.remove(0);
        replies
    }

    /// The files in `new`, oldest first.
    pub fn messages(&self) -> Vec<String> {
        messages(&self.folder.0.join("Maildir"))
    }
}

pub fn messages(maildir: &Path) -> Vec<String> {
    let mut all: Vec<_> = fs::read_dir(maildir.join("new"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    all.sort();
    all.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

const HELO: &str = "HELO crepes.fr\r\n";
const EHLO: &str = "EHLO crepes.fr\r\n";
const MAIL: &str = "MAIL FROM:<alice@crepes.fr>\r\n";
const RCPT: &str = "RCPT TO:<bob@hamburger.edu>\r\n";
const DATA: &str = "DATA\r\n";
const TEXT: &str = "Subject: x\r\n\r\nhi\r\n.\r\n";
const QUIT: &str = "QUIT\r\n";

#[test]
fn the_books_dialogue_byte_for_byte() {
    let mut mail = MailServer::start(&["--domain", "hamburger.edu"]);
    let (mut socket, mut reader) = conversation(&mail.server);
    // KR 2.3.1
    let dialogue = [
        ("", "220 hamburger.edu"),
        ("HELO crepes.fr", "250 Hello crepes.fr, pleased to meet you"),
        ("MAIL FROM: <alice@crepes.fr>", "250 alice@crepes.fr ... Sender ok"),
        (
            "RCPT TO: <bob@hamburger.edu>",
            "250 bob@hamburger.edu ... Recipient ok",
        ),
        ("DATA", "354 Enter mail, end with \".\" on a line by itself"),
        (
            "Do you like ketchup?\r\nHow about pickles?\r\n.",
            "250 Message accepted for delivery",
        ),
        ("QUIT", "221 hamburger.edu closing connection"),
    ];
    let mut expected = String::new();
    for (command, reply) in dialogue {
        if !command.is_empty() {
            write!(socket, "{command}\r\n").unwrap();
            for line in command.split("\r\n") {
                expected.push_str(&format!("C: {line}\n"));
            }
        }
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{reply}\r\n"));
        expected.push_str(&format!("S: {reply}\n"));
    }
    assert_eq!(read_all(&mut socket), "");
    let transcript = mail.transcript();
    let lines = transcript.lines().filter(|line| !line.starts_with("--"));
    let dialogue: Vec<&str> =
        lines.map(|l| l.rsplit_once('|').unwrap().0.trim_end()).collect();
    assert_eq!(dialogue.join("\n") + "\n", expected);
    assert!(transcript.contains("ketchup?"));
    assert!(transcript.contains("the book's space behind the colon"));
    assert!(transcript.contains("note: no empty line after the header"));
    let messages = mail.messages();
    let [message] = messages.as_slice() else { panic!("{messages:?}") };
    assert!(message.starts_with("Return-Path: <alice@crepes.fr>\nReceived: "));
    assert!(message.contains("with SMTP id "), "{message}");
    assert!(message.contains("\n\tfor <bob@hamburger.edu>;\n"), "{message}");
    assert!(message.contains("X-Envelope-To: <bob@hamburger.edu>\n"));
    assert!(message.ends_with(">\nDo you like ketchup?\nHow about pickles?\n"));
}

fn conversation(server: &Server) -> (TcpStream, BufReader<TcpStream>) {
    let socket = server.connect();
    let reader = BufReader::new(socket.try_clone().unwrap());
    (socket, reader)
}

#[test]
fn the_state_is_beside_each_line() {
    let mut mail = MailServer::start(&[]);
    mail.talk(&[HELO, MAIL, RCPT, DATA, TEXT, QUIT]);
    let text = mail.transcript();
    for (line, state) in [
        ("C: HELO crepes.fr", "connected"),
        ("S: 250 Hello", "greeted"),
        ("C: MAIL FROM", "greeted"),
        ("S: 250 alice", "mail"),
        ("S: 250 bob", "rcpt"),
        ("S: 354", "data"),
        ("C: hi", "data"),
        ("S: 250 Message", "greeted"),
    ] {
        let found = text.lines().find(|l| l.starts_with(line));
        let found = found.unwrap_or_else(|| panic!("{line}: {text}"));
        assert!(found.ends_with(&format!("| [{state}]")), "{found}");
    }
}

#[test]
fn every_command_in_its_state() {
    let mail = MailServer::start(&[]);
    let codes = |lines: &[&str]| -> Vec<String> {
        let replies = mail.talk(lines);
        let last = replies.iter().filter(|r| r.as_bytes()[3] == b' ');
        last.map(|r| r[..3].to_string()).collect()
    };
    for (lines, expected) in [
        (vec![MAIL, RCPT, DATA, QUIT], "503 503 503 221"),
        (vec![HELO, RCPT, DATA, QUIT], "250 503 503 221"),
        (vec![HELO, MAIL, DATA, MAIL, QUIT], "250 250 503 503 221"),
        (vec![HELO, MAIL, "RSET\r\n", RCPT], "250 250 250 503"),
        (vec![HELO, MAIL, HELO, RCPT], "250 250 250 503"),
        (vec![HELO, MAIL, RCPT, RCPT, DATA, TEXT], "250 250 250 250 354 250"),
        (vec![HELO, MAIL, RCPT, DATA, TEXT, RCPT], "250 250 250 354 250 503"),
        (vec!["NOOP\r\n", "NOOP x\r\n", "HELP\r\n"], "250 250 214"),
        (vec!["VRFY bob\r\n", "VRFY\r\n", "EXPN l\r\n"], "252 501 502"),
        (
            vec!["FOO\r\n", "\r\n", "SEND x\r\n", "BDAT 1\r\n"],
            "500 500 502 502",
        ),
        (vec!["HELO\r\n", "EHLO \r\n", "quit\r\n"], "501 501 221"),
        (vec!["QUIT now\r\n", "RSET x\r\n"], "501 501"),
        (vec![EHLO, "STARTTLS\r\n", "AUTH PLAIN\r\n"], "250 502 502"),
        (vec![HELO, "MAIL\r\n", "MAIL TO:<a@b>\r\n"], "250 501 501"),
        (vec![HELO, "MAIL FROM:a@b\r\n"], "250 501"),
        (vec![HELO, "MAIL FROM:<a@b> X=1\r\n"], "250 555"),
        (vec![HELO, "MAIL FROM:<a@b> SIZE=x\r\n"], "250 501"),
        (vec![HELO, "MAIL FROM:<a@b> BODY=9BIT\r\n"], "250 501"),
        (vec![HELO, MAIL, "RCPT TO:<b@c> NOTIFY=x\r\n"], "250 250 555"),
        (vec![HELO, MAIL, "RCPT TO:<>\r\n"], "250 250 501"),
        (vec![HELO, MAIL, "RCPT TO:<bob>\r\n"], "250 250 501"),
        (vec![HELO, MAIL, "RCPT TO:<Postmaster>\r\n"], "250 250 250"),
        (vec![HELO, "MAIL FROM:<>\r\n", RCPT], "250 250 250"),
        (vec![HELO, "MAIL FROM:<@a,@b:c@d>\r\n"], "250 250"),
        (vec![HELO, "MAIL FROM:<\"a b\"@c>\r\n"], "250 250"),
        (vec!["HELO a b\r\n", "EHLO [127.0.0.1]\r\n"], "250 250"),
        (vec!["\u{e9}\r\n", "HELO a\0b\r\n", "HELO a\rb\r\n"], "500 500 500"),
    ] {
        assert_eq!(codes(&lines).join(" "), expected, "{lines:?}");
    }
}

#[test]
fn what_ehlo_announces_works() {
    let mail = MailServer::start(&["--max-size", "64k"]);
    let replies = mail.talk(&[EHLO, QUIT]);
    assert_eq!(
        replies[1..replies.len() - 1],
        [
            "250-PIPELINING",
            "250-8BITMIME",
            "250-SIZE 65536",
            "250-SMTPUTF8",
            "250-ENHANCEDSTATUSCODES",
            "250 HELP"
        ]
    );
    // enhanced codes after EHLO, none after HELO
    assert_eq!(replies.last().unwrap().split(' ').nth(1), Some("2.0.0"));
    let replies = mail.talk(&[HELO, MAIL]);
    assert_eq!(replies[1], "250 alice@crepes.fr ... Sender ok");
    // SIZE: said, and found
    let told = "MAIL FROM:<a@b> SIZE=65537\r\n";
    assert!(mail.talk(&[EHLO, told])[7].starts_with("552 5.3.4"));
    let text = |octets: usize| format!("{}\r\n.\r\n", "x".repeat(octets - 2));
    let sent =
        |octets| mail.talk(&[HELO, MAIL, RCPT, DATA, &text(octets), QUIT]);
    assert!(sent(65_536)[4].starts_with("250"));
    assert!(sent(65_537)[4].starts_with("552"));
    assert_eq!(
        sent(65_537)[5],
        "221 localhost closing connection"
            .replace("localhost", sent(65_536)[5].split(' ').nth(1).unwrap())
    );
    // doubled dots do not count
    let dots = format!("{}.\r\n", "..\r\n".repeat(65_536 / 3));
    assert!(mail.talk(&[HELO, MAIL, RCPT, DATA, &dots])[4].starts_with("250"));
    // SMTPUTF8
    let rcpt = "RCPT TO:<дядя@example>\r\n";
    let utf8 = "MAIL FROM:<a@b> SMTPUTF8\r\n";
    assert!(mail.talk(&[EHLO, MAIL, rcpt])[8].starts_with("553 5.6.7"));
    let eight = "caf\u{e9}\r\n.\r\n";
    let replies = mail.talk(&[EHLO, utf8, rcpt, DATA, eight, QUIT]);
    assert!(replies[8].starts_with("250 2.1.5 дядя@example"), "{replies:?}");
    assert!(replies[10].starts_with("250 2.0.0"));
    let last = mail.messages().pop().unwrap();
    assert!(last.contains("with UTF8SMTP id "), "{last}");
    assert!(last.ends_with("caf\u{e9}\n"));
}

#[test]
fn only_one_sequence_ends_a_message() {
    let mut mail = MailServer::start(&[]);
    for bad in [
        "\n.\n",
        "\n.\r\n",
        "\r\n.\n",
        "\r.\r",
        "\r\n.\r.\r\n",
        "\r\r\n.\r\r\n",
    ] {
        let smuggled =
            format!("x{bad}MAIL FROM:<eve@x>\r\n{RCPT}{DATA}y\r\n.\r\n");
        let replies = mail.talk(&[HELO, MAIL, RCPT, DATA, &smuggled, QUIT]);
        assert_eq!(replies.len(), 6, "{bad:?}: {replies:?}");
        assert!(replies[4].starts_with("554 "), "{bad:?}: {replies:?}");
    }
    assert!(mail.messages().is_empty());
    assert!(mail.transcript().contains("note: a bare LF"));
    // or it is data
    let mail = MailServer::start(&["--accept-bare"]);
    let text = "a\nb\n.\n.c\r\n.\r\n";
    let replies = mail.talk(&[HELO, MAIL, RCPT, DATA, text, QUIT]);
    assert!(replies[4].starts_with("250 "), "{replies:?}");
    assert!(mail.messages()[0].ends_with(">\na\nb\n.\n.c\n"));
}

#[test]
fn commands_end_with_crlf() {
    let mail = MailServer::start(&[]);
    let replies = mail.talk(&["HELO a\n", "HELO b\r\n", "QUIT\r\n"]);
    assert!(replies[0].starts_with("500 ") && replies[0].contains("nc -C"));
    assert!(replies[1].starts_with("250 Hello b"));
    let mail = MailServer::start(&["--accept-bare"]);
    assert!(mail.talk(&["HELO a\n"])[0].starts_with("250 "));
}

#[test]
fn the_transcript_lints_the_client() {
    let mut mail = MailServer::start(&[]);
    let text = "Subject: x\r\n\r\ncaf\u{e9} ".to_string()
        + &"x".repeat(1000)
        + "\r\n.\r\n";
    mail.talk(&[
        "DATA\r\n",
        "EHLO a_b\r\n",
        "MAIL FROM:<@r:a@b>\r\n",
        RCPT,
        DATA,
        &text,
        QUIT,
    ]);
    let transcript = mail.transcript();
    for note in [
        "note: DATA before its turn. RFC 5321 §4.1.4",
        "note: 'a_b' is no domain and no [address]. RFC 5321 §4.1.1.1",
        "note: a source route, ignored",
        "note: octets over 127, though the client did not say BODY=8BITMIME",
        "note: a line of 1006 octets: 998 are the most",
        "note: no Date in the header",
        "note: no Message-ID in the header",
        "note: the message before 354",
        "note: commands before EHLO is answered",
    ] {
        assert!(transcript.contains(note), "{note}: {transcript}");
    }
    // a good client has no notes; and what is said cannot drive a terminal
    let mut mail = MailServer::start(&[]);
    let out = Folder::new();
    let server = mail.server.address.to_string();
    let ran = run(
        &[
            "mail-client",
            "--server",
            &server,
            "-f",
            "a@b",
            "-t",
            "c@d",
            "--body",
            "hi",
            "--dead-letter",
            &out.path("x"),
        ],
        "",
    );
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    mail.talk(&["HELO \x1b[2J\r\n", "\x07\r\n"]);
    let transcript = mail.transcript();
    assert_eq!(transcript.matches("-- note: ").count(), 0, "{transcript}");
    assert!(transcript.contains("-- #2 note: '\\u{1b}[2J' is no domain"));
    assert!(!transcript.contains(['\x1b', '\x07']), "{transcript}");
}

#[test]
fn so_many_lines_are_shown_and_conversations_told_apart() {
    let mut mail = MailServer::start(&["--show-lines", "3"]);
    let text = "1\r\n2\r\n3\r\n4\r\n5\r\n.\r\n";
    for _ in 0..2 {
        mail.talk(&[HELO, MAIL, RCPT, DATA, text, QUIT]);
    }
    let transcript = mail.transcript();
    assert!(transcript.contains("C: 3 ") && !transcript.contains("C: 4 "));
    assert!(transcript.contains("-- (2 more lines)\nC: . "), "{transcript}");
    assert!(transcript.contains("#2 C: HELO crepes.fr"), "{transcript}");
    assert!(transcript.contains("-- #2 kept as new/"), "{transcript}");
    let mut mail = MailServer::start(&["-q"]);
    mail.talk(&[HELO, QUIT]);
    assert_eq!(mail.transcript(), "");
    let mut mail = MailServer::start(&["-e", "--diagram", "run.svg"]);
    mail.talk(&[HELO, MAIL, RCPT, DATA, "..x\r\n.\r\n", QUIT]);
    let text = mail.transcript();
    let flat: Vec<&str> =
        text.split(['|', ' ', '\n']).filter(|w| !w.is_empty()).collect();
    let flat = flat.join(" ");
    assert!(flat.contains("the client names itself"), "{text}");
    assert!(flat.contains("got a second one: 2 octets became 3"), "{text}");
    assert!(flat.contains("the end of the message: a dot alone"), "{text}");
    let svg = fs::read_to_string(mail.folder.path("run.svg")).unwrap();
    assert!(svg.contains("220 "), "{svg}");
}

#[test]
fn who_is_refused() {
    let mail = MailServer::start(&[
        "--domain",
        "hamburger.edu",
        "--domain",
        "B.example",
        "--refuse",
        "eve@hamburger.edu=450",
        "--refuse",
        "spam@x=553",
        "--max-recipients",
        "3",
    ]);
    let to = |address: &str| format!("RCPT TO:<{address}>\r\n");
    let replies = mail.talk(&[
        EHLO,
        "MAIL FROM:<spam@X>\r\n",
        MAIL,
        &to("x@other.example"),
        &to("eve@Hamburger.EDU"),
        &to("a@hamburger.edu"),
        &to("a@b.EXAMPLE"),
        &to("postmaster"),
        &to("b@hamburger.edu"),
        QUIT,
    ]);
    let codes: Vec<&str> = replies[7..].iter().map(|r| &r[..9]).collect();
    assert_eq!(
        codes,
        [
            "553 5.2.0",
            "250 2.1.0",
            "550 5.7.1",
            "450 4.2.0",
            "250 2.1.5",
            "250 2.1.5",
            "250 2.1.5",
            "452 4.5.3",
            "221 2.0.0"
        ]
    );
    let usage = run(&["mail-server", "--refuse", "a@b=250"], "");
    assert_eq!(usage.status, 2);
    assert!(usage.stderr.contains("--refuse"), "{}", usage.stderr);
}

#[test]
fn limits() {
    let mail = MailServer::start(&["--max-connections", "1"]);
    // a second client is told so
    let (_first, mut reader) = conversation(&mail.server);
    let mut greeting = String::new();
    reader.read_line(&mut greeting).unwrap();
    let mut second = mail.server.connect();
    assert!(read_all(&mut second).starts_with("421 "));
    // silence ends it
    let mail = MailServer::start(&["--idle", "0.4"]);
    assert!(read_all(&mut mail.server.connect()).contains("timeout"));
    // mistakes, and lines without end
    let mail = MailServer::start(&[]);
    let replies = mail.talk(&["FOO\r\n"; 40]);
    assert_eq!(replies.len(), 21);
    assert!(replies[20].starts_with("421 "), "{replies:?}");
    let long = "x".repeat(3000) + "\r\n";
    let replies = mail.talk(&[&long, HELO]);
    assert!(replies[0].starts_with("500 ") && replies[1].starts_with("250"));
    let endless = "x".repeat(200_000);
    assert_eq!(mail.talk(&[&endless]).len(), 1);
    // a message that never ends is not read for ever
    let mail = MailServer::start(&["--max-size", "64k"]);
    let flood = "x".repeat(400_000);
    let replies = mail.talk(&[HELO, MAIL, RCPT, DATA, &flood, "\r\n.\r\n"]);
    assert!(replies[4].starts_with("552 "), "{replies:?}");
}

#[test]
fn a_stop_in_mid_conversation() {
    let mut mail = MailServer::start(&[]);
    let (mut idle, mut reader) = conversation(&mail.server);
    let mut greeting = String::new();
    reader.read_line(&mut greeting).unwrap();
    let (mut busy, mut answers) = conversation(&mail.server);
    let head = [HELO, MAIL, RCPT, DATA].concat();
    busy.write_all(head.as_bytes()).unwrap();
    let mut line = String::new();
    while !line.starts_with("354") {
        line.clear();
        answers.read_line(&mut line).unwrap();
    }
    mail.server.signal(libc::SIGTERM);
    let rest = read_all(&mut idle);
    assert!(rest.starts_with("421 "), "{rest}");
    // what had begun is finished
    busy.write_all(TEXT.as_bytes()).unwrap();
    let mut rest = String::new();
    answers.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("250 "), "{rest}");
    assert_eq!(mail.server.wait(), 0);
    assert_eq!(mail.messages().len(), 1);
}

#[test]
fn once() {
    let folder = Folder::new();
    let mut server =
        Server::start_in(&folder.0, "mail-server", &["--once", "-q"]);
    let text = server.dialogue([HELO, MAIL, RCPT, DATA, TEXT, QUIT].concat());
    assert!(text.ends_with("closing connection\r\n"), "{text}");
    assert_eq!(server.wait(), 0);
    assert_eq!(messages(&folder.0.join("Maildir")).len(), 1);
}

#[test]
fn the_maildir_is_its_owners() {
    let mail = MailServer::start(&["--maildir", "deep/er"]);
    mail.talk(&[HELO, MAIL, RCPT, DATA, TEXT, QUIT]);
    let maildir = mail.folder.0.join("deep/er");
    let mode =
        |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&maildir.join("new")), 0o700);
    let file = fs::read_dir(maildir.join("new")).unwrap().next().unwrap();
    assert_eq!(mode(&file.unwrap().path()), 0o600);
    assert_eq!(fs::read_dir(maildir.join("tmp")).unwrap().count(), 0);
    // and --discard keeps nothing
    let mail = MailServer::start(&["--discard"]);
    let replies = mail.talk(&[HELO, MAIL, RCPT, DATA, TEXT, QUIT]);
    assert!(replies[4].starts_with("250 "));
    assert!(!mail.folder.0.join("Maildir").exists());
}

/// A TLS client by openssl that says these lines once it is connected.
fn s_client(server: &Server, start_tls: bool, lines: &str) -> String {
    let mut command = Command::new("openssl");
    let to = server.address.to_string();
    command.args(["s_client", "-quiet", "-ign_eof", "-connect", &to]);
    if start_tls {
        command.args(["-starttls", "smtp"]);
    }
    crate::harness::run_command(command, lines).stdout
}

#[test]
fn starttls_and_auth() {
    let Some(made) = Certificates::get() else { return };
    let pem = made.path("good");
    let users = Folder::new();
    let file = users.file("users", "# who may\ntim:tanstaaftanstaaf\n");
    let path = file.to_str().unwrap();
    // (others may read it: refused)
    let more = ["--tls-cert", &pem, "--user-file", path];
    let ran = run(&[&["mail-server", "-l", "0"], &more[..]].concat(), "");
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("chmod 600"), "{}", ran.stderr);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let mut mail = MailServer::start(&more);
    // in clear: STARTTLS is offered, AUTH is not
    let plain = "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n";
    let replies = mail.talk(&[EHLO, plain, MAIL, QUIT]);
    assert!(replies.contains(&"250-STARTTLS".to_string()));
    assert!(!replies.iter().any(|r| r.contains("250-AUTH")));
    let last: Vec<&str> = replies[8..].iter().map(|r| &r[..10]).collect();
    assert_eq!(last, ["538 5.7.11", "530 5.7.0 ", "221 2.0.0 "]);
    // in TLS: the other way round, and who has not logged in sends nothing
    let lines = [
        EHLO,
        MAIL,
        "AUTH PLAIN AHRpbQB4\r\n",
        "AUTH CRAM-MD5\r\n",
        "AUTH PLAIN ***\r\n",
        "AUTH LOGIN\r\n*\r\n",
        "AUTH LOGIN dGlt\r\ndGFuc3RhYWZ0YW5zdGFhZg==\r\n",
        plain,
        MAIL,
        RCPT,
        DATA,
        TEXT,
        "STARTTLS\r\n",
        QUIT,
    ];
    let text = s_client(&mail.server, true, &lines.concat());
    let tls = &text[text.rfind("pleased to meet you").unwrap()..];
    assert!(tls.contains("250-AUTH PLAIN LOGIN\r\n"), "{text}");
    assert!(!tls.contains("STARTTLS"), "{text}");
    let codes: Vec<&str> = tls
        .lines()
        .filter(|l| l.as_bytes().get(3) == Some(&b' '))
        .map(|l| &l[..3])
        .collect();
    assert_eq!(
        codes.join(" "),
        "250 530 535 504 501 334 501 334 235 503 250 250 354 250 503 221"
    );
    assert!(mail.messages()[0].contains("with ESMTPSA id "));
    let transcript = mail.transcript();
    for secret in ["AHRpbQ", "dGFuc3", "dGlt"] {
        assert!(!transcript.contains(secret), "{transcript}");
    }
    assert!(transcript.contains("C: AUTH PLAIN ********"), "{transcript}");
    assert!(transcript.contains("TLSv1.3, "), "{transcript}");
}

#[test]
fn what_comes_in_clear_behind_starttls_is_thrown_away() {
    let Some(made) = Certificates::get() else { return };
    if !have("python3") {
        return;
    }
    let mut mail = MailServer::start(&["--tls-cert", &made.path("good")]);
    // the handshake is finished, and what is left of the clear text shows
    let script = format!(
        "import socket, ssl\n\
         s = socket.create_connection(('127.0.0.1', {}))\n\
         s.sendall(b'EHLO a\\r\\nSTARTTLS\\r\\nMAIL FROM:<e@x>\\r\\n')\n\
         text = b''\n\
         while b'Ready' not in text: text += s.recv(1)\n\
         while not text.endswith(b'\\n'): text += s.recv(1)\n\
         c = ssl._create_unverified_context()\n\
         t = c.wrap_socket(s)\n\
         t.sendall(b'NOOP\\r\\nMAIL FROM:<a@b>\\r\\nQUIT\\r\\n')\n\
         f = t.makefile('r')\n\
         print(f.read(), end='')\n",
        mail.server.port()
    );
    let mut command = Command::new("python3");
    command.args(["-c", &script]);
    let ran = crate::harness::run_command(command, "");
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let codes: Vec<&str> = ran.stdout.lines().map(|l| &l[..3]).collect();
    // MAIL in clear is gone; and without a new EHLO there is no MAIL
    assert_eq!(codes, ["250", "503", "221"], "{}", ran.stdout);
    // nor are there enhanced codes, which only EHLO brings
    assert_eq!(ran.stdout.lines().next(), Some("250 OK"));
    let transcript = mail.transcript();
    assert!(transcript.contains("are thrown away"), "{transcript}");
    assert!(!transcript.contains("e@x"), "{transcript}");
}

#[test]
fn a_password_that_went_astray_is_blotted_out() {
    let mut mail = MailServer::start(&[]);
    mail.talk(&[
        "AUTH LOGIN\r\ndGlt\r\ndGFuc3RhYWY=\r\n",
        EHLO,
        "AUTH PLAIN AHRpbQB0\r\n",
        " auth\tplain\tAHRpbQB0\r\n",
        "AUTH AHRpbQB0\r\n",
        "dGFuc3RhYWY=\r\n",
        "NOOP\r\n",
        "AUTH LOGIN\n",
        "dGFuc3RhYWY=\r\n",
        QUIT,
    ]);
    let transcript = mail.transcript();
    for secret in ["dGlt", "dGFuc3", "AHRpbQ"] {
        assert!(!transcript.contains(secret), "{transcript}");
    }
    assert!(transcript.contains("C: NOOP"), "{transcript}");
}

#[test]
fn the_books_dialogue_by_make() {
    let mut command = Command::new("tests/book-mail");
    command.env("BIN", BINARY);
    let ran = crate::harness::run_command(command, "");
    assert_eq!(ran.status, 0, "{}{}", ran.stdout, ran.stderr);
    for side in ["client", "server"] {
        let text = format!("The {side}'s dialogue is the book's, KR 2.3.1.");
        assert!(ran.stdout.contains(&text), "{}", ran.stdout);
    }
}

#[test]
fn a_browser_cannot_post_mail() {
    let mail = MailServer::start(&[]);
    let post = "POST / HTTP/1.1\r\nHost: x\r\n\r\n";
    let replies = mail.talk(&[post, HELO, MAIL, RCPT, DATA, TEXT]);
    assert_eq!(replies.len(), 1, "{replies:?}");
    assert!(replies[0].starts_with("500 "), "{replies:?}");
    assert!(mail.messages().is_empty());
}

#[test]
fn tls_from_the_first_octet_and_a_stop_in_it() {
    let Some(made) = Certificates::get() else { return };
    let pem = made.path("good");
    let mut mail = MailServer::start(&["--tls-cert", &pem, "--implicit-tls"]);
    let lines = [EHLO, MAIL, RCPT, DATA, TEXT, QUIT].concat();
    let text = s_client(&mail.server, false, &lines);
    assert!(text.starts_with("220 "), "{text}");
    assert!(text.ends_with("closing connection\r\n"), "{text}");
    assert!(!text.contains("STARTTLS"), "{text}");
    assert!(mail.messages()[0].contains("with ESMTPS id "));
    // plain text there
    let mut socket = connect(mail.server.address);
    socket.write_all(HELO.as_bytes()).unwrap();
    assert!(!read_all(&mut socket).contains("220"));
    // an idle conversation is told that the server stops
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect"])
        .arg(mail.server.address.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(client.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with("220 "), "{line}");
    mail.server.signal(libc::SIGTERM);
    line.clear();
    reader.read_to_string(&mut line).unwrap();
    assert!(line.starts_with("421 "), "{line}");
    let _ = client.kill();
    let _ = client.wait();
    assert_eq!(mail.server.wait(), 0);
}

#[test]
fn it_says_what_is_wrong_with_its_options() {
    for (words, why) in [
        (vec!["--user-file", "x"], "read x: No such file"),
        (vec!["--implicit-tls"], "--implicit-tls goes with --tls-cert"),
        (vec!["--maildir", "x", "--discard"], "exclude each other"),
        (vec!["--domain", "a b"], "--domain"),
        (vec!["--max-size", "1k"], "64k at least"),
        (vec!["--maildir", "/proc/x"], "make /proc/x/tmp"),
        (vec!["foo"], "surplus operand 'foo'"),
    ] {
        let words = [&["mail-server", "-l", "0"], &words[..]].concat();
        let ran = run(&words, "");
        assert_eq!(ran.status, 2, "{words:?}");
        assert!(ran.stderr.contains(why), "{words:?}: {}", ran.stderr);
    }
    let text = Folder::new();
    let users = text.file("users", "no colon\n");
    fs::set_permissions(&users, fs::Permissions::from_mode(0o600)).unwrap();
    let ran = run(&["mail-server", "--user-file", users.to_str().unwrap()], "");
    assert!(ran.stderr.contains("line 1: no user:"), "{}", ran.stderr);
}
