"""Reports sent: once a day, about yesterday, to those who ask for them.

`Reporter` looks every few minutes which reports are due, makes each in a pool thread, asks where it may go (RFC 9990
section 4), and gives it to the queue, whose business it is from then on. What cannot be found out now is tried again
every hour for a day. A report is marked as sent when the queue has it; a crash in between sends it twice, with the same
Report-ID. Its mail comes from ``<>``: who cannot take it causes no mail.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar
from urllib.parse import unquote

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..dns.interfaces import DnsError, Resolver
from ..policy import dmarc_record
from ..policy.dmarc_reporting import destination, permitted
from ..policy.organization import Organizations
from ..status import MailError
from ..storage.queued import Change
from ..storage.report_counts import Due, ReportCounts
from ..world import World
from . import tls
from .aggregate import Report, from_text, published
from .aggregate_xml import write as write_xml
from .counting import AFTER, DAY, SPREAD, Counter
from .mail import Letter, compose, packed, report_id

__all__ = ["Door", "Post", "ReportSettings", "Reporter", "limits"]

T = TypeVar("T")
_log = Logger()
EVERY: Final = 300.0
RETRY: Final = 3600.0
GIVE_UP: Final = DAY + AFTER + SPREAD
"""Seconds after the day's end: every report is tried for a day."""
AT_ONCE: Final = 50
"""Reports that are made at one look."""
MAX_DESTINATIONS: Final = 5
_UNITS: Final = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_limit = re.compile(r"(.+)!([0-9]{1,12})([kmgt]?)", re.IGNORECASE).fullmatch

Post = Callable[[str, bytes], Coroutine[Any, Any, None]]
"""Gives a TLS report, compressed, to an https: URI. Raises OSError when that does not work."""


class Door(Protocol):
    """`delivery.notices.Notices`."""

    async def notify(
        self,
        changes: Sequence[Change],
        recipient: str,
        content: bytes,
        *,
        requiretls: bool = False,
        any_tls: bool = False,
    ) -> None: ...


class ReportSettings(NamedTuple):
    """`hostname`: who submits; `sender`: an address; `contact`: whom to ask, "" for the sender; `generator`: this
    program and its version.
    """

    hostname: str
    sender: str
    organization: str
    contact: str = ""
    generator: str = ""


class Reporter:
    """`start`, then `stop`. `post` None: nothing goes over https. `counter`, `file` are the caller's."""

    def __init__(
        self,
        world: World,
        file: ReportCounts,
        counter: Counter,
        door: Door,
        resolver: Resolver,
        organizations: Callable[[], Organizations],
        settings: ReportSettings,
        post: Post | None = None,
    ) -> None:
        self._world = world
        self._file = file
        self._counter = counter
        self._door = door
        self._resolver = resolver
        self._organizations = organizations
        self._settings = settings
        self._post = post
        self._timer: Any = None
        self._working: Deferred[None] | None = None
        self._asking: Deferred[Any] | None = None
        self._over = False
        self._had: dict[int, set[str]] = {}
        """Of reports that have not gone everywhere: where they went."""

    def start(self) -> None:
        """Look from now on."""
        self._timer = self._world.reactor.callLater(EVERY, self._look)

    async def stop(self) -> None:
        """Send nothing more; what was not sent is due at the next start."""
        self._over = True
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if self._asking is not None:
            # What others have to answer can take long; what is on its way into the queue comes there.
            self._asking.cancel()
        if self._working is not None:
            over: Deferred[None] = Deferred()
            self._working.addBoth(lambda _: over.callback(None))
            await over

    def _look(self) -> None:
        self._timer = None
        self._working = Deferred.fromCoroutine(self._all_due()).addErrback(_unexpected)
        self._working.addCallback(self._looked)

    def _looked(self, _: object) -> None:
        self._working = None
        if not self._over:
            self._timer = self._world.reactor.callLater(EVERY, self._look)

    async def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        asking: Deferred[T] = Deferred.fromCoroutine(question)
        self._asking = asking
        try:
            answer: T = await asking
            return answer
        finally:
            self._asking = None

    async def _all_due(self) -> None:
        await self._counter.flush()
        call = self._world.threads.call
        try:
            for due in await call(self._file.due, self._world.now(), AT_ONCE):
                if self._over:
                    return
                try:
                    done = await self._send(due)
                except (DnsError, OSError, MailError) as error:
                    done = self._is_hopeless(due)
                    _log.info(
                        "the {kind} report for {domain} {fate}: {error}",
                        kind=due.key.kind,
                        domain=due.key.subject,
                        fate="is not sent" if done else "has to wait",
                        error=str(error),
                    )
                except CancelledError:
                    raise
                except Exception:
                    # One that cannot be made must not keep the others from being sent
                    _log.failure("a report for {domain} cannot be made", domain=due.key.subject)
                    done = True
                if done:
                    self._had.pop(due.number, None)
                    await call(self._file.sent, due.number)
                else:
                    await call(self._file.put_off, due.number, self._world.now() + RETRY)
        except (sqlite3.Error, OSError):
            pass  # CacheFile has told it

    def _is_hopeless(self, due: Due) -> bool:
        return self._world.now() > (due.key.day + 1) * DAY + GIVE_UP

    async def _send(self, due: Due) -> bool:
        """Whether nothing is left to be done. Raises DnsError, OSError, MailError."""
        if due.key.kind == "dmarc":
            return await self._send_dmarc(due)
        return await self._send_tls(due)

    # DMARC

    async def _send_dmarc(self, due: Due) -> bool:
        head = json.loads(due.head)
        text = str(head["record"])
        record = dmarc_record.parse(text.encode("ascii", "replace"))
        bounds = limits(text)
        places: dict[str, int | None] = {}
        trouble: DnsError | None = None
        organizations = self._organizations()
        for uri in record.rua:
            if uri[:7].lower() != "mailto:":
                continue
            try:
                allowed = await self._ask(
                    permitted(self._resolver, organizations, due.key.subject, uri)
                )
            except DnsError as error:
                trouble = error  # the others need not wait for it
                continue
            for one in allowed:
                places.setdefault(one, bounds.get(uri))
            if not allowed:
                _log.info(
                    "no DMARC report for {domain} to {uri}: {host} does not want it",
                    domain=due.key.subject,
                    uri=uri,
                    host=destination(uri) or "nobody",
                )
        content = None
        if places:
            content = await self._world.threads.call(self._aggregate, due, head)
        if content is not None:
            await self._everywhere(due, list(places.items())[:MAX_DESTINATIONS], content)
        if trouble is not None:
            raise trouble
        return True

    def _aggregate(self, due: Due, head: dict[str, Any]) -> bytes | None:
        """In a pool thread."""
        rows = self._file.rows(due.number)
        records = tuple((from_text(text), count) for text, count in rows if text)
        if not records:
            return None
        left_out = sum(count for text, count in rows if not text)
        settings, begin = self._settings, due.key.day * DAY
        report = Report(
            settings.organization,
            settings.contact or settings.sender,
            report_id("dmarc", settings.hostname, due.key.subject, begin),
            begin,
            begin + DAY - 1,
            published(due.key.subject, str(head["record"]), str(head["discovery"])),
            records,
            "",
            (f"{left_out} messages found no place in this report",) if left_out else (),
            settings.generator,
            "1.0",
        )
        return packed(write_xml(report))

    # TLS

    async def _send_tls(self, due: Due) -> bool:
        found = await self._ask(self._resolver.txt(f"_smtp._tls.{due.key.subject}"))
        places = tls.rua_of(found.records)[:MAX_DESTINATIONS]
        if not places:
            return True
        content = await self._world.threads.call(self._about_tls, due)
        if content is None:
            return True
        await self._everywhere(due, [(uri, None) for uri in places], content)
        return True

    def _about_tls(self, due: Due) -> bytes | None:
        """In a pool thread."""
        rows = [(json.loads(text), count) for text, count in self._file.rows(due.number) if text]
        policies = _policies(due.key.subject, rows)
        if not policies:
            return None
        settings, begin = self._settings, due.key.day * DAY
        report = tls.TlsReport(
            settings.organization,
            settings.contact or settings.sender,
            report_id("tls", settings.hostname, due.key.subject, begin),
            begin,
            begin + DAY - 1,
            policies,
        )
        return packed(tls.write(report))

    # Both

    async def _everywhere(
        self, due: Due, places: Sequence[tuple[str, int | None]], content: bytes
    ) -> None:
        """To all of them, each once. Raises OSError or MailError when one has to wait, the others being done."""
        trouble: OSError | MailError | None = None
        had = self._had.setdefault(due.number, set())
        for uri, limit in places:
            if uri in had:
                continue
            try:
                if uri[:7].lower() == "mailto:":
                    await self._mail(due, uri, content, limit)
                elif self._post is not None:
                    await self._ask(self._post(uri, content))
            except (OSError, MailError) as error:
                trouble = error
            else:
                had.add(uri)
        if trouble is not None:
            raise trouble

    async def _mail(self, due: Due, uri: str, content: bytes, limit: int | None) -> None:
        to = unquote(uri[7:].partition("?")[0])
        settings, begin = self._settings, due.key.day * DAY
        letter = compose(
            Letter(
                due.key.kind,
                settings.hostname,
                due.key.subject,
                begin,
                begin + DAY - 1,
                settings.organization,
                settings.sender,
                to,
                self._world.now(),
                content,
            )
        )
        # RFC 9990 section 3.5: "after compression and after any encoding"
        if limit is not None and len(letter) > limit:
            _log.info(
                "no DMARC report for {domain} to {to}: it has {size} octets, and {limit} are wanted",
                domain=due.key.subject,
                to=to,
                size=len(letter),
                limit=limit,
            )
            return
        try:
            # RFC 8460 section 3: "MUST deliver reports despite any TLS-related failures"
            await self._door.notify((), to, letter, any_tls=due.key.kind == "tls")
        except MailError as error:
            if error.code < 500:
                raise
            _log.info(
                "no report for {domain} to {to}: {error}",
                domain=due.key.subject,
                to=to,
                error=str(error),
            )


def limits(record: str) -> dict[str, int]:
    """The sizes in the rua= of a DMARC record (RFC 7489 section 6.2: ``!10m``), in octets, by URI without them."""
    found: dict[str, int] = {}
    for tag in record.split(";"):
        name, _, value = tag.partition("=")
        if name.strip().lower() == "rua":
            for one in value.split(","):
                if (sized := _limit(one.strip())) is not None:
                    found[sized[1]] = int(sized[2]) * _UNITS[sized[3].lower()]
            break
    return found


def _policies(
    domain: str, rows: Sequence[tuple[list[str], int]]
) -> tuple[tls.TlsPolicyResult, ...]:
    """Of rows as `counting.TlsCounts` writes them, the most frequent first."""
    out = []
    for kind in dict.fromkeys(row[1] for row, _ in rows):
        text: tuple[str, ...] = ()
        successes = 0
        failures = []
        for row, count in rows:
            if row[1] != kind:
                continue
            if row[0] == "s":
                successes += count
            elif row[0] == "f":
                failures.append((tls.TlsFailure(row[2], row[3], row[4]), count))
            elif not text:
                text = tuple(row[2:])
        mx = tuple(line[3:].strip() for line in text if line.startswith("mx:"))
        failed = sum(count for _, count in failures)
        out.append(tls.TlsPolicyResult(kind, domain, text, mx, successes, failed, tuple(failures)))
    return tuple(out)


def _unexpected(failure: Failure) -> None:
    if not failure.check(CancelledError):
        _log.failure("reports cannot be sent", failure)
