"""A little of everything against a real process, quick enough for every run of the tests."""

from __future__ import annotations

import smtplib

import pytest
from mailsite import ALICE, BOB, PASSWORD, body_of, letter


def test_a_mail_from_outside_is_read_by_pop3(running):
    running.send("hello from outside")
    with running.pop(ALICE) as session:
        count, size = session.stat()
        assert count == 1
        _, lines, octets = session.retr(1)
        assert octets == size
        assert b"Subject: hello from outside" in lines
        assert any(line.startswith(b"Return-Path: <carol@elsewhere.example>") for line in lines)


def test_a_user_writes_to_another(running):
    with running.smtp(ALICE) as session:
        session.sendmail(ALICE, [BOB], letter("from alice", sender=ALICE))
    assert running.subjects(BOB) == ["from alice"]


def test_starttls_then_login_on_submission(running):
    with smtplib.SMTP("localhost", running.ports["submission"], "client.example.net") as session:
        session.ehlo()
        assert not session.has_extn("auth")
        assert session.docmd("MAIL", f"FROM:<{ALICE}>")[0] == 530
        session.starttls(context=running.tls)
        session.login(ALICE, PASSWORD)
        session.sendmail(ALICE, [BOB], letter("by submission", sender=ALICE))
    assert running.subjects(BOB) == ["by submission"]


def test_a_wrong_password(running):
    with smtplib.SMTP_SSL(
        "localhost", running.ports["submissions"], context=running.tls
    ) as session:
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            session.login(ALICE, "not this one")
        assert refused.value.smtp_code == 535


def test_content_arrives_as_it_was_sent(running):
    text = "a line\n.\n..two\n" + "long " * 150 + "\nlast\n"
    message = b"Subject: dots\r\n\r\n" + text.replace("\n", "\r\n").encode()
    with running.smtp() as session:
        session.sendmail("carol@elsewhere.example", [ALICE], message)
    with running.pop(ALICE) as session:
        assert body_of(session, 1) == text.encode()


def test_deleted_means_deleted_at_quit(running):
    for subject in ("one", "two", "three"):
        running.send(subject)
    with running.pop(ALICE) as session:
        session.dele(2)
    assert running.subjects() == ["one", "three"]


def test_a_client_that_comes_again_and_again_is_let_in(running):
    """A session that has said goodbye takes up no place: there are 50 for one address."""
    for _ in range(120):
        assert running.subjects() == []
