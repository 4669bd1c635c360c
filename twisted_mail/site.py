"""One site on this machine: which configuration is meant, and where its parts lie on the disk.

The server and `mailctl` both come through here, so they always mean the same configuration, the same
accounts and the same mail. Nothing is kept open here, and no file but the configuration is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .accounts.directory import Directory, DirectoryError
from .certs import make_development_certificates
from .config import CertificatePair, Config, default, load
from .disk import Disk, OsDisk, make_directories
from .early import CONFIG_VARIABLE, configuration_path
from .storage.site_file import SiteFile
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


def read_configuration(path: Path | None, directory: Path, *, serves: bool = True) -> Config:
    """What `path` says; without one, the start without configuration in `directory`.

    Raises ConfigError.
    """
    return default(directory) if path is None else load(path, serves=serves)


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


def check_data(config: Config, disk: Disk) -> None:
    """The data directory is one, or something above it is. Nothing is made. Raises ValueError."""
    for path in (config.data, *config.data.parents):
        if disk.exists(str(path)):
            if not stat.S_ISDIR(disk.stat(str(path)).st_mode):
                raise ValueError(f"data = {config.data}: {path} is not a directory")
            return


def make_data(config: Config, disk: Disk, owner: Owner | None = None) -> None:
    """Make the data directory when it is not there: for its owner only (mode 0700).

    Raises ValueError when it cannot be made, or belongs to somebody else than `owner`.
    """
    data = config.data
    missing = [path for path in (data, *data.parents) if not disk.exists(str(path))]
    check_data(config, disk)
    try:
        make_directories(disk, str(data))
    except OSError as error:
        raise ValueError(
            f"data = {data}: must be a directory, or one that can be made: {error.strerror}"
        ) from error
    if owner is not None:
        for path in missing:
            owner.take(path)
        _check_owner(data, disk, owner)


def refuse_root(config: Config, disk: Disk) -> None:
    """Root does not serve another user's data: what it makes there, its owner could not read. Raises ValueError."""
    found = disk.stat(str(config.data))
    if os.geteuid() == 0 and found.st_uid != 0:
        raise ValueError(
            f"{config.data} belongs to user {found.st_uid}, and root would serve: "
            f"start with --uid {found.st_uid} --gid {found.st_gid}"
        )


def _check_owner(data: Path, disk: Disk, owner: Owner) -> None:
    for path in (data, data / "accounts.sqlite3", data / "journal", data / "mail"):
        if disk.exists(str(path)) and (found := disk.stat(str(path))).st_uid != owner.uid:
            raise ValueError(
                f"{path} belongs to user {found.st_uid}, not to user {owner.uid}, who is to serve: "
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
    return (CertificatePair(certificate=found.certificate, key=found.key), *config.tls.sni)


def open_directory(
    config: Config, *, now: Callable[[], float], entropy: Callable[[int], bytes]
) -> Directory:
    """The site's accounts; `make_data` comes first. Raises DirectoryError or OSError.

    A site that has mail has users: a file that is lost is not made anew without them.
    """
    mail = config.data / "mail"
    if not os.path.lexists(directory_path(config)) and mail.is_dir() and any(mail.iterdir()):
        try:
            SiteFile(OsDisk(), str(config.data)).read()
        except ValueError as error:
            # A restore that was interrupted says so itself, and what to do is something else.
            raise DirectoryError(str(error)) from error
        raise DirectoryError(
            f"{directory_path(config)} is not there, but mail of its users is, in {mail}. It holds domains, users and"
            " passwords and is not made anew: put a copy in its place, such as a backup has. To begin without the old"
            " users, move the mail away first"
        )
    return Directory(
        str(directory_path(config)),
        now=now,
        entropy=entropy,
        default_domain=config.hostname,
        postmaster=config.postmaster or None,
        quota=config.quota.limits,
    )


def make_store(
    config: Config,
    world: World,
    limits: Callable[[str], tuple[int | None, int | None]] | None = None,
) -> MailStore:
    """The site's mail, not started yet. `limits`: octets and messages that an account may hold (`Directory.quota`)."""
    return MailStore(
        world, str(config.data), host=config.hostname, boot=_boot_id(world.disk), limits=limits
    )


def _boot_id(disk: Disk) -> str:
    """What changes with every boot of this machine."""
    descriptor = disk.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY)
    try:
        return disk.pread(descriptor, 64, 0).decode("ascii").strip()
    finally:
        disk.close(descriptor)
