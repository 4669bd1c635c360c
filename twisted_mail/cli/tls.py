"""``mailctl tls``: what other servers report about TLS with this site (RFC 8460)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from .output import counted, json_option, show
from .report_reading import Wanted, collect, reading_options, refuse_unread, since, tell_problems
from .site import SiteFiles, pass_site

__all__ = ["tls"]


@click.group()
def tls() -> None:
    """Reports about TLS between other servers and this site."""


@tls.command()
@reading_options
@json_option
@pass_site
def reports(
    site: SiteFiles,
    domain: str,
    days: int,
    address: str,
    mailboxes: tuple[str, ...],
    files: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show the reports about TLS that came: whether others could send here encrypted, and what failed."""
    from ..reports.summary import once, tls_lines
    from ..reports.tls import TlsReport

    wanted = Wanted("_smtp._tls", domain.lower(), since(days), address, mailboxes, files)
    found = collect(site, wanted)
    chosen = once(
        one.report
        for one in found
        if isinstance(one.report, TlsReport) and (files or one.report.end >= wanted.since)
    )
    lines = [one for one in tls_lines(chosen) if not domain or one.domain == wanted.domain]
    show([_row(one, as_json) for one in lines], as_json)
    tell_problems(wanted, found)
    if not as_json:
        _totals(len(chosen), lines)
    refuse_unread(wanted, found)


def _totals(count: int, lines: Sequence[Any]) -> None:
    if not lines:
        click.echo("no reports about TLS")
        return
    sessions = sum(one.sessions for one in lines)
    failed = sum(one.sessions for one in lines if one.result)
    click.echo(f"{counted(count, 'report')}: {counted(sessions, 'session')}, {failed} failed")


def _row(one: Any, as_json: bool) -> dict[str, Any]:
    reporters = list(one.reporters)
    if not as_json and len(reporters) > 3:
        reporters = [*reporters[:3], f"{len(reporters) - 3} more"]
    return {
        "domain": one.domain,
        "policy": one.policy,
        "result": one.result or "right",
        "host": one.host,
        "sessions": one.sessions,
        "reporters": reporters,
        "advice": one.advice,
    }
