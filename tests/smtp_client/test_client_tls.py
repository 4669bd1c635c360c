"""TLS with real bytes: STARTTLS, implicit TLS, what goes wrong, and what is injected."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from scripted_peer import ALICE, BOB, Talk, codes, greeted, result_of, talk
from service_identity import VerificationError
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.ssl import (
    Certificate,
    TLSVersion,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mail.smtp.client.interfaces import SessionError, Timeouts
from twisted_mail.storage.queued import Options

HELLO = "C: Subject: hi\nC: \nC: hello\nC: .\n"
SECURE_HELLO = (
    "C: EHLO me.example.org\nS: 250-mx.example.net\nS: 250-REQUIRETLS\nS: 250 PIPELINING\n"
)


@implementer(IOpenSSLServerConnectionCreator)
class ServerOf:
    def __init__(self, context: SSL.Context) -> None:
        self.context = context

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self.context, None)


class Trust:
    """One CA, the server's side and the client's."""

    def __init__(self) -> None:
        self.ca = trustme.CA()

    def server(self, name: str = "mx.example.net", **options: Any) -> Any:
        made = self.ca.issue_cert(name, **options)
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate(x509.load_pem_x509_certificate(made.cert_chain_pems[0].bytes()))
        key: Any = load_pem_private_key(made.private_key_pem.bytes(), None)
        context.use_privatekey(key)
        return ServerOf(context)

    def client(self, name: str = "mx.example.net", **options: Any) -> Any:
        root = trustRootFromCertificates([Certificate.loadPEM(self.ca.cert_pem.bytes())])
        return optionsForClientTLS(name, trustRoot=root, extraCertificateOptions=options)


@pytest.fixture(scope="module")
def trust() -> Trust:
    return Trust()


def test_starttls(trust: Trust) -> None:
    conversation = talk(
        f"""
        C: STARTTLS
        S: 220 go
        TLS
        {SECURE_HELLO}
        C: MAIL FROM:<{ALICE}> REQUIRETLS
        C: RCPT TO:<{BOB}>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 354 go
        {HELLO}
        S: 250 2.0.0 queued
        C: QUIT
        S: 221 bye
        CLOSE""",
        "STARTTLS",
        "8BITMIME",
        tls=trust.server(),
    )
    client = conversation.conversation
    assert client.extensions
    conversation.do(client.start_tls(trust.client()))
    assert client.extensions == {}
    assert client.tls is not None
    assert client.tls.startswith("TLSv1.3 TLS_")
    conversation.hello()
    assert "8BITMIME" not in client.extensions
    certificate, *_ = client.peer_chain()
    assert isinstance(certificate, x509.Certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mx.example.net"]
    assert codes(conversation.send(BOB, options=Options(requiretls=True))) == ["250 2.0.0"]
    conversation.do(client.quit())
    conversation.finished()
    conversation.world.reactor.advance(20)
    assert conversation.peer.closed


def test_implicit_tls(trust: Trust) -> None:
    conversation = Talk(
        "TLS\n" + greeted("PIPELINING"), tls=trust.server(), client_tls=trust.client()
    )
    assert conversation.conversation.tls
    conversation.hello()
    assert len(conversation.conversation.peer_chain()) == 1
    conversation.finished()


def test_a_long_message_over_tls(trust: Trust) -> None:
    content = b"a line of thirty-two octets....\n" * 30_000
    wire = content.replace(b"\n", b"\r\n") + b".\r\n"
    conversation = Talk(
        "TLS\n"
        + greeted("PIPELINING")
        + f"C: MAIL FROM:<{ALICE}>\nC: RCPT TO:<{BOB}>\nC: DATA\n"
        + f"S: 250 ok\nS: 250 ok\nS: 354 go\nC* {len(wire)}\nS: 250 ok",
        tls=trust.server(),
        client_tls=trust.client(),
    )
    conversation.hello()
    assert codes(conversation.send(BOB, content=content)) == ["250"]
    assert conversation.peer.heard.endswith(wire)
    conversation.finished()


@pytest.mark.parametrize("reply", ["454 4.7.0 not now", "502 what", "550 5.7.1 not you"])
def test_a_refused_starttls_leaves_the_connection(trust: Trust, reply: str) -> None:
    conversation = talk(
        f"C: STARTTLS\nS: {reply}\nC: MAIL FROM:<{ALICE}>\nS: 450 later", "STARTTLS"
    )
    with pytest.raises(SessionError) as caught:
        conversation.do(conversation.conversation.start_tls(trust.client()))
    assert caught.value.text == f"mx.example.net refused STARTTLS: {reply}"
    assert caught.value.reply is not None
    assert conversation.conversation.open
    assert "STARTTLS" in conversation.conversation.extensions
    assert codes(conversation.send(BOB)) == ["450"]
    conversation.finished()


def test_421_to_starttls_ends_it(trust: Trust) -> None:
    conversation = talk("C: STARTTLS\nS: 421 4.3.2 bye", "STARTTLS")
    with pytest.raises(SessionError) as caught:
        conversation.do(conversation.conversation.start_tls(trust.client()))
    assert caught.value.reply is not None
    assert not conversation.conversation.open


@pytest.mark.parametrize(
    "injected", ["250 mx.example.net\\r\\n250-AUTH PLAIN\\r\\n", "250-mx.exam", "\\n", "\\x16\\x03"]
)
def test_what_came_in_clear_is_never_read_as_protected(trust: Trust, injected: str) -> None:
    conversation = talk(f"C: STARTTLS\nS! 220 go\\r\\n{injected}", "STARTTLS")
    with pytest.raises(SessionError) as caught:
        conversation.do(conversation.conversation.start_tls(trust.client()))
    assert caught.value.text == "mx.example.net sent more than its answer to STARTTLS"
    assert caught.value.reply is None
    assert not conversation.conversation.open
    assert conversation.conversation.tls is None
    conversation.world.reactor.settle()
    assert conversation.peer.closed


def test_words_in_clear_behind_the_handshakes_start(trust: Trust) -> None:
    conversation = talk("C: STARTTLS\nS: 220 go\nC* 5", "STARTTLS")
    waiting = conversation.start(conversation.conversation.start_tls(trust.client()))
    transport: Any = conversation.peer.transport
    transport.write(b"250 ok\r\n")
    conversation.world.reactor.settle()
    with pytest.raises(
        SessionError, match=r"TLS handshake with mx\.example\.net failed: .*version"
    ):
        result_of(waiting)
    assert not conversation.conversation.open


def test_implicit_tls_with_a_peer_that_speaks_in_clear(trust: Trust) -> None:
    with pytest.raises(SessionError, match=r"TLS handshake with mx\.example\.net failed"):
        Talk("S: 220 hi", client_tls=trust.client())


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (lambda trust: Trust().server(), "certificate verify failed"),
        (
            lambda trust: trust.server(not_after=datetime(2020, 1, 1, tzinfo=UTC)),
            "certificate verify failed",
        ),
        (
            lambda trust: trust.server("other.example.net"),
            "its certificate is for another name|verify failed",
        ),
    ],
)
def test_a_certificate_that_is_not_believed(trust: Trust, server: Any, reason: str) -> None:
    conversation = talk("C: STARTTLS\nS: 220 go\nTLS", "STARTTLS", tls=server(trust))
    with pytest.raises(SessionError, match=reason) as caught:
        conversation.do(conversation.conversation.start_tls(trust.client()))
    assert caught.value.text.startswith("TLS handshake with mx.example.net failed: ")
    assert not conversation.conversation.open
    assert conversation.conversation.tls is None
    conversation.world.reactor.advance(20)
    assert conversation.peer.closed


def test_no_common_version(trust: Trust) -> None:
    old = trust.server()
    old.context.set_max_proto_version(SSL.TLS1_2_VERSION)
    conversation = talk("C: STARTTLS\nS: 220 go\nTLS", "STARTTLS", tls=old)
    with pytest.raises(
        SessionError, match=r"TLS handshake with mx\.example\.net failed: .*version"
    ):
        conversation.do(
            conversation.conversation.start_tls(trust.client(raiseMinimumTo=TLSVersion.TLSv1_3))
        )


def test_a_handshake_that_does_not_end(trust: Trust) -> None:
    conversation = talk("C: STARTTLS\nS: 220 go", "STARTTLS", timeouts=Timeouts(tls=60))
    waiting = conversation.start(conversation.conversation.start_tls(trust.client()))
    conversation.world.reactor.advance(59)
    assert not waiting.called
    conversation.world.reactor.advance(1)
    with pytest.raises(SessionError) as caught:
        result_of(waiting)
    assert caught.value.text == (
        "mx.example.net did not finish the TLS handshake within 60 seconds"
    )
    conversation.world.reactor.settle()
    assert conversation.peer.closed


@pytest.mark.parametrize("ending", ["CLOSE", "ABORT", "SHUT"])
def test_closed_during_the_handshake(trust: Trust, ending: str) -> None:
    conversation = talk("C: STARTTLS\nS: 220 go\nC* 5\nWAIT 1", "STARTTLS")
    conversation.peer.left.append(ending)
    waiting = conversation.start(conversation.conversation.start_tls(trust.client()))
    conversation.peer._unread = b""
    conversation.world.reactor.advance(20)
    with pytest.raises(SessionError) as caught:
        result_of(waiting)
    assert caught.value.text == "mx.example.net closed the connection during the TLS handshake"


def test_the_peer_closes_over_tls(trust: Trust) -> None:
    for ending in ("CLOSE", "ABORT"):
        conversation = Talk(
            "TLS\n"
            + greeted("PIPELINING")
            + f"C: MAIL FROM:<{ALICE}>\nC: RCPT TO:<{BOB}>\nC: DATA\n"
            + ending,
            tls=trust.server(),
            client_tls=trust.client(),
        )
        conversation.hello()
        with pytest.raises(SessionError, match="closed the connection instead of answering MAIL"):
            conversation.send(BOB)
        conversation.world.reactor.advance(20)
        assert conversation.peer.closed


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (VerificationError([]), "its certificate is for another name"),
        (ValueError("no TLSA record fits"), "no TLSA record fits"),
        (SSL.Error([]), ""),
    ],
)
def test_reasons_that_a_creator_gives(trust: Trust, reason: Exception, words: str) -> None:
    conversation = talk("C: STARTTLS\nS: 220 go\nTLS", "STARTTLS", tls=trust.server())
    waiting = conversation.start(conversation.conversation.start_tls(Fails(trust, reason)))
    with pytest.raises(SessionError) as caught:
        result_of(waiting)
    assert caught.value.text == "TLS handshake with mx.example.net failed" + (
        words and f": {words}"
    )


@implementer(IOpenSSLClientConnectionCreator)
class Fails:
    """Does not believe any certificate, for a reason of its own."""

    def __init__(self, trust: Trust, reason: Exception) -> None:
        self.inner = trust.client()
        self.reason = reason

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection: SSL.Connection = self.inner.clientConnectionForTLS(protocol)

        def judge(*of: object) -> bool:
            protocol.failVerification(Failure(self.reason))
            return False

        connection.set_verify(SSL.VERIFY_PEER, judge)
        return connection
