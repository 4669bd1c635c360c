"""Reports to other sites: what `service` joins to count what is worth one, and to send it. See `[reports]`.

Nothing is counted of a kind that is not to be sent. `dmarc` is for who judges mail, `tls` for who sends it; both are
None when not wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from . import __version__
from .config import Config
from .reports.counting import Counter, DmarcCounts, TlsCounts
from .resolving import SharedResolver
from .storage.report_counts import ReportCounts
from .world import World

if TYPE_CHECKING:
    from .policy.organization import Organizations
    from .reports.sending import Door, Post, Reporter, ReportSettings

__all__ = ["Reporting"]

FILE: Final = "reports.sqlite3"


class Reporting:
    """For the site that `config` describes. Counts from the beginning, sends after `start`."""

    def __init__(self, config: Config, world: World, resolver: SharedResolver) -> None:
        self._config = config
        self._world = world
        self._resolver = resolver
        self._reporter: Reporter | None = None
        self._file: ReportCounts | None = None
        self._counter: Counter | None = None
        self.dmarc: DmarcCounts | None = None
        self.tls: TlsCounts | None = None
        reports, checks = config.reports, config.checks
        dmarc = reports.dmarc and checks.enabled and checks.dmarc != "off"
        if not (dmarc or reports.tls):
            return
        self._file = ReportCounts(world.disk, str(config.data / FILE))
        self._counter = Counter(world, self._file)
        if dmarc:
            self.dmarc = DmarcCounts(self._counter, checks.dmarc_discovery)
        if reports.tls:
            self.tls = TlsCounts(self._counter)

    def start(self, door: Door, post: Post | None = None) -> None:
        """Send from now on, through `door`; over https by `post`. Where the queue runs, so in one process."""
        if self._file is None or self._counter is None or not self._config.queue.run:
            return
        # Lean import: for the process that sends them.
        from .reports.sending import Reporter

        self._reporter = Reporter(
            self._world,
            self._file,
            self._counter,
            door,
            self._resolver(),
            self._organizations(),
            report_settings(self._config),
            post,
        )
        self._reporter.start()

    async def stop(self) -> None:
        """Send nothing more. What is counted goes on being counted."""
        reporter, self._reporter = self._reporter, None
        if reporter is not None:
            await reporter.stop()

    async def close(self) -> None:
        """Write what was counted and let go of the file."""
        await self.stop()
        counter, self._counter = self._counter, None
        if counter is not None:
            await counter.stop()
        if self._file is not None:
            await self._world.threads.call(self._file.close)

    def _organizations(self) -> Callable[[], Organizations]:
        from .policy.organization import SuffixList, TreeWalk

        resolver = self._resolver()
        if self._config.checks.dmarc_discovery == "tree":
            return lambda: TreeWalk(resolver)
        return lambda: SuffixList(resolver)


def report_settings(config: Config) -> ReportSettings:
    """Who reports, by the configuration."""
    from .reports.sending import ReportSettings

    reports = config.reports
    return ReportSettings(
        config.hostname,
        reports.sender or f"noreply-reports@{config.hostname}",
        reports.organization or config.hostname,
        reports.contact,
        f"twisted-mail-server {__version__}",
    )
