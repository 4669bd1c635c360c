"""The keys that sign for this site's domains: files under ``data/dkim``, read by the server, changed by `mailctl`.

    data/dkim/state.json                which keys there are, and what each is doing; replaced as a whole
    data/dkim/<domain>/<selector>.pem   a private key (PKCS #8), mode 0600

A key is *prepared* (its record is published, nothing is signed with it), *active*, then *retired*: its record must
stay in the DNS until the last message that it signed has arrived (`until`); then it is removed. A key's file is there
before the state names it, and goes after the state does not: what the state says can always be read.

`KeyFiles` changes them, one process at a time, and blocks. `SigningKeys` is the server's: a look-up costs a `stat`.
"""

from __future__ import annotations

import fcntl
import json
import os
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from twisted.logger import Logger

from ..address import normalize_domain
from ..disk import Disk, make_directories

__all__ = [
    "ACTIVE", "ALGORITHMS", "PREPARED", "RETIRED",
    "DkimKey", "DkimKeysError", "KeyFiles", "KeyRow", "SigningKeys", "record_strings", "record_text",
]  # fmt: skip

_log = Logger()

PREPARED: Final = "prepared"
ACTIVE: Final = "active"
RETIRED: Final = "retired"
ALGORITHMS: Final = ("rsa-sha256", "ed25519-sha256")
"""Of a new pair, in the order in which a message is signed."""
KEEP: Final = 14 * 86_400
"""Seconds that a retired key's record stays: longer than mail may be under way."""

_VERSION: Final = 1
_MAX_STATE: Final = 1_048_576
_MAX_PEM: Final = 65_536
_RSA_BITS: Final = 2048  # RFC 8301 section 3.2
_YOUNG: Final = 2_000_000_000
"""Nanoseconds for which a file's times prove nothing: they tick coarsely."""

Private = RSAPrivateKey | Ed25519PrivateKey


class DkimKeysError(Exception):
    """What was asked cannot be done; its text is for people."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """What the state says of a key. Times in seconds since 1970.

    `since`: when it took its state; `until` of a retired one: when it goes. `record`: its TXT record's text.
    """

    domain: str
    selector: str
    algorithm: str
    state: str
    since: int
    record: str
    until: int | None = None

    @property
    def name(self) -> str:
        """Where the record stands (RFC 6376 section 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"


@dataclass(frozen=True, slots=True)
class DkimKey:
    """An active key: a `policy.dkim_sign.SigningKey`."""

    domain: str
    selector: str
    algorithm: str
    private: Private


def record_strings(text: str) -> list[str]:
    """A record's text as the strings of a TXT record, at most 255 octets each (RFC 1035 section 3.3.14)."""
    return [text[at : at + 255] for at in range(0, len(text), 255)] or [""]


class _Files:
    """What readers and writers share: where things are, and reading them."""

    def __init__(self, disk: Disk, data: str) -> None:
        self._disk = disk
        self._root = os.path.join(data, "dkim")
        self._state = os.path.join(self._root, "state.json")

    def _read(self, path: str, most: int) -> bytes:
        fd = self._disk.open(path, os.O_RDONLY)
        try:
            content = self._disk.pread(fd, most + 1, 0)
        finally:
            self._disk.close(fd)
        if len(content) > most:
            raise DkimKeysError(f"{path} is too large")
        return content

    def _rows(self) -> list[KeyRow]:
        """Raises DkimKeysError; none when there is no state yet."""
        try:
            content = self._read(self._state, _MAX_STATE)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DkimKeysError(f"{self._state} cannot be read: {error.strerror}") from error
        return _parse(content, self._state)

    def _path(self, domain: str, selector: str) -> str:
        return os.path.join(self._root, domain, f"{selector}.pem")

    def _private(self, row: KeyRow) -> Private:
        path = self._path(row.domain, row.selector)
        try:
            # The key is ours: the check of an RSA key's primes takes as long as some hundred signatures.
            key = load_pem_private_key(
                self._read(path, _MAX_PEM), None, unsafe_skip_rsa_key_validation=True
            )
        except OSError as error:
            raise DkimKeysError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise DkimKeysError(f"{path} is not a private key") from None
        kind = RSAPrivateKey if row.algorithm == "rsa-sha256" else Ed25519PrivateKey
        if not isinstance(key, kind):
            raise DkimKeysError(f"{path} is not a key for {row.algorithm}")
        return key


class KeyFiles(_Files):
    """The keys as `mailctl` changes them. Every method blocks, and raises DkimKeysError or OSError.

    `now` in seconds since 1970; selectors are made of its date.
    """

    def __init__(self, disk: Disk, data: str, now: Callable[[], float]) -> None:
        super().__init__(disk, data)
        self._now = now

    def rows(self) -> list[KeyRow]:
        """All keys, by domain, then in the order in which they were made."""
        return self._rows()

    def add(self, domain: str, state: str = PREPARED) -> list[KeyRow]:
        """A new pair, an RSA and an Ed25519 key, in `state`."""
        domain = _domain(domain)
        with self._changing() as rows:
            return self._add(rows, domain, state)

    def activate(self, domain: str, *, keep: int = KEEP) -> list[KeyRow]:
        """Sign with what is prepared; what was active retires, for `keep` seconds. Returns what is active now."""
        domain = _domain(domain)
        with self._changing() as rows:
            if not any(row.domain == domain and row.state == PREPARED for row in rows):
                raise DkimKeysError(f"{domain} has no prepared key")
            now = int(self._now())
            for at, row in enumerate(rows):
                if row.domain != domain:
                    continue
                if row.state == PREPARED:
                    rows[at] = _with(row, ACTIVE, now)
                elif row.state == ACTIVE:
                    rows[at] = _with(row, RETIRED, now, now + keep)
            return [row for row in rows if row.domain == domain and row.state == ACTIVE]

    def remove(self, domain: str, selector: str | None = None) -> list[KeyRow]:
        """Forget a key, or all of a domain, at once. Returns them."""
        domain = _domain(domain)
        with self._changing() as rows:
            gone = [
                row for row in rows if row.domain == domain and selector in (None, row.selector)
            ]
            if not gone:
                what = f"key {selector}" if selector is not None else "key"
                raise DkimKeysError(f"{domain} has no {what}")
            rows[:] = [row for row in rows if row not in gone]
            return gone

    def sweep(self) -> list[KeyRow]:
        """Forget the retired keys whose time is over. Returns them."""
        if not any(self._over(row) for row in self._rows()):
            return []
        with self._changing() as rows:
            gone = [row for row in rows if self._over(row)]
            rows[:] = [row for row in rows if row not in gone]
            return gone

    def _over(self, row: KeyRow) -> bool:
        return row.state == RETIRED and row.until is not None and row.until <= self._now()

    def _add(self, rows: list[KeyRow], domain: str, state: str) -> list[KeyRow]:
        from datetime import UTC, datetime

        now = int(self._now())
        taken = {row.selector for row in rows if row.domain == domain}
        day = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d")
        made = []
        directory = os.path.join(self._root, domain)
        make_directories(self._disk, directory)
        for algorithm in ALGORITHMS:
            short = algorithm.partition("-")[0]
            names = (f"{day}{letter}-{short}" for letter in ["", *"bcdefghijklmnopqrstuvwxyz"])
            selector = next((name for name in names if name not in taken), None)
            if selector is None:
                raise DkimKeysError(f"{domain} got 26 keys today already")
            private: Private = (
                generate_private_key(65537, _RSA_BITS)
                if algorithm == "rsa-sha256"
                else Ed25519PrivateKey.generate()
            )
            pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            self._write(self._path(domain, selector), pem)
            made.append(KeyRow(domain, selector, algorithm, state, now, record_text(private)))
        self._disk.sync_directory(directory)
        rows += made
        rows.sort(key=lambda row: row.domain)
        return made

    @contextmanager
    def _changing(self) -> Iterator[list[KeyRow]]:
        """The rows, to be changed in place; written when the block ends well. One process at a time."""
        make_directories(self._disk, self._root)
        lock = self._disk.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._disk.flock(lock, fcntl.LOCK_EX)
            rows = self._rows()
            before = {(row.domain, row.selector) for row in rows}
            yield rows
            content = json.dumps({"version": _VERSION, "keys": [_plain(row) for row in rows]})
            new = self._state + ".new"
            self._write(new, content.encode())
            self._disk.rename(new, self._state)
            self._disk.sync_directory(self._root)
            for domain, selector in before - {(row.domain, row.selector) for row in rows}:
                self._unlink(domain, selector)
        finally:
            self._disk.close(lock)

    def _write(self, path: str, content: bytes) -> None:
        fd = self._disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self._disk.fchmod(fd, 0o600)
            self._disk.write(fd, content)
            self._disk.fsync(fd)
        finally:
            self._disk.close(fd)

    def _unlink(self, domain: str, selector: str) -> None:
        try:
            self._disk.unlink(self._path(domain, selector))
            if not self._disk.names(os.path.join(self._root, domain)):
                self._disk.rmdir(os.path.join(self._root, domain))
        except FileNotFoundError:
            pass


class SigningKeys(_Files):
    """The active keys, for the server: read again when the state file has changed.

    `problem` says what is wrong with the files, "" when nothing is; what was read before goes on then.
    Small files: reading them may be done on the reactor thread.
    """

    def __init__(self, disk: Disk, data: str) -> None:
        super().__init__(disk, data)
        self.problem = ""
        self._mark: tuple[int, ...] | None = None
        self._active: dict[str, list[KeyRow]] = {}
        self._loaded: dict[str, tuple[DkimKey, ...]] = {}

    def of(self, domain: str) -> tuple[DkimKey, ...]:
        """The keys that sign for exactly this domain (lower-case A-labels), () for none. Never raises."""
        self._refresh()
        found = self._loaded.get(domain)
        if found is None:
            if domain not in self._active:
                return ()
            found = self._loaded[domain] = self._load(domain)
        return found

    def _load(self, domain: str) -> tuple[DkimKey, ...]:
        loaded = []
        for row in self._active[domain]:
            try:
                loaded.append(DkimKey(row.domain, row.selector, row.algorithm, self._private(row)))
            except DkimKeysError as error:
                # one that cannot be read keeps nobody from signing with the other
                self._trouble(str(error))
        return tuple(loaded)

    def _trouble(self, text: str) -> None:
        if text != self.problem:
            _log.error("mail is not signed as it should be: {problem}", problem=text)
        self.problem = text

    def _refresh(self) -> None:
        try:
            found = self._disk.stat(self._state)
            mark: tuple[int, ...] = (
                found.st_ino,
                found.st_size,
                found.st_mtime_ns,
                found.st_ctime_ns,
            )
        except FileNotFoundError:
            mark = ()
        except OSError as error:
            self._trouble(f"{self._state} cannot be read: {error.strerror}")
            return
        if mark == self._mark:
            return
        try:
            rows = self._rows()
        except DkimKeysError as error:
            self._trouble(str(error))
        else:
            self.problem = ""
            active: dict[str, list[KeyRow]] = {}
            for row in rows:
                if row.state == ACTIVE:
                    active.setdefault(row.domain, []).append(row)
            self._loaded = {
                domain: keys
                for domain, keys in self._loaded.items()
                if keys and self._active[domain] == active.get(domain)
            }
            self._active = active
        young = bool(mark) and self._disk.clock_ns() - mark[3] < _YOUNG
        self._mark = None if young else mark


def _domain(text: str) -> str:
    try:
        domain = normalize_domain(text)
    except ValueError as error:
        raise DkimKeysError(f"{text!r} is no domain: {error}") from None
    if domain[0] == "[" or "." not in domain:
        # RFC 6376 section 3.5: d= has a dot
        raise DkimKeysError(f"{text!r} is no domain that can sign: it needs a dot")
    return domain


def record_text(private: Private) -> str:
    """The TXT record of a key (RFC 6376 section 3.6.1, RFC 8463 section 4.2)."""
    if isinstance(private, RSAPrivateKey):
        octets = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return f"v=DKIM1; k=rsa; p={b64encode(octets).decode()}"
    octets = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return f"v=DKIM1; k=ed25519; p={b64encode(octets).decode()}"


def _with(row: KeyRow, state: str, since: int, until: int | None = None) -> KeyRow:
    return KeyRow(row.domain, row.selector, row.algorithm, state, since, row.record, until)


def _plain(row: KeyRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in KeyRow.__slots__ if getattr(row, name) is not None}


def _parse(content: bytes, path: str) -> list[KeyRow]:
    try:
        value = json.loads(content)
        version = value["version"]
        rows = [KeyRow(**one) for one in value["keys"]] if version == _VERSION else []
    except (ValueError, TypeError, KeyError) as error:
        raise DkimKeysError(f"{path} cannot be read: it is not what mailctl wrote") from error
    if version != _VERSION:
        raise DkimKeysError(
            f"{path}: stored by version {version} of the format, this program knows {_VERSION};"
            " use the newer program"
        )
    for row in rows:
        if (
            row.algorithm not in ALGORITHMS
            or row.state not in (PREPARED, ACTIVE, RETIRED)
            or not all(_is_name(name) for name in (row.domain, row.selector))
            or not isinstance(row.since, int)
            or not isinstance(row.until, int | None)
            or not isinstance(row.record, str)
        ):
            raise DkimKeysError(f"{path} cannot be read: it is not what mailctl wrote")
    return rows


def _is_name(text: object) -> bool:
    """Whether it may be a part of a path."""
    try:
        return isinstance(text, str) and normalize_domain(text) == text and text[0] != "["
    except ValueError:
        return False
