"""Reports about TLS over HTTPS (RFC 8460 section 5.4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from remote_fakes import Pki
from test_remote_network import PKI, ServerTls
from test_sts_fetch import WEB, Web, http

from twisted_mail.remote.https_post import HttpsPost
from twisted_mail.remote.settings import DeliverySettings
from twisted_mail.testing import simulated_world
from twisted_mail.testing.dns import FakeResolver, Zone

URI = "https://reports.example.org/v1/tls?x=1"
CONTENT = b"\x1f\x8b" + bytes(range(256)) * 300 + b"\r\n\r\n"


class Posting:
    def __init__(self, tmp_path: Path) -> None:
        self.world = simulated_world()
        ca_file = tmp_path / "ca.pem"
        ca_file.write_bytes(Pki().root_pem + PKI.root_pem)
        zone = Zone({"reports.example.org": {"A": [WEB]}, "here.example.org": {"A": ["127.0.0.1"]}})
        settings = DeliverySettings("ours.example", ca_file=ca_file)
        self.poster = HttpsPost(self.world, FakeResolver(zone), settings)

    def web(self, answer: bytes | None, name: str = "reports.example.org") -> Web:
        return Web(self.world, WEB, answer, ServerTls(name))

    def post(self, uri: str = URI) -> None:
        async def work() -> None:
            await self.poster.post(uri, CONTENT)

        self.world.run(work())

    def error(self, uri: str = URI) -> str:
        with pytest.raises(OSError) as caught:
            self.post(uri)
        return str(caught.value)


@pytest.fixture
def posting(tmp_path: Path) -> Posting:
    return Posting(tmp_path)


@pytest.mark.parametrize("status", [b"200 OK", b"201 Created"])
def test_it_is_taken(posting: Posting, status: bytes) -> None:
    web = posting.web(http(b"thanks", status))
    posting.post()
    head, _, body = web.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/tls?x=1 HTTP/1.1"
    assert b"Content-Type: application/tlsrpt+gzip" in lines
    assert b"Host: reports.example.org" in lines
    assert b"Content-Length: %d" % len(CONTENT) in lines
    assert body == CONTENT


@pytest.mark.parametrize("status", [b"302 Found", b"404 Not Found", b"500 Oops"])
def test_it_is_not_taken(posting: Posting, status: bytes) -> None:
    posting.web(http(b"", status, extra=b"Location: https://192.0.2.99/\r\n"))
    assert f"status {status[:3].decode()}" in posting.error()


def test_somebody_else(posting: Posting) -> None:
    web = posting.web(http(b""), "other.example")
    assert "reports.example.org" in posting.error()
    assert web.requests == []


def test_silence(posting: Posting) -> None:
    posting.web(None)
    assert "60 seconds" in posting.error()


@pytest.mark.parametrize(
    "uri",
    [
        "https://here.example.org/",
        "https://unknown.example.org/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://reports.example.org:22/",
        "http://reports.example.org/",
        "https://",
        "https://a:b",
        "https://[",
    ],
)
def test_nobody_makes_us_talk_to_what_is_around_us(posting: Posting, uri: str) -> None:
    web: Any = posting.web(http(b""))
    posting.error(uri)
    assert web.requests == []
