"""Behind a proxy: whom the PROXY header names is the client, for everything; and who sends none is nobody."""

from __future__ import annotations

import ipaddress
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from twisted_mail.connection.proxied import (
    HEADER_SECONDS,
    MAX_HEADER,
    MAX_WAITING,
    HAProxyFactory,
    Header,
    read_header,
)
from twisted_mail.testing import MailServer
from twisted_mail.testing.world import simulated_world

V2 = b"\r\n\r\n\0\r\nQUIT\n"


def binary(
    source: str, *, command: int = 0x21, family: int = 0x11, port: int = 4321, more: bytes = b""
) -> bytes:
    addresses = ipaddress.ip_address(source).packed
    body = addresses + addresses + struct.pack("!HH", port, 25) + more
    return V2 + struct.pack("!BBH", command, family, len(body)) + body


GOOD = [
    (b"PROXY TCP4 198.51.100.7 192.0.2.1 4321 25\r\n", ("198.51.100.7", 4321)),
    (b"PROXY TCP6 2001:DB8:0:0::7 2001:db8::1 4321 25\r\n", ("2001:db8::7", 4321)),
    (b"PROXY TCP6 ::ffff:198.51.100.7 ::1 4321 25\r\n", ("198.51.100.7", 4321)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    (binary("198.51.100.7"), ("198.51.100.7", 4321)),
    (binary("2001:db8::7", family=0x21), ("2001:db8::7", 4321)),
    (binary("::ffff:198.51.100.7", family=0x21), ("198.51.100.7", 4321)),
    (binary("198.51.100.7", more=b"\x01\0\x04smtp"), ("198.51.100.7", 4321)),
    (binary("198.51.100.7", command=0x20), None),
    (V2 + b"\x20\0\0\0", None),
    (V2 + b"\x21\x31\0\xd8" + b"/" * 216, None),
]


@pytest.mark.parametrize(("header", "client"), GOOD)
def test_a_header_in_every_cut(header: bytes, client: tuple[str, int] | None) -> None:
    for end in range(len(header)):
        assert read_header(header[:end]) is None
    for more in (b"", b"EHLO x\r\n", header):
        assert read_header(header + more) == Header(len(header), client)


@pytest.mark.parametrize(
    "data",
    [
        b"EHLO client.example\r\n",
        b"\x16\x03\x01",
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP4 198.51.100.7 192.0.2.1 4321\r\n",
        b"PROXY TCP4 198.51.100.7 192.0.2.1 4321 25 x\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 4321 25\r\n",
        b"PROXY TCP4 localhost 192.0.2.1 4321 25\r\n",
        b"PROXY TCP4 198.51.100.7 192.0.2.1 65536 25\r\n",
        b"PROXY TCP4 198.51.100.7 192.0.2.1 -1 25\r\n",
        b"PROXY TCP4 198.51.100.7\nx 192.0.2.1 1 25\r\n",
        b"PROXY TCP4 \xff 192.0.2.1 1 25\r\n",
        b"PROXY UDP4 198.51.100.7 192.0.2.1 1 25\r\n",
        b"PROXY " + b"x" * 101,
        V2 + b"\x11\x11\0\x0c" + b"x" * 12,
        V2 + b"\x22\x11\0\x0c" + b"x" * 12,
        V2 + b"\x21\x11\0\x0b" + b"x" * 11,
        V2 + b"\x21\x21\0\x0c" + b"x" * 12,
        V2 + b"\x21\x11" + struct.pack("!H", MAX_HEADER),
    ],
)
def test_what_is_no_header(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_header(data)


def test_a_scope_is_no_part_of_a_name() -> None:
    # it may be any text
    header = read_header(b"PROXY TCP6 fe80::1%\x1b[2J ::1 1 25\r\n")
    assert header is not None and header.client == ("fe80::1", 1)


@given(st.binary(max_size=300))
def test_nothing_else_is_raised(data: bytes) -> None:
    for begin in (b"", b"PROXY ", b"PROXY TCP4 ", V2, V2 + b"\x21"):
        try:
            found = read_header(begin + data)
        except ValueError:
            continue
        assert found is None or found.size <= len(begin + data)


class Echo(Protocol):
    def __init__(self, client: str) -> None:
        self.client = client
        self.got = b""
        self.lost = 0

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello " + self.client.encode())

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost += 1


class Echoes(ServerFactory[Any]):
    def __init__(self) -> None:
        self.made: list[Echo] = []
        self.closed = False

    def buildProtocol(self, addr: Any) -> Any:
        if self.closed:
            return None
        self.made.append(Echo(addr.host))
        return self.made[-1]

    def logPrefix(self) -> str:
        return "echo"


class Peer:
    host = "10.0.0.1"


def connect(factory: HAProxyFactory) -> tuple[Any, StringTransportWithDisconnection]:
    protocol: Any = factory.buildProtocol(Peer())  # type: ignore[arg-type]
    transport = StringTransportWithDisconnection()
    transport.protocol = protocol
    # cut off at once, as a socket is
    transport.abortConnection = transport.loseConnection  # type: ignore[method-assign]
    protocol.makeConnection(transport)
    return protocol, transport


def test_nothing_is_built_and_nothing_said_before_the_header() -> None:
    clock, inner = Clock(), Echoes()
    factory = HAProxyFactory(inner, clock)
    protocol, transport = connect(factory)
    header = GOOD[0][0]
    for octet in header[:-1]:
        protocol.dataReceived(bytes([octet]))
        assert transport.value() == b"" and not inner.made
    protocol.dataReceived(header[-1:] + b"EHLO x\r\n")
    assert transport.value() == b"hello 198.51.100.7"
    protocol.dataReceived(b"more")
    assert inner.made[0].got == b"EHLO x\r\nmore"
    assert not clock.getDelayedCalls() and not factory.waiting
    clock.advance(HEADER_SECONDS * 2)
    assert transport.connected
    transport.loseConnection()
    assert inner.made[0].lost == 1


def test_a_look_whether_it_is_up_is_the_proxys_own() -> None:
    inner = Echoes()
    protocol, transport = connect(HAProxyFactory(inner, Clock()))
    protocol.dataReceived(V2 + b"\x20\0\0\0")
    assert transport.value() == b"hello 10.0.0.1"


@pytest.mark.parametrize("said", [b"EHLO x\r\n", b"PROXY " + b"x" * 200, V2 + b"\x99" + b"x" * 50])
def test_who_sends_no_header_is_cut_off_without_a_word(said: bytes) -> None:
    clock, inner = Clock(), Echoes()
    factory = HAProxyFactory(inner, clock)
    protocol, transport = connect(factory)
    protocol.dataReceived(said)
    protocol.dataReceived(GOOD[0][0])
    assert not transport.connected and transport.value() == b"" and not inner.made
    assert not clock.getDelayedCalls() and not factory.waiting


def test_an_octet_now_and_then_is_no_header_in_time() -> None:
    clock, inner = Clock(), Echoes()
    factory = HAProxyFactory(inner, clock)
    protocol, transport = connect(factory)
    for octet in GOOD[0][0][:8]:
        protocol.dataReceived(bytes([octet]))
        clock.advance(HEADER_SECONDS / 8)
    assert not transport.connected and not factory.waiting and not clock.getDelayedCalls()


def test_so_many_are_waited_for() -> None:
    clock, inner = Clock(), Echoes()
    factory = HAProxyFactory(inner, clock)
    transports = [connect(factory)[1] for _ in range(MAX_WAITING + 10)]
    assert [one.connected for one in transports].count(True) == len(factory.waiting) == MAX_WAITING
    assert not any(one.connected for one in transports[:10])
    factory.stopFactory()
    assert not factory.waiting and not clock.getDelayedCalls()
    assert not any(one.connected for one in transports)


def test_a_door_that_is_closed() -> None:
    inner = Echoes()
    inner.closed = True
    protocol, transport = connect(HAProxyFactory(inner, Clock()))
    protocol.dataReceived(GOOD[0][0])
    assert not transport.connected


def test_limits_are_of_the_client_and_not_of_the_proxy(tmp_path: Path, log: Any) -> None:
    world = simulated_world()
    server = world.run(
        MailServer.start(
            world,
            directory=tmp_path,
            configuration={
                "listen": {"smtp": ["haproxy:tcp:25"]},
                "limits": {"connections_per_address": 2},
            },
        )
    )

    def greeted(client: bytes) -> bytes:
        connection = world.reactor.connect(25, address="127.0.0.1")
        assert connection.read() == b""
        answer: bytes = connection.ask(b"PROXY TCP4 %b 192.0.2.1 4321 25\r\n" % client)
        return answer[:3]

    assert [greeted(b"198.51.100.%d" % (one // 2)) for one in range(8)] == [b"220"] * 8
    assert greeted(b"198.51.100.1") == b"421"
    connected = {one["client"] for one in log if one.get("log_format") == "connected"}
    assert connected == {f"198.51.100.{one}" for one in range(4)}
    world.run(server.stop())
