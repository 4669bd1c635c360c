"""Quotas: what an account may hold, asked before a record is committed. After it the answer is always yes.

A mailbox that is full is refused at RCPT, where it keeps nothing from the other recipients. At the end of data, a
message for one mailbox is refused if it would not fit by then; one for several is taken: each of them had room at its
RCPT, and to refuse it would refuse it to those who still have. What goes over the limit so is bounded by what was
under way at that moment. What IMAP puts in is refused exactly. Notices and mail for postmaster are not asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..status import MailError
from .errors import mailbox_full, too_large_for_mailbox

__all__ = ["Limits", "Quota", "Usage", "refused"]


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
        cause = f"{there} and {more} {name} are over {limit}"
        return too_large_for_mailbox(cause) if more > limit else mailbox_full(cause)
    return None


class Usage:
    """What accounts hold, looked up once for a batch, and what the batch adds."""

    def __init__(self, of: Callable[[str], tuple[int, int]]) -> None:
        self._of = of
        self._known: dict[str, tuple[int, int]] = {}

    def take(self, quota: Quota) -> MailError | None:
        """Count what an entry adds, or say why it is not taken. Raises what `of` raises."""
        for account, limits in quota.limits.items():
            if account not in self._known:
                self._known[account] = self._of(account)
            error = refused(limits, self._known[account], quota.octets, quota.messages)
            if error is not None and not quota.lenient:
                return error
        for account in quota.limits:
            octets, messages = self._known[account]
            self._known[account] = octets + quota.octets, messages + quota.messages
        return None
