"""SEARCH TEXT, BODY and HEADER in a folder: slices of work in threads, until all that may match has been looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..message.collation import fold
from ..message.structure import scan
from ..message.text import field_lines, texts
from ..world import World
from .account import AccountStore
from .contents import read_files

__all__ = ["Searched"]

SLICE = 100
"""Messages that one turn of a thread looks at."""


class Searched:
    """The searches of one account (`opened.Search`)."""

    def __init__(self, world: World, store: AccountStore) -> None:
        self._world = world
        self._store = store

    async def text(
        self, folder: str, text: str, uids: Sequence[int], *, body_only: bool
    ) -> Sequence[int]:
        needle = fold(text)

        def matches(content: bytes) -> bool:
            root = scan(content)
            return any(
                needle in fold(piece) for piece in texts(content, root, headers=not body_only)
            )

        return await self._scan(folder, uids, matches)

    async def header(self, folder: str, name: str, text: str, uids: Sequence[int]) -> Sequence[int]:
        needle, wanted = fold(text), name.lower().encode()

        def matches(content: bytes) -> bool:
            return any(
                field == wanted and needle in fold(line.partition(":")[2].removeprefix(" "))
                for field, line in field_lines(content, scan(content))
            )

        return await self._scan(folder, uids, matches)

    async def _scan(
        self, folder: str, uids: Sequence[int], matches: Callable[[bytes], bool]
    ) -> list[int]:
        found: list[int] = []
        for start in range(0, len(uids), SLICE):
            found += await self._world.threads.call(
                self._matching, folder, uids[start : start + SLICE], matches
            )
        return found

    def _matching(
        self, folder: str, uids: Sequence[int], matches: Callable[[bytes], bool]
    ) -> list[int]:
        path, rows = self._store.found(folder, uids)
        found: list[int] = []
        for row in rows:
            for one, content in read_files(self._world.disk, path, [row]):
                if content is not None and matches(content):
                    found.append(one.uid)
        return found

    def close(self) -> Any:
        """Nothing is open."""
