"""The tables about who may send what: what is taken, what is said otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from twisted_mail import config
from twisted_mail.config import Config, ConfigError
from twisted_mail.config.policy import parse_rate
from twisted_mail.config.reference import markdown
from twisted_mail.policy.rates import Limit


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "mail.toml"
    path.write_text(text)
    return config.load(path)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("", None),
        ("1/second", Limit(1, 1, 1)),
        ("100/hour", Limit(100, 3600, 100)),
        ("100/day burst 20", Limit(100, 86400, 20)),
    ],
)
def test_rates(text: str, limit: Limit | None) -> None:
    assert parse_rate(text) == limit


@pytest.mark.parametrize(
    "text",
    [
        "100",
        "0/hour",
        "-1/hour",
        "1/week",
        "1/hour burst",
        "1/hour burst 0",
        "1/hour at 2",
        "٣/day",
    ],
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        parse_rate(text)


def test_a_whole_one(tmp_path: Path) -> None:
    read = load(
        tmp_path,
        """
        [checks]
        exempt_networks = ["192.0.2.7/24", "2001:db8::/32"]
        exceptions = { "broken.example" = "none" }
        trusted_sealers = ["Lists.Example"]
        [reputation]
        lists = ["zen.example=127.0.0.[2..11]*4", "good.example*-2"]
        sender_lists = ["dbl.example"]
        weights = { early_talker = 1.5 }
        [rates]
        address_messages = "10/minute"
        [[filters]]
        kind = "rspamd"
        endpoint = "tcp:127.0.0.1:11333"
        """,
    )
    assert read.checks.exempt_networks == ("192.0.2.0/24", "2001:db8::/32")
    assert read.checks.trusted_sealers == ("lists.example",)
    assert [(one.zone, one.of) for one in read.reputation.dns_lists] == [
        ("zen.example", "client"),
        ("good.example", "client"),
        ("dbl.example", "sender"),
    ]
    assert read.filters[0].on == ("smtp", "submission")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[checks]\nexempt_networks = ["somewhere"]', "must be an address or a network"),
        ('[checks]\ndmarc = "maybe"', "must be"),
        ('[checks]\nexceptions = { "x" = "block" }', "must be"),
        ('[reputation]\nlists = ["not a zone"]', "is not zone"),
        ("[reputation]\nweights = { noise = 1.0 }", "is no sign; there are"),
        ("[reputation]\njunk_score = 9.0\nrefuse_score = 3.0", "must be at least junk_score"),
        ('[rates]\naddress_messages = "many"', 'must be such as "100/hour"'),
        ('[[filters]]\nkind = "milter"', "must be there"),
        (
            '[[filters]]\nkind = "milter"\nendpoint = "tcp:1:2"\nname = "two words"',
            "must be one word",
        ),
        ('[reputation]\nlists = ["not a zone"]', "[*points]"),
        (
            "[greylist]\ndelay_seconds = 600.0\nwindow_seconds = 600.0",
            "greylist.delay_seconds = 600",
        ),
        ("[greylist]\nwindow_seconds = 600.0\ndelay_seconds = 700.0", "or window_seconds larger"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert said in str(caught.value)


def test_the_page_has_filters() -> None:
    section = markdown().partition("\n## [[filters]]\n")[2].partition("\n## ")[0]
    for key in config.model.Filter.model_fields:
        assert f"\n- `{key}" in section
