"""What a milter wants changed, gathered until it has said its last word."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..address import Address
from ..message.lines import LineNormalizer
from .edits import field_name, field_value
from .interfaces import Action, Delete, Edit, Opinion, Recipient, Sender, Spill
from .milter_engine import Answer, Body, Deleted, MilterError, Quarantine

__all__ = ["Changes"]


class Changes:
    """Of one message. `spill` makes the place for a new body, of at most `max_body` bytes; `junk_fields` say JUNK."""

    def __init__(
        self, spill: Callable[[], Spill], max_body: int, junk_fields: Iterable[str]
    ) -> None:
        self._make = spill
        self._max_body = max_body
        self._junk_fields = {name.lower().encode(): name for name in junk_fields}
        self._edits: list[Edit] = []
        self._added: list[Recipient] = []
        self._deleted: list[Address] = []
        self._sender: Sender | None = None
        self._body: Spill | None = None
        self._lines = LineNormalizer()
        self._size = 0
        self._reason: str | None = None

    async def take(self, answer: Answer) -> None:
        change = answer.change
        if isinstance(change, Body):
            await self._body_block(change.block)
        elif isinstance(change, Quarantine):
            self._reason = change.reason
        elif isinstance(change, Recipient):
            # The last word on a recipient counts
            self._deleted = [one for one in self._deleted if one.key != change.address.key]
            self._added.append(change)
        elif isinstance(change, Deleted):
            if change.address is not None:
                key = change.address.key
                self._added = [one for one in self._added if one.address.key != key]
                self._deleted.append(change.address)
        elif isinstance(change, Sender):
            self._sender = change
        elif change is not None:
            self._edits.append(change)

    async def opinion(self, action: Action) -> Opinion:
        if self._body is not None:
            await self._write(self._lines.finish() if self._size else b"")
        reason = self._reason or ""
        if self._reason is not None:
            action = Action.QUARANTINE
        elif (name := self._says_junk()) is not None:
            action, reason = Action.JUNK, f"{name}: yes"
        return Opinion(
            action=action,
            reason=reason,
            edits=tuple(self._edits),
            added=tuple(self._added),
            deleted=tuple(self._deleted),
            sender=self._sender,
            body=self._body,
        )

    def _says_junk(self) -> str | None:
        """The name of a field put in that says so."""
        for edit in self._edits:
            if isinstance(edit, Delete):
                continue
            name = self._junk_fields.get(field_name(edit.field))
            if name and field_value(edit.field).strip().lower().startswith((b"yes", b"true")):
                return name
        return None

    def discard(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.discard()

    async def _body_block(self, block: bytes) -> None:
        self._size += len(block)
        if self._size > self._max_body:
            raise MilterError(f"a new body of more than {self._max_body} bytes")
        if self._body is None:
            self._body = self._make()
        await self._write(self._lines.feed(block))

    async def _write(self, block: bytes) -> None:
        assert self._body is not None
        if not block:
            return
        waits = self._body.write(block)
        if waits is not None:
            await waits
