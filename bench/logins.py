"""A load of logins: a new connection each, one command and one reply at a time; one process, raw sockets.

    python bench/logins.py --port 2110 --protocol pop3 --user u%d@bench.test --users 1000 [--tls]

A POP3 login is connect, greeting, USER, PASS (with `--sasl` AUTH PLAIN in one line), STAT, QUIT; an IMAP login LOGIN
(AUTHENTICATE PLAIN) and LOGOUT. `%d` in `--user` becomes 0 to `--users` less one, in turn, so that in a run longer than
that each account logs in as often as any other. With `--tls` every connection makes a whole handshake: nothing is
resumed. The password is the first line of standard input.

It is bounded by a number of logins and by a time; those under way are finished. The first `--warm` seconds are not
counted: by then each password was right once, which costs a server more. The result is one line of JSON. What the
client can do at most is told by its `cpu`: seconds of processor it took itself.
"""

from __future__ import annotations

import argparse
import base64
import json
import select
import socket
import ssl
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from large import trusting
from measure import percentile

__all__ = ["Logins", "main", "steps"]

_GRACE = 20.0
_MOST_REFUSED = 50

Steps = Sequence[tuple[bytes, bytes]]
"""What is sent after each good reply, and how the reply to it begins; the last reply may be followed by a close."""


def steps(protocol: str, sasl: bool, user: str, password: str) -> Steps:
    """The commands of one login."""
    plain = base64.b64encode(f"\0{user}\0{password}".encode())
    if protocol == "pop3":
        login: list[tuple[bytes, bytes]]
        if sasl:
            login = [(b"AUTH PLAIN " + plain + b"\r\n", b"+OK")]
        else:
            login = [
                (f"USER {user}\r\n".encode(), b"+OK"),
                (f"PASS {password}\r\n".encode(), b"+OK"),
            ]
        return [*login, (b"STAT\r\n", b"+OK"), (b"QUIT\r\n", b"+OK")]
    command = f'a LOGIN "{user}" "{password}"\r\n'.encode()
    enter = b"a AUTHENTICATE PLAIN " + plain + b"\r\n" if sasl else command
    return [(enter, b"a OK"), (b"b LOGOUT\r\n", b"b OK")]


@dataclass(slots=True)
class _Session:
    connection: socket.socket
    steps: Steps
    began: float
    step: int = -1
    got: bytes = b""
    shaking: bool = False


class Logins:
    """`width` connections at a time; `result()` says how it went. `users`: the steps of each, taken in turn."""

    def __init__(
        self,
        port: int,
        users: Sequence[Steps],
        *,
        greeting: bytes,
        width: int,
        most: int,
        seconds: float,
        warm: float,
        tls: bool,
    ) -> None:
        self._address = ("127.0.0.1", port)
        self._users = users
        self._greeting = greeting
        self._width = width
        self._most = most
        self._seconds = seconds
        self._warm = warm
        self._context = trusting() if tls else None
        self._epoll = select.epoll()
        self._sessions: dict[int, _Session] = {}
        self._numbers = count()
        self._begin = self._end = self._cpu = 0.0
        self._times: list[float] = []
        self._refused = 0
        self._refusal = ""

    def run(self) -> None:
        """Log in until the time, the number of logins or that of refusals is reached."""
        began = time.monotonic()
        self._begin = began + self._warm
        stop = self._begin + self._seconds
        cpu = time.process_time() if not self._warm else None
        for _ in range(self._width):
            self._connect()
        while self._sessions and time.monotonic() < stop + _GRACE:
            if cpu is None and time.monotonic() >= self._begin:
                cpu = time.process_time()
            for fd, _ in self._epoll.poll(0.25):
                session = self._sessions[fd]
                try:
                    over = self._readable(session)
                except (OSError, RuntimeError) as error:
                    self._refused += 1
                    self._refusal = self._refusal or str(error)
                    over = True
                if over:
                    self._epoll.unregister(fd)
                    del self._sessions[fd]
                    session.connection.close()
                    if (
                        time.monotonic() < stop
                        and len(self._times) < self._most
                        and self._refused < _MOST_REFUSED
                    ):
                        self._connect()
        self._refused += len(self._sessions)
        for session in self._sessions.values():
            session.connection.close()
        self._cpu = time.process_time() - (cpu or 0.0)
        self._epoll.close()

    def result(self) -> dict[str, float | str]:
        """`begin` and `end` are of the machine's monotonic clock; latencies, from connect to close, milliseconds."""
        return {
            "accepted": len(self._times),
            "refused": self._refused,
            "refusal": self._refusal,
            "begin": self._begin,
            "end": self._end,
            "p50": percentile(self._times, 0.50) * 1000,
            "p99": percentile(self._times, 0.99) * 1000,
            "cpu": self._cpu,
        }

    def _connect(self) -> None:
        steps = self._users[next(self._numbers) % len(self._users)]
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.monotonic()
        # Of loopback: it is made, or refused, at once.
        connection.connect(self._address)
        connection.setblocking(False)
        session = _Session(connection, steps, began)
        if self._context is not None:
            session.connection = connection = self._context.wrap_socket(
                connection, do_handshake_on_connect=False
            )
            session.shaking = True
            self._shake(session)
        self._sessions[connection.fileno()] = session
        self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _shake(self, session: _Session) -> bool:
        try:
            session.connection.do_handshake()  # type: ignore[attr-defined]
        except ssl.SSLWantReadError:
            return False
        session.shaking = False
        return True

    def _readable(self, session: _Session) -> bool:
        """Whether this one is over."""
        if session.shaking and not self._shake(session):
            return False
        try:
            data = session.connection.recv(16384)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except ssl.SSLEOFError:
            data = b""
        step = session.step
        if not data:
            if step != len(session.steps) - 1:
                raise RuntimeError(f"closed in step {step}")
            now = time.monotonic()
            if session.began >= self._begin:
                self._times.append(now - session.began)
                self._end = now
            return True
        got = session.got + data
        if not got.endswith(b"\n"):
            session.got = got
            return False
        # The last line is the tagged one, which IMAP's untagged ones stand before.
        last = got[got.rfind(b"\n", 0, -1) + 1 :]
        expected = self._greeting if step < 0 else session.steps[step][1]
        if not last.startswith(expected):
            if last.startswith(b"* "):
                session.got = got
                return False
            raise RuntimeError(last.decode(errors="replace").strip())
        session.got = b""
        session.step = step = step + 1
        if step < len(session.steps):
            session.connection.send(session.steps[step][0])
        else:
            session.step = step - 1
        return False


def main(arguments: list[str]) -> int:
    """The command; 1 when nobody got in."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--protocol", choices=("pop3", "imap"), default="pop3")
    parser.add_argument("--user", default="u%d@bench.test", help="%%d becomes a number")
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warm", type=float, default=1.0)
    parser.add_argument("--tls", action="store_true", help="TLS from the first byte")
    parser.add_argument(
        "--sasl", action="store_true", help="AUTH PLAIN in place of name and password"
    )
    options = parser.parse_args(arguments)
    password = sys.stdin.readline().rstrip("\n")
    names = [options.user.replace("%d", str(number)) for number in range(options.users)]
    logins = Logins(
        options.port,
        [steps(options.protocol, options.sasl, name, password) for name in names],
        greeting=b"+OK" if options.protocol == "pop3" else b"* OK",
        width=options.clients,
        most=options.count,
        seconds=options.seconds,
        warm=options.warm,
        tls=options.tls,
    )
    logins.run()
    result = logins.result()
    print(json.dumps(result), flush=True)
    return 0 if result["accepted"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
