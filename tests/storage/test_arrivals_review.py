"""Arrivals and what is kept in memory: what happens between two looks, in other processes, and to who dies."""

from __future__ import annotations

import os
import sqlite3

import pytest
from store_site import Site

from twisted_mail.disk import OsDisk
from twisted_mail.mailboxes import Appending
from twisted_mail.status import MailError
from twisted_mail.storage import scan
from twisted_mail.storage.index import Index
from twisted_mail.storage.maildir import FileName
from twisted_mail.testing.disk import HookedDisk

KEY = "d/a"


def message(number):
    return b"Subject: %d\n\nhello\n" % number


@pytest.fixture
def site(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    yield site
    site.stop()


def age(site, key=KEY):
    for sub in ("new", "cur"):
        os.utime(os.path.join(site.maildir(key), sub), (1_700_000_000, 1_700_000_000))


def names(site, sub="new", key=KEY):
    return sorted(os.listdir(os.path.join(site.maildir(key), sub)))


def uids(site, key=KEY):
    account = site.store.account(key)
    account.refresh()
    return {row[1]: row[0] for row in account.rows()}


# -- what STATUS keeps


def test_status_of_a_watched_mailbox_is_not_kept_before_the_watch_has_told(tmp_path):
    """The watch tells of what other programs do some time afterwards: where there is no inotify, a second."""
    site = Site(str(tmp_path / "data")).start()
    site.deliver(message(1), KEY)
    one = site.run(site.store.open_mailboxes(KEY))
    box = site.run(one.open("INBOX"))
    box.listen(lambda: None)
    # From here on nothing is told until the clock moves.
    for _ in range(100):
        site.world.reactor.advance(0.05)
    assert site.run(one.status("INBOX")).unseen == 1
    (name,) = names(site)
    maildir = site.maildir(KEY)
    os.rename(os.path.join(maildir, "new", name), os.path.join(maildir, "cur", f"{name}:2,S"))
    age(site)
    site.run(one.status("INBOX"))
    for _ in range(100):
        site.world.reactor.advance(0.05)
    assert site.run(one.status("INBOX")).unseen == 0
    site.run(box.close())
    site.run(one.close())
    site.stop()


# -- quotas


def test_a_quota_that_comes_later_counts_what_arrived_after_somebody_had_counted(tmp_path):
    limits = {}
    site = Site(str(tmp_path / "data"))
    site.store._limits = lambda key: limits.get(key, (None, None))
    site.start()
    site.deliver(message(0), KEY)
    one = site.run(site.store.open_mailboxes(KEY))
    assert site.run(one.quota()).messages == 1
    site.run(one.close())
    site.deliver(message(1), KEY)
    site.deliver(message(2), KEY)
    limits[KEY] = (None, 3)
    with pytest.raises(MailError) as caught:
        site.deliver(message(3), KEY)
    assert caught.value.code == 452
    site.stop()


def test_a_quota_counts_what_another_process_put_there_before_it_knew_of_it(tmp_path):
    data = str(tmp_path / "data")
    first, second = Site(data, seed=1), Site(data, seed=2)
    first.store._limits = lambda key: (None, 3)
    first.start()
    second.start()
    first.deliver(message(0), KEY)
    assert first.run(first.store.usage(KEY))[1] == 1
    for n in range(1, 3):
        second.deliver(message(n), KEY)
    assert first.run(first.store.usage(KEY))[1] == 3
    first.stop()
    second.stop()


# -- UIDs


class Dies(Exception):
    """A process that is killed runs nothing more."""


class DiesRenaming(OsDisk):
    def __init__(self, after):
        self.left = after

    def rename(self, source, target):
        if "/new/" in target:
            if not self.left:
                raise Dies
            self.left -= 1
        super().rename(source, target)


def test_who_died_giving_uids_has_given_them_to_nobody_else(tmp_path):
    """A worker dies, the site goes on: the names that it has made and the UIDs told since are not the same ones."""
    data = str(tmp_path / "data")
    first, second = Site(data, seed=1, disk=DiesRenaming(2)).start(), Site(data, seed=2).start()
    second.deliver(message(0), KEY)
    known = uids(second)
    for n in range(1, 5):
        second.deliver(message(n), KEY)
    with pytest.raises(Dies):
        first.store.account(KEY).refresh()
    first.kill()

    async def append():
        draft = one.write()
        draft.write(message(9))
        return await one.append("INBOX", [Appending(draft, (), None)])

    one = second.run(second.store.open_mailboxes(KEY))
    told = second.run(append()).uids[0]
    second.run(one.close())
    given = [FileName.parse(name).uid for sub in ("new", "cur") for name in names(second, sub)]
    numbers = [uid for uid in given if uid is not None]
    assert len(set(numbers)) == len(numbers)
    second.kill()
    # The index is lost before anybody has compared all of it.
    os.unlink(os.path.join(data, "mail", KEY, "index.sqlite3"))
    third = Site(data, seed=3).start()
    after = uids(third)
    (appended,) = [base for base, uid in after.items() if uid == told]
    assert any(name.startswith(appended) for name in names(third, "cur"))
    assert all(after[base] == uid for base, uid in known.items())
    assert len(set(after.values())) == len(after) == 6
    third.stop()


def test_a_name_in_new_that_cannot_be_written_down_keeps_nobody_from_his_mail(site):
    site.deliver(message(1), KEY)
    assert len(uids(site)) == 1
    for name in (b"1700000000.\xff.x,S=9,W=12,T=0", b".hidden,S=9,W=12,T=0"):
        with open(os.path.join(site.maildir(KEY).encode(), b"new", name), "wb") as file:
            file.write(b"A: b\n\ncd\n")
    site.deliver(message(2), KEY)
    assert len(uids(site)) == 3
    assert len(site.read(KEY)) == 3


def test_a_uid_is_not_told_when_the_index_could_not_keep_it(site, monkeypatch):
    def full(_):
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    async def append(number):
        draft = one.write()
        draft.write(message(number))
        return await one.append("INBOX", [Appending(draft, (), None)])

    one = site.run(site.store.open_mailboxes(KEY))
    site.run(append(1))
    with monkeypatch.context() as patch:
        patch.setattr(Index, "commit", full)
        second = site.run(append(2))
    third = site.run(append(3))
    assert not set(second.uids) & set(third.uids)
    assert len(set(uids(site).values())) == 3
    site.run(one.close())


# -- looking, and the clock


def test_what_arrives_while_somebody_looks_is_not_taken_for_seen(tmp_path):
    """In the same tick of the clock that stamps directories; and whoever looks is slow."""
    world = {}

    class Slow(OsDisk):
        now = 0

        def clock_ns(self):
            return self.now or super().clock_ns()

    disk = Slow()
    site = Site(str(tmp_path / "data"), disk=disk).start()
    site.deliver(message(1), KEY)
    account = site.store.account(KEY)
    account.refresh()
    new = os.path.join(site.maildir(KEY), "new")
    tick = 1_700_000_000_123_000_000

    def stamp():
        os.utime(new, ns=(tick, tick))

    looked = scan.number_new

    def slowly(*args):
        found = looked(*args)
        # Another process, still in that tick; then this one waits for the processor.
        world["other"].deliver(message(2), KEY)
        stamp()
        disk.now = tick + 10**9
        return found

    world["other"] = Site(site.data, seed=2).start()
    stamp()
    disk.now = tick + 1_000_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "number_new", slowly)
        account.catch_up_before()
    disk.now = tick + 2 * 10**9
    account.catch_up_before()
    assert [name for name in names(site) if name.endswith("T=0")] == []
    world["other"].stop()
    site.stop()


# -- locks


def test_who_settles_another_ones_mail_has_the_lock_of_the_account_that_is_there(
    tmp_path, monkeypatch
):
    """It was removed and made anew by others: the lock that this process had open is that of the one before."""

    class Locks(HookedDisk):
        def after(self, name, args):
            if name == "link_fd" and "/mail/" in args[1]:
                lock = second.store.account(KEY).files._lock
                held.append(os.fstat(lock).st_ino == os.stat(path).st_ino)

    data, held = str(tmp_path / "data"), []
    path = os.path.join(data, "mail", KEY, "lock")
    first, third = Site(data, seed=1).start(), Site(data, seed=3).start()
    second = Site(data, seed=2, disk=Locks()).start()
    first.deliver(message(1), KEY)
    assert len(uids(second)) == 1
    first.run(first.store.remove_account(KEY))
    third.deliver(message(2), KEY)
    assert len(uids(third)) == 1
    monkeypatch.setattr(third.store._journal, "_committed", lambda *_: None)
    third.deliver(message(3), KEY)
    third.kill()
    second.run(second.store.settle())
    assert held == [True]
    assert len(second.read(KEY)) == 2
    second.stop()
    first.stop()
