"""What the journal promises of two processes on one site, and of other programs beside them: a test a rule.

`one` and `other` share the disk and nothing else. What is there at the end is asked of a third, after both were killed
or the power was cut.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from delivering_process import delivering
from filing_site import append, bases, copy, expunge, held, message, move, uids
from store_site import Site

from twisted_mail.status import MailError
from twisted_mail.storage import commits
from twisted_mail.testing.disk import FaultyDisk, HookedDisk, PowerCutDisk

KEY = "d/a"
BOOTS = ["boot-1", "boot-2"]


def text(number: int, size: int = 30) -> bytes:
    return b"Subject: %d\n\n" % number + b"x" * size + b"\n"


def checkpoint(site: Site) -> None:
    site.run(site.world.threads.call(site.store._journal.checkpoint))


def both(tmp_path: Path, **options: Any) -> tuple[Site, Site]:
    data = str(tmp_path / "data")
    return Site(data, seed=1, **options).start(), Site(data, seed=2, **options).start()


def after(*dead: Site, boot: str = "boot-1", seed: int = 3) -> Site:
    for site in dead:
        site.kill()
    return Site(dead[0].data, seed=seed, boot=boot).start()


def places(site: Site) -> dict[str, Path]:
    """Where each message's file is, by its base name."""
    found = Path(site.maildir(KEY)).glob("**/*,S=*")
    return {path.name.partition(",")[0]: path for path in found}


def once(site: Site, expected: Sequence[bytes], *where: str) -> None:
    """These messages, each once, in these folders together; and so they are after one more start."""
    for _ in range(2):
        found = sorted(one.content for one in held(site, KEY) if not where or one.folder in where)
        assert found == sorted(expected)
        numbers = {name: uids(site, KEY, name) for name in {one.folder for one in held(site, KEY)}}
        for folder in numbers.values():
            assert len(set(folder)) == len(folder)
        site.kill()
        site = Site(site.data, seed=9, boot="boot-3").start()
    site.stop()


# -- one removes or moves what the other accepted


@pytest.mark.parametrize("boot", BOOTS)
@pytest.mark.parametrize("dropped", [False, True])
def test_removed_by_one_what_the_other_accepted(tmp_path: Path, boot: str, dropped: bool) -> None:
    """Whichever segment the two records are in. A power cut may have brought the file back, too."""
    one, other = both(tmp_path)
    for number in range(3):
        one.deliver(text(number), KEY)
    if dropped:
        checkpoint(other)
    names = dict.fromkeys(bases(other, KEY, "INBOX", text(1)))
    new = Path(other.maildir(KEY), "new")
    lost = {path: path.read_bytes() for path in new.iterdir() if path.name.split(",")[0] in names}
    expunge(other, KEY, "INBOX", list(names))
    assert not any(path.exists() for path in lost)
    if boot != "boot-1":
        for path, content in lost.items():
            path.write_bytes(content)
    once(after(one, other, boot=boot), [text(0), text(2)])


@pytest.mark.parametrize("boot", BOOTS)
def test_moved_by_one_what_the_other_accepted_and_back_by_the_other(
    tmp_path: Path, boot: str
) -> None:
    one, other = both(tmp_path)
    for number in range(3):
        one.deliver(text(number), KEY)
    append(other, KEY, "Work", message(text(7)))
    move(other, KEY, "INBOX", bases(other, KEY, "INBOX", text(0), text(1)), "Work")
    checkpoint(one)
    one.deliver(text(3), KEY)
    before = places(one)
    move(one, KEY, "Work", bases(one, KEY, "Work", text(0)), "INBOX")
    move(other, KEY, "INBOX", bases(other, KEY, "INBOX", text(3)), "Work")
    expunge(other, KEY, "Work", bases(other, KEY, "Work", text(7)))
    if boot != "boot-1":
        # The cut has taken the renames back.
        for base, path in places(one).items():
            if (
                path.parent != before[base].parent
                and path.parent.parent != before[base].parent.parent
            ):
                path.rename(before[base])
    again = after(one, other, boot=boot)
    assert sorted((had.folder, had.content) for had in held(again, KEY)) == [
        ("INBOX", text(0)),
        ("INBOX", text(2)),
        ("Work", text(1)),
        ("Work", text(3)),
    ]
    once(again, [*map(text, range(4))])


# -- another program at the very moment


Act = Callable[[str], None]


def seen(path: str) -> None:
    name = os.path.basename(path)
    os.rename(path, os.path.join(os.path.dirname(os.path.dirname(path)), "cur", f"{name}:2,S"))


def filed(path: str) -> None:
    name = os.path.basename(path)
    work = os.path.join(os.path.dirname(os.path.dirname(path)), ".Work", "cur")
    os.rename(path, os.path.join(work, f"{name}:2,S"))


class Beside(HookedDisk):
    """Another program that watches `new`, and is as fast as can be."""

    act: Act | None = None

    def after(self, name: str, args: Sequence[Any]) -> None:
        if self.act is None or name not in ("link_fd", "link"):
            return
        path = str(args[1])
        if os.path.basename(os.path.dirname(path)) == "new":
            self.act(path)


@pytest.mark.parametrize("boot", BOOTS)
@pytest.mark.parametrize("act", [seen, filed, os.unlink])
@pytest.mark.parametrize("is_open", [False, True])
def test_a_reader_that_moves_or_deletes_while_it_is_filled(
    tmp_path: Path, act: Act, boot: str, is_open: bool
) -> None:
    """It gets the file between the link and the row. What it moved stays where it is, and is there once. What it
    deleted nobody noticed before the power was cut, and may be back."""
    disk = Beside()
    one, other = both(tmp_path, disk=disk)
    append(one, KEY, "Work", message(text(9)))
    sessions = [one.run(one.store.open_mailboxes(KEY))] if is_open else []
    disk.act = act
    for number in range(4):
        (one if number % 2 else other).deliver(text(number), KEY)
    disk.act = None
    one.deliver(text(8), KEY)
    sessions.clear()
    again = after(one, other, boot=boot)
    found = sorted((had.folder, had.content) for had in held(again, KEY))
    mine = [("INBOX", text(8)), ("Work", text(9))]
    theirs = {
        seen: [("INBOX", text(number)) for number in range(4)],
        filed: [("Work", text(number)) for number in range(4)],
        os.unlink: [],
    }[act]
    if act is os.unlink:
        assert set(mine) <= set(found) <= {*mine, *(("INBOX", text(n)) for n in range(4))}
        assert boot != "boot-1" or found == sorted(mine), (
            "on the same boot it is known to be filled"
        )
    else:
        assert found == sorted([*mine, *theirs])
    once(again, [content for _, content in found])


@pytest.mark.parametrize("killed", ["one", "both", "power"])
@pytest.mark.parametrize("act", [seen, filed])
@pytest.mark.parametrize("arrivals_alone", [False, True])
def test_moved_by_mutt_between_fill_and_replay(
    tmp_path: Path, killed: str, act: Act, arrivals_alone: bool
) -> None:
    """`arrivals_alone`: then the index is not opened at a replay."""
    one, other = both(tmp_path)
    append(one, KEY, "Work", message(text(9)))
    if arrivals_alone:
        checkpoint(one)
    for number in range(4):
        (one if number % 2 else other).deliver(text(number), KEY)
    new = Path(one.maildir(KEY), "new")
    for path in sorted(new.iterdir())[:3]:
        act(str(path))
    if killed == "one":
        one.kill()
        other.run(other.store.settle())
        checkpoint(other)
        again = other
    else:
        again = after(one, other, boot="boot-2" if killed == "power" else "boot-1")
    assert len([had for had in held(again, KEY) if had.folder == "Work"]) == (
        4 if act is filed else 1
    )
    once(again, [*(text(number) for number in range(4)), text(9)])


# -- COPY and EXPUNGE, by two, cut anywhere


@pytest.mark.parametrize("luck", [None, 1])
@pytest.mark.parametrize("large", [False, True])
def test_copy_by_one_and_expunge_by_the_other_cut_anywhere(
    tmp_path: Path, luck: int | None, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that moves by COPY and EXPUNGE on two connections: the message is always in one of the two places, and
    where it is told to be."""
    monkeypatch.setattr(commits, "INLINE", 500)
    sizes = (900, 30) if large else (30, 40)
    mail = [text(1, sizes[0]), text(2, sizes[1])]

    def run(number: int) -> bool:
        root, target = str(tmp_path / f"{number}"), str(tmp_path / f"{number}-after")
        os.mkdir(root)
        disk = PowerCutDisk(root)
        one, other = both(Path(root), disk=disk)
        append(one, KEY, "INBOX", *(message(content) for content in mail))
        append(one, KEY, "Trash", message(text(0)))
        disk.after("syncfs", (root,))
        disk.count, disk.fail_at = 0, number
        copied = gone = False
        try:
            copy(one, KEY, "INBOX", bases(one, KEY, "INBOX"), "Trash")
            copied = disk.alive
            expunge(other, KEY, "INBOX", bases(other, KEY, "INBOX"))
            gone = disk.alive
        except (MailError, OSError, ValueError):
            pass
        cut = not disk.alive
        disk.after_cut(target, luck=Random(luck * 1000 + number) if luck else None)
        disk.close_all()
        one.kill()
        other.kill()
        again = Site(os.path.join(target, "data"), seed=7, boot="boot-2").start()
        found = [(had.folder, had.content) for had in held(again, KEY)]
        assert len(set(found)) == len(found)
        for content in mail:
            places = {folder for folder, held_ in found if held_ == content}
            assert places, "lost"
            assert not copied or "Trash" in places
            assert not gone or places == {"Trash"}
        assert len({tuple(f for f, c in sorted(found) if c == content) for content in mail}) == 1
        again.stop()
        shutil.rmtree(root)
        shutil.rmtree(target)
        return cut

    number = 1
    while run(number):
        number += 1
    assert number > 8


# -- a sync that fails


@pytest.mark.parametrize("boot", BOOTS)
@pytest.mark.parametrize("how", ["fdatasync", "writev"])
def test_a_failed_sync_of_one_takes_nothing_of_the_other(
    tmp_path: Path, boot: str, how: str
) -> None:
    """What was answered no never comes; what the other has in the same segment, before and after, does; and both go on,
    after a failed `fdatasync` in another segment."""
    data = str(tmp_path / "data")
    disk = FaultyDisk(counted=[how], number=errno.EIO)
    one = Site(data, seed=1, disk=disk).start()
    other = Site(data, seed=2).start()
    one.deliver(text(0), KEY)
    other.deliver(text(1), KEY)
    before = set(Path(data, "journal").glob("*.log"))
    disk.fail_at = disk.count + 1
    with pytest.raises(MailError):
        one.deliver(text(66), KEY)
    other.deliver(text(2), KEY)
    one.deliver(text(3), KEY)
    other.deliver(text(4), KEY)
    now = set(Path(data, "journal").glob("*.log"))
    assert now > before if how == "fdatasync" else now == before
    if boot != "boot-1":
        one.kill()
        for path in (Path(one.maildir(KEY)) / "new").iterdir():
            path.unlink()
    once(
        after(*((other,) if boot != "boot-1" else (one, other)), boot=boot), [*map(text, range(5))]
    )


# -- segments


@pytest.mark.parametrize("kills", [1, 2])
def test_segments_are_switched_under_load_and_somebody_is_killed(
    tmp_path: Path, kills: int
) -> None:
    """A checkpoint every some dozen messages, of two real processes; one of them dies amid them, or both."""
    data = str(tmp_path / "data")
    processes = [
        delivering(data, name, KEY, sessions=4, count=60, size=500, segment_size=30_000)
        for name in ("p", "q")
    ]
    told: list[str] = []
    for number, process in enumerate(processes):
        assert process.stdout is not None
        if number < kills:
            # After so many of its own answers; the other one is somewhere
            told += [process.stdout.readline().strip() for _ in range(70)]
            process.kill()
        told += [line.strip() for line in process.stdout if line.endswith("\n")]
        process.communicate()
    site = Site(data, seed=9).start()
    contents = site.contents(KEY)
    subjects = [content.split(b"\n")[0].decode().removeprefix("Subject: ") for content in contents]
    assert len(set(subjects)) == len(subjects), "doubled"
    assert set(told) <= set(subjects), "lost"
    assert len(told) >= 100
    site.stop()


def test_replayed_twice_and_by_one_who_dies_of_it(tmp_path: Path) -> None:
    """A start that is killed at any of its operations, and the start after it; and the same journal once more, put back
    beside the mail that it has already made."""
    one, other = both(tmp_path)
    append(one, KEY, "Work", message(text(9)))
    for number in range(3):
        (one if number % 2 else other).deliver(text(number), KEY)
    move(other, KEY, "INBOX", bases(other, KEY, "INBOX", text(1)), "Work")
    expunge(one, KEY, "INBOX", bases(one, KEY, "INBOX", text(2)))
    one.enqueue(text(5), "aa00", "b@b.example")
    one.kill()
    other.kill()
    data = Path(one.data)
    expected = [text(0), text(1), text(9)]

    def run(number: int) -> bool:
        here = tmp_path / str(number)
        shutil.copytree(data, here / "data")
        disk = FaultyDisk(number, lasting=True)
        dying = Site(str(here / "data"), seed=4, boot="boot-2", disk=disk)
        try:
            dying.start()
        except (MailError, OSError, ValueError):
            pass
        died = bool(disk.failed)
        disk.fail_at = 0
        dying.kill()
        again = Site(str(here / "data"), seed=5, boot="boot-2").start()
        assert again.states().keys() == {("aa00", "b@b.example")}
        assert sorted(had.content for had in held(again, KEY)) == sorted(expected)
        again.stop()
        for path in (data / "journal").glob("*.log"):
            shutil.copy2(path, here / "data" / "journal" / path.name)
        twice = Site(str(here / "data"), seed=6, boot="boot-2").start()
        assert twice.states().keys() == {("aa00", "b@b.example")}
        once(twice, expected)
        shutil.rmtree(here)
        return died

    number = 1
    while run(number):
        number += 1
    assert number > 20


@pytest.mark.parametrize("when", [1, 4, 7])
def test_an_index_rolled_back_by_a_cut(tmp_path: Path, when: int) -> None:
    """It is as old as the moment after so many steps; files, names and ceilings are of now. No UID is given twice, none
    goes to another message, and what was expunged stays so."""
    one, other = both(tmp_path)
    index = Path(one.data, "mail", KEY, "index.sqlite3")
    kept = tmp_path / "kept"
    given: dict[int, bytes] = {}

    def told() -> None:
        for site in (one, other):
            for had in zip(uids(site, KEY, "INBOX"), bases(site, KEY, "INBOX"), strict=True):
                assert given.setdefault(had[0], had[1]) == had[1]

    steps: list[Callable[[], Any]] = [
        *(lambda number=number: one.deliver(text(number), KEY) for number in range(3)),
        lambda: expunge(other, KEY, "INBOX", bases(other, KEY, "INBOX", text(1))),
        lambda: other.deliver(text(3), KEY),
        lambda: append(one, KEY, "INBOX", message(text(4), ["\\Seen"])),
        lambda: expunge(one, KEY, "INBOX", bases(one, KEY, "INBOX", text(4))),
        lambda: other.deliver(text(5), KEY),
        lambda: one.deliver(text(6), KEY),
    ]
    for number, step in enumerate(steps, 1):
        step()
        told()
        if number == when:
            one.store._accounts.get(KEY).release()
            other.store._accounts.get(KEY).release()
            shutil.copy2(index, kept)
    one.kill()
    other.kill()
    for suffix in ("-wal", "-shm"):
        Path(f"{index}{suffix}").unlink(missing_ok=True)
    shutil.copy2(kept, index)
    one, other = (Site(one.data, seed=seed, boot="boot-2") for seed in (3, 4))
    one.start()
    other.start()
    expected = [text(number) for number in (0, 2, 3, 5, 6)]
    assert sorted(had.content for had in held(one, KEY)) == sorted(expected)
    told()
    other.deliver(text(7), KEY)
    one.deliver(text(8), KEY)
    told()
    assert max(given) > 10_000, "never one that may have been given"
    once(after(one, other, boot="boot-3"), [*expected, text(7), text(8)])
