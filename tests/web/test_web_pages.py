"""The web port: which pages there are, and what hostile clients get."""

from __future__ import annotations

from typing import Any, ClassVar
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.remote.mta_sts import Mode, parse_policy
from twisted_mail.testing.world import simulated_world
from twisted_mail.web.autoconfig import PATHS, Autoconfig, offers_of
from twisted_mail.web.mta_sts import StsHosting
from twisted_mail.web.pages import NOT_FOUND, Pages
from twisted_mail.web.server import (
    CONNECTIONS,
    CONNECTIONS_PER_NETWORK,
    REQUEST_SECONDS,
    WebFactory,
)

TOKEN = "aB3-_x"
STS = StsHosting(
    frozenset({"example.org"}), "enforce", ("mx1.example.org", "mx2.example.org"), 604_800
)


def challenge(token: str) -> bytes | None:
    return b"aB3-_x.thumb" if token == TOKEN else None


@pytest.fixture
def pages() -> Pages:
    return Pages(challenge, STS)


class TestPages:
    def test_a_challenge(self, pages: Pages) -> None:
        page = pages.find("mail.example.org", b"/.well-known/acme-challenge/aB3-_x")
        assert (page.status, page.body) == (200, b"aB3-_x.thumb")
        assert page.kind == b"application/octet-stream"

    @pytest.mark.parametrize(
        "path",
        [
            b"/",
            b"",
            b"*",
            b"/.well-known/acme-challenge/",
            b"/.well-known/acme-challenge/aB3-_",
            b"/.well-known/acme-challenge/aB3-_x/",
            b"/.well-known/acme-challenge/%61B3-_x",
            b"/.well-known/acme-challenge/../acme-challenge/aB3-_x",
            b"/.well-known/ACME-challenge/aB3-_x",
            b"//.well-known/acme-challenge/aB3-_x",
            b"/.well-known/mta-sts.txt",
        ],
    )
    def test_everything_else_is_not_there(self, pages: Pages, path: bytes) -> None:
        assert pages.find("mail.example.org", path) is NOT_FOUND

    @given(host=st.text(max_size=40), path=st.binary(max_size=60))
    def test_nothing_makes_it_raise(self, host: str, path: bytes) -> None:
        pages = Pages(challenge, STS)
        assert pages.find(host, path).status in (200, 404)
        assert pages.find(host, b"/.well-known/acme-challenge/" + path).status in (200, 404)

    @pytest.mark.parametrize(
        "host",
        [
            "mta-sts.example.org",
            "MTA-STS.Example.org",
            "mta-sts.example.org:443",
            "mta-sts.example.org.",
        ],
    )
    def test_a_policy_is_found_by_its_host(self, pages: Pages, host: str) -> None:
        page = pages.find(host, b"/.well-known/mta-sts.txt")
        assert (page.status, page.kind) == (200, b"text/plain")
        # what reads the policies of others understands it
        policy = parse_policy(page.body.decode())
        assert policy.mode is Mode.ENFORCE
        assert policy.mx == ("mx1.example.org", "mx2.example.org")
        assert policy.max_age == 604_800

    @pytest.mark.parametrize(
        "host",
        ["", "example.org", "mta-sts.example.net", "mta-sts.", "mta-sts.mta-sts.example.org"],
    )
    def test_who_has_none_has_none(self, pages: Pages, host: str) -> None:
        assert pages.find(host, b"/.well-known/mta-sts.txt") is NOT_FOUND

    def test_another_policy_has_another_id(self) -> None:
        first, second = (
            STS.id_for("example.org"),
            STS._replace(mode="testing").id_for("example.org"),
        )
        assert first is not None and second is not None and first != second
        assert first.isalnum() and len(first) == 32  # RFC 8461 section 3.1
        assert STS.id_for("example.net") is None


class Web:
    """A factory and its clients."""

    def __init__(self, pages: Pages) -> None:
        self.world = simulated_world()
        self.factory = WebFactory(self.world, "http", pages)
        self.world.reactor.listenTCP(80, self.factory)

    def client(self, address: str = "192.0.2.1") -> Any:
        return self.world.reactor.connect(80, address=address)

    def ask(self, request: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
        """Status line, header, body; the connection is closed then."""
        client = self.client()
        answer = client.ask(request)
        assert client.closed is not None
        head, _, body = answer.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        return status, dict(line.lower().split(b": ", 1) for line in lines), body


@pytest.fixture
def web(pages: Pages) -> Web:
    return Web(pages)


GET = b"GET /.well-known/acme-challenge/aB3-_x HTTP/1.1\r\nHost: mail.example.org\r\n\r\n"


def test_get(web: Web) -> None:
    status, header, body = web.ask(GET)
    assert status == b"HTTP/1.1 200 OK"
    assert body == b"aB3-_x.thumb"
    assert header[b"content-length"] == b"12" and header[b"connection"] == b"close"
    assert header[b"date"] == b"fri, 15 jan 2027 08:00:00 gmt"
    assert b"server" not in header


def test_head_has_no_body(web: Web) -> None:
    status, header, body = web.ask(GET.replace(b"GET", b"HEAD"))
    assert (status, body, header[b"content-length"]) == (b"HTTP/1.1 200 OK", b"", b"12")


def test_a_question_mark_changes_nothing(web: Web) -> None:
    assert web.ask(GET.replace(b"_x ", b"_x?a=b&c "))[2] == b"aB3-_x.thumb"


def test_http_1_0(web: Web) -> None:
    assert web.ask(b"GET / HTTP/1.0\r\n\r\n")[0] == b"HTTP/1.0 404 Not Found"


@pytest.mark.parametrize(
    "method", [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"get"]
)
def test_other_methods_are_refused(web: Web, method: bytes) -> None:
    status, header, _ = web.ask(GET.replace(b"GET", method))
    assert status.startswith(b"HTTP/1.1 405") and header[b"allow"] == b"get, head"


def test_a_body_ends_the_connection(web: Web) -> None:
    client = web.client()
    client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 5000)
    assert client.closed is not None
    client = web.client()
    client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    assert client.closed is not None


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 60 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"Abc: " + b"d" * 1000 + b"\r\n" * 20 + b"\r\n",
        b"\x16\x03\x01\x02\x00" + bytes(600) + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_too_much_or_nonsense_ends_it(web: Web, request_: bytes) -> None:
    client = web.client()
    answer = client.ask(request_)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404"))
    web.world.reactor.advance(REQUEST_SECONDS + 1)
    assert client.closed is not None


def test_header_fields_that_go_on_and_on_end_it_before_memory_does(web: Web) -> None:
    client = web.client()
    client.ask(b"GET / HTTP/1.1\r\n")
    sent = 0
    while client.closed is None:
        client.ask(b"A: " + b"x" * 500 + b"\r\n")
        sent += 500
        assert sent < 20_000


def test_slow_clients_have_ten_seconds(web: Web) -> None:
    client = web.client()
    for octet in GET[:9]:
        client.ask(bytes([octet]))
        web.world.reactor.advance(1)
    assert client.closed is None
    web.world.reactor.advance(1.1)
    assert client.closed is not None


def test_a_client_that_says_nothing_is_cut(web: Web) -> None:
    client = web.client()
    web.world.reactor.advance(REQUEST_SECONDS + 1)
    assert client.closed is not None


def test_so_many_connections_and_no_more(web: Web) -> None:
    for _ in range(CONNECTIONS_PER_NETWORK):
        web.client("198.51.100.7")
    with pytest.raises(ConnectionRefusedError):
        web.client("198.51.100.7")
    for number in range(CONNECTIONS - CONNECTIONS_PER_NETWORK):
        web.client(f"203.0.113.{number}")
    with pytest.raises(ConnectionRefusedError):
        web.client("203.0.113.200")
    web.world.reactor.advance(REQUEST_SECONDS + 1)
    assert web.ask(GET)[2] == b"aB3-_x.thumb"


def test_it_ends_when_the_last_one_is_gone(web: Web) -> None:
    dawdling = web.client()
    ends: list[None] = []
    web.factory.drain().addCallback(ends.append)
    web.world.reactor.settle()
    assert ends == [None]
    assert dawdling.closed is not None
    with pytest.raises(ConnectionRefusedError):
        web.client()


def test_all_can_be_cut(web: Web) -> None:
    client = web.client()
    web.factory.abort_all()
    web.world.reactor.settle()
    assert client.closed is not None


class TestAutoconfig:
    """What Thunderbird asks for (its wiki, "Autoconfiguration: file format")."""

    ADDRESSES: ClassVar = [
        ("imaps", "0.0.0.0:993"),
        ("imap", "[::]:143"),
        ("submissions", "192.0.2.1:465"),
        ("pop3", "127.0.0.1:110"),
        ("smtp", "0.0.0.0:25"),
        ("submission", "/run/submission"),
    ]

    def pages(self) -> Pages:
        return Pages(challenge, STS, Autoconfig("mail.example.org", offers_of(self.ADDRESSES)))

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize(
        "host", ["autoconfig.example.net", "AUTOCONFIG.example.net.:80", "example.net"]
    )
    def test_it_says_what_others_can_reach(self, path: bytes, host: str) -> None:
        page = self.pages().find(host, path)
        assert (page.status, page.kind) == (200, b"application/xml")
        provider = ElementTree.fromstring(page.body).find("emailProvider")
        assert provider is not None and provider.attrib == {"id": "example.net"}
        servers = [
            (
                one.tag,
                one.get("type"),
                one.findtext("hostname"),
                one.findtext("port"),
                one.findtext("socketType"),
            )
            for one in provider
            if one.tag.endswith("Server")
        ]
        assert servers == [
            ("incomingServer", "imap", "mail.example.org", "993", "SSL"),
            ("incomingServer", "imap", "mail.example.org", "143", "STARTTLS"),
            ("outgoingServer", "smtp", "mail.example.org", "465", "SSL"),
        ]
        assert {one.findtext("username") for one in provider if len(one)} == {"%EMAILADDRESS%"}

    @given(st.text())
    def test_no_host_gets_anything_else_into_it(self, host: str) -> None:
        page = self.pages().find(host, PATHS[0])
        if page.status == 200:
            ElementTree.fromstring(page.body)
        else:
            assert page == NOT_FOUND

    def test_who_offers_nothing_has_no_such_page(self) -> None:
        pages = Pages(
            challenge, STS, Autoconfig("mail.example.org", offers_of([("pop3", "127.0.0.1:110")]))
        )
        assert pages.find("autoconfig.example.net", PATHS[0]) == NOT_FOUND
