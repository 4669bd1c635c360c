"""Owners of accounts that were slowed down are told, and so is who looks after the server: `policy.senders.Teller`."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..accounts.directory import Directory
from ..address import Address
from ..policy.senders import Alarm, Senders
from ..policy.warning import compose_warning
from ..world import World
from .notices import Notices

__all__ = ["Alarms"]

_log = Logger()


class Alarms:
    """`notices` and `senders` are joined when they are there; until then the log alone is told."""

    def __init__(self, world: World, directory: Directory, hostname: str) -> None:
        self._world = world
        self._directory = directory
        self._hostname = hostname
        self.notices: Notices | None = None
        self.senders: Senders | None = None

    def slowed(self, alarm: Alarm) -> None:
        """Once when an account becomes slow."""
        _log.warn(
            "{account} is slowed, it may be sending spam: {cause}",
            account=alarm.account,
            cause=alarm.cause,
        )
        responsible = self._directory.login_address("postmaster")
        told = {alarm.account: True}
        if responsible is not None:
            told.setdefault(f"postmaster@{responsible.domain}", False)
        for to, owner in told.items():
            Deferred.fromCoroutine(self._tell(alarm, to, owner)).addErrback(_not_told, to)

    async def _tell(self, alarm: Alarm, to: str, owner: bool) -> None:
        if self.notices is None:
            return
        content = compose_warning(
            alarm,
            to=to,
            sender=f"postmaster@{to.rpartition('@')[2]}",
            hostname=self._hostname,
            unique=self._world.entropy(12).hex(),
            now=self._world.now(),
            owner=owner,
        )
        await self.notices.notify((), to, content)

    def bounced(self, sender: Address, count: int) -> None:
        """Mail of `sender` was refused for good by its destinations: `delivery.notices.Bounced`."""
        if self.senders is None:
            return
        expansion = self._directory.expand(sender)
        if expansion is None or len(expansion.locals) != 1 or expansion.remote:
            return  # not one user's own address
        for _ in range(count):
            self.senders.refused(str(expansion.locals[0].address))


def _not_told(failure: Failure, to: str) -> None:
    _log.error("{to} could not be told: {error}", to=to, error=str(failure.value))
