"""What the processes of a site know together: limits that hold over all of them, and `mailctl status`."""

from __future__ import annotations

import imaplib
import json
import os
import poplib
import signal
import time
from typing import Any

import pytest
from mailsite import ALICE, DEADLINE, PASSWORD, Site, letter, until
from many import by_worker, serving, settled

pytestmark = pytest.mark.e2e


@pytest.fixture
def make(make_site: Any) -> Any:
    def make(extra: str = "") -> Site:
        """A running site with two workers."""
        site: Site = make_site(extra=extra)
        site.top = "workers = 2\n"
        site.write_configuration()
        site.start()
        until(lambda: len(serving(site)) == 2, "two workers serve")
        # those who looked whether it serves are counted, too, until they are gone
        until(lambda: settled(site), "nobody is connected")
        return site

    return make


def status(site: Site) -> dict[str, Any]:
    value = json.loads(site.mailctl("status", "--json", status=None).stdout)
    assert isinstance(value, dict)
    return value


def row(site: Site, role: str) -> dict[str, Any]:
    (found,) = [one for one in status(site)["processes"] if one["role"] == role]
    assert isinstance(found, dict)
    return found


def test_connections_from_one_address(make: Any) -> None:
    site = make("[limits]\nconnections_per_address = 7\n")
    before = len(site.log)
    held, said = [], []
    # One after the other: two workers who let somebody in in the same instant may both find room.
    for _ in range(12):
        held.append(site.connect("smtp"))
        said.append(held[-1].recv(3))
    assert said == [b"220"] * 7 + [b"421"] * 5
    assert len(by_worker(site.log[before:])) == 2
    # The room of one that goes is there for whoever comes next, at any worker
    held[said.index(b"220")].close()
    until(lambda: connected(site) == b"220", "room for one more")
    for one in held:
        one.close()


def connected(site: Site) -> bytes:
    with site.connect("smtp") as one:
        return one.recv(3)


def test_the_room_of_a_worker_that_is_killed_is_given_back(make: Any) -> None:
    site = make("[limits]\nconnections_per_address = 6\n")
    held = []
    for _ in range(6):  # one after the other, as above
        held.append(site.connect("smtp"))
        assert held[-1].recv(3) == b"220"
    held.append(site.connect("smtp"))
    assert held[-1].recv(3) == b"421"
    victims = serving(site)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    for one in held:
        one.close()
    until(lambda: len(set(serving(site)) - set(victims)) == 2, "two others serve")
    again = []

    def told() -> bytes:
        again.append(site.connect("smtp"))
        return again[-1].recv(3)

    # There may be room a little later than they are there, and then for all six.
    until(lambda: told() == b"220", "a new one lets clients in")
    assert [told() for _ in range(5)] == [b"220"] * 5
    assert told() == b"421"
    for one in again:
        one.close()


def test_sessions_of_one_account(make: Any) -> None:
    site = make("[imap]\nmax_sessions = 3\n")
    sessions = [
        imaplib.IMAP4_SSL("localhost", site.ports["imaps"], ssl_context=site.tls, timeout=DEADLINE)
        for _ in range(5)
    ]
    taken = 0
    for session in sessions:
        try:
            session.login(ALICE, PASSWORD)
            taken += 1
        except imaplib.IMAP4.error as error:
            assert "[LIMIT]" in str(error) or "many sessions" in str(error)
    assert taken == 3
    for session in sessions:
        session.shutdown()


def test_wrong_passwords_at_any_worker_slow_down_the_next(make: Any) -> None:
    site = make("[limits]\nlogin_delay_seconds = 0.1\nlogin_max_delay_seconds = 30.0\n")
    before = len(site.log)
    began = time.monotonic()
    sessions = []
    # Each on a connection of its own, beside those that there are: workers take turns
    for number in range(6):
        session = poplib.POP3_SSL(
            "localhost", site.ports["pop3s"], context=site.tls, timeout=DEADLINE
        )
        sessions.append(session)
        session.user(ALICE)
        with pytest.raises(poplib.error_proto):
            session.pass_(f"wrong {number}")  # the same one would count once
    # 0.1 + 0.2 + 0.4 + … 3.2; had each worker counted its own three, it were 2 × 0.7
    assert time.monotonic() - began >= 6
    assert len(by_worker(site.log[before:])) == 2
    for session in sessions:
        session.close()


def test_status_shows_the_processes(make: Any) -> None:
    site = make()
    until(lambda: len(status(site)["processes"]) == 3, "each has told of itself")
    value = status(site)
    assert value["up"]
    assert [one["role"] for one in value["processes"]] == ["main", "worker 1", "worker 2"]
    assert {one["pid"] for one in value["processes"][1:]} == set(serving(site))
    held = [site.connect("smtp") for _ in range(6)]
    for one in held:
        assert one.recv(3) == b"220"
    site.send("counted")
    totals: list[dict[str, int]] = []

    def told() -> bool:
        """By each of them, at a moment of its own."""
        processes = status(site)["processes"]
        totals[:] = [one["totals"] for one in processes]
        inside = sum(one["connections"].get("smtp", 0) for one in processes)
        return inside == 6 and sum(one["messages_in"] for one in totals) == 1

    until(told, "connections and messages are told")
    assert sum(one["octets_in"] for one in totals) >= len(letter("counted"))
    assert totals[0]["accepted"] == 0
    for one in held:
        one.close()

    victim = serving(site)[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: row(site, "main")["restarts"] == 1, "the restart is told")
    until(lambda: len(status(site)["processes"]) == 3, "another one is there")
    assert victim not in {one["pid"] for one in status(site)["processes"]}
    assert not (site.data / "processes" / str(victim)).exists()

    hung = serving(site)[0]
    os.kill(hung, signal.SIGSTOP)
    until(
        lambda: any(one["silent_seconds"] > 5 for one in status(site)["processes"]), "it is silent"
    )
    assert f"(process {hung}) has said nothing for" in site.mailctl("status").stdout
    os.kill(hung, signal.SIGCONT)
    until(lambda: all(not one["silent_seconds"] for one in status(site)["processes"]), "it goes on")

    site.stop()
    assert "does not run" in site.mailctl("status", status=1).stdout
    assert not list((site.data / "processes").iterdir())
