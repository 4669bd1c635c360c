"""CHILDREN (RFC 3348): the examples of section 3."""

from __future__ import annotations

from imap_dialogue import Dialogue


def test_section_3() -> None:
    dialogue = Dialogue()
    for name in ("ITEM_1", "ITEM_1/ITEM_1A", "ITEM_2", "ITEM_2/x", "ITEM_2/x/TEST"):
        dialogue.account.make(name)
    dialogue.login()
    dialogue.run(r"""
        C: A001 LIST "" *
        S: * LIST (\HasNoChildren) "/" INBOX
        S: * LIST (\HasChildren) "/" ITEM_1
        S: * LIST (\HasNoChildren) "/" ITEM_1/ITEM_1A
        S: * LIST (\HasChildren) "/" ITEM_2
        S: * LIST (\HasChildren) "/" ITEM_2/x
        S: * LIST (\HasNoChildren) "/" ITEM_2/x/TEST
        S: A001 OK LIST completed
        C: A002 LIST "" %
        S: * LIST (\HasNoChildren) "/" INBOX
        S: * LIST (\HasChildren) "/" ITEM_1
        S: * LIST (\HasChildren) "/" ITEM_2
        S: A002 OK LIST completed
    """)
