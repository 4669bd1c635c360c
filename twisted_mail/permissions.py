"""Who else on this machine can get at what is the server's alone: mail, password hashes, keys.

What the server makes is for its user only (directories 0700, files 0600). What it is given (a directory that was there,
a key, a file with a password) it looks at when it starts, and ``mailctl check`` whenever it is asked. Modes are never
changed: somebody may have meant them.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .config import LISTENERS, WEB_LISTENERS, Config
from .config.endpoints import tcp_port
from .config.secrets import in_environment
from .disk import Disk

__all__ = [
    "Exposure",
    "check_not_root",
    "check_writable_by_nobody_else",
    "configuration_exposure",
    "directory_exposure",
    "exposures",
    "file_exposure",
    "secret_files",
]

PRIVILEGED = 1024
"""Ports below are root's to open, or who has CAP_NET_BIND_SERVICE (capabilities(7))."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """`path` is open to others than its owner; `text` says how, and what mends it."""

    path: Path
    text: str
    everybody: bool


def exposures(config: Config, disk: Disk) -> Iterator[Exposure]:
    """What others may read now. What is not there, or not for us to look at, is left out."""
    data = config.data
    mode = _mode(disk, data)
    closed = mode is None or not mode & 0o077
    if mode is not None and (found := directory_exposure(data, mode)):
        yield found
    for path in secret_files(config):
        # who may not enter the directory reads no file in it
        if closed and path.is_relative_to(data):
            continue
        mode = _mode(disk, path)
        if mode is not None and (found := file_exposure(path, mode)):
            yield found
    found = configuration_exposure(config, disk)
    # Of everybody the start itself speaks: `check_writable_by_nobody_else`
    if found and not found.everybody:
        yield found


def directory_exposure(path: Path, mode: int) -> Exposure | None:
    """Of the data directory with `mode`."""
    if mode & 0o077:
        return Exposure(path, f"others may look in: chmod 700 {path}", bool(mode & 0o007))
    return None


def file_exposure(path: Path, mode: int) -> Exposure | None:
    """Of a file with secrets."""
    if mode & 0o007:
        return Exposure(path, f"everybody may read it: chmod 600 {path}", True)
    if mode & 0o070:
        return Exposure(path, "its group may read it", False)
    return None


def configuration_exposure(config: Config, disk: Disk) -> Exposure | None:
    """Of the configuration: it may be read by all, but names programs that are run."""
    if config.file is None:
        return None
    try:
        found = disk.stat(str(config.file))
    except OSError:
        return None
    everybody = bool(found.st_mode & 0o002)
    # Where each user has a group of his own, with his number, umask 002 is usual.
    group = found.st_mode & 0o020 and found.st_gid != found.st_uid
    if not everybody and not group:
        return None
    who = "everybody" if everybody else "its group"
    text = f"{who} may write it, and so run programs as the server: chmod go-w {config.file}"
    return Exposure(config.file, text, everybody)


def secret_files(config: Config) -> list[Path]:
    """Files with keys, passwords or their hashes."""
    found: list[Path | None] = [config.data / "accounts.sqlite3"]
    found += [config.tls.key, *(pair.key for pair in config.tls.sni)]
    found += [route.password_file for route in config.routes]
    found += [one.password_file for one in config.filters]
    found.append(config.acme.eab_key_file)
    if config.development:
        found += [config.certificates / "ca.key", config.certificates / f"{config.hostname}.key"]
    written = [config.acme.eab_key]
    written += [route.password for route in config.routes]
    written += [one.password for one in config.filters]
    # a strcred string that is more than a name may hold a password, or the name of a file
    written += [text for text in config.auth.checkers if text.startswith("memory:")]
    if config.file is not None and any(text and not in_environment(text) for text in written):
        found.append(config.file)
    return list(dict.fromkeys(path for path in found if path is not None))


def check_writable_by_nobody_else(config: Config, disk: Disk) -> None:
    """Raises ValueError when others may write in the data directory (what they put there would be served), or everybody
    in the configuration: it names programs that are run.
    """
    mode = _mode(disk, config.data)
    # With the sticky bit, too: who may make files can make some that are read as mail
    if mode is not None and mode & 0o022:
        raise ValueError(
            f"data = {config.data}: others than its owner may write there (mode {mode:04o}): "
            f"chmod 700 {config.data}"
        )
    exposure = configuration_exposure(config, disk)
    if exposure and exposure.everybody:
        raise ValueError(f"{config.file}: {exposure.text}")


def check_not_root(config: Config, *, regains: bool = False) -> str:
    """For a process that is root and stays so, or can be it again (`regains`: twistd's ``--euid``). A warning for the
    log; raises ValueError where that is not to be: on ports that come from the network.
    """
    names = (*LISTENERS, *WEB_LISTENERS)
    ports = {tcp_port(text) for name in names for text in getattr(config.listen, name)}
    low = sorted(port for port in ports if port is not None and port < PRIVILEGED)
    if low and regains:
        raise ValueError(
            f"who serves port {low[0]} could be root again: start without --euid (docs/operating.md)"
        )
    if low:
        raise ValueError(
            f"root would serve port {low[0]}: start with twistd --uid USER --gid GROUP, which opens the ports first, "
            "or as a user who has CAP_NET_BIND_SERVICE (docs/operating.md)"
        )
    if regains:
        return "the server can be root again, and so can a fault in it: start without --euid"
    return "root serves: a fault in it would be root's; start it as another user"


def _mode(disk: Disk, path: Path) -> int | None:
    try:
        return stat.S_IMODE(disk.stat(str(path)).st_mode)
    except OSError:
        return None
