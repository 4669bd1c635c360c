"""Tables and plots of the benchmark: medians, ratios within a round, and no number that nobody measured."""

from __future__ import annotations

from xml.etree import ElementTree

import plots
from table import Noise, Row, overview

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


def test_bars_are_as_long_as_the_rates_and_without_the_sink():
    case = "kept connections, 20 users"
    rows = [
        row("sink", case, rate=9000.0),
        row("ours", case, rate=1000.0),
        row("p&q", case, rate=250.0),
    ]
    found = ElementTree.fromstring(plots.bars(rows))
    widths = [
        float(r.attrib["width"])
        for r in found.iter()
        if r.attrib.get("x") == "150" and "width" in r.attrib
    ]
    assert widths == [120.0, 480.0]
    texts = [element.text for element in found.iter() if element.text]
    assert "p&q" in texts
    assert "sink" not in texts


def test_growth_has_a_line_a_peer():
    rows = [
        row(peer, f"{number} kept connections", rate=rate)
        for peer, rate in (("ours", 1000.0), ("haraka", 500.0), ("sink", 9000.0))
        for number in (1, 10, 100, 1000)
    ]
    found = ElementTree.fromstring(plots.growth(rows))
    lines = [element for element in found.iter() if element.attrib.get("fill") == "none"]
    assert len(lines) == 2


def test_nothing_measured_is_no_plot():
    assert plots.all_of([row("ours", "open", ms=1.0)]) == {}
