"""A milter for tests, the filter's side of the protocol: it answers what the test wants, and keeps what it was told.

    milter = FakeMilter({"R": [reply("550 5.7.1 Not here")], "E": [add_header("X-Seen", "yes") + CONTINUE]})
    world.at("192.0.2.50").reactor.listenTCP(8891, milter)
    ...
    assert milter.told("M") == [b"<alice@example.org>\\0"]

An answer is the bytes of one packet, or of several; a list of them answers each command of its letter; `script` maps
letters to such lists, or to a function of the command's data. What is not scripted gets `CONTINUE`, or nothing where
the filter said that it does not answer.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

__all__ = [
    "ACCEPT",
    "CLOSE",
    "CONTINUE",
    "DISCARD",
    "HANG",
    "PROGRESS",
    "REJECT",
    "SKIP",
    "TEMPFAIL",
    "FakeMilter",
    "add_header",
    "add_recipient",
    "change_header",
    "change_sender",
    "delete_recipient",
    "insert_header",
    "options",
    "packet",
    "quarantine",
    "replace_body",
    "reply",
]


def packet(command: bytes, data: bytes = b"") -> bytes:
    """One packet."""
    return struct.pack(">I", len(data) + 1) + command + data


CONTINUE = packet(b"c")
ACCEPT = packet(b"a")
DISCARD = packet(b"d")
REJECT = packet(b"r")
TEMPFAIL = packet(b"t")
SKIP = packet(b"s")
PROGRESS = packet(b"p")
HANG = b""
"""No answer, ever."""
CLOSE = b"close"
"""The connection is closed instead."""

_NO_ANSWER = {
    "C": 0x1000,
    "H": 0x2000,
    "M": 0x4000,
    "R": 0x8000,
    "T": 0x10000,
    "L": 0x80,
    "N": 0x40000,
    "B": 0x80000,
}


def options(
    *, version: int = 6, actions: int = 0x1FF, steps: int = 0, macros: Mapping[int, str] = {}
) -> bytes:
    """An answer to the negotiation. `macros`: number of the stage → names that are wanted there."""
    lists = b"".join(
        struct.pack(">I", number) + names.encode() + b"\0" for number, names in macros.items()
    )
    return packet(b"O", struct.pack(">III", version, actions, steps) + lists)


def reply(text: str) -> bytes:
    """``550 5.7.1 text``, with CRLF between lines."""
    return packet(b"y", text.encode() + b"\0")


def add_header(name: str, value: str) -> bytes:
    return packet(b"h", _strings(name, value))


def insert_header(index: int, name: str, value: str) -> bytes:
    return packet(b"i", struct.pack(">I", index) + _strings(name, value))


def change_header(n: int, name: str, value: str) -> bytes:
    """An empty value deletes."""
    return packet(b"m", struct.pack(">I", n) + _strings(name, value))


def add_recipient(address: str, *parameters: str) -> bytes:
    return packet(b"2" if parameters else b"+", _strings(address, *parameters))


def delete_recipient(address: str) -> bytes:
    return packet(b"-", _strings(address))


def change_sender(address: str, *parameters: str) -> bytes:
    return packet(b"e", _strings(address, *parameters))


def replace_body(block: bytes) -> bytes:
    return packet(b"b", block)


def quarantine(reason: str) -> bytes:
    return packet(b"q", _strings(reason))


def _strings(*texts: str) -> bytes:
    return b"".join(text.encode() + b"\0" for text in texts)


Answers = Sequence[bytes] | Callable[[bytes], bytes]


class FakeMilter(Factory):
    """A factory for `listenTCP` or `listenUNIX`. `offer`: its answer to the negotiation."""

    noisy = False

    def __init__(
        self, script: Mapping[str, Answers] | None = None, offer: bytes | None = None
    ) -> None:
        self.script: dict[str, Answers] = dict(script or {})
        self.offer = options() if offer is None else offer
        self.commands: list[tuple[str, bytes]] = []
        """All that it was told, by all connections: (letter, data). Macros are under ``D``."""
        self.connections: list[Any] = []
        self.open = 0

    def told(self, letter: str) -> list[bytes]:
        """The data of every command with this letter."""
        return [data for command, data in self.commands if command == letter]

    @property
    def letters(self) -> str:
        """The commands in their order, without macros."""
        return "".join(letter for letter, _ in self.commands if letter != "D")

    def macros(self, letter: str) -> dict[str, str]:
        """The macros of the last command with this letter, their names without braces."""
        found = [data for data in self.told("D") if data[:1] == letter.encode()]
        words = found[-1][1:].split(b"\0")[:-1] if found else []
        return dict(
            zip(
                (w.decode().strip("{}") for w in words[::2]),
                (w.decode() for w in words[1::2]),
                strict=True,
            )
        )

    def buildProtocol(self, addr: Any) -> Protocol:
        protocol = _Connection(self)
        self.connections.append(protocol)
        return protocol


class _Connection(Protocol):
    def __init__(self, milter: FakeMilter) -> None:
        self._milter = milter
        self._buffer = b""
        self._steps = 0
        self._counts: dict[str, int] = {}
        if len(milter.offer) >= 17:
            (self._steps,) = struct.unpack_from(">I", milter.offer, 13)

    def connectionMade(self) -> None:
        self._milter.open += 1

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._milter.open -= 1

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 4:
            (size,) = struct.unpack_from(">I", self._buffer)
            if len(self._buffer) < 4 + size:
                return
            letter, argument = self._buffer[4:5].decode(), self._buffer[5 : 4 + size]
            self._buffer = self._buffer[4 + size :]
            self._milter.commands.append((letter, argument))
            self._answer(letter, argument)

    def _answer(self, letter: str, argument: bytes) -> None:
        if letter in "DAQK":
            return
        answer = self._milter.offer if letter == "O" else self._scripted(letter, argument)
        transport: Any = self.transport
        if answer == CLOSE:
            transport.loseConnection()
        elif answer:
            transport.write(answer)

    def _scripted(self, letter: str, argument: bytes) -> bytes:
        answers = self._milter.script.get(letter)
        if answers is None:
            return b"" if self._steps & _NO_ANSWER.get(letter, 0) else CONTINUE
        if callable(answers):
            return answers(argument)
        n = self._counts.get(letter, 0)
        self._counts[letter] = n + 1
        return answers[min(n, len(answers) - 1)]
