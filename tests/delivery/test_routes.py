"""The route table: which destination, by what name, and what is not taken for one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.address import Address
from twisted_mail.config.via import parse_pattern, parse_via
from twisted_mail.delivery.routes import (
    Patterns,
    Routes,
    any_tls,
    make_route,
    make_routes,
    split_hop,
)


def to(domain):
    return Address("bob", domain)


def table(*pairs):
    return Routes(make_route(domain, via) for domain, via in pairs)


# -- which route


TABLE = table(
    ("*", "smtp://smarthost.example:587"),
    ("*.partner.example", "smtp://partner.example"),
    ("*.deep.partner.example", "lmtp:/run/deep"),
    ("partner.example", "mx"),
    ("gone.example", "fail: they have moved"),
    ("[192.0.2.1]", "smtps://192.0.2.9"),
    ("gone.example", "smtp://never.example"),
)


@pytest.mark.parametrize(
    ("domain", "hop"),
    [
        ("elsewhere.example", "smtp://smarthost.example:587"),
        ("example", "smtp://smarthost.example:587"),
        ("partner.example", "partner.example"),
        ("a.partner.example", "smtp://partner.example"),
        ("a.b.partner.example", "smtp://partner.example"),
        ("deep.partner.example", "smtp://partner.example"),
        ("a.deep.partner.example", "lmtp:/run/deep"),
        ("notpartner.example", "smtp://smarthost.example:587"),
        ("gone.example", "fail: they have moved"),
        ("[192.0.2.1]", "smtps://192.0.2.9"),
        ("[192.0.2.2]", "smtp://smarthost.example:587"),
        ("[IPv6:2001:db8::1]", "smtp://smarthost.example:587"),
    ],
)
def test_the_most_specific_pattern_wins_and_then_the_first(domain, hop):
    assert TABLE.hop_of(to(domain)) == hop


def test_without_a_route_the_domain_is_the_hop():
    for routes in (Routes(), table(("*.partner.example", "smtp://h"))):
        assert routes.hop_of(to("partner.example")) == "partner.example"
        assert routes.hop_of(to("[IPv6:2001:db8::1]")) == "[IPv6:2001:db8::1]"


def test_an_address_without_a_domain_goes_nowhere():
    with pytest.raises(ValueError, match="no domain"):
        TABLE.hop_of(Address("postmaster", ""))


def test_no_route_is_below_an_address_literal():
    routes = table(("*.0.2.1", "smtp://h"))
    assert routes.hop_of(to("[192.0.2.1]")) == "[192.0.2.1]"


labels = st.sampled_from(["a", "b", "c"])
domains = st.lists(labels, min_size=1, max_size=4).map(".".join)


@given(st.lists(st.tuples(st.booleans(), domains), max_size=8), domains)
def test_the_longest_that_matches(patterns, domain):
    routes = Routes(
        make_route(f"*.{name}" if wild else name, f"smtp://host{number}")
        for number, (wild, name) in enumerate(patterns)
    )
    fitting = [
        (not wild, len(name), -number)
        for number, (wild, name) in enumerate(patterns)
        if (domain.endswith(f".{name}") if wild else domain == name)
    ]
    hop = f"smtp://host{-max(fitting)[2]}" if fitting else domain
    assert routes.hop_of(to(domain)) == hop


def test_values_of_patterns():
    levels = Patterns(
        [
            ("*.bank.example", "verified"), ("bank.example", "required"),
            ("*.bank.example", "none"), ("bank.example", "none"),
        ]
    )  # fmt: skip
    assert levels.find("bank.example") == "required"
    assert levels.find("www.bank.example") == "verified"
    assert levels.find("example") is None
    assert Patterns([("*", "a"), ("*", "b")]).find("[192.0.2.1]") == "a"


# -- REQUIRETLS


@pytest.mark.parametrize(
    ("domain", "hop"),
    [
        ("partner.example", "partner.example#requiretls"),
        ("elsewhere.example", "smtp://smarthost.example:587#requiretls"),
        ("[192.0.2.1]", "smtps://192.0.2.9#requiretls"),
        ("x.deep.partner.example", "lmtp:/run/deep"),
        ("gone.example", "fail: they have moved"),
    ],
)
def test_what_needs_tls_has_a_hop_of_its_own(domain, hop):
    assert TABLE.hop_of(to(domain), requiretls=True) == hop
    plain = TABLE.hop_of(to(domain))
    assert split_hop(hop) == (plain, hop != plain)
    assert TABLE.route(hop) == TABLE.route(plain)


@pytest.mark.parametrize(
    ("hop", "other"),
    [
        ("example.org", "example.org#any-tls"),
        ("[192.0.2.1]", "[192.0.2.1]#any-tls"),
        ("smtp://smarthost.example:587", "smtp://smarthost.example:587"),
        ("lmtp:/run/deep", "lmtp:/run/deep"),
        ("fail: they have moved", "fail: they have moved"),
        ("example.org#requiretls", "example.org#requiretls"),
    ],
)
def test_what_goes_by_any_tls_has_a_hop_of_its_own_where_there_is_no_route(hop, other):
    assert any_tls(hop) == other
    assert TABLE.route(other) == TABLE.route(hop)


def test_a_text_that_ends_like_it_is_a_text():
    routes = table(("a.example", "fail: see #requiretls"), ("b.example", "lmtp:/run/x#requiretls"))
    for domain in ("a.example", "b.example"):
        hop = routes.hop_of(to(domain), requiretls=True)
        assert split_hop(hop) == (hop, False)
        assert routes.route(hop).domain == domain


# -- from the hop to the way


def test_the_way_to_a_hop():
    route = TABLE.route("smtp://smarthost.example:587")
    assert (route.scheme, route.host, route.port) == ("smtp", "smarthost.example", 587)
    assert TABLE.route("lmtp:/run/deep").path == "/run/deep"
    assert TABLE.route("fail: they have moved").reason == "they have moved"


@pytest.mark.parametrize("hop", ["example.org", "[192.0.2.1]", "[IPv6:2001:db8::1]"])
def test_domains_and_literals_go_by_mx(hop):
    assert TABLE.route(hop) is None
    assert TABLE.route(f"{hop}#requiretls") is None


@pytest.mark.parametrize(
    "hop", ["smtp://other.example", "smtp://other.example#requiretls", "lmtp:/run/x", "fail: x"]
)
def test_a_route_that_the_configuration_has_no_more(hop):
    with pytest.raises(KeyError):
        TABLE.route(hop)


def test_a_hidden_route_is_still_a_way():
    """Mail that was queued by it before the pattern above came."""
    assert TABLE.route("smtp://never.example").host == "never.example"


def test_one_destination_has_one_login():
    one = make_route("a.example", "smtp://relay.example:25", username="a", password="x")
    same = make_route("b.example", "smtp://Relay.example", username="a", password="x")
    assert Routes([one, same]).hop_of(to("b.example")) == "smtp://relay.example"
    for other in (
        make_route("b.example", "smtp://relay.example", username="b", password="x"),
        make_route("b.example", "smtp://relay.example", username="a", password="y"),
        make_route("b.example", "smtp://relay.example", username="a", password="x", tls="required"),
    ):
        with pytest.raises(ValueError, match="differ in their login or tls") as caught:
            Routes([one, other])
        assert "x" not in str(caught.value).replace("example", "")


# -- who may send there


def test_accepting_and_refusing():
    routes = Routes(
        [
            make_route("*.partner.example", "mx", accept=True),
            make_route("closed.partner.example", "smtp://h"),
            make_route("gone.example", "fail: they have moved"),
        ]
    )
    assert routes.accepts("a.partner.example")
    assert not routes.accepts("partner.example")
    assert not routes.accepts("closed.partner.example")
    assert not routes.accepts("elsewhere.example")
    refusal = routes.refusal(to("gone.example"))
    assert (refusal.code, refusal.enhanced, refusal.text) == (550, "5.7.1", "they have moved")
    assert routes.refusal(to("a.partner.example")) is None
    assert routes.refusal(to("elsewhere.example")) is None


# -- tls


@pytest.mark.parametrize(
    ("via", "more", "level"),
    [
        ("smtp://h", {}, "opportunistic"),
        ("smtp://h", {"username": "u", "password": "p"}, "verified"),
        ("smtps://h", {}, "verified"),
        ("smtps://h", {"tls": "required"}, "required"),
        ("lmtp://h:24", {}, "opportunistic"),
        ("lmtp:/run/x", {}, "none"),
        ("smtp://h", {"tls": "none"}, "none"),
        ("mx", {}, None),
        ("fail: x", {}, None),
    ],
)
def test_how_safe_the_way_is(via, more, level):
    assert make_route("*", via, **more).tls == level


def test_a_password_is_never_printed():
    route = make_route("*", "smtp://h", username="u", password="hunter2")
    assert "hunter2" not in repr(route)


def test_from_a_configuration(tmp_path):
    (tmp_path / "secret").write_text("hunter2\nmore\n")
    settings = SimpleNamespace(
        domain="*", via="smtp://h", username="u", password="", password_file=tmp_path / "secret",
        tls=None, accept=False,
    )  # fmt: skip
    routes = make_routes([settings])
    assert routes.route(routes.hop_of(to("example.org"))).password == "hunter2"


# -- spelling


@pytest.mark.parametrize(
    ("text", "spelling", "parts"),
    [
        ("smtp://Relay.Example", "smtp://relay.example", ("smtp", "relay.example", 25, "")),
        ("smtp://relay.example:25", "smtp://relay.example", ("smtp", "relay.example", 25, "")),
        ("smtp://relay:0587", "smtp://relay:587", ("smtp", "relay", 587, "")),
        ("smtps://relay.example:465", "smtps://relay.example", ("smtps", "relay.example", 465, "")),
        ("smtp://bücher.example", "smtp://xn--bcher-kva.example",
         ("smtp", "xn--bcher-kva.example", 25, "")),
        ("smtp://192.0.2.1", "smtp://192.0.2.1", ("smtp", "192.0.2.1", 25, "")),
        ("smtp://[2001:DB8:0::1]:26", "smtp://[2001:db8::1]:26", ("smtp", "2001:db8::1", 26, "")),
        ("smtp://[::1]", "smtp://[::1]", ("smtp", "::1", 25, "")),
        ("lmtp://127.0.0.1:24", "lmtp://127.0.0.1:24", ("lmtp", "127.0.0.1", 24, "")),
        ("lmtp:/run/dovecot/lmtp", "lmtp:/run/dovecot/lmtp", ("lmtp", "", 0, "/run/dovecot/lmtp")),
        ("mx", "mx", ("mx", "", 0, "")),
        ("fail:no", "fail: no", ("fail", "", 0, "")),
    ],
)  # fmt: skip
def test_one_spelling(text, spelling, parts):
    via = parse_via(text)
    assert via.text == spelling
    assert (via.scheme, via.host, via.port, via.path) == parts
    assert parse_via(spelling) == via


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be"),
        ("relay.example", "must be"),
        ("http://relay.example", "must be"),
        ("relay.example:25", "must be"),
        ("SMTP://relay.example", "must be"),
        ("smtp:relay.example", "two slashes"),
        ("smtp://", "must name a host"),
        ("smtp:///", "must name a host"),
        ("smtp://:25", "must name a host"),
        ("smtp://a b", "must name a host"),
        ("smtp://relay.example/", "must end with the host"),
        ("smtp://relay.example#requiretls", "must end with the host"),
        ("smtp://relay.example?x", "must end with the host"),
        ("smtp://relay.example:", "a port from 1 to 65535"),
        ("smtp://relay.example:0", "a port from 1 to 65535"),
        ("smtp://relay.example:65536", "a port from 1 to 65535"),
        ("smtp://relay.example:+25", "a port from 1 to 65535"),
        ("smtp://relay.example:٢٥", "a port from 1 to 65535"),
        ("smtp://192.0.2.256", "four numbers"),
        ("smtp://::1", "in brackets"),
        ("smtp://2001:db8::1:25", "in brackets"),
        ("smtp://[192.0.2.1]", "an IPv6 address between"),
        ("smtp://[::1", "must be such as"),
        ("smtp://[::1]25", "must be such as"),
        ("smtp://[fe80::1%eth0]", "without a zone"),
        ("smtp://user:hunter2@relay.example", "must have no login in it"),
        ("lmtp://relay.example", "must have a port"),
        ("lmtp://relay.example:25", "another port than 25"),
        ("lmtp:///run/x", 'must be "lmtp:/path/of/socket"'),
        ("lmtp://unix:/run/x", 'must be "lmtp:/path/of/socket"'),
        ("lmtp:run/x", "the whole path"),
        ("lmtp:/" + "x" * 107, "at most 107"),
        ("lmtp:/run/\0", "at most 107"),
        ("fail:", "must say why"),
        ("fail: bücher", "ASCII"),
        ("fail: a\r\n250 b", "one line"),
        ("fail: " + "x" * 401, "at most 400"),
    ],
)  # fmt: skip
def test_what_is_no_destination(text, said):
    with pytest.raises(ValueError, match="must") as caught:
        parse_via(text)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


@given(st.text(max_size=30), st.sampled_from(["", "smtp://", "smtp://[", "lmtp:", "fail:", "*."]))
def test_no_text_raises_anything_else(text, start):
    for parse in (parse_via, parse_pattern):
        try:
            parse(start + text)
        except ValueError as error:
            assert str(error).startswith("must")


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("*", "*"),
        ("Example.ORG", "example.org"),
        ("*.Bücher.example", "*.xn--bcher-kva.example"),
        ("[ipv6:2001:DB8::1]", "[IPv6:2001:db8::1]"),
    ],
)
def test_one_spelling_of_a_pattern(text, spelling):
    assert parse_pattern(text) == spelling


@pytest.mark.parametrize(
    "text", ["", "*.", "**", "a.*.example", "*example.org", ".example.org", "*.[192.0.2.1]", "a b"]
)
def test_what_is_no_pattern(text):
    with pytest.raises(ValueError, match="must"):
        parse_pattern(text)
