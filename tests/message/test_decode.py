"""Bodies decoded: BINARY, the text that SEARCH looks at, PREVIEW."""

from __future__ import annotations

from base64 import b64encode
from binascii import b2a_qp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message import decode, text
from twisted_mail.message.collation import fold
from twisted_mail.message.decode import UnknownEncoding, decoded, decoded_size, decoder
from twisted_mail.message.preview import MAX_PREVIEW, preview
from twisted_mail.message.structure import scan
from twisted_mail.message.text import header_text, header_texts, texts


def whole(encoding: bytes, data: bytes, cuts: int = 1) -> bytes:
    undo = decoder(encoding)
    blocks = [data[at : at + cuts] for at in range(0, len(data), cuts)]
    return b"".join([undo.decode(block) for block in blocks]) + undo.finish()


@given(st.binary(max_size=300), st.integers(1, 50))
def test_decoding_undoes_encoding_however_it_is_cut(data: bytes, cuts: int) -> None:
    base64 = b"\r\n".join([b64encode(data)[at : at + 76] for at in range(0, len(data) * 2, 76)])
    assert whole(b"base64", base64, cuts) == data
    assert whole(b"quoted-printable", b2a_qp(data, quotetabs=True, istext=False), cuts) == data
    assert whole(b"8bit", data, cuts) == data
    for encoding in (b"base64", b"quoted-printable"):
        assert whole(encoding, data, cuts) == whole(encoding, data, len(data) or 1)


@pytest.mark.parametrize(
    ("encoding", "data", "wanted"),
    [
        (b"base64", b"QQ==QUI=", b"AAB"),
        (b"base64", b"Q*Q\n=!=", b"A"),
        (b"base64", b"QUJDR", b"ABC"),
        (b"base64", b"QUI", b"AB"),
        (b"quoted-printable", b"a=\r\nb=3D=zz  \r\nc=", b"ab==zz\r\nc"),
        (b"quoted-printable", b"a= \t\nb", b"ab"),
    ],
)
def test_lenient(encoding: bytes, data: bytes, wanted: bytes) -> None:
    assert whole(encoding, data, 1) == whole(encoding, data, 100) == wanted


def test_binary() -> None:
    content = (
        b"Content-Type: multipart/mixed; boundary=a\n\n"
        b"--a\nContent-Transfer-Encoding: Base64\n\n" + b64encode(bytes(range(256))) + b"\n"
        b"--a\nContent-Transfer-Encoding: quoted-printable\n\na=3D\nb\n"
        b"--a\nContent-Transfer-Encoding: x-uuencode\n\nb\n"
        b"--a\n\nc\nd\n--a--\n"
    )
    root = scan(content)
    one, two, three, four = root.children
    assert b"".join(decoded(content, one)) == bytes(range(256))
    assert decoded_size(content, one) == 256
    assert b"".join(decoded(content, one, 250, 3)) == bytes([250, 251, 252])
    assert b"".join(decoded(content, one, 250)) == bytes(range(250, 256))
    assert b"".join(decoded(content, one, 256, 3)) == b""
    assert b"".join(decoded(content, two)) == b"a=\r\nb"
    assert decoded_size(content, two) == 5
    with pytest.raises(UnknownEncoding):
        decoded(content, three)
    with pytest.raises(UnknownEncoding):
        decoded_size(content, three)
    assert b"".join(decoded(content, four)) == b"c\r\nd"
    assert decoded_size(content, four) == 4
    assert decoded_size(content, root) == root.octets == len(b"".join(decoded(content, root)))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (b" a\n b", "a b"),
        (b" a\n\tb\r\n\tc", "a b c"),
        (b"=?utf-8?q?=C3=A4?= =?utf-8?b?w7Y=?=", "äö"),
        (b"=?x-unknown?q?=E4?=", "ä"),
        (b"=?koi8-r?q?=C1?=", "а"),
        ("ä".encode(), "ä"),
        ("ä".encode("latin-1"), "ä"),
    ],
)
def test_header_text(value: bytes, wanted: str) -> None:
    assert header_text(value) == wanted


def test_header_texts() -> None:
    block = b"Subject: a\r\n b\nX-Y : =?utf-8?q?c?=\n"
    assert list(header_texts(block)) == [(b"subject", "a b"), (b"x-y", "c")]


PARTS = (
    b"Subject: =?utf-8?q?t=C3=B6p?=\nContent-Type: multipart/mixed; boundary=a\n\n"
    b"preamble\n--a\nContent-Type: text/plain; charset=utf-16-le\n"
    b"Content-Transfer-Encoding: base64\n\n" + b64encode("älpha".encode("utf-16-le")) + b"\n"
    b"--a\nContent-Type: text/html; charset=nonsense\n\n<b>\xe4</b>\n"
    b"--a\nContent-Type: image/png; name=hidden\n\nno text\n"
    b"--a\nContent-Type: message/rfc822\n\nSubject: within\n\ninner=20\n"
    b"--a\nContent-Transfer-Encoding: x-odd\n\nodd\n--a--\n"
)


def test_texts() -> None:
    everything = "|".join(texts(PARTS, scan(PARTS)))
    for wanted in ("Subject: töp", "älpha", "<b>ä</b>", "name=hidden", "within", "inner=20", "odd"):
        assert wanted in everything
    assert "no text" not in everything
    of_body = "|".join(texts(PARTS, scan(PARTS), headers=False))
    for wanted in ("älpha", "<b>ä</b>", "Subject: within", "inner=20"):
        assert wanted in of_body
    for unwanted in ("töp", "hidden", "no text"):
        assert unwanted not in of_body


@pytest.mark.parametrize("block", [2, 3, 7, 1000])
@pytest.mark.parametrize("encoding", [b"8bit", b"base64"])
def test_lines_end_with_lf(monkeypatch: pytest.MonkeyPatch, block: int, encoding: bytes) -> None:
    monkeypatch.setattr(text, "BLOCK", block)
    body = b"one\r\ntwo\rthree\r\n\r\nfour\r"
    if encoding == b"base64":
        body = b64encode(body)
    content = b"Content-Type: text/plain\nContent-Transfer-Encoding: %b\n\n%b" % (encoding, body)
    found = "".join(texts(content, scan(content), headers=False, overlap=0))
    assert found == "one\ntwo\rthree\n\nfour\r"


@pytest.mark.parametrize("overlap", [0, 1, 7])
def test_what_two_pieces_share(monkeypatch: pytest.MonkeyPatch, overlap: int) -> None:
    monkeypatch.setattr(text, "PIECE", 40)
    monkeypatch.setattr(text, "BLOCK", 10)
    body = "äbcdefghijklmnopqrstuvwxyz" * 10
    content = b"Content-Type: text/plain; charset=utf-8\n\n" + body.encode()
    pieces = list(texts(content, scan(content), headers=False, overlap=overlap))
    assert len(pieces) > 5
    assert all(len(piece) <= 40 for piece in pieces)
    assert pieces[0] + "".join(piece[overlap:] for piece in pieces[1:]) == body
    for at in range(len(body) - overlap):
        if overlap:
            assert any(body[at : at + overlap] in piece for piece in pieces)


@given(
    st.sampled_from(
        [b"utf-8", b"utf-7", b"gb18030", b"iso-2022-jp", b"utf-16", b"idna", b"zlib", b"\xff"]
    ),
    st.sampled_from([b"base64", b"quoted-printable", b"8bit", b"x"]),
    st.binary(max_size=100),
)
def test_no_bytes_make_it_raise(charset: bytes, encoding: bytes, data: bytes) -> None:
    content = b"Content-Type: text/html; charset=%b\nContent-Transfer-Encoding: %b\n\n%b" % (
        charset,
        encoding,
        data,
    )
    root = scan(content)
    for piece in texts(content, root):
        fold(piece)
    preview(content, root)
    if encoding != b"x":
        assert decoded_size(content, root) == len(b"".join(decoded(content, root)))


def test_long_content_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = bytes(range(256)) * 40
    content = (
        b"Content-Transfer-Encoding: base64\nMIME-Version: 1.0\n\n" + b64encode(wanted) + b"\n"
    )
    root = scan(content)
    for block in (1, 3, 1000):
        monkeypatch.setattr(decode, "BLOCK", block)
        assert b"".join(decoded(content, root)) == wanted
        assert b"".join(decoded(content, root, 5000, 300)) == wanted[5000:5300]


@pytest.mark.parametrize(
    ("head", "body", "wanted"),
    [
        (b"Content-Type: text/plain", b"a\n\n  b\tc\n", "a b c"),
        (
            b"Content-Type: text/html",
            b"<html><head><title>no</title><style>p {}</style></head><body><p>One<b>two</b></p>"
            b"<!-- <p>no --><div>&auml; &lt;three&gt;</div><script>x<y</script></body>",
            "Onetwo ä <three>",
        ),
        (b"Content-Type: image/png", b"x", ""),
        (b"Content-Type: text/plain\nContent-Disposition: attachment", b"x", ""),
        (b"Content-Type: text/plain", b"", ""),
    ],
)
def test_preview(head: bytes, body: bytes, wanted: str) -> None:
    content = head + b"\n\n" + body
    assert preview(content, scan(content)) == wanted


def test_a_preview_is_short_and_of_the_first_part_that_says_something() -> None:
    content = (
        b"Content-Type: multipart/alternative; boundary=a\n\n--a\n\n \n--a\nContent-Type: text/html\n\n"
        + b"<p>word" * 1000
        + b"\n--a--\n"
    )
    found = preview(content, scan(content))
    assert len(found) == MAX_PREVIEW
    assert found.startswith("word word")


@pytest.mark.parametrize("odd", [b"<a ", b"<!--", b'<a b="', b"<![x", b"&", b"<style>", b"</style"])
def test_hostile_html(odd: bytes) -> None:
    # quadratic, this takes minutes
    content = b"Content-Type: text/html\n\n" + odd * 40_000
    preview(content, scan(content))
