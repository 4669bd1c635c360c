"""What a module of `imap.verbs` gives: `VERBS`, and perhaps `CAPABILITIES` and `STREAMS`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..state import State

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ..events import AppendBegin, Command, Event
    from ..session import ImapSession

__all__ = ["Expunges", "Stream", "StreamVerb", "Verb", "always", "by_uid", "never"]

Expunges = Callable[["Command"], bool]
"""Whether EXPUNGE (VANISHED) may be sent while the command is being answered."""


def always(command: Command) -> bool:
    return True


def never(command: Command) -> bool:
    return False


def by_uid(command: Command) -> bool:
    """RFC 9051 section 7.5.1: not during FETCH, STORE and SEARCH; during their UID forms it may be."""
    return bool(command.args.uid)


class Verb(NamedTuple):
    """One command. `states`: where it may be given; `run` answers it; `expunges` as above."""

    name: str
    states: State
    run: Callable[[ImapSession, Command], Awaitable[Answer]]
    expunges: Expunges = always


class Stream(Protocol):
    """What takes the events of one APPEND or REPLACE (`imap.events`), `AppendBegin` first.

    `take` answers each; raises `No` or `Bad` (or MailError) to refuse: the session answers with the tag and REFUSE,
    and calls `discard`. `discard` is called once, always, at the end: after `AppendEnd` was answered, too.
    """

    async def take(self, event: Event) -> Answer: ...

    def discard(self) -> None: ...


class StreamVerb(NamedTuple):
    """APPEND or REPLACE. `make` is called for `AppendBegin`, which is then given to `Stream.take`."""

    name: str
    states: State
    make: Callable[[ImapSession, AppendBegin], Stream]
