"""Which pages there are: what a CA looks for, MTA-STS policies, and what mail programs ask for. Everything else is 404,
in the same plain words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from .autoconfig import PATHS, Autoconfig
from .mta_sts import PREFIX, StsHosting

__all__ = ["NOT_FOUND", "Page", "Pages"]

_CHALLENGE: Final = b"/.well-known/acme-challenge/"  # RFC 8555 section 8.3
_POLICY: Final = b"/.well-known/mta-sts.txt"  # RFC 8461 section 3.3


class Page(NamedTuple):
    status: int
    kind: bytes
    body: bytes


NOT_FOUND: Final = Page(404, b"text/plain; charset=utf-8", b"not found\n")


class Pages:
    """`challenge` gives the key authorization of a token, None when it is none of ours."""

    def __init__(
        self,
        challenge: Callable[[str], bytes | None],
        sts: StsHosting,
        autoconfig: Autoconfig | None = None,
    ) -> None:
        self._challenge = challenge
        self._sts = sts
        self._autoconfig = autoconfig

    def find(self, host: str, path: bytes) -> Page:
        """`host` as the client wrote it, with or without a port; `path` without a query, still encoded."""
        if path.startswith(_CHALLENGE):
            # What is percent-encoded is no token: base64url needs none of it.
            found = self._challenge(path[len(_CHALLENGE) :].decode("ascii", "replace"))
            if found is not None:
                return Page(200, b"application/octet-stream", found)
            return NOT_FOUND
        name = host.partition(":")[0].lower().rstrip(".")
        if path in PATHS and self._autoconfig is not None:
            document = self._autoconfig.document(name)
            if document is not None:
                return Page(200, b"application/xml", document.encode("ascii"))
        elif path == _POLICY and name.startswith(PREFIX):
            policy = self._sts.policy_for(name.removeprefix(PREFIX))
            if policy is not None:
                # RFC 8461 section 3.2: "text/plain"
                return Page(200, b"text/plain", policy.encode("ascii"))
        return NOT_FOUND
