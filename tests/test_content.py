"""Messages in memory."""

from __future__ import annotations

import pytest

from twisted_mail.content import BytesContent, message_info
from twisted_mail.message.surrogate import Surrogate
from twisted_mail.message.wire import wire_size


async def read_all(content: BytesContent, size: int) -> list[bytes]:
    blocks = []
    while block := await content.read(size):
        blocks.append(block)
    return blocks


def run(coroutine: object) -> object:
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)  # type: ignore[attr-defined]
    return stopped.value.value


def test_content_is_read_in_blocks() -> None:
    assert run(read_all(BytesContent(b"abcdefg"), 3)) == [b"abc", b"def", b"g"]


def test_closed_content_is_empty() -> None:
    content = BytesContent(b"abc")
    content.close()
    assert run(content.read(3)) == b""


def test_the_size_of_ascii() -> None:
    info = message_info("u1", b"Subject: x\n\nbody\n")
    assert (info.uidl, info.size, info.ascii_size) == ("u1", 20, None)


@pytest.mark.parametrize(
    "message",
    [
        b"Subject: gr\xc3\xbc\xc3\x9fe\nFrom: \xc3\xa4@example.org\n\nbody \xc3\xbc",
        b"Subject: \xff\n",
        b"Subject: \xc3\xbc",
    ],
)
def test_the_size_of_the_downgraded_form(message: bytes) -> None:
    surrogate = Surrogate()
    downgraded = surrogate.feed(message) + surrogate.finish()
    info = message_info("u1", message)
    assert (info.size, info.ascii_size) == (wire_size(message), wire_size(downgraded))


@pytest.mark.parametrize("message", [b"Subject: x\n\n\xc3\xbc\n", b"\n\xc3\xbc\n\nx\n"])
def test_utf8_in_the_body_alone_needs_no_downgrade(message: bytes) -> None:
    assert message_info("u1", message).ascii_size is None
