"""What a client writes stands in quotes in the log, so that it cannot be taken for the log's own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from io import StringIO

import pytest
from smtp_conversation import Conversation
from twisted.logger import globalLogPublisher

from twisted_mail.log import make_observer
from twisted_mail.smtp.session import Profile
from twisted_mail.status import MailError

FORGED = '"x> recipients=9 client=192.0.2.99"@hamburger.edu'
_quoted = re.compile(r'"(?:\\.|[^"\\])*"')


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Iterator[StringIO]:
    lines = StringIO()
    observer = make_observer(request.param, lines)
    globalLogPublisher.addObserver(observer)
    yield lines
    globalLogPublisher.removeObserver(observer)


def speak() -> None:
    conversation = Conversation()
    conversation.intake.commit_error = None
    conversation.say("HELO client=192.0.2.99", f"MAIL FROM:<{FORGED}>", f"RCPT TO:<{FORGED}>")
    conversation.say("RCPT TO:<bob@hamburger.edu>", "DATA", "body secret=1", ".")
    conversation.intake.route_error = MailError(550, "5.1.1", "No such user here", FORGED)
    conversation.say("MAIL FROM:<>", f"RCPT TO:<{FORGED}>")
    submission = Conversation(Profile.SUBMISSIONS)
    submission.authenticator.error = MailError(535, "5.7.8", "No", "as 'a client=192.0.2.99'")
    submission.say("EHLO a", "AUTH PLAIN =")


@pytest.mark.parametrize("log", ["text"], indirect=True)
def test_text(log: StringIO) -> None:
    speak()
    lines = log.getvalue()
    assert "192.0.2.99" in lines
    assert "secret" not in lines
    for line in lines.splitlines():
        bare = _quoted.sub("", line)
        assert "192.0.2.99" not in bare
        assert bare.count("client=") <= 1
        assert bare.count("recipients=") <= 1


@pytest.mark.parametrize("log", ["json"], indirect=True)
def test_json(log: StringIO) -> None:
    speak()
    events = [json.loads(line) for line in log.getvalue().splitlines()]
    assert {event["text"] for event in events} == {
        "RCPT refused",
        "message accepted",
        "login failed",
    }
    assert all("192.0.2.99" not in event.get("client", "") for event in events)
    (accepted,) = (event for event in events if "message" in event)
    assert accepted["sender"] == FORGED
    assert accepted["recipients"] == 1
