"""FETCH and UID FETCH (RFC 9051 section 6.4.5 and 6.4.9, RFC 3501 section 6.4.5).

With CHANGEDSINCE and VANISHED (RFC 7162), BINARY (RFC 3516), PREVIEW (RFC 8970), SAVEDATE (RFC 8514), EMAILID and
THREADID (RFC 8474). What is found is answered even when something is not: NO [EXPUNGEISSUED] says that messages were
gone (RFC 5530 section 3), NO [UNKNOWN-CTE] that a part could not be decoded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final

from ...mailboxes import SEEN, StoreMode
from ..capability import Capability
from ..fetch_answer import Answering
from ..fetch_chosen import CHUNK, LOOKED_UP, Chunk, changed_since, choose, chunks
from ..fetch_large import Mark
from ..fetch_plan import plan
from ..outcome import Outcome
from ..refusal import Bad
from ..sequence import SequenceSet
from ..state import State
from ..vanished import earlier
from ..view import Quiet
from .registry import Verb, by_uid

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ..commands import Fetch
    from ..events import Command
    from ..fetching import FetchItem
    from ..session import ImapSession
    from ..view import View

__all__ = ["CAPABILITIES", "VERBS"]


async def fetch(session: ImapSession, command: Command) -> Answer:
    args: Fetch = command.args
    if args.vanished and not session.qresync:
        # RFC 7162 section 3.2.6
        raise Bad("VANISHED needs QRESYNC to be enabled")
    since = args.changed_since
    said = b""
    if since is not None or "MODSEQ" in args.items:
        # RFC 7162 section 3.1: these are CONDSTORE enabling commands
        said = session.enable_condstore()
    view = session.view
    if args.vanished:
        # What is gone now is told first, as it moves numbers: VANISHED (EARLIER) does not
        said += b"".join(session.catch_up(True))
    chosen = choose(view, view.positions(args.sequence, args.uid))
    outcome = Outcome()
    if chosen.ghosts and not args.uid:
        _gone(outcome)
    asked = _asked(args)
    wanted = plan(asked, rev2=session.rev2)
    some: Iterable[Chunk] = chunks(chosen.spans, LOOKED_UP if wanted.columns else CHUNK)
    if since is not None:
        some = changed_since(view.snapshot, some, since)
    if view.reading is None:
        view.reading = Mark()
    answering = Answering(
        view,
        wanted,
        plan(_told(session, asked), rev2=session.rev2),
        view.reading,
        session.world.turns,
        session.world.threads.call,
    )
    if not (args.vanished or wanted.sections or wanted.columns):
        # Mostly it is little, and in the snapshot
        some = iter(some)
        first = list(_first(some, 2))
        if len(first) < 2:
            data = b"".join([said, *map(answering.at_once, first)])
            if outcome.code:
                return session.stream(command, _one(data), outcome)
            return session.ok(command, data=data)
        some = chain(first, some)
    pieces = _pieces(session, args, said, some, answering, outcome)
    return session.stream(command, pieces, outcome)


def _asked(args: Fetch) -> tuple[FetchItem, ...]:
    """What is answered: more than was asked for, perhaps."""
    items = args.items
    if args.uid and "UID" not in items:
        # RFC 9051 section 6.4.9
        items = ("UID", *items)
    if args.changed_since is not None and "MODSEQ" not in items:
        # RFC 7162 section 3.1.4.1
        items = (*items, "MODSEQ")
    return items


def _told(session: ImapSession, asked: tuple[FetchItem, ...]) -> tuple[FetchItem, ...]:
    """The same for messages whose flags are changed by it (RFC 9051 section 6.4.5, RFC 7162 section 3.2.4)."""
    style = session.style
    new = [
        name
        for name, wanted in (("UID", style.uid), ("FLAGS", True), ("MODSEQ", style.condstore))
        if wanted and name not in asked
    ]
    return (*new, *asked)


async def _pieces(
    session: ImapSession,
    args: Fetch,
    said: bytes,
    some: Iterable[Chunk],
    answering: Answering,
    outcome: Outcome,
) -> AsyncIterator[bytes]:
    if said:
        yield said
    if args.vanished and args.changed_since is not None:
        view = session.view
        asked = _asked_uids(view, args.sequence)
        for line in await earlier(view.opened, view.snapshot, asked, args.changed_since):
            yield line
    pieces = answering.pieces(some)
    try:
        async for piece in pieces:
            yield piece
    finally:
        await pieces.aclose()  # type: ignore[attr-defined]  # they are generators
        if answering.seen:
            # Told already, with the content
            session.view.quiet = Quiet(frozenset(answering.seen), StoreMode.ADD, SEEN)
    if answering.unknown_cte:
        outcome.status, outcome.code = "NO", "UNKNOWN-CTE"
        outcome.text = "A content-transfer-encoding is not known"
    elif answering.expunged:
        _gone(outcome)


def _asked_uids(view: View, sequence: SequenceSet) -> Iterable[tuple[int, int]]:
    ranges = sequence.within(view.snapshot.uidnext - 1)
    if not sequence.saved:
        return ranges
    return SequenceSet([*ranges, *SequenceSet.of(view.saved).ranges]).ranges


def _gone(outcome: Outcome) -> None:
    outcome.status, outcome.code = "NO", "EXPUNGEISSUED"
    outcome.text = "Some of the messages are gone"


def _first(some: Iterator[Chunk], count: int) -> Iterator[Chunk]:
    for chunk in some:
        yield chunk
        count -= 1
        if not count:
            return


async def _one(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data


VERBS: Final = (Verb("FETCH", State.SELECTED, fetch, by_uid),)
CAPABILITIES: Final = (
    Capability(
        "BINARY",
        "3516",
        note="APPEND of NUL, or of CR and LF that stand alone, is refused (UNKNOWN-CTE)",
    ),
    Capability("PREVIEW", "8970"),
    Capability("SAVEDATE", "8514"),
)
