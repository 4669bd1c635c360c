"""What is the server's alone is nobody else's to read, and never anybody else's to write."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from twisted_mail.config import Config, load
from twisted_mail.disk import OsDisk
from twisted_mail.permissions import (
    check_not_root,
    check_writable_by_nobody_else,
    exposures,
    secret_files,
)

DISK = OsDisk()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir(mode=0o700)
    for name in ("data/accounts.sqlite3", "password", "scanner", "cert.pem", "key.pem"):
        (tmp_path / name).write_text("secret\n")
        (tmp_path / name).chmod(0o600)
    return tmp_path


def configured(here: Path, more: str = "", listen: str = 'smtp = ["tcp:2525"]') -> Config:
    file = here / "mail.toml"
    file.write_text(f'data = "data"\n{more}\n[listen]\n{listen}\n')
    file.chmod(0o644)
    return load(file)


ROUTE = '[[routes]]\ndomain = "*"\nvia = "smtp://smtp.example:587"\nusername = "me"\n'


def texts(config: Config, disk: OsDisk = DISK) -> list[str]:
    return [f"{one.path.name}: {one.text}" for one in exposures(config, disk)]


def test_nothing_is_open(here: Path) -> None:
    config = configured(here, ROUTE + f'password_file = "{here}/password"\n')
    assert texts(config) == []


def test_nothing_is_there_yet(here: Path) -> None:
    config = configured(here, 'data = "elsewhere"'.replace("data", "hostname"))
    (here / "data" / "accounts.sqlite3").unlink()
    (here / "data").rmdir()
    assert texts(config) == []
    check_writable_by_nobody_else(config, DISK)


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o755, 0o711])
def test_a_directory_that_others_may_enter(here: Path, mode: int) -> None:
    config = configured(here)
    (here / "data").chmod(mode)
    (found,) = exposures(config, DISK)
    assert found.text == f"others may look in: chmod 700 {here / 'data'}"
    assert found.everybody == bool(mode & 0o007)
    check_writable_by_nobody_else(config, DISK)


def test_password_hashes_matter_when_the_directory_is_open(here: Path) -> None:
    config = configured(here)
    accounts = here / "data" / "accounts.sqlite3"
    accounts.chmod(0o644)
    assert texts(config) == []
    (here / "data").chmod(0o755)
    assert f"accounts.sqlite3: everybody may read it: chmod 600 {accounts}" in texts(config)


def test_a_password_file(here: Path) -> None:
    config = configured(here, ROUTE + f'password_file = "{here}/password"\n')
    (here / "password").chmod(0o604)
    assert texts(config) == [f"password: everybody may read it: chmod 600 {here}/password"]
    (here / "password").chmod(0o640)
    assert texts(config) == ["password: its group may read it"]


def test_a_password_in_the_configuration_itself(here: Path) -> None:
    config = configured(here, ROUTE + 'password = "secret"\n')
    assert secret_files(config)[-1] == here / "mail.toml"
    assert texts(config) == [f"mail.toml: everybody may read it: chmod 600 {here}/mail.toml"]
    (here / "mail.toml").chmod(0o600)
    assert texts(config) == []


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_directory_that_others_may_write(here: Path, mode: int) -> None:
    config = configured(here)
    (here / "data").chmod(mode)
    with pytest.raises(
        ValueError, match=f"others than its owner may write there .mode {mode:04o}.: chmod 700"
    ):
        check_writable_by_nobody_else(config, DISK)


@pytest.mark.parametrize("mode", [0o606, 0o666, 0o602, 0o777])
def test_a_configuration_that_everybody_may_write(here: Path, mode: int) -> None:
    config = configured(here)
    (here / "mail.toml").chmod(mode)
    with pytest.raises(
        ValueError, match=r"mail.toml: everybody may write it, .*: chmod go-w .*/mail.toml"
    ):
        check_writable_by_nobody_else(config, DISK)


class OtherGroup(OsDisk):
    """Files belong to a group that is not their owner's own."""

    def stat(self, path: str) -> os.stat_result:
        found = list(super().stat(path))
        found[stat.ST_GID] = found[stat.ST_UID] + 1
        return os.stat_result(found)


def test_a_configuration_that_its_group_may_write(here: Path) -> None:
    config = configured(here)
    (here / "mail.toml").chmod(0o664)
    if os.getuid() == os.getgid():
        assert texts(config) == []
    disk = OtherGroup()
    check_writable_by_nobody_else(config, disk)
    (said,) = texts(config, disk)
    assert said.startswith("mail.toml: its group may write it")
    assert said.endswith(f"chmod go-w {here}/mail.toml")


@pytest.mark.parametrize(
    ("listen", "port"),
    [
        ('smtp = ["tcp:25"]', 25),
        ('imap = ["tcp:1430"]\nimaps = ["tcp6:993"]', 993),
        ('smtp = ["tcp:2525", "tcp:1023:interface=127.0.0.1"]', 1023),
        ('smtp = ["tcp:2525"]\nhttp = ["tcp:80"]', 80),
    ],
)
def test_root_serves_no_port_of_the_system(here: Path, listen: str, port: int) -> None:
    with pytest.raises(
        ValueError, match=rf"^root would serve port {port}: .*--uid USER --gid GROUP"
    ):
        check_not_root(configured(here, listen=listen))


@pytest.mark.parametrize(
    "listen", ['smtp = ["tcp:1024"]', 'smtp = ["unix:/run/smtp"]', 'smtp = ["tcp:0"]']
)
def test_root_on_other_ports_is_told(here: Path, listen: str) -> None:
    assert "root serves" in check_not_root(configured(here, listen=listen))


def test_who_can_be_root_again_is_as_good_as_root(here: Path) -> None:
    with pytest.raises(ValueError, match=r"port 25 could be root again: start without --euid"):
        check_not_root(configured(here, listen='smtp = ["tcp:25"]'), regains=True)
    assert "without --euid" in check_not_root(configured(here), regains=True)


def test_what_the_server_makes_is_its_own(here: Path) -> None:
    before = os.umask(0)
    try:
        fd = DISK.open(str(here / "made"), os.O_WRONLY | os.O_CREAT)
        DISK.close(fd)
        DISK.mkdir(str(here / "directory"))
    finally:
        os.umask(before)
    assert (here / "made").stat().st_mode & 0o777 == 0o600
    assert (here / "directory").stat().st_mode & 0o777 == 0o700
