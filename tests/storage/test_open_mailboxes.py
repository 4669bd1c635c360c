"""Mailboxes as sessions have them, over the real store: snapshots follow every change, whoever made it."""

from __future__ import annotations

import itertools
import os
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_site import Site

from twisted_mail.mailboxes import Appending, StoreMode
from twisted_mail.message.collation import fold
from twisted_mail.status import MailError
from twisted_mail.storage import account, folder
from twisted_mail.storage.digests import _Verified

MAIL = b"From: Alice <a@example.org>\nSubject: =?utf-8?q?Caf=C3=A9?= %d\nMessage-ID: <%d@x>\n\nhello %d\n"


class Mail:
    """One account, its mailboxes open in one session or two."""

    def __init__(self, path):
        self.site = Site(str(path)).start()
        self.run = self.site.run
        self.one = self.run(self.site.store.open_mailboxes("d/a"))
        self.opened = []

    def open(self, name="INBOX", session=None):
        box = self.run((session or self.one).open(name))
        self.opened.append(box)
        return box

    def append(self, name, text=MAIL % (1, 1, 1), flags=(), date=None, session=None):
        session = session or self.one

        async def append():
            draft = session.write()
            draft.write(text)
            return await session.append(name, [Appending(draft, flags, date)])

        return self.run(append())

    def all(self, iterator):
        async def gather():
            return [row async for rows in iterator for row in rows]

        return self.run(gather())

    def flags(self, box):
        snapshot = box.snapshot
        return {
            uid: set(snapshot.names(bits))
            for uid, bits in zip(snapshot.uids, snapshot.flags, strict=True)
        }

    def wait(self, seconds=0.1):
        for _ in range(20):
            self.site.world.reactor.advance(seconds / 20)

    def end(self):
        for box in self.opened:
            self.run(box.close())
        self.run(self.one.close())
        self.wait()
        self.site.stop()


@pytest.fixture
def mail(tmp_path):
    made = Mail(tmp_path / "data")
    yield made
    made.end()


def test_a_delivered_message_is_in_the_snapshot_at_once(mail):
    box = mail.open()
    heard = []
    box.listen(lambda: heard.append(len(box.snapshot)))
    before = box.snapshot
    mail.site.deliver(b"Subject: x\n\n", "d/a")
    mail.site.world.reactor.advance(0)
    assert heard == [1]
    assert len(before) == 0
    assert list(box.snapshot.uids) == [1]
    assert box.snapshot.sizes[0] == 14


def test_append_store_copy_move_expunge(mail):
    inbox = mail.open()
    filed = mail.append("INBOX", flags=["\\Seen", "Todo"], date=1_000_000_000)
    assert filed.uids == [1]
    assert filed.validity == inbox.snapshot.validity
    assert mail.flags(inbox) == {1: {"\\Seen", "Todo"}}
    assert inbox.snapshot.dates[0] == 1_000_000_000
    mail.run(inbox.store([1], StoreMode.ADD, ["\\Flagged"]))
    sent = mail.open("Sent")
    copied = mail.run(inbox.copy([1], "Sent"))
    assert (list(copied.sources), list(copied.uids)) == ([1], [1])
    assert mail.flags(sent) == {1: {"\\Seen", "Todo", "\\Flagged"}}
    assert sent.snapshot.dates[0] == 1_000_000_000
    moved = mail.run(inbox.move([1], "Trash"))
    assert (list(moved.sources), list(moved.uids)) == ([1], [1])
    assert mail.flags(inbox) == {}
    mail.run(sent.store([1], StoreMode.ADD, ["\\Deleted"]))
    before = sent.snapshot
    mail.run(sent.expunge())
    assert mail.flags(sent) == {}
    assert mail.run(sent.vanished(before.modseq)) == [1]
    assert len(before) == 1
    assert mail.run(mail.one.status("Trash")).messages == 1


def test_contents_and_columns(mail):
    for n in range(1, 4):
        mail.append("INBOX", MAIL % (n, n, n))
    mail.append("INBOX", b"Subject: large\n\n" + b"x" * 300_000)
    box = mail.open()
    small = mail.all(box.contents([1, 3, 9]))
    assert [(one.uid, one.content) for one in small] == [
        (1, MAIL % (1, 1, 1)),
        (3, MAIL % (3, 3, 3)),
        (9, None),
    ]
    ((uid, large),) = mail.all(box.contents([4]))
    assert uid == 4
    assert large.size == 300_016
    assert mail.run(large.read(9, 5)) == b"large"
    assert mail.run(large.read(300_015, 100)) == b"x"
    large.close()
    rows = mail.all(box.columns([1, 2, 3, 9], ["subject", "envelope", "save_date", "emailid"]))
    assert [row[0] for row in rows] == [1, 2, 3]
    assert rows[1][2].startswith(b'(NIL "=?utf-8?q?Caf=C3=A9?= 2"')
    assert rows[0][3] == int(mail.site.world.now())
    assert len({row[4] for row in rows}) == 3
    # Kept: the second time nothing is read
    assert mail.all(box.columns([1, 2, 3], ["envelope"]))[1][1] == rows[1][2]
    assert mail.run(box.match_field("subject", rows[2][1], [1, 2, 3, 4])) == [3]
    assert mail.run(box.match_text(fold("hello 2"), [1, 2, 3], body_only=True)) == [2]
    assert mail.run(box.match_header("message-id", fold("<1@x>"), [1, 2, 3])) == [1]


def test_copies_have_the_same_id_and_replies_the_same_thread(mail):
    mail.append("INBOX", b"Message-ID: <1@x>\n\none\n")
    mail.append("INBOX", b"Message-ID: <2@x>\nReferences: <1@x>\n\ntwo\n")
    box = mail.open()
    mail.run(box.copy([1], "Sent"))
    first, second = mail.all(box.columns([1, 2], ["emailid", "threadid"]))
    (copy,) = mail.all(mail.open("Sent").columns([1], ["emailid", "threadid"]))
    assert copy == first
    assert second[1] != first[1]
    assert second[2] == first[2]


@pytest.mark.parametrize("many", [account.MANY, 0], ids=["name by name", "all at once"])
def test_what_another_program_does_is_seen_within_a_tenth_of_a_second(mail, monkeypatch, many):
    monkeypatch.setattr(account, "MANY", many)
    mail.append("INBOX")
    box = mail.open()
    heard = []
    box.listen(lambda: heard.append(mail.flags(box)))
    maildir = mail.site.maildir("d/a")
    (name,) = os.listdir(os.path.join(maildir, "cur"))
    os.rename(os.path.join(maildir, "cur", name), os.path.join(maildir, "cur", f"{name}F"))
    mail.wait()
    assert heard == [{1: {"\\Flagged"}}]
    with open(os.path.join(maildir, "new", "17.x.y"), "wb") as file:
        file.write(b"Subject: new\n\n")
    mail.wait()
    assert list(box.snapshot.uids) == [1, 2]
    for sub in ("cur", "new"):
        for name in os.listdir(os.path.join(maildir, sub)):
            if name.startswith("17"):
                os.unlink(os.path.join(maildir, sub, name))
    mail.wait()
    assert list(box.snapshot.uids) == [1]
    assert mail.run(box.vanished(heard and 1)) is not None


def test_another_process_is_seen(mail, tmp_path):
    other = Site(str(tmp_path / "data"), seed=2).start()
    mail.append("INBOX")
    box = mail.open()
    session = other.run(other.store.open_mailboxes("d/a"))
    theirs = other.run(session.open("INBOX"))
    assert list(theirs.snapshot.uids) == [1]
    other.run(theirs.store([1], StoreMode.ADD, ["\\Seen", "Todo"]))
    other.deliver(b"Subject: theirs\n\n", "d/a")
    mail.wait()
    mail.run(box.refresh())
    assert mail.flags(box) == {1: {"\\Seen", "Todo"}, 2: set()}
    mail.run(box.store([2], StoreMode.ADD, ["\\Deleted"]))
    mail.run(box.expunge())
    for _ in range(20):
        other.world.reactor.advance(0.01)
    other.run(theirs.refresh())
    assert list(theirs.snapshot.uids) == [1]
    other.run(theirs.close())
    other.run(session.close())
    other.stop()


@pytest.mark.parametrize("told", [20, 1000])
def test_many_that_another_program_adds_at_once_are_seen(mail, told, monkeypatch):
    monkeypatch.setattr(folder, "WRITTEN", 7)
    monkeypatch.setattr(folder, "MAX_TOLD", told)
    monkeypatch.setattr(account, "MAX_TOLD", told)
    mail.append("INBOX", flags=["Todo"])
    box = mail.open()
    cur = os.path.join(mail.site.maildir("d/a"), "cur")
    for number in range(60):
        with open(os.path.join(cur, f"{number}.x:2,{'Sa' if number % 2 else ''}"), "wb") as file:
            file.write(MAIL % (number, number, number))
    mail.wait()
    mail.run(box.refresh())
    assert list(box.snapshot.uids) == list(range(1, 62))
    assert list(mail.flags(box).values()) == [{"Todo"}, *[set(), {"\\Seen", "Todo"}] * 30]
    mail.run(box.store([61], StoreMode.ADD, ["\\Deleted"]))
    assert mail.flags(box)[61] == {"\\Seen", "Todo", "\\Deleted"}


def test_two_sessions_share_what_they_know(mail):
    two = mail.run(mail.site.store.open_mailboxes("d/a"))
    mine, yours = mail.open(), mail.open(session=two)
    mail.append("INBOX")
    assert mine.snapshot is yours.snapshot
    mail.run(two.close())


def test_the_list(mail):
    mail.run(mail.one.create("Work/Plans"))
    mail.run(mail.one.subscribe("Elsewhere", True))
    mail.run(mail.one.subscribe("Sent", True))
    found = {one.name: one for one in mail.run(mail.one.list())}
    assert list(found) == [
        *("INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash", "Work/Plans", "Elsewhere")
    ]
    assert not found["Elsewhere"].selectable
    assert found["Sent"].subscribed
    assert found["Sent"].special_use == {"\\Sent"}
    mail.run(mail.one.rename("Work/Plans", "Plans"))
    mail.run(mail.one.delete("Archive"))
    there = {one.name: one.selectable for one in mail.run(mail.one.list())}
    assert there["Plans"]
    assert "Work/Plans" not in there
    # RFC 9051 section 6.3.5: a subscription outlives its mailbox
    assert not there["Archive"]


def test_the_inbox_renamed_is_emptied(mail):
    mail.append("INBOX", flags=["Todo"])
    box = mail.open()
    mail.run(mail.one.rename("INBOX", "Old"))
    assert len(box.snapshot) == 0
    assert mail.flags(mail.open("Old")) == {1: {"Todo"}}


@pytest.mark.parametrize(
    ("what", "code"),
    [
        (lambda one: one.open("No"), "NONEXISTENT"),
        (lambda one: one.status("No"), "NONEXISTENT"),
        (lambda one: one.delete("No"), "NONEXISTENT"),
        (lambda one: one.delete("INBOX"), "CANNOT"),
        (lambda one: one.rename("No", "Yes"), "NONEXISTENT"),
        (lambda one: one.create("Sent"), "ALREADYEXISTS"),
        (lambda one: one.append("No", []), "TRYCREATE"),
    ],
)
def test_refusals(mail, what, code):
    with pytest.raises(MailError) as refused:
        mail.run(what(mail.one))
    assert refused.value.imap == code


def test_a_lost_index_gives_the_same_mailbox(mail):
    for n in range(3):
        mail.append("INBOX", MAIL % (n, n, n), flags=["\\Seen", "Todo"], date=1_000_000_000 + n)
    box = mail.open()
    before = box.snapshot
    os.unlink(os.path.join(mail.site.data, "mail", "d/a", "index.sqlite3"))
    mail.append("INBOX")
    after = box.snapshot
    assert list(after.uids)[:3] == list(before.uids)
    assert after.flags[:3] == before.flags
    assert after.dates[:3] == before.dates
    assert after.modseq > before.modseq
    assert list(after.uids)[3] > 3


@pytest.mark.parametrize("what", ["read", "store", "copy", "move", "expunge"])
def test_a_lost_index_takes_nothing_from_who_has_the_mailbox_open(mail, what):
    """The next thing it does is the first that anybody does with the new index: every message is still there."""
    for n in range(3):
        mail.append("INBOX", MAIL % (n, n, n), flags=["\\Deleted"])
    box = mail.open()
    mail.all(box.contents([1, 2, 3]))  # whatever is opened once is open
    mail.wait()
    os.unlink(os.path.join(mail.site.data, "mail", "d/a", "index.sqlite3"))
    if what == "read":
        assert [one.content for one in mail.all(box.contents([1, 2, 3]))] == [
            MAIL % (n, n, n) for n in range(3)
        ]
    elif what == "store":
        mail.run(box.store([1, 2, 3], StoreMode.ADD, ["\\Seen"]))
        assert mail.flags(box) == {uid: {"\\Seen", "\\Deleted"} for uid in (1, 2, 3)}
    elif what == "copy":
        assert len(mail.run(box.copy([1, 2, 3], "Trash")).uids) == 3
    elif what == "move":
        assert len(mail.run(box.move([1, 2, 3], "Trash")).uids) == 3
    else:
        mail.run(box.expunge())
        mail.wait()
        assert list(box.snapshot.uids) == []
        return
    mail.wait()
    assert list(box.snapshot.uids) == ([] if what == "move" else [1, 2, 3])


def test_what_others_are_told(mail):
    heard = []
    end = mail.one.watch(["INBOX", "Sent"], heard.append)
    mail.run(mail.one.list())
    mail.append("Sent")
    mail.append("Trash")
    mail.run(mail.one.create("New"))
    mail.wait()
    assert heard[0] == "Sent"
    assert set(heard[1:]) == {""}
    end()
    mail.append("Sent")
    assert heard[-1] == ""


def test_a_mailbox_that_was_removed_is_empty_for_who_has_it_open(mail):
    mail.append("INBOX")
    mail.append("Trash")
    box = mail.open("Trash")
    heard = []
    box.listen(lambda: heard.append(len(box.snapshot)))
    mail.run(mail.one.delete("Trash"))
    mail.wait()
    assert heard == [0]
    # What is meant for it does not happen to the inbox
    with pytest.raises(MailError) as refused:
        mail.run(box.store([1], StoreMode.ADD, ["\\Deleted"]))
    assert refused.value.imap == "NONEXISTENT"
    mail.run(box.expunge([1]))
    assert mail.flags(mail.open()) == {1: set()}


def test_a_mailbox_that_was_renamed_goes_on(mail):
    mail.append("Trash")
    box = mail.open("Trash")
    mail.run(mail.one.rename("Trash", "Bin"))
    mail.wait()
    assert box.name == "Bin"
    mail.run(box.store([1], StoreMode.ADD, ["\\Seen"]))
    assert mail.flags(box) == {1: {"\\Seen"}}
    bin_ = os.path.join(mail.site.maildir("d/a"), ".Bin", "new", "17.x.y")
    box.listen(lambda: None)
    with open(bin_, "wb") as file:
        file.write(b"Subject: new\n\n")
    mail.wait()
    assert set(mail.flags(box)) == {1, 2}


def test_digests_of_what_is_gone_are_swept_away(mail, monkeypatch):
    monkeypatch.setattr("twisted_mail.storage.digests.SWEEP", 0)
    for n in range(3):
        mail.append("INBOX", MAIL % (n, n, n))
    mail.append("Trash")
    two = mail.run(mail.site.store.open_mailboxes("d/a"))
    box, trash = mail.open(session=two), mail.open("Trash", session=two)
    assert len(mail.all(box.columns([1, 2, 3], ["subject", "octets"]))) == 3
    assert len(mail.all(trash.columns([1], ["subject", "octets"]))) == 1
    mail.run(box.store([1, 2], StoreMode.ADD, ["\\Deleted"]))
    mail.run(box.expunge())
    mail.run(two.delete("Trash"))
    digests = box._account.digests
    digests._sweep(box.mailbox_id)
    digests._keep_only({box.mailbox_id})
    with digests._file.opened() as db:
        for table in ("narrow", "wide", "structure"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)  # noqa: S608
        assert db.execute("SELECT count(*) FROM folder").fetchone() == (1,)
    assert len(mail.all(box.columns([3], ["subject"]))) == 1
    mail.run(two.close())


def test_digests_that_are_lost_are_made_again(mail):
    mail.append("INBOX")
    box = mail.open()
    (before,) = mail.all(box.columns([1], ["envelope"]))
    path = os.path.join(mail.site.data, "mail", "d/a", "digests.sqlite3")
    os.unlink(path)
    assert mail.all(box.columns([1], ["envelope"])) == [before]


def test_what_is_known_to_be_complete_is_found_when_it_is_lost_and_when_more_comes(mail):
    for n in range(1, 6):
        mail.append("INBOX", MAIL % (n, n, n))
    box = mail.open()
    subject = mail.all(box.columns([3], ["subject"]))[0][1]

    def found(*uids: int) -> list[int]:
        return list(mail.run(box.match_field("subject", subject[:-1], array("I", uids))))

    assert found(2, 4) == [2, 4]
    assert found(1, 2, 3, 4, 5) == [1, 2, 3, 4, 5]
    mail.run(box.store([2, 5], StoreMode.ADD, ["\\Deleted"]))
    mail.run(box.expunge())
    mail.append("INBOX", MAIL % (6, 6, 6))
    mail.wait()
    assert found(1, 3, 4, 6) == [1, 3, 4, 6]
    assert mail.all(box.columns([1, 6], ["base_subject", "save_date"]))[1][0] == 6
    for _ in range(2):
        assert found(1, 3, 4, 6) == [1, 3, 4, 6]
    os.unlink(os.path.join(mail.site.data, "mail", "d/a", "digests.sqlite3"))
    assert found(4, 6) == [4, 6]
    assert found(1, 3, 4, 6) == [1, 3, 4, 6]


@given(st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=12, unique=True)))
def test_verified_digests_are_those_that_were_added(asked):
    verified, known = _Verified(None, 1), set()
    for uids in map(sorted, asked):
        assert verified.has(array("I", uids)) == known.issuperset(uids)
        if sum(uids) % 2:
            verified.add(array("I", uids))
            known.update(uids)
            assert verified.has(array("I", uids))


def test_two_messages_of_one_name_stay_two(mail):
    """Somebody copied a folder with cp, and the copies are moved together."""
    mail.run(mail.one.create("A"))
    mail.append("A", MAIL % (1, 1, 1), flags=["\\Seen"])
    mail.run(mail.one.create("B"))
    a, b = (os.path.join(mail.site.maildir("d/a"), f".{name}", "cur") for name in "AB")
    (name,) = os.listdir(a)
    with open(os.path.join(b, name), "wb") as file:
        file.write(MAIL % (2, 2, 2))
    one, other = mail.open("A"), mail.open("B")
    assert len(one.snapshot) == len(other.snapshot) == 1
    filed = mail.run(one.move([1], "B"))
    assert (list(filed.sources), len(filed.uids)) == ([1], 1)
    assert len(one.snapshot) == 0
    found = {found.content for found in mail.all(other.contents(list(other.snapshot.uids)))}
    assert found == {MAIL % (1, 1, 1), MAIL % (2, 2, 2)}
    # Another program does it
    mail.append("A", MAIL % (3, 3, 3))
    (name,) = os.listdir(a)
    with open(os.path.join(b, name.partition(",")[0] + ":2,F"), "wb") as file:
        file.write(MAIL % (4, 4, 4))
    mail.wait()
    mail.run(other.refresh())
    os.rename(os.path.join(a, name), os.path.join(b, name))
    mail.wait()
    mail.run(other.refresh())
    mail.wait()
    found = {found.content for found in mail.all(other.contents(list(other.snapshot.uids)))}
    assert found == {MAIL % (n, n, n) for n in range(1, 5)}


def test_what_a_move_could_not_copy_stays(mail):
    """Of two whose names the target has, one is being renamed all the time."""
    mail.run(mail.one.create("A"))
    mail.run(mail.one.create("B"))
    a, b = (os.path.join(mail.site.maildir("d/a"), f".{name}", "cur") for name in "AB")
    for n in (1, 2):
        mail.append("A", MAIL % (n, n, n))
    for name in os.listdir(a):
        with open(os.path.join(b, name), "wb") as file:
            file.write(b"Subject: other\n\n")
    one = mail.open("A")
    mail.open("B")
    filing = one._filing

    class Half:
        """Copies the first alone, and does not know its UID yet."""

        expunge, move = filing.expunge, filing.move

        async def copy(self, key, source, bases, target):
            done = await filing.copy(key, source, bases[:1], target)
            return done._replace(validity=0, uids=())

    one._filing = Half()
    filed = mail.run(one.move([1, 2], "B"))
    assert (filed.validity, list(filed.uids)) == (0, [])
    assert list(one.snapshot.uids) == [2]


def test_the_status_of_a_mailbox_nobody_has_looked_at_takes_one_thread(mail, monkeypatch):
    mail.append("Sent")
    mail.run(mail.one.list())
    threads = mail.site.world.threads
    calls = []
    real = threads.call

    def call(work, *args, **kwargs):
        calls.append(work)
        return real(work, *args, **kwargs)

    monkeypatch.setattr(threads, "call", call)
    assert mail.run(mail.one.status("Sent")).messages == 1
    assert len(calls) == 1


def test_the_status_tells_what_another_program_took_away(mail):
    mail.append("Sent")
    mail.append("Sent", MAIL % (2, 2, 2))
    assert mail.run(mail.one.status("Sent")).messages == 2
    directory = os.path.join(mail.site.data, "mail/d/a/Maildir/.Sent")
    sub = next(sub for sub in ("new", "cur") if os.listdir(os.path.join(directory, sub)))
    os.unlink(os.path.join(directory, sub, os.listdir(os.path.join(directory, sub))[0]))
    assert mail.run(mail.one.status("Sent")).messages == 1
    assert mail.run(mail.one.status("Sent")).messages == 1


def test_a_look_that_failed_is_tried_again_while_somebody_listens(mail, monkeypatch):
    box = mail.open()
    heard = []
    box.listen(lambda: heard.append(1))
    store = mail.site.store.account("d/a")
    tries = []

    def broken(*_):
        tries.append(mail.site.world.reactor.seconds())
        raise OSError(5, "Input/output error")

    for name in ("examine", "refresh"):
        monkeypatch.setattr(store, name, broken)
    directory = os.path.join(mail.site.data, "mail/d/a/Maildir/new")
    with open(os.path.join(directory, "1.foreign"), "wb") as file:
        file.write(MAIL % (1, 1, 1))
    mail.site.world.watcher.look()
    for _ in range(150):
        mail.wait(1)
    pauses = [round(after - before) for before, after in itertools.pairwise(tries)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60]
    assert not heard
    monkeypatch.undo()
    for _ in range(61):
        mail.wait(1)
    assert list(box.snapshot.uids) == [1] and heard


def test_who_begins_to_listen_after_a_look_that_failed_hears_of_it(mail, monkeypatch):
    box = mail.open()
    store = mail.site.store.account("d/a")

    def broken(*_):
        raise OSError(5, "Input/output error")

    for name in ("examine", "refresh"):
        monkeypatch.setattr(store, name, broken)
    directory = os.path.join(mail.site.data, "mail/d/a/Maildir/new")
    with open(os.path.join(directory, "1.foreign"), "wb") as file:
        file.write(MAIL % (1, 1, 1))
    mail.site.world.watcher.look()
    mail.run(box.refresh())
    monkeypatch.undo()
    heard = []
    box.listen(lambda: heard.append(1))
    mail.wait(1)
    mail.wait(1)
    assert heard
