"""One message over a connection: what is made fit, and what the replies come to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from remote_fakes import STARTTLS, FakeConversation, Server, failure_of, job, result_of, start
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore

from twisted_mail.queue.interfaces import Job, Outcome, Result
from twisted_mail.remote.courier import Peer, RemoteCourier
from twisted_mail.remote.outcomes import of_reply
from twisted_mail.remote.settings import DeliverySettings
from twisted_mail.smtp.client.interfaces import PeerReply, SessionError
from twisted_mail.status import MailError
from twisted_mail.storage.queued import Options, QueuedRecipient
from twisted_mail.testing import simulated_world

PEER = Peer("mx.example.org", "192.0.2.1", "TLSv1.3 AES")
BOB = "bob@example.org"


class Line:
    """A courier over a scripted conversation."""

    def __init__(
        self,
        extensions: Mapping[str, str] = STARTTLS,
        *,
        lmtp: bool = False,
        server: Server | None = None,
        **settings: Any,
    ) -> None:
        self.world = simulated_world()
        self.reactor: Any = self.world.reactor
        self.conversation = FakeConversation(server or Server(), [], "mx.example.org", None)
        self.conversation.extensions = extensions
        self.conversions = DeferredSemaphore(2)
        self.courier = RemoteCourier(
            self.world,
            self.conversation,
            PEER._replace(lmtp=lmtp),
            DeliverySettings("ours.example", **settings),
            self.conversions,
        )

    def deliver(self, one: Job) -> list[Outcome]:
        running = start(self.courier.deliver(one))
        self.reactor.settle()
        return list(result_of(running))

    @property
    def options(self) -> Options:
        return self.conversation.sent[-1][0].options

    @property
    def content(self) -> bytes:
        return self.conversation.sent[-1][1]


def test_as_it_is() -> None:
    line = Line()
    options = Options(eight_bit=True, smtputf8=True, ret="HDRS", envid="x")
    message = job(BOB, "eve@example.org", options=options)
    outcomes = line.deliver(message)
    assert [(one.number, one.result) for one in outcomes] == [
        (0, Result.DELIVERED),
        (1, Result.DELIVERED),
    ]
    transaction, content = line.conversation.sent[0]
    assert content == b"Subject: x\n\nhello\n" and transaction.options is options
    assert transaction.wire == message.message.wire and transaction.mail_from == "alice@example.com"


def test_what_is_skipped_is_not_counted() -> None:
    line = Line()
    message = job(BOB)
    whole = dataclasses.replace(message.message, skip=5)
    line.deliver(dataclasses.replace(message, message=whole))
    assert line.conversation.sent[0][0].wire == message.message.wire - 5


# What is made fit


def test_utf8_flag_is_dropped_when_nothing_needs_it() -> None:
    line = Line({"8BITMIME": ""})
    opened: list[int] = []
    line.deliver(job(BOB, options=Options(smtputf8=True), opened=opened))
    assert not line.options.smtputf8 and len(opened) == 2


@pytest.mark.parametrize(
    "message",
    [
        job(BOB, content="Subject: ü\n\nx\n".encode(), options=Options(smtputf8=True)),
        job(BOB, sender="ü@example.com", options=Options(smtputf8=True)),
        job(
            BOB,
            content=b"X: " + b"x" * 70_000 + "ü\n\nx\n".encode(),
            options=Options(smtputf8=True),
        ),
        job(BOB, content="no body: ü\n".encode(), options=Options(smtputf8=True)),
    ],
)
def test_utf8_flag_stays_when_something_does(message: Job) -> None:
    line = Line({})
    line.deliver(message)
    assert line.options.smtputf8  # the client refuses it then


def test_only_the_header_counts() -> None:
    line = Line({"8BITMIME": ""})
    body = b"Subject: x\n\n" + "ü".encode() * 40_000
    line.deliver(job(BOB, content=body, options=Options(smtputf8=True, eight_bit=True)))
    assert not line.options.smtputf8 and line.content == body


@pytest.mark.parametrize("size", [65_534, 65_535, 65_536])
def test_the_header_may_end_between_two_blocks(size: int) -> None:
    line = Line({"8BITMIME": ""})
    header = b"X: " + b"x" * (size - 4) + b"\n"
    options = Options(smtputf8=True, eight_bit=True)
    line.deliver(job(BOB, content=header + "\nü\n".encode(), options=options))
    assert not line.options.smtputf8


EIGHT = (
    b"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
    b"Content-Transfer-Encoding: 8bit\n\n" + "grün\n".encode()
)


def test_eight_bit_becomes_seven() -> None:
    line = Line({})
    (outcome,) = line.deliver(job(BOB, content=EIGHT, options=Options(eight_bit=True)))
    transaction, content = line.conversation.sent[0]
    assert outcome.result is Result.DELIVERED
    assert content.isascii() and not transaction.options.eight_bit
    assert transaction.wire == len(content) + content.count(b"\n")
    assert line.conversions.tokens == 2


def test_what_cannot_be_converted_fails() -> None:
    line = Line({})
    signed = (
        b"MIME-Version: 1.0\nContent-Type: multipart/signed; boundary=b;"
        b" protocol=application/pgp-signature; micalg=pgp-sha256\n\n--b\n"
        b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
        + "grün\n".encode()
        + b"--b\nContent-Type: application/pgp-signature\n\nx\n--b--\n"
    )
    (outcome,) = line.deliver(job(BOB, content=signed, options=Options(eight_bit=True)))
    assert (outcome.result, outcome.code, outcome.enhanced) == (Result.FAILED, 554, "5.6.3")
    assert not outcome.said and line.conversation.sent == [] and line.courier.usable
    assert line.conversions.tokens == 2


def test_two_conversions_at_once() -> None:
    line = Line({})
    result_of(line.conversions.acquire())
    result_of(line.conversions.acquire())
    running = start(line.courier.deliver(job(BOB, content=EIGHT, options=Options(eight_bit=True))))
    line.reactor.settle()
    assert not running.called
    line.conversions.release()
    line.reactor.settle()
    assert result_of(running)[0].result is Result.DELIVERED


def test_nothing_is_converted_that_is_refused_anyway() -> None:
    line = Line({})
    content = "Subject: ü\n\nü\n".encode()
    line.deliver(job(BOB, content=content, options=Options(eight_bit=True, smtputf8=True)))
    assert line.content == content and line.options.smtputf8


def test_requiretls_ends_at_lmtp() -> None:
    line = Line({}, lmtp=True)
    line.deliver(job(BOB, options=Options(requiretls=True)))
    assert not line.options.requiretls
    line = Line({})
    line.deliver(job(BOB, options=Options(requiretls=True)))
    assert line.options.requiretls  # the client refuses it then


# Replies

REPLIES = [
    (PeerReply(250, "2.1.5", "ok"), Result.DELIVERED, "2.1.5"),
    (PeerReply(250, "", "ok"), Result.DELIVERED, "2.0.0"),
    (PeerReply(450, "4.2.0", "grey"), Result.DEFERRED, "4.2.0"),
    (PeerReply(451, "", "grey"), Result.DEFERRED, "4.0.0"),
    (PeerReply(421, "5.0.0", "bye"), Result.DEFERRED, "4.0.0"),
    (PeerReply(452, "4.5.3", "too many recipients"), Result.DEFERRED, "4.5.3"),
    (PeerReply(552, "5.5.3", "no"), Result.DEFERRED, "4.5.3"),
    (PeerReply(552, "", "Too many recipients"), Result.DEFERRED, "4.0.0"),
    (PeerReply(552, "5.2.2", "full"), Result.FAILED, "5.2.2"),
    (PeerReply(550, "5.1.1", "who?"), Result.FAILED, "5.1.1"),
    (PeerReply(550, "4.1.1", "who?"), Result.FAILED, "5.1.1"),
    (PeerReply(550, "5.nonsense", "who?"), Result.FAILED, "5.0.0"),
    (PeerReply(354, "", "what?"), Result.DEFERRED, "4.0.0"),
    (PeerReply(999, "", "what?"), Result.DEFERRED, "4.0.0"),
    (PeerReply(550, "5.6.7", "ours", said=False), Result.FAILED, "5.6.7"),
]


@pytest.mark.parametrize(("reply", "result", "enhanced"), REPLIES)
def test_replies(reply: PeerReply, result: Result, enhanced: str) -> None:
    outcome = of_reply(3, QueuedRecipient(BOB, "x"), reply, PEER, dsn=True)
    assert outcome == Outcome(
        3,
        result,
        reply.code,
        enhanced,
        reply.text,
        "mx.example.org",
        "192.0.2.1",
        "TLSv1.3 AES",
        reply.said,
    )


@pytest.mark.parametrize(
    ("notify", "dsn", "result"),
    [
        ("SUCCESS", False, Result.RELAYED),
        ("FAILURE,SUCCESS", False, Result.RELAYED),
        ("SUCCESS", True, Result.DELIVERED),
        ("FAILURE", False, Result.DELIVERED),
        ("NEVER", False, Result.DELIVERED),
        ("", False, Result.DELIVERED),
    ],
)
def test_who_tells_of_success(notify: str, dsn: bool, result: Result) -> None:
    line = Line({"DSN": ""} if dsn else {})
    (outcome,) = line.deliver(job(QueuedRecipient(BOB, "x", notify=notify)))
    assert outcome.result is result


def test_each_recipient_its_own() -> None:
    replies = [PeerReply(550, "5.1.1", "who?"), PeerReply(250, "", "ok")]
    line = Line(server=Server(replies=[replies]))
    outcomes = line.deliver(job(BOB, "eve@example.org"))
    assert [one.result for one in outcomes] == [Result.FAILED, Result.DELIVERED]
    assert line.courier.usable


# Endings


@pytest.mark.parametrize(
    ("error", "code", "text", "said"),
    [
        (SessionError("mx closed the connection"), 0, "mx closed the connection", False),
        (SessionError("x", PeerReply(554, "5.7.1", "go away")), 554, "go away", True),
    ],
)
def test_a_lost_connection_defers_all(
    error: SessionError, code: int, text: str, said: bool
) -> None:
    line = Line(server=Server(lost=error))
    outcomes = line.deliver(job(BOB, "eve@example.org"))
    assert [one.number for one in outcomes] == [0, 1]
    for one in outcomes:
        assert (one.result, one.code, one.text, one.said) == (Result.DEFERRED, code, text, said)
        assert one.enhanced[0] == "4" and one.host == "mx.example.org"
    assert not line.courier.usable


def test_a_file_that_is_gone_is_no_fault_of_the_peer() -> None:
    line = Line()

    async def gone() -> Any:
        raise MailError(451, "4.3.0", "gone")

    failure_of(line.courier.deliver(dataclasses.replace(job(BOB), open=gone)), MailError)
    assert line.courier.usable


def test_a_fault_of_ours_in_the_midst_ends_the_connection() -> None:
    line = Line()

    async def broken() -> Any:
        class Content:
            async def read(self, size: int) -> bytes:
                raise OSError("disk")

            def close(self) -> None: ...

        return Content()

    failure_of(line.courier.deliver(dataclasses.replace(job(BOB), open=broken)), OSError)
    assert not line.courier.usable and not line.conversation.open


def test_cancelled_it_closes() -> None:
    line = Line()

    def waiting() -> Any:
        return Deferred()

    running = start(line.courier.deliver(dataclasses.replace(job(BOB), open=waiting)))
    running.cancel()
    assert failure_of(running, CancelledError)
    assert not line.courier.usable and not line.conversation.open


def test_no_more_messages_than_allowed() -> None:
    line = Line(max_messages=2)
    line.deliver(job(BOB))
    assert line.courier.usable
    line.deliver(job(BOB))
    assert not line.courier.usable and line.conversation.open


def test_no_older_than_allowed() -> None:
    line = Line(max_age=300)
    line.reactor.advance(299)
    assert line.courier.usable
    line.reactor.advance(1)
    assert not line.courier.usable


def test_goodbye_is_said_once() -> None:
    line = Line()
    result_of(line.courier.close())
    result_of(line.courier.close())
    assert line.conversation.log == ["quit"] and not line.courier.usable
