"""Real directories, watched by real inotify, and what happens where there is none."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from twisted_mail import watch as module
from twisted_mail.watch import POLL, DirectoryWatcher


class Looks:
    """A disk whose clock the test moves. Times of directories are set by `settle`."""

    def __init__(self) -> None:
        self.now = 2_000_000_000 * 10**9

    def stat(self, path: str) -> os.stat_result:
        return os.stat(path)

    def clock_ns(self) -> int:
        return self.now


class Reactor(Clock):
    """Readers that are read when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []
        self.addReader = self.readers.append
        self.removeReader = self.readers.remove

    def read(self) -> None:
        for reader in tuple(self.readers):
            reader.doRead()


class Blind(Clock):
    """A reactor that knows no descriptors."""


class Watched:
    """A directory, a watcher and what was told."""

    def __init__(self, path: Path, reactor: Any) -> None:
        self.path = path
        self.reactor = reactor
        self.looks = Looks()
        self.watcher = DirectoryWatcher(reactor, self.looks)
        self.told: list[str | None] = []
        self.cancels: list[Callable[[], None]] = []

    def watch(self, path: Path | None = None) -> Callable[[], None]:
        self.cancels.append(self.watcher.watch(str(path or self.path), self.told.append))
        return self.cancels[-1]

    def news(self) -> list[str | None]:
        self.reactor.read()
        told, self.told[:] = list(self.told), []
        return told

    def after(self, seconds: float) -> list[str | None]:
        self.reactor.advance(seconds)
        told, self.told[:] = list(self.told), []
        return told


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path / "new", Reactor())
    watched.path.mkdir()
    yield watched
    for cancel in watched.cancels:
        cancel()
    assert watched.reactor.readers == []
    assert watched.reactor.getDelayedCalls() == []


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with capturedLogs() as events:
        yield events


def test_names_that_appear_go_and_are_renamed(watched: Watched) -> None:
    watched.watch()
    (watched.path / "a").touch()
    assert watched.news() == ["a"]
    os.link(watched.path / "a", watched.path / "b")
    assert watched.news() == ["b"]
    (watched.path / "a").rename(watched.path / "a:2,S")
    assert watched.news() == ["a", "a:2,S"]
    (watched.path / "b").unlink()
    assert watched.news() == ["b"]
    (watched.path.parent / "tmp").touch()
    (watched.path.parent / "tmp").rename(watched.path / "a:2,S")
    assert watched.news() == ["a:2,S"]
    (watched.path / "folder").mkdir()
    assert watched.news() == ["folder"]
    assert watched.news() == []


def test_what_is_in_a_file_is_not_watched(watched: Watched) -> None:
    (watched.path / "a").touch()
    watched.watch()
    (watched.path / "a").write_bytes(b"more")
    (watched.path / "a").chmod(0o600)
    os.utime(watched.path / "a")
    (watched.path / "a").read_bytes()
    assert watched.news() == []


def test_events_of_one_name_are_one(watched: Watched) -> None:
    watched.watch()
    for _ in range(3):
        (watched.path / "a").touch()
        (watched.path / "b").touch()
        (watched.path / "a").unlink()
    assert watched.news() == ["a", "b"]


def test_names_that_are_not_utf8(watched: Watched) -> None:
    watched.watch()
    (watched.path / os.fsdecode(b"\xff")).touch()
    assert watched.news() == ["\udcff"]


def test_more_than_is_read_at_once(watched: Watched) -> None:
    watched.watch()
    names = [f"{number:0200d}" for number in range(1000)]
    for name in names:
        (watched.path / name).touch()
    told: list[str | None] = []
    while news := watched.news():
        assert len(news) < 400
        told += news
    assert told == names


def test_many_watchers_share_one_watch(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[int] = []
    add = module._Inotify.add

    def counted(self: Any, path: str) -> int:
        added.append(add(self, path))
        return added[-1]

    monkeypatch.setattr(module._Inotify, "add", counted)
    cancels = [watched.watch() for _ in range(3)]
    assert len(added) == 1
    assert len(watched.reactor.readers) == 1
    (watched.path / "a").touch()
    assert watched.news() == ["a"] * 3
    cancels[0]()
    cancels[0]()
    (watched.path / "b").touch()
    assert watched.news() == ["b"] * 2


def test_one_descriptor_for_all_directories(watched: Watched) -> None:
    other = watched.path.parent / "cur"
    other.mkdir()
    cancel = watched.watch()
    watched.watch(other)
    assert len(watched.reactor.readers) == 1
    (other / "b").touch()
    assert watched.news() == ["b"]
    cancel()
    (watched.path / "c").touch()
    (other / "d").touch()
    assert watched.news() == ["d"]


def test_two_paths_of_one_directory(watched: Watched) -> None:
    alias = watched.path.parent / "alias"
    alias.symlink_to(watched.path)
    watched.watch()
    cancel = watched.watch(alias)
    (watched.path / "a").touch()
    assert watched.news() == ["a", "a"]
    cancel()
    (watched.path / "b").touch()
    assert watched.news() == ["b"]


def test_nothing_is_told_after_cancelling(watched: Watched) -> None:
    cancel = watched.watch()
    (watched.path / "a").touch()
    cancel()
    assert watched.reactor.readers == []
    watched.watch()
    assert watched.news() == []


def test_cancelling_and_watching_while_being_told(watched: Watched) -> None:
    told: list[str] = []

    def changed(name: str | None) -> None:
        told.append(f"first {name}")
        for cancel in watched.cancels:
            cancel()
        watched.cancels = [watched.watcher.watch(str(watched.path), watched.told.append)]

    watched.cancels = [
        watched.watcher.watch(str(watched.path), changed),
        watched.watcher.watch(str(watched.path), lambda name: told.append(f"second {name}")),
    ]
    (watched.path / "a").touch()
    (watched.path / "b").touch()
    assert watched.news() == []
    assert told == ["first a"]
    (watched.path / "c").touch()
    assert watched.news() == ["c"]


def test_a_failure_of_one_is_not_the_others(watched: Watched, log: list[Any]) -> None:
    def clumsy(name: str | None) -> None:
        raise ValueError("a mistake of ours")

    watched.cancels.append(watched.watcher.watch(str(watched.path), clumsy))
    watched.watch()
    (watched.path / "a").touch()
    assert watched.news() == ["a"]
    assert [event["log_failure"].value.args for event in log] == [("a mistake of ours",)]


@pytest.mark.parametrize("way", ["removed", "moved"])
def test_a_directory_that_goes_and_comes_back(watched: Watched, way: str) -> None:
    watched.watch()
    watched.watch()
    if way == "removed":
        watched.path.rmdir()
    else:
        watched.path.rename(watched.path.parent / "elsewhere")
    assert watched.news() == [None, None]
    assert watched.after(POLL) == []
    watched.path.mkdir()
    assert watched.after(POLL) == [None, None]
    (watched.path / "a").touch()
    assert watched.news() == ["a", "a"]
    assert watched.reactor.getDelayedCalls() == []


def test_a_directory_that_is_not_there_yet(watched: Watched) -> None:
    later = watched.path / "later"
    watched.watch(later)
    assert watched.after(5 * POLL) == []
    later.mkdir()
    (later / "a").touch()
    assert watched.after(POLL) == [None]
    (later / "b").touch()
    assert watched.news() == ["b"]


def test_who_is_told_by_a_look_may_cancel_another(watched: Watched) -> None:
    first, second = watched.path / "first", watched.path / "second"
    cancels: list[Callable[[], None]] = []
    cancels.append(watched.watcher.watch(str(first), lambda name: cancels[1]()))
    cancels.append(watched.watch(second))
    first.mkdir()
    second.mkdir()
    assert watched.after(POLL) == []
    (second / "a").touch()
    assert watched.news() == []
    cancels[0]()
    assert watched.watcher._directories == watched.watcher._by_wd == {}


def test_a_file_is_no_directory(watched: Watched) -> None:
    file = watched.path / "file"
    file.touch()
    watched.watch(file)
    (watched.path / "a").touch()
    assert watched.news() == []


def test_an_overflow_means_everything(watched: Watched, log: list[Any]) -> None:
    other = watched.path.parent / "cur"
    other.mkdir()
    watched.watch()
    watched.watch(other)
    watched.watcher._read(module._EVENT.pack(-1, module._Q_OVERFLOW, 0, 0))
    assert watched.news() == [None, None]
    assert ["more happened" in event["log_format"] for event in log] == [True]


# Without inotify


@pytest.mark.parametrize("what", ["no descriptors", "instances", "watches"])
def test_directories_are_looked_at(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[Any]
) -> None:
    def full(number: int) -> Callable[..., int]:
        def function(*arguments: object) -> int:
            ctypes.set_errno(number)
            return -1

        return function

    if what == "instances":
        monkeypatch.setattr(module._libc, "inotify_init1", full(errno.EMFILE))
    elif what == "watches":
        monkeypatch.setattr(module._libc, "inotify_add_watch", full(errno.ENOSPC))
    reactor = Blind() if what == "no descriptors" else Reactor()
    watched = Watched(tmp_path, reactor)
    cancels = [watched.watch(), watched.watch()]
    other = tmp_path / "other"
    other.mkdir()
    cancels.append(watched.watch(other))
    at = watched.looks.now - 10 * 10**9
    for path in (tmp_path, other):
        os.utime(path, ns=(at, at))
    watched.after(POLL)
    assert watched.after(10 * POLL) == []
    os.utime(tmp_path, ns=(at + 1, at + 1))
    assert watched.after(POLL * 0.9) == []
    assert watched.after(POLL * 0.1) == [None, None]
    assert watched.after(10 * POLL) == []
    warnings = [event for event in log if "log_format" in event]
    assert len(warnings) == 1
    assert "looked at every" in warnings[0]["log_format"]
    for cancel in cancels:
        assert len(reactor.getDelayedCalls()) == 1
        cancel()
    assert reactor.getDelayedCalls() == []


def test_a_modification_time_that_is_new_proves_nothing(tmp_path: Path) -> None:
    watched = Watched(tmp_path, Blind())
    at = watched.looks.now
    os.utime(tmp_path, ns=(at, at))
    cancel = watched.watch()
    assert watched.after(POLL) == [None]
    assert watched.after(POLL) == [None]
    watched.looks.now += 3 * 10**9
    assert watched.after(POLL) == [None]
    assert watched.after(POLL) == []
    cancel()


def test_inotify_is_taken_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> int:
        ctypes.set_errno(errno.ENOSPC)
        return -1

    watched = Watched(tmp_path, Reactor())
    with monkeypatch.context() as patch:
        patch.setattr(module._libc, "inotify_add_watch", full)
        cancel = watched.watch()
    (tmp_path / "a").touch()
    assert watched.after(POLL) == [None]
    assert watched.reactor.getDelayedCalls() == []
    (tmp_path / "b").touch()
    assert watched.news() == ["b"]
    cancel()
    assert watched.reactor.readers == []


def test_a_burst_is_read_together(watched: Watched) -> None:
    watched.watch()
    for number in range(module.BURST):
        (watched.path / str(number)).touch()
        assert watched.news() == [str(number)]
    assert watched.reactor.readers == []
    (watched.path / "a").touch()
    (watched.path / "b").touch()
    watched.reactor.advance(module.REST)
    assert watched.news() == ["a", "b"]
    # It goes on
    assert watched.reactor.readers == []
    watched.reactor.advance(module.REST)
    # Until it has been quiet for as long
    watched.reactor.advance(2 * module.REST)
    for number in range(module.BURST - 1):
        (watched.path / f"later{number}").touch()
        assert watched.news() == [f"later{number}"]


def test_who_asks_does_not_wait_for_the_end_of_a_burst(watched: Watched) -> None:
    asked: list[str | None] = []

    def told(name: str | None) -> None:
        watched.watcher.hasten()
        asked.append(name)

    watched.watch()
    watched.cancels.append(watched.watcher.watch(str(watched.path), told))
    watched.watcher.hasten()
    for number in range(module.BURST):
        (watched.path / str(number)).touch()
        watched.news()
    asked.clear()
    (watched.path / "a").touch()
    (watched.path / "b").touch()
    assert watched.news() == []
    watched.watcher.hasten()
    assert watched.news() == asked == ["a", "b"]
    watched.watcher.hasten()
    assert watched.news() == []
    # The next test's descriptor may have its number
    for cancel in watched.cancels:
        cancel()
    watched.watcher.hasten()


def test_names_are_told_together_with_what_became_of_them(watched: Watched) -> None:
    told: list[Mapping[str, bool] | None] = []
    watched.watch()
    (watched.path / "old").touch()
    watched.news()
    watched.cancels.append(watched.watcher.watch_names(str(watched.path), told.append))
    (watched.path / "old").rename(watched.path / "new")
    (watched.path / "fleeting").touch()
    (watched.path / "fleeting").unlink()
    os.link(watched.path / "new", watched.path / "caf\u00e9")
    os.rename(watched.path / "new", os.fsencode(watched.path) + b"/\xe9")
    os.rename(os.fsencode(watched.path) + b"/\xe9", watched.path / "new")
    assert watched.news() == ["old", "new", "fleeting", "caf\u00e9", "\udce9"]
    assert told == [
        {"old": False, "new": True, "fleeting": False, "caf\u00e9": True, "\udce9": False}
    ]
    watched.watcher._read(module._EVENT.pack(-1, module._Q_OVERFLOW, 0, 0))
    assert told[1:] == [None]


def test_who_does_much_himself_is_told_of_it_when_he_asks(watched: Watched) -> None:
    watched.watch()
    watched.watcher.hold()
    (watched.path / "a").touch()
    watched.watcher.hold()
    assert watched.news() == [] and watched.reactor.readers == []
    watched.watcher.drain()
    assert watched.news() == ["a"]
    # It ends by itself
    (watched.path / "b").touch()
    watched.reactor.advance(module.HELD)
    assert watched.news() == ["b"]
    watched.reactor.advance(module.REST)
    (watched.path / "c").touch()
    assert watched.news() == ["c"]


def test_who_asks_need_not_wait_for_the_reactor(watched: Watched) -> None:
    watched.watch()
    for number in range(module.HASTY):
        (watched.path / str(number)).touch()
    watched.watcher.drain()
    assert len(watched.told) == module.HASTY


def test_who_is_told_may_ask_hold_and_end(watched: Watched) -> None:
    def told(found: Mapping[str, bool] | None) -> None:
        watched.watcher.drain()
        watched.watcher.hold()
        for cancel in watched.cancels:
            cancel()

    watched.cancels.append(watched.watcher.watch_names(str(watched.path), told))
    watched.watcher.hold()
    (watched.path / "a").touch()
    watched.reactor.advance(module.HELD)
    assert watched.reactor.readers == [] and not watched.reactor.getDelayedCalls()
    watched.watcher.drain()
    watched.watcher.hold()


def test_one_descriptor_for_all_who_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To close one takes the kernel longer than a client may be kept waiting."""
    made: list[int] = []
    closed: list[int] = []
    init, close = module._libc.inotify_init1, os.close

    def opening(flags: int) -> int:
        made.append(init(flags))
        return made[-1]

    def closing(fd: int) -> None:
        closed.extend({fd} & set(made))
        close(fd)

    monkeypatch.setattr(module._libc, "inotify_init1", opening)
    monkeypatch.setattr(module.os, "close", closing)
    reactor = Reactor()
    watcher = DirectoryWatcher(reactor, Looks())
    told: list[str | None] = []
    for number in range(3):
        cancel = watcher.watch(str(tmp_path), told.append)
        (tmp_path / f"{number}").touch()
        reactor.read()
        assert told == [f"{number}"], "and nothing of what came while nobody watched"
        cancel()
        assert not reactor.readers
        assert not reactor.getDelayedCalls()
        (tmp_path / f"{number}.unseen").touch()
        told.clear()
    assert len(made) == 1
    assert not closed
    del watcher, cancel
    gc.collect()
    assert closed == made


def test_who_asks_need_not_wait_for_the_next_poll(tmp_path: Path) -> None:
    """A directory that was not there, and is made, and gets something, within one second."""
    reactor = Reactor()
    watcher = DirectoryWatcher(reactor, Looks())
    told: list[str | None] = []
    cancel = watcher.watch(str(tmp_path / "later"), told.append)
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "x").touch()
    assert told == []
    watcher.hasten()
    assert told == [None]
    told.clear()
    (tmp_path / "later" / "y").touch()
    reactor.read()
    assert told == ["y"]
    cancel()
    assert not reactor.getDelayedCalls()
