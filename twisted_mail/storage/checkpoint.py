"""When the journal's segments are over: at a start, at a checkpoint, at a clean stop.

A segment is dropped when everything its records say is done and on the disk: no batch of it runs, no process that died
left something of it unfilled, none that is up has places neither filled nor parked, and the file system is synced.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Collection, Sequence
from dataclasses import replace

from twisted.logger import Logger

from ..disk import Disk
from .aside import no_file, set_aside
from .segments import Loaded, Segments, seal
from .writers import Writers

__all__ = ["Checkpoints", "Recovery"]

_log = Logger()
_DAMAGED = "damaged-segment"
"""What is set aside is called so, whatever its number: some are kept, not some of each."""


class Recovery:
    """How records are obeyed once more; the store gives its own."""

    def recover(self, loaded: Sequence[Loaded]) -> None:
        """Alone on the site: bring the disk to what the records say. Raises when that could not be finished."""

    def settle(self, loaded: Sequence[Loaded], writers: frozenset[int]) -> None:
        """The same for the records of these `writers`, who died while we are up."""

    def sealed(self) -> None:
        """What the records say is done, or parked, and soon they are dropped. Never raises."""

    def begun(self) -> Collection[str]:
        """A checkpoint begins. Gives what `dropped` is to be told."""
        return ()

    def dropped(self, before: Collection[str]) -> None:
        """All that the journal had when `begun` gave this is dropped, also on the disk."""


class Checkpoints:
    """Checkpoints of the journal in `segments`. Its methods block."""

    def __init__(
        self,
        disk: Disk,
        segments: Segments,
        writers: Writers,
        recovery: Recovery,
        spill: str,
        scratch: str,
    ) -> None:
        self._disk = disk
        self._segments = segments
        self._writers = writers
        self._recovery = recovery
        self._spill = spill
        self._scratch = scratch
        self._lock = -1
        self._synced = -1
        self._running = threading.Lock()

    def open(self) -> None:
        """Before anything else. Raises OSError."""
        self._lock = self._open_lock("checkpoint.lock")
        # Kept open: a file system tells a descriptor of each write that failed since it was opened, once.
        self._synced = self._disk.open(self._segments.directory, os.O_RDONLY | os.O_DIRECTORY)

    def close(self) -> None:
        """Let go of what is open."""
        for fd in (self._lock, self._synced):
            if fd >= 0:
                self._disk.close(fd)
        self._lock = self._synced = -1

    def _open_lock(self, name: str) -> int:
        return self._disk.open(os.path.join(self._segments.directory, name), os.O_RDWR | os.O_CREAT)

    def recover(self) -> None:
        """Alone on the site: settle everything that the segments say, then begin anew."""
        for number in self._segments.numbers():
            if no_file(self._disk, path := self._segments.path(number)):
                _log.error("{path} is not a file: set aside", path=path)
                set_aside(self._disk, path, name=_DAMAGED)
        old = self._segments.numbers()
        loaded = self._loaded(old)
        self._recovery.recover(loaded)
        if old:
            self._disk.syncfs(self._synced)
        self._segments.make_after((old or [0])[-1])
        for found in loaded:
            self._over(found)
            self._disk.sync_directory(self._segments.directory)
        for directory in (self._spill, self._scratch, self._writers.directory):
            for name in self._disk.names(directory):
                if no_file(self._disk, path := os.path.join(directory, name)):
                    _log.error("{path} is not a file, and stays", path=path)
                else:
                    self._disk.unlink(path)
        self._recovery.dropped(self._recovery.begun())

    def _over(self, found: Loaded) -> None:
        """All that a segment says is done; what is damaged in it, somebody may want to look at."""
        path = self._segments.path(found.number)
        if not found.damaged:
            if found.boot is None:
                # None has this name before its head is on the disk.
                _log.error("{path} is empty: what it said is lost", path=path)
            self._disk.unlink(path)
            return
        aside = set_aside(self._disk, path, name=_DAMAGED)
        _log.error(
            "{path}: {count} octets are no whole record: damaged, or what was written when the power failed and nobody"
            " was told of; {records} records were obeyed. Set aside as {aside}",
            path=path,
            count=found.damaged,
            records=len(found.records),
            aside=aside,
        )

    def _loaded(self, numbers: Sequence[int]) -> list[Loaded]:
        filled = self._writers.notes()
        loaded = [replace(self._segments.load(number), filled=filled) for number in numbers]
        # By what they say themselves: somebody may have put them back under other names.
        return sorted(loaded, key=lambda one: one.own or one.number)

    def loaded(self) -> Sequence[Loaded]:
        """All that the journal says now. Raises OSError."""
        if not self._disk.exists(self._writers.directory):
            return []
        while True:
            try:
                return self._loaded(self._segments.numbers())
            except FileNotFoundError:
                continue  # a checkpoint has dropped it

    def run(self) -> None:
        """Seal the current segment, sync the file system, drop what is sealed. At most one at a time."""
        if not self._running.acquire(blocking=False):
            return
        try:
            self._disk.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                self._checkpoint()
            finally:
                self._disk.flock(self._lock, fcntl.LOCK_UN)
        except BlockingIOError:
            _log.debug("another process makes a checkpoint")
        except Exception as error:
            _log.error("checkpoint failed, the journal is kept: {error}", error=str(error))
        finally:
            self._running.release()

    def sync(self) -> None:
        """What was filled until now is on the disk when this returns. Blocks. Raises OSError."""
        self._disk.syncfs(self._synced)

    def settle(self) -> None:
        """See that nothing is unfilled that a process committed which is dead by now.

        Raises BlockingIOError while another process makes a checkpoint, and whatever keeps it from that.
        """
        disk = self._disk
        with self._running:
            disk.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                if not self._writers.others():
                    return
                gate = self._open_lock("gate")
                try:
                    disk.flock(gate, fcntl.LOCK_EX)
                    current = self._segments.open_current()
                    try:
                        if current is not None:
                            disk.flock(current.fd, fcntl.LOCK_EX)
                        self._settle_dead()
                    finally:
                        if current is not None:
                            disk.close(current.fd)
                finally:
                    disk.close(gate)
            finally:
                disk.flock(self._lock, fcntl.LOCK_UN)

    def _checkpoint(self) -> None:
        disk = self._disk
        # Before the seal: the records about what is there now are in what is dropped.
        before = self._recovery.begun()
        over = self._seal_current()
        if over is None:
            # Nothing is in the journal.
            self._dropped(before)
            return
        sealed = self._segments.sealed()
        # Held by a process with places neither filled nor parked: then everything is kept.
        pins = self._open_lock("pins")
        try:
            disk.flock(pins, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._recovery.sealed()
            disk.syncfs(self._synced)
            with self._writers.dead() as dead:
                if not dead:
                    self._drop_all(sealed)
                    self._writers.drop(over)
                    self._dropped(before)
                    return
            # A process that was killed in the midst of a batch lets go of its locks one by one.
            _log.warn("the journal is kept: a process died just now")
        except BlockingIOError:
            _log.warn("the journal is kept: places of a process are not filled yet")
        finally:
            disk.close(pins)

    def _dropped(self, before: Collection[str]) -> None:
        if before:
            self._disk.sync_directory(self._segments.directory)
            self._recovery.dropped(before)

    def _seal_current(self) -> Collection[str] | None:
        """Settle what dead processes left, and let batches go on in the next segment. None: nothing is to be done.

        Gives what is over (`Writers.over`) when the segments go that are sealed then.
        """
        disk = self._disk
        current = self._segments.open_current()
        if current is None:
            return ()
        try:
            used = disk.fstat(current.fd).st_size > current.start
            if used:
                self._segments.make_after(current.number)
            elif not self._segments.sealed():
                return None
            gate = self._open_lock("gate")
            try:
                disk.flock(gate, fcntl.LOCK_EX)
                disk.flock(current.fd, fcntl.LOCK_EX)
                # No batch runs now: nobody removes what is put in its place here.
                self._settle_dead()
                over = self._writers.over()
                if used:
                    seal(disk, current.fd)
            finally:
                disk.close(gate)
        finally:
            disk.close(current.fd)
        return over

    def _settle_dead(self) -> None:
        """What a process left unfilled when it died, while others went on."""
        with self._writers.dead() as dead:
            if dead:
                self._recovery.settle(self._loaded(self._segments.numbers()), dead)
                for writer in dead:
                    self._writers.settled(writer)

    def _drop_all(self, numbers: Sequence[int]) -> None:
        """In their order, also on the disk: a record that removes or voids never goes before what it is about."""
        for number in numbers:
            self._drop(number)
            if number != numbers[-1]:
                self._disk.sync_directory(self._segments.directory)

    def _drop(self, number: int) -> None:
        spilled: list[str] = []
        if self._disk.names(self._spill):
            spilled = [
                os.path.join(self._spill, name)
                for found in self._segments.load(number).records
                for name in found.spills()
            ]
        self._disk.unlink(self._segments.path(number))
        for path in spilled:
            if self._disk.exists(path):
                self._disk.unlink(path)

    def finish(self, site_lock: int) -> None:
        """This process has left nothing unfilled and ends. The last one leaves no segment behind: a clean stop."""
        try:
            self._disk.flock(site_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._writers.stopped()
            return
        if self._writers.others():
            return
        try:
            self._disk.syncfs(self._synced)
            self._drop_all(self._segments.numbers())
            self._writers.drop(self._writers.over())
            self._writers.forget_own()
            self._disk.sync_directory(self._segments.directory)
        except OSError as error:
            _log.error("the journal is kept for the next start: {error}", error=str(error))
