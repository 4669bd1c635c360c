"""Stories are found by each of their names, kept for their time, and never in the way."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from twisted.internet.defer import ensureDeferred

from twisted_mail.storage import stories
from twisted_mail.storage.stories import Stories, Story, find, find_mail, kept, similar
from twisted_mail.testing.world import simulated_world


def story(number: int, world) -> Story:
    return Story(
        f"{number:012x}",
        world.now(),
        f"<{number}@example.org>",
        f"c{number}",
        {"ip": "192.0.2.1", "recipients": ["a@example.org"], "size": number},
        [(0.0, "connected"), (0.5, "spf=pass (ä)")],
    )


def wait(world, seconds: float = 2.0) -> None:
    world.reactor.advance(seconds)
    for _ in range(20):
        world.reactor.settle()


def test_a_story_is_found_by_each_of_its_names(tmp_path):
    world = simulated_world()
    path = tmp_path / "stories.sqlite3"
    kept = Stories(world, path)
    told = [story(number, world) for number in range(3)]
    told.append(told[0]._replace(id="", message="", connection="c9"))
    for one in told:
        kept.put(one)
    wait(world)
    assert (path.stat().st_mode & 0o777) == 0o600
    for name in ("000000000001", "<1@example.org>", "1@example.org", "c1"):
        assert find(path, name) == [told[1]]
    assert find(path, "nothing") == []
    assert find(path, "") == []


def test_closing_writes_what_waits(tmp_path):
    world = simulated_world()
    path = tmp_path / "stories.sqlite3"
    kept = Stories(world, path)
    kept.put(story(1, world))
    closing = []
    ensureDeferred(kept.close()).addBoth(closing.append)
    wait(world, 0)
    assert closing == [None]
    assert len(find(path, "c1")) == 1
    assert world.reactor.getDelayedCalls() == []


def test_old_ones_and_those_over_the_bound_go(tmp_path, monkeypatch):
    monkeypatch.setattr(stories, "_SWEPT", 1)
    world = simulated_world()
    path = tmp_path / "stories.sqlite3"
    kept = Stories(world, path, keep=100.0, most=3)
    for number in range(5):
        kept.put(story(number, world))
    wait(world)
    kept.put(story(5, world))
    wait(world)
    assert [bool(find(path, f"c{number}")) for number in range(6)] == [False] * 3 + [True] * 3
    world.reactor.advance(200)
    kept.put(story(6, world))
    wait(world)
    assert [bool(find(path, f"c{number}")) for number in (5, 6)] == [False, True]


def test_what_waits_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(stories, "PENDING", 2)
    world = simulated_world()
    kept = Stories(world, tmp_path / "stories.sqlite3")
    for number in range(9):
        kept.put(story(number, world))
    wait(world)
    assert find(tmp_path / "stories.sqlite3", "c1")
    assert not find(tmp_path / "stories.sqlite3", "c2")


def test_a_damaged_row_is_passed_over_by_who_looks_and_who_sweeps(tmp_path):
    world = simulated_world()
    path = tmp_path / "stories.sqlite3"
    kept = Stories(world, path, most=3)
    for number in range(3):
        kept.put(story(number, world))
        wait(world)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE told SET stories = ? WHERE last = 1", (b'[["\xff\x00',))
    assert find(path, "c2") and not find(path, "c0")
    for number in range(3, 403):
        kept.put(story(number, world))
    wait(world)
    assert find(path, "c402") and not find(path, "c2")


def test_a_file_of_another_version_is_begun_anew_and_a_broken_one_too(tmp_path):
    world = simulated_world()
    path = tmp_path / "stories.sqlite3"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE stories (other)")
        database.execute("PRAGMA user_version=99")
    database.close()
    kept = Stories(world, path)
    kept.put(story(1, world))
    wait(world)
    assert find(path, "c1")
    path.write_bytes(b"not a database at all" * 100)
    for name in ("-wal", "-shm"):
        (tmp_path / f"stories.sqlite3{name}").unlink(missing_ok=True)
    kept.put(story(2, world))
    wait(world)
    assert find(path, "c2")
    assert len(list(tmp_path.glob("stories.sqlite3.broken-*"))) == 1
    with pytest.raises(FileNotFoundError):
        find(tmp_path / "none", "c2")


def test_lines_are_harmless_and_in_milliseconds(tmp_path):
    world = simulated_world()
    path = tmp_path / "stories.sqlite3"
    told = Stories(world, path)
    evil = "it calls itself a\r\nb\x1b[31m \u202e  c"
    told.put(story(1, world)._replace(lines=[(0.12345, evil), (0.5, "x" * 1000)]))
    wait(world)
    (found,) = find(path, "c1")
    assert found.lines == [(0.123, "it calls itself a b [31m c"), (0.5, "x" * 399 + "…")]
    assert found.lines == kept([(0.12345, evil), (0.5, "x" * 1000)])


def test_many_wait_for_no_others_and_few_do(tmp_path, monkeypatch):
    monkeypatch.setattr(stories, "CROWD", 3)
    world = simulated_world()
    path = tmp_path / "stories.sqlite3"
    told = Stories(world, path)
    for number in range(3):
        told.put(story(number, world))
    # The first three are being written
    told.put(story(3, world))
    wait(world, 0.0)
    assert [len(find(path, f"c{number}")) for number in range(4)] == [1, 1, 1, 0]
    wait(world, stories.SOON / 2)
    assert find(path, "c3") == []
    wait(world, stories.SOON)
    assert len(find(path, "c3")) == 1
    assert world.reactor.getDelayedCalls() == []


def test_many_stand_in_few_rows_and_each_is_found_and_goes_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(stories, "_TOGETHER", 3)
    monkeypatch.setattr(stories, "_SWEPT", 1)
    world = simulated_world()
    path = tmp_path / "stories.sqlite3"
    told = Stories(world, path, most=4)
    for number in range(8):
        told.put(story(number, world)._replace(lines=[(0.0, "“\n”"), (1.0015, '"\\')]))
    wait(world)
    assert [len(find(path, f"{number}@example.org")) for number in range(8)] == [0] * 4 + [1] * 4
    with closing(sqlite3.connect(path)) as database, database:
        assert list(database.execute("SELECT last, count FROM told")) == [(6, 2), (8, 2)]
    database.close()
    (found,) = find(path, "c4")
    assert found.lines == [(0.0, "“ ”"), (1.002, '"\\')]
    # Several of the same name, and not more than are wanted: the latest, the oldest of them first
    for number in (20, 21, 22):
        told.put(story(number, world)._replace(connection="c5"))
    wait(world)
    assert [one.id[-2:] for one in find(path, "c5", limit=2)] == ["15", "16"]


def test_mail_is_found_by_who_sent_it_to_whom_in_any_letters(tmp_path):
    world = simulated_world()
    path = tmp_path / "stories.sqlite3"
    told = Stories(world, path)
    facts = {"sender": "Ann@Example.org", "recipients": ["x@y.test", "ÄNNE@example.org"]}
    told.put(story(1, world)._replace(facts=facts))
    told.put(story(2, world)._replace(facts={"sender": "", "refused": ['"A\\"b"@x.test']}))
    told.put(story(3, world))
    wait(world)

    def ids(sender, recipient):
        return [int(one.id, 16) for one in find_mail(path, sender, recipient, limit=9)]

    assert ids("ann@example.org", None) == ids("ANN@EXAMPLE.ORG", "X@y.test") == [1]
    assert ids(None, "änne@example.org") == [1]
    assert ids("", None) == ids(None, '"a\\"B"@x.test') == [2]
    assert ids(None, None) == [1, 2]
    assert ids("ann@example.org", "ann@example.org") == ids("c1", None) == []
    assert similar(path, "<1@EXAMPLE") == ["<1@example.org>"]
    assert similar(path, "00000000000") == [f"{number:012x}" for number in (3, 2, 1)]
