"""Replies out of bytes, and command lines that stay one line."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.smtp.client.engine import (
    MAX_LINES,
    MAX_REPLY,
    MAX_TEXT,
    Reply,
    ReplyError,
    ReplyReader,
    command,
    path,
)


def read(blocks: list[bytes]) -> list[Reply | str]:
    """All replies of a stream; the text of the error that ends it."""
    reader = ReplyReader()
    found: list[Reply | str] = []
    for block in blocks:
        reader.receive(block)
        try:
            while (reply := reader.next_reply()) is not None:
                found.append(reply)
        except ReplyError as error:
            if not found or found[-1] != str(error):
                found.append(str(error))
        assert reader.buffered <= MAX_REPLY + max(map(len, blocks))
    return found


@pytest.mark.parametrize(
    ("stream", "reply"),
    [
        (b"250 ok\r\n", Reply(250, "", "ok", ("ok",))),
        (b"250\r\n", Reply(250, "", "", ("",))),
        (b"250 \r\n", Reply(250, "", "", ("",))),
        (b"250\tok\n", Reply(250, "", "ok", ("ok",))),
        (b"250 2.1.5 ok\r\n", Reply(250, "2.1.5", "ok", ("ok",))),
        (b"250 2.1.5\r\n", Reply(250, "2.1.5", "", ("",))),
        (b"550 5.1.10 x\r\n", Reply(550, "5.1.10", "x", ("x",))),
        # Not of the reply's class, so not its enhanced code
        (b"550 4.1.1 x\r\n", Reply(550, "", "4.1.1 x", ("4.1.1 x",))),
        (b"354 2.0.0 go\r\n", Reply(354, "", "2.0.0 go", ("2.0.0 go",))),
        (b"550 5.1.1234 x\r\n", Reply(550, "", "5.1.1234 x", ("5.1.1234 x",))),
        (b"250-a\r\n250-b\r\n250 c\r\n", Reply(250, "", "a b c", ("a", "b", "c"))),
        (b"550-5.7.1 a\r\n550 5.7.1 b\r\n", Reply(550, "5.7.1", "a b", ("a", "b"))),
        (b"550-5.7.1 a\r\n550 b 5.7.1\r\n", Reply(550, "5.7.1", "a b 5.7.1", ("a", "b 5.7.1"))),
        (b"250-\r\n250 x\r\n", Reply(250, "", "x", ("", "x"))),
        (b"250 a\x00b\x1b[1mc\rd\r\n", Reply(250, "", "a b [1mc d", ("a b [1mc d",))),
        (b"250 caf\xc3\xa9 \xff\r\n", Reply(250, "", "café \ufffd", ("café \ufffd",))),
        (b"250 a\xe2\x80\xaeb\r\n", Reply(250, "", "a b", ("a b",))),  # right-to-left override
    ],
)
def test_one_reply(stream: bytes, reply: Reply) -> None:
    assert read([stream]) == [reply]


@pytest.mark.parametrize(
    "stream",
    [
        b"\r\n",
        b"25\r\n",
        b"2500 x\r\n",
        b"250x\r\n",
        b" 250 x\r\n",
        b"150 x\r\n",
        b"650 x\r\n",
        b"\x00\x00\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"250-a\r\nb\r\n",
        b"\xb2\xb5\xb0 x\r\n",
        "２５０ ok\r\n".encode(),
    ],
)
def test_what_is_no_smtp(stream: bytes) -> None:
    (error,) = read([stream, b"250 ok\r\n"])
    assert isinstance(error, str)
    assert error.startswith("sent what is no SMTP reply: ")
    assert error.isprintable()


def test_codes_that_disagree_mean_nothing() -> None:
    assert read([b"550-no\r\n250 yes\r\n"]) == ["sent a reply with different codes on its lines"]
    assert read([b"250-yes\r\n550 no\r\n"]) == ["sent a reply with different codes on its lines"]


def test_an_endless_line() -> None:
    reader = ReplyReader()
    with pytest.raises(ReplyError, match="endless"):
        for _ in range(10_000_000 // 1000):
            reader.receive(b"220 " + b"x" * 996)
            reader.next_reply()
            assert reader.buffered < MAX_REPLY
    assert reader.buffered == 0


def test_an_endless_reply_of_short_lines() -> None:
    assert read([b"220-\r\n" * MAX_LINES]) == ["sent an endless reply"]
    (reply,) = read([b"220-\r\n" * (MAX_LINES - 1) + b"220 x\r\n"])
    assert isinstance(reply, Reply)
    assert reply.text == "x"


def test_the_longest_reply() -> None:
    longest = b"220 " + b"x" * (MAX_REPLY - 6) + b"\r\n"
    (reply,) = read([longest])
    assert isinstance(reply, Reply)
    assert reply.text == "x" * MAX_TEXT
    assert read([b"220 " + b"x" * (MAX_REPLY - 5) + b"\r\n"]) == ["sent an endless reply"]


def test_a_text_of_many_lines_is_bounded() -> None:
    (reply,) = read([(b"220-" + b"y" * 200 + b"\r\n") * 100 + b"220 z\r\n"])
    assert isinstance(reply, Reply)
    assert len(reply.text) == MAX_TEXT


PIECES = st.sampled_from(
    [
        b"250 ok",
        b"250-",
        b"550 5.1.1 no",
        b"550-5.1.1 no",
        b"\r\n",
        b"\n",
        b"\r",
        b"\x00",
        b"250",
        b"x" * 30_000,
        b"250-\r\n" * 100,
        b"\xff",
    ]
)


@given(st.lists(PIECES, max_size=12).map(b"".join), st.lists(st.integers(0, 100_000), max_size=8))
def test_any_cut_gives_the_same_replies(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(at, len(stream)) for at in cuts), len(stream)]
    assert read([stream[a:b] for a, b in itertools.pairwise(edges)]) == read([stream])


@given(st.lists(st.binary()))
def test_no_bytes_make_it_raise_anything_else(blocks: list[bytes]) -> None:
    for found in read(blocks):
        assert (found.text if isinstance(found, Reply) else found).isprintable()


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\0", "\x85", "\u2028", "\x7f", "\x1b"])
def test_a_command_is_one_line(end: str) -> None:
    with pytest.raises(ValueError, match="control"):
        command(f"MAIL FROM:<a@b>{end}RCPT TO:<c@d>")


def test_a_command_in_utf8() -> None:
    assert command("MAIL FROM:<jörg@example.org>") == b"MAIL FROM:<j\xc3\xb6rg@example.org>\r\n"


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("", "<>"),
        ("alice@example.org", "<alice@example.org>"),
        ("SRS0=a+b=c@example.org", "<SRS0=a+b=c@example.org>"),
        ('"a> b"@example.org', '<"a> b"@example.org>'),
        ("jörg@example.org", "<jörg@example.org>"),
        ("x@[IPv6:2001:db8::1]", "<x@[IPv6:2001:db8::1]>"),
        ("postmaster", "<postmaster>"),
    ],
)
def test_a_path(address: str, written: str) -> None:
    assert path(address) == written


@pytest.mark.parametrize(
    "address",
    [
        "a@b> SIZE=1 <c@d",
        "a@b>",
        "<a@b",
        "a b@c",
        "a@b c",
        "a\r\n@b",
        "a@b\n",
        "a@b\r\nRCPT TO:<x@y>",
        '"a\r\nb"@c',
        "a",
        "@b",
        "a..b@c",
    ],
)
def test_no_path(address: str) -> None:
    with pytest.raises(ValueError):
        path(address)


@given(st.text())
def test_whatever_is_written_is_one_path_on_one_line(address: str) -> None:
    try:
        line = command(f"RCPT TO:{path(address)}")
    except ValueError:
        return
    assert line.count(b"\n") == line.count(b"\r") == 1
    assert line.endswith(b">\r\n")
