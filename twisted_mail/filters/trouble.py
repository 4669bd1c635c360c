"""What is said in a filter's place when it cannot be asked, answers nonsense, or has said its last word."""

from __future__ import annotations

from typing import Final, Literal

from ..status import Reply
from .interfaces import Action, Opinion

__all__ = ["OnFailure", "failure", "rest"]

OnFailure = Literal["accept", "tempfail", "reject"]
"""accept: as if the filter were not there. What the words mean in Postfix's ``milter_default_action``."""

_TEMPFAIL: Final = Reply(451, "4.7.1", ("Service unavailable - try again later",))
_REJECT: Final = Reply(550, "5.7.1", ("Service unavailable",))


def failure(how: OnFailure, why: str) -> Opinion:
    """The opinion in place of one that cannot be had. `why` is for logs and stories only."""
    if how == "accept":
        return Opinion(reason=why, failed=True)
    if how == "reject":
        return Opinion(action=Action.REJECT, reply=_REJECT, reason=why, failed=True)
    return Opinion(action=Action.TEMPFAIL, reply=_TEMPFAIL, reason=why, failed=True)


def rest(said: Opinion | None) -> Opinion:
    """What holds for the rest of a message, of which a filter has `said` its last word: it is not asked any more."""
    if said is None:
        return _UNASKED
    if said.action.final:
        return said
    return _FAILED if said.failed else _ACCEPTED


_UNASKED: Final = Opinion(asked=False)
_FAILED: Final = Opinion(asked=False, reason="it failed before")
_ACCEPTED: Final = Opinion(asked=False, reason="it has accepted it before")
