"""One message from MAIL to its commitment: what stands in it, who gets it, what is left when it comes to nothing."""

from __future__ import annotations

import os

import pytest
from delivering import Mailboxes, done, person
from mailroom import ALICE, BOB, LARGE, SENDER
from twisted.internet.defer import Deferred, ensureDeferred

from twisted_mail.address import Address
from twisted_mail.connection.drive import Cancelled
from twisted_mail.delivery.interfaces import Client, Envelope
from twisted_mail.status import MailError

# -- what stands in it


def test_the_trace_of_a_message_to_one(site):
    number = site.deliver(b"Subject: x\r\n\r\nhi\r\n", ALICE, tls="TLSv1.3 X")
    assert site.inbox() == [
        b"Return-Path: <sender@elsewhere.example>\n"
        b"Delivered-To: alice@example.org\n"
        b"Received: from client.example ([192.0.2.7])\n"
        b"\t(using TLSv1.3 X)\n"
        b"\tby mx.example.org with ESMTP id %s\n"
        b"\tfor <alice@example.org>;\n"
        b"\tFri, 15 Jan 2027 08:00:00 +0000\n"
        b"Subject: x\n\nhi\n" % number.encode()
    ]


def test_the_recipients_of_a_message_to_several_do_not_learn_of_each_other(site):
    site.deliver(b"Subject: x\r\n\r\nhi\r\n", ALICE, BOB)
    (first,), (second,) = site.inbox("alice"), site.inbox("bob")
    assert first == second
    assert b"Delivered-To" not in first
    assert b"@example.org" not in first


def test_a_bounce_has_an_empty_return_path_and_an_old_one_goes(site):
    site.deliver(b"Return-Path: <forged@x.example>\r\n\r\n", ALICE, sender=None)
    (content,) = site.inbox()
    assert content.startswith(b"Return-Path: <>\n")
    assert content.lower().count(b"return-path") == 1


def test_mail_from_outside_is_not_mended(site):
    site.deliver(b"Bcc: bob@example.org\r\n\r\n", ALICE)
    (content,) = site.inbox()
    assert b"\nBcc: bob@example.org\n\n" in content
    assert b"Message-ID" not in content
    assert b"\nDate" not in content


def test_a_submission_is_mended(site):
    number = site.deliver(b"Bcc: bob@example.org\r\n\r\n", ALICE, account=person(), sender=ALICE)
    (content,) = site.inbox()
    assert b"Bcc" not in content
    assert b"with ESMTPSA id" in content
    assert b"\nDate: Fri, 15 Jan 2027 08:00:00 +0000\n" in content
    assert b"Message-ID: <1800000000.%s@mx.example.org>\n" % number.encode() in content


@pytest.mark.parametrize("block", [1, 65_536])
def test_a_nul_in_a_submission_is_the_space_that_leaves(site, block):
    """It is signed as it is stored, and no NUL is ever sent."""
    site.deliver(b"A: \0b\r\n\r\n\0\0x\r\n", ALICE, account=person(), sender=ALICE, block=block)
    (content,) = site.inbox()
    assert b"\0" not in content
    assert b"\nA:  b\n" in content and content.endswith(b"\n\n  x\n")


def test_an_alias_and_its_target_are_one_copy(site):
    site.directory.add_alias("all@example.org", [ALICE, BOB])
    site.deliver(b"\r\nhi\r\n", Address.parse("all@example.org"), ALICE)
    assert len(site.inbox("alice")) == len(site.inbox("bob")) == 1


@pytest.mark.parametrize(
    "content, stored",
    [
        (b"", b""),
        (b"\r\n", b"\n"),
        (b"no header", b"\nno header\n"),
        (b"A: b\r\n\r\nlast", b"A: b\n\nlast\n"),
        (b"A: b\r\n\r\n\0\0\xff\r\n", b"A: b\n\n\0\0\xff\n"),
        (b"A: b\r\n\r\n.\r\n", b"A: b\n\n.\n"),
        (b"A: b\r\n\r\nx\n.\r\ny\r.\r\n", b"A: b\n\nx\n.\ny .\n"),
    ],
)
@pytest.mark.parametrize("block", [1, 65_536])
def test_odd_contents(site, content, stored, block):
    site.deliver(content, ALICE, block=block)
    (content,) = site.inbox()
    assert content.endswith(b" 08:00:00 +0000\n" + stored)


def test_a_large_message_arrives_whole(site):
    site.deliver(LARGE, ALICE, BOB)
    assert site.inbox()[0].endswith(LARGE.replace(b"\r\n", b"\n"))
    assert len(site.spilled()) == 1  # it is the journal's, until its record is dropped


# -- refusals


def test_a_loop_is_refused_and_leaves_nothing(open_site):
    site = open_site(max_received=2)
    loop = b"Received: a\r\nReceived: b\r\n"
    assert site.refused(loop + LARGE, ALICE) == (554, "5.4.6")
    assert site.inbox() == []


@pytest.mark.parametrize("content", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\n\r", LARGE + b"a\nb\r\n"])
@pytest.mark.parametrize("block", [977, 65_536])
def test_bare_newlines_are_refused_where_that_is_wanted(open_site, content, block):
    site = open_site(reject_bare_newlines=True)
    assert site.refused(content, ALICE, block=block) == (550, "5.6.0")
    assert site.inbox() == []
    site.deliver(b"a\r\nb", ALICE)
    assert len(site.inbox()) == 1


def test_a_recipient_that_went_meanwhile_is_temporary_for_all(site):
    message = site.begin(ALICE, BOB)
    done(message.write(b"\r\nhi\r\n"))
    site.directory.remove_user(BOB)
    with pytest.raises(MailError) as caught:
        site.run(message.commit())
    assert caught.value.code == 451
    assert site.inbox() == []


def test_who_may_send_as_whom(site):
    client = Client("192.0.2.7", "x", "ESMTPSA", None, person(), "c1")
    for sender in (ALICE, None):
        done(site.intake.check_sender(client, Envelope(sender)))
    with pytest.raises(MailError) as caught:
        done(site.intake.check_sender(client, Envelope(SENDER)))
    assert (caught.value.code, caught.value.enhanced) == (553, "5.7.1")
    with pytest.raises(MailError) as caught:
        done(site.intake.check_sender(client, Envelope(ALICE, size=1 << 60)))
    assert (caught.value.code, caught.value.enhanced) == (452, "4.3.1")


# -- what comes to nothing


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
def test_an_aborted_message_leaves_nothing(site, turns):
    before = len(os.listdir("/proc/self/fd"))
    message = site.begin(ALICE)
    writing = ensureDeferred(message.write(LARGE))
    for _ in range(turns):
        site.world.reactor.settle()
    writing.addErrback(lambda _: None)
    message.abort()
    message.abort()
    site.turn()
    assert site.spilled() == []
    assert len(os.listdir("/proc/self/fd")) == before
    assert site.inbox() == []


def vanish(coroutine, times):
    """Drive as a session is driven, and give up where it waits for the time number `times`."""
    awaited = coroutine.send(None)
    for _ in range(times):
        results = []
        awaited.addBoth(results.append)
        while not results:
            yield
        awaited = coroutine.send(results[0])
    with pytest.raises(Cancelled):
        coroutine.throw(Cancelled())
    awaited.addErrback(lambda _: None)
    awaited.cancel()


def give_up(site, coroutine, times=0):
    for _ in vanish(coroutine, times):
        site.world.reactor.settle()
    site.turn()


def test_a_client_that_vanishes_during_the_commit_does_not_undo_it_and_leaks_nothing(site):
    site.deliver(b"\r\nfirst\r\n", ALICE)
    before = len(os.listdir("/proc/self/fd"))
    message = site.begin(ALICE)
    done(message.write(b"\r\nhi\r\n"))
    give_up(site, message.commit())
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(site.inbox()) == 2


@pytest.mark.parametrize("times", [0, 1])
def test_a_client_that_vanishes_with_a_large_message_gets_all_of_it_in_or_nothing(site, times):
    site.deliver(b"\r\nfirst\r\n", ALICE)
    assert len(site.inbox()) == 1
    before = len(os.listdir("/proc/self/fd"))
    message = site.begin(ALICE)
    writing = ensureDeferred(message.write(LARGE))
    site.turn()
    assert writing.called
    give_up(site, message.commit(), times)
    found = site.inbox()
    assert len(os.listdir("/proc/self/fd")) == before
    if len(found) == 2:
        assert found[1].endswith(LARGE.replace(b"\r\n", b"\n"))
    else:
        assert site.spilled() == []


# -- a realm that takes local mail itself


def test_a_realm_gets_the_message_with_its_trace(open_site):
    realm = Mailboxes("carol@example.org", "dora@example.org")
    site = open_site(realm=realm)
    carol, dora = Address.parse("carol@example.org"), Address.parse("dora@example.org")
    client = Client("192.0.2.7", "x", "ESMTP", None, None, "c1")
    site.run(site.intake.route(client, Envelope(None), carol))
    site.deliver(b"Subject: x\r\n\r\nhi", carol, dora)
    site.deliver(LARGE, carol, sender=None)
    (sender, first), (none, second) = realm.kept["carol@example.org"]
    assert (sender, none) == (SENDER, None)
    assert first.startswith(b"Return-Path: <sender@elsewhere.example>\nReceived: ")
    assert first.endswith(b"\nSubject: x\n\nhi\n")
    assert second.endswith(LARGE.replace(b"\r\n", b"\n"))
    assert realm.kept["dora@example.org"] == [(SENDER, first)]
    assert site.spilled() == []


def test_a_realm_that_refuses_is_heard(open_site):
    class Full(Mailboxes):
        async def deliver(self, sender, recipients, message):
            raise MailError(452, "4.2.2", "Mailbox full")

    site = open_site(realm=Full("carol@example.org"))
    assert site.refused(LARGE, Address.parse("carol@example.org")) == (452, "4.2.2")


def test_a_client_that_vanishes_does_not_stop_a_realm_half_way(open_site):
    realm = Mailboxes("carol@example.org", "dora@example.org")
    realm.waiting = Deferred()
    site = open_site(realm=realm)
    message = site.begin(*map(Address.parse, realm.kept))
    done(message.write(b"\r\nhi\r\n"))
    give_up(site, message.commit(), 1)
    waiting, realm.waiting = realm.waiting, None
    waiting.callback(None)
    assert [len(kept) for kept in realm.kept.values()] == [1, 1]
    assert site.spilled() == []
