"""What the tests of mailctl share: a directory with a configuration, which is the working directory."""

from __future__ import annotations

import pytest


@pytest.fixture
def empty_site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TWISTED_MAIL_CONFIG", raising=False)
    (tmp_path / "mail.toml").write_text(
        'hostname = "mail.example.org"\ndata = "data"\n[listen]\nsmtp = ["tcp:0"]\n'
    )
    return tmp_path
