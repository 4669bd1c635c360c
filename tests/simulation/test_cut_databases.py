"""What a power cut leaves of SQLite's files: whole, and as it was after one of its commits."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from twisted_mail.testing import cut_databases
from twisted_mail.testing.disk import PowerCutDisk


def opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    return db


def commit(db: sqlite3.Connection, number: int) -> None:
    db.execute("BEGIN")
    db.execute("UPDATE t SET n = ?", (number,))
    db.execute("INSERT INTO filling VALUES (randomblob(3000))")
    db.execute("COMMIT")


def found(path: Path) -> int | None:
    """The last commit that is there; None when nothing is."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 't'").fetchone():
            return None
        (number,) = db.execute("SELECT n FROM t").fetchone()
        rows = db.execute("SELECT count(*) FROM filling").fetchone()[0]
        assert rows == number
        return int(number)


@pytest.fixture
def site(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    disk = PowerCutDisk(str(root))
    db = opened(root / "queue.sqlite3")
    db.execute("CREATE TABLE t (n)")
    db.execute("CREATE TABLE filling (b)")
    db.execute("INSERT INTO t VALUES (0)")
    yield disk, db, root, tmp_path
    db.close()
    disk.close_all()


@pytest.mark.parametrize("carried", ["nothing", "a part", "all, and begun anew"])
def test_it_is_whole_and_not_older_than_what_was_synced(site, carried):
    disk, db, root, tmp_path = site
    for number in range(1, 4):
        commit(db, number)
    disk.after("syncfs", (str(root),))
    for number in range(4, 8):
        commit(db, number)
    if carried != "nothing":
        assert db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[0] == 0
    if carried == "all, and begun anew":
        assert db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0
    for number in range(8, 11):
        commit(db, number)
    seen = set()
    for seed in range(40):
        target = tmp_path / f"{carried}{seed}"
        disk.after_cut(str(target), luck=Random(seed))
        seen.add(found(target / "queue.sqlite3"))
    # Three: what was synced last. What SQLite has carried over since is on the disk, too.
    assert min(seen) == 3 and max(seen) == 10
    assert seen <= (set(range(3, 11)) if carried == "nothing" else {3, *range(7, 11)})
    assert len(seen) > 3


def test_a_process_that_dies_closes_nothing(site):
    """Closed in good order, the log is carried over and deleted: then the file of before is without it."""
    disk, db, root, tmp_path = site
    commit(db, 1)
    disk.after("syncfs", (str(root),))
    commit(db, 2)
    disk.power_off()
    db.close()
    assert not (root / "queue.sqlite3-wal").exists()
    for seed in range(20):
        target = tmp_path / str(seed)
        disk.after_cut(str(target), luck=Random(seed))
        assert found(target / "queue.sqlite3") in (1, 2)


def test_one_that_was_never_synced_may_be_empty(site):
    disk, db, _, tmp_path = site
    commit(db, 1)
    seen = set()
    for seed in range(40):
        target = tmp_path / str(seed)
        disk.after_cut(str(target), luck=Random(seed))
        path = target / "queue.sqlite3"
        seen.add(found(path) if path.exists() else "none")
    assert {"none", None, 1} <= seen <= {"none", None, 0, 1}


def test_what_stands_beside_a_database_is_no_database():
    assert cut_databases.is_database("index.sqlite3")
    assert not cut_databases.is_database("index.sqlite3-wal")
    assert cut_databases.is_part("index.sqlite3-shm") and not cut_databases.is_part("1.log")
