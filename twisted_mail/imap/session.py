"""An IMAP session: commands in, decisions out (RFC 9051, RFC 3501 and their extensions).

It promises: commands are answered one at a time, in order; nothing raises, every failure is a tagged NO or BAD with
its response code and the connection lives on, what is unknown is NO [SERVERBUG] and logged; what the client knows of
its mailbox never diverges from what it was told (`imap.view`); a password is asked for only where nobody else can
hear it; what was opened is closed once, whatever happens.

The commands themselves are in `imap.verbs`. What a command may use:

- `settings`, `world`, `state`; `mailboxes` (the account's), `opened` and `view` (the selected mailbox);
- `style`, `condstore`, `qresync`, `utf8` (names and strings are UTF-8), `rev2`: what the client has enabled;
- ``return session.ok(command, data=…)``: `data`, then what is pending of the mailbox (EXPUNGE only where the table
  of verbs says so), then the tagged OK;
- ``return session.lines(command, pieces)``: the same for an iterator of pieces that take no waiting;
- ``return session.stream(command, pieces, outcome)`` for what is long: `pieces` is an async iterator of at most
  64 KiB each, made as the client reads; the tagged line (`Outcome`, which may be changed until the end) comes behind.
  b"" among the pieces sends what was said so far at once;
- ``raise No(text, code)`` or ``Bad(text)``, also within `pieces`; MailError is NO with its `imap` code;
- ``session.view.quiet = Quiet(…)``: flags that STORE.SILENT has set are not told;
- ``session.catch_up()``: what is pending, now, for who must say it before something else.

APPEND and REPLACE are streams: `verbs.registry.Stream` takes their events one by one, each answered by
``Answer(expect=ACCEPT)``, or by `session.ok` at `AppendEnd`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import chain
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..accounts.authenticate import Authenticator, Exchange
from ..connection.drive import close_pieces
from ..connection.interfaces import POKED, STRANGERS_TALK, Answer, Then
from ..status import MailError
from ..world import World
from . import verbs
from .answers import gathered, one_after_the_other
from .capability import announced, by_state
from .encode import bad, bye, continuation, no, ok, status_line
from .events import (
    REFUSE,
    AppendBegin,
    AppendEnd,
    Command,
    Done,
    Invalid,
    LiteralWanted,
    SaslResponse,
)
from .outcome import Outcome
from .refusal import Bad, Refused, Unfinished
from .seats import Seats
from .settings import ImapSettings
from .standing import Standing
from .state import State
from .verbs.login import sasl_response
from .verbs.registry import Stream, never
from .view import RenumberedError

__all__ = ["ImapSession"]

_CAPABILITIES: Final = by_state(verbs.CAPABILITIES)


class ImapSession(Standing):
    """One client (see `connection.interfaces.PokableSession` and `TimedSession`).

    `connection` is the log's name for it; `loopback`: it comes from this machine; `tls_available`: STARTTLS can be
    had; `tls`: it begins with TLS. `seats` are shared by all sessions.
    """

    _log = Logger()
    starttls_refused = bye("Commands were sent behind STARTTLS in clear")

    __slots__ = (
        "_busy",
        "_errors",
        "_expunges",
        "_lost",
        "_stream",
        "_stream_tag",
        "_talk",
        "exchange",
    )

    def __init__(
        self,
        world: World,
        settings: ImapSettings,
        authenticator: Authenticator,
        seats: Seats,
        **client: Any,
    ) -> None:
        super().__init__(world, settings, authenticator, seats, **client)
        self._errors = self._talk = 0
        self._busy = 0
        self._lost = False
        self._stream: Stream | None = None
        self._stream_tag = b""
        self._expunges = False
        self.exchange: tuple[bytes, Exchange] | None = None

    # What commands use, besides what is in `standing`

    def capabilities(self) -> str:
        """Those of this moment, separated by spaces."""
        return announced(_CAPABILITIES[self.state], self)

    def ok(
        self, command: Any, text: str = "", code: str | bytes = "", *, data: bytes = b""
    ) -> Answer:
        """`data` (whole lines), what is pending, and the tagged OK. `command`: it has a `tag` and a `name`."""
        tagged = ok(command.tag, text or f"{command.name} completed", code)
        pending = self._pending(self._expunges)
        if pending is None:
            return Answer(data + tagged)
        return gathered(chain((data,), pending, (tagged,)))

    def lines(
        self, command: Any, pieces: Iterator[bytes], text: str = "", code: str | bytes = ""
    ) -> Answer:
        """As `ok`, for pieces that take no waiting but may be many."""
        tagged = ok(command.tag, text or f"{command.name} completed", code)
        return gathered(chain(pieces, self._pending(self._expunges) or (), (tagged,)))

    def refuse(self, command: Any, error: Exception, data: bytes) -> Answer:
        """`data`, and then as if `error` had been raised."""
        answer = self._failed(command.tag, error)
        answer.data = data + answer.data
        return answer

    def stream(
        self, command: Any, pieces: AsyncIterator[bytes], outcome: Outcome | None = None
    ) -> Answer:
        """`pieces`, what is pending, and the tagged line."""
        return Answer(body=self._streamed(command, pieces, outcome or Outcome()))

    def catch_up(self, expunges: bool = False) -> Iterator[bytes]:
        """What is pending, to be said now; the client is up to date then, except for EXPUNGE."""
        return self._pending(expunges and self._expunges) or iter(())

    # What the driver calls

    def greeting(self) -> bytes:
        # RFC 9051 section 7.1: the capabilities save a round trip
        code = f"CAPABILITY {self.capabilities()}"
        return ok(b"*", f"{self.settings.hostname} IMAP server ready", code)

    async def handle(self, event: Any) -> Answer:
        self._busy += 1
        tag = b"*"
        try:
            if self._parting is not None:
                # Nothing is said of its mailbox: a client would take its own copies for expunged
                return Answer(self._parting, Then.CLOSE)
            if isinstance(event, Command):
                tag = event.tag
                self._talk += self._login is None
                answer = await self._command(event)
                if self._login is not None or self._talk <= STRANGERS_TALK:
                    self._errors = 0
                return answer
            if event is POKED:
                return await self._unasked()
            if isinstance(event, LiteralWanted):
                return Answer(continuation())
            if isinstance(event, Invalid):
                return self._invalid(event)
            if isinstance(event, Done):
                tag = self.idling or b"*"
                return await self._idle_over(tag)
            if isinstance(event, SaslResponse):
                assert self.exchange is not None, "the engine was told to read it"
                (tag, exchange), self.exchange = self.exchange, None
                return await sasl_response(self, tag, exchange, event.line)
            return await self._appending(event)
        except Exception as error:
            answer = self._failed(tag, error)
            if event is POKED and self._parting is not None:
                # Nobody asks for them when nobody asked
                return Answer(self._parting, Then.CLOSE)
            return answer
        finally:
            self._busy -= 1
            if self._lost and not self._busy:
                self._let_go()

    def tls_started(self, description: str) -> None:
        # RFC 9051 section 6.2.1: nothing learnt in clear is kept
        self.tls = True
        self.exchange = None

    @property
    def proven(self) -> bool:
        """`ProvingSession`: somebody has logged in."""
        return self._login is not None

    def too_many_errors(self) -> bytes | None:
        if self._parting is not None:
            return self._parting
        if self._errors >= self.settings.max_errors:
            return bye("Too many errors")
        if self._login_failures >= self.settings.max_login_failures:
            return bye("Too many failed logins")
        return None

    def timed_out(self) -> bytes:
        # RFC 9051 section 5.4
        return bye("Idle for too long")

    def closing_down(self) -> bytes:
        # RFC 5530 section 3
        return bye("The server is going down", "UNAVAILABLE")

    def lost(self) -> None:
        self._lost = True
        if not self._busy:
            self._let_go()

    # Events

    async def _command(self, command: Command) -> Answer:
        if self._login is None and self._talk > STRANGERS_TALK:
            self._errors += 1
        verb = verbs.VERBS.get(command.name)
        if verb is None:
            raise Bad("Unknown command")
        self._admit(verb.states)
        self._expunges = verb.expunges(command)
        if verb.expunges is not never:
            await self._look()
        answer = await verb.run(self, command)
        if self.notify is not None and self.notify.behind:
            self.poke()
        return answer

    async def _look(self) -> None:
        """For what others did in the selected mailbox."""
        if self.view_ is not None:
            looking = self.view_.opened.refresh()
            if looking is not None:
                await looking

    def _admit(self, states: State) -> None:
        if self.state in states:
            return
        if self.mailboxes_ is None:
            raise Bad("Log in first")
        raise Bad("Select a mailbox first" if State.SELECTED in states else "Not after login")

    async def _appending(self, event: Any) -> Answer:
        """One event of APPEND or REPLACE."""
        if isinstance(event, AppendBegin):
            self._stream_tag = event.tag
        try:
            if isinstance(event, AppendBegin):
                known = verbs.STREAMS.get(event.name)
                if known is None:
                    raise Bad("Unknown command")
                self._admit(known.states)
                self._expunges = True
                self._stream = known.make(self, event)
            assert self._stream is not None, "the engine begins with AppendBegin"
            if isinstance(event, AppendEnd):
                await self._look()
            answer = await self._stream.take(event)
        except Exception as error:
            self._end_stream()
            answer = self._failed(self._stream_tag, error)
            answer.expect = REFUSE
            return answer
        except BaseException:
            self._end_stream()
            raise
        if isinstance(event, AppendEnd) or answer.expect is REFUSE:
            self._end_stream()
            self._errors = 0
        return answer

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.discard()

    def _invalid(self, event: Invalid) -> Answer:
        self._end_stream()
        self.exchange = None
        if self.idling is not None:
            self.end_idle()
        if event.status == "BAD":
            self._errors += 1
        return Answer(status_line(event.tag, event.status, event.text, event.code))

    async def _unasked(self) -> Answer:
        """Something has changed, and nobody asked."""
        notify = self.notify
        said: list[Iterator[bytes]] = []
        new: AsyncIterator[bytes] | None = None
        if notify is None:
            if self.idling is not None:
                said.append(self._pending(True) or iter(()))
        else:
            if notify.selected is not None:
                expunges = self.idling is not None or not notify.delayed
                said.append(self._pending(expunges, notify.flags) or iter(()))
            said.append(iter(await notify.news()))
            new = notify.new_messages()
        if new is None:
            return gathered(chain.from_iterable(said))
        return Answer(body=one_after_the_other(chain.from_iterable(said), new))

    async def _idle_over(self, tag: bytes) -> Answer:
        self.end_idle()
        self._expunges = True
        pending = self._pending(True) or ()
        if self.notify is not None and self.notify.behind:
            self.poke()
        return gathered(chain(pending, (ok(tag, "IDLE completed"),)))

    def _let_go(self) -> None:
        """The connection is gone, and nothing is under way."""
        self.exchange = None
        self._end_stream()
        Deferred.fromCoroutine(self.leave())

    def _pending(self, expunges: bool, flags: bool = True) -> Iterator[bytes] | None:
        view = self.view_
        return None if view is None else view.advance(self.style, expunges, flags=flags)

    async def _streamed(
        self, command: Any, pieces: AsyncIterator[bytes], outcome: Outcome
    ) -> AsyncIterator[bytes]:
        self._busy += 1
        try:
            try:
                async for piece in pieces:
                    yield piece
                text = outcome.text or f"{command.name} completed"
                tagged = status_line(command.tag, outcome.status, text, outcome.code)
                for piece in self._pending(self._expunges) or ():
                    yield piece
            except Unfinished:
                raise
            except Exception as error:
                tagged = self._failed(command.tag, error).data
            yield tagged
            if self.notify is not None and self.notify.behind:
                self.poke()
        finally:
            await close_pieces(pieces)
            self._busy -= 1
            if self._lost and not self._busy:
                self._let_go()

    # Failures

    def _failed(self, tag: bytes, error: Exception) -> Answer:
        if isinstance(error, Refused):
            if isinstance(error, Bad):
                self._errors += 1
                return Answer(bad(tag, error.text, error.code))
            return Answer(no(tag, error.text, error.code))
        if isinstance(error, MailError):
            return Answer(self._refused(tag, error))
        if isinstance(error, RenumberedError):
            self._log.warn(
                "mailbox renumbered", connection=self.connection, account=self.account, error=error
            )
            self._parting = bye("The mailbox was made anew", "UNAVAILABLE")
            return Answer(no(tag, "The mailbox was made anew", "UNAVAILABLE"))
        self._log.failure("command failed", connection=self.connection, client=self.client_ip)
        # RFC 5530 section 3
        return Answer(no(tag, "Internal failure, try again later", "SERVERBUG"))

    def _refused(self, tag: bytes, error: MailError) -> bytes:
        if error.pop3 == "AUTH":
            self._errors += 1
            self._login_failures += error.code == 535
            code = "AUTHENTICATIONFAILED" if error.code == 535 else "UNAVAILABLE"
            if error.code in (501, 504):
                code = ""
            self._log.warn(
                "login failed", connection=self.connection, client=self.client_ip, error=str(error)
            )
            return no(tag, error.text, code)
        if error.temporary:
            self._log.warn(
                "refused", connection=self.connection, client=self.client_ip, error=str(error)
            )
        return no(tag, error.text, error.imap)
