"""What fails behind an SMTP session: what the client is told, what is logged, what is left of a message."""

from __future__ import annotations

import pytest
from smtp_conversation import Conversation, begun
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs

from twisted_mail.smtp.engine import EndOfData
from twisted_mail.status import MailError


def test_the_sender_is_refused() -> None:
    conversation = Conversation()
    conversation.intake.sender_error = MailError(553, "5.7.1", "Not yours")
    conversation.play(
        """
        C HELO a
        C MAIL FROM:<a@b.example>
        C RCPT TO:<bob@hamburger.edu>
        S 250 mail.hamburger.edu
        S 553 5.7.1 Not yours
        S 503 5.5.1 Send MAIL first
        """
    )


@pytest.mark.parametrize("where", ["write_error", "commit_error"])
@pytest.mark.parametrize("content", [b"DATA\r\nx\r\n.\r\n", b"BDAT 1\r\nxBDAT 0 LAST\r\n"])
def test_a_refusal_of_the_message_comes_at_its_end(where: str, content: bytes) -> None:
    conversation = begun()
    setattr(conversation.intake, where, MailError(550, "5.6.0", "Bare newline"))
    said = conversation.send(content)
    assert b"550 5.6.0 Bare newline\r\n" in said
    assert b"queued" not in said
    assert conversation.say("MAIL FROM:<>") == "250 2.1.0 Ok"


@pytest.mark.parametrize("where", ["write_error", "commit_error"])
def test_an_unknown_failure_is_temporary_and_logged(where: str) -> None:
    conversation = begun()
    setattr(conversation.intake, where, ZeroDivisionError("the cause"))
    with capturedLogs() as events:
        assert conversation.say("DATA", "a secret body", ".").split("\n")[1:] == [
            "451 4.3.0 Local error in processing, try again later"
        ]
    (event,) = [event for event in events if "log_failure" in event]
    assert event["connection"] == "C1"
    assert "the cause" in event["log_failure"].getTraceback()
    assert "secret" not in repr(events)


def test_an_unknown_failure_at_rcpt_concerns_that_recipient_only() -> None:
    conversation = begun()
    conversation.intake.route_error = RuntimeError("directory")
    with capturedLogs():
        assert conversation.say("RCPT TO:<carol@hamburger.edu>")[:9] == "451 4.3.0"
        conversation.intake.begin_error = RuntimeError("disk")
        assert conversation.say("DATA")[:9] == "451 4.3.0"
    conversation.intake.begin_error = None
    assert conversation.say("DATA", ".").endswith("Ok: queued as M1")


def test_421_from_behind_is_the_end() -> None:
    conversation = begun()
    conversation.intake.route_error = MailError(421, "4.3.2", "Not now")
    assert conversation.say("RCPT TO:<bob@hamburger.edu>") == "421 4.3.2 Not now"
    assert conversation.closed


def test_a_lost_connection_leaves_nothing_of_a_message() -> None:
    conversation = begun()
    conversation.say("DATA", "x")
    conversation.session.lost()
    assert conversation.intake.begun[0].aborted == 1


def test_what_is_being_committed_is_not_aborted() -> None:
    conversation = begun()
    conversation.say("DATA", "x")
    conversation.intake.commit_waits = waits = Deferred()
    answers: list[bytes] = []
    Deferred.fromCoroutine(conversation.session.handle(EndOfData())).addCallback(
        lambda answer: answers.append(answer.data)
    )
    conversation.session.lost()
    assert answers == []
    waits.callback(None)
    assert answers == [b"250 2.0.0 Ok: queued as M1\r\n"]
    assert len(conversation.intake.messages) == 1


def test_one_line_is_logged_for_a_message() -> None:
    conversation = begun()
    with capturedLogs() as events:
        conversation.say("DATA", "a secret body", ".")
    (event,) = events
    assert event["log_level"] is LogLevel.info
    fields = {
        name: event[name] for name in ("connection", "message", "sender", "recipients", "size")
    }
    assert fields == {
        "connection": "C1",
        "message": "M1",
        "sender": "a@b.example",
        "recipients": 1,
        "size": 15,
    }
