"""A snapshot that was kept and brought up to date is the one that the rows make, whatever happened in between."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_account_folders import Here

from twisted_mail.mailboxes import StoreMode
from twisted_mail.storage import account, kept

COLUMNS = (
    "validity",
    "uidnext",
    "modseq",
    "uids",
    "flags",
    "modseqs",
    "sizes",
    "dates",
    "keywords",
)


def columns(snapshot):
    return {name: getattr(snapshot, name) for name in COLUMNS}


def from_rows(here):
    with here.store.locked() as locked:
        place = account._place(locked, "")
        return account._snapshot(place, place.modseq, account._read(locked, place.row.key))


def check(here):
    snapshot = here.store.snapshot("")
    assert columns(snapshot) == columns(from_rows(here))
    assert snapshot.log == ()
    assert snapshot.log_floor == snapshot.modseq


@pytest.fixture(autouse=True)
def always(monkeypatch):
    monkeypatch.setattr(kept, "LEAST", 3)
    monkeypatch.setattr(kept, "FEW", 2)


@pytest.fixture
def here(tmp_path):
    site = Here(tmp_path / "a")
    for _ in range(5):
        site.add()
    yield site
    site.store.release()


def rows_are_not_read(monkeypatch):
    monkeypatch.setattr(account, "_read", lambda *_: pytest.fail("rows are read"))


def bases(here):
    return [row[1] for row in here.store.rows("")]


def test_the_second_time_no_rows_are_read(here, monkeypatch):
    first = here.store.snapshot("")
    here.open()
    rows_are_not_read(monkeypatch)
    assert columns(here.store.snapshot("")) == columns(first)


def test_what_is_small_is_not_kept(here, monkeypatch):
    monkeypatch.setattr(kept, "LEAST", 6)
    here.store.snapshot("")
    with here.store.locked() as locked:
        assert kept.load(locked.index, account._place(locked, "").row.key) is None


def test_few_changes_are_found_and_not_written_down(here, monkeypatch):
    here.store.snapshot("")
    here.store.store("", [2], StoreMode.ADD, ["\\Seen", "$new"])
    here.store.remove("", bases(here)[3:4])
    expected = columns(from_rows(here))
    with monkeypatch.context() as patch:
        rows_are_not_read(patch)
        assert columns(here.store.snapshot("")) == expected
        with here.store.locked() as locked:
            place = account._place(locked, "")
            assert kept.load(locked.index, place.row.key)[0] < place.modseq


def test_many_changes_are_written_down(here):
    here.store.snapshot("")
    for _ in range(3):
        here.add()
    here.store.snapshot("")
    with here.store.locked() as locked:
        place = account._place(locked, "")
        assert kept.load(locked.index, place.row.key)[0] == place.modseq


def test_a_file_that_comes_back_is_there(here):
    lost = os.path.join(here.store.maildir, "new", here.files()[2])
    aside = os.path.join(here.home, "aside")
    here.store.refresh("")
    shutil.move(lost, aside)
    here.store.forget("", here.store.refresh(""))
    here.store.snapshot("")
    shutil.move(aside, lost)
    here.store.refresh("")
    check(here)
    assert len(here.store.snapshot("")) == 5


def test_after_an_unclean_stop_every_message_has_changed(here):
    before = here.store.snapshot("").modseq
    here.store.release()
    here.open(generation=2)
    check(here)
    assert min(here.store.snapshot("").modseqs) > before


@pytest.mark.parametrize("part", [1, 3])
def test_what_is_damaged_is_not_used(here, part):
    here.store.snapshot("")
    with here.store.locked() as locked:
        locked.index._db.execute("UPDATE kept SET data = substr(data, 5) WHERE part = ?", (part,))
    check(here)


def test_a_folder_made_over_has_none(here):
    here.store.snapshot("")
    with here.store.locked() as locked:
        row = account._place(locked, "").row
        locked.index.put_folder(row.folder, row.validity + 1, 1, row.modseq, row.generation)
        assert kept.load(locked.index, row.key) is None


STEPS = st.lists(
    st.one_of(
        st.just("add"),
        st.just("look"),
        st.just("again"),
        st.tuples(st.just("flag"), st.integers(0, 9)),
        st.tuples(st.just("remove"), st.integers(0, 9)),
        st.tuples(st.just("lose"), st.integers(0, 9)),
        st.just("find"),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_whatever_happens(steps):
    directory = tempfile.mkdtemp()
    try:
        here = Here(os.path.join(directory, "a"), furnished=False)
        lost = []
        for step in steps:
            what, number = step if isinstance(step, tuple) else (step, 0)
            there = here.store.rows("")
            row = there[number % len(there)] if there else None
            if what == "add":
                here.add()
            elif what == "look":
                here.store.snapshot("")
            elif what == "again":
                here.store.release()
                here.open()
            elif what == "find":
                while lost:
                    shutil.move(*reversed(lost.pop()))
                here.store.refresh("")
            elif row is None:
                pass
            elif what == "flag":
                here.store.store("", [row[0]], StoreMode.ADD, [("\\Seen", "\\Flagged")[number % 2]])
            elif what == "remove":
                here.store.remove("", [row[1]])
            else:
                path = os.path.join(here.store.maildir, row[2], row[3])
                lost.append((path, os.path.join(directory, row[3])))
                shutil.move(*lost[-1])
                here.store.forget("", here.store.refresh(""))
            if number % 3:
                check(here)
        check(here)
        here.store.release()
    finally:
        shutil.rmtree(directory)
