"""Two sites of this server in one simulated world, the DNS between them, and a foreign server that greylists."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver

from twisted_mail.disk import Disk
from twisted_mail.storage.queued import State
from twisted_mail.storage.spool_view import Filter, Listed
from twisted_mail.testing import Client, MailServer, SimulatedWorld, simulated_world
from twisted_mail.testing.disk import HookedDisk
from twisted_mail.testing.dns import FakeResolver, Zone

PASSWORD = "secret"
ALICE, BOB = "alice@one.example", "bob@two.example"
ONE, TWO, OTHER = "192.0.2.10", "192.0.2.20", "192.0.2.30"


def make_zone() -> Zone:
    """one.example and two.example, each with its server."""
    return Zone(
        {
            "one.example": {"MX": [(10, "mx.one.example")]},
            "mx.one.example": {"A": [ONE]},
            "two.example": {"MX": [(10, "mx.two.example")]},
            "mx.two.example": {"A": [TWO]},
        }
    )


class Site:
    """One server and its machine. `start` and `kill` as often as one likes: the directory stays."""

    server: MailServer

    def __init__(self, root: SimulatedWorld, directory: Path, user: str, address: str) -> None:
        self.root = root
        self.user = user
        self.domain = user.partition("@")[2]
        self.address = address
        self.directory = directory / self.domain
        self.world = root
        self.up = False
        self.queue: dict[str, Any] = {}
        self.more: dict[str, Any] = {}
        """Further tables of the configuration."""
        self.resolver: FakeResolver | None = None
        """What this site sees of the DNS; None: what all see."""

    def start(self, disk: Disk | None = None) -> Site:
        """Raises what `MailServer.start` does."""
        users = {} if self.directory.exists() else {self.user: PASSWORD}
        self.world = self.root.at(self.address, disk=disk, resolver=self.resolver)
        self.server = self.root.run(
            MailServer.start(
                self.world,
                users=users,
                hostname=f"mx.{self.domain}",
                directory=self.directory,
                configuration={
                    "listen": {
                        "smtp": ["tcp:25"],
                        "submissions": ["tcp:465"],
                        "pop3s": ["tcp:995"],
                    },
                    "queue": self.queue,
                    **self.more,
                },
            )
        )
        self.up = True
        return self

    def stop(self) -> None:
        self.up = False
        self.root.run(self.server.stop())

    def kill(self) -> None:
        self.up = False
        self.server.kill()

    def dial(self, port: int) -> Client:
        """A client that speaks TLS from the start, as at 465 and 995."""
        # Its own address is loopback, so that the faults of the site's are not between them.
        client = self.world.reactor.connect(port, address="127.0.0.1")
        client.start_tls(self.server.ca.read_bytes(), f"mx.{self.domain}")
        return client

    def submit(self, *recipients: str, subject: str = "hello") -> bytes:
        """The user logs in over TLS and writes; the last reply, b"" when there was none."""
        client = self.begin(*recipients, subject=subject)
        self.root.reactor.advance(0.1)
        return (client.read().splitlines() or [b""])[-1]

    def begin(self, *recipients: str, subject: str = "hello") -> Client:
        """The same up to the last dot, which is on its way."""
        client = self.dial(465)
        login = base64.b64encode(f"\0{self.user}\0{PASSWORD}".encode())
        client.ask(b"EHLO laptop.example\r\n")
        assert client.ask(b"AUTH PLAIN " + login + b"\r\n").startswith(b"235 ")
        said = client.ask(
            f"MAIL FROM:<{self.user}>\r\n".encode()
            + b"".join(f"RCPT TO:<{one}>\r\n".encode() for one in recipients)
            + b"DATA\r\n"
        )
        assert said.splitlines()[-1].startswith(b"354 "), said
        text = f"From: <{self.user}>\r\nSubject: {subject}\r\n\r\nDear reader,\r\nhello.\r\n.\r\n"
        assert client._transport.tls is not None
        client._transport.write(text.encode())
        return client

    def subjects(self) -> list[str]:
        """Of all messages in the user's inbox."""
        found = []
        for message in self.server.messages(self.user):
            match = re.search(rb"^Subject: (.*)$", message, re.MULTILINE)
            assert match is not None
            found.append(match[1].decode())
        return found

    def fetch(self) -> list[bytes]:
        """All that the user gets by POP3 over TLS."""
        reader = self.dial(995)
        reader.ask(f"USER {self.user}\r\n".encode())
        assert reader.ask(f"PASS {PASSWORD}\r\n".encode()).startswith(b"+OK")
        count = int(reader.ask(b"STAT\r\n").split()[1])
        messages = []
        for number in range(1, count + 1):
            answer = reader.ask(f"RETR {number}\r\n".encode())
            head, _, rest = answer.partition(b"\r\n")
            assert head.startswith(b"+OK") and rest.endswith(b"\r\n.\r\n")
            messages.append(rest[:-3])
        reader.ask(b"QUIT\r\n")
        return messages

    # The queue

    @property
    def _view(self) -> Any:
        store: Any = self.server._service.rooms.store
        return store.queue.view

    def waiting(self) -> list[Listed]:
        """Recipients that are not over."""
        page: list[Listed] = self._view.page(Filter())
        return page

    def attempts(self) -> list[str]:
        """What every try came to, of all messages that the queue knows, in the order of time."""
        everything = self._view.page(Filter(states=tuple(State)))
        stories = [self._view.story(one) for one in dict.fromkeys(row.id for row in everything)]
        tries = sorted((attempt for story in stories for attempt in story.attempts), key=_time)
        return [attempt.text for attempt in tries]


def _time(attempt: Any) -> float:
    return float(attempt.at)


class Sites:
    """The world with both sites, up and settled."""

    def __init__(self, directory: Path, *, seed: int = 0, **queue: Any) -> None:
        self.zone = make_zone()
        self.resolver = FakeResolver(self.zone)
        self.world = simulated_world(seed=seed, resolver=self.resolver, disk=HookedDisk())
        self.one = Site(self.world, directory, ALICE, ONE)
        self.two = Site(self.world, directory, BOB, TWO)
        for site in (self.one, self.two):
            site.queue = queue
            site.start()

    def advance(self, seconds: float) -> None:
        self.world.reactor.advance(seconds)

    def until_all_is_sent(self, within: float = 5 * 3600.0) -> float:
        """Let time pass until no queue has anything left."""
        return self.until(lambda: not self.one.waiting() and not self.two.waiting(), within)

    def until(self, done: Any, within: float) -> float:
        """Let time pass in steps of a second until `done()`; how long it took. AssertionError when it is not."""
        begun = self.world.now()
        while not done():
            assert self.world.now() - begun < within, "it does not come to an end"
            self.advance(1)
        return self.world.now() - begun

    def stop(self) -> None:
        for site in (self.one, self.two):
            if site.up:
                site.stop()


class Foreigner(LineReceiver):
    """A small server of another make. `factory.verdict(recipient)` is its reply to RCPT."""

    factory: Any

    def connectionMade(self) -> None:
        self.recipients: list[str] = []
        self.letter: list[bytes] | None = None
        self.sendLine(b"220 mx.other.example ESMTP")

    def lineReceived(self, line: bytes) -> None:
        if self.letter is not None:
            if line != b".":
                self.letter.append(line)
                return
            self.factory.taken += [(one, self.letter) for one in self.recipients]
            self.letter, self.recipients = None, []
            self.sendLine(b"250 2.0.0 taken")
            return
        verb = line[:4].upper()
        if verb == b"EHLO":
            self.sendLine(b"250-mx.other.example\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES")
        elif verb == b"RCPT":
            recipient = line.partition(b"<")[2].partition(b">")[0].decode()
            reply = self.factory.verdict(recipient)
            if reply.startswith("250"):
                self.recipients.append(recipient)
            self.sendLine(reply.encode())
        elif verb == b"DATA" and self.recipients:
            self.letter = []
            self.sendLine(b"354 go on")
        elif verb == b"DATA":
            self.sendLine(b"554 5.5.1 no valid recipients")
        elif verb == b"QUIT":
            self.sendLine(b"221 2.0.0 bye")
            self.transport.loseConnection()
        else:
            self.sendLine(b"250 2.0.0 ok")


class Greylisting(Factory):
    """Takes a recipient's mail only `seconds` after it first came."""

    protocol = Foreigner
    noisy = False

    def __init__(self, world: SimulatedWorld, seconds: float = 0) -> None:
        self.taken: list[tuple[str, list[bytes]]] = []
        self.asked: list[float] = []
        self._world = world
        self._seconds = seconds
        self._first: dict[str, float] = {}

    def verdict(self, recipient: str) -> str:
        now = self._world.now()
        self.asked.append(now)
        if now - self._first.setdefault(recipient, now) < self._seconds:
            return "451 4.7.1 Greylisted, try again in five minutes"
        return "250 2.1.5 ok"
