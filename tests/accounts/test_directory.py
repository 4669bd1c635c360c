"""The directory: domains, users and aliases, seen by one process and by two."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.accounts.directory import (
    FRESH,
    Alias,
    Directory,
    DirectoryError,
    Expansion,
    User,
    mailbox_name,
)
from twisted_mail.accounts.expansion import MAX_EXPANSION
from twisted_mail.accounts.passwords import PasswordRecord
from twisted_mail.accounts.tables import Tables
from twisted_mail.address import Address
from twisted_mail.world import World

OpenDirectory = Callable[..., Directory]


def a(text: str) -> Address:
    return Address.parse(text)


@pytest.fixture
def secret(record: Callable[[str], PasswordRecord]) -> PasswordRecord:
    return record("sesame")


@pytest.fixture
def alice(directory: Directory, secret: PasswordRecord) -> User:
    return directory.add_user(a("alice@example.org"), secret)


@pytest.fixture
def bob(directory: Directory, alice: User, secret: PasswordRecord) -> User:
    return directory.add_user(a("Bob@example.org"), secret)


def refused(text: str) -> AbstractContextManager[object]:
    return pytest.raises(DirectoryError, match=re.escape(text))


def only(*users: User) -> Expansion:
    return Expansion(users, ())


# -- the file


def test_a_new_file_is_for_its_owner_only(directory: Directory, tmp_path: Path) -> None:
    for name in os.listdir(tmp_path):
        assert stat.S_IMODE(os.stat(tmp_path / name).st_mode) == 0o600


def test_it_syncs_what_it_commits(tmp_path: Path, world: World) -> None:
    tables = Tables(str(tmp_path / "accounts.sqlite3"), world.entropy)
    assert tables.db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert tables.db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    tables.db.close()


def test_a_newer_file_is_refused(tmp_path: Path, open_directory: OpenDirectory) -> None:
    open_directory().close()
    with closing(sqlite3.connect(tmp_path / "accounts.sqlite3")) as db, db:
        db.execute("PRAGMA user_version = 7")
    db.close()
    with pytest.raises(DirectoryError, match=r"newer version of twisted_mail \(schema 7; .* 2\)"):
        open_directory()


def test_another_file_is_refused(tmp_path: Path, open_directory: OpenDirectory) -> None:
    (tmp_path / "accounts.sqlite3").write_bytes(b"not a database, whatever it may be" * 99)
    with pytest.raises(DirectoryError, match=r"accounts\.sqlite3: file is not a database"):
        open_directory()


def test_an_empty_file_is_refused(tmp_path: Path, open_directory: OpenDirectory) -> None:
    (tmp_path / "accounts.sqlite3").touch()
    with refused("accounts.sqlite3 is not an accounts file of twisted_mail"):
        open_directory()


def test_two_may_make_the_file_at_once(tmp_path: Path, world: World) -> None:
    path = str(tmp_path / "accounts.sqlite3")
    other: list[bytes] = []

    def slow_entropy(size: int) -> bytes:
        if not other:
            other.append(b"")
            tables = Tables(path, world.entropy)
            other[0] = tables.secret
            tables.db.close()
        return world.entropy(size)

    tables = Tables(path, slow_entropy)
    assert tables.secret == other[0]
    tables.db.close()
    assert os.listdir(tmp_path) == ["accounts.sqlite3"]


def test_a_file_that_cannot_be_made_is_explained(tmp_path: Path, world: World) -> None:
    with refused("No such file or directory"):
        Directory(str(tmp_path / "missing" / "accounts.sqlite3"), now=world.now)


def test_the_secret_stays(open_directory: OpenDirectory) -> None:
    first = open_directory()
    assert len(first.secret) == 32
    first.close()
    assert open_directory().secret == first.secret


# -- domains


def test_domains(directory: Directory) -> None:
    assert directory.add_domain("BÜCHER.example") == "xn--bcher-kva.example"
    assert directory.domains() == ["example.org", "xn--bcher-kva.example"]
    assert directory.is_local_domain("xn--bcher-kva.example")
    directory.remove_domain("bücher.example")
    assert directory.domains() == ["example.org"]
    assert not directory.is_local_domain("xn--bcher-kva.example")


@pytest.mark.parametrize("name", ["", "a b", "-x.org", "a@b"])
def test_what_is_no_domain(directory: Directory, name: str) -> None:
    with refused("is not a domain"):
        directory.add_domain(name)


def test_a_domain_is_added_once_and_removed_empty(directory: Directory, alice: User) -> None:
    with refused("the domain example.org exists already"):
        directory.add_domain("Example.ORG")
    with refused("still has 1 users"):
        directory.remove_domain("example.org")
    with refused("there is no domain example.net; add it first"):
        directory.remove_domain("example.net")
    directory.add_alias("@example.org", [a("x@example.net")])
    directory.remove_user(alice.address)
    with refused("still has 1 aliases"):
        directory.remove_domain("example.org")


# -- users


def test_users(directory: Directory, world: World, secret: PasswordRecord) -> None:
    alice = directory.add_user(a("Alice@example.org"), secret)
    assert alice == User(1, a("Alice@example.org"), "example.org/alice", True, world.now())
    assert directory.users() == [alice]
    assert directory.user(a("aLICE@EXAMPLE.org")) == alice
    assert directory.user(a("alice+tag@example.org")) is None
    assert directory.password(alice) == secret
    assert directory.remove_user(alice.address) == alice
    assert directory.users() == []
    assert directory.user(alice.address) is None
    assert directory.password(alice) is None


def test_users_are_added_once_to_domains_that_exist(
    directory: Directory, alice: User, secret: PasswordRecord
) -> None:
    with refused("the user ALICE@example.org exists already"):
        directory.add_user(a("ALICE@example.org"), secret)
    with refused("there is no domain example.net; add it first"):
        directory.add_user(a("alice@example.net"), secret)
    with refused("a user's name is not empty"):
        directory.add_user(a('""@example.org'), secret)
    for change in (directory.remove_user, lambda who: directory.set_password(who, secret)):
        with refused("there is no user bob@example.org"):
            change(a("bob@example.org"))
    assert directory.users() == [alice]


def test_neither_ids_nor_mailboxes_come_back(
    directory: Directory, alice: User, secret: PasswordRecord
) -> None:
    directory.remove_user(alice.address)
    again = directory.add_user(alice.address, secret)
    assert (again.id, again.mailbox) == (2, "example.org/alice~2")
    directory.remove_user(alice.address)
    assert directory.add_user(alice.address, secret).mailbox == "example.org/alice~3"


def test_who_is_disabled(directory: Directory, alice: User) -> None:
    directory.set_enabled(alice.address, False)
    now = directory.user(alice.address)
    assert now is not None and not now.enabled
    assert directory.expand(alice.address) == only(now)


@pytest.mark.parametrize(
    ("local", "name"),
    [
        ("o'brien", "o%27brien"),
        (".", "%2E"),
        ("..", "%2E."),
        ("a/../b", "a%2F..%2Fb"),
        ("alice~2", "alice%7E2"),
        ("ü", "%C3%BC"),
        ("a b", "a%20b"),
    ],
)
def test_mailbox_names(local: str, name: str) -> None:
    assert mailbox_name(local) == name


@given(st.text(st.characters(blacklist_categories=["Cc", "Cs"]), min_size=1, max_size=64))
def test_every_local_part_gives_a_safe_name(local: str) -> None:
    name = mailbox_name(local)
    assert name.isascii() and 0 < len(name) <= 180
    assert "/" not in name and not name.startswith(".")


def test_long_names_stay_apart() -> None:
    assert mailbox_name("ü" * 63 + "a") != mailbox_name("ü" * 63 + "b")


# -- who gets the mail


def test_subaddresses(directory: Directory, alice: User, bob: User) -> None:
    assert directory.expand(a("alice+lists+x@example.org")) == only(alice)
    directory.add_alias("alice+work@example.org", [bob.address])
    assert directory.expand(a("Alice+Work@example.org")) == only(bob)
    assert directory.expand(a("+alice@example.org")) is None


def test_aliases(directory: Directory, alice: User, bob: User) -> None:
    elsewhere = a("carol@example.net")
    team = directory.add_alias("Team@example.org", [bob.address, elsewhere, alice.address])
    assert directory.aliases() == [team]
    assert team.name == "Team@example.org"
    assert directory.expand(a("team@example.org")) == Expansion((bob, alice), (elsewhere,))
    assert directory.expand(a("team+x@example.org")) == Expansion((bob, alice), (elsewhere,))
    directory.remove_alias("TEAM@example.org")
    assert directory.expand(a("team@example.org")) is None


def test_each_place_once(directory: Directory, alice: User, bob: User) -> None:
    directory.add_alias("one@example.org", [alice.address, a("X@example.net")])
    directory.add_alias(
        "all@example.org",
        [a("one@example.org"), a("ALICE+tag@example.org"), a("x@example.net"), bob.address],
    )
    assert directory.expand(a("all@example.org")) == Expansion((alice, bob), (a("x@example.net"),))


def test_nobody(directory: Directory, alice: User) -> None:
    assert directory.expand(a("bob@example.org")) is None
    assert directory.expand(a("alice@example.net")) is None


def test_the_catch_all_comes_last(directory: Directory, alice: User, bob: User) -> None:
    catch_all = directory.add_alias("@example.org", [bob.address])
    assert catch_all == Alias(Address("", "example.org"), (bob.address,))
    assert catch_all.name == "@example.org"
    assert directory.expand(a("anybody@example.org")) == only(bob)
    assert directory.expand(a("alice+tag@example.org")) == only(alice)
    assert directory.expand(a("postmaster@example.org")) == only(alice)


def test_loops_end(directory: Directory, alice: User) -> None:
    directory.add_alias("@example.org", [alice.address])
    directory.add_alias("one@example.org", [a("two@example.org")])  # found by the catch-all
    with refused("two@example.org leads back to itself"):
        directory.add_alias("two@example.org", [a("one@example.org")])
    directory.add_alias("two@example.org", [a("one@example.org"), a("x@example.net")])
    for name in ("one@example.org", "two@example.org"):
        assert directory.expand(a(name)) == Expansion((), (a("x@example.net"),))


def test_an_expansion_is_bounded(directory: Directory, alice: User) -> None:
    many = [a(f"x{n}@example.net") for n in range(MAX_EXPANSION - 1)]
    directory.add_alias("many@example.org", many)
    expansion = directory.expand(a("many@example.org"))
    assert expansion is not None and len(expansion.remote) == MAX_EXPANSION - 1
    with refused("leads to over 1000 addresses"):
        directory.add_alias("more@example.org", [a("many@example.org"), a("y@example.net")])
    with refused("more than 1000 targets"):
        directory.add_alias("most@example.org", [*many, a("y@example.net"), a("z@example.net")])


def test_aliases_need_targets_that_exist(directory: Directory, alice: User) -> None:
    with refused("leads to bob@example.org, which does not exist"):
        directory.add_alias("team@example.org", [a("bob@example.org")])
    with refused("the alias team@example.org needs a target"):
        directory.add_alias("team@example.org", [])
    with refused("'team' is not an address: the address has no domain"):
        directory.add_alias("team", [alice.address])
    with refused("there is no domain example.net"):
        directory.add_alias("@example.net", [alice.address])
    with refused("there is no alias team@example.org"):
        directory.remove_alias("team@example.org")
    assert directory.aliases() == []


def test_a_name_is_user_or_alias(directory: Directory, alice: User, secret: PasswordRecord) -> None:
    with refused("the user Alice@example.org exists already"):
        directory.add_alias("Alice@example.org", [a("x@example.net")])
    directory.add_alias("team@example.org", [alice.address])
    for change in (
        lambda: directory.add_alias("team@example.org", [alice.address]),
        lambda: directory.add_user(a("team@example.org"), secret),
    ):
        with refused("the alias team@example.org exists already"):
            change()


def test_what_an_alias_needs_stays(directory: Directory, alice: User, bob: User) -> None:
    directory.add_alias("inner@example.org", [bob.address])
    directory.add_alias("outer@example.org", [a("inner+x@example.org"), alice.address])
    with refused("inner@example.org still leads to Bob@example.org"):
        directory.remove_user(bob.address)
    with refused("outer@example.org still leads to inner+x@example.org"):
        directory.remove_alias("inner@example.org")
    directory.remove_alias("outer@example.org")
    directory.remove_alias("inner@example.org")
    directory.remove_user(bob.address)


def test_an_alias_that_broke_later_is_an_error(directory: Directory, alice: User) -> None:
    directory.add_alias("team@example.org", [a("bob@example.net")])
    directory.add_domain("example.net")
    with refused("leads to bob@example.net, which does not exist"):
        directory.expand(a("team@example.org"))


# -- postmaster


@pytest.mark.parametrize(
    "name", ["postmaster", "PostMaster@example.org", "ABUSE@example.org", "POSTMASTER"]
)
def test_postmaster_is_the_first_user(directory: Directory, name: str, alice: User) -> None:
    assert directory.expand(a(name)) == only(alice)


def test_postmaster_as_configured(open_directory: OpenDirectory, alice: User, bob: User) -> None:
    for configured, expected in (
        ("bob@example.org", bob),
        ("nobody@example.org", alice),
        ("bob@example.net", alice),
    ):
        directory = open_directory(postmaster=configured)
        assert directory.expand(a("postmaster")) == only(expected)
        assert directory.expand(a("abuse@example.org")) == only(expected)


def test_whether_the_configured_postmaster_is_there(
    open_directory: OpenDirectory, alice: User
) -> None:
    for configured, there in [
        (None, True),
        ("alice@example.org", True),
        ("Alice+x@example.org", True),
        ("eve@example.org", False),
        ("eve@two.example", False),
    ]:
        assert open_directory(postmaster=configured).postmaster_is_there() is there
    open_directory().add_alias("eve@example.org", [alice.address])
    assert open_directory(postmaster="eve@example.org").postmaster_is_there()


def test_postmaster_as_an_alias(directory: Directory, alice: User, bob: User) -> None:
    directory.add_alias("postmaster@example.org", [bob.address])
    assert directory.expand(a("Postmaster@example.org")) == only(bob)
    assert directory.expand(a("postmaster")) == only(bob)
    assert directory.expand(a("abuse@example.org")) == only(alice)


def test_no_postmaster_without_users(directory: Directory) -> None:
    assert directory.expand(a("postmaster")) is None
    assert directory.expand(a("abuse@example.org")) is None
    assert directory.expand(a("abuse@example.net")) is None


def test_nobody_else_goes_without_a_domain(directory: Directory, alice: User) -> None:
    assert directory.expand(Address("alice", "")) is None
    assert directory.expand(Address("abuse", "")) is None


# -- names to log in with


def test_login_names(open_directory: OpenDirectory, directory: Directory, alice: User) -> None:
    for name in ("alice@example.org", "ALICE@Example.Org", "alice"):
        assert directory.login_user(name) == alice
    for name in ("", "@", "alice+x@example.org", "alice@example.net", "postmaster", "a\0b", "ü"):
        assert directory.login_user(name) is None
    directory.add_domain("example.net")
    assert directory.login_user("alice") is None
    assert open_directory(default_domain="Example.ORG").login_user("alice") == alice
    assert open_directory(default_domain="mail.example.org").login_user("alice") is None


# -- two processes


def test_changes_elsewhere_count_at_once(
    open_directory: OpenDirectory,
    directory: Directory,
    record: Callable[[str], PasswordRecord],
) -> None:
    server, mailctl = directory, open_directory()
    bob = a("bob@example.org")
    assert server.user(bob) is None and server.expand(bob) is None
    user = mailctl.add_user(bob, record("one"))
    assert server.user(bob) == user
    assert server.expand(bob) == only(user)
    assert server.password(user) == mailctl.password(user)

    changed = record("two")
    mailctl.set_password(bob, changed)
    assert server.password(user) == changed

    info = a("info@example.org")
    assert server.expand(info) is None
    mailctl.add_alias("info@example.org", [bob])
    assert server.expand(info) == only(user)
    mailctl.remove_alias("info@example.org")
    assert server.expand(info) is None

    assert not server.is_local_domain("example.net")
    mailctl.add_domain("example.net")
    assert server.is_local_domain("example.net")

    mailctl.remove_user(bob)
    assert server.user(bob) is None and server.expand(bob) is None


def test_own_changes_count_at_once(directory: Directory, secret: PasswordRecord) -> None:
    bob = a("bob@example.org")
    assert directory.expand(bob) is None
    user = directory.add_user(bob, secret)
    assert directory.expand(bob) == only(user)
    directory.remove_user(bob)
    assert directory.expand(bob) is None


def test_answers_come_from_the_cache_while_nothing_changes(
    directory: Directory, alice: User
) -> None:
    assert directory.expand(alice.address) is directory.expand(alice.address)
    assert directory.user(alice.address) is directory.user(alice.address)


def test_readers_do_not_wait_for_a_writer(
    tmp_path: Path, directory: Directory, alice: User
) -> None:
    writer = sqlite3.connect(tmp_path / "accounts.sqlite3", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM users")
    assert directory.user(alice.address) == alice
    assert directory.expand(alice.address) == only(alice)
    writer.close()


def test_a_refused_write_is_explained(tmp_path: Path, directory: Directory, alice: User) -> None:
    with closing(sqlite3.connect(tmp_path / "accounts.sqlite3")) as db, db:
        db.execute(
            "CREATE TRIGGER broken BEFORE DELETE ON users BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    db.close()
    with refused("the accounts cannot be changed: no"):
        directory.remove_user(alice.address)
    assert directory.users() == [alice]


def test_where_mail_goes_is_asked_again_after_a_moment(
    open_directory: OpenDirectory, secret: PasswordRecord, world: World
) -> None:
    ours, theirs = open_directory(), open_directory()
    theirs.add_domain("example.org")
    alice = a("alice@example.org")
    assert ours.expand(alice) is None
    world.reactor.advance(0.001)
    added = theirs.add_user(alice, secret)
    assert ours.expand(alice) is None
    assert ours.user(alice) == added  # a login is no moment late
    assert ours.expand(alice) == only(added)
    assert ours.quota(added.mailbox) == (None, None)
    theirs.set_quota(alice, 1000, None)
    assert ours.quota(added.mailbox) == (None, None)
    world.reactor.advance(FRESH)
    assert ours.quota(added.mailbox) == (1000, None)
    assert ours.expand(alice) is not None
    world.reactor.advance(0.001)
    theirs.remove_user(alice)
    assert ours.expand(alice) is not None
    world.reactor.advance(FRESH)
    assert ours.expand(alice) is None
    assert ours.is_local_domain("example.org")


def test_a_clock_that_goes_back_or_stands_still_hides_nothing(
    tmp_path: Path, open_directory: OpenDirectory, world: World
) -> None:
    times = [100.0, 100.0, 50.0, 49.999]
    theirs = open_directory()
    ours = Directory(
        str(tmp_path / "accounts.sqlite3"), now=lambda: times[0], entropy=world.entropy
    )
    for number in range(4):
        theirs.add_domain(f"n{number}.example")
        assert ours.is_local_domain(f"n{number}.example")
        times = times[1:] or times
    ours.close()
