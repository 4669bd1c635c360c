"""The suite of small messages: twenty sessions, on new and on kept connections, to one user and to twenty."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pop3
import sessions
from harness import PASSWORD, Peer
from rounds import Group, all_rounds, run_load
from table import Row

__all__ = ["CASES", "PEERS", "rounds"]

PEERS = (
    "sink",
    "postfix-dovecot",
    "postfix-maildir",
    "opensmtpd",
    "exim4",
    "aiosmtpd",
    "haraka",
    "ours",
    "ours-1",
)
_ONCE = ("sink", "opensmtpd", "exim4", "aiosmtpd")


@dataclass(frozen=True)
class Case:
    """One kind of load: its name in the table and what load.py is told."""

    name: str
    users: int
    options: tuple[str, ...] = ()
    judged: bool = False
    """Whether a target is about it: only the first round has the others."""


CASES = (
    Case("new connections, 20 users", 20, ("--new",), judged=True),
    Case("new connections, 1 user", 1, ("--new",)),
    Case("kept connections, 20 users", 20, judged=True),
    Case("kept connections, 1 user", 1),
    Case("kept and pipelined, 20 users", 20, ("--pipelined",)),
)


def rounds(
    turns: Iterable[int], seconds: float, names: Sequence[str], directory: Path, rows: list[Row]
) -> bool:
    """All rounds of all cases into `rows`; True when a peer failed."""

    def measured(one: Peer, place: Path, turn: int) -> Iterator[Row]:
        # processes are started, code is loaded, caches are filled: not measured
        run_load(one, place, ["--seconds", "0.5"])
        sessions.settled(one, place)
        for case in CASES:
            if turn and not case.judged:
                continue
            if "--pipelined" in case.options and not one.pipelining:
                continue
            options = ["--users", str(case.users), "--seconds", str(seconds), *case.options]
            yield sessions.small(one, place, case.name, options)
        _check_reading(one, place)

    users = [f"u{number}" for number in range(20)]
    order = [name for name in PEERS if name in names]
    group = Group(order, users, directory / "smtp", measured, once=_ONCE)
    return all_rounds(turns, [group], rows)


def _check_reading(one: Peer, place: Path) -> None:
    """What lies in the mailboxes is what POP3 shows."""
    if one.pop3:
        shown = sum(pop3.session(one.pop3, one.login(user), PASSWORD)[1] for user in one.users)
        if shown != one.arrived(place):
            raise RuntimeError(f"{one.arrived(place)} messages arrived, POP3 shows {shown}")
