"""Counts in shared memory: each process its own cells, all of them together a limit."""

import os
import subprocess
import sys
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.siblings import LocalCounts
from twisted_mail.workers.shared_counts import SharedCounts, make_shared_counts


@pytest.fixture
def memory() -> Iterator[int]:
    fd = make_shared_counts(3, Random(1).randbytes)
    yield fd
    os.close(fd)


def test_a_limit_holds_over_all_processes(memory: int) -> None:
    main, one, two = (SharedCounts(memory, slot).counts("connections") for slot in range(3))
    assert one.take("192.0.2.1", 3)
    assert two.take("192.0.2.1", 3)
    assert main.take("192.0.2.1", 3)
    assert not one.take("192.0.2.1", 3)
    assert one.take("192.0.2.2", 3)
    two.give_back("192.0.2.1")
    assert one.take("192.0.2.1", 3)
    assert [counts.count("192.0.2.1") for counts in (main, one, two)] == [3, 3, 3]


def test_the_whole_is_counted_exactly_beside_the_keys(memory: int) -> None:
    one, two = (SharedCounts(memory, slot).counts("connections") for slot in (1, 2))
    for _ in range(70_000):
        assert one.take("", 70_001)
    assert two.take("", 70_001)
    assert not two.take("", 70_001)
    assert two.count("") == 70_001
    assert two.count("192.0.2.1") == 0
    one.give_back("")
    assert two.count("") == 70_000


def test_names_are_apart(memory: int) -> None:
    shared = SharedCounts(memory, 0)
    assert shared.counts("connections").take("ada", 9)
    assert shared.counts("connections").take("", 9)
    assert shared.counts("seats").count("ada") == 0
    assert shared.counts("seats").count("") == 0
    with pytest.raises(KeyError):
        shared.counts("chairs")


def test_what_a_dead_process_had_taken_is_given_back(memory: int) -> None:
    main, dead, other = (SharedCounts(memory, slot) for slot in range(3))
    for shared in (dead, other):
        assert shared.counts("connections").take("192.0.2.1", 9)
        assert shared.counts("connections").take("", 9)
        assert shared.counts("seats").take("ada", 9)
        shared.set_load(5)
    main.clear(1)
    assert main.counts("connections").count("192.0.2.1") == 1
    assert main.counts("connections").count("") == 1
    assert main.counts("seats").count("ada") == 1
    assert main.loads() == [0, 0, 5]


def test_each_says_its_load(memory: int) -> None:
    one, two = SharedCounts(memory, 1), SharedCounts(memory, 2)
    one.set_load(7)
    two.set_load(4_000_000_000)
    assert one.loads() == [0, 7, 4_000_000_000]
    one.set_load(0)
    assert two.loads() == [0, 0, 4_000_000_000]


def test_another_process_counts_in_the_same_memory(memory: int) -> None:
    shared = SharedCounts(memory, 0)
    assert shared.counts("connections").take("192.0.2.1", 2)
    program = """
import sys
from twisted_mail.workers.shared_counts import SharedCounts
counts = SharedCounts(int(sys.argv[1]), 1).counts("connections")
print(*[counts.take("192.0.2.1", 2) for _ in range(2)])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, str(memory)],
        pass_fds=[memory],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert ran.stdout.split() == [b"True", b"False"]
    assert shared.counts("connections").count("192.0.2.1") == 2


def test_a_cell_that_is_full_takes_no_more(memory: int) -> None:
    counts = SharedCounts(memory, 0).counts("connections")
    taken = sum(counts.take("192.0.2.1", 100_000) for _ in range(65_540))
    assert taken == 65_535 == counts.count("192.0.2.1")


def test_clients_at_their_limit_leave_room_for_others(memory: int) -> None:
    one, two = (SharedCounts(memory, slot).counts("connections") for slot in (1, 2))
    for number in range(200):
        for _ in range(25):
            assert one.take(f"198.51.100.{number}", 50)
            assert two.take(f"198.51.100.{number}", 50)
    # (200 / 8192)^4 each: one of ten thousand would be a sign that rows are not independent
    refused = sum(one.count(f"client {number}") >= 50 for number in range(10_000))
    assert refused == 0


def test_who_shares_cells_is_as_rare_as_with_four_independent_rows(memory: int) -> None:
    counts = SharedCounts(memory, 1).counts("connections")
    for number in range(2000):
        assert counts.take(f"198.51.100.{number}", 9)
    taken = sum(counts.count(f"client {number}") > 0 for number in range(10_000))
    # (1 - e^(-2000/8192))^4 of them; with three rows it were 102
    assert 5 <= taken <= 45


def test_the_key_of_the_hash_is_the_sites_own() -> None:
    cells = set()
    for seed in (1, 2):
        fd = make_shared_counts(1, Random(seed).randbytes)
        shared = SharedCounts(fd, 0)
        assert shared.counts("connections").take("192.0.2.1", 1)
        size = os.fstat(fd).st_size
        cells.add(os.pread(fd, size - 64, 64))
        os.close(fd)
    assert len(cells) == 2


def test_other_memory_is_refused(memory: int) -> None:
    with pytest.raises(ValueError, match="3 slots"):
        SharedCounts(memory, 3)
    os.pwrite(memory, b"another version.", 0)
    with pytest.raises(ValueError, match="another version"):
        SharedCounts(memory, 0)
    with pytest.raises(ValueError, match="not 0"):
        make_shared_counts(0, os.urandom)


def test_nobody_makes_it_smaller(memory: int) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(memory, 0)


_keys = st.sampled_from(["", "192.0.2.1", "2001:db8::/64", "ä", "\udcff"])


@given(st.lists(st.tuples(st.integers(0, 2), _keys, st.integers(0, 4), st.booleans())))
def test_it_counts_as_one_process_would(steps: list[tuple[int, str, int, bool]]) -> None:
    fd = make_shared_counts(3, Random(1).randbytes)
    several: list[Any] = [SharedCounts(fd, slot).counts("seats") for slot in range(3)]
    os.close(fd)
    alone = LocalCounts()
    held: list[tuple[int, str]] = []
    for slot, key, most, take in steps:
        if take:
            taken = several[slot].take(key, most)
            assert taken == alone.take(key, most)
            if taken:
                held.append((slot, key))
        elif held:
            owner, key = held.pop()
            several[owner].give_back(key)
            alone.give_back(key)
        assert {counts.count(key) for counts in several} == {alone.count(key)}
