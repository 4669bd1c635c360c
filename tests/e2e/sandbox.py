"""The system calls that a systemd unit leaves a service, and a life within them.

Resolved by ``systemd-analyze syscall-filter`` as systemd.exec(5) has it; all others are refused (EPERM, like there),
and written down, by strace. So no service manager is needed.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from mailsite import DEADLINE

UNIT = Path(__file__).parents[2] / "docs" / "examples" / "systemd" / "twisted-mail.service"
SOCKET = UNIT.with_suffix(".socket")

ALWAYS = frozenset(("execve", "exit", "exit_group", "rt_sigreturn", "sigreturn"))
"""Of ``@default``, which a filter that lists what is allowed has implicitly; and the first call of all."""


def settings(name: str, unit: Path = UNIT) -> list[str]:
    """What stands behind each ``name=``."""
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)


@cache
def members(name: str) -> frozenset[str]:
    """The calls in a group such as ``@system-service``."""
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", name],
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE,
    )
    found: set[str] = set()
    for line in done.stdout.splitlines()[1:]:
        word = line.strip()
        if word and not word.startswith("#"):
            found |= members(word) if word.startswith("@") else {word}
    return frozenset(found)


def allowed(unit: Path = UNIT) -> frozenset[str]:
    """The calls that `unit` allows."""
    found = set(ALWAYS) | members("@default")
    for value in settings("SystemCallFilter", unit):
        words = value.removeprefix("~").split()
        calls = set().union(*(members(one) if one[0] == "@" else {one} for one in words))
        found = found - calls if value.startswith("~") else found | calls
    return frozenset(found)


def confined(output: Path, command: Sequence[str]) -> list[str]:
    """`command` and all its processes, whose other calls fail with EPERM, and stand in `output` then.

    A file for each process (``-ff``): in one file, the lines of calls made at once are torn.
    """
    calls = ",".join(f"?{one}" for one in sorted(allowed()))
    return [
        *("strace", "-ff", "--seccomp-bpf", "-qq", "-e", "signal=none", "-o", str(output)),
        *("-e", f"trace=!{calls}", "-e", f"inject=!{calls}:error=EPERM", *command),
    ]


def refused(output: Path) -> list[str]:
    """The lines of calls that were not allowed."""
    files = sorted(output.parent.glob(f"{output.name}.*"))
    assert files, "strace did not run"
    return [line for file in files for line in file.read_text().splitlines() if "(" in line]
