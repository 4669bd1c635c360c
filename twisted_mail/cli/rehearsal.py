"""What would happen to a message: the server's own session is led through it, and nothing is sent or changed.

Session, intake, routing, visit, inspection and policies are those of the server, made from the same configuration and
accounts. What they change is not there: a store that keeps nothing, copies in memory of what policies remember
(``reputation.sqlite3``, only read), no filters unless they are wanted. What cannot be known from beside a running
server: what it has in its memory alone, such as the rates of clients, and what it learned in the last seconds.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm
from twisted.internet.defer import maybeDeferred
from zope.interface import implementer

from ..accounts.authenticate import Login
from ..accounts.directory import Directory
from ..accounts.realm import Realm, load_realm
from ..address import Address
from ..config import Config
from ..connection.interfaces import Answer, Then
from ..delivery.intake import MailIntake
from ..delivery.interfaces import Visit
from ..delivery.parts import Parts
from ..delivery.routing import DirectoryRouter, RealmRouter, Way
from ..delivery.telling import NOTHING_CAME, Teller, Telling
from ..delivery.visit import Member, Stranger
from ..factories import intake_settings, smtp_settings
from ..filters.chain import Chain
from ..interfaces import IAccount, ILocalDelivery
from ..policy.decide import decide
from ..policy.helo import check_pointer
from ..policy.organization import load_suffixes
from ..policy.verdicts import Verdicts
from ..receiving import Receiving
from ..resolving import SharedResolver
from ..sending import Sending
from ..smtp.engine import Block, Command, EndOfData
from ..smtp.session import Profile, SmtpSession
from ..status import MailError
from ..storage import account_view
from ..storage.draft import Draft
from ..storage.queued import Change, QueuedMessage
from ..storage.reputation import remembered
from ..storage.store import MailStore
from ..world import World
from .ports import socket_of

__all__ = ["Question", "Rehearsal", "Routed", "Step", "rehearse"]

CONNECTION: Final = "dry run"
_BLOCK: Final = 65_536
_LINE_END: Final = re.compile(rb"\r?\n")


class Question(NamedTuple):
    """Who comes with what. `sender` None: ``<>``; `helo` "": the name that the DNS has for `ip`; `content`: a whole
    message, with any line ends, None: there is none yet; `user`: who has logged in, "" for nobody.
    """

    sender: Address | None
    recipients: tuple[Address, ...]
    ip: str
    helo: str = ""
    content: bytes | None = None
    user: str = ""
    filters: bool = False


class Step(NamedTuple):
    """What the client would say, and hear."""

    said: str
    reply: str

    @property
    def code(self) -> int:
        """The reply's."""
        return int(self.reply[:3])


class Routed(NamedTuple):
    """Where mail for `address` leads: `way` and the hops of its addresses elsewhere, or `error`."""

    address: Address
    way: Way | None
    hops: tuple[str, ...] = ()
    error: MailError | None = None


class Rehearsal(NamedTuple):
    """`outcome`: accepted, junk, discarded, refused, deferred, or ``""`` when it depends on the message, which is not
    there. `lines`: the story (seconds, what happened). `sent`: whether the queue would get something, `held`: and keep
    it.
    """

    helo: str
    steps: tuple[Step, ...]
    routes: tuple[Routed, ...]
    lines: tuple[tuple[float, str], ...]
    outcome: str
    sent: bool = False
    held: bool = False


async def rehearse(
    world: World, config: Config, directory: Directory, question: Question
) -> Rehearsal:
    """Raises ValueError, OSError or MailError for what cannot be had, such as a user who is not there."""
    resolver = SharedResolver(config.dns, world)
    try:
        return await _Stage(world, config, directory, resolver).play(question)
    finally:
        resolver.close()


class _Stage:
    """The server's rooms, joined as `service` does it."""

    def __init__(
        self, world: World, config: Config, directory: Directory, resolver: SharedResolver
    ) -> None:
        self._world = world
        self._config = config
        self._directory = directory
        self._resolver = resolver
        self._store = _Unkept(world, config, directory)
        self._sending = Sending(config, world, directory, _addresses(config), resolver)
        self._told = _Told(world)
        self._realm: IRealm | None = load_realm(config.auth.realm) if config.auth.realm else None

    async def play(self, question: Question) -> Rehearsal:
        parts = await self._parts(question)
        guard = _Guard(parts)
        helo = question.helo or await self._name_of(question)
        session = await self._session(question, guard)
        steps = [step async for step in _conversation(session, question, helo)]
        routes = [await self._routed(one, bool(question.user)) for one in question.recipients]
        taken = any(one.code == 250 and one.said.startswith("RCPT") for one in steps)
        if (question.content is None or not taken) and isinstance(guard.made, Stranger):
            await _say_what_is_known(guard.made, taken)
        session.lost()
        facts, lines = self._told.first()
        outcome = str(facts.get("outcome", ""))
        if outcome in ("", "left"):
            refused = [one.code for one in steps if one.code >= 400]
            outcome = "" if taken or not refused else "deferred" if refused[-1] < 500 else "refused"
        elif taken and question.content is None:
            outcome = ""
        queue = self._store.queue_entry
        return Rehearsal(
            helo,
            tuple(steps),
            tuple(routes),
            tuple(line for line in lines if line[1] != NOTHING_CAME),
            outcome,
            queue is not None,
            queue is not None and bool(queue.held),
        )

    async def _parts(self, question: Question) -> Parts:
        """The policies, knowing what is known; what they learn is forgotten."""
        config, world = self._config, self._world
        receiving = Receiving(
            config,
            world,
            self._resolver,
            draft=self._store.draft,
            hosts=self._sending.hosts,
            secret=self._directory.secret,
        )
        parts = receiving.parts
        if config.checks.dmarc_discovery == "psl":
            await world.threads.call(load_suffixes)
        path = str(config.data / "reputation.sqlite3")
        rows = await world.threads.call(remembered, path, world.now())
        for source in (parts.rates, parts.senders, parts.greylist):
            if source is not None:
                source.load(rows)
        nobody = Chain(world.reactor, ())
        return replace(
            parts,
            teller=self._told,
            # Nobody waits to see whether we speak too early
            checks=None if parts.checks is None else parts.checks._replace(greet_delay=0.0),
            incoming=parts.incoming if question.filters else nobody,
            submitted=parts.submitted if question.filters else nobody,
        )

    async def _name_of(self, question: Question) -> str:
        if question.user:
            return "localhost"
        pointer = await check_pointer(self._resolver(), self._world.reactor, question.ip)
        if pointer.result == "pass":
            return pointer.name
        return f"[IPv6:{question.ip}]" if ":" in question.ip else f"[{question.ip}]"

    async def _session(self, question: Question, guard: _Guard) -> SmtpSession:
        config, sending = self._config, self._sending
        realm = None if self._realm is None else ILocalDelivery(self._realm, None)
        intake = MailIntake(
            self._world,
            intake_settings(config, sending.literals),
            self._store,
            self._directory,
            None if realm is None else _Unheard(realm),
            routes=sending.routes,
            srs=sending.srs,
            guard=guard,
        )
        login = _Vouched(await self._account(question.user)) if question.user else None
        session = SmtpSession(
            Profile.SUBMISSIONS if question.user else Profile.SMTP,
            smtp_settings(config),
            intake,
            login,
            client_ip=question.ip,
            connection=CONNECTION,
            starttls=False,
        )
        if question.user:
            session.tls_started("TLS")  # nobody logs in without
        return session

    async def _account(self, name: str) -> IAccount:
        realm: Any = self._realm or Realm(self._directory, self._store.open_inbox)
        try:
            _, avatar, logout = await maybeDeferred(
                realm.requestAvatar, name.encode(), None, IAccount
            )
        except UnauthorizedLogin:
            raise ValueError(f"there is no user {name} who may log in") from None
        logout()
        return IAccount(avatar)

    async def _routed(self, address: Address, trusted: bool) -> Routed:
        sending = self._sending
        to = (self._directory, sending.routes, sending.srs, sending.literals)
        realm = None if self._realm is None else ILocalDelivery(self._realm, None)
        try:
            if realm is None:
                way = DirectoryRouter(*to).way(address, trusted)
            else:
                way = await RealmRouter(realm, *to).way(address, trusted)
        except MailError as error:
            return Routed(address, None, (), error)
        return Routed(address, way, tuple(sending.routes.hop_of(one) for one in way.remote))


def _addresses(config: Config) -> list[tuple[str, str]]:
    """Where the server listens for other servers, as `Listeners.addresses` has it."""
    found = []
    for interface, port in filter(None, map(socket_of, config.listen.smtp)):
        host = interface or "0.0.0.0"
        found.append(("smtp", f"[{host}]:{port}" if ":" in host else f"{host}:{port}"))
    return found


async def _conversation(session: SmtpSession, question: Question, helo: str) -> AsyncIterator[Step]:
    """Lead `session` through it, as far as it lets us; gives the steps."""
    if hasattr(session, "greet"):
        answer = await session.greet(lambda: False)
        yield _step("(connects)", answer)
        if answer.then is Then.CLOSE:
            return
    commands = [("EHLO", helo)]
    if question.user:
        commands.append(("AUTH", "PLAIN ="))
    content = None if question.content is None else _on_the_wire(question.content)
    options = f" SIZE={len(content)}" if content is not None else ""
    every = [str(one) for one in (question.sender or "", *question.recipients)]
    if not all(one.isascii() for one in every):
        options += " SMTPUTF8"
    commands.append(("MAIL", f"FROM:<{question.sender or ''}>{options}"))
    commands += [("RCPT", f"TO:<{one}>") for one in question.recipients]
    taken = False
    for verb, argument in commands:
        answer = await session.handle(Command(verb, argument.encode()))
        step = _step(f"{verb} {argument}", answer)
        if verb != "AUTH" or step.code >= 400:
            yield step
        if answer.then is Then.CLOSE or (verb != "RCPT" and step.code >= 400):
            return
        taken = taken or (verb == "RCPT" and step.code == 250)
    if content is None or not taken:
        return
    answer = await session.handle(Command("DATA", b""))
    if not answer.data.startswith(b"354"):
        yield _step("DATA", answer)
        return
    for at in range(0, len(content), _BLOCK):
        await session.handle(Block(content[at : at + _BLOCK]))
    yield _step("(the message)", await session.handle(EndOfData()))


def _on_the_wire(content: bytes) -> bytes:
    content = _LINE_END.sub(b"\r\n", content)
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def _step(said: str, answer: Answer) -> Step:
    lines = answer.data.decode("utf-8", "replace").splitlines() or ["250"]
    # The last line of several says it
    return Step(said, lines[0] if said.startswith("EHLO") else lines[-1])


async def _say_what_is_known(stranger: Stranger, taken: bool) -> None:
    """The verdicts that there are without a message. `taken`: a recipient was, so they may decide."""
    checks = stranger.checks
    if checks is None:
        return
    helo, mail = await stranger.spf()
    known = await stranger.client_scores()
    scores = known + await stranger.sender_scores()
    shown = checks.spf
    verdicts = Verdicts(helo if shown else None, mail if shown else None)
    *heard, won = decide(verdicts, scores, checks.decision).story
    told = {f"{one.points:+g}: {one.reason}" for one in known}
    for line in heard:
        if line not in told:
            stranger.say(line)
    if taken:
        stranger.say(f"so far, without the message: {won}")


class _Guard:
    """`delivery.interfaces.Guard` that remembers whom it met."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.made: Member | Stranger | None = None

    def visit(self, ip: str, connection: str, *, submission: bool) -> Visit:
        kind = Member if submission else Stranger
        self.made = kind(self._parts, ip, connection)
        return self.made


class _Told(Teller):
    """Takes the stories, in memory."""

    def __init__(self, world: World) -> None:
        super().__init__(None, world.now)
        self._taken: list[tuple[dict[str, Any], list[tuple[float, str]]]] = []

    def end(
        self,
        telling: Telling,
        *,
        connection: str,
        facts: dict[str, Any],
        id_: str = "",
        message: str = "",
    ) -> None:
        self._taken.append((facts, telling.whole()))

    def first(self) -> tuple[dict[str, Any], list[tuple[float, str]]]:
        """The one of the message, or of as far as it came."""
        return self._taken[0] if self._taken else ({}, [])


class _Unkept(MailStore):
    """The site's store, never opened: it says what that would, and keeps nothing."""

    def __init__(self, world: World, config: Config, directory: Directory) -> None:
        super().__init__(
            world, str(config.data), host=config.hostname, boot="", limits=directory.quota
        )
        self._home = config.data / "mail"
        self.queue_entry: QueuedMessage | None = None

    def draft(self, keep: int = 0) -> Draft:
        # All in memory, where the file was read into.
        return Draft(self._world, "", 1 << 40)

    async def accept(
        self,
        draft: Draft,
        accounts: Sequence[str],
        *,
        ascii_size: int | None,
        envelope: dict[str, Any],
        queue: QueuedMessage | None = None,
        changes: Sequence[Change] = (),
        unlimited: Collection[str] = (),
        junk: bool = False,
    ) -> None:
        size = draft.size
        draft.discard()
        # See `storage.quota`: with several mailboxes, RCPT has asked
        if len(set(accounts)) == 1 and accounts[0] not in unlimited:
            await self.check_quota(accounts, size)
        self.queue_entry = queue

    async def usage(self, key: str) -> tuple[int, int]:
        home = str(self._home / key)
        return await self._world.threads.call(account_view.usage, self._world.disk, home) or (0, 0)


@implementer(ILocalDelivery)
class _Unheard:
    """A realm that knows whom it knows, and gets nothing."""

    def __init__(self, realm: ILocalDelivery) -> None:
        self.knows = realm.knows

    async def deliver(
        self, sender: Address | None, recipients: Sequence[Address], message: bytes
    ) -> None:
        return


class _Vouched:
    """`smtp.authentication.Authenticator`, and its exchange, for somebody whose password nobody asks for."""

    def __init__(self, account: IAccount) -> None:
        self._account = account

    def mechanisms(self) -> Sequence[str]:
        return ["PLAIN"]

    def exchange(self, mechanism: str, client_ip: str) -> _Vouched:
        return self

    async def step(self, response: bytes | None) -> Login:
        return Login(self._account, lambda: None)
