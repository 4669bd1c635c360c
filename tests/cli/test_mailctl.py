"""``mailctl`` as an operator uses it, on a site of its own in a temporary directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from twisted_mail.accounts.directory import Directory
from twisted_mail.accounts.passwords import Cost, hash_password, verify_password
from twisted_mail.address import Address
from twisted_mail.cli import mailctl
from twisted_mail.disk import OsDisk
from twisted_mail.storage.reputation import Reputation

BOB = "bob@example.org"
MAIN = "from twisted_mail.cli import main; main()"


@pytest.fixture
def site(empty_site):
    return empty_site


def call(*words, code=0, input=None):
    """What a command prints; `code` is the exit code it must have."""
    result = CliRunner().invoke(mailctl, words, input=input)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def bob(site):
    """A user whose password is cheap to check."""
    call("domain", "add", "example.org")
    with accounts(site) as directory:
        record = hash_password("secret", os.urandom, Cost(8, 1, 1, 4096))
        directory.add_user(Address.parse(BOB), record)


@contextmanager
def accounts(site):
    directory = Directory(str(site / "data/accounts.sqlite3"), now=lambda: 1_800_000_000.0)
    yield directory
    directory.close()


def password_is(site, address, password):
    with accounts(site) as directory:
        record = directory.password(directory.user(Address.parse(address)))
    return verify_password(record.argon2, password)


# -- in general


def test_it_makes_the_data_directory_when_it_comes_first(site):
    call("domain", "add", "example.org")
    assert (site / "data").stat().st_mode & 0o777 == 0o700
    assert (site / "data/accounts.sqlite3").stat().st_mode & 0o777 == 0o600


def test_without_a_configuration_it_is_the_first_starts_site(site):
    (site / "mail.toml").unlink()
    call("domain", "add", "localhost")
    assert (site / "mail-data/accounts.sqlite3").exists()


LOOKS = [
    ("domain", "list"), ("user", "list"), ("alias", "list", "--json"), ("user", "quota", BOB),
    ("user", "passwd", BOB), ("user", "remove", BOB, "--yes"), ("domain", "remove", "x.example"),
    ("user", "add", BOB), ("user", "disable", BOB), ("alias", "add", "x@example.org", BOB),
    ("export", "--user", BOB, "--format", "mbox", "out"),
]  # fmt: skip


@pytest.mark.parametrize("words", [*LOOKS, ("queue", "list"), ("queue", "retry", "--all")])
def test_in_a_wrong_directory_nothing_is_made(site, words):
    (site / "mail.toml").unlink()
    output = call(*words, code=2)
    assert output.startswith(
        f"mailctl: there is no site here: {site} has no mail.toml, and {site}/"
    )
    assert "mailctl --config FILE" in output
    assert os.listdir(site) == []


@pytest.mark.parametrize("words", LOOKS)
def test_before_the_first_domain_nothing_is_made(site, words):
    output = call(*words, code=2)
    assert output.startswith(
        f"mailctl: there is no site yet: {site}/data/accounts.sqlite3 is not there, "
        f"which {site}/mail.toml means. "
    )
    assert output.endswith("mailctl domain add DOMAIN\n")
    assert os.listdir(site) == ["mail.toml"]


@pytest.mark.parametrize("how", ["option", "environment"])
def test_the_configuration_can_be_elsewhere(site, how, monkeypatch):
    (site / "mail.toml").rename(site / "other.toml")
    words = ["--config", "other.toml"] if how == "option" else []
    if how == "environment":
        monkeypatch.setenv("TWISTED_MAIL_CONFIG", str(site / "other.toml"))
    call(*words, "domain", "add", "example.org")
    assert (site / "data/accounts.sqlite3").exists()


def test_a_configuration_with_mistakes_is_refused_with_all_of_them(site):
    (site / "mail.toml").write_text('hostname = ""\ncolour = 1\n')
    output = call("domain", "list", code=1)
    assert "mail.toml:1: hostname" in output and "mail.toml:2: colour" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",), ("user",), ("user", "add"), ("alias", "add", "a@example.org"),
        ("domain", "list", "--colour"),
    ],
)  # fmt: skip
def test_wrong_usage_is_2(site, words):
    call(*words, code=2)


def test_help_does_nothing(site):
    for words in ((), ("user",), ("alias",), ("domain",), ("certs",), ("check",)):
        assert "Usage:" in call(*words, "--help")
    assert not (site / "data").exists()


# -- domains


def test_domains(site):
    assert call("domain", "add", "Example.ORG") == "added example.org\n"
    call("domain", "add", "bücher.example")
    assert json.loads(call("domain", "list", "--json")) == [
        {"domain": "example.org", "users": 0, "aliases": 0},
        {"domain": "xn--bcher-kva.example", "users": 0, "aliases": 0},
    ]
    call("domain", "remove", "bücher.example")
    assert call("domain", "list") == "domain\tusers\taliases\nexample.org\t0\t0\n"


def test_a_domain_twice(site):
    call("domain", "add", "example.org")
    assert (
        call("domain", "add", "example.org", code=1)
        == "mailctl: the domain example.org exists already\n"
    )


def test_a_domain_in_use_stays(bob):
    output = call("domain", "remove", "example.org", code=1)
    assert output == "mailctl: the domain example.org still has 1 users\n"


def test_lists_of_nothing(site):
    call("domain", "add", "example.org")
    call("domain", "remove", "example.org")
    for name in ("domain", "user", "alias"):
        assert call(name, "list", "--json") == "[]\n"
        assert call(name, "list") == ""


# -- users


def test_users(bob):
    (user,) = json.loads(call("user", "list", "--json"))
    assert (user["user"], user["enabled"], user["mailbox"]) == (BOB, True, "example.org/bob")
    assert call("user", "list") == (
        f"user\tenabled\tcreated\tmailbox\n{BOB}\tyes\t2027-01-15T08:00:00+00:00\texample.org/bob\n"
    )


def test_a_user_of_an_unknown_domain(site):
    call("domain", "add", "example.net")
    output = call("user", "add", BOB, "--password-stdin", code=1, input="secret\n")
    assert output == (
        "mailctl: the domain example.org is not here; add it first: mailctl domain add example.org\n"
    )


def test_a_user_twice(bob, site):
    call("user", "add", "BOB@example.org", "--password-stdin", code=1, input="other\n")
    assert password_is(site, BOB, "secret")


@pytest.mark.parametrize("address", ["bob", "bob@", "@example.org", "bob smith@example.org"])
def test_what_is_no_address(bob, address):
    output = call("user", "add", address, "--password-stdin", code=1, input="secret\n")
    assert output.startswith(f"mailctl: {address!r} is not an address: ")


def test_a_password_from_the_prompt_is_asked_for_twice(site, monkeypatch):
    call("domain", "add", "example.org")
    monkeypatch.setattr("twisted_mail.cli.user._on_terminal", lambda: True)
    output = call("user", "add", BOB, input="secret\nscret\nsecret\nsecret\n")
    assert "secret" not in output
    assert password_is(site, BOB, "secret")


def test_a_pipe_is_read_and_not_asked(site):
    call("domain", "add", "example.org")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MAIN, "user", "add", BOB],
        input="secret\n",
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,  # without a terminal, as from cron
    )
    assert (done.stdout, done.stderr, done.returncode) == (f"added {BOB}\n", "", 0)
    assert password_is(site, BOB, "secret")


@pytest.mark.parametrize("line", ["", "\n", "\r\n"])
def test_an_empty_password(bob, site, line):
    output = call("user", "passwd", BOB, "--password-stdin", code=1, input=line)
    assert output == "mailctl: the password is empty\n"
    assert password_is(site, BOB, "secret")


def test_an_empty_password_at_the_prompt(bob, site, monkeypatch):
    monkeypatch.setattr("twisted_mail.cli.user._on_terminal", lambda: True)
    assert call("user", "passwd", BOB, code=1, input="\n\n").endswith(
        "mailctl: the password is empty\n"
    )


@pytest.mark.parametrize(
    ("given", "password"),
    [
        ("new\n", "new"),
        ("new", "new"),
        ("new\r\n", "new"),
        (" n w \nmore\n", " n w "),
        ("ñ\n", "ñ"),
    ],
)
def test_one_line_of_standard_input_is_the_password(bob, site, given, password):
    call("user", "passwd", BOB, "--password-stdin", input=given)
    assert password_is(site, BOB, password)


@pytest.mark.parametrize("given", [b"\xff\n", b"x" * 2000 + b"\n"])
def test_what_cannot_be_a_password(bob, site, given):
    call("user", "passwd", BOB, "--password-stdin", code=1, input=given)
    assert password_is(site, BOB, "secret")


def test_a_user_who_is_not_there(bob):
    for words in (
        *(("passwd", "--password-stdin"), ("remove", "--yes")),
        *(("disable",), ("enable",), ("forgive",)),
    ):
        output = call("user", words[0], "eve@example.org", *words[1:], code=1, input="x\n")
        assert output == "mailctl: there is no user eve@example.org\n"


def test_a_user_who_may_not_log_in_for_a_while(bob, site):
    before = call("user", "list", "--json")
    assert call("user", "disable", "BOB@example.org") == f"disabled {BOB}\n"
    (row,) = json.loads(call("user", "list", "--json"))
    assert row["enabled"] is False
    assert call("user", "disable", BOB) == f"disabled {BOB}\n"
    assert call("user", "enable", BOB) == f"enabled {BOB}\n"
    assert call("user", "list", "--json") == before
    assert password_is(site, BOB, "secret")


def test_a_user_who_is_forgiven(bob, site):
    assert call("user", "forgive", "BOB@example.org") == f"{BOB} is forgiven\n"
    (path,) = site.rglob("reputation.sqlite3")
    file = Reputation(OsDisk(), str(path))
    assert file.take_forgiven() == [BOB]
    file.close()


def test_a_client_who_is_forgiven(bob, site):
    assert call("user", "forgive", "2001:DB8::1") == "2001:db8::1 is forgiven\n"
    (path,) = site.rglob("reputation.sqlite3")
    file = Reputation(OsDisk(), str(path))
    assert file.take_forgiven() == ["2001:db8::1"]
    file.close()


def remove(*words, stdin):
    # The reactor runs, and a process has only one.
    return subprocess.run(
        [sys.executable, "-c", MAIN, "user", "remove", BOB, *words],
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("words", [(), ("--yes",)])
def test_removing_a_user(bob, words):
    done = remove(*words, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"removed {BOB}\nthere was no mail\n"
    assert call("user", "list") == ""


def test_somebody_at_a_terminal_is_asked_first(bob):
    terminal, stdin = os.openpty()
    os.write(terminal, b"n\n")
    done = remove(stdin=stdin)
    os.close(stdin)
    os.close(terminal)
    assert done.returncode == 1
    assert done.stdout.startswith(f"Remove the user {BOB} ")
    assert BOB in call("user", "list")


# -- quota


def quota_of(*words):
    (row,) = json.loads(call("user", "quota", BOB, *words, "--json"))
    return row["storage"], row["storage_from"], row["messages"], row["messages_from"]


def test_the_quota_of_a_user(bob, site):
    assert call("user", "quota", BOB) == (
        f"user:     {BOB}\n"
        "storage:  0 B used, no bound (for everybody, [quota])\n"
        "messages: 0 used, no bound (for everybody, [quota])\n"
    )
    assert quota_of("--storage", "2 GiB") == (1 << 31, "user", None, "[quota]")
    assert quota_of("--storage", "3 gb")[0] == 3_000_000_000
    assert quota_of("--storage", "20480")[0] == 20480
    assert quota_of("--storage", "2G")[0] == 1 << 31
    assert quota_of("--messages", "50") == (1 << 31, "user", 50, "user")
    (site / "mail.toml").write_text(
        f'{(site / "mail.toml").read_text()}\n[quota]\nstorage = "1 kB"\nmessages = 9\n'
    )
    assert quota_of("--storage", "default") == (1000, "[quota]", 50, "user")
    assert quota_of("--messages", "none") == (1000, "[quota]", None, "user")
    with accounts(site) as directory:
        user = directory.user(Address.parse(BOB))
        assert (user.storage, user.messages) == (None, 0)


@pytest.mark.parametrize(
    "words",
    [("--storage", "2 GB more"), ("--storage", "0 B"), ("--storage", "lots"), ("--messages", "0"), ("--messages", "-3"),
     ("--messages", "many")],
)  # fmt: skip
def test_a_quota_that_is_none(bob, words):
    output = call("user", "quota", BOB, *words, code=1)
    assert output.startswith(f"mailctl: {words[0]} '{words[1]}': must be ")
    assert output.endswith('"none", or "default"\n')
    assert quota_of() == (None, "[quota]", None, "[quota]")


def test_the_quota_of_nobody(site):
    call("domain", "add", "example.org")
    assert call("user", "quota", BOB, code=1) == f"mailctl: there is no user {BOB}\n"


# -- aliases


def test_aliases(bob):
    call("alias", "add", "sales@example.org", BOB, "carol@elsewhere.example")
    call("alias", "add", "@example.org", BOB)
    assert json.loads(call("alias", "list", "--json")) == [
        {"alias": "@example.org", "targets": [BOB]},
        {"alias": "sales@example.org", "targets": [BOB, "carol@elsewhere.example"]},
    ]
    assert (
        call("alias", "list").splitlines()[2]
        == f"sales@example.org\t{BOB}, carol@elsewhere.example"
    )
    call("alias", "remove", "@example.org")
    assert len(json.loads(call("alias", "list", "--json"))) == 1


def test_an_alias_of_nobody(bob):
    call("alias", "add", "sales@example.org", "eve@example.org", code=1)
    call("alias", "remove", "sales@example.org", code=1)


def test_a_user_whom_an_alias_needs_stays(bob):
    call("alias", "add", "sales@example.org", BOB)
    output = call("user", "remove", BOB, "--yes", code=1)
    assert output == (
        f"mailctl: the alias sales@example.org still leads to {BOB}; remove that alias first, or make "
        "it anew with other targets:\n"
        "mailctl alias remove sales@example.org; mailctl alias add sales@example.org TARGET...\n"
    )
    assert BOB in call("user", "list")
