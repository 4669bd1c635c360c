"""THREAD and UID THREAD: REFERENCES and ORDEREDSUBJECT (RFC 5256 section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from ...message.digest import split_references
from ...message.threading import Threaded, ordered_subject, references
from ..capability import Capability
from ..refusal import Bad
from ..search import Search
from ..search_answer import result
from ..search_run import breath, run
from ..state import State
from .registry import Verb, by_uid

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ..commands import Thread
    from ..events import Command
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "VERBS"]

PIECE: Final = 32_768
SMALL: Final = 500
"""Messages that are threaded without a thread of the pool."""
_ALGORITHMS: Final = {"ORDEREDSUBJECT": ordered_subject, "REFERENCES": references}
_COLUMNS: Final = ("sent", "base_subject", "reply", "message_id", "references")


async def thread(session: ImapSession, command: Command) -> Answer:
    args: Thread = command.args  # type: ignore[assignment]
    algorithm = _ALGORITHMS.get(args.algorithm)
    if algorithm is None:
        raise Bad("That way of threading is not known")
    view = session.view
    breathe = breath(session)

    async def finish(search: Search, selected: int) -> tuple[Iterable[bytes], str]:
        found = await result(view, search, selected, args.uid, False)
        dates = search.chosen(selected, search.snapshot.dates)
        known = dict(zip(found.uids, zip(found.numbers, dates, strict=True), strict=True))
        messages: list[Threaded] = []
        async for rows in session.opened.columns(found.uids, _COLUMNS):
            for uid, sent, subject, reply, message_id, refs in rows:
                number, date = known[uid]
                messages.append(
                    Threaded(
                        number,
                        # RFC 5256 section 2.2
                        date if sent is None else sent,
                        subject,
                        bool(reply),
                        message_id,
                        split_references(refs),
                    )
                )
            await breathe()
        if len(messages) <= SMALL:
            threads = algorithm(messages)
        else:
            threads = await session.world.threads.call(algorithm, messages)
        return _response(threads), ""

    return await run(session, command, finish)


def _response(threads: bytes) -> Iterator[bytes]:
    # RFC 5256 section 4: thread-data
    yield b"* THREAD " if threads else b"* THREAD"
    for start in range(0, len(threads), PIECE):
        yield threads[start : start + PIECE]
    yield b"\r\n"


VERBS: Final = (Verb("THREAD", State.SELECTED, thread, by_uid),)
CAPABILITIES: Final = (
    Capability("THREAD=ORDEREDSUBJECT", "5256"),
    Capability("THREAD=REFERENCES", "5256"),
)
