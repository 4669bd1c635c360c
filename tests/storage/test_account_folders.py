"""An account's folders on the disk: made, renamed, removed; flags and keywords; mod-sequences; what Dovecot leaves."""

from __future__ import annotations

import os

import pytest

from twisted_mail.disk import OsDisk
from twisted_mail.mailboxes import DELETED, FLAGGED, SEEN, StoreMode
from twisted_mail.status import MailError
from twisted_mail.storage.account import AccountStore, Filling
from twisted_mail.storage.source import InlineSource

NOW = 1_800_000_000.0


class Here:
    """An account in a directory of the test's."""

    def __init__(self, home, generation=1, furnished=True):
        self.furnished = furnished
        self.store = None
        self.home = str(home)
        self.count = 0
        os.makedirs(self.home, exist_ok=True)
        self.disk = OsDisk()
        self.changes = []
        self.open(generation)

    def open(self, generation=1):
        if self.store is not None:
            self.store.release()
        entropy = iter(range(1000))
        self.store = AccountStore(
            self.disk,
            self.home,
            generation=generation,
            now=lambda: NOW,
            entropy=lambda size: os.urandom(size - 1) + bytes([next(entropy) % 256]),
        )
        if self.furnished:
            self.store.folders.furnish()
        # An index that was never compared with the Maildir is, first.
        self.store.refresh()
        self.store.publish_to(self.changes.append)

    def add(self, folder="", flags=None, text=b"Subject: x\n\nhi\n"):
        self.count += 1
        source = InlineSource(
            self.disk, self.home, [text], size=len(text), wire=len(text) + 3, ascii_size=None
        )
        filling = Filling(folder, f"1800000000.{self.count}.test", source, flags, None)
        assert self.store.fill([filling]) == []
        source.close()
        return filling.uid

    def id(self, name):
        return self.store.folders.find(name).folder

    def files(self, folder=""):
        path = os.path.join(self.store.maildir, folder)
        return sorted(
            name for sub in ("new", "cur") for name in os.listdir(os.path.join(path, sub))
        )

    def flags(self, folder=""):
        snapshot = self.store.snapshot(folder)
        return {
            uid: set(snapshot.names(bits))
            for uid, bits in zip(snapshot.uids, snapshot.flags, strict=True)
        }


@pytest.fixture
def here(tmp_path):
    site = Here(tmp_path / "a")
    yield site
    site.store.release()


def names(here):
    return [box.name for box in here.store.folders.all()]


def test_a_new_account_has_its_folders_with_their_uses(here):
    assert names(here) == ["INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"]
    assert here.store.folders.find("Sent").special_use == ("\\Sent",)


def test_a_folder_that_was_deleted_stays_away(here, tmp_path):
    here.store.folders.remove(here.id("Junk"), str(tmp_path / "removed" / "x"))
    here.open()
    assert "Junk" not in names(here)


def test_mail_that_arrives_makes_no_folders(tmp_path):
    here = Here(tmp_path / "b", furnished=False)
    here.add()
    assert names(here) == ["INBOX"]
    here.store.folders.furnish()
    assert len(names(here)) == 6
    here.store.release()


def test_folders_are_made_and_renamed_with_those_below(here):
    made = here.store.folders.create("Work/Plans v1.2")
    uid = here.add(made, ("\\Seen", "Todo"))
    here.store.folders.rename("Work", "Été")
    assert here.id("Été/Plans v1.2") == made
    assert here.flags(made) == {uid: {"\\Seen", "Todo"}}
    assert here.store.folders.find("Work/Plans v1.2") is None
    with pytest.raises(MailError) as refused:
        here.store.folders.create("Été/Plans v1.2")
    assert refused.value.imap == "ALREADYEXISTS"
    with pytest.raises(MailError) as refused:
        here.store.folders.rename("Work", "Other")
    assert refused.value.imap == "NONEXISTENT"


def test_no_two_folders_have_the_same_uidvalidity(here, tmp_path):
    given = {here.store.validity(box.folder) for box in here.store.folders.all()}
    assert len(given) == 6
    for n in range(3):
        made = here.store.folders.create("Again")
        assert here.store.validity(made) not in given
        given.add(here.store.validity(made))
        here.store.folders.remove(made, str(tmp_path / "removed" / str(n)))
        here.open()


def test_a_file_that_another_program_moves_takes_no_uid_that_was_given(here):
    trash = here.id("Trash")
    for _ in range(3):
        here.add(trash, ())
    here.store.remove(trash, ["1800000000.2.test"])
    here.add()
    uid = here.add()
    name = next(name for name in here.files() if name.endswith(f".{uid}"))
    os.rename(
        os.path.join(here.store.maildir, "new", name),
        os.path.join(here.store.maildir, ".Trash", "cur", f"{name}:2,"),
    )
    here.store.refresh(trash)
    assert set(here.flags(trash)) == {1, 3, 4}


def test_long_names(here):
    name = "/".join(["日本語" * 30] * 3)
    made = here.store.folders.create(name)
    here.open()
    assert here.id(name) == made
    here.store.folders.rename(name, "short")
    assert here.id("short") == made
    assert names(here).count("short") == 1


def test_flags_are_letters_in_the_name(here):
    uid = here.add()
    modseq, failed = here.store.store("", [uid], StoreMode.ADD, ["\\Seen", "$Junk", "Work"])
    assert failed == []
    (name,) = here.files()
    assert name.endswith(":2,Sab")
    assert here.flags() == {uid: {"\\Seen", "$Junk", "Work"}}
    again, _ = here.store.store("", [uid], StoreMode.REMOVE, ["$junk", "Unknown"])
    assert again == modseq + 1
    assert here.flags() == {uid: {"\\Seen", "Work"}}
    assert here.store.keywords("") == ("$Junk", "Work")
    same, _ = here.store.store("", [uid], StoreMode.REPLACE, ["\\seen", "work"])
    assert same == again


def test_keywords_survive_the_loss_of_the_index(here):
    uid = here.add("", ("Work", "\\Flagged"))
    here.store.release()
    os.unlink(os.path.join(here.home, "index.sqlite3"))
    here.open()
    here.store.refresh()
    assert here.flags() == {uid: {"Work", "\\Flagged"}}


def test_the_27th_keyword_is_one_too_many(here):
    uid = here.add()
    here.store.store("", [uid], StoreMode.ADD, [f"k{n}" for n in range(26)])
    with pytest.raises(MailError) as refused:
        here.store.store("", [uid], StoreMode.ADD, ["one-more"])
    assert refused.value.imap == "LIMIT"
    assert len(here.flags()[uid]) == 26


def test_unchanged_since(here):
    first, second = here.add(), here.add()
    before = here.store.snapshot("").modseq
    here.store.store("", [first], StoreMode.ADD, ["\\Seen"])
    _, failed = here.store.store("", [first, second], StoreMode.ADD, ["\\Deleted"], before)
    assert failed == [first]
    assert here.flags() == {first: {"\\Seen"}, second: {"\\Deleted"}}


def test_each_change_is_published_with_its_mod_sequence(here):
    known = here.store.snapshot("")
    first, second = here.add(), here.add()
    here.store.store("", [first], StoreMode.ADD, ["\\Seen"])
    here.store.remove("", ["1800000000.2.test"])
    for change in here.changes:
        assert change.modseq == known.modseq + 1
        known = known.after(
            modseq=change.modseq,
            added=change.added,
            changed=change.changed,
            expunged=change.expunged,
            uidnext=change.uidnext,
            keywords=change.keywords,
        )
    fresh = here.store.snapshot("")
    for name in ("uids", "flags", "modseqs", "sizes", "dates", "modseq", "uidnext"):
        assert getattr(known, name) == getattr(fresh, name), name
    assert list(fresh.uids) == [first]
    assert second == first + 1


def test_what_happened_since_a_snapshot(here):
    first, second = here.add(), here.add()
    known = here.store.snapshot("")
    here.store.store("", [first], StoreMode.ADD, ["\\Flagged"])
    here.store.remove("", ["1800000000.2.test"])
    third = here.add()
    change = here.store.since("", known)
    assert [one.uid for one in change.added] == [third]
    assert [(uid, bits) for uid, bits, _ in change.changed] == [(first, FLAGGED)]
    assert change.expunged == [second]
    assert here.store.vanished("", known.modseq) == [second]
    assert here.store.vanished("", 0) is None


def test_what_another_program_does_is_found(here):
    first, second = here.add(), here.add()
    (old, other) = here.files()
    new = os.path.join(here.store.maildir, "new")
    os.rename(os.path.join(new, old), os.path.join(here.store.maildir, "cur", f"{old}:2,FS"))
    before = here.store.snapshot("").modseq
    assert here.store.examine("", {("new", old), ("cur", f"{old}:2,FS")}) == []
    assert here.flags() == {first: {"\\Flagged", "\\Seen"}, second: set()}
    assert here.store.snapshot("").modseq == before + 1
    os.unlink(os.path.join(new, other))
    assert here.store.examine("", {("new", other)}) == ["1800000000.2.test"]
    with open(os.path.join(new, "17.x.y"), "wb") as file:
        file.write(b"Subject: new\n\n")
    assert here.store.examine("", {("new", "17.x.y")}) == ["1800000000.2.test"]
    assert set(here.flags()) == {first, second, second + 1}


def test_our_own_changes_make_nobody_look(here):
    uid = here.add()
    (name,) = here.files()
    here.store.store("", [uid], StoreMode.ADD, ["\\Seen"])
    looked = []
    here.store.refresh = lambda folder: looked.append(folder) or []
    assert here.store.examine("", {("new", name), ("cur", f"{name}:2,S")}) == []
    assert looked == []


def test_mod_sequences_and_uids_go_on_after_an_unclean_stop(here):
    uid = here.add()
    here.store.store("", [uid], StoreMode.ADD, ["\\Seen"])
    before = here.store.snapshot("")
    here.store.release()
    here.open(generation=2)
    after = here.store.snapshot("")
    assert after.uids == before.uids
    assert after.modseq > before.modseq
    assert after.modseqs[0] > before.modseq
    assert after.uidnext > before.uidnext
    assert here.store.since("", before) is None


def test_status(here):
    here.add("", ("\\Seen",))
    here.add("", ("\\Deleted",))
    here.add()
    status = here.store.status("")
    assert (status.messages, status.unseen, status.deleted) == (3, 2, 1)
    assert status.size == 3 * status.deleted_size == 3 * 18
    assert here.store.usage() == (45, 3)


def test_moved_messages_keep_their_base_and_their_keywords_by_name(here):
    here.store.store("", [here.add()], StoreMode.ADD, ["Other"])
    uid = here.add("", ("Work", "\\Seen"))
    sent = here.id("Sent")
    here.store.move("", sent, ["1800000000.2.test"])
    assert here.flags(sent) == {1: {"Work", "\\Seen"}}
    assert uid not in here.flags()
    assert here.files(".Sent")[0].startswith("1800000000.2.test,")


def test_subscriptions(here):
    here.store.folders.subscribe("Été/x", True)
    here.store.folders.subscribe("Nowhere", True)
    here.store.folders.subscribe("Nowhere", False)
    here.store.folders.subscribe("Junk", False)
    assert here.store.folders.subscriptions() == [
        *("INBOX", "Drafts", "Sent", "Trash", "Archive", "Été/x")
    ]


def test_annotations(here):
    sent = here.id("Sent")
    here.store.folders.set_metadata(sent, {"/private/comment": b"\x00x", "/shared/a": b""}, 10)
    here.store.folders.set_metadata(sent, {"/shared/a": None}, 10)
    here.open()
    assert here.store.folders.metadata(sent) == {"/private/comment": b"\x00x"}
    assert here.store.folders.metadata(None) == {}
    with pytest.raises(MailError):
        here.store.folders.set_metadata(None, {"/a": b"", "/b": b""}, 1)


# -- Dovecot


def test_a_maildir_of_dovecots_is_taken_over(tmp_path):
    maildir = tmp_path / "a" / "Maildir"
    for folder in ("", ".Work.Plans"):
        for sub in ("new", "cur", "tmp"):
            (maildir / folder / sub).mkdir(parents=True)
    (maildir / "cur" / "1795251164.M1P2.vm,S=25,W=29:2,Sb").write_bytes(
        b"From: a@b\nSubject: x\n\nhi\n"
    )
    (maildir / "cur" / "1795251165.M1P2.vm:2,").write_bytes(b"x: y\n\n")
    (maildir / "new" / "1795251166.M1P2.vm").write_bytes(b"new: y\n\n")
    (maildir / "dovecot-uidlist").write_bytes(
        b"3 V1795251100 N9 Gx\n5 :1795251164.M1P2.vm,S=25,W=29\n8 Pown :1795251165.M1P2.vm:2,\n"
    )
    (maildir / "dovecot-keywords").write_bytes(b"0 Foo\n1 $Junk\n")
    (maildir / "subscriptions").write_bytes(b"V\t2\n\nWork\tPlans\n")
    here = Here(tmp_path / "a")
    assert here.store.refresh() == []
    for _ in range(2):
        snapshot = here.store.snapshot("")
        assert snapshot.validity == 1795251100
        assert list(snapshot.uids) == [5, 8, 9]
        assert here.flags()[5] == {"\\Seen", "$Junk"}
        assert [row[7] for row in here.store.rows()] == ["000000056b015b9c", "own", None]
        # Nothing but what was there: Dovecot's user has the folders that he made.
        assert names(here) == ["INBOX", "Work/Plans"]
        assert here.store.folders.subscriptions() == ["Work/Plans"]
        # The index is lost: the names tell the same.
        here.store.release()
        os.unlink(os.path.join(here.home, "index.sqlite3"))
        here.open()
        here.store.refresh()
    assert here.add() > 9
    here.store.release()


def test_bits_are_what_the_session_says(here):
    uid = here.add("", ("\\Seen", "\\Deleted"))
    assert here.store.snapshot("").flags[0] == SEEN | DELETED
    assert uid == 1


def test_junk_goes_to_the_folder_with_that_use_whatever_it_is_called(tmp_path):
    here = Here(tmp_path, furnished=False)
    # A new account gets its folders for it
    assert here.store.folders.junk() == here.id("Junk")
    assert {box.name for box in here.store.folders.all()} >= {"INBOX", "Junk", "Sent"}
    here.store.folders.rename("Junk", "Spam")
    assert here.store.folders.junk() == here.id("Spam")
    # One that its user has removed is made anew
    here.store.folders.remove(here.id("Spam"), str(tmp_path / "gone"))
    made = here.store.folders.junk()
    assert made == here.id("Junk")
    assert here.store.folders.find("Junk").special_use == ("\\Junk",)


def test_junk_goes_to_a_folder_of_that_name_without_the_use(tmp_path):
    here = Here(tmp_path)
    here.store.folders.remove(here.id("Junk"), str(tmp_path / "gone"))
    own = here.store.folders.create("Junk")
    assert here.store.folders.junk() == own


# -- many folders


def test_making_one_reads_no_more_when_there_are_many(here, monkeypatch):
    reads = []
    real = here.disk.open

    def opened(path, *args):
        reads.append(path)
        return real(path, *args)

    create = here.store.folders.create
    create("First")
    monkeypatch.setattr(here.disk, "open", opened)
    counts = []
    for number in range(30):
        reads.clear()
        create(f"Work/{number}")
        counts.append(len(reads))
    assert len(set(counts)) == 1
    assert len(here.store.folders.all()) == 37


def test_a_name_that_is_taken_whoever_took_it(here):
    other = Here(here.home)
    create = here.store.folders.create
    create("First")
    other.store.folders.create("Second")
    long = "x" * 250
    other.store.folders.create(long)
    # As another program writes it
    for sub in ("cur", "new", "tmp"):
        os.makedirs(os.path.join(here.home, "Maildir", ".Ärger", sub))
    for name in ("First", "Second", long, "Ärger"):
        with pytest.raises(MailError) as caught:
            create(name)
        assert caught.value.imap == "ALREADYEXISTS", name
    other.store.folders.remove(other.id("Second"), os.path.join(here.home, "gone"))
    other.store.release()
    create("Second")
    assert here.store.folders.find("Second").name == "Second"
