"""``mailctl certs``: the development CA and certificate."""

from __future__ import annotations

import click

from .site import Refusal, SiteFiles, pass_site

__all__ = ["certs"]


@click.group()
def certs() -> None:
    """Certificates to try things with."""


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
    if not config.development:
        click.echo("not used: the configuration names other certificates in [tls]")
