"""UIDPLUS (RFC 4315): its examples."""

from __future__ import annotations

from imap_dialogue import MESSAGE, Dialogue


def filled(count: int) -> Dialogue:
    dialogue = Dialogue()
    dialogue.account.box("INBOX").add([(MESSAGE, (), 0)] * count, 0)
    dialogue.account.make("meeting")
    dialogue.login("INBOX")
    return dialogue


def test_section_2_1_uid_expunge() -> None:
    dialogue = filled(8)
    dialogue.ask(b"a STORE 1,3:5,8 +FLAGS.SILENT (\\Deleted)\r\n")
    dialogue.run("""
        C: A003 UID EXPUNGE 3:5
        S: * 5 EXPUNGE
        S: * 4 EXPUNGE
        S: * 3 EXPUNGE
        S: A003 OK ...
    """)
    assert list(dialogue.account.box("INBOX").texts) == [1, 2, 6, 7, 8]


def test_section_3_appenduid_and_copyuid() -> None:
    dialogue = filled(20)
    dialogue.account.box("INBOX").remove([1, 3, 4, 6, 7, 8, 9])
    dialogue.account.make("funny")
    dialogue.run(r"""
        C: A000 NOOP
        S: ...
        S: A000 OK ...
        C: A003 APPEND meeting (\Seen) {6}
        S: + ...
        C: A: b

        S: A003 OK [APPENDUID {v} 1] APPEND completed
        C: A004 COPY 1:4 meeting
        S: A004 OK [COPYUID {v} 2,5,10:11 2:5] ...
        C: A005 UID COPY 305:310 meeting
        S: A005 OK No ...
        C: A006 COPY 2 funny
        S: A006 OK [COPYUID {w} 5 1] ...
    """)
