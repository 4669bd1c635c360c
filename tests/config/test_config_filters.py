"""The tables `[[filters]]`: where a filter listens, its password, keys that only some kinds obey."""

from __future__ import annotations

from pathlib import Path

import pytest

from twisted_mail import config
from twisted_mail.config import Config, ConfigError

RSPAMD = 'kind = "rspamd"\nendpoint = "tcp:127.0.0.1:11333"\n'


def load(tmp_path: Path, *tables: str) -> Config:
    path = tmp_path / "mail.toml"
    path.write_text("".join(f"[[filters]]\n{table}\n" for table in tables))
    return config.load(path)


def mistakes(tmp_path: Path, *tables: str) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, *tables)
    return [(one.key, one.allowed) for one in caught.value.mistakes]


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp:127.0.0.1:11333",
        "tcp:rspamd.example.org:65535",
        r"tcp:\:\:1:783",
        "unix:/run/clamav/clamd.ctl",
    ],
)
def test_where_a_filter_may_be(tmp_path: Path, endpoint: str) -> None:
    table = f"kind = \"milter\"\nendpoint = '{endpoint}'"
    assert load(tmp_path, table).filters[0].endpoint == endpoint


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("", "unix:/path"),
        ("127.0.0.1:11333", "unix:/path"),
        ("tls:host:1", "unix:/path"),
        ("systemd:x", "unix:/path"),
        ("tcp:", "the host is missing"),
        ("tcp::783", "the host is missing"),
        ("tcp:127.0.0.1", "the port is missing"),
        ("tcp:127.0.0.1:", "the port is a number from 1 to 65535"),
        ("tcp:127.0.0.1:milter", "the port is a number from 1 to 65535"),
        ("tcp:127.0.0.1:0", "the port is a number from 1 to 65535"),
        ("tcp:127.0.0.1:65536", "the port is a number from 1 to 65535"),
        ("tcp:127.0.0.1:٣", "the port is a number from 1 to 65535"),
        ("tcp:[::1]:783", "a backslash before them"),
        ("unix:", "begins with a slash"),
        ("unix:run/milter", "begins with a slash"),
        (f"unix:/{'x' * 107}", "at most 107 octets"),
    ],
)
def test_where_no_filter_can_be(tmp_path: Path, endpoint: str, why: str) -> None:
    table = f'kind = "milter"\nendpoint = "{endpoint}"'
    ((key, allowed),) = mistakes(tmp_path, table)
    assert key == "filters[0].endpoint"
    assert allowed.startswith("a filter is at tcp:host:port or unix:/path")
    assert why in allowed


def test_a_password_is_read_before_anything_listens(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    assert mistakes(
        tmp_path,
        RSPAMD,
        RSPAMD + 'password_file = "nowhere"',
        RSPAMD + 'password_file = "empty"',
    ) == [
        ("filters[1].password_file", "must be a file that can be read (No such file or directory)"),
        ("filters[2].password_file", "must have the password in its first line"),
    ]
    (tmp_path / "there").write_text("secret\n")
    read = load(tmp_path, RSPAMD + 'password_file = "there"')
    assert read.filters[0].password_file == tmp_path / "there"


KEYS = {
    "malware": ("clamav", '"junk"', '"refuse"'),
    "refuse_score": ("spamassassin", "7.0", "15.0"),
    "headers": ("spamassassin", "true", "false"),
    "password_file": ("rspamd", '"there"', None),
}


def test_a_mistake_in_one_table_hides_none_outside_the_file_in_another(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path, 'kind = "milter"\nendpoint = "tcp:h"', RSPAMD + 'password_file = "nowhere"'
    )
    assert [key for key, _ in found] == ["filters[0].endpoint", "filters[1].password_file"]


@pytest.mark.parametrize("kind", ["milter", "rspamd", "clamav", "spamassassin"])
@pytest.mark.parametrize("key", KEYS)
def test_a_key_for_another_kind(tmp_path: Path, kind: str, key: str) -> None:
    (tmp_path / "there").write_text("secret\n")
    of, value, default = KEYS[key]
    table = f'kind = "{kind}"\nendpoint = "unix:/f"\n'
    if default is not None:
        load(tmp_path, f"{table}{key} = {default}")
    if kind == of:
        load(tmp_path, f"{table}{key} = {value}")
        return
    ((where, allowed),) = mistakes(tmp_path, f"{table}{key} = {value}")
    assert where == f"filters[0].{key}"
    assert allowed == f'is for kind = "{of}" alone, and this is "{kind}": leave it out'


def test_a_wrong_item_is_not_a_missing_one_too(tmp_path: Path) -> None:
    table = 'kind = "milter"\nendpoint = "unix:/f"\n'
    ((key, _),) = mistakes(tmp_path, f'{table}on = ["imap"]')
    assert key == "filters[0].on[0]"
    assert mistakes(tmp_path, f"{table}on = []") == [
        ("filters[0].on", "must have at least 1 of them")
    ]
