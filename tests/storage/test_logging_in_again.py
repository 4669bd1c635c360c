"""Who opens an account again a short while later waits for no thread; what became of the account is seen as ever."""

from __future__ import annotations

import os

import pytest
from store_site import Site

from twisted_mail.disk import OsDisk
from twisted_mail.status import MailError
from twisted_mail.storage import sessions
from twisted_mail.storage.maildir import STATE_FILE

KEY = "d/a"
MAIL = b"Subject: x\n\nx\n"


class Telling(OsDisk):
    """A disk that counts looks: who does anything with an account takes its lock, or reads what state it is in."""

    def __init__(self):
        self.locks = 0
        self.states = 0

    def flock(self, fd, operation):
        self.locks += 1
        super().flock(fd, operation)

    def open(self, path, flags, mode=0o600):
        self.states += os.path.basename(path) == STATE_FILE
        return super().open(path, flags, mode)


@pytest.fixture
def site(tmp_path):
    site = Site(str(tmp_path / "data"), disk=Telling()).start()
    yield site
    site.stop()


def login(site):
    return site.run(site.store.open_mailboxes(KEY))


def visit(site):
    """How many looks it took."""
    before = site.disk.locks + site.disk.states
    site.run(login(site).close())
    return site.disk.locks + site.disk.states - before


def names(site):
    mailboxes = login(site)
    found = [box.name for box in site.run(mailboxes.list())]
    site.run(mailboxes.close())
    return found


def forgotten(site):
    """Others have pushed the account out of those whose files are open."""
    site.store._accounts.drop(KEY)


def remove(site, tmp_path):
    other = Site(str(tmp_path / "data"), seed=2).start()
    other.run(other.store.remove_account(KEY))
    other.stop()


def test_the_second_time_nothing_is_looked_for(site):
    assert visit(site) > 0
    assert visit(site) == 0
    forgotten(site)
    assert visit(site) == 0
    assert "Sent" in names(site)


def test_after_a_while_it_is_looked_at_again(site):
    visit(site)
    site.world.reactor.advance(sessions.FURNISHED_SECONDS + 1)
    locks = site.disk.locks
    assert visit(site) > 0
    assert site.disk.locks == locks, "one small file says that it has its folders"
    assert visit(site) == 0


def test_an_account_that_was_removed_and_made_again_gets_its_folders(site, tmp_path):
    visit(site)
    forgotten(site)
    remove(site, tmp_path)
    assert "Sent" in names(site)


def test_a_session_that_looked_for_nothing_is_told_that_its_account_is_gone(site, tmp_path):
    visit(site)
    forgotten(site)
    mailboxes = login(site)
    told = []
    mailboxes.watch_end(lambda: told.append("over"))
    remove(site, tmp_path)
    for _ in range(50):
        site.world.reactor.advance(0.1)
    assert told == ["over"]
    with pytest.raises(MailError):
        site.run(mailboxes.list())
    site.run(mailboxes.close())
    assert not os.path.exists(site.maildir(KEY))


def test_what_is_remembered_is_bounded(site, monkeypatch):
    monkeypatch.setattr(sessions, "MAX_FURNISHED", 1)
    visit(site)
    site.run(site.run(site.store.open_mailboxes("d/b")).close())
    assert visit(site) > 0


def select(site, key=KEY):
    """(locks that it took, messages) of a session that opens the inbox and ends."""
    before = site.disk.locks
    mailboxes = site.run(site.store.open_mailboxes(key))
    box = site.run(mailboxes.open("INBOX"))
    locks, found = site.disk.locks - before, len(box.snapshot)
    site.run(box.close())
    site.run(mailboxes.close())
    return locks, found


def test_a_mailbox_that_was_open_a_moment_ago_is_known(site):
    site.deliver(MAIL, KEY)
    for _ in range(2):
        # What came a moment before is looked at once more
        assert select(site)[1] == 1
    assert select(site) == (0, 1)
    site.world.reactor.advance(sessions.LEFT_SECONDS)
    assert site.world.watcher.watched == []
    locks, found = select(site)
    assert (locks > 0, found) == (True, 1)


def test_what_happens_to_a_mailbox_that_nobody_has_open_is_seen(site):
    site.deliver(MAIL, KEY)
    select(site)
    site.deliver(MAIL, KEY)
    site.turn()
    assert select(site)[1] == 2
    inbox = os.path.join(site.maildir(KEY), "cur")
    with open(os.path.join(inbox, "1.other:2,S"), "wb") as file:
        file.write(MAIL)
    site.world.reactor.advance(0.1)
    assert select(site)[1] == 3


def test_an_account_that_was_left_and_removed_is_another_one_when_it_is_back(site, tmp_path):
    site.deliver(MAIL, KEY)
    select(site)
    remove(site, tmp_path)
    for _ in range(50):
        site.world.reactor.advance(0.02)
    assert select(site)[1] == 0
    site.deliver(MAIL, KEY)
    assert select(site)[1] == 1


def test_accounts_that_were_left_are_bounded(site, monkeypatch):
    monkeypatch.setattr(sessions, "MAX_LEFT", 2)
    for key in ("d/a", "d/b", "d/c"):
        site.deliver(MAIL, key)
        select(site, key)
    assert [*site.store._sessions._open] == ["d/b", "d/c"]
    assert select(site, "d/a")[1] == 1
    assert [*site.store._sessions._open] == ["d/c", "d/a"]
    monkeypatch.setattr(sessions, "MAX_LEFT_MESSAGES", 1)
    select(site, "d/c")
    assert [*site.store._sessions._open] == ["d/c"]
    site.world.reactor.advance(sessions.LEFT_SECONDS)
    assert [*site.store._sessions._open] == []


def test_what_was_left_ends_with_the_site(site):
    site.deliver(MAIL, KEY)
    select(site)
    site.stop()
    assert site.world.watcher.watched == []
    assert site.store._sessions._open == {}
    site.start()
