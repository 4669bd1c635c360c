"""Addresses and paths: the grammar of RFC 5321 and RFC 6531, its limits, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.address import Address, forward_path, normalize_domain, reverse_path

LONG_DOMAIN = ".".join(["d" * 60] * 4)


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("alice@example.org", "alice", "example.org"),
        ("Alice.B+tag@EXAMPLE.org", "Alice.B+tag", "example.org"),
        ('"a b"@example.org', "a b", "example.org"),
        (r'"a\"\\b@c>"@example.org', 'a"\\b@c>', "example.org"),
        ('"plain"@example.org', "plain", "example.org"),
        ('""@example.org', "", "example.org"),
        ("jörg@bücher.example", "jörg", "xn--bcher-kva.example"),
        ("x@BÜCHER。example", "x", "xn--bcher-kva.example"),
        ("x@bu\u0308cher.example", "x", "xn--bcher-kva.example"),
        ("x@XN--bcher-kva.example", "x", "xn--bcher-kva.example"),
        ("x@[127.0.0.1]", "x", "[127.0.0.1]"),
        ("x@[ipv6:2001:DB8:0:0::1]", "x", "[IPv6:2001:db8::1]"),
        ("x@host_1.example", "x", "host_1.example"),
        ("PostMaster", "PostMaster", ""),
        ("l" * 64 + "@example.org", "l" * 64, "example.org"),
    ],
)
def test_parse(text: str, local: str, domain: str) -> None:
    address = Address.parse(text)
    assert (address.local, address.domain) == (local, domain)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "@example.org",
        "alice@",
        ".alice@example.org",
        "alice.@example.org",
        "al..ice@example.org",
        "al ice@example.org",
        "alice@exa mple.org",
        "alice@.example.org",
        "alice@example.org.",
        "alice@example..org",
        "alice@-example.org",
        "alice@example-.org",
        "alice@exam!ple.org",
        "alice@ex＠mple.org",
        "alice@" + "a" * 64 + ".org",
        "alice@" + LONG_DOMAIN + ".a.example.org",
        "alice@" + "ü" * 64 + ".org",
        "alice@" + "ü" * 256,
        "l" * 65 + "@example.org",
        "ü" * 33 + "@example.org",
        '"alice@example.org',
        '"ali"ce@example.org',
        '"alice\\',
        '"\\ü"@example.org',
        "alice@[127.0.0.1",
        "alice@[127.0.0.256]",
        "alice@[IPv6:::1%eth0]",
        "alice@[IPv6:zz]",
        "alice@[tag:content]",
        "alice@[127.0.0.1]x",
        "alice@example.org,bob@example.org",
        "<alice@example.org>",
        "alice@example.org\r\n",
        "al\x00ice@example.org",
        '"al\nice"@example.org',
        "al\x85ice@example.org",
        "al\u2028ice@example.org",
        "al\ud800ice@example.org",
        "alice@example.org\u2029",
    ],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"^[ -~]+$"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("local", "domain"), [("a\r\nb", "example.org"), ("a", "exam\nple"), ("a", "bücher.example")]
)
def test_the_constructor_keeps_control_characters_out(local: str, domain: str) -> None:
    with pytest.raises(ValueError, match=r"control|A-label"):
        Address(local, domain)


def test_key_is_what_spellings_share() -> None:
    assert Address.parse("ALICE@Example.org").key == Address.parse("alice@example.ORG").key
    assert Address.parse("JÖRG@a.example").key == Address.parse("jo\u0308rg@a.example").key
    assert Address.parse("Straße@a.example").key == Address.parse("STRASSE@a.example").key
    assert Address.parse("alice@a.example").key != Address.parse("alice@b.example").key


def test_a_zero_width_joiner_is_no_control_character() -> None:
    assert Address.parse("a\u200db@example.org").local == "a\u200db"


def test_needs_smtputf8_is_about_the_local_part() -> None:
    assert Address.parse("jörg@example.org").needs_smtputf8
    assert not Address.parse("joerg@bücher.example").needs_smtputf8


@pytest.mark.parametrize(
    ("data", "address", "rest", "utf8"),
    [
        (b"<>", None, b"", False),
        (b"<> BODY=8BITMIME", None, b" BODY=8BITMIME", False),
        (b"<a@example.org>", "a@example.org", b"", False),
        (b"<a@example.org> SIZE=1", "a@example.org", b" SIZE=1", False),
        (b"<a@[192.0.2.1]>", "a@[192.0.2.1]", b"", False),
        (b'<"a > b"@example.org> X', '"a > b"@example.org', b" X", False),
        (b"<@a.example,@b.example:c@example.org>", "c@example.org", b"", False),
        ("<jörg@example.org> SMTPUTF8".encode(), "jörg@example.org", b" SMTPUTF8", True),
        ("<x@bücher.example>".encode(), "x@xn--bcher-kva.example", b"", True),
        ("<@ü.example:x@example.org>".encode(), "x@example.org", b"", True),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_reverse_path(
    data: bytes, address: str | None, rest: bytes, utf8: bool, strict: bool
) -> None:
    path = reverse_path(data, strict=strict)
    assert (str(path.address) if path.address else None, path.rest, path.utf8) == (
        address,
        rest,
        utf8,
    )


@pytest.mark.parametrize(
    ("data", "address", "rest"),
    [
        (b" <a@example.org> SIZE=1", "a@example.org", b" SIZE=1"),
        (b"a@example.org", "a@example.org", b""),
        (b" \ta@example.org SIZE=1", "a@example.org", b" SIZE=1"),
        (b' "a b"@example.org', '"a b"@example.org', b""),
        (b" <> SIZE=1", None, b" SIZE=1"),
    ],
)
def test_what_only_leniency_takes(data: bytes, address: str | None, rest: bytes) -> None:
    path = reverse_path(data)
    assert (str(path.address) if path.address else None, path.rest) == (address, rest)
    with pytest.raises(ValueError):
        reverse_path(data, strict=True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"<",
        b"< >",
        b"<a@example.org",
        b"<a@example.org>SIZE=1",
        b"<>SIZE=1",
        b"<a@example.org >",
        b"< a@example.org>",
        b"<<a@example.org>>",
        b"<a@b@example.org>",
        b"<a>",
        b"<.a@example.org>",
        b"<a\x00@example.org>",
        b"<a@example.org\r>",
        b"<a\xff@example.org>",
        b"<@a.example>",
        b"<@a.example:>",
        b"<@a.example,b.example:c@example.org>",
        b"<@a..example:c@example.org>",
        b"<postmaster>",
        b"<" + b"l" * 64 + b"@" + LONG_DOMAIN.encode() + b">",
    ],
)
def test_reverse_path_refuses(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^[ -~]+$"):
        reverse_path(data)


@pytest.mark.parametrize("data", [b"<postmaster>", b"<POSTMASTER> X", b" PostMaster"])
def test_postmaster_needs_no_domain(data: bytes) -> None:
    address = forward_path(data).address
    assert address is not None
    assert (address.key, address.domain) == ("postmaster@", "")


def test_nobody_is_no_recipient() -> None:
    for data in (b"<>", b" <>"):
        with pytest.raises(ValueError, match="empty"):
            forward_path(data)


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_raise_anything_else(data: bytes, strict: bool) -> None:
    for read in (reverse_path, forward_path):
        for text in (
            data,
            b"<" + data + b">",
            b"<a@" + data + b">",
            b'<"' + data + b'"@b.example>',
        ):
            try:
                path = read(text, strict=strict)
            except ValueError:
                continue
            assert path.address is None or Address.parse(str(path.address)) == path.address


@given(st.text(max_size=40), st.sampled_from(["example.org", "bücher.example", "[IPv6:::1]"]))
def test_what_is_written_is_read_back(local: str, domain: str) -> None:
    try:
        address = Address(local, normalize_domain(domain))
    except ValueError:
        return
    if len(local.encode(errors="replace")) <= 64:
        assert Address.parse(str(address)) == address
        path = forward_path(f"<{address}>".encode())
        assert (path.address, path.rest, path.utf8) == (address, b"", address.needs_smtputf8)


@given(st.text(max_size=80))
def test_a_domain_is_written_in_one_way(text: str) -> None:
    try:
        domain = normalize_domain(text)
    except ValueError:
        return
    assert normalize_domain(domain) == domain


@pytest.mark.parametrize(
    "text",
    [
        "x" * 64 + "@" + ".".join(["a" * 62] * 3 + ["b"]),
        # As A-labels it is twice as long.
        "a" * 30 + "@" + ".".join(["\u00fc"] * 30),
        # In its quotes
        '"' + '\\"' * 64 + '"@' + ".".join(["a" * 60] * 2) + ".example",
    ],
)
def test_what_is_too_long_as_it_is_written(text: str) -> None:
    """RFC 5321 section 4.5.3.1.3: as a path it would be refused, by ourselves, too."""
    with pytest.raises(ValueError, match="too long"):
        Address.parse(text)
    with pytest.raises(ValueError, match="too long"):
        forward_path(f"<{text}>".encode())
