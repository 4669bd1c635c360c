"""The queue on the disk where things go wrong together: what is parked, what was killed, what is damaged or lost."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import sqlite3
import threading

import pytest
from store_site import Site
from twisted.internet.defer import ensureDeferred
from twisted.logger import formatEvent, globalLogPublisher

from twisted_mail.disk import OsDisk
from twisted_mail.status import MailError
from twisted_mail.storage import spool_changes, spool_due
from twisted_mail.storage.queued import Attempt, Backoff, Change, QueuedMessage, State, Verdict
from twisted_mail.storage.spool import Item, Spool
from twisted_mail.testing.disk import FaultyDisk

TEXT = b"Subject: out\n\nhello\n"


@pytest.fixture
def site(tmp_path):
    return Site(str(tmp_path / "data")).start()


@pytest.fixture
def caught_log():
    """A function: the lines of the log with a text in them."""
    lines = []

    def observe(event):
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lambda text: [line for line in lines if text in line]
    globalLogPublisher.removeObserver(observe)


def by(site, id_, state, *numbers, due=0.0, text="said"):
    verdicts = tuple(Verdict(number, state, due, 0) for number in numbers or (0,))
    return Change(id_, verdicts, (Attempt(site.world.now(), "mx", "", "", text),))


def ids(taken):
    return [(one.message.id, one.number) for one in taken]


def no_rows(site):
    """From now on the site's rows cannot be written; undone by what is returned."""
    spool = site.store._spool
    known = spool.transaction

    def broken():
        raise sqlite3.OperationalError("database or disk is full")

    spool.transaction = broken
    return lambda: setattr(spool, "transaction", known)


def parked(site):
    return os.listdir(os.path.join(site.data, "parked"))


def checkpoint(site):
    site.run(site.world.threads.call(site.store._journal.checkpoint))


# -- who runs the queue next


def test_an_outcome_that_is_parked_is_known_to_the_next_runner(site):
    """Its row says ACTIVE still: to begin with that would send it again."""
    other = Site(site.data, seed=2).start()
    site.run(site.store.queue.acquire())
    site.enqueue(TEXT, "aa00", "b@b.example")
    site.take()
    mend = no_rows(site)
    site.change(by(site, "aa00", State.DELIVERED))
    mend()
    assert parked(site)
    site.run(site.store.queue.release())
    assert other.run(other.store.queue.acquire())
    assert other.take()[0] == []
    assert other.states()["aa00", "b@b.example"] is State.DELIVERED


def test_nobody_runs_the_queue_while_an_outcome_cannot_be_written_down(site):
    other = Site(site.data, seed=2).start()
    site.run(site.store.queue.acquire())
    site.enqueue(TEXT, "aa00", "b@b.example")
    site.take()
    no_rows(site)
    site.change(by(site, "aa00", State.DELIVERED))
    site.kill()
    known = other.store._spool.settle
    other.store._spool.settle = lambda items: [
        setattr(one, "error", OSError("no")) for one in items
    ]
    assert not other.run(other.store.queue.acquire())
    other.store._spool.settle = known
    assert other.run(other.store.queue.acquire())
    assert other.take()[0] == []


def test_nobody_runs_the_queue_while_the_dead_cannot_be_settled(tmp_path):
    """A checkpoint that fails is only logged; here it would mean to send again."""
    site = Site(str(tmp_path / "data")).start()
    disk = FaultyDisk(counted=["open"], lasting=True)
    other = Site(site.data, seed=2, disk=disk).start()
    site.run(site.store.queue.acquire())
    site.enqueue(TEXT, "aa00", "b@b.example")
    site.take()
    site.store._spool.fill = lambda items: None
    site.change(by(site, "aa00", State.DELIVERED))
    site.kill()
    disk.fail_at = disk.count + 2  # the first one is queue.lock
    with pytest.raises(OSError, match="Input/output"):
        other.run(other.store.queue.acquire())
    disk.fail_at = 0
    assert other.run(other.store.queue.acquire())
    assert other.take()[0] == []


def test_nobody_runs_the_queue_while_another_process_settles_the_dead(site):
    other = Site(site.data, seed=2).start()
    lock = site.disk.open(os.path.join(site.data, "journal", "checkpoint.lock"), os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert not other.run(other.store.queue.acquire())
    os.close(lock)
    assert other.run(other.store.queue.acquire())


def test_who_lets_go_of_the_queue_leaves_nothing_active(site):
    """A claim that was under way when it let go would be active for ever: the next runner has begun already."""
    other = Site(site.data, seed=2).start()
    site.run(site.store.queue.acquire())
    site.store.queue.attach(lambda _: True, lambda _: None)
    site.enqueue(TEXT, "aa00", "b@b.example")
    site.run(site.store.queue.release())
    assert site.states()["aa00", "b@b.example"] is State.WAITING
    assert other.run(other.store.queue.acquire())
    assert ids(other.take()[0]) == [("aa00", 0)]


def test_a_claim_is_asked_for_only_while_the_queue_runs(site):
    """Whoever waited for the rows while the runner let go asks it no more."""
    site.store.queue.attach(lambda _: True, lambda _: None)
    spool = site.store._spool
    known = spool.transaction

    def late():
        site.store._spool.claim = None  # as `release` does, while another thread has the connection
        return known()

    spool.transaction = late
    site.enqueue(TEXT, "aa00", "b@b.example")
    assert site.states()["aa00", "b@b.example"] is State.WAITING


def test_what_was_parked_is_news_for_who_runs_the_queue(tmp_path):
    """It is filled by the same process, half a minute later: nothing else tells it."""
    disk = FaultyDisk(counted=["link_fd"], lasting=True)
    site = Site(str(tmp_path / "data"), disk=disk).start()
    site.run(site.store.queue.acquire())
    disk.fail_at = 1
    site.enqueue(TEXT, "aa00", "b@b.example")
    assert not site.store.queue.changed()
    disk.fail_at = 0
    site.world.reactor.advance(31)
    site.turn()
    assert site.store.queue.changed()
    assert not site.store.queue.changed()
    assert ids(site.take()[0]) == [("aa00", 0)]


# -- replays


def test_a_dead_process_does_not_have_the_last_word(site):
    """mailctl holds and is killed; another one releases. What the dead one said is settled later, and came before."""
    dead = Site(site.data, seed=2).start()
    site.enqueue(TEXT, "aa00", "b@b.example")
    dead.change(by(dead, "aa00", State.HELD))
    dead.kill()
    site.change(by(site, "aa00", State.WAITING))
    checkpoint(site)
    assert site.states()["aa00", "b@b.example"] is State.WAITING
    assert ids(site.take()[0]) == [("aa00", 0)]


def test_a_record_that_cannot_be_understood_is_kept_and_loses_nothing_else(tmp_path):
    """Such as one of another version of the program: the ones behind it are settled, it is parked."""
    site = Site(str(tmp_path / "data")).start()
    site.store._spool.fill = lambda items: None
    real = QueuedMessage.to_json
    QueuedMessage.to_json = lambda self: {**real(self), "new": 1}
    try:
        site.enqueue(TEXT, "aa00", "b@b.example")
    finally:
        QueuedMessage.to_json = real
    site.enqueue(TEXT, "aa01", "b@b.example")
    site.kill()
    again = Site(site.data, seed=2).start()
    assert again.states() == {("aa01", "b@b.example"): State.WAITING}
    assert len(parked(again)) == 1
    again.stop()
    third = Site(site.data, seed=3).start()
    assert len(parked(third)) == 1


def test_what_cannot_be_stored_keeps_nothing_else_from_it(site):
    """All of a batch is one transaction; a lone surrogate makes SQLite refuse its row."""
    site.enqueue(TEXT, "aa00", "b@b.example")
    items = [
        Item(None, None, [Change("aa00", (Verdict(0, State.DEFERRED, "\udc80"),))]),
        Item(None, None, [by(site, "aa00", State.HELD)]),
    ]
    site.store._spool.fill(items)
    assert [item.error is None for item in items] == [False, True]
    assert site.states() == {("aa00", "b@b.example"): State.HELD}


def test_a_busy_database_is_not_asked_again_for_each(site):
    """It is waited for 20 s each time: all of the batch is parked together."""
    begun = []

    def transaction():
        begun.append(1)
        raise sqlite3.OperationalError("database is locked")

    site.store._spool.transaction = transaction
    items = [Item(None, None, [Change(str(n))]) for n in range(5)]
    site.store._spool.fill(items)
    assert len(begun) == 1
    assert all(item.error is not None for item in items)


def test_a_store_that_an_older_program_made_becomes_one_that_it_refuses(tmp_path):
    """It knows nothing of a queue: after an unclean stop it would drop what was queued."""
    site = Site(str(tmp_path / "data")).start()
    site.stop()
    path = os.path.join(site.data, "site.json")
    with open(path) as file:
        stored = json.load(file)
    assert stored["version"] == 3
    with open(path, "w") as file:
        json.dump({**stored, "version": 1}, file)
    again = Site(site.data, seed=2).start()
    again.stop()
    with open(path) as file:
        assert json.load(file) == stored


# -- ids


def test_an_id_that_is_taken_is_refused_before_the_commit(site):
    """48 random bits: some day two messages get the same ones. The second would be answered, and forgotten."""
    site.enqueue(TEXT, "aa00", "b@b.example")
    with pytest.raises(MailError) as caught:
        site.enqueue(TEXT + b"another\n", "aa00", "c@c.example")
    assert caught.value.temporary
    site.change(by(site, "aa00", State.DELIVERED))
    with pytest.raises(MailError):
        site.enqueue(TEXT + b"another\n", "aa00", "c@c.example")
    site.kill()
    assert set(Site(site.data, seed=2).start().states()) == {("aa00", "b@b.example")}


def test_two_of_one_batch_with_the_same_id(site):
    now = site.world.now()
    message = QueuedMessage("aa00", "", (), now, now + 10)
    results = []
    for _ in range(3):
        # The first one occupies the lane, so the others are one batch.
        ensureDeferred(site.accept(TEXT, [], queue=message)).addBoth(results.append)
    for _ in range(100):
        site.world.reactor.advance(0.01)
    assert sum(result is None for result in results) == 1
    assert len(results) == 3


@pytest.mark.parametrize("id_", ["../../aa", "a/b", "", "..", "a\0b", "ä0", "aa 00"])
def test_an_id_is_no_path(site, id_):
    with pytest.raises(MailError):
        site.enqueue(TEXT, id_, "b@b.example")
    assert site.states() == {}


# -- files


def test_directories_that_somebody_tidied_away_are_made_again(site):
    site.enqueue(TEXT, "aa00", "b@b.example")
    site.change(by(site, "aa00", State.DELIVERED))
    os.rmdir(os.path.join(site.data, "queue", "aa"))
    os.rmdir(os.path.join(site.data, "queue"))
    site.enqueue(TEXT, "aa01", "b@b.example")
    assert site.queued_file("aa01") == TEXT
    assert parked(site) == []


def test_a_large_file_that_is_cut_off_is_not_sent(site):
    site.enqueue(TEXT + b"x" * 400_000, "aa00", "b@b.example")
    message = site.take()[0][0].message
    site.run(site.store.queue.open(message)).close()
    with open(site.store._spool.path("aa00"), "r+b") as file:
        file.truncate(300_000)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(MailError) as caught:
        site.run(site.store.queue.open(message))
    assert not caught.value.temporary
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_message_without_content(site):
    site.enqueue(b"", "aa00", "b@b.example")
    opened = site.run(site.store.queue.open(site.take()[0][0].message))
    assert site.run(opened.read(10)) == b""


def test_a_message_that_is_skipped_whole_and_more(site):
    site.enqueue(TEXT, "aa00", "b@b.example", skip=10_000)
    with pytest.raises(MailError):
        site.run(site.store.queue.open(site.take()[0][0].message))


# -- what an operator sees


def test_rows_that_were_lost_are_told_of_at_the_start(site, caught_log):
    site.enqueue(TEXT, "aa00", "b@b.example")
    site.enqueue(TEXT, "ab00", "b@b.example")
    site.stop()
    assert not caught_log("nobody knows")
    for name in ("queue.sqlite3", "queue.sqlite3-wal", "queue.sqlite3-shm"):
        path = os.path.join(site.data, name)
        if os.path.exists(path):
            os.unlink(path)
    shutil.rmtree(os.path.join(site.data, "queue", "envelopes"))
    again = Site(site.data, seed=2).start()
    assert "2 messages lie in" in caught_log("nobody knows")[0]
    assert again.queued_file("aa00") == TEXT


def test_rows_that_the_journal_brings_back_are_not_lost(site, caught_log):
    site.enqueue(TEXT, "aa00", "b@b.example")
    site.kill()
    for name in ("queue.sqlite3", "queue.sqlite3-wal", "queue.sqlite3-shm"):
        path = os.path.join(site.data, name)
        if os.path.exists(path):
            os.unlink(path)
    again = Site(site.data, seed=2).start()
    assert again.states() == {("aa00", "b@b.example"): State.WAITING}
    assert not caught_log("nobody knows")


def test_the_queue_lies_on_the_same_file_system(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    site.stop()
    if os.stat("/proc").st_dev == os.stat(site.data).st_dev:
        pytest.skip("no other file system here")
    os.rename(os.path.join(site.data, "queue"), os.path.join(site.data, "away"))
    os.symlink("/proc", os.path.join(site.data, "queue"))
    with pytest.raises(ValueError, match="another file system"):
        Site(site.data, seed=2).start()


# -- bounds


def test_attempts_are_bounded(site, monkeypatch):
    monkeypatch.setattr(spool_changes, "ATTEMPTS", 3)
    site.enqueue(TEXT, "aa00", "b@b.example", "c@c.example")
    for number in range(5):
        site.world.reactor.advance(1)
        site.change(by(site, "aa00", State.DEFERRED, text=f"try {number}"))
    story = site.store.queue.view.story("aa00")
    assert [one.text for one in story.attempts] == ["try 2", "try 3", "try 4"]
    assert [one.tries for one in story.recipients] == [5, 0]
    assert story.recipients[0].last.text == "try 4"


def test_more_than_one_portion_of_old_stories_is_forgotten(site, monkeypatch):
    """One a minute would keep up with three messages a second."""
    monkeypatch.setattr("twisted_mail.storage.spool_view.PRUNED", 2)
    monkeypatch.setattr("twisted_mail.storage.outgoing.PRUNED", 2)
    for number in range(7):
        site.enqueue(TEXT, f"aa0{number}", "b@b.example")
        site.change(by(site, f"aa0{number}", State.DELIVERED))
    site.run(site.store.queue.prune(site.world.now() - 100, 1))
    assert len(site.states()) == 1


def test_who_is_active_does_not_hide_who_has_expired(site):
    for number in range(5):
        site.enqueue(TEXT, f"aa0{number}", "b@b.example", expires=site.world.now() + number)
    site.take(limit=4)
    site.enqueue(TEXT, "bb00", "b@b.example", "c@b.example", expires=0.0)
    site.change(by(site, "bb00", State.HELD, 0, 1))
    site.world.reactor.advance(10)
    found = site.run(site.store.queue.expired(site.world.now(), 1))
    assert ids(found) == [("aa04", 0)]


def test_a_flush_leaves_nobody_out_whose_time_is_the_same(site, monkeypatch):
    monkeypatch.setattr(spool_due, "SKIPPED", 3)
    later = site.world.now() + 3600
    for number in range(9):
        site.enqueue(TEXT, f"aa0{number}", "b@b.example")
    site.run(site.store.queue.put_back(ids(site.take()[0]), later))
    site.run(site.store.queue.back_off(Backoff("b.example", later, 1, 1.0, "no")))
    site.world.reactor.advance(1)
    site.store.queue.view.flush(site.world.now())
    # Tried since: passed over.
    site.world.reactor.advance(1)
    for number in range(5):
        site.change(by(site, f"aa0{number}", State.DEFERRED, due=later))
    found = []
    for _ in range(10):
        taken, _ = site.take(limit=2)
        found += [one.message.id for one in taken]
    assert sorted(found) == ["aa05", "aa06", "aa07", "aa08"]


def test_changes_of_recipients_that_are_not_there(site):
    site.enqueue(TEXT, "aa00", "b@b.example")
    site.change(by(site, "aa00", State.DELIVERED, 5, -1, 2**40), by(site, "zz00", State.HELD))
    site.change(by(site, "aa00", State.DEFERRED, 7, due=5.0))
    assert site.states() == {("aa00", "b@b.example"): State.WAITING}
    assert site.queued_file("aa00") == TEXT
    site.change(by(site, "aa00", State.DELIVERED, 0, 0))
    assert site.queued_file("aa00") is None


def test_a_clock_that_goes_back_counts_every_message_once(site):
    site.enqueue(TEXT, "aa00", "b@b.example")
    site.change(by(site, "aa00", State.DEFERRED, due=site.world.now() + 5, text="first"))
    early = Attempt(site.world.now() - 1000, "mx", "", "", "earlier")
    site.change(Change("aa00", (Verdict(0, State.DEFERRED, 0.0, 0),), (early,)))
    assert ids(site.take()[0]) == [("aa00", 0)]
    site.change(Change("aa00", (Verdict(0, State.DELIVERED, 0.0, 0),), (early,)))
    assert site.states() == {("aa00", "b@b.example"): State.DELIVERED}


def test_files_of_the_queue_are_the_owners_only(site):
    old = os.umask(0)
    try:
        site.enqueue(TEXT, "cc00", "b@b.example")
        site.run(site.store.queue.acquire())
    finally:
        os.umask(old)
    for name in ("queue.sqlite3", "queue.lock", "queue/cc", "queue/cc/cc00", "queue"):
        assert os.stat(os.path.join(site.data, name)).st_mode & 0o077 == 0, name


def test_lock_files_are_not_inherited(site):
    site.run(site.store.queue.acquire())
    assert not os.get_inheritable(site.store.queue._due._lock)


def test_a_lock_that_cannot_be_had_leaves_nothing_open(site):
    Site(site.data, seed=2).start()
    real, left = site.disk.flock, 0

    def flock(fd, operation):
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(errno.EIO, "no lock")
        real(fd, operation)

    site.disk.flock = flock
    before = set(os.listdir("/proc/self/fd"))
    for number in range(1, 20):
        left = number
        try:
            done = site.run(site.store.queue.acquire())
        except OSError as error:
            assert error.errno == errno.EIO
            assert set(os.listdir("/proc/self/fd")) == before
        else:
            assert done
            break
    assert number > 4


# -- the same again


def test_a_replay_counts_no_try_twice_and_forgets_the_file_again(site):
    site.enqueue(TEXT, "aa00", "b@b.example")
    site.enqueue(TEXT, "aa01", "b@b.example")
    for _ in range(2):
        site.world.reactor.advance(1)
        site.change(by(site, "aa00", State.DEFERRED, due=5.0))
    site.change(by(site, "aa01", State.DELIVERED))
    path = site.store._spool.path("aa01")
    site.kill()
    with open(path, "wb") as file:
        file.write(TEXT)  # the unlink was not synced
    again = Site(site.data, seed=2).start()
    (story,) = again.store.queue.view.story("aa00").recipients
    assert story.tries == 2
    assert not os.path.exists(path)


def test_a_file_that_another_boot_left_damaged_is_written_anew(site):
    site.enqueue(TEXT, "aa00", "b@b.example")
    site.enqueue(TEXT, "aa01", "b@b.example")
    damaged, gone = map(site.store._spool.path, ("aa00", "aa01"))
    site.kill()
    with open(damaged, "r+b") as file:
        file.write(b"x")
    os.unlink(gone)
    again = Site(site.data, seed=2, boot="boot-2").start()
    assert again.queued_file("aa00") == again.queued_file("aa01") == TEXT


def test_what_is_parked_at_another_boots_replay_is_checked_when_it_is_tried_again(site):
    """A boot later still: the file was linked, and is damaged."""
    site.enqueue(TEXT, "aa00", "b@b.example")
    path = site.store._spool.path("aa00")
    site.kill()
    again = Site(site.data, seed=2, boot="boot-2")
    real = again.store._spool.settle
    again.store._spool.settle = lambda items: [
        setattr(one, "error", OSError("no")) for one in items
    ]
    again.start()
    assert len(parked(again)) == 1
    again.store._spool.settle = real
    with open(path, "r+b") as file:
        file.write(b"x")
    again.world.reactor.advance(31)
    again.turn()
    assert parked(again) == []
    assert again.queued_file("aa00") == TEXT


def test_changes_that_were_made_are_not_parked_with_the_bounce_that_could_not_be_added(tmp_path):
    """Done again later, they would undo what was changed since."""
    disk = FaultyDisk(counted=["link_fd"], lasting=True)
    site = Site(str(tmp_path / "data"), disk=disk).start()
    site.enqueue(TEXT, "aa00", "b@b.example", "c@c.example")
    disk.fail_at = disk.count + 1
    site.enqueue(TEXT, "bb00", "d@d.example", changes=[by(site, "aa00", State.HELD)])
    disk.fail_at = 0
    assert len(parked(site)) == 1
    site.change(by(site, "aa00", State.WAITING))
    site.world.reactor.advance(31)
    site.turn()
    assert site.states()["aa00", "b@b.example"] is State.WAITING
    assert site.states()["bb00", "d@d.example"] is State.WAITING


def test_the_same_at_a_replay(tmp_path):
    disk = FaultyDisk(counted=["link_fd"], lasting=True)
    site = Site(str(tmp_path / "data"), disk=disk).start()
    site.enqueue(TEXT, "aa00", "b@b.example")
    site.store._spool.fill = lambda items: None
    site.enqueue(TEXT, "bb00", "d@d.example", changes=[by(site, "aa00", State.HELD)])
    site.kill()
    disk.fail_at = disk.count + 1
    again = Site(site.data, seed=2, disk=disk).start()
    disk.fail_at = 0
    assert again.states() == {("aa00", "b@b.example"): State.HELD}
    again.change(by(again, "aa00", State.WAITING))
    again.world.reactor.advance(31)
    again.turn()
    assert again.states()["aa00", "b@b.example"] is State.WAITING
    assert ("bb00", "d@d.example") in again.states()


# -- what nobody tested


def test_a_small_file_that_is_cut_off_is_not_sent(site):
    message = site.enqueue(TEXT, "aa00", "b@b.example", skip=2)
    with open(site.store._spool.path("aa00"), "r+b") as file:
        file.truncate(len(TEXT) - 3)
    with pytest.raises(MailError):
        site.run(site.store.queue.open(site.take()[0][0].message))
    assert message.skip == 2


def test_new_mail_for_a_destination_with_deferred_mail_is_due_at_once(site):
    site.enqueue(TEXT, "aa00", "b@b.example")
    site.take()
    site.change(by(site, "aa00", State.DEFERRED, due=site.world.now() + 3600))
    assert site.take()[0] == []
    site.enqueue(TEXT, "aa01", "b@b.example")
    assert ids(site.take()[0]) == [("aa01", 0)]


def test_a_destination_that_had_more_than_its_share_is_looked_at_by_the_next_runner(site):
    site.run(site.store.queue.acquire())
    site.enqueue(TEXT, "aa00", "b@b.example")
    assert site.take(share=0)[0] == []
    assert site.take()[0] == []
    site.kill()
    again = Site(site.data, seed=2).start()
    again.run(again.store.queue.acquire())
    assert ids(again.take()[0]) == [("aa00", 0)]


def test_what_was_held_or_is_over_is_not_put_back(site):
    for id_ in ("aa00", "aa01"):
        site.enqueue(TEXT, id_, "b@b.example")
    site.take()
    site.change(by(site, "aa00", State.HELD), by(site, "aa01", State.DELIVERED))
    site.run(site.store.queue.put_back([("aa00", 0), ("aa01", 0)], site.world.now()))
    assert list(site.states().values()) == [State.HELD, State.DELIVERED]


def test_who_has_let_go_of_the_queue_is_asked_for_nothing(site):
    asked = []
    site.store.queue.attach(lambda message: not asked.append(message), asked.extend)
    site.run(site.store.queue.acquire())
    site.run(site.store.queue.release())
    site.enqueue(TEXT, "aa00", "b@b.example")
    site.turn()
    assert asked == []
    assert site.states()["aa00", "b@b.example"] is State.WAITING


def test_nobody_runs_the_queue_while_an_outcome_is_in_memory_only(site):
    """The rows cannot be written, nor can it be parked."""
    site.enqueue(TEXT, "aa00", "b@b.example")
    site.take()
    mend = no_rows(site)
    parking = site.store._places.parking
    real = parking.write

    def full(owed):
        raise OSError(errno.ENOSPC, "full")

    parking.write = full
    site.change(by(site, "aa00", State.DELIVERED))
    mend()
    assert not site.run(site.store.queue.acquire())
    parking.write = real
    assert site.run(site.store.queue.acquire())
    assert site.take()[0] == []


def test_nobody_runs_the_queue_while_another_process_tries_what_is_parked(site):
    site.enqueue(TEXT, "aa00", "b@b.example")
    site.take()
    mend = no_rows(site)
    site.change(by(site, "aa00", State.DELIVERED))
    mend()
    (name,) = parked(site)
    with open(os.path.join(site.data, "parked", name)) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not site.run(site.store.queue.acquire())
    assert site.run(site.store.queue.acquire())
    assert site.take()[0] == []


def test_no_batch_runs_while_the_dead_are_settled(site):
    """Somebody could commit that a message is over while it is put in its place."""
    dead = Site(site.data, seed=2).start()
    dead.kill()
    journal = os.path.join(site.data, "journal")
    (segment,) = (name for name in os.listdir(journal) if name.endswith(".log"))
    seen = []

    def settle(loaded, writers):
        for name in ("gate", segment):
            with open(os.path.join(journal, name)) as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        seen.append(len(writers))

    site.store._places.settle = settle
    assert site.run(site.store.queue.acquire())
    assert seen == [1]
    site.enqueue(TEXT, "aa00", "b@b.example")
    assert ids(site.take()[0]) == [("aa00", 0)]


def test_a_new_queue_may_be_opened_by_many_at_once(tmp_path):
    """As a server and mailctl do, started together: SQLite lets nobody wait for who makes the file."""
    failed: list[BaseException] = []
    for turn in range(30):
        data = str(tmp_path / str(turn))
        os.mkdir(data)
        spools = [Spool(OsDisk(), data) for _ in range(6)]
        begin = threading.Barrier(len(spools))

        def prepare(spool: Spool, begin: threading.Barrier = begin) -> None:
            begin.wait()
            try:
                spool.prepare()
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=prepare, args=(spool,)) for spool in spools]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for spool in spools:
            spool.close()
    assert failed == []
