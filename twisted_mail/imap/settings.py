"""What the configuration says to all IMAP sessions."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ImapSettings"]


@dataclass(frozen=True, slots=True)
class ImapSettings:
    """`separator` and `prefix` are how names look to clients: `imap.naming` has what is made of them."""

    hostname: str
    separator: str = "/"
    prefix: str = ""
    allow_plaintext_loopback: bool = False
    max_command_bytes: int = 65_536
    """Of the lines of one command; of its literals together `protocol.MAX_LITERALS`, or this when it is more."""
    max_message_bytes: int = 52_428_800
    """APPENDLIMIT (RFC 7889)."""
    max_mailboxes: int = 5000
    max_depth: int = 20
    max_sessions: int = 100
    """Of one account at a time."""
    max_errors: int = 20
    """Wrong commands in a row."""
    max_login_failures: int = 3
    login_seconds: float = 60.0
    """How long a client may be silent before it has logged in …"""
    idle_seconds: float = 1860.0
    """… and afterwards. RFC 9051 section 5.4: 1800 at least."""
    progress_seconds: float = 10.0
    """Between two INPROGRESS of a command that takes long (RFC 9585)."""
