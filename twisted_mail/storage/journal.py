"""The journal: one instant of commitment for the whole site.

What waits is taken together: checked, written with one ``writev``, made durable by one ``fdatasync``, then the places
are filled without syncing, then everybody is answered with one call back to the reactor. A batch runs under a shared
lock of its segment; a checkpoint takes that lock alone, lets batches go on in the next segment, syncs the file system,
and only then drops the old one. Every process of a site appends to the same segment (O_APPEND): the order in it is
the order of all events.

Locks, always taken in this order: ``gate`` (so that a checkpoint is not starved by batches) → the segment. Beside
them: ``site.lock``, held shared by every process that is up and alone by one that replays; ``pins``, held shared by a
process with places neither filled nor parked, which keeps every segment; those of `storage.checkpoint` and
`storage.writers`.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..disk import Disk, make_directories
from ..world import World
from . import record, segments
from .checkpoint import Checkpoints, Recovery
from .errors import refusal
from .queued import Change, QueuedMessage
from .quota import Quota
from .record import Kind, Place
from .segments import Segment, Segments
from .writers import Writers

__all__ = ["Entry", "Journal", "Steps"]

_log = Logger()
GATHER = 0.0015
"""Seconds at most that a record waits for as many others as the last batch had. A batch costs as much as some messages
(a sync, locks, two threads taking turns), so bigger ones are worth a short wait; who is alone waits for the end of the
loop's round."""
MAX_LOOKS = 20_000
"""Files that a start would have to look at for one segment; then a checkpoint is due, as for one that is full. After a
power cut each takes 0.15 ms of CPU, and what the device needs to write it anew."""
MAX_BATCH = 256
"""Records in one batch."""
MAX_BUFFERS = 1000
"""Buffers in one ``writev`` (IOV_MAX is 1024)."""
MAX_BATCH_BYTES = 8 * 1024 * 1024


@dataclass(slots=True)
class Entry:
    """Something to commit. `error` is set when it was not; `done` fires on the reactor thread either way.

    Of an ACCEPT, `source` goes to all `places`; of a FILE, each of `sources` to the place of the same number. `quota`:
    what is asked before. `counted`: accounts that have a quota. `fillings` (where there is a list) and `moved` are what
    became of it (`storage.filling`).
    """

    kind: Kind
    meta: dict[str, Any]
    places: Sequence[Place] = ()
    queue: QueuedMessage | None = None
    changes: Sequence[Change] = ()
    content: Sequence[bytes] = ()
    size: int = 0
    source: Any = None
    sources: Sequence[Any] = ()
    quota: Quota | None = None
    counted: Collection[str] = ()
    fillings: list[Any] | None = None
    moved: Any = None
    error: Exception | None = None
    sequence: int = 0
    done: Deferred[None] = field(default_factory=Deferred)


class Steps(Recovery):
    """What a batch does around its record; the store gives its own."""

    def check(self, entries: Sequence[Entry]) -> None:
        """Before the commit: set `Entry.error` on what must be refused."""

    def fill(self, entries: Sequence[Entry]) -> None:
        """After the commit, and never raising: do what the entries say. The answer is yes already."""


class Journal:
    """The journal in `directory`, as one process sees it. `start` and `checkpoint` block: call them in a thread."""

    def __init__(
        self,
        world: World,
        directory: str,
        steps: Steps,
        *,
        boot: str,
        mail: str,
        segment_size: int = segments.SEGMENT_SIZE,
        due: Callable[[], None],
    ) -> None:
        self._world = world
        self._disk: Disk = world.disk
        self._directory = directory
        self._steps = steps
        self._size = segment_size
        self._due = due
        self._segments = Segments(
            self._disk, directory, boot=boot, size=segment_size, entropy=world.entropy
        )
        self.spill = os.path.join(directory, "spill")
        self.scratch = os.path.join(directory, "scratch")
        self._writer = int.from_bytes(world.entropy(8), "little") or 1
        self._writers = Writers(self._disk, os.path.join(directory, "writers"), self._writer, mail)
        self._checkpoints = Checkpoints(
            self._disk, self._segments, self._writers, steps, self.spill, self.scratch
        )
        self._sequence = 0
        self._looks_in = -1  # the segment of ours for which so many files would be looked at
        self._looks = self._look_at = 0
        self._failed_from = 0
        self._segment: Segment | None = None
        self._guard = threading.Lock()
        self._waiting: list[Entry] = []
        self._running = False
        self._crowd = 0
        self._gathering: Any = None
        self._open = False
        self._pinned = False
        self._kept = False
        self._lane = world.threads.lane("journal")
        self._locks: dict[str, int] = {}

    # -- committing

    def commit(self, entry: Entry) -> Deferred[None]:
        """Fires when the entry is durable and done, or fails with a `MailError`. Reactor thread only."""
        with self._guard:
            if not self._open:
                entry.error = refusal(RuntimeError("the journal is not open"))
            else:
                self._waiting.append(entry)
        if entry.error is not None:
            self._answer([entry])
        else:
            self._next_batch()
        return entry.done

    def _next_batch(self) -> None:
        """See that what waits gets to the lane. Reactor thread only, as all that touches `_running`."""
        if self._gathering is not None and (
            len(self._waiting) == self._crowd
            # The clock was set back meanwhile: by it, this would take as long once more.
            or self._gathering.getTime() > self._world.reactor.seconds() + GATHER
        ):
            self._gathering.cancel()
            self._gathering = self._world.reactor.callLater(0, self._begin)
        if self._running or not self._waiting or not self._open:
            return
        self._running = True
        # Not at once, even so: what others commit in this round of the loop goes with it.
        wait = GATHER if self._crowd > len(self._waiting) else 0
        self._gathering = self._world.reactor.callLater(wait, self._begin)

    def _begin(self) -> None:
        self._gathering = None
        self._lane.submit(self._work)

    def _work(self) -> None:
        """On the lane: one batch."""
        with self._guard:
            batch = self._take()
        self._run(batch)
        self._world.threads.back(self._done, batch)

    def _done(self, batch: Sequence[Entry]) -> None:
        self._running = False
        self._crowd = len(batch)
        self._answer(batch)
        self._next_batch()

    def _rest(self) -> None:
        """On the lane, at the end: batch after batch until nothing waits."""
        while True:
            with self._guard:
                batch = self._take()
            if not batch:
                return
            self._run(batch)
            self._world.threads.back(self._answer, batch)

    def _take(self) -> list[Entry]:
        size = buffers = count = 0
        for entry in self._waiting[:MAX_BATCH]:
            size += entry.size
            buffers += len(entry.content) + 2
            if count and (size > MAX_BATCH_BYTES or buffers > MAX_BUFFERS - 2):
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    def _run(self, batch: Sequence[Entry]) -> None:
        ready: list[Entry] = []
        try:
            self._steps.check(batch)
            ready = [entry for entry in batch if entry.error is None]
            if ready:
                with self._lock_current() as segment:
                    self._append(segment, ready)
                    self._committed(segment, ready)
        except Exception as error:
            because = refusal(error)
            _log.error(
                "a batch of {count} was not committed: {error}", count=len(batch), error=str(error)
            )
            for entry in batch:
                if entry.error is None:
                    entry.error = because

    def _committed(self, segment: Segment, ready: Sequence[Entry]) -> None:
        """The answer is yes from here on, whatever happens."""
        try:
            self._steps.fill(ready)
            self._note()
            if self._disk.fstat(segment.fd).st_size >= self._size or self._long(segment, ready):
                self._due()
        except Exception:
            _log.failure("a batch may not be filled; the journal is kept until the next start")
            self._kept = True
            self.pin(True)

    def _long(self, segment: Segment, ready: Sequence[Entry]) -> bool:
        """Whether a start would have much to do to obey this segment, however small its records are."""
        if segment.number != self._looks_in:
            self._looks_in, self._looks, self._look_at = segment.number, 0, MAX_LOOKS // 16
        self._looks += sum(map(_looks, ready))
        if self._looks < self._look_at:
            return False
        self._look_at = self._looks + MAX_LOOKS // 16
        # The others are taken to do as much as we do.
        return self._looks * (1 + len(self._writers.others())) >= MAX_LOOKS

    def _note(self) -> None:
        """Say what need not be filled again on this boot. Without it, it is looked for once more."""
        if not self._pinned:
            try:
                self._writers.note(self._sequence)
            except OSError as error:
                _log.error("what is filled is not noted: {error}", error=str(error))

    def _append(self, segment: Segment, ready: Sequence[Entry]) -> None:
        first = self._sequence
        buffers = self._void_record(segment)
        for entry in ready:
            self._sequence += 1
            entry.sequence = self._sequence
            content = (
                entry.content
                if len(entry.content) < MAX_BUFFERS // 2
                else [b"".join(entry.content)]
            )
            buffers += record.encode(
                entry.kind,
                entry.meta,
                content,
                epoch=segment.epoch,
                writer=self._writer,
                sequence=entry.sequence,
            )
        try:
            expected = sum(map(len, buffers))
            written = self._disk.writev(segment.fd, buffers)
            if written != expected:
                raise OSError(28, f"only {written} of {expected} bytes were written")
        except OSError:
            # Whole records may stand before the tear. What we answer with 451 must not come back at a replay.
            self._failed_from = self._failed_from or first + 1
            self._void(segment)
            raise
        try:
            self._disk.fdatasync(segment.fd)
        except OSError:
            # The kernel may have dropped what it could not write: this segment is never synced again.
            self._failed_from = self._failed_from or first + 1
            self._abandon(segment)
            raise
        self._failed_from = 0

    def _void_record(self, segment: Segment) -> list[bytes]:
        """All since the first that failed: nothing of this process succeeded in between."""
        if not self._failed_from:
            return []
        meta = {"writer": self._writer, "first": self._failed_from, "last": self._sequence}
        self._sequence += 1
        return record.encode(
            Kind.VOID, meta, epoch=segment.epoch, writer=self._writer, sequence=self._sequence
        )

    def _void(self, segment: Segment) -> None:
        """Say at once what does not count: we may be killed before the next batch, which says it otherwise."""
        try:
            buffers = self._void_record(segment)
            if self._disk.writev(segment.fd, buffers) == sum(map(len, buffers)):
                self._disk.fdatasync(segment.fd)
                self._failed_from = 0
        except OSError as error:
            _log.error("a failed batch could not be voided yet: {error}", error=str(error))

    def _abandon(self, segment: Segment) -> None:
        """Go on in a new segment, which begins by voiding what failed in the old one."""
        try:
            try:
                self._segments.make_after(segment.number)
            finally:
                segments.seal(self._disk, segment.fd)
            fresh = self._segments.open_current()
            if fresh is not None:
                try:
                    self._void(fresh)
                finally:
                    self._disk.close(fresh.fd)
        except OSError as error:
            _log.error("no new segment after a failed sync: {error}", error=str(error))

    def _answer(self, batch: Sequence[Entry]) -> None:
        for entry in batch:
            if entry.error is None:
                entry.done.callback(None)
            else:
                entry.done.errback(entry.error)

    # -- segments and locks

    def _lock_current(self) -> _Held:
        """The current segment under a shared lock. Raises OSError when there is none and none can be made."""
        while True:
            segment = self._segment
            if segment is None:
                segment = self._segments.open_current()
                if segment is None:
                    self._segments.make_after((self._segments.numbers() or [0])[-1])
                    continue
                self._segment = segment
            gate = self._locks["gate"]
            self._disk.flock(gate, fcntl.LOCK_SH)
            try:
                self._disk.flock(segment.fd, fcntl.LOCK_SH)
            finally:
                self._disk.flock(gate, fcntl.LOCK_UN)
            sealed, there = segments.condition(self._disk, segment.fd)
            if not sealed and there:
                return _Held(self._disk, segment)
            if not there and not sealed:
                self._lost(segment)
            self._segment = None
            self._disk.close(segment.fd)

    def _lost(self, segment: Segment) -> None:
        """Somebody has deleted it: what is written there no start would find. Raises OSError."""
        try:
            # Then nothing that it says is needed any more, but of what is not filled.
            self._checkpoints.sync()
        finally:
            self._disk.flock(segment.fd, fcntl.LOCK_UN)
        _log.error(
            "{path} was deleted while it was in use: all that is filled is on the disk now, and mail goes on in the"
            " next segment. Leave the journal alone while the server runs",
            path=self._segments.path(segment.number),
        )

    def pin(self, held: bool) -> None:
        """Keep every segment (True) while this process has places that are neither filled nor parked."""
        self._pinned = held or self._kept
        self._disk.flock(self._locks["pins"], fcntl.LOCK_SH if self._pinned else fcntl.LOCK_UN)

    # -- start, checkpoint, stop

    def start(self) -> bool:
        """Open the journal; recover first when no other process is up. True when it did.

        Raises OSError, or what `Steps.recover` raises.
        """
        for path in (self._directory, self.spill, self.scratch, self._writers.directory):
            make_directories(self._disk, path)
        self._checkpoints.open()
        for name in ("site.lock", "gate", "pins"):
            self._locks[name] = self._disk.open(
                os.path.join(self._directory, name), os.O_RDWR | os.O_CREAT
            )
        site = self._locks["site.lock"]
        recovered = False
        try:
            self._disk.flock(site, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.debug("another process is up: no replay")
        else:
            self._checkpoints.recover()
            recovered = True
        # A conversion lets go for a moment; whoever replays in between finds nothing left to do.
        self._disk.flock(site, fcntl.LOCK_SH)
        self._locks["writer"] = self._writers.register()
        with self._guard:
            self._open = True
        return recovered

    def checkpoint(self) -> None:
        """Seal the current segment, sync the file system, drop what is sealed. Blocks; at most one at a time."""
        self._checkpoints.run()

    def loaded(self) -> Sequence[segments.Loaded]:
        """All that is in the journal now. Blocks. Raises OSError."""
        return self._checkpoints.loaded()

    def settle(self) -> None:
        """Settle what processes left that are dead by now. Blocks. Raises what keeps it from that."""
        self._checkpoints.settle()

    def refuse(self) -> None:
        """Commit nothing more; what waits is still committed."""
        with self._guard:
            self._open = False
        if self._gathering is not None:
            # `_rest` takes them
            self._gathering.cancel()
            self._gathering = None

    def stop(self, before_sync: Callable[[], None]) -> None:
        """Finish what waits, and when this is the last process leave no segment behind: a clean stop. Blocks."""
        self.refuse()
        self._lane.submit(self._rest)
        self._lane.stop()
        before_sync()
        # With something unfilled, the next start, or the others' checkpoint, finds a dead writer and settles it.
        if "writer" in self._locks and not self._pinned:
            self._checkpoints.finish(self._locks["site.lock"])
        segment, self._segment = self._segment, None
        if segment is not None:
            self._disk.close(segment.fd)
        self._checkpoints.close()
        while self._locks:
            self._disk.close(self._locks.popitem()[1])


class _Held:
    """A segment under a shared lock."""

    def __init__(self, disk: Disk, segment: Segment) -> None:
        self._disk = disk
        self._segment = segment

    def __enter__(self) -> Segment:
        return self._segment

    def __exit__(self, *_: object) -> None:
        self._disk.flock(self._segment.fd, fcntl.LOCK_UN)


def _looks(entry: Entry) -> int:
    """How many files a replay looks at for it."""
    queued = entry.queue is not None
    return len(entry.places) + len(entry.meta.get("bases", ())) + len(entry.changes) + queued
