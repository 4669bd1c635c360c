"""``mailctl import``: mail of before becomes a user's."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from .importing_progress import Shown
from .importing_store import checked_name, foreign_files, mailbox_of, user_option, with_store
from .output import counted, octets_text
from .site import Refusal, SiteFiles, pass_site

if TYPE_CHECKING:
    from ..storage.importing_letters import MaildirSource, MboxSource
    from ..storage.store import MailStore
    from ..world import World

__all__ = ["import_", "import_letters"]

_Command = Callable[..., None]


@click.group(name="import", invoke_without_command=True)
@click.option(
    "--from-dovecot",
    "directory",
    metavar="DIR",
    help="Take over the Maildir that Dovecot served: same UIDs, nothing is downloaded again.",
)
@click.option("--user", "address", metavar="ADDRESS", help="Whose mailboxes.")
@click.option("--copy", "copy", is_flag=True, help="Copy the files. The default.")
@click.option("--link", "link", is_flag=True, help="Give them another name; DIR stays as it is.")
@click.option("--move", "move", is_flag=True, help="Take them out of DIR.")
@click.option("--merge", is_flag=True, help="Though the account holds mail already.")
@click.option("--control", metavar="DIR", help="Where Dovecot's mail_location has its CONTROL=.")
@click.option(
    "--doveconf",
    metavar="FILE",
    help='What `doveconf -n` printed: separator, prefix, special uses, POP3; "-" is standard input.',
)
@click.option(
    "--special-use",
    "uses",
    metavar="USE=MAILBOX",
    multiple=True,
    help='Such as "sent=Gesendet"; may be given several times. "sent=" for none.',
)
@click.option(
    "--pop3-uidl-format",
    "pop3",
    metavar="FORMAT",
    help='Dovecot\'s pop3_uidl_format, if it was set; "default" if not.',
)
@click.pass_context
def import_(
    ctx: click.Context,
    /,
    directory: str | None,
    address: str | None,
    copy: bool,
    link: bool,
    move: bool,
    **options: Any,
) -> None:
    """Mail of before becomes a user's. The server may run meanwhile; who is interrupted gives the
    same command again.

    Without a COMMAND, --from-dovecot and --user: a whole Maildir with all that clients know of it.
    """
    if ctx.invoked_subcommand is not None:
        if directory is not None or address is not None:
            raise click.UsageError("--from-dovecot and --user go without a command")
        return
    if directory is None or address is None:
        raise click.UsageError("Missing --from-dovecot and --user, or a command: mbox, maildir")
    if copy + link + move > 1:
        raise click.UsageError("only one of --copy, --link and --move")
    site = ctx.find_object(SiteFiles)
    assert site is not None
    from .importing_dovecot import take_over

    method = "move" if move else "link" if link else "copy"
    take_over(site, directory, address, method=method, **options)


# -- messages from elsewhere


def _common(command: _Command) -> _Command:
    for option in (
        click.option("--seen", is_flag=True, help="All of them have been read."),
        click.option("--no-quota", is_flag=True, help="Though the account's quota says no."),
        user_option,
    ):
        command = option(command)
    return command


@import_.command()
@click.argument("file", metavar="FILE")
@click.option("--mailbox", default="INBOX", show_default=True, help="Made when it is not there.")
@click.option(
    "--quoting",
    type=click.Choice(("mboxrd", "mboxo", "none")),
    default="mboxrd",
    show_default=True,
    help='How lines that begin with "From " are quoted in it.',
)
@_common
@pass_site
def mbox(
    site: SiteFiles,
    file: str,
    mailbox: str,
    quoting: str,
    address: str,
    no_quota: bool,
    seen: bool,
) -> None:
    """The messages of the mbox FILE, as new ones; dates from their From_ lines, flags from Status,
    X-Status, X-Keywords and Thunderbird's fields.
    """
    from ..disk import OsDisk
    from ..storage.importing_letters import MboxSource

    name = checked_name(site.config, mailbox)
    key, limits = mailbox_of(site, address)

    def source() -> MboxSource:
        flags = ("\\Seen",) if seen else ()
        path = os.path.abspath(file)
        if os.path.isdir(path):
            raise ValueError(f"{path} is a directory; is it a Maildir? mailctl import maildir")
        return MboxSource(OsDisk(), path, name, quoting=quoting, flags=flags, foreign=foreign_files)

    _letters(site, key, source, (None, None) if no_quota else limits)


@import_.command()
@click.argument("directory", metavar="DIR")
@click.option(
    "--under", metavar="MAILBOX", default="", help="Put everything below this mailbox, made for it."
)
@_common
@pass_site
def maildir(
    site: SiteFiles, directory: str, under: str, address: str, no_quota: bool, seen: bool
) -> None:
    """The messages of the Maildir DIR and all its folders, as new ones, with flags and dates.

    For the Maildir that a Dovecot served to this user there is --from-dovecot.
    """
    import_letters(site, directory, address=address, under=under, no_quota=no_quota, seen=seen)


def import_letters(
    site: SiteFiles,
    directory: str,
    *,
    address: str,
    under: str = "",
    no_quota: bool = False,
    seen: bool = False,
) -> None:
    """What ``mailctl import maildir`` does. Raises Refusal."""
    from ..disk import OsDisk
    from ..storage.importing_letters import MaildirSource

    name = checked_name(site.config, under) if under else ""
    key, limits = mailbox_of(site, address)

    def source() -> MaildirSource:
        flags = ("\\Seen",) if seen else ()
        path = os.path.abspath(directory)
        return MaildirSource(OsDisk(), path, under=name, flags=flags, foreign=foreign_files)

    _letters(site, key, source, (None, None) if no_quota else limits)


def _letters(
    site: SiteFiles,
    key: str,
    make: Callable[[], MboxSource | MaildirSource],
    limits: tuple[int | None, int | None],
) -> None:
    from ..storage.importing_letters import Imported, Importer
    from ..storage.importing_log import ImportLog

    try:
        source = make()
    except (OSError, ValueError) as error:
        raise Refusal(str(error)) from None

    async def work(world: World, store: MailStore, progress: Shown) -> Imported:
        mailboxes = await store.open_mailboxes(key)
        try:
            log = ImportLog(world.disk, store.account(key).home, source.name)
            # What a killed import had committed may not be in its mailbox yet, while the server runs.
            if world.disk.exists(log.path) and not await store.settle():
                raise ValueError("another process is tidying up what was killed; try again soon")
            logs.append(log.path)
            return await Importer(source, mailboxes, log, progress).run()
        finally:
            await mailboxes.close()

    logs: list[str] = []
    try:
        result: Imported = with_store(site.config, work, limits)
    except Refusal as error:
        if logs and os.path.exists(logs[0]):
            raise Refusal(
                f"{error.message}\nwhat is imported is safe; the same command goes on from there "
                f"(to begin anew, delete {logs[0]})"
            ) from None
        raise
    finally:
        source.close()
    for what, reason in source.left_out[:100]:
        click.echo(f"mailctl: left out: {ascii(what)[1:-1]}: {reason}", err=True)
    if len(source.left_out) > 100:
        click.echo(f"mailctl: left out: {len(source.left_out) - 100} more", err=True)
    before = f", after {result.before} before" if result.before else ""
    click.echo(
        f"imported: {counted(result.messages, 'message')}, {octets_text(result.octets)}{before}, "
        f"into {', '.join(result.mailboxes) or 'no mailbox'}"
    )
    if result.missing:
        where = ", ".join(f"{name}: {count}" for name, count in result.missing.items())
        raise Refusal(
            f"not in their mailboxes any more, or another now: {where}. Moved or deleted meanwhile? "
            f"What was imported is written in {logs[0]}; delete it when all is well"
        )
