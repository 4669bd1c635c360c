"""Parts as offsets: what a scan finds, part numbers, sections, and what a cache keeps."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message import structure
from twisted_mail.message.bodystructure import body, bodystructure
from twisted_mail.message.structure import (
    LEAF,
    MAX_NESTING,
    MAX_PARTS,
    MESSAGE,
    MULTIPART,
    Part,
    find,
    from_bytes,
    scan,
    section,
    to_bytes,
    walk,
    wire_section,
)
from twisted_mail.message.wire import wire_size

# RFC 9051 section 6.4.5.1: the example's tree
EXAMPLE = b"""\
Subject: all
Content-Type: multipart/mixed; boundary=A

preamble
--A
Content-Type: text/plain

1
--A
Content-Type: application/octet-stream

2
--A
Content-Type: message/rfc822

Subject: 3
Content-Type: multipart/mixed; boundary=B

--B
Content-Type: text/plain

3.1
--B
Content-Type: application/octet-stream

3.2
--B--
--A
Content-Type: multipart/mixed; boundary=C

--C
Content-Type: image/gif

4.1
--C
Content-Type: message/rfc822

Subject: 4.2
Content-Type: multipart/mixed; boundary=D

--D
Content-Type: text/plain

4.2.1
--D
Content-Type: multipart/alternative; boundary=E

--E
Content-Type: text/plain

4.2.2.1
--E
Content-Type: text/richtext

4.2.2.2
--E--
--D--
--C--
--A--
epilogue
"""

LINES = st.lists(
    st.sampled_from(
        [
            b"Content-Type: multipart/mixed; boundary=a",
            b'Content-Type: multipart/digest; boundary="ab"',
            b"Content-Type: message/rfc822",
            b"Content-Type: text/html; charset=x",
            b"Subject: =?utf-8?q?x?=",
            b"--a",
            b"--a--",
            b"--ab",
            b"--ab--",
            b"",
            b"",
            b"text",
            b" folded",
            b"\xff\x00",
        ]
    ),
    max_size=40,
)
CONTENTS = st.one_of(
    st.builds(lambda lines, end: end.join(lines), LINES, st.sampled_from([b"\n", b"\r\n", b"\r"])),
    st.binary(max_size=200),
)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((1,), b"1"),
        ((2,), b"2"),
        ((3, 1), b"3.1"),
        ((3, 2), b"3.2"),
        ((4, 1), b"4.1"),
        ((4, 2, 1), b"4.2.1"),
        ((4, 2, 2, 1), b"4.2.2.1"),
        ((4, 2, 2, 2), b"4.2.2.2"),
    ],
)
def test_part_numbers_of_the_rfc(numbers: tuple[int, ...], text: bytes) -> None:
    found = section(scan(EXAMPLE), numbers)
    assert found is not None
    assert wire_section(EXAMPLE, *found) == text


@pytest.mark.parametrize(
    ("numbers", "specifier", "text"),
    [
        ((), b"HEADER", b"Subject: all\r\nContent-Type: multipart/mixed; boundary=A\r\n\r\n"),
        ((1,), b"MIME", b"Content-Type: text/plain\r\n\r\n"),
        ((3,), b"HEADER", b"Subject: 3\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n"),
        ((3,), b"MIME", b"Content-Type: message/rfc822\r\n\r\n"),
        ((4, 2), b"HEADER", b"Subject: 4.2\r\nContent-Type: multipart/mixed; boundary=D\r\n\r\n"),
        ((4, 2, 2, 1), b"MIME", b"Content-Type: text/plain\r\n\r\n"),
    ],
)
def test_sections_of_the_rfc(numbers: tuple[int, ...], specifier: bytes, text: bytes) -> None:
    found = section(scan(EXAMPLE), numbers, specifier)
    assert found is not None
    assert wire_section(EXAMPLE, *found) == text


def test_text_sections() -> None:
    root = scan(EXAMPLE)
    start, end = section(root, (), b"TEXT") or (0, 0)
    assert EXAMPLE[start:end].startswith(b"preamble\n--A\n")
    assert EXAMPLE[start:end].endswith(b"--A--\nepilogue\n")
    start, end = section(root, (3,), b"TEXT") or (0, 0)
    assert EXAMPLE[start:end].startswith(b"--B\n")
    assert EXAMPLE[start:end].endswith(b"--B--\n")
    assert section(root, ()) == (0, len(EXAMPLE))


@pytest.mark.parametrize(
    ("numbers", "specifier"),
    [
        ((), b"MIME"),
        ((0,), b""),
        ((5,), b""),
        ((1, 1), b""),
        ((1,), b"HEADER"),
        ((4,), b"TEXT"),
        ((3, 3), b""),
        ((3, 1, 1), b""),
    ],
)
def test_sections_that_are_not_there(numbers: tuple[int, ...], specifier: bytes) -> None:
    assert section(scan(EXAMPLE), numbers, specifier) is None


def test_a_message_without_parts_is_part_1() -> None:
    content = b"Subject: x\n\ntext\n"
    root = scan(content)
    assert section(root, (1,)) == section(root, (), b"TEXT") == (12, 17)
    assert section(root, (1,), b"MIME") == (0, 12)
    assert find(root, (1, 1)) is None


def test_an_embedded_message_without_parts() -> None:
    content = b"Content-Type: message/rfc822\n\nSubject: in\n\ntext\n"
    root = scan(content)
    assert root.shape == MESSAGE
    for numbers, text in (((1,), b"Subject: in\n\ntext\n"), ((1, 1), b"text\n")):
        start, end = section(root, numbers) or (0, 0)
        assert content[start:end] == text
    assert root.children[0].envelope.startswith(b'(NIL "in" ')


def test_sizes_are_of_the_wire_form() -> None:
    text = b"a\nb\r\nc\rd"
    content = b"Content-Type: text/plain\n\n" + text
    root = scan(content)
    assert wire_section(content, root.body, root.end) == b"a\r\nb\r\nc d\r\n"
    assert (root.octets, root.lines) == (11, 3)
    assert root.header_octets == 28
    assert root.header_octets + root.octets == wire_size(content)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_line_end_before_a_delimiter_is_the_delimiters(end: bytes) -> None:
    content = end.join(
        [b"Content-Type: multipart/mixed; boundary=a", b"", b"--a", b"", b"x", b"", b"--a--", b""]
    )
    child = scan(content).children[0]
    assert content[child.body : child.end] == b"x" + end
    assert (child.octets, child.lines) == (3, 1)


def shapes(part: Part) -> object:
    return (
        (part.kind.decode(), *map(shapes, part.children)) if part.children else part.kind.decode()
    )


@pytest.mark.parametrize(
    ("content", "shape"),
    [
        (b"", "text/plain"),
        (b"Content-Type: multipart/mixed\n\n--a\n\nx\n", "multipart/mixed"),
        (b"Content-Type: multipart/mixed; boundary=a\n\nx\n", "multipart/mixed"),
        # no blank line: no body
        (b"Content-Type: multipart/mixed; boundary=a\n--a\n\nx\n", "multipart/mixed"),
        (
            b"Content-Type: multipart/mixed; boundary=a\n\n--a\n\nx\n",
            ("multipart/mixed", "text/plain"),
        ),
        (
            b"Content-Type: multipart/digest; boundary=a\n\n--a\n\nSubject: x\n\nx\n--a--\n",
            ("multipart/digest", ("message/rfc822", "text/plain")),
        ),
        # the inner one has the same boundary: the innermost that is open gets it
        (
            b"Content-Type: multipart/mixed; boundary=a\n\n--a\n"
            b"Content-Type: multipart/mixed; boundary=a\n\n--a\n\nx\n--a--\n--a\n\ny\n",
            ("multipart/mixed", ("multipart/mixed", "text/plain"), "text/plain"),
        ),
        # the inner one never ends
        (
            b"Content-Type: multipart/mixed; boundary=a\n\n--a\n"
            b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--a\n\ny\n--a--\n",
            ("multipart/mixed", ("multipart/mixed", "text/plain"), "text/plain"),
        ),
        # a longer one wins over its beginning
        (
            b"Content-Type: multipart/mixed; boundary=a\n\n--a\n"
            b"Content-Type: multipart/mixed; boundary=ab\n\n--ab\n\nx\n--ab--\n--a--\n",
            ("multipart/mixed", ("multipart/mixed", "text/plain")),
        ),
        (
            b"Content-Type: multipart/mixed; boundary=ab\n\n--ab\n"
            b"Content-Type: multipart/mixed; boundary=a\n\n--a\n\nx\n--ab\n\ny\n--ab--\n",
            ("multipart/mixed", ("multipart/mixed", "text/plain"), "text/plain"),
        ),
        (b"Content-Type: nonsense; charset=x\n\nx\n", "/"),
        (b"Content-Type: text\n\nx\n", "text/"),
        (b"Content-Disposition: inline\n\nx\n", "text/plain"),
        (b"Content-Type: message/global\n\nSubject: x\n\nx\n", ("message/global", "text/plain")),
        (
            b"Content-Type: message/global\nContent-Transfer-Encoding: base64\n\nx\n",
            "message/global",
        ),
    ],
)
def test_shapes(content: bytes, shape: object) -> None:
    assert shapes(scan(content)) == shape


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_part_without_a_body(end: bytes) -> None:
    # RFC 2046 section 5.1.1: MIME-part-headers [CRLF *OCTET]; the delimiter has its own line end
    lines = [b"Content-Type: multipart/mixed; boundary=a", b"", b"--a", b"X: y", b"", b"--a--", b""]
    content = end.join(lines)
    child = scan(content).children[0]
    assert content[child.start : child.body] == b"X: y" + end
    assert child.body == child.end


def test_without_mime_there_are_no_content_fields() -> None:
    content = b"Content-Disposition: attachment\n\nx\n"
    assert scan(content).disposition is None
    assert scan(b"MIME-Version: 1.0\n" + content).disposition == b"attachment"


def test_nesting_is_bounded() -> None:
    root = scan(
        b"".join(
            b"Content-Type: multipart/mixed; boundary=%d.\n\n--%d.\n" % (i, i) for i in range(300)
        )
    )
    depth = 0
    part = root
    while part.children:
        part = part.children[0]
        depth += 1
    assert depth == MAX_NESTING - 1
    assert (part.shape, part.kind) == (LEAF, b"application/octet-stream")
    part = scan(b"Content-Type: message/rfc822\n\n" * 300)
    assert sum(1 for _ in walk(part)) == MAX_NESTING
    assert from_bytes(to_bytes(root)) == root


def test_parts_are_bounded() -> None:
    content = b"Content-Type: multipart/mixed; boundary=a\n\n" + b"--a\n\nx\n" * (2 * MAX_PARTS)
    root = scan(content)
    assert 1 + len(root.children) == MAX_PARTS
    assert root.end == root.children[-1].end == len(content)


def test_hostile_content_takes_linear_time() -> None:
    # quadratic, each of these takes hours
    size = 300_000
    boundary = b"Content-Type: multipart/mixed; boundary=%b\n\n"
    scan(boundary % b"a" + b"--b\n" * size)
    scan(boundary % (b"-" * 70) + b"-" * size)
    scan(b"Subject: " + b"x" * 1_000_000 + b"\n\n")
    scan(b"x\n" * size)
    scan(b"Content-Type: text/plain" + b"; a=" * size + b"\n\n")
    siblings = [b"--a\n" + boundary % b"missing%d" % i + b"x\n" for i in range(9_000)]
    scan(boundary % b"a" + b"".join(siblings) + b"x\n" * size)


def test_a_memory_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "message"
    path.write_bytes(EXAMPLE.replace(b"\n", b"\r\n"))
    wanted = scan(path.read_bytes())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        assert scan(content) == wanted
        # whatever the windows cut
        for piece in (1, 2, 3, 7):
            monkeypatch.setattr(structure, "PIECE", piece)
            assert scan(content) == wanted


@given(CONTENTS)
def test_no_bytes_make_it_raise_and_ranges_nest(content: bytes) -> None:
    root = scan(content)
    assert (root.start, root.end) == (0, len(content))
    assert root.header_octets + root.octets == wire_size(content)
    for part in walk(root):
        assert part.start <= part.body <= part.end
        assert len(wire_section(content, part.start, part.body)) == part.header_octets or (
            # the added line end is counted once, to what comes last
            part.body == len(content)
        )
        text = wire_section(content, part.body, part.end)
        if part.body < len(content):
            assert (len(text), text.count(b"\r\n")) == (part.octets, part.lines)
        at = part.body
        for child in part.children:
            assert at <= child.start
            assert child.end <= part.end
            at = child.end
        assert (part.shape == LEAF) <= (not part.children)
        assert (part.shape == MESSAGE) <= (len(part.children) == 1)
        assert part.shape in (LEAF, MULTIPART, MESSAGE)
    assert from_bytes(to_bytes(root)) == root
    for text in (bodystructure(root), body(root), bodystructure(root, rev2=True)):
        assert text.startswith(b"(") and text.endswith(b")")


@given(st.binary(max_size=60))
def test_a_damaged_cache_is_told(data: bytes) -> None:
    good = to_bytes(scan(EXAMPLE))
    for bad in (data, b"0 " + good[2:], good[:-1], b"1 " + data, good + b"x"):
        with pytest.raises(ValueError):
            from_bytes(bad)
