"""What a file system knows, and what of it is on the disk: the model behind a disk that forgets on command.

Everything unsynced is kept apart from what is synced, as POSIX lets it be, which is worse than any one file system is:

- the content of a file by pages of 4096 octets, its size and its mode: on the disk at fsync or fdatasync of that file;
- each name (made, removed, renamed, linked): on the disk at fsync of its directory, with whatever was done to the same
  name before. Nothing else makes a name durable, not even fsync of the file;
- all of it at syncfs.

What is not synced may get to the disk at any time and in any order, but for a rename, which is one step, and for what
is done to one name, which keeps its order. `Volatile.write_back` does some of that; `Volatile.cut` decides about all
that is left: it makes the file system that the next start finds.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

PAGE = 4096
ZERO = bytes(PAGE)
ROOT = 1


class Refused(Exception):
    """An operation that is answered with this errno."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


@dataclass(slots=True)
class Kept:
    """A file's content and attributes, here or on the disk."""

    mode: int = 0
    size: int = 0
    modified: int = 0  # nanoseconds
    owner: tuple[int, int] = (0, 0)
    pages: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Node:
    """A file or a directory. `synced` is what is on the disk of it, None when nothing is."""

    number: int
    now: Kept
    synced: Kept | None = None
    dirty: set[int] = field(default_factory=set)
    links: int = 0
    named: bool = False
    names: dict[bytes, int] = field(default_factory=dict)
    synced_names: dict[bytes, int] = field(default_factory=dict)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.now.mode)


Name = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Change:
    """One step: names, and what each leads to from then on. `empties` is the directory that it removes."""

    names: dict[Name, int | None]
    empties: int | None = None


@dataclass
class Lost:
    """What a cut took."""

    names: int = 0
    pages: int = 0
    files: int = 0
    kept_names: int = 0
    kept_pages: int = 0


class Volatile:
    """The file system. `chance` in each operation something that is not synced gets to the disk by itself."""

    def __init__(self, seed: int = 0, chance: float = 0.0) -> None:
        self._random = Random(seed)
        self._chance = chance
        self._next = ROOT
        self.nodes: dict[int, Node] = {}
        self._changes: list[Change] = []
        self._unsynced: dict[int, None] = {}
        root = self._make(stat.S_IFDIR | 0o755, (0, 0), 0)
        root.synced = Kept(root.now.mode)
        root.links = 2
        self._unsynced.clear()
        self.syncs = 0

    # Reading

    def node(self, number: int) -> Node:
        found = self.nodes.get(number)
        if found is None:
            raise Refused(errno.ESTALE)
        return found

    def lookup(self, directory: int, name: bytes) -> Node:
        found = self.node(directory).names.get(name)
        if found is None:
            raise Refused(errno.ENOENT)
        return self.nodes[found]

    def read(self, number: int, offset: int, size: int) -> bytes:
        kept = self.node(number).now
        size = min(size, kept.size - offset)
        if size <= 0:
            return b""
        first, last = offset // PAGE, (offset + size - 1) // PAGE
        joined = b"".join(kept.pages.get(page, ZERO) for page in range(first, last + 1))
        return joined[offset - first * PAGE :][:size]

    # Changing files

    def make(
        self, directory: int, name: bytes | None, mode: int, owner: tuple[int, int], now: int
    ) -> Node:
        """A file or a directory; without a name it is there while it is open."""
        if name is not None and name in self.node(directory).names:
            raise Refused(errno.EEXIST)
        made = self._make(mode, owner, now)
        if made.is_directory:
            made.links = 1
        if name is not None:
            self._change(Change({(directory, name): made.number}))
        return made

    def _make(self, mode: int, owner: tuple[int, int], now: int) -> Node:
        made = Node(self._next, Kept(mode, modified=now, owner=owner))
        self._next += 1
        self.nodes[made.number] = made
        self._unsynced[made.number] = None
        return made

    def write(self, number: int, offset: int, data: bytes, now: int) -> None:
        node = self.node(number)
        kept, end = node.now, offset + len(data)
        for page in range(offset // PAGE, (end + PAGE - 1) // PAGE):
            begin = page * PAGE
            part = data[max(begin - offset, 0) : begin + PAGE - offset]
            if len(part) < PAGE:
                old = kept.pages.get(page, ZERO)
                at = max(offset - begin, 0)
                part = old[:at] + part + old[at + len(part) :]
            kept.pages[page] = part
            node.dirty.add(page)
        kept.size = max(kept.size, end)
        kept.modified = now
        self._unsynced[number] = None
        self._perhaps()

    def truncate(self, number: int, size: int, now: int) -> None:
        node = self.node(number)
        kept = node.now
        if size < kept.size:
            whole, rest = divmod(size, PAGE)
            for page in [page for page in kept.pages if page >= whole]:
                if page == whole and rest:
                    kept.pages[page] = kept.pages[page][:rest] + ZERO[rest:]
                else:
                    del kept.pages[page]
                node.dirty.add(page)
        kept.size = size
        kept.modified = now
        self._unsynced[number] = None

    def change_attributes(
        self,
        number: int,
        mode: int | None = None,
        modified: int | None = None,
        owner: tuple[int, int] | None = None,
    ) -> None:
        kept = self.node(number).now
        if mode is not None:
            kept.mode = stat.S_IFMT(kept.mode) | stat.S_IMODE(mode)
        if modified is not None:
            kept.modified = modified
        if owner is not None:
            kept.owner = owner
        self._unsynced[number] = None

    # Changing names

    def link(self, number: int, directory: int, name: bytes) -> Node:
        if name in self.node(directory).names:
            raise Refused(errno.EEXIST)
        self._change(Change({(directory, name): number}))
        return self.node(number)

    def unlink(self, directory: int, name: bytes) -> None:
        if self.lookup(directory, name).is_directory:
            raise Refused(errno.EISDIR)
        self._change(Change({(directory, name): None}))

    def rmdir(self, directory: int, name: bytes) -> None:
        gone = self.lookup(directory, name)
        if not gone.is_directory:
            raise Refused(errno.ENOTDIR)
        if gone.names:
            raise Refused(errno.ENOTEMPTY)
        self._change(Change({(directory, name): None}, gone.number))

    def rename(self, source: Name, target: Name, replace: bool = True) -> None:
        moved = self.lookup(*source)
        there = self.node(target[0]).names.get(target[1])
        if there is not None:
            if not replace:
                raise Refused(errno.EEXIST)
            if there == moved.number:
                return
            if self.nodes[there].names:
                raise Refused(errno.ENOTEMPTY)
        self._change(Change({source: None, target: moved.number}))

    def _change(self, change: Change) -> None:
        for (directory, name), number in change.names.items():
            names = self.node(directory).names
            old = names.pop(name, None)
            if old is not None:
                self.nodes[old].links -= 1
            if number is not None:
                names[name] = number
                self.nodes[number].links += 1
                self.nodes[number].named = True
        self._changes.append(change)
        self._perhaps()

    # What gets to the disk

    def sync(self, number: int) -> None:
        """fsync or fdatasync of a file."""
        self.syncs += 1
        self._sync(self.node(number))

    def _sync(self, node: Node) -> None:
        if node.synced is None:
            node.synced = Kept()
        for page in node.dirty:
            _settle(node, page)
        node.dirty.clear()
        node.synced.mode, node.synced.size = node.now.mode, node.now.size
        node.synced.modified, node.synced.owner = node.now.modified, node.now.owner
        self._unsynced.pop(node.number, None)

    def sync_directory(self, number: int) -> None:
        """fsync of a directory: its names."""
        self.syncs += 1
        self._sync(self.node(number))
        self._settle(
            {name for change in self._changes for name in change.names if name[0] == number}
        )

    def _settle(self, wanted: set[Name]) -> None:
        """Every step that touches one of these names, and what was done before to other names of those steps."""
        chosen: list[Change] = []
        left: list[Change] = []
        for change in reversed(self._changes):
            if wanted.isdisjoint(change.names):
                left.append(change)
                continue
            wanted.update(change.names)
            chosen.append(change)
        for change in reversed(chosen):
            _obey(self.nodes, change)
        self._changes = left[::-1]

    def sync_all(self) -> None:
        """syncfs."""
        self.syncs += 1
        for number in list(self._unsynced):
            self._sync(self.nodes[number])
        for change in self._changes:
            _obey(self.nodes, change)
        self._changes.clear()

    def _perhaps(self) -> None:
        if self._random.random() < self._chance:
            self.write_back()

    def write_back(self) -> None:
        """Something that is not synced gets to the disk: a page, or a name."""
        if self._changes and self._random.random() < 0.5:
            self._settle(set(self._random.choice(self._changes).names))
        elif self._unsynced:
            node = self.nodes[self._random.choice(list(self._unsynced))]
            if node.dirty:
                if node.synced is None:
                    node.synced = Kept(node.now.mode)
                page = self._random.choice(sorted(node.dirty))
                _settle(node, page)
                node.dirty.discard(page)

    def forget(self, number: int) -> None:
        """Nobody has it open any more. What never had a name is gone; what had one may come back by a cut."""
        node = self.nodes.get(number)
        if node is not None and not node.named and number != ROOT:
            self._unsynced.pop(number, None)
            del self.nodes[number]

    # The cut

    def cut(self, seed: int, kept: float) -> tuple[Volatile, Lost]:
        """The file system that is found afterwards: of what is not synced each is there with probability `kept`."""
        random, lost = Random(seed), Lost()
        self._cut_names(random, kept, lost)
        found = Volatile(seed, self._chance)
        found._next = self._next
        found.nodes.clear()
        for number in self._reached():
            old = self.nodes[number]
            content = Kept(old.now.mode) if old.synced is None else old.synced
            if number in self._unsynced:
                content = _torn(old, content, random, kept, lost)
            node = Node(number, content, names=dict(old.synced_names), named=True)
            node.synced = Kept(
                content.mode, content.size, content.modified, content.owner, dict(content.pages)
            )
            node.synced_names = dict(node.names)
            found.nodes[number] = node
        found.nodes[ROOT].links = 1
        for node in found.nodes.values():
            if node.is_directory:
                node.links += 1
            for number in node.names.values():
                found.nodes[number].links += 1
        return found, lost

    def _cut_names(self, random: Random, kept: float, lost: Lost) -> None:
        broken: set[Name] = set()
        untouched: set[int] = set()  # directories in which something was not done
        for change in self._changes:
            if (
                random.random() < kept
                and broken.isdisjoint(change.names)
                and change.empties not in untouched
            ):
                _obey(self.nodes, change)
                lost.kept_names += 1
            else:
                broken.update(change.names)
                untouched.update(directory for directory, _ in change.names)
                lost.names += 1

    def _reached(self) -> Iterator[int]:
        """Every file and directory to which names on the disk lead."""
        seen, ahead = set(), [ROOT]
        while ahead:
            number = ahead.pop()
            if number not in seen:
                seen.add(number)
                ahead.extend(self.nodes[number].synced_names.values())
                yield number


def _settle(node: Node, page: int) -> None:
    assert node.synced is not None
    if page in node.now.pages:
        node.synced.pages[page] = node.now.pages[page]
    else:
        node.synced.pages.pop(page, None)


def _obey(nodes: dict[int, Node], change: Change) -> None:
    for (directory, name), number in change.names.items():
        there = nodes.get(directory)
        if there is None:
            continue
        if number is None:
            there.synced_names.pop(name, None)
        else:
            there.synced_names[name] = number


def _torn(old: Node, disk: Kept, random: Random, kept: float, lost: Lost) -> Kept:
    """A file that was not synced: each of its pages, its size and its mode are as before, or as they became."""
    now = old.now
    found = Kept(disk.mode, disk.size, disk.modified, disk.owner, dict(disk.pages))
    if random.random() < kept:
        found.size = now.size
    if random.random() < kept:
        found.mode, found.modified = now.mode, now.modified
    for page in sorted(old.dirty):
        if random.random() < kept:
            lost.kept_pages += 1
            if page in now.pages:
                found.pages[page] = now.pages[page]
            else:
                found.pages.pop(page, None)
        else:
            lost.pages += 1
    _fit(found)
    if old.dirty:
        lost.files += 1
    return found


def _fit(kept: Kept) -> None:
    """Nothing lies behind the end of a file."""
    whole, rest = divmod(kept.size, PAGE)
    for page in [page for page in kept.pages if page >= whole]:
        if page == whole and rest:
            kept.pages[page] = kept.pages[page][:rest] + ZERO[rest:]
        else:
            del kept.pages[page]


def paths(disk: Volatile) -> Iterable[tuple[bytes, Node]]:
    """Every name of `disk`, for tests."""
    ahead: list[tuple[bytes, int]] = [(b"", ROOT)]
    while ahead:
        path, number = ahead.pop()
        node = disk.nodes[number]
        yield path or b"/", node
        ahead.extend((path + b"/" + name, child) for name, child in sorted(node.names.items()))
