"""A message that is inspected while it comes: what the inspection is shown, and what its word does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailroom import ALICE, BOB, LARGE, SENDER, Site
from twisted.internet.defer import Deferred

from twisted_mail.address import Address
from twisted_mail.delivery.interfaces import Client, Disposition, Envelope, Recipient
from twisted_mail.status import MailError
from twisted_mail.storage.queued import Change, State, Verdict
from twisted_mail.storage.spool_view import Filter

FAR = Address.parse("far@away.example")
SMALL = b"Return-Path: <x>\r\nSubject: hello\r\n folded\r\n\r\nbody\r\n.\r\nend\r\n"


class Look:
    """`delivery.interfaces.Inspection` that says what it was told to say."""

    def __init__(self, says=None, decides=True):
        self.says = says
        self.decides = decides
        self.headers = []
        self.text = b""
        self.ends = []
        self.room = None
        self.foretold = None
        self.arrived = None

    def header(self, header):
        assert self.text == b""
        self.headers.append(header)

    def body(self, text):
        assert self.headers
        assert text
        self.text += text
        return self.room

    def foretell(self, header):
        return self.foretold

    async def decide(self, arrived):
        self.arrived = arrived
        if self.says is None:
            return Disposition(arrived.header)
        result = self.says(arrived)
        return await result if hasattr(result, "__await__") else result

    def passes(self):
        self.ends.append("passes")

    def over(self, error):
        self.ends.append("taken" if error is None else str(error))

    def abort(self):
        self.ends.append("aborted")


class Visitor:
    waits = False

    def __init__(self, look):
        self.look = look
        self.told = []

    def helo(self, name):
        pass

    def begin_story(self, client, envelope):
        self.told.append(("story", str(envelope.reverse_path)))

    def answered(self, error):
        self.told.append(("answered", error.code))

    async def sender(self, client, envelope):
        self.told.append(("MAIL", str(envelope.reverse_path)))

    async def recipient(self, client, envelope, recipient, here):
        self.told.append(("RCPT", str(recipient), here))
        if recipient == BOB:
            raise MailError(451, "4.7.1", "Come back later")

    def refused(self, client, envelope, recipient, error):
        self.told.append(("refused", str(recipient)))

    def begin(self, client, envelope, message_id):
        return self.look

    def end(self):
        pass


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.close()


def send(site, content, look, *recipients, piece=65_536):
    visitor = Visitor(look)
    client = Client("192.0.2.7", "client.example", "ESMTP", None, None, "c1", visitor)
    envelope = Envelope(SENDER)
    envelope.recipients += [Recipient(one) for one in recipients or (ALICE,)]
    envelope.departing = sum(one.domain != "example.org" for one in recipients)
    message = site.intake.begin(client, envelope)

    async def all_of_it():
        for at in range(0, len(content), piece):
            await message.write(content[at : at + piece])
        await message.commit()
        return message

    return site.run(all_of_it())


def kept(site, name="alice"):
    (text,) = site.inbox(name)
    return text


@pytest.mark.parametrize("piece", [1, 7, 65_536])
def test_it_is_shown_what_came_and_the_rest_is_as_without_it(site, piece):
    look = Look()
    send(site, SMALL, look, piece=piece)
    assert look.headers == [b"Return-Path: <x>\nSubject: hello\n folded\n"]
    assert look.text == b"body\n.\nend\n"
    assert look.arrived.header == b"Subject: hello\n folded\n"
    assert look.ends == ["taken"]
    text = kept(site)
    assert text.startswith(b"Return-Path: <sender@elsewhere.example>\nDelivered-To: alice@")
    assert text.endswith(b"\nSubject: hello\n folded\n\nbody\n.\nend\n")


@given(content=st.binary(max_size=80), piece=st.integers(1, 30), decides=st.booleans())
def test_any_content_is_kept_as_without_it(tmp_path_factory, content, piece, decides):
    site = Site(tmp_path_factory.mktemp("site"))
    try:
        look = Look(decides=decides)
        send(site, content, look, piece=piece)
        site.deliver(content, BOB)
        behind_trace = [kept(site, name).partition(b" +0000\n")[2] for name in ("alice", "bob")]
        assert behind_trace[0] == behind_trace[1]
        assert len(look.headers) == 1
    finally:
        site.close()


@pytest.mark.parametrize("content", [SMALL, LARGE])
def test_who_decides_nothing_is_shown_it_and_told_that_it_passes(site, content):
    look = Look(says=lambda arrived: pytest.fail("not asked"), decides=False)
    send(site, content, look)
    header, _, body = content.replace(b"\r\n", b"\n").partition(b"\n\n")
    assert (look.headers, look.text) == ([header + b"\n"], body)
    assert look.ends == ["passes", "taken"]
    assert kept(site).endswith(header.partition(b"\n")[2] + b"\n\n" + body)


def test_fields_come_on_top_of_our_trace_and_the_header_is_another(site):
    look = Look(lambda arrived: Disposition(b"Subject: other\n", b"Authentication-Results: x\n"))
    send(site, SMALL, look)
    text = kept(site)
    assert b"Delivered-To: alice@example.org\nAuthentication-Results: x\nReceived: from" in text
    assert text.endswith(b"\nSubject: other\n\nbody\n.\nend\n")


def test_a_large_one_too(site):
    look = Look(lambda arrived: Disposition(arrived.header, b"X-Top: 1\n"))
    send(site, LARGE, look)
    assert look.text == LARGE.replace(b"\r\n", b"\n").partition(b"\n\n")[2]
    text = kept(site)
    assert b"\nX-Top: 1\nReceived: " in text
    assert text.endswith(LARGE.replace(b"\r\n", b"\n"))
    # the one that the journal names
    assert len(site.spilled()) == 1


def test_another_body(site):
    def other(arrived):
        body = site.intake.another_draft()
        body.write(b"\nquite another body\n")
        return Disposition(arrived.header, body=body)

    send(site, LARGE, Look(other))
    assert kept(site).endswith(b"Subject: large\n\nquite another body\n")
    assert site.spilled() == []


def test_junk_goes_to_the_folder_for_it(site):
    send(site, SMALL, Look(lambda arrived: Disposition(arrived.header, junk=True)))
    assert site.inbox() == []
    mailboxes = site.run(site.store.open_mailboxes("example.org/alice"))
    assert site.run(mailboxes.status("Junk")).messages == 1
    site.run(mailboxes.close())


def test_what_is_discarded_is_answered_and_nobody_gets_it(site):
    look = Look(lambda arrived: Disposition(arrived.header, discard=True))
    send(site, LARGE, look)
    assert site.inbox() == []
    assert site.spilled() == []
    assert look.ends == ["taken"]


def test_recipients_may_be_others(site):
    def change(arrived):
        arrived.envelope.recipients[:] = [Recipient(BOB, added=True), Recipient(FAR, added=True)]
        return Disposition(arrived.header)

    send(site, SMALL, Look(change))
    assert site.inbox() == []
    assert b"Delivered-To" not in kept(site, "bob")
    (queued,) = site.queued()
    assert [one.address for one in queued.recipients] == [str(FAR)]


def test_a_message_without_recipients_left_is_over(site):
    def change(arrived):
        arrived.envelope.recipients.clear()
        return Disposition(arrived.header)

    look = Look(change)
    send(site, SMALL, look)
    assert site.inbox() == []
    assert look.ends == ["taken"]


def test_a_refusal_leaves_nothing(site):
    def refuse(arrived):
        raise MailError(550, "5.7.26", "Not from there")

    look = Look(refuse)
    with pytest.raises(MailError, match="Not from there"):
        send(site, LARGE, look)
    site.turn()
    assert site.spilled() == []
    assert look.ends == ["550 5.7.26 Not from there"]


def test_a_failure_of_ours_is_no_word_on_the_message(site):
    def fail(arrived):
        raise ValueError("a mistake of ours")

    look = Look(fail)
    with pytest.raises(ValueError, match="mistake"):
        send(site, SMALL, look)
    assert look.ends[0].startswith("451 4.3.0")
    assert site.inbox() == []


def test_who_leaves_while_it_is_decided_takes_everything_with_him(site):
    never = Deferred()

    async def wait(arrived):
        await never

    look = Look(wait)
    message = None
    with pytest.raises(BaseException):  # noqa: B017 - whatever the driver throws in
        visitor = Visitor(look)
        client = Client("192.0.2.7", "c", "ESMTP", None, None, "c1", visitor)
        message = site.intake.begin(client, Envelope(SENDER, recipients=[Recipient(ALICE)]))
        site.run(message.write(LARGE))
        committing = message.commit()
        while not look.arrived:
            committing.send(None)
            site.turn()
        committing.throw(GeneratorExit)
    site.turn()
    assert look.ends == ["aborted"]
    assert site.spilled() == []


def test_the_writer_waits_for_the_inspection(site):
    look = Look()
    look.room = Deferred()
    client = Client("192.0.2.7", "c", "ESMTP", None, None, "c1", Visitor(look))
    message = site.intake.begin(client, Envelope(SENDER, recipients=[Recipient(ALICE)]))
    over = []
    Deferred.fromCoroutine(message.write(SMALL)).addCallback(over.append)
    site.turn()
    assert over == []
    look.room.callback(None)
    site.turn()
    assert over == [None]
    message.abort()
    assert look.ends == ["aborted"]


def test_the_visit_hears_of_senders_and_recipients(site):
    visitor = Visitor(None)
    client = Client("192.0.2.7", "c", "ESMTP", None, None, "c1", visitor)
    envelope = Envelope(SENDER)
    site.run(site.intake.check_sender(client, envelope))
    site.run(site.intake.route(client, envelope, ALICE))
    for wrong in (BOB, Address.parse("nobody@example.org"), FAR):
        with pytest.raises(MailError):
            site.run(site.intake.route(client, envelope, wrong))
    assert visitor.told == [
        ("MAIL", "sender@elsewhere.example"),
        ("RCPT", "alice@example.org", True),
        ("RCPT", "bob@example.org", True),
        ("refused", "nobody@example.org"),
        ("refused", "far@away.example"),
    ]


def test_what_is_held_waits_in_the_queue_until_somebody_lets_it_go(site):
    def hold(arrived):
        arrived.envelope.recipients[:] = [Recipient(FAR, added=True), Recipient(ALICE)]
        return Disposition(arrived.header, junk=True, hold="somebody shall look at it")

    send(site, SMALL, Look(hold))
    view = site.store.queue.view
    (listed,) = view.page(Filter(states=tuple(State)))
    assert listed.state is State.HELD
    assert view.page(Filter(states=(State.WAITING,))) == []
    change = Change(listed.id, (Verdict(listed.number, State.WAITING, site.world.now()),))
    site.run(site.store.change([change]))
    assert [one.state for one in view.page(Filter(states=tuple(State)))] == [State.WAITING]
