"""The corpus on the disk: a file a target, an input a line, in base64."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

__all__ = ["CORPUS", "read_corpus", "read_found", "write_corpus"]

CORPUS = Path(__file__).parent / "corpus"
FOUND = Path(__file__).parent / "found"


def read_corpus(name: str) -> list[bytes]:
    """The inputs of a target."""
    path = CORPUS / f"{name}.txt"
    if not path.exists():
        return []
    return [base64.b64decode(line) for line in path.read_text().split()]


def write_corpus(name: str, inputs: Iterable[bytes]) -> None:
    """The short ones first."""
    lines = sorted(
        (base64.b64encode(data).decode() for data in set(inputs) if data),
        key=lambda one: (len(one), one),
    )
    CORPUS.mkdir(exist_ok=True)
    (CORPUS / f"{name}.txt").write_text("".join(line + "\n" for line in lines))


def read_found(name: str) -> dict[str, bytes]:
    """Inputs that once broke the target, each by what was wrong: files found/TARGET/WHAT."""
    return {path.name: path.read_bytes() for path in sorted((FOUND / name).glob("*"))}
