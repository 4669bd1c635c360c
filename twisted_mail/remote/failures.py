"""What went wrong with the hosts of one destination, and which of it is told: the most telling, in plain words."""

from __future__ import annotations

from typing import Final

from ..queue.interfaces import DestinationError
from ..smtp.client.interfaces import SessionError
from .tls_policy import Unusable

__all__ = ["Failures", "of_policy", "of_session"]

_UNREACHED: Final = 1
_POLICY: Final = 2
_SAID: Final = 3


class Failures:
    """Collects them for one `open`, in the order of the hosts."""

    def __init__(self) -> None:
        self._worst: DestinationError | None = None
        self._rank = 0
        self._all_permanent = True
        self.sessions = 0
        """How many connections began to talk."""

    def note(self, error: DestinationError) -> None:
        """What a host said tells more than what we would not do, and that more than silence; the last of equals."""
        rank = _UNREACHED
        if error.said:
            rank = _SAID
        elif error.enhanced[1:4] == ".7.":
            rank = _POLICY
        self._all_permanent = self._all_permanent and error.permanent
        if rank >= self._rank:
            self._worst, self._rank = error, rank

    def final(self, *, complete: bool) -> DestinationError:
        """The error of the destination. `complete`: every host was tried; else nothing is for ever."""
        error = self._worst
        if error is None:
            return DestinationError("no host could be tried", enhanced="4.4.1")
        permanent = complete and self._all_permanent
        return DestinationError(
            error.text,
            permanent=permanent,
            enhanced=error.enhanced if permanent else _soft(error.enhanced),
            code=error.code,
            host=error.host,
            address=error.address,
            tls=error.tls,
            said=error.said,
        )


def of_session(error: SessionError, host: str, address: str, tls: str = "") -> DestinationError:
    """A connection that could not be made, or that ended before there was a message."""
    reply = error.reply
    if reply is None:
        return DestinationError(error.text, enhanced="4.4.1", host=host, address=address, tls=tls)
    # RFC 7504 section 3: 521 is "never", wherever it comes; all other refusals at this point are tried again,
    # as most of them are about us (a block list, say), and somebody may mend it.
    permanent = reply.code == 521
    return DestinationError(
        reply.text,
        permanent=permanent,
        enhanced=reply.enhanced or "5.3.2",
        code=reply.code,
        host=host,
        address=address,
        tls=tls,
        said=reply.said,
    )


def of_policy(error: Unusable, host: str, address: str = "", tls: str = "") -> DestinationError:
    """A host that must not have the mail."""
    return DestinationError(
        error.text,
        permanent=error.permanent,
        enhanced=error.enhanced,
        host=host,
        address=address,
        tls=tls,
    )


def _soft(enhanced: str) -> str:
    return "4" + enhanced[1:]
