"""STARTTLS, AUTHENTICATE, LOGIN and UNAUTHENTICATE: who the client is."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from ...accounts.authenticate import Exchange
from ...accounts.authenticate import Login as Entered
from ...connection.interfaces import Answer, Then
from ..capability import Capability
from ..commands import Authenticate, Login
from ..encode import continuation, ok
from ..events import SASL, Terms
from ..refusal import Bad, No
from ..state import LOGGED_IN, State
from .registry import Verb, never

if TYPE_CHECKING:
    from ..events import Command
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "VERBS", "sasl_response"]


async def starttls(session: ImapSession, command: Command) -> Answer:
    if session.tls:
        raise Bad("TLS is on already")
    if not session.tls_available:
        raise No("TLS is not available")
    return Answer(ok(command.tag, "Begin TLS"), Then.START_TLS)


async def login(session: ImapSession, command: Command) -> Answer:
    _check_private(session)
    args: Login = command.args
    user, password = _text(args.user), _text(args.password)
    entered = await session.authenticator.login(user, password, session.client_ip)
    return await _enter(session, command.tag, "LOGIN", entered)


async def authenticate(session: ImapSession, command: Command) -> Answer:
    _check_private(session)
    args: Authenticate = command.args
    if args.mechanism not in session.authenticator.mechanisms():
        raise No("Unknown mechanism", "CANNOT")
    exchange = session.authenticator.exchange(args.mechanism, session.client_ip)
    initial = args.initial
    # RFC 4959 section 3: "=" is an initial response of no octets
    response = b"" if initial == b"=" else None if initial is None else _base64(initial)
    return await _step(session, command.tag, exchange, response)


async def sasl_response(
    session: ImapSession, tag: bytes, exchange: Exchange, line: bytes
) -> Answer:
    """The client's next line of an exchange; `tag` is AUTHENTICATE's."""
    if line == b"*":
        # RFC 9051 section 6.2.2
        raise Bad("Authentication cancelled")
    return await _step(session, tag, exchange, _base64(line))


async def unauthenticate(session: ImapSession, command: Command) -> Answer:
    if session.compressed:
        # RFC 8437 section 4.1: compression would have to end, so it is not announced then
        raise Bad("Not below compression")
    # RFC 8437 section 3: as before login; TLS stays
    await session.leave()
    session.forget()
    return Answer(ok(command.tag, "UNAUTHENTICATE completed"), expect=Terms(False))


async def _step(
    session: ImapSession, tag: bytes, exchange: Exchange, response: bytes | None
) -> Answer:
    challenge = await exchange.step(response)
    if isinstance(challenge, bytes):
        session.exchange = (tag, exchange)
        return Answer(continuation(b64encode(challenge)), expect=SASL)
    return await _enter(session, tag, "AUTHENTICATE", challenge)


async def _enter(session: ImapSession, tag: bytes, name: str, entered: Entered) -> Answer:
    await session.enter(entered)
    # RFC 9051 section 6.2.2: the capabilities save a round trip
    code = f"CAPABILITY {session.capabilities()}"
    return Answer(ok(tag, f"{name} completed", code), expect=Terms(True))


def _check_private(session: ImapSession) -> None:
    if not session.private:
        hint = ", say STARTTLS" if session.tls_available else ""
        # RFC 5530 section 3
        raise No(f"No login without TLS{hint}", "PRIVACYREQUIRED")


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise Bad("Names and passwords are UTF-8") from None


def _base64(line: bytes) -> bytes:
    try:
        return b64decode(line, validate=True)
    except (Error, ValueError):
        raise Bad("That is not BASE64") from None


def _mechanisms(session: ImapSession) -> Iterable[str]:
    return [f"AUTH={name}" for name in session.authenticator.mechanisms()]


VERBS: Final = (
    Verb("STARTTLS", State.NOT_AUTHENTICATED, starttls, never),
    Verb("LOGIN", State.NOT_AUTHENTICATED, login, never),
    Verb("AUTHENTICATE", State.NOT_AUTHENTICATED, authenticate, never),
    Verb("UNAUTHENTICATE", LOGGED_IN, unauthenticate, never),
)
CAPABILITIES: Final = (
    Capability(
        "STARTTLS",
        "9051 section 6.2.1",
        State.NOT_AUTHENTICATED,
        lambda session: session.tls_available and not session.tls and not session.compressed,
    ),
    # RFC 9051 section 6.2.3
    Capability(
        "LOGINDISABLED",
        "9051 section 6.2.3",
        State.NOT_AUTHENTICATED,
        lambda session: not session.private,
    ),
    Capability(
        "AUTH=",
        "9051 section 6.2.2",
        State.NOT_AUTHENTICATED,
        lambda session: session.private,
        _mechanisms,
    ),
    Capability("SASL-IR", "4959", State.NOT_AUTHENTICATED),
    Capability("LITERAL-", "7888", State.NOT_AUTHENTICATED),
    Capability("LITERAL+", "7888", LOGGED_IN),
    Capability("UNAUTHENTICATE", "8437", LOGGED_IN, lambda session: not session.compressed),
)
