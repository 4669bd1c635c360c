"""Mail to read: made once, the same in every run, and hard linked into the Maildirs of all servers.

Messages have what real ones have: headers of a few hundred octets, plain and HTML alternatives, attachments in base64,
words whose frequencies fall as those of a language do. `NEEDLE` is in few of them.
"""

from __future__ import annotations

import os
from base64 import encodebytes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from random import Random

from imap_peer import OWNER

__all__ = ["NEEDLE", "Letter", "big", "letters", "maildir", "small"]

NEEDLE = "quetzalcoatl"
"""In every hundredth subject, and in the text of the one after it."""
_FLAGS = ("", "S", "S", "S", "RS", "FS", "FRS", "S")
_BEGAN = 1_600_000_000


@dataclass(frozen=True)
class Letter:
    """One message, a file somewhere."""

    path: Path
    size: int
    wire: int


def _words(random: Random) -> list[str]:
    syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er")]
    return ["".join(random.choices(syllables, k=random.randint(1, 4))) for _ in range(4000)]


class _Author:
    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._words = _words(self._random)
        self._weights = [1 / rank for rank in range(2, len(self._words) + 2)]
        # choosing by weight is slow: text is cut from a long stretch of it
        self._stretch = self._random.choices(self._words, self._weights, k=200_000)

    def text(self, words: int) -> str:
        at = self._random.randrange(len(self._stretch) - words)
        some = self._stretch[at : at + words]
        return "\n".join(" ".join(some[n : n + 12]) for n in range(0, words, 12)) + "\n"

    def letter(self, number: int, words: int) -> str:
        random = self._random
        subject = self.text(random.randint(2, 9)).replace("\n", " ").strip()
        body = self.text(words)
        if number % 100 == 50:
            subject += f" {NEEDLE} again"
        if number % 100 == 51:
            body += f"what {NEEDLE.capitalize()} said\n"
        one, other = (f"{random.choice(self._words)}.{random.randrange(500)}" for _ in range(2))
        head = (
            f"Return-Path: <{one}@bench.test>\n"
            f"Received: from mx{number % 7}.bench.test (mx.bench.test [192.0.2.{number % 250}])\n"
            f"\tby mail.bench.test with ESMTPS id {number:08x};\n\t{formatdate(_BEGAN + number * 60)}\n"
            f"From: {one.title()} <{one}@bench.test>\nTo: {other} <{other}@bench.test>\n"
            f"Cc: list-{number % 20}@bench.test\n"
            f"Subject: {subject}\nDate: {formatdate(_BEGAN + number * 60)}\n"
            f"Message-ID: <{number}.{words}@bench.test>\nMIME-Version: 1.0\n"
        )
        if number % 3:
            return f"{head}Content-Type: text/plain; charset=utf-8\n\n{body}"
        edge = f"=_{number:08x}"
        html = "".join(f"<p>{line}</p>\n" for line in body.splitlines())
        parts = [
            f"Content-Type: text/plain; charset=utf-8\n\n{body}",
            f"Content-Type: text/html; charset=utf-8\n\n<html><body>\n{html}</body></html>\n",
        ]
        kind = "alternative"
        if number % 9 == 0:
            kind = "mixed"
            data = encodebytes(random.randbytes(3000)).decode()
            name = f'Content-Disposition: attachment; filename="{number}.bin"\n'
            coded = "Content-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n"
            parts[1] = f"{coded}{name}\n{data}"
        head += f'Content-Type: multipart/{kind}; boundary="{edge}"\n'
        return f"{head}\n" + "".join(f"--{edge}\n{part}\n" for part in parts) + f"--{edge}--\n"


def _written(directory: Path, texts: Iterator[str]) -> list[Letter]:
    directory.mkdir()
    found = []
    for number, text in enumerate(texts):
        content = text.encode()
        path = directory / str(number)
        path.write_bytes(content)
        os.utime(path, (_BEGAN + number * 60,) * 2)
        os.chown(path, OWNER, OWNER)
        found.append(Letter(path, len(content), len(content) + content.count(b"\n")))
    return found


def letters(directory: Path, count: int) -> list[Letter]:
    """Of one to some ten KiB."""
    author = _Author(1)
    sizes = Random(2)
    texts = (author.letter(n, int(sizes.lognormvariate(5.6, 0.7)) + 20) for n in range(count))
    return _written(directory, (text[:60_000] for text in texts))


def small(directory: Path, count: int) -> list[Letter]:
    """Of some 2 KiB."""
    author = _Author(3)
    return _written(directory, (author.letter(3 * n + 1, 250) for n in range(count)))


def big(directory: Path, octets: int) -> Letter:
    """One with an attachment."""
    coded = encodebytes(Random(4).randbytes(octets * 54 // 74)).decode()
    head = "From: a@bench.test\nTo: b@bench.test\nSubject: large\nMessage-ID: <l@bench.test>\n"
    head += "MIME-Version: 1.0\nContent-Type: application/octet-stream\n"
    head += "Content-Transfer-Encoding: base64\n\n"
    return _written(directory, iter([head + coded]))[0]


def maildir(path: Path, of: Sequence[Letter], count: int = 0) -> None:
    """A Maildir (a folder of one, when its name begins with a dot) with links to `count` of the messages, again and
    again; all of them by default.
    """
    for part in ("", "cur", "new", "tmp"):
        (path / part).mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chown(path / part, OWNER, OWNER)
    if path.name.startswith("."):
        (path / "maildirfolder").touch()
        os.chown(path / "maildirfolder", OWNER, OWNER)
    cur = os.open(path / "cur", os.O_RDONLY)
    try:
        for number in range(count or len(of)):
            one = of[number % len(of)]
            name = f"{_BEGAN + number}.M{number:07}P1.bench,S={one.size},W={one.wire}"
            os.link(one.path, f"{name}:2,{_FLAGS[number % len(_FLAGS)]}", dst_dir_fd=cur)
    finally:
        os.close(cur)
