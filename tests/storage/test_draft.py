"""Drafts: what is put on top at the end, and reading before the end, in memory and in a spill file."""

from __future__ import annotations

import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_site import Site, scratch

from twisted_mail.disk import OsDisk
from twisted_mail.status import MailError

BLOCKS = st.lists(st.binary(max_size=200), max_size=12)


def whole(draft, directory: str) -> bytes:
    if draft.spill is None:
        return b"".join(draft.blocks)
    with open(os.path.join(directory, draft.spill), "rb") as file:
        return file.read()


@given(BLOCKS, st.binary(max_size=50), st.sampled_from([0, 100, 100_000]), st.booleans())
def test_what_is_put_on_top_is_there_whatever_the_size(blocks, top, keep, at_rest):
    site = Site(scratch())
    site.run(site.store.start())
    draft = site.store.draft(keep)
    for block in blocks:
        draft.write(block)
        if at_rest:
            site.run(draft.read(0, 1))
    draft.put_on_top(top[20:])
    draft.put_on_top(top[:20])
    site.run(draft.finish())
    expected = top + b"".join(blocks)
    directory = draft.spill_directory
    assert whole(draft, directory) == expected
    assert (draft.size, draft.lines) == (len(expected), expected.count(b"\n"))
    assert draft.crc == zlib.crc32(expected)
    assert os.listdir(directory) == ([draft.spill] if draft.spill else [])
    draft.discard()
    site.run(site.store.stop())
    assert os.listdir(directory) == []


@given(BLOCKS, st.integers(0, 500), st.integers(1, 500), st.sampled_from([0, 100, 100_000]))
def test_reading_is_a_slice_of_what_was_written(blocks, offset, size, keep):
    site = Site(scratch())
    site.run(site.store.start())
    draft = site.store.draft(keep)
    for block in blocks:
        draft.write(block)
    expected = b"".join(blocks)
    assert site.run(draft.read(offset, size)) == expected[offset : offset + size]
    draft.write(b"more")
    site.run(draft.finish())
    assert whole(draft, draft.spill_directory) == expected + b"more"
    draft.discard()
    site.run(site.store.stop())


class Counting(OsDisk):
    """`opened`: spill files that are open. `synced`: how often one was."""

    def __init__(self) -> None:
        self.opened: set[int] = set()
        self.synced = 0

    def open(self, path, flags, mode=0o600):
        fd = super().open(path, flags, mode)
        if "/spill/" in path:
            self.opened.add(fd)
        return fd

    def close(self, fd):
        self.opened.discard(fd)
        super().close(fd)

    def fdatasync(self, fd):
        self.synced += fd in self.opened
        super().fdatasync(fd)


@pytest.mark.parametrize("keep", [10, 1000])
def test_a_draft_that_is_finished_has_no_file_open_and_is_not_synced_again(keep):
    disk = Counting()
    site = Site(scratch(), disk=disk)
    site.run(site.store.start())
    draft = site.store.draft(keep)
    draft.write(b"x" * 100)
    site.run(draft.finish())
    assert (disk.opened, disk.synced) == (set(), keep == 10)
    site.run(draft.finish())
    site.run(draft.finish(spill=True))
    assert (disk.opened, disk.synced) == (set(), 1)
    assert whole(draft, draft.spill_directory) == b"x" * 100
    draft.discard()
    site.run(site.store.stop())
    assert os.listdir(draft.spill_directory) == []


class Full(OsDisk):
    """No second spill file can be made."""

    def __init__(self) -> None:
        self.made = 0

    def open(self, path, flags, mode=0o600):
        if "/spill/" in path and flags & os.O_CREAT:
            self.made += 1
            if self.made > 1:
                raise OSError(28, "No space left on device")
        return super().open(path, flags, mode)


def test_a_spill_that_cannot_be_written_anew_is_refused_and_leaves_nothing():
    site = Site(scratch(), disk=Full())
    site.run(site.store.start())
    draft = site.store.draft(10)
    draft.write(b"x" * 100)
    site.run(draft.read(0, 1))
    draft.put_on_top(b"top\n")
    with pytest.raises(MailError) as caught:
        site.run(draft.finish())
    assert caught.value.code == 452
    assert os.listdir(draft.spill_directory) == []


def test_a_draft_that_is_discarded_while_it_is_read_closes_its_file_afterwards():
    site = Site(scratch())
    site.run(site.store.start())
    draft = site.store.draft(10)
    draft.write(b"x" * 100)

    async def both():
        reading = draft.read(0, 100)
        reading.send(None)
        draft.discard()
        reading.close()

    site.run(both())
    site.run(site.store.stop())
    assert os.listdir(draft.spill_directory) == []
    with pytest.raises(MailError):
        site.run(draft.read(0, 1))
