"""kill -9 at a moment taken by chance, under load, again and again: nothing that was answered with 250 is lost.

A few times here; ``nox -s kills`` does it $KILLS times (500).
"""

from __future__ import annotations

import contextlib
import os
import re
import smtplib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from imapsite import imap, uids
from mailsite import ALICE, BOB, DEADLINE, Site, letter, until

FEW = 8
SENDERS = 6


class Load:
    """Senders who go on until they are told to stop, and connect again when the server was killed under them."""

    def __init__(self, site: Site) -> None:
        self.promised: set[str] = set()
        self.begun: set[str] = set()
        self.replies = 0
        self._site = site
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(SENDERS)]
        for one in self._threads:
            one.start()

    def stop(self) -> None:
        self._stop.set()
        for one in self._threads:
            one.join(DEADLINE)

    def _send(self, name: int) -> None:
        number = 0
        while not self._stop.is_set():
            with contextlib.suppress(OSError, smtplib.SMTPException), self._site.smtp() as session:
                while not self._stop.is_set():
                    number += 1
                    token = f"s{name}n{number}"
                    self.begun.add(token)
                    # now and then one that spills
                    size = 400_000 if number % 20 == 0 else 2000
                    session.sendmail(
                        "carol@elsewhere.example", [ALICE, BOB], letter(token, size=size)
                    )
                    self.promised.add(token)
            self._stop.wait(0.01)


def found(site: Site, user: str) -> list[str]:
    """What lies in the Maildir: no client is asked, so that it can be many."""
    maildir = site.maildir(user)
    tokens = []
    for part in ("new", "cur"):
        for path in (maildir / part).iterdir():
            with path.open("rb") as file:
                head = file.read(4096)
            match = re.search(rb"^Subject: (.*)$", head, re.MULTILINE)
            assert match is not None, path
            tokens.append(match[1].decode())
    return tokens


def listening(site: Site) -> bool:
    try:
        site.connect("smtp").close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    return True


def cpu(site: Site) -> float:
    """Seconds that the server has computed."""
    assert site.process is not None
    words = Path(f"/proc/{site.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def killed(make_site: Callable[..., Site], count: int, workers: int, seed: int) -> None:
    site = make_site()
    site.top = f"workers = {workers}\n"
    site.write_configuration()
    random = Random(seed)
    site.start()
    # of a start that finds nothing to do, on this machine
    fresh = cpu(site)
    load = Load(site)
    starts: list[float] = []
    busy: list[float] = []
    try:
        for _ in range(count):
            before = len(load.promised)
            until(lambda before=before: len(load.promised) > before + 5, "messages are answered")
            # the moment is by chance, and nothing depends on it
            threading.Event().wait(random.random() * 0.3)
            site.kill()
            # workers see for themselves that the first process is gone, and leave
            until(lambda: not listening(site), "nobody listens any more")
            began = time.monotonic()
            site.start()
            starts.append(time.monotonic() - began)
            busy.append(cpu(site))
    finally:
        load.stop()
    for user in (ALICE, BOB):
        tokens = found(site, user)
        assert len(tokens) == len(set(tokens)), "a message is there twice"
        missing = load.promised - set(tokens)
        assert not missing, f"answered with 250 and lost: {sorted(missing)[:10]}"
        assert set(tokens) <= load.begun
    # clients see them all: the index is whole
    for user in (ALICE, BOB):
        with site.pop(user) as session:
            assert session.stat()[0] == len(found(site, user))
        with imap(site, user, "INBOX") as session:
            assert len(uids(session)) == len(found(site, user))
    left = list((site.data / "journal" / "scratch").iterdir())
    assert not left, left
    ordered = sorted(starts)
    half, most = ordered[len(starts) // 2], ordered[-1]
    print(
        f"{count} kills, {workers} workers, {len(load.promised)} messages; from the process to its greeting"
        f" {ordered[0]:.2f} s, {half:.2f} (half of them), {most:.2f}"
    )
    # seconds of CPU, which other programs change little; under one where the machine has nothing else to do
    usual = sorted(busy)[len(busy) // 2]
    print(
        f"CPU of the first process till then {usual:.2f} s (half of them), of the first start {fresh:.2f} s"
    )
    assert usual < 3 * fresh


@pytest.mark.e2e
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_a_few_times(make_site: Callable[..., Site], workers: int) -> None:
    killed(make_site, FEW, workers, seed=workers)


@pytest.mark.soak
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_five_hundred_times(make_site: Callable[..., Site], workers: int) -> None:
    killed(make_site, int(os.environ.get("KILLS", "500")) // 2, workers, seed=7 + workers)
