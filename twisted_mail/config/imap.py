"""[imap] and [quota]: what mailboxes look like to IMAP clients, and how much an account may hold."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .section import Section
from .values import StorageLimit, mistakes_in, parse_storage

__all__ = ["Imap", "Quota"]

_MAX_PREFIX = 64


class Imap(Section):
    """IMAP. The largest message that APPEND takes is `smtp.max_message_bytes`; how long a client may
    be silent is `limits.imap_idle_seconds`.
    """

    separator: Literal["/", "."] = Field(
        default="/",
        description="What stands between the levels of a mailbox's name. A Maildir that another "
        'server had may have been shown with `"."` to its clients: keep it, and they download '
        'nothing anew. With `"."`, a dot within a name is shown as `/`.',
    )
    prefix: str = Field(
        default="",
        description="What stands before every name but INBOX, its separator included: "
        '`"INBOX."` for clients that have known it so from another server.',
    )
    allow_plaintext_loopback: bool = Field(
        default=False,
        description="Let clients on this machine log in without TLS. For a webmail beside the "
        "server; never for a proxy, which would make all the world local.",
    )
    max_command_bytes: int = Field(
        default=65_536,
        ge=8192,  # RFC 7162 section 4
        le=1_048_576,
        description="Longest command in octets, literals included, but for the messages of APPEND. "
        "Clients list the messages they mean one by one; RFC 7162 asks for at least 8192.",
    )
    max_mailboxes: int = Field(
        default=5000,
        ge=10,
        le=100_000,
        description="Mailboxes of an account; CREATE of one more is answered `NO [LIMIT]`.",
    )
    max_depth: int = Field(
        default=20,
        ge=1,
        le=100,
        description="Levels of a mailbox's name; what is deeper is answered `NO [LIMIT]`.",
    )
    max_sessions: int = Field(
        default=100,
        ge=1,
        le=1_000_000,
        description="Sessions of one account at a time, over all its devices; the next login is "
        "answered `NO [LIMIT]`. One program opens five, or more.",
    )

    @model_validator(mode="after")
    def _prefix_ends(self) -> Imap:
        prefix = self.prefix
        if not prefix:
            return self
        levels = prefix.removesuffix(self.separator).split(self.separator)
        if (
            len(prefix) > _MAX_PREFIX
            or not (prefix.isascii() and prefix.isprintable())
            or set(prefix) & set('%*"\\&')
            or not prefix.endswith(self.separator)
            or not all(levels)
        ):
            allowed = f"must be names that each end with {self.separator!r}, such as"
            mistakes_in([(("prefix",), f'{allowed} "INBOX{self.separator}"')])
        return self


class Quota(Section):
    """How much an account may hold (RFC 9208). More mail for it is refused: 452 4.2.2 by SMTP,
    `NO [OVERQUOTA]` by IMAP. `mailctl user quota` gives single users another bound.
    """

    storage: StorageLimit = Field(
        default="none",
        description='Octets of all messages of an account, such as `"1 GiB"`, `"500 MB"` or `"1G"` '
        '(a letter alone counts in 1024); `"none"` is no bound.',
    )
    messages: int = Field(
        default=0,
        ge=0,
        le=1_000_000_000,
        description="Number of messages of an account; 0 is no bound.",
    )

    @property
    def limits(self) -> tuple[int | None, int | None]:
        """Octets and messages; None for no bound."""
        return parse_storage(self.storage), self.messages or None
