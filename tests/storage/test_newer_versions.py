"""What a newer version of this program stored: refused, and not changed, with a text that says what to do. Caches are
made anew."""

from __future__ import annotations

import json
import os
import re
import sqlite3

import pytest
from store_site import Site

from twisted_mail.accounts.directory import Directory, DirectoryError
from twisted_mail.disk import OsDisk
from twisted_mail.status import MailError
from twisted_mail.storage import record, segments, stories
from twisted_mail.storage.dkim_keys import DkimKeysError, KeyFiles
from twisted_mail.storage.maildir import read_state

A = "d/a"
LETTER = b"Subject: one\n\nx\n"


@pytest.fixture
def site(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    site.deliver(LETTER, A)
    assert len(site.read(A)) == 1
    return site


def read(path):
    with open(path, "rb") as file:
        return file.read()


def refused(site, path, old, new):
    """The server does not start, says which versions there are, and leaves the file as it is."""
    before = read(path)
    again = Site(site.data, seed=2)
    with pytest.raises((ValueError, OSError)) as found:
        again.start()
    again.kill()
    assert re.search(
        rf"version {new} of the format, this program knows {old}; use the newer", str(found.value)
    )
    assert os.path.basename(path) in str(found.value)
    assert read(path) == before


def edit(path, **changes):
    with open(path, "rb") as file:
        values = json.load(file)
    with open(path, "w") as file:
        json.dump({**values, **changes}, file)


def user_version(path, version):
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version={version}")
    db.commit()
    db.close()


def test_the_site(site):
    site.stop()
    path = os.path.join(site.data, "site.json")
    edit(path, version=4)
    refused(site, path, 3, 4)


def test_the_queue(site):
    site.stop()
    path = os.path.join(site.data, "queue.sqlite3")
    user_version(path, 2)
    refused(site, path, 1, 2)


def newer_segment(path, number):
    head = {"version": 2, "number": number, "boot": "boot-1", "epoch": 7}
    with open(path, "wb") as file:
        kind = record.Kind.SEGMENT
        file.write(b"".join(record.encode(kind, head, epoch=7, writer=0, sequence=number)))
        meta = {"account": A, "in": "", "bases": ["x"], "noticed": False}
        kind = record.Kind.REMOVE
        file.write(b"".join(record.encode(kind, meta, epoch=7, writer=1, sequence=1)))


def test_the_journal(site):
    site.stop()
    path = os.path.join(site.data, "journal", "1.log")
    newer_segment(path, 1)
    refused(site, path, 1, 2)


def test_what_is_parked(site):
    site.stop()
    path = os.path.join(site.data, "parked", "0123456789abcdef.log")
    newer_segment(path, 0)
    refused(site, path, 1, 2)


def test_a_folder(site):
    """That folder's mailbox: 451, and its numbers do not begin anew."""
    site.stop()
    path = os.path.join(site.maildir(A), "twisted-mail.state")
    edit(path, version=3)
    before = read(path)
    again = Site(site.data, seed=2).start()
    with pytest.raises(MailError) as found:
        again.read(A)
    assert found.value.code == 451
    assert "use the newer" in str(found.value) and "use" not in found.value.text
    account = again.store._accounts.get(A)
    # As IMAP asks
    for ask in (account.folders.all, lambda: account.folders.find("INBOX"), account.refresh):
        with pytest.raises(MailError, match="use the newer"):
            ask()
    with pytest.raises(
        ValueError, match="version 3 of the format, this program knows 2; use the newer"
    ):
        read_state(OsDisk(), site.maildir(A))
    again.stop()
    assert read(path) == before
    edit(path, version=2)
    assert len(Site(site.data, seed=3).start().read(A)) == 1


def test_the_accounts(tmp_path):
    path = str(tmp_path / "accounts.sqlite3")
    Directory(path, now=lambda: 0.0).close()
    user_version(path, 3)
    with pytest.raises(
        DirectoryError, match=r"schema 3; this one knows 2\); use the newer program"
    ):
        Directory(path, now=lambda: 0.0)


def test_the_keys_that_sign(tmp_path):
    os.mkdir(tmp_path / "dkim")
    with open(tmp_path / "dkim" / "state.json", "w") as file:
        json.dump({"version": 2, "keys": [{"new": 1}]}, file)
    keys = KeyFiles(OsDisk(), str(tmp_path), lambda: 0.0)
    with pytest.raises(
        DkimKeysError, match="version 2 of the format, this program knows 1; use the"
    ):
        keys.rows()


def test_caches_are_made_anew(site):
    known = site.read(A)
    site.stop()
    home = os.path.dirname(site.maildir(A))
    for name in ("index.sqlite3", "digests.sqlite3", "fulltext.sqlite3"):
        path = os.path.join(home, name)
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE what_a_newer_one_has (x)")
        db.execute("PRAGMA user_version=2000000000")
        db.commit()
        db.close()
    again = Site(site.data, seed=2).start()
    assert again.read(A) == known
    again.stop()


def test_stories_are_begun_anew(tmp_path):
    path = tmp_path / "stories.sqlite3"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE stories (newer)")
    db.execute(f"PRAGMA user_version={stories.VERSION + 1}")
    db.commit()
    db.close()
    assert stories.find(path, "x") == []


def test_the_version_of_a_segment_is_what_is_written(site):
    head = record.first(read(os.path.join(site.data, "journal", "1.log")))
    assert head is not None and head[1].meta["version"] == segments.VERSION
    site.stop()
