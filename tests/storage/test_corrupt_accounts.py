"""The accounts are no cache: damaged or lost they are refused with what to do, and never made anew."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from twisted_mail.accounts.directory import Directory, DirectoryError
from twisted_mail.config import Config, default
from twisted_mail.disk import OsDisk
from twisted_mail.site import directory_path, make_data, open_directory
from twisted_mail.storage.site_file import RESTORING


def opened(config: Config) -> Directory:
    return open_directory(config, now=lambda: 1e9, entropy=os.urandom)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = default(tmp_path)
    make_data(made, OsDisk())
    directory = opened(made)
    directory.add_domain("here.example")
    directory.close()
    return made


def garbage(path: Path) -> None:
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 100)


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 + 100)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [garbage, half, empty, directory])
def test_damaged(config: Config, damage: Callable[[Path], None]) -> None:
    path = directory_path(config)
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    damage(path)
    was = path.read_bytes() if path.is_file() else b""
    with pytest.raises(
        (DirectoryError, sqlite3.Error), match=r"accounts\.sqlite3|malformed"
    ) as refused:
        found = opened(config)
        try:
            found.domains()
            found.users()
        finally:
            found.close()
    if damage is garbage:
        assert "put a copy in its place" in str(refused.value)
    assert not path.is_file() or path.read_bytes() == was
    assert not list(path.parent.glob("*broken*"))


def test_lost_while_there_is_mail(config: Config) -> None:
    path = directory_path(config)
    path.unlink()
    mail = config.data / "mail" / "here.example"
    mail.mkdir(parents=True)
    with pytest.raises(DirectoryError, match="is not there, but mail of its users is"):
        opened(config)
    assert not path.exists()
    mail.rmdir()
    opened(config).close()
    assert path.exists()


def test_lost_since_a_restore_was_interrupted(config: Config) -> None:
    """Then no copy is wanted in its place, but the restore once more."""
    (config.data / "mail/here.example").mkdir(parents=True)
    directory_path(config).unlink()
    (config.data / "site.json").write_text(f'{{"version": "{RESTORING}", "generation": 0}}')
    with pytest.raises(DirectoryError, match="give `mailctl restore` again"):
        opened(config)
