"""What stands in a milter's packets: strings, addresses, replies, lists of macros. Pure."""

from __future__ import annotations

import re
from typing import Final

from ..address import Address, forward_path, reverse_path
from ..status import Reply

__all__ = [
    "address_in",
    "braced",
    "macro_lists",
    "packet",
    "printable",
    "reply_from",
    "strings_in",
    "text",
]

_MAX_LINES: Final = 32
_MAX_TEXT: Final = 400
# RFC 5321 section 4.2, RFC 3463 section 2
_REPLY_LINE = re.compile(
    r"([45][0-9][0-9])[ -](?:([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$))?(.*)", re.DOTALL
)


def packet(command: bytes, data: bytes = b"") -> bytes:
    """One packet."""
    return (1 + len(data)).to_bytes(4) + command + data


def reply_from(data: bytes) -> Reply | None:
    """What ``smfi_setreply`` and ``smfi_setmlreply`` make, as a reply; None when it is none."""
    lines: list[str] = []
    code, enhanced = 0, None
    # Sendmail takes it for a format, so filters double their percent signs
    for raw in data.replace(b"%%", b"%").split(b"\n")[:_MAX_LINES]:
        match = _REPLY_LINE.fullmatch(printable(raw))
        if match is None:
            break
        if not lines:
            code, enhanced = int(match[1]), match[2]
        lines.append(match[3].strip()[:_MAX_TEXT])
    if not lines:
        return None
    if enhanced is None or enhanced[0] != str(code)[0]:
        enhanced = f"{str(code)[0]}.7.1"
    return Reply(code, enhanced, tuple(line or "Refused" for line in lines))


def macro_lists(data: bytes) -> dict[int, tuple[str, ...]]:
    """SMFIR_SETSYMLIST, behind the negotiation's numbers: which macros the filter wants at which stage."""
    lists: dict[int, tuple[str, ...]] = {}
    while len(data) >= 5 and len(lists) < 16:
        number = int.from_bytes(data[:4])
        names, _, data = data[4:].partition(b"\0")
        lists[number] = tuple(printable(name).strip("{}") for name in names.split()[:64])
    return lists


def address_in(word: bytes, *, null: bool = False) -> Address | None:
    """An address, in angle brackets or not; None for ``<>``, if that may be. ValueError when it is none."""
    word = word.strip()
    if not word.startswith(b"<"):
        word = b"<" + word + b">"
    path = reverse_path(word) if null else forward_path(word)
    if path.rest:
        raise ValueError("text behind the address")
    return path.address


def strings_in(data: bytes) -> list[bytes]:
    """Strings that each end in NUL. ValueError when the last one does not."""
    if not data.endswith(b"\0"):
        raise ValueError("a string without its end")
    return data[:-1].split(b"\0")


def text(said: str) -> bytes:
    """A string with its NUL."""
    return said.encode("utf-8", "replace").replace(b"\0", b"")[:8000] + b"\0"


def braced(name: str) -> str:
    """A macro's name as it is sent: long ones in braces."""
    return name if len(name) == 1 else f"{{{name}}}"


def printable(data: bytes) -> str:
    """One line of ASCII, for logs and replies."""
    return "".join(c if " " <= c <= "~" else "?" for c in data.decode("latin-1").strip())[:1000]
