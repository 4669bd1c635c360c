"""Whether a regular expression can take exponential time: whether some text can be read by it in two ways, again and
again (Weideman, Van der Merwe, Berglund, Watson: "Analyzing matching time behavior of backtracking regular expression
matchers by using ambiguity of NFA", 2016).

`ambiguous` makes Glushkov's automaton of the pattern: a state for each place in it that reads a character, an edge for
each way from one to the next. Two ways round from a state to itself that read the same text are what backtracking tries
in all combinations. Possessive repeats and atomic groups are tried in one way only. Look-arounds, and bounds of repeats
over _FEW, are passed over, so it says "ambiguous" too often rather than too seldom; back references count for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

_ALL = (1 << 384) - 1
"""Characters up to U+017F, as bits: what is above behaves like one of them."""
_FEW = 4
"""Turns of a repeat that are told apart; more of them are taken for any number."""
_CATEGORIES = {
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}


class Piece(NamedTuple):
    """Of a pattern: with which states it may begin and end, whether it may be empty."""

    first: tuple[int, ...]
    last: tuple[int, ...]
    empty: bool


_NOTHING = Piece((), (), True)


class _Automaton:
    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.reads: list[int] = []
        self.edges: list[list[int]] = []
        """From each state; one that is there twice can be gone in two ways."""

    def state(self, characters: int) -> Piece:
        if self.flags & re.IGNORECASE:
            for lower in range(ord("a"), ord("z") + 1):
                both = (1 << lower) | (1 << (lower - 32))
                if characters & both:
                    characters |= both
        self.reads.append(characters)
        self.edges.append([])
        one = (len(self.reads) - 1,)
        return Piece(one, one, False)

    def join(self, left: Piece, right: Piece) -> Piece:
        for at in left.last:
            self.edges[at] += right.first
        return Piece(
            left.first + right.first if left.empty else left.first,
            right.last + left.last if right.empty else right.last,
            left.empty and right.empty,
        )

    def repeat(self, one: Piece) -> Piece:
        for at in one.last:
            self.edges[at] += one.first
        return one

    def all(self, items: Iterable[Any]) -> Piece:
        whole = _NOTHING
        for item in items:
            whole = self.join(whole, self.item(*item))
        return whole

    def item(self, code: Any, value: Any) -> Piece:
        if code is sre.LITERAL:
            return self.state(_bit(value))
        if code is sre.NOT_LITERAL:
            return self.state(_ALL & ~_bit(value))
        if code is sre.ANY:
            return self.state(_ALL if self.flags & re.DOTALL else _ALL & ~_bit(10))
        if code is sre.IN:
            return self.state(_class(value))
        if code is sre.BRANCH:
            ways = [self.all(way) for way in value[1]]
            return Piece(
                tuple(one for way in ways for one in way.first),
                tuple(one for way in ways for one in way.last),
                any(way.empty for way in ways),
            )
        if code is sre.SUBPATTERN:
            return self.all(value[3])
        if code in (sre.ATOMIC_GROUP, sre.POSSESSIVE_REPEAT):
            # In one way only: as if it were one state
            inner = _Automaton(self.flags)
            items = value if code is sre.ATOMIC_GROUP else value[2]
            once = inner.all(items)
            reads = 0
            for one in inner.reads:
                reads |= one
            alone = self.state(reads)
            optional = once.empty or (code is sre.POSSESSIVE_REPEAT and value[0] == 0)
            return alone._replace(empty=optional)
        if code in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            least, most, items = value
            if most <= _FEW:
                whole = _NOTHING
                for number in range(most):
                    once = self.all(items)
                    once = once._replace(empty=once.empty or number >= least)
                    whole = self.join(whole, once)
                return whole
            once = self.all(items)
            return self.repeat(once)._replace(empty=once.empty or least == 0)
        # AT, look-arounds, back references
        return _NOTHING


def ambiguous(pattern: re.Pattern[Any]) -> str | None:
    """The places (by what they read) of two ways round; None when there are none."""
    text = pattern.pattern
    source: Any = text.decode("latin-1") if isinstance(text, bytes) else text
    automaton = _Automaton(pattern.flags)
    automaton.all(_parser.parse(source, pattern.flags & ~re.UNICODE & ~re.LOCALE))
    reads, edges = automaton.reads, automaton.edges
    loops = _components(range(len(reads)), lambda at: edges[at])
    for at, targets in enumerate(edges):
        for target in set(targets):
            if targets.count(target) > 1 and loops[at] == loops[target]:
                return _shown(reads[at])
    # Both ways stay in one loop of the pattern
    pairs = [(p, q) for p in range(len(reads)) for q in range(len(reads)) if loops[p] == loops[q]]

    def following(pair: tuple[int, int]) -> Iterator[tuple[int, int]]:
        for one in set(edges[pair[0]]):
            for other in set(edges[pair[1]]):
                if loops[one] == loops[other] == loops[pair[0]] and reads[one] & reads[other]:
                    yield one, other

    found = _components(pairs, following)
    together = {found[p, q] for p, q in pairs if p == q}
    for p, q in pairs:
        if p != q and found[p, q] in together:
            return f"{_shown(reads[p])} and {_shown(reads[q])}"
    return None


def _components(nodes: Iterable[Any], following: Any) -> dict[Any, int]:
    """Node → number of its strongly connected component (Tarjan, without recursion)."""
    index: dict[Any, int] = {}
    low: dict[Any, int] = {}
    component: dict[Any, int] = {}
    stack: list[Any] = []
    for root in nodes:
        if root in index:
            continue
        work = [(root, iter(following(root)))]
        index[root] = low[root] = len(index)
        stack.append(root)
        while work:
            node, rest = work[-1]
            for one in rest:
                if one not in index:
                    index[one] = low[one] = len(index)
                    stack.append(one)
                    work.append((one, iter(following(one))))
                    break
                if one not in component:
                    low[node] = min(low[node], index[one])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    while True:
                        one = stack.pop()
                        component[one] = index[node]
                        if one == node:
                            break
    return component


def _bit(character: int) -> int:
    return 1 << min(character, 383)


def _class(items: Iterable[Any]) -> int:
    characters = 0
    inverted = False
    for code, value in items:
        if code is sre.NEGATE:
            inverted = True
        elif code is sre.LITERAL:
            characters |= _bit(value)
        elif code is sre.RANGE:
            low, high = min(value[0], 383), min(value[1], 383)
            characters |= (1 << (high + 1)) - (1 << low)
        elif code is sre.CATEGORY:
            is_one = re.compile(_CATEGORIES[value]).fullmatch
            characters |= sum(1 << one for one in range(384) if is_one(chr(one)))
    return _ALL & ~characters if inverted else characters


def _shown(characters: int) -> str:
    some = [chr(one) for one in range(384) if characters >> one & 1]
    return repr("".join(some[:12]) + ("…" if len(some) > 12 else ""))
