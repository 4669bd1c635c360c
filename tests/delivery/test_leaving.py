"""Clients that leave at every point where something is waited for: nothing is left, and nothing is half done."""

from __future__ import annotations

import pytest
from guarded import Guarded
from mailroom import ALICE, SENDER
from test_filtered import BIG, FAR, LETTER, LIST, BodyWriter, NoKeys
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

from twisted_mail.connection.drive import Waiting
from twisted_mail.delivery.interfaces import Client, Envelope, Recipient
from twisted_mail.delivery.sealing import Sealer
from twisted_mail.filters import interfaces as filters
from twisted_mail.filters.chain import Chain
from twisted_mail.policy.greylist import Greylist, GreylistSettings

SIGNED = b"DKIM-Signature: v=1; a=rsa-sha256; d=elsewhere.example; s=s; h=from; bh=AAAA; b=AAAA\r\n"


class Slow:
    """A filter that takes its time."""

    name = "slow"

    def __init__(self, clock):
        self.clock = clock

    async def scan(self, message):
        done = Deferred(lambda _: call.cancel())
        call = self.clock.callLater(2, done.callback, None)
        await done
        await message.body.read(0, 65_536)
        return filters.Opinion(edits=(filters.Add(b"X-Seen: yes\n"),))


def make(path):
    def parts(site):
        clock = site.world.reactor
        chain = Chain(clock, (BodyWriter(BIG), Slow(clock)))
        grey = Greylist(GreylistSettings(delay=1, learn=1), site.world.now)
        grey.check("192.0.2.7", SENDER, ALICE)
        site.world.reactor.advance(5)
        grey.check("192.0.2.7", SENDER, ALICE)
        return {"incoming": chain, "sealer": Sealer(NoKeys(), site.world.now), "greylist": grey}

    site = Guarded(path, delay=1.0, parts=parts)
    site.directory.add_alias(str(LIST), [FAR, ALICE])
    return site


async def conversation(site, visit, content):
    visit.helo("client.example")
    client = Client("192.0.2.7", "client.example", "ESMTP", None, None, "c1", visit=visit)
    envelope = Envelope(SENDER)
    await site.intake.check_sender(client, envelope)
    for address in (ALICE, LIST):
        await site.intake.route(client, envelope, address)
        envelope.recipients.append(Recipient(address))
    message = site.intake.begin(client, envelope)
    committing = False
    try:
        for at in range(0, len(content), 65_536):
            await message.write(content[at : at + 65_536])
        committing = True
        await message.commit()
    finally:
        # As the session does when the connection is lost
        if not committing:
            message.abort()


@pytest.mark.parametrize("content", [LETTER, SIGNED + BIG], ids=["small", "large"])
def test_who_leaves_at_any_moment_leaves_nothing(tmp_path, content):
    logged = []
    globalLogPublisher.addObserver(logged.append)
    try:
        step, whole = 0, False
        while not whole:
            path = tmp_path / str(step)
            path.mkdir()
            site = make(path)
            whole = leave(site, content, step)
            site.close()
            step += 1
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert step >= 5
    assert not [event for event in logged if "log_failure" in event]


class Leaving(Waiting):
    """Is cancelled when it waits for the time after `step`."""

    left = False
    step = 0

    def wait_for(self, awaited):
        super().wait_for(awaited)
        self.step -= 1
        if self.step < 0 and not self.left:
            self.left = True
            self.cancel()


def leave(site, content, step):
    """Whether it was all over before so many things were waited for."""
    ends = []
    visit = site.intake.visit("192.0.2.7", "c1", submission=False)
    waiting = Leaving(conversation(site, visit, content), ends.append, ends.append)
    waiting.step = step
    waiting.begin()
    for _ in range(2000):
        if ends or waiting.left:
            break
        site.world.reactor.settle()
        site.world.reactor.advance(0.25)
    visit.end()
    for _ in range(40):
        site.turn()
        site.world.reactor.advance(0.5)
    assert visit.asking == 0
    kept, queued = len(site.inbox()), len(site.queued())
    # All of it, or nothing; of what was committed the journal may still name the file.
    assert (kept, queued) in ((0, 0), (1, 1)), (step, kept, queued)
    if not kept:
        assert site.spilled() == [], step
    assert len(site.told.all) == 1, step
    if not ends:
        maybe = any("it may be there" in line for line in site.lines())
        assert maybe or not kept, step
        return False
    assert ends == [None], ends
    assert kept
    return True
