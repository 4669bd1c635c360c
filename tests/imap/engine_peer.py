"""What the tests of `imap.engine` share: a peer that answers at once, and what it has heard."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted_mail.connection.interfaces import NEED_DATA, PAUSED
from twisted_mail.imap import commands as c
from twisted_mail.imap.engine import BLOCK, Engine
from twisted_mail.imap.events import (
    Command,
    Content,
    Event,
    Terms,
)

__all__ = ["Answers", "Peer", "check", "heard", "joined", "noop", "nothing"]

Answers = Callable[[Event], object]


def nothing(event: Event) -> object:
    return None


def joined(events: Iterable[Event]) -> list[tuple[Any, ...]]:
    """With the kind of each, and content in one piece."""
    made: list[tuple[Any, ...]] = []
    for event in events:
        if isinstance(event, Content):
            assert 0 < len(event.data) <= BLOCK
            if made and made[-1][0] == "Content":
                made[-1] = ("Content", made[-1][1] + event.data)
                continue
        made.append((type(event).__name__, *event))
    return made


class Peer:
    """Feeds an engine and answers at once."""

    def __init__(
        self,
        answers: Answers = nothing,
        *,
        logged_in: bool = True,
        utf8: bool = False,
        **limits: int,
    ) -> None:
        self.engine = Engine(**limits)
        self.engine.resume(Terms(logged_in, utf8))
        self.answers = answers
        self.events: list[Event] = []

    def say(self, data: bytes) -> list[Event]:
        start = len(self.events)
        self.engine.receive(data)
        while True:
            event = self.engine.next_event()
            if event is NEED_DATA:
                return self.events[start:]
            assert event is not PAUSED
            assert self.engine.next_event() is PAUSED
            self.events.append(event)  # type: ignore[arg-type]
            self.engine.resume(self.answers(event))  # type: ignore[arg-type]


def heard(data: bytes, answers: Answers = nothing, **options: Any) -> list[Event]:
    peer = Peer(answers, **options)
    peer.say(data)
    assert not peer.engine.buffered
    return peer.events


def check(found: list[Event], expected: list[Event]) -> None:
    assert joined(found) == joined(expected)


def noop(tag: bytes) -> Command:
    return Command(tag, "NOOP", c.NO_ARGUMENTS)
