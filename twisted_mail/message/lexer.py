"""The words of a structured header field (RFC 5322 section 3.2, RFC 2045 section 5.1): atoms, quoted strings, comments.

A field's value is read from left to right, and what cannot be read is told from what is over, so that a broken field
still says something: every reader of broken mail agrees with Dovecot, octet by octet. No bytes make it raise; each
octet is looked at once by each method. NULs stay: who writes the text out has no place for them (`nstring`).
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["BROKEN", "END", "MORE", "Lexer"]

BROKEN: Final = -1
END: Final = 0
MORE: Final = 1

# RFC 5322 section 3.2.3: atext; RFC 6532 section 3.2: and what is not ASCII
_ATEXT = rb"!#-'*+\-/-9=?A-Z^-~\x80-\xff"
_atom = re.compile(rb"[%b]+" % _ATEXT).match
_atom_or_dots = re.compile(rb"[.%b]*" % _ATEXT).match
# RFC 2045 section 5.1: without tspecials
_token = re.compile(rb"[!#-'*+\-.0-9A-Z^-~\x80-\xff]*").match
_blank = re.compile(rb"[ \t\r\n]*").match
_comment_mark = re.compile(rb"[()\\]").search
_quoted_mark = re.compile(rb'["\\]').search
_literal_mark = re.compile(rb"[\[\]\\]").search
_quoted_pair = re.compile(rb"\\([^\r\n\0])", re.DOTALL)
_line_end = re.compile(rb"\r?\n")
_word_starts: Final = frozenset(
    byte
    for byte in range(256)
    if _atom_or_dots(bytes((byte,))).end() or byte == 0x22  # type: ignore[union-attr]
)


class Lexer:
    """Over one value. Methods give BROKEN, END (it was read, nothing follows) or MORE, and append to `text`."""

    __slots__ = ("at", "comment", "data", "end", "text")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.end = len(data)
        self.at = 0
        self.text = bytearray()
        self.comment = b""
        """The last comment, its quoted pairs and line ends undone."""

    def taken(self) -> bytes:
        """What was read since the last time."""
        text = bytes(self.text)
        self.text.clear()
        return text

    def next_is(self, sign: int) -> bool:
        """Whether the next octet is `sign`."""
        return self.at < self.end and self.data[self.at] == sign

    def skip(self) -> int:
        """Past white space and comments. RFC 5322 section 3.2.2: CFWS."""
        data = self.data
        while True:
            self.at = at = _blank(data, self.at).end()  # type: ignore[union-attr]
            if at >= self.end:
                return END
            if data[at] != _PAREN:
                return MORE
            if not self._skip_comment():
                return BROKEN

    def _skip_comment(self) -> bool:
        data = self.data
        start = at = last = self.at + 1
        depth = 1
        while (found := _comment_mark(data, at)) is not None:
            at = found.end()
            sign = data[at - 1]
            if sign == _PAREN:
                depth += 1
            elif sign == _BACKSLASH:
                # RFC 5322 section 3.2.1: quoted-pair; of the obsolete ones none hides a line's end
                if at >= self.end:
                    break
                if data[at] not in b"\r\n\0":
                    last = at - 1
                    at += 1
            else:
                depth -= 1
                if depth == 0:
                    self.comment = _undone(data[start : at - 1])
                    self.at = at
                    return True
        self.comment = self._broken(start, last)
        return False

    def _broken(self, start: int, last: int) -> bytes:
        """Past all. What began at `start` never ends: it says what it said before its last line, NUL or quoted pair."""
        data = self.data
        self.at = self.end
        return _undone(
            data[start : max(start, last, data.rfind(b"\n", start), data.rfind(b"\0", start) + 1)]
        )

    def atom(self) -> int:
        found = _atom(self.data, self.at)
        if found is None:
            return BROKEN
        self.text += found[0]
        self.at = found.end()
        return self.skip()

    def dot_atom(self) -> int:
        """RFC 5322 section 3.2.3; section 4.4: white space around the dots."""
        while True:
            found = _atom(self.data, self.at)
            if found is None:
                return BROKEN
            self.text += found[0]
            self.at = found.end()
            state = self.skip()
            if state != MORE or not self.next_is(_DOT):
                return state
            self.at += 1
            self.text += b"."
            if self.skip() != MORE:
                return BROKEN

    def loose_dot_atom(self) -> int:
        """A local-part with dots wherever somebody put them."""
        state = BROKEN
        while True:
            while self.next_is(_DOT):
                self.text += b"."
                self.at += 1
                if self.at == self.end:
                    return END
                state = MORE
            if self.next_is(_AT):
                return state
            state = self.atom()
            if state != MORE or not self.next_is(_DOT):
                return state

    def token(self) -> int:
        """RFC 2045 section 5.1; it may be empty."""
        found = _token(self.data, self.at)
        assert found is not None
        self.text += found[0]
        self.at = found.end()
        return END if self.at >= self.end else self.skip()

    def quoted_string(self) -> int:
        """RFC 5322 section 3.2.4; at its quotation mark."""
        data = self.data
        start = at = last = self.at + 1
        while (found := _quoted_mark(data, at)) is not None:
            at = found.end()
            if data[at - 1] != _BACKSLASH:
                self.text += _undone(data[start : at - 1])
                self.at = at
                return self.skip()
            if at >= self.end:
                break
            if data[at] not in b"\r\n\0":
                last = at - 1
                at += 1
        self.text += self._broken(start, last)
        return BROKEN

    def phrase(self) -> int:
        """RFC 5322 section 3.2.5; section 4.1: obs-phrase, with dots."""
        if self.at >= self.end:
            return END
        if self.data[self.at] == _DOT:
            return BROKEN
        while True:
            if self.data[self.at] == _QUOTE:
                state = self.quoted_string()
            else:
                found = _atom_or_dots(self.data, self.at)
                assert found is not None
                self.text += found[0]
                self.at = found.end()
                state = self.skip()
            if state != MORE or self.data[self.at] not in _word_starts:
                return state
            self.text += b" "

    def domain(self) -> int:
        """At its @. RFC 5322 section 3.4.1."""
        self.at += 1
        if self.skip() != MORE:
            return BROKEN
        return self._domain_literal() if self.data[self.at] == _BRACKET else self.dot_atom()

    def _domain_literal(self) -> int:
        data = self.data
        start = self.at
        at = start + 1
        while (found := _literal_mark(data, at)) is not None:
            at = found.end()
            sign = data[at - 1]
            if sign == _BRACKET:
                self.at = at - 1
                return BROKEN
            if sign == _BACKSLASH:
                if at >= self.end:
                    break
                if data[at] not in b"\r\n\0":
                    at += 1
                continue
            self.text += _line_end.sub(b"", data[start:at])
            self.at = at
            return self.skip()
        self.at = self.end
        return BROKEN


def _undone(text: bytes) -> bytes:
    """Without line ends (folding) and the backslashes of quoted pairs."""
    if b"\\" in text:
        text = _quoted_pair.sub(rb"\1", text)
    return _line_end.sub(b"", text) if b"\n" in text else text


_PAREN, _BACKSLASH, _QUOTE, _DOT, _AT, _BRACKET = b'(\\".@['
