"""FETCH and UID FETCH as transcripts."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imap_dialogue import MESSAGE, Dialogue

from twisted_mail.imap import fetch_chosen
from twisted_mail.imap.dates import date_time
from twisted_mail.imap.fetch_plan import Batch, FlagTexts, plan
from twisted_mail.mailboxes import Snapshot, StoreMode
from twisted_mail.status import MailError

MULTIPART = (
    b"From: Alice <alice@example.org>\nDate: Mon, 7 Feb 1994 21:52:25 -0800\nSubject: parts\n"
    b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nText.\n"
    b"--b\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\nAAEC\n"
    b"--b\nContent-Transfer-Encoding: x-odd\n\nodd\n--b--\n"
)


def dialogue(*messages: bytes, select: str = "INBOX") -> Dialogue:
    made = Dialogue()
    for message in messages:
        made.account.deliver(message, date=1_700_000_000)
    made.login(select)
    return made


def test_what_is_in_the_snapshot() -> None:
    it = dialogue(MESSAGE, MESSAGE, MESSAGE)
    it.account.box("INBOX").store([2], StoreMode.REPLACE, ["\\Seen", "$Junk"])
    it.run(r"""
        C: a1 FETCH 1:* (UID FLAGS)
        S: * 1 FETCH (UID 1 FLAGS ())
        S: * 2 FETCH (UID 2 FLAGS ())
        S: * 3 FETCH (UID 3 FLAGS ())
        S: * FLAGS (\Seen \Answered \Flagged \Deleted \Draft $Junk)
        S: * OK [PERMANENTFLAGS (\Seen \Answered \Flagged \Deleted \Draft $Junk \*)] ...
        S: * 2 FETCH (FLAGS (\Seen $Junk))
        S: a1 OK ...
        C: a2 FETCH 2 FAST
        S: * 2 FETCH (FLAGS (\Seen $Junk) INTERNALDATE "14-Nov-2023 22:13:20 +0000" RFC822.SIZE 51)
        S: a2 OK ...
        C: a3 UID FETCH 3,1 MODSEQ
        S: * OK [HIGHESTMODSEQ 5] ...
        S: * 1 FETCH (UID 1 MODSEQ (2))
        S: * 3 FETCH (UID 3 MODSEQ (4))
        S: a3 OK ...
    """)


@given(st.lists(st.integers(-(10**10), 10**11), min_size=1, max_size=5))
def test_internal_dates(dates: list[int]) -> None:
    now = Snapshot(
        validity=1,
        uidnext=9,
        modseq=1,
        uids=array("I", range(1, len(dates) + 1)),
        dates=array("q", dates),
    )
    batch = Batch(now, range(len(dates)), range(1, len(dates) + 1), FlagTexts(now), {}, ())
    lines = plan(["INTERNALDATE"]).write(batch).splitlines()
    assert lines == [
        b"* %d FETCH (INTERNALDATE %b)" % (n, date_time(date)) for n, date in enumerate(dates, 1)
    ]


def test_numbers_that_are_not_there() -> None:
    it = dialogue(MESSAGE, MESSAGE)
    it.run("""
        C: a1 FETCH 3 FLAGS
        S: a1 BAD ...
        C: a2 FETCH 1:3 FLAGS
        S: a2 BAD ...
        C: a3 UID FETCH 3 FLAGS
        S: a3 OK ...
        C: a4 UID FETCH 2:9 FLAGS
        S: * 2 FETCH (UID 2 FLAGS ())
        S: a4 OK ...
        C: a5 UID FETCH 77:* UID
        S: * 2 FETCH (UID 2)
        S: a5 OK ...
        C: a6 FETCH *:1 UID
        S: * 1 FETCH (UID 1)
        S: * 2 FETCH (UID 2)
        S: a6 OK ...
    """)


def test_an_empty_mailbox() -> None:
    dialogue().run("""
        C: a1 FETCH 1:* FLAGS
        S: a1 BAD ...
        C: a2 UID FETCH 1:* FLAGS
        S: a2 OK ...
    """)


def test_what_is_in_the_index() -> None:
    it = dialogue(MULTIPART)
    it.run("""
        C: a1 FETCH 1 (ENVELOPE)
        S: * 1 FETCH (ENVELOPE ("Mon, 7 Feb 1994 21:52:25 -0800" "parts" (("Alice" NIL "alice" "example.org")) ... NIL))
        S: a1 OK ...
        C: a2 FETCH 1 (BODY)
        S: * 1 FETCH (BODY (("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 5 0)("image" "png" ...) ... "mixed"))
        S: a2 OK ...
        C: a3 FETCH 1 (BODYSTRUCTURE EMAILID THREADID)
        S: * 1 FETCH (BODYSTRUCTURE (... "mixed" ("boundary" "b") NIL NIL NIL) EMAILID (E...) THREADID NIL)
        S: a3 OK ...
        C: a4 FETCH 1 (SAVEDATE)
        S: * 1 FETCH (SAVEDATE "15-Jan-2027 08:00:00 +0000")
        S: a4 OK ...
        C: a5 FETCH 1 FULL
        S: * 1 FETCH (FLAGS () INTERNALDATE "..." RFC822.SIZE 291 ENVELOPE (...) BODY (...))
        S: a5 OK ...
        C: a6 FETCH 1 (PREVIEW PREVIEW (LAZY))
        S: * 1 FETCH (PREVIEW "Text." PREVIEW "Text.")
        S: a6 OK ...
    """)


def test_reading_sets_seen() -> None:
    it = dialogue(MESSAGE, MESSAGE, MESSAGE)
    it.run(r"""
        C: a1 FETCH 1 BODY.PEEK[HEADER.FIELDS (Subject)]
        S: * 1 FETCH (BODY[HEADER.FIELDS (Subject)] {18}
        Subject: hello

        )
        S: a1 OK ...
        C: a2 FETCH 1:2 BODY[TEXT]
        S: * 1 FETCH (FLAGS (\Seen) BODY[TEXT] {8}
        Hello.
        )
        S: * 2 FETCH (FLAGS (\Seen) BODY[TEXT] {8}
        Hello.
        )
        S: a2 OK ...
        C: a3 FETCH 1 BODY[TEXT]
        S: * 1 FETCH (BODY[TEXT] {8}
        Hello.
        )
        S: a3 OK ...
        C: a4 UID FETCH 3 (FLAGS RFC822.TEXT)
        S: * 3 FETCH (UID 3 FLAGS (\Seen) RFC822.TEXT {8}
        Hello.
        )
        S: a4 OK ...
        C: a5 FETCH 1:3 FLAGS
        S: * 1 FETCH (FLAGS (\Seen))
        S: * 2 FETCH (FLAGS (\Seen))
        S: * 3 FETCH (FLAGS (\Seen))
        S: a5 OK ...
    """)
    # One change for all of a batch
    assert list(it.account.box("INBOX").snapshot.modseqs) == [5, 5, 6]


def test_others_hear_of_seen() -> None:
    it = dialogue(MESSAGE)
    other = it.session()
    other.login("INBOX")
    it.ask(b"a1 FETCH 1 BODY[]\r\n")
    other.run(r"""
        C: b1 NOOP
        S: * 1 FETCH (FLAGS (\Seen))
        S: b1 OK ...
    """)


def test_a_flag_that_somebody_else_set_meanwhile_is_told() -> None:
    it = dialogue(MESSAGE, MESSAGE)
    it.account.box("INBOX").store([1], StoreMode.ADD, ["\\Flagged"])
    it.run(r"""
        C: a1 FETCH 1 RFC822.HEADER
        S: * 1 FETCH (RFC822.HEADER {43}
        From: <bob@example.org>
        Subject: hello

        )
        S: * 1 FETCH (FLAGS (\Flagged))
        S: a1 OK ...
    """)
    it.account.box("INBOX").store([2], StoreMode.ADD, ["\\Flagged"])
    # With the content; and again, as it is not only what this session did
    assert it.ask(b"a2 FETCH 2 BODY[TEXT]\r\n").count(b"FLAGS (\\Seen \\Flagged)") == 2


def test_examine_sets_nothing() -> None:
    it = dialogue(MESSAGE, select="")
    it.run("""
        C: a1 EXAMINE INBOX
        S: ...
        S: a1 OK [READ-ONLY] ...
        C: a2 FETCH 1 (BODY[TEXT] FLAGS)
        S: * 1 FETCH (BODY[TEXT] {8}
        Hello.
         FLAGS ())
        S: a2 OK ...
    """)
    assert list(it.account.box("INBOX").snapshot.flags) == [0]


def test_where_no_flag_can_be_kept_one_can_read() -> None:
    it = dialogue(MESSAGE)

    def full(*_: object) -> None:
        raise MailError(452, "4.2.2", "No space")

    it.account.box("INBOX").store = full
    it.run("""
        C: a1 FETCH 1 BODY[TEXT]
        S: * 1 FETCH (BODY[TEXT] {8}
        Hello.
        )
        S: a1 OK ...
    """)


def test_partials() -> None:
    it = dialogue(MULTIPART)
    it.run("""
        C: a1 FETCH 1 (BODY.PEEK[1]<1.3> BODY.PEEK[1]<99.3> BODY.PEEK[2.MIME]<0.12> BODY.PEEK[7])
        S: * 1 FETCH (BODY[1]<1> {3}
        ext BODY[1]<99> {0}
         BODY[2.MIME]<0> {12}
        Content-Type BODY[7] {0}
        )
        S: a1 OK ...
    """)


def test_binary() -> None:
    it = dialogue(MULTIPART)
    assert it.ask(b"a1 FETCH 1 (BINARY.PEEK[2] BINARY.SIZE[2] BINARY.PEEK[2]<1.1>)\r\n") == (
        b"* 1 FETCH (BINARY[2] ~{3}\r\n\x00\x01\x02 BINARY.SIZE[2] 3 BINARY[2]<1> ~{1}\r\n\x01)\r\n"
        b"a1 OK FETCH completed\r\n"
    )
    # RFC 3516 section 4.3: NO, with the rest of it
    it.run("""
        C: a2 FETCH 1 (UID BINARY.PEEK[3] BINARY.SIZE[3] BINARY.PEEK[1])
        S: * 1 FETCH (UID 1 BINARY[3] NIL BINARY.SIZE[3] 0 BINARY[1] ~{5}
        Text.)
        S: a2 NO [UNKNOWN-CTE] ...
        C: a3 FETCH 1 BINARY[1]
        S: * 1 FETCH (FLAGS (\\Seen) BINARY[1] ~{5}
        Text.)
        S: a3 OK ...
    """)


def test_messages_that_are_gone() -> None:
    it = dialogue(MESSAGE, MESSAGE, MESSAGE)
    it.account.box("INBOX").remove([2])
    # RFC 2180 section 4.1.2
    it.run("""
        C: a1 FETCH 1:3 (UID BODY.PEEK[TEXT])
        S: * 1 FETCH (UID 1 BODY[TEXT] {8}
        Hello.
        )
        S: * 3 FETCH (UID 3 BODY[TEXT] {8}
        Hello.
        )
        S: a1 NO [EXPUNGEISSUED] ...
        C: a2 FETCH 1:3 FLAGS
        S: * 1 FETCH (FLAGS ())
        S: * 3 FETCH (FLAGS ())
        S: a2 NO [EXPUNGEISSUED] ...
        C: a3 FETCH 3 ENVELOPE
        S: * 3 FETCH (ENVELOPE ...)
        S: a3 OK ...
        C: a4 UID FETCH 1:3 UID
        S: * 1 FETCH (UID 1)
        S: * 3 FETCH (UID 3)
        S: * 2 EXPUNGE
        S: a4 OK ...
        C: a5 FETCH 2 UID
        S: * 2 FETCH (UID 3)
        S: a5 OK ...
    """)


def test_gone_while_it_is_looked_up() -> None:
    it = dialogue(*[MESSAGE] * 6)
    box = it.account.box("INBOX")
    it.ask(b"a0 NOOP\r\n")
    del box.texts[4]
    it.run("""
        C: a1 FETCH 3:5 (UID EMAILID)
        S: * 3 FETCH (UID 3 EMAILID (...))
        S: * 5 FETCH (UID 5 EMAILID (...))
        S: a1 NO [EXPUNGEISSUED] ...
    """)


def test_changedsince() -> None:
    """RFC 7162 section 3.1.4.1."""
    it = dialogue(*[MESSAGE] * 4)
    it.account.box("INBOX").store([2, 4], StoreMode.ADD, ["\\Flagged"])
    it.run(r"""
        C: s100 UID FETCH 1:* (FLAGS) (CHANGEDSINCE 5)
        S: * OK [HIGHESTMODSEQ 5] ...
        S: * 2 FETCH (UID 2 FLAGS (\Flagged) MODSEQ (6))
        S: * 4 FETCH (UID 4 FLAGS (\Flagged) MODSEQ (6))
        S: s100 OK ...
        C: s101 FETCH 2:3 (FLAGS) (CHANGEDSINCE 3)
        S: * 2 FETCH (FLAGS (\Flagged) MODSEQ (6))
        S: * 3 FETCH (FLAGS () MODSEQ (4))
        S: s101 OK ...
        C: s102 FETCH 1:* (FLAGS) (CHANGEDSINCE 6)
        S: s102 OK ...
    """)


def test_vanished() -> None:
    """RFC 7162 section 3.2.6."""
    it = dialogue(*[MESSAGE] * 9)
    box = it.account.box("INBOX")
    box.remove([2, 3])
    box.remove([8, 9])
    it.run(r"""
        C: s0 UID FETCH 1:* (FLAGS) (CHANGEDSINCE 10 VANISHED)
        S: s0 BAD ...
        C: s1 ENABLE QRESYNC
        S: ...
        S: s1 OK ...
    """)
    it.ask(b"s2 NOOP\r\n")
    box.store([5], StoreMode.ADD, ["\\Seen"])
    box.remove([7])
    it.run(r"""
        C: s100 UID FETCH 1:* (FLAGS) (CHANGEDSINCE 11 VANISHED)
        S: * VANISHED 7
        S: * 3 FETCH (UID 5 FLAGS (\Seen) MODSEQ (13))
        S: * VANISHED (EARLIER) 7:9
        S: * 3 FETCH (UID 5 FLAGS (\Seen) MODSEQ (13))
        S: s100 OK ...
        C: s101 UID FETCH 1:4,8 (UID) (CHANGEDSINCE 1 VANISHED)
        S: * VANISHED (EARLIER) 2:3,8
        S: * 1 FETCH (UID 1 MODSEQ (2))
        S: * 2 FETCH (UID 4 MODSEQ (5))
        S: s101 OK ...
    """)
    box.forget_vanished()
    it.run(r"""
        C: s102 UID FETCH 3:100 (UID) (CHANGEDSINCE 12 VANISHED)
        S: * VANISHED (EARLIER) 3,7:9
        S: * 3 FETCH (UID 5 MODSEQ (13))
        S: s102 OK ...
        C: s103 FETCH 1 (UID) (CHANGEDSINCE 12 VANISHED)
        S: s103 BAD ...
    """)


def test_seen_is_told_with_modseq() -> None:
    """RFC 7162 section 3.2.4: with QRESYNC, UID and MODSEQ go with every change of flags."""
    it = dialogue(MESSAGE)
    it.ask(b"a0 ENABLE QRESYNC\r\n")
    it.run(r"""
        C: a1 FETCH 1 BODY[TEXT]
        S: * 1 FETCH (UID 1 FLAGS (\Seen) MODSEQ (3) BODY[TEXT] {8}
        Hello.
        )
        S: ...
        S: a1 OK ...
    """)


def test_large_messages_among_small_ones() -> None:
    it = dialogue()
    it.account.large = 1000
    big = b"Subject: big\n\n" + b"A line.\n" * 20_000
    for message in (MESSAGE, big, MESSAGE, big):
        it.account.deliver(message)
    it.ask(b"a0 NOOP\r\n")
    wire = big.replace(b"\n", b"\r\n")
    said = it.ask(b"a1 FETCH 1:4 (UID BODY[] BODY.PEEK[TEXT]<5.9> RFC822.SIZE)\r\n")
    small = MESSAGE.replace(b"\n", b"\r\n")
    expected = b""
    for number, content in enumerate((small, wire, small, wire), 1):
        text = content.partition(b"\r\n\r\n")[2][5:14]
        expected += b"* %d FETCH (FLAGS (\\Seen) UID %d BODY[] {%d}\r\n%b" % (
            number,
            number,
            len(content),
            content,
        )
        expected += b" BODY[TEXT]<5> {%d}\r\n%b RFC822.SIZE %d)\r\n" % (
            len(text),
            text,
            len(content),
        )
    assert said == expected + b"a1 OK FETCH completed\r\n"


def test_a_slow_reader_is_waited_for() -> None:
    it = dialogue(*[b"Subject: x\n\n" + b"A line.\n" * 2000] * 200)
    taken: list[int] = []
    box = it.account.box("INBOX")
    kept = box.texts

    class Noted(dict[int, bytes]):
        def get(self, uid: int, default: object = None) -> bytes:  # type: ignore[override]
            taken.append(uid)
            return kept[uid]

    box.texts = Noted(kept)
    it.client.stop_reading()
    it.client.send(b"a1 FETCH 1:* BODY.PEEK[]\r\n")
    it.world.reactor.advance(1)
    assert len(taken) < 100
    it.client.go_on_reading()
    it.world.reactor.advance(1)
    assert it.client.read().endswith(b"a1 OK FETCH completed\r\n")
    assert taken == [*range(1, 201)]


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025, 2500])
def test_slices(count: int) -> None:
    it = dialogue()
    it.account.box("INBOX").add([(MESSAGE, (), 0)] * count, 0)
    it.ask(b"a0 NOOP\r\n")
    lines = it.lines(b"a1 FETCH 1:* UID")
    assert lines[:-1] == [b"* %d FETCH (UID %d)" % (n, n) for n in range(1, count + 1)]
    lines = it.lines(b"a2 FETCH 1:* EMAILID")
    assert [int(line.split()[1]) for line in lines[:-1]] == [*range(1, count + 1)]
    odd = b",".join([b"%d" % n for n in range(1, count + 1, 2)])
    lines = it.lines(b"a3 FETCH %b UID" % odd)
    assert lines[:-1] == [b"* %d FETCH (UID %d)" % (n, n) for n in range(1, count + 1, 2)]


def test_slices_of_what_was_changed() -> None:
    it = dialogue()
    box = it.account.box("INBOX")
    for _ in range(3):
        box.add([(MESSAGE, (), 0)] * 1500, 0)
    box.store([2, 1400, 4499], StoreMode.ADD, ["\\Seen"])
    it.ask(b"a0 ENABLE CONDSTORE\r\n")
    it.ask(b"a0 NOOP\r\n")
    lines = it.lines(b"a1 UID FETCH 1:* (UID) (CHANGEDSINCE 4)")
    assert lines[:-1] == [b"* %d FETCH (UID %d MODSEQ (5))" % (n, n) for n in (2, 1400, 4499)]
    lines = it.lines(b"a2 FETCH 1:* (UID) (CHANGEDSINCE 3)")
    assert [int(line.split()[1]) for line in lines[:-1]] == [2, 1400, *range(3001, 4501)]


def test_others_have_their_turn_where_nothing_was_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_chosen, "LONG", 1)
    it = dialogue()
    box = it.account.box("INBOX")
    box.add([(MESSAGE, (), 0)] * 5000, 0)
    box.store([5000], StoreMode.ADD, ["\\Seen"])
    it.ask(b"a0 NOOP\r\n")
    for item, said in (
        (b"UID", b"UID 5000"),
        (b"RFC822.HEADER", b"RFC822.HEADER"),
        (b"EMAILID", b"EMAILID"),
    ):
        lines = it.lines(b"a1 FETCH 1:* (%b) (CHANGEDSINCE 2)" % item)
        assert sum(said in line for line in lines) == 1, lines


def test_the_sample_session() -> None:
    """RFC 9051 section 8, whose header is not as long as it says there."""
    header = (
        b"Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\n"
        b"From: Terry Gray <gray@cac.washington.edu>\n"
        b"Subject: IMAP4rev2 WG mtg summary and minutes\n"
        b"To: imap@cac.washington.edu\n"
        b"cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\n"
        b"Message-Id: <B27397-0100000@cac.washington.ed>\n"
        b"MIME-Version: 1.0\n"
        b"Content-Type: TEXT/PLAIN; CHARSET=UTF-8\n\n"
    )
    it = Dialogue()
    for _ in range(11):
        it.account.deliver(MESSAGE)
    it.account.deliver(header + b"x" * 2936 + b"\n" * 46, flags=["\\Seen"], date=837_596_665)
    it.login("INBOX")
    it.run(r"""
        C: a003 FETCH 12 FULL
        S: * 12 FETCH (FLAGS (\Seen) INTERNALDATE "17-Jul-1996 09:44:25 +0000" RFC822.SIZE {size} ENVELOPE ("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev2 WG mtg summary and minutes" (("Terry Gray" NIL "gray" "cac.washington.edu")) (("Terry Gray" NIL "gray" "cac.washington.edu")) (("Terry Gray" NIL "gray" "cac.washington.edu")) ((NIL NIL "imap" "cac.washington.edu")) ((NIL NIL "minutes" "CNRI.Reston.VA.US")("John Klensin" NIL "KLENSIN" "MIT.EDU")) NIL NIL "<B27397-0100000@cac.washington.ed>") BODY ("TEXT" "PLAIN" ("CHARSET" "UTF-8") NIL NIL "7bit" 3028 46))
        S: a003 OK FETCH completed
        C: a004 FETCH 12 BODY[HEADER]
        S: * 12 FETCH (BODY[HEADER] {338}
        Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)
        From: Terry Gray <gray@cac.washington.edu>
        Subject: IMAP4rev2 WG mtg summary and minutes
        To: imap@cac.washington.edu
        cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>
        Message-Id: <B27397-0100000@cac.washington.ed>
        MIME-Version: 1.0
        Content-Type: TEXT/PLAIN; CHARSET=UTF-8

        )
        S: a004 OK FETCH completed
        C: a005 STORE 12 +FLAGS (\Deleted)
        S: * 12 FETCH (FLAGS (\Seen \Deleted))
        S: a005 OK STORE completed
    """)  # noqa: E501
