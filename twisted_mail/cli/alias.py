"""``mailctl alias``: names whose mail goes to others."""

from __future__ import annotations

import click

from .output import json_option, show
from .site import SiteFiles, parse_address, pass_site

__all__ = ["alias"]


@click.group()
def alias() -> None:
    """Names whose mail goes to others. A catch-all is written @DOMAIN."""


@alias.command()
@click.argument("name")
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
@pass_site
def add(site: SiteFiles, name: str, targets: tuple[str, ...]) -> None:
    """Mail for NAME goes to each TARGET. NAME may be @DOMAIN: whatever has no name of its own there."""
    parsed = [parse_address(target) for target in targets]
    with site.directory() as directory:
        made = directory.add_alias(name, parsed)
    click.echo(f"added {made.name} -> {', '.join(map(str, made.targets))}")


@alias.command(name="list")
@json_option
@pass_site
def list_(site: SiteFiles, as_json: bool) -> None:
    """Show the aliases and their targets."""
    with site.directory() as directory:
        rows = [
            {"alias": one.name, "targets": [str(target) for target in one.targets]}
            for one in directory.aliases()
        ]
    show(rows, as_json)


@alias.command()
@click.argument("name")
@pass_site
def remove(site: SiteFiles, name: str) -> None:
    """Remove the alias NAME; its targets stay."""
    with site.directory() as directory:
        directory.remove_alias(name)
    click.echo(f"removed {name}")
