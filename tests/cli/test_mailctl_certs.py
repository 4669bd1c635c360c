"""``mailctl certs`` of a site whose certificate comes from a CA, and what `mailctl check` says of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner

from twisted_mail.acme.files import AcmeFiles, State
from twisted_mail.cli import mailctl
from twisted_mail.cli.findings import certificates
from twisted_mail.config import load
from twisted_mail.disk import OsDisk

CONFIGURATION = """\
hostname = "mail.example.org"
data = "data"
[tls]
acme = true
[listen]
smtp = ["tcp:0"]
http = ["tcp:0"]
[acme]
names = ["imap.example.org"]
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TWISTED_MAIL_CONFIG", raising=False)
    (tmp_path / "mail.toml").write_text(CONFIGURATION)
    return tmp_path


@pytest.fixture
def files(site: Path) -> AcmeFiles:
    found = AcmeFiles(OsDisk(), site / "data")
    found.make()
    return found


def call(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(mailctl, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def certs() -> dict[str, Any]:
    (found,) = json.loads(call("certs", "--json"))
    assert isinstance(found, dict)
    return found


def issue(files: AcmeFiles, *names: str) -> None:
    made = trustme.CA().issue_cert(*names, not_after=datetime(2040, 1, 1, tzinfo=UTC))
    chain = b"".join(part.bytes() for part in made.cert_chain_pems)
    files.keep_certificate(made.private_key_pem.bytes(), chain)


def test_before_the_first_one(site: Path) -> None:
    found = certs()
    assert found["names"] == ["mail.example.org", "imap.example.org"]
    assert found["problem"] == "none yet: a development certificate is served"
    assert found["next_try"] is None and found["expires"] is None
    assert list(site.iterdir()) == [site / "mail.toml"]  # looking makes nothing


def test_what_is_served_and_when_it_is_renewed(files: AcmeFiles) -> None:
    issue(files, "mail.example.org", "imap.example.org")
    files.keep_state(State(tried=1_800_000_000.0, next=1_900_000_000.0, serial="x"))
    found = certs()
    assert found["names"] == ["mail.example.org", "imap.example.org"]
    assert found["expires"] == "2040-01-01T00:00:00Z"
    assert found["next_try"] == "2030-03-17T17:46:40Z"
    assert found["last_try"] == "2027-01-15T08:00:00Z"
    assert found["last_error"] == found["problem"] == ""


def test_what_went_wrong_is_told(files: AcmeFiles) -> None:
    files.keep_state(State(tried=1.8e9, failures=3, error="dns: no A record for imap.example.org"))
    found = certs()
    assert found["failures"] == 3 and "no A record" in found["last_error"]
    assert "no A record" in call("certs")


def test_renew_asks_the_server(site: Path, files: AcmeFiles) -> None:
    assert "asked for" in call("certs", "renew")
    assert files.asked() and not files.asked()


def test_renew_needs_a_site(site: Path) -> None:
    assert "there is no site yet" in call("certs", "renew", code=2)


def test_renew_is_for_sites_with_acme(site: Path) -> None:
    (site / "mail.toml").write_text("")
    assert "[tls] acme is not true" in call("certs", "renew", code=1)


def test_sites_without_acme_are_shown_too(site: Path) -> None:
    (site / "mail.toml").write_text('hostname = "mail.example.org"\n')
    assert "No such file" in certs()["problem"]
    call("certs", "dev")
    assert "mail.example.org" in certs()["names"]


def test_dev_says_when_it_is_used(site: Path) -> None:
    assert "only until the CA of [tls] acme has sent one" in call("certs", "dev")


def test_check(site: Path, files: AcmeFiles) -> None:
    def findings() -> list[tuple[str, str]]:
        return [
            (one.state, one.detail) for one in certificates(load(site / "mail.toml"), now=1.8e9)
        ]

    assert findings() == [("warning", "none from the CA yet: a development certificate is served")]
    issue(files, "mail.example.org")
    assert [state for state, _ in findings()] == ["ok", "ok"]
    files.keep_state(State(failures=2, error="the CA cannot be reached"))
    assert findings()[-1] == ("warning", "failed 2 times in a row: the CA cannot be reached")


def test_where_no_site_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TWISTED_MAIL_CONFIG", raising=False)
    assert "there is no site here" in call("certs", code=2)
    assert list(tmp_path.iterdir()) == []
    call("certs", "dev")
    assert "localhost" in certs()["names"]


def test_renew_says_who_does_it(site: Path, files: AcmeFiles) -> None:
    told = call("certs", "renew")
    assert "no server runs" in told and "next start" in told
    assert files.lock()  # as the server that runs has it
    assert "start" not in call("certs", "renew")
    files.unlock()


def test_lines_for_people(
    site: Path,
    files: AcmeFiles,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    issue(files, "mail.example.org", "imap.example.org")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with pytest.raises(SystemExit):
        mailctl(["certs"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"certificate: {files.certificate_path}"
    assert lines[1] == "names:       mail.example.org, imap.example.org"
    assert "expires:     2040-01-01T00:00:00Z" in lines
    assert not any(line.startswith(("problem", "last_error", "last error")) for line in lines)
