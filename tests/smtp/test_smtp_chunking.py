"""BDAT in SMTP sessions: chunks, and that what is refused is dropped to the octet."""

from __future__ import annotations

import pytest
from smtp_conversation import Conversation, begun

from twisted_mail.status import MailError


def test_chunks() -> None:
    conversation = begun()
    assert conversation.send(b"BDAT 8\r\n.\r\none\r\n") == b"250 2.0.0 8 octets received\r\n"
    assert conversation.send(b"BDAT 0\r\n") == b"250 2.0.0 0 octets received\r\n"
    assert conversation.send(b"bdat  6  last\r\nQU") == b""
    assert conversation.send(b"IT\r\nMAIL FROM:<>\r\n") == (
        b"250 2.0.0 Ok: queued as M1\r\n250 2.1.0 Ok\r\n"
    )
    assert conversation.intake.messages[0].content == b".\r\none\r\nQUIT\r\n"


def test_a_message_in_chunks_is_one_message_for_the_driver() -> None:
    conversation = begun()
    assert not conversation.engine.midway
    for command in (b"BDAT 1\r\nx", b"NOOP\r\n", b"MAIL FROM:<>\r\n", b"BDAT 0\r\n"):
        conversation.send(command)
        assert conversation.engine.midway
    conversation.send(b"BDAT 0 LAST\r\n")
    assert not conversation.engine.midway
    conversation.send(b"MAIL FROM:<>\r\nRCPT TO:<bob@hamburger.edu>\r\nBDAT 1\r\nx")
    assert conversation.engine.midway
    conversation.send(b"RSET\r\n")
    assert not conversation.engine.midway


def test_pipelined_chunks_of_one_octet() -> None:
    conversation = begun()
    stream = (
        b"".join(b"BDAT 1\r\n%c" % octet for octet in b"a\r\n.\r\n") + b"BDAT 0 LAST\r\nNOOP\r\n"
    )
    assert conversation.send(stream) == (
        b"250 2.0.0 1 octets received\r\n" * 6 + b"250 2.0.0 Ok: queued as M1\r\n250 2.0.0 Ok\r\n"
    )
    assert conversation.intake.messages[0].content == b"a\r\n.\r\n"


@pytest.mark.parametrize("last", [b"", b" LAST"])
@pytest.mark.parametrize(
    ("before", "reply"),
    [
        (b"RSET\r\n", b"503 5.5.1 Send MAIL first"),
        (b"RSET\r\nMAIL FROM:<>\r\n", b"503 5.5.1 Send RCPT first"),
        (
            b"RSET\r\nMAIL FROM:<>\r\nRCPT TO:<x@hamburger.edu>\r\n",
            b"554 5.5.1 No valid recipients",
        ),
    ],
)
def test_a_refused_chunk_is_dropped_to_the_octet(before: bytes, reply: bytes, last: bytes) -> None:
    conversation = begun()
    said = conversation.send(before + b"BDAT 6" + last + b"\r\nQUIT\r\nNOOP\r\nMAIL FROM:<>\r\n")
    assert said.endswith(b"\r\n" + reply + b"\r\n250 2.0.0 Ok\r\n250 2.1.0 Ok\r\n")
    assert conversation.intake.begun == []


@pytest.mark.parametrize("argument", [b"6 FIRST", b"6 LAST LAST"])
def test_a_malformed_chunk_of_known_size_is_dropped(argument: bytes) -> None:
    said = begun().send(b"BDAT " + argument + b"\r\nQUIT\r\nNOOP\r\n")
    assert said == b"501 5.5.4 Syntax: BDAT size [LAST]\r\n250 2.0.0 Ok\r\n"


@pytest.mark.parametrize("size", [b"x", b"-1", b"1e3", b"2147483648", b"9" * 30, b"LAST"])
def test_an_impossible_chunk_is_the_end(size: bytes) -> None:
    conversation = begun()
    assert (
        conversation.send(b"BDAT " + size + b"\r\nNOOP\r\n") == b"421 4.5.4 No such chunk size\r\n"
    )
    assert conversation.closed


@pytest.mark.parametrize("last", [b"", b" LAST"])
def test_chunks_over_the_limit(last: bytes) -> None:
    conversation = begun(Conversation(max_message_bytes=10))
    said = conversation.send(b"BDAT 8\r\n12345678" + b"BDAT 6" + last + b"\r\nQUIT\r\n")
    assert said == b"250 2.0.0 8 octets received\r\n552 5.3.4 Message too big\r\n"
    # RFC 3030 section 2: what was pipelined behind the failure is dropped too
    assert conversation.send(b"BDAT 6 LAST\r\nQUIT\r\n") == b"503 5.5.1 Send MAIL first\r\n"
    assert conversation.say("MAIL FROM:<>") == "250 2.1.0 Ok"
    assert conversation.intake.begun[0].aborted == 1


def test_data_and_rcpt_are_out_of_order_after_bdat() -> None:
    conversation = begun()
    assert conversation.send(b"BDAT 1\r\nxDATA\r\nRCPT TO:<bob@hamburger.edu>\r\n") == (
        b"250 2.0.0 1 octets received\r\n"
        b"503 5.5.1 Only BDAT and RSET are possible after BDAT\r\n"
        b"503 5.5.1 Only BDAT and RSET are possible after BDAT\r\n"
    )
    assert conversation.say("BDAT 0 LAST") == "250 2.0.0 Ok: queued as M1"


@pytest.mark.parametrize("last", [b"", b" LAST"])
def test_an_intake_that_refuses_chunks(last: bytes) -> None:
    conversation = begun()
    conversation.intake.begin_error = MailError(452, "4.3.1", "Disk full")
    said = conversation.send(b"BDAT 6" + last + b"\r\nQUIT\r\nMAIL FROM:<>\r\n")
    assert said == b"452 4.3.1 Disk full\r\n250 2.1.0 Ok\r\n"
