"""``mailctl explain``: what became of a message and why, and what would become of one."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from twisted.python.runtime import seconds

from .output import show
from .queue import opened_queue
from .site import Refusal, SiteFiles, parse_address, pass_site

if TYPE_CHECKING:
    from ..address import Address
    from ..storage.spool_view import Story as Queued
    from ..storage.stories import Story
    from .rehearsal import Question

__all__ = ["explain"]

_MOST: Final = 20
_LISTED: Final = 50
_LARGEST: Final = 512 * 1024 * 1024
"""Octets of a file that are read into memory."""
_ID: Final = re.compile(r"[0-9a-f]{12}")
_LOGGED: Final = re.compile(r"(?:.*\bqueued as |accepted as )([0-9a-f]{12})\b.*", re.DOTALL)


@click.command()
@click.argument("name", metavar="[MESSAGE-ID|QUEUE-ID|CONNECTION]", required=False)
@click.option("--dry-run", is_flag=True, help="Tell what would happen; nothing is sent or changed.")
@click.option("--from", "sender", metavar="ADDRESS", help="The envelope's sender; <> for a bounce.")
@click.option("--to", "recipients", metavar="ADDRESS", multiple=True, help="A recipient.")
@click.option("--ip", metavar="ADDRESS", help="Dry run: the address of the client.")
@click.option("--helo", metavar="NAME", help="Dry run: what the client calls itself.")
@click.option(
    "--message",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Dry run: the message, with its header; for DKIM, ARC, DMARC and the decision.",
)
@click.option("--as", "user", metavar="USER", help="Dry run: as this user, who has logged in.")
@click.option("--filters", is_flag=True, help="Dry run: ask the filters, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_site
def explain(
    site: SiteFiles,
    name: str | None,
    dry_run: bool,
    sender: str | None,
    recipients: tuple[str, ...],
    ip: str | None,
    helo: str | None,
    message: Path | None,
    user: str | None,
    filters: bool,
    as_json: bool,
) -> None:
    """Tell the story of a message: how it came, what was found out about it, what was decided and why, where it went,
    and what became of what left.

    It is named by its Message-ID, by the id in "queued as …" and in the log, or by the log's id of its connection.
    Without any: mail --from or --to somebody, the latest. With --dry-run: what would happen to a message.
    """
    if not dry_run:
        if ip or helo or message or user or filters:
            raise click.UsageError(
                "--ip, --helo, --message, --as and --filters are for a --dry-run"
            )
        if name is not None and not (sender or recipients):
            _tell(site, name, as_json)
        elif name is None and (sender is not None or recipients):
            _list(site, sender, recipients, as_json)
        else:
            raise click.UsageError("either a name, or --from or --to (or both), or --dry-run")
        return
    if name is not None:
        raise click.UsageError("a --dry-run is of no message that came")
    if sender is None or not recipients or (ip is None) == (user is None):
        raise click.UsageError("a --dry-run wants --from, --to, and either --ip or --as")
    _rehearse(site, _question(sender, recipients, ip, helo, message, user, filters), as_json)


# -- what was


def _tell(site: SiteFiles, name: str, as_json: bool) -> None:
    from ..storage.stories import find
    from .explain_text import told_json, told_text
    from .queue_text import story_json, story_text

    logged = _LOGGED.fullmatch(name.strip())
    name = logged[1] if logged else name.strip()
    stories = _found(site, lambda path: find(path, name, limit=_MOST))
    ids = list(dict.fromkeys([name.lower(), *(story.id for story in stories if story.id)]))
    queued = _queued(site, ids)
    if not stories and not queued:
        raise Refusal(_unknown(site, name))
    now = float(seconds())
    told: set[str] = {story.id for story in stories}
    alone = [one for id_, one in queued.items() if id_ not in told]
    if as_json:
        values: list[Any] = [told_json(story, queued.get(story.id)) for story in stories]
        values += [{"id": one.message.id, "story": [], "queue": story_json(one)} for one in alone]
        click.echo(json.dumps(values, ensure_ascii=False, indent=2))
        return
    count = len(stories) + len(alone)
    for number, story in enumerate(stories, 1):
        _headline(number, count)
        for line in told_text(story, queued.get(story.id), now):
            click.echo(line)
    for number, one in enumerate(alone, len(stories) + 1):
        _headline(number, count)
        for line in story_text(one, now):
            click.echo(line)
        click.echo(f"\nHow it came is not kept: {_kept(site)}")


def _headline(number: int, count: int) -> None:
    if count > 1:
        click.echo(f"{'' if number == 1 else chr(10)}-- {number} of {count}\n")


def _list(site: SiteFiles, sender: str | None, recipients: Sequence[str], as_json: bool) -> None:
    from ..storage.stories import find_mail
    from .explain_text import listed_row, told_json

    if len(recipients) > 1:
        raise click.UsageError("one --to at a time")
    if sender == "<>":
        sender = ""
    to = recipients[0] if recipients else None
    stories = _found(site, lambda path: find_mail(path, sender, to, limit=_LISTED))
    if not stories:
        raise Refusal(f"no such mail is known; {_kept(site)}")
    if as_json:
        queued = _queued(site, [story.id for story in stories if story.id])
        values = [told_json(story, queued.get(story.id)) for story in stories]
        click.echo(json.dumps(values, ensure_ascii=False, indent=2))
        return
    show([listed_row(story) for story in stories])


def _found(site: SiteFiles, look: Any) -> list[Story]:
    """Raises Refusal."""
    from ..site import directory_path

    site.require(directory_path(site.config))
    site.become_owner()
    try:
        stories: list[Story] = look(site.config.data / "stories.sqlite3")
    except FileNotFoundError:
        return []
    except (sqlite3.Error, OSError, ValueError) as error:
        raise Refusal(f"the stories cannot be read: {error}") from None
    return stories


def _queued(site: SiteFiles, ids: Sequence[str]) -> dict[str, Queued]:
    with opened_queue(site) as view:
        if view is None:
            return {}
        return {id_: one for id_ in ids if id_ and (one := view.story(id_)) is not None}


def _unknown(site: SiteFiles, name: str) -> str:
    from ..storage.stories import similar

    text = f"nothing is known of {name}; {_kept(site)}"
    alike = _similar(site, lambda path: similar(path, name))
    if alike:
        return f"{text}\nDid you mean {' or '.join(alike)}?"
    if "@" not in name and _ID.fullmatch(name) is None:
        text += (
            "\nA Message-ID has an @ in it, a queue id 12 of 0-9 and a-f (the sender's server was told it:"
            " queued as …), a connection is named as the log names it."
        )
    return f"{text}\nWithout an id: mailctl explain --from ADDRESS --to ADDRESS"


def _similar(site: SiteFiles, look: Any) -> list[str]:
    try:
        found: list[str] = look(site.config.data / "stories.sqlite3")
    except (sqlite3.Error, OSError):
        return []
    return found


def _kept(site: SiteFiles) -> str:
    """Why there may be none."""
    stories = site.config.stories
    if not stories.days:
        return "no stories are kept: stories.days is 0"
    return (
        f"stories are kept for {stories.days:g} days (stories.days), the latest {stories.most} (stories.most),"
        " and written some seconds after their end"
    )


# -- what would be


def _question(
    sender: str,
    recipients: Sequence[str],
    ip: str | None,
    helo: str | None,
    message: Path | None,
    user: str | None,
    filters: bool,
) -> Question:
    """Raises Refusal. Read before root becomes somebody who may not read it."""
    import ipaddress

    from .rehearsal import Question

    try:
        if message is not None and message.stat().st_size > _LARGEST:
            raise Refusal(f"{message} is larger than any message here")
        content = None if message is None else message.read_bytes()
    except OSError as error:
        raise Refusal(f"{message} cannot be read: {error.strerror}") from None
    try:
        address = "127.0.0.1" if ip is None else str(ipaddress.ip_address(ip.strip("[]")))
    except ValueError:
        raise Refusal(f"{ip!r} is no address of a client, such as 192.0.2.1") from None
    return Question(
        sender=None if sender in ("", "<>") else parse_address(sender),
        recipients=tuple(_recipient(one) for one in recipients),
        ip=address,
        helo=helo or "",
        content=content,
        user=user or "",
        filters=filters,
    )


def _recipient(text: str) -> Address:
    """Raises Refusal."""
    from ..address import Address

    # RFC 5321 section 4.5.1: the one that RCPT takes without a domain
    return Address(text, "") if text.lower() == "postmaster" else parse_address(text)


def _rehearse(site: SiteFiles, question: Question, as_json: bool) -> None:
    from .rehearsal import rehearse
    from .rehearsal_text import rehearsed_json, rehearsed_text
    from .run import run

    with site.directory() as directory:
        found = run(lambda world: rehearse(world, site.config, directory, question))
    if as_json:
        click.echo(json.dumps(rehearsed_json(found), ensure_ascii=False, indent=2))
        return
    for line in rehearsed_text(question, found):
        click.echo(line)
