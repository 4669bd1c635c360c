"""SELECT, EXAMINE, CLOSE, UNSELECT; CONDSTORE and QRESYNC (RFC 9051 section 6.3.2, RFC 7162)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from imap_dialogue import MESSAGE, Dialogue

from twisted_mail.imap.sequence import SequenceSet
from twisted_mail.imap.vanished import absent
from twisted_mail.mailboxes import StoreMode
from twisted_mail.status import MailError
from twisted_mail.testing.mailboxes import MemoryAccount


def filled(count: int) -> Dialogue:
    dialogue = Dialogue()
    dialogue.account.box("INBOX").add([(MESSAGE, (), 0)] * count, 0)
    return dialogue


def test_select_for_rev1() -> None:
    dialogue = filled(3)
    dialogue.account.box("INBOX").store([1], StoreMode.ADD, ["\\Seen"])
    dialogue.login()
    dialogue.run("""
        C: A142 SELECT INBOX
        S: * FLAGS (\\Seen \\Answered \\Flagged \\Deleted \\Draft)
        S: * OK [PERMANENTFLAGS (\\Seen \\Answered \\Flagged \\Deleted \\Draft \\*)] Kept
        S: * 3 EXISTS
        S: * 0 RECENT
        S: * OK [UNSEEN 2] The first unseen one
        S: * OK [UIDVALIDITY 3857529045] UIDs are valid
        S: * OK [UIDNEXT 4] The next UID
        S: * OK [HIGHESTMODSEQ 3] Highest
        S: * OK [MAILBOXID (M3857529045)] Its id
        S: A142 OK [READ-WRITE] SELECT completed
    """)


def test_select_for_rev2_with_a_prefix_and_a_separator() -> None:
    dialogue = Dialogue(separator=".", prefix="INBOX.")
    dialogue.account.make("Lists/éa")
    dialogue.login()
    dialogue.run("""
        C: a ENABLE IMAP4rev2
        S: * ENABLED IMAP4rev2
        S: a OK ENABLE completed
        C: b SELECT "INBOX.Lists.éa"
        S: * FLAGS (...)
        S: * OK [PERMANENTFLAGS ...
        S: * 0 EXISTS
        S: * LIST () "." "INBOX.Lists.éa"
        S: * OK [UIDVALIDITY ...
        S: * OK [UIDNEXT 1] ...
        S: * OK [HIGHESTMODSEQ 1] Highest
        S: * OK [MAILBOXID (...)] Its id
        S: b OK [READ-WRITE] SELECT completed
    """)


def test_examine_is_read_only() -> None:
    dialogue = filled(1)
    dialogue.login()
    dialogue.run("""
        C: A932 EXAMINE inbox
        S: * FLAGS (...)
        S: * OK [PERMANENTFLAGS ()] Read-only
        S: * 1 EXISTS
        S: ...
        S: A932 OK [READ-ONLY] EXAMINE completed
    """)
    dialogue.account.box("INBOX").store([1], StoreMode.ADD, ["\\Deleted"])
    dialogue.run("""
        C: b CLOSE
        S: b OK CLOSE completed
    """)
    assert dialogue.account.box("INBOX").texts


def test_a_select_that_fails_leaves_nothing_selected() -> None:
    dialogue = filled(1)
    dialogue.login("INBOX")
    dialogue.run("""
        C: a SELECT Nowhere
        S: * OK [CLOSED] The mailbox before is closed
        S: a NO [NONEXISTENT] There is no such mailbox
        C: b CLOSE
        S: b BAD Select a mailbox first
    """)
    assert dialogue.account.opened == 0


def test_close_expunges_and_says_nothing_and_unselect_does_not() -> None:
    dialogue = filled(3)
    box = dialogue.account.box("INBOX")
    dialogue.login("INBOX")
    box.store([2], StoreMode.ADD, ["\\Deleted"])
    dialogue.run("""
        C: a UNSELECT
        S: a OK UNSELECT completed
    """)
    assert list(box.texts) == [1, 2, 3]
    dialogue.run("""
        C: b SELECT INBOX
        S: ...
        S: b OK [READ-WRITE] SELECT completed
        C: c CLOSE
        S: c OK CLOSE completed
    """)
    assert list(box.texts) == [1, 3]
    assert dialogue.account.opened == 0


def test_close_with_qresync_says_how_far_it_is() -> None:
    dialogue = filled(2)
    dialogue.login()
    dialogue.ask(b"a ENABLE QRESYNC\r\nb SELECT INBOX\r\n")
    dialogue.account.box("INBOX").store([2], StoreMode.ADD, ["\\Deleted"])
    dialogue.run("""
        C: c CLOSE
        S: c OK [HIGHESTMODSEQ 4] CLOSE completed
    """)


def test_condstore_by_select() -> None:
    dialogue = filled(2)
    dialogue.login()
    dialogue.run("""
        C: A142 SELECT INBOX (CONDSTORE)
        S: ...
        S: A142 OK [READ-WRITE] SELECT completed
    """)
    dialogue.account.box("INBOX").store([2], StoreMode.ADD, ["\\Seen"])
    dialogue.run("""
        C: b NOOP
        S: * 2 FETCH (UID 2 FLAGS (\\Seen) MODSEQ (3))
        S: b OK NOOP completed
    """)


def test_enabling_condstore_in_a_mailbox_tells_where_it_is() -> None:
    dialogue = filled(2)
    dialogue.login("INBOX")
    dialogue.run("""
        C: a ENABLE CONDSTORE
        S: * ENABLED CONDSTORE
        S: * OK [HIGHESTMODSEQ 2] Highest
        S: a OK ENABLE completed
    """)


def test_qresync_needs_to_be_enabled() -> None:
    dialogue = filled(1)
    dialogue.login()
    dialogue.run("""
        C: a SELECT INBOX (QRESYNC (3857529045 1))
        S: a BAD ENABLE QRESYNC comes first
    """)


def qresync(dialogue: Dialogue, parameters: str) -> list[str]:
    """What is said of changes."""
    dialogue.login()
    dialogue.ask(b"e ENABLE QRESYNC\r\n")
    said = dialogue.lines(b"s SELECT INBOX (QRESYNC (%s))" % parameters.encode())
    assert said[-1] == b"s OK [READ-WRITE] SELECT completed"
    texts = [line.decode() for line in said]
    return [text for text in texts if "VANISHED" in text or "FETCH" in text]


def with_history() -> Dialogue:
    """10 messages at mod-sequence 2; 3 changed at 3, 4–5 removed at 4, 11 new at 5."""
    dialogue = filled(10)
    box = dialogue.account.box("INBOX")
    box.store([3], StoreMode.ADD, ["\\Seen"])
    box.remove([4, 5])
    box.add([(MESSAGE, (), 0)], 0)
    return dialogue


FETCHED = [
    "* 3 FETCH (UID 3 FLAGS (\\Seen) MODSEQ (3))",
    "* 9 FETCH (UID 11 FLAGS () MODSEQ (5))",
]


def test_qresync_tells_what_has_changed() -> None:
    said = qresync(with_history(), "3857529045 2")
    assert said == ["* VANISHED (EARLIER) 4:5", *FETCHED]


def test_qresync_with_known_uids() -> None:
    said = qresync(with_history(), "3857529045 2 1:4,11:99")
    assert said == ["* VANISHED (EARLIER) 4", *FETCHED]
    assert qresync(with_history(), "3857529045 2 6:8") == []


def test_qresync_for_another_uidvalidity_tells_nothing() -> None:
    assert qresync(with_history(), "1 2") == []


def test_qresync_that_is_up_to_date_costs_nothing() -> None:
    assert qresync(with_history(), "3857529045 5") == []


def test_what_was_forgotten_is_told_by_naming_every_absent_uid() -> None:
    dialogue = with_history()
    dialogue.account.box("INBOX").forget_vanished()
    assert qresync(dialogue, "3857529045 2 1:5,9:20") == ["* VANISHED (EARLIER) 4:5", *FETCHED]


def test_message_sequence_match_data_saves_what_is_known() -> None:
    dialogue = with_history()
    box = dialogue.account.box("INBOX")
    box.remove([10])
    box.forget_vanished()
    # The first four are where the client believes them to be, so only above them can anything be gone
    said = qresync(dialogue, "3857529045 2 1:20 (1:4 1,2,3,6)")
    assert said == [
        "* VANISHED (EARLIER) 10",
        FETCHED[0],
        FETCHED[1].replace("9 FETCH", "8 FETCH"),
    ]


def test_match_data_count_up_to_the_first_that_is_elsewhere() -> None:
    dialogue = with_history()
    dialogue.account.box("INBOX").forget_vanished()
    said = qresync(dialogue, "3857529045 2 1:20 (1:5 1,2,3,4,5)")
    assert said == ["* VANISHED (EARLIER) 4:5", *FETCHED]
    dialogue = with_history()
    dialogue.account.box("INBOX").forget_vanished()
    # What it says of numbers that are not there counts for nothing
    assert qresync(dialogue, "3857529045 2 1:20 (99 99)") == ["* VANISHED (EARLIER) 4:5", *FETCHED]


def test_no_vanished_for_a_message_that_has_a_number() -> None:
    """Expunged between the snapshot and the look at what has vanished: EXPUNGE tells, later."""
    dialogue = with_history()
    box = dialogue.account.box("INBOX")
    dialogue.login()
    dialogue.ask(b"e ENABLE QRESYNC\r\n")
    real = box.vanished

    def meanwhile(since: int) -> object:
        box.remove([7])
        return real(since)

    box.vanished = meanwhile
    said = dialogue.lines(b"s SELECT INBOX (QRESYNC (3857529045 2))")
    assert b"* VANISHED (EARLIER) 4:5" in said
    box.vanished = real
    dialogue.run("""
        C: n NOOP
        S: * VANISHED 7
        S: n OK NOOP completed
    """)


def test_a_qresync_that_fails_leaves_nothing_selected() -> None:
    dialogue = with_history()
    dialogue.login()
    dialogue.ask(b"e ENABLE QRESYNC\r\n")

    def broken(since: int) -> object:
        raise MailError(451, "4.3.0", "The index is busy")

    dialogue.account.box("INBOX").vanished = broken
    dialogue.run("""
        C: s SELECT INBOX (QRESYNC (3857529045 2))
        S: s NO [UNAVAILABLE] The index is busy
        C: c CLOSE
        S: c BAD Select a mailbox first
    """)
    assert dialogue.account.opened == 0


uids = st.lists(st.integers(1, 60), unique=True).map(sorted)


@given(uids, uids, st.integers(1, 70))
def test_absent_is_what_is_asked_for_and_not_there(
    there: list[int], asked: list[int], extra: int
) -> None:
    box = MemoryAccount().boxes["INBOX"]
    top = (there[-1] if there else 0) + extra
    box.add([(b"", (), 0)] * top, 0)
    box.remove([uid for uid in range(1, top + 1) if uid not in there])
    found: set[int] = set()
    for low, high in absent(box.snapshot, SequenceSet.of(asked).ranges):
        found.update(range(low, high + 1))
    assert found == {uid for uid in asked if uid <= top and uid not in there}


def test_a_large_mailbox_is_selected_in_one_small_answer() -> None:
    dialogue = filled(100_000)
    dialogue.login()
    assert len(dialogue.ask(b"a SELECT INBOX\r\n")) < 700
    view = dialogue.server_session.view
    assert view.uids is dialogue.account.box("INBOX").snapshot.uids
