"""What `mailctl check` finds on the network: whether each port is free, ours, or somebody else's."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from typing import Any, Final

from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory

from ..config import LISTENERS, WEB_LISTENERS, Config
from .findings import ERROR, OK, WARNING, Finding

__all__ = ["ports", "socket_of"]

_TIMEOUT: Final = 5.0
_GREETING: Final = 4096
"""IMAP says its capabilities before its name."""
_IMPLICIT_TLS: Final = ("submissions", "pop3s", "imaps")


def ports(config: Config) -> Iterator[Finding]:
    """Each socket of [listen]."""
    for name in (*LISTENERS, *WEB_LISTENERS):
        for endpoint in getattr(config.listen, name):
            wanted = socket_of(endpoint)
            if wanted is None:
                yield Finding(OK, f"{name} {endpoint}", "not looked at: not a TCP port")
            elif wanted[1]:
                yield _port(f"{name} {endpoint}", name, *wanted, config.hostname)


def socket_of(endpoint: str) -> tuple[str, int] | None:
    """Interface and port of an endpoint's TCP socket; None when it wants no such thing."""
    spy = _Spy()
    try:
        serverFromString(spy, endpoint).listen(Factory()).addErrback(lambda _: None)
    except Exception:  # plugins raise what they like
        return None
    return spy.wanted


class _Spy:
    """Stands for a reactor and finds out which TCP socket an endpoint wants."""

    wanted: tuple[str, int] | None = None

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> None:
        self.wanted = (interface, port)


def _port(subject: str, name: str, interface: str, port: int, hostname: str) -> Finding:
    family = socket.AF_INET6 if ":" in interface else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((interface, port))
        except PermissionError:
            return Finding(WARNING, subject, "free only to root: start as root, with --uid")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return Finding(ERROR, subject, error.strerror or str(error))
        else:
            return Finding(OK, subject, "free")
    if name in WEB_LISTENERS:
        # A web server waits to be asked, and ours does not say what it is.
        return Finding(OK, subject, "in use: by this server, if it runs")
    greeting = _greeting(interface, port, tls=name in _IMPLICIT_TLS)
    if hostname in greeting.split():
        return Finding(OK, subject, f"in use: {hostname} answers")
    return Finding(ERROR, subject, "in use by another program")


def _greeting(interface: str, port: int, *, tls: bool) -> str:
    """The first line of who listens there; "" when there is none."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(interface, interface)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # Nothing is said to it, and its certificate is looked at where it lies.
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT) as plain:
            if not tls:
                return plain.recv(_GREETING).decode(errors="replace")
            with context.wrap_socket(plain) as wrapped:
                return wrapped.recv(_GREETING).decode(errors="replace")
    except OSError:
        return ""
