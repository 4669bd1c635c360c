"""Changes of the queue by hand: which recipients a command means, and the journal records that say so.

Everything goes through the journal (`MailStore.change`), beside a running server or without one, in records of at most
a page; what the command was interrupted in is whole. Each change leaves an attempt that says "by hand".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

from ..config import Config
from ..site import make_store
from ..storage.queued import Attempt, Change, State, Verdict
from ..storage.spool_view import Filter, Listed, RecipientStory, Story, View
from ..world import World

__all__ = ["BOUNCE", "HOLD", "RELEASE", "REMOVE", "RETRY", "Done", "Verb", "change"]

PAGE: Final = 500
"""Recipients in one record."""
_NAMED: Final = 3
_OPEN: Final = (State.WAITING, State.ACTIVE, State.DEFERRED)


@dataclass(frozen=True, slots=True)
class Verb:
    """What is done to recipients in one of the states `of`; `to` None: the message's time is over instead."""

    name: str
    done: str
    of: tuple[State, ...]
    to: State | None


HOLD: Final = Verb("hold", "held", _OPEN, State.HELD)
RELEASE: Final = Verb("release", "released", (State.HELD,), State.WAITING)
# Not what is being sent: that would send it twice.
RETRY: Final = Verb("retry", "retried", (State.WAITING, State.DEFERRED), State.WAITING)
REMOVE: Final = Verb("remove", "removed", (*_OPEN, State.HELD), State.REMOVED)
BOUNCE: Final = Verb("bounce", "given up", (*_OPEN, State.HELD), None)


class Done(NamedTuple):
    """How much was done; `left`: messages that were not given up, as others get them too."""

    messages: int
    recipients: int
    left: int = 0


async def change(
    world: World, config: Config, verb: Verb, ids: Sequence[str], which: Filter | None
) -> Done:
    """Do `verb` to the messages `ids`, or to all recipients that `which` describes.

    Raises ValueError when one of `ids` is not there or has nothing to do it to; then nothing was done.
    """
    store = make_store(config, world)
    await store.start()
    try:
        view = store.queue.view
        now = world.now()
        if which is None:
            stories = list(_stories(view, verb, ids))
            for start in range(0, len(stories), PAGE):
                await store.change([_whole(verb, one, now) for one in stories[start:][:PAGE]])
            return Done(len(stories), sum(len(_meant(verb, one)) for one in stories))
        messages = recipients = left = 0
        after: tuple[int, int] | None = None
        last = ""
        while True:
            rows = view.page(_narrowed(which, verb), after, PAGE)
            changes = []
            for id_, group in groupby(rows, key=lambda row: row.id):
                mine = list(group)
                if verb.to is None:
                    if id_ == last:
                        continue  # it began on the page before
                    story = view.story(id_)
                    if story is None or not _all_match(story, which):
                        left += 1
                    else:
                        changes.append(_whole(verb, story, now))
                        recipients += len(_meant(verb, story))
                        messages += 1
                else:
                    changes.append(_some(verb, mine, now, named=bool(_partial(which))))
                    recipients += len(mine)
                    messages += id_ != last
                last = id_
            if changes:
                await store.change(changes)
            if len(rows) < PAGE:
                return Done(messages, recipients, left)
            after = (rows[-1].seq, rows[-1].number)
    finally:
        await store.stop()


def _stories(view: View, verb: Verb, ids: Sequence[str]) -> Iterator[Story]:
    """Raises ValueError, before anything is done."""
    problems = []
    found = []
    for id_ in dict.fromkeys(ids):
        story = view.story(id_)
        if story is None:
            problems.append(f"there is no message {id_} in the queue")
        elif not _meant(verb, story):
            states = sorted({one.state for one in story.recipients})
            names = ", ".join(state.name.lower() for state in states)
            problems.append(f"nothing of {id_} to {verb.name}: {names}")
        else:
            found.append(story)
    if problems:
        raise ValueError("; ".join(problems))
    yield from found


def _meant(verb: Verb, story: Story) -> list[RecipientStory]:
    return [one for one in story.recipients if one.state in verb.of]


def _whole(verb: Verb, story: Story, now: float) -> Change:
    """For all of a message."""
    attempt = Attempt(now, "", "", "", f"{verb.done} by hand")
    if verb.to is None:
        # What is held is not looked at, not even when its time is over.
        held = (one.number for one in story.recipients if one.state is State.HELD)
        verdicts = _verdicts(held, State.WAITING, now)
        return Change(story.message.id, verdicts, (attempt,), give_up=True)
    meant = (one.number for one in _meant(verb, story))
    return Change(story.message.id, _verdicts(meant, verb.to, now), (attempt,))


def _some(verb: Verb, rows: Sequence[Listed], now: float, *, named: bool) -> Change:
    """For some recipients of a message."""
    assert verb.to is not None
    text = f"{verb.done} by hand"
    if named:
        names = ", ".join(row.recipient for row in rows[:_NAMED])
        text += f": {names}" if len(rows) <= _NAMED else f": {names} and {len(rows) - _NAMED} more"
    verdicts = _verdicts((row.number for row in rows), verb.to, now)
    return Change(rows[0].id, verdicts, (Attempt(now, "", "", "", text),))


def _verdicts(numbers: Iterable[int], to: State, now: float) -> tuple[Verdict, ...]:
    return tuple(Verdict(number, to, now, 0) for number in numbers)


def _narrowed(which: Filter, verb: Verb) -> Filter:
    states = tuple(state for state in verb.of if not which.states or state in which.states)
    return Filter(which.domain, which.sender, which.recipient, states)


def _partial(which: Filter) -> bool:
    """Whether it may mean some recipients of a message and not others."""
    return which.domain is not None or which.recipient is not None


def _all_match(story: Story, which: Filter) -> bool:
    """Whether what is left of the message is all meant."""
    for one in story.recipients:
        if one.state.final:
            continue
        address = story.message.recipients[one.number].address.lower()
        if which.domain is not None and not address.endswith(f"@{which.domain.lower()}"):
            return False
        if which.recipient is not None and which.recipient.lower() not in address:
            return False
    return True
