"""A POP3 client to measure with: whole sessions, one large message, many small ones pipelined.

    python bench/pop3.py session  --port 2110 --user reader@bench.test     login, STAT, UIDL, QUIT
    python bench/pop3.py large    --port 2995 --user large@bench.test --tls    RETR of message 1
    python bench/pop3.py small    --port 2110 --user reader@bench.test     RETR of many, pipelined

The password is the first line of standard input. One connection at a time, blocking, each wait
bounded. The result is one line of JSON a repetition.
"""

from __future__ import annotations

import argparse
import json
import socket
import ssl
import sys
import time

__all__ = ["Client", "large", "main", "session", "small"]

_PATIENCE = 120.0
_WINDOW = 100
_END = b"\r\n.\r\n"


class Client:
    """One connection. Refusals raise RuntimeError with the server's words."""

    def __init__(self, port: int, tls: bool) -> None:
        plain = socket.create_connection(("127.0.0.1", port), _PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = plain
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            # whoever measures trusts the server he has just started
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self._socket = context.wrap_socket(plain)
        self._buffer = bytearray(262144)
        self._line()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def command(self, line: str) -> bytes:
        """Send one command and return the line that answers it."""
        self._socket.sendall(line.encode() + b"\r\n")
        return self._line()

    def login(self, user: str, password: str) -> None:
        self.command(f"USER {user}")
        self.command(f"PASS {password}")

    def listing(self, line: str) -> bytes:
        """Send a command and return its multi-line answer, status line and end included."""
        self._socket.sendall(line.encode() + b"\r\n")
        got = bytearray()
        while not got.endswith(_END):
            got += self._receive()
            if got.startswith(b"-ERR"):
                raise RuntimeError(got.decode(errors="replace"))
        return bytes(got)

    def pour(self, line: str) -> int:
        """As `listing`, but keeps nothing: how many octets came."""
        self._socket.sendall(line.encode() + b"\r\n")
        total = 0
        tail = b""
        while tail != _END:
            size = self._socket.recv_into(self._buffer)
            if not size:
                raise RuntimeError("connection closed")
            if not total and self._buffer.startswith(b"-"):
                raise RuntimeError(bytes(self._buffer[:size]).decode(errors="replace"))
            total += size
            tail = (tail + self._buffer[max(0, size - 5) : size])[-5:]
        return total

    def retrieve(self, count: int) -> int:
        """RETR 1 to `count`, with a bounded number of commands under way; how many octets came."""
        asked = answered = total = 0
        tail = b""
        while answered < count:
            if asked < count and asked - answered <= _WINDOW // 2:
                more = min(count, answered + _WINDOW)
                batch = "".join(f"RETR {n + 1}\r\n" for n in range(asked, more))
                self._socket.sendall(batch.encode())
                asked = more
            data = self._receive()
            total += len(data)
            # an end that came in two pieces is counted with the second
            answered += (tail + data).count(_END)
            tail = (tail + data)[-4:]
        return total

    def _receive(self) -> bytes:
        data = self._socket.recv(262144)
        if not data:
            raise RuntimeError("connection closed")
        return data

    def _line(self) -> bytes:
        got = b""
        while not got.endswith(b"\n"):
            got += self._receive()
        if not got.startswith(b"+"):
            raise RuntimeError(got.decode(errors="replace").strip())
        return got


def session(port: int, user: str, password: str, *, tls: bool = False) -> tuple[float, int]:
    """Connect, log in, STAT, UIDL, QUIT: the seconds it took, and how many messages there are."""
    began = time.perf_counter()
    with Client(port, tls) as client:
        client.login(user, password)
        count = int(client.command("STAT").split()[1])
        lines = client.listing("UIDL").count(b"\n") - 2
        client.command("QUIT")
    taken = time.perf_counter() - began
    if lines != count:
        raise RuntimeError(f"STAT says {count} messages, UIDL lists {lines}")
    return taken, count


def large(port: int, user: str, password: str, *, tls: bool = False) -> tuple[float, int]:
    """RETR of message 1: the seconds from command to end, and the octets of the answer."""
    with Client(port, tls) as client:
        client.login(user, password)
        client.command("STAT")
        began = time.perf_counter()
        size = client.pour("RETR 1")
        taken = time.perf_counter() - began
        client.command("QUIT")
    return taken, size


def small(
    port: int, user: str, password: str, *, tls: bool = False, most: int = 5000
) -> tuple[float, int]:
    """RETR of at most `most` messages, pipelined: the seconds it took, and how many they were."""
    with Client(port, tls) as client:
        client.login(user, password)
        client.command("STAT")
        sizes = [int(line.split()[1]) for line in client.listing("LIST").splitlines()[1:-1]][:most]
        began = time.perf_counter()
        octets = client.retrieve(len(sizes))
        taken = time.perf_counter() - began
        client.command("QUIT")
    if octets < sum(sizes):
        raise RuntimeError(f"LIST says {sum(sizes)} octets, RETR gave {octets}")
    return taken, len(sizes)


def main(arguments: list[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("session", "large", "small"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--tls", action="store_true", help="TLS from the first byte")
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args(arguments)
    password = sys.stdin.readline().rstrip("\n")
    measure = {"session": session, "large": large, "small": small}[options.what]
    for _ in range(options.times):
        seconds, amount = measure(options.port, options.user, password, tls=options.tls)
        print(json.dumps({"seconds": seconds, "amount": amount}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
