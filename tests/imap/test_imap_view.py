"""What a client is told keeps its numbers and flags those of the mailbox, whatever happens and whenever it is told."""

from __future__ import annotations

import re
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.imap.refusal import Bad
from twisted_mail.imap.sequence import SequenceSet
from twisted_mail.imap.view import Quiet, RenumberedError, Style, View, first_unseen
from twisted_mail.mailboxes import SEEN, Snapshot, StoreMode
from twisted_mail.testing.mailboxes import MemoryAccount, OpenMemoryBox

FLAGS = ("\\Seen", "\\Deleted", "\\Flagged", "work", "$Junk")
BASE, CONDSTORE, QRESYNC = (
    Style(),
    Style(condstore=True, uid=True),
    Style(condstore=True, qresync=True, uid=True),
)


def mailbox(messages: int = 0) -> Any:
    box = MemoryAccount().boxes["INBOX"]
    if messages:
        box.add([(b"x\n", (), 0)] * messages, 0)
    return box


def view_of(box: Any) -> View:
    return View(OpenMemoryBox(MemoryAccount(), box, False))


class Client:
    """What a client makes of what it is told. It asks for UID and FLAGS of each new message at once."""

    def __init__(self, box: Any, style: Style) -> None:
        self.view = view_of(box)
        self.style = style
        self.uids: list[int] = []
        self.flags: dict[int, frozenset[str]] = {}
        self.exists(len(self.view))

    def exists(self, count: int) -> None:
        assert count >= len(self.uids)
        now = self.view.snapshot
        for uid in self.view.uids[len(self.uids) : count]:
            self.uids.append(uid)
            self.flags[uid] = frozenset(now.names(now.flags[now.index(uid)]))

    def hear(self, expunges: bool) -> bytes:
        before = self.view.uids
        said = b"".join(self.view.advance(self.style, expunges) or ())
        gone = b"EXPUNGE" in said or b"VANISHED" in said
        assert expunges or not gone
        for line in said.split(b"\r\n")[:-1]:
            self.line(line)
        assert self.uids == list(self.view.uids)
        assert gone or list(before) == self.uids[: len(before)]
        return said

    def line(self, line: bytes) -> None:
        if found := re.fullmatch(rb"\* (\d+) EXPUNGE", line):
            del self.uids[int(found[1]) - 1]
        elif found := re.fullmatch(rb"\* VANISHED (\S+)", line):
            for low, high in SequenceSet.parse(found[1]).ranges:
                for uid in range(low, high + 1):
                    self.uids.remove(uid)
        elif found := re.fullmatch(rb"\* (\d+) EXISTS", line):
            self.exists(int(found[1]))
        elif found := re.fullmatch(rb"\* (\d+) FETCH \((.*)\)", line):
            uid = self.uids[int(found[1]) - 1]
            if named := re.search(rb"UID (\d+)", found[2]):
                assert int(named[1]) == uid
            assert bool(named) == self.style.uid
            assert (b"MODSEQ (" in found[2]) == self.style.condstore
            if flags := re.search(rb"FLAGS \((.*?)\)", found[2]):
                self.flags[uid] = frozenset(flags[1].decode().split())
        else:
            assert line.startswith((b"* FLAGS (", b"* OK [PERMANENTFLAGS (")), line

    def store_silently(self, box: Any, uids: list[int], mode: StoreMode, flags: list[str]) -> None:
        """STORE … .SILENT: it knows what its messages have now, unless somebody else was there before."""
        here = [uid for uid in uids if uid in self.flags and uid in box.texts]
        box.store(here, mode, flags)
        for uid in here:
            old = self.flags[uid]
            new = frozenset(flags)
            self.flags[uid] = {
                StoreMode.ADD: old | new,
                StoreMode.REMOVE: old - new,
                StoreMode.REPLACE: new,
            }[mode]
        bits = box.snapshot.bits(flags)
        self.view.quiet = Quiet(frozenset(here), mode, bits)


uids = st.lists(st.integers(1, 30), unique=True, max_size=8).map(sorted)
flags = st.lists(st.sampled_from(FLAGS), unique=True, max_size=3)
steps = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 4), flags),
    st.tuples(st.just("remove"), uids),
    st.tuples(st.just("store"), uids, st.sampled_from(StoreMode), flags),
    st.tuples(st.just("silent"), st.integers(0, 2), uids, st.sampled_from(StoreMode), flags),
    st.tuples(st.just("forget")),
    st.tuples(st.just("flood"), st.integers(0, 40)),
    st.tuples(st.just("hear"), st.integers(0, 2), st.booleans()),
)


@given(st.lists(steps, max_size=40))
def test_no_client_ever_diverges(history: list[Any]) -> None:
    box = mailbox(3)
    clients = [Client(box, style) for style in (BASE, CONDSTORE, QRESYNC)]
    for what, *rest in history:
        if what == "add":
            box.add([(b"x\n", rest[1], 0)] * rest[0], 0)
        elif what == "remove":
            box.remove(rest[0])
        elif what == "store":
            box.store(*rest)
        elif what == "silent":
            which, some, mode, names = rest
            clients[which].store_silently(box, some, mode, names)
            clients[which].hear(False)
        elif what == "forget":
            box.forget_log()
        elif what == "flood":
            for n in range(rest[0]):
                box.store([1 + n % 3], StoreMode.REPLACE, [FLAGS[n % 3]])
        else:
            clients[rest[0]].hear(rest[1])
    now = box.snapshot
    for client in clients:
        client.hear(True)
        assert client.uids == list(now.uids)
        assert client.view.uids is now.uids
        assert {uid: client.flags[uid] for uid in client.uids} == {
            uid: frozenset(now.names(bits)) for uid, bits in zip(now.uids, now.flags, strict=True)
        }
        assert client.hear(True) == b""


def test_expunged_messages_keep_their_numbers_until_it_may_be_told() -> None:
    box = mailbox(4)
    view = view_of(box)
    box.remove([2])
    box.add([(b"x\n", (), 0)], 0)
    assert b"".join(view.advance(BASE, False) or ()) == b"* 5 EXISTS\r\n"
    assert list(view.uids) == [1, 2, 3, 4, 5]
    assert view.ghosts == {2}
    assert view.present([1, 2, 5]) == [1, 5]
    assert view.number(5) == 5
    assert view.advance(BASE, False) is None
    assert b"".join(view.advance(BASE, True) or ()) == b"* 2 EXPUNGE\r\n"
    assert view.uids is box.snapshot.uids


def test_what_came_and_went_is_never_told() -> None:
    box = mailbox(1)
    view = view_of(box)
    (uid,) = box.add([(b"x\n", (), 0)], 0)
    box.remove([uid])
    assert view.advance(BASE, True) is None
    assert view.uids is box.snapshot.uids


def test_what_the_log_tells_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change costs what has changed, not what the mailbox holds."""

    def compared(*snapshots: Any) -> Any:
        raise AssertionError("compared everything")

    monkeypatch.setattr("twisted_mail.imap.view._compared", compared)
    box = mailbox(9)
    view = view_of(box)
    (uid,) = box.add([(b"x\n", (), 0)], 0)
    box.store([1, uid], StoreMode.ADD, ["\\Seen"])
    box.remove([2, uid])
    box.add([(b"x\n", (), 0)], 0)
    assert b"".join(view.advance(BASE, True) or ()) == (
        b"* 2 EXPUNGE\r\n* 9 EXISTS\r\n* 1 FETCH (FLAGS (\\Seen))\r\n"
    )


def test_flags_of_new_messages_are_for_the_client_to_ask() -> None:
    box = mailbox(0)
    view = view_of(box)
    (uid,) = box.add([(b"x\n", (), 0)], 0)
    box.store([uid], StoreMode.ADD, ["\\Seen"])
    assert b"".join(view.advance(BASE, True) or ()) == b"* 1 EXISTS\r\n"


def test_what_was_changed_back_is_told_for_its_mod_sequence_only() -> None:
    box = mailbox(1)
    plain, condstore = view_of(box), view_of(box)
    box.store([1], StoreMode.ADD, ["\\Seen"])
    box.store([1], StoreMode.REMOVE, ["\\Seen"])
    assert b"".join(plain.advance(BASE, True) or ()) == b""
    assert b"".join(condstore.advance(CONDSTORE, True) or ()) == (
        b"* 1 FETCH (UID 1 MODSEQ (4))\r\n"
    )


def test_silence_is_for_one_command() -> None:
    box = mailbox(1)
    view = view_of(box)
    box.store([1], StoreMode.ADD, ["\\Seen"])
    view.quiet = Quiet(frozenset((1,)), StoreMode.ADD, SEEN)
    assert b"".join(view.advance(BASE, True) or ()) == b""
    box.store([1], StoreMode.REMOVE, ["\\Seen"])
    assert b"".join(view.advance(BASE, True) or ()) == b"* 1 FETCH (FLAGS ())\r\n"
    view.quiet = Quiet(frozenset((1,)), StoreMode.ADD, SEEN)
    assert view.advance(BASE, True) is None
    box.store([1], StoreMode.ADD, ["\\Seen"])
    assert b"".join(view.advance(BASE, True) or ()) == b"* 1 FETCH (FLAGS (\\Seen))\r\n"


def test_many_are_told_from_the_end_and_in_pieces() -> None:
    box = mailbox(5000)
    view = view_of(box)
    box.remove(range(1, 5000))
    pieces = list(view.advance(BASE, True) or ())
    assert len(pieces) == 5
    said = b"".join(pieces)
    assert said.startswith(b"* 4999 EXPUNGE\r\n* 4998 EXPUNGE\r\n")
    assert said.count(b"EXPUNGE") == 4999
    assert b"".join(pieces).endswith(b"* 1 EXPUNGE\r\n")


def test_a_new_keyword_is_announced_before_it_is_used() -> None:
    box = mailbox(1)
    view = view_of(box)
    box.store([1], StoreMode.ADD, ["work"])
    assert b"".join(view.advance(BASE, True) or ()) == (
        b"* FLAGS (\\Seen \\Answered \\Flagged \\Deleted \\Draft work)\r\n"
        b"* OK [PERMANENTFLAGS (\\Seen \\Answered \\Flagged \\Deleted \\Draft work \\*)] Kept\r\n"
        b"* 1 FETCH (FLAGS (work))\r\n"
    )


def test_the_last_keyword_ends_the_offer() -> None:
    box = mailbox(1)
    view = view_of(box)
    box.store([1], StoreMode.ADD, [f"k{n}" for n in range(26)])
    assert b"\\*" not in b"".join(view.advance(BASE, True) or ())


def test_silence_is_broken_when_somebody_else_was_there() -> None:
    box = mailbox(2)
    view = view_of(box)
    box.store([1], StoreMode.ADD, ["\\Flagged"])
    box.store([1, 2], StoreMode.ADD, ["\\Seen"])
    view.quiet = Quiet(frozenset((1, 2)), StoreMode.ADD, SEEN)
    assert b"".join(view.advance(BASE, True) or ()) == b"* 1 FETCH (FLAGS (\\Seen \\Flagged))\r\n"
    box.store([2], StoreMode.ADD, ["\\Deleted"])
    view.quiet = Quiet(frozenset((2,)), StoreMode.ADD, 8)
    # RFC 7162 section 3.1.3
    assert b"".join(view.advance(CONDSTORE, True) or ()) == b"* 2 FETCH (UID 2 MODSEQ (5))\r\n"


def test_another_uidvalidity_and_uids_out_of_order_are_no_news() -> None:
    box = mailbox(3)
    box.remove([2])
    validity = box.snapshot.validity
    for other in (
        snapshot(validity + 1, [1, 3]),
        snapshot(validity, [1, 2, 3]),
    ):
        view = view_of(box)
        with pytest.raises(RenumberedError):
            view.advance(BASE, True, other)


def snapshot(validity: int, uids: list[int]) -> Snapshot:
    count = len(uids)
    return Snapshot(
        validity=validity,
        uidnext=9,
        modseq=9,
        uids=array("I", uids),
        flags=array("I", [0] * count),
        modseqs=array("Q", [1] * count),
    )


def test_positions_and_bad_numbers() -> None:
    box = mailbox(5)
    box.remove([2])
    view = view_of(box)
    assert view.positions(SequenceSet.parse(b"2:3"), False) == [(1, 3)]
    assert view.positions(SequenceSet.parse(b"2:3"), True) == [(1, 2)]
    assert view.positions(SequenceSet.parse(b"9"), True) == []
    assert view.positions(SequenceSet.parse(b"*"), False) == [(3, 4)]
    with pytest.raises(Bad):
        view.positions(SequenceSet.parse(b"5"), False)
    assert list(view.chosen([(0, 1), (2, 4)])) == [1, 4, 5]
    assert view.chosen([(0, 4)]) is view.uids


def test_a_saved_result_follows_the_messages() -> None:
    box = mailbox(5)
    view = view_of(box)
    view.saved = array("I", [2, 4, 5])
    box.remove([1, 4])
    list(view.advance(BASE, True) or ())
    assert list(view.chosen(view.positions(SequenceSet.parse(b"$"), False))) == [2, 5]
    assert list(view.chosen(view.positions(SequenceSet.parse(b"$,3"), True))) == [2, 3, 5]


@given(st.lists(st.integers(0, 1 << 30), max_size=50))
def test_first_unseen_is_the_snapshots(bits: list[int]) -> None:
    now = Snapshot(
        validity=1,
        uidnext=99,
        modseq=1,
        uids=array("I", range(1, len(bits) + 1)),
        flags=array("I", bits),
    )
    assert first_unseen(now) == now.first_unseen()


@pytest.mark.parametrize("at", [0, 511, 512, 513, 4607, 4608, 5999, 6000])
def test_first_unseen_behind_many(at: int) -> None:
    flags = array("I", [SEEN]) * at + array("I", [0, SEEN])
    flags = flags[:6000]
    now = Snapshot(
        validity=1, uidnext=9999, modseq=1, uids=array("I", range(1, len(flags) + 1)), flags=flags
    )
    assert first_unseen(now) == now.first_unseen() == (at if at < 6000 else -1)
