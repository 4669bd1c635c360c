"""What a strict reviewer tried: clients that vanish, files that others damage, threads and processes that meet."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import threading
from random import Random

import pytest
from store_site import Site, seen
from twisted.internet.defer import Deferred, ensureDeferred

from twisted_mail.connection.drive import Cancelled
from twisted_mail.disk import OsDisk
from twisted_mail.message.downgrade import downgrade_header
from twisted_mail.message.surrogate import Surrogate
from twisted_mail.message.wire import wire_size
from twisted_mail.status import MailError
from twisted_mail.storage import accounts, segments
from twisted_mail.storage.home import Home
from twisted_mail.storage.journal import Entry, Journal
from twisted_mail.storage.places import Places
from twisted_mail.storage.record import Kind, Place
from twisted_mail.storage.segments import Segments
from twisted_mail.testing.disk import FaultyDisk, HookedDisk, PowerCutDisk

SMALL = b"Subject: one\n\nhello\n"


def message(number, size=20):
    return b"Subject: %d\n\n" % number + b"x" * size + b"\n"


@pytest.fixture
def site(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    yield site
    site.stop()


def journal(site, *parts):
    return os.path.join(site.data, "journal", *parts)


def logs(site):
    return sorted(name for name in os.listdir(journal(site)) if name.endswith(".log"))


def files(site, account="d/a"):
    return os.listdir(os.path.join(site.maildir(account), "new"))


def checkpoint(site):
    site.run(site.world.threads.call(site.store._journal.checkpoint))


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def vanish(coroutine):
    """Start it as a session's driver does, and give it up where it first waits."""
    awaited = coroutine.send(None)
    assert isinstance(awaited, Deferred)
    awaited.addErrback(lambda _: None)
    with pytest.raises(Cancelled):
        coroutine.throw(Cancelled())
    awaited.cancel()


# -- who vanishes while he waits


def test_a_client_that_vanishes_while_its_inbox_is_opened_does_not_keep_it(site):
    site.deliver(SMALL, "d/a")
    site.read("d/a")
    before = descriptors()
    vanish(site.store.open_inbox("d/a"))
    site.turn()
    assert descriptors() == before
    assert site.contents("d/a") == [SMALL]


def test_a_client_that_vanishes_while_a_large_message_is_opened_leaves_no_descriptor(site):
    site.deliver(message(1, 600_000), "d/a")
    inbox = site.run(site.store.open_inbox("d/a"))
    before = descriptors()
    vanish(inbox.fetch(0))
    site.turn()
    assert descriptors() == before
    site.run(inbox.close())


def test_a_client_that_vanishes_during_the_commit_does_not_undo_it(site):
    draft = site.store.draft()
    draft.write(SMALL)
    vanish(site.store.accept(draft, ["d/a"], ascii_size=None, envelope={}))
    site.turn()
    assert site.contents("d/a") == [SMALL]


def test_a_client_that_vanishes_at_quit_has_deleted_all_the_same(site):
    site.deliver(SMALL, "d/a")
    inbox = site.run(site.store.open_inbox("d/a"))
    vanish(inbox.remove([0]))
    site.turn()
    site.run(inbox.close())
    assert site.contents("d/a") == []


# -- many accounts


def test_more_accounts_than_are_kept_open_leak_no_descriptors(site, monkeypatch):
    monkeypatch.setattr(accounts, "OPEN_ACCOUNTS", 5)
    keys = [f"d/u{n}" for n in range(20)]
    site.deliver(SMALL, *keys)

    def burst():
        waiting = [ensureDeferred(site.store.open_inbox(account)) for account in keys]
        site.turn()
        for one in waiting:
            site.run(one.result.close())

    burst()
    before = descriptors()
    burst()
    burst()
    assert descriptors() <= before


def test_no_account_is_closed_on_the_reactor_thread(site, monkeypatch):
    """Closing the last connection to an index writes its WAL back, and syncs."""
    monkeypatch.setattr(accounts, "OPEN_ACCOUNTS", 1)
    site.deliver(SMALL, "d/a", "d/b")
    closed = []
    release = Home.release
    monkeypatch.setattr(Home, "release", lambda self: (closed.append(self.path), release(self))[1])
    waiting = ensureDeferred(site.store.open_inbox("d/a"))
    assert closed == []
    site.turn()
    site.run(waiting.result.close())


def test_a_key_that_leads_out_of_the_mail_directory_is_refused(site):
    for key in ("../../tmp/x", "/tmp/x", "d/../../x", "", ".", "d//x", "d/\0"):
        with pytest.raises(MailError) as caught:
            site.run(site.store.open_inbox(key))
        assert caught.value.code == 451


# -- parked mail


def parked(site):
    return sorted(os.listdir(os.path.join(site.data, "parked")))


def test_parked_mail_that_was_delivered_survives_a_power_cut(tmp_path):
    root = str(tmp_path / "root")
    os.mkdir(root)
    disk = PowerCutDisk(root)
    site = Site(os.path.join(root, "data"), disk=disk).start()
    disk.counted, disk.fail_at = frozenset({"link_fd"}), 1
    disk.count = 0
    site.deliver(message(1), "d/a")
    assert len(parked(site)) == 1
    disk.fail_at, disk.failed = 0, []
    checkpoint(site)  # the record is dropped: the parked file is all there is
    site.world.reactor.advance(31)
    site.turn()
    assert parked(site) == []
    for luck in range(30):
        after = str(tmp_path / f"after-{luck}")
        disk.after_cut(after, luck=Random(luck))
        again = Site(os.path.join(after, "data"), seed=2, boot="boot-2").start()
        assert again.contents("d/a") == [message(1)]
        again.kill()
    disk.close_all()
    site.kill()


def test_parked_mail_that_was_delivered_and_deleted_stays_deleted_after_a_power_cut(tmp_path):
    root = str(tmp_path / "root")
    os.mkdir(root)
    disk = PowerCutDisk(root)
    site = Site(os.path.join(root, "data"), disk=disk).start()
    disk.counted, disk.fail_at = frozenset({"link_fd"}), 1
    disk.count = 0
    site.deliver(message(1), "d/a")
    disk.fail_at, disk.failed = 0, []
    checkpoint(site)
    site.world.reactor.advance(31)
    site.turn()
    site.delete("d/a", 0)
    for luck in (None, *range(20)):
        after = str(tmp_path / f"after-{luck}")
        disk.after_cut(after, luck=None if luck is None else Random(luck))
        again = Site(os.path.join(after, "data"), seed=2, boot="boot-2").start()
        assert again.contents("d/a") == []
        again.kill()
    disk.close_all()
    site.kill()


def test_what_cannot_be_parked_leaves_no_remains_and_stops_further_mail(tmp_path):
    class Broken(HookedDisk):
        broken = False

        def before(self, name, args):
            if self.broken and (name == "link_fd" or (name == "fsync")):
                raise OSError(errno.ENOSPC, "No space left on device")

    disk = Broken()
    site = Site(str(tmp_path / "data"), disk=disk).start()
    site.deliver(message(1), "d/a")
    disk.broken = True
    site.deliver(message(2), "d/a")
    assert parked(site) == []
    for _ in range(3):
        site.world.reactor.advance(31)
        site.turn()
    assert parked(site) == []
    # Committed mail is waiting in memory: no more of it is taken before that has found its place.
    with pytest.raises(MailError) as caught:
        site.deliver(message(3), "d/a")
    assert caught.value.code == 452
    disk.broken = False
    for _ in range(2):
        site.world.reactor.advance(31)
        site.turn()
    site.deliver(message(4), "d/a")
    assert site.contents("d/a") == [message(1), message(2), message(4)]
    site.stop()


def test_one_broken_mailbox_does_not_keep_the_site_from_starting(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    site.deliver(message(1), "d/a", "d/b")
    site.deliver(message(2), "d/a")
    site.delete("d/a", 1)
    site.kill()
    maildir = site.maildir("d/a")
    os.rename(maildir, str(tmp_path / "away"))
    again = Site(site.data, seed=2).start()
    assert again.contents("d/b") == [message(1)]
    again.kill()
    third = Site(site.data, seed=3, boot="boot-2").start()
    os.rename(str(tmp_path / "away"), maildir)
    third.world.reactor.advance(31)
    third.turn()
    assert third.contents("d/a") == [message(1)]
    assert parked(third) == []
    third.stop()


def test_a_removal_from_a_mailbox_that_went_away_is_not_forgotten_and_keeps_no_journal(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    site.deliver(message(1), "d/a")
    inbox = site.run(site.store.open_inbox("d/a"))
    maildir = site.maildir("d/a")
    os.rename(maildir, str(tmp_path / "away"))
    site.run(inbox.remove([0]))
    site.run(inbox.close())
    before = logs(site)
    checkpoint(site)
    assert not set(before) & set(logs(site))
    os.rename(str(tmp_path / "away"), maildir)
    site.world.reactor.advance(31)
    site.turn()
    assert site.contents("d/a") == []
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


# -- other programs


def test_a_file_name_that_is_not_utf_8_does_not_shut_the_mailbox(site):
    site.deliver(SMALL, "d/a")
    new = os.fsencode(os.path.join(site.maildir("d/a"), "new"))
    for name in (b"1700000000.\xff\xfe", b"1700000001.ok:2,\xe9"):
        with open(os.path.join(new, name), "wb") as file:
            file.write(b"Subject: %d\n\n" % len(name))
    first = site.read("d/a")
    assert len(first) == 3
    assert site.read("d/a") == first
    site.delete("d/a", 0, 1, 2)
    assert site.read("d/a") == []


def test_a_pipe_or_a_directory_among_the_messages_is_left_out(site):
    site.deliver(SMALL, "d/a")
    new = os.path.join(site.maildir("d/a"), "new")
    validity = os.listdir(new)[0].rpartition("T=")[2].partition(".")[0]
    os.mkfifo(os.path.join(new, f"1700000000.pipe,S=0,W=0,T={validity}.7"))
    os.mkdir(os.path.join(new, "1700000001.directory"))
    assert site.contents("d/a") == [SMALL]


def test_a_message_is_readable_although_the_next_one_is_not(site):
    site.deliver(message(1), "d/a")
    site.deliver(message(2), "d/a")
    assert len(site.read("d/a")) == 2
    names = sorted(os.listdir(os.path.join(site.maildir("d/a"), "new")))

    class Unreadable(OsDisk):
        def open(self, path, flags, mode=0o600):
            if os.path.basename(path) == names[1]:
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return super().open(path, flags, mode)

    inbox = site.run(site.store.open_inbox("d/a"))
    object.__setattr__(site.world, "disk", Unreadable())
    content = site.run(inbox.fetch(0))
    assert site.run(content.read(1000)) == message(1)
    with pytest.raises((MailError, OSError)):
        site.run(inbox.fetch(1))
    site.run(inbox.close())


def test_a_rename_that_hides_a_file_from_one_listing_is_no_removal(tmp_path):
    """readdir(3) may miss a file that is renamed while it reads."""

    class Missing(OsDisk):
        hidden = ""

        def names(self, directory):
            found = super().names(directory)
            if self.hidden and directory.endswith("/new"):
                hidden = self.hidden
                found = [name for name in found if name != hidden]
            elif self.hidden and directory.endswith("/cur"):
                found = super().names(directory)
            return found

    disk = Missing()
    site = Site(str(tmp_path / "data"), disk=disk).start()
    site.deliver(message(1), "d/a")
    site.deliver(message(2), "d/a")
    maildir = site.maildir("d/a")
    for name in os.listdir(os.path.join(maildir, "new")):
        os.rename(os.path.join(maildir, "new", name), os.path.join(maildir, "cur", name + ":2,"))
    before = site.read("d/a")
    name = sorted(os.listdir(os.path.join(maildir, "cur")))[0]
    count = []

    def names(directory):
        found = os.listdir(directory)
        if directory.endswith("/cur") and len(count) < 2:
            count.append(1)
            os.utime(directory)
            return [n for n in found if n != name]
        return found

    disk.names = names
    os.rename(os.path.join(maildir, "cur", name), os.path.join(maildir, "cur", name + "S"))
    name += "S"
    site.read("d/a")
    site.turn()
    records = [
        record
        for log in logs(site)
        for record in segments.load_file(OsDisk(), os.path.join(journal(site), log)).records
        if record.kind == 3
    ]
    assert records == []
    assert site.read("d/a") == before
    site.stop()


def test_an_index_without_its_tables_is_made_anew(site):
    site.deliver(SMALL, "d/a")
    before = site.read("d/a")
    site.store._accounts.get("d/a").release()
    path = os.path.join(site.data, "mail", "d/a", "index.sqlite3")
    database = sqlite3.connect(path)
    database.execute("DROP TABLE message")
    database.commit()
    database.close()
    for _ in range(2):
        try:
            found = site.read("d/a")
        except MailError:
            continue
        break
    assert found == before


def test_an_index_deleted_under_two_processes_loses_nothing(tmp_path):
    data = str(tmp_path / "data")
    first, second = Site(data, seed=1).start(), Site(data, seed=2).start()
    first.deliver(message(1), "d/a")
    second.deliver(message(2), "d/a")
    assert len(first.read("d/a")) == len(second.read("d/a")) == 2
    os.unlink(os.path.join(data, "mail", "d/a", "index.sqlite3"))
    for n in range(3, 20):
        (first if n % 2 else second).deliver(message(n), "d/a")
    rows = seen(first.store._accounts.get("d/a"))
    assert len({row[0] for row in rows}) == 19
    assert first.read("d/a") == second.read("d/a")
    first.stop()
    second.stop()


def test_a_stop_waits_for_parked_mail_that_is_tried_again(tmp_path):
    disk = FaultyDisk(counted=["link_fd"], lasting=True)
    site = Site(str(tmp_path / "data"), disk=disk).start()
    disk.fail_at = 1
    site.deliver(message(1), "d/a")
    disk.fail_at = 0
    site.world.reactor.advance(30)
    site.stop()
    assert parked(site) == []
    again = Site(site.data, seed=2, boot="boot-2").start()
    assert again.contents("d/a") == [message(1)]
    again.stop()


def test_a_large_file_of_another_program_is_measured_in_blocks(site):
    site.deliver(SMALL, "d/a")
    assert site.contents("d/a") == [SMALL]
    sizes = []

    class Watched(OsDisk):
        def pread(self, fd, size, offset):
            sizes.append(size)
            return super().pread(fd, size, offset)

    content = "Subject: größer\n\n".encode() + b"z" * 70 + b"\r\n" + b"y" * 3_000_000
    with open(os.path.join(site.maildir("d/a"), "new", "1700000000.large"), "wb") as file:
        file.write(content)
    site.store._accounts.get("d/a")._disk = Watched()
    inbox = site.run(site.store.open_inbox("d/a"))
    site.run(inbox.close())
    assert max(sizes) <= 256 * 1024
    assert inbox.messages[1].size == wire_size(content)
    header = "Subject: größer\n".encode()
    shorter = wire_size(header) - wire_size(downgrade_header(header))
    assert inbox.messages[1].ascii_size == wire_size(content) - shorter


def test_a_header_longer_than_any_block_is_measured_as_it_is_sent(site):
    site.deliver(SMALL, "d/a")
    content = b"Subject: gr\xc3\xb6\n" + b"X: y\n" * 60_000 + b"To: gr\xc3\xb6\n\ntext\n"
    with open(os.path.join(site.maildir("d/a"), "new", "1700000000.large"), "wb") as file:
        file.write(content)
    inbox = site.run(site.store.open_inbox("d/a"))
    site.run(inbox.close())
    surrogate = Surrogate()
    sent = surrogate.feed(content) + surrogate.finish()
    size = wire_size(sent)
    assert {message.ascii_size for message in inbox.messages} == {None, size}
