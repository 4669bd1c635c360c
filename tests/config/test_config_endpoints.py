"""Endpoint strings: what is taken, and which two can not be together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.config import endpoints


@pytest.mark.parametrize(
    "text",
    [
        "tcp:25",
        "tcp:0",
        "tcp:port=25",
        "tcp:25:interface=127.0.0.1",
        "tcp:25:interface=127.0.0.1:backlog=100",
        r"tcp6:25:interface=\:\:1",
        "unix:/run/mail/smtp.sock:mode=660",
        "systemd:domain=INET:index=0",
        "systemd:domain=INET6:name=smtp",
        "haproxy:tcp:25",
    ],
)
def test_allowed(text: str) -> None:
    endpoints.check(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "25",
        "tcp",
        "tcp:",
        "tcp:smtp",
        "tcp:65536",
        "tcp:-1",
        "tcp:²",
        "tcp:25:backlog=x",
        "tcp:25:frobnicate=1",
        "tcp:25:1:2:3:4",
        "ssl:465",
        "nothing:25",
        "systemd:smtp",
        "haproxy",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        endpoints.check(text)


@given(st.text(alphabet='tcp6:=\\0129,."x ', max_size=20))
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        endpoints.check(text)
    except ValueError:
        return
    assert not endpoints.clash(text, "unix:/elsewhere")


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ("tcp:25", "tcp:25", True),
        ("tcp:25", "tcp:025", True),
        ("tcp:25", "tcp:25:interface=127.0.0.1", True),
        ("tcp:25:interface=0.0.0.0", "tcp:25:interface=127.0.0.1", True),
        ("tcp:25:127.0.0.1", "tcp:port=25:interface=127.0.0.1", True),
        ("haproxy:tcp:25", "tcp:25", True),
        ("unix:/a", "unix:address=/a", True),
        ("tcp:25:interface=127.0.0.2", "tcp:25:interface=127.0.0.1", False),
        ("tcp:25", "tcp:587", False),
        ("tcp:0", "tcp:0", False),
        ("tcp:25", "tcp6:25", False),
        ("unix:/a", "unix:/b", False),
        ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0", False),
    ],
)
def test_clash(first: str, second: str, clash: bool) -> None:
    assert endpoints.clash(first, second) is clash
    assert endpoints.clash(second, first) is clash
