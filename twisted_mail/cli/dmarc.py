"""``mailctl dmarc``: what other servers report about mail in the name of this site's domains."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from .output import counted, json_option, show
from .report_reading import Wanted, collect, reading_options, refuse_unread, since, tell_problems
from .site import SiteFiles, pass_site

if TYPE_CHECKING:
    from ..reports.aggregate import Report

__all__ = ["dmarc"]


@click.group()
def dmarc() -> None:
    """Reports about mail in the name of this site's domains (DMARC)."""


@dmarc.command()
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
    """Show the aggregate reports that came: who sends mail as DOMAIN, whether it passes, and what to do when not."""
    from ..reports.aggregate import Report
    from ..reports.summary import once, sources

    wanted = Wanted("_dmarc", domain.lower(), since(days), address, mailboxes, files)
    found = collect(site, wanted)
    chosen = once(
        one.report
        for one in found
        if isinstance(one.report, Report)
        and (files or one.report.end >= wanted.since)
        and (not domain or _about(one.report.published.domain, wanted.domain))
    )
    lines = sources(chosen)
    show([_row(one, as_json) for one in lines], as_json)
    tell_problems(wanted, found)
    if not as_json:
        _totals(chosen, lines)
    refuse_unread(wanted, found)


def _totals(chosen: Sequence[Report], lines: Sequence[Any]) -> None:
    if not chosen:
        click.echo("no aggregate reports")
        return
    messages = sum(one.messages for one in lines)
    passed = sum(one.passed for one in lines)
    reporters = dict.fromkeys(one.organization for one in chosen)
    begin, end = min(one.begin for one in chosen), max(one.end for one in chosen)
    click.echo(
        f"{counted(len(chosen), 'report')} by {counted(len(reporters), 'site')}, {_day(begin)} to {_day(end)}:"
        f" {counted(messages, 'message')}, {passed} passed, {messages - passed} failed"
    )
    if left_out := sum(one.left_out for one in chosen):
        click.echo(f"{counted(left_out, 'record')} of reports that are too long are not in this")


def _about(name: str, domain: str) -> bool:
    return name == domain or name.endswith(f".{domain}") or domain.endswith(f".{name}")


def _row(one: Any, as_json: bool) -> dict[str, Any]:
    dispositions = dict(one.dispositions.most_common(5))
    dispositions |= {f"({word})": count for word, count in one.overrides.most_common(3)}
    done: Any = dispositions if as_json else _counts(dispositions, one.messages)
    reporters = list(one.reporters)
    if not as_json and len(reporters) > 3:
        reporters = [*reporters[:3], f"{len(reporters) - 3} more"]
    return {
        "source": one.address,
        "from": one.domain,
        "messages": one.messages,
        "dmarc": _share(one.passed, one.messages, as_json),
        "spf": _share(one.spf, one.messages, as_json),
        "dkim": _share(one.dkim, one.messages, as_json),
        "done": done,
        "reporters": reporters,
        "advice": one.advice,
    }


def _share(passed: int, messages: int, as_json: bool) -> Any:
    if as_json:
        return passed
    return "pass" if passed == messages else f"{passed} pass" if passed else "fail"


def _counts(counts: dict[str, int], messages: int) -> str:
    return ", ".join(
        word if count == messages else f"{count} {word}" for word, count in counts.items()
    )


def _day(moment: int) -> str:
    return datetime.fromtimestamp(min(moment, 253_402_300_799), UTC).strftime("%Y-%m-%d")
