"""What is worth a report, counted while mail comes and goes: `DmarcCounts` of mail from others, `TlsCounts` of ours.

Both tell a `Counter`, which gathers in memory and writes every few seconds in a pool thread. Mail never waits for it,
and never fails by it. Bounded: `PENDING` rows in memory; what comes on top before they are written is not counted.

A report that came to us is not counted: its sender would get a report about it, and we one about that, for ever. Only
what passes DMARC is taken for one, so that nobody hides behind its Subject.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure as Trouble

from ..message.headers import fields
from ..policy.decide import Decision
from ..policy.verdicts import Verdicts
from ..storage.report_counts import Key, ReportCounts
from ..world import World
from .aggregate import of_message, to_text

__all__ = ["DAY", "SPREAD", "Counter", "DmarcCounts", "TlsCounts", "is_report"]

_log = Logger()
DAY: Final = 86_400
SECONDS: Final = 15.0
"""What is counted is written so often."""
PENDING: Final = 20_000
AFTER: Final = 900.0
"""Seconds after midnight UTC, at the earliest, when reports are sent: clocks differ."""
SPREAD: Final = 4 * 3600.0
"""RFC 8460 section 4.1: "a random delay of up to four hours"; for both kinds."""

# RFC 9990 section 3.5.3, RFC 8460 section 5.3
_SUBJECT: Final = re.compile(
    rb"[ \t\r\n]*Report[ \t\r\n]+Domain:[ \t\r\n]*\S+[ \t\r\n]+Submitter:", re.IGNORECASE
)


class Counter:
    """Counts by report. `start` before anything is counted, `stop` writes what is left; `file` is the caller's."""

    def __init__(self, world: World, file: ReportCounts) -> None:
        self._world = world
        self._file = file
        self._pending: dict[Key, tuple[str, float, dict[str, int]]] = {}
        self._rows = 0
        self._lost = 0
        self._timer: Any = None
        self._writing: Deferred[None] | None = None
        self._over = False

    def count(self, kind: str, subject: str, head: str, *rows: str) -> None:
        """One more of each of `rows` in today's report about `subject`. Never raises, never waits."""
        now = self._world.now()
        key = Key(kind, int(now) // DAY, subject)
        found = self._pending.get(key)
        counts = found[2] if found is not None else {}
        if self._rows >= PENDING and not all(row in counts for row in rows):
            self._lost += 1
            return
        due = found[1] if found is not None else self._due(key.day)
        for row in rows:
            self._rows += row not in counts
            counts[row] = counts.get(row, 0) + 1
        self._pending[key] = (head, due, counts)
        if self._timer is None and not self._over:
            self._timer = self._world.reactor.callLater(SECONDS, self._begin)

    async def flush(self) -> None:
        """Write what was counted up to now. Never raises."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        while self._writing is not None:
            await self._waited(self._writing)
        if self._pending:
            self._begin()
            if self._writing is not None:
                await self._waited(self._writing)

    async def stop(self) -> None:
        """Write the last of it."""
        self._over = True
        await self.flush()

    def _due(self, day: int) -> float:
        part = int.from_bytes(self._world.entropy(4), "big") / 2**32
        return (day + 1) * DAY + AFTER + part * SPREAD

    def _begin(self) -> None:
        self._timer = None
        if self._writing is not None:
            self._timer = self._world.reactor.callLater(SECONDS, self._begin)
            return
        pending, self._pending, self._rows = self._pending, {}, 0
        if self._lost:
            _log.warn("{lost} messages are in no report: there were too many", lost=self._lost)
            self._lost = 0
        today = int(self._world.now()) // DAY
        self._writing = writing = self._world.threads.call(self._add, pending, today)
        writing.addErrback(_not_counted).addBoth(self._written)

    def _add(self, pending: Mapping[Key, tuple[str, float, dict[str, int]]], today: int) -> None:
        try:
            self._file.add(pending, today=today)
        except (sqlite3.Error, OSError):
            pass  # CacheFile has told it

    def _written(self, _: object) -> None:
        self._writing = None

    @staticmethod
    async def _waited(writing: Deferred[None]) -> None:
        over: Deferred[None] = Deferred()
        writing.addBoth(lambda _: over.callback(None))
        await over


class DmarcCounts:
    """`delivery.parts.DmarcTeller`. `discovery`: how organizations are found, ``tree`` or ``list``."""

    def __init__(self, counter: Counter, discovery: str) -> None:
        self._counter = counter
        self._discovery = "treewalk" if discovery == "tree" else "psl"

    def judged(self, ip: str, verdicts: Verdicts, decision: Decision, header: bytes) -> None:
        """A message came from `ip`. `header`: as it came."""
        dmarc = verdicts.dmarc
        if dmarc is None or dmarc.result not in ("pass", "fail") or not dmarc.aggregate:
            return
        # It comes again.
        if decision.action == "defer":
            return
        if dmarc.result == "pass" and is_report(header):
            return
        record = of_message(
            ip, verdicts.mail, verdicts.dkim, dmarc, decision.disposition, decision.override
        )
        head = json.dumps({"record": dmarc.record, "discovery": self._discovery})
        self._counter.count("dmarc", dmarc.found, head, to_text(record))


class Failure(Protocol):
    """`remote.tls_results.Failure`."""

    @property
    def result(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def address(self) -> str: ...


class TlsCounts:
    """`remote.tls_results.TlsResults`. Rows: ``["s", kind]``, ``["f", kind, result, host, address]``, and what the
    policy was: ``["p", kind, line, …]``.
    """

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def success(self, domain: str, kind: str, policy: Sequence[str] = ()) -> None:
        self._count(domain, kind, policy, ["s", kind])

    def failure(self, domain: str, kind: str, failure: Failure, policy: Sequence[str] = ()) -> None:
        row = ["f", kind, failure.result, failure.host, failure.address]
        self._count(domain, kind, policy, row)

    def _count(self, domain: str, kind: str, policy: Sequence[str], row: list[str]) -> None:
        if domain[:1] == "[":
            return  # RFC 8460 is about domains
        rows = [row]
        if policy:
            rows.append(["p", kind, *policy])
        self._counter.count("tls", domain, "", *(json.dumps(one) for one in rows))


def is_report(header: bytes) -> bool:
    """Whether a header block is that of a report: by its Subject, which RFC 9990 and RFC 8460 prescribe."""
    for name, start, end in fields(header):
        if name == b"subject":
            return _SUBJECT.match(header[start:end].partition(b":")[2]) is not None
    return False


def _not_counted(trouble: Trouble) -> None:
    _log.failure("what reports are made of cannot be written", trouble)
