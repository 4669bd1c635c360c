"""Tables and plots of the benchmark: medians, ratios within a round, and no number that nobody measured."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import plots
import pytest
import show
from table import Noise, Row, overview, read, side_by_side, written

KEPT = "kept connections, 20 users"
QUIET = Noise(0.02, 0.0002, 0.00001, 0.0)


def row(peer: str, case: str, turn: int = 0, **values: float) -> Row:
    return Row(peer, case, {"cpu": 1.0, "memory": 10.0} | values, QUIET, turn)


def cells(text: str, peer: str) -> list[str]:
    line = next(line for line in text.splitlines() if f"| {peer} " in line)
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_rate_is_beside_this_servers_of_the_same_round():
    rows = [
        row("ours", "kept", 0, rate=1000.0),
        row("other", "kept", 0, rate=500.0),
        row("ours", "kept", 1, rate=100.0),
        row("other", "kept", 1, rate=50.0),
    ]
    assert cells(overview(rows), "other")[2:5] == ["275 1/s", "50–500", "0.50"]
    assert cells(overview(rows), "ours")[4] == "1.00"


def test_of_a_time_less_is_better():
    rows = [row("ours", "open", ms=10.0), row("other", "open", ms=40.0)]
    assert cells(overview(rows), "other")[4] == "0.25"


def test_cpu_of_a_session_is_compared_as_a_time():
    rows = [row("ours", "TLS", **{"ms CPU": 2.0}), row("bare", "TLS", **{"ms CPU": 1.0})]
    assert cells(overview(rows), "bare")[4] == "2.00"


def test_a_round_that_this_server_did_not_finish_gives_no_ratio():
    rows = [row("other", "kept", 0, rate=500.0), row("ours", "kept", 1, rate=500.0)]
    assert cells(overview(rows), "other")[4] == "–"


def test_what_was_not_measured_is_a_dash():
    assert cells(overview([row("ours", "open", ms=1.0)]), "ours")[7:9] == ["–", "–"]


def test_what_is_written_is_read_again():
    rows = [row("ours", "kept", 1, rate=1000.0), row("other", "kept", 0, ms=5.0)]
    rows[0].suite = "smtp"
    run, again = read(written(rows, 2))
    assert again == rows
    assert run["workers"] == 2


def test_peers_are_columns_with_this_server_first():
    rows = [
        row("sink", "kept", rate=9000.0),
        row("other", "kept", rate=500.0),
        row("ours", "kept", rate=1000.0),
        row("ours", "open", ms=10.0),
        row("other", "open", ms=40.0),
    ]
    lines = side_by_side(rows).strip().splitlines()
    head, _, kept, opened = ([c.strip() for c in line.strip("|").split("|")] for line in lines[:4])
    assert head == ["", "ours", "other", "sink"]
    assert kept == ["kept, 1/s", "1000", "500 (0.50)", "9000 (9.00)"]
    assert opened == ["open, ms", "10", "40 (0.25)", "–"]
    assert "CPU ms" in lines[5]
    assert len(lines) == 8


def test_a_plot_of_bars_has_each_peer_and_no_sink():
    rows = [
        row("sink", KEPT, rate=9000.0),
        row("ours", KEPT, rate=1000.0),
        row("p&q", KEPT, rate=250.0),
    ]
    found = ElementTree.fromstring(plots.bars(rows, "rate", "messages"))
    widths = [float(r.attrib["width"]) for r in found.iter() if r.attrib.get("height") == "16"]
    assert widths == [125.0, 500.0]
    texts = [element.text for element in found.iter() if element.text]
    assert "p&q" in texts
    assert "sink" not in texts


def test_growth_has_a_line_a_peer():
    rows = [
        row(peer, f"{number} kept connections", rate=rate)
        for peer, rate in (("ours", 1000.0), ("haraka", 500.0), ("sink", 9000.0))
        for number in (1, 10, 100, 1000)
    ]
    (text,) = (t for name, t in plots.all_of(rows).items() if name == "bench-sessions.svg")
    found = ElementTree.fromstring(text)
    lines = [element for element in found.iter() if element.attrib.get("fill") == "none"]
    assert len(lines) == 2


def test_both_axes_in_powers_of_ten():
    line = {100.0: 0.1, 10_000.0: 1.0, 1_000_000.0: 100.0}
    found = ElementTree.fromstring(plots.lines({"ours": line}, "n", "ms", logarithmic=True))
    dots = [
        (float(e.attrib["cx"]), float(e.attrib["cy"])) for e in found.iter() if "cx" in e.attrib
    ]
    assert dots[0] == (70.0, 340.0)
    assert dots[-1] == (540.0, 50.0)


def test_nothing_measured_is_no_plot():
    assert plots.all_of([row("ours", "open", ms=1.0)]) == {}


def test_what_was_measured_goes_between_the_marks():
    begin, end = "<!-- x: written by bench/table -->", "<!-- end of x -->"
    once = show.inserted(f"before\n{begin}\nold\n{end}\nafter\n", "x", "new")
    assert once == f"before\n{begin}\n\nnew\n\n{end}\nafter\n"
    assert show.inserted(once, "x", "new") == once
    with pytest.raises(ValueError, match="no "):
        show.inserted(once, "y", "new")


def test_stages_are_a_table():
    printed = (
        "MAIL                4.9 µs\ntogether           63.3 µs\n\n  line ends         1.92 µs\n"
    )
    lines = show.stages(printed).strip().splitlines()[2:]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert found == [["MAIL", "4.9"], ["together", "63.3"], ["&nbsp;&nbsp;line ends", "1.92"]]


def test_the_document_has_the_marks():
    text = (Path(show.__file__).parents[1] / "docs/performance.md").read_text()
    for what in (show.MEASURED, show.INSTRUCTIONS, show.STAGES):
        assert "!new!" in show.inserted(text, what, "!new!")
