"""``mailctl status``: whether the server runs, its processes and what they do, the journal and the queue."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .output import counted, octets_text, show
from .queue import opened_queue
from .site import Refusal, SiteFiles, pass_site

if TYPE_CHECKING:
    from ..processes import ProcessReport

__all__ = ["status"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_site
def status(site: SiteFiles, as_json: bool) -> None:
    """Show whether the server runs and since when, a line for each of its processes, and what waits.

    Rates (/s) are of the last minute, the lag is the longest time in it that the process answered nobody. Exit code 1
    when the server does not run.
    """
    from twisted.python.runtime import seconds

    from ..disk import OsDisk
    from ..processes import read_reports
    from .queue_text import iso_time

    config = site.config
    with opened_queue(site) as view:
        try:
            reports = read_reports(OsDisk(), str(config.data))
        except OSError as error:
            raise Refusal(str(error)) from None
        stats = None if view is None else view.stats()
    now = float(seconds())
    main = next((one for one in reports if one.role in ("main", "server")), None)
    journal = _octets_in(config.data / "journal")
    messages = 0 if stats is None else stats.messages
    octets = 0 if stats is None else stats.octets
    if as_json:
        value = {
            "hostname": config.hostname,
            "up": main is not None,
            "since": None if main is None else iso_time(main.started),
            "version": None if main is None else main.version,
            "processes": [_json_of(one, now) for one in reports],
            "journal_octets": journal,
            "queue": {"messages": messages, "octets": octets},
        }
        click.echo(json.dumps(value, ensure_ascii=False, indent=2))
    else:
        click.echo(_headline(config.hostname, main, now))
        show([_row(one, now) for one in reports])
        for line in _warnings(reports, main, now):
            click.echo(line)
        waits = f"{counted(messages, 'message')} ({octets_text(octets)})"
        click.echo(f"journal {octets_text(journal)}; queue {waits}")
    if main is None:
        raise SystemExit(1)


def _headline(hostname: str, main: ProcessReport | None, now: float) -> str:
    if main is None:
        return f"{hostname} does not run"
    if not main.started:
        return f"{hostname} starts"
    from .queue_text import local_time

    since = f"{local_time(main.started)} ({_span(now - main.started)})"
    version = f", version {main.version}" if main.version else ""
    return f"{hostname} is up since {since}{version}"


def _row(one: ProcessReport, now: float) -> dict[str, Any]:
    rates = one.rates
    connections = " ".join(f"{name}:{count}" for name, count in one.connections.items())
    lag = f"{one.lag * 1000:.0f} ms"
    if _silence(one, now):
        lag = "hangs"
    return {
        "process": one.role,
        "pid": one.pid,
        "up": _span(now - one.started) if one.started else "",
        "connections": connections or "0",
        "in/s": _rate(rates.get("messages_in", 0)),
        "out/s": _rate(rates.get("delivered", 0)),
        "logins/s": _rate(rates.get("logins", 0)),
        "read/s": octets_text(round(rates.get("bytes_in", 0))),
        "written/s": octets_text(round(rates.get("bytes_out", 0))),
        "memory": octets_text(one.memory),
        "own": octets_text(one.share),
        "lag": lag,
        "restarts": one.restarts,
    }


def _json_of(one: ProcessReport, now: float) -> dict[str, Any]:
    from .queue_text import iso_time

    return {
        "role": one.role,
        "pid": one.pid,
        "started": iso_time(one.started or None),
        "written": iso_time(one.written or None),
        "silent_seconds": round(_silence(one, now), 1),
        "connections": one.connections,
        "a_second": one.rates,
        "totals": one.totals,
        "memory_octets": one.memory,
        "share_octets": one.share,
        "lag_seconds": one.lag,
        "restarts": one.restarts,
    }


def _warnings(
    reports: Sequence[ProcessReport], main: ProcessReport | None, now: float
) -> Iterator[str]:
    for one in reports:
        if silent := _silence(one, now):
            yield (
                f"{one.role} (process {one.pid}) has said nothing for {_span(silent)}:"
                " it hangs, or the machine is overloaded"
            )
    if reports and main is None:
        yield "the main process is gone; what is left serves to the end of its connections"


def _silence(one: ProcessReport, now: float) -> float:
    """Seconds for which it should have written and has not; 0 when all is well."""
    from ..processes import SILENT_SECONDS

    silent = now - one.written
    return silent if one.written and silent > SILENT_SECONDS else 0.0


def _octets_in(directory: Path) -> int:
    """In its files, and those of the directories in it; what goes meanwhile does not count."""
    octets = 0
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return 0
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                octets += _octets_in(Path(entry.path))
            else:
                octets += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return octets


def _rate(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}"


def _span(elapsed: float) -> str:
    """``40 s``, ``5 min``, ``3 h``, ``2 days``: the greatest unit of which there are two."""
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if elapsed >= 2 * length:
            return f"{elapsed // length:.0f} {unit}"
    return f"{max(elapsed, 0):.0f} s"
