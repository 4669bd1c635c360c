"""What a server asked of the kernel, and in which order: strace, one file a thread, read into one line of time.

``strace -ff -ttt -T -yy``: each call has the moment it began, how long it took, and the names of its descriptors. Both
are whole microseconds, cut off, never rounded up: a call that waited for the end of another one never began before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

TRACED = "write,writev,pwrite64,pwritev,sendto,sendmsg,fdatasync,fsync,syncfs,unlink,unlinkat,rename,linkat"
_CALL = re.compile(r"^(\d+\.\d{6}) (\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+)[^<]*(?:<(\d+\.\d{6})>)?$")


@dataclass(frozen=True)
class Call:
    """`began` and `ended`: microseconds. `name` of the first descriptor: a path, or ``TCP:[…]``."""

    began: int
    ended: int
    what: str
    arguments: str
    result: int

    @property
    def name(self) -> str:
        found = re.match(r"\d+<(.*?)>(?:, |\)|$)", self.arguments)
        return found[1] if found else ""

    def has(self, text: str) -> bool:
        return text in self.arguments


def traced(output: Path, command: Sequence[str]) -> list[str]:
    """`command`, with all its processes, under strace, which writes files that begin with `output`."""
    return [
        *("strace", "-ff", "-ttt", "-T", "-yy", "-s", "1100000", "-e", f"trace={TRACED}"),
        *("-e", "signal=none", "-o", str(output), *command),
    ]


def calls(output: Path) -> list[Call]:
    """All that was recorded, in the order in which it began. Calls that failed, or never ended, are left out."""
    found = [
        call
        for path in output.parent.glob(f"{output.name}.*")
        for call in _read(path)
        if call.result >= 0
    ]
    return sorted(found, key=lambda call: call.began)


def _read(path: Path) -> Iterator[Call]:
    with path.open(errors="replace") as lines:
        for line in lines:
            match = _CALL.match(line.rstrip("\n"))
            if match is not None and match[5] is not None:
                # not as float: the sum of two, of today's seconds, would be a microsecond's part too great
                began = int(match[1].replace(".", ""))
                ended = began + int(match[5].replace(".", ""))
                yield Call(began, ended, match[2], match[3], int(match[4], 0))
