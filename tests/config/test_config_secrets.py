"""Secrets stand outside of mail.toml: in files, in the environment, where systemd puts credentials; in no text."""

from __future__ import annotations

from pathlib import Path

import pytest

from twisted_mail.config import Config, ConfigError, load
from twisted_mail.config.secrets import password_of, read_secret, secret_text
from twisted_mail.delivery.routes import make_routes
from twisted_mail.disk import OsDisk
from twisted_mail.permissions import exposures

SECRET = "marked-5ecret-9d1-abcdefghijkl"
ROUTE = '[[routes]]\ndomain = "*"\nvia = "smtp://smtp.example:587"\nusername = "me"\n'
RSPAMD = '[[filters]]\nkind = "rspamd"\nendpoint = "tcp:127.0.0.1:11333"\n'
ACME = (
    'hostname = "mail.example"\n[tls]\nacme = true\n[listen]\nhttp = ["tcp:8080"]\n'
    '[acme]\neab_kid = "kid"\n'
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SMARTHOST", SECRET)
    monkeypatch.delenv("NOBODY_SET_THIS", raising=False)
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    (credentials / "smarthost").write_text(f"{SECRET}\n")
    (credentials / "smarthost").chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    return tmp_path


def configured(here: Path, text: str, *, serves: bool = True) -> Config:
    file = here / "mail.toml"
    file.write_text(text)
    file.chmod(0o644)
    return load(file, serves=serves)


def mistakes(here: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        configured(here, text)
    return str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        'password = "${SMARTHOST}"',
        'password_file = "${CREDENTIALS_DIRECTORY}/smarthost"',
        'password_file = "credentials/smarthost"',
        f'password = "{SECRET}"',
    ],
)
def test_a_password_of_a_route(here: Path, line: str) -> None:
    config = configured(here, ROUTE + line)
    assert password_of(config.routes[0]) == SECRET
    route = make_routes(config.routes).find("far.example")
    assert route is not None and route.password == SECRET
    assert SECRET not in repr(config) + str(config) + repr(route) + repr(config.routes)


@pytest.mark.parametrize(
    "line",
    [
        'password = "${SMARTHOST}"',
        'password_file = "${CREDENTIALS_DIRECTORY}/smarthost"',
        f'password = "{SECRET}"',
    ],
)
def test_the_password_of_a_filter(here: Path, line: str) -> None:
    config = configured(here, RSPAMD + line)
    assert password_of(config.filters[0]) == SECRET
    assert SECRET not in repr(config)


def test_the_key_of_an_account_at_a_ca(here: Path) -> None:
    for line in (
        f'eab_key = "{SECRET}"',
        'eab_key = "${SMARTHOST}"',
        'eab_key_file = "credentials/smarthost"',
    ):
        config = configured(here, ACME + line)
        assert config.acme.binding_key() == SECRET
        assert SECRET not in repr(config)


def test_a_checker(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECKER", f"memory:alice:{SECRET}")
    config = configured(here, '[auth]\ncheckers = ["${CHECKER}"]\n')
    assert SECRET not in repr(config)
    monkeypatch.setenv("CHECKER", "nonsense:x")
    assert "'nonsense'" in mistakes(here, '[auth]\ncheckers = ["${CHECKER}"]\n')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            ROUTE + 'password = "${NOBODY_SET_THIS}"',
            "routes[0].password = …: must be set in the environment: NOBODY_SET_THIS is not",
        ),
        (
            ROUTE + 'password_file = "${NOBODY_SET_THIS}/x"',
            "must be below a directory that the environment names: NOBODY_SET_THIS is not set",
        ),
        (
            '[auth]\ncheckers = ["${NOBODY_SET_THIS}"]\n',
            "must be set in the environment: NOBODY_SET_THIS is not",
        ),
        (
            ACME + 'eab_key = "${NOBODY_SET_THIS}"',
            "acme.eab_key = …: must be set in the environment: NOBODY_SET_THIS is not",
        ),
        (
            RSPAMD + 'password = "a"\npassword_file = "b"',
            "filters[0].password = …: must not be there beside password_file",
        ),
        (ACME + 'eab_key = "a"\neab_key_file = "b"', "eab_key = …: must not be there beside"),
        (ACME + f'eab_key = "{SECRET}!"', "must have a key of at least 16 octets"),
        (
            '[[filters]]\nkind = "clamav"\nendpoint = "tcp:127.0.0.1:1"\npassword = "a"',
            'is for kind = "rspamd" alone',
        ),
    ],
)
def test_what_is_said_of_mistakes(here: Path, text: str, said: str) -> None:
    found = mistakes(here, text)
    assert said in found
    assert SECRET not in found


def test_a_tool_has_not_the_servers_environment(here: Path) -> None:
    text = ROUTE + 'password_file = "${NOBODY_SET_THIS}/x"\n' + RSPAMD
    config = configured(here, text + 'password = "${NOBODY_SET_THIS}"\n', serves=False)
    with pytest.raises(ValueError, match="NOBODY_SET_THIS is not set"):
        password_of(config.routes[0])
    # what else is wrong is said to a tool, too
    with pytest.raises(ConfigError, match="must be a file that can be read"):
        configured(here, ROUTE + 'password_file = "nowhere"\n', serves=False)


def test_what_a_worker_is_told_means_the_same(here: Path) -> None:
    text = ROUTE + 'password = "${SMARTHOST}"\n' + RSPAMD
    config = configured(here, text + 'password_file = "${CREDENTIALS_DIRECTORY}/smarthost"\n')
    told = config.model_dump(mode="json")
    assert SECRET not in str(told)
    again = Config.model_validate(told, context={"directory": here, "file": here / "mail.toml"})
    assert password_of(again.routes[0]) == password_of(again.filters[0]) == SECRET


def test_only_the_whole_value_is_a_name() -> None:
    environment = {"A": "secret", "EMPTY": "", "NUL": "a\0b"}
    assert secret_text("${A}", environment) == "secret"
    for text in ("${A}b", "b${A}", "$A", "${}", "${a-b}", ""):
        assert secret_text(text, environment) == text
    for name in ("EMPTY", "MISSING", "NUL"):
        with pytest.raises(ValueError, match="must be") as caught:
            secret_text("${" + name + "}", environment)
        assert "a\0b" not in str(caught.value)


def test_a_file_that_waits_for_its_directory_is_not_read(tmp_path: Path) -> None:
    strange = tmp_path / "${NOBODY_SET_THIS}"
    strange.mkdir()
    (strange / "x").write_text("secret\n")
    with pytest.raises(ValueError, match="NOBODY_SET_THIS is not set"):
        read_secret(strange / "x")


def test_who_may_read_them_is_looked_at(here: Path) -> None:
    disk = OsDisk()
    elsewhere = ROUTE + 'password = "${SMARTHOST}"\n' + RSPAMD
    config = configured(here, elsewhere + 'password_file = "credentials/smarthost"\n')
    assert list(exposures(config, disk)) == []
    (here / "credentials" / "smarthost").chmod(0o444)
    assert [one.path.name for one in exposures(config, disk)] == ["smarthost"]
    config = configured(here, RSPAMD + 'password = "itself"\n')
    assert [one.path.name for one in exposures(config, disk)] == ["mail.toml"]
    config = configured(here, ACME + 'eab_key_file = "credentials/smarthost"\n')
    assert [one.path.name for one in exposures(config, disk)] == ["smarthost"]
    config = configured(here, f'[auth]\ncheckers = ["memory:alice:{SECRET}"]\n')
    assert [one.path.name for one in exposures(config, disk)] == ["mail.toml"]


def test_the_keys_of_the_development_certificate_are_looked_at(here: Path) -> None:
    (here / "certs").mkdir()
    for name in ("ca.key", "localhost.key"):
        (here / "certs" / name).write_text("key")
        (here / "certs" / name).chmod(0o644)
    config = configured(here, "")
    assert [one.path.name for one in exposures(config, OsDisk())] == ["ca.key", "localhost.key"]
