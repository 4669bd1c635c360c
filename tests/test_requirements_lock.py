"""requirements.lock: all that the server needs, each by its hash, at the versions that CI tests with; and its audit."""

from __future__ import annotations

import json
import re
import runpy
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WANTED = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
BUILD = [Requirement(text) for text in PROJECT["build-system"]["requires"]]
LINE = re.compile(
    r"^([A-Za-z0-9._-]+)==([^ \\;]+)(?: ; [^\\]+?)? \\\n((?: {4}--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
    re.MULTILINE,
)


def locked() -> dict[str, str]:
    return {canonicalize_name(found[1]): found[2] for found in LINE.finditer(LOCK)}


def test_it_is_names_versions_and_hashes_alone() -> None:
    rest = LINE.sub("", LOCK)
    assert all(line.startswith("#") for line in rest.splitlines()), rest
    assert "://" not in LOCK


@pytest.mark.parametrize("wanted", [*WANTED, *BUILD], ids=str)
def test_what_pyproject_asks_for_is_there(wanted: Requirement) -> None:
    assert wanted.specifier.contains(locked()[canonicalize_name(wanted.name)])


def needed(wanted: list[Requirement]) -> Iterator[tuple[str, Requirement]]:
    """Whatever is installed here for what is `wanted`, and who asks for it."""
    known: set[str] = set()
    waiting = [("pyproject.toml", one) for one in wanted]
    while waiting:
        who, one = waiting.pop()
        yield who, one
        name = canonicalize_name(one.name)
        if name not in known:
            known.add(name)
            waiting += [
                (name, below)
                for text in metadata.requires(name) or ()
                if (below := Requirement(text)).marker is None
                or any(below.marker.evaluate({"extra": extra}) for extra in ("", *one.extras))
            ]


def test_and_whatever_that_needs() -> None:
    versions = locked()
    missing = [
        f"{one} (for {who})"
        for who, one in needed(WANTED)
        if not one.specifier.contains(versions.get(canonicalize_name(one.name), "0"))
    ]
    assert not missing


def test_ci_tests_the_same_versions() -> None:
    lines = (ROOT / "requirements-ci.txt").read_text().splitlines()
    tested = {
        canonicalize_name(name): version
        for name, _, version in (line.partition("==") for line in lines if line[:1] != "#")
    }
    differ = {name for name, version in locked().items() if tested.get(name, version) != version}
    assert not differ
    assert {canonicalize_name(one.name) for one in WANTED} <= tested.keys()


# The audit


def verdict(*dependencies: dict[str, Any], text: str | None = None) -> tuple[int, list[str]]:
    audit = runpy.run_path(str(ROOT / ".ci" / "audit"))
    report = json.dumps({"dependencies": dependencies, "fixes": []}) if text is None else text
    found: tuple[int, list[str]] = audit["verdict"](report, 2)
    return found


CLEAN = {"name": "a", "version": "1", "vulns": []}
UNKNOWN = {"name": "b", "skip_reason": "not found"}
HOLE = {"name": "c", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}


def test_a_vulnerability_is_a_failure() -> None:
    assert verdict(CLEAN, HOLE) == (1, ["c 2: CVE-1; mended in: 3"])
    assert verdict(UNKNOWN, HOLE)[0] == 1


def test_an_audit_that_did_not_happen_is_none() -> None:
    assert verdict(CLEAN, CLEAN) == (0, ["2 packages, no known vulnerability"])
    for said in (verdict(CLEAN, UNKNOWN), verdict(), verdict(text=""), verdict(text="[")):
        assert said[0] == 0
        assert said[1][0].startswith("NOT AUDITED: ")
