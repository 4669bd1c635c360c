"""SORT and THREAD (RFC 5256; SORT=DISPLAY, RFC 5957): the examples of section 3."""

from __future__ import annotations

import pytest
from imap_dialogue import Dialogue


def letter(number: int, subject: str, references: str = "", date: int = 0) -> bytes:
    return (
        f"From: a@example.org\nSubject: {subject}\nMessage-ID: <{number}@x>\n"
        f"{f'References: {references}' if references else 'X-None: 1'}\n"
        f"Date: {date or number} Mar 2000 12:00:00 +0000\n\ntext\n"
    ).encode()


@pytest.fixture
def dialogue() -> Dialogue:
    made = Dialogue()
    for text in (
        letter(1, "beta", date=20),
        letter(2, "Re: alpha", "<3@x>", 19),
        letter(3, "alpha", date=18),
        letter(4, "beta", date=17),
    ):
        made.account.deliver(text, date=952_300_800)
    made.login("INBOX")
    return made


def test_sort(dialogue: Dialogue) -> None:
    dialogue.run("""
        C: A282 SORT (SUBJECT) UTF-8 SINCE 1-Feb-1994
        S: * SORT 2 3 1 4
        S: A282 OK ...
        C: A283 SORT (SUBJECT REVERSE DATE) UTF-8 ALL
        S: * SORT 2 3 1 4
        S: A283 OK ...
        C: A284 SORT (SUBJECT) US-ASCII TEXT "not in mailbox"
        S: * SORT
        S: A284 OK ...
    """)


def test_thread(dialogue: Dialogue) -> None:
    dialogue.run("""
        C: A283 THREAD ORDEREDSUBJECT UTF-8 SINCE 5-MAR-2000
        S: * THREAD (4 1)(3 2)
        S: A283 OK ...
        C: A284 THREAD ORDEREDSUBJECT US-ASCII TEXT "gewp"
        S: * THREAD
        S: A284 OK ...
        C: A285 THREAD REFERENCES UTF-8 SINCE 5-MAR-2000
        S: * THREAD ((4)(1))(3 2)
        S: A285 OK ...
    """)


def test_a_thread_with_branches() -> None:
    """The tree of section 4's examples, (2)(3 6 (4 23)(44 7 96)), with numbers of its own."""
    dialogue = Dialogue()
    for number, subject, references in (
        (1, "other", ""),
        (2, "s", ""),
        (3, "s", "<2@x>"),
        (4, "s", "<2@x> <3@x>"),
        (5, "s", "<2@x> <3@x> <4@x>"),
        (6, "s", "<2@x> <3@x>"),
        (7, "s", "<2@x> <3@x> <6@x>"),
        (8, "s", "<2@x> <3@x> <6@x> <7@x>"),
    ):
        dialogue.account.deliver(letter(number, subject, references))
    dialogue.login("INBOX")
    dialogue.run("""
        C: a THREAD REFERENCES UTF-8 ALL
        S: * THREAD (1)(2 3 (4 5)(6 7 8))
        S: a OK ...
    """)


def test_rfc_5957_display() -> None:
    dialogue = Dialogue()
    for sender in (
        '"Zoe" <a@example.org>',
        "b@example.org",
        "=?utf-8?q?=C3=81da?= <z@example.org>",
    ):
        dialogue.account.deliver(f"From: {sender}\nTo: {sender}\n\n".encode())
    dialogue.login("INBOX")
    dialogue.run("""
        C: a SORT (DISPLAYFROM) UTF-8 ALL
        S: * SORT 3 2 1
        S: a OK ...
        C: b SORT (REVERSE DISPLAYTO) UTF-8 ALL
        S: * SORT 1 2 3
        S: b OK ...
    """)
