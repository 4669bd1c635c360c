"""``mailctl domain``: the domains this site takes mail for."""

from __future__ import annotations

from collections import Counter

import click

from .output import json_option, show
from .site import SiteFiles, pass_site

__all__ = ["domain"]


@click.group()
def domain() -> None:
    """The domains that this site takes mail for."""


@domain.command()
@click.argument("name")
@pass_site
def add(site: SiteFiles, name: str) -> None:
    """Take mail for domain NAME from now on."""
    with site.directory(make=True) as directory:
        click.echo(f"added {directory.add_domain(name)}")


@domain.command(name="list")
@json_option
@pass_site
def list_(site: SiteFiles, as_json: bool) -> None:
    """Show the domains, and how many users and aliases each has."""
    with site.directory() as directory:
        users = Counter(user.address.domain for user in directory.users())
        aliases = Counter(alias.address.domain for alias in directory.aliases())
        rows = [
            {"domain": name, "users": users[name], "aliases": aliases[name]}
            for name in directory.domains()
        ]
    show(rows, as_json)


@domain.command()
@click.argument("name")
@pass_site
def remove(site: SiteFiles, name: str) -> None:
    """Take no more mail for domain NAME; it must have no users and aliases any more."""
    with site.directory() as directory:
        directory.remove_domain(name)
    click.echo(f"removed {name}")
