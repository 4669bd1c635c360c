"""The POP3 suite: mailboxes that each server fills itself over SMTP, opened cold and warm, and read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import pop3
import sessions
from harness import PASSWORD, Peer
from measure import memory
from rounds import Job, Watch, opened, ready, repeated, run_load, running
from table import Row

__all__ = ["PEERS", "rounds"]

PEERS = ("postfix-dovecot", "ours")
_LARGE = 10 * 1024 * 1024
_RETRIEVALS = 5


def rounds(
    turns: Iterable[int],
    mailbox: int,
    times: int,
    names: Sequence[str],
    directory: Path,
    rows: list[Row],
) -> bool:
    """All rounds of the reading cases into `rows`; True when a peer failed. The mailboxes, of `mailbox` messages and of
    one large one, are filled once; a warm session is done so many `times` a round.
    """
    place = opened(directory / "pop3")
    peers = ready([name for name in PEERS if name in names], ["reader0", "large0"], place)
    jobs = [Job(one, partial(_round, one, place / one.name, mailbox, times)) for one in peers]
    return repeated(turns, jobs, rows)


def _round(one: Peer, place: Path, mailbox: int, times: int, turn: int) -> Iterator[Row]:
    if turn == 0:
        _fill(one, place, mailbox)
    # a new process, so that the first session is the first
    with running(one, place):
        yield from _read(one, mailbox, times, place)


def _fill(one: Peer, place: Path, mailbox: int) -> None:
    with running(one, place):
        count = ["--count", str(mailbox), "--seconds", "120"]
        run_load(one, place, ["--user", "reader", "--users", "1", *count])
        size = ["--count", "1", "--size", str(_LARGE), "--sessions", "1"]
        run_load(one, place, ["--user", "large", "--users", "1", *size])
        sessions.settled(one, place)
    if one.arrived(place) != mailbox + 1:
        raise RuntimeError(f"{one.arrived(place)} of {mailbox + 1} messages are in the mailboxes")


def _read(one: Peer, mailbox: int, sessions_: int, place: Path) -> Iterator[Row]:
    """The reading cases on one peer that has just been started."""
    many = f"login, STAT, UIDL, QUIT on {mailbox}"
    reader, big = one.login("reader0"), one.login("large0")
    for name, times in ((f"{many}, first after start", 1), (f"{many}, warm", sessions_)):
        yield _timed(one, name, place, times, lambda: pop3.session(one.pop3, reader, PASSWORD)[0])
    for name, port, tls in (("clear", one.pop3, False), ("TLS", one.pop3s, True)):

        def large(port: int = port, tls: bool = tls) -> float:
            seconds, octets = pop3.large(port, big, PASSWORD, tls=tls)
            if octets < _LARGE:
                raise RuntimeError(f"RETR gave {octets} octets of {_LARGE}")
            return seconds * 1e6 / octets

        # the first shows what a later one can not: a login that has to be computed
        large()
        yield _timed(one, f"RETR of 10 MiB, {name}", place, _RETRIEVALS, large, rate="MB/s")

    def small() -> float:
        seconds, count = pop3.small(one.pop3, reader, PASSWORD)
        return seconds / count

    yield _timed(one, "RETR of 4 KiB, pipelined", place, _RETRIEVALS, small, rate="1/s")


def _timed(
    one: Peer,
    name: str,
    place: Path,
    times: int,
    work: Callable[[], float],
    rate: str | None = None,
) -> Row:
    """The median of `work`, which returns seconds a unit, as milliseconds or (with `rate`) as its
    inverse.
    """
    with Watch(one, place) as watch:
        own = time.process_time()
        seconds = median(work() for _ in range(times))
        watch.not_others += time.process_time() - own
    values = {"memory": memory(one.roots), "cpu": watch.cpu * 1000 / times}
    values[rate or "ms"] = 1 / seconds if rate else seconds * 1000
    return Row(one.name, name, values, watch.noise())
