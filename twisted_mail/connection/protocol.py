"""The driver: moves bytes and events between a connection, an engine and a session.

It promises that

- events are answered one at a time and in order, whatever the session waits for; the answers to
  pipelined commands go out together (RFC 2920 section 3.2);
- no client holds the reactor for longer than `TURN` seconds plus one event, all together not much longer than
  `turns.TURN` in one round of the loop; none makes more wait than `Bounds.read_ahead_bytes` plus one read; while
  it does not read its answers nothing more is answered, and at most 256 KiB are held for it;
- what came in clear is never run under TLS (RFC 3207 section 4.2);
- what comes compressed is inflated as the engine consumes it, so that it is bounded as the rest is;
- a session that has something to say unasked is heard between two answers, as soon as the peer reads;
- every connection ends: by its session, by an idle client, a message that takes too long or comes too slowly, a
  stranger who stays one, too many errors, a draining server; and then whatever the session waited for is cancelled;
- who sends a byte now and then is idle: only a whole command counts as something done, and of a message so many bytes
  a second.

It knows no command and no reply. Its peers write it nothing that could raise here: what a session
raises ends the connection and is logged.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, cast

from twisted.python.failure import Failure

from ..log import Logger
from ..turns import Turns
from .compression import CorruptError
from .deadlines import Bounds, Timed, has
from .drive import Waiting
from .interfaces import NEED_DATA, POKED, Answer, Engine, Session, Signal, Then
from .layer import Make
from .output import PIECE
from .pokes import Pokes
from .wire import Phase

__all__ = ["Connection"]

_log = Logger()
EVENTS = 128
"""How many events a connection may have answered before others get their turn …"""
TURN = 0.002
"""… and for how many seconds."""
INFLATE = 16 * 1024
"""Bytes that are inflated at once when the engine has none left."""


class Connection(Timed):
    """One client: an engine, a session, and what happens between them.

    `id` is the log's name for it; `protocol` such as ``smtp``; `client` its IP address.
    `gone` is called once, at the end; `proved` once before that, or never, when the client is no stranger any more
    (at the beginning, for a session that tells nothing of it).
    """

    __slots__ = (
        "_draining",
        "_engine",
        "_first",
        "_gone",
        "_greeted",
        "_greets",
        "_in_turn",
        "_next_turn",
        "_pokable",
        "_poked",
        "_pokes",
        "_protocol",
        "_unasked",
        "_waiting",
        "_worked",
        "client",
        "id",
    )

    def __init__(
        self,
        engine: Engine,
        session: Session,
        reactor: Any,
        *,
        id: str,
        protocol: str,
        client: str,
        bounds: Bounds,
        tls: Make | None,
        implicit_tls: bool,
        pokes: Pokes,
        turns: Turns,
        gone: Callable[[Connection], object],
        proved: Callable[[Connection], object] | None = None,
    ) -> None:
        super().__init__(session, reactor, bounds, tls, implicit_tls, turns, proved)
        self.id = id
        self._engine = cast(Any, engine)
        self._protocol = protocol
        self.client = client
        self._gone = gone
        self._greeted = False
        self._draining = False
        # What the next event waits for, besides `blocked`; one of them at most.
        self._in_turn = False
        self._next_turn = False
        self._waiting: Waiting | None = None
        # What the next turn begins with: the answer that came while `blocked`, or in the middle of a turn.
        self._first: Callable[[], bool] | None = None
        # Something was done in this turn: more than bytes have come.
        self._worked = False
        self._pokes = pokes
        self._poked = False
        # Nothing but a poke has been answered since the last `_touch`.
        self._unasked = False
        self._pokable = has(session, "poke")
        if self._pokable:
            self._session.poke = self.poke
        self._greets = has(session, "greet")

    def poke(self) -> None:
        """The session has something to say: `PokableSession.poke`."""
        if not self._poked:
            self._poked = True
            if not self._busy:
                self._pokes.add(self)

    def poked(self) -> None:
        """Let the session say it now, unless it cannot; then it is heard when it can."""
        if self._poked and self.phase is Phase.OPEN and not self._busy:
            self._unasked = True
            self._take_turn(self._answer_poke)

    def send_away(self, reason: str) -> None:
        """It has to make room for others: say so, where words can be said, and close."""
        if self.phase is Phase.OPEN and not self._busy:
            self._part(self._session.timed_out(), reason)
        else:
            self.abort(reason)

    def drain(self) -> None:
        """The server stops: say so and close, but let a message on its way be finished first."""
        self._draining = True
        if self.phase is Phase.HANDSHAKE:
            self.abort("server stops")
        elif self.phase is Phase.OPEN and not self._busy and self._message_due is None:
            self._part(self._session.closing_down(), "server stops")

    # What the wire calls

    def connectionMade(self) -> None:
        _log.info("connected", connection=self.id, protocol=self._protocol, client=self.client)
        super().connectionMade()
        if self.phase is Phase.HANDSHAKE:
            self.alarm.set(self._bounds.handshake_seconds)

    def opened(self) -> None:
        self._touch(self._turns.seconds())
        if self.tls_description is not None:
            self._session.tls_started(self.tls_description)
        # RFC 3207 section 4.2, RFC 2595 section 4: no second greeting after the handshake
        if not self._greeted:
            self._greeted = True
            if self._greets:
                self._take_turn(self._greet)
            else:
                self.write(self._session.greeting())
        if self._poked:
            self._pokes.add(self)

    def received(self, data: bytes) -> None:
        self.bytes_read += len(data)
        if self._compression is None:
            self._engine.receive(data)
        else:
            self._compression.feed(data)
        if self._waiting is not None or self.blocked or self._next_turn or self._in_turn:
            self._regulate()
        elif self._turns.full:
            self._next_turn = True
            self._turns.ask(self._turn_now)
        else:
            self._take_turn()

    def ended(self) -> None:
        # What it has sent is answered: the message of a script that does not wait is not lost.
        if not self._busy:
            self.close("closed by the client")

    def writable(self) -> None:
        if self._room is not None:
            room, self._room = self._room, None
            room.callback(None)
            self._touch(self._turns.seconds())
            self._regulate()
        elif not self._busy:
            first, self._first = self._first, None
            self._take_turn(first)
            if self._draining:
                self.drain()

    def pauseProducing(self) -> None:
        super().pauseProducing()
        self._regulate()

    def rang(self) -> None:
        if self.phase is Phase.HANDSHAKE:
            self.abort("no TLS handshake in time")
        elif self.blocked:
            self.abort("does not read")
        elif self._busy:
            self.alarm.set(self._bounds.idle_seconds)  # it is the server that takes its time
        else:
            self._part(self._session.timed_out(), self._too_late(self._reactor.seconds()))

    def lost(self) -> None:
        self._next_turn = False
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._pokable:
            self._session.poke = _nobody  # no cycle is left for the collector
        try:
            self._session.lost()
        except Exception:
            _log.failure("session did not let go", connection=self.id)
        self._gone(self)
        _log.info(
            "disconnected: {reason}",
            connection=self.id,
            protocol=self._protocol,
            client=self.client,
            tls=self.tls_description,
            seconds=round(self._reactor.seconds() - self._since, 3),
            bytes_read=self.bytes_read,
            bytes_written=self.bytes_written,
            reason=self.reason,
        )

    # Turns

    @property
    def _busy(self) -> bool:
        """Whether the next event has to wait."""
        return self._in_turn or self.blocked or self._waiting is not None or self._next_turn

    def _take_turn(self, first: Callable[[], bool] | None = None) -> None:
        """Do `first`, then answer events until there are none, one must wait, or time is up."""
        turns = self._turns
        began = turns.seconds()
        self._in_turn = True
        self._worked = first is not None
        try:
            if first is None or first():
                self._answer_events(began + TURN)
        except Exception as error:
            self._failed(error)
        self._in_turn = False
        if self._out_size or self._compression is not None:
            self._flush()
        now = turns.seconds()
        if (self._worked and not self._unasked) or self.blocked:
            self._touch(now)
        if not self._reading or self._waiting is not None or self.blocked or self._next_turn:
            self._regulate()
        if self.at_end or self._poked or self._unasked:
            self._end_turn()
        turns.count(now - began)

    def _turn_later(self, first: Callable[[], bool] | None = None) -> None:
        if first is not None:
            self._first = first
        self._next_turn = True
        self._turns.later(self._turn_now)

    def _turn_now(self) -> None:
        if self._next_turn:
            self._next_turn = False
            first, self._first = self._first, None
            self._take_turn(first)

    def _end_turn(self) -> None:
        """What is rarely to be done at the end of a turn."""
        if self._busy:
            return
        self._unasked = False
        if self.at_end:
            self.close("closed by the client")
        elif self._poked:
            self._pokes.add(self)

    def _answer_events(self, end: float) -> None:
        next_event, handle = self._engine.next_event, self._session.handle
        seconds = self._turns.seconds
        for _ in range(EVENTS):
            if self.blocked:
                return
            event = next_event()
            if type(event) is Signal:
                if self._compression is None or event is not NEED_DATA or not self._inflated():
                    return
            else:
                self._worked = True
                coroutine = handle(event)
                try:
                    awaited = coroutine.send(None)
                except StopIteration as stop:
                    if not self._answer(stop.value):
                        return
                else:
                    self._unasked = False
                    self._wait(coroutine, awaited, self._answer)
                    return
            if seconds() > end:
                break
        self._unasked = False
        self._turn_later()

    def _inflated(self) -> bool:
        """Give the engine more of what has come, if there is more."""
        assert self._compression is not None
        try:
            data = self._compression.inflate(INFLATE)
        except CorruptError as error:
            self._flush()
            self.close(f"compressed data is corrupt: {error}")
            return False
        if data:
            self._engine.receive(data)
        return bool(data)

    def _greet(self) -> bool:
        return self._ask(self._session.greet(lambda: self._engine.buffered > 0))

    def _answer_poke(self) -> bool:
        self._poked = False
        return self._ask(self._session.handle(POKED))

    def _ask(self, coroutine: Coroutine[Any, Any, Any]) -> bool:
        """What the session says when no event asked it."""
        try:
            awaited = coroutine.send(None)
        except StopIteration as stop:
            return self._answer_unasked(stop.value)
        self._wait(coroutine, awaited, self._answer_unasked)
        return False

    def _wait(
        self, coroutine: Coroutine[Any, Any, Any], awaited: object, then: Callable[[Any], bool]
    ) -> None:
        """When the coroutine comes to its end, a turn begins with `then` and its result."""

        def finished(result: Any) -> None:
            self._waiting = None
            if self.blocked:
                self._first = partial(then, result)
            elif self._in_turn:  # it did not wait after all
                self._turn_later(partial(then, result))
            elif self.phase is Phase.OPEN:
                self._take_turn(partial(then, result))

        self._waiting = Waiting(coroutine, finished, self._failed, self._turns)
        self._waiting.wait_for(awaited)

    def _failed(self, error: Exception) -> None:
        self._waiting = None
        _log.failure("session failed", Failure(error), connection=self.id)
        self.abort("failure in the server")

    # Answers: each method is True when the next event may be taken

    def _answer(self, answer: Answer) -> bool:
        if answer.then is Then.START_TLS:
            return self._upgrade(answer)
        if answer.body is None and len(answer.data) <= PIECE:
            self._say(answer.data)
            return self._conclude(answer)
        return self._speak(answer, self._conclude)

    def _answer_unasked(self, answer: Answer) -> bool:
        return self._speak(answer, self._conclude_unasked)

    def _speak(self, answer: Answer, conclude: Callable[[Answer], bool]) -> bool:
        if answer.body is None and len(answer.data) <= PIECE:
            self._say(answer.data)
            return conclude(answer)
        coroutine = self._send(answer)
        try:
            awaited = coroutine.send(None)
        except StopIteration:
            return conclude(answer)
        self._wait(coroutine, awaited, lambda _: conclude(answer))
        return False

    def _conclude(self, answer: Answer) -> bool:
        parting = self._session.too_many_errors()
        if answer.then is not Then.GO_ON:
            if answer.then is Then.CLOSE:
                return self._part(b"", "session ended")
            self._start_compression()
        if parting is not None:
            return self._part(parting, "too many errors")
        self._engine.resume(answer.expect)
        if self._engine.midway:
            if self._message_due is None:
                self._message_began = now = self._reactor.seconds()
                self._message_from = self.bytes_read
                self._message_due = now + self._bounds.message_seconds
        else:
            self._message_due = None
            if self._draining:
                return self._part(self._session.closing_down(), "server stops")
        return True

    def _conclude_unasked(self, answer: Answer) -> bool:
        if answer.then is Then.CLOSE:
            return self._part(b"", "session ended")
        if answer.then is not Then.GO_ON:
            raise RuntimeError("the session starts another layer when nobody asked")
        if self._draining and self._message_due is None:
            return self._part(self._session.closing_down(), "server stops")
        return True

    def _start_compression(self) -> None:
        if self._compression is not None:
            raise RuntimeError("the session starts compression a second time")
        # RFC 4978 section 3: the client waits for the OK. What came before it in spite of that can only be
        # meant for the new layer: commands in clear are no DEFLATE, and end the connection.
        ahead = self._engine.give_back()
        self._compress().feed(ahead)

    def _upgrade(self, answer: Answer) -> bool:
        # RFC 4978 section 3: compression is above TLS, and what was said in clear must not decide what is
        # read under TLS: the window and an unfinished block would.
        if not self.can_start_tls or self._compression is not None:
            raise RuntimeError("the session starts TLS where there is none, or a second time")
        if not self._engine.start_tls():
            # RFC 3207 section 4.2: an attacker may have put in commands before the handshake
            return self._part(self._session.starttls_refused, "bytes in clear behind STARTTLS")
        self._message_due = None
        self._say(answer.data)
        self._flush()
        self.alarm.set(self._bounds.handshake_seconds)
        self.start_tls()
        return False

    def _part(self, words: bytes, reason: str) -> bool:
        self._say(words)
        self._flush()
        self.close(reason)
        return False

    # Input

    def _regulate(self) -> None:
        """Read from the peer, or not."""
        if self.phase is not Phase.OPEN:
            return
        if self.blocked:
            self.read(False)
        elif self._busy:
            buffered = self._engine.buffered
            if self._compression is not None:
                buffered += self._compression.pending
            self.read(buffered <= self._bounds.read_ahead_bytes)
        elif not self._reading:
            self.read(True)


def _nobody() -> None:
    """Whom a poke reaches when the connection is lost."""
