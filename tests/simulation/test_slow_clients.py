"""Who comes slowly, or says the same for ever, is sent away in time: each protocol and phase, in a simulated world.

All clients of the table are there at once; each opens with its dialogue, then sends a piece every ten seconds, or
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from settling import settled

from twisted_mail.accounts.directory import Directory
from twisted_mail.accounts.passwords import Cost, hash_password
from twisted_mail.address import Address
from twisted_mail.config import Config
from twisted_mail.service import MailService
from twisted_mail.testing.world import simulated_world

USERS = [Address(name, "example.org") for name in ("alice", "bob")]
PORTS = {
    "smtp": 25,
    "submission": 587,
    "submissions": 465,
    "pop3": 110,
    "pop3s": 995,
    "imap": 143,
    "imaps": 993,
}
STEP = 10.0
BIG = b"x" * 998 + b"\r\n"


class Slow(NamedTuple):
    """`opening`: what is asked first, each with how its answer begins; `drip`: what is sent every `STEP` seconds, the
    last one over and over; `end`: within how many seconds of the opening it is sent away, and not before `least`."""

    name: str
    port: str
    opening: tuple[tuple[bytes, bytes], ...]
    drip: tuple[bytes, ...]
    end: float
    least: float = 0.0
    reads: bool = True


EHLO = (b"EHLO there\r\n", b"250")
MAIL = (
    EHLO,
    (b"MAIL FROM:<bob@example.net>\r\n", b"250"),
    (b"RCPT TO:<alice@example.org>\r\n", b"250"),
)
POP3 = ((b"USER alice@example.org\r\n", b"+OK"), (b"PASS secret\r\n", b"+OK"))
BOB = ((b"USER bob@example.org\r\n", b"+OK"), (b"PASS secret\r\n", b"+OK"))
IMAP = ((b"a LOGIN alice@example.org secret\r\n", b"* CAPABILITY|a OK"),)
SELECT = (*IMAP, (b"b SELECT INBOX\r\n", b"*"))
LETTERS = tuple(bytes([n]) for n in b"EHLO" * 100)
HELLO = (b"\x16", b"\x03")
# RFC 1951 section 3.2.4: a block that is not compressed, of a line without an end
STORED = b"\0" + (1000).to_bytes(2, "little") + (0xFFFF - 1000).to_bytes(2, "little") + b"x" * 1000
DRIPPED = tuple(STORED[n : n + 1] for n in range(500))

CASES = [
    # TLS: the time of the handshake
    *(Slow(f"{port}, silent before TLS", port, (), (), 30) for port in ("submissions", "pop3s", "imaps")),
    *(Slow(f"{port}, handshake in bytes", port, (), HELLO, 30) for port in ("submissions", "pop3s", "imaps")),
    Slow("smtp, silent after STARTTLS", "smtp", (EHLO, (b"STARTTLS\r\n", b"220")), (), 30),
    Slow("pop3, silent after STLS", "pop3", ((b"STLS\r\n", b"+OK"),), (b"\x16",), 30),
    Slow("imap, silent after STARTTLS", "imap", ((b"a STARTTLS\r\n", b"a OK"),), (b"\x16",), 30),
    # SMTP
    Slow("smtp, silent", "smtp", (), (), 300, 290),
    Slow("smtp, command in bytes", "smtp", (), LETTERS, 300, 290),
    Slow("smtp, NOOP for ever", "smtp", (), (b"NOOP\r\n",), 600, 590),
    Slow("smtp, EHLO for ever", "smtp", (), (b"EHLO there\r\n",), 600, 590),
    Slow("submission, silent", "submission", (EHLO,), (), 300, 290),
    Slow("submission, NOOP for ever", "submission", (EHLO,), (b"NOOP\r\n",), 600, 590),
    Slow("smtp, silent after RCPT", "smtp", MAIL, (), 300, 290),
    Slow("smtp, RSET for ever after RCPT", "smtp", MAIL, (b"RSET\r\n",), 1200, 1000),
    Slow("smtp, silent in DATA", "smtp", (*MAIL, (b"DATA\r\n", b"354")), (), 300, 290),
    Slow("smtp, DATA in bytes", "smtp", (*MAIL, (b"DATA\r\n", b"354")), (b"x",), 310, 290),
    Slow("smtp, DATA in lines", "smtp", (*MAIL, (b"DATA\r\n", b"354")), (b"x" * 98 + b"\r\n",), 320, 300),
    Slow("smtp, DATA that never ends", "smtp", (*MAIL, (b"DATA\r\n", b"354")), (BIG * 6,), 3600, 3590),
    Slow("smtp, BDAT in bytes", "smtp", (*MAIL, (b"BDAT 100000 LAST\r\n", b"")), (b"x",), 310, 290),
    Slow("smtp, silent between chunks", "smtp", (*MAIL, (b"BDAT 1\r\nx", b"250")), (), 300, 290),
    Slow("smtp, chunks for ever", "smtp", (*MAIL, (b"BDAT 1\r\nx", b"250")), (b"BDAT 1\r\nx",), 320, 300),
    # POP3
    Slow("pop3, silent", "pop3", (), (), 600, 590),
    Slow("pop3, command in bytes", "pop3", (), LETTERS, 600, 590),
    Slow("pop3, CAPA for ever", "pop3", (), (b"CAPA\r\n",), 600, 590),
    Slow("pop3, response in bytes", "pop3", ((b"AUTH PLAIN\r\n", b"+ "),), (b"A",), 310, 290),
    Slow("pop3, command in bytes after login", "pop3", POP3, LETTERS, 600, 590),
    # IMAP
    Slow("imap, silent", "imap", (), (), 60, 50),
    Slow("imap, command in bytes", "imap", (), LETTERS, 60, 50),
    Slow("imap, NOOP for ever", "imap", (), (b"a NOOP\r\n",), 600, 590),
    Slow("imap, literal in bytes", "imap", ((b"a LOGIN {1000}\r\n", b"+"),), (b"A",), 60, 50),
    Slow("imap, literal- in bytes", "imap", ((b"a LOGIN {1000+}\r\n", b""),), (b"A",), 60, 50),
    Slow("imap, response in bytes", "imap", ((b"a AUTHENTICATE PLAIN\r\n", b"+"),), (b"A",), 60, 50),
    Slow("imap, silent after login", "imap", IMAP, (), 1800, 1790),
    Slow("imap, command in bytes after login", "imap", IMAP, LETTERS, 1800, 1790),
    Slow("imap, IDLE", "imap", (*SELECT, (b"c IDLE\r\n", b"+")), (), 1800, 1790),
    Slow("imap, IDLE and half a DONE", "imap", (*SELECT, (b"c IDLE\r\n", b"+")), (b"D", b"O", b""), 1800, 1790),
    Slow("imap, APPEND in bytes", "imap", (*IMAP, (b"c APPEND INBOX {100000}\r\n", b"+")), (b"x",), 310, 290),
    Slow("imap, APPEND in bytes, unasked", "imap", (*IMAP, (b"c APPEND INBOX {4000+}\r\n", b"")), (b"x",), 310, 290),
    Slow("imap, compressed in bytes", "imap", (*IMAP, (b"c COMPRESS DEFLATE\r\n", b"c OK")), DRIPPED, 1800, 1790),
    # Who does not read
    Slow("pop3, RETR is not read", "pop3", (*BOB, (b"RETR 1\r\n", b"")), (), 610, 590, reads=False),
    Slow("imap, FETCH is not read", "imap", (*SELECT, (b"c FETCH 1 BODY[]\r\n", b"")), (), 1810, 1790, reads=False),
    Slow("smtp, answers are not read", "smtp", ((b"HELP\r\n" * 8000, b""),), (), 310, 0, reads=False),
]  # fmt: skip


class Run:
    """One service, all clients of `CASES`; when each was sent away, and what it was told last."""

    def __init__(self, path: Path) -> None:
        self.world = simulated_world()
        values = {
            "hostname": "mail.example.org",
            "listen": {name: [f"tcp:{port}"] for name, port in PORTS.items()},
            "imap": {"allow_plaintext_loopback": True},
            "pop3": {"allow_plaintext_loopback": True},
            "limits": {"connections_per_address": 1000},
        }
        config = Config.model_validate(values, context={"directory": path})
        self.service = MailService(config, self.world, prepare=self._prepare)
        self.ended: dict[str, float] = {}
        self.left: list[str] = []

    async def _prepare(self, directory: Directory) -> None:
        directory.add_domain("example.org")
        cheap = Cost(memory=8, passes=1, scram_iterations=4096)
        for user in USERS:
            directory.add_user(user, hash_password("secret", self.world.entropy, cheap))

    def _ask(self, client: Any, data: bytes, begins: bytes) -> None:
        said = client.ask(data)
        for _ in range(100):
            if said or not begins:
                break
            self.world.reactor.advance(0)
            said = client.read()
        assert any(said.startswith(one) for one in begins.split(b"|")), said

    def _deliver(self) -> None:
        client = self.world.reactor.connect(25, address="127.0.0.1")
        client.read()
        for data, begins in (
            *MAIL,
            (b"RCPT TO:<bob@example.org>\r\n", b"250"),
            (b"DATA\r\n", b"354"),
        ):
            self._ask(client, data, begins)
        self._ask(client, b"Subject: big\r\n\r\n" + BIG * 5000 + b".\r\n", b"250")
        client.close()

    def run(self) -> None:
        world = self.world
        self.service.startService()
        settled(world, self.service.when_serving())
        self._deliver()
        before = len(world.reactor.getDelayedCalls())
        clients = {}
        for case in CASES:
            client = world.reactor.connect(PORTS[case.port], address="127.0.0.1")
            client.read()
            for number, (data, begins) in enumerate(case.opening):
                if not case.reads and number == len(case.opening) - 1:
                    client.stop_reading()
                    client.send(data)
                else:
                    self._ask(client, data, begins)
            clients[case.name] = client
        began = world.now()
        drips = {case.name: iter(case.drip) for case in CASES}
        last = {case.name: case.drip[-1] if case.drip else b"" for case in CASES}
        while len(self.ended) < len(CASES) and world.now() - began < 4000:
            world.reactor.advance(STEP)
            for case in CASES:
                client = clients[case.name]
                if case.name in self.ended:
                    continue
                if client.closed is not None:
                    self.ended[case.name] = world.now() - began
                elif data := next(drips[case.name], last[case.name]):
                    client.send(data)
                    if case.reads:
                        client.read()
        self.left = [name for name in clients if name not in self.ended]
        world.reactor.advance(20)
        self.timers = len(world.reactor.getDelayedCalls()) - before
        settled(world, self.service.stopService())


@pytest.fixture(scope="module")
def all_of_them(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run = Run(tmp_path_factory.mktemp("slow"))
    run.run()
    yield run


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_is_sent_away_in_time(all_of_them: Run, case: Slow) -> None:
    assert case.name not in all_of_them.left
    assert case.least <= all_of_them.ended[case.name] <= case.end + STEP


def test_nothing_is_left_of_them(all_of_them: Run) -> None:
    assert all_of_them.timers <= 0
