"""One connection of a client, as `delivery.interfaces.Visit`: what is found out about it, and what it may.

`Stranger` is anybody on the port for other servers; `Member` a user on those for submission. Questions to the DNS are
begun as soon as they can be asked and awaited where their answers count. Whoever is refused hears it at RCPT, so that
sender and recipient stand in log and story.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from twisted.internet.task import deferLater

from ..address import Address
from ..filters import interfaces as filters
from ..policy import helo as names
from ..policy.decide import MAX_REPLY
from ..policy.dnsbl import NOTHING, Listing
from ..policy.scores import Score, early_talker, total
from ..policy.spf import check_helo, check_mail
from ..policy.verdicts import Spf
from ..policy.wording import one_line
from ..status import MailError
from .examination import Judging, Submitting
from .interfaces import Client, Envelope, Inspection
from .parts import Checks, Parts
from .question import Question
from .visitor import Visitor

__all__ = ["Member", "Stranger"]

_UNKNOWN: Final = names.Pointer("permerror")
_POINTERS: Final = {
    "pass": "its address has the name {}, which leads back to it",
    "fail": "its address has the name {}, which does not lead back to it",
    "permerror": "its address has no name",
    "temperror": "the DNS does not tell the name of its address just now",
}
_NOBODY: Final = ("5.1.1", "5.7.1")
"""Of addresses that are nobody's, or not for us: who names many of them is guessing. A full mailbox is none of them."""


class Stranger(Visitor):
    """On the port for other servers. `checks` None: it is not to be asked about."""

    def __init__(self, parts: Parts, ip: str, connection: str) -> None:
        super().__init__(parts, ip, connection, parts.incoming)
        checks = parts.checks
        self.checks: Checks | None = None
        if checks is not None and not checks.exempts(ip):
            self.checks = checks
        self.telling.say(f"{ip or 'somebody on this machine'} connects")
        if self.checks is None:
            why = "checks.enabled is false" if checks is None else "one of checks.exempt_networks"
            self.telling.say(f"nothing is asked about it: {why}")
        self.early = False
        self._domain = ""
        self._listed: Question[Listing] | None = None
        self._pointer: Question[names.Pointer] | None = None
        self._helo_seen: Question[names.Helo] | None = None
        self._sender_listed: Question[Listing] | None = None
        self._helo_listed: Question[Listing] | None = None
        self._helo_spf: Question[Spf] | None = None
        self._mail_spf: Question[Spf] | None = None
        self.pointer = _UNKNOWN
        self.listing = NOTHING
        self._reasons_asked = False
        self._client_scores: tuple[Score, ...] | None = None
        if self.checks is not None:
            self.waits = bool(self.checks.greet_delay) or parts.rates is not None
            self._ask_about_client(self.checks)

    def _ask_about_client(self, checks: Checks) -> None:
        parts = self.parts
        if parts.lists is not None:
            self._listed = self.begin_asking(partial(parts.lists.client, self.ip))
        if checks.names:
            clock = parts.world.reactor
            self._pointer = self.begin_asking(
                partial(names.check_pointer, parts.resolver(), clock, self.ip)
            )

    async def greet(self, early: Callable[[], bool]) -> None:
        checks, rates = self.checks, self.parts.rates
        if checks is None:
            return
        if rates is not None and (slowed := rates.connect(self.ip)) is not None:
            self.telling.say(f"sent away: {slowed.error}")
            raise slowed.error
        if checks.greet_delay:
            await deferLater(self.parts.world.reactor, checks.greet_delay)
        self.early = early()
        if self.early:
            self.telling.say("it speaks before it is greeted, which mail servers do not")

    def helo(self, name: str) -> None:
        if name == self._helo:
            return
        super().helo(name)
        self._client_scores = None
        checks, parts = self.checks, self.parts
        if checks is None:
            return
        clock = parts.world.reactor
        if checks.names:
            self._helo_seen = self.begin_asking(
                partial(names.check_helo, parts.resolver(), clock, name, self.ip, checks.own),
                self._helo_seen,
            )
        if parts.lists is not None:
            self._helo_listed = self.begin_asking(
                partial(parts.lists.helo, name), self._helo_listed
            )
        if checks.spf or checks.dmarc:
            self._helo_spf = self.begin_asking(
                partial(
                    check_helo,
                    parts.resolver(),
                    clock,
                    ip=self.ip,
                    helo=name,
                    settings=checks.spf_settings,
                ),
                self._helo_spf,
            )

    async def _may_send(self, client: Client, envelope: Envelope) -> None:
        sender, parts, checks = envelope.reverse_path, self.parts, self.checks
        self._domain = "" if sender is None else sender.domain
        if checks is None:
            return
        if parts.rates is not None:
            slowed = parts.rates.mail(self.ip, self._domain)
            if slowed is not None:
                raise slowed.error
        if checks.spf or checks.dmarc:
            self._mail_spf = self.begin_asking(
                partial(
                    check_mail,
                    parts.resolver(),
                    parts.world.reactor,
                    ip=self.ip,
                    helo=client.helo,
                    sender=sender,
                    settings=checks.spf_settings,
                ),
                self._mail_spf,
            )
        if parts.lists is not None:
            self._sender_listed = self.begin_asking(
                partial(parts.lists.sender, self._domain), self._sender_listed
            )

    async def _may_name(
        self, client: Client, envelope: Envelope, recipient: Address, here: bool
    ) -> None:
        checks, rates, greylist = self.checks, self.parts.rates, self.parts.greylist
        if checks is None:
            return
        if rates is not None:
            slowed = rates.may_try(self.ip, self._domain) or rates.rcpt(self.ip, self._domain)
            if slowed is not None:
                raise slowed.error
        most = checks.decision.reject_score
        points = total(await self.client_scores())
        if most is not None and points >= most:
            raise await self._unwanted()
        if greylist is not None:
            spf = await self._mail_spf.answer() if self._mail_spf is not None else None
            grey = greylist.check(
                self.ip,
                envelope.reverse_path,
                recipient,
                spf_domain=spf.domain if spf is not None and spf.result == "pass" else "",
                allowed=self.listing.allowed,
            )
            if grey.wait:
                raise grey.error
            self.say(grey.why)

    async def _unwanted(self) -> MailError:
        """What a client hears that has so many signs against it that its mail need not be seen."""
        await self.ask_reasons()
        scores = await self.client_scores()
        because = [max(scores, key=lambda score: score.points).reason]
        # What a list has against it is what its people can do something about: its words are never left out.
        hit = max(self.listing.hits, key=lambda hit: (bool(hit.reason), hit.points), default=None)
        if hit is not None and hit.points > 0:
            reason = self.listing.scores[self.listing.hits.index(hit)].reason
            if reason not in because:
                because.append(reason)
        # RFC 3463 section 3.8
        text = f"Mail from your address is not wanted: {'; '.join(because)}"
        return MailError(550, "5.7.1", one_line(text, MAX_REPLY))

    def refused(
        self, client: Client, envelope: Envelope, recipient: Address, error: MailError
    ) -> None:
        super().refused(client, envelope, recipient, error)
        rates = self.parts.rates
        if self.checks is None or rates is None:
            return
        if error.enhanced not in _NOBODY:
            # What is wrong with a mailbox tells a guesser that there is one.
            slowed = rates.may_try(self.ip, self._domain)
            if slowed is not None:
                raise slowed.error
            return
        slowed = rates.bad_rcpt(self.ip, self._domain)
        if slowed is not None:
            self.say(f"it names too many addresses that are not there: {slowed.error}")
            raise slowed.error

    def begin(self, client: Client, envelope: Envelope, message_id: str) -> Inspection | None:
        return Judging(self, self.checks, client, envelope, message_id)

    # What inspections want to know

    async def ask_reasons(self) -> None:
        """Let the lists that speak against the client say why, in `client_scores` and in the story: it is refused."""
        scores, lists = await self.client_scores(), self.parts.lists
        if lists is None or self._reasons_asked:
            return
        self._reasons_asked = True
        before, self.listing = self.listing, await lists.reasons(self.listing)
        better = dict(zip(before.scores, self.listing.scores, strict=True))
        self._client_scores = tuple(better.get(score, score) for score in scores)
        for score in self._client_scores:
            if score not in scores:
                self.telling.say(score.reason)

    async def client_scores(self) -> tuple[Score, ...]:
        """The signs for and against the client."""
        if self._client_scores is None:
            self._client_scores = await self._find_scores()
        return self._client_scores

    async def _find_scores(self) -> tuple[Score, ...]:
        checks = self.checks
        if checks is None:
            return ()
        scores: list[Score] = list(early_talker(checks.weights)) if self.early else []
        if self._helo_seen is not None:
            scores += names.helo_scores(await self._helo_seen.answer(), checks.weights)
        if self._pointer is not None:
            self.pointer = await self._pointer.answer()
            scores += names.pointer_scores(self.pointer, checks.weights)
            if line := _POINTERS.get(self.pointer.result):
                self.telling.say(line.format(self.pointer.name))
        self.listing, self._reasons_asked = NOTHING, False
        for asking in (self._listed, self._helo_listed):
            if asking is not None:
                self.listing = self.listing.joined(await asking.answer())
        scores += self.listing.scores
        if self.parts.lists is not None and not self.listing.hits:
            self.telling.say("no list in the DNS has it")
        for error in self.listing.errors:
            self.telling.say(f"a list did not answer: {error}")
        for score in scores:
            self.telling.say(f"{score.points:+g} points: {score.reason}")
        return tuple(scores)

    async def sender_scores(self) -> tuple[Score, ...]:
        """Those of lists that have the sender's domain."""
        if self._sender_listed is None:
            return ()
        return (await self._sender_listed.answer()).scores

    async def spf(self) -> tuple[Spf | None, Spf | None]:
        """Of HELO and of MAIL FROM."""
        helo = None if self._helo_spf is None else await self._helo_spf.answer()
        mail = None if self._mail_spf is None else await self._mail_spf.answer()
        return helo, mail

    def filter_client(self) -> filters.Client:
        name = self.pointer.name if self.pointer.result == "pass" else ""
        return filters.Client(self.ip, self.parts.hostname, name=name)


class Member(Visitor):
    """A user who has logged in, on the ports for submission."""

    def __init__(self, parts: Parts, ip: str, connection: str) -> None:
        super().__init__(parts, ip, connection, parts.submitted)
        self.telling.say(f"{ip or 'somebody on this machine'} connects, to send as a user")
        self.quiet = True  # who only tries passwords has no story
        self._leaving: list[str] = []
        self._counted = False

    async def _may_send(self, client: Client, envelope: Envelope) -> None:
        assert client.account is not None, "nobody sends here without a login"
        self._leaving, self._counted = [], False
        rates = self.parts.rates
        if rates is not None:
            slowed = rates.mail(self.ip)
            if slowed is not None:
                raise slowed.error

    async def _may_name(
        self, client: Client, envelope: Envelope, recipient: Address, here: bool
    ) -> None:
        assert client.account is not None
        if not here:
            name, rates, senders = client.account.name, self.parts.rates, self.parts.senders
            error = None if senders is None else senders.check(name, envelope.departing + 1)
            if error is None and rates is not None:
                # A message counts for the account once it is to go elsewhere.
                slowed = None if self._counted else rates.mail("", account=name)
                self._counted = self._counted or slowed is None
                if slowed is None:
                    slowed = rates.rcpt(self.ip, "", name, 1)
                error = None if slowed is None else slowed.error
            if error is not None:
                raise error
            self._leaving.append(str(recipient))

    def refused(
        self, client: Client, envelope: Envelope, recipient: Address, error: MailError
    ) -> None:
        super().refused(client, envelope, recipient, error)
        senders = self.parts.senders
        if client.account is not None and senders is not None and error.enhanced in _NOBODY:
            senders.refused(client.account.name)

    def begin(self, client: Client, envelope: Envelope, message_id: str) -> Inspection | None:
        return Submitting(self, client, envelope, message_id, tuple(self._leaving))
