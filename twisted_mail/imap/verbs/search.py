"""SEARCH and UID SEARCH (RFC 9051 section 6.4.4): with RETURN (RFC 4731), ``$`` (RFC 5182), MODSEQ (RFC 7162), OLDER
and YOUNGER (RFC 5032), INPROGRESS (RFC 9585)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from ..capability import Capability
from ..search import Search, uses_mod_sequence
from ..search_answer import esearch, plain, result, to_save
from ..search_run import run
from ..state import State
from .registry import Verb, by_uid

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ..commands import Search as SearchArguments
    from ..events import Command
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "VERBS"]

_ALL: Final = frozenset(("ALL",))


async def search(session: ImapSession, command: Command) -> Answer:
    args: SearchArguments = command.args
    mod_sequence = uses_mod_sequence(args.key)
    view = session.view
    returns = args.returns
    if returns is None and session.rev2:
        # RFC 9051 section 6.4.4: SEARCH without RETURN is answered by ESEARCH
        returns = _ALL
    saves = returns is not None and "SAVE" in returns

    async def finish(search: Search, selected: int) -> tuple[Iterable[bytes], str]:
        found = await result(view, search, selected, args.uid, mod_sequence, saves)
        if returns is None:
            return plain(b"SEARCH", found), ""
        if saves:
            view.saved = to_save(returns, found, found.uids)
        text = f"{command.name} completed, result saved" if saves else ""
        return esearch(command.tag, args.uid, returns, found), text

    return await run(session, command, finish, saves=saves)


VERBS: Final = (Verb("SEARCH", State.SELECTED, search, by_uid),)
CAPABILITIES: Final = (
    Capability("ESEARCH", "4731"),
    Capability("SEARCHRES", "5182"),
    Capability("WITHIN", "5032"),
    Capability(
        "INPROGRESS", "9585", note="COPY and MOVE say that they go on, not how far they are"
    ),
)
