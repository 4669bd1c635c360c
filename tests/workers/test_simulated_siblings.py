"""The simulated processes of one site do what the real ones promise."""

from twisted_mail.siblings import News
from twisted_mail.testing import simulated_world
from twisted_mail.testing.siblings import SharedSite


def test_news_and_counts_are_shared() -> None:
    site = SharedSite()
    first = simulated_world()
    one, two, three = (
        site.join(first),
        site.join(first.at("192.0.2.1")),
        site.join(first.at("192.0.2.1")),
    )
    heard: list[tuple[int, News]] = []
    for number, world in enumerate((one, two, three)):
        world.siblings.hear("sums", lambda news, number=number: heard.append((number, news)))
    two.siblings.tell("sums", [1, "x"])
    assert not heard
    first.reactor.advance(0)
    assert heard == [(0, [1, "x"]), (2, [1, "x"])]
    counts = [world.siblings.counts("seats") for world in (one, two, three)]
    assert [each.take("ada", 2) for each in counts] == [True, True, False]
    site.leave(two)
    assert counts[0].count("ada") == 1
    assert counts[2].take("ada", 2)
    two.kill()
    one.siblings.tell("sums", [2])
    first.reactor.advance(0)
    assert heard[2:] == [(2, [2])]
