"""How fast answers to FETCH are made, without network and disk: CPU time of this process, the best of some rounds.

    python bench/imap_fetch_micro.py [--profile NAME]

What is asked of a mailbox comes ready from memory: this is what FETCH itself adds.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock

from twisted_mail.imap.fetch_answer import Answering
from twisted_mail.imap.fetch_chosen import choose, chunks
from twisted_mail.imap.fetch_large import Mark
from twisted_mail.imap.fetch_plan import plan
from twisted_mail.imap.fetching import BodySection
from twisted_mail.imap.view import View
from twisted_mail.mailboxes import Message, Snapshot, Stored
from twisted_mail.message.part import to_bytes
from twisted_mail.message.structure import scan
from twisted_mail.turns import Turns

ROUNDS = 7
ENVELOPE = (
    b'("Mon, 7 Feb 1994 21:52:25 -0800" "afternoon meeting" (("Fred Foobar" NIL "foobar" "example.com")) '
    b'(("Fred Foobar" NIL "foobar" "example.com")) (("Fred Foobar" NIL "foobar" "example.com")) '
    b'((NIL NIL "mooch" "example.com")) NIL NIL NIL "<B27397-0100000@example.com>")'
)
SMALL = (
    b"From: a@example.org\nTo: b@example.org\nSubject: hello\n\n"
    + b"A line of a small mail.\n" * 80
)
BIG = b"From: a@example.org\nSubject: big\n\n" + (b"x" * 75 + b"\n") * (10 * 1024 * 1024 // 76)
WHOLE = BodySection((), "", (), True, None, b"BODY[]")


class Large:
    def __init__(self, content: bytes) -> None:
        self.size = len(content)
        self._content = content

    async def read(self, offset: int, size: int) -> bytes:
        return self._content[offset : offset + size]

    def close(self) -> None:
        pass


class Mailbox:
    """An `OpenMailbox` that has everything at hand. `content`: of each message."""

    name, mailbox_id, read_only = "INBOX", "M1", False

    def __init__(self, messages: int, content: bytes = SMALL, large: bool = False) -> None:
        self.snapshot = Snapshot(
            validity=1,
            uidnext=3 * messages + 1,
            modseq=messages,
            uids=array("I", range(1, 3 * messages, 3)),
            flags=array("I", [n * 7 % 32 for n in range(messages)]),
            modseqs=array("Q", range(1, messages + 1)),
            sizes=array("Q", [2000] * messages),
            dates=array("q", range(1_700_000_000, 1_700_000_000 + 977 * messages, 977)),
        )
        self._content = content
        self._large = large
        self._structure = to_bytes(scan(content))

    async def columns(self, uids: Sequence[int], names: Sequence[str]) -> AsyncIterator[Any]:
        value = {"envelope": ENVELOPE, "structure": self._structure}[names[0]]
        yield [(uid, value) for uid in uids]

    async def contents(self, uids: Sequence[int]) -> AsyncIterator[Sequence[Message]]:
        content = self._content
        for start in range(0, len(uids), 64):
            yield [
                Message(uid, Large(content) if self._large else content)
                for uid in uids[start : start + 64]
            ]

    async def store(self, *_: Any) -> Stored:
        return Stored(1, ())


def answered(mailbox: Mailbox, *items: Any) -> Callable[[], int]:
    async def run() -> int:
        view = View(mailbox)  # type: ignore[arg-type]
        asked = plan(items)
        answering = Answering(view, asked, asked, Mark(), Turns(Clock()))
        octets = 0
        async for piece in answering.pieces(chunks(choose(view, [(0, len(view))]).spans)):
            octets += len(piece)
        return octets

    return lambda: finished(run())


def in_steps(mailbox: Mailbox, step: int) -> Callable[[], int]:
    """As clients read large parts: each step a command."""

    async def run() -> int:
        view = View(mailbox)  # type: ignore[arg-type]
        mark = Mark()
        octets = 0
        for first in range(0, len(BIG) + BIG.count(b"\n"), step):
            asked = plan([BodySection((), "", (), True, (first, step), b"BODY[]<%d>" % first)])
            answering = Answering(view, asked, asked, mark, Turns(Clock()))
            async for piece in answering.pieces(chunks([(0, 1, 0)])):
                octets += len(piece)
        return octets

    return lambda: finished(run())


def finished(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("nothing is waited for")


def cases() -> dict[str, SimpleNamespace]:
    small = Mailbox(1000)
    big = Mailbox(1, BIG, large=True)
    return {
        "flags": SimpleNamespace(
            what="100 000 (UID FLAGS)", run=answered(Mailbox(100_000), "UID", "FLAGS")
        ),
        "fast": SimpleNamespace(
            what="100 000 FAST",
            run=answered(Mailbox(100_000), "FLAGS", "INTERNALDATE", "RFC822.SIZE"),
        ),
        "envelope": SimpleNamespace(
            what="10 000 ENVELOPE", run=answered(Mailbox(10_000), "ENVELOPE")
        ),
        "small": SimpleNamespace(what="1 000 BODY[] of 2 KiB", run=answered(small, WHOLE)),
        "fields": SimpleNamespace(
            what="1 000 HEADER.FIELDS",
            run=answered(
                small,
                BodySection(
                    (),
                    "HEADER.FIELDS",
                    (b"Subject", b"From"),
                    True,
                    None,
                    b"BODY[HEADER.FIELDS (Subject From)]",
                ),
            ),
        ),
        "big": SimpleNamespace(what="BODY[] of 10 MiB", run=answered(big, WHOLE)),
        "steps": SimpleNamespace(what="BODY[] of 10 MiB by 64 KiB", run=in_steps(big, 65_536)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", choices=[*cases()])
    wanted = parser.parse_args().profile
    if wanted:
        profile = cProfile.Profile()
        profile.runcall(cases()[wanted].run)
        pstats.Stats(profile).sort_stats("tottime").print_stats(12)
        return
    for case in cases().values():
        best = 1e9
        for _ in range(ROUNDS):
            begun = time.process_time()
            octets = case.run()
            best = min(best, time.process_time() - begun)
        print(f"{case.what:32} {best * 1000:8.1f} ms {octets / best / 1e6:8.0f} MB/s")


if __name__ == "__main__":
    main()
