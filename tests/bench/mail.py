"""The mail works of bench.py (durable discard attach), and tls."""

import os, re, subprocess, sys, time

from bench import TOPDOWN, Peer, free_port, rounds, table, which

MAIN_CF = """compatibility_level = 3.6
maillog_file = /dev/stdout
queue_directory = %(own)s/queue
data_directory = %(own)s/data
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = hamburger.edu
mydestination =
virtual_mailbox_domains = hamburger.edu
virtual_mailbox_base = %(own)s/mail
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
alias_maps =
smtpd_relay_restrictions = reject_unauth_destination
smtpd_client_connection_count_limit = 0
"""

MASTER_CF = """127.0.0.1:%(port)d inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
proxymap unix - - n - - proxymap
"""


def postfix(folder):
    """One of its own, with a Maildir: for root alone."""
    if not which("postfix"):
        return
    if os.geteuid() != 0:
        print("left out: postfix is for root")
        return
    own, port = f"{folder}/postfix", free_port()
    for part in ("conf", "queue", "data", "mail"):
        os.makedirs(f"{own}/{part}")
    os.chmod(folder, 0o755)
    for name, text in (("main.cf", MAIN_CF), ("master.cf", MASTER_CF)):
        with open(f"{own}/conf/{name}", "w") as f:
            f.write(text % {"own": own, "port": port})
    script = (f"cd {own} && chown postfix queue data && chown nobody mail && "
              f"mount -t proc proc /proc && exec postfix -c {own}/conf start-fg")
    yield Peer("postfix", ["unshare", "-mpf", "--kill-child", "sh", "-c", script], port)


def source(peer, sessions, count, *more):
    """Messages a second that smtp-source gets acknowledged."""
    words = [which("smtp-source"), "-s", str(sessions), "-l", "4096", "-m", str(count),
             "-f", "alice@crepes.fr", "-t", "bob@hamburger.edu", *more,
             f"127.0.0.1:{peer.port}"]
    start = time.monotonic()
    subprocess.run(words, check=True)
    return count / (time.monotonic() - start), count


def durable(args, folder):
    port = free_port()
    peers = [Peer("topdown", [TOPDOWN, "mail-server", "-q", "-l", str(port),
                              "--maildir", f"{folder}/Maildir"], port)]
    peers += postfix(folder)
    for python in ("/usr/bin/python3", sys.executable):
        has = subprocess.run([python, "-c", "import aiosmtpd"], capture_output=True)
        if has.returncode == 0:
            port = free_port()
            words = [python, "-m", "aiosmtpd", "-n", "-l", f"127.0.0.1:{port}",
                     "-c", "aiosmtpd.handlers.Mailbox", f"{folder}/aio"]
            peers.append(Peer("aiosmtpd", words, port))
            break
    else:
        print("left out: aiosmtpd is not installed")
    try:
        table("mail server into a Maildir, 20 sessions, 4 KiB (smtp-source)", "msg/s",
              rounds(peers, args.rounds, lambda p: source(p, 20, 1000)))
    finally:
        for peer in peers:
            peer.end()


def discard(args, folder):
    port = free_port()
    peers = [Peer("topdown", [TOPDOWN, "mail-server", "-q", "--discard", "-l", str(port)], port)]
    peers += sink(folder)
    try:
        table("mail server, thrown away, 20 sessions, 4 KiB (smtp-source)", "msg/s",
              rounds(peers, args.rounds, lambda p: source(p, 20, 10_000)))
        table("the same, all messages of a session over one connection", "msg/s",
              rounds(peers, args.rounds, lambda p: source(p, 20, 20_000, "-d")))
    finally:
        for peer in peers:
            peer.end()


def sink(folder):
    if which("smtp-sink"):
        port = free_port()
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        yield Peer("smtp-sink", [which("smtp-sink"), *user, f"127.0.0.1:{port}", "100"], port)


class Client:
    """A client that is run to its end, as a peer of `rounds`."""

    def __init__(self, name, words):
        self.name, self.words = name, words

    def cpu(self):
        times = os.times()
        return times.children_user + times.children_system

    def run(self):
        quiet = subprocess.DEVNULL
        start = time.monotonic()
        # (to wait with a limit would be to look every 50 ms)
        if subprocess.run(self.words, stdin=quiet, stdout=quiet).returncode:
            sys.exit(f"{self.name} failed")
        return time.monotonic() - start

    def measure_resident(self):
        """KiB at most, in a run that is not timed."""
        quiet = subprocess.DEVNULL
        child = subprocess.Popen(self.words, stdin=quiet, stdout=quiet)
        most = 0
        while child.poll() is None:
            try:
                with open(f"/proc/{child.pid}/status") as f:
                    found = re.search(r"Name:\s+(topdown|curl)[^$]*VmHWM:\s+(\d+)", f.read())
                most = max(most, int(found[2])) if found else most
            except OSError:
                pass
        return most


def clients(args, title, octets, clients):
    def measure(client):
        return octets / 2**20 / client.run(), 1
    table(title, "MiB/s", rounds(clients, args.rounds, measure))
    for client in clients:
        print(f"  {client.name:14} {client.measure_resident():12,} KiB resident at most")


def attach(args, folder):
    size = 25 << 20
    path = f"{folder}/attached.bin"
    with open(path, "wb") as f:
        f.write(os.urandom(size))
    servers = list(sink(folder))
    if not servers:
        return
    to = f"127.0.0.1:{servers[0].port}"
    all = [Client("topdown", [TOPDOWN, "mail-client", "-q", "--server", to, "-f", "a@b", "-t",
                              "c@d", "--body", "x", "-a", path])]
    if which("curl"):
        all.append(Client("curl", ["curl", "-s", f"smtp://{to}", "--mail-from", "a@b",
                                   "--mail-rcpt", "c@d", "-F", "=x", "-F",
                                   f"=@{path};encoder=base64"]))
    try:
        clients(args, "mail client, 25 MiB attached, to smtp-sink", size, all)
    finally:
        servers[0].end()


NGINX = """worker_processes 1; pid %(own)s/pid; error_log %(own)s/error;
    events { worker_connections 64; } http { access_log off; sendfile on;
    server { listen 127.0.0.1:%(port)d ssl; root %(own)s;
    ssl_certificate %(own)s/pem; ssl_certificate_key %(own)s/pem; } }"""


def tls(args, folder):
    own, port, size = f"{folder}/tls", free_port(), 100 << 20
    if not which("nginx") or not which("openssl"):
        return
    os.mkdir(own)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", f"{own}/key",
                    "-out", f"{own}/ca"], check=True, capture_output=True)
    with open(f"{own}/pem", "wb") as pem:
        for part in ("ca", "key"):
            with open(f"{own}/{part}", "rb") as f:
                pem.write(f.read())
    with open(f"{own}/big", "wb") as f:
        f.write(os.urandom(size))
    with open(f"{own}/conf", "w") as f:
        f.write(NGINX % {"own": own, "port": port})
    os.chmod(folder, 0o755)
    server = Peer("nginx", [which("nginx"), "-p", own, "-e", f"{own}/error", "-c", f"{own}/conf",
                            "-g", "daemon off;"], port)
    url = f"https://localhost:{port}/big"
    all = [Client("topdown", [TOPDOWN, "web-client", "--ca-file", f"{own}/ca", "-o",
                              f"{own}/got", url])]
    if which("curl"):
        all.append(Client("curl", ["curl", "-s", "--cacert", f"{own}/ca", "-o", f"{own}/got2",
                                   url]))
    try:
        clients(args, "web client, 100 MiB over TLS from nginx, into a file", size, all)
    finally:
        server.end()
