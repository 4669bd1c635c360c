"""How long a start takes after a power cut, with the largest journal there can be.

    python bench/replay.py [--size 600] [--accounts 1000] [--recipients 1] [--keep all|none|empty|homes] [--same-boot]

Mail arrives at the real store in a process of its own until a checkpoint is due; instead the process dies. `--keep`:
what of the mail the cut left in the mailboxes: all of it, so that every file is compared with its record; none, so that
each is written anew; the names of empty files, as ext4 does; not even the accounts' directories (homes). Then the start
is timed, with nothing in memory (as root).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor  # noqa: TID251  # this is the program
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import react

from twisted_mail.storage import upkeep
from twisted_mail.storage.store import MailStore
from twisted_mail.world import real_world

AT_ONCE = 400


def store_at(data: Path, boot: str) -> MailStore:
    return MailStore(real_world(reactor), str(data), host="bench", boot=boot)


async def fill(options: argparse.Namespace, data: Path) -> None:
    due: list[None] = []
    upkeep.Upkeep.checkpoint = lambda self: due.append(None)  # type: ignore[method-assign]
    store = store_at(data, "before")
    await store.start()
    content = b"Subject: replay\n\n" + b"x" * max(options.size - 17, 1)
    count = places = 0
    while not due:
        waiting = []
        for _ in range(AT_ONCE):
            draft = store.draft()
            draft.write(content)
            keys = [f"bench/u{(places + n) % options.accounts}" for n in range(options.recipients)]
            places += options.recipients
            count += 1
            accepted = store.accept(draft, keys, ascii_size=None, envelope={"from": "a@b.example"})
            waiting.append(Deferred.fromCoroutine(accepted))
        for succeeded, result in await DeferredList(waiting):
            if not succeeded:
                result.raiseException()
    print(f"{count} messages, {places} places", flush=True)
    os._exit(0)


async def start(options: argparse.Namespace, data: Path) -> None:
    store = store_at(data, "before" if options.same_boot else "after")
    began, cpu = time.perf_counter(), time.process_time()
    await store.start()
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(f"start {took:.2f} s, CPU {cpu:.2f} s", flush=True)
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=600)
    parser.add_argument("--accounts", type=int, default=1000)
    parser.add_argument("--recipients", type=int, default=1)
    parser.add_argument("--keep", choices=("all", "none", "empty", "homes"), default="none")
    parser.add_argument("--same-boot", action="store_true")
    parser.add_argument("--step", choices=("fill", "start"), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step is not None:
        step: Any = fill if options.step == "fill" else start
        react(lambda _: Deferred.fromCoroutine(step(options, options.data)))
    place = Path(tempfile.mkdtemp(dir="/var/tmp"))
    try:
        command = [sys.executable, *sys.argv, "--data", str(place / "data"), "--step"]
        subprocess.run([*command, "fill"], check=True)
        mail = place / "data" / "mail"
        if options.keep == "homes":
            shutil.rmtree(mail)
            mail.mkdir()
        elif options.keep == "none":
            for path in mail.rglob("new/*"):
                path.unlink()
        elif options.keep == "empty":
            for path in mail.rglob("new/*"):
                os.truncate(path, 0)
        if os.geteuid() == 0:
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3\n")
        subprocess.run([*command, "start"], check=True)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
