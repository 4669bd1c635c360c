"""``mailctl user``: who may log in and has a mailbox."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from .output import json_option, octets_text, show
from .site import Refusal, SiteFiles, parse_address, pass_site

if TYPE_CHECKING:
    from pathlib import Path

    from ..accounts.passwords import PasswordRecord
    from ..config import Config
    from ..world import World

__all__ = ["user"]

_MAX_PASSWORD: Final = 1024

_password_option: Callable[[Callable[..., None]], Callable[..., None]] = click.option(
    "--password-stdin",
    is_flag=True,
    help="Take the password from one line of standard input, without a prompt; so it is from a pipe in any case.",
)


@click.group()
def user() -> None:
    """Who may log in and has a mailbox."""


@user.command()
@click.argument("address")
@_password_option
@pass_site
def add(site: SiteFiles, address: str, password_stdin: bool) -> None:
    """Add the user ADDRESS. The password comes from a prompt, or from standard input."""
    parsed = parse_address(address)
    with site.directory() as directory:
        if not directory.is_local_domain(parsed.domain):
            raise Refusal(
                f"the domain {parsed.domain} is not here; "
                f"add it first: mailctl domain add {parsed.domain}"
            )
        if directory.user(parsed) is not None:
            raise Refusal(f"the user {parsed} exists already")
        made = directory.add_user(parsed, _record(password_stdin))
    click.echo(f"added {made.address}")


@user.command(name="list")
@json_option
@pass_site
def list_(site: SiteFiles, as_json: bool) -> None:
    """Show the users, the first one first."""
    with site.directory() as directory:
        rows = [
            {
                "user": str(one.address),
                "enabled": one.enabled,
                "created": datetime.fromtimestamp(int(one.created), UTC).isoformat(),
                "mailbox": one.mailbox,
            }
            for one in directory.users()
        ]
    show(rows, as_json)


@user.command()
@click.argument("address")
@_password_option
@pass_site
def passwd(site: SiteFiles, address: str, password_stdin: bool) -> None:
    """Give the user ADDRESS a new password; it counts at once."""
    parsed = parse_address(address)
    with site.directory() as directory:
        if directory.user(parsed) is None:
            raise Refusal(f"there is no user {parsed}")
        directory.set_password(parsed, _record(password_stdin))
    click.echo(f"changed the password of {parsed}")


@user.command()
@click.argument("address")
@pass_site
def disable(site: SiteFiles, address: str) -> None:
    """Let the user ADDRESS log in no more; it counts at once, and sessions that are open end in a moment.

    Mail for ADDRESS is still taken, and stays.
    """
    _set_enabled(site, address, False)


@user.command()
@click.argument("address")
@pass_site
def enable(site: SiteFiles, address: str) -> None:
    """Let the user ADDRESS log in again, with the same password."""
    _set_enabled(site, address, True)


@user.command()
@click.argument("address")
@pass_site
def forgive(site: SiteFiles, address: str) -> None:
    """Let the user ADDRESS, who was slowed because it looked as if he sent spam, send as ever again; and forget that
    logins have failed for him.

    ADDRESS may be that of a client on the network, too: its failed logins, and those of its network, are forgotten. A
    server that runs does so within half a minute.
    """
    from ipaddress import ip_address

    from twisted.python.runtime import seconds

    from ..disk import OsDisk
    from ..storage.reputation import Reputation

    try:
        name = str(ip_address(address))
    except ValueError:
        parsed = parse_address(address)
        with site.directory() as directory:
            found = directory.user(parsed)
            if found is None:
                raise Refusal(f"there is no user {parsed}") from None
        name = str(found.address)
    file = Reputation(OsDisk(), str(site.config.data / "reputation.sqlite3"))
    try:
        file.forgive(name, seconds())
    finally:
        file.close()
    click.echo(f"{name} is forgiven")


@user.command()
@click.argument("address")
@click.option(
    "--storage",
    metavar="SIZE",
    help='Such as "2 GiB", "500 MB", "2G" (GiB) or "20480" (octets); "none", or "default".',
)
@click.option("--messages", metavar="NUMBER", help='How many; "none", or "default".')
@json_option
@pass_site
def quota(
    site: SiteFiles, address: str, storage: str | None, messages: str | None, as_json: bool
) -> None:
    """Show how much the user ADDRESS keeps, and may keep, or change the bound; it counts at once.

    "none" is no bound at all, "default" what [quota] says for everybody. More mail than that is
    refused; what is there already stays.
    """
    parsed = parse_address(address)
    with site.directory() as directory:
        found = directory.user(parsed)
        if found is None:
            raise Refusal(f"there is no user {parsed}")
        own = [found.storage, found.messages]
        if storage is not None:
            own[0] = _bound("--storage", storage, _octets)
        if messages is not None:
            own[1] = _bound("--messages", messages, _number)
        if own != [found.storage, found.messages]:
            directory.set_quota(parsed, *own)
        bounds = directory.quota(found.mailbox)
    used = _usage(site.config, found.mailbox)
    origins = ["[quota]" if bound is None else "user" for bound in own]
    if as_json:
        row = {
            "user": str(parsed),
            "storage": bounds[0],
            "storage_from": origins[0],
            "storage_used": used[0],
            "messages": bounds[1],
            "messages_from": origins[1],
            "messages_used": used[1],
        }
        show([row], True)
        return
    click.echo(f"user:     {parsed}")
    shows: tuple[tuple[str, Callable[[int], str]], ...] = (("storage:", _size), ("messages:", str))
    for (label, text), there, bound, origin in zip(shows, used, bounds, origins, strict=True):
        held = "not counted yet" if there is None else f"{text(there)} used"
        limit = "no bound" if bound is None else f"at most {text(bound)}"
        whose = "for everybody, [quota]" if origin == "[quota]" else "for this user"
        click.echo(f"{label:9} {held}, {limit} ({whose})")


@user.command()
@click.argument("address")
@click.option("--yes", is_flag=True, help="Do not ask; nobody is asked but on a terminal.")
@pass_site
def remove(site: SiteFiles, address: str, yes: bool) -> None:
    """Remove the user ADDRESS. The mail is taken out of the site and kept, until somebody deletes it."""
    from ..accounts.directory import StillNeededError

    parsed = parse_address(address)
    with site.directory() as directory:
        if directory.user(parsed) is None:
            raise Refusal(f"there is no user {parsed}")
        # A script has decided already; and the mail is kept.
        if not yes and sys.stdin.isatty():
            click.confirm(
                f"Remove the user {parsed} and take the mail out of the site?", abort=True
            )
        # The account first: whoever gets mail or logs in from now on is not this user.
        try:
            removed = directory.remove_user(parsed)
        except StillNeededError as error:
            raise Refusal(
                f"{error}:\nmailctl alias remove {error.alias}; "
                f"mailctl alias add {error.alias} TARGET..."
            ) from None
    click.echo(f"removed {parsed}")
    moved = _take_mail_out(site.config, removed.mailbox)
    click.echo("there was no mail" if moved is None else f"the mail is in {moved}")


def _set_enabled(site: SiteFiles, address: str, enabled: bool) -> None:
    """To say it twice is no mistake. Raises Refusal."""
    parsed = parse_address(address)
    with site.directory() as directory:
        found = directory.user(parsed)
        if found is None:
            raise Refusal(f"there is no user {parsed}")
        directory.set_enabled(parsed, enabled)
    click.echo(f"{'enabled' if enabled else 'disabled'} {found.address}")


def _bound(option: str, text: str, parse: Callable[[str], int | None]) -> int | None:
    """What `Directory.set_quota` wants. Raises Refusal."""
    if text.lower() == "default":
        return None
    try:
        return 0 if text.lower() == "none" else parse(text)
    except ValueError as error:
        raise Refusal(f'{option} {text!r}: {error}, or "default"') from None


def _octets(text: str) -> int | None:
    from ..config.values import parse_storage

    return parse_storage(text)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 13 and int(text)):
        raise ValueError('must be a number above 0, or "none"')
    return int(text)


def _usage(config: Config, mailbox: str) -> tuple[int | None, int | None]:
    """Octets and messages that are there; None when that cannot be known now."""
    import sqlite3

    from ..disk import OsDisk
    from ..storage.account_view import usage

    try:
        return usage(OsDisk(), str(config.data / "mail" / mailbox)) or (None, None)
    except (OSError, sqlite3.Error):
        return None, None


def _size(octets: int) -> str:
    return octets_text(octets) if octets < 1024 else f"{octets_text(octets)} ({octets} B)"


def _take_mail_out(config: Config, mailbox: str) -> Path | None:
    """Move the mail away. Returns where it is; None when there was none. Raises Refusal."""
    from ..site import make_store
    from .run import run

    async def take_out(world: World) -> str:
        store = make_store(config, world)
        await store.start()
        try:
            return await store.remove_account(mailbox)
        finally:
            await store.stop()

    moved = config.data / run(take_out)
    return moved if moved.exists() else None


def _on_terminal() -> bool:
    """Whether there is somebody to ask: a pipe would be read all the same, with a warning that it may be seen."""
    return sys.stdin.isatty()


def _record(password_stdin: bool) -> PasswordRecord:
    """Ask for a password and hash it. Raises Refusal for one that cannot be used."""
    from ..accounts.passwords import hash_password

    if password_stdin or not _on_terminal():
        line = sys.stdin.buffer.readline(_MAX_PASSWORD + 2)
        try:
            password = line.removesuffix(b"\n").removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise Refusal("the password is not UTF-8") from None
    else:
        # An empty default, so that no password is refused here and not asked for again and again.
        password = click.prompt(
            "Password", hide_input=True, confirmation_prompt=True, default="", show_default=False
        )
    if len(password) > _MAX_PASSWORD:
        raise Refusal(f"the password is longer than {_MAX_PASSWORD} characters")
    try:
        return hash_password(password, os.urandom)
    except ValueError as error:
        raise Refusal(str(error)) from None
