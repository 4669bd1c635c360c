"""CONDSTORE and QRESYNC (RFC 7162): the examples of section 3."""

from __future__ import annotations

import pytest
from imap_dialogue import MESSAGE, Dialogue

from twisted_mail.mailboxes import StoreMode


def filled(count: int, select: str = "") -> Dialogue:
    """All messages at mod-sequence 2, then whatever a test does."""
    dialogue = Dialogue()
    dialogue.account.box("INBOX").add([(MESSAGE, (), 0)] * count, 0)
    dialogue.login(select)
    return dialogue


def test_section_3_1_2_1_and_3_1_8() -> None:
    dialogue = filled(3)
    dialogue.run(r"""
        C: A142 SELECT INBOX
        S: * FLAGS (...)
        S: * OK [PERMANENTFLAGS (...)] ...
        S: * 3 EXISTS
        S: ...
        S: * OK [HIGHESTMODSEQ 2] ...
        S: ...
        S: A142 OK [READ-WRITE] ...
        C: A143 SELECT INBOX (CONDSTORE)
        S: ...
        S: * OK [HIGHESTMODSEQ 2] ...
        S: ...
        S: A143 OK [READ-WRITE] ...
    """)


def test_section_3_1_3_examples_2_to_4() -> None:
    dialogue = filled(8, "INBOX")
    dialogue.account.box("INBOX").remove([1, 2, 3, 7])
    dialogue.run(r"""
        C: a102 NOOP
        S: ...
        S: a102 OK ...
        C: a103 UID STORE 6,4,8 (UNCHANGEDSINCE 12121230045) +FLAGS.SILENT (\Deleted)
        S: * OK [HIGHESTMODSEQ 3] ...
        S: * 1 FETCH (UID 4 MODSEQ (4))
        S: * 3 FETCH (UID 6 MODSEQ (4))
        S: * 4 FETCH (UID 8 MODSEQ (4))
        S: a103 OK ...
        C: a104 STORE * (UNCHANGEDSINCE 12121230045) +FLAGS.SILENT (\Deleted $Processed)
        S: ...
        S: * 4 FETCH (UID 8 MODSEQ (5))
        S: a104 OK ...
        C: c101 STORE 4 (UNCHANGEDSINCE 12121230045) -FLAGS.SILENT (\Deleted)
        S: * 4 FETCH (UID 8 MODSEQ (6))
        S: c101 OK ...
    """)


def test_section_3_1_3_examples_5_to_7() -> None:
    """Another session has changed 7 and 9 since."""
    dialogue = filled(12, "INBOX")
    box = dialogue.account.box("INBOX")
    dialogue.ask(b"e ENABLE CONDSTORE\r\n")
    box.store([7], StoreMode.ADD, ["\\Seen", "\\Deleted"])
    box.store([9], StoreMode.ADD, ["\\Answered"])
    dialogue.run(r"""
        C: d105 STORE 7,5,9 (UNCHANGEDSINCE 2) +FLAGS.SILENT (\Deleted)
        S: * 5 FETCH (UID 5 MODSEQ (5))
        S: * 7 FETCH (UID 7 FLAGS (\Seen \Deleted) MODSEQ (3))
        S: * 9 FETCH (UID 9 FLAGS (\Answered) MODSEQ (4))
        S: d105 OK [MODIFIED 7,9] ...
        C: a102 STORE 12 (UNCHANGEDSINCE 0) +FLAGS.SILENT ($MDNSent)
        S: a102 OK [MODIFIED 12] ...
    """)


def test_section_3_1_3_examples_8_and_9() -> None:
    dialogue = filled(6, "INBOX")
    box = dialogue.account.box("INBOX")
    dialogue.ask(b"e ENABLE CONDSTORE\r\nx STORE 1 +FLAGS.SILENT ($Processed)\r\n")
    box.store([3], StoreMode.ADD, ["\\Deleted", "\\Answered"])
    dialogue.run(r"""
        C: a106 STORE 2:4 (UNCHANGEDSINCE 2) +FLAGS.SILENT ($Processed)
        S: * 2 FETCH (UID 2 MODSEQ (5))
        S: * 3 FETCH (UID 3 FLAGS (\Answered \Deleted) MODSEQ (4))
        S: * 4 FETCH (UID 4 MODSEQ (5))
        S: a106 OK [MODIFIED 3] ...
        C: b107 NOOP
        S: b107 OK ...
        C: b108 STORE 3 (UNCHANGEDSINCE 4) +FLAGS.SILENT ($Processed)
        S: * 3 FETCH (UID 3 MODSEQ (6))
        S: b108 OK ...
    """)


def test_section_3_1_3_example_11_some_are_gone() -> None:
    dialogue = filled(7, "INBOX")
    box = dialogue.account.box("INBOX")
    dialogue.ask(b"e ENABLE CONDSTORE\r\n")
    box.store([2], StoreMode.ADD, ["\\Deleted", "\\Answered"])
    box.remove([4, 5, 6, 7])
    dialogue.run(r"""
        C: B001 STORE 1:7 (UNCHANGEDSINCE 2) +FLAGS (\SEEN)
        S: * 1 FETCH (UID 1 FLAGS (\Seen) MODSEQ (5))
        S: * 2 FETCH (UID 2 FLAGS (\Answered \Deleted) MODSEQ (3))
        S: * 3 FETCH (UID 3 FLAGS (\Seen) MODSEQ (5))
        S: B001 NO [MODIFIED 2] ...
        C: B002 NOOP
        S: * 7 EXPUNGE
        S: * 6 EXPUNGE
        S: * 5 EXPUNGE
        S: * 4 EXPUNGE
        S: B002 OK ...
        C: b003 STORE 2 (UNCHANGEDSINCE 3) +FLAGS (\Seen)
        S: * 2 FETCH (UID 2 FLAGS (\Seen \Answered \Deleted) MODSEQ (6))
        S: b003 OK ...
    """)


def test_section_3_1_4() -> None:
    dialogue = filled(8)
    box = dialogue.account.box("INBOX")
    box.store([6], StoreMode.ADD, ["\\Deleted"])
    box.store([4], StoreMode.ADD, ["\\Seen"])
    dialogue.ask(b"s SELECT INBOX\r\n")
    dialogue.run(r"""
        C: s100 UID FETCH 1:* (FLAGS) (CHANGEDSINCE 2)
        S: * OK [HIGHESTMODSEQ 4] ...
        S: * 4 FETCH (UID 4 FLAGS (\Seen) MODSEQ (4))
        S: * 6 FETCH (UID 6 FLAGS (\Deleted) MODSEQ (3))
        S: s100 OK ...
        C: a FETCH 3:5 (MODSEQ)
        S: * 3 FETCH (MODSEQ (2))
        S: * 4 FETCH (MODSEQ (4))
        S: * 5 FETCH (MODSEQ (2))
        S: a OK ...
    """)


def test_section_3_1_4_2_what_other_sessions_hear() -> None:
    dialogue = filled(7, "INBOX")
    other = dialogue.session()
    other.login("INBOX")
    for one in (dialogue, other):
        one.ask(b"e ENABLE CONDSTORE\r\n")
    dialogue.run(r"""
        C: A160 STORE 7 +FLAGS.SILENT (\Deleted)
        S: * 7 FETCH (UID 7 MODSEQ (3))
        S: A160 OK ...
    """)
    other.run(r"""
        C: C180 NOOP
        S: * 7 FETCH (UID 7 FLAGS (\Deleted) MODSEQ (3))
        S: C180 OK ...
    """)


def test_section_3_1_7() -> None:
    dialogue = filled(3)
    dialogue.run("""
        C: A042 STATUS INBOX (UIDNEXT MESSAGES HIGHESTMODSEQ)
        S: * STATUS INBOX (UIDNEXT 4 MESSAGES 3 HIGHESTMODSEQ 2)
        S: A042 OK ...
    """)


def test_section_3_1_10() -> None:
    dialogue = Dialogue()
    for day in (4, 3, 2, 5, 1):
        dialogue.account.deliver(b"Date: %d Mar 2000 12:00:00 +0000\n\n" % day)
    dialogue.account.box("INBOX").store([4], StoreMode.ADD, ["\\Seen"])
    dialogue.login("INBOX")
    dialogue.run("""
        C: a SEARCH RETURN (ALL) MODSEQ 1 NOT SEEN
        S: * OK [HIGHESTMODSEQ 7] ...
        S: * ESEARCH (TAG "a") ALL 1:3,5 MODSEQ 6
        S: a OK ...
        C: b SORT RETURN (ALL) (DATE) UTF-8 MODSEQ 1 NOT SEEN
        S: * ESEARCH (TAG "b") ALL 5,3,2,1 MODSEQ 6
        S: b OK ...
    """)


@pytest.fixture
def history() -> Dialogue:
    """UIDs 1 to 12; 5 and 11 were removed at 3; 4 was changed at 4, 6 at 5, 8 at 6."""
    dialogue = filled(12)
    box = dialogue.account.box("INBOX")
    box.remove([5, 11])
    box.store([4], StoreMode.ADD, ["\\Seen"])
    box.store([6], StoreMode.ADD, ["\\Deleted"])
    box.store([8], StoreMode.ADD, ["\\Flagged"])
    dialogue.ask(b"e ENABLE QRESYNC\r\n")
    return dialogue


def test_section_3_2_5_another_uidvalidity(history: Dialogue) -> None:
    history.run(r"""
        C: A02 SELECT INBOX (QRESYNC (67890007 20050715194045000 41,43:211,214:541))
        S: * FLAGS (...)
        S: * OK [PERMANENTFLAGS (...)] ...
        S: * 10 EXISTS
        S: ...
        S: * OK [UIDVALIDITY {v}] ...
        S: * OK [UIDNEXT 13] ...
        S: * OK [HIGHESTMODSEQ 6] ...
        S: * OK [MAILBOXID ...
        S: A02 OK [READ-WRITE] ...
    """)


def test_section_3_2_5_1(history: Dialogue) -> None:
    validity = history.account.box("INBOX").snapshot.validity
    history.ask(b"s SELECT INBOX\r\n")
    history.run(rf"""
        C: A03 SELECT INBOX (QRESYNC ({validity} 4 1:9))
        S: * OK [CLOSED] ...
        S: ...
        S: * OK [MAILBOXID ...
        S: * 5 FETCH (UID 6 FLAGS (\Deleted) MODSEQ (5))
        S: * 7 FETCH (UID 8 FLAGS (\Flagged) MODSEQ (6))
        S: A03 OK [READ-WRITE] ...
        C: A04 SELECT INBOX (QRESYNC ({validity} 2 1:12))
        S: * OK [CLOSED] ...
        S: ...
        S: * OK [MAILBOXID ...
        S: * VANISHED (EARLIER) 5,11
        S: * 4 FETCH (UID 4 FLAGS (\Seen) MODSEQ (4))
        S: * 5 FETCH (UID 6 FLAGS (\Deleted) MODSEQ (5))
        S: * 7 FETCH (UID 8 FLAGS (\Flagged) MODSEQ (6))
        S: A04 OK [READ-WRITE] ...
    """)


def test_section_3_2_6(history: Dialogue) -> None:
    history.ask(b"s SELECT INBOX\r\n")
    history.run(r"""
        C: s100 UID FETCH 3:11 (FLAGS) (CHANGEDSINCE 2)
        S: * 4 FETCH (UID 4 FLAGS (\Seen) MODSEQ (4))
        S: * 5 FETCH (UID 6 FLAGS (\Deleted) MODSEQ (5))
        S: * 7 FETCH (UID 8 FLAGS (\Flagged) MODSEQ (6))
        S: s100 OK ...
        C: s101 UID SEARCH UID 3:11
        S: * SEARCH 3 4 6 7 8 9 10
        S: s101 OK ...
        C: s100 UID FETCH 3:11 (FLAGS) (CHANGEDSINCE 2 VANISHED)
        S: * VANISHED (EARLIER) 5,11
        S: * 4 FETCH (UID 4 FLAGS (\Seen) MODSEQ (4))
        S: * 5 FETCH (UID 6 FLAGS (\Deleted) MODSEQ (5))
        S: * 7 FETCH (UID 8 FLAGS (\Flagged) MODSEQ (6))
        S: s100 OK ...
    """)


def test_section_3_2_6_without_qresync_and_changedsince(history: Dialogue) -> None:
    other = history.session()
    other.login("INBOX")
    other.run("""
        C: a UID FETCH 3:11 (FLAGS) (CHANGEDSINCE 2 VANISHED)
        S: a BAD ...
    """)
    history.ask(b"s SELECT INBOX\r\n")
    history.run("""
        C: a UID FETCH 3:11 (FLAGS) (VANISHED)
        S: a BAD ...
        C: b FETCH 3:9 (FLAGS) (CHANGEDSINCE 2 VANISHED)
        S: b BAD ...
    """)


@pytest.mark.parametrize("extension", ["CONDSTORE", "QRESYNC"])
def test_section_3_2_7_to_3_2_10(extension: str) -> None:
    dialogue = filled(11, "INBOX")
    dialogue.ask(b"e ENABLE %s\r\n" % extension.encode())
    dialogue.ask(b"x STORE 3,4,7,11 +FLAGS.SILENT (\\Deleted)\r\n")
    if extension == "QRESYNC":
        dialogue.run("""
            C: B201 UID EXPUNGE 7
            S: * VANISHED 7
            S: B201 OK [HIGHESTMODSEQ 4] ...
            C: B202 EXPUNGE
            S: * VANISHED 3:4,11
            S: B202 OK [HIGHESTMODSEQ 5] ...
        """)
    else:
        dialogue.run("""
            C: A201 UID EXPUNGE 7
            S: * 7 EXPUNGE
            S: A201 OK [HIGHESTMODSEQ 4] ...
            C: A202 EXPUNGE
            S: * 10 EXPUNGE
            S: * 4 EXPUNGE
            S: * 3 EXPUNGE
            S: A202 OK [HIGHESTMODSEQ 5] ...
        """)


def test_section_3_2_8_close() -> None:
    dialogue = filled(3, "INBOX")
    dialogue.ask(b"e ENABLE QRESYNC\r\nx STORE 1 +FLAGS.SILENT (\\Deleted)\r\n")
    (said,) = dialogue.lines(b"A202 CLOSE")
    assert said.startswith(b"A202 OK ")


def test_section_6_the_expunge_that_could_not_be_told() -> None:
    """HIGHESTMODSEQ says no more than was told: 3 is gone, and STORE may not say so."""
    dialogue = filled(3, "INBOX")
    dialogue.ask(b"e ENABLE QRESYNC\r\n")
    dialogue.account.box("INBOX").remove([3])
    said = dialogue.ask(b"A150 STORE 1:2 (UNCHANGEDSINCE 96) +FLAGS.SILENT (\\Seen)\r\n")
    assert b"VANISHED" not in said
    assert b"[HIGHESTMODSEQ 4]" not in said
    dialogue.run("""
        C: A152 NOOP
        S: * VANISHED 3
        S: A152 OK ...
    """)
