"""Days of a queue's life from one seed: hosts come and go, disks fill, processes die at any moment. Nothing is lost."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from queue_site import Site

from twisted_mail.queue.interfaces import DestinationError, Result
from twisted_mail.storage.queued import Change, QueuedRecipient, State, Verdict
from twisted_mail.testing.queue import Host

DAY = 86400.0
HOPS = [f"d{number}.example" for number in range(6)]


class Life:
    """`window`: (recipient) → at how many crashes it had been sent, and that was not committed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.site = Site(
            seed=seed,
            poll=20.0,
            look=60,
            window=self.random.choice([4, 30, 1000]),
            concurrency=self.random.choice([1, 3, 20]),
            connections=self.random.choice([2, 10, 100]),
            rate=self.random.choice([0, 0, 30]),
            lag=self.random.choice([None, 0.003, 0.2]),
            double_bounces_to=self.random.choice(["", "postmaster@home.example"]),
        )
        self.window: Counter[tuple[str, int]] = Counter()
        self.crashes = 0
        self.held: set[tuple[str, int]] = set()

    def host(self) -> None:
        hop = self.random.choice(HOPS)
        host = self.site.carrier.hosts.setdefault(hop, Host())
        host.connect = self.random.choice([0.0, 0.05, 1, 20, 200])
        host.latency = self.random.choice([0.0, 0.01, 0.5, 40, 200])
        host.breaks = self.random.random() < 0.1
        host.most = self.random.choice([1, 2, 1000])
        host.result = self.random.choice(list(Result) + [Result.DELIVERED] * 3)
        host.error = None
        if self.random.random() < 0.4:
            host.error = DestinationError("no answer", permanent=self.random.random() < 0.1)

    def mail(self) -> None:
        for _ in range(self.random.choice([1, 1, 3, 10])):
            to = [
                QueuedRecipient(
                    f"u{number}@x.example",
                    self.random.choice([*HOPS, *HOPS, ""]),
                    notify=self.random.choice(["", "NEVER", "SUCCESS", "FAILURE,DELAY"]),
                )
                for number in range(self.random.choice([1, 1, 1, 1, 1, 2, 2, 7, 105]))
            ]
            self.site.accept(
                *to,
                sender=self.random.choice(
                    ["alice@home.example", "alice@home.example", "", "gone@home.example"]
                ),
                lifetime=self.random.choice([600, DAY, 5 * DAY]),
                warn_after=self.random.choice([None, 4 * 3600]),
            )

    def by_hand(self) -> None:
        if not self.site.spool.rows:
            return
        (identity, number) = self.random.choice(list(self.site.spool.rows))
        what = self.random.choice(["hold", "remove", "retry", "bounce"])
        if what == "bounce":
            self.site.spool.by_hand(Change(identity, give_up=True))
            return
        state = {"hold": State.HELD, "remove": State.REMOVED, "retry": State.WAITING}[what]
        row = self.site.spool.rows[identity, number]
        if what == "retry" and row.state is State.ACTIVE:
            return  # as mailctl: what is being sent needs no retry
        self.site.spool.by_hand(Change(identity, (Verdict(number, state, self.site.now),)))

    def crash(self) -> None:
        for _ in range(self.random.randrange(300)):
            self.site.world.reactor._clock.step()
        for key in set(self.site.sent()):
            if self.site.spool.rows[key].state is not State.DELIVERED:
                self.window[key] += 1
        self.crashes += 1
        self.site.crash()

    def disk(self) -> None:
        door = self.site.door
        if self.random.random() < 0.3:
            door.failing = OSError(28, "No space left on device")
        else:
            door.failing = None
        self.site.spool.fail = OSError(5, "I/O") if self.random.random() < 0.1 else None

    def restart(self) -> None:
        if self.site.door.failing is None and self.site.spool.fail is None:
            self.site.stop()
            for key in set(self.site.sent()):
                if self.site.spool.rows[key].state is not State.DELIVERED:
                    self.window[key] += 1  # cut off in the midst
            self.site.manager = self.site.new_manager()
            self.site.manager.start()

    def live(self, *, crashes: bool) -> None:
        self.site.door.nobody.add("gone@home.example")
        events = [self.host, self.mail, self.mail, self.by_hand, self.disk]
        if crashes:
            events += [self.crash, self.restart]
        for _ in range(self.random.randrange(5, 40)):
            self.random.choice(events)()
            self.site.run(self.random.choice([0, 0.01, 1, 30, 600, 7200]))
        # Then everything heals, and there is time.
        self.site.door.failing = self.site.spool.fail = None
        for hop in HOPS:
            self.site.host(hop)
        for key, row in self.site.spool.rows.items():
            if row.state is State.HELD:
                self.site.spool.by_hand(
                    Change(key[0], (Verdict(key[1], State.WAITING, self.site.now),))
                )
        end = self.site.now + 6 * DAY
        while not self.site.done():
            assert self.site.now < end, "not over after six days"
            self.site.run(1800)
        self.site.run(300)

    def check(self) -> None:
        site = self.site
        sent = Counter(site.sent())
        for key, row in site.spool.rows.items():
            if row.state is State.DELIVERED and row.hop:
                assert sent[key] >= 1, f"{key} was never sent"
            assert sent[key] <= 1 + self.window[key], f"{key} was sent {sent[key]} times"
        bounced: Counter[tuple[str, int]] = Counter()
        warned: Counter[str] = Counter()
        for _, _, changes in site.door.notices:
            for change in changes:
                warned[change.message] += change.warned
                bounced.update(
                    (change.message, one.number)
                    for one in change.verdicts
                    if one.state is State.BOUNCED
                )
        assert max(warned.values(), default=0) <= 1
        assert max(bounced.values(), default=0) <= 1
        for key, row in site.spool.rows.items():
            notify = row.message.recipients[key[1]].notify
            told = row.message.sender == "alice@home.example" and notify in ("", "FAILURE,DELAY")
            if row.state is State.BOUNCED and told:
                assert bounced[key] == 1, f"nobody was told of {key}"
        manager = site.manager
        assert manager._taking.active == set()
        assert manager.window.total == 0
        assert manager.window.of == [0, 0, 0]
        assert manager.committer.left == 0
        assert site.carrier.open_now == 0
        assert not manager.dispatcher.connections.all
        assert manager.dispatcher.connections.busy == manager.dispatcher.connections.slow == 0
        for destination in manager.destinations.values():
            assert (destination.running, destination.opening, destination.held) == (0, 0, 0)


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_every_message_ends_delivered_bounced_or_removed_and_is_sent_once(seed: int) -> None:
    life = Life(seed)
    life.live(crashes=False)
    life.check()
    assert not life.window


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_a_crash_anywhere_sends_again_only_what_was_not_yet_committed(seed: int) -> None:
    life = Life(seed)
    life.live(crashes=True)
    life.check()
