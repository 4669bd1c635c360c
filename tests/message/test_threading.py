"""THREAD by references and by subject."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message.subject import base_subject
from twisted_mail.message.threading import Threaded, ordered_subject, references


def message(
    number: int, subject: str = "", id_: str = "", *refs: str, sent: int | None = None
) -> Threaded:
    base, reply = base_subject(subject)
    return Threaded(number, number if sent is None else sent, base, reply, id_, refs)


@pytest.mark.parametrize(
    ("messages", "threads"),
    [
        ([], b""),
        ([message(1)], b"(1)"),
        # RFC 5256 section 4: a chain; one that forks; one whose first message is not here
        ([message(2), message(3, "", "3"), message(6, "", "6", "3")], b"(2)(3 6)"),
        (
            [
                message(3, "", "3"),
                message(6, "", "6", "3"),
                message(4, "", "4", "3", "6"),
                message(23, "", "23", "3", "6", "4"),
                message(44, "", "44", "3", "6"),
                message(7, "", "7", "44"),
                message(96, "", "96", "44", "7"),
            ],
            b"(3 6 (4 23)(44 7 96))",
        ),
        ([message(3, "", "3", "0"), message(5, "", "5", "0")], b"((3)(5))"),
        # step 3: dummies between go, one alone at the root goes
        ([message(1, "", "1"), message(2, "", "2", "1", "gone", "gone2")], b"(1 2)"),
        ([message(2, "", "2", "gone", "gone2"), message(3, "", "3", "2")], b"(2 3)"),
        (
            [
                message(1, "", "1", "0", "x"),
                message(2, "", "2", "0", "y"),
                message(3, "", "3", "0"),
            ],
            b"((1)(2)(3))",
        ),
        # step 1: a loop is not closed
        ([message(1, "", "1", "2"), message(2, "", "2", "1")], b"(2 1)"),
        ([message(1, "", "1", "1")], b"(1)"),
        # a second message with the same id is another one
        ([message(1, "", "1"), message(2, "", "1"), message(3, "", "3", "1")], b"(1 3)(2)"),
        # a message's own word on its parent counts more than another's
        (
            [message(1, "", "1"), message(2, "", "2", "1"), message(3, "", "3", "9", "2")],
            b"(1 2 3)",
        ),
        # step 4: by date
        ([message(1, sent=9), message(2, sent=5)], b"(2)(1)"),
        # step 5: one subject
        ([message(1, "a"), message(2, "Re: a")], b"(1 2)"),
        ([message(1, "Re: a"), message(2, "a")], b"(2 1)"),
        ([message(1, "a"), message(2, "a")], b"((1)(2))"),
        ([message(1, "Re: a"), message(2, "Fwd: a"), message(3, "b")], b"((1)(2))(3)"),
        ([message(1, "a"), message(2, "a", "2", "0"), message(3, "b", "3", "0")], b"((1)(2)(3))"),
        (
            [
                message(1, "a", "1", "0"),
                message(2, "a", "2", "0"),
                message(3, "a", "3", "00"),
                message(4, "a", "4", "00"),
            ],
            b"((1)(2)(3)(4))",
        ),
    ],
)
def test_references(messages: list[Threaded], threads: bytes) -> None:
    assert references(messages) == threads


def test_ordered_subject() -> None:
    messages = [
        message(1, "b", sent=5),
        message(2, "a", sent=1),
        message(3, "Re: b", sent=4),
        message(4, "Re: a", sent=9),
        message(5, "fwd: a", sent=7),
    ]
    # RFC 5256 section 3: the messages after the first are its children
    assert ordered_subject(messages) == b"(2 (5)(4))(3 1)"
    assert ordered_subject([]) == b""


def test_long_chains() -> None:
    count = 30_000
    chain = [message(n, "", str(n), *([str(n - 1)] if n > 1 else [])) for n in range(1, count + 1)]
    wanted = b"(" + b" ".join(b"%d" % n for n in range(1, count + 1)) + b")"
    assert references(chain) == wanted
    # backwards, and of ids whose messages are not here
    back = [m._replace(number=count + 1 - m.number, sent=0) for m in reversed(chain)]
    assert references(back).count(b" ") == count - 1
    gone = [message(1, "", "a", *map(str, range(count))), message(2, "", "b", "0")]
    assert references(gone) == b"((1)(2))"
    nested = [message(n, f"s{n}", f"m{n}", str(n // 2)) for n in range(1, 5000)]
    nested += [message(5000 + n, f"t{n}", str(n), str(n // 3)) for n in range(1, 5000)]
    assert references(nested).count(b"(") == references(nested).count(b")")


MESSAGES = st.lists(
    st.tuples(
        st.sampled_from(["", "a", "Re: a", "b", "fwd: b", "c"]),
        st.sampled_from(["", *"0123456"]),
        st.lists(st.sampled_from("0123456789"), max_size=4),
        st.integers(0, 5),
    ),
    max_size=12,
)


@given(MESSAGES)
def test_every_message_is_in_one_thread(
    rows: list[tuple[str, str, list[str], int]],
) -> None:
    messages = [
        message(n, subject, id_, *refs, sent=sent)
        for n, (subject, id_, refs, sent) in enumerate(rows, 1)
    ]
    for threads in (references(messages), ordered_subject(messages)):
        assert sorted(map(int, re.findall(rb"\d+", threads))) == list(range(1, len(rows) + 1))
        # RFC 5256 section 4: thread-list
        text, before = threads, b""
        while text != before:
            before = text
            text = re.sub(rb"\((?:\d+(?: \d+)*(?: T{2,})?|T{2,})\)", b"T", text)
        assert set(text) <= {0x54}, threads


@pytest.mark.parametrize(
    ("text", "base", "reply"),
    [
        ("", "", False),
        ("a", "a", False),
        ("Re: a", "a", True),
        ("RE:re:Fw: FWD : a", "a", True),
        ("Re[2]: a", "a", True),
        ("[list] a", "a", False),
        ("[list] Re: [list] a", "a", True),
        ("[list]", "[list]", False),
        ("Re: [list]", "[list]", True),
        ("a (fwd)", "a", True),
        ("a (fwd) (FWD)  ", "a", True),
        ("[fwd: a]", "a", True),
        ("[Fwd: [list] Re: a (fwd)]", "a", True),
        ("Re: ", "", True),
        ("  a \t b  ", "a b", False),
        ("reply: a", "reply: a", False),
        ("[a [b] c", "[a [b] c", False),
    ],
)
def test_base_subjects(text: str, base: str, reply: bool) -> None:
    assert base_subject(text) == (base, reply)


@given(st.text("[]() re:fwdRE\t", max_size=60))
def test_a_base_subject_has_no_other(text: str) -> None:
    base, _ = base_subject(text)
    assert base_subject(base) == (base, False)
