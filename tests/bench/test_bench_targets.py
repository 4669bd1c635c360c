"""What is to be reached: the right figure of the right cases, and nothing said of what was not measured."""

from __future__ import annotations

import pytest
from table import Noise, Row
from targets import Line, judged, reached

QUIET = Noise(0.02, 0.0002, 0.00001, 0.0)
KEPT = "kept connections, 20 users"


def row(peer: str, case: str, turn: int = 0, **values: float) -> Row:
    return Row(peer, case, {"cpu": 1.0, "memory": 10.0} | values, QUIET, turn)


def found(rows: list[Row], what: str) -> Line:
    (line,) = (line for line in judged(rows) if what in line.what)
    return line


def test_nothing_measured_is_nothing_judged():
    assert judged([]) == []
    assert judged([row("other", KEPT, rate=1.0)]) == []


def test_a_ratio_is_the_median_of_those_of_each_round():
    rows = [
        row(peer, KEPT, turn, rate=rate)
        for turn, pair in enumerate(((900, 100), (400, 50), (70, 10)))
        for peer, rate in zip(("ours", "postfix-dovecot"), pair, strict=True)
    ]
    line = found(rows, "Postfix→LMTP→Dovecot")
    assert line.found == 8
    assert line.good
    assert "reached" in reached(rows)


def test_the_server_in_one_process_is_not_the_one_that_is_judged():
    rows = [row("ours-1", KEPT, rate=9000.0), row("haraka", KEPT, rate=100.0)]
    assert judged(rows) == []


@pytest.mark.parametrize(
    ("line", "good"),
    [
        (Line("", 8.0, least=8), True),
        (Line("", 7.97, least=8), True),
        (Line("", 7.9, least=8), False),
        (Line("", 1.15, most=1.15), True),
        (Line("", 1.17, most=1.15), False),
    ],
)
def test_what_is_good_enough(line, good):
    assert line.good is good


def test_cpu_of_a_message():
    assert found([row("ours", KEPT, rate=1.0, cpu=0.4)], "CPU of a small").good
    assert not found([row("ours", KEPT, rate=1.0, cpu=0.6)], "CPU of a small").good


def test_a_tls_session_is_compared_by_cpu_and_its_resumption_is_a_share():
    rows = [
        row("ours", "TLS session, P-256, resumed", **{"ms CPU": 1.2}, resumed=199, offered=200),
        row("bare-twisted", "TLS session, P-256, resumed", **{"ms CPU": 1.0}, resumed=199),
    ]
    assert found(rows, "bare Twisted").found == pytest.approx(1.2)
    assert not found(rows, "bare Twisted").good
    assert found(rows, "of those").found == pytest.approx(99.5)


def test_the_case_says_how_many_messages_it_was():
    line = found([row("ours", "login, STAT, UIDL, QUIT on 2000, warm", ms=20.0)], "POP3: login")
    assert "2000" in line.what
    assert line.good


def test_a_time_that_is_shorter_than_dovecots_is_no_slower():
    rows = [
        row("ours-imap", "FETCH", ms=10.0),
        row("dovecot-imap", "FETCH", ms=30.0),
        row("ours-imap", "APPEND", **{"1/s": 50.0}),
        row("dovecot-imap", "APPEND", **{"1/s": 100.0}),
    ]
    assert found(rows, "cases no slower").found == 1
    assert found(rows, "IMAP: APPEND").found == 0.5
    assert not any("IMAP: FETCH" in line.what for line in judged(rows))


def test_gaps_are_bounded_and_not_compared():
    rows = [
        row("ours-imap", "longest NOOP beside x", ms=60.0),
        row("dovecot-imap", "longest NOOP beside x", ms=1.0),
    ]
    assert [line.what for line in judged(rows)] == [
        "no gap of the event loop: longest NOOP beside x"
    ]
    assert not judged(rows)[0].good


def test_growth_compares_the_largest_with_a_tenth_of_it():
    rows = [
        row("ours-imap", f"SELECT of {size}", ms=ms)
        for size, ms in ((100, 0.1), (10_000, 0.2), (100_000, 0.4), (1_000_000, 1.2))
    ]
    rows += [row("ours", f"{n} kept connections", rate=r) for n, r in ((1, 100.0), (1000, 70.0))]
    assert found(rows, "SELECT of 1000000").found == pytest.approx(3)
    assert found(rows, "rate at 1000 sessions").found == pytest.approx(0.7)


def test_a_start_with_many_is_beside_one_with_few():
    rows = [
        row("ours", f"start to the first 220, {n} accounts", ms=ms)
        for n, ms in ((10, 500.0), (10_000, 510.0), (1_000_000, 900.0))
    ]
    rows.append(row("ours-1", "start to the first 220, 10 accounts", ms=1100.0))
    line = found(rows, "start with 1000000 accounts")
    assert line.found == pytest.approx(1.8)
    assert not line.good
    # the process that starts by itself on loopback is the one that is to be quick
    assert found(rows, "start to the first 220").found == 1100
    assert not found(rows, "start to the first 220").good


def test_a_case_has_the_figure_it_was_to_reach_and_dovecots():
    case = "FETCH 1:* ENVELOPE of 10000, warm"
    rows = [row("ours-imap", case, ms=10.0), row("dovecot-imap", case, ms=15.0)]
    assert found(rows, f"{case}, beside Dovecot").found == pytest.approx(1.5)
    assert not found(rows, f"{case}, beside Dovecot").good
    assert found(rows, "cases no slower").good


def test_mailboxes_never_seen_before_are_counted_apart():
    rows = [row("ours-imap", "SELECT, taken over: 20", ms=100.0), row("ours-imap", "STORE", ms=1.0)]
    rows += [row("dovecot-imap", one.case, ms=10.0) for one in rows]
    lines = judged(rows)
    assert [line.found for line in lines if "no slower" in line.what] == [1, 0]
    assert "taken over" in lines[-1].what


def test_growth_is_about_many_messages():
    rows = [
        row("ours-imap", f"POP3 PASS and STAT of {size}", ms=ms)
        for size, ms in ((10_000, 0.8), (100_000, 240.0))
    ]
    assert judged(rows) == []
    rows.append(row("ours-imap", "POP3 PASS and STAT of 1000000", ms=2400.0))
    assert found(rows, "POP3 PASS and STAT").found == pytest.approx(10)
