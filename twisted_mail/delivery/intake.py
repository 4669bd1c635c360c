"""One message from MAIL to its commitment: who may send, where it goes, its trace, the store's yes.

`MailIntake` gives every message a `_Message`; that one normalises line ends, edits the header and writes a draft, and
at the end hands it to whoever takes local mail: our store, or a realm of the site's own.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..accounts.directory import Directory
from ..address import Address
from ..interfaces import ILocalDelivery
from ..message import trace
from ..message.lines import LineNormalizer
from ..status import MailError
from ..storage.draft import Draft
from ..storage.store import MailStore
from ..world import World
from .header import HeaderEditor, HeaderRules
from .interfaces import Client, Envelope, Incoming
from .routing import DirectoryRouter, RealmRouter, Router

__all__ = ["IntakeSettings", "MailIntake"]

_log = Logger()


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    """`hostname` stands in trace fields; `reject_bare_newlines`: refuse what would be normalised."""

    hostname: str
    reject_bare_newlines: bool = False
    max_received: int = 50


class MailIntake:
    """`delivery.interfaces.Intake` for a site. `realm` takes local mail in place of the store when it is given."""

    def __init__(
        self,
        world: World,
        settings: IntakeSettings,
        store: MailStore,
        directory: Directory,
        realm: ILocalDelivery | None = None,
    ) -> None:
        self._world = world
        self._settings = settings
        self._store = store
        self._directory = directory
        self._mailboxes = DirectoryRouter(directory)
        self._realm = realm
        self._router: Router = (
            RealmRouter(realm, directory) if realm is not None else self._mailboxes
        )

    def local_domains(self) -> Sequence[str]:
        return self._directory.domains()

    async def check_sender(self, client: Client, envelope: Envelope) -> None:
        account, sender = client.account, envelope.reverse_path
        # RFC 6409 section 6.1
        if account is not None and sender is not None and not account.may_send_as(sender):
            raise MailError(553, "5.7.1", "You may not send as that address")
        self._store.check_space(envelope.size or 0)

    async def route(self, client: Client, envelope: Envelope, recipient: Address) -> None:
        await self._router.route(recipient, client.account)

    def begin(self, client: Client, envelope: Envelope) -> Incoming:
        message_id = self._world.entropy(6).hex()
        finish = self._to_store if self._realm is None else self._to_realm
        settings = self._settings
        now = self._world.now()
        recipients = envelope.recipients
        only = recipients[0] if len(recipients) == 1 else None
        rules = HeaderRules(
            trace=trace.return_path(envelope.reverse_path)
            + (trace.delivered_to(only) if only is not None else b"")
            + trace.received(
                helo=client.helo,
                ip=client.ip,
                by=settings.hostname,
                protocol=client.protocol,
                tls=client.tls,
                message_id=message_id,
                recipient=only,
                seconds=now,
                utf8=envelope.smtputf8,
            ),
            max_received=settings.max_received,
            submission=client.account is not None,
            missing=lambda: {
                b"date": f"Date: {trace.date(now)}\n".encode(),
                b"message-id": trace.message_id(f"{int(now)}.{message_id}", settings.hostname),
            },
        )

        async def keep(draft: Draft, ascii_size: int | None) -> None:
            await finish(message_id, client, envelope, draft, ascii_size)

        return _Message(message_id, self._store.draft(), rules, settings.reject_bare_newlines, keep)

    async def _to_store(
        self,
        message_id: str,
        client: Client,
        envelope: Envelope,
        draft: Draft,
        ascii_size: int | None,
    ) -> None:
        try:
            keys = [
                key
                for recipient in envelope.recipients
                for key in self._mailboxes.mailboxes(recipient, client.account)
            ]
        except MailError as error:
            draft.discard()
            # The recipient was known at RCPT; it is not the message that is wrong.
            raise MailError(451, "4.3.0", "A recipient has changed, try again", error) from error
        await self._store.accept(
            draft,
            keys,
            ascii_size=ascii_size,
            envelope={
                "id": message_id,
                "from": str(envelope.reverse_path or ""),
                "to": [str(recipient) for recipient in envelope.recipients],
            },
        )

    async def _to_realm(
        self,
        message_id: str,
        client: Client,
        envelope: Envelope,
        draft: Draft,
        ascii_size: int | None,
    ) -> None:
        assert self._realm is not None
        try:
            await draft.finish()
            content = await self._world.threads.call(self._content, draft)
        finally:
            draft.discard()
        # All recipients or none: a client that vanishes meanwhile stops nothing half-way.
        outcome: Deferred[None] = Deferred()

        def over(result: Failure | None) -> None:
            if not outcome.called:
                outcome.callback(result)
            elif isinstance(result, Failure):
                _log.warn(
                    "message {message} not delivered, and nobody waits: {error}",
                    message=message_id,
                    error=str(result.value),
                )

        delivery = self._deliver(self._realm, envelope, content)
        Deferred.fromCoroutine(delivery).addBoth(over)
        await outcome

    async def _deliver(self, realm: ILocalDelivery, envelope: Envelope, content: bytes) -> None:
        await realm.deliver(envelope.reverse_path, tuple(envelope.recipients), content)

    def _content(self, draft: Draft) -> bytes:
        if draft.spill is None:
            return b"".join(draft.blocks)
        disk = self._world.disk
        fd = disk.open(os.path.join(draft.spill_directory, draft.spill), os.O_RDONLY)
        try:
            return disk.pread(fd, draft.size, 0)
        finally:
            disk.close(fd)


class _Message:
    """`delivery.interfaces.Incoming`."""

    __slots__ = (
        "_draft",
        "_header",
        "_keep",
        "_lines",
        "_refusal",
        "_reject_bare",
        "message_id",
    )

    def __init__(
        self,
        message_id: str,
        draft: Draft,
        rules: HeaderRules,
        reject_bare: bool,
        keep: Callable[[Draft, int | None], Awaitable[None]],
    ) -> None:
        self.message_id = message_id
        self._draft = draft
        self._lines = LineNormalizer()
        self._header = HeaderEditor(rules)
        self._reject_bare = reject_bare
        self._keep = keep
        self._refusal: MailError | None = None

    async def write(self, block: bytes) -> None:
        if self._refusal is not None:
            return
        try:
            text = self._header.feed(self._lines.feed(block))
        except MailError as error:
            self._refuse(error)
            return
        if text:
            room = self._draft.write(text)
            if room is not None:
                await room

    async def commit(self) -> None:
        if self._refusal is None:
            try:
                self._draft.write(self._header.feed(self._lines.finish()))
                self._draft.write(self._header.finish())
            except MailError as error:
                self._refuse(error)
        if self._reject_bare and self._lines.bare and self._refusal is None:
            # RFC 5321 section 2.3.8
            self._refuse(MailError(550, "5.6.0", "Message contains bare CR or LF, send CR LF"))
        if self._refusal is not None:
            raise self._refusal
        saving = self._header.ascii_saving
        draft = self._draft
        ascii_size = None if saving is None else draft.size + draft.lines - saving
        await self._keep(draft, ascii_size)

    def abort(self) -> None:
        self._draft.discard()

    def _refuse(self, error: MailError) -> None:
        self._refusal = error
        self._draft.discard()
