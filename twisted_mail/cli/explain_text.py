"""How `mailctl explain` tells stories: text for people, 80 columns wide, and values for JSON.

Nothing of a message's subject or body is in a story. What peers wrote is printable already, or made so here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from ..delivery.telling import NOTHING_CAME
from ..storage.spool_view import Story as Queued
from ..storage.stories import Story
from .queue_text import (
    address_text,
    ago,
    iso_time,
    local_time,
    octets,
    plain,
    story_json,
    way_text,
    wrapped,
)  # fmt: skip

__all__ = ["lines_text", "listed_row", "told_json", "told_text"]

_TURNED_DOWN: Final = re.compile(r"^mail to .*: (refused|deferred), \d")
_TIME: Final = 10
"""Columns of a line's time."""


def told_text(story: Story, queued: Queued | None, now: float) -> Iterator[str]:
    """One story, and what the queue knows of its message."""
    facts = story.facts
    if story.message:
        yield from wrapped(f"message     {plain(story.message)}", 0, 12)
    if story.id:
        yield f"queue id    {plain(story.id)}"
    if of := facts.get("notice_of"):
        yield f"tells of    {plain(' '.join(of))}"
    elif story.connection:
        yield f"connection  {plain(story.connection)}"
    yield f"came        {local_time(story.at)}, {ago(story.at, now)}"
    if client := _client(facts):
        yield from wrapped(f"client      {client}", 0, 12)
    if "sender" in facts:
        by = f" (by the user {plain(facts['account'])})" if facts.get("account") else ""
        yield from wrapped(f"from        {address_text(facts['sender'])}{by}", 0, 12)
    for key, word in (("recipients", "to"), ("refused", "not to")):
        if facts.get(key):
            yield from wrapped(f"{word:<12}{plain(', '.join(facts[key]))}", 0, 12)
    if facts.get("size"):
        yield f"size        {octets(int(facts['size']))}"
    if facts.get("outcome"):
        yield f"outcome     {plain(facts['outcome'])}"
    yield ""
    yield from lines_text(story.lines)
    if queued is not None:
        yield ""
        yield from way_text(queued, now)
    elif facts.get("queued"):
        yield ""
        yield from wrapped(
            "The queue knows nothing of it any more: what is over is kept for queue.history_seconds.", 0, 0
        )  # fmt: skip


def lines_text(lines: Iterable[tuple[float, str]]) -> Iterator[str]:
    """Each with the seconds that had passed; a time is said once."""
    said = ""
    for seconds, text in lines:
        time = f"{seconds:.2f} s"
        shown = "" if time == said else time
        said = time
        first, *rest = list(wrapped(plain(text), _TIME + 2)) or [""]
        yield f"{shown:>{_TIME}}  {first.strip()}"
        yield from rest


def _client(facts: dict[str, Any]) -> str:
    ip, helo, tls = (plain(str(facts.get(key) or "")) for key in ("ip", "helo", "tls"))
    named = f"{ip} ({helo})" if ip and helo else ip or helo
    return ", ".join(one for one in (named, tls) if one)


def told_json(story: Story, queued: Queued | None) -> dict[str, Any]:
    """The same for machines; times in UTC, `seconds` since `came`."""
    return {
        "message": plain(story.message),
        "id": plain(story.id),
        "connection": plain(story.connection),
        "came": iso_time(story.at),
        **story.facts,
        "story": [{"seconds": seconds, "text": plain(text)} for seconds, text in story.lines],
        "queue": None if queued is None else story_json(queued),
    }


def listed_row(story: Story) -> dict[str, Any]:
    """One of many: enough to choose one."""
    facts = story.facts
    lines = [text for _, text in story.lines]
    if facts.get("outcome") in ("refused", "deferred"):
        # Others of its recipients, or the conversation after it, may have been told of since.
        said = [text for text in lines if _TURNED_DOWN.search(text) or text.startswith("answered")]
        lines = said or [text for text in lines if text != NOTHING_CAME]
    to: Sequence[str] = [*facts.get("recipients", ()), *facts.get("refused", ())]
    return {
        "came": local_time(story.at),
        "outcome": plain(str(facts.get("outcome", ""))),
        "sender": address_text(str(facts.get("sender", ""))),
        "recipients": plain(", ".join(to)),
        "explain": plain(story.id or story.connection),
        "last": plain(lines[-1]) if lines else "",
    }
