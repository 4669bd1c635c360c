"""What goes wrong in a `storm.Storm`: its disk, its lines, its names, its clock, its process and its power.

Each is a happening: a function of the storm. `WEATHER` has them all, with how often they come.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from . import storm_people as people

if TYPE_CHECKING:
    from .storm import Storm

__all__ = ["WEATHER", "heal"]

DAY: Final = 86_400.0


def fault(storm: Storm) -> None:
    """The disk fails at some operation from now, once or until it is healed."""
    number = storm.random.choice((errno.EIO, errno.ENOSPC, errno.EMFILE))
    after = storm.random.randrange(40)
    lasting = storm.random.random() < 0.5
    storm.say(f"{errno.errorcode[number]} after {after}{', lasting' if lasting else ''}")
    storm.disk.fail(after, number, lasting=lasting)


def network(storm: Storm) -> None:
    """The line to the other site, which also writes to us."""
    host = storm.root.network.host(storm.there)
    name, value = storm.random.choice(
        [
            ("silent", True),
            ("refuses", True),
            ("mute", True),
            ("latency", 3 * storm.random.random()),
            ("bytes_per_second", 10 ** storm.random.uniform(1, 4)),
            ("cut_after", storm.random.randrange(3000)),
        ]
    )
    storm.say(f"{name} {value}")
    setattr(host, name, value)


def lines(storm: Storm) -> None:
    """The lines of some users; each is another one's, so what they send comes in another order."""
    for address in storm.random.sample(storm.addresses, 3):
        host = storm.root.network.host(address)
        name, value = storm.random.choice(
            [
                ("latency", storm.random.random()),
                ("latency", storm.random.random()),
                ("bytes_per_second", 10 ** storm.random.uniform(2, 5)),
                ("cut_after", storm.random.randrange(100_000)),
                ("silent", True),
            ]
        )
        storm.say(f"{address} {name} {value}")
        setattr(host, name, value)


def reset(storm: Storm) -> None:
    """Every connection to the other site is lost now, and those of a user."""
    for address in (storm.there, storm.random.choice(storm.addresses)):
        storm.root.network.host(address).cut()


def names(storm: Storm) -> None:
    """The resolver fails, says nothing in time, or lies."""
    kind = storm.random.choice(("failing", "silent", "lying"))
    if kind != "lying":
        question = storm.random.choice(("MX", "A"))
        storm.say(f"{question} {kind}")
        ill = storm.zone.failing if kind == "failing" else storm.zone.silent
        ill |= {f"{question} {one}" for one in storm.zone}
        return
    # There: somebody else; nobody; ourselves. Or there is no such name.
    lie = storm.random.choice((storm.liar, "192.0.2.99", storm.here, ""))
    storm.say(f"lying: {lie or 'no such name'}")
    exchange = f"mx.{storm.away}"
    if lie:
        storm.zone[exchange] = {"A": [lie]}
    else:
        storm.zone.pop(storm.random.choice(list(storm.zone)), None)


def heal(storm: Storm) -> None:
    """Everything is well again, but the clock."""
    storm.disk.heal()
    for address in (storm.there, *storm.addresses):
        storm.root.network.host(address).heal()
    storm.zone.failing.clear()
    storm.zone.silent.clear()
    storm.zone.update(storm.names())


def wait(storm: Storm) -> None:
    """Time passes, and everything happens when it is due."""
    seconds = storm.random.choice((3600.0, 3600.0, DAY, 3 * DAY)) * storm.random.random()
    storm.say(f"{seconds:.0f} s")
    storm.pass_(seconds)


def set_clock(storm: Storm) -> None:
    """Somebody sets the clock, forward or back; nothing happens meanwhile."""
    most = storm.random.choice((1.0, 3600.0, 2 * DAY))
    seconds = most * storm.random.random()
    if storm.random.random() < 0.5:
        # Not to before there were certificates.
        seconds = -min(seconds, storm.root.now() - storm.begun)
    storm.say(f"by {seconds:.1f} s")
    storm.jump(seconds)


def restart(storm: Storm) -> None:
    storm.stop()
    storm.pass_(storm.random.random() * 60)
    storm.start()


def kill(storm: Storm) -> None:
    storm.die()
    storm.start()


def cut(storm: Storm) -> None:
    """The power goes, now or in the middle of something."""
    if storm.random.random() < 0.3:
        storm.power_cut()
        return
    after = storm.random.randrange(60)
    storm.say(f"after {after} operations")
    storm.disk.cut_after(after)
    doing = (people.receive, people.submit, people.change, people.crowd, people.append)
    for _ in range(4):
        try:
            storm.random.choice(doing)(storm)
        except ConnectionRefusedError:
            # The second of several who come: nobody is there any more.
            if storm.disk.alive:
                raise
        if not storm.disk.alive:
            break
    storm.power_cut()


WEATHER: Final[Sequence[tuple[Callable[[Storm], None], int]]] = (
    (fault, 5),
    (network, 3),
    (lines, 3),
    (reset, 2),
    (names, 3),
    (heal, 7),
    (wait, 3),
    (set_clock, 2),
    (restart, 2),
    (kill, 3),
    (cut, 5),
)
