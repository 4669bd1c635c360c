"""An inbox that nobody has changed is opened from memory; what was changed, by whomever, is seen at the next login."""

from __future__ import annotations

import os
import shutil

import pytest
from store_site import Site

from twisted_mail.disk import OsDisk
from twisted_mail.status import MailError
from twisted_mail.storage import inboxes

SMALL = b"Subject: one\n\nhello\n"
KEY = "d/a"


class Telling(OsDisk):
    """A disk that tells which files were asked for by name."""

    def __init__(self):
        self.opened = []
        self.frozen = None

    def clock_ns(self):
        return self.frozen or super().clock_ns()

    def open(self, path, flags, mode=0o600):
        self.opened.append(os.path.basename(path))
        return super().open(path, flags, mode)

    def stat(self, path):
        self.opened.append(os.path.basename(path))
        return super().stat(path)

    def looked_inside(self, work):
        """Whether `work` had the account's index, or its lock."""
        self.opened.clear()
        work()
        return "index.sqlite3" in self.opened


@pytest.fixture
def site(tmp_path):
    site = Site(str(tmp_path / "data"), disk=Telling()).start()
    site.deliver(SMALL, KEY)
    listing(site)
    yield site
    site.stop()


def age(site):
    """What happened to the directories was long ago."""
    for sub in ("new", "cur"):
        os.utime(os.path.join(site.maildir(KEY), sub), (1_600_000_000, 1_600_000_000))


def listing(site):
    inbox = site.run(site.store.open_inbox(KEY))
    site.run(inbox.close())
    return [message.uidl for message in inbox.messages]


def looks(site):
    return site.disk.looked_inside(lambda: listing(site))


def test_an_inbox_that_is_as_it_was_is_opened_from_memory(site):
    age(site)
    before = listing(site)
    assert not looks(site)
    assert listing(site) == before
    assert site.contents(KEY) == [SMALL]


@pytest.mark.parametrize(
    ("changed", "sure"),
    [
        (1_700_000_000_000_000_001, inboxes.SETTLED_NS),
        # Perhaps a file system that has whole seconds only
        (1_700_000_000_000_000_000, inboxes.COARSE_NS),
    ],
)
def test_what_changed_a_moment_ago_may_change_unseen_and_is_not_kept(site, changed, sure):
    age(site)
    os.utime(os.path.join(site.maildir(KEY), "cur"), ns=(changed, changed))
    site.disk.frozen = changed + sure
    listing(site)
    assert looks(site)
    site.disk.frozen += 1
    assert looks(site)
    assert not looks(site)


def test_a_delivery_is_seen(site):
    age(site)
    listing(site)
    site.deliver(SMALL, KEY)
    assert len(listing(site)) == 2


def test_what_another_program_brings_takes_and_moves_is_seen(site):
    age(site)
    (uidl,) = listing(site)
    new, cur = (os.path.join(site.maildir(KEY), sub) for sub in ("new", "cur"))
    with open(os.path.join(new, "1700000001.M1.other"), "wb") as file:
        file.write(SMALL)
    assert sorted(listing(site)) == sorted([uidl, "1700000001.M1.other"])
    age(site)
    assert len(listing(site)) == 2
    for name in os.listdir(new):
        os.rename(os.path.join(new, name), os.path.join(cur, name + ":2,S"))
    assert len(site.contents(KEY)) == 2
    age(site)
    assert len(listing(site)) == 2
    for name in os.listdir(cur):
        os.unlink(os.path.join(cur, name))
    assert listing(site) == []


def test_what_a_session_deletes_is_gone(site):
    site.deliver(SMALL, KEY)
    age(site)
    _, second = listing(site)
    site.delete(KEY, 0)
    assert listing(site) == [second]


def test_one_session_holds_an_inbox_that_is_kept(site):
    age(site)
    listing(site)
    held = site.run(site.store.open_inbox(KEY))
    with pytest.raises(MailError) as refused:
        site.run(site.store.open_inbox(KEY))
    assert refused.value.pop3 == "IN-USE"
    site.run(held.close())
    assert not looks(site)


def test_who_has_a_kept_inbox_open_keeps_other_processes_out(site, tmp_path):
    age(site)
    listing(site)
    other = Site(str(tmp_path / "data"), seed=2).start()
    held = site.run(site.store.open_inbox(KEY))
    with pytest.raises(MailError):
        other.run(other.store.open_inbox(KEY))
    site.run(held.close())
    other.run(other.run(other.store.open_inbox(KEY)).close())
    other.stop()


def test_an_account_that_was_removed_and_made_again_is_another_one(site):
    age(site)
    listing(site)
    site.run(site.store.remove_account(KEY))
    assert listing(site) == []
    assert not os.path.exists(os.path.join(site.data, "mail", "d", "gone"))


def test_a_maildir_that_was_taken_away_is_not_opened_from_memory(site):
    age(site)
    listing(site)
    shutil.rmtree(site.maildir(KEY))
    with pytest.raises(MailError):
        listing(site)


def test_what_was_kept_for_long_is_looked_at_again(site):
    age(site)
    listing(site)
    site.world.reactor.advance(inboxes.KEPT_SECONDS / 2)
    assert not looks(site)
    site.world.reactor.advance(inboxes.KEPT_SECONDS)
    assert looks(site)
    assert not looks(site)


def opened(rows, maildir="/nowhere/Maildir"):
    return inboxes.Opened(maildir, [()] * rows, [()] * rows, -1, (1, 1), settled=True)


def test_what_is_kept_is_bounded_by_inboxes_and_by_messages():
    kept = inboxes.Inboxes(OsDisk(), lambda: 0.0)
    for number in range(inboxes.MAX_INBOXES + 10):
        kept.keep(f"d/u{number}", opened(1))
    assert len(kept._kept) == inboxes.MAX_INBOXES
    assert "d/u9" not in kept._kept
    assert "d/u10" in kept._kept
    kept.keep("d/large", opened(inboxes.MAX_MESSAGES))
    assert list(kept._kept) == ["d/large"]
    kept.keep("d/large", opened(3))
    kept.keep("d/u1", opened(inboxes.MAX_MESSAGES - 3))
    assert list(kept._kept) == ["d/large", "d/u1"]
    kept.keep("d/u2", opened(inboxes.MAX_MESSAGES + 1))
    assert list(kept._kept) == ["d/large", "d/u1"]
