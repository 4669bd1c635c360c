"""SMTP and POP3 as a client hears them: the real engines, sessions and store behind the driver."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from twisted_mail.testing import MailServer, simulated_world

PLAIN = b64encode(b"\0alice@example.org\0secret").decode()


class Site:
    """A server in a simulated world."""

    def __init__(self) -> None:
        self.world = simulated_world()
        self.server: MailServer = self.settled(
            MailServer.start(self.world, users={"alice@example.org": "secret"})
        )

    def settled(self, work: Any) -> Any:
        results: list[Any] = []
        Deferred.fromCoroutine(work).addBoth(results.append)
        self.world.reactor.settle()
        return results[0]

    def connect(self, name: str) -> Any:
        return self.world.reactor.connect(self.server.ports[name])

    def start_tls(self, client: Any) -> None:
        client.start_tls(self.server.ca.read_bytes(), "localhost")
        assert client.closed is None


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.settled(site.server.stop())


def talk(client: Any, script: str) -> None:
    """``C:`` is sent; ``S:`` is how the next line heard begins; nothing else may be heard."""
    heard = client.read().splitlines()
    said = b""
    for line in script.strip().splitlines():
        side, _, text = line.strip().partition(": ")
        if side == "C":
            assert heard == []
            said += text.encode() + b"\r\n"
            continue
        if said:
            heard = client.ask(said).splitlines()
            said = b""
        assert heard and heard.pop(0).startswith(text.encode()), (line, heard)
    assert heard == []


OFFERS = """
        S: 250-localhost
        S: 250-PIPELINING
        S: 250-SIZE
        S: 250-8BITMIME
        S: 250-SMTPUTF8
        S: 250-ENHANCEDSTATUSCODES
        S: 250-CHUNKING
        S: 250-DSN
        S: 250-HELP"""


def test_submission_and_what_starttls_makes_it_forget(site: Site) -> None:
    client = site.connect("submission")
    talk(
        client,
        f"""
        S: 220 localhost ESMTP
        C: EHLO client.example{OFFERS}
        S: 250 STARTTLS
        C: MAIL FROM:<alice@example.org>
        S: 530 5.7.0
        C: STARTTLS
        S: 220 2.0.0
        """,
    )
    site.start_tls(client)
    assert client.read() == b""
    talk(
        client,
        f"""
        C: MAIL FROM:<alice@example.org>
        S: 503 5.5.1
        C: EHLO client.example{OFFERS}
        S: 250-REQUIRETLS
        S: 250 AUTH
        C: AUTH PLAIN {PLAIN}
        S: 235 2.7.0
        C: MAIL FROM:<alice@example.org> SIZE=100
        C: RCPT TO:<alice@example.org>
        C: RCPT TO:<nobody@example.org>
        C: DATA
        S: 250 2.1.0
        S: 250 2.1.5
        S: 550 5.1.1
        S: 354
        C: Subject: submitted
        C: -
        C: ..
        C: .
        S: 250 2.0.0
        C: QUIT
        S: 221 2.0.0
        """,
    )
    assert client.closed is not None


def test_submissions_then_pop3s(site: Site) -> None:
    client = site.connect("submissions")
    site.start_tls(client)
    talk(
        client,
        f"""
        S: 220 localhost ESMTP
        C: EHLO client.example{OFFERS}
        S: 250-REQUIRETLS
        S: 250 AUTH
        C: AUTH PLAIN
        S: 334
        C: {PLAIN}
        S: 235 2.7.0
        C: MAIL FROM:<alice@example.org>
        C: RCPT TO:<alice@example.org>
        S: 250 2.1.0
        S: 250 2.1.5
        """,
    )
    body = b".dot\r\n" * 100_000
    message = b"Subject: large\r\n\r\n" + body
    client.send(b"BDAT %d\r\n" % len(message) + message + b"BDAT 0 LAST\r\nQUIT\r\n")
    heard = client.read().splitlines()
    assert [line[:9] for line in heard] == [b"250 2.0.0", b"250 2.0.0", b"221 2.0.0"]

    reader = site.connect("pop3s")
    site.start_tls(reader)
    talk(
        reader,
        """
        S: +OK
        C: USER alice@example.org
        C: PASS secret
        S: +OK
        S: +OK
        """,
    )
    number = int(reader.ask(b"STAT\r\n").split()[1])
    reader.stop_reading()
    reader.send(b"RETR %d\r\nDELE %d\r\nQUIT\r\n" % (number, number))
    reader.go_on_reading()
    reply = b""
    while more := reader.read():
        reply += more
    first, _, rest = reply.partition(b"\r\n")
    retrieved, _, last = rest.partition(b"\r\n.\r\n")
    assert first.startswith(b"+OK ")
    assert retrieved.partition(b"\r\n\r\n")[2] + b"\r\n" == body.replace(b".", b"..")
    assert [line[:3] for line in last.splitlines()] == [b"+OK", b"+OK"]
    assert reader.closed is not None


@pytest.mark.parametrize(
    ("service", "before", "command", "evil"),
    [
        ("smtp", b"EHLO c\r\n", b"STARTTLS\r\n", b"MAIL FROM:<evil@example.net>\r\n"),
        ("submission", b"EHLO c\r\n", b"STARTTLS\r\n", b"NOOP\r\n"),
        ("pop3", b"CAPA\r\n", b"STLS\r\n", b"USER evil\r\nPASS evil\r\n"),
    ],
)
def test_what_is_sent_in_clear_behind_starttls_is_never_run(
    site: Site, service: str, before: bytes, command: bytes, evil: bytes
) -> None:
    script = before + command + evil
    for cut in range(len(before), len(script) + 1):
        client = site.connect(service)
        client.ask(before)
        first = client.ask(script[len(before) : cut])
        second = client.ask(script[cut:])
        begun = cut == len(before) + len(command)
        assert len((first + second).splitlines()) <= (2 if begun else 1)
        assert (first + second).startswith((b"220 ", b"+OK") if begun else (b"554 ", b"-ERR"))
        assert client.closed is not None


def test_too_many_errors_end_a_session(site: Site) -> None:
    client = site.connect("smtp")
    client.read()
    heard = client.ask(b"WRONG\r\n" * 100).splitlines()
    # Three are answered at once, the others each a second later
    assert [line[:3] for line in heard] == [b"500"] * 3
    for n in range(1, 7):
        site.world.reactor.advance(1)
        assert [line[:3] for line in client.read().splitlines()] == [b"500"], n
    site.world.reactor.advance(1)
    assert [line[:3] for line in client.read().splitlines()] == [b"500", b"421"]
    assert client.closed is not None


def test_a_flood_of_commands_is_answered_in_full(site: Site) -> None:
    client = site.connect("pop3")
    client.ask(b"STLS\r\n")
    site.start_tls(client)
    client.ask(b"USER alice@example.org\r\n")
    assert client.ask(b"PASS secret\r\n").startswith(b"+OK")
    client.send(b"NOOP\r\n" * 20_000)
    heard = client.read().splitlines()
    assert len(heard) == 20_000
    assert {line[:3] for line in heard} == {b"+OK"}


def test_a_flood_of_commands_that_lead_nowhere_ends(site: Site) -> None:
    client = site.connect("smtp")
    client.ask(b"EHLO c\r\n")
    heard = client.ask(b"NOOP\r\n" * 200).splitlines()
    assert [line[:3] for line in heard] == [b"250"] * 109 + [b"421"]
    assert client.closed is not None
