"""DEFLATE half-way through a connection: both streams, their bounds, and what is no DEFLATE."""

from __future__ import annotations

import zlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import ANSWERS, BLOCK, SCRIPT, TalkativeFactory, ToyFactory, tls_options

from twisted_mail.connection.alarm import QUIET
from twisted_mail.connection.compression import Compression, CorruptError
from twisted_mail.connection.deadlines import Bounds
from twisted_mail.connection.output import BREATH
from twisted_mail.connection.protocol import INFLATE
from twisted_mail.testing import simulated_world

KIB = 1024


class Peer:
    """A client that compresses, or does not yet."""

    def __init__(self, factory: ToyFactory) -> None:
        self.client = factory.connect()
        if factory._implicit_tls:
            self.client.start_tls(tls_options().authority, "localhost")
        assert self.client.read() == b"hello\n"
        self._deflate = zlib.compressobj(wbits=-15)
        self._inflate = zlib.decompressobj(-15)

    def compressed(self) -> Peer:
        assert self.client.ask(b"compress\n") == b"compressed\n"
        return self

    def pack(self, data: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
        return self._deflate.compress(data) + self._deflate.flush(flush)

    def unpack(self, data: bytes) -> bytes:
        said = self._inflate.decompress(data)
        assert not self._inflate.eof and not self._inflate.unused_data
        return said

    def ask(self, data: bytes) -> bytes:
        return self.unpack(self.client.ask(self.pack(data)))

    def read(self) -> bytes:
        said = b""
        while more := self.client.read():
            said += self.unpack(more)
        return said


def reasons(log: list[dict[str, Any]]) -> list[str]:
    return [event["reason"] for event in log if "reason" in event]


# The connection


@pytest.mark.parametrize("under_tls", [False, True])
def test_all_that_follows_the_answer_is_compressed_both_ways(under_tls: bool) -> None:
    factory = ToyFactory(tls=tls_options(), implicit_tls=under_tls)
    peer = Peer(factory).compressed()
    assert peer.ask(b"echo 1\necho 2\n") == b"1\n2\n"
    assert peer.ask(b"thread 3\nbody 2\n") == b"3\nbody:" + b"y" * 2 * BLOCK
    peer.client.send(peer.pack(b"big 300000\nthreads 3\n"))
    assert peer.read() == b"x" * 300_000 + b"threads:0,1,2,"
    assert peer.ask(b"message\na\n.\n") == b"go on\ntaken\n"
    assert peer.ask(b"bye\n") == b"bye\n"
    assert peer.client.closed is not None


def test_tls_by_starttls_and_then_compression() -> None:
    factory = ToyFactory(tls=tls_options())
    peer = Peer(factory)
    assert peer.client.ask(b"tls\n") == b"ready\n"
    peer.client.start_tls(tls_options().authority, "localhost")
    peer.compressed()
    assert peer.ask(b"echo 1\n") == b"1\n"


def test_a_turn_s_answers_are_flushed_once() -> None:
    peer = Peer(ToyFactory()).compressed()
    received = peer.client.ask(peer.pack(b"echo 1\n" * 100))
    assert received.count(b"\0\0\xff\xff") == 1
    assert received.endswith(b"\0\0\xff\xff")
    assert len(received) < 30
    assert peer.unpack(received) == b"1\n" * 100


def test_so_is_a_long_one() -> None:
    factory = ToyFactory()
    peer = Peer(factory).compressed()
    peer.client.send(peer.pack(b"big 200000\nbody 2\n"))
    received = b""
    while more := peer.client.read():
        received += more
    assert received.count(b"\0\0\xff\xff") == 1
    assert peer.unpack(received) == b"x" * 200_000 + b"body:" + b"y" * 2 * BLOCK


def test_it_is_smaller() -> None:
    factory = ToyFactory()
    peer = Peer(factory).compressed()
    (connection,) = factory.connections
    before = connection.bytes_written
    assert peer.ask(b"big 300000\n") == b"x" * 300_000
    assert connection.bytes_written - before < 3000


def test_compressed_bytes_may_come_with_the_command() -> None:
    """RFC 4978 section 3 has the client wait; one that knows the answer may be lenient with itself."""
    peer = Peer(ToyFactory())
    received = peer.client.ask(b"compress\n" + peer.pack(b"echo 1\n"))
    assert received.startswith(b"compressed\n")
    assert peer.unpack(received.removeprefix(b"compressed\n")) == b"1\n"


def test_a_command_in_clear_behind_it_ends_the_connection(log: list[dict[str, Any]]) -> None:
    peer = Peer(ToyFactory())
    assert peer.client.ask(b"compress\necho evil\n") == b"compressed\n"
    assert peer.client.closed is not None
    (reason,) = reasons(log)
    assert reason.startswith("compressed data is corrupt: ")


_PACKED = b"compress\n" + Peer.pack(Peer(ToyFactory()), SCRIPT)


@given(st.sets(st.integers(1, len(_PACKED) - 1)))
def test_any_cut_gives_the_same_answers(cuts: set[int]) -> None:
    peer = Peer(ToyFactory())
    received = b""
    for start, end in pairwise([0, *sorted(cuts), len(_PACKED)]):
        peer.client.send(_PACKED[start:end])
    while more := peer.client.read():
        received += more
    clear, _, packed = received.partition(b"\n")
    assert clear == b"compressed"
    assert peer.unpack(packed) == ANSWERS
    assert peer.client.closed is not None


@pytest.mark.parametrize("flush", [zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_PARTIAL_FLUSH])
def test_any_flush_of_the_client_s_will_do(flush: int) -> None:
    peer = Peer(ToyFactory()).compressed()
    for number in range(5):
        command = b"echo %d\n" % number
        assert peer.unpack(peer.client.ask(peer.pack(command, flush))) == b"%d\n" % number


# What is wrong


def test_corruption_ends_the_connection_after_the_answers_to_what_was_whole(
    log: list[dict[str, Any]],
) -> None:
    peer = Peer(ToyFactory()).compressed()
    assert peer.unpack(peer.client.ask(peer.pack(b"echo 1\n"))) == b"1\n"
    commands = b"echo 2\n" + b"echo " + b"x" * INFLATE + b"\n"
    assert peer.unpack(peer.client.ask(peer.pack(commands) + b"\xff" * 100)) == b"2\n"
    assert peer.client.closed is not None
    (reason,) = reasons(log)
    assert reason == (
        "compressed data is corrupt: Error -3 while decompressing data: invalid block type"
    )


def test_an_end_of_the_stream_with_something_behind_it(log: list[dict[str, Any]]) -> None:
    peer = Peer(ToyFactory()).compressed()
    assert peer.unpack(peer.client.ask(peer.pack(b"echo 1\n", zlib.Z_FINISH))) == b"1\n"
    assert peer.client.closed is None
    peer.client.send(b"echo evil\n")
    assert peer.client.closed is not None
    (reason,) = reasons(log)
    assert reason.startswith("compressed data is corrupt: ")


@given(st.binary(max_size=300))
def test_no_bytes_make_it_fail_otherwise(data: bytes) -> None:
    peer = Peer(ToyFactory()).compressed()
    # Lines that come out of it are a message's
    peer.client.send(peer.pack(b"message\n") + data)
    peer.client.close()


def test_a_second_time_is_a_failure_of_the_session(log: list[dict[str, Any]]) -> None:
    peer = Peer(ToyFactory()).compressed()
    peer.client.send(peer.pack(b"compress\n"))
    assert peer.client.closed is not None
    assert [event["log_format"] for event in log if "log_failure" in event] == ["session failed"]
    log.clear()


def test_so_is_tls_below_what_was_compressed_in_clear(log: list[dict[str, Any]]) -> None:
    peer = Peer(ToyFactory(tls=tls_options())).compressed()
    assert peer.client.ask(peer.pack(b"tls\n")) == b""
    assert peer.client.closed is not None
    assert [event["log_format"] for event in log if "log_failure" in event] == ["session failed"]
    log.clear()


# Bounds


def test_a_bomb_is_inflated_as_it_is_consumed() -> None:
    bounds = Bounds(read_ahead_bytes=64 * KIB)
    factory = ToyFactory(bounds=bounds)
    peer = Peer(factory).compressed()
    engine = factory.engines[0]
    most = 0

    def receive(data: bytes) -> None:
        nonlocal most
        type(engine).receive(engine, data)
        most = max(most, engine.buffered)

    engine.receive = receive  # type: ignore[method-assign]
    peer.client.send(peer.pack(b"wait 1\n" + b"echo x\n" * 300_000))  # 2 MB in 6 KiB
    assert engine.buffered <= INFLATE
    factory.sessions[0].waits[0].callback(b"done")
    heard = 0
    while more := peer.client.read():
        heard += len(peer.unpack(more))
    assert heard == len(b"1 done\n") + 2 * 300_000
    assert most <= INFLATE + len(b"echo x\n")


def test_what_waits_to_be_inflated_is_bounded() -> None:
    factory = ToyFactory(bounds=Bounds(read_ahead_bytes=16 * KIB))
    peer = Peer(factory).compressed()
    peer.client.send(peer.pack(b"wait 1\n"))
    noise = factory.world.entropy(500 * KIB).replace(b"\n", b"")
    peer.client.send(peer.pack(b"echo " + noise.hex().encode() + b"\n"))
    (connection,) = factory.connections
    assert connection._compression is not None
    held = connection._compression.pending + factory.engines[0].buffered
    assert 16 * KIB < held <= 16 * KIB + 64 * KIB
    factory.sessions[0].waits[0].callback(b"done")
    assert peer.read() == b"1 done\n" + noise.hex().encode() + b"\n"


def test_inflating_takes_turns() -> None:
    factory = ToyFactory()
    peer = Peer(factory).compressed()
    reactor, engine = factory.world.reactor, factory.engines[0]

    def receive(data: bytes) -> None:
        reactor.rightNow += 0.001
        type(engine).receive(engine, data)

    engine.receive = receive  # type: ignore[method-assign]
    peer.client._transport.write(peer.pack(b"echo " + b"x" * 1000 * KIB + b"\n"))
    turns = 0
    while reactor.step(0):
        turns += 1
        assert engine.buffered <= turns * 4 * INFLATE
    assert turns > 15
    assert peer.read() == b"x" * 1000 * KIB + b"\n"


@pytest.mark.parametrize("under_tls", [False, True])
@pytest.mark.parametrize("command", [b"noise 20\n", b"body 4000\n"])
def test_nothing_is_produced_while_the_client_does_not_read(
    command: bytes, under_tls: bool
) -> None:
    factory = NoisyFactory(tls=tls_options(), implicit_tls=under_tls)
    peer = Peer(factory).compressed()
    (connection,) = factory.connections
    before = connection.bytes_written
    peer.client.stop_reading()
    for _ in range(5):
        peer.client.send(peer.pack(command * 20))
    held = connection.bytes_written - before
    assert 32 * KIB < held <= 192 * KIB
    size = 20 * BLOCK if command.startswith(b"noise") else 5 + 4000 * BLOCK
    if command.startswith(b"noise"):
        assert factory.sessions[0].blocks * BLOCK <= held + 64 * KIB
        peer.client.go_on_reading()
        assert len(peer.read()) == 100 * size


class NoisyFactory(TalkativeFactory):
    """Bodies that do not compress."""

    def make(self, ip: str, connection: str) -> Any:
        engine, session = super().make(ip, connection)

        async def do_noise(blocks: str) -> Any:
            answer = await session.do_body(blocks)
            before = answer.body

            async def body() -> Any:
                async for _ in before:
                    yield self.world.entropy(BLOCK)

            answer.data, answer.body = b"", body()
            return answer

        session.do_noise = do_noise  # type: ignore[attr-defined]
        return engine, session


def test_a_body_that_compresses_well_lets_others_have_their_turn() -> None:
    factory = ToyFactory()
    peer = Peer(factory).compressed()
    session, reactor = factory.sessions[0], factory.world.reactor
    peer.client._transport.write(peer.pack(b"body 1000\n"))
    seen = 0
    while reactor.step(0):
        assert (session.blocks - seen) * BLOCK <= BREATH + 2 * BLOCK
        seen = session.blocks
    assert seen == 1000
    assert peer.read() == b"body:" + b"y" * 1000 * BLOCK


def test_a_client_that_goes_while_a_body_takes_breath() -> None:
    factory = ToyFactory()
    peer = Peer(factory).compressed()
    session, reactor = factory.sessions[0], factory.world.reactor
    peer.client._transport.write(peer.pack(b"body 1000\n"))
    while not session.blocks:
        reactor.step(0)
    (connection,) = factory.connections
    connection.abort("a test")
    reactor.settle()
    assert session.blocks < 100
    assert session.log == ["body over", "lost"]
    assert reactor.getDelayedCalls() == []


# Quiet connections


def test_a_quiet_connection_keeps_nothing_to_compress_with() -> None:
    factory = TalkativeFactory()
    peer = Peer(factory).compressed()
    assert peer.ask(b"big 3000\n") == b"x" * 3000
    (connection,) = factory.connections
    compression = connection._compression
    assert compression is not None
    assert compression._deflate is not None and compression._inflate is not None
    factory.world.reactor.advance(2 * QUIET)
    assert compression._deflate is None and compression._inflate is None
    assert peer.ask(b"big 3000\n") == b"x" * 3000
    factory.world.reactor.advance(2 * QUIET)
    factory.sessions[0].tell(b"news\n")
    assert peer.read() == b"news\n"
    peer.client.close()
    assert factory.world.reactor.getDelayedCalls() == []


def test_news_are_flushed() -> None:
    factory = TalkativeFactory()
    peer = Peer(factory).compressed()
    for number in range(10):
        factory.sessions[0].tell(b"%d EXISTS\n" % number)
        assert peer.read() == b"%d EXISTS\n" % number


# The two streams by themselves


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["say", "flush", "rest"]),
            st.one_of(
                st.binary(max_size=200),
                st.integers(0, 9).map(lambda n: b"* %d FETCH (FLAGS ())\r\n" % n * 3000),
            ),
        )
    )
)
def test_the_peer_reads_what_was_said(steps: list[tuple[str, bytes]]) -> None:
    compression, peer = Compression(), zlib.decompressobj(-15)
    said = heard = b""
    for step, data in steps:
        if step == "say":
            said += data
            heard += peer.decompress(compression.deflate(data))
        elif step == "flush":
            heard += peer.decompress(compression.flush())
            assert heard == said
        else:
            compression.rest()
    heard += peer.decompress(compression.flush())
    assert heard == said


@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.binary(max_size=60),
                st.integers(1, 9).map(lambda n: b"%d FETCH (FLAGS)\r\n" % n * n * 300),
            ),
            st.sampled_from(
                [zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_PARTIAL_FLUSH, zlib.Z_NO_FLUSH]
            ),
        ),
        max_size=12,
    ),
    st.integers(0, 9),
    st.integers(1, 400),
)
def test_it_may_rest_at_any_time(says: list[tuple[bytes, int]], level: int, cut: int) -> None:
    compression, peer = Compression(), zlib.compressobj(level, wbits=-15)
    sent = b"".join(peer.compress(say) + peer.flush(flush) for say, flush in says)
    sent += peer.flush(zlib.Z_SYNC_FLUSH)
    heard = b""
    for start in range(0, len(sent), cut):
        compression.feed(sent[start : start + cut])
        while piece := compression.inflate(500):
            compression.rest()
            heard += piece
        compression.rest()
    assert heard == b"".join(say for say, _ in says)
    compression.rest()
    assert compression._inflate is None  # which is what resting is about


def test_what_was_said_before_the_rest_can_be_referred_to() -> None:
    compression, peer = Compression(), zlib.compressobj(wbits=-15)
    noise = simulated_world().entropy(25_000)
    for _ in range(3):
        compression.feed(peer.compress(noise) + peer.flush(zlib.Z_SYNC_FLUSH))
        assert b"".join(iter(lambda: compression.inflate(INFLATE), b"")) == noise
        compression.rest()
        assert compression._inflate is None


@given(st.binary(max_size=30), st.integers(1, 600), st.integers(1, 300))
def test_nothing_is_kept_back(say: bytes, times: int, limit: int) -> None:
    """However the stream is cut, and wherever a piece ends."""
    packed = zlib.compress(say * times, wbits=-15)
    for end in range(len(packed)):
        compression = Compression()
        compression.feed(packed[:end])
        heard = b"".join(iter(lambda: compression.inflate(limit), b""))  # noqa: B023
        assert heard == zlib.decompressobj(-15).decompress(packed[:end])


def test_what_looks_like_a_flush_and_is_none() -> None:
    """Bytes of a stored block."""
    compression, peer = Compression(), zlib.compressobj(0, wbits=-15)
    said = b"\0\0\xff\xff" * 8
    sent = peer.compress(said) + peer.flush(zlib.Z_SYNC_FLUSH)
    heard = b""
    for start in range(len(sent)):
        compression.feed(sent[start : start + 1])
        heard += compression.inflate(100)
        compression.rest()
    assert heard == said


def test_what_is_kept_of_the_peer_s_words_is_bounded() -> None:
    compression, peer = Compression(), zlib.compressobj(wbits=-15)
    compression.feed(peer.compress(b"x" * 10**6) + peer.flush(zlib.Z_SYNC_FLUSH))
    while compression.inflate(INFLATE):
        assert len(compression._said) <= 32 * KIB


@given(
    st.lists(st.one_of(st.binary(max_size=50), st.integers(1, 20).map(lambda n: b"x" * n * KIB))),
    st.integers(1, 5000),
    st.integers(1, 100),
)
def test_what_the_peer_says_comes_in_pieces(says: list[bytes], limit: int, cut: int) -> None:
    compression, peer = Compression(), zlib.compressobj(wbits=-15)
    sent = b"".join(peer.compress(say) + peer.flush(zlib.Z_SYNC_FLUSH) for say in says)
    heard = b""
    for start in range(0, len(sent), cut):
        compression.feed(sent[start : start + cut])
        if start % 3:
            heard += compression.inflate(limit)
    while piece := compression.inflate(limit):
        assert len(piece) <= limit
        heard += piece
    assert compression.pending == 0
    assert heard == b"".join(says)


def test_nothing_is_behind_the_end() -> None:
    compression = Compression()
    compression.feed(zlib.compress(b"last", wbits=-15))
    assert compression.inflate(100) == b"last"
    assert compression.inflate(100) == b""
    compression.feed(b"more")
    with pytest.raises(CorruptError):
        compression.inflate(100)
