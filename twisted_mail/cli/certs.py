"""``mailctl certs``: the certificates that are served, how renewal goes, asking for a new one; the development CA."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .output import json_option, show_blocks
from .site import Refusal, SiteFiles, pass_site

if TYPE_CHECKING:
    from ..config import Config

__all__ = ["certs"]


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def certs(ctx: click.Context, as_json: bool) -> None:
    """Certificates: without a command, those that are served, and when they are renewed."""
    if ctx.invoked_subcommand is None:
        site: SiteFiles = ctx.obj
        if site.path is None and not _own_path(site.config).exists():
            site.require(site.config.data)
        show_blocks(list(_rows(site.config)), as_json)


@certs.command()
@pass_site
def renew(site: SiteFiles) -> None:
    """Ask the CA of [tls] acme for a new certificate now, whatever was planned.

    The server that runs does it; when none runs, the next one that starts. `mailctl certs` and the log tell how it
    went.
    """
    from ..acme.files import AcmeFiles
    from ..disk import OsDisk

    config = site.config
    if not config.tls.acme:
        raise Refusal(
            "[tls] acme is not true: this site's certificates are renewed by somebody else"
        )
    site.require(config.data)
    try:
        site.become_owner()
        files = AcmeFiles(OsDisk(), config.data)
        files.make()
        files.ask()
        # Who renews holds it for as long as he runs.
        idle = files.lock()
        files.unlock()
    except OSError as error:
        raise Refusal(str(error)) from None
    if idle:
        click.echo("asked for; no server runs, so it is done at its next start")
    else:
        click.echo("asked for; how it goes: mailctl certs")


@certs.command()
@pass_site
def dev(site: SiteFiles) -> None:
    """Make the development CA and certificate, where there are no good ones yet."""
    from twisted.python.runtime import seconds

    from ..certs import make_development_certificates

    config = site.config
    try:
        found = make_development_certificates(config.certificates, config.hostname, now=seconds())
    except (OSError, ValueError) as error:
        raise Refusal(str(error)) from None
    click.echo(f"ca: {found.ca}")
    click.echo(f"certificate: {found.certificate}")
    click.echo(f"key: {found.key}")
    if not found.made:
        click.echo("nothing to do: they are good for some time yet")
    if config.tls.acme:
        click.echo("used only until the CA of [tls] acme has sent one")
    elif not config.development:
        click.echo("not used: the configuration names other certificates in [tls]")


def _rows(config: Config) -> Iterator[dict[str, Any]]:
    from ..acme.files import AcmeFiles
    from ..acme.site import names_of_site
    from ..disk import OsDisk

    if config.tls.acme:
        files = AcmeFiles(OsDisk(), config.data)
        try:
            state = files.state()
        except OSError as error:
            raise Refusal(str(error)) from None
        row = _row(files.certificate_path)
        if row["problem"] and not files.certificate_path.exists():
            row["names"] = list(names_of_site(config))
            row["problem"] = "none yet: a development certificate is served"
        row["next_try"] = _moment(state.next or None)
        row["last_try"] = _moment(state.tried or None)
        row["failures"] = state.failures
        row["last_error"] = state.error
        yield row
    elif config.tls.certificate is not None:
        yield _row(config.tls.certificate)
    else:
        yield _row(_own_path(config))
    for pair in config.tls.sni:
        yield _row(pair.certificate)


def _own_path(config: Config) -> Path:
    """The development certificate."""
    return Path(f"{config.certificates / config.hostname}.pem")


def _row(path: Path) -> dict[str, Any]:
    from ..certs import inspect_certificate

    row: dict[str, Any] = {
        "certificate": str(path),
        "names": [],
        "issuer": "",
        "issued": None,
        "expires": None,
        "next_try": None,
        "last_try": None,
        "failures": 0,
        "last_error": "",
        "problem": "",
    }
    try:
        found = inspect_certificate(path)
    except (OSError, ValueError) as error:
        row["problem"] = str(error)
    else:
        row["names"], row["issuer"] = list(found.names), found.issuer
        row["issued"], row["expires"] = _moment(found.not_before), _moment(found.not_after)
    return row


def _moment(seconds: float | None) -> str | None:
    """As queue's times are shown."""
    from datetime import UTC, datetime

    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
