"""What a start makes of the journal after a stop that was not clean."""

from __future__ import annotations

import os
import shutil
from random import Random

import pytest
from store_site import Site, seen

from twisted_mail.status import MailError
from twisted_mail.testing.disk import FaultyDisk, PowerCutDisk, copy_tree

SMALL = b"Subject: one\n\nhello\n"


def message(number, size=20):
    return b"Subject: %d\n\n" % number + b"x" * size + b"\n"


def test_a_kill_loses_nothing_and_doubles_nothing(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    for n in range(10):
        site.deliver(message(n, 300_000 if n == 5 else 20), "d/a", "d/b")
    site.delete("d/a", 0, 1)
    site.kill()
    again = Site(site.data, seed=2).start()
    assert again.contents("d/a") == sorted(
        message(n, 300_000 if n == 5 else 20) for n in range(2, 10)
    )
    assert len(again.read("d/b")) == 10
    again.kill()
    third = Site(site.data, seed=3).start()
    assert len(third.read("d/a")) == 8
    third.stop()


def test_the_drill_old_data_with_the_newer_journal(tmp_path):
    """Stop, copy the data, start, mail and delete, kill, put the copy back with the newer journal only."""
    data, copy = str(tmp_path / "data"), str(tmp_path / "copy")
    site = Site(data, segment_size=64 << 20).start()
    for n in range(20):
        site.deliver(message(n), "d/a")
    site.stop()
    copy_tree(data, copy)
    site = Site(data, seed=2, segment_size=64 << 20).start()
    for n in range(20, 70):
        site.deliver(message(n, 1_000_000 if n % 10 == 0 else 50), "d/a", "d/b")
    site.delete("d/a", *range(10), *range(30, 40))
    expected = site.read("d/a")
    site.kill()
    shutil.rmtree(os.path.join(copy, "journal"))
    copy_tree(os.path.join(data, "journal"), os.path.join(copy, "journal"))
    again = Site(copy, seed=3).start()
    assert sorted(again.read("d/a")) == sorted(expected)
    assert len(again.read("d/b")) == 50
    again.stop()


def test_mail_that_another_program_deleted_stays_deleted(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    for n in range(3):
        site.deliver(message(n), "d/a")
    new = os.path.join(site.maildir("d/a"), "new")
    first, _, _ = sorted(os.listdir(new))
    os.unlink(os.path.join(new, first))
    assert len(site.read("d/a")) == 2  # noticed at a login, and noted in the journal
    site.turn()
    os.unlink(os.path.join(new, min(os.listdir(new))))  # not noticed by anybody
    site.kill()
    again = Site(site.data, seed=2).start()
    assert again.contents("d/a") == [message(2)]
    again.stop()


def test_mail_that_another_program_filed_stays_where_it_is(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    site.deliver(SMALL, "d/a")
    maildir = site.maildir("d/a")
    for sub in ("new", "cur", "tmp"):
        os.makedirs(os.path.join(maildir, ".Filed", sub))
    (name,) = os.listdir(os.path.join(maildir, "new"))
    os.rename(
        os.path.join(maildir, "new", name), os.path.join(maildir, ".Filed", "cur", name + ":2,S")
    )
    site.kill()
    for boot in ("boot-1", "boot-2"):
        again = Site(site.data, seed=2, boot=boot).start()
        assert again.read("d/a") == []
        assert len(os.listdir(os.path.join(maildir, ".Filed", "cur"))) == 1
        again.kill()


def test_mail_that_another_program_took_away_and_put_back_is_kept(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    site.deliver(SMALL, "d/a")
    new = os.path.join(site.maildir("d/a"), "new")
    (name,) = os.listdir(new)
    os.rename(os.path.join(new, name), str(tmp_path / "away"))
    assert site.read("d/a") == []  # noticed
    site.turn()
    os.rename(str(tmp_path / "away"), os.path.join(new, name))
    site.kill()
    again = Site(site.data, seed=2).start()
    assert again.contents("d/a") == [SMALL]
    again.stop()


def test_a_damaged_file_is_written_anew_after_a_power_cut(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    site.deliver(message(1, 100), "d/a", "d/b")
    site.deliver(message(2, 300_000), "d/a")
    new = os.path.join(site.maildir("d/a"), "new")
    site.kill()
    first, second = sorted(os.listdir(new))
    with open(os.path.join(new, first), "r+b") as file:
        file.write(b"\0\0\0")
    os.unlink(os.path.join(new, second))
    again = Site(site.data, seed=2, boot="boot-2").start()
    assert again.contents("d/a") == sorted([message(1, 100), message(2, 300_000)])
    assert again.contents("d/b") == [message(1, 100)]
    again.stop()


def test_a_removed_account_does_not_come_back(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    site.deliver(SMALL, "d/a", "d/b")
    site.run(site.store.remove_account("d/a"))
    site.kill()
    again = Site(site.data, seed=2).start()
    assert not os.path.exists(again.maildir("d/a"))
    assert again.contents("d/b") == [SMALL]
    again.stop()


def test_uids_start_above_all_that_may_have_been_given(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    site.deliver(SMALL, "d/a")
    assert len(site.read("d/a")) == 1
    site.kill()
    again = Site(site.data, seed=2).start()
    again.deliver(SMALL, "d/a")
    rows = seen(again.store._accounts.get("d/a"))
    assert [row[0] for row in rows] == [1, 10_002]
    again.stop()


def test_a_failed_sync_is_answered_451_and_does_not_come_back(tmp_path):
    disk = FaultyDisk(counted=["fdatasync"])
    site = Site(str(tmp_path / "data"), disk=disk).start()
    site.deliver(message(1), "d/a")
    disk.fail_at = disk.count + 1
    with pytest.raises(MailError) as caught:
        site.deliver(message(2), "d/a")
    assert caught.value.code == 451
    site.deliver(message(3), "d/a")
    assert site.contents("d/a") == [message(1), message(3)]
    # A sync that failed may have written all the same: the records stand in the old segment, and are void.
    site.kill()
    for boot in ("boot-1", "boot-2"):
        again = Site(site.data, seed=2, boot=boot).start()
        assert again.contents("d/a") == [message(1), message(3)]
        again.kill()


def test_a_place_that_cannot_be_filled_is_parked_and_filled_later(tmp_path):
    disk = FaultyDisk(counted=["link_fd"], lasting=True)
    site = Site(str(tmp_path / "data"), disk=disk).start()
    site.deliver(message(1), "d/a")
    disk.fail_at = disk.count + 1
    site.deliver(message(2), "d/a", "d/b")  # committed: the answer is yes
    assert site.contents("d/a") == [message(1)]
    assert len(os.listdir(os.path.join(site.data, "parked"))) == 1
    disk.fail_at = 0
    site.world.reactor.advance(31)
    site.turn()
    assert site.contents("d/a") == [message(1), message(2)]
    assert site.contents("d/b") == [message(2)]
    assert os.listdir(os.path.join(site.data, "parked")) == []
    site.stop()


def test_parked_mail_survives_a_power_cut(tmp_path):
    disk = FaultyDisk(counted=["link_fd"], lasting=True)
    site = Site(str(tmp_path / "data"), disk=disk).start()
    disk.fail_at = 1
    site.deliver(message(2), "d/a")
    site.run(site.world.threads.call(site.store._journal.checkpoint))
    site.kill()
    again = Site(site.data, seed=2, boot="boot-2").start()
    assert again.contents("d/a") == [message(2)]
    again.stop()


def test_what_can_be_neither_filled_nor_parked_keeps_the_journal(tmp_path):
    disk = FaultyDisk(counted=["link_fd", "rename"], lasting=True)
    site = Site(str(tmp_path / "data"), disk=disk).start()
    site.deliver(message(1), "d/a")
    disk.fail_at = disk.count + 1
    site.deliver(message(2), "d/a")
    site.run(site.world.threads.call(site.store._journal.checkpoint))
    site.kill()
    again = Site(site.data, seed=2).start()
    assert again.contents("d/a") == [message(1), message(2)]
    again.stop()


# -- every operation, in turn


def scenario(site, outcome):
    """Deliver and delete; `outcome` is told what was answered yes while the power was on."""
    site.start()
    outcome.alive = lambda: getattr(site.disk, "alive", True)
    for n in range(4):
        outcome.deliver(site, message(n, 300_000 if n == 2 else 30), "d/a", "d/b")
    outcome.delete(site, "d/a", 0)
    site.run(site.world.threads.call(site.store._journal.checkpoint))
    outcome.deliver(site, message(5), "d/a")
    outcome.delete(site, "d/a", 0)


class Outcome:
    def __init__(self):
        self.alive = lambda: True
        self.sure = {"d/a": set(), "d/b": set()}
        self.maybe = {"d/a": set(), "d/b": set()}

    def deliver(self, site, content, *accounts):
        try:
            site.deliver(content, *accounts)
        except MailError:
            done = False
        else:
            done = self.alive()
        for account in accounts:
            (self.sure if done else self.maybe)[account].add(content)

    def delete(self, site, account, index):
        try:
            content = site.read(account)[index][1]
        except (MailError, OSError, IndexError):
            return
        self.sure[account].discard(content)
        try:
            site.delete(account, index)
        except (MailError, OSError):
            self.maybe[account].add(content)
            return
        if not self.alive():
            self.maybe[account].add(content)

    def check(self, site):
        for account in self.sure:
            found = site.contents(account)
            assert len(set(found)) == len(found), "doubled"
            assert self.sure[account] <= set(found), "lost"
            assert set(found) <= self.sure[account] | self.maybe[account], "came back"
        # All recipients or none, while nothing was deleted from either.
        assert set(site.contents("d/b")) - self.sure["d/b"] <= self.maybe["d/b"]


def operations(run):
    """1, 2, 3 … until a run has fewer operations than that."""
    number = 1
    while run(number):
        number += 1
    assert number > 50


def test_every_operation_failing_once_loses_nothing(tmp_path):
    def run(number):
        disk = FaultyDisk(number)
        site = Site(str(tmp_path / str(number)), disk=disk)
        outcome = Outcome()
        try:
            scenario(site, outcome)
        except (MailError, OSError, ValueError):
            if not site.store._upkeep.on:
                return bool(disk.failed)  # it did not start: said so, and nothing was promised
        disk.fail_at = 0
        if site.store._upkeep.on:
            site.world.reactor.advance(31)  # what was parked is tried again
            site.turn()
            outcome.check(site)
        site.kill()
        again = Site(site.data, seed=2).start()
        outcome.check(again)
        again.stop()
        shutil.rmtree(site.data)
        return bool(disk.failed)

    operations(run)


@pytest.mark.parametrize("luck", [None, 1, 2, 3])
def test_a_power_cut_at_every_operation_loses_nothing(tmp_path, luck):
    def run(number):
        root, after = str(tmp_path / f"{number}"), str(tmp_path / f"{number}-after")
        os.mkdir(root)
        disk = PowerCutDisk(root, number)
        site = Site(os.path.join(root, "data"), disk=disk)
        outcome = Outcome()
        try:
            scenario(site, outcome)
        except (MailError, OSError, ValueError):
            pass
        cut = not disk.alive
        disk.after_cut(after, luck=Random(luck * 1000 + number) if luck else None)
        disk.close_all()
        site.kill()
        again = Site(os.path.join(after, "data"), seed=2, boot="boot-2").start()
        outcome.check(again)
        again.kill()
        third = Site(os.path.join(after, "data"), seed=3, boot="boot-2").start()
        outcome.check(third)
        third.stop()
        shutil.rmtree(root)
        shutil.rmtree(after)
        return cut

    operations(run)
