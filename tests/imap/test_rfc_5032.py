"""WITHIN (RFC 5032): the example of section 4, and OLDER."""

from __future__ import annotations

from imap_dialogue import MESSAGE, Dialogue

DAY = 86_400


def test_section_4() -> None:
    dialogue = Dialogue()
    now = int(dialogue.world.now())
    for days in (5, 2, 1):
        dialogue.account.deliver(MESSAGE, date=now - days * DAY)
    dialogue.account.deliver(MESSAGE, date=now, flags=["\\Seen"])
    dialogue.login("INBOX")
    dialogue.run("""
        C: a1 SEARCH UNSEEN YOUNGER 259200
        S: * SEARCH 2 3
        S: a1 OK ...
        C: a2 SEARCH UNSEEN OLDER 259200
        S: * SEARCH 1
        S: a2 OK ...
    """)
