"""``mailctl queue``: mail that waits for its next server, and what became of it."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from .output import show as show_rows
from .site import Refusal, SiteFiles, pass_site

if TYPE_CHECKING:
    from ..storage.spool_view import Filter, View
    from .queue_changes import Verb

__all__ = ["opened_queue", "queue"]

_STATES: Final = ("waiting", "active", "deferred", "held", "delivered", "bounced", "removed")
_MAX_PAGE: Final = 10_000

_Command = Callable[..., None]
_json: Callable[[_Command], _Command] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON."
)


def _filters(command: _Command) -> _Command:
    for option in (
        click.option("--recipient", metavar="TEXT", help="With this in the recipient's address."),
        click.option(
            "--sender", metavar="TEXT", help="With this in the sender's address; <> for bounces."
        ),
        click.option("--domain", metavar="DOMAIN", help="For recipients in this domain."),
    ):
        command = option(command)
    return command


def _selection(command: _Command) -> _Command:
    command = click.option("--all", "everything", is_flag=True, help="All that waits.")(
        _filters(command)
    )
    return click.argument("ids", metavar="[ID]...", nargs=-1)(command)


_yes: Callable[[_Command], _Command] = click.option(
    "--yes", is_flag=True, help="Do not ask; nobody is asked but on a terminal."
)


@click.group()
def queue() -> None:
    """Mail that waits for its next server, and what became of it."""


# -- looking


@queue.command(name="list")
@_filters
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(_STATES),
    help="In this state; may be given several times. Without it: all that is not over.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, _MAX_PAGE),
    default=100,
    show_default=True,
    help="Recipients shown at most.",
)
@click.option("--after", metavar="MARK", help="Go on where the page before said.")
@_json
@pass_site
def list_(
    site: SiteFiles,
    domain: str | None,
    sender: str | None,
    recipient: str | None,
    states: tuple[str, ...],
    limit: int,
    after: str | None,
    as_json: bool,
) -> None:
    """Show who waits for what, the oldest first: on a terminal each message with its recipients,
    else a line for each recipient with id, arrived, size, sender, recipient, state, next try,
    tries and reason.
    """
    from .queue_text import listed_json, listed_row, listed_text

    which = _filter(domain, sender, recipient, states)
    mark = _mark(after)
    now = _now()
    with opened_queue(site) as view:
        rows = [] if view is None else view.page(which, mark, limit + 1)
    more = len(rows) > limit
    rows = rows[:limit]
    if as_json:
        _print_json([listed_json(row, now) for row in rows])
    elif sys.stdout.isatty():
        for line in listed_text(rows, now):
            click.echo(line)
    else:
        show_rows([listed_row(row, now) for row in rows], headings=False)
    if more:
        # Not among the rows, which a program may read.
        click.echo(f"there are more: add --after {rows[-1].seq}:{rows[-1].number}", err=True)


@queue.command()
@click.argument("id_", metavar="ID")
@_json
@pass_site
def show(site: SiteFiles, id_: str, as_json: bool) -> None:
    """Tell all of the message ID: its envelope, its recipients, and each attempt with time, host,
    address, TLS and reply. Times are local ones, in JSON UTC. Messages that are over are kept for
    queue.history_seconds.
    """
    from .queue_text import story_json, story_text

    with opened_queue(site) as view:
        story = None if view is None else view.story(id_)
    if story is None:
        raise Refusal(f"there is no message {id_} in the queue")
    if as_json:
        _print_json(story_json(story))
        return
    for line in story_text(story, _now()):
        click.echo(line)


@queue.command()
@_json
@pass_site
def stats(site: SiteFiles, as_json: bool) -> None:
    """Count messages, recipients by state, and destinations."""
    from ..storage.spool_view import Stats
    from .queue_text import stats_json, stats_text

    with opened_queue(site) as view:
        found = Stats({}, 0, 0, None, 0, 0) if view is None else view.stats()
    if as_json:
        _print_json(stats_json(found))
        return
    for line in stats_text(found, _now()):
        click.echo(line)


# -- changing


@queue.command()
@click.option("--domain", metavar="DOMAIN", help="Only what waits for this domain.")
@pass_site
def flush(site: SiteFiles, domain: str | None) -> None:
    """Try everything now, whatever its next try and its destination's back-off say. What is held
    stays. With --domain, its destination: mail for others by the same route is tried, too.
    """
    domain = _domain(domain)
    with opened_queue(site) as view:
        hops = view.hops_of(domain) if view is not None and domain is not None else None
        if view is not None:
            view.flush(_now(), hops)
    if hops == []:
        click.echo(f"nothing waits for {domain}")
    else:
        click.echo("flushed: all that waits is tried now" if hops is None else f"flushed {domain}")


@queue.command()
@_selection
@pass_site
def retry(site: SiteFiles, **chosen: Any) -> None:
    """Try the messages ID now, or all that the options describe."""
    from .queue_changes import RETRY

    _change(site, RETRY, **chosen)


@queue.command()
@_selection
@pass_site
def hold(site: SiteFiles, **chosen: Any) -> None:
    """Do not try the messages ID until they are released; they are not given up meanwhile."""
    from .queue_changes import HOLD

    _change(site, HOLD, **chosen)


@queue.command()
@_selection
@pass_site
def release(site: SiteFiles, **chosen: Any) -> None:
    """Try again what was held."""
    from .queue_changes import RELEASE

    _change(site, RELEASE, **chosen)


@queue.command()
@_selection
@_yes
@pass_site
def bounce(site: SiteFiles, yes: bool, **chosen: Any) -> None:
    """Give the messages ID up: their senders are told, as soon as the queue runs. With --domain or
    --recipient, only messages that wait for nobody else.
    """
    from .queue_changes import BOUNCE

    _ask(yes, chosen, "Give up all that waits and is described so?")
    _change(site, BOUNCE, **chosen)


@queue.command()
@_selection
@_yes
@pass_site
def remove(site: SiteFiles, yes: bool, **chosen: Any) -> None:
    """Take the messages ID out of the queue; nobody is told."""
    from .queue_changes import REMOVE

    _ask(yes, chosen, "Remove all that waits and is described so? Nobody is told.")
    _change(site, REMOVE, **chosen)


def _change(
    site: SiteFiles,
    verb: Verb,
    ids: tuple[str, ...],
    everything: bool,
    domain: str | None,
    sender: str | None,
    recipient: str | None,
) -> None:
    described = everything or not (domain is sender is recipient is None)
    if bool(ids) == described:
        raise click.UsageError("either IDs, or --all, --domain, --sender or --recipient")
    which = _filter(domain, sender, recipient, ()) if described else None
    with opened_queue(site) as view:
        if view is None:
            if ids:
                raise Refusal(f"there is no message {ids[0]} in the queue")
            click.echo(f"nothing to {verb.name}")
            return
    from .queue_changes import change
    from .run import run

    try:
        done = run(lambda world: change(world, site.config, verb, ids, which))
    except sqlite3.Error as error:
        raise Refusal(f"cannot change the queue: {error}") from None
    if not done.messages:
        click.echo(f"nothing to {verb.name}")
    else:
        recipients = f"{done.recipients} recipient{'s' if done.recipients != 1 else ''}"
        messages = f"{done.messages} message{'s' if done.messages != 1 else ''}"
        click.echo(f"{verb.done}: {recipients} of {messages}")
    if done.left:
        click.echo(f"left: {done.left} which wait for others, too; name them by their ID")


def _ask(yes: bool, chosen: dict[str, Any], question: str) -> None:
    # A script has decided already, and so has who names messages.
    if not yes and not chosen["ids"] and sys.stdin.isatty():
        click.confirm(question, abort=True)


# -- what they share


@contextmanager
def opened_queue(site: SiteFiles) -> Iterator[View | None]:
    """The queue, to look at; None when there is none yet. Raises Refusal."""
    from ..disk import OsDisk
    from ..storage.spool import Spool
    from ..storage.spool_view import View

    data = site.config.data
    try:
        if not data.exists():
            if site.path is None:
                site.require(data)
            yield None
            return
        site.become_owner()
        if not (data / "queue.sqlite3").exists():
            # Not made by who only looks: the server that finds none makes it anew of all that is known.
            if next((data / "queue").glob("[0-9A-Za-z][0-9A-Za-z]/*"), None) is not None:
                raise Refusal(
                    f"{data / 'queue.sqlite3'} is gone: the server makes it anew, of the envelopes in queue/envelopes"
                    " and of the journal, when it starts. See what can be had back with: mailctl verify"
                )
            yield None
            return
        spool = Spool(OsDisk(), str(data))
        try:
            spool.prepare()
            yield View(spool)
        finally:
            spool.close()
    except (sqlite3.Error, OSError, ValueError) as error:
        raise Refusal(f"cannot open the queue: {error}") from None


def _filter(
    domain: str | None, sender: str | None, recipient: str | None, states: tuple[str, ...]
) -> Filter:
    from ..storage.queued import State
    from ..storage.spool_view import Filter

    return Filter(_domain(domain), sender, recipient, tuple(State[name.upper()] for name in states))


def _domain(text: str | None) -> str | None:
    """As addresses in the queue have it. Raises Refusal."""
    if text is None:
        return None
    from ..address import normalize_domain

    try:
        return normalize_domain(text)
    except ValueError as error:
        raise Refusal(f"{text!r} is not a domain: {error}") from None


def _mark(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, colon, second = text.partition(":")
    if not (colon and text.isascii() and first.isdigit() and second.isdigit() and len(text) < 40):
        raise click.UsageError(f"--after {text}: not a mark that a page before gave")
    return min(int(first), 2**62), min(int(second), 2**62)


def _now() -> float:
    # The clock as World's is, without making a reactor.
    from twisted.python.runtime import seconds

    return float(seconds())


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))
