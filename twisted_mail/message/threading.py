"""THREAD: REFERENCES and ORDEREDSUBJECT (RFC 5256 section 3), over small tuples, as IMAP writes the answer.

Nothing here recurses: chains may be as long as the mailbox. Time is nearly linear in the messages and their
references, but for sorting.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

__all__ = ["Threaded", "ordered_subject", "references"]

MAX_CUTS: Final = 200
"""Links that are undone since a message says something else of itself than another one said of it."""


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


class _Node:
    """`top`: a node above it in its tree, itself at the top; known since so many `cuts`."""

    __slots__ = ("children", "cuts", "message", "parent", "top")

    def __init__(self) -> None:
        self.message: Threaded | None = None
        self.parent: _Node | None = None
        self.children: list[_Node] = []
        self.top: _Node = self
        self.cuts = 0


def ordered_subject(messages: Iterable[Threaded]) -> bytes:
    """The threads, each in parentheses, one behind the other; b"" without messages."""
    groups: dict[str, list[Threaded]] = {}
    for message in sorted(messages, key=_by_date):
        groups.setdefault(message.subject, []).append(message)
    # RFC 5256 section 3: groups come in the order of their first messages, which are the keys' now
    out = []
    for first, *rest in groups.values():
        if len(rest) > 1:
            out.append(
                b"(%d %b)" % (first.number, b"".join([b"(%d)" % one.number for one in rest]))
            )
        else:
            out.append(b"(%b)" % b" ".join([b"%d" % one.number for one in (first, *rest)]))
    return b"".join(out)


def references(messages: Iterable[Threaded]) -> bytes:
    """The threads, each in parentheses, one behind the other; b"" without messages."""
    forest = _Forest()
    for message in messages:
        forest.add(message)
    roots = _pruned(forest.nodes)
    roots = _by_subject(_sorted_roots(roots))
    _sort_all(roots)
    return b"".join(_written(root) for root in sorted(roots, key=_node_date))


def _by_date(message: Threaded) -> tuple[int, int]:
    return message.sent, message.number


def _node_date(node: _Node) -> tuple[int, int]:
    """RFC 5256 section 3, step 4: a dummy is dated by its first child."""
    message = node.message if node.message is not None else node.children[0].message
    assert message is not None
    return message.sent, message.number


class _Forest:
    """Steps 1 and 2: who is whose parent; children are not told yet.

    A link is asked for whether it makes a loop by looking for the top of the parent's tree; the ways up are kept
    short, until a link is cut: then all are looked for anew. So there are MAX_CUTS; further links stay.
    """

    def __init__(self) -> None:
        self.nodes: list[_Node] = []
        self._known: dict[str, _Node] = {}
        self._cuts = 0

    def add(self, message: Threaded) -> None:
        id_ = message.message_id
        node = self._named(id_) if id_ else self._new()
        if node.message is not None:
            # RFC 5256 section 3: a second one with this id is given one of its own
            node = self._new()
        node.message = message
        above: _Node | None = None
        for reference in message.references:
            below = self._named(reference)
            # Step 1.A: existing links are not changed
            if above is not None and below.parent is None:
                self._link(above, below)
            above = below
        # Step 1.B: what others said of its parent gives way
        if node.parent is not None and node.parent is not above:
            if self._cuts >= MAX_CUTS:
                return
            self._cuts += 1
            node.parent = None
        if above is not None and node.parent is None:
            self._link(above, node)

    def _named(self, id_: str) -> _Node:
        node = self._known.get(id_)
        if node is None:
            node = self._known[id_] = self._new()
        return node

    def _new(self) -> _Node:
        node = _Node()
        self.nodes.append(node)
        return node

    def _link(self, parent: _Node, child: _Node) -> None:
        if self._top(parent) is not child:
            child.parent = child.top = parent
            child.cuts = self._cuts

    def _top(self, node: _Node) -> _Node:
        passed = []
        while True:
            if node.cuts != self._cuts:
                node.top = node.parent or node
                node.cuts = self._cuts
            if node.top is node:
                break
            passed.append(node)
            node = node.top
        for one in passed:
            one.top = node
        return node


def _pruned(nodes: list[_Node]) -> list[_Node]:
    """Step 3: the roots, their children in place; dummies are left at the root only, with two children or more."""
    known: dict[_Node, _Node] = {}
    parents = [
        node.parent if node.parent is None or node.parent.message else _anchor(node.parent, known)
        for node in nodes
    ]
    roots = []
    for node, parent in zip(nodes, parents, strict=True):
        if node.message is None:
            continue
        if parent is None:
            roots.append(node)
            continue
        if parent.message is None and not parent.children:
            roots.append(parent)
        parent.children.append(node)
    return [one if one.message or len(one.children) > 1 else one.children[0] for one in roots]


def _anchor(dummy: _Node, known: dict[_Node, _Node]) -> _Node:
    """The message above a dummy, or the topmost dummy when there is none."""
    passed = []
    node = dummy
    while node.message is None and node not in known and node.parent is not None:
        passed.append(node)
        node = node.parent
    found = known.get(node, node)
    for one in passed:
        known[one] = found
    return found


def _sorted_roots(roots: list[_Node]) -> list[_Node]:
    """Step 4."""
    for root in roots:
        if root.message is None:
            root.children.sort(key=_node_date)
    return sorted(roots, key=_node_date)


def _subject(node: _Node) -> Threaded:
    message = node.message if node.message is not None else node.children[0].message
    assert message is not None
    return message


def _by_subject(roots: list[_Node]) -> list[_Node]:
    """Step 5: threads with one base subject become one."""
    table: dict[str, _Node] = {}
    for root in roots:
        subject = _subject(root).subject
        if not subject:
            continue
        other = table.get(subject)
        if (
            other is None
            or (root.message is None and other.message is not None)
            or (other.message is not None and other.message.reply and not _subject(root).reply)
        ):
            table[subject] = root
    out: dict[int, _Node] = {id(root): root for root in roots}
    for root in roots:
        subject = _subject(root).subject
        other = table.get(subject) if subject else None
        if other is None or other is root:
            continue
        if other.message is None:
            other.children += [root] if root.message is not None else root.children
        elif root.message is not None and root.message.reply and not other.message.reply:
            other.children.append(root)
        else:
            dummy = _Node()
            dummy.children = [other, root]
            table[subject] = dummy
            del out[id(other)]
            out[id(dummy)] = dummy
        del out[id(root)]
    return list(out.values())


def _sort_all(roots: list[_Node]) -> None:
    """Step 6. Dummies are at the root only, so the children's dates are their own."""
    stack = list(roots)
    while stack:
        node = stack.pop()
        node.children.sort(key=_node_date)
        stack.extend(node.children)


def _written(root: _Node) -> bytes:
    """RFC 5256 section 4: thread-list."""
    out = []
    stack: list[_Node | bytes] = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, bytes):
            out.append(node)
            continue
        numbers = []
        while True:
            if node.message is not None:
                numbers.append(b"%d" % node.message.number)
            if len(node.children) != 1:
                break
            node = node.children[0]
        out += (b"(", b" ".join(numbers))
        if numbers and node.children:
            out.append(b" ")
        stack.append(b")")
        stack.extend(reversed(node.children))
    return b"".join(out)
