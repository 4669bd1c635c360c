"""How lists are shown: for machines, for pipes, for people."""

from __future__ import annotations

import json

from twisted_mail.cli.output import show, show_blocks

ROWS = [
    {"user": "alice@example.org", "enabled": True, "targets": ["a", "b"]},
    {"user": "[bold]žofie@example.org", "enabled": False, "targets": []},
]


def test_json_is_an_array(capsys):
    show(ROWS, True)
    assert json.loads(capsys.readouterr().out) == ROWS
    show([], True)
    assert json.loads(capsys.readouterr().out) == []


def test_tabs_where_nobody_looks(capsys):
    show(ROWS, False)
    rows = "alice@example.org\tyes\ta, b\n[bold]žofie@example.org\tno\t\n"
    assert capsys.readouterr().out == f"user\tenabled\ttargets\n{rows}"
    show(ROWS, headings=False)
    assert capsys.readouterr().out == rows


def test_a_table_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")  # letters without colours
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    show(ROWS, False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == ["user", "enabled", "targets"]
    assert ["alice@example.org", "yes", "a,", "b"] in lines
    assert ["[bold]žofie@example.org", "no"] in lines


def test_nothing_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    show([], False)
    assert capsys.readouterr().out == ""


def test_blocks_on_a_terminal(capsys, monkeypatch):
    show_blocks(ROWS, False)
    assert capsys.readouterr().out.startswith("user\tenabled\ttargets\n")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    show_blocks([*ROWS, {"last_error": "none", "user": ""}], False)
    assert capsys.readouterr().out == (
        "user:    alice@example.org\nenabled: yes\ntargets: a, b\n\n"
        "user:    [bold]žofie@example.org\nenabled: no\n\n"
        "last error: none\n"
    )
    show_blocks(ROWS, True)
    assert json.loads(capsys.readouterr().out) == ROWS
