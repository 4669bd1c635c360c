"""THREAD and SORT (SUBJECT) of messages whose references contradict each other: Dovecot's answers and ours."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from peers import open_directory
from test_dovecot_structure import IMAP, Imap

from twisted_mail.message.digest import digest, split_references
from twisted_mail.message.threading import Threaded, ordered_subject, references

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.needs("dovecot", IMAP),
    pytest.mark.skipif(os.geteuid() != 0, reason="Dovecot takes another user's place"),
]

SUBJECTS = [
    *["", "a", "Re: a", "b", "Fwd: b", "[l] c", "Re: [l] c (fwd)", "[fwd: a]", "RE[2]: b"],
    *["=?utf-8?q?=C3=A4?=", "re: =?utf-8?q?=C3=84?="],
]


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with open_directory() as place:
        yield place


def ask(imap: Imap, command: str) -> bytes:
    """What the one untagged answer holds."""
    with subprocess.Popen(
        imap.command, stdin=-1, stdout=-1, stderr=-3, env=imap.environment
    ) as one:
        assert one.stdin is not None and one.stdout is not None
        one.stdin.write(f"s SELECT INBOX\r\nt {command}\r\nq LOGOUT\r\n".encode())
        one.stdin.flush()
        found = re.search(rb"\* (?:THREAD|SORT) ?(.*)\r\n", one.stdout.read())
    assert found is not None
    return found[1]


def made(random: Random, subjects: list[str]) -> list[bytes]:
    count = random.randrange(2, 14)
    out = []
    for number in range(count):
        head = f"Date: {random.randrange(1, 28)} Jan 2020 10:00:{number:02} +0{random.randrange(5)}00\n"
        if subject := random.choice(subjects):
            head += f"Subject: {subject}\n"
        if random.random() < 0.8:
            head += f"Message-ID: <{random.randrange(count + 3)}@x>\n"
        if ids := [f"<{random.randrange(count + 6)}@x>" for _ in range(random.randrange(4))]:
            name = random.choice(["References", "References", "In-Reply-To"])
            head += f"{name}: {' '.join(ids)}\n"
        out.append(head.encode() + b"\nx\n")
    return out


@pytest.mark.parametrize("seed", range(20))
def test_threads(root: Path, seed: int) -> None:
    messages = made(Random(seed), SUBJECTS if seed % 2 else [""])
    imap = Imap(root, messages)
    found = [digest(message).header for message in messages]
    threaded = [
        Threaded(
            number,
            one.sent or 0,
            one.base_subject,
            bool(one.reply),
            one.message_id,
            split_references(one.references),
        )
        for number, one in enumerate(found, 1)
    ]
    assert ask(imap, "THREAD REFERENCES UTF-8 ALL") == references(threaded)
    assert ask(imap, "THREAD ORDEREDSUBJECT UTF-8 ALL") == ordered_subject(threaded)
    by_subject = sorted(range(len(found)), key=lambda index: (found[index].base_subject, index))
    wanted = b" ".join(b"%d" % (index + 1) for index in by_subject)
    assert ask(imap, "SORT (SUBJECT) UTF-8 ALL") == wanted
