"""Names and links that would lead out of where a user's mail lies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hostile import ALICE, PASSWORD, Site

from twisted_mail.cli import mailctl
from twisted_mail.disk import OsDisk
from twisted_mail.storage.importing_letters import MaildirSource

LOCALS = [
    "..",
    ".",
    "../bob",
    "a/../../b",
    "/etc/passwd",
    "~",
    "~root",
    ".hidden",
    "ends.",
    "with space",
    "new",
    "cur",
    "tmp",
    "Maildir",
    "index.sqlite3",
    "lock",
    ".lock",
    "-rf",
    "a\\b",
    "%2e%2e",
    "$(id)",
    "*",
    "x" * 64,
    "ß" * 32,
    "CON",
]
FOLDERS = [
    "..",
    ".",
    "../..",
    "../bob",
    "a/../../../bob",
    "/etc",
    "//a",
    "a//b",
    "~",
    "~root/x",
    "a.b",
    "..a",
    "a..",
    ".lock",
    "cur",
    "new/cur",
    "tmp",
    "twisted-mail.state",
    "INBOX/..",
    "inbox/a",
    "INBOX.a",
    "InBoX",
    "=0000000000000000000000000000000000000000",
    "&AC8-",
    "&AC4-&AC4-",
    "a&AC8-b",
    "%",
    "*",
    "x" * 1000,
    "/".join("abcdefghijklmnopqrstuvwxyz"),
]


def tree(top: Path) -> set[str]:
    return {str(path.relative_to(top)) for path in top.rglob("*")}


def quoted(local: str) -> str:
    return '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.mark.parametrize("local", LOCALS)
def test_a_user_of_any_name_has_a_directory_of_his_own(tmp_path: Path, local: str) -> None:
    site = Site(tmp_path / "site", smtp={}, checks={"enabled": False})
    address = f"{quoted(local)}@example.org"
    outside = tree(tmp_path) - {one for one in tree(tmp_path) if one.startswith("site")}
    site.world.run(site.server.add_user(address, PASSWORD))
    client = site.smtp(address, ALICE) if local.isascii() else None
    if client is not None:
        client.ask(b"DATA\r\n")
        assert client.ask(b"Subject: x\r\n\r\nx\r\n.\r\n").startswith(b"250")
        assert len(site.server.messages(address)) == 1
        assert len(site.server.messages(ALICE)) == 1
    site.stop()
    mail = tmp_path / "site" / "data" / "mail"
    homes = {path.parent for path in mail.rglob("Maildir") if path.is_dir()}
    # A level for the domain, one for the user, none inside another's
    assert all(len(home.relative_to(mail).parts) == 2 for home in homes), homes
    assert {one for one in tree(tmp_path) if not one.startswith("site")} == outside


def test_mailctl_takes_no_name_that_is_a_path(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mail.toml").write_text(
        'hostname = "localhost"\ndata = "data"\n[listen]\nsmtp = ["tcp:0"]\n'
    )
    for domain in ("..", "../x", "/etc", ".", "a/b", "a..b", ".a", "a\0b", "~", "-x"):
        result = CliRunner().invoke(mailctl, ["domain", "add", "--", domain])
        assert result.exit_code != 0, domain
        assert "Traceback" not in result.output
    assert CliRunner().invoke(mailctl, ["domain", "add", "example.org"]).exit_code == 0
    for local in ("../bob", "a/b", "..", "\x1b[2J", "a\nb"):
        before = tree(tmp_path)
        CliRunner().invoke(
            mailctl, ["user", "add", f"{local}@example.org", "--password-stdin"], input="x y z\n"
        )
        made = tree(tmp_path) - before
        assert not any("mail/" in one and "/.." in one for one in made)


def test_folders_of_any_name_stay_in_their_users_maildir(site: Site) -> None:
    data = site.server.directory / "data"
    client = site.imap()
    before = tree(data)
    for name in FOLDERS:
        raw = name.encode()
        for command in (
            b"a CREATE {%d+}\r\n%b\r\n" % (len(raw), raw),
            b"b RENAME Plans {%d+}\r\n%b\r\n" % (len(raw), raw),
            b"c CREATE Plans\r\n",
            b"d RENAME {%d+}\r\n%b Elsewhere\r\n" % (len(raw), raw),
            b'e LIST {%d+}\r\n%b "*"\r\n' % (len(raw), raw),
            b'f LIST "" {%d+}\r\n%b\r\n' % (len(raw), raw),
            b"g APPEND {%d+}\r\n%b {6+}\r\nS: x\r\n\r\n" % (len(raw), raw),
            b"h SUBSCRIBE {%d+}\r\n%b\r\n" % (len(raw), raw),
            b"i DELETE Elsewhere\r\n",
        ):
            said = client.ask(command)
            assert said.splitlines()[-1][:4] in (
                command[:2] + b"OK"[:2],
                command[:2] + b"NO",
                command[:2] + b"BA",
            ), (name, said)
            assert b"root:" not in said
            assert b"bob" not in said or "bob" in name
    own = {"mail/example.org/alice", "deleted", "journal"}
    made = {one for one in tree(data) - before if not one.startswith(tuple(own))}
    assert not {one for one in made if not one.startswith("processes")}, made
    # Below the Maildir, a level deep: Maildir++
    for path in site.maildir().iterdir():
        assert path.is_file() or path.name.startswith(".") or path.name in ("new", "cur", "tmp")


def test_names_that_differ_by_spelling_are_one_folder(site: Site) -> None:
    client = site.imap()
    client.ask(b"x ENABLE IMAP4rev2\r\n")
    composed, decomposed = "Pl\u00e4ne".encode(), "Pla\u0308ne".encode()
    assert b"OK" in client.ask(b'a CREATE "%b"\r\n' % composed)
    assert b"ALREADYEXISTS" in client.ask(b'b CREATE "%b"\r\n' % decomposed)
    assert b"c OK" in client.ask(b'c SELECT "%b"\r\n' % decomposed)
    for name in (b"inbox", b"InBox", b"INBOX/"):
        assert b"d NO" in client.ask(b"d CREATE %b\r\n" % name)


# Links: who has a shell and may write in his Maildir

SECRET = b"Subject: secret\n\nthe secret of the server\n"


@pytest.mark.parametrize("named", ["1.M1P1.other", "1.M1P1.other,S={size},W={wire}:2,S"])
@pytest.mark.parametrize("sub", ["new", "cur"])
def test_a_link_in_a_maildir_is_not_read(site: Site, tmp_path: Path, named: str, sub: str) -> None:
    secret = site.server.directory / "secret"
    secret.write_bytes(SECRET)
    site.imap().close()
    name = named.format(size=len(SECRET), wire=len(SECRET) + SECRET.count(b"\n"))
    if sub == "new":
        name = name.partition(":")[0]
    (site.maildir() / sub / name).symlink_to(secret)
    os.mkfifo(site.maildir() / sub / "2.M1P1.pipe")
    client = site.imap()
    said = client.ask(b"a FETCH 1:* (BODY.PEEK[] ENVELOPE RFC822.SIZE PREVIEW)\r\n")
    said += client.ask(b"b SEARCH TEXT secret\r\nc NOOP\r\n")
    assert b"c OK" in said
    assert b"secret" not in said.replace(b"SEARCH TEXT secret", b""), said
    client.close()
    reader = site.pop3()
    said = reader.ask(b"RETR 1\r\nTOP 1 10\r\n")
    assert b"secret" not in said
    assert secret.read_bytes() == SECRET


@pytest.mark.parametrize("how", ["file", "cur", "folder", "pipe"])
def test_an_import_reads_nothing_that_a_link_leads_to(tmp_path: Path, how: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    other = tmp_path / "alice" / "Maildir"
    for top in (elsewhere, other):
        for sub in ("new", "cur", "tmp"):
            (top / sub).mkdir(parents=True)
    (elsewhere / "cur" / "9.secret").write_bytes(SECRET)
    (other / "new" / "1.own").write_bytes(b"Subject: own\n\nown\n")
    if how == "file":
        (other / "cur" / "9.secret").symlink_to(elsewhere / "cur" / "9.secret")
    elif how == "cur":
        (other / "cur").rmdir()
        (other / "cur").symlink_to(elsewhere / "cur")
    elif how == "folder":
        (other / ".Work").symlink_to(elsewhere)
    else:
        os.mkfifo(other / "cur" / "9.secret")
    source = MaildirSource(OsDisk(), str(other))
    read = [b"".join(letter.blocks) for letter in source.letters(frozenset())]
    assert read == [b"Subject: own\n\nown\n"]
    assert [reason for _, reason in source.left_out] == ["a link, or no file"]


def test_a_maildir_that_is_reached_by_a_link_is_imported(tmp_path: Path) -> None:
    top = tmp_path / "big disk" / "Maildir"
    for sub in ("new", "cur", "tmp"):
        (top / sub).mkdir(parents=True)
    (top / "new" / "1.own").write_bytes(b"Subject: own\n\nown\n")
    (tmp_path / "link").symlink_to(top)
    source = MaildirSource(OsDisk(), str(tmp_path / "link"))
    assert len(list(source.letters(frozenset()))) == 1
    assert source.left_out == []
