"""What is counted for reports, and how much of it at most."""

from __future__ import annotations

from twisted_mail.remote import tls_results
from twisted_mail.remote.tls_results import Failure, TlsCounter

DAY = 86_400


class Time:
    now = 20_000.0 * DAY


def test_by_day_domain_and_policy() -> None:
    time = Time()
    counter = TlsCounter(lambda: time.now)
    counter.success("a.example", "sts")
    counter.success("a.example", "sts")
    counter.failure("a.example", "tlsa", Failure("certificate-expired", "mx", "192.0.2.1"))
    time.now += DAY
    counter.success("a.example", "sts")
    assert counter.day(20_000)["a.example", "sts"].successes == 2
    assert counter.day(20_000)["a.example", "tlsa"].failures == {
        Failure("certificate-expired", "mx", "192.0.2.1"): 1
    }
    assert counter.day(20_001)["a.example", "sts"].successes == 1
    assert counter.day(19_999) == {}


def test_old_days_are_forgotten() -> None:
    time = Time()
    counter = TlsCounter(lambda: time.now)
    for _ in range(10):
        counter.success("a.example", "sts")
        time.now += DAY
    kept = [day for day in range(20_000, 20_010) if counter.day(day)]
    assert kept == [20_007, 20_008, 20_009]


def test_it_is_bounded() -> None:
    time = Time()
    counter = TlsCounter(lambda: time.now)
    for n in range(tls_results.MAX_DOMAINS + 10):
        counter.success(f"d{n}.example", "sts")
    assert len(counter.day(20_000)) == tls_results.MAX_DOMAINS
    for n in range(tls_results.MAX_FAILURES + 10):
        counter.failure("d0.example", "sts", Failure("validation-failure", f"mx{n}"))
    summary = counter.day(20_000)["d0.example", "sts"]
    assert len(summary.failures) == tls_results.MAX_FAILURES and summary.omitted == 10
