"""``mailctl dkim`` as an operator uses it."""

from __future__ import annotations

import json

import dns.zone
import pytest
from click.testing import CliRunner

from twisted_mail.cli import dkim as command
from twisted_mail.cli import mailctl
from twisted_mail.disk import OsDisk
from twisted_mail.storage.dkim_keys import SigningKeys

START = 1_800_000_000.0


def call(*words, code=0):
    result = CliRunner().invoke(mailctl, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


class Site:
    def __init__(self, path):
        self.path = path
        self.now = START

    def selectors(self):
        signing = SigningKeys(OsDisk(), str(self.path / "data"))
        return [key.selector for key in signing.of("example.org")]


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TWISTED_MAIL_CONFIG", raising=False)
    (tmp_path / "mail.toml").write_text(
        'hostname = "mail.example.org"\ndata = "data"\n[listen]\nsmtp = ["tcp:0"]\n'
    )
    site = Site(tmp_path)
    monkeypatch.setattr(command, "seconds", lambda: site.now)
    return site


@pytest.fixture
def domain(site):
    call("domain", "add", "example.org")
    return site


def records(output):
    """Name → text of the records in it, as dnspython reads them."""
    text = output[output.index("20270") :] if "\n\n" not in output else output.partition("\n\n")[2]
    zone = dns.zone.from_text(
        "$TTL 300\n" + text, "example.org", check_origin=False, relativize=False
    )
    found = {}
    for name, _, record in zone.iterate_rdatas("TXT"):
        assert all(len(one) <= 255 for one in record.strings)
        found[name.to_text(omit_final_dot=True)] = b"".join(record.strings).decode()
    return found


def test_the_first_keys_sign_at_once(domain):
    output = call("dkim", "add", "example.org")
    assert "mail from example.org is signed from now on" in output
    assert "Publish these records now" in output
    assert domain.selectors() == ["20270115-rsa", "20270115-ed25519"]
    found = records(output)
    assert set(found) == {f"{name}._domainkey.example.org" for name in domain.selectors()}
    assert [found[name][:20] for name in sorted(found, reverse=True)] == [
        "v=DKIM1; k=rsa; p=MI",
        "v=DKIM1; k=ed25519; ",
    ]
    assert records(call("dkim", "list", "--records")) == found


def test_keys_that_wait_for_their_records(domain):
    assert "nothing is signed" in call("dkim", "add", "--prepared", "example.org")
    assert domain.selectors() == []
    domain.now += 3600
    call("dkim", "rotate", "example.org")
    assert len(domain.selectors()) == 2


def test_a_rotation(domain):
    call("dkim", "add", "example.org")
    domain.now += 86_400
    output = call("dkim", "rotate", "example.org")
    assert "mailctl dkim rotate example.org" in output
    assert len(records(output)) == 2
    assert domain.selectors() == ["20270115-rsa", "20270115-ed25519"]
    domain.now += 1800
    assert "wait 31 minutes, or give --now" in call("dkim", "rotate", "example.org", code=1)
    domain.now += 1800
    output = call("dkim", "rotate", "example.org", "--keep", "10")
    assert domain.selectors() == ["20270116-rsa", "20270116-ed25519"]
    assert "20270115-rsa._domainkey.example.org must stay until 2027-01-26T09:00:00Z" in output
    domain.now += 10 * 86_400
    output = call("dkim", "rotate", "example.org")
    assert "forgot 20270115-rsa of example.org: the record" in output
    call("dkim", "rotate", "example.org", "--now")
    assert domain.selectors() == ["20270126-rsa", "20270126-ed25519"]


def test_the_list(domain):
    assert call("dkim", "list") == ""
    call("dkim", "add", "example.org")
    assert call("dkim", "list").splitlines()[:2] == [
        "domain\tselector\talgorithm\tstate\tsince\tuntil",
        "example.org\t20270115-rsa\trsa-sha256\tactive\t2027-01-15T08:00:00Z\t",
    ]
    row = json.loads(call("dkim", "list", "example.org", "--json"))[1]
    assert row["name"] == "20270115-ed25519._domainkey.example.org"
    assert row["record"].startswith("v=DKIM1; k=ed25519; p=")
    assert json.loads(call("dkim", "list", "other.example", "--json")) == []


def test_removal(domain):
    call("dkim", "add", "example.org")
    assert "mail is signed with 20270115-rsa" in call("dkim", "remove", "example.org", code=1)
    call("dkim", "remove", "example.org", "20270115-rsa", "--yes")
    assert domain.selectors() == ["20270115-ed25519"]
    call("dkim", "remove", "example.org", "--yes")
    assert domain.selectors() == []
    assert "has no key" in call("dkim", "remove", "example.org", code=1)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("add", "localhost"), "needs a dot"),
        (("add", "a b"), "no domain"),
        (("rotate", "example.org"), "mailctl dkim add example.org"),
        (("list", "a..b"), "no domain"),
    ],
)
def test_refusals(domain, words, text):
    assert text in call("dkim", *words, code=1)


def test_no_second_first_keys(domain):
    call("dkim", "add", "example.org")
    assert "has keys already" in call("dkim", "add", "Example.org", code=1)


def test_before_the_first_domain_nothing_is_made(site):
    assert "there is no site yet" in call("dkim", "add", "example.org", code=2)
    assert not (site.path / "data").exists()


def test_what_is_removed_and_what_is_not_there(domain):
    assert "nosuch.example has no keys" in call("dkim", "list", "nosuch.example", code=1)
    assert call("dkim", "list") == ""
    call("dkim", "add", "example.org")
    removed = call("dkim", "remove", "example.org", "20270115-rsa", "--yes")
    assert removed == (
        "removed 20270115-rsa\ndelete the record 20270115-rsa._domainkey.example.org from the DNS\n"
    )
