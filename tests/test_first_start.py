"""`first_start`: the user of the start without configuration, and what is printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from twisted_mail.accounts.directory import Directory
from twisted_mail.accounts.passwords import Cost, hash_password, verify_password
from twisted_mail.address import Address
from twisted_mail.first_start import FirstStart
from twisted_mail.testing.world import simulated_world

ALICE = Address("alice", "localhost")
LISTENERS = [("submissions", "127.0.0.1:2465"), ("pop3s", "127.0.0.1:2995")]


@pytest.fixture
def world():
    return simulated_world()


@pytest.fixture
def directory(tmp_path, world):
    directory = Directory(str(tmp_path / "accounts.sqlite3"), now=world.now)
    yield directory
    directory.close()


def lines_of(world, directory, cwd=Path("/home/alice"), certs=Path("/home/alice/certs")):
    first = FirstStart(world)
    done = Deferred.fromCoroutine(first.prepare(directory))
    world.reactor.settle()
    assert done.called and done.result is None
    return first.lines(certs / "ca.pem", LISTENERS, cwd)


def test_the_first_start_prints_everything_to_begin_with(world, directory):
    lines = lines_of(world, directory)
    password = lines[1].removeprefix("password: ")
    login = f"--user 'alice@localhost:{password}'"
    assert lines == [
        "user: alice@localhost",
        f"password: {password}",
        "ca: certs/ca.pem",
        "submissions: 127.0.0.1:2465",
        "pop3s: 127.0.0.1:2995",
        r"printf 'From: alice@localhost\r\nTo: alice@localhost\r\nSubject: Hello\r\n\r\nIt works.\r\n'"
        f" | curl -sS --cacert certs/ca.pem {login} --mail-from alice@localhost"
        " --mail-rcpt alice@localhost --upload-file - smtps://localhost:2465",
        f"curl -sS --cacert certs/ca.pem {login} pop3s://localhost:2995/1",
    ]
    assert re.fullmatch("[a-z2-7]{4}(-[a-z2-7]{4}){3}", password)
    record = directory.password(directory.user(ALICE))
    assert verify_password(record.argon2, password)


def test_later_starts_print_neither_password_nor_commands(world, directory):
    lines_of(world, directory)
    assert lines_of(world, directory) == [
        "user: alice@localhost", "ca: certs/ca.pem",
        "submissions: 127.0.0.1:2465", "pop3s: 127.0.0.1:2995",
    ]  # fmt: skip


def test_each_site_has_its_own_password(world, tmp_path):
    passwords = set()
    for name in ("one", "two"):
        directory = Directory(str(tmp_path / name), now=world.now)
        passwords.add(lines_of(world, directory)[1])
        directory.close()
    assert len(passwords) == 2


def test_nobody_is_added_to_those_who_are_there(world, directory):
    directory.add_domain("example.org")
    bob = Address("bob", "example.org")
    directory.add_user(bob, hash_password("secret", world.entropy, Cost(8, 1, 1, 4096)))
    lines = lines_of(world, directory)
    assert lines[0] == "ca: certs/ca.pem"
    assert [user.address for user in directory.users()] == [bob]


def test_a_domain_that_is_there_is_kept(world, directory):
    directory.add_domain("localhost")
    assert lines_of(world, directory)[0] == "user: alice@localhost"


def test_from_another_directory_the_path_is_whole_and_quoted(world, directory):
    lines = lines_of(world, directory, certs=Path("/srv/my mail/certs"))
    assert lines[2] == "ca: /srv/my mail/certs/ca.pem"
    words = shlex.split(lines[-1])
    assert words[words.index("--cacert") + 1] == "/srv/my mail/certs/ca.pem"
