"""Patterns of LIST: ``*`` is anything, ``%`` is anything within a level (RFC 9051 section 6.3.9).

All patterns of a command are one automaton whose states are the bits of a number, so a name costs a
few steps a character, whatever the patterns are: no pattern makes the server think.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

__all__ = ["matcher"]

_WILD: Final = re.compile(r"[*%]+")
_PIECE: Final = re.compile(r"[*%]|[^*%]+")


def matcher(patterns: Iterable[str], separator: str) -> Callable[[str], bool]:
    """What tells whether a name matches one of `patterns`. INBOX does so in any case of letters."""
    wanted: set[str] = set()
    wild: list[str] = []
    for pattern in patterns:
        # "a*%*b" is "a*b": no two wildcards in a row
        short = _WILD.sub(lambda run: "*" if "*" in run[0] else "%", pattern)
        if short == "*":
            return _anything
        if "*" in short or "%" in short:
            wild.append(short)
        else:
            wanted.add(_folded(short, separator))
    if not wild:
        return lambda name: name in wanted
    if not wanted and wild == ["%"]:
        return lambda name: separator not in name
    run = _Automaton(dict.fromkeys(wild), separator).matches
    if not wanted:
        return run
    return lambda name: name in wanted or run(name)


def _anything(name: str) -> bool:
    return True


def _folded(name: str, separator: str) -> str:
    """RFC 9051 section 5.1: INBOX is case-insensitive, and so is it above others."""
    head, _, rest = name.partition(separator)
    if not head.isascii() or head.upper() != "INBOX":
        return name
    return f"INBOX{name[5:]}" if rest or len(name) == 5 else name


class _Automaton:
    """Bit n of a state: the first n pieces of the patterns, written behind one another, have been matched.

    Before each pattern is one bit that nothing leads to but the start.
    """

    def __init__(self, patterns: Iterable[str], separator: str) -> None:
        self._separator = separator
        self._literal: dict[str, int] = {}
        self._any = self._level = self._first = self._last = 0
        at = 0
        for pattern in patterns:
            self._first |= 1 << at
            for piece in _PIECE.findall(pattern):
                for character in piece:
                    if character == "*":
                        self._any |= 1 << at
                    elif character == "%":
                        self._level |= 1 << at
                    else:
                        self._literal[character] = self._literal.get(character, 0) | 1 << at
                    at += 1
            self._last |= 1 << at
            at += 1
        self._skip = self._any | self._level
        self._first |= (self._first & self._skip) << 1

    def matches(self, name: str) -> bool:
        literal, skip, anything = self._literal.get, self._skip, self._any
        separator, level = self._separator, self._level
        state = self._first
        head = 5 if name == "INBOX" or name.startswith("INBOX" + separator) else 0
        for at, character in enumerate(name):
            steps = literal(character, 0)
            if at < head:
                steps |= literal(character.lower(), 0)
            stay = anything if character == separator else skip
            state = (state & steps) << 1 | state & stay
            if not state:
                return False
            # a wildcard may stand for nothing
            state |= (state & (anything | level)) << 1
        return bool(state & self._last)
