"""STORE, EXPUNGE, COPY, MOVE and their UID forms as transcripts."""

from __future__ import annotations

import pytest
from imap_dialogue import MESSAGE, Dialogue

from twisted_mail.mailboxes import StoreMode
from twisted_mail.testing.mailboxes import MemoryBox


def dialogue(messages: int, select: str = "INBOX") -> Dialogue:
    made = Dialogue()
    for _ in range(messages):
        made.account.deliver(MESSAGE)
    made.login(select)
    return made


def inbox(it: Dialogue) -> MemoryBox:
    box: MemoryBox = it.account.box("INBOX")
    return box


# STORE


def test_store() -> None:
    """RFC 9051 section 6.4.6."""
    dialogue(4).run(r"""
        C: A003 STORE 2:4 +FLAGS (\Deleted)
        S: * 2 FETCH (FLAGS (\Deleted))
        S: * 3 FETCH (FLAGS (\Deleted))
        S: * 4 FETCH (FLAGS (\Deleted))
        S: A003 OK ...
        C: A004 STORE 3,4 -FLAGS \Deleted
        S: * 3 FETCH (FLAGS ())
        S: * 4 FETCH (FLAGS ())
        S: A004 OK ...
        C: A005 STORE *,1 FLAGS (\Seen \Draft)
        S: * 1 FETCH (FLAGS (\Seen \Draft))
        S: * 4 FETCH (FLAGS (\Seen \Draft))
        S: A005 OK ...
        C: A006 STORE 4 FLAGS ()
        S: * 4 FETCH (FLAGS ())
        S: A006 OK ...
        C: A007 UID STORE 2 +FLAGS.SILENT (\Flagged)
        S: A007 OK ...
        C: A008 UID STORE 2,99 -FLAGS (\Deleted)
        S: * 2 FETCH (UID 2 FLAGS (\Flagged))
        S: A008 OK ...
        C: A009 UID STORE 99 +FLAGS (\Deleted)
        S: A009 OK ...
        C: A010 STORE 5 +FLAGS (\Deleted)
        S: A010 BAD ...
        C: A011 STORE 1 +FLAGS (\Odd)
        S: A011 BAD ...
    """)


def test_silent_is_not_told_unless_somebody_else_was_faster() -> None:
    it = dialogue(2)
    inbox(it).store([2], StoreMode.ADD, ["\\Flagged"])
    it.run(r"""
        C: a1 STORE 1:2 +FLAGS.SILENT (\Seen)
        S: * 2 FETCH (FLAGS (\Seen \Flagged))
        S: a1 OK ...
    """)


def test_keywords() -> None:
    it = dialogue(1)
    it.run(r"""
        C: a1 STORE 1 +FLAGS ($Forwarded Ham)
        S: * FLAGS (... $Forwarded Ham)
        S: * OK [PERMANENTFLAGS (... $Forwarded Ham \*)] ...
        S: * 1 FETCH (FLAGS ($Forwarded Ham))
        S: a1 OK ...
        C: a2 STORE 1 -FLAGS (hAM unknown)
        S: * 1 FETCH (FLAGS ($Forwarded))
        S: a2 OK ...
    """)
    for n in range(24):
        it.ask(b"b STORE 1 +FLAGS (k%d)\r\n" % n)
    it.run(r"""
        C: a3 STORE 1 FLAGS (one two)
        S: a3 NO [LIMIT] ...
        C: a4 STORE 1 FLAGS (K0)
        S: * 1 FETCH (FLAGS (k0))
        S: a4 OK ...
    """)


def test_examined() -> None:
    it = dialogue(1, select="")
    it.run(r"""
        C: a0 EXAMINE INBOX
        S: ...
        S: a0 OK [READ-ONLY] ...
        C: a1 STORE 1 +FLAGS (\Seen)
        S: a1 NO [READ-ONLY] ...
        C: a2 EXPUNGE
        S: a2 NO [READ-ONLY] ...
        C: a3 UID EXPUNGE 1
        S: a3 NO [READ-ONLY] ...
        C: a4 MOVE 1 INBOX
        S: a4 NO [READ-ONLY] ...
        C: a5 COPY 1 INBOX
        S: * 2 EXISTS
        S: a5 OK [COPYUID {validity} 1 2] ...
    """)


def test_unchangedsince() -> None:
    """RFC 7162 section 3.1.3: one of three messages has been changed since."""
    it = dialogue(9)
    inbox(it).store([7, 9], StoreMode.ADD, ["\\Flagged"])
    it.run(r"""
        C: d105 STORE 7,5,9 (UNCHANGEDSINCE 10) +FLAGS.SILENT (\Deleted)
        S: * OK [HIGHESTMODSEQ 10] ...
        S: * 5 FETCH (UID 5 MODSEQ (12))
        S: * 7 FETCH (UID 7 FLAGS (\Flagged) MODSEQ (11))
        S: * 9 FETCH (UID 9 FLAGS (\Flagged) MODSEQ (11))
        S: d105 OK [MODIFIED 7,9] Conditional STORE failed
        C: d106 UID STORE 5,7:9 (UNCHANGEDSINCE 11) FLAGS (\Answered)
        S: * 7 FETCH (UID 7 FLAGS (\Answered) MODSEQ (13))
        S: * 8 FETCH (UID 8 FLAGS (\Answered) MODSEQ (13))
        S: * 9 FETCH (UID 9 FLAGS (\Answered) MODSEQ (13))
        S: d106 OK [MODIFIED 5] ...
        C: d107 STORE 1:* (UNCHANGEDSINCE 0) FLAGS (\Answered)
        S: d107 OK [MODIFIED 1:9] ...
    """)
    assert list(inbox(it).snapshot.flags)[4] == inbox(it).snapshot.bits(["\\Deleted"])


def test_storing_on_what_is_gone() -> None:
    """RFC 2180 section 4.2.1; the others are stored."""
    it = dialogue(3)
    inbox(it).remove([2])
    it.run(r"""
        C: a1 STORE 1:3 +FLAGS (\Seen)
        S: * 1 FETCH (FLAGS (\Seen))
        S: * 3 FETCH (FLAGS (\Seen))
        S: a1 NO [EXPUNGEISSUED] ...
        C: a2 UID STORE 2:3 +FLAGS (\Flagged)
        S: * 2 EXPUNGE
        S: * 2 FETCH (UID 3 FLAGS (\Seen \Flagged))
        S: a2 OK ...
    """)


# EXPUNGE


def test_expunge() -> None:
    """RFC 9051 section 6.4.3: each number is one after the ones before it are gone."""
    it = dialogue(11)
    inbox(it).store([3, 4, 7, 11], StoreMode.ADD, ["\\Deleted"])
    numbers = [line.split()[1] for line in it.lines(b"A202 EXPUNGE")[:-1]]
    there = [*range(1, 12)]
    for number in numbers:
        del there[int(number) - 1]
    assert there == [1, 2, 5, 6, 8, 9, 10] == list(inbox(it).snapshot.uids)


def test_uid_expunge() -> None:
    """RFC 4315 section 2.1: only what is asked for and is \\Deleted."""
    it = dialogue(6)
    inbox(it).store([2, 4, 6], StoreMode.ADD, ["\\Deleted"])
    it.ask(b"a0 NOOP\r\n")
    it.run("""
        C: A003 UID EXPUNGE 1:4,99
        S: * 4 EXPUNGE
        S: * 2 EXPUNGE
        S: A003 OK ...
        C: A004 UID EXPUNGE 77
        S: A004 OK ...
    """)
    assert list(inbox(it).snapshot.uids) == [1, 3, 5, 6]


def test_expunge_with_qresync() -> None:
    """RFC 7162 section 3.2.7 and 3.2.10."""
    it = dialogue(5)
    it.ask(b"a0 ENABLE QRESYNC\r\n")
    it.run(r"""
        C: a1 STORE 2:4 +FLAGS.SILENT \Deleted
        S: * 2 FETCH (UID 2 MODSEQ (7))
        S: * 3 FETCH (UID 3 MODSEQ (7))
        S: * 4 FETCH (UID 4 MODSEQ (7))
        S: a1 OK ...
        C: A202 EXPUNGE
        S: * VANISHED 2:4
        S: A202 OK [HIGHESTMODSEQ 8] ...
        C: A203 UID MOVE 5 INBOX
        S: * OK [COPYUID {validity} 5 6] ...
        S: * VANISHED 5
        S: * 2 EXISTS
        S: A203 OK [HIGHESTMODSEQ 10] ...
    """)


# COPY and MOVE


def test_copy() -> None:
    it = dialogue(4)
    it.run(r"""
        C: a0 STORE 2 FLAGS (\Answered $Label)
        S: ...
        S: a0 OK ...
        C: A003 COPY 2:4 MEETING
        S: A003 NO [TRYCREATE] ...
        C: A004 CREATE MEETING
        S: A004 OK ...
        C: A005 COPY 2:4 MEETING
        S: A005 OK [COPYUID {validity} 2:4 1:3] ...
        C: A006 UID COPY 1,4,9 MEETING
        S: A006 OK [COPYUID {validity} 1,4 4:5] ...
        C: A007 UID COPY 9 MEETING
        S: A007 OK No ...
        C: A008 COPY 5 MEETING
        S: A008 BAD ...
        C: A009 COPY 1 INBOX
        S: * 5 EXISTS
        S: A009 OK [COPYUID ... 1 5] ...
    """)
    meeting = it.account.box("MEETING").snapshot
    assert meeting.names(meeting.flags[0]) == ("\\Answered", "$Label")


@pytest.mark.parametrize(("verb", "told"), [("COPY", ""), ("MOVE", "S: * 2 EXPUNGE\n")])
def test_of_what_is_gone_nothing_is_copied(verb: str, told: str) -> None:
    """RFC 9051 section 6.4.7: all or none."""
    it = dialogue(3)
    it.account.make("Other")
    inbox(it).remove([2])
    it.run(f"C: a1 {verb} 1:3 Other\n{told}S: a1 NO [EXPUNGEISSUED] ...")
    assert not len(it.account.box("Other").snapshot)


def test_over_quota() -> None:
    it = dialogue(3)
    it.account.storage_limit = 4 * len(MESSAGE)
    it.account.make("Other")
    it.run("""
        C: a1 COPY 1:3 Other
        S: a1 NO [OVERQUOTA] ...
        C: a2 MOVE 1:2 Other
        S: * OK [COPYUID ... 1:2 1:2] ...
        S: * 2 EXPUNGE
        S: * 1 EXPUNGE
        S: a2 OK ...
    """)


def test_move() -> None:
    """RFC 6851 section 3.3 and 4.3."""
    it = dialogue(5)
    it.account.make("Other")
    it.run("""
        C: a1 MOVE 2:3 Nowhere
        S: a1 NO [TRYCREATE] ...
        C: a2 MOVE 2:3 Other
        S: * OK [COPYUID {validity} 2:3 1:2] Moved
        S: * 3 EXPUNGE
        S: * 2 EXPUNGE
        S: a2 OK ...
        C: a3 UID MOVE 1:3,5 Other
        S: * OK [COPYUID {validity} 1,5 3:4] Moved
        S: * 3 EXPUNGE
        S: * 1 EXPUNGE
        S: a3 OK ...
        C: a4 UID MOVE 1 Other
        S: a4 OK No ...
        C: a5 MOVE 2 Other
        S: a5 BAD ...
        C: a6 FETCH 1 UID
        S: * 1 FETCH (UID 4)
        S: a6 OK ...
    """)


def test_the_saved_result() -> None:
    """RFC 5182 section 2.1: ``$``, also where numbers are asked for; messages that are gone are no longer in it."""
    it = dialogue(5)
    it.server_session.view.saved = (2, 3, 5)
    inbox(it).remove([3])
    it.run(r"""
        C: a1 UID STORE $ +FLAGS (\Flagged)
        S: * 3 EXPUNGE
        S: * 2 FETCH (UID 2 FLAGS (\Flagged))
        S: * 4 FETCH (UID 5 FLAGS (\Flagged))
        S: a1 OK ...
        C: a2 FETCH $,1 UID
        S: * 1 FETCH (UID 1)
        S: * 2 FETCH (UID 2)
        S: * 4 FETCH (UID 5)
        S: a2 OK ...
        C: a3 COPY $ INBOX
        S: * 6 EXISTS
        S: a3 OK [COPYUID ... 2,5 6:7] ...
    """)
