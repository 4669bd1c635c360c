"""The connection to a filter: what is kept unread is bounded, and all of it arrives."""

from __future__ import annotations

from typing import Any

from filtering import HOST
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from twisted_mail.filters.link import Where
from twisted_mail.testing import simulated_world

SAID = bytes(range(256)) * 20_000


class Talker(Protocol):
    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(SAID)
        transport.loseConnection()


def test_a_filter_that_talks_much_waits_until_it_is_read():
    world = simulated_world()
    factory = Factory.forProtocol(Talker)
    factory.noisy = False
    world.at(HOST).reactor.listenTCP(1, factory)
    until = world.now() + 100

    async def reading() -> bytes:
        link = await where.open(until)
        links.append(link)
        found = b""
        await deferLater(world.reactor, 10)
        kept.append(len(link._unread))
        while data := await link.read_or_end(until):
            found += data
        return found

    where = Where(world.reactor, f"tcp:{HOST}:1")
    links: list[Any] = []
    kept: list[int] = []
    assert world.run(reading()) == SAID
    assert 0 < kept[0] < 1_000_000
    assert links[0].lost
