"""``mailctl backup``, ``restore`` and ``upgrade``: what people see of them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys

import pytest
from click.testing import CliRunner

from twisted_mail.cli import mailctl
from twisted_mail.disk import OsDisk
from twisted_mail.storage.upgrading import Kept, write_version


@pytest.fixture
def site(empty_site):
    done = run("domain", "add", "example.org")
    assert done.exit_code == 0
    run("user", "add", "alice@example.org", "--password-stdin", input="secret words\n")
    return empty_site


def run(*words, input=None):
    return CliRunner().invoke(mailctl, [str(word) for word in words], input=input)


def only(path):
    (name,) = [name for name in os.listdir(path) if not name.startswith(".")]
    return path / name


def test_there_is_no_site(empty_site):
    done = run("backup", "to")
    assert done.exit_code == 2 and "there is no site yet" in done.output
    assert not os.path.exists("to")


def test_made_checked_and_put_back(site, tmp_path):
    done = run("backup", tmp_path / "to")
    assert done.exit_code == 0, done.output
    made = only(tmp_path / "to")
    assert done.output.startswith(f"{made}: ")
    assert (made / "config" / "mail.toml").read_bytes() == (site / "mail.toml").read_bytes()
    assert (made / "config" / "mail.toml").stat().st_mode & 0o777 == 0o600
    for path in (tmp_path / "to", made):
        done = run("backup", "--verify", path)
        assert (done.exit_code, done.output) == (0, f"{made}: whole\n")
    done = run("restore", tmp_path / "to", "--data", tmp_path / "new", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    assert said["path"] == str(made) and said["damaged"] == []
    db = sqlite3.connect(tmp_path / "new" / "accounts.sqlite3")
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()
    (site / "mail.toml").write_text(
        (site / "mail.toml").read_text().replace('data = "data"', f'data = "{tmp_path}/new"')
    )
    assert "alice@example.org" in run("user", "list").output


def test_what_is_said_of_it_as_json(site, tmp_path):
    said = json.loads(run("backup", tmp_path / "to", "--json", "--keep", 3).output)
    assert said["path"] == str(only(tmp_path / "to"))
    assert said["files"] >= said["copied"] > 0 and said["removed"] == said["skipped"] == []
    said = json.loads(run("backup", tmp_path / "to", "--json", "--verify").output)
    assert said["wrong"] == []


def test_what_is_damaged_is_told_by_name(site, tmp_path):
    run("backup", tmp_path / "to")
    made = only(tmp_path / "to")
    with open(made / "config" / "mail.toml", "r+b") as file:
        file.write(b"#")
    done = run("backup", "--verify", tmp_path / "to")
    assert done.exit_code == 1
    assert "config/mail.toml: damaged" in done.output
    with open(made / "data" / "accounts.sqlite3", "r+b") as file:
        file.write(b"#")
    done = run("restore", made, "--data", tmp_path / "new")
    assert done.exit_code == 1 and "accounts.sqlite3 is damaged or gone" in done.output
    done = run("restore", made, "--data", tmp_path / "new2", "--skip-damaged")
    assert done.exit_code == 1 and "damaged, left out: data/accounts.sqlite3" in done.output


def test_what_is_refused(site, tmp_path):
    done = run("backup", "data/backups")
    assert done.exit_code == 1 and "one lies in the other" in done.output
    run("backup", tmp_path / "to")
    done = run("restore", tmp_path / "to", "--data", "data")
    assert done.exit_code == 1 and "is not empty" in done.output
    (tmp_path / "none").mkdir()
    done = run("restore", tmp_path / "none", "--data", "new")
    assert done.exit_code == 1 and "is no backup" in done.output
    assert run("restore", tmp_path / "to").exit_code == 2
    assert run("backup", tmp_path / "to", "--verify", "--full").exit_code == 2
    assert run("backup", tmp_path / "to", "--keep", "0").exit_code == 2


def test_versions_are_shown(site):
    assert json.loads(run("upgrade", "--json").output) == [
        {"what": "site", "stored": None, "known": 3, "undo": None},
        {"what": "accounts", "stored": 2, "known": 2, "undo": None},
        {"what": "queue", "stored": None, "known": 1, "undo": None},
    ]


def upgraded(data):
    """As it is after a start that found version 2."""
    disk = OsDisk()
    (data / "site.json").write_text('{"version": 3, "generation": 4}')
    (data / "upgrade.json").write_bytes(Kept(2, 3, "done", (), ()).to_bytes())
    write_version(disk, str(data), 3)


def test_back_from_an_upgrade(site):
    data = site / "data"
    done = run("upgrade", "--undo")
    assert done.exit_code == 1 and "no upgrade that could be undone" in done.output
    upgraded(data)
    assert json.loads(run("upgrade", "--json").output)[0]["undo"] == 2
    done = run("upgrade", "--undo")
    assert done.exit_code == 0 and "version 2 again; use the older program" in done.output
    assert json.loads((data / "site.json").read_text()) == {"version": 2, "generation": 4}
    upgraded(data)
    assert run("upgrade", "--done").exit_code == 0
    assert not (data / "upgrade.json").exists()


def test_accounts_of_before(site):
    data = site / "data"
    old = data / "accounts.sqlite3.before-1"
    old.write_bytes((data / "accounts.sqlite3").read_bytes())
    db = sqlite3.connect(old)
    db.execute("PRAGMA user_version = 1")
    db.execute("PRAGMA journal_mode = DELETE")
    db.close()
    assert json.loads(run("upgrade", "--json").output)[1]["undo"] == 1
    done = run("upgrade", "--undo")
    assert done.exit_code == 0 and "accounts: version 1 again" in done.output
    assert not old.exists()
    assert (data / "accounts.sqlite3.after-2").exists()


def test_not_beside_a_server_nor_with_what_it_left(site):
    import fcntl

    data = site / "data"
    upgraded(data)
    (data / "journal").mkdir()
    with open(data / "journal" / "site.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        done = run("upgrade", "--undo")
        assert done.exit_code == 1 and "the server is up" in done.output
    (data / "journal" / "7.log").touch()
    done = run("upgrade", "--undo")
    assert done.exit_code == 1 and "not stopped in good order" in done.output
    assert json.loads((data / "site.json").read_text())["version"] == 3


def call(*words):
    """A command in a process of its own, as it makes a reactor."""
    main = "from twisted_mail.cli import main; main()"
    words = [sys.executable, "-c", main, *map(str, words)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def letter(site, text, folder=""):
    """A message in alice's mailbox, as another program files it."""
    top = site / "data" / "mail" / "example.org" / "alice" / "Maildir" / folder
    for sub in ("new", "cur", "tmp"):
        (top / sub).mkdir(parents=True, exist_ok=True)
    (top / "cur" / f"1700000000.{text}.host:2,S").write_text(f"Subject: {text}\n\n{text}\n")


def words(site):
    top = site / "data" / "mail" / "example.org" / "alice" / "Maildir"
    return sorted(
        (path.parent.parent.name, path.read_text().split()[1])
        for path in top.rglob("*")
        if path.is_file() and path.parent.name in ("new", "cur")
    )


def test_the_mail_of_one_user(site, tmp_path):
    letter(site, "one")
    letter(site, "two", ".Work")
    run("backup", tmp_path / "to")
    made = only(tmp_path / "to")
    for name in ("cur/1700000000.one.host:2,S", ".Work/cur/1700000000.two.host:2,S"):
        (site / "data" / "mail" / "example.org" / "alice" / "Maildir" / name).unlink()
    letter(site, "three")
    before = sorted(path for path in made.rglob("*"))
    call("restore", tmp_path / "to", "--user", "alice@example.org")
    assert words(site) == [(".Restored", "one"), (".Restored.Work", "two"), ("Maildir", "three")]
    assert sorted(path for path in made.rglob("*")) == before
    assert run("backup", "--verify", made).exit_code == 0
    call("restore", made, "--user", "alice@example.org", "--into", "Old/November")
    assert len(words(site)) == 5


def test_the_mail_of_one_user_that_is_damaged_or_not_there(site, tmp_path):
    letter(site, "one")
    letter(site, "two")
    run("backup", tmp_path / "to")
    made = only(tmp_path / "to")
    done = run("restore", made, "--user", "bob@example.org")
    assert done.exit_code == 1 and "has no user bob@example.org" in done.output
    (file,) = made.rglob("*.one.*")
    file.write_text("Subject: eno\n\none\n")
    done = run("restore", made, "--user", "alice@example.org")
    assert done.exit_code == 1 and "1 file of alice@example.org damaged" in done.output
    assert len(words(site)) == 2
    call("restore", made, "--user", "alice@example.org", "--skip-damaged")
    assert len(words(site)) == 4


def test_what_cannot_be_read_is_said_with_what_to_do(monkeypatch, site, tmp_path):
    def closed(*_, **__):
        raise PermissionError(13, "Permission denied", "mail/d/a")

    monkeypatch.setattr("twisted_mail.backup.making.Backup.make", closed)
    result = run("backup", str(tmp_path / "to"))
    assert result.exit_code == 1
    assert "mail/d/a" in result.output and "mailctl verify says what is closed" in result.output
