"""IDLE (RFC 2177): the example of section 3."""

from __future__ import annotations

from imap_dialogue import MESSAGE, Dialogue


def test_section_3() -> None:
    dialogue = Dialogue()
    box = dialogue.account.box("INBOX")
    for _ in range(3):
        dialogue.account.deliver(MESSAGE)
    dialogue.login()
    dialogue.run(r"""
        C: A001 SELECT INBOX
        S: * FLAGS (...)
        S: ...
        S: * 3 EXISTS
        S: ...
        S: A001 OK ...
        C: A002 IDLE
        S: + ...
    """)
    dialogue.account.deliver(MESSAGE)
    dialogue.run("""
        S: * 4 EXISTS
        C: DONE
        S: A002 OK ...
    """)
    box.remove([2])
    dialogue.run("""
        C: A003 FETCH 4 ALL
        S: * 4 FETCH (...)
        S: A003 OK ...
        C: A004 IDLE
        S: + ...
        S: * 2 EXPUNGE
    """)
    box.remove([3])
    dialogue.run("S: * 2 EXPUNGE")
    dialogue.account.deliver(MESSAGE)
    dialogue.run("""
        S: * 3 EXISTS
        C: DONE
        S: A004 OK ...
        C: A005 FETCH 3 ALL
        S: * 3 FETCH (...)
        S: A005 OK ...
        C: A006 IDLE
        S: + ...
    """)
