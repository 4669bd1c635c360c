"""A POP3 session: commands in, decisions out (RFC 1939 and its extensions).

It promises: messages are deleted by QUIT alone, never by a connection that drops; the mailbox is
frozen at login and given up at the end, once, whatever happens; who is let in no more is
sent away at the next command, and nothing is deleted for him; a password is asked for only where
nobody else can hear it (TLS, or this machine when allowed); nothing raises, every failure is an
-ERR with its response code (RFC 2449 section 8, RFC 3206), and what is unknown is [SYS/TEMP].

APOP is left out: it needs the password itself on the server's disk. So the greeting has no
timestamp. LANG is left out.
"""

from __future__ import annotations

import enum
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final, NamedTuple, cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..accounts.authenticate import Authenticator, Exchange, Login
from ..connection.drive import to_the_end
from ..connection.interfaces import STRANGERS_TALK, Answer, Then
from ..interfaces import IEndingAccount
from ..status import MailError
from .engine import SASL_RESPONSE, Command, Event, SaslResponse
from .maildrop import PIECE, Mailbox, Maildrop
from .reply import Refusal, base64, decimal, err, ok, utf8_text
from .retrieval import Retrieval, Top

__all__ = ["Pop3Session", "State"]


class State(enum.Flag):
    """RFC 1939 section 3. There is no UPDATE state to be in: QUIT is answered when it is over."""

    AUTHORIZATION = enum.auto()
    TRANSACTION = enum.auto()


class Pop3Session:
    """One client (see `connection.interfaces.Session`).

    `connection` is the log's name for it; `loopback`: it comes from this machine; `tls_available`:
    STLS can be had; `tls`: it begins with TLS. `max_errors` wrong commands end it, failed logins
    among them, or `max_login_failures` of those alone.
    """

    _log = Logger()

    starttls_refused = b"-ERR Commands were sent behind STLS in clear\r\n"

    def __init__(
        self,
        authenticator: Authenticator,
        *,
        hostname: str,
        client_ip: str,
        connection: str,
        loopback: bool = False,
        tls_available: bool = False,
        tls: bool = False,
        allow_plaintext_loopback: bool = False,
        max_errors: int = 10,
        max_login_failures: int = 3,
    ) -> None:
        self._authenticator = authenticator
        self._hostname = hostname
        self._client_ip = client_ip
        self._connection = connection
        self._clear_allowed = loopback and allow_plaintext_loopback
        self._tls_available = tls_available
        self._tls = tls
        self._max_errors = max_errors
        self._max_login_failures = max_login_failures
        self._errors = self._talk = 0
        self._login_failures = 0
        self._busy = False
        self._lost = False
        self._over = False
        self._unwatch: Callable[[], None] | None = None
        self._utf8 = False
        self._user: str | None = None
        self._exchange: Exchange | None = None
        self._login: Login | None = None
        self._drop: Maildrop | None = None
        self._retrieval: Retrieval | None = None

    # What the driver calls

    def greeting(self) -> bytes:
        # RFC 1939 section 7: a timestamp would offer APOP
        return ok(f"{self._hostname} POP3 server ready")

    async def handle(self, event: Event) -> Answer:
        self._busy = True
        try:
            if self._over:
                # RFC 3206 section 5: it "won't correct itself"
                return Answer(err("The account is closed", "SYS/PERM"), Then.CLOSE)
            if isinstance(event, Command):
                return await self._command(event)
            if isinstance(event, SaslResponse):
                return await self._sasl_response(event.line)
            self._exchange = None
            raise Refusal(f"Line too long, {event.limit} octets are allowed", mistake=True)
        except Refusal as refusal:
            self._errors += refusal.mistake
            return Answer(err(refusal.text))
        except MailError as error:
            return Answer(self._refused(error))
        except Exception:
            self._log.failure("command failed", connection=self._connection, client=self._client_ip)
            return Answer(err("Internal failure, try again later", "SYS/TEMP"))
        finally:
            self._busy = False
            if self._lost:
                self._let_go()

    def tls_started(self, description: str) -> None:
        # RFC 2595 section 4: back to the AUTHORIZATION state, nothing learnt in clear is kept
        self._tls = True
        self._utf8 = False
        self._user = None
        self._exchange = None

    @property
    def proven(self) -> bool:
        """`ProvingSession`: somebody has logged in."""
        return self._login is not None

    def too_many_errors(self) -> bytes | None:
        if self._errors >= self._max_errors:
            return err("Too many errors")
        if self._login_failures >= self._max_login_failures:
            return err("Too many failed logins")
        return None

    def timed_out(self) -> bytes:
        # RFC 1939 section 3: close "without … sending any response to the client"
        return b""

    def closing_down(self) -> bytes:
        return err("The server is going down", "SYS/TEMP")

    def lost(self) -> None:
        self._lost = True
        if not self._busy:
            self._let_go()

    # Commands, in the order of RFC 1939

    async def _command(self, command: Command) -> Answer:
        if self._login is None:
            self._talk += 1
            self._errors += self._talk > STRANGERS_TALK
        known = _COMMANDS.get(command.verb)
        if known is None:
            raise Refusal("Unknown command", mistake=True)
        if self._state not in known.states:
            text = "Log in first" if self._drop is None else "Not after login"
            raise Refusal(text, mistake=True)
        if not known.takes_argument and command.argument.strip():
            raise Refusal("No argument is expected", mistake=True)
        return await known.run(self, command.argument)

    async def _quit(self, argument: bytes) -> Answer:
        parting = b"+OK Bye\r\n"
        drop = self._drop
        if drop is not None and (marked := drop.marked):
            try:
                # RFC 1939 section 6: the UPDATE state. A client that does not wait for the answer
                # must not give up the mailbox while it is being changed.
                await to_the_end(drop.mailbox.remove(marked))
                drop.removed = len(marked)
            except Exception as error:
                parting = self._not_removed(error)
        await self._leave()
        return Answer(parting, Then.CLOSE)

    async def _stat(self, argument: bytes) -> Answer:
        drop = self._maildrop
        return Answer(b"+OK %d %d\r\n" % (drop.count, drop.octets))

    async def _list(self, argument: bytes) -> Answer:
        drop = self._maildrop
        if number := argument.strip():
            index = drop.index(number)
            return Answer(b"+OK %d %d\r\n" % (index + 1, drop.size(index)))
        first = ok(f"{drop.count} messages ({drop.octets} octets)")
        return self._listing(first, drop.scan_listing())

    async def _retr(self, argument: bytes) -> Answer:
        drop = self._maildrop
        index = drop.index(argument.strip())
        answer = await self._retrieve(index, None, b"+OK %d octets\r\n" % drop.size(index))
        drop.retrieved += 1
        return answer

    async def _dele(self, argument: bytes) -> Answer:
        drop = self._maildrop
        index = drop.index(argument.strip())
        drop.mark(index)
        return Answer(b"+OK message %d deleted\r\n" % (index + 1))

    async def _noop(self, argument: bytes) -> Answer:
        return Answer(b"+OK\r\n")

    async def _rset(self, argument: bytes) -> Answer:
        drop = self._maildrop
        drop.unmark_all()
        return Answer(ok(f"{drop.count} messages ({drop.octets} octets)"))

    async def _top(self, argument: bytes) -> Answer:
        number, _, lines = argument.strip().partition(b" ")
        index = self._maildrop.index(number)
        return await self._retrieve(index, Top(decimal(lines.strip())), b"+OK\r\n")

    async def _uidl(self, argument: bytes) -> Answer:
        drop = self._maildrop
        if number := argument.strip():
            index = drop.index(number)
            return Answer(ok(f"{index + 1} {drop.uidl(index)}"))
        return self._listing(b"+OK\r\n", drop.unique_id_listing())

    async def _user_name(self, argument: bytes) -> Answer:
        self._check_private()
        if not (name := utf8_text(argument.strip())):
            raise Refusal("A name is expected", mistake=True)
        # RFC 1939 section 7: whether the name is known is not told before PASS
        self._user = name
        return Answer(b"+OK\r\n")

    async def _pass(self, argument: bytes) -> Answer:
        self._check_private()
        user, self._user = self._user, None
        if user is None:
            raise Refusal("USER comes first", mistake=True)
        # RFC 1939 section 7: spaces are part of the password
        password = utf8_text(argument)
        return await self._enter(await self._authenticator.login(user, password, self._client_ip))

    # Extensions

    async def _capa(self, argument: bytes) -> Answer:
        # RFC 2449 section 6 and the registry: each of these is announced in both states
        lines = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER"]
        lines.append("UTF8 USER")
        if self._private:
            lines.append("USER")
            if mechanisms := self._authenticator.mechanisms():
                lines.append(" ".join(("SASL", *mechanisms)))
        if self._tls_available and not self._tls:
            lines.append("STLS")
        lines += ["IMPLEMENTATION twisted-mail", "."]
        return Answer(b"+OK Capabilities follow\r\n" + "\r\n".join(lines).encode() + b"\r\n")

    async def _stls(self, argument: bytes) -> Answer:
        if not self._tls_available:
            raise Refusal("TLS is not available")
        if self._tls:
            raise Refusal("TLS is on already", mistake=True)
        if self._utf8:
            # RFC 6856 section 2.1
            raise Refusal("STLS comes before UTF8", mistake=True)
        return Answer(b"+OK Begin TLS\r\n", Then.START_TLS)

    async def _utf8_mode(self, argument: bytes) -> Answer:
        self._utf8 = True
        return Answer(b"+OK UTF-8 from now on\r\n")

    async def _auth(self, argument: bytes) -> Answer:
        self._check_private()
        name, _, initial = argument.strip().partition(b" ")
        if not name:
            mechanisms = "".join(f"{name}\r\n" for name in self._authenticator.mechanisms())
            return Answer(f"+OK Mechanisms follow\r\n{mechanisms}.\r\n".encode())
        mechanism = utf8_text(name).upper()
        if mechanism not in self._authenticator.mechanisms():
            raise Refusal("Unknown mechanism", mistake=True)
        # RFC 5034 section 4: "=" is an initial response of no octets
        response = b"" if initial == b"=" else base64(initial) if initial else None
        exchange = self._authenticator.exchange(mechanism, self._client_ip)
        return await self._step(exchange, response)

    async def _sasl_response(self, line: bytes) -> Answer:
        exchange, self._exchange = self._exchange, None
        if exchange is None or line == b"*":
            # RFC 5034 section 4
            raise Refusal("Authentication cancelled", mistake=True)
        return await self._step(exchange, base64(line))

    async def _step(self, exchange: Exchange, response: bytes | None) -> Answer:
        challenge = await exchange.step(response)
        if not isinstance(challenge, bytes):
            return await self._enter(challenge)
        self._exchange = exchange
        return Answer(b"+ " + b64encode(challenge) + b"\r\n", expect=SASL_RESPONSE)

    # What commands share

    @property
    def _state(self) -> State:
        return State.AUTHORIZATION if self._drop is None else State.TRANSACTION

    @property
    def _maildrop(self) -> Maildrop:
        assert self._drop is not None, "the table of commands lets nobody in without a login"
        return self._drop

    @property
    def _private(self) -> bool:
        """Whether a password may be said now."""
        return self._tls or self._clear_allowed

    def _check_private(self) -> None:
        # RFC 2595 section 2.3
        if not self._private:
            hint = ", say STLS" if self._tls_available else ""
            raise Refusal(f"No login without TLS{hint}", mistake=True)

    async def _enter(self, login: Login) -> Answer:
        """The login was right: lock and freeze the mailbox."""
        try:
            # RFC 1939 section 4: exclusive access from the TRANSACTION state on
            mailbox = await cast("Awaitable[Mailbox]", login.account.open_inbox())
        except BaseException:
            self._log_out(login)
            raise
        self._login = login
        if IEndingAccount.providedBy(login.account):
            self._unwatch = login.account.watch_end(self._account_over)
        self._drop = drop = Maildrop(mailbox, utf8=self._utf8)
        self._log.info(
            "{account} logged in, {messages} messages",
            connection=self._connection,
            account=login.account.name,
            client=self._client_ip,
            tls=self._tls,
            messages=drop.count,
            octets=drop.octets,
        )
        return Answer(ok(f"{drop.count} messages ({drop.octets} octets)"))

    def _account_over(self) -> None:
        """The user is let in no more; RFC 1939 has no way to say so before the next command."""
        self._over = True

    def _listing(self, first: bytes, pieces: Iterator[bytes]) -> Answer:
        if self._maildrop.count <= PIECE:
            return Answer(first + b"".join(pieces))
        return Answer(first, body=_one_by_one(pieces))

    async def _retrieve(self, index: int, top: Top | None, first: bytes) -> Answer:
        drop = self._maildrop
        self._end_retrieval()
        content = await drop.mailbox.fetch(index)
        self._retrieval = retrieval = Retrieval(
            content,
            drop.stored_size(index),
            surrogate=drop.needs_surrogate(index),
            top=top,
        )
        try:
            first += await retrieval.next()
        except BaseException:
            self._end_retrieval()
            raise
        if retrieval.done:
            self._retrieval = None
            return Answer(first)
        return Answer(first, body=retrieval)

    def _end_retrieval(self) -> None:
        retrieval, self._retrieval = self._retrieval, None
        if retrieval is not None:
            retrieval.close()

    # The end

    def _let_go(self) -> None:
        """The connection is gone, and nothing is under way."""
        self._exchange = None
        self._end_retrieval()
        # It catches and logs its failures itself
        Deferred.fromCoroutine(self._leave())

    async def _leave(self) -> None:
        """Give up mailbox and login."""
        drop, self._drop = self._drop, None
        login, self._login = self._login, None
        unwatch, self._unwatch = self._unwatch, None
        if unwatch is not None:
            unwatch()
        if drop is None or login is None:
            return
        self._log.info(
            "{account} logged out, {retrieved} retrieved, {deleted} deleted",
            connection=self._connection,
            account=login.account.name,
            retrieved=drop.retrieved,
            deleted=drop.removed,
        )
        try:
            await drop.mailbox.close()
        except Exception:
            self._log.failure("mailbox not closed", connection=self._connection)
        finally:
            self._log_out(login)

    def _log_out(self, login: Login) -> None:
        try:
            login.logout()
        except Exception:
            self._log.failure("logout failed", connection=self._connection)

    # Failures

    def _refused(self, error: MailError) -> bytes:
        if error.pop3 == "AUTH":
            self._errors += 1
            self._login_failures += error.code == 535
            self._log.warn(
                "login failed",
                connection=self._connection,
                client=self._client_ip,
                error=str(error),
            )
        elif error.pop3.startswith("SYS/"):
            self._log.warn(
                "refused",
                connection=self._connection,
                client=self._client_ip,
                error=str(error),
            )
        return err(error.text, error.pop3)

    def _not_removed(self, error: Exception) -> bytes:
        self._log.failure("messages not removed", connection=self._connection)
        code = error.pop3 if isinstance(error, MailError) else "SYS/TEMP"
        # RFC 1939 section 6
        return err("some deleted messages not removed", code)


async def _one_by_one(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class _Known(NamedTuple):
    """Where a command may be given, and what runs it."""

    states: State
    takes_argument: bool
    run: Callable[[Pop3Session, bytes], Coroutine[Any, Any, Answer]]


_COMMANDS: Final = {
    b"AUTH": _Known(State.AUTHORIZATION, True, Pop3Session._auth),
    b"CAPA": _Known(State.AUTHORIZATION | State.TRANSACTION, False, Pop3Session._capa),
    b"DELE": _Known(State.TRANSACTION, True, Pop3Session._dele),
    b"LIST": _Known(State.TRANSACTION, True, Pop3Session._list),
    b"NOOP": _Known(State.TRANSACTION, False, Pop3Session._noop),
    b"PASS": _Known(State.AUTHORIZATION, True, Pop3Session._pass),
    b"QUIT": _Known(State.AUTHORIZATION | State.TRANSACTION, False, Pop3Session._quit),
    b"RETR": _Known(State.TRANSACTION, True, Pop3Session._retr),
    b"RSET": _Known(State.TRANSACTION, False, Pop3Session._rset),
    b"STAT": _Known(State.TRANSACTION, False, Pop3Session._stat),
    b"STLS": _Known(State.AUTHORIZATION, False, Pop3Session._stls),
    b"TOP": _Known(State.TRANSACTION, True, Pop3Session._top),
    b"UIDL": _Known(State.TRANSACTION, True, Pop3Session._uidl),
    b"USER": _Known(State.AUTHORIZATION, True, Pop3Session._user_name),
    b"UTF8": _Known(State.AUTHORIZATION, False, Pop3Session._utf8_mode),
}
"""Commands by verb, and the states of RFC 1939 section 3 in which each may be given."""
