"""What processes tell each other: gathered, bounded, and heard by all others once."""

from typing import Any

import pytest
from twisted.logger import globalLogPublisher

from twisted_mail.siblings import LocalCounts, News
from twisted_mail.testing import simulated_world
from twisted_mail.workers.bus import Bus, Frame


class Site:
    """Buses joined as the main process joins them: the first is its own."""

    def __init__(self, size: int, **options: Any) -> None:
        self.clock = simulated_world().reactor
        self.frames: list[tuple[float, int, Frame]] = []
        self.heard: list[tuple[int, str, list[Any]]] = []
        self.buses: list[Bus] = []
        begin = self.clock.seconds()

        def sender(own: int) -> Any:
            def send(frame: Frame) -> None:
                self.frames.append((round(self.clock.seconds() - begin, 3), own, frame))
                for number, bus in enumerate(self.buses):
                    if number != own:
                        bus.receive(frame)

            return send

        for number in range(size):
            bus = Bus(self.clock, sender(number), lambda name: LocalCounts(), **options)
            bus.hear("sums", lambda news, number=number: self._hear(number, "sums", news))
            self.buses.append(bus)

    def _hear(self, number: int, topic: str, news: News) -> None:
        self.heard.append((number, topic, list(news)))


@pytest.fixture
def log() -> Any:
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def test_the_others_hear_it_once() -> None:
    site = Site(3)
    site.buses[1].tell("sums", ["ada", 2, 0.5])
    site.clock.advance(0)
    assert site.heard == [(0, "sums", ["ada", 2, 0.5]), (2, "sums", ["ada", 2, 0.5])]
    site.clock.advance(60)
    assert len(site.heard) == 2


def test_what_comes_soon_after_is_one_frame() -> None:
    site = Site(2)
    one = site.buses[0]
    one.tell("sums", [1])
    one.tell("sums", [2])
    site.clock.advance(0.005)
    one.tell("sums", [3])
    one.tell("sums", [4])
    site.clock.advance(0.014)
    assert [(when, frame) for when, _, frame in site.frames] == [(0.0, [["sums", 1], ["sums", 2]])]
    site.clock.advance(0.002)
    one.tell("sums", [5])
    site.clock.advance(1)
    one.tell("sums", [6])
    site.clock.advance(0)
    times = [(when, len(frame)) for when, _, frame in site.frames]
    assert times == [(0.0, 2), (0.02, 2), (0.04, 1), (1.021, 1)]
    assert [news for _, _, news in site.heard] == [[1], [2], [3], [4], [5], [6]]


def test_a_clock_that_is_set_back_holds_nothing_up() -> None:
    site = Site(2)
    site.buses[0].tell("sums", [1])
    site.clock.advance(0)
    site.clock.rightNow -= 3600
    site.buses[0].tell("sums", [2])
    site.clock.advance(0)
    assert len(site.frames) == 2


def test_a_flood_loses_the_oldest_and_says_how_many(log: list[Any]) -> None:
    site = Site(2, most=10)
    for number in range(25):
        site.buses[0].tell("sums", [number])
    site.clock.advance(0)
    assert [news for _, _, news in site.heard] == [[number] for number in range(15, 25)]
    assert [event["lost"] for event in log if "lost" in event] == [15]
    for _ in range(100):
        for number in range(11):
            site.buses[0].tell("sums", [number])
        site.clock.advance(0.02)
    assert len([event for event in log if "lost" in event]) == 1
    site.clock.advance(60)
    site.buses[0].tell("sums", [1])
    site.clock.advance(1)
    assert [event["lost"] for event in log if "lost" in event] == [15, 100]


def test_a_topic_that_nobody_hears_and_one_that_two_hear() -> None:
    site = Site(2)
    twice: list[News] = []
    site.buses[1].hear("sums", twice.append)
    site.buses[0].tell("weather", ["fine"])
    site.buses[0].tell("sums", [1])
    site.clock.advance(0)
    assert site.heard == [(1, "sums", [1])]
    assert twice == [[1]]


def test_a_listener_that_fails_does_not_keep_news_from_others(log: list[Any]) -> None:
    site = Site(2)
    site.buses[1].hear("bad", lambda news: int(news[0]))
    site.buses[0].tell("bad", ["x"])
    site.buses[0].tell("sums", [1])
    site.clock.advance(0)
    assert site.heard == [(1, "sums", [1])]
    assert [event["topic"] for event in log if "log_failure" in event] == ["bad"]


def test_who_stops_sends_what_is_there_and_no_more() -> None:
    site = Site(2)
    site.buses[0].tell("sums", [1])
    site.buses[0].stop()
    assert [news for _, _, news in site.heard] == [[1]]
    site.buses[0].tell("sums", [2])
    site.clock.advance(1)
    assert len(site.frames) == 1
    assert not site.clock.getDelayedCalls()
