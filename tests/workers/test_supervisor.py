"""`workers.supervisor`: who starts, who is replaced, who leaves, on a clock of the test's own."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from twisted_mail.workers.supervisor import LaunchError, Supervisor


class Child:
    """A process that does what the test says."""

    def __init__(self, pid, slot, first, told, ended):
        self.pid = pid
        self.slot = slot
        self.first = first
        self.told = told
        self._ended = ended
        self.sent = []
        self.killed = False
        self.alive = True

    def send(self, frame):
        self.sent.append(frame[0])

    def kill(self):
        if self.alive and not self.killed:
            self.killed = True

    def end(self, reason="was ended by SIGKILL"):
        self.alive = False
        self._ended(reason)

    def ready(self):
        self.told(["ready"])

    @property
    def opened(self):
        return "open" in self.sent

    @property
    def dismissed(self):
        return "drain" in self.sent


class Launch:
    def __init__(self, name, drain_seconds=10.0):
        self.name = name
        self.drain_seconds = drain_seconds

    def first(self, slot):
        return ["start", self.name, slot]


class Fleet:
    """A supervisor with everything around it."""

    def __init__(self, count=2):
        self.clock = Clock()
        self.children = []
        self.cleared = []
        self.relayed = []
        self.settles = []
        self.settled = True
        self.broken = False
        self.supervisor = Supervisor(
            self.clock,
            self,
            count,
            settle=self.settle,
            cleared=self.cleared.append,
            relay=lambda slot, frame: self.relayed.append((slot, frame)),
        )

    def spawn(self, slot, first, told, ended):
        if self.broken:
            raise OSError(11, "no more processes")
        assert slot not in [one.slot for one in self.children if one.alive]
        self.children.append(Child(100 + len(self.children), slot, first, told, ended))
        return self.children[-1]

    def settle(self):
        self.settles.append(self.clock.seconds())
        return self.settled if isinstance(self.settled, Deferred) else succeed(self.settled)

    @property
    def alive(self):
        return [one for one in self.children if one.alive]

    def launch(self, name="first"):
        outcome = []
        self.supervisor.launch(Launch(name)).addBoth(outcome.append)
        return outcome

    def up(self):
        outcome = self.launch()
        for child in self.alive:
            child.ready()
        assert outcome == [None]
        return self.alive


@pytest.fixture
def fleet():
    return Fleet()


def failure_of(outcome):
    (failure,) = outcome
    assert failure.check(LaunchError)
    return failure.getErrorMessage()


def test_nobody_is_let_in_before_all_are_ready(fleet):
    outcome = fleet.launch()
    first, second = fleet.alive
    assert first.first == ["start", "first", 1] and second.slot == 2
    first.ready()
    assert not first.opened and not outcome
    second.ready()
    assert first.opened and second.opened and outcome == [None]


def test_a_start_fails_with_the_words_of_the_worker(fleet):
    outcome = fleet.launch()
    first, second = fleet.alive
    first.told(["failed", "no certificate"])
    first.end("ended with 1")
    assert failure_of(outcome) == "no certificate"
    assert second.dismissed


def test_no_process_can_be_had(fleet):
    fleet.broken = True
    assert "no more processes" in failure_of(fleet.launch())


def test_who_dies_is_replaced_at_once_and_only_its_place(fleet):
    first, second = fleet.up()
    with capturedLogs() as events:
        first.end()
    assert fleet.cleared == [1] and fleet.settles == [0.0]
    fleet.clock.advance(0)
    other, third = fleet.alive
    assert other is second and not second.dismissed and third.slot == 1
    third.ready()
    assert third.opened
    (line,) = [formatEvent(one) for one in events]
    assert line.startswith("worker 1 was ended by SIGKILL; its connections are lost")


def test_the_new_one_answers_when_what_the_old_one_left_is_settled(fleet):
    first, _ = fleet.up()
    fleet.settled = settled = Deferred()
    first.end()
    fleet.clock.advance(0)
    new = fleet.alive[-1]
    new.ready()
    assert not new.opened
    settled.callback(True)
    assert new.opened


def test_what_cannot_be_settled_is_tried_again_and_keeps_nobody_waiting(fleet):
    first, _ = fleet.up()
    fleet.settled = False
    first.end()
    fleet.clock.advance(0)
    new = fleet.alive[-1]
    new.ready()
    assert new.opened
    fleet.clock.advance(1)
    fleet.settled = True
    fleet.clock.advance(1)
    fleet.clock.advance(5)
    assert fleet.settles == [0.0, 1.0, 2.0]


def test_a_settling_that_fails_keeps_nobody_waiting(fleet):
    def broken():
        raise RuntimeError("nothing works")

    first, _ = fleet.up()
    fleet.supervisor._settle = broken
    first.end()
    fleet.clock.advance(0)
    fleet.alive[-1].ready()
    assert fleet.alive[-1].opened
    done = fleet.supervisor.stop()
    for one in fleet.alive:
        one.end()
    assert done.called


def test_who_dies_again_and_again_is_replaced_less_often(fleet):
    fleet.up()
    pauses = []
    for _ in range(12):
        victim = next(one for one in fleet.alive if one.slot == 1)
        began = fleet.clock.seconds()
        victim.end()
        while not [one for one in fleet.alive if one.slot == 1]:
            fleet.clock.advance(0.5 if fleet.clock.seconds() > began else 0)
            if not [one for one in fleet.alive if one.slot == 1]:
                fleet.clock.advance(0.5)
            for one in fleet.alive:
                one.told(["pong"])
        pauses.append(fleet.clock.seconds() - began)
        assert len([one for one in fleet.alive if one.slot == 2]) == 1
    assert pauses[:7] == pytest.approx([0, 0, 0, 1, 2, 4, 8], abs=1)
    assert not any(pauses[:3])
    assert pauses[-1] == pytest.approx(60, abs=1)


def test_who_has_lived_long_is_replaced_at_once(fleet):
    fleet.up()
    for _ in range(5):
        for _ in range(13):
            fleet.clock.advance(5)
            for one in fleet.alive:
                one.told(["pong"])
        next(one for one in fleet.alive if one.slot == 1).end()
        fleet.clock.advance(0)
        assert len(fleet.alive) == 2


def test_who_cannot_be_replaced_now_is_later(fleet):
    first, _ = fleet.up()
    fleet.broken = True
    first.end()
    fleet.clock.advance(0)
    assert len(fleet.alive) == 1
    fleet.broken = False
    fleet.clock.advance(1)
    assert len(fleet.alive) == 2


def test_who_does_not_answer_is_killed_and_replaced(fleet):
    first, second = fleet.up()
    for _ in range(6):
        fleet.clock.advance(5)
        second.told(["pong"])
    assert first.sent.count("ping") == 6 and not first.killed
    fleet.clock.advance(5)
    assert first.killed and not second.killed
    with capturedLogs() as events:
        first.end("was ended by SIGKILL")
    assert "did not answer for 30 s" in formatEvent(events[0])
    fleet.clock.advance(0)
    assert len(fleet.alive) == 2


def test_a_machine_that_slept_kills_nobody(fleet):
    first, second = fleet.up()
    fleet.clock.advance(3600)
    assert not first.killed and not second.killed


def test_new_ones_take_over_and_the_old_ones_leave(fleet):
    old = fleet.up()
    outcome = fleet.launch("second")
    new = fleet.alive[2:]
    assert [one.first[1] for one in new] == ["second", "second"]
    new[0].ready()
    assert not new[0].opened and not any(one.dismissed for one in old)
    new[1].ready()
    assert outcome == [None]
    assert all(one.opened for one in new) and all(one.dismissed for one in old)
    for one in old:
        one.end("")
    fleet.clock.advance(1000)
    assert len(fleet.children) == 4


def test_new_ones_that_cannot_start_leave_the_old_ones_in_place(fleet):
    old = fleet.up()
    outcome = fleet.launch("second")
    first, second = fleet.alive[2:]
    first.ready()
    second.told(["failed", "no"])
    second.end("ended with 1")
    assert failure_of(outcome) == "no"
    assert first.dismissed and not first.opened
    assert not any(one.dismissed for one in old)
    first.end("")
    # they still are replaced
    old[0].end()
    fleet.clock.advance(0)
    assert fleet.alive[-1].first[1] == "first"


def test_an_old_one_that_dies_while_new_ones_start(fleet):
    old = fleet.up()
    outcome = fleet.launch("second")
    new = fleet.alive[2:]
    old[0].end()
    fleet.clock.advance(0)
    healed = fleet.alive[-1]
    assert healed.first[1] == "first"
    for one in new:
        one.ready()
    assert outcome == [None] and healed.dismissed
    healed.ready()
    assert not healed.opened


def test_the_next_change_waits_until_the_old_ones_are_gone(fleet):
    old = fleet.up()
    fleet.launch("second")
    for one in fleet.alive[2:]:
        one.ready()
    outcome = fleet.launch("third")
    assert len(fleet.children) == 4
    for one in old:
        one.end("")
    for one in fleet.alive[2:]:
        one.ready()
    assert outcome == [None] and fleet.alive[-1].first[1] == "third"


def test_who_does_not_leave_is_killed(fleet):
    first, second = fleet.up()
    done = fleet.supervisor.stop()
    second.end("")
    fleet.clock.advance(14.9)
    assert not first.killed
    fleet.clock.advance(0.2)
    assert first.killed and not done.called
    first.end()
    assert done.called


def test_stop_while_they_start(fleet):
    outcome = fleet.launch()
    first, second = fleet.alive
    done = fleet.supervisor.stop()
    assert failure_of(outcome) == "the server stops"
    assert first.dismissed and second.dismissed
    first.ready()
    assert not first.opened
    first.end("")
    second.end("")
    assert done.called
    assert not fleet.clock.getDelayedCalls()


def test_stop_while_one_is_to_be_replaced(fleet):
    first, second = fleet.up()
    first.end()
    done = fleet.supervisor.stop()
    second.end("")
    assert done.called
    fleet.clock.advance(100)
    assert len(fleet.children) == 2


def test_who_dies_while_it_leaves_is_settled_after(fleet):
    first, second = fleet.up()
    done = fleet.supervisor.stop()
    first.end()
    assert fleet.settles
    second.end("")
    assert done.called and len(fleet.children) == 2


def test_what_one_tells_is_passed_on(fleet):
    first, second = fleet.up()
    first.told(["news", [["topic", 1]]])
    assert fleet.relayed == [(1, [["topic", 1]])]
    fleet.supervisor.tell(["news", []], but=1)
    assert "news" in second.sent and "news" not in first.sent


def test_what_cannot_be_said_to_a_worker_is_a_start_that_fails(fleet):
    old = fleet.up()

    def too_long(slot, first, told, ended):
        raise ValueError("a frame of 99 octets")

    fleet.spawn = too_long
    assert "a frame of 99 octets" in failure_of(fleet.launch("second"))
    del fleet.spawn
    outcome = fleet.launch("third")
    for one in fleet.alive[2:]:
        one.ready()
    assert outcome == [None] and all(one.dismissed for one in old)


def test_the_first_deaths_of_a_place_cost_no_pause(fleet):
    fleet.up()
    for _ in range(3):
        next(one for one in fleet.alive if one.slot == 1).end()
        fleet.clock.advance(0)
        assert len(fleet.alive) == 2
    next(one for one in fleet.alive if one.slot == 1).end()
    fleet.clock.advance(0.9)
    assert len(fleet.alive) == 1
    fleet.clock.advance(0.1)
    assert len(fleet.alive) == 2


def test_what_the_only_worker_left_is_settled_while_there_is_none():
    fleet = Fleet(count=1)
    fleet.up()
    for _ in range(3):
        fleet.alive[0].end()
        fleet.clock.advance(0)
    fleet.settled = False
    fleet.alive[0].end()
    fleet.settles.clear()
    fleet.clock.advance(0.5)
    assert not fleet.alive
    fleet.clock.advance(0.5)
    fleet.clock.advance(1)
    assert fleet.settles == [1.0, 2.0]


def test_a_process_that_could_not_be_had_has_left_nothing(fleet):
    fleet.up()
    fleet.broken = True
    fleet.alive[0].end()
    fleet.clock.advance(0)
    assert fleet.settles == [0.0]


def test_stop_ends_a_change_that_waits_for_the_old_ones(fleet):
    old = fleet.up()
    fleet.launch("second")
    for one in fleet.alive[2:]:
        one.ready()
    outcome = fleet.launch("third")
    done = fleet.supervisor.stop()
    assert failure_of(outcome) == "the server stops"
    for one in fleet.alive:
        one.end("")
    assert done.called and len(fleet.children) == len(old) + 2
    assert not fleet.clock.getDelayedCalls()


def test_no_retry_of_settling_is_left_behind(fleet):
    first, second = fleet.up()
    fleet.settled = False
    first.end()
    done = fleet.supervisor.stop()
    second.end("")
    assert done.called and not fleet.clock.getDelayedCalls()


def test_who_ends_without_a_word_while_it_starts_points_to_the_log(fleet):
    outcome = fleet.launch()
    first, second = fleet.alive
    first.end("ended with 1")
    assert failure_of(outcome) == "ended with 1 while it started: the log has what it wrote"
    second.end("")


def test_who_never_is_ready_is_killed(fleet):
    """However well it answers: a change would wait for it for ever."""
    old = fleet.up()
    outcome = fleet.launch("second")
    first, second = fleet.alive[2:]
    first.ready()
    for _ in range(24):
        assert not second.killed
        fleet.clock.advance(5)
        for one in fleet.alive:
            one.told(["pong"])
    assert second.killed and not first.killed
    second.end("was ended by SIGKILL")
    assert failure_of(outcome) == "was not ready within 120 s and was killed"
    first.end("")
    assert not any(one.dismissed for one in old)
