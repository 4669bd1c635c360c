"""The unit in docs/examples/systemd: how exposed it is, that the server works within its system calls, with sockets
that were opened for it, and what it tells the service manager.

No systemd has to run: its tools reckon, hand over sockets, and the tests hear what would be said to it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mailsite import DEADLINE, LISTENERS, Site, until
from many import children, own_children
from sandbox import SOCKET, UNIT, confined, refused, settings
from workload import workload

pytestmark = [pytest.mark.e2e, pytest.mark.needs("systemd-analyze")]


def analyze(*words: str | Path) -> str:
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *words], capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_it_is_exposed_less_than_two_of_ten(tmp_path: Path) -> None:
    score = re.compile(r"Overall exposure level for \S+: ([\d.]+)")
    said = analyze("security", "--offline=true", "--threshold=20", UNIT)
    found = score.search(said)
    assert found and 0 < float(found[1]) < 2.0, said
    # a unit without its sandbox is not taken for one
    bare = tmp_path / "bare.service"
    bare.write_text("[Service]\nExecStart=/bin/true\n")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", bare],
        capture_output=True,
        timeout=DEADLINE,
    )
    assert done.returncode != 0


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    for unit in (UNIT, SOCKET):
        text = unit.read_text().replace("/opt/twisted-mail/.venv/bin/twistd", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    units = [tmp_path / unit.name for unit in (UNIT, SOCKET)]
    said = analyze("verify", "--man=no", *units)
    ours = [line for line in said.splitlines() if "twisted-mail" in line]
    assert not ours, said


def test_what_the_sandbox_has(tmp_path: Path) -> None:
    """Those that nobody should take out by mistake, whatever the score."""
    for name, value in {
        "ProtectSystem": "strict",
        "NoNewPrivileges": "yes",
        "UMask": "0077",
        "StateDirectoryMode": "0700",
        "SystemCallArchitectures": "native",
        "User": "twisted-mail",
        "Type": "notify",
    }.items():
        assert settings(name) == [value], name
    assert float(settings("TimeoutStopSec")[0]) > 15, "longer than limits.drain_seconds and five"
    assert settings("SystemCallFilter")


@pytest.mark.needs("strace")
@pytest.mark.parametrize("workers", [0, 2])
def test_it_works_within_its_system_calls(
    make_site: Callable[..., Site], tmp_path: Path, workers: int
) -> None:
    """All others are refused, as the unit's filter does; and none was wanted."""
    site = make_site(extra='[dns]\nservers = ["127.0.0.1:9"]\n')
    site.top = f"workers = {workers}\n"
    site.write_configuration()
    output = tmp_path / "refused"
    site.start(confined(output, site.command))
    assert site.process is not None
    (server,) = own_children(site.process.pid)
    workload(site)
    # another configuration: with workers, other ones
    site.extra += '[log]\nlevel = "debug"\n'
    site.write_configuration()
    os.kill(server, signal.SIGHUP)
    until(lambda: "the new configuration is in use" in site.log, lambda: site.log)
    site.send("after")
    os.kill(server, signal.SIGTERM)
    site.wait_until_ended()
    # SQLite gives what it makes to a database's owner, if it is root: which nobody is in this unit
    wanted = [line for line in refused(output) if not re.match(r"fchown\(\d+, 0, 0\)", line)]
    assert not wanted


@pytest.mark.needs("strace")
def test_the_filter_does_refuse(tmp_path: Path) -> None:
    output = tmp_path / "refused"
    code = "import os\ntry: os.chroot('/')\nexcept PermissionError: print('no')"
    done = subprocess.run(
        confined(output, ["python3", "-c", code]), capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.stdout == "no\n", done.stderr
    assert [line.partition("(")[0] for line in refused(output)] == ["chroot"]


class Manager:
    """What a service manager is told."""

    def __init__(self, directory: Path) -> None:
        self.place = directory / "notify"
        self.said: list[str] = []
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._end.bind(str(self.place))
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while said := self._end.recv(4096).decode():
            self.said.append(said)

    def has(self, text: str, count: int = 1) -> bool:
        return sum(text in one for one in self.said) >= count

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", str(self.place))
        self._thread.join(DEADLINE)
        self._end.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    one = Manager(tmp_path)
    yield one
    one.close()


@pytest.mark.needs("systemd-socket-activate")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_life_with_sockets_that_were_opened_for_it(
    make_site: Callable[..., Site], manager: Manager, workers: int
) -> None:
    site = make_site()
    site.top = f"workers = {workers}\n"
    site.write_configuration()
    text = site.config.read_text()
    for index, port in enumerate(site.ports.values()):
        text = text.replace(f"tcp:{port}:interface=127.0.0.1", f"systemd:domain=INET:index={index}")
    site.config.write_text(text)
    sockets = [word for port in site.ports.values() for word in ("-l", f"127.0.0.1:{port}")]
    told = {"NOTIFY_SOCKET": str(manager.place), "WATCHDOG_USEC": "1000000"}
    environment = [word for name, value in told.items() for word in ("-E", f"{name}={value}")]
    # as systemd itself does always, and Twisted expects
    names = f"--fdname={':'.join(site.ports)}"
    site.start(["systemd-socket-activate", *sockets, names, *environment, *site.command])
    assert site.process is not None
    until(lambda: manager.has("READY=1\nSTATUS=serving"), lambda: site.log)
    assert f"{workers} workers" in manager.said[0] or not workers
    site.send("by its sockets")
    assert site.subjects() == ["by its sockets"]
    for name in ("submission", "pop3", "imap"):
        with site.connect(name) as plain:
            assert plain.recv(1), name
    until(lambda: manager.has("WATCHDOG=1", 3), "it says again and again that it lives")
    # who was started by it does not speak for it, and knows none of its sockets by their numbers
    for child in children(site.process.pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            known = Path(f"/proc/{child}/environ").read_bytes()
            assert b"NOTIFY_SOCKET" not in known and b"WATCHDOG" not in known
    site.config.write_text(text + '[log]\nlevel = "debug"\n')
    site.process.send_signal(signal.SIGHUP)
    until(lambda: manager.has("RELOADING=1\nMONOTONIC_USEC="), lambda: site.log)
    until(lambda: place(manager, "RELOADING=1") < place(manager, "READY=1"), lambda: site.log)
    site.send("after another configuration")
    site.stop()
    until(lambda: manager.has("STOPPING=1"), "it says that it stops")


def place(manager: Manager, text: str) -> int:
    """Where that was said last."""
    return max(number for number, one in enumerate(manager.said) if text in one)


def test_the_socket_unit_says_what_mail_toml_has() -> None:
    """By index: its comment names the listeners in the order of its sockets."""
    text = SOCKET.read_text()
    ports = [int(port) for port in settings("ListenStream", SOCKET)]
    usual = dict(zip(LISTENERS, (25, 587, 465, 110, 995, 143, 993), strict=True))
    named = re.findall(r'^#   (\w+) = \["systemd:domain=INET6:index=(\d+)"\]$', text, re.MULTILINE)
    assert [(usual[name], int(index)) for name, index in named] == [
        (port, index) for index, port in enumerate(ports)
    ]
    assert {name for name, _ in named} == set(LISTENERS)
