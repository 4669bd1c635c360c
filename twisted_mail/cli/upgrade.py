"""``mailctl upgrade``: of which versions what is stored is, and back from the last upgrade.

Upgrades themselves come with the start of a newer server (`storage.upgrading`, `accounts.tables`).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from .backup import refusing
from .output import json_option, show
from .site import Refusal, SiteFiles, pass_site

__all__ = ["upgrade"]


@click.command()
@click.option("--undo", is_flag=True, help="Put back what was there before the last upgrade.")
@click.option("--done", is_flag=True, help="Remove what is kept for that.")
@json_option
@pass_site
def upgrade(site: SiteFiles, undo: bool, done: bool, as_json: bool) -> None:
    """Show the versions of what is stored, and of what this program knows.

    A newer server brings what an older one stored up to date when it starts. What it changes, it
    keeps as FILE.before-VERSION: with the server stopped, --undo puts that back, for the older
    program. What was changed in those files since is then in FILE.after-VERSION, and not in use.
    """
    if undo and done:
        raise click.UsageError("--undo or --done")
    site.require(site.config.data)
    site.become_owner()
    with refusing():
        if undo:
            _undo(site.config.data)
        elif done:
            _done(site.config.data)
        show(_rows(site.config.data), as_json, headings=True)


def _rows(data: Path) -> list[dict[str, Any]]:
    from ..accounts.tables import SCHEMA_VERSION, kept_versions
    from ..disk import OsDisk
    from ..storage import site_file, spool_tables
    from ..storage.upgrading import Upgrade

    rows: list[dict[str, Any]] = []
    stored = _site_version(data)
    kept = Upgrade(OsDisk(), str(data)).kept()
    back: Any = kept.before if kept is not None and kept.state in ("done", "undoing") else None
    rows.append(_row("site", stored, site_file.VERSION, back))
    accounts = data / "accounts.sqlite3"
    older = kept_versions(str(accounts))
    rows.append(
        _row("accounts", _user_version(accounts), SCHEMA_VERSION, older[-1] if older else None)
    )
    queue = _user_version(data / "queue.sqlite3")
    rows.append(_row("queue", queue, spool_tables.VERSION, None))
    return rows


def _row(what: str, stored: int | None, known: int, back: int | None) -> dict[str, Any]:
    return {"what": what, "stored": stored, "known": known, "undo": back}


def _site_version(data: Path) -> int | None:
    import json

    try:
        version = json.loads((data / "site.json").read_bytes())["version"]
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError) as error:
        raise Refusal(f"{data / 'site.json'} is damaged: {error}") from None
    return version if isinstance(version, int) else None


def _user_version(path: Path) -> int | None:
    import sqlite3

    if not path.exists():
        return None
    db = sqlite3.connect(path, isolation_level=None)
    try:
        return int(db.execute("PRAGMA user_version").fetchone()[0])
    finally:
        db.close()


def _undo(data: Path) -> None:
    from ..accounts.tables import kept_versions, undo_migration
    from ..disk import OsDisk
    from ..storage.upgrading import Upgrade, write_version

    disk = OsDisk()
    accounts = str(data / "accounts.sqlite3")
    with _alone(data):
        way = Upgrade(disk, str(data))
        older = kept_versions(accounts)
        kept = way.kept()
        if kept is None and not older:
            raise Refusal("there is no upgrade that could be undone")
        if kept is not None:
            way.undo(lambda version: write_version(disk, str(data), version))
            click.echo(f"site: version {kept.before} again; use the older program now", err=True)
        if older:
            undo_migration(accounts, older[-1])
            click.echo(f"accounts: version {older[-1]} again; use the older program now", err=True)


def _done(data: Path) -> None:
    from ..accounts.tables import kept_versions
    from ..disk import OsDisk
    from ..storage.upgrading import Upgrade

    with _alone(data):
        Upgrade(OsDisk(), str(data)).clean_start()
        accounts = str(data / "accounts.sqlite3")
        for version in kept_versions(accounts):
            os.unlink(f"{accounts}.before-{version}")


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """While no server is up, and none starts. Raises Refusal; also when the last one left something to be replayed,
    which only its own version understands."""
    journal = data / "journal"
    if not journal.is_dir():
        yield
        return
    fd = os.open(journal / "site.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refusal("the server is up: stop it first") from None
        if any(one.name[:-4].isdigit() for one in journal.glob("*.log")):
            raise Refusal(
                "the server was not stopped in good order: start it, and stop it, once; then again"
            )
        yield
    finally:
        os.close(fd)
