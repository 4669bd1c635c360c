"""What the log says of a refusal: enough to find it by sender, recipient and id."""

from __future__ import annotations

from typing import Any

import pytest
from smtp_conversation import Conversation
from twisted.logger import capturedLogs

from twisted_mail.status import MailError

FIELDS = ("message", "sender", "recipient", "to")


def refused(conversation: Conversation, *lines: str) -> tuple[str, dict[str, Any]]:
    """What is said in the log of the one refusal."""
    with capturedLogs() as events:
        conversation.say(*lines)
    (event,) = [one for one in events if "error" in one]
    assert event["connection"] == "C1" and "body" not in repr(event)
    return event["what"], {name: event[name] for name in FIELDS if name in event}


def begun() -> Conversation:
    conversation = Conversation()
    conversation.say("EHLO a", "MAIL FROM:<a@b.example>", "RCPT TO:<bob@hamburger.edu>")
    return conversation


def test_at_mail_it_names_the_sender() -> None:
    conversation = begun()
    conversation.say("RSET")
    conversation.intake.sender_error = MailError(553, "5.7.1", "Not yours")
    found = refused(conversation, "MAIL FROM:<c@d.example>")
    assert found == ("MAIL", {"sender": "c@d.example"})
    # What cannot be read names nobody, and not whom it was about before
    assert refused(conversation, "MAIL FROM:<@>") == ("MAIL", {})


def test_at_rcpt_it_names_both() -> None:
    conversation = begun()
    conversation.intake.route_error = MailError(550, "5.1.1", "No such user")
    found = refused(conversation, "RCPT TO:<carol@hamburger.edu>")
    assert found == ("RCPT", {"sender": "a@b.example", "recipient": "carol@hamburger.edu"})
    found = refused(conversation, "RCPT TO:<@>")
    assert found == ("RCPT", {"sender": "a@b.example", "to": "bob@hamburger.edu"})


@pytest.mark.parametrize("where", ["write_error", "commit_error"])
@pytest.mark.parametrize("lines", [("DATA", "the body", "."), ("BDAT 10 LAST\r\nthe body..",)])
def test_at_the_end_it_names_the_message(where: str, lines: tuple[str, ...]) -> None:
    conversation = begun()
    conversation.intake.route_error = MailError(550, "5.1.1", "No such user")
    conversation.say("RCPT TO:<carol@hamburger.edu>")
    setattr(conversation.intake, where, MailError(550, "5.7.1", "Malware"))
    found = refused(conversation, *lines)
    about = {"message": "M1", "sender": "a@b.example", "to": "bob@hamburger.edu"}
    assert found == ("message", about)
    conversation.intake.sender_error = MailError(452, "4.3.1", "Full")
    found = refused(conversation, "MAIL FROM:<>")
    assert found == ("MAIL", {"sender": ""})
