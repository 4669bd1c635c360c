"""``mailctl restore``: a site of a backup."""

from __future__ import annotations

import json
import os
import sqlite3
from dataclasses import asdict

import click

from .backup import refusing, shown
from .output import counted, octets_text
from .site import Refusal, SiteFiles, parse_address, pass_site

__all__ = ["restore"]


@click.command()
@click.argument("backup", metavar="BACKUP", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--data",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="The data directory to make; empty, or not there.",
)
@click.option(
    "--without-queue",
    is_flag=True,
    help="Leave out what waited to be sent: it may have been sent since.",
)
@click.option("--user", metavar="ADDRESS", help="Put this user's mail into the site that there is.")
@click.option(
    "--into",
    metavar="MAILBOX",
    default="Restored",
    show_default=True,
    help="With --user: below this mailbox, made for it.",
)
@click.option("--skip-damaged", is_flag=True, help="Leave out what is damaged, and go on.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@pass_site
def restore(
    site: SiteFiles,
    backup: str,
    data: str | None,
    without_queue: bool,
    user: str | None,
    into: str,
    skip_damaged: bool,
    as_json: bool,
) -> None:
    """Make a data directory of BACKUP, or of the last one in it, and check every file meanwhile.

    Clients find the same mailboxes, UIDs and flags, and log in with the same passwords. mail.toml
    and certificates lie in BACKUP/config: put them where they belong. What waited to be sent is
    sent when the server starts; if it was sent after the backup, it is sent once more.

    With --user instead of --data: the messages of one user, as new ones, beside what the user has.
    """
    if (data is None) == (user is None):
        raise click.UsageError("either --data DIR or --user ADDRESS")
    if user is not None:
        if without_queue or as_json:
            raise click.UsageError("--user goes without --without-queue and --json")
        _one_user(site, backup, user, into, skip_damaged)
    elif data is not None:
        _whole(backup, data, without_queue, skip_damaged, as_json)


def _whole(backup: str, data: str, without_queue: bool, skip_damaged: bool, as_json: bool) -> None:
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


def _one_user(site: SiteFiles, backup: str, user: str, into: str, skip_damaged: bool) -> None:
    from .. import backup as backups
    from ..backup.checking import check
    from ..disk import OsDisk
    from .importing import import_letters

    disk = OsDisk()
    with refusing():
        path = backups.newest(disk, backup)
        key = _mailbox_of(path, user)
        with shown() as progress:
            wrong = check(disk, path, progress, under=f"data/mail/{key}/")
    for line in wrong:
        click.echo(f"damaged: {line}", err=True)
    if wrong and not skip_damaged:
        raise Refusal(
            f"{counted(len(wrong), 'file')} of {user} damaged in {path}; --skip-damaged goes on, with what is there"
        )
    maildir = os.path.join(path, "data", "mail", key, "Maildir")
    import_letters(site, maildir, address=user, under=into, no_quota=True)


def _mailbox_of(path: str, user: str) -> str:
    """The key of a user's mailbox, as the backup's accounts have it: another one by now, perhaps. Raises Refusal."""
    from urllib.parse import quote

    address = parse_address(user)
    file = os.path.join(path, "data", "accounts.sqlite3")
    if not os.path.exists(file):
        raise Refusal(f"{path} has no accounts")
    db = sqlite3.connect(f"file:{quote(os.path.abspath(file))}?immutable=1", uri=True)
    try:
        row = db.execute("SELECT mailbox FROM users WHERE key = ?", (address.key,)).fetchone()
    finally:
        db.close()
    if row is None:
        raise Refusal(f"{path} has no user {address}")
    return str(row[0])
