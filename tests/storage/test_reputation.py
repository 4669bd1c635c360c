"""What policies remember over a restart."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest

from twisted_mail.disk import OsDisk
from twisted_mail.storage.reputation import MOST, PURGE, Reputation, WriteBehind
from twisted_mail.testing import simulated_world

NOW = 1_800_000_000.0


class Memory:
    """Somebody who has something to remember."""

    def __init__(self, kind="x"):
        self.kind, self.known, self.changed = kind, {}, {}

    def learn(self, key, value, until=NOW + 1e6):
        self.known[key] = value
        self.changed[key] = (self.kind, key, until, value)

    def take(self, most):
        return [self.changed.pop(key) for key in list(self.changed)[:most]]

    def load(self, rows):
        self.known.update({key: value for kind, key, _, value in rows if kind == self.kind})


@pytest.fixture
def path(tmp_path):
    return os.path.join(tmp_path, "reputation.sqlite3")


def reopened(path, **more):
    return Reputation(OsDisk(), path, **more)


def test_rows_come_back_those_that_are_over_soonest_first(path):
    file = reopened(path)
    file.put([("x", b"a", NOW + 9, b"1"), ("y", b"b", NOW + 5, b"2"), ("x", b"c", NOW + 1, b"3")])
    file.put([("x", b"d", NOW - 1, b"4"), ("x", b"a", NOW + 2, b"5")])
    file.close()
    rows = reopened(path).load(NOW)
    assert [row for row in rows if row[0] == "x"] == [
        ("x", b"c", NOW + 1, b"3"),
        ("x", b"a", NOW + 2, b"5"),
    ]
    assert ("y", b"b", NOW + 5, b"2") in rows
    assert len(rows) == 3


def test_the_last_row_of_a_batch_counts_and_zero_deletes(path):
    file = reopened(path)
    file.put(
        [
            ("x", b"a", NOW, b"1"),
            ("x", b"a", 0.0, b""),
            ("x", b"b", 0.0, b""),
            ("x", b"b", NOW, b"2"),
        ]
    )
    assert [row[1] for row in file.load(0.0)] == [b"b"]
    file.put([("x", b"b", 0.0, b"")])
    assert file.load(0.0) == []


def test_what_is_over_and_what_is_too_much_is_purged(path):
    file = reopened(path, limit=10)
    file.put([("x", b"%d" % n, NOW + n, b"") for n in range(-50, 50)])
    file.put([("y", b"%d" % n, NOW + n, b"") for n in range(5)])
    file.purge(NOW)
    left = file.load(0.0)
    assert [row[1] for row in left if row[0] == "x"] == [b"%d" % n for n in range(40, 50)]
    assert len([row for row in left if row[0] == "y"]) == 4
    file.close()
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute("SELECT count(*) FROM reputation").fetchone() == (14,)
    db.close()


def test_a_damaged_file_is_made_anew(path):
    with open(path, "wb") as file:
        file.write(b"SQLite format 3\0" + b"\xff" * 5000)
    broken = reopened(path)
    assert broken.load(NOW) == []
    broken.put([("x", b"a", NOW + 1, b"")])
    assert len(broken.load(NOW)) == 1


def test_nobody_else_may_read_it(path):
    reopened(path).put([("x", b"a", NOW, b"")])
    assert os.stat(path).st_mode & 0o777 == 0o600


def kept(path, world=None):
    world = world or simulated_world(start=NOW)
    one, other = Memory("x"), Memory("y")
    return world, one, other, WriteBehind(world, reopened(path), [one, other], seconds=15)


def test_what_was_learned_is_there_after_a_crash_but_for_the_last_seconds(path):
    world, one, other, behind = kept(path)
    world.run(behind.start())
    one.learn(b"a", b"1")
    other.learn(b"a", b"2")
    world.reactor.advance(16)
    one.learn(b"late", b"3")
    world, one, other, behind = kept(path)
    world.run(behind.start())
    assert (one.known, other.known) == ({b"a": b"1"}, {b"a": b"2"})


def test_who_is_to_be_forgiven_is_told_once_also_when_the_server_was_not_there(path):
    reopened(path).forgive("alice@example.org", NOW)
    forgiven = []
    world = simulated_world(start=NOW)
    behind = WriteBehind(world, reopened(path), [], seconds=15, forgive=forgiven.append)
    world.run(behind.start())
    world.reactor.advance(16)
    assert forgiven == ["alice@example.org"]
    reopened(path).forgive("jürgen@example.org", NOW)
    world.reactor.advance(60)
    assert forgiven == ["alice@example.org", "jürgen@example.org"]
    world.run(behind.stop())


def test_a_stop_loses_nothing(path):
    world, one, _, behind = kept(path)
    world.run(behind.start())
    for number in range(MOST * 3 + 7):
        one.learn(b"%d" % number, b"")
    world.run(behind.stop())
    assert world.reactor.getDelayedCalls() == []
    world, one, _, behind = kept(path)
    world.run(behind.start())
    assert len(one.known) == MOST * 3 + 7


def test_a_stop_while_it_writes(path):
    world, one, _, behind = kept(path)
    world.run(behind.start())
    one.learn(b"a", b"1")
    while not behind._writing:
        world.reactor.step()
    one.learn(b"b", b"1")
    world.run(behind.stop())
    assert len(reopened(path).load(NOW)) == 2
    assert world.reactor.getDelayedCalls() == []


def test_it_is_purged_now_and_then(path):
    world, one, _, behind = kept(path)
    world.run(behind.start())
    one.learn(b"short", b"", NOW + 60)
    one.learn(b"long", b"")
    world.reactor.advance(PURGE + 60)
    assert [row[1] for row in reopened(path).load(0.0)] == [b"long"]


class Full(OsDisk):
    """A disk on which nothing can be made."""

    def open(self, path, flags, mode=0o777, **more):
        raise OSError(28, "No space left on device")


def test_a_disk_that_is_full_keeps_nobody_from_anything(path):
    world = simulated_world(start=NOW)
    one = Memory()
    behind = WriteBehind(world, Reputation(Full(), path), [one])
    world.run(behind.start())
    one.learn(b"a", b"")
    world.reactor.advance(60)
    one.learn(b"b", b"")
    world.reactor.advance(60)
    assert one.changed == {}
    world.run(behind.stop())
