"""``docs/testing.md``: the examples in a simulated world, and in a storm, run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
EXAMPLES = [
    block
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    if "simulated_world" in block or "Storm(" in block
]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example(number, tmp_path):
    names = {}
    exec(compile(EXAMPLES[number], str(PAGE), "exec"), names)  # noqa: S102
    (test,) = (names[name] for name in names if name.startswith("test_"))
    test(tmp_path)


def test_there_are_examples():
    assert len(EXAMPLES) >= 4
