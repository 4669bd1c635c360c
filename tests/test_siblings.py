"""Counts of one process, and listeners that go with their objects."""

import gc

from twisted_mail.siblings import Alone, Listeners, News


class Ear:
    def __init__(self, heard: list[News]) -> None:
        self.heard = heard

    def hear(self, news: News) -> None:
        self.heard.append(news)


def test_a_method_is_heard_for_as_long_as_its_object_is_there() -> None:
    listeners, plain, heard = Listeners(), list[News](), list[News]()
    ear = Ear(heard)
    listeners.add("sums", ear.hear)
    listeners.add("sums", lambda news: plain.append(news))
    for listener in listeners.of("sums"):
        listener([1])
    assert heard == plain == [[1]]
    del ear, listener
    gc.collect()
    assert len(listeners.of("sums")) == 1
    assert listeners.of("weather") == []


def test_who_is_alone_counts() -> None:
    counts = Alone().counts("seats")
    assert [counts.take("ada", 2) for _ in range(3)] == [True, True, False]
    counts.give_back("ada")
    assert counts.count("ada") == 1
    counts.give_back("ada")
    assert counts.count("ada") == 0
    assert Alone().counts("seats").count("ada") == 0
