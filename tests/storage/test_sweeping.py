"""Mailboxes that users deleted: there until no replay needs them, then away for good, in slices."""

from __future__ import annotations

import itertools
import os

import pytest
from filing_site import append, bases, folder, held, message, move, remove_folder
from store_site import Site

from twisted_mail.storage import sweeping

KEY = "d/a"
MAIL = b"Subject: x\n\n%d\n"


@pytest.fixture
def site(tmp_path):
    made = Site(str(tmp_path / "data")).start()
    made.deliver(MAIL % 0, KEY)
    yield made
    made.stop()


def deleted(site):
    path = os.path.join(site.data, "deleted")
    return os.listdir(path) if os.path.exists(path) else []


def make_and_delete(site, name="Work", count=2):
    append(site, KEY, name, *(message(MAIL % n) for n in range(count)))
    remove_folder(site, KEY, name)


def checkpoint(site):
    site.store._journal.checkpoint()


def sweep(site, seconds=1.0):
    for _ in range(40):
        site.world.reactor.advance(seconds / 40)


def test_it_stays_until_a_checkpoint_and_is_away_then(site):
    make_and_delete(site)
    sweep(site)
    assert len(deleted(site)) == 1, "a replay may look for what is in it"
    checkpoint(site)
    assert len(deleted(site)) == 1, "not on the thread of the checkpoint"
    sweep(site)
    assert deleted(site) == []
    assert [one.folder for one in held(site, KEY)] == ["INBOX"]


def test_a_checkpoint_comes_for_it(site):
    """A loop of CREATE, APPEND and DELETE takes no more space than that of a minute."""
    make_and_delete(site)
    make_and_delete(site)
    sweep(site, 62)
    assert deleted(site) == []


def test_in_slices_between_which_there_is_a_pause(site, monkeypatch):
    monkeypatch.setattr(sweeping, "SLICE", 3)
    make_and_delete(site, count=20)
    (name,) = deleted(site)
    cur = os.path.join(site.data, "deleted", name, "cur")
    os.makedirs(os.path.join(cur, "deep", "er"))
    os.symlink(site.maildir(KEY), os.path.join(cur, "link"))
    checkpoint(site)
    left = []
    for _ in range(40):
        site.world.reactor.advance(0.05)
        left.append(sum(len(names) for _, _, names in os.walk(os.path.join(site.data, "deleted"))))
    assert left[-1] == 0 and deleted(site) == []
    steps = [before - after for before, after in itertools.pairwise(left)]
    assert max(steps) <= 3 and sum(map(bool, steps)) > 5
    assert len(held(site, KEY)) == 1, "a link is not followed"


def test_what_is_deleted_while_a_checkpoint_runs_waits_for_the_next(site):
    make_and_delete(site)
    journal = site.store._journal
    seal = journal._checkpoints._seal_current

    def late():
        sealed = seal()
        make_and_delete(site, "Late")
        return sealed

    journal._checkpoints._seal_current = late
    checkpoint(site)
    sweep(site)
    assert len(deleted(site)) == 1
    journal._checkpoints._seal_current = seal
    checkpoint(site)
    sweep(site)
    assert deleted(site) == []


def test_it_stays_while_the_journal_is_kept(site):
    make_and_delete(site)
    site.store._journal.pin(True)
    other = Site(site.data, seed=2).start()
    checkpoint(other)
    sweep(other)
    assert len(deleted(site)) == 1
    site.store._journal.pin(False)
    checkpoint(other)
    sweep(other)
    assert deleted(site) == []
    other.stop()


def test_what_a_crash_leaves_is_swept_after_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeping, "SLICE", 4)
    site = Site(str(tmp_path / "data")).start()
    site.deliver(MAIL % 0, KEY)
    make_and_delete(site, count=20)
    checkpoint(site)
    site.world.reactor.advance(0.06)
    assert len(deleted(site)) == 1
    site.kill()
    site = Site(site.data, seed=3).start()
    sweep(site, 3)
    assert deleted(site) == []
    site.stop()


def test_a_stop_comes_in_between(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeping, "SLICE", 1)
    site = Site(str(tmp_path / "data")).start()
    site.deliver(MAIL % 0, KEY)
    make_and_delete(site, count=20)
    checkpoint(site)
    site.world.reactor.advance(0.06)
    site.stop()
    assert len(deleted(site)) == 1
    assert site.world.reactor.getDelayedCalls() == []


def test_a_replay_finds_what_was_moved_out_before(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    site.deliver(MAIL % 0, KEY)
    append(site, KEY, "Work", message(MAIL % 1))
    (base,) = bases(site, KEY, "Work")
    work = folder(site, KEY, "Work")
    move(site, KEY, "Work", [base], "INBOX")
    site.run(site.store.remove_folder(KEY, work))
    # A power cut has kept the second rename and not the first one.
    (name,) = deleted(site)
    inbox = os.path.join(site.maildir(KEY), "cur")
    (file,) = [one for one in os.listdir(inbox) if one.startswith(base)]
    os.rename(os.path.join(inbox, file), os.path.join(site.data, "deleted", name, "cur", file))
    site.kill()
    site = Site(site.data, seed=3, boot="boot-2").start()
    sweep(site)
    assert [one.content for one in held(site, KEY)] == [MAIL % 0, MAIL % 1]
    assert deleted(site) == []
    site.stop()


def test_the_mail_of_a_removed_account_stays(site):
    site.run(site.store.remove_account(KEY))
    checkpoint(site)
    sweep(site)
    assert len(os.listdir(os.path.join(site.data, "removed"))) == 1
