"""Who opens an account again a short while later waits for no thread; what became of the account is seen as ever."""

from __future__ import annotations

import os

import pytest
from store_site import Site

from twisted_mail.disk import OsDisk
from twisted_mail.status import MailError
from twisted_mail.storage import sessions

KEY = "d/a"


class Telling(OsDisk):
    """A disk that counts locks: who does anything with an account takes its lock."""

    def __init__(self):
        self.locks = 0

    def flock(self, fd, operation):
        self.locks += 1
        super().flock(fd, operation)


@pytest.fixture
def site(tmp_path):
    site = Site(str(tmp_path / "data"), disk=Telling()).start()
    yield site
    site.stop()


def login(site):
    return site.run(site.store.open_mailboxes(KEY))


def visit(site):
    """How many locks it took."""
    before = site.disk.locks
    site.run(login(site).close())
    return site.disk.locks - before


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
    assert visit(site) > 0
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
