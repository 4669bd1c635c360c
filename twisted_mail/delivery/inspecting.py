"""What both kinds of inspection have in common: the body's watch, the filters, the story; see `examination`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..filters import interfaces as filters
from ..filters.chain import ChainSession, Outcome, Told
from ..message.dkim_body import BodyHash
from ..message.headers import fields
from ..status import MailError, Reply
from ..storage.draft import Draft
from .body import BodyWatch, Sink, reread
from .interfaces import Arrived, Client, Disposition, Envelope, Recipient
from .telling import NAMED

if TYPE_CHECKING:
    from ..address import Address
    from .routing import Way
    from .visitor import Visitor

__all__ = ["Inspecting", "login_of", "message_id_of", "refusal", "tls_of", "told_line"]

_log = Logger()
_MESSAGE_ID = re.compile(rb"message-id[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*)", re.IGNORECASE).match
_SAID = {"failed": "fails", "unasked": "is not asked"}
_REFUSING = (filters.Action.REJECT, filters.Action.TEMPFAIL)
_UNWANTED = (filters.Action.JUNK, filters.Action.QUARANTINE)


def told_line(told: Told) -> str:
    """What a filter said, for the story."""
    stage = "" if told.stage == "message" else f" at {told.stage.upper()}"
    verdict = _SAID.get(told.verdict) or f"says {told.verdict}"
    parts = [f"filter {told.filter}{stage} {verdict}"]
    if told.score is not None:
        parts.append(f"with {told.score:g} points")
    if told.why:
        parts.append(f"({told.why})")
    if told.symbols:
        parts.append(f"[{', '.join(told.symbols[:20])}]")
    line = " ".join(parts)
    return line if told.verdict == "unasked" else f"{line}, {told.milliseconds} ms"


def refusal(opinion: filters.Opinion, told: Sequence[Told]) -> MailError:
    """What a filter wants the client to hear; `told`: what all have said. For the log it has the filter's name."""
    reply = opinion.reply or Reply(451, "4.7.1", ("Try again later",))
    enhanced = reply.enhanced or f"{reply.code // 100}.7.1"
    text = " ".join(reply.lines)
    name = _whose(opinion.action, told)
    causes = [f"filter {name}"] if name else []
    if opinion.reason not in text:  # a milter's is its reply
        causes.append(opinion.reason)
    return MailError(reply.code, enhanced, text, ": ".join(causes) or None)


def _whose(action: filters.Action, told: Sequence[Told]) -> str:
    """The filter that brought it about, "" when nobody knows any more."""
    return next((one.filter for one in reversed(told) if one.action is action), "")


class _Body:
    """What follows the empty line, of a draft that may begin with it."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._skip = min(draft.size, 1)
        self.size = draft.size - self._skip

    async def read(self, offset: int, size: int) -> bytes:
        return await self._draft.read(offset + self._skip, size)


class Inspecting:
    """What both have."""

    decides = True

    def __init__(
        self, visitor: Visitor, client: Client, envelope: Envelope, message_id: str
    ) -> None:
        self.visitor = visitor
        self.parts = visitor.parts
        self.client = client
        self.envelope = envelope
        self.message_id = message_id
        self.telling = visitor.take_story()
        self._watch: BodyWatch | None = None
        self._signed_body: BodyHash | None = None
        self._header = b""
        self._named = ""
        self._size = 0
        self._junk = False
        self._gone = ""
        self._settled = False
        """What becomes of it is known, and being done."""
        self._hold = ""
        self._body: Draft | None = None
        """What a filter has written, while nobody else has it."""
        self._outcome = "left"
        self._told: Sequence[Told] = ()
        """What filters have said since the last time it was told."""

    # delivery.interfaces.Inspection

    def header(self, header: bytes) -> None:
        self._header = header
        self._size = len(header)
        sinks = self._sinks(header)
        if sinks:
            self._watch = BodyWatch(self.parts.world, sinks)

    def body(self, text: bytes) -> Deferred[None] | None:
        self._size += len(text)
        return None if self._watch is None else self._watch.feed(text)

    def foretell(self, header: bytes) -> int | None:
        return None

    async def decide(self, arrived: Arrived) -> Disposition:
        raise NotImplementedError

    def passes(self) -> None:
        self._settled = True
        self._tell_what(self._header, self._size)

    def over(self, error: MailError | None) -> None:
        if error is not None:
            self._outcome = "deferred" if error.temporary else "refused"
            self.telling.say(f"answered: {error}")
        elif self._gone:
            self._outcome = "discarded"
            self.telling.say(f"answered 250, and thrown away: {self._gone}")
        else:
            self._tell_places()
        self._end()

    def abort(self) -> None:
        if self._settled:
            # Nobody stops a commit that was begun.
            self.telling.say(
                "the client left while it was being taken: it may be there, and come once more"
            )
        else:
            self.telling.say(
                f"not taken: it is too large, or the client left or began anew, after {self._size} octets"
            )
        if self._watch is not None:
            self._watch.abort()
        self._end()

    def _tell_places(self) -> None:
        """What the 250 promises, for each recipient."""
        envelope, say = self.envelope, self.telling.say
        folder = "the folder for junk" if self._junk else "the inbox"
        for recipient, way in zip(envelope.recipients[:NAMED], envelope.ways, strict=False):
            say(f"{recipient.address}: {_places(recipient.address, way, folder)}")
        here = len(envelope.recipients) - envelope.departing
        self._outcome = "junk" if self._junk and here else "accepted"
        told = ("into the folder for junk" if self._junk else "into its mailboxes") if here else ""
        if envelope.spread:
            queued = f"held in the queue: {self._hold}" if self._hold else "into the queue"
            told = f"{told} and {queued}" if told else queued
        say(f"answered 250: accepted as {self.message_id}, {told}")

    def _end(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.discard()
        session = self.visitor.session
        if session is not None:
            session.abort()
        self._named = self._named or message_id_of(self._header)
        facts = self.visitor.facts(self.client, self.envelope)
        facts["size"] = self._size
        facts["queued"] = self._outcome in ("accepted", "junk") and bool(self.envelope.spread)
        facts["outcome"] = self._outcome
        self.parts.teller.end(
            self.telling,
            connection=self.visitor.connection,
            facts=facts,
            id_=self.message_id,
            message=self._named,
        )

    # For those below

    def _sinks(self, header: bytes) -> list[Sink]:
        raise NotImplementedError

    async def _filtered(self, arrived: Arrived, header: bytes) -> tuple[bytes, Draft | None]:
        """Let the filters speak: the header and, when it is another one, the body that they leave.

        The envelope is changed as they say. Raises MailError.
        """
        session = self.visitor.session
        if session is None:
            return header, None
        opinion, left = await self._ask_filters(session, arrived, header)
        if opinion.action is filters.Action.DISCARD:
            name = _whose(opinion.action, self._told)
            self._discard(opinion.reason or "a filter wants it so", name)
        elif opinion.action is filters.Action.JUNK:
            self._junk = True
        elif opinion.action is filters.Action.QUARANTINE:
            # Mailboxes have a place for what somebody is to look at; for others the queue keeps it.
            self._junk = True
            self._hold = opinion.reason or "a filter wants it so"
        body = opinion.body
        self._body = body if isinstance(body, Draft) else None
        self._change_envelope(left.context)
        return b"".join(left.fields), self._body

    async def _ask_filters(self, session: ChainSession, arrived: Arrived, header: bytes) -> Outcome:
        said = await session.data(self.message_id)
        self._tell(session.take_told())
        if said.action in _REFUSING:
            raise refusal(said, self._told)
        client, envelope = self.client, self.envelope
        context = filters.Context(
            self.visitor.filter_client(),
            filters.Sender(envelope.reverse_path),
            tuple(filters.Recipient(one.address) for one in envelope.recipients),
            client.helo,
            tls_of(client),
            login_of(client),
            self.message_id,
        )
        parts = tuple(header[start:end] for _, start, end in fields(header))
        message = filters.Message(context, parts, _Body(arrived.draft))
        outcome = await session.message(message, self.parts.draft)
        self._tell(session.take_told())
        if outcome.opinion.action in _REFUSING:
            raise refusal(outcome.opinion, self._told)
        for one in self._told:
            if one.action in _UNWANTED and one.verdict != "failed":
                self._log_unwanted("unwanted message", one.filter, one.why, verdict=one.verdict)
        return outcome

    def _discard(self, why: str, name: str = "") -> None:
        if not self._gone:
            self._gone = why
            self._log_unwanted("message discarded", name, why)

    def _log_unwanted(self, what: str, name: str, why: str, **more: str) -> None:
        """What is refused is in the log without that."""
        envelope = self.envelope
        _log.info(
            what,
            connection=self.visitor.connection,
            message=self.message_id,
            **more,
            filter=name or None,
            reason=why or None,
            sender=str(envelope.reverse_path or ""),
            to=" ".join(str(one.address) for one in envelope.recipients[:NAMED]),
        )

    def _change_envelope(self, context: filters.Context) -> None:
        envelope = self.envelope
        envelope.reverse_path = context.sender.address
        known = {one.address: one for one in envelope.recipients}
        wanted = [
            known.get(one.address) or Recipient(one.address, added=True)
            for one in context.recipients
        ]
        if wanted != envelope.recipients:
            self.telling.say("recipients now: " + " ".join(str(one.address) for one in wanted[:20]))
            if not wanted:
                self._discard("a filter has left no recipient")
            envelope.recipients[:] = wanted

    async def _body_hash(self, body: Draft | None) -> bytes:
        """Of the body that leaves, relaxed; `body` when it is not the one that came."""
        if body is None:
            assert self._signed_body is not None
            return self._signed_body.digest()
        return await self._hashed(body, 0)

    async def _hashed(self, draft: Draft, start: int) -> bytes:
        hashed = BodyHash(relaxed=True)
        await reread(self.parts.world, draft, start, hashed.update)
        return hashed.digest()

    async def _all_shown(self) -> None:
        if self._watch is not None:
            await self._watch.finish()

    def _tell(self, told: Sequence[Told]) -> None:
        self._told = told
        for one in told:
            self.telling.say(told_line(one))

    def _arrive(self, arrived: Arrived) -> None:
        self._tell_what(arrived.header, arrived.draft.size + len(arrived.header))

    def _tell_what(self, header: bytes, size: int) -> None:
        self._named, self._size = message_id_of(header), size
        self.telling.say(f"message {self._named or 'without Message-ID'}, {size} octets")

    def _whole(self, header: bytes, top: bytes, body: Draft | None) -> Disposition:
        self._body, self._settled = None, True
        if body is not None:
            body.put_on_top(b"\n")
        return Disposition(header, top, body, self._junk, bool(self._gone), self._hold)


def _places(recipient: Address, way: Way, folder: str) -> str:
    """Where mail for `recipient` goes, in words."""
    mailboxes, remote = way.mailboxes, way.remote
    if len(mailboxes) == 1 and not remote and way.realm is None:
        return f"into {folder} of {mailboxes[0]}"  # nearly always
    ways = [f"into {folder} of {key}" for key in mailboxes[:NAMED]]
    if way.realm is not None:
        ways.append(f"to {way.realm}, whom the site's own realm knows")
    origin = f" (as {way.origin} says)" if way.origin is not None else ""
    for address in remote[:NAMED]:
        to = "" if address == recipient else f"to {address}, "
        ways.append(f"{to}by the queue{origin}")
    return "; ".join(ways)


def message_id_of(header: bytes) -> str:
    """With its angle brackets, "" without one."""
    lower, found, at = header.lower(), None, -1
    # The word is found sooner than the expression, which would be tried at every octet.
    while found is None and (at := lower.find(b"message-id", at + 1)) >= 0:
        if at == 0 or lower[at - 1] == 0x0A:
            found = _MESSAGE_ID(header, at)
    if found is None:
        return ""
    value = found[1].decode("utf-8", "replace").strip()
    begin, close = value.find("<"), value.find(">")
    return value[begin : close + 1][:998] if 0 <= begin < close else ""


def login_of(client: Client) -> filters.Login | None:
    """As filters are told."""
    return None if client.account is None else filters.Login(client.account.name, client.mechanism)


def tls_of(client: Client) -> filters.Tls | None:
    """As filters are told."""
    if client.tls is None:
        return None
    version, _, cipher = client.tls.partition(" ")
    return filters.Tls(version, cipher)
