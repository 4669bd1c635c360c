"""What IMAP answered OK is kept: the server is killed in the middle, the disk is full, readers do not read."""

from __future__ import annotations

import imaplib
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from imapsite import Wire, imap, ok, subjects, uids
from mailsite import ALICE, BOB, DEADLINE, PASSWORD, Site, letter, run, until
from test_memory import Peak

pytestmark = pytest.mark.e2e

MIB = 1 << 20


class Worker:
    """Does something again and again until the server is killed; `promised` is what was answered OK."""

    def __init__(
        self, site: Site, step: Callable[[imaplib.IMAP4, int, Worker], None], first: int = 0
    ) -> None:
        self.first = first
        self.promised: list[str] = []
        self.begun: list[str] = []
        self.failure: BaseException | None = None

        def work() -> None:
            number = 0
            try:
                with imap(site, folder="INBOX") as session:
                    while True:
                        step(session, number, self)
                        number += 1
            except (OSError, imaplib.IMAP4.abort, ssl.SSLError, EOFError):
                pass  # the server was killed under us
            except BaseException as error:
                self.failure = error

        self.thread = threading.Thread(target=work)
        self.thread.start()


def kill_when(site: Site, workers: list[Worker], count: int) -> None:
    until(
        lambda: (
            sum(len(worker.promised) for worker in workers) >= count
            or any(worker.failure for worker in workers)
        ),
        f"{count} are promised",
        2 * DEADLINE,
    )
    site.kill()
    for worker in workers:
        worker.thread.join(DEADLINE)
        assert worker.failure is None, worker.failure
    site.start()


def test_kill_amid_appends(site):
    def step(session, number, worker):
        subject = f"worker {worker.first} message {number}"
        size = 400_000 if number % 7 == 0 else 3000
        worker.begun.append(subject)
        ok(session.append("INBOX", r"(\Seen)", None, letter(subject, size=size)))
        worker.promised.append(subject)

    workers = [Worker(site, step, first) for first in range(6)]
    kill_when(site, workers, 120)
    found = subjects(site)
    assert len(found) == len(set(found))
    assert {one for worker in workers for one in worker.promised} <= set(found)
    assert set(found) <= {one for worker in workers for one in worker.begun}
    # whole, each of them
    with imap(site, folder="INBOX") as session:
        for uid in uids(session):
            (whole, *_) = ok(session.uid("FETCH", str(uid), "(BODY.PEEK[])"))
            subject = whole[1].partition(b"Subject: ")[2].partition(b"\r\n")[0].decode()
            size = 400_000 if int(subject.split()[-1]) % 7 == 0 else 3000
            assert whole[1] == letter(subject, size=size)


@pytest.mark.parametrize("verb", ["MOVE", "COPY"])
def test_kill_amid_moves_and_copies(site, verb):
    """Each message is where the last OK said, once; one that was under way is here or there, not both, not gone."""
    wanted = [f"message {number}" for number in range(200)]
    with imap(site) as session:
        ok(session.create("Target"))
        for subject in wanted:
            ok(session.append("INBOX", None, None, letter(subject)))

    def step(session, number, worker):
        uid = worker.first + number
        if uid >= worker.first + 50:
            raise EOFError
        worker.begun.append(f"message {uid - 1}")
        ok(session.uid(verb, str(uid), "Target"))
        worker.promised.append(f"message {uid - 1}")

    workers = [Worker(site, step, first) for first in (1, 51, 101, 151)]
    kill_when(site, workers, 60)
    here, there = subjects(site), subjects(site, "Target")
    assert len(there) == len(set(there))
    assert {one for worker in workers for one in worker.promised} <= set(there)
    assert set(there) <= {one for worker in workers for one in worker.begun}
    if verb == "MOVE":
        assert sorted(here + there) == sorted(wanted)
    else:
        assert here == wanted


def test_kill_amid_expunges(site):
    wanted = [f"message {number}" for number in range(200)]
    with imap(site) as session:
        for subject in wanted:
            ok(session.append("INBOX", r"(\Deleted)", None, letter(subject)))

    def step(session, number, worker):
        if number >= 100:
            raise EOFError
        ok(session.uid("EXPUNGE", str(number + 1)))
        worker.promised.append(f"message {number}")

    worker = Worker(site, step)
    kill_when(site, [worker], 60)
    found = subjects(site)
    done = len(worker.promised)
    # one more may have been under way
    assert found in (wanted[done:], wanted[done + 1 :])


# A disk that is full


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 24 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted: {done.stderr.strip()}")
    yield place
    run(["umount", "-l", place])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_append_to_a_full_disk_is_no_and_the_connection_lives(small_disk, accounts):
    site = Site(small_disk / "site")
    shutil.copytree(accounts, site.data)
    site.start()
    try:
        with imap(site, folder="INBOX") as session:
            ok(session.append("INBOX", None, None, letter("before")))
            answers = []
            for number in range(8):
                status, said = session.append(
                    "INBOX", None, None, letter(f"large {number}", size=5 * MIB)
                )
                answers.append(status)
                if status != "OK":
                    break
            assert status == "NO", answers
            assert said[0].strip(), said
            # there are words for it, and nothing of our inside
            assert b"Errno" not in said[0]
            assert b"nsufficient system storage" in said[0], said
            # it lives on: reads, and takes what fits when there is room again
            assert b"Subject: before" in ok(session.fetch("1", "(BODY.PEEK[HEADER])"))[0][1]
            ok(session.store("1:*", "+FLAGS", r"(\Deleted)"))
            ok(session.noop())
        assert "Traceback" not in site.log
        before = subjects(site)
        site.kill()
        site.start()
        assert subjects(site) == before
    finally:
        site.close()


# A reader who does not read


def test_fifty_megabytes_that_nobody_takes(site):
    with imap(site) as session:
        for number in range(2):
            text = letter(f"large {number}", size=48 * MIB)
            ok(session.append("INBOX", None, None, text))
    with Peak(site) as peak, Wire(site) as lazy:
        lazy.login()
        lazy.do(b"SELECT INBOX")
        lazy.send(b"".join(b"x%d FETCH 1:2 (BODY.PEEK[])\r\n" % number for number in range(20)))
        # others go on meanwhile
        for number in range(20):
            site.send(f"meanwhile {number}")
        with imap(site, folder="INBOX") as other:
            assert len(uids(other)) == 22
    # 40 times 48 MiB were asked for; one is in memory while its structure is found out
    assert peak.grown < 64 * MIB, peak.grown
    with Wire(site) as wire:
        wire.login()
        wire.do(b"SELECT INBOX")
        wire.do(b"FETCH 1:2 (BODYSTRUCTURE)")
    with Peak(site) as peak, Wire(site) as lazy:
        lazy.login()
        lazy.do(b"SELECT INBOX")
        lazy.send(b"".join(b"x%d FETCH 1:2 (BODY.PEEK[])\r\n" % number for number in range(20)))
        for number in range(20):
            site.send(f"meanwhile {number}")
    assert peak.grown < 6 * MIB, peak.grown
    assert len(subjects(site)) == 42


def test_large_messages_of_many_accounts_are_looked_at_one_by_one(site):
    """The first FETCH of a message finds out its structure, in memory; not of all of them at once."""
    users = [ALICE, BOB, "carl@example.org", "dora@example.org"]
    for user in users[2:]:
        site.mailctl("user", "add", user, "--password-stdin", input=PASSWORD + "\n")
    for user in users:
        with imap(site, user) as session:
            ok(session.append("INBOX", None, None, letter("large", size=48 * MIB)))
    with ExitStack() as open_wires:
        wires = [open_wires.enter_context(Wire(site)) for _ in users]
        for user, wire in zip(users, wires, strict=True):
            wire.login(user)
            wire.do(b"SELECT INBOX")
        with Peak(site) as peak:
            for wire in wires:
                wire.send(b"x FETCH 1 (BODYSTRUCTURE)\r\n")
            for wire in wires:
                assert wire.until_tagged(b"x")[-1].startswith(b"x OK")
    assert peak.grown < 80 * MIB, peak.grown


def test_an_append_of_fifty_megabytes_streams(site):
    text = letter("large", size=48 * MIB)
    with imap(site, folder="INBOX") as session:
        with Peak(site) as peak:
            ok(session.append("INBOX", None, None, text))
        assert peak.grown < 12 * MIB, peak.grown
        (whole, *_) = ok(session.fetch("1", "(BODY.PEEK[])"))
        assert whole[1] == text
        # and more than is allowed is refused before it is sent
        session.send(b"big APPEND INBOX {60000000}\r\n")
        assert session.readline().startswith(b"big NO [TOOBIG]")
        ok(session.noop())


def test_many_who_log_in_and_never_say_anything(site):
    wires = [Wire(site) for _ in range(30)]
    try:
        for wire in wires[:10]:
            wire.login()
        site.send("still served")
        assert subjects(site, user=ALICE) == ["still served"]
    finally:
        for wire in wires:
            wire.__exit__()
