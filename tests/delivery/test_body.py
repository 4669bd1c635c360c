"""A body is shown whole and in order, whoever shows it; large ones in threads, and never too far ahead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import ensureDeferred

from twisted_mail.delivery import body
from twisted_mail.delivery.body import BodyWatch, reread
from twisted_mail.testing.world import simulated_world

SMALL = 300


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(body, "SMALL", SMALL)
    monkeypatch.setattr(body, "AHEAD", SMALL)
    monkeypatch.setattr(body, "_BLOCK", 64)


def turn(world, coroutine):
    results = []
    ensureDeferred(coroutine).addBoth(results.append)
    for _ in range(200):
        world.reactor.settle()
    return results


@given(st.lists(st.binary(min_size=1, max_size=150), max_size=20))
def test_each_sink_gets_all_of_it_in_order(blocks):
    world = simulated_world()
    seen = [[], []]
    watch = BodyWatch(world, [seen[0].append, seen[1].append])

    async def feed():
        for block in blocks:
            room = watch.feed(block)
            if room is not None:
                await room
        await watch.finish()

    assert turn(world, feed()) == [None]
    for sink in seen:
        assert b"".join(sink) == b"".join(blocks)
        assert all(len(one) <= 64 for one in sink)


def test_a_large_one_waits_for_its_thread():
    world = simulated_world()
    seen = []
    watch = BodyWatch(world, [seen.append])
    assert watch.feed(b"a" * SMALL) is None
    assert len(b"".join(seen)) == SMALL
    assert watch.feed(b"b" * SMALL) is None
    assert b"b" not in b"".join(seen)
    watch.feed(b"c" * SMALL)
    room = watch.feed(b"d")
    assert room is not None
    for _ in range(10):
        world.reactor.settle()
    assert room.called
    assert turn(world, watch.finish()) == [None]
    assert b"".join(seen).endswith(b"cd")


def test_what_a_sink_raises_is_heard_at_the_end():
    world = simulated_world()

    def broken(text):
        raise ValueError("broken")

    watch = BodyWatch(world, [broken])
    watch.feed(b"a" * 2 * SMALL)
    (result,) = turn(world, watch.finish())
    assert isinstance(result.value, ValueError)
    assert watch.feed(b"b") is None


def test_nothing_more_is_shown_once_it_is_over():
    world = simulated_world()
    seen = []
    watch = BodyWatch(world, [seen.append])
    watch.feed(b"a")
    watch.abort()
    watch.feed(b"b" * 2 * SMALL)
    assert turn(world, watch.finish()) == [None]
    assert seen == [b"a"]


def test_what_was_written_is_shown_again():
    world = simulated_world()
    content = bytes(range(250)) * 7

    class Source:
        async def read(self, offset, size):
            return content[offset : offset + size]

    seen = []
    assert turn(world, reread(world, Source(), 3, seen.append)) == [None]
    assert b"".join(seen) == content[3:]
