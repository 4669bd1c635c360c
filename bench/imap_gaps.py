"""How long the event loop is held while one client asks for much: the server, its client and a probe in one process.

    python bench/imap_gaps.py [--mails 100000] [--times 5] [--directory DIR] [--only SORT,THREAD] [--first]

The mailbox is made once in DIR and used again. A probe wants its turn every millisecond; a gap is what lies between two
of its turns. Figures of each command: its time, the longest gap of each time asked (the median of them, and the worst),
and of the worst one how much of it this thread computed, and how much the whole process did: where the first is most of
it a slice is too long, where the second is, a thread of the pool kept the interpreter; else the machine was busy.
With --first, what messages say is forgotten before, and the first SORT finds it out again.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, NamedTuple

from twisted.internet import reactor as _reactor  # noqa: TID251 - a program of its own
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.task import deferLater
from zope.interface import implementer

from twisted_mail.connection.limits import ConnectionLimits
from twisted_mail.imap.protocol import ImapFactory, ImapSettings
from twisted_mail.interfaces import IMailboxAccount
from twisted_mail.storage.store import MailStore
from twisted_mail.world import real_world

reactor: Any = _reactor
KEY = "bench.test/user"
INTERVAL = 0.001
COMMANDS = (
    "UID SORT (ARRIVAL) UTF-8 ALL",
    "SORT (SUBJECT) UTF-8 ALL",
    "SORT (REVERSE DATE) UTF-8 ALL",
    "SORT (DISPLAYFROM SUBJECT DATE) UTF-8 ALL",
    "UID SORT RETURN (SAVE ALL) (FROM REVERSE SIZE) UTF-8 ALL",
    "THREAD ORDEREDSUBJECT UTF-8 ALL",
    "THREAD REFERENCES UTF-8 ALL",
    'SEARCH SUBJECT "kappa 77"',
    "UID SEARCH UNSEEN LARGER 400",
    "SEARCH RETURN (SAVE) OR SUBJECT a FROM b",
    "SEARCH SENTSINCE 1-Jan-2021",
    "SELECT INBOX",
)


class Gap(NamedTuple):
    """All in seconds; `own`: this thread's CPU time in it, `all_`: the process's."""

    seconds: float
    own: float
    all_: float


class Probe:
    """Wants a turn again and again."""

    def __init__(self) -> None:
        self._worst = Gap(0, 0, 0)
        self._mark()
        reactor.callLater(INTERVAL, self._turn)

    def _mark(self) -> None:
        self._last = time.perf_counter(), time.thread_time(), time.process_time()

    def _turn(self) -> None:
        now, own, all_ = time.perf_counter(), time.thread_time(), time.process_time()
        began, own_before, all_before = self._last
        if now - began > self._worst.seconds:
            self._worst = Gap(now - began, own - own_before, all_ - all_before)
        self._mark()
        reactor.callLater(INTERVAL, self._turn)

    def worst(self) -> Gap:
        """Since it was asked last."""
        worst, self._worst = self._worst, Gap(0, 0, 0)
        return worst


class Client(Protocol):
    """One command at a time."""

    _tag = b""
    _waiting: Deferred[bytes] | None = None

    def connectionMade(self) -> None:
        self._pieces: list[bytes] = []

    async def ask(self, line: str) -> bytes:
        self._tag = b"\r\nx "
        self._pieces = [b"\r\n"]
        self._waiting = Deferred()
        assert self.transport is not None
        self.transport.write(b"x %b\r\n" % line.encode())
        answer = await self._waiting
        assert b"\r\nx OK" in answer[-4096:], answer[-300:]
        return answer

    def dataReceived(self, data: bytes) -> None:
        if self._waiting is None:
            return
        self._pieces.append(data)
        if data.endswith(b"\n"):
            end = b"".join(self._pieces[-3:])
            if self._tag in end[-4096:]:
                waiting, self._waiting = self._waiting, None
                waiting.callback(b"".join(self._pieces))


@implementer(IMailboxAccount)
class Account:
    name = "user@bench.test"

    def __init__(self, store: MailStore) -> None:
        self._store = store

    def open_mailboxes(self) -> Any:
        return self._store.open_mailboxes(KEY)


class Accepting:
    """An `Authenticator` that lets anybody in."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def mechanisms(self) -> tuple[str, ...]:
        return ("PLAIN",)

    async def login(self, username: str, password: str, client_ip: str) -> Any:
        return SimpleNamespace(account=self._account, logout=lambda: None)


def letters(count: int) -> Iterator[bytes]:
    """Some are answers to one of the 500 before them."""
    randomly = random.Random(5)
    words = ("alpha", "beta", "gamma", "delta", "epsilon", "kappa", "lambda", "omega")
    subjects = [f"{' '.join(randomly.choices(words, k=5))} {n}" for n in range(count // 3 + 1)]
    known: list[tuple[str, list[str]]] = []
    for number in range(count):
        own = f"{number}.{randomly.getrandbits(48):x}@bench.test"
        subject, refs = randomly.choice(subjects), list[str]()
        if number and randomly.random() < 0.6:
            subject, before = known[-randomly.randint(1, min(500, number))]
            refs = before[-20:]
            subject = f"Re: {subject.removeprefix('Re: ')}"
        known.append((subject, [*refs, own]))
        del known[:-500]
        more = f"References: {' '.join(f'<{one}>' for one in refs)}\n" if refs else ""
        who = randomly.randint(0, 5000)
        sent = formatdate(1_600_000_000 + number * 60 + randomly.randint(-90_000, 90_000))
        yield (
            f"Received: from mx.bench.test by mail.bench.test with ESMTPS id {number:x}; {sent}\n"
            f"From: User {who} <u{who}@bench.test>\nTo: list-{number % 50}@bench.test\n"
            f"Subject: {subject}\nDate: {sent}\nMessage-ID: <{own}>\n{more}\n"
            f"{'text ' * randomly.randint(1, 40)}\n"
        ).encode()


def fill(data: Path, count: int) -> None:
    maildir = data / "mail" / KEY / "Maildir"
    if maildir.exists():
        return
    for part in ("new", "cur", "tmp"):
        (maildir / part).mkdir(parents=True)
    for number, content in enumerate(letters(count)):
        wire = len(content) + content.count(b"\n")
        path = (
            maildir / "cur" / f"{number:07}.M1P1.b,S={len(content)},W={wire}:2,{'S' * (number % 2)}"
        )
        path.write_bytes(content)
        os.utime(path, (1_600_000_000 + number * 60,) * 2)


async def run(options: argparse.Namespace, data: Path) -> None:
    fill(data, options.mails)
    if options.first:
        for path in (data / "mail" / KEY).glob("digests.sqlite3*"):
            path.unlink()
    world = real_world(reactor)
    store = MailStore(world, str(data), host="bench", boot="boot")
    await store.start()
    try:
        await _asked(options, world, Account(store))
    finally:
        await store.stop()


async def _asked(options: argparse.Namespace, world: Any, account: Account) -> None:
    settings = ImapSettings("bench.test", allow_plaintext_loopback=True)
    limits = ConnectionLimits(100, 100)
    authenticator: Any = Accepting(account)
    factory = ImapFactory(world, settings, authenticator, limits=limits)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    clients = [await _connected(port.getHost().port) for _ in range(options.clients)]
    probe = Probe()
    for client in clients:
        await client.ask("LOGIN user secret")
        await client.ask("SELECT INBOX")
    gc.collect()
    gc.freeze()
    print(f"{'':58} {'ms':>7} {'gap ms':>7} {'worst':>7} {'own':>6} {'all':>6}", flush=True)
    commands = [one for one in COMMANDS if any(part in one for part in options.only.split(","))]
    for command in ["SORT (SUBJECT) UTF-8 ALL"] * options.first + commands:
        took, gaps = [], []
        for _ in range(1 if options.first else options.times):
            # What was before is none of it
            await deferLater(reactor, 5 * INTERVAL)
            probe.worst()
            began = time.perf_counter()
            asked = [Deferred.fromCoroutine(client.ask(command)) for client in clients]
            for one in asked:
                await one
            took.append(time.perf_counter() - began)
            gaps.append(probe.worst())
        worst = max(gaps)
        figures = (median(took), median(gap.seconds for gap in gaps), *worst)
        print(
            f"{command[:58]:58} {figures[0] * 1000:>7.0f} "
            + " ".join(f"{one * 1000:>{6 + (at < 2)}.1f}" for at, one in enumerate(figures[1:])),
            flush=True,
        )
        if options.first:
            break
    await port.stopListening()


async def _connected(port: int) -> Client:
    made: Deferred[Client] = Deferred()

    class Factory(ClientFactory):
        noisy = False

        def buildProtocol(self, addr: Any) -> Client:
            client = Client()
            reactor.callLater(0.05, made.callback, client)
            return client

    reactor.connectTCP("127.0.0.1", port, Factory())
    return await made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mails", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--directory", type=Path, default=None)
    parser.add_argument("--only", default="")
    parser.add_argument("--first", action="store_true")
    options = parser.parse_args()
    failed: list[Any] = []

    def start() -> None:
        done = Deferred.fromCoroutine(run(options, data))
        done.addErrback(failed.append)
        done.addBoth(lambda _: reactor.stop())

    with tempfile.TemporaryDirectory() as temporary:
        data = options.directory or Path(temporary)
        data.mkdir(exist_ok=True)
        reactor.callWhenRunning(start)
        reactor.run()
    for failure in failed:
        failure.printTraceback(sys.stderr)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
