"""FETCH of messages that nobody asked for: what MessageNew (…) of NOTIFY wants (RFC 5465 section 5.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from .fetch_answer import Answering
from .fetch_chosen import CHUNK, LOOKED_UP, choose, chunks
from .fetch_large import Mark
from .fetch_plan import plan
from .fetching import FetchItem

if TYPE_CHECKING:
    from .sequence import Positions
    from .session import ImapSession
    from .view import View

__all__ = ["fetched"]


def fetched(
    session: ImapSession, view: View, positions: Positions, items: Sequence[FetchItem]
) -> AsyncIterator[bytes]:
    """The responses, in blocks."""
    asked = tuple(items) if "UID" in items or not session.style.uid else ("UID", *items)
    wanted = plan(asked, rev2=session.rev2)

    answering = Answering(view, wanted, wanted, Mark(), session.world.turns)
    spans = choose(view, positions).spans
    return answering.pieces(chunks(spans, LOOKED_UP if wanted.columns else CHUNK))
