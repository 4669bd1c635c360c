"""The story of a connection and its messages, as it is told while it happens; `storage.stories` keeps it.

What peers chose is made harmless when it is kept. A story has a bounded number of lines; what comes after is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any, Final

from ..storage.stories import MAX_LINE, Stories, Story, kept

__all__ = ["NAMED", "NOTHING_CAME", "Teller", "Telling"]

MAX_LINES: Final = 200
_CUT: Final = 2 * MAX_LINE
"""Characters of a line that are looked at."""
NAMED: Final = 20
"""Recipients that a story names."""
NOTHING_CAME: Final = "no message came"
"""The last line of a story of MAIL without a message: why is told before."""
_TIME: Final = itemgetter(0)


class Telling:
    """Lines with their times. `now`: seconds since 1970; `about`: the connection that a message came by, whose lines
    belong to the message's story, too.
    """

    __slots__ = ("_about", "_now", "began", "left_out", "lines")

    def __init__(self, now: Callable[[], float], about: Telling | None = None) -> None:
        self._now = now
        self._about = about
        self.began: float = now() if about is None else about.began
        self.lines: list[tuple[float, str]] = []
        self.left_out = 0

    def say(self, text: str) -> None:
        """Something has happened."""
        if len(self.lines) < MAX_LINES:
            self.lines.append((self._now() - self.began, text[:_CUT]))
        else:
            self.left_out += 1

    def next(self) -> Telling:
        """For a message on the connection that this is about."""
        return Telling(self._now, self)

    def whole(self) -> list[tuple[float, str]]:
        """All lines, in the order of time, as they are kept."""
        return kept(self.raw())

    def raw(self) -> list[tuple[float, str]]:
        """As `whole`; what is kept is made of it."""
        lines = self.lines
        if self._about is None:
            return list(lines)
        before = self._about.lines
        if not before or not lines or before[-1][0] <= lines[0][0]:
            return before + lines
        # What is known of the connection stands before what was made of it at the same time.
        return sorted(before + lines, key=_TIME)


class Teller:
    """Puts stories away. `stories` None: nobody will ask."""

    def __init__(self, stories: Stories | None, now: Callable[[], float]) -> None:
        self._stories = stories
        self._now = now

    def begin(self) -> Telling:
        """A connection."""
        return Telling(self._now)

    def end(
        self,
        telling: Telling,
        *,
        connection: str,
        facts: dict[str, Any],
        id_: str = "",
        message: str = "",
    ) -> None:
        """It is over."""
        if self._stories is None:
            return
        lines = telling.raw()
        if telling.left_out:
            last = self._now() - telling.began
            lines.append((last, f"and {telling.left_out} lines more"))
        self._stories.put(Story(id_, telling.began, message, connection, facts, lines))
