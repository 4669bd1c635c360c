"""The journal and the small files of a site, damaged: what is whole is obeyed, the rest is told of and kept."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from random import Random
from typing import Any

import pytest
from store_site import Site

from twisted_mail.storage.segments import numbers_of
from twisted_mail.testing.disk import FaultyDisk, PowerCutDisk


def message(number: int) -> bytes:
    return b"Subject: %d\n\n" % number + b"x" * 50 + b"\n"


def segment(site: Site) -> Path:
    (path,) = Path(site.data, "journal").glob("*.log")
    return path


def unfilled(tmp_path: Path, count: int = 20) -> Site:
    """A site whose mail is in its journal alone: a power cut has taken the rest."""
    site = Site(str(tmp_path / "data")).start()
    for number in range(count):
        site.deliver(message(number), f"d/{number % 3}")
    site.kill()
    for key in ("d/0", "d/1", "d/2"):
        new = Path(site.maildir(key), "new")
        for name in os.listdir(new):
            os.unlink(new / name)
    return site


def restarted(site: Site, seed: int = 2) -> Site:
    return Site(site.data, seed=seed, boot="boot-2").start()


def mail(site: Site) -> list[bytes]:
    return sorted(one for key in ("d/0", "d/1", "d/2") for one in site.contents(key))


def damaged(site: Site) -> list[Path]:
    return sorted(Path(site.data, "journal").glob("damaged-segment.broken-*"))


@pytest.mark.parametrize("seed", range(20))
def test_flipped_bits_hide_their_records_only_and_are_told_of(
    tmp_path: Path, seed: int, told: Any
) -> None:
    site = unfilled(tmp_path)
    path = segment(site)
    data = bytearray(path.read_bytes())
    head = len(data) // 21
    random = Random(seed)
    hit = set()
    for _ in range(random.choice([1, 3])):
        at = random.randrange(len(data))
        data[at] ^= 1 << random.randrange(8)
        hit.add(at // head)
    path.write_bytes(data)
    was = path.read_bytes()
    again = restarted(site)
    found = mail(again)
    assert len(found) >= 20 - 2 * len(hit)
    assert set(found) <= {message(number) for number in range(20)}, "damaged mail was delivered"
    (aside,) = damaged(again)
    assert aside.read_bytes() == was
    assert len(told("no whole record")) == 1
    again.stop()
    assert not list(Path(site.data, "journal").glob("*.log"))


def test_the_end_is_torn(tmp_path: Path, told: Any) -> None:
    """As a process leaves it that is killed while it writes: nobody was told of that, and nothing is wrong."""
    site = unfilled(tmp_path)
    path = segment(site)
    os.truncate(path, path.stat().st_size - 30)
    again = restarted(site)
    assert mail(again) == sorted(message(number) for number in range(19))
    assert not damaged(again) and not told("no whole record")
    again.stop()


@pytest.mark.parametrize("what", ["garbage", "empty", "directory", "head", "zeros"])
def test_a_whole_segment(tmp_path: Path, what: str) -> None:
    site = unfilled(tmp_path)
    path = segment(site)
    size = path.stat().st_size
    if what == "directory":
        path.unlink()
        path.mkdir()
    elif what == "head":
        with open(path, "r+b") as file:
            file.write(b"\0" * 200)
    else:
        path.write_bytes({"garbage": os.urandom(size), "empty": b"", "zeros": bytes(size)}[what])
    again = restarted(site)
    assert len(mail(again)) == (19 if what == "head" else 0) or what == "head"
    assert len(damaged(again)) == 1 or what == "empty"
    # It goes on
    again.deliver(message(50), "d/0")
    again.kill()
    third = restarted(again, 3)
    assert message(50) in mail(third)
    third.stop()


def test_segments_under_each_others_names(tmp_path: Path) -> None:
    """They are obeyed in the order that they say themselves: what was deleted does not come back."""
    site = Site(str(tmp_path / "data")).start()
    site.deliver(message(1), "d/0")
    site.deliver(message(2), "d/0")
    journal = Path(site.data, "journal")
    with open(journal / "pins") as pins:
        fcntl.flock(pins, fcntl.LOCK_SH)  # as a backup does: nothing is dropped
        site.run(site.world.threads.call(site.store._journal.checkpoint))
    site.delete("d/0", 0)
    site.kill()
    first, second = sorted(journal.glob("*.log"))
    first.rename(journal / "away")
    second.rename(first)
    (journal / "away").rename(second)
    again = restarted(site)
    assert again.contents("d/0") == [message(2)]
    again.stop()


@pytest.mark.parametrize(
    "name", ["\u00b2.log", "\u0663.log", "007.log", "0.log", "1" * 5000 + ".log"]
)
def test_a_strange_name_is_none_of_ours(name: str) -> None:
    assert numbers_of([name, "12.log", "3.log", "3.log.new"]) == [3, 12]


def test_an_emptied_segment_is_told(tmp_path: Path, told: Any) -> None:
    site = unfilled(tmp_path)
    os.truncate(segment(site), 0)
    again = restarted(site)
    assert len(told("is empty: what it said is lost")) == 1
    again.stop()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_segment_that_is_deleted_while_it_is_in_use(
    tmp_path: Path, processes: int, told: Any
) -> None:
    """What would be written there no start finds: the next batch is in another one, and all before it is synced."""
    root = tmp_path / "before"
    root.mkdir()
    data = str(root / "data")
    disk = PowerCutDisk(str(root))
    site = Site(data, disk=disk).start()
    other = Site(data, disk=disk, seed=2).start() if processes == 2 else site
    site.deliver(message(1), "d/0")
    other.deliver(message(2), "d/0")
    segment(site).unlink()
    site.deliver(message(3), "d/0")
    other.deliver(message(4), "d/0")
    assert segment(site).stat().st_size
    assert len(told("was deleted while it was in use")) == processes
    disk.after_cut(str(tmp_path / "after"))
    disk.close_all()
    for one in {site, other}:
        one.kill()
    again = Site(str(tmp_path / "after/data"), seed=3, boot="boot-2").start()
    assert again.contents("d/0") == [message(number) for number in (1, 2, 3, 4)]
    again.stop()


def test_a_sector_that_cannot_be_read(tmp_path: Path) -> None:
    """What is around it can. When nothing can, the start fails: tomorrow all may be there."""
    site = unfilled(tmp_path, 200)
    path = segment(site)

    class Bad(FaultyDisk):
        bad: range = range(0)

        def pread(self, fd: int, size: int, offset: int) -> bytes:
            if os.readlink(f"/proc/self/fd/{fd}") == str(path) and any(
                at in self.bad for at in (offset, *range(offset, offset + size, 4096))
            ):
                raise OSError(5, "Input/output error")
            return super().pread(fd, size, offset)

    disk = Bad()
    disk.bad = range(1 << 30)
    failing = Site(site.data, seed=2, boot="boot-2", disk=disk)
    with pytest.raises(OSError, match="Input/output"):
        failing.start()
    failing.kill()
    assert path.exists()
    disk.bad = range(8192, 8193)
    again = Site(site.data, seed=2, boot="boot-2", disk=disk).start()
    assert 160 < len(mail(again)) < 200
    assert len(damaged(again)) == 1
    again.stop()


def test_so_many_segments_are_kept(tmp_path: Path) -> None:
    site = unfilled(tmp_path)
    for seed in range(2, 9):
        path = segment(site)
        with open(path, "r+b") as file:
            file.seek(-20, 2)
            file.write(b"\xff")
        site = restarted(site, seed)
        for number in range(5):
            site.deliver(message(number), "d/0")
        site.kill()
    assert len(damaged(site)) == 3


# -- what is beside it


@pytest.mark.parametrize("what", ["flipped", "short", "garbage", "directory"])
@pytest.mark.parametrize("up", [True, False])
def test_a_parked_place(
    tmp_path: Path, what: str, up: bool, monkeypatch: pytest.MonkeyPatch, told: Any
) -> None:
    site = Site(str(tmp_path / "data")).start()

    def broken(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(site.store._places._arrivals, "fill", broken)
        site.deliver(message(1), "d/0")
        site.deliver(message(2), "d/0")
    paths = sorted(Path(site.data, "parked").glob("*.log"))
    assert len(paths) == 2
    wrong = paths[0]
    data = bytearray(wrong.read_bytes())
    if what == "directory":
        wrong.unlink()
        wrong.mkdir()
    else:
        data[-3] ^= 1
        text = {"flipped": bytes(data), "short": bytes(data[:-9]), "garbage": b"x" * 500}[what]
        wrong.write_bytes(text)
    if not up:
        site.run(site.world.threads.call(site.store._journal.checkpoint))
        site.stop()
        site = Site(site.data, seed=2).start()
    site.world.reactor.advance(31)
    site.turn(100)
    assert len(site.contents("d/0")) == 1
    (aside,) = Path(site.data, "parked").glob("damaged.broken-*")
    assert aside.is_dir() or aside.stat().st_size in (len(data), len(data) - 9, 500)
    assert len(told("a place that waited to be filled, is damaged")) == 1
    site.world.reactor.advance(95)
    site.turn(100)
    assert len(told("is damaged")) == 1, "said again and again"
    site.stop()


@pytest.mark.parametrize("what", [b"", b"garbage", b"\0" * 48, None])
def test_a_writers_file(tmp_path: Path, what: bytes | None) -> None:
    """It is looked for what it was to say once more."""
    site = Site(str(tmp_path / "data")).start()
    for number in range(6):
        site.deliver(message(number), "d/0")
    site.kill()
    (writer,) = Path(site.data, "journal", "writers").iterdir()
    writer.unlink() if what is None else writer.write_bytes(what)
    again = Site(site.data, seed=2).start()
    assert again.contents("d/0") == sorted(message(number) for number in range(6))
    again.stop()


@pytest.mark.parametrize("where", ["spill", "scratch", "writers"])
def test_a_directory_where_files_lie_is_in_nobodys_way(tmp_path: Path, where: str) -> None:
    site = unfilled(tmp_path)
    Path(site.data, "journal", where, "somebody").mkdir()
    again = restarted(site)
    assert len(mail(again)) == 20
    assert Path(site.data, "journal", where, "somebody").is_dir()
    again.stop()


SITES: list[bytes | None] = [
    None,
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"version": 3}',
    b'{"version": 3, "generation": "x"}',
    b"\xff\xfe" * 40,
    b'{"version": 3, "gene\x12ation": 1}',
]


@pytest.mark.parametrize("text", SITES)
def test_the_sites_own_file(tmp_path: Path, text: bytes | None, told: Any) -> None:
    site = Site(str(tmp_path / "data")).start()
    for number in range(3):
        site.deliver(message(number), "d/0")
    uids = [row[0] for row in site.store._accounts.get("d/0").rows()]
    before = site.contents("d/0")
    site.stop()
    path = Path(site.data, "site.json")
    path.unlink() if text is None else path.write_bytes(text)
    again = Site(site.data, seed=2).start()
    values = json.loads(path.read_bytes())
    assert values["version"] == 3
    assert values["generation"] > 1_000_000_000, "an old index may be of that number"
    assert again.contents("d/0") == before
    assert [row[0] for row in again.store._accounts.get("d/0").rows()][: len(uids)] == uids
    again.deliver(message(9), "d/0")
    assert len(again.contents("d/0")) == 4
    assert len(told("site.json is")) == 1
    assert len(list(Path(site.data).glob("site.json.broken-*"))) == (text is not None)
    again.stop()


@pytest.mark.parametrize("text", [b'{"version": 7, "generation": 1}', b'{"version": 7, "gen'])
def test_a_newer_version_is_refused_although_it_is_damaged(tmp_path: Path, text: bytes) -> None:
    site = Site(str(tmp_path / "data")).start()
    site.stop()
    path = Path(site.data, "site.json")
    path.write_bytes(text)
    with pytest.raises(ValueError, match="use the newer program"):
        Site(site.data, seed=2).start()
    assert path.read_bytes() == text


def test_a_new_site_begins_at_one(tmp_path: Path) -> None:
    site = Site(str(tmp_path / "data")).start()
    assert json.loads(Path(site.data, "site.json").read_bytes())["generation"] == 1
    site.stop()
