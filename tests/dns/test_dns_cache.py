from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from twisted_mail.dns.cache import ABSENCE_CEILING, CEILING, FAILURE, FLOOR, Cache
from twisted_mail.dns.interfaces import Answer, Mx, Tlsa

KEY = ("MX", "example.org")


def answer(ttl, *records, **more):
    return Answer("example.org", records or (Mx(10, "mx.example.org"),), ttl=ttl, **more)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def cache(clock):
    return Cache(clock.seconds)


def test_kept_as_long_as_its_ttl_and_no_longer(cache, clock):
    cache.put(KEY, answer(100))
    clock.advance(99)
    assert cache.get(KEY).records == (Mx(10, "mx.example.org"),)
    clock.advance(1)
    assert cache.get(KEY) is None
    assert len(cache) == 0


def test_the_ttl_of_an_answer_is_what_is_left_of_it(cache, clock):
    cache.put(KEY, answer(100, secure=True))
    clock.advance(30)
    assert cache.get(KEY) == answer(70.0, secure=True)


@pytest.mark.parametrize(
    ("outcome", "seconds"),
    [
        (answer(0), FLOOR),
        (answer(10**9), CEILING),
        (Answer("example.org", exists=False, ttl=60), 60),
        (Answer("example.org", ttl=10**9), ABSENCE_CEILING),
        (Answer("example.org", ttl=0), FLOOR),
        ("MX of example.org: no", FAILURE),
    ],
)
def test_floor_ceiling_absence_and_failure(cache, clock, outcome, seconds):
    kept = cache.put(KEY, outcome)
    if kept != outcome:
        assert kept.ttl == seconds
    clock.advance(seconds - 0.5)
    assert cache.get(KEY) is not None
    clock.advance(0.5)
    assert cache.get(KEY) is None


def test_a_failure_is_its_text(cache):
    cache.put(KEY, "MX of example.org: no")
    assert cache.get(KEY) == "MX of example.org: no"


def test_kinds_and_names_are_apart(cache):
    cache.put(KEY, answer(100))
    assert cache.get(("A", "example.org")) is None
    assert cache.get(("MX", "example.com")) is None


def test_a_clock_that_was_set_back_prolongs_nothing(cache, clock):
    clock.advance(1000)
    cache.put(KEY, answer(100))
    clock.rightNow = 10
    assert cache.get(KEY) is None


def test_what_was_not_asked_for_longest_goes_first(clock):
    cache = Cache(clock.seconds, entries=2)
    cache.put(("A", "1"), answer(100))
    cache.put(("A", "2"), answer(100))
    cache.get(("A", "1"))
    cache.put(("A", "3"), answer(100))
    assert len(cache) == 2
    assert cache.get(("A", "2")) is None
    assert cache.get(("A", "1")) is not None


def test_large_answers_do_not_fill_the_memory(clock):
    cache = Cache(clock.seconds, size=100_000)
    for number in range(100):
        cache.put(("TXT", str(number)), answer(100, b"x" * 10_000))
    assert 5 < len(cache) < 10
    cache.put(("TXT", "huge"), answer(100, b"x" * 200_000))
    assert cache.get(("TXT", "huge")) is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcdef"),
            st.one_of(
                st.text(max_size=5),
                st.builds(
                    answer,
                    st.floats(0, 5000),
                    st.one_of(
                        st.binary(max_size=3000),
                        st.builds(Tlsa, st.just(3), st.just(1), st.just(1), st.binary()),
                    ),
                ),
            ),
            st.floats(0, 2000),
            st.booleans(),
        )
    )
)
def test_it_is_never_over_its_bounds_and_never_wrong(steps):
    clock = Clock()
    cache = Cache(clock.seconds, entries=4, size=5000)
    model = {}
    for name, outcome, pause, put in steps:
        key = ("TXT", name)
        if put:
            cache.put(key, outcome)
            model[key] = outcome, clock.seconds()
        found = cache.get(key)
        if isinstance(found, str):
            assert found == model[key][0]
            assert clock.seconds() - model[key][1] < FAILURE
        elif found is not None:
            known, since = model[key]
            assert found.records == known.records
            assert found.ttl > 0
            bound = max(FLOOR, min(known.ttl, CEILING))
            assert clock.seconds() - since + found.ttl == pytest.approx(bound)
        assert len(cache) <= 4
        assert sum(kept.weight for kept in cache._kept.values()) == cache._weight <= 5000
        clock.advance(pause)
