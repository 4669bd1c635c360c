"""THREAD: REFERENCES and ORDEREDSUBJECT (RFC 5256 section 3), over small tuples, as IMAP writes the answer.

Nothing here recurses: chains may be as long as the mailbox. Time is nearly linear in the messages and their
references, but for sorting.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["Threaded", "ordered_subject", "references"]


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
    __slots__ = ("children", "message", "order", "parent", "top")

    def __init__(self, message: Threaded | None) -> None:
        self.message = message
        self.parent: _Node | None = None
        self.children: list[_Node] = []
        # Where to look for the top of its tree; made short as it is used
        self.top: _Node = self
        self.order = -1


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
    roots = _pruned(_linked(list(messages)))
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


def _top(node: _Node) -> _Node:
    top = node
    while top.top is not top:
        top = top.top
    while node.top is not top:
        node.top, node = top, node.top
    return top


def _link(parent: _Node, child: _Node) -> None:
    """Unless that makes a loop. The child has no parent."""
    if _top(parent) is not child:
        child.parent = parent
        child.top = parent


def _linked(messages: list[Threaded]) -> list[_Node]:
    """Steps 1 and 2: all nodes, linked to their parents, not to their children yet."""
    known: dict[str, _Node] = {}
    nodes: list[_Node] = []
    for order, message in enumerate(messages):
        node = known.get(message.message_id) if message.message_id else None
        if node is None or node.message is not None:
            # Without an id, or with one that another message has: its own
            duplicate = node is not None
            node = _Node(message)
            if message.message_id and not duplicate:
                known[message.message_id] = node
            nodes.append(node)
        node.message = message
        node.order = order
        for reference in message.references:
            if reference not in known:
                dummy = known[reference] = _Node(None)
                nodes.append(dummy)
    own = {id(node.message): node for node in nodes if node.message is not None}
    # Step 1.B before 1.A: what a message says of its own parent undoes what others say
    for message in messages:
        if message.references:
            _link(known[message.references[-1]], own[id(message)])
    for order, message in enumerate(messages):
        for above, below in zip(message.references, message.references[1:], strict=False):
            child = known[below]
            # A message behind this one has said, or will say, that it has no parent
            if child.parent is None and child.order < order:
                _link(known[above], child)
    return nodes


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
            dummy = _Node(None)
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
