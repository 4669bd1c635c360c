"""The scanner of MIME: a message's parts as offsets (RFC 2045, 2046), found as Dovecot finds them in broken mail.

`scan` takes any bytes, or a memory map of any size, and never raises. Nothing is copied but header blocks and the
windows that are counted. Time is linear in the size for each level of nesting that is open, and there are at most
MAX_NESTING of them; parts past MAX_NESTING or MAX_PARTS are not looked into.

A line that begins like the boundary of an open multipart ends what is in it; the innermost one's, unless an outer one
is longer. Only an empty line, such a line, or the end of the content ends a header.
"""

from __future__ import annotations

import re
from mmap import mmap
from typing import Final

from .content_fields import NOTHING, ContentFields, content_fields
from .envelope import MAX_HEADER, envelope, unfolded_block
from .mime import PIECE
from .part import (
    LEAF,
    MESSAGE,
    MULTIPART,
    STRUCTURE_VERSION,
    Params,
    Part,
    find,
    from_bytes,
    section,
    to_bytes,
    walk,
    wire_section,
)

__all__ = [
    "LEAF",
    "MAX_NESTING",
    "MAX_PARTS",
    "MESSAGE",
    "MULTIPART",
    "STRUCTURE_VERSION",
    "Params",
    "Part",
    "blank_line",
    "find",
    "from_bytes",
    "scan",
    "section",
    "to_bytes",
    "walk",
    "wire_section",
]

MAX_NESTING: Final = 100
"""Levels of parts, an embedded message being one."""
MAX_PARTS: Final = 10_000
"""Parts of one message, itself included."""

blank_line = re.compile(rb"\n\r?\n").search
"""What ends a header that does not begin with it."""
# RFC 6532 section 3.7: message/global may be encoded; what is inside is looked at only when it is not
_IDENTITY: Final = frozenset((b"7bit", b"8bit", b"binary"))


class _Node:
    """A part that is being read."""

    __slots__ = (
        "body",
        "children",
        "digest",
        "end",
        "envelope",
        "fields",
        "parent",
        "shape",
        "start",
    )

    def __init__(self, start: int, parent: _Node | None) -> None:
        self.start = self.body = self.end = start
        self.parent = parent
        self.fields = NOTHING
        self.shape = LEAF
        self.digest = False
        self.envelope = b""
        self.children: list[_Node] = []


class _Open:
    """A boundary that is looked for. `at`: where it stands next when `found`, else up to where it does not."""

    __slots__ = ("at", "found", "needle", "node")

    def __init__(self, boundary: bytes, node: _Node) -> None:
        self.needle = b"\n--" + boundary
        self.node = node
        self.at = 0
        self.found = False


def scan(content: bytes | mmap) -> Part:
    """The message's parts. The content is stored form: LF line ends, or what other programs left."""
    return _Scanner(content).run()


class _Scanner:
    def __init__(self, content: bytes | mmap) -> None:
        self._content = content
        self._size = len(content)
        self._open: list[_Open] = []
        self._depth = 1
        self._nodes: list[_Node] = []

    def run(self) -> Part:
        node: _Node | None = self._add(0, None)
        while node is not None:
            node = self._entity(node)
        return self._built()

    def _add(self, start: int, parent: _Node | None) -> _Node:
        node = _Node(start, parent)
        self._nodes.append(node)
        if parent is not None:
            parent.children.append(node)
        return node

    def _entity(self, node: _Node) -> _Node | None:
        """Read one that begins at its start. What begins next, behind a delimiter or in it; None at the end."""
        hit = self._header(node)
        if hit is not None and node.body > node.start and node.parent is not None:
            # The line end that the delimiter takes from the header stays in what is around
            node.parent.end = hit[0] + 1
        if node.shape == MESSAGE:
            self._depth += 1
            child = self._add(node.body, node)
            if hit is None:
                return child
            # Nothing is in it: its header ends where the line of the delimiter begins
            child.envelope = envelope(b"")
            node = child
        if hit is None:
            hit = self._delimiter(node.body - 1)
        line = -1
        while hit is not None:
            at, opened = hit
            # Behind a close-delimiter the line end is that one's
            stop = max(node.body, self._line_end(at), line + 1)
            while node is not opened.node:
                node.end = stop = max(stop, node.end)
                self._depth -= 1
                assert node.parent is not None
                node = node.parent
            after = at + len(opened.needle)
            # RFC 2046 section 5.1.1: close-delimiter
            closes = self._content[after : after + 2] == b"--"
            while self._open[-1] is not opened:
                self._open.pop()
            if closes:
                self._open.pop()
            line = self._find(b"\n", after, self._size)
            if line < 0:
                break
            if not closes:
                self._depth += 1
                return self._add(line + 1, node)
            # The epilogue
            hit = self._delimiter(line)
        while True:
            node.end = self._size
            if node.parent is None:
                return None
            node = node.parent

    def _line_end(self, at: int) -> int:
        """Where the line end at `at` begins: a CR before it belongs to it."""
        return at - 1 if at > 0 and self._content[at - 1 : at] == b"\r" else at

    def _header(self, node: _Node) -> tuple[int, _Open] | None:
        """Read the header; the delimiter that ended it, if one did."""
        content, start = self._content, node.start
        hit = self._delimiter(start - 1) if self._open else None
        limit = self._size if hit is None else hit[0] + 1
        separated = True
        if limit <= start:
            separated = False
            stop = node.body = start
        elif content[start : start + 1] == b"\n":
            stop, node.body = start, start + 1
        elif content[start : start + 2] == b"\r\n":
            stop, node.body = start, start + 2
        else:
            stop, node.body = self._blank(start, limit)
            if node.body < 0:
                separated = False
                stop = node.body = limit if hit is None else max(start, self._line_end(hit[0]))
        node.end = node.body
        block = unfolded_block(content[start : min(stop, start + MAX_HEADER)])
        fields = content_fields(block)
        parent = node.parent
        if parent is None or parent.shape == MESSAGE:
            if parent is not None:
                node.envelope = envelope(block)
            if not fields.mime:
                # RFC 2045 section 4: without MIME-Version; a Content-Type says it as well
                fields = NOTHING
        node.fields = fields
        self._shape(node, separated)
        if not separated:
            return hit
        if hit is not None and hit[0] == node.body - 1:
            # RFC 2046 section 5.1.1: a body part without a body; the empty line is the delimiter's line end
            hit = self._delimiter(hit[0])
            if hit is not None and hit[1].node is not node:
                node.body = node.end = max(start, self._line_end(hit[0]))
                return hit
        return None

    def _shape(self, node: _Node, separated: bool) -> None:
        fields = node.fields
        maintype = fields.maintype
        if maintype is None:
            parent = node.parent
            # RFC 2046 section 5.1.5
            if parent is not None and parent.digest:
                self._embed(node)
            return
        maintype = maintype.lower()
        subtype = fields.subtype.lower()
        if maintype == b"multipart":
            boundary = fields.boundary
            if not subtype:
                _hide(node)
                return
            node.digest = subtype == b"digest"
            if boundary is None or not separated:
                node.shape = MULTIPART
            elif self._depth < MAX_NESTING:
                node.shape = MULTIPART
                self._open.append(_Open(boundary, node))
            else:
                _hide(node)
        elif maintype == b"message" and (
            subtype == b"rfc822"
            or (subtype == b"global" and (fields.encoding or b"7bit").lower() in _IDENTITY)
        ):
            self._embed(node)

    def _embed(self, node: _Node) -> None:
        if self._depth < MAX_NESTING and len(self._nodes) < MAX_PARTS:
            node.shape = MESSAGE
        else:
            _hide(node)

    def _blank(self, start: int, limit: int) -> tuple[int, int]:
        """(start, end) of the next empty line; -1, -1 when there is none."""
        while start < limit:
            stop = min(start + PIECE, limit)
            found = blank_line(self._content, start, min(stop + 2, limit))
            if found is not None:
                return found.start() + 1, found.end()
            start = stop
        return -1, -1

    def _delimiter(self, start: int) -> tuple[int, _Open] | None:
        """The next line that begins like an open boundary: where the line end before it stands, and whose it is."""
        if len(self._nodes) >= MAX_PARTS or not self._open:
            return None
        best = self._size
        for one in self._open:
            if one.at < start:
                one.at = start
                one.found = False
            if not one.found and one.at <= best:
                at = self._find(one.needle, one.at, min(best + len(one.needle), self._size))
                one.found = at >= 0
                one.at = at if at >= 0 else best + 1
            if one.found and one.at < best:
                best = one.at
        if best == self._size:
            return None
        return best, self._whose(best)

    def _whose(self, at: int) -> _Open:
        chosen: _Open | None = None
        line: bytes | None = None
        for one in reversed(self._open):
            if not one.found or one.at != at:
                continue
            if chosen is None:
                chosen = one
                continue
            if line is None:
                # Longer ones cannot match
                line = self._content[at + 1 : at + 256].partition(b"\n")[0].removesuffix(b"\r")
            text = chosen.needle[1:]
            if line in (text, text + b"--"):
                break
            if len(one.needle) > len(chosen.needle):
                chosen = one
        assert chosen is not None
        return chosen

    def _find(self, wanted: bytes, start: int, end: int) -> int:
        """In pieces: one search through all of a big message would let no other thread run."""
        content = self._content
        while start < end:
            stop = start + PIECE
            found = content.find(wanted, start, min(stop + len(wanted) - 1, end))
            if found >= 0:
                return found
            start = stop
        return -1

    def _built(self) -> Part:
        nodes = self._nodes
        octets, lines = self._counted(
            sorted({at for node in nodes for at in (node.start, node.body, node.end)})
        )
        built: dict[_Node, Part] = {}
        # Children come after their parents
        for node in reversed(nodes):
            start, body, end = node.start, node.body, node.end
            fields = node.fields
            maintype, subtype, params = _typed(node, fields)
            built[node] = Part(
                start,
                body,
                end,
                octets[body] - octets[start],
                octets[end] - octets[body],
                lines[end] - lines[body],
                node.shape,
                maintype,
                subtype,
                params,
                fields.id,
                fields.description,
                fields.encoding,
                fields.md5,
                fields.disposition,
                fields.disposition_params,
                fields.language,
                fields.location,
                node.envelope,
                tuple([built.pop(child) for child in node.children]) if node.children else (),
            )
        return built[nodes[0]]

    def _counted(self, points: list[int]) -> tuple[dict[int, int], dict[int, int]]:
        """For each of `points`: the octets and the lines of the wire form before it."""
        content = self._content
        octets: dict[int, int] = {}
        lines: dict[int, int] = {}
        at = size = count = 0
        after_cr = False
        for point in points:
            while at < point:
                block = content[at : min(point, at + PIECE)]
                at += len(block)
                ends = block.count(b"\n")
                count += ends
                size += len(block) + ends
                if after_cr and block[0] == _LF:
                    size -= 1
                if b"\r" in block:
                    size -= block.count(b"\r\n")
                after_cr = block[-1] == _CR
            octets[point] = size
            lines[point] = count
        if at == self._size and at and content[at - 1 : at] != b"\n":
            # The wire form ends the last line
            octets[at] += 2
            lines[at] += 1
        return octets, lines


def _hide(node: _Node) -> None:
    """RFC 2046 section 4.5.1: nobody looks into it."""
    node.fields = node.fields._replace(maintype=b"application", subtype=b"octet-stream")
    node.digest = False


def _typed(node: _Node, fields: ContentFields) -> tuple[bytes, bytes, Params]:
    if fields.maintype is not None:
        return fields.maintype, fields.subtype, fields.params
    if node.shape == MESSAGE:
        return b"message", b"rfc822", ()
    # RFC 2045 section 5.2
    return b"text", b"plain", ()


_CR, _LF = b"\r\n"
