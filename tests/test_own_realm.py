"""docs/examples/dict_realm.py in a running server: SMTP puts mail into the dict, POP3 takes it out."""

from __future__ import annotations

import sys
from base64 import b64encode
from pathlib import Path

import pytest

from twisted_mail.config import load
from twisted_mail.service import MailService
from twisted_mail.testing import simulated_world

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
CONFIGURATION = """
hostname = "localhost"
[listen]
smtp = ["tcp:25"]
submissions = ["tcp:465"]
pop3s = ["tcp:995"]
[auth]
checkers = ["file:{passwords}"]
realm = "dict_realm:make_realm"
"""


def turns(world, deferred):
    for _ in range(1000):
        if deferred.called:
            return
        world.reactor.settle()
    raise AssertionError("nothing happens any more")


class Site:
    """A server that was configured as the example says, and clients of it."""

    def __init__(self, directory: Path) -> None:
        (directory / "passwd").write_text("alice@localhost:sesame\nbob@localhost:mellon\n")
        (directory / "mail.toml").write_text(CONFIGURATION.format(passwords=directory / "passwd"))
        self.world = simulated_world()
        self.service = MailService(load(directory / "mail.toml"), self.world)
        self.service.startService()
        turns(self.world, self.service.when_serving())
        self._ca = (directory / "certs/ca.pem").read_bytes()

    def connect(self, port):
        client = self.world.reactor.connect(port)
        if port != 25:
            client.start_tls(self._ca, "localhost")
        client.read()
        return client

    def pop3(self, name, password):
        client = self.connect(995)
        answer = client.ask(f"USER {name}\r\nPASS {password}\r\n".encode())
        return client, answer.splitlines()[-1]

    def stop(self):
        turns(self.world, self.service.stopService())


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.delitem(sys.modules, "dict_realm", raising=False)
    site = Site(tmp_path)
    yield site
    site.stop()


def test_mail_from_outside_is_read_and_deleted(site):
    smtp = site.connect(25)
    smtp.ask(b"EHLO client.example\r\nMAIL FROM:<carol@example.net>\r\n")
    assert smtp.ask(b"RCPT TO:<carol@localhost>\r\n").startswith(b"550 ")
    assert smtp.ask(b"RCPT TO:<Alice@localhost>\r\n").startswith(b"250 ")
    assert smtp.ask(b"DATA\r\n").startswith(b"354 ")
    assert smtp.ask(b"Subject: hello\r\n\r\none\r\n..two\r\n.\r\n").startswith(b"250 2.")

    pop3, answer = site.pop3("alice@localhost", "sesame")
    assert answer.startswith(b"+OK 1 messages ")
    status, _, message = pop3.ask(b"RETR 1\r\n").partition(b"\r\n")
    assert message.endswith(b"Subject: hello\r\n\r\none\r\n..two\r\n.\r\n")
    # What was announced is what was sent: without the dot that was stuffed, and the last line.
    assert status == b"+OK %d octets" % (len(message) - len(b".") - len(b".\r\n"))
    pop3.ask(b"DELE 1\r\nQUIT\r\n")
    assert site.pop3("alice@localhost", "sesame")[1].startswith(b"+OK 0 messages ")


def test_users_of_the_realm_send_to_each_other(site):
    smtp = site.connect(465)
    login = b64encode(b"\0bob@localhost\0mellon")
    assert smtp.ask(b"EHLO client\r\nAUTH PLAIN " + login + b"\r\n").splitlines()[-1][:3] == b"235"
    assert smtp.ask(b"MAIL FROM:<alice@localhost>\r\n").startswith(b"553 5.7.1 ")
    smtp.ask(
        b"MAIL FROM:<bob@localhost>\r\nRCPT TO:<alice@localhost>\r\nRCPT TO:<bob@localhost>\r\n"
    )
    assert smtp.ask(b"DATA\r\n").startswith(b"354 ")
    assert smtp.ask(b"From: bob@localhost\r\n\r\nhello\r\n.\r\n").startswith(b"250 2.")
    for name, password in (("alice", "sesame"), ("bob", "mellon")):
        assert site.pop3(f"{name}@localhost", password)[1].startswith(b"+OK 1 messages ")


def test_a_large_message_reaches_the_dict_whole(site):
    body = b"".join(b"%07d\r\n" % n for n in range(40_000))
    smtp = site.connect(25)
    smtp.ask(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<bob@localhost>\r\n")
    assert smtp.ask(b"BDAT %d LAST\r\n\r\n" % (len(body) + 2) + body).startswith(b"250 2.")
    pop3, _ = site.pop3("bob@localhost", "mellon")
    assert pop3.ask(b"RETR 1\r\n").endswith(b"\r\n\r\n" + body + b".\r\n")


def test_a_wrong_password_is_one_in_front_of_any_realm(site):
    client, answer = site.pop3("alice@localhost", "mellon")
    assert not client.closed
    for _ in range(10):
        answer += client.read()
        site.world.reactor.advance(1)
    assert b"-ERR [AUTH] " in answer
