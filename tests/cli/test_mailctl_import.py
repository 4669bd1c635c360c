"""``mailctl import`` and ``mailctl export``, as an operator gives them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from twisted_mail.accounts.directory import Directory
from twisted_mail.accounts.passwords import Cost, hash_password
from twisted_mail.address import Address
from twisted_mail.cli import mailctl
from twisted_mail.cli.importing_progress import Shown, octets_text
from twisted_mail.storage.importing import InterruptedImportError

BOB = "bob@example.org"
MAIN = "from twisted_mail.cli import main; main()"


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TWISTED_MAIL_CONFIG", raising=False)
    (tmp_path / "mail.toml").write_text(
        'hostname = "mail.example.org"\ndata = "data"\n[listen]\nsmtp = ["tcp:0"]\n'
    )
    assert CliRunner().invoke(mailctl, ("domain", "add", "example.org")).exit_code == 0
    directory = Directory(str(tmp_path / "data/accounts.sqlite3"), now=lambda: 1_800_000_000.0)
    directory.add_user(Address.parse(BOB), hash_password("secret", os.urandom, Cost(8, 1, 1, 4096)))
    directory.close()
    return tmp_path


def call(*words, status=0, input=None):
    """A command in a process of its own, as it makes a reactor: what it prints, and its complaints."""
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *words],
        capture_output=True,
        text=True,
        timeout=60,
        input=input,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def refused(*words, status=1):
    """A command that ends before there is a reactor."""
    result = CliRunner().invoke(mailctl, ("import", *words))
    assert result.exit_code == status, result.output
    return result.output


def dovecots(root):
    for folder in ("", ".Work.Plans", ".Sent Messages", ".Spam"):
        for part in ("new", "cur", "tmp"):
            (root / folder / part).mkdir(parents=True)
        (root / folder / "dovecot-uidlist").write_text(
            "3 V1400000000 N8 G1\n7 :1500000000.x.h\n" if not folder else "3 V9 N1 G1\n"
        )
    (root / "cur/1500000000.x.h:2,S").write_text("Subject: x\n\nx\n")
    return str(root)


def test_from_dovecot_and_out_again(site):
    source = dovecots(site / "d")
    told = call(
        "import", "--from-dovecot", source, "--user", BOB, "--config", "-",
        input="namespace inbox {\n  separator = .\n  prefix = INBOX.\n  inbox = yes\n"
        "  mailbox Spam {\n    special_use = \\Junk\n  }\n}\n",
    )  # fmt: skip
    assert "INBOX\t1\t14 B\t0\t0\t0\n" in told
    assert "taken over: 1 messages, 14 B, 4 mailboxes" in told
    assert 'separator = "."\n  prefix = "INBOX."' in told
    assert "holds mail already" in call("import", "--from-dovecot", source, "--user", BOB, status=1)
    told = call("export", "--user", BOB, "--format", "maildir", "out")
    assert (site / "out/dovecot-uidlist").read_text().startswith("3 V1400000000 N8 G")
    assert 'mailbox "Sent Messages" {\n      special_use = \\Sent' in told
    assert 'mailbox "Spam" {\n      special_use = \\Junk' in told


def test_an_mbox_and_out_again(site):
    text = "From x Wed Jan  3 01:05:34 1996\nSubject: x\nStatus: RO\n\nx\n\n"
    (site / "m").write_text(text)
    told = call("import", "mbox", "m", "--user", BOB, "--mailbox", "Old/Été")
    assert told == "imported: 1 messages, 14 B, into Old/Été\n"
    call("export", "--user", BOB, "--format", "mbox", "--mailbox", "Old/Été", "out")
    assert (site / "out/Old/Été.mbox").read_text() == text.replace("From x", "From MAILER-DAEMON")
    told = call("import", "maildir", dovecots(site / "d"), "--user", BOB, "--under", "Old")
    assert told == "imported: 1 messages, 14 B, into Old\n"


def test_a_quota_ends_it_and_it_goes_on(site):
    (site / "m").write_text("From x Sat Jan  3 01:05:34 1996\nSubject: x\n\nx\n\n" * 600)
    call("user", "quota", BOB, "--messages", "550")
    told = call("import", "mbox", "m", "--user", BOB, status=1)
    assert "INBOX: The mailbox is full" in told and "the same command goes on" in told
    told = call("import", "mbox", "m", "--user", BOB, "--no-quota")
    assert told == "imported: 100 messages, 1.4 KiB, after 500 before, into INBOX\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("mbox", "nothing", "--user", BOB), "No such file"),
        (("mbox", ".", "--user", BOB), "is a directory"),
        (("mbox", "m", "--user", "x@example.org"), "no user x@example.org"),
        (("mbox", "m", "--user", BOB, "--mailbox", "a//b"), "no name of a mailbox"),
        (("mbox", "m", "--user", BOB, "--mailbox", "a\nb"), "no name of a mailbox"),
        (("maildir", ".", "--user", BOB), "not a Maildir"),
        (("--from-dovecot", "nothing", "--user", BOB), "not there"),
        (("--from-dovecot", ".", "--user", BOB), "not a Maildir"),
        (("--from-dovecot", "d", "--user", BOB, "--special-use", "sent=Gone"), "no mailbox Gone"),
        (("--from-dovecot", "d", "--user", BOB, "--pop3-uidl-format", "%m"), "pop3_uidl_format"),
    ],
)
def test_what_is_wrong_is_said(site, words, said):
    (site / "m").write_text("x")
    dovecots(site / "d")
    assert said in refused(*words)


@pytest.mark.parametrize(
    "words",
    [
        (), ("--from-dovecot", "d"), ("--user", BOB), ("--from-dovecot", "d", "mbox", "m"),
        ("mbox", "m"), ("--from-dovecot", "d", "--user", BOB, "--special-use", "x"),
    ],
)  # fmt: skip
def test_wrong_usage(site, words):
    dovecots(site / "d")
    refused(*words, status=2)


def test_what_is_no_mbox(site):
    (site / "m").write_text("Subject: x\n\nx\n")
    told = call("import", "mbox", "m", "--user", BOB, status=1)
    assert "not an mbox" in told and "is safe" not in told


def test_progress_in_lines(capsys):
    now = [0.0]
    shown = Shown(lambda: now[0])
    shown.begin("importing", 10, 1000)
    shown.step(1, 100)
    now[0] = 6.0
    shown.step(2, 2048)
    shown.end()
    assert capsys.readouterr().err == "importing: 3 of 10 messages, 2.1 KiB\n"
    shown.interrupted = True
    with pytest.raises(InterruptedImportError):
        shown.step(1, 1)
    assert [octets_text(number) for number in (0, 1023, 1024, 5 << 30)] == [
        "0 B", "1023 B", "1.0 KiB", "5.0 GiB",
    ]  # fmt: skip


def test_progress_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    shown = Shown(lambda: 0.0)
    shown.begin("comparing", 2, 0)
    shown.step(2, 70_000)
    shown.end()
    assert "2 of 2 messages, 68.4 KiB" in capsys.readouterr().err
