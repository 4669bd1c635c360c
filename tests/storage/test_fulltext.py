"""The full-text index against looking at every message: cold, half built, complete, after removals, damaged."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mail.disk import OsDisk
from twisted_mail.message.collation import fold
from twisted_mail.message.searchable import (
    contains,
    field_in,
    has_field,
    may_contain,
    searchable,
    usual,
)
from twisted_mail.message.structure import scan
from twisted_mail.message.text import texts
from twisted_mail.storage import fulltext
from twisted_mail.storage.fulltext import Found, FullText, Learned

FOLDER = "f1"
VALIDITY = 7


def opened(directory: str | Path) -> FullText:
    return FullText(OsDisk(), f"{directory}/fulltext.sqlite3")


def learn(index: FullText, contents: dict[int, bytes], **others: object) -> bool:
    folder = str(others.get("folder", FOLDER))
    return index.learn(
        folder,
        VALIDITY,
        [Learned(uid, f"m{content!r}", searchable(content)) for uid, content in contents.items()],
    )


def search(
    index: FullText,
    needle: str,
    uids: Sequence[int],
    *,
    body_only: bool = False,
    folder: str = FOLDER,
) -> Found:
    return index.search(folder, VALIDITY, fold(needle), uids, body_only=body_only)


def message(body: str, *fields: str) -> bytes:
    return "\n".join([*fields, "", body, ""]).encode()


# Fields and parts so that needles lie across their edges, in other cases and compositions, encoded and not
LETTERS = st.sampled_from(
    ["a", "B", "é", "e\u0301", "É", "ß", "ſ", "K", "İ", "字", "😀", " ", "x", "-"]
)
TEXT = st.lists(LETTERS, max_size=12).map("".join)
NEEDLE = st.one_of(
    st.lists(LETTERS, max_size=5).map("".join),
    st.sampled_from(["\0", "\ufffd", "\uffff", '"', "abc", "subject: ", "a\n", "%", "AND", "*"]),
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    lines = [f"Subject: {draw(TEXT)}".encode(), f"From: {draw(TEXT)}".encode("latin-1", "replace")]
    if draw(st.booleans()):
        lines.append(f"Subject:{draw(TEXT)}\n {draw(TEXT)}".encode())
    if draw(st.booleans()):
        lines.insert(
            draw(st.integers(0, len(lines))),
            draw(st.sampled_from([b"garbage", b" x: y", b"abc\rd: e"])),
        )
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return b"\n".join([*lines, b"", draw(TEXT).encode(), b""])
    if kind == 1:
        charset = draw(st.sampled_from(["utf-7", "utf-16", "iso-2022-jp", "utf-8", "latin-1"]))
        text = draw(TEXT).encode(charset, "replace")
        return b"\n".join(
            [*lines, b"Content-Type: text/plain; charset=" + charset.encode(), b"", text]
        )
    if kind == 2:
        return b"\n".join([*lines, b"Content-Transfer-Encoding: base64", b"", b"YUJjYWJjYQ=="])
    if kind == 3:
        inner = b"Subject: " + draw(TEXT).encode() + b"\n\n" + draw(TEXT).encode()
        return b"\n".join([*lines, b"Content-Type: message/rfc822", b"", inner])
    parts = [
        b"--b\nContent-Description: %s\n\n%s\n" % (draw(TEXT).encode(), draw(TEXT).encode())
        for _ in range(2)
    ]
    return b"\n".join(
        [*lines, b"Content-Type: multipart/mixed; boundary=b", b"", *parts, b"--b--", b""]
    )


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_it_is_equal_to_the_naive_search(data: st.DataObject) -> None:
    contents = dict(enumerate(data.draw(st.lists(messages(), min_size=1, max_size=8)), 1))
    limit = data.draw(st.sampled_from([fulltext.FEW, 0]))
    size = data.draw(st.sampled_from([0, 4096]))
    cut = data.draw(st.sampled_from([40, 1 << 20]))
    few, fulltext.FEW = fulltext.FEW, limit
    packed, fulltext.PACKED = fulltext.PACKED, size
    try:
        # What is drawn may end a run in its midst.
        with TemporaryDirectory() as directory, closing(opened(directory)) as index:
            for _ in range(data.draw(st.integers(0, 4))):
                some = data.draw(st.sets(st.sampled_from(sorted(contents))))
                index.learn(
                    FOLDER,
                    VALIDITY,
                    [
                        Learned(
                            uid,
                            f"{contents[uid]!r}",
                            data.draw(st.sampled_from([searchable(contents[uid], cut), None])),
                        )
                        for uid in sorted(some)
                    ],
                )
                gone = data.draw(
                    st.sets(st.sampled_from(sorted(contents)), max_size=len(contents) - 1)
                )
                for uid in gone:
                    del contents[uid]
                if data.draw(st.booleans()):
                    while index.tidy(FOLDER, VALIDITY, contents):
                        pass
                for _ in range(3):
                    body_only = data.draw(st.booleans())
                    needle = fold(data.draw(NEEDLE))
                    uids = sorted(data.draw(st.sets(st.sampled_from(sorted(contents)))))
                    found = index.search(FOLDER, VALIDITY, needle, uids, body_only=body_only)
                    check(
                        found,
                        [u for u in uids if contains(contents[u], needle, body_only=body_only)],
                        uids,
                    )
                    name = data.draw(st.sampled_from(["subject", "from", "x", "garbage", ""]))
                    check(
                        index.search_field(FOLDER, VALIDITY, name, needle, uids),
                        [u for u in uids if has_field(contents[u], name, needle)],
                        uids,
                    )
    finally:
        fulltext.FEW, fulltext.PACKED = few, packed


def check(found: Found, naive: list[int], uids: list[int]) -> None:
    hits, unsure = set(found.hits), set(found.unsure)
    assert not hits & unsure
    assert hits | unsure <= set(uids)
    assert hits <= set(naive)
    assert set(naive) - hits <= unsure
    assert found.hits == sorted(hits)
    assert found.unsure == sorted(unsure)


@settings(deadline=None, max_examples=300)
@given(messages(), NEEDLE, st.booleans())
def test_the_text_that_is_kept_and_the_message_say_the_same(
    content: bytes, needle: str, body_only: bool
) -> None:
    needle = fold(needle)
    made = searchable(content)
    assert made.whole
    whole = [fold(text) for text in texts(content, scan(content), headers=not body_only)]
    there = not needle or any(needle in text for text in whole)
    assert contains(content, needle, body_only=body_only) == there
    if usual(needle):
        assert there == (made.text.find(needle.encode(), made.body if body_only else 0) >= 0)
    for name in ("subject", "from"):
        if usual(needle):
            assert field_in(made.text, made.fields, name, needle) == has_field(
                content, name, needle
            )
    if there:
        assert may_contain(content, needle)


def test_what_plainly_is_not_there_is_not_decoded() -> None:
    plain = b"Content-Type: text/plain; charset=us-ascii\n\nhello world\n"
    assert not may_contain(plain, "GOODBYE WORLD")
    assert may_contain(plain, "HELLO X")
    assert may_contain(plain.replace(b"us-ascii", b"utf-7"), "GOODBYE")
    assert may_contain(b"Content-Transfer-Encoding: Base64\n\naGVsbG8=\n", "HELLO")
    assert may_contain(b"Subject: =?utf-8?q?h=65llo?=\n\n", "HELLO")
    # Broken headers lose their line ends
    assert contains(b"Subject: good\nbye\n\n", "GOODBYE", body_only=False)


def test_what_is_no_field_has_no_name() -> None:
    content = b" subject: x\nFrom: y\n\n"
    made = searchable(content)
    assert not has_field(content, "subject", "X")
    assert not has_field(content, "", "X")
    assert not field_in(made.text, made.fields, "", "X")
    assert not field_in(made.text, made.fields, "subject", "X")
    assert field_in(made.text, made.fields, "from", "Y")
    assert b"SUBJECT: X" in made.text


def test_complete_it_is_sure(tmp_path: Path) -> None:
    index = opened(tmp_path)
    contents = {
        uid: message(f"number {uid:04} of a thousand", f"Subject: S{uid}") for uid in range(1, 1001)
    }
    assert search(index, "number", list(contents)) == Found([], list(contents))
    learn(index, contents)
    uids = list(contents)
    assert search(index, "number 0042", uids) == Found([42], [])
    assert search(index, "SUBJECT: s42", uids) == Found([42, *range(420, 430)], [])
    assert search(index, "subject: s42", uids, body_only=True) == Found([], [])
    assert search(index, "number 0042", uids, body_only=True) == Found([42], [])
    assert search(index, "number 0042", [41, 42], body_only=True) == Found([42], [])
    assert search(index, "42", uids[100:], body_only=True).hits == [
        uid for uid in uids[100:] if "42" in str(uid)
    ]
    assert search(index, "nowhere", uids) == Found([], [])
    assert search(index, "of a thousand", uids) == Found(uids, [])
    assert search(index, "", uids) == Found(uids, [])
    assert index.search_field(FOLDER, VALIDITY, "subject", "S99", uids).hits == [
        99,
        *range(990, 1000),
    ]
    assert index.search_field(FOLDER, VALIDITY, "subject", "", uids).hits == uids
    assert index.search_field(FOLDER, VALIDITY, "from", "", uids) == Found([], [])
    # Another folder, and the folder made anew, know nothing of it
    assert index.search("f2", VALIDITY, "NUMBER", [1], body_only=False) == Found([], [1])
    assert index.search(FOLDER, VALIDITY + 1, "NUMBER", [1], body_only=False) == Found([], [1])
    index.close()
    assert search(index, "number", [1]) == Found([], [1])


def test_needles_that_mean_something_to_fts5(tmp_path: Path) -> None:
    index = opened(tmp_path)
    few = fulltext.FEW
    fulltext.FEW = 0
    try:
        for uid, text in enumerate(
            ['say "AND" NOT', "a*b(c)d:e^f{g}", "100%_done'--", "tab\there"], 1
        ):
            learn(index, {uid: message(text)})
        for uid, needle in enumerate(['"and" not', "*b(c)d:e^f{g}", "%_done'--", "ab\the"], 1):
            assert search(index, needle, [1, 2, 3, 4]) == Found([uid], [])
    finally:
        fulltext.FEW = few
    index.close()


def test_copies_and_moves_share_a_document(tmp_path: Path) -> None:
    index = opened(tmp_path)
    learn(index, {1: message("something")})
    key = f"m{message('something')!r}"
    assert index.known([key, "other"]) == {key}
    index.learn("f2", VALIDITY, [Learned(9, key, None)])
    assert search(index, "something", [9], folder="f2") == Found([9], [])
    assert not index.tidy(FOLDER, VALIDITY, [])
    assert search(index, "something", [1]) == Found([], [1])
    assert search(index, "something", [9], folder="f2") == Found([9], [])
    assert not index.tidy("f2", VALIDITY, [])
    assert index.known([key]) == set()
    # Nothing of it is left
    db = sqlite3.connect(tmp_path / "fulltext.sqlite3")
    assert db.execute("SELECT count(*) FROM document").fetchone() == (0,)
    assert db.execute("SELECT rowid FROM trigram WHERE trigram MATCH '\"SOM\"'").fetchall() == []
    db.close()
    index.close()


def test_gone_messages_are_forgotten_some_at_a_time(tmp_path: Path) -> None:
    index = opened(tmp_path)
    learn(index, {uid: message(f"text {uid}") for uid in range(1, 301)})
    assert index.too_many(FOLDER, VALIDITY, 50)
    assert not index.too_many(FOLDER, VALIDITY, 250)
    rounds = 1
    while index.tidy(FOLDER, VALIDITY, range(1, 51)):
        rounds += 1
    assert rounds == 5
    assert search(index, "text", range(1, 301)) == Found(list(range(1, 51)), list(range(51, 301)))
    while index.keep_only([]):
        pass
    assert search(index, "text", [1, 2]) == Found([], [1, 2])
    index.close()


def test_what_is_cut_off_or_could_not_be_read_is_unsure(tmp_path: Path) -> None:
    index = opened(tmp_path)
    long = message("early " + "x" * 200 + " late")
    index.learn(
        FOLDER,
        VALIDITY,
        [Learned(1, "a", searchable(long, 100)), Learned(2, "b", None)],
    )
    assert search(index, "early", [1, 2]) == Found([1], [2])
    assert search(index, "late", [1, 2]) == Found([], [1, 2])
    index.close()


def test_deleted_or_damaged_it_begins_anew(tmp_path: Path) -> None:
    index = opened(tmp_path)
    learn(index, {1: message("something")})
    path = tmp_path / "fulltext.sqlite3"
    path.unlink()
    assert search(index, "something", [1]) == Found([], [1])
    learn(index, {1: message("something")})
    assert search(index, "something", [1]) == Found([1], [])
    index.close()
    path.write_bytes(b"no database" * 1000)
    index = opened(tmp_path)
    assert search(index, "something", [1]) == Found([], [1])
    assert len(list(tmp_path.glob("fulltext.sqlite3.broken-*"))) == 1
    learn(index, {1: message("something")})
    assert search(index, "something", [1]) == Found([1], [])
    index.close()


def test_a_damaged_text_is_no_hit(tmp_path: Path) -> None:
    index = opened(tmp_path)
    learn(index, {1: message("something " * 1000)})
    index.close()
    db = sqlite3.connect(tmp_path / "fulltext.sqlite3")
    db.execute("UPDATE document SET text = x'00'")
    db.commit()
    db.close()
    index = opened(tmp_path)
    assert search(index, "something", [1]) == Found([], [1])
    index.close()


def test_texts_of_another_version_are_dropped(tmp_path: Path) -> None:
    index = opened(tmp_path)
    learn(index, {1: message("something")})
    index.close()
    db = sqlite3.connect(tmp_path / "fulltext.sqlite3")
    db.execute("PRAGMA user_version=1")
    db.close()
    index = opened(tmp_path)
    assert search(index, "something", [1]) == Found([], [1])
    learn(index, {1: message("something")})
    assert search(index, "something", [1]) == Found([1], [])
    index.close()


def test_two_processes_share_it(tmp_path: Path) -> None:
    one, two = opened(tmp_path), opened(tmp_path)
    learn(one, {1: message("first")})
    learn(two, {2: message("second"), 1: message("first")})
    assert search(one, "second", [1, 2]) == Found([2], [])
    assert search(two, "first", [1, 2]) == Found([1], [])
    assert oct((tmp_path / "fulltext.sqlite3").stat().st_mode)[-3:] == "600"
    one.close()
    two.close()
