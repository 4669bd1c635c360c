"""What is put in clear before TLS begins is never taken for what came under it: by servers, nor by our client."""

from __future__ import annotations

from typing import Any

import pytest
from hostile import Site
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import optionsForClientTLS

from twisted_mail.smtp.client.interfaces import SessionError
from twisted_mail.smtp.client.protocol import connect
from twisted_mail.testing import simulated_world

SERVICES = {
    "smtp": (b"EHLO c\r\n", b"STARTTLS", b"220 ", b"MAIL FROM:<evil@example.net>\r\nRSET\r\n"),
    "submission": (b"EHLO c\r\n", b"STARTTLS", b"220 ", b"EHLO evil\r\nNOOP\r\n"),
    "pop3": (b"CAPA\r\n", b"STLS", b"+OK", b"USER evil\r\nPASS evil\r\n"),
    "imap": (
        b"c CAPABILITY\r\n",
        b"a STARTTLS",
        b"a OK",
        b"b NOOP\r\nc LOGIN {4+}\r\nevil secret\r\n",
    ),
}
REFUSED = (b"554 ", b"-ERR", b"* BYE", b"a BAD", b"a NO")


def open_(site: Site, service: str) -> Any:
    client = site.connect(service)
    client.read()
    return client


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("end", [b"\r\n", b"\n", b" \r\n"])
def test_commands_in_clear_are_never_run_in_any_split(
    long_site: Site, service: str, end: bytes
) -> None:
    before, command, ready, evil = SERVICES[service]
    script = command + end + evil
    for cut in range(1, len(script)):
        client = open_(long_site, service)
        client.ask(before)
        said = client.ask(script[:cut])
        begun = said.startswith(ready)
        # Only where nothing was behind it
        assert not begun or script[:cut].rstrip(b"\r\n \t") == command
        said += client.ask(script[cut:])
        lines = said.splitlines()
        assert lines[0].startswith(ready if begun else REFUSED), said
        # What follows is an alert of TLS at the most, no reply
        assert b"250" not in said[3:] and said.count(b"+OK") <= begun and b"c OK" not in said
        assert b"b OK" not in said
        assert client.closed is not None
        long_site.world.reactor.advance(2)


@pytest.mark.parametrize("service", SERVICES)
def test_a_handshake_that_came_too_early_is_no_handshake(long_site: Site, service: str) -> None:
    before, command, _, _ = SERVICES[service]
    hello = bytes.fromhex("16030100050100000103")
    client = open_(long_site, service)
    client.ask(before)
    said = client.ask(command + b"\r\n" + hello)
    assert said.startswith(REFUSED), said
    assert client.closed is not None


@pytest.mark.parametrize(
    ("service", "clear", "under", "refusal"),
    [
        ("smtp", b"EHLO c\r\nMAIL FROM:<>\r\n", b"RCPT TO:<alice@example.org>\r\n", b"503 "),
        ("submission", b"EHLO c\r\nAUTH PLAIN\r\n", b"MAIL FROM:<alice@example.org>\r\n", b"50"),
        ("pop3", b"USER alice@example.org\r\n", b"PASS secret\r\n", b"-ERR"),
        ("imap", b"x LOGIN alice@example.org secret\r\n", b"y SELECT INBOX\r\n", b"y BAD"),
    ],
)
def test_what_was_said_in_clear_counts_for_nothing_under_tls(
    tmp_path: Any, service: str, clear: bytes, under: bytes, refusal: bytes
) -> None:
    site = Site(
        tmp_path,
        imap={"allow_plaintext_loopback": False},
        pop3={"allow_plaintext_loopback": False},
    )
    _, command, ready, _ = SERVICES[service]
    client = open_(site, service)
    client.ask(clear)
    assert client.ask(command + b"\r\n").startswith(ready)
    client.start_tls(site.server.ca.read_bytes(), "localhost")
    assert client.cipher
    assert client.ask(under).startswith(refusal)
    client.close()
    site.stop()


# Our client, to a server between whose words somebody puts others


class Speaker(Protocol):
    """Says the pieces of its answer to STARTTLS one by one."""

    pieces: list[bytes]

    def connectionMade(self) -> None:
        self._write(b"220 mx\r\n")
        self.heard = b""

    def _write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if data.startswith(b"EHLO"):
            self._write(b"250-mx\r\n250 STARTTLS\r\n")
        elif data.startswith(b"STARTTLS"):
            self._write(self.pieces[0])

    def go_on(self) -> None:
        self._write(self.pieces[1])


def asked_for_tls(speaker: Speaker) -> tuple[Any, list[SessionError]]:
    world = simulated_world()
    factory = Factory()
    factory.buildProtocol = lambda addr: speaker  # type: ignore[method-assign,assignment]
    world.reactor.listenTCP(2525, factory, interface="127.0.0.1")
    problems: list[SessionError] = []

    async def run() -> Any:
        conversation = await connect(world, "127.0.0.1", 2525, helo="me.example", name="mx")
        await conversation.hello()
        world.reactor.callLater(1, speaker.go_on)
        try:
            await conversation.start_tls(optionsForClientTLS("mx"))
        except SessionError as error:
            problems.append(error)
        return conversation

    return world.run(run()), problems


INJECTED = [
    b"250-mx\r\n250-AUTH PLAIN LOGIN\r\n250 SIZE\r\n",
    b"250 2.0.0 Ok\r\n" * 5,
    b"421 4.3.2 go away\r\n",
    b"\r\n",
    b"2",
    b"220 again\r\n",
]


@pytest.mark.parametrize("injected", INJECTED)
def test_replies_in_clear_are_never_taken_for_answers_under_tls(injected: bytes) -> None:
    answer = b"220-go\r\n220 ahead\r\n"
    for cut in range(1, len(answer + injected)):
        speaker = Speaker()
        speaker.pieces = [(answer + injected)[:cut], (answer + injected)[cut:]]
        conversation, problems = asked_for_tls(speaker)
        assert problems, cut
        assert conversation.tls is None
        assert not conversation.open
        assert "AUTH" not in conversation.extensions
        # Nothing was said in clear but what belongs there
        plain = speaker.heard.partition(b"STARTTLS\r\n")
        assert plain[0] == b"EHLO me.example\r\n"
        assert plain[2] == b"" or plain[2][0] == 0x16
