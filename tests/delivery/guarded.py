"""A site whose guard asks: clients that come to it, on a simulated world with a DNS that takes its time."""

from __future__ import annotations

from mailroom import SENDER, Site
from twisted.internet.defer import ensureDeferred
from twisted.python.failure import Failure

from twisted_mail.delivery.guard import SiteGuard
from twisted_mail.delivery.intake import IntakeSettings, MailIntake
from twisted_mail.delivery.interfaces import Client, Envelope, Recipient
from twisted_mail.delivery.parts import Checks, Parts
from twisted_mail.delivery.telling import Teller
from twisted_mail.policy.dkim_key import Keys
from twisted_mail.testing.dns import FakeResolver, Zone

STRANGER = "192.0.2.7"
ZONE = {
    "7.2.0.192.in-addr.arpa": {"PTR": ["client.example"]},
    "client.example": {"A": [STRANGER], "TXT": ["v=spf1 a -all"]},
    "elsewhere.example": {"TXT": ["v=spf1 ip4:192.0.2.7 -all"]},
    "_dmarc.elsewhere.example": {"TXT": ["v=DMARC1; p=reject"]},
}
LETTER = b"From: <sender@elsewhere.example>\r\nSubject: hello\r\nMessage-ID: <1@elsewhere.example>\r\n\r\nbody\r\n"


class Told:
    """`storage.stories.Stories` that keeps them here."""

    def __init__(self):
        self.all = []

    def put(self, story):
        self.all.append(story)


class Guarded(Site):
    """`parts`: those of `delivery.parts.Parts` that differ from checks alone."""

    def __init__(self, path, *, zone=None, delay=0.0, realm=None, checks=True, parts=None, **more):
        super().__init__(path, realm=realm, **more)
        world = self.world
        clock = world.reactor if delay else None
        self.resolver = FakeResolver(Zone(ZONE if zone is None else zone), clock=clock, delay=delay)
        self.told = Told()
        self.parts = Parts(
            world,
            "mx.example.org",
            "mx.example.org",
            self.store.draft,
            Teller(self.told, world.now),
            lambda: self.resolver,
            Checks() if checks is True else checks,
            Keys(self.resolver, world.now),
            **(parts(self) if parts is not None else {}),
        )
        self.intake = MailIntake(
            world,
            IntakeSettings("mx.example.org", **more),
            self.store,
            self.directory,
            realm,
            guard=SiteGuard(self.parts),
        )

    def wait(self, coroutine, most=100):
        """The result, with time going on; the exception when it fails."""
        results = []
        ensureDeferred(coroutine).addBoth(results.append)
        for _ in range(most):
            self.turn()
            if results:
                break
            self.world.reactor.advance(0.5)
        (result,) = results
        if isinstance(result, Failure):
            raise result.value
        return result

    def come(self, ip=STRANGER, account=None, helo="client.example"):
        return Caller(self, ip, account, helo)

    def lines(self, number=-1):
        """What a story tells."""
        return [text for _, text in self.told.all[number].lines]


class Caller:
    """One connection."""

    def __init__(self, site, ip, account, helo):
        self.site = site
        self.visit = site.intake.visit(ip, "c1", submission=account is not None)
        self.ip, self.account = ip, account
        self.helo(helo)

    def helo(self, name):
        self.name = name
        self.visit.helo(name)

    def mail(self, sender=SENDER, **options):
        protocol = "ESMTP" if self.account is None else "ESMTPSA"
        self.client = Client(
            self.ip, self.name, protocol, None, self.account, "c1", visit=self.visit
        )
        self.envelope = Envelope(sender, **options)
        self.site.wait(self.site.intake.check_sender(self.client, self.envelope))

    def rcpt(self, *addresses):
        for address in addresses:
            self.site.wait(self.site.intake.route(self.client, self.envelope, address))
            self.envelope.recipients.append(Recipient(address))

    def data(self, content=LETTER, piece=65_536):
        message = self.site.intake.begin(self.client, self.envelope)

        async def all_of_it():
            for at in range(0, len(content), piece):
                await message.write(content[at : at + piece])
            await message.commit()

        self.site.wait(all_of_it())
        return message

    def send(self, content, *addresses, sender=SENDER, **options):
        self.mail(sender, **options)
        self.rcpt(*addresses)
        return self.data(content)

    def leave(self):
        self.visit.end()
