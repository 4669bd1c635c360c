"""Dovecot's Maildirs: what is read of them, and taken over; interrupted, twice, beside mail that is here already."""

from __future__ import annotations

import os

import pytest
from stopping import Stop

from twisted_mail.disk import OsDisk
from twisted_mail.status import MailError
from twisted_mail.storage.account import AccountStore, Filling
from twisted_mail.storage.importing import Method, TakeOver
from twisted_mail.storage.importing_dovecot import (
    NotForUsError,
    read_config,
    read_dovecot,
    uidl_format,
    usual_use,
)
from twisted_mail.storage.progress import InterruptedImportError
from twisted_mail.storage.source import InlineSource

NOW = 1_800_000_000.0
VALIDITY = 1_400_000_000


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


class Theirs:
    """A Maildir as Dovecot leaves it. Messages are (uid or 0, sub, flags); a P-field for those in `named`."""

    def __init__(self, root, control=None):
        self.root = root
        self.control = control
        self.count = 0

    def folder(self, directory, messages, keywords=(), uidnext=None, named=None):
        path = self.root / directory
        for part in ("new", "cur", "tmp"):
            (path / part).mkdir(parents=True)
        lines = []
        for uid, sub, flags in messages:
            self.count += 1
            base = f"1500000{self.count:03}.M{self.count}P1.h"
            text = f"Subject: {self.count}\n\ntext {self.count}\n"
            name = f"{base},S={len(text)}"
            write(path / sub / (f"{name}:2,{flags}" if flags is not None else name), text)
            os.utime(
                path / sub / (f"{name}:2,{flags}" if flags is not None else name), (5, self.count)
            )
            if uid:
                own = f" P{named[uid]}" if named and uid in named else ""
                lines.append(f"{uid}{own} :{name}\n")
        top = max([uid for uid, *_ in messages], default=0)
        beside = path if self.control is None else self.control / (directory or ".INBOX")
        head = f"3 V{VALIDITY} N{uidnext or top + 1} Gabc\n"
        write(beside / "dovecot-uidlist", head + "".join(lines))
        if keywords:
            write(
                beside / "dovecot-keywords",
                "".join(f"{n} {one}\n" for n, one in enumerate(keywords)),
            )


@pytest.fixture
def theirs(tmp_path):
    made = Theirs(tmp_path / "d")
    made.folder(
        "",
        [(3, "cur", "S"), (7, "cur", "FSab"), (9, "cur", ""), (12, "new", None), (0, "new", None)],
        keywords=("$Junk", "Todo"),
        uidnext=20,
        named={9: "own-name"},
    )
    made.folder(".Work.Plans", [(1, "cur", "R")])
    made.folder(".Gesendet", [])
    made.folder(".Entw&APw-rfe", [])
    write(tmp_path / "d/subscriptions", "V\t2\n\nWork\tPlans\nGone\n")
    return made


class Ours:
    def __init__(self, home, disk=None):
        self.disk = disk or OsDisk()
        self.home = str(home)
        self.store = AccountStore(
            self.disk, self.home, generation=1, now=lambda: NOW, entropy=os.urandom
        )
        self.store.prepare()

    def id(self, name):
        return self.store.folders.find(name).folder

    def deliver(self, folder="", count=1):
        """As another process, or this one, does it."""
        uids = []
        for number in range(count):
            text = b"Subject: delivered\n\n"
            source = InlineSource(
                self.disk, self.home, [text], size=len(text), wire=len(text) + 2, ascii_size=None
            )
            base = f"1800000000.{os.urandom(6).hex()}{number}.here"
            filling = Filling(folder, base, source, None, None)
            assert self.store.fill([filling]) == []
            source.close()
            uids.append(filling.uid)
        return uids

    def state(self, name):
        """UIDVALIDITY, UIDNEXT, and UID → flags."""
        id_ = self.id(name)
        assert self.store.refresh(id_) == []
        snapshot = self.store.snapshot(id_)
        return (
            snapshot.validity,
            snapshot.uidnext,
            {
                uid: set(snapshot.names(bits))
                for uid, bits in zip(snapshot.uids, snapshot.flags, strict=True)
            },
        )

    def uidls(self):
        return {row[0]: row[7] for row in self.store.rows()}


@pytest.fixture
def ours(tmp_path):
    made = Ours(tmp_path / "a")
    yield made
    made.store.release()


def take(ours, theirs, *, merge=False, control=None, **how):
    source = read_dovecot(OsDisk(), str(theirs.root), control)
    way = TakeOver(ours.disk, ours.store, str(theirs.root), source, **how)
    left_out = way.begin(merge=merge)
    reports = way.run(left_out)
    way.finish(reports)
    return {one.name: one for one in reports}


INBOX = {3: {"\\Seen"}, 7: {"\\Flagged", "\\Seen", "$Junk", "Todo"}, 9: set(), 12: set(), 20: set()}


@pytest.mark.parametrize("method", list(Method))
def test_all_that_clients_know_stays(ours, theirs, method):
    before = sorted(path.name for path in theirs.root.rglob("*:2,*"))
    reports = take(ours, theirs, method=method, uses={"Gesendet": "\\Sent"})
    assert ours.state("INBOX") == (VALIDITY, 21, INBOX)
    assert ours.state("Work/Plans") == (VALIDITY, 2, {1: {"\\Answered"}})
    assert [box.name for box in ours.store.folders.all()] == [
        "INBOX", "Entwürfe", "Gesendet", "Work/Plans",
    ]  # fmt: skip
    assert ours.store.folders.find("Gesendet").special_use == ("\\Sent",)
    assert ours.store.folders.subscriptions() == ["Work/Plans", "Gone"]
    assert (reports["INBOX"].taken, reports["INBOX"].new, reports["INBOX"].wrong) == (5, 1, [])
    usual = {uid: f"{uid:08x}{VALIDITY:08x}" for uid in (3, 7, 12)}
    assert ours.uidls() == {**usual, 9: "own-name", 20: None}
    assert list(ours.store.snapshot("").dates) == [1, 2, 3, 4, 5]
    left = sorted(path.name for path in theirs.root.rglob("*:2,*"))
    assert left == ([] if method is Method.MOVE else before)
    assert not {"importing", "importing.json"} & set(os.listdir(ours.home))


def test_the_index_may_be_lost_afterwards(ours, theirs, tmp_path):
    take(ours, theirs)
    uidls = ours.uidls()
    ours.store.release()
    os.unlink(tmp_path / "a/index.sqlite3")
    again = Ours(tmp_path / "a")
    assert again.state("INBOX")[0::2] == (VALIDITY, INBOX)
    assert again.uidls() == uidls
    again.store.release()


def test_pop3_names_of_another_format(ours, theirs, tmp_path):
    take(ours, theirs, uidl=uidl_format("%v-%05u"))
    assert ours.uidls()[7] == f"{VALIDITY}-00007"
    ours.store.release()
    os.unlink(tmp_path / "a/index.sqlite3")
    again = Ours(tmp_path / "a")
    again.state("INBOX")
    assert again.uidls()[7] == f"{VALIDITY}-00007"
    again.store.release()


def test_pop3_names_beside_a_file_with_two_uids(ours, theirs, tmp_path):
    """What was expunged and moved back gets another line in Dovecot's list."""
    uidlist = theirs.root / "dovecot-uidlist"
    first = uidlist.read_text().splitlines()[1]
    assert first.startswith("3 :")
    uidlist.write_text(f"{uidlist.read_text()}15{first[1:]}\n")
    take(ours, theirs)
    assert list(ours.state("INBOX")[2]) == [7, 9, 12, 15, 20]
    assert ours.uidls()[9] == "own-name"
    ours.store.release()
    os.unlink(tmp_path / "a/index.sqlite3")
    again = Ours(tmp_path / "a")
    assert list(again.state("INBOX")[2]) == [7, 9, 12, 15, 20]
    assert again.uidls()[9] == "own-name"
    again.store.release()


def test_control_elsewhere(ours, tmp_path):
    theirs = Theirs(tmp_path / "d", tmp_path / "c")
    theirs.folder("", [(3, "cur", "a")], keywords=("Todo",))
    theirs.folder(".Work", [(4, "cur", "")])
    write(tmp_path / "c/subscriptions", "V\t2\n\nWork\n")
    with pytest.raises(NotForUsError, match="CONTROL="):
        take(ours, theirs, control=str(tmp_path))
    take(ours, theirs, control=str(tmp_path / "c"))
    assert ours.state("INBOX") == (VALIDITY, 4, {3: {"Todo"}})
    assert ours.state("Work") == (VALIDITY, 5, {4: set()})
    assert ours.store.folders.subscriptions() == ["Work"]


def test_a_maildir_that_dovecot_never_saw(ours, theirs):
    for path in theirs.root.rglob("dovecot-uidlist"):
        path.unlink()
    take(ours, theirs)
    validity, uidnext, messages = ours.state("INBOX")
    assert validity != VALIDITY
    assert (uidnext, list(messages)) == (6, [1, 2, 3, 4, 5])


def test_the_folders_of_a_new_account_are_taken_over_too(ours, theirs):
    ours.store.folders.furnish()
    sent = ours.id("Sent")
    theirs.folder(".Trash", [(2, "cur", "")])
    trash = ours.id("Trash")
    take(ours, theirs, uses={"Gesendet": "\\Sent", "Trash": "\\Trash"})
    assert ours.state("Trash") == (VALIDITY, 3, {2: set()})
    assert ours.id("Trash") == trash
    assert ours.store.folders.find("Gesendet").special_use == ("\\Sent",)
    assert (ours.id("Sent"), ours.store.folders.find("Sent").special_use) == (sent, ())


# -- mail that is here already


def test_an_account_with_mail_is_refused(ours, theirs):
    ours.deliver()
    before = ours.state("INBOX")
    with pytest.raises(NotForUsError, match="INBOX: 1"):
        take(ours, theirs)
    assert ours.state("INBOX") == before
    assert "importing.json" not in os.listdir(ours.home)


def test_merged_what_is_here_comes_behind(ours, theirs):
    ours.deliver(count=2)
    (first, second) = [row[1] for row in ours.store.rows()]
    take(ours, theirs, merge=True)
    validity, uidnext, messages = ours.state("INBOX")
    assert (validity, uidnext) == (VALIDITY, 23)
    assert messages == {**INBOX, 21: set(), 22: set()}
    assert [row[1] for row in ours.store.rows() if row[0] > 20] == sorted([first, second])


def test_what_came_later_can_be_fetched_later(ours, theirs):
    take(ours, theirs)
    ours.store.remove("", [ours.store.rows()[0][1]])
    (delivered,) = ours.deliver()
    uidlist = theirs.root / "dovecot-uidlist"
    name = "1600000000.late.h"
    write(theirs.root / "cur" / f"{name}:2,S", "Subject: late\n\n")
    uidlist.write_text(uidlist.read_text().replace("N20", "N21") + f"20 :{name}\n")
    reports = take(ours, theirs, merge=True)
    assert reports["INBOX"].taken == 1
    _, uidnext, messages = ours.state("INBOX")
    kept = {uid: flags for uid, flags in INBOX.items() if uid != 3}
    # 20 was given here; and what was deleted here stays so
    assert messages == {**kept, delivered: set(), delivered + 1: {"\\Seen"}}
    assert uidnext == delivered + 2


def test_mail_of_another_dovecot_is_left_alone(ours, theirs, tmp_path):
    take(ours, theirs)
    other = Theirs(tmp_path / "other")
    other.folder("", [(1, "cur", "")])
    other.folder(".More", [(1, "cur", "")])
    uidlist = other.root / "dovecot-uidlist"
    uidlist.write_text(uidlist.read_text().replace(str(VALIDITY), "77"))
    reports = take(ours, other, merge=True)
    assert list(reports) == ["More"]
    assert ours.state("INBOX") == (VALIDITY, 21, INBOX)


# -- another process


def test_a_process_that_has_the_account_open_goes_on_with_it(ours, theirs, tmp_path):
    server = Ours(tmp_path / "a")
    server.store.folders.furnish()
    assert server.state("INBOX")[2] == {}
    known = server.store.snapshot("")
    take(ours, theirs)
    (uid,) = server.deliver()
    assert uid == 21
    assert server.state("INBOX") == (VALIDITY, 22, {**INBOX, 21: set()})
    assert server.store.since("", known) is None
    assert server.uidls() == ours.uidls()
    assert ours.state("INBOX") == server.state("INBOX")
    server.store.release()


# -- interrupted


@pytest.mark.parametrize("method", [Method.COPY, Method.LINK])
def test_it_goes_on_after_being_stopped_anywhere(theirs, tmp_path, method):
    ends = 0
    for steps in range(40):
        ours = Ours(tmp_path / f"a{steps}")
        try:
            take(ours, theirs, method=method, progress=Stop(steps))
            ends += 1
        except InterruptedImportError:
            assert take(ours, theirs, method=method)
        validity, _, messages = ours.state("INBOX")
        assert (validity, messages) == (VALIDITY, INBOX), steps
        assert ours.state("Work/Plans")[::2] == (VALIDITY, {1: {"\\Answered"}})
        assert not {"importing", "importing.json"} & set(os.listdir(ours.home))
        ours.store.release()
    assert 0 < ends < 30


def test_another_import_has_to_wait(ours, theirs, tmp_path):
    with pytest.raises(InterruptedImportError):
        take(ours, theirs, progress=Stop(7))
    other = Theirs(tmp_path / "other")
    other.folder("", [])
    with pytest.raises(NotForUsError, match="not finished"):
        take(ours, other)
    take(ours, theirs)


class Faulty(OsDisk):
    """Fails the Nth operation that changes something."""

    def __init__(self):
        self.left = 10**9

    def _count(self):
        self.left -= 1
        if self.left == 0:
            raise OSError(28, "No space left on device")

    def rename(self, source, target):
        self._count()
        super().rename(source, target)

    def write(self, fd, data):
        self._count()
        super().write(fd, data)

    def sync_directory(self, path):
        self._count()
        super().sync_directory(path)

    def link(self, source, target):
        self._count()
        super().link(source, target)


@pytest.mark.parametrize("method", [Method.COPY, Method.LINK])
def test_every_operation_may_fail(theirs, tmp_path, method):
    failed = 0
    for number in range(1, 200):
        disk = Faulty()
        ours = Ours(tmp_path / f"a{number}", disk)
        disk.left = number
        try:
            take(ours, theirs, method=method)
            over = disk.left > 0
        except (OSError, MailError):
            failed += 1
            over = False
            disk.left = 10**9
            # All had been done, but for the last name's being synced.
            if os.path.exists(tmp_path / f"a{number}/importing.json") or not ours.store.rows():
                take(ours, theirs, method=method)
        validity, _, messages = ours.state("INBOX")
        # One that Dovecot has not seen gets a UID that was never given.
        assert validity == VALIDITY, number
        assert [messages.pop(uid, None) for uid in (3, 7, 9, 12)] == list(INBOX.values())[:4], (
            number
        )
        assert [uid >= 20 for uid in messages] == [True], number
        ours.store.release()
        if over:
            break
    assert failed > 20


# -- what is refused


def test_compressed_files_are_refused_before_anything_is_done(ours, theirs):
    write(theirs.root / ".Gesendet/cur" / "1600000000.z.h,S=100:2,S", b"\x1f\x8b\x08rest")
    with pytest.raises(NotForUsError, match="gzip"):
        take(ours, theirs)
    assert ours.state("INBOX")[2] == {}
    assert "importing.json" not in os.listdir(ours.home)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (("mailboxes/x", "storage/m.1"), "mdbox"),
        (("mailboxes/x",), "sdbox"),
        (("new/x", "cur/x", "Work/cur/x", "Work/new/x"), "LAYOUT=fs"),
        (("new/x", "cur/x", "A/B/cur/x", "A/B/new/x"), "LAYOUT=fs"),
        (("Maildir/new/x", "Maildir/cur/x"), "perhaps .*Maildir is meant"),
        (("x",), "not a Maildir"),
    ],
)
def test_what_is_no_maildir_of_this_kind(tmp_path, made, said):
    for path in made:
        write(tmp_path / "d" / path, "")
    with pytest.raises(NotForUsError, match=said):
        read_dovecot(OsDisk(), str(tmp_path / "d"))


def test_names_in_utf8_and_names_that_cannot_be(tmp_path):
    theirs = Theirs(tmp_path / "d")
    theirs.folder("", [])
    for name in (".Ünï.ß", ".&ANw-n&AO8-.&AN8-", ".a..b", ".INBOX"):
        theirs.folder(name, [])
    source = read_dovecot(OsDisk(), str(tmp_path / "d"))
    assert [folder.name for folder in source.folders] == ["INBOX", "Ünï/ß"]
    assert [name for name, _ in source.left_out] == [".INBOX", ".a..b", ".Ünï.ß"]


# -- its configuration

CONF = """\
# 2.3.19.1
mail_location = maildir:~/Maildir
namespace shared {
  prefix = shared/
  separator = /
}
namespace inbox {
  inbox = yes
  location =
  mailbox "Sent Messages" {
    special_use = \\Sent
  }
  mailbox Old.Junk {
    auto = subscribe
    special_use = \\Junk
  }
  mailbox Nothing {
    auto = create
  }
  prefix = INBOX.
  separator = .
}
protocol pop3 {
  pop3_uidl_format = %g
}
"""


def test_what_doveconf_says():
    config = read_config(CONF)
    assert (config.separator, config.prefix, config.pop3_uidl_format) == (".", "INBOX.", "%g")
    assert dict(config.uses) == {"Sent Messages": "\\Sent", "Old/Junk": "\\Junk"}
    plain = read_config("namespace inbox {\n  separator = /\n}\n")
    assert (plain.separator, plain.prefix, plain.pop3_uidl_format) == ("/", "", "%08Xu%08Xv")
    assert read_config("}\n}\nx {").separator == "."


def test_uses_by_name():
    assert usual_use(["INBOX", "Sent", "Sent Messages", "SPAM", "INBOX/Trash", "x"]) == {
        "Sent": "\\Sent",
        "SPAM": "\\Junk",
        "INBOX/Trash": "\\Trash",
    }


@pytest.mark.parametrize(
    ("text", "made"),
    [
        # as Dovecot 2.3 says them
        ("%f", "17.M1.vm,S=30,W=34"), ("%g", "17.M1.vm,S=30,W=34"), ("%u.%v", "11.1795253783"),
        ("%v-%5u", "1795253783-11"), ("%v-%05u", "1795253783-00011"), ("%Xu-%08Uv", "b-1795253783"),
    ],
)  # fmt: skip
def test_formats_of_pop3_names(text, made):
    assert uidl_format(text)(11, 1795253783, "17.M1.vm,S=30,W=34") == made


def test_formats_that_cannot_be_made():
    assert uidl_format("%08Xu%08Xv") is None
    for text in ("%Mf", "%m", "x", ""):
        with pytest.raises(NotForUsError):
            uidl_format(text)
