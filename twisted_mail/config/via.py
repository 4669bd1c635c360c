"""What `via` of a route may say: where mail goes when no MX record is asked.

    via  = "smtp://" host [ ":" port ] / "smtps://" host [ ":" port ]
         / "lmtp://" host ":" port / "lmtp:" path / "mx" / "fail:" text
    host = name / IPv4 address / "[" IPv6 address "]"

`parse_via` gives the parts and the one spelling of them (`Via.text`), which is the name of the destination: two
spellings of one server share connections and back-off. Refusals are ValueErrors that say what is allowed and repeat
nothing of the text, which may hold a password in the wrong place.
"""

from __future__ import annotations

import ipaddress
from typing import Final, Literal, NamedTuple

from ..address import normalize_domain

__all__ = ["Scheme", "Via", "parse_name_server", "parse_pattern", "parse_via"]

Scheme = Literal["smtp", "smtps", "lmtp", "mx", "fail"]

_PORTS: Final = {"smtp": 25, "smtps": 465}
_MAX_PORT: Final = 65535
_MAX_PATH: Final = 107  # sockaddr_un of Linux
_MAX_TEXT: Final = 400  # RFC 5321 section 4.5.3.1.5: a reply line is 512 octets, codes included


class Via(NamedTuple):
    """One destination. `text`: its one spelling. `host` without brackets, "" where there is none; `port` 0 there.

    `path`: the unix socket of lmtp, else "". `reason`: what a refused sender is told (scheme fail).
    """

    scheme: Scheme
    text: str
    host: str = ""
    port: int = 0
    path: str = ""
    reason: str = ""


def parse_via(text: str) -> Via:
    """The parts of `text`. Raises ValueError."""
    if text == "mx":
        return Via("mx", text)
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in ("smtp", "smtps", "lmtp", "fail"):
        raise ValueError(
            'must be "smtp://host:port", "smtps://host:port", "lmtp://host:port", '
            '"lmtp:/path/of/socket", "mx" or "fail: text"'
        )
    if scheme == "fail":
        return _fail(rest)
    if not rest.startswith("//"):
        if scheme == "lmtp":
            return _socket(rest)
        raise ValueError(f'must have two slashes, "{scheme}://host:port"')
    rest = rest[2:]
    if scheme == "lmtp" and (not rest or rest[0] == "/" or rest.startswith("unix:")):
        raise ValueError('must be "lmtp:/path/of/socket" for a unix socket')
    if "@" in rest:
        raise ValueError("must have no login in it: username and password_file are keys")
    host, port = _host_and_port(rest, scheme)
    shown = f"[{host}]" if ":" in host else host
    if port == _PORTS.get(scheme):
        return Via(scheme, f"{scheme}://{shown}", host, port)  # type: ignore[arg-type]
    return Via(scheme, f"{scheme}://{shown}:{port}", host, port)  # type: ignore[arg-type]


def parse_pattern(text: str) -> str:
    """The one spelling of a domain pattern: a domain, ``*.domain`` (what is below it), ``*``. Raises ValueError."""
    if text == "*":
        return text
    wild = text.startswith("*.")
    domain = text[2:] if wild else text
    if domain.startswith("."):
        raise ValueError('must begin with "*." to mean all that is below a domain')
    if "*" in domain:
        raise ValueError(
            'must be a domain, "*.domain" for what is below it, or "*" for everything else'
        )
    try:
        normal = normalize_domain(domain)
    except ValueError as error:
        raise ValueError(
            f'must be a domain, "*.domain" for what is below it, or "*" for everything else ({error})'
        ) from None
    if wild and normal.startswith("["):
        raise ValueError("must be a domain behind the star: nothing is below an address literal")
    return f"*.{normal}" if wild else normal


def parse_name_server(text: str) -> tuple[str, int]:
    """Address and port of a name server: ``127.0.0.1``, ``127.0.0.1:5301``, ``::1``, ``[::1]:5301``.

    Raises ValueError.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest[1:] if rest[:1] == ":" else "53" if bracket and not rest else ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, "53"
    try:
        address = ipaddress.ip_address(host)
        if not (
            port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= _MAX_PORT
        ):
            raise ValueError
    except ValueError:
        raise ValueError(
            'must be the address of a name server such as "127.0.0.1" or "[::1]:5301"'
        ) from None
    return str(address), int(port)


def _fail(rest: str) -> Via:
    reason = rest.strip()
    if not reason:
        raise ValueError('must say why, such as "fail: that partner has moved"')
    # RFC 5321 section 4.2.1: textstring
    if not (reason.isascii() and reason.isprintable()) or len(reason) > _MAX_TEXT:
        raise ValueError(f"must be one line of at most {_MAX_TEXT} ASCII characters: it is a reply")
    return Via("fail", f"fail: {reason}", reason=reason)


def _socket(path: str) -> Via:
    if not path.startswith("/"):
        raise ValueError('must be the whole path of the socket, such as "lmtp:/run/dovecot/lmtp"')
    if not path.isprintable() or len(path.encode()) > _MAX_PATH:
        raise ValueError(f"must be a path of at most {_MAX_PATH} octets")
    return Via("lmtp", f"lmtp:{path}", path=path)


def _host_and_port(text: str, scheme: str) -> tuple[str, int]:
    if not text.strip("/"):
        raise ValueError(f'must name a host, "{scheme}://host:port"')
    if "/" in text or "#" in text or "?" in text:
        raise ValueError(f'must end with the host or its port, "{scheme}://host:port"')
    if text[0] == "[":
        inner, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and rest[0] != ":"):
            raise ValueError(f'must be such as "{scheme}://[2001:db8::1]:{_PORTS.get(scheme, 24)}"')
        try:
            host = ipaddress.IPv6Address(inner).compressed
        except ValueError:
            raise ValueError("must have an IPv6 address between its brackets") from None
        if "%" in host:
            raise ValueError("must have an IPv6 address without a zone")
        return host, _port(rest[1:] if rest else None, scheme)
    if text.count(":") > 1:
        raise ValueError(
            f'must have an IPv6 address in brackets, such as "{scheme}://[2001:db8::1]"'
        )
    host, colon, port = text.partition(":")
    return _host(host), _port(port if colon else None, scheme)


def _host(text: str) -> str:
    last = text.rpartition(".")[2]
    if last.isascii() and last.isdigit():
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            raise ValueError("must have an IPv4 address of four numbers") from None
    try:
        return normalize_domain(text)
    except ValueError as error:
        raise ValueError(f"must name a host ({error})") from None


def _port(text: str | None, scheme: str) -> int:
    if text is None:
        if scheme not in _PORTS:
            # RFC 2033 section 5: never port 25; no other one is registered.
            raise ValueError('must have a port, such as "lmtp://127.0.0.1:24"')
        return _PORTS[scheme]
    # RFC 6335 section 6: a port is 16 bits; 0 is none
    if text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= _MAX_PORT:
        if scheme == "lmtp" and int(text) == 25:
            raise ValueError("must have another port than 25, which is SMTP's (RFC 2033)")
        return int(text)
    raise ValueError(f"must have a port from 1 to {_MAX_PORT}")
