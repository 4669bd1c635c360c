"""When a certificate is renewed and a CA asked again: `acme.schedule`."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.acme import schedule
from twisted_mail.acme.interfaces import Window
from twisted_mail.acme.schedule import Lifetime

DAY = 86_400.0
NINETY = Lifetime(1_800_000_000.0, 1_800_000_000.0 + 90 * DAY)

chances = st.floats(0, 1, exclude_max=True)
times = st.floats(0, 5e9)
anything = st.none() | st.floats()


def test_renewal_is_at_two_thirds_or_a_little_earlier() -> None:
    assert schedule.renew_at(NINETY, 0.0) == NINETY.start + 60 * DAY
    assert NINETY.start + 57 * DAY < schedule.renew_at(NINETY, 0.999) < NINETY.start + 57.1 * DAY


def test_sites_that_began_together_do_not_come_together() -> None:
    moments = {schedule.renew_at(NINETY, n / 100) for n in range(100)}
    assert len(moments) == 100 and max(moments) - min(moments) > 2 * DAY


def test_a_moment_in_the_window_of_the_ca() -> None:
    window = Window(1000.0, 2000.0)
    assert schedule.suggested(window, 0.25) == 1250.0
    for start, end in [(2000.0, 1000.0), (1000.0, 1000.0), (-5.0, 7.0), (math.nan, 1.0)]:
        assert schedule.suggested(Window(start, end), 0.5) is None


def test_the_window_counts() -> None:
    assert schedule.planned(NINETY, 0.0, NINETY.start + 30 * DAY) == NINETY.start + 30 * DAY
    assert schedule.planned(NINETY, 0.0, NINETY.start + 70 * DAY) == NINETY.start + 70 * DAY
    assert schedule.planned(NINETY, 0.0, None) == NINETY.start + 60 * DAY


def test_a_ca_that_always_says_now_is_not_asked_for_ever() -> None:
    assert schedule.planned(NINETY, 0.0, 0.0) == NINETY.start + 6 * 3600


def test_no_word_of_a_ca_lets_a_certificate_end() -> None:
    assert schedule.planned(NINETY, 0.0, NINETY.end + DAY) == NINETY.start + 75 * DAY


@given(st.tuples(times, st.floats(1, 4e8)), chances, st.none() | times)
def test_renewal_lies_within_the_lifetime(
    life: tuple[float, float], chance: float, wish: float | None
) -> None:
    one = Lifetime(life[0], life[0] + life[1])
    assert one.start <= schedule.planned(one, chance, wish) <= one.start + one.length * 0.84


def test_pauses_grow_to_six_hours() -> None:
    pauses = [schedule.pause(failures, 0.5, None) for failures in range(1, 9)]
    assert pauses == [900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 21_600.0, 21_600.0, 21_600.0]


@given(st.integers(-5, 10**6), chances, anything)
def test_a_pause_is_minutes_at_least_and_a_day_at_most(
    failures: int, chance: float, asked: float | None
) -> None:
    assert 720 <= schedule.pause(failures, chance, asked) <= DAY


def test_retry_after_is_obeyed_up_to_a_day() -> None:
    assert schedule.pause(1, 0.5, 7000.0) == 7000.0
    assert schedule.pause(1, 0.5, 10 * DAY) == DAY
    assert schedule.pause(1, 0.5, 5.0) == 900.0


@given(anything.filter(lambda one: one is not None), times)
def test_a_time_written_down_by_a_wrong_clock_is_bounded(until: float, now: float) -> None:
    assert schedule.bounded_wait(until, now) <= now + DAY


@given(times, anything)
def test_the_window_is_asked_for_again_within_a_day(now: float, asked: float | None) -> None:
    assert now + 3599 <= schedule.next_check(now, asked) <= now + DAY + 1


def test_the_alarm_is_days_before_it_matters() -> None:
    assert schedule.alarm_at(NINETY, 14) == NINETY.end - 14 * DAY
    week = Lifetime(0.0, 6 * DAY)
    assert schedule.alarm_at(week, 14) == 5 * DAY
    # always after the time when it should have been renewed
    assert schedule.alarm_at(week, 60) > schedule.renew_at(week, 0.0)
