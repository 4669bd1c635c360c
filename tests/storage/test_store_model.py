"""The store against a model: whatever happens in whatever order, the mailboxes hold what the model says."""

from __future__ import annotations

import os
import shutil

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from store_site import Site, scratch, seen

from twisted_mail.testing.disk import PowerCutDisk

ACCOUNTS = ("d/a", "d/b", "d/c")
accounts = st.sampled_from(ACCOUNTS)


class StoreModel(RuleBasedStateMachine):
    """`model`: account → [(uidl, content)] in order, as POP3 shows it."""

    @initialize()
    def start(self):
        self.root = scratch()
        self.number = 0
        self.boot = 1
        self.data = os.path.join(self.root, "1")
        os.mkdir(self.data)
        self.model = {account: [] for account in ACCOUNTS}
        self.unseen = {account: set() for account in ACCOUNTS}
        self.deleted = {account: set() for account in ACCOUNTS}
        """By another program. While nobody has noted that, its unlink is not synced."""
        self.maybe = {account: set() for account in ACCOUNTS}
        self.given = {}
        """(account, UIDVALIDITY, UID) → base: what a client may have been told."""
        self._open()

    def _open(self):
        self.disk = PowerCutDisk(self.data)
        self.disk.after("syncfs", (self.data,))
        self.number += 1
        self.site = Site(
            os.path.join(self.data, "site"),
            disk=self.disk,
            seed=self.number,
            boot=str(self.boot),
            segment_size=40_000,
        ).start()

    def teardown(self):
        if hasattr(self, "site"):
            self.site.kill()
            self.disk.close_all()
            shutil.rmtree(self.root)

    def _look(self, account):
        found = self.site.read(account)
        known = dict(self.model[account])
        # What had been deleted before a power cut may be there again.
        there = {content for _, content in found}
        self.unseen[account] |= self.maybe[account] & there
        self.maybe[account].clear()
        self.deleted[account] -= there  # then it is a message as any other
        fresh = [row for row in found if row[0] not in known]
        assert {content for _, content in fresh} == self.unseen[account]
        assert len(fresh) == len(self.unseen[account])
        assert [row for row in found if row[0] in known] == self.model[account]
        self.model[account] = found
        self.unseen[account] = set()

    @rule(to=st.sets(accounts, min_size=1), size=st.sampled_from([10, 2000, 300_000]))
    def deliver(self, to, size):
        self.number += 1
        content = b"Subject: %d\n\n" % self.number + b"x" * size + b"\n"
        self.site.deliver(content, *sorted(to))
        for account in to:
            self.unseen[account].add(content)

    @rule(account=accounts)
    def look(self, account):
        self._look(account)

    @rule(account=accounts, data=st.data())
    def delete(self, account, data):
        self._look(account)
        rows = self.model[account]
        which = data.draw(st.sets(st.integers(0, len(rows) - 1)) if rows else st.just(set()))
        self.site.delete(account, *sorted(which))
        self.model[account] = [row for n, row in enumerate(rows) if n not in which]

    @rule(account=accounts, data=st.data())
    def another_program_reads(self, account, data):
        """It moves one message from new to cur, as mutt does."""
        folder = os.path.join(self.site.maildir(account), "new")
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        if names:
            name = data.draw(st.sampled_from(names))
            os.rename(os.path.join(folder, name), os.path.join(folder, "..", "cur", f"{name}:2,S"))

    @rule(account=accounts, data=st.data())
    def another_program_deletes(self, account, data):
        """Before or after anybody has looked, and before it is noticed."""
        folder = os.path.join(self.site.maildir(account), "new")
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        if names:
            name = data.draw(st.sampled_from(names))
            with open(os.path.join(folder, name), "rb") as file:
                content = file.read()
            os.unlink(os.path.join(folder, name))
            self.deleted[account].add(content)
            self._forgotten(account, {content})

    def _forgotten(self, account, contents):
        self.unseen[account] -= contents
        self.model[account] = [row for row in self.model[account] if row[1] not in contents]

    @rule(account=accounts)
    def the_index_is_lost(self, account):
        for suffix in ("", "-wal", "-shm"):
            path = os.path.join(self.site.data, "mail", account, f"index.sqlite3{suffix}")
            if os.path.exists(path):
                os.unlink(path)

    @rule()
    def checkpoint(self):
        self.site.run(self.site.world.threads.call(self.site.store._journal.checkpoint))

    @rule()
    def stop_and_start(self):
        self.site.stop()
        self.disk.close_all()
        self._open()

    @rule()
    def kill_and_start(self):
        self.site.kill()
        self.disk.close_all()
        self._open()

    @rule()
    def power_cut_and_start(self):
        self.boot += 1
        target = os.path.join(self.root, str(self.boot))
        self.disk.after_cut(target)
        for account in ACCOUNTS:
            self.maybe[account] |= self.deleted[account]
        self.site.kill()
        self.disk.close_all()
        shutil.rmtree(self.data)
        self.data = target
        self._open()

    @rule(account=accounts)
    def no_uid_is_given_twice_nor_below_another(self, account):
        if not os.path.isdir(self.site.maildir(account)):
            return
        store = self.site.store._accounts.get(account)
        rows = seen(store)
        assert len({row[0] for row in rows}) == len(rows)
        validity = store.validity("")
        told = [uid for one, of, uid in self.given if (one, of) == (account, validity)]
        for uid, base, *_ in rows:
            known = self.given.setdefault((account, validity, uid), base)
            assert known == base
        fresh = [row[0] for row in rows if row[0] not in told]
        assert not told or not fresh or min(fresh) > max(told)


TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
