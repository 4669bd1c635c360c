"""[imap] and [quota]: names as clients see them, and sizes as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from twisted_mail import config
from twisted_mail.config import ConfigError
from twisted_mail.config.values import parse_storage


def load(tmp_path: Path, text: str) -> config.Config:
    path = tmp_path / "mail.toml"
    path.write_text(text)
    return config.load(path)


def test_by_default_names_are_plain_and_nothing_is_bounded(tmp_path: Path) -> None:
    read = load(tmp_path, "")
    assert (read.imap.separator, read.imap.prefix) == ("/", "")
    assert read.quota.limits == (None, None)


@pytest.mark.parametrize(
    ("separator", "prefix"), [(".", "INBOX."), ("/", "INBOX/"), ("/", "Mail/Old/"), (".", "")]
)
def test_what_another_server_had(tmp_path: Path, separator: str, prefix: str) -> None:
    read = load(tmp_path, f'[imap]\nseparator = "{separator}"\nprefix = "{prefix}"\n')
    assert (read.imap.separator, read.imap.prefix) == (separator, prefix)


@pytest.mark.parametrize(
    ("separator", "prefix"),
    [("/", "INBOX."), (".", "INBOX"), ("/", "/"), ("/", "a//"), (".", ".a."), ("/", "a*/"),
     ("/", "B\u00fccher/"), ("/", "a\\u0007/"), ("/", "x" * 64 + "/")],
)  # fmt: skip
def test_a_prefix_that_is_none(tmp_path: Path, separator: str, prefix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f'[imap]\nseparator = "{separator}"\nprefix = "{prefix}"\n')
    assert f'such as "INBOX{separator}"' in str(caught.value)
    assert ":3: imap.prefix" in str(caught.value)


def test_quota(tmp_path: Path) -> None:
    read = load(tmp_path, '[quota]\nstorage = "1 GiB"\nmessages = 50000\n')
    assert read.quota.limits == (1 << 30, 50_000)


@pytest.mark.parametrize(
    ("text", "octets"),
    [("none", None), ("1 GiB", 1 << 30), ("500MB", 500_000_000), ("1.5 KiB", 1536),
     ("2 TB", 2 * 10**12), ("7 B", 7), ("10 kB", 10_000),
     ("100 KB", 100_000), ("1gb", 10**9), ("1 G", 1 << 30), ("500 Mb", 500_000_000),
     ("20480", 20480), ("2 gib", 1 << 31), ("1.5k", 1536), ("3Ti", 3 << 40), ("None", None)],
)  # fmt: skip
def test_sizes(text: str, octets: int | None) -> None:
    assert parse_storage(text) == octets


@pytest.mark.parametrize(
    "text",
    ["", "0", "GiB", "1 i", "1 bb", "-1 MB", "1  MB", "1 MB ", "0 B", "0.0 GiB", "1e3 MB", "9999999 PiB",
     "٣ MB", "1.1234567 MB"],
)  # fmt: skip
def test_what_is_no_size(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        parse_storage(text)
    with pytest.raises(ConfigError, match=r"mail.toml:2: quota.storage = .*: must be a size"):
        load(tmp_path, f'[quota]\nstorage = "{text}"\n')


def test_a_client_may_idle_for_half_an_hour(tmp_path: Path) -> None:
    assert load(tmp_path, "").limits.imap_idle_seconds == 1800
    with pytest.raises(ConfigError, match="must be at least 1800"):
        load(tmp_path, "[limits]\nimap_idle_seconds = 1799\n")
