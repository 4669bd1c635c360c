"""What becomes of mail in the queue, one thing after the other."""

from __future__ import annotations

import itertools

from queue_site import Site

from twisted_mail.queue.interfaces import DestinationError, Result
from twisted_mail.storage.queued import Change, QueuedRecipient, State, Verdict


def test_new_mail_is_sent_at_once_without_being_read_back() -> None:
    site = Site()
    mail = site.accept("bob@far.example")
    site.run(0.2)
    assert site.state(mail) == "DELIVERED"
    assert site.manager.claimed == 1
    assert site.manager.taken == 0
    [attempt] = site.spool.attempts[mail]
    assert attempt.text == "250 2.0.0 queued"
    assert (attempt.host, attempt.address) == ("far.example", "192.0.2.9")


def test_recipients_of_one_hop_go_in_one_transaction_up_to_a_hundred() -> None:
    site = Site()
    site.accept(*[f"user{n}@far.example" for n in range(42)], "bob@other.example")
    site.run(0.2)
    assert site.carrier.jobs == 2
    assert site.done()
    site.accept(*[f"user{n}@far.example" for n in range(250)])
    site.run(2)
    assert site.done()
    assert site.carrier.jobs == 5
    assert site.carrier.largest == 100


def test_recipients_with_a_sender_of_their_own_go_apart() -> None:
    site = Site()
    rewritten = QueuedRecipient("bob@far.example", "far.example", mail_from="srs@home.example")
    site.accept("carol@far.example", rewritten)
    site.run(0.5)
    assert site.done()
    assert site.carrier.jobs == 2


def test_one_connection_serves_many_messages() -> None:
    site = Site(concurrency=1)
    for _ in range(50):
        site.accept("bob@far.example")
    site.run(5)
    assert site.done()
    assert site.carrier.hosts["far.example"].connections == 1
    site.run(20)
    assert site.carrier.open_now == 0


def test_a_connection_is_kept_for_a_while_and_ends_after_many_messages() -> None:
    site = Site(concurrency=1, messages=10)
    site.accept("bob@far.example")
    site.run(3)
    site.accept("bob@far.example")
    site.run(1)
    assert site.carrier.hosts["far.example"].connections == 1
    for _ in range(30):
        site.accept("bob@far.example")
    site.run(5)
    assert site.done()
    assert site.carrier.hosts["far.example"].connections == 4


def test_connections_grow_with_success_up_to_the_most() -> None:
    site = Site(concurrency=7)
    host = site.host("far.example", latency=0.5)
    for _ in range(100):
        site.accept("bob@far.example")
    site.until(site.done, 60)
    assert host.peak == 7
    assert host.connections == 7


def test_a_host_that_takes_fewer_connections_gets_fewer() -> None:
    site = Site()
    host = site.host("far.example", latency=0.2, most=3)
    for _ in range(60):
        site.accept("bob@far.example")
    site.until(site.done, 60)
    assert host.peak == 3
    # Once it has said so, it is not asked for more again and again.
    assert host.tried <= 8
    assert site.spool.backoff("far.example") is None


def test_what_is_put_off_is_tried_again_and_later_each_time() -> None:
    site = Site(jitter=0, poll=5)
    site.host(
        "far.example", judge=lambda _, tries: Result.DELIVERED if tries > 3 else Result.DEFERRED
    )
    mail = site.accept("bob@far.example")
    site.run(5 * 3600)
    assert site.state(mail) == "DELIVERED"
    times = [attempt.at for attempt in site.spool.attempts[mail]]
    gaps = [round(b - a, -1) for a, b in itertools.pairwise(times)]
    assert gaps == [300, 600, 1200, 2400]


def test_a_refusal_comes_back_to_the_sender_in_plain_words() -> None:
    site = Site()
    site.host("far.example", result=Result.FAILED)
    mail = site.accept("bob@far.example", "carol@far.example")
    site.run(1)
    assert site.state(mail) == "BOUNCED BOUNCED"
    [(to, content, changes)] = site.door.notices
    assert to == "alice@home.example"
    assert b"550 5.1.1 no such user" in content
    assert b"bob@far.example" in content
    assert b"carol@far.example" in content
    # The outcome and its bounce are one record.
    assert [verdict.state for verdict in changes[0].verdicts] == [State.BOUNCED] * 2


def test_nobody_is_told_who_asked_not_to_be() -> None:
    site = Site()
    site.host("far.example", result=Result.FAILED)
    never = QueuedRecipient("bob@far.example", "far.example", notify="NEVER")
    success = QueuedRecipient("carol@far.example", "far.example", notify="SUCCESS,DELAY")
    mail = site.accept(never, success)
    site.run(1)
    assert site.state(mail) == "BOUNCED BOUNCED"
    assert site.door.notices == []


def test_a_bounce_never_bounces() -> None:
    site = Site()
    site.host("far.example", result=Result.FAILED)
    mail = site.accept("bob@far.example", sender="")
    site.run(1)
    assert site.state(mail) == "BOUNCED"
    assert site.door.notices == []


def test_a_bounce_that_cannot_be_delivered_goes_to_the_postmaster_when_he_wants_it() -> None:
    site = Site(double_bounces_to="postmaster@home.example")
    site.host("far.example", result=Result.FAILED)
    site.accept("bob@far.example", sender="")
    site.run(1)
    assert [to for to, _, _ in site.door.notices] == ["postmaster@home.example"]
    site.door.nobody.add("gone@home.example")
    mail = site.accept("bob@far.example", sender="gone@home.example")
    site.run(1)
    assert [to for to, _, _ in site.door.notices] == ["postmaster@home.example"] * 2
    assert site.state(mail) == "BOUNCED"


def test_a_sender_who_is_nobody_is_not_told_and_the_message_is_over() -> None:
    site = Site(double_bounces_to="postmaster@home.example")
    site.door.nobody |= {"gone@home.example", "postmaster@home.example"}
    site.host("far.example", result=Result.FAILED)
    mail = site.accept("bob@far.example", sender="gone@home.example")
    site.run(1)
    assert site.state(mail) == "BOUNCED"
    assert site.door.notices == []


def test_success_is_told_where_the_next_server_would_not() -> None:
    site = Site()
    site.host("far.example", result=Result.RELAYED)
    wants = QueuedRecipient("bob@far.example", "far.example", notify="SUCCESS")
    mail = site.accept(wants, "carol@far.example")
    site.run(1)
    assert site.state(mail) == "DELIVERED DELIVERED"
    [(_, content, _)] = site.door.notices
    assert b"Action: relayed" in content
    assert b"carol" not in content


def test_success_here_is_told_without_any_network() -> None:
    site = Site()
    mail = site.accept(QueuedRecipient("bob@home.example", "", notify="SUCCESS"))
    site.run(1)
    assert site.state(mail) == "DELIVERED"
    assert b"Action: delivered" in site.door.notices[0][1]
    assert site.carrier.opening == []
    assert site.manager.window.total == 0


def test_a_notice_goes_without_the_original_when_that_cannot_be_read() -> None:
    site = Site()
    site.spool.unreadable = True
    site.host("far.example", result=Result.FAILED)
    site.accept("bob@far.example")
    site.run(1)
    assert len(site.door.notices) == 1


def test_a_domain_that_does_not_exist_bounces_all_its_mail_at_once() -> None:
    site = Site()
    site.host(
        "nowhere.example",
        error=DestinationError("no such domain", permanent=True, enhanced="5.1.2"),
    )
    mails = [site.accept("bob@nowhere.example") for _ in range(30)]
    site.run(5)
    assert {site.state(mail) for mail in mails} == {"BOUNCED"}
    assert len(site.door.notices) == 30
    assert b"Status: 5.1.2" in site.door.notices[0][1]
    assert site.spool.backoff("nowhere.example") is None


def test_a_dead_destination_is_backed_off_as_a_whole() -> None:
    site = Site(poll=2)
    host = site.host("dead.example", connect=1, error=DestinationError("connection refused"))
    mails = [site.accept("bob@dead.example") for _ in range(400)]
    site.run(30)
    assert host.tried == 1
    state = site.spool.backoff("dead.example")
    assert state is not None
    assert (state.failures, state.text) == (1, "connection refused")
    for _ in range(50):
        mails.append(site.accept("bob@dead.example"))
    site.run(120)
    assert host.tried == 1
    # A probe after 5 minutes, 10, 20 …: not one for each message.
    site.run(2 * 3600)
    assert 4 <= host.tried <= 6
    assert any("connection refused" in one.text for one in site.spool.attempts[mails[0]])
    host.error = None
    site.until(site.done, 3 * 3600)
    assert site.spool.backoff("dead.example") is None
    assert sorted(site.sent()) == sorted((mail, 0) for mail in mails)


def test_back_off_goes_on_where_a_crash_left_it() -> None:
    site = Site(poll=2, jitter=0)
    host = site.host("dead.example", error=DestinationError("connection refused"))
    site.accept("bob@dead.example")
    site.run(1000)
    state = site.spool.backoff("dead.example")
    assert state is not None and state.failures == 3
    site.crash()
    site.run(100)
    assert host.tried == 3
    site.run(1200)
    state = site.spool.backoff("dead.example")
    assert state is not None and state.failures == 4


def test_new_mail_lifts_a_back_off_that_is_not_known_in_memory() -> None:
    site = Site(poll=2, jitter=0)
    host = site.host("far.example", error=DestinationError("connection refused"))
    old = site.accept("bob@far.example")
    site.run(2000)
    site.crash()
    site.run(1)
    host.error = None
    new = site.accept("bob@far.example")
    site.run(10)
    assert site.state(new) == "DELIVERED"
    assert site.spool.backoff("far.example") is None
    # Each recipient's own time stays.
    assert site.state(old) == "DEFERRED"
    site.until(site.done, 2400)


def test_connections_that_break_down_again_and_again_back_the_destination_off() -> None:
    site = Site()
    host = site.host("far.example", breaks=True)
    for _ in range(50):
        site.accept("bob@far.example")
    site.run(20)
    assert host.tried <= 4
    assert site.spool.backoff("far.example") is not None
    host.breaks = False
    site.until(site.done, 2000)


def test_a_refusal_is_no_failure_of_the_destination() -> None:
    site = Site()
    host = site.host("far.example", result=Result.DEFERRED)
    for _ in range(30):
        site.accept("bob@far.example")
    site.run(30)
    assert site.spool.backoff("far.example") is None
    assert site.carrier.jobs == 30
    assert host.connections <= 2


def test_a_fault_in_the_carrier_is_temporary(caplog: object) -> None:
    site = Site(jitter=0)
    boom = site.carrier.open

    async def broken(hop: str) -> object:
        raise RuntimeError("boom")

    site.carrier.open = broken  # type: ignore[assignment]
    mail = site.accept("bob@far.example")
    site.run(1)
    assert site.state(mail) == "DEFERRED"
    site.carrier.open = boom  # type: ignore[method-assign]
    site.run(400)
    assert site.state(mail) == "DELIVERED"


def test_a_carrier_that_hangs_is_given_up_and_holds_nobody_else() -> None:
    site = Site(open_limit=850, deliver_limit=900)
    site.host("hangs.example", connect=None)
    site.host("tar.example", latency=None)
    hung = [site.accept("bob@hangs.example"), site.accept("bob@tar.example")]
    fine = site.accept("bob@far.example")
    site.run(1)
    assert site.state(fine) == "DELIVERED"
    site.run(1000)
    assert [site.state(mail) for mail in hung] == ["DEFERRED", "DEFERRED"]
    assert "no connection within 850 seconds" in site.spool.attempts[hung[0]][0].text
    assert "not done within 900 seconds" in site.spool.attempts[hung[1]][0].text
    assert site.carrier.open_now == 0


def test_the_rate_of_a_destination_is_kept() -> None:
    site = Site(rate=60, poll=0.5)
    for _ in range(20):
        site.accept("bob@far.example")
    site.accept("bob@other.example")
    site.run(1)
    assert len([1 for _, hop, *_ in site.carrier.sent if hop == "other.example"]) == 1
    took = site.until(site.done, 60)
    assert 16 <= took <= 32


def test_expired_while_its_destination_is_backed_off() -> None:
    site = Site(poll=30)
    site.host("dead.example", error=DestinationError("connection refused"))
    mail = site.accept("bob@dead.example", lifetime=3600)
    site.run(3400)
    assert site.state(mail) == "DEFERRED"
    site.run(400)
    assert site.state(mail) == "BOUNCED"
    [(_, content, _)] = site.door.notices
    assert b"connection refused" in content
    assert b"Status: 4.4" in content


def test_the_last_try_is_at_the_end_of_its_time() -> None:
    site = Site(poll=10)
    site.host("far.example", result=Result.DEFERRED)
    mail = site.accept("bob@far.example", lifetime=86400)
    arrived = site.now
    site.run(86300)
    assert site.state(mail) == "DEFERRED"
    site.run(200)
    assert site.state(mail) == "BOUNCED"
    assert 86400 <= site.spool.attempts[mail][-1].at - arrived <= 86420
    [(_, content, _)] = site.door.notices
    assert b"450 4.2.0 come again" in content
    assert b"Status: 4.2.0" in content


def test_after_a_long_stop_everything_is_tried_once_more() -> None:
    site = Site(poll=30)
    host = site.host("far.example", result=Result.DEFERRED)
    mail = site.accept("bob@far.example", lifetime=86400)
    site.run(600)
    site.stop()
    site.world.reactor.advance(3 * 86400)
    host.result = Result.DELIVERED
    site.manager = site.new_manager()
    site.manager.start()
    site.run(60)
    assert site.state(mail) == "DELIVERED"
    assert site.door.notices == []


def test_the_sender_is_warned_once() -> None:
    site = Site(poll=30)
    site.host("dead.example", error=DestinationError("connection refused"))
    mail = site.accept("bob@dead.example", warn_after=4 * 3600)
    quiet = site.accept(
        QueuedRecipient("bob@dead.example", "dead.example", notify="FAILURE"), warn_after=4 * 3600
    )
    null = site.accept("bob@dead.example", sender="", warn_after=4 * 3600)
    site.run(4 * 3600 - 60)
    assert site.door.notices == []
    site.run(200)
    [(_, content, changes)] = site.door.notices
    assert changes == (Change(mail, warned=True),)
    assert b"Action: delayed" in content
    assert b"connection refused" in content
    assert site.spool.warnings == {}
    site.run(86400)
    site.crash()
    site.run(86400)
    assert len(site.door.notices) == 1
    assert {site.state(one) for one in (mail, quiet, null)} == {"DEFERRED"}


def test_held_and_removed_mail_leaves_the_line() -> None:
    site = Site(concurrency=1)
    site.host("far.example", latency=10)
    first, held, removed, split = (
        site.accept("bob@far.example"),
        site.accept("bob@far.example"),
        site.accept("bob@far.example"),
        site.accept("bob@far.example", "carol@far.example"),
    )
    site.run(5)
    site.spool.by_hand(Change(held, (Verdict(0, State.HELD),)))
    site.spool.by_hand(Change(removed, (Verdict(0, State.REMOVED),)))
    site.spool.by_hand(Change(split, (Verdict(0, State.REMOVED),)))
    site.run(60)
    assert site.state(first) == "DELIVERED"
    assert site.state(held) == "HELD"
    assert site.state(removed) == "REMOVED"
    assert site.state(split) == "REMOVED DELIVERED"
    assert site.sent() == [(first, 0), (split, 1)]
    assert site.manager.window.total == 0
    site.spool.by_hand(Change(held, (Verdict(0, State.WAITING, site.now),)))
    site.run(15)
    assert site.state(held) == "DELIVERED"


def test_given_up_by_hand_counts_at_once_in_the_line_and_on_the_disk() -> None:
    site = Site(concurrency=1)
    site.host("far.example", latency=10)
    site.host("dead.example", error=DestinationError("connection refused"))
    sending, in_line = site.accept("bob@far.example"), site.accept("bob@far.example")
    deferred = site.accept("bob@dead.example")
    site.run(5)
    for mail in (in_line, deferred):
        site.spool.by_hand(Change(mail, give_up=True))
    site.run(2)
    assert [site.state(mail) for mail in (sending, in_line, deferred)] == [
        "ACTIVE",
        "BOUNCED",
        "BOUNCED",
    ]
    assert len(site.door.notices) == 2
    assert site.manager.window.total == 1


def test_a_retry_by_hand_overrides_the_back_off() -> None:
    site = Site()
    host = site.host("dead.example", error=DestinationError("connection refused"))
    mail = site.accept("bob@dead.example")
    site.run(5)
    host.error = None
    site.spool.by_hand(Change(mail, (Verdict(0, State.WAITING, site.now),)))
    site.run(1)
    assert site.state(mail) == "DELIVERED"


def test_recipients_follow_the_routes_of_today() -> None:
    site = Site(
        start=False,
        hop_of=lambda address, tls: (
            "smtp://relay:25" if address.endswith("far.example") else address[4:]
        ),
    )
    mail = site.accept("bob@far.example", "bob@other.example")
    site.manager.start()
    site.run(2)
    assert site.state(mail) == "DELIVERED DELIVERED"
    assert {hop for _, hop, *_ in site.carrier.sent} == {"smtp://relay:25", "other.example"}


def test_only_one_process_runs_the_queue_and_the_next_takes_over() -> None:
    site = Site()
    second = site.new_manager()
    second.start()
    site.run(10)
    assert (site.manager.acquired, second.acquired) == (True, False)
    site.stop()
    site.run(10)
    assert second.acquired
    mail = site.accept("bob@far.example")
    site.run(1)
    assert site.state(mail) == "DELIVERED"


def test_stopping_lets_transactions_end_and_puts_the_rest_back() -> None:
    site = Site(concurrency=2, drain=10)
    site.host("slow.example", latency=5)
    site.host("hangs.example", latency=None)
    site.host("opening.example", connect=None)
    slow = [site.accept("bob@slow.example") for _ in range(5)]
    site.accept("bob@hangs.example")
    site.accept("bob@opening.example")
    site.run(1)
    site.stop()
    assert site.spool.count(State.ACTIVE) == 0
    assert not site.spool.runner
    assert site.state(slow[0]) == "DELIVERED"
    assert site.carrier.open_now == 0
    assert site.manager.window.total == 0
    assert [call for call in site.world.reactor.getDelayedCalls() if call.active()] == []


def test_a_disk_that_is_full_loses_nothing_and_nothing_is_sent_twice() -> None:
    site = Site()
    site.door.failing = OSError(28, "No space left on device")
    site.host("bad.example", result=Result.FAILED)
    mails = [site.accept("bob@far.example") for _ in range(20)]
    bounced = site.accept("bob@bad.example")
    site.run(300)
    assert site.spool.count(State.ACTIVE) == 21
    assert len(site.carrier.sent) == 20
    site.door.failing = None
    site.run(120)
    assert {site.state(mail) for mail in mails} == {"DELIVERED"}
    assert len(site.carrier.sent) == 20
    site.until(site.done, 1000)
    assert site.state(bounced) == "BOUNCED"
    assert len(site.door.notices) == 1
    assert site.manager.window.total == 0


def test_while_the_disk_is_full_only_a_bounded_number_is_sent() -> None:
    site = Site(window=4000, concurrency=20)
    site.door.failing = OSError(28, "No space left on device")
    for number in range(2000):
        site.accept(f"bob@far{number % 50}.example")
    site.run(100)
    assert 400 <= len(site.carrier.sent) <= 700
    site.door.failing = None
    site.until(site.done, 300)
    assert len(site.carrier.sent) == 2000


def test_one_change_that_cannot_be_written_keeps_no_other_from_it() -> None:
    site = Site()
    apply = site.spool.apply
    poison = site.accept("bob@far.example", identity="poison")

    def picky(change: Change) -> None:
        if change.message == "poison":
            raise ValueError("poison")
        apply(change)

    site.spool.apply = picky  # type: ignore[method-assign]
    mails = [site.accept("bob@far.example") for _ in range(50)]
    site.run(200)
    assert {site.state(mail) for mail in mails} == {"DELIVERED"}
    site.spool.apply = apply  # type: ignore[method-assign]
    site.run(200)
    assert site.state(poison) == "DELIVERED"
    assert len(site.carrier.sent) == 51


def test_a_mailbox_that_takes_no_notices_holds_up_nobody() -> None:
    site = Site(jitter=0)
    site.door.failing_notices = OSError(122, "over quota")
    site.host("bad.example", result=Result.FAILED)
    mails = [site.accept("bob@bad.example") for _ in range(50)]
    fine = site.accept("bob@far.example")
    site.run(1)
    assert site.state(fine) == "DELIVERED"
    site.run(200)
    # Not forgotten: they are tried, and bounced, again.
    assert {site.state(mail) for mail in mails} == {"DEFERRED"}
    assert site.manager.window.total == 0
    site.door.failing_notices = None
    site.run(400)
    assert {site.state(mail) for mail in mails} == {"BOUNCED"}
    assert len(site.door.notices) == 50


def test_a_spool_that_fails_is_asked_again() -> None:
    site = Site(start=False)
    mail = site.accept("bob@far.example")
    site.spool.fail = OSError(5, "Input/output error")
    site.manager.start()
    site.run(20)
    site.spool.fail = None
    site.run(20)
    assert site.state(mail) == "DELIVERED"


def test_held_and_released_while_it_is_being_sent_is_sent_once() -> None:
    site = Site()
    site.host("far.example", latency=10)
    mail = site.accept("bob@far.example")
    site.run(2)
    site.spool.by_hand(Change(mail, (Verdict(0, State.HELD),)))
    site.spool.by_hand(Change(mail, (Verdict(0, State.WAITING, site.now),)))
    site.run(60)
    assert site.sent() == [(mail, 0)]
    assert site.state(mail) == "DELIVERED"


def test_a_destination_that_fails_with_much_in_memory_loses_none_of_it() -> None:
    site = Site(concurrency=2, jitter=0)
    host = site.host("far.example", latency=1, connect=0.5)
    site.accept("bob@far.example")
    site.run(2)
    mails = [site.accept("bob@far.example") for _ in range(180)]
    assert site.manager.window.claim is not None
    site.run(1)
    host.breaks, host.error = True, DestinationError("connection refused")
    site.run(30)
    state = site.spool.backoff("far.example")
    # Both of its connections failed, and it counts once.
    assert state is not None and state.failures == 1
    assert site.manager.window.total == 0
    assert site.spool.count(State.ACTIVE) == 0
    assert any(site.spool.attempts[mail] == [] for mail in mails)
    host.breaks, host.error = False, None
    site.until(site.done, 3600)
    assert len(site.sent()) == 181


def test_a_warning_that_takes_long_to_write_is_written_once() -> None:
    site = Site(poll=10)
    site.host("dead.example", error=DestinationError("connection refused"))
    site.accept("bob@dead.example", warn_after=3600)
    site.run(3500)
    site.door.lag = 400
    site.run(1500)
    assert len(site.door.notices) == 1


def test_the_postmaster_gets_no_news_of_success() -> None:
    site = Site(double_bounces_to="postmaster@home.example")
    site.host("far.example", result=Result.RELAYED)
    wants = QueuedRecipient("bob@far.example", "far.example", notify="SUCCESS")
    mail = site.accept(wants, sender="")
    site.run(1)
    assert site.state(mail) == "DELIVERED"
    assert site.door.notices == []


def test_nothing_is_put_off_past_its_end_by_a_destination_that_rests() -> None:
    site = Site(poll=5)
    site.host("dead.example", error=DestinationError("connection refused"))
    mail = site.accept("bob@dead.example", lifetime=200)
    expires = site.now + 200
    site.run(5)
    assert site.spool.rows[mail, 0].due == expires
