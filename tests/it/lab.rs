//! The network in a box for tests: commands that run in its host h1.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use crate::harness::{
    BINARY, Folder, LIMIT, Ran, have, kill, run_command, skip,
};

/// Runs commands one after the other in a fresh lab, with `topdown` and the
/// lab's names known; what each left. `None`: there can be no lab here, which
/// was said.
pub fn lab(commands: &[impl AsRef<str>]) -> Option<Vec<Ran>> {
    lab_with(&[], commands)
}

/// The same with the environment that says what the middle link is like.
pub fn lab_with(
    environment: &[(&str, &str)],
    commands: &[impl AsRef<str>],
) -> Option<Vec<Ran>> {
    if !may_have_one() {
        return None;
    }
    let folder = Folder::new();
    let mut script = format!("cd {}\n", folder.text());
    for (i, command) in commands.iter().enumerate() {
        let command = command.as_ref();
        script.push_str(&format!(
            "( {command}\n) >{i}.out 2>{i}.err </dev/null; echo $? >{i}.status\n"
        ));
    }
    fs::write(folder.path("script"), script).unwrap();
    let mut command = Command::new("tests/lab");
    command.args(["bash", &folder.path("script")]);
    let path = std::env::var("PATH").unwrap();
    let own = Path::new(BINARY).parent().unwrap().display();
    command.env("PATH", format!("{own}:{path}:/usr/sbin:/sbin"));
    command.env("QUIET", "1").envs(environment.iter().copied());
    let ran = run_command(command, "");
    assert_eq!(ran.status, 0, "{} {}", ran.stdout, ran.stderr);
    let read = |i: usize, what: &str| {
        let bytes = fs::read(folder.path(&format!("{i}.{what}"))).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let ran = |i| Ran {
        status: read(i, "status").trim().parse().unwrap(),
        stdout: read(i, "out"),
        stderr: read(i, "err"),
    };
    Some((0..commands.len()).map(ran).collect())
}

/// Are name spaces allowed, and is what the lab is made of there?
fn may_have_one() -> bool {
    if !have("unshare") || !have("python3") || !have_ip() {
        return false;
    }
    let may = ["-nm", "-Urnm"].iter().any(|spaces| {
        let mut command = Command::new("unshare");
        command.args([spaces, "mount", "-t", "tmpfs", "none", "/run"]);
        run_command(command, "").status == 0
    });
    if !may {
        skip("name spaces are not allowed");
    }
    may
}

fn have_ip() -> bool {
    ["/sbin/ip", "/usr/sbin/ip", "/bin/ip"]
        .iter()
        .any(|p| Path::new(p).exists())
        || have("ip")
}

/// Lines and margin notes, which are broken anywhere, as one line.
pub fn flat(text: &str) -> String {
    let words = text.split([' ', '\n', '|']).filter(|w| !w.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// A command of the shell that keeps what passes h1's link in all.pcap while
/// others run: so many packets, or it is done again. (On a machine with much
/// to do, tcpdump may say that it listens, and hear nothing.)
pub fn captured(filter: &str, least: usize, commands: &str) -> String {
    format!(
        "for attempt in 1 2 3; do
         tcpdump -Z root -U --immediate-mode -i r1 -w all.pcap '{filter}' \
         2>dump.err &
         until grep -q listening dump.err; do sleep 0.02; done
         {commands}
         for i in $(seq 20); do
           packets=$(tcpdump -nr all.pcap 2>/dev/null | wc -l)
           [ \"$packets\" -lt {least} ] || break
           sleep 0.05
         done
         kill $!; wait $!
         [ \"$packets\" -lt {least} ] || break
         done"
    )
}

/// Is a program here, where administrators have theirs, too?
pub fn have_admin(program: &str) -> bool {
    let places = ["/sbin", "/usr/sbin"];
    places.iter().any(|p| Path::new(p).join(program).exists()) || have(program)
}

/// The lab itself: exit status, and nothing left behind.
#[test]
fn a_command_in_the_lab_ends_with_its_own_status() {
    let Some(ran) = lab(&["exit 7", "ip -br link", "ls /run/netns"]) else {
        return;
    };
    assert_eq!(ran[0].status, 7);
    assert!(ran[1].stdout.contains("r1@"), "{}", ran[1].stdout);
    assert_eq!(ran[2].stdout, "h1\nh2\nr1\nr2\nrare\n");
    let mut command = Command::new("tests/lab");
    command.args(["sh", "-c", "exit 9"]);
    let ran = run_command(command, "");
    assert_eq!(ran.status, 9);
    assert!(ran.stdout.contains("network unreachable (no route)"));
    assert!(!Path::new("/run/netns/r1").exists(), "left behind");
}

/// Processes that have this text in their command line.
fn processes(text: &str) -> usize {
    let mut command = Command::new("pgrep");
    command.args(["-fc", text]);
    run_command(command, "").stdout.trim().parse().unwrap()
}

#[test]
fn a_lab_that_is_ended_takes_its_programs_with_it() {
    if !may_have_one() || !have("pgrep") {
        return;
    }
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let folder = Folder::new();
        let mark = folder.path("mark");
        let script = format!("sleep 98 & >{mark}; sleep 99; : {mark}");
        let mut child = Command::new("tests/lab")
            .args(["sh", "-c", &script])
            .env("QUIET", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while !Path::new(&mark).exists() {
            assert!(began.elapsed() < LIMIT, "no lab came up");
            thread::yield_now();
        }
        assert!(processes(&mark) >= 2);
        kill(child.id(), signal);
        child.wait().unwrap();
        // (the kernel may take a moment)
        let began = Instant::now();
        while processes(&mark) > 0 {
            assert!(began.elapsed() < LIMIT, "left behind by {signal}");
        }
    }
}
