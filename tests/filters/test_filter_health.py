"""What the log says of filters that fail: enough to see it, not a line a message."""

from __future__ import annotations

from typing import Any

import pytest
from filtering import ALICE, BOB, CLIENT, CONTEXT, HOST, message, world_with
from twisted.internet.protocol import Factory
from twisted.logger import LogLevel, capturedLogs

from twisted_mail.filters.chain import Chain, ChainSession
from twisted_mail.filters.clamd import Clamd, ClamdSettings
from twisted_mail.filters.health import Health
from twisted_mail.filters.interfaces import Action, Message, Opinion, Recipient, Sender
from twisted_mail.filters.milter import Milter, MilterSettings
from twisted_mail.filters.scanning import ScannerSettings
from twisted_mail.filters.trouble import failure
from twisted_mail.testing import simulated_world
from twisted_mail.testing.filters import MemorySpill
from twisted_mail.testing.filters_milter import ACCEPT, FakeMilter


class Scanner:
    """Says what it was told to say."""

    def __init__(self, name: str, opinion: Opinion | None = None) -> None:
        self.name = name
        self.opinion = opinion or Opinion()

    async def scan(self, message: Message) -> Opinion:
        return self.opinion


class Room:
    def __init__(self, *filters: Any, world: Any = None) -> None:
        self.world = world or simulated_world()
        self.health = Health(self.world.reactor)
        self.chains = [Chain(self.world.reactor, filters, self.health) for _ in range(2)]
        self.events: list[Any] = []

    def send(self, chain: int = 0) -> ChainSession:
        with capturedLogs() as events:
            session = self.chains[chain].session(CLIENT)
            self.world.run(session.message(message(), MemorySpill))
        self.events += [one for one in events if str(one["log_namespace"]).endswith("health")]
        return session

    def said(self) -> list[str]:
        said, self.events = self.events, []
        return [
            " ".join([one["log_format"], one["filter"], str(one["failures"]), one.get("error", "")])
            for one in said
        ]


@pytest.mark.parametrize("how", ["accept", "tempfail", "reject"])
def test_the_log_says_that_a_filter_fails_and_that_it_works_again(how: Any) -> None:
    scanner = Scanner("clam", failure(how, "no answer {in} time"))
    room = Room(scanner)
    room.send()
    (event,) = room.events
    assert event["log_level"] is LogLevel.warn
    assert event["then"] == how
    assert room.said() == ["filter fails clam 1 no answer {in} time"]
    scanner.opinion = Opinion()
    room.send()
    assert [one["log_level"] for one in room.events] == [LogLevel.warn]
    assert room.said() == ["filter works again clam 1 "]
    room.send()
    assert room.said() == []


def test_it_says_so_once_a_minute_and_filter_whichever_way_mail_comes() -> None:
    first, second = Scanner("one", failure("accept", "a")), Scanner("two", failure("accept", "b"))
    room = Room(first, second)
    for turn in range(10):
        room.send(turn % 2)
        room.world.reactor.advance(5)
    assert room.said() == ["filter fails one 1 a", "filter fails two 1 b"]
    room.world.reactor.advance(10)
    room.send()
    assert room.said() == ["filter fails one 10 a", "filter fails two 10 b"]


def test_one_that_fails_and_works_in_turns_does_not_fill_the_log() -> None:
    scanner = Scanner("clam")
    room = Room(scanner)
    for turn in range(20):
        scanner.opinion = Opinion() if turn % 2 else failure("accept", "broken")
        room.send()
        room.world.reactor.advance(1)
    assert room.said() == ["filter fails clam 1 broken", "filter works again clam 1 "]
    room.world.reactor.advance(60)
    scanner.opinion = failure("accept", "broken")
    room.send()
    assert room.said() == ["filter fails clam 10 broken"]


def test_one_that_sees_no_large_messages_is_not_taken_to_work_for_that() -> None:
    world = simulated_world()
    small = ScannerSettings("clam", f"tcp:{HOST}:1", max_size=1)
    scanner = Scanner("clam", failure("accept", "broken"))
    room = Room(scanner, world=world)
    room.send()
    assert len(room.said()) == 1
    scanner.scan = Clamd(world, ClamdSettings(small)).scan  # type: ignore[method-assign]
    session = room.send()
    (told,) = session.take_told()
    assert (told.verdict, told.why) == ("unasked", "not shown: more than 1 bytes")
    assert room.said() == []


def test_a_connection_that_is_refused_is_told_once_and_without_a_full_stop() -> None:
    world = world_with(2, Factory())  # nobody at the port 1
    room = Room(Clamd(world, ClamdSettings(ScannerSettings("clam", f"tcp:{HOST}:1"))), world=world)
    room.send()
    assert room.said() == [f"filter fails clam 1 no connection to tcp:{HOST}:1: Connection refused"]


@pytest.mark.parametrize("there", [True, False])
def test_a_milter_that_failed_at_mail_is_not_told_to_say_nothing_of_the_message(
    there: bool,
) -> None:
    accepting = FakeMilter({"M": [ACCEPT]})
    world = world_with(1 if there else 2, accepting)
    milter = Milter(world, MilterSettings("signer", f"tcp:{HOST}:1", on_failure="accept"))
    room = Room(milter, world=world)
    with capturedLogs() as events:
        session = room.chains[0].session(CLIENT)
        for ask in (
            session.helo("relay.example.org", None),
            session.mail(Sender(ALICE), None, "q1"),
            session.rcpt(Recipient(BOB)),
            session.data("q1"),
            session.message(Message(CONTEXT, *message()[1:]), MemorySpill),
        ):
            world.run(ask)
    told = [(one.stage, one.verdict, one.why) for one in session.take_told()]
    if there:
        assert told == [
            ("mail", "accept", ""),
            ("message", "unasked", "it has accepted it before"),
        ]
        return
    assert told[0][:2] == ("mail", "failed")
    assert told[1:] == [("message", "unasked", "it failed before")]
    assert [one["log_format"] for one in events if "filter" in one] == ["filter fails"]


def test_what_was_not_asked_changes_nothing() -> None:
    room = Room(
        Scanner("one", Opinion(action=Action.JUNK, reason="spam")),
        Scanner("two", Opinion(asked=False, reason="not shown")),
    )
    outcome = room.world.run(room.chains[0].session(CLIENT).message(message(), MemorySpill))
    assert (outcome.opinion.action, outcome.opinion.reason) == (Action.JUNK, "spam")
    assert outcome.opinion.asked
