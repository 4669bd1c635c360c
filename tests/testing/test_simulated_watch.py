"""What a simulated world tells of its directories, and when."""

from __future__ import annotations

import os
from pathlib import Path

from twisted_mail.testing import simulated_world


def test_it_is_told_by_the_simulated_clock(tmp_path: Path) -> None:
    world = simulated_world()
    told: list[tuple[float, str | None]] = []
    start = world.now()
    cancel = world.watcher.watch(
        str(tmp_path), lambda name: told.append((round(world.now() - start, 3), name))
    )
    world.reactor.advance(1)
    assert told == []
    (tmp_path / "b").touch()
    (tmp_path / "a").touch()
    world.reactor.advance(0.049)
    assert told == []
    world.reactor.advance(1)
    assert told == [(1.05, "a"), (1.05, "b")]
    cancel()
    cancel()
    assert world.reactor.getDelayedCalls() == []


def test_everything_that_happens_to_names(tmp_path: Path) -> None:
    world = simulated_world()
    told: list[str | None] = []
    world.watcher.every = None
    cancel = world.watcher.watch(str(tmp_path), told.append)
    assert world.reactor.getDelayedCalls() == []

    def news() -> list[str | None]:
        world.watcher.look()
        last, told[:] = list(told), []
        return last

    for number in range(20):  # within ticks of the clock that stamps
        (tmp_path / "a").touch()
        assert news() == ["a"]
        (tmp_path / "a").rename(tmp_path / "b")
        assert news() == ["a", "b"]
        (tmp_path / "new").touch()
        (tmp_path / "new").rename(tmp_path / "b")
        assert news() == ["b"]
        (tmp_path / "b").unlink()
        assert news() == ["b"], number
        assert news() == []
    world.watcher.overflow()
    assert told == [None]
    cancel()


def test_a_directory_that_comes_goes_and_comes_back(tmp_path: Path) -> None:
    world = simulated_world()
    told: list[str | None] = []
    path = tmp_path / "new"
    cancel = world.watcher.watch(str(path), told.append)
    world.reactor.advance(1)
    assert told == []
    path.mkdir()
    world.reactor.advance(1)
    assert told == [None]
    path.rmdir()
    world.reactor.advance(1)
    assert told == [None, None]
    cancel()


def test_many_watch_and_nobody_is_told_after_cancelling(tmp_path: Path) -> None:
    world = simulated_world()
    told: list[str] = []

    def first(name: str | None) -> None:
        told.append(f"first {name}")
        cancel_second()

    cancel_first = world.watcher.watch(str(tmp_path), first)
    cancel_second = world.watcher.watch(str(tmp_path), lambda name: told.append(f"second {name}"))
    assert world.watcher.watched == [str(tmp_path)]
    (tmp_path / "a").touch()
    world.reactor.advance(1)
    assert told == ["first a"]
    cancel_first()
    assert world.watcher.watched == []
    (tmp_path / "b").touch()
    world.reactor.advance(1)
    assert told == ["first a"]


def test_each_process_has_its_own_and_takes_it_along(tmp_path: Path) -> None:
    world = simulated_world()
    other = world.at("192.0.2.2")
    told: list[str | None] = []
    other.watcher.watch(str(tmp_path), told.append)
    assert world.reactor.getDelayedCalls() == []
    (tmp_path / "a").touch()
    world.reactor.advance(1)
    assert told == ["a"]
    other.kill()
    (tmp_path / "b").touch()
    world.reactor.advance(1)
    assert told == ["a"]


def test_a_quiet_directory_is_not_listed_again(tmp_path: Path) -> None:
    world = simulated_world()
    listed: list[str] = []
    names = world.disk.names

    class Counting:
        stat, clock_ns = world.disk.stat, world.disk.clock_ns

        def names(self, directory: str) -> list[str]:
            listed.append(directory)
            return names(directory)

    world.watcher._disk = Counting()
    os.utime(tmp_path, ns=(10**18, 10**18))
    cancel = world.watcher.watch(str(tmp_path), lambda name: None)
    world.reactor.advance(100)
    assert len(listed) == 1
    cancel()


def test_two_changes_in_one_tick_of_the_clock_that_stamps(tmp_path: Path) -> None:
    world = simulated_world()
    names: list[str] = []
    found = os.stat(tmp_path)

    class Coarse:
        def stat(self, path: str) -> os.stat_result:
            return found

        def clock_ns(self) -> int:
            return found.st_mtime_ns

        def names(self, directory: str) -> list[str]:
            return list(names)

    world.watcher._disk = Coarse()
    told: list[str | None] = []
    cancel = world.watcher.watch(str(tmp_path), told.append)
    names.append("a")
    world.reactor.advance(1)
    names.append("b")
    world.reactor.advance(1)
    assert told == ["a", "b"]
    cancel()
