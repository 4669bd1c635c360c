"""One open connection to a destination: `RemoteCourier`, the queue's `Courier`.

A job is one transaction. How many recipients it has is the queue's affair (it gives a hundred at most, which every
server must take: RFC 5321 section 4.5.3.1.8). A connection takes so many messages for so long (`DeliverySettings`),
then `usable` is False, and the queue opens another one, which sees what changed in the DNS.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import CancelledError, DeferredSemaphore

from ..queue.interfaces import Job, Outcome
from ..smtp.client.interfaces import Conversation, SessionError, Transaction
from ..world import World
from .fitting import CONVERSIONS, CannotFit, fit, fits
from .outcomes import Peer, of_loss, of_refusal, of_reply
from .settings import DeliverySettings

__all__ = ["CONVERSIONS", "Peer", "RemoteCourier"]


class RemoteCourier:
    """`queue.interfaces.Courier`. `conversions`: shared by all of a process."""

    def __init__(
        self,
        world: World,
        conversation: Conversation,
        peer: Peer,
        settings: DeliverySettings,
        conversions: DeferredSemaphore,
    ) -> None:
        self.peer = peer
        self._world = world
        self._conversation = conversation
        self._conversions = conversions
        self._left = settings.max_messages
        self._until = world.now() + settings.max_age
        self._closed = False

    @property
    def usable(self) -> bool:
        """Whether it takes another job."""
        return (
            not self._closed
            and self._left > 0
            and self._conversation.open
            and self._world.now() < self._until
        )

    async def deliver(self, job: Job) -> Sequence[Outcome]:
        """See `Courier.deliver`. What `job.open` raises comes out, and the connection is as good as before."""
        try:
            return await self._deliver(job)
        except (CancelledError, GeneratorExit):
            self._end()
            raise

    async def _deliver(self, job: Job) -> Sequence[Outcome]:
        self._left -= 1
        conversation, peer = self._conversation, self.peer
        message = job.message
        options = message.options
        # What is skipped has line ends too, so this is a few octets too much: SIZE is an estimate.
        wire = message.wire - message.skip
        if fits(options, conversation.extensions, lmtp=peer.lmtp):
            content = await job.open()
        else:
            try:
                options, content, wire = await fit(
                    job,
                    conversation.extensions,
                    wire,
                    self._world.threads,
                    self._conversions,
                    lmtp=peer.lmtp,
                )
            except CannotFit as error:
                return [
                    of_refusal(number, error.code, error.enhanced, error.text, peer)
                    for number, _ in job.recipients
                ]
        recipients = [recipient for _, recipient in job.recipients]
        transaction = Transaction(job.mail_from, recipients, options, wire)
        dsn = "DSN" in conversation.extensions
        try:
            replies = await conversation.send(transaction, content)
        except SessionError as error:
            self._end()
            return [of_loss(number, error, peer) for number, _ in job.recipients]
        except Exception:
            self._end()  # nobody knows what was said, and what not
            raise
        return [
            of_reply(number, recipient, reply, peer, dsn=dsn)
            for (number, recipient), reply in zip(job.recipients, replies, strict=True)
        ]

    async def close(self) -> None:
        """See `Courier.close`."""
        if self._closed:
            return
        self._closed = True
        if self._conversation.open:
            await self._conversation.quit()

    def _end(self) -> None:
        self._closed = True
        self._conversation.abort()
