"""APPEND, COPY, MOVE, REPLACE, EXPUNGE, removed folders: every disk operation failing in turn, the power cut at each.

After each start every message is exactly once where the commands that were answered had put it, with its flags and its
date; the one command that was under way has happened as a whole or not at all.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from random import Random

import pytest
from filing_site import (
    Held,
    append,
    bases,
    copy,
    expunge,
    held,
    message,
    move,
    remove_folder,
    replace,
)
from store_site import Site

from twisted_mail.status import MailError
from twisted_mail.storage import commits
from twisted_mail.testing.disk import FaultyDisk, PowerCutDisk, copy_tree

KEY = "d/a"
DATE = 1_000_000_000
REFUSED = (MailError, OSError, sqlite3.Error)


def text(number, size=30):
    return b"Subject: %d\n\n" % number + b"x" * size + b"\n"


class PowerIsOff(Exception):
    pass


class Told:
    """What the client was told. `worlds`: what may be true, the messages sorted; one, but after a power cut."""

    def __init__(self, site):
        self.site = site
        self.worlds = [[]]

    def alive(self):
        return getattr(self.site.disk, "alive", True)

    def do(self, command, after):
        """`after` makes of the messages of before what they are when it has happened."""
        before = self.worlds[-1]
        try:
            result = command()
        except REFUSED:
            done = False
        else:
            done = result is not False
        if not self.alive():
            self.worlds = [before, sorted(after(before))]
            raise PowerIsOff
        if done:
            self.worlds = [sorted(after(before))]

    def put(self, name, *messages):
        new = [Held(name, content, tuple(sorted(flags)), date) for content, flags, date in messages]
        self.do(lambda: append(self.site, KEY, name, *messages), lambda was: was + new)

    def named(self, name, contents):
        """Their base names; None when they cannot be told, or are not there (they are parked)."""
        try:
            found = bases(self.site, KEY, name, *contents)
        except REFUSED:
            found = []
        if not self.alive():
            raise PowerIsOff
        return found if len(found) == len(contents) else None

    def changed(self, name, contents, command, to):
        """`command` with the base names; `to` makes of one message that it is about what comes of it."""
        found = self.named(name, contents)
        meant = [one for one in self.worlds[-1] if one.folder == name and one.content in contents]
        if found is None or len(meant) != len(contents):
            return  # What is not done yet, for a fault, is parked.

        def after(was):
            return [
                new
                for one in was
                for new in (to(one) if one.folder == name and one.content in contents else [one])
            ]

        self.do(lambda: command(found), after)

    def copy(self, name, to, *contents):
        self.changed(
            name,
            contents,
            lambda found: copy(self.site, KEY, name, found, to),
            lambda one: [one, one._replace(folder=to)],
        )

    def move(self, name, to, *contents):
        self.changed(
            name,
            contents,
            lambda found: move(self.site, KEY, name, found, to),
            lambda one: [one._replace(folder=to)],
        )

    def expunge(self, name, *contents):
        self.changed(
            name,
            contents,
            lambda found: expunge(self.site, KEY, name, found),
            lambda one: [],
        )

    def replace(self, name, content, to, new):
        put = Held(to, new[0], tuple(sorted(new[1])), new[2])
        self.changed(
            name,
            [content],
            lambda found: replace(self.site, KEY, name, found[0], to, new),
            lambda one: [put],
        )

    def remove_folder(self, name):
        if os.listdir(os.path.join(self.site.data, "parked")):
            return  # What is still to come there would go to the inbox.

        def after(was):
            return [one for one in was if one.folder != name]

        self.do(lambda: remove_folder(self.site, KEY, name), after)

    def checkpoint(self):
        self.site.run(self.site.world.threads.call(self.site.store._journal.checkpoint))

    def check(self, site):
        assert held(site, KEY) in self.worlds


def filing(told):
    told.put("Sent", message(text(1), ["\\Seen", "$Work"], DATE))
    told.put(
        "Drafts",
        *[message(text(n, 700 if n == 3 else 30), ["\\Draft"], DATE + n) for n in (2, 3, 4)],
    )
    told.copy("Sent", "Trash", text(1))
    told.copy("Drafts", "Trash", text(2), text(3, 700), text(4))
    told.expunge("Drafts", text(2))
    told.replace("Drafts", text(4), "Sent", message(text(5), ["\\Answered"], DATE + 5))


def moving(told):
    told.put("Sent", message(text(1), ["\\Seen", "$Work"], DATE))
    told.put("INBOX", message(text(2), [], DATE + 2), message(text(3, 700), [], DATE + 3))
    told.checkpoint()
    told.put("Sent", message(text(4), ["other"], DATE + 4))
    told.move("Sent", "Work", text(1), text(4))
    told.move("INBOX", "Sent", text(2), text(3, 700))
    told.move("Work", "Sent", text(1))
    told.expunge("Sent", text(2))
    told.move("Sent", "Work", text(3, 700))
    told.remove_folder("Work")
    told.copy("Sent", "Trash", text(1))


@pytest.fixture(scope="module")
def template():
    """An account with its folders, so that they need not be made each time."""
    from store_site import scratch

    root = scratch(kept=True)
    site = Site(os.path.join(root, "data"), seed=99).start()
    append(site, KEY, "Work", message(text(0)))
    expunge(site, KEY, "Work", bases(site, KEY, "Work"))
    site.stop()
    yield os.path.join(root, "data")
    shutil.rmtree(root)


@pytest.fixture(autouse=True)
def _little_room(monkeypatch):
    monkeypatch.setattr(commits, "INLINE", 500)


def operations(run):
    number = 1
    while run(number):
        number += 1
    assert number > 50


scenarios = pytest.mark.parametrize("scenario", [filing, moving])


@scenarios
def test_all_goes_as_it_is_told(tmp_path, template, scenario):
    data = str(tmp_path / "data")
    copy_tree(template, data)
    site = Site(data).start()
    told = Told(site)
    scenario(told)
    told.check(site)
    assert len(held(site, KEY)) > 1
    site.stop()
    again = Site(data, seed=2).start()
    told.check(again)
    again.stop()


@scenarios
def test_every_operation_failing_once_leaves_what_was_told(tmp_path, template, scenario):
    def run(number):
        data = str(tmp_path / str(number))
        copy_tree(template, data)
        disk = FaultyDisk(number)
        site = Site(data, disk=disk)
        told = Told(site)
        try:
            site.start()
        except (MailError, OSError, ValueError):
            return bool(disk.failed)  # it did not start, and nothing was promised
        scenario(told)
        disk.fail_at = 0
        site.world.reactor.advance(31)  # what was parked is tried again
        site.turn()
        told.check(site)
        assert os.listdir(os.path.join(data, "parked")) == []
        site.kill()
        again = Site(data, seed=2).start()
        told.check(again)
        again.stop()
        shutil.rmtree(data)
        return bool(disk.failed)

    operations(run)


@scenarios
@pytest.mark.parametrize("luck", [None, 1, 2, 3])
def test_a_power_cut_at_every_operation_leaves_what_was_told(tmp_path, template, scenario, luck):
    def run(number):
        root, after = str(tmp_path / f"{number}"), str(tmp_path / f"{number}-after")
        os.mkdir(root)
        copy_tree(template, os.path.join(root, "data"))
        disk = PowerCutDisk(root, number)
        disk.after("syncfs", (root,))
        site = Site(os.path.join(root, "data"), disk=disk)
        told = Told(site)
        try:
            site.start()
            scenario(told)
        except (PowerIsOff, MailError, OSError, ValueError):
            pass
        cut = not disk.alive
        disk.after_cut(after, luck=Random(luck * 1000 + number) if luck else None)
        disk.close_all()
        site.kill()
        data = os.path.join(after, "data")
        for seed in (2, 3):
            again = Site(data, seed=seed, boot="boot-2").start()
            told.check(again)
            if seed == 2:
                again.kill()
        again.stop()
        shutil.rmtree(root)
        shutil.rmtree(after)
        return cut

    operations(run)


@scenarios
def test_a_process_that_dies_at_any_operation_leaves_the_rest_to_the_others(
    tmp_path, template, scenario
):
    def run(number):
        data = str(tmp_path / str(number))
        copy_tree(template, data)
        disk = FaultyDisk(number, lasting=True)
        other = Site(data, seed=5).start()
        site = Site(data, disk=disk)
        told = Told(site)
        disk_alive = type("Mortal", (), {"alive": property(lambda self: not disk.failed)})()
        told.alive = lambda: disk_alive.alive
        try:
            site.start()
            scenario(told)
        except (PowerIsOff, MailError, OSError, ValueError):
            pass
        dead = bool(disk.failed)
        disk.fail_at = 0
        site.kill()
        other.run(other.world.threads.call(other.store._journal.checkpoint))
        other.world.reactor.advance(31)
        other.turn()
        told.check(other)
        other.kill()
        again = Site(data, seed=2).start()
        told.check(again)
        again.stop()
        shutil.rmtree(data)
        return dead

    operations(run)
