"""What the queue needs of the outside: somebody who carries messages to a destination, and where it keeps them.

`remote.carrier` implements `Carrier`; `storage.spool` with `storage.store` is the `Spool`; tests have fakes of both
(`testing.queue`). The queue decides when and what, never how.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ..interfaces import Content
from ..storage.queued import Backoff, Change, QueuedMessage, QueuedRecipient, Taken, Turn

__all__ = [
    "Carrier",
    "Courier",
    "DestinationError",
    "Door",
    "Job",
    "Outcome",
    "Result",
    "Spool",
    "Turn",
]


class Result(enum.Enum):
    """What a try came to for one recipient."""

    DELIVERED = "delivered"
    """The peer said 250, and notifies further itself (DSN), or need not."""
    RELAYED = "relayed"
    """The peer said 250 and knows no DSN: who asked for NOTIFY=SUCCESS is told "relayed" by us (RFC 3461 5.2.2)."""
    DEFERRED = "deferred"
    """Not now."""
    FAILED = "failed"
    """Never."""


class Outcome(NamedTuple):
    """Of one recipient, `number` in the message. `host`, `address`, `tls` as in `storage.queued.Attempt`.

    `code` and `enhanced`: the peer's reply, or what fits (``451``, ``"4.4.2"``); 0 when there was no reply. `text`: one
    line for people, without the codes when the peer said it: ``no such user``. `said`: the peer said it, else we do.
    """

    number: int
    result: Result
    code: int
    enhanced: str
    text: str
    host: str = ""
    address: str = ""
    tls: str = ""
    said: bool = True


class DestinationError(Exception):
    """No message can be handed over there: no host answers, none could be found, TLS is not as it must be.

    `permanent`: and never will (no such domain, null MX, a route that says fail); then every message of the hop
    bounces with it. Else the hop is backed off as a whole. The rest is as in `Outcome`.
    """

    def __init__(
        self,
        text: str,
        *,
        permanent: bool = False,
        enhanced: str = "4.4.1",
        code: int = 0,
        host: str = "",
        address: str = "",
        tls: str = "",
        said: bool = False,
    ) -> None:
        super().__init__(text)
        self.text = text
        self.permanent = permanent
        self.enhanced = enhanced
        self.code = code
        self.host = host
        self.address = address
        self.tls = tls
        self.said = said


@dataclass(frozen=True, slots=True)
class Job:
    """One transaction: some recipients of a message, by their number in it, that share hop and `mail_from`.

    `mail_from` is "" for ``<>``. `open` gives the content as it is to be sent (LF line ends, what is the mailboxes'
    only left out); it may be called more than once. Raises MailError or OSError when the file cannot be had; a
    `Courier` lets that through, and may be used again.
    """

    message: QueuedMessage
    recipients: tuple[tuple[int, QueuedRecipient], ...]
    mail_from: str
    open: Callable[[], Awaitable[Content]]


class Courier(Protocol):
    """One open connection to a destination."""

    @property
    def usable(self) -> bool:
        """Whether it takes another job. False once the peer has ended it, or said enough."""

    async def deliver(self, job: Job) -> Sequence[Outcome]:
        """Hand one message over: an outcome for each recipient of the job, in its order.

        Never raises for what the peer does; what it raises otherwise is a fault of ours, and temporary.
        One at a time. Cancelled, it closes the connection.
        """

    async def close(self) -> None:
        """Say goodbye (QUIT), without waiting long. May be called on one that is not usable, and twice."""


class Carrier(Protocol):
    """Who knows the way to hops."""

    async def open(self, hop: str) -> Courier:
        """A connection on which mail for `hop` may be handed over. Raises DestinationError.

        Takes as long as the hosts of the hop do not answer: minutes. Cancelled, it stops.
        """


class Door(Protocol):
    """Where the queue's own mail comes in: bounces, in the same record as the outcome that causes them."""

    async def commit(self, changes: Sequence[Change]) -> None:
        """Changes without a message. Durable when it returns. Raises MailError."""

    async def notify(
        self,
        changes: Sequence[Change],
        recipient: str,
        content: bytes,
        *,
        requiretls: bool = False,
    ) -> None:
        """Changes, and a message from ``<>`` to `recipient` (LF line ends, complete), in one record.

        Goes to a mailbox here, or to the queue. `requiretls`: only by verified TLS, as the message that it tells of.
        Raises MailError: 5xx when the recipient can never be reached (then nothing was committed), 4xx when it is to
        be tried again.
        """


class Spool(Protocol):
    """The queue on the disk, for the one process that runs it (`acquire`). Work is done in threads.

    All that is taken is ACTIVE until a `Change` says otherwise, or `put_back` does. What is not journaled (`put_back`,
    back-offs) may be forgotten in a power cut: then it is tried too early.
    """

    async def acquire(self) -> bool:
        """Be the one who runs the queue; False while another process is. Recovers what a dead one left active."""

    async def release(self) -> None:
        """Let another process run it."""

    def attach(
        self,
        claim: Callable[[QueuedMessage], bool],
        claimed: Callable[[Sequence[QueuedMessage]], None],
        dropped: Callable[[Sequence[QueuedMessage]], None] = ...,
    ) -> None:
        """Short way for new mail: it is ACTIVE at once, and never read back.

        `claim` is called in a thread, under way of the commit: whether there is room for all recipients of the message
        now (it must count them at once). `claimed` gets them on the reactor's thread, once they are committed;
        `dropped` those whose claim came to nothing (the rows could not be written just now): they come by `take`.
        """

    def changed(self) -> bool:
        """Whether another process changed something since this was last asked. Microseconds; the reactor's thread."""

    async def take(
        self, now: float, limit: int, share: Callable[[str], int], reopened: Sequence[str] = ()
    ) -> Turn:
        """Recipients that are due, at most `limit`, fairly over their hops; they are ACTIVE from now on.

        `share` is called in the thread: how many more of this hop may be taken. A hop that has more than that is not
        looked at again until it is named in `reopened`.
        """

    async def put_back(self, items: Sequence[tuple[str, int]], due: float) -> None:
        """Active recipients (message id, number) that were not tried: waiting again, due at `due`."""

    async def back_off(self, state: Backoff) -> None:
        """Nothing of this hop is due before `state.until`; with ``failures`` 0 the back-off is lifted."""

    async def backoffs(self, hops: Sequence[str]) -> dict[str, Backoff]:
        """What is known of those of these hops that fail."""

    async def rehop(self, items: Sequence[tuple[str, int]], hops: Sequence[str]) -> None:
        """Active recipients that belong to other hops now (the routes were changed): waiting there, due at once."""

    async def expired(self, now: float, limit: int) -> Sequence[Taken]:
        """Recipients of messages whose time is over, except active and held ones; whole messages, at least one."""

    async def overdue(self, now: float, limit: int) -> Sequence[Taken]:
        """The same for messages whose senders are to be warned: all recipients not over, active ones too."""

    async def current(self, ids: Sequence[str]) -> dict[tuple[str, int], Taken]:
        """Which recipients of these messages are ACTIVE still: the others were held or removed meanwhile."""

    async def open(self, message: QueuedMessage) -> Content:
        """The content to send. Raises MailError when it cannot be read, one with a 5xx when it is lost."""

    async def prune(self, before: float, keep: int) -> None:
        """Forget finished messages that ended before `before`, and all but the last `keep`; a bounded number a call."""
