"""Every regular expression of the program: none can be made to take exponential time."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ambiguity import ambiguous

import twisted_mail

INLINE = {"sub", "subn", "split", "match", "fullmatch", "search", "findall", "finditer", "compile"}


def modules() -> Iterator[Any]:
    for found in pkgutil.walk_packages(twisted_mail.__path__, "twisted_mail."):
        if not found.name.endswith("__main__") and ".testing.child" not in found.name:
            yield importlib.import_module(found.name)


def patterns(value: Any, depth: int = 0) -> Iterator[re.Pattern[Any]]:
    """Those that a module's name stands for: a pattern, a method of one, or some in a container."""
    owner = getattr(value, "__self__", None)
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(owner, re.Pattern):
        yield owner
    elif depth < 3 and isinstance(value, list | tuple | dict | set | frozenset):
        for one in value.values() if isinstance(value, dict) else value:
            yield from patterns(one, depth + 1)
    elif inspect.isclass(value) and value.__module__.startswith("twisted_mail"):
        for one in list(vars(value).values()):
            if not inspect.isclass(one):
                yield from patterns(one, depth + 1)


def inline(module: Any) -> Iterator[re.Pattern[Any]]:
    """Those that are written where they are used."""
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in INLINE
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "re"
            and isinstance(node.args[0], ast.Constant)
        ):
            yield re.compile(node.args[0].value)


def everything() -> dict[str, re.Pattern[Any]]:
    found: dict[str, re.Pattern[Any]] = {}
    for module in modules():
        for value in list(vars(module).values()):
            for pattern in patterns(value):
                found.setdefault(f"{pattern.pattern!r} {pattern.flags}", pattern)
        for pattern in inline(module):
            found.setdefault(f"{pattern.pattern!r} {pattern.flags}", pattern)
    return found


def test_none_of_the_program_can_be_read_in_two_ways_again_and_again() -> None:
    found = everything()
    assert len(found) > 150
    wrong = {name: why for name, one in found.items() if (why := ambiguous(one)) is not None}
    assert wrong == {}


@pytest.mark.parametrize(
    "text",
    [
        "(a+)+b",
        "(a*)*b",
        "(?:a|ab|ba|b)*c",
        r"(\w+\s?)*$",
        r"^(([a-z])+.)+[A-Z]([a-z])+$",
        r"(?:[^\n]*\n?)*z",
        r"(?:\\.|[^\"])*\"",
        "(?:x{1,9}){1,9}y",
        "(?:ax|ay|a.)*b",
    ],
)
def test_the_well_known_ones_are_found(text: str) -> None:
    assert ambiguous(re.compile(text)) is not None


@pytest.mark.parametrize(
    "text",
    [
        "a+b",
        "(?:ab)*c",
        r"(?:[^\n]*\n)*z",
        r'(?:\\.|[^"\\])*"',
        "(?:a++)+b",
        "(?>a|ab)c",
        r"(?:[a-z]+\.)*[a-z]+",
        "(?:a|b)*c",
        r"[ \t]+|[a-z]+",
    ],
)
def test_and_harmless_ones_are_not(text: str) -> None:
    assert ambiguous(re.compile(text)) is None
