"""IMAP of the in-process server, over the real store: mailboxes come and go, messages are put together."""

from __future__ import annotations

import re
from typing import Any

import pytest
from settling import settled

from twisted_mail.testing.server import MailServer
from twisted_mail.testing.world import simulated_world

ALICE = "alice@example.org"


class Client:
    def __init__(self, world: Any, server: MailServer) -> None:
        self.world = world
        self.connection = world.reactor.connect(server.ports["imap"], address="127.0.0.1")
        assert self.connection.read().startswith(b"* OK ")
        self.ask(b"LOGIN %s secret" % ALICE.encode())

    def ask(self, command: bytes, status: bytes = b"OK") -> list[bytes]:
        """The lines of the answer, without the tagged one, which begins with `status`."""
        said: bytes = self.connection.ask(b"a " + command + b"\r\n")
        for _ in range(200):
            if re.search(rb"^a ", said, re.MULTILINE):
                break
            self.world.reactor.advance(0.01)
            said += self.connection.read()
        *lines, last = said.removesuffix(b"\r\n").split(b"\r\n")
        assert last.startswith(b"a " + status), said
        return lines


@pytest.fixture
def world() -> Any:
    return simulated_world()


@pytest.fixture
def client(world: Any, tmp_path: Any) -> Any:
    configuration = {"imap": {"allow_plaintext_loopback": True}}
    starting = MailServer.start(
        world, users={ALICE: "secret"}, directory=tmp_path, configuration=configuration
    )
    server = settled(world, starting)
    assert set(server.ports) >= {"imap", "imaps"}
    yield Client(world, server)
    settled(world, server.stop())


def names(lines: list[bytes]) -> list[bytes]:
    return [line.rpartition(b'"/" ')[2] for line in lines]


def test_a_new_account_has_what_clients_look_for(client: Client) -> None:
    assert client.ask(b'LIST (SPECIAL-USE) "" *') == [
        b'* LIST (\\Archive) "/" Archive', b'* LIST (\\Drafts) "/" Drafts', b'* LIST (\\Junk) "/" Junk',
        b'* LIST (\\Sent) "/" Sent', b'* LIST (\\Trash) "/" Trash',
    ]  # fmt: skip


def test_mailboxes_come_and_go(client: Client) -> None:
    client.ask(b"CREATE a.b/c.d")
    client.ask(b"CREATE &AOQ-/x (USE (\\Flagged))", b"NO [USEATTR] ")
    client.ask(b"CREATE &AOQ-/x")
    assert names(client.ask(b'LIST "" ("a*" "&AOQ-*")')) == [
        b"a.b", b"a.b/c.d", b"&AOQ-", b"&AOQ-/x",
    ]  # fmt: skip
    client.ask(b"RENAME a.b moved/here")
    client.ask(b"CREATE moved/here/c.d", b"NO [ALREADYEXISTS] ")
    client.ask(b"DELETE moved", b"NO [")
    assert client.ask(b'LIST "" moved*') == [
        b'* LIST (\\Noselect \\HasChildren) "/" moved',
        b'* LIST (\\Noselect \\HasChildren) "/" moved/here',
        b'* LIST (\\HasNoChildren) "/" moved/here/c.d',
    ]
    client.ask(b"DELETE moved/here/c.d")
    assert client.ask(b'LIST "" moved*') == []
    client.ask(b"SUBSCRIBE gone/by")
    assert b'* LIST (\\NonExistent \\Subscribed) "/" gone/by' in client.ask(
        b'LIST (SUBSCRIBED) "" *'
    )
    client.ask(b"UNSUBSCRIBE gone/by")
    assert client.ask(b'LIST (SUBSCRIBED) "" gone/*') == []


def test_annotations_are_kept(client: Client, world: Any) -> None:
    client.ask(b'SETMETADATA INBOX (/private/comment "of the inbox")')
    client.ask(b'SETMETADATA "" (/private/comment "of the account")')
    assert client.ask(b"GETMETADATA INBOX /private/comment") == [
        b'* METADATA INBOX (/private/comment "of the inbox")'
    ]
    assert client.ask(b'GETMETADATA (DEPTH infinity) "" /private') == [
        b'* METADATA "" (/private/comment "of the account")'
    ]


@pytest.mark.parametrize("lines", [3, 60_000])
def test_messages_are_put_together(client: Client, lines: int) -> None:
    message = (
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nfirst\r\n--x\r\n\r\n"
        + b"0123456789\r\n" * lines
        + b"--x--\r\n"
    )
    client.ask(
        b'APPEND INBOX (\\Seen kw) " 7-Jul-1996 02:44:25 -0700" {%d+}\r\n%s'
        % (len(message), message)
    )
    client.ask(
        b'APPEND Drafts CATENATE (TEXT {3+}\r\n> \n URL "/INBOX/;UID=1/;SECTION=1"'
        b' URL "/INBOX/;UID=1/;SECTION=2/;PARTIAL=0.15")'
    )
    client.ask(b"SELECT Drafts")
    text = b"> \r\nfirst0123456789\r\n012"
    # RFC 3501 section 6.3.11 says nothing of a last line without its end: it gets one
    wanted = b"* 1 FETCH (BODY[] {%d}\r\n%s\r\n)" % (len(text) + 2, text)
    assert b"\r\n".join(client.ask(b"FETCH 1 BODY.PEEK[]")) == wanted
    said = client.ask(b'REPLACE 1 Drafts CATENATE (URL ";UID=1" TEXT {4+}\r\nmore)')
    assert re.fullmatch(rb"\* OK \[APPENDUID \d+ 2\] .*", said[0])
    assert b"* 1 EXPUNGE" in said
    assert b"more" in client.ask(b"FETCH 1 BODY.PEEK[]")
    assert client.ask(b"STATUS INBOX (MESSAGES SIZE)") == [
        b"* STATUS INBOX (MESSAGES 1 SIZE %d)" % len(message)
    ]


def test_all_of_a_multiappend_or_none(client: Client) -> None:
    client.ask(b"APPEND Drafts {3+}\r\nabc {0+}\r\n", b"NO ")
    assert client.ask(b"STATUS Drafts (MESSAGES)") == [b"* STATUS Drafts (MESSAGES 0)"]
    client.ask(b"APPEND Drafts {3+}\r\nabc {3+}\r\nabd")
    assert client.ask(b"STATUS Drafts (MESSAGES)") == [b"* STATUS Drafts (MESSAGES 2)"]
    client.ask(b"APPEND nothing {3+}\r\nabc", b"NO [TRYCREATE] ")
