"""The commands of IMAP, one small module each or for a few that belong together.

To add one: write a module that has

    VERBS = (Verb("NOOP", ANY, noop),)

where ``async def noop(session: ImapSession, command: Command) -> Answer`` answers it, perhaps `CAPABILITIES` (a tuple
of `capability.Capability`) and `STREAMS` (a tuple of `StreamVerb`), and name it here in `MODULES`. What a command may
use stands at the head of `imap.session`.
"""

from __future__ import annotations

from types import ModuleType
from typing import Final

from ..capability import Capability
from . import (
    any_state,
    append,
    compress,
    copy,
    enable,
    expunge,
    fetch,
    folders,
    idle,
    listing,
    login,
    metadata,
    move,
    notify,
    quota,
    search,
    select,
    sort,
    status,
    store,
    thread,
)
from .registry import StreamVerb, Verb

__all__ = ["CAPABILITIES", "MODULES", "STREAMS", "VERBS"]

MODULES: Final[tuple[ModuleType, ...]] = (
    any_state,
    login,
    enable,
    idle,
    select,
    notify,
    fetch,
    store,
    expunge,
    copy,
    move,
    search,
    sort,
    thread,
    compress,
    listing,
    folders,
    status,
    append,
    quota,
    metadata,
)
"""In the order in which their capabilities are announced."""

VERBS: Final[dict[str, Verb]] = {
    verb.name: verb for module in MODULES for verb in getattr(module, "VERBS", ())
}
STREAMS: Final[dict[str, StreamVerb]] = {
    stream.name: stream for module in MODULES for stream in getattr(module, "STREAMS", ())
}
CAPABILITIES: Final[tuple[Capability, ...]] = tuple(
    one for module in MODULES for one in getattr(module, "CAPABILITIES", ())
)
