"""One event loop, shared: whoever has much to do has it done in turns.

Each connection works in small pieces, and lets the loop go on between two of them. But the loop comes back to its
timers, and to clients who ask for little, only when it has served everybody who is ready: a hundred clients with a
piece of some milliseconds each would hold it for a second. So what they do is counted together. Once a round of the
loop has used up `TURN`, whoever comes waits for one of the next, in the order of coming.

It promises: from one round to the next, at most `TURN` seconds and one piece of work; nobody is passed over. As long
as there is time left nothing waits, and no timer is set.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred

__all__ = ["SLICE", "TURN", "Pace", "Turns"]

TURN: Final = 0.01
"""Seconds of work in one round of the loop."""
SLICE: Final = 0.004
"""Seconds of work for one client before others have their turn."""


class Turns:
    """Of one `reactor`. Reactor thread."""

    def __init__(self, reactor: Any) -> None:
        self.seconds: Callable[[], float] = reactor.seconds
        self._reactor = reactor
        self._asked: deque[Callable[[], object]] = deque()
        self._waiting: deque[Callable[[], object]] = deque()
        self._scheduled = False
        self._spent = 0.0
        self.full = False
        """Whether this round is used up: what is not begun yet goes to `ask` or `later`."""

    def ask(self, work: Callable[[], object]) -> None:
        """As `later`, for who has asked for something just now: mostly that is little, and he has half of the next
        round before those who go on with much."""
        self._asked.append(work)
        self._schedule()

    def later(self, work: Callable[[], object]) -> None:
        """Do `work`, which does not raise, in one of the next rounds."""
        self._waiting.append(work)
        self._schedule()

    def count(self, seconds: float) -> None:
        """So much work was done."""
        self._spent += seconds
        if self._spent > TURN and not self.full:
            self.full = True
            self._schedule()

    def breath(self) -> Deferred[None]:
        """Fires in one of the next rounds: await it between two pieces of work. It may be cancelled."""
        turn: Deferred[None] = Deferred()
        self.later(lambda: turn.callback(None))
        return turn

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._reactor.callLater(0, self._round)

    def _round(self) -> None:
        self._scheduled = self.full = False
        self._spent = 0.0
        began = self.seconds()
        try:
            self._serve(self._asked, began, TURN / 2)
            self._serve(self._waiting, began, TURN)
        finally:
            if self.full or self._asked or self._waiting:
                self._schedule()

    def _serve(self, queue: deque[Callable[[], object]], began: float, limit: float) -> None:
        # Who asks for another turn meanwhile has it in the next round
        for _ in range(len(queue)):
            queue.popleft()()
            # What those did who count it themselves is not counted twice
            self._spent = self.seconds() - began
            self.full = self._spent > TURN
            if self._spent > limit:
                break


class Pace:
    """One client's work: ``if pace.due(): await pace.rest()`` between two steps of it."""

    __slots__ = ("_end", "_turns")

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._end = turns.seconds() + SLICE

    def due(self) -> bool:
        """Whether others should have their turn."""
        return self._turns.full or self._turns.seconds() > self._end

    async def breathe(self) -> None:
        """Let them, if they should."""
        if self.due():
            await self.rest()

    async def rest(self) -> None:
        """Let them."""
        await self._turns.breath()
        self.begin()

    def begin(self) -> None:
        """A slice begins, after a wait for something else."""
        self._end = self._turns.seconds() + SLICE
