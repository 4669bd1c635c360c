"""From a hop to a connection that may carry mail: which host, which TLS, and what is told when there is none."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from remote_fakes import (
    STARTTLS,
    FakeNetwork,
    Pki,
    Server,
    failure_of,
    job,
    result_of,
    self_signed,
    start,
)
from twisted.internet.defer import CancelledError

from twisted_mail.delivery.routes import Routes, make_route
from twisted_mail.queue.interfaces import DestinationError, Result
from twisted_mail.remote.carrier import RemoteCarrier
from twisted_mail.remote.courier import RemoteCourier
from twisted_mail.remote.mta_sts import Finding, Mode, StsPolicy
from twisted_mail.remote.settings import DeliverySettings, TlsRule
from twisted_mail.remote.tls_results import Failure, TlsCounter
from twisted_mail.smtp.client.interfaces import PeerReply
from twisted_mail.testing import simulated_world
from twisted_mail.testing.dns import FakeResolver, Zone

PKI = Pki()
GOOD = PKI.chain("mx1.example.org", "mx2.example.org", "relay.example")
SELF = self_signed("mx1.example.org")
START = 1_800_000_000.0
TLS = {**STARTTLS, "REQUIRETLS": ""}
MX1, MX1B, MX2, RELAY = "192.0.2.1", "192.0.2.11", "192.0.2.2", "192.0.2.3"


def zone_of(**named: Any) -> Zone:
    return Zone(
        {
            "example.org": {"MX": [(10, "mx1.example.org"), (20, "mx2.example.org")]},
            "mx1.example.org": {"A": [MX1]},
            "mx2.example.org": {"A": [MX2]},
            "relay.example": {"A": [RELAY], "MX": [(1, "mx1.example.org")]},
        },
        **named,
    )


class Policies:
    """MTA-STS as a test says."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        self.asked: list[str] = []

    async def of(self, domain: str) -> Finding:
        self.asked.append(domain)
        return self.finding


class Site:
    """A carrier in a scripted world."""

    def __init__(
        self,
        servers: dict[str, Server],
        tmp_path: Path,
        *,
        zone: Zone | None = None,
        routes: Routes | None = None,
        sts: Finding | None = None,
        **settings: Any,
    ) -> None:
        self.world = simulated_world(start=START)
        self.reactor: Any = self.world.reactor
        ca_file = tmp_path / "ca.pem"
        ca_file.write_bytes(PKI.root_pem)
        self.network = FakeNetwork(servers)
        self.resolver = FakeResolver(zone_of() if zone is None else zone)
        self.policies = Policies(sts or Finding(None))
        self.carrier = RemoteCarrier(
            self.world,
            self.resolver,
            routes or Routes(),
            DeliverySettings("mail.ours.example", ca_file=ca_file, **settings),
            policies=self.policies,
            connect=self.network,  # type: ignore[arg-type]
        )

    def open(self, hop: str = "example.org") -> RemoteCourier:
        return result_of(self.carrier.open(hop))

    def error(self, hop: str = "example.org") -> DestinationError:
        error = failure_of(self.carrier.open(hop), DestinationError)
        assert isinstance(error, DestinationError)
        assert all(not one.open for one in self.network.conversations)
        return error

    def results(self) -> dict[Any, Any]:
        counter = self.carrier.results
        assert isinstance(counter, TlsCounter)
        return {
            key: (one.successes, dict(one.failures))
            for key, one in counter.day(int(START) // 86400).items()
        }


# Which host


def test_the_first_host_that_talks(tmp_path: Path) -> None:
    site = Site({MX1: Server(), MX2: Server()}, tmp_path)
    courier = site.open()
    assert (courier.peer.host, courier.peer.address) == ("mx1.example.org", MX1)
    assert courier.usable and site.network.dialled == [MX1]
    assert site.network.dials[0] == {
        "host": MX1,
        "port": 25,
        "helo": "mail.ours.example",
        "name": "mx1.example.org",
        "lmtp": False,
        "source": "",
        "tls": None,
        "clear_login": False,
        "timeouts": None,
    }


@pytest.mark.parametrize(
    "first",
    [
        Server(refuses=True),
        Server(greeting=PeerReply(421, "4.3.2", "busy")),
        Server(greeting=PeerReply(554, "", "no SMTP here")),
        Server(greeting=PeerReply(521, "", "never")),
    ],
)
def test_the_next_host_when_one_does_not(tmp_path: Path, first: Server) -> None:
    site = Site({MX1: first, MX2: Server()}, tmp_path)
    assert site.open().peer.host == "mx2.example.org"
    assert site.network.dialled == [MX1, MX2]


def test_every_address_of_a_host_before_the_next_host(tmp_path: Path) -> None:
    zone = zone_of()
    zone["mx1.example.org"] = {"A": [MX1, MX1B, "192.0.2.12"]}
    busy = Server(greeting=PeerReply(421, "", "busy"))
    site = Site({MX1: busy, "192.0.2.12": busy, MX2: Server()}, tmp_path, zone=zone)
    assert site.open().peer.address == MX2
    assert site.network.dialled == [MX1, MX1B, "192.0.2.12", MX2]


def test_no_more_sessions_than_allowed(tmp_path: Path) -> None:
    zone = zone_of()
    addresses = [f"192.0.2.{n}" for n in range(20, 26)]
    zone["mx1.example.org"] = {"A": addresses}
    busy = Server(greeting=PeerReply(521, "", "never"))
    site = Site({**dict.fromkeys(addresses, busy), MX2: Server()}, tmp_path, zone=zone)
    error = site.error()
    assert len(site.network.dialled) == 5 and not error.permanent


def test_port_and_source(tmp_path: Path) -> None:
    zone = zone_of()
    zone["mx1.example.org"] = {"AAAA": ["2001:db8::1"]}
    site = Site(
        {MX2: Server()}, tmp_path, zone=zone, port=2525, source4="192.0.2.99", source6="2001:db8::9"
    )
    site.open()
    assert [(one["port"], one["source"]) for one in site.network.dials] == [
        (2525, "2001:db8::9"),
        (2525, "192.0.2.99"),
    ]


def test_a_silent_family_does_not_hold_up_the_other(tmp_path: Path) -> None:
    zone = zone_of()
    zone["mx1.example.org"] = {"AAAA": ["2001:db8::1"], "A": [MX1]}
    site = Site({"2001:db8::1": Server(silent=True), MX1: Server()}, tmp_path, zone=zone)
    opening = start(site.carrier.open("example.org"))
    site.reactor.advance(0.3)
    assert result_of(opening).peer.address == MX1
    assert site.network.cancelled == ["2001:db8::1"]


def test_cancelled_it_stops(tmp_path: Path) -> None:
    site = Site({MX1: Server(silent=True)}, tmp_path)
    opening = start(site.carrier.open("example.org"))
    opening.cancel()
    assert failure_of(opening, CancelledError)
    assert site.network.cancelled == [MX1] and site.reactor.getDelayedCalls() == []


def test_cancelled_while_it_talks_it_closes(tmp_path: Path) -> None:
    site = Site({MX1: Server(hangs=True)}, tmp_path)
    opening = start(site.carrier.open("example.org"))
    opening.cancel()
    assert failure_of(opening, CancelledError)
    assert not site.network.conversations[0].open


# What is told


def test_the_last_word_of_a_host_is_told(tmp_path: Path) -> None:
    said = PeerReply(554, "5.7.1", "your address is on a list")
    site = Site({MX1: Server(greeting=said), MX2: Server(refuses=True)}, tmp_path)
    error = site.error()
    assert (error.text, error.code, error.said) == ("your address is on a list", 554, True)
    assert (error.host, error.address) == ("mx1.example.org", MX1)
    # It is about us, and somebody may mend it
    assert not error.permanent and error.enhanced == "4.7.1"


def test_nobody_answers(tmp_path: Path) -> None:
    error = Site({}, tmp_path).error()
    assert (error.enhanced, error.permanent, error.said) == ("4.4.1", False, False)
    assert error.host == "mx2.example.org" and "mx2.example.org" in error.text


def test_all_say_never(tmp_path: Path) -> None:
    never = Server(greeting=PeerReply(521, "", "no mail here"))
    error = Site({MX1: never, MX2: never}, tmp_path).error()  # RFC 7504
    assert (error.permanent, error.code, error.enhanced) == (True, 521, "5.3.2")
    error = Site({MX1: never}, tmp_path).error()
    assert not error.permanent and error.enhanced == "4.3.2"


def test_never_is_not_said_for_a_host_that_was_not_found(tmp_path: Path) -> None:
    never = Server(greeting=PeerReply(521, "", "no mail here"))
    zone = zone_of(failing=["mx1.example.org"])
    assert not Site({MX2: never}, tmp_path, zone=zone).error().permanent
    servers = {f"192.0.2.{n + 100}": never for n in range(9)}
    for preference in (0, 1):
        many = Zone(
            {"example.org": {"MX": [(n * preference, f"mx{n}.example.org") for n in range(9)]}}
        )
        for n in range(9):
            many[f"mx{n}.example.org"] = {"A": [f"192.0.2.{n + 100}"]}
        assert not Site(servers, tmp_path, zone=many, max_sessions=100).error().permanent


def test_dns_errors_come_out(tmp_path: Path) -> None:
    site = Site({}, tmp_path, zone=Zone({"null.example": {"MX": [(0, "")]}}))
    assert site.error("null.example").code == 556
    assert site.error("gone.example").enhanced == "5.1.2"


# TLS


def test_opportunistic_takes_any_certificate(tmp_path: Path) -> None:
    site = Site({MX1: Server(extensions=TLS, chain=[SELF])}, tmp_path)
    assert site.open().peer.tls == "TLSv1.3 AES"
    assert site.network.log == ["hello", "starttls", "hello"]
    assert site.results() == {("example.org", "no-policy-found"): (1, {})}


def test_opportunistic_goes_in_clear_where_there_is_none(tmp_path: Path) -> None:
    site = Site({MX1: Server()}, tmp_path)
    assert site.open().peer.tls == "" and site.network.log == ["hello"]
    assert site.results() == {
        ("example.org", "no-policy-found"): (
            0,
            {Failure("starttls-not-supported", "mx1.example.org", MX1): 1},
        )
    }


def test_opportunistic_goes_in_clear_when_it_is_refused(tmp_path: Path) -> None:
    refusing = Server(extensions=TLS, starttls=PeerReply(454, "4.7.0", "not now"))
    site = Site({MX1: refusing}, tmp_path)
    assert site.open().peer.tls == "" and len(site.network.dialled) == 1


def test_opportunistic_tries_again_in_clear_when_the_handshake_breaks(tmp_path: Path) -> None:
    site = Site({MX1: Server(extensions=TLS, handshake=False)}, tmp_path)
    assert site.open().peer.tls == ""
    assert site.network.dialled == [MX1, MX1]
    assert site.network.log == ["hello", "starttls", "hello"]


def test_none_does_not_ask(tmp_path: Path) -> None:
    rules = (TlsRule("example.org", "none"),)
    sts = Finding(StsPolicy(Mode.ENFORCE, ("x.example",), 100))
    site = Site({MX1: Server(extensions=TLS)}, tmp_path, tls_rules=rules, sts=sts)
    assert site.open().peer.tls == "" and site.network.log == ["hello"]
    assert site.policies.asked == []


MANDATORY = {
    "none offered": (Server(), "4.7.4"),
    "refused": (Server(extensions=TLS, starttls=PeerReply(454, "", "not now")), "4.7.5"),
    "broken": (Server(extensions=TLS, handshake=False), "4.7.5"),
}


@pytest.mark.parametrize("case", MANDATORY)
@pytest.mark.parametrize("tls", ["required", "verified"])
def test_mandatory_never_goes_in_clear(tmp_path: Path, case: str, tls: Any) -> None:
    server, enhanced = MANDATORY[case]
    site = Site({MX1: server, MX2: server}, tmp_path, tls=tls)
    error = site.error()
    assert (error.enhanced, error.permanent) == (enhanced, False)
    assert error.host in error.text and site.network.dialled == [MX1, MX2]


def test_required_takes_any_certificate(tmp_path: Path) -> None:
    site = Site({MX1: Server(extensions=TLS, chain=[SELF])}, tmp_path, tls="required")
    assert site.open().peer.tls == "TLSv1.3 AES"


def test_verified(tmp_path: Path) -> None:
    servers = {MX1: Server(extensions=TLS, chain=[SELF]), MX2: Server(extensions=TLS, chain=GOOD)}
    site = Site(servers, tmp_path, tls="verified")
    courier = site.open()
    assert courier.peer.host == "mx2.example.org" and courier.peer.tls.endswith(" verified")
    error = Site({MX1: servers[MX1]}, tmp_path, tls="verified").error()
    assert error.enhanced == "4.7.5" and "mx1.example.org is not trusted" in error.text


@pytest.mark.parametrize("chain", [(), ValueError("not to be parsed")])
def test_a_certificate_that_cannot_be_seen_proves_nothing(tmp_path: Path, chain: Any) -> None:
    site = Site({MX1: Server(extensions=TLS, chain=chain)}, tmp_path, tls="verified")
    assert site.error().enhanced == "4.7.5"


def test_a_missing_file_of_authorities_is_our_mistake(tmp_path: Path) -> None:
    site = Site({MX1: Server(extensions=TLS, chain=GOOD)}, tmp_path, tls="verified")
    (tmp_path / "ca.pem").unlink()
    error = site.error()
    assert not error.permanent and error.enhanced[0] == "4"


# DANE


def tlsa_of(certificate: Any) -> tuple[int, int, int, bytes]:
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return (3, 1, 1, hashlib.sha256(key).digest())


def dane_zone(**named: Any) -> Zone:
    zone = zone_of(secure=[""], **named)
    zone["_25._tcp.mx1.example.org"] = {"TLSA": [tlsa_of(SELF)]}
    return zone


def test_dane(tmp_path: Path) -> None:
    site = Site({MX1: Server(extensions=TLS, chain=[SELF])}, tmp_path, zone=dane_zone())
    assert site.open().peer.tls.endswith(" dane")
    assert site.results() == {("example.org", "tlsa"): (1, {})}


def test_dane_wants_that_certificate_and_tls(tmp_path: Path) -> None:
    for server in (Server(extensions=TLS, chain=GOOD), Server()):
        site = Site({MX1: server}, tmp_path, zone=dane_zone())
        assert ".7." in site.error().enhanced


def test_a_failed_tlsa_look_up_passes_the_host_over(tmp_path: Path) -> None:
    zone = dane_zone(failing=["_25._tcp.mx1.example.org"])
    site = Site({MX1: Server(), MX2: Server()}, tmp_path, zone=zone)
    assert site.open().peer.host == "mx2.example.org"
    assert MX1 not in site.network.dialled
    assert ("example.org", "tlsa") in site.results()


def test_dane_needs_a_secure_mx(tmp_path: Path) -> None:
    zone = dane_zone(insecure=["example.org"])
    zone.secure.add("mx1.example.org")
    zone.secure.add("_25._tcp.mx1.example.org")
    site = Site({MX1: Server()}, tmp_path, zone=zone)
    assert site.open().peer.tls == ""
    assert "TLSA" not in {kind for kind, _ in site.resolver.questions}


def test_dane_may_be_switched_off(tmp_path: Path) -> None:
    site = Site({MX1: Server()}, tmp_path, zone=dane_zone(), dane=False)
    assert site.open().peer.tls == ""


# MTA-STS

ENFORCE = Finding(StsPolicy(Mode.ENFORCE, ("mx2.example.org",), 86400))


def test_sts_passes_over_what_it_does_not_name(tmp_path: Path) -> None:
    servers = {MX1: Server(), MX2: Server(extensions=TLS, chain=GOOD)}
    site = Site(servers, tmp_path, sts=ENFORCE)
    assert site.open().peer.host == "mx2.example.org"
    assert MX1 not in site.network.dialled
    assert site.results() == {
        ("example.org", "sts"): (1, {Failure("validation-failure", "mx1.example.org"): 1})
    }


def test_sts_that_nobody_fulfils(tmp_path: Path) -> None:
    site = Site({MX1: Server(), MX2: Server(extensions=TLS, chain=[SELF])}, tmp_path, sts=ENFORCE)
    error = site.error()
    assert error.host == "mx2.example.org" and not error.permanent


def test_sts_being_tried_changes_nothing_but_is_noted(tmp_path: Path) -> None:
    sts = Finding(StsPolicy(Mode.TESTING, ("mx1.example.org",), 86400))
    site = Site({MX1: Server(extensions=TLS, chain=[SELF])}, tmp_path, sts=sts)
    site.open()
    failure = Failure("certificate-not-trusted", "mx1.example.org", MX1)
    assert site.results() == {("example.org", "sts"): (0, {failure: 1})}
    site = Site({MX1: Server(extensions=TLS, chain=GOOD)}, tmp_path, sts=sts)
    site.open()
    assert site.results() == {("example.org", "sts"): (1, {})}


@pytest.mark.parametrize(
    "more",
    [
        {"sts": ENFORCE},
        {"zone": "dane"},
        {"tls": "required"},
        {"tls": "verified"},
    ],
)
def test_a_report_about_tls_gets_there_despite_all_policies_and_is_in_none(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    """RFC 8460 section 3."""
    if "zone" in more:
        more = {"zone": dane_zone()}
    for server, encrypted in ((Server(), False), (Server(extensions=TLS, chain=[SELF]), True)):
        site = Site({MX1: server, MX2: Server(refuses=True)}, tmp_path, **more)
        if not encrypted:
            site.error()
        before = site.results()
        courier = site.open("example.org#any-tls")
        assert courier.peer.host == "mx1.example.org"
        assert bool(courier.peer.tls) is encrypted
        assert site.results() == before


def test_a_policy_that_cannot_be_had_is_noted(tmp_path: Path) -> None:
    site = Site({MX1: Server()}, tmp_path, sts=Finding(None, "sts-policy-fetch-error"))
    site.open()
    assert site.results()[("example.org", "sts")] == (0, {Failure("sts-policy-fetch-error"): 1})


def test_literals_have_no_policy(tmp_path: Path) -> None:
    site = Site({MX1: Server()}, tmp_path)
    site.open(f"[{MX1}]")
    assert site.policies.asked == []


# REQUIRETLS

PLAIN_STS = Finding(StsPolicy(Mode.ENFORCE, ("*.example.org",), 86400))


def test_requiretls(tmp_path: Path) -> None:
    site = Site({MX1: Server(extensions=TLS, chain=GOOD)}, tmp_path, sts=PLAIN_STS)
    assert site.open("example.org#requiretls").peer.tls.endswith(" verified")
    site = Site({MX1: Server(extensions=TLS, chain=[SELF])}, tmp_path, zone=dane_zone())
    assert site.open("example.org#requiretls").peer.tls.endswith(" dane")


def test_requiretls_that_nobody_offers(tmp_path: Path) -> None:
    server = Server(extensions=STARTTLS, chain=GOOD)
    site = Site({MX1: server, MX2: server}, tmp_path, sts=PLAIN_STS)
    error = site.error("example.org#requiretls")
    assert (error.permanent, error.enhanced) == (True, "5.7.30")
    assert site.network.dialled == [MX1, MX2]


def test_requiretls_waits_for_the_host_that_is_down(tmp_path: Path) -> None:
    site = Site({MX1: Server(extensions=STARTTLS, chain=GOOD)}, tmp_path, sts=PLAIN_STS)
    error = site.error("example.org#requiretls")
    assert (error.permanent, error.enhanced) == (False, "4.7.30")


def test_requiretls_where_nobody_vouches_for_the_mx(tmp_path: Path) -> None:
    site = Site({MX1: Server(extensions=TLS, chain=GOOD)}, tmp_path)
    error = site.error("example.org#requiretls")
    assert (error.permanent, error.enhanced) == (True, "5.7.10")
    assert site.network.dialled == []


# Routes


def route(via: str, **named: Any) -> Routes:
    return Routes([make_route("*", via, **named)])


def test_a_smarthost_with_login(tmp_path: Path) -> None:
    via = "smtp://relay.example:587"
    server = Server(extensions=TLS, chain=GOOD)
    site = Site({RELAY: server}, tmp_path, routes=route(via, username="u", password="p"))
    courier = site.open(via)
    assert courier.peer.tls.endswith(" verified")
    assert site.network.log == ["hello", "starttls", "hello", "login u p"]
    assert site.network.dials[0]["port"] == 587 and not site.network.dials[0]["clear_login"]
    assert ("MX", "relay.example") not in site.resolver.questions
    assert site.policies.asked == [] and site.results() == {}


def test_a_password_is_not_sent_to_a_stranger(tmp_path: Path) -> None:
    via = "smtp://relay.example:587"
    site = Site(
        {RELAY: Server(extensions=TLS, chain=[SELF])},
        tmp_path,
        routes=route(via, username="u", password="p"),
    )
    assert site.error(via).enhanced == "4.7.5"
    assert not any("login" in one for one in site.network.log)


def test_a_login_that_is_refused_is_temporary(tmp_path: Path) -> None:
    via = "smtp://relay.example:587"
    server = Server(extensions=TLS, chain=GOOD, login=PeerReply(535, "5.7.8", "wrong"))
    site = Site({RELAY: server}, tmp_path, routes=route(via, username="u", password="p"))
    error = site.error(via)
    assert (error.permanent, error.enhanced, error.text) == (False, "4.7.8", "wrong")


def test_smtps(tmp_path: Path) -> None:
    via = "smtps://relay.example"
    site = Site({RELAY: Server(chain=GOOD)}, tmp_path, routes=route(via))
    assert site.open(via).peer.tls.endswith(" verified")
    assert site.network.dials[0]["tls"] is not None and site.network.log == ["hello"]
    site = Site({RELAY: Server(chain=[SELF])}, tmp_path, routes=route(via))
    assert site.error(via).enhanced == "4.7.5" and "hello" not in site.network.log


def test_dane_for_a_route(tmp_path: Path) -> None:
    zone = zone_of(secure=[""])
    zone["_587._tcp.relay.example"] = {"TLSA": [tlsa_of(SELF)]}
    via = "smtp://relay.example:587"
    site = Site(
        {RELAY: Server(extensions=TLS, chain=[SELF])}, tmp_path, zone=zone, routes=route(via)
    )
    assert site.open(via).peer.tls.endswith(" dane")


def test_a_route_with_requiretls(tmp_path: Path) -> None:
    via = "smtp://relay.example:587"
    site = Site({RELAY: Server(extensions=TLS, chain=GOOD)}, tmp_path, routes=route(via))
    assert site.open(via + "#requiretls").peer.tls.endswith(" verified")
    site = Site({RELAY: Server(extensions=TLS)}, tmp_path, routes=route(via, tls="none"))
    error = site.error(via + "#requiretls")
    assert (error.permanent, error.enhanced) == (True, "5.7.10")


@pytest.mark.parametrize(
    ("via", "address", "port"),
    [
        ("lmtp://127.0.0.1:24", "127.0.0.1", 24),
        ("lmtp:/run/dovecot/lmtp", "/run/dovecot/lmtp", 0),
    ],
)
def test_lmtp(tmp_path: Path, via: str, address: str, port: int) -> None:
    site = Site({address: Server()}, tmp_path, routes=route(via), source4="192.0.2.99")
    courier = site.open(via)
    assert courier.peer.lmtp and courier.peer.address == address
    dial = site.network.dials[0]
    assert (dial["host"], dial["port"], dial["lmtp"]) == (address, port, True)
    assert (dial["source"] == "") == address.startswith("/")


def test_lmtp_that_does_not_answer(tmp_path: Path) -> None:
    via = "lmtp:/run/dovecot/lmtp"
    error = Site({}, tmp_path, routes=route(via)).error(via)
    assert not error.permanent and "/run/dovecot/lmtp" in error.text


def test_a_route_that_says_fail(tmp_path: Path) -> None:
    via = "fail: not from here"
    error = Site({}, tmp_path, routes=route(via)).error(via)
    assert (error.permanent, error.text) == (True, "not from here")


def test_a_route_that_is_no_more(tmp_path: Path) -> None:
    error = Site({}, tmp_path).error("smtp://old.example:25")
    assert not error.permanent


def test_a_relay_whose_name_is_unknown(tmp_path: Path) -> None:
    via = "smtp://gone.example:25"
    assert not Site({}, tmp_path, routes=route(via)).error(via).permanent


# In the end


def test_it_carries(tmp_path: Path) -> None:
    site = Site({MX1: Server(extensions=TLS)}, tmp_path)
    courier = site.open()
    (outcome,) = result_of(courier.deliver(job("bob@example.org")))
    assert outcome.result is Result.DELIVERED
    assert (outcome.host, outcome.address, outcome.tls) == ("mx1.example.org", MX1, "TLSv1.3 AES")
