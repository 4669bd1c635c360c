"""The folders of a new account are made together: with few syncs, and never half."""

from __future__ import annotations

import errno
import os

import pytest

from twisted_mail.disk import OsDisk
from twisted_mail.storage import maildir
from twisted_mail.storage.account import AccountStore
from twisted_mail.storage.folders import SPECIAL_USE
from twisted_mail.testing.disk import FaultyDisk

NOW = 1_800_000_000.0


def store(disk, home):
    return AccountStore(disk, str(home), generation=1, now=lambda: NOW, entropy=os.urandom)


class Syncing(OsDisk):
    syncs = 0

    def fdatasync(self, fd):
        self.syncs += 1
        super().fdatasync(fd)

    def sync_directory(self, path):
        self.syncs += 1
        super().sync_directory(path)


def test_a_new_account_has_its_folders(tmp_path):
    disk = Syncing()
    os.makedirs(tmp_path / "Maildir" / "new")
    one = store(disk, tmp_path)
    one.folders.furnish()
    boxes = one.folders.all()
    assert {box.name: box.special_use for box in boxes[1:]} == {
        name: (use,) for name, use in SPECIAL_USE.items()
    }
    assert one.folders.subscriptions() == ["INBOX", *SPECIAL_USE]
    states = [maildir.read_state(disk, box.path) for box in boxes]
    assert len({state.validity for state in states}) == len(states)
    assert states[0].validities == max(state.validity for state in states)
    assert states[0].furnished
    assert disk.syncs < 25
    one.release()
    again = store(disk, tmp_path)
    again.folders.remove(boxes[-1].folder, str(tmp_path / "gone"))
    again.folders.furnish()
    assert len(again.folders.all()) == len(boxes) - 1
    made = again.folders.create("New")
    assert again.validity(made) > states[0].validities
    again.release()


def test_what_is_there_stays(tmp_path):
    disk = OsDisk()
    os.makedirs(tmp_path / "Maildir" / ".Sent")
    (tmp_path / "Maildir" / "subscriptions").write_text("Sent\n")
    one = store(disk, tmp_path)
    one.folders.furnish()
    assert [box.name for box in one.folders.all()[1:]] == sorted(SPECIAL_USE)
    assert one.folders.subscriptions() == ["Sent"]
    one.release()


@pytest.mark.parametrize("kind", ["mkdir", "write", "fdatasync", "rename", "sync_directory"])
def test_whatever_fails_nothing_is_half(tmp_path, kind):
    for number in range(1, 60):
        home = tmp_path / str(number)
        os.makedirs(home / "Maildir" / "new")
        disk = FaultyDisk(number=errno.ENOSPC, counted=[kind])
        disk.fail_at = disk.count + number
        one = store(disk, home)
        try:
            one.folders.furnish()
        except OSError:
            failed = True
        else:
            failed = False
        one.release()
        again = store(OsDisk(), home)
        again.folders.furnish()
        boxes = again.folders.all()
        assert boxes[0].name == "INBOX"
        validities = [maildir.read_state(OsDisk(), box.path).validity for box in boxes]
        assert len(set(validities)) == len(boxes)
        again.release()
        if not failed:
            assert len(boxes) == 1 + len(SPECIAL_USE)
            return
    raise AssertionError("it never ended")
