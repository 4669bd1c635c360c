"""SPECIAL-USE (RFC 6154): the examples of section 5.3; those of 5.1 and 5.2 are with LIST."""

from __future__ import annotations

from imap_dialogue import Dialogue


def test_section_5_3() -> None:
    dialogue = Dialogue()
    dialogue.login()
    assert b" CREATE-SPECIAL-USE" in dialogue.ask(b"t1 CAPABILITY\r\n")
    dialogue.run(r"""
        C: t2 CREATE MySpecial (USE (\Drafts \Sent))
        S: t2 OK [MAILBOXID ({id})] ...
        C: t3 CREATE Everything (USE (\All))
        S: t3 NO [USEATTR] ...
        C: t4 LIST "" "%" RETURN (SPECIAL-USE)
        S: * LIST () "/" INBOX
        S: * LIST (\Drafts \Sent) "/" MySpecial
        S: t4 OK ...
    """)
