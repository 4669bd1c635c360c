"""THREAD: REFERENCES and ORDEREDSUBJECT (RFC 5256 section 3), as IMAP writes the answer, in slices.

    threading = ALGORITHMS["REFERENCES"]()
    for _ in threading.add(messages): ...   # as often as there are some
    for _ in threading.steps(): ...
    answer = b"".join(threading.written())

`add` and `steps` yield where others may have a turn, after a few ms; `written` gives pieces of some KiB. Nothing here
recurses: chains may be as long as the mailbox. Time is nearly linear in the messages and their references, but for
sorting. Messages and what is known of them are numbers in arrays: objects would be looked through by the garbage
collector, all at once and again and again.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from .ordering import sorted_in_turns

__all__ = ["ALGORITHMS", "Threaded", "Threading", "ordered_subject", "references"]

MAX_CUTS: Final = 200
"""Links that are undone since a message says something else of itself than another one said of it."""
STEP: Final = 2500
"""What is done in one go: so many messages, or references, are looked at."""
_SHARDS: Final = 64
_NONE: Final = -1


class Threaded(NamedTuple):
    """A message to be threaded: `number` as the answer names it (sequence number or UID), in ascending order.

    `sent`: seconds UTC (RFC 5256 section 2.2: of the Date, or of the arrival). `subject`: the folded base subject.
    `references` and `message_id` as `digest` has them.
    """

    number: int
    sent: int
    subject: str
    reply: bool
    message_id: str
    references: Sequence[str]


class Threading(Protocol):
    """One way of threading, used once."""

    def add(self, messages: Iterable[Threaded]) -> Iterator[None]:
        """More messages, behind those before."""

    def steps(self) -> Iterator[None]:
        """Find the threads. Once, when all are there."""

    def written(self) -> Iterator[bytes]:
        """The threads, each in parentheses, one behind the other, in pieces; nothing without messages."""


class _Table:
    """Texts and their numbers. In parts: a table that grows is copied in one go."""

    def __init__(self) -> None:
        self._parts: list[dict[str, int]] = [{} for _ in range(_SHARDS)]

    def number(self, text: str, new: int) -> int:
        """Its number; `new`, when it had none."""
        return self._parts[hash(text) % _SHARDS].setdefault(text, new)


class _Messages:
    """What both ways keep of messages, in parallel arrays. `subjects` are numbers; 0 is the empty one."""

    def __init__(self) -> None:
        self.numbers = array("Q")
        self.sents = array("q")
        self.subjects = array("i")
        self.subject_count = 1
        self._table = _Table()

    def keep(self, message: Threaded) -> None:
        subject = 0
        if message.subject:
            subject = self._table.number(message.subject, self.subject_count)
            self.subject_count += subject == self.subject_count
        self.numbers.append(message.number)
        self.sents.append(message.sent)
        self.subjects.append(subject)

    def by_date(self) -> Generator[None, None, list[int]]:
        """Indexes. Equal dates stay in the order of numbers."""
        return sorted_in_turns(range(len(self.numbers)), self.sents.__getitem__)


class _OrderedSubject:
    def __init__(self) -> None:
        self._messages = _Messages()
        self._groups = array("i")
        self._next = array("i")

    def add(self, messages: Iterable[Threaded]) -> Iterator[None]:
        for at, message in enumerate(messages, 1):
            self._messages.keep(message)
            if not at % STEP:
                yield

    def steps(self) -> Iterator[None]:
        subjects = self._messages.subjects
        self._next = following = _empty(len(subjects))
        last = _empty(self._messages.subject_count)
        order = yield from self._messages.by_date()
        for done, at in enumerate(order, 1):
            subject = subjects[at]
            before = last[subject]
            if before < 0:
                # RFC 5256 section 3: groups come in the order of their first messages
                self._groups.append(at)
            else:
                following[before] = at
            last[subject] = at
            if not done % STEP:
                yield

    def written(self) -> Iterator[bytes]:
        numbers, following = self._messages.numbers, self._next
        out: list[str] = []
        for first in self._groups:
            out.append(f"({numbers[first]}")
            at = following[first]
            # RFC 5256 section 3: the messages after the first are its children
            many = at >= 0 and following[at] >= 0
            form = "(%d)" if many else "%d"
            if at >= 0:
                out.append(" ")
            while at >= 0:
                out.append(form % numbers[at])
                at = following[at]
                if len(out) >= STEP:
                    yield _gathered(out)
            out.append(")")
        yield _gathered(out)


class _References:
    """Steps 1 and 2 are `add`. A *node* is a message id that has been seen, or a message; `_message` says which message
    it is; a *dummy* is none.

    A link is asked for whether it makes a loop by looking for the top of the parent's tree. `_top` is a node above one
    in its tree, itself at the top, known since so many `_cuts`; the ways up are kept short, until a link is cut: then
    all are looked for anew. So there are MAX_CUTS; further links stay.
    """

    def __init__(self) -> None:
        self._messages = _Messages()
        self._replies = bytearray()
        self._nodes = array("i")
        """Of each message."""
        self._known = _Table()
        self._message = array("i")
        self._parent = array("i")
        self._top = array("i")
        self._since = array("B")
        self._cuts = 0
        self._roots = array("i")
        self._child = array("i")
        self._next = array("i")

    def add(self, messages: Iterable[Threaded]) -> Iterator[None]:
        parent, top, since = self._parent, self._top, self._since
        done = 0
        for message in messages:
            chain = [self._named(reference) for reference in message.references]
            chain.append(self._node(message))
            done += len(chain)
            left = len(chain)
            above = _NONE
            for below in chain:
                left -= 1
                if not left and parent[below] >= 0 and parent[below] != above:
                    # Step 1.B: what others said of its parent gives way
                    if self._cuts >= MAX_CUTS:
                        break
                    self._cuts += 1
                    parent[below] = _NONE
                # Step 1.A: existing links are not changed
                if above >= 0 and parent[below] < 0:
                    passed = []
                    at = above
                    while True:
                        if since[at] != self._cuts:
                            since[at] = self._cuts
                            top[at] = at if parent[at] < 0 else parent[at]
                        if top[at] == at:
                            break
                        passed.append(at)
                        at = top[at]
                        if not len(passed) % STEP:
                            yield
                    if len(passed) > 1:
                        yield from _all_to(top, passed, at)
                    if at != below:
                        parent[below] = top[below] = above
                        since[below] = self._cuts
                above = below
            if done >= STEP:
                done = 0
                yield

    def _node(self, message: Threaded) -> int:
        node = self._named(message.message_id) if message.message_id else self._new()
        if self._message[node] >= 0:
            # RFC 5256 section 3: a second one with this id is given one of its own
            node = self._new()
        self._message[node] = len(self._nodes)
        self._nodes.append(node)
        self._replies.append(message.reply)
        self._messages.keep(message)
        return node

    def _named(self, id_: str) -> int:
        new = len(self._parent)
        node = self._known.number(id_, new)
        return self._new() if node == new else node

    def _new(self) -> int:
        node = len(self._parent)
        self._parent.append(_NONE)
        self._message.append(_NONE)
        self._top.append(node)
        self._since.append(0)
        return node

    def steps(self) -> Iterator[None]:
        order = yield from self._messages.by_date()
        above, dummies = yield from self._pruned()
        first, roots = yield from self._sorted_roots(order, above, dummies)
        merged = yield from self._by_subject(above, first, roots)
        yield from self._linked(order, above, merged)

    # Numbers of messages from here on; those behind are dummies at the root

    def _pruned(self) -> Generator[None, None, tuple[array[int], int]]:
        """Step 3: what is above each message; other dummies are left out. And how many are left."""
        message, parent = self._message, self._parent
        count = len(self._nodes)
        above = _empty(count)
        known = _empty(len(parent))
        dummies = done = 0
        for at, node in enumerate(self._nodes):
            node = parent[node]
            if node >= 0:
                passed = []
                while message[node] < 0 and known[node] < 0 and parent[node] >= 0:
                    passed.append(node)
                    node = parent[node]
                    if not len(passed) % STEP:
                        yield
                found = message[node]
                if found < 0:
                    found = known[node]
                if found < 0:
                    found = known[node] = count + dummies
                    dummies += 1
                done += len(passed)
                yield from _all_to(known, passed, found)
                above[at] = found
            done += 1
            if done >= STEP:
                done = 0
                yield
        return above, dummies

    def _sorted_roots(
        self, order: Sequence[int], above: array[int], dummies: int
    ) -> Generator[None, None, tuple[array[int], array[int]]]:
        """Step 4, and the end of step 3: the roots by date, and each dummy's first child. One with a single child
        goes."""
        count = len(above)
        children = array("i", bytes(4 * dummies))
        for done, up in enumerate(above, 1):
            if up >= count:
                children[up - count] += 1
            if not done % STEP:
                yield
        first = _empty(dummies)
        roots = array("i")
        for done, at in enumerate(order, 1):
            up = above[at]
            if up >= count and children[up - count] == 1:
                up = above[at] = _NONE
            if up < 0:
                roots.append(at)
            elif up >= count and first[up - count] < 0:
                # RFC 5256 section 3, step 4: a dummy is dated by its first child
                first[up - count] = at
                roots.append(up)
            if not done % STEP:
                yield
        return first, roots

    def _by_subject(
        self, above: array[int], first: array[int], roots: array[int]
    ) -> Generator[None, None, array[int]]:
        """Step 5: threads with one base subject become one. Of each dummy, the one that it has gone into."""
        count = len(above)
        subjects, replies = self._messages.subjects, self._replies
        table = _empty(self._messages.subject_count)
        for done, root in enumerate(roots, 1):
            own = root if root < count else first[root - count]
            subject = subjects[own]
            other = table[subject]
            if subject and (
                other < 0
                or (root >= count and other < count)
                or (other < count and replies[other] and not replies[own])
            ):
                table[subject] = root
            if not done % STEP:
                yield
        merged = _empty(len(first))
        for done, root in enumerate(roots, 1):
            subject = subjects[root if root < count else first[root - count]]
            other = table[subject]
            if subject and other != root:
                if other >= count and root >= count:
                    merged[root - count] = other
                elif other >= count or (replies[root] and not replies[other]):
                    above[root] = other
                else:
                    # Two messages: where a dummy has the subject, one is in the table
                    above[root] = above[other] = table[subject] = count + len(merged)
                    merged.append(_NONE)
            if not done % STEP:
                yield
        return merged

    def _linked(
        self, order: Sequence[int], above: array[int], merged: array[int]
    ) -> Iterator[None]:
        """Step 6: as all come by date, so do roots and children."""
        count = len(above)
        size = count + len(merged)
        self._child, self._next = child, following = _empty(size), _empty(size)
        last = _empty(size)
        for done, at in enumerate(order, 1):
            up = above[at]
            if up >= count and merged[up - count] >= 0:
                up = merged[up - count]
            if up < 0:
                self._roots.append(at)
            elif last[up] < 0:
                child[up] = at
                if up >= count:
                    self._roots.append(up)
            else:
                following[last[up]] = at
            if up >= 0:
                last[up] = at
            if not done % STEP:
                yield

    def written(self) -> Iterator[bytes]:
        # RFC 5256 section 4: thread-list
        numbers, child, following = self._messages.numbers, self._child, self._next
        count = len(numbers)
        out: list[str] = []
        for root in self._roots:
            stack = [root]
            while stack:
                at = stack.pop()
                if at < 0:
                    out.append(")")
                    continue
                if following[at] >= 0:
                    stack.append(following[at])
                out.append("(")
                if at < count:
                    out.append(str(numbers[at]))
                while child[at] >= 0 and following[child[at]] < 0:
                    at = child[at]
                    out.append(f" {numbers[at]}")
                    if len(out) >= STEP:
                        yield _gathered(out)
                if child[at] < 0:
                    out.append(")")
                else:
                    if at < count:
                        out.append(" ")
                    stack += (_NONE, child[at])
                if len(out) >= STEP:
                    yield _gathered(out)
        yield _gathered(out)


def _empty(size: int) -> array[int]:
    return array("i", (_NONE,)) * size


def _all_to(where: array[int], passed: list[int], to: int) -> Iterator[None]:
    for done, at in enumerate(passed, 1):
        where[at] = to
        if not done % STEP:
            yield


def _gathered(out: list[str]) -> bytes:
    piece = "".join(out).encode("ascii")
    out.clear()
    return piece


ALGORITHMS: Final[dict[str, type[Threading]]] = {
    "ORDEREDSUBJECT": _OrderedSubject,
    "REFERENCES": _References,
}
"""By their names in CAPABILITY."""


def ordered_subject(messages: Iterable[Threaded]) -> bytes:
    """All at once."""
    return _at_once(_OrderedSubject(), messages)


def references(messages: Iterable[Threaded]) -> bytes:
    """All at once."""
    return _at_once(_References(), messages)


def _at_once(threading: Threading, messages: Iterable[Threaded]) -> bytes:
    for _ in threading.add(messages):
        pass
    for _ in threading.steps():
        pass
    return b"".join(threading.written())
