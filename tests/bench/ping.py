"""The ping works of bench.py: uping rtt flood hosts trace schedule. For the
pings' own sake they want root (or the capability), and loopback alone."""

import json, os, re, select, socket, statistics, struct, subprocess, sys, time

from bench import TOPDOWN, Peer, free_port, load, rounds, table, which

ECHO_C = """#include <arpa/inet.h>
#include <stdlib.h>
int main(int argc, char **argv) {
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in a = {AF_INET, htons(atoi(argv[1])), {htonl(INADDR_LOOPBACK)}};
  char b[65536];
  bind(s, (struct sockaddr *)&a, sizeof a);
  for (;;) {
    socklen_t l = sizeof a;
    long n = recvfrom(s, b, sizeof b, 0, (struct sockaddr *)&a, &l);
    if (n >= 0) sendto(s, b, n, 0, (struct sockaddr *)&a, l);
  }
}
"""


class UdpPeer(Peer):
    """A server of datagrams."""

    def __init__(self, name, words, port):
        self.name, self.port = name, port
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.05)
            for _ in range(100):
                try:
                    s.sendto(b"ping", ("127.0.0.1", port))
                    s.recv(10)
                    return
                except OSError:
                    time.sleep(0.01)
        raise SystemExit(f"{name} does not come up")


def uping(args, folder):
    generator, port = load(), free_port()
    peers = [UdpPeer("topdown", [TOPDOWN, "udp-ping-server", "--loss", "0", "-l", str(port)], port)]
    if which("cc"):
        with open(f"{folder}/echo.c", "w") as f:
            f.write(ECHO_C)
        subprocess.run(["cc", "-O2", "-o", f"{folder}/echo", f"{folder}/echo.c"], check=True)
        port = free_port()
        peers.append(UdpPeer("bare C echo", [f"{folder}/echo", str(port)], port))
    def measure(peer):
        words = [generator, "udp", f"127.0.0.1:{peer.port}", "32", "64", str(args.seconds)]
        out = subprocess.run(words, capture_output=True, text=True, check=True)
        return float(out.stdout), float(out.stdout) * args.seconds
    try:
        table("UDP ping server, 32 clients, 64 B", "echo/s", rounds(peers, args.rounds, measure))
    finally:
        for peer in peers:
            peer.end()


def run(words):
    """A program's standard output, and how long all of it took, in seconds."""
    began = time.perf_counter()
    out = subprocess.run(words, capture_output=True, text=True, timeout=120)
    took = time.perf_counter() - began
    if out.returncode:
        sys.exit(f"{' '.join(words)}: {out.stderr or out.stdout}")
    return out.stdout, took


def interleaved(title, unit, programs, measure, rounds):
    """{name: words} each in turn: the median of what measure(words) gives,
    and ours as a multiple of theirs. A list of values counts as so many."""
    results = {name: [] for name in programs}
    for _ in range(rounds):
        for name, words in programs.items():
            value = measure(words)
            results[name] += value if isinstance(value, list) else [value]
    show(title, unit, results)


def show(title, unit, results):
    print(f"\n{title}")
    ours = statistics.median(results["topdown"])
    for name, values in results.items():
        middle = statistics.median(values)
        line = f"  {name:14} {middle:12,.4g} {unit:8} ({len(values):,} values)"
        if name != "topdown":
            line += f"  topdown: x {ours / middle:.2f}"
        print(line, flush=True)


def times(words):
    """The round-trip times that ping's lines tell, in microseconds."""
    out, _ = run(words)
    return [float(ms) * 1000 for ms in re.findall(r"time=([\d.]+) ms", out)]


def rtt(args):
    if not which("ping"):
        return
    for interval, count in (("0.002", 2000), ("0.01", 400)):
        more = ["-n", "-i", interval, "-c", str(count), "127.0.0.1"]
        programs = {"topdown": [TOPDOWN, "icmp-ping", *more], "ping": [which("ping"), *more]}
        title = f"ICMP round-trip time on loopback, -i {interval}"
        interleaved(title, "us", programs, times, args.rounds)


def flood(args):
    if not which("ping"):
        return
    count = 100_000
    more = ["-q", "-f", "-c", str(count), "127.0.0.1"]
    programs = {"topdown": [TOPDOWN, "icmp-ping", *more], "ping": [which("ping"), *more]}

    def rate(words):
        out, _ = run(words)
        return count / float(re.search(r"time (\d+)ms", out)[1]) * 1000

    interleaved("flood on loopback", "pkt/s", programs, rate, args.rounds)


def hosts(args):
    """100 hosts, 10 pings each: all of it, start and end included."""
    if not which("fping"):
        return
    names = [f"127.0.1.{i}" for i in range(1, 101)]
    for period, gap in ((1000, 10), (20, 0.2)):
        ours = [TOPDOWN, "icmp-ping", "-q", "-c", "10", "-i", str(period / 1000), *names]
        theirs = [which("fping"), "-q", "-c", "10", "-p", str(period), "-i", str(gap), *names]
        programs = {"topdown": ours, "fping": theirs}
        title = f"100 hosts x 10 pings, every {period} ms, whole time"
        interleaved(title, "s", programs, lambda words: run(words)[1], args.rounds)


def trace(args):
    """Through the lab's three hops; measured inside of it."""
    if not which("traceroute"):
        return
    inside = [sys.executable, os.path.abspath(__file__), "inside", str(40 * args.rounds)]
    environment = {**os.environ, "QUIET": "1"}
    out = subprocess.run(["tests/lab", *inside], capture_output=True, text=True,
                         timeout=120, env=environment)
    if out.returncode:
        print(f"left out: trace: {out.stderr}")
        return
    for title, results in json.loads(out.stdout).items():
        show(f"traceroute through three hops{title}, whole time", "s", results)


def inside(count):
    """For trace: in the lab's h1."""
    all = {}
    for title, more in (("", []), (", -I", ["-I"])):
        results = {"topdown": [], "traceroute": []}
        for _ in range(count):
            for name in results:
                program = [TOPDOWN, "traceroute"] if name == "topdown" else [which("traceroute")]
                results[name].append(run([*program, "-n", *more, "203.0.113.10"])[1])
        all[title] = results
    print(json.dumps(all))


def sent(words, wanted, count):
    """When its packets left, in seconds: a socket on loopback hears them."""
    ETH_P_ALL, SO_TIMESTAMPNS = 3, 35
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)) as s:
        s.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        s.bind(("lo", ETH_P_ALL))
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet)
        stamps, ended = [], time.monotonic() + 60
        while len(stamps) < count and time.monotonic() < ended:
            if not select.select([s], [], [], 1)[0]:
                continue
            packet, control, _, address = s.recvmsg(2048, 64)
            if address[2] == socket.PACKET_OUTGOING and wanted(packet):
                seconds, nanos = struct.unpack("qq", control[0][2][:16])
                stamps.append(seconds + nanos / 1e9)
        process.terminate()
        process.wait()
    return stamps


def schedule(args):
    """How far each gap between two packets is from the one that was asked."""
    count, gap = 500, 0.01
    is_request = lambda p: p[9] == 1 and p[20] == 8
    to_port = lambda port: lambda p: p[9] == 17 and struct.unpack("!H", p[22:24])[0] == port
    more = ["-q", "-i", str(gap), "-c", str(count), "127.0.0.1"]
    port = free_port()
    echo = UdpPeer("echo", [TOPDOWN, "udp-ping-server", "--loss", "0", "-l", str(port)], port)
    works = {"topdown": ([TOPDOWN, "icmp-ping", *more], is_request)}
    works["udp-ping"] = ([TOPDOWN, "udp-ping", *more, str(port)], to_port(port))
    if which("ping"):
        works["ping"] = ([which("ping"), *more], is_request)
    server = None
    if which("irtt"):
        quiet = subprocess.DEVNULL
        server = subprocess.Popen([which("irtt"), "server", "-b", "127.0.0.1"],
                                  stdin=quiet, stdout=quiet, stderr=quiet)
        time.sleep(0.5)
        words = [which("irtt"), "client", "-Q", "-i", "10ms", "-d", "5s", "127.0.0.1"]
        works["irtt"] = (words, to_port(2112))
    results = {name: [] for name in works}
    try:
        for _ in range(args.rounds):
            for name, (words, wanted) in works.items():
                stamps = sent(words, wanted, count - 10)
                gaps = sorted(abs(b - a - gap) * 1e6 for a, b in zip(stamps, stamps[1:]))
                # (the first ones of irtt open its session)
                results[name].append(gaps[int(len(gaps) * 0.99) - 1])
    finally:
        echo.end()
        if server:
            server.terminate()
            server.wait()
    show("deviation from -i 0.01, 99th percentile, a run each", "us", results)


if __name__ == "__main__" and sys.argv[1:2] == ["inside"]:
    inside(int(sys.argv[2]))
