"""What a review of mailboxes over the store found: races between threads, other programs, caches that go away."""

from __future__ import annotations

import os
import threading

import pytest
from store_site import Site
from test_account_folders import Here
from test_open_mailboxes import MAIL, Mail
from twisted.internet.defer import ensureDeferred

from twisted_mail.mailboxes import SEEN, Added, Appending, Snapshot, StoreMode
from twisted_mail.status import MailError
from twisted_mail.storage import accounts
from twisted_mail.storage.filling import Filler
from twisted_mail.storage.flags import format_keywords
from twisted_mail.storage.home import Home
from twisted_mail.storage.index import Index


@pytest.fixture
def mail(tmp_path):
    made = Mail(tmp_path / "data")
    yield made
    made.end()


@pytest.fixture
def here(tmp_path):
    site = Here(tmp_path / "a")
    yield site
    site.store.release()


def drop(path, name, text=b"Subject: x\n\nhi\n"):
    with open(os.path.join(path, name), "wb") as file:
        file.write(text)


def refresh(mail, box):
    looking = box.refresh()
    if looking is not None:
        mail.run(looking)


# -- snapshots


def test_what_is_added_and_changed_at_once_is_known_as_it_is_now():
    """Asked what happened since 5, the index says: 10 is new, and so since 7; meanwhile we heard of 6, its coming."""
    known = Snapshot(validity=1, uidnext=10, modseq=5)
    heard = known.after(modseq=6, added=[Added(10, 0, 6, 14, 0)], uidnext=11)
    told = heard.after(modseq=7, added=[Added(10, SEEN, 7, 14, 0)], uidnext=11)
    assert list(told.uids) == [10]
    assert list(told.flags) == [SEEN]
    assert list(told.modseqs) == [7]
    assert list(told.log[-1].changed) == [10]


# -- keywords


def test_a_keyword_of_a_store_that_was_refused_is_seen_when_it_is_used(mail):
    mail.append("INBOX")
    box = mail.open()
    mail.run(box.store([1], StoreMode.ADD, [f"k{n}" for n in range(25)]))
    with pytest.raises(MailError) as refused:
        mail.run(box.store([1], StoreMode.ADD, ["one", "two"]))
    assert refused.value.imap == "LIMIT"
    mail.run(box.store([1], StoreMode.ADD, ["one"]))
    assert "one" in mail.flags(box)[1]


def test_a_keyword_that_another_program_names_is_seen_with_its_letter(mail):
    mail.append("INBOX")
    box = mail.open()
    maildir = mail.site.maildir("d/a")
    with open(os.path.join(maildir, "dovecot-keywords"), "wb") as file:
        file.write(format_keywords(("Theirs",)))
    (name,) = os.listdir(os.path.join(maildir, "cur"))
    os.rename(os.path.join(maildir, "cur", name), os.path.join(maildir, "cur", f"{name}a"))
    mail.wait()
    refresh(mail, box)
    assert mail.flags(box) == {1: {"Theirs"}}


def test_a_keyword_that_another_process_made_without_using_it_is_seen(mail, tmp_path):
    mail.append("INBOX")
    box = mail.open()
    other = Site(str(tmp_path / "data"), seed=2).start()
    session = other.run(other.store.open_mailboxes("d/a"))
    theirs = other.run(session.open("INBOX"))
    other.run(theirs.store([99], StoreMode.ADD, ["Todo"]))
    mail.run(box.store([1], StoreMode.ADD, ["Todo"]))
    assert mail.flags(box) == {1: {"Todo"}}
    other.run(theirs.close())
    other.run(session.close())
    other.stop()


def test_a_new_keyword_takes_no_letter_that_messages_have(here):
    """The keyword file was lost: what stood behind the letters is not known, and not what comes next."""
    uid, other = here.add(flags=("Mine",)), here.add(flags=())
    os.unlink(os.path.join(here.store.maildir, "dovecot-keywords"))
    here.store.store("", [other], StoreMode.ADD, ["New"])
    assert here.flags() == {uid: set(), other: {"New"}}


# -- UIDs


def test_a_file_that_comes_back_is_a_new_message(here):
    """RFC 9051 section 2.3.1.1: a UID is never given again, also not to the message that had it."""
    here.add(flags=())
    uid = here.add(flags=())
    cur = os.path.join(here.store.maildir, "cur")
    (name,) = [name for name in here.files() if f".{uid}:" in name]
    os.rename(os.path.join(cur, name), os.path.join(here.home, name))
    here.store.forget("", here.store.refresh())
    os.rename(os.path.join(here.home, name), os.path.join(cur, name))
    here.store.refresh()
    assert set(here.flags()) == {1, 3}


def test_a_file_that_was_linked_without_its_row_keeps_its_uid_for_itself(here, monkeypatch):
    """The index could not be written. The file has its UID, and the next message another."""
    here.add()
    with monkeypatch.context() as patch:
        patch.setattr(Index, "commit", lambda self: self._db.execute("SELECT * FROM nothing"))
        # Told to nobody: the next one may get it.
        assert here.add() == 0
    assert len(here.files()) == 2
    # `no such table` is taken for damage: here the index is whole
    (aside,) = [name for name in os.listdir(here.home) if ".broken-" in name]
    os.rename(os.path.join(here.home, aside), os.path.join(here.home, "index.sqlite3"))
    here.store.refresh()
    linked = set(here.flags()) - {1}
    assert len(linked) == 1
    later = here.add()
    here.store.refresh()
    assert set(here.flags()) == {1, later, *linked}
    assert later not in linked


# -- the index goes while a mailbox is open


def lose_index(site):
    os.unlink(os.path.join(site.data, "mail", "d/a", "index.sqlite3"))


def test_what_is_done_after_the_index_was_lost_is_done(mail):
    for n in range(3):
        mail.append("INBOX", MAIL % (n, n, n))
    box = mail.open()
    lose_index(mail.site)
    mail.run(box.store([2], StoreMode.ADD, ["\\Flagged"]))
    assert mail.flags(box)[2] == {"\\Flagged"}
    lose_index(mail.site)
    assert list(mail.run(box.copy([1, 2], "Sent")).sources) == [1, 2]
    lose_index(mail.site)
    assert [one.content for one in mail.all(box.contents([3]))] == [MAIL % (2, 2, 2)]
    lose_index(mail.site)
    assert list(mail.run(box.move([1], "Trash")).sources) == [1]
    mail.run(box.store([3], StoreMode.ADD, ["\\Deleted"]))
    lose_index(mail.site)
    mail.run(box.expunge())
    refresh(mail, box)
    assert list(box.snapshot.uids) == [2]


def test_rows_of_a_lost_index_are_made_before_anything_is_told_of_it(mail):
    mail.append("INBOX")
    mail.append("Sent")
    lose_index(mail.site)
    status = mail.run(mail.one.status("Sent"))
    assert (status.messages, status.uidnext > 1) == (1, True)


def test_who_waits_is_not_told_that_all_is_gone_when_the_index_is(mail):
    for n in range(3):
        mail.append("INBOX", MAIL % (n, n, n))
    box = mail.open()
    counts = []
    box.listen(lambda: counts.append(len(box.snapshot)))
    mail.wait()
    lose_index(mail.site)
    cur = os.path.join(mail.site.maildir("d/a"), "cur")
    os.unlink(os.path.join(cur, sorted(os.listdir(cur))[0]))
    mail.wait()
    assert counts[-1] == 2
    assert min(counts) == 2


# -- what other programs do


def test_a_file_with_a_name_that_is_not_utf_8_is_seen_by_who_waits(mail):
    box = mail.open()
    box.listen(lambda: None)
    drop(os.fsencode(os.path.join(mail.site.maildir("d/a"), "new")), b"17.\xff.y")
    mail.wait()
    assert len(box.snapshot) == 1


def test_a_folder_that_another_program_copied_keeps_who_it_is(mail):
    """``cp -a .Trash .Aside``: the copy, which comes first in the listing, is the new one."""
    mail.append("Trash")
    box = mail.open("Trash")
    before = box.mailbox_id
    os.system(f"cp -a {mail.site.maildir('d/a')}/.Trash {mail.site.maildir('d/a')}/.Aside")
    mail.wait()
    ids = {one.name: one.mailbox_id for one in mail.run(mail.one.list())}
    assert ids["Trash"] == before
    assert ids["Aside"] != before
    assert box.name == "Trash"
    assert mail.run(mail.one.status("Aside")).messages == 1


def test_mail_of_a_folder_that_another_program_removed_counts_no_more(mail):
    mail.append("INBOX")
    mail.append("Trash")
    assert mail.run(mail.one.quota()).messages == 2
    os.system(f"rm -r {mail.site.maildir('d/a')}/.Trash")
    mail.wait()
    mail.run(mail.one.list())
    assert mail.run(mail.one.quota()).messages == 1


def test_mail_that_came_while_a_folder_was_renamed_is_seen_by_who_waits(mail):
    box = mail.open("Trash")
    box.listen(lambda: None)
    maildir = mail.site.maildir("d/a")
    os.rename(os.path.join(maildir, ".Trash"), os.path.join(maildir, ".Bin"))
    drop(os.path.join(maildir, ".Bin", "new"), "17.x.y")
    mail.wait(0.3)
    assert box.name == "Bin"
    assert len(box.snapshot) == 1


def test_an_account_that_was_removed_and_made_again_has_one_lock(tmp_path):
    first = Site(str(tmp_path / "data")).start()
    second = Site(str(tmp_path / "data"), seed=2).start()
    first.deliver(b"Subject: x\n\n", "d/a")
    second.deliver(b"Subject: x\n\n", "d/a")
    assert len(first.read("d/a")) == len(second.read("d/a")) == 2
    second.run(second.store.remove_account("d/a"))
    first.deliver(b"Subject: x\n\n", "d/a")
    assert len(first.read("d/a")) == 1
    home = first.store.account("d/a").files
    path = os.path.join(first.data, "mail", "d/a", "lock")
    assert os.fstat(home._lock).st_ino == os.stat(path).st_ino
    first.stop()
    second.stop()


def test_who_has_an_account_open_that_was_removed_is_told_that_it_is_over(mail, tmp_path):
    mail.append("INBOX")
    told = []
    mail.one.watch_end(lambda: told.append("over"))
    box = mail.open()
    other = Site(str(tmp_path / "data"), seed=2).start()
    other.run(other.store.remove_account("d/a"))
    other.stop()
    for _ in range(2):
        with pytest.raises(MailError):
            mail.run(box.store([1], StoreMode.ADD, ["\\Seen"]))
    mail.wait()
    assert told == ["over"]


# -- threads


def test_who_stops_listening_amid_a_change_is_not_told_and_nothing_fails(here, monkeypatch):
    commit = Index.commit

    def ending(self):
        here.store.publish_to(None)
        commit(self)

    monkeypatch.setattr(Index, "commit", ending)
    assert here.add() == 1


def test_a_validity_is_asked_for_under_the_lock(here, monkeypatch):
    """To look for a folder may make the state of another one."""
    held = []
    find = Home.find

    def looked(self, folder):
        def ask():
            free = self._mutex.acquire(blocking=False)
            if free:
                self._mutex.release()
            held.append(not free)

        asking = threading.Thread(target=ask)
        asking.start()
        asking.join()
        return find(self, folder)

    monkeypatch.setattr(Home, "find", looked)
    here.store.validity(here.store.inbox)
    assert held
    assert all(held)


def test_opening_mailboxes_closes_no_other_account_on_the_reactor_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(accounts, "OPEN_ACCOUNTS", 1)
    site = Site(str(tmp_path / "data")).start()
    site.deliver(b"Subject: x\n\n", "d/a", "d/b", "d/c")
    closed = []
    retire = Home.retire
    monkeypatch.setattr(Home, "retire", lambda self: (closed.append(self.path), retire(self))[1])
    waiting = [ensureDeferred(site.store.open_mailboxes(f"d/{name}")) for name in "defg"]
    assert closed == []
    site.turn()
    for one in waiting:
        site.run(one.result.close())
    site.turn()
    # And those that nobody has open any more do not stay open.
    assert len(site.store._accounts._known) <= 1
    site.stop()


# -- what is let go


class Content:
    def __init__(self):
        self.discarded = 0

    def discard(self):
        self.discarded += 1


def test_what_cannot_be_filed_is_discarded(mail, monkeypatch):
    box = mail.open()

    def broken(*_):
        raise OSError(5, "Input/output error")

    content = Content()
    mail.site.store._sessions._open["d/a"]._boxes = None
    store = mail.site.store._accounts.get("d/a")
    with monkeypatch.context() as patch:
        patch.setattr(store.folders, "all", broken)
        with pytest.raises(Exception, match="Input/output"):
            mail.run(mail.one.append("INBOX", [Appending(content, (), None)]))
        assert content.discarded
        content = Content()
        with pytest.raises(Exception, match="Input/output"):
            mail.run(mail.one.replace(box, 1, "INBOX", Appending(content, (), None)))
        assert content.discarded


def test_a_move_to_the_same_mailbox_removes_what_it_copied_only(mail, monkeypatch):
    for n in range(2):
        mail.append("INBOX", MAIL % (n, n, n))
    box = mail.open()
    pick = Filler.pick
    monkeypatch.setattr(
        Filler, "pick", lambda self, folder, bases, **how: pick(self, folder, bases, **how)[:1]
    )
    filed = mail.run(box.move([1, 2], "INBOX"))
    assert list(filed.sources) == [1]
    refresh(mail, box)
    assert list(box.snapshot.uids) == [2, 3]


# -- costs


def test_nobody_reads_a_whole_mailbox_to_hear_that_nothing_happened(here, monkeypatch):
    here.add()
    snapshot = here.store.snapshot("")
    monkeypatch.setattr(Index, "whole_rows", lambda *_: pytest.fail("all rows were read"))
    change = here.store.since("", snapshot)
    assert change.modseq == snapshot.modseq
    assert not (change.added or change.changed or change.expunged)


def test_many_messages_that_are_gone_cost_one_listing(mail, monkeypatch):
    for n in range(5):
        mail.append("INBOX", MAIL % (n, n, n))
    box = mail.open()
    cur = os.path.join(mail.site.maildir("d/a"), "cur")
    for name in os.listdir(cur):
        os.unlink(os.path.join(cur, name))
    listed = []
    names = mail.site.disk.names
    monkeypatch.setattr(
        mail.site.disk, "names", lambda path: (listed.append(path), names(path))[1], raising=False
    )
    found = mail.all(box.contents([1, 2, 3, 4, 5]))
    assert [one.content for one in found] == [None] * 5
    assert listed.count(cur) == 1


def test_a_keyword_that_no_file_would_give_back_is_refused(here):
    uid = here.add(flags=())
    with pytest.raises(MailError) as refused:
        here.store.store("", [uid], StoreMode.ADD, ["k" * 256])
    assert refused.value.imap == "LIMIT"
    here.store.store("", [uid], StoreMode.ADD, ["k" * 255])
    assert here.flags() == {uid: {"k" * 255}}
