"""Messages made to cost much: twice as much of the same costs at most about twice as much, in calls and in time.

The inputs are those of bench/bounds.py, a few hundredths of a percent of them; it says what the whole ones cost.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest
from bounds_client import READING as STEPS
from bounds_messages import messages
from hostile import ALICE, Site, at_most

from twisted_mail.message.digest import digest
from twisted_mail.message.part import from_bytes, to_bytes, walk
from twisted_mail.message.preview import preview
from twisted_mail.message.searchable import contains, has_field, searchable
from twisted_mail.message.structure import scan
from twisted_mail.pop3.retrieval import Top

LARGE, SMALL = messages(1000), messages(2000)
MESSAGES = [name for name, (_, data) in LARGE.items() if not data]


def content_of(inputs: Any, name: str) -> bytes:
    blocks, _ = inputs[name]
    return b"".join(blocks())


def work(content: bytes) -> None:
    """What the server does with a message on its way in and to its reader."""
    root = scan(content)
    made = digest(content, root)
    assert from_bytes(to_bytes(root)) == root
    parts = list(walk(root))
    assert len(parts) <= 10_000
    assert 0 <= root.start <= root.body <= root.end == len(content)
    assert made.structure.octets >= len(content)
    searchable(content)
    contains(content, "wordthatisnowhere", body_only=False)
    has_field(content, "x-z", "nowhere")
    preview(content, root)
    Top(10).feed(content)


def calls(content: bytes) -> int:
    count = 0

    def seen(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        work(content)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("name", MESSAGES)
def test_twice_as_much_costs_twice_as_much(name: str) -> None:
    small, large = content_of(SMALL, name), content_of(LARGE, name)
    times = max(len(large) / len(small), 1)
    with at_most(30):
        work(small)  # what is imported for it is counted to neither
        assert calls(large) <= calls(small) * times * 1.3 + 500


@pytest.mark.parametrize("name", [name for name in MESSAGES if name.startswith("NESTED")])
def test_what_is_deeper_than_anybody_nests_is_not_looked_into(name: str) -> None:
    content = content_of(LARGE, name)
    root = scan(content)
    depth, level = 1, [root]
    while level := [child for part in level for child in part.children]:
        depth += 1
    assert depth <= 101
    # Each way of it is written and read without recursion that could end
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(450)
    try:
        assert from_bytes(to_bytes(root)) == root
        digest(content, root)
    finally:
        sys.setrecursionlimit(limit)


READING = [command for _, command in STEPS]


def test_each_is_taken_or_refused_and_answered_in_every_protocol(long_site: Site) -> None:
    names = [*MESSAGES, "DATA lines of one dot and LF"]
    for name in names:
        content = content_of(SMALL, name)
        client = long_site.smtp(ALICE)
        wire = content.replace(b"\n", b"\r\n")
        said = client.ask(b"BDAT %d LAST\r\n%bNOOP\r\n" % (len(wire), wire)).splitlines()
        assert [line[:4] for line in said] in (
            [b"250 ", b"250 "],
            [b"552 ", b"250 "],
            [b"554 ", b"250 "],
        ), (name, said)
        client.close()
        long_site.world.reactor.advance(10)
    client = long_site.imap()
    for command in READING:
        everything = command.replace(b"FETCH 1 ", b"FETCH 1:* ")
        said = client.ask(b"x %b\r\n" % everything)
        for _ in range(50):
            if b"\r\nx " in said[-200:] or said.startswith(b"x "):
                break
            long_site.world.reactor.advance(1)
            said += client.read()
        last = said.splitlines()[-1]
        assert last.startswith((b"x OK", b"x NO [UNKNOWN-CTE]")), (command, last)
    client.close()
    reader = long_site.pop3()
    count = int(reader.ask(b"STAT\r\n").split()[1])
    assert count > 30
    for number in range(1, count + 1):
        said = reader.ask(b"TOP %d 10\r\n" % number)
        assert said.startswith(b"+OK") and said.endswith(b"\r\n.\r\n")
