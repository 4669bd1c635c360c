"""Logging in, as sessions of every protocol see it: by name and password, or by a SASL exchange.

Promises: every refusal is a `MailError`; a wrong password, an unknown name and a refused account
read the same and take equally long. What nobody foresaw comes out as it is: the session, which
knows the connection, logs it and answers that it is temporary. Nothing is logged here. Who has failed
waits: the answer to each further failure of a client's network, or of an account, comes later, and
what that network tries meanwhile, on other connections, is not judged before. So an address
costs us few hashes, whatever it does, and yields few guesses. Failures from elsewhere never make a
right password wait, nor do those of others at home once it has been right there: nobody can lock a
user out. No error holds a password. All processes of a site know of each failure and success, some
milliseconds later: meanwhile, who tries at several at once has as many tries as there are processes.

It checks nothing itself: the portal's checkers do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Callable
from typing import Final, Protocol

from twisted.cred.credentials import ICredentials, IUsernamePassword, UsernamePassword
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
from .checkers import IScramChecker, IScramCredentials, ScramCredentials
from .realm import NoAccount

__all__ = ["Authenticator", "Delays", "Exchange", "Login"]

_MAX_KEY: Final = 320  # RFC 3696 section 3, as corrected: 64 + 1 + 255
_NONCE_SIZE: Final = 18

_FAILED: Final = "login failed"
"""News: client, account."""
_RIGHT: Final = "login right"
"""News: client, account, and whether that forgives earlier failures (0, 1)."""


class Delays(Protocol):
    """Who has failed lately; `policy.limits.FailureDelays` is one."""

    def failed(self, key: str) -> None: ...
    def succeeded(self, key: str) -> None: ...
    def delay(self, key: str) -> float:
        """Seconds from now."""


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

    `network` names what a client's address is counted as (`policy.limits.client_network`);
    `max_known` bounds the memory of who is at home where.
    """

    def __init__(
        self,
        portal: Portal,
        world: World,
        delays: Delays,
        network: Callable[[str], str] = str,
        *,
        max_known: int = 10_000,
    ) -> None:
        self._portal = portal
        self._world = world
        self._delays = delays
        self._network = network
        self._max_known = max_known
        # Which client networks have logged in to which accounts; False: and failed since.
        self._known: dict[tuple[str, str], bool] = {}
        self._siblings = world.siblings
        self._siblings.hear(_FAILED, self._hear_failed)
        self._siblings.hear(_RIGHT, self._hear_right)

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
        return await self.enter(username, UsernamePassword(name, secret), client_ip)

    async def enter(self, username: str, credentials: ICredentials, client_ip: str) -> Login:
        """Log in with any credentials. Raises MailError 535 5.7.8 or 454 4.7.0."""
        await self.hold_back(username, client_ip)
        try:
            _, avatar, logout = await self._portal.login(credentials, None, IAccount)
        except NoAccount:
            reason = "right password, but no account in the directory"
            raise await self.refuse(username, client_ip, reason) from None
        except LoginFailed:
            raise await self.refuse(username, client_ip, "wrong name or password") from None
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

    async def refuse(self, username: str, client_ip: str, reason: str) -> MailError:
        """Count a failure, wait, and give what to raise; its cause, for the log, names the user."""
        client, account = self._keys(username, client_ip)
        self._note_failed(client, account)
        self._world.counters.login_failures += 1
        self._siblings.tell(_FAILED, (client, account))
        await self._wait(max(self._delays.delay(client), self._delays.delay(account)))
        cause = f"{reason}, as {username[:_MAX_KEY]!r}"
        # RFC 4954 section 6
        return MailError(535, "5.7.8", "Authentication credentials invalid", cause, pop3="AUTH")

    async def hold_back(self, username: str, client_ip: str) -> None:
        """Wait before judging, where the client has failed, unless it got this account right last
        time.
        """
        met = client, _ = self._keys(username, client_ip)
        if not self._known.get(met):
            await self._wait(self._delays.delay(client))

    def welcome(self, username: str, client_ip: str) -> None:
        """Take note of a right password: it clears earlier failures, once.

        Not again for a client and account that have met: else whoever has one account could wipe
        out his failures with others by logging in to his own.
        """
        met = self._keys(username, client_ip)
        known = self._known.get(met)
        self._note_right(met, known is None)
        if not known:
            self._siblings.tell(_RIGHT, (*met, int(known is None)))

    def _note_failed(self, client: str, account: str) -> None:
        self._delays.failed(client)
        self._delays.failed(account)
        met = client, account
        if met in self._known:
            self._known[met] = False

    def _note_right(self, met: tuple[str, str], forgives: bool) -> None:
        if forgives:
            for key in met:
                self._delays.succeeded(key)
        # The last in line for being forgotten
        self._known.pop(met, None)
        if len(self._known) >= self._max_known:
            del self._known[next(iter(self._known))]
        self._known[met] = True

    def _hear_failed(self, news: News) -> None:
        client, account = news
        self._note_failed(str(client), str(account))

    def _hear_right(self, news: News) -> None:
        client, account, forgives = news
        self._note_right((str(client), str(account)), bool(forgives))

    def _keys(self, username: str, client_ip: str) -> tuple[str, str]:
        return f"client {self._network(client_ip)}", f"account {username.casefold()[:_MAX_KEY]}"

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            await deferLater(self._world.reactor, seconds)


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
