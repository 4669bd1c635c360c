"""An account that is removed while its clients are connected: they are sent away (BYE), whatever they are doing."""

from __future__ import annotations

import pytest
from imap_dialogue import MESSAGE, Dialogue
from twisted.logger import LogLevel, capturedLogs

BYE = b"* BYE [UNAVAILABLE] The account is closed\r\n"


@pytest.mark.parametrize(
    "before",
    [b"", b"a IDLE\r\n", b"a NOTIFY SET (PERSONAL (MessageNew MessageExpunge))\r\n", b"a AUTHENTICATE PLAI"],
)  # fmt: skip
@pytest.mark.parametrize("select", ["", "INBOX"])
def test_every_session_is_sent_away_at_once(before, select):
    dialogue = Dialogue()
    dialogue.account.deliver(MESSAGE)
    other = dialogue.session()
    stranger = dialogue.session()
    for one in (dialogue, other):
        one.login(select)
    dialogue.ask(before)
    dialogue.account.end()
    for one in (dialogue, other):
        assert one.later(0) == BYE
        assert one.client.closed
    assert stranger.later(1) == b"" and not stranger.client.closed
    assert (dialogue.account.sessions, dialogue.account.opened) == (0, 0)


def test_who_asks_at_this_moment_is_told_nothing_of_its_mailbox():
    dialogue = Dialogue()
    uid = dialogue.account.deliver(MESSAGE)
    dialogue.login("INBOX")
    dialogue.account.box("INBOX").remove([uid])
    session = dialogue.server_session
    dialogue.account.end()
    assert dialogue.ask(b"a NOOP\r\nb NOOP\r\n") == BYE
    assert session.mailboxes_ is None


def test_in_the_middle_of_a_literal():
    dialogue = Dialogue()
    dialogue.login()
    assert dialogue.ask(b"a APPEND INBOX {10}\r\n12345").startswith(b"+ ")
    dialogue.account.end()
    assert dialogue.later(0) == BYE
    assert dialogue.client.closed


def test_no_word_at_level_error():
    dialogue = Dialogue()
    dialogue.login("INBOX")
    with capturedLogs() as events:
        dialogue.account.end()
        dialogue.later(0)
    assert all(event["log_level"] < LogLevel.warn for event in events)


def test_who_has_logged_out_is_not_told():
    dialogue = Dialogue()
    dialogue.login()
    assert b"OK" in dialogue.ask(b"a UNAUTHENTICATE\r\n")
    dialogue.account.end()
    assert dialogue.later(1) == b""
    dialogue.login()
