"""Counting: into the file, bounded, due once."""

from __future__ import annotations

import json

import pytest

from twisted_mail.address import Address
from twisted_mail.disk import OsDisk
from twisted_mail.policy.decide import decide
from twisted_mail.policy.verdicts import Dmarc, Spf, Verdicts
from twisted_mail.remote.tls_results import Failure
from twisted_mail.reports import counting
from twisted_mail.reports.counting import DAY, Counter, DmarcCounts, TlsCounts, is_report
from twisted_mail.reports.mail import Letter, compose, filename, report_id
from twisted_mail.reports.sending import limits
from twisted_mail.storage import report_counts
from twisted_mail.storage.report_counts import Key, ReportCounts
from twisted_mail.testing import simulated_world

ONE = Key("dmarc", 100, "a.example")
FAILED = Dmarc(
    *("fail", "a.example", "a.example", "a.example", "none"),
    record="v=DMARC1; p=none; rua=mailto:x@a.example",
    aggregate=("mailto:x@a.example",),
)
HEADER = b"From: a@a.example\nSubject: hello\n"


@pytest.fixture
def file(tmp_path):
    file = ReportCounts(OsDisk(), str(tmp_path / "reports.sqlite3"))
    yield file
    file.close()


def add(file, key=ONE, head="h", due=5.0, today=100, **rows):
    file.add({key: (head, due, rows)}, today=today)


def test_counts_add_up_and_the_last_head_counts(file):
    add(file, x=2, y=1)
    add(file, head="later", due=9.0, x=1, z=7)
    assert file.due(4.9, 10) == []
    (due,) = file.due(5.0, 10)
    assert (due.key, due.head) == (ONE, "later")
    assert file.rows(due.number) == [("z", 7), ("x", 3), ("y", 1)]


def test_what_is_sent_is_over_whatever_comes_after(file):
    add(file, x=1)
    (due,) = file.due(10, 10)
    file.sent(due.number)
    add(file, x=1)
    assert file.due(10**9, 10) == [] and file.rows(due.number) == []


def test_what_is_put_off_comes_again(file):
    add(file, x=1)
    (due,) = file.due(10, 10)
    file.put_off(due.number, 20.0)
    assert file.due(19, 10) == [] and file.due(20, 10) == [due]


def test_too_many_rows_and_reports_are_bounded(file, monkeypatch):
    monkeypatch.setattr(report_counts, "MAX_ROWS", 3)
    monkeypatch.setattr(report_counts, "MAX_REPORTS", 2)
    add(file, a=1, b=1, c=1, d=5)
    add(file, e=2, a=1)
    (due,) = file.due(10, 10)
    assert dict(file.rows(due.number)) == {"a": 2, "b": 1, "c": 1, "": 7}
    add(file, Key("dmarc", 100, "b.example"), x=1)
    add(file, Key("dmarc", 100, "c.example"), x=1)
    add(file, Key("tls", 100, "c.example"), x=1)
    assert {one.key[::2] for one in file.due(10, 10)} == {
        ("dmarc", "a.example"),
        ("dmarc", "b.example"),
        ("tls", "c.example"),
    }


def test_old_days_are_forgotten(file):
    add(file, x=1)
    add(file, Key("dmarc", 200, "a.example"), today=200, x=1)
    assert [one.key.day for one in file.due(10, 10)] == [200]


class Counted:
    def __init__(self, tmp_path):
        self.world = simulated_world()
        self.file = ReportCounts(OsDisk(), str(tmp_path / "reports.sqlite3"))
        self.counter = Counter(self.world, self.file)

    def all(self):
        self.world.run(self.counter.flush())
        return {
            one.key.subject: (one, dict(self.file.rows(one.number)))
            for one in self.file.due(10**12, 100)
        }


@pytest.fixture
def counted(tmp_path):
    counted = Counted(tmp_path)
    yield counted
    counted.file.close()


def judged(counted, dmarc=FAILED, header=HEADER, ip="192.0.2.1", **more):
    verdicts = Verdicts(mail=Spf("fail", "mailfrom", "b.example"), dmarc=dmarc)
    decision = decide(verdicts)._replace(**more)
    DmarcCounts(counted.counter, "tree").judged(ip, verdicts, decision, header)


def test_equal_messages_are_one_row_and_due_in_the_night_after(counted):
    for _ in range(3):
        judged(counted)
    judged(counted, ip="192.0.2.2")
    day = int(counted.world.now()) // DAY
    ((due, rows),) = counted.all().values()
    assert due.key == ("dmarc", day, "a.example")
    assert sorted(rows.values()) == [1, 3]
    assert json.loads(due.head) == {"record": FAILED.record, "discovery": "treewalk"}
    earliest = (day + 1) * DAY + counting.AFTER
    assert counted.file.due(earliest - 1, 10) == []
    assert len(counted.file.due(earliest + counting.SPREAD, 10)) == 1


def test_it_is_written_by_itself_in_a_while(counted):
    judged(counted)
    counted.world.reactor.advance(counting.SECONDS)
    assert len(counted.file.due(10**12, 10)) == 1


def test_what_is_not_counted(counted):
    judged(counted, dmarc=None)
    judged(counted, dmarc=FAILED._replace(aggregate=()))
    judged(counted, dmarc=FAILED._replace(result="temperror"))
    judged(counted, dmarc=FAILED._replace(result="permerror"))
    judged(counted, action="defer")
    report = b"From: x@a.example\nSubject: Report Domain: b.example\n Submitter: a.example\n"
    judged(counted, FAILED._replace(result="pass", aligned=("spf",)), report)
    assert counted.all() == {}
    # Who only says that it is a report is counted
    judged(counted, FAILED, report)
    assert len(counted.all()) == 1


def test_memory_is_bounded(counted, monkeypatch):
    monkeypatch.setattr(counting, "PENDING", 10)
    for number in range(50):
        counted.counter.count("dmarc", "a.example", "{}", str(number))
    counted.counter.count("dmarc", "a.example", "{}", "3")
    _, rows = counted.all()["a.example"]
    assert len(rows) == 10 and rows["3"] == 2


def test_tls_is_counted_by_policy_and_failure(counted):
    counts = TlsCounts(counted.counter)
    for _ in range(2):
        counts.success("b.example", "sts", ("version: STSv1", "mx: mx.b.example"))
    counts.failure("b.example", "sts", Failure("certificate-expired", "mx.b.example", "192.0.2.9"))
    counts.success("[192.0.2.1]", "no-policy-found")
    ((_, rows),) = counted.all().values()
    assert {tuple(json.loads(text)): count for text, count in rows.items()} == {
        ("s", "sts"): 2,
        ("p", "sts", "version: STSv1", "mx: mx.b.example"): 2,
        ("f", "sts", "certificate-expired", "mx.b.example", "192.0.2.9"): 1,
    }


def test_what_a_report_is_by_its_subject():
    assert is_report(b"Subject: Report domain: a.example Submitter: b.example Report-ID: <1>\n")
    assert is_report(b"X: y\nSubject:\n Report Domain: a.example\n\tSubmitter: b.example\n")
    assert not is_report(b"Subject: Re: Report Domain: a Submitter: b\n")
    assert not is_report(b"From: x\n")


def test_sizes_that_are_wanted():
    record = "v=DMARC1; p=none; rua=mailto:a@x!10m, mailto:b@x ,mailto:c@x!5K,mailto:d@x!7; ruf=mailto:e@x!1g"
    assert limits(record) == {
        "mailto:a@x": 10 << 20,
        "mailto:c@x": 5 << 10,
        "mailto:d@x": 7,
    }


def test_nothing_begins_a_header_field():
    letter = Letter(
        *("dmarc", "mx.example\nX: y", "a.example\r\nBcc: z@z", 0, 86_399),
        *("Org\n<b@c>", "r@mx.example>\nX: y", "to@a.example\nX: y", 0.0, b"packed"),
    )
    header = compose(letter).partition(b"\n\n")[0]
    names = [line.partition(b":")[0] for line in header.split(b"\n") if line[:1] not in b"\t "]
    assert names == [
        *(b"Date", b"From", b"To", b"Subject", b"Message-ID", b"Auto-Submitted"),
        *(b"MIME-Version", b"Content-Type"),
    ]
    assert all(len(line) < 200 for line in header.split(b"\n"))


def test_the_same_report_has_the_same_names():
    first = report_id("dmarc", "mx.example", "a.example", 86_400)
    assert first == report_id("dmarc", "mx.example", "a.example", 86_400)
    others = [
        report_id("tls", "mx.example", "a.example", 86_400),
        report_id("dmarc", "mx.example", "b.example", 86_400),
        report_id("dmarc", "mx.example", "a.example", 0),
    ]
    assert len({first, *others}) == 4
    Address.parse(first)  # RFC 9990 section 3.5.1: dot-atom-text on both sides
    letter = Letter("tls", "mx.example", "a.example", 0, 86_399, "O", "s@x", "t@x", 0.0, b"")
    assert filename(letter) == "mx.example!a.example!0!86399.json.gz"
