"""From what became of recipients to the change that is committed, and to what their sender is told. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..message.notice import Action
from ..status import MailError
from ..storage.queued import Attempt, Change, QueuedMessage, State, Taken, Verdict
from .bounce import Told, expired_outcome, tellable
from .interfaces import DestinationError, Outcome, Result
from .schedule import Settings, next_try

__all__ = [
    "Judged",
    "attempt_of",
    "error_outcomes",
    "judge",
    "judge_expired",
    "judge_here",
    "unreadable_outcomes",
]


class Judged(NamedTuple):
    """`counts`: delivered, deferred, bounced. `due`: the earliest next try, None for none."""

    change: Change
    told: Sequence[Told]
    counts: tuple[int, int, int]
    due: float | None


def attempt_of(outcome: Outcome, at: float) -> Attempt:
    """As ``mailctl queue show`` tells it."""
    text = outcome.text
    if outcome.said and outcome.code:
        text = (
            f"{outcome.code} {outcome.enhanced} {text}"
            if outcome.enhanced
            else f"{outcome.code} {text}"
        )
    return Attempt(at, outcome.host, outcome.address, outcome.tls, text)


def error_outcomes(error: DestinationError, taken: Sequence[Taken]) -> list[Outcome]:
    """What a destination's error is for each recipient."""
    result = Result.FAILED if error.permanent else Result.DEFERRED
    return [
        Outcome(
            one.number,
            result,
            error.code,
            error.enhanced,
            error.text,
            error.host,
            error.address,
            error.tls,
            error.said,
        )
        for one in taken
    ]


def unreadable_outcomes(error: MailError, taken: Sequence[Taken]) -> list[Outcome]:
    """What it is for each recipient that the content cannot be had.

    What is lost (5xx) is not kept for days: it fails when the try before has found the same. The first does not count:
    a message that is removed by hand just now has no content either, and its sender is told nothing.
    """
    found = []
    for one in taken:
        lost = not error.temporary and one.last is not None and one.last.text == error.text
        result, enhanced = (Result.FAILED, error.enhanced) if lost else (Result.DEFERRED, "4.3.0")
        found.append(Outcome(one.number, result, 0, enhanced, error.text, said=False))
    return found


def judge(
    settings: Settings,
    now: float,
    message: QueuedMessage,
    taken: Sequence[Taken],
    outcomes: Sequence[Outcome],
    random: Callable[[], float],
    until: float = 0.0,
) -> Judged:
    """The change for one transaction; `outcomes` are in the order of `taken`. Nothing is due before `until`."""
    if len(taken) == 1 and outcomes[0].result is Result.DELIVERED:
        # Most of all mail.
        over = (Verdict(taken[0].number, State.DELIVERED, 0.0, 0),)
        return Judged(
            Change(message.id, over, (attempt_of(outcomes[0], now),)), (), (1, 0, 0), None
        )
    verdicts: list[Verdict] = []
    attempts: dict[Attempt, int] = {}
    told: list[Told] = []
    delivered = deferred = bounced = 0
    first: float | None = None
    for one, outcome in zip(taken, outcomes, strict=True):
        attempt = attempt_of(outcome, now)
        index = attempts.setdefault(attempt, len(attempts))
        result = outcome.result
        due = 0.0
        if result is Result.DELIVERED:
            state = State.DELIVERED
            delivered += 1
        elif result is Result.RELAYED:
            state = State.DELIVERED
            delivered += 1
            # RFC 3461 section 5.2.2
            told.append(Told(Action.RELAYED, outcome, now))
        else:
            again = None
            if result is Result.DEFERRED:
                again = next_try(settings, now, one.tries + 1, one.expires, random())
            if again is None:
                state = State.BOUNCED
                bounced += 1
                told.append(Told(Action.FAILED, outcome, now))
            else:
                state = State.DEFERRED
                deferred += 1
                due = min(max(again, until), one.expires)
                first = due if first is None else min(first, due)
        verdicts.append(Verdict(one.number, state, due, index))
    change = Change(message.id, tuple(verdicts), tuple(attempts))
    if told:
        told = list(tellable(message, told))
    return Judged(change, told, (delivered, deferred, bounced), first)


def judge_expired(
    now: float, message: QueuedMessage, taken: Sequence[Taken], reason: str = ""
) -> Judged:
    """The change for recipients whose time is over without a try just now. `reason`: where no try left one."""
    told = []
    verdicts = []
    for one in taken:
        by_hand = "it was given up by hand" if not one.expires else ""
        outcome = expired_outcome(one.number, one.last, by_hand or reason)
        told.append(Told(Action.FAILED, outcome, one.last.at if one.last else None))
        verdicts.append(Verdict(one.number, State.BOUNCED, 0.0, 0))
    text = "given up by hand" if all(not one.expires for one in taken) else "given up: too old"
    change = Change(message.id, tuple(verdicts), (Attempt(now, "", "", "", text),))
    return Judged(change, tellable(message, told), (0, 0, len(verdicts)), None)


def judge_here(now: float, message: QueuedMessage, taken: Sequence[Taken], hostname: str) -> Judged:
    """The change for recipients whose mail lies in a mailbox here, and whose sender is owed the news of it."""
    outcomes = [
        Outcome(
            one.number,
            Result.DELIVERED,
            0,
            "2.1.5",
            "delivered to its mailbox",
            hostname,
            said=False,
        )
        for one in taken
    ]
    told = [Told(Action.DELIVERED, outcome, now) for outcome in outcomes]
    change = Change(
        message.id,
        tuple(Verdict(one.number, State.DELIVERED, 0.0, 0) for one in taken),
        (attempt_of(outcomes[0], now),),
    )
    return Judged(change, tellable(message, told), (len(taken), 0, 0), None)
