"""Several questions at once, each for so long."""

from __future__ import annotations

import gc

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_mail.dns.interfaces import DnsError
from twisted_mail.policy.asking import all_of, answered


class Waiting:
    def __init__(self, coroutine):
        self.outcomes = []
        self.deferred = Deferred.fromCoroutine(coroutine).addBoth(self.outcomes.append)

    def result(self):
        (outcome,) = self.outcomes
        if isinstance(outcome, Failure):
            outcome.raiseException()
        return outcome


async def at_once(value):
    return value


async def of(*deferreds):
    """What they give together."""
    return [await one for one in deferreds]


async def failing(deferred=None):
    if deferred is not None:
        await deferred
    raise DnsError("SERVFAIL")


def test_results_have_the_order_of_the_questions():
    first, second, third = Deferred(), Deferred(), Deferred()
    waiting = Waiting(all_of([of(first, second), at_once(1), of(third), at_once(2)]))
    third.callback("c")
    first.callback("a")
    assert waiting.outcomes == []
    second.callback("b")
    assert waiting.result() == [["a", "b"], 1, ["c"], 2]


def test_what_is_known_is_told_at_once():
    coroutine = all_of([at_once(1), at_once(2)])
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    assert done.value.value == [1, 2]
    assert Waiting(all_of([])).result() == []


def test_a_failure_ends_all_of_them():
    ended = []
    hanging = Deferred(ended.append)
    fails = Deferred()
    waiting = Waiting(all_of([of(hanging), failing(fails), at_once(1)]))
    fails.callback(None)
    with pytest.raises(DnsError, match="SERVFAIL"):
        waiting.result()
    assert len(ended) == 1


def test_a_question_that_is_thrown_away_unwinds():
    async def question():
        try:
            await Deferred()
        finally:
            ended.append(1)

    ended = []
    waiting = Waiting(all_of([question(), at_once(1), question()]))
    del waiting
    gc.collect()
    assert ended == [1, 1]


def test_a_failure_at_once_ends_those_that_wait_and_begins_no_other():
    ended = []
    hanging = Deferred(ended.append)
    begun = []

    async def other():
        begun.append(1)

    waiting = Waiting(all_of([of(hanging), failing(), other()]))
    with pytest.raises(DnsError, match="SERVFAIL"):
        waiting.result()
    assert (len(ended), begun) == (1, [])
    gc.collect()  # an error that nobody hears is told when it is thrown away


def test_who_stops_waiting_ends_them():
    ended = []
    waiting = Waiting(all_of([of(Deferred(ended.append)), of(Deferred(ended.append))]))
    waiting.deferred.cancel()
    assert len(ended) == 2
    with pytest.raises(CancelledError):
        waiting.result()


def test_a_question_has_its_time():
    clock = Clock()
    one = Deferred()
    waiting = Waiting(answered(clock, 5.0, of(one)))
    clock.advance(4)
    one.callback("late")
    assert waiting.result() == ["late"]
    assert clock.getDelayedCalls() == []
    ended = []
    waiting = Waiting(answered(clock, 5.0, of(Deferred(ended.append))))
    clock.advance(5)
    with pytest.raises(DnsError, match="within 5 seconds"):
        waiting.result()
    assert len(ended) == 1


def test_what_is_known_needs_no_timer():
    clock = Clock()
    assert Waiting(answered(clock, 5.0, at_once(1))).result() == 1
    with pytest.raises(DnsError):
        Waiting(answered(clock, 5.0, failing())).result()
    assert clock.getDelayedCalls() == []
