"""IMAP tests as transcripts, on the simulated network, with mailboxes in memory.

    def test_noop() -> None:
        dialogue = Dialogue()
        dialogue.login()
        dialogue.account.deliver(MESSAGE)
        dialogue.run('''
            C: a1 SELECT INBOX
            S: * 1 EXISTS
            S: ...
            S: a1 OK [READ-WRITE] ...
        ''')

Lines that the client says begin with ``C:``, the server's with ``S:``; a line without either goes on with the one
above (a literal's text). ``...`` in a server's line stands for anything within the line; ``S: ...`` alone for any
number of lines; ``{name}`` for a word that is remembered and can be said later as ``{name}`` by either side. ``C+:``
is what the client sends without a line end. All that the server says must be in the transcript.

Several sessions on one account: ``other = dialogue.session()``; ``other.login()``.
"""

from __future__ import annotations

import re
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

from twisted_mail.connection.limits import ConnectionLimits
from twisted_mail.imap.protocol import ImapFactory, ImapSettings
from twisted_mail.status import MailError
from twisted_mail.testing import SimulatedWorld, simulated_world
from twisted_mail.testing.mailboxes import MemoryAccount

__all__ = ["MESSAGE", "Authenticator", "Dialogue"]

MESSAGE = b"From: <bob@example.org>\nSubject: hello\n\nHello.\n"


class Authenticator:
    """alice's password is "secret", by any mechanism that sends it in two base64 words of PLAIN."""

    def __init__(self, account: Any) -> None:
        self.account = account
        self.logouts = 0

    def mechanisms(self) -> tuple[str, ...]:
        return ("PLAIN",)

    def exchange(self, mechanism: str, client_ip: str) -> Any:
        async def step(response: bytes | None) -> Any:
            if response is None:
                return b""
            parts = response.split(b"\0")
            if len(parts) != 3:
                raise MailError(501, "5.5.2", "Malformed authentication response", pop3="AUTH")
            name, password = (part.decode(errors="replace") for part in parts[1:])
            return await self.login(name, password, client_ip)

        return SimpleNamespace(step=step)

    async def login(self, username: str, password: str, client_ip: str) -> Any:
        if (username, password) != ("alice", "secret"):
            raise MailError(535, "5.7.8", "Authentication credentials invalid", pop3="AUTH")

        def logout() -> None:
            self.logouts += 1

        return SimpleNamespace(account=self.account, logout=logout)


class Dialogue:
    """One client. Keywords that `ImapSettings` has go there; `account` may be any `IAccount`."""

    def __init__(
        self,
        account: Any = None,
        *,
        world: SimulatedWorld | None = None,
        factory: ImapFactory | None = None,
        tls: Any = None,
        implicit_tls: bool = False,
        address: str = "127.0.0.1",
        bounds: Any = None,
        **settings: Any,
    ) -> None:
        self.world = world or simulated_world()
        self.account = account if account is not None else MemoryAccount(now=self.world.now)
        if factory is None:
            settings.setdefault("allow_plaintext_loopback", True)
            self.authenticator: Any = Authenticator(self.account)
            factory = ImapFactory(
                self.world,
                ImapSettings("mail.example.org", **settings),
                self.authenticator,
                limits=ConnectionLimits(1000, 1000),
                tls=tls,
                implicit_tls=implicit_tls,
                bounds=bounds,
            )
        self.factory = factory
        self.address = address
        self.words: dict[str, bytes] = {}
        self.client = self.world.reactor.connect(factory, address=address)
        self.greeting = b"" if implicit_tls else self.client.read()

    def session(self) -> Dialogue:
        """Another client of the same account."""
        other = Dialogue(self.account, world=self.world, factory=self.factory, address=self.address)
        other.words = self.words
        return other

    def login(self, select: str = "") -> None:
        """In, and perhaps with a mailbox selected."""
        assert b"login OK" in self.ask(b"login LOGIN alice secret\r\n")
        if select:
            assert b"select OK" in self.ask(b"select SELECT %s\r\n" % select.encode())

    def ask(self, data: bytes) -> bytes:
        """What the server says to `data`."""
        return self.client.ask(data)

    def lines(self, command: bytes) -> list[bytes]:
        """The lines that answer one command (without its line end)."""
        return self.ask(command + b"\r\n").splitlines()

    def later(self, seconds: float) -> bytes:
        """What it says while so much time passes."""
        self.world.reactor.advance(seconds)
        return self.client.read()

    @property
    def server_session(self) -> Any:
        """The one session there is, or the newest."""
        return max(self.factory.connections, key=lambda one: one._since)._session

    def run(self, transcript: str) -> None:
        """Play it; AssertionError with both texts where the server says something else."""
        self._expected: list[bytes] = []
        said = b""
        for who, text in _turns(transcript):
            if who == "S":
                self._expected.append(text)
                continue
            said = self._compare(said)
            text = self._with_words(text)
            said += self.ask(text if who == "C+" else text + b"\r\n")
        self._compare(said)

    def _compare(self, said: bytes) -> bytes:
        """Check what is expected so far against all that was said."""
        said += self.client.read()
        expected, self._expected = self._expected, []
        pattern = b"".join(self._pattern(text) for text in expected)
        found = re.fullmatch(pattern, said, re.DOTALL)
        assert found, "expected:\n{}\nsaid:\n{}".format(
            b"\n".join(expected).decode(), said.replace(b"\r\n", b"\n").decode("utf-8", "replace")
        )
        self.words.update({name: word for name, word in found.groupdict().items() if word})
        return b""

    def _pattern(self, text: bytes) -> bytes:
        if text == b"...":
            return rb"(?:[^\n]*\r\n)*?"
        made = b""
        for part in re.split(rb"(\.\.\.|\{[a-z]\w*\})", text):
            name = part[1:-1].decode() if part[:1] == b"{" and part[1:2].isalpha() else ""
            if part == b"...":
                made += rb"[^\r\n]*?"
            elif name and name in self.words:
                made += re.escape(self.words[name])
            elif name:
                made += rb"(?P<%s>[^\s()\[\]]+)" % name.encode()
            else:
                made += re.escape(part.replace(b"\n", b"\r\n"))
        return made + b"\r\n"

    def _with_words(self, text: bytes) -> bytes:
        for name, word in self.words.items():
            text = text.replace(b"{%s}" % name.encode(), word)
        return text.replace(b"\n", b"\r\n")


def _turns(transcript: str) -> list[tuple[str, bytes]]:
    turns: list[tuple[str, bytes]] = []
    for line in dedent(transcript).strip("\n").split("\n"):
        who, colon, text = line.partition(":")
        if colon and who in ("C", "C+", "S"):
            turns.append((who, text.removeprefix(" ").encode()))
        elif line.strip() or turns:
            who, text_before = turns[-1]
            turns[-1] = (who, text_before + b"\n" + line.encode())
    while turns and turns[-1][1].endswith(b"\n"):
        turns[-1] = (turns[-1][0], turns[-1][1][:-1])
    return turns
