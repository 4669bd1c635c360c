"""Memory of many idle connections, by protocol, in clear and with TLS: what a server grows by with each.

All servers run at once, one for each figure, and none ends before the last one is measured: pages that several
processes share are shared out among them, so one that ends would seem to make the others grow.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from harness import Peer
from idle_memory import UNCOUNTED, bytes_per_connection, in_clear, tls
from large import trusting
from measure import fresh, memory, memory_each
from rounds import Watch, running
from table import Row

__all__ = ["PEERS", "PROTOCOLS", "at_once", "together", "ways"]

PEERS = ("ours", "dovecot-imap", "haraka", "aiosmtpd", "opensmtpd")
"""Not Postfix and Exim: a process a connection, of which they have a hundred or twenty at most."""
PROTOCOLS = ("smtp", "smtps", "pop3", "pop3s", "imap", "imaps")
_MAIL = ("smtp", "smtps")
_LONGEST = 300.0
_OTHERS = 500


def ways(peer: str) -> Sequence[str]:
    """The protocols that a peer has."""
    if peer == "ours":
        return PROTOCOLS
    if peer == "opensmtpd":
        return ("smtp",)
    return ("imap", "imaps") if peer == "dovecot-imap" else _MAIL


def at_once(count: int) -> int:
    """How many figures of `count` connections this process has descriptors for, and takes them."""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    return max(1, (descriptors - _OTHERS) // (count + UNCOUNTED))


def together(
    there: Sequence[tuple[Peer, str]], directory: Path, turn: int, count: int
) -> tuple[list[Row], bool]:
    """One round: the rows, and whether a peer failed."""
    rows: list[Row] = []
    wrong: list[str] = []
    with contextlib.ExitStack() as servers:
        started = []
        for one, protocol in there:
            place = fresh(directory / protocol, f"{one.name}.{turn}")
            try:
                servers.enter_context(running(one, place))
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                wrong.append(f"{one.name}: failed: {error}")
                continue
            if one.name == "ours" and protocol == "smtp":
                rows += _base(one, place)
            started.append((one, protocol, place))
        threads = []
        for one, protocol, place in started:
            threads.append(
                threading.Thread(
                    target=_measure, args=(one, protocol, place, count, rows, wrong), daemon=True
                )
            )
            threads[-1].start()
        for thread in threads:
            thread.join(_LONGEST)
            if thread.is_alive():
                wrong.append(f"idle connections: not done after {_LONGEST:.0f} s")
                break
    for line in dict.fromkeys(wrong):
        print(line, flush=True)
    # in the order of the table, not in that of their ends
    order = {(one.name, protocol): number for number, (one, protocol) in enumerate(there)}
    rows.sort(key=lambda row: (row.case, order.get((row.peer, row.case), 0)))
    for row in rows:
        row.turn = turn
        print(f"round {turn + 1}: {row.brief()}", file=sys.stderr, flush=True)
    return rows, bool(wrong)


def _base(one: Peer, place: Path) -> list[Row]:
    """What is there before anybody connects: of all processes together, and the largest of them."""
    with Watch(one, place) as watch:
        pass
    cost = {"cpu": 0.0, "memory": memory(one.roots)}
    each = memory_each(one.roots)
    return [
        Row(one.name, "base, all processes", {"MB": sum(each)} | cost, watch.noise()),
        Row(one.name, "base, the largest process", {"MB": max(each)} | cost, watch.noise()),
    ]


def _measure(
    one: Peer, protocol: str, place: Path, count: int, rows: list[Row], wrong: list[str]
) -> None:
    """One figure, in a thread."""
    name, secured = protocol.removesuffix("s"), protocol.endswith("s")
    if name == "smtp" and secured:
        port, way = one.smtp, _starttls
    else:
        port, way = getattr(one, protocol), tls if secured else in_clear
    case = f"idle connection, {name.upper()}, {'TLS' if secured else 'clear'}"
    try:
        with Watch(one, place) as watch:
            each = bytes_per_connection(port, one.roots[0], way, count)
    except (RuntimeError, OSError) as error:
        wrong.append(f"{one.name}: {case}: failed: {error}")
        return
    values = {"KiB": each / 1024, "memory": memory(one.roots)}
    rows.append(Row(one.name, case, values, watch.noise()))


def _starttls(connection: socket.socket) -> socket.socket:
    """By STARTTLS, so that nobody has to log in."""
    connection.recv(4096)
    for line in (b"EHLO load.bench.test\r\n", b"STARTTLS\r\n"):
        connection.sendall(line)
        got = b""
        while not got.endswith(b"\n") or got[got.rfind(b"\n", 0, -1) + 1 :][3:4] == b"-":
            more = connection.recv(4096)
            if not more:
                raise RuntimeError("connection closed")
            got += more
    secured = trusting().wrap_socket(connection)
    secured.sendall(b"NOOP\r\n")
    secured.recv(4096)
    return secured
