"""Debian's Dovecot beside a site of ours: two copies of one Maildir, the same commands to both, answers as values.

Dovecot's ``imap`` runs on pipes, logged in already; ours is a real ``twistd`` that takes the Maildir over as it lies.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from mailsite import ALICE, DEADLINE, PASSWORD, Site
from peers import NOBODY

IMAP = "/usr/lib/dovecot/imap"

PLAIN = """
base_dir = {root}/run
state_dir = {root}/state
log_path = {root}/log
ssl = no
first_valid_uid = 0
last_valid_uid = 0
mail_uid = nobody
mail_gid = nogroup
mail_location = maildir:{root}/Maildir
"""
"""A configuration that needs nothing of the system's."""

_CONFIG = (
    PLAIN
    + """namespace inbox {{
  inbox = yes
  separator = /
  mailbox Drafts {{
    special_use = \\Drafts
  }}
  mailbox Sent {{
    special_use = \\Sent
  }}
  mailbox Trash {{
    special_use = \\Trash
  }}
  mailbox Junk {{
    special_use = \\Junk
  }}
  mailbox Archive {{
    special_use = \\Archive
  }}
}}
"""
)

_token = re.compile(
    rb'"((?:[^"\\]|\\.)*)"|~?\{(\d+)\}\r\n|([^ ()\r\n"\[]*\[[^\]]*\][^ ()\r\n]*|[^ ()\r\n]+)',
    re.DOTALL,
)
_tagged = re.compile(rb"(OK|NO|BAD)(?: \[([^\]]*)\])? ?(.*)", re.DOTALL)
_literal = re.compile(rb"\{(\d+)\}\r\n$")


class Atom(bytes):
    """A word that is neither quoted nor a literal."""

    def __repr__(self) -> str:
        return self.decode("latin-1")


Value = bytes | None | list["Value"]


def values(data: bytes) -> list[Value]:
    """All values of a line, without its end."""
    stack: list[list[Value]] = [[]]
    at = 0
    while at < len(data):
        sign = data[at : at + 1]
        if sign in (b" ", b"\r", b"\n"):
            at += 1
        elif sign == b"(":
            stack.append([])
            at += 1
        elif sign == b")":
            done = stack.pop()
            stack[-1].append(done)
            at += 1
        else:
            found = _token.match(data, at)
            assert found is not None, data[at : at + 80]
            at = found.end()
            if found[1] is not None:
                stack[-1].append(re.sub(rb"\\(.)", rb"\1", found[1], flags=re.DOTALL))
            elif found[2] is not None:
                stack[-1].append(data[at : at + int(found[2])])
                at += int(found[2])
            else:
                stack[-1].append(None if found[3] == b"NIL" else Atom(found[3]))
    (out,) = stack
    return out


class Answer(NamedTuple):
    """`status`: OK, NO, BAD; `code`: what stands in brackets; `untagged`: the lines before, as values, but for OK
    and NO, whose text is none."""

    status: bytes
    code: bytes
    text: bytes
    untagged: list[list[Value]]

    def of(self, name: bytes, at: int = 0) -> list[list[Value]]:
        """The untagged ones of this name, which stands at the place `at`."""
        return [one for one in self.untagged if one[at : at + 1] == [name]]


class Talk:
    """A session by hand: a command, its answer."""

    def __init__(self, reads: IO[bytes], send: Callable[[bytes], object]) -> None:
        self._reads = reads
        self.send = send
        self._number = 0
        self.greeting = self._line()

    def _line(self) -> bytes:
        line = self._reads.readline()
        while (found := _literal.search(line)) is not None:
            line += self._reads.read(int(found[1])) + self._reads.readline()
        assert line.endswith(b"\r\n"), line[-200:]
        return line[:-2]

    def do(self, command: str | bytes) -> Answer:
        if isinstance(command, str):
            command = command.encode()
        self._number += 1
        tag = b"t%d" % self._number
        self.send(tag + b" " + command + b"\r\n")
        untagged = []
        while True:
            line = self._line()
            first, _, rest = line.partition(b" ")
            if first == tag:
                found = _tagged.match(rest)
                assert found is not None, line
                return Answer(found[1], found[2] or b"", found[3], untagged)
            if first == b"+":
                # The end of a literal that is not to come
                self.send(b"\r\n")
                continue
            assert first == b"*", line
            if (said := _tagged.match(rest)) is not None:
                untagged.append([said[1], said[2] or b""])
            else:
                untagged.append(values(rest))


def literal(text: bytes) -> bytes:
    return b"{%d+}\r\n%b" % (len(text), text)


class Dovecot:
    """One Maildir, served by Dovecot."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "dovecot.conf").write_text(_CONFIG.format(root=root))

    @property
    def maildir(self) -> Path:
        return self.root / "Maildir"

    def own(self) -> None:
        """What was put there is the user's that Dovecot runs as."""
        for path in (self.root, *self.root.rglob("*")):
            os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)

    @contextmanager
    def session(self) -> Iterator[Talk]:
        with subprocess.Popen(
            [IMAP, "-c", str(self.root / "dovecot.conf")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"USER": "x", "HOME": str(self.root), "PATH": os.environ["PATH"], "TZ": "UTC"},
        ) as running:
            assert running.stdin is not None and running.stdout is not None
            writes = running.stdin

            def send(data: bytes) -> None:
                writes.write(data)
                writes.flush()

            try:
                yield Talk(running.stdout, send)
            finally:
                running.kill()


@contextmanager
def our_session(site: Site) -> Iterator[Talk]:
    """Logged in as alice."""
    plain = socket.create_connection(("127.0.0.1", site.ports["imaps"]), timeout=2 * DEADLINE)
    with site.tls.wrap_socket(plain, server_hostname="localhost") as secure:
        talk = Talk(secure.makefile("rb"), secure.sendall)
        assert talk.do(f'LOGIN {ALICE} "{PASSWORD}"').status == b"OK"
        yield talk


class Pair(NamedTuple):
    """Dovecot's session and ours."""

    theirs: Talk
    ours: Talk

    def do(self, command: str | bytes) -> tuple[Answer, Answer]:
        both = self.theirs.do(command), self.ours.do(command)
        for talk, answer in zip(self, both, strict=True):
            if answer.status == b"BAD":
                # Too many in a row, and either of them hangs up
                talk.do("NOOP")
        return both

    def both_ok(self, *commands: str | bytes) -> None:
        for command in commands:
            for answer in self.do(command):
                assert answer.status == b"OK", (command, answer)


def fill(folder: Path, messages: Iterable[tuple[bytes, str, int]]) -> None:
    """A Maildir's folder of (content, letters of flags, time). No two folders have a name of a file in common."""
    for part in ("new", "cur", "tmp"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number, (content, letters, when) in enumerate(messages, 1):
        path = folder / "cur" / f"{1_000_000 + number}.{folder.name}.h:2,{letters}"
        path.write_bytes(content)
        os.utime(path, (when, when))


def hand_over(maildir: Path, site: Site) -> None:
    """A copy of the Maildir, in the place of alice's."""
    local, _, domain = ALICE.partition("@")
    place = site.data / "mail" / domain / local / "Maildir"
    place.parent.mkdir(parents=True, mode=0o700)
    shutil.copytree(maildir, place, copy_function=shutil.copy2)
