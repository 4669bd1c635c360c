"""IMAP on a port: the factory that gives each connection its engine and its session.

All that is the same for every protocol is in `connection.factory` and `connection.protocol`.
"""

from __future__ import annotations

from typing import Any, Final

from ..accounts.authenticate import Authenticator
from ..connection.client import is_loopback
from ..connection.deadlines import Bounds
from ..connection.factory import MailFactory
from ..connection.limits import ConnectionLimits
from ..world import World
from .encode import bye
from .engine import Engine
from .seats import Seats
from .session import ImapSession
from .settings import ImapSettings

__all__ = ["ImapFactory", "ImapSettings"]

MAX_LITERALS: Final = 262_144
"""Octets of a command's literals that are allowed at least: values of METADATA come in them."""


class ImapFactory(MailFactory):
    """Serves IMAP; with `implicit_tls` (imaps, RFC 8314 section 3.2) TLS from the first byte.

    `tls` provides IOpenSSLServerConnectionCreator, or is None where there is no certificate. `limits` is shared with
    the other factories, `seats` with those of IMAP (None: its own).
    """

    def __init__(
        self,
        world: World,
        settings: ImapSettings,
        authenticator: Authenticator,
        *,
        limits: ConnectionLimits,
        seats: Seats | None = None,
        tls: Any = None,
        implicit_tls: bool = False,
        bounds: Bounds | None = None,
    ) -> None:
        super().__init__(
            world,
            "imaps" if implicit_tls else "imap",
            bounds=bounds or Bounds(),
            limits=limits,
            tls=tls,
            implicit_tls=implicit_tls,
        )
        # RFC 5530 section 3
        self.too_many = bye("Too many connections", "UNAVAILABLE")
        self._settings = settings
        self._authenticator = authenticator
        self._seats = seats or Seats(settings.max_sessions)
        self._tls_available = tls is not None

    def make(self, ip: str, connection: str) -> tuple[Engine, ImapSession]:
        session = ImapSession(
            self._world,
            self._settings,
            self._authenticator,
            self._seats,
            client_ip=ip,
            connection=connection,
            loopback=is_loopback(ip),
            tls_available=self._tls_available,
            tls=self._implicit_tls,
        )
        most = self._settings.max_command_bytes
        return Engine(max_line=most, max_literals=max(most, MAX_LITERALS)), session
