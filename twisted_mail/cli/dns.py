"""``mailctl dns``: the records that a domain needs, ready to paste, and whether they are there."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Final

import click

from .output import json_option, show
from .site import SiteFiles, pass_site

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from ..accounts.directory import Directory
    from ..config import Config
    from ..dns.interfaces import Resolver
    from ..records.facts import Facts
    from ..records.finding import Asking, Finding
    from ..world import World

__all__ = ["dns"]

_LATER: Final = (
    "twisted.web.client",
    "twisted_mail.cli.dns_facts",
    "twisted_mail.cli.run",
    "twisted_mail.dns.query",
    "twisted_mail.records.checking",
    "twisted_mail.records.zone_text",
    "twisted_mail.remote.sts_fetch",
    "twisted_mail.resolving",
)
"""What is imported before this goes on as the data's owner, who may not read where this program is installed."""

_COLOURS: Final = {
    "right": "green",
    "wrong": "bold red",
    "missing": "bold red",
    "optional": "cyan",
    "unknown": "yellow",
}


class _Dns(click.Group):
    """Without a command's name, what is there is a domain: its records are shown."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Dns, subcommand_metavar="DOMAIN | check DOMAIN")
def dns() -> None:
    """The records that a domain needs in the DNS.

    \b
    mailctl dns DOMAIN [--address IP] [--reports ADDRESS] [--json]
        prints them, as lines for its zone; more: mailctl dns show --help
    mailctl dns check DOMAIN
        asks whether they are there
    """


def _address(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    for one in value:
        try:
            ipaddress.ip_address(one)
        except ValueError:
            raise click.BadParameter(f"{one!r} is no IP address") from None
    return value


def _reports(ctx: click.Context, param: click.Parameter, value: str) -> str:
    from .site import parse_address

    return str(parse_address(value)) if value else ""


_addresses = click.option(
    "--address",
    "addresses",
    multiple=True,
    callback=_address,
    metavar="IP",
    help="An address of this server on the internet, when that cannot be known here. May be said twice.",
)
_reports_to = click.option(
    "--reports",
    default="",
    callback=_reports,
    metavar="ADDRESS",
    help="Who gets the reports of others. Default: dmarc-reports@ or dmarc@ the domain, if there is one, else its "
    "postmaster.",
)


@dns.command(name="show", hidden=True)
@click.argument("domain")
@_addresses
@_reports_to
@json_option
@pass_site
def show_(
    site: SiteFiles, domain: str, addresses: tuple[str, ...], reports: str, as_json: bool
) -> None:
    """Print the records that DOMAIN needs, as lines of a zone file."""
    from ..records.wanted import wanted
    from ..records.zone_text import plain, zone_text

    with _site(site) as (directory, chain):
        facts = _facts(site.config, directory, chain, domain, addresses, reports)
    topics = wanted(facts)
    if as_json:
        click.echo(json.dumps(plain(topics), ensure_ascii=False, indent=2))
    else:
        click.echo(zone_text(facts, topics))


@dns.command()
@click.argument("domain")
@_addresses
@_reports_to
@json_option
@pass_site
def check(
    site: SiteFiles, domain: str, addresses: tuple[str, ...], reports: str, as_json: bool
) -> None:
    """Ask the DNS for the records of DOMAIN: right, wrong, missing, and what it means.

    Asked is the resolver of [dns]; also for the names of our addresses (PTR), and whether lists of spammers
    ([reputation]) have them. The MTA-STS policy is fetched. Exit code 1: something is wrong or missing, or could not be
    asked for.
    """
    from ..records.checking import passed
    from .run import run

    with _site(site) as (directory, chain):
        facts = _facts(site.config, directory, chain, domain, addresses, reports)
        findings = run(lambda world: _check(world, site.config, facts, directory))
    show([one._asdict() for one in findings], as_json, headings=False, colours=_COLOURS)
    if not passed(findings):
        raise SystemExit(1)


async def _check(
    world: World, config: Config, facts: Facts, directory: Directory | None
) -> list[Finding]:
    from ..records import checking
    from ..resolving import SharedResolver

    shared = SharedResolver(config.dns, world)
    try:
        return await checking.check(_asking(world, config, facts, directory, shared()))
    finally:
        shared.close()


def _asking(
    world: World, config: Config, facts: Facts, directory: Directory | None, resolver: Resolver
) -> Asking:
    from ..records.finding import Asking
    from .dns_facts import here

    return Asking(
        facts,
        resolver,
        world.reactor,
        _fetch(world, config, resolver),
        is_here=here(directory),
        lists=tuple(one for one in config.reputation.dns_lists if one.of == "client"),
        trusted=config.dns.trust_ad,
    )


def _fetch(world: World, config: Config, resolver: Resolver) -> Callable[[str], Awaitable[str]]:
    """Gets MTA-STS policies as our own deliveries do."""
    from ..remote.settings import DeliverySettings
    from ..remote.sts_fetch import HttpsFetch

    settings = DeliverySettings(
        hostname=config.hostname,
        loopback=bool(config.dns.servers) or world.resolver is not None,
        families=config.delivery.family,
        sts_port=config.delivery.https_port,
        ca_file=config.delivery.ca_file,
    )
    return HttpsFetch(world, resolver, settings)


def _facts(
    config: Config,
    directory: Directory | None,
    chain: list[Certificate],
    domain: str,
    addresses: tuple[str, ...],
    reports: str,
) -> Facts:
    from .dns_facts import collect, own_domain

    domain = own_domain(config, directory, domain)
    return collect(config, directory, chain, domain, addresses=addresses, reports=reports)


@contextmanager
def _site(site: SiteFiles) -> Iterator[tuple[Directory | None, list[Certificate]]]:
    """The accounts, as the data's owner, None for a realm of the site's own; the certificates, as who called."""
    from .dns_facts import certificates

    for name in _LATER:
        import_module(name)
    chain = certificates(site.config)
    if not site.config.auth.realm:
        with site.directory() as directory:
            yield directory, chain
        return
    site.require(site.config.data)
    site.become_owner()
    yield None, chain
