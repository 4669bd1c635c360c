"""Several filters in a row: each sees what the ones before have left; one opinion, and the story."""

from __future__ import annotations

from typing import Any

import pytest
from filtering import ALICE, BOB, CLIENT, HOST, message
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.address import Address
from twisted_mail.filters.chain import Chain, Told, after, merged
from twisted_mail.filters.edits import apply_edits
from twisted_mail.filters.interfaces import (
    Action,
    Add,
    Change,
    Delete,
    Insert,
    Login,
    Opinion,
    Recipient,
    Sender,
)
from twisted_mail.filters.milter import Milter, MilterSettings
from twisted_mail.filters.rspamd import Rspamd, RspamdSettings
from twisted_mail.filters.scanning import ScannerSettings
from twisted_mail.status import Reply
from twisted_mail.testing import filters_milter as fake
from twisted_mail.testing import simulated_world
from twisted_mail.testing.filters import FakeRspamd, MemorySpill
from twisted_mail.testing.filters_milter import CONTINUE, FakeMilter


class Row:
    """A milter, rspamd, and a milter again."""

    def __init__(self, first: FakeMilter, rspamd: Any, second: FakeMilter) -> None:
        self.world = simulated_world()
        self.rspamd = FakeRspamd(rspamd)
        there = self.world.at(HOST).reactor
        there.listenTCP(1, first)
        there.listenTCP(2, self.rspamd)
        there.listenTCP(3, second)
        asked = RspamdSettings(ScannerSettings("rspamd", f"tcp:{HOST}:2"))
        chain = Chain(
            self.world.reactor,
            [
                Milter(self.world, MilterSettings("first", f"tcp:{HOST}:1")),
                Rspamd(self.world, asked),
                Milter(self.world, MilterSettings("second", f"tcp:{HOST}:3", on_failure="accept")),
            ],
        )
        assert chain
        self.session = chain.session(CLIENT)
        self.spills: list[MemorySpill] = []

    def spill(self) -> MemorySpill:
        self.spills.append(MemorySpill())
        return self.spills[-1]

    def begin(self) -> list[Opinion]:
        run, session = self.world.run, self.session
        found = [run(session.helo("relay.example.org", None))]
        found.append(run(session.mail(Sender(ALICE), Login("carol"), "q1")))
        found.append(run(session.rcpt(Recipient(BOB))))
        found.append(run(session.data()))
        return found

    def content(self) -> Any:
        return self.world.run(self.session.message(message(), self.spill))


SPAM = {
    "action": "add header",
    "score": 8.0,
    "required_score": 15.0,
    "milter": {"add_headers": {"X-Spam": "Yes"}},
}


def test_each_sees_what_the_ones_before_have_left():
    first = FakeMilter(
        {
            "E": [
                fake.add_header("X-First", "1")
                + fake.change_header(1, "Subject", "")
                + fake.replace_body(b"new\r\n")
                + fake.add_recipient("dave@example.net")
                + CONTINUE
            ]
        }
    )
    second = FakeMilter(
        {"E": [fake.replace_body(b"newer\r\n") + fake.quarantine("odd") + CONTINUE]}
    )
    row = Row(first, SPAM, second)
    assert row.begin() == [Opinion()] * 4
    outcome = row.content()
    assert row.rspamd.requests[0].content == (
        b"Received: from a\n\tby b; today\nFrom: alice@example.org\nX-First: 1\n\nnew\n"
    )
    assert row.rspamd.requests[0].fields["rcpt"] == ["bob@example.net", "dave@example.net"]
    assert second.told("L")[-1] == b"X-Spam\0Yes\0"
    assert second.told("B") == [b"new\r\n"]
    opinion = outcome.opinion
    assert opinion.action is Action.QUARANTINE
    assert opinion.reason == "odd"
    assert (opinion.score, opinion.body) == (8.0, row.spills[1])
    assert [one.discarded for one in row.spills] == [True, False]
    assert outcome.message.fields[-2:] == (b"X-First: 1\n", b"X-Spam: Yes\n")
    assert tuple(apply_edits(message().fields, opinion.edits)) == outcome.message.fields
    assert row.world.run(outcome.message.body.read(0, 99)) == b"newer\n"
    assert row.session.take_told() == (
        Told("first", "message", 0, "none", Action.NONE, ""),
        Told("rspamd", "message", 0, "junk", Action.JUNK, "add header, score 8 of 15", 8.0),
        Told("second", "message", 0, "quarantine", Action.QUARANTINE, "odd"),
    )
    assert row.session.take_told() == ()


def test_who_refuses_has_the_last_word():
    second = FakeMilter()
    row = Row(FakeMilter({"E": [fake.replace_body(b"x") + CONTINUE]}), {"action": "reject"}, second)
    row.begin()
    outcome = row.content()
    assert outcome.opinion.reply.code == 550
    assert outcome.opinion.body is None
    assert row.spills[0].discarded
    assert second.letters == "OCHMRT"
    row.session.abort()
    row.world.reactor.settle()
    assert second.letters == "OCHMRTA"


def test_refused_at_a_stage():
    second = FakeMilter()
    row = Row(FakeMilter({"R": [fake.reply("550 5.1.1 No")]}), SPAM, second)
    found = row.begin()
    assert found[2].reply == Reply(550, "5.1.1", ("No",))
    assert second.told("R") == []
    (told,) = row.session.take_told()
    assert told == Told("first", "rcpt", 0, "reject", Action.REJECT, "No")


def test_discarded_before_the_content():
    row = Row(FakeMilter({"M": [fake.DISCARD]}), SPAM, FakeMilter())
    assert [one.action for one in row.begin()[1:]] == [Action.DISCARD] * 3
    assert row.content().opinion.action is Action.DISCARD
    assert row.rspamd.requests == []


def test_a_failure_is_told_once():
    row = Row(FakeMilter(), SPAM, FakeMilter({"M": [fake.HANG]}))
    row.begin()
    row.content()
    told = row.session.take_told()
    assert [(one.filter, one.stage, one.verdict) for one in told] == [
        ("second", "mail", "failed"),
        ("first", "message", "none"),
        ("rspamd", "message", "junk"),
        ("second", "message", "unasked"),
    ]
    assert told[0].milliseconds == 30_000
    assert told[0].why == "no answer in time"


def test_the_end_of_the_connection():
    first, second = FakeMilter(), FakeMilter()
    row = Row(first, SPAM, second)
    row.begin()
    row.session.close()
    row.session.close()
    row.world.reactor.settle()
    assert first.open == second.open == 0


@pytest.mark.parametrize(
    ("before", "later", "action"),
    [
        (Action.NONE, Action.ACCEPT, Action.NONE),
        (Action.JUNK, Action.NONE, Action.JUNK),
        (Action.JUNK, Action.QUARANTINE, Action.QUARANTINE),
        (Action.QUARANTINE, Action.JUNK, Action.QUARANTINE),
        (Action.QUARANTINE, Action.TEMPFAIL, Action.TEMPFAIL),
    ],
)
def test_the_stronger_word_counts(before, later, action):
    reply = Reply(451, "4.7.1", ("later",)) if later is Action.TEMPFAIL else None
    found = merged(Opinion(action=before), Opinion(action=later, reply=reply, score=1.0))
    assert found.action is action
    assert found.reply == reply


_FIELDS = st.lists(st.sampled_from([b"A: 1\n", b"B: 2\n", b"A: 3\n"]), max_size=5)
_EDITS = st.lists(
    st.one_of(
        st.builds(Add, st.just(b"A: 4\n")),
        st.builds(Insert, st.integers(-1, 6), st.just(b"B: 5\n")),
        st.builds(Change, st.sampled_from([b"a", b"b"]), st.integers(1, 3), st.just(b"A: 6\n")),
        st.builds(Delete, st.sampled_from([b"a", b"b"]), st.integers(-1, 3)),
    ),
    max_size=4,
).map(tuple)
_PEOPLE = [Address.parse(f"{name}@example.net") for name in ("bob", "dave", "erin")]
_OPINIONS = st.builds(
    Opinion,
    edits=_EDITS,
    added=st.lists(st.sampled_from([Recipient(one) for one in _PEOPLE]), max_size=3).map(tuple),
    deleted=st.lists(st.sampled_from(_PEOPLE), max_size=2).map(tuple),
    sender=st.sampled_from([None, Sender(None), Sender(ALICE)]),
)


@given(_FIELDS, _OPINIONS, _OPINIONS)
def test_two_opinions_as_one_do_what_they_do_one_after_the_other(fields, one, other):
    start = message(fields=tuple(fields))
    together, apart = after(start, merged(one, other)), after(after(start, one), other)
    assert together.fields == apart.fields
    assert together.context.sender == apart.context.sender
    assert {r.address for r in together.context.recipients} == {
        r.address for r in apart.context.recipients
    }
