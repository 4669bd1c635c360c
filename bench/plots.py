"""SVGs of what was measured, legible on a light and on a dark page: rates and CPU by peer as bars, growth as lines."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from statistics import median
from xml.sax.saxutils import escape

from table import OURS, Row, short

__all__ = ["TITLES", "all_of", "bars", "lines"]

TITLES = {
    "bench-smtp.svg": "Messages a second, by peer",
    "bench-cpu.svg": "CPU of a message, by peer",
    "bench-sessions.svg": "Messages a second over the number of sessions",
    "bench-accounts.svg": "Messages a second over the number of accounts",
    "bench-mailboxes.svg": "Opening a mailbox over its number of messages",
}
_NEW, _KEPT = "new connections, 20 users", "kept connections, 20 users"
_COLOURS = ("#bf8700", "#2da44e", "#a371f7", "#e5534b", "#1b9aaa", "#c96198", "#848d97")
_OWN = (*OURS, "ours-1")
_STYLE = """<style>
.page { fill: #ffffff } text { fill: #1f2328 } .own { fill: #1f6feb } .other { fill: #8b949e }
.grid { stroke: #d0d7de } .ownline { stroke: #1f6feb } text.ownname { fill: #1f6feb }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117 } text { fill: #e6edf3 } .own { fill: #4493f8 } .other { fill: #6e7681 }
.grid { stroke: #30363d } .ownline { stroke: #4493f8 } text.ownname { fill: #4493f8 }
}
</style>"""

Line = Mapping[float, float]


def all_of(rows: Sequence[Row]) -> dict[str, str]:
    """Text by file name, for each plot whose suite was measured."""
    found = {
        "bench-smtp.svg": bars(rows, "rate", "messages a second, to the mailbox and durable"),
        "bench-cpu.svg": bars(rows, "cpu", "milliseconds of the server's CPU a message"),
        "bench-sessions.svg": lines(
            _by_number(rows, r"(\d+) kept connections", "rate"),
            "kept connections",
            "messages a second",
        ),
        "bench-accounts.svg": lines(
            _by_number(rows, r"of (\d+) accounts by chance, next seconds", "rate"),
            "accounts",
            "messages a second",
        ),
        "bench-mailboxes.svg": lines(
            {
                f"{name}, {peer.removesuffix('-imap')}": line
                for name, pattern in (
                    ("SELECT", r"SELECT of (\d+)"),
                    ("FETCH 1:* FLAGS", r"FETCH of (\d+)"),
                    ("POP3 open", r"POP3 PASS and STAT of (\d+)"),
                )
                for peer, line in _by_number(rows, pattern, "ms").items()
            },
            "messages in the mailbox",
            "milliseconds",
            logarithmic=True,
        ),
    }
    return {name: text for name, text in found.items() if text}


def bars(rows: Sequence[Row], key: str, title: str) -> str:
    """One figure of each peer, on new and on kept connections; empty when none was measured. The sink is no server:
    what the load generator can do would make all others small.
    """
    each: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.case in (_NEW, _KEPT) and key in row.values and row.peer != "sink":
            each.setdefault((row.peer, row.case), []).append(row.values[key])
    if not each:
        return ""
    figures = {where: median(values) for where, values in each.items()}
    peers = list(dict.fromkeys(peer for peer, _ in figures))
    peers.sort(key=lambda peer: figures.get((peer, _KEPT), 0.0))
    ticks = _ticks(max(figures.values()))
    height = 46 * len(peers) + 76
    out = _page(height, title)
    for tick in ticks:
        across = 150 + 500 * tick / ticks[-1]
        out.append(f'<path class="grid" d="M{across:.0f} 44V{height - 30}"/>')
        out.append(f'<text x="{across:.0f}" y="{height - 14}" text-anchor="middle">{tick:g}</text>')
    for number, peer in enumerate(peers):
        top = 48 + 46 * number
        out.append(f'<text x="142" y="{top + 22}" text-anchor="end">{escape(peer)}</text>')
        kind = "own" if peer in _OWN else "other"
        for at, case in enumerate((_NEW, _KEPT)):
            if (figure := figures.get((peer, case))) is None:
                continue
            width = 500 * figure / ticks[-1]
            down = top + 18 * at
            opacity = ' opacity="0.6"' if case == _NEW else ""
            out.append(
                f'<rect class="{kind}" x="150" y="{down}" width="{width:.1f}" height="16"{opacity}/>'
            )
            name = f"{short(figure)} {'new' if case == _NEW else 'kept'}"
            out.append(f'<text x="{156 + width:.1f}" y="{down + 13}">{name}</text>')
    return "\n".join([*out, "</svg>", ""])


def lines(
    found: Mapping[str, Line], across_is: str, down_is: str, *, logarithmic: bool = False
) -> str:
    """A line a name; what is across is in powers of ten, what is up as well when `logarithmic`. Empty without lines of
    two points or more.
    """
    found = {name: line for name, line in found.items() if len(line) > 1}
    if not found:
        return ""
    numbers = sorted({number for line in found.values() for number in line})
    values = [max(value, 1e-3) for line in found.values() for value in line.values()]
    left, right = math.log10(numbers[0]), math.log10(numbers[-1])
    if logarithmic:
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        ticks = [10.0**power for power in range(low, high + 1)]
    else:
        low, ticks = 0, _ticks(max(values))
        high = 0

    def place(number: float, value: float) -> tuple[float, float]:
        across = 70 + 470 * (math.log10(number) - left) / (right - left)
        part = value / ticks[-1]
        if logarithmic:
            part = (math.log10(max(value, 1e-3)) - low) / ((high - low) or 1)
        return across, 340 - 290 * part

    out = _page(396, f"{down_is} over {across_is}")
    for tick in ticks:
        _, down = place(numbers[0], tick)
        out.append(f'<path class="grid" d="M70 {down:.0f}H540"/>')
        out.append(f'<text x="62" y="{down + 4:.0f}" text-anchor="end">{tick:g}</text>')
    for number in numbers:
        across, _ = place(number, ticks[-1])
        out.append(f'<path class="grid" d="M{across:.0f} 50V344"/>')
        out.append(f'<text x="{across:.0f}" y="360" text-anchor="middle">{number:,.0f}</text>')
    out.append(f'<text x="305" y="384" text-anchor="middle">{escape(across_is)}</text>')
    # lines that end together are named one below the other
    ends = sorted((place(*max(line.items()))[1], name) for name, line in found.items())
    colours = iter(_COLOURS * len(ends))
    below = 0.0
    for end, name in ends:
        own = name in _OWN or name.endswith(", ours")
        colour = "" if own else next(colours)
        line = found[name]
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in (place(*at) for at in sorted(line.items())))
        stroke = 'class="ownline"' if own else f'stroke="{colour}"'
        dashes = _dashes(name)
        out.append(f'<path d="M{path}" fill="none" {stroke} stroke-width="2"{dashes}/>')
        for at in line.items():
            a, b = place(*at)
            dot = 'class="own"' if own else f'fill="{colour}"'
            out.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" {dot}/>')
        below = max(end, below + 15)
        across, _ = place(*max(line.items()))
        text = 'class="ownname"' if own else f'style="fill: {colour}"'
        out.append(f'<text x="{across + 9:.0f}" y="{below + 4:.0f}" {text}>{escape(name)}</text>')
    return "\n".join([*out, "</svg>", ""])


def _dashes(name: str) -> str:
    """Lines of one colour are told apart."""
    if name == "ours-1" or name.startswith("FETCH"):
        return ' stroke-dasharray="7 4"'
    return ' stroke-dasharray="2 4"' if name.startswith("POP3") else ""


def _page(height: int, title: str) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 740 {height}" font-family="sans-serif"'
        ' font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        _STYLE,
        f'<rect class="page" width="740" height="{height}"/>',
        f'<text x="20" y="24" font-size="15">{escape(title)}</text>',
    ]


def _ticks(largest: float) -> list[float]:
    """Round numbers from 0 to what is above the largest."""
    step = 10 ** math.floor(math.log10(largest or 1.0))
    for part in (0.2, 0.5, 1, 2):
        if largest <= 5 * step * part:
            step *= part
            break
    return [step * number for number in range(math.ceil(largest / step) + 1)]


def _by_number(rows: Sequence[Row], pattern: str, key: str) -> dict[str, dict[float, float]]:
    """By peer: the median figure of each number that is in the name of a case. Not of the sink."""
    each: dict[tuple[str, float], list[float]] = {}
    for row in rows:
        found = re.fullmatch(pattern, row.case)
        if found and key in row.values and row.peer != "sink":
            each.setdefault((row.peer, float(found[1])), []).append(row.values[key])
    points: dict[str, dict[float, float]] = {}
    for (peer, number), values in each.items():
        points.setdefault(peer, {})[number] = median(values)
    return points
