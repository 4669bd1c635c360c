"""Two sites of this server write to each other: what arrives, what comes back, and what outages do to it."""

from __future__ import annotations

import email

import pytest
from simulated_sites import ALICE, BOB, OTHER, TWO, Greylisting, Sites

DAY = 86400


@pytest.fixture
def sites(tmp_path):
    sites = Sites(tmp_path)
    yield sites
    sites.stop()


def test_alice_writes_to_bob_and_bob_reads(sites):
    assert sites.one.submit(BOB, subject="for bob").startswith(b"250 2.0.0 ")
    sites.advance(5)
    (message,) = sites.two.fetch()
    assert b"\r\nSubject: for bob\r\n" in message
    received = email.message_from_bytes(message).get_all("Received")
    assert len(received) == 2 and "TLSv1.3" in received[0] + received[1]
    assert "from mx.one.example" in received[0] and "by mx.two.example" in received[0]
    assert sites.one.waiting() == [] and sites.one.fetch() == []


def test_alice_writes_to_nobody_and_gets_a_bounce_that_she_understands(sites):
    assert sites.one.submit("nobody@two.example", subject="who are you?").startswith(b"250 ")
    sites.advance(5)
    (bounce,) = map(email.message_from_bytes, sites.one.fetch())
    assert bounce.get_content_type() == "multipart/report"
    assert (bounce["To"], bounce["Return-Path"]) == (f"<{ALICE}>", "<>")
    words, report, original = bounce.get_payload()
    text = words.get_payload()
    assert "nobody@two.example" in text and "mx.two.example said: 550 5.1.1" in text
    assert "Final-Recipient: rfc822;nobody@two.example" in report.as_string()
    assert "Status: 5.1.1" in report.as_string() and "Action: failed" in report.as_string()
    assert "Subject: who are you?" in original.as_string()
    assert sites.one.waiting() == sites.two.waiting() == []


def test_one_message_to_both(sites):
    sites.one.submit(BOB, "nobody@two.example", ALICE, subject="all of you")
    sites.advance(5)
    assert sites.two.subjects() == ["all of you"]
    (copy, bounce) = sorted(sites.one.fetch(), key=lambda message: b"multipart/report" in message)
    assert b"Subject: all of you" in copy
    assert (
        b"nobody@two.example" in bounce and b"<bob@two.example>" not in bounce.split(b"\r\n--")[1]
    )


def test_a_domain_that_does_not_exist_comes_back_at_once(sites):
    sites.one.submit("carol@nowhere.example")
    sites.advance(5)
    (bounce,) = sites.one.fetch()
    assert b"carol@nowhere.example" in bounce and b"5.1.2" in bounce


def test_a_server_that_is_down_for_a_day(sites):
    sites.two.stop()
    sites.one.submit(BOB, subject="patience")
    sites.advance(DAY)
    assert len(sites.one.waiting()) == 1
    (warning,) = sites.one.fetch()
    assert b"Action: delayed" in warning
    sites.two.start()
    sites.until(lambda: sites.two.subjects(), within=4.5 * 3600)
    sites.advance(3600)
    assert sites.two.subjects() == ["patience"]
    assert len(sites.one.fetch()) == 1  # there is still only the warning
    assert sites.one.waiting() == []


def test_a_black_hole_for_a_day(sites):
    sites.world.network.host(TWO).silent = True
    sites.one.submit(BOB, subject="patience")
    sites.advance(DAY)
    sites.world.network.host(TWO).silent = False
    sites.until(lambda: sites.two.subjects(), within=4.5 * 3600)
    sites.advance(3600)
    assert sites.two.subjects() == ["patience"]


def test_a_server_that_never_comes_back(tmp_path):
    sites = Sites(tmp_path, lifetime_seconds=7200, warn_after_seconds=0)
    sites.two.stop()
    sites.one.submit(BOB, subject="in vain")
    sites.advance(7000)
    assert sites.one.subjects() == []
    sites.advance(400)
    (bounce,) = sites.one.fetch()
    assert b"Action: failed" in bounce and b"Subject: in vain" in bounce
    assert sites.one.waiting() == []
    sites.stop()


def test_greylisting(sites):
    other = Greylisting(sites.world, 300)
    sites.zone["other.example"] = {"MX": [(10, "mx.other.example")]}
    sites.zone["mx.other.example"] = {"A": [OTHER]}
    sites.world.at(OTHER).reactor.listenTCP(25, other)
    sites.one.submit("dave@other.example")
    sites.advance(3600)
    ((recipient, letter),) = other.taken
    assert recipient == "dave@other.example" and b"Subject: hello" in letter
    assert len(other.asked) in (2, 3)
    assert sites.one.waiting() == [] and sites.one.fetch() == []
    first, *_, last = sites.one.attempts()
    assert first.startswith("451 4.7.1 Greylisted") and last.startswith("250 2.0.0")


def test_the_next_mx_takes_what_the_first_does_not(sites):
    backup = Greylisting(sites.world)
    sites.zone["two.example"]["MX"] = [(10, "mx.two.example"), (20, "backup.example")]
    sites.zone["backup.example"] = {"A": [OTHER]}
    sites.world.at(OTHER).reactor.listenTCP(25, backup)
    sites.one.submit(BOB, subject="to the first")
    sites.advance(10)
    assert (sites.two.subjects(), backup.taken) == (["to the first"], [])
    sites.two.stop()
    sites.one.submit(BOB, subject="to the second")
    sites.advance(10)
    ((recipient, letter),) = backup.taken
    assert recipient == BOB and b"Subject: to the second" in letter
    assert sites.one.waiting() == []


def test_a_first_mx_in_a_black_hole(sites):
    backup = Greylisting(sites.world)
    sites.zone["two.example"]["MX"] = [(10, "mx.two.example"), (20, "backup.example")]
    sites.zone["backup.example"] = {"A": [OTHER]}
    sites.world.at(OTHER).reactor.listenTCP(25, backup)
    sites.world.network.host(TWO).silent = True
    sites.one.submit(BOB)
    sites.advance(600)
    assert len(backup.taken) == 1 and sites.one.waiting() == []


def test_a_dns_failure_waits(sites):
    sites.zone.failing.add("MX two.example")
    sites.one.submit(BOB)
    sites.advance(60)
    assert len(sites.one.waiting()) == 1 and sites.one.fetch() == []
    sites.zone.failing.clear()
    sites.until(lambda: sites.two.subjects(), within=3600)
    assert sites.one.waiting() == []
