"""Secrets of a configuration, which stand outside `mail.toml`, so that it can be shown to others: in a file each, or in
the environment.

``${NAME}`` is what the environment says, as the whole of a secret, or as the directory in which a file lies:
``password_file = "${CREDENTIALS_DIRECTORY}/smarthost"`` is where systemd has put it (systemd.exec(5), LoadCredential=).
A secret from the environment is looked up when it is needed, and is in no `Config`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

__all__ = [
    "HasPassword",
    "in_environment",
    "names_variable",
    "password_of",
    "placed",
    "read_secret",
    "secret_text",
    "unset",
]

_MAX_BYTES: Final = 4096
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class HasPassword(Protocol):
    """A table with `password` ("": none) and `password_file`."""

    @property
    def password(self) -> str: ...
    @property
    def password_file(self) -> Path | None: ...


def password_of(table: HasPassword) -> str:
    """The password, from where it is; "" when there is none. Raises OSError or ValueError."""
    if table.password_file is not None:
        return read_secret(table.password_file)
    return secret_text(table.password)


def secret_text(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """`text`, or what the environment has for it. Raises ValueError, which says nothing of its content."""
    found = _VARIABLE.fullmatch(text)
    if found is None:
        return text
    secret = environment.get(found[1])
    if not secret:
        raise ValueError(f"must be set in the environment: {found[1]} is not")
    return _checked(secret)


def in_environment(text: str) -> bool:
    """Whether the secret itself stands elsewhere."""
    return _VARIABLE.fullmatch(text) is not None


def names_variable(text: str) -> bool:
    """Whether a secret, or the name of a file, says where in the environment to look."""
    return _VARIABLE.match(text) is not None


def placed(path: str, environment: Mapping[str, str] = os.environ) -> str:
    """`path` with the directory that the environment names; as it is where that is not set."""
    found = _VARIABLE.match(path)
    above = environment.get(found[1]) if found else None
    if found is None or not above or path[found.end() : found.end() + 1] != "/":
        return path
    return above + path[found.end() :]


def unset(path: Path) -> str | None:
    """The variable that this path still waits for."""
    found = next(filter(None, map(_VARIABLE.fullmatch, path.parts)), None)
    return found[1] if found else None


def read_secret(path: Path) -> str:
    """The first line of a file. Raises OSError, or ValueError that says nothing of its content."""
    if name := unset(path):
        raise ValueError(f"must be below a directory that the environment names: {name} is not set")
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
    return _checked(secret)


def _checked(secret: str) -> str:
    if "\0" in secret:
        raise ValueError("must be a password without NUL")  # RFC 4616 section 2
    return secret
