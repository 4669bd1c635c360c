"""Response codes (RFC 5530; RFC 9051 section 7.1): the examples that a server of one's own mail can be brought to."""

from __future__ import annotations

from typing import Any

import pytest
from imap_dialogue import MESSAGE, Dialogue

from twisted_mail.status import MailError


@pytest.fixture
def dialogue() -> Dialogue:
    made = Dialogue()
    made.account.make("this")
    made.account.make("that")
    made.account.deliver(MESSAGE)
    made.login("INBOX")
    return made


def test_unavailable() -> None:
    dialogue = Dialogue()

    async def login(*_: Any) -> Any:
        raise MailError(454, "4.7.0", "Temporary authentication failure", pop3="AUTH")

    dialogue.authenticator.login = login
    dialogue.run("""
        C: a LOGIN "fred" "foo"
        S: a NO [UNAVAILABLE] ...
    """)


def test_authenticationfailed() -> None:
    dialogue = Dialogue()
    dialogue.run("""
        C: b LOGIN "fred" "foo"
        S: b NO [AUTHENTICATIONFAILED] ...
    """)


def test_privacyrequired() -> None:
    dialogue = Dialogue(address="192.0.2.1")
    dialogue.run("""
        C: d login "fred" "foo"
        S: d NO [PRIVACYREQUIRED] ...
    """)


def test_inbox_cannot_be_deleted_and_slashes_do_not_stand_together(dialogue: Dialogue) -> None:
    dialogue.run("""
        C: l create "///////"
        S: l NO [CANNOT] ...
        C: l delete INBOX
        S: l NO [CANNOT] ...
    """)


def test_names(dialogue: Dialogue) -> None:
    dialogue.run("""
        C: o RENAME this that
        S: o NO [ALREADYEXISTS] ...
        C: p RENAME nothing new
        S: p NO [NONEXISTENT] ...
        C: q SETQUOTA "" (STORAGE 10)
        S: q NO [NOPERM] ...
    """)


def test_expungeissued(dialogue: Dialogue) -> None:
    dialogue.account.box("INBOX").remove([1])
    said = dialogue.ask(b"h FETCH 1 BODY[]\r\n")
    assert said.startswith(b"h NO [EXPUNGEISSUED] ")


def test_limit(dialogue: Dialogue) -> None:
    many = b" ".join(b"f%d" % n for n in range(250))
    assert b"m NO [LIMIT] " in dialogue.ask(b"m STORE 1 FLAGS (%s)\r\n" % many)


def test_overquota(dialogue: Dialogue) -> None:
    dialogue.account.message_limit = 1
    dialogue.run("""
        C: n1 uid copy 1:* that
        S: n1 NO [OVERQUOTA] ...
    """)


def test_serverbug(dialogue: Dialogue) -> None:
    async def status(_: str) -> Any:
        raise ZeroDivisionError

    dialogue.server_session.mailboxes.status = status
    dialogue.run("""
        C: j status that (messages)
        S: j NO [SERVERBUG] ...
        C: k NOOP
        S: k OK ...
    """)
