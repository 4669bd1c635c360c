"""IMAP sessions with a `Site`: the standard library's client, a wire to type on by hand, and what the Maildir says."""

from __future__ import annotations

import imaplib
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mailsite import ALICE, DEADLINE, PASSWORD, Site

_FLAGS = re.compile(r":2,([A-Za-z]*)$")


@contextmanager
def imap(site: Site, user: str = ALICE, folder: str | None = None) -> Iterator[imaplib.IMAP4_SSL]:
    """A session of `user` on ``imaps``, with `folder` selected; LOGOUT at the end."""
    session = imaplib.IMAP4_SSL(
        "localhost", site.ports["imaps"], ssl_context=site.tls, timeout=DEADLINE
    )
    try:
        session.login(user, PASSWORD)
        if folder is not None:
            ok(session.select(quoted(folder)))
        yield session
        session.logout()
    except BaseException:
        with suppress(OSError):
            session.shutdown()
        raise


def quoted(name: str) -> str:
    return f'"{name}"'


def ok(answer: tuple[str, list]) -> list:
    """The data of an answer that has to be OK."""
    status, data = answer
    assert status == "OK", (status, data)
    return data


def uids(session: imaplib.IMAP4, *criteria: str) -> list[int]:
    return [int(uid) for uid in ok(session.uid("SEARCH", *(criteria or ("ALL",))))[0].split()]


def listed(session: imaplib.IMAP4) -> dict[int, tuple[set[str], str]]:
    """UID → flags and subject, of the selected folder."""
    found = {}
    data = ok(session.uid("FETCH", "1:*", "(UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])"))
    for part in data:
        if isinstance(part, tuple):
            said, header = part
            uid = re.search(rb"UID (\d+)", said)
            flags = re.search(rb"FLAGS \(([^)]*)\)", said)
            assert uid and flags, said
            subject = header.partition(b":")[2].strip().decode()
            found[int(uid[1])] = (set(flags[1].decode().split()), subject)
    return found


def subjects(site: Site, folder: str = "INBOX", user: str = ALICE) -> list[str]:
    """The subjects of a folder, in the order of its UIDs; nothing is marked."""
    with imap(site, user, folder) as session:
        return [subject for _, (_, subject) in sorted(listed(session).items())]


def files(site: Site, folder: str = "", user: str = ALICE) -> list[Path]:
    """The messages of a Maildir's folder ("": the inbox), as files."""
    box = site.maildir(user) / folder
    return sorted(path for part in ("new", "cur") for path in (box / part).iterdir())


def letters(path: Path) -> str:
    """The flags that a file's name says."""
    found = _FLAGS.search(path.name)
    return found[1] if found else ""


class Wire:
    """An IMAP connection by hand: lines out, lines in."""

    def __init__(self, site: Site, *, tls: bool = True) -> None:
        plain = site.connect("imaps" if tls else "imap")
        self.socket: socket.socket = (
            site.tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
        )
        self._stream = self.socket.makefile("rb")
        self._number = 0
        self.greeting = self.line()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self.socket.close()

    def start_tls(self, context: ssl.SSLContext) -> None:
        self._stream.close()
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self._stream = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> bytes:
        """The next line without its end; empty when the server has closed."""
        return self._stream.readline().removesuffix(b"\r\n")

    def read(self, count: int) -> bytes:
        return self._stream.read(count)

    def rest(self) -> bytes:
        """Everything until the server closes."""
        return self._stream.read()

    def until_tagged(self, tag: bytes) -> list[bytes]:
        """Lines up to the one with this tag, which is the last of them."""
        found = []
        while True:
            line = self.line()
            found.append(line)
            if line.startswith(tag + b" "):
                return found
            assert line or found[-3:] != [b"", b"", b""], found

    def do(self, command: bytes) -> list[bytes]:
        """Send a command; its answer, the tagged line last, without the tag."""
        self._number += 1
        tag = b"w%d" % self._number
        self.send(tag + b" " + command + b"\r\n")
        *before, last = self.until_tagged(tag)
        return [*before, last.removeprefix(tag + b" ")]

    def login(self, user: str = ALICE, password: str = PASSWORD) -> None:
        (*_, last) = self.do(f'LOGIN {user} "{password}"'.encode())
        assert last.startswith(b"OK "), last


def settings_of(site: Site) -> dict[str, str]:
    """What clients' configuration files name, for ``str.format``."""
    return {
        "port": str(site.ports["imaps"]),
        "clear": str(site.ports["imap"]),
        "ca": str(site.ca),
        "user": ALICE,
        "password": PASSWORD,
    }
