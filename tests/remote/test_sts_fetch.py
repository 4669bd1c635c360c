"""Policies over HTTPS: whose certificate, which answers, how much and how long. RFC 8461 section 3.3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from remote_fakes import Pki
from test_remote_network import PKI, ServerTls
from twisted.internet.protocol import Factory, Protocol

from twisted_mail.remote.mta_sts import FetchError, parse_policy
from twisted_mail.remote.settings import DeliverySettings
from twisted_mail.remote.sts_fetch import HttpsFetch
from twisted_mail.testing import simulated_world
from twisted_mail.testing.dns import FakeResolver, Zone

WEB, WEB2 = "192.0.2.31", "192.0.2.32"
BODY = b"version: STSv1\nmode: enforce\nmx: mx.example.org\nmax_age: 86400\n"


def http(
    body: bytes = BODY,
    status: bytes = b"200 OK",
    kind: bytes = b"text/plain; charset=utf-8",
    length: int | None = -1,
    extra: bytes = b"",
) -> bytes:
    head = b"HTTP/1.1 " + status + b"\r\nContent-Type: " + kind + b"\r\n" + extra
    if length is not None:
        head += b"Content-Length: %d\r\n" % (len(body) if length < 0 else length)
    return head + b"\r\n" + body


class Web(Factory):
    """An HTTPS server that says `answer` to everything; None: nothing. `closes` afterwards."""

    noisy = False

    def __init__(
        self, world: Any, address: str, answer: bytes | None, tls: Any, *, closes: bool = False
    ) -> None:
        self.answer = answer
        self.tls = tls
        self.closes = closes
        self.requests: list[bytes] = []
        self.lost = 0
        self.world = world.at(address)
        self.world.reactor.listenTCP(443, self)

    def buildProtocol(self, addr: Any) -> Any:
        web = self

        class Connection(Protocol):
            got = b""

            def connectionMade(self) -> None:
                self.transport.startTLS(web.tls, True)  # type: ignore[attr-defined]

            def dataReceived(self, data: bytes) -> None:
                self.got += data
                if not self.got.endswith(b"\r\n\r\n"):
                    return
                web.requests.append(self.got)
                transport: Any = self.transport
                if web.answer is not None:
                    transport.write(web.answer)
                if web.closes:
                    transport.loseConnection()

            def connectionLost(self, reason: Any = None) -> None:
                web.lost += 1

        return Connection()


class Fetching:
    def __init__(self, tmp_path: Path, *, loopback: bool = False) -> None:
        self.world = simulated_world()
        self.zone = Zone({"mta-sts.example.org": {"A": [WEB]}})
        ca_file = tmp_path / "ca.pem"
        ca_file.write_bytes(Pki().root_pem + PKI.root_pem)
        settings = DeliverySettings("ours.example", ca_file=ca_file, loopback=loopback)
        self.fetch = HttpsFetch(self.world, FakeResolver(self.zone), settings)

    def web(
        self, answer: bytes | None = None, *names: str, address: str = WEB, **named: Any
    ) -> Web:
        tls = ServerTls(*(names or ("mta-sts.example.org",)))
        return Web(self.world, address, answer, tls, **named)

    def get(self) -> str:
        async def work() -> str:
            return await self.fetch("example.org")

        return self.world.run(work())

    def error(self) -> FetchError:
        with pytest.raises(FetchError) as caught:
            self.get()
        return caught.value


@pytest.fixture
def fetching(tmp_path: Path) -> Fetching:
    return Fetching(tmp_path)


def test_a_policy_is_fetched(fetching: Fetching) -> None:
    web = fetching.web(http())
    assert parse_policy(fetching.get()).mx == ("mx.example.org",)
    assert web.requests[0].startswith(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\n")
    assert b"Host: mta-sts.example.org\r\n" in web.requests[0]
    assert web.tls.asked == [b"mta-sts.example.org"]


def test_a_body_that_ends_with_the_connection(fetching: Fetching) -> None:
    fetching.web(http(length=None), closes=True)
    assert parse_policy(fetching.get())


@pytest.mark.parametrize(
    ("answer", "invalid"),
    [
        (http(status=b"404 Not Found"), False),
        (http(status=b"301 Moved", extra=b"Location: https://mta-sts.example.org/x\r\n"), False),
        (http(kind=b"text/html"), True),
        (http(b"\xff\xfe"), True),
        (http(b"x" * 70_000), True),
        (http(b"x" * 70_000, length=10**9), True),
        (b"this is no HTTP\r\n\r\n", False),
    ],
)
def test_answers_that_are_no_policy(fetching: Fetching, answer: bytes, invalid: bool) -> None:
    web = fetching.web(answer)
    assert fetching.error().invalid is invalid
    assert len(web.requests) == 1


def test_a_connection_that_breaks(fetching: Fetching) -> None:
    fetching.web(http(length=500), closes=True)
    assert "example.org" in str(fetching.error()) or "broke" in str(fetching.error())


def test_the_wrong_certificate(fetching: Fetching) -> None:
    web = fetching.web(http(), "other.example")
    assert not fetching.error().invalid
    assert web.requests == []


def test_silence_is_not_waited_for_longer_than_a_minute(fetching: Fetching) -> None:
    fetching.zone["mta-sts.example.org"] = {"A": [WEB, WEB2, "192.0.2.33"]}
    web = fetching.web(None)
    fetching.web(None, address=WEB2)
    began = fetching.world.now()
    assert "30 seconds" in str(fetching.error())
    assert fetching.world.now() - began <= 60
    assert web.lost == 1


def test_the_next_address(fetching: Fetching) -> None:
    fetching.zone["mta-sts.example.org"] = {"A": [WEB, WEB2]}
    fetching.world.at(WEB)
    fetching.web(http(), address=WEB2)
    assert parse_policy(fetching.get())


def test_a_name_that_is_unknown(fetching: Fetching) -> None:
    fetching.zone["mta-sts.example.org"] = {"TXT": []}
    assert not fetching.error().invalid


def test_this_machine_is_not_asked(fetching: Fetching) -> None:
    fetching.zone["mta-sts.example.org"] = {"A": ["127.0.0.1"]}
    assert "no address" in str(fetching.error())
