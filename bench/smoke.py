"""How many instructions a message costs the server, beside stored figures: seconds depend on the machine and on what
else it does, instructions do not.

    bench/smoke               1 when a figure is more than a tenth above the stored one, 0 otherwise
    bench/smoke --update      store what was measured, in smoke.json: to be committed with what changed it
    bench/smoke --keep DIR    leave callgrind's profiles there (callgrind_annotate shows them)

The server runs under callgrind, which counts every instruction of its process in user space (not the kernel's), and
always pretends the same processor. It counts only while one client sends or fetches, one message after the other, after
some that are not counted. Of some windows the cheapest is taken: what timers add to one of them is nobody's change.

Pythons are built differently, and so are the libraries beneath them. With those that the stored figures were measured
with (the same versions, and a fixed loop takes as many instructions) the stored figures count. With others the commit
that stored them is measured as well, by this same program, and its figures count: what is judged is always how much the
code has grown since. What seems to have grown too much is measured up to twice more before it is said: a machine that
has much else to do makes a case cost some hundredths more, in one measurement or the other.

Needs Debian's valgrind, and git for the second; loopback only; a minute a measurement.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import re
import shutil
import signal
import smtplib
import sqlite3
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from harness import DOMAIN, PASSWORD, Missing, end, fill, free_port, program, spawn, wait_for
from imap_client import Client as ImapClient
from load import message
from login_suite import cheap_passwords
from measure import pause
from pop3 import Client as Pop3Client

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from checkout import CHECKOUT, add_users

__all__ = ["ALIKE", "ALLOWED", "Figures", "another", "build", "judge", "least", "main"]

ALLOWED = 1.10
"""What a figure may have grown to, as a multiple of the stored one."""
ALIKE = 1.02
"""What the fixed loop may differ by, up or down, for two Pythons to be built alike."""
_HERE = Path(__file__).resolve().parent
_STORED = _HERE / "smoke.json"
_LIMIT = 900
_WINDOWS = 5
_AGAIN = 2
# a multiple of 16: POP3 looks up the sizes of some messages at a time
_COUNT = 16
_WARM = 24
# What the server does after its reply (its own notice of the new file, say) is done once a message, not once for some.
_REST = 0.03
_SIZE = 4096
_IDLE = 2.0
_USER = "u0"
# the first of them is not counted: with it comes what IMAP loads
_LATE = [f"late{number}" for number in range(4)]
_WAITING = 32
# The GIL is asked for after 5 ms of waiting. Under callgrind that is a hundredth of the work that it is otherwise, and
# threads would take it from each other in the middle of a message, in some runs more often than in others.
# Stories are written when some seconds or some hundreds are over, and mail that nobody looks at is numbered after
# hundreds: of each window the first is done once, of whatever length it is, and the second has a case of its own.
_START = f"""
import sys
sys.setswitchinterval(0.5)
sys.argv[0] = "twistd"
import twisted_mail.storage.arrivals as arrivals, twisted_mail.storage.stories as stories
stories.SOON, stories.CROWD, arrivals.BEHIND = 3600.0, {_COUNT}, 10**9
from twisted.scripts.twistd import run
run()
"""
_LOOP = """
import sys
class Thing:
    def __init__(self, name): self.name = name
    def size(self, data): return len(data) + len(self.name)
def loop(times):
    seen = {}
    for number in range(times):
        line = b"RCPT TO:<u%d@bench.test>" % (number & 63)
        verb, _, rest = line.partition(b" ")
        thing = seen.get(rest) or seen.setdefault(rest, Thing(rest.decode()))
        try:
            thing.size(verb.upper()) or int(thing.name)
            [].pop()
        except IndexError:
            pass
loop(int(sys.argv[1]))
"""
_LOOPS = 20_000

Figures = dict[str, float]
"""Instructions a message by case; `loop` is those of one turn of the fixed loop."""


def judge(stored: Figures, measured: Figures) -> tuple[list[str], bool]:
    """A line for each case, and whether one has grown too much: both of one interpreter. A case that is not stored
    cannot have grown.
    """
    lines = [f"{'case':32} {'instructions':>12} {'before':>12} {'grown to':>9}"]
    failed = False
    for case, now in measured.items():
        if case == "loop":
            continue
        before = stored.get(case)
        if before is None:
            lines.append(f"{case:32} {now:12,.0f} {'-':>12}")
            continue
        grown = now / before
        too_much = grown > ALLOWED
        failed |= too_much
        mark = "  too much" if too_much else ""
        lines.append(f"{case:32} {now:12,.0f} {before:12,.0f} {grown:9.3f}{mark}")
    for case in stored.keys() - measured.keys():
        lines.append(f"{case:32} was not measured")
        failed = True
    return lines, failed


def build() -> dict[str, str]:
    """What a figure depends on besides the code: the interpreter and the libraries beneath."""
    return {
        "python": platform.python_version(),
        "libc": " ".join(platform.libc_ver()),
        "sqlite": sqlite3.sqlite_version,
        "machine": platform.machine(),
    }


def another(stored: dict[str, Any], here: dict[str, str], measured: Figures) -> str:
    """Why figures of this machine do not compare with the stored ones; empty when they do."""
    for name, version in here.items():
        if stored.get("build", {}).get(name) != version:
            return f"{name} is {version}, that of the stored figures {stored.get('build', {}).get(name)}"
    loop = stored["instructions"]["loop"]
    if not 1 / ALIKE <= measured["loop"] / loop <= ALIKE:
        return f"a turn of the fixed loop takes {measured['loop']:.0f} instructions, not {loop:.0f}"
    return ""


def least(one: Figures, other: Figures) -> Figures:
    """The cheaper of two measurements, case by case."""
    return {case: min(value, other.get(case, value)) for case, value in one.items()}


class _Counted:
    """The server under callgrind. Raises RuntimeError and `Missing`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.smtp, self.pop3, self.imap = free_port(), free_port(), free_port()
        config = directory / "mail.toml"
        ports = {"smtp": self.smtp, "pop3": self.pop3, "imap": self.imap}
        fill(CHECKOUT / "bench/smoke.toml", config, domain=DOMAIN, **ports)
        add_users(config, [_USER, *_LATE])
        cheap_passwords(directory / "data/accounts.sqlite3")
        log = directory / "server.log"
        command = [*_callgrind(directory), "--instr-atstart=no", sys.executable, "-c", _START]
        command += ["-n", "--pidfile=", "mailserver", "--config", str(config)]
        self._process = spawn(command, log)
        wait_for(self.smtp, self._process, log)

    def close(self) -> None:
        end(self._process)

    def per_message(
        self, work: Callable[[], object], rest: float, keep: Path | None = None
    ) -> float:
        """Instructions of one `work`: the cheapest window's mean."""

        def some(number: int) -> None:
            for _ in range(number):
                work()
                pause(rest)

        some(_WARM)
        self._control("--instr=on")
        # what was translated without counting is translated again
        some(_COUNT // 2)
        idle = self._idle()
        windows = []
        for _ in range(_WINDOWS):
            began = time.monotonic()
            some(_COUNT)
            total = self._taken(keep) - idle * (time.monotonic() - began)
            windows.append(total / _COUNT)
        self._control("--instr=off")
        return min(windows)

    def once_each(
        self, works: Iterable[Callable[[], object]], messages: int, keep: Path | None = None
    ) -> float:
        """Instructions a message of works that are done once, each about so many: of the cheapest; the first is not
        counted.
        """
        self._control("--instr=on")
        idle = self._idle()
        windows = []
        for work in works:
            self._taken()
            began = time.monotonic()
            work()
            pause(_REST)
            total = self._taken(keep) - idle * (time.monotonic() - began)
            windows.append(total / messages)
        self._control("--instr=off")
        return min(windows[1:])

    def _idle(self) -> float:
        """Instructions a second when nobody asks for anything: they are more for each message when that takes longer,
        on a slow machine or a busy one.
        """
        self._taken()
        began = time.monotonic()
        pause(_IDLE)
        return self._taken() / (time.monotonic() - began)

    def _taken(self, keep: Path | None = None) -> int:
        """Instructions since it was last asked."""
        self._control("--dump")
        total = 0
        for part in self._directory.glob("callgrind.out*"):
            total += _total(part)
            if keep is not None:
                shutil.copy(part, keep)
            part.unlink()
        return total

    def _control(self, what: str) -> None:
        command = [program("callgrind_control"), what, str(self._process.pid)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT)
        if done.returncode or "OK" not in done.stdout:
            raise RuntimeError(f"callgrind_control {what}: {done.stdout}{done.stderr}")


def _callgrind(directory: Path) -> list[str]:
    return [
        *("env", f"PYTHONPATH={CHECKOUT}", "PYTHONHASHSEED=0", "PYTHONDONTWRITEBYTECODE="),
        *(program("valgrind"), "--tool=callgrind", "--fair-sched=yes", "--dump-line=no"),
        f"--callgrind-out-file={directory}/callgrind.out",
    ]


def _total(part: Path) -> int:
    found = re.search(r"^(?:totals|summary): (\d+)", part.read_text(), re.M)
    return int(found.group(1)) if found else 0


def _loop(directory: Path) -> float:
    """Instructions of one turn of the fixed loop; the interpreter's start is not in it."""
    totals = []
    for times in (_LOOPS, 2 * _LOOPS):
        command = [*_callgrind(directory), sys.executable, "-I", "-S", "-c", _LOOP, str(times)]
        subprocess.run(command, check=True, capture_output=True, timeout=_LIMIT)
        part = directory / "callgrind.out"
        totals.append(_total(part))
        part.unlink()
    return (totals[1] - totals[0]) / _LOOPS


def _cases(server: _Counted) -> Iterator[tuple[str, Callable[[], object], float]]:
    """Each case's work for one message, and the seconds to rest after it. What is fetched was sent before."""
    body = message(_SIZE, DOMAIN).replace(b"\r\n.", b"\r\n")
    rcpt = f"{_USER}@{DOMAIN}"

    def connect() -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", server.smtp, timeout=_LIMIT)

    def send(client: smtplib.SMTP) -> None:
        client.sendmail(f"load@{DOMAIN}", [rcpt], body)

    with connect() as kept:
        yield "SMTP, kept connection", lambda: send(kept), _REST

    def anew() -> None:
        with connect() as client:
            send(client)

    yield "SMTP, new connection", anew, _REST
    numbers = iter(range(1, 10**9))
    with Pop3Client(server.pop3, tls=False) as pop:
        pop.login(rcpt, PASSWORD)

        def retrieve() -> None:
            octets = pop.pour(f"RETR {next(numbers)}")
            if octets < _SIZE:
                raise RuntimeError(f"RETR gave {octets} octets")

        yield "POP3, RETR", retrieve, 0.0
        pop.command("QUIT")
    numbers = iter(range(1, 10**9))
    with ImapClient(server.imap) as imap:
        imap.login(rcpt, PASSWORD)
        imap.command("SELECT INBOX")

        def fetch() -> None:
            octets = len(imap.command(f"FETCH {next(numbers)} BODY.PEEK[]"))
            if octets < _SIZE:
                raise RuntimeError(f"FETCH gave {octets} octets")

        yield "IMAP, FETCH BODY.PEEK[]", fetch, 0.0


def _looked_at(server: _Counted) -> Iterator[Callable[[], object]]:
    """Each work looks into another inbox for the first time, where messages wait that have no UID yet."""
    body = message(_SIZE, DOMAIN).replace(b"\r\n.", b"\r\n")
    with smtplib.SMTP("127.0.0.1", server.smtp, timeout=_LIMIT) as client:
        for user in _LATE:
            for _ in range(_WAITING):
                client.sendmail(f"load@{DOMAIN}", [f"{user}@{DOMAIN}"], body)

    def look(user: str) -> None:
        with ImapClient(server.imap) as imap:
            imap.login(f"{user}@{DOMAIN}", PASSWORD)
            answer = imap.command("SELECT INBOX")
            if b"* %d EXISTS" % _WAITING not in answer:
                raise RuntimeError(f"SELECT: {answer[-300:]!r}")

    return (partial(look, user) for user in _LATE)


def _measure(keep: Path | None) -> Figures:
    directory = Path(tempfile.mkdtemp(prefix="smoke-", dir="/var/tmp"))
    signal.alarm(_LIMIT)
    try:
        figures = {"loop": _loop(directory)}
        with contextlib.closing(_Counted(directory)) as server:
            for case, work, rest in _cases(server):
                figures[case] = server.per_message(work, rest, _folder(keep, case))
            case = f"IMAP, first look at {_WAITING} new ones"
            works = _looked_at(server)
            figures[case] = server.once_each(works, _WAITING, _folder(keep, case))
        return figures
    finally:
        signal.alarm(0)
        shutil.rmtree(directory, ignore_errors=True)


def _folder(keep: Path | None, case: str) -> Path | None:
    if keep is None:
        return None
    folder = keep / re.sub(r"\W+", "-", case).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _beside() -> Figures | None:
    """The figures of the commit that stored the figures, measured here and now; None when it is not there. Those of no
    commit at all (a checkout whose stored figures are not committed yet) are None, too.
    """
    with tempfile.TemporaryDirectory(prefix="smoke-", dir="/var/tmp") as name:
        try:
            commit = _git("log", "-1", "--format=%H", "--", "bench/smoke.json").decode().strip()
            print(f"so it is measured beside {commit[:10]}, which stored them", flush=True)
            archive = io.BytesIO(_git("archive", "--format=zip", commit))
            with zipfile.ZipFile(archive) as found:
                found.extractall(Path(name) / "code")
        except (OSError, Missing, subprocess.SubprocessError, zipfile.BadZipFile) as error:
            print(f"that commit cannot be had: {type(error).__name__}")
            return None
        command = [sys.executable, str(_HERE / "smoke.py"), "--figures"]
        environment = os.environ | {"BENCH_CHECKOUT": str(Path(name) / "code")}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_LIMIT
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        figures: Figures = json.loads(done.stdout)
        return figures


def _git(*command: str) -> bytes:
    # whoever owns the checkout: git shall read it
    asked = [program("git"), "-C", str(_HERE.parent), "-c", f"safe.directory={_HERE.parent}"]
    return subprocess.run(
        [*asked, *command], check=True, capture_output=True, timeout=_LIMIT
    ).stdout


def _too_long(_number: int, _frame: object) -> None:
    raise RuntimeError(f"not done after {_LIMIT} seconds")


def main(arguments: list[str]) -> int:
    """The command; 0 also when there is nothing to measure with, which is said."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--update", action="store_true", help="store what was measured")
    parser.add_argument("--keep", type=Path, help="leave the profiles there")
    parser.add_argument("--figures", action="store_true", help="print them as JSON, judge nothing")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGALRM, _too_long)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # client and server take turns on one processor, so that what one does never depends on how fast the other is
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    # what the server does by the clock is more for each message when others make the message take longer
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    try:
        measured = _measure(options.keep)
        if options.figures:
            print(json.dumps(measured))
            return 0
        if options.update:
            rounded = {case: round(value) for case, value in measured.items()}
            new = {"build": build(), "instructions": rounded}
            _STORED.write_text(json.dumps(new, indent=1) + "\n")
            print("\n".join(judge(measured, measured)[0]))
            return 0
        stored: dict[str, Any] = json.loads(_STORED.read_text())
        before: Figures | None = stored["instructions"]
        if why := another(stored, build(), measured):
            print(why, flush=True)
            before = _beside()
        if before is None:
            print("\n".join(judge(measured, measured)[0]))
            print("not judged")
            return 0
        for _ in range(_AGAIN):
            if not judge(before, measured)[1]:
                break
            print("more than it may be: once more", flush=True)
            measured = least(measured, _measure(options.keep))
    except Missing as error:
        print(f"nothing was measured: {error}")
        return 0
    lines, failed = judge(before, measured)
    print("\n".join(lines))
    if failed:
        print(
            "Instructions a message have grown. Make it cheaper, or, where it has to be so, run\n"
            "    bench/smoke --update\nand commit bench/smoke.json with the change that needs it."
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
