"""Floods of a server on this machine, and what legitimate sessions see of them meanwhile.

    python bench/floods.py [--seconds 15] [--workers 0] [--connections 10000] [--case NAME …] [--json FILE]

A real ``twistd`` on loopback; 127.x.y.z stand for other addresses, and ``checks.exempt_networks`` is empty. Each case
is a flood, in processes of its own, and beside it sessions from addresses where their users have logged in before: mail
by SMTP in clear, a message read over POP3S, a login with SELECT and FETCH over IMAPS, each on a new connection. Told
are p50, p99 and the longest of them, how many failed, and the memory of all processes of the server (PSS) at its most.
At the end the messages that were answered 250 are counted in the mailbox. Client and server share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import itertools
import json
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
SCRIPTS = Path(sys.executable).parent
PASSWORD = "correct horse battery staple"
DOMAIN = "bench.test"
USERS = 8
NAMES = ("smtp", "submission", "submissions", "pop3", "pop3s", "imap", "imaps")
PATIENCE = 30.0
"""Seconds after which a session has failed."""
COUNTED = f"user0@{DOMAIN}"
TAKEN = [0]
"""Messages for `COUNTED` that were answered 250."""
PAUSE = threading.Event()
BASE_MB, EACH_KB = 220.0, 48.0
"""The bound of memory that is judged: of a process, two passwords that are hashed among it, and of each connection."""


class Place(NamedTuple):
    """What the processes of a run have to know."""

    ports: dict[str, int]
    connections: int


def free_ports(count: int) -> list[int]:
    """Not of those that the kernel gives to clients: thousands of connections begin while the server starts."""
    found: list[int] = []
    candidate = 12_000 + os.getpid() % 500 * 40
    while len(found) < count:
        candidate += 1
        with contextlib.suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", candidate))
            found.append(candidate)
    return found


class Server:
    """A site below `directory`. `workers` 0: one process."""

    def __init__(self, directory: Path, connections: int, workers: int) -> None:
        self.directory = directory
        ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
        self.place = Place(ports, connections)
        listen = "\n".join(f'{name} = ["tcp:{port}"]' for name, port in ports.items())
        (directory / "mail.toml").write_text(
            f"""
hostname = "mail.{DOMAIN}"
data = "{directory / "data"}"
workers = {workers}
[listen]
{listen}
[limits]
connections = {connections + 2000}
[dns]
servers = ["127.0.0.1:9"]
[checks]
exempt_networks = []
spf = false
dkim = false
arc = false
dmarc = "off"
[reputation]
names = false
[pop3]
allow_plaintext_loopback = true
[imap]
allow_plaintext_loopback = true
max_sessions = 10000
[stories]
days = 0
"""
        )
        self._ctl("domain", "add", DOMAIN)
        for n in range(USERS):
            self._ctl("user", "add", f"user{n}@{DOMAIN}", input=f"{PASSWORD}\n{PASSWORD}\n")
        log = (directory / "server.log").open("wb")
        command = [SCRIPTS / "twistd", "-n", f"--pidfile={directory / 'pid'}", "mailserver"]
        self.process = subprocess.Popen(
            [*map(str, command), "--config", str(directory / "mail.toml")],
            stdout=log,
            stderr=log,
            cwd=directory,
            start_new_session=True,
        )
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", ports["imap"]), 1).close()
                break
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit((directory / "server.log").read_text()[-2000:])
            PAUSE.wait(0.1)

    def _ctl(self, *words: str, input: str | None = None) -> None:
        subprocess.run(
            [SCRIPTS / "mailctl", "--config", self.directory / "mail.toml", *words],
            input=input,
            text=True,
            check=True,
            capture_output=True,
        )

    def processes(self) -> list[int]:
        found, waiting = [], [self.process.pid]
        while waiting:
            found.append(pid := waiting.pop())
            with contextlib.suppress(OSError, ValueError):
                waiting += [
                    int(child)
                    for thread in Path(f"/proc/{pid}/task").iterdir()
                    for child in (thread / "children").read_text().split()
                ]
        return found

    def memory(self) -> float:
        """MB, of all processes (PSS)."""
        found = 0.0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        found += int(line.split()[1]) / 1024
        return found

    def connections(self) -> int:
        """Open now, of all processes: their sockets, some of which are the server's own."""
        found = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                for one in os.scandir(f"/proc/{pid}/fd"):
                    with contextlib.suppress(OSError):
                        found += os.readlink(one.path).startswith("socket:")
        return found

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


# Talking


class Talk:
    """One connection. What takes longer than `PATIENCE` raises TimeoutError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int, source: str, tls: bool = False) -> Talk:
        context = None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        made = asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0), ssl=context)
        return cls(*await asyncio.wait_for(made, PATIENCE))

    async def line(self) -> bytes:
        line = await asyncio.wait_for(self.reader.readline(), PATIENCE)
        if not line:
            raise ConnectionError("closed")
        return line

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def smtp(self, data: bytes = b"") -> bytes:
        """One reply."""
        self.send(data)
        while (line := await self.line())[3:4] == b"-":
            pass
        return line

    async def tagged(self, data: bytes) -> bytes:
        """All up to the tagged line of an IMAP command."""
        self.send(data)
        tag, said = data.split()[0] + b" ", b""
        while True:
            line = await self.line()
            said += line
            if line.startswith(tag):
                return said

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.writer.transport.abort()


async def ask(talk: Talk, data: bytes, wanted: bytes) -> None:
    said = await talk.smtp(data)
    if not said.startswith(wanted):
        raise ConnectionError(f"{data[:20]!r}: {said!r}")


async def deliver(place: Place, source: str, user: str) -> None:
    talk = await Talk.open(place.ports["smtp"], source)
    try:
        await ask(talk, b"", b"220")
        await ask(talk, b"EHLO client.example\r\n", b"250")
        await ask(talk, b"MAIL FROM:<somebody@example.net>\r\n", b"250")
        await ask(talk, f"RCPT TO:<{user}>\r\n".encode(), b"250")
        await ask(talk, b"DATA\r\n", b"354")
        await ask(talk, b"Subject: here\r\n\r\n" + b"A line of text.\r\n" * 60 + b".\r\n", b"250")
        if user == COUNTED:
            TAKEN[0] += 1
    finally:
        talk.close()


async def fetch_pop(place: Place, source: str, user: str) -> None:
    talk = await Talk.open(place.ports["pop3s"], source, tls=True)
    try:
        await ask_pop(talk, b"")
        await ask_pop(talk, f"USER {user}\r\n".encode())
        await ask_pop(talk, f"PASS {PASSWORD}\r\n".encode())
        await ask_pop(talk, b"RETR 1\r\n")
        while await talk.line() != b".\r\n":
            pass
        await ask_pop(talk, b"QUIT\r\n")
    finally:
        talk.close()


async def ask_pop(talk: Talk, data: bytes) -> bytes:
    talk.send(data)
    said = await talk.line()
    if not said.startswith(b"+OK"):
        raise ConnectionError(f"{data[:5]!r}: {said!r}")
    return said


async def fetch_imap(place: Place, source: str, user: str) -> None:
    talk = await Talk.open(place.ports["imaps"], source, tls=True)
    try:
        await talk.line()
        for n, command in enumerate(
            (f'LOGIN {user} "{PASSWORD}"', "SELECT INBOX", "FETCH 1 BODY.PEEK[]")
        ):
            said = await talk.tagged(f"a{n} {command}\r\n".encode())
            if f"a{n} OK" not in said.decode("latin-1"):
                raise ConnectionError(said.splitlines()[-1])
    finally:
        talk.close()


# Legitimate sessions

SESSIONS: dict[str, Callable[[Place, str, str], Awaitable[None]]] = {
    "SMTP": deliver,
    "POP3S": fetch_pop,
    "IMAPS": fetch_imap,
}


class Seen:
    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {name: [] for name in SESSIONS}
        self.errors: list[str] = []


async def legitimate(
    place: Place, seen: Seen, over: Callable[[], bool], pause: float = 0.1
) -> None:
    """One user of each kind, on a new connection each time, one after the other."""

    async def one(name: str, number: int) -> None:
        # user0 gets the mail that is counted; POP3 has accounts of its own, as it locks them
        user = f"user{number}@{DOMAIN}"
        # From the network where the user is at home; not from one address: too many a minute
        for count in itertools.count():
            if over():
                break
            source = f"127.200.{number}.{1 + count % 16}"
            began = time.monotonic()
            try:
                await SESSIONS[name](place, source, user)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                seen.errors.append(f"{name}: {type(error).__name__} {error}")
            else:
                seen.seconds[name].append(time.monotonic() - began)
            await asyncio.sleep(pause)

    users = {"SMTP": (0, 0), "POP3S": (1, 2), "IMAPS": (3, 4)}
    await asyncio.gather(*(one(name, n) for name, several in users.items() for n in several))


# Floods: each runs in a process of its own until it is ended


def address(n: int) -> str:
    """Not that of a legitimate session; each in a network of its own."""
    return f"127.{10 + n // 250 % 150}.{n % 250}.7"


async def many_open(place: Place, part: int, parts: int) -> None:
    """Half of them say nothing, half say something every ten seconds."""
    mine = range(part, place.connections, parts)
    words = {"smtp": b"NOOP\r\n", "pop3": b"CAPA\r\n", "imap": b"a NOOP\r\n"}

    async def one(n: int) -> None:
        name = ("smtp", "pop3", "imap")[n % 3]
        while True:
            try:
                talk = await Talk.open(place.ports[name], address(n))
                await talk.line()
                while True:
                    if n // 3 % 2:
                        await talk.reader.read()
                        break
                    await asyncio.sleep(5 + n % 11)
                    talk.send(words[name])
                    if not await talk.reader.read(4096):
                        break
            except (OSError, TimeoutError):
                pass
            await asyncio.sleep(1)

    tasks = []
    for n in mine:
        tasks.append(asyncio.ensure_future(one(n)))
        if len(tasks) % 50 == 0:
            await asyncio.sleep(0.02)
    await asyncio.gather(*tasks)


EHLO = b"EHLO there\r\n"
MAIL = EHLO + f"MAIL FROM:<x@example.net>\r\nRCPT TO:<user7@{DOMAIN}>\r\n".encode()
LOGIN = f'a LOGIN user6@{DOMAIN} "{PASSWORD}"\r\n'.encode()
SLOW = [
    ("smtp", b""),
    ("smtp", MAIL + b"DATA\r\n"),
    ("smtp", MAIL + b"BDAT 100000 LAST\r\n"),
    ("submissions", b""),
    ("pop3", b""),
    ("pop3", b"AUTH PLAIN\r\n"),
    ("pop3s", b""),
    ("imap", b""),
    ("imap", b"a LOGIN {1000}\r\n"),
    ("imap", b"a AUTHENTICATE PLAIN\r\n"),
    ("imap", LOGIN + b"b APPEND INBOX {100000}\r\n"),
    ("imap", LOGIN + b"b SELECT INBOX\r\nc IDLE\r\n"),
    ("imaps", b""),
]


async def slow(place: Place, part: int, parts: int) -> None:
    """A byte a second, in each protocol and phase, on 40 connections each."""

    async def one(n: int) -> None:
        name, opening = SLOW[n % len(SLOW)]
        while True:
            try:
                talk = await Talk.open(place.ports[name], address(n))
                if opening:
                    await talk.line()
                    talk.send(opening)
                while not talk.reader.at_eof():
                    talk.send(b"\x16" if name.endswith("s") else b"x")
                    await talk.writer.drain()
                    await asyncio.sleep(1)
            except (OSError, TimeoutError):
                pass
            await asyncio.sleep(1)

    await asyncio.gather(*(one(n) for n in range(part, 40 * len(SLOW), parts)))


async def connects(place: Place, part: int, parts: int) -> None:
    """A thousand connections a second from one address, which are left open until the server ends them."""
    ports = [place.ports[name] for name in ("smtp", "imaps", "pop3")]
    held: list[socket.socket] = []
    began, count = time.monotonic(), 0
    while True:
        while count < (time.monotonic() - began) * 1000 / parts:
            count += 1
            one = socket.socket()
            one.setblocking(False)
            one.bind(("127.66.6.6", 0))
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", ports[count % 3]))
            held.append(one)
            if len(held) > 2000:
                held.pop(0).close()
        await asyncio.sleep(0.005)


async def never_reading(place: Place, part: int, parts: int) -> None:
    """They ask for much and read nothing: RETR, FETCH, answers to thousands of commands."""
    asked = [
        ("imap", LOGIN + b"b SELECT INBOX\r\n" + b"c FETCH 1:* BODY.PEEK[]\r\n" * 200),
        ("smtp", EHLO + b"HELP\r\n" * 20_000),
        (
            "imap",
            LOGIN + b"b SELECT INBOX\r\n" + b"c FETCH 1:* (ENVELOPE BODYSTRUCTURE)\r\n" * 2000,
        ),
        ("pop3", b"CAPA\r\n" * 20_000),
    ]
    held: list[socket.socket] = []
    loop = asyncio.get_running_loop()

    async def one(n: int) -> None:
        name, script = asked[n % len(asked)]
        while True:
            made = socket.socket()
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made.setblocking(False)
            made.bind((address(n), 0))
            held.append(made)
            with contextlib.suppress(OSError):
                await loop.sock_connect(made, ("127.0.0.1", place.ports[name]))
                await loop.sock_sendall(made, script)
                await asyncio.sleep(3600)
            made.close()
            await asyncio.sleep(1)

    await asyncio.gather(*(one(n) for n in range(part, 200, parts)))


async def harvesting(place: Place, part: int, parts: int) -> None:
    """Who is here? Five hundred addresses ask, over and over."""

    async def one(n: int) -> None:
        name = 0
        while True:
            talk = None
            try:
                talk = await Talk.open(place.ports["smtp"], address(n))
                await talk.smtp()
                await talk.smtp(EHLO)
                await talk.smtp(b"MAIL FROM:<x@example.net>\r\n")
                while True:
                    name += 1
                    await talk.smtp(f"RCPT TO:<name{name}.{n}@{DOMAIN}>\r\n".encode())
            except (OSError, TimeoutError):
                await asyncio.sleep(0.2)
            finally:
                if talk is not None:
                    talk.close()

    await asyncio.gather(*(one(n) for n in range(part, 500, parts)))


async def guessing(place: Place, part: int, parts: int) -> None:
    """A thousand addresses guess passwords: of one account, of all, of names that nobody has."""

    async def one(n: int) -> None:
        number = 0
        while True:
            talk = None
            try:
                talk = await Talk.open(place.ports["imap"], address(n))
                await talk.line()
                while True:
                    number += 1
                    user = ("user3", f"user{number % USERS}", f"name{number}")[n % 3]
                    secret = base64.b64encode(f"\0{user}@{DOMAIN}\0guess{n}.{number}".encode())
                    talk.send(b"a AUTHENTICATE PLAIN " + secret + b"\r\n")
                    await asyncio.wait_for(talk.reader.readline(), 120)
                    if talk.reader.at_eof():
                        break
            except (OSError, TimeoutError):
                pass
            finally:
                if talk is not None:
                    talk.close()
            await asyncio.sleep(0.5)

    await asyncio.gather(*(one(n) for n in range(part, 1000, parts)))


FLOODS: dict[str, Callable[[Place, int, int], Awaitable[None]] | None] = {
    "nothing": None,
    "open": many_open,
    "slow": slow,
    "connects": connects,
    "never-reading": never_reading,
    "harvesting": harvesting,
    "guessing": guessing,
}


def flood(name: str, place: Place, part: int, parts: int, over: Event) -> None:
    """In a process of its own."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    run = FLOODS[name]
    assert run is not None

    async def until_over() -> None:
        doing = asyncio.ensure_future(run(place, part, parts))  # type: ignore[arg-type]
        await asyncio.wait(
            [doing, asyncio.get_running_loop().run_in_executor(None, over.wait)],
            return_when=asyncio.FIRST_COMPLETED,
        )
        if doing.done():
            doing.result()
        doing.cancel()

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(until_over())
    os._exit(0)


# A run


class Row(NamedTuple):
    case: str
    sessions: int
    failed: int
    p50_ms: dict[str, float]
    p99_ms: dict[str, float]
    longest_ms: float
    memory_mb: float
    open: int
    errors: list[str]


def percentile(values: list[float], part: float) -> float:
    """0 of none."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] * 1000 if values else 0.0


def run_case(server: Server, name: str, seconds: float, parts: int, ramp: float) -> Row:
    """The flood gets `ramp` seconds to grow; sessions go on all the while and count from the beginning."""
    place, seen = server.place, Seen()
    over = multiprocessing.Event()
    processes = [
        multiprocessing.Process(target=flood, args=(name, place, part, parts, over), daemon=True)
        for part in range(parts if FLOODS[name] else 0)
    ]
    for one in processes:
        one.start()
    end = time.monotonic() + (ramp if processes else 0) + seconds
    if name == "open":
        end += ramp  # ten thousand take their time
    peak, most = 0.0, 0

    async def watch() -> None:
        nonlocal peak, most
        while time.monotonic() < end:
            peak = max(peak, server.memory())
            most = max(most, server.connections())
            await asyncio.sleep(1)

    async def both() -> None:
        await asyncio.gather(watch(), legitimate(place, seen, lambda: time.monotonic() >= end))

    asyncio.run(both())
    over.set()
    for one in processes:
        one.join(5)
        if one.is_alive():
            one.kill()
    return Row(
        name,
        sum(map(len, seen.seconds.values())),
        len(seen.errors),
        {kind: round(percentile(values, 0.5), 1) for kind, values in seen.seconds.items()},
        {kind: round(percentile(values, 0.99), 1) for kind, values in seen.seconds.items()},
        round(max((max(v, default=0) for v in seen.seconds.values()), default=0) * 1000, 1),
        round(peak, 1),
        most,
        seen.errors[:5],
    )


def counted(server: Server) -> int:
    """Messages in the mailbox that the legitimate mail goes to."""

    async def stat() -> int:
        talk = await Talk.open(server.place.ports["pop3s"], "127.200.0.1", tls=True)
        await ask_pop(talk, b"")
        await ask_pop(talk, f"USER user0@{DOMAIN}\r\n".encode())
        await ask_pop(talk, f"PASS {PASSWORD}\r\n".encode())
        said = await ask_pop(talk, b"STAT\r\n")
        talk.close()
        return int(said.split()[1])

    return asyncio.run(stat())


def fill(server: Server) -> None:
    """Mail for those who read, and a login of each from where they are at home."""

    async def all_of_them() -> None:
        for n in range(1, USERS):
            for _ in range(20 if n == 6 else 1):
                await deliver(server.place, "127.200.0.1", f"user{n}@{DOMAIN}")
        for n in range(USERS):
            await fetch_imap_login(server.place, f"127.200.{n}.1", n)

    asyncio.run(all_of_them())


async def fetch_imap_login(place: Place, source: str, n: int) -> None:
    talk = await Talk.open(place.ports["imaps"], source, tls=True)
    await talk.line()
    await talk.tagged(f'a LOGIN user{n}@{DOMAIN} "{PASSWORD}"\r\n'.encode())
    talk.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="of each case, without its ramp"
    )
    parser.add_argument("--ramp", type=float, default=5.0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--parts", type=int, default=2, help="processes of a flood")
    parser.add_argument("--case", action="append", choices=list(FLOODS), default=[])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", action="store_true", help="the directory, with the log")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="floods", dir=os.environ.get("TMPDIR")))
    rows, delivered, there = [], 0, 0
    with ending(directory, arguments.keep):
        server = Server(directory, arguments.connections, arguments.workers)
        try:
            fill(server)
            for name in arguments.case or FLOODS:
                row = run_case(server, name, arguments.seconds, arguments.parts, arguments.ramp)
                rows.append(row)
                show(row)
            there = counted(server)
            alive = server.process.poll() is None
            delivered = TAKEN[0]
        finally:
            server.stop()
    bound = BASE_MB * (1 + 2 * arguments.workers) + EACH_KB * arguments.connections / 1024
    print(f"answered 250: {delivered}, in the mailbox: {there}; memory bound {bound:.0f} MB")
    if arguments.json:
        result = {
            "rows": [row._asdict() for row in rows],
            "answered": delivered,
            "there": there,
            "bound_mb": bound,
            "alive": alive,
        }
        arguments.json.write_text(json.dumps(result, indent=1))
    lost = delivered > there
    return int(lost or any(row.failed or row.memory_mb > bound for row in rows))


@contextlib.contextmanager
def ending(directory: Path, keep: bool) -> Iterator[None]:
    try:
        yield
    finally:
        if keep:
            print(directory)
        else:
            shutil.rmtree(directory, ignore_errors=True)


def show(row: Row) -> None:
    times = "  ".join(
        f"{kind} {row.p50_ms[kind]:.0f}/{row.p99_ms[kind]:.0f}" for kind in row.p50_ms
    )
    print(
        f"{row.case:14} {row.sessions:5} sessions, {row.failed} failed; p50/p99 ms: {times};"
        f" longest {row.longest_ms:.0f} ms; {row.memory_mb:.0f} MB, {row.open} open",
        flush=True,
    )
    for error in row.errors:
        print(f"               {error}")


if __name__ == "__main__":
    sys.exit(main())
