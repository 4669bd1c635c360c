"""An IMAP client to measure with: it sends, reads to the tagged line, and looks at the answer afterwards."""

from __future__ import annotations

import re
import select
import socket
import ssl
import time
from collections.abc import Callable

__all__ = ["Client", "beside", "fetched", "many"]

_PATIENCE = 300.0
_CONTINUE = b"+ "


class Client:
    """One connection, blocking, each wait bounded. What is not answered OK raises RuntimeError."""

    def __init__(self, port: int, *, tls: bool = False, room: int = 65_536) -> None:
        plain = socket.create_connection(("127.0.0.1", port), _PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = plain
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            # whoever measures trusts the server he has just started
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.socket = context.wrap_socket(plain)
        self._buffer = bytearray(room)
        self._size = 0
        self._number = 0
        self._tag = b""
        self.line()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def login(self, user: str, password: str) -> None:
        self.command(f'LOGIN "{user}" "{password}"')

    def command(self, line: str) -> bytes:
        """The answer, tagged line included."""
        return self.timed(line)[1]

    def timed(self, line: str) -> tuple[float, bytes]:
        """The seconds from the first byte sent to the last one read, and the answer."""
        began = time.perf_counter()
        self.send(line.encode())
        while not self.receive():
            pass
        taken = time.perf_counter() - began
        return taken, self.answer()

    def send(self, line: bytes) -> None:
        """One command; `receive` until it says True, then `answer`."""
        self._number += 1
        self._tag = b"\r\nA%d " % self._number
        self._size = 0
        self.socket.sendall(self._tag[2:] + line + b"\r\n")

    def receive(self) -> bool:
        """Read once; whether the answer is complete."""
        if self._size > len(self._buffer) // 2:
            self._buffer += bytes(len(self._buffer))
        got = self.socket.recv_into(memoryview(self._buffer)[self._size :])
        if not got:
            raise RuntimeError("connection closed")
        self._size += got
        buffer, size = self._buffer, self._size
        if buffer[size - 1] != 10:
            return False
        # the tagged line is the last one, and short
        at = buffer.rfind(self._tag, max(0, size - 4096), size)
        return at >= 0 or buffer.startswith(self._tag[2:])

    def answer(self) -> bytes:
        answer = bytes(memoryview(self._buffer)[: self._size])
        last = answer[answer.rfind(self._tag) + 2 :] if self._tag in answer else answer
        if not last.startswith(self._tag[2:] + b"OK"):
            raise RuntimeError(last[-300:].decode(errors="replace").strip())
        return answer

    def line(self) -> bytes:
        """One that comes without being asked for, or what came with it."""
        got = b""
        while not got.endswith(b"\n"):
            more = self.socket.recv(65_536)
            if not more:
                raise RuntimeError("connection closed")
            got += more
        return got

    def idle(self) -> None:
        """Begin IDLE."""
        self.send(b"IDLE")
        got = b""
        while _CONTINUE not in got:
            got += self.line()

    def done(self) -> None:
        """End it."""
        self.socket.sendall(b"DONE\r\n")
        while not self.receive():
            pass

    def append(self, mailbox: str, message: bytes) -> None:
        self.send(b"APPEND %b {%d+}\r\n%b" % (mailbox.encode(), len(message), message))


def many(clients: list[Client], send: Callable[[Client], None], count: int) -> float:
    """Do `send` on all clients, one at a time on each, `count` times in all: the seconds it took."""
    by_socket = {client.socket: client for client in clients}
    began = time.perf_counter()
    left, pending = count, 0
    for client in clients:
        send(client)
        left, pending = left - 1, pending + 1
    while pending:
        ready = select.select(list(by_socket), [], [], _PATIENCE)[0]
        if not ready:
            raise RuntimeError("no answer")
        for one in ready:
            client = by_socket[one]
            if not client.receive():
                continue
            client.answer()
            pending -= 1
            if left:
                send(client)
                left, pending = left - 1, pending + 1
    return time.perf_counter() - began


def beside(busy: Client, line: str, other: Client) -> tuple[float, float, bytes]:
    """How long `line` took on one connection, the longest that NOOP took meanwhile on another, and the answer."""
    longest = 0.0
    began = asked = time.perf_counter()
    busy.send(line.encode())
    other.send(b"NOOP")
    sockets = [busy.socket, other.socket]
    taken = 0.0
    while True:
        ready = select.select(sockets, [], [], _PATIENCE)[0]
        if not ready:
            raise RuntimeError("no answer")
        if other.socket in ready and other.receive():
            now = time.perf_counter()
            longest = max(longest, now - asked)
            if taken:
                other.answer()
                return taken, longest, busy.answer()
            # an endless run of NOOPs would take the processor away from what is measured
            time.sleep(0.0005)  # noqa: TID251
            asked = time.perf_counter()
            other.send(b"NOOP")
        if busy.socket in ready and busy.receive():
            taken = time.perf_counter() - began
            sockets = [other.socket]


_FETCHED = re.compile(rb"^\* (\d+) FETCH \(", re.MULTILINE)


def fetched(answer: bytes) -> list[int]:
    """The numbers of the messages that are in an answer."""
    return [int(number) for number in _FETCHED.findall(answer)]
