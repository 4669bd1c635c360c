"""How much a user may keep: the site's bounds, the user's own, and files made before there were any."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from twisted_mail.accounts.directory import Directory, DirectoryError
from twisted_mail.accounts.passwords import PasswordRecord
from twisted_mail.address import Address

ALICE = Address("alice", "example.org")
Record = Callable[[str], PasswordRecord]


@pytest.fixture
def bounded(open_directory: Any, directory: Directory, record: Record) -> Directory:
    directory.add_user(ALICE, record("secret"))
    made: Directory = open_directory(quota=(1000, None))
    return made


def test_the_sites_bounds_hold_for_everybody(bounded: Directory) -> None:
    assert bounded.quota("example.org/alice") == (1000, None)
    assert bounded.quota("example.org/nobody") == (1000, None)


def test_a_user_has_bounds_of_the_own(bounded: Directory) -> None:
    assert bounded.set_quota(ALICE, 5000, 7) == (5000, 7)
    assert bounded.quota("example.org/alice") == (5000, 7)
    user = bounded.user(ALICE)
    assert user is not None and (user.storage, user.messages) == (5000, 7)
    # 0: any; None: the site's again
    assert bounded.set_quota(ALICE, 0, None) == (None, None)
    assert bounded.set_quota(ALICE, None, None) == (1000, None)


def test_it_counts_in_other_processes_at_once(bounded: Directory, directory: Directory) -> None:
    assert bounded.quota("example.org/alice") == (1000, None)
    directory.set_quota(ALICE, 1, None)
    assert bounded.quota("example.org/alice") == (1, None)


@pytest.mark.parametrize("wrong", [(-1, None), (None, -1), (1 << 63, None)])
def test_what_is_no_bound(bounded: Directory, wrong: tuple[int | None, int | None]) -> None:
    with pytest.raises(DirectoryError, match="is no bound"):
        bounded.set_quota(ALICE, *wrong)
    with pytest.raises(DirectoryError, match="there is no user"):
        bounded.set_quota(Address("bob", "example.org"), 1, 1)
    assert bounded.quota("example.org/alice") == (1000, None)


def test_a_file_of_the_first_version_is_brought_up_to_date(
    tmp_path: Path, open_directory: Any, record: Record
) -> None:
    first: Directory = open_directory()
    first.add_domain("example.org")
    first.add_user(ALICE, record("secret"))
    first.close()
    with closing(sqlite3.connect(tmp_path / "accounts.sqlite3")) as db, db:
        db.execute("ALTER TABLE users DROP COLUMN storage")
        db.execute("ALTER TABLE users DROP COLUMN messages")
        db.execute("PRAGMA user_version = 1")
    db.close()
    old = sqlite3.connect(tmp_path / "accounts.sqlite3")
    query = "SELECT id, mailbox, enabled FROM users"  # what a process of that version goes on doing
    before = old.execute(query).fetchall()
    for _ in range(2):
        now: Directory = open_directory()
        assert now.quota("example.org/alice") == (None, None)
    now.set_quota(ALICE, 3, 4)
    assert now.quota("example.org/alice") == (3, 4)
    assert old.execute(query).fetchall() == before
    assert old.execute("PRAGMA user_version").fetchone() == (2,)
    old.close()
