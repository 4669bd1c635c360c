"""The queue on the disk: what is due, what a change does, what people are shown."""

from __future__ import annotations

import fcntl
import os
import shutil
from dataclasses import replace

import pytest
from store_site import Site

from twisted_mail.status import MailError
from twisted_mail.storage.queued import (
    Attempt,
    Backoff,
    Change,
    Options,
    QueuedMessage,
    QueuedRecipient,
    State,
    Verdict,
)
from twisted_mail.storage.spool import Item
from twisted_mail.storage.spool_view import Filter
from twisted_mail.testing.disk import FaultyDisk

TEXT = b"Subject: out\n\nhello\n"


@pytest.fixture
def site(tmp_path):
    return Site(str(tmp_path / "data")).start()


def ids(taken):
    return [(one.message.id, one.number) for one in taken]


def tried(site, text="451 4.3.0 later", host="mx.b.example"):
    return Attempt(site.world.now(), host, "192.0.2.1", "", text)


def deferred(site, id_, number=0, after=300.0):
    due = site.world.now() + after
    return Change(id_, (Verdict(number, State.DEFERRED, due, 0),), (tried(site),))


def over(site, id_, *numbers, state=State.DELIVERED):
    verdicts = tuple(Verdict(number, state, 0.0, 0) for number in numbers or (0,))
    return Change(id_, verdicts, (tried(site, "250 2.0.0 ok"),))


def content(site, message):
    async def read():
        opened = await site.store.queue.open(message)
        blocks = []
        while block := await opened.read(1000):
            blocks.append(block)
        opened.close()
        return b"".join(blocks)

    return site.run(read())


def test_mail_for_here_and_elsewhere_is_one_file(site):
    message = site.enqueue(TEXT, "aa01", "bob@b.example", accounts=["d/a"], skip=9)
    assert site.contents("d/a") == [TEXT]
    (name,) = os.listdir(os.path.join(site.maildir("d/a"), "new"))
    stored = os.stat(os.path.join(site.maildir("d/a"), "new", name))
    assert os.stat(site.store._spool.path("aa01")).st_ino == stored.st_ino
    taken, _ = site.take()
    assert ids(taken) == [("aa01", 0)]
    assert taken[0].message.size == len(TEXT)
    assert taken[0].message.wire == len(TEXT) + TEXT.count(b"\n")
    assert taken[0].message.recipients == message.recipients
    assert content(site, taken[0].message) == TEXT[9:]


def test_a_large_message_streams(site):
    large = b"Subject: large\n\n" + b"x" * 400_000 + b"\n"
    site.enqueue(large, "aa01", "bob@b.example", skip=3)
    taken, _ = site.take()
    assert content(site, taken[0].message) == large[3:]


def test_everything_about_a_message_comes_back(site):
    now = site.world.now()
    message = QueuedMessage(
        "aa01",
        "",
        (
            QueuedRecipient("b@b.example", "smtp://relay", "SUCCESS,DELAY", "rfc822;x@y", "al@us"),
            QueuedRecipient("ö@c.example", "c.example#requiretls", mail_from="SRS0=x@us"),
        ),
        now,
        now + 100,
        None,
        Options("env", "HDRS", True, True, True),
        4,
    )
    site.run(site.accept(TEXT, [], queue=message))
    taken, wake = site.take()
    assert ids(taken) == [("aa01", 0), ("aa01", 1)] or ids(taken) == [("aa01", 1), ("aa01", 0)]
    found = taken[0].message
    assert found is taken[1].message
    assert (found.recipients, found.options, found.sender) == (
        message.recipients,
        message.options,
        "",
    )
    assert wake == now + 100
    assert taken[0].expires == now + 100


def test_what_is_taken_is_not_taken_again(site):
    site.enqueue(TEXT, "aa01", "bob@b.example")
    assert ids(site.take()[0]) == [("aa01", 0)]
    assert site.states() == {("aa01", "bob@b.example"): State.ACTIVE}
    taken, wake = site.take()
    assert taken == []
    assert wake == site.world.now() + 14_400  # the warning


def test_a_deferred_one_is_taken_when_it_is_due(site):
    site.enqueue(TEXT, "aa01", "bob@b.example", warn=None)
    site.take()
    site.change(deferred(site, "aa01", after=300))
    assert site.take() == ([], site.world.now() + 300)
    site.world.reactor.advance(299)
    assert site.take()[0] == []
    site.world.reactor.advance(1)
    (taken,), _ = site.take()
    assert taken.tries == 1
    assert taken.last.text == "451 4.3.0 later"


def test_the_last_recipient_takes_the_file_with_it(site):
    site.enqueue(TEXT, "aa01", "b@b.example", "c@c.example")
    site.take()
    site.change(over(site, "aa01", 0))
    assert site.queued_file("aa01") == TEXT
    site.change(over(site, "aa01", 1, state=State.BOUNCED))
    assert site.queued_file("aa01") is None
    assert site.states() == {
        ("aa01", "b@b.example"): State.DELIVERED,
        ("aa01", "c@c.example"): State.BOUNCED,
    }
    assert site.take() == ([], None)


def test_over_is_over(site):
    site.enqueue(TEXT, "aa01", "b@b.example", "c@c.example")
    site.take()
    site.change(over(site, "aa01", 0))
    site.change(deferred(site, "aa01", 0))
    site.change(over(site, "aa01", 0, state=State.BOUNCED))
    assert site.states()["aa01", "b@b.example"] is State.DELIVERED
    site.change(over(site, "aa01", 1))
    assert site.queued_file("aa01") is None


def test_held_stays_held_until_it_is_released(site):
    site.enqueue(TEXT, "aa01", "b@b.example")
    site.take()
    by_hand = Attempt(site.world.now(), "", "", "", "held by hand")
    site.change(Change("aa01", (Verdict(0, State.HELD, 0, 0),), (by_hand,)))
    site.change(deferred(site, "aa01"))
    assert site.states()["aa01", "b@b.example"] is State.HELD
    site.world.reactor.advance(500_000)
    assert site.run(site.store.queue.expired(site.world.now(), 10)) == []
    site.change(Change("aa01", (Verdict(0, State.WAITING, site.world.now(), -1),)))
    (one,) = site.run(site.store.queue.expired(site.world.now(), 10))
    assert one.tries == 1  # the hold was none
    assert ids(site.take()[0]) == [("aa01", 0)]


def test_delivered_wins_over_a_hold_in_the_meantime(site):
    site.enqueue(TEXT, "aa01", "b@b.example")
    site.take()
    site.change(Change("aa01", (Verdict(0, State.HELD),)))
    site.change(over(site, "aa01"))
    assert site.states()["aa01", "b@b.example"] is State.DELIVERED


def test_a_hop_over_its_share_waits_until_it_is_named_again(site):
    for n in range(5):
        site.enqueue(TEXT, f"aa0{n}", "b@b.example", warn=None)
    site.enqueue(TEXT, "bb00", "c@c.example", warn=None)
    taken, _ = site.take(share=2)
    assert sorted(ids(taken)) == [("aa00", 0), ("aa01", 0), ("bb00", 0)]
    assert site.take(share=2)[0] == []
    assert ids(site.take(share=2, reopened=["b.example"])[0]) == [("aa02", 0), ("aa03", 0)]
    assert ids(site.take(share=2, reopened=["b.example"])[0]) == [("aa04", 0)]
    assert site.take(share=2, reopened=["b.example"])[0] == []


def test_a_limit_leaves_the_rest_for_the_next_time(site):
    for n in range(5):
        site.enqueue(TEXT, f"aa0{n}", f"b@{n % 2}.example", warn=None)
    found = []
    for _ in range(5):
        taken, _ = site.take(limit=1)
        found += ids(taken)
    assert sorted(found) == [(f"aa0{n}", 0) for n in range(5)]


def test_a_destination_is_backed_off_as_a_whole(site):
    now = site.world.now()
    for n in range(3):
        site.enqueue(TEXT, f"aa0{n}", "b@b.example", warn=None)
    taken, _ = site.take(limit=1)
    state = Backoff("b.example", now + 600, 1, now, "connection refused")
    site.run(site.store.queue.back_off(state))
    site.run(site.store.queue.put_back(ids(taken), now))
    assert site.run(site.store.queue.backoffs(["b.example", "c.example"])) == {"b.example": state}
    assert site.take() == ([], now + 600)
    site.enqueue(TEXT, "aa03", "b@b.example", warn=None)
    assert site.take() == ([], now + 600)
    site.world.reactor.advance(600)
    assert len(site.take()[0]) == 4
    site.run(site.store.queue.back_off(Backoff("b.example", 0, 0, 0, "")))
    assert site.run(site.store.queue.backoffs(["b.example"])) == {}


def test_a_retry_by_hand_lifts_the_back_off(site):
    now = site.world.now()
    site.enqueue(TEXT, "aa00", "b@b.example", warn=None)
    site.run(site.store.queue.back_off(Backoff("b.example", now + 600, 1, now, "dead")))
    assert site.take()[0] == []
    site.change(Change("aa00", (Verdict(0, State.WAITING, now),)))
    assert ids(site.take()[0]) == [("aa00", 0)]


def test_a_flush_makes_everything_due_once(site):
    now = site.world.now()
    for n in range(6):
        site.enqueue(TEXT, f"aa0{n}", "b@b.example", warn=None)
    site.take()
    for n in range(6):
        site.change(deferred(site, f"aa0{n}", after=1000 + 7 * (n // 2)))
    site.run(site.store.queue.back_off(Backoff("b.example", now + 900, 1, now, "dead")))
    site.world.reactor.advance(10)
    site.store.queue.view.flush(site.world.now())
    site.world.reactor.advance(1)
    found = []
    for _ in range(10):
        taken, _ = site.take(share=2, reopened=["b.example"])
        found += ids(taken)
        for one in taken:
            site.change(deferred(site, one.message.id, after=1000 - len(found)))
    assert sorted(found) == [(f"aa0{n}", 0) for n in range(6)]


def test_a_flush_of_one_destination_leaves_the_others(site):
    for n in range(2):
        site.enqueue(TEXT, f"aa0{n}", f"x@{n}.example", warn=None)
    site.take()
    for n in range(2):
        site.change(deferred(site, f"aa0{n}", after=1000))
    assert site.store.queue.view.hops_of("1.example") == ["1.example"]
    site.world.reactor.advance(1)
    site.store.queue.view.flush(site.world.now(), ["1.example"])
    assert ids(site.take()[0]) == [("aa01", 0)]


def test_expiry_and_warning(site):
    now = site.world.now()
    site.enqueue(TEXT, "aa00", "b@b.example", "c@c.example", warn=now + 50)
    assert site.run(site.store.queue.overdue(now + 49, 10)) == []
    assert ids(site.run(site.store.queue.overdue(now + 50, 10))) == [("aa00", 0), ("aa00", 1)]
    site.change(Change("aa00", warned=True))
    assert site.run(site.store.queue.overdue(now + 50, 10)) == []
    site.take(share=1, limit=1)  # an active one is its taker's to give up
    assert len(site.run(site.store.queue.expired(now + 432_000, 10))) == 1
    assert site.run(site.store.queue.expired(now + 431_999, 10)) == []


def test_giving_up_by_hand(site):
    site.enqueue(TEXT, "aa00", "b@b.example")
    site.change(Change("aa00", give_up=True))
    (one,) = site.run(site.store.queue.expired(site.world.now(), 10))
    assert one.expires == 0


def test_what_is_current(site):
    site.enqueue(TEXT, "aa00", "b@b.example", "c@b.example")
    site.take()
    site.change(Change("aa00", (Verdict(1, State.HELD),)))
    assert list(site.run(site.store.queue.current(["aa00", "none"]))) == [("aa00", 0)]


def test_octets_that_are_no_text_do_not_stop_an_outcome(site):
    site.enqueue(TEXT, "aa00", "b@b.example")
    attempt = Attempt(site.world.now(), "mx", "192.0.2.1", "", "550 \udcff")
    site.change(Change("aa00", (Verdict(0, State.BOUNCED, 0.0, 0),), (attempt,)))
    site.run(site.store.queue.back_off(Backoff("b.example", 1, 1, 0, "\udcff")))
    assert site.states()["aa00", "b@b.example"] is State.BOUNCED
    assert site.store.queue.view.story("aa00").attempts[0].text == "550 ?"


def test_changed_routes(site):
    site.enqueue(TEXT, "aa00", "b@b.example")
    taken, _ = site.take()
    site.run(site.store.queue.rehop(ids(taken), ["smtp://relay"]))
    assert site.take(share=0)[0] == []
    (again,) = site.take(reopened=["smtp://relay"])[0]
    assert again.message.recipients[0].hop == "smtp://relay"


def test_a_claimed_message_is_active_at_once(site):
    got, room = [], [True]
    site.store.queue.attach(lambda message: room[0], got.extend)
    site.enqueue(TEXT, "aa00", "b@b.example")
    room[0] = False
    site.enqueue(TEXT, "aa01", "b@b.example")
    assert [message.id for message in got] == ["aa00"]
    assert site.states() == {
        ("aa00", "b@b.example"): State.ACTIVE,
        ("aa01", "b@b.example"): State.WAITING,
    }
    assert got[0].size == len(TEXT)


def test_who_runs_the_queue(tmp_path, site):
    other = Site(site.data, seed=2).start()
    assert site.run(site.store.queue.acquire())
    site.enqueue(TEXT, "aa00", "b@b.example")
    site.take()
    assert not other.run(other.store.queue.acquire())
    site.run(site.store.queue.release())
    assert other.run(other.store.queue.acquire())
    assert ids(other.take()[0]) == [("aa00", 0)]


def test_what_a_dead_runner_committed_is_known_to_the_next(site):
    """It died between the commit and the row: the next one does not send again."""
    other = Site(site.data, seed=2).start()
    site.run(site.store.queue.acquire())
    site.enqueue(TEXT, "aa00", "b@b.example")
    site.take()
    site.store._spool.fill = lambda items: os.kill  # nothing is written down any more
    site.change(over(site, "aa00"))
    site.kill()
    assert other.states()["aa00", "b@b.example"] is State.ACTIVE
    assert other.run(other.store.queue.acquire())
    assert other.take()[0] == []
    assert other.states()["aa00", "b@b.example"] is State.DELIVERED


def test_another_process_sees_that_something_changed(site):
    other = Site(site.data, seed=2).start()
    site.enqueue(TEXT, "aa00", "b@b.example")
    assert not site.store.queue.changed()
    other.change(Change("aa00", (Verdict(0, State.HELD),)))
    assert site.store.queue.changed()
    assert not site.store.queue.changed()
    site.change(Change("aa00", (Verdict(0, State.WAITING),)))
    assert not site.store.queue.changed()


def test_a_file_that_is_gone_is_lost_and_all_of_them_are_not(site):
    message = site.enqueue(TEXT, "aa00", "b@b.example")
    os.unlink(site.store._spool.path("aa00"))
    with pytest.raises(MailError) as caught:
        site.run(site.store.queue.open(message))
    assert not caught.value.temporary
    shutil.rmtree(site.store._spool.directory)
    with pytest.raises(MailError) as caught:
        site.run(site.store.queue.open(message))
    assert caught.value.temporary


def test_a_queue_that_cannot_be_filled_is_parked_and_filled_later(tmp_path):
    disk = FaultyDisk(counted=["link_fd"], lasting=True)
    site = Site(str(tmp_path / "data"), disk=disk).start()
    disk.fail_at = 1
    site.enqueue(TEXT, "aa00", "b@b.example")  # answered yes: it is in the journal
    assert site.states() == {}
    disk.fail_at = 0
    site.world.reactor.advance(31)
    site.turn()
    assert site.states() == {("aa00", "b@b.example"): State.WAITING}
    assert site.queued_file("aa00") == TEXT
    assert os.listdir(os.path.join(site.data, "parked")) == []


def test_a_claim_that_comes_to_nothing_is_told(tmp_path):
    disk = FaultyDisk(counted=["link_fd"], lasting=True)
    site = Site(str(tmp_path / "data"), disk=disk).start()
    claimed, got, dropped = [], [], []
    site.store.queue.attach(lambda one: not claimed.append(one.id), got.extend, dropped.extend)
    site.enqueue(TEXT, "aa00", "b@b.example")
    with site.store._spool.transaction() as db:
        db.execute("DROP INDEX recipients_due")
        db.execute("ALTER TABLE recipients RENAME TO away")
    site.enqueue(TEXT, "aa01", "b@b.example")
    assert (claimed, [m.id for m in got], [m.id for m in dropped]) == (
        ["aa00", "aa01"],
        ["aa00"],
        ["aa01"],
    )


def test_a_refused_message_leaves_nothing(tmp_path):
    disk = FaultyDisk(counted=["fdatasync"])
    site = Site(str(tmp_path / "data"), disk=disk).start()
    disk.fail_at = disk.count + 1
    with pytest.raises(MailError):
        site.enqueue(TEXT, "aa00", "b@b.example", accounts=["d/a"])
    assert site.states() == {}
    assert site.queued_file("aa00") is None
    site.kill()
    again = Site(site.data, seed=2).start()
    assert again.states() == {}


# -- what people see


def test_pages(site):
    for n in range(7):
        site.enqueue(TEXT, f"aa0{n}", f"x{n}@b.example", f"y_{n}@C.example", sender=f"s{n}@us")
    view = site.store.queue.view
    first = view.page(Filter(), limit=5)
    assert [(row.id, row.number) for row in first] == [
        ("aa00", 0),
        ("aa00", 1),
        ("aa01", 0),
        ("aa01", 1),
        ("aa02", 0),
    ]
    rest = view.page(Filter(), after=(first[-1].seq, first[-1].number), limit=100)
    assert len(rest) == 9
    assert {row.recipient for row in view.page(Filter(recipient="Y_3"))} == {"y_3@C.example"}
    assert len(view.page(Filter(domain="c.example"))) == 7
    assert view.page(Filter(domain="example")) == []
    assert len(view.page(Filter(sender="S6@"))) == 2
    site.take(limit=1)
    assert len(view.page(Filter(states=(State.ACTIVE,)))) == 1


def test_a_story(site):
    now = site.world.now()
    site.enqueue(TEXT, "aa00", "b@b.example", "c@c.example")
    site.take()
    site.change(deferred(site, "aa00", 0))
    site.world.reactor.advance(300)
    site.take()
    site.change(over(site, "aa00", 0))
    site.run(site.store.queue.back_off(Backoff("c.example", now + 999, 3, now, "refused")))
    story = site.store.queue.view.story("aa00")
    assert [one.text for one in story.attempts] == ["451 4.3.0 later", "250 2.0.0 ok"]
    assert [one.state for one in story.recipients] == [State.DELIVERED, State.ACTIVE]
    assert story.recipients[0].tries == 2
    assert story.recipients[1].backoff.text == "refused"
    assert story.finished is None
    assert site.store.queue.view.story("nope") is None


def test_numbers(site):
    site.enqueue(TEXT, "aa00", "b@b.example", "c@c.example")
    site.enqueue(TEXT, "aa01", "b@b.example")
    site.take()
    site.change(over(site, "aa00", 0))
    stats = site.store.queue.view.stats()
    assert stats.recipients == {State.ACTIVE: 2, State.DELIVERED: 1}
    assert (stats.messages, stats.octets) == (2, 2 * len(TEXT))


def test_old_stories_are_forgotten(site):
    for n in range(4):
        site.enqueue(TEXT, f"aa0{n}", "b@b.example")
        site.world.reactor.advance(10)
        if n < 3:
            site.change(over(site, f"aa0{n}"))
    view = site.store.queue.view
    site.run(site.store.queue.prune(site.world.now() - 25, 100))
    assert [view.story(f"aa0{n}") is not None for n in range(4)] == [False, True, True, True]
    site.run(site.store.queue.prune(0, 1))
    assert [view.story(f"aa0{n}") is not None for n in range(4)] == [False, False, True, True]
    with site.store._spool.reading() as db:
        for table in ("messages", "recipients", "attempts"):
            (number,) = db.execute(f"SELECT count(DISTINCT seq) FROM {table}").fetchone()  # noqa: S608
            assert number == (1 if table == "attempts" else 2)


def test_processes_take_turns_at_the_rows_by_a_lock_that_the_kernel_hands_on(site):
    # SQLite's own waiting is sleeping: a worker's mail would lie behind it.
    spool = site.store._spool
    other = os.open(spool.directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with spool.transaction(), pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_UN)
        with pytest.raises(ZeroDivisionError), spool.transaction():
            _ = 1 / 0
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(other)


class _Source:
    """What is linked, and whether the rows were free to others just then."""

    def __init__(self, spool):
        self.spool = spool
        self.free = []

    def link(self, target):
        fd = os.open(self.spool.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.free.append(False)
        else:
            self.free.append(True)
        finally:
            os.close(fd)
        with open(target, "xb") as file:
            file.write(TEXT)


def test_files_are_linked_while_others_may_write_rows_and_not_kept_for_what_is_over(site):
    message = site.enqueue(TEXT, "aa01", "bob@b.example")
    spool = site.store._spool
    source = _Source(spool)
    new = replace(message, id="bb01")
    spool.fill([Item(new, source)])
    assert source.free == [True]
    assert site.states()["bb01", "bob@b.example"] is State.WAITING
    site.change(over(site, "aa01"))
    assert not os.path.exists(spool.path("aa01"))
    # Filled once more, late: it is known, and over.
    again = Item(message, source)
    spool.fill([again])
    assert again.error is None
    assert not os.path.exists(spool.path("aa01"))
    assert os.path.exists(spool.path("bb01"))


def test_what_cannot_be_linked_keeps_no_other_from_the_queue(site):
    message = site.enqueue(TEXT, "aa01", "bob@b.example")

    class Refused:
        def link(self, target):
            raise OSError("no")

    spool = site.store._spool
    items = [
        Item(replace(message, id="bb01"), Refused()),
        Item(replace(message, id="bb02"), _Source(spool)),
    ]
    spool.fill(items)
    assert [one.error is None for one in items] == [False, True]
    assert set(site.states()) == {("aa01", "bob@b.example"), ("bb02", "bob@b.example")}


def test_an_older_try_counts_no_second_time_when_it_was_the_last_one(site):
    """A change that is done again, or comes late, ends a recipient; its tries stay what they were."""
    site.enqueue(TEXT, "aa01", "bob@b.example")
    early = over(site, "aa01")
    site.world.reactor.advance(5)
    site.change(deferred(site, "aa01"))
    site.change(early)
    (recipient,) = site.store.queue.view.story("aa01").recipients
    assert (recipient.state, recipient.tries) == (State.DELIVERED, 1)
    assert recipient.last.text == "451 4.3.0 later"
    site.change(early)
    assert site.store.queue.view.story("aa01").recipients == (recipient,)
