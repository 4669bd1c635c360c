"""LIST that tells a client how a name is spelt that it gave otherwise, not in NFC (RFC 9051 section 6.3.9.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .encode import mailbox, quoted
from .names import Normalized

if TYPE_CHECKING:
    from .session import ImapSession

__all__ = ["list_line", "respelt"]


def list_line(session: ImapSession, name: str, attributes: str = "", old: str = "") -> bytes:
    """`name` as the client gave it, but in NFC; OLDNAME says what it was, or `old`."""
    separator = session.settings.separator
    shown = mailbox(str(name), session.utf8)
    line = b"* LIST (%s) %s %s" % (attributes.encode("ascii"), quoted(separator.encode()), shown)
    old = old or _given(name)
    if old != name:
        line += b' ("OLDNAME" (%s))' % mailbox(old, session.utf8)
    return line + b"\r\n"


def respelt(session: ImapSession, name: str, attributes: str = "", source: str = "") -> bytes:
    """The line for who has enabled IMAP4rev2, and has given `name` or `source` (RENAME) not in NFC; else b""."""
    if not session.rev2 or not (isinstance(name, Normalized) or isinstance(source, Normalized)):
        return b""
    return list_line(session, name, attributes, _given(source))


def _given(name: str) -> str:
    return name.given if isinstance(name, Normalized) else name
