"""APPEND and REPLACE: the examples of their RFCs, what is refused and when, and that all or none is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from imap_dialogue import Dialogue

from twisted_mail.imap.verbs import append as verb
from twisted_mail.testing import mailboxes
from twisted_mail.testing.mailboxes import MemoryLarge, MemoryMailboxes, MemoryWriting

FOOBAR = b"""Date: Mon, 7 Feb 1994 21:52:25 -0800 (PST)
From: Fred Foobar <foobar@Blurdybloop.example>
Subject: afternoon meeting
To: mooch@owatagu.siam.edu.example
Message-Id: <B27397-0100000@Blurdybloop.example>
MIME-Version: 1.0
Content-Type: TEXT/PLAIN; CHARSET=US-ASCII

Hello Joe, do you think we can meet at 3:30 tomorrow?

"""
WIRE = FOOBAR.replace(b"\n", b"\r\n")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every message that was begun: what is not kept has to be discarded."""
    made: list[Any] = []

    class Writing(MemoryWriting):
        def __init__(self) -> None:
            super().__init__()
            self.discarded = False
            self.finished = 0
            self.longest = 0
            made.append(self)

        def write(self, block: bytes) -> None:
            super().write(block)
            self.longest = max(self.longest, len(block))

        async def finish(self) -> None:
            self.finished += 1

        def discard(self) -> None:
            super().discard()
            self.discarded = True

    monkeypatch.setattr(MemoryMailboxes, "write", lambda self: Writing())
    return made


@pytest.fixture
def dialogue(written: list[Any]) -> Dialogue:
    made = Dialogue()
    made.account.make("saved-messages")
    made.account.make("Drafts")
    made.login()
    return made


def texts(dialogue: Dialogue, name: str = "saved-messages") -> list[bytes]:
    return list(dialogue.account.box(name).texts.values())


def test_rfc_9051_append(dialogue: Dialogue) -> None:
    validity = dialogue.account.box("saved-messages").snapshot.validity
    dialogue.run(rf"""
        C: A003 APPEND saved-messages (\Seen $MDNSent) "17-Jul-1996 02:44:25 -0700" {{{len(WIRE)}}}
        S: + Ready for the message
    """)
    said = dialogue.ask(WIRE + b"\r\n")
    assert said == b"A003 OK [APPENDUID %d 1] APPEND completed\r\n" % validity
    assert texts(dialogue) == [FOOBAR]
    snapshot = dialogue.account.box("saved-messages").snapshot
    assert snapshot.names(snapshot.flags[0]) == ("\\Seen", "$MDNSent")
    assert (snapshot.dates[0], snapshot.sizes[0]) == (837596665, len(WIRE))


def test_what_is_kept_is_the_stores(dialogue: Dialogue, written: list[Any]) -> None:
    dialogue.lines(b"a APPEND saved-messages {3+}\r\nabc {3+}\r\nabc")
    assert len(written) == 2 and not any(one.discarded for one in written)
    dialogue.account.storage_limit = 0
    dialogue.lines(b"b APPEND saved-messages {3+}\r\nabc")
    assert len(written) == 3 and not written[2].discarded  # `Mailboxes.append` does it


def test_without_a_date_it_is_now(dialogue: Dialogue) -> None:
    dialogue.lines(b"a APPEND saved-messages {%d+}\r\n%s" % (len(WIRE), WIRE))
    assert dialogue.account.box("saved-messages").snapshot.dates[0] == int(dialogue.world.now())


def test_into_the_selected_mailbox(dialogue: Dialogue) -> None:
    dialogue.lines(b"s SELECT saved-messages")
    assert dialogue.lines(b"a APPEND saved-messages {%d+}\r\n%s" % (len(WIRE), WIRE)) == [
        b"* 1 EXISTS", b"a OK [APPENDUID 3857529046 1] APPEND completed",
    ]  # fmt: skip


def test_rfc_3502_several_at_once(dialogue: Dialogue) -> None:
    answer = dialogue.lines(
        b'A003 APPEND saved-messages (\\Seen) {%d+}\r\n%s (\\Seen) " 7-Feb-1994 22:43:04 -0800" {%d+}\r\n%s'
        % (len(WIRE), WIRE, len(WIRE), WIRE)
    )
    assert answer == [b"A003 OK [APPENDUID 3857529046 1:2] APPEND completed"]
    assert texts(dialogue) == [FOOBAR, FOOBAR]


def test_rfc_3502_one_that_is_empty_calls_all_off(dialogue: Dialogue, written: list[Any]) -> None:
    (answer,) = dialogue.lines(
        b"A003 APPEND saved-messages {%d+}\r\n%s {0+}\r\n" % (len(WIRE), WIRE)
    )
    assert answer.startswith(b"A003 NO ")
    assert texts(dialogue) == [] and all(one.discarded for one in written)


@pytest.mark.parametrize(
    "tail",
    [b" {60000000+}\r\n", b" nonsense", b" (bad flags{ {3+}\r\nabc", b' "no date" {3+}\r\nabc',
     b" ~{3+}\r\na\0b"],
)  # fmt: skip
def test_all_or_none(dialogue: Dialogue, written: list[Any], tail: bytes) -> None:
    said = dialogue.ask(b"a APPEND saved-messages {%d+}\r\n%s%s\r\n" % (len(WIRE), WIRE, tail))
    assert said.startswith((b"a NO ", b"a BAD ")) or b"BYE" in said
    assert texts(dialogue) == [] and written and all(one.discarded for one in written)


def test_at_most_so_many_at_once(dialogue: Dialogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "MAX_MESSAGES", 3)
    (answer,) = dialogue.lines(b"a APPEND saved-messages" + b" {3+}\r\na\r\n" * 4)
    assert answer.startswith(b"a NO [LIMIT] ")
    (answer,) = dialogue.lines(b"b APPEND saved-messages" + b" {3+}\r\na\r\n" * 3)
    assert answer.startswith(b"b OK ") and texts(dialogue) == [b"a\n"] * 3


def test_what_is_in_memory_until_the_end_is_bounded(
    dialogue: Dialogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "MAX_SMALL", 5000)
    monkeypatch.setattr(verb, "LARGE", 4000)
    small, large = (b" {%d+}\r\n%s" % (size, b"x" * size) for size in (3000, 9000))
    (answer,) = dialogue.lines(b"a APPEND saved-messages" + small * 3)
    assert answer.startswith(b"a NO [LIMIT] ")
    (answer,) = dialogue.lines(b"b APPEND saved-messages" + small + large * 5 + small)
    assert answer.startswith(b"b OK ")


def test_old_mail_with_8_bit_headers_needs_no_utf8(dialogue: Dialogue) -> None:
    """RFC 6855 section 4 would have it refused: but who imports mail could not mend it."""
    wire = b"Subject: \xfcber\r\n\r\nx\r\n"
    (answer,) = dialogue.lines(b"a APPEND saved-messages {%d+}\r\n%s" % (len(wire), wire))
    assert answer.startswith(b"a OK ")
    assert texts(dialogue) == [wire.replace(b"\r\n", b"\n")]


def test_one_file_is_open_at_a_time(
    dialogue: Dialogue, written: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "LARGE", 4000)
    small, large = (b" {%d+}\r\n%s" % (size, b"x" * size) for size in (3000, 9000))
    dialogue.ask(b"a APPEND saved-messages" + large * 2 + small * 2 + large)
    assert [one.finished for one in written] == [1, 1, 0, 0, 0]
    assert dialogue.ask(b"\r\n").startswith(b"a OK ")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (b"APPEND nothing {32768}", b"NO [TRYCREATE] "),
        (b"APPEND saved-messages {50000001}", b"NO [TOOBIG] "),
        (b"APPEND a//b/ {40000}", b"NO [TRYCREATE] "),
        (b'APPEND "" {100}', b"NO [CANNOT] "),
        (b"APPEND saved-messages {50600}", b"NO [OVERQUOTA] "),
        (b"APPEND saved-messages {0}", b"NO "),
        (b"APPEND nothing CATENATE (TEXT {90000}", b"NO [TRYCREATE] "),
    ],
)
def test_refused_before_it_is_sent(written: list[Any], command: bytes, code: bytes) -> None:
    dialogue = Dialogue(max_message_bytes=50_000_000)
    dialogue.account.make("saved-messages")
    dialogue.account.storage_limit = 50_599
    dialogue.login()
    said = dialogue.ask(b"a %s\r\n" % command)
    assert said.startswith(b"a " + code), said
    assert all(one.discarded for one in written)
    assert dialogue.lines(b"b NOOP") == [b"b OK NOOP completed"]


def test_refused_when_it_was_sent_without_asking(dialogue: Dialogue) -> None:
    dialogue.account.message_limit = 0
    for name, code in ((b"nothing", b"TRYCREATE"), (b"saved-messages", b"OVERQUOTA")):
        (answer,) = dialogue.lines(b"a APPEND %s {%d+}\r\n%s" % (name, len(WIRE), WIRE))
        assert answer.startswith(b"a NO [%s] " % code)


def test_a_message_of_any_size_goes_through_in_blocks(
    dialogue: Dialogue, written: list[Any]
) -> None:
    size = 50_000_000
    line = b"0123456789" * 7 + b"\r\n"
    dialogue.ask(b"a APPEND saved-messages {%d+}\r\n" % (size // 72 * 72))
    chunk = line * 7000
    left = size // 72 * 72
    while left:
        piece = chunk[:left]
        left -= len(piece)
        dialogue.client.send(piece)
        dialogue.world.reactor.settle()
    said = dialogue.ask(b"\r\n")
    assert b"a OK [APPENDUID " in said
    (one,) = written
    assert one.longest <= 65_536
    assert one.size == size // 72 * 71


@pytest.mark.parametrize(
    ("sent", "kept"),
    [(b"a\r\nb", b"a\nb\n"), (b"a\nb\r\n", b"a\nb\n"), (b"a\rb\r\n", b"a b\n"), (b"a\0b\r\n", b"a\x80b\n"),
     (b"\r\n", b"\n"), (b"\xff\xfe", b"\xff\xfe\n")],
)  # fmt: skip
def test_line_ends(dialogue: Dialogue, sent: bytes, kept: bytes) -> None:
    (answer,) = dialogue.lines(b"a APPEND saved-messages {%d+}\r\n%s" % (len(sent), sent))
    assert answer.startswith(b"a OK ")
    assert texts(dialogue) == [kept]


@pytest.mark.parametrize("sent", [b"a\0b\r\n", b"a\nb\r\n", b"a\rb\r\n", b"a\r"])
def test_rfc_3516_binary_that_cannot_be_kept(dialogue: Dialogue, sent: bytes) -> None:
    (answer,) = dialogue.lines(b"a APPEND saved-messages ~{%d+}\r\n%s" % (len(sent), sent))
    assert answer.startswith(b"a NO [UNKNOWN-CTE] ")
    assert texts(dialogue) == []


def test_rfc_3516_a_literal8_that_is_text(dialogue: Dialogue) -> None:
    (answer,) = dialogue.lines(b"a APPEND saved-messages ~{%d+}\r\n%s" % (len(WIRE), WIRE))
    assert answer.startswith(b"a OK ") and texts(dialogue) == [FOOBAR]


def test_rfc_6855_a_message_with_utf8(dialogue: Dialogue) -> None:
    message = "Subject: Grüße\n\nHallo\n".encode()
    wire = message.replace(b"\n", b"\r\n")
    dialogue.lines(b"e ENABLE UTF8=ACCEPT")
    for text in (wire, message):  # it is text: line ends may be what they like
        answer = dialogue.lines(b"a APPEND saved-messages UTF8 (~{%d+}\r\n%s)" % (len(text), text))
        assert answer[-1].startswith(b"a OK ")
    assert texts(dialogue) == [message, message]


def test_what_is_cut_off_is_discarded(dialogue: Dialogue, written: list[Any]) -> None:
    dialogue.ask(b"a APPEND saved-messages {%d+}\r\n%s" % (len(WIRE), WIRE[:50]))
    assert len(written) == 1 and not written[0].discarded
    dialogue.client.abort()
    dialogue.world.reactor.settle()
    assert written[0].discarded and texts(dialogue) == []


# -- CATENATE

MULTIPART = b"""Subject: two parts
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="------------030308070208000400050907"

preamble
--------------030308070208000400050907
Content-Type: text/plain; charset=us-ascii

Our travel agent has sent the updated schedule.
--------------030308070208000400050907
Content-Type: application/x-zip-compressed
Content-Transfer-Encoding: base64

UEsDBBQ=
--------------030308070208000400050907--
"""
BOUNDARY = b"\r\n--------------030308070208000400050907"


@pytest.fixture(params=[1 << 20, 1], ids=["in memory", "large"])
def drafts(
    dialogue: Dialogue, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Dialogue]:
    """UID 1 of Drafts is MULTIPART."""
    made: list[MemoryLarge] = []

    class Large(MemoryLarge):
        def __init__(self, text: bytes) -> None:
            super().__init__(text)
            made.append(self)

    monkeypatch.setattr(mailboxes, "MemoryLarge", Large)
    dialogue.account.deliver(MULTIPART, "Drafts")
    dialogue.account.large = request.param
    yield dialogue
    assert all(one.closed for one in made)


def catenated(dialogue: Dialogue, *parts: bytes | str) -> bytes:
    """What APPEND … CATENATE says; str are URLs."""
    words = [
        b'URL "%s"' % part.encode() if isinstance(part, str) else b"TEXT {%d+}\r\n%s" % (len(part), part)
        for part in parts
    ]  # fmt: skip
    return dialogue.ask(b"A003 APPEND saved-messages CATENATE (%s)\r\n" % b" ".join(words))


def test_rfc_4469_example_1(drafts: Dialogue) -> None:
    """A part is put in place of another."""
    validity = drafts.account.box("Drafts").snapshot.validity
    drafts.account.deliver(b"Content-Type: text/x-new\n\nNew.\n", "Drafts")
    url = f"/Drafts;UIDVALIDITY={validity}/;UID=1"
    said = catenated(
        drafts, f"{url}/;section=HEADER", b"\r\n--------------030308070208000400050907\r\n",
        f"{url}/;section=1.MIME", f"{url}/;section=1", BOUNDARY + b"\r\n",
        f"/Drafts;UIDVALIDITY={validity}/;UID=2", BOUNDARY + b"--\r\n",
    )  # fmt: skip
    assert b"A003 OK [APPENDUID " in said, said
    assert texts(drafts) == [
        MULTIPART[: MULTIPART.index(b"preamble")]
        + b"\n--------------030308070208000400050907\n"
        + b"Content-Type: text/plain; charset=us-ascii\n\n"
        + b"Our travel agent has sent the updated schedule."
        + b"\n--------------030308070208000400050907\n"
        + b"Content-Type: text/x-new\n\nNew.\n"
        + b"\n--------------030308070208000400050907--\n"
    ]
    snapshot = drafts.account.box("Drafts").snapshot
    assert list(snapshot.flags) == [0, 0]  # \Seen is not set
    assert drafts.account.opened == 0


def test_rfc_4469_with_continuation_requests(drafts: Dialogue) -> None:
    drafts.run("""
        C: A003 APPEND saved-messages (\\Seen) CATENATE (URL "/Drafts/;UID=1/;section=HEADER" TEXT {5}
        S: + Ready for the text
        C+: Hello
        C:  URL "/Drafts/;UID=1/;section=2")
        S: A003 OK [APPENDUID 3857529046 1] APPEND completed
    """)
    assert texts(drafts)[0].endswith(b"\n\nHelloUEsDBBQ=\n")


@pytest.mark.parametrize(
    "url",
    [
        "/Drafts/;UID=99", "/nothing/;UID=1", "/Drafts;UIDVALIDITY=1/;UID=1", "/Drafts/;UID=1/;section=3",
        "/Drafts/;UID=1/;section=1.HEADER", "imap://mail.example.org/Drafts/;UID=1", "/Drafts", ";UID=1",
    ],
)  # fmt: skip
def test_rfc_4469_a_bad_url(drafts: Dialogue, written: list[Any], url: str) -> None:
    said = catenated(drafts, b"Subject: x\r\n\r\n", url, "/worse")
    assert said == b"A003 NO [BADURL %s] There is no such message or section\r\n" % url.encode()
    assert texts(drafts) == [] and all(one.discarded for one in written)
    assert drafts.account.opened == 0
    assert drafts.lines(b"b NOOP") == [b"b OK NOOP completed"]


@pytest.mark.parametrize(
    ("section", "kept"),
    [
        ("", MULTIPART), ("/;SECTION=TEXT", MULTIPART[MULTIPART.index(b"preamble") :]),
        ("/;SECTION=HEADER.FIELDS%20(subject)", b"Subject: two parts\n\n"),
        ("/;SECTION=1/;PARTIAL=1000.4", b""), ("/;SECTION=2/;PARTIAL=2.4", b"sDBB"), ("/;PARTIAL=0.7", b"Subject"),
    ],
)  # fmt: skip
def test_sections(drafts: Dialogue, section: str, kept: bytes) -> None:
    said = catenated(drafts, b"> ", f"/Drafts/;UID=1{section}", b"<\r\n")
    assert b"A003 OK " in said
    assert texts(drafts) == [b"> " + kept + b"<\n"]


def test_a_section_that_is_there_and_empty(drafts: Dialogue) -> None:
    drafts.account.deliver(b"no header\n", "Drafts")
    assert b"A003 OK " in catenated(drafts, b"x\r\n", "/Drafts/;UID=2/;SECTION=TEXT")
    assert texts(drafts) == [b"x\n"]


def test_of_the_selected_mailbox(drafts: Dialogue) -> None:
    drafts.lines(b"s SELECT Drafts")
    assert b"A003 OK " in catenated(drafts, ";UID=1/;SECTION=1", "Drafts/;UID=1/;SECTION=2")
    assert texts(drafts) == [b"Our travel agent has sent the updated schedule.UEsDBBQ=\n"]
    assert drafts.account.opened == 1


def test_rfc_4469_too_big_by_urls(written: list[Any]) -> None:
    dialogue = Dialogue(max_message_bytes=1000)
    dialogue.account.make("saved-messages")
    dialogue.account.deliver(b"x" * 600)
    dialogue.login()
    said = catenated(dialogue, "/INBOX/;UID=1", "/INBOX/;UID=1")
    assert said.startswith(b"A003 NO [TOOBIG] ")
    said = catenated(dialogue, "/INBOX/;UID=1", b"x" * 500)
    assert said.startswith(b"A003 NO [TOOBIG] ")
    assert texts(dialogue) == [] and all(one.discarded for one in written)


# -- REPLACE


@pytest.fixture
def four(dialogue: Dialogue) -> Dialogue:
    for n in range(4):
        dialogue.account.deliver(b"Subject: %d\n\n" % n, "Drafts")
    dialogue.lines(b"s SELECT Drafts")
    return dialogue


def test_rfc_8508_replace(four: Dialogue) -> None:
    assert four.lines(
        b"A003 REPLACE 4 Drafts (\\Seen \\Draft) {%d+}\r\n%s" % (len(WIRE), WIRE)
    ) == [
        b"* OK [APPENDUID 3857529047 5] Replacement message ready",
        b"* 4 EXPUNGE",
        b"* 4 EXISTS",
        b"A003 OK REPLACE completed",
    ]
    assert texts(four, "Drafts")[-1] == FOOBAR


def test_rfc_8508_uid_replace(four: Dialogue) -> None:
    said = four.lines(b"A003 UID REPLACE 2 Drafts {%d+}\r\n%s" % (len(WIRE), WIRE))
    assert said[0] == b"* OK [APPENDUID 3857529047 5] Replacement message ready"
    assert b"* 2 EXPUNGE" in said and said[-1] == b"A003 OK REPLACE completed"


def test_rfc_8508_with_catenate_into_another_mailbox(four: Dialogue) -> None:
    text = b"To: mitzy\r\n"
    said = four.lines(
        b'A011 UID REPLACE 3 saved-messages CATENATE (TEXT {%d+}\r\n%s URL "/Drafts/;UID=3")' % (len(text), text)
    )  # fmt: skip
    assert said == [
        b"* OK [APPENDUID 3857529046 1] Replacement message ready",
        b"* 3 EXPUNGE",
        b"A011 OK REPLACE completed",
    ]
    assert texts(four) == [b"To: mitzy\nSubject: 2\n\n"]


def test_the_last_one(four: Dialogue) -> None:
    said = four.lines(b"a REPLACE * Drafts {%d+}\r\n%s" % (len(WIRE), WIRE))
    assert b"* 4 EXPUNGE" in said


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (b"REPLACE 5 Drafts {3+}\r\nabc", b"a BAD "),
        (b"UID REPLACE 5 Drafts {3+}\r\nabc", b"a NO "),
        (b"REPLACE 1 nothing {50000}", b"a NO [TRYCREATE] "),
        (b"REPLACE 1 nothing {3+}\r\nabc", b"a NO [TRYCREATE] "),
        (b"REPLACE 1 Drafts {3+}\r\nabc {3+}\r\nabc", b"a BAD "),
    ],
)
def test_what_cannot_be_replaced(four: Dialogue, command: bytes, answer: bytes) -> None:
    said = four.ask(b"a %s\r\n" % command)
    assert said.startswith(answer), said
    assert len(texts(four, "Drafts")) == 4
    assert four.lines(b"b NOOP") == [b"b OK NOOP completed"]


def test_read_only_and_unselected(four: Dialogue) -> None:
    four.lines(b"s EXAMINE Drafts")
    said = four.ask(b"a REPLACE 1 Drafts {3}\r\n")
    assert said.startswith(b"a NO ")
    four.lines(b"u UNSELECT")
    said = four.ask(b"a REPLACE 1 Drafts {3}\r\n")
    assert said.startswith(b"a BAD ")


def test_rfc_8508_what_is_replaced_makes_room(four: Dialogue) -> None:
    octets, messages = four.account.usage()
    four.account.storage_limit, four.account.message_limit = octets + 40_000, messages
    said = four.ask(b"a APPEND Drafts {40000}\r\n")
    assert said.startswith(b"a NO [OVERQUOTA] ")  # one message too many
    said = four.ask(b"a REPLACE 1 Drafts {40100}\r\n")
    assert said.startswith(b"a NO [OVERQUOTA] ")
    said = four.ask(b"a REPLACE 1 Drafts {40010}\r\n")
    assert said.startswith(b"+ ")
