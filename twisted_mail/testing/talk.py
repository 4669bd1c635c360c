"""Small clients of the three protocols, on a simulated connection: what somebody does who looks at his mail.

Each method says what the server answered: True when it was yes, False when it was no, None when no answer came, because
the connection ended, or the server takes its time; who got no answer asks nothing more. They speak TLS from the first
byte (ports 465, 993, 995), or not at all (port 25).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from .client import Client
from .truth import Box

__all__ = ["Imap", "Pop3", "Submission", "fetched", "numbers", "stuffed"]

_FETCHED = re.compile(rb"\* \d+ FETCH \(UID (\d+) BODY\[\] (?:\{(\d+)\}\r\n|\"\")")
_FLAGS = re.compile(rb"\* \d+ FETCH \(UID (\d+) FLAGS \(([^)]*)\)")
_SMTP_REPLY = re.compile(rb"(?:\d{3}-[^\r\n]*\r\n)*\d{3} [^\r\n]*\r\n")
_LINE = re.compile(rb"[^\r\n]*\r\n")
_POP3_LINES = re.compile(rb"(?:-ERR[^\r\n]*\r\n|\+OK(?:[^\r\n]*\r\n)(?s:.*?)(?:(?<=\r\n))\.\r\n)")

PATIENCE: Final = 25
"""How often a client looks for an answer, each time a third longer: two minutes in all."""
SOON: Final = 0.05


class _Talk:
    """One connection. `wait` lets so many seconds pass."""

    greeting = _LINE

    def __init__(self, client: Client, wait: Callable[[float], object]) -> None:
        self.client = client
        self.given_up = False
        self._wait = wait
        self._unread = b""
        self._answer(self.greeting.match)

    @property
    def open(self) -> bool:
        return self.client.closed is None and not self.given_up

    def _ask(self, line: bytes, whole: Callable[[bytes], re.Match[bytes] | None]) -> bytes:
        """Say `line`; the answer, up to the end of what `whole` finds in it; b"" when none comes."""
        if not self.open:
            return b""
        self.client.send(line + b"\r\n")
        return self._answer(whole)

    def _answer(self, whole: Callable[[bytes], re.Match[bytes] | None]) -> bytes:
        pause = SOON
        for _ in range(PATIENCE):
            self._unread += self.client.read()
            if (found := whole(self._unread)) is not None:
                answer, self._unread = self._unread[: found.end()], self._unread[found.end() :]
                return answer
            if self.client.closed is not None:
                break
            self._wait(pause)
            pause *= 1.33
        self.given_up = True
        return b""

    def abort(self) -> None:
        if self.client.closed is None:
            self.client.abort()


class Pop3(_Talk):
    """POP3, RFC 1939."""

    def login(self, user: str, password: str) -> bool | None:
        self._line(f"USER {user}".encode())
        return self._line(f"PASS {password}".encode())

    def unique(self) -> list[str] | None:
        """The unique ids, in the order of the messages (UIDL)."""
        answer = self._ask(b"UIDL", _POP3_LINES.match)
        if not answer.startswith(b"+OK"):
            return None
        return [line.split()[1].decode() for line in answer.split(b"\r\n")[1:-2]]

    def retrieve(self) -> list[bytes] | None:
        """All messages; None when the connection ends meanwhile."""
        found = []
        count = self._ask(b"STAT", _LINE.match).split()
        if len(count) < 2 or count[0] != b"+OK":
            return None
        for number in range(1, int(count[1]) + 1):
            answer = self._ask(b"RETR %d" % number, _POP3_LINES.match)
            head, _, rest = answer.partition(b"\r\n")
            if not head.startswith(b"+OK"):
                return None
            # RFC 1939 section 3: what begins with a dot has one more
            found.append(rest[:-3].replace(b"\r\n..", b"\r\n."))
        return found

    def delete(self, number: int) -> bool | None:
        return self._line(b"DELE %d" % number)

    def quit(self) -> bool | None:
        return self._line(b"QUIT")

    def ask_to_quit(self) -> Callable[[], bool | None]:
        """QUIT, on its way; call what this gives when time has passed."""
        self.client.write(b"QUIT\r\n")
        return lambda: _said(self._answer(_LINE.match), b"+OK")

    def _line(self, line: bytes) -> bool | None:
        return _said(self._ask(line, _LINE.match), b"+OK")


class Imap(_Talk):
    """IMAP, RFC 9051."""

    def __init__(self, client: Client, wait: Callable[[float], object]) -> None:
        self._number = 0
        self.text = b""
        """All that the last command was answered with."""
        super().__init__(client, wait)

    def command(self, words: str, literal: bytes | None = None) -> bool | None:
        """`literal` comes last, without waiting to be asked for (RFC 7888)."""
        line, end = self._line(words, literal)
        return self._heard(self._ask(line, end), end)

    def begin(self, words: str, literal: bytes | None = None) -> Callable[[], bool | None]:
        """The same, on its way; call what this gives when time has passed."""
        line, end = self._line(words, literal)
        self.client.write(line + b"\r\n")
        return lambda: self._heard(self._answer(end), end)

    def _line(
        self, words: str, literal: bytes | None
    ) -> tuple[bytes, Callable[[bytes], re.Match[bytes] | None]]:
        self._number += 1
        tag = b"t%d" % self._number
        line = tag + b" " + words.encode()
        if literal is not None:
            line += b" {%d+}\r\n" % len(literal) + literal
        end = re.compile(tag + rb" (OK|NO|BAD) [^\r\n]*\r\n")

        def ended(text: bytes) -> re.Match[bytes] | None:
            # In the last line only, or it would be looked for in all that a FETCH gives, each time that more comes.
            last = text.rfind(b"\n", 0, -1) + 1
            return end.match(text, last)

        return line, ended

    def _heard(self, answer: bytes, end: Callable[[bytes], re.Match[bytes] | None]) -> bool | None:
        self.text = answer or self._unread
        ended = end(answer)
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
        messages = fetched(self.text)
        if not self.command("UID FETCH 1:* (UID FLAGS)"):
            return None
        return Box(int(validity[1]), messages, _flags(self.text))

    def uids(self) -> list[int] | None:
        """Of the folder that is selected, in their order."""
        if not self.command("UID SEARCH RETURN (ALL) ALL"):
            return None
        found = re.search(rb"ALL ([0-9:,]+)", self.text)
        return [] if found is None else numbers(found[1].decode())


class Submission(_Talk):
    """SMTP, RFC 5321; on port 465 as a user who logs in."""

    greeting = _SMTP_REPLY

    def hello(self) -> bool | None:
        return self._line(b"EHLO client.example", b"250")

    def login(self, user: str, password: str) -> bool | None:
        self.hello()
        secret = base64.b64encode(f"\0{user}\0{password}".encode())
        return self._line(b"AUTH PLAIN " + secret, b"235")

    def begin(self, sender: str, recipients: Sequence[str]) -> bool | None:
        """To the point where the content is asked for; True only when every recipient is taken."""
        if (said := self._line(f"MAIL FROM:<{sender}>".encode(), b"250")) is not True:
            return said
        for one in recipients:
            if (said := self._line(f"RCPT TO:<{one}>".encode(), b"250")) is not True:
                return said
        return self._line(b"DATA", b"354")

    def content(self, content: bytes) -> bool | None:
        """The message and its final dot."""
        return self._line(stuffed(content)[:-2], b"250")

    def ask_to_take(self, content: bytes) -> Callable[[], bool | None]:
        """The same, on its way; call what this gives when time has passed."""
        self.client.write(stuffed(content))
        return lambda: _said(self._answer(_SMTP_REPLY.match), b"250")

    def quit(self) -> None:
        self._line(b"QUIT", b"221")

    def _line(self, line: bytes, word: bytes) -> bool | None:
        return _said(self._ask(line, _SMTP_REPLY.match), word)


def stuffed(content: bytes) -> bytes:
    """As it is sent in DATA, with the final dot: RFC 5321 section 4.5.2."""
    lines = content.replace(b"\r\n.", b"\r\n..")
    return (b"." if content.startswith(b".") else b"") + lines + b".\r\n"


def fetched(text: bytes) -> Mapping[int, bytes]:
    """Whole messages by UID, from what was said to FETCH (UID BODY[])."""
    messages: dict[int, bytes] = {}
    at = 0
    while (found := _FETCHED.search(text, at)) is not None:
        at = found.end() + int(found[2] or 0)
        messages[int(found[1])] = text[found.end() : at]
    return messages


def _flags(text: bytes) -> Mapping[int, frozenset[bytes]]:
    return {int(uid): frozenset(words.split()) for uid, words in _FLAGS.findall(text)}


def _said(answer: bytes, word: bytes) -> bool | None:
    """By the last line of it."""
    lines = answer.splitlines()
    return lines[-1].startswith(word) if lines else None


def numbers(text: str) -> list[int]:
    """What a sequence set says: ``1:3,7``."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition(":")
        found += range(int(first), int(last or first) + 1)
    return found
