"""A folder without `new`, `cur` or `tmp`, as a copy leaves it that knows no empty directories: nobody else's mail waits
for it, its own is there, and it is whole again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from filing_site import account, append, bases, expunge, held, message, move
from store_site import Site


def begun(tmp_path: Path) -> Site:
    site = Site(str(tmp_path / "data")).start()
    for number in range(3):
        site.deliver(b"Subject: %d\n\n" % number, "d/a")
    account(site, "d/a").folders.furnish()
    append(site, "d/a", "Work", message(b"Subject: work\n\nx\n", ("\\Seen",)))
    return site


def without(site: Site, folder: str, sub: str) -> Path:
    path = Path(site.maildir("d/a"), folder, sub)
    shutil.rmtree(path)
    return path


@pytest.mark.parametrize("sub", ["new", "cur", "tmp"])
@pytest.mark.parametrize("folder", ["", ".Work", ".Trash"])
@pytest.mark.parametrize("boot", ["boot-1", "boot-2"])
def test_it_keeps_nothing_from_being_replayed(
    tmp_path: Path, folder: str, sub: str, boot: str, told: Any
) -> None:
    site = begun(tmp_path)
    before = held(site, "d/a")
    site.kill()
    # On the same boot what went with the directory was taken by another program.
    kept = [(where, text, flags) for where, text, flags, _ in before]
    if boot == "boot-1":
        gone = {"": {"new": "INBOX"}, ".Work": {"cur": "Work"}}.get(folder, {}).get(sub)
        kept = [one for one in kept if one[0] != gone]
    missing = without(site, folder, sub)
    again = Site(site.data, seed=2, boot=boot).start()
    assert not told("not settled") and not told("not delivered") and not told("is parked")
    assert [one[:3] for one in held(again, "d/a")] == kept
    assert missing.is_dir() and missing.stat().st_mode & 0o777 == 0o700
    again.stop()
    assert not os.listdir(Path(site.data, "parked"))


@pytest.mark.parametrize("sub", ["new", "cur"])
def test_it_is_whole_again_at_the_next_login(tmp_path: Path, sub: str, told: Any) -> None:
    site = begun(tmp_path)
    (base,) = bases(site, "d/a", "Work")
    if sub == "cur":
        expunge(site, "d/a", "Work", [base])  # so that nothing goes with it
    site.stop()
    without(site, ".Work", sub)
    again = Site(site.data, seed=2).start()
    names = [box.name for box in account(again, "d/a").folders.all()]
    assert "Work" in names
    assert bool(bases(again, "d/a", "Work")) == (sub == "new")
    (one, *_) = bases(again, "d/a", "INBOX")
    move(again, "d/a", "INBOX", [one], "Work")
    assert one in bases(again, "d/a", "Work")
    assert len(told("directories were missing")) == 1
    again.stop()


def test_a_folder_without_both_is_none(tmp_path: Path) -> None:
    site = begun(tmp_path)
    without(site, ".Trash", "new")
    without(site, ".Trash", "cur")
    assert "Trash" not in [box.name for box in account(site, "d/a").folders.all()]
    site.stop()
