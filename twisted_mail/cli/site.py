"""What the commands work on: the site's configuration and accounts, opened when a command asks.

Refusals of the rooms below become `Refusal`: one line on standard error, exit code 1.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..accounts.directory import Directory
    from ..address import Address
    from ..config import Config

__all__ = ["Refusal", "SiteFiles", "parse_address", "pass_site"]


class Refusal(click.ClickException):
    """The answer is no; exit code 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"mailctl: {self.message}", err=True, file=file)


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
            return read_configuration(self.path, Path.cwd())
        except ConfigError as error:
            raise Refusal(f"the configuration cannot be used\n{error}") from None

    @contextmanager
    def directory(self) -> Iterator[Directory]:
        """The accounts, while a command works on them; made when they are not there."""
        # The clock as World's is, without making a reactor.
        from twisted.python.runtime import seconds

        from ..accounts.directory import DirectoryError
        from ..disk import OsDisk
        from ..site import make_data, open_directory

        config = self.config
        try:
            make_data(config, OsDisk())
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

    def become_owner(self) -> None:
        """As root, go on as who owns the data: what is made here must be the server's to write."""
        owner = self.config.data.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
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
