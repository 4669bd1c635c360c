"""A mail server of another make, elsewhere: it takes mail, or greylists it, or will not have it."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver

from .world import SimulatedWorld

__all__ = ["Elsewhere"]

GREYLISTED = 600.0


class Elsewhere(Factory[Any]):
    """On port 25 of the machine of `world`. Of its users, `yes` gets what comes, `later` after ten minutes, `never`
    nothing.

    `taken`: how often each letter has come, by (recipient, token). `contents`: what it was, by token.
    """

    noisy = False

    def __init__(self, world: SimulatedWorld, seed: int) -> None:
        self.taken: Counter[tuple[str, str]] = Counter()
        self.contents: dict[str, set[bytes]] = {}
        self._world = world
        self._random = Random(seed)
        self._first: dict[str, float] = {}
        world.reactor.listenTCP(25, self)

    def buildProtocol(self, addr: object) -> _Foreign:
        return _Foreign(self)

    def verdict(self, recipient: str) -> bytes:
        name = recipient.partition("@")[0]
        if name == "never":
            return b"550 5.1.1 nobody here"
        now = self._world.now()
        first = self._first.setdefault(recipient, now)
        if name == "later" and (now - first < GREYLISTED or self._random.random() < 0.3):
            return b"451 4.7.1 later, please"
        return b"250 2.1.5 ok"


class _Foreign(LineReceiver):
    MAX_LENGTH = 100_000

    def __init__(self, site: Elsewhere) -> None:
        self._site = site
        self._recipients: list[str] = []
        self._token: str | None = None
        self._content = False
        self._lines: list[bytes] = []

    def connectionMade(self) -> None:
        self._say(b"220 mx.away.example ESMTP")

    def lineReceived(self, line: bytes) -> None:
        if self._content:
            self._read(line)
            return
        verb = line[:4].upper()
        if verb == b"EHLO":
            self._say(b"250-mx.away.example\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES")
        elif verb == b"RCPT":
            recipient = line.partition(b"<")[2].partition(b">")[0].decode()
            reply = self._site.verdict(recipient)
            if reply.startswith(b"250"):
                self._recipients.append(recipient)
            self._say(reply)
        elif verb == b"DATA":
            self._content = bool(self._recipients)
            self._say(b"354 go on" if self._content else b"554 5.5.1 no valid recipients")
        elif verb == b"QUIT":
            self._say(b"221 2.0.0 bye")
            transport: Any = self.transport
            transport.loseConnection()
        else:
            if verb in (b"MAIL", b"RSET"):
                self._recipients.clear()
            self._say(b"250 2.0.0 ok")

    def _read(self, line: bytes) -> None:
        if line != b".":
            # RFC 5321 section 4.5.2
            self._lines.append(line.removeprefix(b"."))
            if line.startswith(b"X-Token: "):
                self._token = line[9:].decode()
            return
        content = b"\r\n".join([*self._lines, b""])
        self._lines.clear()
        self._site.contents.setdefault(self._token or "", set()).add(content)
        for one in self._recipients:
            self._site.taken[one, self._token or ""] += 1
        self._recipients, self._token, self._content = [], None, False
        self._say(b"250 2.0.0 taken")

    def _say(self, line: bytes) -> None:
        self.sendLine(line)  # type: ignore[no-untyped-call]
