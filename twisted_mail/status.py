"""What the server says: replies, enhanced status codes, and the one error that becomes a reply.

Any room may raise `MailError`; sessions answer it in one place. What is not a `MailError` is unknown, and
unknown failures are temporary: nothing is lost while a person looks.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MailError", "Reply"]


@dataclass(frozen=True, slots=True)
class Reply:
    """One SMTP reply. `code` has three digits; `enhanced` is ``"2.1.0"`` or None where RFC 2034 wants none."""

    code: int
    enhanced: str | None
    lines: tuple[str, ...]

    def encode(self) -> bytes:
        """The bytes on the wire, CRLF included; every line carries the enhanced code (RFC 2034 section 4)."""
        prefix = f"{self.enhanced} " if self.enhanced else ""
        last = len(self.lines) - 1
        # RFC 5321 section 4.2.1: a hyphen on every line but the last
        return b"".join(
            f"{self.code}{' ' if n == last else '-'}{prefix}{line}\r\n".encode()
            for n, line in enumerate(self.lines)
        )


class MailError(Exception):
    """A refusal with its reply: `code` and `enhanced` (RFC 3463), public `text`, private `cause`.

    `text` goes to the peer: no paths, no secrets. `cause` goes to the log. `pop3` is the RFC 2449 section 8 /
    RFC 3206 response code of the same refusal, `imap` that of RFC 9051 section 7.1 (with its arguments, if any).
    """

    def __init__(
        self,
        code: int,
        enhanced: str,
        text: str,
        cause: object = None,
        *,
        pop3: str | None = None,
        imap: str | None = None,
    ) -> None:
        super().__init__(code, enhanced, text, cause)
        self.code = code
        self.enhanced = enhanced
        self.text = text
        self.cause = cause
        self.pop3 = pop3 if pop3 is not None else ("SYS/TEMP" if code < 500 else "SYS/PERM")
        # RFC 5530 section 3: UNAVAILABLE is temporary
        self.imap = imap if imap is not None else ("UNAVAILABLE" if code < 500 else "CANNOT")

    @property
    def temporary(self) -> bool:
        """True when the peer should try again later (4xx)."""
        return self.code < 500

    @property
    def reply(self) -> Reply:
        """The same as an SMTP reply."""
        return Reply(self.code, self.enhanced, (self.text,))

    def __str__(self) -> str:
        because = f" ({self.cause})" if self.cause is not None else ""
        return f"{self.code} {self.enhanced} {self.text}{because}"
