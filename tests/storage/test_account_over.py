"""An account that is removed while sessions have it open: they are told, and nothing of it is made again."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from itertools import count

import pytest
from store_site import Site
from twisted.logger import LogLevel, globalLogPublisher

from twisted_mail.mailboxes import Appending, StoreMode
from twisted_mail.status import MailError
from twisted_mail.storage.errors import AccountOver
from twisted_mail.storage.sessions import LEFT_SECONDS

HARMLESS = (5, 11)
"""DELETE and LIST: for who does not know yet that all has gone, they are no error."""
SEEDS = count(2)
MAIL = b"Subject: x\n\nx\n"
KEY = "d/a"


@pytest.fixture
def errors():
    """What is logged at level error and above."""
    events = []
    globalLogPublisher.addObserver(events.append)
    yield lambda: [e for e in events if e["log_level"] >= LogLevel.error]
    globalLogPublisher.removeObserver(events.append)


@pytest.fixture
def site(tmp_path):
    made = Site(str(tmp_path / "data")).start()
    yield made
    made.stop()


class Session:
    """One session of the account, with its inbox open."""

    def __init__(self, site):
        self.site = site
        self.ended = 0
        self.mailboxes = site.run(site.store.open_mailboxes(KEY))
        self.mailboxes.watch_end(self.end)
        self.box = site.run(self.mailboxes.open("INBOX"))

    def end(self):
        self.ended += 1

    def everything(self):
        """All that a session may ask for, as coroutines."""
        mailboxes, box = self.mailboxes, self.box

        async def append(name):
            draft = mailboxes.write()
            draft.write(MAIL)
            await mailboxes.append(name, [Appending(draft), Appending(_more(mailboxes))])

        yield mailboxes.create("Work")
        yield append("INBOX")
        yield append("Sent")
        yield mailboxes.subscribe("Sent", False)
        yield mailboxes.rename("Sent", "Gone")
        yield mailboxes.delete("Trash")
        yield mailboxes.status("Drafts")
        yield mailboxes.set_metadata("", {"/private/comment": b"x"})
        yield box.store([1], StoreMode.ADD, ["\\Deleted"])
        yield box.copy([1], "Sent")
        yield box.move([1], "Sent")
        yield mailboxes.list()

    def close(self):
        self.site.run(self.box.close())
        self.site.run(self.mailboxes.close())
        self.site.turn()


def _more(mailboxes):
    draft = mailboxes.write()
    draft.write(MAIL)
    return draft


def remove_here(site):
    site.run(site.store.remove_account(KEY))


def remove_elsewhere(site):
    other = Site(site.data, seed=next(SEEDS)).start()
    other.run(other.store.remove_account(KEY))
    other.stop()


def home(site):
    return os.path.join(site.data, "mail", KEY)


def test_sessions_are_told_at_once_when_this_process_removes_it(site, errors):
    site.deliver(MAIL, KEY)
    one, two = Session(site), Session(site)
    remove_here(site)
    site.turn()
    assert (one.ended, two.ended) == (1, 1)
    assert list(one.box.snapshot.uids) == [1], "a client would delete what it has of it"
    for session in (one, two):
        session.close()
    assert not errors()
    site.world.reactor.advance(LEFT_SECONDS)
    assert site.world.watcher.watched == []


def test_sessions_are_told_soon_when_another_process_removes_it(site, errors):
    site.deliver(MAIL, KEY)
    session = Session(site)
    remove_elsewhere(site)
    for _ in range(10):
        site.world.reactor.advance(0.1)
    assert session.ended == 1
    session.close()
    assert not errors()


@pytest.mark.parametrize("remove", [remove_here, remove_elsewhere])
@pytest.mark.parametrize("told", [False, True])
def test_nothing_of_it_is_made_again(site, errors, remove, told):
    site.deliver(MAIL, KEY)
    session = Session(site)
    asked = len(list(map(_never, session.everything())))
    for number in range(asked):
        # Each of them is the first to find out
        if number:
            site.deliver(MAIL, KEY)
            session = Session(site)
        remove(site)
        if told:
            site.world.reactor.advance(1)
        for _ in range(2):
            for at, wanted in enumerate(session.everything()):
                if at < number:
                    wanted.close()
                    continue
                with suppress(MailError) if at in HARMLESS else pytest.raises(MailError):
                    site.run(wanted)
                assert not os.path.exists(home(site)), at
        site.world.reactor.advance(1)
        assert session.ended == 1
        session.close()
    assert not errors()


def _never(coroutine):
    coroutine.close()


@pytest.mark.parametrize("remove", [remove_here, remove_elsewhere])
def test_what_leaves_it_makes_nothing_of_it(site, errors, remove):
    """EXPUNGE whose record is written after the account has gone, and the end of a POP3 session."""
    site.deliver(MAIL, KEY)
    session = Session(site)
    inbox = site.run(site.store.open_inbox(KEY))
    folder = session.mailboxes
    sent = site.run(folder.open("Sent"))
    remove(site)
    site.run(inbox.remove([0]))
    site.run(inbox.close())
    for _ in range(2):
        site.run(site.store.expunge(KEY, sent.mailbox_id, ["x"]))
        site.run(site.store.remove_folder(KEY, sent.mailbox_id))
        with pytest.raises(MailError):
            site.run(site.store.move(KEY, "", ["x"], sent.mailbox_id))
    assert not os.path.exists(home(site))
    site.run(sent.close())
    session.close()
    assert not errors()


def test_nor_does_a_replay_of_it(tmp_path, errors):
    site = Site(str(tmp_path / "data")).start()
    site.deliver(MAIL, KEY)
    session = Session(site)
    remove_here(site)
    site.run(site.store.expunge(KEY, "", ["x"]))
    site.run(site.store.remove_folder(KEY, session.box.mailbox_id))
    site.kill()
    again = Site(site.data, seed=3).start()
    assert not os.path.exists(home(again))
    assert not errors()
    again.stop()


@pytest.mark.parametrize("remove", [remove_here, remove_elsewhere])
def test_a_new_account_of_that_key_is_another_one(site, remove):
    site.deliver(MAIL, KEY)
    old = Session(site)
    remove(site)
    site.world.reactor.advance(1)
    site.deliver(MAIL + b"new\n", KEY)
    new = Session(site)
    assert site.contents(KEY) == [MAIL + b"new\n"]
    assert (old.ended, new.ended) == (1, 0)
    with pytest.raises(AccountOver):
        site.run(old.mailboxes.create("Work"))
    old.close()
    site.deliver(MAIL + b"newer\n", KEY)
    site.turn()
    assert len(new.box.snapshot) == 2, "the new one is still heard"
    site.run(new.mailboxes.create("Work"))
    new.close()
    site.world.reactor.advance(LEFT_SECONDS)
    assert site.world.watcher.watched == []


def test_an_account_that_is_taken_away_by_hand_is_over_as_well(site):
    session = Session(site)
    beside = os.path.join(site.data, "mail", "d/b")
    os.mkdir(beside)
    site.world.reactor.advance(1)
    assert session.ended == 0, "that was another one"
    shutil.rmtree(home(site))
    site.world.reactor.advance(1)
    assert session.ended == 1
    session.close()


def test_who_has_gone_is_not_told(site):
    session = Session(site)
    other = Session(site)
    session.close()
    remove_here(site)
    site.turn()
    assert (session.ended, other.ended) == (0, 1)
    other.close()
