"""``mailctl export``: a user's mail for other programs, a faithful copy."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from .importing_progress import Shown
from .importing_store import checked_name, foreign_files, mailbox_of, user_option, with_store
from .output import counted, octets_text, show
from .site import Refusal, SiteFiles, pass_site

if TYPE_CHECKING:
    from ..config import Config
    from ..disk import Disk
    from ..storage.exporting import Exported
    from ..storage.store import MailStore
    from ..world import World

__all__ = ["export"]


@click.command()
@click.argument("target", metavar="TARGET")
@user_option
@click.option(
    "--mailbox",
    "names",
    metavar="NAME",
    multiple=True,
    help="Only this; may be given several times.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(("maildir", "mbox")),
    required=True,
    help="maildir: a Maildir++ that Dovecot can serve, same UIDs. mbox: a file a mailbox.",
)
@pass_site
def export(
    site: SiteFiles, target: str, address: str, names: tuple[str, ...], format_: str
) -> None:
    """Copy a user's mail into the directory TARGET. Who is interrupted gives the same command again."""
    target = os.path.abspath(target)
    wanted = [checked_name(site.config, name) for name in names]
    key, _ = mailbox_of(site, address)

    async def work(world: World, store: MailStore, progress: Shown) -> tuple[list[Exported], Any]:
        from ..storage.exporting import RefusedExportError, export_maildir, export_mbox

        disk: Disk = _Outside(world.disk)
        mailboxes = await store.open_mailboxes(key)
        try:
            if format_ == "mbox":
                done = await export_mbox(mailboxes, disk, target, wanted, progress)
            else:
                account = store.account(key)
                done = await export_maildir(mailboxes, account, disk, target, wanted, progress)
            return done, await mailboxes.list()
        except RefusedExportError:
            goes_on.clear()
            raise
        finally:
            await mailboxes.close()

    goes_on = [True]
    try:
        reports, boxes = with_store(site.config, work)
    except Refusal as error:
        raise Refusal(
            f"{error.message}\nwhat is in {target} is kept; the same command goes on from there"
            if goes_on and os.path.isdir(target)
            else error.message
        ) from None
    _tell(reports)
    if format_ == "maildir":
        _advise(site.config, [(box.name, use) for box in boxes for use in box.special_use])
    if any(report.wrong for report in reports):
        raise Refusal(f"not all messages could be read back from {target}: is the disk in order?")


class _Outside:
    """A disk whose files belong to who called: root, though `mailctl` has become the data's owner."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._disk, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            with foreign_files():
                return method(*args, **kwargs)

        return call


def _tell(reports: list[Exported]) -> None:
    show(
        [
            {
                "mailbox": report.name,
                "messages": report.messages,
                "size": octets_text(report.octets),
                "there already": report.before,
                "deleted meanwhile": report.gone,
                "damaged": len(report.wrong),
                "path": report.path,
            }
            for report in reports
        ]
    )
    messages = sum(report.messages for report in reports)
    octets = sum(report.octets for report in reports)
    click.echo(
        f"exported: {counted(messages, 'message')}, {octets_text(octets)}, "
        f"{counted(len(reports), 'mailbox', 'mailboxes')}"
    )


def _advise(config: Config, uses: list[tuple[str, str]]) -> None:
    """What the other server has to be told, for clients to see what they have seen here."""
    imap = config.imap
    lines = [
        "for Dovecot:",
        "  namespace inbox {",
        "    inbox = yes",
        f"    separator = {imap.separator}",
    ]
    if imap.prefix:
        lines.append(f"    prefix = {imap.prefix}")
    for name, use in uses:
        shown = name.replace("/", imap.separator)
        lines += [f'    mailbox "{shown}" {{', f"      special_use = {use}", "    }"]
    click.echo("\n".join([*lines, "  }"]))
