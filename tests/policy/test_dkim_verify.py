"""Verifying: what each tag demands, what never passes, what is waited for, and what a hostile message costs."""

from __future__ import annotations

import re
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signed_mail import (
    BODY,
    HEADER,
    NOW,
    Key,
    done,
    ed25519,
    hash_of,
    rsa,
    signed,
    verified,
    zone_of,
)
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from twisted_mail.message.dkim_header import HeaderFields
from twisted_mail.policy.dkim_key import Keys
from twisted_mail.policy.dkim_sign import complete
from twisted_mail.policy.dkim_verify import Limits, Verification
from twisted_mail.testing.dns import FakeResolver

ZONE = zone_of(rsa(), ed25519())


def made(tags="", *, h="from:to:subject", body=BODY, key=None, bh=None, header=HEADER, **replaced):
    """A header with one signature whose tags are these: rightly signed, whatever they say."""
    key = key or rsa()
    values = {
        "v": "1",
        "a": key.algorithm,
        "c": "relaxed/relaxed",
        "d": key.domain,
        "s": key.selector,
        "h": h,
        "bh": bh or b64encode(hash_of(body)).decode(),
    } | replaced
    words = [f"{name}={value};".encode() for name, value in values.items() if value is not None]
    names = [name.strip().encode() for name in (h or "").lower().split(":")]
    text = HeaderFields(header, 100).signed(names, relaxed=True)
    return complete(b"DKIM-Signature", words + tags.encode().split(), key, text) + header


def one(header, body=BODY, zone=ZONE, **more):
    (found,), _ = verified(header, body, zone, **more)
    return found


def test_it_passes():
    found = one(made())
    start = made().partition(b"b=")[2]
    assert (found.result, found.domain, found.selector, found.identity) == (
        "pass",
        "example.org",
        "rsa",
        "@example.org",
    )
    assert (found.algorithm, found.bits, found.testing, found.reason) == (
        "rsa-sha256",
        2048,
        False,
        "",
    )
    assert start  # of b=
    assert re.fullmatch(r"[A-Za-z0-9+/]{8}", found.start)


@pytest.mark.parametrize(
    ("more", "result", "reason"),
    [
        ({"v": None}, "neutral", "no v="),
        ({"v": "2"}, "neutral", "v= is not 1"),
        ({"a": None}, "neutral", "no a="),
        ({"a": "rsa-sha1"}, "policy", "rsa-sha1"),
        ({"a": "rsa-sha512"}, "neutral", "algorithm is not known"),
        ({"a": "ed25519-sha256"}, "permerror", "another kind"),
        ({"c": "nofws"}, "neutral", "canonicalization"),
        ({"c": "relaxed/nofws"}, "neutral", "canonicalization"),
        ({"d": None}, "neutral", "no d="),
        ({"d": "org"}, "neutral", "d= is no domain name"),
        ({"d": "a..org"}, "neutral", "d= is no domain name"),
        ({"d": "[192.0.2.1]"}, "neutral", "d= is no domain name"),
        ({"d": "a." * 100 + "org", "s": "b." * 50 + "c"}, "neutral", "too long together"),
        ({"s": None}, "neutral", "no s="),
        ({"s": "a b"}, "neutral", "s= is no domain name"),
        ({"s": "other"}, "permerror", "no key at other._domainkey.example.org"),
        ({"h": None}, "neutral", "no h="),
        ({"h": "to:subject"}, "permerror", "From is not signed"),
        ({"h": "from:a b"}, "neutral", "no name of a field"),
        ({"bh": "!"}, "neutral", "bh= is no base64"),
        ({"bh": "QUJD"}, "fail", "the body is not"),
        ({"i": "@example.com"}, "permerror", "not of the domain"),
        ({"i": "@notexample.org"}, "permerror", "not of the domain"),
        ({"i": "alice"}, "permerror", "not of the domain"),
        ({"q": "dns/other"}, "neutral", "not in the DNS"),
        ({"t": "soon"}, "neutral", "t= is no number"),
        ({"x": ""}, "neutral", "x= is no number"),
        ({"t": "100", "x": "100"}, "neutral", "x= is not after t="),
        ({"x": str(NOW - 301)}, "fail", "expired"),
        ({"h": "from:" + ":".join(["a"] * 600)}, "policy", "more than 512 fields"),
        ({"n": "x" * 20_000}, "policy", "more than 16384 octets"),
    ],
)
def test_what_does_not_pass(more, result, reason):
    found = one(made(**more))
    assert (found.result, reason in found.reason) == (result, True), found


@pytest.mark.parametrize(
    ("more", "identity"),
    [
        ({"i": "alice@example.org"}, "alice@example.org"),
        ({"i": "@mail.Example.ORG"}, "@mail.example.org"),
        ({"q": "x/y:dns/txt"}, "@example.org"),
        ({"x": str(NOW - 299)}, "@example.org"),
        ({"t": str(NOW + 10**6)}, "@example.org"),
        ({"z": "From:x|To:y"}, "@example.org"),
        ({"h": "FROM : to:Nothing:from"}, "@example.org"),
    ],
)
def test_what_passes(more, identity):
    found = one(made(**more))
    assert (found.result, found.identity) == ("pass", identity)


@pytest.mark.parametrize("canonical", ["simple", "simple/simple", "relaxed", "relaxed/simple"])
def test_the_body_may_be_simple(canonical):
    from twisted_mail.message.dkim_body import BodyHash

    body = BodyHash(relaxed=False)
    body.update(BODY)
    bh = b64encode(body.digest()).decode()
    if canonical.startswith("relaxed"):
        assert one(made(c=canonical, bh=bh)).result == "pass"
    verification = Verification(
        made(c=canonical, bh=bh), Keys(FakeResolver(ZONE), lambda: NOW), now=NOW
    )
    assert verification.body_hashes == {"simple"}


def test_a_signature_is_not_one_of_those_that_it_signs():
    h = "from:dkim-signature:dkim-signature"
    first = made()
    header = made(h=h, header=first)
    assert [found.result for found in verified(header, BODY, ZONE)[0]] == ["pass", "pass"]
    below = first[: -len(HEADER)] + made(h=h)
    assert [found.result for found in verified(below, BODY, ZONE)[0]] == ["pass", "fail"]


# -- l=

LENGTH = len(b"Hello Bob,\r\n\r\nthis is it.\r\n")


def test_all_of_the_body_by_its_length():
    assert one(made(l=str(LENGTH))).result == "pass"


def test_a_part_of_the_body_never_passes():
    header = made(l=str(LENGTH))
    found = one(header, BODY + b"Buy this!\n")
    assert (found.result, found.reason) == (
        "policy",
        "only 27 of 42 octets of the body are signed",
    )
    assert one(header.replace(b"hello", b"other"), BODY + b"Buy this!\n").result == "fail"


def test_more_than_the_body_has():
    assert one(made(l=str(LENGTH + 1))).reason == "l= is more than the body has"
    assert one(made(l="1" * 21)).result == "neutral"


# -- keys


def with_record(change):
    zone = zone_of(rsa())
    records = zone[rsa().name]
    records["TXT"] = [change(records["TXT"][0])]
    return zone


def test_a_key_under_test_is_said_to_be():
    found = one(made(), zone=with_record(lambda text: text + "; t=y"))
    assert (found.result, found.testing) == ("pass", True)


def test_a_strict_key():
    zone = with_record(lambda text: text + "; t=s")
    assert one(made(), zone=zone).result == "pass"
    assert one(made(i="a@mail.example.org"), zone=zone).result == "permerror"


def test_a_revoked_key():
    found = one(made(), zone=with_record(lambda text: "v=DKIM1; p="))
    assert (found.result, found.reason) == ("permerror", "the key has been revoked")


def test_another_key():
    zone = zone_of(rsa(selector="other"))
    zone[rsa().name] = zone["other._domainkey.example.org"]
    assert one(made(), zone=zone).reason == "the header is not what was signed"


def test_nobody_answers():
    zone = zone_of(rsa())
    zone.failing.add(rsa().name)
    found = one(made(), zone=zone)
    assert (found.result, found.domain, found.bits) == ("temperror", "example.org", 0)


def test_a_domain_in_unicode():
    key = Key("xn--bcher-kva.example", "rsa", "rsa-sha256", rsa().private)
    found = one(made(key=key, d="bücher.example"), zone=zone_of(key))
    assert (found.result, found.domain) == ("pass", "xn--bcher-kva.example")


# -- waiting


class Waiting:
    def __init__(self, header, **more):
        self.clock = Clock()
        self.resolver = FakeResolver(ZONE, clock=self.clock, **more)
        self.verification = Verification(header, Keys(self.resolver, self.clock.seconds), now=NOW)
        self.verification.update(BODY)
        self.out = []

    def begin(self):
        self.deferred = Deferred.fromCoroutine(self.verification.results())
        self.deferred.addBoth(self.out.append)


def test_keys_are_asked_for_side_by_side_while_the_body_comes():
    waiting = Waiting(signed(), delay=2)
    waiting.verification.fetch()
    assert waiting.resolver.questions == [("TXT", ed25519().name), ("TXT", rsa().name)]
    waiting.clock.advance(1)
    waiting.begin()
    assert not waiting.out
    waiting.clock.advance(1)
    assert [found.result for found in waiting.out[0][0]] == ["pass", "pass"]


def test_a_key_is_asked_for_once():
    header = made() + made(tags="n=x;")[: -len(HEADER)] + HEADER
    waiting = Waiting(header)
    waiting.begin()
    assert waiting.resolver.questions == [("TXT", rsa().name)]


def test_who_waits_no_longer_gets_what_has_come():
    waiting = Waiting(signed(), delay=1, late={rsa().name: 100})
    waiting.begin()
    waiting.clock.advance(1)
    waiting.verification.cancel()
    assert [found.result for found in waiting.out[0][0]] == ["temperror", "pass"]
    assert not waiting.clock.getDelayedCalls()


def test_cancelled():
    waiting = Waiting(signed(), delay=5)
    waiting.begin()
    waiting.deferred.cancel()
    assert isinstance(waiting.out[0].value, CancelledError)
    assert not waiting.clock.getDelayedCalls()


def test_a_resolver_that_breaks_is_a_temporary_error():
    class Broken:
        async def txt(self, name):
            raise RuntimeError("a mistake")

    verification = Verification(signed(), Keys(Broken(), lambda: NOW), now=NOW)
    found, _ = done(verification.results())
    assert [each.result for each in found] == ["temperror"] * 2


def test_nothing_is_hashed_and_asked_when_nothing_is_signed():
    verification = Verification(HEADER, Keys(FakeResolver(ZONE), lambda: NOW), now=NOW)
    assert (verification.body_hashes, verification.key_names) == (frozenset(), frozenset())
    found, arc = done(verification.results())
    assert (found, arc.result) == ((), "none")


# -- hostile


def test_a_hundred_signatures():
    header = b"".join(made(tags=f"n={n};")[: -len(HEADER)] for n in range(100)) + HEADER
    resolver = FakeResolver(ZONE)
    found, _ = verified(header, BODY, resolver)
    assert [each.result for each in found] == ["pass"] * 8 + ["neutral"]
    assert found[-1].reason == "92 more signatures were not looked at"
    found, _ = verified(header, BODY, ZONE, limits=Limits(signatures=2))
    assert len(found) == 3


def test_a_hundred_names_are_eight_questions():
    header = b"".join(made(s=f"s{n}")[: -len(HEADER)] for n in range(100)) + HEADER
    resolver = FakeResolver(ZONE)
    verified(header, BODY, resolver)
    assert len(resolver.questions) == 8


FLOOD = 128 * 1024


@pytest.mark.parametrize(
    "flood",
    [
        b"a:\n" * (FLOOD // 3),
        b"From: x\n" * (FLOOD // 8),
        b"DKIM-Signature: v=1\n" * (FLOOD // 20),
        b"DKIM-Signature:" + b" ;" * (FLOOD // 2) + b"\n",
        b"DKIM-Signature:" + b"\n " * (FLOOD // 2) + b"\n",
        b"ARC-Seal: i=1; cv=none\n" * (FLOOD // 23),
        b"ARC-Seal: i=" + b" " * FLOOD + b"\n",
        b"ARC-Authentication-Results: " + b"(" * FLOOD + b"\n",
        b"Subject: " + b" \t" * (FLOOD // 2) + b"x\n",
    ],
)
def test_floods(flood):
    found, arc = verified(flood + made(), BODY, ZONE)
    assert len(found) <= 9
    assert all(each.result != "pass" for each in found) or len(found) <= 2
    assert arc.result in ("none", "fail")


def test_a_header_of_too_many_fields_says_so():
    found, arc = verified(made() + b"a: b\n" * 3000, BODY, ZONE)
    assert [each[0] for each in found] == ["neutral"]
    assert found[0].reason == arc.reason == "the header has more than 2000 fields"
    assert arc.result == "fail"
    found, arc = verified(b"a: b\n" * 3000, BODY, ZONE)
    assert (found, arc.result) == ((), "none")


TAGS = st.lists(
    st.tuples(
        st.sampled_from(["v", "a", "b", "bh", "c", "d", "h", "i", "l", "q", "s", "t", "x", "cv"]),
        st.sampled_from(
            [
                "1",
                "0",
                "",
                "rsa-sha256",
                "ed25519-sha256",
                "relaxed/simple",
                "example.org",
                "rsa",
                "ed",
            ]
        )
        | st.text(max_size=8)
        | st.just("from:to"),
    ),
    max_size=12,
)
FIELD = st.sampled_from(
    ["DKIM-Signature", "ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results", "From"]
)


@given(
    st.lists(st.tuples(FIELD, TAGS | st.binary(max_size=40)), max_size=5), st.binary(max_size=50)
)
def test_no_bytes_make_it_raise(fields, body):
    header = b""
    for name, value in fields:
        if isinstance(value, list):
            value = "; ".join(f"{tag}={text}" for tag, text in value).encode(errors="replace")
        header += name.encode() + b": " + value.replace(b"\n", b"\n ") + b"\n"
    found, arc = verified(header, body, ZONE)
    for each in found:
        assert each.result in ("fail", "policy", "neutral", "permerror")
        assert each.reason.isprintable()
    assert arc.result in ("none", "fail")
    assert arc.reason.isprintable()


@given(st.binary(max_size=300))
def test_no_header_makes_it_raise(header):
    verified(header, b"", ZONE)
