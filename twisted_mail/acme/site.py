"""A site's certificate as its configuration wants it: what the service asks for, and what it starts."""

from __future__ import annotations

from collections.abc import Callable

from cryptography import x509

from ..certs import ServerKey
from ..config import Config
from ..world import World
from .challenges import Challenges
from .files import AcmeFiles
from .interfaces import Authority, Connect
from .renewal import Renewal, RenewalSettings

__all__ = ["SiteCertificates", "names_of_site"]


def names_of_site(config: Config) -> tuple[str, ...]:
    """The names that the certificate is to be for, the server's own first."""
    policies = (f"mta-sts.{domain}" for domain in config.mta_sts.domains)
    return tuple(dict.fromkeys((config.hostname, *config.acme.names, *policies)))


class SiteCertificates:
    """`connect`: another way to the CA than HTTPS. `renews`: whether it may be started; else it only answers.

    Reads secrets: raises OSError or ValueError.
    """

    def __init__(
        self,
        config: Config,
        world: World,
        *,
        connect: Connect | None = None,
        renews: bool = True,
    ) -> None:
        acme = config.acme
        self._world = world
        self._files = AcmeFiles(world.disk, config.data)
        self._challenges = Challenges(world.disk, self._files.challenges)
        self._settings = RenewalSettings(
            directory=acme.directory,
            names=names_of_site(config),
            kind=acme.challenge,
            keep_key=acme.keep_key,
            alarm_days=acme.alarm_days,
        )
        if connect is None and renews:
            connect = _by_https(config, world.now)
        self._connect = connect
        self._renewal: Renewal | None = None
        self.certificate = self._files.certificate_path
        """Key and chain in one file, as soon as there are any."""

    def page(self, token: str) -> bytes | None:
        """What http-01 is answered with."""
        return self._challenges.page(token)

    def prove(self, name: str) -> tuple[x509.Certificate, ServerKey] | None:
        """What tls-alpn-01 is answered with."""
        return self._challenges.certificate(name, self._world.now())

    def start(self, renewed: Callable[[], object]) -> None:
        """Look after it from now on; `renewed` is called after each new one."""
        assert self._connect is not None
        self._renewal = Renewal(self._world, self._settings, self._files, self._connect, renewed)
        self._renewal.start()

    async def stop(self) -> None:
        """No more. What a CA is being asked is not waited for."""
        renewal, self._renewal = self._renewal, None
        if renewal is not None:
            await renewal.stop()


def _by_https(config: Config, now: Callable[[], float]) -> Connect:
    acme = config.acme
    # Now, while it is still allowed to.
    key = acme.binding_key()

    def connect(account_key: bytes) -> Authority:
        # Lean import: half a second, in a thread, and only on days when there is something to ask.
        from .client import CaSettings, connect

        settings = CaSettings(
            directory=acme.directory,
            email=acme.email,
            ca_file="" if acme.ca_file is None else str(acme.ca_file),
            eab=(acme.eab_kid, key) if key else None,
        )
        return connect(settings, account_key, now)

    return connect
