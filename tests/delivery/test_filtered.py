"""What filters change of a message, at a site that judges, signs and seals: nothing is left over, nothing is refused
for what is not the sender's doing."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from guarded import LETTER, Guarded
from mailroom import ALICE, BOB
from twisted.internet.defer import Deferred

from twisted_mail.address import Address
from twisted_mail.delivery.parts import Checks
from twisted_mail.delivery.sealing import Sealer
from twisted_mail.filters import interfaces as filters
from twisted_mail.filters.chain import Chain
from twisted_mail.status import MailError

FAR = Address.parse("far@away.example")
LIST = Address.parse("list@example.org")
BIG = LETTER + (b"y" * 78 + b"\r\n") * 10_000


class Scanner:
    """A filter that says what it was told to say."""

    name = "scanner"

    def __init__(self, says):
        self.says = says
        self.seen = []

    async def scan(self, message):
        content = b""
        while block := await message.body.read(len(content), 65_536):
            content += block
        self.seen.append((b"".join(message.fields), content))
        return self.says


class BodyWriter:
    name = "writer"

    def __init__(self, text):
        self.text = text

    async def message(self, message, spill):
        body = spill()
        room = body.write(self.text)
        if room is not None:
            await room
        return filters.Opinion(body=body)

    def session(self, client):
        return self

    async def helo(self, name, tls, login):
        return filters.Opinion()

    async def mail(self, sender, login, queue_id=""):
        return filters.Opinion()

    async def rcpt(self, recipient, refused=None):
        return filters.Opinion()

    async def data(self, queue_id=""):
        return filters.Opinion()

    def abort(self):
        pass

    def close(self):
        pass


class NoKeys:
    def of(self, domain):
        return ()


class BrokenKeys:
    def of(self, domain):
        raise RuntimeError("a key that cannot be used")


@pytest.fixture
def made(tmp_path):
    sites = []

    def make(*chain, keys=None, **options):
        def parts(site):
            return {
                "incoming": Chain(site.world.reactor, chain),
                "submitted": Chain(site.world.reactor, chain),
                "sealer": Sealer(keys or NoKeys(), site.world.now),
            }

        path = tmp_path / str(len(sites))
        path.mkdir()
        site = Guarded(path, parts=parts, **options)
        site.directory.add_alias(str(LIST), [FAR, ALICE])
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.close()


def test_a_body_of_a_filters_goes_when_the_message_cannot_be_sealed(made):
    site = made(BodyWriter(BIG), keys=BrokenKeys())
    with pytest.raises(RuntimeError):
        site.come().send(BIG, LIST)
    site.turn()
    assert site.spilled() == []


def test_a_recipient_of_a_filters_that_is_nobodys_is_not_the_senders_mistake(made):
    nobody = Address.parse("nobody@example.org")
    site = made(Scanner(filters.Opinion(added=(filters.Recipient(nobody),))))
    with pytest.raises(MailError) as caught:
        site.come().send(LETTER, ALICE)
    assert caught.value.temporary


def test_without_recipients_it_is_told_that_nobody_has_it(made):
    site = made(Scanner(filters.Opinion(deleted=(ALICE,))))
    site.come().send(LETTER, ALICE)
    (line,) = [line for line in site.lines() if line.startswith("answered")]
    assert "thrown away" in line
    assert site.told.all[-1].facts["queued"] is False


def test_octets_over_127_that_a_filter_puts_into_the_header_are_declared(made):
    site = made(
        Scanner(filters.Opinion(edits=(filters.Add("X-Word: ü\n".encode()),))),
    )
    site.come().send(LETTER, LIST)
    (message,) = site.queued()
    assert message.options.eight_bit


def test_a_realm_is_told_what_is_junk(made):
    class Realm:
        def __init__(self):
            self.got = []

        async def knows(self, address):
            return address in (ALICE, BOB)

        async def deliver(self, sender, recipients, message):
            self.got.append(message)

    realm = Realm()
    site = made(Scanner(filters.Opinion(action=filters.Action.JUNK)), realm=realm)
    site.come().send(b"X-Spam-Flag: NO\r\n" + LETTER, ALICE)
    (text,) = realm.got
    header = text.partition(b"\n\n")[0]
    assert header.count(b"X-Spam-Flag:") == 1
    assert b"\nX-Spam-Flag: YES\n" in header


@pytest.mark.parametrize("dkim", [True, False])
@pytest.mark.parametrize("arc", [True, False])
def test_what_is_not_to_be_checked_has_no_verdict(made, dkim, arc):
    signed = b"DKIM-Signature: v=1; d=elsewhere.example; s=s\r\nARC-Seal: i=1\r\n"
    for content in (LETTER, signed + LETTER):
        site = made(checks=Checks(dkim=dkim, arc=arc))
        site.come().send(content, ALICE)
        (text,) = site.inbox()
        results = text.partition(b"Authentication-Results")[2].partition(b"Received:")[0]
        assert (b"\tarc=" in results) == arc
        assert (b"\tdkim=" in results) == (dkim and content is not LETTER)


FORGED = (
    b"authentication-results : (x) MX.Example.ORG. 1;\r\n\tdkim=pass header.d=bank.example\r\n"
    + LETTER
)


@pytest.mark.parametrize("checks", [True, None])
@pytest.mark.parametrize("ip", ["192.0.2.7", "::ffff:192.0.2.7"])
def test_what_others_say_in_our_name_goes_also_where_nothing_is_checked(made, checks, ip):
    site = made(checks=checks)
    site.come(ip).send(FORGED, ALICE)
    (text,) = site.inbox()
    assert b"bank.example" not in text


@pytest.mark.parametrize("ip", ["192.0.2.7", "::ffff:192.0.2.7", "", "192.0.2.7%eth0"])
def test_who_is_exempt_is_believed(made, ip):
    site = made(checks=Checks(exempt=(ip_network("192.0.2.0/24"),)))
    site.come(ip).send(FORGED, ALICE)
    (text,) = site.inbox()
    assert b"bank.example" in text
    assert site.resolver.questions == []


def test_a_message_that_is_refused_before_it_is_judged_asks_for_no_keys_any_more(made):
    signed = (
        b"DKIM-Signature: v=1; a=rsa-sha256; d=elsewhere.example; s=s; h=from; bh=AAAA; b=AAAA\r\n"
    )
    site = made(reject_bare_newlines=True)
    asked, ask = [], site.resolver.txt

    async def txt(name):
        if "_domainkey" not in name:
            return await ask(name)
        asked.append(name)
        try:
            await Deferred()
        finally:
            asked.remove(name)

    site.resolver.txt = txt
    caller = site.come()
    with pytest.raises(MailError):
        caller.send(signed + LETTER + b"bare\n.\r\n", ALICE)
    assert asked == []
