"""INPROGRESS (RFC 9585): a command that takes long says that it is alive.

async def pieces() -> AsyncIterator[bytes]:
    task: Task[Filed] = Task()
    async for piece in during(session, command.tag, opened.copy(uids, name), task, whole=True):
        yield piece
    outcome.code = f"COPYUID {task.result.validity} …"

return session.stream(command, pieces(), outcome)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from .encode import quoted

if TYPE_CHECKING:
    from .session import ImapSession

__all__ = ["Task", "during", "inprogress"]

T = TypeVar("T")
_MOST: Final = (1 << 32) - 1


class Task(Generic[T]):
    """Work that a command waits for, and what came of it. The work may set `done` and `goal` (None: not known)."""

    __slots__ = ("done", "goal", "result")

    result: T

    def __init__(self) -> None:
        self.done: int | None = None
        self.goal: int | None = None


async def during(
    session: ImapSession,
    tag: bytes,
    work: Coroutine[Any, Any, T],
    task: Task[T],
    *,
    whole: bool = False,
) -> AsyncIterator[bytes]:
    """Run `work`; every `ImapSettings.progress_seconds` give an INPROGRESS, sent at once. Raises what it raises.

    When the client is gone, `work` is cancelled; with `whole` it is brought to its end first.
    """
    reactor = session.world.reactor
    seconds = session.settings.progress_seconds
    over: list[Any] = []
    bell: Deferred[None] = Deferred()

    def ring() -> None:
        if not bell.called:
            bell.callback(None)

    def finish(result: Any) -> None:
        over.append(result)
        ring()

    working = Deferred.fromCoroutine(work)
    working.addBoth(finish)
    try:
        while not over:
            timer = reactor.callLater(seconds, ring)
            try:
                await bell
            finally:
                if timer.active():
                    timer.cancel()
            bell = Deferred()
            if not over:
                yield inprogress(tag, task.done, task.goal)
                yield b""
    except GeneratorExit:
        # Dropped together with its whole process, in a simulation: nothing can be awaited.
        raise
    except BaseException:
        # Nobody listens any more
        if not whole:
            working.cancel()
        while not over:
            bell = Deferred()
            await bell
        raise
    (result,) = over
    if isinstance(result, Failure):
        result.raiseException()
    task.result = result


def inprogress(tag: bytes, done: int | None = None, goal: int | None = None) -> bytes:
    """The untagged response. RFC 9585 section 4: a goal is over 0, and what is done is less."""
    if done is None or goal is None or not 0 < goal <= _MOST:
        goal = None
    elif done >= goal:
        done = goal - 1
    numbers = b"%s %s" % (_number(done), _number(goal))
    return b"* OK [INPROGRESS (%s %s)] Still at it\r\n" % (quoted(tag), numbers)


def _number(number: int | None) -> bytes:
    return b"NIL" if number is None else b"%d" % min(number, _MOST)
