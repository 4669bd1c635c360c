"""docs/reliability.md names commands that anyone can run: they have to be there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/reliability.md").read_text()
COMMANDS = sorted(
    {
        found
        for row in PAGE.splitlines()
        if row.startswith("|")
        for found in re.findall(r"`((?:[A-Z_]+=\S+ )?(?:pytest|nox -s|python) [^`]+)`", row)
    }
)


def test_there_are_commands_for_every_kind_of_proof() -> None:
    kinds = {command.split("=")[-1].split()[0] for command in COMMANDS}
    assert {"pytest", "nox", "python"} <= kinds
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("command", COMMANDS)
def test_what_the_command_runs_is_there(command: str) -> None:
    paths = re.findall(r"(?:tests|bench)/[\w/]+(?:\.py)?", command)
    assert all((ROOT / path).exists() for path in paths), paths
    sessions = re.findall(r"nox -s ([\w-]+)", command)
    known = (ROOT / "noxfile.py").read_text()
    for name in sessions:
        assert f"def {name}(" in known or f'name="{name}"' in known
    assert paths or sessions


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "SECURITY.md"])
def test_the_page_is_found(page: str) -> None:
    assert "reliability.md" in (ROOT / page).read_text()
