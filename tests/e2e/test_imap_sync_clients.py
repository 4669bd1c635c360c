"""mbsync and offlineimap, two-way and again: what changed on one side changes on the other, and then nothing moves."""

from __future__ import annotations

import re
import subprocess
import textwrap
from pathlib import Path

import pytest
from imapsite import files, imap, letters, listed, ok, settings_of, subjects, uids
from mailsite import ALICE, DEADLINE, letter, run, until

pytestmark = pytest.mark.e2e


class Local:
    """A client's Maildirs, and how its configuration brings them in step with the server."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mail = root / "mail"

    def sync(self) -> str:
        """Run it; what it said, its status having been 0."""
        raise NotImplementedError

    def folder(self, name: str) -> Path:
        return self.mail / name

    def messages(self, name: str = "INBOX") -> dict[str, Path]:
        """Subject → file."""
        found = {}
        for part in ("new", "cur"):
            for path in (self.folder(name) / part).iterdir():
                said = re.search(rb"(?m)^Subject: (.*?)\r?$", path.read_bytes())
                assert said
                found[said[1].decode()] = path
        return found

    def flag(self, subject: str, flags: str, name: str = "INBOX") -> None:
        """Give a message these flags, as any Maildir program would."""
        path = self.messages(name)[subject]
        base = path.name.partition(":2,")[0]
        path.rename(self.folder(name) / "cur" / f"{base}:2,{''.join(sorted(flags))}")

    def flags(self, subject: str, name: str = "INBOX") -> str:
        return letters(self.messages(name)[subject])

    def add(self, subject: str, name: str, flags: str = "") -> None:
        cur = self.folder(name) / "cur"
        text = letter(subject).replace(b"\r\n", b"\n")
        (cur / f"1700000000.{subject.replace(' ', '-')}.here:2,{flags}").write_bytes(text)

    def make_folder(self, name: str) -> None:
        for part in ("new", "cur", "tmp"):
            (self.folder(name) / part).mkdir(parents=True)


class Mbsync(Local):
    def __init__(self, root: Path, site) -> None:
        super().__init__(root)
        self.mail.mkdir(parents=True)
        self.rc = root / "mbsyncrc"
        self.rc.write_text(
            textwrap.dedent("""\
            IMAPAccount ours
            Host localhost
            Port {port}
            User {user}
            Pass "{password}"
            SSLType IMAPS
            CertificateFile {ca}
            Timeout 20

            IMAPStore far
            Account ours

            MaildirStore near
            Path {mail}/
            Inbox {mail}/INBOX
            SubFolders Verbatim

            Channel all
            Far :far:
            Near :near:
            Patterns *
            Create Both
            Remove Both
            Expunge Both
            CopyArrivalDate yes
            SyncState *
            """).format(**settings_of(site), mail=self.mail)
        )

    def sync(self) -> str:
        done = run(["mbsync", "-V", "-c", self.rc, "-a"], env={"HOME": str(self.root)})
        return done.stdout + done.stderr


class OfflineImap(Local):
    def __init__(self, root: Path, site) -> None:
        super().__init__(root)
        root.mkdir(parents=True)
        self.rc = root / "offlineimaprc"
        self.rc.write_text(
            textwrap.dedent("""\
            [general]
            accounts = ours
            metadata = {root}/metadata
            socktimeout = 30
            [Account ours]
            localrepository = near
            remoterepository = far
            [Repository near]
            type = Maildir
            localfolders = {mail}
            sep = /
            [Repository far]
            type = IMAP
            remotehost = localhost
            remoteport = {port}
            remoteuser = {user}
            remotepass = {password}
            ssl = yes
            sslcacertfile = {ca}
            expunge = yes
            """).format(**settings_of(site), mail=self.mail, root=root)
        )

    def sync(self) -> str:
        done = run(
            ["offlineimap", "-o", "-u", "basic", "-c", self.rc], env={"HOME": str(self.root)}
        )
        return done.stdout + done.stderr


@pytest.fixture(
    params=[
        pytest.param(Mbsync, id="mbsync", marks=pytest.mark.needs("mbsync")),
        pytest.param(OfflineImap, id="offlineimap", marks=pytest.mark.needs("offlineimap")),
    ]
)
def local(request, site, tmp_path):
    return request.param(tmp_path / "client", site)


def test_both_ways_and_again(site, local):
    for subject in ("one", "two", "three"):
        site.send(subject)
    local.sync()
    assert set(local.messages()) == {"one", "two", "three"}

    # on this side: read, flagged, answered; removed; written; a folder made
    local.flag("one", "FRS")
    local.messages()["two"].unlink()
    local.add("a draft", "Drafts", "DS")
    local.make_folder("Made here")
    local.add("filed", "Made here", "S")
    local.sync()
    with imap(site, folder="INBOX") as session:
        found = {subject: flags for flags, subject in listed(session).values()}
    assert found == {"one": {r"\Seen", r"\Flagged", r"\Answered"}, "three": set()}
    assert subjects(site, "Drafts") == ["a draft"]
    assert letters(files(site, ".Drafts")[0]) == "DS"
    assert subjects(site, "Made here") == ["filed"]

    # on the server: a mail comes, one is read, one removed, one moved, a folder made
    site.send("four")
    with imap(site, folder="INBOX") as session:
        number = {subject: uid for uid, (_, subject) in listed(session).items()}
        ok(session.uid("STORE", str(number["three"]), "+FLAGS", r"(\Seen \Flagged)"))
        ok(session.create("Work/Plans"))
        ok(session.uid("MOVE", str(number["one"]), "Work/Plans"))
        ok(session.select("Drafts"))
        ok(session.store("1", "+FLAGS", r"(\Deleted)"))
        ok(session.expunge())
    local.sync()
    assert set(local.messages()) == {"three", "four"}
    assert local.flags("three") == "FS"
    assert local.flags("four") == ""
    assert set(local.messages("Work/Plans")) == {"one"}
    assert local.flags("one", "Work/Plans") == "FRS"
    assert local.messages("Drafts") == {}

    # and nothing is left to do, on either side
    near, far = there_is(local.mail), there_is(site.maildir(ALICE))
    local.sync()
    assert there_is(local.mail) == near
    assert there_is(site.maildir(ALICE)) == far


def there_is(maildir: Path) -> dict[Path, int]:
    """Every message of a Maildir with its folders: the file, so that one made anew is another one."""
    return {
        path: path.stat().st_ino
        for path in maildir.rglob("*")
        if path.parent.name in ("new", "cur") and path.is_file()
    }


def test_whatever_a_message_is_made_of_comes_and_goes_whole(site, local):
    odd = {
        "long": letter("long", size=3_000_000),
        "utf8": "From: ä@example.net\nSubject: utf8\n\nÄÖÜ €\n".replace("\n", "\r\n").encode(),
        "latin": b"From: a@example.net\r\nSubject: latin\r\n\r\n\xe4\xf6\xfc\r\n",
        "no body": b"From: a@example.net\r\nSubject: no body\r\n\r\n",
        "dots": b"From: a@example.net\r\nSubject: dots\r\n\r\n.\r\n..\r\n.x\r\n",
    }
    for text in odd.values():
        with site.smtp() as session:
            session.sendmail("carol@elsewhere.example", [ALICE], text, ["BODY=8BITMIME"])
    local.sync()
    got = local.messages()
    assert set(got) == set(odd)
    for subject, text in odd.items():
        body = text.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")
        here = got[subject].read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")[2]
        assert here == body, subject
    # and back, by APPEND, into a folder made here
    local.make_folder("Back")
    for subject in odd:
        target = local.folder("Back") / "cur" / f"1700000001.{subject.replace(' ', '-')}.here:2,S"
        target.write_bytes(odd[subject].replace(b"\r\n", b"\n"))
    local.sync()
    with imap(site, folder="Back") as session:
        for uid in uids(session):
            (whole, *_) = ok(session.uid("FETCH", str(uid), "(BODY.PEEK[])"))
            said = re.search(rb"(?m)^Subject: (.*?)\r$", whole[1])
            text = odd[said[1].decode()]
            assert whole[1].partition(b"\r\n\r\n")[2] == text.partition(b"\r\n\r\n")[2]


@pytest.mark.needs("mbsync")
def test_the_second_run_of_mbsync_moves_nothing(site, tmp_path):
    for number in range(50):
        site.send(f"message {number}")
    local = Mbsync(tmp_path / "client", site)
    local.sync()
    near, far = there_is(local.mail), there_is(site.maildir(ALICE))
    assert len(near) == len(far) == 50
    assert all(path.name.endswith(":2,") for path in files(site) if path.parent.name == "cur")

    def nothing_moves() -> None:
        local.sync()
        assert there_is(local.mail) == near
        assert there_is(site.maildir(ALICE)) == far

    nothing_moves()
    site.kill()
    site.start()
    nothing_moves()
    for path in site.maildir(ALICE).parent.glob("*.sqlite3*"):
        path.unlink()
    nothing_moves()


@pytest.mark.needs("mbsync")
def test_two_machines_with_mbsync(site, tmp_path):
    one, two = Mbsync(tmp_path / "one", site), Mbsync(tmp_path / "two", site)
    site.send("from outside")
    one.sync()
    two.sync()
    one.flag("from outside", "FS")
    one.add("written on one", "Sent", "S")
    two.add("written on two", "Sent", "S")
    one.sync()
    two.sync()
    one.sync()
    assert two.flags("from outside") == "FS"
    assert (
        set(one.messages("Sent"))
        == set(two.messages("Sent"))
        == {"written on one", "written on two"}
    )
    two.flag("from outside", "FST")
    two.sync()
    one.sync()
    assert one.messages() == two.messages() == {}
    assert files(site) == []


@pytest.mark.needs("fetchmail")
def test_fetchmail_takes_each_once(site, tmp_path):
    box = tmp_path / "fetched"
    rc = tmp_path / "fetchmailrc"
    rc.touch(0o600)
    home = tmp_path / "home"
    home.mkdir()

    def fetch(options: str, status: int = 0) -> str:
        rc.write_text(
            textwrap.dedent("""\
            poll localhost protocol IMAP service {port}
            user "{user}" password "{password}" ssl {options}
            sslcertck sslcertfile "{ca}"
            mda "cat >> {box}; echo >> {box}"
            """).format(**settings_of(site), box=box, options=options)
        )
        run(
            [
                "fetchmail",
                "--fetchmailrc",
                rc,
                "--nodetach",
                "--nosyslog",
                "--pidfile",
                home / "pid",
            ],
            env={"FETCHMAILHOME": str(home), "HOME": str(home)},
            status=status,
        )
        return box.read_text()

    site.send("one")
    site.send("two")
    assert fetch("keep").count("Subject: ") == 2
    assert {letters(path) for path in files(site)} == {"S"}
    assert fetch("keep", status=1).count("Subject: ") == 2
    site.send("three")
    assert fetch("nokeep").count("Subject: three") == 1
    assert fetch("nokeep fetchall", status=0).count("Subject: one") == 2
    assert files(site) == []


@pytest.mark.needs("fetchmail")
def test_fetchmail_waits_in_idle(site, tmp_path):
    """`idle`: it stays, and takes what comes while it is there."""
    box = tmp_path / "fetched"
    rc = tmp_path / "fetchmailrc"
    rc.touch(0o600)
    rc.write_text(
        textwrap.dedent("""\
        poll localhost protocol IMAP service {port}
        user "{user}" password "{password}" ssl keep idle
        sslcertck sslcertfile "{ca}"
        mda "cat >> {box}; echo >> {box}"
        """).format(**settings_of(site), box=box)
    )
    running = subprocess.Popen(
        ["fetchmail", "--fetchmailrc", str(rc), "--nodetach", "--nosyslog", "--pidfile", str(tmp_path / "pid")],
        env={"FETCHMAILHOME": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for subject in ("one", "two", "three"):
            site.send(subject)
            until(
                lambda s=subject: box.exists() and f"Subject: {s}" in box.read_text(),
                f"{subject} comes",
            )
        assert box.read_text().count("Subject: ") == 3
    finally:
        running.kill()
        running.wait(DEADLINE)
