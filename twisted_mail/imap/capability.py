"""What CAPABILITY says: exactly what works in this state.

Each module of `imap.verbs` names its capabilities beside its commands, so this list cannot say more than there is;
the table in the documentation is made from `imap.verbs.CAPABILITIES`, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from .state import LOGGED_IN, State

if TYPE_CHECKING:
    from .session import ImapSession

__all__ = ["Capability", "announced", "by_state"]


class Capability(NamedTuple):
    """`name`: as it is announced. `rfc`: its number and perhaps section, such as "7162". `states`: where it is
    announced; `when`: and only when this holds. `dynamic`: gives the words instead of `name` (``AUTH=…``). `note`:
    what of the RFC is not there, or otherwise; Markdown.
    """

    name: str
    rfc: str
    states: State = LOGGED_IN
    when: Callable[[ImapSession], bool] | None = None
    dynamic: Callable[[ImapSession], Iterable[str]] | None = None
    note: str = ""


def by_state(known: Iterable[Capability]) -> dict[State, tuple[Capability, ...]]:
    """Those of `known`, in their order, that may be announced in each single state: it is asked at each greeting."""
    return {state: tuple(one for one in known if state in one.states) for state in State}


def announced(known: Iterable[Capability], session: ImapSession) -> str:
    """The capabilities of this moment, of those of its state."""
    words: list[str] = []
    for one in known:
        if one.when is None or one.when(session):
            if one.dynamic is None:
                words.append(one.name)
            else:
                words += one.dynamic(session)
    return " ".join(words)
