"""Sessions with the server that bench/floods.py floods: one connection, and what legitimate users do, and see."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import time
from collections.abc import Awaitable, Callable

from floods_server import DOMAIN, PASSWORD, Place

__all__ = ["TAKEN", "Seen", "Talk", "ask_pop", "deliver", "legitimate"]

PATIENCE = 30.0
"""Seconds after which a session has failed."""
COUNTED = f"user0@{DOMAIN}"
TAKEN = [0]
"""Messages for `COUNTED` that were answered 250."""


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
