"""A backup of a server under load, put back and served by another one: nothing lost, no number given twice."""

from __future__ import annotations

import contextlib
import imaplib
import json
import os
import re
import shutil
import signal
import smtplib
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from mailsite import ALICE, BOB, DEADLINE, MAILCTL, PASSWORD, Site, letter, run, until

Mark = tuple[str, int, int]
"""Folder, UIDVALIDITY, UID."""


@contextlib.contextmanager
def imap(site: Site, user: str):
    session = imaplib.IMAP4_SSL(
        "localhost", site.ports["imaps"], ssl_context=site.tls, timeout=DEADLINE
    )
    try:
        session.login(user, PASSWORD)
        yield session
    finally:
        with contextlib.suppress(OSError, imaplib.IMAP4.error):
            session.logout()


def select(session: imaplib.IMAP4, folder: str) -> int:
    """UIDVALIDITY."""
    kind, _ = session.select(folder)
    assert kind == "OK"
    return int(session.response("UIDVALIDITY")[1][0])


def listed(session: imaplib.IMAP4, folder: str) -> dict[Mark, tuple[str, frozenset[bytes]]]:
    """Of each message: its subject, and its flags."""
    validity = select(session, folder)
    _, found = session.uid("FETCH", "1:*", "(UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    told = {}
    for part in found:
        if isinstance(part, tuple):
            head, text = part
            uid = int(re.search(rb"UID (\d+)", head)[1])
            flags = frozenset(re.search(rb"FLAGS \(([^)]*)\)", head)[1].split()) - {b"\\Recent"}
            told[folder, validity, uid] = (text.decode().strip().removeprefix("Subject: "), flags)
    return told


class Load:
    """Senders, one who files, one who fetches and deletes; until they are told to stop."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.promised: set[str] = set()
        self.deleted: set[str] = set()
        self.known: dict[Mark, str] = {}
        self.moved = 0
        self.fetched = 0
        self.wrong: list[BaseException] = []
        self._stop = threading.Event()
        work: list[Callable[[], None]] = [lambda: self._send(0), lambda: self._send(1)]
        work += [self._file, self._fetch]
        self._threads = [threading.Thread(target=self._guarded, args=(one,)) for one in work]
        for one in self._threads:
            one.start()

    def stop(self) -> None:
        self._stop.set()
        for one in self._threads:
            one.join(DEADLINE)
        assert not self.wrong, self.wrong

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.wrong.append(error)

    def _send(self, name: int) -> None:
        number = 0
        with self.site.smtp() as session:
            while not self._stop.wait(0.005):
                number += 1
                token = f"s{name}n{number}"
                size = 400_000 if number % 25 == 0 else 2000
                session.sendmail("carol@elsewhere.example", [ALICE, BOB], letter(token, size=size))
                self.promised.add(token)
                if number % 100 == 0:
                    with contextlib.suppress(smtplib.SMTPException):
                        session.rset()

    def _file(self) -> None:
        """To Work and back again, with flags; what the server says of UIDs is remembered."""
        with imap(self.site, ALICE) as session:
            while not self._stop.wait(0.01):
                for folder, to in (("INBOX", "Work"), ("Work", "INBOX")):
                    there = listed(session, folder)
                    for mark, (token, _) in there.items():
                        assert self.known.setdefault(mark, token) == token
                    uids = [str(uid) for _, _, uid in there][-6:-2]
                    if uids:
                        some = ",".join(uids)
                        session.uid("STORE", some, "+FLAGS", "(\\Seen $Work)")
                        session.uid("MOVE", some, to)
                        self.moved += len(uids)

    def _fetch(self) -> None:
        while not self._stop.wait(0.05):
            with self.site.pop(BOB) as session:
                count = session.stat()[0]
                for number in range(1, min(count, 4)):
                    lines = session.top(number, 0)[1]
                    token = next(x[9:].decode() for x in lines if x.startswith(b"Subject: "))
                    self.deleted.add(token)
                    session.dele(number)
                    self.fetched += 1


def inodes(path: Path) -> dict[int, int]:
    """Of the messages in a backup: inode → names."""
    found = {}
    for sub in ("new", "cur"):
        for one in path.glob(f"data/mail/**/{sub}/*"):
            found[one.stat().st_ino] = one.stat().st_nlink
    return found


def back_up(site: Site, to: Path, *words: str) -> Path:
    return Path(json.loads(site.mailctl("backup", str(to), "--json", *words).stdout)["path"])


def killed_amid_a_backup(site: Site, to: Path) -> bool:
    """Whether it was; one that was done before is taken away."""
    known = set(to.iterdir())
    command = [str(MAILCTL), "--config", str(site.config), "backup", str(to), "--full"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: list(to.glob("*.partial")) or process.poll() is not None, "it has begun")
    process.send_signal(signal.SIGKILL)
    process.wait(DEADLINE)
    assert process.returncode in (0, -signal.SIGKILL)
    done = [one for one in set(to.iterdir()) - known if one.suffix != ".partial"]
    for one in done:
        shutil.rmtree(one)
    return not done


@pytest.mark.e2e
def test_a_backup_under_load_is_served_by_another_machine(make_site, tmp_path: Path) -> None:
    site: Site = make_site(extra='[dns]\nservers = ["127.0.0.1:9"]\n')
    site.top = "workers = 2\n"
    site.write_configuration()
    site.start()
    to = tmp_path / "backups"
    with imap(site, ALICE) as session:
        for folder in ("Work", "Archive"):
            session.create(folder)
            session.subscribe(folder)
        for number in range(20):
            session.append("Archive", "(\\Seen $Old)", None, letter(f"old{number}"))
        archive = listed(session, "Archive")
        lsub = sorted(session.lsub()[1])
    load = Load(site)
    try:
        until(lambda: len(load.promised) > 80 and load.moved > 20 and load.fetched, "load")
        first = back_up(site, to)
        promised, deleted_before = set(load.promised), set(load.deleted)
        before = len(load.promised)
        until(lambda: len(load.promised) > before + 40, "more of it")
        promised = set(load.promised)
        second = back_up(site, to)
        # A third one is killed; how far it came is by chance.
        until(lambda: killed_amid_a_backup(site, to), "one is killed before it is done")
        moved, fetched = load.moved, load.fetched
        before = len(load.promised)
        until(lambda: len(load.promised) > before + 20, "the server has noticed nothing")
        until(lambda: load.moved > moved and load.fetched > fetched, "nor have its clients")
    finally:
        load.stop()
    assert deleted_before <= load.deleted
    site.mailctl("backup", str(first), "--verify")
    site.mailctl("backup", str(second), "--verify")
    # What both have takes no room
    both = inodes(first).keys() & inodes(second).keys()
    assert len(both) > 60
    assert all(inodes(second)[one] >= 2 for one in both)
    site.kill()

    other: Site = make_site("other", extra='[dns]\nservers = ["127.0.0.1:9"]\n')
    run(["rm", "-r", other.data])
    other.mailctl("restore", str(second), "--data", str(other.data))
    other.start()
    with imap(other, ALICE) as session:
        assert listed(session, "Archive") == archive
        assert sorted(session.lsub()[1]) == lsub
        found = {**listed(session, "INBOX"), **listed(session, "Work")}
        tokens = [token for token, _ in found.values()]
        assert len(tokens) == len(set(tokens)), "a message is there twice"
        assert not promised - set(tokens), "answered with 250 before it began, and lost"
        for mark, (token, _) in found.items():
            assert load.known.get(mark, token) == token, "a UID of another message"
        same = sum(mark in load.known for mark in found)
        assert same > 40, "hardly any has the UID that it had"
        # New ones get numbers that nobody had
        other.send("after it")
        new = {**listed(session, "INBOX")}.keys() - found.keys()
        assert len(new) == 1 and not new & load.known.keys()
    tokens = other.subjects(BOB)
    assert len(tokens) == len(set(tokens))
    assert not promised - load.deleted - set(tokens)
    other.stop()

    # The killed one is cleared away, and another flipped byte is found
    last = back_up(site, to, "--keep", "2")
    assert sorted(one.name for one in to.iterdir()) == [".lock", second.name, last.name]
    letter_file = next(one for one in last.glob("data/mail/**/cur/*") if "Archive" in str(one))
    with letter_file.open("r+b") as file:
        file.seek(100)
        byte = file.read(1)
        file.seek(100)
        file.write(bytes([byte[0] ^ 1]))
    said = site.mailctl("backup", str(to), "--verify", status=1)
    assert "damaged" in said.stdout and "is not what was written" in said.stderr
    refused = site.mailctl("restore", str(to), "--data", str(tmp_path / "no"), status=1)
    assert "is damaged or gone" in refused.stderr
    assert os.listdir(tmp_path / "no")
