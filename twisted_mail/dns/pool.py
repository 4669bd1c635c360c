"""Threads for questions to the DNS: `Pool`.

They are not those of `World`: a dead zone keeps a thread for seconds, and must not stop what is done on the disk.
They are made when they are needed, at most `size`, end when there was nothing to do for a while, and are daemons: a
question under way does not hold up the end of the process. Starting one takes long for who starts it (it waits for
it); of many that are needed the reactor's thread starts the first, and each of them the next.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

__all__ = ["Pool"]

T = TypeVar("T")

_IDLE = 30.0  # seconds until a thread without work ends


class Pool:
    """At most `size` threads. `back` is the reactor's ``callFromThread``: it brings results to the reactor's thread."""

    def __init__(self, back: Callable[..., object], size: int, *, idle: float = _IDLE) -> None:
        self._back = back
        self._size = size
        self._patience = idle
        self._work: deque[tuple[Callable[[], Any], Deferred[Any]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._idle = 0
        self._starting = False
        self.threads = 0
        """How many there are now."""

    def call(self, work: Callable[[], T]) -> Deferred[T]:
        """Run `work` in a thread; fires on the reactor's thread, and never once the pool is closed."""
        done: Deferred[T] = Deferred()
        with self._changed:
            if self._closed:
                return done
            self._work.append((work, done))
            if self._idle >= len(self._work):
                self._changed.notify()
            elif self.threads < self._size and not self._starting and not self._start():
                self._work.pop()
                done.errback(RuntimeError("no thread can be started"))
        return done

    def close(self) -> None:
        """Nothing new is begun; each thread ends with what it does. Does not wait. May be called twice."""
        with self._changed:
            self._closed = True
            self._work.clear()
            self._changed.notify_all()

    def _start(self) -> bool:
        """One thread more; False when there is none at all."""
        self.threads += 1
        self._starting = True
        try:
            threading.Thread(target=self._run, name="dns", daemon=True).start()
        except RuntimeError:  # the system has no more: those that there are must do
            self.threads -= 1
            self._starting = False
        return self.threads > 0

    def _run(self) -> None:
        with self._changed:
            self._starting = False
            # One for itself, and one more for those behind.
            if len(self._work) > self._idle + 1 and self.threads < self._size:
                self._start()
        while (next_ := self._take()) is not None:
            work, done = next_
            try:
                result = work()
            except BaseException:
                self._hand_back(done.errback, Failure())
            else:
                self._hand_back(done.callback, result)

    def _take(self) -> tuple[Callable[[], Any], Deferred[Any]] | None:
        """What to do next; None: the thread is to end, and is no longer counted."""
        with self._changed:
            while not self._work:
                waited = False
                if not self._closed:
                    self._idle += 1
                    waited = self._changed.wait(self._patience)
                    self._idle -= 1
                if not waited and not self._work:
                    self.threads -= 1
                    return None
            return self._work.popleft()

    def _hand_back(self, fire: Callable[[Any], None], result: object) -> None:
        if not self._closed:  # else the reactor may be gone, and nobody waits
            self._back(fire, result)
