"""The full-text index and the digests by themselves, without IMAP: what a search costs, and what the index does.

    python bench/search_micro.py [--mails 10000] [--words 600] [--directory /tmp]

Mails are made of words as frequent as words are (Zipf), so that there are needles of every kind. Figures: building (per
mail), size of the index (per mail), and each needle's best time of five: with the index, and by looking at every mail.
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from twisted_mail.disk import OsDisk
from twisted_mail.message.collation import fold
from twisted_mail.message.digest import digest
from twisted_mail.message.searchable import contains, searchable
from twisted_mail.storage.fulltext import FullText, Learned

BATCH = 32
LETTERS = "etaoinshrdlucmfwypvbgkqjxz"


def vocabulary(randomly: random.Random, size: int) -> list[str]:
    weights = [1 / (at + 1) for at in range(len(LETTERS))]
    return [
        "".join(randomly.choices(LETTERS, weights, k=randomly.randint(2, 10))) for _ in range(size)
    ]


def mails(count: int, words: int) -> Iterator[bytes]:
    randomly = random.Random(4)
    known = vocabulary(randomly, 30_000)
    weights = [1 / (rank + 1) for rank in range(len(known))]
    for number in range(count):
        text = randomly.choices(known, weights, k=randomly.randint(words // 3, words))
        lines = [" ".join(text[at : at + 11]) for at in range(0, len(text), 11)]
        who = randomly.randint(0, 400)
        yield (
            f"Received: from mx{randomly.randint(0, 9)}.example.net by mail.example.org with ESMTPS"
            f" id {randomly.getrandbits(64):x}; Mon, 7 Feb 1994 21:52:25 -0800\n"
            f"Message-ID: <{randomly.getrandbits(96):x}@example.net>\n"
            f"From: User {who} <user{who}@example.net>\nTo: alice@example.org\n"
            f"Subject: {' '.join(text[:5])} {number}\nDate: Mon, 7 Feb 1994 21:52:25 -0800\n"
            "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n"
            + "\n".join(lines)
            + "\n"
        ).encode()


def best(work: Callable[[], Any], rounds: int = 5) -> tuple[float, Any]:
    """(milliseconds, what it gave)."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        result = work()
        took.append(time.perf_counter() - began)
    return min(took) * 1000, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mails", type=int, default=10_000)
    parser.add_argument("--words", type=int, default=600)
    parser.add_argument("--directory", default=None)
    options = parser.parse_args()
    some = list(mails(options.mails, options.words))
    print(f"{len(some)} mails of {sum(map(len, some)) // len(some)} octets")
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        _fulltext(some, directory)
        _digests(some, directory)


def _fulltext(some: list[bytes], directory: str) -> None:
    path = os.path.join(directory, "fulltext.sqlite3")
    index = FullText(OsDisk(), path)
    reading = writing = longest = 0.0
    for start in range(0, len(some), BATCH):
        began = time.perf_counter()
        learned = [
            Learned(uid, str(uid), searchable(content))
            for uid, content in enumerate(some[start : start + BATCH], start + 1)
        ]
        between = time.perf_counter()
        index.learn("f", 1, learned)
        ended = time.perf_counter()
        reading += between - began
        writing += ended - between
        longest = max(longest, ended - between)
    index.close()
    size = sum(
        os.path.getsize(path + suffix) for suffix in ("", "-wal") if os.path.exists(path + suffix)
    )
    per = 1000 / len(some)
    print(
        f"read {reading * per:.2f} ms, written {writing * per:.2f} ms, {size // len(some)} octets a mail;"
        f" longest batch of {BATCH} {longest * 1000:.0f} ms"
    )
    index = FullText(OsDisk(), path)
    uids = range(1, len(some) + 1)
    frequent = "".join(some[0].decode().split("\n\n")[1][:6])
    needles = [
        "user77@",
        "nowhere at all",
        frequent,
        "the",
        "ex",
        "received: from mx3",
        "example.org",
    ]
    print(f"{'needle':>20} {'hits':>6} {'index':>9} {'every mail':>11}")
    for needle in needles:
        wanted = fold(needle)
        took, found = best(
            lambda wanted=wanted: index.search("f", 1, wanted, uids, body_only=False)  # type: ignore[misc]
        )
        each, plain = best(
            lambda wanted=wanted: [  # type: ignore[misc]
                uid for uid in uids if contains(some[uid - 1], wanted, body_only=False)
            ],
            1,
        )
        assert found.hits == plain and not found.unsure, needle
        print(f"{needle!r:>20} {len(plain):>6} {took:>6.1f} ms {each:>8.0f} ms")
    took, found = best(lambda: index.search_field("f", 1, "message-id", "7@EXAMPLE", uids))
    print(f"{'HEADER Message-ID':>20} {len(found.hits):>6} {took:>6.1f} ms")
    index.close()


def _digests(some: list[bytes], directory: str) -> None:
    """A column of folded subjects, as `storage.digests` keeps them."""
    db = sqlite3.connect(os.path.join(directory, "digests.sqlite3"), isolation_level=None)
    db.execute("CREATE TABLE narrow (id INTEGER PRIMARY KEY, subject, from_, other)")
    db.execute("BEGIN")
    for uid, content in enumerate(some, 1):
        one = digest(content).header
        db.execute(
            "INSERT INTO narrow VALUES (?, ?, ?, ?)",
            (uid, one.subject, one.from_, one.message_id + one.to),
        )
    db.execute("COMMIT")
    took, rows = best(
        lambda: db.execute(
            "SELECT id FROM narrow WHERE id BETWEEN ? AND ? AND instr(subject, ?) ORDER BY id",
            (1, len(some), "77"),
        ).fetchall()
    )
    print(f"{'SUBJECT':>20} {len(rows):>6} {took:>6.1f} ms")
    db.close()


if __name__ == "__main__":
    main()
