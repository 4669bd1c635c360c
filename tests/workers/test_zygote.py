"""`workers.zygote`: a fork server, with children that say what they have and end as they are told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from twisted_mail.workers import zygote
from twisted_mail.workers.zygote import receive, send

DEADLINE = 30
PROGRAM = """
import json, os, random, signal, socket, sys
from twisted_mail.workers.zygote import serve
{before}

def begin():
    control = socket.socket(fileno=3)
    control.send(json.dumps((sorted(map(int, os.listdir("/proc/self/fd")))[:-1], random.random())).encode())
    word = control.recv(100)
    if word == b"raise":
        raise KeyError("unforeseen")
    if word:
        os._exit(int(word))

random.random()
serve(socket.socket(fileno=int(sys.argv[1])), begin)
"""


class Server:
    """A process that serves, and its parent's end."""

    def __init__(self, before=""):
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.settimeout(DEADLINE)
        code = PROGRAM.format(before=before)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
        theirs.close()
        self.numbers = iter(range(1, 100))
        self.errors = os.open(os.devnull, os.O_RDWR)
        assert receive(self.channel) == (["ready"], [])

    def ask(self, more=()):
        """The number of a child that is asked for, and its control channel."""
        ours, theirs = socket.socketpair()
        ours.settimeout(DEADLINE)
        descriptors = [self.errors, self.errors, self.errors, theirs.fileno(), *more]
        number = next(self.numbers)
        send(self.channel, ["fork", number, len(descriptors)], descriptors)
        theirs.close()
        return number, ours

    def fork(self, more=()):
        """A child: its number, pid, pidfd and control channel."""
        number, control = self.ask(more)
        (word, *rest), (pidfd,) = receive(self.channel)
        assert word == "forked" and rest[0] == number
        return number, rest[1], pidfd, control

    def close(self):
        os.close(self.errors)
        self.channel.close()
        self.process.wait(DEADLINE)


@pytest.fixture
def make():
    made = []

    def make_server(before=""):
        made.append(Server(before))
        return made[-1]

    yield make_server
    for one in made:
        one.close()


def test_the_end_of_a_child_is_told_with_its_status(make):
    server = make()
    first, _, pidfd, control = server.fork()
    second, _, other, last = server.fork()
    control.send(b"7")
    (word, number, status), _ = receive(server.channel)
    assert (word, number, zygote.how_it_ended(status)) == ("ended", first, "ended with 7")
    signal.pidfd_send_signal(other, signal.SIGKILL)
    (word, number, status), _ = receive(server.channel)
    assert (word, number, zygote.how_it_ended(status)) == ("ended", second, "was ended by SIGKILL")
    # It was waited for: the descriptor means nobody else.
    with pytest.raises(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    for one in (pidfd, other):
        os.close(one)
    for one in (control, last):
        one.close()


def test_a_child_that_fails_does_not_come_back(make):
    server = make()
    number, _, pidfd, control = server.fork()
    control.send(b"raise")
    words, _ = receive(server.channel)
    assert words == ["ended", number, 256]
    number, _, other, last = server.fork()
    assert last.recv(10_000)
    last.close()
    words, _ = receive(server.channel)
    assert words == ["ended", number, 0]
    control.close()
    os.close(pidfd)
    os.close(other)


def test_a_child_has_what_it_was_given_and_nothing_else(make):
    server = make("left = os.open('/', os.O_RDONLY)")
    first = server.fork()
    extra = os.open("/", os.O_RDONLY)
    more = [extra] * 250
    second = server.fork(more)
    first_has, first_number = json.loads(first[3].recv(10_000))
    second_has, second_number = json.loads(second[3].recv(10_000))
    # The last one was the list itself
    assert first_has == [0, 1, 2, 3] and second_has == list(range(4 + len(more)))
    # And its own chances
    assert first_number != second_number
    # The zygote keeps none of it: its own three, its channel, what it had open, and a pidfd for each child
    assert len(os.listdir(f"/proc/{server.process.pid}/fd")) == 3 + 2 + 2
    for _, _, pidfd, control in (first, second):
        os.close(pidfd)
        control.close()
    os.close(extra)


@pytest.mark.parametrize(
    ("before", "why"),
    [
        ("import twisted.internet.reactor", "the zygote has a reactor"),
        (
            "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
            "the zygote has another thread",
        ),
    ],
)
def test_what_cannot_be_copied_soundly_is_not_forked(make, before, why):
    server = make(before)
    number, control = server.ask()
    assert receive(server.channel) == (["refused", number, why], [])
    assert control.recv(1) == b""
    control.close()


def test_a_fork_that_fails_is_told(make):
    server = make("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))")
    number, control = server.ask(more=[server.errors] * 30)
    assert receive(server.channel) == (
        ["refused", number, "no room for its descriptors"],
        [],
    )
    control.close()
    *_, pidfd, control = server.fork()
    os.close(pidfd)
    control.close()


def test_it_ends_with_its_parent_and_its_children_live(make):
    server = make()
    _, _, pidfd, control = server.fork()
    server.channel.shutdown(socket.SHUT_RDWR)
    assert server.process.wait(DEADLINE) == 0
    assert control.recv(10_000)
    signal.pidfd_send_signal(pidfd, 0)
    control.close()
    os.close(pidfd)


# The real one


@pytest.fixture
def started():
    started = zygote.start_zygote(None)
    started.channel.settimeout(DEADLINE)
    assert receive(started.channel) == (["ready"], [])
    yield started
    if started.channel.fileno() >= 0:
        started.end()


def status_of(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: values.split() for name, _, values in (line.partition(":") for line in lines)}


def names(pid, descriptor):
    return os.readlink(f"/proc/{pid}/fd/{descriptor}")


def test_a_worker_has_its_parents_ways_and_none_of_its_signals(started, tmp_path):
    ours, theirs = socket.socketpair()
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    nowhere = os.open(os.devnull, os.O_RDWR)
    descriptors = [nowhere, log, log, theirs.fileno()]
    send(started.channel, ["fork", 1, len(descriptors)], descriptors)
    theirs.close()
    (_, _, pid), (pidfd,) = receive(started.channel)
    # It has closed all else when the log is there
    for _ in range(1_000_000):
        if names(pid, 2) == str(tmp_path / "log") and len(os.listdir(f"/proc/{pid}/fd")) == 4:
            break
    else:
        raise AssertionError(os.listdir(f"/proc/{pid}/fd"))
    status, own = status_of(pid), status_of("self")
    for same in ("Uid", "Gid", "Groups", "Umask", "Seccomp", "NoNewPrivs", "CapEff"):
        assert status[same] == own[same], same
    assert os.readlink(f"/proc/{pid}/cwd") == os.getcwd()
    assert int(status["PPid"][0]) == started.pid and status["Threads"] == ["1"]
    # Without its main process it ends: nobody is told what it is to be.
    ours.close()
    words, _ = receive(started.channel)
    assert words == ["ended", 1, 0]
    for one in (log, nowhere, pidfd):
        os.close(one)


def test_what_a_terminal_or_who_stops_a_service_sends_is_not_its_end(started):
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        os.kill(started.pid, number)
    # Those are delivered before this is
    send(started.channel, ["fork", 1, 0])
    assert receive(started.channel)[0][0] == "forked"
    # It holds nothing of its parent's but the channel.
    assert {names(started.pid, n) for n in range(3)} == {os.devnull}
    assert started.end() == "was ended by SIGKILL"


def test_its_imports_are_all_that_a_worker_has_when_it_begins_to_serve():
    """And no reactor."""
    code = "import sys; from twisted_mail.workers.__main__ import _import; _import(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    found = set(done.stdout.split())
    assert "twisted_mail.workers.worker" in found and "twisted.internet.epollreactor" in found
    assert "twisted.internet.reactor" not in found


def test_json_is_what_it_speaks():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    send(one, ["ended", 1, 9])
    assert json.loads(other.recv(100)) == ["ended", 1, 9]
    one.close()
    with pytest.raises(EOFError):
        receive(other)
    other.close()
