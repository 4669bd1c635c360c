"""rspamd, clamd and spamd: what is asked, what their answers mean, how long is waited."""

from __future__ import annotations

from typing import Any

import pytest
from filtering import ALICE, BOB, CONTEXT, FIELDS, HOST, message, world_with
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from twisted_mail.filters.clamd import Clamd, ClamdSettings
from twisted_mail.filters.interfaces import (
    Action,
    Add,
    Change,
    Delete,
    Insert,
    Opinion,
    Recipient,
    Sender,
)
from twisted_mail.filters.rspamd import Rspamd, RspamdSettings
from twisted_mail.filters.rspamd_answer import rspamd_verdict
from twisted_mail.filters.scanning import ScannerSettings
from twisted_mail.filters.spamd import Spamd, SpamdSettings
from twisted_mail.status import Reply
from twisted_mail.testing import simulated_world
from twisted_mail.testing.filters import FakeClamd, FakeRspamd, FakeSpamd, MemorySource

WHOLE = b"".join(FIELDS) + b"\none\ntwo\n"
SPAM = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 9\r\nSpam: True ; 15.2 / 5.0\r\n\r\nGTUBE,B_C\n"
HAM = b"SPAMD/1.1 0 EX_OK\r\nSpam: False ; -0.1 / 5.0\r\n\r\n\r\n"


def scanner(**options: Any) -> ScannerSettings:
    return ScannerSettings("s", f"tcp:{HOST}:1000", **options)


def clamd(
    fake: FakeClamd, *, options: dict[str, Any] | None = None, **more: Any
) -> tuple[Any, Any]:
    world = world_with(1000, fake)
    return world, Clamd(world, ClamdSettings(scanner(**(options or {})), **more))


def spamd(fake: Any, *, options: dict[str, Any] | None = None, **more: Any) -> tuple[Any, Any]:
    world = world_with(1000, fake)
    return world, Spamd(world, SpamdSettings(scanner(**(options or {})), **more))


def rspamd(fake: Any, *, options: dict[str, Any] | None = None, **more: Any) -> tuple[Any, Any]:
    world = world_with(1000, fake)
    return world, Rspamd(world, RspamdSettings(scanner(**(options or {})), **more))


def said(pair: tuple[Any, Any], body: bytes = b"one\ntwo\n") -> Opinion:
    world, asked = pair
    opinion: Opinion = world.run(asked.scan(message(body)))
    return opinion


# clamd


def test_clamd_ok():
    fake = FakeClamd(b"stream: OK\0")
    assert said(clamd(fake)) == Opinion()
    assert fake.requests[0].first == "zINSTREAM"
    assert fake.requests[0].content == WHOLE


@pytest.mark.parametrize(
    ("what", "action"),
    [("reject", "reject"), ("discard", "discard"), ("quarantine", "quarantine"), ("junk", "junk")],
)
def test_clamd_found(what, action):
    opinion = said(clamd(FakeClamd(b"stream: Eicar-Test.UNOFFICIAL FOUND\0"), infected=what))
    assert opinion.action == action
    assert opinion.symbols == ("Eicar-Test.UNOFFICIAL",)
    if what == "reject":
        assert opinion.reply == Reply(
            550, "5.7.1", ("The message contains malware (Eicar-Test.UNOFFICIAL)",)
        )


def test_clamd_limit_that_is_told_in_the_midst():
    limit = b"INSTREAM size limit exceeded. ERROR\0"
    body = b"x" * 500_000
    opinion = said(clamd(FakeClamd(limit, limit=1000)), body)
    assert (opinion.action, opinion.failed) == (Action.NONE, False)
    assert "size limit" in opinion.reason
    opinion = said(
        clamd(
            FakeClamd(limit, limit=1000), options={"on_failure": "tempfail"}, too_large="failure"
        ),
        body,
    )
    assert (opinion.action, opinion.failed) == (Action.TEMPFAIL, True)


@pytest.mark.parametrize("answer", [b"", b"\0", b"stream: OK", b"UNKNOWN COMMAND\0", b"a" * 9000])
def test_clamd_nonsense(answer):
    assert said(clamd(FakeClamd(answer))).failed


class Counting(MemorySource):
    """Content that knows how much of it was read."""

    count = 0

    async def read(self, offset: int, size: int) -> bytes:
        block = await super().read(offset, size)
        self.count += len(block)
        return block


def test_clamd_that_has_answered_is_shown_no_more():
    world, asked = clamd(FakeClamd(b"INSTREAM size limit exceeded. ERROR\0", limit=1000))
    body = Counting(b"x" * 20_000_000)
    assert not world.run(asked.scan(message()._replace(body=body))).failed
    assert body.count < 2_000_000


def test_clamd_answer_without_end():
    opinion = said(clamd(FakeClamd(b"a" * 9000, closes=False)))
    assert opinion.reason == "clamd: no answer that is one"


# spamd


def test_spamd_spam_and_ham():
    fake = FakeSpamd(SPAM)
    assert said(spamd(fake, user="carol")) == Opinion(
        action=Action.JUNK,
        reason="score 15.2, spam from 5",
        score=15.2,
        symbols=("GTUBE", "B_C"),
    )
    request = fake.requests[0]
    assert request.first == "SYMBOLS SPAMC/1.5"
    assert request.fields == {"content-length": [str(len(WHOLE))], "user": ["carol"]}
    assert request.content == WHOLE
    assert said(spamd(FakeSpamd(HAM))) == Opinion(score=-0.1)


def test_spamd_rejects_over_a_score():
    assert said(spamd(FakeSpamd(SPAM), reject_score=15.2)).action is Action.REJECT
    assert said(spamd(FakeSpamd(SPAM), reject_score=15.3)).action is Action.JUNK


def test_spamd_headers():
    answer = (
        b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 15.2 / 5.0\r\n\r\nReceived: x\r\nX-Spam-Flag: YES\r\n"
        b"X-Spam-Status: Yes, score=15.2\r\n\ttests=GTUBE,\r\n\tA_B autolearn=no\r\nFrom: x\r\n\r\n"
    )
    fake = FakeSpamd(answer)
    opinion = said(spamd(fake, headers=True))
    assert fake.requests[0].first == "HEADERS SPAMC/1.5"
    assert opinion.edits == (
        Delete(b"x-spam-flag", 0),
        Delete(b"x-spam-status", 0),
        Insert(0, b"X-Spam-Flag: YES\n"),
        Insert(1, b"X-Spam-Status: Yes, score=15.2\n\ttests=GTUBE,\n\tA_B autolearn=no\n"),
    )
    assert opinion.symbols == ("GTUBE",)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"SPAMD/1.1 74 EX_IOERR\r\n\r\n",
        b"SPAMD/1.1 0 EX_OK\r\n\r\n",
        b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; . / 5\r\n\r\n",
        b"SPAMD/1.1 0 EX_OK\r\n" + b"x" * 5_000_000,
    ],
)
def test_spamd_nonsense(answer):
    assert said(spamd(FakeSpamd(answer))).failed


def test_spamd_answer_without_end():
    opinion = said(spamd(FakeSpamd(HAM + b"x" * 5_000_000)))
    assert opinion.reason == "an answer that does not end"


# rspamd


def test_rspamd_numbers_that_are_none():
    for score in (float("nan"), float("inf"), 10**400, True, "7"):
        opinion = rspamd_verdict({"action": "no action", "score": score}, ())
        assert (opinion.score, opinion.reason) == (0.0, "no action, score 0 of 0")


def test_rspamd_is_told_all():
    fake = FakeRspamd({"action": "no action", "score": 1.5, "required_score": 15})
    opinion = said(rspamd(fake, password="secret", settings_id="in"))
    assert opinion == Opinion(reason="no action, score 1.5 of 15", score=1.5)
    request = fake.requests[0]
    assert request.first == "POST /checkv2 HTTP/1.1"
    assert request.content == WHOLE
    assert request.fields == {
        "host": ["localhost"],
        "content-length": [str(len(WHOLE))],
        "ip": ["198.51.100.7"],
        "helo": ["relay.example.org"],
        "hostname": ["relay.example.org"],
        "mta-name": ["mx.example.net"],
        "from": ["<alice@example.org>"],
        "queue-id": ["q1"],
        "user": ["carol"],
        "rcpt": ["bob@example.net"],
        "tls-version": ["TLSv1.3"],
        "tls-cipher": ["TLS_AES_256_GCM_SHA384"],
        "password": ["secret"],
        "settings-id": ["in"],
        "connection": ["close"],
    }
    assert "secret" not in repr(RspamdSettings(scanner(), "secret"))


@pytest.mark.parametrize(
    ("said_action", "action"),
    [
        ("no action", Action.NONE),
        ("greylist", Action.NONE),
        ("add header", Action.JUNK),
        ("rewrite subject", Action.JUNK),
        ("soft reject", Action.TEMPFAIL),
        ("reject", Action.REJECT),
        ("quarantine", Action.QUARANTINE),
        ("discard", Action.DISCARD),
    ],
)
def test_rspamd_actions(said_action, action):
    opinion = rspamd_verdict({"action": said_action}, FIELDS)
    assert opinion.action is action
    assert (opinion.reply is not None) == (action in (Action.REJECT, Action.TEMPFAIL))


def test_rspamd_greylist_and_messages():
    opinion = rspamd_verdict(
        {"action": "greylist", "messages": {"smtp_message": "Later\r\nplease"}}, FIELDS, "tempfail"
    )
    assert opinion.reply == Reply(451, "4.7.1", ("Later??please",))


def test_rspamd_changes():
    opinion = rspamd_verdict(
        {
            "action": "rewrite subject",
            "score": 7.0,
            "required_score": 15.0,
            "subject": "*** SPAM *** hello",
            "symbols": {"A": {"score": 1.0}, "B": {"score": -3.5}, "C": "odd"},
            "dkim-signature": ["v=1; a", "v=1; b"],
            "milter": {
                "remove_headers": {"X-Spam": 0, "Subject": 1, "Received": -1, "Nothing": -1},
                "add_headers": {
                    "X-One": "1",
                    "X-Two": {"value": "2", "order": 0},
                    "X-Three": [{"value": "3", "order": 2}, {"value": "4\nEvil: 1"}, 7],
                    "X-Last": {"value": "5", "order": -1},
                    "bad name": "x",
                },
                "change_from": "new@example.org",
                "add_rcpt": ["dave@example.net", 7, "not an address"],
                "del_rcpt": ["bob@example.net"],
            },
        },
        FIELDS,
    )
    assert opinion.edits == (
        Delete(b"x-spam", 0),
        Delete(b"subject", 1),
        Delete(b"received", 1),
        Add(b"X-One: 1\n"),
        Insert(0, b"X-Two: 2\n"),
        Insert(1, b"X-Three: 3\n"),
        Add(b"X-Three: 4\n\tEvil: 1\n"),
        Insert(3, b"X-Last: 5\n"),
        Insert(0, b"DKIM-Signature: v=1; a\n"),
        Insert(1, b"DKIM-Signature: v=1; b\n"),
        Change(b"subject", 1, b"Subject: *** SPAM *** hello\n"),
    )
    assert opinion.symbols == ("B(-3.5)", "A(1)")
    assert str(opinion.sender.address) == "new@example.org"
    assert [str(one.address) for one in opinion.added] == ["dave@example.net"]
    assert opinion.deleted == (BOB,)
    assert opinion.reason == "rewrite subject, score 7 of 15"


def test_rspamd_other_words():
    assert (
        rspamd_verdict({"action": "reject", "milter": {"reject": "discard"}}, ()).action
        == "discard"
    )
    assert (
        rspamd_verdict({"action": "reject", "milter": {"reject": "quarantine"}}, ()).action
        == "quarantine"
    )
    assert rspamd_verdict({"action": "reject", "milter": {"no_action": True}}, ()).action == "none"
    # What rspamd 3.4 says of GTUBE
    assert rspamd_verdict({"action": "reject", "is_skipped": True}, ()).action == "reject"
    opinion = rspamd_verdict({"action": "no action", "milter": {"change_from": ""}}, ())
    assert opinion.sender == Sender(None)


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
_BLOCK = st.dictionaries(
    st.sampled_from(
        [
            "add_headers",
            "remove_headers",
            "change_from",
            "add_rcpt",
            "del_rcpt",
            "reject",
            "spam_header",
        ]
    ),
    _JSON,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["score", "required_score", "symbols", "messages", "subject", "dkim-signature"]
        ),
        _JSON,
    ),
    _BLOCK,
    st.sampled_from(["no action", "reject", "soft reject", "add header", "rewrite subject", 3]),
)
def test_rspamd_no_json_makes_it_raise(answer, milter, action):
    try:
        opinion = rspamd_verdict({**answer, "milter": milter, "action": action}, FIELDS)
    except ValueError:
        assert action == 3
        return
    assert (opinion.reply is not None) == (opinion.action in (Action.REJECT, Action.TEMPFAIL))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"nonsense\r\n\r\n",
        b"",
        {"action": "dance"},
        [],
    ],
)
def test_rspamd_nonsense(answer):
    assert said(rspamd(FakeRspamd(answer))).failed


# All of them

KINDS: list[Any] = [(clamd, FakeClamd), (spamd, FakeSpamd), (rspamd, FakeRspamd)]


@pytest.mark.parametrize(("make", "fake"), KINDS)
def test_one_that_hangs_costs_its_own_message_only(make, fake):
    hanging = fake(None)
    world, asked = make(
        hanging, options={"seconds": 20.0, "connections": 2, "on_failure": "tempfail"}
    )
    began = world.now()
    outcomes: list[Any] = []
    for _ in range(3):
        Deferred.fromCoroutine(asked.scan(message())).addBoth(outcomes.append)
    world.reactor.advance(19)
    assert outcomes == []
    assert hanging.most == 2
    world.reactor.advance(2)
    assert [one.action for one in outcomes] == [Action.TEMPFAIL] * 3
    assert {one.reason for one in outcomes} == {"no answer in time", "all its connections are busy"}
    assert world.now() - began < 22
    assert hanging.open == 0
    hanging.answer = b"stream: OK\0"
    assert said((world, asked)).failed is (fake is not FakeClamd)


@pytest.mark.parametrize(("make", "fake"), KINDS)
def test_one_that_does_not_read(make, fake):
    world, asked = make(fake(None), options={"seconds": 20.0})
    world.network.host(HOST).mute = True
    world.network.host(HOST).bytes_per_second = 10_000.0
    began = world.now()
    opinion = said((world, asked), b"x" * 1_000_000)
    assert opinion.failed
    assert world.now() - began <= 20


@pytest.mark.parametrize(("make", "fake"), KINDS)
def test_one_that_is_not_there(make, fake):
    world, asked = make(fake(None))
    world.network.host(HOST).refuses = True
    opinion = said((world, asked))
    assert (opinion.action, opinion.failed) == (Action.NONE, True)
    world.network.host(HOST).heal()
    world.network.host(HOST).silent = True
    began = world.now()
    assert said((world, asked)).reason == f"no connection to tcp:{HOST}:1000 in time"
    assert world.now() - began == pytest.approx(5)


@pytest.mark.parametrize(("make", "fake"), KINDS)
def test_too_large_is_not_shown(make, fake):
    shown = fake(None)
    opinion = said(make(shown, options={"max_size": 100}), b"x" * 100)
    assert opinion == Opinion(asked=False, reason="not shown: more than 100 bytes")
    assert shown.requests == []


@pytest.mark.parametrize(("make", "fake"), KINDS)
def test_cancelled(make, fake):
    hanging = fake(None)
    world, asked = make(hanging)
    outcome: list[Any] = []
    work = Deferred.fromCoroutine(asked.scan(message())).addBoth(outcome.append)
    world.reactor.advance(1)
    work.cancel()
    world.reactor.settle()
    assert len(outcome) == 1
    assert hanging.open == 0
    assert world.reactor.getDelayedCalls() == []


@settings(max_examples=40)
@given(st.binary(max_size=60), st.booleans(), st.integers(0, 2))
def test_no_bytes_make_it_raise(answer, closes, kind):
    make, fake = KINDS[kind]
    prefix = [b"stream: ", b"SPAMD/1.1 0 EX_OK\r\nSpam: ", b"HTTP/1.1 200 OK\r\n\r\n"][kind]
    for data in (answer, prefix + answer):
        world, asked = make(fake(data, closes=closes), options={"seconds": 3.0})
        said((world, asked))
        assert world.reactor.getDelayedCalls() == []


def test_names_and_context():
    world = simulated_world()
    assert Clamd(world, ClamdSettings(scanner())).name == "s"
    assert CONTEXT.sender.address == ALICE
    assert CONTEXT.recipients == (Recipient(BOB),)
    with pytest.raises(ValueError):
        Spamd(world, SpamdSettings(scanner(), user="a\nb"))
