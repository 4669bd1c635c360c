"""`site`: which configuration is meant, and what is made on the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from twisted_mail.config import ConfigError, default
from twisted_mail.disk import OsDisk
from twisted_mail.site import (
    Owner,
    check_data,
    configuration_path,
    make_certificates,
    make_data,
    read_configuration,
)

NOW = 1_800_000_000.0
ME = Owner(os.geteuid(), os.getegid())


def test_which_configuration_is_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = {"TWISTED_MAIL_CONFIG": "named.toml"}
    site = tmp_path / "site"
    site.mkdir()
    assert configuration_path(None, {}, site) is None
    (site / "mail.toml").write_text("")
    assert configuration_path(None, {}, site) == site / "mail.toml"
    # what somebody wrote is relative to where it was written
    assert configuration_path(None, named, site) == tmp_path / "named.toml"
    assert configuration_path("given.toml", named, site) == tmp_path / "given.toml"
    assert configuration_path("/etc/mail.toml", named, site) == Path("/etc/mail.toml")


def test_without_a_configuration_everything_lies_in_the_directory(tmp_path):
    config = read_configuration(None, tmp_path)
    assert (config.data, config.certificates) == (tmp_path / "mail-data", tmp_path / "certs")


def test_a_configuration_that_is_named_has_to_be_there(tmp_path):
    with pytest.raises(ConfigError):
        read_configuration(tmp_path / "mail.toml", tmp_path)


def test_the_data_directory_is_made_with_all_above_it(tmp_path):
    config = default(tmp_path / "a/b")
    for _ in range(2):
        make_data(config, OsDisk(), ME)
    assert config.data.stat().st_mode & 0o777 == 0o700


def test_data_of_somebody_else_is_refused_with_what_mends_it(tmp_path):
    config = default(tmp_path)
    make_data(config, OsDisk())
    stranger = Owner(ME.uid + 1, ME.gid + 1)
    with pytest.raises(ValueError, match=f"chown -R {stranger.uid}:{stranger.gid} {config.data}"):
        make_data(config, OsDisk(), stranger)


def test_development_certificates_are_made_once(tmp_path):
    config = default(tmp_path)
    (pair,) = make_certificates(config, NOW, ME)
    before = pair.certificate.read_bytes()
    assert make_certificates(config, NOW, ME) == (pair,)
    assert pair.certificate.read_bytes() == before


def test_only_what_was_made_is_given_to_the_owner(tmp_path):
    given = []

    class Recording(Owner):
        def take(self, path):
            given.append(path.name)

    certificates = tmp_path / "certs"
    certificates.mkdir()
    (certificates / "of-another-program.key").write_text("")
    make_certificates(default(tmp_path), NOW, Recording(0, 0))
    assert sorted(given) == ["ca.key", "certs", "localhost.key"]


def test_configured_certificates_come_first_and_with_those_by_name(tmp_path):
    for name in ("one", "two"):
        make_certificates(default(tmp_path / name), NOW)
    (tmp_path / "mail.toml").write_text(
        """
        [tls]
        certificate = "one/certs/localhost.pem"
        key = "one/certs/localhost.key"
        [[tls.sni]]
        certificate = "two/certs/localhost.pem"
        key = "two/certs/localhost.key"
        """
    )
    pairs = make_certificates(read_configuration(tmp_path / "mail.toml", tmp_path), NOW)
    assert [pair.key.parts[-3] for pair in pairs] == ["one", "two"]
    assert not (tmp_path / "certs").exists()


def test_data_that_is_a_file_is_refused_by_its_key(tmp_path):
    for below in (".", "below"):
        config = default(tmp_path / below)
        config.data.parent.mkdir(exist_ok=True)
        config.data.write_text("")
        with pytest.raises(ValueError, match=r"data = .* is not a directory"):
            check_data(config, OsDisk())
        with pytest.raises(ValueError, match="is not a directory"):
            make_data(config, OsDisk(), ME)


def test_a_group_that_agrees_does_not_make_an_owner(tmp_path):
    config = default(tmp_path)
    make_data(config, OsDisk(), ME)
    (config.data / "accounts.sqlite3").write_text("")
    make_data(config, OsDisk(), ME)
    with pytest.raises(ValueError, match=r"belongs to user .* chown -R"):
        make_data(config, OsDisk(), Owner(ME.uid + 1, ME.gid))
