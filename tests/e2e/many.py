"""A site with workers: its processes, and clients that go on whatever becomes of them."""

from __future__ import annotations

import os
import re
import smtplib
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

from mailsite import ALICE, Site, letter, until


def own_children(pid: int) -> set[int]:
    """The processes that `pid` has started and that live."""
    # not /proc/PID/task/TID/children: not every kernel has it, and it is incomplete while one of them ends (proc(5))
    found = set()
    for one in Path("/proc").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            if one.name.isdecimal():
                state, parent = (one / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) == pid and state not in "ZX":
                    found.add(int(one.name))
    return found


def children(pid: int) -> set[int]:
    """The same, and theirs."""
    found = own_children(pid)
    return found.union(*map(children, found))


def serving(site: Site) -> list[int]:
    """The workers that answer clients, the oldest first."""
    said = [int(one) for one in re.findall(r"worker \d+ serves pid=(\d+)", site.log)]
    return [pid for pid in said if alive(pid)]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def by_worker(log: str) -> Counter[str]:
    """How many connections each worker has taken."""
    return Counter(re.findall(r" connected .* ?worker=(\d+)", log))


def settled(site: Site) -> bool:
    """Whether nobody is connected any more: neither for the kernel nor, as the log has it, for the server. Those who
    only looked whether it listens may be waiting to be let in.
    """
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = {f"{port:04X}" for port in site.ports.values()}
    over = ("06", "0A")  # TIME_WAIT, LISTEN
    if any(row[1].rpartition(":")[2] in ours and row[3] not in over for row in rows):
        return False
    log = site.log
    came = set(re.findall(r"connection=(\S+) connected ", log))
    return came <= set(re.findall(r"connection=(\S+) disconnected: ", log))


def children_of(site: Site) -> set[int]:
    assert site.process is not None
    return children(site.process.pid)


def zygote_of(site: Site) -> int:
    """Of which workers are forked."""
    assert site.process is not None
    (pid,) = own_children(site.process.pid)
    return pid


class Senders:
    """Threads that send one message after the other, and connect again when they are sent away."""

    def __init__(self, site: Site, count: int = 4) -> None:
        self.promised: list[str] = []
        self.begun: list[str] = []
        self.refused: list[str] = []
        self.failures: list[BaseException] = []
        self._site = site
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def until(self, count: int) -> None:
        """Until so many more messages are promised."""
        wanted = len(self.promised) + count
        until(
            lambda: len(self.promised) >= wanted or self.failures or self.refused,
            f"{count} more messages are promised",
        )
        self.check()

    def check(self) -> None:
        assert not self.refused and not self.failures, (self.refused, self.failures)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, name: int) -> None:
        number = 0
        while not self._stop.is_set():
            try:
                with self._site.smtp() as session:
                    while not self._stop.is_set():
                        number += 1
                        subject = f"sender {name} message {number}"
                        self.begun.append(subject)
                        session.sendmail("carol@elsewhere.example", [ALICE], letter(subject))
                        self.promised.append(subject)
            except ConnectionRefusedError as error:
                self.refused.append(repr(error))
                return
            except (smtplib.SMTPException, OSError):
                pass  # sent away, or cut off
            except BaseException as error:
                self.failures.append(error)
                raise


def pids_gone(pids: set[int]) -> bool:
    return not any(alive(pid) for pid in pids)


def kill(pid: int, number: int) -> None:
    os.kill(pid, number)
