"""What renewal keeps on the disk, all below ``<data>/acme``, for the owner alone (0700, files 0600):

    lock               held by the one process that talks to the CA
    account.key        the key of the account at the CA
    account.json       which account, at which CA
    key.pem            the key of the certificate: kept, so that TLSA records stay right
    certificate.pem    a key and its certificate chain: what is served
    state.json         what was tried, and when the next try is
    renew              made by ``mailctl certs renew``: ask now
    challenges/        what the CA is shown while it looks

Promises: a file is there whole or as it was before; key and certificate are one file, so that they change at once.
Methods block, and raise OSError.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from ..disk import Disk, make_directories
from .certificates import Held, held, load_key, make_key

__all__ = ["RENEW", "AcmeFiles", "State"]

RENEW: Final = "renew"
_MAX_BYTES: Final = 1_048_576


@dataclass(slots=True)
class State:
    """What outlives a restart. Times are seconds since 1970, 0: never.

    `wait_until`: no earlier try, unless somebody asks for it. `chance`: drawn for the certificate `serial`, as is where
    in the CA's window (`window_start` to `window_end`) it is renewed; `window_check`: when that is asked for again.
    """

    tried: float = 0.0
    failures: int = 0
    wait_until: float = 0.0
    error: str = ""
    issued: float = 0.0
    next: float = 0.0
    alarmed: float = 0.0
    serial: str = ""
    chance: float = 0.0
    window_start: float = 0.0
    window_end: float = 0.0
    window_chance: float = 0.0
    window_check: float = 0.0


class AcmeFiles:
    """Those of one site. `data` is its data directory."""

    def __init__(self, disk: Disk, data: Path) -> None:
        self._disk = disk
        self._lock: int | None = None
        self.directory = str(data / "acme")
        self.challenges = f"{self.directory}/challenges"

    @property
    def certificate_path(self) -> Path:
        """Key and chain that are served, if it is there."""
        return Path(self.directory, "certificate.pem")

    def make(self) -> None:
        """The directories."""
        make_directories(self._disk, self.challenges)

    # The lock

    def lock(self) -> bool:
        """Whether this process is the one now."""
        if self._lock is None:
            fd = self._disk.open(f"{self.directory}/lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                self._disk.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._disk.close(fd)
                return False
            except BaseException:
                self._disk.close(fd)
                raise
            self._lock = fd
        return True

    def unlock(self) -> None:
        if self._lock is not None:
            self._disk.close(self._lock)
            self._lock = None

    # The account

    def account_key(self) -> bytes:
        """PEM; made the first time. Raises ValueError for a file that is no key: nobody's account is thrown away."""
        return self._key("account.key")

    def account(self, directory: str) -> str:
        """The URL of our account at the CA with this directory; "" when it is not known."""
        found = self._json("account.json")
        known = found.get("account") if found.get("directory") == directory else ""
        return known if isinstance(known, str) else ""

    def keep_account(self, directory: str, url: str) -> None:
        self._write_json("account.json", {"directory": directory, "account": url})

    # The certificate

    def key(self, *, new: bool) -> bytes:
        """The key for the next certificate, PEM. `new`: not the last one. Raises ValueError for a file that is none."""
        if new:
            made = make_key()
            self._write("key.pem", made)
            return made
        return self._key("key.pem")

    def certificate(self) -> Held | None:
        """What is served; None when there is nothing that could be."""
        try:
            content = self._read("certificate.pem")
            load_key(content)
            return held(content)
        except (FileNotFoundError, ValueError):
            return None

    def keep_certificate(self, key: bytes, chain: bytes) -> None:
        """From now on served, in all processes."""
        self._write("certificate.pem", key + chain)

    # What was tried

    def state(self) -> State:
        """An empty one where there is none, or something that is none."""
        found = self._json("state.json")
        state = State()
        for one in fields(State):
            value = found.get(one.name)
            if isinstance(value, bool):
                continue
            if isinstance(one.default, float) and isinstance(value, int | float):
                number = float(value)
                setattr(state, one.name, number if math.isfinite(number) else 0.0)
            elif isinstance(value, type(one.default)):
                setattr(state, one.name, value)
        return state

    def keep_state(self, state: State) -> None:
        self._write_json("state.json", asdict(state))

    # What mailctl asks for

    def ask(self) -> None:
        """Let the server that runs, or the next one, renew now."""
        self._write(RENEW, b"")

    def asked(self) -> bool:
        """Whether somebody did; he is asked for once."""
        try:
            self._disk.unlink(f"{self.directory}/{RENEW}")
        except FileNotFoundError:
            return False
        return True

    def _key(self, name: str) -> bytes:
        try:
            found = self._read(name)
        except FileNotFoundError:
            made = make_key()
            self._write(name, made)
            return made
        try:
            load_key(found)
        except ValueError as error:
            raise ValueError(f"{self.directory}/{name}: {error}") from None
        return found

    def _json(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads(self._read(name))
        except (FileNotFoundError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write_json(self, name: str, value: dict[str, Any]) -> None:
        self._write(name, json.dumps(value, indent=2).encode() + b"\n")

    def _read(self, name: str) -> bytes:
        fd = self._disk.open(f"{self.directory}/{name}", os.O_RDONLY)
        try:
            return self._disk.pread(fd, _MAX_BYTES, 0)
        finally:
            self._disk.close(fd)

    def _write(self, name: str, content: bytes) -> None:
        draft, path = f"{self.directory}/.{name}.draft", f"{self.directory}/{name}"
        with suppress(FileNotFoundError):  # of a process that died here
            self._disk.unlink(draft)
        fd = self._disk.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            try:
                self._disk.write(fd, content)
                self._disk.fsync(fd)
            finally:
                self._disk.close(fd)
            self._disk.rename(draft, path)
        except BaseException:
            with suppress(OSError):
                self._disk.unlink(draft)
            raise
        self._disk.sync_directory(self.directory)
