"""NAMESPACE (RFC 2342): the examples of section 5 that have one personal namespace."""

from __future__ import annotations

from imap_dialogue import Dialogue


def test_example_5_1() -> None:
    dialogue = Dialogue()
    dialogue.login()
    dialogue.run("""
        C: A001 NAMESPACE
        S: * NAMESPACE (("" "/")) NIL NIL
        S: A001 OK NAMESPACE completed
    """)


def test_example_5_5_a_mailbox_is_made_in_it() -> None:
    dialogue = Dialogue(separator=".", prefix="INBOX.")
    dialogue.login()
    dialogue.run("""
        C: A001 NAMESPACE
        S: * NAMESPACE (("INBOX." ".")) NIL NIL
        S: A001 OK NAMESPACE completed
        C: A002 CREATE "INBOX.Sent Mail"
        S: A002 OK ...
        C: A003 LIST "" "INBOX.%"
        S: * LIST (\\HasNoChildren) "." "INBOX.Sent Mail"
        S: A003 OK ...
    """)
    assert "Sent Mail" in dialogue.account.boxes
