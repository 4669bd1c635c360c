"""What bounds the time of a start: how much there is to look at, and how often the device is waited for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from store_site import Site

from twisted_mail.storage import journal
from twisted_mail.testing.disk import HookedDisk

MANY = 60


class CountingDisk(HookedDisk):
    def __init__(self) -> None:
        super().__init__()
        self.counted: Counter[str] = Counter()

    def before(self, name: str, args: Sequence[Any]) -> None:
        self.counted[name] += 1

    @property
    def waits(self) -> int:
        return sum(
            self.counted[name] for name in ("fdatasync", "fsync", "sync_directory", "syncfs")
        )


def started_after_a_cut(tmp_path: Path, name: str, count: int, size: int) -> int:
    """How often the start waits for the device when the names of all mail are there, and empty files."""
    site = Site(str(tmp_path / name), segment_size=64 << 20).start()
    letters = [b"Subject: %d\n\n" % n + b"x" * size + b"\n" for n in range(count)]
    for number, letter in enumerate(letters):
        site.enqueue(letter, f"{number:012x}", "bob@far.example", accounts=["d/a"])
    site.kill()
    mailboxes = list(Path(site.maildir("d/a"), "new").iterdir())
    queued = [path for path in Path(site.data, "queue").rglob("*") if len(path.name) == 12]
    assert len(mailboxes) == len(queued) == count
    for path in (*mailboxes, *queued):
        # the spill file itself was synced: what a cut damages is another one
        path.unlink()
        path.touch()
    disk = CountingDisk()
    again = Site(site.data, seed=2, boot="boot-2", disk=disk).start()
    waits = disk.waits
    assert again.contents("d/a") == sorted(letters)
    assert [again.queued_file(f"{number:012x}") for number in range(count)] == letters
    again.stop()
    return waits


@pytest.mark.parametrize("size", [50, 300_000])
def test_what_is_mended_is_synced_once(tmp_path, size):
    few = started_after_a_cut(tmp_path, "few", 2, size)
    assert started_after_a_cut(tmp_path, "many", 10, size) == few


def test_a_checkpoint_is_due_when_a_start_would_have_much_to_look_at(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "MAX_LOOKS", MANY)
    site = Site(str(tmp_path / "data"), segment_size=64 << 20).start()
    numbers: list[list[str]] = []

    def segments() -> list[str]:
        site.turn()
        return sorted(name for name in os.listdir(tmp_path / "data/journal") if ".log" in name)

    first = segments()
    for _ in range(MANY // 3 - 1):
        site.deliver(b"Subject: one\n\nhello\n", "d/a", "d/b", "d/c")
        numbers.append(segments())
    assert numbers == [first] * len(numbers)
    site.deliver(b"Subject: one\n\nhello\n", "d/a", "d/b", "d/c")
    assert segments() != first
    # and the next one begins at nothing
    second = segments()
    for _ in range(MANY // 3 - 1):
        site.deliver(b"Subject: one\n\nhello\n", "d/a", "d/b", "d/c")
    assert segments() == second
    site.stop()


def test_other_processes_are_taken_to_do_as_much(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "MAX_LOOKS", MANY)
    site = Site(str(tmp_path / "data"), segment_size=64 << 20).start()
    other = Site(site.data, seed=2, segment_size=64 << 20).start()
    first = set(os.listdir(tmp_path / "data/journal"))
    for _ in range(MANY // 2 + MANY // 16):
        site.deliver(b"Subject: one\n\nhello\n", "d/a")
        site.turn()
    assert set(os.listdir(tmp_path / "data/journal")) != first
    other.stop()
    site.stop()
