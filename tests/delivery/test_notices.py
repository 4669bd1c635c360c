"""The queue's own door: a notice and the changes it tells of come in together, or not at all."""

from __future__ import annotations

import errno

import pytest
from delivering import FakeSrs, Mailboxes, addresses, person
from mailroom import ALICE, SENDER

from twisted_mail.delivery.interfaces import Recipient
from twisted_mail.delivery.routes import Routes, make_route
from twisted_mail.status import MailError
from twisted_mail.storage.queued import Attempt, Change, State, Verdict

(OUT,) = addresses("who@elsewhere.example")
NOTICE = b"From: <>\nTo: you\nSubject: it did not go\n\nno such user\n"


def bounced(site, sender=ALICE):
    """A message of `sender` in the queue, and the change that ends it."""
    site.deliver(b"\r\nhi\r\n", OUT, account=person(), sender=sender)
    (message,) = site.queued()
    attempt = Attempt(site.world.now(), "mx", "192.0.2.9", "", "550 no such user")
    return Change(message.id, (Verdict(0, State.BOUNCED, attempt=0),), (attempt,))


def states(site, change):
    return [one.state for one in site.store.queue.view.story(change.message).recipients]


def test_a_notice_for_a_mailbox(site):
    change = bounced(site)
    site.run(site.intake.notices.notify([change], "alice@example.org", NOTICE))
    assert site.inbox() == [b"Return-Path: <>\nDelivered-To: alice@example.org\n" + NOTICE]
    assert states(site, change) == [State.BOUNCED]
    assert site.queued() == []


def test_a_notice_for_elsewhere_is_a_queued_message_from_nobody(site):
    change = bounced(site)
    site.run(site.intake.notices.notify([change], "sender@elsewhere.example", NOTICE))
    (message,) = site.queued()
    assert (message.sender, message.warn, message.skip) == ("", None, 0)
    assert [one.address for one in message.recipients] == ["sender@elsewhere.example"]
    assert site.leaving(message) == NOTICE
    assert states(site, change) == [State.BOUNCED]


def test_a_notice_for_an_alias_to_both(site):
    site.directory.add_alias("both@example.org", [ALICE, OUT])
    change = bounced(site)
    site.run(site.intake.notices.notify([change], "both@example.org", NOTICE))
    top = b"Return-Path: <>\nDelivered-To: both@example.org\n"
    assert site.inbox() == [top + NOTICE]
    (message,) = site.queued()
    assert (message.skip, site.leaving(message)) == (len(top), NOTICE)
    assert message.recipients[0].mail_from is None


def test_a_notice_for_a_rewritten_sender_finds_its_way_back(open_site):
    site = open_site(srs=FakeSrs())
    change = bounced(site)
    text = "SRS0=hash=elsewhere.example=sender@example.org"
    site.run(site.intake.notices.notify([change], text, NOTICE))
    assert [one.address for one in site.queued()[0].recipients] == ["sender@elsewhere.example"]


def test_postmaster_is_whoever_is_responsible(site):
    site.run(site.intake.notices.notify([bounced(site)], "postmaster", NOTICE))
    assert site.inbox()[0].startswith(b"Return-Path: <>\nDelivered-To: postmaster\n")


@pytest.mark.parametrize(
    "content, eight_bit, smtputf8",
    [
        (NOTICE, False, False),
        (NOTICE + b"\xc3\xbc\n", True, False),
        ("Subject: ü\n\nx\n".encode(), True, True),
    ],
)
def test_what_the_next_server_must_know(site, content, eight_bit, smtputf8):
    site.run(site.intake.notices.notify([bounced(site)], "who@elsewhere.example", content))
    options = site.queued()[0].options
    assert (options.eight_bit, options.smtputf8) == (eight_bit, smtputf8)


def test_a_notice_of_a_message_with_requiretls_has_it_too(site):
    notices = site.intake.notices
    site.run(notices.notify([bounced(site)], "who@elsewhere.example", NOTICE, requiretls=True))
    (message,) = site.queued()
    assert message.options.requiretls
    assert message.recipients[0].hop == "elsewhere.example#requiretls"


def test_a_large_notice(site):
    change = bounced(site)
    content = NOTICE + b"y" * 78 * 10_000 + b"\n"
    site.run(site.intake.notices.notify([change], "alice@example.org", content))
    assert site.inbox()[0].endswith(content)


def test_a_notice_with_utf8_in_its_header_has_its_downgraded_size(site):
    async def sizes():
        inbox = await site.store.open_inbox("example.org/alice")
        try:
            return inbox.messages[0]
        finally:
            await inbox.close()

    content = "Subject: ü\n\nx\n".encode()
    site.run(site.intake.notices.notify([bounced(site)], "alice@example.org", content))
    info = site.run(sizes())
    top = b"Return-Path: <>\nDelivered-To: alice@example.org\n"
    assert info.size == len(top + content) + (top + content).count(b"\n")
    assert info.ascii_size == info.size + len(b"=?utf-8?b?w7w=?=") - len("ü".encode())


@pytest.mark.parametrize(
    "recipient, code",
    [
        ("nobody@example.org", 550),
        ("x@closed.example", 550),
        ("not an address", 553),
        ("", 553),
        ("SRS0=bad=elsewhere.example=sender@example.org", 550),
    ],
)
def test_who_can_never_be_reached_and_then_nothing_is_committed(open_site, recipient, code):
    site = open_site(routes=Routes([make_route("closed.example", "fail: moved")]), srs=FakeSrs())
    change = bounced(site)
    with pytest.raises(MailError) as caught:
        site.run(site.intake.notices.notify([change], recipient, NOTICE))
    assert caught.value.code == code
    assert states(site, change) == [State.WAITING]
    assert len(site.queued()) == 1


@pytest.mark.parametrize("recipient", ["alice@example.org", "sender@elsewhere.example"])
def test_what_cannot_be_written_is_temporary_and_leaves_nothing(site, recipient):
    change = bounced(site)

    def before(name, args):
        if name == "writev":
            raise OSError(errno.EIO, "no")

    site.disk.before = before
    for step in (
        site.intake.notices.notify([change], recipient, NOTICE),
        site.intake.notices.commit([change]),
    ):
        with pytest.raises(MailError) as caught:
            site.run(step)
        assert caught.value.temporary
    del site.disk.before
    assert states(site, change) == [State.WAITING]
    assert site.inbox() == []
    assert len(site.queued()) == 1


def test_changes_alone(site):
    change = bounced(site)
    site.run(site.intake.notices.commit([change]))
    assert states(site, change) == [State.BOUNCED]


# -- a realm that takes its mail itself


class Failing(Mailboxes):
    def __init__(self, *addresses, error):
        super().__init__(*addresses)
        self.error = error

    async def deliver(self, sender, recipients, message):
        raise self.error


def test_a_realm_gets_the_notice_then_the_changes_are_committed(open_site):
    realm = Mailboxes("alice@example.org")
    site = open_site(realm=realm)
    change = bounced(site)
    site.run(site.intake.notices.notify([change], "alice@example.org", NOTICE))
    top = b"Return-Path: <>\nDelivered-To: alice@example.org\n"
    assert realm.kept["alice@example.org"] == [(None, top + NOTICE)]
    assert states(site, change) == [State.BOUNCED]
    assert site.queued() == []


def test_a_notice_for_elsewhere_goes_past_the_realm(open_site):
    realm = Mailboxes("alice@example.org")
    site = open_site(realm=realm)
    change = bounced(site)
    site.run(site.intake.notices.notify([change], str(SENDER), NOTICE))
    assert realm.kept["alice@example.org"] == []
    assert site.leaving(site.queued()[0]) == NOTICE
    assert states(site, change) == [State.BOUNCED]


@pytest.mark.parametrize(
    "error, code", [(MailError(550, "5.2.1", "No"), 550), (ValueError("a fault"), 451)]
)
def test_a_realm_that_refuses_a_notice_keeps_the_changes_back(open_site, error, code):
    site = open_site(realm=Failing("alice@example.org", error=error))
    change = bounced(site)
    with pytest.raises(MailError) as caught:
        site.run(site.intake.notices.notify([change], "alice@example.org", NOTICE))
    assert caught.value.code == code
    assert states(site, change) == [State.WAITING]


def test_a_notice_of_success_is_owed_after_a_local_delivery_and_then_told(site):
    site.deliver(b"\r\nhi\r\n", Recipient(ALICE, "SUCCESS"))
    (message,) = site.queued()
    assert message.recipients[0].hop == ""
    change = Change(message.id, (Verdict(0, State.DELIVERED),))
    site.run(site.intake.notices.notify([change], message.sender, NOTICE))
    assert states(site, change) == [State.DELIVERED]
    (notice,) = site.queued()
    assert notice.recipients[0].address == str(SENDER)
