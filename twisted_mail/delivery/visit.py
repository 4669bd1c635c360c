"""One connection of a client, as `delivery.interfaces.Visit`: what is found out about it, and what it may.

`Stranger` is anybody on the port for other servers; `Member` a user on those for submission. Questions to the DNS are
begun as soon as they can be asked and awaited where their answers count. Whoever is refused hears it at RCPT, so that
sender and recipient stand in log and story.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from ..address import Address
from ..filters import interfaces as filters
from ..filters.chain import Chain, ChainSession, Told
from ..policy import helo as names
from ..policy.dnsbl import NOTHING, Listing
from ..policy.scores import Score, early_talker, total
from ..policy.spf import check_helo, check_mail
from ..policy.verdicts import Spf
from ..status import MailError
from .examination import Judging, Submitting
from .inspecting import refusal, tls_of, told_line
from .interfaces import Client, Envelope, Inspection
from .parts import Checks, Parts

__all__ = ["Member", "Stranger", "Visitor"]

T = TypeVar("T")
_UNKNOWN: Final = names.Pointer("permerror")


class Visitor:
    """What both have: filters that follow the conversation, rates, a story."""

    waits = False

    def __init__(self, parts: Parts, ip: str, connection: str, chain: Chain) -> None:
        self.parts = parts
        self.ip = ip
        self.connection = connection
        self.telling = parts.teller.begin()
        self.told_of = False
        """A message has had the story since something was last refused."""
        self._helo = ""
        self._chain = chain
        self._session: ChainSession | None = None
        self._greeted_filters: tuple[str, str | None] | None = None
        self._asking: list[Deferred[Any]] = []

    # delivery.interfaces.Visit

    async def greet(self, early: Callable[[], bool]) -> None:
        return

    def helo(self, name: str) -> None:
        self._helo = name
        self.telling.say(f"it calls itself {name}")

    async def sender(self, client: Client, envelope: Envelope) -> None:
        if self._chain:
            await self._filters_hear_sender(client, envelope)

    async def recipient(
        self, client: Client, envelope: Envelope, recipient: Address, here: bool
    ) -> None:
        if self._session is not None:
            await self._ask(self._session.rcpt(filters.Recipient(recipient)))

    def refused(self, client: Client, envelope: Envelope, recipient: Address) -> None:
        self.story_of_refusal(f"{recipient} is refused: there is no such address to send to")

    def begin(self, client: Client, envelope: Envelope, message_id: str) -> Inspection | None:
        raise NotImplementedError

    def end(self) -> None:
        asking, self._asking = self._asking, []
        for one in asking:
            one.cancel()
        if self._session is not None:
            self._session.close()
        if not self.told_of:
            self.parts.teller.end(
                self.telling, connection=self.connection, facts={"ip": self.ip, "helo": self._helo}
            )

    # For those below, and for inspections

    @property
    def session(self) -> ChainSession | None:
        """The filters' session, once MAIL was said."""
        return self._session

    def begin_asking(self, question: Coroutine[Any, Any, T]) -> Deferred[T]:
        """Ask now; the answer is awaited later, or never."""
        asking = Deferred.fromCoroutine(question)
        # A failure that nobody awaits any more is nobody's.
        asking.addErrback(lambda failure: failure if asking in self._asking else None)
        self._asking.append(asking)
        return asking

    def story_of_refusal(self, text: str) -> None:
        self.telling.say(text)
        self.told_of = False

    def tell_filters(self, told: tuple[Told, ...]) -> None:
        for one in told:
            self.telling.say(told_line(one))

    def filter_client(self) -> filters.Client:
        """Who it is, as filters are told."""
        return filters.Client(self.ip, self.parts.hostname)

    async def _filters_hear_sender(self, client: Client, envelope: Envelope) -> None:
        if self._session is None:
            self._session = self._chain.session(self.filter_client())
        greeting = (client.helo, client.tls)
        if greeting != self._greeted_filters:
            self._greeted_filters = greeting
            await self._ask(self._session.helo(client.helo, tls_of(client)))
        login = None if client.account is None else filters.Login(client.account.name)
        size = () if envelope.size is None else (f"SIZE={envelope.size}",)
        await self._ask(self._session.mail(filters.Sender(envelope.reverse_path, size), login))

    async def _ask(self, asking: Coroutine[Any, Any, filters.Opinion]) -> None:
        assert self._session is not None
        opinion = await asking
        self.tell_filters(self._session.take_told())
        if opinion.action in (filters.Action.REJECT, filters.Action.TEMPFAIL):
            raise refusal(opinion)


class Stranger(Visitor):
    """On the port for other servers. `checks` None: it is not to be asked about."""

    def __init__(self, parts: Parts, ip: str, connection: str) -> None:
        super().__init__(parts, ip, connection, parts.incoming)
        checks = parts.checks
        self.checks: Checks | None = None
        if checks is not None and not checks.exempts(ip):
            self.checks = checks
        self.telling.say(f"{ip or 'somebody on this machine'} connects")
        self.early = False
        self._domain = ""
        self._listed: Deferred[Listing] | None = None
        self._pointer: Deferred[names.Pointer] | None = None
        self._helo_seen: Deferred[names.Helo] | None = None
        self._sender_listed: Deferred[Listing] | None = None
        self._helo_listed: Deferred[Listing] | None = None
        self._helo_spf: Deferred[Spf] | None = None
        self._mail_spf: Deferred[Spf] | None = None
        self.pointer = _UNKNOWN
        self.listing = NOTHING
        self._client_scores: tuple[Score, ...] | None = None
        if self.checks is not None:
            self.waits = bool(self.checks.greet_delay) or parts.rates is not None
            self._ask_about_client(self.checks)

    def _ask_about_client(self, checks: Checks) -> None:
        parts = self.parts
        if parts.lists is not None:
            self._listed = self.begin_asking(parts.lists.client(self.ip))
        if checks.names:
            clock = parts.world.reactor
            self._pointer = self.begin_asking(names.check_pointer(parts.resolver(), clock, self.ip))

    async def greet(self, early: Callable[[], bool]) -> None:
        checks, rates = self.checks, self.parts.rates
        if checks is None:
            return
        if rates is not None and (slowed := rates.connect(self.ip)) is not None:
            self.story_of_refusal(f"sent away: {slowed.error}")
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
                names.check_helo(parts.resolver(), clock, name, self.ip, checks.own)
            )
        if parts.lists is not None:
            self._helo_listed = self.begin_asking(parts.lists.helo(name))
        if checks.spf or checks.dmarc:
            self._helo_spf = self.begin_asking(
                check_helo(
                    parts.resolver(), clock, ip=self.ip, helo=name, settings=checks.spf_settings
                )
            )

    async def sender(self, client: Client, envelope: Envelope) -> None:
        sender, parts, checks = envelope.reverse_path, self.parts, self.checks
        self._domain = "" if sender is None else sender.domain
        self.telling.say(f"mail from <{sender or ''}>")
        if checks is not None:
            if parts.rates is not None:
                slowed = parts.rates.mail(self.ip, self._domain)
                if slowed is not None:
                    self.story_of_refusal(f"deferred: {slowed.error}")
                    raise slowed.error
            if checks.spf or checks.dmarc:
                self._mail_spf = self.begin_asking(
                    check_mail(
                        parts.resolver(),
                        parts.world.reactor,
                        ip=self.ip,
                        helo=client.helo,
                        sender=sender,
                        settings=checks.spf_settings,
                    )
                )
            if parts.lists is not None and self._domain:
                self._sender_listed = self.begin_asking(parts.lists.sender(self._domain))
        await super().sender(client, envelope)

    async def recipient(
        self, client: Client, envelope: Envelope, recipient: Address, here: bool
    ) -> None:
        if self.checks is not None:
            try:
                await self._may_name(self.checks, envelope, recipient)
            except MailError as error:
                self.story_of_refusal(f"mail to {recipient} is refused: {error}")
                raise
        await super().recipient(client, envelope, recipient, here)

    async def _may_name(self, checks: Checks, envelope: Envelope, recipient: Address) -> None:
        rates, greylist = self.parts.rates, self.parts.greylist
        if rates is not None:
            slowed = rates.may_try(self.ip, self._domain) or rates.rcpt(self.ip, self._domain)
            if slowed is not None:
                raise slowed.error
        most = checks.decision.reject_score
        points = total(await self.client_scores())
        if most is not None and points >= most:
            raise await self._unwanted()
        if greylist is not None:
            spf = await self._mail_spf if self._mail_spf is not None else None
            grey = greylist.check(
                self.ip,
                envelope.reverse_path,
                recipient,
                spf_domain=spf.domain if spf is not None and spf.result == "pass" else "",
                allowed=self.listing.allowed,
            )
            self.telling.say(grey.why)
            if grey.wait:
                raise grey.error

    async def _unwanted(self) -> MailError:
        """What a client hears that has so many signs against it that its mail need not be seen."""
        assert self.parts.lists is not None or self._client_scores
        scores = self._client_scores or ()
        if self.parts.lists is not None and any(hit.points > 0 for hit in self.listing.hits):
            self.listing = await self.parts.lists.reasons(self.listing)
            scores = self.listing.scores + scores
        worst = max(scores, key=lambda score: score.points)
        # RFC 3463 section 3.8
        return MailError(550, "5.7.1", f"Mail from your address is not wanted: {worst.reason}")

    def refused(self, client: Client, envelope: Envelope, recipient: Address) -> None:
        super().refused(client, envelope, recipient)
        if self.checks is None or self.parts.rates is None:
            return
        slowed = self.parts.rates.bad_rcpt(self.ip, self._domain)
        if slowed is not None:
            self.telling.say(f"it names too many addresses that are not there: {slowed.error}")
            raise slowed.error

    def begin(self, client: Client, envelope: Envelope, message_id: str) -> Inspection | None:
        self.told_of = True
        return Judging(self, self.checks, client, envelope, message_id)

    # What inspections want to know

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
            scores += names.helo_scores(await self._helo_seen, checks.weights)
        if self._pointer is not None:
            self.pointer = await self._pointer
            scores += names.pointer_scores(self.pointer, checks.weights)
        self.listing = NOTHING
        for asking in (self._listed, self._helo_listed):
            if asking is not None:
                self.listing = self.listing.joined(await asking)
        scores += self.listing.scores
        for score in scores:
            self.telling.say(f"{score.points:+g} points: {score.reason}")
        return tuple(scores)

    async def sender_scores(self) -> tuple[Score, ...]:
        """Those of lists that have the sender's domain."""
        if self._sender_listed is None:
            return ()
        return (await self._sender_listed).scores

    async def spf(self) -> tuple[Spf | None, Spf | None]:
        """Of HELO and of MAIL FROM."""
        helo = None if self._helo_spf is None else await self._helo_spf
        mail = None if self._mail_spf is None else await self._mail_spf
        return helo, mail

    def filter_client(self) -> filters.Client:
        name = self.pointer.name if self.pointer.result == "pass" else ""
        return filters.Client(self.ip, self.parts.hostname, name=name)


class Member(Visitor):
    """A user who has logged in, on the ports for submission."""

    def __init__(self, parts: Parts, ip: str, connection: str) -> None:
        super().__init__(parts, ip, connection, parts.submitted)
        self.told_of = True  # who only tries passwords has no story

    async def sender(self, client: Client, envelope: Envelope) -> None:
        account = client.account
        assert account is not None, "nobody sends here without a login"
        self.telling.say(f"mail from <{envelope.reverse_path or ''}>, by {account.name}")
        rates = self.parts.rates
        if rates is not None:
            slowed = rates.mail(self.ip, "", account.name)
            if slowed is not None:
                self.story_of_refusal(f"deferred: {slowed.error}")
                raise slowed.error
        await super().sender(client, envelope)

    async def recipient(
        self, client: Client, envelope: Envelope, recipient: Address, here: bool
    ) -> None:
        assert client.account is not None
        if not here:
            name, rates, senders = client.account.name, self.parts.rates, self.parts.senders
            error = None if senders is None else senders.check(name, envelope.departing + 1)
            if error is None and rates is not None:
                slowed = rates.rcpt(self.ip, "", name, 1)
                error = None if slowed is None else slowed.error
            if error is not None:
                self.story_of_refusal(f"mail to {recipient} is deferred: {error}")
                raise error
        await super().recipient(client, envelope, recipient, here)

    def refused(self, client: Client, envelope: Envelope, recipient: Address) -> None:
        super().refused(client, envelope, recipient)
        if client.account is not None and self.parts.senders is not None:
            self.parts.senders.refused(client.account.name)

    def begin(self, client: Client, envelope: Envelope, message_id: str) -> Inspection | None:
        self.told_of = True
        return Submitting(self, client, envelope, message_id)
