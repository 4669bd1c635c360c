"""APPENDLIMIT (RFC 7889): its examples."""

from __future__ import annotations

from imap_dialogue import Dialogue


def test_examples() -> None:
    dialogue = Dialogue(max_message_bytes=257_890)
    dialogue.login()
    assert b" APPENDLIMIT=257890" in dialogue.ask(b"t1 CAPABILITY\r\n")
    dialogue.run(r"""
        C: t1 STATUS INBOX (APPENDLIMIT)
        S: * STATUS INBOX (APPENDLIMIT 257890)
        S: t1 OK STATUS completed
        C: t1 LIST "" % RETURN (STATUS (APPENDLIMIT))
        S: * LIST () "/" INBOX
        S: * STATUS INBOX (APPENDLIMIT 257890)
        S: t1 OK LIST completed
        C: t2 APPEND INBOX {257891}
        S: t2 NO [TOOBIG] ...
    """)
