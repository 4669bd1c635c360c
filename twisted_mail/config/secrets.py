"""Passwords that a configuration keeps in files of their own, so that `mail.toml` can be shown to others."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

__all__ = ["HasPassword", "password_of", "read_secret"]

_MAX_BYTES: Final = 4096


class HasPassword(Protocol):
    """A table with `password` ("": none) and `password_file`."""

    @property
    def password(self) -> str: ...
    @property
    def password_file(self) -> Path | None: ...


def password_of(table: HasPassword) -> str:
    """The password, from where it is; "" when there is none. Raises OSError or ValueError."""
    return table.password if table.password_file is None else read_secret(table.password_file)


def read_secret(path: Path) -> str:
    """The first line of a file. Raises OSError, or ValueError that says nothing of its content."""
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    line = content.partition(b"\n")[0].removesuffix(b"\r")
    if len(line) > _MAX_BYTES:
        raise ValueError(f"must have a first line of at most {_MAX_BYTES} octets")
    if not line:
        raise ValueError("must have the password in its first line")
    try:
        secret = line.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("must be UTF-8") from None
    if "\0" in secret:
        raise ValueError("must be a password without NUL")  # RFC 4616 section 2
    return secret
