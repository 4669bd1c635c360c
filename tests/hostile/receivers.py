"""Receivers of mail that take something else than CR LF . CR LF for the end of it: what the field has, or had.

A model gets the octets behind 354 and says where the content ends; what follows are commands to it. Each is one of what
the advisories of 2023 on SMTP smuggling (VU#302671) and their tests name, and what programs in C make of a NUL.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

__all__ = ["RECEIVERS", "VARIANTS", "rest_behind"]

VARIANTS: Final = [
    b"\n.\n",
    b"\n.\r\n",
    b"\n.\r",
    b"\r.\r",
    b"\r.\r\n",
    b"\r.\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n\0.\0\r\n",
    b"\r\0\n.\r\n",
    b"\r\n.\r\0\n",
    b"\0\r\n.\n",
    b"\n\0.\n",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\n\n.\n\n",
    b"\r\n. \r\n",
    b"\r\n .\r\n",
    b"\r\n.\t\n",
    b"\r\n..\n",
    b"\r\n.\x1a\r\n",
    b"\r\n.\x0b\r\n",
    b"\x85.\x85",
    b"\xe2\x80\xa8.\xe2\x80\xa8",
]
"""What is no end."""

_END = {
    "strict": rb"(?:\A|\r\n)\.\r\n",
    "LF ends a line": rb"(?:\A|\r?\n)\.\r?\n",
    "CR ends a line": rb"(?:\A|\r\n|\r)\.(?:\r\n|\r)",
    "anything ends a line": rb"(?:\A|\r\n|\r|\n)\.(?:\r\n|\r|\n)",
    "LF before the dot": rb"(?:\A|\n)\.\r\n",
    "LF behind the dot": rb"(?:\A|\r\n)\.\r?\n",
    "any number of CRs": rb"(?:\A|\n)\.\r*\n",
    "blanks behind the dot": rb"(?:\A|\r?\n)\.[ \t]*\r?\n",
    "a NUL ends what a line says": rb"(?:\A|\n)\.(?:\0[^\n]*|\r)?\n",
}


def _plain(pattern: bytes) -> Callable[[bytes], bytes]:
    end = re.compile(pattern).search

    def behind(octets: bytes) -> bytes:
        found = end(octets)
        assert found is not None, "the content has no end"
        return octets[found.end() :]

    return behind


def _without_nul(pattern: bytes) -> Callable[[bytes], bytes]:
    behind = _plain(pattern)
    return lambda octets: behind(octets.replace(b"\0", b""))


RECEIVERS: Final = {
    **{name: _plain(pattern) for name, pattern in _END.items()},
    **{f"{name}, without NULs": _without_nul(pattern) for name, pattern in _END.items()},
}
"""Name → what gives the octets behind the content's end."""


def rest_behind(octets: bytes) -> dict[str, bytes]:
    """What each of them takes for commands."""
    return {name: behind(octets) for name, behind in RECEIVERS.items()}
