"""Whatever the server and mailctl make is their user's alone, under any umask: files 0600, directories 0700."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from mailsite import ALICE, BOB, Site, letter, until
from workload import workload

pytestmark = pytest.mark.e2e

PUBLIC = {"certs", "certs/ca.pem", "certs/localhost.pem"}
"""What clients are to be given, and the way there."""
OURS = {"mail.toml", "server.log"}
"""What the test itself has made."""


def open_to_others(directory: Path) -> list[str]:
    """What others than the owner may touch: by mode, below a directory that says nothing."""
    found = []
    # not rglob: the server makes and removes files meanwhile
    paths = [
        Path(place, name) for place, *kinds in os.walk(directory) for kind in kinds for name in kind
    ]
    for path in sorted(paths):
        name = str(path.relative_to(directory))
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            continue
        if name not in PUBLIC | OURS and not stat.S_ISLNK(mode) and mode & 0o077:
            found.append(f"{name}: {stat.filemode(mode)}")
    return found


@pytest.fixture
def no_mask() -> Iterator[None]:
    """What is not asked for is not taken away: another mask could only take more."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_what_a_busy_site_makes(no_mask: None, tmp_path: Path) -> None:
    home = tmp_path / "site"
    home.mkdir(mode=0o700)
    site = Site(home, '[dns]\nservers = ["127.0.0.1:9"]\n')
    site.top = "workers = 1\n"
    site.write_configuration()
    site.config.chmod(0o600)
    site.add_users(ALICE, BOB)
    site.mailctl("dkim", "add", "example.org")
    site.mailctl("alias", "add", "both@example.org", ALICE, BOB)
    command = [*site.command]
    command[1:1] = ["--logfile", str(home / "twistd.log")]
    try:
        site.start(command)
        assert open_to_others(home) == []
        workload(site)
        site.send("for both", to=("both@example.org",))
        (home / "twistd.log").rename(home / "twistd.log.1")
        assert site.process is not None
        site.process.send_signal(signal.SIGHUP)
        until((home / "twistd.log").exists, "the log is opened again")
        exported = str(home / "exported")
        site.mailctl("export", "--user", ALICE, "--format", "maildir", exported)
        site.mailctl("user", "add", "carl@example.org", "--password-stdin", input="x y z\n")
        site.mailctl("import", "maildir", "--user", "carl@example.org", exported)
        site.mailctl("user", "remove", "carl@example.org", "--yes")
        site.mailctl("backup", str(home / "backup"))
        # while it runs: what is only there for a while, too
        with site.connect("smtp") as slow:
            dribble(slow)
            until(lambda: list((site.data / "journal" / "spill").iterdir()), "a spill file")
            assert open_to_others(home) == []
        site.stop()
    finally:
        site.close()
    site.mailctl("restore", str(home / "backup"), "--data", str(home / "restored"))
    assert open_to_others(home) == []
    # all of it was looked at
    kinds = {path.relative_to(home).parts[0] for path in home.rglob("*")}
    assert {"twistd.log", "twistd.log.1", "exported", "backup", "restored", "certs"} <= kinds
    data = {path.name for path in site.data.iterdir()}
    assert {"accounts.sqlite3", "dkim", "journal", "mail", "queue", "queue.sqlite3"} <= data
    assert {"removed", "processes", "stories.sqlite3", "site.json"} <= data
    assert stat.S_IMODE(site.data.stat().st_mode) == 0o700


def dribble(slow: socket.socket) -> None:
    """Most of a large message, whose end never comes."""
    slow.recv(1000)
    for line in (
        b"EHLO x",
        b"MAIL FROM:<far@away.example>",
        f"RCPT TO:<{ALICE}>".encode(),
        b"DATA",
    ):
        slow.sendall(line + b"\r\n")
        slow.recv(1000)
    slow.sendall(letter("slow", size=600_000))


def test_the_look_can_fail(tmp_path: Path) -> None:
    for name, mode in (("a", 0o640), ("b", 0o601), ("c", 0o600)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(0o711)
    assert [one.partition(":")[0] for one in open_to_others(tmp_path)] == ["a", "b", "d"]
