"""Print again what a run has measured: `bench/run --json FILE` wrote it.

bench/table FILE                             the table of everything, and what is reached
bench/table FILE --markdown [--into DOC]     shorter, for docs/performance.md; into it, between its marks
bench/table FILE --plots docs                the plots
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import plots
from table import Row, draining, overview, read, side_by_side, standing
from targets import reached

__all__ = ["document", "inserted", "main"]

BEGIN = "<!-- measured: what bench/table --markdown writes -->"
END = "<!-- end of what was measured -->"
_APART = {"drain": draining, "backlog": standing}
_TITLES = {
    "smtp": "Small messages",
    "many": "From 1 to 1 000 sessions",
    "accounts": "Over many accounts",
    "large": "Large messages",
    "tls": "TLS sessions",
    "idle": "Idle connections",
    "pop3": "POP3",
    "logins": "Logins",
    "imap": "IMAP",
    "relay": "Outgoing",
    "growth": "Growth of a mailbox",
}


def document(run: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Markdown: what is reached, then a table a suite, each peer a column."""
    spins = [row.noise.spin for row in rows]
    quiet = median(spins) / min(spins)
    others = median(row.noise.others for row in rows)
    rounds = max(row.turn for row in rows) + 1
    out = [
        f"{run['processors']} processors, `workers = {run['workers']}`, Python {run['python']}, {run['system']};"
        f" {rounds} rounds at most. The machine: spin {quiet:.2f}, others {others:.2f} (medians).",
        "",
        "### What is to be reached",
        reached(rows),
    ]
    for suite, title in _TITLES.items():
        mine = [row for row in rows if row.suite == suite]
        if mine:
            out += [f"### {title}", side_by_side(mine)]
            for name in plots.all_of(mine):
                out += [f"![{plots.TITLES[name]}]({name})", ""]
    return "\n".join(out)


def inserted(text: str, new: str) -> str:
    """`text` with `new` between its marks. ValueError when it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{new.strip()}\n\n{END}{after}"


def main(arguments: list[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--markdown", action="store_true", help="for docs/performance.md")
    parser.add_argument("--into", type=Path, help="put that between the marks of this file")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write SVGs there")
    options = parser.parse_args(arguments)
    run, rows = read(options.file.read_text())
    usual = [row for row in rows if row.suite not in _APART]
    if options.plots:
        options.plots.mkdir(parents=True, exist_ok=True)
        for name, text in plots.all_of(rows).items():
            (options.plots / name).write_text(text)
    if options.into:
        options.into.write_text(inserted(options.into.read_text(), document(run, usual)))
    elif options.markdown:
        print(document(run, usual))
    else:
        print(overview(usual))
        for suite, table in _APART.items():
            if mine := [row for row in rows if row.suite == suite]:
                print(table(mine))
        print(reached(usual))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
