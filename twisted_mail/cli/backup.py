"""``mailctl backup``: a copy of the whole site while it runs, and whether one is still what it was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .output import counted, octets_text
from .site import Refusal, SiteFiles, pass_site

if TYPE_CHECKING:
    from ..backup import Made
    from ..config import Config

__all__ = ["backup", "refusing", "shown"]


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False))
@click.option(
    "--keep", metavar="N", type=click.IntRange(min=1), help="Then remove all but the last N."
)
@click.option("--full", is_flag=True, help="Copy everything anew: no links to the last backup.")
@click.option(
    "--verify", is_flag=True, help="Make none: check the hashes of the last one, or of DIR itself."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@pass_site
def backup(
    site: SiteFiles, directory: str, keep: int | None, full: bool, verify: bool, as_json: bool
) -> None:
    """Copy the whole site to DIR/TIME while it runs: accounts, mail, queue, keys, configuration.

    What has not changed since the last backup in DIR takes no space: it is linked. A backup holds
    passwords (hashed) and keys: keep it where only you can read it. See also: mailctl restore
    """
    if verify:
        if keep is not None or full:
            raise click.UsageError("--verify makes no backup")
        _verify(directory, as_json)
        return
    _show(_make(site, directory, keep, full), as_json)


def _make(site: SiteFiles, directory: str, keep: int | None, full: bool) -> Made:
    from twisted.python.runtime import seconds

    from ..backup import Backup
    from ..disk import OsDisk

    config = site.config
    site.require(config.data)
    with refusing():
        _become_owner(site, directory)
        with shown() as progress:
            return Backup(
                OsDisk(),
                str(config.data),
                directory,
                now=seconds,
                hostname=config.hostname,
                extra=_configuration(site.path, config),
                progress=progress,
            ).make(keep=keep, full=full)


def _become_owner(site: SiteFiles, directory: str) -> None:
    """As root, go on as who owns the data: nothing that he has made there leads root anywhere."""
    owner = site.config.data.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    if not os.path.lexists(directory):
        os.mkdir(directory, 0o700)
        os.chown(directory, owner.st_uid, owner.st_gid)
    site.become_owner()
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        raise Refusal(
            f"{directory} cannot be written by user {owner.st_uid}, to whom the data belongs, and who makes the"
            f" backup: chown {owner.st_uid}:{owner.st_gid} {directory}"
        )


def _configuration(path: Path | None, config: Config) -> dict[str, str]:
    """mail.toml and certificates, by their names in the backup; those that can be read."""
    found: dict[str, str] = {}
    if path is not None:
        found[path.name] = str(path)
    if config.certificates.is_dir():
        for one in sorted(config.certificates.iterdir()):
            found[f"certificates/{one.name}"] = str(one)
    pairs = [(config.tls.certificate, config.tls.key)]
    pairs += [(pair.certificate, pair.key) for pair in config.tls.sni]
    for number, pair in enumerate(pairs):
        for file in filter(None, pair):
            found[f"certificates/{number}-{file.name}"] = str(file)
    readable = {}
    for name, source in found.items():
        if os.path.isfile(source) and os.access(source, os.R_OK, effective_ids=True):
            # A certificate may be a symbolic link, to the one of this month.
            readable[name] = os.path.realpath(source)
        elif os.path.lexists(source) and not os.path.isdir(source):
            click.echo(f"mailctl: {source} cannot be read, and is not in the backup", err=True)
    return readable


def _show(made: Made, as_json: bool) -> None:
    about = made.about
    if as_json:
        said: dict[str, Any] = {"path": made.path, **asdict(about)}
        said |= {"skipped": made.skipped, "removed": made.removed}
        click.echo(json.dumps(said, ensure_ascii=False, indent=2))
        return
    click.echo(
        f"{made.path}: {counted(about.files, 'file')}, {octets_text(about.octets)};"
        f" {about.copied} copied ({octets_text(about.written)}), the others linked"
    )
    for name in made.removed:
        click.echo(f"removed {name}")
    for line in made.skipped:
        click.echo(f"left out: {line}", err=True)


def _verify(directory: str, as_json: bool) -> None:
    from ..backup import newest
    from ..backup.checking import check
    from ..disk import OsDisk

    with refusing():
        disk = OsDisk()
        path = newest(disk, directory)
        with shown() as progress:
            wrong = check(disk, path, progress)
    if as_json:
        click.echo(json.dumps({"path": path, "wrong": wrong}, ensure_ascii=False, indent=2))
    else:
        for line in wrong:
            click.echo(line)
        if not wrong:
            click.echo(f"{path}: whole")
    if wrong:
        raise Refusal(
            f"{path} is not what was written: {counted(len(wrong), 'fault')}. Make the next one with --full, or it has"
            " links to what is damaged here, and look at the disk"
        )


@contextmanager
def refusing() -> Iterator[None]:
    """What backups refuse, as a line for people."""
    import sqlite3

    from ..backup import BackupError

    try:
        yield
    except (BackupError, ValueError) as error:
        raise Refusal(str(error)) from error
    except PermissionError as error:
        raise Refusal(
            f"it was not finished: {error}. The user who runs this has to be able to read all that is copied, and to"
            " write where it goes; of a site, mailctl verify says what is closed"
        ) from error
    except (OSError, sqlite3.Error) as error:
        raise Refusal(f"it was not finished: {error}") from error
    except KeyboardInterrupt:
        raise Refusal("stopped; nothing was kept of it") from None


@contextmanager
def shown() -> Iterator[Any]:
    """Progress for people; it is told of files where it says messages."""
    from twisted.python.runtime import seconds

    from .importing_progress import Shown

    yield Shown(seconds, "files")
