"""The store as its users see it: what is answered yes is there, once, for every recipient, and stays as it was."""

from __future__ import annotations

import errno
import os
import shutil
import stat

import pytest
from store_site import Site, seen

from twisted_mail.status import MailError
from twisted_mail.testing.disk import FaultyDisk

SMALL = b"Subject: one\n\nhello\n"
LARGE = b"Subject: large\n\n" + b"x" * 79 + b"\n" + (b"y" * 79 + b"\n") * 12_000


@pytest.fixture
def site(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    yield site
    site.stop()


def files(maildir):
    return sorted(
        os.path.join(maildir, sub, name)
        for sub in ("new", "cur")
        for name in os.listdir(os.path.join(maildir, sub))
    )


def test_a_message_is_readable_as_soon_as_it_is_accepted(site):
    site.deliver(SMALL, "d/a")
    assert site.contents("d/a") == [SMALL]


def test_a_large_message_spills_and_arrives_whole(site):
    site.deliver(LARGE, "d/a")
    assert site.contents("d/a") == [LARGE]


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_a_message_to_many_is_written_once(site, content):
    accounts = [f"d/u{n}" for n in range(50)]
    site.deliver(content, *accounts)
    inodes = {os.stat(files(site.maildir(account))[0]).st_ino for account in accounts}
    assert len(inodes) == 1


def test_the_same_mailbox_named_twice_gets_one_copy(site):
    site.deliver(SMALL, "d/a", "d/a")
    assert site.contents("d/a") == [SMALL]


def test_files_carry_their_sizes_and_uid(site):
    site.deliver(SMALL, "d/a")
    (path,) = files(site.maildir("d/a"))
    assert path.endswith(f",S={len(SMALL)},W={len(SMALL) + 3},T=0")
    assert site.contents("d/a") == [SMALL]
    (path,) = files(site.maildir("d/a"))
    name = os.path.basename(path)
    assert os.path.basename(os.path.dirname(path)) == "new"
    assert f",S={len(SMALL)},W={len(SMALL) + 3},T=" in name
    assert name.endswith(".1")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_directories_are_for_the_owner_only(site):
    site.deliver(SMALL, "d/a")
    for directory, _, names in os.walk(site.data):
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700, directory
        for name in names:
            path = os.path.join(directory, name)
            assert not stat.S_IMODE(os.stat(path).st_mode) & 0o077, path


def test_deleted_is_deleted_and_the_rest_keeps_its_uidl(site):
    for n in range(5):
        site.deliver(SMALL + b"%d\n" % n, "d/a")
    before = site.read("d/a")
    site.delete("d/a", 1, 3)
    assert site.read("d/a") == [before[0], before[2], before[4]]


def test_one_session_holds_an_inbox(site):
    inbox = site.run(site.store.open_inbox("d/a"))
    with pytest.raises(MailError) as caught:
        site.run(site.store.open_inbox("d/a"))
    assert caught.value.pop3 == "IN-USE"
    site.run(inbox.close())
    site.run(site.run(site.store.open_inbox("d/a")).close())


def test_an_open_inbox_is_frozen(site):
    site.deliver(SMALL, "d/a")
    inbox = site.run(site.store.open_inbox("d/a"))
    site.deliver(SMALL, "d/a")
    assert len(inbox.messages) == 1
    site.run(inbox.close())
    assert len(site.read("d/a")) == 2


def test_small_messages_are_read_ahead_and_each_once(site):
    contents = [SMALL + b"%d\n" % n for n in range(20)]
    for content in contents:
        site.deliver(content, "d/a")
    assert [content for _, content in site.read("d/a")] == contents


# -- other programs


def test_mail_dropped_into_new_appears_and_keeps_its_uidl(site):
    site.deliver(SMALL, "d/a")
    maildir = site.maildir("d/a")
    with open(os.path.join(maildir, "new", "1700000000.M1P2.elsewhere"), "wb") as file:
        file.write(b"Subject: dropped\r\n\r\nhi\r\n")
    first = site.read("d/a")
    assert first[0][0] == "1700000000.M1P2.elsewhere"
    assert site.read("d/a") == first
    names = [os.path.basename(path) for path in files(maildir)]
    assert any(name.startswith("1700000000.M1P2.elsewhere,S=24,W=24,T=") for name in names)


def test_mail_with_a_name_that_pop3_cannot_show_has_a_stable_uidl(site):
    site.deliver(SMALL, "d/a")
    odd = "1700000000." + "x" * 90
    with open(os.path.join(site.maildir("d/a"), "cur", odd + ":2,S"), "wb") as file:
        file.write(SMALL)
    first = site.read("d/a")
    assert len(first[0][0]) == 40
    assert site.read("d/a") == first


def test_a_message_moved_by_another_program_is_still_the_same(site):
    site.deliver(SMALL, "d/a")
    before = site.read("d/a")
    inbox = site.run(site.store.open_inbox("d/a"))
    (path,) = files(site.maildir("d/a"))
    os.rename(path, path.replace("/new/", "/cur/") + ":2,S")
    content = site.run(inbox.fetch(0))
    assert site.run(content.read(1000)) == SMALL
    site.run(inbox.close())
    assert site.read("d/a") == before


def test_a_message_taken_by_another_program_is_gone(site):
    site.deliver(SMALL, "d/a")
    inbox = site.run(site.store.open_inbox("d/a"))
    os.unlink(files(site.maildir("d/a"))[0])
    with pytest.raises(MailError, match="no longer there"):
        site.run(inbox.fetch(0))
    site.run(inbox.close())
    assert site.read("d/a") == []


# -- the index is a cache


def uidls(site):
    return [uidl for uidl, _ in site.read("d/a")]


def uids(site):
    return [row[0] for row in seen(site.store._accounts.get("d/a"))]


@pytest.mark.parametrize("how", ["deleted", "garbage", "truncated", "other version"])
def test_a_lost_index_comes_back_with_the_same_uids(site, how):
    for n in range(4):
        site.deliver(SMALL + b"%d\n" % n, "d/a")
    with open(os.path.join(site.maildir("d/a"), "new", "1700000000.M1P2.elsewhere"), "wb") as file:
        file.write(SMALL)
    site.delete("d/a", 1)
    before, numbers = uidls(site), uids(site)
    site.store._accounts.get("d/a").release()
    path = os.path.join(site.data, "mail", "d/a", "index.sqlite3")
    if how == "deleted":
        os.unlink(path)
    elif how == "other version":
        import sqlite3

        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
    else:
        with open(path, "r+b") as file:
            file.write(b"\x00garbage" * 2000) if how == "garbage" else file.truncate(5000)
    assert uidls(site) == before
    assert uids(site) == numbers
    site.deliver(SMALL + b"new\n", "d/a")
    assert uids(site)[:-1] == numbers
    assert uids(site)[-1] > 10_000  # never a number that may have been given before


def test_an_index_deleted_under_the_open_server_is_noticed(site):
    site.deliver(SMALL, "d/a")
    before = uidls(site)
    for suffix in ("", "-wal", "-shm"):
        os.unlink(os.path.join(site.data, "mail", "d/a", "index.sqlite3" + suffix))
    site.deliver(SMALL + b"2\n", "d/a")
    assert uidls(site)[0] == before[0]
    assert len(uidls(site)) == 2


def test_a_uid_in_a_name_that_is_not_ours_is_not_believed(site):
    site.deliver(SMALL, "d/a")
    (path,) = files(site.maildir("d/a"))
    validity = path.rpartition("T=")[2].partition(".")[0]
    folder = os.path.join(site.maildir("d/a"), "new")
    for name in (
        f"1700000001.a,S=20,W=23,T={validity}.1",  # taken
        f"1700000002.b,S=20,W=23,T={validity}.99999999",  # over the ceiling
        "1700000003.c,S=20,W=23,T=1.7",  # another folder's
        f"1700000004.d,S=20,W=23,T={validity}.0",
    ):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(SMALL)
    assert len(uidls(site)) == 5
    assert uids(site) == [1, 2, 3, 4, 5]


# -- batches


def crowd(site, count):
    return [site.begin(SMALL + b"%d\n" % n, "d/a") for n in range(count)]


def test_in_a_crowd_a_record_waits_a_moment_for_others(site):
    crowd(site, 5)
    site.turn()
    first, second = crowd(site, 2)
    site.turn()
    assert first == []
    site.world.reactor.advance(0.005)
    site.turn()
    assert first == second == [None]
    assert len(site.read("d/a")) == 7


def test_a_crowd_that_is_all_there_waits_for_nobody(site):
    for _ in range(3):
        together = crowd(site, 5)
        site.turn()
        assert together == [[None]] * 5


def test_who_is_alone_never_waits(site):
    for _ in range(3):
        (alone,) = crowd(site, 1)
        site.turn()
        assert alone == [None]


def test_a_stop_commits_what_waits(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    crowd(site, 5)
    site.turn()
    waiting = crowd(site, 3)
    site.turn()
    assert waiting == [[], [], []]
    site.stop()
    site.turn()
    assert waiting == [[None], [None], [None]]
    again = Site(site.data, seed=2).start()
    assert len(again.read("d/a")) == 8
    again.stop()


# -- refusals before the commit


def test_a_full_disk_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    site = Site(str(tmp_path / "data")).start()
    site.deliver(SMALL, "d/a")
    real = os.statvfs(tmp_path)
    full = os.statvfs_result((*real[:4], 10, *real[5:]))
    monkeypatch.setattr(site.disk, "statvfs", lambda path: full)
    with pytest.raises(MailError) as caught:
        site.deliver(SMALL, "d/a")
    assert (caught.value.code, caught.value.enhanced) == (452, "4.3.1")
    with pytest.raises(MailError) as caught:
        site.world.reactor.advance(2)
        site.store.check_space(10)
    assert caught.value.code == 452
    monkeypatch.undo()
    assert site.contents("d/a") == [SMALL]
    site.deliver(SMALL + b"2\n", "d/a")
    site.stop()


def test_a_full_disk_gets_back_what_was_deleted(tmp_path, monkeypatch):
    """The journal holds on to large messages that were deleted, until a checkpoint."""
    site = Site(str(tmp_path / "data"), segment_size=64 << 20).start()
    site.deliver(LARGE, "d/a")
    site.delete("d/a", 0)
    spill = os.path.join(site.data, "journal", "spill")
    assert len(os.listdir(spill)) == 1
    real = os.statvfs(tmp_path)

    def statvfs(path):
        free = 10 if os.listdir(spill) else 1_000_000
        return os.statvfs_result((*real[:4], free, *real[5:]))

    monkeypatch.setattr(site.disk, "statvfs", statvfs)
    with pytest.raises(MailError):
        site.deliver(SMALL, "d/a")
    site.turn()
    assert os.listdir(spill) == []
    site.deliver(SMALL, "d/a")
    assert site.contents("d/a") == [SMALL]
    site.stop()


def test_no_inodes_left(tmp_path, monkeypatch):
    site = Site(str(tmp_path / "data")).start()
    real = os.statvfs(tmp_path)
    full = os.statvfs_result((*real[:6], 5, 5, *real[8:]))
    full = os.statvfs_result((*real[:5], 1000, 5, 5, *real[8:]))
    monkeypatch.setattr(site.disk, "statvfs", lambda path: full)
    with pytest.raises(MailError) as caught:
        site.deliver(SMALL, "d/a")
    assert caught.value.code == 452
    site.stop()


def test_a_spill_that_cannot_be_written_is_refused_and_leaves_nothing(tmp_path):
    disk = FaultyDisk(number=errno.ENOSPC, counted=["pwrite"])
    site = Site(str(tmp_path / "data"), disk=disk).start()
    disk.fail_at = disk.count + 2
    with pytest.raises(MailError) as caught:
        site.deliver(LARGE, "d/a")
    assert caught.value.code == 452
    site.turn()
    assert os.listdir(os.path.join(site.data, "journal", "spill")) == []
    assert site.contents("d/a") == []
    site.stop()


def test_a_mailbox_that_was_taken_away_is_refused_for_all(site):
    site.deliver(SMALL, "d/a", "d/b")
    assert site.contents("d/a") == [SMALL]
    shutil.rmtree(site.maildir("d/a"))
    with pytest.raises(MailError) as caught:
        site.deliver(SMALL + b"2\n", "d/a", "d/b")
    assert caught.value.code == 451
    assert site.contents("d/b") == [SMALL]


def test_a_store_of_a_newer_format_is_refused(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    site.stop()
    with open(os.path.join(site.data, "site.json"), "w") as file:
        file.write('{"version": 99, "generation": 1}')
    with pytest.raises(ValueError, match="newer program"):
        Site(site.data).start()


# -- stop and start


def test_a_clean_stop_leaves_no_segment_and_numbers_go_on(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    site.deliver(SMALL, "d/a")
    site.deliver(LARGE, "d/a")
    site.stop()
    assert not [n for n in os.listdir(os.path.join(site.data, "journal")) if n.endswith(".log")]
    assert os.listdir(os.path.join(site.data, "journal", "spill")) == []
    again = Site(site.data, seed=2).start()
    again.deliver(SMALL + b"2\n", "d/a")
    assert uids(again) == [1, 2, 3]
    again.stop()


def test_a_full_segment_is_checkpointed_and_dropped(tmp_path):
    site = Site(str(tmp_path / "data"), segment_size=20_000).start()
    journal = os.path.join(site.data, "journal")
    for n in range(60):
        site.deliver(SMALL + b"z" * 1000 + b"%d\n" % n, "d/a")
        site.turn(5)
    site.turn()
    logs = [name for name in os.listdir(journal) if name.endswith(".log")]
    assert len(logs) == 1
    assert int(logs[0][:-4]) > 2
    assert len(site.read("d/a")) == 60
    site.stop()


def test_removing_an_account_moves_its_mail_out_of_the_site(site):
    site.deliver(SMALL, "d/a")
    target = site.run(site.store.remove_account("d/a"))
    assert not os.path.exists(os.path.join(site.data, "mail", "d/a"))
    assert len(files(os.path.join(site.data, target, "Maildir"))) == 1
    assert site.read("d/a") == []
    site.deliver(SMALL, "d/a")
    assert site.contents("d/a") == [SMALL]
