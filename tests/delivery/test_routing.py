"""Where recipients lead, and what the others are told."""

from __future__ import annotations

import pytest
from delivering import RECORD, FakeSrs, Mailboxes, done
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.accounts.directory import Directory
from twisted_mail.address import Address, forward_path
from twisted_mail.delivery.routes import Routes, make_route
from twisted_mail.delivery.routing import DirectoryRouter, RealmRouter, Way
from twisted_mail.status import MailError
from twisted_mail.testing.world import simulated_world

STRANGER, USER = False, True
OUT = Address.parse("who@elsewhere.example")
ROUTES = Routes(
    [
        make_route("backup.example", "mx", accept=True),
        make_route("relay.example", "smtp://relay.example:25"),
        make_route("closed.example", "fail: moved away"),
        make_route("gone.example", "fail: no more", accept=True),
    ]
)


@pytest.fixture
def directory(tmp_path):
    world = simulated_world()
    directory = Directory(str(tmp_path / "accounts.sqlite3"), now=world.now, entropy=world.entropy)
    directory.add_domain("example.org")
    directory.add_user(Address.parse("alice@example.org"), RECORD)
    directory.add_user(Address.parse("bob@example.org"), RECORD)
    yield directory
    directory.close()


def router_of(directory, routes=ROUTES, srs=None, literals=("[192.0.2.1]", "[IPv6:2001:db8::1]")):
    return DirectoryRouter(directory, routes, srs, literals)


@pytest.fixture
def router(directory):
    return router_of(directory)


def way(router, text, trusted=STRANGER):
    found = router.way(Address.parse(text), trusted)
    return found if isinstance(found, Way) else done(found)


def refusal(router, text, trusted=STRANGER):
    with pytest.raises(MailError) as caught:
        way(router, text, trusted)
    return caught.value.code, caught.value.enhanced


def test_users_and_subaddresses_and_the_responsible_have_mailboxes(router):
    for text in ("alice@example.org", "ALICE@example.org"):
        assert way(router, text) == Way(("example.org/alice",))
    assert way(router, "bob+tag@example.org") == Way(("example.org/bob",))
    for address in (Address("PostMaster", ""), Address("abuse", "example.org")):
        assert router.way(address, STRANGER).mailboxes == ("example.org/alice",)


def test_an_alias_gives_all_its_mailboxes(directory, router):
    alice, bob = Address.parse("alice@example.org"), Address.parse("bob@example.org")
    directory.add_alias("all@example.org", [alice, bob])
    found = way(router, "all@example.org")
    assert sorted(found.mailboxes) == ["example.org/alice", "example.org/bob"]
    assert (found.remote, found.origin) == ((), None)


@pytest.mark.parametrize("trusted", [STRANGER, USER])
def test_an_alias_leads_anybodys_mail_outside_even_where_a_route_fails(directory, router, trusted):
    alice, closed = Address.parse("alice@example.org"), Address.parse("x@closed.example")
    directory.add_alias("out@example.org", [OUT, alice, closed])
    assert way(router, "Out+tag@example.org", trusted) == Way(
        ("example.org/alice",), (OUT, closed), Address.parse("Out+tag@example.org")
    )


def test_aliases_in_a_circle_end(directory, router):
    out, back = Address.parse("out@example.org"), Address.parse("back@example.org")
    directory.add_alias("out@example.org", [OUT])
    directory.add_alias("back@example.org", [out, OUT])
    directory.add_alias("round@example.org", [back, out, OUT])
    assert way(router, "round@example.org").remote == (OUT,)
    # A circle alone cannot be made by the directory's own methods; mail for one waits until it is mended.
    directory._db.execute(
        "UPDATE alias_targets SET local = 'round', domain = 'example.org' WHERE alias = ?",
        (out.key,),
    )
    directory._db.execute("DELETE FROM alias_targets WHERE domain <> 'example.org'")
    directory._forget()
    assert refusal(router, "round@example.org") == (451, "4.3.5")


@pytest.mark.parametrize(
    "text, stranger, user",
    [
        ("nobody@example.org", (550, "5.1.1"), (550, "5.1.1")),
        ("who@elsewhere.example", (550, "5.7.1"), "sent"),
        ("who@backup.example", "sent", "sent"),
        ("who@relay.example", (550, "5.7.1"), "sent"),
        ("who@closed.example", (550, "5.7.1"), (550, "5.7.1")),
        ("who@gone.example", (550, "5.7.1"), (550, "5.7.1")),
        ("who@sub.example.org", (550, "5.7.1"), "sent"),
        ("who@[192.0.2.99]", (550, "5.7.1"), "sent"),
        ("nobody@[192.0.2.1]", (550, "5.1.1"), (550, "5.1.1")),
    ],
)
def test_who_may_send_where(router, text, stranger, user):
    for trusted, expected in ((STRANGER, stranger), (USER, user)):
        if expected == "sent":
            assert way(router, text, trusted) == Way(remote=(Address.parse(text),))
        else:
            assert refusal(router, text, trusted) == expected


def test_a_route_that_fails_says_its_own_words(router):
    with pytest.raises(MailError, match="moved away"):
        way(router, "who@closed.example", USER)
    with pytest.raises(MailError, match="no more"):
        way(router, "who@gone.example")


def test_our_own_address_literals_are_the_home_domain(directory, router):
    assert way(router, "alice@[192.0.2.1]").mailboxes == ("example.org/alice",)
    assert way(router, "alice@[IPv6:2001:DB8:0::1]").mailboxes == ("example.org/alice",)
    directory.add_domain("example.net")  # two domains, and none of them is the host's: no home
    assert refusal(router, "alice@[192.0.2.1]") == (550, "5.7.1")


# Every one that must not get out is written as a client would write it.
RELAYS = [
    "<@example.org:who@elsewhere.example>",
    "<@example.org,@mx.example.org:who@elsewhere.example>",
    "<who%elsewhere.example@example.org>",
    "<who%elsewhere.example%example.org@example.org>",
    '<"who@elsewhere.example"@example.org>',
    '<"who%elsewhere.example"@example.org>',
    r'<"who\@elsewhere.example"@example.org>',
    "<elsewhere.example!who@example.org>",
    "<example.org!elsewhere.example!who@example.org>",
    "<@example.org:elsewhere.example!who@example.org>",
    "<who@[192.0.2.99]>",
    "<who@[IPv6:2001:db8::99]>",
    "<who%elsewhere.example@[192.0.2.1]>",
    '<"who@elsewhere.example"@[192.0.2.1]>',
    "<who@example.org.elsewhere.example>",
    "<who@elsewhere.example.>",
    "<who@elsewhere.example@example.org>",
    "<example.org@elsewhere.example>",
    "<who>",
    '<"postmaster@elsewhere.example">',
    "<SRS0=hash=elsewhere.example=who@elsewhere.example>",
    "<SRS0=xxxx=elsewhere.example=who@example.org>",
    "<SRS1=xxxx=other.example==hash=x=elsewhere.example=who@example.org>",
    "who@elsewhere.example",
    " <who@elsewhere.example>",
    "<who@ELSEWHERE.example>",
    "<who@example.org\0elsewhere.example>",
]


@pytest.mark.parametrize("path", RELAYS)
@pytest.mark.parametrize("rewriting", [None, FakeSrs()])
def test_a_stranger_cannot_relay_in_any_spelling(directory, path, rewriting):
    router = router_of(directory, srs=rewriting)
    try:
        address = forward_path(path.encode()).address
    except ValueError:
        return  # 501
    with pytest.raises(MailError) as caught:
        router.way(address, STRANGER)
    assert caught.value.code == 550


@given(
    st.text('alice@example.org%!"\\<>:,[]=SRS0hsx.', max_size=40),
    st.sampled_from(["example.org", "[192.0.2.1]", "elsewhere.example", "[192.0.2.9]", ""]),
)
def test_no_name_leads_a_stranger_out(shared_directory, local, domain):
    router = router_of(shared_directory, srs=FakeSrs())
    if not local or local.startswith("SRS0=hash="):
        return
    try:
        found = router.way(Address(local, domain), STRANGER)
    except MailError:
        return
    assert found.remote == ()


@pytest.fixture(scope="module")
def shared_directory(tmp_path_factory):
    world = simulated_world()
    path = tmp_path_factory.mktemp("accounts") / "accounts.sqlite3"
    directory = Directory(str(path), now=world.now, entropy=world.entropy)
    directory.add_domain("example.org")
    directory.add_user(Address.parse("alice@example.org"), RECORD)
    yield directory
    directory.close()


def test_a_catch_all_takes_them_as_names(directory, router):
    directory.add_alias("@example.org", [Address.parse("bob@example.org")])
    for local in ("who%elsewhere.example", "elsewhere.example!who", "who@elsewhere.example"):
        found = router.way(Address(local, "example.org"), STRANGER)
        assert found == Way(("example.org/bob",))


# SRS


def test_mail_to_an_srs_address_goes_back_where_it_came_from(directory):
    router = router_of(directory, srs=FakeSrs())
    directory.add_alias(
        "@example.org", [Address.parse("bob@example.org")]
    )  # and no catch-all has it
    text = "SRS0=hash=elsewhere.example=who@example.org"
    assert way(router, text) == Way((), (OUT,), Address.parse(text))
    assert way(router, "srs0=hash=example.org=alice@example.org") == Way(("example.org/alice",))


def test_srs_addresses_that_lead_nowhere(directory):
    router = router_of(directory, srs=FakeSrs())
    assert refusal(router, "SRS0=no=elsewhere.example=who@example.org") == (550, "5.1.1")
    assert refusal(router, "SRS0=hash=closed.example=who@example.org") == (550, "5.7.1")
    assert refusal(router, "SRS0=hash=example.org=nobody@example.org") == (550, "5.1.1")
    # Another site's is that site's.
    text = "SRS0=hash=x.example=who@elsewhere.example"
    assert refusal(router, text) == (550, "5.7.1")
    assert way(router, text, USER) == Way(remote=(Address.parse(text),))
    assert refusal(router_of(directory), "SRS0=hash=elsewhere.example=who@example.org") == (
        550,
        "5.1.1",
    )


def test_a_change_counts_at_once(directory, router):
    directory.remove_user(Address.parse("bob@example.org"))
    assert refusal(router, "bob@example.org") == (550, "5.1.1")


# A realm


def test_a_realm_says_for_itself_whom_it_knows(directory):
    realm = Mailboxes("carol@example.org", "who@elsewhere.example")
    router = RealmRouter(realm, directory, ROUTES, FakeSrs(), ("[192.0.2.1]",))
    carol = Address.parse("carol@example.org")
    assert way(router, "carol@example.org") == Way(realm=carol)
    assert way(router, "carol@[192.0.2.1]") == Way(realm=carol)
    assert way(router, "SRS0=hash=example.org=carol@example.org") == Way(realm=carol)
    assert way(router, "who@elsewhere.example") == Way(realm=OUT)
    assert refusal(router, "alice@example.org") == (550, "5.1.1")
    assert refusal(router, "x@third.example") == (550, "5.7.1")
    assert way(router, "x@third.example", USER) == Way(remote=(Address.parse("x@third.example"),))
    text = "SRS0=hash=third.example=x@example.org"
    assert way(router, text) == Way(
        remote=(Address.parse("x@third.example"),), origin=Address.parse(text)
    )


def test_a_site_without_users_asks_the_postmasters_mail_to_come_again(directory, router):
    directory.remove_user(Address.parse("alice@example.org"))
    directory.remove_user(Address.parse("bob@example.org"))
    for address in (Address("PostMaster", ""), Address("abuse", "example.org")):
        with pytest.raises(MailError) as caught:
            router.way(address, STRANGER)
        assert (caught.value.code, caught.value.enhanced) == (451, "4.3.5")
    assert refusal(router, "nobody@example.org") == (550, "5.1.1")
    assert refusal(router, "postmaster@elsewhere.example") == (550, "5.7.1")
