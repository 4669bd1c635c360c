"""Memory of many idle connections, by protocol, in clear and with TLS: what a server grows by with each."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from pathlib import Path

from harness import Peer
from idle_memory import UNCOUNTED, bytes_per_connection, in_clear, tls
from large import trusting
from rounds import Watch
from table import Row

__all__ = ["PEERS", "idle"]

PEERS = ("ours", "dovecot-imap", "haraka", "aiosmtpd", "opensmtpd")
"""Not Postfix and Exim: a process a connection, of which they have a hundred or twenty at most."""


def idle(one: Peer, place: Path, protocol: str, count: int) -> Iterator[Row]:
    """A peer that has just been started and has done nothing else; one row a way that it has."""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    name, secured = protocol.removesuffix("s"), protocol.endswith("s")
    if name == "smtp" and secured:
        port, way = one.smtp, _starttls
    else:
        port, way = getattr(one, protocol), tls if secured else in_clear
    if not port or (way is _starttls and not one.starttls):
        return
    with Watch(one, place) as watch:
        base = bytes_per_connection(port, one.roots[0], way, count)
    values = {"KiB": base / 1024, "cpu": watch.cpu * 1000 / (count + UNCOUNTED), "memory": 0.0}
    case = f"idle connection, {name.upper()}, {'TLS' if secured else 'clear'}"
    yield Row(one.name, case, values, watch.noise())


def _starttls(connection: socket.socket) -> socket.socket:
    """By STARTTLS, so that nobody has to log in."""
    connection.recv(4096)
    for line in (b"EHLO load.bench.test\r\n", b"STARTTLS\r\n"):
        connection.sendall(line)
        got = b""
        while not got.endswith(b"\n") or got[got.rfind(b"\n", 0, -1) + 1 :][3:4] == b"-":
            got += connection.recv(4096)
    secured = trusting().wrap_socket(connection)
    secured.sendall(b"NOOP\r\n")
    secured.recv(4096)
    return secured
