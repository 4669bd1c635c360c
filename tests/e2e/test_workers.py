"""A site of several processes: a real twistd with workers, their ends, and what clients notice of it."""

from __future__ import annotations

import imaplib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from mailsite import ALICE, BOB, DEADLINE, PASSWORD, Site, letter, until
from many import Senders, alive, by_worker, children_of, pids_gone, serving, settled, zygote_of

pytestmark = pytest.mark.e2e


@pytest.fixture
def site(make_site):
    """A running site with two workers."""
    site = make_site(extra=EXTRA)
    site.top = "workers = 2\n"
    site.write_configuration()
    site.start()
    until(lambda: len(serving(site)) == 2, "two workers serve")
    # those who looked whether it serves are not to be counted with those who come now
    until(lambda: settled(site), "nobody is connected")
    return site


EXTRA = "[checks]\nenabled = false\n[limits]\nconnections_per_address = 2000\nconnections = 3000\n"


def check_mail(site, senders):
    """What was answered 250 is there once; nothing is there that nobody sent, nor twice."""
    found = site.subjects()
    assert len(found) == len(set(found))
    assert set(senders.promised) <= set(found)
    assert set(found) <= set(senders.begun)


def hold(site, count=20, listener="smtp"):
    """Connections that have been greeted."""
    made = [site.connect(listener) for _ in range(count)]
    for one in made:
        assert one.recv(1)
    return made


def close(connections):
    for one in connections:
        one.close()


# Who serves


def test_two_processes_serve_and_the_first_one_does_not(site):
    before = len(site.log)
    held = hold(site)
    until(lambda: sum(by_worker(site.log[before:]).values()) >= 20, "all are in the log")
    counts = by_worker(site.log[before:])
    assert len(counts) == 2 and min(counts.values()) >= 8, counts
    close(held)
    site.send("hello")
    assert site.subjects() == ["hello"]
    site.stop()


@pytest.fixture
def many_files():
    """Some systems let a process have a thousand open, and no more, unless it asks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, 4096) if hard == resource.RLIM_INFINITY else max(soft, min(hard, 4096))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_at_once_are_let_in_evenly(site, many_files):
    before = len(site.log)
    made = []
    for _ in range(1000):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", site.ports["smtp"]))
        made.append(one)
    for one in made:
        one.setblocking(True)
        one.settimeout(DEADLINE)
        assert one.recv(1)
    until(lambda: sum(by_worker(site.log[before:]).values()) >= 1000, "all are in the log")
    counts = by_worker(site.log[before:])
    assert min(counts.values()) >= 400, counts
    close(made)


def test_what_one_worker_does_an_idle_session_on_another_hears(site):
    sessions = {}
    held = []
    while len(sessions) < 2:
        assert len(held) < 10
        before = len(site.log)
        session = imaplib.IMAP4_SSL(
            "localhost", site.ports["imaps"], ssl_context=site.tls, timeout=DEADLINE
        )
        held.append(session)
        session.login(ALICE, PASSWORD)
        until(lambda before=before: "logged in" in site.log[before:], "the login is in the log")
        found = re.search(r"logged in .*worker=(\d+)", site.log[before:])
        sessions.setdefault(found[1], session)
    idle, busy = sessions.values()
    idle.select()
    busy.select()
    idle.send(b"x IDLE\r\n")
    assert idle.readline().startswith(b"+")
    site.send("for both")
    until_heard(idle, b"1 EXISTS")
    busy.noop()
    busy.store("1", "+FLAGS", r"(\Flagged)")
    until_heard(idle, b"Flagged")
    busy.store("1", "+FLAGS", r"(\Deleted)")
    busy.expunge()
    until_heard(idle, b"1 EXPUNGE")
    for session in held:
        session.shutdown()


def until_heard(session, words):
    """Read lines until one has these words; the session's time-out is the deadline."""
    while words not in session.readline():
        pass


# Who dies


def test_the_death_of_a_worker_costs_its_own_connections_only(site):
    senders = Senders(site)
    senders.until(50)
    held = hold(site)
    victim, other = serving(site)[:2]
    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    until(lambda: any(pid not in (victim, other) for pid in serving(site)), "another one serves")
    took = time.monotonic() - began
    senders.until(50)
    senders.stop()
    senders.check()
    alive_ones = [one for one in held if answers(one)]
    assert 8 <= len(alive_ones) <= 12, len(alive_ones)
    close(held)
    assert "was ended by SIGKILL" in site.log
    assert alive(other)
    check_mail(site, senders)
    # Its time is measured, and not what this test is about: the machine may have much else to do.
    print(f"another one served after {took:.3f} s")
    site.stop()


def answers(connection):
    try:
        connection.sendall(b"NOOP\r\n")
        connection.settimeout(DEADLINE)
        found = b""
        while b"250 " not in found:
            block = connection.recv(1000)
            if not block:
                return False
            found += block
        return True
    except OSError:
        return False


def test_the_death_of_the_first_process_ends_all_and_loses_nothing(site):
    senders = Senders(site)
    senders.until(50)
    everybody = children_of(site)
    assert len(everybody) >= 2
    site.kill()
    until(lambda: pids_gone(everybody), "nobody is left")
    senders.stop()
    site.start()
    check_mail(site, senders)
    site.stop()


def test_the_death_of_the_zygote_costs_no_connection(site):
    before, zygote = serving(site), zygote_of(site)
    assert zygote not in before
    senders = Senders(site)
    senders.until(50)
    held = hold(site)
    os.kill(zygote, signal.SIGKILL)
    until(lambda: "the zygote was ended by SIGKILL; its workers go on" in site.log, "it is said")
    senders.until(50)
    assert all(answers(one) for one in held)
    close(held)
    assert serving(site) == before
    # Who has no parent any more is replaced as others are.
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(set(serving(site)) - {before[0]}) == 2, "another one serves")
    assert zygote_of(site) != zygote
    senders.until(50)
    senders.stop()
    senders.check()
    check_mail(site, senders)
    assert "Traceback" not in site.log
    site.stop()


def test_sigterm_to_one_worker_is_its_end_only(site):
    first = serving(site)[0]
    os.kill(first, signal.SIGTERM)
    until(lambda: not alive(first) and len(serving(site)) == 2, "another one serves")
    site.send("hello")
    site.stop()


# What the operator does


def test_sigterm_lets_all_come_to_an_end(site):
    senders = Senders(site)
    senders.until(50)
    everybody = children_of(site)
    with site.smtp() as session:
        session.ehlo()
        session.mail("carol@elsewhere.example")
        session.rcpt(ALICE)
        session.putcmd("data")
        assert session.getreply()[0] == 354
        site.process.send_signal(signal.SIGTERM)
        until(lambda: "stopping" in site.log, "it stops")
        session.send(letter("in the middle") + b".\r\n")
        assert session.getreply()[0] == 250
        session.close()
    site.wait_until_ended()
    senders.stop()
    # The zygote goes last; nobody waits for that one.
    until(lambda: pids_gone(everybody), "nobody is left")
    senders.begun.append("in the middle")
    senders.promised.append("in the middle")
    assert "Traceback" not in site.log
    site.start()
    check_mail(site, senders)


def size_of(site):
    with site.smtp() as session:
        session.ehlo()
        session.close()  # who drains answers QUIT with 421
        return session.esmtp_features.get("size")


def test_a_new_configuration_is_taken_up_under_load(site):
    senders = Senders(site)
    senders.until(50)
    before = set(serving(site))
    for size in ("1000000", "2000000"):
        site.extra = f"{EXTRA}[smtp]\nmax_message_bytes = {size}\n"
        site.write_configuration()
        site.process.send_signal(signal.SIGHUP)
        until(lambda size=size: size_of(site) == size, f"new ones are told SIZE {size}")
        senders.until(50)
    until(lambda: pids_gone(before), "the old workers are gone")
    senders.until(50)
    senders.stop()
    senders.check()
    check_mail(site, senders)
    assert "Traceback" not in site.log
    site.stop()


def test_an_invalid_configuration_changes_nothing(site):
    before = serving(site)
    site.extra = EXTRA + "[smtp]\nmax_message_bytes = 5\n"
    site.write_configuration()
    site.process.send_signal(signal.SIGHUP)
    until(lambda: "the new configuration cannot be used" in site.log, "the log says so")
    assert "max_message_bytes = 5: must be at least 65536" in site.log
    assert serving(site) == before
    site.send("still here")
    site.stop()


def test_what_counts_after_a_restart_only_is_named(site):
    before = serving(site)
    site.top = "workers = 3\n"
    site.write_configuration()
    site.process.send_signal(signal.SIGHUP)
    until(lambda: "restart the server for that" in site.log, "the log says so")
    assert re.search(r"warn workers cannot be changed while it runs", site.log)
    assert serving(site) == before
    site.stop()


def test_a_worker_that_cannot_serve_leaves_the_old_ones_in_place(site):
    before = serving(site)
    password = site.directory / "password"
    password.write_text("x\n")
    table = '[[filters]]\nkind = "rspamd"\nendpoint = "unix:/r"\npassword_file = "password"\n'
    site.extra = EXTRA + table + 'name = "one"\n[auth]\ncheckers = ["nonsense:x"]\n'
    site.write_configuration()
    site.process.send_signal(signal.SIGHUP)
    until(lambda: "the new configuration cannot be used" in site.log, "the log says so")
    assert serving(site) == before
    site.send("still here")
    site.stop()


def test_the_log_goes_to_one_file_and_is_opened_again_by_all(make_site):
    site = make_site(extra=EXTRA)
    site.top = "workers = 2\n"
    site.write_configuration()
    log = site.directory / "mail.log"
    site.start([*site.command[:2], "--pidfile=", f"--logfile={log}", *site.command[3:]])
    until(lambda: log.read_text().count(" serves pid=") == 2, "two workers serve")
    log.rename(site.directory / "mail.log.1")
    site.process.send_signal(signal.SIGHUP)
    until(
        lambda: log.exists() and log.read_text().count("certificates read") == 3, "all go on in it"
    )
    held = hold(site)
    until(lambda: sum(by_worker(log.read_text()).values()) >= 20, "all of them are in it")
    assert len(by_worker(log.read_text())) == 2
    close(held)
    site.stop()


def everybody_may_run_python():
    """Whether user 65534 can start what this process runs in."""
    try:
        command = [sys.executable, "-c", "import twisted_mail"]
        return subprocess.run(command, user=65534, capture_output=True, cwd="/").returncode == 0
    except PermissionError:
        return False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_privileges_are_dropped_by_all():
    alone = not everybody_may_run_python()
    # not in tmp_path, which only its owner may enter
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        site = Site(directory / "site", EXTRA)
        site.top = "workers = 2\n"
        site.directory.chmod(0o755)
        try:
            site.ports["smtp"] = next(port for port in range(700, 1024) if unused(port))
            site.write_configuration()
            log = site.directory / "mail.log"
            site.start(
                [
                    *site.command[:2],
                    "--pidfile=",
                    f"--logfile={log}",
                    "--uid=65534",
                    "--gid=65534",
                    *site.command[3:],
                ]
            )
            if alone:
                assert "this process serves alone" in log.read_text()
            else:
                until(lambda: log.read_text().count(" serves pid=") == 2, "two workers serve")
                assert len(children_of(site)) >= 2
            for pid in {site.process.pid, *children_of(site)}:
                status = Path(f"/proc/{pid}/status").read_text()
                assert "\nUid:\t65534\t65534\t65534\t65534\n" in status
            site.add_users(ALICE)
            site.send("to nobody's server")
            assert site.subjects() == ["to nobody's server"]
            site.stop()
        finally:
            site.close()


def unused(port):
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def test_mail_for_elsewhere_is_taken_up_by_the_one_who_runs_the_queue(site):
    with site.smtp(BOB) as session:
        session.sendmail(BOB, ["dave@elsewhere.example"], letter("out", sender=BOB))
    until(
        lambda: any("recipient=dave@elsewhere.example" in line and "worker=" not in line
                    for line in site.log.splitlines()),
        "the first process has tried it",
    )  # fmt: skip
    site.stop()
