"""SEARCH, SORT and THREAD on their way: answered at once when nothing has to be waited for, else with INPROGRESS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from twisted.internet.defer import Deferred

from ..connection.drive import Waiting
from ..turns import Pace, Turns
from .encode import ok, quoted
from .outcome import Outcome
from .refusal import Bad
from .search import Search, charset_of, uses_mod_sequence

if TYPE_CHECKING:
    from ..connection.interfaces import Answer
    from .commands import Search as SearchArguments
    from .commands import Sort, Thread
    from .events import Command
    from .session import ImapSession

__all__ = ["Finish", "breath", "in_turns", "run"]

Finish: TypeAlias = Callable[[Search, int], Awaitable[tuple[Iterable[bytes], str]]]
"""Of a search and what it has selected: the answer, and the text of the tagged OK ("": the usual one)."""

_NOTHING: Final = ()
"""RFC 5182 section 2.1: what $ is after NO; after BAD it is what it was."""
BLOCK: Final = 16_384
"""Octets of the answer that are made in one go: some ms."""


def breath(session: ImapSession) -> Callable[[], Awaitable[None]]:
    """What gives the event loop its turn, and others who work long, when they should have it."""
    return Pace(session.world.turns).breathe


async def in_turns(steps: Iterator[None], breathe: Callable[[], Awaitable[None]]) -> Any:
    """What the generator `steps` gives; the event loop gets its turn wherever it yields."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value
        await breathe()


async def run(
    session: ImapSession, command: Command, finish: Finish, *, saves: bool = False
) -> Answer:
    """Search as the command says; `finish` makes the answer of what was found. `saves`: it becomes ``$``."""
    args: SearchArguments | Sort | Thread = command.args
    view = session.view
    said = b""
    try:
        charset = _charset(session, args.charset)
        if uses_mod_sequence(args.key):
            # RFC 7162 section 3.1: a CONDSTORE enabling command
            said = session.enable_condstore()
        # New messages are found, too, once the client has heard of them
        said += b"".join(session.catch_up())
        search = Search(view, args.key, charset, now=session.world.now, breathe=breath(session))
        working = _Working(_found(search, finish), session.world.turns)
        if working.over:
            # All was at hand
            answer, text = working.result()
            blocks = _blocks(answer)
            first = next(blocks, b"")
            second = next(blocks, None)
            if second is None:
                return session.ok(command, text, data=said + first)
            left: Iterator[bytes] = chain((said + first, second), blocks)
            return session.stream(command, _in_turns(session, left), Outcome(text))
    except Exception as error:
        if saves and not isinstance(error, Bad):
            view.saved = _NOTHING
        return session.refuse(command, error, said)
    outcome = Outcome()
    pieces = _pieces(session, command, said, search, working, outcome, saves)
    return session.stream(command, pieces, outcome)


def _charset(session: ImapSession, name: str | None) -> str:
    if name not in (None, "UTF-8") and "UTF8=ACCEPT" in session.enabled and not session.rev2:
        # RFC 6855 section 3
        raise Bad("After ENABLE UTF8=ACCEPT there is no other character set")
    return charset_of(name)


async def _found(search: Search, finish: Finish) -> tuple[Iterable[bytes], str]:
    return await finish(search, await search.run())


class _Working:
    """A search under way. What it does when a thread has answered is counted in `turns`, too."""

    def __init__(
        self, work: Coroutine[Any, Any, tuple[Iterable[bytes], str]], turns: Turns
    ) -> None:
        self._results: list[Any] = []
        self._bell: Deferred[None] | None = None
        self._running = Waiting(work, self._ended, self._ended, turns)
        self._running.begin()

    @property
    def over(self) -> bool:
        return bool(self._results)

    def result(self) -> tuple[Iterable[bytes], str]:
        """When it is over: what it gave, or raise what it raised."""
        (result,) = self._results
        if isinstance(result, Exception):
            raise result
        answer: tuple[Iterable[bytes], str] = result
        return answer

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        if not self._results:
            self._running.cancel()

    async def wait(self, reactor: Any, seconds: float) -> None:
        """Until it is over, but no longer than that."""
        bell: Deferred[None] = Deferred()
        self._bell = bell
        timer = reactor.callLater(seconds, self._ring)
        try:
            await bell
        finally:
            self._bell = None
            if timer.active():
                timer.cancel()

    def _ended(self, result: Any) -> None:
        self._results.append(result)
        self._ring()

    def _ring(self) -> None:
        bell, self._bell = self._bell, None
        if bell is not None:
            bell.callback(None)


async def _pieces(
    session: ImapSession,
    command: Command,
    said: bytes,
    search: Search,
    working: _Working,
    outcome: Outcome,
    saves: bool,
) -> AsyncIterator[bytes]:
    view = session.view
    try:
        if said:
            yield said
        while not working.over:
            await working.wait(session.world.reactor, session.settings.progress_seconds)
            if not working.over:
                yield _progress(command.tag, search)
                # It is not to wait for more
                yield b""
        try:
            answer, outcome.text = working.result()
        except Exception:
            if saves:
                view.saved = _NOTHING
            raise
        async for block in _in_turns(session, _blocks(answer)):
            yield block
    finally:
        working.cancel()


def _progress(tag: bytes, search: Search) -> bytes:
    # RFC 9585 section 4
    far = b"%d %d" % (search.done, search.goal) if search.goal else b"NIL NIL"
    return ok(b"*", "Still searching", b"INPROGRESS (%b %b)" % (quoted(tag), far))


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same in pieces of some size."""
    block = bytearray()
    for piece in pieces:
        block += piece
        if len(block) >= BLOCK:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


async def _in_turns(session: ImapSession, blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    breathe = breath(session)
    for block in blocks:
        yield block
        await breathe()
