#!/usr/bin/env python3
"""bench.py [--rounds N] [--seconds S] [WORK]...

Measures topdown beside its peers on this machine: interleaved rounds (ours,
theirs, ours, …), medians, ratios. Everything runs on the loopback interface,
in a folder of its own, bounded in time. A peer that is not installed is left
out, and that is said. WORK is any of: keep close file idle echo hit pass long
tunnels tls durable discard attach uping rtt flood hosts trace schedule (all of
them).
"""

import argparse, json, os, re, shutil, signal, socket, statistics, subprocess
import sys, tempfile, time

TOPDOWN = os.path.abspath("target/release/topdown")
PATH = os.environ["PATH"] + ":/usr/sbin"


def which(name):
    found = shutil.which(name, path=PATH)
    if not found:
        print(f"left out: {name} is not installed")
    return found


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Peer:
    """A server process, with its children."""

    def __init__(self, name, words, port):
        self.name, self.port = name, port
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet)
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.01)
        sys.exit(f"{name} does not come up")

    def pids(self):
        pids = [self.process.pid]
        for pid in pids:
            tasks = f"/proc/{pid}/task"
            for task in os.listdir(tasks) if os.path.isdir(tasks) else []:
                try:
                    with open(f"{tasks}/{task}/children") as f:
                        pids += map(int, f.read().split())
                except OSError:
                    pass
        return pids

    def cpu(self):
        """Seconds of processor time so far, of the living."""
        ticks = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident(self):
        """KiB."""
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def end(self):
        # a name space's first process takes all others with it
        for pid in self.pids()[1:2] if self.name == "postfix" else []:
            os.kill(pid, signal.SIGKILL)
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def web_peers(folder):
    """Ours first, then those that are installed."""
    root = f"{folder}/site"
    port = free_port()
    limit = ["--max-connections", "11000"]
    yield Peer("topdown", [TOPDOWN, "web-server", "-q", *limit, "-l", str(port), root], port)
    tuned = """worker_processes %d; pid %s/pid; error_log %s/error;
        events { worker_connections 8192; } http { include /etc/nginx/mime.types;
        sendfile on; tcp_nopush on; tcp_nodelay on; access_log off;
        keepalive_timeout 75; keepalive_requests 1000000000;
        open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s;
        open_file_cache_min_uses 1;
        server { listen 127.0.0.1:%d backlog=4096; root %s; } }"""
    stock = """worker_processes %d; pid %s/pid; error_log %s/error;
        events { worker_connections 768; } http { include /etc/nginx/mime.types;
        default_type application/octet-stream; sendfile on; tcp_nopush on;
        access_log access.log; gzip on; server { listen 127.0.0.1:%d; root %s; } }"""
    for name, text in (("nginx, tuned", tuned), ("nginx, stock", stock)):
        if not which("nginx"):
            break
        port, own = free_port(), f"{folder}/{name[-5:]}"
        os.mkdir(own)
        with open(f"{own}/conf", "w") as f:
            f.write(text % (os.cpu_count(), own, own, port, root))
        words = [which("nginx"), "-p", own, "-e", f"{own}/error", "-c", f"{own}/conf"]
        yield Peer(name, words + ["-g", "daemon off;"], port)
    if which("lighttpd"):
        port = free_port()
        with open(f"{folder}/lighttpd.conf", "w") as f:
            f.write(f'server.document-root = "{root}"\nserver.bind = "127.0.0.1"\n'
                    f"server.port = {port}\nserver.max-keep-alive-requests = 100000000\n"
                    'mimetype.assign = (".txt" => "text/plain")\n')
        yield Peer("lighttpd", [which("lighttpd"), "-D", "-f", f"{folder}/lighttpd.conf"], port)
    if which("darkhttpd"):
        port = free_port()
        words = [which("darkhttpd"), root, "--addr", "127.0.0.1", "--port", str(port)]
        yield Peer("darkhttpd", words, port)


def wrk(url, connections, seconds, *more):
    """Requests, requests a second, bytes a second."""
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", *more, url]
    out = subprocess.run(words, capture_output=True, text=True, timeout=120).stdout
    requests = int(re.search(r"(\d+) requests in", out)[1])
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
    number, unit = re.search(r"Transfer/sec:\s+([\d.]+)(\w+)", out).groups()
    scale = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}[unit]
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    if wrong or not requests:
        sys.exit(f"{url}: wrong answers\n{out}")
    return requests, rate, float(number) * scale


def ab(url, connections, requests):
    words = ["ab", "-q", "-c", str(connections), "-n", str(requests), url]
    out = subprocess.run(words, capture_output=True, text=True, timeout=120).stdout
    return float(re.search(r"Requests per second:\s+([\d.]+)", out)[1])


def rounds(peers, count, measure):
    """Interleaved: {name: [results]}"""
    results = {peer.name: [] for peer in peers}
    for _ in range(count):
        for peer in peers:
            before = peer.cpu()
            value, requests = measure(peer)
            cpu = (peer.cpu() - before) / requests * 1e6 if requests else 0
            results[peer.name].append((value, cpu))
    return results


def table(title, unit, results):
    print(f"\n{title}")
    median = lambda name, i: statistics.median(r[i] for r in results[name])
    ours, our_cpu = median("topdown", 0), median("topdown", 1)
    for name, values in results.items():
        low, high = min(v[0] for v in values), max(v[0] for v in values)
        line = f"  {name:14} {median(name, 0):12,.0f} {unit:8} [{low:,.0f} to {high:,.0f}]"
        if median(name, 1):
            line += f"  {median(name, 1):8.2f} us CPU each"
        if name != "topdown":
            line += f"  topdown: x {ours / median(name, 0):.2f}"
            if median(name, 1):
                line += f", CPU x {our_cpu / median(name, 1):.2f}"
        print(line, flush=True)


def web(args, folder, work):
    os.mkdir(f"{folder}/site")
    os.chmod(folder, 0o755)
    hour_ago = time.time() - 3600
    for name, size in (("1k.txt", 1 << 10), ("1m.bin", 1 << 20), ("100m.bin", 100 << 20)):
        path = f"{folder}/site/{name}"
        with open(path, "wb") as f:
            f.write(b"x" * size)
        os.utime(path, (hour_ago, hour_ago))
    peers = list(web_peers(folder))
    seconds = args.seconds
    try:
        if "keep" in work:
            def measure(p):
                requests, rate, _ = wrk(p.url("/1k.txt"), 64, seconds)
                return rate, requests
            table("1 KiB, keep-alive, 64 connections (wrk)", "req/s",
                  rounds(peers, args.rounds, measure))
        if "close" in work:
            def measure(p):
                requests, rate, _ = wrk(p.url("/1k.txt"), 64, seconds, "-H", "Connection: close")
                return rate, requests
            table("1 KiB, a connection a request, 64 at a time (wrk)", "req/s",
                  rounds(peers, args.rounds, measure))
            if which("ab"):
                def measure(p):
                    return ab(p.url("/1k.txt"), 64, 30000), 30000
                table("1 KiB, a connection a request, 64 at a time (ab)", "req/s",
                      rounds(peers, args.rounds, measure))
        if "file" in work:
            for name, connections in (("1m.bin", 8), ("100m.bin", 2)):
                def measure(p):
                    requests, _, rate = wrk(p.url(f"/{name}"), connections, seconds)
                    return rate / 2**20, requests
                table(f"{name}, {connections} connections (wrk)", "MiB/s",
                      rounds(peers, args.rounds, measure))
    finally:
        for peer in peers:
            peer.end()
    if "idle" in work:
        idle(folder)


def load():
    """The load generator, as cargo built it."""
    words = ["cargo", "bench", "--locked", "--bench", "load", "--no-run", "--message-format=json"]
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    for line in out.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "load":
            return message["executable"]


def idle(folder, count=10_000):
    # on 20,000 descriptors two servers' worth of clients do not fit: ours alone
    port = free_port()
    words = [TOPDOWN, "web-server", "-q", "--max-connections", "11000", "-l", str(port)]
    peer = Peer("topdown", words + [f"{folder}/site"], port)
    try:
        wrk(peer.url("/1k.txt"), 1, 1)
        before = peer.resident()
        words = [load(), "idle", f"127.0.0.1:{port}", str(count), "/1k.txt"]
        pipe = subprocess.PIPE
        client = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True)
        assert client.stdout.readline() == "held\n"
        held = (peer.resident() - before) / count
        _, rate, _ = wrk(peer.url("/1k.txt"), 8, 2)
        again, _ = client.communicate("\n", timeout=120)
        print(f"\n{count:,} idle keep-alive connections")
        print(f"  {held:.1f} KiB resident each; beside them {rate:,.0f} req/s for others;"
              f" then each was served again, {again.strip()} us a request")
    finally:
        peer.end()


def echo(args):
    generator = load()
    peers, port = [], free_port()
    peers.append(Peer("topdown", [TOPDOWN, "tcp-server", "-l", str(port)], port))
    if which("socat"):
        port = free_port()
        listen = f"TCP4-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,nodelay,backlog=256"
        peers.append(Peer("socat PIPE", ["socat", listen, "PIPE"], port))
    if which("ncat"):
        port = free_port()
        words = ["ncat", "-l", "-k", "-m", "200", "-e", "/bin/cat", "127.0.0.1", str(port)]
        peers.append(Peer("ncat -e cat", words, port))
    def measure(p):
        words = [generator, "echo", f"127.0.0.1:{p.port}", "64", "64", str(args.seconds)]
        out = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
        return float(out.stdout), 0
    try:
        table("upper case over TCP, 64 connections, 64 B messages", "msg/s",
              rounds(peers, args.rounds, measure))
    finally:
        for peer in peers:
            peer.end()


ORIGIN = """worker_processes 1; pid %(own)s/pid; error_log %(own)s/error;
    events { worker_connections 8192; } http { access_log off; sendfile on; tcp_nopush on;
    keepalive_requests 1000000000; keepalive_timeout 300; open_file_cache max=100;
    server { listen 127.0.0.1:%(port)d backlog=4096; root %(root)s;
    location /kept/ { alias %(root)s/; add_header Cache-Control max-age=3600; }
    location /own/ { alias %(root)s/; add_header Cache-Control no-store; } } }"""

SQUID = """http_port 127.0.0.1:%(port)d
http_access allow all
cache_mem 256 MB
maximum_object_size_in_memory 8 MB
access_log none
cache_store_log none
cache_log %(own)s/log
pid_filename none
coredump_dir %(own)s
max_filedescriptors 16384
shutdown_lifetime 0 seconds
"""

TINYPROXY = """Port %(port)d
Listen 127.0.0.1
Timeout 600
MaxClients 4000
LogLevel Critical
LogFile "%(own)s/log"
"""

HTTPD = """ServerRoot %(own)s
ServerName localhost
Listen 127.0.0.1:%(port)d
PidFile %(own)s/pid
ErrorLog %(own)s/error
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
LoadModule proxy_connect_module /usr/lib/apache2/modules/mod_proxy_connect.so
LoadModule cache_module /usr/lib/apache2/modules/mod_cache.so
LoadModule cache_socache_module /usr/lib/apache2/modules/mod_cache_socache.so
LoadModule socache_shmcb_module /usr/lib/apache2/modules/mod_socache_shmcb.so
MaxRequestWorkers 400
KeepAlive On
MaxKeepAliveRequests 0
ProxyRequests On
AllowCONNECT 443 %(origin)d
CacheEnable socache http://
CacheQuickHandler on
CacheSocache shmcb:%(own)s/cache(67108864)
CacheSocacheMaxSize 1048576
"""


def proxies(folder, origin):
    """Ours first, then those that are installed; each with its own folder."""
    def start(name, words, text=None):
        port = free_port()
        own = f"{folder}/{name}"
        os.mkdir(own)
        os.chmod(own, 0o777)
        values = {"port": port, "own": own, "origin": origin}
        if text:
            with open(f"{own}/conf", "w") as f:
                f.write(text % values)
        return Peer(name, [word % values for word in words], port)
    yield start("topdown", [TOPDOWN, "web-proxy", "-q", "-l", "%(port)d",
                            "--connect-port", "%(origin)d", "--idle", "300"])
    if which("squid"):
        text = SQUID + f"acl SSL_ports port {origin}\n"
        yield start("squid", [which("squid"), "-N", "-f", "%(own)s/conf"], text)
    if which("tinyproxy"):
        yield start("tinyproxy", [which("tinyproxy"), "-d", "-c", "%(own)s/conf"], TINYPROXY)
    if which("apache2"):
        words = [which("apache2"), "-DFOREGROUND", "-f", "%(own)s/conf"]
        yield start("httpd", words, HTTPD)


def proxy_wrk(folder, peer, url, connections, seconds):
    """wrk with a whole URL as its target."""
    script = f"{folder}/target.lua"
    with open(script, "w") as f:
        f.write(f'wrk.path = "{url}"\n')
    return wrk(peer.url("/"), connections, seconds, "-s", script)


def proxy(args, folder, work):
    os.makedirs(f"{folder}/proxy/site", exist_ok=True)
    os.chmod(f"{folder}", 0o755)
    folder = f"{folder}/proxy"
    root = f"{folder}/site"
    for name, size in (("1k", 1 << 10), ("64k", 1 << 16), ("100m", 100 << 20)):
        with open(f"{root}/{name}", "wb") as f:
            f.write(b"x" * size)
    os.mkdir(f"{folder}/origin")
    port = free_port()
    with open(f"{folder}/origin/conf", "w") as f:
        f.write(ORIGIN % {"own": f"{folder}/origin", "port": port, "root": root})
    words = [which("nginx"), "-p", f"{folder}/origin", "-e", f"{folder}/origin/error"]
    origin = Peer("nginx", words + ["-c", f"{folder}/origin/conf", "-g", "daemon off;"], port)
    peers = list(proxies(folder, port))
    at = f"http://127.0.0.1:{port}"
    seconds = args.seconds
    generator = load()
    try:
        for peer in peers:  # once, so that all have it
            proxy_wrk(folder, peer, f"{at}/kept/1k", 1, 1)
            proxy_wrk(folder, peer, f"{at}/kept/64k", 1, 1)
        def measure(path, connections):
            def one(p):
                # tinyproxy closes after each answer: wrk counts that as a read error
                requests, rate, _ = proxy_wrk(folder, p, at + path, connections, seconds)
                return rate, requests
            return one
        if "hit" in work:
            for name in ("1k", "64k"):
                table(f"proxy: hit in memory, {name}, 64 keep-alive connections (wrk)", "req/s",
                      rounds(peers, args.rounds, measure(f"/kept/{name}", 64)))
        if "pass" in work:
            table("proxy: pass-through of a no-store 1 KiB, 64 connections (wrk)", "req/s",
                  rounds(peers, args.rounds, measure("/own/1k", 64)))
        if "long" in work:
            before = peers[0].resident()
            def measure_long(p):
                requests, _, rate = proxy_wrk(folder, p, f"{at}/own/100m", 2, seconds)
                return rate / 2**20, requests
            table("proxy: pass-through of 100 MiB, 2 connections (wrk)", "MiB/s",
                  rounds(peers, args.rounds, measure_long))
            def measure_tunnel(p):
                words = [generator, "tunnel", f"127.0.0.1:{p.port}", f"127.0.0.1:{port}",
                         "/own/100m", str(seconds)]
                out = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
                return float(out.stdout) / 2**20, 0
            table("proxy: 100 MiB through CONNECT, 2 tunnels", "MiB/s",
                  rounds(peers, args.rounds, measure_tunnel))
            after = peers[0].resident()
            print(f"  topdown's memory: {before:,} KiB before, {after:,} KiB after")
        if "tunnels" in work:
            count = 2_000
            before = peers[0].resident()
            words = [generator, "tunnels", f"127.0.0.1:{peers[0].port}", f"127.0.0.1:{port}",
                     str(count)]
            pipe = subprocess.PIPE
            client = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True)
            assert client.stdout.readline() == "held\n"
            time.sleep(3)  # until the pipes are given back
            held = (peers[0].resident() - before) / count
            client.communicate("\n", timeout=60)
            print(f"\n{count:,} idle CONNECT tunnels\n  {held:.1f} KiB resident each")
    finally:
        for peer in peers + [origin]:
            peer.end()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("work", nargs="*", default=["keep", "close", "file", "idle", "echo", "hit", "pass",
                                                 "long", "tunnels", "tls", "durable",
                                                 "discard", "attach", "uping", "rtt",
                                                 "flood", "hosts", "trace", "schedule"])
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, Linux {os.uname().release}; "
          f"{args.rounds} interleaved rounds of {args.seconds} s, medians [range]")
    with tempfile.TemporaryDirectory() as folder:
        if set(args.work) & {"keep", "close", "file", "idle"} and which("wrk"):
            web(args, folder, args.work)
        if "echo" in args.work:
            echo(args)
        if set(args.work) & {"hit", "pass", "long", "tunnels"} and which("wrk") and which("nginx"):
            proxy(args, folder, args.work)
        import mail
        if "tls" in args.work:
            mail.tls(args, folder)
        if set(args.work) & {"durable", "discard"} and which("smtp-source"):
            for work in ("durable", "discard"):
                if work in args.work:
                    getattr(mail, work)(args, folder)
        if "attach" in args.work:
            mail.attach(args, folder)
        import ping
        if "uping" in args.work:
            ping.uping(args, folder)
        for work in ("rtt", "flood", "hosts", "trace", "schedule"):
            if work in args.work:
                getattr(ping, work)(args)


if __name__ == "__main__":
    main()
