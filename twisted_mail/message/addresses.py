"""Lists of addresses (RFC 5322 section 3.4) as IMAP's ENVELOPE gives them (RFC 9051 section 7.5.2), broken ones too.

What is missing or wrong in a list has the words that Dovecot puts in its place (MISSING_DOMAIN, SYNTAX_ERROR), which
clients know; reading a list goes on as far as its does. Nothing is decoded (RFC 2047). No bytes make it raise.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .lexer import BROKEN, END, MORE, Lexer

__all__ = ["MAX_ADDRESSES", "MAX_ODD", "Address", "Budget", "addresses", "usual_address"]

MAX_ADDRESSES: Final = 10_000
"""Of one header; what follows is left out."""
MAX_ODD: Final = 65_536
"""Octets of one header in addresses that do not look as they mostly do."""
_WINDOW: Final = 32_768


class Address(NamedTuple):
    """(name, route, mailbox, domain). RFC 9051 section 7.5.2: a group begins with one whose domain is None and whose
    mailbox is its name, and ends with one of four None."""

    name: bytes | None
    route: bytes | None
    mailbox: bytes | None
    domain: bytes | None


_ATEXT = rb"!#-'*+\-/-9=?A-Z^-~\x80-\xff"
# What nearly all addresses look like; the lexer reads them the same way
usual_address: Final = re.compile(
    rb"[ \t\n]*+"
    rb'(?:(?:"([^"\\\n(]*+)"|([%(a)b][%(a)b.]*+(?: [%(a)b][%(a)b.]*+)*))?[ \t\n]*+'
    rb"<([%(a)b.]+)@([%(a)b]+(?:\.[%(a)b]+)*)>"
    rb"|([%(a)b.]+)@([%(a)b]+(?:\.[%(a)b]+)*))"
    rb"[ \t\n]*+(?:,|\Z)" % {b"a": _ATEXT}
).match


class Budget:
    """What the lists of one header may cost: a worst case of some hundred milliseconds."""

    __slots__ = ("left", "odd")

    def __init__(self) -> None:
        self.left = MAX_ADDRESSES
        self.odd = MAX_ODD


def addresses(value: bytes, budget: Budget | None = None) -> list[Address]:
    """Of a field's value, folded or not, with LF line ends; what is over the budget is left out."""
    budget = budget or Budget()
    out: list[Address] = []
    reader: _Reader | None = None
    base = at = 0
    end = len(value)
    while at < end and len(out) < budget.left:
        found = usual_address(value, at)
        if found is None:
            if budget.odd <= 0:
                break
            if reader is None or at - base > _WINDOW // 2:
                base = at
                reader = _Reader(value[at : at + _WINDOW], out, budget.left)
            before = at
            following = reader.read_one(at - base, at > 0)
            at = base + following
            budget.odd -= max(at - before, 1) if following >= 0 else _WINDOW // 8
            if following < 0:
                break
            continue
        quoted, words, mailbox, domain, bare, bare_domain = found.groups()
        if mailbox is not None:
            out.append(Address(quoted or words or None, None, mailbox, domain))
        else:
            out.append(Address(None, None, bare, bare_domain))
        at = found.end()
    budget.left -= len(out)
    return out


class _Reader:
    __slots__ = ("_domain", "_invalid", "_lexer", "_limit", "_mailbox", "_name", "_out", "_route")

    def __init__(self, value: bytes, out: list[Address], limit: int) -> None:
        self._lexer = Lexer(value)
        self._out = out
        self._limit = limit
        self._clear()

    def _clear(self) -> None:
        self._name: bytes | None = None
        self._route: bytes | None = None
        self._mailbox: bytes | None = None
        self._domain: bytes | None = None
        self._invalid = False

    def read_one(self, at: int, after_comma: bool) -> int:
        """Read the address at `at`; where the next one begins, -1 when none does."""
        lexer = self._lexer
        lexer.at = at
        state = lexer.skip()
        if state == BROKEN and after_comma:
            # The list ends with some garbage
            self._add_filled()
        if state != MORE or self._address() == END or not lexer.next_is(_COMMA):
            return -1
        return lexer.at + 1

    def _add(self) -> None:
        self._out.append(Address(self._name, self._route, self._mailbox, self._domain))
        self._clear()

    def _add_filled(self) -> None:
        self._mailbox = b"MISSING_MAILBOX" if self._mailbox is None else self._mailbox
        self._domain = self._domain or b"MISSING_DOMAIN"
        self._add()

    def _address(self) -> int:
        """RFC 5322 section 3.4: mailbox or group."""
        lexer = self._lexer
        start = lexer.at
        lexer.text.clear()
        if lexer.phrase() == MORE and lexer.next_is(_COLON):
            return self._group(lexer.taken())
        lexer.at = start
        return self._mailbox_of_list()

    def _group(self, name: bytes) -> int:
        lexer = self._lexer
        lexer.at += 1
        state = lexer.skip()
        self._mailbox = name
        self._add()
        if state == MORE and not lexer.next_is(_SEMICOLON):
            while len(self._out) < self._limit:
                self._mailbox_of_list()
                if not lexer.next_is(_COMMA):
                    break
                lexer.at += 1
                if lexer.skip() != MORE:
                    state = BROKEN
                    break
        if state != BROKEN:
            if lexer.next_is(_SEMICOLON):
                lexer.at += 1
                state = lexer.skip()
            else:
                state = BROKEN
        self._add()
        return END if state == END else MORE

    def _mailbox_of_list(self) -> int:
        lexer = self._lexer
        start = lexer.at
        state = self._name_addr()
        if state == BROKEN:
            lexer.at = start
            state = self._addr_spec()
            if (
                self._invalid
                and self._name is None
                and self._mailbox is not None
                and self._domain is None
            ):
                self._name, self._mailbox = self._mailbox, None
        self._add_filled()
        return state

    def _name_addr(self) -> int:
        lexer = self._lexer
        lexer.text.clear()
        if lexer.phrase() != MORE or not lexer.next_is(_LESS):
            return BROKEN
        self._name = lexer.taken() or None
        if self._angle_addr() == BROKEN:
            self._domain = b"SYNTAX_ERROR"
        return MORE if lexer.at < lexer.end else END

    def _angle_addr(self) -> int:
        lexer = self._lexer
        lexer.at += 1
        if lexer.skip() != MORE:
            return BROKEN
        if lexer.next_is(_AT):
            if self._source_route() and lexer.next_is(_COLON):
                lexer.at += 1
            else:
                self._route = b"INVALID_ROUTE"
            if lexer.skip() != MORE:
                return BROKEN
        if not lexer.next_is(_GREATER) and (
            self._local_part() != MORE or (lexer.next_is(_AT) and self._read_domain() != MORE)
        ):
            return BROKEN
        if not lexer.next_is(_GREATER):
            return BROKEN
        lexer.at += 1
        return lexer.skip()

    def _source_route(self) -> bool:
        """RFC 5322 section 4.4: obs-route. Whether something follows."""
        lexer = self._lexer
        lexer.text.clear()
        while lexer.at < lexer.end:
            if not lexer.next_is(_AT):
                self._route = lexer.taken()
                return True
            lexer.text += b",@" if lexer.text else b"@"
            if lexer.domain() != MORE:
                return False
            while lexer.skip() == MORE and lexer.next_is(_COMMA):
                lexer.at += 1
        return False

    def _local_part(self) -> int:
        lexer = self._lexer
        lexer.text.clear()
        state = lexer.quoted_string() if lexer.next_is(_QUOTE) else lexer.loose_dot_atom()
        if state != BROKEN:
            self._mailbox = bytes(lexer.text)
        return state

    def _read_domain(self) -> int:
        lexer = self._lexer
        lexer.text.clear()
        state = lexer.domain()
        if state != BROKEN:
            self._domain = bytes(lexer.text)
        return state

    def _addr_spec(self) -> int:
        lexer = self._lexer
        lexer.comment = b""
        quoted = lexer.next_is(_QUOTE)
        state = self._local_part()
        if state != MORE:
            self._invalid = True
        has_domain = False
        if state != END and lexer.next_is(_AT):
            has_domain = True
            of_domain = self._read_domain()
            if of_domain != MORE:
                state = of_domain
        if lexer.comment:
            # RFC 822's way to name whose address it is
            self._name = lexer.comment
        elif not has_domain:
            # A word alone is a mailbox; with more words behind it, a name
            lexer.text += b" "
            before = len(lexer.text)
            lexer.phrase()
            if len(lexer.text) != before:
                self._mailbox = None
                self._name = bytes(lexer.text)
            elif not quoted:
                self._domain = b""
            self._invalid = True
            state = BROKEN
        return state


_COMMA, _COLON, _SEMICOLON, _LESS, _GREATER, _AT, _QUOTE = b',:;<>@"'
