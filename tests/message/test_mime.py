"""The shape of a MIME message as offsets."""

from __future__ import annotations

from email import message_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message import mime
from twisted_mail.message.mime import delimiters, read_header


def test_a_header() -> None:
    content = (
        b"Subject: x\n"
        b"MIME-Version: 1.0\n"
        b"Content-Type: Multipart/Mixed;\n"
        b' boundary="a;\\"b "; x=y\n'
        b"content-transfer-encoding: 8BIT (all of it)\n"
        b"\n"
        b"body"
    )
    header = read_header(b"before" + content, 6, 6 + len(content))
    assert header.block == content[: content.index(b"\n\n") + 1]
    assert (b"before" + content)[header.body :] == b"body"
    assert header.separated and header.versioned
    assert (header.maintype, header.subtype) == (b"multipart", b"mixed")
    assert (header.boundary, header.encoding) == (b'a;"b', b"8bit")


@pytest.mark.parametrize(
    ("content", "block", "body", "separated"),
    [
        (b"", b"", b"", False),
        (b"\n", b"", b"", True),
        (b"\nx", b"", b"x", True),
        (b"a: b", b"a: b\n", b"", False),
        (b"a: b\n", b"a: b\n", b"", False),
        (b"a: b\n\n", b"a: b\n", b"", True),
        (b"a: b\ntext\n\nmore", b"a: b\n", b"text\n\nmore", False),
        (b"text\n\nmore", b"", b"text\n\nmore", False),
    ],
)
def test_where_it_ends(content: bytes, block: bytes, body: bytes, separated: bool) -> None:
    header = read_header(content, 0, len(content))
    assert (header.block, content[header.body :], header.separated) == (block, body, separated)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(b"text", b"text/plain"), (b"", b"text/plain"), (b"a / B;x", b"a/b"), (b"a/b/c", b"a/b")],
)
def test_types(value: bytes, kind: bytes) -> None:
    content = b"Content-Type: " + value + b"\n\n"
    header = read_header(content, 0, len(content))
    assert header.maintype + b"/" + header.subtype == kind


@given(
    st.text("ab -'()+_,./:=?", min_size=1, max_size=70).filter(lambda text: text == text.strip())
)
def test_boundaries_are_what_the_standard_library_reads(boundary: str) -> None:
    content = f'Content-Type: multipart/mixed; boundary="{boundary}"\n\n'.encode()
    assert read_header(content, 0, len(content)).boundary.decode() == boundary
    assert message_from_bytes(content).get_boundary() == boundary


def found(content: bytes, boundary: bytes = b"b") -> list[tuple[bytes, bool]]:
    whole = b"\n" + content
    return [
        (whole[start:end], last) for start, end, last in delimiters(whole, 1, len(whole), boundary)
    ]


def test_delimiters() -> None:
    assert found(b"x\n--b\ny\n--bb\n --b\n--b \t\n--b--x\n--b\n--b--\n--b\n") == [
        (b"\n--b\n", False),
        (b"\n--b \t\n", False),
        (b"\n--b\n", False),
        (b"\n--b--\n", True),
    ]
    assert found(b"--b\n--b\n--b--") == [
        (b"\n--b\n", False),
        (b"\n--b\n", False),
        (b"\n--b--", True),
    ]
    assert found(b"") == found(b"--bb") == found(b"x--b\n") == []


def test_searched_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"x\n--bnd\ny\n--bnd\n--bnd--\n"
    whole = found(content, b"bnd")
    assert len(whole) == 3
    for piece in range(1, 30):
        monkeypatch.setattr(mime, "PIECE", piece)
        assert found(content, b"bnd") == whole
