"""SMTP on a port: the factory that gives each connection its engine and its session.

All that is the same for every protocol is in `connection.factory` and `connection.protocol`.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from ..connection.deadlines import Bounds
from ..connection.factory import MailFactory
from ..connection.limits import ConnectionLimits
from ..delivery.interfaces import Intake
from ..world import World
from .authentication import Authenticator
from .engine import MAX_COMMAND_LINE, SmtpEngine
from .hello import Introduction
from .session import Profile, SmtpSession, SmtpSettings

__all__ = ["SmtpFactory"]


class SmtpFactory(MailFactory):
    """Serves SMTP as `profile` says; SUBMISSIONS speaks TLS from the first byte.

    `authenticator` is None where nobody can log in; `tls` provides IOpenSSLServerConnectionCreator,
    or is None where there is no certificate. `limits` is shared with the other factories.
    """

    def __init__(
        self,
        world: World,
        profile: Profile,
        settings: SmtpSettings,
        intake: Intake,
        authenticator: Authenticator | None,
        *,
        limits: ConnectionLimits,
        tls: Any = None,
        bounds: Bounds | None = None,
        max_command_bytes: int = MAX_COMMAND_LINE,
    ) -> None:
        super().__init__(
            world,
            profile.value,
            bounds=bounds or Bounds(idle_seconds=300.0),  # RFC 5321 section 4.5.3.2.7
            limits=limits,
            tls=tls,
            implicit_tls=profile is Profile.SUBMISSIONS,
        )
        # RFC 5321 section 3.1 would say 554; 421 is what makes a client come back (RFC 5321 section 3.8)
        self.too_many = b"421 4.7.0 %s Too many connections\r\n" % settings.hostname.encode("ascii")
        self._profile = profile
        self._settings = settings
        self._intake = intake
        self._authenticator = authenticator
        self._starttls = tls is not None
        self._introduction = Introduction(
            settings.hostname, settings.max_message_bytes, starttls=self._starttls
        )
        self._max_command_bytes = max_command_bytes

    def _pause(self, seconds: float) -> Deferred[None]:
        return deferLater(self._world.reactor, seconds)

    def make(self, ip: str, connection: str) -> tuple[SmtpEngine, SmtpSession]:
        engine = SmtpEngine(strict=self._settings.strict, max_line=self._max_command_bytes)
        session = SmtpSession(
            self._profile,
            self._settings,
            self._intake,
            self._authenticator,
            client_ip=ip,
            connection=connection,
            starttls=self._starttls,
            introduction=self._introduction,
            pause=self._pause,
        )
        return engine, session
