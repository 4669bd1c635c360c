"""The SMTP engine: lines, the end of DATA, chunks, bounds; and that the cut of the stream changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise, product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twisted_mail.connection.interfaces import NEED_DATA, PAUSED, Signal
from twisted_mail.smtp import engine as smtp
from twisted_mail.smtp.engine import (
    DATA,
    MORE,
    RESPONSE,
    Block,
    Chunk,
    Command,
    EndOfChunk,
    EndOfData,
    LineTooLong,
    Response,
    SmtpEngine,
)

Answer = Callable[[smtp.Event], object]


def after(event: smtp.Event) -> object:
    """What a session that takes everything expects next."""
    if isinstance(event, Command):
        if event.verb == "DATA":
            return DATA
        if event.verb == "AUTH":
            return RESPONSE
        if event.verb == "BDAT" and event.argument.isdigit():
            return Chunk(int(event.argument))
    return None


def run(
    pieces: Iterable[bytes], engine: SmtpEngine | None = None, answer: Answer = after
) -> list[smtp.Event]:
    """All events, blocks next to each other joined."""
    engine = engine if engine is not None else SmtpEngine()
    events: list[smtp.Event] = []
    for piece in pieces:
        engine.receive(piece)
        while (event := engine.next_event()) is not NEED_DATA:
            assert event is not PAUSED
            assert engine.next_event() is PAUSED
            if isinstance(event, Block) and events and isinstance(events[-1], Block):
                event = Block(events.pop().data + event.data)
            events.append(event)
            engine.resume(answer(event))
    return events


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


def bytewise(stream: bytes) -> list[bytes]:
    return [stream[n : n + 1] for n in range(len(stream))]


def data_stream(content: bytes) -> bytes:
    """`content` as a client writes it: stuffed, between DATA and the end."""
    lines = content.split(b"\r\n")
    stuffed = b"\r\n".join(b"." + line if line[:1] == b"." else line for line in lines)
    return b"DATA\r\n" + stuffed + b".\r\n"


def received(content: bytes) -> list[smtp.Event]:
    blocks = [Block(content)] if content else []
    return [Command("DATA", b""), *blocks, EndOfData()]


# What streams are made of: what has a meaning to the engine, closely mixed.
content_pieces = [
    b"\r\n",
    b"\r",
    b"\n",
    b".",
    b"\r\n.\r\n",
    b"x",
    b" ",
    b"\xff",
    b"\x00",
    b"l" * 40,
]
command_pieces = [b"DATA\r\n", b"BDAT 5\r\n", b"BDAT 0\r\n", b"AUTH PLAIN\r\n", b"NOOP \r\n"]
fragments = st.sampled_from([*content_pieces, *command_pieces])
streams = st.lists(fragments | st.binary(max_size=5), max_size=30).map(b"".join)


def test_commands() -> None:
    assert run([b"EHLO client.example\r\nnoop\r\nMAIL FROM:<> SIZE=1 \t\r\n \r\n\r\nQuIt\n"]) == [
        Command("EHLO", b"client.example"),
        Command("NOOP", b""),
        Command("MAIL", b"FROM:<> SIZE=1"),
        Command("", b""),
        Command("", b""),
        Command("QUIT", b""),
    ]


def test_a_verb_may_be_any_octets() -> None:
    assert run([b"\xff\xdf\x00 x\r\n"]) == [Command("\xff\xdf\x00", b"x")]


def test_strict_ends_a_command_at_crlf_only() -> None:
    assert run([b"NOOP\nQUIT\r", b"\n"], SmtpEngine(strict=True)) == [Command("NOOP\nQUIT", b"")]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b"one\r\n",
        b".\r\n",
        b"..\r\n.\r\n",
        b"a\r\n.b\r\n\r\n..\r\n",
        b"\n.\r\n",
        b"a\n.\r\nb\r\n",
        b"a\r.\r\nb\r\n",
        b"a\n.\nb\r\n",
        b"a\r.\rb\r\n",
        b"\r\r\n",
        b"..\r\n" * 3000,
        b".\r\n" * 513,
    ],
)
def test_content_comes_through_as_it_was(content: bytes) -> None:
    stream = data_stream(content) + b"NOOP\r\n"
    assert run([stream]) == [*received(content), Command("NOOP", b"")]
    assert run(bytewise(stream)) == [*received(content), Command("NOOP", b"")]


# What some other server takes for an end of data; each with what it is for us.
NOT_THE_END = [
    (b"\n.\n", b"\n.\n"),
    (b"\n.\r\n", b"\n.\r\n"),
    (b"\r.\r", b"\r.\r"),
    (b"\r.\r\n", b"\r.\r\n"),
    (b"\r\n.\n", b"\r\n\n"),
    (b"\r\n.\r", b"\r\n\r"),
    (b"\r\n.\r\r\n", b"\r\n\r\r\n"),
    (b"\r\n\x00.\r\n", b"\r\n\x00.\r\n"),
    (b"\r\n.\x00\r\n", b"\r\n\x00\r\n"),
    (b"\r\n. \r\n", b"\r\n \r\n"),
    (b"\r\n..\r\n", b"\r\n.\r\n"),
    (b"\r\r\n.\n\r\n", b"\r\r\n\n\r\n"),
]


@pytest.mark.parametrize(("written", "content"), NOT_THE_END)
def test_nothing_else_ends_data(written: bytes, content: bytes) -> None:
    smuggled = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nbad\r\n"
    stream = b"DATA\r\na" + written + smuggled + b".\r\nQUIT\r\n"
    expected = [*received(b"a" + content + smuggled), Command("QUIT", b"")]
    assert run([stream]) == expected
    assert run(bytewise(stream)) == expected
    for place in range(6, 6 + len(written) + 3):
        assert run(cut(stream, [place])) == expected


def test_data_that_only_looks_empty() -> None:
    assert run([b"DATA\r\n.\n.\r\n.\r\n"]) == received(b"\n.\r\n")
    assert run([b"DATA\r\n..\r\n.\r\n"]) == received(b".\r\n")


def test_content_goes_on_whatever_is_expected() -> None:
    engine = SmtpEngine()
    events = run(
        [b"DATA\r\na\r\n", b"NOOP\r\n", b".\r\n"],
        engine,
        lambda event: DATA if isinstance(event, Command) else None,
    )
    assert events == received(b"a\r\nNOOP\r\n")


def test_a_chunk_is_counted_not_read() -> None:
    assert run([b"BDAT 9\r\nQUIT\r\n.\r\nNOOP\r\nBDAT 0\r\nBDAT 1\r\n\rNOOP\r\n"]) == [
        Command("BDAT", b"9"),
        Block(b"QUIT\r\n.\r\n"),
        EndOfChunk(),
        Command("NOOP", b""),
        Command("BDAT", b"0"),
        EndOfChunk(),
        Command("BDAT", b"1"),
        Block(b"\r"),
        EndOfChunk(),
        Command("NOOP", b""),
    ]


def test_blocks_are_as_large_as_what_came() -> None:
    engine = SmtpEngine()
    engine.receive(b"DATA\r\n")
    assert engine.next_event() == Command("DATA", b"")
    engine.resume(DATA)
    for piece in (b"x" * 70_000, b"y" * 70_000):
        engine.receive(piece)
        assert engine.next_event() == Block(piece)
        engine.resume()
        assert engine.next_event() is NEED_DATA
        assert engine.buffered == 0


def test_a_sasl_exchange() -> None:
    long = b"r" * smtp.MAX_AUTH_LINE
    second = b"AUTH PLAIN " + long + b"\r\n=\r\nNOOP\r\n"
    assert run([b"AUTH LOGIN\r\n", long + b"\r\n", second]) == [
        Command("AUTH", b"LOGIN"),
        Response(long),
        Command("AUTH", b"PLAIN " + long),
        Response(b"="),
        Command("NOOP", b""),
    ]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("first", "bound"),
    [
        (b"NOOP ", smtp.MAX_COMMAND_LINE),
        (b"auth ", smtp.MAX_AUTH_LINE + 64),
    ],
)
def test_the_bound_of_a_line(first: bytes, bound: int, strict: bool) -> None:
    longest = first + b"x" * (bound - len(first) - 2) + b"\r\n"
    too_long = first + b"x" * (bound - len(first) - 1) + b"\r\n"
    none = lambda event: None  # noqa: E731
    for pieces in ([longest], bytewise(longest)):
        (event,) = run(pieces, SmtpEngine(strict=strict), none)
        assert isinstance(event, Command)
    for pieces in ([too_long + b"QUIT\r\n"], bytewise(too_long + b"QUIT\r\n")):
        events = run(pieces, SmtpEngine(strict=strict), none)
        assert events == [LineTooLong(True), Command("QUIT", b"")]


def test_the_bound_of_a_response() -> None:
    too_long = b"r" * (smtp.MAX_AUTH_LINE + 1) + b"\r\n"
    for pieces in ([too_long], bytewise(too_long)):
        assert run([b"AUTH PLAIN\r\n", *pieces, b"NOOP\r\n"]) == [
            Command("AUTH", b"PLAIN"),
            LineTooLong(True),
            Command("NOOP", b""),
        ]


@pytest.mark.parametrize("strict", [False, True])
def test_a_line_without_end_is_given_up_in_bounded_memory(strict: bool) -> None:
    engine = SmtpEngine(strict=strict)
    events = []
    for _ in range(20):
        events += run([b"x" * 65_536], engine)
        assert engine.buffered <= smtp.MAX_COMMAND_LINE
    assert events == [LineTooLong(False)]


@pytest.mark.parametrize("size", [smtp.MAX_DROPPED - 1, smtp.MAX_DROPPED, smtp.MAX_DROPPED + 1])
@pytest.mark.parametrize("strict", [False, True])
def test_the_edge_of_giving_up_does_not_depend_on_the_cut(size: int, strict: bool) -> None:
    stream = b"x" * (size - 2) + b"\r\n" + b"QUIT\r\n"
    whole = run([stream], SmtpEngine(strict=strict))
    for place in range(size - 4, size + 2):
        assert run(cut(stream, [place]), SmtpEngine(strict=strict)) == whole


def test_start_tls_refuses_what_was_sent_in_clear() -> None:
    engine = SmtpEngine()
    engine.receive(b"STARTTLS\r\nRSET\r\n")
    assert engine.next_event() == Command("STARTTLS", b"")
    assert not engine.start_tls()
    assert engine.buffered == 6


def test_start_tls_refuses_half_a_line_too() -> None:
    engine = SmtpEngine()
    engine.receive(b"STARTTLS\r\n\r")
    engine.next_event()
    assert not engine.start_tls()


def test_start_tls_begins_afresh() -> None:
    engine = SmtpEngine()
    engine.receive(b"STARTTLS\r\n")
    engine.next_event()
    assert engine.start_tls()
    engine.resume()
    assert run([b"EHLO a\r\n"], engine) == [Command("EHLO", b"a")]


def test_midway_is_within_content_an_exchange_and_between_chunks() -> None:
    engine = SmtpEngine()

    def step(data: bytes, expect: object) -> bool:
        engine.receive(data)
        assert not isinstance(engine.next_event(), Signal)
        engine.resume(expect)
        return engine.midway

    assert not engine.midway
    assert not step(b"NOOP\r\n", None)
    assert step(b"DATA\r\n", DATA)
    assert step(b"x\r\n.\r\n", None)
    assert not step(b"", None)
    assert step(b"AUTH LOGIN\r\n", RESPONSE)
    assert step(b"YQ==\r\n", RESPONSE)
    assert not step(b"*\r\n", None)
    assert step(b"BDAT 1\r\n", Chunk(1))
    assert step(b"x", MORE)
    assert step(b"", MORE)
    assert step(b"NOOP\r\n", MORE)
    assert not step(b"RSET\r\n", None)
    assert step(b"BDAT 0\r\n", Chunk(0))
    assert step(b"", MORE)
    engine.receive(b"STARTTLS\r\n")
    engine.next_event()
    assert engine.start_tls()
    assert not engine.midway


def test_only_its_own_values_are_expected() -> None:
    with pytest.raises(TypeError, match="'HEADERS'"):
        SmtpEngine().resume("HEADERS")


@given(streams, st.lists(st.integers(0, 2000), max_size=8), st.booleans())
@example(b"DATA\r\n.\r\nBDAT 5\r\n\r\n.\r\nDATA\r\na\r\n..\r\n.\r\n", [3, 7, 8, 9], False)
def test_any_cut_gives_the_same_events(stream: bytes, places: list[int], strict: bool) -> None:
    def engine() -> SmtpEngine:
        return SmtpEngine(strict=strict, max_line=60)

    whole = run([stream], engine())
    assert run(cut(stream, places), engine()) == whole
    assert run(bytewise(stream), engine()) == whole


@given(streams, st.lists(st.integers(0, 2000), max_size=4))
def test_reading_back_what_was_stuffed(content: bytes, places: list[int]) -> None:
    content = content + b"\r\n" if content and not content.endswith(b"\r\n") else content
    stream = data_stream(content) + b"QUIT\r\n"
    assert run(cut(stream, places)) == [*received(content), Command("QUIT", b"")]


@given(streams)
def test_data_ends_where_the_rfc_says(stream: bytes) -> None:
    """Against the plainest reading of RFC 5321 section 4.5.2: split at CRLF, line by line."""
    lines = stream.split(b"\r\n")
    content = b""
    for number, line in enumerate(lines[:-1]):
        if line == b".":
            rest = b"\r\n".join(lines[number + 1 :])
            assert run([b"DATA\r\n" + stream[: len(stream) - len(rest)]]) == received(content)
            assert run([b"DATA\r\n" + stream])[: len(received(content))] == received(content)
            return
        content += (line[1:] if line[:1] == b"." else line) + b"\r\n"
    assert EndOfData() not in run([b"DATA\r\n" + stream])


def test_every_short_content_at_every_edge() -> None:
    for size in range(5):
        for octets in product(b"\r\n.a", repeat=size):
            stream = bytes(octets) + b"\r\n.\r\nQUIT\r\n"
            # RFC 5321 section 4.1.1.4, word for word: DATA's own CRLF may begin the end
            whole = b"\r\n" + stream
            end = whole.index(b"\r\n.\r\n") + 2
            content = whole[:end].replace(b"\r\n.", b"\r\n")[2:]
            edges: list[list[int]] = [[], list(range(1, len(stream)))]
            edges += [[at] for at in range(1, len(stream))]
            for places in edges:
                got, behind = _content(stream, places)
                assert (got, behind) == (content, whole[end + 3 :]), (stream, places)


@pytest.mark.parametrize("dots", [511, 512, 513, 2000])
def test_however_many_dots_a_block_has(dots: int) -> None:
    stream = b"x" + b"\r\n..y\r\n...\r\nz" * dots
    assert _content(stream + b"\r\n.\r\n", []) == (
        b"x" + b"\r\n.y\r\n..\r\nz" * dots + b"\r\n",
        b"",
    )


def _content(stream: bytes, places: list[int]) -> tuple[bytes, bytes]:
    """What `stream`, cut at `places`, says between DATA and its end, and what stands behind that."""
    engine = SmtpEngine()
    engine.receive(b"DATA\r\n")
    engine.next_event()
    engine.resume(DATA)
    content = b""
    for start, end in pairwise([0, *places, len(stream)]):
        engine.receive(stream[start:end])
        while not isinstance(event := engine.next_event(), Signal):
            if event == EndOfData():
                return content, stream[end - engine.buffered :]
            assert isinstance(event, Block)
            content += event.data
            engine.resume()
    raise AssertionError("no end")
