"""Small clients of the three protocols, on a simulated connection: what somebody does who looks at his mail.

Each method says what the server answered: True when it was yes, False when it was no, None when no answer came, because
the connection ended, or the server takes its time. They speak TLS from the first byte (ports 465, 993, 995).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence

from .client import Client
from .truth import Box

__all__ = ["Imap", "Pop3", "Submission"]

_FETCHED = re.compile(rb"\* \d+ FETCH \(UID (\d+) BODY\[\] (?:\{(\d+)\}\r\n|\"\")")


PATIENCE = 20
"""How often a client waits a little for an answer."""


class _Talk:
    """One connection. `wait` lets a little time pass."""

    def __init__(self, client: Client, wait: Callable[[], object]) -> None:
        self.client = client
        self._wait = wait
        client.read()  # the greeting

    @property
    def open(self) -> bool:
        return self.client.closed is None

    def _ask(self, line: bytes, whole: Callable[[bytes], object] = lambda got: got) -> bytes:
        """What comes, until it is a `whole` answer; less from a connection that ends, or says nothing."""
        got = self.client.ask(line + b"\r\n") if self.open else b""
        for _ in range(PATIENCE):
            if whole(got) or not self.open:
                break
            self._wait()
            got += self.client.read()
        return got

    def abort(self) -> None:
        if self.open:
            self.client.abort()


class Pop3(_Talk):
    """POP3, RFC 1939."""

    def login(self, user: str, password: str) -> bool | None:
        self._ask(f"USER {user}".encode())
        return _yes(self._ask(f"PASS {password}".encode()), b"+OK")

    def retrieve(self) -> list[bytes] | None:
        """All messages; None when the connection ends meanwhile."""
        found = []
        count = self._ask(b"STAT").split()
        if len(count) < 2:
            return None
        for number in range(1, int(count[1]) + 1):
            answer = self._ask(b"RETR %d" % number, _whole_message)
            head, _, rest = answer.partition(b"\r\n")
            if not head.startswith(b"+OK") or not rest.endswith(b"\r\n.\r\n"):
                return None
            # RFC 1939 section 3: what begins with a dot has one more
            found.append(rest[:-3].replace(b"\r\n..", b"\r\n."))
        return found

    def delete(self, number: int) -> bool | None:
        return _yes(self._ask(b"DELE %d" % number), b"+OK")

    def quit(self) -> bool | None:
        return _yes(self._ask(b"QUIT"), b"+OK")


class Imap(_Talk):
    """IMAP, RFC 9051."""

    def __init__(self, client: Client, wait: Callable[[], object]) -> None:
        super().__init__(client, wait)
        self._number = 0
        self.text = b""
        """All that the last command was answered with."""

    def command(self, words: str, literal: bytes | None = None) -> bool | None:
        """`literal` comes last, without waiting to be asked for (RFC 7888)."""
        self._number += 1
        tag = b"t%d" % self._number
        line = tag + b" " + words.encode()
        if literal is not None:
            line += b" {%d+}\r\n" % len(literal) + literal
        end = re.compile(rb"(?:^|\r\n)" + tag + rb" (OK|NO|BAD) [^\r\n]*\r\n$")
        self.text = self._ask(line, end.search)
        ended = end.search(self.text)
        return None if ended is None else ended[1] == b"OK"

    def login(self, user: str, password: str) -> bool | None:
        return self.command(f"LOGIN {user} {password}")

    def look(self, folder: str) -> Box | None:
        """The whole of a folder; None when that was not answered."""
        if not self.command(f"EXAMINE {folder}"):
            return None
        validity = re.search(rb"\[UIDVALIDITY (\d+)\]", self.text)
        if validity is None or not self.command("UID FETCH 1:* (UID BODY.PEEK[])"):
            return None
        messages: dict[int, bytes] = {}
        at = 0
        while (found := _FETCHED.search(self.text, at)) is not None:
            at = found.end() + int(found[2] or 0)
            messages[int(found[1])] = self.text[found.end() : at]
        return Box(int(validity[1]), messages)

    def uids(self) -> list[int] | None:
        """Of the folder that is selected, in their order."""
        if not self.command("UID SEARCH RETURN (ALL) ALL"):
            return None
        found = re.search(rb"ALL ([0-9:,]+)", self.text)
        return [] if found is None else _numbers(found[1].decode())


class Submission(_Talk):
    """SMTP, RFC 5321; on port 465 as a user who logs in."""

    def hello(self) -> bool | None:
        return _yes(self._ask(b"EHLO client.example"), b"250")

    def login(self, user: str, password: str) -> bool | None:
        self.hello()
        secret = base64.b64encode(f"\0{user}\0{password}".encode())
        return _yes(self._ask(b"AUTH PLAIN " + secret), b"235")

    def begin(self, sender: str, recipients: Sequence[str]) -> bool | None:
        """To the point where the content is asked for; True only when every recipient is taken."""
        if (said := _yes(self._ask(f"MAIL FROM:<{sender}>".encode()), b"250")) is not True:
            return said
        for one in recipients:
            if (said := _yes(self._ask(f"RCPT TO:<{one}>".encode()), b"250")) is not True:
                return said
        return _yes(self._ask(b"DATA"), b"354")

    def content(self, content: bytes) -> bool | None:
        """The message and its final dot."""
        return _yes(self._ask(stuffed(content)[:-2]), b"250")

    def quit(self) -> None:
        self._ask(b"QUIT")


def stuffed(content: bytes) -> bytes:
    """As it is sent in DATA, with the final dot: RFC 5321 section 4.5.2."""
    lines = content.replace(b"\r\n.", b"\r\n..")
    return (b"." if content.startswith(b".") else b"") + lines + b".\r\n"


def _whole_message(got: bytes) -> bool:
    return got.endswith(b"\r\n.\r\n") or got.startswith(b"-ERR")


def _yes(answer: bytes, word: bytes) -> bool | None:
    """By the last line of it."""
    lines = answer.splitlines()
    return lines[-1].startswith(word) if lines else None


def _numbers(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition(":")
        found += range(int(first), int(last or first) + 1)
    return found
