"""CATENATE (RFC 4469): examples 2 to 4 of its section 5; the first is with APPEND. And RFC 8508 section 4.2."""

from __future__ import annotations

import pytest
from imap_dialogue import Dialogue

BOUNDARY = b"------------030308070208000400050907"
SCHEDULE = (
    b"Subject: About our holiday trip\nMIME-Version: 1.0\n"
    b'Content-Type: multipart/mixed; boundary="' + BOUNDARY + b'"\n\n'
    b"--" + BOUNDARY + b"\nContent-Type: text/plain\n\nOld text.\n"
    b"--" + BOUNDARY + b"\nContent-Type: application/x-talk\nContent-Transfer-Encoding: base64\n\n"
    b"UEsDBBQ=\n--" + BOUNDARY + b"--\n"
)
HEAD = SCHEDULE[: SCHEDULE.index(b"--" + BOUNDARY)]
SECOND = b"Content-Type: application/x-talk\nContent-Transfer-Encoding: base64\n\nUEsDBBQ="


@pytest.fixture
def dialogue() -> Dialogue:
    made = Dialogue()
    made.account.make("Drafts")
    made.account.make("Sent")
    made.account.deliver(SCHEDULE, "Drafts")
    made.login()
    return made


def said(dialogue: Dialogue, command: bytes, *parts: bytes | str) -> bytes:
    """Parts: text, or the URL of what is copied."""
    line = command + b" CATENATE ("
    for at, part in enumerate(parts):
        if isinstance(part, str):
            line += b' URL "%s"' % part.encode() if at else b'URL "%s"' % part.encode()
        else:
            text = part.replace(b"\n", b"\r\n")
            line += b"%sTEXT {%d+}\r\n%s" % (b" " if at else b"", len(text), text)
    return dialogue.ask(line + b")\r\n")


def test_example_2_the_text_is_edited(dialogue: Dialogue) -> None:
    validity = dialogue.account.box("Drafts").snapshot.validity
    url = f"/Drafts;UIDVALIDITY={validity}/;UID=1/;Section=2"
    text = (
        b"--"
        + BOUNDARY
        + b"\nContent-Type: text/plain\n\nOur travel agent has sent it.\n--"
        + BOUNDARY
    )
    answer = said(
        dialogue,
        b"A003 APPEND Drafts (\\Seen \\Draft $MDNSent)",
        HEAD + text + b"\n",
        f"{url}.MIME",
        url,
        b"\n--" + BOUNDARY + b"--\n",
    )
    assert answer == b"A003 OK [APPENDUID %d 2] APPEND completed\r\n" % validity
    box = dialogue.account.box("Drafts")
    assert box.texts[2] == HEAD + text + b"\n" + SECOND + b"\n--" + BOUNDARY + b"--\n"
    assert box.snapshot.names(box.snapshot.flags[1]) == ("\\Seen", "\\Draft", "$MDNSent")
    dialogue.run(r"""
        C: s SELECT Drafts
        S: ...
        S: s OK ...
        C: A004 UID STORE 1 +FLAGS.SILENT (\Deleted)
        S: A004 OK ...
    """)


def test_example_3_a_part_is_replaced_by_words(dialogue: Dialogue) -> None:
    url = "/Drafts/;UID=1/;section="
    words = (
        b"--"
        + BOUNDARY
        + b"\nContent-type: text/plain\n\nThis part was deleted upon your request.\n"
    )
    answer = said(
        dialogue,
        b"A003 APPEND Drafts (\\Seen \\Draft $MDNSent)",
        f"{url}HEADER",
        b"--" + BOUNDARY + b"\n",
        f"{url}1.MIME",
        f"{url}1",
        b"\n" + words + b"--" + BOUNDARY + b"--\n",
    )
    assert answer.startswith(b"A003 OK ")
    assert dialogue.account.box("Drafts").texts[2] == (
        SCHEDULE[: SCHEDULE.index(b"\n--" + BOUNDARY + b"\nContent-Type: app") + 1]
        + words
        + b"--"
        + BOUNDARY
        + b"--\n"
    )


def test_example_4_one_of_the_messages_has_no_such_part(dialogue: Dialogue) -> None:
    dialogue.account.deliver(b"Subject: 1\n\n1\n")
    dialogue.account.deliver(b"Subject: 2\n\n2\n")
    validity = dialogue.account.box("INBOX").snapshot.validity
    url = f"/INBOX;UIDVALIDITY={validity}/;UID="
    bad = f"{url}2/;section=1.5.9"
    answer = said(
        dialogue,
        b"A003 APPEND Sent (\\Seen $MDNSent)",
        b"Subject: Digest\nContent-Type: multipart/digest; boundary=b\n\n--b\n",
        f"{url}1",
        b"\n--b\n",
        bad,
        b"\n--b--\n",
    )
    assert answer.startswith(b"A003 NO [BADURL %s] " % bad.encode())
    assert not dialogue.account.box("Sent").texts


def test_rfc_8508_section_4_2(dialogue: Dialogue) -> None:
    dialogue.ask(b"s SELECT Drafts\r\n")
    answer = said(
        dialogue,
        b"A011 UID REPLACE 1 Drafts",
        b"To: Mitzy <miss.mitzy@example.org>\n",
        "/Drafts/;UID=1",
    ).splitlines()
    assert answer[0].startswith(b"* OK [APPENDUID ")
    assert answer[1:3] == [b"* 1 EXPUNGE", b"* 1 EXISTS"]
    assert answer[3].startswith(b"A011 OK ")
    texts = dialogue.account.box("Drafts").texts
    assert texts == {2: b"To: Mitzy <miss.mitzy@example.org>\n" + SCHEDULE}
