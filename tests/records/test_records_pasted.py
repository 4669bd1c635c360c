"""What is shown, pasted into a zone, is all right; and it is what the RFCs want."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records_world import (
    CERTIFICATE,
    DIGEST,
    FACTS,
    IP4,
    IP6,
    SERVICES,
    Looking,
    key_row,
    keys,
    pasted,
)

from twisted_mail.records.facts import Facts
from twisted_mail.records.wanted import Record, wanted
from twisted_mail.records.zone_text import plain, zone_line, zone_text
from twisted_mail.storage.dkim_keys import ACTIVE
from twisted_mail.testing.dns import Zone
from twisted_mail.web.mta_sts import StsHosting


@st.composite
def sites(draw):
    domain = draw(st.sampled_from(["example.org", "a.example.org", "xn--bcher-kva.example"]))
    host = draw(st.sampled_from([domain, f"mail.{domain}", "mx.provider.example", "example.org"]))
    helo = draw(st.sampled_from([host, f"out.{domain}", "out.provider.example", domain]))
    addresses = draw(st.sampled_from([(IP4,), (IP6,), (IP4, IP6), ("127.0.0.2",)]))
    sources = draw(st.sampled_from([(), addresses, addresses[:1]]))
    hosted = draw(st.booleans())
    mode = draw(st.sampled_from(["testing", "enforce", "none"]))
    domains = frozenset([domain] if hosted else [])
    return Facts(
        domain=domain,
        host=host,
        helo=helo,
        addresses=addresses,
        sources=sources,
        families=draw(st.sampled_from([(4, 6), (6, 4)])),
        services=tuple((name, draw(st.sampled_from([0, port]))) for name, port in SERVICES),
        keys=keys(domain),
        digests=draw(st.sampled_from([(), (DIGEST,), (DIGEST, bytes(32))])),
        certificate=CERTIFICATE,
        sts=StsHosting(domains, mode, (host,)),
        autoconfig=draw(st.booleans()),
        reports=draw(
            st.sampled_from(["postmaster@", "dmarc+a,b!c;d%@", "jürgen@"])
        ) + draw(st.sampled_from([domain, "reports.example", "example.org"])),
        relay=draw(st.sampled_from(["", "smtp.provider.example"])),
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(sites(), st.booleans())
def test_what_is_shown_is_all_right_once_it_is_pasted(facts, trusted):
    looking = Looking(facts, trusted=trusted)
    bad = looking.bad()
    if not facts.hosts_policy:
        assert bad.pop(f"MTA-STS _mta-sts.{facts.domain}").state == "optional"
    if facts.relay:
        # There is no way back to show, and no name of ours to be seen.
        bad = {record: one for record, one in bad.items() if not record.startswith("PTR")}
    assert bad == {}


def test_the_records_of_a_site():
    zone = pasted(FACTS)
    assert zone["example.org"]["MX"] == [(10, "mail.example.org")]
    assert zone["example.org"]["TXT"] == [[b"v=spf1 mx ~all"]]
    assert zone["mail.example.org"] == {"A": [IP4], "AAAA": [IP6], "TXT": [[b"v=spf1 a -all"]]}
    assert zone["_dmarc.example.org"]["TXT"] == [
        [b"v=DMARC1; p=none; rua=mailto:postmaster@example.org"]
    ]
    assert zone["mta-sts.example.org"] == {"CNAME": ["mail.example.org"]}
    assert zone["_25._tcp.mail.example.org"] == {"TLSA": [(3, 1, 1, DIGEST)]}
    assert zone["_imaps._tcp.example.org"] == {"SRV": [(0, 1, 993, "mail.example.org")]}
    assert zone["_pop3._tcp.example.org"] == {"SRV": [(0, 0, 0, "")]}
    selectors = [name for name in zone if "_domainkey" in name]
    assert selectors == [f"{one}._domainkey.example.org" for one in ("one", "two", "three", "four")]
    assert [len(one) for one in zone[selectors[1]]["TXT"][0]] == [255, 155]


def lines(facts, title):
    """Of one topic."""
    text = zone_text(facts, wanted(facts))
    return next(part for part in text.split("\n; -- ") if part.startswith(title)).split("\n")[1:]


def test_an_address_that_is_not_known_is_not_invented():
    facts = replace(FACTS, addresses=())
    assert pasted(facts)["mail.example.org"] == {"TXT": [[b"v=spf1 a -all"]]}
    told = "\n".join(lines(facts, "Where the server is"))
    assert "--address" in told and "; mail.example.org. 3600 IN A" in told


def test_reports_that_go_to_another_domain_are_permitted_there():
    zone = pasted(replace(FACTS, reports="dmarc@reports.example"))
    assert zone["example.org._report._dmarc.reports.example"] == {"TXT": [[b"v=DMARC1"]]}
    text = zone_text(FACTS, wanted(replace(FACTS, reports="dmarc@reports.example")))
    assert [line for line in text.split("\n") if "_report." in line] == [
        "; example.org._report._dmarc.reports.example is not below example.org: its record belongs into another zone.",
        '; example.org._report._dmarc.reports.example. 3600 IN TXT "v=DMARC1"',
    ]
    assert "another zone" not in zone_text(FACTS, wanted(FACTS))


@pytest.mark.parametrize(
    ("reports", "own"), [("x@reports.example", False), ("x@r.example.org", True)]
)
def test_who_puts_that_permission_there(reports, own):
    rows = plain(wanted(replace(FACTS, reports=reports)))
    assert [row["own_zone"] for row in rows if "._report." in row["name"]] == [own]


def test_what_is_no_comment_is_of_the_zone():
    """Of a second domain of the site."""
    host = {"host": "mail.example.net", "helo": "out.example.net"}
    facts = replace(FACTS, domain="example.org", reports="x@reports.example", **host)
    zone = Zone.from_text(zone_text(facts, wanted(facts)))
    assert zone["example.org"]["MX"] == [(10, "mail.example.net")]
    assert all(name == "example.org" or name.endswith(".example.org") for name in zone.data)
    assert {"mail.example.net", "out.example.net"} < set(pasted(facts).data)


def test_what_a_proxy_may_offer():
    facts = replace(
        FACTS, services=(("_imaps", 0), ("_pop3s", 0)), inner=(("_imaps", 993), ("_pop3s", 995))
    )
    assert pasted(facts)["_imaps._tcp.example.org"] == {"SRV": [(0, 0, 0, "")]}
    told = lines(facts, "For users'")
    assert "If a proxy passes it on" in " ".join(one.removeprefix("; ") for one in told)
    assert "; _imaps._tcp.example.org. 3600 IN SRV 0 1 993 mail.example.org." in told
    assert "; _pop3s._tcp.example.org. 3600 IN SRV 10 1 995 mail.example.org." in told
    assert "proxy" not in "".join(lines(FACTS, "For users'"))


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"development": True}, "development certificate"),
        ({"passing": "acme.keep_key is false, each"}, "None: acme.keep_key is false"),
        ({"digests": ()}, "no certificate yet"),
    ],
)
def test_no_tlsa_without_a_key_that_stays(more, text):
    facts = replace(FACTS, **more)
    assert text in "\n".join(lines(facts, "The server's key"))
    assert "_25._tcp.mail.example.org" not in pasted(facts)


def test_keys_that_are_prepared_or_retired_are_told():
    told = " ".join(line.removeprefix("; ") for line in lines(FACTS, "Keys of sig")[:2])
    assert told.startswith("four: prepared. When")
    assert "one: retired; mail that is under way" in told
    assert lines(replace(FACTS, keys=keys()[1:3]), "Keys of sig")[0].startswith("two._domainkey.")


def test_no_keys():
    assert lines(replace(FACTS, keys=()), "Keys of sig")[0] == (
        "; There are none yet: mailctl dkim add example.org"
    )


def test_a_certificate_authority_is_only_proposed():
    facts = replace(FACTS, authority="letsencrypt.org")
    assert '; mail.example.org. 3600 IN CAA 0 issue "letsencrypt.org"' in lines(facts, "Who may is")
    assert pasted(facts).data == pasted(FACTS).data


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=600))
def test_any_text_is_a_record(text):
    line = zone_line(Record("a.example", "TXT", text))
    strings = Zone.from_text(line)["a.example"]["TXT"][0]
    assert b"".join(strings).decode() == text
    assert all(len(one) <= 255 for one in strings)


def test_for_programs():
    rows = plain(wanted(FACTS))
    assert rows[0] == {
        "name": "example.org", "type": "MX", "ttl": 3600, "value": "10 mail.example.org.",
        "topic": "Mail for the domain comes here", "needed": True, "own_zone": True,
    }  # fmt: skip
    assert [row["name"] for row in rows if not row["own_zone"]] == [
        ipaddress.ip_address(one).reverse_pointer for one in (IP4, IP6)
    ]
    record = next(row for row in rows if row["name"] == "two._domainkey.example.org")
    assert record["value"] == key_row("two", ACTIVE, keys()[1].record).record
