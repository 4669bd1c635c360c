"""An account that has nothing but an inbox is served it, read-only; searching a message by reading it."""

from __future__ import annotations

from typing import Any

from imap_dialogue import MESSAGE, Dialogue
from zope.interface import implementer

from twisted_mail.address import Address
from twisted_mail.content import BytesContent
from twisted_mail.imap.plain_search import header_contains, text_contains
from twisted_mail.interfaces import IAccount, MessageInfo
from twisted_mail.message.wire import wire_size
from twisted_mail.status import MailError


class Content(BytesContent):
    open = 0

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        Content.open += 1

    def close(self) -> None:
        Content.open -= 1


class Inbox:
    def __init__(self, texts: list[bytes]) -> None:
        self.texts = texts
        self.messages = [MessageInfo(f"u{n}", wire_size(text)) for n, text in enumerate(texts)]
        self.closed = 0

    async def fetch(self, index: int) -> Content:
        return Content(self.texts[index])

    async def close(self) -> None:
        self.closed += 1


@implementer(IAccount)
class Account:
    name = "bob@example.org"

    def __init__(self, *texts: bytes) -> None:
        self.inbox = Inbox(list(texts))
        self.locked = False

    async def open_inbox(self) -> Any:
        if self.locked:
            raise MailError(451, "4.2.0", "Another session has it", pop3="IN-USE", imap="INUSE")
        return self.inbox

    def may_send_as(self, address: Address) -> bool:
        return True


def test_it_is_read() -> None:
    account = Account(MESSAGE, b"Subject: two\n\nTwo.\n")
    dialogue = Dialogue(account)
    dialogue.login()
    dialogue.run("""
        C: a LIST "" *
        S: * LIST (...) "/" INBOX
        S: a OK LIST completed
        C: b STATUS INBOX (MESSAGES UIDNEXT)
        S: * STATUS INBOX (MESSAGES 2 UIDNEXT 3)
        S: b OK STATUS completed
        C: c SELECT INBOX
        S: * FLAGS (...)
        S: * OK [PERMANENTFLAGS ()] Read-only
        S: * 2 EXISTS
        S: ...
        S: * OK [UIDVALIDITY 1800000000] UIDs are valid
        S: ...
        S: c OK [READ-ONLY] SELECT completed
        C: d FETCH 2 (UID RFC822.SIZE BODY[TEXT])
        S: * 2 FETCH (UID 2 RFC822.SIZE 22 BODY[TEXT] {6}
        Two.
        )
        S: d OK FETCH completed
        C: e FETCH 1 ENVELOPE
        S: * 1 FETCH (ENVELOPE (NIL "hello" ((NIL NIL "bob" "example.org")) ...))
        S: e OK FETCH completed
        C: f LOGOUT
        S: * BYE Logging out
        S: f OK LOGOUT completed
    """)
    assert account.inbox.closed == 2
    assert Content.open == 0


def test_nothing_is_changed() -> None:
    dialogue = Dialogue(Account(MESSAGE))
    dialogue.login()
    refusal = b"NO [CANNOT] This account has an inbox that can only be read\r\n"
    for command in (b"CREATE x", b"SUBSCRIBE x", b'SETMETADATA INBOX (/private/comment "x")'):
        assert dialogue.ask(b"a " + command + b"\r\n") == b"a " + refusal
    assert dialogue.ask(b"a DELETE x\r\n").startswith(b"a NO [")
    assert dialogue.ask(b"a APPEND INBOX {1+}\r\nx\r\n").startswith(b"a NO [")
    assert b"a OK" in dialogue.ask(b"a SELECT INBOX\r\n")
    assert dialogue.ask(b"a STORE 1 +FLAGS (\\Seen)\r\n").startswith(b"a NO [")
    assert dialogue.ask(b"a SELECT Other\r\n").endswith(
        b"a NO [NONEXISTENT] There is no such mailbox\r\n"
    )


def test_one_that_is_locked_says_so() -> None:
    account = Account(MESSAGE)
    account.locked = True
    dialogue = Dialogue(account)
    dialogue.login()
    assert dialogue.ask(b"a SELECT INBOX\r\n") == b"a NO [INUSE] Another session has it\r\n"


def test_search_by_reading() -> None:
    text = (
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nX-One: two\nContent-Type: text/plain; charset=utf-8\n\n"
        b"Stra\xc3\x9fe\n"
    )
    assert header_contains(text, "subject", "GRÜ")
    assert header_contains(text, "x-one", "")
    assert not header_contains(text, "x-two", "")
    assert not header_contains(text, "x-one", "three")
    assert text_contains(text, "straß", body_only=True)
    assert not text_contains(text, "grüß", body_only=True)
    assert text_contains(text, "grüß", body_only=False)
    assert text_contains(text, "", body_only=True)
