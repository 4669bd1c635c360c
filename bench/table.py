"""Single measurements, and the tables made of them: medians, and ratios taken within a round."""

from __future__ import annotations

import json
import os
import platform
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Any

__all__ = [
    "LESS_IS_BETTER",
    "OURS",
    "Noise",
    "Row",
    "draining",
    "interpreter",
    "markdown",
    "overview",
    "read",
    "short",
    "side_by_side",
    "standing",
    "unit_of",
    "written",
]

_YARDSTICKS = ("without",)
LESS_IS_BETTER = ("ms", "ms CPU", "s", "KiB", "MB")
_UNITS = (*LESS_IS_BETTER, "MB/s", "1/s", "rate")
_SPELLED = {"rate": "1/s"}
_LIMITS = ("sink", "sink-large", "bare-twisted", "openssl speed")
OURS = ("ours", "ours-imap", "ours-relay")


@dataclass(frozen=True)
class Noise:
    """How quiet the machine was: seconds of a fixed loop, of a synced append and of making a file,
    processors busy with other things.
    """

    spin: float
    sync: float
    make: float
    others: float


@dataclass
class Row:
    """One measurement of one case on one peer in one round."""

    peer: str
    case: str
    values: dict[str, float]
    noise: Noise
    turn: int = 0
    suite: str = ""

    def flat(self) -> dict[str, float | str]:
        """All of it, for JSON."""
        head: dict[str, float | str] = {"suite": self.suite, "case": self.case, "peer": self.peer}
        head["round"] = self.turn
        return head | self.values | {f"noise_{k}": v for k, v in vars(self.noise).items()}

    @classmethod
    def from_flat(cls, flat: Mapping[str, Any]) -> Row:
        """What `flat` gave."""
        rest = dict(flat)
        suite, case, peer, turn = (rest.pop(key) for key in ("suite", "case", "peer", "round"))
        names = [field.name for field in fields(Noise)]
        noise = Noise(**{name: float(rest.pop(f"noise_{name}")) for name in names})
        return cls(peer, case, {k: float(v) for k, v in rest.items()}, noise, int(turn), suite)

    def brief(self) -> str:
        """One line to read while it runs."""
        values = ", ".join(f"{name} {value:.4g}" for name, value in self.values.items())
        return f"{self.peer}: {self.case}: {values}"


def interpreter() -> str:
    """The Python that runs this and the servers of Python, and what it says of how it was built: profile-guided and
    link time optimization make it faster. Debian's has both, and does not say so.
    """
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    flags = " ".join(str(sysconfig.get_config_var(name) or "") for name in ("PY_CFLAGS", "LDFLAGS"))
    built = [
        name
        for name, there in (
            ("PGO", "--enable-optimizations" in arguments),
            ("LTO", "--with-lto" in arguments or "-flto" in flags),
        )
        if there
    ]
    said = ", ".join(
        [platform.python_compiler(), " and ".join(built) or "says nothing of PGO, LTO"]
    )
    return f"{platform.python_implementation()} {platform.python_version()} ({said})"


def written(rows: Sequence[Row], workers: int) -> str:
    """JSON: what was measured, and on what; the machine's name is not in it."""
    run = {
        "workers": workers,
        "processors": os.cpu_count(),
        "python": interpreter(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    return json.dumps({"run": run, "rows": [row.flat() for row in rows]}, indent=1) + "\n"


def read(text: str) -> tuple[dict[str, Any], list[Row]]:
    """What `written` gave: on what, and the rows."""
    found = json.loads(text)
    return found["run"], [Row.from_flat(flat) for flat in found["rows"]]


def overview(rows: Sequence[Row]) -> str:
    """All cases in one table, each beside this server's in the same round. The ratio is how many times as good as this
    server a peer is: below 1 it is slower, or needs more.
    """
    head = ["case", "peer", "median", "(least–most)", "ratio to ours", "CPU ms", "MB", "p50 ms"]
    lines = [[*head, "p99 ms", *_NOISE]]
    for group in _groups(rows):
        first = group[0]
        unit = unit_of(first)
        if not unit:
            continue
        values = _values(group, unit)
        lines.append(
            [
                first.case,
                first.peer,
                f"{short(median(values))} {_SPELLED.get(unit, unit)}",
                f"{short(min(values))}–{short(max(values))}",
                _ratio(rows, group, unit, OURS),
                _if_known(group, "cpu", digits=2),
                f"{max(row.values.get('memory', 0.0) for row in group):.0f}",
                _if_known(group, "p50"),
                _if_known(group, "p99"),
                *_noise(rows, group),
            ]
        )
    return markdown(lines)


def side_by_side(rows: Sequence[Row]) -> str:
    """A line a case, a column a peer: the median, and in parentheses how many times as good as this server's it is.
    Where the figure is a rate a second table has the server's CPU for one, in milliseconds.
    """
    peers = list(dict.fromkeys(row.peer for row in rows))
    # this server first, what only shows a limit last
    peers.sort(key=lambda peer: (not peer.startswith("ours"), peer in _LIMITS))
    groups = {(group[0].case, group[0].peer): group for group in _groups(rows)}
    figures, costs = [["", *peers]], [["CPU ms", *peers]]
    for case in dict.fromkeys(row.case for row in rows):
        first = next(row for row in rows if row.case == case)
        unit = unit_of(first)
        figure, cost = [f"{case}, {_SPELLED.get(unit, unit)}"], [case]
        for peer in peers:
            group = groups.get((case, peer), [])
            values = [row.values[unit] for row in group if unit in row.values]
            if not values:
                figure.append("–")
                cost.append("–")
                continue
            ratio = "" if peer in OURS else f" ({_ratio(rows, group, unit, OURS)})"
            figure.append(f"{short(median(values))}{ratio}")
            cost.append(_if_known(group, "cpu", digits=2))
        figures.append(figure)
        if unit not in LESS_IS_BETTER:
            costs.append(cost)
    return markdown(figures) + (markdown(costs) if len(costs) > 1 else "")


def unit_of(row: Row) -> str:
    """Which of its values the row is about; empty when none is."""
    return next((unit for unit in _UNITS if unit in row.values), "")


def short(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def draining(rows: Sequence[Row]) -> str:
    """The table of queues with dead destinations and without them."""
    head = ["queue", "dead ones", "healthy/s", "(least–most)", "ratio", "CPU ms", "MB"]
    head += ["first 90 % healthy/s", "ratio", *_NOISE]
    lines = [head]
    for group in _groups(rows):
        first = group[0]
        lines.append(
            [
                *_rates(rows, group, "rate", first.case, first.peer),
                f"{median(_values(group, 'most')):.0f}",
                _ratio(rows, group, "most"),
                *_noise(rows, group),
            ]
        )
    return markdown(lines)


def standing(rows: Sequence[Row]) -> str:
    """The table of a queue that waits: a line a figure."""
    lines = [["queue", "what", "median", "(least–most)"]]
    for group in _groups(rows):
        for name in group[0].values:
            values = _values(group, name)
            lines.append(
                [
                    group[0].case,
                    name,
                    f"{median(values):.4g}",
                    f"{min(values):.4g}–{max(values):.4g}",
                ]
            )
    return markdown(lines)


def _rates(rows: Sequence[Row], group: Sequence[Row], key: str, case: str, peer: str) -> list[str]:
    rates = _values(group, key)
    return [
        case,
        peer,
        f"{median(rates):.0f}",
        f"{min(rates):.0f}–{max(rates):.0f}",
        _ratio(rows, group, key),
        f"{median(_values(group, 'cpu')):.2f}",
        f"{max(_values(group, 'memory')):.0f}",
    ]


def _if_known(group: Sequence[Row], key: str, unit: str = "", digits: int = 1) -> str:
    values = [row.values[key] for row in group if key in row.values]
    return f"{median(values):.{digits}f}{unit}" if values else "–"


_NOISE = ("spin", "sync ms", "make µs", "others")


def _noise(rows: Sequence[Row], group: Sequence[Row]) -> list[str]:
    """Spin as a multiple of the shortest one of the run: 1.0 is a quiet machine."""
    shortest = min(row.noise.spin for row in rows)

    def pick(get: Callable[[Noise], float]) -> float:
        return median([get(row.noise) for row in group])

    return [
        f"{pick(lambda n: n.spin) / shortest:.2f}",
        f"{pick(lambda n: n.sync) * 1000:.2f}",
        f"{pick(lambda n: n.make) * 1e6:.0f}",
        f"{pick(lambda n: n.others):.2f}",
    ]


def _ratio(
    rows: Sequence[Row], group: Sequence[Row], key: str, yardsticks: Sequence[str] = _YARDSTICKS
) -> str:
    """How many times as fast as the yardstick: the median over the rounds that have both."""
    case = group[0].case
    theirs = {
        row.turn: row.values[key]
        for row in rows
        if row.case == case and row.peer in yardsticks and row.values.get(key, 0.0) > 0
    }
    ratios = [row.values[key] / theirs[row.turn] for row in group if row.turn in theirs]
    # what can be below nothing (memory that was given back meanwhile) is no ratio
    if not ratios or (ratio := median(ratios)) <= 0:
        return "–"
    if key in LESS_IS_BETTER:
        ratio = 1 / ratio
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    """The rounds of each case on each peer, in the order of their first one; cases together."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.case, row.peer), []).append(row)
    order = list(dict.fromkeys(case for case, _ in groups))
    return sorted(groups.values(), key=lambda group: order.index(group[0].case))


def _values(group: Sequence[Row], key: str) -> list[float]:
    return [row.values[key] for row in group]


def markdown(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    padded = [
        "| "
        + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    ]
    padded.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n" + "\n".join(padded) + "\n"
