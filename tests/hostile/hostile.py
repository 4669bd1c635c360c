"""What these tests share: bounds on work that no other program's load can break, and a server to be talked to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted_mail.testing import Client, MailServer, SimulatedWorld, simulated_world

ALICE, BOB, PASSWORD = "alice@example.org", "bob@example.org", "secret"


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Of this thread's own CPU: several times what it takes, and a part of what it took when it was wrong."""
    began = time.thread_time()
    yield
    took = time.thread_time() - began
    assert took < seconds, f"{took:.1f} s of CPU"


class Site:
    """A whole server in a simulated world, with alice and bob."""

    def __init__(self, directory: Path, **configuration: Any) -> None:
        self.world: SimulatedWorld = simulated_world()
        more = {
            "imap": {"allow_plaintext_loopback": True},
            "pop3": {"allow_plaintext_loopback": True},
            **configuration,
        }
        self.server: MailServer = self.world.run(
            MailServer.start(
                self.world,
                users={ALICE: PASSWORD, BOB: PASSWORD},
                directory=directory,
                configuration=more,
            )
        )

    def connect(self, service: str = "smtp") -> Client:
        # Passwords go in clear within a machine only
        address = "192.0.2.9" if service == "smtp" else "127.0.0.1"
        client: Client = self.world.reactor.connect(self.server.ports[service], address=address)
        return client

    def smtp(self, *recipients: str, sender: str = "carol@elsewhere.example") -> Client:
        """In a transaction: DATA or BDAT is next."""
        client = self.connect()
        client.ask(b"EHLO client.example\r\n")
        said = client.ask(b"MAIL FROM:<%b>\r\n" % sender.encode())
        for one in recipients:
            said += client.ask(b"RCPT TO:<%b>\r\n" % one.encode())
        assert said and all(line[:3] == b"250" for line in said.splitlines()), said
        return client

    def imap(self, user: str = ALICE) -> Client:
        client = self.connect("imap")
        client.read()
        said = client.ask(
            b"l LOGIN %b %b\r\ns SELECT INBOX\r\n" % (user.encode(), PASSWORD.encode())
        )
        assert b"s OK" in said, said
        return client

    def pop3(self, user: str = ALICE) -> Client:
        client = self.connect("pop3")
        client.read()
        said = client.ask(b"USER %b\r\nPASS %b\r\n" % (user.encode(), PASSWORD.encode()))
        assert said.count(b"+OK") == 2, said
        return client

    def maildir(self, user: str = ALICE) -> Path:
        local, _, domain = user.partition("@")
        return self.server.directory / "data" / "mail" / domain / local / "Maildir"

    def stop(self) -> None:
        self.world.run(self.server.stop())
