"""Chains: RFC 8617 sections 4 and 5. The public suite is run by test_arc_suite."""

from __future__ import annotations

import re
from hashlib import sha256

import pytest
from signed_mail import BODY, HEADER, NOW, Key, ed25519, hash_of, rsa, signed, verified, zone_of

from twisted_mail.message.dkim_header import HeaderFields, relaxed_field, without_signature
from twisted_mail.message.tag_list import base64_value, parse_tags
from twisted_mail.policy.arc_seal import seal
from twisted_mail.policy.dkim_key import PublicKey
from twisted_mail.policy.dkim_sign import complete
from twisted_mail.policy.verdicts import Arc
from twisted_mail.testing.dns import FakeResolver

SECOND = Key("list.example.net", "s2", "rsa-sha256", rsa().private)
ZONE = zone_of(rsa(), ed25519(), SECOND)
RESULTS = "mx.example.org; dkim=pass header.d=example.org;\n spf=none"


def sealed(header, chain=None, key=None, body=BODY, results=RESULTS):
    """The header with one more set, as the next hop would add it."""
    found = chain or verified(header, body, ZONE)[1]
    return seal(header, hash_of(body), results, found, key or rsa(), now=NOW) + header


def chain_of(length, header=HEADER):
    for number in range(length):
        header = sealed(header, key=SECOND if number % 2 else rsa())
    return header


def judged(header, body=BODY, zone=ZONE):
    return verified(header, body, zone)[1]


def fields(header):
    return re.findall(rb"(?m)^(ARC-[^\n]*\n(?:[ \t][^\n]*\n)*)", header)


THREE = chain_of(3)


def test_without_a_chain():
    assert judged(HEADER) == Arc("none")


def test_a_chain_passes():
    found = judged(THREE)
    assert found == Arc(
        "pass",
        3,
        ("example.org", "list.example.net", "example.org"),
        ("mx.example.org; dkim=pass header.d=example.org; spf=none",) * 3,
    )


def test_a_set_stands_on_top_in_its_order_with_its_tags():
    seal_, message, results = fields(sealed(signed()))
    assert results == (
        b"ARC-Authentication-Results: i=1; mx.example.org; dkim=pass\n\theader.d=example.org; spf=none\n"
    )
    tags = parse_tags(seal_.partition(b":")[2])
    assert set(tags) == {"i", "a", "cv", "d", "s", "t", "b"}
    assert (tags["i"], tags["cv"], tags["d"]) == ("1", "none", "example.org")
    tags = parse_tags(message.partition(b":")[2])
    assert "v" not in tags
    names = tags["h"].split(":")
    # RFC 8617 section 4.1.2: all DKIM signatures, nothing of ARC
    assert [name.strip() for name in names].count("dkim-signature") == 2
    assert not re.search("arc-|authentication-results|received", tags["h"])


def test_the_order_of_the_fields_makes_no_difference():
    sets = fields(THREE)
    assert judged(b"".join(sorted(sets)) + HEADER).result == "pass"


def test_later_changes_are_the_later_hops_business():
    """An older message signature may fail: only the newest counts (RFC 8617 section 5.2, step 4)."""
    header = chain_of(1).replace(b"hello", b"[list] hello")
    assert judged(header).result == "fail"
    assert judged(sealed(header, Arc("pass", 1))).result == "pass"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h: h.replace(b"hello", b"other"), "message signature 3: the header"),
        (lambda h: h.replace(b"i=2; mx.", b"i=2; my."), "seal 3: the signature is wrong"),
        (lambda h: h.replace(b"i=3; mx.", b"i=3; my."), "seal 3: the signature is wrong"),
        (lambda h: h.replace(b"cv=none", b"cv=pass"), "seal 1 has a wrong cv="),
        (lambda h: h.replace(b"cv=pass", b"cv=none", 1), "seal 3 has a wrong cv="),
        (lambda h: h.replace(b"cv=pass", b"cv=fail", 1), "the newest seal says"),
        (lambda h: h.replace(b"cv=pass", b"cv=Pass", 1), "seal 3 has a wrong cv="),
        (lambda h: h.replace(b"cv=pass;", b"", 1), "seal 3: the signature has no cv="),
        (lambda h: h.replace(b"cv=pass", b"h=from; cv=pass", 1), "seal 3: a seal with h="),
        (lambda h: h.replace(b"i=3; mx.", b"i=4; mx."), "the instances of the results"),
        (lambda h: h.replace(b"i=3; mx.", b"i=03; mx."), "i= is no instance"),
        (lambda h: h.replace(b"i=3; mx.", b"mx."), "i= is no instance"),
        (lambda h: h.replace(b"Seal: i=3", b"Seal: i=0"), "i= is no instance"),
        (lambda h: h.replace(b"Seal: i=3", b"Seal: i=51"), "i= is no instance"),
        (lambda h: h.replace(b"Seal: i=3", b"Seal: i=2"), "instance 2 is there twice"),
        (lambda h: h.replace(b"ARC-Seal: i=3", b"X: i=3"), "the instances of the seals"),
        (lambda h: h.replace(b"a=rsa-sha256", b"a=rsa-sha1", 1), "seal 3: rsa-sha1"),
        (lambda h: h + fields(h)[0], "instance 3 is there twice"),
        (lambda h: b"".join(fields(h)[3:]) + HEADER, None),
        (lambda h: b"".join(fields(h)[:6]) + HEADER, "the instances of the seals are not 1 to 2"),
        (lambda h: h.replace(b"h=from", b"h=arc-seal:from", 1), "h= names ARC-Seal"),
    ],
)
def test_what_breaks_a_chain(change, reason):
    found = judged(change(THREE))
    if reason is None:
        assert (found.result, found.instances) == ("pass", 2)
    else:
        assert found.result == "fail"
        assert reason in found.reason
        assert (found.sealers, found.results) == ((), ())


def test_every_seal_counts():
    first = re.sub(rb"(ARC-Seal: [^b]*b=)....", rb"\1AAAA", chain_of(1), count=1)
    assert judged(sealed(first, Arc("pass", 1))).reason == "seal 1: the signature is wrong"


def test_a_seal_by_another_kind_of_key():
    key = Key("example.org", "rsa", "ed25519-sha256", rsa().private)
    _, message, results = fields(sealed(HEADER))
    own = HeaderFields(results + message, 9)
    top = complete(
        b"ARC-Seal",
        b"i=1; a=ed25519-sha256; cv=none; d=example.org; s=rsa;".split(),
        key,
        own.relaxed(0) + own.relaxed(1),
    )
    assert judged(top + message + results + HEADER).reason == "seal 1: the key is of another kind"


def test_a_changed_body():
    assert judged(THREE, BODY + b"more\n").reason.startswith("message signature 3: the body")


def test_a_broken_structure_asks_for_no_key():
    resolver = FakeResolver(ZONE)
    verified(THREE.replace(b"cv=none", b"cv=pass"), BODY, resolver)
    assert resolver.questions == []


def test_keys_that_cannot_be_had():
    zone = zone_of(rsa(), SECOND)
    zone.failing.add(SECOND.name)
    assert judged(THREE, zone=zone).result == "temperror"
    found = judged(THREE, zone=zone_of(rsa()))
    assert (found.result, found.reason.partition(":")[0]) == ("fail", "seal 2")


def test_fifty_sets_and_one_more():
    header = chain_of(50)
    assert judged(header)[:2] == ("pass", 50)
    assert sealed(header) == header
    more = header + fields(header)[0] + fields(header)[1] + fields(header)[2]
    assert judged(more).reason == "there are more than 50 sets"


def test_a_broken_chain_is_sealed_as_if_it_were_alone_and_then_never_again():
    """RFC 8617 section 5.1.2."""
    broken = chain_of(2).replace(b"hello", b"other")
    assert judged(broken).result == "fail"
    header = sealed(broken)
    first = fields(header)[0]
    assert b"i=3" in first
    assert b"cv=fail" in first
    own = HeaderFields(b"".join(reversed(fields(header)[:3])), 3)
    signed = own.relaxed(0) + own.relaxed(1) + relaxed_field(without_signature(first))[:-2]
    signature = base64_value(parse_tags(first.partition(b":")[2])["b"])
    assert PublicKey("rsa", rsa().private.public_key()).verifies(signature, sha256(signed).digest())
    found = judged(header)
    assert (found.result, found.reason) == (
        "fail",
        "the newest seal says that the chain has failed",
    )
    assert sealed(header) == header


@pytest.mark.parametrize(
    "chain", [Arc("temperror", 2), Arc("none"), Arc("pass", 1), Arc("pass", 3)]
)
def test_nothing_is_sealed_that_was_not_judged(chain):
    header = chain_of(2)
    assert sealed(header, chain) == header


def test_results_make_no_header_of_their_own():
    header = sealed(HEADER, results="mx.example.org; spf=pass\nBcc: x\r\n\nBody")
    assert len(fields(header)) == 3
    assert header.endswith(HEADER)
    assert b"\nBcc" not in header
    assert judged(header).result == "pass"


def test_results_are_one_line_of_text():
    header = THREE.replace(b"i=3; mx.", "i=3 (a comment) ; \x07mü\x85x.".encode())
    assert judged(header).result == "fail"
    header = sealed(HEADER, results="mx; spf=pass (\x07 é)")
    assert judged(header).results == ("mx; spf=pass ( é)",)
