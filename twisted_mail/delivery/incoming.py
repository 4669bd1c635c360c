"""One message on its way in, as `delivery.interfaces.Incoming`: its bytes become a draft.

Line ends become LF, the header is edited, and what stands on top is put there. When somebody is to decide about it, the
header is kept until he has said what becomes of the message; else it goes to the draft at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from twisted.internet.defer import Deferred

from ..message import trace
from ..message.downgrade import ascii_saving
from ..message.headers import without
from ..message.lines import LineNormalizer
from ..status import MailError
from ..storage.draft import Draft
from .header import HeaderEditor, HeaderRules
from .interfaces import Arrived, Client, Envelope, Inspection, Recipient

__all__ = ["Keeper", "Message"]

_JUNK: Final = b"X-Spam-Flag: YES\n"
"""As SpamAssassin writes it, and most programs that file mail read it."""


class Keeper(Protocol):
    """Who takes it at the end: `intake.MailIntake`."""

    @property
    def reject_bare_newlines(self) -> bool: ...

    @property
    def marks_junk(self) -> bool:
        """Whether who gets it has no folder for junk that we know, and is to read it in the header."""
        ...

    async def recount(self, envelope: Envelope, recipients: Sequence[Recipient]) -> None: ...

    async def keep(self, message: Message) -> None: ...


class Message:
    """`skip`: octets on top that are a mailbox's copy's only; `eight_bit`: octets over 127 have come; `junk`: mailboxes
    get it among their junk; `hold`: why it waits in the queue until somebody lets it go.

    `utf8_header` and `ascii_size` are known once all of it is there.
    """

    __slots__ = (
        "_begun",
        "_head",
        "_inspection",
        "_keeper",
        "_lines",
        "_received",
        "_refusal",
        "_saving",
        "client",
        "draft",
        "eight_bit",
        "envelope",
        "hold",
        "junk",
        "message_id",
        "skip",
    )

    def __init__(
        self,
        keeper: Keeper,
        message_id: str,
        client: Client,
        envelope: Envelope,
        draft: Draft,
        rules: HeaderRules,
        received: bytes,
        inspection: Inspection | None,
    ) -> None:
        self.message_id = message_id
        self.client = client
        self.envelope = envelope
        self.draft = draft
        self.skip = 0
        self.eight_bit = self.junk = False
        self.hold = ""
        self._keeper = keeper
        self._received = received
        self._inspection = inspection
        self._lines = LineNormalizer()
        self._head = HeaderEditor(rules)
        self._saving: int | None = None
        self._begun = False
        self._refusal: MailError | None = None

    async def write(self, block: bytes) -> None:
        if self._refusal is not None:
            return
        if not block.isascii():
            self.eight_bit = True
        block = self._lines.feed(block)
        if b"\0" in block and self.client.account is not None:
            # RFC 6409 section 8: a submission is mended. No mail holds a NUL (RFC 5322 section 2.2), and `message.wire`
            # sends none; what is signed here is to be what leaves.
            block = block.replace(b"\0", b" ")
        try:
            text = self._head.feed(block)
        except MailError as error:
            self._refuse(error)
            return
        if self._head.done:
            inspected = self._inspected(text)
            # What follows the header's block is as it was counted.
            lines = self._lines.ended if self._begun else None
            room = self.draft.write(text if self._begun else self._begin(text), lines)
            if inspected is not None:
                await inspected
            if room is not None:
                await room

    async def commit(self) -> None:
        inspection = self._inspection
        try:
            await self._commit()
        except BaseException as error:
            self.draft.discard()
            if inspection is not None:
                if isinstance(error, MailError):
                    inspection.over(error)
                elif isinstance(error, Exception):
                    inspection.over(MailError(451, "4.3.0", "Local error in processing", error))
                else:
                    inspection.abort()
            raise
        if inspection is not None:
            inspection.over(None)

    async def _commit(self) -> None:
        if self._refusal is None:
            text = self._lines.finish()
            if text or not self._begun:
                await self._rest(text)
        if self._refusal is None and self._lines.bare and self._keeper.reject_bare_newlines:
            # RFC 5321 section 2.3.8
            self._refuse(MailError(550, "5.6.0", "Message contains bare CR or LF, send CR LF"))
        if self._refusal is not None:
            raise self._refusal
        inspection = self._inspection
        if inspection is not None and inspection.decides:
            if not await self._decided(inspection):
                return
        elif inspection is not None:
            inspection.passes()
        await self._keeper.keep(self)

    async def _rest(self, text: bytes) -> None:
        """What is known only when no more comes."""
        try:
            text = self._head.feed(text) + self._head.finish()
        except MailError as error:
            self._refuse(error)
            return
        inspected = self._inspected(text)
        self.draft.write(text if self._begun else self._begin(text))
        if inspected is not None:
            await inspected

    def abort(self) -> None:
        self.draft.discard()
        inspection, self._inspection = self._inspection, None
        if inspection is not None:
            inspection.abort()

    @property
    def utf8_header(self) -> bool:
        return self._saving is not None

    @property
    def ascii_size(self) -> int | None:
        """Octets on the wire of the downgraded form; None when the header is ASCII."""
        return None if self._saving is None else self.draft.size + self.draft.lines - self._saving

    def _inspected(self, text: bytes) -> Deferred[None] | None:
        """Show it to who inspects it."""
        inspection = self._inspection
        if inspection is None:
            return None
        if not self._begun:
            inspection.header(self._head.received)
            # The empty line is neither header nor body.
            text = text[1:]
        return inspection.body(text) if text else None

    def _begin(self, text: bytes) -> bytes:
        """What the draft begins with, `text` at its end."""
        self._begun = True
        if self._inspection is not None and self._inspection.decides:
            self.draft.foretold = self._foretold
            return text
        return self._with_trace(self._head.head) + text

    def _foretold(self) -> int | None:
        """What `_decided` will put on top has so many octets."""
        if self._inspection is None:
            return None  # aborted
        size = self._inspection.foretell(self._head.head)
        return None if size is None else len(self._delivery()) + len(self._received) + size

    def _with_trace(self, header: bytes) -> bytes:
        """The header as it is kept."""
        delivery = self._delivery()
        self.skip = len(delivery)
        header = delivery + self._received + header
        self._saving = ascii_saving(header)
        if self._saving is not None:
            # Also when the octets are ours or a filter's
            self.eight_bit = True
        return header

    def _delivery(self) -> bytes:
        """What mailboxes get on top. RFC 5321 section 4.4: at final delivery only."""
        recipients = self.envelope.recipients
        if self.envelope.departing >= len(recipients):
            return b""
        fields = trace.return_path(self.envelope.reverse_path)
        if len(recipients) == 1:
            fields += trace.delivered_to(recipients[0].address)
        return fields + _JUNK if self.junk and self._keeper.marks_junk else fields

    async def _decided(self, inspection: Inspection) -> bool:
        """Let it be decided upon, and do it. False: nobody shall have it."""
        envelope = self.envelope
        named = tuple(envelope.recipients)
        arrived = Arrived(
            self.message_id, self.client, envelope, self._received, self._head.head, self.draft
        )
        verdict = await inspection.decide(arrived)
        if verdict.body is not None:
            self.draft.discard()
            self.draft = verdict.body
        if verdict.discard or not envelope.recipients:
            self.draft.discard()
            return False
        if tuple(envelope.recipients) != named:
            await self._keeper.recount(envelope, tuple(envelope.recipients))
        self.junk, self.hold = verdict.junk, verdict.hold
        self._received = verdict.top + self._received
        self.eight_bit = self.eight_bit or verdict.body is not None
        header = verdict.header
        if self.junk and self._keeper.marks_junk:
            header = without(header, {b"x-spam-flag"})
        self.draft.put_on_top(self._with_trace(header))
        return True

    def _refuse(self, error: MailError) -> None:
        self._refusal = error
        self.draft.discard()
