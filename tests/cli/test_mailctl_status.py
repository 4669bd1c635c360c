"""``mailctl status``: beside a server that runs, one that hangs, and none."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from twisted.python.runtime import seconds

from twisted_mail.cli import mailctl
from twisted_mail.processes import ProcessReporter
from twisted_mail.testing import SimulatedWorld, simulated_world


def run(*arguments: str) -> Result:
    return CliRunner().invoke(mailctl, ["status", *arguments])


class Server:
    """A process that writes what a server does."""

    def __init__(self, data: Path, role: str, start: float) -> None:
        data.mkdir(exist_ok=True)
        self.world: SimulatedWorld = simulated_world(start=start)
        self.reporter = ProcessReporter(
            self.world, str(data), role, version="9.9", restarts=lambda: 3
        )
        self.reporter.start()

    def stop(self) -> None:
        self.world.run(self.reporter.stop())


@pytest.fixture
def server(empty_site: Path) -> Any:
    servers: list[Server] = []

    def start(role: str = "server", ago: float = 300.0, until: float = 0.0) -> Server:
        """One that began so many seconds `ago`, and last wrote `until` so many seconds ago."""
        server = Server(empty_site / "data", role, seconds() - ago)
        servers.append(server)
        server.world.counters.messages_in = 5
        for _ in range(round((ago - until) * 2)):
            server.world.reactor.advance(0.5)
        return server

    yield start
    for one in servers:
        one.stop()


def test_where_there_is_no_server(empty_site: Path) -> None:
    (empty_site / "data").mkdir()
    found = run()
    assert found.exit_code == 1
    assert found.stdout.splitlines() == [
        "mail.example.org does not run",
        "journal 0 B; queue 0 messages (0 B)",
    ]
    found = run("--json")
    assert found.exit_code == 1
    value = json.loads(found.stdout)
    assert (value["up"], value["since"], value["processes"]) == (False, None, [])


def test_a_server_that_runs(server: Any, empty_site: Path) -> None:
    one = server()
    one.world.counters.logins += 120
    one.world.reactor.rightNow = one.world.reactor.getDelayedCalls()[0].getTime() + 0.35
    for _ in range(20):
        one.world.reactor.advance(0.1)
    spill = empty_site / "data" / "journal" / "spill"
    spill.mkdir(parents=True)
    (spill / "x").write_bytes(bytes(1536))
    (spill.parent / "1.log").write_bytes(bytes(512))
    found = run()
    assert found.exit_code == 0, found.output
    first, headings, row, last = found.stdout.splitlines()
    assert first.startswith("mail.example.org is up since 20")
    assert first.endswith("(5 min), version 9.9")
    values = dict(zip(headings.split("\t"), row.split("\t"), strict=True))
    assert values["process"] == "server"
    assert values["pid"] == str(os.getpid())
    assert values["connections"] == "0"
    assert values["logins/s"] == "2.0"
    assert values["lag"] == "350 ms"
    assert values["restarts"] == "3"
    assert values["memory"].endswith("MiB")
    assert last == "journal 2.0 KiB; queue 0 messages (0 B)"


def test_for_programs(server: Any) -> None:
    server("main")
    value = json.loads(run("--json").stdout)
    assert value["up"]
    assert value["hostname"] == "mail.example.org"
    assert value["queue"] == {"messages": 0, "octets": 0}
    (process,) = value["processes"]
    assert process["role"] == "main"
    assert process["totals"]["messages_in"] == 5
    assert process["silent_seconds"] == 0
    assert set(process["a_second"]) == set(process["totals"])
    assert process["memory_octets"] > 0


def test_a_process_that_hangs_is_told(server: Any) -> None:
    server("main", until=40)
    found = run()
    assert found.exit_code == 0
    assert "hangs" in found.stdout.splitlines()[2].split("\t")
    assert f"main (process {os.getpid()}) has said nothing for 4" in found.stdout
    assert json.loads(run("--json").stdout)["processes"][0]["silent_seconds"] == pytest.approx(
        40, abs=4
    )


def test_workers_that_have_outlived_the_main_process(server: Any) -> None:
    server("worker 2")
    found = run()
    assert found.exit_code == 1
    assert "does not run" in found.stdout
    assert "the main process is gone" in found.stdout


def test_where_there_is_no_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run().exit_code == 2
