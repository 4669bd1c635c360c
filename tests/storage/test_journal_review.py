"""What a strict reviewer tried on the journal: failures behind the commit, segments, processes that meet."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
from random import Random

import pytest
from reviewing import checkpoint, files, journal, logs, message
from store_site import Site, seen

from twisted_mail.disk import OsDisk
from twisted_mail.status import MailError
from twisted_mail.storage.journal import Entry, Journal
from twisted_mail.storage.places import Places
from twisted_mail.storage.record import Kind, Place
from twisted_mail.storage.segments import Segments
from twisted_mail.testing.disk import FaultyDisk, HookedDisk, PowerCutDisk


@pytest.fixture
def site(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    yield site
    site.stop()


# -- after the commit the answer is yes


def test_nothing_that_fails_after_the_commit_makes_it_a_no(tmp_path, monkeypatch):
    class Scratchy(OsDisk):
        """No O_TMPFILE here, and the scratch file will not go."""

        def open_nameless(self, directory):
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")

        def unlink(self, path):
            if path.endswith(".tmp"):
                raise OSError(errno.EIO, "Input/output error")
            super().unlink(path)

    disk = Scratchy()
    site = Site(str(tmp_path / "data"), disk=disk).start()
    site.deliver(message(1), "d/a")
    assert site.contents("d/a") == [message(1)]
    site.kill()


class ShortDisk(OsDisk):
    """Writes only the first record of a batch, and says so."""

    short = False

    def writev(self, fd, buffers):
        if self.short and len(buffers) > 3:
            return super().writev(fd, buffers[:4])
        return super().writev(fd, buffers)


def test_a_short_write_is_answered_451_and_does_not_come_back(tmp_path):
    disk = ShortDisk()
    site = Site(str(tmp_path / "data"), disk=disk).start()
    site.deliver(message(0), "d/a")
    disk.short = True
    first, second = site.begin(message(1), "d/a"), site.begin(message(2), "d/a")
    site.turn()
    assert [result[0].value.code for result in (first, second)] == [452, 452]
    site.kill()
    again = Site(site.data, seed=2).start()
    assert again.contents("d/a") == [message(0)]
    again.stop()


def test_the_memory_of_what_failed_is_bounded(tmp_path):
    disk = FaultyDisk(counted=["writev"], number=errno.ENOSPC, lasting=True)
    site = Site(str(tmp_path / "data"), disk=disk).start()
    site.deliver(message(0), "d/a")
    disk.fail_at = disk.count + 1
    for n in range(200):
        with pytest.raises(MailError):
            site.deliver(message(n), "d/a")
    disk.fail_at = 0
    written = os.path.getsize(journal(site, logs(site)[-1]))
    site.deliver(message(99), "d/a")
    assert os.path.getsize(journal(site, logs(site)[-1])) - written < 800
    site.kill()
    again = Site(site.data, seed=2).start()
    assert again.contents("d/a") == [message(0), message(99)]
    again.stop()


# -- segments


def test_two_who_make_the_same_segment_do_not_replace_each_others(tmp_path):
    directory = str(tmp_path)
    os.mkdir(os.path.join(directory, "scratch"))
    inner = []

    class Meeting(OsDisk):
        def sync_directory(self, path):
            super().sync_directory(path)

        def fdatasync(self, fd):
            super().fdatasync(fd)
            if not inner:
                # Another process makes it, and writes to it, at this moment.
                inner.append(True)
                other = made_by(OsDisk(), b"\x07" * 8)
                inner.append(os.stat(other.path(1)).st_ino)

    def made_by(disk, epoch):
        found = Segments(disk, directory, boot="b", size=4096, entropy=lambda _: epoch)
        found.make_after(0)
        return found

    assert os.stat(made_by(Meeting(), b"\x08" * 8).path(1)).st_ino == inner[1]
    assert [name for name in os.listdir(directory) if name != "scratch"] == ["1.log"]
    assert os.listdir(os.path.join(directory, "scratch")) == []


def test_a_flipped_byte_in_a_segments_head_hides_nothing_else(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    site.deliver(message(1), "d/a")
    site.deliver(message(2), "d/a")
    site.delete("d/a", 0)
    site.kill()
    (log,) = logs(site)
    for at in (0, 9, 20, 60):
        copy = str(tmp_path / f"copy-{at}")
        shutil.copytree(site.data, copy)
        shutil.rmtree(os.path.join(copy, "mail"))
        with open(os.path.join(copy, "journal", log), "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 0x20]))
        again = Site(copy, seed=2, boot="boot-2").start()
        assert again.contents("d/a") == [message(2)], at
        again.stop()


def test_segments_leave_in_their_order_also_when_the_power_is_cut(tmp_path):
    """A record that removes or voids never goes before what it removes."""
    root = str(tmp_path / "root")
    os.mkdir(root)
    disk = PowerCutDisk(root)
    site = Site(os.path.join(root, "data"), disk=disk).start()
    site.deliver(message(1), "d/a")
    site.store._journal.pin(True)
    checkpoint(site)
    site.delete("d/a", 0)
    checkpoint(site)
    site.deliver(message(2), "d/a")
    checkpoint(site)
    assert len(logs(site)) == 4
    site.store._journal.pin(False)
    site.deliver(message(3), "d/a")
    checkpoint(site)
    assert len(logs(site)) == 1
    for luck in range(40):
        after = str(tmp_path / f"after-{luck}")
        disk.after_cut(after, luck=Random(luck))
        again = Site(os.path.join(after, "data"), seed=2, boot="boot-2").start()
        assert again.contents("d/a") == [message(2), message(3)], luck
        again.kill()
    disk.close_all()
    site.kill()


def test_old_segments_go_at_the_next_checkpoint_although_nothing_new_came(site):
    site.deliver(message(1), "d/a")
    site.store._journal.pin(True)
    checkpoint(site)
    assert len(logs(site)) == 2
    site.store._journal.pin(False)
    checkpoint(site)
    assert len(logs(site)) == 1


def test_a_failed_sync_and_no_new_segment_ends_the_use_of_the_old_one(tmp_path):
    class Failing(HookedDisk):
        broken = False
        synced = 0

        def before(self, name, args):
            if not self.broken:
                return
            if name == "fdatasync":
                self.synced += 1
                raise OSError(errno.EIO, "Input/output error")
            if name in ("reserve", "rename", "link", "open") and str(args[0]).endswith(".new"):
                raise OSError(errno.ENOSPC, "No space left on device")
            if name == "reserve":
                raise OSError(errno.ENOSPC, "No space left on device")

    disk = Failing()
    site = Site(str(tmp_path / "data"), disk=disk).start()
    site.deliver(message(1), "d/a")
    disk.broken = True
    for n in range(3):
        with pytest.raises(MailError):
            site.deliver(message(10 + n), "d/a")
    assert disk.synced == 1
    disk.broken = False
    site.deliver(message(2), "d/a")
    site.kill()
    again = Site(site.data, seed=2, boot="boot-2").start()
    assert again.contents("d/a") == [message(1), message(2)]
    again.stop()


# -- several processes


def test_a_start_writes_nothing_beside_the_journal_before_it_is_alone(tmp_path):
    """Two processes may start at the same moment on a new site."""

    class Watched(HookedDisk):
        def before(self, name, args):
            if name in ("open", "rename") and "site.json.new" in args[0]:
                fd = os.open(os.path.join(os.path.dirname(args[0]), "journal/site.lock"), os.O_RDWR)
                try:
                    with pytest.raises(BlockingIOError):
                        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    seen.append(name)
                finally:
                    os.close(fd)

    seen = []
    Site(str(tmp_path / "data"), disk=Watched()).start().stop()
    assert seen == ["open", "rename"]


def test_what_was_deleted_while_a_dead_process_is_settled_does_not_come_back(tmp_path, monkeypatch):
    """The lane of this process goes on while its checkpoint runs in another thread."""
    data = str(tmp_path / "data")
    first, second = Site(data, seed=1).start(), Site(data, seed=2).start()
    first.deliver(message(1), "d/a")
    first.kill()
    account = second.store._accounts.get("d/a")
    account.prepare()
    bases = [row[1] for row in seen(account)]
    removal = {"account": "d/a", "folder": account.inbox, "bases": bases, "noticed": False}
    lane = threading.Thread(
        target=second.store._journal._run, args=([Entry(Kind.REMOVE, removal)],)
    )
    settle = Places.settle

    def meanwhile(self, *args):
        lane.start()
        settle(self, *args)
        assert len(files(second)) == 1, "removed while the dead process was settled"

    monkeypatch.setattr(Places, "settle", meanwhile)
    checkpoint(second)
    lane.join()
    assert second.contents("d/a") == []
    second.stop()


def test_a_process_that_dies_during_a_checkpoint_keeps_its_records(tmp_path, monkeypatch):
    """A process that is killed in a batch lets go of its segment first, and of its own file a little later."""
    data = str(tmp_path / "data")
    first = Site(data, seed=1).start()
    second = Site(data, seed=2, disk=HookedDisk()).start()
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_committed", lambda *_: None)
        first.deliver(message(1), "d/a")

    def before(name, args):
        if name == "syncfs" and first.store._journal._locks:
            first.kill()

    monkeypatch.setattr(second.disk, "before", before)
    checkpoint(second)
    assert second.contents("d/a") == []
    checkpoint(second)
    assert second.contents("d/a") == [message(1)]
    assert len(logs(second)) == 1
    second.stop()


def test_a_writer_that_is_checked_while_it_starts_is_still_known_afterwards(tmp_path):
    data = str(tmp_path / "data")
    first = Site(data, seed=1).start()
    first.deliver(message(1), "d/a")
    seen = []

    class Slow(OsDisk):
        def open(self, path, flags, mode=0o600):
            fd = super().open(path, flags, mode)
            if "/writers/" in path and not seen:
                seen.append(path)
                checkpoint(first)  # finds a file that nobody has locked yet
            return fd

    second = Site(data, seed=2, disk=Slow()).start()
    assert seen
    assert len(os.listdir(journal(first, "writers"))) == 2
    second.stop()
    first.stop()


def test_a_pin_set_while_parked_places_are_tried_again_holds(tmp_path, monkeypatch):
    """The retry runs in a pool thread, the batches on the lane."""
    disk = FaultyDisk(counted=["link_fd", "fsync"], lasting=True)
    site = Site(str(tmp_path / "data"), disk=disk).start()
    site.deliver(message(1), "d/a")
    disk.fail_at = disk.count + 1
    site.deliver(message(2), "d/a")
    store, steps = site.store, site.store._places
    assert store._journal._pinned
    draft = store.draft()
    draft.write(message(3))
    entry = store._entry(draft, [Place("d/a", "", "base")], None, {})
    write, met = steps.parking.write, []

    def write_while_another_fails(*args):
        if met:
            write(*args)
            return
        met.append(True)
        disk.fail_at = 0
        write(*args)
        disk.fail_at = 1
        met.remove(True)
        met.append(threading.Thread(target=steps.fill, args=([entry],)))
        met[0].start()
        met[0].join()

    monkeypatch.setattr(steps.parking, "write", write_while_another_fails)
    steps.parking.retry()
    assert store._journal._pinned
    disk.fail_at = 0
    site.kill()
