"""What the tests of accounts share: cheap hashes, a directory, a portal over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from twisted_mail.accounts.directory import Directory
from twisted_mail.accounts.passwords import Cost, PasswordRecord, hash_password
from twisted_mail.testing.world import simulated_world
from twisted_mail.world import World


@pytest.fixture
def world() -> World:
    return simulated_world()


@pytest.fixture
def cost() -> Cost:
    return Cost(memory=8, passes=1, lanes=1, scram_iterations=4096)


@pytest.fixture
def record(world: World, cost: Cost) -> Callable[[str], PasswordRecord]:
    return lambda password: hash_password(password, world.entropy, cost)


OpenDirectory = Callable[..., Directory]


@pytest.fixture
def open_directory(tmp_path: Path, world: World) -> Iterator[OpenDirectory]:
    """Opens the one file of this test, as often as wanted: each is another process's view."""
    opened: list[Directory] = []

    def open_one(**options: str) -> Directory:
        path = str(tmp_path / "accounts.sqlite3")
        opened.append(Directory(path, now=world.now, entropy=world.entropy, **options))
        return opened[-1]

    yield open_one
    for directory in opened:
        directory.close()


@pytest.fixture
def directory(open_directory: OpenDirectory) -> Directory:
    made = open_directory()
    made.add_domain("example.org")
    return made
