"""The queue on the disk against a model: two processes, one of which runs it, killed, cut off and started again.

Whatever was answered yes is so afterwards; nobody is given out who is in somebody's hand, held, or over.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from store_site import Site, scratch

from twisted_mail.storage.queued import Attempt, Change, State, Verdict
from twisted_mail.testing.disk import PowerCutDisk

HOPS = ("a.example", "b.example", "c.example")
OPEN = State.WAITING
"""In the model: waiting, active or deferred."""


def _over(states):
    return all(state.final for state in states.values())


class QueueModel(RuleBasedStateMachine):
    """`model`: id → the state of each recipient; `content` of each; `hand`: what the runner has; `mail`: bounces."""

    @initialize()
    def start(self):
        self.root = scratch()
        self.number = 0
        self.boot = 1
        self.now = 0.0
        self.data = os.path.join(self.root, "1")
        os.mkdir(self.data)
        self.model = {}
        self.content = {}
        self.pruned = set()
        self.mail = []
        self.unsettled = False
        self._begin()

    def _begin(self):
        self.disk = PowerCutDisk(self.data)
        self.disk.after("syncfs", (self.data,))
        self.sites = [self._open(), self._open()]
        self._run_queue(0)
        self._compare()

    def _open(self):
        self.number += 1
        site = Site(
            os.path.join(self.data, "site"),
            disk=self.disk,
            seed=self.number,
            boot=str(self.boot),
            segment_size=8000,
        ).start()
        self._same_time(site)
        return site

    def _same_time(self, site):
        late = self.now - site.world.now()
        if late > 0:
            site.world.reactor.advance(late)
            site.turn()

    def _run_queue(self, which):
        self.runner = which
        site = self.sites[which]
        assert site.run(site.store.queue.acquire())
        self.hand = {}
        self.claims = False
        site.store.queue.attach(lambda _: self.claims, self._claimed, self._dropped)
        # Before anything that is parked is tried again by itself.
        self._take_all(site)
        self._look_all()

    def _claimed(self, messages):
        for message in messages:
            for number in range(len(message.recipients)):
                self.hand[message.id, number] = 0

    def _dropped(self, messages):
        """They come by `take`."""

    def _settle(self):
        for site in self.sites:
            site.world.reactor.advance(31)
            site.turn()
        self.now = max(site.world.now() for site in self.sites)
        for site in self.sites:
            self._same_time(site)
        self.unsettled = False
        assert os.listdir(os.path.join(self.data, "site", "parked")) == []

    def _compare(self):
        site = self.sites[0]
        found = {}
        for (id_, address), state in site.states().items():
            found.setdefault(id_, {})[int(address.partition("@")[0])] = state
        assert found.keys() | self.pruned == self.model.keys()
        for id_, states in found.items():
            expected = self.model[id_]
            assert states.keys() == expected.keys()
            for number, state in states.items():
                if expected[number] is OPEN:
                    assert state < State.HELD, (id_, number, state)
                else:
                    assert state is expected[number], (id_, number, state)
            over = _over(states)
            assert site.queued_file(id_) == (None if over else self.content[id_])
        assert sorted(site.contents("d/a")) == sorted(self.mail)

    def _look_all(self):
        """Everything that is open and in nobody's hand can be had."""
        self._settle()
        self._compare()
        site = self.sites[self.runner]
        known = set(self.hand)
        found = self._take_all(site)
        wanted = {
            (id_, number)
            for id_, states in self.model.items()
            for number, state in states.items()
            if state is OPEN
        }
        assert found == wanted - known

    def _take_all(self, site):
        site.store.queue.view.flush(site.world.now() + 1)
        found = set()
        while taken := site.take(reopened=HOPS)[0]:
            for one in taken:
                key = (one.message.id, one.number)
                assert key not in self.hand, "given out twice"
                assert self.model[one.message.id][one.number] is OPEN
                assert one.message.size == len(self.content[one.message.id])
                self.hand[key] = one.tries
                found.add(key)
        return found

    def teardown(self):
        if hasattr(self, "sites"):
            for site in self.sites:
                site.kill()
            self.disk.close_all()
            shutil.rmtree(self.root)

    # -- mail comes

    @rule(
        by=st.integers(0, 1),
        hops=st.lists(st.sampled_from(HOPS), min_size=1, max_size=3),
        size=st.sampled_from([10, 2000, 270_000]),
        claims=st.booleans(),
        fails=st.sampled_from([False, False, True]),
    )
    def enqueue(self, by, hops, size, claims, fails):
        self.number += 1
        id_ = f"{self.number % 7}0{self.number}"
        content = b"Subject: %d\n\n" % self.number + b"x" * size + b"\n"
        self.claims = claims
        site = self.sites[by]
        mend = self._broken(site) if fails else None
        site.enqueue(content, id_, *[f"{n}@{hop}" for n, hop in enumerate(hops)])
        if mend:
            mend()
        site.turn()
        self.model[id_] = dict.fromkeys(range(len(hops)), OPEN)
        self.content[id_] = content

    def _broken(self, site):
        """Its rows cannot be written for a while: what is committed is parked."""
        spool = site.store._spool
        real = spool.transaction
        self.unsettled = True

        def no():
            raise sqlite3.OperationalError("database or disk is full")

        spool.transaction = no
        return lambda: setattr(spool, "transaction", real)

    # -- the runner

    @rule()
    def take(self):
        self._take_all(self.sites[self.runner])

    @precondition(
        lambda self: any(not _over(states) for states in getattr(self, "model", {}).values())
    )
    @rule(
        data=st.data(),
        state=st.sampled_from([State.DELIVERED, State.DEFERRED, State.BOUNCED]),
        fails=st.sampled_from([False, False, True]),
    )
    def outcome(self, data, state, fails):
        site = self.sites[self.runner]
        if not self.hand:
            self._take_all(site)
        if not self.hand:
            return
        id_, number = data.draw(st.sampled_from(sorted(self.hand)))
        del self.hand[id_, number]
        self.now += 1
        for one in self.sites:
            self._same_time(one)
        now = site.world.now()
        due = now + 100 if state is State.DEFERRED else 0.0
        change = Change(
            id_, (Verdict(number, state, due, 0),), (Attempt(now, "mx", "", "", state.name),)
        )
        mend = self._broken(site) if fails else None
        if state is State.BOUNCED:
            bounce = b"Subject: bounce of %s %d %d\n\n" % (id_.encode(), number, len(self.mail))
            site.run(site.accept(bounce, ["d/a"], changes=[change]))
            self.mail.append(bounce)
        else:
            site.change(change)
        if mend:
            mend()
        before = self.model[id_][number]
        if state is not State.DEFERRED and not before.final:
            self.model[id_][number] = state

    @precondition(lambda self: getattr(self, "hand", None))
    @rule(data=st.data())
    def put_back(self, data):
        keys = sorted(data.draw(st.sets(st.sampled_from(sorted(self.hand)), min_size=1)))
        site = self.sites[self.runner]
        site.run(site.store.queue.put_back(keys, site.world.now()))
        for key in keys:
            del self.hand[key]

    @rule()
    def look(self):
        self._look_all()

    # -- by hand, from another process, which stops, or is killed and settled later

    @rule(
        data=st.data(),
        to=st.sampled_from([State.HELD, State.REMOVED, State.WAITING]),
        killed=st.booleans(),
    )
    def by_hand(self, data, to, killed):
        if self.unsettled:
            self._settle()
        of = (State.HELD,) if to is State.WAITING else (OPEN, State.HELD)
        keys = sorted(
            (id_, number)
            for id_, states in self.model.items()
            for number, state in states.items()
            if state in of
        )
        if not keys:
            return
        id_, number = data.draw(st.sampled_from(keys))
        other = self._open()
        self.now += 1
        for one in (other, *self.sites):
            self._same_time(one)
        now = other.world.now()
        other.change(Change(id_, (Verdict(number, to, now, 0),), (Attempt(now, "", "", "", "x"),)))
        if killed:
            other.kill()
        else:
            other.stop()
        self.model[id_][number] = to
        # The runner sees that something changed, and drops what it has in hand.
        site = self.sites[self.runner]
        current = site.run(site.store.queue.current([id_]))
        if (id_, number) not in current:
            self.hand.pop((id_, number), None)

    # -- time, and the end of things

    @rule()
    def time_passes(self):
        self._settle()
        self._compare()

    @rule(by=st.integers(0, 1))
    def checkpoint(self, by):
        site = self.sites[by]
        site.run(site.world.threads.call(site.store._journal.checkpoint))

    @rule(by=st.integers(0, 1))
    def prune(self, by):
        site = self.sites[by]
        site.run(site.store.queue.prune(site.world.now() + 1, 0))
        states = {id_ for id_, _ in site.states()}
        for id_, expected in self.model.items():
            if id_ not in states and _over(expected):
                self.pruned.add(id_)

    @rule()
    def hand_over(self):
        site = self.sites[self.runner]
        site.run(site.store.queue.release())
        self._run_queue(1 - self.runner)

    @rule(by=st.integers(0, 1), take_over=st.booleans())
    def kill_one(self, by, take_over):
        """What runs the queue goes on in the other process, or in the one that is started anew."""
        runner = self.runner
        self.sites[by].kill()
        if by == runner and take_over:
            self._run_queue_alone(1 - by)
        self.sites[by] = self._open()
        if by == runner and not take_over:
            self._run_queue(by)

    def _run_queue_alone(self, which):
        site = self.sites[which]
        assert site.run(site.store.queue.acquire())
        self.runner = which
        self.hand = {}
        site.store.queue.attach(lambda _: self.claims, self._claimed, self._dropped)
        self._take_all(site)

    @rule(cleanly=st.booleans())
    def stop_all(self, cleanly):
        for site in self.sites:
            if cleanly:
                site.run(site.store.queue.release())
                site.stop()
            else:
                site.kill()
        self.disk.close_all()
        self._begin()

    @rule(luck=st.none() | st.integers(0, 1000))
    def power_cut(self, luck):
        self.boot += 1
        target = os.path.join(self.root, str(self.boot))
        self.disk.after_cut(target, luck=Random(luck) if luck is not None else None)
        for site in self.sites:
            site.kill()
        self.disk.close_all()
        # The old one stays until the end: SQLite knows files by their inodes, as long as the process lives.
        self.data = target
        self._begin()


TestQueueModel = QueueModel.TestCase
TestQueueModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
