"""Files of a mailbox, damaged in every way: the mail is there, its files untouched, and what can be kept is kept."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from store_site import Site, seen

from twisted_mail.disk import OsDisk
from twisted_mail.status import MailError
from twisted_mail.storage.aside import KEPT, remains, set_aside


def garbage(path: Path) -> None:
    path.write_bytes(b"no database at all, but long enough to be looked at" * 200)


def half(path: Path) -> None:
    os.truncate(path, os.path.getsize(path) // 2 + 100)


def short(path: Path) -> None:
    os.truncate(path, 50)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA user_version=99")


def no_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DROP TABLE message")


def mixed(path: Path) -> None:
    """Pages in each other's place: as a disk that writes where it was not told to."""
    data = path.read_bytes()
    pages = [data[at : at + 4096] for at in range(0, len(data), 4096)]
    pages[1:] = pages[:0:-1]
    path.write_bytes(b"".join(pages))


def flipped(seed: int) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        random = Random(seed)
        data = bytearray(path.read_bytes())
        for _ in range(random.choice([1, 5, 200])):
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        path.write_bytes(data)

    flip.__name__ = f"flipped_{seed}"
    return flip


DAMAGES = [
    *(garbage, half, short, empty, directory, newer, no_table, mixed, Path.unlink),
    *map(flipped, range(12)),
]


def message(number: int) -> bytes:
    return b"Subject: %d\n\n" % number + b"x" * number + b"\n"


def files(site: Site) -> dict[str, int]:
    """The names of all messages, and their inodes."""
    return {
        name.partition(":")[0]: os.stat(os.path.join(site.maildir("d/a"), sub, name)).st_ino
        for sub in ("new", "cur")
        for name in os.listdir(os.path.join(site.maildir("d/a"), sub))
    }


def patiently(work: Callable[..., Any], *args: Any) -> Any:
    """A question that met the damage is answered with a no, once, and asked again."""
    for _ in range(2):
        try:
            return work(*args)
        except (MailError, sqlite3.Error):
            continue
    return work(*args)


def numbers(site: Site) -> dict[str, int]:
    return {row[1]: row[0] for row in seen(site.store._accounts.get("d/a"))}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("up", [True, False])
def test_an_index(tmp_path: Path, damage: Callable[[Path], None], up: bool, told: Any) -> None:
    site = Site(str(tmp_path / "data")).start()
    for number in range(60):
        site.deliver(message(number), "d/a")
    site.delete("d/a", 3)
    before, uids, mail = site.contents("d/a"), numbers(site), files(site)
    path = Path(site.data, "mail/d/a/index.sqlite3")
    site.store._accounts.get("d/a").release()
    if not up:
        site.stop()
    damage(path)
    if not up:
        site = Site(site.data, seed=2).start()
    assert patiently(site.contents, "d/a") == before
    patiently(site.deliver, message(100), "d/a")
    assert patiently(site.contents, "d/a") == sorted([*before, message(100)])
    assert files(site).items() >= mail.items(), "a file of mail was touched"
    now = patiently(numbers, site)
    found = list(path.parent.glob("index.sqlite3.broken-*Z"))
    if not damage.__name__.startswith("flipped"):
        assert {base: now[base] for base in uids} == uids
        assert len(found) == (damage not in (empty, Path.unlink))
    assert len(set(now.values())) == 60, "two have one number"
    assert len(told("set aside as")) == len(found)
    site.stop()


@pytest.mark.parametrize("damage", [garbage, short, empty, Path.unlink, *map(flipped, range(8))])
def test_the_state_of_a_folder(tmp_path: Path, damage: Callable[[Path], None], told: Any) -> None:
    site = Site(str(tmp_path / "data")).start()
    for number in range(5):
        site.deliver(message(number), "d/a")
    before = site.contents("d/a")
    site.stop()
    path = Path(site.maildir("d/a"), "twisted-mail.state")
    was = path.read_bytes()
    damage(path)
    again = Site(site.data, seed=2).start()
    again.world.reactor.advance(5)
    assert patiently(again.contents, "d/a") == before
    again.deliver(message(100), "d/a")
    assert patiently(again.contents, "d/a") == sorted([*before, message(100)])
    if damage in (garbage, short, empty):
        assert len(list(path.parent.glob("twisted-mail.state.broken-*Z"))) == 1
        assert len(told("another UIDVALIDITY")) == 1
        assert path.read_bytes() != was
    again.stop()


def test_some_are_kept_and_no_more(tmp_path: Path) -> None:
    disk = OsDisk()
    path = tmp_path / "one.sqlite3"
    kept = []
    for number in range(12):
        path.write_bytes(b"%d" % number)
        path.with_name("one.sqlite3-wal").write_bytes(b"wal %d" % number)
        aside = set_aside(disk, str(path))
        assert aside is not None
        kept.append(aside)
        assert not path.exists() and not path.with_name("one.sqlite3-wal").exists()
    assert list(remains(disk, str(path))) == kept[-KEPT:]
    assert [Path(one).read_bytes() for one in kept[-KEPT:]] == [b"9", b"10", b"11"]
    assert Path(kept[-1] + "-wal").read_bytes() == b"wal 11"
    assert len(os.listdir(tmp_path)) == 2 * KEPT
    assert set_aside(disk, str(path)) is None


def test_what_another_process_has_made_anew_stays(tmp_path: Path) -> None:
    path = tmp_path / "one.sqlite3"
    path.write_bytes(b"new")
    assert set_aside(OsDisk(), str(path), path.stat().st_ino + 1) is None
    assert path.read_bytes() == b"new"
