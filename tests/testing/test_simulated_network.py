"""Machines in one simulated network: who reaches whom, from where, and what goes wrong on the way."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    clientFromString,
)
from twisted.internet.error import (
    CannotListenError,
    ConnectBindError,
    ConnectError,
    ConnectingCancelledError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TimeoutError,
    UserError,
)
from twisted.internet.protocol import ClientFactory, Factory, Protocol

from twisted_mail.testing import simulated_world
from twisted_mail.testing.dns import FakeResolver, Zone

HERE, THERE, THERE6 = "192.0.2.10", "192.0.2.20", "2001:db8::20"


class Talker(Protocol):
    """Says what it is told to at the start; remembers what it hears, and when."""

    says = b""
    lost = None

    def connectionMade(self):
        self.heard = b""
        self.times = []
        self.transport.write(self.says)

    def dataReceived(self, data):
        assert self.lost is None
        self.heard += data
        self.times.append(self.factory.clock.seconds())

    def connectionLost(self, reason):
        self.lost = reason.value
        self.times.append(self.factory.clock.seconds())


class Talkers(Factory):
    def __init__(self, clock, says=b""):
        self.clock = clock
        self.says = says
        self.made = []
        self.stopped = False

    def buildProtocol(self, address):
        talker = Talker()
        talker.factory, talker.says, talker.address = self, self.says, address
        self.made.append(talker)
        return talker

    def doStop(self):
        self.stopped = True


@pytest.fixture
def world():
    return simulated_world(start=1000.0)


@pytest.fixture
def here(world):
    return world.at(HERE, "2001:db8::10")


@pytest.fixture
def there(world):
    return world.at(THERE, THERE6)


def listen(world, port=25, interface="", says=b"hello"):
    factory = Talkers(world.reactor, says)
    world.reactor.listenTCP(port, factory, interface=interface)
    return factory


async def dial(world, host, port=25, says=b"", **named):
    return await TCP4ClientEndpoint(world.reactor, host, port, **named).connect(
        Talkers(world.reactor, says)
    )


def reach(world, host, port=25, **named):
    """A client on the machine of `world`, once everything has settled."""
    return world.run(dial(world, host, port, **named))


def fails(world, host, port=25, **named):
    with pytest.raises(Exception) as failed:
        reach(world, host, port, **named)
    return failed.value


# Addresses


def test_a_site_connects_to_another_and_both_know_whom_they_talk_to(here, there):
    server = listen(there)
    client = reach(here, THERE)
    assert client.heard == b"hello"
    (talker,) = server.made
    assert talker.address == talker.transport.getPeer() == client.transport.getHost()
    assert (talker.address.host, talker.transport.getHost().host) == (HERE, THERE)
    assert client.transport.getPeer() == talker.transport.getHost()


def test_ipv6_goes_from_the_address_of_that_family(here, there):
    server = listen(there, interface="::")
    assert reach(here, THERE6).heard == b"hello"
    assert server.made[0].address.host == "2001:db8::10"


def test_an_address_may_be_written_as_one_likes(here, there):
    listen(there, interface="2001:DB8:0::20")
    assert reach(here, "2001:0db8::0020").heard == b"hello"


def test_who_listens_on_any_ipv4_address_hears_no_ipv6(here, there):
    listen(there)
    assert isinstance(fails(here, THERE6), ConnectionRefusedError)


def test_who_listens_on_any_ipv6_address_hears_ipv4_mapped(here, there):
    server = listen(there, interface="::")
    reach(here, THERE)
    assert server.made[0].address.host == f"::ffff:{HERE}"


def test_several_sites_listen_on_one_port_of_different_addresses(world, here, there):
    listen(here, says=b"here")
    listen(there, interface=THERE, says=b"there")
    listen(world, says=b"home")
    listen(there, interface=THERE6, says=b"six")
    heard = [reach(world, host).heard for host in (HERE, THERE, "192.0.2.1", THERE6)]
    assert heard == [b"here", b"there", b"home", b"six"]


def test_home_listens_on_every_address_that_is_nobodys(world, here):
    listen(world, interface="198.51.100.1", says=b"one")
    listen(world, interface="198.51.100.2", says=b"two")
    assert reach(here, "198.51.100.1").heard == b"one"
    assert reach(here, "198.51.100.2").heard == b"two"
    assert isinstance(fails(here, "198.51.100.3"), ConnectionRefusedError)


def test_nobody_listens_on_an_address_of_another(world, here, there):
    for stranger in (world, here):
        with pytest.raises(CannotListenError):
            listen(stranger, interface=THERE)
    with pytest.raises(CannotListenError):
        listen(here, interface="198.51.100.1")
    with pytest.raises(ValueError, match=r"192\.0\.2\.20"):
        world.at("198.51.100.1", THERE)


@pytest.mark.parametrize(
    "first, second",
    [("", ""), ("", THERE), (THERE, "0.0.0.0"), ("::", ""), (THERE6, "::"), ("127.0.0.1", "")],
)
def test_one_port_is_not_shared(there, first, second):
    listen(there, interface=first)
    with pytest.raises(CannotListenError):
        listen(there, interface=second)


def test_loopback_is_each_machines_own(world, here, there):
    listen(here, interface="127.0.0.1", says=b"mine")
    client = reach(here, "localhost")
    assert (client.heard, client.transport.getHost().host) == (b"mine", "127.0.0.1")
    assert isinstance(fails(there, "127.0.0.1"), ConnectionRefusedError)


def test_a_loopback_address_can_be_a_sites_own(world):
    one, two = world.at("127.0.0.2"), world.at("127.0.0.3")
    server = listen(two, interface="127.0.0.3")
    assert reach(one, "127.0.0.3").heard == b"hello"
    assert server.made[0].address.host == "127.0.0.2"


def test_the_source_can_be_chosen(world, there):
    server = listen(there)
    site = world.at("192.0.2.30", "192.0.2.31")
    reach(site, THERE)
    reach(site, THERE, bindAddress=("192.0.2.31", 0))
    assert [one.address.host for one in server.made] == ["192.0.2.30", "192.0.2.31"]
    assert isinstance(fails(site, THERE, bindAddress=("192.0.2.99", 0)), ConnectBindError)


def test_without_an_address_of_the_family_there_is_no_way(world, there):
    listen(there, interface="::")
    assert isinstance(fails(world.at("192.0.2.30"), THERE6), NoRouteError)


def test_the_tests_own_client_is_at_home_on_every_machine(here, there):
    listen(here, says=b"here")
    listen(there, says=b"there")
    assert there.reactor.connect(25).read() == b"there"
    assert here.reactor.connect(25).read() == b"here"
    assert set(here.reactor.listeners) == {25}


# Connectors and endpoints


class Watching(ClientFactory):
    protocol = Talker
    noisy = False

    def __init__(self, clock):
        self.clock = clock
        self.log = []

    def startedConnecting(self, connector):
        self.log.append("started")

    def clientConnectionFailed(self, connector, reason):
        self.log.append(reason.type)

    def clientConnectionLost(self, connector, reason):
        self.log.append(reason.type)

    def doStop(self):
        self.log.append("stopped")


def test_a_connector_tells_its_factory(world, there):
    server = listen(there)
    factory = Watching(world.reactor)
    connector = world.reactor.connectTCP(THERE, 25, factory)
    assert (factory.log, connector.state) == (["started"], "connecting")
    world.reactor.settle()
    assert (connector.state, connector.getDestination().host) == ("connected", THERE)
    connector.disconnect()
    world.reactor.settle()
    assert factory.log == ["started", ConnectionDone, "stopped"]
    assert isinstance(server.made[0].lost, ConnectionDone)
    connector.connect()
    world.reactor.settle()
    assert len(server.made) == 2


def test_a_connector_that_is_refused_can_try_again(world, there):
    factory = Watching(world.reactor)
    connector = world.reactor.connectTCP(THERE, 25, factory)
    world.reactor.settle()
    assert factory.log == ["started", ConnectionRefusedError, "stopped"]
    listen(there)
    connector.connect()
    world.reactor.settle()
    assert connector.state == "connected"


def test_a_connector_stops_connecting(world, there):
    server = listen(there)
    factory = Watching(world.reactor)
    world.reactor.connectTCP(THERE, 25, factory).stopConnecting()
    world.reactor.advance(60)
    assert factory.log == ["started", UserError, "stopped"]
    assert server.made == []


def test_who_stops_before_he_has_arrived_was_never_there(world, there):
    server = listen(there)
    world.network.host(THERE).latency = 2
    connector = world.reactor.connectTCP(THERE, 25, Watching(world.reactor))
    world.reactor.advance(1)
    connector.stopConnecting()
    world.reactor.advance(60)
    assert server.made == []


def test_who_gives_up_while_the_answer_is_on_its_way_leaves_nothing_open(world, there):
    server = listen(there)
    world.network.host(THERE).latency = 1
    trying = Deferred.fromCoroutine(dial(world, THERE))
    world.reactor.advance(1.5)
    assert len(server.made) == 1
    failures = []
    trying.addErrback(failures.append)
    trying.cancel()
    world.reactor.advance(10)
    assert failures[0].check(ConnectingCancelledError)
    assert isinstance(server.made[0].lost, ConnectionDone)
    assert world.network.host(THERE).cables == {}


def test_a_factory_that_wants_no_connection(world, there):
    class Closed(Factory):
        def buildProtocol(self, address):
            return None

    there.reactor.listenTCP(25, Closed())
    client = reach(world, THERE)
    assert isinstance(client.lost, ConnectionDone)


def test_endpoints_from_strings(world, there):
    listen(there)
    endpoint = clientFromString(world.reactor, f"tcp:{THERE}:25")
    assert world.run(_connect(endpoint, world)).heard == b"hello"


async def _connect(endpoint, world):
    return await endpoint.connect(Talkers(world.reactor))


def test_names_are_asked_of_the_worlds_resolver(there):
    zone = Zone({"mx.example.org": {"AAAA": [THERE6], "A": [THERE]}}, failing=["broken.example"])
    world = simulated_world(resolver=FakeResolver(zone))
    there = world.at(THERE, THERE6)
    listen(there, interface="::")
    endpoint = HostnameEndpoint(world.reactor, "mx.example.org", 25)
    assert world.run(_connect(endpoint, world)).transport.getPeer().host == THERE
    world.network.host(THERE).silent = True
    assert world.run(_connect(endpoint, world)).transport.getPeer().host == THERE6
    for name in ("nobody.example", "broken.example"):
        with pytest.raises(DNSLookupError):
            world.run(_connect(HostnameEndpoint(world.reactor, name, 25), world))


def test_without_a_resolver_only_addresses_are_known(world):
    listen(world)
    for name in ("localhost", "192.0.2.1"):
        endpoint = HostnameEndpoint(world.reactor, name, 25)
        assert world.run(_connect(endpoint, world)).heard == b"hello"
    with pytest.raises(DNSLookupError):
        world.run(_connect(HostnameEndpoint(world.reactor, "mx.example.org", 25), world))
    assert isinstance(fails(world, "mx.example.org"), DNSLookupError)


def test_the_web_works(world, there):
    from twisted.web.client import Agent
    from twisted.web.resource import Resource
    from twisted.web.server import Site

    class Policy(Resource):
        isLeaf = True

        def render_GET(self, request):
            return b"version: STSv1"

    class Body(Protocol):
        def __init__(self):
            self.data, self.whole = b"", Deferred()

        def dataReceived(self, data):
            self.data += data

        def connectionLost(self, reason):
            self.whole.callback(self.data)

    async def get():
        response = await Agent(world.reactor).request(b"GET", b"http://192.0.2.20/")
        response.deliverBody(body := Body())
        return await body.whole

    there.reactor.listenTCP(80, Site(Policy(), reactor=there.reactor))
    assert world.run(get()) == b"version: STSv1"


def test_unix_sockets_are_their_machines(here, there):
    factory = Talkers(here.reactor, b"lmtp")
    here.run(_listen_unix(here, "/run/lmtp", factory))
    connected = here.run(_connect(UNIXClientEndpoint(here.reactor, "/run/lmtp"), here))
    assert connected.heard == b"lmtp"
    assert connected.transport.getPeer().name == b"/run/lmtp"
    with pytest.raises(ConnectError):
        there.run(_connect(UNIXClientEndpoint(there.reactor, "/run/lmtp"), there))
    with pytest.raises(CannotListenError):
        here.run(_listen_unix(here, "/run/lmtp", factory))


async def _listen_unix(world, path, factory):
    return await UNIXServerEndpoint(world.reactor, path).listen(factory)


def test_who_is_not_accepted_yet_waits(world, there):
    server = Talkers(there.reactor, b"hello")
    port = there.reactor.listenTCP(25, server)
    port.stopReading()
    client, gone = reach(world, THERE, says=b"early"), reach(world, THERE)
    gone.transport.abortConnection()
    world.reactor.advance(60)
    assert (server.made, client.heard, client.lost) == ([], b"", None)
    port.startReading()
    world.reactor.settle()
    (talker,) = server.made
    assert (talker.heard, client.heard) == (b"early", b"hello")


def test_who_waits_in_vain_is_sent_away(world, there):
    port = there.reactor.listenTCP(25, Talkers(there.reactor))
    port.stopReading()
    client = reach(world, THERE)
    port.stopListening()
    world.reactor.settle()
    assert isinstance(client.lost, ConnectionLost)


# Faults


def test_nobody_listens(world):
    assert isinstance(fails(world, THERE), ConnectionRefusedError)
    assert world.now() == 1000


def test_a_host_that_refuses(world, there):
    listen(there)
    world.network.host(THERE).refuses = True
    assert isinstance(fails(world, THERE), ConnectionRefusedError)
    world.network.host(THERE).heal()
    assert reach(world, THERE).heard == b"hello"


def test_a_black_hole_takes_the_whole_timeout(world, there):
    server = listen(there)
    world.network.host(THERE).silent = True
    assert isinstance(fails(world, THERE, timeout=17), TimeoutError)
    assert world.now() == 1017
    assert world.network.host(THERE).cables == {}
    assert server.made == []


def test_a_black_hole_at_our_own_end(here, there):
    listen(there)
    here.network.host(HERE).silent = True
    assert isinstance(fails(here, THERE, timeout=17), TimeoutError)


def test_when_a_black_hole_ends_in_time_the_connection_is_made(world, there):
    listen(there)
    world.network.host(THERE).silent = True
    trying = Deferred.fromCoroutine(dial(world, THERE, timeout=30))
    world.reactor.advance(20)
    world.network.host(THERE).silent = False
    world.reactor.settle()
    assert trying.result.heard == b"hello"


def test_an_open_connection_in_a_black_hole_goes_on_afterwards(world, there):
    server = listen(there)
    client = reach(world, THERE)
    world.network.host(THERE).silent = True
    client.transport.write(b"one ")
    server.made[0].transport.write(b" two")
    world.reactor.advance(300)
    assert (server.made[0].heard, client.heard, client.lost) == (b"", b"hello", None)
    client.transport.write(b"three")
    client.transport.loseConnection()
    world.network.host(THERE).silent = False
    world.reactor.settle()
    assert (server.made[0].heard, client.heard) == (b"one three", b"hello two")
    assert isinstance(server.made[0].lost, ConnectionDone)


def test_who_leaves_in_a_black_hole_is_missed_later(world, there):
    server = listen(there)
    client = reach(world, THERE)
    world.network.host(THERE).silent = True
    client.transport.abortConnection()
    world.reactor.advance(300)
    assert client.lost and server.made[0].lost is None
    world.network.host(THERE).heal()
    world.reactor.settle()
    assert isinstance(server.made[0].lost, ConnectionLost)


def test_a_host_that_accepts_and_says_nothing(world, there):
    server = listen(there)
    world.network.host(THERE).mute = True
    for port in (25, 26):
        client = reach(world, THERE, port, says=b"anybody?")
        world.reactor.advance(86400)
        assert (client.heard, client.lost) == (b"", None)
        client.transport.loseConnection()
        world.reactor.settle()
        assert isinstance(client.lost, ConnectionDone)
    assert server.made == []


def test_latency_counts_each_way_and_for_each_end(here, there):
    server = listen(there)
    here.network.host(HERE).latency = 1
    here.network.host(THERE).latency = 2
    client = reach(here, THERE)
    assert client.times == [1006]  # the greeting left when the connection had arrived, at 1003
    client.transport.write(b"ping")
    here.reactor.advance(10)
    assert server.made[0].times == [1009]


def test_what_is_written_on_the_way_keeps_its_own_time(world, there):
    server = listen(there, says=b"")
    world.network.host(THERE).latency = 10
    client = reach(world, THERE)
    start = world.now()
    client.transport.write(b"one")
    world.reactor.advance(6)
    client.transport.write(b"two")
    client.transport.loseConnection()
    world.reactor.advance(60)
    (talker,) = server.made
    assert [time - start for time in talker.times] == [10, 16, 16]
    assert (talker.heard, type(talker.lost)) == (b"onetwo", ConnectionDone)


def test_what_comes_after_the_end_is_not_heard(world, there):
    server = listen(there, says=b"")
    world.network.host(THERE).latency = 10
    client = reach(world, THERE)
    server.made[0].transport.write(b"too late")
    world.reactor.advance(5)
    client.transport.abortConnection()
    world.reactor.advance(60)
    assert client.heard == b""


def test_who_talks_to_himself_waits_once(there):
    listen(there)
    there.network.host(THERE).latency = 1
    assert reach(there, THERE).times == [1002]


def test_a_refusal_takes_its_time(world):
    world.network.host(THERE).latency = 3
    assert isinstance(fails(world, THERE), ConnectionRefusedError)
    assert world.now() == 1006


def test_a_slow_line(world, there):
    server = listen(there, says=b"")
    world.network.host(THERE).bytes_per_second = 100
    client = reach(world, THERE)
    client.transport.write(b"x" * 1000)
    world.reactor.advance(5)
    assert 450 <= len(server.made[0].heard) <= 500
    world.reactor.advance(5.001)
    assert len(server.made[0].heard) == 1000


def test_one_byte_a_minute(world, there):
    listen(there, says=b"220")
    world.network.host(THERE).bytes_per_second = 1 / 60
    client = reach(world, THERE)
    world.reactor.advance(179)
    assert client.heard == b"22"
    world.reactor.advance(2)
    assert client.heard == b"220"


@pytest.mark.parametrize("size", range(12))
def test_a_link_is_cut_after_so_many_bytes(world, there, size):
    server = listen(there)
    world.network.host(THERE).cut_after = size
    client = reach(world, THERE)
    client.transport.write(b"goodbye")
    world.reactor.settle()
    (talker,) = server.made
    carried = len(client.heard) + len(talker.heard)
    assert carried == size
    assert (client.heard, talker.heard) == (b"hello"[:size], b"goodbye"[: max(0, size - 5)])
    assert isinstance(client.lost, ConnectionLost) and isinstance(talker.lost, ConnectionLost)


def test_a_link_that_carries_enough_is_not_cut(world, there):
    listen(there)
    world.network.host(THERE).cut_after = 6
    client = reach(world, THERE)
    assert (client.heard, client.lost) == (b"hello", None)


def test_every_open_connection_is_cut(world, here, there):
    server = listen(there)
    one, two = reach(here, THERE), reach(world, THERE)
    world.network.host(HERE).cut()
    assert isinstance(one.lost, ConnectionLost) and two.lost is None
    assert isinstance(server.made[0].lost, ConnectionLost)
    world.network.host(THERE).cut()
    assert isinstance(two.lost, ConnectionLost)
    assert world.network.host(THERE).cables == world.network.host(HERE).cables == {}
