"""``mailctl import --from-dovecot``: a Maildir that Dovecot served becomes a user's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import click

from .importing_progress import Shown
from .importing_store import foreign_files, mailbox_of, with_store
from .output import counted, octets_text, show
from .site import Refusal, SiteFiles

if TYPE_CHECKING:
    from ..config import Config
    from ..storage.importing import Report
    from ..storage.importing_dovecot import DovecotConfig
    from ..storage.store import MailStore
    from ..world import World

__all__ = ["take_over"]

_USES: Final = ("drafts", "sent", "trash", "junk", "archive")


def take_over(
    site: SiteFiles,
    directory: str,
    address: str,
    *,
    method: str,
    merge: bool,
    control: str | None,
    doveconf: str | None,
    uses: tuple[str, ...],
    pop3: str | None,
) -> None:
    from ..disk import OsDisk
    from ..storage.importing import Method, TakeOver
    from ..storage.importing_dovecot import (
        DovecotConfig,
        is_config,
        read_config,
        read_dovecot,
        uidl_format,
        usual_use,
    )

    directory = os.path.abspath(directory)
    text = None if doveconf is None else _text(doveconf)
    if text is not None and not is_config(text):
        raise Refusal(
            f"--doveconf {doveconf}: nothing of Dovecot's configuration is in it; "
            "give what `doveconf -n` prints"
        )
    dovecot = DovecotConfig() if text is None else read_config(text)
    key, _ = mailbox_of(site, address)
    try:
        if pop3 == "default":
            pop3 = "%08Xu%08Xv"
        uidl = uidl_format(pop3 or dovecot.pop3_uidl_format)
        with foreign_files():
            source = read_dovecot(
                OsDisk(), directory, None if control is None else os.path.abspath(control)
            )
    except (OSError, ValueError) as error:
        raise Refusal(str(error)) from None
    names = [folder.name for folder in source.folders]
    special = {**usual_use(names), **dict(dovecot.uses)}
    special = _given(special, uses, names)
    taken = set(special.values())
    special.update(
        {name: use for name, use in usual_use(names).items() if use not in taken and not uses}
    )

    async def work(world: World, store: MailStore, progress: Shown) -> list[Report]:
        account = store.account(key)
        way = TakeOver(
            world.disk,
            account,
            directory,
            source,
            method=Method(method),
            uses={name: use for name, use in special.items() if use},
            uidl=uidl,
            progress=progress,
            foreign=foreign_files,
            give=_give_to_owner,
        )

        def whole() -> list[Report]:
            left_out.extend(way.begin(merge=merge))
            reports = way.run(left_out)
            way.finish(reports)
            return reports

        return await world.threads.call(whole)

    left_out: list[str] = []
    reports = with_store(site.config, work)
    _tell(reports, source.left_out, left_out)
    _advise(site.config, dovecot, given=text is not None)
    if any(report.wrong for report in reports):
        raise Refusal("not all messages are as they were; nothing was deleted")


def _text(name: str) -> str:
    """A file's, or standard input's. Raises Refusal."""
    try:
        with click.open_file(name, errors="replace") as file:
            return str(file.read(1 << 20))
    except OSError as error:
        raise Refusal(f"--doveconf {name}: {error.strerror or error}") from None


def _given(special: dict[str, str], uses: tuple[str, ...], names: list[str]) -> dict[str, str]:
    for text in uses:
        use, equals, name = text.partition("=")
        if use.lower() not in _USES or not equals:
            raise click.BadParameter(
                f"{text!r} is not such as sent=Gesendet; uses are {', '.join(_USES)}",
                param_hint="--special-use",
            )
        if name and name not in names:
            raise Refusal(f"there is no mailbox {name} in it; there are: {', '.join(names)}")
        flag = "\\" + use.capitalize()
        special = {other: its for other, its in special.items() if its != flag}
        if name:
            special[name] = flag
    return special


def _tell(reports: list[Report], unusable: list[tuple[str, str]], left_out: list[str]) -> None:
    show(
        [
            {
                "mailbox": report.name,
                "messages": report.taken,
                "size": octets_text(report.octets),
                "there already": report.there,
                "moved since": report.changed,
                "damaged": len(report.wrong),
            }
            for report in reports
        ]
    )
    for report in reports:
        for name in report.wrong:
            click.echo(f"mailctl: {report.name}: {ascii(name)[1:-1]} is not what it was", err=True)
    for name, reason in unusable:
        click.echo(f"mailctl: left out: {ascii(name)[1:-1]}: {reason}", err=True)
    for name in left_out:
        click.echo(
            f"mailctl: left out: {name} holds mail of another Dovecot already; "
            "add this with: mailctl import maildir",
            err=True,
        )
    messages = sum(report.taken for report in reports)
    octets = sum(report.octets for report in reports)
    click.echo(
        f"taken over: {counted(messages, 'message')}, {octets_text(octets)}, "
        f"{counted(len(reports), 'mailbox', 'mailboxes')}"
    )


def _advise(config: Config, dovecot: DovecotConfig, *, given: bool) -> None:
    """What clients have called the mailboxes until now."""
    imap = config.imap
    if (imap.separator, imap.prefix) == (dovecot.separator, dovecot.prefix):
        return
    whose = "this Dovecot's" if given else "Dovecot's usual"
    click.echo(
        f"clients know the mailboxes by {whose} names. Set in the configuration, and restart:\n"
        f'  [imap]\n  separator = "{dovecot.separator}"\n  prefix = "{dovecot.prefix}"'
        + ("" if given else "\n(or give --doveconf with what `doveconf -n` prints)")
    )


def _give_to_owner(path: str) -> None:
    """A file that was moved here belongs to who will serve it."""
    if os.geteuid() != os.stat(path).st_uid:
        os.chown(path, os.geteuid(), os.getegid())
