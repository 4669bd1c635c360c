"""Days in the life of two sites, at random from a seed: mail both ways, outages of every kind, stops and crashes.

At every moment a message that was accepted is delivered, bounced or queued; in the end none is queued.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

import pytest
from simulated_sites import ALICE, BOB, ONE, TWO, Site, Sites
from twisted.logger import LogEvent, globalLogPublisher

NOBODIES = ("nobody@one.example", "nobody@two.example", "nobody@nowhere.example")


SEEDS = 4
HAPPENINGS = 80


@dataclass
class Letter:
    """What was written, and the `id` in the 250, "" when there was none."""

    site: Site
    recipients: list[str]
    subject: str
    id: str = ""


class Story:
    """One run. `happenings` is what was done, for whom a run fails."""

    def __init__(self, sites: Sites, seed: int) -> None:
        self.sites = sites
        self.both = (sites.one, sites.two)
        self.letters: list[Letter] = []
        self.happenings: list[str] = []
        self._random = Random(seed)

    def go_on(self) -> None:
        """Something happens, and some time passes."""
        random = self._random
        happening = random.choices(
            (self.write, self.crash, self.crash_while_writing, self.pause, self.fault, self.heal),
            (12, 2, 2, 2, 5, 3),
        )[0]
        happening()
        seconds = random.choice((0.0, 0.01, 1, 30, 400, 4000)) * random.random()
        self.happenings.append(f"{seconds:.3f} s")
        self.sites.advance(seconds)

    def write(self) -> None:
        site = self._random.choice(self.both)
        letter = self._letter(site)
        letter.id = _id_in(site.submit(*letter.recipients, subject=letter.subject))
        assert letter.id

    def crash(self) -> None:
        site = self._random.choice(self.both)
        self.happenings.append(f"kill {site.domain}")
        site.kill()
        self.sites.advance(self._random.choice((0, 1, 2000)))
        site.start()

    def crash_while_writing(self) -> None:
        site, victim = self._random.choice(self.both), self._random.choice(self.both)
        letter = self._letter(site)
        client = site.begin(*letter.recipients, subject=letter.subject)
        turns = self._random.randrange(60)
        self.happenings.append(f"kill {victim.domain} after {turns} turns")
        for _ in range(turns):
            self.sites.world.reactor.step(10)
        victim.kill()
        self.sites.advance(0.1)
        letter.id = _id_in(client.read())
        victim.start()

    def pause(self) -> None:
        site = self._random.choice(self.both)
        self.happenings.append(f"stop {site.domain}")
        site.stop()
        self.sites.advance(self._random.random() * 20000)
        site.start()

    def fault(self) -> None:
        random = self._random
        host = self.sites.world.network.host(random.choice((ONE, TWO)))
        name, value = random.choice(
            (
                ("silent", True),
                ("refuses", True),
                ("mute", True),
                ("latency", 3 * random.random()),
                ("bytes_per_second", 10 ** random.uniform(1, 4)),
                ("cut_after", random.randrange(5000)),
                ("cut", None),
                ("failing", random.choice(("MX", "A"))),
            )
        )
        self.happenings.append(f"{name} {value}")
        if name == "cut":
            host.cut()
        elif name == "failing":
            self.sites.zone.failing |= {f"{value} {one}" for one in self.sites.zone}
        else:
            setattr(host, name, value)

    def heal(self) -> None:
        self.happenings.append("heal")
        self.sites.zone.failing.clear()
        for address in (ONE, TWO):
            self.sites.world.network.host(address).heal()

    def _letter(self, site: Site) -> Letter:
        known = self._random.sample((ALICE, BOB), self._random.randint(0, 2))
        # A recipient here that nobody has is refused at once: that is not this story.
        foreign = [one for one in NOBODIES if not one.endswith(site.domain)]
        unknown = self._random.sample(foreign, self._random.randint(0 if known else 1, 1))
        letter = Letter(site, known + unknown, f"letter {len(self.letters)}.")
        self.letters.append(letter)
        self.happenings.append(f"{letter.subject}: {site.user} to {letter.recipients}")
        return letter

    def check(self, *, all_over: bool) -> None:
        """Every accepted letter is delivered, bounced or, unless `all_over`, queued."""
        inboxes = {site.user: site.subjects() for site in self.both}
        queued = {(one.id, one.recipient) for site in self.both for one in site.waiting()}
        assert not (all_over and queued)
        for letter in self.letters:
            if not letter.id:
                continue
            bounces = inboxes[letter.site.user].count(f"Undelivered mail: {letter.subject}")
            for recipient in letter.recipients:
                waits = (letter.id, recipient) in queued
                if recipient in NOBODIES:
                    assert waits + bounces == 1, (letter, recipient)
                else:
                    assert waits or letter.subject in inboxes[recipient], (letter, recipient)
            if not set(letter.recipients) & set(NOBODIES):
                assert not bounces, letter

    def doubles(self) -> int:
        """How many copies too many there are."""
        inboxes = [site.subjects() for site in self.both]
        copies = [inbox.count(one.subject) for inbox in inboxes for one in self.letters]
        return sum(count - 1 for count in copies if count > 1)


def _id_in(reply: bytes) -> str:
    match = re.search(rb"^250 2\.0\.0 .* (\w+)\r?$", reply, re.MULTILINE)
    return match[1].decode() if match else ""


@pytest.fixture(autouse=True)
def _nothing_fails_inside():
    """An outage is for the queue to bear; no code of ours fails by it."""
    failures: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_failure") is not None:
            failures.append(event)

    globalLogPublisher.addObserver(observe)
    yield
    globalLogPublisher.removeObserver(observe)
    assert not failures


@pytest.mark.parametrize("seed", range(SEEDS))
def test_days_of_two_sites(tmp_path, seed):
    sites = Sites(tmp_path, seed=seed)
    story = Story(sites, seed)
    try:
        for _ in range(HAPPENINGS):
            story.go_on()
            story.check(all_over=False)
        story.heal()
        # Retries are at most four hours apart, plus jitter; what is open in between may take as long once more.
        sites.until_all_is_sent(within=9 * 3600)
        story.check(all_over=True)
        assert story.doubles() <= len(story.letters) // 4
    except BaseException:
        print(*story.happenings, sep="\n")
        raise
    sites.stop()


def test_the_same_seed_is_the_same_story(tmp_path):
    def tell(directory):
        sites = Sites(directory, seed=7)
        story = Story(sites, 7)
        for _ in range(12):
            story.go_on()
        told = story.happenings, [one.id for one in story.letters], sites.world.now()
        boxes = [site.server.messages(site.user) for site in story.both]
        sites.stop()
        return told, boxes

    assert tell(tmp_path / "first") == tell(tmp_path / "second")
