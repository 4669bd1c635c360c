"""The small parts of the grammar (RFC 9051 section 9): atoms, strings, numbers, flags, names.

A `Reader` goes over one command as it came, literals in place (``{5}`` CRLF and the octets). What
does not fit is `Malformed`, whose text never has anything of the command in it: there may be a
password there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal, NoReturn, TypeVar

from .names import mailbox_name
from .sequence import SequenceSet

__all__ = ["LITERAL_AT_END", "MAX_UNSIGNED_32", "MAX_UNSIGNED_63", "Malformed", "Reader"]

T = TypeVar("T")

MAX_UNSIGNED_32: Final = (1 << 32) - 1
MAX_UNSIGNED_63: Final = (1 << 63) - 1
MAX_SEARCH_KEYS: Final = 5000
"""Keys of one SEARCH, all levels together."""

_ATOM: Final = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_ASTRING: Final = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\]+')
_LIST_MAILBOX: Final = re.compile(rb'[^\x00-\x20\x7f(){"\\]+')
_QUOTED: Final = re.compile(rb'"([^"\\\r\n\x00]*(?:\\["\\][^"\\\r\n\x00]*)*)"')
_ESCAPED: Final = re.compile(rb'\\(["\\])')
_LITERAL: Final = re.compile(rb"(~?)\{([0-9]{1,40})\+?\}\r?\n")
LITERAL_AT_END: Final = re.compile(rb"(~?)\{([0-9]{1,40})(\+?)\}\Z")
"""A literal announced at the end of a line: literal8, size, non-synchronising (RFC 7888, 3516)."""
_NUMBER: Final = re.compile(rb"[0-9]{1,19}")
_SEQUENCE: Final = re.compile(rb"[0-9*$:,]+")
_FLAG: Final = rb'(?:\\?[^\x00-\x20\x7f-\xff(){%*"\\\]]+)'
_FLAG_LIST: Final = re.compile(rb"\((" + _FLAG + rb"(?: " + _FLAG + rb")*+)?\)")
_FLAGS: Final = re.compile(_FLAG + rb"(?: " + _FLAG + rb")*+")
_WORDS: Final = re.compile(rb'\(([^\x00-\x1f\x7f-\xff(){%*"\\\]]*)\)')
# RFC 9051 section 2.3.2
_SYSTEM_FLAGS: Final = {
    flag.lower().encode(): flag
    for flag in ("\\Answered", "\\Deleted", "\\Draft", "\\Flagged", "\\Recent", "\\Seen")
}


class Malformed(Exception):
    """What came is not IMAP, or more than is allowed: ``tag status [code] text``."""

    def __init__(self, text: str, code: str = "", status: Literal["BAD", "NO"] = "BAD") -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.status: Literal["BAD", "NO"] = status
        self.tag = b"*"


class Reader:
    """Reads `data` from `at`. `utf8`: how mailbox names come (`names.mailbox_name`)."""

    __slots__ = ("at", "data", "keys_left", "utf8")

    def __init__(self, data: bytes, at: int = 0, *, utf8: bool = False) -> None:
        self.data = data
        self.at = at
        self.utf8 = utf8
        self.keys_left = MAX_SEARCH_KEYS

    # -- punctuation

    def sp(self) -> None:
        if not self.data.startswith(b" ", self.at):
            raise Malformed("a space or an argument is missing")
        self.at += 1

    def take(self, text: bytes) -> bool:
        """Go over `text` if it comes next."""
        if self.data.startswith(text, self.at):
            self.at += len(text)
            return True
        return False

    def take_word(self, word: bytes) -> bool:
        """As `take`, in any case; `word` is in upper case."""
        end = self.at + len(word)
        if self.data[self.at : end].upper() == word:
            self.at = end
            return True
        return False

    def need(self, text: bytes) -> None:
        if not self.take(text):
            raise Malformed(f"{text.decode('ascii')} is missing")

    def comes(self, text: bytes) -> bool:
        return self.data.startswith(text, self.at)

    def at_end(self) -> bool:
        return self.at >= len(self.data)

    def end(self) -> None:
        """Nothing more may come; blanks at the end are passed over, as some clients send them."""
        if self.at < len(self.data) and self.data[self.at :].strip(b" "):
            raise Malformed("there is more than the command takes")

    # -- words and strings

    def atom(self) -> bytes:
        found = _ATOM.match(self.data, self.at)
        if found is None:
            raise Malformed("an atom is missing")
        self.at = found.end()
        return found[0]

    def word(self) -> str:
        """An atom in upper case."""
        return self.atom().upper().decode("ascii")

    def words(self) -> list[str]:
        """``(A B)``, possibly empty, in upper case."""
        found = _WORDS.match(self.data, self.at)
        if found is None:
            raise Malformed("a list of words in parentheses is missing")
        self.at = found.end()
        words = found[1].upper().decode("ascii")
        if not words:
            return []
        made = words.split(" ")
        if "" in made:
            raise Malformed("a word is missing between two spaces")
        return made

    def astring(self) -> bytes:
        found = _ASTRING.match(self.data, self.at)
        if found is not None:
            self.at = found.end()
            return found[0]
        return self.string()

    def string(self, *, literal8: bool = False) -> bytes:
        """Quoted or literal. Octets over 127 in quotes are taken (RFC 9051 and RFC 6855 allow UTF-8
        there, and older clients send it unasked)."""
        data = self.data
        found = _QUOTED.match(data, self.at)
        if found is not None:
            self.at = found.end()
            text = found[1]
            return _ESCAPED.sub(rb"\1", text) if b"\\" in text else text
        found = _LITERAL.match(data, self.at)
        if found is None:
            raise Malformed("a string is missing or has no end")
        start = found.end()
        end = start + int(found[2])
        if end > len(data):
            raise Malformed("a literal is incomplete")
        self.at = end
        literal = data[start:end]
        if found[1]:
            if not literal8:
                raise Malformed("a literal8 cannot stand here")
        elif b"\0" in literal:
            raise Malformed("NUL in a literal")  # RFC 9051 section 4.3
        return literal

    def nil(self) -> bool:
        """Goes over NIL, which is no part of a longer atom."""
        found = _ASTRING.match(self.data, self.at)
        if found is not None and found[0].upper() == b"NIL":
            self.at = found.end()
            return True
        return False

    def nstring(self, *, literal8: bool = False) -> bytes | None:
        return None if self.nil() else self.string(literal8=literal8)

    # -- numbers

    def number(self, greatest: int = MAX_UNSIGNED_32, least: int = 0) -> int:
        found = _NUMBER.match(self.data, self.at)
        if found is None:
            raise Malformed("a number is missing")
        number = int(found[0])
        if not least <= number <= greatest:
            raise Malformed("a number is out of range")
        self.at = found.end()
        return number

    def mod_sequence(self, least: int = 0) -> int:
        """RFC 7162 section 7: 63 bits."""
        return self.number(MAX_UNSIGNED_63, least)

    def sequence(self) -> SequenceSet:
        found = _SEQUENCE.match(self.data, self.at)
        if found is None:
            raise Malformed("a set of message numbers is missing")
        try:
            made = SequenceSet.parse(found[0])
        except ValueError as error:
            raise Malformed(str(error)) from None
        self.at = found.end()
        return made

    # -- names

    def mailbox(self) -> str:
        return self._name(self.astring(), mailbox_name)

    def list_mailbox(self, name: Callable[[bytes, bool], str]) -> str:
        """A pattern: wildcards may stand in it unquoted."""
        found = _LIST_MAILBOX.match(self.data, self.at)
        if found is None:
            return self._name(self.string(), name)
        self.at = found.end()
        return self._name(found[0], name)

    def _name(self, raw: bytes, name: Callable[[bytes, bool], str]) -> str:
        try:
            return name(raw, self.utf8)
        except ValueError as error:
            # RFC 5530 section 3: it can never succeed
            raise Malformed(str(error), "CANNOT", "NO") from None

    def flag_list(self) -> tuple[str, ...]:
        """``(\\Seen $Forwarded)``, possibly empty."""
        found = _FLAG_LIST.match(self.data, self.at)
        if found is None:
            raise Malformed("a list of flags is missing or not valid")
        self.at = found.end()
        return flags(found[1]) if found[1] else ()

    def bare_flags(self) -> tuple[str, ...]:
        found = _FLAGS.match(self.data, self.at)
        if found is None:
            raise Malformed("a flag is missing or not valid")
        self.at = found.end()
        return flags(found[0])

    def list_of(self, one: Callable[[], T]) -> tuple[T, ...]:
        """``(one one)``, at least one."""
        self.need(b"(")
        made = [one()]
        while self.take(b" "):
            made.append(one())
        self.need(b")")
        return tuple(made)

    def fail(self, text: str) -> NoReturn:
        raise Malformed(text)


def flags(text: bytes) -> tuple[str, ...]:
    """Flags in their spelling, none twice in any case; ``\\Recent`` is left out: it cannot be set, and
    clients that copy from another server send it."""
    made: dict[str, str] = {}
    for raw in text.split(b" "):
        if raw.startswith(b"\\"):
            system = _SYSTEM_FLAGS.get(raw.lower())
            if system is None:
                raise Malformed("there is no such system flag")
            if system != "\\Recent":
                made[system.lower()] = system
        else:
            keyword = raw.decode("ascii")
            made.setdefault(keyword.lower(), keyword)
    return tuple(made.values())
