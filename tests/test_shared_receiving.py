"""What policies remember, in the process that keeps the file and in one that serves beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from twisted_mail.config import Config, default
from twisted_mail.disk import OsDisk
from twisted_mail.receiving import Receiving
from twisted_mail.resolving import SharedResolver
from twisted_mail.site import make_data
from twisted_mail.storage.reputation import Reputation
from twisted_mail.testing import SimulatedWorld, simulated_world
from twisted_mail.testing.siblings import SharedSite

CLIENT = "198.51.100.7"


class Site:
    """The main process, and as many workers as are started."""

    def __init__(self, data: Path) -> None:
        self.config: Config = default(data)
        make_data(self.config, OsDisk())
        self.shared = SharedSite()
        self.main_world = self.shared.join(simulated_world())
        self.main = self.start(self.main_world, duties=True)
        self.alarms: list[Any] = []

    def worker(self) -> Receiving:
        return self.start(self.shared.join(self.main_world.at("192.0.2.1")), duties=False)

    def start(self, world: SimulatedWorld, *, duties: bool) -> Receiving:
        receiving = Receiving(
            self.config,
            world,
            SharedResolver(self.config.dns, world),
            draft=lambda: pytest.fail("no mail here"),
            secret=b"the site's own",
            duties=duties,
        )
        world.run(receiving.start())
        return receiving

    def stop(self, receiving: Receiving) -> None:
        self.main_world.run(receiving.stop())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def spent(receiving: Receiving) -> bool:
    """Whether the account may write no more."""
    return receiving.parts.rates.mail(CLIENT, "", "ada") is not None


def spend(receiving: Receiving) -> None:
    """Write as much as may be written at once."""
    assert not spent(receiving)
    assert any(spent(receiving) for _ in range(10_000))


def test_a_worker_that_starts_later_knows_what_was_written(site: Site) -> None:
    spend(site.main)
    site.main_world.reactor.advance(16)
    worker = site.worker()
    # One more has come in the meantime
    assert [spent(worker) for _ in range(2)] == [False, True]
    site.stop(worker)
    site.stop(site.main)


def test_what_a_worker_counts_is_written_by_the_main_process_alone(site: Site) -> None:
    worker = site.worker()
    spend(worker)
    assert worker.parts.rates.take() == []
    site.stop(worker)
    site.main_world.reactor.advance(0)
    site.stop(site.main)
    again = site.start(site.main_world, duties=True)
    assert spent(again)
    site.stop(again)


def test_who_is_forgiven_is_so_in_all_processes(site: Site, tmp_path: Path) -> None:
    worker = site.worker()
    spend(worker)
    site.main_world.reactor.advance(0)
    assert spent(worker)
    assert spent(site.main)
    file = Reputation(OsDisk(), str(site.config.data / "reputation.sqlite3"))
    file.forgive("ada", site.main_world.now())
    file.close()
    site.main_world.reactor.advance(16)
    # One has come by itself in the meantime
    assert [spent(worker) for _ in range(3)] == [False] * 3
    assert [spent(site.main) for _ in range(3)] == [False] * 3
    site.stop(worker)
    site.stop(site.main)


def test_a_damaged_file_keeps_no_worker_from_starting(site: Site) -> None:
    site.stop(site.main)
    (site.config.data / "reputation.sqlite3").write_bytes(b"no database" * 1000)
    worker = site.worker()
    assert not spent(worker)
    site.stop(worker)


def test_who_serves_alone_makes_no_news(site: Site, tmp_path: Path) -> None:
    alone = simulated_world()
    config = default(tmp_path / "alone")
    make_data(config, OsDisk())
    site.config = config
    receiving = site.start(alone, duties=True)
    assert receiving.parts.rates._siblings is None
    alone.run(receiving.stop())
    site.stop(site.main)
