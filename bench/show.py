"""Print again what a run has measured: `bench/run --json FILE` wrote it.

    bench/table FILE                             the table of everything, and what is reached
    bench/table FILE --markdown [--into DOC]     shorter, for docs/performance.md; into it, between its marks
    bench/table FILE --plots docs                the plots
    bench/table --into DOC                       what bench/smoke has stored and bench/intake_micro.py says

What goes into a document goes between the marks for it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import plots
from table import Row, draining, markdown, overview, read, side_by_side, standing
from targets import reached

__all__ = ["document", "inserted", "instructions", "main", "stages"]

MEASURED, INSTRUCTIONS, STAGES = "measured", "instructions", "stages"
"""What is put between marks."""
_HERE = Path(__file__).resolve().parent
_SMOKE = _HERE / "smoke.json"
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
        f"{run['processors']} processors, `workers = {run['workers']}`, {run['python']}, {run['system']};"
        f" {rounds} rounds at most. The machine: spin {quiet:.2f}, others {others:.2f} (medians);"
        f" spin 1 is a million turns of a loop in {min(spins) * 1000:.1f} ms.",
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
    out += [
        "### All of it",
        "",
        "<details><summary>Each case and peer: least and most, memory, p50 and p99, noise</summary>",
        overview(rows),
        "</details>",
    ]
    return "\n".join(out)


def inserted(text: str, what: str, new: str) -> str:
    """`text` with `new` between its marks for that. ValueError when it has none."""
    begin, end = f"<!-- {what}: written by bench/table -->", f"<!-- end of {what} -->"
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"no {begin} and {end}")
    return f"{before}{begin}\n\n{new.strip()}\n\n{end}{after}"


def instructions(stored: Mapping[str, Any]) -> str:
    """A table of what smoke.json has."""
    lines = [["4 KiB, one message", "instructions of the server"]]
    for case, count in stored["instructions"].items():
        if case != "loop":
            lines.append([case, f"{round(count, -4):,.0f}".replace(",", " ")])
    return markdown(lines)


def stages(printed: str) -> str:
    """A table of what intake_micro.py printed: a line is a name, two spaces or more, a number and its unit."""
    lines = [["stage", "µs"]]
    for line in printed.splitlines():
        name, _, figure = line.rstrip().removesuffix("µs").rstrip().rpartition("  ")
        if name:
            indent = "&nbsp;&nbsp;" if line.startswith(" ") else ""
            lines.append([f"{indent}{name.strip()}", figure.strip()])
    return markdown(lines)


def main(arguments: list[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--markdown", action="store_true", help="for docs/performance.md")
    parser.add_argument("--into", type=Path, help="put that between the marks of this file")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write SVGs there")
    options = parser.parse_args(arguments)
    if options.into:
        text = options.into.read_text()
        text = inserted(text, INSTRUCTIONS, instructions(json.loads(_SMOKE.read_text())))
        command = [sys.executable, str(_HERE / "intake_micro.py")]
        micro = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        options.into.write_text(inserted(text, STAGES, stages(micro.stdout)))
    if options.file is None:
        return 0
    run, rows = read(options.file.read_text())
    usual = [row for row in rows if row.suite not in _APART]
    if options.plots:
        options.plots.mkdir(parents=True, exist_ok=True)
        for name, text in plots.all_of(rows).items():
            (options.plots / name).write_text(text)
    if options.into:
        text = options.into.read_text()
        options.into.write_text(inserted(text, MEASURED, document(run, usual)))
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
