"""Who is told what: from what became of recipients to the one notice that their sender gets of it.

The decisions stand here (who is told, by what sender asked for; never a bounce of a bounce); how a notice is written
is `message.dsn`'s. A notice and the change that it tells of are committed as one, see `outcomes`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from twisted.logger import Logger

from ..interfaces import Content
from ..message.dsn import compose
from ..message.notice import DEFAULT_LIMIT, Action, Notice, Recipient, notified, returns_whole
from ..status import MailError
from ..storage.queued import Attempt, QueuedMessage
from ..world import World
from .interfaces import Outcome, Result

__all__ = ["Bounces", "Told", "expired_outcome", "tellable"]

_log = Logger()

READ = 1024 * 1024
"""Octets of an original that are read for a notice; of a longer one the header only, as far as it goes."""

_REPLY = re.compile(r"([2-5]\d\d) (?:([245]\.\d{1,3}\.\d{1,3}) )?(.*)", re.DOTALL | re.ASCII)


class Told(NamedTuple):
    """What there is to tell of one recipient. `at`: of the try; None when there was none. `until` as in RFC 3464."""

    action: Action
    outcome: Outcome
    at: float | None = None
    until: float | None = None


def expired_outcome(number: int, last: Attempt | None, otherwise: str = "") -> Outcome:
    """Of a recipient whose time is over: what the last try came to, in its words.

    `otherwise` is the reason when it was not tried itself, as when its destination is down.
    """
    if last is None:
        text = otherwise or "it could not be delivered in time"
        return Outcome(number, Result.FAILED, 0, "4.4.7", text, said=False)
    reply = _REPLY.fullmatch(last.text)
    if reply is None:
        # RFC 3463 section 3.5: X.4.7, as the code of the problem itself is not known
        return Outcome(
            number, Result.FAILED, 0, "4.4.7", last.text, last.host, last.address, last.tls, False
        )
    # The code of the problem is better than X.4.7, says the same section.
    code, enhanced, text = reply.groups()
    return Outcome(
        number, Result.FAILED, int(code), enhanced or "", text, last.host, last.address, last.tls
    )


def tellable(message: QueuedMessage, told: Sequence[Told]) -> Sequence[Told]:
    """Those of `told` that somebody is to hear of: by NOTIFY, and never about a message from ``<>``.

    The failures of a message from ``<>`` do come back: they are the double bounces, for who wants them.
    """
    wanted = [
        one for one in told if notified(message.recipients[one.outcome.number].notify, one.action)
    ]
    if message.sender:
        return wanted
    # RFC 5321 section 6.1: no notification about a message with a null reverse-path
    return [one for one in wanted if one.action is Action.FAILED]


@dataclass(frozen=True, slots=True)
class Bounces:
    """Composes notices. `hostname` is ours; `open` gives a message's content, `double_bounces_to` is "" for nobody."""

    world: World
    hostname: str
    open: Callable[[QueuedMessage], Awaitable[Content]]
    double_bounces_to: str = ""
    limit: int = DEFAULT_LIMIT

    def recipient(self, message: QueuedMessage) -> str:
        """Who is told of `message`: "" for nobody."""
        if message.sender:
            return message.sender
        to = self.double_bounces_to.lower()
        for one in message.recipients:
            # It went to him, perhaps by an alias: he is not told of that, and so on for ever.
            if to in (one.address.lower(), one.origin.lower()):
                return ""
        return self.double_bounces_to

    async def compose(self, to: str, message: QueuedMessage, told: Sequence[Told]) -> bytes:
        """The notice to `to`. Never fails for the original's sake: what cannot be read is left out."""
        options = message.options
        whole = returns_whole(options.ret, [one.action for one in told])
        notice = Notice(
            to=to,
            host=self.hostname,
            unique=f"{int(self.world.now())}.{self.world.entropy(8).hex()}",
            now=self.world.now(),
            recipients=[_recipient(message, one) for one in told],
            arrived=message.arrived,
            envid=options.envid,
            queue_id=message.id,
            original=await self._original(message),
            whole=whole,
            limit=self.limit,
            smtputf8=options.smtputf8,
        )
        return compose(notice)

    async def _original(self, message: QueuedMessage) -> bytes:
        try:
            content = await self.open(message)
            try:
                return await _read(content, only_header=message.size - message.skip > READ)
            finally:
                content.close()
        except (MailError, OSError) as error:
            _log.warn("a notice goes without the original", message=message.id, error=str(error))
        except Exception:
            _log.failure("a notice goes without the original", message=message.id)
        return b""


async def _read(content: Content, only_header: bool) -> bytes:
    blocks: list[bytes] = []
    size = 0
    while size < READ:
        block = await content.read(min(65536, READ - size))
        if not block:
            break
        tail = blocks[-1][-1:] if blocks else b""
        blocks.append(block)
        size += len(block)
        if only_header and b"\n\n" in tail + block:
            break
    whole = b"".join(blocks)
    if only_header:
        end = whole.find(b"\n\n")
        return whole if end < 0 else whole[: end + 1]
    return whole


def _recipient(message: QueuedMessage, told: Told) -> Recipient:
    outcome = told.outcome
    recipient = message.recipients[outcome.number]
    return Recipient(
        address=recipient.address,
        action=told.action,
        enhanced=outcome.enhanced,
        text=outcome.text,
        code=outcome.code,
        said=outcome.said,
        host=outcome.host,
        ip=outcome.address,
        orcpt=recipient.orcpt,
        origin=recipient.origin,
        last_attempt=told.at,
        retry_until=told.until,
    )
