"""``mailctl restore``: a site of a backup."""

from __future__ import annotations

import json
import os
from dataclasses import asdict

import click

from .backup import refusing, shown
from .output import counted, octets_text
from .site import Refusal

__all__ = ["restore"]


@click.command()
@click.argument("backup", metavar="BACKUP", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--data",
    metavar="DIR",
    required=True,
    type=click.Path(file_okay=False),
    help="The data directory to make; empty, or not there.",
)
@click.option(
    "--without-queue",
    is_flag=True,
    help="Leave out what waited to be sent: it may have been sent since.",
)
@click.option("--skip-damaged", is_flag=True, help="Leave out what is damaged, and go on.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def restore(backup: str, data: str, without_queue: bool, skip_damaged: bool, as_json: bool) -> None:
    """Make a data directory of BACKUP, or of the last one in it, and check every file meanwhile.

    Clients find the same mailboxes, UIDs and flags, and log in with the same passwords. mail.toml
    and certificates lie in BACKUP/config: put them where they belong. What waited to be sent is
    sent when the server starts; if it was sent after the backup, it is sent once more.
    """
    from .. import backup as backups
    from ..disk import OsDisk

    disk = OsDisk()
    with refusing():
        path = backups.newest(disk, backup)
        with shown() as progress:
            done = backups.restore(
                disk,
                path,
                data,
                entropy=os.urandom,
                queue=not without_queue,
                skip_damaged=skip_damaged,
                progress=progress,
            )
    if as_json:
        said = {"path": path, "files": done.files, "octets": done.octets}
        said |= {"damaged": done.damaged, "backup": asdict(done.about)}
        click.echo(json.dumps(said, ensure_ascii=False, indent=2))
    else:
        click.echo(
            f"{data}: {counted(done.files, 'file')}, {octets_text(done.octets)}, from {path}"
        )
        if os.geteuid() == 0:
            click.echo("it belongs to root: chown it to the user who is to serve", err=True)
    if done.damaged:
        for name in done.damaged:
            click.echo(f"damaged, left out: {name}", err=True)
        raise Refusal(
            f"{counted(len(done.damaged), 'file')} of the backup damaged; the others are there"
        )
