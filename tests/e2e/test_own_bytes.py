"""What only a client that writes its own bytes can try: smuggling, injection, chunks, pipelines."""

from __future__ import annotations

import json
import smtplib
import socket
import ssl
from contextlib import contextmanager, suppress

import pytest
import trustme
from mailsite import ALICE, BOB, PASSWORD, body_of, letter
from scramp import ScramClient

pytestmark = pytest.mark.e2e


class Wire:
    """Bytes to one listener, and its replies."""

    def __init__(self, plain: socket.socket) -> None:
        self.socket = plain
        self.stream = plain.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reply(self) -> bytes:
        """One SMTP reply, its last line."""
        while True:
            line = self.stream.readline()
            if line[3:4] != b"-":
                return line

    def ask(self, data: bytes) -> bytes:
        self.send(data)
        return self.reply()

    def envelope(self, *recipients: str) -> None:
        assert self.ask(b"EHLO client.example.net\r\n")[:4] == b"250 "
        assert self.ask(b"MAIL FROM:<carol@elsewhere.example>\r\n")[:4] == b"250 "
        for recipient in recipients:
            assert self.ask(f"RCPT TO:<{recipient}>\r\n".encode())[:4] == b"250 "


@contextmanager
def wire(site, listener="smtp"):
    with site.connect(listener) as plain:
        talk = Wire(plain)
        assert talk.reply()[:4] == b"220 "
        yield talk
        talk.stream.close()


INNER = (
    b"MAIL FROM:<admin@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n"
    b"Subject: smuggled\r\n\r\nsmuggled\r\n.\r\n"
)


@pytest.mark.parametrize(
    "end", [b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n\n.\n", b"\r\r\n.\r\r\n"]
)  # fmt: skip
def test_no_other_end_of_data_smuggles_a_second_message(running, end):
    with wire(running) as talk:
        talk.envelope(ALICE)
        assert talk.ask(b"DATA\r\n")[:4] == b"354 "
        assert talk.ask(b"Subject: outer\r\n\r\nouter" + end + INNER)[:4] == b"250 "
        talk.send(b"QUIT\r\n")
        # whatever stood behind the real end is not part of it; there was nothing
        assert talk.reply()[:4] == b"221 "
    assert running.subjects(BOB) == []
    assert running.subjects(ALICE) == ["outer"]
    with running.pop(ALICE) as session:
        # on its way out, too, a line of one dot is stuffed: poplib would end there
        assert b"smuggled" in body_of(session, 1)


def test_bare_newlines_are_refused_where_that_is_wanted(make_site):
    site = make_site(extra='[smtp]\nbare_newline = "reject"\n')
    site.start()
    with wire(site) as talk:
        talk.envelope(ALICE)
        talk.ask(b"DATA\r\n")
        assert talk.ask(b"Subject: x\r\n\r\na\n.\nb\r\n.\r\n")[:9] == b"550 5.6.0"
        assert talk.ask(b"NOOP\r\n")[:4] == b"250 "
    assert site.subjects() == []


@pytest.mark.parametrize("listener", ["smtp", "submission"])
def test_commands_behind_starttls_are_never_run(running, listener):
    with wire(running, listener) as talk:
        talk.ask(b"EHLO client.example.net\r\n")
        assert talk.ask(b"STARTTLS\r\nNOOP\r\n")[:4] == b"554 "
        assert talk.stream.read() == b""


def test_commands_behind_stls_are_never_run(running):
    with running.connect("pop3") as plain, plain.makefile("rb") as stream:
        assert stream.readline().startswith(b"+OK")
        plain.sendall(b"STLS\r\nCAPA\r\n")
        assert stream.readline().startswith(b"-ERR")
        assert stream.read() == b""


def test_the_envelope_is_forgotten_after_starttls(running):
    with smtplib.SMTP("localhost", running.ports["smtp"], "client.example.net") as session:
        session.ehlo()
        session.mail("carol@elsewhere.example")
        session.rcpt(ALICE)
        assert session.docmd("STARTTLS")[0] == 220
        session.sock = running.tls.wrap_socket(session.sock, server_hostname="localhost")
        session.file = None
        assert session.docmd("DATA")[0] == 503
        assert session.docmd("RCPT", f"TO:<{ALICE}>")[0] == 503


def test_chunks(running):
    content = b"Subject: chunks\r\n\r\n.\r\n..two\r\n" + bytes(range(1, 10)) * 1000 + b"\r\n"
    with wire(running) as talk:
        talk.envelope(ALICE)
        for start in range(0, len(content), 999):
            chunk = content[start : start + 999]
            assert talk.ask(b"BDAT %d\r\n" % len(chunk) + chunk)[:4] == b"250 "
        assert talk.ask(b"BDAT 0 LAST\r\n")[:4] == b"250 "
    assert running.subjects() == ["chunks"]


def test_a_refused_chunk_is_read_and_dropped(running):
    with wire(running) as talk:
        talk.ask(b"EHLO client.example.net\r\n")
        assert talk.ask(b"BDAT 20\r\n" + b"QUIT\r\n" * 3 + b"..")[:4] == b"503 "
        assert talk.ask(b"NOOP\r\n")[:4] == b"250 "


def test_a_whole_session_in_one_segment(running):
    with wire(running) as talk:
        talk.ask(b"EHLO client.example.net\r\n")
        one = (
            b"MAIL FROM:<carol@elsewhere.example>\r\nRCPT TO:<alice@example.org>\r\n"
            b"RCPT TO:<nobody@example.org>\r\nNOOP\r\nBDAT 19 LAST\r\nSubject: pipeline\r\n"
        )
        talk.send(one * 5 + b"QUIT\r\n")
        codes = [talk.reply()[:3] for _ in range(26)]
    assert codes == [b"250", b"250", b"550", b"250", b"250"] * 5 + [b"221"]
    assert running.subjects() == ["pipeline"] * 5


def test_scram(running):
    with smtplib.SMTP_SSL(
        "localhost", running.ports["submissions"], context=running.tls
    ) as session:
        session.ehlo()
        client = ScramClient(["SCRAM-SHA-256"], ALICE, PASSWORD)
        challenges = 0

        def answer(challenge: bytes | None = None) -> str:
            nonlocal challenges
            challenges += 1
            if challenges == 1:
                return client.get_client_first()
            if challenges == 2:
                client.set_server_first(challenge.decode())
                return client.get_client_final()
            client.set_server_final(challenge.decode())  # the server has shown that it knows, too
            return ""

        assert session.auth("SCRAM-SHA-256", answer)[0] == 235
        session.sendmail(ALICE, [BOB], letter("by scram", sender=ALICE))
    assert running.subjects(BOB) == ["by scram"]


def test_what_submission_adds_and_takes_away(running):
    with running.smtp(ALICE) as session:
        session.sendmail(ALICE, [BOB], f"From: {ALICE}\r\nSubject: bare\r\nBcc: {BOB}\r\n\r\nx\r\n")
    with running.pop(BOB) as session:
        header = b"\n".join(session.top(1, 0)[1]).lower()
    assert b"\ndate: " in header
    assert b"\nmessage-id: <" in header
    assert b"bcc" not in header
    assert b" with esmtpsa " in header


def test_one_file_for_all_recipients(running):
    running.send("shared", to=[ALICE, BOB])
    (one,) = running.maildir(ALICE).glob("new/*")
    (other,) = running.maildir(BOB).glob("new/*")
    assert one.stat().st_ino == other.stat().st_ino
    assert running.subjects(ALICE) == ["shared"]
    with running.pop(ALICE) as session:
        session.dele(1)
    assert running.subjects(BOB) == ["shared"]


def test_certificates_by_name(make_site):
    site = make_site()
    authority = trustme.CA()
    text = ""
    for number, name in enumerate(["localhost", "mail.example.net"]):
        leaf = authority.issue_cert(name)
        leaf.private_key_pem.write_to_path(site.directory / f"{number}.key")
        leaf.cert_chain_pems[0].write_to_path(site.directory / f"{number}.pem")
        text += "[[tls.sni]]\n" if number else "[tls]\n"
        text += f'certificate = "{number}.pem"\nkey = "{number}.key"\n'
    site.extra = text
    site.write_configuration()
    site.start()
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    for name in ("localhost", "mail.example.net"):
        with tls.wrap_socket(site.connect("pop3s"), server_hostname=name) as session:
            assert ("DNS", name) in session.getpeercert()["subjectAltName"]


def test_the_log_as_json(make_site):
    site = make_site(extra='[log]\nformat = "json"\n')
    site.start()
    site.send("for the log")
    assert site.subjects() == ["for the log"]
    site.stop()
    events = [json.loads(line) for line in site.log.splitlines()]
    assert events
    assert all(isinstance(event, dict) for event in events)
    assert ALICE in site.log
    assert PASSWORD not in site.log


def test_a_server_survives_rubbish(running):
    for listener in ("smtp", "submission", "submissions", "pop3", "pop3s"):
        # the server may cut it off in the middle
        with running.connect(listener) as plain, suppress(OSError):
            plain.sendall(bytes(range(256)) * 2000)
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(65536):
                pass
    running.send("still here")
    assert running.subjects() == ["still here"]
    assert "Traceback" not in running.log
    assert running.process.poll() is None
