"""A certificate that comes from a CA while the server runs, and what the CA is shown before."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from test_tls import Site, Talk
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from twisted_mail.acme.challenges import challenge_certificate
from twisted_mail.connection.tls import LOOK_SECONDS, ServerTls

NAME = "mail.example.org"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


class Renewed:
    """A server with a development certificate, and a place where a better one will come."""

    def __init__(self, site: Site, **more: Any) -> None:
        self.site = site
        self.clock = Clock()
        self.file = site.directory / "certificate.pem"
        self.pair = site.pair("dev", NAME, "localhost")
        self.more = more
        self.begin()

    def begin(self) -> None:
        self.tls = ServerTls([self.pair], self.clock.seconds, preferred=self.file, **self.more)

    def comes(self, *names: str) -> None:
        """Key and chain in one file, in one step."""
        certificate, key = self.site.pair("new", *names)
        draft = self.file.with_suffix(".draft")
        draft.write_bytes(key.read_bytes() + certificate.read_bytes())
        draft.rename(self.file)

    def served(self, name: str = NAME) -> list[str]:
        return Talk(self.tls, self.site.client(), name).peer_names()


def test_it_is_served_as_soon_as_it_is_there(site: Site) -> None:
    server = Renewed(site)
    assert server.served() == [NAME, "localhost"]
    before = Talk(server.tls, site.client())
    server.comes(NAME, "imap.example.org")
    server.clock.advance(LOOK_SECONDS)
    assert server.served() == [NAME, "imap.example.org"]
    assert server.served("imap.example.org") == [NAME, "imap.example.org"]
    # what nobody but the development certificate is for
    assert server.served("localhost") == [NAME, "localhost"]
    assert before.say(b"still here") == b"still here"
    server.comes(NAME, "renewed.example.org")
    server.clock.advance(LOOK_SECONDS)
    assert server.served() == [NAME, "renewed.example.org"]


def test_it_is_served_from_the_start(site: Site) -> None:
    server = Renewed(site)
    server.comes(NAME, "imap.example.org")
    server.begin()
    assert server.served() == [NAME, "imap.example.org"]


def test_one_that_is_broken_at_the_start_is_said_and_not_used(site: Site) -> None:
    server = Renewed(site)
    server.file.write_text("rubbish")
    with capturedLogs() as logs:
        server.begin()
    assert [one["log_level"].name for one in logs] == ["error"]
    assert server.served() == [NAME, "localhost"]
    server.comes(NAME, "imap.example.org")
    server.clock.advance(LOOK_SECONDS)
    assert server.served() == [NAME, "imap.example.org"]


def test_one_that_is_broken_later_is_not_used(site: Site) -> None:
    server = Renewed(site)
    server.comes(NAME, "imap.example.org")
    assert server.tls.reload()
    server.file.write_text("rubbish")
    assert not server.tls.reload()
    assert server.served() == [NAME, "imap.example.org"]


def test_one_that_goes_leaves_the_other(site: Site) -> None:
    server = Renewed(site)
    server.comes(NAME, "imap.example.org")
    assert server.tls.reload()
    server.file.unlink()
    server.clock.advance(LOOK_SECONDS)
    assert server.served() == [NAME, "localhost"]


class TestProofs:
    """RFC 8737."""

    def proving(self, site: Site, asked: list[str], name: str | None = NAME) -> Renewed:
        def prove(wanted: str) -> Any:
            asked.append(wanted)
            return challenge_certificate(wanted, b"token.thumb", 1.8e9) if wanted == name else None

        server = Renewed(site, prove=prove)
        # names of two contexts: the one that the name has chosen is asked
        server.comes("imap.example.org")
        assert server.tls.reload()
        return server

    def talk(
        self, server: Renewed, protocols: list[str], name: str | None = NAME, **more: Any
    ) -> tuple[x509.Certificate, str | None]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(protocols)
        for key, value in more.items():
            setattr(context, key, value)
        client = Talk(server.tls, context, name).client
        der = client.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der), client.selected_alpn_protocol()

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_a_ca_gets_the_proof(self, site: Site, version: ssl.TLSVersion) -> None:
        server = self.proving(site, asked := [])
        shown, protocol = self.talk(server, ["acme-tls/1"], maximum_version=version)
        assert protocol == "acme-tls/1" and asked == [NAME]
        assert any(part.oid.dotted_string == "1.3.6.1.5.5.7.1.31" for part in shown.extensions)
        # everybody else meanwhile gets what he always got
        assert server.served() == [NAME, "localhost"]
        assert server.served("imap.example.org") == ["imap.example.org"]

    def test_who_asks_for_something_else_does_not(self, site: Site) -> None:
        server = self.proving(site, asked := [])
        for protocols in (["imap"], ["http/1.1", "acme-tls/1"], ["h2", "http/1.1"]):
            shown, protocol = self.talk(server, protocols)
            assert protocol is None and "ACME" not in shown.subject.rfc4514_string()
        assert asked == []

    def test_nobody_gets_one_when_none_is_to_be_shown(self, site: Site) -> None:
        server = self.proving(site, asked := [], name=None)
        for name in (NAME, "unknown.example.org", None):
            shown, protocol = self.talk(server, ["acme-tls/1"], name)
            assert protocol is None and "ACME" not in shown.subject.rfc4514_string()
        assert asked == [NAME, "unknown.example.org", ""]
