"""AUTH: the best mechanism offered, TLS first, and a password that goes to nobody else."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramMechanism
from scripted_peer import Talk, result_of, talk

from twisted_mail.sasl import SaslError, ScramFirst, ScramKeys
from twisted_mail.smtp.client.interfaces import SessionError
from twisted_mail.smtp.client.login import MAX_ITERATIONS, ScramClient, best_of, plain

USER, PASSWORD = "alice@example.org", "correct horse, battery = staple"


def b64(text: str | bytes) -> str:
    return b64encode(text.encode() if isinstance(text, str) else text).decode()


PLAIN = b64(f"\0{USER}\0{PASSWORD}")


@pytest.mark.parametrize(
    ("offered", "best"),
    [
        ("PLAIN LOGIN", "PLAIN"),
        ("LOGIN PLAIN SCRAM-SHA-256", "SCRAM-SHA-256"),
        ("login", "LOGIN"),
        ("CRAM-MD5 SCRAM-SHA-256-PLUS XOAUTH2", None),
        ("", None),
    ],
)
def test_the_best_that_is_offered(offered: str, best: str | None) -> None:
    assert best_of(offered) == best


def login(script: str, *extensions: str, **options: Any) -> Talk:
    """Log in, in clear as it may."""
    conversation = talk(script, *extensions, clear_login=True, **options)
    conversation.do(conversation.conversation.login(USER, PASSWORD))
    return conversation


def test_plain() -> None:
    login(f"C: AUTH PLAIN {PLAIN}\nS: 235 2.7.0 in", "AUTH LOGIN PLAIN").finished()


def test_login() -> None:
    login(
        f"""
        C: AUTH LOGIN
        S: 334 VXNlcm5hbWU6
        C: {b64(USER)}
        S: 334 whatever
        C: {b64(PASSWORD)}
        S: 235 2.7.0 in""",
        "AUTH LOGIN",
    ).finished()


def test_a_long_plain_goes_in_a_line_of_its_own() -> None:
    long = "x" * 600
    conversation = talk(
        f"""
        C: AUTH PLAIN
        S: 334 go
        C: {b64(f"{chr(0)}{USER}{chr(0)}{long}")}
        S: 235 in""",
        "AUTH PLAIN",
        clear_login=True,
    )
    conversation.do(conversation.conversation.login(USER, long))
    conversation.finished()


def test_not_without_tls() -> None:
    conversation = talk("", "AUTH PLAIN LOGIN")
    said = conversation.peer.heard
    with pytest.raises(SessionError, match="without TLS") as caught:
        conversation.do(conversation.conversation.login(USER, PASSWORD))
    assert caught.value.reply is None
    assert conversation.peer.heard == said
    assert conversation.conversation.open


def test_nothing_offered() -> None:
    conversation = talk("", "AUTH CRAM-MD5", clear_login=True)
    with pytest.raises(SessionError, match="no login that we know"):
        conversation.do(conversation.conversation.login(USER, PASSWORD))


@pytest.mark.parametrize("reply", ["535 5.7.8 no", "454 4.7.0 later", "421 4.7.0 bye"])
def test_refused(reply: str) -> None:
    with pytest.raises(SessionError) as caught:
        login(f"C: AUTH PLAIN {PLAIN}\nS: {reply}", "AUTH PLAIN")
    assert caught.value.text == f"mx.example.net refused the login: {reply}"
    assert caught.value.reply is not None
    assert caught.value.reply.code == int(reply[:3])


def test_a_peer_that_repeats_the_password() -> None:
    for secret in (PLAIN, PASSWORD, b64(PASSWORD)):
        for said in (f"S: 535 5.7.8 {secret} is wrong", f"S: {secret}"):
            with pytest.raises(SessionError) as caught:
                login(f"C: AUTH PLAIN {PLAIN}\n{said}", "AUTH PLAIN")
            assert secret[:20] not in repr((caught.value, caught.value.text, caught.value.reply))
            assert caught.value.__context__ is None or caught.value.__suppress_context__


class ScramServer:
    """The other side, of our own server's pieces."""

    def __init__(self, password: str = PASSWORD, iterations: int = 4096) -> None:
        self.keys = ScramKeys.derive(password, b"salt" * 4, iterations)
        self.challenge: Any = None
        self.proof: Any = None

    def first(self, message: bytes) -> bytes:
        first = ScramFirst.parse(message)
        assert first.username == USER
        self.challenge = first.challenge(self.keys, "server-nonce")
        data: bytes = self.challenge.data
        return data

    def final(self, message: bytes) -> bytes:
        self.proof = self.challenge.proof(message)
        final: bytes = self.proof.server_final(self.keys)
        return final


def scram(server: ScramServer, final: bytes | None = None) -> tuple[Talk, Any]:
    """Log in by SCRAM, the peer spoken for by `server`; `final` in place of what it says last."""
    conversation = talk("", "AUTH PLAIN SCRAM-SHA-256", clear_login=True)
    waiting = conversation.start(conversation.conversation.login(USER, PASSWORD))
    peer = conversation.peer

    def say(line: bytes) -> None:
        peer._unread = b""
        peer.transport.write(line + b"\r\n")
        conversation.world.reactor.settle()

    verb, mechanism, first = peer._unread.split()
    assert (verb, mechanism) == (b"AUTH", b"SCRAM-SHA-256")
    say(b"334 " + b64encode(server.first(b64decode(first))))
    if waiting.called:
        return conversation, waiting
    said = server.final(b64decode(peer._unread))
    say(b"334 " + b64encode(said) if final is None else final)
    if not waiting.called:
        assert peer._unread == b"\r\n"
        say(b"235 2.7.0 in")
    return conversation, waiting


def test_scram() -> None:
    server = ScramServer()
    conversation, waiting = scram(server)
    assert result_of(waiting) is None
    assert server.proof.matches(server.keys)
    assert conversation.conversation.open


def test_scram_with_a_server_that_does_not_know_the_password() -> None:
    conversation, waiting = scram(ScramServer("something else"))
    with pytest.raises(SessionError, match="the server does not know the password"):
        result_of(waiting)
    assert not conversation.conversation.open


@pytest.mark.parametrize("final", [b"235 2.7.0 come in", b"334 dj0=", b"334 %%%", b"334 "])
def test_scram_with_a_server_that_proves_nothing(final: bytes) -> None:
    conversation, waiting = scram(ScramServer(), final)
    with pytest.raises(SessionError, match=r"^login at mx\."):
        result_of(waiting)
    assert not conversation.conversation.open


def test_scram_refused() -> None:
    conversation, waiting = scram(ScramServer(), b"535 5.7.8 no")
    with pytest.raises(SessionError) as caught:
        result_of(waiting)
    assert caught.value.reply is not None
    assert conversation.conversation.open


def test_scram_wants_work_within_reason() -> None:
    _, waiting = scram(ScramServer(iterations=100))
    with pytest.raises(SessionError, match="asks for 100 iterations"):
        result_of(waiting)


@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"r=abc",
        b"r=abcX,s=c2FsdA==,i=x",
        b"r=abcX,s=%,i=4096",
        b"r=abc,s=c2FsdA==,i=4096",
        b"r=xyz,s=c2FsdA==,i=4096",
        b"m=ext,r=abcX,s=c2FsdA==,i=4096",
        b"r=abcX,s=c2FsdA==,i=%d" % (MAX_ITERATIONS + 1),
        b"r=abcX,s=c2FsdA==,i=" + b"9" * 5000,
        b"r=abcX,s=c2FsdA==,i=-5",
        b"\xff,\xff,\xff",
    ],
)
def test_challenges_that_are_none(challenge: bytes) -> None:
    with pytest.raises(SaslError):
        ScramClient(USER, PASSWORD, "abc").answer(challenge)


@given(st.binary())
def test_no_challenge_makes_it_raise_anything_else(challenge: bytes) -> None:
    client = ScramClient(USER, PASSWORD, "abc")
    for step in (client.answer, client.verify):
        with pytest.raises(SaslError):
            step(challenge)


@pytest.mark.parametrize("name", ["alice", "a=b,c", "jörg"])
def test_scram_as_another_implementation_has_it(name: str) -> None:
    mechanism = ScramMechanism("SCRAM-SHA-256")
    record = mechanism.make_auth_info(PASSWORD, iteration_count=4096)
    server = mechanism.make_server(lambda username: record)
    client = ScramClient(name, PASSWORD, "some-nonce")
    server.set_client_first(client.first().decode())
    answer = client.answer(server.get_server_first().encode())
    server.set_client_final(answer.decode())
    client.verify(server.get_server_final().encode())


def test_the_example_of_rfc_7677() -> None:
    client = ScramClient("user", "pencil", "rOprNGfwEbeRWgbNEkqO")
    assert client.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    answer = client.answer(
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    assert answer == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    client.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    with pytest.raises(SaslError):
        client.verify(b"v=" + b64encode(hashlib.sha256().digest()))


def test_plain_without_nul() -> None:
    with pytest.raises(SaslError):
        plain("a\0b", "c")
    with pytest.raises(SessionError, match="NUL"):
        conversation = talk("", "AUTH PLAIN", clear_login=True)
        conversation.do(conversation.conversation.login("a", "b\0c"))


@pytest.mark.parametrize(
    ("offered", "first"), [("SCRAM-SHA-256", None), ("PLAIN", PLAIN), ("LOGIN", "")]
)
def test_a_mechanism_that_is_refused_at_once(offered: str, first: str | None) -> None:
    if first is None:
        conversation = talk("", f"AUTH {offered}", clear_login=True)
        waiting = conversation.start(conversation.conversation.login(USER, PASSWORD))
        conversation.peer._unread = b""
        transport: Any = conversation.peer.transport
        transport.write(b"504 5.5.4 not that\r\n")
        conversation.world.reactor.settle()
        with pytest.raises(SessionError, match="504"):
            result_of(waiting)
        assert conversation.conversation.open
    else:
        with pytest.raises(SessionError, match="504"):
            login(f"C: AUTH {offered} {first}".rstrip() + "\nS: 504 not that", f"AUTH {offered}")


def test_a_name_that_saslprep_forbids_is_sent_as_it_is() -> None:
    assert ScramClient("a\u0007b", "p", "n").first() == b"n,,n=a\x07b,r=n"
