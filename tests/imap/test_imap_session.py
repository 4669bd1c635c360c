"""IMAP sessions: states, login, STARTTLS, failures, the end (RFC 9051 sections 3, 6.1 and 6.2)."""

from __future__ import annotations

import re
import zlib
from base64 import b64encode
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from imap_dialogue import MESSAGE, Dialogue
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import globalLogPublisher
from zope.interface import implementer

from twisted_mail.connection.interfaces import STRANGERS_TALK
from twisted_mail.imap import verbs
from twisted_mail.imap.state import State
from twisted_mail.status import MailError

PLAIN = b64encode(b"\0alice\0secret")


@pytest.fixture
def log() -> Any:
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


@implementer(IOpenSSLServerConnectionCreator)
class Tls:
    """A certificate for ``localhost``."""

    def __init__(self) -> None:
        authority = trustme.CA()
        self.authority = authority.cert_pem.bytes()
        expires = datetime(2040, 1, 1, tzinfo=UTC)
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        pair = authority.issue_cert("localhost", not_after=expires)
        with pair.private_key_and_cert_chain_pem.tempfile() as name:
            self._context.use_certificate_chain_file(name)
            self._context.use_privatekey_file(name)

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(self._context, None)


def test_capability_noop_logout() -> None:
    dialogue = Dialogue()
    assert dialogue.greeting.startswith(b"* OK [CAPABILITY IMAP4rev1 IMAP4rev2 ID AUTH=PLAIN ")
    dialogue.run("""
        C: abcd CAPABILITY
        S: * CAPABILITY IMAP4rev1 IMAP4rev2 ID AUTH=PLAIN SASL-IR LITERAL- ENABLE IDLE
        S: abcd OK CAPABILITY completed
        C: a002 NOOP
        S: a002 OK NOOP completed
        C: A023 LOGOUT
        S: * BYE Logging out
        S: A023 OK LOGOUT completed
    """)
    assert dialogue.client.closed is not None


def test_in_clear_nobody_logs_in_and_clients_are_told() -> None:
    dialogue = Dialogue(tls=Tls(), allow_plaintext_loopback=False)
    assert b" STARTTLS LOGINDISABLED SASL-IR " in dialogue.greeting
    assert b"AUTH=" not in dialogue.greeting
    dialogue.run(f"""
        C: a LOGIN alice secret
        S: a NO [PRIVACYREQUIRED] No login without TLS, say STARTTLS
        C: b AUTHENTICATE PLAIN {PLAIN.decode()}
        S: b NO [PRIVACYREQUIRED] No login without TLS, say STARTTLS
    """)


def test_without_a_certificate_there_is_no_starttls() -> None:
    dialogue = Dialogue(address="198.51.100.1")
    assert b"LOGINDISABLED" in dialogue.greeting
    assert b"STARTTLS" not in dialogue.greeting
    dialogue.run("""
        C: a STARTTLS
        S: a NO TLS is not available
        C: b LOGIN alice secret
        S: b NO [PRIVACYREQUIRED] No login without TLS
    """)


def test_starttls_and_what_is_known_after_it() -> None:
    tls = Tls()
    dialogue = Dialogue(tls=tls, address="198.51.100.1")
    assert dialogue.ask(b"a STARTTLS\r\n") == b"a OK Begin TLS\r\n"
    dialogue.client.start_tls(tls.authority, "localhost")
    dialogue.run("""
        C: b CAPABILITY
        S: * CAPABILITY IMAP4rev1 IMAP4rev2 ID AUTH=PLAIN SASL-IR LITERAL- ENABLE IDLE
        S: b OK CAPABILITY completed
        C: c STARTTLS
        S: c BAD TLS is on already
        C: d LOGIN alice secret
        S: d OK [CAPABILITY ...] LOGIN completed
    """)


def test_nothing_pipelined_behind_starttls_is_run() -> None:
    dialogue = Dialogue(tls=Tls(), address="198.51.100.1")
    said = dialogue.ask(b"a STARTTLS\r\nb NOOP\r\n")
    assert said == b"* BYE Commands were sent behind STARTTLS in clear\r\n"
    assert dialogue.client.closed is not None


def test_tls_from_the_first_byte() -> None:
    tls = Tls()
    dialogue = Dialogue(tls=tls, implicit_tls=True, address="198.51.100.1")
    dialogue.client.start_tls(tls.authority, "localhost")
    assert b"AUTH=PLAIN" in dialogue.client.read()
    dialogue.login()


def test_authenticate_with_and_without_initial_response() -> None:
    dialogue = Dialogue()
    dialogue.run(f"""
        C: a AUTHENTICATE PLAIN {PLAIN.decode()}
        S: a OK [CAPABILITY IMAP4rev1 IMAP4rev2 ID LITERAL+ ...] AUTHENTICATE completed
    """)
    dialogue = Dialogue()
    dialogue.run(f"""
        C: a AUTHENTICATE PLAIN
        S: +\x20
        C: {PLAIN.decode()}
        S: a OK [CAPABILITY ...] AUTHENTICATE completed
        C: b AUTHENTICATE PLAIN
        S: b BAD Not after login
    """)


def test_a_mechanism_of_several_steps() -> None:
    dialogue = Dialogue()
    authenticator = dialogue.authenticator
    heard: list[bytes | None] = []

    async def step(response: bytes | None) -> Any:
        heard.append(response)
        if len(heard) < 3:
            return b"r%d" % len(heard)
        return await authenticator.login("alice", "secret", "")

    authenticator.mechanisms = lambda: ("SCRAM-SHA-256",)
    authenticator.exchange = lambda mechanism, ip: SimpleNamespace(step=step)
    dialogue.run("""
        C: a AUTHENTICATE scram-sha-256 bixh
        S: + cjE=
        C: Yz1i
        S: + cjI=
        C:
        S: a OK [CAPABILITY ...] AUTHENTICATE completed
    """)
    assert heard == [b"n,a", b"c=b", b""]


def test_authentication_that_fails_or_is_cancelled() -> None:
    dialogue = Dialogue(max_login_failures=5)
    wrong = b64encode(b"\0alice\0wrong").decode()
    dialogue.run(f"""
        C: a AUTHENTICATE PLAIN
        S: +\x20
        C: *
        S: a BAD Authentication cancelled
        C: b AUTHENTICATE PLAIN
        S: +\x20
        C: !
        S: b BAD That is not BASE64
        C: c AUTHENTICATE PLAIN {wrong}
        S: c NO [AUTHENTICATIONFAILED] Authentication credentials invalid
        C: d AUTHENTICATE PLAIN =
        S: d NO Malformed authentication response
        C: e AUTHENTICATE GSSAPI
        S: e NO [CANNOT] Unknown mechanism
        C: f LOGIN alice wrong
        S: f NO [AUTHENTICATIONFAILED] Authentication credentials invalid
        C: g LOGIN alice secret
        S: g OK [CAPABILITY ...] LOGIN completed
    """)


def test_a_name_in_a_literal() -> None:
    Dialogue().run("""
        C: a LOGIN {5}
        S: + ...
        C: alice {6}
        S: + ...
        C: secret
        S: a OK [CAPABILITY ...] LOGIN completed
    """)


def test_who_fails_too_often_is_let_go() -> None:
    dialogue = Dialogue(max_login_failures=2)
    dialogue.run("""
        C: a LOGIN alice x
        S: a NO [AUTHENTICATIONFAILED] Authentication credentials invalid
        C: b LOGIN alice y
        S: b NO [AUTHENTICATIONFAILED] Authentication credentials invalid
        S: * BYE Too many failed logins
    """)
    assert dialogue.client.closed is not None


def test_mistakes_in_a_row_end_it_and_others_do_not() -> None:
    dialogue = Dialogue(max_errors=3)
    for _ in range(4):
        assert b"BAD" in dialogue.ask(b"a NONSENSE\r\n")
        assert b"OK" in dialogue.ask(b"a NOOP\r\n")
    said = dialogue.ask(b"a NONSENSE\r\n" * 3)
    assert said.endswith(b"* BYE Too many errors\r\n")
    assert dialogue.client.closed is not None


@pytest.mark.parametrize("command", [b"NOOP", b"CAPABILITY", b"ID NIL"])
def test_a_stranger_talks_so_much_and_no_more(command: bytes) -> None:
    # A million of NOOP cost the server a minute, and who says them nothing
    dialogue = Dialogue(max_errors=3)
    said = dialogue.ask((b"a %b\r\n" % command) * (STRANGERS_TALK + 10))
    assert said.endswith(b"* BYE Too many errors\r\n")
    assert len(re.findall(rb"^a (?:OK|NO|BAD)", said, re.MULTILINE)) == STRANGERS_TALK + 3


def test_who_logs_in_after_all_may_talk() -> None:
    dialogue = Dialogue(max_errors=3)
    assert dialogue.ask(b"a NOOP\r\n" * (STRANGERS_TALK + 2)).count(b"a OK") == STRANGERS_TALK + 2
    assert b"a OK" in dialogue.ask(b"a LOGIN alice secret\r\n")
    said = dialogue.ask(b"a NOOP\r\n" * (STRANGERS_TALK * 2))
    assert said.count(b"a OK") == STRANGERS_TALK * 2 and dialogue.client.closed is None


def test_each_command_has_its_states() -> None:
    dialogue = Dialogue(max_errors=1000)
    for verb in verbs.VERBS.values():
        if State.NOT_AUTHENTICATED not in verb.states:
            session = dialogue.server_session
            with pytest.raises(Exception, match="Log in first"):
                session._admit(verb.states)
    dialogue.login()
    dialogue.run("""
        C: a LOGIN alice secret
        S: a BAD Not after login
        C: b CLOSE
        S: b BAD Select a mailbox first
        C: c APPEND
        S: c BAD ...
    """)


def test_id_is_logged_and_answered(log: list[dict[str, Any]]) -> None:
    Dialogue().run("""
        C: a023 ID ("name" "sodr" "version" "19.34" "vendor" "Pink Floyd Music Limited")
        S: * ID ("name" "twisted-mail")
        S: a023 OK ID completed
        C: a024 ID NIL
        S: * ID ("name" "twisted-mail")
        S: a024 OK ID completed
    """)
    (seen,) = [event["id"] for event in log if "id" in event]
    assert seen == {"name": "sodr", "version": "19.34", "vendor": "Pink Floyd Music Limited"}


def test_an_id_that_is_long_is_logged_in_part(log: list[dict[str, Any]]) -> None:
    fields = b" ".join(b'"k%d" "%s"' % (n, b"x" * 500) for n in range(30))
    assert b"a OK" in Dialogue().ask(b"a ID (%s)\r\n" % fields)
    (seen,) = [event["id"] for event in log if "id" in event]
    assert len(seen) == 10
    assert max(map(len, seen.values())) == 100


def test_enable() -> None:
    dialogue = Dialogue()
    dialogue.login()
    dialogue.run("""
        C: t1 ENABLE CONDSTORE X-GOOD-IDEA
        S: * ENABLED CONDSTORE
        S: t1 OK ENABLE completed
        C: t2 ENABLE CONDSTORE QRESYNC IMAP4rev2 UTF8=ACCEPT
        S: * ENABLED QRESYNC IMAP4rev2 UTF8=ACCEPT
        S: t2 OK ENABLE completed
        C: t3 ENABLE X
        S: * ENABLED
        S: t3 OK ENABLE completed
    """)
    session = dialogue.server_session
    assert (session.condstore, session.qresync, session.rev2, session.utf8) == (True,) * 4


def test_unauthenticate_is_as_before_login() -> None:
    dialogue = Dialogue()
    dialogue.login("INBOX")
    dialogue.run("""
        C: t1 ENABLE QRESYNC
        S: * ENABLED QRESYNC
        S: ...
        S: t1 OK ENABLE completed
        C: A032 UNAUTHENTICATE
        S: A032 OK UNAUTHENTICATE completed
        C: b SELECT INBOX
        S: b BAD Log in first
    """)
    assert (dialogue.account.sessions, dialogue.account.opened) == (0, 0)
    assert dialogue.authenticator.logouts == 1
    # The engine has the bounds of before login, too (RFC 7888 section 5)
    assert dialogue.ask(b"x LOGIN {5000+}\r\n%s x\r\n" % (b"a" * 5000)).startswith(
        b"x BAD [TOOBIG]"
    )
    dialogue.login("INBOX")
    assert not dialogue.server_session.qresync
    assert dialogue.ask(b"c ENABLE QRESYNC\r\n").startswith(b"* ENABLED QRESYNC\r\n")


def test_compress() -> None:
    dialogue = Dialogue()
    dialogue.login()
    dialogue.run("""
        C: a COMPRESS LZW
        S: a BAD DEFLATE is what there is
        C: b COMPRESS DEFLATE
        S: b OK Compressed from now on
    """)
    pack, unpack = zlib.compressobj(wbits=-15), zlib.decompressobj(wbits=-15)

    def ask(line: bytes) -> bytes:
        packed = pack.compress(line + b"\r\n") + pack.flush(zlib.Z_SYNC_FLUSH)
        return unpack.decompress(dialogue.ask(packed))

    assert ask(b"c COMPRESS DEFLATE") == b"c NO [COMPRESSIONACTIVE] It is compressed already\r\n"
    assert b"COMPRESS" not in ask(b"d CAPABILITY").replace(b"d OK", b"")


def test_names_are_utf8_once_it_is_enabled() -> None:
    dialogue = Dialogue()
    dialogue.login()
    dialogue.run("""
        C: a CREATE "R&D"
        S: a NO [CANNOT] ...
        C: b ENABLE UTF8=ACCEPT
        S: * ENABLED UTF8=ACCEPT
        S: b OK ENABLE completed
        C: c CREATE "R&D"
        S: c OK ...
    """)
    assert "R&D" in dialogue.account.boxes


def test_seats_are_bounded_and_given_back() -> None:
    dialogue = Dialogue(max_sessions=1)
    dialogue.login()
    other = dialogue.session()
    full = b"a NO [LIMIT] Too many sessions of this account\r\n"
    assert other.ask(b"a LOGIN alice secret\r\n") == full
    assert dialogue.authenticator.logouts == 1
    dialogue.client.close()
    other.login()


def test_all_is_given_back_when_the_connection_is_lost() -> None:
    dialogue = Dialogue()
    dialogue.login("INBOX")
    assert (dialogue.account.sessions, dialogue.account.opened) == (1, 1)
    dialogue.client.abort()
    assert (dialogue.account.sessions, dialogue.account.opened) == (0, 0)
    assert dialogue.authenticator.logouts == 1


def test_what_must_not_stop_half_way_is_ended_before_the_mailbox_is_closed() -> None:
    dialogue = Dialogue()
    dialogue.login("INBOX")
    expunging: Deferred[None] = Deferred()
    opened = dialogue.server_session.opened

    async def expunge(uids: Any = None) -> None:
        await expunging

    opened.expunge = expunge
    dialogue.ask(b"a CLOSE\r\n")
    dialogue.client.abort()
    assert (dialogue.account.sessions, dialogue.account.opened) == (1, 1)
    expunging.callback(None)
    assert (dialogue.account.sessions, dialogue.account.opened) == (0, 0)


def test_a_login_that_is_under_way_is_given_back_too() -> None:
    dialogue = Dialogue(max_sessions=1)
    opening: Deferred[Any] = Deferred()
    real = dialogue.account.open_mailboxes

    async def slowly() -> Any:
        await opening
        return await real()

    dialogue.account.open_mailboxes = slowly
    dialogue.ask(b"a LOGIN alice secret\r\n")
    dialogue.client.abort()
    opening.callback(None)
    assert (dialogue.account.sessions, dialogue.authenticator.logouts) == (0, 1)
    dialogue.account.open_mailboxes = real
    Dialogue(dialogue.account, world=dialogue.world, factory=dialogue.factory).login()


def test_idle_clients_have_a_minute_before_login_and_half_an_hour_after() -> None:
    dialogue = Dialogue()
    assert dialogue.later(59) == b""
    assert dialogue.later(2) == b"* BYE Idle for too long\r\n"
    dialogue = Dialogue()
    dialogue.login()
    assert dialogue.later(1800) == b""
    assert dialogue.later(61) == b"* BYE Idle for too long\r\n"
    assert dialogue.client.closed is not None


def test_unknown_failures_are_answered_and_logged_and_the_connection_lives(
    log: list[dict[str, Any]],
) -> None:
    dialogue = Dialogue()
    dialogue.login()

    async def broken(name: str, **options: Any) -> Any:
        raise ZeroDivisionError

    async def busy(name: str, **options: Any) -> Any:
        raise MailError(451, "4.3.0", "The disk is slow", "really", imap="INUSE")

    dialogue.server_session.mailboxes.open = broken
    dialogue.run("""
        C: a SELECT INBOX
        S: a NO [SERVERBUG] Internal failure, try again later
    """)
    assert [event["log_failure"].type for event in log if "log_failure" in event] == [
        ZeroDivisionError
    ]
    dialogue.server_session.mailboxes.open = busy
    dialogue.run("""
        C: a SELECT INBOX
        S: a NO [INUSE] The disk is slow
        C: b NOOP
        S: b OK NOOP completed
    """)


def test_a_mailbox_that_was_made_anew_ends_the_session() -> None:
    dialogue = Dialogue()
    dialogue.account.deliver(MESSAGE)
    dialogue.login("INBOX")
    box = dialogue.account.box("INBOX")
    box.publish(type(box)("INBOX", 7).snapshot)
    dialogue.run("""
        C: a NOOP
        S: a NO [UNAVAILABLE] The mailbox was made anew
        S: * BYE [UNAVAILABLE] The mailbox was made anew
    """)
    assert dialogue.client.closed is not None


def test_so_it_does_in_idle() -> None:
    dialogue = Dialogue()
    dialogue.account.deliver(MESSAGE)
    dialogue.login("INBOX")
    dialogue.ask(b"a IDLE\r\n")
    box = dialogue.account.box("INBOX")
    box.publish(type(box)("INBOX", 7).snapshot)
    assert dialogue.client.read() == b"* BYE [UNAVAILABLE] The mailbox was made anew\r\n"
    assert dialogue.client.closed is not None
    assert dialogue.account.opened == 0


def test_pipelined_commands_are_answered_in_their_order() -> None:
    dialogue = Dialogue()
    said = dialogue.ask(
        b"a LOGIN alice secret\r\nb SELECT INBOX\r\nc NOOP\r\nd CLOSE\r\ne NOOP\r\n"
    )
    tags = [line[:1] for line in said.splitlines() if line[:1] not in b"*"]
    assert tags == [b"a", b"b", b"c", b"d", b"e"]


def test_a_stopping_server_says_so() -> None:
    dialogue = Dialogue()
    dialogue.login("INBOX")
    dialogue.factory.drain()
    assert dialogue.client.read() == b"* BYE [UNAVAILABLE] The server is going down\r\n"
    assert dialogue.account.opened == 0


def test_too_many_connections_are_told() -> None:
    dialogue = Dialogue()
    dialogue.factory._limits = SimpleNamespace(take=lambda ip: False, give_back=lambda ip: None)  # type: ignore[assignment]
    other = Dialogue(dialogue.account, world=dialogue.world, factory=dialogue.factory)
    assert other.greeting == b"* BYE [UNAVAILABLE] Too many connections\r\n"


def test_what_is_announced_is_named_once_and_has_its_rfc() -> None:
    names = [one.name for one in verbs.CAPABILITIES]
    assert len(names) == len(set(names))
    assert all(one.rfc[:4].isdigit() for one in verbs.CAPABILITIES)
