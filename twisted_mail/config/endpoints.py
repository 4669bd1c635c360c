"""Checks of Twisted endpoint strings before anything listens.

`check` parses a string as `twisted.internet.endpoints` will, `clash` says whether two of them want
the same socket, `tcp_port` which port it is. Nothing is opened.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["check", "clash", "tcp_port"]

_MAX_PORT: Final = 65535
_EVERYWHERE: Final = ("", "0.0.0.0", "::")
_TCP: Final = ("tcp", "tcp6")


def check(text: str) -> None:
    """Raise ValueError, saying what is allowed, for what Twisted could not listen on."""
    kind, positional, named = _split(text)
    if kind == "ssl":
        raise ValueError('must be plain, such as "tcp:465": TLS comes from [tls]')
    if kind in _TCP:
        port = positional[0] if positional else named.get("port", "")
        if not (port.isascii() and port.isdigit() and int(port) <= _MAX_PORT):
            raise ValueError(f'must have a port from 0 to {_MAX_PORT}, such as "{kind}:25"')
        if len(positional) == 1 and named.keys() <= {"interface"}:
            return  # what nearly every site has, without the import below
    if kind == "systemd":
        # Its parser looks for inherited sockets, which exist only in the started service.
        if "domain" not in named or not ({"index", "name"} & named.keys()):
            raise ValueError('must be such as "systemd:domain=INET:name=smtp"')
        return
    # Lean import: this costs 0.2 s where Twisted's networking is not loaded yet.
    from twisted.internet.endpoints import serverFromString

    try:
        # The endpoint is dropped, so it never gets to ask its reactor for anything.
        serverFromString(object(), text)
    except Exception as error:  # endpoint plugins raise what they like
        raise ValueError(
            f'must be a Twisted endpoint string such as "tcp:25:interface=127.0.0.1" ({error})'
        ) from None


def clash(first: str, second: str) -> bool:
    """Whether both strings, each fit to `check`, listen on one address."""
    here, there = _socket(first), _socket(second)
    if here is None or there is None or here[:2] != there[:2]:
        return False
    return here[2] == there[2] or here[2] in _EVERYWHERE or there[2] in _EVERYWHERE


def tcp_port(text: str) -> int | None:
    """The port of a string that is fit to `check`; None when it is not of TCP, or the system chooses."""
    found = _socket(text)
    return int(found[1]) if found is not None and found[0] in _TCP else None


def _socket(text: str) -> tuple[str, str, str] | None:
    """Kind, port or path, interface; None for a port that the system chooses and unknown kinds."""
    kind, positional, named = _split(text)
    place = positional[0] if positional else named.get("port", named.get("address", ""))
    if kind in _TCP:
        interface = positional[1] if len(positional) > 1 else named.get("interface", "")
        return (kind, str(int(place)), interface) if int(place) else None
    return (kind, place, "") if kind == "unix" else None


def _split(text: str) -> tuple[str, list[str], dict[str, str]]:
    """Kind, positional and named arguments; the haproxy wrapper is taken off."""
    parts = [re.sub(r"\\(.)", r"\1", part) for part in re.split(r"(?<!\\):", text)]
    if parts[0] == "haproxy":
        parts = parts[1:] or [""]
    positional = [part for part in parts[1:] if "=" not in part]
    named = dict(part.split("=", 1) for part in parts[1:] if "=" in part)
    return parts[0], positional, named
