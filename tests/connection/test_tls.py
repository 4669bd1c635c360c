"""Certificates by name, read again, and what clients of the standard library agree on with them."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from tls_in_memory import Joint
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.test.iosim import FakeTransport
from zope.interface.verify import verifyObject

from twisted_mail.connection.tls import LOOK_SECONDS, TICKET_SECONDS, Pair, ServerTls


class Site:
    """A directory of certificates from one CA."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = trustme.CA()

    def pair(self, file: str, *names: str) -> Pair:
        """Write a certificate for `names`, or a new one over it."""
        made = self.ca.issue_cert(*names)
        certificate, key = self.directory / f"{file}.pem", self.directory / f"{file}.key"
        certificate.write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))
        key.write_bytes(made.private_key_pem.bytes())
        return certificate, key

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context


class Talk:
    """One client and one server connection, joined by memory."""

    def __init__(
        self,
        server: ServerTls,
        client: ssl.SSLContext,
        name: str | None = "mail.example.org",
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.server = server.serverConnectionForTLS(None)  # type: ignore[arg-type]
        self.server.set_accept_state()
        self._joint = Joint(self.server)
        self.client = client.wrap_bio(
            self._joint.incoming, self._joint.outgoing, server_hostname=name, session=session
        )
        self._joint.handshake(self.client)

    def say(self, data: bytes) -> bytes:
        """What the client reads of what the server sends; a ticket comes before it."""
        self.server.send(data)
        self._joint.carry()
        return self.client.read(len(data))

    def peer_names(self) -> list[str]:
        certificate: Any = self.client.getpeercert()
        return [name for _, name in certificate["subjectAltName"]]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def events() -> Iterator[list[dict[str, Any]]]:
    seen: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(seen.append)
    yield seen
    globalLogPublisher.removeObserver(seen.append)


def test_a_client_of_the_standard_library_connects(site: Site) -> None:
    server = ServerTls([site.pair("mail", "mail.example.org")], Clock().seconds)
    verifyObject(IOpenSSLServerConnectionCreator, server)
    talk = Talk(server, site.client())
    assert talk.client.version() == "TLSv1.3"
    assert talk.client.compression() is None
    assert talk.say(b"220 ready\r\n") == b"220 ready\r\n"


@pytest.mark.parametrize("old", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_nothing_older_than_1_2(site: Site, old: ssl.TLSVersion) -> None:
    server = ServerTls([site.pair("mail", "mail.example.org")], Clock().seconds)
    client = site.client()
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version = client.maximum_version = old
    with pytest.raises((ssl.SSLError, SSL.Error)):
        Talk(server, client)


CBC = "ECDHE-ECDSA-AES256-SHA384"


def old_client(site: Site, ciphers: str) -> ssl.SSLContext:
    client = site.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(ciphers)
    return client


@pytest.mark.parametrize(
    ("cbc", "cipher"),
    [
        (False, "AES128-GCM-SHA256"),
        (False, "ECDHE-ECDSA-AES128-SHA"),
        (False, "ECDHE-ECDSA-AES128-CCM"),
        (False, CBC),
        (True, "AES128-GCM-SHA256"),
        (True, "ECDHE-ECDSA-AES128-SHA"),
    ],
)
def test_no_cipher_without_forward_secrecy_or_authentication(
    site: Site, cbc: bool, cipher: str
) -> None:
    server = ServerTls([site.pair("mail", "mail.example.org")], Clock().seconds, cbc=cbc)
    client = old_client(site, cipher)
    with pytest.raises((ssl.SSLError, SSL.Error)):
        Talk(server, client)


def test_cbc_where_it_is_asked_for_and_there_is_nothing_better(site: Site) -> None:
    server = ServerTls([site.pair("mail", "mail.example.org")], Clock().seconds, cbc=True)
    for offered, taken in ((CBC, CBC), (f"{CBC}:ECDHE+AESGCM", "ECDHE-ECDSA-AES256-GCM-SHA384")):
        cipher = Talk(server, old_client(site, offered)).client.cipher()
        assert cipher is not None and cipher[0] == taken


@pytest.mark.parametrize(
    ("group", "taken"),
    [("prime256v1", True), ("secp384r1", True), ("X25519", True), ("secp521r1", False)],
)
def test_groups(site: Site, group: str, taken: bool) -> None:
    server = ServerTls([site.pair("mail", "mail.example.org")], Clock().seconds)
    client = site.client()
    client.set_ecdh_curve(group)
    if taken:
        assert Talk(server, client).client.version() == "TLSv1.3"
    else:
        with pytest.raises((ssl.SSLError, SSL.Error)):
            Talk(server, client)


def test_no_renegotiation(site: Site) -> None:
    server = ServerTls([site.pair("mail", "mail.example.org")], Clock().seconds)
    client = site.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    talk = Talk(server, client)
    with pytest.raises(SSL.Error, match="no renegotiation"):
        talk.server.renegotiate()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["mail.example.org", "mail.example.net"])
def test_sessions_are_resumed(site: Site, version: ssl.TLSVersion, name: str) -> None:
    pairs = [site.pair("mail", "mail.example.org"), site.pair("net", "mail.example.net")]
    server = ServerTls(pairs, Clock().seconds)
    client = site.client()
    client.minimum_version = client.maximum_version = version
    first = Talk(server, client, name)
    first.say(b"220 ready\r\n")
    assert not first.client.session_reused
    second = Talk(server, client, name, first.client.session)
    assert second.client.session_reused
    assert second.say(b"220 again\r\n") == b"220 again\r\n"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_ticket_is_good_for_a_day_at_the_most(site: Site, version: ssl.TLSVersion) -> None:
    clock = Clock()
    pair = site.pair("mail", "mail.example.org")
    server = ServerTls([pair], clock.seconds)
    client = site.client()
    client.minimum_version = client.maximum_version = version

    def resumed() -> bool:
        return Talk(server, client, session=first.client.session).client.session_reused or False

    clock.advance(TICKET_SECONDS - 1)
    first = Talk(server, client)
    first.say(b"220 ready\r\n")
    assert resumed()
    for path in pair:
        path.unlink()  # what is used is known
    clock.advance(1)
    assert not resumed()
    first = Talk(server, client)
    first.say(b"220 ready\r\n")
    assert resumed()


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("mail.example.org", ["mail.example.org", "localhost"]),
        ("localhost", ["mail.example.org", "localhost"]),
        ("mail.example.net", ["mail.example.net"]),
        ("MAIL.example.NET", ["mail.example.net"]),
        ("pop.example.com", ["*.example.com"]),
        ("smtp.example.com", ["smtp.example.com"]),
        ("a.b.example.com", ["mail.example.org", "localhost"]),
        ("example.com", ["mail.example.org", "localhost"]),
        ("unknown.example", ["mail.example.org", "localhost"]),
        (None, ["mail.example.org", "localhost"]),
    ],
)
def test_the_certificate_is_chosen_by_name(site: Site, asked: str | None, given: list[str]) -> None:
    pairs = [
        site.pair("mail", "mail.example.org", "localhost"),
        site.pair("net", "mail.example.net"),
        site.pair("wild", "*.example.com"),
        site.pair("smtp", "smtp.example.com"),
    ]
    client = site.client()
    client.check_hostname = False
    assert Talk(ServerTls(pairs, Clock().seconds), client, asked).peer_names() == given


def test_the_whole_chain_is_sent(tmp_path: Path) -> None:
    root = trustme.CA()
    site = Site(tmp_path)
    site.ca = root.create_child_ca()
    server = ServerTls([site.pair("mail", "mail.example.org")], Clock().seconds)
    client = ssl.create_default_context()
    root.configure_trust(client)
    assert Talk(server, client).peer_names() == ["mail.example.org"]


def test_changed_files_are_noticed_at_a_later_handshake(site: Site) -> None:
    clock = Clock()
    server = ServerTls([site.pair("mail", "mail.example.org")], clock.seconds)
    before = Talk(server, site.client())
    site.pair("mail", "mail.example.org", "new.example.org")
    assert Talk(server, site.client()).peer_names() == ["mail.example.org"]
    clock.advance(LOOK_SECONDS)
    assert Talk(server, site.client()).peer_names() == ["mail.example.org", "new.example.org"]
    # what was open goes on as it was
    assert before.say(b"221 bye\r\n") == b"221 bye\r\n"
    assert before.peer_names() == ["mail.example.org"]


def test_reload_does_not_wait(site: Site) -> None:
    server = ServerTls([site.pair("mail", "mail.example.org")], Clock().seconds)
    site.pair("mail", "mail.example.org", "new.example.org")
    assert server.reload()
    assert Talk(server, site.client()).peer_names() == ["mail.example.org", "new.example.org"]


def test_a_renewal_by_symbolic_link_is_noticed(site: Site) -> None:
    clock = Clock()
    for link, file in zip(
        (site.directory / "live.pem", site.directory / "live.key"),
        site.pair("1", "mail.example.org"),
        strict=True,
    ):
        link.symlink_to(file)
    pair = site.directory / "live.pem", site.directory / "live.key"
    server = ServerTls([pair], clock.seconds)
    for link, file in zip(pair, site.pair("2", "mail.example.org", "new.org"), strict=True):
        (site.directory / "next").symlink_to(file)
        (site.directory / "next").rename(link)
    clock.advance(LOOK_SECONDS)
    assert Talk(server, site.client()).peer_names() == ["mail.example.org", "new.org"]


@pytest.mark.parametrize("harm", ["no PEM", "another key", "gone", "no rights", "one of two"])
def test_broken_files_change_nothing_and_are_told_once(
    site: Site, events: list[dict[str, Any]], harm: str
) -> None:
    clock = Clock()
    more = site.pair("net", "mail.example.net")
    certificate, key = site.pair("mail", "mail.example.org")
    server = ServerTls([(certificate, key), more], clock.seconds)
    if harm == "no PEM":
        certificate.write_bytes(b"nonsense")
    elif harm == "another key":
        key.write_bytes(site.ca.issue_cert("x.org").private_key_pem.bytes())
    elif harm == "gone":
        key.unlink()
    elif harm == "no rights":
        key.unlink()
        key.mkdir()
    else:
        site.pair("mail", "mail.example.org", "new.example.org")
        more[1].write_bytes(b"nonsense")
    for _ in range(3):
        clock.advance(LOOK_SECONDS)
        assert Talk(server, site.client()).peer_names() == ["mail.example.org"]
    errors = [event for event in events if event["log_level"] is LogLevel.error]
    assert len(errors) == 1
    assert str(site.directory) in str(errors[0]["error"])
    assert not server.reload()
    # mended: noticed without a word from anybody
    if harm == "no rights":
        key.rmdir()
    site.pair("mail", "mail.example.org", "new.example.org")
    more[0].write_bytes(more[0].read_bytes())
    site.pair("net", "mail.example.net")
    clock.advance(LOOK_SECONDS)
    assert "new.example.org" in Talk(server, site.client()).peer_names()


def test_a_clock_set_back_does_not_end_the_looking(site: Site) -> None:
    now = [1000.0]
    server = ServerTls([site.pair("mail", "mail.example.org")], lambda: now[0])
    site.pair("mail", "mail.example.org", "new.example.org")
    now[0] = 10.0
    assert "new.example.org" in Talk(server, site.client()).peer_names()


def test_files_are_looked_at_only_now_and_then(site: Site) -> None:
    clock = Clock()
    certificate, key = site.pair("mail", "mail.example.org")
    server = ServerTls([(certificate, key)], clock.seconds)
    os.utime(key, ns=(1, 1))
    context = Talk(server, site.client()).server.get_context()
    assert Talk(server, site.client()).server.get_context() is context
    clock.advance(LOOK_SECONDS)
    assert Talk(server, site.client()).server.get_context() is not context


def test_files_that_can_not_be_used_at_the_start(site: Site) -> None:
    certificate, key = site.pair("mail", "mail.example.org")
    with pytest.raises(ValueError, match=r"mail\.pem is not PEM with a private key"):
        ServerTls([(certificate, certificate)], Clock().seconds)
    weak = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.example.org")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    signed = x509.CertificateBuilder(name, name, weak.public_key(), 1, start, start)
    certificate.write_bytes(
        signed.sign(weak, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    key.write_bytes(
        weak.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with pytest.raises(ValueError, match=r"mail\.pem can not be used: .*too small"):
        ServerTls([(certificate, key)], Clock().seconds)
    with pytest.raises(FileNotFoundError):
        ServerTls([(site.directory / "none.pem", key)], Clock().seconds)
    with pytest.raises(ValueError, match="no certificate"):
        ServerTls([], Clock().seconds)


def test_under_twisteds_own_layer(site: Site) -> None:
    clock = Clock()
    server = ServerTls([site.pair("mail", "mail.example.org")], clock.seconds)
    greeted = Protocol()
    factory = TLSMemoryBIOFactory(server, False, Factory.forProtocol(lambda: greeted), clock)
    layer = factory.buildProtocol(None)
    layer.makeConnection(FakeTransport(layer, True))
    assert isinstance(layer.getHandle(), SSL.Connection)
    layer.abortConnection()
