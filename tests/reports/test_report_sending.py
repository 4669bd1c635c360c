"""Sending reports: to whom, how often it is tried, and what is never sent twice."""

from __future__ import annotations

import email
import gzip
import json

import pytest
from test_report_counts import FAILED, judged

from twisted_mail.disk import OsDisk
from twisted_mail.policy.organization import TreeWalk
from twisted_mail.remote.tls_results import Failure
from twisted_mail.reports.aggregate import Report
from twisted_mail.reports.counting import DAY, Counter, TlsCounts
from twisted_mail.reports.reading import in_message
from twisted_mail.reports.sending import EVERY, MAX_DESTINATIONS, RETRY, Reporter, ReportSettings
from twisted_mail.reports.tls import TlsReport
from twisted_mail.status import MailError
from twisted_mail.storage.report_counts import ReportCounts
from twisted_mail.testing import simulated_world
from twisted_mail.testing.dns import FakeResolver, Zone


class Door:
    """The queue's. `refuses`: what it says to an address."""

    def __init__(self):
        self.sent = []
        self.refuses = {}

    async def notify(self, changes, recipient, content, *, requiretls=False, any_tls=False):
        assert changes == () and not requiretls
        if recipient in self.refuses:
            raise self.refuses[recipient]
        self.sent.append((recipient, content, any_tls))


class Sent:
    def __init__(self, tmp_path):
        self.world = simulated_world()
        self.zone = Zone({})
        self.file = ReportCounts(OsDisk(), str(tmp_path / "reports.sqlite3"))
        self.counter = Counter(self.world, self.file)
        self.door = Door()
        self.posted = []
        self.post_error = None
        self.reporter = self.make()

    def make(self):
        resolver = FakeResolver(self.zone)
        reporter = Reporter(
            *(self.world, self.file, self.counter, self.door, resolver),
            lambda: TreeWalk(resolver),
            ReportSettings("mx.us.example", "noreply@us.example", "Us & them", "", "us 1"),
            self.post,
        )
        reporter.start()
        return reporter

    async def post(self, uri, content):
        if self.post_error is not None:
            raise self.post_error
        self.posted.append((uri, content))

    def asks(self, rua):
        dmarc = FAILED._replace(record=f"v=DMARC1; p=none; rua={rua}", aggregate=(rua,))
        judged(self, dmarc)

    def later(self, seconds=DAY + 5 * 3600):
        self.world.reactor.rightNow += seconds
        self.world.reactor.advance(EVERY)

    def to(self):
        return [to for to, _, _ in self.door.sent]


@pytest.fixture
def sent(tmp_path):
    sent = Sent(tmp_path)
    yield sent
    sent.world.run(sent.reporter.stop())
    sent.file.close()


def test_one_report_to_everybody_who_is_named(sent):
    sent.asks("mailto:a@a.example,mailto:b%2Bc@sub.a.example!1m,https://a.example/")
    sent.zone["_dmarc.a.example"] = {"TXT": ["v=DMARC1; p=none"]}
    sent.later()
    assert sent.to() == ["a@a.example", "b+c@sub.a.example"]
    (_, content, any_tls) = sent.door.sent[0]
    assert not any_tls
    (found,) = in_message(content)
    assert isinstance(found.report, Report)
    assert (found.report.organization, found.report.email) == ("Us & them", "noreply@us.example")
    assert found.report.generator == "us 1"
    mail = email.message_from_bytes(content)
    assert mail["From"] == "Us & them <noreply@us.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "a report of DMARC results for mail from" in " ".join(
        mail.get_payload(0).get_payload().split()
    )
    sent.later()
    assert len(sent.door.sent) == 2


def test_not_before_the_day_is_over_and_not_all_at_once(sent):
    for number in range(30):
        dmarc = FAILED._replace(
            found=f"{number}.example",
            record=f"v=DMARC1; p=none; rua=mailto:x@{number}.example",
        )
        judged(sent, dmarc)
    now = sent.world.now()
    sent.world.reactor.rightNow = (now // DAY + 1) * DAY - 1
    sent.world.reactor.advance(EVERY)
    assert sent.to() == []
    counts = []
    for _ in range(9):
        sent.world.reactor.rightNow += 1800 - EVERY
        sent.world.reactor.advance(EVERY)
        counts.append(len(sent.to()))
    assert counts[-1] == 30 and len(set(counts)) > 4


def test_one_that_has_to_wait_keeps_nobody_else_waiting(sent):
    sent.asks("mailto:late@a.example,mailto:a@a.example,mailto:gone@a.example")
    sent.door.refuses = {
        "late@a.example": MailError(451, "4.3.0", "later"),
        "gone@a.example": MailError(550, "5.1.1", "nobody"),
    }
    sent.later()
    assert sent.to() == ["a@a.example"]
    sent.door.refuses = {"gone@a.example": AssertionError("asked again")}
    sent.later(RETRY)
    assert sent.to() == ["a@a.example", "late@a.example"]


def test_what_cannot_be_sent_for_a_day_is_given_up(sent):
    sent.asks("mailto:a@a.example")
    sent.door.refuses = {"a@a.example": MailError(451, "4.3.0", "later")}
    sent.later()
    for _ in range(30):
        sent.later(RETRY)
    sent.door.refuses = {}
    sent.later(RETRY)
    assert sent.to() == []


def test_a_dns_that_fails_for_one_of_them(sent):
    sent.asks("mailto:x@other.example,mailto:a@a.example")
    sent.zone.failing.add("TXT a.example._report._dmarc.other.example")
    sent.later()
    assert sent.to() == ["a@a.example"]
    sent.zone.failing.clear()
    sent.zone["a.example._report._dmarc.other.example"] = {
        "TXT": ["v=DMARC1; rua=mailto:instead@other.example"]
    }
    sent.later(RETRY)
    # RFC 9990 section 4 step 9
    assert sent.to() == ["a@a.example", "instead@other.example"]


def test_so_many_destinations_and_no_more(sent):
    sent.asks(",".join(f"mailto:{number}@a.example" for number in range(9)))
    sent.later()
    assert len(sent.to()) == MAX_DESTINATIONS


def test_one_that_cannot_be_made_stops_no_other(sent):
    sent.counter.count("dmarc", "bad.example", "no JSON", "{}")
    sent.asks("mailto:a@a.example")
    sent.later()
    assert sent.to() == ["a@a.example"]
    sent.later(RETRY)
    assert sent.file.due(sent.world.now() + DAY, 10) == []


def count_tls(sent):
    counts = TlsCounts(sent.counter)
    policy = ("version: STSv1", "mode: enforce", "mx: *.b.example", "max_age: 86400")
    for _ in range(3):
        counts.success("b.example", "sts", policy)
    for _ in range(2):
        counts.failure(
            "b.example", "sts", Failure("certificate-expired", "mx.b.example", "192.0.2.9"), policy
        )
    counts.success("b.example", "tlsa", ("3 1 1 ab",))


def test_tls_by_mail_and_by_post(sent):
    count_tls(sent)
    sent.zone["_smtp._tls.b.example"] = {
        "TXT": ["v=TLSRPTv1; rua=https://b.example/tls,mailto:t@elsewhere.example"]
    }
    sent.post_error = OSError("no")
    sent.later()
    # RFC 8460 section 3: whatever is wrong with TLS there
    assert [(to, any_tls) for to, _, any_tls in sent.door.sent] == [("t@elsewhere.example", True)]
    assert email.message_from_bytes(sent.door.sent[0][1])["TLS-Required"] == "No"
    sent.post_error = None
    sent.later(RETRY)
    assert len(sent.door.sent) == 1
    ((uri, packed),) = sent.posted
    (found,) = in_message(sent.door.sent[0][1])
    assert uri == "https://b.example/tls" and isinstance(found.report, TlsReport)
    assert json.loads(gzip.decompress(packed))["report-id"] == found.report.id
    sts, tlsa = found.report.policies
    assert (sts.kind, sts.successes, sts.failed, sts.mx) == ("sts", 3, 2, ("*.b.example",))
    assert sts.text[0] == "version: STSv1"
    ((failure, count),) = sts.failures
    assert (failure.result, failure.host, failure.address, count) == (
        *("certificate-expired", "mx.b.example"),
        *("192.0.2.9", 2),
    )
    assert (tlsa.kind, tlsa.text, tlsa.mx) == ("tlsa", ("3 1 1 ab",), ())


def test_who_does_not_ask_gets_none(sent):
    count_tls(sent)
    sent.later()
    assert sent.door.sent == [] and sent.file.due(sent.world.now() + DAY, 10) == []


def test_a_stop_does_not_wait_for_answers(sent):
    sent.asks("mailto:x@other.example")
    sent.zone.silent.add("a.example._report._dmarc.other.example")
    sent.later()
    sent.world.run(sent.reporter.stop())
    sent.zone.silent.clear()
    sent.zone["a.example._report._dmarc.other.example"] = {"TXT": ["v=DMARC1"]}
    assert sent.to() == []
    sent.reporter = sent.make()
    sent.later(RETRY)
    assert sent.to() == ["x@other.example"]
