"""What an idle connection costs: resident memory of a server, by the connection.

    python bench/idle_memory.py                     the connection alone: in clear, TLS, compressed
    python bench/idle_memory.py --connections 1000

`bytes_per_connection` does it with any server: it opens some connections that are not counted (what is imported and
allocated with the first of them is the process's), then many, does with each what makes it idle in the way that
is asked about, and divides what the process has grown by. The server that is measured here has an engine and a
session that keep next to nothing, so that what is left is the driver's, Twisted's and OpenSSL's. It gives free memory
back to the kernel every second: all connections come at once here, and what they needed then would be counted.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import memory, pause

__all__ = ["bytes_per_connection", "in_clear", "tls"]

UNCOUNTED = 400
"""As many as fill what the start has allocated and given back."""
SETTLE = 12.0
"""Seconds in which a server is to have done what it does for an idle client (ours: `connection.alarm.QUIET`)."""

Idle = Callable[[socket.socket], object]
"""Makes a new connection idle, returns what has to be kept for it to stay so."""


def bytes_per_connection(
    port: int, server: int, idle: Idle, connections: int = 500, settle: float = SETTLE
) -> float:
    """How much the process `server` (and its children) grows with each of many idle `connections` to `port`."""
    kept: list[object] = []

    def open_some(number: int) -> float:
        for _ in range(number):
            kept.append(idle(socket.create_connection(("127.0.0.1", port), 10)))
        pause(settle)
        return memory([server]) * 1024 * 1024

    before = open_some(UNCOUNTED)
    after = open_some(connections)
    for connection in kept:
        getattr(connection, "close", lambda: None)()
    return (after - before) / connections


def in_clear(connection: socket.socket) -> socket.socket:
    """Reads the greeting."""
    connection.recv(4096)
    return connection


def tls(connection: socket.socket) -> ssl.SSLSocket:
    """Shakes hands, believing everybody, and reads the greeting."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    secured = context.wrap_socket(connection)
    secured.recv(4096)
    return secured


def _compressed(of: Callable[[socket.socket], socket.socket]) -> Idle:
    def idle(connection: socket.socket) -> socket.socket:
        connection = of(connection)
        connection.sendall(b"compress\n")
        connection.recv(4096)
        compress = zlib.compressobj(wbits=-15)
        for command in (b"SELECT inbox", b"FETCH 1:* FLAGS", b"IDLE"):
            packed = compress.compress(command + b"\n") + compress.flush(zlib.Z_SYNC_FLUSH)
            connection.sendall(packed)
            connection.recv(4096)
        return connection

    return idle


def _after_traffic(of: Callable[[socket.socket], socket.socket]) -> Idle:
    def idle(connection: socket.socket) -> socket.socket:
        connection = of(connection)
        line = b"x" * 60 * 1024 + b"\n"
        connection.sendall(line)
        left = len(line)
        while left:
            left -= len(connection.recv(left))
        return connection

    return idle


def _main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--serve", metavar="DIRECTORY", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    if options.serve:
        _serve(Path(options.serve))
        return 0
    kinds: list[tuple[str, int, Idle]] = [
        ("in clear", 0, in_clear),
        ("in clear, 60 KiB before", 0, _after_traffic(in_clear)),
        ("TLS", 1, tls),
        ("TLS, 60 KiB before", 1, _after_traffic(tls)),
        ("in clear, compressed", 0, _compressed(in_clear)),
        ("TLS, compressed", 1, _compressed(tls)),
    ]
    with tempfile.TemporaryDirectory() as directory:
        for name, which, idle in kinds:
            command = [sys.executable, __file__, "--serve", directory]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
                assert server.stdout is not None
                port = int(server.stdout.readline().split()[which])
                size = bytes_per_connection(port, server.pid, idle, options.connections)
                server.terminate()
            print(f"{name:24} {size / 1024:6.1f} KiB a connection", flush=True)
    return 0


def _serve(directory: Path) -> None:
    from twisted.internet import reactor  # noqa: TID251

    from twisted_mail.certs import make_development_certificates
    from twisted_mail.connection.deadlines import Bounds
    from twisted_mail.connection.factory import MailFactory
    from twisted_mail.connection.interfaces import NEED_DATA, PAUSED, Answer, Then
    from twisted_mail.connection.limits import ConnectionLimits
    from twisted_mail.connection.tls import ServerTls
    from twisted_mail.world import real_world

    class Engine:
        __slots__ = ("_buffer", "_paused")
        midway = False

        def __init__(self) -> None:
            self._buffer = b""
            self._paused = False

        @property
        def buffered(self) -> int:
            return len(self._buffer)

        def receive(self, data: bytes) -> None:
            self._buffer += data

        def next_event(self) -> Any:
            if self._paused:
                return PAUSED
            line, end, rest = self._buffer.partition(b"\n")
            if not end:
                return NEED_DATA
            self._buffer = rest
            self._paused = True
            return line

        def resume(self, expect: object = None) -> None:
            self._paused = False

        def start_tls(self) -> bool:
            return True

        def give_back(self) -> bytes:
            data, self._buffer = self._buffer, b""
            return data

    class Session:
        __slots__ = ("idle_seconds", "poke")
        starttls_refused = b""

        def __init__(self) -> None:
            self.idle_seconds = 1800.0

        def greeting(self) -> bytes:
            return b"hello\n"

        async def handle(self, event: bytes) -> Answer:
            if event == b"compress":
                return Answer(b"ok\n", Then.START_COMPRESSION)
            return Answer(event + b"\n")

        def tls_started(self, description: str) -> None: ...
        def too_many_errors(self) -> None: ...
        def lost(self) -> None: ...

        def timed_out(self) -> bytes:
            return b"bye\n"

        closing_down = timed_out

    class Factory(MailFactory):
        too_many = b""

        def make(self, ip: str, connection: str) -> Any:
            return Engine(), Session()

    world = real_world(reactor)
    made = make_development_certificates(directory, "localhost", now=world.now())
    pair = (made.certificate, made.key)
    ports = []
    for implicit_tls in (False, True):
        factory = Factory(
            world,
            "idle",
            bounds=Bounds(),
            limits=ConnectionLimits(100_000, 100_000),
            tls=ServerTls([pair], world.reactor.seconds),
            implicit_tls=implicit_tls,
        )
        ports.append(reactor.listenTCP(0, factory, 1024, "127.0.0.1").getHost().port)
    # as the server does (twisted_mail.server)
    gc.collect()
    gc.freeze()

    def trim() -> None:
        ctypes.CDLL(None).malloc_trim(0)
        reactor.callLater(1.0, trim)

    trim()
    reactor.callWhenRunning(print, *ports, flush=True)
    reactor.run()


if __name__ == "__main__":
    os.nice(5)
    sys.exit(_main())
