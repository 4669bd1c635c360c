"""``mailctl``: domains, users and aliases of a site, its mail and queue, its health, and its development certificate.

Works on the files, beside a server that runs or without one; what it changes counts there at once.
Exit codes: 0 done, 1 the site said no (one line on standard error), 2 wrong usage.

This module knows only names: a command imports what it needs when it is called.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any, Final

import click

from .site import Refusal, SiteFiles

__all__ = ["mailctl", "main"]

_COMMANDS: Final = (
    "alias",
    "backup",
    "certs",
    "check",
    "dkim",
    "dmarc",
    "dns",
    "domain",
    "explain",
    "export",
    "import",
    "queue",
    "restore",
    "status",
    "tls",
    "upgrade",
    "user",
    "verify",
)
_ELSEWHERE: Final = {"export": ("exporting", "export"), "import": ("importing", "import_")}
"""Module and name of commands that cannot, or shall not, be called as a module is."""


class _Commands(click.Group):
    """The commands, each in a module of its own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _ELSEWHERE.get(cmd_name, (cmd_name, cmd_name))
        command: click.Command = getattr(import_module(f".{module}", __name__), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ImportError, LookupError) as error:
            # A LookupError that is no KeyError is a codec's.
            if os.geteuid() == os.getuid() or isinstance(error, (KeyError, IndexError)):
                raise
            raise Refusal(
                f"{error}: user {os.geteuid()}, to whom the data belongs, may not read all of this "
                f"program or its Python ({sys.prefix}); install it where that user can, "
                "or give the command as that user"
            ) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "-c",
    metavar="FILE",
    help="The configuration. Default: $TWISTED_MAIL_CONFIG, else mail.toml in this directory, else "
    "the start without configuration in this directory.",
)
@click.version_option(package_name="twisted-mail-server")
@click.pass_context
def mailctl(ctx: click.Context, config: str | None) -> None:
    """Look after a mail server: its domains, users, aliases, queue and certificates."""
    ctx.obj = SiteFiles(config)


def main() -> None:
    """The console script."""
    mailctl(prog_name="mailctl")
