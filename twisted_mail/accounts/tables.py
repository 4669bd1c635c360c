"""The tables of ``accounts.sqlite3``, and plain reads of them.

Promises: the file has mode 0600 from its first instant; a commit is on the disk when it returns
(`synchronous=FULL`); a file that a newer version wrote is refused, not guessed at. Every read is a
look into the tables as they are, without any cache.

It knows no rule about who gets which mail (`accounts.expansion`) and changes nothing
(`accounts.directory`).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..address import Address
from .passwords import PasswordRecord

__all__ = [
    "Alias",
    "DirectoryError",
    "Expansion",
    "NobodyError",
    "StillNeededError",
    "Tables",
    "User",
    "alias_name",
    "kept_versions",
    "undo_migration",
]

SCHEMA_VERSION: Final = 2
_CORRUPT: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BUSY_SECONDS: Final = 10.0

_SCHEMA: Final = """
CREATE TABLE site (secret BLOB NOT NULL);
CREATE TABLE domains (name TEXT PRIMARY KEY);
CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    local TEXT NOT NULL,
    domain TEXT NOT NULL REFERENCES domains,
    mailbox TEXT NOT NULL UNIQUE,
    password TEXT NOT NULL,
    enabled INTEGER NOT NULL DEFAULT 1,
    created REAL NOT NULL,
    storage INTEGER,
    messages INTEGER
);
CREATE INDEX users_domain ON users (domain);
CREATE TABLE mailboxes_ever (mailbox TEXT PRIMARY KEY);
CREATE TABLE aliases (
    key TEXT PRIMARY KEY,
    local TEXT NOT NULL,
    domain TEXT NOT NULL REFERENCES domains
);
CREATE INDEX aliases_domain ON aliases (domain);
CREATE TABLE alias_targets (
    alias TEXT NOT NULL REFERENCES aliases ON DELETE CASCADE,
    position INTEGER NOT NULL,
    local TEXT NOT NULL,
    domain TEXT NOT NULL,
    PRIMARY KEY (alias, position)
);
CREATE INDEX alias_targets_domain ON alias_targets (domain);
"""

_MIGRATIONS: Final = {
    # Bounds of one user: NULL is the site's, 0 is none.
    1: (
        "ALTER TABLE users ADD COLUMN storage INTEGER",
        "ALTER TABLE users ADD COLUMN messages INTEGER",
    ),
}
"""Version → what makes the next one of it."""


class DirectoryError(ValueError):
    """A refused change, or a directory that cannot be used; the text is for the operator."""


class NobodyError(DirectoryError):
    """The alias `alias` leads to `target`, and nobody is called that."""

    def __init__(self, alias: str, target: Address) -> None:
        super().__init__(f"the alias {alias} leads to {target}, which does not exist")
        self.alias = alias
        self.target = target


class StillNeededError(DirectoryError):
    """Refused: the alias `alias` leads to `target`."""

    def __init__(self, alias: str, target: Address) -> None:
        super().__init__(
            f"the alias {alias} still leads to {target}; remove that alias first, "
            "or make it anew with other targets"
        )
        self.alias = alias
        self.target = target


@dataclass(frozen=True, slots=True)
class User:
    """One user.

    `mailbox` is the key of the user's mail in the store, ``domain/name``, each a safe file name of
    at most 255 bytes. Who is not `enabled` gets mail but may not log in. `created`: seconds since
    1970. `storage` (octets) and `messages`: how much the mailbox may hold; None: what the site allows
    to all, 0: without bound.
    """

    id: int
    address: Address
    mailbox: str
    enabled: bool
    created: float
    storage: int | None = None
    messages: int | None = None


@dataclass(frozen=True, slots=True)
class Alias:
    """One alias. The local part is "" for a catch-all, which `name` writes as ``@domain``."""

    address: Address
    targets: tuple[Address, ...]

    @property
    def name(self) -> str:
        return alias_name(self.address)


@dataclass(frozen=True, slots=True)
class Expansion:
    """Where mail for an address goes, each place once."""

    locals: tuple[User, ...]
    remote: tuple[Address, ...]


def alias_name(address: Address) -> str:
    """An alias's address as people write it: ``@domain`` for a catch-all."""
    return str(address) if address.local else f"@{address.domain}"


class Tables:
    """The open file. Belongs to one thread and one process."""

    def __init__(self, path: str, entropy: Callable[[int], bytes]) -> None:
        try:
            self.db, self.secret = _open(path, entropy)
        except (OSError, sqlite3.Error) as error:
            advice = ""
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _CORRUPT:
                advice = (
                    ". It holds domains, users and passwords and is not made anew: put a copy in its place, such as a"
                    " backup has, or what `sqlite3 accounts.sqlite3 .recover` makes of it"
                )
            raise DirectoryError(f"{path}: {error}{advice}") from error

    def version(self) -> int:
        """A number that changes when another connection, here or elsewhere, has committed."""
        ((version,),) = self.db.execute("PRAGMA data_version")
        return int(version)

    def domains(self) -> list[str]:
        return [name for (name,) in self.db.execute("SELECT name FROM domains ORDER BY name")]

    def is_local_domain(self, domain: str) -> bool:
        rows = self.db.execute("SELECT 1 FROM domains WHERE name = ?", (domain,))
        return rows.fetchone() is not None

    def users(self) -> list[User]:
        return [_user(row) for row in self.db.execute(f"{_SELECT_USER} ORDER BY id")]

    def user(self, key: str) -> User | None:
        row = self.db.execute(f"{_SELECT_USER} WHERE key = ?", (key,)).fetchone()
        return _user(row) if row else None

    def user_of_mailbox(self, mailbox: str) -> User | None:
        row = self.db.execute(f"{_SELECT_USER} WHERE mailbox = ?", (mailbox,)).fetchone()
        return _user(row) if row else None

    def first_user(self) -> User | None:
        row = self.db.execute(f"{_SELECT_USER} ORDER BY id LIMIT 1").fetchone()
        return _user(row) if row else None

    def password(self, user: int) -> PasswordRecord | None:
        row = self.db.execute("SELECT password FROM users WHERE id = ?", (user,)).fetchone()
        return PasswordRecord.parse(row[0]) if row else None

    def aliases(self) -> list[Alias]:
        rows = self.db.execute("SELECT key, local, domain FROM aliases ORDER BY domain, key")
        return [Alias(Address(*name), self.targets(key) or ()) for key, *name in rows.fetchall()]

    def aliases_into(self, domain: str) -> list[Address]:
        """The aliases that have a target in `domain`."""
        rows = self.db.execute(
            "SELECT DISTINCT aliases.local, aliases.domain FROM alias_targets"
            " JOIN aliases ON aliases.key = alias WHERE alias_targets.domain = ?",
            (domain,),
        )
        return [Address(*row) for row in rows]

    def targets(self, key: str) -> tuple[Address, ...] | None:
        """The targets of the alias with this key, None when there is none."""
        rows = self.db.execute(
            "SELECT local, domain FROM alias_targets WHERE alias = ? ORDER BY position", (key,)
        )
        return tuple(Address(*row) for row in rows) or None


_SELECT_USER: Final = (
    "SELECT id, local, domain, mailbox, enabled, created, storage, messages FROM users"
)


def _open(path: str, entropy: Callable[[int], bytes]) -> tuple[sqlite3.Connection, bytes]:
    """The open file, made when it is not there, and the site's secret."""
    if not os.path.lexists(path):
        _create(path, entropy)
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        ((version,),) = db.execute("PRAGMA user_version")
        if version > SCHEMA_VERSION:
            raise DirectoryError(
                f"{path} was written by a newer version of twisted_mail"
                f" (schema {version}; this one knows {SCHEMA_VERSION}); use the newer program"
            )
        if version in _MIGRATIONS:
            version = _migrate(db, path, entropy)
        if version != SCHEMA_VERSION:
            raise DirectoryError(f"{path} is not an accounts file of twisted_mail")
        ((secret,),) = db.execute("SELECT secret FROM site")
    except BaseException:
        db.close()
        raise
    return db, bytes(secret)


def _create(path: str, entropy: Callable[[int], bytes]) -> None:
    """Make the file under another name first: nobody ever sees half of it, and of two processes
    that make it at once one wins.
    """
    draft = f"{path}.new-{entropy(8).hex()}"
    # SQLite's own files take the mode of the database.
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        db = sqlite3.connect(draft, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("BEGIN")
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute("INSERT INTO site VALUES (?)", (entropy(32),))
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            db.execute("COMMIT")
        finally:
            db.close()
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
    finally:
        os.unlink(draft)
    _sync_folder(path)


def _migrate(db: sqlite3.Connection, path: str, entropy: Callable[[int], bytes]) -> int:
    """Bring the tables of an older version up to date, and give the version that they have now.

    A copy stays as ``….before-1``, on the disk before anything changes: `undo_migration`.
    """
    ((version,),) = db.execute("PRAGMA user_version")
    if version in _MIGRATIONS:
        _keep(db, f"{path}.before-{version}", entropy)
    db.execute("BEGIN IMMEDIATE")
    try:
        # Asked again: another process may have been first.
        ((version,),) = db.execute("PRAGMA user_version")
        while version in _MIGRATIONS:
            for statement in _MIGRATIONS[version]:
                db.execute(statement)
            version += 1
            db.execute(f"PRAGMA user_version = {version}")
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
    return int(version)


def _keep(db: sqlite3.Connection, kept: str, entropy: Callable[[int], bytes]) -> None:
    """A copy of the file as it is, whole or not there; the first one stays."""
    draft = f"{kept}.new-{entropy(8).hex()}"
    file = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        copy = sqlite3.connect(draft, isolation_level=None)
        try:
            db.backup(copy)
        finally:
            copy.close()
        os.fsync(file)
        try:
            os.link(draft, kept)
        except FileExistsError:
            pass
    finally:
        os.close(file)
        os.unlink(draft)
    _sync_folder(kept)


def kept_versions(path: str) -> list[int]:
    """The older versions of the file at `path` that can be put back."""
    folder, name = os.path.split(path)
    start = f"{name}.before-"
    ends = (one[len(start) :] for one in os.listdir(folder or ".") if one.startswith(start))
    return sorted(int(end) for end in ends if end.isdigit())


def undo_migration(path: str, version: int) -> None:
    """Put back the file as `version` had it; what has been changed since is in ``….after-…``.

    Nobody may have it open: DirectoryError. Raises OSError, sqlite3.Error.
    """
    db = sqlite3.connect(path, timeout=1, isolation_level=None)
    try:
        ((now,),) = db.execute("PRAGMA user_version")
        ((mode,),) = db.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.OperationalError as error:
        raise DirectoryError(f"{path} is in use: stop the server first ({error})") from error
    finally:
        db.close()
    if mode != "delete":
        raise DirectoryError(f"{path} is in use: stop the server first")
    aside = f"{path}.after-{now}"
    if os.path.lexists(aside):
        os.unlink(aside)
    os.link(path, aside)
    _sync_folder(path)
    os.rename(f"{path}.before-{version}", path)
    _sync_folder(path)


def _sync_folder(path: str) -> None:
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _user(row: tuple[int, str, str, str, int, float, int | None, int | None]) -> User:
    number, local, domain, mailbox, enabled, created, storage, messages = row
    return User(number, Address(local, domain), mailbox, bool(enabled), created, storage, messages)
