"""One thing is broken at a time: what is said of it, and that nothing else is."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from records_world import (
    CERTIFICATE,
    DIGEST,
    ED25519,
    FACTS,
    IP4,
    IP6,
    OTHER_RSA,
    RSA,
    Looking,
    key_row,
    now,
)
from twisted.internet.defer import Deferred

from twisted_mail.policy.dnsbl import parse_list
from twisted_mail.records.checking import check, passed
from twisted_mail.storage.dkim_keys import PREPARED
from twisted_mail.testing.dns import FakeResolver
from twisted_mail.web.mta_sts import StsHosting

PTR4 = "10.2.0.192.in-addr.arpa"
TLSA = "_25._tcp.mail.example.org"


@pytest.fixture
def looking():
    return Looking()


def said(finding):
    return f"{finding.state}: {finding.detail}. {finding.meaning}"


def test_all_is_right(looking):
    assert looking.bad() == {}
    assert passed(looking.all())


# -- where mail goes


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([(5, "mx.other.example")], ["wrong", "is 5 mx.other.example", "wanted: 10 mail.ex", "elsewhere"]),
        ([(0, "")], ["wrong", "is 0 .; wanted", "takes no mail"]),
        ([], ["missing", "wanted: 10 mail.example.org", "does not come here"]),
        ([(10, "same.example.org")], ["wrong", "leads here"]),
    ],
)  # fmt: skip
def test_mx(looking, records, words):
    looking.zone["same.example.org"] = {"A": [IP4]}
    looking.zone["example.org"]["MX"] = records
    bad = looking.bad()
    finding = bad.pop("MX example.org")
    assert all(word in said(finding) for word in words), said(finding)
    # SPF and MTA-STS hang on it
    assert set(bad) <= {"SPF example.org", "MTA-STS https://mta-sts.example.org"}


def test_other_mx_beside_ours(looking):
    looking.facts = replace(FACTS, sts=StsHosting())
    looking.policy = None
    del looking.zone["_mta-sts.example.org"]
    looking.zone["example.org"]["MX"] += [(5, "first.example"), (20, "backup.example")]
    mx = looking.all()[0]
    assert mx.state == "right" and mx.meaning == "first.example is asked before this server"


def test_a_domain_that_is_not_there(looking):
    looking.zone.clear()
    finding = looking.bad()["MX example.org"]
    assert "there is no domain example.org" in finding.detail


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ({"A": ["192.0.2.99"]}, ["wrong", f"is 192.0.2.99; wanted: {IP4}, {IP6}", "another machine"]),
        ({}, ["missing", f"wanted: {IP4}, {IP6}", "nobody finds this server"]),
        ({"A": [IP4]}, ["wrong", f"is {IP4}; wanted as well: {IP6}"]),
        ({"CNAME": ["host.example.org"]}, ["wrong", "alias (CNAME) of host.example.org"]),
    ],
)  # fmt: skip
def test_the_addresses_of_the_host(looking, kinds, words):
    looking.zone["host.example.org"] = {"A": [IP4], "AAAA": [IP6], "TXT": ["v=spf1 a -all"]}
    looking.zone["mail.example.org"] = (
        {**kinds, "TXT": ["v=spf1 a -all"]} if "CNAME" not in kinds else kinds
    )
    bad = looking.bad()
    finding = bad.pop("A, AAAA mail.example.org")
    assert all(word in said(finding) for word in words), said(finding)


def test_addresses_that_are_not_known_to_be_ours(looking):
    looking.change(addresses=())
    assert looking.bad() == {}
    assert "--address" in looking.all()[1].meaning
    looking.zone["mail.example.org"]["A"] = ["127.0.0.1"]
    assert "others are led to themselves" in said(looking.bad()["A, AAAA mail.example.org"])


def test_ipv6_is_not_needed_where_nothing_is_sent_by_it(looking):
    del looking.zone["mail.example.org"]["AAAA"]
    looking.change(families=(4,))
    assert looking.bad() == {}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], ["missing", "wanted: mail.example.org", "large providers refuse"]),
        (["host.provider.example"], ["wrong", "is host.provider.example, which does not lead back"]),
        (["there.example"], ["wrong", "is there.example; in EHLO we say mail.example.org"]),
    ],
)  # fmt: skip
def test_the_way_back(looking, names, words):
    looking.zone["there.example"] = {"A": [IP4]}
    looking.zone[PTR4]["PTR"] = names
    finding = looking.only()
    assert finding.record == f"PTR {IP4}"
    assert all(word in said(finding) for word in words), said(finding)


def test_a_name_that_does_not_lead_back(looking):
    looking.change(sources=(IP4, "192.0.2.11"))
    looking.zone["11.2.0.192.in-addr.arpa"] = {"PTR": ["mail.example.org"]}
    bad = looking.bad()
    assert (
        "mail.example.org, which does not lead back to 192.0.2.11" in bad["PTR 192.0.2.11"].detail
    )
    assert "fail for 192.0.2.11" in bad["SPF mail.example.org"].detail


# -- whose mail it is


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([], ["missing", "wanted: v=spf1 mx ~all"]),
        (
            ["v=spf1 ip4:192.0.2.99 -all"],
            ["wrong", f": fail for {IP4}, {IP6}; wanted", "fails SPF"],
        ),
        (["v=spf1 mx/32//128 -ip6:::/0 ?all", "v=spf1 -all"], ["wrong", "2 SPF records"]),
        (["v=spf1 mix -all"], ["wrong", "counts as none"]),
        ([f"v=spf1 ip4:{IP4} ~all"], ["wrong", f"softfail for {IP6}"]),
    ],
)
def test_spf(looking, texts, words):
    looking.zone["example.org"]["TXT"] = ["something else", *texts]
    finding = looking.bad()["SPF example.org"]
    assert all(word in said(finding) for word in words), said(finding)
    assert set(looking.bad()) == {"SPF example.org"}


def test_spf_of_ones_own_making(looking):
    looking.zone["example.org"]["TXT"] = [
        "v=spf1 include:_spf.provider.example a:mail.example.org -all"
    ]
    looking.zone["_spf.provider.example"] = {"TXT": ["v=spf1 ip4:198.51.100.0/24 ~all"]}
    assert looking.bad() == {}


def test_spf_of_our_name_alone_is_optional(looking):
    looking.zone["mail.example.org"]["TXT"] = []
    finding = looking.only()
    assert (finding.state, finding.record) == ("optional", "SPF mail.example.org")


def test_mail_that_leaves_through_somebody_else(looking):
    looking.change(relay="smtp.provider.example")
    looking.zone["example.org"]["TXT"] = ["v=spf1 include:_spf.provider.example -all"]
    looking.zone["_spf.provider.example"] = {"TXT": ["v=spf1 ip4:198.51.100.0/24 ~all"]}
    looking.zone[PTR4]["PTR"] = []
    assert looking.bad() == {}
    looking.zone["example.org"]["TXT"] = ["v=spf1 include:nowhere.example -all"]
    assert looking.only().state == "wrong"


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([], ["missing", "rsa-sha256, active", "counts as not signed"]),
        ([OTHER_RSA], ["wrong", "another key"]),
        ([ED25519], ["wrong", "another key"]),
        ([RSA[:-20]], ["wrong", "cannot be read"]),
        (["v=DKIM1; p="], ["wrong", "revoked"]),
        ([RSA, OTHER_RSA], ["wrong", "2 records"]),
    ],
)
def test_dkim(looking, texts, words):
    looking.zone["two._domainkey.example.org"]["TXT"] = texts
    finding = looking.only()
    assert finding.record == "DKIM two._domainkey.example.org"
    assert all(word in said(finding) for word in words), said(finding)


def test_a_key_written_another_way(looking):
    p = RSA.partition("p=")[2]
    looking.zone["two._domainkey.example.org"]["TXT"] = [
        f"k=rsa;h=sha256; t=y; p={p[:80]} {p[80:]}"
    ]
    assert looking.bad() == {}
    finding = next(one for one in looking.all() if "two._domainkey" in one.record)
    assert "t=y" in finding.meaning


def test_a_prepared_key_that_is_not_there_yet(looking):
    looking.zone["four._domainkey.example.org"]["TXT"] = []
    assert "before mailctl dkim rotate" in looking.only().meaning


@pytest.mark.parametrize(
    ("facts", "state", "words"),
    [
        ({"keys": ()}, "missing", "mailctl dkim add example.org"),
        ({"keys": (key_row("four", PREPARED, OTHER_RSA),)}, "missing", "mailctl dkim rotate"),
        ({"keys": (), "signs": False}, "optional", "signing.dkim is false"),
    ],
)
def test_nothing_signs(looking, facts, state, words):
    looking.change(**facts)
    finding = looking.only()
    assert finding.state == state and words in finding.detail


@pytest.mark.parametrize("name", ["two._domainkey", "_dmarc", "_mta-sts", "_smtp._tls"])
def test_a_name_that_was_completed_once_more(looking, name):
    looking.zone[f"{name}.example.org.example.org"] = looking.zone[f"{name}.example.org"]
    del looking.zone[f"{name}.example.org"]
    finding = looking.only()
    assert finding.state == "wrong"
    assert f"stands at {name}.example.org.example.org" in finding.detail


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([], ["missing", "wanted: v=DMARC1; p=none"]),
        (["v=DMARC1; p=nothing"], ["wrong", "p= must be"]),
        (["v=DMARC1; p=none", "v=DMARC1; p=reject"], ["wrong", "2 records", "none counts"]),
        (["p=none; v=DMARC1"], ["wrong", "no DMARC record"]),
        (["v=DMARC1; p=none; rua=mailto:no@example.org"], ["wrong", "no such address here"]),
        (["v=DMARC1; p=none; rua=mailto:x@collector.example"],
         ["wrong", 'wanted: example.org._report._dmarc.collector.example TXT "v=DMARC1"']),
    ],
)  # fmt: skip
def test_dmarc(looking, texts, words):
    looking.more["is_here"] = lambda text: (
        text == "postmaster@example.org" if text.endswith("@example.org") else None
    )
    looking.zone["_dmarc.example.org"]["TXT"] = texts
    finding = looking.only()
    assert finding.record == "DMARC _dmarc.example.org"
    assert all(word in said(finding) for word in words), said(finding)


def test_steps_of_dmarc(looking):
    def meaning(text):
        looking.zone["_dmarc.example.org"]["TXT"] = [text]
        assert looking.bad() == {}
        return next(one.meaning for one in looking.all() if one.record.startswith("DMARC"))

    assert "p=quarantine" in meaning("v=DMARC1; p=none; rua=mailto:postmaster@example.org")
    assert meaning("v=DMARC1; p=reject; rua=mailto:postmaster@example.org") == ""
    assert "nobody reports to you" in meaning("v=DMARC1; p=reject")


def test_the_dmarc_record_of_the_domain_above():
    facts = replace(FACTS, domain="a.example.org", keys=(), sts=StsHosting(), signs=False)
    looking = Looking(facts)
    looking.zone["_dmarc.example.org"] = {"TXT": ["v=DMARC1; p=reject"]}
    del looking.zone["_dmarc.a.example.org"]
    finding = next(one for one in looking.all() if one.record.startswith("DMARC"))
    assert (finding.state, finding.detail) == (
        "right", "that of example.org counts: v=DMARC1; p=reject",
    )  # fmt: skip


# -- how mail comes


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([], ["missing", "wanted: v=STSv1; id=", "nobody looks for the policy"]),
        (["v=STSv1; id=old"], ["wrong", "is v=STSv1; id=old; wanted: v=STSv1; id="]),
        (["v=STSv1"], ["wrong", "is v=STSv1; wanted"]),
        (["v=STSv1; id=a", "v=STSv1; id=b"], ["wrong", "2 records"]),
    ],
)
def test_mta_sts(looking, texts, words):
    looking.zone["_mta-sts.example.org"]["TXT"] = texts
    finding = looking.only()
    assert finding.record == "MTA-STS _mta-sts.example.org"
    assert all(word in said(finding) for word in words), said(finding)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (None, "mta-sts.example.org has no address"),
        ("hello", "has no colon"),
        ("version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 604800\n", "is enforce, a.example"),
        ("version: STSv1\nmode: testing\nmx: mail.example.org\nmax_age: 604800\n", "wanted: enforce"),
    ],
)  # fmt: skip
def test_the_policy(looking, policy, words):
    looking.policy = policy
    finding = looking.only()
    assert finding.record == "MTA-STS https://mta-sts.example.org"
    assert finding.state == "wrong" and words in finding.detail


def test_a_policy_that_somebody_else_hosts(looking):
    looking.change(sts=StsHosting())
    assert looking.bad() == {}  # it is there, and names our host
    looking.policy = "version: STSv1\nmode: enforce\nmx: *.provider.example\nmax_age: 604800\n"
    finding = looking.only()
    assert "does not name mail.example.org" in finding.detail
    assert finding.meaning == "mail there is not delivered"
    looking.zone["_mta-sts.example.org"]["TXT"] = []
    assert looking.only().state == "optional"


def test_a_policy_for_a_certificate_that_nobody_trusts(looking):
    looking.change(development=True, digests=())
    del looking.zone[TLSA]
    assert "development certificate" in looking.only().detail


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([], ["optional", "wanted: v=TLSRPTv1"]),
        (["v=TLSRPTv1"], ["wrong", "nobody reports"]),
        (["v=TLSRPTv1; rua=postmaster@example.org"], ["wrong", "is v=TLSRPTv1; rua=post"]),
        (["v=TLSRPTv1; rua=mailto:a@b.example", "v=TLSRPTv1; rua=mailto:a@b.example"], ["wrong"]),
        (["v=TLSRPTv1; rua=mailto:no@example.org"], ["wrong", "no such address here"]),
    ],
)
def test_tlsrpt(looking, texts, words):
    looking.more["is_here"] = lambda text: not text.startswith("no@")
    looking.zone["_smtp._tls.example.org"]["TXT"] = texts
    finding = looking.only()
    assert finding.record == "TLSRPT _smtp._tls.example.org"
    assert all(word in said(finding) for word in words), said(finding)


OTHER = bytes(32)


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([], ["optional", f"wanted: 3 1 1 {DIGEST.hex()}"]),
        ([(3, 1, 1, OTHER)], ["wrong", f"is 3 1 1 {OTHER.hex()}; wanted: 3 1 1", "do not deliver to you"]),
        ([(1, 1, 1, DIGEST)], ["wrong", "says nothing"]),
        ([(2, 1, 1, OTHER)], ["unknown", "of an authority"]),
    ],
)  # fmt: skip
def test_tlsa(looking, records, words):
    looking.zone[TLSA]["TLSA"] = records
    finding = looking.only()
    assert finding.record == f"TLSA {TLSA}"
    assert all(word in said(finding) for word in words), said(finding)


def test_tlsa_before_and_after_a_change_of_keys(looking):
    looking.zone[TLSA]["TLSA"] = [(3, 1, 1, OTHER), (3, 1, 1, DIGEST)]
    assert looking.bad() == {}
    looking.zone[TLSA]["TLSA"] = [(3, 1, 1, DIGEST)]
    looking.change(digests=(DIGEST, OTHER))
    assert looking.only().state == "missing"


def test_tlsa_without_dnssec(looking):
    def meaning():
        return next(one.meaning for one in looking.all() if one.record.startswith("TLSA"))

    assert "dns.trust_ad is false" in meaning()
    looking.more["trusted"] = True
    assert "the zone has no DNSSEC" in meaning()
    looking.zone.secure.add("example.org")
    assert meaning() == ""
    looking.change(passing="each certificate has another key", digests=())
    assert "another key" in looking.only().meaning


def test_tlsa_and_a_certificate_that_cannot_be_read(looking):
    looking.change(certificate=None)
    finding = looking.only()
    assert finding.state == "unknown" and "the certificate cannot be read" in finding.detail


def test_tlsa_of_whole_certificates_and_of_two_kinds(looking):
    whole = CERTIFICATE.public_bytes(Encoding.DER)
    looking.zone[TLSA]["TLSA"] = [(3, 0, 1, sha256(whole).digest()), (2, 1, 1, OTHER)]
    assert looking.bad() == {}


def test_no_tlsa_where_none_is_wanted(looking):
    looking.change(digests=(), certificate=CERTIFICATE)
    del looking.zone[TLSA]
    assert not any(one.record.startswith("TLSA") for one in looking.all())


@pytest.mark.parametrize(
    ("service", "records", "words"),
    [
        ("_imaps", [], ["optional", "wanted: 0 1 993 mail.example.org"]),
        ("_imaps", [(0, 1, 143, "mail.example.org")], ["wrong", "where nobody answers"]),
        ("_imaps", [(0, 1, 993, "other.example")], ["wrong", "go elsewhere"]),
        ("_imaps", [(0, 0, 0, "")], ["wrong", "is 0 0 0 .; wanted: 0 1 993", "told that it is not there"]),
        ("_pop3", [], ["optional", "wanted: 0 0 0 ."]),
        ("_pop3", [(0, 1, 110, "mail.example.org")], ["wrong", "where nobody answers"]),
    ],
)  # fmt: skip
def test_srv(looking, service, records, words):
    looking.zone[f"{service}._tcp.example.org"]["SRV"] = records
    finding = looking.only()
    assert finding.record == f"SRV {service}._tcp.example.org"
    assert all(word in said(finding) for word in words), said(finding)


def test_srv_of_a_proxy(looking):
    services = tuple((name, 0 if name == "_imaps" else port) for name, port in FACTS.services)
    looking.change(services=services)
    assert looking.only().state == "wrong"
    looking.change(inner=(("_imaps", 993),))
    (finding,) = [one for one in looking.all() if one.record == "SRV _imaps._tcp.example.org"]
    assert (finding.state, finding.meaning[:26]) == ("right", "right if something passes ")


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (None, ["optional", "CNAME mail.example.org", "ask their users"]),
        ({"A": ["203.0.113.99"]}, ["wrong", "is 203.0.113.99", "somebody else"]),
        ({"CNAME": ["mail.example.org"]}, ["right", IP4]),
    ],
)
def test_autoconfig(looking, records, words):
    looking.change(autoconfig=True)
    name = "autoconfig.example.org"
    if records is None:
        looking.zone.pop(name, None)
    else:
        looking.zone[name] = records
    (finding,) = [one for one in looking.all() if one.record == f"A, AAAA {name}"]
    assert all(word in said(finding) for word in words), said(finding)


# -- what others say of us


def test_lists_of_spammers(looking):
    looking.more["lists"] = (parse_list("zen.example"), parse_list("white.example*-2"))
    assert looking.bad() == {}
    assert "not on white.example, zen.example" in [one.detail for one in looking.all()]
    looking.zone["10.2.0.192.zen.example"] = {
        "A": ["127.0.0.2"],
        "TXT": ["see https://zen.example"],
    }
    looking.zone["10.2.0.192.white.example"] = {"A": ["127.0.0.2"]}
    finding = looking.only()
    assert finding.record == f"lists {IP4}"
    assert finding.detail == "zen.example has it (127.0.0.2): see https://zen.example"
    looking.zone["10.2.0.192.zen.example"] = {"A": ["127.255.255.254"]}
    assert looking.only().state == "unknown"


# -- a DNS that does not answer


@pytest.mark.parametrize(
    ("failing", "record"),
    [
        ("MX example.org", "MX example.org"),
        ("A mail.example.org", "A, AAAA mail.example.org"),
        (PTR4, f"PTR {IP4}"),
        ("two._domainkey.example.org", "DKIM two._domainkey.example.org"),
        ("_dmarc.example.org", "DMARC _dmarc.example.org"),
        ("_mta-sts.example.org", "MTA-STS _mta-sts.example.org"),
        ("_smtp._tls.example.org", "TLSRPT _smtp._tls.example.org"),
        (TLSA, f"TLSA {TLSA}"),
        ("_imaps._tcp.example.org", "SRV _imaps._tcp.example.org"),
        ("TXT example.org", "SPF example.org"),
    ],
)
def test_what_cannot_be_asked_is_not_called_wrong(looking, failing, record):
    looking.zone.failing.add(failing)
    bad = looking.bad()
    assert bad[record].state == "unknown" and "SERVFAIL" in bad[record].detail
    assert {one.state for one in bad.values()} == {"unknown"}


def test_silence_has_an_end(looking):
    looking.zone.silent.update(["_dmarc.example.org", PTR4])
    waiting = []

    async def fetch(domain):
        await Deferred()

    asking = replace(looking.asking(), fetch=fetch)
    Deferred.fromCoroutine(check(asking)).addCallback(waiting.append)
    looking.clock.advance(39)
    assert waiting == []
    looking.clock.advance(1)
    ((*findings,),) = waiting
    assert [one.record for one in findings if one.state != "right"] == [
        f"PTR {IP4}", "DMARC _dmarc.example.org", "MTA-STS https://mta-sts.example.org",
    ]  # fmt: skip
    assert not looking.clock.getDelayedCalls()


def test_what_others_write_is_fit_for_a_terminal(looking):
    evil = b"v=DMARC1; p=\x1b[2J\r\nnone" + b"x" * 1000
    for name in ("_dmarc", "two._domainkey", "_mta-sts", "_smtp._tls"):
        looking.zone[f"{name}.example.org"]["TXT"] = [evil, b"v=STSv1\x1b", b"v=TLSRPTv1\x1b"]
    looking.zone["example.org"]["TXT"] = [b"v=spf1 \x1b[2J"]
    looking.zone[PTR4]["PTR"] = ["a\x1bb.example"]
    looking.policy = "\x1b[2J"
    for one in looking.all():
        assert one.detail.isprintable() and len(one.detail) < 700


def test_the_number_of_questions_has_a_bound(looking):
    resolver = FakeResolver(looking.zone)
    now(check(replace(looking.asking(), resolver=resolver)))
    assert len(resolver.questions) < 60
