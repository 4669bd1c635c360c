"""INPROGRESS (RFC 9585): the forms of section 4, and the commands that may take long."""

from __future__ import annotations

from typing import Any

import pytest
from imap_dialogue import MESSAGE, Dialogue
from twisted.internet.defer import Deferred

from twisted_mail.imap.progress import inprogress


def test_the_forms_of_section_4() -> None:
    assert inprogress(b"tag") == b'* OK [INPROGRESS ("tag" NIL NIL)] Still at it\r\n'
    assert inprogress(b"tag", 175) == b'* OK [INPROGRESS ("tag" 175 NIL)] Still at it\r\n'
    assert inprogress(b"tag", 175, 1000) == b'* OK [INPROGRESS ("tag" 175 1000)] Still at it\r\n'


class Slow:
    """`copy` and `move` of the selected mailbox wait until the test says so."""

    def __init__(self, dialogue: Dialogue) -> None:
        self.opened = dialogue.server_session.opened
        self.begun: Deferred[None] = Deferred()
        self.ended = False
        for name in ("copy", "move"):
            setattr(self.opened, name, self._slowly(getattr(self.opened, name)))

    def _slowly(self, really: Any) -> Any:
        async def filing(*args: Any) -> Any:
            await self.begun
            filed = await really(*args)
            self.ended = True
            return filed

        return filing


@pytest.fixture
def dialogue() -> Dialogue:
    made = Dialogue()
    made.account.make("Archive")
    made.account.box("INBOX").add([(MESSAGE, (), 0)] * 3, 0)
    made.login("INBOX")
    return made


def test_copy(dialogue: Dialogue) -> None:
    slow = Slow(dialogue)
    assert dialogue.ask(b"A1 COPY 1:3 Archive\r\n") == b""
    assert dialogue.later(11) == b'* OK [INPROGRESS ("A1" NIL NIL)] Still at it\r\n'
    assert dialogue.later(10) == b'* OK [INPROGRESS ("A1" NIL NIL)] Still at it\r\n'
    dialogue.account.deliver(MESSAGE)
    slow.begun.callback(None)
    dialogue.run("""
        S: * 4 EXISTS
        S: A1 OK [COPYUID {v} 1:3 1:3] ...
    """)


def test_move(dialogue: Dialogue) -> None:
    slow = Slow(dialogue)
    assert dialogue.ask(b"A1 ENABLE CONDSTORE\r\nA2 UID MOVE 2:3 Archive\r\n").endswith(
        b"A1 OK ENABLE completed\r\n"
    )
    assert dialogue.later(11) == b'* OK [INPROGRESS ("A2" NIL NIL)] Still at it\r\n'
    slow.begun.callback(None)
    dialogue.run("""
        S: * OK [COPYUID {v} 2:3 1:2] ...
        S: * 3 EXPUNGE
        S: * 2 EXPUNGE
        S: A2 OK [HIGHESTMODSEQ {m}] ...
    """)


@pytest.mark.parametrize("verb", [b"COPY", b"MOVE"])
def test_who_goes_away_meanwhile_leaves_nothing_half_done(dialogue: Dialogue, verb: bytes) -> None:
    slow = Slow(dialogue)
    dialogue.ask(b"A1 %s 1:3 Archive\r\n" % verb)
    dialogue.client.abort()
    assert dialogue.account.opened == 1
    slow.begun.callback(None)
    assert slow.ended
    assert dialogue.account.opened == 0
    assert len(dialogue.account.box("Archive").texts) == 3


@pytest.mark.parametrize("verb", [b"COPY", b"MOVE"])
def test_what_fails_after_a_while_is_answered(dialogue: Dialogue, verb: bytes) -> None:
    slow = Slow(dialogue)
    dialogue.ask(b"A1 %s 1 nowhere\r\n" % verb)
    dialogue.later(11)
    slow.begun.callback(None)
    assert dialogue.client.read().startswith(b"A1 NO [TRYCREATE] ")
    assert dialogue.ask(b"A2 NOOP\r\n") == b"A2 OK NOOP completed\r\n"
