"""The queue's values as storage keeps them: a message for elsewhere, its recipients, and what happens to them.

They stand in the journal's records as JSON (`to_json`, `from_json`) and in the spool's rows.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = [
    "Attempt",
    "Backoff",
    "Change",
    "Options",
    "QueuedMessage",
    "QueuedRecipient",
    "State",
    "Taken",
    "Turn",
    "Verdict",
]


class State(enum.IntEnum):
    """Of a recipient. The numbers are stored."""

    WAITING = 0
    """Not tried yet, or again due at once (a start after an unclean stop)."""
    ACTIVE = 1
    """In the memory of the process that runs the queue, perhaps being sent."""
    DEFERRED = 2
    """Tried, and to be tried again when it is due."""
    HELD = 3
    """Not tried until somebody releases it."""
    DELIVERED = 4
    """Over: the next server, or the local mailbox, has it."""
    BOUNCED = 5
    """Over: given up, and its sender was told if he wanted to be."""
    REMOVED = 6
    """Over: taken out by hand, nobody was told."""

    @property
    def final(self) -> bool:
        """Nothing changes it any more."""
        return self >= State.DELIVERED


class Options(NamedTuple):
    """What holds for the whole message on every hop.

    `envid` (xtext decoded) and `ret` (``"FULL"``, ``"HDRS"`` or "") of RFC 3461; `eight_bit`: BODY=8BITMIME or content
    with octets over 127 (RFC 6152); `smtputf8` (RFC 6531); `requiretls` (RFC 8689).
    """

    envid: str = ""
    ret: str = ""
    eight_bit: bool = False
    smtputf8: bool = False
    requiretls: bool = False


_PLAIN = Options()


class QueuedRecipient(NamedTuple):
    """One recipient of a queued message.

    `address` is the forward-path as `str(Address)`; `hop` the key of the destination (`delivery.routes`).
    `notify`: "" when nothing was said, else ``"NEVER"`` or a comma list of SUCCESS, FAILURE, DELAY; `orcpt`: as
    ``"rfc822;alice@example.org"``, xtext decoded (RFC 3461 sections 4.1, 4.2).
    `origin` is the local address that led there by an alias, "" when the sender wrote the address himself;
    `mail_from` the envelope sender to use when it is not the message's own (SRS), None when it is.
    """

    address: str
    hop: str
    notify: str = ""
    orcpt: str = ""
    origin: str = ""
    mail_from: str | None = None


@dataclass(frozen=True, slots=True, weakref_slot=True)
class QueuedMessage:
    """One message in the queue. `id` is the one in the 250 reply and in the log; `sender` is "" for ``<>``.

    `skip`: octets at the start of the stored file that are the mailboxes' only (Return-Path, Delivered-To) and are
    not sent. `size` and `wire`: octets as stored and with CRLF, both with what is skipped. Times are seconds since
    1970; `warn` is when its sender is told of a delay, None for never. `held`: why nobody tries it before
    somebody lets it go, "" for not; known when it is accepted, and kept as the text of its first attempt.
    """

    id: str
    sender: str
    recipients: tuple[QueuedRecipient, ...]
    arrived: float
    expires: float
    warn: float | None = None
    options: Options = _PLAIN
    skip: int = 0
    size: int = 0
    wire: int = 0
    held: str = ""

    def to_json(self) -> dict[str, Any]:
        """What a journal record holds: recipients and options are lists there."""
        stored = {
            "id": self.id,
            "sender": self.sender,
            "recipients": self.recipients,
            "arrived": self.arrived,
            "expires": self.expires,
            "warn": self.warn,
            "options": self.options,
            "skip": self.skip,
            "size": self.size,
            "wire": self.wire,
        }
        return {**stored, "held": self.held} if self.held else stored

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> QueuedMessage:
        """What `to_json` made."""
        return cls(
            **{
                **stored,
                "recipients": tuple(QueuedRecipient(*one) for one in stored["recipients"]),
                "options": Options(*stored["options"]),
                "held": _held(stored),
            }
        )


def _held(stored: dict[str, Any]) -> str:
    why = stored.get("held", "")
    # A journal of before the reason was kept
    return "a filter wants it so" if why is True else str(why)


class Attempt(NamedTuple):
    """One try, or a change by hand, as `mailctl queue show` tells it.

    `at`: seconds since 1970; `host` and `address`: whom we talked to ("" when nobody); `tls`: such as ``TLSv1.3
    TLS_AES_256_GCM_SHA384 verified`` or ""; `text`: the peer's reply, or what happened, in one line.
    """

    at: float
    host: str
    address: str
    tls: str
    text: str


class Verdict(NamedTuple):
    """What becomes of one recipient: the `number`th of the message, from 0.

    `due`: when it is to be tried again (WAITING and DEFERRED). `attempt` is an index into `Change.attempts`, -1: none
    of them.
    """

    number: int
    state: State
    due: float = 0.0
    attempt: int = -1


@dataclass(frozen=True, slots=True)
class Change:
    """One step in the life of a queued message, committed whole: an outcome, or what somebody did by hand.

    A recipient that is over stays so, whatever a later change says; DEFERRED does not undo HELD; WAITING, which is
    somebody's wish, lifts the back-off of its destination. `warned`: the sender has been told of the delay.
    `give_up`: the message's time is over now (``mailctl queue bounce``).
    """

    message: str
    verdicts: tuple[Verdict, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    warned: bool = False
    give_up: bool = False

    def to_json(self) -> list[Any]:
        """What a journal record holds."""
        return [self.message, self.verdicts, self.attempts, self.warned, self.give_up]

    @classmethod
    def from_json(cls, stored: Sequence[Any]) -> Change:
        """What `to_json` made."""
        message, verdicts, attempts, warned, give_up = stored
        return cls(
            message,
            tuple(
                Verdict(number, State(state), due, which) for number, state, due, which in verdicts
            ),
            tuple(Attempt(*one) for one in attempts),
            warned,
            give_up,
        )


class Taken(NamedTuple):
    """A recipient as the one who runs the queue sees it: the `number`th of `message`.

    `tries` so far, `last` of them; `expires`: when the message is given up (0: now, by hand).
    """

    message: QueuedMessage
    number: int
    tries: int = 0
    last: Attempt | None = None
    expires: float = 0.0


class Backoff(NamedTuple):
    """What is known of a destination that fails: not before `until`, after `failures` in a row, since when, and why."""

    hop: str
    until: float
    failures: int
    since: float
    text: str


class Turn(NamedTuple):
    """What `Spool.take` gives. `wake`: when to ask again at the latest, None: when something is accepted."""

    taken: Sequence[Taken]
    wake: float | None
