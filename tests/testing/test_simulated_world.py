"""The simulated world keeps its promises: order, time, real TLS, a slow reader, a cut cable."""

from __future__ import annotations

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.error import CannotListenError, ConnectionAborted, ConnectionDone
from twisted.internet.error import ConnectionLost as Lost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions

from twisted_mail.testing import simulated_world

NOW = 1_800_000_000.0


class Echo(Protocol):
    """Says back what it hears; ``TLS`` starts TLS, ``BYE`` closes."""

    context = None
    lost = None

    def dataReceived(self, data):
        if data == b"TLS":
            self.transport.write(b"go")
            self.transport.startTLS(self.context)
        elif data == b"BYE":
            self.transport.write(b"bye")
            self.transport.loseConnection()
        else:
            self.transport.write(data)

    def connectionLost(self, reason):
        self.lost = reason.value


class Echoes(Factory):
    def __init__(self, context=None):
        self.context = context
        self.made = []

    def buildProtocol(self, address):
        protocol = Echo()
        protocol.context = self.context
        self.made.append(protocol)
        return protocol


def test_time_stands_still_until_told():
    world = simulated_world(start=NOW)
    rang = []
    world.reactor.callLater(86400, rang.append, "a day")
    assert world.now() == NOW
    world.reactor.advance(86399)
    assert rang == []
    world.reactor.advance(1)
    assert rang == ["a day"]
    assert world.now() == NOW + 86400


def test_randomness_is_that_of_the_seed():
    first, again, other = (simulated_world(seed=n).entropy(16) for n in (1, 1, 2))
    assert first == again != other


def test_thread_work_runs_on_the_next_turn_and_in_order():
    world = simulated_world()
    done = []
    lane = world.threads.lane("writer")
    lane.submit(lambda: done.append("lane 1"))
    lane.submit(lambda: done.append("lane 2"))
    world.threads.call(lambda: 6 * 7).addCallback(done.append)
    world.threads.back(done.append, "back")
    assert done == []
    world.reactor.settle()
    assert done == ["lane 1", "lane 2", 42, "back"]


def test_a_lane_that_stops_runs_what_it_was_given():
    world = simulated_world()
    done = []
    lane = world.threads.lane("writer")
    lane.submit(lambda: done.append("work"))
    lane.stop()
    assert done == ["work"]


def test_failing_thread_work_fails_its_deferred():
    world = simulated_world()
    failures = []
    world.threads.call(int, "seven").addErrback(failures.append)
    world.reactor.settle()
    assert failures[0].check(ValueError)


def test_a_connection_carries_bytes_both_ways():
    world = simulated_world()
    port = world.reactor.listenTCP(0, Echoes(), interface="127.0.0.1")
    client = world.reactor.connect(port.getHost().port)
    assert client.ask(b"hello") == b"hello"
    assert client.read() == b""


def test_both_ends_know_each_other():
    world = simulated_world()
    factory = Echoes()
    client = world.reactor.connect(factory, address="2001:db8::7")
    assert factory.made[0].transport.getPeer().host == "2001:db8::7"
    assert client.transport.getHost().host == "2001:db8::7"


def test_ports_are_taken_and_given_back():
    world = simulated_world()
    port = world.reactor.listenTCP(25, Echoes())
    with pytest.raises(CannotListenError):
        world.reactor.listenTCP(25, Echoes())
    port.stopListening()
    with pytest.raises(ConnectionRefusedError):
        world.reactor.connect(25)


def test_what_was_written_arrives_before_the_end():
    world = simulated_world()
    factory = Echoes()
    client = world.reactor.connect(factory)
    assert client.ask(b"BYE") == b"bye"
    assert isinstance(client.closed, ConnectionDone)
    assert isinstance(factory.made[0].lost, ConnectionDone)


def test_an_orderly_end_from_the_client():
    world = simulated_world()
    factory = Echoes()
    world.reactor.connect(factory).close()
    assert isinstance(factory.made[0].lost, ConnectionDone)


def test_a_cut_cable():
    world = simulated_world()
    factory = Echoes()
    client = world.reactor.connect(factory)
    client.abort()
    assert isinstance(factory.made[0].lost, Lost)
    assert isinstance(client.closed, ConnectionAborted)


class Flood:
    """A push producer of as much as is wanted."""

    def __init__(self, transport):
        self.transport = transport
        self.written = 0
        self.stopped = False
        self.paused = False

    def resumeProducing(self):
        self.paused = False
        while not self.paused and not self.stopped and self.written < 1 << 20:
            self.transport.write(bytes(1 << 14))
            self.written += 1 << 14
        if self.written == 1 << 20:
            self.transport.unregisterProducer()

    def pauseProducing(self):
        self.paused = True

    def stopProducing(self):
        self.stopped = True


def test_a_slow_reader_pauses_the_writer():
    world = simulated_world()
    factory = Echoes()
    client = world.reactor.connect(factory)
    client.stop_reading()
    flood = Flood(factory.made[0].transport)
    factory.made[0].transport.registerProducer(flood, True)
    flood.resumeProducing()
    world.reactor.settle()
    assert flood.written == 1 << 16
    client.go_on_reading()
    assert len(client.read()) == 1 << 20


def test_a_lost_connection_stops_the_producer():
    world = simulated_world()
    factory = Echoes()
    client = world.reactor.connect(factory)
    client.stop_reading()
    flood = Flood(factory.made[0].transport)
    factory.made[0].transport.registerProducer(flood, True)
    flood.resumeProducing()
    client.abort()
    assert flood.stopped


class Pull:
    """A pull producer of three words."""

    def __init__(self, transport):
        self.transport = transport
        self.words = [b"one ", b"two ", b"three"]

    def resumeProducing(self):
        self.transport.write(self.words.pop(0))
        if not self.words:
            self.transport.unregisterProducer()

    def stopProducing(self):
        self.words.clear()


def test_a_pull_producer_is_asked_again_and_again():
    world = simulated_world()
    factory = Echoes()
    client = world.reactor.connect(factory)
    transport = factory.made[0].transport
    transport.registerProducer(Pull(transport), False)
    assert client.read() == b"one two three"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def _context(authority, name):
    leaf = authority.issue_cert(name)
    return CertificateOptions(
        privateKey=load_pem_private_key(leaf.private_key_pem.bytes(), None),
        certificate=load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()),
    )


def test_tls_is_real(authority):
    world = simulated_world()
    factory = Echoes(_context(authority, "mail.example.org"))
    client = world.reactor.connect(factory)
    assert client.cipher is None
    assert client.ask(b"TLS") == b"go"
    client.start_tls(authority.cert_pem.bytes(), "mail.example.org")
    assert client.cipher.startswith("TLS_")
    assert client.ask(b"secret") == b"secret"
    assert factory.made[0].transport.getHandle().get_protocol_version_name() == "TLSv1.3"
    client.close()
    assert isinstance(factory.made[0].lost, ConnectionDone)


def test_tls_by_another_name_is_refused(authority):
    world = simulated_world()
    client = world.reactor.connect(Echoes(_context(authority, "mail.example.org")))
    client.ask(b"TLS")
    client.start_tls(authority.cert_pem.bytes(), "other.example.org")
    assert isinstance(client.closed, VerificationError)


def test_tls_of_another_authority_is_refused(authority):
    world = simulated_world()
    client = world.reactor.connect(Echoes(_context(authority, "mail.example.org")))
    client.ask(b"TLS")
    client.start_tls(trustme.CA().cert_pem.bytes(), "mail.example.org")
    assert isinstance(client.closed, SSL.Error)


def test_an_expired_certificate_is_judged_by_the_simulated_clock(authority):
    world = simulated_world(start=NOW + 1000 * 365 * 86400)
    client = world.reactor.connect(Echoes(_context(authority, "mail.example.org")))
    client.ask(b"TLS")
    client.start_tls(authority.cert_pem.bytes(), "mail.example.org")
    assert isinstance(client.closed, SSL.Error)


def test_a_large_answer_over_tls_arrives_whole(authority):
    world = simulated_world()
    factory = Echoes(_context(authority, "mail.example.org"))
    client = world.reactor.connect(factory)
    client.ask(b"TLS")
    client.start_tls(authority.cert_pem.bytes(), "mail.example.org")
    flood = Flood(factory.made[0].transport)
    factory.made[0].transport.registerProducer(flood, True)
    flood.resumeProducing()
    assert len(client.read()) == 1 << 20
