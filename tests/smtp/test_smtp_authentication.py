"""AUTH in SMTP (RFC 4954) and what the submission services ask for (RFC 6409, RFC 3207), as
transcripts.
"""

from __future__ import annotations

import base64

import pytest
from smtp_conversation import Conversation, plain
from twisted.logger import capturedLogs

from twisted_mail.smtp.engine import MAX_AUTH_LINE
from twisted_mail.smtp.session import Profile
from twisted_mail.status import MailError

ALICE = plain("alice", "secret")


def submission() -> Conversation:
    """Under TLS on port 587, after EHLO."""
    conversation = Conversation(Profile.SUBMISSION)
    conversation.say("EHLO client.example")
    conversation.say("STARTTLS")
    conversation.say("EHLO client.example")
    return conversation


def text(data: str) -> str:
    return base64.b64encode(data.encode()).decode()


def test_submission_step_by_step() -> None:
    conversation = Conversation(Profile.SUBMISSION).play(
        f"""
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
        C MAIL FROM:<a@hamburger.edu>
        S 530 5.7.0 Must issue a STARTTLS command first
        C AUTH PLAIN {ALICE}
        S 538 5.7.11 Encryption required: issue STARTTLS first
        C STARTTLS
        S 220 2.0.0 Ready to start TLS
        C AUTH PLAIN {ALICE}
        S 503 5.5.1 Send HELO or EHLO first
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
        S 250-REQUIRETLS
        S 250 AUTH PLAIN LOGIN
        C MAIL FROM:<a@hamburger.edu>
        S 530 5.7.0 Authentication required
        C AUTH PLAIN {ALICE}
        S 235 2.7.0 Authentication succeeded
        C AUTH PLAIN {ALICE}
        S 503 5.5.1 Authenticated already
        C MAIL FROM:<a@hamburger.edu> AUTH=<>
        S 250 2.1.0 Ok
        C RCPT TO:<bob@hamburger.edu>
        S 250 2.1.5 Ok
        C DATA
        C .
        S 354 End data with <CR><LF>.<CR><LF>
        S 250 2.0.0 Ok: queued as M1
        """
    )
    client = conversation.intake.messages[0].client
    assert client.account is not None
    assert (client.account.name, client.protocol) == ("alice", "ESMTPSA")
    assert "AUTH" not in conversation.say("EHLO client.example")


def test_submissions_is_under_tls_from_the_start() -> None:
    conversation = Conversation(Profile.SUBMISSIONS)
    said = conversation.say("EHLO client.example")
    assert "AUTH PLAIN LOGIN" in said
    assert "STARTTLS" not in said
    conversation.play(
        f"""
        C STARTTLS
        C MAIL FROM:<>
        C AUTH PLAIN {ALICE}
        C MAIL FROM:<>
        S 503 5.5.1 TLS is on already
        S 530 5.7.0 Authentication required
        S 235 2.7.0 Authentication succeeded
        S 250 2.1.0 Ok
        """
    )


def test_port_25_knows_no_auth_under_tls_either() -> None:
    conversation = Conversation()
    conversation.say("EHLO a", "STARTTLS")
    assert "AUTH" not in conversation.say("EHLO a")
    conversation.play(
        f"C AUTH PLAIN {ALICE}\nS 502 5.5.1 No login on this port, mail programs use 587 or 465"
    )


def test_without_mechanisms_auth_is_not_offered() -> None:
    conversation = submission()
    conversation.authenticator.offered = ()
    assert "AUTH" not in conversation.say("EHLO client.example")
    conversation.play("C AUTH PLAIN\nS 504 5.5.4 Authentication mechanism not offered")


# Exchanges


def test_plain_without_an_initial_response() -> None:
    submission().play(f"C auth plain\nS 334 \nC {ALICE}\nS 235 2.7.0 Authentication succeeded")


def test_login() -> None:
    submission().play(
        f"""
        C AUTH LOGIN
        S 334 VXNlciBOYW1lAA==
        C {text("alice")}
        S 334 UGFzc3dvcmQA
        C {text("secret")}
        S 235 2.7.0 Authentication succeeded
        """
    )


def test_login_with_an_initial_response() -> None:
    submission().play(
        f"""
        C AUTH LOGIN {text("alice")}
        S 334 UGFzc3dvcmQA
        C {text("secret")}
        S 235 2.7.0 Authentication succeeded
        """
    )


def test_an_equals_sign_is_an_empty_initial_response() -> None:
    conversation = submission()
    conversation.play("C AUTH LOGIN =\nS 334 UGFzc3dvcmQA\nC *\nS 501 5.7.0…")


def test_an_empty_response_is_an_empty_string() -> None:
    submission().play("C AUTH LOGIN\nC \nS 334 VXNlciBOYW1lAA==\nS 334 UGFzc3dvcmQA")


def test_pipelined_responses_are_no_commands() -> None:
    submission().play(
        """
        C AUTH LOGIN
        C *
        C NOOP
        S 334 VXNlciBOYW1lAA==
        S 501 5.7.0 Authentication cancelled
        S 250 2.0.0 Ok
        """
    )


@pytest.mark.parametrize(
    "bad", ["=", "a", "YWxpY2U", "YWxp=Y2U=", "YWxp Y2U=", "ä", "YWxp\x00", "**"]
)
def test_malformed_base64_ends_the_exchange(bad: str) -> None:
    submission().play(
        f"""
        C AUTH LOGIN
        C {bad}
        C NOOP
        S 334 VXNlciBOYW1lAA==
        S 501 5.5.2 Cannot decode the BASE64 response
        S 250 2.0.0 Ok
        """
    )


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("AUTH", "501 5.5.4 Syntax: AUTH mechanism [initial-response]"),
        (f"AUTH PLAIN {ALICE} {ALICE}", "501 5.5.4 Syntax: AUTH mechanism [initial-response]"),
        ("AUTH PLAIN ====", "501 5.5.2 Cannot decode the BASE64 response"),
        ("AUTH CRAM-MD5", "504 5.5.4 Authentication mechanism not offered"),
        ("AUTH \x00ü", "504 5.5.4 Authentication mechanism not offered"),
        (f"AUTH PLAIN {plain('alice', 'wrong')}", "535 5.7.8 Authentication credentials invalid"),
    ],
)
def test_refused(command: str, reply: str) -> None:
    submission().play(f"C {command}\nC NOOP\nS {reply}\nS 250 2.0.0 Ok")


def test_a_long_response() -> None:
    long = "A" * MAX_AUTH_LINE
    conversation = submission()
    conversation.authenticator.error = MailError(535, "5.7.8", "No")
    conversation.play(f"C AUTH PLAIN {long}\nS 535 5.7.8 No")
    conversation.play(
        f"C AUTH PLAIN {long}{long}\nC NOOP\nS 500 5.5.2 Line too long\nS 250 2.0.0 Ok"
    )
    conversation.authenticator.error = None
    conversation.play(
        f"""
        C AUTH LOGIN
        C {long}A
        C NOOP
        S 334 VXNlciBOYW1lAA==
        S 500 5.5.6 Authentication exchange line is too long
        S 250 2.0.0 Ok
        """
    )


def test_not_within_a_transaction() -> None:
    conversation = Conversation(Profile.SUBMISSIONS)
    conversation.say("EHLO a", f"AUTH PLAIN {ALICE}", "MAIL FROM:<>")
    conversation.play(f"C AUTH PLAIN {ALICE}\nS 503 5.5.1 Authenticated already")


# Failures


def test_a_temporary_failure_is_no_failed_login() -> None:
    conversation = submission()
    conversation.authenticator.error = MailError(454, "4.7.0", "Directory is away")
    for _ in range(5):
        conversation.play(f"C AUTH PLAIN {ALICE}\nS 454 4.7.0 Directory is away")
    assert not conversation.closed


def test_an_unknown_failure_is_temporary() -> None:
    conversation = submission()
    conversation.authenticator.error = ZeroDivisionError()
    with capturedLogs() as events:
        conversation.play(f"C AUTH PLAIN {ALICE}\nS 454 4.7.0 Temporary authentication failure")
    assert any("log_failure" in event for event in events)
    conversation.authenticator.error = None
    conversation.play(f"C AUTH PLAIN {ALICE}\nS 235 2.7.0 Authentication succeeded")


def test_too_many_failed_logins_end_the_session() -> None:
    conversation = submission()
    wrong = plain("alice", "wrong")
    conversation.play(
        f"""
        C AUTH PLAIN {wrong}
        C AUTH PLAIN {wrong}
        C AUTH PLAIN {wrong}
        C AUTH PLAIN {ALICE}
        S 535 5.7.8 Authentication credentials invalid
        S 535 5.7.8 Authentication credentials invalid
        S 535 5.7.8 Authentication credentials invalid
        S 421 4.7.0 mail.hamburger.edu Too many failed logins
        """
    )
    assert conversation.closed


def test_logs_tell_no_password() -> None:
    conversation = submission()
    with capturedLogs() as events:
        conversation.say(f"AUTH PLAIN {plain('alice', 'wrong')}", f"AUTH PLAIN {ALICE}")
    failed, succeeded = events
    assert (failed["connection"], failed["client"]) == ("C1", "192.0.2.7")
    assert (succeeded["connection"], succeeded["account"]) == ("C1", "alice")
    for event in events:
        public = {name: value for name, value in event.items() if name != "log_source"}
        for secret in ("secret", "wrong", ALICE, plain("alice", "wrong")):
            assert secret not in repr(public)


@pytest.mark.parametrize("end", ["lost", "QUIT"])
def test_the_login_ends_with_the_session(end: str) -> None:
    conversation = submission()
    conversation.say(f"AUTH PLAIN {ALICE}")
    (login,) = conversation.authenticator.logins
    assert login.logouts == 0
    if end == "lost":
        conversation.session.lost()
    else:
        conversation.say(end)
    conversation.session.lost()
    assert login.logouts == 1


@pytest.mark.parametrize(
    ("value", "fine"),
    [
        ("<>", True),
        ("a@b.example", True),
        ("a+2Bb+3Dc@b.example", True),
        ("", False),
        ("a=b", False),
        ("a+2", False),
        ("a+2b", False),
        ("ä", False),
    ],
)
def test_the_auth_parameter_of_mail(value: str, fine: bool) -> None:
    conversation = submission()
    conversation.say(f"AUTH PLAIN {ALICE}")
    reply = "250 2.1.0 Ok" if fine else "501 5.5.4 Malformed parameter AUTH"
    assert conversation.say(f"MAIL FROM:<> AUTH={value}") == reply
    conversation.say("RSET")
    assert conversation.say("MAIL FROM:<> AUTH") == "501 5.5.4 Malformed parameter AUTH"
