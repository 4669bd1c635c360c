"""A milter as a stage filter: when it is connected, what it is told, what becomes of its answers.

Nothing is sent before MAIL: whoever only knocks costs the milter nothing. Then it hears of the connection and of HELO
at once, and what it refuses of them is said at MAIL. A session keeps its connection over messages; one that broke is
made anew for the next message. A failure costs the message in which it happened: for what is left of it the milter is
not asked again, and its action is `on_failure`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.defer import DeferredSemaphore

from ..status import Reply
from ..world import World
from .interfaces import (
    Action,
    Client,
    Login,
    Message,
    Opinion,
    Recipient,
    Sender,
    Source,
    Spill,
    Tls,
)
from .link import Link, LinkError, Where, in_time
from .milter_changes import Changes
from .milter_engine import Answer, Kind, MilterEngine, MilterError, Stage
from .milter_macros import connect_macros, helo_macros, mail_macros, queue_macros, rcpt_macros
from .trouble import OnFailure, failure, rest

__all__ = ["Milter", "MilterSession", "MilterSettings"]

_BLOCK = 32 * 1024
_GATHERED = 64 * 1024


class MilterSettings(NamedTuple):
    """`endpoint`: ``tcp:host:port`` or ``unix:/path``. Times in seconds.

    `connect_seconds`: until it is connected and has agreed, a wait for a free connection included; `command_seconds`:
    for each answer up to the end of the content; `content_seconds`: for that to the end; `total_seconds`: for all that
    is waited for in one message, "still working on it" included. `connections` at once, `max_body` bytes of a new body.
    `large`: packets of up to 1 MiB are offered. `program`: what we call ourselves (macro ``v``). `junk_fields`: when it
    puts in a field of such a name that says yes, the message is JUNK (milters have no other word for it).
    """

    name: str
    endpoint: str
    on_failure: OnFailure = "tempfail"
    connect_seconds: float = 10.0
    command_seconds: float = 30.0
    content_seconds: float = 300.0
    total_seconds: float = 600.0
    connections: int = 100
    max_body: int = 64 * 1024 * 1024
    large: bool = False
    program: str = "twisted-mail"
    junk_fields: tuple[str, ...] = ("X-Spam", "X-Spam-Flag")


class Milter:
    """`interfaces.StageFilter`. ValueError: the endpoint is none."""

    def __init__(self, world: World, settings: MilterSettings) -> None:
        self.name = settings.name
        self.settings = settings
        self.reactor: Any = world.reactor
        self.where = Where(world.reactor, settings.endpoint)
        self.slots = DeferredSemaphore(settings.connections)

    def session(self, client: Client) -> MilterSession:
        """For one connection."""
        return MilterSession(self, client)


class MilterSession:
    """`interfaces.StageSession`."""

    def __init__(self, milter: Milter, client: Client) -> None:
        self._milter = milter
        self._settings = milter.settings
        self._reactor = milter.reactor
        self._client = client
        self._helo = ""
        self._tls: Tls | None = None
        self._queue_id = ""
        self._link: Link | None = None
        self._engine = MilterEngine()
        self._left = 0.0
        self._connection: Opinion | None = None  # what it said of the whole connection
        self._message: Opinion | None = (
            None  # of the message, so that it need not be asked any more
        )
        self._in_message = False

    # The conversation

    async def helo(self, name: str, tls: Tls | None, login: Login | None) -> Opinion:
        self.abort()
        self._helo, self._tls = name, tls
        if not self._alive or self._connection is not None:
            return Opinion()  # it hears of it with MAIL
        self._begin()
        opinion = await self._said(self._hello())
        return Opinion() if opinion.failed else opinion  # MAIL tries again

    async def mail(self, sender: Sender, login: Login | None, queue_id: str = "") -> Opinion:
        self.abort()
        self._begin()
        self._queue_id = queue_id
        if self._connection is not None:
            return self._connection
        return await self._said(self._mail(sender, login))

    async def rcpt(self, recipient: Recipient, refused: Reply | None = None) -> Opinion:
        if self._over or (refused is not None and not self._engine.wants_refused):
            return self._rest
        macros = rcpt_macros(recipient, refused, self._queue_id)
        call = self._engine.path
        opinion = await self._said(
            self._stage(
                Stage.RCPT,
                lambda: call(Stage.RCPT, recipient.address, recipient.parameters, macros),
            )
        )
        return opinion if refused is None else Opinion()

    async def data(self, queue_id: str = "") -> Opinion:
        self._queue_id = queue_id or self._queue_id
        if self._over:
            return self._rest
        macros = queue_macros(self._queue_id)
        return await self._said(
            self._stage(Stage.DATA, lambda: self._engine.call(Stage.DATA, macros=macros))
        )

    async def message(self, message: Message, spill: Callable[[], Spill]) -> Opinion:
        self._queue_id = message.context.queue_id or self._queue_id
        if self._over:
            return self._rest
        changes = Changes(spill, self._settings.max_body, self._settings.junk_fields)
        try:
            opinion = await self._said(self._content(message, changes))
        except BaseException:
            changes.discard()
            raise
        if opinion.body is None:
            changes.discard()
        self._message = opinion
        return opinion

    def abort(self) -> None:
        self._message = None
        if not self._in_message:
            return
        self._in_message = False
        if not self._alive:
            self._drop()
            return
        try:
            self._now(self._engine.abort())
        except MilterError:
            self._drop()

    def close(self) -> None:
        link = self._link
        if link is not None:
            link.close(self._engine.quit() if self._engine.awaiting is None else b"")
        self._drop()

    # What is said in the end

    @property
    def _alive(self) -> bool:
        return self._link is not None and not self._link.lost

    @property
    def _over(self) -> bool:
        return self._connection is not None or self._message is not None or not self._in_message

    @property
    def _rest(self) -> Opinion:
        """What holds for the rest of a message: who accepted says nothing more, who refused repeats it."""
        return rest(self._connection or self._message)

    def _begin(self) -> None:
        self._left = self._settings.total_seconds

    async def _said(self, work: Any) -> Opinion:
        """What `work` says; what goes wrong, as an opinion."""
        try:
            opinion: Opinion = await work
        except (LinkError, MilterError) as error:
            self._drop()
            opinion = failure(self._settings.on_failure, str(error))
            self._message = opinion
        except BaseException:
            # Cancelled, or our own disk: nobody knows where in the conversation this is.
            self._drop()
            raise
        return opinion

    def _drop(self) -> None:
        link, self._link = self._link, None
        self._in_message = False
        if link is not None:
            link.close()
            self._milter.slots.release()

    # What is sent

    async def _open(self) -> Opinion | None:
        """Connect, agree, and tell of the connection and HELO. What it says of them, if that is the end."""
        self._drop()
        settings, reactor = self._settings, self._reactor
        until = reactor.seconds() + settings.connect_seconds
        slots = self._milter.slots
        try:
            await in_time(reactor, slots.acquire(), until)
        except LinkError:
            raise LinkError("all its connections are busy") from None
        try:
            link = await self._milter.where.open(until)
        except BaseException:
            slots.release()
            raise
        self._link = link
        engine = self._engine = MilterEngine(large=settings.large)
        await link.write(engine.offer(), until)
        while engine.answer() is None:
            engine.receive(await link.read(until))
        client = self._client
        macros = connect_macros(client, settings.program)
        opinion = await self._stage(
            Stage.CONNECT, lambda: engine.connect(client.ip, client.port, client.name, macros)
        )
        if self._connection is None and self._helo:
            opinion = await self._hello()
        return opinion if self._connection is not None else None

    async def _hello(self) -> Opinion:
        name = self._helo.encode("utf-8", "replace").replace(b"\0", b"")[:1000] + b"\0"
        macros = helo_macros(self._tls)
        return await self._stage(
            Stage.HELO, lambda: self._engine.call(Stage.HELO, name, macros=macros)
        )

    async def _mail(self, sender: Sender, login: Login | None) -> Opinion:
        if not self._alive:
            settled = await self._open()
            if settled is not None:
                self.close()
                return settled
        self._in_message = True
        macros = mail_macros(sender, login, self._queue_id)
        call = self._engine.path
        return await self._stage(
            Stage.MAIL, lambda: call(Stage.MAIL, sender.address, sender.parameters, macros)
        )

    async def _stage(self, stage: Stage, call: Callable[[], bytes]) -> Opinion:
        """One command and its answer, and what that means."""
        packets = call()
        if self._engine.awaiting is None:
            if packets:
                await self._write(packets)
            return Opinion()
        await self._write(packets)
        return self._meaning(stage, await self._answer(self._settings.command_seconds))

    def _meaning(self, stage: Stage, answer: Answer) -> Opinion:
        opinion = Opinion()
        if answer.kind is Kind.REFUSED:
            reply = answer.reply
            assert reply is not None
            action = Action.REJECT if reply.code >= 500 else Action.TEMPFAIL
            opinion = Opinion(action=action, reply=reply, reason=" ".join(reply.lines))
        elif answer.kind is Kind.DISCARD:
            opinion = Opinion(action=Action.DISCARD, reason="discarded")
        elif answer.kind is Kind.ACCEPT:
            opinion = Opinion(action=Action.ACCEPT)
        if opinion.action is Action.NONE:
            return opinion
        if stage in (Stage.CONNECT, Stage.HELO):
            self._connection = opinion
        elif stage is not Stage.RCPT or answer.kind is not Kind.REFUSED:
            self._message = opinion
        return opinion

    async def _content(self, message: Message, changes: Changes) -> Opinion:
        engine = self._engine
        out = _Gathered(self)
        if engine.wants(Stage.HEADER):
            for field in message.fields:
                opinion = await out.stage(Stage.HEADER, engine.header(field))
                if opinion.action is not Action.NONE:
                    return opinion
        macros = queue_macros(self._queue_id)
        opinion = await out.stage(Stage.EOH, engine.call(Stage.EOH, macros=macros))
        if opinion.action is not Action.NONE:
            return opinion
        if engine.wants(Stage.BODY):
            opinion = await self._body(message.body, out)
            if opinion.action is not Action.NONE:
                return opinion
        assert self._link is not None
        await out.flush()
        engine.receive(self._link.take())
        await self._write(engine.call(Stage.EOM, macros=macros))
        return await self._end(changes)

    async def _body(self, body: Source, out: _Gathered) -> Opinion:
        engine, at, size = self._engine, 0, body.size
        held = b""
        over = size == 0
        while not over:
            block = await body.read(at, min(_BLOCK, size - at))
            at += len(block)
            over = not block or at >= size
            held += block.replace(b"\n", b"\r\n")
            while held and (len(held) >= engine.chunk or over):
                piece, held = held[: engine.chunk], held[engine.chunk :]
                opinion = await out.stage(Stage.BODY, engine.call(Stage.BODY, piece))
                if opinion.action is not Action.NONE or not engine.wants(Stage.BODY):
                    return opinion
        return Opinion()

    async def _end(self, changes: Changes) -> Opinion:
        """The answers to the end of the content: changes, then the last word."""
        while True:
            answer = await self._answer(self._settings.content_seconds)
            if answer.kind is not Kind.CHANGE:
                break
            await changes.take(answer)
        self._in_message = False
        opinion = self._meaning(Stage.EOM, answer)
        if opinion.action.final:
            return opinion
        return await changes.opinion(opinion.action)

    # Packets

    async def _write(self, data: bytes) -> None:
        assert self._link is not None
        began = self._reactor.seconds()
        await self._link.write(data, began + min(self._left, self._settings.command_seconds))
        self._left -= self._reactor.seconds() - began

    def _now(self, data: bytes) -> None:
        """Write without waiting: a packet that is not answered, between messages."""
        link = self._link
        if link is not None and not link.lost:
            transport: Any = link.transport
            transport.write(data)

    async def _answer(self, seconds: float) -> Answer:
        """The next answer, waiting at most `seconds` for each sign of life."""
        assert self._link is not None
        while True:
            began = self._reactor.seconds()
            while (answer := self._engine.answer()) is None:
                until = began + min(self._left, seconds)
                self._engine.receive(await self._link.read(until))
            self._left -= self._reactor.seconds() - began
            if answer.kind is not Kind.PROGRESS:
                return answer
            if self._left <= 0:
                raise LinkError("no answer in time")


class _Gathered:
    """Packets that need no answer, written together with the next one that does."""

    def __init__(self, session: MilterSession) -> None:
        self._session = session
        self._packets: list[bytes] = []
        self._size = 0

    async def stage(self, stage: Stage, packets: bytes) -> Opinion:
        self._packets.append(packets)
        self._size += len(packets)
        if self._session._engine.awaiting is None:
            if self._size >= _GATHERED:
                await self.flush()
            return Opinion()
        await self.flush()
        answer = await self._session._answer(self._session._settings.command_seconds)
        return self._session._meaning(stage, answer)

    async def flush(self) -> None:
        packets, self._packets, self._size = self._packets, [], 0
        if packets:
            await self._session._write(b"".join(packets))
