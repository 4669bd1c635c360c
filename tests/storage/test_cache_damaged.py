"""A cache that a power cut has left half there: nobody who opens it hears of it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from twisted_mail.disk import OsDisk
from twisted_mail.storage.cache_file import CacheFile


def cache(path: Path) -> CacheFile:
    return CacheFile(OsDisk(), str(path), version=1, schema="CREATE TABLE t (a)", tables=["t"])


@pytest.mark.parametrize("how", ["garbage", "torn", "empty"])
def test_what_is_damaged_is_made_anew_at_once(tmp_path: Path, how: str) -> None:
    path = tmp_path / "cache.sqlite3"
    before = cache(path)
    with before.changing() as db:
        db.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 200)
    before.close()
    whole = path.read_bytes()
    damaged = {
        "garbage": b"\x00garbage" * 3000,
        "torn": whole[: len(whole) // 2 + 100],
        "empty": b"",
    }
    path.write_bytes(damaged[how])
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    after = cache(path)
    with after.changing() as db:
        db.execute("INSERT INTO t VALUES (1)")
    with after.opened() as db:
        assert ("ok",) in db.execute("PRAGMA integrity_check").fetchall()
        assert db.execute("SELECT a FROM t WHERE a = 1").fetchall() == [(1,)]
    after.close()


def test_a_directory_in_its_place_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite3"
    path.mkdir()
    (path / "somebody's").write_bytes(b"x")
    one = cache(path)
    with one.changing() as db:
        db.execute("INSERT INTO t VALUES (1)")
    one.close()
    (aside,) = tmp_path.glob("cache.sqlite3.broken-*")
    assert (aside / "somebody's").read_bytes() == b"x"


def test_what_cannot_be_opened_at_all_is_said(tmp_path: Path) -> None:
    one = cache(tmp_path / "missing" / "cache.sqlite3")
    with pytest.raises((sqlite3.Error, OSError)), one.opened():
        pass
    one.close()
