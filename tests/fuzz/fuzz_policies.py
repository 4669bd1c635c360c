"""What others publish and sign, and what is made of it: never an exception but the one that is promised, and what goes
into a header field, a reply or a log stays one line.
"""

from __future__ import annotations

import ipaddress
import re

from fuzzing import several, target

from twisted_mail.address import Address
from twisted_mail.config.via import parse_name_server, parse_pattern, parse_via
from twisted_mail.delivery.srs import Srs
from twisted_mail.dns.interfaces import Tlsa
from twisted_mail.message.authres import field
from twisted_mail.message.dkim_header import HeaderFields
from twisted_mail.message.tag_list import parse_tags
from twisted_mail.policy import dkim_key, dmarc_author, dmarc_record, helo, spf_macros, spf_record
from twisted_mail.policy.arc import Chain, highest_instance
from twisted_mail.policy.dkim_signature import Kind, parse_signature
from twisted_mail.policy.dmarc_reporting import destination
from twisted_mail.policy.dnsbl import parse_list
from twisted_mail.remote import dane, mta_sts
from twisted_mail.remote.names import name_matches
from twisted_mail.reports.sending import limits
from twisted_mail.reports.tls import rua_of
from twisted_mail.sasl import SaslError, ScramFirst, ScramKeys, login_text, plain, saslprep
from twisted_mail.status import MailError

_NOW = 1_800_000_000.0


def _one_line(text: str) -> None:
    assert not re.search("[\x00-\x1f\x7f\u2028\u2029]", text), text


@target("mime")
def dkim_records(data: bytes) -> None:
    """Signatures, keys and tag lists."""
    for kind in Kind:
        one = parse_signature(data, kind, _NOW)
        if one.problem is not None:
            assert one.problem.result in (
                "neutral",
                "fail",
                "permerror",
                "policy",
                "none",
                "temperror",
            )
            _one_line(one.problem.reason)
        elif kind is not Kind.SEAL:
            assert one.domain and one.selector
            assert one.key_name.isascii()
    key = dkim_key.parse_key(data)
    if isinstance(key, dkim_key.Problem):
        _one_line(key.reason)
    else:
        assert not key.verifies(b"x", b"\0" * 32)
    try:
        parse_tags(data)
    except ValueError as error:
        _one_line(str(error))


@target("mime")
def spf_records(data: bytes) -> None:
    """Records, macros and what they become."""
    sender, record = several(data, 2)
    try:
        found = spf_record.parse(record)
    except ValueError as error:
        _one_line(str(error))
        return
    text = sender.decode("latin-1")
    values = dict.fromkeys("slodiphcrtv", text) | {"s": None if text == "None" else text}
    values |= {letter.upper(): value for letter, value in values.items()}
    for spec in (found.redirect, found.explanation, *(term.spec for term in found.terms)):
        if spec is None:
            continue
        name = spf_macros.expand_domain(spec, values)
        assert name is None or len(name) <= spf_macros.MAX_NAME + len(text) * 3 + 1
        said = spf_macros.expand_text(spec, values)
        assert said is None or len(said) <= spf_macros.MAX_EXPLANATION
    for term in found.terms:
        assert 0 <= term.bits <= 128 and 0 <= term.bits6 <= 128
    try:
        spf_record.explain_string(record.decode("latin-1"))
    except ValueError:
        pass


@target("mime")
def dmarc_records(data: bytes) -> None:
    """Records and where reports go; the author of a message."""
    record = dmarc_record.parse(data)
    assert record.p in ("", "none", "quarantine", "reject")
    assert record.adkim in "rs" and record.aspf in "rs" and 0 <= record.pct <= 100
    for uri in (*record.rua, *record.ruf):
        _one_line(uri)
        destination(uri)
    dmarc_record.select((data, b"v=DMARC1; p=none"))
    # By what is looked up in it, and nothing else
    assert all(octets >= 0 for octets in limits(data.decode("latin-1")).values())
    for uri in rua_of([data]):
        _one_line(uri)
    author = dmarc_author.author(dmarc_author.from_fields(data))
    for domain in author.domains:
        assert domain.isascii()
        _one_line(domain)
    _one_line(author.problem)


@target("mime")
def arc_chains(data: bytes) -> None:
    """Chains: a verdict of the header alone, or what is to be asked."""
    header = HeaderFields(data, 500)
    assert 0 <= highest_instance(header) <= 9999
    chain = Chain(header, _NOW)
    if chain.verdict is None:
        for name in chain.key_names:
            assert name.isascii()
        problem = dkim_key.Problem("temperror", "no")
        verdict = chain.judge(lambda name: problem, lambda signature, number: None)
        assert verdict.result != "pass"
    else:
        assert verdict_is_known(chain.verdict.result)
        _one_line(chain.verdict.reason)


def verdict_is_known(result: str) -> bool:
    return result in ("none", "pass", "fail", "temperror")


@target("mime")
def sts_policies(data: bytes) -> None:
    """MTA-STS: record and policy; TLSA records that make sense."""
    try:
        policy = mta_sts.parse_policy(data.decode("utf-8", "replace"))
    except ValueError as error:
        _one_line(str(error))
    else:
        assert policy.mode in mta_sts.Mode
        assert 0 <= policy.max_age <= 31557600
        for pattern in policy.mx:
            name_matches(pattern, "mx.example.org")
        policy.names("mx.example.org")
    found = mta_sts.parse_record((data, data[:20]))
    assert found is None or re.fullmatch("[A-Za-z0-9]{1,32}", found)
    if len(data) > 3:
        records = [
            Tlsa(*data[at : at + 3], data[at + 3 : at + 40]) for at in range(0, len(data) - 3, 40)
        ]
        for record in dane.usable(records):
            assert record in records


@target("smtp")
def client_names(data: bytes) -> None:
    """HELO and the names of addresses; patterns, places and lists as a configuration has them."""
    one, other = several(data, 2)
    name = one.decode("latin-1")
    for ip in ("192.0.2.1", "2001:db8::1"):
        assert helo.helo_shape(name, ip, ["mail.example.org"]) in helo.Shape
        helo.is_generic(name, ip)
    text = other.decode("utf-8", "replace")
    for parse in (parse_via, parse_pattern, parse_name_server, parse_list):
        try:
            found = parse(text)
        except ValueError:
            continue
        if parse is parse_pattern:
            assert parse_pattern(str(found)) == found
        if parse is parse_name_server:
            ipaddress.ip_address(found[0])
            assert 0 < found[1] < 65536


@target("smtp")
def rewritten_senders(data: bytes) -> None:
    """SRS: what is given out comes back; what is not ours raises what a client may be told."""
    srs = Srs(b"secret" * 6, lambda: _NOW)
    text = data.decode("utf-8", "replace")
    try:
        address = Address.parse(text)
    except ValueError:
        return
    if not address.domain:
        return
    try:
        srs.reverse(address)
    except MailError as error:
        assert text not in str(error) or len(text) < 20
    made = srs.forward(address, "example.org")
    if made != address and not address.local.lower().startswith(("srs0", "srs1")):
        assert Address.parse(str(made)) == made
        back = srs.reverse(made)
        assert back is not None and str(back).lower() == str(address).lower()


@target("smtp")
def sasl_messages(data: bytes) -> None:
    """PLAIN, LOGIN, SCRAM: a SaslError, which holds nothing of the message, or what is meant."""
    first, final, password = several(data, 3)

    def told(error: SaslError, message: bytes) -> None:
        text = message.decode("utf-8", "replace")
        assert len(text) < 16 or text not in str(error)
        for part in text.split("\0"):
            assert len(part) < 16 or part not in str(error)

    try:
        given = plain(first)
        assert given.username and given.password
        assert repr(given) == object.__repr__(given)
    except SaslError as error:
        told(error, first)
    try:
        login_text(first)
    except SaslError as error:
        told(error, first)
    try:
        saslprep(password.decode("utf-8", "replace"))
    except ValueError as error:
        assert len(password) < 16 or password.decode("utf-8", "replace") not in str(error)
    keys = ScramKeys(1, b"salt", b"s" * 32, b"k" * 32)
    assert ScramKeys.parse(keys.encode()) == keys
    try:
        ScramKeys.parse(first.decode("latin-1"))
    except ValueError:
        pass
    try:
        opening = ScramFirst.parse(first)
        challenge = opening.challenge(keys, "servernonce")
        assert b"\r" not in challenge.data and b"\n" not in challenge.data
        proof = challenge.proof(final)
        # Nobody has a proof of these keys by chance.
        assert not proof.matches(keys)
    except SaslError as error:
        told(error, first)
    assert field("a", []).isascii()
