"""Quotas: what an account may hold, asked before a record is committed. After it the answer is always yes.

A mailbox that is full is refused at RCPT, where it keeps nothing from the other recipients. At the end of data, a
message for one mailbox is refused if it would not fit by then; one for several is taken: each of them had room at its
RCPT, and to refuse it would refuse it to those who still have. What goes over the limit so is bounded by what was
under way at that moment. What IMAP puts in is refused exactly. Notices and mail for postmaster are not asked about.

To count what an account holds costs 12 ms for 100 000 messages. It is done when it is unknown, not known for `FRESH`
seconds, or near the limit; else what it was then, and what this process has added since, is good enough.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..status import MailError
from .errors import mailbox_full, too_large_for_mailbox, too_many_for_mailbox

__all__ = ["Asked", "Limits", "Quota", "Usage", "refused"]

FRESH = 10.0
"""Seconds. Other processes may add something meanwhile."""
NEAR = 0.9
"""Of a limit: above it, what is there is counted each time."""
MAX_KNOWN = 10_000


class Limits(NamedTuple):
    """Octets as stored, and messages; None: no limit."""

    storage: int | None = None
    messages: int | None = None

    def __bool__(self) -> bool:
        return self.storage is not None or self.messages is not None


class Quota(NamedTuple):
    """What an entry is to be asked. `limits`: of those of its accounts that have some.

    `lenient`: it is taken all the same. `octets` and `messages`: what it adds to each of the accounts.
    """

    limits: Mapping[str, Limits]
    octets: int
    messages: int
    lenient: bool = False


def refused(limits: Limits, used: tuple[int, int], octets: int, messages: int) -> MailError | None:
    """Why an account that holds `used` (octets, messages) does not take so much more; None when it does.

    What makes it smaller is always taken.
    """
    for name, limit, there, more in (
        ("octets", limits.storage, used[0], octets),
        ("messages", limits.messages, used[1], messages),
    ):
        if limit is None or there + more <= limit or (more <= 0 and there > limit):
            continue
        cause = f"{there} {name} and {more} more are over its quota of {limit}"
        if more <= limit:
            return mailbox_full(cause)
        if name == "messages":
            return too_many_for_mailbox(more, limit, cause)
        return too_large_for_mailbox(cause)
    return None


class Usage:
    """What accounts hold. `of` counts it, and blocks: `count` and `Asked` are for threads."""

    def __init__(self, of: Callable[[str], tuple[int, int]], now: Callable[[], float]) -> None:
        self._of = of
        self._now = now
        self._known: OrderedDict[str, tuple[float, int, int]] = OrderedDict()

    def count(self, account: str) -> tuple[int, int]:
        """Octets and messages, exactly. Raises what `of` raises."""
        octets, messages = self._of(account)
        self._known[account] = (self._now(), octets, messages)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return octets, messages

    def has_room(self, account: str, limits: Limits, octets: int, messages: int) -> bool:
        """Whether so much more is certainly no question. Never blocks."""
        known = self._known.get(account)
        if known is None or not 0 <= self._now() - known[0] < FRESH:
            return False
        return (limits.storage is None or known[1] + octets <= NEAR * limits.storage) and (
            limits.messages is None or known[2] + messages <= NEAR * limits.messages
        )

    def add(self, account: str, octets: int, messages: int) -> None:
        """So much more is in it now."""
        known = self._known.get(account)
        if known is not None:
            self._known[account] = (known[0], known[1] + octets, known[2] + messages)


class Asked:
    """The accounts of one batch: what was counted for it, and what it adds."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._counted: dict[str, tuple[int, int]] = {}
        self._added: dict[str, tuple[int, int]] = {}

    def take(self, quota: Quota) -> MailError | None:
        """Count what an entry adds, or say why it is not taken. Raises what `Usage.count` raises."""
        octets, messages = quota.octets, quota.messages
        for account, limits in quota.limits.items():
            if account not in self._counted:
                if self._usage.has_room(account, limits, octets, messages):
                    continue
                self._counted[account] = self._usage.count(account)
            error = refused(limits, self._with_added(account), octets, messages)
            if error is not None and not quota.lenient:
                return error
        for account in quota.limits:
            self._usage.add(account, octets, messages)
            before = self._added.get(account, (0, 0))
            self._added[account] = before[0] + octets, before[1] + messages
        return None

    def _with_added(self, account: str) -> tuple[int, int]:
        (octets, messages), added = self._counted[account], self._added.get(account, (0, 0))
        return octets + added[0], messages + added[1]
