"""What we do in a mailbox that somebody has open is not looked for again; what others do meanwhile is."""

from __future__ import annotations

import os

import pytest
from store_site import Site

from twisted_mail.mailboxes import Appending, StoreMode
from twisted_mail.storage import open_folder

MAIL = b"From: a@example.org\nSubject: %d\n\nhello %d\n"
COUNT = 5


class Mail:
    """An inbox with some messages, open, and watched by what has heard of everything at once."""

    def __init__(self, path):
        self.site = Site(str(path)).start()
        self.run = self.site.run
        self.watcher = self.site.world.watcher
        self.watcher.prompt = True
        self.session = self.run(self.site.store.open_mailboxes("d/a"))
        self.other = self.run(self.session.create("Other"))
        self.box = self.run(self.session.open("INBOX"))
        self.filed = self.run(self.session.open("Other"))
        self.heard = 0
        self.box.listen(self.hear)
        self.filed.listen(self.hear)
        for number in range(COUNT):
            self.append(number)
        self.wait()
        self.looks = []
        store = self.site.store.account("d/a")
        for name in ("examine", "refresh"):
            setattr(store, name, self.counted(getattr(store, name), name))

    def counted(self, method, name):
        def called(*args):
            self.looks.append(name)
            return method(*args)

        return called

    def hear(self):
        self.heard += 1

    def append(self, number):
        async def append():
            draft = self.session.write()
            draft.write(MAIL % (number, number))
            return await self.session.append("INBOX", [Appending(draft, (), None)])

        return self.run(append())

    def wait(self):
        for _ in range(40):
            self.site.world.reactor.advance(0.05)

    def path(self, name=""):
        return os.path.join(self.site.data, "mail/d/a/Maildir", name, "cur")

    def file(self, uid, name=""):
        (found,) = [one for one in os.listdir(self.path(name)) if f".{uid}:2," in one]
        return os.path.join(self.path(name), found)

    def flags(self):
        snapshot = self.box.snapshot
        return {
            uid: snapshot.names(bits)
            for uid, bits in zip(snapshot.uids, snapshot.flags, strict=True)
        }

    def end(self):
        for box in (self.box, self.filed):
            self.run(box.close())
        self.run(self.session.close())
        self.wait()
        self.site.stop()


@pytest.fixture
def mail(tmp_path):
    made = Mail(tmp_path / "data")
    yield made
    made.end()


@pytest.fixture
def between(mail, monkeypatch):
    """Have something done between a change of ours and the watch's telling of it."""
    drain = mail.watcher.drain

    def during(what):
        def first():
            monkeypatch.setattr(mail.watcher, "drain", drain)
            # As inotify, which tells of both, one after the other
            mail.watcher.look()
            what()
            drain()

        monkeypatch.setattr(mail.watcher, "drain", first)

    return during


def flagged(mail, *flags):
    mail.run(mail.box.store(mail.box.snapshot.uids, StoreMode.REPLACE, flags))


def test_flags_that_we_set(mail):
    flagged(mail, "\\Seen")
    flagged(mail, "\\Flagged")
    flagged(mail, "\\Seen")
    mail.wait()
    assert not mail.looks and mail.heard
    assert set(mail.flags().values()) == {("\\Seen",)}


def test_what_we_append_copy_move_and_expunge(mail):
    mail.append(COUNT)
    uids = list(mail.box.snapshot.uids)
    mail.run(mail.box.copy(uids[:2], "Other"))
    mail.run(mail.box.move(uids[2:4], "Other"))
    mail.run(mail.box.store(uids[4:], StoreMode.ADD, ["\\Deleted"]))
    mail.run(mail.box.expunge())
    mail.wait()
    assert not mail.looks
    assert list(mail.box.snapshot.uids) == uids[:2]
    assert len(mail.filed.snapshot) == 4


def test_mail_that_is_delivered(mail):
    mail.site.deliver(MAIL % (9, 9), "d/a")
    mail.wait()
    assert not mail.looks
    assert len(mail.box.snapshot) == COUNT + 1


def test_what_was_told_before_we_said_that_it_was_us(mail, monkeypatch):
    published = type(mail.box._folder).published

    def late(folder, change):
        mail.watcher.look()
        assert folder.stale
        published(folder, change)
        assert not folder.stale

    monkeypatch.setattr(type(mail.box._folder), "published", late)
    flagged(mail, "\\Seen")
    mail.wait()
    assert not mail.looks


def test_another_program_deletes_what_we_have_just_renamed(mail, between):
    between(lambda: os.unlink(mail.file(2)))
    flagged(mail, "\\Seen")
    mail.wait()
    assert mail.looks
    assert list(mail.box.snapshot.uids) == [1, 3, 4, 5]


def test_another_program_renames_what_we_have_just_renamed(mail, between):
    def rename():
        name = mail.file(2)
        os.rename(name, name.replace(":2,S", ":2,FS"))

    between(rename)
    flagged(mail, "\\Seen")
    mail.wait()
    assert mail.flags()[2] == ("\\Seen", "\\Flagged") and mail.flags()[1] == ("\\Seen",)


def test_another_program_gives_it_its_old_name_again(mail, between):
    def rename():
        name = mail.file(2)
        os.rename(name, name.replace(":2,S", ":2,"))

    between(rename)
    flagged(mail, "\\Seen")
    mail.wait()
    assert mail.flags()[2] == () and mail.flags()[1] == ("\\Seen",)


def test_another_program_puts_a_message_there(mail, between):
    def put():
        with open(os.path.join(mail.path(), "1.foreign:2,F"), "wb") as file:
            file.write(MAIL % (7, 7))

    between(put)
    flagged(mail, "\\Seen")
    mail.wait()
    assert mail.flags()[COUNT + 1] == ("\\Flagged",)


def test_another_program_puts_back_what_we_have_expunged(mail, between):
    mail.run(mail.box.store([2], StoreMode.ADD, ["\\Deleted"]))
    name = mail.file(2)
    os.link(name, os.path.join(mail.site.data, "saved"))

    def put_back():
        os.rename(os.path.join(mail.site.data, "saved"), name)

    between(put_back)
    mail.run(mail.box.expunge())
    mail.wait()
    assert list(mail.box.snapshot.uids) == [1, 3, 4, 5, COUNT + 1], "a new message"


def test_what_we_did_once_is_no_excuse_later(mail):
    """Another program does to the same names what we had done."""
    before = mail.file(3)
    flagged(mail, "\\Seen")
    after = mail.file(3)
    mail.wait()
    assert not mail.looks
    os.rename(after, before)
    mail.wait()
    assert mail.flags()[3] == ()
    os.rename(before, after)
    mail.wait()
    assert mail.flags()[3] == ("\\Seen",)


def test_what_others_undo_and_do_again_is_looked_at(mail, between):
    """Also when all of it is told before the watch is asked about what we did."""

    def twice():
        after = mail.file(3)
        os.rename(after, after.removesuffix("S"))
        mail.watcher.look()
        mail.run(mail.box.refresh())
        assert mail.flags()[3] == ()
        os.rename(after.removesuffix("S"), after)

    between(twice)
    flagged(mail, "\\Seen")
    mail.wait()
    assert mail.flags()[3] == ("\\Seen",)


def test_who_leaves_leaves_nothing_to_be_told(mail, monkeypatch):
    flagged(mail, "\\Seen")
    mail.box._folder.forget()
    mail.filed._folder.forget()
    asked = []
    monkeypatch.setattr(mail.watcher, "drain", lambda: asked.append(1))
    mail.wait()
    assert not asked


def test_another_process_is_seen_and_sees(mail):
    second = Site(mail.site.data, seed=2).start()
    session = second.run(second.store.open_mailboxes("d/a"))
    box = second.run(session.open("INBOX"))
    box.listen(lambda: None)
    second.run(box.store([1, 2], StoreMode.ADD, ["\\Flagged"]))
    mail.wait()
    assert mail.looks and mail.flags()[1] == ("\\Flagged",)
    flagged(mail, "\\Seen")
    for _ in range(40):
        second.world.reactor.advance(0.05)
    assert set(map(box.snapshot.names, box.snapshot.flags)) == {("\\Seen",)}
    second.run(box.close())
    second.run(session.close())
    second.stop()


def test_much_that_others_do_meanwhile_is_looked_at_as_a_whole(mail, between, monkeypatch):
    monkeypatch.setattr(open_folder, "MAX_NAMES", 8)

    def rename():
        for uid in range(1, COUNT + 1):
            name = mail.file(uid)
            os.rename(name, name + "T")

    between(rename)
    flagged(mail, "\\Seen")
    mail.wait()
    assert "refresh" in mail.looks
    assert set(mail.flags().values()) == {("\\Seen", "\\Deleted")}
