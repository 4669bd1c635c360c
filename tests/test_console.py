"""`console`: what the person at the terminal reads, and the log file."""

from __future__ import annotations

import os

import pytest

from twisted_mail.console import Console, LogFile
from twisted_mail.site import Owner


@pytest.fixture
def terminal(monkeypatch, tmp_path):
    """Files in place of standard output and standard error; their contents as they are now."""
    paths = tmp_path / "out", tmp_path / "err"
    with paths[0].open("w") as out, paths[1].open("w") as err:
        monkeypatch.setattr("sys.__stdout__", out)
        monkeypatch.setattr("sys.__stderr__", err)
        yield lambda: tuple(path.read_text() for path in paths)


def test_lines_and_complaints_come_out_at_once(terminal):
    console = Console()
    console.say(["user: alice@localhost", "ca: certs/ca.pem"])
    console.complain("smtp: cannot listen")
    assert terminal() == ("user: alice@localhost\nca: certs/ca.pem\n", "smtp: cannot listen\n")
    console.close()


def test_it_outlives_what_a_daemon_does_to_its_streams(terminal, monkeypatch):
    console = Console()
    monkeypatch.setattr("sys.__stdout__", None)
    console.say(["still there"])
    assert terminal()[0] == "still there\n"
    console.close()


def test_after_closing_nothing_is_said_and_nothing_fails(terminal):
    console = Console()
    for _ in range(2):
        console.close()
    console.say(["unheard"])
    assert terminal() == ("", "")


def test_a_closed_pipe_is_no_failure(monkeypatch):
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr("sys.__stdout__", stream)
        console = Console()
    os.close(reading)
    console.say(["nobody reads this"])
    console.close()


def test_without_streams(monkeypatch):
    monkeypatch.setattr("sys.__stdout__", None)
    monkeypatch.setattr("sys.__stderr__", None)
    console = Console()
    console.say(["unheard"])
    console.close()


def test_a_log_that_was_moved_away_goes_on_in_a_new_file(tmp_path):
    path = tmp_path / "twistd.log"
    log = LogFile(str(path))
    log.write("one\n")
    log.flush()
    path.rename(tmp_path / "twistd.log.1")
    log.reopen()
    log.write("two\n")
    log.flush()
    assert ((tmp_path / "twistd.log.1").read_text(), path.read_text()) == ("one\n", "two\n")
    assert path.stat().st_mode & 0o007 == 0
    log.close()


def test_a_log_that_cannot_be_opened_again_goes_on_in_the_old_file(tmp_path):
    directory = tmp_path / "log"
    directory.mkdir()
    log = LogFile(str(directory / "twistd.log"))
    directory.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        log.reopen()
    log.write("one\n")
    log.flush()
    assert (tmp_path / "moved/twistd.log").read_text() == "one\n"
    log.close()


def test_a_new_log_belongs_to_who_the_process_will_be(tmp_path):
    """Else a SIGHUP could not open it again, once privileges are dropped."""
    owner = Owner(65534, 65534) if os.geteuid() == 0 else Owner(os.geteuid(), os.getegid())
    path = tmp_path / "twistd.log"
    LogFile(str(path), owner).close()
    assert (path.stat().st_uid, path.stat().st_gid) == (owner.uid, owner.gid)


def test_a_log_that_is_there_keeps_its_owner(tmp_path):
    """A link in its place must not give away what it leads to."""
    (tmp_path / "precious").write_text("")
    path = tmp_path / "twistd.log"
    path.symlink_to(tmp_path / "precious")
    LogFile(str(path), Owner(65534, 65534)).close()
    assert (tmp_path / "precious").stat().st_uid == os.geteuid()


def test_what_the_old_file_does_not_take_does_not_end_the_log(tmp_path):
    path = tmp_path / "twistd.log"
    path.symlink_to("/dev/full")
    log = LogFile(str(path))
    log.write("lost\n")
    path.unlink()
    log.reopen()
    log.write("one\n")
    log.flush()
    assert path.read_text() == "one\n"
    log.close()
