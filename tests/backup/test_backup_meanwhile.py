"""A backup while everything is going on: what is put back is the site as it was at one instant."""

from __future__ import annotations

import os

import pytest
from backing import Clock, Meddled, back_up, checkpoint, contents, put_back, start, where
from filing_site import (
    account,
    append,
    bases,
    copy,
    expunge,
    folder,
    message,
    move,
    read,
    remove_folder,
)
from store_site import Site

from twisted_mail.backup import BackupError, making
from twisted_mail.storage.queued import Attempt, Change, State, Verdict
from twisted_mail.testing.disk import FaultyDisk

A, B = "d/a", "d/b"


def letter(number, size=20):
    return b"Subject: %d\n\n" % number + b"x" * size + b"\n"


def filled(tmp_path, *, in_journal=False, **how):
    """A site that has some of everything; nothing of it in the journal, unless that is wanted."""
    site = Site(str(tmp_path / "data"), segment_size=64 << 20, **how).start()
    for n in range(6):
        site.deliver(letter(n, 300_000 if n == 3 else 20), A, B)
    append(site, A, "Work", message(letter(10), ("\\Seen", "todo"), 1_700_000_000))
    append(site, A, "Work", message(letter(11), ("\\Flagged",), 1_700_000_001))
    append(site, A, "Gone", message(letter(12), (), 1_700_000_002))
    contents(site, B)
    site.deliver(letter(13), B)  # nobody has looked at it
    site.enqueue(letter(20), "q1", "x@one.example", "y@two.example")
    site.enqueue(letter(21, 300_000), "q2", "x@one.example")
    if not in_journal:
        # What is lost from the copy is lost.
        checkpoint(site)
        assert "1.log" not in os.listdir(os.path.join(site.data, "journal"))
    return site


def delivered(site, name):
    attempt = Attempt(site.world.now(), "mx", "192.0.2.9", "", "250 ok")
    verdicts = tuple(Verdict(n, State.DELIVERED, 0, 0) for n in range(2 if name == "q1" else 1))
    site.change(Change(name, verdicts, (attempt,)))


STEPS = {
    "arrives": lambda site: site.deliver(letter(30), A, B),
    "arrives and is large": lambda site: site.deliver(letter(31, 400_000), A, B),
    "moved": lambda site: move(site, A, "INBOX", bases(site, A, "INBOX", letter(1)), "Work"),
    "moved back": lambda site: move(site, A, "Work", bases(site, A, "Work", letter(10)), "INBOX"),
    "copied": lambda site: copy(site, A, "INBOX", bases(site, A, "INBOX", letter(2)), "Work"),
    "expunged": lambda site: expunge(site, A, "INBOX", bases(site, A, "INBOX", letter(0))),
    "moved on": lambda site: move(site, A, "Work", bases(site, A, "Work", letter(1)), "New"),
    "folder removed": lambda site: remove_folder(site, A, "Gone"),
    "queued": lambda site: site.enqueue(letter(32), "q3", "z@three.example"),
    "sent": lambda site: delivered(site, "q2"),
    "dropped": checkpoint,
    "arrives after that": lambda site: site.deliver(letter(33), B),
}


def everything(site):
    queue = {key: state for key, state in site.states().items() if not state.final}
    files = {name: site.queued_file(name) for name, _ in queue}
    return where(contents(site, A)), where(contents(site, B)), queue, files


def different(found, states):
    """The parts in which it is none of them, a line of each letter."""

    def told(part):
        if isinstance(part, dict):
            return {
                (key, value if not isinstance(value, bytes) else len(value))
                for key, value in part.items()
            }
        return {(name, content[:12], date) for name, content, date in part}

    return [
        [
            (told(one) - told(two), told(two) - told(one))
            for one, two in zip(found, state, strict=True)
        ]
        for state in states
    ]


def marks(site, known):
    """Who has which number, for ever."""
    for key in (A, B):
        for name, messages in contents(site, key).items():
            for one in messages:
                assert known.setdefault((key, name, one.mark), one.base) == one.base


def operations(tmp_path):
    """How many there are in a quiet backup."""
    site = filled(tmp_path)
    disk = Meddled()
    back_up(site, tmp_path / "to", Clock(), disk=disk)
    return disk.count


def run(tmp_path, at, steps):
    """One backup in the midst of which `steps` are done."""
    site = filled(tmp_path)
    states = [everything(site)]
    known = {}
    marks(site, known)

    def meddle():
        for step in steps:
            STEPS[step](site)
            states.append(everything(site))
        marks(site, known)

    made = back_up(site, tmp_path / "to", Clock(), disk=Meddled(at, meddle))
    assert not made.skipped
    site.kill()
    put_back(made, tmp_path / "new")
    again = start(tmp_path / "new")
    found = everything(again)
    # Who is being delivered to and who waits is not journaled.
    assert found in states, different(found, states)
    # What is given now was given to nobody.
    again.deliver(letter(90), A, B)
    append(again, A, "Work", message(letter(91)))
    marks(again, known)
    again.stop()
    return states.index(found)


@pytest.mark.parametrize("part", range(4))
def test_what_is_put_back_is_the_site_at_an_instant(tmp_path, part):
    total = operations(tmp_path / "count")
    seen = set()
    for number, at in enumerate(range(1 + part, total, 4 * 24)):
        seen.add(run(tmp_path / str(number), at, STEPS))
    assert len(STEPS) in seen, "what happened before the last look is in the backup"


@pytest.mark.parametrize("step", sorted(STEPS))
def test_each_thing_alone(tmp_path, step):
    total = operations(tmp_path / "count")
    # The second half of it is the window.
    for at in (total // 2 + 30, total * 3 // 4, total - 40):
        if step == "moved on":
            run(tmp_path / str(at), at, ("moved", step))
        else:
            run(tmp_path / str(at), at, (step,))


def test_numbers_and_flags_are_as_clients_know_them(tmp_path):
    site = filled(tmp_path)
    store = account(site, A)
    store.folders.subscribe("Work", True)
    before = contents(site, A), contents(site, B)
    made = back_up(site, tmp_path / "to", Clock())
    # After the backup, and lost: their numbers were given.
    for n in range(40, 45):
        site.deliver(letter(n), A)
    lost = contents(site, A)["INBOX"][-1].mark
    site.kill()
    put_back(made, tmp_path / "new")
    again = start(tmp_path / "new")
    assert (contents(again, A), contents(again, B)) == before
    assert account(again, A).folders.subscriptions() == store.folders.subscriptions()
    again.deliver(letter(50), A)
    assert contents(again, A)["INBOX"][-1].mark[1] > lost[1] + 10_000
    again.stop()


def test_no_index_and_no_journal_is_needed_for_that(tmp_path):
    """A clean stop; and the index, a cache, is damaged when the backup is made."""
    site = filled(tmp_path)
    before = contents(site, A)
    site.stop()
    with open(os.path.join(site.data, "mail", A, "index.sqlite3"), "r+b") as file:
        file.write(b"nonsense" * 600)
    made = back_up(site, tmp_path / "to", Clock())
    assert any("index.sqlite3" in line for line in made.skipped)
    put_back(made, tmp_path / "new")
    again = start(tmp_path / "new")
    assert contents(again, A) == before
    again.stop()


def test_a_site_that_was_killed_is_backed_up_with_what_it_left(tmp_path):
    site = filled(tmp_path, in_journal=True)
    expected = everything(site)
    # The journal has it, the mailbox never got it: as when it dies before it is filled.
    gone = site.maildir(B) + "/new"
    for name in os.listdir(gone):
        os.unlink(os.path.join(gone, name))
    site.kill()
    made = back_up(site, tmp_path / "to", Clock())
    put_back(made, tmp_path / "new")
    again = start(tmp_path / "new")
    assert everything(again) == expected
    again.stop()


def test_on_the_same_machine_without_a_boot_in_between(tmp_path):
    """Rows of an index that is newer than the list of files are no proof that somebody has deleted them."""
    site = filled(tmp_path)
    site.deliver(letter(70), A)
    expected = everything(site)
    made = back_up(site, tmp_path / "to", Clock())
    site.kill()
    (lost,) = [
        os.path.join(directory, name)
        for directory, _, names in os.walk(os.path.join(made.path, "data/mail", A))
        for name in names
        if "/new" in directory and read(os.path.join(directory, name)) == letter(70)
    ]
    os.unlink(lost)
    put_back(made, tmp_path / "new", skip_damaged=True)
    again = start(tmp_path / "new", boot="boot-1")
    assert everything(again) == expected
    again.stop()


def with_something_parked(tmp_path):
    """Answered with 250; its record is dropped; it is in no mailbox yet."""
    disk = FaultyDisk(counted=["link_fd"], lasting=True)
    site = filled(tmp_path, disk=disk)
    disk.fail_at = disk.count + 1
    site.deliver(letter(71), A, B)
    disk.fail_at = 0
    checkpoint(site)
    assert len(os.listdir(os.path.join(site.data, "parked"))) == 1
    return site


def filled_in(site):
    """What the upkeep does each half minute."""
    assert not site.store._places.parking.retry()
    assert os.listdir(os.path.join(site.data, "parked")) == []


def test_what_moves_into_a_folder_that_was_read_from_one_that_was_not(tmp_path):
    """No record has its content; nothing of ours moves while the names of an account are read."""
    site = filled(tmp_path)
    states = [everything(site)]

    def meddle():
        STEPS["moved back"](site)
        states.append(everything(site))

    class Between(Meddled):
        pinned = False
        looked = 0

        def flock(self, fd, operation):
            super().flock(fd, operation)
            self.pinned |= os.readlink(f"/proc/self/fd/{fd}").endswith("pins")

        def stat(self, path):
            if self.pinned and path.endswith("d/a/Maildir/.Work/new"):
                # First to see that it is a folder; then, when the inbox was read, its reading begins.
                self.looked += 1
                self.at = 0 if self.looked > 1 else self.at
            return super().stat(path)

    disk = Between(1 << 30, meddle)
    made = back_up(site, tmp_path / "to", Clock(), disk=disk)
    assert len(states) == 2
    site.kill()
    put_back(made, tmp_path / "new")
    again = start(tmp_path / "new")
    assert everything(again) in states
    again.stop()


def test_what_is_written_between_the_copies_of_two_segments(tmp_path):
    """A record that comes after another one is never there without it."""
    site = filled(tmp_path)
    states = [everything(site)]
    # As a checkpoint does it before it seals the one that is written
    site.store._journal._segments.make_after(2)

    def meddle():
        site.deliver(letter(72), A)
        states.append(everything(site))
        checkpoint(site)
        site.deliver(letter(73), A)
        states.append(everything(site))

    class Second(Meddled):
        copied = ()

        def before(self, name, args):
            path = str(args[0])
            if name == "open" and path.startswith(f"{site.data}/journal/") and ".log" in path:
                if self.copied and path not in self.copied:
                    # This one is opened when that has happened
                    self.at = 0
                self.copied = {*self.copied, path} if self.pinned > 1 else ()
            super().before(name, args)

        pinned = 0

        def flock(self, fd, operation):
            super().flock(fd, operation)
            self.pinned |= os.readlink(f"/proc/self/fd/{fd}").endswith("pins")

        def stat(self, path):
            found = super().stat(path)
            if self.pinned and path.endswith("/journal"):
                # Its beginning was looked at; now it is copied.
                self.pinned = 2
            return found

    made = back_up(site, tmp_path / "to", Clock(), disk=Second(1 << 30, meddle))
    assert len(states) == 3
    site.kill()
    put_back(made, tmp_path / "new")
    again = start(tmp_path / "new")
    assert everything(again) in states
    again.stop()


def test_what_is_parked_goes_into_its_mailbox_meanwhile(tmp_path):
    """Then it is in no record, and in one of two places, or in both."""
    site = with_something_parked(tmp_path / "count")
    disk = Meddled()
    back_up(site, tmp_path / "count" / "to", Clock(), disk=disk)
    filled_in(site)
    expected = everything(site)
    for at in [0, *range(1, disk.count, 12)]:
        site = with_something_parked(tmp_path / str(at))
        meddled = Meddled(at, lambda site=site: filled_in(site)) if at else None
        made = back_up(site, tmp_path / f"to{at}", Clock(), disk=meddled)
        site.kill()
        put_back(made, tmp_path / f"new{at}")
        again = start(tmp_path / f"new{at}")
        assert everything(again) == expected, at
        again.stop()


def test_a_server_that_stops_and_starts_meanwhile(tmp_path):
    total = operations(tmp_path / "count")
    for at in range(total // 2, total, 60):
        site = filled(tmp_path / str(at))
        states = []
        sites = [site]

        def meddle(site=site, sites=sites, states=states):
            site.stop()
            sites.append(Site(site.data, seed=5, segment_size=64 << 20).start())
            sites[-1].deliver(letter(60), A)
            move(sites[-1], A, "INBOX", bases(sites[-1], A, "INBOX", letter(1)), "Work")
            states.append(everything(sites[-1]))

        states.append(everything(site))
        made = back_up(site, tmp_path / f"to{at}", Clock(), disk=Meddled(at, meddle))
        sites[-1].kill()
        put_back(made, tmp_path / f"new{at}")
        again = start(tmp_path / f"new{at}")
        assert everything(again) in states
        again.stop()


def test_a_server_that_stops_and_starts_all_the_time(tmp_path):
    site = filled(tmp_path)
    sites = [site]

    class Restless(Meddled):
        began = False

        def flock(self, fd, operation):
            super().flock(fd, operation)
            self.began |= os.readlink(f"/proc/self/fd/{fd}").endswith("pins")

        def stat(self, path):
            found = super().stat(path)
            if self.began and path.endswith("/journal"):
                self.began = False
                sites[-1].stop()
                sites.append(Site(site.data, seed=len(sites) + 5).start())
                sites[-1].deliver(letter(60), A)
            return found

    target = tmp_path / "to"
    with pytest.raises(BackupError, match="again and again"):
        back_up(site, target, Clock(), disk=Restless())
    assert os.listdir(target) == [".lock"]
    assert len(sites) == 1 + making.WINDOWS


def test_no_segment_is_dropped_while_the_last_look_is_under_way(tmp_path):
    """What was moved between two folders that were read at two times is in the journal still."""
    site = filled(tmp_path)
    held = []

    class Watching(Meddled):
        def flock(self, fd, operation):
            super().flock(fd, operation)
            if os.readlink(f"/proc/self/fd/{fd}").endswith("pins"):
                before = set(os.listdir(os.path.join(site.data, "journal")))
                checkpoint(site)
                held.append(before <= set(os.listdir(os.path.join(site.data, "journal"))))

    back_up(site, tmp_path / "to", Clock(), disk=Watching())
    assert held == [True]
    checkpoint(site)
    folder(site, A, "Work")
    site.stop()
