"""Replies → outcomes: what the queue does with each recipient. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ..queue.interfaces import Outcome, Result
from ..smtp.client.interfaces import PeerReply, SessionError
from ..storage.queued import QueuedRecipient

__all__ = ["Peer", "of_loss", "of_refusal", "of_reply"]

# RFC 3463 section 2
_ENHANCED: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")


class Peer(NamedTuple):
    """Whom we talk to, as `storage.queued.Attempt` tells it."""

    host: str
    address: str
    tls: str = ""
    lmtp: bool = False


def of_reply(
    number: int, recipient: QueuedRecipient, reply: PeerReply, peer: Peer, *, dsn: bool
) -> Outcome:
    """`dsn`: whether the peer knows DSN, and so tells the sender of success itself."""
    kind = reply.code // 100
    result = Result.DEFERRED  # RFC 5321 section 4.2.1; so is what nobody understands
    if kind == 2:
        result = Result.DELIVERED
        if not dsn and "SUCCESS" in recipient.notify:
            result = Result.RELAYED  # RFC 3461 section 5.2.2
    elif kind == 5 and not _too_many(reply):
        result = Result.FAILED
    return Outcome(
        number,
        result,
        reply.code,
        _enhanced(reply, result),
        reply.text,
        peer.host,
        peer.address,
        peer.tls,
        reply.said,
    )


def of_loss(number: int, error: SessionError, peer: Peer) -> Outcome:
    """The connection is over before the last word: nobody knows, so it is tried again."""
    reply = error.reply
    if reply is None:
        return Outcome(number, Result.DEFERRED, 0, "4.4.2", error.text, *peer[:3], said=False)
    enhanced = _enhanced(reply, Result.DEFERRED)
    return Outcome(
        number, Result.DEFERRED, reply.code, enhanced, reply.text, *peer[:3], said=reply.said
    )


def of_refusal(number: int, code: int, enhanced: str, text: str, peer: Peer) -> Outcome:
    """We do not send it there."""
    return Outcome(number, Result.FAILED, code, enhanced, text, *peer[:3], said=False)


def _too_many(reply: PeerReply) -> bool:
    # RFC 5321 section 4.5.3.1.10: old servers say 552 where 452 is meant
    return reply.code == 552 and (
        reply.enhanced[1:] == ".5.3" or "too many recipients" in reply.text.lower()
    )


def _enhanced(reply: PeerReply, result: Result) -> str:
    """The peer's, if it fits: the reply code decides what happens, and a bounce must not contradict itself."""
    digit = {Result.DEFERRED: "4", Result.FAILED: "5"}.get(result, "2")
    if _ENHANCED.fullmatch(reply.enhanced):
        return digit + reply.enhanced[1:]
    return f"{digit}.0.0"
