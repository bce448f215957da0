//! `icmp-ping` in the network in a box: each answer that there is, side by
//! side with ping(8), and answers that are none.

use std::process::{Command, Stdio};

use crate::harness::{BINARY, Folder, Ran, have, run_command, skip};
use crate::lab::{captured, flat, have_admin, lab};

/// What a run printed about its first ping, without the time.
fn first_line(ran: &Ran) -> String {
    let line = ran.stdout.lines().nth(1).unwrap_or_default();
    let end = line.find(" time=").unwrap_or(line.len());
    line[..end].to_string()
}

/// `203.0.113.(192+n)` and `2001:db8:5::n`: the lab's rare hosts.
fn rare(n: u32) -> [String; 2] {
    [format!("203.0.113.{}", 192 + n), format!("2001:db8:5::{n:x}")]
}

fn assert_received(ran: &Ran, sent: u32, received: u32) {
    let start = format!("{sent} packets transmitted, {received} received");
    assert!(ran.stdout.contains(&start), "{start}: {}", ran.stdout);
    // all lost: there is no least time, nor anything that is no number
    let has_times = ran.stdout.contains("rtt min/avg/max/mdev = ");
    assert_eq!(has_times, received > 0, "{}", ran.stdout);
    for nonsense in ["NaN", "inf", "-0.", "18446744"] {
        assert!(!ran.stdout.contains(nonsense), "{}", ran.stdout);
    }
    assert_eq!(ran.status, i32::from(received == 0));
}

#[test]
fn its_lines_are_those_of_ping() {
    if !have("ping") {
        return;
    }
    let one =
        |program: &str, host: &str| format!("{program} -c 2 -i 0.1 {host}");
    let mut commands = Vec::new();
    let hosts =
        ["127.0.0.1", "::1", "192.0.2.1", "-n -6 h2", "-s 900 203.0.113.10"];
    for host in hosts {
        commands.push(one("topdown icmp-ping", host));
        commands.push(one("ping", host));
    }
    let Some(all) = lab(&commands) else { return };
    for pair in all.chunks(2) {
        let (ours, theirs) = (&pair[0], &pair[1]);
        let shape = |ran: &Ran| -> Vec<String> {
            let lines = ran.stdout.lines().filter(|l| !l.starts_with("median"));
            lines
                .map(|l| {
                    let digits = |c: char| c.is_ascii_digit() || c == '.';
                    let times = |t: &str| t.replace(digits, "");
                    match l.split_once("time") {
                        Some((a, b)) => format!("{a}time{}", times(b)),
                        None if l.starts_with("rtt") => times(l),
                        None => l.to_string(),
                    }
                })
                .collect()
        };
        // (ping adds the reverse look-up; that is compared without)
        let plain = |lines: Vec<String>| -> Vec<String> {
            lines
                .into_iter()
                .map(|l| l.replace("(h2 (2001:db8:3::10))", "(2001:db8:3::10)"))
                .map(|l| l.replace(", pipe ", ""))
                .collect()
        };
        assert_eq!(plain(shape(ours)), plain(shape(theirs)));
        assert_eq!((ours.status, theirs.status), (0, 0));
    }
}

/// Of the lab's routers, by their tables: what ours and ping(8) say of each.
#[test]
fn every_answer_of_the_labs_routers_is_named_as_ping_names_it() {
    if !have("ping") {
        return;
    }
    let asked = [
        ("203.0.113.130", "Destination Net Unreachable"),
        ("203.0.113.131", "Destination Host Unreachable"),
        ("203.0.113.30", "Destination Host Unreachable"),
        ("203.0.113.132", "Packet filtered"),
        ("203.0.113.133", ""),
        ("203.0.113.134", "Time to live exceeded"),
        ("-s 1200 -M do 203.0.113.20", "Frag needed and DF set (mtu = 1000)"),
        ("203.0.113.21", "Redirect Host(New nexthop: 192.0.2.2)"),
        ("-t 1 203.0.113.10", "Time to live exceeded"),
        ("2001:db8:4::130", "Destination unreachable: No route"),
        // (Linux has one code for both)
        ("2001:db8:4::131", "Destination unreachable: No route"),
        ("2001:db8:3::30", "Destination unreachable: Address unreachable"),
        (
            "2001:db8:4::132",
            "Destination unreachable: Administratively prohibited",
        ),
        ("2001:db8:4::133", ""),
        ("2001:db8:4::134", "Time exceeded: Hop limit"),
        ("-s 1400 -M do 2001:db8:3::20", "Packet too big: mtu=1280"),
        ("-t 2 2001:db8:3::10", "Time exceeded: Hop limit"),
    ];
    // a fresh lab for each program: routers remember what they said
    let of = |program: &str| {
        let command =
            |(what, _): &(&str, _)| format!("{program} -n -c 1 -W 1 {what}");
        lab(&asked.iter().map(command).collect::<Vec<_>>())
    };
    let (Some(ours), Some(theirs)) = (of("topdown icmp-ping"), of("ping"))
    else {
        return;
    };
    for (((what, words), ours), theirs) in asked.iter().zip(ours).zip(theirs) {
        let line = first_line(&ours);
        if words.is_empty() {
            assert_eq!(line, "icmp_seq=1: Request timed out", "{what}");
        } else {
            assert!(line.ends_with(words), "{what}: {line}");
            assert_eq!(line, first_line(&theirs), "{what}");
        }
        // an error is the end of it
        if !words.is_empty() {
            assert!(!ours.stdout.contains("timed out"), "{}", ours.stdout);
        }
        // (the redirected one was passed on, and answered)
        let received = u32::from(words.starts_with("Redirect"));
        assert_received(&ours, 1, received);
    }
}

#[test]
fn every_rare_answer_is_named_as_ping_names_it() {
    if !have("ping") {
        return;
    }
    let v4 = (0..=22).map(|n| rare(n)[0].clone());
    // (of codes 5 and 6, ping(8) knows no name)
    let v6 = [0, 1, 2, 3, 4, 16, 17, 18, 19].map(|n| rare(n)[1].clone());
    let asked: Vec<String> = v4.chain(v6).collect();
    let commands: Vec<String> = asked
        .iter()
        .flat_map(|a| {
            ["topdown icmp-ping", "ping"]
                .map(|program| format!("{program} -n -c 1 -W 0.5 {a}"))
        })
        .collect();
    let Some(all) = lab(&commands) else { return };
    for (what, pair) in asked.iter().zip(all.chunks(2)) {
        let (ours, theirs) = (first_line(&pair[0]), first_line(&pair[1]));
        assert!(ours.contains(" icmp_seq=1 "), "{what}: {ours}");
        // (ping says nothing of a reassembly that failed)
        if what != "203.0.113.209" {
            assert_eq!(ours, theirs, "{what}");
        }
    }
}

#[test]
fn what_no_honest_host_answers_is_no_reply() {
    let named = [
        (32, "(BAD CHECKSUM)"),
        (33, "Request timed out"),
        (34, "icmp_seq=1001 ttl=62 (this was never sent)"),
        (35, "(wrong data byte #55 should be 0x37 but was 0xc8)"),
        (36, "(from a host that was not asked)"),
        (37, "(truncated: 28 of 56 octets of data)"),
        (38, "(truncated: 0 of 56 octets of data)"),
        (39, "(1200 octets more than were sent)"),
        (42, "Request timed out"),
        (43, "Request timed out"),
        (44, "Request timed out"),
        (45, "Request timed out"),
        (46, "Request timed out"),
        (47, "Request timed out"),
        (48, "Request timed out"),
        (49, "Request timed out"),
        (53, "(wrong data byte #"),
        (55, "Request timed out"),
        (56, "Request timed out"),
        (57, "Request timed out"),
        (58, "Request timed out"),
        (59, "Request timed out"),
    ];
    for which in [0, 1] {
        let command = |n| {
            let host = &rare(n)[which];
            format!("topdown icmp-ping -v -c 1 -W 0.5 {host}")
        };
        let commands: Vec<String> =
            named.iter().map(|(n, _)| command(*n)).collect();
        let Some(all) = lab(&commands) else { return };
        for ((n, text), ran) in named.iter().zip(all) {
            assert_received(&ran, 1, 0);
            let text = match (which, n) {
                (1, 32 | 53) => "Request timed out",
                _ => text,
            };
            // (53 is of ICMPv4; over IPv6 the kernel drops a wrong checksum)
            assert!(ran.stdout.contains(text), "{n}: {}", ran.stdout);
            assert!(!ran.stdout.contains("From "), "{n}: {}", ran.stdout);
            assert!(!ran.stdout.contains(" errors"), "{n}: {}", ran.stdout);
            let both = ran.stdout + &ran.stderr;
            assert!(!both.contains('\x1b') && !both.contains("bug"), "{both}");
        }
    }
}

#[test]
fn duplicates_long_headers_and_old_sequence_numbers() {
    let command = |n: u32, more: &str| {
        format!("topdown icmp-ping -c 2 -i 0.3 -W 1 {more} {}", rare(n)[0])
    };
    let Some(all) = lab(&[
        command(40, ""),
        command(41, ""),
        command(50, ""),
        command(51, ""),
        command(52, ""),
        command(54, ""),
    ]) else {
        return;
    };
    assert_received(&all[0], 2, 2);
    // of each a good one, two copies, and a thousand (but the run does not
    // wait for the last one's)
    assert_received(&all[1], 2, 2);
    for (ran, least, most) in [(&all[0], 2, 4), (&all[1], 999, 1998)] {
        let count = ran.stdout.split(", +").nth(1).unwrap();
        let count: u32 = count.split(' ').next().unwrap().parse().unwrap();
        assert!((least..=most).contains(&count), "{count}");
    }
    // a quote whose header claims to be longer than it is
    assert_received(&all[2], 2, 0);
    // an IP header of 60 octets, and an extension that is none
    assert_received(&all[3], 2, 2);
    assert_received(&all[4], 2, 0);
    assert!(all[4].stdout.contains("Time to live exceeded"));
    assert_received(&all[5], 2, 0);
    assert!(all[5].stdout.contains("icmp_seq=0"), "{}", all[5].stdout);
}

/// A program for Python, as a command of the shell.
fn python(program: &str) -> String {
    format!("python3 - <<'EOF'\n{program}\nEOF\n")
}

/// As the sheet's skeleton does: any packet with its identifier is a reply.
const BELIEVES_ALL: &str = "
import os, socket, struct, time
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
s.settimeout(2)
def total(b):
    t = sum(struct.unpack('<%dH' % (len(b) // 2), b))
    t = (t >> 16) + (t & 0xffff)
    return ~(t + (t >> 16)) & 0xffff
own = os.getpid() & 0x7fff
head = struct.pack('bbHHh', 8, 0, 0, own, 1)
data = struct.pack('d', time.time())
head = struct.pack('bbHHh', 8, 0, total(head + data), own, 1)
s.sendto(head + data, ('127.0.0.1', 1))
while True:
    packet = s.recv(1024)
    kind, code, check, number, sequence = struct.unpack('bbHHh', packet[20:28])
    if number == own:
        print('took type', kind)
        break
";

/// As the sheet's skeleton does in Python 3: the checksum is over the text
/// that str() makes of the bytes, and the fields are in the machine's order.
const BAD_CHECKSUM: &str = "
import socket, struct, time
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
def total(text):
    t = sum(ord(a) | ord(b) << 8 for a, b in zip(text[::2], text[1::2]))
    t = (t >> 16) + (t & 0xffff)
    return ~(t + (t >> 16)) & 0xffff
head = struct.pack('bbHHh', 8, 0, 0, 77, 1)
data = struct.pack('d', time.time())
head = struct.pack('bbHHh', 8, 0, total(str(head + data)), 77, 1)
s.sendto(head + data, ('203.0.113.10', 1))
";

const READS_JSON: &str = "
import json
for line in open('json'):
    o = json.loads(line)
    counts = [o.get(k, '') for k in ('sent', 'received', 'duplicates', 'bad', 'errors')]
    print(o['event'], o['host'], o.get('words', ''), *counts, '.')
";

#[test]
fn its_own_request_on_loopback_is_no_reply() {
    // h1 hears its request, and answers nothing
    let Some(all) = lab(&[
        "echo 1 >/proc/sys/net/ipv4/icmp_echo_ignore_all
         topdown icmp-ping -c 2 -i 0.1 -W 0.2 127.0.0.1",
        &python(BELIEVES_ALL),
    ]) else {
        return;
    };
    assert_received(&all[0], 2, 0);
    assert_eq!(all[1].stdout, "took type 8\n", "{}", all[1].stderr);
}

/// Good checksums, network order, one identifier; and the sheet's skeleton,
/// whose checksum is over the text of its bytes.
#[test]
fn packets_as_tcpdump_sees_them() {
    if !have_admin("tcpdump") {
        return;
    }
    let Some(all) = lab(&[
        captured(
            "icmp or (icmp6 and ip6[40] >= 128 and ip6[40] <= 129)",
            11,
            &format!(
                "topdown icmp-ping -c 2 -i 0.1 --pcap own.pcap -4 h2
                 topdown icmp-ping -c 2 -i 0.1 --pcap own6.pcap -6 h2
                 {}
                 topdown icmp-ping -c 1 203.0.113.10",
                python(BAD_CHECKSUM)
            ),
        )
        .as_str(),
        "tcpdump -nvvr all.pcap icmp",
        "tcpdump -nvvr all.pcap 'icmp6 and (ip6[40] == 128 or ip6[40] == 129)'",
        "tcpdump -nvvr own.pcap; tcpdump -nvvr own6.pcap",
    ]) else {
        return;
    };
    let v4 = &all[1].stdout;
    let ours: Vec<&str> =
        v4.lines().filter(|l| l.contains("ICMP echo")).collect();
    assert!(ours[0].contains("seq 1, length 64"), "{v4}");
    let number = |line: &str| {
        let id = line.split(" id ").nth(1).unwrap_or_default();
        id.split(',').next().unwrap_or_default().to_string()
    };
    assert!(ours[..4].iter().all(|l| number(l) == number(ours[0])), "{v4}");
    assert!(ours[2].contains("seq 2"), "{v4}");
    // the skeleton's: in the machine's order, its checksum wrong; no answer
    let theirs: Vec<&&str> =
        ours.iter().filter(|l| l.contains("id 19712, seq 256")).collect();
    assert_eq!(theirs.len(), 1, "{v4}");
    assert!(theirs[0].contains("wrong icmp cksum"), "{v4}");
    assert_eq!(v4.matches("wrong").count(), 1, "{v4}");
    let v6 = &all[2].stdout;
    assert_eq!(v6.matches("[icmp6 sum ok]").count(), 4, "{v6}");
    // and what we wrote ourselves is the same to it
    let own = &all[3].stdout;
    assert_eq!(own.matches("ICMP echo request, id ").count(), 2, "{own}");
    assert_eq!(own.matches("ICMP echo reply, id ").count(), 2, "{own}");
    assert_eq!(own.matches("[icmp6 sum ok]").count(), 4, "{own}");
    assert!(!own.contains("wrong") && !own.contains("bad"), "{own}");
}

#[test]
fn quotes_drawings_and_checksums_are_explained() {
    let Some(all) = lab(&[
        "topdown icmp-ping -e -c 2 -i 0.1 -s 8 203.0.113.10",
        "topdown icmp-ping -e -c 1 203.0.113.134",
        "topdown icmp-ping -e -c 1 203.0.113.211",
        "topdown icmp-ping -e -c 1 203.0.113.210",
        "topdown icmp-ping -e -c 1 -6 h2",
        "topdown icmp-ping -e -c 1 2001:db8:5::13",
        "topdown icmp-ping -c 2 -i 0.1 --diagram run.svg h2 && cat run.svg",
        "topdown icmp-ping -c 2 -i 0.1 -s 1200 -M do 203.0.113.20",
    ]) else {
        return;
    };
    let has = |i: usize, texts: &[&str]| {
        let flat = flat(&all[i].stderr);
        for text in texts {
            assert!(flat.contains(text), "{text}: {}", all[i].stderr);
        }
    };
    has(0, &["type 8 code 0", "sequence number 1", "data: 8 octets"]);
    has(0, &["type 0 * code 0", "total length 36", "TTL 62 protocol 1"]);
    has(0, &["carries wrapped around: ", "one's complement: "]);
    assert_eq!(all[0].stderr.matches("one's complement").count(), 1);
    let quote = "it quotes your echo request, sequence 1, from 192.0.2.10 to \
                 203.0.113.134, which came with a TTL of 1";
    has(1, &[quote, "took the last. RFC 792, KR 5.6", "type 11 code 0"]);
    has(2, &["MPLS labels it came: [16001]", "length 32"]);
    has(3, &["pointer 20", "the fault is in the options"]);
    has(4, &["pseudo header", "type 128", "type 129 *"]);
    has(5, &["MPLS labels it came: [16001]", "hop limit"]);
    assert!(all[6].stdout.contains("<svg"), "{}", all[6].stdout);
    // the router has said so once; then the system knows
    let mtu = "icmp_seq=2: not sent: Message too long, mtu=1000\n";
    assert!(all[7].stdout.contains(mtu), "{}", all[7].stdout);
}

#[test]
fn several_hosts_stand_side_by_side() {
    let Some(all) = lab(&[
        "topdown icmp-ping -c 3 -i 0.1 -W 1 r1 h2 203.0.113.133 \
         203.0.113.134 -4",
        "topdown icmp-ping -c 2 -i 0.1 -W 1 127.0.0.1 127.0.0.1 ::1",
        "topdown icmp-ping --json -c 2 -i 0.1 -W 1 h2 203.0.113.133 \
         203.0.113.134 203.0.113.232 203.0.113.227 >json",
        &python(READS_JSON),
        "topdown icmp-ping -c 2 -i 0.1 -W 1 203.0.113.134",
        "topdown icmp-ping -c 2 -i 0.1 -W 1 203.0.113.227",
        "topdown icmp-ping -c 2 -i 0.1 -W 1 203.0.113.134 203.0.113.227 \
         203.0.113.212 203.0.113.232",
    ]) else {
        return;
    };
    let rows: Vec<Vec<&str>> =
        all[0].stdout.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0].join(" "), "PING 4 hosts: 56 bytes of data.");
    assert_eq!(
        rows[1].join(" "),
        "r1 (192.0.2.1), h2 (203.0.113.10), 203.0.113.133, 203.0.113.134"
    );
    assert_eq!(rows[2].join(" "), "seq r1 h2 203.0.113.133 203.0.113.134");
    for (i, row) in rows[3..6].iter().enumerate() {
        assert_eq!(row[0], (i + 1).to_string());
        assert_eq!((row[2], row[4]), ("ms", "ms"));
        assert_eq!((row[5], row[6]), ("lost", "!11/0"));
    }
    assert_eq!(rows[8][..4], ["r1", "3", "3", "0%"]);
    assert_eq!(rows[10].join(" "), "203.0.113.133 3 0 100% 0 0 0 0 -");
    assert!(!all[1].stdout.contains("lost"), "{}", all[1].stdout);
    assert_eq!(all[2].stdout, "");
    let json = &all[3].stdout;
    for (event, count) in [
        ("reply h2 ", 2),
        ("timeout 203.0.113.133 ", 2),
        ("error 203.0.113.134 Time to live exceeded", 2),
        ("duplicate 203.0.113.232 ", 4),
        ("bad 203.0.113.227 ", 2),
        ("summary h2  2 2 0 0 0", 1),
        ("summary 203.0.113.133  2 0 0 0 0", 1),
        ("summary 203.0.113.134  2 0 0 0 2", 1),
        ("summary 203.0.113.232  2 2 4 0 0", 1),
        ("summary 203.0.113.227  2 0 0 2 0", 1),
    ] {
        assert_eq!(json.matches(event).count(), count, "{event}: {json}");
    }
    assert!(all[4].stdout.contains("0 received, +2 errors, 100% packet loss"));
    assert!(all[5].stdout.contains("0 received, +2 corrupted, 100% packet"));
    let table: Vec<Vec<&str>> = all[6]
        .stdout
        .lines()
        .skip_while(|l| !l.starts_with("host "))
        .map(|l| l.split_whitespace().collect())
        .collect();
    // sent, received, loss, late, dup, bad, err
    assert_eq!(table[1][1..8], ["2", "0", "100%", "0", "0", "0", "2"]);
    assert_eq!(table[2][1..8], ["2", "0", "100%", "0", "0", "2", "0"]);
    assert_eq!(table[3][1..8], ["2", "2", "0%", "0", "0", "0", "0"]);
    assert_eq!(table[4][1..3], ["2", "2"], "{}", all[6].stdout);
}

/// An error about a request that has timed out already does not hold the
/// rounds after it up, and the same host twice is two hosts.
#[test]
fn columns_go_on() {
    let Some(all) = lab(&[
        "topdown icmp-ping -c 5 -i 0.3 -W 0.05 192.0.2.1 203.0.113.30",
        "topdown icmp-ping -c 2 -i 0.1 203.0.113.134 203.0.113.134",
        "topdown icmp-ping -c 2 -i 0.1 --timestamp 192.0.2.1 192.0.2.1",
        "topdown icmp-ping -c 1 -W 0.2 192.0.2.1 no-such-host.invalid",
    ]) else {
        return;
    };
    let rows: Vec<Vec<&str>> =
        all[0].stdout.lines().map(|l| l.split_whitespace().collect()).collect();
    let numbers: Vec<&str> = rows[3..8].iter().map(|row| row[0]).collect();
    assert_eq!(numbers, ["1", "2", "3", "4", "5"], "{}", all[0].stdout);
    assert_eq!(all[1].stdout.matches("!11/0").count(), 4, "{:?}", all[1]);
    assert_eq!(all[2].stdout.matches("100%").count(), 0, "{:?}", all[2]);
    // one that cannot be found is named, and the others are pinged
    assert!(all[3].stderr.contains("look up no-such-host.invalid"));
    assert_received(&all[3], 1, 1);
}

#[test]
fn the_time_of_another_host() {
    let Some(all) = lab(&[
        "topdown icmp-ping --timestamp -c 2 -i 0.1 203.0.113.216",
        "topdown icmp-ping --timestamp -c 1 h2",
        "topdown icmp-ping --timestamp -c 1 -W 1 203.0.113.222",
        "topdown icmp-ping --timestamp --json -c 1 h2",
        "topdown icmp-ping --timestamp -c 1 -W 1 203.0.113.252",
        "topdown icmp-ping --timestamp -c 1 -W 1 203.0.113.253",
    ]) else {
        return;
    };
    assert_received(&all[0], 2, 2);
    // a clock that is a minute ahead
    let line = all[0].stdout.lines().nth(2).unwrap();
    let value = |name: &str| -> f64 {
        let text = line.split(name).nth(1).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(value("rtime=") - value("ttime="), -2.0);
    assert!((value("offset=") - 60_000.0).abs() < 1000.0, "{line}");
    assert_received(&all[1], 1, 1);
    assert!(all[1].stdout.contains(" ms delay="), "{}", all[1].stdout);
    assert_received(&all[2], 1, 0);
    assert!(all[3].stdout.contains(",\"otime\":"), "{}", all[3].stdout);
    assert_received(&all[4], 1, 0);
    assert!(all[4].stdout.contains("this was never asked"));
    assert_received(&all[5], 1, 0);
    assert!(all[5].stdout.contains("(truncated)"), "{}", all[5].stdout);
}

#[test]
fn deadlines_signals_and_floods() {
    let Some(all) = lab(&[
        "topdown icmp-ping -w 1 -i 0.1 203.0.113.133",
        "topdown icmp-ping -f -c 500 h2",
        "topdown icmp-ping -f -w 1 -c 50 203.0.113.133 -W 0.1",
        "topdown icmp-ping -i 0.01 h2 >out & \n\
         until grep -q icmp_seq=3 out; do sleep 0.01; done\n\
         kill -QUIT $!; until grep -q transmitted out; do sleep 0.01; done\n\
         kill -INT $!; wait $!; s=$?; grep -c transmitted out; exit $s",
        "topdown icmp-ping -c 3 -i 0.01 h2 | head -1",
        "topdown icmp-ping -f h2 203.0.113.10",
        "topdown icmp-ping -c 1 -I r1 h2; topdown icmp-ping -c 1 -I \
         192.0.2.10 h2; topdown icmp-ping -c 1 -I lo -W 0.2 -4 h2",
    ]) else {
        return;
    };
    assert!(all[0].stdout.contains(" 0 received"), "{}", all[0].stdout);
    assert_eq!(all[0].status, 1);
    assert_received(&all[1], 500, 500);
    assert!(!all[1].stdout.contains('\u{8}'), "no dots into a file");
    assert_received(&all[2], 50, 0);
    assert_eq!((all[3].status, all[3].stdout.trim()), (0, "2"));
    assert_eq!((all[4].status, all[4].stderr.as_str()), (0, ""));
    assert!(all[5].stderr.contains("one host alone is flooded"));
    assert_eq!(all[6].stdout.matches("1 received").count(), 2);
}

/// A binary that this user may not use to open raw sockets.
const POWERLESS: &str = "setpriv --bounding-set=-net_raw --inh-caps=-net_raw";

#[test]
fn without_privileges() {
    let run = |more: &str, what: &str| {
        format!("{more}; {POWERLESS} topdown icmp-ping {what}")
    };
    let open = "echo 0 0 >/proc/sys/net/ipv4/ping_group_range";
    let closed = "echo 1 0 >/proc/sys/net/ipv4/ping_group_range";
    let Some(all) = lab(&[
        run(closed, "-c 1 h2"),
        run(open, "-c 2 -i 0.1 -4 h2"),
        run(open, "-c 2 -i 0.1 -6 h2"),
        run(open, "-e -c 1 203.0.113.134"),
        run(open, "-c 1 203.0.113.130"),
        run(open, "-c 1 -6 -t 1 h2"),
        run(open, "-c 1 -W 1 203.0.113.227"),
        run(open, "--timestamp -c 1 h2"),
        run(open, "-c 2 -i 0.1 203.0.113.134 203.0.113.134"),
        run(open, "-c 1 203.0.113.210"),
        run(open, "-c 2 -i 0.1 -M do -s 1400 203.0.113.20"),
        run(open, "-c 1 -I 192.0.2.10 192.0.2.1"),
        // what root has is given up before the first packet is sent
        "topdown icmp-ping -c 2 -i 0.4 h2 >out & \n\
         until grep -q icmp_seq=1 out; do sleep 0.01; done\n\
         grep CapPrm /proc/$!/status; wait"
            .to_string(),
    ]) else {
        return;
    };
    assert_eq!(all[0].status, 2);
    for remedy in ["sudo", "setcap cap_net_raw+ep", "ping_group_range"] {
        assert!(all[0].stderr.contains(remedy), "{}", all[0].stderr);
    }
    assert_received(&all[1], 2, 2);
    assert!(all[1].stdout.contains(" ttl=62 time="), "{}", all[1].stdout);
    assert_received(&all[2], 2, 2);
    assert!(all[3].stdout.contains("From 198.51.100.2 icmp_seq=1 Time to"));
    assert!(all[3].stderr.contains("sequence 1; without a raw"));
    assert!(all[4].stdout.contains("Destination Net Unreachable"));
    assert!(all[5].stdout.contains("Time exceeded: Hop limit"));
    assert_received(&all[6], 1, 0);
    assert!(all[6].stdout.contains("wrong data byte #55"));
    assert_eq!(all[7].status, 2);
    assert!(!all[7].stderr.contains("ping_group_range"), "it would not help");
    assert_eq!(all[8].stdout.matches("!11/0").count(), 4, "{:?}", all[8]);
    assert!(all[9].stdout.contains("pointer = 20"), "{}", all[9].stdout);
    // once a router says so, then our own system, and nobody twice
    let mtu = "Frag needed and DF set (mtu = 1000)";
    assert_eq!(all[10].stdout.matches(mtu).count(), 1, "{}", all[10].stdout);
    assert!(all[10].stdout.contains("+2 errors"), "{}", all[10].stdout);
    assert_received(&all[11], 1, 1);
    assert!(all[12].stdout.contains("CapPrm:\t0000000000000000"));
}

/// Root, and a user with the capability on the file, on this machine.
#[test]
fn the_capability_on_the_file_is_enough() {
    // SAFETY: no arguments; it cannot fail.
    if unsafe { libc::getuid() } != 0 {
        return skip("only root can set capabilities");
    }
    if !have_admin("setcap") || !have("setpriv") {
        return;
    }
    let folder = Folder::new();
    let copy = folder.path("topdown");
    std::fs::copy(BINARY, &copy).unwrap();
    let run = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["-n", "sh", "-c"]);
        // a closed range, and a user that is nobody
        command.arg(
            "ip link set lo up; exec setpriv --reuid=65534 --regid=65534 \
             --clear-groups \"$0\" \"$@\"",
        );
        command.arg(&copy).args(words);
        run_command(command, "")
    };
    let denied = run(&["icmp-ping", "-c", "1", "127.0.0.1"]);
    assert_eq!(denied.status, 2, "{}", denied.stdout);
    let mut set = Command::new("setcap");
    set.args(["cap_net_raw+ep", &copy]).stdout(Stdio::null());
    if !set.status().is_ok_and(|s| s.success()) {
        return skip("capabilities cannot be set on files here");
    }
    let allowed = run(&["icmp-ping", "--timestamp", "-c", "1", "127.0.0.1"]);
    assert_received(&allowed, 1, 1);
    let fast = run(&["icmp-ping", "-i", "0.001", "-c", "1", "127.0.0.1"]);
    assert!(fast.stderr.contains("0.002 seconds is for root"), "{fast:?}");
    // set-user-ID: what it writes, it writes as who started it
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&copy, PermissionsExt::from_mode(mode))
    };
    std::fs::copy(BINARY, &copy).unwrap();
    mode(0o4755).unwrap();
    let allowed = run(&["icmp-ping", "-c", "1", "127.0.0.1"]);
    assert_received(&allowed, 1, 1);
    for option in ["--pcap", "--diagram"] {
        let file = folder.path("roots-own");
        let denied = run(&["icmp-ping", "-c", "1", option, &file, "127.0.0.1"]);
        assert!(denied.stderr.contains("Permission denied"), "{denied:?}");
    }
    let flood = run(&["icmp-ping", "-f", "127.0.0.1"]);
    assert!(flood.stderr.contains("only root may flood"), "{flood:?}");
}
