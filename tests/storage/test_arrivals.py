"""Mail that arrives for who has nothing open: one link, and an index that catches up when somebody looks."""

from __future__ import annotations

import os

import pytest
from arriving import KEY, home, message, names, subjects, uids
from store_site import Site

from twisted_mail.disk import OsDisk
from twisted_mail.mailboxes import Appending
from twisted_mail.status import MailError
from twisted_mail.storage import account_view, arrivals
from twisted_mail.storage.maildir import FileName, base_of
from twisted_mail.testing.disk import FaultyDisk, HookedDisk


@pytest.fixture
def site(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    yield site
    site.stop()


class Listening(HookedDisk):
    def __init__(self):
        self.done = []

    def after(self, name, args):
        self.done.append((name, str(args[0])))


# -- what a delivery is


def test_a_delivery_is_one_link_and_nothing_is_synced_but_the_journal(tmp_path):
    disk = Listening()
    site = Site(str(tmp_path / "data"), disk=disk).start()
    disk.done.clear()
    site.deliver(message(1), KEY, "d/b")
    site.deliver(message(2), KEY)
    made = [name for name, _ in disk.done]
    assert made.count("link_fd") == 3
    assert made.count("fdatasync") == 2
    assert not {"fsync", "sync_directory", "syncfs", "rename"} & set(made)
    assert os.listdir(home(site)) == ["Maildir"]
    assert sorted(os.listdir(site.maildir(KEY))) == ["cur", "new", "tmp"]
    assert [name.rpartition(",")[2] for name in names(site)] == ["T=0", "T=0"]
    site.stop()


def test_the_second_delivery_to_an_account_makes_no_directory(tmp_path):
    disk = Listening()
    site = Site(str(tmp_path / "data"), disk=disk).start()
    site.deliver(message(1), KEY)
    disk.done.clear()
    site.deliver(message(2), KEY)
    assert "mkdir" not in [name for name, _ in disk.done]
    site.stop()


def test_who_looks_finds_uids_in_the_order_of_arrival_and_they_stand_in_the_names(site):
    for n in range(12):
        site.deliver(message(n), KEY)
        site.world.reactor.advance(0.3)
    assert subjects(site) == list(range(12))
    found = uids(site)
    parsed = [FileName.parse(name) for name in names(site)]
    assert sorted(found.values()) == list(range(1, 13))
    assert {one.base: one.uid for one in parsed} == found
    assert {(one.size, one.wire) for one in parsed} <= {(33, 36), (34, 37)}


def test_what_pop3_calls_a_message_is_the_same_before_and_after(site):
    site.deliver(message(1), KEY)
    (name,) = names(site)
    ((uidl, _),) = site.read(KEY)
    assert uidl == base_of(name) == base_of(names(site)[0])
    site.stop()
    again = Site(site.data, seed=2).start()
    assert [one for one, _ in again.read(KEY)] == [uidl]
    again.stop()
    site.start()


def test_a_lost_index_gives_the_same_uids(site):
    for n in range(5):
        site.deliver(message(n), KEY)
    before = uids(site)
    for n in range(5, 8):
        site.deliver(message(n), KEY)
    for suffix in ("", "-wal", "-shm"):
        os.unlink(os.path.join(home(site), f"index.sqlite3{suffix}"))
    after = uids(site)
    assert {base: after[base] for base in before} == before
    assert min(uid for base, uid in after.items() if base not in before) > max(before.values())


def test_a_lost_state_file_is_another_uidvalidity_and_no_lost_mail(site):
    site.deliver(message(1), KEY)
    assert subjects(site) == [1]
    validity = site.store.account(KEY).validity("")
    site.deliver(message(2), KEY)
    os.unlink(os.path.join(site.maildir(KEY), "twisted-mail.state"))
    site.kill()
    again = Site(site.data, seed=2).start()
    again.world.reactor.advance(5)
    assert subjects(again) == [1, 2]
    assert again.store.account(KEY).validity("") != validity
    again.stop()
    site.start()


def test_the_date_is_that_of_arrival_and_not_of_who_looked(site):
    site.deliver(message(1), KEY)
    (name,) = names(site)
    path = os.path.join(site.maildir(KEY), "new", name)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    account = site.store._accounts.get(KEY)
    account.refresh()
    with account.locked() as locked:
        (row,) = locked.index.whole_rows(locked.folder("").row.key)
    assert (row.date, row.saved) == (1_700_000_000, 1_700_000_000)


def test_its_content_is_not_read_to_know_its_sizes(tmp_path):
    class Watched(OsDisk):
        read = 0

        def pread(self, fd, size, offset):
            path = os.readlink(f"/proc/self/fd/{fd}")
            Watched.read += "/Maildir/new/" in path
            return super().pread(fd, size, offset)

    site = Site(str(tmp_path / "data"), disk=Watched()).start()
    site.deliver(message(1), KEY)
    account = site.store._accounts.get(KEY)
    account.refresh()
    assert Watched.read == 0
    assert account.rows()[0][4:6] == (len(message(1)), len(message(1)) + 3)
    site.stop()


# -- other programs


def test_what_another_program_moved_to_cur_before_anybody_looked_has_its_flags(site):
    site.deliver(message(1), KEY)
    site.deliver(message(2), KEY)
    maildir = site.maildir(KEY)
    first = names(site)[0]
    os.rename(os.path.join(maildir, "new", first), os.path.join(maildir, "cur", f"{first}:2,S"))
    assert subjects(site) == [1, 2]
    (seen,) = names(site, "cur")
    assert seen.endswith(":2,S")
    assert FileName.parse(seen).uid in (1, 2)
    before = uids(site)
    os.unlink(os.path.join(home(site), "index.sqlite3"))
    assert uids(site) == before


def test_what_another_program_deleted_before_anybody_looked_stays_away(site):
    for n in range(3):
        site.deliver(message(n), KEY)
    os.unlink(os.path.join(site.maildir(KEY), "new", names(site)[1]))
    site.kill()
    again = Site(site.data, seed=2).start()
    assert subjects(again) == [0, 2]
    again.kill()
    third = Site(site.data, seed=3).start()
    assert subjects(third) == [0, 2]
    third.stop()
    site.start()


def test_what_another_program_filed_before_anybody_looked_stays_there(site):
    site.deliver(message(1), KEY)
    maildir = site.maildir(KEY)
    for sub in ("new", "cur", "tmp"):
        os.makedirs(os.path.join(maildir, ".Filed", sub))
    (name,) = names(site)
    os.rename(
        os.path.join(maildir, "new", name), os.path.join(maildir, ".Filed", "cur", name + ":2,S")
    )
    site.kill()
    for boot in ("boot-1", "boot-2"):
        again = Site(site.data, seed=2, boot=boot).start()
        assert again.read(KEY) == []
        assert len(os.listdir(os.path.join(maildir, ".Filed", "cur"))) == 1
        again.kill()
    site.start()


# -- several processes


def test_two_processes_deliver_at_once_while_a_third_opens_it(tmp_path):
    data = str(tmp_path / "data")
    sites = [Site(data, seed=seed).start() for seed in (1, 2, 3)]
    sites[1].world.reactor.advance(0.005)
    last = sites[2]
    known = {}
    for n in range(30):
        results = [site.begin(message(2 * n + at), KEY) for at, site in enumerate(sites[:2])]
        for site in sites[:2]:
            site.turn(5)
            site.world.reactor.advance(0.01)
        assert results == [[None], [None]]
        if n % 7 == 3:
            found = uids(last)
            assert {base: found[base] for base in known} == known
            fresh = [uid for base, uid in found.items() if base not in known]
            assert min(fresh) > max(known.values(), default=0)
            known = found
    assert subjects(last) == sorted(subjects(last))
    assert len(subjects(last)) == 60
    assert uids(sites[0]) == uids(sites[1]) == uids(last)
    assert sorted(uids(last).values()) == list(range(1, 61))
    for site in sites:
        site.stop()


def wait(*sites, seconds=0.3):
    for _ in range(60):
        for site in sites:
            site.world.reactor.advance(seconds / 60)


def test_a_session_of_another_process_sees_what_arrives_and_reads_no_list(tmp_path):
    data = str(tmp_path / "data")
    first, second = Site(data, seed=1).start(), Site(data, seed=2).start()
    first.deliver(message(0), KEY)
    one = second.run(second.store.open_mailboxes(KEY))
    box = second.run(one.open("INBOX"))
    box.listen(lambda: None)
    assert list(box.snapshot.uids) == [1]
    wait(second)
    listed = []
    second.store._accounts.get(KEY)._disk = Quiet(listed)
    for n in range(1, 4):
        first.deliver(message(n), KEY)
        wait(second)
        assert list(box.snapshot.uids) == list(range(1, n + 2))
    assert listed == []
    # It is open in the second one, so what comes by that one has its UID at once.
    second.deliver(message(9), KEY)
    second.turn()
    assert list(box.snapshot.uids) == [1, 2, 3, 4, 5]
    assert subjects(first) == [0, 1, 2, 3, 9]
    second.run(box.close())
    second.run(one.close())
    second.stop()
    first.stop()


class Quiet(OsDisk):
    def __init__(self, listed):
        self.listed = listed

    def names(self, directory):
        self.listed.append(directory)
        return super().names(directory)


def test_what_is_put_in_by_imap_comes_after_what_had_arrived(tmp_path):
    data = str(tmp_path / "data")
    first, second = Site(data, seed=1).start(), Site(data, seed=2).start()
    one = second.run(second.store.open_mailboxes(KEY))
    for n in range(3):
        first.deliver(message(n), KEY)

    async def append():
        draft = one.write()
        draft.write(message(7))
        return await one.append("INBOX", [Appending(draft, (), None)])

    assert list(second.run(append()).uids) == [4]
    assert second.run(one.status("INBOX")).messages == 4
    second.run(one.close())
    second.stop()
    first.stop()


def test_status_and_quota_of_a_mailbox_that_is_not_selected_count_what_has_arrived(tmp_path):
    data = str(tmp_path / "data")
    first, second = Site(data, seed=1).start(), Site(data, seed=2).start()
    one = second.run(second.store.open_mailboxes(KEY))
    for n in range(3):
        first.deliver(message(n), KEY)
        assert second.run(one.quota()).messages == n + 1
        status = second.run(one.status("INBOX"))
        assert (status.messages, status.unseen, status.uidnext) == (n + 1, n + 1, n + 2)
    second.run(one.close())
    second.stop()
    first.stop()


def test_a_message_that_came_while_a_session_began_has_the_lower_uid(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    site.deliver(message(1), KEY)
    site.store._accounts.hold(KEY)
    site.deliver(message(2), KEY)
    assert subjects(site) == [1, 2]
    assert sorted(uids(site).values()) == [1, 2]
    site.stop()


# -- how far behind


def test_who_gets_much_is_looked_into_in_the_background(tmp_path, monkeypatch):
    monkeypatch.setattr(arrivals, "BEHIND", 10)
    site = Site(str(tmp_path / "data")).start()
    index = os.path.join(home(site), "index.sqlite3")
    for n in range(9):
        site.deliver(message(n), KEY)
    site.turn()
    assert not os.path.exists(index)
    site.deliver(message(9), KEY)
    site.turn()
    assert [FileName.parse(name).uid is not None for name in names(site)] == [True] * 10
    for n in range(10, 19):
        site.deliver(message(n), KEY)
    site.turn()
    assert sum(name.endswith("T=0") for name in names(site)) == 9
    assert subjects(site) == list(range(19))
    site.stop()


def test_accounts_that_are_forgotten_are_looked_into_by_chance(tmp_path, monkeypatch):
    monkeypatch.setattr(arrivals, "BEHIND", 10)
    monkeypatch.setattr(arrivals, "MAX_KNOWN", 5)
    site = Site(str(tmp_path / "data")).start()
    for n in range(100):
        site.deliver(message(n), f"d/{n}")
    site.turn()
    looked = [
        n for n in range(100) if os.path.exists(os.path.join(home(site, f"d/{n}"), "index.sqlite3"))
    ]
    assert len(looked) == 9
    assert len(site.store._places._arrivals._waiting) == 5
    site.stop()


def test_many_that_lie_in_new_are_listed_seldom():
    due = []
    some = arrivals.Arrivals(OsDisk(), str, missing=lambda _: None, due=due.append)
    for _ in range(arrivals.BEHIND):
        some._count(KEY)
    assert due == [KEY]
    some.caught_up(KEY, 32_000)
    for _ in range(1999):
        some._count(KEY)
    assert due == [KEY]
    some._count(KEY)
    assert due == [KEY, KEY]


def test_a_removed_account_is_not_made_again_by_who_catches_up(site):
    site.deliver(message(1), KEY)
    site.run(site.store.remove_account(KEY))
    site.store._places.catch_up(KEY)
    assert not os.path.exists(home(site))


# -- quotas


def limited(path, limits, **kwargs):
    site = Site(str(path), **kwargs)
    site.store._limits = lambda key: limits.get(key, (None, None))
    return site.start()


def test_a_quota_counts_what_came_before_there_was_one(tmp_path):
    limits = {}
    site = limited(tmp_path / "data", limits)
    for n in range(3):
        site.deliver(message(n), KEY)
    limits[KEY] = (None, 4)
    site.deliver(message(3), KEY)
    with pytest.raises(MailError) as caught:
        site.deliver(message(4), KEY)
    assert caught.value.code == 452
    assert len(site.read(KEY)) == 4
    site.stop()


def test_mail_that_no_quota_is_asked_for_is_counted(tmp_path):
    site = limited(tmp_path / "data", {KEY: (None, 3)})
    site.run(site.accept(message(0), [KEY], unlimited=[KEY]))
    site.deliver(message(1), KEY)
    assert site.run(site.store.usage(KEY)) == (len(message(0)) * 2, 2)
    site.run(site.accept(message(2), [KEY], unlimited=[KEY]))
    with pytest.raises(MailError):
        site.deliver(message(3), KEY)
    site.stop()


def test_who_looks_from_beside_counts_what_has_no_row(site):
    assert account_view.usage(OsDisk(), home(site)) == (0, 0)
    for n in range(3):
        site.deliver(message(n), KEY)
    size = len(message(0))
    assert account_view.usage(OsDisk(), home(site)) == (3 * size, 3)
    assert len(site.read(KEY)) == 3
    site.deliver(message(3), KEY)
    assert account_view.usage(OsDisk(), home(site)) == (4 * size, 4)


# -- what cannot take mail


def test_an_inbox_that_is_not_writable_is_refused_before_the_commit(tmp_path):
    class Closed(OsDisk):
        closed = ""

        def writable(self, path):
            return path != self.closed and super().writable(path)

    site = Site(str(tmp_path / "data"), disk=Closed()).start()
    site.deliver(message(1), KEY, "d/b")
    site.disk.closed = os.path.join(site.maildir(KEY), "new")
    with pytest.raises(MailError) as caught:
        site.deliver(message(2), KEY, "d/b")
    assert caught.value.code == 451
    assert len(names(site, key="d/b")) == 1
    site.disk.closed = ""
    site.deliver(message(3), KEY)
    assert subjects(site) == [1, 3]
    site.stop()


def test_no_key_leads_out_of_the_mail_directory(site):
    for key in ("", ".", "../x", "d/../../x", "d//x", "a\0b"):
        with pytest.raises(MailError):
            site.deliver(message(1), key)
    assert not os.path.exists(os.path.join(site.data, "x"))


def test_what_another_process_removed_is_made_anew_with_a_lock_of_its_own(tmp_path):
    data = str(tmp_path / "data")
    first, second = Site(data, seed=1).start(), Site(data, seed=2).start()
    first.deliver(message(1), KEY)
    assert subjects(first) == subjects(second) == [1]
    second.run(second.store.remove_account(KEY))
    second.deliver(message(2), KEY)
    # The first one still holds files of what was there before.
    for _ in range(2):
        try:
            found = subjects(first)
        except MailError:
            continue
        break
    assert found == [2]
    lock = first.store.account(KEY).files._lock
    assert os.fstat(lock).st_ino == os.stat(os.path.join(home(first), "lock")).st_ino
    first.stop()
    second.stop()


def test_a_place_is_parked_and_the_others_of_the_batch_are_filled(tmp_path):
    disk = FaultyDisk(counted=["link_fd"])
    site = Site(str(tmp_path / "data"), disk=disk).start()
    disk.fail_at = 2
    results = [site.begin(message(n), f"d/{n}") for n in range(3)]
    site.turn()
    assert results == [[None]] * 3
    assert sum(bool(site.read(f"d/{n}")) for n in range(3)) == 2
    site.world.reactor.advance(31)
    site.turn()
    assert [subjects(site, f"d/{n}") for n in range(3)] == [[0], [1], [2]]
    site.stop()
