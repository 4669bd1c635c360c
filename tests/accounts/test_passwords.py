"""Password records, the bounded pool that hashes, and the memory of what was right."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from argon2 import PasswordHasher, extract_parameters
from awaiting import Started, done
from twisted.internet.defer import CancelledError, Deferred

from twisted_mail.accounts.passwords import (
    MAX_AT_ONCE,
    MAX_WAITING,
    Cost,
    Hasher,
    PasswordRecord,
    Remembered,
    hash_password,
    verify_password,
)
from twisted_mail.sasl import ScramKeys
from twisted_mail.status import MailError
from twisted_mail.world import World

T = TypeVar("T")
Record = Callable[[str], PasswordRecord]


def now(world: World, awaitable: Awaitable[T]) -> T:
    """What it gives once the threads have done theirs."""
    started = Started(awaitable)
    world.reactor.settle()
    return started.result()


def test_a_record_round_trips(record: Record) -> None:
    made = record("sesame")
    text = made.encode()
    assert text.isascii() and "\n" not in text
    assert PasswordRecord.parse(text) == made
    assert text not in repr(made)


@pytest.mark.parametrize("text", ["", "x", "x y z", "$argon2id$ SCRAM-SHA-256$x"])
def test_what_is_no_record(text: str) -> None:
    with pytest.raises(ValueError):
        PasswordRecord.parse(text)


def test_what_is_made_is_standard(record: Record, cost: Cost) -> None:
    made = record("sesame")
    assert PasswordHasher().verify(made.argon2, "sesame")
    parameters = extract_parameters(made.argon2)
    assert (parameters.memory_cost, parameters.time_cost) == (cost.memory, cost.passes)
    assert made.scram == ScramKeys.derive("sesame", made.scram.salt, cost.scram_iterations)
    assert len(made.scram.salt) == 16


def test_the_default_cost_is_that_of_rfc_9106() -> None:
    assert (Cost().memory, Cost().passes) == (65536, 3)
    assert Cost().scram_iterations >= 4096  # RFC 7677 section 4


def test_salts_differ(record: Record) -> None:
    one, two = record("sesame"), record("sesame")
    assert one.argon2 != two.argon2 and one.scram.salt != two.scram.salt


def test_right_and_wrong(record: Record) -> None:
    argon2 = record("pässword ").argon2
    assert verify_password(argon2, "pässword ")
    assert verify_password(argon2, "pa\u0308ssword\u00a0")  # the same, prepared
    assert not verify_password(argon2, "pässword")
    assert not verify_password(argon2, "")
    assert not verify_password(argon2, "\x07")
    assert not verify_password(argon2, "\ud800")


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("", "the password is empty"),
        ("\u00ad", "the password is empty"),
        ("a\0b", "the password cannot be used: forbidden character"),
        ("\U0001f511", "the password cannot be used: character unknown to Unicode 3.2"),
    ],
)
def test_what_cannot_be_a_password(world: World, cost: Cost, password: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        hash_password(password, world.entropy, cost)


def test_the_hasher_makes_and_verifies(world: World, cost: Cost) -> None:
    hasher = Hasher(world, cost)
    made = now(world, hasher.make("sesame"))
    assert now(world, hasher.verify(made.argon2, "sesame")) is True
    assert now(world, hasher.verify(made.argon2, "simsim")) is False
    assert hasher.scram_iterations == cost.scram_iterations


def test_no_password_fits_the_dummy_and_it_costs_the_same(world: World, cost: Cost) -> None:
    hasher = Hasher(world, cost)
    assert now(world, hasher.verify(hasher.dummy, "sesame")) is False
    real = now(world, hasher.make("sesame")).argon2
    assert extract_parameters(hasher.dummy) == extract_parameters(real)
    assert len(hasher.dummy) == len(real)


def test_a_broken_record_is_an_error_not_a_no(world: World, cost: Cost) -> None:
    with pytest.raises(Exception, match="Decoding failed"):
        now(world, Hasher(world, cost).verify("$argon2id$nonsense", "sesame"))


class HeldThreads:
    """Threads whose work the test lets run."""

    def __init__(self) -> None:
        self.work: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def call(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> Deferred[T]:
        done: Deferred[T] = Deferred()
        self.work.append((done, lambda: work(*args, **kwargs)))
        return done

    def run_one(self) -> None:
        done, work = self.work.pop(0)
        done.callback(work())


def held(world: World) -> tuple[World, HeldThreads]:
    threads = HeldThreads()
    return replace(world, threads=threads), threads  # type: ignore[arg-type]


def test_two_at_a_time_and_the_line_is_bounded(world: World, cost: Cost) -> None:
    world, threads = held(world)
    hasher = Hasher(world, cost)
    asked = [
        Started(hasher.verify(hasher.dummy, "x", True)) for _ in range(MAX_AT_ONCE + MAX_WAITING)
    ]
    assert len(threads.work) == MAX_AT_ONCE
    with pytest.raises(MailError) as caught:
        done(hasher.verify(hasher.dummy, "x", True))
    refusal = caught.value
    assert (refusal.code, refusal.enhanced, refusal.pop3) == (454, "4.7.0", "SYS/TEMP")
    while threads.work:
        assert len(threads.work) <= MAX_AT_ONCE
        threads.run_one()
    assert not any(one.result() for one in asked)


def test_one_of_several_processes_hashes_one_at_a_time(world: World, cost: Cost) -> None:
    world, threads = held(world)
    hasher = Hasher(world, cost, at_once=1)
    asked = [Started(hasher.verify(hasher.dummy, "x")) for _ in range(3)]
    while threads.work:
        assert len(threads.work) == 1
        threads.run_one()
    assert not any(one.result() for one in asked)


def test_who_goes_away_does_not_make_room_while_the_thread_works(world: World, cost: Cost) -> None:
    world, threads = held(world)
    hasher = Hasher(world, cost)
    gone = [Started(hasher.verify(hasher.dummy, "x", True)) for _ in range(MAX_AT_ONCE)]
    waiting = Started(hasher.verify(hasher.dummy, "x", True))
    for one in gone:
        one.deferred.cancel()
        with pytest.raises(CancelledError):
            one.result()
    assert len(threads.work) == MAX_AT_ONCE
    threads.run_one()
    assert len(threads.work) == MAX_AT_ONCE
    while threads.work:
        threads.run_one()
    assert waiting.result() is False


def test_a_failed_thread_gives_its_turn_back(world: World, cost: Cost) -> None:
    hasher = Hasher(world, cost)
    for _ in range(MAX_AT_ONCE + 1):
        with pytest.raises(Exception, match="Decoding failed"):
            now(world, hasher.verify("broken", "x"))
    assert now(world, hasher.verify(hasher.dummy, "x")) is False


def test_what_was_right_is_remembered_for_a_while(world: World, record: Record) -> None:
    remembered, made = Remembered(world, keep=300), record("sesame")
    assert not remembered.knows(1, made, "sesame")
    remembered.add(1, made, "sesame")
    assert remembered.knows(1, made, "sesame")
    assert not remembered.knows(1, made, "simsim")
    assert not remembered.knows(2, made, "sesame")
    world.reactor.advance(299)
    assert remembered.knows(1, made, "sesame")
    world.reactor.advance(1)
    assert not remembered.knows(1, made, "sesame")


def test_a_changed_password_is_forgotten_at_once(world: World, record: Record) -> None:
    remembered = Remembered(world)
    remembered.add(1, record("sesame"), "sesame")
    assert not remembered.knows(1, record("simsim"), "sesame")
    assert not remembered.knows(1, record("sesame"), "sesame")  # another salt: set anew


def test_the_memory_is_bounded_and_holds_no_password(world: World, record: Record) -> None:
    remembered, made = Remembered(world, size=2), record("sesame")
    for user in (1, 2, 1, 3):
        remembered.add(user, made, "sesame")
    assert [remembered.knows(user, made, "sesame") for user in (1, 2, 3)] == [True, False, True]
    assert b"sesame" not in repr(vars(remembered)).encode()
    other = Remembered(world)
    other.add(1, made, "sesame")
    assert vars(other)["_known"][1] != vars(remembered)["_known"][1]  # another key


def test_who_is_at_home_goes_before_strangers_whose_line_may_be_full(
    world: World, cost: Cost
) -> None:
    world, threads = held(world)
    hasher = Hasher(world, cost, at_once=1)
    order: list[str] = []

    def ask(name: str, first: bool) -> None:
        asked = Started(hasher.verify(hasher.dummy, "x", first))
        asked.deferred.addCallback(lambda _: order.append(name))

    ask("under way", False)
    for n in range(MAX_WAITING):
        ask(f"stranger {n}", False)
    for n in range(3):
        ask(f"user {n}", True)
    while threads.work:
        threads.run_one()
    assert order[:5] == ["under way", "user 0", "user 1", "user 2", "stranger 0"]
    assert len(order) == MAX_WAITING + 4


def test_who_leaves_the_line_takes_no_turn(world: World, cost: Cost) -> None:
    world, threads = held(world)
    hasher = Hasher(world, cost, at_once=1)
    first, gone, last = (Started(hasher.verify(hasher.dummy, "x")) for _ in range(3))
    gone.deferred.cancel()
    with pytest.raises(CancelledError):
        gone.result()
    threads.run_one()
    threads.run_one()
    assert not threads.work
    assert first.result() is last.result() is False


def test_strangers_leave_a_turn_to_those_who_are_at_home(world: World, cost: Cost) -> None:
    world, threads = held(world)
    hasher = Hasher(world, cost)
    strangers = [Started(hasher.verify(hasher.dummy, "x")) for _ in range(3)]
    assert len(threads.work) == 1
    user = Started(hasher.verify(hasher.dummy, "x", True))
    assert len(threads.work) == 2
    threads.run_one()
    assert len(threads.work) == 2
    threads.run_one()
    # Of the strangers one at a time, though there would be room for two
    assert user.result() is False and len(threads.work) == 1
    while threads.work:
        assert len(threads.work) == 1
        threads.run_one()
    assert not any(one.result() for one in strangers)
