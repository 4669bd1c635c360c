"""Full mailboxes: refused where it hurts nobody else, and asked about whatever comes in."""

from __future__ import annotations

import pytest
from mailroom import ALICE, BOB, SENDER, Site
from twisted.internet.defer import ensureDeferred

from twisted_mail.address import Address
from twisted_mail.delivery.interfaces import Client, Envelope, Recipient
from twisted_mail.mailboxes import Appending
from twisted_mail.status import MailError

TEXT = b"Subject: x\r\n\r\n" + b"y" * 500 + b"\r\n"
CLIENT = Client("192.0.2.7", "client.example", "ESMTP", None, None, "c1")


@pytest.fixture
def limits():
    """key → (octets, messages); alice may hold two messages."""
    return {"example.org/alice": (None, 2)}


@pytest.fixture
def site(tmp_path, limits):
    site = Site(str(tmp_path))
    site.store._limits = lambda key: limits.get(key, (None, None))
    yield site
    site.close()


async def rcpts(site, *recipients, **facts):
    envelope = Envelope(SENDER, **facts)
    for address in recipients:
        await site.intake.route(CLIENT, envelope, address)
        envelope.recipients.append(Recipient(address))
    return site.intake.begin(CLIENT, envelope)


async def sent(site, *recipients, **facts):
    message = await rcpts(site, *recipients, **facts)
    await message.write(TEXT)
    return message


async def send(site, *recipients, **facts):
    await (await sent(site, *recipients, **facts)).commit()


def refusal(site, coroutine):
    with pytest.raises(MailError) as caught:
        site.run(coroutine)
    error = caught.value
    return error.code, error.enhanced, error.imap


def fill(site, count=2):
    for _ in range(count):
        site.run(send(site, ALICE))


def test_a_full_mailbox_is_refused_at_rcpt_and_the_others_get_it(site):
    fill(site)
    assert refusal(site, rcpts(site, ALICE)) == (452, "4.2.2", "OVERQUOTA")
    site.run(send(site, BOB))
    assert len(site.inbox("bob")) == 1
    # What was read and deleted makes room.
    site.run(remove(site, 0))
    fill(site, 1)
    assert len(site.inbox()) == 2


async def remove(site, *indexes):
    inbox = await site.store.open_inbox("example.org/alice")
    await inbox.remove(indexes)
    await inbox.close()


def test_a_message_that_says_how_large_it_is_is_refused_before_it_is_sent(site, limits):
    limits["example.org/alice"] = (2000, None)
    site.run(rcpts(site, ALICE, size=1500))
    assert refusal(site, rcpts(site, ALICE, size=2001)) == (552, "5.2.2", "OVERQUOTA")
    fill(site, 1)
    assert refusal(site, rcpts(site, ALICE, size=1500)) == (452, "4.2.2", "OVERQUOTA")


def test_a_message_that_turns_out_to_be_too_large_is_refused_at_its_end(site, limits):
    limits["example.org/alice"] = (300, None)
    assert refusal(site, send(site, ALICE)) == (552, "5.2.2", "OVERQUOTA")
    assert site.inbox() == []


def test_two_that_are_under_way_at_once_do_not_both_get_the_last_place(site):
    fill(site, 1)
    first, second = site.run(sent(site, ALICE)), site.run(sent(site, ALICE))
    site.run(first.commit())
    assert refusal(site, second.commit()) == (452, "4.2.2", "OVERQUOTA")
    assert len(site.inbox()) == 2


@pytest.mark.parametrize("limit", [2, 20])
def test_those_in_one_batch_do_not_all_get_the_last_place(site, limits, limit):
    limits["example.org/alice"] = (None, limit)
    fill(site, 1)
    messages = [site.run(sent(site, ALICE)) for _ in range(limit + 5)]
    outcomes = []
    for message in messages:
        ensureDeferred(message.commit()).addBoth(outcomes.append)
    site.turn()
    assert sum(one is None for one in outcomes) == limit - 1
    assert len(site.inbox()) == limit


def test_a_message_to_several_is_not_refused_to_all_for_one_that_is_full_by_then(site):
    fill(site, 1)
    first, second = site.run(sent(site, ALICE)), site.run(sent(site, ALICE, BOB))
    site.run(first.commit())
    site.run(second.commit())
    assert (len(site.inbox()), len(site.inbox("bob"))) == (3, 1)
    # It ends with what was under way.
    assert refusal(site, rcpts(site, BOB, ALICE))[0] == 452


def test_an_alias_is_taken_while_one_behind_it_has_room(site, limits):
    site.directory.add_alias("all@example.org", [ALICE, BOB])
    fill(site)
    site.run(send(site, Address.parse("all@example.org")))
    assert len(site.inbox("bob")) == 1
    limits["example.org/bob"] = (None, 1)
    assert refusal(site, rcpts(site, Address.parse("all@example.org")))[0] == 452


def test_postmaster_is_not_refused(site):
    postmaster = Address.parse("postmaster@example.org")
    site.directory.add_alias("postmaster@example.org", [ALICE])
    fill(site)
    site.run(send(site, postmaster))
    assert len(site.inbox()) == 3


def test_a_bounce_is_not_refused(site):
    fill(site)
    site.run(site.intake.notices.notify((), "alice@example.org", b"Subject: failed\n\n"))
    assert len(site.inbox()) == 3


async def append(site, *contents):
    # As a login does
    site.store.account("example.org/alice").prepare()
    given = []
    for content in contents:
        draft = site.store.draft()
        draft.write(content)
        given.append(Appending(draft))
    return await site.store.append("example.org/alice", "", given)


def bases(site):
    return [row[1] for row in site.store._accounts.get("example.org/alice").rows()]


def test_imap_puts_in_no_more_than_there_is_room_for(site):
    fill(site, 1)
    assert refusal(site, append(site, b"a", b"b")) == (452, "4.2.2", "OVERQUOTA")
    assert refusal(site, append(site, b"a", b"b", b"c")) == (552, "5.2.2", "OVERQUOTA")
    site.run(append(site, b"a"))
    assert refusal(site, append(site, b"b")) == (452, "4.2.2", "OVERQUOTA")
    key, (first, _) = "example.org/alice", bases(site)
    assert refusal(site, site.store.copy(key, "", [first], "")) == (452, "4.2.2", "OVERQUOTA")
    # What changes its place, or takes another's, needs no more room.
    folders = site.store._accounts.get(key).folders
    site.run(site.store.move(key, "", [first], folders.create("Old")))
    draft = site.store.draft()
    draft.write(b"c")
    site.run(site.store.replace(key, "", bases(site)[0], "", Appending(draft)))
    assert site.inbox() == [b"c"]
    assert site.spilled() == []


def test_what_an_account_holds_is_counted_now_and_then_until_it_matters(site, limits, monkeypatch):
    limits["example.org/alice"] = (None, 20)
    counted = []
    usage = site.store._usage
    count = usage.count
    monkeypatch.setattr(usage, "count", lambda key: counted.append(key) or count(key))
    fill(site, 18)
    assert len(counted) == 1
    fill(site, 2)
    assert len(counted) > 1
    assert refusal(site, rcpts(site, ALICE))[0] == 452
    assert len(site.inbox()) == 20
    site.run(remove(site, *range(15)))
    fill(site, 1)
    counted.clear()
    fill(site, 2)
    assert counted == []
    site.world.reactor.advance(11)
    fill(site, 1)
    assert len(counted) == 1


def test_a_mailbox_that_was_given_less_than_it_holds_may_become_smaller(site, limits):
    site.run(append(site, b"x" * 5000))
    limits["example.org/alice"] = (1000, None)
    draft = site.store.draft()
    draft.write(b"y" * 2000)
    (base,) = bases(site)
    site.run(site.store.replace("example.org/alice", "", base, "", Appending(draft)))
    assert site.inbox() == [b"y" * 2000]
