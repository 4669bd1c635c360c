"""What only the fake has: its questions, answers that come later, a zone that changes. The rest is in the agreement."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest
from dns_waiting import Waiting, now
from dns_zone import make_zone
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from twisted_mail.dns.interfaces import DnsError, Mx, Resolver
from twisted_mail.testing.dns import FakeResolver, Zone


def test_it_is_a_resolver():
    resolver: Resolver = FakeResolver({"example.org": {"MX": [(10, "mx.example.org")]}})
    assert now(resolver.mx("example.org")).records == (Mx(10, "mx.example.org"),)


def test_an_empty_one_knows_nothing():
    assert not now(FakeResolver().mx("example.org")).exists


def test_what_was_asked():
    resolver = FakeResolver()
    now(resolver.mx("Example.org."))
    now(resolver.addresses("example.org", 6))
    now(resolver.pointer("192.0.2.1"))
    assert resolver.questions == [
        ("MX", "example.org"),
        ("AAAA", "example.org"),
        ("PTR", "1.2.0.192.in-addr.arpa"),
    ]


def test_the_zone_changes_while_it_is_used():
    resolver = FakeResolver({"Example.org": {"A": ["192.0.2.1"]}})
    zone = resolver.zone
    zone["example.org"]["A"].append("192.0.2.2")
    assert now(resolver.addresses("example.org", 4)).records == ("192.0.2.1", "192.0.2.2")
    assert not now(resolver.addresses("a.b.example.org", 4)).exists
    zone["A.B.example.org."] = {"A": ["192.0.2.3"]}
    assert now(resolver.addresses("b.example.org", 4)).exists
    assert now(resolver.addresses("a.b.example.org", 4)).records == ("192.0.2.3",)
    zone.failing.add("A a.b.example.org")
    with pytest.raises(DnsError):
        now(resolver.addresses("a.b.example.org", 4))
    del zone["a.b.example.org"]
    assert not now(resolver.addresses("b.example.org", 4)).exists
    zone.secure.add("")
    assert now(resolver.addresses("example.org", 4)).secure
    zone.clear()
    assert not now(resolver.addresses("example.org", 4)).exists


def test_a_kind_that_there_is_not():
    with pytest.raises(ValueError, match=r"example\.org: MXX is none of A, AAAA,"):
        Zone({"example.org": {"MXX": []}})


def test_what_is_given_is_not_changed():
    records = {"example.org": {"A": ["192.0.2.1"]}}
    Zone(records)["example.org"]["A"].append("192.0.2.2")
    assert records == {"example.org": {"A": ["192.0.2.1"]}}


def test_silence_ends_when_it_is_cancelled():
    resolver = FakeResolver(Zone({"alias": {"CNAME": ["dead"]}}, silent=["MX dead"]))
    for name in ("dead", "alias"):
        waiting = Waiting(resolver.mx(name))
        assert waiting.outcomes == []
        waiting.deferred.cancel()
        with pytest.raises(CancelledError):
            waiting.result()
    assert not now(resolver.txt("dead")).exists


def test_later():
    clock = Clock()
    resolver = FakeResolver({"a": {"A": ["192.0.2.1"]}}, clock=clock, delay=2, late={"b": 5})
    a, b = Waiting(resolver.addresses("a", 4)), Waiting(resolver.addresses("B", 4))
    resolver.zone["b"] = {"A": ["192.0.2.2"]}
    clock.advance(1.5)
    assert a.outcomes == []
    clock.advance(0.5)
    assert a.result().records == ("192.0.2.1",)
    clock.advance(2)
    assert b.outcomes == []
    clock.advance(1)
    assert b.result().records == ("192.0.2.2",)
    c = Waiting(resolver.addresses("c", 4))
    c.deferred.cancel()
    assert clock.getDelayedCalls() == []
    with pytest.raises(CancelledError):
        c.result()


def test_later_needs_a_clock():
    with pytest.raises(ValueError, match="needs a clock"):
        FakeResolver({}, delay=1)


def test_a_zone_from_a_file_that_somebody_wrote():
    zone = Zone.from_text(
        dedent("""
        $ORIGIN example.org.
        @ 3600 IN MX 10 mx ; the first
        @ IN MX 20 mx.example.net.
        @ IN TXT ( "v=spf1 "
            "mx \\"-all" )
        mx IN AAAA 2001:DB8::1
        mx IN A 192.0.2.1
        _25._tcp.mx IN TLSA 3 1 0 0f0f
        _imaps._tcp IN SRV 0 1 993 mx
        _pop3._tcp SRV 0 0 0 .
        www IN CNAME mx
        1.2.0.192.in-addr.arpa. IN PTR mx
        """)
    )
    assert zone.data == {
        "example.org": {
            "MX": [(10, "mx.example.org"), (20, "mx.example.net")],
            "TXT": [[b"v=spf1 ", b'mx "-all']],
        },
        "mx.example.org": {"AAAA": ["2001:db8::1"], "A": ["192.0.2.1"]},
        "_25._tcp.mx.example.org": {"TLSA": [(3, 1, 0, b"\x0f\x0f")]},
        "_imaps._tcp.example.org": {"SRV": [(0, 1, 993, "mx.example.org")]},
        "_pop3._tcp.example.org": {"SRV": [(0, 0, 0, "")]},
        "www.example.org": {"CNAME": ["mx.example.org"]},
        "1.2.0.192.in-addr.arpa": {"PTR": ["mx.example.org"]},
    }
    for text in ("example.org. IN MX mx", "x IN HINFO a b", "(", 'x TXT "'):
        with pytest.raises(ValueError):
            Zone.from_text(text)


def test_a_zone_as_json_and_back():
    zone = make_zone()
    again = Zone.from_json(json.loads(json.dumps(zone.to_json())))
    assert again.to_json() == zone.to_json()
    for name, kinds in zone.items():
        for kind in kinds:
            method = {"A": "alias", "AAAA": "alias", "CNAME": "alias", "PTR": "alias"}
            ask = method.get(kind, kind.lower())
            answers = []
            for one in (zone, again):
                try:
                    answers.append(now(getattr(FakeResolver(one), ask)(name)))
                except DnsError as error:
                    answers.append(str(error))
            assert answers[0] == answers[1]
