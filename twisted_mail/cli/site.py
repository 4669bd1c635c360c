"""What the commands work on: the site's configuration and accounts, opened when a command asks.

Refusals of the rooms below become `Refusal`: one line on standard error, exit code 1. Where there is no site at all,
`NoSite` says so, and nothing is made: exit code 2.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from ..accounts.directory import Directory
    from ..address import Address
    from ..config import Config

__all__ = ["NoSite", "Refusal", "SiteFiles", "parse_address", "pass_site"]


class Refusal(click.ClickException):
    """The answer is no; exit code 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"mailctl: {self.message}", err=True, file=file)


class NoSite(Refusal):  # an answer, as Refusal is
    """Another directory, or another configuration, was meant; exit code 2."""

    exit_code = 2


_LATER: Final = (
    "ctypes",
    "encodings.idna",
    "encodings.punycode",
    "encodings.utf_16_be",
    "getpass",
    "rich.console",
    "rich.progress",
    "rich.table",
    "twisted_mail.accounts.passwords",
    "twisted_mail.backup",
    "twisted_mail.cli.explain_text",
    "twisted_mail.cli.exporting",
    "twisted_mail.cli.importing",
    "twisted_mail.cli.importing_dovecot",
    "twisted_mail.cli.queue_changes",
    "twisted_mail.cli.queue_text",
    "twisted_mail.cli.rehearsal",
    "twisted_mail.cli.rehearsal_text",
    "twisted_mail.cli.run",
    "twisted_mail.imap.names",
    "twisted_mail.reports.summary",
    "twisted_mail.resolving",
    "twisted_mail.storage.account_view",
    "twisted_mail.storage.exporting",
    "twisted_mail.storage.importing_letters",
    "twisted_mail.storage.spool_view",
    "twisted_mail.storage.upgrading",
)
"""Whatever a command imports after it has opened the site."""


class SiteFiles:
    """The site that the command line means."""

    def __init__(self, given: str | None) -> None:
        self._given = given

    @cached_property
    def path(self) -> Path | None:
        """The configuration file; None for the start without one."""
        from ..site import configuration_path

        return configuration_path(self._given, os.environ, Path.cwd())

    @cached_property
    def config(self) -> Config:
        """The configuration. Raises Refusal."""
        from ..config import ConfigError
        from ..site import read_configuration

        try:
            return read_configuration(self.path, Path.cwd(), serves=False)
        except ConfigError as error:
            raise Refusal(f"the configuration cannot be used\n{error}") from None

    @contextmanager
    def directory(self, *, make: bool = False) -> Iterator[Directory]:
        """The accounts, while a command works on them. When they are not there: made, or NoSite."""
        # The clock as World's is, without making a reactor.
        from twisted.python.runtime import seconds

        from ..accounts.directory import DirectoryError
        from ..disk import OsDisk
        from ..site import directory_path, make_data, open_directory

        config = self.config
        try:
            if make:
                make_data(config, OsDisk())
            else:
                self.require(directory_path(config))
            self.become_owner()
            directory = open_directory(config, now=seconds, entropy=os.urandom)
        except (ValueError, OSError) as error:
            raise Refusal(f"cannot open the accounts: {error}") from None
        try:
            yield directory
        except DirectoryError as error:
            raise Refusal(str(error)) from None
        finally:
            directory.close()

    def require(self, path: Path) -> None:
        """Raises NoSite when `path`, of the site's data, is not there."""
        if path.exists():
            return
        if self.path is None:
            raise NoSite(
                f"there is no site here: {Path.cwd()} has no mail.toml, and {path} is not there. "
                "Go to its directory, or name its configuration: mailctl --config FILE …"
            )
        raise NoSite(
            f"there is no site yet: {path} is not there, which {self.path} means. It is made by "
            "the server's first start, and by: mailctl domain add DOMAIN"
        )

    def become_owner(self) -> None:
        """As root, go on as who owns the data: what is made here must be the server's to write."""
        owner = self.config.data.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            # The owner may not read where this program is installed.
            for name in _LATER:
                import_module(name)
            os.setgroups([])
            os.setegid(owner.st_gid)
            os.seteuid(owner.st_uid)


pass_site: Callable[[Callable[..., None]], Callable[..., None]] = click.make_pass_decorator(
    SiteFiles
)


def parse_address(text: str) -> Address:
    """An address with its domain. Raises Refusal."""
    from ..address import Address

    try:
        address = Address.parse(text)
    except ValueError as error:
        raise Refusal(f"{text!r} is not an address: {error}") from None
    if not address.domain:
        raise Refusal(f"{text!r} is not an address: it has no domain")
    return address
