"""How mailboxes grow: opened by IMAP and by POP3, read, and delivered into, with 10^2 to 10^6 messages, each server.

The Maildirs lie in memory (tmpfs): a million names, linked to some small files. What is slow about many files on a disk
is not what this is about.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import pop3
from harness import PASSWORD, Peer
from imap_client import Client
from imap_mail import Letter, maildir, small
from imap_peer import ImapPeer
from measure import cpu_seconds, memory, pause
from rounds import Job, Watch, ready, repeated, run_load, running
from table import Row

__all__ = ["rounds"]

_MEMORY = Path("/dev/shm")
_TIMES = 7
_OF_THE_LARGEST = 3
_SETTLED = 4.0
_DELIVERED = 2.0
_STARTS = 3


def rounds(largest: int, names: Sequence[str], rows: list[Row]) -> bool:
    """All sizes into `rows`, 100 and 10 000 and what is above in steps of ten; True when a peer failed."""
    sizes = [size for size in (100, *(10**n for n in range(4, 8))) if size <= largest]
    if not _MEMORY.is_dir():
        print(f"growth: missing: {_MEMORY}", flush=True)
        return False
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=_MEMORY))
    directory.chmod(0o755)
    try:
        mail = small(directory / "mail", 100)
        peers = ready(names, [_user(size) for size in sizes], directory)
        jobs = [Job(one, partial(_one, one, directory / one.name, sizes, mail)) for one in peers]
        # a size's first time is the first: what there is to see is seen in one round
        return repeated([0], jobs, rows)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _user(size: int) -> str:
    """Such that load.py can make it of a word and a number."""
    return f"n{size}u0"


def _one(
    one: Peer, place: Path, sizes: Sequence[int], mail: Sequence[Letter], _turn: int
) -> Iterator[Row]:
    assert isinstance(one, ImapPeer)
    place.mkdir()
    try:
        one.maildir(place, _user(sizes[0]))
        yield _starts(one, place, 0)
        for size in sizes:
            maildir(one.maildir(place, _user(size)), mail, size)
        with running(one, place):
            for size in sizes:
                yield from _opened(one, place, size)
                yield _by_pop3(one, place, size)
            if one.smtp:
                for size in sizes:
                    yield _delivered(one, place, size)
        yield _starts(one, place, sum(sizes))
    finally:
        # a million names are some hundred MB of memory
        shutil.rmtree(place, ignore_errors=True)


def _starts(one: ImapPeer, place: Path, messages: int) -> Row:
    """From the making of the process to its greeting; the first start of all is not counted."""
    times = []
    with Watch(one, place) as watch:
        for _ in range(_STARTS + 1):
            began = time.monotonic()
            with running(one, place, rest=False):
                times.append(time.monotonic() - began)
                cpu, mb = cpu_seconds(one.roots), memory(one.roots)
            watch.not_others += cpu
    values = {"ms": median(times[1:]) * 1000, "cpu": cpu * 1000, "memory": mb}
    return Row(one.name, f"start to the first greeting, {messages} messages", values, watch.noise())


def _times(size: int) -> int:
    """How often each thing is done: some need seconds for a million."""
    return _OF_THE_LARGEST if size >= 10**6 else _TIMES


def _opened(one: ImapPeer, place: Path, size: int) -> Iterator[Row]:
    with Client(one.imap, room=max(65_536, size * 64)) as client:
        client.login(one.login(_user(size)), PASSWORD)

        def select() -> float:
            taken, answer = client.timed("SELECT INBOX")
            if b"* %d EXISTS" % size not in answer:
                raise RuntimeError(f"SELECT: {answer[-300:]!r}")
            client.command("UNSELECT")
            return taken

        def fetch() -> float:
            taken, answer = client.timed("FETCH 1:* (UID FLAGS)")
            if answer.count(b" FETCH (") != size:
                raise RuntimeError("FETCH: not all")
            return taken

        yield _timed(one, place, f"taken over of {size}", select, 1)
        pause(_SETTLED)
        yield _timed(one, place, f"SELECT of {size}", select, _times(size))
        client.command("SELECT INBOX")
        yield _timed(one, place, f"FETCH of {size}", fetch, _times(size))


def _by_pop3(one: ImapPeer, place: Path, size: int) -> Row:
    def opened() -> float:
        with pop3.Client(one.pop3, tls=False) as client:
            client.command(f"USER {one.login(_user(size))}")
            began = time.perf_counter()
            client.command(f"PASS {PASSWORD}")
            answer = client.command("STAT")
            taken = time.perf_counter() - began
            client.command("QUIT")
        if int(answer.split()[1]) != size:
            raise RuntimeError(f"STAT: {answer!r}")
        return taken

    # the first computes what is known of each message afterwards
    opened()
    return _timed(one, place, f"POP3 PASS and STAT of {size}", opened, _times(size))


def _timed(one: ImapPeer, place: Path, case: str, work: Callable[[], float], times: int) -> Row:
    with Watch(one, place) as watch:
        own = time.process_time()
        taken = median(work() for _ in range(times))
        watch.not_others += time.process_time() - own
    values = {"ms": taken * 1000, "cpu": watch.cpu * 1000 / times, "memory": memory(one.roots)}
    return Row(one.name, case, values, watch.noise())


def _delivered(one: ImapPeer, place: Path, size: int) -> Row:
    """Small messages of twenty kept connections into that one mailbox."""
    options = ["--user", _user(size).removesuffix("0"), "--users", "1"]
    with Watch(one, place) as watch:
        result, mb = run_load(one, place, [*options, "--seconds", str(_DELIVERED)])
        watch.not_others += result["cpu"]
    values = {
        "rate": result["accepted"] / (result["end"] - result["begin"]),
        "cpu": watch.cpu * 1000 / result["accepted"],
        "memory": mb,
        "p50": result["p50"],
        "p99": result["p99"],
    }
    return Row(one.name, f"delivered into a mailbox of {size}", values, watch.noise())
