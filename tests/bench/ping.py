"""The ping work of bench.py: uping."""

import os, socket, subprocess, time

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
