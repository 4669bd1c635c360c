"""``mailctl check``: what would keep the server from starting, and what somebody should look after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from ..config import Config, ConfigError
from ..site import directory_path, read_configuration
from .findings import ERROR, OK, WARNING, Finding, certificates, filters, permissions
from .outgoing import outgoing
from .output import json_option, show
from .ports import ports
from .site import Refusal, SiteFiles, pass_site

__all__ = ["check"]


@click.command()
@json_option
@pass_site
def check(site: SiteFiles, as_json: bool) -> None:
    """Look at configuration, certificates, permissions, outgoing mail and ports. Exit code 1: something is wrong."""
    findings = list(_findings(site))
    show([asdict(finding) for finding in findings], as_json, headings=False)
    if any(finding.state == ERROR for finding in findings):
        raise SystemExit(1)


def _findings(site: SiteFiles) -> Iterator[Finding]:
    # The clock as World's is, without making a reactor.
    from twisted.python.runtime import seconds

    name = "no configuration" if site.path is None else str(site.path)
    try:
        config = read_configuration(site.path, Path.cwd())
    except ConfigError as error:
        for mistake in error.mistakes:
            yield Finding(ERROR, "configuration", str(mistake))
        return
    yield Finding(OK, "configuration", name)
    yield from certificates(config, now=seconds())
    yield from permissions(config)
    yield from filters(config)
    yield from outgoing(config)
    yield from ports(config)
    # Last, for root becomes the data's owner with it
    yield from _postmaster(site, config)


def _postmaster(site: SiteFiles, config: Config) -> Iterator[Finding]:
    if not config.postmaster or not directory_path(config).exists():
        return
    subject = f"postmaster {config.postmaster}"
    try:
        with site.directory() as directory:
            there = directory.postmaster_is_there()
    except Refusal as error:
        yield Finding(ERROR, subject, error.message)
        return
    if there:
        yield Finding(OK, subject, "there")
    else:
        detail = "no user or alias is called that: the first user gets postmaster's mail"
        yield Finding(WARNING, subject, detail)
