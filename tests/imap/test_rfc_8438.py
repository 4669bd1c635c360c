"""STATUS=SIZE (RFC 8438): the examples of section 3."""

from __future__ import annotations

from imap_dialogue import Dialogue


def test_section_3() -> None:
    dialogue = Dialogue()
    dialogue.account.make("frop")
    for size in (20, 300, 4000):
        dialogue.account.deliver(b"A: b\n\n" + b"x" * (size - 10) + b"\n", "frop")
    dialogue.login()
    dialogue.run(r"""
        C: A01 STATUS frop (MESSAGES SIZE UIDNEXT)
        S: * STATUS frop (MESSAGES 3 SIZE 4320 UIDNEXT 4)
        S: A01 OK STATUS completed
        C: A02 SELECT "frop"
        S: ...
        S: A02 OK ...
        C: A03 FETCH 1:* (RFC822.SIZE)
        S: * 1 FETCH (RFC822.SIZE 20)
        S: * 2 FETCH (RFC822.SIZE 300)
        S: * 3 FETCH (RFC822.SIZE 4000)
        S: A03 OK FETCH completed
        C: A04 LIST "" % RETURN (STATUS (MESSAGES SIZE))
        S: * LIST () "/" INBOX
        S: * STATUS INBOX (MESSAGES 0 SIZE 0)
        S: * LIST () "/" frop
        S: * STATUS frop (MESSAGES 3 SIZE 4320)
        S: A04 OK LIST completed
    """)
