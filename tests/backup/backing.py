"""Backups of a site of the tests: made, put back, and compared with what it was."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from filing_site import account, picked, read
from store_site import Site

from twisted_mail.backup import Backup, Made, restore
from twisted_mail.testing.disk import HookedDisk

GIVEN = 1_750_000_000
"""Later ones are those of this machine's clock, or of the simulated one."""
NAMES = ["pread", "names", "stat", "fstat", "exists"]


class Meddled(HookedDisk):
    """Calls `meddle` before the operation number `at`, looking included, or the first after it at which no account is
    locked by us."""

    def __init__(self, at: int = 0, meddle: Callable[[], object] | None = None) -> None:
        self.at = at
        self.count = 0
        self.meddle = meddle
        self._held: set[int] = set()

    def _tick(self) -> None:
        self.count += 1
        if self.meddle is not None and self.count >= self.at and not self._held:
            meddle, self.meddle = self.meddle, None
            meddle()

    def before(self, name: str, args: Any) -> None:
        self._tick()

    def flock(self, fd: int, operation: int) -> None:
        super().flock(fd, operation)
        path = os.readlink(f"/proc/self/fd/{fd}")
        if operation & fcntl.LOCK_EX and "/mail/" in path:
            self._held.add(fd)

    def close(self, fd: int) -> None:
        super().close(fd)
        self._held.discard(fd)


def _looked(name: str) -> Any:
    real = getattr(HookedDisk, name)

    def look(self: Meddled, *args: Any) -> Any:
        self._tick()
        return real(self, *args)

    return look


for _name in NAMES:
    setattr(Meddled, _name, _looked(_name))


class Clock:
    """A second passes whenever it is asked."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        self.now += 1
        return self.now


def back_up(site: Site, target: Any, clock: Clock, *, disk: Any = None, **how: Any) -> Made:
    backup = Backup(disk or HookedDisk(), site.data, str(target), now=clock, hostname="test")
    return backup.make(**how)


def put_back(made: Made, data: Any, **how: Any) -> Any:
    return restore(HookedDisk(), made.path, str(data), entropy=os.urandom, **how)


def start(data: Any, *, boot: str = "boot-9", seed: int = 99) -> Site:
    """Elsewhere, or after another boot."""
    return Site(str(data), boot=boot, seed=seed).start()


class Message(NamedTuple):
    """`mark`: UIDVALIDITY and UID."""

    base: str
    mark: tuple[int, int]
    content: bytes
    flags: tuple[str, ...]
    date: int


def contents(site: Site, key: str) -> dict[str, list[Message]]:
    """Of each folder by its name."""
    store = account(site, key)
    store.prepare()
    return {
        box.name: [
            Message(
                one.base,
                (store.validity(box.folder), one.uid),
                read(one.path),
                tuple(sorted(one.flags)),
                one.date,
            )
            for one in picked(site, key, box.name)
        ]
        for box in store.folders.all()
    }


def where(found: dict[str, list[Message]]) -> list[tuple[str, bytes, int]]:
    """What must agree whatever was numbered meanwhile; dates where they were given."""
    return sorted(
        (name, one.content, one.date if one.date < GIVEN else 0)
        for name, messages in found.items()
        for one in messages
    )


def checkpoint(site: Site) -> None:
    site.run(site.world.threads.call(site.store._journal.checkpoint))
