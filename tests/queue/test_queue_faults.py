"""What a fault at a bad moment, a long line, or a neighbour that misbehaves must not do to the queue."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from queue_site import Site
from twisted.internet.defer import CancelledError, Deferred

from twisted_mail.queue.interfaces import DestinationError, Result
from twisted_mail.status import MailError
from twisted_mail.storage.queued import Change, Options, QueuedRecipient, State, Verdict
from twisted_mail.testing.queue import sleep


def failing_once(neighbour: Any, name: str, when: Any = lambda *_: True) -> list[str]:
    """The next call of `name` for which `when` holds raises OSError; the list tells that it did."""
    works = getattr(neighbour, name)
    failed: list[str] = []

    async def fails(*args: Any) -> Any:
        if not failed and when(*args):
            failed.append(name)
            raise OSError(5, "Input/output error")
        return await works(*args)

    setattr(neighbour, name, fails)
    return failed


def test_what_was_taken_is_not_lost_when_the_back_offs_cannot_be_read() -> None:
    site = Site(start=False)
    mails = [site.accept(f"bob@d{number}.example") for number in range(5)]
    failed = failing_once(site.spool, "backoffs")
    site.manager.start()
    site.run(30)
    assert failed
    assert {site.state(mail) for mail in mails} == {"DELIVERED"}


def lost(address: str, tries: int) -> Result:
    """A host's judgement: some content cannot be had."""
    if address.startswith("lost"):
        raise MailError(554, "5.3.0", "Its content was lost", "queue/aa/aa00 is not there")
    if address.startswith("ill"):
        raise MailError(
            451, "4.3.0", "Its content cannot be read", OSError(5, "Input/output error")
        )
    return Result.DELIVERED


def test_mail_whose_content_is_lost_comes_back_at_the_second_try_and_harms_no_other() -> None:
    site = Site(start=False)
    site.host("far.example", judge=lost, latency=0.01)
    site.manager.start()
    gone = site.accept("lost@far.example")
    ill = site.accept("ill@far.example")
    site.run(1)
    others = [site.accept(f"bob{number}@far.example") for number in range(5)]
    site.run(1)
    # It is not the destination that fails: nobody is kept waiting.
    assert {site.state(mail) for mail in others} == {"DELIVERED"}
    assert site.state(gone) == site.state(ill) == "DEFERRED" and not site.door.notices
    site.run(3600)
    assert site.state(gone) == "BOUNCED" and site.state(ill) == "DEFERRED"
    ((_, notice, _),) = site.door.notices
    assert b"Its content was lost" in notice and b"Status: 5.3.0" in notice
    later = site.accept("bob@far.example")
    site.run(10)
    assert site.state(later) == "DELIVERED"


def test_mail_that_is_removed_when_it_is_about_to_be_sent_does_not_come_back() -> None:
    site = Site(start=False)
    site.host("far.example", judge=lost, latency=1)
    mail = site.accept("lost@far.example")
    site.manager.start()
    site.run(0.5)
    site.spool.apply(Change(mail, (Verdict(0, State.REMOVED),)))
    site.run(7200)
    assert site.state(mail) == "REMOVED" and not site.door.notices


def test_a_destination_that_waits_for_its_share_is_not_forgotten_when_the_spool_fails() -> None:
    site = Site(start=False, window=40)
    mails = [site.accept("bob@far.example") for _ in range(60)]
    failed = failing_once(site.spool, "take", lambda *args: bool(args[3]))
    site.manager.start()
    site.run(60)
    assert failed
    assert {site.state(mail) for mail in mails} == {"DELIVERED"}


def test_what_was_not_tried_goes_back_though_the_first_try_of_that_fails() -> None:
    site = Site()
    site.host("far.example", connect=50, error=DestinationError("connection refused"))
    for _ in range(20):
        site.accept("bob@far.example")
    failed = failing_once(site.spool, "put_back")
    site.run(20)
    # One is enough for who does not answer.
    assert failed
    assert site.spool.count(State.ACTIVE) == site.manager.window.total < 20
    site.run(60)
    assert site.spool.count(State.ACTIVE) == site.manager.window.total == 0


def test_mail_that_was_held_is_not_sent_when_the_first_look_at_it_fails() -> None:
    site = Site(concurrency=1, look=3600)
    site.host("far.example", latency=20)
    _, held = site.accept("bob@far.example"), site.accept("bob@far.example")
    site.run(1)
    failed = failing_once(site.spool, "current")
    site.spool.by_hand(Change(held, (Verdict(0, State.HELD),)))
    site.run(60)
    assert failed
    assert (held, 0) not in site.sent()


def test_mail_that_was_not_claimed_and_not_announced_is_found_all_the_same() -> None:
    """As what could not be put into the spool at first, and was by a later try."""
    site = Site()
    site.accept("bob@far.example")
    site.run(100)
    claim, site.spool._claim = site.spool._claim, None
    mail = site.accept("bob@far.example")
    site.spool._claim = claim
    site.run(65)
    assert site.state(mail) == "DELIVERED"


def test_destinations_with_endless_mail_leave_room_for_others() -> None:
    site = Site(connections=2, messages=5, concurrency=1, lag=None)
    for number in range(2):
        site.host(f"busy{number}.example", latency=0.1)
        for _ in range(200):
            site.spool.accept(site.message(f"bob@busy{number}.example"))
    site.run(5)
    assert len(site.sent()) > 20
    mail = site.accept("bob@other.example")
    site.until(lambda: site.state(mail) == "DELIVERED", 3)


def test_a_long_line_of_destinations_that_fail_at_once_is_no_deep_recursion() -> None:
    site = Site(connections=1, window=10_000, lag=None)

    async def fails(hop: str) -> Any:
        if hop == "first.example":
            await sleep(site.world, 1)
        raise DestinationError("no such domain", permanent=True)

    site.carrier.open = fails  # type: ignore[method-assign]
    site.accept("bob@first.example")
    mails = [site.accept(f"bob@d{number}.example") for number in range(2000)]
    site.run(60)
    assert {site.state(mail) for mail in mails} == {"BOUNCED"}
    assert not site.manager.dispatcher.connections.all


@pytest.mark.parametrize("where", ["open", "deliver"])
def test_a_cancellation_that_is_not_ours_is_a_fault_like_any_other(where: str) -> None:
    site = Site(jitter=0)
    tried: Counter[str] = Counter()
    open_ = site.carrier.open

    async def cancelled(*_: Any) -> Any:
        tried[where] += 1
        assert tried[where] < 50, "again and again"
        await sleep(site.world, 0.1)
        raise CancelledError

    async def opens(hop: str) -> Any:
        courier: Any = await open_(hop)
        courier.deliver = cancelled
        return courier

    site.carrier.open = cancelled if where == "open" else opens  # type: ignore[assignment]
    mail = site.accept("bob@far.example")
    site.run(5)
    assert tried[where] == 1
    assert site.state(mail) == "DEFERRED"
    site.carrier.open = open_  # type: ignore[method-assign]
    site.run(400)
    assert site.state(mail) == "DELIVERED"


@pytest.mark.parametrize("origin", ["", "postmaster@home.example"])
def test_what_the_postmaster_elsewhere_does_not_take_is_not_sent_to_him_again(origin: str) -> None:
    site = Site(double_bounces_to=origin or "postmaster@far.example")
    site.host("far.example", result=Result.FAILED)
    to = QueuedRecipient("postmaster@far.example", "far.example", origin=origin)
    mail = site.accept(to, sender="")
    site.run(5)
    assert site.state(mail) == "BOUNCED"
    assert site.door.notices == []


def test_mail_that_comes_while_the_queue_stops_is_not_left_active() -> None:
    site = Site(lag=None)
    mail = site.accept("bob@far.example")
    site.stop()
    assert site.state(mail) == "WAITING"


def test_a_queue_that_cannot_write_at_its_end_lets_go_all_the_same() -> None:
    site = Site()
    site.host("opening.example", connect=None)
    site.accept("bob@opening.example")
    site.run(1)
    failing_once(site.spool, "put_back")
    site.stop()
    assert not site.spool.runner


def test_a_commit_that_fails_after_the_end_sets_no_timers() -> None:
    site = Site(drain=1)
    hanging: Deferred[None] = Deferred()

    async def hangs(_: Any) -> None:
        await hanging

    site.door.commit = hangs  # type: ignore[assignment]
    site.accept("bob@far.example")
    site.run(1)
    site.stop()
    hanging.errback(OSError(5, "Input/output error"))
    assert [call for call in site.world.reactor.getDelayedCalls() if call.active()] == []


def test_the_notice_of_a_message_with_requiretls_has_it_too() -> None:
    # RFC 8689 section 5
    site = Site()
    site.host("bad.example", result=Result.FAILED)
    strict = site.accept("bob@bad.example", options=Options(requiretls=True))
    plain = site.accept("bob@bad.example")
    site.run(1)
    assert {changes[0].message for _, _, changes in site.door.notices} == {strict, plain}
    assert site.door.requiretls == {strict}


def test_a_notice_that_could_not_be_written_does_not_hide_why_it_failed() -> None:
    site = Site(poll=5, jitter=0)
    site.host("dead.example", error=DestinationError("connection refused"))
    mail = site.accept("bob@dead.example", lifetime=3600)
    site.run(3500)
    site.door.failing_notices = OSError(122, "over quota")
    site.run(300)
    site.door.failing_notices = None
    site.until(lambda: site.state(mail) == "BOUNCED", 6 * 3600)
    [(_, content, _)] = site.door.notices
    assert b"connection refused" in content


def test_new_destinations_that_wait_close_no_kept_connections_for_nothing() -> None:
    site = Site(connections=4, idle=60, patience=100)
    site.accept("bob@far.example")
    site.run(1)
    for number in range(6):
        site.host(f"d{number}.example", connect=50)
        site.accept(f"bob@d{number}.example")
    site.run(1)
    assert len(site.manager.dispatcher.connections.idle) == 1


def test_a_destination_that_refused_connections_once_gets_more_of_them_in_time() -> None:
    site = Site(lag=None, concurrency=8)
    host = site.host("far.example", latency=0.1, most=2)
    for _ in range(60):
        site.spool.accept(site.message("bob@far.example"))
    site.run(3)
    assert host.peak == 2
    host.most = 1000
    for _ in range(20):
        for _ in range(60):
            site.spool.accept(site.message("bob@far.example"))
        site.run(2)
    assert host.peak > 4


def test_connections_that_never_wait_are_no_deep_recursion() -> None:
    site = Site(window=4000, messages=1, concurrency=1, lag=None)
    site.host("far.example", latency=1)
    site.accept("bob@far.example")
    site.run(3)
    for _ in range(500):
        site.accept("bob@far.example")
    site.run(0.5)
    assert site.manager.window.total == 500
    site.carrier.instant = True
    site.run(1)
    assert len(site.sent()) == 501


def test_a_retry_by_hand_between_the_record_and_its_answer_is_not_stuck() -> None:
    """The deferral is on the disk, a hand makes it due, it is taken: and only then do we hear of our own commit."""
    site = Site()
    site.host("far.example", judge=lambda _, tries: Result.DELIVERED if tries else Result.DEFERRED)
    commits = site.door.commit
    late: list[str] = []

    async def commit(changes: Any) -> None:
        await commits(changes)
        if not late:
            late.append(changes[0].message)
            again = Verdict(0, State.WAITING, site.world.now())
            site.spool.by_hand(Change(changes[0].message, (again,)))
            await sleep(site.world, 3)

    site.door.commit = commit  # type: ignore[method-assign]
    mail = site.accept("bob@far.example")
    site.run(2)
    assert late == [mail]
    assert site.state(mail) == "ACTIVE"  # taken, and left alone as one that is in memory
    site.until(lambda: site.state(mail) == "DELIVERED", 20)
