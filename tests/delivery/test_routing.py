"""Which recipients are taken, and what the others are told."""

from __future__ import annotations

import pytest
from delivering import RECORD, Mailboxes, done, person

from twisted_mail.accounts.directory import Directory
from twisted_mail.address import Address
from twisted_mail.delivery.routing import DirectoryRouter, RealmRouter
from twisted_mail.status import MailError
from twisted_mail.testing.world import simulated_world


@pytest.fixture
def directory(tmp_path):
    world = simulated_world()
    directory = Directory(str(tmp_path / "accounts.sqlite3"), now=world.now, entropy=world.entropy)
    directory.add_domain("example.org")
    directory.add_user(Address.parse("alice@example.org"), RECORD)
    directory.add_user(Address.parse("bob@example.org"), RECORD)
    yield directory
    directory.close()


def refusal(router, text, account=None):
    with pytest.raises(MailError) as caught:
        done(router.route(Address.parse(text), account))
    return caught.value.code, caught.value.enhanced


def test_users_and_subaddresses_and_the_responsible_are_taken(directory):
    router = DirectoryRouter(directory)
    for text in ("alice@example.org", "ALICE@example.org", "bob+tag@example.org"):
        done(router.route(Address.parse(text), None))
    for address in (Address("PostMaster", ""), Address("abuse", "example.org")):
        assert router.mailboxes(address, None) == ("example.org/alice",)


def test_an_alias_gives_all_its_mailboxes(directory):
    alice, bob = Address.parse("alice@example.org"), Address.parse("bob@example.org")
    directory.add_alias("all@example.org", [alice, bob])
    found = DirectoryRouter(directory).mailboxes(Address.parse("all@example.org"), None)
    assert sorted(found) == ["example.org/alice", "example.org/bob"]


def test_who_is_refused(directory):
    router = DirectoryRouter(directory)
    assert refusal(router, "nobody@example.org") == (550, "5.1.1")
    assert refusal(router, "nobody@example.org", person()) == (550, "5.1.1")
    assert refusal(router, "who@elsewhere.example") == (550, "5.7.1")
    assert refusal(router, "who@elsewhere.example", person()) == (451, "4.3.0")


def test_an_alias_that_leads_outside_waits_for_a_queue(directory):
    directory.add_alias("out@example.org", [Address.parse("who@elsewhere.example")])
    assert refusal(DirectoryRouter(directory), "out@example.org") == (451, "4.3.0")


def test_a_change_counts_at_once(directory):
    router = DirectoryRouter(directory)
    directory.remove_user(Address.parse("bob@example.org"))
    assert refusal(router, "bob@example.org") == (550, "5.1.1")


def test_a_realm_says_for_itself_whom_it_knows(directory):
    router = RealmRouter(Mailboxes("carol@example.org", "who@elsewhere.example"), directory)
    done(router.route(Address.parse("carol@example.org"), None))
    done(router.route(Address.parse("who@elsewhere.example"), None))
    assert refusal(router, "alice@example.org") == (550, "5.1.1")
    assert refusal(router, "x@third.example") == (550, "5.7.1")
    assert refusal(router, "x@third.example", person()) == (451, "4.3.0")


def test_a_site_without_users_asks_the_postmasters_mail_to_come_again(directory):
    directory.remove_user(Address.parse("alice@example.org"))
    directory.remove_user(Address.parse("bob@example.org"))
    router = DirectoryRouter(directory)
    for address in (Address("PostMaster", ""), Address("abuse", "example.org")):
        with pytest.raises(MailError) as caught:
            router.mailboxes(address, None)
        assert (caught.value.code, caught.value.enhanced) == (451, "4.3.5")
    assert refusal(router, "nobody@example.org") == (550, "5.1.1")
    assert refusal(router, "postmaster@elsewhere.example") == (550, "5.7.1")
