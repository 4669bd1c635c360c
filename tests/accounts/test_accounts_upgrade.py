"""The accounts of an older version: brought up to date, and put back."""

from __future__ import annotations

import os
import sqlite3
import stat

import pytest

from twisted_mail.accounts import tables
from twisted_mail.accounts.directory import Directory, DirectoryError
from twisted_mail.accounts.tables import kept_versions, undo_migration
from twisted_mail.address import Address

ALICE = Address.parse("alice@example.org")
RECORD = "{SCHEME}record"


def opened(path):
    return Directory(path, now=lambda: 0.0)


def users(path):
    db = sqlite3.connect(path)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        return version, [row[0] for row in db.execute("SELECT local FROM users ORDER BY id")]
    finally:
        db.close()


def mode(path):
    db = sqlite3.connect(path)
    try:
        return db.execute("PRAGMA journal_mode").fetchone()[0]
    finally:
        db.close()


def add(path, local):
    """As a process does it that knows the file's version."""
    db = sqlite3.connect(path)
    db.execute(
        "INSERT INTO users (key, local, domain, mailbox, password, created)"
        " VALUES (?, ?, 'example.org', ?, ?, 0)",
        (f"{local}@example.org", local, f"example.org/{local}", RECORD),
    )
    db.commit()
    db.close()


@pytest.fixture
def path(tmp_path):
    """A file of version 1, as the first release made them: users had no bounds of their own."""
    path = str(tmp_path / "accounts.sqlite3")
    directory = opened(path)
    directory.add_domain("example.org")
    directory.close()
    db = sqlite3.connect(path)
    for column in ("storage", "messages"):
        db.execute(f"ALTER TABLE users DROP COLUMN {column}")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    add(path, "alice")
    return path


def test_there_and_back(path):
    directory = opened(path)
    assert directory.user(ALICE).storage is None
    directory.close()
    assert users(path) == (2, ["alice"])
    assert kept_versions(path) == [1]
    assert users(f"{path}.before-1") == (1, ["alice"])
    assert stat.S_IMODE(os.stat(f"{path}.before-1").st_mode) == 0o600
    add(path, "bob")
    undo_migration(path, 1)
    assert users(path) == (1, ["alice"])
    assert mode(path) == "wal"
    assert users(f"{path}.after-2") == (2, ["alice", "bob"])
    assert kept_versions(path) == []
    # and forward again
    opened(path).close()
    assert users(path) == (2, ["alice"])


def test_a_new_file_keeps_nothing(tmp_path):
    path = str(tmp_path / "accounts.sqlite3")
    opened(path).close()
    assert os.listdir(tmp_path) == ["accounts.sqlite3"]


def test_what_is_in_use_is_not_put_back(path):
    directory = opened(path)
    with pytest.raises(DirectoryError, match="in use: stop the server"):
        undo_migration(path, 1)
    directory.close()
    assert users(path) == (2, ["alice"])


def test_a_migration_that_fails_leaves_the_file_as_it_was(path, monkeypatch):
    monkeypatch.setitem(tables._MIGRATIONS, 1, ("ALTER TABLE users ADD COLUMN x", "NO SUCH THING"))
    with pytest.raises(DirectoryError):
        opened(path)
    assert users(path) == (1, ["alice"])
    monkeypatch.undo()
    opened(path).close()
    assert users(path) == (2, ["alice"])
    assert users(f"{path}.before-1") == (1, ["alice"])


def test_the_copy_is_there_before_anything_changes(path, monkeypatch):
    """Killed in between: the file is the old one, or the copy is whole."""
    found = []
    real = tables._keep

    def keep(db, kept, entropy):
        found.append(users(path))
        real(db, kept, entropy)
        found.append((users(path), users(kept)))

    monkeypatch.setattr(tables, "_keep", keep)
    opened(path).close()
    assert found == [(1, ["alice"]), ((1, ["alice"]), (1, ["alice"]))]
