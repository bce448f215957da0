//! The frame: names, help, exit statuses, man pages, closed pipes.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::harness::{BINARY, Folder, run, run_command};

const TOOLS: [&str; 16] = [
    "traceroute",
    "web-server",
    "web-client",
    "web-proxy",
    "mail-client",
    "mail-server",
    "dns-lookup",
    "udp-server",
    "udp-client",
    "udp-ping-server",
    "udp-ping",
    "heartbeat-server",
    "heartbeat",
    "tcp-server",
    "tcp-client",
    "icmp-ping",
];

#[test]
fn alone_it_lists_the_tools_in_the_books_order() {
    let ran = run(&[], "");
    assert_eq!(ran.status, 0);
    let listed: Vec<&str> = ran
        .stdout
        .lines()
        .filter_map(|l| l.strip_prefix("  ")?.split_once("  KR "))
        .map(|(name, _)| name.trim())
        .collect();
    assert_eq!(listed, TOOLS);
}

#[test]
fn help_has_three_ways() {
    for tool in TOOLS {
        let help = run(&[tool, "--help"], "");
        assert_eq!(help.status, 0);
        assert!(help.stdout.starts_with(&format!("usage: topdown {tool} ")));
        assert_eq!(help.stdout, run(&["help", tool], "").stdout);
        assert_eq!(help.stdout, run(&[tool, "-h"], "").stdout);
        assert!(help.stdout.lines().all(|l| l.len() <= 80), "{tool}");
    }
    let version = run(&["--version"], "").stdout;
    let expected = concat!("topdown ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(version, expected);
}

#[test]
fn an_unknown_tool_is_a_usage_error_that_names_the_nearest() {
    let ran = run(&["web-servr"], "");
    assert_eq!(ran.status, 2);
    assert_eq!(
        ran.stderr,
        "topdown: there is no tool 'web-servr': did you mean 'web-server'?\n"
    );
    let ran = run(&["squid"], "");
    assert!(ran.status == 2 && ran.stderr.contains("lists the tools"));
}

#[test]
fn a_symlink_named_after_a_tool_runs_it() {
    let folder = Folder::new();
    symlink(BINARY, folder.path("udp-client")).unwrap();
    let mut command = Command::new(folder.path("udp-client"));
    command.arg("--help");
    let ran = run_command(command, "");
    assert!(ran.stdout.starts_with("usage: topdown udp-client"));
}

#[test]
fn usage_errors_name_option_fault_and_text() {
    for (args, text) in [
        (&["web-server", "-x"][..], "unknown option '-x'"),
        (&["web-server", "--port=1"], "unknown option '--port'"),
        (&["web-server", "a", "b"], "surplus operand 'b'"),
        (
            &["web-server", "-l", "x"],
            "-l/--listen: 8080, 0.0.0.0:8080 or [::]:8080 is wanted, not 'x'",
        ),
        (&["web-server", "--idle", "-1"], "--idle: seconds must be"),
        (&["web-server", "--once=1"], "--once: takes no value"),
        (&["web-server", "--once", "--sequential"], "exclude each other"),
        (&["udp-client"], "HOST is missing"),
        (&["udp-client", "h", "0"], "port must be 1 to 65535, not '0'"),
        (&["udp-client", "h", "-W"], "--timeout: its value is missing"),
        (&["tcp-client", "-4", "-6", "h"], "-4 and -6 exclude each other"),
        (&["tcp-client", "-W1", "-W2", "h"], "-W/--timeout: given twice"),
        (&["icmp-ping"], "HOST is missing"),
        (&["icmp-ping", "-t", "999", "h"], "ttl must be 1 to 255, not '999'"),
        (&["icmp-ping", "-M", "x", "h"], "do or dont is wanted, not 'x'"),
        (&["icmp-ping", "--timestamp", "-6", "h"], "other version of IP"),
        (&["traceroute"], "HOST is missing"),
        (&["traceroute", "-T", "h"], "unknown option '-T'"),
        (&["traceroute", "127.0.0.1", "20"], "bytes must be 32 to 65000"),
        (&["heartbeat", "-i", "0", "h"], "seconds must be 0.001 to 86400"),
        (&["heartbeat-server", "--multiplier", "0"], "must be 1 to 100"),
        (&["web-client"], "URL is missing"),
        (&["web-client", "ftp://h/"], "'ftp:' is not spoken here"),
        (&["web-client", "-C", "h"], "-C goes with -o FILE"),
        (&["web-client", "http://h/\r\nX: y"], "no control characters"),
        (&["web-client", "-H", "a\nb: c", "h"], "a field's name is a token"),
        (&["web-client", "-H", "a: b\r\nc: d", "h"], "no control characters"),
        (&["web-client", "-X", "GET /", "h"], "a method is a token"),
        (&["web-client", "h", "80", "a\r\nb"], "no control characters"),
    ] {
        let ran = run(args, "");
        assert_eq!(ran.status, 2, "{args:?}");
        let first = ran.stderr.lines().next().unwrap();
        assert!(first.starts_with(&format!("topdown {}: ", args[0])));
        assert!(first.contains(text), "{args:?}: {first}");
        assert!(ran.stderr.contains("usage: topdown "), "{args:?}");
    }
}

#[test]
fn system_errors_say_what_on_what_and_why() {
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let ran = run(&["tcp-server", "-l", &address], "");
    assert_eq!(ran.status, 2);
    assert_eq!(
        ran.stderr,
        format!(
            "topdown tcp-server: listen on {address}: Address already in use\n"
        )
    );
    let ran = run(&["web-server", "-l", "0", "/no/such/root"], "");
    assert_eq!(
        ran.stderr,
        "topdown web-server: open the root /no/such/root: \
         No such file or directory\n"
    );
    let ran = run(&["tcp-client", "no-such-host.invalid"], "");
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("look up no-such-host.invalid: "));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    for args in [&[][..], &["help", "web-client"]] {
        let mut child = Command::new(BINARY)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
    }
}

/// The long and short options of a help text's list.
fn options_of_help(help: &str) -> Vec<String> {
    let lines = help.lines().filter(|l| l.trim_start().starts_with('-'));
    let mut options: Vec<String> = lines
        .filter(|l| l.starts_with("  "))
        .flat_map(|l| {
            let option = l.trim_start().split("  ").next().unwrap();
            let words = option.split([' ', ',']);
            words.filter(|w| w.starts_with('-')).map(String::from)
        })
        .collect();
    options.sort();
    options
}

/// The options of a page's list: `.It Fl l , Fl -listen Ar …`
fn options_of_page(page: &str) -> Vec<String> {
    let lines = page.lines().filter_map(|l| l.strip_prefix(".It Fl "));
    let mut options: Vec<String> = lines
        .flat_map(|l| {
            let names = l.split(" , Fl ");
            let name = |n: &str| n.split(' ').next().unwrap().to_string();
            names.map(name).map(|n| format!("-{n}")).collect::<Vec<_>>()
        })
        .collect();
    options.sort();
    options
}

#[test]
fn help_and_man_page_name_the_same_options() {
    for tool in TOOLS {
        let path = format!("man/topdown-{tool}.1");
        let page = fs::read_to_string(&path).expect(&path);
        let help = run(&[tool, "--help"], "").stdout;
        assert_eq!(options_of_help(&help), options_of_page(&page), "{tool}");
        assert!(options_of_help(&help).len() > 5);
        for section in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "EXIT STATUS",
            "EXAMPLES",
            "SEE ALSO",
            "STANDARDS",
            "CAVEATS",
        ] {
            assert!(page.contains(&format!(".Sh {section}\n")), "{tool}");
        }
    }
}

#[test]
fn the_makefile_lists_every_target_and_runs_every_tool() {
    let makefile = fs::read_to_string("Makefile").unwrap();
    let ran = run_command(
        {
            let mut make = Command::new("make");
            make.arg("help");
            make
        },
        "",
    );
    for line in makefile.lines() {
        let Some((target, _)) = line.split_once(':') else { continue };
        let is_target =
            target.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        if is_target && !target.is_empty() {
            assert!(
                ran.stdout.contains(&format!("make {target} ")),
                "{target}"
            );
        }
    }
    for tool in TOOLS {
        assert!(ran.stdout.contains(&format!("make run-{tool} ")));
    }
}
