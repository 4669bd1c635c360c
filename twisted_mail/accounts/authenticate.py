"""Logging in, as sessions of every protocol see it: by name and password, or by a SASL exchange.

Promises: every refusal is a `MailError`; a wrong password, an unknown name and a refused account
read the same and take equally long. What nobody foresaw comes out as it is: the session, which
knows the connection, logs it and answers that it is temporary. Nothing is logged here. Who has failed
waits: the answer to each further failure of a client's address, or of an account, comes later, and
what that address tries meanwhile, on other connections, is judged one by one, or not at all. So an address
costs us few hashes, whatever it does, and yields few guesses; so do a network of many addresses, and all strangers
together who try one account.

Those are not strangers who have been right from that network within a month: whoever fails there or elsewhere, their
password is judged at once, before those of others; what fails at home counts for that account there, not for the
others behind the same address. A wrong password counts once, however often a telephone repeats it. So nobody can lock
a user out of where he is at home. No error holds a password. All processes of a site know of each failure and success,
some milliseconds later: meanwhile, who tries at several at once has as many tries as there are processes.

It checks nothing itself: the portal's checkers do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Callable
from math import isinf
from typing import Final, NamedTuple, Protocol

from twisted.cred.credentials import ICredentials, IUsernamePassword
from twisted.cred.error import LoginFailed
from twisted.cred.portal import Portal
from twisted.internet.task import deferLater

from ..interfaces import IAccount
from ..sasl import (
    ForeignIdentity,
    SaslError,
    ScramChallenge,
    ScramFirst,
    ScramKeys,
    ScramProof,
    login_text,
    plain,
)
from ..siblings import News
from ..status import MailError
from ..world import World
from .checkers import IScramChecker, IScramCredentials, Password, ScramCredentials
from .familiar import Familiar, Mistakes
from .realm import NoAccount

__all__ = ["RIGHT", "Authenticator", "Delays", "Exchange", "Login"]

_MAX_KEY: Final = 320  # RFC 3696 section 3, as corrected: 64 + 1 + 255
_NONCE_SIZE: Final = 18

_FAILED: Final = "login failed"
"""News: account, a hash of the password ("": none), and what the failure counts for."""
RIGHT: Final = "login right"
"""News: client, account, home, and whether that forgives earlier failures (0, 1)."""

# How many failures are overlooked: those of users who mistype, in all.
FREE_AT_HOME: Final = 10
FREE_OF_NETWORK: Final = 30
FREE_OF_ACCOUNT: Final = 20
REFUSED_SECONDS: Final = 5.0
"""What is not judged at all is refused no sooner."""


class Delays(Protocol):
    """Who has failed lately; `policy.limits.FailureDelays` is one."""

    def failed(self, key: str) -> None: ...
    def succeeded(self, key: str) -> None: ...
    def delay(self, key: str) -> float:
        """Seconds from now."""

    def turn(self, key: str, free: int = 0) -> float:
        """Seconds until one more may be judged, which takes that turn; `inf`: not at all."""

    @property
    def least(self) -> float:
        """Seconds after a first failure."""


class _Met(NamedTuple):
    """Who tries what, as it is counted."""

    client: str
    network: str
    account: str
    home: str


class Login:
    """Somebody is in. `logout` is to be called once, when the session ends."""

    def __init__(self, account: IAccount, logout: Callable[[], None]) -> None:
        self.account = account
        self.logout = logout


class Exchange(Protocol):
    """One SASL exchange."""

    async def step(self, response: bytes | None) -> bytes | Login:
        """Take the client's next message, without base64; None at the start when it sent none.

        Gives the next challenge, without base64, or the login. Raises MailError; after a login or
        an error the exchange is over. To cancel, drop it.
        """


class Authenticator:
    """The portal, as sessions see it.

    `network` names what a client's address is counted as (`policy.limits.client_network`), `wider` the network of many
    such, `home` where somebody is at home with it; `account` what a name is counted as: one thing for all spellings
    that log in the same user, or a guesser has as many tries as there are spellings. `familiar`, which may be kept,
    remembers who is; `key` is of the site, for wrong passwords.
    """

    def __init__(
        self,
        portal: Portal,
        world: World,
        delays: Delays,
        network: Callable[[str], str] = str,
        *,
        wider: Callable[[str], str] | None = None,
        home: Callable[[str], str] | None = None,
        account: Callable[[str], str] = str.casefold,
        familiar: Familiar | None = None,
        key: bytes = b"",
    ) -> None:
        self._portal = portal
        self._world = world
        self._delays = delays
        self._network = network
        self._wider = wider or network
        self._home = home or network
        self._account = account
        self._familiar = Familiar(world.now) if familiar is None else familiar
        self._mistakes = Mistakes(key or world.entropy(32))
        self._siblings = world.siblings
        self._siblings.hear(_FAILED, self._hear_failed)
        self._siblings.hear(RIGHT, self._hear_right)

    def mechanisms(self) -> tuple[str, ...]:
        """The SASL mechanisms that the portal has checkers for."""
        offered: list[str] = []
        if IScramCredentials in self._portal.checkers:
            offered.append("SCRAM-SHA-256")
        if IUsernamePassword in self._portal.checkers:
            offered += ["PLAIN", "LOGIN"]
        return tuple(offered)

    def exchange(self, mechanism: str, client_ip: str) -> Exchange:
        """Begin a SASL exchange. MailError 504 5.5.4 for what `mechanisms` does not have."""
        name = mechanism.upper()
        if name not in self.mechanisms():
            # RFC 4954 section 4
            raise MailError(504, "5.5.4", "Unrecognized authentication type", pop3="AUTH")
        return _EXCHANGES[name](self, client_ip)

    async def login(self, username: str, password: str, client_ip: str) -> Login:
        """Log in with a password. Raises MailError 535 5.7.8 or 454 4.7.0."""
        # a str from anywhere shall not make it raise
        name, secret = (text.encode(errors="surrogatepass") for text in (username, password))
        first = self._meet(username, client_ip).home in self._familiar
        return await self.enter(username, Password(name, secret, first), client_ip)

    async def enter(self, username: str, credentials: ICredentials, client_ip: str) -> Login:
        """Log in with any credentials. Raises MailError 535 5.7.8 or 454 4.7.0."""
        await self.hold_back(username, client_ip)
        met = self._meet(username, client_ip)
        password = credentials.password if isinstance(credentials, Password) else None
        try:
            _, avatar, logout = await self._portal.login(credentials, None, IAccount)
        except NoAccount:
            reason = "right password, but no account in the directory"
            raise await self.refuse(username, client_ip, reason) from None
        except MailError as error:
            # Too many are judged just now. Who is told at once tries again at once.
            await self._wait(0.0 if met.home in self._familiar else REFUSED_SECONDS)
            raise error from None
        except LoginFailed:
            reason = "wrong name or password"
            raise await self.refuse(username, client_ip, reason, password) from None
        try:
            account = IAccount(avatar)
        except TypeError:
            logout()
            raise
        self.welcome(username, client_ip)
        self._world.counters.logins += 1
        return Login(account, logout)

    async def scram_keys(self, username: str) -> ScramKeys:
        """What the portal's SCRAM checker knows of a name."""
        checker = self._portal.checkers[IScramCredentials]
        return await IScramChecker(checker).scram_keys(username)

    def nonce(self) -> str:
        """Never given before."""
        return b64encode(self._world.entropy(_NONCE_SIZE)).decode()

    async def refuse(
        self, username: str, client_ip: str, reason: str, password: bytes | None = None
    ) -> MailError:
        """Count a failure, wait, and give what to raise; its cause, for the log, names the user. `password`: the wrong
        one, if it was said."""
        met = self._meet(username, client_ip)
        self._world.counters.login_failures += 1
        digest = "" if password is None else self._mistakes.digest(met.account, password)
        # Whose failures they are: a user's at home are nobody else's there.
        counted = met[3:] if met.home in self._familiar else met[:3]
        if not (digest and self._mistakes.again(met.account, digest)):
            self._note_failed(counted)
            self._siblings.tell(_FAILED, (met.account, digest, *counted))
        own = (met.home,) if len(counted) == 1 else (met.client, met.account)
        await self._wait(max(self._delays.least, *map(self._delays.delay, own)))
        cause = f"{reason}, as {_shown(username)}"
        # RFC 4954 section 6
        return MailError(535, "5.7.8", "Authentication credentials invalid", cause, pop3="AUTH")

    async def hold_back(self, username: str, client_ip: str) -> None:
        """Wait before judging, where there were failures. Raises MailError 454 4.7.0 where too many wait already."""
        met, turn = self._meet(username, client_ip), self._delays.turn
        if met.home in self._familiar:
            seconds = turn(met.home, FREE_AT_HOME)
        else:
            seconds = max(
                turn(met.client),
                turn(met.network, FREE_OF_NETWORK),
                turn(met.account, FREE_OF_ACCOUNT),
            )
        if not isinf(seconds):
            await self._wait(seconds)
            return
        await self._wait(REFUSED_SECONDS)
        # RFC 4954 section 6. It says nothing about the account: names that nobody has are counted as others are.
        raise MailError(
            454,
            "4.7.0",
            "Too many failed logins, try again later",
            f"not judged, as {_shown(username)}",
        )

    def welcome(self, username: str, client_ip: str) -> None:
        """Take note of a right password: it clears earlier failures, once.

        Not again for a network and account that have met: else whoever has one account could wipe
        out his failures with others by logging in to his own.
        """
        met = self._meet(username, client_ip)
        known = met.home in self._familiar
        if self._note_right(met.client, met.account, met.home, not known):
            self._siblings.tell(RIGHT, (met.client, met.account, met.home, int(not known)))

    def is_familiar(self, client_ip: str) -> bool:
        """Whether somebody has logged in from the network of this address lately."""
        return self._familiar.has_network(self._home(client_ip))

    def forgive(self, name: str) -> None:
        """Begin anew with an account, or an address and its network."""
        account, client = (
            f"account {self._account(name)[:_MAX_KEY]}",
            f"client {self._network(name)}",
        )
        for key in (account, client, f"network {self._wider(name)}"):
            self._delays.succeeded(key)
        self._mistakes.forget(account)

    def _note_failed(self, counted: tuple[str, ...]) -> None:
        for key in counted:
            self._delays.failed(key)

    def _note_right(self, client: str, account: str, home: str, forgives: bool) -> bool:
        if forgives:
            self._delays.succeeded(client)
            self._delays.succeeded(account)
        return self._familiar.add(home)

    def _hear_failed(self, news: News) -> None:
        account, digest, *counted = map(str, news)
        if digest:
            self._mistakes.again(account, digest)
        self._note_failed(tuple(counted))

    def _hear_right(self, news: News) -> None:
        client, account, home, forgives = news
        self._note_right(str(client), str(account), str(home), bool(forgives))

    def _meet(self, username: str, client_ip: str) -> _Met:
        name = self._account(username)[:_MAX_KEY]
        return _Met(
            f"client {self._network(client_ip)}",
            f"network {self._wider(client_ip)}",
            f"account {name}",
            f"{self._home(client_ip)} {name}",
        )

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            await deferLater(self._world.reactor, seconds)


def _shown(username: str) -> str:
    """For the log. What is no address may be a password, typed a line too early."""
    if "@" in username[1:]:
        return repr(username[:_MAX_KEY])
    return f"a name without a domain, of {len(username)} characters"


class _Exchange(ABC):
    """What all mechanisms share: errors become replies."""

    def __init__(self, authenticator: Authenticator, client_ip: str) -> None:
        self._authenticator = authenticator
        self._client_ip = client_ip

    async def step(self, response: bytes | None) -> bytes | Login:
        try:
            return await self._advance(response)
        except ForeignIdentity as error:
            raise await self._authenticator.refuse("", self._client_ip, str(error)) from None
        except SaslError as error:
            # RFC 4954 section 4
            raise MailError(
                501, "5.5.2", "Malformed authentication response", error, pop3="AUTH"
            ) from None

    @abstractmethod
    async def _advance(self, response: bytes | None) -> bytes | Login:
        """`Exchange.step`, raising SaslError too."""


class _Plain(_Exchange):
    async def _advance(self, response: bytes | None) -> bytes | Login:
        if response is None:
            return b""
        claim = plain(response)
        return await self._authenticator.login(claim.username, claim.password, self._client_ip)


class _Login(_Exchange):
    _username: str | None = None

    async def _advance(self, response: bytes | None) -> bytes | Login:
        if response is None:
            return b"Username:"
        text = login_text(response)
        if self._username is None:
            self._username = text
            return b"Password:"
        return await self._authenticator.login(self._username, text, self._client_ip)


class _Scram(_Exchange):
    _keys: ScramKeys
    _challenge: ScramChallenge | None = None
    _proof: ScramProof | None = None

    async def _advance(self, response: bytes | None) -> bytes | Login:
        authenticator = self._authenticator
        if response is None:
            return b""
        if self._challenge is None:
            first = ScramFirst.parse(response)
            self._keys = await authenticator.scram_keys(first.username)
            self._challenge = first.challenge(self._keys, authenticator.nonce())
            return self._challenge.data
        if self._proof is None:
            proof = self._challenge.proof(response)
            await authenticator.hold_back(proof.username, self._client_ip)
            if not proof.matches(self._keys):
                raise await authenticator.refuse(proof.username, self._client_ip, "wrong proof")
            authenticator.welcome(proof.username, self._client_ip)
            self._proof = proof
            return proof.server_final(self._keys)
        # RFC 5802 section 3: the client has checked us too, and says nothing more
        if response:
            raise SaslError("SCRAM is over")
        credentials = ScramCredentials(self._proof)
        return await authenticator.enter(self._proof.username, credentials, self._client_ip)


_EXCHANGES: Final[dict[str, type[_Exchange]]] = {
    "PLAIN": _Plain,
    "LOGIN": _Login,
    "SCRAM-SHA-256": _Scram,
}
