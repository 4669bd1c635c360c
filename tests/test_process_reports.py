"""What a process writes of itself, and what others read of it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import capturedLogs

from twisted_mail.disk import OsDisk
from twisted_mail.processes import BLOCK, ProcessReporter, read_reports
from twisted_mail.testing import SimulatedWorld, simulated_world


class Site:
    def __init__(self, data: Path) -> None:
        self.world: SimulatedWorld = simulated_world()
        self.data = str(data)
        self.path = data / "processes" / str(os.getpid())
        self.reporter = ProcessReporter(self.world, self.data, "main", version="1.2")

    def advance(self, seconds: float) -> None:
        """In steps, as a loop that has nothing else to do."""
        for _ in range(round(seconds * 10)):
            self.world.reactor.advance(0.1)

    def report(self) -> Any:
        (report,) = read_reports(OsDisk(), self.data)
        return report

    def stop(self) -> None:
        self.world.run(self.reporter.stop())


@pytest.fixture
def site(tmp_path: Path) -> Any:
    site = Site(tmp_path)
    yield site
    site.stop()


def test_a_process_tells_who_it_is_at_once(site: Site) -> None:
    begun = site.world.now()
    site.reporter.start()
    site.world.reactor.advance(0)
    report = site.report()
    assert (report.pid, report.role, report.version) == (os.getpid(), "main", "1.2")
    assert report.started == report.written == begun
    assert report.memory > 1_000_000
    assert 0 < report.share <= report.memory
    site.advance(7)
    assert site.report().written == pytest.approx(begun + 7, abs=1.1)


def test_rates_are_of_the_last_minute(site: Site) -> None:
    counters = site.world.counters
    site.reporter.start()
    counters.messages_in += 60
    site.advance(30)
    assert site.report().rates["messages_in"] == pytest.approx(2, rel=0.1)
    for _ in range(30):
        counters.logins += 4
        site.advance(1)
    report = site.report()
    assert report.rates["messages_in"] == pytest.approx(1, rel=0.1)
    assert report.rates["logins"] == pytest.approx(2, rel=0.1)
    site.advance(65)
    report = site.report()
    assert report.rates["messages_in"] == report.rates["logins"] == 0
    assert report.totals["messages_in"] == 60
    assert report.totals["logins"] == 120


def test_connections_are_told_by_protocol(site: Site) -> None:
    class Factory:
        name = "imap"
        connections: Any = ()

    class Connection:
        bytes_read, bytes_written = 3000, 60_000

    factory = Factory()
    site.world.counters.serve(factory)
    site.reporter.start()
    site.advance(2)
    factory.connections = [Connection(), Connection()]
    site.advance(2)
    report = site.report()
    assert report.connections == {"imap": 2}
    assert report.totals["bytes_out"] == 120_000
    assert report.rates["bytes_in"] > 0


def test_the_lag_is_the_longest_of_the_last_minute(site: Site) -> None:
    site.reporter.start()
    site.advance(3)
    assert site.report().lag == 0
    # The loop is held up: its timer comes late
    site.world.reactor.rightNow += 0.35
    site.advance(2)
    assert site.report().lag == pytest.approx(0.35, abs=0.11)
    site.advance(70)
    assert site.report().lag == 0


def test_who_stops_takes_its_file_away(site: Site) -> None:
    site.reporter.start()
    site.advance(1)
    assert site.path.exists()
    site.stop()
    assert not site.path.exists()
    assert read_reports(OsDisk(), site.data) == []
    assert not site.world.reactor.getDelayedCalls()
    site.reporter = ProcessReporter(site.world, site.data, "main")


def test_a_dead_process_is_not_told_of_and_is_cleared_away(site: Site) -> None:
    site.reporter.start()
    site.advance(1)
    dead = site.path.with_name("4194399")
    dead.write_bytes(site.path.read_bytes())
    assert [report.pid for report in read_reports(OsDisk(), site.data)] == [os.getpid()]
    site.stop()
    site.reporter = ProcessReporter(site.world, site.data, "main")
    site.reporter.start()
    site.advance(1)
    assert not dead.exists()


def test_one_that_has_only_just_begun(site: Site, tmp_path: Path) -> None:
    site.reporter.start()
    site.advance(1)
    other = site.path.with_name("4194399")
    with other.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        reports = read_reports(OsDisk(), site.data)
        assert [(one.pid, one.role, one.written > 0) for one in reports] == [
            (os.getpid(), "main", True),
            (4194399, "starts", False),
        ]
        # A part of a block
        held.write(site.path.read_bytes()[:100])
        held.flush()
        assert read_reports(OsDisk(), site.data)[1].role == "starts"


def test_its_files_are_nobody_elses(site: Site) -> None:
    site.reporter.start()
    site.advance(2)
    assert site.path.stat().st_mode & 0o777 == 0o600
    assert site.path.parent.stat().st_mode & 0o777 == 0o700
    assert site.path.stat().st_size == BLOCK


def test_a_disk_that_fails_is_told_once_and_tried_again(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (tmp_path / "processes").write_text("in the way")
    with capturedLogs() as events:
        site.reporter.start()
        site.advance(5)
    assert len([event for event in events if "mailctl status" in event["log_format"]]) == 1
    (tmp_path / "processes").unlink()
    site.advance(2)
    assert site.report().role == "main"
    site.stop()


def test_the_order_is_main_and_workers_by_number(tmp_path: Path) -> None:
    directory = tmp_path / "processes"
    directory.mkdir()
    held = []
    site = Site(tmp_path)
    for number, role in enumerate(("worker 10", "worker 2", "main"), 4194301):
        site.reporter = ProcessReporter(site.world, site.data, role)
        site.reporter.start()
        site.advance(1)
        block = site.path.read_bytes()
        site.stop()
        file = (directory / str(number)).open("wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(block)
        file.flush()
        held.append(file)
    roles = [report.role for report in read_reports(OsDisk(), site.data)]
    for file in held:
        file.close()
    assert roles == ["main", "worker 2", "worker 10"]
