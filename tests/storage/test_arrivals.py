"""Mail that arrives for who has nothing open: one link, and an index that catches up when somebody looks."""

from __future__ import annotations

import os
import shutil

import pytest
from store_site import Site

from twisted_mail.disk import OsDisk
from twisted_mail.mailboxes import Appending
from twisted_mail.status import MailError
from twisted_mail.storage import account_view, arrivals
from twisted_mail.storage.journal import Journal
from twisted_mail.storage.maildir import FileName, base_of
from twisted_mail.testing.disk import FaultyDisk, HookedDisk, PowerCutDisk, copy_tree

KEY = "d/a"


def message(number, size=20):
    return b"Subject: %d\n\n" % number + b"x" * size + b"\n"


@pytest.fixture
def site(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    yield site
    site.stop()


def home(site, key=KEY):
    return os.path.join(site.data, "mail", key)


def names(site, sub="new", key=KEY):
    return sorted(
        os.listdir(os.path.join(site.maildir(key), sub)), key=lambda n: n.partition(",")[0]
    )


def uids(site, key=KEY):
    """UIDs and contents, as a login finds them."""
    account = site.store._accounts.get(key)
    account.refresh()
    return {row[1]: row[0] for row in account.rows()}


def subjects(site, key=KEY):
    return [int(content.split(b"\n")[0][9:]) for _, content in site.read(key)]


def checkpoint(site):
    site.run(site.world.threads.call(site.store._journal.checkpoint))


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


# -- processes that die


def dies_before_it_fills(patch):
    patch.setattr(Journal, "_committed", lambda *_: None)


def dies_before_it_notes(patch):
    patch.setattr(Journal, "_note", lambda _: None)


@pytest.mark.parametrize("how", [dies_before_it_fills, dies_before_it_notes])
def test_what_a_dead_process_did_not_note_is_there_exactly_once(site, monkeypatch, how):
    site.deliver(message(1), KEY)
    with monkeypatch.context() as patch:
        how(patch)
        site.deliver(message(2), KEY, "d/b")
    site.kill()
    again = Site(site.data, seed=2).start()
    assert subjects(again) == [1, 2]
    assert subjects(again, "d/b") == [2]
    again.kill()
    site.start()


def test_a_process_that_died_is_settled_by_another_and_what_was_deleted_stays_away(
    tmp_path, monkeypatch
):
    data = str(tmp_path / "data")
    first, second = Site(data, seed=1).start(), Site(data, seed=2).start()
    first.deliver(message(1), KEY)
    first.deliver(message(2), KEY)
    with monkeypatch.context() as patch:
        dies_before_it_fills(patch)
        first.deliver(message(3), KEY)
    os.unlink(os.path.join(first.maildir(KEY), "new", names(first)[0]))
    first.kill()
    second.run(second.store.settle())
    assert subjects(second) == [2, 3]
    # Its records are still there, its life is over: what was its is still known when all of them die.
    os.unlink(os.path.join(second.maildir(KEY), "new", names(second)[1]))
    second.kill()
    third = Site(data, seed=3).start()
    assert subjects(third) == [2]
    third.stop()


def test_who_stopped_while_others_were_up_has_left_word(tmp_path):
    data = str(tmp_path / "data")
    first, second = Site(data, seed=1).start(), Site(data, seed=2).start()
    first.deliver(message(1), KEY)
    first.deliver(message(2), KEY)
    os.unlink(os.path.join(first.maildir(KEY), "new", names(first)[0]))
    first.stop()
    writers = os.path.join(data, "journal", "writers")
    assert len([name for name in os.listdir(writers) if name.endswith(".over")]) == 1
    second.kill()
    third = Site(data, seed=3).start()
    assert subjects(third) == [2]
    # With the records it goes.
    assert [name for name in os.listdir(writers) if name.endswith(".over")] == []
    third.stop()


def test_what_is_left_of_writers_goes_with_their_records(tmp_path):
    data = str(tmp_path / "data")
    last = Site(data, seed=99).start()
    for seed in range(5):
        one = Site(data, seed=seed).start()
        one.deliver(message(seed), KEY)
        if seed % 2:
            one.kill()
        else:
            one.stop()
    checkpoint(last)
    assert len(os.listdir(os.path.join(data, "journal", "writers"))) == 1
    last.stop()
    assert os.listdir(os.path.join(data, "journal", "writers")) == []


def test_a_copy_of_the_journal_proves_nothing(tmp_path):
    """A backup of a running site, put back on the same boot: mail/ first, the journal later."""
    data, copy = str(tmp_path / "data"), str(tmp_path / "copy")
    site = Site(data).start()
    site.deliver(message(1), KEY)
    os.mkdir(copy)
    for part in sorted(os.listdir(data)):
        if os.path.isfile(os.path.join(data, part)):
            shutil.copy(os.path.join(data, part), copy)
        elif part != "journal":
            copy_tree(os.path.join(data, part), os.path.join(copy, part))
    site.deliver(message(2), KEY)
    copy_tree(os.path.join(data, "journal"), os.path.join(copy, "journal"))
    site.kill()
    again = Site(copy, seed=2).start()
    assert subjects(again) == [1, 2]
    again.stop()
    # And the mail alone put back, beside the journal that was there.
    shutil.rmtree(os.path.join(data, "mail"))
    os.mkdir(os.path.join(data, "mail"), 0o700)
    third = Site(data, seed=3).start()
    assert subjects(third) == [1, 2]
    third.stop()


def test_what_is_neither_filled_nor_parked_is_not_noted(tmp_path, monkeypatch):
    disk = FaultyDisk(counted=["link_fd", "rename"], lasting=True)
    site = Site(str(tmp_path / "data"), disk=disk).start()
    site.deliver(message(1), KEY)
    disk.fail_at = disk.count + 1
    site.deliver(message(2), KEY)
    site.kill()
    again = Site(site.data, seed=2).start()
    assert subjects(again) == [1, 2]
    again.stop()


def test_what_is_parked_is_filled_though_its_record_is_noted(tmp_path):
    disk = FaultyDisk(counted=["link_fd"], lasting=True)
    site = Site(str(tmp_path / "data"), disk=disk).start()
    disk.fail_at = 1
    site.deliver(message(1), KEY)
    assert len(os.listdir(os.path.join(site.data, "parked"))) == 1
    site.kill()
    again = Site(site.data, seed=2).start()
    assert subjects(again) == [1]
    again.stop()


SCENARIO = 9


def scenario(site, told):
    """Deliver, look, deliver; `told` gets what was answered yes."""
    site.start()
    for n in range(SCENARIO):
        if n == 4:
            site.read(KEY)
        if n == 6:
            checkpoint(site)
        to = [KEY, "d/b"] if n % 3 else [KEY]
        try:
            site.deliver(message(n, 300_000 if n == 5 else 20), *to)
        except MailError:
            continue
        if site.disk.alive:
            told.append(n)


class Mortal(FaultyDisk):
    """From its end on nothing has any effect: the process is dead."""

    def __init__(self, number):
        super().__init__(number, lasting=True)

    @property
    def alive(self):
        return not self.failed


@pytest.mark.parametrize("deletes", [False, True])
def test_a_process_that_dies_at_any_operation_loses_and_doubles_nothing(tmp_path, deletes):
    number = 0
    dead = True
    while dead:
        number += 1
        disk = Mortal(number)
        site = Site(str(tmp_path / str(number)), disk=disk)
        told = []
        try:
            scenario(site, told)
        except (MailError, OSError, ValueError):
            pass
        dead = not disk.alive
        site.kill()
        gone = set()
        if deletes and len(told) > 2:
            # Not of what was under way: that is the instant nobody can tell.
            for name in names(site)[:1]:
                path = os.path.join(site.maildir(KEY), "new", name)
                with open(path, "rb") as file:
                    gone.add(int(file.readline()[9:]))
                os.unlink(path)
        sure = set(told) - gone
        for seed in (2, 3):
            again = Site(site.data, seed=seed).start()
            found = subjects(again)
            assert len(found) == len(set(found)), (number, found)
            assert sure <= set(found), (number, disk.failed[:1], told, found)
            assert not gone & set(found), (number, disk.failed[:1], gone, found)
            assert {n for n in sure if n % 3} <= set(subjects(again, "d/b"))
            rows = uids(again)
            assert len(set(rows.values())) == len(rows)
            again.kill()
        shutil.rmtree(site.data)
    assert number > 60


def test_a_power_cut_takes_the_directories_and_a_replay_makes_them(tmp_path):
    root, after = str(tmp_path / "one"), str(tmp_path / "two")
    os.mkdir(root)
    disk = PowerCutDisk(root)
    site = Site(os.path.join(root, "data"), disk=disk).start()
    for n in range(4):
        site.deliver(message(n), KEY, f"d/{n}")
    disk.after_cut(after)
    disk.close_all()
    site.kill()
    assert not os.path.exists(os.path.join(after, "data", "mail", "d"))
    again = Site(os.path.join(after, "data"), seed=2, boot="boot-2").start()
    # For that no index is opened: a start costs what the journal holds, not more.
    assert not os.path.exists(os.path.join(again.data, "mail", "d", "1", "index.sqlite3"))
    assert subjects(again) == [0, 1, 2, 3]
    assert [subjects(again, f"d/{n}") for n in range(4)] == [[0], [1], [2], [3]]
    again.stop()


def test_uids_that_were_told_have_a_uidvalidity_that_stays(tmp_path):
    """Delivering synced no directory: the first look does."""
    root, after = str(tmp_path / "one"), str(tmp_path / "two")
    os.mkdir(root)
    disk = PowerCutDisk(root)
    site = Site(os.path.join(root, "data"), disk=disk).start()
    site.deliver(message(1), KEY)
    account = site.store.account(KEY)
    told = set(uids(site).values())
    validity = account.validity("")
    disk.after_cut(after)
    disk.close_all()
    site.kill()
    again = Site(os.path.join(after, "data"), seed=2, boot="boot-2").start()
    now = uids(again)
    assert again.store.account(KEY).validity("") == validity
    assert not told & set(now.values())
    again.stop()


def test_the_start_after_a_kill_does_not_look_into_accounts_whose_mail_is_filled(tmp_path):
    site = Site(str(tmp_path / "data")).start()
    for n in range(30):
        site.deliver(message(n), f"d/u{n}")
    site.kill()

    class Counting(OsDisk):
        looked = 0

        def _count(self, path):
            self.looked += "/mail/d" in path

        def open(self, path, flags, mode=0o600):
            self._count(path)
            return super().open(path, flags, mode)

        def names(self, directory):
            self._count(directory)
            return super().names(directory)

        def exists(self, path):
            self._count(path)
            return super().exists(path)

    disk = Counting()
    again = Site(site.data, seed=2, disk=disk).start()
    assert disk.looked == 0
    assert subjects(again, "d/u7") == [7]
    again.stop()


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
