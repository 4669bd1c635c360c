"""One message stays one: whatever looks like the end of its content, on the way in and on the way out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any

import pytest
from hostile import ALICE, BOB, Site
from hypothesis import given
from hypothesis import strategies as st
from receivers import RECEIVERS, VARIANTS, rest_behind
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from twisted_mail.connection.interfaces import NEED_DATA
from twisted_mail.content import BytesContent
from twisted_mail.message.lines import LineNormalizer
from twisted_mail.message.wire import DotStuffer, LineEnds
from twisted_mail.pop3.retrieval import Retrieval, Top
from twisted_mail.smtp.client.interfaces import Transaction
from twisted_mail.smtp.client.protocol import connect
from twisted_mail.smtp.engine import DATA, Block, Command, EndOfData, SmtpEngine
from twisted_mail.storage.queued import Options, QueuedRecipient
from twisted_mail.testing import simulated_world

INNER = (
    b"MAIL FROM:<evil@elsewhere.example>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n"
    b"Subject: smuggled\r\n\r\nsmuggled"
)
AFTER = b"NEXT\r\n"

SIGNS = [b"\r", b"\n", b".", b"\0", b"a"]


def contents(length: int) -> Iterator[bytes]:
    """All texts of what an end is made of."""
    for size in range(length + 1):
        yield from map(b"".join, product(SIGNS, repeat=size))


# In


def engine_events(pieces: list[bytes]) -> tuple[bytes, list[bytes], bool]:
    """The content behind one DATA, the verbs behind it, and whether it ended."""
    engine = SmtpEngine()
    content, verbs, ended, began = b"", list[bytes](), False, False
    for piece in pieces:
        engine.receive(piece)
        while (event := engine.next_event()) is not NEED_DATA:
            expect = None
            if isinstance(event, Block):
                content += event.data
            elif isinstance(event, EndOfData):
                ended = True
            elif isinstance(event, Command):
                if not began:
                    began, expect = True, DATA
                else:
                    verbs.append(event.verb.encode("latin-1"))
            engine.resume(expect)
    return content, verbs, ended


def as_the_rfc_says(octets: bytes) -> tuple[bytes, bool]:
    """RFC 5321 section 4.1.1.4 and 4.5.2, by another way than the engine's: what is before the end, and whether there
    is one."""
    lines = octets.split(b"\r\n")
    content = []
    for line in lines[:-1]:
        if line == b".":
            return b"".join(one + b"\r\n" for one in content), True
        content.append(line[1:] if line[:1] == b"." else line)
    return b"", False


def test_of_all_short_texts_the_engine_ends_where_the_rfc_says_whatever_the_cut() -> None:
    for text in contents(5):
        stream = text + b"\r\n.\r\n"
        expected, _ = as_the_rfc_says(stream)
        whole = b"DATA\r\n" + stream
        cuts = [[whole], [whole[at : at + 1] for at in range(len(whole))]]
        cuts += [[whole[:at], whole[at:]] for at in range(6, len(whole))]
        for pieces in cuts:
            content, _, ended = engine_events(pieces)
            assert ended, (text, pieces)
            # What a line begun in it has left unread is a command's beginning, never content
            assert content == expected, (text, pieces)


@pytest.fixture
def talking(long_site: Site) -> Site:
    for user in (ALICE, BOB):
        for path in long_site.maildir(user).glob("*/*"):
            path.unlink()
    # Who comes too often in a short time is told so
    long_site.world.reactor.advance(120)
    return long_site


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_variant_ends_a_message_that_comes_in(talking: Site, variant: bytes) -> None:
    before, behind = b"Subject: outer\r\n\r\nouter", INNER + b"\r\n.\r\n"
    for at in range(-1, len(variant) + 2):
        cut = len(before) + at
        stream = before + variant + behind
        client = talking.smtp(ALICE)
        assert client.ask(b"DATA\r\n").startswith(b"354 ")
        said = client.ask(stream[:cut]) + client.ask(stream[cut:])
        assert re.fullmatch(rb"250 2\.0\.0 [^\r]*\r\n", said), said
        assert client.ask(b"QUIT\r\n").startswith(b"221 ")
        client.close()
    assert len(talking.server.messages(ALICE)) == len(variant) + 3
    assert talking.server.messages(BOB) == []


@pytest.mark.parametrize("variant", [b"\r\n.\r\n", *VARIANTS])
def test_in_a_chunk_not_even_the_real_one_does(talking: Site, variant: bytes) -> None:
    content = b"Subject: outer\r\n\r\nouter" + variant + INNER + b"\r\n.\r\n"
    for at in range(22, 24 + len(variant)):
        client = talking.smtp(ALICE)
        first, last = content[:at], content[at:]
        said = client.ask(
            b"BDAT %d\r\n%bBDAT %d LAST\r\n%bNOOP\r\n" % (len(first), first, len(last), last)
        )
        assert [line[:3] for line in said.splitlines()] == [b"250"] * 3
        client.close()
    assert talking.server.messages(BOB) == []
    assert len(talking.server.messages(ALICE)) == len(variant) + 2


def test_an_end_at_the_very_start(talking: Site) -> None:
    for start in (b".\n", b".\r", b".\0\r\n", b"\0.\r\n", b"\n.\r\n", b"\r.\r\n"):
        client = talking.smtp(ALICE)
        said = client.ask(b"DATA\r\n") + client.ask(start + INNER + b"\r\n.\r\n")
        assert [line[:3] for line in said.splitlines()] == [b"354", b"250"], start
        client.close()
    assert talking.server.messages(BOB) == []


# Out: what is stored may be anything; another program has written the file


def stuffed(pieces: list[bytes]) -> bytes:
    stuffer = DotStuffer()
    return b"".join(map(stuffer.encode, pieces)) + stuffer.finish()


def check(wire: bytes) -> None:
    """That each receiver sees one message, and then what comes next."""
    assert set(rest_behind(wire + AFTER).values()) == {AFTER}, wire


def test_of_all_short_texts_no_receiver_sees_two_whatever_the_cut() -> None:
    for text in contents(5):
        whole = b"x" + text
        check(stuffed([whole]))
        check(stuffed([text]))
        for at in range(1, len(whole)):
            check(stuffed([whole[:at], whole[at:]]))


@given(st.lists(st.sampled_from([*VARIANTS, *SIGNS, b"\r\n.\r\n", INNER])), st.data())
def test_long_ones_in_any_blocks(parts: list[bytes], data: st.DataObject) -> None:
    text = b"".join(parts)
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    edges = [0, *places, len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    check(stuffed(pieces))
    # What came in, and goes on
    normalizer = LineNormalizer()
    check(stuffed([*map(normalizer.feed, pieces), normalizer.finish()]))


def test_chunks_are_as_long_as_they_say_and_have_no_bare_ends() -> None:
    for text in contents(5):
        ends = LineEnds()
        wire = ends.encode(text) + ends.finish()
        assert b"\r" not in wire.replace(b"\r\n", b"")
        assert b"\n" not in wire.replace(b"\r\n", b"")


# Out by POP3


def retrieved(content: bytes, **how: Any) -> bytes:
    async def run() -> bytes:
        retrieval = Retrieval(BytesContent(content), len(content), **how)
        return b"".join([piece async for piece in retrieval])

    results: list[bytes] = []
    Deferred.fromCoroutine(run()).addCallback(results.append)
    return results[0]


@pytest.mark.parametrize("surrogate", [False, True])
def test_no_message_ends_a_reply_of_pop3(surrogate: bool) -> None:
    for text in contents(4):
        for content in (
            text,
            b"S: x\n\n" + text,
            b"Content-Type: multipart/mixed; boundary=.\n\n" + text,
        ):
            check(retrieved(content, surrogate=surrogate))
            check(retrieved(content, surrogate=surrogate, top=Top(1)))
            check(retrieved(content, surrogate=surrogate, top=Top(0)))


# Out by SMTP and LMTP: the client of the queue, to a receiver that is lax


class Sink(Protocol):
    """Takes everything; counts messages and what is no command of ours."""

    def __init__(self, behind: Any, extensions: bytes, lmtp: bool) -> None:
        self.messages = 0
        self.commands: list[bytes] = []
        self._behind = behind
        self._extensions = extensions
        self._lmtp = lmtp
        self._buffer = b""
        self._in_data = False
        self._recipients = 0

    def connectionMade(self) -> None:
        self._say(b"220 sink")

    def _say(self, line: bytes) -> None:
        assert self.transport is not None
        self.transport.write(line + b"\r\n")

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        while self._step():
            pass

    def _step(self) -> bool:
        if self._in_data:
            try:
                self._buffer = self._behind(self._buffer)
            except AssertionError:
                return False
            self._in_data = False
            self.messages += 1
            for _ in range(self._recipients if self._lmtp else 1):
                self._say(b"250 ok")
            return True
        line, end, rest = self._buffer.partition(b"\n")
        if not end:
            return False
        self._buffer = rest
        words = line.split()
        verb = words[0].upper() if words else b""
        self.commands.append(verb)
        if verb in (b"EHLO", b"LHLO"):
            self._say(b"250-sink\r\n250" + self._extensions)
        elif verb == b"DATA":
            self._in_data = True
            self._say(b"354 go")
        elif verb == b"BDAT":
            size = int(words[1])
            if len(self._buffer) < size:
                self._buffer = line + b"\n" + self._buffer
                self.commands.pop()
                return False
            self._buffer = self._buffer[size:]
            self.messages += words[-1] == b"LAST"
            self._say(b"250 ok")
        else:
            self._recipients = 0 if verb == b"MAIL" else self._recipients + (verb == b"RCPT")
            self._say(b"250 ok")
        return True


NASTY = b"Subject: outer\n\nouter" + b"".join(
    variant + INNER + b"\r\n.\r\nQUIT\r\n" for variant in [*VARIANTS, b"\r\n.\r\n", b"\n.\n"]
)


@pytest.mark.parametrize("receiver", RECEIVERS)
@pytest.mark.parametrize("lmtp", [False, True])
@pytest.mark.parametrize(
    "extensions", [b" PIPELINING", b" 8BITMIME", b"-PIPELINING\r\n250 CHUNKING"]
)
def test_the_client_hands_over_one_message(receiver: str, lmtp: bool, extensions: bytes) -> None:
    world = simulated_world()
    sink = Sink(RECEIVERS[receiver], extensions, lmtp)
    factory = Factory()
    factory.buildProtocol = lambda addr: sink  # type: ignore[method-assign,assignment]
    world.reactor.listenTCP(2525, factory, interface="127.0.0.1")
    # Over 64 KiB it goes in blocks, and in chunks where there are chunks
    content = NASTY * (1 if b"CHUNKING" not in extensions else 100)

    async def hand_over() -> Any:
        conversation = await connect(
            world, "127.0.0.1", 2525, helo="me.example", name="sink", lmtp=lmtp
        )
        await conversation.hello()
        recipient = QueuedRecipient(BOB, "sink")
        transaction = Transaction(ALICE, [recipient], Options(), 0)
        replies = await conversation.send(transaction, BytesContent(content))
        await conversation.quit()
        return replies

    (reply,) = world.run(hand_over())
    assert reply.code == 250
    assert sink.messages == 1
    known = {b"EHLO", b"LHLO", b"MAIL", b"RCPT", b"DATA", b"BDAT", b"QUIT"}
    assert set(sink.commands) <= known
    assert sink.commands.count(b"MAIL") == sink.commands.count(b"QUIT") == 1


# Out of a Maildir that another program has written in, by the whole server


def answers(said: bytes) -> list[tuple[bytes, bytes | None]]:
    """Lines of IMAP, each with its literal."""
    found = []
    at = 0
    while at < len(said):
        end = said.index(b"\r\n", at)
        line = said[at:end]
        at = end + 2
        literal = re.search(rb"\{(\d+)\}\Z", line)
        size = int(literal[1]) if literal else 0
        found.append((line, said[at : at + size] if literal else None))
        at += size
    return found


def test_what_lies_in_a_maildir_is_one_message_in_every_protocol(site: Site) -> None:
    site.imap().close()
    for number, variant in enumerate([*VARIANTS, b"\r\n.\r\n"]):
        text = b"Subject: outer\n\nouter" + variant + b"a OK done\r\n* 9 EXISTS\r\n+OK 3\r\n"
        (site.maildir() / "tmp" / "x").write_bytes(text)
        os.rename(site.maildir() / "tmp" / "x", site.maildir() / "new" / f"{number}.M1P1.other")
    client = site.imap()
    count = len(VARIANTS) + 1
    for item in (b"BODY[]", b"BODY[TEXT]", b"BODY[1]", b"RFC822", b"BODY[]<3.30>", b"BODY[HEADER]"):
        said = client.ask(b"z FETCH 1:* %b\r\n" % item)
        lines = answers(said)
        starts = [line for line, _ in lines if line.startswith(b"* ")]
        assert len([one for one in starts if b"FETCH" in one and b"{" in one]) == count
        assert [line for line, _ in lines if line[:2] in (b"a ", b"z ")][-1].startswith(b"z OK")
        assert len([line for line, _ in lines if line[:2] in (b"a ", b"z ")]) == 1
        for _, literal in lines:
            if literal is not None:
                assert b"\r" not in literal.replace(b"\r\n", b"") or b"<" in item
                assert b"\0" not in literal
    client.close()
    reader = site.pop3()
    for number in range(1, count + 1):
        for command in (b"RETR %d", b"TOP %d 5"):
            said = reader.ask(command % number + b"\r\n")
            head, _, rest = said.partition(b"\r\n")
            assert head.startswith(b"+OK")
            assert set(rest_behind(rest + AFTER).values()) == {AFTER}
