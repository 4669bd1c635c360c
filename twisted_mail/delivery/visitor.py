"""What every visit has, whoever comes: filters that follow the conversation, questions that wait, and its story.

The story of a message begins at MAIL. It is the inspection's when the message comes (`take_story`); one that was
refused before that is told by itself, at the next MAIL or when the connection ends.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from ..address import Address
from ..filters import interfaces as filters
from ..filters.chain import Chain, ChainSession, Told
from ..status import MailError
from .inspecting import login_of, refusal, tls_of, told_line
from .interfaces import Client, Envelope, Inspection
from .parts import Parts
from .question import Question
from .telling import NAMED, NOTHING_CAME, Telling

__all__ = ["Visitor"]

T = TypeVar("T")
REFUSED: Final = 20
"""Stories of mail that was refused before it came, of one connection; further ones are not told."""
EAGER: Final = 10
"""HELO and MAIL, since the last message that came, after which nothing more is asked before somebody waits for it."""


class Visitor:
    """What both have: filters that follow the conversation, rates, a story."""

    waits = False

    def __init__(self, parts: Parts, ip: str, connection: str, chain: Chain) -> None:
        self.parts = parts
        self.ip = ip
        self.connection = connection
        self.telling = parts.teller.begin()
        """About the connection; what is about one message is told by `say`."""
        self.quiet = False
        """It has no story of its own when nothing comes of it."""
        self._message: Telling | None = None
        self._mail: tuple[Client, Envelope] | None = None
        """What is not told yet."""
        self._refused: list[str] = []
        self._refusals = 0
        self._outcome = "left"
        self._helo = ""
        self._chain = chain
        self._session: ChainSession | None = None
        self._greeted_filters: tuple[str, str | None] | None = None
        self._asking: list[Question[Any]] = []
        self._in_vain = 0

    # delivery.interfaces.Visit

    async def greet(self, early: Callable[[], bool]) -> None:
        return

    def helo(self, name: str) -> None:
        self._helo = name
        self._in_vain += 1
        if self._in_vain <= EAGER:
            self.telling.say(f"it calls itself {name}")

    async def sender(self, client: Client, envelope: Envelope) -> None:
        self.begin_story(client, envelope)
        try:
            await self._may_send(client, envelope)
            if self._chain:
                await self._filters_hear_sender(client, envelope)
        except MailError as error:
            self.answered(error)
            raise

    async def recipient(
        self, client: Client, envelope: Envelope, recipient: Address, here: bool
    ) -> None:
        try:
            await self._may_name(client, envelope, recipient, here)
            if self._session is not None:
                await self._ask(self._session.rcpt(filters.Recipient(recipient)))
        except MailError as error:
            self._turned_down(recipient, error)
            raise
        if len(envelope.recipients) < NAMED:
            self.say(f"mail to {recipient}: can be taken, {'here' if here else 'to be passed on'}")

    def refused(
        self, client: Client, envelope: Envelope, recipient: Address, error: MailError
    ) -> None:
        self._turned_down(recipient, error)

    def begin(self, client: Client, envelope: Envelope, message_id: str) -> Inspection | None:
        raise NotImplementedError

    def end(self) -> None:
        asking, self._asking = self._asking, []
        for one in asking:
            one.cancel()
        if self._session is not None:
            self._session.close()
        self._end_story()
        if not self.quiet:
            self.telling.say("the connection ends")
            self.parts.teller.end(
                self.telling, connection=self.connection, facts={"ip": self.ip, "helo": self._helo}
            )

    # For those below, and for inspections

    @property
    def session(self) -> ChainSession | None:
        """The filters' session, once MAIL was said."""
        return self._session

    @property
    def asking(self) -> int:
        """Questions that are not answered yet."""
        return sum(one.pending for one in self._asking)

    def begin_asking(
        self, ask: Callable[[], Coroutine[Any, Any, T]], instead: Question[Any] | None = None
    ) -> Question[T]:
        """Ask now; the answer is awaited later, or never. Nobody wants that of `instead` any more.

        Of a client that says much and sends nothing, it is asked when somebody waits.
        """
        if instead is not None:
            self._asking.remove(instead)
            instead.cancel()
        question = Question(ask)
        self._asking.append(question)
        if self._in_vain <= EAGER:
            question.begin()
        return question

    def say(self, text: str) -> None:
        """Tell something about the message that is to come."""
        (self._message or self.telling).say(text)

    def begin_story(self, client: Client, envelope: Envelope) -> None:
        """Another message; what was told since the one before is a story, too, if that did not come."""
        self._end_story()
        self._in_vain += 1
        self._message = self.telling.next()
        self._mail = (client, envelope)
        login = "" if client.account is None else f", by {client.account.name}"
        over = f"over {client.tls}" if client.tls else "without TLS"
        self.say(f"mail from <{envelope.reverse_path or ''}>{login}, {over}")

    def take_story(self) -> Telling:
        """What was told of the message that comes now: it is the inspection's to end."""
        telling, self._message, self._mail = self._message or self.telling.next(), None, None
        self.quiet = True
        self._in_vain = 0
        return telling

    def facts(self, client: Client, envelope: Envelope) -> dict[str, Any]:
        """What a story is found and headed by."""
        found: dict[str, Any] = {
            "ip": client.ip,
            "helo": client.helo,
            "tls": client.tls or "",
            "account": "" if client.account is None else client.account.name,
            "sender": str(envelope.reverse_path or ""),
            "recipients": [str(one.address) for one in envelope.recipients[:NAMED]],
        }
        if self._refused:
            found["refused"] = list(self._refused)
        return found

    def _end_story(self) -> None:
        mail, self._mail = self._mail, None
        telling, self._message = self._message, None
        if mail is not None and telling is not None:
            self.quiet = True
            self._refusals += 1
            if self._refusals <= REFUSED:
                telling.say(NOTHING_CAME)
                facts = {**self.facts(*mail), "outcome": self._outcome}
                self.parts.teller.end(telling, connection=self.connection, facts=facts)
        self._refused, self._outcome = [], "left"

    def answered(self, error: MailError) -> None:
        """MAIL was refused."""
        self._outcome = "deferred" if error.temporary else "refused"
        self.say(f"answered: {error}")

    def _turned_down(self, recipient: Address, error: MailError) -> None:
        self._outcome = "deferred" if error.temporary else "refused"
        if len(self._refused) < NAMED:
            self._refused.append(str(recipient))
            how = "deferred" if error.temporary else "refused"
            self.say(f"mail to {recipient}: {how}, {error}")

    async def _may_send(self, client: Client, envelope: Envelope) -> None:
        """Raises MailError."""

    async def _may_name(
        self, client: Client, envelope: Envelope, recipient: Address, here: bool
    ) -> None:
        """Raises MailError."""

    def tell_filters(self, told: tuple[Told, ...]) -> None:
        for one in told:
            self.say(told_line(one))

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
        login = login_of(client)
        size = () if envelope.size is None else (f"SIZE={envelope.size}",)
        await self._ask(self._session.mail(filters.Sender(envelope.reverse_path, size), login))

    async def _ask(self, asking: Coroutine[Any, Any, filters.Opinion]) -> None:
        assert self._session is not None
        opinion = await asking
        told = self._session.take_told()
        self.tell_filters(told)
        if opinion.action in (filters.Action.REJECT, filters.Action.TEMPFAIL):
            raise refusal(opinion, told)
