"""QUOTA (RFC 9208): the examples of section 4 that GETQUOTA's tests do not have."""

from __future__ import annotations

from imap_dialogue import MESSAGE, Dialogue


def test_section_4_1_4_status() -> None:
    dialogue = Dialogue()
    for flags in ((), ("\\Deleted",), ("\\Deleted",)):
        dialogue.account.deliver(MESSAGE, flags=flags)
    dialogue.login()
    dialogue.run("""
        C: S0003 STATUS INBOX (MESSAGES DELETED DELETED-STORAGE)
        S: * STATUS INBOX (MESSAGES 3 DELETED 2 DELETED-STORAGE {s})
        S: S0003 OK ...
    """)


def test_section_4_3_1_overquota() -> None:
    dialogue = Dialogue()
    dialogue.account.make("saved-messages")
    dialogue.account.deliver(MESSAGE)
    dialogue.account.storage_limit = 60
    dialogue.login("INBOX")
    said = dialogue.ask(b"A003 APPEND saved-messages (\\Seen) {%d+}\r\n%s\r\n" % (100, b"x" * 100))
    assert said.startswith(b"A003 NO [OVERQUOTA] ")
    said = dialogue.ask(b"A004 COPY 1 saved-messages\r\n")
    assert said.startswith(b"A004 NO [OVERQUOTA] ")
    # What is moved takes no more room
    assert b"A005 OK " in dialogue.ask(b"A005 MOVE 1 saved-messages\r\n")
