"""Mail that comes: what `service` joins to judge it, from the configuration to the guard at the ports.

`Receiving` makes the policies that `[checks]`, `[reputation]`, `[greylist]`, `[rates]`, `[[filters]]` and `[signing]`
ask for, what they remember, and the stories. Nothing is asked before somebody connects.
"""

from __future__ import annotations

import hmac
import ipaddress
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, Literal

from twisted.logger import Logger
from twisted.python.failure import Failure

from .config import Config, Filter
from .config.policy import parse_rate
from .config.secrets import HasPassword, password_of
from .delivery.alarms import Alarms
from .delivery.guard import SiteGuard
from .delivery.interfaces import Guard
from .delivery.parts import Checks, DmarcTeller, Parts
from .delivery.sealing import Sealer
from .delivery.telling import Teller
from .filters.chain import Chain
from .filters.health import Health
from .filters.interfaces import Scanner, StageFilter
from .filters.trouble import OnFailure
from .policy.decide import DecisionSettings
from .policy.dkim_key import Keys
from .policy.dmarc import DmarcSettings
from .policy.dnsbl import DnsLists
from .policy.greylist import Greylist, GreylistSettings
from .policy.organization import load_suffixes
from .policy.rates import Limit, Limits, Rates, RateSettings
from .policy.scores import Weights
from .policy.senders import Senders, SenderSettings
from .policy.spf import SpfSettings
from .resolving import SharedResolver
from .siblings import Alone, News
from .storage.dkim_keys import KeyFiles, SigningKeys
from .storage.draft import Draft
from .storage.reputation import Reputation, Source, WriteBehind, remembered
from .storage.stories import Stories
from .world import World

__all__ = ["Receiving"]

_log = Logger()
_DAY = 86_400.0
_FORGIVEN = "forgiven"
"""News: an account."""

Malware = Literal["reject", "discard", "quarantine", "junk"]
_FAILURES: dict[str, OnFailure] = {"accept": "accept", "defer": "tempfail", "refuse": "reject"}
_MALWARE: dict[str, Malware] = {
    "refuse": "reject",
    "junk": "junk",
    "hold": "quarantine",
    "discard": "discard",
}


class Receiving:
    """For the site that `config` describes. `draft` makes a place for content; `hosts`: our addresses; `secret`: the
    site's own; `alarms`: who hears of accounts that send spam; `reports`: who counts what was found out. `duties`:
    whether this process is the one that looks after the site: it keeps the file of what policies remember, tells of
    accounts that are slowed, and sweeps old keys. The others read that file when they start, and hear what comes after.
    `sources`: who else has something to remember in that file.

    Raises ValueError or OSError for what the configuration names and cannot be had.
    """

    def __init__(
        self,
        config: Config,
        world: World,
        resolver: SharedResolver,
        *,
        draft: Callable[[], Draft],
        hosts: Iterable[str] = (),
        secret: bytes = b"",
        alarms: Alarms | None = None,
        reports: DmarcTeller | None = None,
        duties: bool = True,
        sources: Iterable[Source] = (),
    ) -> None:
        self._duties = duties
        self._forgiving: Callable[[str], object] | None = None
        self._world = world
        self._stories: Stories | None = None
        if config.stories.days:
            self._stories = Stories(
                world,
                config.data / "stories.sqlite3",
                keep=config.stories.days * 86_400,
                most=config.stories.most,
            )
        checks, senders = config.checks.enabled, None
        self._rates = rates = Rates(_rates(config), world.now, remembers=duties)
        sources = [*sources, rates]
        if config.rates.watch_senders:
            senders = Senders(SenderSettings(), world.now, alarms if duties else None)
            sources.append(senders)
            if alarms is not None:
                alarms.senders = senders
        greylist = None
        if checks and config.greylist.enabled:
            salt = hmac.digest(secret, b"greylisting", "sha256")
            greylist = Greylist(_greylist(config), world.now, salt, remembers=duties)
            sources.append(greylist)
        self._senders, self._greylist, self._sources = senders, greylist, sources
        self._path = str(config.data / "reputation.sqlite3")
        self._behind: WriteBehind | None = None
        self._file: Reputation | None = None
        if duties:
            self._file = Reputation(world.disk, self._path)
            self._behind = WriteBehind(world, self._file, sources, forgive=self._forgive)
        self.sealer = _sealer(config, world)
        lists = config.reputation.dns_lists
        health = Health(world.reactor)
        self.parts = Parts(
            world,
            config.hostname,
            config.checks.authserv_id or config.hostname,
            draft,
            Teller(self._stories, world.now),
            resolver,
            _checks(config, hosts) if checks else None,
            Keys(resolver(), world.now) if checks else None,
            DnsLists(resolver(), world.reactor, lists) if checks and lists else None,
            rates,
            senders,
            greylist,
            self.sealer,
            _chain(world, config, "smtp", health),
            _chain(world, config, "submission", health),
            reports,
        )
        self.guard: Guard = SiteGuard(self.parts)
        self._suffixes = checks and config.checks.dmarc_discovery == "psl"
        self._key_files = KeyFiles(world.disk, str(config.data), world.now)
        self._timer: Any = None

    async def start(self) -> None:
        """Remember what was known before the last stop."""
        if self._behind is not None:
            await self._behind.start()
        else:
            await self._read()
        self._join()
        if self._suffixes:
            await self._world.threads.call(load_suffixes)
        if self._duties:
            self._sweep()

    async def _read(self) -> None:
        """What another process keeps. Without it, policies begin with nothing."""

        def read() -> None:
            rows = remembered(self._path, self._world.now())
            for source in self._sources:
                source.load(rows)

        try:
            await self._world.threads.call(read)
        except sqlite3.Error as error:
            _log.warn("what policies remember is not read: {error}", error=str(error))

    def _join(self) -> None:
        """After what is in the file: nothing that is heard may be overwritten by it."""
        siblings = self._world.siblings
        if isinstance(siblings, Alone):
            return  # who serves alone does not even make news
        self._rates.join(siblings)
        if self._senders is not None:
            self._senders.join(siblings)
        if self._greylist is not None:
            self._greylist.join(siblings)
        if not self._duties:
            siblings.hear(_FORGIVEN, self._hear_forgiven)

    def _sweep(self) -> None:
        """Once a day: keys that have signed nothing for long enough go."""
        self._timer = self._world.reactor.callLater(_DAY, self._sweep)
        self._world.threads.call(self._key_files.sweep).addErrback(_not_swept)

    async def stop(self) -> None:
        """Write down what is worth it."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        behind, self._behind = self._behind, None
        if behind is not None:
            await behind.stop()
        stories, self._stories = self._stories, None
        if stories is not None:
            await stories.close()

    def close_files(self) -> None:
        """As the end of the process does, when there was no `stop`."""
        if self._file is not None:
            self._file.close()

    def _forgive(self, account: str) -> None:
        """`mailctl user forgive`, seen by the process that keeps the file."""
        _log.info("{account} is forgiven", account=account)
        self._begin_anew(account)
        self._world.siblings.tell(_FORGIVEN, (account,))

    def _hear_forgiven(self, news: News) -> None:
        self._begin_anew(str(news[0]))

    def when_forgiven(self, forgive: Callable[[str], object]) -> None:
        """Have `forgive` called, too, with an account or a client's address that begins anew."""
        self._forgiving = forgive

    def _begin_anew(self, account: str) -> None:
        if self._forgiving is not None:
            self._forgiving(account)
        self._rates.forgive(account)
        if self._senders is not None:
            self._senders.forgive(account)


def _not_swept(failure: Failure) -> None:
    _log.warn("keys whose time is over are still there: {error}", error=str(failure.value))


def _sealer(config: Config, world: World) -> Sealer | None:
    signing = config.signing
    if not (signing.dkim or signing.arc):
        return None
    keys = SigningKeys(world.disk, str(config.data))
    return Sealer(keys, world.now, dkim=signing.dkim, arc=signing.arc)


def _checks(config: Config, hosts: Iterable[str]) -> Checks:
    checks, reputation = config.checks, config.reputation
    return Checks(
        exempt=tuple(ipaddress.ip_network(one) for one in checks.exempt_networks),
        spf=checks.spf,
        dkim=checks.dkim,
        arc=checks.arc,
        dmarc=checks.dmarc != "off",
        received_spf=checks.received_spf,
        names=reputation.names,
        seconds=checks.seconds,
        greet_delay=reputation.greet_delay_seconds,
        own=frozenset({config.hostname, *hosts}),
        decision=DecisionSettings(
            dmarc=checks.dmarc == "enforce",
            exceptions=dict(checks.exceptions),
            trusted_sealers=frozenset(checks.trusted_sealers),
            mailing_lists=frozenset(checks.mailing_lists),
            dns_failure=checks.temporary_failure,
            spf_fail=checks.spf_fail,
            junk_score=reputation.junk_score,
            reject_score=reputation.refuse_score,
            weights=Weights(**reputation.weights),
        ),
        spf_settings=SpfSettings(seconds=checks.seconds, receiver=config.hostname),
        dmarc_settings=DmarcSettings(
            "tree" if checks.dmarc_discovery == "tree" else "list", checks.seconds
        ),
    )


def _rates(config: Config) -> RateSettings:
    rates = config.rates

    def of(scope: str) -> Limits:
        def limit(what: str) -> Limit | None:
            return parse_rate(getattr(rates, f"{scope}_{what}", ""))

        return Limits(
            limit("connections"), limit("messages"), limit("recipients"), limit("unknown")
        )

    return RateSettings(of("address"), of("network"), of("domain"), of("account"))


def _greylist(config: Config) -> GreylistSettings:
    greylist = config.greylist
    return GreylistSettings(
        greylist.delay_seconds, greylist.window_seconds, greylist.lifetime_seconds
    )


def _chain(world: World, config: Config, port: str, health: Health) -> Chain:
    filters = [_filter(world, one) for one in config.filters if port in one.on]
    return Chain(world.reactor, filters, health)


def _filter(world: World, one: Filter) -> StageFilter | Scanner:
    """Raises ValueError."""
    name = one.name or one.kind
    failure = _FAILURES[one.on_failure]
    try:
        # Lean imports: each kind for those who have it.
        if one.kind == "milter":
            from .filters.milter import Milter, MilterSettings

            return Milter(
                world,
                MilterSettings(
                    name,
                    one.endpoint,
                    failure,
                    connect_seconds=min(10.0, one.seconds),
                    command_seconds=one.seconds,
                    content_seconds=10 * one.seconds,
                    total_seconds=20 * one.seconds,
                    connections=one.connections,
                ),
            )
        from .filters.scanning import ScannerSettings

        scanner = ScannerSettings(
            name,
            one.endpoint,
            failure,
            connect_seconds=min(5.0, one.seconds),
            seconds=one.seconds,
            connections=one.connections,
        )
        if one.kind == "rspamd":
            from .filters.rspamd import Rspamd, RspamdSettings

            return Rspamd(world, RspamdSettings(scanner, _password(one)))
        if one.kind == "clamav":
            from .filters.clamd import Clamd, ClamdSettings

            return Clamd(world, ClamdSettings(scanner, _MALWARE[one.malware]))
        from .filters.spamd import Spamd, SpamdSettings

        return Spamd(
            world,
            SpamdSettings(scanner, headers=one.headers, reject_score=one.refuse_score or None),
        )
    except ValueError as error:
        raise ValueError(f"filter {name}: {error}") from error


def _password(table: HasPassword) -> str:
    """Raises ValueError. The file was there when the configuration was read; root read it, perhaps, and we are not."""
    path = table.password_file
    key = "password" if path is None else f"password_file {path}"
    try:
        return password_of(table)
    except OSError as error:
        raise ValueError(f"{key} must be a file that can be read ({error.strerror})") from None
    except ValueError as error:
        raise ValueError(f"{key} {error}") from None
