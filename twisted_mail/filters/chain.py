"""Several filters in a row: each sees what the ones before have left, and what all say becomes one opinion.

The first that refuses, defers or discards has the last word, and the ones behind it are not asked. JUNK and QUARANTINE
do not end the row. What each one said, and how long it took, is kept for the story (`Told`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

from ..status import Reply
from .edits import apply_edits, recipients_after
from .health import Health
from .interfaces import (
    Action,
    Client,
    Login,
    Message,
    Opinion,
    Recipient,
    Scanner,
    Sender,
    Spill,
    StageFilter,
    StageSession,
    Tls,
)

__all__ = ["Chain", "ChainSession", "Outcome", "Told", "after", "merged"]

_MAX_TOLD = 1000
_ORDER = {action: n for n, action in enumerate(Action)}


class Told(NamedTuple):
    """One line of the story. `stage`: helo, mail, rcpt, data or message; `verdict`: the action, ``"failed"``, or
    ``"unasked"``.

    `action` is what came of it, also of a failure. `why` is one line, "" when there is nothing to say.
    """

    filter: str
    stage: str
    milliseconds: int
    verdict: str
    action: Action
    why: str
    score: float | None = None
    symbols: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """All that was said of a message. `message` is what is left of it: fields, body, sender, recipients.

    `opinion.body`, the body of `message` then, is the caller's to `discard`; with a final action there is none.
    """

    opinion: Opinion
    message: Message


class Chain:
    """Filters in their order. `clock`: IReactorTime; `health`: the log's, when several chains have a filter."""

    def __init__(
        self, clock: Any, filters: Sequence[StageFilter | Scanner], health: Health | None = None
    ) -> None:
        self.clock = clock
        self.health = health or Health(clock)
        self.filters = tuple(filters)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.filters)

    def session(self, client: Client) -> ChainSession:
        """For one connection."""
        return ChainSession(self, client)


class ChainSession:
    """One connection's. As `StageSession`, but for `message`, which runs scanners, too.

    An opinion with a final action is all that the caller needs to look at before the content is there; who discards
    says so again in every later call, so the caller may go on until `message`.
    """

    def __init__(self, chain: Chain, client: Client) -> None:
        self._clock = chain.clock
        self._health = chain.health
        self._told: list[Told] = []
        self._row: list[tuple[str, StageSession | None, Scanner | None]] = []
        for one in chain.filters:
            # A protocol class cannot be asked for with isinstance; only stage filters have sessions.
            if hasattr(one, "session"):
                self._row.append((one.name, cast(StageFilter, one).session(client), None))
            else:
                self._row.append((one.name, None, one))
        self._sessions = [(name, one) for name, one, _ in self._row if one is not None]

    def take_told(self) -> tuple[Told, ...]:
        """The story since the last time this was asked."""
        told, self._told = tuple(self._told), []
        return told

    async def helo(self, name: str, tls: Tls | None, login: Login | None = None) -> Opinion:
        return await self._all("helo", lambda one: one.helo(name, tls, login))

    async def mail(self, sender: Sender, login: Login | None, queue_id: str = "") -> Opinion:
        self.abort()
        return await self._all("mail", lambda one: one.mail(sender, login, queue_id))

    async def rcpt(self, recipient: Recipient, refused: Reply | None = None) -> Opinion:
        return await self._all("rcpt", lambda one: one.rcpt(recipient, refused))

    async def data(self, queue_id: str = "") -> Opinion:
        return await self._all("data", lambda one: one.data(queue_id))

    async def message(self, message: Message, spill: Callable[[], Spill]) -> Outcome:
        """Ask them all about the content. `spill` makes a place for a new body."""
        whole = Opinion()
        try:
            for name, session, scanner in self._row:
                if session is not None:
                    asking = session.message(message, spill)
                else:
                    assert scanner is not None
                    asking = scanner.scan(message)
                opinion = await self._ask(name, "message", asking)
                if whole.body is not None and (opinion.body is not None or opinion.action.final):
                    whole.body.discard()
                whole = merged(whole, opinion)
                if whole.action.final:
                    break
                message = after(message, opinion)
        except BaseException:
            if whole.body is not None:
                whole.body.discard()
            raise
        return Outcome(whole, message)

    def abort(self) -> None:
        """The message is over."""
        for _, session in self._sessions:
            session.abort()

    def close(self) -> None:
        """The connection is over."""
        for _, session in self._sessions:
            session.close()

    async def _all(self, stage: str, ask: Callable[[StageSession], Awaitable[Opinion]]) -> Opinion:
        whole = Opinion()
        for name, session in self._sessions:
            whole = merged(whole, await self._ask(name, stage, ask(session)))
            if whole.action.final:
                break
        return whole

    async def _ask(self, name: str, stage: str, asking: Awaitable[Opinion]) -> Opinion:
        began = self._clock.seconds()
        opinion = await asking
        if opinion.failed:
            then = "accept" if opinion.action is Action.NONE else str(opinion.action)
            self._health.failed(name, opinion.reason, then)
        elif opinion.asked and (stage == "message" or opinion.action is not Action.NONE):
            # Of the stages before, many filters say nothing, and have not been asked.
            self._health.works(name)
        worth_telling = stage == "message" or opinion.failed or opinion.action is not Action.NONE
        if worth_telling and len(self._told) < _MAX_TOLD:
            took = round((self._clock.seconds() - began) * 1000)
            verdict = str(opinion.action) if opinion.asked else "unasked"
            verdict = "failed" if opinion.failed else verdict
            why = opinion.reason
            self._told.append(
                Told(
                    name, stage, took, verdict, opinion.action, why, opinion.score, opinion.symbols
                )
            )
        return opinion


def merged(before: Opinion, opinion: Opinion) -> Opinion:
    """Two filters' opinions as one; `opinion` came later, and saw what the other one had changed."""
    if opinion.action.final:
        return replace(opinion, body=None)
    if opinion == _NOTHING or not opinion.asked:
        return before
    # To accept is to say nothing against it
    stronger = _ORDER[opinion.action] > _ORDER[before.action]
    action = opinion.action if stronger else before.action
    if action is Action.ACCEPT:
        action = Action.NONE
    gone = {one.key for one in opinion.deleted}
    added = tuple(one for one in before.added if one.address.key not in gone)
    known = {one.address.key for one in added}
    again = {one.address.key for one in opinion.added}
    scores = [one for one in (before.score, opinion.score) if one is not None]
    return Opinion(
        action=action,
        reason=(opinion.reason if stronger else before.reason) or opinion.reason,
        edits=before.edits + opinion.edits,
        added=added + tuple(one for one in opinion.added if one.address.key not in known),
        deleted=tuple(one for one in before.deleted if one.key not in again) + opinion.deleted,
        sender=before.sender if opinion.sender is None else opinion.sender,
        body=before.body if opinion.body is None else opinion.body,
        score=sum(scores) if scores else None,
        symbols=before.symbols + opinion.symbols,
        failed=before.failed or opinion.failed,
    )


def after(message: Message, opinion: Opinion) -> Message:
    """The message as an opinion leaves it."""
    fields, body, context = message.fields, message.body, message.context
    if opinion.edits:
        fields = tuple(apply_edits(fields, opinion.edits))
    if opinion.body is not None:
        body = opinion.body
    if opinion.sender is not None:
        context = context._replace(sender=opinion.sender)
    if opinion.added or opinion.deleted:
        left, new = recipients_after(context.recipients, opinion)
        context = context._replace(recipients=left + new)
    return Message(context, fields, body)


_NOTHING = Opinion()
