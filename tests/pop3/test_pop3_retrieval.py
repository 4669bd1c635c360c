"""One message, read in blocks of any size: RETR's and TOP's lines."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from fake_pop3 import MemoryContent
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message.downgrade import downgrade_header
from twisted_mail.message.wire import DotStuffer, wire_size
from twisted_mail.pop3.retrieval import BLOCK, TOP_BLOCK, Retrieval, Top

CONTENTS = st.lists(
    st.sampled_from([b"\n", b"\n\n", b".", b"X: a", b"\r\n", b"\r", b"\xc3\xbc", b"Subject: "])
).map(b"".join)


def result(coroutine: Coroutine[Any, Any, bytes]) -> bytes:
    """What a coroutine that never waits returns."""
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    value = stop.value.value
    assert isinstance(value, bytes)
    return value


def retrieve(content: bytes, block: int = BLOCK, **options: Any) -> bytes:
    source = MemoryContent(content, block, None)
    retrieval = Retrieval(source, wire_size(content), **options)
    pieces = []
    while not retrieval.done:
        pieces.append(result(retrieval.next()))
        assert pieces[-1]
    assert result(retrieval.next()) == b""
    retrieval.close()
    assert source.closed == 1
    return b"".join(pieces)


def wire(content: bytes) -> bytes:
    stuffer = DotStuffer()
    return stuffer.encode(content) + stuffer.finish()


def split(content: bytes) -> tuple[bytes, bytes]:
    """Header with its empty line, and body; LF line ends."""
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    if lines.startswith(b"\n"):
        return b"\n", lines[1:]
    header, empty_line, body = lines.partition(b"\n\n")
    return header + empty_line, body


@given(CONTENTS, st.integers(1, 9))
def test_the_whole_message(content: bytes, block: int) -> None:
    assert retrieve(content, block) == retrieve(content) == wire(content)


@given(CONTENTS, st.integers(1, 9))
def test_a_surrogate(content: bytes, block: int) -> None:
    header, body = split(content)
    assert retrieve(content, block, surrogate=True) == retrieve(content, surrogate=True)
    assert retrieve(content, surrogate=True) == wire(downgrade_header(header) + body)


@given(CONTENTS, st.integers(1, 9), st.integers(0, 4), st.booleans())
def test_top(content: bytes, block: int, lines: int, surrogate: bool) -> None:
    header, body = split(content)
    if surrogate:
        header = downgrade_header(header)
    some = b"".join(body.splitlines(keepends=True)[:lines])
    made = retrieve(content, block, top=Top(lines), surrogate=surrogate)
    assert made == retrieve(content, top=Top(lines), surrogate=surrogate)
    assert made == wire(header + some)


def test_top_reads_no_more_than_it_needs() -> None:
    source = MemoryContent(b"X: y\n\n" + b"line\n" * 1_000_000, BLOCK, None)
    retrieval = Retrieval(source, 6_000_008, top=Top(5))
    assert result(retrieval.next()) == b"X: y\r\n\r\n" + b"line\r\n" * 5 + b".\r\n"
    assert len(source.rest) == 5_000_006 - TOP_BLOCK
    assert source.closed == 1


def test_a_file_that_has_another_size_than_was_said() -> None:
    for size in (0, 5, 500):
        source = MemoryContent(b"a\nb\n", BLOCK, None)
        assert result(Retrieval(source, size).next()) == b"a\r\nb\r\n"
        assert source.closed == 0


def test_after_close_nothing_is_read() -> None:
    source = MemoryContent(b"a\nb\n", 2, None)
    retrieval = Retrieval(source, 6)
    assert result(retrieval.next()) == b"a\r\n"
    retrieval.close()
    retrieval.close()
    assert result(retrieval.next()) == b""
    assert (source.reads, source.closed) == (1, 1)
