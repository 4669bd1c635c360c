"""Who is logged in: sessions hear when the directory lets their user in no more.

A user who is removed or disabled, in this process or by ``mailctl``, is out within `LOOK_EVERY` and a moment: each
session of that user is told once. A new password ends nothing. One look costs a PRAGMA while nothing has changed; after
a change those who are logged in are looked up a slice at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .directory import Directory
from .tables import User

__all__ = ["Admitted"]

LOOK_EVERY: Final = 1.0
"""Seconds."""
PAUSE: Final = 0.01
SLICE: Final = 200
"""Users that are looked up in one go: some milliseconds; then there is a pause."""


class Admitted:
    """The sessions of the users of `directory`. `reactor`: IReactorTime."""

    def __init__(self, reactor: Any, directory: Directory) -> None:
        self._reactor = reactor
        self._directory = directory
        self._inside: dict[int, tuple[User, dict[object, Callable[[], None]]]] = {}
        self._seen = directory.changes()
        self._left: list[User] = []
        self._timer: Any = None
        self._stopped = False

    def watch(
        self, user: User, ended: Callable[[], None], since: int | None = None
    ) -> Callable[[], None]:
        """Call `ended`, once and not before this returns, when `user` is let in no more. Gives what ends it.

        `since`: `Directory.seen` when the user was let in; without it the user is looked up once more.
        """
        if self._stopped:
            return _nothing
        one = object()
        self._inside.setdefault(user.id, (user, {}))[1][one] = ended
        if since != self._directory.seen and not self._admits(user):
            # At this very moment, while the session was made.
            self._seen = -1
        if self._timer is None:
            self._timer = self._reactor.callLater(LOOK_EVERY, self._look)

        def unwatch() -> None:
            _, sessions = self._inside.get(user.id, (user, {}))
            sessions.pop(one, None)
            if not sessions:
                self._inside.pop(user.id, None)
            if not self._inside:
                self._rest()

        return unwatch

    def stop(self) -> None:
        """The directory is about to be closed."""
        self._stopped = True
        self._inside.clear()
        self._rest()

    def _rest(self) -> None:
        self._left.clear()
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _admits(self, user: User) -> bool:
        now = self._directory.user(user.address)
        # Another one may have the name by now.
        return now is not None and now.enabled and now.id == user.id

    def _look(self) -> None:
        self._timer = None
        changes = self._directory.changes()
        if changes != self._seen:
            self._seen = changes
            self._left = [user for user, _ in self._inside.values()]
        for user in self._left[:SLICE]:
            if not self._admits(user):
                self._out(user)
        del self._left[:SLICE]
        if self._inside and self._timer is None:
            pause = PAUSE if self._left else LOOK_EVERY
            self._timer = self._reactor.callLater(pause, self._look)

    def _out(self, user: User) -> None:
        _, sessions = self._inside.pop(user.id, (user, {}))
        for ended in sessions.values():
            ended()


def _nothing() -> None:
    """Nothing is watched."""
