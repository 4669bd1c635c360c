"""SORT and THREAD as transcripts: RFC 5256, RFC 5957, RFC 5267."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from imap_dialogue import Dialogue

FEB_1994 = 760_060_800


def letter(subject: str, sender: str, to: str, date: str, body: str = "", *more: str) -> bytes:
    lines = [f"From: {sender}", f"To: {to}", f"Subject: {subject}", *more]
    if date:
        lines.append(f"Date: {date}")
    return ("\n".join(lines) + f"\n\n{body}\n").encode()


@pytest.fixture
def dialogue() -> Dialogue:
    made = Dialogue()
    box = made.account
    box.deliver(
        letter(
            "Re: beta",
            "zoe <a@example.org>",
            "c@example.org",
            "Tue, 1 Feb 1994 12:00:00 +0000",
            "x" * 10,
        ),
        date=FEB_1994 + 500,
    )
    box.deliver(letter("Alpha", "b@example.org", "a@example.org", "", "x" * 30), date=FEB_1994)
    box.deliver(
        letter(
            "[list] BETA (fwd)",
            '"Anna" <c@example.org>',
            "b@example.org",
            "Wed, 2 Feb 1994 12:00:00 +0000",
            "x" * 20,
        ),
        date=FEB_1994 + 400,
    )
    box.deliver(letter("", "", "", "Mon, 31 Jan 1994 23:59:59 +0000"), date=FEB_1994 + 300)
    made.login("INBOX")
    return made


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ("ARRIVAL", "2 4 3 1"),
        ("REVERSE ARRIVAL", "1 3 4 2"),
        # Without a Date it is that of the arrival
        ("DATE", "4 2 1 3"),
        ("SIZE", "4 2 1 3"),
        ("SUBJECT", "4 2 1 3"),
        # Ties stay in the order of numbers
        ("REVERSE SUBJECT", "1 3 2 4"),
        ("SUBJECT REVERSE DATE", "4 2 3 1"),
        ("FROM", "4 1 2 3"),
        ("TO", "4 2 3 1"),
        ("CC", "1 2 3 4"),
        ("DISPLAYFROM", "4 3 2 1"),
        ("REVERSE DISPLAYTO", "1 3 2 4"),
    ],
)
def test_criteria(dialogue: Dialogue, criteria: str, expected: str) -> None:
    said = dialogue.ask(f"s SORT ({criteria}) UTF-8 ALL\r\n".encode()).decode()
    assert said == f"* SORT {expected}\r\ns OK SORT completed\r\n"


def test_examples(dialogue: Dialogue) -> None:
    dialogue.run(
        """
        C: A282 SORT (SUBJECT) UTF-8 SINCE 1-Feb-1994 NOT SUBJECT alpha
        S: * SORT 4 1 3
        S: A282 OK SORT completed
        C: A283 SORT (SUBJECT REVERSE DATE) UTF-8 ALL
        S: * SORT 4 2 3 1
        S: A283 OK SORT completed
        C: A284 SORT (SUBJECT) US-ASCII TEXT "not in mailbox"
        S: * SORT
        S: A284 OK SORT completed
        C: A285 UID SORT (ARRIVAL) UTF-8 2:3
        S: * SORT 2 3
        S: A285 OK ...
        C: A286 SORT (SUBJECT) x-what ALL
        S: A286 NO [BADCHARSET (UTF-8 US-ASCII)] ...
        """
    )


def test_returns_of_rfc_5267(dialogue: Dialogue) -> None:
    dialogue.run(
        """
        C: E01 UID SORT RETURN (COUNT MIN MAX ALL) (REVERSE DATE) UTF-8 ALL
        S: * ESEARCH (TAG "E01") UID MIN 3 MAX 4 COUNT 4 ALL 3,1,2,4
        S: E01 OK ...
        C: E02 SORT RETURN (SAVE MIN MAX) (REVERSE DATE) UTF-8 ALL
        S: * ESEARCH (TAG "E02") MIN 3 MAX 4
        S: E02 OK ...
        C: E03 SEARCH $
        S: * SEARCH 3 4
        S: E03 OK SEARCH completed
        C: E04 SORT (ARRIVAL) UTF-8 MODSEQ 4
        S: * OK [HIGHESTMODSEQ 5] Highest
        S: * SORT 4 3 (MODSEQ 5)
        S: E04 OK SORT completed
        """
    )


def test_what_goes_meanwhile_is_left_out(dialogue: Dialogue) -> None:
    box = dialogue.server_session.opened
    columns = box.columns

    async def without(uids: Sequence[int], names: Sequence[str]) -> AsyncIterator[Any]:
        async for rows in columns(uids, names):
            for row in rows:
                if row[0] != 3:
                    yield [row]
            yield []

    async def together(uids: Sequence[int], names: Sequence[str]) -> AsyncIterator[Any]:
        async for rows in columns(uids, names):
            yield [row for row in rows if row[0] != 3]

    for box.columns in (without, together):
        dialogue.run(
            """
            C: S1 SORT (SUBJECT REVERSE DATE) UTF-8 ALL
            S: * SORT 4 2 1
            S: S1 OK SORT completed
            C: S2 UID SORT RETURN (SAVE ALL COUNT) (REVERSE SIZE) UTF-8 2:4
            S: * ESEARCH (TAG "S2") UID COUNT 3 ALL 3,2,4
            S: S2 OK ...
            C: S3 SORT RETURN (SAVE ALL) (FROM) UTF-8 ALL
            S: * ESEARCH (TAG "S3") ALL 4,1,2
            S: S3 OK ...
            C: S4 THREAD ORDEREDSUBJECT UTF-8 ALL
            S: * THREAD (4)(2)(1)
            S: S4 OK THREAD completed
            C: S5 UID THREAD REFERENCES UTF-8 2:4
            S: * THREAD (4)(2)
            S: S5 OK ...
            """
        )


def test_a_criterion_twice(dialogue: Dialogue) -> None:
    for criteria in ("SUBJECT REVERSE DATE", "SUBJECT REVERSE DATE REVERSE SUBJECT DATE"):
        said = dialogue.ask(f"s SORT ({criteria}) UTF-8 ALL\r\n".encode()).decode()
        assert said == "* SORT 4 2 3 1\r\ns OK SORT completed\r\n"
    said = dialogue.ask(b"s SORT (SIZE SUBJECT SIZE ARRIVAL SUBJECT) UTF-8 ALL\r\n").decode()
    assert said == "* SORT 4 2 1 3\r\ns OK SORT completed\r\n"


@pytest.mark.parametrize("uid", ["", "UID "])
def test_many_are_sorted_in_turns(uid: str) -> None:
    dialogue = threads()
    box = dialogue.account.box("INBOX")
    some = [letter(f"s{n * 7 % 1000:04}", "a", "", "", "x" * (n % 3)) for n in range(9000)]
    box.add([(text, (), FEB_1994 + n % 5) for n, text in enumerate(some)], 0)
    dialogue.ask(b"n NOOP\r\n")
    wanted = sorted(range(9000), key=lambda n: (n % 3, -(n * 7 % 1000), n % 5, n))
    said = dialogue.ask(b"s %bSORT (SIZE REVERSE SUBJECT ARRIVAL) UTF-8 ALL\r\n" % uid.encode())
    said += dialogue.later(1)
    line = " ".join(str(n + 1) for n in wanted)
    assert said == f"* SORT {line}\r\ns OK SORT completed\r\n".encode()


def threads(*letters: tuple[str, str, str]) -> Dialogue:
    """(subject, id, references) each."""
    made = Dialogue()
    for n, (subject, own, refs) in enumerate(letters):
        more = [f"Message-ID: <{own}@x>"] if own else []
        if refs:
            more.append("References: " + " ".join(f"<{one}@x>" for one in refs.split()))
        date = f"Tue, 1 Feb 1994 12:{n:02}:00 +0000"
        made.account.deliver(letter(subject, "a@example.org", "", date, "", *more))
    made.login("INBOX")
    return made


def test_thread_references() -> None:
    dialogue = threads(
        ("one", "a", ""),
        ("Re: one", "b", "a"),
        ("Re: one", "c", "a b"),
        ("other", "d", ""),
        ("Re: one", "e", "a"),
        ("Re: other", "", ""),
    )
    dialogue.run(
        """
        C: A283 THREAD REFERENCES UTF-8 ALL
        S: * THREAD (1 (2 3)(5))(4 6)
        S: A283 OK THREAD completed
        C: A284 THREAD ORDEREDSUBJECT UTF-8 ALL
        S: * THREAD (1 (2)(3)(5))(4 6)
        S: A284 OK THREAD completed
        C: A285 UID THREAD REFERENCES UTF-8 4:6
        S: * THREAD (4 6)(5)
        S: A285 OK ...
        C: A286 THREAD REFERENCES US-ASCII TEXT "gewp"
        S: * THREAD
        S: A286 OK THREAD completed
        C: A287 THREAD BYCOLOUR UTF-8 ALL
        S: A287 BAD ...
        """
    )


def test_many_threads() -> None:
    dialogue = threads()
    box = dialogue.account.box("INBOX")
    some = [letter(f"s{n % 700}", "a", "", "", "", f"Message-ID: <{n}@x>") for n in range(1400)]
    box.add([(text, (), FEB_1994 + n) for n, text in enumerate(some)], 0)
    dialogue.ask(b"n NOOP\r\n")
    said = dialogue.ask(b"t THREAD REFERENCES UTF-8 ALL\r\n") + dialogue.later(1)
    assert said.startswith(b"* THREAD ")
    assert said.count(b"(") >= 700
    assert said.endswith(b"\r\nt OK THREAD completed\r\n")
