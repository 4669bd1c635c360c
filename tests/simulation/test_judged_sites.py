"""Three sites that sign, check, refuse and forward: what SPF, DKIM, DMARC and ARC make of mail between them."""

from __future__ import annotations

import base64
import email
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from simulated_sites import ALICE, BOB, ONE, TWO, Site, make_zone

from twisted_mail.accounts.directory import Directory
from twisted_mail.address import Address
from twisted_mail.disk import OsDisk
from twisted_mail.storage.dkim_keys import ACTIVE, KeyFiles
from twisted_mail.storage.reputation import Reputation
from twisted_mail.storage.stories import Story, find
from twisted_mail.testing import simulated_world
from twisted_mail.testing.disk import HookedDisk
from twisted_mail.testing.dns import FakeResolver, Zone

THREE, STRANGER = "192.0.2.40", "198.51.100.66"
CAROL = "carol@three.example"
FORGED = (
    b"From: Alice <alice@one.example>\r\nTo: bob@two.example\r\nSubject: forged\r\n"
    b"Authentication-Results: mx.two.example; dmarc=pass header.from=one.example\r\n"
    b"Message-ID: <forged@one.example>\r\n\r\nSend money.\r\n.\r\n"
)


def zone_of_three() -> Zone:
    """Each domain with its server and its policies, all of which want to be obeyed."""
    zone = make_zone()
    zone["three.example"] = {"MX": [(10, "mx.three.example")]}
    zone["mx.three.example"] = {"A": [THREE]}
    for domain, address in (("one", ONE), ("two", TWO), ("three", THREE)):
        zone[f"{domain}.example"]["TXT"] = ["v=spf1 mx -all"]
        zone[f"mx.{domain}.example"]["TXT"] = ["v=spf1 a -all"]
        zone[f"_dmarc.{domain}.example"] = {"TXT": ["v=DMARC1; p=reject"]}
        name = ".".join(reversed(address.split("."))) + ".in-addr.arpa"
        zone[name] = {"PTR": [f"mx.{domain}.example"]}
    return zone


class Judged:
    """The three, up, with keys in the DNS."""

    def __init__(self, directory: Path, **tables: Any) -> None:
        self.zone = zone_of_three()
        self.resolver = FakeResolver(self.zone)
        self.world = simulated_world(resolver=self.resolver, disk=HookedDisk())
        self.one = Site(self.world, directory, ALICE, ONE)
        self.two = Site(self.world, directory, BOB, TWO)
        self.three = Site(self.world, directory, CAROL, THREE)
        self.sites = (self.one, self.two, self.three)
        for site in self.sites:
            site.more = {
                "checks": {"enabled": True},
                "rates": {},
                # What a stranger is suspected of is not what these tests are about
                "reputation": {"junk_score": 50.0, "refuse_score": 90.0},
                **tables,
            }
            site.start()
            self.publish(site)

    def publish(self, site: Site) -> None:
        keys = KeyFiles(OsDisk(), str(site.directory / "data"), self.world.now)
        for row in keys.add(site.domain, ACTIVE):
            self.zone[row.name] = {"TXT": [row.record]}

    def without_keys_of_one(self, site: Site) -> None:
        """To this site alone the signatures of one.example are nothing: as when a list has changed the message."""
        site.stop()
        keys = {name for name in self.zone if name.endswith("_domainkey.one.example")}
        site.resolver = FakeResolver(
            Zone({name: records for name, records in self.zone.items() if name not in keys})
        )
        site.start()

    def advance(self, seconds: float) -> None:
        self.world.reactor.advance(seconds)

    def stop(self) -> None:
        for site in self.sites:
            site.stop()

    def from_outside(self, site: Site, content: bytes, sender: str, *recipients: str) -> list[str]:
        """The last reply of each step of somebody who just connects."""
        client = site.world.reactor.connect(25, address=STRANGER)
        said = [client.read()]
        steps = ["EHLO forger.example", f"MAIL FROM:<{sender}>"]
        steps += [f"RCPT TO:<{one}>" for one in recipients]
        for step in (*steps, "DATA"):
            said.append(client.ask(step.encode() + b"\r\n"))
            self.advance(0.01)
            said[-1] += client.read()
        if said[-1].startswith(b"354"):
            said.append(client.ask(content))
            self.advance(30)
            said[-1] += client.read()
        client.close()
        return [one.decode().splitlines()[-1] if one else "" for one in said]

    def story(self, site: Site, name: str) -> Story:
        self.advance(2)
        found = find(site.directory / "data" / "stories.sqlite3", name)
        assert found, f"no story of {name}"
        return found[-1]


@pytest.fixture
def judged(tmp_path):
    judged = Judged(tmp_path)
    yield judged
    judged.stop()


def only(site: Site) -> Message:
    (message,) = site.fetch()
    return email.message_from_bytes(message)


def results(message: Message) -> str:
    """The topmost Authentication-Results, on one line."""
    return " ".join(message["Authentication-Results"].split())


def test_mail_from_one_passes_at_the_other(judged):
    assert judged.one.submit(BOB).startswith(b"250 ")
    judged.advance(10)
    message = only(judged.two)
    said = results(message)
    assert said.startswith("mx.two.example; iprev=pass")
    assert "spf=pass" in said and "smtp.mailfrom=alice@one.example" in said
    assert said.count("dkim=pass") == 2 and "header.d=one.example" in said
    assert "header.a=ed25519-sha256" in said and "header.a=rsa-sha256" in said
    assert "dmarc=pass" in said and "header.from=one.example" in said
    assert message.keys()[:3] == ["Return-Path", "Delivered-To", "Authentication-Results"]
    story = judged.story(judged.two, message["Message-ID"])
    text = "\n".join(line for _, line in story.lines)
    assert "192.0.2.10 connects" in text and "DMARC of one.example: pass" in text
    assert text.splitlines()[-1].startswith("answered 250: accepted as ")


def test_a_forged_one_is_refused_and_its_story_says_why(judged):
    said = judged.from_outside(judged.two, FORGED, "alice@one.example", BOB)
    assert said[-1].startswith("550 5.7.26 ")
    assert "one.example" in said[-1]
    assert judged.two.fetch() == []
    story = judged.story(judged.two, "<forged@one.example>")
    text = "\n".join(line for _, line in story.lines)
    assert "SPF of MAIL FROM one.example: fail" in text
    assert "answered: 550 5.7.26" in text


def test_a_policy_that_is_only_recorded_refuses_nobody_and_our_name_is_taken_off(tmp_path):
    judged = Judged(tmp_path, checks={"enabled": True, "dmarc": "record"})
    try:
        said = judged.from_outside(judged.two, FORGED, "somebody@forger.example", BOB)
        assert said[-1].startswith("250 ")
        message = only(judged.two)
        (field,) = message.get_all("Authentication-Results")
        assert "dmarc=fail" in field and "dmarc=pass" not in field
    finally:
        judged.stop()


def test_quarantine_is_the_folder_for_junk(judged):
    judged.zone["_dmarc.one.example"]["TXT"] = ["v=DMARC1; p=quarantine"]
    said = judged.from_outside(judged.two, FORGED, "x@forger.example", BOB)
    assert said[-1].startswith("250 ")
    assert judged.two.fetch() == []
    junk = judged.two.directory / "data" / "mail" / "two.example" / "bob" / "Maildir" / ".Junk"
    (name,) = (junk / "new").iterdir()
    assert b"Subject: forged" in name.read_bytes()


def test_a_dns_that_does_not_answer_puts_mail_off(judged):
    judged.zone.failing.add("TXT _dmarc.one.example")
    said = judged.from_outside(judged.two, FORGED, "x@forger.example", BOB)
    assert said[-1].startswith("451 4.")


def forwarding(judged: Judged, site: Site, alias: str, *to: str) -> None:
    directory = Directory(
        str(site.directory / "data" / "accounts.sqlite3"), now=judged.world.now, entropy=bytes
    )
    try:
        directory.add_alias(alias, [Address.parse(one) for one in to])
    finally:
        directory.close()


@pytest.mark.parametrize("trusted", [False, True])
def test_a_forwarded_one_whose_signature_is_lost_passes_by_arc(tmp_path, trusted):
    sealers = ["two.example"] if trusted else []
    judged = Judged(tmp_path, checks={"enabled": True, "trusted_sealers": sealers})
    try:
        forwarding(judged, judged.two, "list@two.example", CAROL)
        judged.without_keys_of_one(judged.three)
        assert judged.one.submit("list@two.example").startswith(b"250 ")
        judged.advance(30)
        if trusted:
            message = only(judged.three)
            said = results(message)
            assert "arc=pass" in said and "dmarc=fail" in said
            assert "spf=pass" in said and "@two.example" in said
            assert "i=1; mx.two.example;" in " ".join(message["ARC-Authentication-Results"].split())
            assert "dmarc=pass" in message["ARC-Authentication-Results"]
            story = judged.story(judged.three, message["Message-ID"])
            assert any("two.example, whom we trust" in line for _, line in story.lines)
        else:
            assert judged.three.fetch() == []
            assert "5.7.26" in judged.two.attempts()[0]
            # and who wrote it hears of it
            assert judged.one.subjects() != []
    finally:
        judged.stop()


def test_a_bounce_is_signed_by_who_sends_it(judged):
    assert judged.one.submit("nobody@two.example").startswith(b"250 ")
    judged.advance(30)
    (bounce,) = map(email.message_from_bytes, judged.one.fetch())
    assert bounce.get_content_type() == "multipart/report"
    signatures = bounce.get_all("DKIM-Signature")
    assert len(signatures) == 2 and all("d=one.example" in one for one in signatures)


def test_an_account_whose_mail_is_refused_everywhere_is_slowed_and_its_owner_told_once(judged):
    for batch in range(5):
        said = judged.one.submit(*(f"nobody{batch}{n}@two.example" for n in range(10)))
        assert said.startswith(b"250 ")
        judged.advance(60)
    warnings = [one for one in judged.one.subjects() if "slowed" in one]
    # She is who looks after that site, too.
    assert sorted(warnings) == ["A mail account is slowed", "Your mail account is slowed"]
    client = judged.one.dial(465)
    client.ask(b"EHLO laptop.example\r\n")
    login = base64.b64encode(f"\0{ALICE}\0secret".encode())
    assert client.ask(b"AUTH PLAIN " + login + b"\r\n").startswith(b"235 ")
    client.ask(b"MAIL FROM:<alice@one.example>\r\n")
    said = b"".join(client.ask(f"RCPT TO:<n{n}@two.example>\r\n".encode()) for n in range(40))
    assert b"451 4.7.1" in said
    # those here are not counted
    assert client.ask(b"RCPT TO:<alice@one.example>\r\n").startswith(b"250 ")
    file = Reputation(OsDisk(), str(judged.one.directory / "data" / "reputation.sqlite3"))
    file.forgive(ALICE, judged.world.now())
    file.close()
    judged.advance(20)
    client.ask(b"RSET\r\nMAIL FROM:<alice@one.example>\r\n")
    said = b"".join(client.ask(f"RCPT TO:<n{n}@two.example>\r\n".encode()) for n in range(40))
    assert b"451" not in said and said.count(b"250 ") == 40


def test_what_goes_to_a_mailbox_here_and_elsewhere_is_sealed_too(judged):
    forwarding(judged, judged.two, "both@two.example", BOB, CAROL)
    assert judged.one.submit("both@two.example").startswith(b"250 ")
    judged.advance(30)
    for site in (judged.two, judged.three):
        message = only(site)
        assert message["ARC-Seal"] is not None
    assert "arc=pass" in results(only(judged.three))
