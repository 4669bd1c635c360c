"""Mailbox names between clients and storage: the separator and the prefix that a site shows.

Storage's names have ``/`` between levels and no prefix. To clients that is the same, unless the site was
something else before (`ImapSettings.separator`, `prefix`): then ``INBOX.Sent.2024`` may be "Sent/2024". What is
the separator on one side and an ordinary character on the other changes places: no name is lost, none is said
twice. INBOX is INBOX everywhere.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from .refusal import No
from .settings import ImapSettings

__all__ = ["MAX_NAME", "Naming", "naming"]

MAX_NAME: Final = 1000
"""Octets of a name, UTF-8. A level is a file's name in the end: storage allows less."""

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Naming:
    """`separator` is ``/`` or another single character; `prefix` ends with it, or is empty."""

    __slots__ = ("_max_depth", "_swap", "prefix", "separator")

    def __init__(self, separator: str = "/", prefix: str = "", max_depth: int = 20) -> None:
        self.separator = separator
        self.prefix = prefix
        self._max_depth = max_depth
        self._swap = None if separator == "/" else str.maketrans({separator: "/", "/": separator})

    def shown(self, name: str) -> str:
        """Storage's `name` as the client sees it."""
        if name == "INBOX" or (self._swap is None and not self.prefix):
            return name
        return self.prefix + (name if self._swap is None else name.translate(self._swap))

    def stored(self, name: str) -> str:
        """What storage calls the client's `name`; "" for one that nothing can have."""
        if name == "INBOX":
            return name
        if self.prefix:
            if not name.startswith(self.prefix):
                head = name[: len(self.prefix)]
                # RFC 9051 section 5.1: INBOX is INBOX in any case, also before a separator
                if not self.prefix.startswith("INBOX" + self.separator) or (
                    not _is_inbox(head[:5]) or head[5:] != self.prefix[5:]
                ):
                    return ""
            name = name[len(self.prefix) :]
        stored = name if self._swap is None else name.translate(self._swap)
        if _is_inbox(stored[:5]) and (len(stored) == 5 or stored[5] == "/"):
            if self.prefix and len(stored) == 5:
                return ""  # it would be the inbox by another name
            return "INBOX" + stored[5:]
        return stored

    def existing(self, name: str) -> str:
        """As `stored`. Raises No for a name that nothing can have."""
        stored = self.stored(name)
        if not stored:
            raise No("There is no such mailbox", "NONEXISTENT")
        return stored

    def new(self, name: str) -> str:
        """As `stored`, for a name that is to be. Raises No with CANNOT or LIMIT."""
        # RFC 9051 section 6.3.4: a separator at the end only says what the client has in mind
        stored = self.stored(name.removesuffix(self.separator))
        if not stored:
            if self.prefix and name and not name.startswith(self.prefix):
                raise No(f"Mailbox names begin with {self.prefix}", "CANNOT")
            raise No("A mailbox cannot be called that", "CANNOT")
        levels = stored.split("/")
        if not all(levels):
            raise No("A level of a mailbox name is not empty", "CANNOT")
        if _CONTROL.search(stored):
            raise No("Control characters cannot be in a mailbox name", "CANNOT")
        if len(stored.encode("utf-8")) > MAX_NAME:
            raise No(f"A mailbox name has at most {MAX_NAME} octets", "LIMIT")
        if len(levels) > self._max_depth:
            raise No(f"A mailbox name has at most {self._max_depth} levels", "LIMIT")
        return stored


def _is_inbox(name: str) -> bool:
    # A dotless i is an I in upper case, too: case is blind in ASCII alone.
    return name.isascii() and name.upper() == "INBOX"


@lru_cache(maxsize=16)
def naming(settings: ImapSettings) -> Naming:
    """How names are shown at this site."""
    return Naming(settings.separator, settings.prefix, settings.max_depth)
