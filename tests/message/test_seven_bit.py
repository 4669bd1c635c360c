"""8-bit content for a hop that lacks 8BITMIME: the same after decoding, and nothing over 127 on the way."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twisted_mail.message import seven_bit
from twisted_mail.message.dsn import Action, Notice, Recipient, compose
from twisted_mail.message.seven_bit import CannotConvert, convert, needs_conversion


def converted(content: bytes) -> bytes:
    result = b"".join(convert(content))
    assert result.isascii()
    return result


def leaves(content: bytes) -> list[tuple[str, bytes]]:
    """(type, decoded content, line ends as LF) of each part, as the standard library reads it."""
    found = []
    for part in message_from_bytes(content).walk():
        if part.is_multipart():
            continue
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        found.append((part.get_content_type(), payload.replace(b"\r\n", b"\n").rstrip(b"\n")))
    return found


def longest(content: bytes) -> int:
    return max(map(len, content.split(b"\n")))


TEXT = (
    "From: a@b\n"
    "MIME-Version: 1.0\n"
    "Content-Type: text/plain; charset=utf-8\n"
    "Content-Transfer-Encoding: 8bit\n"
    "Subject: x\n"
    "\n"
    "Grüße an alle = jeden \n"
).encode()


def test_needs_it() -> None:
    assert needs_conversion(TEXT)
    assert not needs_conversion(b"Subject: x\n\nhi\n")
    assert convert(b"Subject: x\n\nhi\n") == [b"Subject: x\n\nhi\n"]


def test_text() -> None:
    assert converted(TEXT) == (
        b"From: a@b\n"
        b"MIME-Version: 1.0\n"
        b"Content-Type: text/plain; charset=utf-8\n"
        b"Content-Transfer-Encoding: quoted-printable\n"
        b"Subject: x\n"
        b"\n"
        b"Gr=C3=BC=C3=9Fe an alle =3D jeden=20\n"
    )


def test_text_that_is_mostly_not_ascii_becomes_base64() -> None:
    content = TEXT.partition(b"\n\n")[0] + b"\n\n" + ("Привет, мир\n" * 20).encode()
    result = converted(content)
    assert b"Content-Transfer-Encoding: base64\n" in result
    assert leaves(result) == leaves(content)
    # RFC 2045 section 6.8: canonical line ends within
    payload = message_from_bytes(result).get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload.count(b"\r\n") == payload.count(b"\n") == 20


def test_no_mime_at_all() -> None:
    assert converted(b"Subject: x\n\ncaf\xe9\n") == (
        b"Subject: x\n"
        b"MIME-Version: 1.0\n"
        b"Content-Type: text/plain; charset=unknown-8bit\n"
        b"Content-Transfer-Encoding: quoted-printable\n"
        b"\n"
        b"caf=E9\n"
    )
    assert converted(b"\ncaf\xe9\n").startswith(b"MIME-Version: 1.0\n")
    assert converted(b"Subject: x\ncaf\xe9 begins at once\n").endswith(
        b"quoted-printable\n\ncaf=E9 begins at once\n"
    )


MIXED = (
    "MIME-Version: 1.0\n"
    'Content-Type: multipart/mixed; boundary="a b"\n'
    "Content-Transfer-Encoding: 8bit\n"
    "\n"
    "Vorwort: ü\n"
    "--a b\n"
    "Content-Type: text/plain; charset=utf-8\n"
    "Content-Transfer-Encoding: 8BIT (as it is)\n"
    "\n"
    "Grüße an alle\n"
    "--a b \n"
    "Content-Type: text/plain\n"
    "Content-Transfer-Encoding: binary\n"
    "\n"
    "plain\n"
    "--a b\n"
    "Content-Type: application/octet-stream\n"
    "Content-Transfer-Encoding: binary\n"
    "\n"
    "\x00ü\n"
    "--a b\n"
    "Content-Type: multipart/signed; boundary=s\n"
    "\n"
    "--s\n"
    "Content-Transfer-Encoding: 8bit\n"
    "\n"
    f"signed {'x' * 2000}\n"
    "--s--\n"
    "--a b\n"
    "Content-Type: message/rfc822\n"
    "Content-Transfer-Encoding: 8bit\n"
    "\n"
    "Subject: inner\n"
    "\n"
    "Die Größe zählt\n"
    "--a b--\n"
    "Nachwort: ü\n"
).encode()


def test_a_multipart() -> None:
    assert converted(MIXED).decode() == (
        "MIME-Version: 1.0\n"
        'Content-Type: multipart/mixed; boundary="a b"\n'
        "Content-Transfer-Encoding: 7bit\n"
        "\n"
        "Vorwort: ??\n"
        "--a b\n"
        "Content-Type: text/plain; charset=utf-8\n"
        "Content-Transfer-Encoding: quoted-printable\n"
        "\n"
        "Gr=C3=BC=C3=9Fe an alle\n"
        "--a b \n"
        "Content-Type: text/plain\n"
        "Content-Transfer-Encoding: 7bit\n"
        "\n"
        "plain\n"
        "--a b\n"
        "Content-Type: application/octet-stream\n"
        "Content-Transfer-Encoding: base64\n"
        "\n"
        "AMO8\n"
        "--a b\n"
        "Content-Type: multipart/signed; boundary=s\n"
        "\n"
        "--s\n"
        "Content-Transfer-Encoding: 8bit\n"
        "\n"
        f"signed {'x' * 2000}\n"
        "--s--\n"
        "--a b\n"
        "Content-Type: message/rfc822\n"
        "Content-Transfer-Encoding: 7bit\n"
        "\n"
        "Subject: inner\n"
        "MIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=unknown-8bit\n"
        "Content-Transfer-Encoding: quoted-printable\n"
        "\n"
        "Die Gr=C3=B6=C3=9Fe z=C3=A4hlt\n"
        "--a b--\n"
        "Nachwort: ??\n"
    )


def multipart(kind: str, *parts: bytes, encoding: str = "8bit") -> bytes:
    return (
        (
            f"MIME-Version: 1.0\nContent-Type: multipart/{kind}; boundary=b\n"
            f"Content-Transfer-Encoding: {encoding}\n\n"
        ).encode()
        + b"".join(b"--b\n" + part + b"\n" for part in parts)
        + b"--b--\n"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: caf\xe9\n\nhi\n",
        b"Subject: x\n\tcaf\xe9\n\nhi\n",
        multipart("mixed", b"Content-Disposition: x; filename=caf\xe9\n\nhi"),
        multipart("mixed", b"Content-Type: message/rfc822\n\nSubject: caf\xe9\n\nhi"),
        multipart("signed", b"Content-Type: text/plain\n\ncaf\xe9", b"\nsignature"),
        multipart("encrypted", b"\ncaf\xe9"),
        multipart(
            "mixed", multipart("signed", b"\ncaf\xe9").replace(b"--b", b"--c").replace(b"=b", b"=c")
        ),
        multipart("mixed", b"Content-Type: message/partial\n\ncaf\xe9"),
        multipart("mixed", b"Content-Type: message/external-body\n\nX: y\n\ncaf\xe9"),
        multipart("mixed", b"Content-Transfer-Encoding: x-uuencode\n\ncaf\xe9"),
        # No boundary, or none that occurs
        b"Content-Type: multipart/mixed\n\ncaf\xe9\n",
        b"Content-Type: multipart/mixed; boundary=b\n\ncaf\xe9\n--c\n",
    ],
)
def test_what_cannot_be_done(content: bytes) -> None:
    with pytest.raises(CannotConvert):
        convert(content)


@pytest.mark.parametrize("kind", ["delivery-status", "disposition-notification"])
def test_reports_are_ascii_for_those_who_read_them_raw(kind: str) -> None:
    content = multipart(
        "report", f"Content-Type: message/{kind}\n\nX: a\n\nDiagnostic-Code: é".encode()
    )
    assert converted(content).endswith(b"X: a\n\nDiagnostic-Code: ??\n--b--\n")


def test_children_of_a_digest_are_messages() -> None:
    content = multipart("digest", "\nSubject: x\n\nGrüße".encode())
    result = converted(content)
    assert b"\n\nSubject: x\nMIME-Version: 1.0\n" in result
    assert leaves(result) == leaves(content)


def test_what_needs_nothing_stays_byte_for_byte() -> None:
    content = (
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n\n--b\nX: y\n--b\n\n"
        + (b"x" * 998 + b"\n") * 3
        + b"\n--b \n\n%b\n--b--\n--b\n"
    )
    result = converted(content % b"caf\xe9")
    head = content[: content.index(b"\n%b")]
    assert result.startswith(head)
    assert result.endswith(b"\ncaf=E9\n--b--\n--b\n")


def test_the_last_delimiter_is_missing() -> None:
    content = multipart("mixed", "\nGrüße".encode()).removesuffix(b"--b--\n")
    assert leaves(converted(content)) == leaves(content)


def test_careless_labels_are_read_as_everybody_reads_them() -> None:
    content = TEXT.replace(b"8bit", b"8-bit")
    assert converted(content) == converted(TEXT)


def test_encoded_parts_with_8bit_or_long_lines_are_mended() -> None:
    content = multipart(
        "mixed",
        "Content-Transfer-Encoding: quoted-printable\n\nGr=C3=BCße =\nund so".encode(),
        b"Content-Transfer-Encoding: quoted-printable\n\n" + b"=41" * 100_000,
        b"Content-Transfer-Encoding: base64\n\n" + b"QUJD" * 1000,
        b"Content-Transfer-Encoding: base64\n\nQU\xa0JD",
        b"Content-Transfer-Encoding: base64\n\nQUJD\nQUJD",
    )
    result = converted(content)
    assert longest(result) <= 78
    assert [leaf for _, leaf in leaves(result)] == [
        "Grüße und so".encode(),
        b"A" * 100_000,
        b"ABC" * 1000,
        b"ABC",
        b"ABCABC",
    ]
    assert b"\nQUJD\nQUJD\n" in result


def test_long_lines() -> None:
    content = multipart(
        "mixed",
        b"Content-Type: text/html\n\n" + b"x" * 999,
        b"Content-Type: text/html\n\n" + b"y" * 998,
        b"Content-Type: text/plain\n\n" + b"\xe9" + b"z" * 400_000,
        b"Content-Type: image/png\n\n" + b"\xe9\n" * 400_000,
    )
    result = converted(content)
    assert longest(result) == 998
    assert leaves(result) == leaves(content)


def test_carriage_returns_are_what_they_are_on_the_wire() -> None:
    assert converted(TEXT.replace(b"\n", b"\r\n")) == converted(TEXT)
    assert converted(TEXT.replace(b"an ", b"an\r")) == converted(TEXT)


def test_a_notice_of_ours_can_be_converted() -> None:
    notice = Notice(
        "alice@here.example",
        "mx.here.example",
        "1",
        0.0,
        (Recipient("jö@example.net", Action.FAILED, text="weiß nicht", said=True),),
        original="Subject: Grüße\n\nHallo ü\n".encode(),
        whole=True,
        smtputf8=True,
    )
    content = compose(notice)
    result = converted(content)
    assert leaves(result)[0] == leaves(content)[0]
    original = message_from_bytes(result).get_payload()[2]
    assert isinstance(original, Message)
    assert original.get_content_type() == "message/global"
    assert original["Content-Transfer-Encoding"] in ("quoted-printable", "base64")


def test_depth_is_bounded() -> None:
    def nested(depth: int, inner: bytes) -> bytes:
        for level in range(depth):
            boundary = b"=%d=" % level
            inner = (
                b"Content-Type: multipart/mixed; boundary=" + boundary + b"\n\n"
                b"--" + boundary + b"\n" + inner + b"\n--" + boundary + b"--"
            )
        return b"MIME-Version: 1.0\n" + inner + b"\n"

    content = nested(seven_bit.MAX_DEPTH, "\nGrüße".encode())
    assert leaves(converted(content)) == leaves(content)
    with pytest.raises(CannotConvert):
        convert(nested(seven_bit.MAX_DEPTH + 1, "\nGrüße".encode()))
    messages = b"Content-Type: message/rfc822\n\n" * 500 + "\nGrüße\n".encode()
    with pytest.raises(CannotConvert):
        convert(messages)


def test_parts_are_bounded() -> None:
    part = b"\nx"
    assert converted(multipart("mixed", *[part] * 9_000, b"\n\xe9"))
    with pytest.raises(CannotConvert):
        convert(multipart("mixed", *[part] * 10_000, b"\n\xe9"))


def test_lines_that_look_like_a_boundary_are_bounded() -> None:
    with pytest.raises(CannotConvert):
        convert(multipart("mixed", b"\n" + b"--bb\n" * 100_001 + b"\xe9"))


LEAF_TYPES = st.sampled_from(
    [
        "text/plain; charset=utf-8",
        "text/html",
        "application/pdf",
        "image/png",
        "text",
        "application/pkcs7-mime",
    ]
)
ENCODINGS = st.sampled_from(["", "7bit", "8bit", "binary", "8-bit", "BINARY"])
BODIES = (
    st.binary(max_size=300).map(lambda data: data.replace(b"\r", b"?"))
    | st.text("abc =.ü語\t\n-", max_size=200).map(str.encode)
    | st.integers(990, 1010).map(lambda size: b"x" * size)
    | st.integers(200_000, 200_100).map(lambda size: "ü= ".encode() * (size // 4))
)


@st.composite
def leaf(draw: st.DrawFn) -> tuple[bytes, int]:
    fields = []
    if draw(st.booleans()):
        fields.append(f"Content-Type: {draw(LEAF_TYPES)}\n")
    if encoding := draw(ENCODINGS):
        fields.append(f"Content-Transfer-Encoding: {encoding}\n")
    body = draw(BODIES)
    # The library guesses at what follows a header without an empty line; that is another test
    return "".join(fields).encode() + b"\n" + body, 1


@st.composite
def branch(draw: st.DrawFn, children: st.SearchStrategy[tuple[bytes, int]]) -> tuple[bytes, int]:
    parts = draw(st.lists(children, min_size=1, max_size=4))
    level = max(height for _, height in parts) + 1
    if draw(st.integers(0, 4)) == 0:
        return b"Content-Type: message/rfc822\n\nSubject: x\n" + parts[0][0], level
    boundary = f"=_level{level}_x".encode()
    kind = draw(st.sampled_from(["mixed", "alternative", "related"]))
    encoding = draw(st.sampled_from(["", "Content-Transfer-Encoding: 8bit\n"]))
    head = f'Content-Type: multipart/{kind};\n boundary="{boundary.decode()}"\n{encoding}\n'
    body = b"".join(b"--" + boundary + b"\n" + part + b"\n" for part, _ in parts)
    close = draw(st.sampled_from([b"--" + boundary + b"--", b"--" + boundary + b"--\nbye", b""]))
    return head.encode() + draw(st.sampled_from([b"", b"hello\n"])) + body + close, level


TREES = st.recursive(leaf(), branch, max_leaves=8)


@given(TREES)
def test_every_part_is_the_same_after_decoding(tree: tuple[bytes, int]) -> None:
    content = b"Subject: x\nMIME-Version: 1.0\n" + tree[0] + b"\n"
    result = converted(content)
    if content.isascii():
        assert result == content
        return
    assert longest(result) <= 998
    assert leaves(result) == leaves(content)
    assert converted(result) == result
    encodings = {
        str(part["Content-Transfer-Encoding"]).lower() for part in message_from_bytes(result).walk()
    }
    assert encodings <= {"none", "7bit", "quoted-printable", "base64"}


PIECES = st.sampled_from(
    [
        b"\n",
        b"\n\n",
        b"\r\n",
        b"--b",
        b"--b--",
        b"--c\n",
        b"Content-Type: multipart/mixed; boundary=b\n",
        b'content-type: multipart/digest; boundary="c',
        b'"\n',
        b"Content-Type: message/rfc822\n",
        b"Content-Transfer-Encoding: ",
        b"8bit\n",
        b"base64\n",
        b"quoted-printable\n",
        b"text",
        b"=",
        b" ",
        b"caf\xe9",
        b"\xff",
    ]
)


@given(st.lists(PIECES, max_size=30).map(b"".join) | st.binary(max_size=200))
@example(b"Content-Type: multipart/mixed; boundary=b\n--b\n--b\n\xe9")
@example(b"Content-Type: multipart/mixed; boundary=b\n\n--b--")
def test_no_bytes_make_it_raise_anything_else(content: bytes) -> None:
    try:
        result = converted(content)
    except CannotConvert:
        return
    assert not needs_conversion(result)
    if content.isascii():
        assert result == content


def test_small_pieces_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    body = ("Grüße = \n.\n" + "ü" * 100 + " \n" + "x " * 60 + "\n").encode() * 3
    for head in (
        b"Content-Type: text/plain\n\n",
        b"Content-Type: image/png\n\n",
        b"Content-Transfer-Encoding: quoted-printable\n\n",
    ):
        monkeypatch.setattr(seven_bit, "PIECE", 131_072)
        whole = leaves(converted(head + body))
        for piece in (1, 2, 3, 7, 50):
            monkeypatch.setattr(seven_bit, "PIECE", piece)
            result = converted(head + body)
            assert leaves(result) == whole
            assert longest(result) <= 78
