"""The parameters of DSN (RFC 3461) and REQUIRETLS (RFC 8689) as transcripts; what of them reaches the intake."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smtp_conversation import Conversation

from twisted_mail.delivery.interfaces import Envelope, Recipient
from twisted_mail.smtp.parameters import mail_parameters, rcpt_parameters
from twisted_mail.smtp.session import Profile
from twisted_mail.status import MailError

BOB = "bob@hamburger.edu"


def sent(*commands: str, tls: bool = False) -> Envelope:
    """The envelope of a message with these MAIL and RCPT commands, which are all answered 250."""
    conversation = Conversation()
    if tls:
        conversation.say("STARTTLS")
    conversation.say("EHLO a")
    assert conversation.say(*commands).count("\n") == len(commands) - 1
    conversation.say("DATA", ".")
    (message,) = conversation.intake.messages
    return message.envelope


@pytest.mark.parametrize(
    ("parameters", "ret", "envid"),
    [
        ("", "", ""),
        (" RET=FULL", "FULL", ""),
        (" ret=hdrs ENVID=QQ314159", "HDRS", "QQ314159"),
        (" ENVID=a+2Bb+20c+3D RET=HDRS SIZE=3 BODY=8BITMIME", "HDRS", "a+b c="),
        (" ENVID=", "", ""),
        (" ENVID=" + "x" * 100, "", "x" * 100),
    ],
)
def test_what_mail_asks_for(parameters: str, ret: str, envid: str) -> None:
    envelope = sent(f"MAIL FROM:<a@b.example>{parameters}", f"RCPT TO:<{BOB}>")
    assert (envelope.ret, envelope.envid, envelope.requiretls) == (ret, envid, False)


@pytest.mark.parametrize(
    ("parameters", "notify", "orcpt"),
    [
        ("", "", ""),
        (" NOTIFY=NEVER", "NEVER", ""),
        (" notify=success", "SUCCESS", ""),
        (" NOTIFY=DELAY,Failure,SUCCESS", "SUCCESS,FAILURE,DELAY", ""),
        (" NOTIFY=FAILURE,FAILURE", "FAILURE", ""),
        (" ORCPT=rfc822;Bob+2Btag@x.example", "", "rfc822;Bob+tag@x.example"),
        (" ORCPT=RFC822;a@b NOTIFY=DELAY", "DELAY", "rfc822;a@b"),
        (" ORCPT=x-uucp;a!b!c", "", "x-uucp;a!b!c"),
        (" ORCPT=utf-8;j\\x{FC}rgen@x.example", "", "utf-8;jürgen@x.example"),
        (" ORCPT=rfc822;" + "x" * 493, "", "rfc822;" + "x" * 493),
    ],
)
def test_what_rcpt_asks_for(parameters: str, notify: str, orcpt: str) -> None:
    envelope = sent("MAIL FROM:<>", f"RCPT TO:<{BOB}>{parameters}", "RCPT TO:<carol@hamburger.edu>")
    bob, carol = envelope.recipients
    assert (str(bob.address), bob.notify, bob.orcpt) == (BOB, notify, orcpt)
    assert carol == Recipient(carol.address)


@pytest.mark.parametrize(
    ("parameters", "reply"),
    [
        ("RET", "501 5.5.4 Malformed parameter RET"),
        ("RET=", "501 5.5.4 Malformed parameter RET"),
        ("RET=ALL", "501 5.5.4 Malformed parameter RET"),
        ("RET=FULL RET=FULL", "501 5.5.4 The same parameter twice"),
        ("ENVID", "501 5.5.4 Malformed parameter ENVID"),
        ("ENVID=a+2", "501 5.5.4 Malformed parameter ENVID"),
        ("ENVID=a+0D+0Ab", "501 5.5.4 Malformed parameter ENVID"),
        ("ENVID=a=b", "501 5.5.4 Malformed parameter ENVID"),
        ("ENVID=a+C3+BC", "501 5.5.4 Malformed parameter ENVID"),
        ("ENVID=ü", "501 5.5.4 Malformed parameter ENVID"),
        ("ENVID=" + "x" * 101, "501 5.5.4 Malformed parameter ENVID"),
        ("ENVID=a ENVID=b", "501 5.5.4 The same parameter twice"),
        ("NOTIFY=NEVER", "555 5.5.4 MAIL parameter not recognised"),
        ("ORCPT=rfc822;a@b", "555 5.5.4 MAIL parameter not recognised"),
        ("REQUIRETLS", "530 5.7.10 REQUIRETLS needs TLS on this connection, too"),
        ("REQUIRETLS=1", "501 5.5.4 Malformed parameter REQUIRETLS"),
        ("BY=120;R", "555 5.5.4 MAIL parameter not recognised"),
    ],
)
def test_mail_is_refused(parameters: str, reply: str) -> None:
    conversation = Conversation()
    conversation.say("EHLO a")
    conversation.play(f"C MAIL FROM:<> {parameters}\nS {reply}")
    conversation.play("C MAIL FROM:<>\nS 250 2.1.0 Ok")


@pytest.mark.parametrize(
    ("parameters", "reply"),
    [
        ("NOTIFY", "501 5.5.4 Malformed parameter NOTIFY"),
        ("NOTIFY=", "501 5.5.4 Malformed parameter NOTIFY"),
        ("NOTIFY=ALWAYS", "501 5.5.4 Malformed parameter NOTIFY"),
        ("NOTIFY=NEVER,SUCCESS", "501 5.5.4 Malformed parameter NOTIFY"),
        ("NOTIFY=SUCCESS,NEVER", "501 5.5.4 Malformed parameter NOTIFY"),
        ("NOTIFY=SUCCESS,", "501 5.5.4 Malformed parameter NOTIFY"),
        ("NOTIFY=SUCCESS,,DELAY", "501 5.5.4 Malformed parameter NOTIFY"),
        ("NOTIFY=DELAY NOTIFY=DELAY", "501 5.5.4 The same parameter twice"),
        ("ORCPT", "501 5.5.4 Malformed parameter ORCPT"),
        ("ORCPT=a@b.example", "501 5.5.4 Malformed parameter ORCPT"),
        ("ORCPT=rfc822;", "501 5.5.4 Malformed parameter ORCPT"),
        ("ORCPT=;a@b.example", "501 5.5.4 Malformed parameter ORCPT"),
        ("ORCPT=rfc822;a+0D+0AX-Evil:+20x", "501 5.5.4 Malformed parameter ORCPT"),
        ("ORCPT=rfc822;a+00", "501 5.5.4 Malformed parameter ORCPT"),
        ("ORCPT=rfc822;a+7", "501 5.5.4 Malformed parameter ORCPT"),
        ("ORCPT=utf-8;jürgen@x.example", "501 5.5.4 Malformed parameter ORCPT"),
        ("ORCPT=rfc822;" + "x" * 494, "501 5.5.4 Malformed parameter ORCPT"),
        ("ORCPT=rfc822;a ORCPT=rfc822;b", "501 5.5.4 The same parameter twice"),
        ("RET=FULL", "555 5.5.4 RCPT parameter not recognised"),
        ("REQUIRETLS", "555 5.5.4 RCPT parameter not recognised"),
        ("SIZE=1", "555 5.5.4 RCPT parameter not recognised"),
        ("=", "555 5.5.4 RCPT parameter not recognised"),
    ],
)
def test_rcpt_is_refused(parameters: str, reply: str) -> None:
    conversation = Conversation()
    conversation.say("EHLO a", "MAIL FROM:<>")
    conversation.play(f"C RCPT TO:<{BOB}> {parameters}\nS {reply}")
    conversation.play("C DATA\nS 554 5.5.1 No valid recipients")


def test_under_smtputf8_an_original_recipient_may_be_in_utf8() -> None:
    envelope = sent(
        "MAIL FROM:<> SMTPUTF8", f"RCPT TO:<{BOB}> ORCPT=utf-8;jürgen@x.example NOTIFY=NEVER"
    )
    assert envelope.recipients[0][1:3] == ("NEVER", "utf-8;jürgen@x.example")


def test_requiretls_is_offered_and_taken_within_tls_only() -> None:
    conversation = Conversation()
    assert "REQUIRETLS" not in conversation.say("EHLO a")
    conversation.say("STARTTLS")
    offered = conversation.say("EHLO a")
    assert "250-REQUIRETLS\n" in offered + "\n" or "250 REQUIRETLS" in offered
    assert "DSN" in offered
    assert sent("MAIL FROM:<> REQUIRETLS", f"RCPT TO:<{BOB}>", tls=True).requiretls


def test_a_submission_under_tls_from_the_start_may_ask_for_requiretls() -> None:
    conversation = Conversation(Profile.SUBMISSIONS)
    assert "REQUIRETLS" in conversation.say("EHLO a")
    conversation.say("AUTH PLAIN AGEAc2VjcmV0")
    conversation.play("C MAIL FROM:<a@hamburger.edu> requiretls RET=HDRS\nS 250 2.1.0 Ok")


def test_what_was_asked_for_is_over_with_the_message() -> None:
    conversation = Conversation()
    conversation.say("EHLO a", "MAIL FROM:<> RET=HDRS ENVID=1", f"RCPT TO:<{BOB}> NOTIFY=NEVER")
    conversation.say("DATA", ".", "MAIL FROM:<>", f"RCPT TO:<{BOB}>", "DATA", ".")
    first, second = (message.envelope for message in conversation.intake.messages)
    assert (first.ret, first.envid, first.recipients[0].notify) == ("HDRS", "1", "NEVER")
    assert (second.ret, second.envid, second.recipients[0].notify) == ("", "", "")


@given(st.binary(max_size=80))
def test_no_octets_make_the_parsers_raise_anything_else(text: bytes) -> None:
    for prefix in (b" ", b" ORCPT=utf-8;", b" ORCPT=rfc822;", b" NOTIFY=", b" ENVID=", b" RET="):
        try:
            found = rcpt_parameters(prefix + text, smtputf8=True)
        except MailError as error:
            assert error.code in (501, 555)
        else:
            assert all(c.isprintable() or c > "\x9f" for c in found.orcpt)
        try:
            mail_parameters(prefix + text, auth=True)
        except MailError as error:
            assert error.code in (501, 555)
