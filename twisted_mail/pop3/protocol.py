"""POP3 on a port: the factory that gives each connection its engine and its session.

All that is the same for every protocol is in `connection.factory` and `connection.protocol`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..accounts.authenticate import Authenticator
from ..connection.client import is_loopback
from ..connection.deadlines import Bounds
from ..connection.factory import MailFactory
from ..connection.limits import ConnectionLimits
from ..world import World
from .engine import Engine
from .session import Pop3Session

__all__ = ["Pop3Factory", "Pop3Settings"]


@dataclass(frozen=True, slots=True)
class Pop3Settings:
    """What the configuration says to all sessions."""

    hostname: str
    allow_plaintext_loopback: bool = False
    max_errors: int = 10
    max_login_failures: int = 3


class Pop3Factory(MailFactory):
    """Serves POP3; with `implicit_tls` (pop3s, RFC 8314 section 3.1) TLS from the first byte.

    `tls` provides IOpenSSLServerConnectionCreator, or is None where there is no certificate.
    `limits` is shared with the other factories.
    """

    def __init__(
        self,
        world: World,
        settings: Pop3Settings,
        authenticator: Authenticator,
        *,
        limits: ConnectionLimits,
        tls: Any = None,
        implicit_tls: bool = False,
        bounds: Bounds | None = None,
    ) -> None:
        super().__init__(
            world,
            "pop3s" if implicit_tls else "pop3",
            bounds=bounds or Bounds(idle_seconds=600.0),  # RFC 1939 section 3
            limits=limits,
            tls=tls,
            implicit_tls=implicit_tls,
        )
        # RFC 3206 section 4
        self.too_many = b"-ERR [SYS/TEMP] Too many connections\r\n"
        self._settings = settings
        self._authenticator = authenticator
        self._tls_available = tls is not None

    def make(self, ip: str, connection: str) -> tuple[Engine, Pop3Session]:
        session = Pop3Session(
            self._authenticator,
            hostname=self._settings.hostname,
            client_ip=ip,
            connection=connection,
            loopback=is_loopback(ip),
            tls_available=self._tls_available,
            tls=self._implicit_tls,
            allow_plaintext_loopback=self._settings.allow_plaintext_loopback,
            max_errors=self._settings.max_errors,
            max_login_failures=self._settings.max_login_failures,
        )
        return Engine(), session
