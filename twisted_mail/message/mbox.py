"""Mailboxes in one file (mbox): messages out of a stream of any size, and messages as such a file has them.

A message begins with a From_ line (``From sender Sat Jan  3 01:05:34 1996``) at the beginning of the file or behind an
empty line. A line of text that looks so, but has no date, is text. Quoting is undone and made as *mboxrd* has it: a
line ``>From `` loses, or gets, one ``>``, however many there are (RFC 4155 appendix A has the older *mboxo*, where only
``From `` is quoted). Line ends may be CRLF. Flags are in fields that are not the message's own: ``Status``,
``X-Status`` and ``X-Keywords`` (mutt, Dovecot, Pine), ``X-Mozilla-Status`` and ``X-Mozilla-Keys`` (Thunderbird).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

from .headers import fields, header_end, without

__all__ = [
    "Entry",
    "Mbox",
    "NotMboxError",
    "Quoter",
    "Quoting",
    "envelope_line",
    "flag_fields",
    "quoted",
    "split_header",
    "without_flags",
]

BLOCK: Final = 256 * 1024
TAIL: Final = 8192
"""Octets kept back when nothing is found in a block: a longer From_ line is none."""
MAX_HEADER: Final = 1024 * 1024

_DATE: Final = (
    rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +(?P<month>[A-Z][a-z]{2}) +(?P<day>\d{1,2})"
    rb" +(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?"
    rb"(?: +(?P<before>[+-]\d{4}|[A-Z]{1,5}))?(?: +[A-Z]{1,5})?"
    rb" +(?P<year>\d{4})(?: +(?P<after>[+-]\d{4}|[A-Z]{1,5}))?"
)
_LINE: Final = rb"From [^\n]{0,2000}?" + _DATE + rb"[^\n]{0,500}\n"
_FROM: Final = re.compile(_LINE)
_NAMED: Final = re.sub(rb"\(\?P<[a-z]+>", b"(?:", _LINE)
_BOUNDARY: Final = re.compile(rb"\n\r?\n(" + _NAMED + rb")")
_BOUNDARY_HERE: Final = re.compile(rb"\r?\n(" + _NAMED + rb")")
_QUOTED: Final = {
    "mboxrd": re.compile(rb"^>(>*From )", re.MULTILINE),
    "mboxo": re.compile(rb"^>(From )", re.MULTILINE),
}
_TO_QUOTE: Final = re.compile(rb"^(>*From )", re.MULTILINE)
_MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"
)  # fmt: skip
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

_STATUS: Final = {
    b"status": {"R": "\\Seen", "D": "\\Deleted"},
    b"x-status": {"A": "\\Answered", "F": "\\Flagged", "D": "\\Deleted", "T": "\\Draft"},
}
_MOZILLA: Final = ((0x1, "\\Seen"), (0x2, "\\Answered"), (0x4, "\\Flagged"))
_MOZILLA_GONE: Final = 0x8
# What programs write into a message in an mbox, and take out again
_OURS: Final = frozenset(
    {
        b"status", b"x-status", b"x-keywords", b"x-uid", b"x-imap", b"x-imapbase",
        b"content-length", b"x-mozilla-status", b"x-mozilla-status2", b"x-mozilla-keys",
    }
)  # fmt: skip
_KEYWORD: Final = re.compile(r"[^\x00-\x20\x7f-\U0010ffff(){%*\"\\\]]{1,255}")

Quoting = str
"""``mboxrd``, ``mboxo`` or ``none``."""


class NotMboxError(ValueError):
    """The file does not begin as an mbox does."""


class Entry(NamedTuple):
    """One message. `offset`: of its From_ line in the file. `date`: the line's, seconds since 1970 UTC, or None.

    `internal`: not a message, but what another program has left in the file (its own data, or what was deleted).
    `blocks`: the content, to be taken before the next entry is; line ends as the file has them.
    """

    offset: int
    date: int | None
    flags: tuple[str, ...]
    internal: bool
    blocks: Iterator[bytes]


class Mbox:
    """The messages of a file that `read(size)` gives from `offset` on, where a From_ line has to be.

    Raises NotMboxError when there is none, and what `read` raises.
    """

    def __init__(
        self, read: Callable[[int], bytes], offset: int = 0, quoting: Quoting = "mboxrd"
    ) -> None:
        self._read = read
        self._quoted = _QUOTED.get(quoting)
        self._buffer = b""
        self._pos = 0
        self._at = offset
        self._over = False

    @property
    def position(self) -> int:
        """How far the file has been given out."""
        return self._at

    def __iter__(self) -> Iterator[Entry]:
        self._fill()
        while self._buffer[self._pos : self._pos + 1] in (b"\r", b"\n"):
            self._take(self._pos + 1)
            self._fill()
        while self._pos < len(self._buffer):
            if not self._buffer.startswith(b"From ", self._pos):
                raise NotMboxError('not an mbox: it does not begin with a line "From "')
            offset = self._at
            found = _FROM.match(self._buffer, self._pos)
            self._take(self._buffer.find(b"\n", self._pos) + 1 or len(self._buffer))
            content = self._content()
            header, more = _header(content)
            flags, internal = _status(header)
            yield Entry(
                offset,
                _date(found) if found is not None else None,
                flags,
                internal,
                _chained(without(header, _OURS), more, content),
            )
            for _ in content:
                pass  # what the caller did not want
            self._fill()

    def _fill(self) -> None:
        """See that a block and more is there; read several, so that what is there is seldom copied."""
        rest = len(self._buffer) - self._pos
        if self._over or rest >= BLOCK + TAIL:
            return
        pieces = [self._buffer[self._pos :]]
        while not self._over and rest < 4 * BLOCK + TAIL:
            block = self._read(BLOCK)
            self._over = not block
            pieces.append(block)
            rest += len(block)
        self._buffer, self._pos = b"".join(pieces), 0

    def _take(self, end: int) -> bytes:
        piece = self._buffer[self._pos : end]
        self._at += len(piece)
        self._pos = end
        return piece

    def _content(self) -> Iterator[bytes]:
        """Pieces up to the next From_ line, each at the beginning of a line, but for lines without end."""
        line_start = True
        while True:
            self._fill()
            buffer, start = self._buffer, self._pos
            stop = min(len(buffer), start + BLOCK + TAIL)
            here = _BOUNDARY_HERE.match(buffer, start) if line_start else None
            found = here or _BOUNDARY.search(buffer, start, stop)
            if found is not None:
                # The empty line belongs to the From_ line; the end of the line before does not.
                piece = self._take(found.start() + (0 if here else 1))
                self._take(found.start(1))
                yield self._unquoted(piece, line_start)
                return
            if stop == len(buffer) and self._over:
                piece = self._take(stop)
                yield self._unquoted(_without_last_line(piece, line_start), line_start)
                return
            # Cut behind a line's end; what follows may be an empty line and a From_ line.
            cut = buffer.rfind(b"\n", start, stop - TAIL) + 1
            for blank in (b"\n\n", b"\n\r\n"):
                if buffer.endswith(blank, start, cut):
                    cut -= len(blank) - 1
            piece = self._take(cut if cut > start else stop - TAIL)
            yield self._unquoted(piece, line_start)
            line_start = piece.endswith(b"\n")

    def _unquoted(self, piece: bytes, line_start: bool) -> bytes:
        if self._quoted is None or b">From " not in piece:
            return piece
        if line_start:
            return self._quoted.sub(rb"\1", piece)
        head, end, rest = piece.partition(b"\n")
        return head + end + self._quoted.sub(rb"\1", rest)


def _without_last_line(piece: bytes, line_start: bool) -> bytes:
    """The file's last message without the empty line that ends it."""
    for end in (b"\n\r\n", b"\n\n"):
        if piece.endswith(end):
            return piece[: 1 - len(end)]
    return b"" if line_start and piece in (b"\n", b"\r\n") else piece


def _header(content: Iterator[bytes]) -> tuple[bytes, bytes]:
    """The header block, with LF line ends, and what of the message was read behind it."""
    data = b""
    for piece in content:
        data += piece
        for blank in (b"\n\n", b"\n\r\n"):
            if (end := data.find(blank)) >= 0 and end + 1 <= MAX_HEADER:
                return data[: end + 1].replace(b"\r\n", b"\n"), data[end + 1 :]
        if len(data) > MAX_HEADER:
            break
    plain = data.replace(b"\r\n", b"\n")
    end = header_end(plain)
    return (b"", data) if end < 0 and len(data) > MAX_HEADER else (plain, b"")


def _chained(header: bytes, more: bytes, content: Iterator[bytes]) -> Iterator[bytes]:
    if header:
        yield header
    if more:
        yield more
    yield from content


def _status(header: bytes) -> tuple[tuple[str, ...], bool]:
    """The flags that a header tells, and whether it is no message's."""
    flags: dict[str, None] = {}
    internal = False
    for name, start, end in fields(header):
        if name not in _OURS:
            continue
        value = header[start:end].partition(b":")[2].decode("ascii", "replace").strip()
        if name in _STATUS:
            flags.update(dict.fromkeys(_STATUS[name][c] for c in value if c in _STATUS[name]))
        elif name in (b"x-keywords", b"x-mozilla-keys"):
            flags.update(
                dict.fromkeys(
                    word for word in value.replace(",", " ").split() if _KEYWORD.fullmatch(word)
                )
            )
        elif name == b"x-mozilla-status":
            try:
                bits = int(value[:8], 16)
            except ValueError:
                continue
            flags.update(dict.fromkeys(flag for bit, flag in _MOZILLA if bits & bit))
            internal = internal or bool(bits & _MOZILLA_GONE)
        elif name == b"x-imap":
            # Pine and UW-IMAP keep their numbers in a message of their own, the first one.
            internal = internal or b"FOLDER INTERNAL DATA" in header
    return tuple(flags), internal


def _date(found: re.Match[bytes]) -> int | None:
    try:
        when = datetime(
            int(found["year"]),
            _MONTHS.index(found["month"].decode()) + 1,
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            min(int(found["second"] or 0), 59),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    zone = (found["before"] or found["after"] or b"").decode()
    seconds = int(when.timestamp())
    if zone[:1] in ("+", "-"):
        offset = int(zone[1:3]) * 3600 + int(zone[3:5]) * 60
        seconds += -offset if zone[0] == "+" else offset
    return max(seconds, 0)


# -- as a file has them


def envelope_line(sender: bytes, date: int) -> bytes:
    """The From_ line. RFC 4155 appendix A: the time is UTC."""
    when = datetime.fromtimestamp(min(max(date, 0), 253402300799), UTC)
    day, month = _DAYS[when.weekday()], _MONTHS[when.month - 1]
    text = f"{day} {month} {when.day:2} {when:%H:%M:%S} {when.year}"
    plain = sender if sender and not re.search(rb"[\x00-\x20\x7f-\xff]", sender) else b""
    return b"From %b %b\n" % (plain or b"MAILER-DAEMON", text.encode())


def flag_fields(flags: Iterable[str]) -> bytes:
    """The fields for these flags. O: seen by a program, which all of them are."""
    names = list(flags)
    out = b"Status: %bO\n" % (b"R" if "\\Seen" in names else b"")
    letters = "".join(letter for letter, flag in _STATUS[b"x-status"].items() if flag in names)
    if letters:
        out += b"X-Status: %b\n" % letters.encode()
    words = [name for name in names if name[:1] != "\\"]
    if words:
        out += b"X-Keywords: %b\n" % " ".join(words).encode("utf-8", "replace")
    return out


def quoted(lines: bytes) -> bytes:
    """Whole lines, quoted as mboxrd has them."""
    return _TO_QUOTE.sub(rb">\1", lines) if b"From " in lines else lines


class Quoter:
    """`quoted` for a text in blocks, cut anywhere."""

    __slots__ = ("_held", "_in_line")

    def __init__(self) -> None:
        self._held = b""
        self._in_line = False

    def feed(self, block: bytes) -> bytes:
        block = self._held + block
        cut = block.rfind(b"\n") + 1
        if not cut and len(block) < BLOCK:
            self._held = block
            return b""
        # A line without an end in sight: what begins it is all that counts.
        cut = cut or len(block)
        self._held = block[cut:]
        out = self._quoted(block[:cut])
        self._in_line = not out.endswith(b"\n")
        return out

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        return self._quoted(held)

    def _quoted(self, text: bytes) -> bytes:
        if not self._in_line:
            return quoted(text)
        head, end, rest = text.partition(b"\n")
        return head + end + quoted(rest)


def split_header(content: bytes) -> tuple[bytes, bytes]:
    """The lines before the empty one, and the rest; content with LF line ends, or its first `MAX_HEADER` octets.

    A header that is longer is none: nothing is put into it, or taken out.
    """
    end = header_end(content)
    if end < 0:
        return (content, b"") if len(content) <= MAX_HEADER else (b"", content)
    return (content[:end], content[end:]) if end <= MAX_HEADER else (b"", content)


def without_flags(header: bytes) -> bytes:
    """A header without what programs put into a message in an mbox: what a reader of one will make of it."""
    return without(header, _OURS)
