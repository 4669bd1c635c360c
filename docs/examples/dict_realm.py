"""A realm of your own: mailboxes in a Python dict. See docs/realms.md.

mail.toml:  [auth]  checkers = ["file:passwd"]  realm = "dict_realm:make_realm"
"""

from itertools import count

from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm
from zope.interface import implementer

from twisted_mail.content import BytesContent, message_info
from twisted_mail.interfaces import IAccount, ILocalDelivery, IMailbox


@implementer(IRealm, ILocalDelivery)
class DictRealm:
    def __init__(self, *names):
        self.boxes = {name: {} for name in names}  # name → {uidl: message}
        self.uidls = map(str, count(1))

    def requestAvatar(self, avatarId, mind, *interfaces):
        name = avatarId.decode()
        if name not in self.boxes:
            raise UnauthorizedLogin
        return IAccount, DictAccount(name, self.boxes[name]), lambda: None

    async def knows(self, address):
        return address.key in self.boxes

    async def deliver(self, sender, recipients, message):
        for recipient in recipients:
            self.boxes[recipient.key][next(self.uidls)] = message


@implementer(IAccount)
class DictAccount:
    def __init__(self, name, box):
        self.name, self.box = name, box

    async def open_inbox(self):
        return DictMailbox(self.box)

    def may_send_as(self, address):
        return address.key == self.name


@implementer(IMailbox)
class DictMailbox:
    def __init__(self, box):
        self.box = box
        self.messages = [message_info(uidl, message) for uidl, message in box.items()]

    async def fetch(self, index):
        return BytesContent(self.box[self.messages[index].uidl])

    async def remove(self, indexes):
        for index in indexes:
            self.box.pop(self.messages[index].uidl, None)

    async def close(self):
        pass


def make_realm():
    return DictRealm("alice@localhost", "bob@localhost")
