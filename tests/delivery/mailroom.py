"""A site of delivery's tests: from MAIL to the inbox and the queue, on a simulated world with a real store."""

from __future__ import annotations

import os

import pytest
from delivering import RECORD, done
from twisted.internet.defer import ensureDeferred
from twisted.python.failure import Failure

from twisted_mail.accounts.directory import Directory
from twisted_mail.address import Address
from twisted_mail.delivery.intake import IntakeSettings, MailIntake
from twisted_mail.delivery.interfaces import Client, Envelope, Recipient
from twisted_mail.status import MailError
from twisted_mail.storage.spool_view import Filter
from twisted_mail.storage.store import MailStore
from twisted_mail.testing.disk import HookedDisk
from twisted_mail.testing.world import simulated_world

ALICE = Address.parse("alice@example.org")
BOB = Address.parse("bob@example.org")
SENDER = Address.parse("sender@elsewhere.example")
LARGE = b"Subject: large\r\n\r\n" + (b"y" * 78 + b"\r\n") * 10_000


class Site:
    """A store, a directory with alice and bob, an intake."""

    def __init__(self, path, *, realm=None, routes=None, srs=None, disk=None, **settings):
        self.path = path
        self.disk = disk or HookedDisk()
        self.world = simulated_world(disk=self.disk)
        world = self.world
        self.directory = Directory(
            os.path.join(path, "accounts.sqlite3"), now=world.now, entropy=world.entropy
        )
        self.directory.add_domain("example.org")
        for address in (ALICE, BOB):
            self.directory.add_user(address, RECORD)
        self.store = MailStore(world, os.path.join(path, "data"), host="mx", boot="b")
        self.run(self.store.start())
        self.intake = MailIntake(
            world,
            IntakeSettings("mx.example.org", **settings),
            self.store,
            self.directory,
            realm,
            routes=routes,
            srs=srs,
        )

    def run(self, coroutine):
        results = []
        ensureDeferred(coroutine).addBoth(results.append)
        for _ in range(1000):
            if results:
                break
            self.world.reactor.settle()
        (result,) = results
        if isinstance(result, Failure):
            raise result.value
        return result

    def close(self):
        self.run(self.store.stop())
        self.directory.close()

    def begin(self, *recipients, account=None, sender=SENDER, tls=None, utf8=False, **options):
        """`recipients`: addresses, or `Recipient`s; each goes through RCPT."""
        protocol = "ESMTPSA" if account is not None else "ESMTP"
        client = Client("192.0.2.7", "client.example", protocol, tls, account, "c1")
        envelope = Envelope(sender, smtputf8=utf8, **options)
        for one in recipients:
            recipient = one if isinstance(one, Recipient) else Recipient(one)
            done(self.intake.route(client, envelope, recipient.address))
            envelope.recipients.append(recipient)
        return self.intake.begin(client, envelope)

    async def send(self, content, *recipients, block=65_536, **facts):
        message = self.begin(*recipients, **facts)
        for at in range(0, len(content), block):
            await message.write(content[at : at + block])
        await message.commit()
        return message.message_id

    def deliver(self, content, *recipients, **facts):
        return self.run(self.send(content, *recipients, **facts))

    def refused(self, content, *recipients, **facts):
        with pytest.raises(MailError) as caught:
            self.deliver(content, *recipients, **facts)
        self.turn()
        assert self.spilled() == []
        return caught.value.code, caught.value.enhanced

    def turn(self):
        """Let everything that was begun come to its end."""
        for _ in range(50):
            self.world.reactor.settle()

    async def _read(self, key):
        inbox = await self.store.open_inbox(key)
        try:
            found = []
            for index in range(len(inbox.messages)):
                content = await inbox.fetch(index)
                blocks = []
                while block := await content.read(65_536):
                    blocks.append(block)
                content.close()
                found.append(b"".join(blocks))
            return found
        finally:
            await inbox.close()

    def inbox(self, name="alice"):
        return self.run(self._read(f"example.org/{name}"))

    def queued(self):
        """The messages in the queue, first come first."""
        view = self.store.queue.view
        ids = dict.fromkeys(listed.id for listed in view.page(Filter(), limit=1000))
        return [view.story(id_).message for id_ in ids]

    def leaving(self, message):
        """The content of a queued message as it would be sent."""

        async def read():
            content = await self.store.queue.open(message)
            blocks = []
            while block := await content.read(65_536):
                blocks.append(block)
            content.close()
            return b"".join(blocks)

        return self.run(read())

    def spilled(self):
        return os.listdir(os.path.join(self.path, "data", "journal", "spill"))
