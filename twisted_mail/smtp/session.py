"""The SMTP server's session: what is answered to each command (RFC 5321; RFC 6409 for submission).

Promises: one reply a command, in order; a command out of its order changes nothing; what a client
wrote never comes back in a reply; after STARTTLS nothing of before is remembered; a login is logged
out at the end.

It has no transport and no clock: `connection.protocol` drives it, `transaction` answers what is
about one message, the authenticator decides on logins. A `MailError` raised by any of them becomes
its reply; any other failure is logged with its traceback and answered 451 (454 to AUTH).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from twisted.logger import Logger

from ..address import normalize_domain
from ..connection.interfaces import Answer, Then
from ..delivery.interfaces import Client, Intake
from ..status import MailError
from . import replies
from .authentication import Authenticator, Exchange, Login, challenge, initial_response, response
from .engine import MORE, Block, Command, EndOfChunk, EndOfData, Event, LineTooLong, Response
from .hello import Introduction
from .transaction import Transactions

__all__ = ["Profile", "SmtpSession", "SmtpSettings"]

_log = Logger()


class Profile(enum.Enum):
    """Which service a listener gives."""

    SMTP = "smtp"
    """Mail from anywhere for our domains; no AUTH."""
    SUBMISSION = "submission"
    """Mail from users: STARTTLS, then AUTH, then MAIL."""
    SUBMISSIONS = "submissions"
    """The same under TLS from the first octet (RFC 8314 section 3.3)."""


IDLE_TALK: Final = 100
"""Commands that lead nowhere (NOOP, RSET, VRFY, HELP, EHLO) between two messages; each further one is a mistake."""


SOFT_ERRORS: Final = 3
"""Mistakes of a stranger that are answered at once, …"""
ERROR_SECONDS: Final = 1.0
"""… and how long he waits for the answer to each further one: to names that are tried, mostly."""
PARTING_SECONDS: Final = 5.0
"""Before a 421 for who was too fast."""


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """What the configuration says to all sessions; sizes in octets as sent, without dot-stuffing."""

    hostname: str
    max_message_bytes: int = 52_428_800
    max_recipients: int = 1000
    max_errors: int = 10
    max_login_failures: int = 3
    strict: bool = False


class SmtpSession:
    """`connection.interfaces.Session` of SMTP.

    `starttls` says that there is a certificate to offer STARTTLS with. `client_ip` and `connection`
    are those of `delivery.interfaces.Client`. On `Profile.SMTP` the authenticator is not used.
    `introduction`, of the same settings, may be shared. `pause` waits so many seconds: who makes many mistakes is
    answered slowly.
    """

    starttls_refused: bytes = replies.BYTES_BEHIND_STARTTLS.data
    """The parting words when something was sent in clear behind STARTTLS."""

    greet: Callable[[Callable[[], bool]], Awaitable[Answer]]
    """There when somebody wants to know of the client before it is greeted: `GreetingSession`."""

    def __init__(
        self,
        profile: Profile,
        settings: SmtpSettings,
        intake: Intake,
        authenticator: Authenticator | None,
        *,
        client_ip: str,
        connection: str,
        starttls: bool,
        introduction: Introduction | None = None,
        pause: Callable[[float], Awaitable[object]] | None = None,
    ) -> None:
        self._settings = settings
        self._pause = pause
        self._introduction = introduction or Introduction(
            settings.hostname, settings.max_message_bytes, starttls=starttls
        )
        self._needs_login = profile is not Profile.SMTP
        self._authenticator = authenticator if self._needs_login else None
        self._client_ip = client_ip
        self._connection = connection
        self._starttls = starttls
        self._secure = profile is Profile.SUBMISSIONS
        self._tls: str | None = None
        self._helo: str | None = None
        self._extended = False
        self._login: Login | None = None
        self._mechanism = ""
        self._exchange: Exchange | None = None
        self._errors = self._idle_talk = 0
        self._login_failures = 0
        self._visit = intake.visit(client_ip, connection, submission=self._needs_login)
        if self._visit is not None and self._visit.waits:
            self.greet = self._greet
        self._transactions = Transactions(
            intake,
            max_bytes=settings.max_message_bytes,
            max_recipients=settings.max_recipients,
            strict=settings.strict,
            auth=self._needs_login,
        )

    # What the driver calls

    def greeting(self) -> bytes:
        return self._introduction.greeting.data

    async def _greet(self, early: Callable[[], bool]) -> Answer:
        assert self._visit is not None
        try:
            await self._visit.greet(early)
        except MailError as error:
            _log.info(
                "client sent away",
                connection=self._connection,
                client=self._client_ip,
                error=str(error),
            )
            # RFC 5321 section 3.1
            text = f"{self._settings.hostname} {error.text}"
            answer = replies.refusal(MailError(error.code, error.enhanced, text))
            return Answer(answer.data, Then.CLOSE)
        except Exception:
            _log.failure("failure before a greeting", connection=self._connection)
        return self._introduction.greeting

    async def handle(self, event: Event) -> Answer:
        try:
            if type(event) is Command:
                answer = await _VERBS.get(event.verb, SmtpSession._unknown)(self, event.argument)
            else:
                answer = await _EVENTS[type(event)](self, event)
        except MailError as error:
            answer = await self._refused(event, error)
        except Exception:
            _log.failure("failure in an SMTP session", connection=self._connection)
            answer = replies.LOCAL_ERROR
        if answer.data[:1] == b"5":
            self._errors += 1
            if self._errors > SOFT_ERRORS and self._pause is not None and self._login is None:
                await self._pause(ERROR_SECONDS)
        elif type(event) in _ENDS and answer.data[:1] == b"2" and not self._transactions.midway:
            # Who sends mail that is taken is no guesser: a kept connection does not gather old refusals.
            self._errors = self._idle_talk = 0
        if answer.expect is None and self._transactions.midway:
            # Between two chunks, whatever the command was: the time for the message goes on.
            return Answer(answer.data, answer.then, MORE)
        return answer

    def tls_started(self, description: str) -> None:
        # RFC 3207 section 4.2
        self._transactions.reset()
        self._log_out()
        self._exchange = None
        self._helo = None
        self._extended = False
        self._secure = True
        self._tls = description

    @property
    def proven(self) -> bool:
        """`ProvingSession`: somebody has logged in; or named a recipient who is here."""
        return self._login is not None or (self._transactions.served and not self._needs_login)

    def too_many_errors(self) -> bytes | None:
        if self._errors >= self._settings.max_errors:
            return self._parting("4.7.0", "Too many errors")
        if self._login_failures >= self._settings.max_login_failures:
            return self._parting("4.7.0", "Too many failed logins")
        return None

    def timed_out(self) -> bytes:
        return self._parting("4.4.2", "Timeout exceeded")

    def closing_down(self) -> bytes:
        return self._parting("4.3.2", "Service is shutting down")

    def lost(self) -> None:
        self._transactions.reset()
        self._log_out()
        if self._visit is not None:
            self._visit.end()
        self.__dict__.pop("greet", None)  # no cycle is left for the collector

    # Who is there

    async def _helo_verb(self, argument: bytes) -> Answer:
        return self._hello(argument, extended=False)

    async def _ehlo_verb(self, argument: bytes) -> Answer:
        return self._hello(argument, extended=True)

    def _hello(self, argument: bytes, *, extended: bool) -> Answer:
        if self._settings.strict and not _is_host(argument):
            return replies.HELLO_SYNTAX
        self._transactions.reset()  # RFC 5321 section 4.1.4
        self._talk_idly()
        self._helo = _printable(argument)
        if self._visit is not None:
            self._visit.helo(self._helo)
        self._extended = extended
        if not extended:
            return self._introduction.hello
        mechanisms: Sequence[str] = ()
        if self._authenticator is not None and self._secure and self._login is None:
            mechanisms = self._authenticator.mechanisms()
        return self._introduction.extended(
            tls=self._tls is not None, secure=self._secure, mechanisms=mechanisms
        )

    async def _start_tls(self, argument: bytes) -> Answer:
        if argument:
            return replies.NO_ARGUMENT  # RFC 3207 section 4
        if self._secure:
            return replies.TLS_ALREADY
        if not self._starttls:
            return replies.NOT_IMPLEMENTED
        return replies.START_TLS

    async def _auth(self, argument: bytes) -> Answer:
        if self._authenticator is None:
            return replies.NO_LOGIN_HERE
        if not self._secure:
            return replies.LOGIN_NEEDS_TLS
        if self._helo is None:
            return replies.NO_HELLO
        # RFC 4954 section 4: once in a session; so not within a transaction, which needs a login.
        if self._login is not None:
            return replies.LOGIN_ALREADY
        words = argument.split()
        if not words:
            return replies.AUTH_SYNTAX
        mechanism = words[0].upper().decode("latin-1")
        if mechanism not in self._authenticator.mechanisms():
            return replies.NO_MECHANISM
        initial = initial_response(words[1:])
        self._mechanism = mechanism
        exchange = self._authenticator.exchange(mechanism, self._client_ip)
        return await self._step(exchange, initial)

    async def _response(self, event: Response) -> Answer:
        exchange, self._exchange = self._exchange, None
        assert exchange is not None, "a response is expected in an exchange only"
        if event.line == b"*":
            return replies.LOGIN_CANCELLED  # RFC 4954 section 4
        return await self._step(exchange, response(event.line))

    async def _step(self, exchange: Exchange, message: bytes | None) -> Answer:
        try:
            result = await exchange.step(message)
        except MailError as error:
            self._login_failures += error.code == 535
            _log.warn(
                "login failed",
                connection=self._connection,
                client=self._client_ip,
                error=str(error),
            )
            return replies.refusal(error)
        except Exception:
            _log.failure("failure in a login", connection=self._connection, client=self._client_ip)
            return replies.LOGIN_ERROR
        if isinstance(result, bytes):
            self._exchange = exchange
            return challenge(result)
        self._login = result
        _log.info("{account} logged in", connection=self._connection, account=result.account.name)
        return replies.LOGGED_IN

    def _log_out(self) -> None:
        login, self._login = self._login, None
        if login is not None:
            login.logout()

    def _client(self, smtputf8: bool) -> Client:
        """Who sends, with the "with" keyword of RFC 3848 and RFC 6531 section 4.3."""
        protocol = "UTF8SMTP" if smtputf8 else "ESMTP" if self._extended else "SMTP"
        if protocol != "SMTP":
            protocol += "S" if self._secure else ""
            protocol += "A" if self._login is not None else ""
        return Client(
            self._client_ip,
            self._helo or "",
            protocol,
            self._tls,
            self._login.account if self._login is not None else None,
            self._connection,
            self._visit,
            self._mechanism if self._login is not None else "",
        )

    # One message

    async def _mail(self, argument: bytes) -> Answer:
        if self._helo is None:
            return replies.NO_HELLO  # RFC 5321 section 4.1.4
        if self._needs_login and self._login is None:
            return replies.LOGIN_FIRST if self._secure else replies.TLS_FIRST
        return await self._transactions.mail(argument, self._client)

    def _rcpt(self, argument: bytes) -> Awaitable[Answer]:
        return self._transactions.rcpt(argument)

    def _data(self, argument: bytes) -> Awaitable[Answer]:
        return self._transactions.data(argument)

    def _bdat(self, argument: bytes) -> Awaitable[Answer]:
        return self._transactions.bdat(argument)

    def _block(self, event: Block) -> Awaitable[Answer]:
        return self._transactions.block(event.data)

    def _end_of_data(self, event: EndOfData) -> Awaitable[Answer]:
        return self._transactions.end_of_data()

    def _end_of_chunk(self, event: EndOfChunk) -> Awaitable[Answer]:
        return self._transactions.end_of_chunk()

    async def _rset(self, argument: bytes) -> Answer:
        if argument:
            return replies.NO_ARGUMENT  # RFC 5321 section 4.1.1.5
        self._transactions.reset()
        self._talk_idly()
        return replies.OK

    # The rest

    def _talk_idly(self) -> None:
        """A command that leads to no message. Many of them are mistakes: else they would hold a connection for ever."""
        self._idle_talk += 1
        self._errors += self._idle_talk > IDLE_TALK

    async def _noop(self, argument: bytes) -> Answer:
        self._talk_idly()
        return replies.OK  # RFC 5321 section 4.1.1.9: an argument is ignored

    async def _vrfy(self, argument: bytes) -> Answer:
        self._talk_idly()
        return replies.CANNOT_VERIFY if argument else replies.VRFY_SYNTAX

    async def _help(self, argument: bytes) -> Answer:
        self._talk_idly()
        return replies.HELP

    async def _quit(self, argument: bytes) -> Answer:
        return replies.GOODBYE

    async def _not_implemented(self, argument: bytes) -> Answer:
        return replies.NOT_IMPLEMENTED  # RFC 5321 section 4.2.4

    async def _http(self, argument: bytes) -> Answer:
        """A browser was told to talk to us: the commands come behind its headers."""
        return replies.NOT_SMTP

    async def _unknown(self, argument: bytes) -> Answer:
        return replies.UNKNOWN_COMMAND

    async def _line_too_long(self, event: LineTooLong) -> Answer:
        if not event.ended:
            return replies.ENDLESS_LINE
        exchange, self._exchange = self._exchange, None
        return replies.LINE_TOO_LONG if exchange is None else replies.RESPONSE_TOO_LONG

    async def _refused(self, event: Event, error: MailError) -> Answer:
        _log.info(
            "{what} refused",
            what=event.verb if type(event) is Command else "message",
            connection=self._connection,
            client=self._client_ip,
            **self._transactions.about(),
            # Not in the text: it may quote an address, and nothing in that shall look like a field.
            error=str(error),
        )
        if error.code == 421 and self._pause is not None:
            # It comes again at once.
            await self._pause(PARTING_SECONDS)
        return replies.refusal(error, self._transactions.utf8)

    def _parting(self, enhanced: str, text: str) -> bytes:
        # RFC 5321 section 4.2.2: 421 <domain>
        return replies.reply(421, enhanced, f"{self._settings.hostname} {text}").data


def _is_host(argument: bytes) -> bool:
    """RFC 5321 section 4.1.1.1: a domain or an address literal, in ASCII (RFC 6531 section 3.7.1)."""
    try:
        normalize_domain(argument.decode("ascii"))
    except ValueError:
        return False
    return True


def _printable(argument: bytes) -> str:
    """What the client calls itself: its first word, harmless in headers and logs."""
    octets, _, _ = argument[:255].partition(b" ")
    if _HARMLESS.fullmatch(octets):
        return octets.decode("ascii")
    word = octets.decode("ascii", "replace")
    return "".join(c if "!" <= c <= "~" and c not in '()<>\\"' else "?" for c in word)


_HARMLESS: Final = re.compile(rb"[\w.:\[\]-]*", re.ASCII)

_VERBS: Final[dict[str, Callable[[SmtpSession, bytes], Awaitable[Answer]]]] = {
    "HELO": SmtpSession._helo_verb,
    "EHLO": SmtpSession._ehlo_verb,
    "MAIL": SmtpSession._mail,
    "RCPT": SmtpSession._rcpt,
    "DATA": SmtpSession._data,
    "BDAT": SmtpSession._bdat,
    "RSET": SmtpSession._rset,
    "NOOP": SmtpSession._noop,
    "QUIT": SmtpSession._quit,
    "VRFY": SmtpSession._vrfy,
    "HELP": SmtpSession._help,
    "STARTTLS": SmtpSession._start_tls,
    "AUTH": SmtpSession._auth,
    **dict.fromkeys(("EXPN", "TURN", "ETRN", "SEND", "SOML", "SAML"), SmtpSession._not_implemented),
    **dict.fromkeys(("GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT"), SmtpSession._http),
}

_ENDS: Final = (EndOfData, EndOfChunk)
_EVENTS: Final[dict[type, Callable[[SmtpSession, Any], Awaitable[Answer]]]] = {
    Block: SmtpSession._block,
    EndOfData: SmtpSession._end_of_data,
    EndOfChunk: SmtpSession._end_of_chunk,
    Response: SmtpSession._response,
    LineTooLong: SmtpSession._line_too_long,
}
