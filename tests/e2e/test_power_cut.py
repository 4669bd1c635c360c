"""The power goes, on the real system: a file system forgets what was not synced, and a server starts on what is left.

`forgetful` is worse than real ones: of what is not synced it loses everything, or any part, in any order. What was
answered is there afterwards, once, with its octets; what was deleted stays away. A few cuts here; ``nox -s powercuts``
makes $CUTS (40), and goes on until $MESSAGES (1000) are answered.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random

import pytest
from forgetful import CannotMount, Forgetful, sync_all
from mailsite import Site, until
from promises import Promises, Traffic
from volatile import ROOT, Refused, Volatile, paths

KEPT = (0.0, 0.5, 0.1, 0.9)
"""How much of what is unsynced a cut leaves, in turn."""
# clients whose server dies while they connect leave their sockets to the garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SEGMENTS = (64 << 20, 64 << 10)
"""Octets of a segment of the journal, in turn: with the usual ones no checkpoint would be seen, with small ones little
is unsynced."""
START = """
import sys
import twisted_mail.storage.segments as segments
segments.SEGMENT_SIZE = int(sys.argv.pop(1))
from twisted.scripts.twistd import run
run()
"""
NO_DNS = '[dns]\nservers = ["127.0.0.1:9"]\n'


class Machine:
    """A site whose data lie on a disk that forgets, and that can be switched off."""

    def __init__(self, site: Site, disk: Forgetful) -> None:
        self.site = site
        self.disk = disk
        self._starts = 0

    @property
    def command(self) -> list[str]:
        """The server, in the belief that the machine was switched on just now."""
        boot = self.site.directory / "boot_id"
        boot.write_text(f"{uuid.uuid4()}\n")
        script = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
        segment = SEGMENTS[self._starts // 2 % len(SEGMENTS)]
        self._starts += 1
        server = [sys.executable, "-c", START, str(segment), *self.site.command[1:]]
        return ["unshare", "--mount", "sh", "-c", script, str(boot), *server]

    def start(self) -> None:
        self.site.start(self.command)

    def switch_off(self, seed: int, kept: float) -> str:
        lost = self.disk.cut(seed, kept)
        self.site.kill()
        until(self._silent, "nobody listens any more")
        self.disk.mount()
        return f"{lost.names} names and {lost.pages} pages of {lost.files} files"

    def _silent(self) -> bool:
        try:
            self.site.connect("smtp").close()
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False


@pytest.fixture
def machine(
    tmp_path: Path, accounts: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[int], Machine]]:
    with ExitStack() as stack:

        def make(seed: int) -> Machine:
            site = Site(tmp_path / "site", NO_DNS)
            try:
                disk = Forgetful(site.data, seed)
            except CannotMount as error:
                pytest.skip(str(error))  # a kernel cannot be installed
            stack.callback(disk.close)
            stack.callback(site.close)
            shutil.copytree(accounts, site.data, dirs_exist_ok=True)
            sync_all(site.data)
            return Machine(site, disk)

        yield make


def progress(promises: Promises) -> tuple[int, ...]:
    """Answered, removed, moved, in the queue."""
    return promises.answered(), promises.removed(), promises.moved(), promises.sent_out()


def enough(promises: Promises, before: tuple[int, ...], messages: int) -> bool:
    """Whether so many more are answered, and some of each kind: none of them is the quickest on every machine."""
    wanted = (messages, 3, 1, 2)
    return all(
        now >= then + more
        for now, then, more in zip(progress(promises), before, wanted, strict=True)
    )


def cut_often(machine: Machine, cuts: int, messages: int, seed: int) -> Promises:
    """`cuts` power cuts at least, and until so many messages were answered."""
    random = Random(seed)
    promises = Promises(machine.site)
    machine.start()
    number = 0
    while number < cuts or promises.answered() < messages:
        traffic = Traffic(promises, seed=random.randrange(1 << 30))
        try:
            much = partial(enough, promises, progress(promises), min(messages // cuts, 200))
            until(much, lambda: f"all are answered something: {progress(promises)}")
            # the moment is by chance, and nothing depends on it
            threading.Event().wait(random.random() * 0.2)
            kept = KEPT[number % len(KEPT)]
            lost = machine.switch_off(random.randrange(1 << 30), kept)
        finally:
            traffic.stop()
        if number % 3 == 2:
            # once more, in the middle of the start
            machine.site.process = machine.site.spawn(machine.command)
            threading.Event().wait(0.3 + random.random() * 0.6)
            machine.switch_off(random.randrange(1 << 30), kept)
        machine.start()
        number += 1
        print(f"cut {number}: {kept} of it kept, {lost} lost")
        promises.check()
    print(
        f"{number} cuts, {promises.answered()} answered, {promises.removed()} deleted,"
        f" {promises.moved()} moved, {promises.renumbered} with another UID"
    )
    return promises


@pytest.mark.e2e
def test_the_power_goes_a_few_times(machine: Callable[[int], Machine]) -> None:
    promises = cut_often(machine(1), cuts=4, messages=240, seed=1)
    # what it is about has happened
    assert promises.removed() > 10 and promises.moved() > 3
    assert promises.sent_out() > 5


@pytest.mark.soak
def test_the_power_goes_often(machine: Callable[[int], Machine]) -> None:
    seed = int(os.environ.get("SEED", "7"))
    cut_often(
        machine(seed),
        int(os.environ.get("CUTS", "40")),
        int(os.environ.get("MESSAGES", "1000")),
        seed,
    )


# The disk itself, without a kernel: the test of the test


FILE = stat.S_IFREG | 0o600
DIRECTORY = stat.S_IFDIR | 0o700


def tree(disk: Volatile) -> dict[str, bytes]:
    """Path → content of each file that a name leads to."""
    return {
        path.decode(): disk.read(node.number, 0, 1 << 20)
        for path, node in paths(disk)
        if not node.is_directory
    }


def put(disk: Volatile, name: bytes, content: bytes, directory: int = ROOT) -> int:
    number = disk.make(directory, name, FILE, (0, 0), 0).number
    disk.write(number, 0, content, 0)
    return number


def after(disk: Volatile, kept: float = 0.0, seed: int = 0) -> dict[str, bytes]:
    return tree(disk.cut(seed, kept)[0])


def test_a_file_is_there_when_it_and_its_name_are_synced():
    for synced_file in (False, True):
        for synced_name in (False, True):
            disk = Volatile()
            number = put(disk, b"a", b"content")
            if synced_file:
                disk.sync(number)
            if synced_name:
                disk.sync_directory(ROOT)
            assert tree(disk) == {"/a": b"content"}
            wanted = {"/a": b"content" if synced_file else b""} if synced_name else {}
            assert after(disk) == wanted


def test_all_is_there_after_syncfs_and_when_everything_is_kept():
    for kept in (0.0, 1.0):
        disk = Volatile()
        directory = disk.make(ROOT, b"d", DIRECTORY, (0, 0), 0).number
        put(disk, b"a", b"x" * 10_000, directory)
        disk.rename((directory, b"a"), (ROOT, b"b"))
        if kept == 0.0:
            disk.sync_all()
        assert after(disk, kept) == {"/b": b"x" * 10_000}


def test_what_is_unlinked_comes_back_and_what_is_overwritten_is_as_it_was():
    disk = Volatile()
    number = put(disk, b"a", b"old")
    disk.sync_all()
    disk.write(number, 0, b"new and longer", 0)
    disk.unlink(ROOT, b"a")
    disk.forget(number)
    assert tree(disk) == {}
    assert after(disk) == {"/a": b"old"}


def test_a_rename_is_one_step():
    seen = set()
    for seed in range(40):
        disk = Volatile()
        one = disk.make(ROOT, b"one", DIRECTORY, (0, 0), 0).number
        two = disk.make(ROOT, b"two", DIRECTORY, (0, 0), 0).number
        put(disk, b"a", b"content", one)
        disk.sync_all()
        disk.rename((one, b"a"), (two, b"a"))
        if seed == 0:
            disk.sync_directory(one)  # one of the two is enough
        seen.add(tuple(after(disk, 0.0 if seed == 0 else 0.5, seed)))
    assert seen == {("/one/a",), ("/two/a",)}


def test_pages_are_lost_one_by_one_and_the_end_of_the_file():
    seen = set()
    for seed in range(60):
        disk = Volatile()
        number = put(disk, b"a", b"o" * 8192)
        disk.sync_all()
        disk.write(number, 0, b"n" * 12_288, 0)
        content = after(disk, 0.5, seed)["/a"]
        assert len(content) in (8192, 12_288)
        seen.add(tuple(content[at : at + 1] for at in range(0, len(content), 4096)))
    assert (b"n", b"o") in seen and (b"o", b"n") in seen and (b"o", b"n", b"\0") in seen


def test_what_was_done_to_one_name_keeps_its_order():
    for seed in range(60):
        disk = Volatile()
        put(disk, b"a", b"first")
        disk.sync_all()
        disk.unlink(ROOT, b"a")
        disk.sync(put(disk, b"a", b"second"))
        assert after(disk, 0.5, seed) in ({"/a": b"first"}, {}, {"/a": b"second"})


def test_a_truncated_file_has_nothing_behind_its_end():
    disk = Volatile()
    number = put(disk, b"a", b"x" * 5000)
    disk.truncate(number, 10, 0)
    disk.truncate(number, 5000, 0)
    assert disk.read(number, 0, 5000) == b"x" * 10 + bytes(4990)
    disk.sync_all()
    assert after(disk) == {"/a": b"x" * 10 + bytes(4990)}


def test_what_it_refuses():
    disk = Volatile()
    directory = disk.make(ROOT, b"d", DIRECTORY, (0, 0), 0).number
    put(disk, b"a", b"", directory)
    for number, refused in (
        (errno.ENOTEMPTY, lambda: disk.rmdir(ROOT, b"d")),
        (errno.EISDIR, lambda: disk.unlink(ROOT, b"d")),
        (errno.EEXIST, lambda: disk.make(directory, b"a", FILE, (0, 0), 0)),
        (errno.ENOENT, lambda: disk.lookup(ROOT, b"b")),
    ):
        with pytest.raises(Refused) as raised:
            refused()
        assert raised.value.number == number
