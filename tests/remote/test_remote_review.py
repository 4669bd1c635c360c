"""What a hostile peer, zone or web server tried on remote delivery, and must not get."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from remote_fakes import STARTTLS, Server, failure_of, result_of, start
from test_carrier import PKI as CARRIER_PKI
from test_carrier import Site
from test_judge import CHAIN, NOW, dane, record
from test_mx import A, error_of, names_of
from test_sts_fetch import Fetching, http
from twisted.internet.defer import Deferred

from twisted_mail.dns.cache import Cache
from twisted_mail.dns.interfaces import Answer, DnsError, Tlsa
from twisted_mail.dns.pool import Pool
from twisted_mail.dns.resolver import StubResolver
from twisted_mail.remote.begin import Way
from twisted_mail.remote.dane import usable
from twisted_mail.remote.judge import Authorities, Verdict, judge
from twisted_mail.remote.mx import addresses_of
from twisted_mail.remote.settings import DeliverySettings
from twisted_mail.remote.tls_policy import Level, TlsPolicy
from twisted_mail.testing.dns import FakeResolver, Zone

OURS = DeliverySettings("mail.ours.example", own_addresses=frozenset({"203.0.113.9"}))


def certificate(
    names: bytes,
) -> x509.Certificate:
    """One that signs itself; `names`: what stands in its SubjectAltName, DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "self")])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2020, 1, 1))
        .not_valid_after(datetime.datetime(2040, 1, 1))
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), names), False)
        .sign(key, hashes.SHA256())
    )


def dns_names(*names: bytes) -> bytes:
    """SubjectAltName in DER, whatever stands in the names (shorter than 128 octets)."""
    inner = b"".join(b"\x82" + bytes([len(name)]) + name for name in names)
    size = bytes([len(inner)]) if len(inner) < 128 else b"\x82" + len(inner).to_bytes(2, "big")
    return b"\x30" + size + inner


def judged_as_authority(one: x509.Certificate, tmp_path: Path) -> Verdict:
    """What is said of a certificate that is believed."""
    from cryptography.hazmat.primitives.serialization import Encoding

    path = tmp_path / "ca.pem"
    path.write_bytes(one.public_bytes(Encoding.PEM))
    policy = TlsPolicy(Level.VERIFIED, ("mx.example.org",))
    return judge(policy, [one], NOW, Authorities(path))


# -- certificates


def test_a_name_in_a_certificate_brings_no_line_into_the_log(tmp_path: Path) -> None:
    shown = certificate(dns_names(b"a.example\r\n\x1b[2JX: y", b"b" * 120, b"c" * 120, b"d"))
    verdict = judged_as_authority(shown, tmp_path)
    assert verdict.result == "certificate-host-mismatch"
    assert verdict.reason.isprintable()
    assert "not for mx.example.org" in verdict.reason


def test_names_in_a_certificate_are_told_shortly(tmp_path: Path) -> None:
    shown = certificate(dns_names(*[b"n" * 120] * 40))
    verdict = judged_as_authority(shown, tmp_path)
    assert len(verdict.reason) < 400


@pytest.mark.parametrize(
    "names",
    [
        b"\x30\x04\xa3\x02\x05\x00",  # x400Address, which nobody reads
        b"\x30\x04\xa5\x02\x05\x00",  # ediPartyName
        b"\x05\x00",
        b"",
    ],
)
def test_a_certificate_with_names_of_odd_kinds_is_a_bad_one(names: bytes, tmp_path: Path) -> None:
    verdict = judged_as_authority(certificate(names), tmp_path)
    assert not verdict.good


def with_unknown_key() -> x509.Certificate:
    """Its key is of a kind that has no name: the object identifier of P-256 is another one now."""
    from cryptography.hazmat.primitives.serialization import Encoding

    der = certificate(dns_names(b"mx.example.org")).public_bytes(Encoding.DER)
    ec_public_key = bytes.fromhex("06072a8648ce3d0201")
    assert der.count(ec_public_key) == 1
    return x509.load_der_x509_certificate(
        der.replace(ec_public_key, bytes.fromhex("06072a8648ce3d027f"))
    )


def test_a_key_of_an_unknown_kind_matches_no_tlsa_record(tmp_path: Path) -> None:
    policy = dane(Tlsa(3, 1, 1, bytes(32)))
    verdict = judge(policy, [with_unknown_key()], NOW, Authorities(tmp_path / "none"))
    assert (verdict.good, verdict.result) == (False, "validation-failure")


def test_a_malformed_authority_in_the_dns_does_not_spoil_the_good_one(tmp_path: Path) -> None:
    good = record(2, CHAIN[1])
    policy = dane(*usable([Tlsa(2, 0, 0, b"no certificate"), good]))
    assert judge(policy, CHAIN, NOW, Authorities(tmp_path / "none")) == Verdict(True)


def test_what_cannot_be_read_of_one_host_lets_the_next_one_have_the_mail(tmp_path: Path) -> None:
    good = CARRIER_PKI.chain("mx2.example.org")
    for bad in (x509.InvalidVersion("v7", 7), x509.UnsupportedGeneralNameType("x", 3)):
        site = Site(
            {
                "192.0.2.1": Server(extensions=STARTTLS, chain=bad),
                "192.0.2.2": Server(extensions=STARTTLS, chain=good),
            },
            tmp_path,
            tls="verified",
        )
        assert site.open().peer.host == "mx2.example.org"


# -- addresses


def test_our_own_address_in_ipv6_clothes_is_ours() -> None:
    zone = {"example.org": {"MX": [(10, "mx.example.org")]}}
    mapped = Zone({**zone, "mx.example.org": {"AAAA": ["::ffff:203.0.113.9"]}})
    assert error_of(mapped, settings=OURS).enhanced == "5.4.6"
    error = error_of(Zone({}), domain="[IPv6:::ffff:cb00:7109]", settings=OURS)
    assert error.permanent


@pytest.mark.parametrize("address", ["::ffff:127.0.0.1", "::ffff:0.0.0.0", "::ffff:127.9.9.9"])
def test_loopback_in_ipv6_clothes_is_loopback(address: str) -> None:
    zone = Zone(
        {"example.org": {"MX": [(10, "mx.example.org")]}, "mx.example.org": {"AAAA": [address]}}
    )
    assert error_of(zone).permanent
    assert error_of(zone, domain=f"[IPv6:{address}]").permanent


def test_no_sender_of_a_literal_reaches_this_machine() -> None:
    """`loopback` is for what the resolver says; a literal is what anybody wrote, in a forged sender too."""
    settings = DeliverySettings("mail.ours.example", loopback=True)
    for literal in ("[127.0.0.1]", "[IPv6:::1]", "[IPv6:::ffff:127.0.0.1]"):
        assert error_of(Zone({}), domain=literal, settings=settings).enhanced == "5.4.6"


def test_multicast_in_ipv6_clothes_is_nobodys() -> None:
    zone = Zone({"mx.example.org": {"AAAA": ["::ffff:224.0.0.1", "2001:db8::1"]}})
    found = result_of(addresses_of(FakeResolver(zone), "mx.example.org", OURS))
    assert found.addresses == ("2001:db8::1",)


def test_of_thousands_of_mx_records_the_best_are_taken() -> None:
    records = [(50, f"bad{number}.example.org") for number in range(300)]
    zone = Zone({"example.org": {"MX": [*records, (1, "mx.example.org")]}, "mx.example.org": A})
    assert names_of(zone)[0] == ["mx.example.org"]


# -- passwords


def test_the_password_of_a_way_is_not_shown() -> None:
    way = Way("relay.example", TlsPolicy(Level.VERIFIED), username="u", password="hunter2")
    assert "hunter2" not in repr(way)


# -- MTA-STS over HTTPS


@pytest.fixture
def fetching(tmp_path: Path) -> Fetching:
    return Fetching(tmp_path)


HEADERS = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 1000) for number in range(5000))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" + HEADERS,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000 + http(),
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1;" + b"x" * 1000 + b"\r\nv\r\n" * 50_000,
    ],
)  # fmt: skip
def test_an_answer_without_end_is_cut(fetching: Fetching, answer: bytes) -> None:
    web = fetching.web(answer)
    before = fetching.world.now()
    error = fetching.error()
    assert fetching.world.now() - before < 5
    assert web.lost == 1
    assert len(str(error)) < 300


@pytest.mark.parametrize("answer", [b"\x1b[2J\x07 " * 1000 + b"\r\n\r\n", b"a b\rc\x85 d\r\n\r\n"])
def test_what_a_web_server_says_is_told_printable_and_short(
    fetching: Fetching, answer: bytes
) -> None:
    fetching.web(answer)
    text = str(fetching.error())
    assert text.isprintable()
    assert len(text) < 300


# -- threads of the resolver


class Threads:
    """In place of `threading.Thread`: none runs before `run`. `error`: none starts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.targets: list[Callable[[], None]] = []
        self.error: Exception | None = None
        monkeypatch.setattr("twisted_mail.dns.pool.threading.Thread", self)

    def __call__(self, *, target: Callable[[], None], name: str, daemon: bool) -> Threads:
        self._target = target
        return self

    def start(self) -> None:
        if self.error is not None:
            raise self.error
        self.targets.append(self._target)


def pool_of(size: int) -> Pool:
    return Pool(lambda fire, result: fire(result), size, idle=0.0)


def test_who_asks_starts_one_thread_and_that_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = Threads(monkeypatch)
    pool = pool_of(3)
    answers: list[Deferred[int]] = [pool.call(lambda one=one: one) for one in range(9)]  # type: ignore[misc]
    assert (len(threads.targets), pool.threads) == (1, 1)
    threads.targets.pop(0)()  # starts the next one, and does all the work
    assert len(threads.targets) == 1
    threads.targets.pop(0)()
    assert threads.targets == []
    assert [result_of(one) for one in answers] == list(range(9))
    assert pool.threads == 0


def test_no_more_threads_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = Threads(monkeypatch)
    pool = pool_of(2)
    for _ in range(9):
        pool.call(int)
    inside: list[Deferred[int]] = []

    def more() -> int:
        inside.append(pool.call(int))
        return 0

    pool.call(more)
    while threads.targets:
        threads.targets.pop(0)()
        assert pool.threads <= 2
    assert result_of(inside[0]) == 0


def test_a_system_without_threads_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = Threads(monkeypatch)
    threads.error = RuntimeError("can't start new thread")
    resolver = StubResolver(lambda kind, name: Answer(name), pool_of(3), Cache(lambda: 0.0))
    assert "no thread" in str(failure_of(resolver.mx("example.org"), DnsError))
    threads.error = None
    waiting = start(resolver.mx("example.com"))
    threads.targets.pop(0)()
    assert result_of(waiting).name == "example.com"
