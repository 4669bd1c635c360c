"""Python's own clients: what `smtplib` and `poplib` can do with the server, over TLS and in clear."""

from __future__ import annotations

import json
import poplib
import smtplib
import ssl
from email.message import EmailMessage

import pytest
from mailsite import ALICE, BOB, DEADLINE, PASSWORD, body_of, letter, subject_of

pytestmark = pytest.mark.e2e


def test_ehlo_names_what_the_issue_promises(running):
    with running.smtp() as session:
        session.ehlo()
        offered = set(session.esmtp_features)
    assert {
        "pipelining", "size", "8bitmime", "smtputf8", "enhancedstatuscodes", "chunking", "starttls", "help"
    } <= offered  # fmt: skip
    assert "auth" not in offered


@pytest.mark.parametrize("mechanism", ["auth_plain", "auth_login"])
@pytest.mark.parametrize("initial", [True, False])
def test_login_with_and_without_initial_response(running, mechanism, initial):
    with smtplib.SMTP_SSL(
        "localhost", running.ports["submissions"], context=running.tls
    ) as session:
        session.ehlo()
        session.user, session.password = ALICE, PASSWORD
        name = mechanism.removeprefix("auth_").upper()
        code, _ = session.auth(name, getattr(session, mechanism), initial_response_ok=initial)
        assert code == 235


def test_international_addresses_and_headers(running):
    running.mailctl("domain", "add", "bücher.example")
    running.mailctl("user", "add", "žofie@bücher.example", "--password-stdin", input=PASSWORD)
    message = EmailMessage()
    message["From"] = "jürgen@elsewhere.example"
    message["To"] = "žofie@bücher.example"
    message["Subject"] = "Grüße"
    message.set_content("Schöne Grüße\n", cte="8bit")
    with running.smtp() as session:
        session.send_message(message)
    with running.pop("žofie@bücher.example") as session:
        text = b"\n".join(session.retr(1)[1])
    # RFC 6858: this client did not ask for UTF8, so the header comes downgraded
    header = text.partition(b"\n\n")[0]
    assert header.isascii()
    with running.pop("žofie@bücher.example", utf8=True) as session:
        text = b"\n".join(session.retr(1)[1])
    assert "Subject: Grüße".encode() in text


def test_a_message_to_many_recipients(running):
    with running.smtp() as session:
        refused = session.sendmail(
            "carol@elsewhere.example", [ALICE, BOB, "nobody@example.org"], letter("to both")
        )
    assert set(refused) == {"nobody@example.org"}
    assert refused["nobody@example.org"][0] == 550
    assert running.subjects(ALICE) == running.subjects(BOB) == ["to both"]


def test_mail_for_other_sites(running):
    with running.smtp() as session, pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        session.sendmail("carol@elsewhere.example", ["dave@elsewhere.example"], letter("relay"))
    assert refused.value.recipients["dave@elsewhere.example"][0] == 550
    # who has logged in writes to everybody
    with running.smtp(ALICE) as session:
        session.sendmail(ALICE, ["dave@elsewhere.example"], letter("out", sender=ALICE))
    (row,) = json.loads(running.mailctl("queue", "list", "--json").stdout)
    assert (row["sender"], row["recipient"]) == (ALICE, "dave@elsewhere.example")
    running.mailctl("queue", "remove", row["id"])


def test_a_user_writes_under_own_addresses_only(running):
    with running.smtp(ALICE) as session, pytest.raises(smtplib.SMTPSenderRefused) as refused:
        session.sendmail(BOB, [BOB], letter("not mine", sender=BOB))
    assert refused.value.smtp_code == 553


def test_postmaster_reaches_somebody(running):
    with running.smtp() as session:
        session.sendmail("carol@elsewhere.example", ["Postmaster"], letter("to the postmaster"))
    assert running.subjects(ALICE) == ["to the postmaster"]


def test_a_message_over_the_limit(running):
    with running.smtp() as session:
        session.ehlo()
        code, text = session.docmd("MAIL", "FROM:<carol@elsewhere.example> SIZE=52428801")
    assert (code, text[:5]) == (552, b"5.3.4")


def test_a_large_message_arrives_whole(running):
    sent = letter("large", size=8_000_000)
    with running.smtp() as session:
        session.sendmail("carol@elsewhere.example", [ALICE], sent)
    with running.pop(ALICE) as session:
        assert body_of(session, 1) == sent.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")


def test_stls(running):
    session = poplib.POP3("localhost", running.ports["pop3"], timeout=DEADLINE)
    try:
        with pytest.raises(poplib.error_proto):
            session.user(ALICE)
        session.stls(running.tls)
        session.user(ALICE)
        session.pass_(PASSWORD)
        assert session.stat() == (0, 0)
        session.quit()
    finally:
        session.close()


def test_capabilities_of_pop3(running):
    with running.pop(ALICE) as session:
        offered = session.capa()
    assert {
        "TOP",
        "UIDL",
        "PIPELINING",
        "RESP-CODES",
        "AUTH-RESP-CODE",
        "UTF8",
        "IMPLEMENTATION",
    } <= set(offered)
    assert offered["EXPIRE"] == ["NEVER"]


def test_a_failed_login_says_auth(running):
    session = poplib.POP3_SSL(
        "localhost", running.ports["pop3s"], timeout=DEADLINE, context=running.tls
    )
    try:
        session.user(ALICE)
        with pytest.raises(poplib.error_proto, match=r"-ERR \[AUTH\]"):
            session.pass_("not this one")
    finally:
        session.close()


def test_one_session_a_mailbox(running):
    with running.pop(ALICE):
        second = poplib.POP3_SSL(
            "localhost", running.ports["pop3s"], timeout=DEADLINE, context=running.tls
        )
        try:
            second.user(ALICE)
            with pytest.raises(poplib.error_proto, match=r"-ERR \[IN-USE\]"):
                second.pass_(PASSWORD)
        finally:
            second.close()


def test_a_dropped_connection_deletes_nothing(running):
    running.send("stays")
    with pytest.raises(ZeroDivisionError), running.pop(ALICE) as session:
        session.dele(1)
        raise ZeroDivisionError  # leaves without QUIT
    assert running.subjects() == ["stays"]


def test_top_and_list_agree_with_retr(running):
    running.send("first")
    running.send("second")
    with running.pop(ALICE) as session:
        sizes = [int(line.split()[1]) for line in session.list()[1]]
        assert sizes == [session.retr(number)[2] for number in (1, 2)]
        assert session.stat() == (2, sum(sizes))
        assert [subject_of(session, number) for number in (1, 2)] == ["first", "second"]
        top = session.top(2, 1)[1]
        assert top[-1] == b"This is second."


def test_a_certificate_of_nobody_knows_is_refused_by_the_client(running):
    with pytest.raises(ssl.SSLCertVerificationError):
        smtplib.SMTP_SSL(
            "localhost", running.ports["submissions"], context=ssl.create_default_context()
        )


def test_tls_1_1_is_not_spoken(running):
    old = running.tls
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        smtplib.SMTP_SSL("localhost", running.ports["submissions"], context=old)
