"""One answer of HTTP: lengths, chunks, ends; any cut the same; bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.filters.http_answer import MAX_HEAD, HttpAnswer, HttpError, request_head

OK = b"HTTP/1.1 200 OK\r\n"


def read(data: bytes, *, ends: bool = True, limit: int = 1000) -> HttpAnswer:
    answer = HttpAnswer(limit)
    answer.receive(data)
    if ends:
        answer.end()
    return answer


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Content-Length: 5\r\n\r\nhello",
        OK + b"content-length:5\r\n\r\nhello, and more",
        OK + b"\r\nhello",
        OK
        + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n02;x=y\r\nlo\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello",
    ],
)
def test_content(data):
    answer = read(data)
    assert (answer.status, answer.body, answer.done) == (200, b"hello", True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"SSH-2.0\r\n\r\n",
        OK,
        OK + b"Content-Length: 5\r\n\r\nhell",
        OK + b"Content-Length: x\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Content-Length: 1001\r\n\r\n",
        OK + b"\r\n" + b"x" * 1001,
        OK + b"Transfer-Encoding: gzip\r\n\r\n",
        OK + b"Content-Encoding: gzip\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nFFFFFF\r\n" + b"x" * 1001,
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 5000,
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 200,
        OK + b"X: y\r\n" * 20_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 12 + OK + b"\r\n",
    ],
)
def test_no_answer(data):
    with pytest.raises(HttpError):
        read(data)


def outcome(pieces: list[bytes]) -> object:
    answer = HttpAnswer(200)
    try:
        for piece in pieces:
            answer.receive(piece)
        answer.end()
    except HttpError:
        return None
    return answer.status, answer.body


_PARTS = st.sampled_from(
    [
        OK,
        b"HTTP/1.1 100 x\r\n\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"hello",
        b"A: b\r\n",
    ]
)


@given(
    st.lists(st.one_of(_PARTS, st.binary(max_size=10)), max_size=10),
    st.lists(st.integers(1, 9), max_size=40),
)
def test_no_bytes_make_it_raise_and_any_cut_gives_the_same(parts, cuts):
    data = b"".join(parts)
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(data[at : at + cut])
        at += cut
    assert outcome([data]) == outcome([*pieces, data[at:]])


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Content-Length: 5\r\n\r\nhello" + b"x" * 1001,
        b"HTTP/1.1 204 No Content\r\n\r\n" + b"x" * 1001,
        OK + b"A: " + b"b" * (MAX_HEAD - len(OK) - 3) + b"\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 4094 + b"\r\na\r\n0\r\n\r\n",
    ],
    ids=["behind its length", "behind none", "longest head", "longest line"],
)
def test_what_is_just_within_bounds_is_so_in_any_pieces(data):
    whole = outcome([data])
    assert whole is not None
    octets = [data[at : at + 1] for at in range(len(data))]
    assert outcome([b"".join(octets[:-5000]), *octets[-5000:]]) == whole


def test_a_head_cannot_be_split():
    head = request_head("/x", "h", 3, [("From", "a\r\nEvil: 1\0"), ("None", ""), ("Helo", "ä")])
    assert head == (
        b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nFrom: aEvil: 1\r\nHelo: \xc3\xa4\r\n"
        b"Connection: close\r\n\r\n"
    )
