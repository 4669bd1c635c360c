"""What is to be reached, beside what was: medians of ratios taken round by round, or of figures where no peer is.

A target whose cases were not measured is left out. Cases are found by what stays of their names, however many messages
or accounts a run had; the line says which it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from table import LESS_IS_BETTER, OURS, Row, markdown, short, unit_of

__all__ = ["Line", "judged", "reached"]

_DOVECOT, _MAILDIR, _HARAKA = "postfix-dovecot", "postfix-maildir", "haraka"
_ONE_PROCESS = "ours-1"
_MANY = 1_000_000


@dataclass(frozen=True)
class Line:
    """One target: what was found of it, and what it has to be: at `least` or at `most`."""

    what: str
    found: float
    least: float | None = None
    most: float | None = None
    unit: str = ""

    @property
    def good(self) -> bool:
        """Whether it is reached; half of the last digit that is shown does not decide."""
        if self.least is not None:
            return self.found >= self.least * 0.995
        assert self.most is not None
        return self.found <= self.most * 1.005

    def cells(self) -> list[str]:
        bound = f"≥ {short(self.least)}" if self.least is not None else f"≤ {short(self.most or 0)}"
        unit = f" {self.unit}" if self.unit else ""
        return [
            self.what,
            f"{bound}{unit}",
            f"{short(self.found)}{unit}",
            "reached" if self.good else "missed",
        ]


def reached(rows: Sequence[Row]) -> str:
    """The table of targets."""
    lines = [["target", "to reach", "here", ""]]
    lines += [line.cells() for line in judged(rows)]
    return markdown(lines)


def judged(rows: Sequence[Row]) -> list[Line]:
    """Every target that these rows say something about, in the order of the suites."""
    found = _Found(rows)
    return [line for part in _PARTS for line in part(found)]


class _Found:
    """The rows, asked for by case."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self.cases = list(dict.fromkeys(row.case for row in rows))

    def like(self, pattern: str) -> list[str]:
        """The names of cases that match as a whole."""
        return [case for case in self.cases if re.fullmatch(pattern, case)]

    def each(self, case: str, peers: Sequence[str], key: str) -> dict[int, float]:
        """The figure of each round."""
        return {
            row.turn: row.values[key]
            for row in self._rows
            if row.case == case and row.peer in peers and key in row.values
        }

    def unit(self, case: str) -> str:
        return next((unit_of(row) for row in self._rows if row.case == case), "")

    def ours(self, case: str, key: str = "") -> float | None:
        """The median of this server's figures."""
        values = self.each(case, OURS, key or self.unit(case)).values()
        return median(values) if values else None

    def ratio(self, case: str, peer: str | Sequence[str], key: str = "") -> float | None:
        """This server's figure as a multiple of the peer's in the same round: the median."""
        peers = (peer,) if isinstance(peer, str) else peer
        key = key or self.unit(case)
        mine, theirs = self.each(case, OURS, key), self.each(case, peers, key)
        ratios = [mine[turn] / theirs[turn] for turn in mine if theirs.get(turn)]
        return median(ratios) if ratios else None

    def better(self, case: str, peer: str) -> float | None:
        """The same, so that above 1 this server is better, whatever the figure is."""
        ratio = self.ratio(case, peer)
        if ratio and self.unit(case) in LESS_IS_BETTER:
            return 1 / ratio
        return ratio


_Lines = Iterator[Line]


def _small(found: _Found) -> _Lines:
    named = {_DOVECOT: "Postfix→LMTP→Dovecot", _MAILDIR: "Postfix→Maildir", _HARAKA: "Haraka"}
    for case, bounds in (
        ("kept connections, 20 users", (8, 4, 2)),
        ("new connections, 20 users", (6, 3, 2.5)),
    ):
        for peer, bound in zip(named, bounds, strict=True):
            ratio = found.ratio(case, peer)
            if ratio is not None:
                yield Line(f"small, {case}, beside {named[peer]}", ratio, least=bound)
    for case in found.like(r"of 10000 accounts by chance, .*"):
        for peer, bound in zip(named, (4, 2, 1), strict=True):
            ratio = found.ratio(case, peer)
            if ratio is not None:
                yield Line(f"small, {case}, beside {named[peer]}", ratio, least=bound)
    for case in ("kept connections, 20 users", "new connections, 20 users"):
        cpu = found.ours(case, "cpu")
        if cpu is not None:
            yield Line(f"CPU of a small message, {case}", cpu, most=0.5, unit="ms")


def _large(found: _Found) -> _Lines:
    for case in found.like("10 MiB, .*"):
        for peer, name, bound in (
            (_DOVECOT, "Postfix→LMTP→Dovecot", 1.5),
            (_MAILDIR, "Postfix→Maildir", 1.0),
        ):
            ratio = found.ratio(case, peer)
            if ratio is not None:
                yield Line(f"large, {case}, beside {name}", ratio, least=bound)


def _tls(found: _Found) -> _Lines:
    for case in found.like("TLS session, .*"):
        ratio = found.ratio(case, "bare-twisted", "ms CPU")
        if ratio is not None:
            yield Line(f"{case}: CPU beside a bare Twisted server's", ratio, most=1.15)
        sessions = found.ours(case, "offered")
        resumed = found.ours(case, "resumed")
        if case.endswith("resumed") and sessions and resumed is not None:
            share = 100 * resumed / sessions
            yield Line(f"{case}: of those that could be", share, least=95, unit="%")


def _pop3(found: _Found) -> _Lines:
    for case in found.like(r"login, STAT, UIDL, QUIT on \d+, warm"):
        ms = found.ours(case)
        if ms is not None:
            yield Line(f"POP3: {case}", ms, most=30, unit="ms")
    for case in found.like("RETR of 4 KiB, pipelined"):
        rate = found.ours(case)
        if rate is not None:
            yield Line(f"POP3: {case}", rate, least=5000, unit="1/s")
    for way, bound in (("clear", 1 / 1.5), ("TLS", 1.0)):
        ratio = found.ratio(f"RETR of 10 MiB, {way}", _DOVECOT)
        if ratio is not None:
            yield Line(f"POP3: RETR of 10 MiB, {way}, beside Dovecot", ratio, least=bound)
    for case in found.like(r"(POP3|IMAP) logins(, TLS)?, \d+ accounts"):
        ratio = found.ratio(case, "dovecot-logins")
        if ratio is not None:
            least = 2.0 if case.startswith("POP3") else 1.0
            yield Line(f"{case}, beside Dovecot's high-performance mode", ratio, least=least)


_IMAP = (
    (r"SELECT of \d+, new connection", 1 / 2),
    (r"FETCH 1:\* \(UID FLAGS\) of \d+", 1 / 0.6),
    (r"FETCH 1:\* ENVELOPE of \d+, warm", 2),
    (r"SEARCH SUBJECT in \d+, warm", 2),
    (r"SEARCH TEXT in \d+, .*", 10),
    (r"BODY\[\] of 10 MiB", 1 / 1.5),
    (r"APPEND of 4 KiB, \d+ connections", 1),
)
"""What each case is to be beside Dovecot: so many times as fast."""
_IMAP_ALONE = (
    (r"BODY\[\] of 1000 small ones", 15_000, None, "1/s"),
    (r"APPEND of 4 KiB, 8 connections", 2000, None, "1/s"),
    (r"IDLE: notice of a mail delivered", None, 10, "ms"),
    (r"memory of an IDLE session, clear", None, 30, "KiB"),
    (r"memory of an IDLE session, TLS", None, 60, "KiB"),
)
"""What each is to be by itself: at least, at most."""


def _imap(found: _Found) -> _Lines:
    for pattern, bound in _IMAP:
        for case in found.like(pattern):
            if (ratio := found.better(case, "dovecot-imap")) is not None:
                yield Line(f"IMAP: {case}, beside Dovecot", ratio, least=bound)
    for pattern, least, most, unit in _IMAP_ALONE:
        for case in found.like(pattern):
            if (value := found.ours(case)) is not None:
                yield Line(f"IMAP: {case}", value, least, most, unit)
    every = []
    beside = []
    for case in found.cases:
        if case.startswith("longest NOOP beside"):
            beside.append((found.ours(case) or 0.0, case))
        elif case.startswith(_APART) or "logins" in case:
            continue
        elif (ratio := found.better(case, "dovecot-imap")) is not None:
            every.append((ratio, case))
    for name, first in (("cases", False), ("of mailboxes never seen before, cases", True)):
        mine = [one for one in every if ("taken over" in one[1]) is first]
        if not mine:
            continue
        equal = sum(Line("", ratio, least=1.0).good for ratio, _ in mine)
        what = f"IMAP: {name} no slower than Dovecot, of {len(mine)}"
        yield Line(what, equal, least=len(mine))
        for ratio, case in sorted(mine):
            if not Line("", ratio, least=1.0).good:
                yield Line(f"IMAP: {case}, as fast as Dovecot", ratio, least=1.0)
    if beside:
        ms, case = max(beside)
        yield Line(f"no gap of the event loop: {case}", ms, most=50, unit="ms")


def _idle(found: _Found) -> _Lines:
    for case in found.like("idle connection, .*"):
        kib = found.ours(case)
        if kib is not None:
            bound = 50 if case.endswith("TLS") else 10
            yield Line(case, kib, most=bound, unit="KiB")
    mb = found.ours("base, the largest process")
    if mb is not None:
        yield Line("base of a worker", mb, most=60, unit="MB")


_APART = (
    "process,",
    "idle connection",
    "base,",
    "taken over of",
    "SELECT of 1",
    "FETCH of",
    "POP3 PASS",
    "start to",
    "delivered into",
)


def _growth(found: _Found) -> _Lines:
    sessions = {
        int(case.split()[0]): found.each(case, OURS, "rate")
        for case in found.like(r"\d+ kept connections")
    }
    if sessions and (most := sessions[max(sessions)]):
        ratios = [
            most[turn] / max(each[turn] for each in sessions.values() if turn in each)
            for turn in most
        ]
        yield Line(f"rate at {max(sessions)} sessions beside the best", median(ratios), least=0.8)
    for what in ("SELECT", "FETCH", "POP3 PASS and STAT"):
        sizes = {
            int(case.rpartition(" ")[2]): found.ours(case) for case in found.like(rf"{what} of \d+")
        }
        largest = max(sizes, default=0)
        before, now = sizes.get(largest // 10), sizes.get(largest)
        # what costs microseconds with few is a thousand times that with some more: it is about many
        if before and now and largest >= _MANY:
            yield Line(f"{what} of {largest} beside {largest // 10}", now / before, most=12)
    for pattern, what in (
        (r"start to the first 220, (\d+) accounts", "accounts"),
        (r"start to the first greeting, (\d+) messages", "messages"),
    ):
        starts = {int(case.split()[-2]): found.ours(case) for case in found.like(pattern)}
        few, many = starts.get(min(starts, default=0)), starts.get(max(starts, default=0))
        if few and many and len(starts) > 1:
            name = f"start with {max(starts)} {what} beside {min(starts)}"
            yield Line(name, many / few, most=1.2)
    # in one process, as it starts on loopback by itself
    first = found.each("start to the first 220, 10 accounts", (_ONE_PROCESS,), "ms")
    if first:
        what = "start to the first 220, one process"
        yield Line(what, median(first.values()), most=1000, unit="ms")


_PARTS: Sequence[Callable[[_Found], _Lines]] = (_small, _large, _tls, _pop3, _imap, _idle, _growth)
