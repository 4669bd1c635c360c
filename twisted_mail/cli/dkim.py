"""``mailctl dkim``: the keys with which this site signs what its users send, and their records for the DNS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import click
from twisted.python.runtime import seconds

from ..disk import OsDisk
from ..storage.dkim_keys import (
    ACTIVE,
    KEEP,
    PREPARED,
    RETIRED,
    DkimKeysError,
    KeyFiles,
    KeyRow,
    record_strings,
)
from .output import counted, json_option, show
from .site import Refusal, SiteFiles, pass_site

__all__ = ["dkim", "zone_record"]

_WAIT: Final = 3600
"""Seconds after which a new record can be taken to be everywhere."""
_DAY: Final = 86_400


@click.group()
def dkim() -> None:
    """The keys that sign what this site's domains send (DKIM)."""


@dkim.command()
@click.argument("domain")
@click.option(
    "--prepared", is_flag=True, help="Do not sign yet: only make the keys and their records."
)
@pass_site
def add(site: SiteFiles, domain: str, prepared: bool) -> None:
    """Make keys for DOMAIN, RSA and Ed25519, and sign with them from now on; prints their DNS records."""
    with _keys(site) as keys:
        if _rows(keys, domain):
            raise Refusal(f"{domain} has keys already; new ones: mailctl dkim rotate {domain}")
        made = keys.add(domain, PREPARED if prepared else ACTIVE)
    if prepared:
        click.echo(f"added {_names(made)}; nothing is signed with them yet")
        click.echo(_then(made[0].domain))
    else:
        click.echo(f"added {_names(made)}; mail from {made[0].domain} is signed from now on")
        click.echo("Publish these records now; until then receivers cannot check the signatures:")
    _show_records(made)


@dkim.command()
@click.argument("domain")
@click.option(
    "--now", "at_once", is_flag=True, help="Change over, however new the prepared keys are."
)
@click.option(
    "--keep",
    type=click.IntRange(1, 365),
    default=KEEP // _DAY,
    show_default=True,
    metavar="DAYS",
    help="How long the old keys' records must stay, for mail that is still under way.",
)
@pass_site
def rotate(site: SiteFiles, domain: str, at_once: bool, keep: int) -> None:
    """Replace the keys of DOMAIN, in two steps.

    The first time it makes new keys and prints their records, which you publish. The second time, an hour later at the
    earliest, it signs with the new keys, and says when the old records may go.
    """
    with _keys(site) as keys:
        rows = _rows(keys, domain)
        if not rows:
            raise Refusal(f"{domain} has no keys: mailctl dkim add {domain}")
        waiting = [row for row in rows if row.state == PREPARED]
        if not waiting:
            made = keys.add(domain)
            click.echo(f"prepared {_names(made)}; nothing is signed with them yet")
            click.echo(_then(made[0].domain))
            _show_records(made)
            return
        left = max(row.since for row in waiting) + _WAIT - seconds()
        if left > 0 and not at_once:
            raise Refusal(
                f"{_names(waiting)}: made only at {_time(waiting[0].since)}, the records may not be "
                f"everywhere yet: wait {counted(int(left // 60) + 1, 'minute')}, or give --now"
            )
        now_active = keys.activate(domain, keep=keep * _DAY)
        old = [row for row in _rows(keys, domain) if row.state == RETIRED]
    click.echo(f"mail from {now_active[0].domain} is signed with {_names(now_active)} from now on")
    for row in old:
        click.echo(f"the record {row.name} must stay until {_time(row.until)}")


@dkim.command(name="list")
@click.argument("domain", required=False)
@click.option("--records", is_flag=True, help="Print the DNS records, ready to paste.")
@json_option
@pass_site
def list_(site: SiteFiles, domain: str | None, records: bool, as_json: bool) -> None:
    """Show the keys, of DOMAIN or of all: which are prepared, active, or retired and until when."""
    with _keys(site, changes=False) as keys:
        rows = keys.rows() if domain is None else _rows(keys, domain)
        if domain is not None and not rows and not as_json:
            raise Refusal(f"{domain} has no keys: mailctl dkim add {domain}")
    if records and not as_json:
        _show_records(rows, blank=False)
        return
    show([_shown(row, as_json) for row in rows], as_json)


@dkim.command()
@click.argument("domain")
@click.argument("selector", required=False)
@click.option("--yes", is_flag=True, help="Also when mail is signed with it.")
@pass_site
def remove(site: SiteFiles, domain: str, selector: str | None, yes: bool) -> None:
    """Delete the key SELECTOR of DOMAIN, or all its keys, at once. Mail under way can no longer be checked
    when its record goes, too.
    """
    with _keys(site) as keys:
        active = [
            row for row in _rows(keys, domain)
            if row.state == ACTIVE and selector in (None, row.selector)
        ]  # fmt: skip
        if active and not yes:
            raise Refusal(f"mail is signed with {_names(active)}; to delete it all the same: --yes")
        gone = keys.remove(domain, selector)
    click.echo(f"removed {_names(gone)}")
    for row in gone:
        click.echo(f"delete the record {row.name} from the DNS")


def zone_record(row: KeyRow) -> str:
    """The record as a line of a zone file, its text in strings of at most 255 octets."""
    strings = [f'"{one}"' for one in record_strings(row.record)]
    text = strings[0] if len(strings) == 1 else "( " + "\n    ".join(strings) + " )"
    return f"{row.name}. IN TXT {text}"


@contextmanager
def _keys(site: SiteFiles, changes: bool = True) -> Iterator[KeyFiles]:
    from ..site import directory_path

    site.require(directory_path(site.config))
    site.become_owner()
    keys = KeyFiles(OsDisk(), str(site.config.data), seconds)
    try:
        if changes:
            for row in keys.sweep():
                click.echo(f"forgot {row.selector} of {row.domain}: the record {row.name} may go")
        yield keys
    except (DkimKeysError, OSError) as error:
        raise Refusal(str(error)) from None


def _rows(keys: KeyFiles, domain: str) -> list[KeyRow]:
    from ..address import normalize_domain

    try:
        name = normalize_domain(domain)
    except ValueError as error:
        raise Refusal(f"{domain!r} is no domain: {error}") from None
    return [row for row in keys.rows() if row.domain == name]


def _then(domain: str) -> str:
    return (
        "Publish these records. After an hour at least, sign with the new keys:\n"
        f"    mailctl dkim rotate {domain}"
    )


def _show_records(rows: Sequence[KeyRow], *, blank: bool = True) -> None:
    if blank:
        click.echo()
    for row in rows:
        click.echo(zone_record(row))


def _names(rows: Sequence[KeyRow]) -> str:
    return " and ".join(row.selector for row in rows)


def _shown(row: KeyRow, as_json: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "domain": row.domain,
        "selector": row.selector,
        "algorithm": row.algorithm,
        "state": row.state,
        "since": _time(row.since),
        "until": None if row.until is None else _time(row.until),
    }
    if as_json:
        shown |= {"name": row.name, "record": row.record}
    return shown


def _time(moment: int | None) -> str:
    return datetime.fromtimestamp(moment or 0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
