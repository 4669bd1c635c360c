"""SMTP on a port: what the factory gives its sessions, by profile."""

from __future__ import annotations

from typing import Any

import pytest
from OpenSSL import SSL
from smtp_conversation import FakeIntake
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from twisted_mail.connection.limits import ConnectionLimits
from twisted_mail.smtp.protocol import SmtpFactory
from twisted_mail.smtp.session import Profile, SmtpSettings
from twisted_mail.testing import simulated_world


@implementer(IOpenSSLServerConnectionCreator)
class Tls:
    """A server's TLS, without a certificate: nobody gets so far here."""

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(SSL.Context(SSL.TLS_SERVER_METHOD), None)


def connect(profile: Profile = Profile.SMTP, **options: Any) -> tuple[Any, Any]:
    """A world and a client of a server without an intake: no message comes that far here."""
    world = simulated_world()
    intake: Any = FakeIntake()
    settings = SmtpSettings("mail.example.org")
    limits = options.pop("limits", ConnectionLimits(9, 9))
    factory = SmtpFactory(world, profile, settings, intake, None, limits=limits, **options)
    return world, world.reactor.connect(factory)


def test_greets_in_the_host_s_name() -> None:
    _, client = connect()
    assert client.read().startswith(b"220 mail.example.org ESMTP")


def test_starttls_is_offered_with_a_certificate_only() -> None:
    _, client = connect()
    assert b"STARTTLS" not in client.ask(b"EHLO c\r\n")
    _, client = connect(tls=Tls())
    assert b"STARTTLS" in client.ask(b"EHLO c\r\n")


def test_submissions_says_nothing_before_the_handshake() -> None:
    _, client = connect(Profile.SUBMISSIONS, tls=Tls())
    assert client.read() == b""
    assert client.closed is None
    with pytest.raises(ValueError, match="submissions: TLS from the first byte needs"):
        connect(Profile.SUBMISSIONS)


def test_five_minutes_of_silence() -> None:
    world, client = connect()
    client.read()
    world.reactor.advance(299)
    assert client.read() == b""
    world.reactor.advance(1)
    assert client.read().startswith(b"421 4.4.2 ")
    assert client.closed is not None


def test_too_many_connections() -> None:
    _, client = connect(limits=ConnectionLimits(0, 9))
    assert client.read() == b"421 4.7.0 mail.example.org Too many connections\r\n"
    assert client.closed is not None


def test_the_longest_command() -> None:
    _, client = connect(max_command_bytes=3000)
    client.read()
    assert client.ask(b"NOOP " + b"x" * 2900 + b"\r\n").startswith(b"250 ")
    assert client.ask(b"NOOP " + b"x" * 3000 + b"\r\n").startswith(b"500 ")
