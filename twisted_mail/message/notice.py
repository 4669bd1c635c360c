"""What a delivery status notification tells, as values; who is to be told, and how much comes back (RFC 3461).

Addresses are written as `str(Address)`, original recipients as `xtext.parse_orcpt` gives them, times as seconds since
1970. Texts may be anything a peer said: `dsn` makes them harmless.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["DEFAULT_LIMIT", "Action", "Notice", "Recipient", "notified", "returns_whole"]

DEFAULT_LIMIT: Final = 50_000
"""Octets of a message that is returned whole, as Postfix has it (``bounce_size_limit``)."""


class Action(enum.Enum):
    """RFC 3464 section 2.3.3, in the order in which a person wants to read of them."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


@dataclass(frozen=True, slots=True)
class Recipient:
    """What became of one recipient.

    `code`, `enhanced` and `text` are the reply (``550``, ``"5.1.1"``, ``"no such user"``) when a peer `said` so; else
    they are our own, `code` is not shown. `host` and `ip` are the peer's, "" when there was none.
    `origin`: the local address that led to `address`, which the sender may not know; "" when he wrote it himself.
    """

    address: str
    action: Action
    enhanced: str = ""
    text: str = ""
    code: int = 0
    said: bool = False
    host: str = ""
    ip: str = ""
    orcpt: str = ""
    origin: str = ""
    last_attempt: float | None = None
    retry_until: float | None = None

    @property
    def status(self) -> str:
        """The Status field: `enhanced` where it fits, or the class of `code` or of the action and no more."""
        classes = _CLASSES[self.action]
        # RFC 3463 section 2
        if _STATUS.fullmatch(self.enhanced) and self.enhanced[0] in classes:
            return self.enhanced
        first = str(self.code)[:1]
        return f"{first if first in classes else classes[0]}.0.0"

    @property
    def diagnostic(self) -> str:
        """The peer's reply as it was said, codes first; or our own words."""
        if not self.said:
            return self.text
        parts = (str(self.code) if self.code else "", self.enhanced, self.text)
        return " ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Notice:
    """One notification, to the envelope sender `to` (never "": nobody is told of a message from ``<>``).

    `host` is this server's name: Reporting-MTA, and the domain of From and Message-ID; `unique` the left side of the
    Message-ID and the boundary's part that nobody can guess: letters, digits and dots.
    `original`: the message's header block, or the whole message, LF line ends, without what is the mailboxes' only;
    it is returned whole when `whole` and not over `limit` octets, else its header block.
    `smtputf8`: the message came under SMTPUTF8 (RFC 6531), so its sender can read what is in UTF-8 (RFC 6533).
    `queue_id` is the one in the log. `double`: what could not be delivered is itself a notice, and postmaster is told.
    """

    to: str
    host: str
    unique: str
    now: float
    recipients: Sequence[Recipient]
    arrived: float | None = None
    envid: str = ""
    queue_id: str = ""
    original: bytes = b""
    whole: bool = False
    limit: int = DEFAULT_LIMIT
    smtputf8: bool = False
    double: bool = False


def notified(notify: str, action: Action) -> bool:
    """Whether the sender is to be told of `action`, by what he said in NOTIFY ("" when nothing)."""
    if not notify:
        # RFC 3461 section 4.1: without it failures, and as the field does, delays
        return action in (Action.FAILED, Action.DELAYED)
    return _WISHES[action] in notify.upper().replace(" ", "").split(",")


def returns_whole(ret: str, actions: Iterable[Action]) -> bool:
    """Whether the whole message comes back, by what its sender said in RET ("" when nothing).

    Without RET it does, so that nobody's words are lost, as Postfix has it; `Notice.limit` holds in any case.
    """
    # RFC 3461 section 4.3: only for a failure
    return ret.upper() != "HDRS" and Action.FAILED in actions


_STATUS: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}", re.ASCII)

# What was tried for days and given up failed with the 4.x.x of its last try, or with 4.4.7 (RFC 3463 section 3.5)
_CLASSES: Final = {
    Action.FAILED: "54",
    Action.DELAYED: "4",
    Action.DELIVERED: "2",
    Action.RELAYED: "2",
    Action.EXPANDED: "2",
}

_WISHES: Final = {
    Action.FAILED: "FAILURE",
    Action.DELAYED: "DELAY",
    Action.DELIVERED: "SUCCESS",
    Action.RELAYED: "SUCCESS",
    Action.EXPANDED: "SUCCESS",
}
