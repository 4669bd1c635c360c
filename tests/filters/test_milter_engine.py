"""The milter protocol, packet by packet."""

from __future__ import annotations

import struct

import pytest
from filtering import ALICE, BOB
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.filters.interfaces import Add, Change, Delete, Insert, Recipient, Sender
from twisted_mail.filters.milter_engine import (
    MAX_PACKET,
    Body,
    Deleted,
    Kind,
    MilterEngine,
    MilterError,
    Quarantine,
    Stage,
)
from twisted_mail.filters.milter_packets import packet, reply_from
from twisted_mail.status import Reply
from twisted_mail.testing import filters_milter as fake


def agreed(offer: bytes = b"", *, large: bool = False) -> MilterEngine:
    engine = MilterEngine(large=large)
    engine.offer()
    engine.receive(offer or fake.options())
    assert engine.answer() is not None
    return engine


def at_end(data: bytes, offer: bytes = b""):
    """The answers to the end of the content."""
    engine = agreed(offer)
    engine.call(Stage.EOM)
    engine.receive(data)
    found = []
    while engine.awaiting is not None and (answer := engine.answer()) is not None:
        found.append(answer)
    return found


def test_offer():
    assert MilterEngine().offer() == b"\0\0\0\x0dO" + struct.pack(">III", 6, 0x1FF, 0x1FFFFF)
    assert MilterEngine(large=True).offer()[-4:] == struct.pack(">I", 0x301FFFFF)


@pytest.mark.parametrize(
    "offer",
    [
        fake.options(version=7),
        fake.options(version=1),
        fake.options(actions=0x200),
        packet(b"O", b"short"),
        packet(b"c"),
        b"\0\0\0\0",
        (MAX_PACKET + 1).to_bytes(4),
    ],
)
def test_negotiation_that_cannot_be(offer):
    with pytest.raises(MilterError):
        agreed(offer)


def test_connect_names_the_family():
    engine = agreed(fake.options(steps=0x1000))
    assert engine.connect("192.0.2.1", 258, "a.example", {}) == packet(
        b"C", b"a.example\x004\x01\x02192.0.2.1\0"
    )
    assert engine.connect("2001:db8::1", 1, "", {}) == packet(
        b"C", b"unknown\x006\x00\x012001:db8::1\0"
    )
    assert engine.connect("", 0, "", {}) == packet(b"C", b"unknown\0U")


def test_mail_and_rcpt_with_parameters():
    engine = agreed(fake.options(steps=0x4000 | 0x8000))
    macros = {"i": "q1", "mail_addr": "alice@example.org"}
    assert engine.path(Stage.MAIL, ALICE, ("SIZE=1",), macros) == (
        packet(b"D", b"Mi\0q1\0{mail_addr}\0alice@example.org\0")
        + packet(b"M", b"<alice@example.org>\0SIZE=1\0")
    )
    assert engine.path(Stage.MAIL, None, (), {}) == packet(b"M", b"<>\0")
    assert engine.path(Stage.RCPT, BOB, (), {}) == packet(b"R", b"<bob@example.net>\0")


def test_header_loses_one_space_unless_agreed():
    engine = agreed(fake.options(steps=0x80))
    assert engine.header(b"Subject:  a\n b\n") == packet(b"L", b"Subject\0 a\n b\0")
    assert engine.header(b"X:a\n") == packet(b"L", b"X\0a\0")
    engine = agreed(fake.options(steps=0x80 | 0x100000))
    assert engine.header(b"Subject: a\n") == packet(b"L", b"Subject\0 a\0")


def test_header_that_is_too_long_for_a_packet_is_cut():
    assert len(agreed().header(b"X: " + b"a" * 200_000 + b"\n")) <= 65540


def test_stages_and_answers_left_out():
    engine = agreed(fake.options(steps=Stage.HELO.left_out | Stage.MAIL.no_answer))
    assert engine.call(Stage.HELO, b"x\0") == b""
    assert engine.awaiting is None
    assert engine.call(Stage.MAIL, b"<>\0")
    assert engine.awaiting is None
    engine.call(Stage.RCPT, b"<>\0")
    assert engine.awaiting is Stage.RCPT
    with pytest.raises(MilterError):
        engine.call(Stage.DATA)


def test_an_old_filter_does_not_know_data():
    assert agreed(fake.options(version=3)).call(Stage.DATA) == b""
    assert agreed(fake.options(version=4)).call(Stage.DATA) == packet(b"T")


def test_macros_that_are_wanted():
    engine = agreed(fake.options(steps=0x2000, macros={1: "{tls_version} j", 2: ""}))
    assert engine.call(Stage.HELO, b"x\0", {"j": "h", "tls_version": "T", "cipher": "C"}) == packet(
        b"D", b"H{tls_version}\0T\0j\0h\0"
    ) + packet(b"H", b"x\0")
    assert engine.call(Stage.MAIL, b"<>\0", {"i": "1"}) == packet(b"M", b"<>\0")


@pytest.mark.parametrize(
    ("flag", "size"), [(0, 65535), (0x10000000, 262143), (0x20000000, 1048575)]
)
def test_larger_packets(flag, size):
    assert agreed(fake.options(steps=flag), large=True).chunk == size
    assert agreed(fake.options(steps=flag)).chunk == 65535


@pytest.mark.parametrize(
    ("data", "kind", "reply"),
    [
        (fake.CONTINUE, Kind.CONTINUE, None),
        (fake.ACCEPT, Kind.ACCEPT, None),
        (fake.DISCARD, Kind.DISCARD, None),
        (fake.PROGRESS, Kind.PROGRESS, None),
        (fake.REJECT, Kind.REFUSED, 550),
        (fake.TEMPFAIL, Kind.REFUSED, 451),
        (packet(b"4"), Kind.REFUSED, 421),
        (packet(b"f"), Kind.REFUSED, 421),
        (fake.reply("554 5.7.9 No"), Kind.REFUSED, 554),
    ],
)
def test_answers(data, kind, reply):
    (answer,) = at_end(data)
    assert answer.kind is kind
    assert (answer.reply.code if answer.reply else None) == reply


@pytest.mark.parametrize(
    ("data", "change"),
    [
        (fake.add_header("X", "a"), Add(b"X: a\n")),
        (fake.insert_header(0, "X", "a"), Insert(0, b"X: a\n")),
        (fake.insert_header(1, "X", "a"), Insert(0, b"X: a\n")),
        (fake.insert_header(3, "X", "a"), Insert(2, b"X: a\n")),
        (fake.change_header(2, "Subject", "a\n b"), Change(b"subject", 2, b"Subject: a\n b\n")),
        (fake.change_header(0, "Subject", ""), Delete(b"subject", 1)),
        (fake.add_recipient("<bob@example.net>"), Recipient(BOB)),
        (
            fake.add_recipient("bob@example.net", "NOTIFY=NEVER ORCPT=rfc822;b"),
            Recipient(BOB, ("NOTIFY=NEVER", "ORCPT=rfc822;b")),
        ),
        (fake.delete_recipient("<bob@example.net>"), Deleted(BOB)),
        (fake.delete_recipient("what?"), Deleted(None)),
        (fake.change_sender("<>"), Sender(None)),
        (fake.change_sender("<alice@example.org>", "SIZE=1"), Sender(ALICE, ("SIZE=1",))),
        (fake.replace_body(b"a\r\n"), Body(b"a\r\n")),
        (fake.quarantine("held\nback"), Quarantine("held?back")),
    ],
)
def test_changes(data, change):
    first, second = at_end(data + fake.CONTINUE)
    assert (first.kind, first.change) == (Kind.CHANGE, change)
    assert second.kind is Kind.CONTINUE


def test_space_is_kept_in_changes_when_agreed():
    (answer,) = at_end(fake.add_header("X", "\ta"), fake.options(steps=0x100000))
    assert answer.change == Add(b"X:\ta\n")


@pytest.mark.parametrize(
    "data",
    [
        packet(b"?"),
        packet(b"c", b"more"),
        fake.SKIP,
        packet(b"h", b"X\0a"),
        packet(b"h", b"X\0"),
        packet(b"h", b"a b\0x\0"),
        packet(b"m", b"\0\0"),
        fake.add_recipient("nobody at all"),
        fake.add_recipient("<>"),
        fake.change_sender("a b"),
        fake.reply("250 fine"),
        fake.reply(""),
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
    ],
)
def test_what_breaks_the_protocol(data):
    with pytest.raises(MilterError):
        at_end(data)


def test_changes_only_as_agreed_and_at_the_end():
    with pytest.raises(MilterError):
        at_end(fake.add_header("X", "a"), fake.options(actions=0x2))
    engine = agreed()
    engine.call(Stage.MAIL, b"<>\0")
    engine.receive(fake.add_header("X", "a"))
    with pytest.raises(MilterError):
        engine.answer()


def test_too_many_changes_and_endless_progress():
    with pytest.raises(MilterError):
        at_end(fake.add_header("X", "a") * 2001)
    with pytest.raises(MilterError):
        at_end(fake.PROGRESS * 10_001)


def test_a_flooded_header_can_be_cleaned():
    engine = agreed(fake.options(steps=0x80 | 0x4000))
    for _ in range(2):
        engine.call(Stage.MAIL, b"<>\0")
        for _ in range(3000):
            engine.header(b"X: a\n")
        engine.call(Stage.EOM)
        engine.receive(fake.change_header(1, "X", "") * 5000 + fake.CONTINUE)
        for _ in range(5000):
            assert engine.answer().change == Delete(b"x", 1)
        assert engine.answer().kind is Kind.CONTINUE


def test_skip_only_at_body_and_once():
    engine = agreed(fake.options(steps=0x400))
    engine.call(Stage.BODY, b"x")
    engine.receive(fake.SKIP)
    assert engine.answer().kind is Kind.SKIP
    assert not engine.wants(Stage.BODY)
    engine.call(Stage.EOM)
    assert engine.wants(Stage.BODY)


def test_talking_without_being_asked():
    engine = agreed()
    engine.receive(fake.CONTINUE)
    with pytest.raises(MilterError):
        engine.call(Stage.HELO, b"x\0")


def test_replies():
    assert reply_from(b"550 5.7.1 100%% no\r\n") == Reply(550, "5.7.1", ("100% no",))
    assert reply_from(b"451-4.7.0 a\r\n451 4.7.0 b") == Reply(451, "4.7.0", ("a", "b"))
    assert reply_from(b"421 bye") == Reply(421, "4.7.1", ("bye",))
    assert reply_from(b"550 4.7.1 odd") == Reply(550, "5.7.1", ("odd",))
    assert reply_from(b"550 5.7.1 a\xc3\xa4\x07") == Reply(550, "5.7.1", ("a???",))
    assert reply_from(b"550 5.7.1") == Reply(550, "5.7.1", ("Refused",))
    for bad in (b"", b"250 ok", b"5xx", b"55"):
        assert reply_from(bad) is None
    assert len(reply_from(b"550 5.7.1 a\n" * 100).lines) == 32


_PACKETS = st.lists(
    st.one_of(
        st.builds(
            packet,
            st.sampled_from([b"%c" % c for c in b"cadrtpsyhimb+2-eq4fO?"]),
            st.binary(max_size=40),
        ),
        st.binary(max_size=12),
        st.sampled_from([fake.CONTINUE, fake.add_header("X", "a"), fake.options()]),
    ),
    max_size=8,
)


def _events(engine: MilterEngine, pieces: list[bytes]) -> list[object]:
    found: list[object] = []
    try:
        for piece in pieces:
            engine.receive(piece)
            while (answer := engine.answer()) is not None:
                found.append(answer)
    except MilterError as error:
        found.append(str(error))
    return found


@given(_PACKETS, st.lists(st.integers(1, 30), max_size=8), st.sampled_from(list(Stage)[:-1]))
def test_no_bytes_make_it_raise_and_any_cut_gives_the_same(packets, cuts, stage):
    data = b"".join(packets)
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(data[at : at + cut])
        at += cut
    pieces.append(data[at:])
    one, other = agreed(fake.options(steps=0x400)), agreed(fake.options(steps=0x400))
    one.call(stage, b"x\0")
    other.call(stage, b"x\0")
    assert _events(one, [data]) == _events(other, pieces)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_negotiation_raise(data):
    engine = MilterEngine()
    engine.offer()
    _events(engine, [data])
