"""How `mailctl queue` shows messages: text for people, 80 columns wide, and values for JSON.

Peers' words and senders' addresses go to a terminal here: what is not printable is shown as "?".
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

from ..storage.queued import Attempt, Options, State
from ..storage.spool_view import Listed, RecipientStory, Stats, Story

__all__ = [
    "address_text", "ago", "iso_time", "listed_json", "listed_row", "listed_text", "local_time", "octets",
    "plain", "stats_json", "stats_text", "story_json", "story_text", "way_text", "wrapped",
]  # fmt: skip

_WIDTH: Final = 80
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400

_REQUIRETLS: Final = "#requiretls"  # see delivery.routes
_ANY_TLS: Final = "#any-tls"


# -- lists


def listed_text(rows: Iterable[Listed], now: float) -> Iterator[str]:
    """Each message once, its recipients and why they wait below it."""
    for _, group in groupby(rows, key=lambda row: row.seq):
        mine = list(group)
        first = mine[0]
        yield (
            f"{first.id}  {_span(now - first.arrived):>6}  {octets(first.size):>9}"
            f"  {address_text(first.sender)}"
        )
        for row in mine:
            next_try = _next_try(row.due, row.until)
            yield from wrapped(
                f"{address_text(row.recipient)} {_way(row.recipient, row.hop)}"
                f"{_standing(row.state, next_try, row.tries, now)}",
                2,
            )
            yield from wrapped(_reason(row, now), 6)


def listed_json(row: Listed, now: float) -> dict[str, Any]:
    """One recipient; `mark` is what ``--after`` takes."""
    return {
        "id": row.id,
        "mark": f"{row.seq}:{row.number}",
        "arrived": iso_time(row.arrived),
        "size": row.size,
        "sender": plain(row.sender),
        "recipient": plain(row.recipient),
        "destination": plain(row.hop),
        "state": row.state.name.lower(),
        "next_try": iso_time(_next_try(row.due, row.until)),
        "tries": row.tries,
        "reason": _reason(row, now),
    }


def listed_row(row: Listed, now: float) -> dict[str, Any]:
    """One recipient as columns between tabs."""
    columns = listed_json(row, now)
    del columns["mark"], columns["destination"]
    return columns | {"sender": address_text(row.sender)}


def _reason(row: Listed, now: float) -> str:
    """What keeps it: the destination's trouble while that lasts, else what its own last try came to."""
    return plain((row.trouble if row.until > now else "") or row.last or row.trouble)


def _next_try(due: float | None, until: float) -> float | None:
    return None if due is None else max(due, until)


# -- one message


def story_text(story: Story, now: float) -> Iterator[str]:
    """All that is known of a message: envelope, recipients, attempts."""
    message = story.message
    yield f"message    {message.id}"
    yield f"from       {address_text(message.sender)}{'' if message.sender else ' (a bounce)'}"
    yield f"arrived    {local_time(message.arrived)}, {ago(message.arrived, now)}"
    yield f"size       {octets(message.size)}"
    if options := ", ".join(_options(message.options)):
        yield from wrapped(f"options    {options}", 0, 11)
    if story.finished is not None:
        yield f"over       {local_time(story.finished)}, {ago(story.finished, now)}"
    else:
        yield f"given up   {local_time(message.expires)}, {ago(message.expires, now)}"
    yield ""
    yield from way_text(story, now)


def way_text(story: Story, now: float) -> Iterator[str]:
    """What becomes of each recipient, and what was tried."""
    yield "recipients"
    for one in story.recipients:
        yield from _recipient_text(story, one, now)
    yield ""
    yield "attempts"
    for attempt in story.attempts:
        yield from _attempt_text(attempt)
    if not story.attempts:
        yield "  none yet"


def _recipient_text(story: Story, one: RecipientStory, now: float) -> Iterator[str]:
    to = story.message.recipients[one.number]
    yield from wrapped(f"{address_text(to.address)} {_way(to.address, to.hop)}", 2)
    next_try = _next_try(one.due, one.backoff.until if one.backoff else 0)
    when = f" ({local_time(next_try)})" if next_try is not None and next_try > now else ""
    yield from wrapped(f"{_standing(one.state, next_try, one.tries, now)}{when}", 6)
    if to.origin:
        yield from wrapped(f"by the alias {address_text(to.origin)}", 6)
    if to.mail_from is not None:
        yield from wrapped(f"sent as {address_text(to.mail_from)}", 6)
    if to.notify:
        yield from wrapped(f"tell the sender: {plain(to.notify)}", 6)
    if one.last is not None:
        yield from wrapped(plain(one.last.text), 6)
    if one.backoff is not None and not one.state.final:
        since = local_time(one.backoff.since)
        yield from wrapped(f"fails since {since}: {plain(one.backoff.text)}", 6)


def _attempt_text(attempt: Attempt) -> Iterator[str]:
    peer = plain(attempt.host)
    if attempt.address and attempt.address != attempt.host:
        peer = f"{peer} [{plain(attempt.address)}]".lstrip()
    if not peer:
        yield from wrapped(f"{local_time(attempt.at)}  {plain(attempt.text)}", 2, 6)
        return
    yield from wrapped(f"{local_time(attempt.at)}  {peer}, {plain(attempt.tls) or 'no TLS'}", 2, 6)
    yield from wrapped(plain(attempt.text), 6)


def _options(options: Options) -> Iterator[str]:
    if options.eight_bit:
        yield "8BITMIME"
    if options.smtputf8:
        yield "SMTPUTF8"
    if options.requiretls:
        yield "REQUIRETLS"
    if options.ret:
        yield f"RET={plain(options.ret)}"
    if options.envid:
        yield f"ENVID={plain(options.envid)}"


def story_json(story: Story) -> dict[str, Any]:
    """The same for machines; times in UTC."""
    message = story.message
    return {
        "id": message.id,
        "sender": plain(message.sender),
        "arrived": iso_time(message.arrived),
        "expires": iso_time(message.expires),
        "over": iso_time(story.finished),
        "size": message.size,
        "options": list(_options(message.options)),
        "recipients": [
            {
                "recipient": plain(to.address),
                "destination": plain(to.hop),
                "state": one.state.name.lower(),
                "next_try": iso_time(_next_try(one.due, one.backoff.until if one.backoff else 0)),
                "tries": one.tries,
                "alias": plain(to.origin),
                "sent_as": None if to.mail_from is None else plain(to.mail_from),
                "notify": plain(to.notify),
                "reason": "" if one.last is None else plain(one.last.text),
                "trouble": "" if one.backoff is None else plain(one.backoff.text),
            }
            for one in story.recipients
            for to in (message.recipients[one.number],)
        ],
        "attempts": [
            {
                "time": iso_time(attempt.at),
                "host": plain(attempt.host),
                "address": plain(attempt.address),
                "tls": plain(attempt.tls),
                "text": plain(attempt.text),
            }
            for attempt in story.attempts
        ],
    }


# -- numbers


def stats_text(stats: Stats, now: float) -> Iterator[str]:
    """The queue in some lines."""
    oldest = "" if stats.oldest is None else f", the oldest {_span(now - stats.oldest)} old"
    yield f"messages      {stats.messages}, {octets(stats.octets)}{oldest}"
    for state in State:
        yield f"{state.name.lower():<14}{stats.recipients.get(state, 0)}"
    yield f"destinations  {stats.destinations}, {stats.failing} of them failing"


def stats_json(stats: Stats) -> dict[str, Any]:
    """The same for machines."""
    return {
        "messages": stats.messages,
        "octets": stats.octets,
        "oldest": iso_time(stats.oldest),
        "recipients": {state.name.lower(): stats.recipients.get(state, 0) for state in State},
        "destinations": stats.destinations,
        "failing": stats.failing,
    }


# -- words


def _standing(state: State, next_try: float | None, tries: int, now: float) -> str:
    """``deferred after 3 tries, next in 4 min``."""
    text = "being sent" if state is State.ACTIVE else state.name.lower()
    if tries:
        text += f" after {tries} {'try' if tries == 1 else 'tries'}"
    if next_try is not None:
        text += f", next {ago(next_try, now) if next_try > now else 'now'}"
    return text


def _way(address: str, hop: str) -> str:
    """Which way it goes, when the address does not say it already."""
    hop = hop.removesuffix(_REQUIRETLS).removesuffix(_ANY_TLS)
    return "" if hop == address.rpartition("@")[2] else f"({plain(hop)}) "


def address_text(text: str) -> str:
    return plain(text) or "<>"


def plain(text: str) -> str:
    """One line that does nothing to a terminal."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else " " if character in "\t\r\n" else "?"
        for character in text
    )


def wrapped(text: str, indent: int, hanging: int | None = None) -> Iterator[str]:
    yield from textwrap.wrap(
        text,
        _WIDTH - 1,
        initial_indent=" " * indent,
        subsequent_indent=" " * (hanging if hanging is not None else indent + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _span(seconds: float) -> str:
    seconds = max(0, int(seconds))
    if seconds < 2 * _MINUTE:
        return f"{seconds} s"
    if seconds < 2 * _HOUR:
        return f"{seconds // _MINUTE} min"
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR} h"
    return f"{seconds // _DAY} d"


def ago(at: float, now: float) -> str:
    return f"{_span(now - at)} ago" if at <= now else f"in {_span(at - now)}"


def octets(number: int) -> str:
    if number < 1024:
        return f"{number} B"
    value = float(number)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"


def local_time(at: float) -> str:
    """In this machine's time zone."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def iso_time(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(int(at), UTC).isoformat()
