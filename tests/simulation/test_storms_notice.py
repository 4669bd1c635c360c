"""A storm that notices nothing proves nothing: the server is broken on purpose, and some of it finds that out soon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred

from twisted_mail.delivery.notices import Notices
from twisted_mail.imap import view
from twisted_mail.queue.manager import QueueManager
from twisted_mail.storage.draft import Draft
from twisted_mail.storage.folder import Folder
from twisted_mail.storage.index import Index
from twisted_mail.storage.spool import Spool
from twisted_mail.storage.store import MailStore
from twisted_mail.testing import storm_people as people
from twisted_mail.testing import storm_weather as weather
from twisted_mail.testing.elsewhere import Elsewhere
from twisted_mail.testing.storm import Storm
from twisted_mail.testing.stormy_disk import StormyDisk
from twisted_mail.testing.truth import Deed, Wrong, token_of

SEEDS = 4
STEPS = 12

Happening = Callable[[Storm], None]


@pytest.fixture
def noticed(tmp_path):
    """What one of a few short storms of these happenings finds to be wrong, "" for nothing."""

    def noticed(happenings: Sequence[Happening], steps: int = STEPS, seeds: int = SEEDS) -> str:
        for seed in range(seeds):
            directory = tmp_path / f"{len(list(tmp_path.iterdir()))}"
            directory.mkdir()
            try:
                storm = Storm(directory, seed=seed, happenings=[(one, 1) for one in happenings])
                storm.run(steps)
                storm.end()
            except Wrong as wrong:
                return str(wrong)
        return ""

    return noticed


def go_on(storm: Storm) -> None:
    """The power goes, and luck keeps nothing that was not synced."""
    storm.disk.power_off()
    storm.power_cut()


def come_and_go(storm: Storm) -> None:
    """Of what ann has, the last is deleted; two letters come."""
    user = "ann@home.example"
    with storm.imap(user) as imap:
        box = imap.look("INBOX")
        assert box is not None and imap.command("SELECT INBOX")
        if box.messages:
            last = max(box.messages)
            imap.command(rf"UID STORE {last} +FLAGS (\Deleted)")
            answered = imap.command(f"UID EXPUNGE {last}")
            token = token_of(box.messages[last]) or ""
            storm.truth.did(Deed(user, token, "INBOX", "", answered))
        for _ in range(2):
            letter = storm.letter(user, ())
            letter.answered = imap.command("APPEND INBOX", letter.content)
            storm.truth.appended(user, letter, "INBOX")


def stay_everywhere(storm: Storm) -> None:
    """In every inbox there is a session that believes what it is told."""
    for (user, folder), follower in storm.followers.items():
        if folder == "INBOX" and not any(follower is other for _, _, other in storm.sessions):
            imap = people.Imap(storm.dial(993), storm.pass_)
            assert imap.login(user, storm.password) and follower.open(imap)
            storm.sessions.append((imap, user, follower))


def come_back(storm: Storm) -> None:
    """All are asked what has become of them since."""
    stay_everywhere(storm)
    for imap, _, _ in storm.sessions:
        imap.abort()
    storm.sessions.clear()


QUIET = (people.receive, people.append, people.change, people.stay)


def test_all_is_well_when_nothing_is_broken(noticed):
    assert noticed([people.receive, people.submit, *QUIET, go_on], seeds=1) == ""


def test_no_fdatasync(noticed, monkeypatch):
    monkeypatch.setattr(StormyDisk, "fdatasync", lambda self, fd: None)
    # A letter, or a folder's numbers: whatever is asked for first.
    assert noticed([people.receive, people.append, go_on])


def test_a_250_before_the_commitment(noticed, monkeypatch):
    accept = MailStore.accept

    async def hasty(self: MailStore, *args: Any, **named: Any) -> None:
        self._world.reactor.callLater(
            5, lambda: ensureDeferred(accept(self, *args, **named)).addErrback(lambda _: None)
        )

    monkeypatch.setattr(MailStore, "accept", hasty)
    assert "is (), and may be" in noticed([people.receive, go_on])


def test_a_message_that_was_refused_is_kept(noticed, monkeypatch):
    accept = MailStore.accept

    async def lying(self: MailStore, *args: Any, **named: Any) -> None:
        await accept(self, *args, **named)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(MailStore, "accept", lying)
    assert "and may be [()]" in noticed([people.receive])


def test_one_recipient_of_two_is_forgotten(noticed, monkeypatch):
    accept = MailStore.accept

    async def forgetful(self: MailStore, draft: Draft, accounts: Any, **named: Any) -> None:
        await accept(self, draft, list(accounts)[:1], **named)

    monkeypatch.setattr(MailStore, "accept", forgetful)
    assert "is (), and may be" in noticed([people.receive])


def test_a_uid_is_given_again(noticed, monkeypatch):
    take_uid = Folder.take_uid

    def lazy(self: Folder, least: int = 0) -> int:
        self.uidnext = 1 + max((row[0] for row in self._index.rows(self.row.key)), default=0)
        return take_uid(self, least)

    monkeypatch.setattr(Folder, "take_uid", lazy)
    assert "UID" in noticed([come_and_go], steps=4, seeds=1)


def test_an_expunge_is_not_told(noticed, monkeypatch):
    monkeypatch.setattr(view, "_expunged", lambda before, gone: iter(()))
    monkeypatch.setattr(view, "_vanished", lambda gone: iter(()))
    assert "a session in" in noticed([come_and_go, stay_everywhere], steps=8)


def test_what_vanished_is_forgotten(noticed, monkeypatch):
    monkeypatch.setattr(Index, "vanished", lambda self, key, since: [])
    assert "by QRESYNC" in noticed([come_and_go, come_back], steps=8)


def test_bytes_are_changed(noticed, monkeypatch):
    write = Draft.write

    def careless(self: Draft, block: bytes, *args: Any) -> Any:
        return write(self, block.replace(b"\n.", b"\n "), *args)

    monkeypatch.setattr(Draft, "write", careless)
    assert "is not what was sent" in noticed([people.receive, people.append])


def test_a_bounce_is_not_written(noticed, monkeypatch):
    async def silent(self: Notices, changes: Any, *args: Any, **named: Any) -> None:
        await self.commit(changes)

    monkeypatch.setattr(Notices, "notify", silent)
    assert "neither there nor bounced" in noticed([people.submit])


def test_mail_leaves_the_queue_and_has_not_come(noticed, monkeypatch):
    class Forgetful(Counter[tuple[str, str]]):
        def __setitem__(self, key: tuple[str, str], value: int) -> None:
            """It is not there."""

    begin = Elsewhere.__init__

    def forgetful(self: Elsewhere, *args: Any) -> None:
        begin(self, *args)
        self.taken = Forgetful()

    monkeypatch.setattr(Elsewhere, "__init__", forgetful)
    assert "neither there nor bounced" in noticed([people.submit])


def test_a_temporary_file_is_left(noticed, monkeypatch):
    monkeypatch.setattr(Draft, "_drop", lambda self: None)
    assert "journal/spill" in noticed([_break_off])


def _break_off(storm: Storm) -> None:
    """A large letter, and its sender is gone in the midst of it."""
    smtp = people.Submission(storm.connect(25), storm.pass_)
    smtp.hello()
    assert smtp.begin("zoe@away.example", ["ann@home.example"])
    smtp.client.send(b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 8000)
    smtp.abort()


def test_the_file_of_a_message_that_is_over_is_left(noticed, monkeypatch):
    monkeypatch.setattr(Spool, "forget_file", lambda self, message: None)
    assert "left behind: ['queue/" in noticed([people.submit])


def test_a_timer_is_left(noticed, monkeypatch):
    start = QueueManager.start

    def forgetful(self: QueueManager) -> None:
        self._world.reactor.callLater(1e9, lambda: None)
        start(self)

    monkeypatch.setattr(QueueManager, "start", forgetful)
    assert "still due" in noticed([people.append], steps=1)


def test_a_descriptor_is_left(noticed, monkeypatch):
    monkeypatch.setattr(Spool, "close", lambda self: None)
    assert "still open" in noticed([people.submit], steps=3)


def test_a_deferred_is_left(noticed, monkeypatch):
    start = QueueManager.start
    kept: list[Deferred[None]] = []

    def forgetful(self: QueueManager) -> None:
        async def wait() -> None:
            await kept[-1]

        kept.append(Deferred())
        ensureDeferred(wait())
        start(self)

    monkeypatch.setattr(QueueManager, "start", forgetful)
    assert "still waited for" in noticed([people.append], steps=1)


def test_a_failure_that_nobody_hears_of(noticed, monkeypatch):
    start = QueueManager.start

    def failing(self: QueueManager) -> None:
        start(self)

        async def fail() -> None:
            raise ValueError("nobody waits for this")

        ensureDeferred(fail())

    monkeypatch.setattr(QueueManager, "start", failing)
    assert "nobody waits for this" in noticed([weather.heal], steps=2)


def test_what_goes_wrong_says_how_to_see_it_again(tmp_path):
    def wrong(storm: Storm) -> None:
        storm.say("something")
        raise Wrong("a promise")

    with pytest.raises(Wrong, match="a promise") as caught:
        Storm(tmp_path, seed=5, happenings=[(wrong, 1)]).run(1)
    notes = caught.value.__notes__
    assert "seed 5" in notes[0] and notes[-1] == "  wrong; something"
