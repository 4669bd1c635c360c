"""What the server says of itself: the greeting, and the replies to HELO and EHLO.

They are the same for all clients in the same state, so each is built once. A factory shares one `Introduction` among
its sessions.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..connection.interfaces import Answer
from . import replies

__all__ = ["Introduction"]


class Introduction:
    """Of the server called `hostname`; `starttls`: there is a certificate to offer STARTTLS with."""

    __slots__ = ("_extended", "_hostname", "_max_bytes", "_starttls", "greeting", "hello")

    def __init__(self, hostname: str, max_bytes: int, *, starttls: bool) -> None:
        self._hostname = hostname
        self._max_bytes = max_bytes
        self._starttls = starttls
        # By what can be different; as many as there are states of a session.
        self._extended: dict[tuple[bool, bool, Sequence[str]], Answer] = {}
        self.greeting = Answer(b"220 %s ESMTP ready\r\n" % hostname.encode("ascii"))
        self.hello = replies.reply(250, None, hostname)

    def extended(self, *, tls: bool, secure: bool, mechanisms: Sequence[str] = ()) -> Answer:
        """To EHLO. `tls`: below this session; `secure`: that, or from the first octet; `mechanisms` that can be
        used now."""
        key = tls, secure, tuple(mechanisms)
        answer = self._extended.get(key)
        if answer is None:
            keywords = self._keywords(tls, secure, mechanisms)
            answer = self._extended[key] = replies.reply(250, None, self._hostname, *keywords)
        return answer

    def _keywords(self, tls: bool, secure: bool, mechanisms: Sequence[str]) -> list[str]:
        keywords = [
            "PIPELINING",  # RFC 2920
            f"SIZE {self._max_bytes}",  # RFC 1870
            "8BITMIME",  # RFC 6152
            "SMTPUTF8",  # RFC 6531
            "ENHANCEDSTATUSCODES",  # RFC 2034
            "CHUNKING",  # RFC 3030
            "DSN",  # RFC 3461
            "HELP",
        ]
        if tls:
            keywords.append("REQUIRETLS")  # RFC 8689 section 2
        if self._starttls and not secure:
            keywords.append("STARTTLS")  # RFC 3207
        elif mechanisms:
            keywords.append(f"AUTH {' '.join(mechanisms)}")  # RFC 4954
        return keywords
