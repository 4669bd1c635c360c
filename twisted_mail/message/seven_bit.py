"""A message for a server that lacks 8BITMIME (RFC 6152 section 3): its 8-bit content in quoted-printable or base64.

`convert` gives the message again, octets over 127 gone, every part's content the same once it is decoded; parts that
need nothing stay byte for byte, but for a label 8bit or binary that has become 7bit. Lines over 998 octets are encoded
along, where the part may be encoded at all. Messages within messages are gone into, since they may not be encoded as a
whole (RFC 2046 section 5.2.1); text that nobody is shown, before the first boundary and behind the last, gets question
marks.

What cannot be done raises `CannotConvert`, and the message bounces with 5.6.3: 8-bit octets in a header (that takes
SMTPUTF8, RFC 6531), in what is signed or encrypted as it stands (RFC 1847 section 2.1), in a multipart without
boundaries, or deeper than `MAX_DEPTH`. An application/pkcs7-mime part is converted like any: its encoding for transfer
is not signed (RFC 8551 section 3.1.3). A DKIM signature of the body breaks, and counts as none then (RFC 6376 section
6.1): better than no delivery; Postfix does the same.

It runs in a thread: work is done in pieces of `PIECE` octets, so that other threads get their turn. Beside the input it
holds the output, once.
"""

from __future__ import annotations

from binascii import a2b_qp, b2a_base64, b2a_qp
from collections.abc import Iterator
from typing import Final

from .downgrade import masked
from .headers import fields
from .mime import Header, TooComplex, delimiters, read_header

__all__ = ["CannotConvert", "convert", "needs_conversion"]

MAX_DEPTH: Final = 32
"""Entities within each other."""
MAX_PARTS: Final = 10_000
MAX_LINE: Final = 998
"""Octets of a line, its end left out (RFC 5322 section 2.1.1)."""
PIECE: Final = 131_072

_HIGH: Final = bytes(range(0x80, 0x100))
_IDENTITY: Final = frozenset(
    (
        *(b"", b"7bit", b"8bit", b"binary"),
        # No such encodings; what careless senders write, and everybody reads as none
        *(b"7-bit", b"8-bit", b"7bits", b"8bits", b"8bitmime", b"utf-8", b"utf8", b"none"),
    )
)
_IS_SEVEN_BIT: Final = (b"", b"7bit")
# RFC 1847 section 2: opaque to whoever passes them on
_OPAQUE: Final = (b"signed", b"encrypted")
_MESSAGES: Final = (b"rfc822", b"news")
# ASCII by their definition (RFC 3464 section 2.1, RFC 8098 section 3.1): programs read them without decoding
_ASCII_REPORTS: Final = (b"delivery-status", b"disposition-notification")
_ENCODED_LINE: Final = 57


class CannotConvert(ValueError):
    """The message cannot go where 8BITMIME is lacking. The text is fit for its sender."""


def needs_conversion(content: bytes) -> bool:
    """Whether the message cannot be sent as it is to a server that lacks 8BITMIME."""
    return not content.isascii()


def convert(content: bytes) -> list[bytes]:
    """The message in 7 bits, as blocks. `content` has LF line ends; a CR is treated as `wire` has it.

    Raises CannotConvert.
    """
    if content.isascii():
        return [content]
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    work = _Conversion(content)
    try:
        work.entity(0, len(content), 0, top=True)
    except TooComplex as error:
        raise CannotConvert(str(error)) from None
    if work.out and not work.out[-1].endswith(b"\n"):
        work.out.append(b"\n")
    return work.out


class _Conversion:
    __slots__ = ("content", "out", "parts")

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.out: list[bytes] = []
        self.parts = 0

    def entity(
        self, start: int, end: int, depth: int, *, top: bool = False, digest: bool = False
    ) -> None:
        """Convert what stands from `start` to `end`. `top`: a message, so it has a MIME-Version."""
        self.parts += 1
        if self.parts > MAX_PARTS:
            raise CannotConvert("the message has too many parts")
        header = read_header(self.content, start, end)
        if not header.block.isascii():
            raise CannotConvert("its header has 8-bit characters")
        maintype, subtype = header.maintype, header.subtype
        if not maintype and digest:
            # RFC 2046 section 5.1.5
            maintype, subtype = b"message", b"rfc822"
        # RFC 2045 section 6.4: these two have no other encodings. What has one all the same is no message to anybody.
        if maintype == b"multipart":
            self._multipart(header, start, end, depth, top)
        elif maintype == b"message" and header.encoding in _IDENTITY:
            self._message(header, subtype, start, end, depth, top)
        else:
            self._leaf(header, start, end, top)

    def _multipart(self, header: Header, start: int, end: int, depth: int, top: bool) -> None:
        body = header.body
        if header.subtype in _OPAQUE:
            if not self._is_ascii(body, end):
                raise CannotConvert("a signed or encrypted part has 8-bit characters")
            self._relabelled(header, start, top)
            self._copy(body, end)
            return
        if not header.boundary or depth >= MAX_DEPTH:
            self._untouchable(start, end)
            return
        self._relabelled(header, start, top)
        digest = header.subtype == b"digest"
        at = body
        inside = False
        for found, after, last in delimiters(self.content, body, end, header.boundary):
            found = max(found, at)
            if inside:
                self.entity(at, found, depth + 1, digest=digest)
            else:
                self._unseen(at, found)
            self._copy(found, after)
            at, inside = after, not last
        if inside:
            # The last delimiter is missing: what there is of the part is the part
            self.entity(at, end, depth + 1, digest=digest)
        elif at == body:
            self._untouchable(at, end)
        else:
            self._unseen(at, end)

    def _message(
        self, header: Header, subtype: bytes, start: int, end: int, depth: int, top: bool
    ) -> None:
        if subtype in _MESSAGES and depth < MAX_DEPTH:
            self._relabelled(header, start, top)
            if header.body < end:
                self.entity(header.body, end, depth + 1, top=True)
        elif subtype in _ASCII_REPORTS:
            self._relabelled(header, start, top)
            self._unseen(header.body, end)
        elif subtype.startswith(b"global"):
            # RFC 6532 section 3.5: newer kinds of messages may be encoded
            self._leaf(header, start, end, top)
        else:
            self._untouchable(start, end)

    def _leaf(self, header: Header, start: int, end: int, top: bool) -> None:
        body, encoding = header.body, header.encoding
        if self._is_ascii(body, end) and not self._has_long_line(body, end):
            self._relabelled(header, start, top)
            self._copy(body, end)
        elif encoding in _IDENTITY:
            encode = self._best_encoding(header, body, end)
            self._head(header, encode, top)
            if encode == b"base64":
                self.out += _base64(self._pieces(body, end))
            else:
                self.out += _quoted_printable(self._pieces(body, end))
        elif encoding == b"quoted-printable":
            # Octets that should have been encoded already, or lines that should have been broken
            self._copy(start, body)
            self.out += _quoted_printable(_unquoted(self._pieces(body, end)))
        elif encoding == b"base64":
            # RFC 2045 section 6.8: what is not of the alphabet is ignored
            self._copy(start, body)
            self.out += _rewrapped(
                piece.translate(None, _HIGH) for piece in self._pieces(body, end)
            )
        elif self._is_ascii(body, end):
            self._copy(start, end)
        else:
            raise CannotConvert("a part in an encoding of its own has 8-bit characters")

    def _best_encoding(self, header: Header, body: int, end: int) -> bytes:
        """RFC 2045 section 6: quoted-printable where people can read it so, base64 for the rest."""
        if header.maintype not in (b"", b"text", b"message"):
            return b"base64"
        high = sum(
            len(piece) - len(piece.translate(None, _HIGH)) for piece in self._pieces(body, end)
        )
        return b"base64" if high * 2 > end - body else b"quoted-printable"

    def _relabelled(self, header: Header, start: int, top: bool) -> None:
        """The header of something that is in 7 bits now, though it may say otherwise."""
        if header.encoding in _IDENTITY and header.encoding not in _IS_SEVEN_BIT:
            self._head(header, b"7bit", top)
        else:
            self._copy(start, header.body)

    def _head(self, header: Header, encoding: bytes, top: bool) -> None:
        """The header with another Content-Transfer-Encoding, and what MIME wants besides (RFC 1428 section 3)."""
        field = b"Content-Transfer-Encoding: " + encoding + b"\n"
        block = header.block
        out = []
        if top and not header.versioned:
            out.append(b"MIME-Version: 1.0\n")
        if not header.maintype and encoding != b"7bit":
            out.append(b"Content-Type: text/plain; charset=unknown-8bit\n")
        kept = []
        for name, at, stop in fields(block):
            if name != b"content-transfer-encoding":
                kept.append(block[at:stop])
            elif field:
                kept.append(field)
                field = b""
        self.out += (*kept, *out, field, b"\n")

    def _untouchable(self, start: int, end: int) -> None:
        if not self._is_ascii(start, end):
            raise CannotConvert("a part that cannot be encoded has 8-bit characters")
        self._copy(start, end)

    def _unseen(self, start: int, end: int) -> None:
        """Text that no reader is shown, or that has to be ASCII anyway."""
        self.out += (masked(piece) for piece in self._pieces(start, end))

    def _copy(self, start: int, end: int) -> None:
        if start < end:
            self.out.append(self.content[start:end])

    def _is_ascii(self, start: int, end: int) -> bool:
        return all(
            self.content[at : min(at + PIECE, end)].isascii() for at in range(start, end, PIECE)
        )

    def _has_long_line(self, start: int, end: int) -> bool:
        while end - start > MAX_LINE:
            found = self.content.rfind(b"\n", start, start + MAX_LINE + 1)
            if found < 0:
                return True
            start = found + 1
        return False

    def _pieces(self, start: int, end: int) -> Iterator[bytes]:
        """Whole lines, about `PIECE` octets; a line that is longer is cut."""
        while start < end:
            stop = min(start + PIECE, end)
            if stop < end:
                stop = self.content.rfind(b"\n", start, stop) + 1 or stop
            yield self.content[start:stop]
            start = stop


def _quoted_printable(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """RFC 2045 section 6.7. A line that goes on in the next piece gets a soft break."""
    held = b""
    for piece in pieces:
        if held:
            yield held if held.endswith(b"\n") else held + b"=\n"
        held = b2a_qp(piece)
    yield held


def _unquoted(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """What quoted-printable stands for; an encoded octet may be cut in two by a piece."""
    left = b""
    for piece in pieces:
        piece = left + piece
        cut = len(piece) if piece.endswith(b"\n") else piece.rfind(b"=", -2)
        left = piece[cut:] if cut >= 0 else b""
        yield a2b_qp(piece[:cut] if cut >= 0 else piece)
    yield a2b_qp(left)


def _base64(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """RFC 2045 section 6.8, of the form with CRLF, which is what everybody else sees of the message."""
    left = b""
    for piece in pieces:
        left += piece.replace(b"\n", b"\r\n")
        whole = len(left) - len(left) % _ENCODED_LINE
        yield b"".join(
            b2a_base64(left[at : at + _ENCODED_LINE]) for at in range(0, whole, _ENCODED_LINE)
        )
        left = left[whole:]
    yield b2a_base64(left, newline=False)


def _rewrapped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """base64 in lines of 76 characters again."""
    left = b""
    for piece in pieces:
        left += piece.translate(None, b" \t\n")
        whole = len(left) - len(left) % 76
        yield b"".join(left[at : at + 76] + b"\n" for at in range(0, whole, 76))
        left = left[whole:]
    yield left
