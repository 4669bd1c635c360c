"""Debian's smtp-sink with its faults as the destination: each comes to the end it should, nothing hangs."""

from __future__ import annotations

import pytest
from outside import written
from peers import sink

pytestmark = [pytest.mark.e2e, pytest.mark.needs("smtp-sink")]

ALICE = "alice@faults.example"
BOUNCED = "bounced"
DEFERRED = "deferred"
DELIVERED = "delivered"


@pytest.fixture(scope="module")
def sender(sites):
    return sites("faults.example", "alice")


FAULTS = {
    # rejected for now
    "-r connect": (DEFERRED, "450"),
    "-r helo,ehlo": (DEFERRED, "450"),
    "-r mail": (DEFERRED, "450 4.3.0 Error: command failed"),
    "-r rcpt": (DEFERRED, "450 4.3.0 Error: command failed"),
    "-r data": (DEFERRED, "450 4.3.0 Error: command failed"),
    "-r .": (DEFERRED, "450 4.3.0 Error: command failed"),
    "-r quit": (DELIVERED, "250"),
    "-r rset": (DELIVERED, "250"),
    # for good; what is refused before there is a message is mostly about us
    "-f connect": (DEFERRED, "500"),
    "-f ehlo": (DELIVERED, "250"),
    "-f helo,ehlo": (DEFERRED, "500"),
    "-f mail": (BOUNCED, "500 5.3.0 Error: command failed"),
    "-f rcpt": (BOUNCED, "500 5.3.0 Error: command failed"),
    "-f data": (BOUNCED, "500 5.3.0 Error: command failed"),
    "-f .": (BOUNCED, "500 5.3.0 Error: command failed"),
    "-f quit": (DELIVERED, "250"),
    "-f rset": (DELIVERED, "250"),
    # hangs up
    "-q connect": (DEFERRED, "closed the connection"),
    "-q ehlo": (DEFERRED, "closed the connection"),
    "-q mail": (DEFERRED, "closed the connection"),
    "-q rcpt": (DEFERRED, "closed the connection"),
    "-q data": (DEFERRED, "closed the connection"),
    "-q .": (DEFERRED, "closed the connection"),
    "-q quit": (DELIVERED, "250"),
    # says 421 and hangs up
    "-Q connect": (DEFERRED, "421"),
    "-Q ehlo": (DEFERRED, "421"),
    "-Q mail": (DEFERRED, "421"),
    "-Q rcpt": (DEFERRED, "421"),
    "-Q data": (DEFERRED, "421"),
    "-Q .": (DEFERRED, "421"),
    "-Q quit": (DELIVERED, "250"),
    # knows less
    "-e": (DELIVERED, "250"),
    "-E": (DELIVERED, "250"),
    "-8": (DELIVERED, "250"),
    "-N": (DELIVERED, "250"),
    "-p": (DELIVERED, "250"),
    "-P": (DELIVERED, "250"),
    # is slow, or has a small window
    "-w 1": (DELIVERED, "250"),
    "-W ehlo:1": (DELIVERED, "250"),
    "-p -W mail:1": (DELIVERED, "250"),  # with pipelining it answers RCPT before MAIL
    "-H 1 -T 512": (DELIVERED, "250"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault(sender, outside, fault):
    state, words = FAULTS[fault]
    domain = f"sink{list(FAULTS).index(fault)}.example"
    outside.domain(domain)
    to = [f"bob@{domain}", f"carol@{domain}"]
    text = "a line of thirty-two characters.\n" * 8000
    with sink(outside.address_of(f"mx.{domain}"), outside.port, *fault.split()) as peer:
        message = written(fault, sender=ALICE, to=to, text=text)
        id_ = sender.submit(ALICE, to, message)
        story = sender.wait_for(id_, state)
        assert all(words in one["reason"] for one in story["recipients"]), story
        if state == DELIVERED:
            (got,) = peer.messages()
            assert got.count(b"a line of thirty-two characters.\n") == 8000
    if state == BOUNCED:
        notice = sender.notice(ALICE, fault)
        assert [one["Final-Recipient"] for one in notice.recipients] == [f"rfc822;{t}" for t in to]
        assert {one["Status"][0] for one in notice.recipients} == {"5"}
        assert words in notice.words
        sender.empty(ALICE)
    else:
        assert sender.messages(ALICE) == []


def test_a_server_that_speaks_in_the_midst_of_the_message(sender, outside):
    """And hangs up: what that answers depends on whether it overtakes the end of the message."""
    outside.domain("hasty.example")
    with sink(outside.address_of("mx.hasty.example"), outside.port, "-A", "0"):
        id_ = sender.submit(ALICE, ["bob@hasty.example"], "hasty")
        (one,) = sender.wait_for(id_, DEFERRED, BOUNCED)["recipients"]
    if one["state"] == BOUNCED:
        assert "550 5.0.0 This violates SMTP" in one["reason"]
        assert "This violates SMTP" in sender.notice(ALICE, "hasty").words
        sender.empty(ALICE)
    else:
        assert "550 This violates SMTP" in one["reason"] or "closed" in one["reason"]
        assert sender.messages(ALICE) == []


def test_success_is_told_for_a_server_without_dsn(sender, outside):
    outside.domain("old.example")
    with sink(outside.address_of("mx.old.example"), outside.port, "-N"):
        id_ = sender.submit(ALICE, ["bob@old.example"], "far", rcpt_options=["NOTIFY=SUCCESS"])
        sender.wait_for(id_, "delivered")
    notice = sender.notice(ALICE, "far")
    assert notice.recipient["Action"] == "relayed"
    assert "passed on to the mail server of:\nbob@old.example" in notice.words
    sender.empty(ALICE)


def test_dsn_parameters_travel(sender, outside):
    """To a server that knows DSN; it is responsible then."""
    outside.domain("new.example")
    with sink(outside.address_of("mx.new.example"), outside.port) as peer:
        options = {"options": ["RET=HDRS", "ENVID=a+2Bb"], "rcpt_options": ["NOTIFY=SUCCESS"]}
        id_ = sender.submit(ALICE, ["bob@new.example"], "near", **options)
        sender.wait_for(id_, "delivered")
        (got,) = peer.messages()
    header = got.partition(b"\n\n")[0]
    assert b"RET=HDRS" in header
    assert b"ENVID=a+2Bb" in header
    assert b"NOTIFY=SUCCESS" in header
    assert sender.messages(ALICE) == []


def test_many_messages_share_connections(sender, outside):
    outside.domain("many.example")
    sender.mailctl("queue", "flush")
    with sink(outside.address_of("mx.many.example"), outside.port) as peer:
        ids = [sender.submit(ALICE, ["bob@many.example"], f"number {n}") for n in range(30)]
        for id_ in ids:
            sender.wait_for(id_, "delivered")
        assert sorted(peer.subjects()) == sorted(f"number {n}" for n in range(30))
