"""Large messages by SMTP, in clear, by STARTTLS and on a TLS connection: a blocking client, and a sink for it.

    python bench/large.py --port 2525 --way clear|starttls|tls --rcpt u0@bench.test --seconds 5
    python bench/large.py --sink DIRECTORY --port 2525 --tls-port 2465

Some sessions, a thread each, send one message after the other on a kept connection; what takes time in it (writing,
encrypting) holds no lock of Python's. With a password on standard input they log in first, which is not counted. The
result is one line of JSON. The sink takes everything and keeps nothing: it shows what the client can do at most.
"""

from __future__ import annotations

import argparse
import base64
import json
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

from load import message
from measure import percentile

__all__ = ["SIZE", "WAYS", "Connection", "main", "trusting"]

SIZE = 10 * 1024 * 1024
WAYS = ("clear", "starttls", "tls")
_PATIENCE = 60.0
_CHUNK = 262144
_MOST = 10_000


class Connection:
    """One session up to its EHLO, in one of the `WAYS`. Replies other than expected raise RuntimeError."""

    def __init__(self, port: int, way: str, context: ssl.SSLContext | None = None) -> None:
        plain = socket.create_connection(("127.0.0.1", port), _PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = plain
        self._context = context or trusting()
        if way == "tls":
            self._socket = self._context.wrap_socket(plain)
        self.reply(b"2")
        self.command(b"EHLO load.bench.test", b"2")
        if way == "starttls":
            self.command(b"STARTTLS", b"2")
            self._socket = self._context.wrap_socket(plain)
            self.command(b"EHLO load.bench.test", b"2")

    def close(self) -> None:
        self._socket.close()

    def command(self, line: bytes, expected: bytes) -> bytes:
        self._socket.sendall(line + b"\r\n")
        return self.reply(expected)

    def login(self, user: str, password: str) -> None:
        plain = base64.b64encode(f"\0{user}\0{password}".encode())
        self.command(b"AUTH PLAIN " + plain, b"2")

    def send(self, sender: str, rcpt: str, body: bytes) -> None:
        """One message; `body` ends with the final dot."""
        self.command(f"MAIL FROM:<{sender}>".encode(), b"2")
        self.command(f"RCPT TO:<{rcpt}>".encode(), b"2")
        self.command(b"DATA", b"3")
        view = memoryview(body)
        for at in range(0, len(body), _CHUNK):
            self._socket.sendall(view[at : at + _CHUNK])
        self.reply(b"2")

    def reply(self, expected: bytes) -> bytes:
        got = b""
        while not got.endswith(b"\n") or got[got.rfind(b"\n", 0, -1) + 1 :][3:4] == b"-":
            more = self._socket.recv(65536)
            if not more:
                raise RuntimeError("connection closed")
            got += more
        if got[:1] != expected:
            raise RuntimeError(got.decode(errors="replace").strip())
        return got


def trusting() -> ssl.SSLContext:
    """Whoever measures trusts the server he has just started."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _send(options: argparse.Namespace, password: str) -> dict[str, float | str]:
    # a user writes as himself
    sender = options.rcpt if password else "load@bench.test"
    body = message(options.size, "bench.test").replace(
        b"load@bench.test>\r\nTo", sender.encode() + b">\r\nTo", 1
    )
    body += b".\r\n"
    ready = threading.Barrier(options.sessions + 1, timeout=_PATIENCE)
    times: list[float] = []
    refusals: list[str] = []
    stop = [0.0]

    def one() -> None:
        try:
            connection = Connection(options.port, options.way)
            if password:
                connection.login(options.rcpt, password)
        except (OSError, RuntimeError) as error:
            refusals.append(str(error))
            ready.abort()
            return
        ready.wait()
        try:
            while time.monotonic() < stop[0] and len(times) < _MOST:
                began = time.monotonic()
                connection.send(sender, options.rcpt, body)
                times.append(time.monotonic() - began)
        except (OSError, RuntimeError) as error:
            refusals.append(str(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=one, daemon=True) for _ in range(options.sessions)]
    for thread in threads:
        thread.start()
    cpu = time.process_time()
    begin = time.monotonic()
    stop[0] = begin + _PATIENCE + options.seconds
    try:
        ready.wait()
        begin = time.monotonic()
        stop[0] = begin + options.seconds
    except threading.BrokenBarrierError:
        stop[0] = 0.0
    for thread in threads:
        thread.join(options.seconds + _PATIENCE)
    return {
        "accepted": len(times),
        "refused": len(refusals),
        "refusal": refusals[0] if refusals else "",
        "begin": begin,
        "end": time.monotonic(),
        "p50": percentile(times, 0.5) * 1000,
        "p99": percentile(times, 0.99) * 1000,
        "cpu": time.process_time() - cpu,
    }


def _sink(port: int, tls_port: int, directory: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")

    def serve(connection: socket.socket, implicit: bool) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = bytearray(_CHUNK)
        try:
            if implicit:
                connection = context.wrap_socket(connection, server_side=True)
            connection.sendall(b"220 sink\r\n")
            while True:
                line = connection.recv(4096)
                verb = line[:4].upper()
                if verb == b"DATA":
                    connection.sendall(b"354 go on\r\n")
                    tail = b""
                    while tail != b"\r\n.\r\n":
                        size = connection.recv_into(buffer)
                        if not size:
                            return
                        tail = (tail + buffer[max(0, size - 5) : size])[-5:]
                elif verb == b"EHLO":
                    connection.sendall(b"250-sink\r\n250-STARTTLS\r\n250 8BITMIME\r\n")
                    continue
                elif not verb:
                    return
                connection.sendall(b"250 ok\r\n" if verb != b"STAR" else b"220 go on\r\n")
                if verb == b"STAR":
                    connection = context.wrap_socket(connection, server_side=True)
        except OSError:
            return
        finally:
            connection.close()

    def listen(number: int, implicit: bool) -> None:
        with socket.create_server(("127.0.0.1", number), backlog=1024) as listener:
            while True:
                connection = listener.accept()[0]
                threading.Thread(target=serve, args=(connection, implicit), daemon=True).start()

    threading.Thread(target=listen, args=(tls_port, True), daemon=True).start()
    listen(port, False)


def main(arguments: list[str]) -> int:
    """The command; 1 when nothing was accepted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tls-port", type=int, default=0)
    parser.add_argument("--sink", type=Path, metavar="DIRECTORY", help="of cert.pem and key.pem")
    parser.add_argument("--way", choices=WAYS, default="clear")
    parser.add_argument("--rcpt", default="u0@bench.test")
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--size", type=int, default=SIZE)
    options = parser.parse_args(arguments)
    if options.sink:
        _sink(options.port, options.tls_port, options.sink)
        return 0
    result = _send(options, sys.stdin.readline().rstrip("\n"))
    print(json.dumps(result), flush=True)
    return 0 if result["accepted"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
