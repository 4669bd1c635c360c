"""Upgrades: copied, switched, undone; with the power cut at every operation. Steps of the tests' own stand in for
those of days to come."""

from __future__ import annotations

import json
import os
from random import Random

import pytest
from store_site import Site

from twisted_mail.storage.site_file import VERSION
from twisted_mail.storage.store import MailStore
from twisted_mail.storage.upgrading import STEPS, Step, Upgrade, UpgradeError, write_version
from twisted_mail.testing.disk import FaultyDisk, HookedDisk, PowerCutDisk

A = "d/a"


def read(*path):
    with open(os.path.join(*path), "rb") as file:
        return file.read()


def write(data, *path):
    os.makedirs(os.path.dirname(os.path.join(*path)), exist_ok=True)
    with open(os.path.join(*path), "wb") as file:
        file.write(data)


def convert(disk, source, target):
    """Of a list of words one with another word; of nothing, the word."""
    words = b""
    if disk.exists(source):
        fd = disk.open(source, os.O_RDONLY)
        words = disk.pread(fd, 1000, 0)
        disk.close(fd)
    fd = disk.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    disk.write(fd, words + b" more")
    disk.close(fd)


def step(before, *files):
    return Step(before, "words", lambda disk, data: files, convert)


WAY = (step(5, "one", "sub/two"), step(6, "sub/two", "fresh"))
OLD = {"one": b"uno", "sub/two": b"due"}
NEW = {"one": b"uno more", "sub/two": b"due more more", "fresh": b" more"}


@pytest.fixture
def data(tmp_path):
    path = str(tmp_path / "data")
    os.mkdir(path)
    fill(path)
    return path


def fill(path):
    for name, text in OLD.items():
        write(text, path, name)
    write(b'{"version": 5, "generation": 3}', path, "site.json")


def version(data):
    return json.loads(read(data, "site.json"))["version"]


def up(data, disk=None, steps=WAY, wanted=7):
    disk = disk or HookedDisk()
    upgrade = Upgrade(disk, data, steps)
    return upgrade.run(version(data), wanted, lambda: write_version(disk, data, wanted))


def back(data, disk=None):
    disk = disk or HookedDisk()
    return Upgrade(disk, data, WAY).undo(lambda old: write_version(disk, data, old))


def words(data):
    return {
        name: read(data, name)
        for name in ("one", "sub/two", "fresh")
        if os.path.exists(os.path.join(data, name))
    }


def names(data):
    found = []
    for directory, _, files in os.walk(data):
        found += [os.path.relpath(os.path.join(directory, name), data) for name in files]
    return sorted(found)


def test_there_and_back(data):
    assert up(data)
    assert (version(data), words(data)) == (7, NEW)
    assert read(data, "one.before-5") == b"uno"
    assert not up(data), "twice"
    back(data)
    assert (version(data), words(data)) == (5, OLD)
    # What the newer one had stored is not thrown away
    assert read(data, "sub/two.after-7") == b"due more more"
    assert read(data, "fresh.after-7") == b" more"
    with pytest.raises(UpgradeError, match="no upgrade that could be undone"):
        back(data)
    assert up(data)
    assert (version(data), words(data)) == (7, NEW)
    Upgrade(HookedDisk(), data).clean_start()
    assert names(data) == ["fresh", "one", "site.json", "sub/two"]
    with pytest.raises(UpgradeError, match="no upgrade that could be undone"):
        back(data)


def test_all_else_in_site_json_stays(data):
    up(data)
    assert json.loads(read(data, "site.json")) == {"version": 7, "generation": 3}


def settled(data):
    """What becomes of it at the next start of the new program."""
    up(data)
    return version(data), words(data)


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_the_power_is_cut_at_every_operation_of_an_upgrade(tmp_path, seed):
    at = cuts = 0
    while True:
        at += 1
        root = str(tmp_path / str(at))
        os.makedirs(f"{root}/data")
        fill(f"{root}/data")
        disk = PowerCutDisk(root)
        disk.after("syncfs", (root,))
        disk.fail_at = at
        try:
            up(f"{root}/data", disk)
        except OSError:
            cuts += 1
        over = disk.alive
        target = str(tmp_path / f"{at}-cut")
        disk.after_cut(target, luck=Random(seed * 1000 + at) if seed else None)
        disk.close_all()
        data = f"{target}/data"
        there = version(data), words(data)
        assert there[0] in (5, 7)
        if there[0] == 7:
            assert there[1] == NEW
        assert settled(data) == (7, NEW)
        # And still nothing is lost: it can be undone.
        back(data)
        assert (version(data), words(data)) == (5, OLD)
        if over:
            break
    assert cuts > 25


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_the_power_is_cut_at_every_operation_of_an_undo(tmp_path, seed):
    at = 0
    refused = 0
    while True:
        at += 1
        root = str(tmp_path / str(at))
        os.makedirs(f"{root}/data")
        fill(f"{root}/data")
        up(f"{root}/data")
        disk = PowerCutDisk(root)
        disk.after("syncfs", (root,))
        disk.fail_at = at
        try:
            back(f"{root}/data", disk)
        except OSError:
            pass
        over = disk.alive
        target = str(tmp_path / f"{at}-cut")
        disk.after_cut(target, luck=Random(seed * 1000 + at) if seed else None)
        disk.close_all()
        data = f"{target}/data"
        if version(data) == 5:
            assert words(data) == OLD
        elif json.loads(read(data, "upgrade.json"))["state"] == "undoing":
            with pytest.raises(UpgradeError, match=r"an undo was cut short.*--undo"):
                up(data)
            refused += 1
        else:
            assert words(data) == NEW
        if os.path.exists(f"{data}/upgrade.json"):
            back(data)
        assert (version(data), words(data)) == (5, OLD)
        assert read(data, "sub/two.after-7") == NEW["sub/two"]
        if over:
            break
    assert refused


def test_every_operation_that_fails_leaves_what_there_was_or_goes_on(tmp_path):
    at = 0
    while True:
        at += 1
        data = str(tmp_path / str(at))
        os.mkdir(data)
        fill(data)
        disk = FaultyDisk(at)
        try:
            up(data, disk)
        except OSError:
            assert disk.failed
        else:
            assert not disk.failed
            return
        assert settled(data) == (7, NEW)
        assert not [name for name in names(data) if ".upgrade" in name]


def test_a_step_that_cannot_be_done_changes_nothing(data):
    def fails(disk, source, target):
        write(b"half", target)
        raise ValueError("one: line 3 is no word")

    steps = (WAY[0], Step(6, "words", lambda disk, data: ("sub/two",), fails))
    before = names(data)
    for _ in range(2):
        with pytest.raises(ValueError, match="line 3"):
            up(data, steps=steps)
        assert (version(data), words(data)) == (5, OLD)
    assert up(data)
    assert (version(data), words(data)) == (7, NEW)
    assert set(before) <= set(names(data))


def test_what_has_no_way_or_is_half_done_by_another_is_refused(data):
    with pytest.raises(UpgradeError, match=r"version 5 .* no way from there to 7"):
        up(data, steps=WAY[1:])
    kept = {"from": 5, "to": 6, "state": "switching", "files": [], "made": []}
    write(json.dumps(kept).encode(), data, "upgrade.json")
    with pytest.raises(UpgradeError, match=r"between the versions 5 and 6 .* program that began"):
        up(data)
    write(b"{", data, "upgrade.json")
    with pytest.raises(UpgradeError, match="is damaged"):
        up(data)
    assert words(data) == OLD


# -- the store


def test_the_steps_of_this_program_lead_to_its_version():
    assert [one.before for one in STEPS] == list(range(1, VERSION))


class Stored(Site):
    """A site with steps of its own."""

    def __init__(self, data, steps=STEPS, **how):
        super().__init__(data, **how)
        boot = how.get("boot", "boot-1")
        self.store = MailStore(self.world, data, host="test", boot=boot, steps=steps)


def test_a_store_of_an_older_version_is_upgraded_when_it_starts_and_serves_the_same(tmp_path):
    data = str(tmp_path / "data")
    site = Site(data).start()
    site.deliver(b"Subject: one\n\nx\n", A)
    before = site.read(A)
    site.stop()
    write(b"due", data, "sub/two")
    write_version(HookedDisk(), data, VERSION - 1)
    site = Stored(data, (step(VERSION - 1, "sub/two"),)).start()
    assert site.read(A) == before
    assert (version(data), read(data, "sub/two")) == (VERSION, b"due more")
    site.kill()
    # Not a clean stop: what was before is kept
    site = Stored(data, seed=2).start()
    assert read(data, f"sub/two.before-{VERSION - 1}") == b"due"
    site.stop()
    site = Stored(data, seed=3).start()
    assert not os.path.exists(os.path.join(data, f"sub/two.before-{VERSION - 1}"))
    assert site.read(A) == before
    site.stop()


@pytest.mark.parametrize("old", range(1, VERSION))
def test_the_versions_that_there_were(tmp_path, old):
    data = str(tmp_path / "data")
    site = Site(data).start()
    site.deliver(b"Subject: one\n\nx\n", A)
    before = site.read(A)
    site.stop()
    write_version(HookedDisk(), data, old)
    site = Site(data, seed=2).start()
    assert version(data) == VERSION
    assert site.read(A) == before
    assert json.loads(read(data, "upgrade.json"))["from"] == old
    site.stop()


def test_a_store_does_not_start_when_a_step_fails(tmp_path):
    data = str(tmp_path / "data")
    Site(data).start().stop()
    write_version(HookedDisk(), data, VERSION - 1)

    def fails(disk, source, target):
        raise ValueError("two: there is no room for words")

    steps = Step(VERSION - 1, "words", lambda disk, data: ("sub/two",), fails)
    os.mkdir(os.path.join(data, "sub"))
    failing = Stored(data, (steps,), seed=2)
    with pytest.raises(ValueError, match="no room for words"):
        failing.start()
    failing.kill()
    assert version(data) == VERSION - 1
    Stored(data, seed=3).start().stop()
    assert version(data) == VERSION
