"""SORT and UID SORT (RFC 5256 section 3), by display names (RFC 5957), with RETURN (RFC 5267)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..capability import Capability
from ..search import Search, uses_mod_sequence
from ..search_answer import Result, esearch, plain, result, to_save
from ..search_run import breath, run
from ..state import State
from .registry import Verb, by_uid

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ..commands import Sort
    from ..events import Command
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "VERBS"]

RUN: Final = 8192
"""Messages that are sorted in one go: some ms."""
_COLUMNS: Final = {
    "CC": "sort_cc",
    "DATE": "sent",
    "DISPLAYFROM": "display_from",
    "DISPLAYTO": "display_to",
    "FROM": "sort_from",
    "SUBJECT": "base_subject",
    "TO": "sort_to",
}
"""What is looked up; ARRIVAL and SIZE the snapshot has."""


async def sort(session: ImapSession, command: Command) -> Answer:
    args: Sort = command.args  # type: ignore[assignment]
    mod_sequence = uses_mod_sequence(args.key)
    view = session.view
    breathe = breath(session)
    returns = args.returns
    saves = returns is not None and "SAVE" in returns

    async def finish(search: Search, selected: int) -> tuple[Iterable[bytes], str]:
        found = await result(view, search, selected, args.uid, mod_sequence)
        order = await _order(session, search, selected, found, args, breathe)
        found = Result(
            [found.numbers[at] for at in order],
            [found.uids[at] for at in order],
            [found.modseqs[at] for at in order] if mod_sequence else (),
            True,
        )
        if returns is None:
            return plain(b"SORT", found), ""
        if saves:
            view.saved = to_save(returns, found)
        return esearch(command.tag, args.uid, returns, found), ""

    return await run(session, command, finish, saves=saves)


async def _order(
    session: ImapSession,
    search: Search,
    selected: int,
    found: Result,
    args: Sort,
    breathe: Callable[[], Awaitable[None]],
) -> list[int]:
    """Indexes into `found`, sorted. What went meanwhile is left out."""
    names = list(dict.fromkeys(_COLUMNS[one.key] for one in args.criteria if one.key in _COLUMNS))
    dates = list(search.chosen(selected, search.snapshot.dates))
    known: dict[str, list[Any]] = {
        "ARRIVAL": dates,
        "SIZE": list(search.chosen(selected, search.snapshot.sizes)),
    }
    order: list[int] = list(range(len(dates)))
    if names:
        place = {uid: at for at, uid in enumerate(found.uids)}
        columns: list[list[Any]] = [[""] * len(dates) for _ in names]
        order = []
        async for rows in session.opened.columns(found.uids, names):
            for uid, *values in rows:
                at = place[uid]
                order.append(at)
                for column, value in zip(columns, values, strict=True):
                    column[at] = value
            await breathe()
        known |= dict(zip(names, columns, strict=True))
        if "sent" in known:
            # RFC 5256 section 2.2: without a date, that of the arrival
            known["sent"] = [
                date if sent is None or sent == "" else sent
                for sent, date in zip(known["sent"], dates, strict=True)
            ]
        order.sort()
    # RFC 5256 section 3: ties go by sequence number, with REVERSE too. The least important first, as sorts are stable
    for criterion in reversed(args.criteria):
        values = known[_COLUMNS.get(criterion.key, criterion.key)]
        order = await _sorted(order, values.__getitem__, criterion.reverse, breathe)
    return order


async def _sorted(
    order: Sequence[int],
    key: Callable[[int], Any],
    reverse: bool,
    breathe: Callable[[], Awaitable[None]],
) -> list[int]:
    """Stable, a run at a time: where two runs are joined, sorting them is merging them."""
    runs = [
        sorted(order[start : start + RUN], key=key, reverse=reverse)
        for start in range(0, len(order), RUN)
    ]
    while len(runs) > 1:
        joined = []
        for at in range(0, len(runs), 2):
            pair = [one for some in runs[at : at + 2] for one in some]
            pair.sort(key=key, reverse=reverse)
            joined.append(pair)
            await breathe()
        runs = joined
    return runs[0] if runs else []


VERBS: Final = (Verb("SORT", State.SELECTED, sort, by_uid),)
CAPABILITIES: Final = (
    Capability("SORT", "5256"),
    Capability("SORT=DISPLAY", "5957"),
    Capability("ESORT", "5267"),
)
