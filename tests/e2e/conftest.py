"""Fixtures of the end-to-end suite: a site of its own, a site for many tests, the clients this machine has."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mailsite import ALICE, BOB, LISTENERS, Site, program
from outside import Outside, Sites


@pytest.fixture(scope="session", autouse=True)
def no_proxy() -> None:
    """All is on this machine, whatever way its owner has to others: programs that would take it there are told so."""
    os.environ.update(no_proxy="*", NO_PROXY="*")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with its users that runs for the whole session; a test that uses it leaves alice's mail as it likes."""
    # nobody answers there: what is written to other sites stays in the queue
    no_dns = '[dns]\nservers = ["127.0.0.1:9"]\n'
    site = Site(tmp_path_factory.mktemp("site"), no_dns)
    site.add_users(ALICE, BOB)
    site.start()
    yield site
    site.close()


@pytest.fixture
def running(prepared: Site) -> Site:
    """The session's site, with alice's and bob's mailboxes empty."""
    for user in (ALICE, BOB):
        with prepared.pop(user) as session:
            for number in range(1, session.stat()[0] + 1):
                session.dele(number)
    return prepared


@pytest.fixture(scope="session")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory in which alice and bob have been made and nothing else has happened."""
    site = Site(tmp_path_factory.mktemp("accounts"))
    site.add_users(ALICE, BOB)
    return site.data


@pytest.fixture
def make_site(tmp_path: Path, accounts: Path) -> Iterator[Callable[..., Site]]:
    """Makes sites of the test's own with alice and bob, not started; ends what runs of them."""
    made: list[Site] = []

    def make(name: str = "site", *, extra: str = "") -> Site:
        site = Site(tmp_path / name, extra)
        made.append(site)
        shutil.copytree(accounts, site.data)
        return site

    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """A running site of the test's own, with alice and bob."""
    site = make_site()
    site.start()
    return site


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """What is between the sites that `sites` makes."""
    made = Outside(tmp_path_factory.mktemp("outside"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def known_accounts() -> dict[tuple[str, ...], Path]:
    return {}


@pytest.fixture(scope="module")
def sites(
    outside: Outside,
    tmp_path_factory: pytest.TempPathFactory,
    known_accounts: dict[tuple[str, ...], Path],
) -> Iterator[Sites]:
    """Makes sites that send to each other, for a module's tests."""
    made = Sites(outside, tmp_path_factory.mktemp("sites"), known_accounts)
    yield made
    made.close()


def missing(what: str) -> None:
    """Skip, visibly; fail where everything has to be there (CI)."""
    if os.environ.get("TWISTED_MAIL_E2E_REQUIRE"):
        pytest.fail(f"{what}, and TWISTED_MAIL_E2E_REQUIRE is set")
    pytest.skip(what)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """``@pytest.mark.needs("curl")``: what the test runs has to be on this machine (``python:`` and ``node:`` go
    before names of packages). Asked before fixtures are made."""
    for marker in item.iter_markers("needs"):
        for name in marker.args:
            if program(name) is None:
                missing(f"{name} is not installed")


@pytest.fixture
def default_ports() -> dict[str, int]:
    """The ports of the start without configuration, which have to be free."""
    ports = dict(zip(LISTENERS, (2525, 2587, 2465, 2110, 2995, 2143, 2993), strict=True))
    for name, port in ports.items():
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("127.0.0.1", port))
            except OSError as error:
                missing(f"port {port} ({name}) is not free: {error}")
    return ports
