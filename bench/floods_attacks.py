"""The floods of bench/floods.py: each runs in processes of its own until it is ended.

`FLOODS` names them. Each runs in `parts` processes, of which the one with the number `part` has its share of clients.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import resource
import socket
import time
from collections.abc import Awaitable, Callable
from multiprocessing.synchronize import Event

from floods_server import DOMAIN, PASSWORD, USERS, Place
from floods_sessions import Talk

__all__ = ["FLOODS", "flood"]


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
