"""The resolver that asks a server over sockets and the fake say the same of the same zone."""

from __future__ import annotations

import pytest
from dns_waiting import Loop, now
from dns_zone import DIGEST, LONG, make_zone

from twisted_mail.dns.interfaces import Answer, DnsError, Mx, Srv, Tlsa
from twisted_mail.dns.resolver import make_resolver
from twisted_mail.testing.dns import FakeResolver


@pytest.fixture(scope="module", params=["fake", "asked", "asked without trust"])
def ask(request):
    """Calls a method of a resolver; the answer, or the text of the error."""
    if request.param == "fake":
        resolver, wait = FakeResolver(make_zone()), lambda one: now(one)
    else:
        server = request.getfixturevalue("server")
        server.serve(make_zone())
        loop = Loop()
        trust = request.param == "asked"
        resolver = make_resolver(loop, servers=[server.address], trust_ad=trust)
        request.addfinalizer(resolver.close)
        wait = lambda one: loop.wait(one)[0]  # noqa: E731

    def ask(method, *arguments):
        answer = wait(getattr(resolver, method)(*arguments))
        if request.param == "asked without trust":
            assert not answer.secure
        return answer

    ask.trusts = request.param != "asked without trust"
    return ask


def test_mx(ask):
    answer = ask("mx", "EXAMPLE.org.")
    assert answer == Answer("example.org", answer.records, secure=ask.trusts, ttl=200)
    assert set(answer.records) == {Mx(10, "mx.example.org"), Mx(20, "mx2.example.org")}


def test_null_mx(ask):
    assert ask("mx", "nomail.example").records == (Mx(0, ""),)


def test_srv(ask):
    answer = ask("srv", "_imaps._tcp.Example.org")
    assert set(answer.records) == {Srv(0, 1, 993, "mx.example.org"), Srv(10, 0, 65535, "b")}
    assert answer.secure == ask.trusts
    # RFC 2782: the service is not there
    assert ask("srv", "_pop3._tcp.example.org").records == (Srv(0, 0, 0, ""),)


@pytest.mark.parametrize(
    ("family", "addresses"), [(4, {"192.0.2.1", "192.0.2.2"}), (6, {"2001:db8::1"})]
)
def test_addresses(ask, family, addresses):
    answer = ask("addresses", "mx.example.org", family)
    assert set(answer.records) == addresses
    assert answer.secure == ask.trusts


def test_tlsa(ask):
    answer = ask("tlsa", "_25._tcp.mx.example.org")
    assert set(answer.records) == {Tlsa(3, 1, 1, DIGEST), Tlsa(3, 0, 0, b"\x30\x00")}
    assert answer.secure == ask.trusts


def test_a_malformed_tlsa_record_is_seen_beside_the_good_one(ask):
    answer = ask("tlsa", "_25._tcp.odd.example.org")
    assert set(answer.records) == {Tlsa(3, 1, 1, b"\x0f\x0f"), Tlsa(2, 0, 1, DIGEST)}
    assert not answer.secure  # insecure below what is secure


def test_txt_strings_are_joined(ask):
    records = ask("txt", "example.org").records
    assert set(records) == {b"v=spf1 -all", b"onetwo", b'\xff\x00"\\', b""}


def test_more_than_a_datagram_holds_comes_over_tcp(ask):
    assert set(ask("txt", "large.example").records) == {one.encode() for one in LONG}
    assert ask("addresses", "cut.example", 4).records == ("192.0.2.7",)


def test_pointers(ask):
    assert set(ask("pointer", "192.0.2.1").records) == {"mx.example.org", "other.example.org"}
    assert ask("pointer", "2001:db8::1").records == ("mx.example.org",)
    assert ask("pointer", "192.0.2.1").secure == ask.trusts
    assert not ask("pointer", "192.0.2.99").exists


def test_aliases_are_followed(ask):
    for name in ("alias.example", "alias2.example"):
        answer = ask("mx", name)
        assert answer.name == "example.org"
        assert len(answer.records) == 2
        assert not answer.secure  # for the alias is not


def test_an_alias_itself(ask):
    answer = ask("alias", "signed-alias.example.org")
    assert answer.name == "signed-alias.example.org"
    assert answer.records == ("alias.example",)
    assert answer.secure == ask.trusts
    assert not ask("mx", "signed-alias.example.org").secure
    assert ask("alias", "mx.example.org") == Answer("mx.example.org", secure=ask.trusts, ttl=77)


def test_no_such_name_and_no_such_records_are_two_things(ask):
    assert ask("mx", "nothing.example") == Answer("nothing.example", exists=False, ttl=77)
    assert ask("mx", "mx.example.org") == Answer("mx.example.org", secure=ask.trusts, ttl=77)
    assert ask("mx", "nothing.example.org") == Answer(
        "nothing.example.org", exists=False, secure=ask.trusts, ttl=77
    )
    assert ask("mx", "org").exists  # there is something below it


def test_an_alias_to_nothing(ask):
    answer = ask("mx", "alias-to-nothing.example")
    assert (answer.name, answer.exists, answer.records) == ("nothing.example", False, ())
    answer = ask("mx", "alias-to-little.example")
    assert (answer.name, answer.exists, answer.records) == ("mx.example.org", True, ())


def test_wildcards(ask):
    assert ask("mx", "a.b.wild.example").records == (Mx(5, "mx.example.org"),)
    assert ask("mx", "a.b.wild.example").name == "a.b.wild.example"
    assert ask("addresses", "a.wild.example", 4) == Answer("a.wild.example", ttl=77)
    assert ask("mx", "tame.wild.example").records == ()
    assert not ask("mx", "below.tame.wild.example").exists


@pytest.mark.parametrize("name", ["round.example", "self.example", "step0.example"])
def test_aliases_in_a_circle(ask, name):
    with pytest.raises(DnsError, match=rf"A of {name}: .*aliases \(CNAME\)"):
        ask("addresses", name, 4)


def test_servfail(ask):
    for name in ("broken.example", "alias-to-broken.example"):
        with pytest.raises(DnsError, match=f"MX of {name}: .* says SERVFAIL"):
            ask("mx", name)
    with pytest.raises(DnsError, match="MX of half.example"):  # noqa: RUF043
        ask("mx", "half.example")
    assert ask("addresses", "half.example", 4).records == ("192.0.2.9",)


@pytest.mark.parametrize("name", ["x" * 64, "a..b", ".".join(["x" * 60] * 5)])
def test_a_name_that_cannot_be_is_nobodys(ask, name):
    assert not ask("mx", name).exists
