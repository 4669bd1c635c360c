"""STATUS of a mailbox that nobody has changed is told from memory; every change is seen, whoever made it."""

from __future__ import annotations

import os

import pytest
from store_site import Site

from twisted_mail.disk import OsDisk
from twisted_mail.mailboxes import Appending, StoreMode
from twisted_mail.storage import inboxes, statuses

KEY = "d/a"
MAIL = b"Subject: one\n\nhello\n"


class Telling(OsDisk):
    """A disk that counts locks: who does anything with an account takes its lock."""

    def __init__(self):
        self.locks = 0

    def flock(self, fd, operation):
        self.locks += 1
        super().flock(fd, operation)


class Mail:
    def __init__(self, path):
        self.site = Site(path, disk=Telling()).start()
        self.run = self.site.run
        self.mailboxes = self.run(self.site.store.open_mailboxes(KEY))
        self.append("Sent")
        self.path = os.path.join(self.site.maildir(KEY), ".Sent")

    def append(self, name):
        draft = self.mailboxes.write()
        draft.write(MAIL)
        self.run(self.mailboxes.append(name, [Appending(draft)]))

    def status(self, name="Sent"):
        return self.run(self.mailboxes.status(name))

    def looks(self, name="Sent"):
        before = self.site.disk.locks
        self.status(name)
        return self.site.disk.locks - before

    def known(self):
        """It was asked for, long after the last change."""
        self.age()
        self.status()
        assert not self.looks()

    def age(self):
        for sub in ("new", "cur"):
            os.utime(os.path.join(self.path, sub), (1_700_000_000, 1_700_000_000))

    def again(self):
        self.run(self.mailboxes.close())
        self.mailboxes = self.run(self.site.store.open_mailboxes(KEY))


@pytest.fixture
def mail(tmp_path):
    made = Mail(str(tmp_path / "data"))
    yield made
    made.run(made.mailboxes.close())
    made.site.stop()


def test_what_has_not_changed_is_not_looked_at_again(mail):
    assert mail.looks() > 0
    mail.age()
    before = mail.status()
    assert not mail.looks()
    mail.again()
    assert mail.run(mail.mailboxes.list())
    assert not mail.looks()
    assert mail.status() == before
    assert (before.messages, before.unseen) == (1, 1)


def test_an_append_is_seen(mail):
    mail.known()
    mail.append("Sent")
    assert mail.status().messages == 2


def test_flags_are_seen_and_what_was_expunged_is(mail):
    mail.known()
    box = mail.run(mail.mailboxes.open("Sent"))
    mail.run(box.store([1], StoreMode.ADD, ["\\Seen", "\\Deleted"]))
    assert (mail.status().unseen, mail.status().deleted) == (0, 1)
    mail.known()
    mail.run(box.expunge())
    assert mail.status().messages == 0
    mail.run(box.close())


def test_what_another_program_does_is_seen(mail):
    mail.known()
    (name,) = os.listdir(os.path.join(mail.path, "cur"))
    os.rename(os.path.join(mail.path, "cur", name), os.path.join(mail.path, "cur", name + "S"))
    assert mail.status().unseen == 0
    mail.known()
    os.unlink(os.path.join(mail.path, "cur", name + "S"))
    assert mail.status().messages == 0


def test_another_mailbox_of_the_name_is_another_one(mail):
    mail.known()
    old = mail.status()
    mail.run(mail.mailboxes.rename("Sent", "Old"))
    mail.run(mail.mailboxes.create("Sent"))
    assert mail.status().messages == 0
    assert mail.status().mailbox_id != old.mailbox_id
    assert mail.status("Old") == old


def test_what_was_kept_for_long_is_looked_at_again(mail):
    mail.known()
    mail.site.world.reactor.advance(inboxes.KEPT_SECONDS + 1)
    assert mail.looks() > 0


def test_what_is_kept_is_bounded(mail, monkeypatch):
    monkeypatch.setattr(statuses, "MAX_KEPT", 1)
    mail.known()
    path, mail.path = mail.path, mail.site.maildir(KEY)
    mail.age()
    mail.status("INBOX")
    mail.path = path
    assert not mail.looks("INBOX")
    assert mail.looks() > 0
