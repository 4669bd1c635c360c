"""Outcomes on their way to the disk, behind the backs of who sends.

A `Step` is one change, with the notice that it causes. Changes without one are committed together, as many as have
gathered while the last ones were; each with one is a message of its own, a bounded number at a time. What fails is
tried again until it succeeds, one by one, so that a step that cannot be written keeps no other from it.

The instant of commitment is the door's. Until then the recipients are active, here and on the disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..message.notice import Action
from ..status import MailError
from ..storage.queued import Change, QueuedMessage, State, Verdict
from ..world import World
from .bell import Bell
from .bounce import Bounces, Told
from .destination import Destination
from .interfaces import Door

__all__ = ["Committer", "Step"]

_log = Logger()

FULL = 500
"""Steps that are not committed; with so many nothing more is sent until there are fewer."""
TOGETHER = 200
"""Changes in one commit."""
NOTICES = 8
"""Notices that are written at once."""
STUBBORN = 6
"""Times that a notice is tried (over some minutes) before its recipients are over, or wait, without it."""


class Step:
    """`change`, of `message`; `told`: what its sender is to hear. `done` is called when it is committed.

    `destination`, `count`: of whom how many recipients are in memory until then; `due`: when the first is tried again.
    """

    __slots__ = ("change", "count", "destination", "done", "due", "message", "told", "tries")

    def __init__(
        self,
        change: Change,
        message: QueuedMessage,
        told: Sequence[Told],
        done: Callable[[Step], None],
        destination: Destination | None = None,
        count: int = 0,
        due: float | None = None,
    ) -> None:
        self.change = change
        self.message = message
        self.told = told
        self.done = done
        self.destination = destination
        self.count = count
        self.due = due
        self.tries = 0


class Committer:
    """Commits steps by `door`. `retry_at` says when recipients are tried again whose bounce could not be written.

    `room` is called when there is room again after `full`.
    """

    def __init__(
        self,
        world: World,
        door: Door,
        bounces: Bounces,
        retry_at: Callable[[], float],
        room: Callable[[], None],
    ) -> None:
        self._world = world
        self._door = door
        self._bounces = bounces
        self._retry_at = retry_at
        self._room = room
        self._plain: deque[Step] = deque()
        self._notices: deque[Step] = deque()
        self._size = TOGETHER
        self._committing = False
        self._writing = 0
        self._sleeping: dict[Any, Step] = {}
        self._idle = Bell(world.reactor)
        self._hurried = False
        self._over = False
        self.left = 0
        """Steps that are not committed."""
        self.failures = 0
        """Commits that failed, ever."""
        self.notices = 0
        """Notices that were written, ever."""

    @property
    def full(self) -> bool:
        """Whether nothing more is to be sent for now."""
        return self.left >= FULL

    def put(self, step: Step) -> None:
        """Take a step on. Never waits."""
        self.left += 1
        if step.told:
            self._notices.append(step)
            self._write_notices()
        else:
            self._plain.append(step)
            if not self._committing:
                self._committing = True
                Deferred.fromCoroutine(self._commit()).addErrback(_unexpected)

    async def drain(self, seconds: float) -> bool:
        """Wait until all is committed, `seconds` at most, then try nothing again. True: all is committed.

        What waits for another try gets one now.
        """
        self._hurried = True
        for timer, step in list(self._sleeping.items()):
            timer.cancel()
            self._wake(timer, step)
        if self.left:
            await self._idle.wait(seconds)
        # What fails from now on is the next one's, who finds it active.
        self._over = True
        for timer in self._sleeping:
            timer.cancel()
        self._sleeping.clear()
        return self.left == 0

    # -- changes

    async def _commit(self) -> None:
        try:
            while self._plain:
                plain = self._plain
                steps = [plain.popleft() for _ in range(min(self._size, len(plain)))]
                try:
                    await self._door.commit([step.change for step in steps])
                except Exception as error:
                    self._failed(steps, error)
                else:
                    self._size = min(TOGETHER, self._size * 2)
                    for step in steps:
                        self._done(step)
        finally:
            self._committing = False

    def _failed(self, steps: Sequence[Step], error: Exception) -> None:
        self.failures += 1
        self._size = 1
        # One line for many; a failure of ours with its traceback.
        if isinstance(error, (MailError, OSError)):
            _log.error("cannot commit outcomes, they are kept: {error}", error=str(error))
        else:
            _log.failure("cannot commit outcomes, they are kept")
        for step in steps:
            self._again(step)

    def _done(self, step: Step) -> None:
        was_full = self.full
        self.left -= 1
        step.done(step)
        if was_full:
            self._room()
        if not self.left:
            self._idle.ring()

    # -- another try

    def _again(self, step: Step) -> None:
        if self._over:
            return
        step.tries += 1
        wait = min(2.0 ** min(step.tries - 1, 6), 60.0)
        timer: Any = None

        def wake() -> None:
            self._wake(timer, step)

        timer = self._world.reactor.callLater(0.5 if self._hurried else wait, wake)
        self._sleeping[timer] = step

    def _wake(self, timer: Any, step: Step) -> None:
        if self._sleeping.pop(timer, None) is not None:
            self.left -= 1
            self.put(step)

    # -- notices

    def _write_notices(self) -> None:
        while self._notices and self._writing < NOTICES:
            self._writing += 1
            step = self._notices.popleft()
            Deferred.fromCoroutine(self._write(step)).addErrback(_unexpected)

    async def _write(self, step: Step) -> None:
        try:
            await self._notify(step)
        except Exception as error:
            self.failures += 1
            if not isinstance(error, (MailError, OSError)):
                _log.failure("a notice could not be written")
            elif step.tries == 0:
                _log.error("cannot write a notice, it is tried again: {error}", error=str(error))
            if step.tries + 1 >= STUBBORN:
                self._without(step, error)
            self._again(step)
        else:
            self._done(step)
        finally:
            self._writing -= 1
            self._write_notices()

    async def _notify(self, step: Step) -> None:
        """Raises what keeps it from being written now."""
        message = step.message
        bounces = self._bounces
        to = bounces.recipient(message)
        told = step.told
        while to:
            content = await bounces.compose(to, message, told)
            try:
                # RFC 8689 section 5: what tells of a message that needs TLS needs it, too
                await self._door.notify(
                    [step.change], to, content, requiretls=message.options.requiretls
                )
            except MailError as error:
                if error.temporary:
                    raise
                _log.warn(
                    "notice cannot be delivered",
                    message=message.id,
                    recipient=to,
                    error=str(error),
                )
                # RFC 3464 section 2: where the sender is nobody, the postmaster may want the failures
                told = [one for one in told if one.action is Action.FAILED]
                to = bounces.double_bounces_to if told and to != bounces.double_bounces_to else ""
            else:
                self.notices += 1
                _log.info(
                    "notice",
                    message=message.id,
                    recipient=to,
                    about=",".join(sorted({one.action.value for one in told})),
                )
                return
        await self._door.commit([step.change])

    def _without(self, step: Step, error: Exception) -> None:
        """The notice cannot be written for long. Who was to be bounced waits; what was delivered stays so, untold."""
        # Who was given up without a try has had none: his last one says why.
        tried = step.destination is not None
        _log.error(
            "notice given up",
            message=step.change.message,
            error=str(error),
        )
        step.told = ()
        step.tries = 0
        step.due = due = self._retry_at()
        step.change = replace(
            step.change,
            verdicts=tuple(
                Verdict(one.number, State.DEFERRED, due, one.attempt if tried else -1)
                if one.state is State.BOUNCED
                else one
                for one in step.change.verdicts
            ),
        )


def _unexpected(failure: Any) -> None:
    _log.failure("failure in the queue", failure)
