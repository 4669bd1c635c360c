"""A directory whose file system forgets on command what was not synced: `fuse_server`, driven from a test.

It needs root, /dev/fuse, a loop device, and Linux 6.18, where such a file system is told of syncfs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

from mailsite import DEADLINE, run

HERE = Path(__file__).parent


class CannotMount(Exception):
    """This machine has no such file system; the text says why."""


class Lost(NamedTuple):
    """What a cut took of what was not synced, and what it left of it."""

    names: int
    kept_names: int
    files: int
    pages: int
    kept_pages: int


class Forgetful:
    """The file system at `place`. `chance`: how often, in each operation, something gets to the disk by itself."""

    def __init__(self, place: Path, seed: int, chance: float = 0.01) -> None:
        self.place = place
        self._loops: list[str] = []
        self._device = place.with_name(place.name + ".device")
        self._process: subprocess.Popen[str] | None = None
        place.mkdir()
        if os.geteuid() != 0:
            raise CannotMount("only root can mount a file system that forgets")
        if not os.path.exists("/dev/fuse"):
            raise CannotMount("there is no /dev/fuse")
        with self._device.open("wb") as file:
            file.truncate(1 << 20)
        self._process = subprocess.Popen(
            [sys.executable, HERE / "fuse_server.py", place, str(seed), str(chance)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self.mount()
            before = self.syncs()
            sync_all(place)
            if self.syncs() == before:
                raise CannotMount("this kernel does not tell FUSE of syncfs: Linux 6.18 does")
        except BaseException:
            self.close()
            raise

    def mount(self) -> None:
        """What is on the disk is there again. Raises CannotMount."""
        # A device of its own: on the same one it would be the dead file system again, while anybody knows that.
        try:
            loop = run(["losetup", "--find", "--show", self._device]).stdout.strip()
        except (AssertionError, OSError) as error:
            raise CannotMount(f"there is no loop device: {error}") from error
        self._loops.append(loop)
        said = self._ask(f"mount {loop}")
        if said != "mounted":
            raise CannotMount(said)
        for old in self._loops[:-1]:
            run(
                ["losetup", "--detach", old], status=None
            )  # at once, or when nobody has it any more
        del self._loops[:-1]

    def cut(self, seed: int, kept: float) -> Lost:
        """The power goes. Of what is not synced each thing is there afterwards with probability `kept`."""
        return Lost(*map(int, self._ask(f"cut {seed} {kept}").split()))

    def syncs(self) -> int:
        return int(self._ask("syncs"))

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
            try:
                process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        run(["umount", "-l", self.place], status=None)
        for loop in self._loops:
            run(["losetup", "--detach", loop], status=None)
        self._loops.clear()

    def _ask(self, words: str) -> str:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        process.stdin.write(words + "\n")
        process.stdin.flush()
        late = threading.Timer(DEADLINE, process.kill)
        late.start()
        try:
            answer = process.stdout.readline().strip()
        finally:
            late.cancel()
        assert answer, f"the file system is dead: {words}"
        return answer


def sync_all(place: Path) -> None:
    """syncfs(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if libc.syncfs(fd) != 0:
            raise OSError(ctypes.get_errno(), "syncfs")
    finally:
        os.close(fd)
