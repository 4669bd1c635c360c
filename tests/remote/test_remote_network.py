"""The carrier with the real client, real TLS and a simulated network between machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from remote_fakes import Pki, job
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver
from zope.interface import implementer

from twisted_mail.delivery.routes import Routes, make_route
from twisted_mail.queue.interfaces import DestinationError, Outcome, Result
from twisted_mail.remote.carrier import RemoteCarrier
from twisted_mail.remote.settings import DeliverySettings
from twisted_mail.smtp.client.interfaces import Timeouts
from twisted_mail.storage.queued import Options
from twisted_mail.testing import simulated_world
from twisted_mail.testing.dns import FakeResolver, Zone
from twisted_mail.testing.world import SimulatedWorld

PKI = Pki()
MX1, MX1SIX, MX2 = "192.0.2.21", "2001:db8::21", "192.0.2.22"


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """A server's TLS with a certificate for `names`; `asked`: the names that clients ask for."""

    def __init__(self, *names: str, broken: bool = False) -> None:
        self.asked: list[bytes | None] = []
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        leaf = PKI.middle.issue_cert(*names)
        leaf.configure_cert(self._context)
        if broken:  # it speaks nothing that we do
            self._context.set_max_proto_version(SSL.TLS1_1_VERSION)
            self._context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
        self._context.set_tlsext_servername_callback(
            lambda connection: self.asked.append(connection.get_servername())
        )

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        return SSL.Connection(self._context, None)


class Server(LineReceiver):
    """A mail server of the simplest kind."""

    factory: Any

    def connectionMade(self) -> None:
        self.data: list[bytes] | None = None
        self.secured = False
        self.lmtp = 0
        if self.factory.implicit:
            self.secured = True
            self.transport.startTLS(self.factory.tls, True)
        self.say(self.factory.greeting)

    def say(self, *lines: str) -> None:
        for line in lines:
            self.sendLine(line.encode())

    def lineReceived(self, line: bytes) -> None:
        if self.data is not None:
            if line != b".":
                self.data.append(line)
                return
            self.factory.messages.append((self.secured, b"\n".join(self.data)))
            self.data = None
            self.say(*["250 2.0.0 taken"] * (self.lmtp or 1))
            return
        verb = line.split(b" ")[0].split(b":")[0].upper()
        self.factory.commands.append(line)
        if verb in (b"EHLO", b"LHLO"):
            words = ["ours", "PIPELINING", *self.factory.extensions]
            if self.factory.tls is not None and not self.secured:
                words.append("STARTTLS")
            self.say(*(f"250{'-' if n < len(words) else ' '}{w}" for n, w in enumerate(words, 1)))
        elif verb == b"STARTTLS":
            self.say("220 go")
            self.secured = True
            self.transport.startTLS(self.factory.tls, True)
        elif verb == b"DATA":
            self.data = []
            self.say("354 go on")
        elif verb == b"QUIT":
            self.say("221 bye")
            self.transport.loseConnection()
        else:
            if verb == b"RCPT" and self.factory.lmtp:
                self.lmtp += 1
            self.say("250 2.0.0 fine")


class Machine(Factory):
    """A server on a machine of its own."""

    protocol = Server
    noisy = False

    def __init__(
        self,
        world: SimulatedWorld,
        *addresses: str,
        port: int | str = 25,
        tls: ServerTls | None = None,
        implicit: bool = False,
        lmtp: bool = False,
        greeting: str = "220 here",
        extensions: tuple[str, ...] = (),
    ) -> None:
        self.tls = tls
        self.implicit = implicit
        self.lmtp = lmtp
        self.greeting = greeting
        self.extensions = extensions
        self.commands: list[bytes] = []
        self.messages: list[tuple[bool, bytes]] = []
        if isinstance(port, str):
            world.reactor.listenUNIX(port, self)
        else:
            self.world = world.at(*addresses)
            for address in addresses:
                self.world.reactor.listenTCP(port, self, interface=address)


class Ours:
    """A carrier on the test's own machine."""

    def __init__(self, tmp_path: Path) -> None:
        self.world = simulated_world()
        self.zone = Zone(
            {
                "example.org": {"MX": [(10, "mx1.example.org"), (20, "mx2.example.org")]},
                "mx1.example.org": {"A": [MX1]},
                "mx2.example.org": {"A": [MX2]},
            }
        )
        self.ca_file = tmp_path / "ca.pem"
        self.ca_file.write_bytes(PKI.root_pem)

    def deliver(
        self,
        hop: str = "example.org",
        *,
        routes: Routes | None = None,
        options: Options | None = None,
        content: bytes = b"Subject: x\n\nhello\n",
        usable: bool = True,
        **settings: Any,
    ) -> Outcome:
        carrier = RemoteCarrier(
            self.world,
            FakeResolver(self.zone),
            routes or Routes(),
            DeliverySettings("mail.ours.example", ca_file=self.ca_file, **settings),
            timeouts=Timeouts(),
        )

        async def work() -> Outcome:
            courier = await carrier.open(hop)
            (outcome,) = await courier.deliver(
                job("bob@example.org", options=options, content=content)
            )
            assert courier.usable or not usable
            await courier.close()
            return outcome

        return self.world.run(work())

    def refused(self, hop: str = "example.org", **named: Any) -> DestinationError:
        with pytest.raises(DestinationError) as caught:
            self.deliver(hop, **named)
        return caught.value


@pytest.fixture
def ours(tmp_path: Path) -> Ours:
    return Ours(tmp_path)


def test_in_clear(ours: Ours) -> None:
    mx = Machine(ours.world, MX1)
    outcome = ours.deliver()
    assert outcome.result is Result.DELIVERED and outcome.text == "taken"
    assert (outcome.host, outcome.address, outcome.tls) == ("mx1.example.org", MX1, "")
    assert mx.messages == [(False, b"Subject: x\n\nhello")]
    assert mx.commands[0] == b"EHLO mail.ours.example" and mx.commands[-1] == b"QUIT"


def test_opportunistic(ours: Ours) -> None:
    mx = Machine(ours.world, MX1, tls=ServerTls("something.else"))
    outcome = ours.deliver()
    assert outcome.tls.startswith("TLSv1.3 ") and "verified" not in outcome.tls
    assert mx.messages[0][0] and mx.tls is not None and mx.tls.asked == [b"mx1.example.org"]


def test_a_handshake_that_fails_and_then_clear(ours: Ours) -> None:
    mx = Machine(ours.world, MX1, tls=ServerTls("mx1.example.org", broken=True))
    assert ours.deliver().tls == ""
    assert mx.messages == [(False, b"Subject: x\n\nhello")]


def test_verified_passes_over_the_wrong_certificate(ours: Ours) -> None:
    wrong = Machine(ours.world, MX1, tls=ServerTls("other.example"))
    right = Machine(ours.world, MX2, tls=ServerTls("mx2.example.org"))
    outcome = ours.deliver(tls="verified")
    assert outcome.host == "mx2.example.org" and outcome.tls.endswith(" verified")
    assert wrong.messages == [] and len(right.messages) == 1
    assert wrong.commands[-1] == b"QUIT"  # we are polite


def test_no_handshake_no_mail_when_it_is_required(ours: Ours) -> None:
    mx = Machine(ours.world, MX1, tls=ServerTls("mx1.example.org", broken=True))
    error = ours.refused(tls="required")
    assert error.enhanced == "4.7.5" and mx.messages == []


def test_dane(ours: Ours) -> None:
    tls = ServerTls("mx1.example.org")
    Machine(ours.world, MX1, tls=tls)
    ours.zone.secure.add("")
    from test_judge import record

    root = PKI.root_certificate
    ours.zone["_25._tcp.mx1.example.org"] = {"TLSA": [tuple(record(2, root, 0, 0))]}
    assert ours.deliver().tls.endswith(" dane")
    ours.zone["_25._tcp.mx1.example.org"] = {"TLSA": [(3, 1, 1, bytes(32))]}
    assert ours.refused().enhanced == "4.7.5"


def test_the_second_host_when_the_first_is_down_or_busy(ours: Ours) -> None:
    busy = Machine(ours.world, MX1, greeting="421 4.3.2 busy")
    Machine(ours.world, MX2)
    assert ours.deliver().host == "mx2.example.org"
    busy.world.kill()
    assert ours.deliver().host == "mx2.example.org"


def test_a_host_that_accepts_and_says_nothing(ours: Ours) -> None:
    Machine(ours.world, MX1)
    Machine(ours.world, MX2)
    ours.world.network.host(MX1).mute = True
    began = ours.world.now()
    assert ours.deliver().host == "mx2.example.org"
    assert ours.world.now() - began <= 301  # RFC 5321 section 4.5.3.2.1


def test_a_black_hole_in_one_family(ours: Ours) -> None:
    ours.zone["mx1.example.org"] = {"A": [MX1], "AAAA": [MX1SIX]}
    Machine(ours.world, MX1, MX1SIX)
    ours.world.network.host(MX1SIX).silent = True
    began = ours.world.now()
    assert ours.deliver().address == MX1
    assert ours.world.now() - began < 1


@pytest.mark.parametrize("after", range(0, 400, 23))
def test_a_connection_that_breaks_anywhere(ours: Ours, after: int) -> None:
    """Deferred, or gone on without harm: never delivered by halves, never failed for ever."""
    mx = Machine(ours.world, MX1)
    ours.world.network.host(MX1).cut_after = after
    try:
        carrier_outcome = ours.deliver(usable=False)
    except DestinationError as error:
        assert not error.permanent and mx.messages == []
    else:
        assert carrier_outcome.result in (Result.DEFERRED, Result.DELIVERED)


def test_nobody_listens(ours: Ours) -> None:
    ours.world.at(MX1)
    ours.world.at(MX2)
    error = ours.refused()
    assert (error.permanent, error.enhanced) == (False, "4.4.1")
    assert "mx2.example.org" in error.text and error.address == MX2


def test_both_families(ours: Ours) -> None:
    ours.zone["mx1.example.org"] = {"A": [MX1], "AAAA": [MX1SIX]}
    Machine(ours.world, MX1, MX1SIX)
    assert ours.deliver().address == MX1SIX
    assert ours.deliver(families="ipv4").address == MX1


def test_smtps(ours: Ours) -> None:
    ours.zone["relay.example"] = {"A": [MX1]}
    relay = Machine(ours.world, MX1, port=465, tls=ServerTls("relay.example"), implicit=True)
    routes = Routes([make_route("*", "smtps://relay.example")])
    outcome = ours.deliver("smtps://relay.example", routes=routes)
    assert outcome.tls.endswith(" verified") and relay.messages[0][0]


@pytest.mark.parametrize("via", ["lmtp:/run/lmtp", f"lmtp://{MX1}:24"])
def test_lmtp(ours: Ours, via: str) -> None:
    port: int | str = "/run/lmtp" if "/run" in via else 24
    server = Machine(ours.world, MX1, port=port, lmtp=True)
    routes = Routes([make_route("*", via)])
    assert ours.deliver(via, routes=routes).result is Result.DELIVERED
    assert server.commands[0] == b"LHLO mail.ours.example"


def test_requiretls(ours: Ours) -> None:
    ours.zone.secure.add("")
    mx = Machine(ours.world, MX1, tls=ServerTls("mx1.example.org"), extensions=("REQUIRETLS",))
    ours.deliver("example.org#requiretls", options=Options(requiretls=True))
    assert any(one.startswith(b"MAIL") and b" REQUIRETLS" in one for one in mx.commands)
    mx.extensions = ()
    error = ours.refused("example.org#requiretls", options=Options(requiretls=True))
    assert not error.permanent and error.enhanced == "4.7.30"  # the second host is down


def test_eight_bit_is_converted(ours: Ours) -> None:
    mx = Machine(ours.world, MX1)
    content = (
        b"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
        b"Content-Transfer-Encoding: 8bit\n\n" + "grün\n".encode()
    )
    ours.deliver(content=content, options=Options(eight_bit=True))
    assert mx.messages[0][1].isascii()
    mx.extensions = ("8BITMIME",)
    ours.deliver(content=content, options=Options(eight_bit=True))
    assert "grün".encode() in mx.messages[1][1]
