"""Spill files: whatever the sizes, with or without room at the front, direct or not, the bytes are those that came."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_site import Site, scratch

from twisted_mail.disk import OsDisk
from twisted_mail.status import MailError
from twisted_mail.storage import spill_file
from twisted_mail.storage.draft import Draft
from twisted_mail.storage.spill_file import SpillFile
from twisted_mail.testing.disk import FaultyDisk

BLOCK, PIECE = 4096, 512 * 1024
SIZES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 100_000, PIECE - BLOCK, PIECE - 1, PIECE, PIECE + 1]
NOISE = bytes(range(251)) * 4200


class Strict(OsDisk):
    """Direct I/O that wants what the most particular device wants, on whatever file system there is."""

    def __init__(self):
        self.on = set()
        self.strict = 0
        self.writes = []

    def direct(self, fd, on):
        (self.on.add if on else self.on.discard)(fd)
        return on

    def close(self, fd):
        self.on.discard(fd)
        super().close(fd)

    def pwrite(self, fd, data, offset):
        self.writes.append(len(data))
        if fd in self.on:
            self.strict += 1
            assert isinstance(data.obj, mmap.mmap)
            assert offset % BLOCK == len(data) % BLOCK == 0
        super().pwrite(fd, data, offset)

    def pread(self, fd, size, offset):
        assert fd not in self.on
        return super().pread(fd, size, offset)


class Without(OsDisk):
    """A file system that has no direct I/O."""

    def direct(self, fd, on):
        return False


class Late(Strict):
    """One that says so at the first write."""

    def pwrite(self, fd, data, offset):
        if fd in self.on:
            raise OSError(errno.EINVAL, "Invalid argument")
        super().pwrite(fd, data, offset)


DISKS = st.sampled_from([OsDisk, Strict, Without, Late])
# Of sizes, to be written together or one by one, and to be read between
PLAN = st.lists(st.tuples(st.lists(st.sampled_from(SIZES), max_size=3), st.booleans()), max_size=4)


def blocks_of(sizes, start):
    blocks = []
    for size in sizes:
        blocks.append(NOISE[start % 251 :][:size])
        start += size
    return blocks


@given(PLAN, st.sampled_from([0, 1, 700, BLOCK, BLOCK + 9]), st.booleans(), st.booleans(), DISKS)
def test_what_was_written_is_there_with_what_came_on_top(plan, room, fits, direct, disks):
    path = os.path.join(scratch(), "spill")
    disk = disks()
    file = SpillFile(disk, path, room, direct=direct)
    expected = b""
    for sizes, reads in plan:
        blocks = blocks_of(sizes, len(expected))
        expected += b"".join(blocks)
        file.write(blocks)
        if reads:
            middle = len(expected) // 2
            assert file.read(middle, 5000) == expected[middle : middle + 5000]
            assert file.read(len(expected), 10) == b""
    assert (file.size, file.crc) == (len(expected), zlib.crc32(expected))
    top = b"T" * (room if fits else room + 3)
    if len(top) == room:
        file.finish(top)
    else:
        old, file = file, file.copy(path + "2", top)
        old.remove()
        file.finish(b"")
    assert (file.size, file.crc) == (len(top + expected), zlib.crc32(top + expected))
    with open(file.path, "rb") as made:
        assert made.read() == top + expected
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(file.path)]
    assert getattr(disk, "on", set()) == set()
    # not only at the end of the test: there are hundreds of examples
    shutil.rmtree(os.path.dirname(path))


def test_much_goes_past_the_page_cache_in_large_pieces():
    disk = Strict()
    file = SpillFile(disk, os.path.join(scratch(), "spill"), 700, direct=True)
    file.write([NOISE, NOISE])
    file.finish(bytes(700))
    length = 700 + 2 * len(NOISE)
    whole = length - length % BLOCK
    # what fills no block comes after all that does, and the top last
    expected = [PIECE] * (whole // PIECE) + [whole % PIECE, length % BLOCK, 700]
    assert disk.writes == expected
    assert disk.strict == len(expected) - 2


def test_no_more_memory_is_kept_than_a_few_buffers(monkeypatch):
    monkeypatch.setattr(spill_file, "_buffers", [mmap.mmap(-1, PIECE) for _ in range(4)])
    directory = scratch()
    files = [SpillFile(Strict(), os.path.join(directory, str(n)), direct=True) for n in range(8)]
    for file in files:
        file.write([NOISE])
        assert len(file._carry) < BLOCK
    assert len(spill_file._buffers) == 4
    spill_file._buffers.clear()
    for file in files:
        file.write([NOISE])
    assert len(spill_file._buffers) == 1
    for file in files:
        file.remove()
    assert os.listdir(directory) == []


class Failing(FaultyDisk):
    """One that fails where something is made, written or synced; `opened`: what is open."""

    def __init__(self, fail_at):
        super().__init__(fail_at, counted=("open", "pwrite", "fdatasync"))
        self.opened = set()

    def open(self, path, flags, mode=0o600):
        fd = super().open(path, flags, mode)
        self.opened.add(fd)
        return fd

    def close(self, fd):
        self.opened.discard(fd)
        super().close(fd)


@pytest.mark.parametrize("foretold", [700, 3, None])
@pytest.mark.parametrize("reads", [False, True])
def test_a_draft_that_fails_anywhere_leaves_no_file_and_none_open(foretold, reads):
    for fail_at in range(1, 100):
        disk = Failing(fail_at)
        site = Site(scratch())
        site.run(site.store.start())
        disk.count = 0
        directory = site.store.draft().spill_directory
        draft = Draft(replace(site.world, disk=disk), directory, 10_000)
        draft.foretold = lambda: foretold
        try:
            for _ in range(3):
                draft.write(NOISE)
            if reads:
                assert site.run(draft.read(5, 9)) == NOISE[5:14]
            draft.put_on_top(bytes(700))
            site.run(draft.finish())
        except MailError as error:
            assert error.temporary
            site.world.reactor.advance(0)
            assert os.listdir(directory) == []
        else:
            assert disk.failed == []
            with open(os.path.join(directory, draft.spill), "rb") as made:
                assert made.read() == bytes(700) + NOISE * 3
            assert draft.crc == zlib.crc32(bytes(700) + NOISE * 3)
            assert len(disk.names(directory)) == 1
            draft.discard()
        assert disk.opened == set()
        site.run(site.store.stop())
        if not disk.failed:
            break
    assert fail_at > 5
