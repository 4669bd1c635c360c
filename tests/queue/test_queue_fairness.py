"""The dead do not hold up the living, and memory and connections stay bounded, whatever the queue's size."""

from __future__ import annotations

import pytest
from queue_site import Site

from twisted_mail.queue.interfaces import DestinationError
from twisted_mail.storage.queued import State

REFUSED = "no answer"


def fill(site: Site, messages: int, domains: int, dead: int) -> None:
    """Mail to `domains`, of which the first `dead` do not answer, mixed, due now."""
    for number in range(dead):
        site.host(f"d{number}.example", connect=60, error=DestinationError(REFUSED))
    for number in range(messages):
        site.spool.accept(site.message(f"bob@d{number % domains}.example"))


def healthy(site: Site, dead: int) -> bool:
    names = {f"d{number}.example" for number in range(dead)}
    return all(
        row.state is State.DELIVERED for row in site.spool.rows.values() if row.hop not in names
    )


def drained(domains: int, dead: int, messages: int = 20_000) -> float:
    """Simulated seconds until the mail to the living is delivered."""
    site = Site(start=False, poll=0.5)
    fill(site, messages, domains, dead)
    site.manager.start()
    living = sum(row.hop not in site.carrier.hosts for row in site.spool.rows.values())
    took = site.until(lambda: len(site.carrier.sent) >= living, 600)
    site.until(lambda: healthy(site, dead), 10)
    assert site.carrier.peak <= site.settings.connections + site.settings.slow_connections
    return took


@pytest.mark.parametrize("dead", [20, 100])
def test_a_dead_tenth_or_half_costs_the_others_next_to_nothing(dead: int) -> None:
    alone = drained(200 - dead, 0, messages=20_000 * (200 - dead) // 200)
    beside = drained(200, dead)
    assert beside < alone / 0.9 + 3.5  # a dead one is known by its silence, after `patience`


def test_many_that_nothing_is_known_of_and_do_not_answer_hold_up_the_others_for_seconds() -> None:
    # The worst of orders: all the dead come first.
    assert drained(1000, 500, messages=5000) < 25


def test_who_answers_late_is_sent_to_though_the_dead_took_his_place_at_first() -> None:
    site = Site(connections=4, slow_connections=4, hurry=10)
    for number in range(20):
        site.host(f"d{number}.example", connect=120, error=DestinationError(REFUSED))
        site.accept(f"bob@d{number}.example")
    site.host("late.example", connect=25)
    mail = site.accept("bob@late.example")
    fine = site.accept("bob@fine.example")
    site.until(lambda: site.state(fine) == "DELIVERED", 100)
    assert site.carrier.peak <= 8
    site.until(lambda: site.state(mail) == "DELIVERED", 3600)


def failing(site: Site, *names: str) -> None:
    """Destinations that have failed once, and are due again in five minutes."""
    for name in names:
        site.host(name, connect=0.1, error=DestinationError(REFUSED))
        site.accept(f"bob@{name}")
    site.run(5)
    assert all(site.spool.backoff(name) for name in names)


def test_probes_leave_room_for_what_hangs_to_get_out_of_the_way() -> None:
    site = Site(connections=4, slow_connections=4, jitter=0)
    known = [f"known{number}.example" for number in range(8)]
    failing(site, *known)
    for name in known:
        site.carrier.hosts[name].connect = 600
    site.run(310)
    for number in range(2):
        site.host(f"d{number}.example", connect=600)
        site.accept(f"bob@d{number}.example")
    site.run(0.1)
    fine = site.accept("bob@fine.example")
    site.until(lambda: site.state(fine) == "DELIVERED", 6)


def test_a_probe_gets_its_full_time_however_many_unknown_ones_hang() -> None:
    site = Site(connections=4, slow_connections=4, hurry=10, jitter=0)
    failing(site, "late.example")
    site.host("late.example", connect=25)
    for number in range(250):
        site.host(f"d{number}.example", connect=600)
        site.accept(f"bob@d{number}.example")
        site.run(2)
    assert "late.example" in {hop for _, hop, *_ in site.carrier.sent}


def test_known_dead_domains_however_many_hold_up_nobody() -> None:
    site = Site(poll=1)
    for number in range(1000):
        site.host(f"d{number}.example", connect=60, error=DestinationError(REFUSED))
        site.accept(f"bob@d{number}.example")
    site.run(3000)
    assert all(site.spool.backoff(f"d{number}.example") for number in range(1000))
    # All are due at the same time, and in the midst of it comes mail for others.
    site.run(2000)
    for number in range(500):
        mails = [site.accept(f"bob@fine{number % 50}.example") for number in range(20)]
        site.run(0.2)
        if number % 50 == 0:
            site.until(lambda: all(site.state(mail) == "DELIVERED" for mail in mails), 5)  # noqa: B023
    site.run(2)
    assert len(site.carrier.sent) == 10_000
    assert site.manager.window.of[2] <= site.settings.probe_window
    assert site.carrier.peak <= site.settings.connections + site.settings.slow_connections


def test_hosts_that_hang_in_the_midst_of_a_message_hold_up_nobody() -> None:
    site = Site()
    for number in range(30):
        site.host(f"tar{number}.example", latency=600)
        for _ in range(40):
            site.accept(f"bob@tar{number}.example")
    site.run(60)
    assert site.manager.window.total <= 30 * 45
    before = site.now
    for number in range(2000):
        site.accept(f"bob@fine{number % 20}.example")
    site.until(lambda: len(site.carrier.sent) >= 2000, 30)
    assert site.now - before < 10


def test_one_slow_domain_takes_its_own_connections_only() -> None:
    site = Site(start=False)
    site.host("slow.example", latency=2)
    for _ in range(5000):
        site.accept("bob@slow.example")
    for number in range(1000):
        site.accept(f"bob@fine{number % 10}.example")
    site.manager.start()
    site.until(lambda: sum(hop != "slow.example" for _, hop, *_ in site.carrier.sent) == 1000, 20)
    site.run(10)
    assert site.carrier.hosts["slow.example"].peak == site.settings.concurrency


def test_the_window_is_bounded_with_a_hundred_thousand_due() -> None:
    site = Site(start=False, window=500, connections=20, lag=None)
    for number in range(100_000):
        site.spool.accept(site.message(f"bob@d{number % 3000}.example"))
    peak = connections = 0
    add = site.manager.window.add

    def watched(destination: object, count: int) -> None:
        nonlocal peak, connections
        add(destination, count)  # type: ignore[arg-type]
        peak = max(peak, site.manager.window.total)
        connections = max(connections, len(site.manager.dispatcher.connections.all))

    site.manager.window.add = watched  # type: ignore[method-assign,assignment]
    site.manager.start()
    site.run(20)
    assert 300 <= peak <= 500
    assert connections <= 20
    assert site.carrier.peak <= 20
    assert len(site.manager.destinations) <= 4096 + 500
    assert len(site.carrier.sent) > 10_000


def test_waiting_mail_gets_its_turn_beside_a_flood_of_new() -> None:
    site = Site(start=False, window=100, concurrency=2)
    site.host("far.example", latency=0.1)
    old = [site.accept("bob@far.example") for _ in range(300)]
    site.manager.start()
    for _ in range(150):
        for _ in range(3):
            site.accept("bob@far.example")
        site.run(0.1)
    done = sum(site.state(mail) == "DELIVERED" for mail in old)
    assert done > 150
