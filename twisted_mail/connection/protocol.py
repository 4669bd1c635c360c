"""The driver: moves bytes and events between a connection, an engine and a session.

It promises that

- events are answered one at a time and in order, whatever the session waits for; the answers to
  pipelined commands go out together (RFC 2920 section 3.2);
- no client holds the reactor for longer than `TURN` seconds plus one event, or makes more wait than
  `Bounds.read_ahead_bytes` plus one read; while it does not read its answers nothing more is
  answered, and at most 256 KiB are held for it;
- what came in clear is never run under TLS (RFC 3207 section 4.2);
- every connection ends: by its session, by an idle client, a message that takes too long, too
  many errors, a draining server; and then whatever the session waited for is cancelled.

It knows no command and no reply. Its peers write it nothing that could raise here: what a session
raises ends the connection and is logged.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from .drive import Waiting
from .interfaces import Answer, Engine, Session, Signal, Then
from .wire import Phase, Wire

__all__ = ["Bounds", "Connection"]

EVENTS = 128
"""How many events a connection may have answered before others get their turn …"""
TURN = 0.002
"""… and for how many seconds."""
GATHER = 32 * 1024
"""Bytes of answers that are gathered before they are written within a turn."""
PIECE = 64 * 1024
"""The most that is written at once."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one connection may take."""

    idle_seconds: float = 600.0
    """RFC 5321 section 4.5.3.2.7 asks for 300 at least, RFC 1939 section 3 for 600."""
    handshake_seconds: float = 30.0
    message_seconds: float = 3600.0
    """For one message (or SASL exchange), from the answer that asks for it to its last byte."""
    read_ahead_bytes: int = 64 * 1024
    """What may wait in the engine while the last event is being answered; one read comes on top."""


class Connection(Wire):
    """One client: an engine, a session, and what happens between them.

    `id` is the log's name for it; `protocol` such as ``smtp``; `client` its IP address.
    `gone` is called once, at the end.
    """

    _log = Logger()

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
        tls: TLSMemoryBIOFactory | None,
        implicit_tls: bool,
        gone: Callable[[Connection], object],
    ) -> None:
        super().__init__(reactor, tls, implicit_tls)
        self.id = id
        self._engine = engine
        self._session = session
        self._reactor = reactor
        self._protocol = protocol
        self.client = client
        self._bounds = bounds
        self._gone = gone
        self._since = reactor.seconds()
        self._bytes_read = 0
        self._greeted = False
        self._draining = False
        self._out: list[bytes] = []
        self._out_size = 0
        # What the next event waits for, besides `blocked`; one of them at most.
        self._in_turn = False
        self._next_turn: IDelayedCall | None = None
        self._waiting: Waiting | None = None
        # What the next turn begins with: the answer that came while `blocked`.
        self._first: Callable[[], bool] | None = None
        # Fires when a body that is being sent may go on.
        self._room: Deferred[None] | None = None
        # When the client must be done with what it is in the middle of (a message), else None.
        self._message_due: float | None = None

    def drain(self) -> None:
        """The server stops: say so and close, but let a message on its way be finished first."""
        self._draining = True
        if self.phase is Phase.HANDSHAKE:
            self.abort("server stops")
        elif self.phase is Phase.OPEN and not self._busy and self._message_due is None:
            self._part(self._session.closing_down(), "server stops")

    # What the wire calls

    def connectionMade(self) -> None:
        self._log.info("connected", connection=self.id, protocol=self._protocol, client=self.client)
        self.alarm.set(self._bounds.handshake_seconds)
        super().connectionMade()

    def opened(self) -> None:
        self._touch()
        if self.tls_description is not None:
            self._session.tls_started(self.tls_description)
        # RFC 3207 section 4.2, RFC 2595 section 4: no second greeting after the handshake
        if not self._greeted:
            self._greeted = True
            self.write(self._session.greeting())

    def received(self, data: bytes) -> None:
        self._bytes_read += len(data)
        self._engine.receive(data)
        if self._busy:
            self._touch()
            self._regulate()
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
            self._touch()
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
        elif self._message_due is not None and self._message_due <= self._reactor.seconds():
            self._part(self._session.timed_out(), "message takes too long")
        else:
            self._part(self._session.timed_out(), "idle")

    def lost(self) -> None:
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        try:
            self._session.lost()
        except Exception:
            self._log.failure("session did not let go", connection=self.id)
        self._gone(self)
        self._log.info(
            "disconnected: {reason}",
            connection=self.id,
            protocol=self._protocol,
            client=self.client,
            tls=self.tls_description,
            seconds=round(self._reactor.seconds() - self._since, 3),
            bytes_read=self._bytes_read,
            bytes_written=self.bytes_written,
            reason=self.reason,
        )

    # Turns

    @property
    def _busy(self) -> bool:
        """Whether the next event has to wait."""
        return (
            self._in_turn
            or self.blocked
            or self._waiting is not None
            or self._next_turn is not None
        )

    def _take_turn(self, first: Callable[[], bool] | None = None) -> None:
        """Do `first`, then answer events until there are none, one must wait, or time is up."""
        self._next_turn = None
        self._in_turn = True
        try:
            if first is None or first():
                self._answer_events()
        except Exception as error:
            self._failed(error)
        self._in_turn = False
        self._flush()
        self._touch()
        self._regulate()
        if self.at_end and not self._busy:
            self.close("closed by the client")

    def _answer_events(self) -> None:
        next_event, handle = self._engine.next_event, self._session.handle
        seconds = self._reactor.seconds
        end = seconds() + TURN
        for _ in range(EVENTS):
            if self.blocked:
                return
            event = next_event()
            if isinstance(event, Signal):
                return
            coroutine = handle(event)
            try:
                awaited = coroutine.send(None)
            except StopIteration as stop:
                if not self._answer(stop.value):
                    return
            else:
                self._wait(coroutine, awaited, self._answer)
                return
            if seconds() > end:
                break
        self._next_turn = self._reactor.callLater(0, self._take_turn)

    def _wait(
        self, coroutine: Coroutine[Any, Any, Any], awaited: object, then: Callable[[Any], bool]
    ) -> None:
        """When the coroutine comes to its end, a turn begins with `then` and its result."""

        def finished(result: Any) -> None:
            self._waiting = None
            if self.blocked:
                self._first = partial(then, result)
            elif self._in_turn:  # it did not wait after all
                first = partial(then, result)
                self._next_turn = self._reactor.callLater(0, self._take_turn, first)
            elif self.phase is Phase.OPEN:
                self._take_turn(partial(then, result))

        self._waiting = Waiting(coroutine, finished, self._failed)
        self._waiting.wait_for(awaited)

    def _failed(self, error: Exception) -> None:
        self._waiting = None
        self._log.failure("session failed", Failure(error), connection=self.id)
        self.abort("failure in the server")

    # Answers: each method is True when the next event may be taken

    def _answer(self, answer: Answer) -> bool:
        if answer.then is Then.START_TLS:
            return self._upgrade(answer)
        if answer.body is None and len(answer.data) <= PIECE:
            self._say(answer.data)
            return self._conclude(answer)
        coroutine = self._send(answer)
        try:
            awaited = coroutine.send(None)
        except StopIteration:
            return self._conclude(answer)
        self._wait(coroutine, awaited, lambda _: self._conclude(answer))
        return False

    def _conclude(self, answer: Answer) -> bool:
        parting = self._session.too_many_errors()
        if answer.then is Then.CLOSE:
            return self._part(b"", "session ended")
        if parting is not None:
            return self._part(parting, "too many errors")
        self._engine.resume(answer.expect)
        if self._engine.midway:
            if self._message_due is None:
                self._message_due = self._reactor.seconds() + self._bounds.message_seconds
        else:
            self._message_due = None
            if self._draining:
                return self._part(self._session.closing_down(), "server stops")
        return True

    def _upgrade(self, answer: Answer) -> bool:
        if not self.can_start_tls:
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

    # Output

    async def _send(self, answer: Answer) -> None:
        """Say the data and the body of `answer`, as fast as the peer reads."""
        for piece in _pieces(answer.data):
            await self._say_when_read(piece)
        body = answer.body
        if body is None:
            return
        try:
            async for block in body:
                for piece in _pieces(block):
                    await self._say_when_read(piece)
        finally:
            if isinstance(body, AsyncGenerator):
                await body.aclose()

    async def _say_when_read(self, piece: bytes) -> None:
        while self.blocked:
            self._room = Deferred()
            await self._room
        self._say(piece)

    def _say(self, data: bytes) -> None:
        self._out.append(data)
        self._out_size += len(data)
        if self._out_size >= GATHER:
            self._flush()

    def _flush(self) -> None:
        if self._out_size and self.phase is Phase.OPEN:
            data = b"".join(self._out)
            self._out.clear()
            self._out_size = 0
            self.write(data)

    # Time and input

    def _touch(self) -> None:
        """Something has been done: from now on the client may be idle again."""
        if self.phase is not Phase.OPEN:
            return
        if self._message_due is None:
            self.alarm.set(self._bounds.idle_seconds)
        else:
            left = self._message_due - self._reactor.seconds()
            self.alarm.set(max(0.0, min(self._bounds.idle_seconds, left)))

    def _regulate(self) -> None:
        """Read from the peer, or not."""
        if self.phase is Phase.OPEN:
            ahead = self._busy and self._engine.buffered > self._bounds.read_ahead_bytes
            self.read(not (ahead or self.blocked))


def _pieces(data: bytes) -> Iterator[bytes]:
    if len(data) <= PIECE:
        yield data
    else:
        for start in range(0, len(data), PIECE):
            yield data[start : start + PIECE]
