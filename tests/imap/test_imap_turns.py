"""Whose turn it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from twisted_mail.imap.turns import Turns


class Loop:
    """As event loops do: what is asked for in a turn comes in the next one."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any) -> None:
        assert delay == 0
        self.calls.append((call, args))

    def turn(self) -> None:
        calls, self.calls = self.calls, []
        for call, args in calls:
            call(*args)


def worker(turns: Turns, loop: Loop, name: str, slices: int, log: list[str]) -> Deferred[None]:
    async def work() -> None:
        for _ in range(slices):
            await turns.wait(loop)
            log.append(name)

    return Deferred.fromCoroutine(work())


def test_one_slice_a_turn() -> None:
    loop, turns, log = Loop(), Turns(), list[str]()
    working = [worker(turns, loop, "a", 3, log), worker(turns, loop, "b", 2, log)]
    assert not log
    for expected in ("a", "ab", "aba", "abab", "ababa"):
        loop.turn()
        assert "".join(log) == expected
    assert all(one.called for one in working)
    assert not loop.calls
    worker(turns, loop, "c", 1, log)
    loop.turn()
    assert log[-1] == "c"


def test_who_is_gone_is_passed_over() -> None:
    loop, turns, log = Loop(), Turns(), list[str]()
    gone = worker(turns, loop, "a", 3, log)
    worker(turns, loop, "b", 1, log)
    gone.cancel()
    gone.addErrback(lambda failure: failure.trap(CancelledError))
    loop.turn()
    assert log == ["b"]
    alone = turns.wait(loop)
    alone.cancel()
    alone.addErrback(lambda failure: failure.trap(CancelledError))
    loop.turn()
    assert not loop.calls
    worker(turns, loop, "c", 1, log)
    loop.turn()
    assert log == ["b", "c"]
