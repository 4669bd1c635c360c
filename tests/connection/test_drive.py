"""Coroutines stepped by hand, and the timer that is moved."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from twisted_mail.connection.alarm import QUIET, Alarm
from twisted_mail.connection.drive import Cancelled, Waiting, to_the_end
from twisted_mail.status import MailError
from twisted_mail.turns import TURN, Turns


class Waited:
    """A coroutine that came to a Deferred, and what became of it."""

    def __init__(self, coroutine: Any, turns: Turns | None = None) -> None:
        self.results: list[Any] = []
        self.errors: list[Exception] = []
        awaited = coroutine.send(None)
        self.waiting = Waiting(coroutine, self.results.append, self.errors.append, turns)
        self.waiting.wait_for(awaited)


def test_a_result() -> None:
    first, second = Deferred[int](), Deferred[int]()

    async def add() -> int:
        return await first + await second + await succeed(3)

    waited = Waited(add())
    first.callback(1)
    assert waited.results == []
    second.callback(2)
    assert waited.results == [6]
    waited.waiting.cancel()  # too late to mean anything


def test_a_failure_and_one_that_is_dealt_with() -> None:
    deferreds: list[Deferred[int]] = [Deferred(), Deferred()]

    async def attempt() -> int:
        try:
            await deferreds[0]
        except KeyError:
            pass
        return await deferreds[1]

    waited = Waited(attempt())
    deferreds[0].errback(KeyError("one"))
    deferreds[1].errback(ValueError("two"))
    assert waited.results == []
    assert [repr(error) for error in waited.errors] == ["ValueError('two')"]


def test_what_comes_when_the_turn_is_used_up_is_heard_in_the_next() -> None:
    clock = Clock()
    turns = Turns(clock)
    deferreds: list[Deferred[int]] = [Deferred(), Deferred(), Deferred()]

    async def attempt() -> int:
        first = await deferreds[0]
        try:
            await deferreds[1]
        except KeyError:
            first += 1
        return first + await deferreds[2]

    waited = Waited(attempt(), turns)
    turns.count(TURN * 2)
    deferreds[0].callback(1)
    deferreds[1].errback(KeyError("one"))
    clock.advance(0)
    turns.count(TURN * 2)
    deferreds[2].callback(3)
    assert waited.results == []
    clock.advance(0)
    assert waited.results == [5] and not waited.errors
    gc.collect()  # a failure that nobody has heard would be logged, and fail the test


def test_a_failure_in_a_used_up_turn_is_heard_once_and_not_after_cancelling() -> None:
    clock = Clock()
    for cancelled in (False, True):
        turns = Turns(clock)
        deferred: Deferred[int] = Deferred()

        async def attempt(awaited: Deferred[int]) -> int:
            return await awaited

        waited = Waited(attempt(deferred), turns)
        turns.count(TURN * 2)
        with capturedLogs() as events:
            deferred.errback(ValueError("two"))
            if cancelled:
                waited.waiting.cancel()
            clock.advance(0)
            del deferred
            gc.collect()
        assert [repr(error) for error in waited.errors] == ["ValueError('two')"][cancelled:]
        assert not events


def test_cancelling_passes_by_what_handles_exceptions() -> None:
    steps: list[str] = []
    deferred = Deferred[None](lambda _: steps.append("canceller"))

    async def careful() -> None:
        try:
            await deferred
        except Exception:
            steps.append("handled")
        finally:
            steps.append("finally")

    waited = Waited(careful())
    waited.waiting.cancel()
    assert steps == ["finally", "canceller"]
    assert (waited.results, waited.errors) == ([], [])


def test_a_cancelled_coroutine_may_wait_to_clean_up() -> None:
    steps: list[str] = []
    cleaning = Deferred[None]()

    async def careful() -> None:
        try:
            await Deferred()
        finally:
            await cleaning
            steps.append("clean")

    waited = Waited(careful())
    waited.waiting.cancel()
    assert steps == []
    cleaning.callback(None)
    assert steps == ["clean"]
    assert (waited.results, waited.errors) == ([], [])


def test_a_failure_in_cleaning_up_is_logged(log: list[dict[str, Any]]) -> None:
    async def clumsy() -> None:
        try:
            await Deferred()
        finally:
            raise ValueError("a mistake of ours")

    waited = Waited(clumsy())
    waited.waiting.cancel()
    assert waited.errors == []
    assert [event["log_format"] for event in log] == [
        "failure while a cancelled session cleaned up"
    ]
    log.clear()


def test_many_steps_need_no_stack() -> None:
    deferreds: list[Deferred[int]] = []

    async def patient() -> int:
        total = 0
        for _ in range(5000):
            deferreds.append(Deferred())
            total += await deferreds[-1]
        return total

    waited = Waited(patient())
    for number in range(5000):
        deferreds[number].callback(1)
    assert waited.results == [5000]


# to_the_end


def test_to_the_end_gives_the_result() -> None:
    work = Deferred[int]()

    async def wait() -> int:
        return await to_the_end(work) + await to_the_end(succeed(1))

    waited = Waited(wait())
    work.callback(1)
    assert waited.results == [2]


def test_to_the_end_gives_the_failure() -> None:
    work = Deferred[int]()
    waited = Waited(to_the_end(work))
    work.errback(ValueError("no"))
    assert [repr(error) for error in waited.errors] == ["ValueError('no')"]


@pytest.mark.parametrize("way", ["driver", "Deferred"])
def test_to_the_end_is_not_stopped_half_way(way: str) -> None:
    first, second = Deferred[None](), Deferred[None]()
    steps: list[str] = []

    async def work() -> None:
        await first
        steps.append("first")
        await second
        steps.append("second")

    async def wait() -> None:
        try:
            await to_the_end(work())
        except (Cancelled, CancelledError) as error:
            steps.append(type(error).__name__)
            raise

    if way == "driver":
        Waited(wait()).waiting.cancel()
    else:
        waiting = Deferred.fromCoroutine(wait())
        waiting.addErrback(lambda failure: failure.trap(CancelledError))
        waiting.cancel()
    first.callback(None)
    second.callback(None)
    assert steps == ["first", "second", "Cancelled" if way == "driver" else "CancelledError"]


def test_what_fails_when_nobody_waits_any_more_is_logged(log: list[dict[str, Any]]) -> None:
    work = Deferred[None]()
    waited = Waited(to_the_end(work))
    waited.waiting.cancel()
    work.errback(ValueError("the disk is full"))
    assert waited.errors == []
    assert [event["log_failure"].value.args for event in log] == [("the disk is full",)]
    log.clear()


def test_a_refusal_that_nobody_waits_for_is_not_logged(log: list[dict[str, Any]]) -> None:
    work = Deferred[None]()
    waited = Waited(to_the_end(work))
    waited.waiting.cancel()
    work.errback(MailError(550, "5.2.0", "There is such a mailbox", imap="ALREADYEXISTS"))
    assert waited.errors == []
    assert log == []


# Alarm


def test_an_alarm_rings_once_when_its_last_time_is_over() -> None:
    clock = Clock()
    rung: list[float] = []
    alarm = Alarm(clock, lambda: rung.append(clock.seconds()))
    alarm.set(10)
    for _ in range(5):
        clock.advance(4)
        alarm.set(10)
        assert len(clock.getDelayedCalls()) == 1
    clock.pump([1] * 100)
    assert rung == [30.0]
    assert clock.getDelayedCalls() == []


def test_an_alarm_can_be_set_to_an_earlier_time() -> None:
    clock = Clock()
    rung: list[float] = []
    alarm = Alarm(clock, lambda: rung.append(clock.seconds()))
    alarm.set(100)
    alarm.set(1)
    clock.advance(1)
    assert rung == [1.0]
    alarm.set(5)
    clock.advance(5)
    assert rung == [1.0, 6.0]


def test_an_alarm_can_be_stopped() -> None:
    clock = Clock()
    alarm = Alarm(clock, lambda: pytest.fail("rang"))
    alarm.stop()
    alarm.set(1)
    alarm.stop()
    clock.advance(10)


def test_an_alarm_notices_when_nothing_happens_for_a_while() -> None:
    clock = Clock()
    rung: list[float] = []
    quiet: list[float] = []
    alarm = Alarm(
        clock, lambda: rung.append(clock.seconds()), lambda: quiet.append(clock.seconds())
    )
    for _ in range(100):
        alarm.set(100)
        clock.advance(1)
    assert quiet == []
    clock.pump([1] * 90)
    assert len(quiet) == 1
    assert 99 + QUIET <= quiet[0] <= 99 + 2 * QUIET
    alarm.set(3 * QUIET)
    clock.pump([1] * 100)
    assert len(quiet) == 2
    assert rung == [190 + 3 * QUIET]
    assert clock.getDelayedCalls() == []


def test_an_alarm_that_rings_soon_does_not_ask_whether_it_is_quiet() -> None:
    clock = Clock()
    rung: list[float] = []
    alarm = Alarm(clock, lambda: rung.append(clock.seconds()), lambda: pytest.fail("quiet"))
    alarm.set(QUIET)
    clock.advance(QUIET)
    assert rung == [QUIET]
