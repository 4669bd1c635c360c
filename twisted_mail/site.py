"""One site on this machine: which configuration is meant, and where its parts lie on the disk.

The server and `mailctl` both come through here, so they always mean the same configuration, the same
accounts and the same mail. Nothing is kept open here, and no file but the configuration is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .accounts.directory import Directory
from .certs import make_development_certificates
from .config import CertificatePair, Config, default, load
from .disk import Disk, make_directories
from .storage.store import MailStore
from .world import World

__all__ = [
    "CONFIG_VARIABLE",
    "Owner",
    "configuration_path",
    "directory_path",
    "make_certificates",
    "make_data",
    "make_store",
    "open_directory",
    "read_configuration",
]

CONFIG_VARIABLE: Final = "TWISTED_MAIL_CONFIG"
"""The environment variable that names the configuration."""


def configuration_path(
    given: str | None, environment: Mapping[str, str], directory: Path
) -> Path | None:
    """The configuration that is meant: `given` on the command line, else what the environment names,
    else ``mail.toml`` in `directory` when there is one, else none (None).
    """
    name = given or environment.get(CONFIG_VARIABLE)
    if name:
        return Path(name).absolute()
    path = directory / "mail.toml"
    return path if path.exists() else None


def read_configuration(path: Path | None, directory: Path) -> Config:
    """What `path` says; without one, the start without configuration in `directory`.

    Raises ConfigError.
    """
    return default(directory) if path is None else load(path)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who will write in the site's files, when that is not this process: user and group id."""

    uid: int
    gid: int

    def take(self, path: Path) -> None:
        """Give it a file or directory. Raises OSError."""
        os.chown(path, self.uid, self.gid)


def directory_path(config: Config) -> Path:
    """Where the accounts are."""
    return config.data / "accounts.sqlite3"


def make_data(config: Config, disk: Disk, owner: Owner | None = None) -> None:
    """Make the data directory when it is not there: for its owner only (mode 0700).

    Raises OSError; ValueError when it is there and belongs to somebody else than `owner`.
    """
    data = config.data
    missing = [path for path in (data, *data.parents) if not disk.exists(str(path))]
    make_directories(disk, str(data))
    if owner is None:
        return
    for path in missing:
        owner.take(path)
    found = disk.stat(str(data))
    if found.st_uid != owner.uid and found.st_gid != owner.gid:
        raise ValueError(
            f"{data} belongs to user {found.st_uid}, not to user {owner.uid}, who is to serve: "
            f"chown -R {owner.uid}:{owner.gid} {data}"
        )


def make_certificates(
    config: Config, now: float, owner: Owner | None = None
) -> tuple[CertificatePair, ...]:
    """The site's certificates, the default one first; development ones are made when they are needed.

    Raises OSError or ValueError.
    """
    if config.tls.certificate is not None and config.tls.key is not None:
        return (
            CertificatePair(certificate=config.tls.certificate, key=config.tls.key),
            *config.tls.sni,
        )
    found = make_development_certificates(config.certificates, config.hostname, now=now)
    if owner is not None and found.made:
        for path in (config.certificates, found.ca.with_suffix(".key"), found.key):
            owner.take(path)
    return (CertificatePair(certificate=found.certificate, key=found.key),)


def open_directory(
    config: Config, *, now: Callable[[], float], entropy: Callable[[int], bytes]
) -> Directory:
    """The site's accounts; `make_data` comes first. Raises DirectoryError or OSError."""
    return Directory(
        str(directory_path(config)),
        now=now,
        entropy=entropy,
        default_domain=config.hostname,
        postmaster=config.postmaster or None,
    )


def make_store(config: Config, world: World) -> MailStore:
    """The site's mail, not started yet."""
    return MailStore(world, str(config.data), host=config.hostname, boot=_boot_id(world.disk))


def _boot_id(disk: Disk) -> str:
    """What changes with every boot of this machine."""
    descriptor = disk.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY)
    try:
        return disk.pread(descriptor, 64, 0).decode("ascii").strip()
    finally:
        disk.close(descriptor)
