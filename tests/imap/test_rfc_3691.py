"""UNSELECT (RFC 3691): the example of section 2."""

from __future__ import annotations

from imap_dialogue import MESSAGE, Dialogue


def test_section_2() -> None:
    dialogue = Dialogue()
    dialogue.account.deliver(MESSAGE, flags=["\\Deleted"])
    dialogue.login("INBOX")
    dialogue.run("""
        C: A341 UNSELECT
        S: A341 OK ...
        C: A342 UNSELECT
        S: A342 BAD ...
    """)
    assert len(dialogue.account.box("INBOX").texts) == 1
