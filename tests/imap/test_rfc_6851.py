"""MOVE (RFC 6851): the example of section 3.3, and what section 3 and 4 ask for."""

from __future__ import annotations

from imap_dialogue import MESSAGE, Dialogue


def filled() -> Dialogue:
    dialogue = Dialogue()
    dialogue.account.box("INBOX").add([(MESSAGE, (), 0)] * 8, 0)
    dialogue.account.box("INBOX").remove([2])
    dialogue.account.make("foo")
    dialogue.login("INBOX")
    return dialogue


def test_section_3_3() -> None:
    dialogue = filled()
    dialogue.run("""
        C: a UID MOVE 3:5 foo
        S: * OK [COPYUID {v} 3:5 1:3] ...
        S: * 4 EXPUNGE
        S: * 3 EXPUNGE
        S: * 2 EXPUNGE
        S: a OK ...
    """)
    assert list(dialogue.account.box("INBOX").texts) == [1, 6, 7, 8]
    assert list(dialogue.account.box("foo").texts) == [1, 2, 3]


def test_section_3_3_nothing_is_moved_where_nothing_can_be() -> None:
    dialogue = filled()
    dialogue.run("""
        C: a MOVE 1:2 nowhere
        S: a NO [TRYCREATE] ...
        C: b EXAMINE INBOX
        S: ...
        S: b OK ...
        C: c MOVE 1 foo
        S: c NO [READ-ONLY] ...
    """)
    assert len(dialogue.account.box("INBOX").texts) == 7


def test_section_4_4_vanished() -> None:
    dialogue = filled()
    dialogue.ask(b"e ENABLE QRESYNC\r\n")
    dialogue.run("""
        C: a MOVE 1:2 foo
        S: * OK [COPYUID {v} 1,3 1:2] ...
        S: * VANISHED 1,3
        S: a OK [HIGHESTMODSEQ {m}] ...
    """)
