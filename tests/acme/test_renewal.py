"""Certificates over months of simulated time: the first, renewal, refusals, alarms, restarts, what mailctl asks for."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from renewing import DAY, LIFETIME, NAMES, Site

from twisted_mail.acme.challenges import TLS_ALPN
from twisted_mail.acme.interfaces import AuthorityError, Window
from twisted_mail.certs import load_pair, names_of


def test_the_first_certificate_comes_at_once(site: Site) -> None:
    site.start()
    assert names_of(site.served) == NAMES
    assert site.renewed == 1
    assert site.ca.orders == [(NAMES, "")]
    chain, _ = load_pair(site.files.certificate_path, site.files.certificate_path)
    assert len(chain) == 2
    assert site.lines("warn") == [
        "no certificate from the CA yet: a development certificate is served until it is there"
    ]


def test_only_the_owner_may_read_what_is_kept(site: Site) -> None:
    site.start()
    for path in (site.data / "acme").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_nothing_is_left_of_a_challenge(site: Site) -> None:
    site.start()
    assert list((site.data / "acme/challenges").iterdir()) == []


def test_it_is_renewed_at_two_thirds_and_the_old_one_named(site: Site) -> None:
    site.start()
    first = site.served
    site.advance(56 * DAY)
    assert site.served == first and site.ca.times_asked == 1
    site.advance(4.1 * DAY)
    assert site.served != first and site.ca.times_asked == 2
    assert site.ca.orders[1][1].count(".") == 1  # RFC 9773 section 5
    assert site.renewed == 2


def test_the_key_stays_so_that_tlsa_records_stay_right(site: Site) -> None:
    site.start()
    first = site.served
    site.advance(61 * DAY)
    assert site.served != first and site.served.public_key() == first.public_key()


def test_a_new_key_each_time_when_that_is_wanted(tmp_path: Path) -> None:
    site = Site(tmp_path, keep_key=False)
    site.start()
    first = site.served
    site.advance(61 * DAY)
    assert site.served != first and site.served.public_key() != first.public_key()
    site.close()


def test_a_year_goes_by(site: Site) -> None:
    site.start()
    for _ in range(365):
        site.advance(DAY)
        left = site.served.not_valid_after_utc.timestamp() - site.world.now()
        assert left > 29 * DAY
    assert 7 <= site.ca.times_asked <= 8
    assert site.ca.accounts == 1
    assert site.lines("error") == site.lines("critical") == []


def test_a_ca_that_refuses_is_asked_less_and_less(site: Site) -> None:
    site.ca.refuses = "dns: no such host"
    site.start()
    site.advance(DAY)
    assert 5 <= site.ca.times_asked <= 9
    before = site.ca.times_asked
    site.advance(7 * DAY)
    assert 20 <= site.ca.times_asked - before <= 36  # every six hours or so
    assert "imap.example.org" in site.state["error"] or "mail.example.org" in site.state["error"]
    assert "dns: no such host" in site.lines("warn")[1]
    site.ca.refuses = ""
    site.advance(DAY)
    assert names_of(site.served) == NAMES
    assert site.state["failures"] == 0 and site.state["error"] == ""


def test_restarts_do_not_make_it_ask_more_often(site: Site) -> None:
    site.ca.refuses = "no"
    for _ in range(20):
        site.start()
        site.stop()
    assert site.ca.times_asked == 2  # 20 minutes: one pause of 15 is over


def test_who_is_killed_in_the_midst_of_it_does_not_ask_again_at_once(site: Site) -> None:
    site.ca.polls = 10_000
    site.start()
    site.stop()
    assert site.ca.times_asked == 1
    site.start()
    assert site.ca.times_asked == 1


def test_retry_after_is_obeyed(site: Site) -> None:
    site.ca.fails = AuthorityError("rateLimited: too many", retry_after=20 * 3600.0)
    site.start()
    asked = len(site.ca.asked)
    site.advance(19 * 3600)
    assert len(site.ca.asked) == asked
    site.advance(2 * 3600)
    assert len(site.ca.asked) > asked


def test_failure_is_said_days_before_it_matters(site: Site) -> None:
    site.start()
    site.ca.fails = AuthorityError("the CA cannot be reached")
    site.advance(75 * DAY)
    assert site.lines("critical") == []
    assert len(site.lines("warn")) > 10
    site.advance(2 * DAY)
    first = site.lines("critical")
    assert 1 <= len(first) <= 2
    assert "ends in 14.0 days and cannot be renewed: the CA cannot be reached" in first[0]
    site.advance(12.9 * DAY)
    assert 12 <= len(site.lines("critical")) <= 15  # one a day
    site.advance(2 * DAY)
    assert " ended on " in site.lines("critical")[-1]
    # and it is served still, and asked for still
    assert site.served
    site.ca.fails = None
    site.advance(DAY)
    assert site.served.not_valid_after_utc.timestamp() > site.world.now()


def test_mailctl_may_ask_at_any_time(site: Site) -> None:
    site.start()
    first = site.served
    site.ask()
    site.advance(60)
    assert site.served != first
    assert not (site.data / "acme/renew").exists()
    site.ca.refuses = "no"
    site.ask()
    site.advance(60)
    site.ask()
    site.advance(60)
    assert site.ca.times_asked == 4


def test_what_was_asked_for_while_nobody_ran_is_done_at_the_start(site: Site) -> None:
    site.start()
    first = site.served
    site.stop()
    site.files.ask()
    site.start()
    assert site.served != first


def test_another_name_in_the_configuration_is_ordered(site: Site) -> None:
    site.start()
    site.stop()
    site.advance(3600)
    site.settings = site.settings._replace(names=(*NAMES, "mta-sts.example.org"))
    site.start()
    assert "mta-sts.example.org" in names_of(site.served)


def test_one_process_of_a_site_asks_and_the_next_takes_its_place(
    site: Site, tmp_path: Path
) -> None:
    other = Site(tmp_path)
    site.start()
    other.start()
    assert (site.ca.times_asked, other.ca.times_asked) == (1, 0)
    other.advance(3 * DAY)
    assert other.ca.times_asked == 0
    site.stop()
    other.files.ask()
    other.advance(120)
    assert other.ca.times_asked == 1
    other.close()


def test_tls_alpn_is_put_up_where_tls_looks(tmp_path: Path) -> None:
    site = Site(tmp_path, kind=TLS_ALPN)
    seen: list[str] = []

    def look(token: str) -> bytes | None:
        seen.extend(path.name for path in (tmp_path / "acme/challenges").iterdir())
        return f"{token}.thumbprint".encode()

    site.ca.look = look
    site.start()
    assert sorted(set(seen)) == ["tls-imap.example.org", "tls-mail.example.org"]
    assert site.served
    site.close()


class TestWindows:
    """RFC 9773."""

    def window(self, site: Site, start: float, end: float, **more: float | str) -> Window:
        begin = site.served.not_valid_before_utc.timestamp()
        return Window(begin + start * DAY, begin + end * DAY, **more)  # type: ignore[arg-type]

    def test_it_is_renewed_within_the_cas_window(self, site: Site) -> None:
        site.start()
        first = site.served
        site.ca.window = self.window(site, 20, 22)
        site.advance(19.9 * DAY)
        assert site.served == first
        site.advance(2.2 * DAY)
        assert site.served != first

    def test_a_ca_that_wants_it_now_gets_it_now(self, site: Site) -> None:
        site.start()
        site.advance(10 * DAY)
        first = site.served
        site.ca.window = self.window(site, 1, 2, explanation="https://ca.example/why")
        site.advance(0.3 * DAY)
        assert site.served != first
        assert any("https://ca.example/why" in line for line in site.lines("info"))

    def test_a_ca_that_always_wants_it_now_is_not_asked_for_ever(self, site: Site) -> None:
        site.ca.window = Window(0.0, 1.0)
        site.start()
        site.advance(10 * DAY)
        assert site.ca.times_asked <= 42

    def test_a_window_too_late_does_not_let_it_end(self, site: Site) -> None:
        site.start()
        site.ca.window = self.window(site, 300, 301)
        first = site.served
        site.advance(70 * DAY)
        assert site.served == first
        site.advance(6 * DAY)
        assert site.served != first

    @pytest.mark.parametrize("bounds", [(5.0, 4.0), (5.0, 5.0)])
    def test_a_window_that_is_none_is_not_used(
        self, site: Site, bounds: tuple[float, float]
    ) -> None:
        site.start()
        first = site.served
        site.ca.window = self.window(site, *bounds)
        site.advance(50 * DAY)
        assert site.served == first
        site.advance(11 * DAY)
        assert site.served != first

    def test_it_is_asked_for_as_often_as_the_ca_says_within_bounds(self, site: Site) -> None:
        site.start()

        def asked_in_a_day(check_after: float | None) -> int:
            site.ca.window = self.window(site, 55, 56)._replace(check_after=check_after)
            site.advance(DAY)  # the last answer was another one
            before = len(site.ca.asked)
            site.advance(DAY)
            return sum(one.startswith("window") for one in site.ca.asked[before:])

        assert asked_in_a_day(None) in (3, 4, 5)
        assert asked_in_a_day(1.0) in (23, 24, 25)
        assert asked_in_a_day(1e9) in (1, 2)

    def test_one_that_cannot_be_asked_is_no_reason_not_to_renew(self, site: Site) -> None:
        site.start()
        first = site.served
        site.ca.renewal_window = _raise  # type: ignore[method-assign]
        site.advance(61 * DAY)
        assert site.served != first


def _raise(renewal_id: str) -> Window | None:
    raise AuthorityError("HTTP status 503", retry_after=3600.0)


def test_the_lifetime_of_the_fake_is_what_is_said_here(site: Site) -> None:
    site.start()
    life = site.served.not_valid_after_utc - site.served.not_valid_before_utc
    assert life.total_seconds() == LIFETIME
