"""A worker's event loop: Twisted's epoll reactor, with less between the kernel's word and who reads.

Twisted calls each selectable in a logging context of its own, for programs that ask the log who was at work: as many
instructions as reading costs itself. Nothing here asks. All else is the epoll reactor's: what goes wrong in a read is
logged and ends that connection; who leaves in the midst of a round is not called any more.

Of Twisted's own it touches what `EPollReactor.doPoll` touches; where that is not there, Twisted's reactor it is.
"""

from __future__ import annotations

from select import EPOLLIN
from typing import Any, Final

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.logger import Logger

__all__ = ["LeanEpollReactor", "install"]

_USED: Final = ("_poller", "_selectables", "_doReadOrWrite", "_disconnectSelectable")

_log = Logger()


class LeanEpollReactor(EPollReactor):
    """`EPollReactor` without a logging context for each event."""

    def doPoll(self, timeout: float | None) -> None:
        this: Any = self
        selectables = this._selectables
        # PEP 475: a signal does not end the wait; the waker's descriptor does.
        events = this._poller.poll(-1 if timeout is None else timeout, len(selectables))
        for fd, event in events:
            # who was there when the kernel was asked may have gone since
            selectable = selectables.get(fd)
            if selectable is None:
                continue
            if event == EPOLLIN:
                try:
                    why = selectable.doRead()
                except BaseException as error:
                    _log.failure("failure while reading")
                    why = error
                if why:
                    this._disconnectSelectable(selectable, why, True)
            else:
                this._doReadOrWrite(selectable, fd, event)

    doIteration = doPoll


def install() -> None:
    """Make it the reactor; Twisted's own where that is not made as this one expects. Raises
    `twisted.internet.error.ReactorAlreadyInstalledError`.
    """
    lean: Any = LeanEpollReactor()  # type: ignore[no-untyped-call]
    installReactor(lean if all(hasattr(lean, name) for name in _USED) else EPollReactor())
