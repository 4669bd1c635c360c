"""What a strict reviewer tried: clients that vanish, mail that is parked, files that others damage."""

from __future__ import annotations

import errno
import os
import sqlite3
from random import Random

import pytest
from reviewing import SMALL, checkpoint, journal, logs, message, parked
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
from twisted_mail.testing.disk import FaultyDisk, HookedDisk, PowerCutDisk


@pytest.fixture
def site(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    yield site
    site.stop()


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
