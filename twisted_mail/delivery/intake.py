"""One message from MAIL to its commitment: who may send, where it goes, its trace, the store's yes.

`MailIntake` gives every message an `incoming.Message`; that one normalises line ends, edits the header and writes a
draft, and at the end hands it to whoever takes it: our store, which commits mailboxes and queue in one record, or a
realm of the site's own. Where recipients lead is asked at RCPT and again at the end: what has changed meanwhile is 451
for all. A mailbox that is full is refused at RCPT (`storage.quota`). Who may bring mail at all, and what is thought of
it, is for the `Guard`.

A message is taken whole or not at all, with one exception. A realm cannot be part of our record: for recipients of
its own and others elsewhere it is asked first, then the queue commits. When that fails the client hears 451, sends
again, and the realm gets the message twice. In the other order a message would leave that the client is told was
refused.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..accounts.directory import Directory
from ..address import Address
from ..interfaces import ILocalDelivery
from ..message import trace
from ..status import MailError
from ..storage.draft import Draft
from ..storage.queued import QueuedMessage
from ..storage.store import MailStore
from ..world import World
from .authorship import check_author
from .header import HeaderRules
from .incoming import Message
from .interfaces import Client, Envelope, Guard, Incoming, Recipient, Visit
from .notices import Bounced, Notices, Sign
from .outbound import Outbound
from .routes import Routes
from .routing import DirectoryRouter, RealmRouter, SenderRewriting, Way
from .telling import Teller

__all__ = ["IntakeSettings", "MailIntake"]

_log = Logger()
_IDS = 64
"""Ids that are drawn at once: each call of the kernel lets another thread have the interpreter."""
MAX_SPREAD = 10_000
"""Addresses elsewhere that the recipients of one message lead to by aliases; a single alias may have its 1000."""


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    """`hostname` stands in trace fields; `reject_bare_newlines`: refuse what would be normalised.

    `lifetime`: seconds until the queue gives up; `warn_after`: until it tells the sender that it has not, 0 for never.
    `literals`: address literals that are this host, such as ``[192.0.2.1]``.
    """

    hostname: str
    reject_bare_newlines: bool = False
    max_received: int = 50
    lifetime: float = 5 * 86400.0
    warn_after: float = 4 * 3600.0
    literals: frozenset[str] = frozenset()


class MailIntake:
    """`delivery.interfaces.Intake` for a site. `realm` takes local mail in place of the store when it is given.

    `routes`: None for none, so all goes by MX; `srs`: None for no rewriting; `guard`: None for taking everybody as he
    says he is. `notices` is the queue's own door; `sign`, `bounced` and `teller` are for it.
    """

    def __init__(
        self,
        world: World,
        settings: IntakeSettings,
        store: MailStore,
        directory: Directory,
        realm: ILocalDelivery | None = None,
        *,
        routes: Routes | None = None,
        srs: SenderRewriting | None = None,
        guard: Guard | None = None,
        sign: Sign | None = None,
        bounced: Bounced | None = None,
        teller: Teller | None = None,
    ) -> None:
        routes = routes if routes is not None else Routes()
        self._world = world
        self._settings = settings
        self._rules = HeaderRules(max_received=settings.max_received)
        self._store = store
        self._directory = directory
        self._guard = guard
        self._mailboxes = DirectoryRouter(directory, routes, srs, settings.literals)
        self._realm = (
            (realm, RealmRouter(realm, directory, routes, srs, settings.literals))
            if realm is not None
            else None
        )
        self._ids: list[str] = []
        self._outbound = Outbound(
            directory, routes, srs, settings.hostname, settings.lifetime, settings.warn_after
        )
        self.notices = Notices(
            world,
            store,
            self._outbound,
            self._mailboxes,
            self._realm,
            sign=sign,
            bounced=bounced,
            teller=teller,
        )

    def local_domains(self) -> Sequence[str]:
        return self._directory.domains()

    def visit(self, ip: str, connection: str, *, submission: bool) -> Visit | None:
        if self._guard is None:
            return None
        return self._guard.visit(ip, connection, submission=submission)

    async def check_sender(self, client: Client, envelope: Envelope) -> None:
        account, sender = client.account, envelope.reverse_path
        # RFC 6409 section 6.1
        visit = client.visit
        try:
            if account is not None and sender is not None and not account.may_send_as(sender):
                raise MailError(553, "5.7.1", "You may not send as that address")
            self._store.check_space(envelope.size or 0)
        except MailError as error:
            if visit is not None:
                visit.begin_story(client, envelope)
                visit.answered(error)
            raise
        if visit is not None:
            await visit.sender(client, envelope)

    async def route(self, client: Client, envelope: Envelope, recipient: Address) -> None:
        visit = client.visit
        try:
            way = await self._way(recipient, client.account is not None)
            if way.mailboxes and not _always_taken(recipient):
                await self._store.check_quota(way.mailboxes, envelope.size or 0)
        except MailError as error:
            if visit is not None:
                visit.refused(client, envelope, recipient, error)
            raise
        if visit is not None:
            await visit.recipient(client, envelope, recipient, way.here)
        self._count(envelope, way)

    async def _way(self, recipient: Address, trusted: bool) -> Way:
        if self._realm is None:
            return self._mailboxes.way(recipient, trusted)
        return await self._realm[1].way(recipient, trusted)

    def _count(self, envelope: Envelope, way: Way) -> None:
        if way.remote:
            spread = envelope.spread + len(way.remote)
            if spread > MAX_SPREAD and envelope.recipients:
                # RFC 5321 section 4.5.3.1.10
                raise MailError(452, "4.5.3", "Too many recipients, send the rest later")
            envelope.spread = spread
            envelope.departing += not way.here

    def begin(self, client: Client, envelope: Envelope) -> Incoming:
        message_id = self._new_id()
        settings = self._settings
        now = self._world.now()
        recipients = envelope.recipients
        rules = self._rules
        account = client.account
        if account is not None:
            is_ours, may_send_as = self._directory.is_local_domain, account.may_send_as
            rules = HeaderRules(
                max_received=settings.max_received,
                submission=True,
                missing=lambda: {
                    b"date": f"Date: {trace.date(now)}\n".encode(),
                    b"message-id": trace.message_id(f"{int(now)}.{message_id}", settings.hostname),
                },
                check=lambda header: check_author(header, is_ours, may_send_as),
            )
        received = trace.received(
            helo=client.helo,
            ip=client.ip,
            by=settings.hostname,
            protocol=client.protocol,
            tls=client.tls,
            message_id=message_id,
            recipient=recipients[0].address if len(recipients) == 1 else None,
            seconds=now,
            utf8=envelope.smtputf8,
        )
        inspection = None
        if client.visit is not None:
            inspection = client.visit.begin(client, envelope, message_id)
        draft = self._store.draft()
        return Message(self, message_id, client, envelope, draft, rules, received, inspection)

    def _new_id(self) -> str:
        ids = self._ids
        if not ids:
            drawn = self._world.entropy(6 * _IDS).hex()
            ids += [drawn[at : at + 12] for at in range(0, len(drawn), 12)]
        return ids.pop()

    def another_draft(self) -> Draft:
        """For a body that takes the place of the one that came."""
        return self._store.draft()

    @property
    def reject_bare_newlines(self) -> bool:
        return self._settings.reject_bare_newlines

    @property
    def marks_junk(self) -> bool:
        return self._realm is not None

    async def recount(self, envelope: Envelope, recipients: Sequence[Recipient]) -> None:
        """Recipients that the site itself has put in place of those that the client named. Raises MailError."""
        envelope.recipients, envelope.departing, envelope.spread = [], 0, 0
        for recipient in recipients:
            try:
                way = await self._way(recipient.address, True)
            except MailError as error:
                # The client named others: it must not hear that there is no such user.
                raise _changed(error) from error
            self._count(envelope, way)
            envelope.recipients.append(recipient)

    async def keep(self, message: Message) -> None:
        """Commit `message`; its draft is not the caller's any more, whatever happens. Raises MailError."""
        draft = message.draft
        size = draft.size
        try:
            ways = message.envelope.ways = await self._ways(message)
            if not message.skip and any(way.here for way in ways):
                # All led elsewhere, so what a mailbox's copy has on top was not written.
                raise _changed("a recipient has a mailbox here now")
            queue = self._outbound.message(
                message.message_id,
                message.envelope,
                ways,
                now=self._world.now(),
                skip=message.skip,
                eight_bit=message.eight_bit,
                utf8_header=message.utf8_header,
                held=message.hold,
            )
        except BaseException:
            draft.discard()
            raise
        if self._realm is None:
            keys: list[str] = []
            unlimited: list[str] = []
            for recipient, way in zip(message.envelope.recipients, ways, strict=True):
                keys += way.mailboxes
                if _always_taken(recipient.address):
                    unlimited += way.mailboxes
            await self._to_store(message, draft, keys, queue, unlimited)
        elif addresses := tuple(way.realm for way in ways if way.realm is not None):
            await self._to_realm(self._realm[0], message, addresses, queue)
        else:
            await self._to_store(message, draft, (), queue)
        counters = self._world.counters
        counters.messages_in += 1
        counters.octets_in += size

    async def _ways(self, message: Message) -> list[Way]:
        trusted = message.client.account is not None
        try:
            if self._realm is None:
                way = self._mailboxes.way
                return [
                    way(one.address, trusted or one.added) for one in message.envelope.recipients
                ]
            return [
                await self._realm[1].way(one.address, trusted or one.added)
                for one in message.envelope.recipients
            ]
        except MailError as error:
            raise _changed(error) from error

    async def _to_store(
        self,
        message: Message,
        draft: Draft,
        keys: Sequence[str],
        queue: QueuedMessage | None,
        unlimited: Sequence[str] = (),
    ) -> None:
        envelope = message.envelope
        await self._store.accept(
            draft,
            keys,
            ascii_size=message.ascii_size,
            envelope={
                "id": message.message_id,
                "from": str(envelope.reverse_path or ""),
                "to": [str(recipient.address) for recipient in envelope.recipients],
            },
            queue=queue,
            unlimited=unlimited,
            junk=message.junk,
        )

    async def _to_realm(
        self,
        realm: ILocalDelivery,
        message: Message,
        addresses: Sequence[Address],
        queue: QueuedMessage | None,
    ) -> None:
        draft = message.draft
        try:
            if queue is not None:
                self._store.check_space(draft.size)
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
                    message=message.message_id,
                    error=str(result.value),
                )

        delivery = self._deliver(realm, message, addresses, content, queue)
        Deferred.fromCoroutine(delivery).addBoth(over)
        await outcome

    async def _deliver(
        self,
        realm: ILocalDelivery,
        message: Message,
        addresses: Sequence[Address],
        content: bytes,
        queue: QueuedMessage | None,
    ) -> None:
        await realm.deliver(message.envelope.reverse_path, addresses, content)
        if queue is not None:
            draft = self._store.draft()
            draft.write(content)
            await self._to_store(message, draft, (), queue)

    def _content(self, draft: Draft) -> bytes:
        if draft.spill is None:
            return b"".join(draft.blocks)
        disk = self._world.disk
        fd = disk.open(os.path.join(draft.spill_directory, draft.spill), os.O_RDONLY)
        try:
            return disk.pread(fd, draft.size, 0)
        finally:
            disk.close(fd)


def _always_taken(recipient: Address) -> bool:
    """RFC 5321 section 4.5.1: whoever is responsible hears of it, however full the mailbox is."""
    return len(recipient.local) == 10 and recipient.local.lower() == "postmaster"


def _changed(error: object) -> MailError:
    """The recipient was taken at RCPT; it is not the message that is wrong."""
    return MailError(451, "4.3.0", "A recipient has changed, try again", error)
