"""What a backup is made of, what it takes, and what is left of one that was not finished."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import stat
from random import Random

import pytest
from backing import Clock, back_up, contents, put_back, start
from filing_site import account, append, bases, message, move
from store_site import Site

from twisted_mail.backup import BackupError, complete, newest, restore
from twisted_mail.backup.checking import check
from twisted_mail.disk import OsDisk
from twisted_mail.status import MailError
from twisted_mail.testing.disk import FaultyDisk, HookedDisk, PowerCutDisk

A, B, C = "d/a", "d/b", "c"
DISK = OsDisk()


def letter(number, size=20):
    return b"Subject: %d\n\n" % number + b"x" * size + b"\n"


@pytest.fixture
def site(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    for n in range(5):
        site.deliver(letter(n), A, B, C)
    append(site, A, "Work", message(letter(10), ("\\Seen",), 1_700_000_000))
    site.enqueue(letter(20), "q1", "x@one.example")
    os.makedirs(os.path.join(site.data, "dkim"))
    with open(os.path.join(site.data, "dkim", "key"), "wb") as file:
        file.write(b"secret")
    db = sqlite3.connect(os.path.join(site.data, "accounts.sqlite3"))
    db.execute("CREATE TABLE t (x)")
    db.commit()
    db.close()
    contents(site, A)
    return site


def files(path):
    found = {}
    for directory, _, names in os.walk(path):
        for name in names:
            full = os.path.join(directory, name)
            found[os.path.relpath(full, path)] = os.stat(full)
    return found


def letters(path):
    return {
        name: status
        for name, status in files(path).items()
        if name.startswith("data/mail/") and name.rsplit("/", 2)[1] in ("new", "cur")
    }


def read(path):
    with open(path, "rb") as file:
        return file.read()


def test_what_is_in_it_and_who_may_read_it(site, tmp_path):
    os.mkdir(os.path.join(site.data, "processes"))
    with open(os.path.join(site.data, "processes", "12"), "wb") as file:
        file.write(b"x")
    made = back_up(site, tmp_path / "to", Clock())
    assert os.path.basename(made.path) == "2027-01-15T08-00-01Z"
    found = files(made.path)
    assert {"backup.json", "manifest.sqlite3", "data/site.json", "data/dkim/key"} <= set(found)
    assert {"data/accounts.sqlite3", "data/queue.sqlite3", "data/queue/q1/q1"} <= set(found)
    assert len(letters(made.path)) == 16
    for name, status in found.items():
        assert stat.S_IMODE(status.st_mode) == 0o600, name
        assert not name.endswith(("-wal", "-shm", "lock", "digests.sqlite3")), name
    assert not any("processes" in name or "writers" in name for name in found)
    assert stat.S_IMODE(os.stat(made.path).st_mode) == 0o700
    about = json.loads(read(os.path.join(made.path, "backup.json")))
    assert (about["format"], about["hostname"], about["site"]) == (1, "test", 3)
    assert about["files"] == len(found) - 2
    assert not made.skipped
    assert check(DISK, made.path) == []


def test_the_second_one_is_links(site, tmp_path):
    clock = Clock()
    first = back_up(site, tmp_path / "to", clock)
    one = bases(site, A, "INBOX", letter(1))
    move(site, A, "INBOX", one, "Work")
    site.deliver(letter(30), A)
    second = back_up(site, tmp_path / "to", clock)
    before = {status.st_ino for status in letters(first.path).values()}
    now = letters(second.path)
    new = [name for name, status in now.items() if status.st_ino not in before]
    assert len(now) == 17
    assert [read(os.path.join(second.path, name)) for name in new] == [letter(30)]
    assert all(status.st_nlink >= 2 for name, status in now.items() if name not in new)
    # dkim's key, the site's accounts: the same as last time
    for name in ("data/dkim/key", "data/accounts.sqlite3"):
        assert os.stat(os.path.join(second.path, name)).st_nlink == 2, name
    assert second.about.copied < second.about.files
    assert check(DISK, first.path) == check(DISK, second.path) == []
    # and each stands alone
    shutil.rmtree(first.path)
    assert check(DISK, second.path) == []
    third = back_up(site, tmp_path / "to", clock, full=True)
    assert {one.st_ino for one in letters(third.path).values()}.isdisjoint(
        one.st_ino for one in now.values()
    )


def test_data_that_was_moved_to_another_file_system_is_linked_by_its_hashes(site, tmp_path):
    clock = Clock()
    site.stop()
    first = back_up(site, tmp_path / "to", clock)
    shutil.copytree(site.data, tmp_path / "copy", copy_function=shutil.copy)
    site.data = str(tmp_path / "copy")
    second = back_up(site, tmp_path / "to", clock)
    before = {status.st_ino for status in letters(first.path).values()}
    assert {status.st_ino for status in letters(second.path).values()} <= before


def test_another_message_of_the_same_size_is_not_taken_for_the_last_one(site, tmp_path):
    """A draft that is saved again: the same length, the same date, perhaps the same inode."""
    clock = Clock()
    back_up(site, tmp_path / "to", clock)
    folder = os.path.join(site.maildir(A), ".Work", "cur")
    (name,) = os.listdir(folder)
    path = os.path.join(folder, name)
    old = os.stat(path)
    with open(path, "r+b") as file:
        file.write(b"Subject: XX")
    os.utime(path, (old.st_atime, old.st_mtime + 1))
    made = back_up(site, tmp_path / "to", clock)
    assert read(os.path.join(made.path, "data/mail/d/a/Maildir/.Work/cur", name)).startswith(
        b"Subject: XX"
    )
    assert check(DISK, made.path) == []


def test_a_message_in_many_mailboxes_is_one_file(site, tmp_path):
    made = back_up(site, tmp_path / "to", Clock())
    assert len({one.st_ino for one in letters(made.path).values()}) == 6
    site.kill()
    put_back(made, tmp_path / "new")
    assert len({one.st_ino for one in letters_of(tmp_path / "new").values()}) == 6


def letters_of(data):
    return letters_in(data, "mail/")


def letters_in(path, prefix):
    return {
        name: status
        for name, status in files(path).items()
        if name.startswith(prefix) and name.rsplit("/", 2)[1] in ("new", "cur")
    }


def test_only_the_last_ones_are_kept_and_nothing_else_is_touched(site, tmp_path):
    to = tmp_path / "to"
    clock = Clock()
    os.makedirs(to / "2020-01-01T00-00-00Z")  # somebody's own, and no backup
    os.makedirs(to / "mine")
    # What was being made, and removed, when somebody was killed
    os.makedirs(to / "2021-01-01T00-00-00Z.partial" / "data")
    os.makedirs(to / "2021-01-02T00-00-00Z.removing")
    names = [os.path.basename(back_up(site, to, clock).path) for _ in range(3)]
    last = back_up(site, to, clock, keep=2)
    assert list(last.removed) == names[:2]
    assert sorted(os.listdir(to)) == sorted(
        [".lock", "2020-01-01T00-00-00Z", "mine", names[2], os.path.basename(last.path)]
    )
    assert complete(DISK, str(to)) == [names[2], os.path.basename(last.path)]
    assert newest(DISK, str(to)) == last.path
    assert check(DISK, last.path) == []


def test_directories_that_lie_in_each_other_are_refused(site, tmp_path):
    for target in (site.data, os.path.join(site.data, "backups"), str(tmp_path)):
        with pytest.raises(BackupError, match="one lies in the other"):
            back_up(site, target, Clock())
    os.symlink(site.data, tmp_path / "link")
    with pytest.raises(BackupError, match="one lies in the other"):
        back_up(site, tmp_path / "link" / "backups", Clock())


def test_one_at_a_time(site, tmp_path):
    failed = []

    class Second(HookedDisk):
        def syncfs(self, fd):
            with pytest.raises(BackupError, match="another backup is being made"):
                back_up(site, tmp_path / "to", Clock(1_900_000_000))
            failed.append(1)

    back_up(site, tmp_path / "to", Clock(), disk=Second())
    assert failed


def test_nothing_outside_is_read(site, tmp_path):
    """The data belong to somebody who may be asked to give away what he cannot read."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"root's own")
    os.symlink(secret, os.path.join(site.maildir(A), "cur", "1.x.y:2,"))
    os.symlink(secret, os.path.join(site.data, "dkim", "link"))
    os.mkfifo(os.path.join(site.maildir(A), "cur", "2.x.y:2,"))
    made = back_up(site, tmp_path / "to", Clock())
    assert len(made.skipped) >= 3
    assert b"root's own" not in b"".join(
        read(os.path.join(made.path, name)) for name in files(made.path)
    )


def test_a_link_to_nowhere_is_left_out(site, tmp_path):
    """Whoever has a shell can make one: the others' backup does not wait for him."""
    os.symlink("nowhere", os.path.join(site.maildir(A), "cur", "1.x.y:2,"))
    made = back_up(site, tmp_path / "to", Clock())
    (told,) = made.skipped
    assert "1.x.y:2,: a link" in told
    assert check(DISK, made.path) == []


@pytest.mark.parametrize("sub", ["new", "cur"])
def test_a_folder_that_lacks_a_directory(site, tmp_path, sub):
    """As it is after a copy that knew no empty ones."""
    account(site, A).folders.create("Half")
    os.rmdir(os.path.join(site.maildir(A), ".Half", sub))
    made = back_up(site, tmp_path / "to", Clock())
    assert check(DISK, made.path) == []
    before = contents(site, A)
    assert "Half" in before
    site.kill()
    put_back(made, tmp_path / "new")
    assert contents(start(tmp_path / "new"), A) == before


def test_names_that_are_not_utf8(site, tmp_path):
    odd = os.fsencode(site.maildir(B)) + b"/cur/1.\xff\xfe.x:2,S"
    with open(odd, "wb") as file:
        file.write(letter(40))
    made = back_up(site, tmp_path / "to", Clock())
    assert check(DISK, made.path) == []
    put_back(made, tmp_path / "new")
    assert read(os.fsencode(tmp_path / "new") + b"/mail/d/b/Maildir/cur/1.\xff\xfe.x:2,S")


def test_an_empty_folder_is_a_folder_when_it_is_put_back(site, tmp_path):
    account(site, A).folders.create("Empty")
    before = contents(site, A)
    made = back_up(site, tmp_path / "to", Clock())
    site.kill()
    put_back(made, tmp_path / "new")
    assert contents(start(tmp_path / "new"), A) == before


def test_an_account_and_a_folder_that_went_are_not_in_the_second_one(site, tmp_path):
    clock = Clock()
    back_up(site, tmp_path / "to", clock)
    site.run(site.store.remove_account(B))
    made = back_up(site, tmp_path / "to", clock)
    assert not [name for name in files(made.path) if name.startswith("data/mail/d/b/")]
    assert [name for name in files(made.path) if name.startswith("data/removed/d_b")]


# -- what cannot be done


def test_every_operation_that_fails(site, tmp_path):
    """Nothing half is left, and the last one stays what it was."""
    to = tmp_path / "to"
    clock = Clock()
    first = back_up(site, to, clock)
    site.deliver(letter(50), A)
    total = FaultyDisk()
    back_up(site, to, clock, disk=total)
    count = 0
    for at in range(1, total.count, 7):
        disk = FaultyDisk(at, number=errno.ENOSPC)
        names = set(os.listdir(to))
        try:
            back_up(site, to, clock, disk=disk, full=True)
        except BackupError as error:
            assert "is full" in str(error)
            assert "untouched" in str(error) or "full" in str(error)
            count += 1
            assert set(os.listdir(to)) == names, disk.failed
        except OSError:
            assert set(os.listdir(to)) == names, disk.failed
    assert count > 5
    assert check(DISK, first.path) == []
    assert all(check(DISK, str(to / name)) == [] for name in complete(DISK, str(to)))


def test_the_disk_fills_up_for_good(site, tmp_path):
    """As it is in life: it stays full, and removing goes on."""
    to = tmp_path / "to"
    clock = Clock()
    first = back_up(site, to, clock)
    counted = ("open", "write", "mkdir")
    total = FaultyDisk(counted=counted)
    back_up(site, tmp_path / "count", clock, disk=total)
    disk = FaultyDisk(total.count // 2, number=errno.ENOSPC, lasting=True, counted=counted)
    with pytest.raises(BackupError, match=f"is full.*{os.path.basename(first.path)} is untouched"):
        back_up(site, to, clock, disk=disk, full=True)
    assert complete(DISK, str(to)) == [os.path.basename(first.path)]
    assert check(DISK, first.path) == []
    assert check(DISK, back_up(site, to, clock).path) == []


@pytest.mark.parametrize("seed", [None, 1])
def test_the_power_is_cut_while_one_is_made(site, tmp_path, seed):
    """What is called complete is whole, and the last one stays."""
    total = FaultyDisk()
    back_up(site, tmp_path / "count", Clock(), disk=total)
    seen = set()
    for at in sorted({*range(3, total.count, 23), *range(total.count - 6, total.count + 2)}):
        root = str(tmp_path / f"{at}")
        os.mkdir(root)
        clock = Clock()
        disk = PowerCutDisk(root)
        first = back_up(site, root + "/to", clock, disk=disk)
        disk.fail_at = disk.count + at
        try:
            back_up(site, root + "/to", clock, disk=disk, full=True, keep=2)
        except (OSError, BackupError):
            pass
        cut = f"{root}-cut"
        disk.after_cut(cut, luck=Random(seed * at) if seed else None)
        disk.close_all()
        names = complete(DISK, cut + "/to")
        assert os.path.basename(first.path) in names
        for name in names:
            assert check(DISK, os.path.join(cut, "to", name)) == [], (at, name)
        seen.add(len(names))
        shutil.rmtree(root)
        shutil.rmtree(cut)
    assert seen == {1, 2}


@pytest.mark.parametrize("seed", [None, 1])
def test_the_power_is_cut_while_one_is_put_back(site, tmp_path, seed):
    """A server refuses what is half there; what it takes is all there."""
    before = contents(site, A)
    made = back_up(site, tmp_path / "to", Clock())
    site.kill()
    total = FaultyDisk()
    restore(total, made.path, str(tmp_path / "count"), entropy=os.urandom)
    served = 0
    # Before the tenth there is nothing.
    for at in sorted({*range(10, total.count, 29), *range(total.count - 8, total.count + 2)}):
        root = str(tmp_path / f"{at}")
        os.mkdir(root)
        disk = PowerCutDisk(root, at)
        try:
            restore(disk, made.path, root + "/data", entropy=os.urandom)
        except OSError:
            pass
        cut = f"{root}-cut"
        disk.after_cut(cut, luck=Random(seed * at) if seed else None)
        disk.close_all()
        again = Site(cut + "/data", seed=at, boot="boot-9")
        try:
            again.start()
        except (ValueError, MailError) as error:
            assert "restore" in str(error)
        else:
            assert contents(again, A) == before, at
            served += 1
        again.kill()
    assert served


def test_killed_in_the_midst(site, tmp_path):
    to = tmp_path / "to"
    clock = Clock()
    first = back_up(site, to, clock)

    class Killed(BaseException):
        pass

    class Dying(HookedDisk):
        count = 0
        dead = False

        def before(self, name, args):
            self.count += 1
            if self.dead or self.count == 60:
                self.dead = True
                raise Killed

    with pytest.raises(Killed):
        back_up(site, to, clock, disk=Dying(), full=True)
    (left,) = [name for name in os.listdir(to) if name.endswith(".partial")]
    assert newest(DISK, str(to)) == first.path
    with pytest.raises(BackupError, match="no complete backup"):
        put_back(first.__class__(str(to / left), first.about, (), ()), tmp_path / "new")
    second = back_up(site, to, clock)
    assert left not in os.listdir(to)
    assert check(DISK, second.path) == []


def test_accounts_that_are_damaged_are_said_and_not_copied(site, tmp_path):
    with open(os.path.join(site.data, "accounts.sqlite3"), "r+b") as file:
        file.write(b"nonsense" * 100)
    with pytest.raises(BackupError, match=r"accounts.sqlite3 cannot be copied"):
        back_up(site, tmp_path / "to", Clock())


# -- a backup that is not what it was


def flip(path, at=5):
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def test_a_byte_that_flipped_is_found_in_every_file(site, tmp_path):
    clock = Clock()
    made = back_up(site, tmp_path / "to", clock)
    for name, status in files(made.path).items():
        if not status.st_size or name == "backup.json":
            continue
        path = os.path.join(made.path, name)
        at = status.st_size // 2
        flip(path, at)
        if name == "manifest.sqlite3":
            with pytest.raises(BackupError, match="hash"):
                check(DISK, made.path)
        else:
            wrong = check(DISK, made.path)
            assert wrong, name
            assert name in letters(made.path) or len(wrong) == 1
            assert any(line.startswith(f"{name}: damaged") for line in wrong)
            with pytest.raises(BackupError, match="is damaged or gone"):
                put_back(made, tmp_path / f"new{at}{len(name)}{hash(name)}")
        flip(path, at)
    assert check(DISK, made.path) == []


def test_what_is_missing_or_too_much_is_found(site, tmp_path):
    made = back_up(site, tmp_path / "to", Clock())
    os.unlink(os.path.join(made.path, "data/dkim/key"))
    with open(os.path.join(made.path, "data/dkim/other"), "wb"):
        pass
    assert check(DISK, made.path) == [
        "data/dkim/key: No such file or directory",
        "data/dkim/other: not in the manifest",
    ]


def test_the_rest_is_put_back_when_one_file_is_damaged(site, tmp_path):
    site.stop()
    made = back_up(site, tmp_path / "to", Clock())
    (bad,) = [name for name in letters(made.path) if "/.Work/" in name]
    flip(os.path.join(made.path, bad))
    done = put_back(made, tmp_path / "new", skip_damaged=True)
    assert done.damaged == (bad,)
    found = contents(start(tmp_path / "new"), A)
    assert len(found["INBOX"]) == 5 and found["Work"] == []


def test_a_manifest_that_is_damaged_is_not_linked_to(site, tmp_path):
    clock = Clock()
    first = back_up(site, tmp_path / "to", clock)
    flip(os.path.join(first.path, "manifest.sqlite3"), 5000)
    second = back_up(site, tmp_path / "to", clock)
    assert {one.st_ino for one in letters(second.path).values()}.isdisjoint(
        one.st_ino for one in letters(first.path).values()
    )
    assert check(DISK, second.path) == []


def test_a_newer_format_is_refused_and_says_what_to_do(site, tmp_path):
    made = back_up(site, tmp_path / "to", Clock())
    path = os.path.join(made.path, "backup.json")
    about = json.loads(read(path))
    for changed, text in (
        (
            {"format": 2, "server": "9.1"},
            r"version 2 .* knows 1; restore it with .*twisted_mail 9.1",
        ),
        ({"site": 4}, "version 4 of the format .* knows 3; use the newer program"),
    ):
        with open(path, "w") as file:
            json.dump({**about, **changed}, file)
        with pytest.raises(BackupError, match=text):
            put_back(made, tmp_path / "new")
    assert not os.path.exists(tmp_path / "new")
    with open(path, "w") as file:
        file.write("{")
    with pytest.raises(BackupError, match="damaged"):
        put_back(made, tmp_path / "new")


# -- putting it back


def test_nothing_is_overwritten(site, tmp_path):
    made = back_up(site, tmp_path / "to", Clock())
    for where in (site.data, made.path, str(tmp_path / "to"), os.path.join(made.path, "x")):
        with pytest.raises(BackupError, match=r"is not empty|lies in the other"):
            put_back(made, where)
    os.makedirs(tmp_path / "new" / "lost+found")
    put_back(made, tmp_path / "new")
    with pytest.raises(BackupError, match="is not empty"):
        put_back(made, tmp_path / "new")


def test_what_waited_to_be_sent_can_be_left_out(site, tmp_path):
    """Also what the journal says of it."""
    site.enqueue(letter(21), "q2", "x@one.example", accounts=(A,))
    before = contents(site, A)
    made = back_up(site, tmp_path / "to", Clock())
    site.kill()
    put_back(made, tmp_path / "with")
    put_back(made, tmp_path / "without", queue=False)
    again = start(tmp_path / "with")
    assert {name for name, _ in again.states()} == {"q1", "q2"}
    again.stop()
    again = start(tmp_path / "without", seed=98)
    assert again.states() == {} and again.queued_file("q1") is None
    assert contents(again, A) == before
    again.enqueue(letter(22), "q1", "x@one.example")
    again.stop()


def test_nobody_serves_what_is_half_put_back(site, tmp_path):
    made = back_up(site, tmp_path / "to", Clock())
    site.kill()
    total = FaultyDisk()
    restore(total, made.path, str(tmp_path / "all"), entropy=os.urandom)
    for at in range(9, total.count - 3, 9):
        data = tmp_path / f"new{at}"
        disk = FaultyDisk(at, lasting=True)
        with pytest.raises(OSError):
            restore(disk, made.path, str(data), entropy=os.urandom)
        with pytest.raises((ValueError, MailError), match="restore"):
            start(data, seed=at)
        with pytest.raises(BackupError, match="interrupted"):
            put_back(made, data)
    start(tmp_path / "all").stop()


def test_numbers_go_on_far_above_and_the_last_ones_are_not_passed(site, tmp_path):
    path = os.path.join(site.maildir(A), ".Work", "twisted-mail.state")
    state = json.loads(read(path))
    top = (1 << 32) - 1
    with open(path, "w") as file:
        json.dump({**state, "uid_ceiling": top - 1600}, file)
    made = back_up(site, tmp_path / "to", Clock())
    put_back(made, tmp_path / "new")
    again = json.loads(read(tmp_path / "new/mail/d/a/Maildir/.Work/twisted-mail.state"))
    assert again["uid_ceiling"] == top - 1500
    assert again["uidvalidity"] == state["uidvalidity"] and again["folder"] == state["folder"]
    inbox = json.loads(read(tmp_path / "new/mail/d/a/Maildir/twisted-mail.state"))
    assert inbox["uid_ceiling"] > 1_000_000
    site_file = json.loads(read(os.path.join(tmp_path, "new", "site.json")))
    assert site_file["generation"] == json.loads(read(site.data + "/site.json"))["generation"] + 1


def test_a_site_that_never_started(tmp_path):
    os.mkdir(tmp_path / "data")
    site = Site(str(tmp_path / "data"))
    made = back_up(site, tmp_path / "to", Clock())
    assert made.about.site == 3 and made.about.files == 0
    put_back(made, tmp_path / "new")
    assert os.listdir(tmp_path / "new") == []
    with pytest.raises(BackupError, match="no data directory"):
        back_up(Site(str(tmp_path / "nowhere")), tmp_path / "to", Clock())
