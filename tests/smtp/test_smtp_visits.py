"""Who looks at a client before the greeting: it is asked, told of names, and can send the client away."""

from __future__ import annotations

from collections.abc import Callable

from smtp_conversation import Conversation, FakeIntake, run

from twisted_mail.connection.interfaces import Answer, Then
from twisted_mail.smtp.engine import Command
from twisted_mail.smtp.session import SmtpSession
from twisted_mail.status import MailError


class Visitor:
    """`delivery.interfaces.Visit` that refuses whom it was told to."""

    waits = True

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.heard: list[object] = []

    async def greet(self, early: Callable[[], bool]) -> None:
        self.heard.append(early())
        if self.error is not None:
            raise self.error

    def helo(self, name: str) -> None:
        self.heard.append(name)

    def end(self) -> None:
        self.heard.append("end")


def greeting(visitor: Visitor, early: bool = False) -> tuple[Answer, SmtpSession]:
    intake = FakeIntake()
    intake.visitor = visitor  # type: ignore[assignment]
    session = Conversation(intake=intake).session
    assert intake.visits == [("192.0.2.7", False)]
    return run(session.greet(lambda: early)), session


def test_a_visit_is_asked_before_the_greeting_and_told_of_names() -> None:
    visitor = Visitor()
    answer, session = greeting(visitor, early=True)
    assert answer.data == b"220 mail.hamburger.edu ESMTP ready\r\n"
    run(session.handle(Command("EHLO", b"client.example")))
    session.lost()
    assert visitor.heard == [True, "client.example", "end"]


def test_a_visit_can_send_the_client_away() -> None:
    answer, _ = greeting(Visitor(MailError(554, "5.7.1", "Listed in dnsbl.example")))
    assert answer.data == b"554 5.7.1 mail.hamburger.edu Listed in dnsbl.example\r\n"
    assert answer.then is Then.CLOSE


def test_a_visit_that_fails_keeps_nobody_out() -> None:
    answer, _ = greeting(Visitor(ValueError("a mistake of ours")))
    assert answer.data.startswith(b"220 ")
