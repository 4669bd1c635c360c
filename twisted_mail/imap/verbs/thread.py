"""THREAD and UID THREAD: REFERENCES and ORDEREDSUBJECT (RFC 5256 section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from ...message.digest import split_references
from ...message.threading import ALGORITHMS, Threaded
from ..capability import Capability
from ..refusal import Bad
from ..search import Search
from ..search_answer import result
from ..search_run import breath, in_turns, run
from ..state import State
from .registry import Verb, by_uid

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ..commands import Thread
    from ..events import Command
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "VERBS"]

_COLUMNS: Final = ("sent", "base_subject", "reply", "message_id", "references")


async def thread(session: ImapSession, command: Command) -> Answer:
    args: Thread = command.args
    algorithm = ALGORITHMS.get(args.algorithm)
    if algorithm is None:
        raise Bad("That way of threading is not known")
    view = session.view
    breathe = breath(session)

    async def finish(search: Search, selected: int) -> tuple[Iterable[bytes], str]:
        found = await result(view, search, selected, args.uid, False)
        dates = tuple(search.chosen(selected, search.snapshot.dates))
        threading = algorithm()
        at = 0

        def messages(rows: Sequence[tuple[Any, ...]]) -> Iterator[Threaded]:
            nonlocal at
            for uid, sent, subject, reply, message_id, refs in rows:
                while found.uids[at] != uid:
                    # It is gone meanwhile
                    at += 1
                yield Threaded(
                    found.numbers[at],
                    # RFC 5256 section 2.2
                    dates[at] if sent is None else sent,
                    subject,
                    bool(reply),
                    message_id,
                    split_references(refs),
                )

        async for rows in session.opened.columns(found.uids, _COLUMNS):
            await breathe()
            await in_turns(threading.add(messages(rows)), breathe)
        await in_turns(threading.steps(), breathe)
        return _response(threading.written()), ""

    return await run(session, command, finish)


def _response(threads: Iterator[bytes]) -> Iterator[bytes]:
    # RFC 5256 section 4: thread-data
    first = next(threads, b"")
    return chain((b"* THREAD " if first else b"* THREAD", first), threads, (b"\r\n",))


VERBS: Final = (Verb("THREAD", State.SELECTED, thread, by_uid),)
CAPABILITIES: Final = (
    Capability("THREAD=ORDEREDSUBJECT", "5256"),
    Capability("THREAD=REFERENCES", "5256"),
)
