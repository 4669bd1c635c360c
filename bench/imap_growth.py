"""How SELECT and FETCH (UID FLAGS) grow with the mailbox: 10^3 to 10^6 messages, each server, a plot.

The Maildirs lie in memory (tmpfs): a million names, linked to some small files. What is slow about many files on a disk
is not what this is about.
"""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from harness import PASSWORD
from imap_client import Client
from imap_mail import maildir, small
from imap_peer import ImapPeer
from measure import memory, pause
from rounds import Watch, ready, running
from table import Row

__all__ = ["plot", "rounds"]

_MEMORY = Path("/dev/shm")
_TIMES = 7
_SETTLED = 4.0
_LINES = {"SELECT": "#1f6feb", "FETCH": "#d1242f"}


def rounds(largest: int, names: Sequence[str], rows: list[Row]) -> bool:
    """All sizes into `rows`, from 1000 in steps of ten; True when a peer failed."""
    failed = False
    sizes = [10**n for n in range(3, 8) if 10**n <= largest]
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=_MEMORY))
    directory.chmod(0o755)
    try:
        users = [f"n{size}" for size in sizes]
        mail = small(directory / "mail", 100)
        for one in ready(names, users, directory):
            assert isinstance(one, ImapPeer)
            place = directory / one.name
            place.mkdir()
            for size in sizes:
                maildir(one.maildir(place, f"n{size}"), mail, size)
            try:
                with running(one, place):
                    for size in sizes:
                        for row in _measured(one, place, size):
                            rows.append(row)
                            print(row.brief(), file=sys.stderr, flush=True)
            except (RuntimeError, OSError) as error:
                print(f"{one.name}: failed: {error}", flush=True)
                failed = True
            # a million names are some hundred MB of memory
            shutil.rmtree(place, ignore_errors=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return failed


def _measured(one: ImapPeer, place: Path, size: int) -> list[Row]:
    rows = []
    with Client(one.imap, room=max(65_536, size * 64)) as client:
        client.login(one.login(f"n{size}"), PASSWORD)

        def select() -> float:
            taken, answer = client.timed("SELECT INBOX")
            if b"* %d EXISTS" % size not in answer:
                raise RuntimeError(f"SELECT: {answer[-300:]!r}")
            client.command("UNSELECT")
            return taken

        def fetch() -> float:
            taken, answer = client.timed("FETCH 1:* (UID FLAGS)")
            if answer.count(b" FETCH (") != size:
                raise RuntimeError("FETCH: not all")
            return taken

        for name, work, times in (
            ("taken over", select, 1),
            ("SELECT", select, _TIMES),
            ("FETCH", fetch, _TIMES),
        ):
            if work is fetch:
                client.command("SELECT INBOX")
            with Watch(one, place) as watch:
                own = time.process_time()
                taken = median(work() for _ in range(times))
                watch.not_others += time.process_time() - own
            values = {"ms": taken * 1000, "cpu": watch.cpu * 1000 / times}
            values["memory"] = memory(one.roots)
            rows.append(Row(one.name, f"{name} of {size}", values, watch.noise()))
            if name == "taken over":
                pause(_SETTLED)
    return rows


def plot(rows: Sequence[Row]) -> str:
    """An SVG: milliseconds over messages, both logarithmic; ours in full lines, the others dashed."""
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        name, _, size = row.case.partition(" of ")
        if name in _LINES and row.values["ms"] > 0:
            at = (math.log10(int(size)), math.log10(row.values["ms"]))
            points.setdefault((row.peer, name), []).append(at)
    if not points:
        return ""
    every = [point for line in points.values() for point in line]
    low_x, high_x = min(x for x, _ in every), max(x for x, _ in every)
    low_y, high_y = (f(y for _, y in every) for f in (min, max))
    low_y, high_y = math.floor(low_y), math.ceil(high_y)

    def place(x: float, y: float) -> tuple[float, float]:
        across = 60 + 480 * (x - low_x) / ((high_x - low_x) or 1)
        return across, 330 - 300 * (y - low_y) / ((high_y - low_y) or 1)

    out = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 370" font-family="sans-serif" font-size="12">',
        '<rect width="720" height="370" fill="white"/>',
    ]
    for y in range(low_y, high_y + 1):
        _, down = place(low_x, y)
        out.append(f'<path d="M60 {down:.0f}H540" stroke="#ddd"/>')
        out.append(f'<text x="54" y="{down + 4:.0f}" text-anchor="end">{10.0**y:g} ms</text>')
    for x in range(round(low_x), round(high_x) + 1):
        across, _ = place(x, low_y)
        out.append(f'<text x="{across:.0f}" y="350" text-anchor="middle">{10**x:,}</text>')
    below = 0.0
    for (peer, name), line in sorted(points.items(), key=lambda item: -max(item[1])[1]):
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in (place(*point) for point in sorted(line)))
        dashes = "" if peer.startswith("ours") else ' stroke-dasharray="6 4"'
        out.append(f'<path d="M{path}" fill="none" stroke="{_LINES[name]}"{dashes}/>')
        a, b = place(*max(line))
        # lines that end together are named one below the other
        below = b = max(b, below + 14)
        out.append(f'<text x="{a + 6:.0f}" y="{b + 4:.0f}">{name}, {peer.partition("-")[0]}</text>')
    return "\n".join([*out, "</svg>", ""])
