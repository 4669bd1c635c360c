"""dkimpy verifies what we sign and signs what we verify: an opinion of its own on every canonical form."""

from __future__ import annotations

import dkim
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from signed_mail import BODY, HEADER, NOW, ed25519, hash_of, rsa, signed, verified, zone_of

from twisted_mail.policy.arc_seal import seal

ZONE = zone_of(rsa(), ed25519())
PEM = rsa().private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def records(name, timeout=5):
    return ZONE[name.decode()]["TXT"][0].encode()


def wire(header, body):
    return (header + b"\n" + body).replace(b"\n", b"\r\n")


LINE = st.text(alphabet="ab: ;=\t\u00e9", max_size=16)
FIELDS = st.lists(
    st.tuples(
        st.sampled_from(["From", "To", "SUBJECT", "X-Any", "date", "Received", "To"]),
        LINE.map(lambda text: " x" + text),
        # dkimpy takes a line of white space for the end of the header
        st.lists(LINE.map(lambda text: text + "y"), max_size=2),
    ),
    max_size=7,
).map(
    lambda fields: "".join(
        f"{name}:{value}" + "".join("\n\t" + line for line in more) + "\n"
        for name, value, more in [("From", " a@example.org", []), *fields]
    ).encode()
)
# what comes over SMTP ends with a line end
BODIES = st.text(alphabet="ab \t\n\u00e9", max_size=40).map(
    lambda text: (text + "\n").encode()
) | st.sampled_from([b"", b"\n", b"\n\n", b"a\n\n \n", b" \n", b"a\n\n\n"])


@settings(max_examples=60)
@given(FIELDS, BODIES)
def test_dkimpy_verifies_ours(header, body):
    found = dkim.DKIM(wire(signed(header, body), body))
    assert found.verify(0, dnsfunc=records)
    assert found.verify(1, dnsfunc=records)


@settings(max_examples=60)
@given(
    FIELDS,
    BODIES,
    st.sampled_from([b"simple", b"relaxed"]),
    st.sampled_from([b"simple", b"relaxed"]),
    st.sampled_from([None, [b"from", b"to", b"to", b"to", b"x-nothing", b"subject", b"from"]]),
)
def test_we_verify_dkimpys(header, body, first, second, names):
    field = dkim.sign(
        wire(header, body),
        b"rsa",
        b"example.org",
        PEM,
        canonicalize=(first, second),
        include_headers=names,
    )
    (found,), _ = verified(field.replace(b"\r\n", b"\n") + header, body, ZONE)
    assert (found.result, found.reason) == ("pass", "")


def test_dkimpy_sees_what_we_see():
    for header, body in (
        (signed().replace(b"hello", b"other"), BODY),
        (signed(), BODY + b"more\n"),
        (b"Subject: added\n" + signed(), BODY),
    ):
        assert not dkim.verify(wire(header, body), dnsfunc=records)
        assert [found.result for found in verified(header, body, ZONE)[0]] == ["fail", "fail"]


def test_dkimpy_validates_our_chains():
    header = signed()
    for _ in range(3):
        _, chain = verified(header, BODY, ZONE)
        header = (
            seal(header, hash_of(BODY), "mx.example.org; spf=none", chain, rsa(), now=NOW) + header
        )
        cv, found, _ = dkim.arc_verify(wire(header, BODY), dnsfunc=records)
        assert cv == b"pass"
    assert len(found) == 3


def test_we_validate_dkimpys_chain():
    header = b"Authentication-Results: mx.example.org; spf=none\n" + HEADER
    fields = dkim.arc_sign(wire(header, BODY), b"rsa", b"example.org", PEM, b"mx.example.org")
    header = b"".join(fields).replace(b"\r\n", b"\n") + header
    _, found = verified(header, BODY, ZONE)
    assert (found.result, found.instances, found.sealers) == ("pass", 1, ("example.org",))
    assert found.results[0].startswith("mx.example.org; spf=none")
    header = seal(header, hash_of(BODY), "mx; arc=pass", found, rsa(), now=NOW) + header
    assert dkim.arc_verify(wire(header, BODY), dnsfunc=records)[0] == b"pass"
