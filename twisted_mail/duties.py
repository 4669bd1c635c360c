"""What is done once a site: the queue, reports, the certificate's renewal, the web ports.

In the process that serves when it is alone, else in the one that has the workers. `rooms` opened with ``duties=True``
has the rest of it: what policies remember is written there, and old signing keys go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from .connection.tls import ServerTls
from .factories import make_web
from .rooms import Rooms

if TYPE_CHECKING:
    from .acme.site import SiteCertificates
    from .web.server import WebFactory

__all__ = ["Duties"]

_log = Logger()


class Duties:
    """Over `rooms`. `addresses`: of all listeners; `certificates`: None where no CA is asked."""

    def __init__(
        self,
        rooms: Rooms,
        tls: ServerTls,
        certificates: SiteCertificates | None,
        addresses: Sequence[tuple[str, str]],
    ) -> None:
        self._rooms = rooms
        self._certificates = certificates
        self.factories: dict[str, WebFactory] = make_web(
            rooms.config, rooms.world, tls, certificates, addresses
        )
        """One for each name of [listen] that is of the web, if any is used."""

    def start(self, renewed: Callable[[], object]) -> None:
        """Begin. `renewed` is called when there is a new certificate of the CA."""
        rooms = self._rooms
        sending, intake = rooms.sending, rooms.intake
        sending.start(rooms.store, intake)
        rooms.reporting.start(intake.notices, None if sending.post is None else sending.post.post)
        if self._certificates is not None:
            self._certificates.start(renewed)

    def reload(self) -> None:
        """Read again whom certificates of other servers are believed from."""
        self._rooms.sending.reload()

    def stop(self) -> Sequence[Deferred[None]]:
        """Begin nothing more; fire when what was begun is over. What is not sent waits for the next one."""
        return [
            *(factory.drain() for factory in self.factories.values()),
            *(Deferred.fromCoroutine(one) for one in (self._stop(), self._rooms.reporting.stop())),
        ]

    async def stop_renewal(self) -> None:
        """Ask the CA nothing more."""
        certificates, self._certificates = self._certificates, None
        if certificates is not None:
            await certificates.stop()

    def abort_all(self) -> None:
        """Cut the connections of the web ports."""
        for factory in self.factories.values():
            factory.abort_all()

    async def _stop(self) -> None:
        try:
            await self._rooms.sending.stop()
        except Exception:
            _log.failure("the queue did not stop well; nothing of it is lost")
