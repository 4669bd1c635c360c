"""What the tests of delivery share: a user without a password that matters, an account, a realm over a dict."""

from __future__ import annotations

from random import Random

from zope.interface import implementer

from twisted_mail.accounts.passwords import Cost, hash_password
from twisted_mail.address import Address
from twisted_mail.interfaces import IAccount, ILocalDelivery
from twisted_mail.status import MailError

RECORD = hash_password(
    "secret", Random(1).randbytes, Cost(memory=8, passes=1, lanes=1, scram_iterations=4096)
)


@implementer(IAccount)
class Person:
    """Somebody who has logged in."""

    name = "alice@example.org"

    async def open_inbox(self):
        raise AssertionError("nobody reads here")

    def may_send_as(self, address):
        return str(address) == self.name


def person():
    return Person()


@implementer(ILocalDelivery)
class Mailboxes:
    """`waiting`: a Deferred that the delivery to each recipient waits for."""

    def __init__(self, *addresses):
        self.kept = {address: [] for address in addresses}
        self.waiting = None

    async def knows(self, address: Address) -> bool:
        return str(address) in self.kept

    async def deliver(self, sender, recipients, message):
        for recipient in recipients:
            self.kept[str(recipient)].append((sender, message))
            if self.waiting is not None:
                await self.waiting


def addresses(*texts):
    return [Address.parse(text) for text in texts]


class FakeSrs:
    """``SRS0=hash=domain=local@…`` without any secret; any other hash is wrong."""

    def forward(self, sender, domain):
        if len(sender.local) > 40:
            return sender
        return Address(f"SRS0=hash={sender.domain}={sender.local}", domain)

    def reverse(self, address):
        words = address.local.split("=", 3)
        if len(words) != 4 or words[0].upper() != "SRS0":
            return None
        if words[1] != "hash":
            raise MailError(550, "5.1.1", "No such user here")
        return Address(words[3], words[2])


def done(coroutine):
    """The result of a coroutine that does not wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")
