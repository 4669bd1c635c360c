"""The SMTP client's transport: connecting, TLS, timers, back-pressure.

`connect` gives a conversation whose channel is a `ClientChannel`. Promises: a reply has to be whole within its time,
however it trickles in; replies that wait to be taken are at most `AHEAD` octets, or it is over; what is written waits
in the transport up to 64 KiB more than the last write; what arrives when no reply is owed ends the conversation, and
what arrived in clear is never read as if TLS had protected it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from OpenSSL.SSL import Error as TlsError
from service_identity import VerificationError
from twisted.internet import error as network
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import ClientFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from ...connection.layer import for_client
from ...connection.wire import Phase, Wire
from ...world import World
from .channel import peer_reply, quoted
from .conversation import SmtpConversation
from .engine import Reply, ReplyError, ReplyReader
from .interfaces import SessionError, Timeouts

__all__ = ["ClientChannel", "connect"]

AHEAD: Final = 1 << 17
"""Octets of replies that are owed and not waited for yet: those of chunks."""


async def connect(
    world: World,
    host: str,
    port: int = 25,
    *,
    helo: str,
    name: str = "",
    lmtp: bool = False,
    source: str = "",
    tls: Any = None,
    clear_login: bool = False,
    timeouts: Timeouts | None = None,
) -> SmtpConversation:
    """A connection to `host`, an IP address, or the path of a unix socket, which begins with "/".

    `helo`: our own name, for EHLO. `name`: the peer's, for texts ("" is `host`). `source`: the local IP address to
    bind, "" for any. `tls`: an IOpenSSLClientConnectionCreator for TLS before the greeting, None for none; the
    handshake is over when this returns. `clear_login`: whether `login` may send a password without TLS.

    Raises SessionError. Nothing was read yet: `hello` comes first. Cancelled, it stops and closes.
    """
    name = name or host
    timeouts = timeouts or Timeouts()
    factory = _Connecting(world.reactor, name, timeouts.connect)
    if host.startswith("/"):
        factory.connector = world.reactor.connectUNIX(host, factory, timeout=timeouts.connect)
    else:
        factory.connector = world.reactor.connectTCP(
            host,
            port,
            factory,
            timeout=timeouts.connect,
            bindAddress=(source, 0) if source else None,
        )
    channel = await factory.connected
    if tls is not None:
        await channel.start_tls(tls, timeouts.tls)
    return SmtpConversation(
        channel,
        world,
        name=name,
        helo=helo,
        lmtp=lmtp,
        clear_login=clear_login,
        timeouts=timeouts,
    )


class ClientChannel:
    """`channel.Channel` over a Twisted transport. `name`: the peer's, for texts.

    `wire` is the Twisted protocol; `ready` fires with the channel when it is connected.
    """

    def __init__(self, reactor: Any, name: str) -> None:
        self.over: SessionError | None = None
        self.ready: Deferred[ClientChannel] = Deferred(self._cancelled)
        self.wire = _ClientWire(reactor, self)
        self._reactor = reactor
        self._name = name
        self._reader = ReplyReader()
        self._owed = 1  # the greeting
        self._handshaking = False
        self._waiting: Deferred[Any] | None = self.ready
        self._wants_reply = False
        self._what = ""
        self._seconds = 0.0

    # What a conversation calls

    @property
    def tls(self) -> str | None:
        return self.wire.tls_description

    @property
    def blocked(self) -> bool:
        return self.wire.blocked

    def now(self) -> float:
        seconds: float = self._reactor.seconds()
        return seconds

    def write(self, data: bytes, replies: int) -> None:
        if not self._owed and self._reader.buffered and self.over is None:
            # A reply to what was not said yet is none.
            self._spoke_unasked(True)
        if self.over is not None:
            raise _again(self.over)
        self._owed += replies
        self.wire.write(data)

    def take(self) -> Reply | None:
        if not self._owed:
            return None
        try:
            reply = self._reader.next_reply()
        except ReplyError as error:
            if self.over is None:
                self.abort(SessionError(f"{self._name} {error}"))
            return None
        if reply is not None:
            self._owed -= 1
        return reply

    async def reply(self, seconds: float, what: str) -> Reply:
        reply = self.take()
        if reply is None:
            waiting = self._wait(seconds, what)
            self._wants_reply = True
            reply = await self._result(waiting)
        assert reply is not None
        return reply

    async def drained(self, seconds: float) -> None:
        if self.wire.blocked:
            await self._result(self._wait(seconds, ""))

    async def start_tls(self, creator: Any, seconds: float) -> None:
        if self._reader.buffered:
            # What came in clear would be read as if TLS had protected it: RFC 3207 section 5, CVE-2021-38371 and others
            self.abort(SessionError(f"{self._name} sent more than its answer to STARTTLS"))
        waiting = self._wait(seconds, "")
        self._handshaking = True
        self.wire.start_client_tls(creator)
        await self._result(waiting)

    def peer_chain(self) -> Sequence[Any]:
        return self.wire.peer_chain()

    def end(self, why: SessionError) -> None:
        self.over = self.over or why
        self.wire.close(why.text)
        self._fail()

    def abort(self, why: SessionError) -> None:
        self.over = self.over or why
        self.wire.abort(why.text)
        self._fail()

    # What the wire calls

    def opened(self) -> None:
        self._handshaking = False
        self._fire(self)

    def received(self, data: bytes) -> None:
        self._reader.receive(data)
        if self._wants_reply:
            reply = self.take()
            if reply is not None:
                self._fire(reply)
        elif not self._owed:
            self._spoke_unasked(False)
        elif self._reader.buffered > AHEAD:
            self.abort(SessionError(f"{self._name} sent more than it was asked for"))

    def writable(self) -> None:
        if not self._wants_reply:
            self._fire(None)

    def rang(self) -> None:
        if self._waiting is None:
            return
        if self._handshaking:
            text = f"{self._name} did not finish the TLS handshake"
        elif self._what:
            text = f"{self._name} did not answer {self._what}"
        else:
            text = f"{self._name} did not read what was sent"
        self.abort(SessionError(f"{text} within {self._seconds:.0f} seconds"))

    def lost(self, reason: BaseException | None) -> None:
        if self.over is None:
            self.over = SessionError(self._words(reason))
        self._fail()

    def _words(self, reason: BaseException | None) -> str:
        """Why a connection ended that this side did not end."""
        if isinstance(reason, network.ConnectionDone | network.ConnectionLost):
            text = f"{self._name} closed the connection"
            if self._handshaking:
                return f"{text} during the TLS handshake"
            return f"{text} instead of answering {self._what}" if self._wants_reply else text
        what = f"TLS handshake with {self._name}" if self._handshaking else f"TLS with {self._name}"
        if isinstance(reason, TlsError):
            # OpenSSL's queue of (library, function, reason), or nothing at all
            queue = reason.args[0] if reason.args and isinstance(reason.args[0], list) else []
            return f"{what} failed: {queue[-1][2]}" if queue else f"{what} failed"
        if isinstance(reason, VerificationError):
            return f"{what} failed: its certificate is for another name"
        detail = str(reason) or type(reason).__name__
        if self._handshaking:
            return f"{what} failed: {detail}"
        return f"the connection to {self._name} was lost: {detail}"

    def _spoke_unasked(self, now: bool) -> None:
        """The peer sent something that nothing asks for. Unless `now`, the rest of it may be waited for."""
        try:
            reply = self._reader.next_reply()
        except ReplyError as error:
            self.abort(SessionError(f"{self._name} {error}"))
            return
        if reply is None:
            if now:
                self.abort(SessionError(f"{self._name} spoke unasked"))
        elif reply.code // 100 == 4:
            # RFC 5321 section 3.8: 421 may come at any time
            text = f"{self._name} ended the conversation: {quoted(reply)}"
            self.end(SessionError(text, peer_reply(reply)))
        else:
            self.end(SessionError(f"{self._name} spoke unasked: {quoted(reply)}"))

    def _wait(self, seconds: float, what: str) -> Deferred[Any]:
        if self.over is not None:
            raise _again(self.over)
        waiting: Deferred[Any] = Deferred(self._cancelled)
        self._waiting = waiting
        self._what = what
        self._seconds = seconds
        self.wire.alarm.set(seconds)
        return waiting

    async def _result(self, waiting: Deferred[Any]) -> Any:
        try:
            return await waiting
        except BaseException:
            # Thrown into the coroutine, perhaps: then nobody waits, and what follows must not be told to it again.
            if self._waiting is waiting:
                self._waiting = None
                self._wants_reply = False
            raise

    def _fire(self, result: Any) -> None:
        waiting, self._waiting = self._waiting, None
        self._wants_reply = False
        if waiting is not None:
            waiting.callback(result)

    def _fail(self) -> None:
        waiting: Deferred[Any] | None = self._waiting
        self._waiting = None
        self._wants_reply = False
        if waiting is not None and self.over is not None:
            waiting.errback(_again(self.over))

    def _cancelled(self, deferred: Deferred[Any]) -> None:
        self._waiting = None
        self.abort(SessionError(f"the connection to {self._name} was cut"))


class _ClientWire(Wire):
    """The transport's side of a `ClientChannel`."""

    _log = Logger()

    def __init__(self, reactor: Any, channel: ClientChannel) -> None:
        super().__init__(reactor, None, False)
        self._channel = channel
        self._why: BaseException | None = None

    def start_client_tls(self, creator: Any) -> None:
        self._tls = for_client(creator)
        self.start_tls()
        if self._layer is not None:
            self._layer.start()

    def peer_chain(self) -> Sequence[Any]:
        if self._layer is None or self.tls_description is None:
            return ()
        connection = self._layer.connection
        assert connection is not None
        return connection.get_peer_cert_chain(as_cryptography=True) or ()

    def close(self, reason: str) -> None:
        hurry = self.phase is Phase.OPEN and self._layer is not None and not self.blocked
        super().close(reason)
        if hurry and self.transport is not None:
            # RFC 8446 section 6.1: whoever has said goodbye need not wait for the peer's
            self.transport.loseConnection()

    def opened(self) -> None:
        self._channel.opened()

    def received(self, data: bytes) -> None:
        self._channel.received(data)

    def ended(self) -> None:
        # A server that says no more is done, though it may read on.
        self._channel.lost(network.ConnectionDone())
        self.close("the peer closed")

    def writable(self) -> None:
        self._channel.writable()

    def rang(self) -> None:
        self._channel.rang()

    def finished(self, reason: Failure) -> None:
        self._why = reason.value
        super().finished(reason)

    def lost(self) -> None:
        self._channel.lost(self._why)


class _Connecting(ClientFactory):
    """Makes one channel, which `connected` fires with."""

    noisy = False

    def __init__(self, reactor: Any, name: str, timeout: float) -> None:
        self.connected: Deferred[ClientChannel] = Deferred(self._cancelled)
        self.connector: Any = None
        self._reactor = reactor
        self._name = name
        self._timeout = timeout

    def buildProtocol(self, addr: Any) -> Wire | None:
        if self.connected.called:
            return None
        channel = ClientChannel(self._reactor, self._name)
        channel.ready.chainDeferred(self.connected)
        return channel.wire

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        if not self.connected.called:
            self.connected.errback(SessionError(self._words(reason.value)))

    def _cancelled(self, deferred: Deferred[ClientChannel]) -> None:
        # Says CancelledError first: what the connector tells is not heard any more.
        deferred.errback(CancelledError())
        self.connector.disconnect()

    def _words(self, error: BaseException | None) -> str:
        name = self._name
        match error:
            case network.ConnectionRefusedError():
                return f"{name} refused the connection"
            case network.TimeoutError() | network.TCPTimedOutError():
                return f"{name} did not answer within {self._timeout:.0f} seconds"
            case network.NoRouteError():
                return f"there is no route to {name}"
            case network.ConnectBindError():
                return f"the address to connect to {name} from cannot be used"
            case network.ConnectError() if isinstance(error.osError, int):
                return f"{name} cannot be connected to: {os.strerror(error.osError)}"
            case _:
                return f"{name} cannot be connected to: {error}"


def _again(error: SessionError) -> SessionError:
    """The same, to be raised once more."""
    return SessionError(error.text, error.reply)
