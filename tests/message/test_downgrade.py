"""RFC 6858: what a client without UTF-8 gets."""

from __future__ import annotations

import itertools
from email import message_from_bytes
from email.header import decode_header, make_header
from email.utils import getaddresses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twisted_mail.message.downgrade import (
    MAX_FIELD,
    ascii_size,
    blank_field,
    downgrade_field,
    downgrade_header,
    needs_downgrade,
)
from twisted_mail.message.surrogate import Surrogate
from twisted_mail.message.wire import wire_size

NOBODY = "invalid@internationalized-address.invalid"
CUTS = st.lists(st.integers(0, 400), max_size=12)


def addresses(field: bytes) -> list[tuple[str, str]]:
    """(display name, address) as a conventional client reads them."""
    value = message_from_bytes(field)[field.partition(b":")[0].decode()]
    return [(str(make_header(decode_header(name))), at) for name, at in getaddresses([value])]


def surrogate(blocks: list[bytes]) -> bytes:
    made = Surrogate()
    return b"".join([made.feed(block) for block in blocks] + [made.finish()])


def cut(content: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(at, len(content)) for at in cuts), len(content)]
    return [content[a:b] for a, b in itertools.pairwise(edges)]


def test_only_a_header_with_8bit_needs_it() -> None:
    assert not needs_downgrade(b"Subject: plain\n")
    assert needs_downgrade("Subject: Grüße\n".encode())


def test_ascii_fields_stay_byte_for_byte() -> None:
    header = b"Received: from a\n\tby b;\n  Sat\nX-Odd :  x\nnot a field\n"
    assert downgrade_header(header + "Subject: ü\n".encode()).startswith(header)


def test_an_internationalized_address_becomes_nobodys() -> None:
    field = downgrade_field("To: Jøran <jøran@example.org>, joe@example.org\n".encode())
    assert addresses(field) == [
        ("Jøran jøran@example.org", NOBODY),
        ("", "joe@example.org"),
    ]


def test_a_name_alone_becomes_encoded_words() -> None:
    field = downgrade_field('From: "Müller, \\"Jö\\"" <j@example.org>\n'.encode())
    assert addresses(field) == [('Müller, "Jö"', "j@example.org")]


def test_a_comment_as_name() -> None:
    field = downgrade_field("From: j@example.org (Jö Müller)\n".encode())
    assert addresses(field) == [("Jö Müller", "j@example.org")]


def test_bare_internationalized_address() -> None:
    field = downgrade_field("Cc: 用户@例子.广告\n".encode())
    assert addresses(field) == [("用户@例子.广告", NOBODY)]


def test_groups() -> None:
    field = downgrade_field("To: Köche: a@x.org, ö@x.org;, [x:y]@z, last@x.org\n".encode())
    assert field.startswith(b"To: =?utf-8?b?S8O2Y2hl?=:\n a@x.org,\n =?utf-8?b?")
    assert field.endswith(b"last@x.org\n")
    assert b";" in field


def test_return_path_has_no_name() -> None:
    assert downgrade_field("Return-Path: <jø@x.org>\n".encode()) == (
        f"Return-Path: <{NOBODY}>\n".encode()
    )


def test_subject_becomes_encoded_words() -> None:
    subject = "Grüße aus Köln, " * 20 + "🎉"
    field = downgrade_field(f"Subject: {subject}\n".encode())
    assert max(map(len, field.splitlines())) <= 76 + len("Subject: ")
    value = message_from_bytes(field)["subject"]
    assert str(make_header(decode_header(value))) == subject


def test_a_folded_subject_is_unfolded_and_holds_no_line_end() -> None:
    field = downgrade_field("Subject: a\n ü\x00\u2028b\n".encode())
    value = message_from_bytes(field)["subject"]
    assert str(make_header(decode_header(value))) == "a ü  b"


def test_parameters_that_cannot_be_shown_go() -> None:
    field = 'Content-Type: text/plain; name="ü;x.txt";\n charset=utf-8; x="\\";é"\n'.encode()
    assert downgrade_field(field) == b"Content-Type: text/plain;\n charset=utf-8\n"
    field = 'Content-Disposition: attachment;\n filename="ü"\n'.encode()
    assert downgrade_field(field) == b"Content-Disposition: attachment\n"


@pytest.mark.parametrize(
    "field",
    ["Comments: ü\n", "Content-Type: tëxt/plain\n", "Sübject: x\n", "no field ü\n", "X: ü"],
)
def test_other_fields_that_cannot_be_shown_go(field: str) -> None:
    assert downgrade_field(field.encode()) == b""


def test_a_field_over_the_bound_goes() -> None:
    assert downgrade_field(b"X: " + b"x" * MAX_FIELD + b"\n") == b""


def test_bytes_that_are_no_utf8_are_shown_as_such() -> None:
    value = message_from_bytes(downgrade_field(b"Subject: caf\xe9\n"))["subject"]
    assert str(make_header(decode_header(value))) == "caf�"


@given(st.binary())
@example(b"\xff")
@example('To: "ü, <ü>;:(ü)[\n'.encode())
def test_no_header_raises_or_stays_8bit(header: bytes) -> None:
    for name in (b"", b"To: ", b"Subject:", b"Content-Type:", b"Return-Path :"):
        made = downgrade_header(name + header)
        assert made.isascii()
        assert b"\n\n" not in made or b"\n\n" in (name + header).replace(b"\r\n", b"\n")


@given(st.text(alphabet='ü"\\<>(),:;@ ax[]\n\t'))
def test_address_lists_of_any_shape(value: str) -> None:
    made = downgrade_field(f"To: ü{value}".encode())
    assert made.isascii()
    assert all(line[:1] in b" \t" for line in made.split(b"\n")[1:] if line)


@given(st.binary())
def test_a_parts_field_keeps_its_size(data: bytes) -> None:
    for name in (b"", b"Content-Type: a;", b"Content-Description:", b"Content-Disposition:"):
        field = (name + data).replace(b"\r", b"")
        made = blank_field(field)
        assert made.isascii()
        assert wire_size(made) == wire_size(field)


MULTIPART = """\
Subject: Grüße
Content-Type: multipart/mixed; boundary="out er"

präamble --out er
--out er
Content-Type: multipart/alternative; boundary=inner; name="ü"
Content-Description: ü

--inner
Content-Type: text/plain; charset=utf-8; format=flowed

Content-Description: bödy
--inner-but-not
--inner--
Content-Description: epilögue
--out er\x20
Content-Type: image/png;
 name="ü.png"; x=y
Content-Disposition: attachment; filename="ü.png"
ü no field
--out er
Content-Description: ü
--out er--
Content-Description: epilögue
""".encode()


def test_headers_of_parts_are_blanked_and_bodies_stay() -> None:
    assert surrogate([MULTIPART]) == (
        MULTIPART.replace("Subject: Grüße".encode(), b"Subject: =?utf-8?b?R3LDvMOfZQ==?=")
        .replace('; name="ü"\n'.encode(), b" " * 11 + b"\n")
        .replace(b"Content-Description: \xc3\xbc\n", b"Content-Description:   \n" + b"")
        .replace(';\n name="ü.png"'.encode(), b" " * 17)
        .replace('; filename="ü.png"'.encode(), b" " * 19)
        .replace("ü no field".encode(), b"?? no field")
    )


def test_a_delimiter_in_the_header_of_a_part_begins_the_next() -> None:
    top = b"Subject: \xc3\xbc\nContent-Type: multipart/mixed; boundary=b\n\n"
    parts = (
        b"--b\nContent-Type: multipart/mixed; boundary=x\n--b\nX: \xc3\xbc\n\n--x\nX: \xc3\xbc\n"
    )
    made = surrogate([top + parts])
    assert made.endswith(parts.replace(b"X: \xc3\xbc\n\n", b"X:   \n\n", 1))


@pytest.mark.parametrize(
    "kind",
    ["multipart/mixed", "multipart/mixed; x=b", "multipart/a; boundary=", "text/x; boundary=b"],
)
def test_without_a_boundary_there_are_no_parts(kind: str) -> None:
    body = "--b\nX: ü\n--\nX: ü\n".encode()
    content = f"Subject: ü\nContent-Type: {kind}\n\n".encode() + body
    assert surrogate([content]).endswith(b"\n\n" + body)


def test_a_line_too_long_for_a_delimiter_is_passed_on_at_once() -> None:
    made = Surrogate()
    made.feed(b"X: \xc3\xbc\nContent-Type: multipart/mixed; boundary=b\n\n")
    assert made.feed(b"--" + b"b" * 300) == b"\n--" + b"b" * 300
    assert made.feed(b"\n--b\nX: \xc3\xbc\n\n") == b"\n--b\nX:   \n"


@given(CUTS)
def test_any_cut_gives_the_same_surrogate(cuts: list[int]) -> None:
    assert surrogate(cut(MULTIPART, cuts)) == surrogate([MULTIPART])


PIECES = st.sampled_from(
    [
        *(b"\n", b"\r\n", b"\r", b" ", b"X: ", b"\xc3\xbc", b"x" * 300, b"--", b"--b", b"--b--"),
        *(
            b"\n--b\n",
            b"\nContent-Type: ",
            b"multipart/mixed; boundary=b",
            b"multipart/a; boundary=-",
        ),
    ]
)


@given(st.lists(PIECES, max_size=20).map(b"".join), CUTS)
def test_any_cut_of_anything_gives_the_same(content: bytes, cuts: list[int]) -> None:
    whole = surrogate([content])
    assert surrogate(cut(content, cuts)) == whole
    # What the store computes from the header block is what goes out.
    size = ascii_size(content, wire_size(content))
    plain = content.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    if ("\n" + plain.decode()).partition("\n\n")[0].isascii():
        assert size is None
    else:
        assert size == wire_size(whole)


@pytest.mark.parametrize("end", ["\r\n", "\r\r\n", " \r\n"])
def test_a_message_of_any_line_ends_has_the_size_that_it_is_sent_with(end: str) -> None:
    content = end.join(["Subject: ü", "To: ü", "X: y", "", "ü", "", "ü", ""]).encode()
    assert ascii_size(content, wire_size(content)) == wire_size(surrogate([content]))


@pytest.mark.parametrize(
    "content", [b"X: %s\nY: 1\n\nb\n", MULTIPART.replace(b"x=y", b"x=%s;\n %s")]
)
def test_a_field_without_end_is_not_kept(content: bytes) -> None:
    long = content.replace(b"%s", "ü".encode() * MAX_FIELD)
    whole = surrogate([long])
    assert surrogate(cut(long, [*range(0, len(long), 10_000), len(long) - 8])) == whole
    held = Surrogate()
    for start in range(0, len(long), 10_000):
        held.feed(long[start : start + 10_000])
        assert len(held._held) <= MAX_FIELD
    header, rest = long[: long.index(b"\n\n") + 1], long[long.index(b"\n\n") + 1 :]
    assert wire_size(whole) == wire_size(downgrade_header(header)) + wire_size(rest)
