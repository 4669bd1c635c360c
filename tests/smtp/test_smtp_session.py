"""SMTP sessions as transcripts: order, extensions, limits, refusals; what reaches the intake."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smtp_conversation import Conversation, begun
from twisted.logger import capturedLogs

from twisted_mail.smtp.session import Profile
from twisted_mail.status import MailError

DIALOGUES = {
    "textbook-helo": """
        S 220
        C HELO crepes.fr
        S 250
        C MAIL FROM: <alice@crepes.fr>
        S 250
        C RCPT TO: <bob@hamburger.edu>
        S 250
        C DATA
        S 354
        C Do you like ketchup?
        C How about pickles?
        C .
        S 250
        C QUIT
        S 221
        X""",
    "bare-addresses": """
        S 220
        C HELO
        S 250
        C MAIL FROM: sender@example.com
        S 250
        C RCPT TO: bob@hamburger.edu
        S 250
        C DATA
        S 354
        C Subject: Test email
        C
        C This is the body of the email message.
        C
        C .
        S 250
        C QUIT
        S 221
        X""",
    "no-relay": """
        S 220
        C EHLO client.example.net
        S 250
        C MAIL FROM:<alice@crepes.fr>
        S 250
        C RCPT TO:<someone@elsewhere.example>
        S 550
        C QUIT
        S 221
        X""",
    "unknown-recipient-then-another-mail": """
        S 220
        C EHLO client.example.net
        S 250
        C MAIL FROM:<alice@crepes.fr>
        S 250
        C RCPT TO:<nobody@hamburger.edu>
        S 550
        C RCPT TO:<bob@hamburger.edu>
        S 250
        C RCPT TO:<carol@hamburger.edu>
        S 250
        C DATA
        S 354
        C Subject: one
        C
        C ..a line that begins with a dot
        C .
        S 250
        C MAIL FROM:<>
        S 250
        C RCPT TO:<bob@hamburger.edu>
        S 250
        C DATA
        S 354
        C Subject: two
        C
        C second mail, same connection
        C .
        S 250
        C DATA
        S 503
        C QUIT
        S 221
        X""",
}

SHARED_DIALOGUES = {
    path.stem: path.read_text("utf-8")
    for path in Path(__file__).parents[3].glob("shared/dialogues/*.txt")
    if path.read_text("utf-8").startswith("# port smtp\n")
}


@pytest.mark.parametrize("name", sorted({**DIALOGUES, **SHARED_DIALOGUES}))
def test_dialogues(name: str) -> None:
    for text in (DIALOGUES.get(name), SHARED_DIALOGUES.get(name)):
        if text is None:
            continue
        conversation = Conversation()
        heard = [conversation.session.greeting().decode()]
        for line in (line.lstrip() for line in text.strip().split("\n")):
            if line[:1] == "C":
                heard += re.split(
                    r"(?<=\r\n)(?!$)", conversation.send(f"{line[2:]}\r\n".encode()).decode()
                )
            elif line[:1] == "S":
                while heard[0] == "" or heard[0][3] == "-":
                    del heard[0]
                assert heard.pop(0).startswith(f"{line[2:]} ")
            elif line[:1] == "X":
                assert conversation.closed
        assert not any(heard)


# The envelope and the message


def test_a_message_reaches_the_intake() -> None:
    conversation = Conversation().play(
        """
        C EHLO client.example
        S 250-mail.hamburger.edu
        S 250-PIPELINING
        S 250-SIZE 52428800
        S 250-8BITMIME
        S 250-SMTPUTF8
        S 250-ENHANCEDSTATUSCODES
        S 250-CHUNKING
        S 250-DSN
        S 250-HELP
        S 250 STARTTLS
        C MAIL FROM:<a@b.example> SIZE=30 BODY=8BITMIME
        S 250 2.1.0 Ok
        C RCPT TO:<bob@hamburger.edu>
        S 250 2.1.5 Ok
        C RCPT TO:<Postmaster>
        S 250 2.1.5 Ok
        C DATA
        S 354 End data with <CR><LF>.<CR><LF>
        C Subject: x
        C
        C ..
        C .
        S 250 2.0.0 Ok: queued as M1
        """
    )
    (message,) = conversation.intake.messages
    assert message.content == b"Subject: x\r\n\r\n.\r\n"
    envelope, client = message.envelope, message.client
    assert str(envelope.reverse_path) == "a@b.example"
    assert (envelope.size, envelope.body, envelope.smtputf8) == (30, "8BITMIME", False)
    assert [str(r.address) for r in envelope.recipients] == ["bob@hamburger.edu", "Postmaster"]
    assert (client.ip, client.helo, client.connection) == ("192.0.2.7", "client.example", "C1")
    assert (client.protocol, client.tls, client.account) == ("ESMTP", None, None)


def test_pipelined_replies_keep_their_order() -> None:
    begun().play(
        """
        C RSET
        C MAIL FROM:<>
        C RCPT TO:<nobody@hamburger.edu>
        C RCPT TO:<bob@hamburger.edu>
        C DATA
        C one
        C .
        C MAIL FROM:<>
        C DATA
        C QUIT
        S 250 2.0.0 Ok
        S 250 2.1.0 Ok
        S 550 5.1.1 No mailbox nobody
        S 250 2.1.5 Ok
        S 354 End data with <CR><LF>.<CR><LF>
        S 250 2.0.0 Ok: queued as M1
        S 250 2.1.0 Ok
        S 503 5.5.1 Send RCPT first
        S 221 2.0.0 Bye
        """
    )


def test_an_empty_message() -> None:
    conversation = begun()
    conversation.play(
        """
        C DATA
        C .
        S 354 End data with <CR><LF>.<CR><LF>
        S 250 2.0.0 Ok: queued as M1
        """
    )
    assert conversation.intake.messages[0].content == b""


@pytest.mark.parametrize(
    ("profile", "hello", "parameters", "expected"),
    [
        (Profile.SMTP, "HELO", "", "SMTP"),
        (Profile.SMTP, "EHLO", "", "ESMTP"),
        (Profile.SMTP, "EHLO", " SMTPUTF8", "UTF8SMTP"),
        (Profile.SUBMISSIONS, "EHLO", "", "ESMTPSA"),
        (Profile.SUBMISSIONS, "EHLO", " SMTPUTF8", "UTF8SMTPSA"),
    ],
)
def test_the_protocol_of_received(
    profile: Profile, hello: str, parameters: str, expected: str
) -> None:
    conversation = Conversation(profile)
    conversation.say(f"{hello} a.example", "AUTH PLAIN AGEAc2VjcmV0", f"MAIL FROM:<>{parameters}")
    conversation.say("RCPT TO:<bob@hamburger.edu>", "DATA", ".")
    (message,) = conversation.intake.messages
    assert message.client.protocol == expected


@pytest.mark.parametrize(
    ("written", "helo"),
    [
        (b"EHLO [192.0.2.1]", "[192.0.2.1]"),
        (b"HELO", ""),
        (b"HELO a(b)\x00\xff\r\x1b c", "a?b?????"),
        (b"EHLO " + b"x" * 300, "x" * 255),
    ],
)
def test_what_the_client_calls_itself_is_made_harmless(written: bytes, helo: str) -> None:
    conversation = Conversation()
    assert b"250" in conversation.send(written + b"\r\n")
    conversation.say("MAIL FROM:<>", "RCPT TO:<bob@hamburger.edu>", "DATA", ".")
    assert conversation.intake.messages[0].client.helo == helo


# Order


@pytest.mark.parametrize(
    ("script"),
    [
        "C MAIL FROM:<>\nS 503 5.5.1 Send HELO or EHLO first",
        "C RCPT TO:<bob@hamburger.edu>\nS 503 5.5.1 Send MAIL first",
        "C DATA\nS 503 5.5.1 Send MAIL first",
        "C BDAT 2\nC\nS 503 5.5.1 Send MAIL first",
        "C HELO a\nC MAIL FROM:<>\nC MAIL FROM:<>\nS 250…\nS 250…\nS 503 5.5.1 Nested MAIL command",
        "C HELO a\nC MAIL FROM:<>\nC DATA\nS 250…\nS 250…\nS 503 5.5.1 Send RCPT first",
        "C HELO a\nC MAIL FROM:<>\nC BDAT 0 LAST\nS 250…\nS 250…\nS 503 5.5.1 Send RCPT first",
    ],
)
def test_wrong_order(script: str) -> None:
    Conversation().play(script)


@pytest.mark.parametrize("command", ["RSET", "EHLO again.example", "HELO"])
@pytest.mark.parametrize("before", ["RSET", "BDAT 3\r\nx"])
def test_the_transaction_is_reset(command: str, before: str) -> None:
    conversation = begun()
    conversation.say("RSET", "MAIL FROM:<>", "RCPT TO:<bob@hamburger.edu>", before)
    conversation.say(command)
    conversation.play("C RCPT TO:<bob@hamburger.edu>\nS 503 5.5.1 Send MAIL first")
    assert [incoming.aborted for incoming in conversation.intake.begun] == [1] * ("BDAT" in before)
    conversation.play("C MAIL FROM:<>\nS 250 2.1.0 Ok")


def test_data_without_recipients_may_be_mended() -> None:
    Conversation().play(
        """
        C HELO a
        C MAIL FROM:<>
        C DATA
        C RCPT TO:<bob@hamburger.edu>
        C DATA
        C .
        S 250 mail.hamburger.edu
        S 250 2.1.0 Ok
        S 503 5.5.1 Send RCPT first
        S 250 2.1.5 Ok
        S 354 End data with <CR><LF>.<CR><LF>
        S 250 2.0.0 Ok: queued as M1
        """
    )


# SMTPUTF8


def test_smtputf8_end_to_end() -> None:
    conversation = Conversation()
    conversation.say("EHLO client.example")
    conversation.play(
        """
        C MAIL FROM:<jürgen@bücher.example> SMTPUTF8
        S 250 2.1.0 Ok
        C RCPT TO:<jürgen@hamburger.edu>
        S 250 2.1.5 Ok
        C RCPT TO:<ютф@hamburger.edu>
        S 550 5.1.1 No mailbox ютф
        """
    )


def test_replies_are_ascii_without_smtputf8() -> None:
    conversation = begun()
    conversation.intake.route_error = MailError(550, "5.1.1", "Kein Briefkasten für\r\n250 Ök")
    reply = conversation.send(b"RCPT TO:<bob@hamburger.edu>\r\n")
    assert reply == b"550 5.1.1 Kein Briefkasten f?r??250 ?k\r\n"


def test_replies_have_one_line_with_smtputf8_too() -> None:
    conversation = begun(sender="MAIL FROM:<a@b.example> SMTPUTF8")
    conversation.intake.route_error = MailError(550, "5.1.1", "für\r\n250" + "ü" * 1000)
    reply = conversation.send(b"RCPT TO:<bob@hamburger.edu>\r\n")
    assert reply.startswith("550 5.1.1 für??250üü".encode())
    assert reply.count(b"\n") == 1


# Limits


def test_recipients_over_the_limit() -> None:
    begun(Conversation(max_recipients=2)).play(
        """
        C RCPT TO:<carol@hamburger.edu>
        C RCPT TO:<postmaster>
        C DATA
        C .
        S 250 2.1.5 Ok
        S 452 4.5.3 Too many recipients, send the rest later
        S 354 End data with <CR><LF>.<CR><LF>
        S 250 2.0.0 Ok: queued as M1
        """
    )


def test_a_message_over_the_limit_is_read_to_its_end() -> None:
    conversation = begun(Conversation(max_message_bytes=20))
    assert conversation.say("DATA", "123456789") == "354 End data with <CR><LF>.<CR><LF>"
    assert conversation.say("1234567890") == ""
    assert conversation.intake.begun[0].aborted == 1
    conversation.play(
        """
        C QUIT
        C .
        C MAIL FROM:<>
        S 552 5.3.4 Message too big
        S 250 2.1.0 Ok
        """
    )
    assert conversation.intake.messages == []


def test_a_message_at_the_limit() -> None:
    conversation = begun(Conversation(max_message_bytes=20))
    conversation.say("DATA")
    assert conversation.say(*["..1234567", "12345678", "."]).startswith("250 2.0.0 Ok: queued")
    assert len(conversation.intake.messages[0].content) == 20


def test_too_many_errors_end_the_session() -> None:
    conversation = Conversation(max_errors=3)
    said = conversation.say("X", "NOOP", "MAIL", "RCPT", "NOOP").split("\n")
    assert [line[:9] for line in said] == [
        "500 5.5.2",
        "250 2.0.0",
        "503 5.5.1",
        "503 5.5.1",
        "421 4.7.0",
    ]
    assert said[-1] == "421 4.7.0 mail.hamburger.edu Too many errors"


@pytest.mark.parametrize("content", [("DATA", "hello", "."), ("BDAT 0 LAST",)])
def test_mail_that_is_taken_makes_up_for_errors(content: tuple[str, ...]) -> None:
    """A server with mailing lists keeps its connection, and has old addresses in every message."""
    conversation = begun(Conversation(max_errors=3))
    for _ in range(4):
        assert conversation.say("X", "X").count("500 5.5.2") == 2
        assert "250 2.0.0 Ok: queued" in conversation.say(*content)
        conversation.say("MAIL FROM:<>", "RCPT TO:<bob@hamburger.edu>")
    assert not conversation.closed


def test_a_chunk_in_the_middle_makes_up_for_nothing() -> None:
    conversation = begun(Conversation(max_errors=3))
    said = conversation.say("X", "X", "BDAT 0", "X")
    assert "421 4.7.0" in said


def test_a_line_without_end_ends_the_session() -> None:
    conversation = Conversation()
    said = b"".join(conversation.send(b"x" * 65_536) for _ in range(17))
    assert said == b"421 4.7.0 Line without an end\r\n"
    assert conversation.closed


def test_parting_words() -> None:
    session = Conversation().session
    assert session.timed_out() == b"421 4.4.2 mail.hamburger.edu Timeout exceeded\r\n"
    assert session.closing_down() == b"421 4.3.2 mail.hamburger.edu Service is shutting down\r\n"


# STARTTLS


def test_starttls_forgets_everything() -> None:
    conversation = begun()
    assert conversation.say("STARTTLS") == "220 2.0.0 Ready to start TLS"
    conversation.play("C MAIL FROM:<>\nS 503 5.5.1 Send HELO or EHLO first")
    conversation.play("C STARTTLS\nS 503 5.5.1 TLS is on already")
    assert "STARTTLS" not in conversation.say("EHLO client.example")
    conversation.play("C RCPT TO:<bob@hamburger.edu>\nS 503 5.5.1 Send MAIL first")
    conversation.say("MAIL FROM:<>", "RCPT TO:<bob@hamburger.edu>", "DATA", ".")
    client = conversation.intake.messages[0].client
    assert (client.protocol, client.tls) == ("ESMTPS", "TLSv1.3 TLS_AES_256_GCM_SHA384")


def test_nothing_sent_behind_starttls_is_run() -> None:
    conversation = begun()
    conversation.play("C STARTTLS\nC DATA\nS 554 5.5.1 Nothing may be sent behind STARTTLS")
    assert conversation.closed


def test_starttls_without_a_certificate() -> None:
    conversation = Conversation(starttls=False)
    assert "STARTTLS" not in conversation.say("EHLO client.example")
    conversation.play("C STARTTLS\nS 502 5.5.1 Command not implemented")


# Every line of every reply


COMMANDS = [
    "EHLO a",
    "HELO a",
    "MAIL FROM:<>",
    "RCPT TO:<bob@hamburger.edu>",
    "RCPT TO:<x@y>",
    "DATA",
    ".",
    "BDAT 2 LAST",
    "BDAT 0 LAST",
    "BDAT 4",
    "RSET",
    "NOOP",
    "VRFY",
    "EXPN",
    "HELP",
    "AUTH PLAIN AGEAc2VjcmV0",
    "AUTH LOGIN",
    "*",
    "x\x00y",
    "STARTTLS",
    "QUIT",
]


@given(st.lists(st.sampled_from(COMMANDS), max_size=12), st.sampled_from(list(Profile)))
def test_enhanced_codes_are_where_they_belong(commands: list[str], profile: Profile) -> None:
    conversation = Conversation(profile)
    for command in commands:
        hello = command[:4] in ("EHLO", "HELO")
        for line in conversation.say(command).split("\n"):
            if not line:
                continue
            assert re.fullmatch(r"[2-5][0-9][0-9][ -][ -~]*", line)
            if line[0] != "3" and not hello:  # RFC 2034 section 4
                assert re.match(r"([245])[0-9][0-9][ -]\1\.[0-9]\.[0-9]+ ", line)


VERBS = ["EHLO", "HELO", "MAIL FROM:", "RCPT TO:", "DATA", "BDAT", "RSET", "NOOP", "VRFY", "AUTH"]


@given(
    st.sampled_from(VERBS),
    st.text("\x00\t\x0b\x0c\r <>@=+0aü", max_size=8) | st.text(max_size=80),
    st.sampled_from(list(Profile)),
)
def test_no_argument_breaks_a_session(verb: str, argument: str, profile: Profile) -> None:
    conversation = Conversation(profile)
    conversation.say("EHLO a", "AUTH PLAIN AGEAc2VjcmV0")
    if verb != "MAIL FROM:":
        conversation.say("MAIL FROM:<>", "RCPT TO:<bob@hamburger.edu>")
    with capturedLogs() as events:
        said = conversation.send(f"{verb} {argument}".encode(errors="replace") + b"\r\n")
    assert said.isascii()
    assert said.endswith(b"\r\n") or verb == "BDAT"
    assert not any("log_failure" in event for event in events)


@given(st.binary(max_size=200), st.sampled_from(list(Profile)))
def test_no_octets_break_a_session(stream: bytes, profile: Profile) -> None:
    conversation = Conversation(profile)
    with capturedLogs() as events:
        said = conversation.send(b"EHLO a\r\nMAIL FROM:<" + stream + b"\r\n")
    assert said.decode("ascii")
    assert not any("log_failure" in event for event in events)
