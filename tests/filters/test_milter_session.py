"""A milter beside the conversation: what it is told, what its answers do, what happens when it is bad."""

from __future__ import annotations

from typing import Any

import pytest
from filtering import ALICE, BOB, CLIENT, FIELDS, HOST, message
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from twisted_mail.filters.interfaces import (
    Action,
    Add,
    Delete,
    Login,
    Opinion,
    Recipient,
    Sender,
    Tls,
)
from twisted_mail.filters.milter import Milter, MilterSettings
from twisted_mail.status import Reply
from twisted_mail.testing import filters_milter as fake
from twisted_mail.testing import simulated_world
from twisted_mail.testing.filters import MemorySource, MemorySpill
from twisted_mail.testing.filters_milter import ACCEPT, CONTINUE, FakeMilter

TLS = Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
SENDER = Sender(ALICE, ("SIZE=100",))


class Site:
    """A world with a milter, and a session of it."""

    def __init__(self, milter: FakeMilter | None, **options: Any) -> None:
        self.world = simulated_world()
        self.fake = milter
        if milter is not None:
            self.world.at(HOST).reactor.listenTCP(8891, milter)
        settings = MilterSettings("m", f"tcp:{HOST}:8891", **options)
        self.milter = Milter(self.world, settings)
        self.session = self.milter.session(CLIENT)
        self.spills: list[MemorySpill] = []

    def run(self, work: Any) -> Any:
        return self.world.run(work)

    def spill(self) -> MemorySpill:
        self.spills.append(MemorySpill())
        return self.spills[-1]

    def begin(self) -> None:
        """Up to DATA, all well."""
        assert self.run(self.session.helo("relay.example.org", TLS, None)) == Opinion()
        assert self.run(self.session.mail(SENDER, Login("carol", "PLAIN"))) == Opinion()
        assert self.run(self.session.rcpt(Recipient(BOB))) == Opinion()
        assert self.run(self.session.data("q1")) == Opinion()

    def content(self, body: bytes = b"one\ntwo\n", fields: tuple[bytes, ...] = FIELDS) -> Opinion:
        opinion: Opinion = self.run(self.session.message(message(body, fields), self.spill))
        return opinion

    def whole(self) -> Opinion:
        self.begin()
        return self.content()


def test_a_whole_conversation():
    site = Site(FakeMilter())
    assert site.whole() == Opinion()
    site.session.close()
    site.world.reactor.settle()
    assert site.fake.letters == "OCHMRTLLLNBEQ"
    assert site.fake.told("C") == [b"relay.example.org\x004\x12\x67198.51.100.7\0"]
    assert site.fake.told("H") == [b"relay.example.org\0"]
    assert site.fake.told("M") == [b"<alice@example.org>\0SIZE=100\0"]
    assert site.fake.told("R") == [b"<bob@example.net>\0"]
    assert site.fake.told("L")[0] == b"Received\0from a\n\tby b; today\0"
    assert site.fake.told("B") == [b"one\r\ntwo\r\n"]
    assert site.fake.macros("C")["_"] == "relay.example.org [198.51.100.7]"
    assert site.fake.macros("C")["client_addr"] == "198.51.100.7"
    assert site.fake.macros("C")["j"] == "mx.example.net"
    assert site.fake.macros("H")["tls_version"] == "TLSv1.3"
    assert site.fake.macros("M")["auth_authen"] == "carol"
    assert site.fake.macros("M")["mail_addr"] == "alice@example.org"
    assert site.fake.macros("R")["rcpt_addr"] == "bob@example.net"
    assert site.fake.macros("E") == {"i": "q1"}
    assert site.fake.open == 0
    assert site.milter.slots.tokens == 100


def test_nothing_is_sent_before_mail():
    site = Site(FakeMilter())
    site.run(site.session.helo("x", None, None))
    site.session.close()
    assert site.fake.commands == []


def test_one_connection_for_several_messages():
    site = Site(FakeMilter())
    site.whole()
    site.whole()
    site.run(site.session.mail(SENDER, None))
    site.session.abort()
    site.run(site.session.mail(SENDER, None))
    assert site.fake.letters == "OCHMRTLLLNBE" + "HMRTLLLNBE" + "M" + "A" + "M"
    assert len(site.fake.connections) == 1


def test_over_a_unix_socket():
    world = simulated_world()
    milter = FakeMilter({"E": [fake.REJECT]})
    world.reactor.listenUNIX("/run/milter", milter)
    session = Milter(world, MilterSettings("m", "unix:/run/milter")).session(CLIENT)
    world.run(session.mail(SENDER, None))
    assert world.run(session.message(message(), MemorySpill)).action is Action.REJECT


@pytest.mark.parametrize("endpoint", ["tls:host:1", "8891", "tcp:", "systemd:x", "tcp:a:b:c:d"])
def test_no_endpoint(endpoint):
    with pytest.raises(ValueError, match="a filter is at tcp:host:port or unix:/path"):
        Milter(simulated_world(), MilterSettings("m", endpoint))


# What it says


@pytest.mark.parametrize(
    ("answer", "opinion"),
    [
        (
            fake.reply("554 5.7.9 Go away"),
            Opinion(
                action=Action.REJECT, reply=Reply(554, "5.7.9", ("Go away",)), reason="Go away"
            ),
        ),
        (fake.DISCARD, Opinion(action=Action.DISCARD, reason="discarded")),
        (fake.ACCEPT, Opinion(action=Action.ACCEPT)),
    ],
)
@pytest.mark.parametrize("letter", ["M", "T", "L", "N", "B", "E"])
def test_the_last_word_at_every_stage(letter, answer, opinion):
    site = Site(FakeMilter({letter: [answer]}))
    found = [site.run(site.session.mail(SENDER, None))]
    found.append(site.run(site.session.rcpt(Recipient(BOB))))
    found.append(site.run(site.session.data()))
    found.append(site.content())
    assert opinion in found
    at = found.index(opinion)
    assert all(one == Opinion() for one in found[:at])
    # Who refuses or discards says so again; who has accepted is quiet.
    assert all(one == opinion if opinion.action.final else not one.asked for one in found[at + 1 :])
    assert site.fake.letters[-1] == letter


@pytest.mark.parametrize(("letter", "told"), [("C", "OCQ"), ("H", "OCHQ")])
def test_a_connection_that_it_refuses_is_refused_at_every_mail(letter, told):
    site = Site(FakeMilter({letter: [fake.TEMPFAIL]}))
    site.run(site.session.helo("x", None, None))
    for _ in range(2):
        opinion = site.run(site.session.mail(SENDER, None))
        assert (opinion.action, opinion.reply.code) == (Action.TEMPFAIL, 451)
    site.world.reactor.settle()
    assert site.fake.letters == told
    assert site.milter.slots.tokens == 100


def test_a_connection_that_it_accepts_is_not_told_any_more():
    site = Site(FakeMilter({"C": [ACCEPT]}))
    assert site.run(site.session.mail(SENDER, None)).action is Action.ACCEPT
    assert not site.run(site.session.rcpt(Recipient(BOB))).asked
    assert site.content().asked is False
    assert site.fake.letters.rstrip("Q") == "OC"


def test_one_recipient_refused():
    site = Site(FakeMilter({"R": [fake.reply("550 5.1.1 No such"), CONTINUE]}))
    site.run(site.session.mail(SENDER, None))
    assert site.run(site.session.rcpt(Recipient(BOB))).action is Action.REJECT
    assert site.run(site.session.rcpt(Recipient(ALICE))) == Opinion()
    assert site.content() == Opinion()


def test_refused_recipients_are_told_to_who_wants_them():
    refused = Reply(550, "5.1.1", ("No such user",))
    site = Site(FakeMilter({"R": [fake.REJECT]}, fake.options(steps=0x800)))
    site.run(site.session.mail(SENDER, None))
    assert site.run(site.session.rcpt(Recipient(BOB), refused)) == Opinion()
    assert site.fake.macros("R") == {
        "rcpt_addr": "No such user",
        "rcpt_host": "5.1.1",
        "rcpt_mailer": "error",
    }
    site = Site(FakeMilter())
    site.run(site.session.mail(SENDER, None))
    site.run(site.session.rcpt(Recipient(BOB), refused))
    assert site.fake.told("R") == []


def test_changes():
    answers = (
        fake.add_header("X-Seen", "yes")
        + fake.change_header(1, "Subject", "")
        + fake.add_recipient("<dave@example.net>")
        + fake.delete_recipient("<bob@example.net>")
        + fake.change_sender("<>")
        + fake.replace_body(b"new\r")
        + fake.PROGRESS
        + fake.replace_body(b"\nbody")
        + fake.quarantine("odd")
        + CONTINUE
    )
    site = Site(FakeMilter({"E": [answers]}))
    opinion = site.whole()
    assert opinion.action is Action.QUARANTINE
    assert opinion.reason == "odd"
    assert opinion.edits == (Add(b"X-Seen: yes\n"), Delete(b"subject", 1))
    assert [str(one.address) for one in opinion.added] == ["dave@example.net"]
    assert opinion.deleted == (BOB,)
    assert opinion.sender == Sender(None)
    assert site.run(opinion.body.read(0, 99)) == b"new\nbody\n"
    assert not site.spills[0].discarded


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        (fake.change_header(1, "X-Spam", "Yes"), Action.JUNK),
        (fake.add_header("X-Spam-Flag", "YES"), Action.JUNK),
        (fake.insert_header(1, "X-Spam", "No"), Action.ACCEPT),
        (fake.change_header(1, "X-Spam", ""), Action.ACCEPT),
        (fake.add_header("X-Other", "Yes"), Action.ACCEPT),
        (fake.add_header("X-Spam", "Yes") + fake.quarantine("q"), Action.QUARANTINE),
    ],
)
def test_a_field_that_says_junk(answer, action):
    assert Site(FakeMilter({"E": [answer + ACCEPT]})).whole().action is action


def test_the_last_word_on_a_recipient_counts():
    bob = "bob@example.net"
    site = Site(
        FakeMilter({"E": [fake.delete_recipient(bob) + fake.add_recipient(bob) + CONTINUE]})
    )
    opinion = site.whole()
    assert (opinion.added, opinion.deleted) == ((Recipient(BOB),), ())
    site = Site(
        FakeMilter({"E": [fake.add_recipient(bob) + fake.delete_recipient(bob) + CONTINUE]})
    )
    opinion = site.whole()
    assert (opinion.added, opinion.deleted) == ((), (BOB,))


def test_changes_before_a_refusal_are_forgotten():
    site = Site(
        FakeMilter({"E": [fake.replace_body(b"x") + fake.add_header("X", "a") + fake.REJECT]})
    )
    opinion = site.whole()
    assert (opinion.action, opinion.edits, opinion.body) == (Action.REJECT, (), None)
    assert site.spills[0].discarded


def test_a_body_without_end_breaks_the_protocol():
    block = fake.replace_body(b"x" * 60_000)
    site = Site(FakeMilter({"E": [block * 20 + CONTINUE]}), max_body=1_000_000)
    assert site.whole().failed
    assert site.spills[0].discarded


def test_content_in_packets():
    site = Site(FakeMilter())
    site.begin()
    body = b"0123456789\n" * 20_000
    site.content(body)
    told = site.fake.told("B")
    assert b"".join(told) == body.replace(b"\n", b"\r\n")
    assert [len(one) for one in told] == [65535, 65535, 65535, 43395]


def test_content_without_answers_waits_for_a_milter_that_does_not_read():
    site = Site(FakeMilter(None, fake.options(steps=0x80000 | 0x80 | 0x40000)))
    site.world.network.host(HOST).bytes_per_second = 100_000.0
    site.begin()
    began = site.world.now()
    body = b"0123456789\n" * 50_000
    assert site.content(body) == Opinion()
    assert site.world.now() - began > 5
    assert b"".join(site.fake.told("B")) == body.replace(b"\n", b"\r\n")


class Counting(MemorySource):
    """Content that knows how much of it was read."""

    count = 0

    async def read(self, offset: int, size: int) -> bytes:
        block = await super().read(offset, size)
        self.count += len(block)
        return block


def test_no_more_is_read_than_the_milter_takes():
    site = Site(FakeMilter(None, fake.options(steps=0x80000 | 0x80 | 0x40000)), on_failure="accept")
    site.begin()
    site.world.network.host(HOST).bytes_per_second = 1.0
    body = Counting(b"x" * 5_000_000)
    opinion = site.run(site.session.message(message()._replace(body=body), site.spill))
    assert opinion.failed
    assert body.count < 500_000


@pytest.mark.parametrize("steps", [0x80, 0x80 | 0x40000 | 0x80000])
def test_it_answers_what_it_said_it_would_not(steps):
    site = Site(FakeMilter({"L": [CONTINUE]}, fake.options(steps=steps)))
    site.begin()
    assert site.content(b"x" * 1_000_000).failed


def test_skip():
    site = Site(FakeMilter({"B": [fake.SKIP]}, fake.options(steps=0x400)))
    site.begin()
    site.content(b"x" * 300_000)
    assert site.fake.letters.endswith("BE")
    site.begin()
    site.content(b"x")
    assert site.fake.letters.endswith("BE")


def test_what_it_does_not_want():
    steps = 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x40 | 0x200
    site = Site(FakeMilter(None, fake.options(steps=steps)))
    site.whole()
    assert site.fake.letters == "OME"


def test_an_empty_body_and_no_fields():
    site = Site(FakeMilter())
    site.begin()
    assert site.content(b"", ()) == Opinion()
    assert site.fake.letters.endswith("TNE")


# What goes wrong


@pytest.mark.parametrize(
    ("how", "action", "code"),
    [
        ("accept", Action.NONE, None),
        ("tempfail", Action.TEMPFAIL, 451),
        ("reject", Action.REJECT, 550),
    ],
)
def test_it_cannot_be_reached(how, action, code):
    site = Site(None, on_failure=how)
    assert site.run(site.session.helo("x", None, None)) == Opinion()
    opinion = site.run(site.session.mail(SENDER, None))
    assert opinion.failed
    assert opinion.action is action
    assert (opinion.reply.code if opinion.reply else None) == code
    assert "no connection to tcp:" in opinion.reason
    assert site.run(site.session.rcpt(Recipient(BOB))).action is action
    assert site.content().action is action
    assert site.milter.slots.tokens == 100


@pytest.mark.parametrize("letter", list("OCHMRTLNBE"))
@pytest.mark.parametrize("bad", [fake.CLOSE, fake.HANG, fake.packet(b"?"), b"\xff" * 8])
def test_it_breaks_at_any_stage(letter, bad):
    milter = FakeMilter({letter: [bad]})
    if letter == "O":
        milter.offer = bad
    site = Site(milter, on_failure="accept")
    site.run(site.session.helo("x", None, None))
    found = [site.run(site.session.mail(SENDER, None))]
    found.append(site.run(site.session.rcpt(Recipient(BOB))))
    found.append(site.run(site.session.data()))
    found.append(site.content())
    assert [one.failed for one in found].count(True) == 1
    assert all(one.action is Action.NONE for one in found)
    assert site.milter.slots.tokens == 100
    # The next message has a new connection.
    milter.script, milter.offer = {}, fake.options()
    site.whole()
    site.world.reactor.settle()
    assert len(milter.connections) == 2
    assert milter.open == 1


@pytest.mark.parametrize(("letter", "seconds"), [("O", 10), ("M", 30), ("R", 30), ("E", 300)])
def test_how_long_is_waited(letter, seconds):
    milter = FakeMilter({letter: [fake.HANG]})
    if letter == "O":
        milter.offer = fake.HANG
    site = Site(milter)
    began = site.world.now()
    site.run(site.session.mail(SENDER, None))
    site.run(site.session.rcpt(Recipient(BOB)))
    assert site.content().failed
    assert site.world.now() - began == pytest.approx(seconds)


def test_progress_gives_time_but_not_for_ever():
    site = Site(FakeMilter(), total_seconds=600.0)

    def slowly(_: bytes) -> bytes:
        connection = site.fake.connections[-1]

        def again(left: int) -> None:
            if connection.transport.disconnecting:
                return
            connection.transport.write(fake.PROGRESS if left else CONTINUE)
            if left:
                site.world.reactor.callLater(200, again, left - 1)

        site.world.reactor.callLater(200, again, site.rounds)
        return b""

    site.fake.script["E"] = slowly
    site.rounds = 1
    assert site.whole() == Opinion()
    site.rounds = 10
    began = site.world.now()
    assert site.whole().failed
    assert site.world.now() - began == pytest.approx(600)


def test_a_connection_that_broke_between_messages_is_made_anew():
    site = Site(FakeMilter())
    site.whole()
    site.world.network.host(HOST).cut()
    site.world.reactor.settle()
    assert site.whole() == Opinion()
    assert len(site.fake.connections) == 2
    assert site.fake.letters.count("H") == 2


def test_a_helo_that_fails_is_told_again_with_mail():
    site = Site(FakeMilter({"H": [CONTINUE]}))
    site.whole()
    site.fake.script["H"] = [fake.CLOSE]
    assert site.run(site.session.helo("again", None, None)) == Opinion()
    site.fake.script = {}
    assert site.run(site.session.mail(SENDER, None)) == Opinion()
    assert len(site.fake.connections) == 2
    assert site.fake.told("H")[-1] == b"again\0"


def test_connections_at_once_are_bounded():
    site = Site(FakeMilter(), connections=2)
    others = [site.milter.session(CLIENT) for _ in range(2)]
    for one in others:
        assert site.run(one.mail(SENDER, None)) == Opinion()
    began = site.world.now()
    opinion = site.run(site.session.mail(SENDER, None))
    assert opinion.reason == "all its connections are busy"
    assert site.world.now() - began == pytest.approx(10)
    site.world.reactor.callLater(5, others[0].close)
    assert site.run(site.session.mail(SENDER, None)) == Opinion()
    assert site.fake.open == 2


@pytest.mark.parametrize("letter", list("OCHMRTLNBE"))
def test_cancelled_at_any_stage(letter):
    milter = FakeMilter({letter: [fake.HANG]})
    if letter == "O":
        milter.offer = fake.HANG
    site = Site(milter)

    async def all_of_it() -> None:
        await site.session.helo("x", None, None)
        await site.session.mail(SENDER, None)
        await site.session.rcpt(Recipient(BOB))
        await site.session.data()
        await site.session.message(message(), site.spill)

    outcome: list[Any] = []
    work = Deferred.fromCoroutine(all_of_it()).addBoth(outcome.append)
    site.world.reactor.advance(1)
    assert outcome == []
    work.cancel()
    assert len(outcome) == 1
    site.session.close()
    site.world.reactor.settle()
    assert site.milter.slots.tokens == 100
    assert milter.open == 0
    assert site.world.reactor.getDelayedCalls() == []


def test_cancelled_while_it_connects():
    site = Site(None)
    site.world.network.host(HOST).silent = True
    outcome: list[Any] = []
    work = Deferred.fromCoroutine(site.session.mail(SENDER, None)).addBoth(outcome.append)
    site.world.reactor.advance(1)
    work.cancel()
    site.world.reactor.settle()
    assert [one.type for one in outcome] == [CancelledError]
    assert site.milter.slots.tokens == 100
    assert site.world.reactor.getDelayedCalls() == []


class BrokenSource:
    size = 100

    async def read(self, offset: int, size: int) -> bytes:
        raise OSError("the disk")


def test_a_disk_that_fails_is_not_the_milters_failure():
    site = Site(FakeMilter(), on_failure="accept")
    site.begin()
    broken = message()._replace(body=BrokenSource())
    with pytest.raises(OSError, match="the disk"):
        site.run(site.session.message(broken, site.spill))
    assert site.milter.slots.tokens == 100


@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [
                    CONTINUE,
                    ACCEPT,
                    fake.PROGRESS,
                    fake.add_header("X", "a"),
                    fake.replace_body(b"new\r\n"),
                    fake.quarantine("x"),
                    fake.CLOSE,
                ]
            ),
            st.builds(
                fake.packet, st.sampled_from([b"y", b"h", b"i", b"+", b"e"]), st.binary(max_size=30)
            ),
        ),
        min_size=1,
        max_size=10,
    ),
    st.sampled_from("OCHMRTLNBE"),
)
def test_no_bytes_make_it_raise(answers, letter):
    milter = FakeMilter({letter: answers})
    if letter == "O":
        milter.offer = answers[0]
    site = Site(milter, command_seconds=3.0, content_seconds=3.0, connect_seconds=3.0)
    for _ in range(2):
        site.run(site.session.helo("x", None, None))
        site.run(site.session.mail(SENDER, None))
        site.run(site.session.rcpt(Recipient(BOB)))
        site.run(site.session.data())
        opinion = site.content()
        assert (opinion.reply is not None) == (opinion.action in (Action.REJECT, Action.TEMPFAIL))
        assert all(spill.discarded for spill in site.spills if spill is not opinion.body)
    site.session.close()
    site.world.reactor.advance(20)
    assert site.milter.slots.tokens == 100
    assert milter.open == 0
    assert site.world.reactor.getDelayedCalls() == []
