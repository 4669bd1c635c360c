"""The start without configuration: one user to try things with, and what is printed for its owner.

The first time there is a password and two commands that can be pasted as they stand; afterwards the
password is known to its owner only, and neither is printed. Everything else of this start is
`config.default` and `certs`.
"""

from __future__ import annotations

import os
from base64 import b32encode
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from typing import Final

from .accounts.directory import Directory
from .accounts.passwords import Hasher
from .address import Address
from .world import World

__all__ = ["FirstStart"]

_USER: Final = Address("alice", "localhost")
_PASSWORD_BYTES: Final = 10


class FirstStart:
    """Makes the user when there is none, and knows what to print."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._password: str | None = None
        self._user: Address | None = None

    async def prepare(self, directory: Directory) -> None:
        """Make the user, when the directory has no user at all."""
        if not directory.users():
            if not directory.is_local_domain(_USER.domain):
                directory.add_domain(_USER.domain)
            password = _password(self._world.entropy)
            directory.add_user(_USER, await Hasher(self._world).make(password))
            self._password = password
        self._user = _USER if directory.user(_USER) else None

    def lines(self, ca: Path, listeners: Sequence[tuple[str, str]], directory: Path) -> list[str]:
        """What to print once everything listens: `listeners` are names and addresses, `directory` is
        where the commands will be pasted.
        """
        shown = os.path.relpath(ca, directory) if ca.is_relative_to(directory) else str(ca)
        lines = []
        if self._user is not None:
            lines.append(f"user: {self._user}")
        if self._password is not None:
            lines.append(f"password: {self._password}")
        lines.append(f"ca: {shown}")
        lines += [f"{name}: {address}" for name, address in listeners]
        if self._password is not None:
            lines += _commands(shown, f"{self._user}:{self._password}", dict(listeners))
        return lines


def _commands(ca: str, login: str, listeners: dict[str, str]) -> list[str]:
    submissions, pop3s = (
        f"localhost:{listeners[name].rpartition(':')[2]}" for name in ("submissions", "pop3s")
    )
    message = f"From: {_USER}\\r\\nTo: {_USER}\\r\\nSubject: Hello\\r\\n\\r\\nIt works.\\r\\n"
    curl = f"curl -sS --cacert {quote(ca)} --user '{login}'"
    return [
        f"printf '{message}' | {curl} --mail-from {_USER} --mail-rcpt {_USER} "
        f"--upload-file - smtps://{submissions}",
        f"{curl} pop3s://{pop3s}/1",
    ]


def _password(entropy: Callable[[int], bytes]) -> str:
    """80 bits as four groups of four letters and digits, none of which a shell would mind."""
    text = b32encode(entropy(_PASSWORD_BYTES)).decode().lower()
    return "-".join(text[n : n + 4] for n in range(0, len(text), 4))
