"""How `mailctl explain --dry-run` tells what would happen: text for people, and values for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .explain_text import lines_text
from .queue_text import plain, wrapped
from .rehearsal import Question, Rehearsal, Routed

__all__ = ["rehearsed_json", "rehearsed_text"]

_OUTCOMES: Final = {
    "accepted": "It would be accepted",
    "junk": "It would go to the folder for junk",
    "discarded": "It would be answered 250, and thrown away",
    "refused": "It would be refused",
    "deferred": "It would be deferred: the other server is to try again later",
    "": "A message would be asked for; what becomes of it depends on it, too (--message FILE)",
}


def rehearsed_text(question: Question, found: Rehearsal) -> Iterator[str]:
    """What would be said, found out and decided."""
    yield "recipients"
    for one in found.routes:
        yield from wrapped(f"{plain(str(one.address))}: {_way(one)}", 2, 6)
    yield ""
    yield "conversation"
    for step in found.steps:
        yield from wrapped(plain(step.said), 2, 6)
        yield from wrapped(plain(step.reply), 6)
    yield ""
    yield "story"
    yield from lines_text((seconds, _undone(text)) for seconds, text in found.lines)
    yield ""
    yield from wrapped(f"{_conclusion(found)}.", 0, 0)
    for line in _unknown(question):
        yield from wrapped(line, 0, 0)


def _conclusion(found: Rehearsal) -> str:
    text = _OUTCOMES.get(found.outcome, found.outcome)
    if found.held:
        return f"{text}, and be held in the queue until somebody lets it go"
    if found.sent:
        return f"{text}, and what leaves would be put into the queue"
    return text


def _unknown(question: Question) -> Iterator[str]:
    if not question.user:
        yield "Not looked at: how often this client came (the server alone remembers), who speaks before the greeting."
    if not question.filters:
        yield "Filters were not asked (--filters)."


def _undone(text: str) -> str:
    """Nothing has such an id."""
    return text.partition(" as ")[0] + text[text.find(",") :] if text.startswith(_TAKEN) else text


_TAKEN: Final = "answered 250: accepted as "


def _way(one: Routed) -> str:
    if one.error is not None or one.way is None:
        return str(one.error)
    way = one.way
    ways = [f"the mailbox {key}" for key in way.mailboxes]
    if way.realm is not None:
        ways.append(f"the site's own realm, as {way.realm}")
    for address, hop in zip(way.remote, one.hops, strict=True):
        by = "by MX" if hop == address.domain else f"by {hop}"
        ways.append(f"{address} elsewhere, {by}")
    origin = f" (as {way.origin} says)" if way.origin is not None else ""
    return "; ".join(ways) + origin


def rehearsed_json(found: Rehearsal) -> dict[str, Any]:
    """The same for machines."""
    return {
        "outcome": found.outcome or None,
        "queued": found.sent,
        "held": found.held,
        "helo": plain(found.helo),
        "recipients": [
            {
                "address": str(one.address),
                "mailboxes": [] if one.way is None else list(one.way.mailboxes),
                "elsewhere": [] if one.way is None else [str(to) for to in one.way.remote],
                "hops": list(one.hops),
                "origin": None
                if one.way is None or one.way.origin is None
                else str(one.way.origin),
                "error": None if one.error is None else plain(str(one.error)),
            }
            for one in found.routes
        ],
        "conversation": [
            {"said": plain(step.said), "reply": plain(step.reply)} for step in found.steps
        ],
        "story": [
            {"seconds": seconds, "text": plain(_undone(text))} for seconds, text in found.lines
        ],
    }
