"""An SMTP load generator: one process, raw non-blocking sockets, every byte built beforehand.

    python bench/load.py --port 2525 --domain bench.test --users 20 --sessions 20 --seconds 5
    python bench/load.py --port 2525 ... --new           a new connection for each message
    python bench/load.py --port 2525 ... --pipelined     MAIL, RCPT and DATA in one packet

It is bounded by a number of messages and by a time, whichever comes first; messages under way are
finished, within a grace. The result is one line of JSON, written the moment the last reply is in.
Without --pipelined a session sends one command and waits for its reply. A message's latency is from
its first byte (a new connection: from connect) to the reply to its final dot. A reply of an
unexpected kind counts as refused and the session starts on a new connection.

It does not look whether the mail arrived: run.py does. What it can do itself is shown by a run
against sink.py.
"""

from __future__ import annotations

import argparse
import json
import random
import select
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from measure import percentile

__all__ = ["Load", "main", "message"]

_GRACE = 8.0
_MOST_REFUSED = 50
_SAMPLE = 10_000
"""How many of more users than that get mail, when they are taken by chance."""

GREETING, HELLO, MAIL, RCPT, DATA, BODY, QUIT = range(7)
_EXPECTED = b"2", b"2", b"2", b"2", b"3", b"2", b"2"


def message(size: int, domain: str) -> bytes:
    """A message of `size` octets as sent in DATA: header, text lines, some of which are
    dot-stuffed; no final dot.
    """
    header = (
        f"From: Load <load@{domain}>\r\nTo: Somebody <somebody@{domain}>\r\n"
        "Subject: A message to measure with\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n"
        f"Message-ID: <load@{domain}>\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=us-ascii\r\n\r\n"
    ).encode()
    text = b"It was a bright cold day in April, and the clocks were striking thirteen.\r\n"
    block = text * 9 + b"..and a line with a dot\r\n"
    whole = header + block * (size // len(block) + 1)
    # a fixed last line: wherever the cut falls, it can make neither a bare CR nor a lone dot
    return whole[: size - 6].rstrip(b"\r\n").ljust(size - 6, b"-") + b"End.\r\n"


@dataclass(slots=True)
class _Session:
    """One client: its socket, what reply it waits for, and what it has not got rid of."""

    number: int
    connection: socket.socket
    step: int = GREETING
    replies: int = 1
    began: float = 0.0
    got: bytes = b""
    unsent: bytes = b""
    sent: int = 0


class Load:
    """Runs the sessions; `result()` says how it went."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._address = (options.host, options.port)
        self._new: bool = options.new
        self._pipelined: bool = options.pipelined
        self._count: int = options.count
        self._seconds: float = options.seconds
        self._hello = f"EHLO load.{options.domain}\r\n".encode()
        self._mail = f"MAIL FROM:<load@{options.domain}>\r\n".encode()
        numbers: Sequence[int] = range(options.users)
        if options.random and options.users > _SAMPLE:
            numbers = random.Random(2).sample(numbers, _SAMPLE)
        self._rcpts = [
            f"RCPT TO:<{options.user}{n}@{options.domain}>\r\n".encode() for n in numbers
        ]
        # the same recipients in every run
        self._random = random.Random(1) if options.random else None
        self._body = message(options.size, options.domain) + b".\r\n"
        self._epoll = select.epoll()
        self._sessions: dict[int, _Session] = {}
        self._started = 0
        self._latencies: list[float] = []
        self._refused = 0
        self._refusal = ""
        self._begin = self._end = self._cpu = 0.0
        self._width: int = options.sessions

    def run(self) -> None:
        """Send until the count, the time or the number of refusals is reached."""
        self._begin = time.monotonic()
        self._end = self._begin
        cpu = time.process_time()
        for number in range(self._width):
            self._connect(number)
        stop = self._begin + self._seconds + _GRACE
        while self._sessions and time.monotonic() < stop:
            for fd, mask in self._epoll.poll(0.25):
                session = self._sessions[fd]
                if mask & select.EPOLLOUT and session.unsent:
                    self._push(session)
                if mask & ~select.EPOLLOUT:
                    self._readable(session)
        for session in list(self._sessions.values()):
            self._refuse(session, "no reply within the grace")
        self._cpu = time.process_time() - cpu
        self._epoll.close()

    def result(self) -> dict[str, float | int | str]:
        """`begin` and `end` are of the machine's monotonic clock; latencies are milliseconds."""
        return {
            "accepted": len(self._latencies),
            "refused": self._refused,
            "refusal": self._refusal,
            "begin": self._begin,
            "end": self._end,
            "p50": percentile(self._latencies, 0.50) * 1000,
            "p99": percentile(self._latencies, 0.99) * 1000,
            "max": max(self._latencies, default=0.0) * 1000,
            "cpu": self._cpu,
        }

    def _more(self) -> bool:
        return (
            self._started < self._count
            and self._refused < _MOST_REFUSED
            and time.monotonic() < self._begin + self._seconds
        )

    def _connect(self, number: int) -> None:
        """Open a connection for the next message, if there is to be one."""
        if not self._more():
            return
        began = time.monotonic()
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.connect_ex(self._address)
        session = _Session(number, connection, began=began)
        self._sessions[connection.fileno()] = session
        self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _close(self, session: _Session) -> None:
        fd = session.connection.fileno()
        self._epoll.unregister(fd)
        del self._sessions[fd]
        session.connection.close()

    def _refuse(self, session: _Session, why: str) -> None:
        self._refused += 1
        self._refusal = self._refusal or why
        self._close(session)

    def _send(self, session: _Session, step: int, data: bytes, replies: int = 1) -> None:
        session.step = step
        session.replies = replies
        try:
            sent = session.connection.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the reading side will tell
        if sent < len(data):
            session.unsent = data
            session.sent = sent
            self._epoll.modify(session.connection.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _push(self, session: _Session) -> None:
        try:
            session.sent += session.connection.send(memoryview(session.unsent)[session.sent :])
        except OSError:
            return
        if session.sent == len(session.unsent):
            session.unsent = b""
            self._epoll.modify(session.connection.fileno(), select.EPOLLIN)

    def _readable(self, session: _Session) -> None:
        try:
            data = session.connection.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self._refuse(session, str(error))
            self._connect(session.number)
            return
        if not data:
            if session.step == QUIT:
                self._close(session)
            else:
                self._refuse(session, f"closed in step {session.step}")
            self._connect(session.number)
            return
        got = session.got + data
        session.got = got
        if not got.endswith(b"\n"):
            return
        last = got.rfind(b"\n", 0, -1) + 1
        if got[last + 3 : last + 4] == b"-":
            return
        if session.replies > 1:
            finals = [line for line in got.splitlines() if line[3:4] != b"-"]
            if len(finals) < session.replies and finals[-1][:1] in b"23":
                return
        session.got = b""
        if got[last : last + 1] != _EXPECTED[session.step]:
            self._refuse(session, got[last:].decode(errors="replace").strip())
            self._connect(session.number)
            return
        self._next(session)

    def _next(self, session: _Session) -> None:
        """The reply to the current step is good: take the next."""
        step = session.step
        if step == GREETING:
            self._send(session, HELLO, self._hello)
        elif step == HELLO:
            self._transaction(session)
        elif step == MAIL:
            self._send(session, RCPT, self._rcpt(session))
        elif step == RCPT:
            self._send(session, DATA, b"DATA\r\n")
        elif step == DATA:
            self._send(session, BODY, self._body)
        elif step == BODY:
            self._end = time.monotonic()
            self._latencies.append(self._end - session.began)
            if self._new or not self._more():
                self._send(session, QUIT, b"QUIT\r\n")
            else:
                session.began = self._end
                self._transaction(session)
        else:
            self._close(session)
            self._connect(session.number)

    def _rcpt(self, session: _Session) -> bytes:
        if self._random is not None:
            return self._rcpts[self._random.randrange(len(self._rcpts))]
        return self._rcpts[self._started % len(self._rcpts)]

    def _transaction(self, session: _Session) -> None:
        self._started += 1
        if self._pipelined:
            self._send(session, DATA, self._mail + self._rcpt(session) + b"DATA\r\n", 3)
        else:
            self._send(session, MAIL, self._mail)


def main(arguments: list[str]) -> int:
    """The command; 1 when nothing was accepted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--domain", default="bench.test")
    parser.add_argument("--user", default="u", help="local parts are this and a number")
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--size", type=int, default=4096, help="octets of a message")
    parser.add_argument("--new", action="store_true", help="a new connection for each message")
    parser.add_argument("--random", action="store_true", help="users by chance, not in turn")
    parser.add_argument("--pipelined", action="store_true", help="MAIL, RCPT, DATA together")
    load = Load(parser.parse_args(arguments))
    load.run()
    result = load.result()
    print(json.dumps(result), flush=True)
    return 0 if result["accepted"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
