"""Authentication-Results: what is written is read back, by us and by others; nothing that is read does harm."""

import authres
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message.authres import (
    AuthenticationResults,
    Result,
    claimed,
    claims,
    field,
    names_of,
    read,
    without_claimed,
)

OURS = names_of(["mx.example.org", "b\u00fccher.example"])


def test_written() -> None:
    out = field(
        "mx.example.org",
        [
            Result("spf", "pass", (("smtp.mailfrom", "alice@example.org"),)),
            Result(
                "dkim",
                "fail",
                (("header.d", "example.org"), ("header.b", "ab/c+d=")),
                "bad signature",
                "1024-bit key",
            ),
        ],
    )
    assert out == (
        b"Authentication-Results: mx.example.org;\n"
        b"\tspf=pass smtp.mailfrom=alice@example.org;\n"
        b'\tdkim=fail (1024-bit key) reason="bad signature" header.d=example.org'
        b' header.b="ab/c+d="\n'
    )


def test_nothing_to_say() -> None:
    assert field("mx.example.org", []) == b"Authentication-Results: mx.example.org;\n\tnone\n"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("alice@example.org", b"alice@example.org"),
        ("a b@example.org", b'"a b@example.org"'),
        ('a"b\\@example.org', b'"a\\"b\\\\@example.org"'),
        ("@example.org", b"@example.org"),
        ("\u00e4@example.org", b"@example.org"),
        ("x\r\nBcc: y@example.org", b'"x??Bcc: y@example.org"'),
        ("x;spf=pass", b'"x;spf=pass"'),
        ("", b'""'),
        ("a(b", b'"a(b"'),
        ("[192.0.2.1]", b'"[192.0.2.1]"'),
        ("x" * 150, b"x" * 150),
    ],
)
def test_values_of_a_peer_stay_values(value: str, written: bytes) -> None:
    out = field("mx", [Result("spf", "pass", (("smtp.mailfrom", value),))])
    assert out == b"Authentication-Results: mx;\n\tspf=pass smtp.mailfrom=" + written + b"\n"


def test_utf8_where_it_may_stay() -> None:
    result = Result("spf", "pass", (("smtp.mailfrom", "\u00e4@example.org"),), "\u2028\x00\u00fc")
    assert "\u00e4@example.org" in field("mx", [result], utf8=True).decode()
    assert 'reason="??\u00fc"' in field("mx", [result], utf8=True).decode()


def test_long_results_are_folded() -> None:
    result = Result("x", "pass", tuple((f"policy.p{n}", "y" * 300) for n in range(9)), "z" * 900)
    lines = field("mx", [result]).split(b"\n")
    assert len(lines) == 13 and max(map(len, lines)) < 350


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        (b" mx.example.org; none", AuthenticationResults("mx.example.org")),
        (b"mx.example.org 1; none\n", AuthenticationResults("mx.example.org")),
        (b"(a (b) \\) c) mx (d) 2", AuthenticationResults("mx", 2)),
        (
            b'"mx.example.org";\n\tdkim/1 (x;y) = (z) Pass reason="good; (really)" header . I = @x',
            AuthenticationResults(
                "mx.example.org",
                1,
                (Result("dkim", "pass", (("header.i", "@x"),), "good; (really)"),),
            ),
        ),
        (
            # as Microsoft writes it: no authserv-id
            b"spf=pass (sender IP is 192.0.2.1)\n smtp.mailfrom=x.example; dmarc=pass action=none\n"
            b" header.from=x.example;compauth=pass reason=100",
            AuthenticationResults(
                "",
                1,
                (
                    Result("spf", "pass", (("smtp.mailfrom", "x.example"),)),
                    Result("dmarc", "pass", (("action", "none"), ("header.from", "x.example"))),
                    Result("compauth", "pass", (), "100"),
                ),
            ),
        ),
        (
            # a payload of ARC; header.b with what no token has
            b"mx.google.com; arc=pass (i=1 spf=pass dkim=pass); broken; dkim=; =x;"
            b" dkim=pass header.i=@x.example header.b=Ab/c+=; spf=pass"
            b' smtp.mailfrom="a b"@x.example; dmarc=pass (p=NONE sp=NONE) header.from=x.example',
            AuthenticationResults(
                "mx.google.com",
                1,
                (
                    Result("arc", "pass"),
                    Result("dkim", "pass", (("header.i", "@x.example"), ("header.b", "Ab/c+="))),
                    Result("spf", "pass", (("smtp.mailfrom", "a b@x.example"),)),
                    Result("dmarc", "pass", (("header.from", "x.example"),)),
                ),
            ),
        ),
        (b"", None),
        (b" \n (comment", None),
        (b";;;", None),
    ],
)
def test_read(value: bytes, parsed: AuthenticationResults | None) -> None:
    assert read(value) == parsed


def test_a_semicolon_in_a_comment_or_a_quoted_string_ends_nothing() -> None:
    found = read(b'mx; x=pass (; y=pass) policy.z="; y=pass"; spf=fail')
    assert found is not None and [one.method for one in found.results] == ["x", "spf"]


@pytest.mark.parametrize(
    "value",
    [
        b"mx.example.org; none",
        b" MX.Example.ORG. 1; none",
        b"(mine) mx.example.org; none",
        b"(a(b\\)))\n\tmx.example.org; x",
        b'"mx.example.org"; none',
        b'"mx.exa\\mple.org"; none',
        b"mx.example.org/1; none",
        b"mx.example.org",
        b"mx.exam\0ple.org; none",
        b"(never ends mx.example.org; dkim=pass",
        b"mx.example.org=x; dkim=pass",
        b'"mx.example.org; dkim=pass',
        b"xn--bcher-kva.example; none",
        "B\u00dcCHER.example; none".encode(),
    ],
)
def test_claims_our_name(value: bytes) -> None:
    assert claims(value, OURS)


@pytest.mark.parametrize(
    "value",
    [
        b"mx.example.net; dkim=pass header.d=mx.example.org",
        b"(mx.example.org) other; none",
        b"spf=pass smtp.mailfrom=x.example",
        b"example.org; none",
        b"",
    ],
)
def test_claims_another_name(value: bytes) -> None:
    assert not claims(value, OURS)


def test_fields_with_our_name_go() -> None:
    header = (
        b"Received: x\nAuthentication-Results: other; none\n"
        b"authentication-RESULTS : (x)\n mx.example.org;\n dkim=pass\n"
        b"Subject: Authentication-Results: mx.example.org\n"
        b"Authentication-Results:mx.example.org;none\n"
    )
    assert without_claimed(header, OURS) == (
        b"Received: x\nAuthentication-Results: other; none\n"
        b"Subject: Authentication-Results: mx.example.org\n"
    )
    assert len(claimed(header, OURS)) == 2
    assert without_claimed(b"Subject: x\n", OURS) == b"Subject: x\n"


def test_a_flood_of_fields() -> None:
    header = b"".join(b"Authentication-Results: n%d; none\n" % n for n in range(3000))
    assert without_claimed(header, OURS).count(b"\n") == 100
    found = read(b"mx; x=pass" + b" a.b=c" * 9000 + b"; y=fail")
    assert found is not None
    assert [(one.method, len(one.properties)) for one in found.results] == [("x", 100), ("y", 0)]


@given(st.binary(max_size=400) | st.from_regex(rb"mx;( [a-z]=[\"(a-z);\\.]{0,30};?){0,8}"))
def test_nothing_makes_it_raise(value: bytes) -> None:
    read(value)
    claims(value, OURS)
    assert b"\n" not in field("mx", [Result("a", "b", (("c.d", value.decode("latin-1")),))])[29:-1]


@pytest.mark.parametrize(
    "sign", [b"(", b'"', b";", b"\\", b"(;", b'";', b"a=b;", b"x ", b"=", b")"]
)
def test_large_fields_are_read_once(sign: bytes) -> None:
    found = read(b"mx; " + sign * 500_000)
    assert found is None or len(found.results) <= 100


word = st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9]", fullmatch=True)
written = st.builds(
    Result,
    st.sampled_from(("spf", "dkim", "dmarc", "arc")),
    st.sampled_from(("pass", "fail", "none", "temperror")),
    st.lists(
        st.tuples(
            st.builds("{}.{}".format, st.sampled_from(("smtp", "header", "policy")), word),
            st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60),
        ),
        max_size=4,
    ).map(tuple),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
    st.just(""),
    st.just(1),
)


@given(word, st.lists(written, min_size=1, max_size=4))
def test_what_is_written_is_read(name: str, results: list[Result]) -> None:
    out = field(name, results)
    assert out.isascii() and out.count(b"\nA") == 0
    assert read(out.partition(b":")[2]) == AuthenticationResults(name, 1, tuple(results))


@given(word, st.lists(written, min_size=1, max_size=4))
def test_the_authres_library_reads_it_too(name: str, results: list[Result]) -> None:
    out = field(name, results).decode().replace("\n", "\r\n").strip()
    theirs = authres.AuthenticationResultsHeader.parse(out)
    assert theirs.authserv_id == name
    assert [(one.method, one.result) for one in theirs.results] == [
        (one.method, one.result) for one in results
    ]


def test_names_are_ascii_too() -> None:
    """As `read` gives them, of a field that somebody else has written."""
    found = read(b" mx.example.org; dk\xe4m=fa\xefl head\x9dr.b=c")
    assert found is not None
    assert field(found.authserv_id, found.results).isascii()
