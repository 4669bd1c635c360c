"""SEARCH against looking at each message by itself, for any tree of keys."""

from __future__ import annotations

import datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mail.imap import search as module
from twisted_mail.imap.search import Search
from twisted_mail.imap.search_answer import result
from twisted_mail.imap.searching import (
    All,
    And,
    Day,
    Flag,
    Header,
    ModSeq,
    Not,
    Numbers,
    Or,
    SearchKey,
    Size,
    Text,
    Within,
)
from twisted_mail.imap.sequence import STAR, SequenceSet
from twisted_mail.imap.view import Style, View
from twisted_mail.message.collation import fold
from twisted_mail.message.searchable import contains, has_field
from twisted_mail.testing.mailboxes import MemoryAccount, OpenMemoryBox

NOW = 1_000_000
DAY = 86_400
WORDS = st.sampled_from(["a", "B", "é", "ab", ""])
FLAGS = ["\\Seen", "\\Draft", "kw0", "kw7", "kw20"]


@st.composite
def letters(draw: st.DrawFn) -> bytes:
    lines = [f"Subject: {draw(WORDS)}", f"X-Own: {draw(WORDS)}"][draw(st.integers(0, 2)) :]
    return ("\n".join(lines) + f"\n\n{draw(WORDS)}\n").encode()


NUMBER = st.one_of(st.integers(1, 8), st.just(STAR))
SETS = st.lists(st.tuples(NUMBER, NUMBER).map(sorted).map(tuple), min_size=1, max_size=3).map(
    lambda ranges: SequenceSet(ranges)  # type: ignore[arg-type]
)
DAYS = st.integers(0, 12).map(lambda n: datetime.date(1970, 1, 5) + datetime.timedelta(n))
LEAVES: st.SearchStrategy[SearchKey] = st.one_of(
    st.just(All()),
    st.sampled_from([*FLAGS, "KW7", "none", "\\Recent"]).map(Flag),
    SETS.map(lambda some: Numbers(some, True)),
    st.builds(Size, st.booleans(), st.integers(0, 60)),
    st.builds(Day, st.just("internal"), st.sampled_from(["before", "on", "since"]), DAYS),
    st.builds(Within, st.booleans(), st.integers(1, 12 * DAY)),
    st.integers(0, 12).map(ModSeq),
    st.builds(Header, st.sampled_from([b"Subject", b"X-OWN", b"cc"]), WORDS.map(str.encode)),
    st.builds(Text, st.booleans(), WORDS.map(str.encode)),
)
KEYS: st.SearchStrategy[SearchKey] = st.recursive(
    LEAVES,
    lambda keys: st.one_of(
        st.lists(keys, min_size=2, max_size=4).map(lambda some: And(tuple(some))),
        st.builds(Or, keys, keys),
        keys.map(Not),
    ),
    max_leaves=8,
)


def holds(key: SearchKey, box: Any, at: int) -> bool:
    """By the plainest means."""
    snapshot = box.snapshot
    uid = snapshot.uids[at]
    text = box.texts[uid]
    match key:
        case All():
            return True
        case And():
            return all(holds(one, box, at) for one in key.keys)
        case Or():
            return holds(key.left, box, at) or holds(key.right, box, at)
        case Not():
            return not holds(key.key, box, at)
        case Flag():
            names = snapshot.names(snapshot.flags[at])
            return key.flag.lower() in [name.lower() for name in names]
        case Numbers():
            return key.sequence.holds(uid, snapshot.uids[-1])
        case Size():
            size = snapshot.sizes[at]
            return size > key.octets if key.larger else size < key.octets
        case Day():
            day = datetime.datetime.fromtimestamp(snapshot.dates[at], datetime.UTC).date()
            return {"before": day < key.day, "on": day == key.day, "since": day >= key.day}[key.is_]
        case Within():
            age = NOW - snapshot.dates[at]
            return age >= key.seconds if key.older else age <= key.seconds
        case ModSeq():
            return snapshot.modseqs[at] >= key.value
        case Header():
            return has_field(text, key.name.decode().lower(), fold(key.value.decode()))
        case Text():
            return contains(text, fold(key.value.decode()), body_only=not key.header)
    raise AssertionError(key)


def run(coroutine: Any) -> Any:
    """What nothing has to be waited for."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


async def breathe() -> None:
    pass


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.tuples(letters(), st.lists(st.sampled_from(FLAGS), unique=True), st.integers(0, NOW)),
        max_size=6,
    ),
    st.sets(st.integers(1, 6), max_size=3),
    KEYS,
    st.booleans(),
)
def test_any_tree(
    messages: list[tuple[bytes, list[str], int]], gone: set[int], key: SearchKey, slices: bool
) -> None:
    account = MemoryAccount(now=lambda: NOW)
    box = account.box("INBOX")
    box.add([(b"x: y\n\n", [f"kw{n}" for n in range(21)], 0)], NOW)
    box.remove([1])
    for one in messages:
        box.add([one], NOW)
    view = View(OpenMemoryBox(account, box, False))
    box.remove({uid + 1 for uid in gone})
    told = list(view.uids)
    view.advance(Style(), False)
    before = module.SLICE, module.FIRST
    if slices:
        module.SLICE, module.FIRST = 2, 1
    try:
        search = Search(view, key, "utf-8", now=lambda: NOW, breathe=breathe)
        selected = run(search.run())
    finally:
        module.SLICE, module.FIRST = before
    expected = [uid for at, uid in enumerate(box.snapshot.uids) if holds(key, box, at)]
    # "*" is the last that the client knows of, even when it is gone
    if not (told and told[-1] not in box.snapshot.uids):
        assert list(search.chosen(selected)) == expected
    found = run(result(view, search, selected, False, True))
    assert [told[number - 1] for number in found.numbers] == list(found.uids)


def test_a_hundred_thousand_flags_and_sizes() -> None:
    account = MemoryAccount(now=lambda: NOW)
    box = account.box("INBOX")
    box.add([(b"\n", ("\\Seen", "kw") if n % 2 else (), n) for n in range(3000)], NOW)
    view = View(OpenMemoryBox(account, box, False))
    key = And((Flag("kw"), Flag("\\Seen"), Not(Size(True, 99)), Within(False, NOW - 1000)))
    search = Search(view, key, "utf-8", now=lambda: NOW, breathe=breathe)
    assert list(search.chosen(run(search.run()))) == list(range(1002, 3001, 2))
