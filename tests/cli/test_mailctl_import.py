"""``mailctl import`` and ``mailctl export``, as an operator gives them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from twisted_mail.accounts.directory import Directory
from twisted_mail.accounts.passwords import Cost, hash_password
from twisted_mail.address import Address
from twisted_mail.cli import mailctl
from twisted_mail.cli.importing_progress import Shown
from twisted_mail.cli.output import counted, octets_text
from twisted_mail.storage.progress import InterruptedImportError

BOB = "bob@example.org"
MAIN = "from twisted_mail.cli import main; main()"


@pytest.fixture
def site(empty_site):
    assert CliRunner().invoke(mailctl, ("domain", "add", "example.org")).exit_code == 0
    directory = Directory(str(empty_site / "data/accounts.sqlite3"), now=lambda: 1_800_000_000.0)
    directory.add_user(Address.parse(BOB), hash_password("secret", os.urandom, Cost(8, 1, 1, 4096)))
    directory.close()
    return empty_site


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
        "import", "--from-dovecot", source, "--user", BOB, "--doveconf", "-",
        input="namespace inbox {\n  separator = .\n  prefix = INBOX.\n  inbox = yes\n"
        "  mailbox Spam {\n    special_use = \\Junk\n  }\n}\n",
    )  # fmt: skip
    assert "mailbox\tmessages\tsize\tthere already\tmoved since\tdamaged\n" in told
    assert "INBOX\t1\t14 B\t0\t0\t0\n" in told
    assert "taken over: 1 message, 14 B, 4 mailboxes" in told
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
    assert told == "imported: 1 message, 14 B, into Old/Été\n"
    told = call("export", "--user", BOB, "--format", "mbox", "--mailbox", "Old/Été", "out")
    assert (site / "out/Old/Été.mbox").read_text() == text.replace("From x", "From MAILER-DAEMON")
    assert told.startswith("mailbox\tmessages\tsize\t")
    assert told.endswith("exported: 1 message, 70 B, 1 mailbox\n")
    told = call("import", "maildir", dovecots(site / "d"), "--user", BOB, "--under", "Old")
    assert told == "imported: 1 message, 14 B, into Old\n"


def test_a_quota_ends_it_and_it_goes_on(site):
    (site / "m").write_text("From x Sat Jan  3 01:05:34 1996\nSubject: x\n\nx\n\n" * 600)
    call("user", "quota", BOB, "--messages", "550")
    told = call("import", "mbox", "m", "--user", BOB, status=1)
    assert "INBOX: The mailbox is full" in told and "the same command goes on" in told
    told = call("import", "mbox", "m", "--user", BOB, "--no-quota")
    assert told == "imported: 100 messages, 1.4 KiB, after 500 before, into INBOX\n"


def test_a_quota_of_fewer_messages_than_come_at_once(site):
    (site / "m").write_text("From x Sat Jan  3 01:05:34 1996\nSubject: x\n\nx\n\n" * 20)
    call("user", "quota", BOB, "--messages", "3")
    told = call("import", "mbox", "m", "--user", BOB, status=1)
    assert "INBOX: 20 messages at once are more than the mailbox may hold, 3" in told
    assert "larger" not in told


def test_an_mbox_is_there_already(site):
    (site / "m").write_text("From x Sat Jan  3 01:05:34 1996\nSubject: x\n\nx\n\n")
    call("import", "mbox", "m", "--user", BOB)
    call("import", "mbox", "m", "--user", BOB, "--mailbox", "Another")
    words = ("export", "--user", BOB, "--format", "mbox")
    call(*words, "--mailbox", "INBOX", "out")
    before = (site / "out/INBOX.mbox").read_bytes()
    for _ in range(2):
        told = call(*words, "out", status=1)
        assert f"there already, and an mbox is never overwritten: {site}/out/INBOX.mbox;" in told
        assert "Give another directory" in told and "goes on" not in told
        # nothing was begun
        assert os.listdir(site / "out") == ["INBOX.mbox"]
    assert (site / "out/INBOX.mbox").read_bytes() == before
    call(*words, "--mailbox", "Another", "out")
    told = call(*words, "--mailbox", "Gone", "out", status=1)
    assert "there is no mailbox Gone" in told and "goes on" not in told


def test_what_a_user_has(site):
    (site / "m").write_text("From x Sat Jan  3 01:05:34 1996\nSubject: x\n\nx\n\n" * 200)
    call("import", "mbox", "m", "--user", BOB)
    call("user", "quota", BOB, "--storage", "1G", "--messages", "300")
    assert call("user", "quota", BOB).splitlines() == [
        f"user:     {BOB}",
        "storage:  2.7 KiB (2800 B) used, at most 1.0 GiB (1073741824 B) (for this user)",
        "messages: 200 used, at most 300 (for this user)",
    ]
    (row,) = json.loads(call("user", "quota", BOB, "--json"))
    assert (row["storage_used"], row["messages_used"]) == (2800, 200)
    (site / "data/mail/example.org/bob/index.sqlite3").unlink()
    assert "storage:  not counted yet, at most" in call("user", "quota", BOB)
    (row,) = json.loads(call("user", "quota", BOB, "--json"))
    assert (row["storage_used"], row["messages_used"]) == (None, None)


# -- as root, for data that another user owns

UNREADABLE = """
import os, sys
class Owner:
    def find_spec(self, name, path=None, target=None):
        if os.geteuid() != os.getuid() and not os.environ.get("BREAK"):
            print("IMPORTED LATE:", name, file=sys.stderr)
        if os.geteuid() != os.getuid():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Owner())
import twisted_mail.cli.site
if os.environ.get("BREAK"):
    twisted_mail.cli.site._LATER = ()
from twisted_mail.cli import main
main()
"""
"""Nothing that is imported after root has become the owner of the data is found."""


@pytest.mark.skipif(os.getuid() != 0, reason="root becomes the owner of the data")
def test_the_owner_need_not_be_able_to_read_the_program(site):
    for path in (site / "data", *(site / "data").iterdir()):
        os.chown(path, 65534, 65534)
    # pytest's own directories are for root alone
    for path in (site, *site.parents[:2]):
        path.chmod(0o755)
    (site / "m").write_text("From x Sat Jan  3 01:05:34 1996\nSubject: x\n\nx\n\n")
    source = dovecots(site / "d")

    def call(*words, status=0, **environment):
        done = subprocess.run(
            [sys.executable, "-c", UNREADABLE, *words],
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | environment,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "IMPORTED LATE" not in done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    words = ("import", "mbox", "m", "--user", BOB)
    told = call(*words, BREAK="yes", status=1)
    assert told.startswith("mailctl: No module named")
    assert "user 65534, to whom the data belongs, may not read all of this program" in told
    call("import", "--from-dovecot", source, "--user", BOB, "--move")
    call(*words, "--mailbox", "Été")
    call("import", "maildir", source, "--user", BOB)
    for format_ in ("mbox", "maildir"):
        call("export", "--user", BOB, "--format", format_, f"out-{format_}")
    call("user", "quota", BOB)
    call("user", "list")
    call("queue", "list")
    call("queue", "retry", "--all")
    call("user", "remove", BOB)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from-dovecot", "d", "--user", BOB, "--doveconf", "gone"), "--doveconf gone: No such"),
        (("--from-dovecot", "d", "--user", BOB, "--doveconf", "."), "--doveconf .: Is a directory"),
        (("--from-dovecot", "d", "--user", BOB, "--doveconf", "/dev/null"), "nothing of Dovecot's"),
        (("--from-dovecot", "d", "--user", BOB, "--doveconf", "mail.toml"), "nothing of Dovecot's"),
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
        ("--from-dovecot", "d", "--user", BOB, "--copy", "--move"),
        ("--from-dovecot", "d", "--user", BOB, "--link", "--move"),
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


def test_numbers_in_words():
    assert counted(1, "mailbox", "mailboxes") == "1 mailbox"
    assert counted(0, "mailbox", "mailboxes") == "0 mailboxes"
    assert counted(2, "message") == "2 messages"


def test_progress_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    shown = Shown(lambda: 0.0)
    shown.begin("comparing", 2, 0)
    shown.step(2, 70_000)
    shown.end()
    assert "2 of 2 messages, 68.4 KiB" in capsys.readouterr().err
