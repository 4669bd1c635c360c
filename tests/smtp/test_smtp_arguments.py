"""What SMTP commands are given: addresses, parameters, too much and too little."""

from __future__ import annotations

import pytest
from smtp_conversation import Conversation, begun


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("MAIL", "501 5.5.4 Syntax: MAIL FROM:<address> [parameters]"),
        ("MAIL TO:<a@b.example>", "501 5.5.4 Syntax: MAIL FROM:<address> [parameters]"),
        ("MAIL FROM:", "501 5.1.7 Bad sender address: an address is missing"),
        ("MAIL FROM:<a@b..example>", "501 5.1.7 Bad sender address: malformed label in the domain"),
        ("MAIL FROM:<ü@b.example>", "550 5.6.7 A non-ASCII address needs SMTPUTF8"),
        ("MAIL FROM:<a@ü.example>", "550 5.6.7 A non-ASCII address needs SMTPUTF8"),
        ("MAIL FROM:<ü@b.example> smtputf8", "250 2.1.0 Ok"),
        ("MAIL FROM:<> SMTPUTF8=1", "501 5.5.4 Malformed parameter SMTPUTF8"),
        ("MAIL FROM:<> SIZE=52428800", "250 2.1.0 Ok"),
        ("MAIL FROM:<> SIZE=52428801", "552 5.3.4 Message too big"),
        ("MAIL FROM:<> SIZE=99999999999999999999", "552 5.3.4 Message too big"),
        ("MAIL FROM:<> SIZE", "501 5.5.4 Malformed parameter SIZE"),
        ("MAIL FROM:<> SIZE=", "501 5.5.4 Malformed parameter SIZE"),
        ("MAIL FROM:<> SIZE=-1", "501 5.5.4 Malformed parameter SIZE"),
        ("MAIL FROM:<> SIZE=999999999999999999999", "501 5.5.4 Malformed parameter SIZE"),
        ("MAIL FROM:<> SIZE=1 size=1", "501 5.5.4 The same parameter twice"),
        ("MAIL FROM:<> body=7bit", "250 2.1.0 Ok"),
        ("MAIL FROM:<> BODY=BINARYMIME", "501 5.5.4 Malformed parameter BODY"),
        ("MAIL FROM:<> BODY", "501 5.5.4 Malformed parameter BODY"),
        ("MAIL FROM:<> AUTH=<>", "555 5.5.4 MAIL parameter not recognised"),
        ("MAIL FROM:<> RET=HDRS", "250 2.1.0 Ok"),
        ("MAIL FROM:<> =", "555 5.5.4 MAIL parameter not recognised"),
    ],
)
def test_mail(command: str, reply: str) -> None:
    conversation = Conversation()
    conversation.say("EHLO client.example")
    assert conversation.say(command) == reply


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("RCPT", "501 5.5.4 Syntax: RCPT TO:<address> [parameters]"),
        ("RCPT FROM:<bob@hamburger.edu>", "501 5.5.4 Syntax: RCPT TO:<address> [parameters]"),
        ("RCPT TO:<>", "501 5.1.3 Bad recipient address: the address is empty"),
        ("RCPT TO:<bob>", "501 5.1.3 Bad recipient address: the address has no domain"),
        ("RCPT TO:<bob@hamburger.edu> NOTIFY=NEVER", "250 2.1.5 Ok"),
        ("RCPT TO:<jürgen@hamburger.edu>", "553 5.6.7 A non-ASCII address needs SMTPUTF8"),
        ("RCPT TO:<@relay.example:bob@hamburger.edu>", "250 2.1.5 Ok"),
        ('RCPT TO:<"bob"@HAMBURGER.edu>', "250 2.1.5 Ok"),
        ("rcpt to:<postmaster>", "250 2.1.5 Ok"),
        ("RCPT TO:<bob@elsewhere.example>", "550 5.7.1 We do not relay"),
    ],
)
def test_rcpt(command: str, reply: str) -> None:
    assert begun().say(command) == reply


def test_strict_refuses_what_is_common_and_wrong() -> None:
    Conversation(strict=True).play(
        """
        C HELO
        C EHLO a_b!c
        C MAIL FROM:<>
        C EHLO [192.0.2.1]
        C HELO client.example
        C MAIL FROM: <a@b.example>
        C MAIL FROM:a@b.example
        C MAIL FROM:<a@b.example>
        S 501 Syntax: EHLO domain
        S 501 Syntax: EHLO domain
        S 503 5.5.1 Send HELO or EHLO first
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
        S 250 mail.hamburger.edu
        S 501 5.1.7 Bad sender address: the address is not in angle brackets
        S 501 5.1.7 Bad sender address: the address is not in angle brackets
        S 250 2.1.0 Ok
        """
    )


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("NOOP anything", "250 2.0.0 Ok"),
        ("VRFY bob", "252 2.0.0 Cannot verify, but will try to deliver"),
        ("VRFY", "501 5.5.4 Syntax: VRFY address"),
        ("EXPN list", "502 5.5.1 Command not implemented"),
        ("TURN", "502 5.5.1 Command not implemented"),
        ("AUTH PLAIN", "502 5.5.1 No login on this port, mail programs use 587 or 465"),
        ("RSET now", "501 5.5.4 This command has no argument"),
        ("STARTTLS now", "501 5.5.4 This command has no argument"),
        ("BDAT", "501 5.5.4 Syntax: BDAT size [LAST]"),
        ("FROBNICATE", "500 5.5.2 Command not recognised"),
        ("", "500 5.5.2 Command not recognised"),
        ("\x00ü", "500 5.5.2 Command not recognised"),
        ("x" * 3000, "500 5.5.2 Line too long"),
        ("quit now", "221 2.0.0 Bye"),
        ("GET / HTTP/1.1", "421 4.7.0 This is SMTP"),
    ],
)
def test_other_commands(command: str, reply: str) -> None:
    conversation = Conversation()
    assert conversation.say(command) == reply
    assert conversation.closed == (reply[:3] in ("221", "421"))


def test_data_has_no_argument() -> None:
    assert begun().say("DATA now") == "501 5.5.4 This command has no argument"


def test_help() -> None:
    Conversation().play("C HELP\nS 214-2.0.0…\nS 214 2.0.0…")
