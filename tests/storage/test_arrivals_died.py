"""Mail that arrives at a process that dies: nothing is lost, nothing doubled, no UID told for another message."""

from __future__ import annotations

import os
import shutil

import pytest
from arriving import KEY, checkpoint, message, names, subjects, uids
from store_site import Site

from twisted_mail.disk import OsDisk
from twisted_mail.status import MailError
from twisted_mail.storage.journal import Journal
from twisted_mail.testing.disk import FaultyDisk, PowerCutDisk, copy_tree


@pytest.fixture
def site(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    yield site
    site.stop()


def dies_before_it_fills(patch):
    patch.setattr(Journal, "_committed", lambda *_: None)


def dies_before_it_notes(patch):
    patch.setattr(Journal, "_note", lambda _: None)


@pytest.mark.parametrize("how", [dies_before_it_fills, dies_before_it_notes])
def test_what_a_dead_process_did_not_note_is_there_exactly_once(site, monkeypatch, how):
    site.deliver(message(1), KEY)
    with monkeypatch.context() as patch:
        how(patch)
        site.deliver(message(2), KEY, "d/b")
    site.kill()
    again = Site(site.data, seed=2).start()
    assert subjects(again) == [1, 2]
    assert subjects(again, "d/b") == [2]
    again.kill()
    site.start()


def test_a_process_that_died_is_settled_by_another_and_what_was_deleted_stays_away(
    tmp_path, monkeypatch
):
    data = str(tmp_path / "data")
    first, second = Site(data, seed=1).start(), Site(data, seed=2).start()
    first.deliver(message(1), KEY)
    first.deliver(message(2), KEY)
    with monkeypatch.context() as patch:
        dies_before_it_fills(patch)
        first.deliver(message(3), KEY)
    os.unlink(os.path.join(first.maildir(KEY), "new", names(first)[0]))
    first.kill()
    second.run(second.store.settle())
    assert subjects(second) == [2, 3]
    # Its records are still there, its life is over: what was its is still known when all of them die.
    os.unlink(os.path.join(second.maildir(KEY), "new", names(second)[1]))
    second.kill()
    third = Site(data, seed=3).start()
    assert subjects(third) == [2]
    third.stop()


def test_who_stopped_while_others_were_up_has_left_word(tmp_path):
    data = str(tmp_path / "data")
    first, second = Site(data, seed=1).start(), Site(data, seed=2).start()
    first.deliver(message(1), KEY)
    first.deliver(message(2), KEY)
    os.unlink(os.path.join(first.maildir(KEY), "new", names(first)[0]))
    first.stop()
    writers = os.path.join(data, "journal", "writers")
    assert len([name for name in os.listdir(writers) if name.endswith(".over")]) == 1
    second.kill()
    third = Site(data, seed=3).start()
    assert subjects(third) == [2]
    # With the records it goes.
    assert [name for name in os.listdir(writers) if name.endswith(".over")] == []
    third.stop()


def test_what_is_left_of_writers_goes_with_their_records(tmp_path):
    data = str(tmp_path / "data")
    last = Site(data, seed=99).start()
    for seed in range(5):
        one = Site(data, seed=seed).start()
        one.deliver(message(seed), KEY)
        if seed % 2:
            one.kill()
        else:
            one.stop()
    checkpoint(last)
    assert len(os.listdir(os.path.join(data, "journal", "writers"))) == 1
    last.stop()
    assert os.listdir(os.path.join(data, "journal", "writers")) == []


def test_a_copy_of_the_journal_proves_nothing(tmp_path):
    """A backup of a running site, put back on the same boot: mail/ first, the journal later."""
    data, copy = str(tmp_path / "data"), str(tmp_path / "copy")
    site = Site(data).start()
    site.deliver(message(1), KEY)
    os.mkdir(copy)
    for part in sorted(os.listdir(data)):
        if os.path.isfile(os.path.join(data, part)):
            shutil.copy(os.path.join(data, part), copy)
        elif part != "journal":
            copy_tree(os.path.join(data, part), os.path.join(copy, part))
    site.deliver(message(2), KEY)
    copy_tree(os.path.join(data, "journal"), os.path.join(copy, "journal"))
    site.kill()
    again = Site(copy, seed=2).start()
    assert subjects(again) == [1, 2]
    again.stop()
    # And the mail alone put back, beside the journal that was there.
    shutil.rmtree(os.path.join(data, "mail"))
    os.mkdir(os.path.join(data, "mail"), 0o700)
    third = Site(data, seed=3).start()
    assert subjects(third) == [1, 2]
    third.stop()


def test_what_is_neither_filled_nor_parked_is_not_noted(tmp_path, monkeypatch):
    disk = FaultyDisk(counted=["link_fd", "rename"], lasting=True)
    site = Site(str(tmp_path / "data"), disk=disk).start()
    site.deliver(message(1), KEY)
    disk.fail_at = disk.count + 1
    site.deliver(message(2), KEY)
    site.kill()
    again = Site(site.data, seed=2).start()
    assert subjects(again) == [1, 2]
    again.stop()


def test_what_is_parked_is_filled_though_its_record_is_noted(tmp_path):
    disk = FaultyDisk(counted=["link_fd"], lasting=True)
    site = Site(str(tmp_path / "data"), disk=disk).start()
    disk.fail_at = 1
    site.deliver(message(1), KEY)
    assert len(os.listdir(os.path.join(site.data, "parked"))) == 1
    site.kill()
    again = Site(site.data, seed=2).start()
    assert subjects(again) == [1]
    again.stop()


SCENARIO = 9


def scenario(site, told):
    """Deliver, look, deliver; `told` gets what was answered yes."""
    site.start()
    for n in range(SCENARIO):
        if n == 4:
            site.read(KEY)
        if n == 6:
            checkpoint(site)
        to = [KEY, "d/b"] if n % 3 else [KEY]
        try:
            site.deliver(message(n, 300_000 if n == 5 else 20), *to)
        except MailError:
            continue
        if site.disk.alive:
            told.append(n)


class Mortal(FaultyDisk):
    """From its end on nothing has any effect: the process is dead."""

    def __init__(self, number):
        super().__init__(number, lasting=True)

    @property
    def alive(self):
        return not self.failed


@pytest.mark.parametrize("deletes", [False, True])
def test_a_process_that_dies_at_any_operation_loses_and_doubles_nothing(tmp_path, deletes):
    number = 0
    dead = True
    while dead:
        number += 1
        disk = Mortal(number)
        site = Site(str(tmp_path / str(number)), disk=disk)
        told = []
        try:
            scenario(site, told)
        except (MailError, OSError, ValueError):
            pass
        dead = not disk.alive
        site.kill()
        gone = set()
        if deletes and len(told) > 2:
            # Not of what was under way: that is the instant nobody can tell.
            for name in names(site)[:1]:
                path = os.path.join(site.maildir(KEY), "new", name)
                with open(path, "rb") as file:
                    gone.add(int(file.readline()[9:]))
                os.unlink(path)
        sure = set(told) - gone
        for seed in (2, 3):
            again = Site(site.data, seed=seed).start()
            found = subjects(again)
            assert len(found) == len(set(found)), (number, found)
            assert sure <= set(found), (number, disk.failed[:1], told, found)
            assert not gone & set(found), (number, disk.failed[:1], gone, found)
            assert {n for n in sure if n % 3} <= set(subjects(again, "d/b"))
            rows = uids(again)
            assert len(set(rows.values())) == len(rows)
            again.kill()
        shutil.rmtree(site.data)
    assert number > 60


def test_a_power_cut_takes_the_directories_and_a_replay_makes_them(tmp_path):
    root, after = str(tmp_path / "one"), str(tmp_path / "two")
    os.mkdir(root)
    disk = PowerCutDisk(root)
    site = Site(os.path.join(root, "data"), disk=disk).start()
    for n in range(4):
        site.deliver(message(n), KEY, f"d/{n}")
    disk.after_cut(after)
    disk.close_all()
    site.kill()
    assert not os.path.exists(os.path.join(after, "data", "mail", "d"))
    again = Site(os.path.join(after, "data"), seed=2, boot="boot-2").start()
    # For that no index is opened: a start costs what the journal holds, not more.
    assert not os.path.exists(os.path.join(again.data, "mail", "d", "1", "index.sqlite3"))
    assert subjects(again) == [0, 1, 2, 3]
    assert [subjects(again, f"d/{n}") for n in range(4)] == [[0], [1], [2], [3]]
    again.stop()


def test_uids_that_were_told_have_a_uidvalidity_that_stays(tmp_path):
    """Delivering synced no directory: the first look does."""
    root, after = str(tmp_path / "one"), str(tmp_path / "two")
    os.mkdir(root)
    disk = PowerCutDisk(root)
    site = Site(os.path.join(root, "data"), disk=disk).start()
    site.deliver(message(1), KEY)
    account = site.store.account(KEY)
    told = set(uids(site).values())
    validity = account.validity("")
    disk.after_cut(after)
    disk.close_all()
    site.kill()
    again = Site(os.path.join(after, "data"), seed=2, boot="boot-2").start()
    now = uids(again)
    assert again.store.account(KEY).validity("") == validity
    assert not told & set(now.values())
    again.stop()


def test_the_start_after_a_kill_does_not_look_into_accounts_whose_mail_is_filled(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    for n in range(30):
        site.deliver(message(n), f"d/u{n}")
    site.kill()

    class Counting(OsDisk):
        looked = 0

        def _count(self, path):
            self.looked += "/mail/d" in path

        def open(self, path, flags, mode=0o600):
            self._count(path)
            return super().open(path, flags, mode)

        def names(self, directory):
            self._count(directory)
            return super().names(directory)

        def exists(self, path):
            self._count(path)
            return super().exists(path)

    disk = Counting()
    again = Site(site.data, seed=2, disk=disk).start()
    assert disk.looked == 0
    assert subjects(again, "d/u7") == [7]
    again.stop()
