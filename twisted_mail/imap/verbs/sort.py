"""SORT and UID SORT (RFC 5256 section 3), by display names (RFC 5957), with RETURN (RFC 5267)."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from ...message.ordering import sorted_in_turns
from ..capability import Capability
from ..search import Search, uses_mod_sequence
from ..search_answer import Result, esearch, plain, result, to_save
from ..search_run import breath, in_turns, run
from ..state import State
from .registry import Verb, by_uid

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ..commands import Sort, SortCriterion
    from ..events import Command
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "VERBS"]

SLICE: Final = 16_384
"""Messages whose numbers are put in order in one go: some ms."""
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
    args: Sort = command.args
    mod_sequence = uses_mod_sequence(args.key)
    view = session.view
    breathe = breath(session)
    returns = args.returns
    saves = returns is not None and "SAVE" in returns

    async def finish(search: Search, selected: int) -> tuple[Iterable[bytes], str]:
        found = await result(view, search, selected, args.uid, mod_sequence)
        order = await _order(session, search, selected, found, args, breathe)
        numbers = await _ordered(found.numbers, order, breathe)
        uids = numbers if args.uid else array("I")
        if saves and not args.uid:
            uids = await _ordered(found.uids, order, breathe)
        modseqs = await _ordered(found.modseqs, order, breathe) if mod_sequence else array("Q")
        in_order = Result(numbers, uids, modseqs, True)
        if returns is None:
            return plain(b"SORT", in_order), ""
        if saves:
            view.saved = to_save(returns, in_order, found.uids)
        return esearch(command.tag, args.uid, returns, in_order), ""

    return await run(session, command, finish, saves=saves)


async def _order(
    session: ImapSession,
    search: Search,
    selected: int,
    found: Result,
    args: Sort,
    breathe: Callable[[], Awaitable[None]],
) -> Sequence[int]:
    """Indexes into `found`, sorted. What went meanwhile is left out."""
    criteria: dict[str, SortCriterion] = {}
    for one in args.criteria:
        # What has been sorted by before has no ties left in a second time
        criteria.setdefault(one.key, one)
    names = [_COLUMNS[key] for key in criteria if key in _COLUMNS]
    known: dict[str, Sequence[Any]] = {}
    if "SIZE" in criteria:
        known["SIZE"] = tuple(search.chosen(selected, search.snapshot.sizes))
    if "ARRIVAL" in criteria or "DATE" in criteria:
        known["ARRIVAL"] = tuple(search.chosen(selected, search.snapshot.dates))
    order: Sequence[int] = range(len(found.uids))
    if names:
        order, columns = await _looked_up(
            session, found.uids, names, known.get("ARRIVAL", ()), breathe
        )
        known |= columns
    # RFC 5256 section 3: ties go by sequence number, with REVERSE too. The least important first, as sorts are stable
    for criterion in reversed(criteria.values()):
        values = known[_COLUMNS.get(criterion.key, criterion.key)]
        order = await in_turns(
            sorted_in_turns(order, values.__getitem__, criterion.reverse), breathe
        )
    return order


async def _looked_up(
    session: ImapSession,
    uids: Sequence[int],
    names: Sequence[str],
    dates: Sequence[int],
    breathe: Callable[[], Awaitable[None]],
) -> tuple[list[int], dict[str, Sequence[Any]]]:
    """Indexes of those of `uids` that are there, and the columns `names`, parallel to `uids` up to the last of them.

    In tuples: the garbage collector looks once at what they hold, but through lists again and again, all at once.
    """
    order: list[int] = []
    parts: list[list[tuple[Any, ...]]] = [[] for _ in names]
    at = 0
    async for rows in session.opened.columns(uids, names):
        await breathe()
        if rows:
            here, *values = zip(*rows, strict=True)
            places = _places(here, uids, at)
            begin, at = at, places[-1] + 1
            order += places
            for name, column, some in zip(names, parts, values, strict=True):
                if name == "sent":
                    # RFC 5256 section 2.2: without a date, that of the arrival
                    some = tuple(
                        dates[place] if sent is None else sent
                        for sent, place in zip(some, places, strict=True)
                    )
                column.append(some if at - begin == len(some) else _spread(some, places, begin))
    columns: dict[str, Sequence[Any]] = {}
    for name, column in zip(names, parts, strict=True):
        columns[name] = tuple(chain.from_iterable(column))
        await breathe()
    return order, columns


def _spread(some: Iterable[Any], places: Sequence[int], begin: int) -> tuple[Any, ...]:
    """What is at `places`, from `begin` to the last of them; None between."""
    made: list[Any] = [None] * (places[-1] + 1 - begin)
    for place, value in zip(places, some, strict=True):
        made[place - begin] = value
    return tuple(made)


def _places(here: Sequence[int], uids: Sequence[int], at: int) -> Sequence[int]:
    """Where in `uids`, from `at` on, those of `here` are, all of which are there; both are ascending."""
    stop = at + len(here)
    if stop <= len(uids) and uids[at] == here[0] and uids[stop - 1] == here[-1]:
        return range(at, stop)
    places = []
    for uid in here:
        at = bisect_left(uids, uid, at)
        places.append(at)
    return places


async def _ordered(
    values: Sequence[int], order: Sequence[int], breathe: Callable[[], Awaitable[None]]
) -> array[int]:
    """Those of `values` that `order` names."""
    assert isinstance(values, array)
    made: array[int] = array(values.typecode)
    for start in range(0, len(order), SLICE):
        made.extend(map(values.__getitem__, order[start : start + SLICE]))
        if len(order) > SLICE:
            await breathe()
    return made


VERBS: Final = (Verb("SORT", State.SELECTED, sort, by_uid),)
CAPABILITIES: Final = (
    Capability("SORT", "5256"),
    Capability("SORT=DISPLAY", "5957"),
    Capability("ESORT", "5267"),
)
