"""systemd hears what is true: up when it serves, alive while its loop turns, and nothing from anybody else."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.python import log

from twisted_mail.service_manager import ServiceManager


class Systemd:
    """The socket at `place`, and what came there."""

    def __init__(self, place: str) -> None:
        self.end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.end.bind("\0" + place[1:] if place.startswith("@") else place)
        self.end.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": place, "HOME": "/"}

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self.end.recv(4096).decode())
            except BlockingIOError:
                return found


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(str(tmp_path / "notify"))
    yield made
    made.end.close()


def manager(systemd: Systemd, clock: Clock | None = None, **more: str) -> ServiceManager:
    systemd.environment.update(more)
    return ServiceManager(clock or Clock(), systemd.environment, pid=7, microseconds=lambda: 1234)


def test_a_life(systemd: Systemd) -> None:
    one = manager(systemd)
    assert systemd.heard() == []
    one.ready("six ports")
    assert systemd.heard() == ["READY=1\nSTATUS=six ports"]
    one.reloading()
    one.reloaded()
    assert systemd.heard() == ["RELOADING=1\nMONOTONIC_USEC=1234", "READY=1"]
    one.stopping()
    (last,) = systemd.heard()
    assert last.startswith("STOPPING=1\nSTATUS=")


def test_a_change_while_it_starts_is_part_of_the_start(systemd: Systemd) -> None:
    one = manager(systemd)
    one.reloading()
    one.reloaded()
    assert systemd.heard() == []


def test_a_change_that_comes_to_its_end_after_the_server_is_no_news(systemd: Systemd) -> None:
    one = manager(systemd)
    one.ready()
    one.reloading()
    one.stopping()
    systemd.heard()
    one.reloaded()
    assert systemd.heard() == []


def test_no_child_speaks_for_it(systemd: Systemd) -> None:
    manager(systemd, WATCHDOG_USEC="1000000", WATCHDOG_PID="7")
    assert systemd.environment == {"HOME": "/"}


def test_alive_twice_in_the_time_it_has(systemd: Systemd) -> None:
    clock = Clock()
    one = manager(systemd, clock, WATCHDOG_USEC="20000000", WATCHDOG_PID="7")
    clock.advance(30)
    assert systemd.heard() == [], "while it starts it has the time that a start has"
    one.ready()
    assert systemd.heard() == ["READY=1", "WATCHDOG=1"]
    clock.advance(9.9)
    assert systemd.heard() == []
    clock.advance(0.1)
    assert systemd.heard() == ["WATCHDOG=1"]
    one.ready()
    clock.advance(10)
    assert systemd.heard() == ["READY=1", "WATCHDOG=1"], "one timer, however often it is ready"
    one.stopping()
    systemd.heard()
    clock.advance(10)
    assert systemd.heard() == ["WATCHDOG=1"]
    one.stop()
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "8"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "soon"},
    ],
)
def test_no_watchdog(systemd: Systemd, more: dict[str, str]) -> None:
    clock = Clock()
    manager(systemd, clock, **more).ready()
    assert systemd.heard() == ["READY=1"]
    assert not clock.getDelayedCalls()


def test_a_status_is_one_line_and_bounded(systemd: Systemd) -> None:
    manager(systemd).ready("a\nSTOPPING=1" + "x" * 1000)
    (told,) = systemd.heard()
    ready, status = told.split("\n")
    assert ready == "READY=1"
    assert status.startswith("STATUS=a STOPPING=1")
    assert len(status) < 300


def test_an_abstract_socket() -> None:
    systemd = Systemd(f"@twisted-mail-test-{os.getpid()}")
    try:
        manager(systemd).ready()
        assert systemd.heard() == ["READY=1"]
    finally:
        systemd.end.close()


@pytest.mark.parametrize("named", ["", "vsock:2:1234", "relative"])
def test_nobody_to_tell(named: str) -> None:
    clock = Clock()
    one = ServiceManager(clock, {"NOTIFY_SOCKET": named, "WATCHDOG_USEC": "1000000"})
    one.ready()
    one.stopping()
    one.stop()
    assert not clock.getDelayedCalls()


def test_what_cannot_be_told_is_said_once(tmp_path: Path) -> None:
    said: list[str] = []

    def observer(event: dict[str, object]) -> None:
        said.append(str(event.get("log_format")))

    log.addObserver(observer)
    try:
        one = ServiceManager(Clock(), {"NOTIFY_SOCKET": str(tmp_path / "nobody")})
        one.ready()
        one.stopping()
    finally:
        log.removeObserver(observer)
    assert said == ["systemd is not told: {error}"]


def test_a_socket_that_is_full_holds_nobody_up(systemd: Systemd) -> None:
    one = manager(systemd)
    for _ in range(5000):
        one.ready()
    assert systemd.heard()
