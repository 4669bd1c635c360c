"""Records as text that can be pasted into a zone file (RFC 1035 section 5), with comments; and as plain values."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, Final

from ..storage.dkim_keys import record_strings
from .facts import Facts
from .wanted import TTL, Record, Topic

__all__ = ["plain", "zone_line", "zone_text"]

_WIDTH: Final = 100


def zone_text(facts: Facts, topics: Iterable[Topic]) -> str:
    """All that is to be pasted; what is not is a comment."""
    lines = [f"; What {facts.domain} needs in the DNS for its mail server {facts.host}.", ""]
    for topic in topics:
        lines.append(f"; -- {topic.title}" + ("" if topic.needed else " (optional)"))
        lines += textwrap.wrap(
            topic.words,
            _WIDTH,
            initial_indent="; ",
            subsequent_indent="; ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += _elsewhere(facts, topic)
        for record in topic.records:
            line = zone_line(record)
            lines.append(line if _within(facts, record) else textwrap.indent(line, "; "))
        lines += [f"; {hint}" for hint in topic.hints]
        lines.append("")
    lines.append(f"; When all of it is there: mailctl dns check {facts.domain}")
    return "\n".join(lines)


def zone_line(record: Record) -> str:
    """One record, its name absolute, so that no $ORIGIN matters. Long texts go over several lines."""
    head = f"{record.name}. {TTL} IN {record.kind}"
    if record.kind != "TXT":
        return f"{head} {record.value}"
    strings = [f'"{_escaped(one)}"' for one in record_strings(record.value)]
    if len(strings) == 1:
        return f"{head} {strings[0]}"
    return f"{head} (\n" + "".join(f"    {one}\n" for one in strings) + "    )"


def plain(topics: Iterable[Topic]) -> list[dict[str, Any]]:
    """One object a record, for programs."""
    return [
        {
            "name": record.name,
            "type": record.kind,
            "ttl": TTL,
            "value": record.value,
            "topic": topic.title,
            "needed": topic.needed,
            "own_zone": record.ours,
        }
        for topic in topics
        for record in topic.records
    ]


def _elsewhere(facts: Facts, topic: Topic) -> Iterator[str]:
    """Names that the zone of the domain does not hold."""
    names = dict.fromkeys(
        record.name
        for record in topic.records
        if record.kind != "PTR" and not _within(facts, record)  # the topic's words say whose PTR is
    )
    for name in names:
        yield f"; {name} is not below {facts.domain}: its record belongs into another zone."


def _within(facts: Facts, record: Record) -> bool:
    """Whether it stands in the zone of the domain."""
    return record.name == facts.domain or record.name.endswith(f".{facts.domain}")


def _escaped(text: str) -> str:
    # RFC 1035 section 5.1
    return text.replace("\\", "\\\\").replace('"', '\\"')
