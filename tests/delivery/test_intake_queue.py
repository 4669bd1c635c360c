"""Mail for elsewhere, from RCPT to the queue: what stands in it, and that a message is taken whole or not at all."""

from __future__ import annotations

import errno

import pytest
from delivering import FakeSrs, Mailboxes, addresses, done, person
from mailroom import ALICE, BOB, LARGE, SENDER
from twisted.internet.defer import Deferred, ensureDeferred

from twisted_mail.address import Address
from twisted_mail.delivery import intake
from twisted_mail.delivery.interfaces import Client, Envelope, Recipient
from twisted_mail.delivery.routes import Routes, make_route
from twisted_mail.delivery.srs import Srs
from twisted_mail.status import MailError
from twisted_mail.storage.queued import Options, QueuedRecipient

NOW = 1_800_000_000.0
OUT, FAR = addresses("who@elsewhere.example", "far@third.example")
HELLO = b"Subject: x\r\n\r\nhi\r\n"


def submit(site, *recipients, content=HELLO, sender=ALICE, **facts):
    """From a user; the queued messages that come of it."""
    site.deliver(content, *recipients, account=person(), sender=sender, **facts)
    return site.queued()


def test_a_user_writes_to_other_sites(site):
    (message,) = submit(site, OUT, FAR)
    assert (message.sender, message.arrived) == ("alice@example.org", NOW)
    assert message.recipients == (
        QueuedRecipient("who@elsewhere.example", "elsewhere.example"),
        QueuedRecipient("far@third.example", "third.example"),
    )
    assert (message.expires, message.warn) == (NOW + 5 * 86400, NOW + 4 * 3600)
    assert (message.options, message.skip) == (Options(), 0)
    content = site.leaving(message)
    assert content.startswith(b"Received: from client.example ([192.0.2.7])\n\tby mx.example.org")
    assert content.endswith(b"\n\nhi\n")
    assert b"Message-ID" in content
    assert message.size == len(content)
    assert message.wire == len(content) + content.count(b"\n")
    assert site.inbox() == []


def test_what_is_only_the_mailboxes_is_not_sent(site):
    for recipients in ([OUT, BOB], [BOB, OUT]):
        submit(site, *recipients)
    for stored, message in zip(site.inbox("bob"), site.queued(), strict=True):
        assert stored.startswith(b"Return-Path: <alice@example.org>\nReceived: ")
        assert site.leaving(message) == stored.partition(b"\n")[2]
        assert message.size == len(stored)


def test_a_message_to_mailboxes_alone_is_not_in_the_queue(site):
    site.deliver(
        HELLO, ALICE, Recipient(BOB, "NEVER"), Recipient(ALICE, "FAILURE,DELAY", "rfc822;x")
    )
    assert site.queued() == []


def test_it_has_the_id_of_the_reply(site):
    number = site.deliver(HELLO, OUT, account=person(), sender=ALICE)
    assert [message.id for message in site.queued()] == [number]


@pytest.mark.parametrize("large", [False, True])
def test_large_messages_too(site, large):
    (message,) = submit(site, OUT, BOB, content=LARGE if large else HELLO)
    assert site.leaving(message) in site.inbox("bob")[0]


def test_lifetime_and_warning_are_the_settings(open_site):
    site = open_site(lifetime=100.0, warn_after=0.0)
    (message,) = submit(site, OUT)
    assert (message.expires, message.warn) == (NOW + 100, None)


def test_nobody_is_warned_of_a_bounce(site):
    (message,) = submit(site, OUT, sender=None)
    assert (message.sender, message.warn, message.expires) == ("", None, NOW + 5 * 86400)


@pytest.mark.parametrize("alias_first", [False, True])
def test_one_address_is_one_recipient_as_it_was_named_first(site, alias_first):
    alias = Address.parse("out@example.org")
    site.directory.add_alias("out@example.org", [OUT, BOB])
    named = (alias, OUT, alias) if alias_first else (OUT, alias, OUT)
    (message,) = submit(site, *named)
    (recipient,) = message.recipients
    assert recipient.origin == ("out@example.org" if alias_first else "")
    assert len(site.inbox("bob")) == 1


# -- what was asked for


def test_dsn_options_are_kept(site):
    (message,) = submit(
        site,
        Recipient(OUT, "SUCCESS,DELAY", "rfc822;other@x.example"),
        Recipient(FAR, "NEVER"),
        ret="HDRS",
        envid="QQ 1",
    )
    assert message.options == Options(envid="QQ 1", ret="HDRS")
    assert [(one.notify, one.orcpt) for one in message.recipients] == [
        ("SUCCESS,DELAY", "rfc822;other@x.example"),
        ("NEVER", ""),
    ]


def test_a_notice_of_success_is_owed_for_a_mailbox_too(site):
    site.deliver(HELLO, Recipient(ALICE, "SUCCESS,FAILURE", "rfc822;a@x.example"), BOB)
    (message,) = site.queued()
    assert message.recipients == (
        QueuedRecipient("alice@example.org", "", "SUCCESS,FAILURE", "rfc822;a@x.example"),
    )
    assert len(site.inbox("alice")) == len(site.inbox("bob")) == 1


def test_no_notice_is_owed_to_nobody(site):
    site.deliver(HELLO, Recipient(ALICE, "SUCCESS"), sender=None)
    assert site.queued() == []


def test_requiretls_has_a_hop_of_its_own(site):
    (message,) = submit(site, OUT, requiretls=True, ret="FULL")
    assert message.options == Options(ret="HDRS", requiretls=True)
    assert message.recipients[0].hop == "elsewhere.example#requiretls"


def test_routes_name_the_hop(open_site):
    site = open_site(routes=Routes([make_route("*.example", "smtp://relay.example:587")]))
    (message,) = submit(site, OUT)
    assert message.recipients[0].hop == "smtp://relay.example:587"


@pytest.mark.parametrize(
    "content, eight_bit",
    [
        (HELLO, False),
        (b"Subject: x\r\n\r\nh\xfc\r\n", True),
        (b"Subject: \xfc\r\n\r\n", True),
        (LARGE, False),
        (LARGE + b"\xff", True),
    ],
)
@pytest.mark.parametrize("body", ["7BIT", "8BITMIME"])
@pytest.mark.parametrize("block", [1000, 1 << 20])
def test_octets_over_127_are_seen_whatever_was_declared(site, content, eight_bit, body, block):
    (message,) = submit(site, OUT, content=content, body=body, block=block)
    assert message.options.eight_bit is eight_bit


UTF8_HEADER = "Subject: ü\r\n\r\n".encode()
JÜRGEN = Address.parse("jürgen@elsewhere.example")


@pytest.mark.parametrize(
    "declared, recipient, content, expected",
    [
        (False, OUT, HELLO, False),
        (True, OUT, HELLO, False),
        (True, OUT, HELLO + b"\xc3\xbc", False),
        (True, OUT, UTF8_HEADER, True),
        (False, OUT, UTF8_HEADER, False),
        (True, JÜRGEN, HELLO, True),
        (False, JÜRGEN, HELLO, True),
    ],
)
def test_smtputf8_is_wanted_of_others_where_it_is_needed(
    site, declared, recipient, content, expected
):
    (message,) = submit(site, recipient, content=content, utf8=declared)
    assert message.options.smtputf8 is expected


def test_a_sender_that_is_not_ascii_needs_smtputf8(site):
    site.directory.add_alias("out@example.org", [OUT])
    site.deliver(HELLO, Address.parse("out@example.org"), sender=JÜRGEN, utf8=True)
    assert site.queued()[0].options.smtputf8


# -- aliases and SRS


def test_an_alias_leads_outside_with_what_was_asked(open_site):
    site = open_site(srs=FakeSrs())
    site.directory.add_alias("out@example.org", [OUT, ALICE])
    site.deliver(HELLO, Recipient(Address.parse("Out@example.org"), "SUCCESS"))
    (message,) = site.queued()
    here, forwarded = message.recipients
    assert here == QueuedRecipient("Out@example.org", "", "SUCCESS")
    assert forwarded == QueuedRecipient(
        "who@elsewhere.example",
        "elsewhere.example",
        "SUCCESS",
        "rfc822;Out@example.org",
        "Out@example.org",
        "SRS0=hash=elsewhere.example=sender@example.org",
    )
    (stored,) = site.inbox("alice")
    top = b"Return-Path: <sender@elsewhere.example>\nDelivered-To: Out@example.org\n"
    assert stored.startswith(top)
    assert message.skip == len(top)


def test_the_original_recipient_is_kept_by_an_alias(site):
    site.directory.add_alias("out@example.org", [OUT])
    site.deliver(HELLO, Recipient(Address.parse("out@example.org"), "", "rfc822;first@x.example"))
    assert site.queued()[0].recipients[0].orcpt == "rfc822;first@x.example"


def test_an_alias_that_is_not_ascii_is_an_original_recipient_of_type_utf8(site):
    site.directory.add_alias("jürgen@example.org", [OUT])
    site.deliver(HELLO, Address.parse("jürgen@example.org"), utf8=True)
    assert site.queued()[0].recipients[0].orcpt == "utf-8;jürgen@example.org"


@pytest.mark.parametrize(
    "sender, expected",
    [
        (SENDER, "SRS0=hash=elsewhere.example=sender@example.org"),
        (None, None),
        (ALICE, None),
        (Address("x" * 50, "elsewhere.example"), None),
    ],
)
def test_the_sender_of_forwarded_mail(open_site, sender, expected):
    site = open_site(srs=FakeSrs())
    site.directory.add_alias("out@example.org", [OUT])
    site.deliver(HELLO, Address.parse("out@example.org"), sender=sender)
    (message,) = site.queued()
    assert message.sender == ("" if sender is None else str(sender))
    assert message.recipients[0].mail_from == expected


def test_without_srs_the_sender_stays(site):
    site.directory.add_alias("out@example.org", [OUT])
    site.deliver(HELLO, Address.parse("out@example.org"))
    assert site.queued()[0].recipients[0].mail_from is None


def test_what_a_user_writes_himself_is_not_rewritten(open_site):
    site = open_site(srs=FakeSrs())
    (message,) = submit(site, OUT, sender=SENDER)
    assert message.recipients[0].mail_from is None


def test_a_bounce_of_forwarded_mail_finds_its_way_back(open_site):
    site = open_site(srs=Srs(b"s" * 32, lambda: NOW))
    site.directory.add_alias("out@example.org", [FAR])
    site.deliver(HELLO, Address.parse("out@example.org"))
    (forwarded,) = site.queued()
    mail_from = forwarded.recipients[0].mail_from
    assert mail_from.startswith("SRS0=")
    assert mail_from.endswith("=elsewhere.example=sender@example.org")
    site.deliver(HELLO, Address.parse(mail_from), sender=None)
    bounce = site.queued()[1]
    (recipient,) = bounce.recipients
    assert (recipient.address, recipient.hop) == ("sender@elsewhere.example", "elsewhere.example")
    assert (bounce.sender, recipient.mail_from, recipient.origin) == ("", None, mail_from)
    forged = mail_from.replace("=sender@", "=victim@")
    with pytest.raises(MailError) as caught:
        site.begin(Address.parse(forged), sender=None)
    assert caught.value.code == 550


# -- whole or not at all


def test_a_stranger_cannot_send_elsewhere(site):
    with pytest.raises(MailError) as caught:
        site.begin(ALICE, OUT)
    assert (caught.value.code, caught.value.enhanced) == (550, "5.7.1")


def test_an_alias_that_leads_elsewhere_now_is_followed_where_it_leads(site):
    site.directory.add_alias("out@example.org", [OUT])
    message = site.begin(Address.parse("out@example.org"))
    done(message.write(HELLO))
    site.directory.remove_alias("out@example.org")
    site.directory.add_alias("out@example.org", [FAR])
    site.run(message.commit())
    assert [one.address for one in site.queued()[0].recipients] == ["far@third.example"]


@pytest.mark.parametrize("targets", [[ALICE], [OUT, ALICE], []])
def test_an_alias_that_has_come_home_or_gone_is_temporary(site, targets):
    site.directory.add_alias("out@example.org", [OUT])
    message = site.begin(Address.parse("out@example.org"))
    done(message.write(LARGE))
    site.directory.remove_alias("out@example.org")
    if targets:
        site.directory.add_alias("out@example.org", targets)
    with pytest.raises(MailError) as caught:
        site.run(message.commit())
    assert caught.value.code == 451
    site.turn()
    assert site.spilled() == site.queued() == site.inbox() == []


def test_a_user_moved_elsewhere_meanwhile(site):
    site.directory.add_alias("out@example.org", [ALICE])
    message = site.begin(Address.parse("out@example.org"))
    done(message.write(HELLO))
    site.directory.remove_alias("out@example.org")
    site.directory.add_alias("out@example.org", [OUT])
    site.run(message.commit())
    (queued,) = site.queued()
    assert site.inbox() == []
    assert site.leaving(queued).startswith(b"Received: ")


def fail_writes(disk, name, args):
    if name == "writev":
        raise OSError(errno.EIO, "no")


def test_a_disk_that_fails_leaves_neither_mailbox_nor_queue(open_site):
    site = open_site()
    before = site.disk.before
    site.disk.before = lambda name, args: fail_writes(site.disk, name, args)
    assert site.refused(HELLO, OUT, BOB, account=person(), sender=ALICE)[0] == 451
    site.disk.before = before
    assert site.queued() == site.inbox("bob") == []


def test_a_mailbox_that_cannot_take_it_keeps_it_out_of_the_queue(site):
    def before(name, args):
        if "example.org/bob" in str(args[0] if args else ""):
            raise OSError(errno.EACCES, "no")

    site.disk.before = before
    assert site.refused(HELLO, OUT, BOB, account=person(), sender=ALICE)[0] == 451
    del site.disk.before
    assert site.queued() == site.inbox("bob") == []


def test_no_alias_makes_a_message_endless(site, monkeypatch):
    monkeypatch.setattr(intake, "MAX_SPREAD", 3)
    for name in ("a", "b"):
        targets = [Address(f"{name}{n}", "elsewhere.example") for n in range(4)]
        site.directory.add_alias(f"{name}@example.org", targets)
    client = Client("192.0.2.7", "x", "ESMTP", None, None, "c1")
    envelope = Envelope(None)
    a, b = addresses("a@example.org", "b@example.org")
    done(site.intake.route(client, envelope, a))  # one alias is taken, however large
    envelope.recipients.append(Recipient(a))
    with pytest.raises(MailError) as caught:
        done(site.intake.route(client, envelope, b))
    assert (caught.value.code, caught.value.enhanced) == (452, "4.5.3")
    done(site.intake.route(client, envelope, ALICE))


# -- with a realm of the site's own

CAROL = Address.parse("carol@example.org")


def test_a_realms_users_write_elsewhere(open_site):
    realm = Mailboxes("carol@example.org")
    site = open_site(realm=realm)
    (message,) = submit(site, OUT, content=LARGE)
    assert site.leaving(message).startswith(b"Received: ")
    assert message.skip == 0
    assert realm.kept == {"carol@example.org": []}


@pytest.mark.parametrize("content", [HELLO, LARGE])
def test_a_message_to_a_realm_and_elsewhere(open_site, content):
    realm = Mailboxes("carol@example.org")
    site = open_site(realm=realm)
    (message,) = submit(site, OUT, CAROL, content=content)
    ((_, kept),) = realm.kept["carol@example.org"]
    assert kept.startswith(b"Return-Path: <alice@example.org>\nReceived: ")
    assert site.leaving(message) == kept.partition(b"\n")[2]
    site.turn()
    assert len(site.spilled()) == (content is LARGE)


def test_a_notice_of_success_is_owed_for_a_realms_mailbox(open_site):
    site = open_site(realm=Mailboxes("carol@example.org"))
    site.deliver(HELLO, Recipient(CAROL, "SUCCESS"))
    assert [one.hop for one in site.queued()[0].recipients] == [""]


def test_a_realm_that_refuses_keeps_it_out_of_the_queue(open_site):
    class Full(Mailboxes):
        async def deliver(self, sender, recipients, message):
            raise MailError(452, "4.2.2", "Mailbox full")

    site = open_site(realm=Full("carol@example.org"))
    facts = {"account": person(), "sender": ALICE}
    assert site.refused(LARGE, OUT, CAROL, **facts) == (452, "4.2.2")
    assert site.queued() == []


def test_a_queue_that_fails_after_the_realm_is_temporary(open_site):
    """The one window: the realm has it, the client sends again."""
    realm = Mailboxes("carol@example.org")
    site = open_site(realm=realm)
    site.disk.before = lambda name, args: fail_writes(site.disk, name, args)
    assert site.refused(HELLO, OUT, CAROL, account=person(), sender=ALICE)[0] == 451
    del site.disk.before
    assert site.queued() == []
    assert len(realm.kept["carol@example.org"]) == 1


def test_a_client_that_vanishes_stops_neither_realm_nor_queue(open_site):
    realm = Mailboxes("carol@example.org")
    realm.waiting = Deferred()
    site = open_site(realm=realm)
    message = site.begin(OUT, CAROL, account=person(), sender=ALICE)
    done(message.write(HELLO))
    committing = ensureDeferred(message.commit())
    committing.addErrback(lambda _: None)
    site.turn()
    committing.cancel()
    waiting, realm.waiting = realm.waiting, None
    waiting.callback(None)
    site.turn()
    assert len(realm.kept["carol@example.org"]) == len(site.queued()) == 1


def test_a_realm_that_has_forgotten_somebody_meanwhile_is_temporary(open_site):
    realm = Mailboxes("carol@example.org")
    site = open_site(realm=realm)
    message = site.begin(CAROL)
    done(message.write(LARGE))
    realm.kept.clear()
    with pytest.raises(MailError) as caught:
        site.run(message.commit())
    assert caught.value.code == 451
    site.turn()
    assert site.spilled() == []
