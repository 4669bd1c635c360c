"""Where a filter listens, as text: ``tcp:host:port`` or ``unix:/path``, Twisted's spelling of both.

One grammar for the configuration and for who connects, so that both refuse the same with the same words. Nothing is
looked up, opened or imported.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["check_place"]

_MAX_PORT: Final = 65535
_MAX_PATH: Final = 107  # sockaddr_un of Linux
_SHAPES: Final = "a filter is at tcp:host:port or unix:/path"
_COLON: Final = re.compile(r"(?<!\\):")


def check_place(text: str) -> str:
    """`text` itself. Raises ValueError, fit for the author of the configuration, which repeats nothing of it."""
    kind, *parts = _COLON.split(text)
    if kind == "unix":
        # More colons would be options, or a name that is not the socket's.
        if len(parts) != 1 or not parts[0].startswith("/"):
            raise ValueError(f"{_SHAPES} (the name of the socket begins with a slash)")
        if len(parts[0].encode("utf-8", "surrogateescape")) > _MAX_PATH:
            raise ValueError(f"{_SHAPES} (with a path of at most {_MAX_PATH} octets)")
        return text
    if kind != "tcp":
        raise ValueError(_SHAPES)
    if len(parts) > 2:
        raise ValueError(f"{_SHAPES} (the colons of an IPv6 address have a backslash before them)")
    if len(parts) < 2 or not parts[0]:
        missing = "the port" if parts and parts[0] else "the host"
        raise ValueError(f"{_SHAPES} ({missing} is missing)")
    port = parts[1]
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) <= _MAX_PORT):
        raise ValueError(f"{_SHAPES} (the port is a number from 1 to {_MAX_PORT})")
    return text
