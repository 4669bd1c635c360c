"""Factories for the listeners, as the configuration has them: each protocol's settings, bounds and authenticator."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from twisted.cred.portal import IRealm, Portal

from .accounts.authenticate import Authenticator
from .accounts.checkers import DirectoryChecker, make_checkers
from .accounts.directory import Directory
from .accounts.familiar import Familiar
from .accounts.passwords import MAX_AT_ONCE, Hasher, Remembered
from .config import WEB_LISTENERS, Config
from .config.secrets import secret_text
from .connection.deadlines import Bounds
from .connection.factory import MailFactory
from .connection.limits import ConnectionLimits
from .connection.tls import ServerTls
from .delivery.intake import IntakeSettings, MailIntake
from .descriptors import for_connections
from .imap.protocol import ImapFactory, ImapSettings
from .imap.seats import Seats
from .policy.limits import FailureDelays, client_network
from .policy.rates import Limit, wider_network
from .pop3.protocol import Pop3Factory, Pop3Settings
from .siblings import Alone
from .smtp.protocol import SmtpFactory
from .smtp.session import Profile, SmtpSettings
from .world import World

if TYPE_CHECKING:
    from .acme.site import SiteCertificates
    from .web.server import WebFactory

__all__ = ["intake_settings", "make_authenticator", "make_factories", "make_web", "smtp_settings"]


def intake_settings(config: Config, literals: frozenset[str]) -> IntakeSettings:
    """`literals`: address literals that are this host."""
    return IntakeSettings(
        hostname=config.hostname,
        reject_bare_newlines=config.smtp.bare_newline == "reject",
        max_received=config.limits.received_hops,
        lifetime=config.queue.lifetime_seconds,
        warn_after=config.queue.warn_after_seconds,
        literals=literals,
    )


def smtp_settings(config: Config) -> SmtpSettings:
    """What SMTP sessions are told."""
    return SmtpSettings(
        hostname=config.hostname,
        max_message_bytes=config.smtp.max_message_bytes,
        max_recipients=config.smtp.max_recipients,
        max_errors=config.limits.errors,
        max_login_failures=config.limits.login_failures,
        strict=config.smtp.strict,
    )


def make_factories(
    config: Config,
    world: World,
    intake: MailIntake,
    authenticator: Authenticator,
    tls: ServerTls,
) -> dict[str, MailFactory]:
    """One factory for each name that ``[listen]`` knows."""
    limits, settings = config.limits, smtp_settings(config)
    pop3_settings = Pop3Settings(
        hostname=config.hostname,
        allow_plaintext_loopback=config.pop3.allow_plaintext_loopback,
        max_errors=limits.errors,
        max_login_failures=limits.login_failures,
    )
    counts = world.siblings.counts
    exempt = [ip_network(one) for one in config.checks.exempt_networks]
    most = limits.connects_per_minute
    shared = ConnectionLimits(
        limits.connections,
        limits.connections_per_address,
        counts("connections"),
        own=for_connections(world.descriptors) if world.descriptors else 0,
        fresh=Limit(most, 60, max(1, most // 3)) if most else None,
        exempts=partial(_is_in, exempt),
        familiar=authenticator.is_familiar,
        now=world.reactor.seconds,
    )

    def bounds(idle_seconds: float) -> Bounds:
        return Bounds(
            idle_seconds=idle_seconds,
            message_seconds=limits.message_seconds,
            message_rate=limits.message_bytes_per_second,
            stranger_seconds=limits.stranger_seconds,
            read_ahead_bytes=limits.read_ahead_bytes,
        )

    factories: dict[str, MailFactory] = {
        profile.value: SmtpFactory(
            world,
            profile,
            settings,
            intake,
            authenticator,
            limits=shared,
            tls=tls,
            bounds=bounds(limits.smtp_idle_seconds),
            max_command_bytes=limits.command_bytes,
        )
        for profile in Profile
    }
    for name in ("pop3", "pop3s"):
        factories[name] = Pop3Factory(
            world,
            pop3_settings,
            authenticator,
            limits=shared,
            tls=tls,
            implicit_tls=name == "pop3s",
            bounds=bounds(limits.pop3_idle_seconds),
        )
    seats = Seats(config.imap.max_sessions, counts("seats"))
    imap_settings = _imap_settings(config)
    for name in ("imap", "imaps"):
        factories[name] = ImapFactory(
            world,
            imap_settings,
            authenticator,
            limits=shared,
            seats=seats,
            tls=tls,
            implicit_tls=name == "imaps",
            bounds=bounds(limits.imap_idle_seconds),
        )
    return factories


def _imap_settings(config: Config) -> ImapSettings:
    imap, limits = config.imap, config.limits
    return ImapSettings(
        hostname=config.hostname,
        separator=imap.separator,
        prefix=imap.prefix,
        allow_plaintext_loopback=imap.allow_plaintext_loopback,
        max_command_bytes=imap.max_command_bytes,
        max_message_bytes=config.smtp.max_message_bytes,
        max_mailboxes=imap.max_mailboxes,
        max_depth=imap.max_depth,
        max_sessions=imap.max_sessions,
        max_errors=limits.errors,
        max_login_failures=limits.login_failures,
        idle_seconds=limits.imap_idle_seconds,
    )


def make_authenticator(
    config: Config,
    world: World,
    directory: Directory,
    realm: IRealm,
    familiar: Familiar | None = None,
) -> Authenticator:
    """`familiar` remembers who is at home where. Raises CheckerError."""

    def our_checker() -> DirectoryChecker:
        remembered = Remembered(world, keep=config.auth.remember_seconds)
        # Of several processes each hashes one password at a time: 64 MiB and 150 ms of a core, each.
        at_once = MAX_AT_ONCE if isinstance(world.siblings, Alone) else 1
        return DirectoryChecker(directory, Hasher(world, at_once=at_once), world, remembered)

    delays = FailureDelays(
        world.reactor.seconds,
        base=config.limits.login_delay_seconds,
        cap=config.limits.login_max_delay_seconds,
        size=50_000,
    )
    described = [secret_text(text) for text in config.auth.checkers]
    checkers = make_checkers(described, our_checker)
    # In memory only; of the site, so that its processes can tell each other.
    key = hmac.digest(directory.secret, b"wrong passwords", "sha256")
    return Authenticator(
        Portal(realm, checkers),
        world,
        delays,
        client_network,
        wider=wider_network,
        home=partial(wider_network, bits6=64),
        account=directory.login_key,
        familiar=familiar,
        key=key,
    )


def make_web(
    config: Config,
    world: World,
    tls: ServerTls,
    certificates: SiteCertificates | None,
    addresses: Sequence[tuple[str, str]],
) -> dict[str, WebFactory]:
    """Factories for the web listeners, if there are any. `addresses`: of all listeners."""
    if not any(getattr(config.listen, name) for name in WEB_LISTENERS):
        return {}
    # Lean import: twisted.web, for those who listen.
    from .web.site import make_web

    page = certificates.page if certificates else lambda token: None
    return make_web(config, world, tls, page, addresses)


def _is_in(networks: Sequence[IPv4Network | IPv6Network], ip: str) -> bool:
    try:
        address = ip_address(ip.partition("%")[0])
    except ValueError:
        return True  # of a UNIX socket
    return any(address in network for network in networks)
