"""Folders against a model: two processes file, copy, move, replace and delete in any order, die, lose their power."""

from __future__ import annotations

import os
import shutil
from random import Random

from filing_site import (
    Held,
    account,
    append,
    bases,
    copy,
    expunge,
    folder,
    held,
    message,
    move,
    picked,
    remove_folder,
    replace,
    uids,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from store_site import Site, scratch

from twisted_mail.storage import commits
from twisted_mail.testing.disk import PowerCutDisk

KEY = "d/a"
DATE = 1_000_000_000
NAMES = ("INBOX", "Sent", "Work", "Trash")
names = st.sampled_from(NAMES)
flags = st.lists(st.sampled_from(["\\Seen", "\\Flagged", "$Work", "other"]), unique=True)
sizes = st.sampled_from([10, 600, 300_000])
processes = st.integers(0, 1)


class FilingModel(RuleBasedStateMachine):
    """`model`: what the account holds. Contents are unique, but for copies."""

    @initialize()
    def start(self):
        self.inline, commits.INLINE = commits.INLINE, 2000
        self.root = scratch()
        self.number = 0
        self.boot = 1
        self.data = os.path.join(self.root, "1")
        os.mkdir(self.data)
        self.model: list[Held] = []
        self.given = {}
        self._open()
        for name in NAMES:
            folder(self.sites[0], KEY, name)

    def _open(self):
        self.disk = PowerCutDisk(self.data)
        self.disk.after("syncfs", (self.data,))
        self.sites = [self._site(), self._site()]

    def _site(self):
        self.number += 1
        return Site(
            os.path.join(self.data, "site"),
            disk=self.disk,
            seed=self.number,
            boot=str(self.boot),
            segment_size=40_000,
        ).start()

    def teardown(self):
        if hasattr(self, "sites"):
            commits.INLINE = self.inline
            for site in self.sites:
                site.kill()
            self.disk.close_all()
            shutil.rmtree(self.root)

    def _new(self, size, flags):
        self.number += 1
        content = b"Subject: %d\n\n" % self.number + b"x" * size + b"\n"
        return message(content, flags, DATE + self.number)

    def _held(self, name, new):
        return Held(name, new[0], tuple(sorted(new[1])), new[2])

    def _some(self, data, name):
        """(bases, what the model knows of them): a few messages of a folder."""
        found = bases(self.sites[0], KEY, name)
        which = data.draw(st.lists(st.sampled_from(found), unique=True)) if found else []
        known = picked(self.sites[0], KEY, name)
        chosen = [one for one in known if one.base in which]
        return [one.base for one in chosen], [
            Held(name, _read(one.path), tuple(sorted(one.flags)), one.date) for one in chosen
        ]

    def _went(self, gone):
        for one in gone:
            self.model.remove(one)

    @rule(of=processes, name=names, sizes=st.lists(sizes, min_size=1, max_size=3), flags=flags)
    def append(self, of, name, sizes, flags):
        new = [self._new(size, flags) for size in sizes]
        put = append(self.sites[of], KEY, name, *new)
        assert list(put.uids) == uids(self.sites[of], KEY, name)[-len(new) :]
        self.model += [self._held(name, one) for one in new]

    @rule(of=processes, name=names, to=names, data=st.data())
    def copy(self, of, name, to, data):
        some, known = self._some(data, name)
        put = copy(self.sites[of], KEY, name, some, to)
        assert len(put.uids) == len(put.sources) == len(some)
        self.model += [one._replace(folder=to) for one in known]

    @rule(of=processes, name=names, to=names, data=st.data())
    def move(self, of, name, to, data):
        if name == to:
            return
        some, known = self._some(data, name)
        put = move(self.sites[of], KEY, name, some, to)
        assert len(put.uids) == len(put.sources) == len(some)
        self._went(known)
        self.model += [one._replace(folder=to) for one in known]

    @rule(of=processes, name=names, to=names, size=sizes, flags=flags, data=st.data())
    def replace(self, of, name, to, size, flags, data):
        some, known = self._some(data, name)
        if some:
            new = self._new(size, flags)
            replace(self.sites[of], KEY, name, some[0], to, new)
            self._went(known[:1])
            self.model.append(self._held(to, new))

    @rule(of=processes, name=names, data=st.data())
    def expunge(self, of, name, data):
        some, known = self._some(data, name)
        expunge(self.sites[of], KEY, name, some)
        self._went(known)

    @rule(of=processes)
    def remove_folder(self, of):
        remove_folder(self.sites[of], KEY, "Work")
        self.model = [one for one in self.model if one.folder != "Work"]
        # One of that name that is made at once is another folder.
        folder(self.sites[1 - of], KEY, "Work")

    @rule()
    def the_index_is_lost(self):
        for suffix in ("", "-wal", "-shm"):
            path = os.path.join(self.sites[0].data, "mail", KEY, f"index.sqlite3{suffix}")
            if os.path.exists(path):
                os.unlink(path)

    @rule(of=processes)
    def checkpoint(self, of):
        self.sites[of].run(
            self.sites[of].world.threads.call(self.sites[of].store._journal.checkpoint)
        )

    @rule(of=processes, checkpoint=st.booleans())
    def one_dies(self, of, checkpoint):
        self.sites[of].kill()
        if checkpoint:
            self.checkpoint(1 - of)
        self.sites[of] = self._site()

    @rule()
    def all_stop(self):
        for site in self.sites:
            site.stop()
        self.disk.close_all()
        self._open()

    @rule()
    def all_die(self):
        for site in self.sites:
            site.kill()
        self.disk.close_all()
        self._open()

    @rule(luck=st.none() | st.integers(1, 1000))
    def the_power_is_cut(self, luck):
        self.boot += 1
        target = os.path.join(self.root, str(self.boot))
        self.disk.after_cut(target, luck=Random(luck) if luck else None)
        for site in self.sites:
            site.kill()
        self.disk.close_all()
        shutil.rmtree(self.data)
        self.data = target
        self._open()

    @invariant()
    def both_hold_what_the_model_does(self):
        if hasattr(self, "sites"):
            assert held(self.sites[0], KEY) == sorted(self.model)

    @invariant()
    def a_uid_is_one_message_for_ever(self):
        if not hasattr(self, "sites"):
            return
        for name in NAMES:
            which = folder(self.sites[1], KEY, name)
            validity = account(self.sites[1], KEY).snapshot(which).validity
            for one in picked(self.sites[1], KEY, name):
                key = (which, validity, one.uid)
                assert self.given.setdefault(key, one.base) == one.base


def _read(path):
    with open(path, "rb") as file:
        return file.read()


TestFilingModel = FilingModel.TestCase
TestFilingModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
