"""Processes that are killed while mail flows: what was accepted arrives, twice only what was on its way."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from flowing import flow
from mailsite import until
from outside import MailSite
from peers import sink

pytestmark = pytest.mark.e2e

ALICE = "alice@busy.example"
QUICK = "retry_first_seconds = 1\nretry_max_seconds = 1\nconnections_per_destination = 4\n"
MESSAGES = 400
SENDERS = 4
CONNECTIONS = 4
KILLS = 4


@pytest.fixture
def busy(sites):
    site = sites("busy.example", "alice", queue=QUICK)
    yield site
    site.close()


def moments(seed: int) -> list[int]:
    """How many messages have arrived when somebody is killed."""
    return sorted(random.Random(seed).sample(range(10, MESSAGES * 3 // 4), KILLS))


def finished(site: MailSite) -> Callable[[], bool]:
    return lambda: site.left() == 0


@pytest.mark.needs("smtp-sink")
@pytest.mark.parametrize("seed", [1, 2])
def test_the_sender_is_killed(busy, outside, seed):
    outside.domain("sink.example")
    address = outside.address_of("mx.sink.example")
    recorded: dict[str, int] = {}
    with sink(address, outside.port) as peer:
        with flow(busy, ALICE, "bob@sink.example", messages=MESSAGES, senders=SENDERS) as accepted:
            for moment in moments(seed):
                until(lambda moment=moment: len(peer.files()) >= moment, f"{moment} have arrived")
                busy.kill()
                until(peer.settled, "the sink has read what was on its way")
                arrived = Counter(peer.subjects())
                by_id = {id_: subject for subject, id_ in list(accepted.items())}
                for id_ in busy.delivered():
                    if subject := by_id.get(id_):
                        recorded.setdefault(subject, arrived[subject])
                busy.start()
        until(finished(busy), "the queue is empty")
        arrived = Counter(peer.subjects())
    assert len(accepted) >= MESSAGES - SENDERS * KILLS
    assert set(accepted) - set(arrived) == set()
    # what was on the disk as delivered before a kill is not sent after it
    assert {subject: arrived[subject] for subject in recorded} == recorded
    assert len(recorded) > 10
    assert {busy.states(id_)["bob@sink.example"] for id_ in accepted.values()} == {"delivered"}
    assert busy.messages(ALICE) == []


@pytest.mark.parametrize("seed", [3])
def test_the_receiver_is_killed(busy, sites, seed):
    receiver = sites("weak.example", "bob")
    new = receiver.data / "mail/weak.example/bob/Maildir/new"

    def arrived() -> int:
        return len(list(new.glob("*")))

    with flow(busy, ALICE, "bob@weak.example", messages=MESSAGES, senders=SENDERS) as accepted:
        for moment in moments(seed):
            until(lambda moment=moment: arrived() >= moment, f"{moment} have arrived")
            receiver.kill()
            receiver.start()
    until(finished(busy), "the queue is empty")
    found = Counter(receiver.subjects("bob@weak.example"))
    assert len(accepted) == MESSAGES
    assert set(found) == set(accepted)
    # one message on each connection can lose its 250
    assert sum(found.values()) - len(found) <= KILLS * CONNECTIONS
    assert busy.messages(ALICE) == []
    receiver.close()
