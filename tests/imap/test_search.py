"""SEARCH as transcripts: RFC 9051 section 6.4.4, RFC 4731, 5032, 5182, 6855, 7162, 8474, 8514, 9585."""

from __future__ import annotations

from typing import Any

import pytest
from imap_dialogue import Dialogue
from twisted.internet.defer import Deferred

from twisted_mail.imap.refusal import No
from twisted_mail.imap.search import charset_of
from twisted_mail.status import MailError

DAY = 86_400
FEB_1994 = 760_060_800
"""Seconds of 1-Feb-1994."""


def letter(
    subject: str = "hello",
    sender: str = "Smith <smith@example.org>",
    body: str = "text",
    date: str = "",
    *more: str,
) -> bytes:
    fields = [f"From: {sender}", f"Subject: {subject}", *more]
    if date:
        fields.append(f"Date: {date}")
    return ("\n".join(fields) + f"\n\n{body}\n").encode()


@pytest.fixture
def dialogue() -> Dialogue:
    made = Dialogue()
    account = made.account
    account.deliver(letter("one", body="IMAP4"), date=FEB_1994 - 1, flags=["\\Seen"])
    account.deliver(
        letter("two", "Bob <bob@example.net>", date="Tue, 1 Feb 1994 01:00:00 +0900"),
        date=FEB_1994,
        flags=["\\Deleted", "\\Flagged", "$Forwarded"],
    )
    account.deliver(
        letter(
            "Tr=?utf-8?q?=C3=A9?=s bien",
            body="Fred Foobar " * 50,
            date="Wed, 2 Feb 1994 23:59:59 -1200",
        ),
        date=FEB_1994 + DAY,
        flags=["\\Deleted"],
    )
    account.deliver(letter("four", "", "x" * 5000), date=FEB_1994 + 2 * DAY - 1)
    made.login("INBOX")
    return made


def found(dialogue: Dialogue, keys: str, extra: bytes = b"") -> list[int]:
    """The numbers of a SEARCH."""
    lines = dialogue.ask(b"s SEARCH " + extra + keys.encode() + b"\r\n").split(b"\r\n")
    assert lines[-2] == b"s OK SEARCH completed", lines
    assert lines[-3].startswith(b"* SEARCH")
    return [int(word) for word in lines[-3].split()[2:]]


def test_examples_of_rfc_9051(dialogue: Dialogue) -> None:
    dialogue.run(
        """
        C: A282 SEARCH RETURN (MIN COUNT) FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"
        S: * ESEARCH (TAG "A282") MIN 2 COUNT 1
        S: A282 OK SEARCH completed
        C: A283 SEARCH RETURN () FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"
        S: * ESEARCH (TAG "A283") ALL 2
        S: A283 OK SEARCH completed
        C: A284 SEARCH TEXT "string not in mailbox"
        S: * SEARCH
        S: A284 OK SEARCH completed
        C: A285 SEARCH CHARSET UTF-8 TEXT {6}
        S: + ...
        C: YYYYYY
        S: * SEARCH
        S: A285 OK SEARCH completed
        C: A286 SEARCH RETURN (MIN MAX COUNT ALL) TEXT nowhere
        S: * ESEARCH (TAG "A286") COUNT 0
        S: A286 OK SEARCH completed
        C: A287 UID SEARCH RETURN (MIN MAX ALL) OR 1 3:*
        S: * ESEARCH (TAG "A287") UID MIN 1 MAX 4 ALL 1,3:4
        S: A287 OK SEARCH completed
        """
    )


def test_imap4rev2_is_answered_by_esearch(dialogue: Dialogue) -> None:
    dialogue.run(
        """
        C: a ENABLE IMAP4rev2
        S: * ENABLED IMAP4rev2
        S: a OK ...
        C: b SEARCH DELETED
        S: * ESEARCH (TAG "b") ALL 2:3
        S: b OK SEARCH completed
        C: c UID SEARCH KEYWORD nothing
        S: * ESEARCH (TAG "c") UID
        S: c OK SEARCH completed
        """
    )


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("ALL", [1, 2, 3, 4]),
        ("2:*", [2, 3, 4]),
        ("*", [4]),
        ("UID 1,3", [1, 3]),
        ("UID 99:*", [4]),
        ("UID 98:99", []),
        ("SEEN", [1]),
        ("UNSEEN", [2, 3, 4]),
        ("DELETED FLAGGED", [2]),
        ("ANSWERED", []),
        ("UNDRAFT", [1, 2, 3, 4]),
        ("KEYWORD $forwarded", [2]),
        ("UNKEYWORD $Forwarded", [1, 3, 4]),
        ("KEYWORD unknown", []),
        ("UNKEYWORD unknown", [1, 2, 3, 4]),
        ("RECENT", []),
        ("NEW", []),
        ("OLD", [1, 2, 3, 4]),
        ("BEFORE 1-Feb-1994", [1]),
        ("ON 1-Feb-1994", [2]),
        ("ON 2-Feb-1994", [3, 4]),
        ("SINCE 2-Feb-1994", [3, 4]),
        # The day in the date's own zone
        ("SENTON 1-Feb-1994", [2]),
        ("SENTBEFORE 2-Feb-1994", [2]),
        ("SENTSINCE 2-Feb-1994", [3]),
        ("NOT SENTSINCE 2-Feb-1994", [1, 2, 4]),
        ("LARGER 1000", [4]),
        ("SMALLER 1000", [1, 2, 3]),
        ("SUBJECT hello", []),
        ("SUBJECT TWO", [2]),
        ('SUBJECT "tr\u00e9s"', [3]),
        ('SUBJECT "tre\u0301s"', [3]),
        ('SUBJECT ""', [1, 2, 3, 4]),
        ('FROM ""', [1, 2, 3, 4]),
        ('CC ""', []),
        ("FROM bob", [2]),
        ("HEADER From example.net", [2]),
        ('HEADER X-Nothing ""', []),
        ("HEADER Date Feb", [2, 3]),
        ("BODY foobar", [3]),
        ("BODY two", []),
        ("TEXT two", [2]),
        ("TEXT x-unknown", []),
        ('TEXT ""', [1, 2, 3, 4]),
        ("BODY imap4 SEEN", [1]),
        ("OR BODY imap4 TEXT two", [1, 2]),
        ("OR FLAGGED SEEN", [1, 2]),
        ("NOT (OR FLAGGED SEEN)", [3, 4]),
        ("OR (BODY imap4 NOT SEEN) (DELETED NOT FLAGGED)", [3]),
        ("NOT NOT NOT TEXT two", [1, 3, 4]),
        ("EMAILID nothing", []),
        ("THREADID nothing", []),
        ("SAVEDATESUPPORTED", [1, 2, 3, 4]),
        ("SAVEDBEFORE 1-Jan-1970", []),
        ("SAVEDSINCE 1-Jan-1970", [1, 2, 3, 4]),
        ("MODSEQ 1", [1, 2, 3, 4]),
    ],
)
def test_keys(dialogue: Dialogue, keys: str, expected: list[int]) -> None:
    if "MODSEQ" in keys:
        assert b"* SEARCH 1 2 3 4 (MODSEQ 5)\r\n" in dialogue.ask(b"s SEARCH MODSEQ 1\r\n")
        return
    assert found(dialogue, keys) == expected


def test_emailid(dialogue: Dialogue) -> None:
    email = dialogue.ask(b"f FETCH 3 EMAILID\r\n").split(b"EMAILID (")[1].split(b")")[0]
    assert found(dialogue, f"EMAILID {email.decode()}") == [3]


def test_within() -> None:
    dialogue = Dialogue()
    now = int(dialogue.world.now())
    for ago in (100, 200, 300):
        dialogue.account.deliver(letter(), date=now - ago)
    dialogue.login("INBOX")
    # RFC 5032 section 3: at least so long ago, or within
    assert found(dialogue, "YOUNGER 200") == [1, 2]
    assert found(dialogue, "OLDER 200") == [2, 3]
    assert found(dialogue, "UNSEEN YOUNGER 100") == [1]


def test_a_number_that_no_message_has(dialogue: Dialogue) -> None:
    dialogue.run(
        """
        C: a SEARCH 5
        S: a BAD There is no message with that number
        C: b SEARCH NOT 1:5
        S: b BAD There is no message with that number
        """
    )


def test_charsets(dialogue: Dialogue) -> None:
    assert b"BADCHARSET (UTF-8 US-ASCII)]" in dialogue.ask(b"a SEARCH CHARSET x-what TEXT a\r\n")
    assert b"a NO [BADCHARSET" in dialogue.ask(b"a SEARCH CHARSET zlib TEXT a\r\n")
    for charset in ("utf-8", "iso-8859-1", "iso-8859-15", "windows-1252", "cp850"):
        text = "Trés".encode(charset)
        command = b"SUBJECT {%d+}\r\n%b" % (len(text), text)
        said = dialogue.ask(b"s SEARCH CHARSET " + charset.encode() + b" " + command + b"\r\n")
        assert b"* SEARCH 3\r\n" in said, charset
    assert b"s BAD" in dialogue.ask(b"s SEARCH CHARSET UTF-8 TEXT {1+}\r\n\xff\r\n")


@pytest.mark.parametrize(
    "name", ["ISO-8859-1", "LATIN1", "KOI8-R", "GB18030", "ISO-2022-JP", "UTF-7"]
)
def test_every_charset_of_python(name: str) -> None:
    assert "a".encode(name).decode(charset_of(name)) == "a"


@pytest.mark.parametrize(
    "name", ["", "X-NOTHING", "ROT13", "HEX", "IDNA", "UNDEFINED", "OS", "A.B"]
)
def test_no_charsets(name: str) -> None:
    with pytest.raises(No):
        charset_of(name)


def test_utf8_accept_has_one_charset(dialogue: Dialogue) -> None:
    dialogue.ask(b"e ENABLE UTF8=ACCEPT\r\n")
    assert b"a BAD" in dialogue.ask(b"a SEARCH CHARSET ISO-8859-1 TEXT a\r\n")
    assert b"a OK" in dialogue.ask(b"a SEARCH TEXT a\r\n")


def test_saved_results_of_rfc_5182(dialogue: Dialogue) -> None:
    dialogue.run(
        """
        C: A282 SEARCH RETURN (SAVE) SINCE 1-Feb-1994 NOT FROM "Smith"
        S: A282 OK SEARCH completed, result saved
        C: A283 FETCH $ (UID)
        S: * 2 FETCH (UID 2)
        S: * 4 FETCH (UID 4)
        S: A283 OK ...
        C: C282 SEARCH RETURN (SAVE MIN) SINCE 1-Feb-1994
        S: * ESEARCH (TAG "C282") MIN 2
        S: C282 OK SEARCH completed, result saved
        C: C283 SEARCH $
        S: * SEARCH 2
        S: C283 OK SEARCH completed
        C: D1 UID SEARCH RETURN (MIN MAX SAVE) ALL
        S: * ESEARCH (TAG "D1") UID MIN 1 MAX 4
        S: D1 OK SEARCH completed, result saved
        C: D2 SEARCH UID $
        S: * SEARCH 1 4
        S: D2 OK SEARCH completed
        C: E1 SEARCH RETURN (SAVE COUNT) 1:3
        S: * ESEARCH (TAG "E1") COUNT 3
        S: E1 OK SEARCH completed, result saved
        C: E2 SEARCH RETURN (SAVE) 9
        S: E2 BAD There is no message with that number
        C: E3 SEARCH $
        S: * SEARCH 1 2 3
        S: E3 OK SEARCH completed
        C: E4 SEARCH RETURN (SAVE) CHARSET x-what TEXT a
        S: E4 NO [BADCHARSET (UTF-8 US-ASCII)] ...
        C: E5 SEARCH $
        S: * SEARCH
        S: E5 OK SEARCH completed
        """
    )


def test_mod_sequences_of_rfc_7162(dialogue: Dialogue) -> None:
    dialogue.run(
        """
        C: a SEARCH MODSEQ "/flags/\\\\draft" all 3
        S: * OK [HIGHESTMODSEQ 5] Highest
        S: * SEARCH 2 3 4 (MODSEQ 5)
        S: a OK SEARCH completed
        C: t SEARCH OR NOT MODSEQ 720162338 LARGER 50000
        S: * SEARCH 1 2 3 4 (MODSEQ 5)
        S: t OK SEARCH completed
        C: b SEARCH MODSEQ 6
        S: * SEARCH
        S: b OK SEARCH completed
        C: c SEARCH RETURN (MIN) MODSEQ 3
        S: * ESEARCH (TAG "c") MIN 2 MODSEQ 3
        S: c OK SEARCH completed
        C: d SEARCH RETURN (MIN MAX) MODSEQ 3 1:3
        S: * ESEARCH (TAG "d") MIN 2 MAX 3 MODSEQ 4
        S: d OK SEARCH completed
        C: e SEARCH RETURN (COUNT MIN) MODSEQ 3
        S: * ESEARCH (TAG "e") MIN 2 COUNT 3 MODSEQ 5
        S: e OK SEARCH completed
        """
    )


def test_messages_that_are_gone_keep_their_numbers(dialogue: Dialogue) -> None:
    dialogue.account.box("INBOX").remove([2])
    dialogue.account.deliver(letter("five"))
    dialogue.run(
        """
        C: a SEARCH ALL
        S: * 5 EXISTS
        S: * SEARCH 1 3 4 5
        S: a OK SEARCH completed
        """
    )
    assert found(dialogue, "2:3") == [3]
    assert found(dialogue, "3") == [3]
    assert found(dialogue, "UID 4:5") == [4, 5]
    assert found(dialogue, "NOT 2") == [1, 3, 4, 5]
    assert found(dialogue, "SUBJECT five") == [5]
    dialogue.run(
        """
        C: b UID SEARCH 2:4
        S: * SEARCH 3 4
        S: * 2 EXPUNGE
        S: b OK ...
        """
    )
    assert found(dialogue, "2") == [2]


class Slow:
    """Questions about texts are answered when the test says so."""

    def __init__(self, dialogue: Dialogue) -> None:
        self.waiting: list[Deferred[Any]] = []
        opened = dialogue.server_session.opened
        ask = opened.match_text

        async def match_text(text: str, uids: Any, *, body_only: bool) -> Any:
            self.waiting.append(Deferred())
            await self.waiting[-1]
            return await ask(text, uids, body_only=body_only)

        opened.match_text = match_text


def test_progress_of_rfc_9585(dialogue: Dialogue) -> None:
    slow = Slow(dialogue)
    assert dialogue.ask(b"A001 SEARCH TEXT imap\r\n") == b""
    assert dialogue.later(9) == b""
    said = dialogue.later(1.5)
    assert said == b'* OK [INPROGRESS ("A001" 0 4)] Still searching\r\n'
    assert dialogue.later(10) == said
    slow.waiting[0].callback(None)
    assert dialogue.later(0.1) == b"* SEARCH 1\r\nA001 OK SEARCH completed\r\n"
    assert dialogue.ask(b"A002 SEARCH OR TEXT imap BODY two\r\n") == b""
    assert dialogue.later(10.5) == b'* OK [INPROGRESS ("A002" NIL NIL)] Still searching\r\n'


def test_it_goes_on_in_the_next_round_when_others_have_used_up_this_one(
    dialogue: Dialogue,
) -> None:
    slow = Slow(dialogue)
    assert dialogue.ask(b"a SEARCH OR TEXT imap BODY two\r\n") == b""
    assert len(slow.waiting) == 1
    dialogue.server_session.world.turns.count(1)
    slow.waiting[0].callback(None)
    assert len(slow.waiting) == 1
    assert dialogue.later(0.1) == b""
    assert len(slow.waiting) == 2


def test_failures_later_on(dialogue: Dialogue) -> None:
    slow = Slow(dialogue)
    dialogue.ask(b"a SEARCH RETURN (SAVE) ALL\r\n")
    assert dialogue.ask(b"b SEARCH RETURN (SAVE) TEXT imap\r\n") == b""
    slow.waiting[0].errback(MailError(451, "4.3.0", "Not now", imap="UNAVAILABLE"))
    assert dialogue.later(0.1) == b"b NO [UNAVAILABLE] Not now\r\n"
    assert found(dialogue, "$") == []


def test_a_client_that_goes_away(dialogue: Dialogue) -> None:
    slow = Slow(dialogue)
    dialogue.ask(b"a SEARCH TEXT imap\r\n")
    dialogue.client.close()
    dialogue.later(1)
    assert slow.waiting[0].called
    assert dialogue.account.sessions == 0


def test_many(dialogue: Dialogue) -> None:
    box = dialogue.account.box("INBOX")
    box.add([(letter(), ("\\Seen",) if n % 2 else (), FEB_1994) for n in range(20_000)], 0)
    dialogue.ask(b"n NOOP\r\n")
    assert found(dialogue, "UNSEEN 5:*") == list(range(5, 20_005, 2))
    said = dialogue.ask(b"a UID SEARCH RETURN (ALL COUNT) SEEN\r\n")
    assert said.startswith(b'* ESEARCH (TAG "a") UID COUNT 10001 ALL 1,6,8,')
    assert said.count(b"\r\n") == 2
    assert said.count(b" ALL ") == 1


def test_nothing_is_found_where_nothing_is() -> None:
    made = Dialogue()
    made.login("INBOX")
    assert made.ask(b"a SEARCH 1:*\r\n") == b"* SEARCH\r\na OK SEARCH completed\r\n"
    assert made.ask(b"b UID SEARCH 1:* NOT 2\r\n") == b"* SEARCH\r\nb OK SEARCH completed\r\n"
