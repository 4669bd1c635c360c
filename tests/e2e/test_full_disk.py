"""A small ext4 without room for another byte, or another file: what each protocol says, and that it ends with the want.

Nothing that was answered is lost; reading and deleting go on; when there is room again all goes on, without a restart.
"""

from __future__ import annotations

import errno
import imaplib
import os
import poplib
import re
import shutil
import smtplib
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from imapsite import imap, listed, ok, subjects
from mailsite import ALICE, BOB, Site, letter, run, until

pytestmark = [pytest.mark.e2e, pytest.mark.needs("mkfs.ext4")]

MIB = 1 << 20
SIZE = 40 * MIB
INODES = 600
NO_ROOM = b"nsufficient system storage"


class SmallDisk:
    """ext4 in a file, mounted at `place`; `fill` leaves no room for another byte, or another file."""

    def __init__(self, place: Path, what: str) -> None:
        self.place = place
        self._what = what
        self._filler = place / "filler"
        self._files = 0
        image = place.with_name(place.name + ".ext4")
        place.mkdir()
        with image.open("wb") as file:
            file.truncate(SIZE)
        run(["mkfs.ext4", "-q", "-F", "-m", "0", "-N", str(INODES), image])
        done = subprocess.run(["mount", "-o", "loop", image, place], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no small disk can be mounted: {done.stderr.strip()}")

    def fill(self, leave: int = 0) -> None:
        """Leave so many bytes, or files. 0: to the last one."""
        self._filler.mkdir(exist_ok=True)
        if self._what == "inodes":
            while self.left > leave and self._another():
                pass
            return
        fd = os.open(self._filler / "large", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            for size in (MIB, 16384, 4096, 1):
                while self.left > leave + (size if leave else 0):
                    try:
                        os.write(fd, b"x" * size)
                    except OSError as error:
                        if error.errno != errno.ENOSPC:
                            raise
                        break
                os.fsync(fd)
        finally:
            os.close(fd)

    def _another(self) -> bool:
        self._files += 1
        try:
            path = self._filler / str(self._files)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False
        return True

    @property
    def left(self) -> int:
        space = os.statvfs(self.place)
        return space.f_favail if self._what == "inodes" else space.f_bavail * space.f_frsize

    @property
    def some(self) -> int:
        """Less than the server keeps for itself, and takes no mail for."""
        return 60 if self._what == "inodes" else 900_000

    def make_room(self) -> None:
        shutil.rmtree(self._filler)

    def close(self) -> None:
        run(["umount", "-l", self.place])


class Refusing(socketserver.ThreadingTCPServer):
    """A site that takes no mail, for good."""

    daemon_threads = True
    asked = 0

    class _Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            assert isinstance(self.server, Refusing)
            self.wfile.write(b"220 no.example\r\n")
            for line in self.rfile:
                verb = line[:4].upper()
                if verb == b"RCPT":
                    self.server.asked += 1
                    self.wfile.write(b"550 5.1.1 Nobody here\r\n")
                elif verb == b"QUIT":
                    self.wfile.write(b"221 Bye\r\n")
                    return
                else:
                    self.wfile.write(b"250 no.example\r\n")

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), self._Session)
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture
def refusing() -> Iterator[Refusing]:
    server = Refusing()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["bytes", "inodes"])
def small(
    request: pytest.FixtureRequest, tmp_path: Path, accounts: Path, refusing: Refusing
) -> Iterator[tuple[Site, SmallDisk]]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")  # nothing that could be installed
    with ExitStack() as stack:
        disk = SmallDisk(tmp_path / "disk", request.param)
        stack.callback(disk.close)
        port = refusing.server_address[1]
        site = Site(
            disk.place / "site",
            '[dns]\nservers = ["127.0.0.1:9"]\n[queue]\nretry_first_seconds = 1\nretry_max_seconds = 1\n'
            f'[[routes]]\ndomain = "far.example"\nvia = "smtp://127.0.0.1:{port}"\ntls = "none"\n',
        )
        stack.callback(site.close)
        # the log lies elsewhere, as it does on most sites
        site.log_file.symlink_to(tmp_path / "server.log")
        shutil.copytree(accounts, site.data)
        site.start()
        yield site, disk


def refused(site: Site, send: Callable[[], object]) -> bool:
    """Whether it was answered 452, as it has to be, or taken."""
    try:
        send()
    except smtplib.SMTPRecipientsRefused as error:
        codes = {code for code, _ in error.recipients.values()}
    except smtplib.SMTPResponseException as error:
        assert b"4.3.1" in error.smtp_error and NO_ROOM in error.smtp_error, error
        codes = {error.smtp_code}
    else:
        return False
    assert codes == {452}, codes
    return True


def filled(site: Site, disk: SmallDisk, leave: int) -> list[str]:
    """Fill the disk until no mail is taken; what was taken meanwhile."""
    taken: list[str] = []
    for number in range(200):
        disk.fill(leave)
        name = f"meanwhile {number}"
        if refused(site, lambda name=name: site.send(name)):
            return taken
        taken.append(name)
    raise AssertionError("it is never full")


def test_what_each_protocol_does_when_there_is_no_room(
    small: tuple[Site, SmallDisk], refusing: Refusing
) -> None:
    site, disk = small
    wanted = [f"before {number}" for number in range(6)]
    for subject in wanted:
        site.send(subject, to=[ALICE, BOB])
    with imap(site) as session:
        ok(session.create("Target"))
    wanted += filled(site, disk, disk.some)
    in_alice, in_bob = set(wanted), {one for one in wanted if one.startswith("before")}

    # SMTP and submission: 452, small and large
    assert refused(site, lambda: site.send("small"))
    with site.smtp() as session:
        large = letter("large", size=2 * MIB)
        assert refused(site, lambda: session.sendmail("c@elsewhere.example", [ALICE], large))
        # the connection is good for more
        assert session.noop()[0] == 250
    with site.smtp(ALICE) as session:
        text = letter("out", sender=ALICE)
        assert refused(site, lambda: session.sendmail(ALICE, ["dave@far.example"], text))

    # IMAP: what needs room is NO in words of its own, what does not is done
    with imap(site, folder="INBOX") as session:
        status, said = session.append("INBOX", None, None, letter("appended"))
        assert status == "NO" and NO_ROOM in said[0] and b"Errno" not in said[0], said
        status, said = session.append("INBOX", None, None, letter("appended", size=MIB))
        assert status == "NO" and NO_ROOM in said[0], said
        there = {subject: uid for uid, (_, subject) in listed(session).items()}
        assert set(there) == in_alice
        first = str(there["before 0"])
        (whole, *_) = ok(session.uid("FETCH", first, "(BODY.PEEK[])"))
        assert b"This is before 0." in whole[1]
        status, said = session.uid("COPY", first, "Target")
        assert status == "OK" or (status == "NO" and NO_ROOM in said[0]), said
        copied = status == "OK"
        ok(session.uid("STORE", first, "+FLAGS", r"(\Flagged)"))
        # deleting is what makes room
        for subject in ("before 1", "before 2"):
            uid = str(there[subject])
            ok(session.uid("STORE", uid, "+FLAGS.SILENT", r"(\Deleted)"))
            ok(session.uid("EXPUNGE", uid))
            in_alice.discard(subject)
        ok(session.noop())
    assert set(subjects(site)) == in_alice
    # and others, at the same time
    with site.pop(BOB) as pop:
        assert pop.stat()[0] == len(in_bob)
        assert b"This is before 0." in b"\n".join(pop.retr(1)[1])
        pop.dele(1)
    in_bob.discard("before 0")
    assert set(site.subjects(BOB)) == in_bob
    assert "Traceback" not in site.log

    # room again: all goes on by itself
    disk.make_room()
    until(lambda: not refused(site, lambda: site.send("after", to=[ALICE, BOB])), "mail is taken")
    in_alice.add("after")
    in_bob.add("after")
    with imap(site, folder="INBOX") as session:
        ok(session.append("INBOX", None, None, letter("appended again")))
        in_alice.add("appended again")
    with site.smtp(ALICE) as session:
        session.sendmail(ALICE, ["dave@far.example"], letter("out again", sender=ALICE))
    until(lambda: len(subjects(site)) == len(in_alice) + 1, "the bounce is there")
    for _ in range(2):
        found = subjects(site)
        assert len(found) == len(in_alice) + 1 and set(found) > in_alice
        assert set(site.subjects(BOB)) == in_bob
        assert subjects(site, "Target") == ["before 0"] * copied
        with imap(site, folder="INBOX") as session:
            flags, _ = next(one for one in listed(session).values() if one[1] == "before 0")
            assert r"\Flagged" in flags
        site.kill()
        site.start()


def test_what_waits_in_the_queue_waits_for_room(
    small: tuple[Site, SmallDisk], refusing: Refusing
) -> None:
    """The disk is full when a message is refused elsewhere: its bounce is not lost, and comes when there is room."""
    site, disk = small
    refusing.shutdown()
    with site.smtp(ALICE) as session:
        for number in range(3):
            text = letter(f"out {number}", sender=ALICE)
            session.sendmail(ALICE, ["dave@far.example"], text)
    filled(site, disk, disk.some)
    threading.Thread(target=refusing.serve_forever, daemon=True).start()
    until(lambda: refusing.asked >= 3, "they were refused")

    def bounces() -> list[str]:
        return [one for one in subjects(site) if re.search(r"(?i)undeliver|fail", one)]

    assert bounces() == []
    assert site.mailctl("queue", "list").stdout.count("dave@far.example") == 3
    disk.make_room()
    until(lambda: len(bounces()) == 3, lambda: f"three bounces: {subjects(site)}\n{site.log}")
    until(lambda: "dave@" not in site.mailctl("queue", "list").stdout, "the queue is empty")
    assert "Traceback" not in site.log


def test_another_program_fills_it_to_the_last_byte(small: tuple[Site, SmallDisk]) -> None:
    """Not even deleting may work then. Nobody is told anything wrong, nothing is lost, and it goes on by itself."""
    site, disk = small
    wanted = {f"before {number}" for number in range(4)}
    for subject in sorted(wanted):
        site.send(subject, to=[ALICE, BOB])
    wanted_by_bob = set(wanted)
    with imap(site, folder="INBOX") as opened:
        taken = filled(site, disk, 0)
        wanted |= set(taken)
        # what the server removes meanwhile is room again
        until(lambda: disk.fill() or disk.left == 0, "nothing is left")
        # a session that was there before
        assert opened.noop()[0] == "OK"
        status, said = opened.append("INBOX", None, None, letter("appended"))
        assert status == "NO" and NO_ROOM in said[0], said
        (whole, *_) = ok(opened.fetch("1", "(BODY.PEEK[])"))
        assert b"This is before 0." in whole[1]
        opened.store("1", "+FLAGS.SILENT", r"(\Deleted)")
        status, said = opened.expunge()
        if status == "OK":
            wanted.discard("before 0") if said != [None] else None
        else:
            assert NO_ROOM in said[0] or b"UNAVAILABLE" in said[0], said
    # and one that comes now: it is served, or told to come later
    try:
        with imap(site) as session:
            status, said = session.select("INBOX")
            assert status == "OK" or b"[UNAVAILABLE]" in said[0], said
    except imaplib.IMAP4.error as error:
        assert "[UNAVAILABLE]" in str(error)
    try:
        with site.pop(BOB) as pop:
            assert pop.stat()[0] == len(wanted_by_bob)
            pop.dele(1)
        wanted_by_bob.discard("before 0")
    except poplib.error_proto as error:
        assert b"SYS/TEMP" in error.args[0], error
    assert "Traceback" not in site.log
    disk.make_room()
    until(lambda: not refused(site, lambda: site.send("after", to=[ALICE, BOB])), "mail is taken")
    for _ in range(2):
        assert set(subjects(site)) == wanted | {"after"}
        assert set(site.subjects(BOB)) == wanted_by_bob | {"after"}
        site.kill()
        site.start()
