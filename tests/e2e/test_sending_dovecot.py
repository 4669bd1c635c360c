"""Dovecot behind this server: mail goes to it by LMTP, over TCP and over a socket of the system."""

from __future__ import annotations

import os

import pytest
from mailsite import PASSWORD, until
from outside import written
from peers import Dovecot, open_directory

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.needs("dovecot", "/usr/lib/dovecot/lmtp"),
    pytest.mark.skipif(os.geteuid() != 0, reason="Dovecot is started by root only"),
]

ALICE = "alice@front.example"
DOMAINS = ["tcp.example", "unix.example"]


@pytest.fixture(scope="module")
def dovecot():
    with open_directory() as place:
        users = [f"{name}@{domain}" for domain in DOMAINS for name in ("bob", "carol")]
        made = Dovecot(place, users, PASSWORD)
        made.start()
        yield made
        made.stop()


@pytest.fixture(scope="module")
def sender(sites, dovecot):
    routes = f"""
[[routes]]
domain = "tcp.example"
via = "lmtp://127.0.0.1:{dovecot.port}"
accept = true

[[routes]]
domain = "unix.example"
via = "lmtp:{dovecot.socket}"
accept = true
"""
    return sites("front.example", "alice", extra=routes)


@pytest.fixture(params=DOMAINS)
def domain(request) -> str:
    return request.param


def subjects(dovecot, user: str) -> list[str]:
    return sorted(str(one["Subject"]) for one in dovecot.messages(user))


def test_each_recipient_has_an_answer_of_its_own(sender, dovecot, domain):
    bob, carol, nobody = (f"{name}@{domain}" for name in ("bob", "carol", "nobody"))
    id_ = sender.submit(ALICE, [bob, nobody, carol], f"three at {domain}")
    story = sender.wait_for(id_, "delivered", "bounced")
    assert sender.states(id_) == {bob: "delivered", nobody: "bounced", carol: "delivered"}
    assert f"three at {domain}" in subjects(dovecot, bob)
    assert f"three at {domain}" in subjects(dovecot, carol)
    (got,) = [one for one in dovecot.messages(bob) if one["Subject"] == f"three at {domain}"]
    assert got["Return-Path"] == f"<{ALICE}>"
    assert "with LMTP" in got.get_all("Received")[0]
    notice = sender.notice(ALICE, f"three at {domain}")
    assert notice.recipient["Final-Recipient"] == f"rfc822;{nobody}"
    assert notice.recipient["Status"] == "5.1.1"
    assert story["over"] is not None


def test_mail_from_strangers_goes_through(sender, dovecot, domain):
    bob = f"bob@{domain}"
    with sender.smtp() as session:
        message = written(f"stranger to {domain}", sender="x@y.example", to=[bob])
        session.sendmail("x@y.example", [bob], message)
    until(lambda: f"stranger to {domain}" in subjects(dovecot, bob), "dovecot has it")


def test_a_large_message(sender, dovecot, domain):
    bob = f"bob@{domain}"
    text = "a line of thirty-two characters.\n" * 60_000
    id_ = sender.submit(ALICE, [bob], written("large", sender=ALICE, to=[bob], text=text))
    sender.wait_for(id_, "delivered")
    (got,) = [one for one in dovecot.messages(bob) if one["Subject"] == "large"]
    assert got.get_content() == text


def test_while_it_is_down(sender, dovecot, domain):
    bob = f"bob@{domain}"
    dovecot.stop()
    try:
        id_ = sender.submit(ALICE, [bob], f"later to {domain}")
        sender.wait_for(id_, "deferred")
    finally:
        dovecot.start()
    sender.mailctl("queue", "flush")
    sender.wait_for(id_, "delivered")
    assert subjects(dovecot, bob).count(f"later to {domain}") == 1
