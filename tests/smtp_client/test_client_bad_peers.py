"""Peers that close early, are silent, talk nonsense or too much: nothing hangs, leaks or raises anything else."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_peer import ALICE, BOB, CAROL, Talk, codes, greeted, result_of, talk, transaction
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

from twisted_mail.connection.drive import Waiting
from twisted_mail.interfaces import Content
from twisted_mail.smtp.client.interfaces import PeerReply, SessionError, Timeouts

HELLO = "C: Subject: hi\nC: \nC: hello\nC: .\n"
ENVELOPE = f"C: MAIL FROM:<{ALICE}>\nC: RCPT TO:<{BOB}>\nC: RCPT TO:<{CAROL}>\nC: DATA\n"
LONG = b"a line of thirty-two octets....\n" * 30_000


def whole_message(script: str, *extensions: str, within: float = 0, **options: Any) -> Any:
    """Everything from the greeting to the last word: the replies, or the error."""
    made = Talk(script, **options)
    try:
        made.do(made.conversation.hello(), within=within)
        found: Any = made.send(BOB, CAROL, within=within)
    except SessionError as error:
        found = error
    made.world.reactor.advance(20)
    return made, found


def test_the_peer_closes_at_each_point() -> None:
    steps = (
        greeted("PIPELINING")
        + ENVELOPE
        + "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\n"
        + HELLO
        + "S: 250 ok"
    ).splitlines()
    for kept in range(len(steps)):
        for ending in ("CLOSE", "ABORT", "SHUT"):
            script = "\n".join([*steps[:kept], ending])
            made, error = whole_message(script)
            assert isinstance(error, SessionError), script
            assert error.reply is None
            assert "mx.example.net closed the connection" in error.text
            assert not made.conversation.open
            assert made.peer.closed or ending == "SHUT"


def test_the_text_says_what_was_not_answered() -> None:
    _, error = whole_message(greeted("PIPELINING") + ENVELOPE + "CLOSE")
    assert error.text == "mx.example.net closed the connection instead of answering MAIL"
    _, error = whole_message("WAIT 1\nCLOSE", within=1)
    assert error.text == (
        "mx.example.net closed the connection instead of answering with a greeting"
    )


def test_refusals_are_not_forgotten_when_the_peer_closes() -> None:
    script = "S: 250 ok\nS: 550 5.1.1 nobody\nS: 250 ok\nS: 354 go\n" + HELLO + "CLOSE"
    conversation = talk(ENVELOPE + script, "PIPELINING")
    assert conversation.send(BOB, CAROL) == [
        PeerReply(550, "5.1.1", "nobody"),
        PeerReply(
            451,
            "4.4.2",
            "mx.example.net closed the connection instead of answering the end of the message",
            said=False,
        ),
    ]
    assert not conversation.conversation.open


def test_all_refused_then_closed() -> None:
    conversation = talk(ENVELOPE + "S: 550 5.7.1 we do not like you\nCLOSE", "PIPELINING")
    assert codes(conversation.send(BOB, CAROL)) == ["550 5.7.1", "550 5.7.1"]
    assert not conversation.conversation.open


def test_lmtp_deliveries_are_not_forgotten() -> None:
    script = greeted("PIPELINING").replace("EHLO", "LHLO") + ENVELOPE
    made = Talk(
        script + "S: 250 a\nS: 250 b\nS: 250 c\nS: 354 go\n" + HELLO + "S: 250 2.0.0 bob\nCLOSE",
        lmtp=True,
    )
    made.hello()
    assert codes(made.send(BOB, CAROL)) == ["250 2.0.0", "451 4.4.2 (ours)"]


@pytest.mark.parametrize("ending", ["CLOSE", "", "S: 250 more"])
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("S: 421 4.3.2 bye", ["421 4.3.2"] * 2),
        ("S: 250 ok\nS: 421 bye", ["421"] * 2),
        ("S: 250 ok\nS: 550 5.1.1 no\nS: 421 bye", ["550 5.1.1", "421"]),
        ("S: 250 ok\nS: 250 ok\nS: 421 bye", ["421"] * 2),
        ("S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 421 bye", ["421"] * 2),
        ("S: 250 ok\nS: 550 5.1.1 no\nS: 250 ok\nS: 421 bye", ["550 5.1.1", "421"]),
        ("S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\n" + HELLO + "S: 421 bye", ["421"] * 2),
    ],
)
def test_421_is_the_word_on_all_that_have_no_other(
    script: str, words: list[str], ending: str
) -> None:
    conversation = talk(ENVELOPE + script + "\n" + ending, "PIPELINING")
    assert codes(conversation.send(BOB, CAROL)) == words
    assert not conversation.conversation.open
    conversation.world.reactor.settle()
    assert conversation.peer.closed
    with pytest.raises(SessionError, match="421"):
        conversation.send(BOB)


def test_421_in_the_midst_of_the_content() -> None:
    script = "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nC* 1000\nSTOP"
    conversation = talk(ENVELOPE + script, "PIPELINING")
    waiting = conversation.start(conversation.sending(BOB, CAROL, content=LONG))
    assert not waiting.called
    conversation.peer.transport.write(b"421 4.3.0 going down\r\n")
    conversation.world.reactor.settle()
    assert codes(result_of(waiting)) == ["421 4.3.0"] * 2
    assert conversation.content.closed == 1
    assert not conversation.conversation.open


def test_550_in_the_midst_of_the_content_is_no_answer() -> None:
    script = "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nC* 1000\nSTOP"
    conversation = talk(ENVELOPE + script, "PIPELINING")
    waiting = conversation.start(conversation.sending(BOB, CAROL, content=LONG))
    conversation.peer.transport.write(b"550 5.7.1 no\r\n")
    conversation.world.reactor.settle()
    with pytest.raises(SessionError, match=r"spoke unasked: 550 5\.7\.1 no") as caught:
        result_of(waiting)
    assert caught.value.reply is None


def test_421_on_an_idle_connection() -> None:
    conversation = talk("WAIT 100\nS: 421 4.4.2 idle\nCLOSE")
    assert conversation.conversation.open
    conversation.world.reactor.advance(100)
    assert not conversation.conversation.open
    with pytest.raises(SessionError, match=r"ended the conversation: 421 4\.4\.2 idle"):
        conversation.send(BOB)


def test_an_idle_connection_that_closes() -> None:
    conversation = talk("WAIT 100\nCLOSE")
    conversation.world.reactor.advance(100)
    assert not conversation.conversation.open
    with pytest.raises(SessionError, match="closed the connection"):
        conversation.send(BOB)


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("S: 354 go", "answered MAIL with 354 go"),
        ("S: 250 ok\nS: 354 go", "answered RCPT with 354 go"),
        ("S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 250 2.0.0 x", "answered DATA with 250 2.0.0 x"),
        ("S: hello", "sent what is no SMTP reply: 'hello'"),
        ("S: 250 ok\nS: 250-a\nS: 550 b", "sent a reply with different codes on its lines"),
        (
            "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\n" + HELLO + "S: 354 more",
            "answered the end of the message with 354 more",
        ),
        (
            r"S! 250 a\r\n250 b\r\n250 c\r\n354 d\r\n250 e\r\n",
            "spoke unasked: 250 e",
        ),
        (r"S! 250 a\r\n250 b\r\n250 c\r\n354 d\r\n25", "spoke unasked"),
    ],
)
def test_nonsense(script: str, text: str) -> None:
    conversation = talk(ENVELOPE + script, "PIPELINING")
    with pytest.raises(SessionError) as caught:
        conversation.send(BOB, CAROL)
    assert caught.value.text == f"mx.example.net {text}"
    assert not conversation.conversation.open
    conversation.world.reactor.settle()
    assert conversation.peer.closed


def test_replies_before_commands() -> None:
    made = Talk("S: 220 hi\nS: 250 ok")
    with pytest.raises(SessionError, match="spoke unasked: 250 ok"):
        made.hello()
    assert not made.conversation.open


def test_a_banner_of_ten_megabytes() -> None:
    made = Talk("")
    waiting = made.start(made.conversation.hello())
    transport: Any = made.peer.transport
    for _ in range(160):
        transport.write(b"220-" + b"x" * (1 << 16))
        made.world.reactor.settle()
    with pytest.raises(SessionError, match="sent an endless reply"):
        result_of(waiting)
    assert not made.conversation.open
    assert made.peer.closed


def test_replies_nobody_asked_for_do_not_pile_up() -> None:
    conversation = talk("")
    waiting = conversation.start(conversation.sending(BOB))
    for _ in range(100):
        conversation.peer.transport.write(b"250-" + b"x" * 996 + b"\r\n")
        conversation.world.reactor.settle()
    with pytest.raises(SessionError, match="endless"):
        result_of(waiting)


def test_one_byte_a_minute_is_not_for_ever() -> None:
    made = Talk("", timeouts=Timeouts(greeting=300))
    waiting = made.start(made.conversation.hello())
    minutes = 0
    while not waiting.called:
        made.peer.transport.write(b"2")
        made.world.reactor.advance(60)
        minutes += 1
    assert minutes == 5
    with pytest.raises(SessionError) as caught:
        result_of(waiting)
    assert caught.value.text == "mx.example.net did not answer with a greeting within 300 seconds"
    made.world.reactor.settle()
    assert made.peer.closed


def test_one_reply_in_four_minutes_is_not_for_ever() -> None:
    conversation = talk("", "PIPELINING")
    recipients = [f"r{number}@example.net" for number in range(100)]
    waiting = conversation.start(conversation.sending(*recipients))
    minutes = 0
    while not waiting.called:
        conversation.peer.transport.write(b"250 ok\r\n")
        conversation.world.reactor.advance(240)
        minutes += 4
    assert minutes == 20
    with pytest.raises(SessionError, match="did not answer RCPT"):
        result_of(waiting)


TIMES = Timeouts(greeting=11, command=12, data_start=13, data_block=14, data_end=15, quit=5)


@pytest.mark.parametrize(
    ("script", "seconds", "what"),
    [
        ("", 11, "with a greeting"),
        ("S: 220 hi", 12, "EHLO"),
        (greeted(), 12, "MAIL"),
        (greeted() + f"C: MAIL FROM:<{ALICE}>\nS: 250 ok", 12, "RCPT"),
        (greeted("PIPELINING") + ENVELOPE + "S: 250 ok\nS: 250 ok\nS: 250 ok", 13, "DATA"),
        (
            greeted("PIPELINING")
            + ENVELOPE
            + "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\n"
            + HELLO,
            15,
            "the end of the message",
        ),
    ],
)
def test_each_reply_has_its_time(script: str, seconds: int, what: str) -> None:
    made = Talk(script, timeouts=TIMES)

    async def whole() -> None:
        await made.conversation.hello()
        await made.sending(BOB, CAROL)

    waiting = made.start(whole())
    made.world.reactor.advance(seconds - 1)
    assert not waiting.called
    made.world.reactor.advance(1)
    with pytest.raises(SessionError) as caught:
        result_of(waiting)
    assert caught.value.text == f"mx.example.net did not answer {what} within {seconds} seconds"
    made.world.reactor.settle()
    assert made.peer.closed


def test_a_peer_that_stops_reading() -> None:
    script = "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nC* 1000\nSTOP"
    conversation = talk(ENVELOPE + script, "PIPELINING", timeouts=TIMES)
    waiting = conversation.start(conversation.sending(BOB, CAROL, content=LONG))
    conversation.world.reactor.advance(13)
    assert not waiting.called
    conversation.world.reactor.advance(1)
    with pytest.raises(SessionError) as caught:
        result_of(waiting)
    assert caught.value.text == "mx.example.net did not read what was sent within 14 seconds"
    assert conversation.content.closed == 1


def test_a_slow_reader_gets_the_whole() -> None:
    script = "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nC* 1000\nSTOP"
    conversation = talk(ENVELOPE + script, "PIPELINING", timeouts=TIMES)
    waiting = conversation.start(conversation.sending(BOB, CAROL, content=LONG))
    transport: Any = conversation.peer.transport
    seconds = 0
    while not conversation.peer.heard.endswith(b"\r\n.\r\n"):
        transport.resumeProducing()
        conversation.world.reactor.step(1)
        transport.pauseProducing()
        conversation.world.reactor.advance(3)
        seconds += 3
    assert seconds > TIMES.data_block
    transport.write(b"250 ok\r\n")
    conversation.world.reactor.settle()
    assert codes(result_of(waiting)) == ["250", "250"]


def test_quit_does_not_wait_long() -> None:
    conversation = talk("C: QUIT", timeouts=TIMES)
    waiting = conversation.start(conversation.conversation.quit())
    conversation.world.reactor.advance(4)
    assert not waiting.called
    conversation.world.reactor.advance(1)
    assert result_of(waiting) is None
    assert not conversation.conversation.open
    conversation.world.reactor.advance(20)
    assert conversation.peer.closed


def test_quit_from_a_peer_that_is_gone() -> None:
    conversation = talk("C: QUIT\nABORT")
    conversation.do(conversation.conversation.quit())
    conversation.do(conversation.conversation.quit())
    assert not conversation.conversation.open


def test_cancelled_it_closes() -> None:
    conversation = talk(ENVELOPE + "S: 250 ok", "PIPELINING")
    waiting = conversation.start(conversation.sending(BOB, CAROL))
    waiting.cancel()
    with pytest.raises(CancelledError):
        result_of(waiting)
    assert conversation.content.closed == 1
    assert not conversation.conversation.open
    conversation.world.reactor.settle()
    assert conversation.peer.closed


class BrokenContent:
    """A file that cannot be read any further after `good` blocks."""

    def __init__(self, good: int) -> None:
        self.good = good
        self.closed = 0

    async def read(self, size: int) -> bytes:
        self.good -= 1
        if self.good < 0:
            raise OSError("bad sector")
        return b"x" * 40_000 + b"\n"

    def close(self) -> None:
        self.closed += 1


def test_content_that_cannot_be_read_at_all_costs_nothing() -> None:
    conversation = talk("")
    said = conversation.peer.heard
    content = BrokenContent(1)
    with pytest.raises(OSError, match="bad sector"):
        conversation.do(send_content(conversation, content))
    assert content.closed == 1
    assert conversation.peer.heard == said
    assert conversation.conversation.open


@pytest.mark.parametrize("extension", ["PIPELINING", "CHUNKING"])
def test_half_a_message_is_never_ended(extension: str) -> None:
    conversation = talk("", extension, "PIPELINING")
    content = BrokenContent(9)
    waiting = conversation.start(send_content(conversation, content))
    conversation.peer.transport.write(b"250 ok\r\n" * 2)
    if extension == "PIPELINING":
        conversation.peer.transport.write(b"354 go\r\n")
    conversation.world.reactor.settle()
    with pytest.raises(OSError, match="bad sector"):
        result_of(waiting)
    assert content.closed == 1
    assert not conversation.conversation.open
    conversation.world.reactor.settle()
    assert conversation.peer.closed
    assert not conversation.peer.heard.endswith(b".\r\n")
    assert b"LAST" not in conversation.peer.heard


def send_content(conversation: Talk, content: Content) -> Any:
    return conversation.conversation.send(transaction(BOB), content)


GOOD = [
    b"220-hi\r\n220 there\r\n",
    b"250-mx\r\n250-PIPELINING\r\n250 SIZE 1000\r\n",
    b"250 2.1.0 ok\r\n550-5.1.1 nobody\r\n550 5.1.1 here\r\n250 2.1.5 ok\r\n354 go\r\n",
    b"250 2.0.0 queued\r\n",
]


@given(st.lists(st.integers(1, 400), max_size=20))
@settings(max_examples=60)
def test_replies_cut_anywhere(cuts: list[int]) -> None:
    made = Talk("")

    async def whole() -> list[PeerReply]:
        await made.conversation.hello()
        return await made.sending(BOB, CAROL)

    waiting = made.start(whole())
    for reply in GOOD:
        edges = [0, *sorted({at for at in cuts if at < len(reply)}), len(reply)]
        for a, b in itertools.pairwise(edges):
            made.peer.transport.write(reply[a:b])
            made.world.reactor.settle()
    assert codes(result_of(waiting)) == ["550 5.1.1", "250 2.0.0"]


SAYINGS = st.sampled_from(
    [
        b"220 hi\r\n",
        b"250 ok\r\n",
        b"250-PIPELINING\r\n",
        b"250 CHUNKING\r\n",
        b"354 go\r\n",
        b"421 bye\r\n",
        b"550 5.1.1 no\r\n",
        b"452 full\n",
        b"\0",
        b"\r\n",
        b"2",
        b"x" * 70_000,
    ]
)


@given(st.lists(st.one_of(SAYINGS, st.binary(max_size=20)), max_size=25), st.booleans())
@settings(max_examples=150)
def test_whatever_a_peer_says_there_is_an_end_to_it(said: list[bytes], lmtp: bool) -> None:
    made = Talk("", lmtp=lmtp)

    async def whole() -> list[PeerReply]:
        await made.conversation.hello()
        await made.sending(BOB, CAROL)
        return await made.sending(BOB, CAROL)

    waiting = made.start(whole())
    for words in said:
        made.peer.transport.write(words)
        made.world.reactor.settle()
    made.world.reactor.advance(7200)
    made.world.reactor.settle()
    try:
        replies = result_of(waiting)
    except SessionError:
        assert not made.conversation.open
    else:
        assert len(replies) == 2
        assert all(200 <= one.code < 300 or 400 <= one.code < 600 for one in replies)


class SlowContent:
    """Content in small pieces, the first of which take a second each."""

    def __init__(self, reactor: Any, pieces: list[bytes]) -> None:
        self.reactor = reactor
        self.pieces = pieces

    async def read(self, size: int) -> bytes:
        await deferLater(self.reactor, 1)
        return self.pieces.pop(0) if self.pieces else b""

    def close(self) -> None:
        pass


def test_small_content_in_pieces_goes_in_one_write() -> None:
    script = "S: 250 ok\nS: 250 ok\nS: 354 go\nC: one\nC: two\nC: .\nS: 250 ok"
    conversation = talk(ENVELOPE.replace(f"C: RCPT TO:<{CAROL}>\n", "") + script, "PIPELINING")
    before = conversation.peer.reads
    content = SlowContent(conversation.world.reactor, [b"on", b"e\n", b"two\n"])
    waiting = conversation.start(send_content(conversation, content))
    conversation.world.reactor.advance(10)
    assert codes(result_of(waiting)) == ["250"]
    assert conversation.peer.reads == before + 2
    conversation.finished()


def test_the_peer_goes_while_the_content_is_read() -> None:
    conversation = talk("WAIT 1\nS: 421 bye\nCLOSE")
    content = SlowContent(conversation.world.reactor, [b"on", b"e\n", b"two\n"])
    waiting = conversation.start(send_content(conversation, content))
    conversation.world.reactor.advance(10)
    with pytest.raises(SessionError, match="421 bye") as caught:
        result_of(waiting)  # nothing was said of the message: somebody else may take it
    assert caught.value.reply is not None


CHUNKED = f"C: MAIL FROM:<{ALICE}>\nC: RCPT TO:<{BOB}>\nC: RCPT TO:<{CAROL}>\n"
CHUNK = "C: BDAT 270336\nC* 270336\n"


@pytest.mark.parametrize(
    ("reply", "result"),
    [
        ("S: 421 4.3.2 bye", ["421 4.3.2", "421 4.3.2"]),
        ("S: 452 4.3.1 full", ["452 4.3.1", "452 4.3.1"]),
        ("S: 354 go", "answered BDAT with 354 go"),
        ("CLOSE", "closed the connection instead of answering BDAT"),
    ],
)
def test_what_a_chunk_is_answered(reply: str, result: Any) -> None:
    script = CHUNKED.replace("\nC: RCPT", "\nS: 250 ok\nC: RCPT") + "S: 250 ok\n" + CHUNK + reply
    conversation = talk(script, "CHUNKING")
    if isinstance(result, list):
        assert codes(conversation.send(BOB, CAROL, content=LONG)) == result
    else:
        with pytest.raises(SessionError) as caught:
            conversation.send(BOB, CAROL, content=LONG)
        assert caught.value.text == f"mx.example.net {result}"
        assert not conversation.conversation.open
    conversation.finished()


def test_answers_that_come_early_and_fast_are_not_read_without_bound() -> None:
    conversation = talk("", "CHUNKING", "PIPELINING")
    waiting = conversation.start(conversation.sending(BOB, content=LONG))
    peer: Any = conversation.peer.transport
    peer.write(b"250 ok\r\n250 ok\r\n")
    peer.pauseProducing()
    conversation.world.reactor.settle()
    channel: Any = conversation.conversation._channel
    assert not waiting.called
    assert channel.blocked  # a chunk is out, and waits to be read
    for _ in range(40):
        peer.write(b"250-" + b"x" * 10_000 + b"\r\n")
        conversation.world.reactor.settle()
    assert channel._reader.buffered < (1 << 17) + (1 << 16)
    with pytest.raises(SessionError, match="sent more than it was asked for"):
        result_of(waiting)


def test_chunks_may_take_longer_than_a_command() -> None:
    script = CHUNKED.replace("\nC: RCPT", "\nS: 250 ok\nC: RCPT") + "S: 250 ok\n"
    for _ in range(3):
        script += CHUNK + "WAIT 590\nS: 250 ok\n"
    conversation = talk(script, "CHUNKING")
    waiting = conversation.start(conversation.sending(BOB, CAROL, content=LONG))
    conversation.world.reactor.advance(2000)
    conversation.peer.transport.write(b"250 2.0.0 queued\r\n")
    conversation.world.reactor.settle()
    assert codes(result_of(waiting)) == ["250 2.0.0"] * 2
    conversation.finished()


@pytest.mark.parametrize("spoken", ["nonsense", "250-half a reply", "220-" + "x" * 70_000])
def test_nonsense_on_an_idle_connection(spoken: str) -> None:
    conversation = talk("WAIT 1\nS: " + spoken)
    conversation.world.reactor.advance(1)
    with pytest.raises(SessionError, match=r"^mx\.example\.net (spoke unasked|sent )"):
        conversation.send(BOB)
    assert not conversation.conversation.open


def test_a_code_alone_says_nothing_of_the_class() -> None:
    conversation = talk(ENVELOPE + "S: 250\nS: 550\nS: 450\nS: 554", "PIPELINING")
    assert codes(conversation.send(BOB, CAROL)) == ["550", "450"]


def test_aborted_while_it_waits() -> None:
    conversation = talk(ENVELOPE, "PIPELINING")
    waiting = conversation.start(conversation.sending(BOB, CAROL))
    conversation.conversation.abort()
    with pytest.raises(SessionError, match="was cut"):
        result_of(waiting)
    conversation.world.reactor.settle()
    assert conversation.peer.closed


def test_cancelled_as_a_driver_does_it() -> None:
    conversation = talk(ENVELOPE, "PIPELINING")
    coroutine = conversation.sending(BOB, CAROL)
    heard: list[object] = []
    driven = Waiting(coroutine, heard.append, heard.append)
    driven.wait_for(coroutine.send(None))
    conversation.world.reactor.settle()
    driven.cancel()
    conversation.world.reactor.settle()
    assert heard == []
    assert conversation.peer.closed
    assert conversation.content.closed == 1
    assert conversation.world.reactor.getDelayedCalls() == []


def test_a_coroutine_that_is_dropped_closes() -> None:
    conversation = talk(ENVELOPE, "PIPELINING")
    coroutine = conversation.sending(BOB, CAROL)
    coroutine.send(None)
    conversation.world.reactor.settle()
    coroutine.close()
    conversation.world.reactor.settle()
    assert conversation.peer.closed
    assert conversation.content.closed == 1


def test_time_passes_on_an_idle_connection() -> None:
    conversation = talk(f"C: MAIL FROM:<{ALICE}>\nS: 450 later", timeouts=TIMES)
    conversation.world.reactor.advance(3600)
    assert conversation.conversation.open
    assert codes(conversation.send(BOB)) == ["450"]


def test_a_flood_of_short_lines() -> None:
    made = Talk("")
    waiting = made.start(made.conversation.hello())
    transport: Any = made.peer.transport
    for _ in range(300):
        transport.write(b"220-\n")
    made.world.reactor.settle()
    with pytest.raises(SessionError, match="endless"):
        result_of(waiting)
