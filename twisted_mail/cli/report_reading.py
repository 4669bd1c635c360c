"""What ``mailctl dmarc reports`` and ``mailctl tls reports`` have in common: where reports are, and reading them.

They are in the mailbox of whoever the DNS says gets them, or in files. Nothing is changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import click
from twisted.python.runtime import seconds

from ..dns.interfaces import DnsError, Resolver
from ..policy import dmarc_record
from ..reports.reading import Found, in_file, in_message
from ..reports.tls import rua_of
from ..reports.unpack import MAX_PACKED
from ..status import MailError
from .importing_progress import Shown
from .importing_store import checked_name, foreign_files, mailbox_of, with_store
from .output import counted
from .site import Refusal, SiteFiles, parse_address

if TYPE_CHECKING:
    from ..accounts.directory import Directory
    from ..storage.store import MailStore
    from ..world import World

__all__ = ["Wanted", "collect", "reading_options", "refuse_unread", "since", "tell_problems"]

_DAY: Final = 86_400
MAX_REPORTS: Final = 100_000
_MAX_MAIL: Final = MAX_PACKED * 3 // 2

_Command = Callable[..., None]


@dataclass(slots=True)
class Wanted:
    """`tag`: whose reports, ``_dmarc`` or ``_smtp._tls``. `since`: seconds since 1970."""

    tag: str
    domain: str
    since: float
    address: str
    mailboxes: Sequence[str]
    files: Sequence[str]
    notes: list[str] = field(default_factory=list)
    """What the caller is to know, for standard error."""


def reading_options(command: _Command) -> _Command:
    """The options of both commands."""
    options = (
        click.option("--domain", metavar="DOMAIN", default="", help="Only about this domain."),
        click.option(
            "--days",
            type=click.IntRange(1, 3660),
            default=30,
            show_default=True,
            metavar="N",
            help="How far back.",
        ),
        click.option(
            "--user",
            "address",
            metavar="ADDRESS",
            default="",
            help="Whose mailbox has them. Default: whom the DNS records of the site's domains name.",
        ),
        click.option(
            "--mailbox",
            "mailboxes",
            metavar="NAME",
            multiple=True,
            help="Where in it; may be given several times. Default: INBOX.",
        ),
        click.option(
            "--file",
            "files",
            metavar="FILE",
            multiple=True,
            help="Read this instead: a report (also gzip or zip) or a mail; may be given several times.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def collect(site: SiteFiles, wanted: Wanted) -> list[Found]:
    """All reports there are, those that cannot be read too. Raises Refusal."""
    if wanted.files:
        return [found for name in wanted.files for found in _of_file(name)]
    names = [checked_name(site.config, name) for name in wanted.mailboxes] or ["INBOX"]
    if wanted.address:
        keys = {mailbox_of(site, wanted.address)[0]: wanted.address}
        domains: list[str] = []
    else:
        keys = {}
        with site.directory() as directory:
            domains = [wanted.domain] if wanted.domain else directory.domains()
        if not domains:
            raise Refusal("there is no domain yet, so nobody reports about it")

    async def work(world: World, store: MailStore, progress: Shown) -> list[Found]:
        if domains:
            addresses = await _receivers(site, world, domains, wanted)
            with site.directory() as directory:
                keys.update(_mailboxes(directory, addresses))
            if not keys:
                raise ValueError(_nobody(wanted, domains, addresses))
        found: list[Found] = []
        for key, address in keys.items():
            found += await _of_account(store, key, address, names, wanted, progress)
        return found

    done: list[Found] = with_store(site.config, work)
    return done


def tell_problems(wanted: Wanted, found: Sequence[Found], most: int = 20) -> None:
    """On standard error: what could not be read."""
    for note in wanted.notes:
        click.echo(f"mailctl: {note}", err=True)
    problems = [one for one in found if one.report is None]
    for one in problems[:most]:
        click.echo(f"mailctl: {one.where or 'an attachment'}: {one.problem}", err=True)
    if len(problems) > most:
        click.echo(f"mailctl: and {counted(len(problems) - most, 'report')} more", err=True)


def refuse_unread(wanted: Wanted, found: Sequence[Found]) -> None:
    """Exit code 1 when a file that was named could not be read; after `tell_problems`, which has said why.

    In a mailbox anybody can put what is no report: that is told, and no failure.
    """
    if wanted.files and any(one.report is None for one in found):
        raise SystemExit(1)


def _of_file(name: str) -> list[Found]:
    path = os.path.abspath(name)
    try:
        with foreign_files():
            if os.path.getsize(path) > _MAX_MAIL:
                return [Found(name, None, f"it is larger than {_MAX_MAIL >> 20} MiB")]
            data = Path(path).read_bytes()
    except OSError as error:
        raise Refusal(f"{name}: {error.strerror or error}") from None
    return in_file(os.path.basename(name), data)


# Whose they are


async def _receivers(
    site: SiteFiles, world: World, domains: Sequence[str], wanted: Wanted
) -> dict[str, None]:
    """The addresses that the records of `domains` name."""
    from ..resolving import SharedResolver

    shared = SharedResolver(site.config.dns, world)
    found: dict[str, None] = {}
    try:
        for domain in domains[:1000]:
            try:
                found.update(dict.fromkeys(await _named(shared(), wanted.tag, domain)))
            except DnsError as error:
                wanted.notes.append(f"{domain}: {error}; --user names the account without the DNS")
    finally:
        shared.close()
    return found


async def _named(resolver: Resolver, tag: str, domain: str) -> list[str]:
    records = (await resolver.txt(f"{tag}.{domain}")).records
    if tag == "_dmarc":
        chosen = dmarc_record.select(records)
        uris = dmarc_record.parse(chosen[0]).rua if len(chosen) == 1 else ()
    else:
        uris = rua_of(records)
    return [unquote(uri[7:].partition("?")[0]) for uri in uris if uri[:7].lower() == "mailto:"]


def _mailboxes(directory: Directory, addresses: dict[str, None]) -> dict[str, str]:
    found = {}
    for address in addresses:
        try:
            parsed = parse_address(address)
        except Refusal:
            continue
        expansion = directory.expand(parsed) if directory.is_local_domain(parsed.domain) else None
        for user in expansion.locals if expansion is not None else ():
            found[user.mailbox] = str(user.address)
    return found


def _nobody(wanted: Wanted, domains: Sequence[str], addresses: dict[str, None]) -> str:
    if not addresses:
        some = ", ".join(f"{wanted.tag}.{domain}" for domain in domains[:3])
        return f"no record of the DNS ({some}) names anybody who gets reports (rua=); --user names the account"
    some = ", ".join(list(addresses)[:5])
    return f"reports go to {some}, where this site has no mailbox; --file reads them from files"


# Mail


async def _of_account(
    store: MailStore,
    key: str,
    address: str,
    names: Sequence[str],
    wanted: Wanted,
    progress: Shown,
) -> list[Found]:
    found: list[Found] = []
    mailboxes = await store.open_mailboxes(key)
    try:
        for name in names:
            try:
                opened = await mailboxes.open(name, read_only=True)
            except MailError as error:
                if error.imap != "NONEXISTENT":
                    raise
                raise ValueError(f"{address} has no mailbox {name}") from None
            try:
                snapshot = opened.snapshot
                # A report comes after the days that it is about.
                uids = [
                    uid
                    for uid, date in zip(snapshot.uids, snapshot.dates, strict=True)
                    if date >= wanted.since
                ]
                progress.begin(f"reading {address}", len(uids), 0)
                async for messages in opened.contents(uids):
                    for message in messages:
                        found += [*_of_message(await _content(message.content))]
                        if len(found) > MAX_REPORTS:
                            raise ValueError(
                                f"there are more than {MAX_REPORTS} reports: use --days"
                            )
                        progress.step(1, 0)
                progress.end()
            finally:
                await opened.close()
    finally:
        await mailboxes.close()
    return found


def _of_message(content: bytes | None) -> list[Found]:
    return [] if content is None else list(in_message(content))


async def _content(content: Any) -> bytes | None:
    if content is None or isinstance(content, bytes):
        return content
    try:
        if content.size > _MAX_MAIL:
            return None  # no report is as large as that
        blocks = []
        at = 0
        while block := await content.read(at, 1 << 20):
            blocks.append(block)
            at += len(block)
        return b"".join(blocks)
    finally:
        content.close()


def since(days: int) -> float:
    """Seconds since 1970, of the beginning of that day (UTC)."""
    return float((int(seconds()) // _DAY - days) * _DAY)
