"""When what is tried: the arithmetic, by its properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.queue.schedule import Bucket, Health, Settings, Standing, next_try, pause

NOW = 1_800_000_000.0
RANDOM = st.floats(0, 1, exclude_max=True)
SETTINGS = st.builds(
    Settings,
    first_retry=st.floats(1, 3600),
    factor=st.floats(1, 10),
    cap=st.floats(1, 86400),
    jitter=st.floats(0, 0.99),
)


def test_the_waits_that_people_expect() -> None:
    settings = Settings(jitter=0)
    minutes = [pause(settings, n, 0.3) / 60 for n in range(1, 9)]
    assert minutes == [5, 10, 20, 40, 80, 160, 240, 240]


@given(SETTINGS, st.integers(1, 10_000), RANDOM)
def test_waits_stay_within_their_jitter_of_the_plain_wait(
    settings: Settings, failures: int, random: float
) -> None:
    plain = min(settings.first_retry * settings.factor ** min(failures - 1, 64), settings.cap)
    wait = pause(settings, failures, random)
    slack = plain * 1e-9
    assert plain * (1 - settings.jitter) - slack <= wait <= plain * (1 + settings.jitter) + slack
    assert wait > 0


@given(SETTINGS, st.integers(1, 100), RANDOM)
def test_waits_never_shrink_and_never_pass_the_cap(
    settings: Settings, failures: int, random: float
) -> None:
    assert pause(settings, failures, random) <= pause(settings, failures + 1, random) * (1 + 1e-9)
    assert pause(settings, failures, 0.5) <= settings.cap * (1 + 1e-9)


@given(SETTINGS, RANDOM, RANDOM)
def test_more_chance_is_more_wait(settings: Settings, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert pause(settings, 3, low) <= pause(settings, 3, high)


@given(SETTINGS, st.integers(1, 100), st.floats(-1e6, 1e6), RANDOM)
def test_the_last_try_is_at_the_end(
    settings: Settings, tries: int, left: float, random: float
) -> None:
    again = next_try(settings, NOW, tries, NOW + left, random)
    if NOW + left <= NOW:
        assert again is None
    else:
        assert again is not None
        assert NOW < again <= NOW + left
        assert again == NOW + left or again == NOW + pause(settings, tries, random)


@pytest.mark.parametrize(
    "wrong",
    [
        {"factor": 0.5},
        {"jitter": 1},
        {"jitter": -0.1},
        {"recipients": 101},
        {"recipients": 0},
        {"window": 0},
        {"connections": 0},
        {"rate": -1},
        {"first_retry": 0},
        {"lifetime": float("nan")},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Settings(**wrong)  # type: ignore[arg-type]


@given(st.integers(1, 100_000))
def test_shares_are_parts_of_the_window(window: int) -> None:
    settings = Settings(window=window)
    assert 1 <= settings.probe_share <= settings.new_share <= settings.share <= window
    assert 1 <= settings.probe_window <= settings.new_window <= window


@given(st.floats(1, 100_000), st.lists(st.floats(0, 100), max_size=200))
def test_no_more_than_the_rate_goes_through_a_bucket(rate: float, steps: list[float]) -> None:
    bucket = Bucket(rate, NOW)
    now, went = NOW, 0
    for step in steps:
        now += step
        while bucket.take(now) == 0:
            went += 1
        assert went <= bucket.size + (now - NOW) * rate / 60 + 0.01


@given(st.floats(1, 100_000))
def test_who_waits_as_long_as_he_is_told_gets_one(rate: float) -> None:
    bucket = Bucket(rate, 0.0)
    now = 0.0
    for _ in range(20):
        wait = bucket.take(now)
        if wait:
            assert wait <= 60 / rate * (1 + 1e-6)
            now += wait
            assert bucket.take(now) == 0


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    bucket = Bucket(60, 1000.0)
    assert bucket.take(1000.0) == 0
    assert bucket.take(500.0) == 1
    assert bucket.take(501.0) == 0


def test_a_destination_begins_with_one_connection_and_grows_with_success() -> None:
    health = Health(Settings(concurrency=5))
    assert (health.standing, health.limit) == (Standing.NEW, 1)
    health.opened()
    assert (health.standing, health.limit) == (Standing.WELL, 2)
    for _ in range(10):
        assert not health.delivered()
    assert health.limit == 5


def test_a_destination_that_fails_begins_again_with_one_probe() -> None:
    health = Health(Settings(jitter=0))
    for _ in range(10):
        health.delivered()
    health.failed(NOW, 0.5, "connection refused")
    assert (health.standing, health.limit, health.failures) == (Standing.FAILING, 1, 1)
    assert health.until == NOW + 300
    health.failed(NOW + 300, 0.5, "connection refused")
    assert (health.failures, health.since, health.until) == (2, NOW, NOW + 900)
    # A greeting is no delivery.
    health.opened()
    assert health.standing is Standing.FAILING
    assert health.delivered()
    assert (health.standing, health.failures, health.until) == (Standing.WELL, 0, 0.0)


def test_the_third_break_down_in_a_row_is_a_failure_of_the_destination() -> None:
    health = Health(Settings())
    health.opened()
    assert [health.setback(), health.setback()] == [False, False]
    health.answered()
    assert [health.setback(), health.setback(), health.setback()] == [False, False, True]


def test_who_refuses_one_more_connection_gets_no_more_for_good() -> None:
    health = Health(Settings())
    health.opened()
    for _ in range(5):
        health.delivered()
    health.refused(3)
    assert health.limit == 3
    health.delivered()
    assert health.limit == 3


@given(
    st.lists(st.sampled_from(["opened", "delivered", "answered", "refused", "failed", "setback"]))
)
def test_the_limit_is_always_from_one_to_the_most(events: list[str]) -> None:
    health = Health(Settings(concurrency=4))
    now = NOW
    for event in events:
        now += 1
        if event == "refused":
            health.refused(2)
        elif event == "failed":
            health.failed(now, 0.5, "x")
        else:
            getattr(health, event)()
        assert 1 <= health.limit <= 4
        assert (health.standing is Standing.FAILING) == (health.failures > 0)
        if health.standing is Standing.FAILING:
            assert health.until > health.since
