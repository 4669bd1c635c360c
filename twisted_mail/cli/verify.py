"""``mailctl verify``: whether what lies on the disk is whole and agrees, and ``--repair``: what can be mended is."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .output import counted
from .site import Refusal, SiteFiles, parse_address, pass_site

if TYPE_CHECKING:
    from ..storage.problems import Problem

__all__ = ["verify"]

_LATER = (
    "twisted_mail.cli.importing_progress",
    "twisted_mail.permissions",
    "twisted_mail.storage.account",
    "twisted_mail.storage.checking_site",
)
"""Imported after it works as the owner of the data."""
PAUSE = 1.0
"""Seconds between the two looks at what a server may be changing just now."""


class _CannotLook(Refusal):  # an answer, as Refusal is
    """Nothing was looked at; exit code 2."""

    exit_code = 2


@dataclass(slots=True)
class _Told:
    """What was found, and what became of it."""

    repair: bool
    as_json: bool
    found: list[dict[str, Any]]
    left: int = 0
    mended: int = 0

    def tell(self, problem: Problem) -> None:
        done = self._mend(problem) if self.repair else ""
        state = "note" if problem.note else "mended" if done == "mended" else "fault"
        self.left += state == "fault"
        self.mended += state == "mended"
        advice = done or problem.advice
        value = {
            "state": state,
            "what": problem.what,
            "where": problem.where,
            "text": problem.text,
            "advice": advice,
            "can_repair": problem.mend is not None,
        }
        if self.as_json:
            self.found.append(value)
        else:
            told = f"{state}\t{problem.what}\t{problem.where}: {problem.text}\t{advice}"
            # A name may be anybody's
            click.echo("".join(c if c.isprintable() or c == "\t" else "?" for c in told))

    def _mend(self, problem: Problem) -> str:
        if problem.mend is None:
            return ""
        try:
            problem.mend()
        except Exception as error:
            return f"not mended: {error}"
        return "mended"


@click.command()
@click.argument("users", nargs=-1, metavar="[USER]...")
@click.option("--repair", is_flag=True, help="Mend what can be mended without losing mail.")
@click.option("--deep", is_flag=True, help="Read every message, too: as slow as the disk.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@pass_site
def verify(
    site: SiteFiles, users: tuple[str, ...], repair: bool, deep: bool, as_json: bool
) -> None:
    """Look whether index and files, queue, journal and databases are whole and agree: of the site, or of some USERs.

    Beside a server that runs, or without one. A line for each finding: its state (fault, mended, or a mere note), what,
    where, and what to do or what --repair does. Mail is never changed or deleted; what is damaged is set aside. Exit
    code: 0 all is well or mended, 1 a fault is left, 2 nothing could be looked at.
    """
    told = _Told(repair, as_json, [])
    data = site.config.data
    site.require(data)
    # The owner may not read where this program is installed.
    for name in _LATER:
        import_module(name)
    try:
        site.become_owner()
        accounts = _run(site, users, told, deep)
    except (OSError, ValueError, sqlite3.Error) as error:
        raise _CannotLook(f"cannot look at {data}: {error}") from None
    if as_json:
        click.echo(json.dumps(told.found, ensure_ascii=False, indent=2))
    mended = f", {told.mended} mended" if repair else ""
    click.echo(f"{accounts}: {counted(told.left, 'fault')}{mended}", err=True)
    if told.left:
        raise SystemExit(1)


def _run(site: SiteFiles, users: Sequence[str], told: _Told, deep: bool) -> str:
    """Look at all of it; gives what was looked at, in words."""
    # The clock as World's is, without making a reactor.
    from twisted.python.runtime import seconds

    from ..disk import OsDisk
    from ..storage.account import AccountStore
    from ..storage.checking import Account
    from ..storage.checking_site import Site
    from .importing_progress import Shown

    disk, data = OsDisk(), os.path.abspath(site.config.data)
    whole = Site(disk, data, deep=deep)
    if users:
        keys = _keys_of(site, users)
    else:
        for problem in whole.check(lambda: time.sleep(PAUSE)):  # noqa: TID251
            told.tell(problem)
        keys = list(_all_keys(site, data, told))
    mail = os.path.join(data, "mail")
    messages = 0
    generation = whole.generation()
    owner = os.stat(data).st_uid
    progress = Shown(time.monotonic, "accounts")
    progress.begin("accounts", len(keys), 0)
    try:
        for key in keys:
            store = AccountStore(
                disk,
                os.path.join(mail, key),
                top=mail,
                generation=generation,
                now=seconds,
                entropy=os.urandom,
            )
            account = Account(
                disk,
                key,
                os.path.join(mail, key),
                generation=generation,
                refresh=store.refresh,
                deep=deep,
                owner=owner,
            )
            try:
                for problem in account.check():
                    told.tell(problem)
            except (OSError, ValueError, sqlite3.Error) as error:
                told.tell(_unreadable(os.path.join(mail, key), error))
            finally:
                store.retire()
            messages += account.messages
            progress.step(1, 0)
    finally:
        progress.end()
    return f"{counted(len(keys), 'account')}, {counted(messages, 'message')}"


def _unreadable(where: str, error: Exception) -> Problem:
    from ..storage.problems import Problem

    advice = "mend that, and look again: this account was not looked at"
    return Problem("mailbox", where, f"cannot be looked at: {error}", advice)


def _keys_of(site: SiteFiles, users: Sequence[str]) -> list[str]:
    keys: list[str] = []
    with site.directory() as directory:
        for name in users:
            user = directory.user(parse_address(name))
            if user is None:
                raise _CannotLook(f"there is no user {name}")
            keys.append(user.mailbox)
    return [key for key in keys if (site.config.data / "mail" / key).is_dir()]


def _all_keys(site: SiteFiles, data: str, told: _Told) -> Iterator[str]:
    """All accounts that have a directory; what is wrong with the list of them is told."""
    from ..disk import OsDisk
    from ..permissions import exposures
    from ..storage.problems import Problem

    mail = Path(data, "mail")
    there = sorted(
        f"{domain.name}/{home.name}"
        for domain in (mail.iterdir() if mail.is_dir() else ())
        if domain.is_dir()
        for home in domain.iterdir()
        if home.is_dir()
    )
    for exposure in exposures(site.config, OsDisk()):
        if exposure.path != site.config.data:
            told.tell(Problem("permissions", str(exposure.path), exposure.text, "see the text"))
    known = _known(site, told)
    if known is not None and not site.config.auth.realm:
        for key in there:
            if key not in known:
                text = "nobody has this mailbox: its user is not in accounts.sqlite3"
                advice = "put that file back from a backup, or move the mail away"
                told.tell(Problem("accounts", str(mail / key), text, advice))
    return iter(there)


def _known(site: SiteFiles, told: _Told) -> set[str] | None:
    """The mailboxes of all users; None when that cannot be known."""
    from ..disk import OsDisk
    from ..site import directory_path
    from ..storage.problems import Problem, check_database

    path = directory_path(site.config)
    advice = "it is not made anew: put a copy in its place"
    for problem in check_database(OsDisk(), str(path), "accounts"):
        told.tell(Problem(problem.what, problem.where, problem.text, advice))
        return None
    if not path.exists():
        if (site.config.data / "mail").is_dir():
            told.tell(Problem("accounts", str(path), "is not there, and mail is", advice))
            return None
        return set()
    try:
        with site.directory() as directory:
            return {user.mailbox for user in directory.users()}
    except Refusal as error:
        told.tell(Problem("accounts", str(path), error.message, "see the text"))
        return None
