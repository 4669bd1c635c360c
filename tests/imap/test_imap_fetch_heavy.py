"""Messages for which much is asked at once: their items are answered one by one, in the same words."""

from __future__ import annotations

from base64 import encodebytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from twisted_mail.imap import fetch_answer
from twisted_mail.imap.fetch_answer import Answering
from twisted_mail.imap.fetch_chosen import Chunk
from twisted_mail.imap.fetch_large import Mark
from twisted_mail.imap.fetch_plan import plan
from twisted_mail.imap.fetching import BinarySection, BinarySize, BodySection, Preview
from twisted_mail.imap.view import View
from twisted_mail.testing.mailboxes import MemoryAccount
from twisted_mail.turns import TURN, Turns

LETTERS = bytes(range(256)) * 40
MESSAGE = (
    b"Subject: parts\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n"
    b"Content-Transfer-Encoding: quoted-printable\n\nOnce=20upon =\na time\n"
    b"--b\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\n"
    + encodebytes(LETTERS)
    + b"--b\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\n"
    + b"QQ==Qg=QUJD=\n" * 500
    + b"--b\nContent-Transfer-Encoding: x-odd\n\nodd\n--b--\n"
)
PARTS = ((), (1,), (2,), (3,), (4,), (5,))


def body(part: tuple[int, ...], partial: tuple[int, int] | None) -> BodySection:
    return BodySection(part, "", (), True, partial, b"BODY[%d]" % sum(part))


def binary(part: tuple[int, ...], partial: tuple[int, int] | None) -> BinarySection:
    return BinarySection(part, True, partial, b"BINARY[%d]" % sum(part))


PARTIALS = st.none() | st.tuples(st.integers(0, 12_000), st.integers(1, 12_000))
ITEMS = st.one_of(
    st.builds(body, st.sampled_from(PARTS), PARTIALS),
    st.builds(binary, st.sampled_from(PARTS), PARTIALS),
    st.builds(lambda part: BinarySize(part, b"SIZE[%d]" % sum(part)), st.sampled_from(PARTS)),
    st.sampled_from([Preview(False), "UID", "FLAGS"]),
)


class Loop:
    """Its time goes on whenever it is asked for, so that every step of work is a long one."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[object] = []

    def seconds(self) -> float:
        self.now += TURN
        return self.now

    def callLater(self, delay: float, call: object) -> None:
        self.calls.append(call)

    def run(self) -> int:
        rounds = 0
        while self.calls:
            self.calls.pop()()  # type: ignore[operator]
            rounds += 1
        return rounds


def asked(items: list[object]) -> tuple[list[bytes], bool, int]:
    """The pieces of the answer, whether something could not be decoded, and how often others had their turn."""
    account = MemoryAccount()
    account.deliver(MESSAGE)
    loop = Loop()
    pieces: list[bytes] = []
    over: list[bool] = []

    async def run() -> bool:
        view = View(await (await account.open_mailboxes()).open("INBOX"))
        wanted = plan(items)  # type: ignore[arg-type]
        answering = Answering(view, wanted, wanted, Mark(), Turns(loop))
        async for piece in answering.pieces(iter([Chunk(range(1), range(1, 2))])):
            pieces.append(piece)
        return answering.unknown_cte

    Deferred.fromCoroutine(run()).addCallback(over.append)
    rounds = loop.run()
    return pieces, over[0], rounds


@given(st.lists(ITEMS, min_size=1, max_size=8, unique_by=repr))
def test_one_by_one_they_say_the_same(items: list[object]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch_answer, "HEAVY", 1 << 40)
        patch.setattr(fetch_answer, "SLOW", 1 << 40)
        together, unknown, _ = asked(items)
        patch.setattr(fetch_answer, "HEAVY", 0)
        patch.setattr(fetch_answer, "SLOW", 0)
        apart, same, _ = asked(items)
    assert b"".join(apart) == b"".join(together)
    assert same == unknown


def test_others_have_their_turn_between_hundreds_of_items() -> None:
    items: list[object] = [binary((3,), (at, 1)) for at in range(200)]
    pieces, _, rounds = asked(items)
    assert b"".join(pieces).count(b" ~{1}\r\n") == 200
    assert rounds >= 200


def test_of_a_message_that_is_asked_for_again_and_again_little_is_in_memory() -> None:
    items: list[object] = [body((), (at, 20_000)) for at in range(100)]
    pieces, _, _ = asked(items)
    assert sum(map(len, pieces)) > 1_900_000
    assert max(map(len, pieces)) < 100_000


def test_a_small_message_is_answered_in_one_piece() -> None:
    pieces, _, _ = asked([body((1,), None), "UID"])
    assert len(pieces) == 1
