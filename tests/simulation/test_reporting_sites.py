"""Two sites that report to each other: a day passes, and what was counted arrives, once, signed, at whom it is for."""

from __future__ import annotations

import email
import json
import subprocess
import sys
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from simulated_sites import ALICE, BOB, ONE, TWO, Site, make_zone

from twisted_mail.disk import OsDisk
from twisted_mail.reports.aggregate import Report
from twisted_mail.reports.reading import in_message
from twisted_mail.reports.tls import TlsReport
from twisted_mail.storage.dkim_keys import ACTIVE, KeyFiles
from twisted_mail.testing import simulated_world
from twisted_mail.testing.disk import HookedDisk
from twisted_mail.testing.dns import FakeResolver

DAY = 86_400
STRANGER = "198.51.100.66"
FORGED = (
    b"From: Alice <alice@one.example>\r\nTo: bob@two.example\r\nSubject: forged\r\n"
    b"Message-ID: <forged@one.example>\r\n\r\nSend money.\r\n.\r\n"
)


class Reporting:
    """Both up, with keys; one.example and two.example want reports, to their only users."""

    def __init__(self, directory: Path, **tables: Any) -> None:
        zone = self.zone = make_zone()
        for domain, user in (("one", ALICE), ("two", BOB)):
            zone[f"{domain}.example"]["TXT"] = ["v=spf1 mx -all"]
            zone[f"mx.{domain}.example"]["TXT"] = ["v=spf1 a -all"]
            zone[f"_dmarc.{domain}.example"] = {
                "TXT": [f"v=DMARC1; p=reject; sp=quarantine; rua=mailto:{user}!10m"]
            }
            zone[f"_smtp._tls.{domain}.example"] = {"TXT": [f"v=TLSRPTv1; rua=mailto:{user}"]}
        self.world = simulated_world(resolver=FakeResolver(zone), disk=HookedDisk())
        self.one = Site(self.world, directory, ALICE, ONE)
        self.two = Site(self.world, directory, BOB, TWO)
        for site in (self.one, self.two):
            site.more = {
                "checks": {"enabled": True},
                "reputation": {"names": False},
                "reports": {"dmarc": True},
                **tables,
            }
            site.start()
            keys = KeyFiles(OsDisk(), str(site.directory / "data"), self.world.now)
            for row in keys.add(site.domain, ACTIVE):
                zone[row.name] = {"TXT": [row.record]}

    def pass_the_day(self) -> None:
        """To the next day, late enough for every report. Nothing happens meanwhile."""
        self.world.reactor.rightNow = (self.world.now() // DAY + 1) * DAY + 5 * 3600
        self.world.reactor.advance(600)

    def forge(self) -> str:
        client = self.two.world.reactor.connect(25, address=STRANGER)
        client.read()
        for step in (
            b"EHLO forger.example",
            b"MAIL FROM:<x@forger.example>",
            b"RCPT TO:<bob@two.example>",
            b"DATA",
        ):
            client.ask(step + b"\r\n")
            self.world.reactor.advance(0.1)
            client.read()
        client.ask(FORGED)
        self.world.reactor.advance(30)
        said = client.read()
        client.close()
        return said.decode()

    def stop(self) -> None:
        for site in (self.one, self.two):
            if site.up:
                site.stop()


@pytest.fixture
def sites(tmp_path):
    sites = Reporting(tmp_path)
    yield sites
    sites.stop()


def reports_at(site: Site) -> list[tuple[Message, Any]]:
    found = []
    for content in site.server.messages(site.user):
        for one in in_message(content):
            assert one.problem == ""
            found.append((email.message_from_bytes(content), one.report))
    return found


def test_a_day_passes_and_the_report_arrives_where_it_is_wanted(sites):
    assert sites.one.submit(BOB).startswith(b"250 ")
    sites.world.reactor.advance(10)
    for _ in range(2):
        sites.forge()
    day = int(sites.world.now()) // DAY
    assert reports_at(sites.one) == []
    sites.pass_the_day()
    ((mail, report),) = reports_at(sites.one)
    assert isinstance(report, Report)
    assert (report.begin, report.end) == (day * DAY, day * DAY + DAY - 1)
    assert report.organization == "mx.two.example"
    published = report.published
    assert (published.domain, published.p, published.sp) == ("one.example", "reject", "quarantine")
    assert published.discovery == "treewalk"
    (forged, twice), (good, once) = report.records
    assert (twice, once) == (2, 1)
    assert (forged.source, forged.disposition, forged.dkim, forged.spf) == (
        (STRANGER, "reject", "fail", "fail")
    )
    assert (forged.header_from, forged.envelope_from) == ("one.example", "forger.example")
    assert (good.source, good.disposition, good.dkim, good.spf) == (ONE, "pass", "pass", "pass")
    assert {one.result for one in good.signatures} == {"pass"}
    assert {one.domain for one in good.signatures} == {"one.example"}
    assert [one.result for one in good.senders] == ["pass"]
    # RFC 9990 section 3.5.3
    assert mail["Subject"].split() == [
        *("Report", "Domain:", "one.example", "Submitter:", "mx.two.example"),
        *("Report-ID:", f"<{report.id}>"),
    ]
    names = [part.get_filename() for part in mail.walk() if part.get_filename()]
    assert names == [f"mx.two.example!one.example!{report.begin}!{report.end}.xml.gz"]
    # "MUST conform to the DMARC mechanism, thereby resulting in an aligned pass"
    assert "dmarc=pass" in mail["Authentication-Results"]
    assert "dkim=pass" in mail["Authentication-Results"]


def test_reports_about_reports_there_are_none(sites):
    sites.one.submit(BOB)
    sites.world.reactor.advance(10)
    for _ in range(4):
        sites.pass_the_day()
    assert len(reports_at(sites.one)) == 1
    assert reports_at(sites.two) == []


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_was_counted_outlives_a_restart_and_what_was_sent_is_not_sent_again(sites, end):
    sites.one.submit(BOB)
    sites.world.reactor.advance(60)
    getattr(sites.two, end)()
    sites.two.start()
    sites.pass_the_day()
    assert len(reports_at(sites.one)) == 1
    getattr(sites.two, end)()
    sites.two.start()
    sites.pass_the_day()
    assert len(reports_at(sites.one)) == 1


def test_a_site_that_is_down_over_midnight_reports_later(sites):
    sites.one.submit(BOB)
    sites.world.reactor.advance(60)
    sites.two.stop()
    sites.pass_the_day()
    assert reports_at(sites.one) == []
    sites.two.start()
    sites.world.reactor.advance(600)
    assert len(reports_at(sites.one)) == 1


def test_nothing_is_sent_unless_it_is_wanted(tmp_path):
    sites = Reporting(tmp_path, reports={})
    try:
        sites.one.submit(BOB)
        sites.world.reactor.advance(60)
        sites.pass_the_day()
        assert reports_at(sites.one) == []
        assert not (sites.two.directory / "data" / "reports.sqlite3").exists()
    finally:
        sites.stop()


def test_what_goes_to_others_goes_only_with_their_consent(sites):
    sites.zone["_dmarc.one.example"]["TXT"] = [
        "v=DMARC1; p=reject; rua=mailto:bob@two.example,mailto:alice@one.example!10"
    ]
    sites.one.submit(BOB)
    sites.world.reactor.advance(60)
    sites.pass_the_day()
    # two.example was not asked; for the other one ten octets are too few
    assert reports_at(sites.one) == [] and reports_at(sites.two) == []
    sites.zone["one.example._report._dmarc.two.example"] = {"TXT": ["v=DMARC1;"]}
    sites.one.submit(BOB)
    sites.world.reactor.advance(60)
    sites.pass_the_day()
    ((_, report),) = reports_at(sites.two)
    assert report.published.domain == "one.example"


def test_a_dns_that_does_not_answer_is_asked_again(sites):
    sites.zone["_dmarc.one.example"]["TXT"] = ["v=DMARC1; p=reject; rua=mailto:bob@two.example"]
    sites.zone["one.example._report._dmarc.two.example"] = {"TXT": ["v=DMARC1;"]}
    sites.zone.failing.add("TXT one.example._report._dmarc.two.example")
    sites.one.submit(BOB)
    sites.world.reactor.advance(60)
    sites.pass_the_day()
    assert reports_at(sites.two) == []
    sites.zone.failing.clear()
    sites.world.reactor.rightNow += 2 * 3600
    sites.world.reactor.advance(600)
    assert len(reports_at(sites.two)) == 1


def test_tls_is_reported_to_whom_mail_was_sent(tmp_path):
    sites = Reporting(tmp_path, reports={"tls": True, "organization": "One, Inc."})
    try:
        for _ in range(3):
            sites.one.submit(BOB)
            sites.world.reactor.advance(600)
        sites.pass_the_day()
        ((mail, report),) = reports_at(sites.two)
        assert isinstance(report, TlsReport)
        assert report.organization == "One, Inc."
        (policy,) = report.policies
        assert (policy.kind, policy.domain) == ("no-policy-found", "two.example")
        assert (policy.successes, policy.failed) == (3, 0)
        assert mail.get_content_type() == "multipart/report"
        assert mail.get_param("report-type") == "tlsrpt"
        assert mail["TLS-Report-Domain"] == "two.example"
        assert mail["TLS-Report-Submitter"] == "mx.one.example"
        assert [part.get_content_type() for part in mail.walk()][1:] == [
            *("text/plain", "application/tlsrpt+gzip"),
        ]
        assert "dkim=pass" in mail["Authentication-Results"]
        # RFC 8460 section 3: the report's own session is in no report
        for _ in range(3):
            sites.pass_the_day()
        assert len(reports_at(sites.two)) == 1
    finally:
        sites.stop()


def test_a_report_about_tls_arrives_where_the_mail_that_it_is_about_does_not(tmp_path):
    sites = Reporting(tmp_path, reports={"tls": True}, delivery={"tls": "verified"})
    try:
        sites.one.submit(BOB)
        sites.world.reactor.advance(60)
        assert sites.one.waiting() and sites.two.subjects() == []
        sites.pass_the_day()
        ((mail, report),) = reports_at(sites.two)
        assert "with ESMTPS" in mail["Received"]
        (policy,) = report.policies
        assert policy.successes == 0 and policy.failed > 0
        ((failure, _),) = policy.failures
        assert (failure.result, failure.host) == ("certificate-not-trusted", "mx.two.example")
        assert failure.address == TWO
    finally:
        sites.stop()


def test_it_arrives_too_when_it_had_to_be_tried_again(tmp_path):
    sites = Reporting(tmp_path, reports={"tls": True}, delivery={"tls": "verified"})
    try:
        sites.one.submit(BOB)
        sites.world.reactor.advance(60)
        sites.two.stop()
        sites.pass_the_day()
        assert len(sites.one.waiting()) == 2
        sites.two.start()
        for _ in range(60):
            sites.world.reactor.advance(600)
        assert len(reports_at(sites.two)) == 1
    finally:
        sites.stop()


def test_who_does_not_run_the_queue_reports_nothing(tmp_path):
    sites = Reporting(tmp_path)
    try:
        sites.forge()
        sites.two.stop()
        sites.two.queue = {"run": False}
        sites.two.start()
        sites.pass_the_day()
        assert sites.two.waiting() == []
        sites.two.stop()
        sites.two.queue = {}
        sites.two.start()
        sites.world.reactor.advance(600)
        assert len(reports_at(sites.one)) == 1
    finally:
        sites.stop()


def test_mailctl_reads_what_arrived(sites, tmp_path):
    sites.one.submit(BOB)
    sites.world.reactor.advance(10)
    sites.forge()
    sites.pass_the_day()
    sites.one.stop()
    toml = sites.one.directory / "read.toml"
    toml.write_text(f'hostname = "mx.one.example"\ndata = "{sites.one.directory / "data"}"\n')
    words = ("dmarc", "reports", "--user", ALICE, "--days", "3660", "--json")
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from twisted_mail.cli import main; main()"),
            *("--config", str(toml), *words),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    bad, good = json.loads(done.stdout)
    assert (bad["source"], bad["from"], bad["messages"], bad["dmarc"]) == (
        *(STRANGER, "one.example"),
        *(1, 0),
    )
    assert bad["done"] == {"reject": 1} and bad["reporters"] == ["mx.two.example"]
    assert "forged" in bad["advice"]
    assert (good["source"], good["dmarc"], good["spf"], good["dkim"]) == (ONE, 1, 1, 1)
    assert good["advice"] == ""
