"""SVGs of what was measured: rates as bars, and the rate over the number of sessions as lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from xml.sax.saxutils import escape

from table import OURS, Row

__all__ = ["all_of", "bars", "growth"]

_BARS = "kept connections, 20 users"
_NEW = "new connections, 20 users"
_LINES = " kept connections"
_OWN = "#1f6feb"
_OTHER = "#8b949e"
_COLOURS = ("#8b949e", "#bf8700", "#1a7f37", "#8250df", "#d1242f", "#57606a", "#0a7ea4")
_HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" font-family="sans-serif" font-size="12">'


def all_of(rows: Sequence[Row]) -> dict[str, str]:
    """Text by file name, for each plot whose suite was measured."""
    found = {"bench-smtp.svg": bars(rows), "bench-sessions.svg": growth(rows)}
    return {name: text for name, text in found.items() if text}


def bars(rows: Sequence[Row]) -> str:
    """Messages a second of each peer, on new and on kept connections; empty when none was measured."""
    cases = (_NEW, _BARS)
    rates = {
        (row.peer, row.case): _median(rows, row.peer, row.case)
        for row in rows
        if row.case in cases and "rate" in row.values
    }
    # the sink is no server: what the load generator can do would make all others small
    peers = [peer for peer in dict.fromkeys(peer for peer, _ in rates) if peer != "sink"]
    if not peers:
        return ""
    peers.sort(key=lambda peer: rates.get((peer, _BARS), 0.0))
    largest = max(rate for (peer, _), rate in rates.items() if peer != "sink") or 1.0
    height = 46 * len(peers) + 40
    out = [_HEAD.format(720, height), f'<rect width="720" height="{height}" fill="white"/>']
    out.append(
        '<text x="150" y="18">messages/s to the mailbox, durable: new and kept connections</text>'
    )
    for number, peer in enumerate(peers):
        top = 30 + 46 * number
        out.append(f'<text x="142" y="{top + 22}" text-anchor="end">{escape(peer)}</text>')
        colour = _OWN if peer in OURS else _OTHER
        for at, case in enumerate(cases):
            rate = rates.get((peer, case))
            if rate is None:
                continue
            width = 480 * rate / largest
            down = top + 18 * at
            opacity = "0.55" if case == _NEW else "1"
            out.append(
                f'<rect x="150" y="{down}" width="{width:.1f}" height="16" fill="{colour}" opacity="{opacity}"/>'
            )
            out.append(f'<text x="{156 + width:.1f}" y="{down + 13}">{rate:.0f}</text>')
    return "\n".join([*out, "</svg>", ""])


def growth(rows: Sequence[Row]) -> str:
    """Messages a second over the number of kept connections, that in powers of ten; empty when none was measured."""
    points: dict[str, dict[int, float]] = {}
    for row in rows:
        number, _, rest = row.case.partition(" ")
        if number.isdigit() and f" {rest}" == _LINES and row.peer != "sink":
            points.setdefault(row.peer, {})[int(number)] = _median(rows, row.peer, row.case)
    if not points:
        return ""
    numbers = sorted({number for line in points.values() for number in line})
    low, high = math.log10(numbers[0]), math.log10(numbers[-1])
    largest = max(rate for line in points.values() for rate in line.values()) or 1.0

    def place(number: int, rate: float) -> tuple[float, float]:
        across = 60 + 480 * (math.log10(number) - low) / ((high - low) or 1)
        return across, 330 - 300 * rate / largest

    out = [_HEAD.format(720, 370), '<rect width="720" height="370" fill="white"/>']
    for part in range(5):
        rate = largest * part / 4
        _, down = place(numbers[0], rate)
        out.append(f'<path d="M60 {down:.0f}H540" stroke="#ddd"/>')
        out.append(f'<text x="54" y="{down + 4:.0f}" text-anchor="end">{rate:.0f}</text>')
    for many in numbers:
        across, _ = place(many, 0)
        out.append(f'<text x="{across:.0f}" y="350" text-anchor="middle">{many:,}</text>')
    out.append('<text x="60" y="18">messages/s over kept connections</text>')
    below = 0.0
    ranked = sorted(points.items(), key=lambda item: -item[1][max(item[1])])
    for (peer, line), other in zip(ranked, _COLOURS * len(ranked), strict=False):
        colour = _OWN if peer in OURS else other
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in (place(*at) for at in sorted(line.items())))
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        a, b = place(*max(line.items()))
        # lines that end together are named one below the other
        below = b = max(b, below + 14)
        out.append(f'<text x="{a + 6:.0f}" y="{b + 4:.0f}" fill="{colour}">{escape(peer)}</text>')
    return "\n".join([*out, "</svg>", ""])


def _median(rows: Sequence[Row], peer: str, case: str) -> float:
    return median(row.values["rate"] for row in rows if row.peer == peer and row.case == case)
