"""What LIST and LSUB answer, from what there is: pure, so that every rule of RFC 5258 can be seen at work.

Names here are as the client sees them. A *node* is a mailbox, a name that is only subscribed to, or one that
stands above others and is nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ..mailboxes import MailboxInfo

__all__ = ["Line", "Tree"]


class Line(NamedTuple):
    """One LIST or LSUB response. `child_info`: selection options that something below meets (RFC 5258 section
    3.5); `node`: whose it is, None for what does not exist."""

    name: str
    attributes: tuple[str, ...]
    child_info: tuple[str, ...]
    node: MailboxInfo | None


class _Node:
    __slots__ = ("children", "info", "subscribed", "uses")

    def __init__(self) -> None:
        self.info: MailboxInfo | None = None
        self.subscribed = False
        self.uses: frozenset[str] = frozenset()
        self.children = False
        """Whether a mailbox, not only a name, is below."""


class Tree:
    """All names of an account. `mailboxes`: (name as the client sees it, mailbox)."""

    def __init__(self, mailboxes: Iterable[tuple[str, MailboxInfo]], separator: str) -> None:
        self._separator = separator
        self._nodes: dict[str, _Node] = {}
        for name, info in mailboxes:
            node = self._node(name)
            node.subscribed = info.subscribed
            if info.selectable:
                node.info = info
                node.uses = info.special_use
                for above in self._above(name):
                    parent = self._node(above)
                    if parent.children:
                        break  # so have all above it
                    parent.children = True
        self._order = sorted(self._nodes, key=self._key)

    def _node(self, name: str) -> _Node:
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = _Node()
        return node

    def _above(self, name: str) -> Iterator[str]:
        at = name.rfind(self._separator)
        while at > 0:
            yield name[:at]
            at = name.rfind(self._separator, 0, at)

    def _key(self, name: str) -> str:
        levels = name.replace(self._separator, "\0")
        return f"\0{levels}" if levels == "INBOX" or levels.startswith("INBOX\0") else levels

    def entries(
        self,
        matches: Callable[[str], bool],
        select: frozenset[str],
        returns: frozenset[str],
        extended: bool,
        rev2: bool = False,
    ) -> Iterator[Line]:
        """`select`, `returns`, `extended` as in `commands.List`. `rev2`: the client knows \\NonExistent.

        In order: INBOX, then each before what is below.
        """
        criteria = tuple(option for option in ("SUBSCRIBED", "SPECIAL-USE") if option in select)
        below: dict[str, list[str]] = {}
        if "RECURSIVEMATCH" in select:
            below = self._recursive(matches, criteria)
        # RFC 3348, RFC 6154 section 2: a plain LIST tells what clients would have to ask for
        children = "CHILDREN" in returns or not extended
        uses = "SPECIAL-USE" in returns or "SPECIAL-USE" in select or not extended
        # RFC 5258 section 3.1: SUBSCRIBED as a selection option implies the return option
        subscribed = "SUBSCRIBED" in returns or "SUBSCRIBED" in select
        for name in self._order:
            if not matches(name):
                continue
            node = self._nodes[name]
            info = below.get(name)
            met = self._meets(node, criteria)
            if not met and not info:
                continue
            attributes: list[str] = []
            if node.info is None:
                # RFC 5258 section 3: \NonExistent implies \Noselect, but not to clients that never heard of it
                attributes.append("\\NonExistent" if extended or rev2 else "\\Noselect")
            if subscribed and node.subscribed:
                attributes.append("\\Subscribed")
            # RFC 5258 section 5, example 11: what does not exist is listed for what is below
            if children or (node.info is None and node.children and not info):
                attributes.append("\\HasChildren" if node.children else "\\HasNoChildren")
            if uses:
                attributes += sorted(node.uses)
            yield Line(name, tuple(attributes), tuple(info or ()), node.info)

    def _meets(self, node: _Node, criteria: tuple[str, ...]) -> bool:
        if not criteria:
            return node.info is not None or node.children
        return all(node.subscribed if one == "SUBSCRIBED" else node.uses for one in criteria)

    def _recursive(
        self, matches: Callable[[str], bool], criteria: tuple[str, ...]
    ) -> dict[str, list[str]]:
        """Names with something below that meets the criteria, and those criteria. A name that does not meet them
        itself only when not all of that is listed anyway (RFC 5258 section 3.5)."""
        found: dict[str, list[str]] = {}
        hidden: set[str] = set()
        for name in self._order:
            if self._meets(self._nodes[name], criteria):
                listed = matches(name)
                for above in self._above(name):
                    found[above] = list(criteria)
                    if not listed:
                        hidden.add(above)
                    self._node(above)
        self._order = sorted(self._nodes, key=self._key)
        return {
            name: options
            for name, options in found.items()
            if name in hidden or self._meets(self._nodes[name], criteria)
        }

    def subscriptions(self, matches: Callable[[str], bool]) -> Iterator[Line]:
        """LSUB (RFC 3501 section 6.3.9): what is subscribed to; and where only what is below was, with ``%``,
        the name above as \\Noselect."""
        above: set[str] = set()
        for name in self._order:
            if self._nodes[name].subscribed and not matches(name):
                above.update(self._above(name))
        for name in sorted(above | self._nodes.keys(), key=self._key):
            node = self._nodes.get(name)
            if node is not None and node.subscribed:
                if matches(name):
                    yield Line(name, () if node.info else ("\\Noselect",), (), node.info)
            elif name in above and matches(name):
                yield Line(name, ("\\Noselect",), (), None)
