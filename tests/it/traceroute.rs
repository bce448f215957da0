//! `traceroute` in the network in a box, side by side with traceroute(8).

use crate::harness::Ran;
use crate::lab::{captured, flat, have_admin, lab};

/// The table without its times; the notes apart.
fn table(ran: &Ran) -> (Vec<String>, Vec<String>) {
    let (notes, lines): (Vec<&str>, Vec<&str>) =
        ran.stdout.lines().partition(|l| l.starts_with("note: "));
    let plain = |line: &&str| {
        let words = line.split_whitespace();
        let is_time = |w: &str| w == "ms" || w.parse::<f64>().is_ok();
        // (the hop's number looks like a time, and is kept)
        let mut kept: Vec<&str> = Vec::new();
        for (i, word) in words.enumerate() {
            if i == 0 || !is_time(word) {
                kept.push(word);
            }
        }
        kept.join(" ")
    };
    (
        lines[1..].iter().map(plain).collect(),
        notes.iter().map(|n| (*n).to_string()).collect(),
    )
}

#[test]
fn its_tables_are_those_of_traceroute() {
    if !have_admin("traceroute") {
        return;
    }
    let asked = [
        "-q 1 203.0.113.131",
        "-q 1 -I 203.0.113.132",
        "-q 1 203.0.113.130",
        "-q 1 2001:db8:4::130",
        "-q 1 -I 2001:db8:4::132",
        "203.0.113.10",
        "-I 203.0.113.10",
        "-6 2001:db8:3::10",
        "-6 -I 2001:db8:3::10",
        "-q 1 -f 2 -m 3 203.0.113.10",
        "-m 6 203.0.113.134",
        "-m 6 -I 2001:db8:4::134",
        "-w 0.2 -m 4 203.0.113.133",
        "-q 1 -F 203.0.113.20 1200",
        "-q 1 -I -F 203.0.113.20 1200",
    ];
    // a fresh lab for each program: routers remember what they said
    // (and an unreachable route's errors come five at once, then one a second)
    let of = |program: &str| -> Option<Vec<Ran>> {
        let command = |what: &&str| format!("{program} -n {what}");
        let (by_route, rest) = asked.split_at(5);
        let one = |what| Some(lab(&[command(what)])?.remove(0));
        let mut all: Vec<Ran> =
            by_route.iter().map(one).collect::<Option<_>>()?;
        all.extend(lab(&rest.iter().map(command).collect::<Vec<_>>())?);
        Some(all)
    };
    let (Some(ours), Some(theirs)) =
        (of("topdown traceroute"), of("traceroute"))
    else {
        return;
    };
    for ((what, ours), theirs) in asked.iter().zip(ours).zip(theirs) {
        let first = |ran: &Ran| ran.stdout.lines().next().map(String::from);
        assert_eq!(first(&ours), first(&theirs), "{what}");
        assert_eq!(table(&ours).0, table(&theirs).0, "{what}");
        let reached = what.ends_with(".10") || what.ends_with(":10");
        assert_eq!(ours.status, i32::from(!reached), "{what}");
    }
}

#[test]
fn every_mark_is_traceroutes() {
    if !have_admin("traceroute") {
        return;
    }
    let v4 = (0..=19).map(|n| format!("203.0.113.{}", 192 + n));
    let v6 = [0, 1, 2, 3, 4, 5, 6, 16, 17, 18];
    let v6 = v6.map(|n| format!("2001:db8:5::{n:x}"));
    let asked: Vec<String> = v4.chain(v6).collect();
    let commands: Vec<String> = asked
        .iter()
        .flat_map(|a| {
            ["topdown traceroute", "traceroute"].map(|program| {
                format!("{program} -n -I -q 1 -f 3 -m 3 -w 0.3 {a}")
            })
        })
        .collect();
    let Some(all) = lab(&commands) else { return };
    for (what, pair) in asked.iter().zip(all.chunks(2)) {
        let (ours, theirs) = (table(&pair[0]).0, table(&pair[1]).0);
        // (it says nothing of a reassembly that failed, nor of IPv6's
        // errors without a port)
        if !theirs[0].ends_with('*') {
            assert_eq!(ours, theirs, "{what}");
        }
        // (its last word is "no", whoever says it, but for the port's)
        let reached =
            matches!(what.as_str(), "203.0.113.195" | "2001:db8:5::4");
        assert_eq!(pair[0].status, i32::from(!reached), "{what}");
        assert!(!pair[0].stdout.contains("in its place"), "{what}");
    }
    let mark = |i: usize| table(&all[2 * i]).0.concat();
    assert!(mark(17).ends_with("!<11-1>"), "{}", mark(17));
    assert!(mark(10).ends_with("!X") && mark(4).ends_with("!F-0"));
}

#[test]
fn names_notes_and_several_routers() {
    let Some(all) = lab(&[
        "topdown traceroute h2 -4",
        "topdown traceroute -6 h2",
        "topdown traceroute -n -m 4 203.0.113.217",
        "topdown traceroute --json -q 2 -4 h2; \
         topdown traceroute --json -n -q 1 -w 0.2 -m 3 203.0.113.133",
        // a router that answers six times and is then silent for a second
        "ip netns exec r1 sh -c 'echo 6168 >/proc/sys/net/ipv4/icmp_ratemask'\n\
         topdown traceroute -n -q 10 -w 0.3 203.0.113.10",
    ]) else {
        return;
    };
    assert_eq!(
        table(&all[0]).0,
        ["1 r1 (192.0.2.1)", "2 r2 (198.51.100.2)", "3 h2 (203.0.113.10)"]
    );
    assert_eq!(table(&all[1]).0[0], "1 r1 (2001:db8:1::1)");
    let (rows, notes) = table(&all[2]);
    let two = |row: &str| {
        row.contains("203.0.113.216") && row.contains("203.0.113.217")
    };
    assert!(two(&rows[2]) && two(&rows[3]), "{rows:?}");
    assert!(
        notes[0].starts_with("note: several routers answer at hops 3 and 4"),
        "{notes:?}"
    );
    let (rows, notes) = table(&all[4]);
    assert!(rows[0].contains("* *") && !rows[2].contains('*'), "{rows:?}");
    assert!(
        notes[0].starts_with("note: hop 1 left probes unanswered"),
        "{notes:?}"
    );
    assert_eq!(all[4].status, 0);
    let json = &all[3].stdout;
    assert!(json.starts_with("{\"hop\":1,\"probes\":[{\"from\":\"192.0.2.1\",\"name\":\"r1\",\"rtt_ms\":"), "{json}");
    assert!(json.contains(",\"mark\":\"\",\"last\":true}]}"), "{json}");
    assert!(json.ends_with("{\"hop\":3,\"probes\":[null]}\n"), "{json}");
}

/// A router that quotes no more than RFC 792 demands does not say which of
/// several UDP probes it means.
#[test]
fn short_quotes_are_not_guessed_at() {
    let Some(all) = crate::lab::lab_with(
        &[("DELAY", "20")],
        &[
            "topdown traceroute -v -n -m 4 203.0.113.215",
            "topdown traceroute -v -n -I -m 4 203.0.113.215",
        ],
    ) else {
        return;
    };
    for (ran, by_one) in all.iter().zip([true, false]) {
        let rows = table(ran).0;
        assert_eq!(
            rows[1..],
            ["2 198.51.100.2", "3 203.0.113.215", "4 203.0.113.215"],
        );
        // each time is of its own probe: twice 20 ms and no less
        for line in ran.stdout.lines().skip(2).take(3) {
            let times: Vec<f64> = line
                .split(" ms")
                .filter_map(|t| t.rsplit(' ').next()?.parse().ok())
                .collect();
            assert_eq!(times.len(), 3, "{line}");
            assert!(times.iter().all(|t| *t >= 40.0), "{line}");
        }
        let said = ran.stderr.matches("only one at a time").count();
        assert_eq!(said, usize::from(by_one), "{}", ran.stderr);
    }
}

/// `-I` believes an echo reply and an error for the same reasons as a ping.
#[test]
fn what_is_not_ours_is_no_answer() {
    let hosts = [224, 225, 228, 238, 248, 249, 250, 251];
    let command = |n: &u32| {
        format!("topdown traceroute -n -I -q 1 -f 3 -m 3 -w 0.2 203.0.113.{n}")
    };
    let mut commands: Vec<String> = hosts.iter().map(command).collect();
    // a redirect, and then the reply, which counts
    commands.push(command(&212));
    // and what was for the sockets alone is given up
    commands.push(
        "topdown traceroute -n -I -w 1 -m 3 203.0.113.133 >out &\n\
         until grep -q hops out; do sleep 0.01; done\n\
         grep CapPrm /proc/$!/status; wait"
            .into(),
    );
    let Some(all) = lab(&commands) else { return };
    for (n, ran) in hosts.iter().zip(&all) {
        assert_eq!(table(ran).0, ["3 *"], "{n}");
    }
    assert_eq!(table(&all[8]).0, ["3 203.0.113.212"]);
    assert_eq!(all[8].status, 0);
    assert!(all[9].stdout.contains("CapPrm:\t0000000000000000"));
}

/// All probes of a run are one flow: one port, or one checksum.
#[test]
fn all_probes_are_one_flow() {
    if !have_admin("tcpdump") {
        return;
    }
    let capture = |what: &str| {
        let run = format!("topdown traceroute -n {what}");
        let captured = captured("dst host 203.0.113.10", 9, &run);
        format!("{captured}\ntcpdump -nvxr all.pcap")
    };
    let Some(all) = lab(&[capture("203.0.113.10"), capture("-I 203.0.113.10")])
    else {
        return;
    };
    let unique = |text: &str, find: &dyn Fn(&str) -> Option<String>| {
        let mut found: Vec<String> = text.lines().filter_map(find).collect();
        let count = found.len();
        found.sort();
        found.dedup();
        assert!(count >= 6, "{count}: {text}");
        assert_eq!(found.len(), 1, "{found:?}");
    };
    unique(&all[0].stdout, &|line| {
        let (ports, _) = line.split_once(": UDP")?;
        Some(ports.trim().to_string())
    });
    assert!(!all[0].stdout.contains("bad udp cksum"), "{}", all[0].stdout);
    // (the third line of the dump has the ICMP header: type, checksum)
    unique(&all[1].stdout, &|line| {
        let words = line.trim().strip_prefix("0x0010:  ")?;
        Some(words.split(' ').skip(2).take(3).collect())
    });
    assert!(!all[1].stdout.contains("wrong icmp"), "{}", all[1].stdout);
}

const ANSWERS_HELLO: &str = "python3 -c '
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((\"203.0.113.10\", 33434))
print(\"ready\", file=sys.stderr, flush=True)
while True:
    s.sendto(b\"hello\", s.recvfrom(99)[1])
' 2>err";

#[test]
fn without_privileges_and_with_somebody_on_the_port() {
    let powerless = "setpriv --bounding-set=-net_raw --inh-caps=-net_raw";
    let open = "echo 0 0 >/proc/sys/net/ipv4/ping_group_range";
    let Some(all) = lab(&[
        format!("{powerless} topdown traceroute -n 203.0.113.10"),
        format!("{powerless} topdown traceroute -n -6 h2"),
        format!("{powerless} topdown traceroute -n -I 203.0.113.10"),
        format!("{open}; {powerless} topdown traceroute -n -I 203.0.113.10"),
        // an echo server answers, and does not say "port unreachable"
        "ip netns exec h2 topdown udp-server -l 203.0.113.10:33434 2>err &\n\
         until grep -q listening err; do sleep 0.02; done\n\
         topdown traceroute -n 203.0.113.10; s=$?; kill %1; exit $s"
            .to_string(),
        // and one that answers with something else
        format!(
            "ip netns exec h2 {ANSWERS_HELLO} &\n\
             until grep -q ready err; do sleep 0.02; done\n\
             topdown traceroute -n 203.0.113.10; s=$?; kill %1; exit $s"
        ),
    ]) else {
        return;
    };
    let way = ["1 192.0.2.1", "2 198.51.100.2", "3 203.0.113.10"];
    for i in [0, 3, 4, 5] {
        assert_eq!(table(&all[i]).0, way, "{i}");
        assert_eq!(all[i].status, 0, "{i}");
    }
    assert_eq!(table(&all[1]).0[2], "3 2001:db8:3::10");
    assert_eq!(all[2].status, 2);
    assert!(all[2].stderr.contains("setcap"), "{}", all[2].stderr);
}

#[test]
fn the_story_and_the_drawing() {
    let Some(all) = lab(&[
        "topdown traceroute -e -q 1 -I -4 h2",
        "topdown traceroute -e -q 1 -w 0.2 -m 3 203.0.113.133",
        "topdown traceroute --diagram way.svg -m 5 203.0.113.134; cat way.svg",
        "topdown traceroute -s 192.0.2.10 h2 | tail -1; topdown traceroute \
         -q 1 h2 27",
    ]) else {
        return;
    };
    for text in [
        "C: probe 1, TTL 1: echo request",
        "192.0.2.1 says: Time to live exceeded",
        "threw the",
        "which came with a TTL of 1",
        "203.0.113.10 answers",
        "the host itself: the path is known",
    ] {
        let story = flat(&all[0].stderr);
        assert!(story.contains(text), "{text}: {story}");
    }
    assert!(all[1].stderr.contains("probe 2, TTL 2: no answer in time"));
    let svg = &all[2].stdout;
    assert_eq!(svg.matches("time exceeded").count(), 15, "{svg}");
    assert!(svg.contains("hop 5") && svg.trim_end().ends_with("</svg>"));
    assert!(all[3].stdout.starts_with(" 3  h2 (203.0.113.10)"));
    assert!(all[3].stderr.contains("bytes must be "), "{}", all[3].stderr);
}
