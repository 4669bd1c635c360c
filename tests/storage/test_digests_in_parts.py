"""What is kept of a message in parts: what its header says, and its structure; whoever asks first for either."""

from __future__ import annotations

import hashlib
import os
from base64 import b32encode

import pytest
from store_site import Site

from twisted_mail.disk import OsDisk
from twisted_mail.mailboxes import Appending
from twisted_mail.message.digest import HeaderDigest, StructureDigest, digest
from twisted_mail.storage import digests

HEADER, STRUCTURE = [*HeaderDigest._fields], [*StructureDigest._fields]
MAILS = (
    b"Subject: one\nFrom: A <a@b.example>\nReferences: <x@y>\n\none\n",
    b"Subject: two\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\ntext\n--x--\n",
    b"X-Long: " + b"x" * digests.BEGINNING + b"\nSubject: three\n\nthree\n",
    b"Subject: four\n\n" + b"line\n" * 10_000,
    b"\nSubject: no\n",
    b"Subject: six",
    b"X: " + b"x" * (digests.BEGINNING - 4) + b"\n\nSubject: no\n",
)


class Telling(OsDisk):
    """A disk that counts what is read of messages."""

    octets = 0

    def pread(self, fd, size, offset):
        found = super().pread(fd, size, offset)
        self.octets += len(found)
        return found


class Mail:
    def __init__(self, path):
        self.site = Site(str(path), disk=Telling()).start()
        self.session = self.site.run(self.site.store.open_mailboxes("d/a"))
        for text in MAILS:
            self.site.run(self.append(text))
        self.box = self.site.run(self.session.open("INBOX"))
        self.uids = list(self.box.snapshot.uids)

    async def append(self, text):
        draft = self.session.write()
        draft.write(text)
        await self.session.append("INBOX", [Appending(draft)])

    def columns(self, *names, uids=None):
        async def gather():
            wanted = self.uids if uids is None else uids
            return [row async for rows in self.box.columns(wanted, names) for row in rows]

        return self.site.run(gather())

    def read(self, *names, uids=None):
        """How many octets that took."""
        before = self.site.disk.octets
        self.columns(*names, uids=uids)
        return self.site.disk.octets - before

    def end(self):
        self.site.run(self.box.close())
        self.site.run(self.session.close())
        self.site.turn()
        self.site.stop()


@pytest.fixture
def mail(tmp_path):
    made = Mail(tmp_path / "data")
    yield made
    made.end()


def emailid(text):
    return "M" + b32encode(hashlib.sha256(text).digest()[:20]).decode().lower()


@pytest.mark.parametrize(
    "asked",
    [
        [HEADER, STRUCTURE],
        [STRUCTURE, HEADER],
        [HEADER + STRUCTURE],
        [["octets"], ["subject", "envelope"]],
        [["envelope", "bodystructure"]],
    ],
)
def test_they_are_those_of_the_message_in_whatever_order_they_are_asked_for(mail, asked):
    for names in asked:
        mail.columns(*names)
    found = mail.columns(*HEADER, *STRUCTURE, "emailid")
    assert found == [
        (uid, *digest(text).header, *digest(text).structure, emailid(text))
        for uid, text in zip(mail.uids, MAILS, strict=True)
    ]
    threads = dict(mail.columns("threadid"))
    assert (threads[1] is None, threads[2] is None) == (False, True)


def test_what_the_header_says_is_read_from_there(mail):
    large = [mail.uids[3]]
    assert mail.read("envelope", "subject", "threadid", uids=large) <= digests.BEGINNING
    assert mail.read("sent", uids=large) == 0
    assert mail.read("structure", uids=large) == len(MAILS[3])
    assert mail.read("bodystructure", "emailid", "envelope", uids=large) == 0


def test_who_asks_for_all_reads_once(mail):
    assert mail.read("envelope", "bodystructure", uids=[mail.uids[3]]) == len(MAILS[3])


def test_a_slice_is_bounded_by_what_is_read(mail, monkeypatch):
    monkeypatch.setattr(digests, "COMPUTED_BYTES", 100)
    assert len(mail.columns("envelope")) == len(MAILS)
    assert len(mail.columns("octets", "sent")) == len(MAILS)


def test_what_is_gone_is_left_out(mail):
    for folder, _, names in os.walk(mail.site.maildir("d/a")):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.getsize(path) == len(MAILS[1]):
                os.unlink(path)
    assert [row[0] for row in mail.columns("envelope")] == [1, 3, 4, 5, 6, 7]
    assert [row[0] for row in mail.columns("octets", "sent")] == [1, 3, 4, 5, 6, 7]
